// A gRPC call on its stream of HTTP/2: the bytes of its request, the messages of its answer, how it ends.
import { status } from '@grpc/grpc-js'
import { FramesError } from '../engine/index.js'
import { errorCode } from '../proto/http2/errors.js'
import { encodeHeaders, type Headers } from '../proto/http2/hpack.js'
import type { StreamOwner } from '../proto/http2/owners.js'
import type { Http2Stream } from '../proto/http2/stream.js'
import type { Expansions } from './expansions.js'
import { messagePrefixByteLength, writePrefix } from './grpc-messages.js'
import type { SendBudget } from './send-budget.js'

/** How a call ends with an error. */
export interface RpcStatus {
  readonly code: status
  readonly details: string
  readonly trailers: Readonly<Record<string, string>>
}

/** Takes the request of a call. None of it is called after the call has ended. */
export interface RequestReader {
  /** Some bytes have come; the memory is the reader's. */
  take(chunk: Buffer): void
  /** The client has sent all. */
  end(): void
  /** The call has ended: what still comes is thrown away. */
  close(): void
}

/** Bytes that HTTP/2 has been given and that count as sent: a small answer ends without waiting for them to leave. */
const aheadByteLengthMax = 128 * 1024
const timerMsMax = 2 ** 31 - 1

const answerFields: readonly (readonly [string, string])[] = [
  [':status', '200'],
  ['content-type', 'application/grpc+proto'],
  ['grpc-accept-encoding', 'identity,deflate,gzip'],
]
const answerHeaders = encodeHeaders(answerFields)
const okTrailers = encodeHeaders([['grpc-status', '0']])
const timeoutPattern = /^(\d{1,8})\s*([HMSmun])$/
const unitsMs: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 1e-3, n: 1e-6 }

export class RpcStream implements StreamOwner {
  readonly #stream: Http2Stream
  readonly #encoding: string
  readonly #unread: SendBudget
  #reader: RequestReader | null = null
  #hasResponded = false
  #hasEnded = false
  #deadlineTimer: NodeJS.Timeout | null = null
  /** Of messages that HTTP/2 has and that have not left. */
  #aheadByteLength = 0
  #onBroken: ((error: FramesError) => void) | null = null

  /** peer: who calls, as `address:port`. */
  constructor(
    stream: Http2Stream,
    headers: Headers,
    readonly peer: string,
    unread: SendBudget,
  ) {
    this.#stream = stream
    this.#unread = unread
    this.#encoding = headers['grpc-encoding'] ?? 'identity'
    stream.owner = this
    const timeout = headers['grpc-timeout']
    if (timeout !== undefined) this.#startDeadline(timeout)
  }

  get hasEnded(): boolean {
    return this.#hasEnded
  }

  /** The request goes to a reader from now on. */
  read(reader: RequestReader): void {
    this.#reader = reader
  }

  /** Trailers of a request say nothing. */
  headers(): void {}

  data(chunk: Buffer): void {
    // Those of a call that has ended flow away.
    if (!this.#hasEnded) this.#reader?.take(chunk)
  }

  end(): void {
    if (!this.#hasEnded) this.#reader?.end()
  }

  /** The stream is gone. */
  closed(): void {
    if (this.#hasEnded) return
    this.#finish()
    this.#onBroken?.(new FramesError('CANCELLED', 'the client ended the call'))
  }

  /** Stops and goes on to take the request: HTTP/2's window fills meanwhile. */
  pause(): void {
    this.#stream.pause()
  }

  resume(): void {
    this.#stream.resume()
  }

  /** Told when the call ends before it is answered: its stream is gone, its time is over, or it is refused. */
  onBroken(listener: (error: FramesError) => void): void {
    this.#onBroken = listener
  }

  /** Ends the call of a peer that sends too much. */
  refuse(error: FramesError): void {
    if (this.#onBroken === null) this.#stream.reset(errorCode.enhanceYourCalm)
    else if (!this.#hasEnded) this.#onBroken(error)
  }

  /** Ends the call of a peer that does not read: what was sent and has not left goes with the stream. */
  #giveUp(error: FramesError): void {
    this.#onBroken?.(error)
    this.#stream.reset(errorCode.enhanceYourCalm)
  }

  #startDeadline(text: string): void {
    const [, count, unit] = timeoutPattern.exec(text) ?? []
    if (count === undefined || unit === undefined) {
      this.fail(statusOnly(status.INTERNAL, `Invalid grpc-timeout value "${text}"`))
      return
    }
    const timeoutMs = Number(count) * unitsMs[unit]
    if (timeoutMs > timerMsMax) return
    this.#deadlineTimer = setTimeout(() => {
      const error = new FramesError('DEADLINE_EXCEEDED', 'the deadline of the call has passed')
      if (this.#onBroken === null) this.fail(statusOnly(status.DEADLINE_EXCEEDED, error.message))
      else this.#onBroken(error)
    }, timeoutMs)
  }

  /** The bytes of a message that came compressed; null: the call has ended, or ends with this. */
  async expand(
    message: () => Buffer | null,
    byteLengthMax: number,
    expansions: Expansions,
  ): Promise<Buffer | FramesError | null> {
    const expanded = await expansions.expand(() => (this.#hasEnded ? null : message()), this.#encoding, byteLengthMax)
    if (this.#hasEnded || expanded === null) return null
    if (typeof expanded !== 'string') return expanded
    if (expanded === 'broken') this.fail(statusOnly(status.INTERNAL, 'Failed to decompress message'))
    else {
      const details = `Received message compressed with unsupported encoding "${this.#encoding}"`
      this.fail(statusOnly(status.UNIMPLEMENTED, details))
    }
    return null
  }

  /** Answers with one message, and ends the call. trailers: more than the status, which is ok. */
  answer(message: Uint8Array, trailers: Readonly<Record<string, string>> = noTrailers): void {
    const output = Buffer.allocUnsafe(messagePrefixByteLength + message.byteLength)
    writePrefix(output, 0, message.byteLength)
    output.set(message, messagePrefixByteLength)
    void this.send(output, ignore)
    this.finish(trailers)
  }

  /**
   * Sends messages behind their prefixes. The bytes belong to HTTP/2 until `onLeft`, which is called in any case. Returns null
   * where there is room for more, else a promise of it.
   */
  send(output: Buffer, onLeft: () => void): Promise<void> | null {
    if (this.#hasEnded || this.#stream.isClosed) {
      onLeft()
      return null
    }
    this.#respond()
    const { byteLength } = output
    this.#aheadByteLength += byteLength
    let onRoom = ignore
    let stopWaiting = ignore
    this.#stream.send(output, () => {
      this.#aheadByteLength -= byteLength
      onLeft()
      stopWaiting()
      onRoom()
    })
    const hasRoom = this.#aheadByteLength <= aheadByteLengthMax
    if (hasRoom && this.#stream.unsentByteLength === 0) return null
    // A few bytes may hold a bundle for many.
    stopWaiting = this.#unread.wait(output.buffer.byteLength, (error) => this.#giveUp(error))
    if (hasRoom) return null
    return new Promise((resolve) => {
      onRoom = resolve
    })
  }

  #respond(): void {
    if (this.#hasResponded) return
    this.#hasResponded = true
    this.#stream.sendHeaders(answerHeaders, false)
  }

  /** Ends an answer whose messages have all been sent. */
  finish(trailers: Readonly<Record<string, string>> = noTrailers): void {
    if (!this.#finish()) return
    this.#respond()
    const block =
      trailers === noTrailers ? okTrailers : encodeHeaders([['grpc-status', '0'], ...Object.entries(trailers)])
    this.#stream.sendTrailers(block)
  }

  /** Ends the call with an error. Does nothing to one that has ended. */
  fail({ code, details, trailers }: RpcStatus): void {
    if (!this.#finish()) return
    const ending: (readonly [string, string])[] = [
      ['grpc-status', String(code)],
      ['grpc-message', encodeURI(details)],
      ...Object.entries(trailers),
    ]
    if (this.#hasResponded) this.#stream.sendTrailers(encodeHeaders(ending))
    else {
      this.#hasResponded = true
      this.#stream.sendHeaders(encodeHeaders([...answerFields, ...ending]), true)
    }
  }

  /** False when the call had ended, or nothing can be said any more. */
  #finish(): boolean {
    if (this.#hasEnded) return false
    this.#hasEnded = true
    this.#reader?.close()
    if (this.#deadlineTimer !== null) clearTimeout(this.#deadlineTimer)
    return !this.#stream.isClosed
  }
}

export function statusOnly(code: status, details: string): RpcStatus {
  return { code, details, trailers: {} }
}

const noTrailers: Readonly<Record<string, string>> = {}

function ignore(): void {}
