// What leaves a connection. All that is said within one turn of the event loop leaves in one write; while that is under
// way the next is gathered. Small pieces are copied together, large ones stand as they are.
import type { Duplex } from 'node:stream'
import { flag, frameType, headByteLength, putHead, putUint32 } from './frames.js'

/** Pieces below this are copied: cheaper than a vector of its own. */
const copiedByteLengthMax = 4 * 1024
const blockByteLength = 16 * 1024
/** Blocks kept for those to come, of all connections. */
const freeBlockCountMax = 64
const freeBlocks: Buffer[] = []

/** Sent bytes are gathered up to this; what is beyond stays with its stream, where it can be counted, and given up. */
const gatheredByteLengthMax = 256 * 1024

export class Outbox {
  readonly #socket: Duplex
  readonly #onRoom: () => void
  readonly #onDefect: (error: unknown) => void
  /** The block that is being filled, from #blockStart (behind what stands in #pieces) to #blockEnd. */
  #block: Buffer | null = null
  #blockStart = 0
  #blockEnd = 0
  #pieces: Buffer[] = []
  #blocks: Buffer[] = []
  /** Whose bytes are in what is gathered, told when it has left. */
  #lefts: (() => void)[] = []
  #byteLength = 0
  /** Of answers to what the peer asks without our being able to say no. */
  #controlByteLength = 0
  #flyingBlocks: Buffer[] = []
  #flyingLefts: (() => void)[] = []
  #flyingByteLength = 0
  #isFlying = false
  #isScheduled = false
  #isClosed = false
  readonly #onTick = (): void => {
    this.#isScheduled = false
    try {
      this.#flush()
    } catch (error) {
      this.#onDefect(error)
    }
  }
  readonly #onWritten = (error?: Error | null): void => {
    // Of a socket that is gone: `release` is called once it is closed.
    if (error) return
    try {
      this.#land()
      if (this.#isClosed) return
      this.#onRoom()
      this.#flush()
    } catch (defect) {
      this.#onDefect(defect)
    }
  }

  /**
   * onRoom: told when what was gathered has left, before what has come meanwhile does.
   * onDefect: told what those have thrown that were told of their bytes; nobody else would catch it.
   */
  constructor(socket: Duplex, onRoom: () => void, onDefect: (error: unknown) => void) {
    this.#socket = socket
    this.#onRoom = onRoom
    this.#onDefect = onDefect
  }

  /** Bytes of answers that may be put now; 0 or less: none. */
  get roomByteLength(): number {
    return gatheredByteLengthMax - this.#byteLength
  }

  get unsentByteLength(): number {
    return this.#byteLength + this.#flyingByteLength
  }

  get controlByteLength(): number {
    return this.#controlByteLength
  }

  /** A frame of a payload of four or eight bytes, or none. */
  putControl(type: number, flags: number, streamId: number, words: number, first = 0, second = 0): void {
    const byteLength = headByteLength + 4 * words
    const block = this.#reserve(byteLength)
    let at = putHead(block, this.#blockEnd, 4 * words, type, flags, streamId)
    if (words > 0) at = putUint32(block, at, first)
    if (words > 1) putUint32(block, at, second)
    this.#blockEnd += byteLength
    this.#controlByteLength += byteLength
    this.#added(byteLength)
  }

  /** Whole frames. */
  putBytes(bytes: Buffer): void {
    this.#put(bytes)
    this.#added(bytes.byteLength)
  }

  /** A header block; as many frames as the peer takes at once. */
  putHeaders(streamId: number, block: Buffer, hasEnded: boolean, frameByteLengthMax: number): void {
    const endStream = hasEnded ? flag.endStream : 0
    const { byteLength } = block
    if (byteLength <= frameByteLengthMax) {
      this.#putHead(byteLength, frameType.headers, endStream | flag.endHeaders, streamId)
      this.#put(block)
      this.#added(headByteLength + byteLength)
      return
    }
    for (let start = 0; start < byteLength; start += frameByteLengthMax) {
      const part = block.subarray(start, start + frameByteLengthMax)
      const isLast = start + frameByteLengthMax >= byteLength
      const flags = (isLast ? flag.endHeaders : 0) | (start === 0 ? endStream : 0)
      this.#putHead(part.byteLength, start === 0 ? frameType.headers : frameType.continuation, flags, streamId)
      this.#put(part)
      this.#added(headByteLength + part.byteLength)
    }
  }

  /** DATA: the bytes [start, end) of a chunk, which must not change before they have left. */
  putData(streamId: number, chunk: Buffer, start: number, end: number, hasEnded: boolean): void {
    const byteLength = end - start
    this.#putHead(byteLength, frameType.data, hasEnded ? flag.endStream : 0, streamId)
    if (byteLength > 0) this.#put(start === 0 && end === chunk.byteLength ? chunk : chunk.subarray(start, end))
    this.#added(headByteLength + byteLength)
  }

  /** Told when all that was put up to now has left. */
  whenLeft(onLeft: () => void): void {
    this.#lefts.push(onLeft)
    this.#schedule()
  }

  #putHead(byteLength: number, type: number, flags: number, streamId: number): void {
    const block = this.#reserve(headByteLength)
    this.#blockEnd = putHead(block, this.#blockEnd, byteLength, type, flags, streamId)
  }

  #put(bytes: Buffer): void {
    const { byteLength } = bytes
    if (byteLength < copiedByteLengthMax) {
      const block = this.#reserve(byteLength)
      block.set(bytes, this.#blockEnd)
      this.#blockEnd += byteLength
    } else {
      this.#cut()
      this.#pieces.push(bytes)
    }
  }

  /** A block with so much room. */
  #reserve(byteLength: number): Buffer {
    if (this.#block !== null && this.#blockEnd + byteLength <= blockByteLength) return this.#block
    this.#cut()
    this.#block = freeBlocks.pop() ?? Buffer.allocUnsafeSlow(blockByteLength)
    this.#blocks.push(this.#block)
    this.#blockStart = 0
    this.#blockEnd = 0
    return this.#block
  }

  /** What the block holds stands before what comes. */
  #cut(): void {
    if (this.#block === null || this.#blockEnd === this.#blockStart) return
    this.#pieces.push(this.#block.subarray(this.#blockStart, this.#blockEnd))
    this.#blockStart = this.#blockEnd
  }

  #added(byteLength: number): void {
    this.#byteLength += byteLength
    this.#schedule()
  }

  #schedule(): void {
    if (this.#isScheduled || this.#isFlying) return
    this.#isScheduled = true
    process.nextTick(this.#onTick)
  }

  #flush(): void {
    if (this.#isFlying || this.#isClosed) return
    this.#cut()
    const pieces = this.#pieces
    if (pieces.length === 0) {
      if (this.#lefts.length > 0) this.#land()
      return
    }
    this.#takeOff()
    if (pieces.length === 1) this.#socket.write(pieces[0], this.#onWritten)
    else {
      this.#socket.cork()
      const last = pieces.length - 1
      for (let i = 0; i < last; i++) this.#socket.write(pieces[i])
      this.#socket.write(pieces[last], this.#onWritten)
      this.#socket.uncork()
    }
    // A list made shorter by its length, or by splice, is a call into V8.
    while (pieces.length > 0) pieces.pop()
  }

  #takeOff(): void {
    this.#isFlying = true
    const [blocks, lefts] = [this.#flyingBlocks, this.#flyingLefts]
    this.#flyingBlocks = this.#blocks
    this.#flyingLefts = this.#lefts
    this.#flyingByteLength = this.#byteLength
    this.#blocks = blocks
    this.#lefts = lefts
    this.#block = null
    this.#byteLength = 0
    this.#controlByteLength = 0
  }

  /** What was under way has left. */
  #land(): void {
    const lefts = this.#isFlying ? this.#flyingLefts : this.#lefts
    this.#isFlying = false
    this.#flyingByteLength = 0
    const blocks = this.#flyingBlocks
    for (let block = blocks.pop(); block !== undefined; block = blocks.pop())
      if (freeBlocks.length < freeBlockCountMax) freeBlocks.push(block)
    if (lefts.length === 0) return
    // They may ask for more: those that are told then stand in the other list.
    if (lefts === this.#flyingLefts) this.#flyingLefts = []
    else this.#lefts = []
    callAll(lefts)
  }

  /** Sends what is gathered and ends the socket behind it. */
  end(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    if (this.#socket.destroyed) return
    this.#cut()
    for (const piece of this.#pieces) this.#socket.write(piece)
    this.#socket.end()
  }

  /** The socket is closed: nobody reads these bytes any more. */
  release(): void {
    this.#isClosed = true
    this.#pieces.length = 0
    try {
      callAll([...this.#flyingLefts.splice(0), ...this.#lefts.splice(0)])
    } catch (error) {
      this.#onDefect(error)
    }
  }
}

/** They may ask for more: none of that is called here. Each is called, also when one before it throws; then throws what the first threw. */
function callAll(lefts: readonly (() => void)[]): void {
  let failure: { readonly error: unknown } | null = null
  for (let i = 0; i < lefts.length; i++) {
    try {
      lefts[i]()
    } catch (error) {
      failure ??= { error }
    }
  }
  if (failure !== null) throw failure.error
}
