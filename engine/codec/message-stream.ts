// The message stream of HTTP bodies: an 8-byte signed little-endian length, then that many bytes of protobuf, repeated
// until the body ends.
//
//   ┌────────────────┬───────────────┬────────────────┬─────
//   │ int64le length │ length bytes  │ int64le length │ ...
//   └────────────────┴───────────────┴────────────────┴─────
import { FramesError } from '../errors.js'
import { copyBytes } from '../memory/copy.js'

/** The length before each message. */
export const messagePrefixByteLength = 8

/** One message with its length before it, in a new buffer: the bytes given may be reused at once. */
export function frameMessage(message: Uint8Array): Buffer {
  const framed = Buffer.allocUnsafe(messagePrefixByteLength + message.byteLength)
  framed.writeBigInt64LE(BigInt(message.byteLength), 0)
  copyBytes(message, framed, messagePrefixByteLength)
  return framed
}

/**
 * Cuts a body into its messages, however its chunks are split. Nothing is allocated for a message before its bytes have
 * arrived. Throws MALFORMED_REQUEST when the body ends inside a message or a length is negative, FRAME_TOO_LARGE when a
 * length is above `byteLengthMax`.
 */
export async function* splitMessages(
  chunks: AsyncIterable<Uint8Array>,
  byteLengthMax: number,
): AsyncGenerator<Uint8Array, void, undefined> {
  const waiting = new ByteQueue()
  let messageByteLength = -1
  for await (const chunk of chunks) {
    waiting.push(chunk)
    for (;;) {
      if (messageByteLength < 0) {
        if (waiting.byteLength < messagePrefixByteLength) break
        messageByteLength = readLength(waiting.take(messagePrefixByteLength), byteLengthMax)
      }
      if (waiting.byteLength < messageByteLength) break
      const message = waiting.take(messageByteLength)
      messageByteLength = -1
      yield message
    }
  }
  if (messageByteLength >= 0) {
    const missing = `${waiting.byteLength} of ${messageByteLength} bytes`
    throw new FramesError('MALFORMED_REQUEST', `the body ends inside a message, after ${missing}`)
  }
  if (waiting.byteLength > 0) throw new FramesError('MALFORMED_REQUEST', 'the body ends inside the length of a message')
}

function readLength(prefix: Buffer, byteLengthMax: number): number {
  const length = prefix.readBigInt64LE(0)
  if (length < 0n) throw new FramesError('MALFORMED_REQUEST', `a message of negative length ${length}`)
  if (length > BigInt(byteLengthMax)) {
    throw new FramesError('FRAME_TOO_LARGE', `a message of ${length} bytes is above the limit of ${byteLengthMax}`)
  }
  return Number(length)
}

/** Bytes that have arrived and are not yet a whole message. */
class ByteQueue {
  #chunks: Uint8Array[] = []
  byteLength = 0

  push(chunk: Uint8Array): void {
    if (chunk.byteLength === 0) return
    this.#chunks.push(chunk)
    this.byteLength += chunk.byteLength
  }

  /** The first `byteLength` bytes: a view when one chunk holds them all, else one copy. */
  take(byteLength: number): Buffer {
    this.byteLength -= byteLength
    const first = this.#chunks[0]
    if (byteLength === 0 || first === undefined) return Buffer.alloc(0)
    if (first.byteLength >= byteLength) {
      this.#dropFromFirst(first, byteLength)
      return Buffer.from(first.buffer, first.byteOffset, byteLength)
    }
    const taken = Buffer.allocUnsafe(byteLength)
    let filled = 0
    let used = 0
    while (filled < byteLength) {
      const chunk = this.#chunks[used]
      const count = Math.min(chunk.byteLength, byteLength - filled)
      taken.set(chunk.subarray(0, count), filled)
      filled += count
      if (count < chunk.byteLength) this.#chunks[used] = chunk.subarray(count)
      else used++
    }
    this.#chunks = this.#chunks.slice(used)
    return taken
  }

  #dropFromFirst(first: Uint8Array, byteLength: number): void {
    if (first.byteLength === byteLength) this.#chunks.shift()
    else this.#chunks[0] = first.subarray(byteLength)
  }
}
