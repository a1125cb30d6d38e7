// Writes of one small frame each, by many callers at once: while one job encodes, the frames of others gather, and all that
// wait go into the next one. They then are one block and one commit, where each alone would be a block to find, to sync and
// to merge.
import { FramesError } from '../../errors.js'
import type { BackendParts } from '../backend.js'
import type { TakenFrame } from '../frame-intake.js'
import { type EncodedFrames, FrameEncoder } from './frame-encoder.js'
import type { OpenTable } from './tsdb.js'

/** Larger frames are encoded side by side, by as many workers as there are. */
export const gatheredByteLengthMax = 32 * 1024
/** Commits that may be on their way to the disk while the next frames are encoded. */
const commitCountMax = 4

/** What became of a frame. */
export interface GatheredFrame {
  readonly rowCount: number
  readonly kinds: EncodedFrames['kinds']
  /** Resolves when the rows are durable, rejects when they will not be. */
  readonly committed: Promise<void>
}

interface WaitingFrame {
  readonly frame: TakenFrame
  readonly check: () => void
  readonly resolve: (gathered: GatheredFrame) => void
  readonly reject: (error: unknown) => void
}

/** Of one table. */
export class GatheredWrites {
  readonly #table: Pick<OpenTable, 'blocks'>
  readonly #encoder: FrameEncoder
  /** In order; those at work stand first. Each belongs to a write that waits for it, so there are as many as writes. */
  readonly #waiting: WaitingFrame[] = []
  #isWriting = false
  /** Frames that go into jobs by themselves, because they could not be encoded together. */
  #aloneCount = 0
  readonly #commits = new Set<Promise<void>>()

  constructor(parts: BackendParts, table: Pick<OpenTable, 'labels' | 'schema' | 'blocks'>) {
    this.#table = table
    this.#encoder = new FrameEncoder(parts, table, null)
  }

  /**
   * Resolves when the frame is encoded and its commit on its way; the frame is not used any more then. Rejects with what is
   * wrong with it, or with what `check` throws, which is called before a job is given the frame.
   */
  write(frame: TakenFrame, check: () => void): Promise<GatheredFrame> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ frame, check, resolve, reject })
      if (!this.#isWriting) void this.#writeAll()
    })
  }

  /** Never rejects. */
  async #writeAll(): Promise<void> {
    this.#isWriting = true
    while (this.#waiting.length > 0) await this.#writeSome()
    this.#isWriting = false
  }

  async #writeSome(): Promise<void> {
    const frames = this.#nextFrames()
    if (frames.length === 0) return
    let encoded: EncodedFrames | null
    try {
      encoded = await this.#encoder.encode(frames, [])
    } catch (error) {
      // Without a fault of its own each of them may do by itself.
      const isOfFirst = frames.length === 1 || (error instanceof FramesError && error.kind === 'invalid')
      if (isOfFirst) this.#take(1)[0]!.reject(error)
      else this.#aloneCount = frames.length
      return
    }
    if (encoded === null) {
      this.#aloneCount = frames.length
      return
    }
    const { frameCount, rowCounts, kinds, job, blocks } = encoded
    const taken = this.#take(frameCount)
    const settle = (committed: Promise<void>): void =>
      taken.forEach(({ resolve }, i) => {
        resolve({ rowCount: rowCounts[i]!, kinds, committed })
      })
    if (blocks.length === 0) {
      job.release()
      settle(Promise.resolve())
      return
    }
    let committed: Promise<void>
    try {
      const staged = await this.#table.blocks.stageRows(blocks)
      committed = this.#table.blocks.commitRows(staged)
    } catch (error) {
      job.release()
      for (const { reject } of taken) reject(error)
      return
    }
    const ended: Promise<void> = committed
      .catch(() => undefined) // each of the writes sees it
      .then(() => {
        job.release()
        this.#commits.delete(ended)
      })
    this.#commits.add(ended)
    settle(committed)
    while (this.#commits.size >= commitCountMax) await Promise.race(this.#commits)
  }

  /** What the next job is given; none when nobody wants what waited. */
  #nextFrames(): TakenFrame[] {
    for (let i = 0; i < this.#waiting.length; ) {
      const { check, reject } = this.#waiting[i]!
      try {
        check()
        i++
      } catch (error) {
        this.#waiting.splice(i, 1)
        reject(error)
      }
    }
    const frames = this.#waiting.map(({ frame }) => frame)
    if (frames.length === 0) return frames
    return frames.slice(0, this.#aloneCount > 0 ? 1 : this.#encoder.jobFrameCount(frames))
  }

  /** Takes the first frames out. */
  #take(frameCount: number): WaitingFrame[] {
    this.#aloneCount = Math.max(0, this.#aloneCount - frameCount)
    return this.#waiting.splice(0, frameCount)
  }
}
