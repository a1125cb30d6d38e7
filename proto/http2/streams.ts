// The streams of one connection: how they begin and end, and what of those that have ended is remembered.
import { Allowance } from './allowance.js'
import { ClosedStreams } from './closed-streams.js'
import { calm, errorCode, Http2Error, protocolError } from './errors.js'
import { frameType, initialWindowByteLength, windowByteLengthMax } from './frames.js'
import type { Outbox } from './outbox.js'
import type { ConnectionOptions, StreamOwner } from './owners.js'
import { Sender } from './sender.js'
import { Http2Stream, type StreamHost, StreamList } from './stream.js'
import { StreamTable } from './stream-table.js'

/** Streams of a client before the server tells how many it takes. */
const firstCountMax = 100
/** A stream may make the peer say a word or two, even if nothing is answered. */
const streamCreditByteLength = 2048

/** What the connection is told of its streams. */
export interface StreamsOwner {
  /** There are more or fewer than before. */
  counted(): void
  /** The owner of a stream takes more. */
  resumed(stream: Http2Stream): void
}

const noLefts: readonly (() => void)[] = []

export class Streams implements StreamHost {
  readonly sender: Sender
  readonly #options: ConnectionOptions
  readonly #isServer: boolean
  readonly #outbox: Outbox
  readonly #owner: StreamsOwner
  readonly #resets: Allowance
  readonly #open = new StreamTable()
  readonly #closed = new ClosedStreams()
  /** Streams of a client that the server does not take yet. */
  readonly #queued = new StreamList()
  #queuedCount = 0
  #countMax = firstCountMax
  /** The last one of the peer, or (client) of our own. */
  lastId: number
  /** The peer knows our settings. */
  isAcknowledged = false
  /** The connection is gone: nothing is sent any more. */
  isOver = false

  constructor(options: ConnectionOptions, outbox: Outbox, owner: StreamsOwner) {
    this.#options = options
    this.#isServer = options.role === 'server'
    this.#outbox = outbox
    this.#owner = owner
    this.#resets = new Allowance(options.resetBurstMax, options.resetPerSecondMax)
    this.lastId = this.#isServer ? 0 : -1
    this.sender = new Sender(outbox, options.dataFrameByteLengthMax, (stream) => this.#sentAll(stream))
  }

  /** At work, or queued. */
  get count(): number {
    return this.#open.count + this.#queuedCount
  }

  get openCount(): number {
    return this.#open.count
  }

  get(id: number): Http2Stream | null {
    return this.#open.get(id)
  }

  all(): Http2Stream[] {
    return this.#open.all()
  }

  // ---- How they begin ----

  /** A stream of a client, with the header block of its request. */
  open(headerBlock: Buffer, hasEnded: boolean, owner: StreamOwner): Http2Stream {
    const stream = this.#make()
    stream.owner = owner
    stream.headers = headerBlock
    stream.headersEnd = hasEnded
    stream.isEnding = hasEnded
    if (this.#open.count < this.#countMax) this.#begin(stream)
    else {
      this.#queued.push(stream)
      this.#queuedCount++
    }
    this.#owner.counted()
    return stream
  }

  /** A stream of the peer. */
  take(id: number, hasEnded: boolean, contentByteLength: number): Http2Stream {
    const stream = this.#make()
    stream.id = id
    stream.hasReceivedHeaders = true
    stream.hasReceivedAll = hasEnded
    stream.contentByteLength = contentByteLength
    this.#open.add(stream)
    this.sender.credit(streamCreditByteLength)
    this.#owner.counted()
    return stream
  }

  #make(): Http2Stream {
    const { streamWindowByteLength } = this.#options
    // A peer that may not have seen our settings yet may send what HTTP/2 gives it by itself.
    const receiveWindow = this.isAcknowledged
      ? streamWindowByteLength
      : Math.max(streamWindowByteLength, initialWindowByteLength)
    return new Http2Stream(this, receiveWindow, this.sender.streamWindow)
  }

  #begin(stream: Http2Stream): void {
    this.lastId += 2
    stream.id = this.lastId
    stream.sendWindow = this.sender.streamWindow
    this.#open.add(stream)
    this.sender.credit(streamCreditByteLength)
    this.sender.offer(stream)
  }

  /** The server takes so many at once. */
  allow(countMax: number): void {
    this.#countMax = countMax
    this.#beginQueued()
  }

  #beginQueued(): void {
    while (!this.#queued.isEmpty && this.#open.count < this.#countMax) {
      const stream = this.#queued.shift()
      if (stream === null) return
      this.#queuedCount--
      this.#begin(stream)
    }
  }

  // ---- What they send ----

  offer(stream: Http2Stream): void {
    this.sender.offer(stream)
  }

  resumed(stream: Http2Stream): void {
    this.#owner.resumed(stream)
  }

  /** The peer gives each stream so much window, those that are open too: it may be below 0 afterwards. */
  setWindow(byteLength: number): void {
    const added = byteLength - this.sender.streamWindow
    this.sender.streamWindow = byteLength
    for (const stream of this.#open.all()) {
      stream.sendWindow += added
      if (stream.sendWindow > windowByteLengthMax) throw new Http2Error(errorCode.flowControl, 'a window is too large')
      if (added > 0 && stream.isWaiting) this.sender.offer(stream)
    }
  }

  // ---- How they end ----

  #sentAll(stream: Http2Stream): void {
    if (stream.hasReceivedAll) this.close(stream, errorCode.none, null)
    else if (this.#isServer) {
      // The rest of the request is not wanted (RFC 9113, section 8.1).
      this.#sendReset(stream.id, errorCode.none)
      this.close(stream, errorCode.none, null, true)
    }
  }

  reset(stream: Http2Stream, code: number, error: Error | null = null): void {
    if (stream.list === this.#queued) {
      this.#queued.remove(stream)
      this.#queuedCount--
      this.#end(stream, code, error)
      this.#owner.counted()
      return
    }
    // A server has not heard of a stream whose headers have not left.
    if (this.#isServer || stream.headers === null) this.#sendReset(stream.id, code)
    this.close(stream, code, error, !stream.hasReceivedAll)
  }

  /** Ends a stream with a reset, through the peer's fault. */
  fault(stream: Http2Stream, error: Http2Error): void {
    this.reset(stream, error.code, error)
    this.countReset()
  }

  /** Refuses a stream of the peer before it is one. */
  refuse(id: number, code: number): void {
    this.#sendReset(id, code)
    this.#closed.remember(id, true)
  }

  /** What comes of this stream is ignored. */
  ignore(id: number): void {
    this.#closed.remember(id, true)
  }

  /** Streams that are opened only to be broken off cost us more than the peer (rapid reset, CVE-2023-44487). */
  countReset(): void {
    if (!this.#resets.take()) throw calm('too many calls broken off')
  }

  #sendReset(id: number, code: number): void {
    if (!this.isOver) this.#outbox.putControl(frameType.resetStream, 0, id, 1, code)
  }

  /** isReset: we have ended it while the peer could still send. */
  close(stream: Http2Stream, code: number, error: Error | null, isReset = false): void {
    if (stream.isClosed) return
    this.#open.remove(stream)
    this.#closed.remember(stream.id, isReset)
    this.sender.forget(stream)
    this.#end(stream, code, error)
    if (this.isOver) return
    this.#beginQueued()
    this.#owner.counted()
  }

  #end(stream: Http2Stream, code: number, error: Error | null): void {
    stream.isClosed = true
    stream.headers = null
    stream.trailers = null
    stream.unsentByteLength = 0
    // Of nearly all streams everything has been handed on; a list made shorter by its length, or by splice, is a call into V8.
    if (stream.chunks.length > 0) stream.chunks.length = 0
    const lefts = stream.lefts.length > 0 ? stream.lefts.splice(0) : noLefts
    for (let i = 0; i < lefts.length; i++) {
      // A part of the first one may be under way.
      if (i === 0 && stream.sentOfFirst > 0) this.#outbox.whenLeft(lefts[i])
      else process.nextTick(lefts[i])
    }
    stream.owner.closed(code, error)
  }

  /** Ends streams of a client that the peer has not looked at: those that are queued, and those above an id. */
  drop(aboveId: number, error: Error | null): void {
    for (let stream = this.#queued.shift(); stream !== null; stream = this.#queued.shift()) {
      this.#queuedCount--
      this.#end(stream, errorCode.refusedStream, error)
    }
    for (const stream of this.#open.all()) {
      if (stream.id > aboveId) this.close(stream, errorCode.refusedStream, error)
    }
  }

  /** Ends all: the connection is gone. */
  closeAll(code: number, error: Error | null): void {
    this.isOver = true
    for (const stream of this.#open.all()) this.close(stream, code, error)
    this.drop(this.lastId, error)
  }

  // ---- Those that have ended ----

  /** Frames of a stream that we have reset are ignored; of one that has ended, or that never was, they end the connection. */
  checkClosed(id: number): void {
    this.checkNotIdle(id)
    if (this.#closed.isReset(id)) return
    if (this.#closed.isKnown(id)) throw new Http2Error(errorCode.streamClosed, `stream ${id} has ended`)
    throw protocolError(`stream ${id} was never opened, or long ago`)
  }

  checkNotIdle(id: number): void {
    if (id % 2 === 0 || id > this.lastId) throw protocolError(`stream ${id} is not open`)
  }
}
