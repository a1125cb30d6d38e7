// One gRPC call on a stream of HTTP/2: messages out, messages in, and how it ended.
import { type ClientHttp2Stream, constants, type IncomingHttpHeaders } from 'node:http2'
import { MessageReader } from './message-reader.js'
import type { Link } from './rpc-connection.js'
import { errorOfReset, errorOfResponse, errorOfTrailers, RpcError, status } from './rpc-status.js'

/** Messages that have come and nobody has asked for: above one of these the stream is paused, and HTTP/2's window fills. */
const waitingCountMax = 1024
const waitingByteLengthMax = 2 * 1024 * 1024
/** The prefix of a message without bytes, which none of ours is. */
const emptyMessage = Buffer.alloc(5)

export class RpcCall {
  readonly #link: Link
  readonly #stream: ClientHttp2Stream
  readonly #reader: MessageReader
  /** What has come, from #takenCount on; nothing is left there once all is taken. */
  readonly #messages: Buffer[] = []
  #takenCount = 0
  #waitingByteLength = 0
  #trailers: IncomingHttpHeaders | null = null
  #hasEnded = false
  #streamError: Error | null = null
  #isOver = false
  /** The answer is one message: nobody takes messages while it comes. */
  #isSingle = false
  #failure: RpcError | null = null
  #wake: (() => void) | null = null
  #onFailure: ((error: RpcError) => void) | null = null

  constructor(link: Link, stream: ClientHttp2Stream, messageByteLengthMax: number) {
    this.#link = link
    this.#stream = stream
    this.#reader = new MessageReader(messageByteLengthMax, (message) => this.#receive(message))
    stream.on('response', (headers) => this.#respond(headers))
    stream.on('trailers', (headers) => {
      this.#trailers = headers
      if (this.#hasEnded) this.#finish()
    })
    stream.on('data', (chunk: Buffer) => this.#read(chunk))
    stream.on('end', () => {
      this.#hasEnded = true
      if (this.#trailers !== null) this.#finish()
    })
    stream.on('error', (error) => {
      this.#streamError = error
    })
    stream.on('close', () => this.#close())
  }

  /** Nothing is left to be cancelled: all has been said on both sides, or the stream is gone. */
  get hasEnded(): boolean {
    return this.#isOver && this.#hasEnded && this.#trailers !== null && this.#stream.writableEnded
  }

  /** Told when the call fails, at once if it has. */
  onFailure(listener: (error: RpcError) => void): void {
    this.#onFailure = listener
    if (this.#failure !== null) listener(this.#failure)
  }

  /** Sends a message with its prefix; resolves when HTTP/2's flow control has let it go. It must not change before. */
  send(message: Buffer): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#isOver) {
        reject(this.#failure ?? new RpcError(status.INTERNAL, 'the server answered before all was sent'))
        return
      }
      // What went wrong with a stream that could not be written is known when it closes.
      this.#stream.write(message, (error) => {
        if (error) reject(this.#failure ?? errorOfReset(this.#stream.rstCode ?? 0, error))
        else resolve()
      })
    })
  }

  /** No message follows. */
  end(): void {
    this.#stream.end()
  }

  /** Sends the only message of a request. */
  request(message: Buffer): void {
    this.#stream.end(message)
  }

  /** The next message, in memory that nobody else writes; null: there is none. Throws RpcError. A slow reader slows the server. */
  async next(): Promise<Buffer | null> {
    for (;;) {
      const message = this.take()
      if (message !== null) return message
      if (this.#failure !== null) throw this.#failure
      if (this.#isOver) return null
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }

  /** The next message, if it has come; null: it has not, or there is none. */
  take(): Buffer | null {
    const message = this.#messages[this.#takenCount]
    if (message === undefined) return null
    // Moving up those behind it for each one costs the more the more of them wait.
    if (++this.#takenCount === this.#messages.length || this.#takenCount === waitingCountMax) {
      this.#messages.splice(0, this.#takenCount)
      this.#takenCount = 0
    }
    this.#waitingByteLength -= message.byteLength
    if (this.#stream.isPaused() && !this.#isFull()) this.#stream.resume()
    return message
  }

  /** The only message of an answer, and its trailers. Rejects with RpcError. */
  answer(): Promise<{ readonly message: Buffer; readonly trailers: IncomingHttpHeaders }> {
    this.#isSingle = true
    return new Promise((resolve, reject) => {
      const look = (): void => {
        const [message] = this.#messages
        if (!this.#isOver) this.#wake = look
        else if (this.#failure !== null) reject(this.#failure)
        else if (message !== undefined) resolve({ message, trailers: this.#trailers ?? {} })
        else reject(new RpcError(status.INTERNAL, 'the server answered with no message'))
      }
      look()
    })
  }

  /**
   * Ends the call with an error; it does nothing to one that is over. Node ends a stream before it resets it, which to a
   * server looks like the end of a whole write; an empty message in front of that end says that it is none.
   */
  cancel(error: RpcError): void {
    if (!this.#isOver) {
      if (!this.#stream.writableEnded && !this.#stream.destroyed) this.#stream.write(emptyMessage)
      this.#messages.length = 0
      this.#takenCount = 0
      this.#fail(error)
    }
    // Both sides have said all: the stream closes by itself. A server that sees many resets takes them for an attack
    // (nghttp2: a thousand, then 33 a second) and ends the connection.
    if (this.#hasEnded && this.#trailers !== null && this.#stream.writableEnded) return
    if (!this.#stream.closed) this.#stream.close(constants.NGHTTP2_CANCEL)
    // A paused stream would never come to its end.
    this.#stream.resume()
  }

  #respond(headers: IncomingHttpHeaders): void {
    const error = errorOfResponse(headers)
    if (error !== null) this.cancel(error)
    else if (headers['grpc-status'] !== undefined) {
      this.#trailers = headers
      if (this.#hasEnded) this.#finish()
    }
  }

  #read(chunk: Buffer): void {
    if (this.#isOver) return
    try {
      this.#reader.write(chunk)
    } catch (error) {
      this.cancel(error instanceof RpcError ? error : new RpcError(status.INTERNAL, String(error), { cause: error }))
      return
    }
    if (!this.#isSingle && this.#isFull()) this.#stream.pause()
  }

  #receive(message: Buffer): void {
    if (this.#isSingle && this.#messages.length > 0) {
      throw new RpcError(status.INTERNAL, 'the server answered with several messages instead of one')
    }
    this.#messages.push(message)
    this.#waitingByteLength += message.byteLength
    this.#notify()
  }

  #isFull(): boolean {
    return (
      this.#messages.length - this.#takenCount >= waitingCountMax || this.#waitingByteLength >= waitingByteLengthMax
    )
  }

  /** The server has said all. */
  #finish(): void {
    if (this.#isOver || this.#trailers === null) return
    const error = errorOfTrailers(this.#trailers)
    if (error !== null) this.#fail(error)
    else if (this.#reader.isInside) this.#fail(new RpcError(status.INTERNAL, 'the answer ends inside a message'))
    else {
      this.#isOver = true
      this.#notify()
    }
  }

  /** The stream is gone, well or not. */
  #close(): void {
    if (this.#isOver) return
    if (this.#trailers !== null) this.#finish()
    else this.#fail(this.#link.lostBy(this.#streamError) ?? errorOfReset(this.#stream.rstCode ?? 0, this.#streamError))
  }

  #fail(error: RpcError): void {
    if (this.#isOver) return
    this.#isOver = true
    this.#failure = error
    this.#onFailure?.(error)
    this.#notify()
  }

  #notify(): void {
    const wake = this.#wake
    this.#wake = null
    wake?.()
  }
}
