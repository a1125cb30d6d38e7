// The sending half of a connection: streams take turns within the windows of the peer and the room of the outbox.
import { frameByteLengthMin, initialWindowByteLength, windowByteLengthMax } from './frames.js'
import type { Outbox } from './outbox.js'
import { type Http2Stream, StreamList } from './stream.js'

/** What one stream sends in its turn while others wait: a large answer holds a small one up for so long. */
const turnByteLengthMax = 64 * 1024

/** For so many bytes sent the peer may say a word: a window update, or a PING that measures the line. */
const creditedByteLength = 1024
const creditByteLengthMax = 64 * 1024 * 1024

enum Left {
  /** All that was given has been handed on. */
  nothing,
  /** The rest waits for the peer to give the stream more window. */
  forStreamWindow,
  forConnectionWindow,
  /** The rest waits for room, or for its next turn. */
  forRoom,
}

export class Sender {
  readonly #outbox: Outbox
  readonly #onSentAll: (stream: Http2Stream) => void
  readonly #frameByteLengthMax: number
  #peerFrameByteLengthMax = frameByteLengthMin
  #window = initialWindowByteLength
  /** Of new streams. */
  streamWindow = initialWindowByteLength
  readonly #ready = new StreamList()
  readonly #windowless = new StreamList()
  /** The peer wants to be told that the table of its decoder shrinks, in the next header block (RFC 7541, section 4.2). */
  #isTableShrinking = false

  #creditByteLength = 0

  /** frameByteLengthMax: of what is sent, however much the peer takes. onSentAll: all of a stream has been handed on. */
  constructor(outbox: Outbox, frameByteLengthMax: number, onSentAll: (stream: Http2Stream) => void) {
    this.#outbox = outbox
    this.#frameByteLengthMax = frameByteLengthMax
    this.#onSentAll = onSentAll
  }

  set peerFrameByteLengthMax(byteLength: number) {
    this.#peerFrameByteLengthMax = byteLength
  }

  /** Our encoder has no table: it says so once, and that holds for whatever the peer allows later. */
  shrinkTable(): void {
    this.#isTableShrinking = true
  }

  credit(byteLength: number): void {
    this.#creditByteLength = Math.min(creditByteLengthMax, this.#creditByteLength + byteLength)
  }

  /** False: the peer has said more than what it was sent explains. */
  takeCredit(): boolean {
    if (this.#creditByteLength < creditedByteLength) return false
    this.#creditByteLength -= creditedByteLength
    return true
  }

  /** More window for the connection; false: it would be larger than may be. */
  addWindow(byteLength: number): boolean {
    this.#window += byteLength
    if (this.#window > windowByteLengthMax) return false
    for (let stream = this.#windowless.shift(); stream !== null; stream = this.#windowless.shift()) {
      this.#ready.push(stream)
    }
    this.pump()
    return true
  }

  /** A stream has something more to send, or more window for it. */
  offer(stream: Http2Stream): void {
    if (stream.list !== null || stream.id === 0 || stream.isClosed) return
    if (this.#ready.isEmpty && this.#outbox.roomByteLength > 0) this.#settle(stream, this.#advance(stream, Infinity))
    else this.#ready.push(stream)
  }

  /** The stream is closed. */
  forget(stream: Http2Stream): void {
    stream.list?.remove(stream)
  }

  /** Hands on what there is room for. */
  pump(): void {
    while (!this.#ready.isEmpty && this.#outbox.roomByteLength > 0) {
      const stream = this.#ready.shift()
      if (stream === null) return
      this.#settle(stream, this.#advance(stream, this.#ready.isEmpty ? Infinity : turnByteLengthMax))
    }
  }

  #settle(stream: Http2Stream, left: Left): void {
    if (left === Left.forRoom) this.#ready.push(stream)
    else if (left === Left.forConnectionWindow) this.#windowless.push(stream)
    else if (left === Left.nothing && stream.isEnding && !stream.hasSentAll) {
      stream.hasSentAll = true
      this.#onSentAll(stream)
    }
  }

  #advance(stream: Http2Stream, turnByteLength: number): Left {
    const outbox = this.#outbox
    stream.quietCount = 0
    if (stream.headers !== null) {
      this.putHeaders(stream.id, stream.headers, stream.headersEnd)
      stream.headers = null
      if (stream.headersEnd) return Left.nothing
    }
    const { chunks } = stream
    const endsWithData = stream.isEnding && stream.trailers === null
    const frameMax = Math.min(this.#frameByteLengthMax, this.#peerFrameByteLengthMax)
    let turn = turnByteLength
    while (chunks.length > 0) {
      const chunk = chunks[0]
      const start = stream.sentOfFirst
      const rest = chunk.byteLength - start
      const isLast = endsWithData && chunks.length === 1
      if (rest > 0) {
        if (stream.sendWindow <= 0) return Left.forStreamWindow
        if (this.#window <= 0) return Left.forConnectionWindow
        const room = Math.min(outbox.roomByteLength, turn)
        if (room <= 0) return Left.forRoom
        const byteLength = Math.min(rest, frameMax, stream.sendWindow, this.#window, room)
        outbox.putData(stream.id, chunk, start, start + byteLength, isLast && byteLength === rest)
        stream.sendWindow -= byteLength
        this.#window -= byteLength
        stream.unsentByteLength -= byteLength
        turn -= byteLength
        this.credit(byteLength)
        stream.sentOfFirst = start + byteLength
        if (byteLength < rest) continue
      } else if (isLast) outbox.putData(stream.id, chunk, 0, 0, true)
      stream.sentOfFirst = 0
      chunks.shift()
      outbox.whenLeft(stream.lefts.shift()!)
      if (isLast) return Left.nothing
    }
    if (stream.trailers !== null) this.putHeaders(stream.id, stream.trailers, true)
    else if (stream.isEnding && !stream.hasSentAll) outbox.putData(stream.id, noBytes, 0, 0, true)
    stream.trailers = null
    return Left.nothing
  }

  putHeaders(streamId: number, block: Buffer, hasEnded: boolean): void {
    const whole = this.#isTableShrinking ? Buffer.concat([tableSizeZero, block]) : block
    this.#isTableShrinking = false
    this.#outbox.putHeaders(streamId, whole, hasEnded, this.#peerFrameByteLengthMax)
  }
}

const noBytes = Buffer.alloc(0)
/** A dynamic table size update (RFC 7541, section 6.3). */
const tableSizeZero = Buffer.from([0x20])
