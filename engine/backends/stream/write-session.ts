// One write at work: frames wait in the stream's queue, and the sender goes on until enough of them do.
import type { CancelSignal } from '../../cancellation.js'
import { FramesError } from '../../errors.js'
import type { Frame } from '../../frame/frame.js'
import { MiB } from '../../limits.js'
import type { WriteCounts } from '../../requests.js'
import type { BackendParts, BackendWriteSession } from '../backend.js'
import { FrameIntake, type TakenFrame } from '../frame-intake.js'
import { AppendSession } from './appender.js'
import type { StreamTable } from './table.js'

/** What one session may have waiting: enough that a commit can take many frames together. */
const waitingByteLengthMax = 8 * MiB
const waitingCountMax = 256

export class StreamWriteSession implements BackendWriteSession {
  readonly #intake: FrameIntake
  readonly #table: StreamTable
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
    options: { readonly table: StreamTable; readonly signal: CancelSignal | null; readonly release: () => void },
  ) {
    this.#intake = new FrameIntake(parts, { signal: options.signal, check: () => this.#throwFailure() })
    this.#table = options.table
    this.#release = options.release
  }

  async addWire(frame: Uint8Array): Promise<void> {
    await this.#add(await this.#intake.takeWire(frame))
  }

  async addFrame(frame: Frame): Promise<void> {
    await this.#add(await this.#intake.takeFrame(frame))
  }

  async #add({ input, byteLength, release }: TakenFrame): Promise<void> {
    this.#frameCount++
    const settled = this.#table.appender
      .append(this.#session, input, byteLength)
      .then(
        ({ rowCount }) => {
          this.#rowCount += rowCount
        },
        (error: unknown) => {
          this.#session.failure ??= error
        },
      )
      .finally(release)
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

  async stored(): Promise<void> {
    await this.#settled()
    this.#throwFailure()
  }

  async finish(): Promise<WriteCounts> {
    try {
      await this.stored()
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
