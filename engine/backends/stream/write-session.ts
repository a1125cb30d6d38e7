// One write at work: frames wait in the stream's queue, and the sender goes on until enough of them do.
import { frameByteLength, layFrame } from '../../codec/columns.js'
import { FramesError } from '../../errors.js'
import type { Frame } from '../../frame/frame.js'
import { MiB } from '../../limits.js'
import { copyBytes } from '../../memory/copy.js'
import type { Slice } from '../../memory/slice.js'
import type { WriteCounts } from '../../requests.js'
import type { BackendParts, BackendWriteSession } from '../backend.js'
import type { FrameInput } from '../frame-input.js'
import { AppendSession } from './appender.js'
import type { StreamTable } from './table.js'

/** What one session may have waiting: enough that a commit can take many frames together. */
const waitingByteLengthMax = 8 * MiB
const waitingCountMax = 256

export class StreamWriteSession implements BackendWriteSession {
  readonly #parts: BackendParts
  readonly #table: StreamTable
  readonly #signal: AbortSignal | null
  readonly #release: () => void
  readonly #session = new AppendSession()
  /** Settled in order. */
  readonly #waiting: { readonly byteLength: number; readonly settled: Promise<void> }[] = []
  #waitingByteLength = 0
  #frameCount = 0
  #rowCount = 0
  #isReleased = false

  constructor(
    parts: BackendParts,
    options: { readonly table: StreamTable; readonly signal: AbortSignal | null; readonly release: () => void },
  ) {
    this.#parts = parts
    this.#table = options.table
    this.#signal = options.signal
    this.#release = options.release
  }

  addWire(frame: Uint8Array): Promise<void> {
    return this.#add(frame.byteLength, (slice) => {
      copyBytes(frame, this.#parts.kernels.u8, slice.byteOffset)
      return { format: 'wire', message: { byteOffset: slice.byteOffset, byteLength: frame.byteLength } }
    })
  }

  addFrame(frame: Frame): Promise<void> {
    return this.#add(frameByteLength(frame), (slice) => ({
      format: 'columns',
      frame: layFrame(this.#parts.kernels, frame, slice.byteOffset),
    }))
  }

  async #add(byteLength: number, copyIn: (slice: Slice) => FrameInput): Promise<void> {
    this.#throwFailure()
    const input = await this.#parts.inputs.take(byteLength, this.#signal ?? undefined)
    let frame: FrameInput
    try {
      this.#throwFailure()
      frame = copyIn(input.slice)
    } catch (error) {
      input.release()
      throw error
    }
    this.#frameCount++
    const settled = this.#table.appender
      .append(this.#session, frame, byteLength)
      .then(
        ({ rowCount }) => {
          this.#rowCount += rowCount
        },
        (error: unknown) => {
          this.#session.failure ??= error
        },
      )
      .finally(() => input.release())
    this.#waiting.push({ byteLength, settled })
    this.#waitingByteLength += byteLength
    while (
      this.#waiting.length > 0 &&
      (this.#waitingByteLength > waitingByteLengthMax || this.#waiting.length >= waitingCountMax)
    ) {
      const oldest = this.#waiting.shift()!
      this.#waitingByteLength -= oldest.byteLength
      await oldest.settled
    }
    this.#throwFailure()
  }

  #throwFailure(): void {
    if (this.#session.failure !== null) throw this.#session.failure
  }

  async #settled(): Promise<void> {
    for (const { settled } of this.#waiting.splice(0)) await settled
  }

  async finish(): Promise<WriteCounts> {
    try {
      await this.#settled()
      this.#throwFailure()
      return { frameCount: this.#frameCount, rowCount: this.#rowCount }
    } finally {
      this.#end()
    }
  }

  abort(): void {
    this.#session.failure ??= new FramesError('CANCELLED', 'the write was given up')
    // The table is given back when nothing of this session works on it any more.
    void this.#settled().finally(() => this.#end())
  }

  #end(): void {
    if (this.#isReleased) return
    this.#isReleased = true
    this.#release()
  }
}
