// One HTTP/2 connection on a socket, of either role: cleartext, with prior knowledge, without pushes and priorities (RFC 9113).
//
//   socket → FrameReader → Receiver → Http2Connection → StreamOwner
//   socket ← Outbox ← Sender ← Http2Stream ← StreamOwner
import type { Duplex } from 'node:stream'
import { Allowance } from './allowance.js'
import { calm, errorCode, Http2Error, protocolError, streamError } from './errors.js'
import {
  flag,
  frameType,
  initialHeaderTableByteLength,
  preface,
  setting,
  streamIdMax,
  windowByteLengthMax,
} from './frames.js'
import { type BlockKind, HeaderDecoder, type Headers } from './hpack.js'
import { Outbox } from './outbox.js'
import type { ConnectionOptions, ConnectionOwner, StreamOwner } from './owners.js'
import { type FrameTarget, Receiver } from './receiver.js'
import { greeting, readSettings } from './settings.js'
import { contentByteLengthOf, type Http2Stream } from './stream.js'
import { Streams, type StreamsOwner } from './streams.js'

/** Answers to frames that the peer may send at will; one that does not take them is ended. */
const controlByteLengthMax = 64 * 1024
/** After the last word the peer has so long to read it; what it sends is thrown away. */
const lingerMs = 1000
/** The PING that follows a first GOAWAY: its answer says that the peer knows of it. Others are counted from 1. */
const leavingPing = 0

export class Http2Connection implements FrameTarget, StreamsOwner {
  readonly #socket: Duplex
  readonly #options: ConnectionOptions
  readonly #owner: ConnectionOwner
  readonly #isServer: boolean
  readonly #outbox: Outbox
  readonly #receiver: Receiver
  readonly #decoder: HeaderDecoder
  readonly #control: Allowance
  readonly #streams: Streams
  #hasOpened = false
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
    const onRoom = (): void => {
      this.#streams.sender.pump()
      this.#endIfDone()
    }
    this.#outbox = new Outbox(socket, onRoom, (error) => this.#onDefect(error))
    this.#streams = new Streams(options, this.#outbox, this)
    this.#control = new Allowance(options.controlBurstMax, options.controlPerSecondMax)
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
    return this.#streams.count
  }

  /** New streams may be opened. */
  get isUsable(): boolean {
    return !this.#isClosed && !this.#isLeaving && !this.#isPeerLeaving && this.#streams.lastId + 2 <= streamIdMax
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
    return this.#streams.open(headerBlock, hasEnded, owner)
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
    this.#outbox.putControl(frameType.goAway, 0, 0, 2, this.#isServer ? this.#streams.lastId : 0, code)
    this.#finish(error)
  }

  // ---- Life of the connection ----

  /** A defect ends its connection, not the process. Of one that is gone its owner hears no more. */
  #onDefect(cause: unknown): void {
    if (this.#isClosed) process.emitWarning(cause instanceof Error ? cause : String(cause), 'framesd')
    else this.destroy(defect(cause), errorCode.internal)
  }

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
    this.#streams.closeAll(code, error)
    this.#owner.closed(error)
  }

  #endIfDone(): void {
    const isDone = (this.#hasLeft || (this.#isPeerLeaving && !this.#isServer)) && this.streamCount === 0
    // Streams have ended when all of theirs is handed on. A peer that reads slowly gets it before the last second begins.
    if (isDone && this.#outbox.unsentByteLength === 0) this.#finish(null)
  }

  // ---- Streams ----

  counted(): void {
    if (this.#isClosed) return
    this.#owner.streamCountChanged?.(this.streamCount)
    this.#endIfDone()
  }

  resumed(stream: Http2Stream): void {
    this.#receiver.giveWindow(stream)
  }

  giveWindow(stream: Http2Stream | null, byteLength: number): void {
    if (this.#isClosed) return
    this.#outbox.putControl(frameType.windowUpdate, 0, stream?.id ?? 0, 1, byteLength)
  }

  fault(stream: Http2Stream, error: Http2Error): void {
    this.#streams.fault(stream, error)
  }

  // ---- Frames ----

  onHeaders(streamId: number, block: Buffer, hasEnded: boolean): void {
    const stream = this.#streams.get(streamId)
    if (this.#isServer && stream === null && streamId > this.#streams.lastId)
      this.#takeRequest(streamId, block, hasEnded)
    else if (stream !== null) this.#takeHeaders(stream, block, hasEnded)
    else {
      this.#streams.checkClosed(streamId)
      if (!this.#control.take()) throw calm('too many headers of streams that have ended')
      // Later blocks may speak of what this one puts into the table.
      this.#decode(streamId, block, 'trailers')
    }
  }

  /** The headers of a block; null: they make no sense, and the stream is refused. Throws what ends the connection. */
  #decode(streamId: number, block: Buffer, kind: BlockKind): Headers | null {
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
    this.#streams.refuse(streamId, code)
    this.#streams.countReset()
  }

  #takeRequest(streamId: number, block: Buffer, hasEnded: boolean): void {
    if (streamId % 2 === 0) throw protocolError('a stream of a client has an even number')
    this.#streams.lastId = streamId
    const headers = this.#decode(streamId, block, 'request')
    if (headers === null) return
    if (this.#hasLeft) {
      this.#streams.ignore(streamId)
      return
    }
    if (this.#streams.openCount >= this.#options.streamCountMax) {
      this.#refuseSurplus(streamId)
      return
    }
    const contentByteLength = contentByteLengthOf(headers)
    if (Number.isNaN(contentByteLength) || (hasEnded && contentByteLength > 0)) {
      this.#refuse(streamId, errorCode.protocol)
      return
    }
    const stream = this.#streams.take(streamId, hasEnded, contentByteLength)
    this.#owner.stream?.(stream, headers, hasEnded)
    if (hasEnded && !stream.isClosed) stream.owner.end()
  }

  /** A client that does not know yet how many streams it may open is not to be blamed. */
  #refuseSurplus(streamId: number): void {
    this.#streams.refuse(streamId, errorCode.refusedStream)
    if (this.#streams.isAcknowledged) this.#streams.countReset()
    else if (!this.#control.take()) throw calm('too many streams')
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
    if (stream.hasSentAll) this.#streams.close(stream, errorCode.none, null)
  }

  onData(streamId: number): Http2Stream | null {
    const stream = this.#streams.get(streamId)
    if (stream === null) this.#streams.checkClosed(streamId)
    else if (stream.hasReceivedAll || !stream.hasReceivedHeaders) {
      const [code, where] = stream.hasReceivedAll
        ? ([errorCode.streamClosed, 'behind the end of the stream'] as const)
        : ([errorCode.protocol, 'before the headers'] as const)
      this.fault(stream, streamError(code, `DATA ${where}`))
      return null
    }
    return stream
  }

  onReset(streamId: number, code: number): void {
    const stream = this.#streams.get(streamId)
    if (stream === null) {
      this.#streams.checkNotIdle(streamId)
      if (!this.takeCredit() && !this.#control.take()) throw calm('too many resets')
      return
    }
    const isBrokenOff = this.#isServer && !stream.hasSentAll
    this.#streams.close(stream, code, null)
    if (isBrokenOff) this.#streams.countReset()
  }

  onWindowUpdate(streamId: number, byteLength: number): void {
    if (streamId === 0) {
      if (byteLength === 0) throw protocolError('WINDOW_UPDATE by 0')
      if (!this.#streams.sender.addWindow(byteLength))
        throw new Http2Error(errorCode.flowControl, 'the window is too large')
      return
    }
    const stream = this.#streams.get(streamId)
    if (stream === null) {
      this.#streams.checkNotIdle(streamId)
      return
    }
    stream.sendWindow += byteLength
    if (byteLength === 0) this.fault(stream, streamError(errorCode.protocol, 'WINDOW_UPDATE by 0'))
    else if (stream.sendWindow > windowByteLengthMax) {
      this.fault(stream, streamError(errorCode.flowControl, 'the window is too large'))
    } else if (stream.isWaiting) this.#streams.sender.offer(stream)
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
      case setting.streamWindow:
        this.#streams.setWindow(value)
        break
      case setting.frameSizeMax:
        this.#streams.sender.peerFrameByteLengthMax = value
        break
      case setting.headerTableSize:
        if (value < initialHeaderTableByteLength) this.#streams.sender.shrinkTable()
        break
      case setting.streamCountMax:
        if (!this.#isServer) this.#streams.allow(value)
    }
  }

  onSettingsAcknowledged(): void {
    this.#streams.isAcknowledged = true
  }

  onPing(first: number, second: number): void {
    this.#outbox.putControl(frameType.ping, flag.acknowledged, 0, 2, first, second)
  }

  onPingAnswered(number: number): void {
    if (number === leavingPing) {
      if (!this.#isLeaving || this.#hasLeft || !this.#isServer) return
      this.#hasLeft = true
      this.#outbox.putControl(frameType.goAway, 0, 0, 2, this.#streams.lastId, errorCode.none)
      this.#endIfDone()
      return
    }
    if (this.#pings[0]?.number === number) this.#pings.shift()?.onAnswer()
  }

  takeCredit(): boolean {
    return this.#streams.sender.takeCredit()
  }

  onGoAway(lastStreamId: number, code: number, _text: string): void {
    this.#isPeerLeaving = true
    this.#owner.leaving?.(code)
    if (this.#isServer) return
    this.#streams.drop(lastStreamId, null)
    this.counted()
  }
}

/** An owner has thrown: its connection cannot be trusted any more, the others can. */
function defect(cause: unknown): Http2Error {
  return new Http2Error(errorCode.internal, 'a defect', false, { cause })
}
