// Messages of gRPC out of the chunks of an HTTP/2 stream. Each byte is copied once, into the message it belongs to.
import { YoungMemory } from '../engine/memory/young-memory.js'
import { RpcError, status } from './rpc-status.js'

/** One byte of flags, four of length, big endian. */
export const messagePrefixByteLength = 5
/** A message's first buffer: its length is only a claim until its bytes are there. */
const firstByteLengthMax = 8 * 1024 * 1024

const sharedByteLengthMax = 2048
/** Of all clients of the process; made with the first message that has memory of its own. */
let young: YoungMemory | null = null
/** Small messages that have come together are copied together, so much at most: who keeps one of them keeps all. */
const pieceByteLengthMax = 32 * 1024

/** Writes the prefix of a message that is not compressed. */
export function writePrefix(target: Buffer, byteLength: number): void {
  target[0] = 0
  target.writeUInt32BE(byteLength, 1)
}

export class MessageReader {
  readonly #byteLengthMax: number
  readonly #take: (message: Buffer) => void
  /** Of a prefix that comes in parts. */
  #prefix: Buffer | null = null
  #prefixByteLength = 0
  #message: Buffer | null = null
  #filledByteLength = 0
  #byteLength = 0

  /** `take` gets each message in memory that nobody else writes. */
  constructor(byteLengthMax: number, take: (message: Buffer) => void) {
    this.#byteLengthMax = byteLengthMax
    this.#take = take
  }

  /** A part of a message has come, and its rest has not. */
  get isInside(): boolean {
    return this.#prefixByteLength > 0
  }

  /** Throws RpcError for a message that is too long or compressed. The chunk may be reused after the call. */
  write(chunk: Buffer): void {
    let at = 0
    while (at < chunk.byteLength) {
      if (this.#message === null) {
        if (this.#prefixByteLength === 0) at = this.#takeSmall(chunk, at)
        if (at === chunk.byteLength) return
        at = this.#readPrefix(chunk, at)
        if (this.#prefixByteLength < messagePrefixByteLength) return
        // Small ones share a piece of memory: as many pieces of their own keep the collection of garbage busy.
        this.#message =
          this.#byteLength <= sharedByteLengthMax
            ? Buffer.allocUnsafe(this.#byteLength)
            : Buffer.allocUnsafeSlow(Math.min(this.#byteLength, firstByteLengthMax))
        this.#filledByteLength = 0
      }
      at = this.#fill(chunk, at)
      if (this.#filledByteLength === this.#byteLength) this.#finish()
    }
  }

  /** Takes whole messages from `start` on that are small, where there are several. Returns where the next one begins. */
  #takeSmall(chunk: Buffer, start: number): number {
    let at = start
    while (at < chunk.byteLength) {
      let end = at
      let count = 0
      for (;;) {
        const next = this.#endOfMessage(chunk, end)
        if (next < 0 || next - at > pieceByteLengthMax) break
        end = next
        count++
      }
      if (count < 2) break
      const piece = Buffer.allocUnsafeSlow(end - at)
      chunk.copy(piece, 0, at, end)
      for (let from = 0; from < piece.byteLength; ) {
        const to = this.#endOfMessage(piece, from)
        this.#take(piece.subarray(from + messagePrefixByteLength, to))
        from = to
      }
      at = end
    }
    return at
  }

  /** Where the message ends that begins at `start`; -1 where its end has not come, or it is refused. */
  #endOfMessage(chunk: Buffer, start: number): number {
    const from = start + messagePrefixByteLength
    if (from > chunk.byteLength || chunk[start] !== 0) return -1
    const byteLength =
      chunk[start + 1] * 0x1000000 + ((chunk[start + 2] << 16) | (chunk[start + 3] << 8) | chunk[start + 4])
    return byteLength > this.#byteLengthMax || from + byteLength > chunk.byteLength ? -1 : from + byteLength
  }

  #readPrefix(chunk: Buffer, start: number): number {
    const end = Math.min(chunk.byteLength, start + messagePrefixByteLength - this.#prefixByteLength)
    const isWhole = end - start === messagePrefixByteLength
    if (isWhole) this.#prefixByteLength = messagePrefixByteLength
    else {
      this.#prefix ??= Buffer.allocUnsafe(messagePrefixByteLength)
      for (let at = start; at < end; at++) this.#prefix[this.#prefixByteLength++] = chunk[at]
    }
    if (this.#prefixByteLength < messagePrefixByteLength) return end
    const prefix = isWhole ? chunk : this.#prefix!
    const at = isWhole ? start : 0
    if (prefix[at] !== 0) throw new RpcError(status.INTERNAL, 'the server sent a compressed message')
    const byteLength = prefix.readUInt32BE(at + 1)
    if (byteLength > this.#byteLengthMax) {
      const sizes = `${byteLength} bytes is above the limit of ${this.#byteLengthMax}`
      throw new RpcError(status.RESOURCE_EXHAUSTED, `the server sent a message that is too large: ${sizes}`)
    }
    this.#byteLength = byteLength
    return end
  }

  #fill(chunk: Buffer, start: number): number {
    const end = Math.min(chunk.byteLength, start + this.#byteLength - this.#filledByteLength)
    const needed = this.#filledByteLength + end - start
    if (needed > this.#message!.byteLength) this.#grow(needed)
    chunk.copy(this.#message!, this.#filledByteLength, start, end)
    this.#filledByteLength = needed
    return end
  }

  #grow(needed: number): void {
    const old = this.#message!
    this.#message = Buffer.allocUnsafeSlow(Math.min(this.#byteLength, Math.max(needed, 2 * old.byteLength)))
    old.copy(this.#message, 0, 0, this.#filledByteLength)
  }

  #finish(): void {
    const message = this.#message!
    this.#message = null
    this.#prefixByteLength = 0
    if (this.#byteLength > sharedByteLengthMax) {
      young ??= new YoungMemory()
      young.add(message.byteLength)
    }
    this.#take(message)
  }
}
