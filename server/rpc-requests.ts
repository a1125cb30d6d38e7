// What a gRPC call is asked: one message, or a stream of them.
import { status } from '@grpc/grpc-js'
import { FramesError } from '../engine/index.js'
import type { Expansions } from './expansions.js'
import { type MessageBuffers, MessageDecoder, messagePrefixByteLength } from './grpc-messages.js'
import type { ServerLimits } from './limits.js'
import type { Receipt, ReceiveBudget } from './receive-budget.js'
import { type RequestReader, type RpcStream, statusOnly } from './rpc-stream.js'

export interface RequestBounds {
  readonly limits: ServerLimits
  readonly budget: ReceiveBudget
  readonly expansions: Expansions
}

/** A request of one chunk up to this size is not counted among what waits: it is served at once. */
const uncountedByteLengthMax = 4 * 1024
/** What a message that waits takes beside its bytes: a window of the smallest ones is a hundred times its bytes. */
const waitingMessageByteLength = 256

const noBytes = Buffer.alloc(0)

function overBudget(): FramesError {
  return new FramesError('MEMORY_BUDGET', 'too many bytes of all clients are waiting to be taken')
}

/** A request of one message. */
export class SingleRequest implements RequestReader {
  readonly #rpc: RpcStream
  readonly #bounds: RequestBounds
  readonly #serve: (request: Buffer | FramesError, rpc: RpcStream) => void
  /** What has come, at the beginning of #bytes: the first chunk itself, and room for more once there is a second. */
  #bytes: Buffer = noBytes
  #byteLength = 0
  #receipt: Receipt | null = null

  /** serve: called once, with the message or what is wrong with its size, unless the call ends before. */
  constructor(rpc: RpcStream, bounds: RequestBounds, serve: (request: Buffer | FramesError, rpc: RpcStream) => void) {
    this.#rpc = rpc
    this.#bounds = bounds
    this.#serve = serve
  }

  take(chunk: Buffer): void {
    const { limits, budget } = this.#bounds
    const start = this.#byteLength
    this.#byteLength += chunk.byteLength
    if (this.#receipt !== null) this.#receipt.add(chunk.byteLength)
    else if (this.#byteLength > uncountedByteLengthMax || start > 0) {
      this.#receipt = budget.open(() => this.#rpc.refuse(overBudget()))
      this.#receipt.add(this.#byteLength)
    }
    if (start === 0) this.#bytes = chunk
    else this.#append(chunk, start)
    if (this.#byteLength < messagePrefixByteLength) return
    const announced = this.#bytes.readUInt32BE(1)
    // What is announced is refused before it comes: it may never.
    if (Math.max(announced, this.#byteLength - messagePrefixByteLength) > limits.controlByteLengthMax) {
      const sizes = `${announced} bytes is above the limit of ${limits.controlByteLengthMax}`
      this.#serve(new FramesError('REQUEST_TOO_LARGE', `a request of ${sizes}`), this.#rpc)
    }
  }

  /** Chunks may be of one byte: kept each by itself they would take a hundred times their bytes. */
  #append(chunk: Buffer, start: number): void {
    const needed = start + chunk.byteLength
    if (needed > this.#bytes.byteLength) {
      const larger = Buffer.allocUnsafe(Math.max(needed, 2 * this.#bytes.byteLength))
      this.#bytes.copy(larger, 0, 0, start)
      this.#bytes = larger
    }
    chunk.copy(this.#bytes, start)
  }

  end(): void {
    const bytes = this.#bytes.subarray(0, this.#byteLength)
    const byteLength = bytes.byteLength < messagePrefixByteLength ? Infinity : bytes.readUInt32BE(1)
    if (messagePrefixByteLength + byteLength !== bytes.byteLength) {
      const what = messagePrefixByteLength + byteLength > bytes.byteLength ? 'no' : 'a second'
      this.#rpc.fail(statusOnly(status.UNIMPLEMENTED, `Received ${what} request message for a method that takes one`))
      return
    }
    if (bytes[0] === 0) this.#serveNow(bytes.subarray(messagePrefixByteLength))
    else void this.#serveExpanded()
  }

  #serveNow(message: Buffer | FramesError): void {
    this.#forget()
    this.#serve(message, this.#rpc)
  }

  /** It counts as waiting until it is expanded. */
  async #serveExpanded(): Promise<void> {
    const { limits, expansions } = this.#bounds
    const message = (): Buffer => this.#bytes.subarray(messagePrefixByteLength, this.#byteLength)
    const expanded = await this.#rpc.expand(message, limits.controlByteLengthMax, expansions)
    if (expanded !== null) this.#serveNow(expanded)
  }

  close(): void {
    this.#forget()
  }

  #forget(): void {
    this.#bytes = noBytes
    this.#receipt?.close()
  }
}

/** The messages of a stream, one after the other. The stream pauses while one waits. */
export class RequestMessages implements RequestReader {
  readonly #rpc: RpcStream
  readonly #limits: ServerLimits
  readonly #expansions: Expansions
  readonly #decoder: MessageDecoder
  readonly #receipt: Receipt
  /** What waits stands from #takenCount on. */
  readonly #waiting: Buffer[] = []
  #takenCount = 0
  #isDropped = false
  #hasEnded = false
  #failure: FramesError | null = null
  #wake: (() => void) | null = null
  #takenByteLength = 0
  /** It waits for its turn to be expanded. */
  #expanding: Buffer = noBytes

  constructor(rpc: RpcStream, { limits, budget, expansions }: RequestBounds, buffers: MessageBuffers) {
    this.#rpc = rpc
    this.#limits = limits
    this.#expansions = expansions
    this.#decoder = new MessageDecoder(buffers, limits.messageByteLengthMax)
    this.#receipt = budget.open(() => this.#refuse())
  }

  take(chunk: Buffer): void {
    if (this.#failure !== null) return
    this.#receipt.add(chunk.byteLength)
    try {
      const messages = this.#decoder.write(chunk)
      this.#receipt.hold(messages.length * waitingMessageByteLength)
      for (const message of messages) this.#waiting.push(message)
    } catch (error) {
      if (!(error instanceof FramesError)) throw error
      // The rest of it flows away.
      this.#failure = error
      this.#receipt.close()
      this.#notify()
    }
    if (this.#isDropped) this.#waiting.length = 0
    if (this.#waiting.length === 0) return
    if (this.#failure === null) this.#rpc.pause()
    this.#notify()
  }

  /** All peers together have too much waiting, and this one the most. */
  #refuse(): void {
    this.#drop(overBudget())
    this.#rpc.refuse(overBudget())
  }

  #drop(error: FramesError): void {
    this.#receipt.close()
    this.#isDropped = true
    this.#waiting.length = 0
    this.#takenCount = 0
    this.#expanding = noBytes
    this.#failure ??= error
    this.#notify()
  }

  end(): void {
    this.#hasEnded = true
    // What is stored would look like all of it.
    if (this.#decoder.isWithin) {
      this.#failure ??= new FramesError('MALFORMED_REQUEST', 'the stream ended within a message')
    }
    this.#notify()
  }

  close(): void {
    this.#drop(new FramesError('CANCELLED', 'the call has ended'))
  }

  /** The message that was taken last is not looked at any more, and counts no longer. */
  forget(): void {
    this.#receipt.take(this.#takenByteLength)
    this.#takenByteLength = 0
  }

  /** The next message; null: there is none. Rejects when the call has ended, and for messages that are too large. */
  async next(): Promise<Buffer | null> {
    for (;;) {
      const bytes = this.#shift()
      if (bytes !== null) {
        this.#takenByteLength = bytes.byteLength + waitingMessageByteLength
        // The next one comes while this one is at work.
        if (this.#waiting.length === 0) this.#rpc.resume()
        if (bytes[0] === 0) return bytes.subarray(messagePrefixByteLength)
        this.#expanding = bytes.subarray(messagePrefixByteLength)
        const expanded = await this.#rpc.expand(
          () => (this.#isDropped ? null : this.#expanding),
          this.#limits.messageByteLengthMax,
          this.#expansions,
        )
        if (expanded instanceof FramesError) throw expanded
        if (expanded !== null) {
          this.#takenByteLength += expanded.byteLength
          this.#receipt.hold(expanded.byteLength)
          return expanded
        }
      }
      if (this.#failure !== null) throw this.#failure
      if (this.#hasEnded) return null
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }

  /** An array of many thousands moves all of them up for each one that is shifted out. */
  #shift(): Buffer | null {
    const waiting = this.#waiting
    if (this.#takenCount === waiting.length) return null
    const bytes = waiting[this.#takenCount]
    waiting[this.#takenCount++] = noBytes
    if (2 * this.#takenCount >= waiting.length) {
      waiting.splice(0, this.#takenCount)
      this.#takenCount = 0
    }
    return bytes
  }

  #notify(): void {
    const wake = this.#wake
    this.#wake = null
    wake?.()
  }
}
