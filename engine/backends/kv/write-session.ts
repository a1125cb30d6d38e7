// One write at work: frames come in one after the other and wait in the table's line; some of them may be there at once.
import type { CancelSignal } from '../../cancellation.js'
import { FramesError } from '../../errors.js'
import type { Frame } from '../../frame/frame.js'
import { MiB } from '../../limits.js'
import type { WriteCounts } from '../../requests.js'
import type { BackendParts, BackendWriteSession } from '../backend.js'
import { FrameIntake, type TakenFrame } from '../frame-intake.js'
import type { SentRule } from './settle-request.js'
import type { TablePlace } from './table.js'
import type { WriteGroup } from './writes.js'

export interface WriteOptions {
  /** Where the frames go. */
  readonly place: TablePlace
  readonly rule: SentRule
  readonly ruleText: string
  readonly signal: CancelSignal | null
  /** Called when all frames are stored; what it does is part of the write. */
  readonly complete: (frameCount: number) => Promise<void>
  /** Called once, when nothing of this session is at work any more. */
  readonly release: (isComplete: boolean) => void
}

/** Frames of one session that may be in line at once, and their bytes: enough that the table always has some to settle. */
const frameCountMax = 16
const frameByteLengthMax = 16 * MiB

export class KvWriteSession implements BackendWriteSession {
  readonly #intake: FrameIntake
  readonly #options: WriteOptions
  readonly #group: WriteGroup
  #frameCount = 0
  #skippedCount = 0
  readonly #atWork = new Map<Promise<void>, number>()
  #byteLengthAtWork = 0
  #isReleased = false

  constructor(parts: BackendParts, options: WriteOptions) {
    this.#intake = new FrameIntake(parts, { signal: options.signal, check: () => this.#throwFailure() })
    this.#options = options
    const { rule, ruleText } = options
    this.#group = { rule, ruleText, rowCount: 0, failure: null }
  }

  async addWire(frame: Uint8Array): Promise<void> {
    await this.#add(await this.#intake.takeWire(frame))
  }

  async addFrame(frame: Frame): Promise<void> {
    await this.#add(await this.#intake.takeFrame(frame))
  }

  async #add({ input, byteLength, release }: TakenFrame): Promise<void> {
    const write = { kind: 'frame', input, rowStart: 0n } as const
    const work: Promise<void> = this.#options.place.writes
      .submit(this.#group, write, byteLength)
      .then(
        ({ skippedCount }) => {
          this.#frameCount++
          this.#skippedCount += skippedCount
        },
        // The queue has noted it in the group.
        () => undefined,
      )
      .finally(() => {
        release()
        this.#atWork.delete(work)
        this.#byteLengthAtWork -= byteLength
      })
    this.#atWork.set(work, byteLength)
    this.#byteLengthAtWork += byteLength
    while (this.#atWork.size >= frameCountMax || (this.#atWork.size > 1 && this.#byteLengthAtWork > frameByteLengthMax))
      await Promise.race(this.#atWork.keys())
    this.#throwFailure()
  }

  #throwFailure(): void {
    if (this.#group.failure !== null) throw this.#group.failure
  }

  async stored(): Promise<void> {
    await this.#idle()
    this.#throwFailure()
  }

  async finish(): Promise<WriteCounts> {
    let isComplete = false
    try {
      await this.stored()
      await this.#options.complete(this.#frameCount)
      isComplete = true
      return { frameCount: this.#frameCount, rowCount: this.#group.rowCount, skippedCount: this.#skippedCount }
    } finally {
      this.#end(isComplete)
    }
  }

  /** Frames that nobody has begun with are dropped. */
  abort(): void {
    this.#group.failure ??= new FramesError('CANCELLED', 'the write was given up')
    void this.#idle().then(() => this.#end(false))
  }

  async #idle(): Promise<void> {
    while (this.#atWork.size > 0) await Promise.all(this.#atWork.keys())
  }

  #end(isComplete: boolean): void {
    if (this.#isReleased) return
    this.#isReleased = true
    this.#options.release(isComplete)
  }
}
