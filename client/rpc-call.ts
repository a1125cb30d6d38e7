// One gRPC call on a stream of HTTP/2: messages out, messages in, and how it ended.
import { errorCode } from '../proto/http2/errors.js'
import type { Headers } from '../proto/http2/hpack.js'
import type { StreamOwner } from '../proto/http2/owners.js'
import type { Http2Stream } from '../proto/http2/stream.js'
import { MessageReader } from './message-reader.js'
import type { Link } from './rpc-connection.js'
import { errorOfReset, errorOfResponse, errorOfTrailers, RpcError, status } from './rpc-status.js'

/** Messages that have come and nobody has asked for: above one of these the stream is paused, and HTTP/2's window fills. */
const waitingCountMax = 1024
const waitingByteLengthMax = 2 * 1024 * 1024

/** An answer of one message. */
export interface Answer {
  readonly message: Buffer
  readonly trailers: Headers
}

export class RpcCall implements StreamOwner {
  readonly #link: Link
  readonly #stream: Http2Stream
  readonly #reader: MessageReader
  /** What has come, from #takenCount on; nothing is left there once all is taken. */
  readonly #messages: Buffer[] = []
  #takenCount = 0
  #waitingByteLength = 0
  #isPaused = false
  #hasResponse = false
  #trailers: Headers | null = null
  /** All has come, or nothing more will. */
  #isOver = false
  /** The answer is one message: nobody takes messages while it comes. */
  #isSingle = false
  #failure: RpcError | null = null
  #wake: (() => void) | null = null

  /** Throws RpcError when the connection is being ended. */
  constructor(link: Link, headerBlock: Buffer, messageByteLengthMax: number) {
    this.#link = link
    this.#reader = new MessageReader(messageByteLengthMax, (message) => this.#receive(message))
    this.#stream = link.open(headerBlock, this)
  }

  /** Sends a message with its prefix; resolves when it has left. It must not change before. */
  send(message: Buffer): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#isOver)
        reject(this.#failure ?? new RpcError(status.INTERNAL, 'the server answered before all was sent'))
      else {
        this.#stream.send(message, () => {
          if (this.#failure === null) resolve()
          else reject(this.#failure)
        })
      }
    })
  }

  /** No message follows. */
  endRequest(): void {
    this.#stream.end()
  }

  /** Sends the only message of a request. */
  request(message: Buffer): void {
    this.#stream.send(message, doNothing, true)
  }

  /** The next message, in memory that nobody else writes; null: there is none. Throws RpcError. A slow reader slows the server. */
  next(): Promise<Buffer | null> {
    return new Promise((resolve, reject) => {
      const look = (): void => {
        const message = this.take()
        if (message !== null) resolve(message)
        else if (this.#failure !== null) reject(this.#failure)
        else if (this.#isOver) resolve(null)
        else this.#wake = look
      }
      look()
    })
  }

  /** The next message, if it has come; null: it has not, or there is none. */
  take(): Buffer | null {
    const messages = this.#messages
    // Not by looking for it: an index that an array does not have is looked up as a name.
    if (this.#takenCount === messages.length) return null
    const message = messages[this.#takenCount++]
    if (messages.length === 1) {
      messages.pop()
      this.#takenCount = 0
    } else if (this.#takenCount === messages.length || this.#takenCount === waitingCountMax) {
      // Moving up those behind it for each one costs the more the more of them wait.
      messages.splice(0, this.#takenCount)
      this.#takenCount = 0
    }
    this.#waitingByteLength -= message.byteLength
    if (this.#isPaused && !this.#isFull()) {
      this.#isPaused = false
      this.#stream.resume()
    }
    return message
  }

  /** The only message of an answer, and its trailers. Rejects with RpcError. */
  answer(): Promise<Answer> {
    this.#isSingle = true
    return new Promise((resolve, reject) => {
      const look = (): void => {
        const [message] = this.#messages
        if (!this.#isOver) this.#wake = look
        else if (this.#failure !== null) reject(this.#failure)
        else if (message !== undefined) resolve({ message, trailers: this.#trailers! })
        else reject(new RpcError(status.INTERNAL, 'the server answered with no message'))
      }
      look()
    })
  }

  /** Ends the call with an error; nothing happens to one that is over. */
  cancel(error: RpcError): void {
    this.#messages.length = 0
    this.#takenCount = 0
    this.#fail(error)
    this.#stream.reset(errorCode.cancel)
  }

  /** Of its two ends, says the one that was not said: a server that has answered early need not take the rest. */
  leave(): void {
    // A server that sees many resets takes them for an attack (nghttp2: a thousand, then 33 a second) and ends the connection.
    if (this.#stream.isClosed) return
    // An error takes longer to make than most of a call.
    if (this.#isOver) this.#stream.reset(errorCode.cancel)
    else this.cancel(new RpcError(status.CANCELLED, 'the call was cancelled'))
  }

  /** The first headers are the response, or all of the answer; the others are trailers. Of the stream, as all that follows. */
  headers(headers: Headers): void {
    if (this.#isOver) return
    if (this.#hasResponse || headers['grpc-status'] !== undefined) this.#trailers = headers
    else {
      const error = errorOfResponse(headers)
      if (error !== null) this.cancel(error)
    }
    this.#hasResponse = true
  }

  data(chunk: Buffer): void {
    if (this.#isOver) return
    try {
      this.#reader.write(chunk)
    } catch (error) {
      this.cancel(error instanceof RpcError ? error : new RpcError(status.INTERNAL, String(error), { cause: error }))
      return
    }
    if (!this.#isSingle && !this.#isPaused && this.#isFull()) {
      this.#isPaused = true
      this.#stream.pause()
    }
  }

  /** The server has said all. */
  end(): void {
    if (this.#isOver) return
    const error = this.#trailers === null ? errorOfReset(errorCode.none, null) : errorOfTrailers(this.#trailers)
    if (error !== null) this.#fail(error)
    else if (this.#reader.isInside) this.#fail(new RpcError(status.INTERNAL, 'the answer ends inside a message'))
    else {
      this.#isOver = true
      this.#notify()
    }
  }

  closed(code: number, error: Error | null): void {
    if (!this.#isOver) this.#fail(this.#link.errorOfStream(code, error))
  }

  #receive(message: Buffer): void {
    if (this.#isSingle && this.#messages.length > 0) {
      throw new RpcError(status.INTERNAL, 'the server answered with several messages instead of one')
    }
    this.#messages.push(message)
    this.#waitingByteLength += message.byteLength
    if (!this.#isSingle) this.#notify()
  }

  #isFull(): boolean {
    return (
      this.#messages.length - this.#takenCount >= waitingCountMax || this.#waitingByteLength >= waitingByteLengthMax
    )
  }

  #fail(error: RpcError): void {
    if (this.#isOver) return
    this.#isOver = true
    this.#failure = error
    this.#notify()
  }

  #notify(): void {
    const wake = this.#wake
    this.#wake = null
    wake?.()
  }
}

function doNothing(): void {}
