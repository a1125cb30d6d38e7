// One stream of HTTP/2: what its owner sends waits here for its turn; what comes is handed to the owner at once.
import type { Headers } from './hpack.js'
import type { StreamOwner } from './owners.js'

/** What a stream asks of its connection. */
export interface StreamHost {
  /** Something of the stream may leave. */
  offer(stream: Http2Stream): void
  /** Ends the stream with a reset. */
  reset(stream: Http2Stream, code: number): void
  /** The owner takes more. */
  resumed(stream: Http2Stream): void
}

const noOwner: StreamOwner = { headers() {}, data() {}, end() {}, closed() {} }

/** All of it may be called in any state; what makes no sense any more does nothing. */
export class Http2Stream {
  owner: StreamOwner = noOwner
  readonly #host: StreamHost

  // ---- What follows is for the connection alone ----

  /** 0 while it waits for one of the peer's MAX_CONCURRENT_STREAMS. */
  id = 0
  isClosed = false
  /** All of ours has been handed on, END_STREAM too. */
  hasSentAll = false
  /** The peer has sent END_STREAM. */
  hasReceivedAll = false
  /** The headers of the peer have come; more of them are trailers. */
  hasReceivedHeaders = false
  isPaused = false
  /** What the peer may still send; what it has sent and has not been given again. */
  receiveWindow: number
  ungivenByteLength = 0
  /** Of all DATA; -1: it was not told. */
  contentByteLength = -1
  sendWindow: number
  /** Not handed on yet, in this order: headers, chunks, trailers or the bare end. */
  headers: Buffer | null = null
  headersEnd = false
  readonly chunks: Buffer[] = []
  readonly lefts: (() => void)[] = []
  /** Of the first chunk, what has been handed on. */
  sentOfFirst = 0
  trailers: Buffer | null = null
  isEnding = false
  unsentByteLength = 0
  /** Checks for which nothing has moved in either direction. */
  quietCount = 0
  /** The list it waits in, for its turn or for the connection's window. */
  list: StreamList | null = null
  previous: Http2Stream | null = null
  next: Http2Stream | null = null

  constructor(host: StreamHost, receiveWindow: number, sendWindow: number) {
    this.#host = host
    this.receiveWindow = receiveWindow
    this.sendWindow = sendWindow
  }

  /** Something of it is not handed on yet. */
  get isWaiting(): boolean {
    return (
      this.headers !== null || this.chunks.length > 0 || this.trailers !== null || (this.isEnding && !this.hasSentAll)
    )
  }

  /** The peer has to do something for the stream to go on: to take what waits for it, or to send the rest of its own. */
  get waitsForPeer(): boolean {
    return this.isWaiting || (!this.hasReceivedAll && !this.isPaused)
  }

  // ---- For the owner ----

  /** A header block, which must not change any more; the first of a stream. */
  sendHeaders(block: Buffer, hasEnded: boolean): void {
    if (this.isClosed || this.isEnding) return
    this.headers = block
    this.headersEnd = hasEnded
    this.isEnding = hasEnded
    this.#host.offer(this)
  }

  /**
   * Some bytes; with hasEnded, the last. They must not change until `onLeft` is called: once, in any case, when the socket
   * has them all or nothing of the stream is sent any more, and never from within this.
   */
  send(chunk: Buffer, onLeft: () => void, hasEnded = false): void {
    if (this.isClosed || this.isEnding) {
      process.nextTick(onLeft)
      return
    }
    this.chunks.push(chunk)
    this.lefts.push(onLeft)
    this.unsentByteLength += chunk.byteLength
    this.isEnding = hasEnded
    this.#host.offer(this)
  }

  /** No more follows. */
  end(): void {
    if (this.isClosed || this.isEnding) return
    this.isEnding = true
    this.#host.offer(this)
  }

  /** A header block behind all that was sent; nothing follows. */
  sendTrailers(block: Buffer): void {
    if (this.isClosed || this.isEnding) return
    this.trailers = block
    this.isEnding = true
    this.#host.offer(this)
  }

  /** Ends the stream in both directions; what has not been handed on is not sent. */
  reset(code: number): void {
    if (!this.isClosed) this.#host.reset(this, code)
  }

  /** The peer is given no more window: it can send what is left of it. What comes is handed over nevertheless. */
  pause(): void {
    this.isPaused = true
  }

  resume(): void {
    if (!this.isPaused) return
    this.isPaused = false
    if (!this.isClosed) this.#host.resumed(this)
  }
}

/** Streams that wait for something, first come first. */
export class StreamList {
  #first: Http2Stream | null = null
  #last: Http2Stream | null = null

  get isEmpty(): boolean {
    return this.#first === null
  }

  /** Puts a stream that is in no list behind the others. */
  push(stream: Http2Stream): void {
    stream.list = this
    stream.previous = this.#last
    if (this.#last === null) this.#first = stream
    else this.#last.next = stream
    this.#last = stream
  }

  shift(): Http2Stream | null {
    const stream = this.#first
    if (stream !== null) this.remove(stream)
    return stream
  }

  /** Takes out a stream that is in this list. */
  remove(stream: Http2Stream): void {
    const { previous, next } = stream
    if (previous === null) this.#first = next
    else previous.next = next
    if (next === null) this.#last = previous
    else next.previous = previous
    stream.list = null
    stream.previous = null
    stream.next = null
  }
}

/** Of a request or an answer: how long its DATA will be, if it says so; -1: it does not; NaN: it makes no sense. */
export function contentByteLengthOf(headers: Headers): number {
  const text = headers['content-length']
  if (text === undefined) return -1
  return /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN
}
