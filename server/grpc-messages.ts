// Messages of gRPC as they arrive: each chunk is copied to its place at once. Chunks that are kept and joined at the end
// outlive the young generation: with messages of some MiB, V8 then collects the whole heap several times a second, because
// of memory outside of it.
import { FramesError } from '../engine/index.js'

/** One byte of flags, four of length. */
export const messagePrefixByteLength = 5
/** A message that came whole in one chunk is copied below this size, so that it does not hold the chunk. */
const ownCopyByteLengthMax = 4096
/**
 * A message's first buffer, if none is kept, is so many times what has come of it: its length is only a claim until its bytes are
 * there, and thousands of streams may claim as much as they like.
 */
const firstPerCome = 4
const firstByteLengthMin = 4096
/** Smaller buffers are not worth keeping. */
const keptByteLengthMin = 32 * 1024

/** Buffers of messages that have been used, for those to come: fresh memory costs more than the copy. */
export class MessageBuffers {
  readonly #free: ArrayBuffer[] = []
  #byteLength = 0

  /** byteLengthMax: of all that are kept. */
  constructor(readonly byteLengthMax: number) {}

  /** The smallest that is kept and large enough, else a new one of `byteLength` at most. */
  take(byteLengthWanted: number, byteLengthNewMax: number): Buffer {
    let found = -1
    for (const [i, { byteLength }] of this.#free.entries()) {
      if (byteLength < byteLengthWanted) continue
      if (found < 0 || byteLength < this.#free[found].byteLength) found = i
    }
    if (found < 0) return Buffer.allocUnsafeSlow(Math.min(byteLengthWanted, byteLengthNewMax))
    const [buffer] = this.#free.splice(found, 1)
    this.#byteLength -= buffer.byteLength
    return Buffer.from(buffer)
  }

  /** A message, or a view of it, that nobody looks at any more. */
  giveBack(message: Uint8Array): void {
    const { buffer } = message
    if (!ownBuffers.delete(buffer) || this.#byteLength + buffer.byteLength > this.byteLengthMax) return
    this.#free.push(buffer as ArrayBuffer)
    this.#byteLength += buffer.byteLength
  }

  /** As giveBack, of a buffer that `take` gave out. */
  takeBack({ buffer }: Buffer): void {
    if (buffer.byteLength < keptByteLengthMin || this.#byteLength + buffer.byteLength > this.byteLengthMax) return
    this.#free.push(buffer as ArrayBuffer)
    this.#byteLength += buffer.byteLength
  }
}

/** Buffers that hold one message of ours each. */
const ownBuffers = new WeakSet<ArrayBufferLike>()

/** Chunks in, messages with their prefix out. */
export class MessageDecoder {
  readonly #buffers: MessageBuffers
  readonly #byteLengthMax: number
  readonly #prefix = Buffer.alloc(messagePrefixByteLength)
  #prefixByteLength = 0
  /** With the prefix; it grows up to the length of the whole. */
  #message: Buffer | null = null
  #filledByteLength = 0
  /** Of the whole message with its prefix. */
  #byteLength = 0

  /** buffers: where large messages are put together; whoever is done with one gives it back. */
  constructor(buffers: MessageBuffers, byteLengthMax: number) {
    this.#buffers = buffers
    this.#byteLengthMax = byteLengthMax
  }

  /** A part of a message has come. */
  get isWithin(): boolean {
    return this.#prefixByteLength > 0
  }

  /** Throws FRAME_TOO_LARGE when a message is longer than allowed. */
  write(chunk: Buffer): Buffer[] {
    const messages: Buffer[] = []
    let at = 0
    while (at < chunk.byteLength) {
      if (this.#message === null) {
        const start = at - this.#prefixByteLength
        at = this.#readPrefix(chunk, at)
        if (this.#prefixByteLength < messagePrefixByteLength) break
        const end = start + this.#byteLength
        if (start >= 0 && end <= chunk.byteLength) {
          const message = chunk.subarray(start, end)
          messages.push(message.byteLength <= ownCopyByteLengthMax ? Buffer.from(message) : message)
          this.#prefixByteLength = 0
          at = end
          continue
        }
        const comeByteLength = messagePrefixByteLength + chunk.byteLength - at
        this.#message = this.#buffers.take(
          this.#byteLength,
          Math.max(firstByteLengthMin, firstPerCome * comeByteLength),
        )
        this.#prefix.copy(this.#message)
        this.#filledByteLength = messagePrefixByteLength
      }
      at = this.#fill(chunk, at)
      if (this.#filledByteLength < this.#byteLength) break
      messages.push(this.#finish())
    }
    return messages
  }

  #readPrefix(chunk: Buffer, start: number): number {
    const end = Math.min(chunk.byteLength, start + messagePrefixByteLength - this.#prefixByteLength)
    this.#prefixByteLength += chunk.copy(this.#prefix, this.#prefixByteLength, start, end)
    if (this.#prefixByteLength < messagePrefixByteLength) return end
    const byteLength = this.#prefix.readUInt32BE(1)
    if (byteLength > this.#byteLengthMax) {
      const sizes = `${byteLength} vs ${this.#byteLengthMax}`
      throw new FramesError('FRAME_TOO_LARGE', `Received message larger than max (${sizes})`)
    }
    this.#byteLength = messagePrefixByteLength + byteLength
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
    this.#message = this.#buffers.take(this.#byteLength, Math.max(needed, 4 * old.byteLength))
    old.copy(this.#message, 0, 0, this.#filledByteLength)
  }

  #finish(): Buffer {
    const message = this.#message!.subarray(0, this.#byteLength)
    if (message.buffer.byteLength >= keptByteLengthMin) ownBuffers.add(message.buffer)
    this.#message = null
    this.#prefixByteLength = 0
    return message
  }
}

/** Writes the prefix of a message that is not compressed. */
export function writePrefix(target: Buffer, at: number, byteLength: number): void {
  target[at] = 0
  target.writeUInt32BE(byteLength, at + 1)
}
