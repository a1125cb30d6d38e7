// Messages of gRPC out of the chunks of an HTTP/2 stream. Each byte is copied once, into the message it belongs to.
import { RpcError, status } from './rpc-status.js'

/** One byte of flags, four of length, big endian. */
export const messagePrefixByteLength = 5
/** A message's first buffer: its length is only a claim until its bytes are there. */
const firstByteLengthMax = 8 * 1024 * 1024

const sharedByteLengthMax = 2048

/** Writes the prefix of a message that is not compressed. */
export function writePrefix(target: Buffer, byteLength: number): void {
  target[0] = 0
  target.writeUInt32BE(byteLength, 1)
}

export class MessageReader {
  readonly #byteLengthMax: number
  readonly #take: (message: Buffer) => void
  readonly #prefix = Buffer.allocUnsafe(messagePrefixByteLength)
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

  #readPrefix(chunk: Buffer, start: number): number {
    const end = Math.min(chunk.byteLength, start + messagePrefixByteLength - this.#prefixByteLength)
    for (let at = start; at < end; at++) this.#prefix[this.#prefixByteLength++] = chunk[at]
    if (this.#prefixByteLength < messagePrefixByteLength) return end
    if (this.#prefix[0] !== 0) throw new RpcError(status.INTERNAL, 'the server sent a compressed message')
    const byteLength = this.#prefix.readUInt32BE(1)
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
    this.#take(message)
  }
}
