// Messages of gRPC as they arrive: each chunk is copied to its place at once. grpc-js keeps the chunks and joins them at
// the end, so that they outlive the young generation: with messages of some MiB, V8 then collects the whole heap several
// times a second, because of memory outside of it.
import serverCalls from '@grpc/grpc-js/build/src/server-interceptors.js'
import streamDecoders from '@grpc/grpc-js/build/src/stream-decoder.js'

/** One byte of flags, four of length. */
export const messagePrefixByteLength = 5
/** A message that came whole in one chunk is copied below this size, so that it does not hold the chunk. */
const ownCopyByteLengthMax = 4096
/** A message's first buffer, if none is kept: its length is only a claim until its bytes are there. */
const firstByteLengthMax = 256 * 1024
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
}

/** Buffers that hold one message of ours each. */
const ownBuffers = new WeakSet<ArrayBufferLike>()

/** A call of grpc-js as its own code sees it. */
interface SendingCall {
  readonly stream: {
    readonly writableLength: number
    /** A stream's own way out, behind its buffer. */
    _write(chunk: Buffer, encoding: 'buffer', onWritten: () => void): void
  }
  /** -1: none. */
  readonly maxSendMessageSize: number
  serializeMessage(message: unknown): Buffer
  /** Calls back when the message has left; when it cannot, the call ends. */
  sendMessage(message: unknown, onSent: () => void): void
  checkCancelled(): boolean
  maybeSendMetadata(): void
}

/** What may be on its way of a call while its next message, or its end, is asked for. */
const aheadByteLengthMax = 32 * 1024

/** What grpc-js asks of its decoder: chunks in, messages with their prefix out. */
class MessageDecoder {
  readonly #buffers: MessageBuffers
  readonly #byteLengthMax: number
  readonly #prefix = Buffer.alloc(messagePrefixByteLength)
  #prefixByteLength = 0
  /** With the prefix; it grows up to the length of the whole. */
  #message: Buffer | null = null
  #filledByteLength = 0
  /** Of the whole message with its prefix. */
  #byteLength = 0

  constructor(buffers: MessageBuffers, byteLengthMax: number) {
    this.#buffers = buffers
    this.#byteLengthMax = byteLengthMax
  }

  /** Throws when a message is longer than allowed; grpc-js tells the peer. */
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
        this.#message = this.#buffers.take(this.#byteLength, firstByteLengthMax)
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
    if (this.#byteLengthMax !== -1 && byteLength > this.#byteLengthMax) {
      throw new Error(`Received message larger than max (${byteLength} vs ${this.#byteLengthMax})`)
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

/** From now on grpc-js puts messages together in these buffers; whoever is done with one gives it back. */
export function decodeInto(buffers: MessageBuffers): void {
  if (typeof streamDecoders.StreamDecoder !== 'function') throw new Error('grpc-js keeps its decoder elsewhere now')
  streamDecoders.StreamDecoder = class extends MessageDecoder {
    constructor(byteLengthMax: number) {
      super(buffers, byteLengthMax)
    }
  } as unknown as typeof streamDecoders.StreamDecoder
}

/**
 * From now on grpc-js writes messages, behind their prefix, into these buffers, and they come back when they have left. It
 * takes fresh memory for each otherwise, and half of a large read goes into the marking of V8's heap.
 */
export function encodeInto(buffers: MessageBuffers): void {
  const call: unknown = serverCalls.BaseServerInterceptingCall?.prototype
  if (!isSendingCall(call)) throw new Error('grpc-js writes its messages elsewhere now')
  bareCall ??= { serializeMessage: call.serializeMessage, sendMessage: call.sendMessage }
  const { serializeMessage, sendMessage } = bareCall
  const leaving = new WeakMap<SendingCall, Buffer>()
  const aheadByteLengths = new WeakMap<SendingCall, number>()
  /**
   * Small messages count as sent at once: a call ends without waiting until node:http2 has heard that its last message left,
   * and its trailers follow that message at once. They pass the buffer of the stream, which knows no end before that.
   */
  const sendAhead = (own: SendingCall, message: Uint8Array): boolean => {
    const { stream, maxSendMessageSize } = own
    if (maxSendMessageSize !== -1 && message.byteLength > maxSendMessageSize) return false
    const ahead = (aheadByteLengths.get(own) ?? 0) + messagePrefixByteLength + message.byteLength
    if (ahead > aheadByteLengthMax || stream.writableLength > 0 || own.checkCancelled()) return false
    // Those who reuse the memory of a bundle may do so from now on.
    const output = isBundle(message) ? Buffer.from(message) : serializeMessage.call(own, message)
    own.maybeSendMetadata()
    aheadByteLengths.set(own, ahead)
    stream._write(output, 'buffer', () => aheadByteLengths.set(own, aheadByteLengths.get(own)! - output.byteLength))
    return true
  }
  call.serializeMessage = function (this: SendingCall, message) {
    // Reflection sends objects, which its own definition puts into bytes.
    if (!(message instanceof Uint8Array)) return serializeMessage.call(this, message)
    if (isBundle(message)) return message
    const byteLength = messagePrefixByteLength + message.byteLength
    if (byteLength < keptByteLengthMin) return serializeMessage.call(this, message)
    const output = buffers.take(byteLength, byteLength).subarray(0, byteLength)
    writePrefix(output, 0, message.byteLength)
    // Of shared memory this is one memcpy; `set` would copy word by word.
    output.fill(message, messagePrefixByteLength)
    leaving.set(this, output)
    return output
  }
  call.sendMessage = function (this: SendingCall, message, onSent) {
    if (message instanceof Uint8Array && sendAhead(this, message)) {
      onSent()
      return
    }
    sendMessage.call(this, message, () => {
      const output = leaving.get(this)
      if (output !== undefined) {
        leaving.delete(this)
        ownBuffers.add(output.buffer)
        buffers.giveBack(output)
      }
      onSent()
    })
  }
}

/** Writes the prefix of a message that is not compressed. */
export function writePrefix(target: Buffer, at: number, byteLength: number): void {
  target[at] = 0
  target.writeUInt32BE(byteLength, at + 1)
}

const bundles = new WeakSet<Uint8Array>()

/** Several messages behind their prefixes, for grpc-js as one: after encodeInto, they are written as they stand. */
export function asBundle(messages: Buffer): Buffer {
  bundles.add(messages)
  return messages
}

function isBundle(message: Uint8Array): message is Buffer {
  return bundles.has(message)
}

/** As grpc-js has made it. */
let bareCall: Pick<SendingCall, 'serializeMessage' | 'sendMessage'> | null = null

function isSendingCall(call: unknown): call is SendingCall {
  if (typeof call !== 'object' || call === null) return false
  const names = ['serializeMessage', 'sendMessage', 'checkCancelled', 'maybeSendMetadata']
  return names.every((name) => typeof Reflect.get(call, name) === 'function')
}
