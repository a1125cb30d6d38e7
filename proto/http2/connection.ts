// One HTTP/2 connection on a socket, of either role: cleartext, with prior knowledge, without pushes and priorities (RFC 9113).
//
//   socket → FrameReader → Receiver → Http2Connection → StreamOwner
//   socket ← Outbox ← Sender ← Http2Stream ← StreamOwner
import type { Duplex } from 'node:stream'
import { Allowance } from './allowance.js'
import { ClosedStreams } from './closed-streams.js'
import { errorCode, Http2Error } from './errors.js'
import {
  flag,
  frameType,
  initialHeaderTableByteLength,
  initialWindowByteLength,
  preface,
  setting,
  streamIdMax,
  windowByteLengthMax,
} from './frames.js'
import { HeaderDecoder, type Headers } from './hpack.js'
import { Outbox } from './outbox.js'
import type { ConnectionOptions, ConnectionOwner, StreamOwner } from './owners.js'
import { calm, type FrameTarget, protocolError, Receiver, streamError } from './receiver.js'
import { Sender } from './sender.js'
import { greeting, readSettings } from './settings.js'
import { contentByteLengthOf, Http2Stream, type StreamHost, StreamList } from './stream.js'
import { StreamTable } from './stream-table.js'

/** Answers to frames that the peer may send at will; one that does not take them is ended. */
const controlByteLengthMax = 64 * 1024
/** Streams of a client before the server tells how many it takes. */
const firstStreamCountMax = 100
/** After the last word the peer has so long to read it; what it sends is thrown away. */
const lingerMs = 1000
/** A stream may make the peer say a word or two, even if nothing is answered. */
const streamCreditByteLength = 2048
/** The PING that follows a first GOAWAY: its answer says that the peer knows of it. Others are counted from 1. */
const leavingPing = 0

export class Http2Connection implements FrameTarget, StreamHost {
  readonly #socket: Duplex
  readonly #options: ConnectionOptions
  readonly #owner: ConnectionOwner
  readonly #isServer: boolean
  readonly #outbox: Outbox
  readonly #sender: Sender
  readonly #receiver: Receiver
  readonly #decoder: HeaderDecoder
  readonly #control: Allowance
  readonly #resets: Allowance
  readonly #streams = new StreamTable()
  readonly #closed = new ClosedStreams()
  /** Streams of a client that the server does not take yet. */
  readonly #queued = new StreamList()
  #queuedCount = 0
  #streamCountMax = firstStreamCountMax
  /** The last one of the peer, or (client) of our own. */
  #lastStreamId: number
  #hasOpened = false
  #isAcknowledged = false
  /** We take, or (client) make, no new streams. */
  #isLeaving = false
  /** The peer has been told which stream was the last. */
  #hasLeft = false
  #isPeerLeaving = false
  #isClosed = false
  readonly #pings: { readonly number: number; readonly onAnswer: () => void }[] = []
  #pingCount = leavingPing

  /** The socket must be connected, and nobody else's. It is ended with the connection. */
  constructor(socket: Duplex, options: ConnectionOptions, owner: ConnectionOwner) {
    this.#socket = socket
    this.#options = options
    this.#owner = owner
    this.#isServer = options.role === 'server'
    this.#lastStreamId = this.#isServer ? 0 : -1
    this.#outbox = new Outbox(socket, () => this.#sender.pump())
    this.#sender = new Sender(this.#outbox, options.dataFrameByteLengthMax, (stream) => this.#sentAll(stream))
    this.#control = new Allowance(options.controlBurstMax, options.controlPerSecondMax)
    this.#resets = new Allowance(options.resetBurstMax, options.resetPerSecondMax)
    this.#receiver = new Receiver(this, options, this.#control)
    this.#decoder = new HeaderDecoder({
      tableByteLengthMax: initialHeaderTableByteLength,
      listByteLengthMax: options.headerListByteLengthMax,
    })
    socket.on('data', (chunk: Buffer) => this.read(chunk))
    socket.on('error', (error) => this.#finish(error))
    socket.on('end', () => this.#finish(this.#lossOf('the peer ended the connection')))
    socket.on('close', () => {
      this.#finish(this.#lossOf('the connection was closed'))
      this.#outbox.release()
    })
    if (!this.#isServer) this.#outbox.putBytes(preface)
    this.#outbox.putBytes(greeting(options))
  }

  /** Streams at work; those that are queued too. */
  get streamCount(): number {
    return this.#streams.count + this.#queuedCount
  }

  /** New streams may be opened. */
  get isUsable(): boolean {
    return !this.#isClosed && !this.#isLeaving && !this.#isPeerLeaving && this.#lastStreamId + 2 <= streamIdMax
  }

  get isClosed(): boolean {
    return this.#isClosed
  }

  /** What the socket has not taken; what waits in streams is counted there. */
  get unsentByteLength(): number {
    return this.#outbox.unsentByteLength
  }

  /** Open streams, as they are now. */
  streams(): Http2Stream[] {
    return this.#streams.all()
  }

  /** Opens a stream of a client with the header block of its request. Throws Http2Error where `isUsable` is false. */
  open(headerBlock: Buffer, hasEnded: boolean, owner: StreamOwner): Http2Stream {
    if (!this.isUsable) throw new Http2Error(errorCode.refusedStream, 'the connection takes no new streams', true)
    const stream = new Http2Stream(this, this.#receiveWindow(), this.#sender.streamWindow)
    stream.owner = owner
    stream.headers = headerBlock
    stream.headersEnd = hasEnded
    stream.isEnding = hasEnded
    if (this.#streams.count < this.#streamCountMax) this.#begin(stream)
    else {
      this.#queued.push(stream)
      this.#queuedCount++
    }
    this.#counted()
    return stream
  }

  /** Of a new stream. A peer that may not have seen our settings yet may send what HTTP/2 gives it by itself. */
  #receiveWindow(): number {
    const { streamWindowByteLength } = this.#options
    return this.#isAcknowledged ? streamWindowByteLength : Math.max(streamWindowByteLength, initialWindowByteLength)
  }

  #begin(stream: Http2Stream): void {
    this.#lastStreamId += 2
    stream.id = this.#lastStreamId
    stream.sendWindow = this.#sender.streamWindow
    this.#streams.add(stream)
    this.#sender.credit(streamCreditByteLength)
    this.#sender.offer(stream)
  }

  /** Asks for a sign of life. */
  ping(onAnswer: () => void): void {
    if (this.#isClosed) return
    this.#pings.push({ number: ++this.#pingCount, onAnswer })
    this.#outbox.putControl(frameType.ping, 0, 0, 2, 0, this.#pingCount)
  }

  /**
   * Takes, or makes, no new streams; those at work go on, and then the connection ends. A peer that has opened some before it
   * hears of it is served: they are refused when it has (RFC 9113, section 6.8).
   */
  leave(): void {
    if (this.#isLeaving || this.#isClosed) return
    this.#isLeaving = true
    if (this.#isServer) {
      this.#outbox.putControl(frameType.goAway, 0, 0, 2, streamIdMax, errorCode.none)
      this.#outbox.putControl(frameType.ping, 0, 0, 2, 0, leavingPing)
    } else {
      this.#hasLeft = true
      this.#outbox.putControl(frameType.goAway, 0, 0, 2, 0, errorCode.none)
      this.#endIfDone()
    }
  }

  /** Ends the connection and all its streams. The peer is told the code. */
  destroy(error: Error | null, code: number): void {
    if (this.#isClosed) return
    this.#outbox.putControl(frameType.goAway, 0, 0, 2, this.#isServer ? this.#lastStreamId : 0, code)
    this.#finish(error)
  }

  // ---- Life of the connection ----

  /** What has come, of a socket that reads into memory of its own (`onread`); it may be used again after the call. */
  read(chunk: Buffer): void {
    if (this.#isClosed) return
    try {
      this.#receiver.read(chunk)
      if (this.#outbox.controlByteLength > controlByteLengthMax) throw calm('the peer does not take what it asks for')
    } catch (error) {
      const known = error instanceof Http2Error ? error : defect(error)
      this.destroy(known, known.code)
    }
  }

  /** How a connection that stood was lost; null: nobody needs it any more. */
  #lossOf(what: string): Error | null {
    const isDone = this.streamCount === 0 && (this.#hasOpened || this.#isServer)
    return isDone ? null : new Http2Error(errorCode.none, what)
  }

  #finish(error: Error | null): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#receiver.stop()
    this.#outbox.end()
    // A peer that never reads the last word, nor ends its own side.
    if (!this.#socket.destroyed) {
      const timer = setTimeout(() => this.#socket.destroy(), lingerMs).unref()
      this.#socket.once('close', () => clearTimeout(timer))
    }
    const code = error instanceof Http2Error && error.code !== errorCode.none ? error.code : errorCode.cancel
    for (const stream of this.#streams.all()) this.#close(stream, code, error)
    this.#dropQueued(error)
    this.#owner.closed(error)
  }

  /** Streams that the peer has never heard of. */
  #dropQueued(error: Error | null): void {
    for (let stream = this.#queued.shift(); stream !== null; stream = this.#queued.shift()) {
      this.#queuedCount--
      this.#end(stream, errorCode.refusedStream, error)
    }
  }

  #endIfDone(): void {
    const isDone = (this.#hasLeft || (this.#isPeerLeaving && !this.#isServer)) && this.streamCount === 0
    if (isDone) this.#finish(null)
  }

  // ---- Streams ----

  offer(stream: Http2Stream): void {
    this.#sender.offer(stream)
  }

  reset(stream: Http2Stream, code: number, error: Error | null = null): void {
    if (stream.list === this.#queued) {
      this.#queued.remove(stream)
      this.#queuedCount--
      this.#end(stream, code, error)
      this.#counted()
      return
    }
    // A server has not heard of a stream whose headers have not left.
    if (this.#isServer || stream.headers === null) this.#sendReset(stream.id, code)
    this.#close(stream, code, error, !stream.hasReceivedAll)
  }

  resumed(stream: Http2Stream): void {
    this.#receiver.giveWindow(stream)
  }

  giveWindow(stream: Http2Stream | null, byteLength: number): void {
    if (this.#isClosed) return
    this.#outbox.putControl(frameType.windowUpdate, 0, stream?.id ?? 0, 1, byteLength)
  }

  #sendReset(streamId: number, code: number): void {
    if (!this.#isClosed) this.#outbox.putControl(frameType.resetStream, 0, streamId, 1, code)
  }

  #sentAll(stream: Http2Stream): void {
    if (stream.hasReceivedAll) this.#close(stream, errorCode.none, null)
    else if (this.#isServer) {
      // The rest of the request is not wanted (RFC 9113, section 8.1).
      this.#sendReset(stream.id, errorCode.none)
      this.#close(stream, errorCode.none, null, true)
    }
  }

  #close(stream: Http2Stream, code: number, error: Error | null, isReset = false): void {
    if (stream.isClosed) return
    this.#streams.remove(stream)
    this.#closed.remember(stream.id, isReset)
    this.#sender.forget(stream)
    this.#end(stream, code, error)
    if (this.#isClosed) return
    while (!this.#queued.isEmpty && this.#streams.count < this.#streamCountMax) {
      const queued = this.#queued.shift()
      if (queued === null) break
      this.#queuedCount--
      this.#begin(queued)
    }
    this.#counted()
    if (this.#isLeaving || this.#isPeerLeaving) this.#endIfDone()
  }

  #end(stream: Http2Stream, code: number, error: Error | null): void {
    stream.isClosed = true
    stream.headers = null
    stream.trailers = null
    stream.chunks.length = 0
    stream.unsentByteLength = 0
    const lefts = stream.lefts.splice(0)
    for (let i = 0; i < lefts.length; i++) {
      // A part of the first one may be under way.
      if (i === 0 && stream.sentOfFirst > 0) this.#outbox.whenLeft(lefts[i])
      else process.nextTick(lefts[i])
    }
    stream.owner.closed(code, error)
  }

  #counted(): void {
    this.#owner.streamCountChanged?.(this.streamCount)
  }

  fault(stream: Http2Stream, error: Http2Error): void {
    this.reset(stream, error.code, error)
    this.#countReset()
  }

  /** Streams that are opened only to be broken off cost us more than the peer (rapid reset, CVE-2023-44487). */
  #countReset(): void {
    if (!this.#resets.take()) throw calm('too many calls broken off')
  }

  // ---- Frames ----

  onHeaders(streamId: number, block: Buffer, hasEnded: boolean): void {
    const stream = this.#streams.get(streamId)
    if (this.#isServer && stream === null && streamId > this.#lastStreamId) this.#takeRequest(streamId, block, hasEnded)
    else if (stream !== null) this.#takeHeaders(stream, block, hasEnded)
    else {
      this.#checkClosed(streamId)
      if (!this.#control.take()) throw calm('too many headers of streams that have ended')
      // Later blocks may speak of what this one puts into the table.
      this.#decode(streamId, block, 'trailers')
    }
  }

  /** The headers of a block; null: they make no sense, and the stream is refused. Throws what ends the connection. */
  #decode(streamId: number, block: Buffer, kind: 'request' | 'response' | 'trailers'): Headers | null {
    try {
      return this.#decoder.decode(block, kind)
    } catch (error) {
      if (!(error instanceof Http2Error) || !error.isOfStream) throw error
      const stream = this.#streams.get(streamId)
      if (stream !== null) this.fault(stream, error)
      else if (kind === 'request') this.#refuse(streamId, error.code)
      return null
    }
  }

  #refuse(streamId: number, code: number): void {
    this.#sendReset(streamId, code)
    this.#closed.remember(streamId, true)
    this.#countReset()
  }

  #takeRequest(streamId: number, block: Buffer, hasEnded: boolean): void {
    if (streamId % 2 === 0) throw protocolError('a stream of a client has an even number')
    this.#lastStreamId = streamId
    const headers = this.#decode(streamId, block, 'request')
    if (headers === null) return
    if (this.#hasLeft) {
      this.#closed.remember(streamId, true)
      return
    }
    if (this.#streams.count >= this.#options.streamCountMax) {
      this.#refuseSurplus(streamId)
      return
    }
    const contentByteLength = contentByteLengthOf(headers)
    if (Number.isNaN(contentByteLength) || (hasEnded && contentByteLength > 0)) {
      this.#refuse(streamId, errorCode.protocol)
      return
    }
    const stream = new Http2Stream(this, this.#receiveWindow(), this.#sender.streamWindow)
    stream.id = streamId
    stream.hasReceivedHeaders = true
    stream.hasReceivedAll = hasEnded
    stream.contentByteLength = contentByteLength
    this.#streams.add(stream)
    this.#sender.credit(streamCreditByteLength)
    this.#counted()
    this.#owner.stream?.(stream, headers, hasEnded)
    if (hasEnded && !stream.isClosed) stream.owner.end()
  }

  /** A client that does not know yet how many streams it may open is not to be blamed. */
  #refuseSurplus(streamId: number): void {
    if (this.#isAcknowledged) this.#refuse(streamId, errorCode.refusedStream)
    else {
      this.#sendReset(streamId, errorCode.refusedStream)
      this.#closed.remember(streamId, true)
      if (!this.#control.take()) throw calm('too many streams')
    }
  }

  /** An answer, or trailers. */
  #takeHeaders(stream: Http2Stream, block: Buffer, hasEnded: boolean): void {
    const areTrailers = stream.hasReceivedHeaders
    const headers = this.#decode(stream.id, block, areTrailers ? 'trailers' : 'response')
    if (headers === null) return
    if (stream.hasReceivedAll) {
      this.fault(stream, streamError(errorCode.streamClosed, 'headers behind the end of the stream'))
      return
    }
    stream.quietCount = 0
    const isInformation = !areTrailers && headers[':status'].startsWith('1')
    if ((areTrailers && !hasEnded) || (isInformation && hasEnded)) {
      this.fault(stream, streamError(errorCode.protocol, 'headers that neither begin nor end the stream'))
      return
    }
    if (isInformation) return
    if (!areTrailers) {
      stream.hasReceivedHeaders = true
      stream.contentByteLength = contentByteLengthOf(headers)
      if (Number.isNaN(stream.contentByteLength)) {
        this.fault(stream, streamError(errorCode.protocol, 'a content-length that is no number'))
        return
      }
    }
    stream.owner.headers(headers, hasEnded)
    if (hasEnded && !stream.isClosed) this.onEnd(stream)
  }

  onEnd(stream: Http2Stream): void {
    if (stream.contentByteLength > 0) {
      this.fault(stream, streamError(errorCode.protocol, 'less DATA than its content-length'))
      return
    }
    stream.hasReceivedAll = true
    stream.owner.end()
    if (stream.hasSentAll) this.#close(stream, errorCode.none, null)
  }

  onData(streamId: number): Http2Stream | null {
    const stream = this.#streams.get(streamId)
    if (stream === null) this.#checkClosed(streamId)
    else if (stream.hasReceivedAll || !stream.hasReceivedHeaders) {
      const [code, where] = stream.hasReceivedAll
        ? ([errorCode.streamClosed, 'behind the end of the stream'] as const)
        : ([errorCode.protocol, 'before the headers'] as const)
      this.fault(stream, streamError(code, `DATA ${where}`))
      return null
    }
    return stream
  }

  /** Frames of a stream that we have reset are ignored; of one that has ended, or that never was, they end the connection. */
  #checkClosed(streamId: number): void {
    this.#checkNotIdle(streamId)
    if (this.#closed.isReset(streamId)) return
    if (this.#closed.isKnown(streamId)) throw new Http2Error(errorCode.streamClosed, `stream ${streamId} has ended`)
    throw protocolError(`stream ${streamId} was never opened, or long ago`)
  }

  #checkNotIdle(streamId: number): void {
    if (streamId % 2 === 0 || streamId > this.#lastStreamId) throw protocolError(`stream ${streamId} is not open`)
  }

  onReset(streamId: number, code: number): void {
    const stream = this.#streams.get(streamId)
    if (stream === null) {
      this.#checkNotIdle(streamId)
      if (!this.takeCredit() && !this.#control.take()) throw calm('too many resets')
      return
    }
    const isBrokenOff = this.#isServer && !stream.hasSentAll
    this.#close(stream, code, null)
    if (isBrokenOff) this.#countReset()
  }

  onWindowUpdate(streamId: number, byteLength: number): void {
    if (streamId === 0) {
      if (byteLength === 0) throw protocolError('WINDOW_UPDATE by 0')
      if (!this.#sender.addWindow(byteLength)) throw new Http2Error(errorCode.flowControl, 'the window is too large')
      return
    }
    const stream = this.#streams.get(streamId)
    if (stream === null) {
      this.#checkNotIdle(streamId)
      return
    }
    stream.sendWindow += byteLength
    if (byteLength === 0) this.fault(stream, streamError(errorCode.protocol, 'WINDOW_UPDATE by 0'))
    else if (stream.sendWindow > windowByteLengthMax) {
      this.fault(stream, streamError(errorCode.flowControl, 'the window is too large'))
    } else if (stream.isWaiting) this.#sender.offer(stream)
  }

  onSettings(payload: Buffer): void {
    // In front of what they allow to be sent.
    this.#outbox.putControl(frameType.settings, flag.acknowledged, 0, 0)
    readSettings(payload, this.#options.role, (name, value) => this.#set(name, value))
    if (this.#hasOpened) return
    this.#hasOpened = true
    this.#owner.opened?.()
  }

  #set(name: number, value: number): void {
    switch (name) {
      case setting.streamWindow: {
        const added = value - this.#sender.streamWindow
        this.#sender.streamWindow = value
        for (const stream of this.#streams.all()) {
          // It may be below 0 afterwards.
          stream.sendWindow += added
          if (stream.sendWindow > windowByteLengthMax) {
            throw new Http2Error(errorCode.flowControl, 'a window is too large')
          }
          if (added > 0 && stream.isWaiting) this.#sender.offer(stream)
        }
        break
      }
      case setting.frameSizeMax:
        this.#sender.peerFrameByteLengthMax = value
        break
      case setting.headerTableSize:
        if (value < initialHeaderTableByteLength) this.#sender.shrinkTable()
        break
      case setting.streamCountMax:
        if (!this.#isServer) this.#takeStreamCountMax(value)
    }
  }

  #takeStreamCountMax(count: number): void {
    this.#streamCountMax = count
    while (!this.#queued.isEmpty && this.#streams.count < count) {
      const stream = this.#queued.shift()
      if (stream === null) return
      this.#queuedCount--
      this.#begin(stream)
    }
  }

  onSettingsAcknowledged(): void {
    this.#isAcknowledged = true
  }

  onPing(first: number, second: number): void {
    this.#outbox.putControl(frameType.ping, flag.acknowledged, 0, 2, first, second)
  }

  onPingAnswered(number: number): void {
    if (number === leavingPing) {
      if (!this.#isLeaving || this.#hasLeft || !this.#isServer) return
      this.#hasLeft = true
      this.#outbox.putControl(frameType.goAway, 0, 0, 2, this.#lastStreamId, errorCode.none)
      this.#endIfDone()
      return
    }
    if (this.#pings[0]?.number === number) this.#pings.shift()?.onAnswer()
  }

  takeCredit(): boolean {
    return this.#sender.takeCredit()
  }

  onGoAway(lastStreamId: number, code: number, _text: string): void {
    this.#isPeerLeaving = true
    this.#owner.leaving?.(code)
    if (this.#isServer) return
    this.#dropQueued(null)
    for (const stream of this.#streams.all()) {
      if (stream.id > lastStreamId) this.#close(stream, errorCode.refusedStream, null)
    }
    this.#counted()
    this.#endIfDone()
  }
}

/** An owner has thrown: its connection cannot be trusted any more, the others can. */
function defect(cause: unknown): Http2Error {
  return new Http2Error(errorCode.internal, 'a defect', false, { cause })
}
