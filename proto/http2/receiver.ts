// The receiving half of a connection: which frames may come, header blocks put together, DATA within the windows given.
import type { Allowance } from './allowance.js'
import { calm, errorCode, Http2Error, protocolError, streamError } from './errors.js'
import { type FrameSink, FrameReader } from './frame-reader.js'
import { flag, frameType, initialWindowByteLength, uint32At } from './frames.js'
import type { ConnectionOptions } from './owners.js'
import type { Http2Stream } from './stream.js'

/** What the connection does about what has come. */
export interface FrameTarget {
  /** The stream that DATA is for; null: it is thrown away. */
  onData(streamId: number): Http2Stream | null
  /** A header block has come whole; its memory may be reused afterwards. */
  onHeaders(streamId: number, block: Buffer, hasEnded: boolean): void
  onReset(streamId: number, code: number): void
  onSettings(payload: Buffer): void
  onSettingsAcknowledged(): void
  onPing(first: number, second: number): void
  onPingAnswered(second: number): void
  onGoAway(lastStreamId: number, code: number, text: string): void
  /** streamId 0: of the connection. */
  onWindowUpdate(streamId: number, byteLength: number): void
  /** Gives a stream, or (null) the connection, more window. */
  giveWindow(stream: Http2Stream | null, byteLength: number): void
  /** The peer may say a word about what it was sent: a window update, or a PING that measures the line. */
  takeCredit(): boolean
  /** Ends a stream with a reset, through the peer's fault. */
  fault(stream: Http2Stream, error: Http2Error): void
  /** All DATA of a stream has come. */
  onEnd(stream: Http2Stream): void
}

/** Frames of a header block; peers fill theirs. */
const continuationCountMax = 32
/** A peer that has more to set than there are settings wants something else. */
const settingsByteLengthMax = 1024
const goAwayByteLengthKept = 256
/** A header block is never much longer than its list: a few table updates, and numbers that are written long. */
const blockByteLengthExtra = 4096
const headersExtraByteLength = 256 + 5

export class Receiver implements FrameSink {
  readonly #target: FrameTarget
  readonly #options: ConnectionOptions
  readonly #control: Allowance
  readonly #reader: FrameReader
  #hasSettings = false
  /** Of the connection: what the peer may still send, and what it is to be given again. */
  #window: number
  #ungivenByteLength = 0
  /** The stream of the DATA frame that is coming. */
  #dataStream: Http2Stream | null = null
  #dataByteLength = 0
  #hasPiece = false
  /** The header block that is coming; 0: none. */
  #blockStreamId = 0
  #blockHasEnded = false
  readonly #blockParts: Buffer[] = []
  #blockByteLength = 0

  /** control: for frames that ask for work and bring nothing. */
  constructor(target: FrameTarget, options: ConnectionOptions, control: Allowance) {
    this.#target = target
    this.#options = options
    this.#control = control
    this.#window = Math.max(options.sessionWindowByteLength, initialWindowByteLength)
    this.#reader = new FrameReader(this, options.role === 'server')
  }

  read(chunk: Buffer): void {
    this.#reader.read(chunk)
  }

  stop(): void {
    this.#reader.stop()
    this.#blockParts.length = 0
    this.#dataStream = null
  }

  // ---- Any frame ----

  head(type: number, flags: number, streamId: number, byteLength: number): number {
    if (byteLength > this.#options.dataFrameByteLengthMax) throw frameSizeError(type, byteLength)
    this.#checkOrder(type, streamId)
    switch (type) {
      case frameType.headers:
        if (streamId === 0) throw protocolError('HEADERS of no stream')
        this.#checkBlock(byteLength - headersExtraByteLength)
        return byteLength
      case frameType.continuation:
        if (this.#blockParts.length >= continuationCountMax) throw calm('header blocks in too many pieces')
        this.#checkBlock(byteLength)
        return byteLength
      case frameType.settings:
        if (streamId !== 0) throw protocolError('SETTINGS of a stream')
        if (byteLength % 6 !== 0 || ((flags & flag.acknowledged) !== 0 && byteLength > 0)) {
          throw frameSizeError(type, byteLength)
        }
        if (byteLength > settingsByteLengthMax) throw calm('too many settings')
        return byteLength
      case frameType.ping:
        if (streamId !== 0) throw protocolError('PING of a stream')
        return exactly(8, type, byteLength)
      case frameType.goAway:
        if (streamId !== 0) throw protocolError('GOAWAY of a stream')
        if (byteLength < 8) throw frameSizeError(type, byteLength)
        return Math.min(byteLength, goAwayByteLengthKept)
      case frameType.windowUpdate:
        return exactly(4, type, byteLength)
      case frameType.resetStream:
        if (streamId === 0) throw protocolError('RST_STREAM of no stream')
        return exactly(4, type, byteLength)
      case frameType.priority:
        if (streamId === 0) throw protocolError('PRIORITY of no stream')
        return exactly(5, type, byteLength)
      case frameType.pushPromise:
        throw protocolError('PUSH_PROMISE')
      default:
        this.#spend(1)
        return 0
    }
  }

  #checkOrder(type: number, streamId: number): void {
    if (!this.#hasSettings && type !== frameType.settings) throw protocolError('the first frame is not SETTINGS')
    const isWithin = this.#blockStreamId !== 0
    if (isWithin !== (type === frameType.continuation) || (isWithin && streamId !== this.#blockStreamId)) {
      throw protocolError('a header block is interrupted, or goes on where there is none')
    }
  }

  #checkBlock(byteLength: number): void {
    const byteLengthMax = this.#options.headerListByteLengthMax + blockByteLengthExtra
    // Not even decoded, so that nothing after it can be.
    if (this.#blockByteLength + byteLength > byteLengthMax) throw calm(`a header block above ${byteLengthMax} bytes`)
  }

  frame(type: number, flags: number, streamId: number, payload: Buffer): void {
    switch (type) {
      case frameType.headers:
        this.#takeHeaders(flags, streamId, payload)
        break
      case frameType.continuation:
        this.#takeBlock(payload, (flags & flag.endHeaders) !== 0)
        break
      case frameType.windowUpdate:
        if (!this.#target.takeCredit()) this.#spend(1)
        this.#target.onWindowUpdate(streamId, uint32At(payload, 0) & 0x7fffffff)
        break
      case frameType.ping:
        if ((flags & flag.acknowledged) !== 0) {
          this.#spend(1)
          this.#target.onPingAnswered(uint32At(payload, 4))
        } else {
          if (!this.#target.takeCredit()) this.#spend(1)
          this.#target.onPing(uint32At(payload, 0), uint32At(payload, 4))
        }
        break
      case frameType.settings:
        this.#takeSettings(flags, payload)
        break
      case frameType.resetStream:
        this.#target.onReset(streamId, uint32At(payload, 0))
        break
      case frameType.priority:
        checkDependency(streamId, payload, 0)
        this.#spend(1)
        break
      case frameType.goAway:
        this.#spend(1)
        this.#target.onGoAway(uint32At(payload, 0) & 0x7fffffff, uint32At(payload, 4), payload.toString('latin1', 8))
        break
    }
  }

  /** A peer whose frames bring nothing is ended. */
  #spend(count: number): void {
    if (!this.#control.take(count)) throw calm('too many frames that bring nothing')
  }

  #takeSettings(flags: number, payload: Buffer): void {
    if ((flags & flag.acknowledged) !== 0) {
      if (!this.#hasSettings) throw protocolError('the first frame is not SETTINGS')
      this.#spend(1)
      this.#target.onSettingsAcknowledged()
      return
    }
    // Each may change the windows of all streams.
    if (this.#hasSettings) this.#spend(10 + payload.byteLength)
    this.#hasSettings = true
    this.#target.onSettings(payload)
  }

  // ---- Header blocks ----

  #takeHeaders(flags: number, streamId: number, payload: Buffer): void {
    let start = 0
    let end = payload.byteLength
    if ((flags & flag.padded) !== 0) {
      if (end === 0) throw frameSizeError(frameType.headers, end)
      start = 1
      end -= payload[0]
    }
    if ((flags & flag.priority) !== 0) {
      if (payload.byteLength < start + 5) throw frameSizeError(frameType.headers, payload.byteLength)
      checkDependency(streamId, payload, start)
      start += 5
    }
    if (start > end) throw protocolError('the padding of HEADERS is longer than the frame')
    const block = start === 0 && end === payload.byteLength ? payload : payload.subarray(start, end)
    const hasEnded = (flags & flag.endStream) !== 0
    if ((flags & flag.endHeaders) !== 0) {
      this.#target.onHeaders(streamId, block, hasEnded)
      return
    }
    this.#blockStreamId = streamId
    this.#blockHasEnded = hasEnded
    this.#takeBlock(block, false)
  }

  #takeBlock(part: Buffer, isLast: boolean): void {
    this.#blockParts.push(Buffer.from(part))
    this.#blockByteLength += part.byteLength
    if (!isLast) return
    const block = Buffer.concat(this.#blockParts)
    const streamId = this.#blockStreamId
    this.#blockParts.length = 0
    this.#blockByteLength = 0
    this.#blockStreamId = 0
    this.#target.onHeaders(streamId, block, this.#blockHasEnded)
  }

  // ---- DATA ----

  dataHead(_flags: number, streamId: number, byteLength: number): void {
    if (byteLength > this.#options.dataFrameByteLengthMax) throw frameSizeError(frameType.data, byteLength)
    this.#checkOrder(frameType.data, streamId)
    if (streamId === 0) throw protocolError('DATA of no stream')
    this.#window -= byteLength
    if (this.#window < 0) throw new Http2Error(errorCode.flowControl, 'more DATA than the connection has window for')
    this.#ungivenByteLength += byteLength
    // Given again whatever becomes of it: streams that wait never stop the others.
    if (this.#ungivenByteLength >= this.#options.sessionWindowByteLength / 2) {
      this.#target.giveWindow(null, this.#ungivenByteLength)
      this.#window += this.#ungivenByteLength
      this.#ungivenByteLength = 0
    }
    const stream = this.#target.onData(streamId)
    this.#dataStream = stream
    this.#dataByteLength = byteLength
    this.#hasPiece = false
    if (stream === null) return
    stream.quietCount = 0
    stream.receiveWindow -= byteLength
    if (stream.receiveWindow < 0) {
      this.#dataStream = null
      this.#target.fault(stream, streamError(errorCode.flowControl, 'more DATA than the stream has window for'))
    }
  }

  dataPiece(piece: Buffer): void {
    this.#hasPiece = true
    const stream = this.#dataStream
    if (stream === null || stream.isClosed) return
    if (stream.contentByteLength >= 0) {
      stream.contentByteLength -= piece.byteLength
      if (stream.contentByteLength < 0) {
        this.#target.fault(stream, streamError(errorCode.protocol, 'more DATA than its content-length'))
        return
      }
    }
    stream.owner.data(piece)
  }

  dataEnd(flags: number): void {
    const stream = this.#dataStream
    this.#dataStream = null
    const hasEnded = (flags & flag.endStream) !== 0
    if (!this.#hasPiece && (stream === null || !hasEnded)) this.#spend(1)
    if (stream === null || stream.isClosed) return
    if (hasEnded) {
      this.#target.onEnd(stream)
      return
    }
    stream.ungivenByteLength += this.#dataByteLength
    if (!stream.isPaused) this.giveWindow(stream)
  }

  /** Gives a stream again what it has used, once it is worth a frame. */
  giveWindow(stream: Http2Stream): void {
    const byteLength = stream.ungivenByteLength
    if (stream.hasReceivedAll || byteLength < this.#options.streamWindowByteLength / 2) return
    stream.ungivenByteLength = 0
    stream.receiveWindow += byteLength
    this.#target.giveWindow(stream, byteLength)
  }
}

function exactly(expected: number, type: number, byteLength: number): number {
  if (byteLength !== expected) throw frameSizeError(type, byteLength)
  return byteLength
}

function checkDependency(streamId: number, payload: Buffer, at: number): void {
  if ((uint32At(payload, at) & 0x7fffffff) === streamId) throw protocolError('a stream depends on itself')
}

function frameSizeError(type: number, byteLength: number): Http2Error {
  return new Http2Error(errorCode.frameSize, `a frame of type ${type} with ${byteLength} bytes`)
}
