// Frames of the shared memory become blocks, by jobs; what they bring to the table is made known. Main thread.
import type { CancelSignal } from '../../cancellation.js'
import type { PreparedBlock } from '../../blocks/merge-rule.js'
import { FramesError } from '../../errors.js'
import { duplicateCheckByteLength, MiB } from '../../limits.js'
import type { JobResult } from '../../pool/pool.js'
import type { BackendParts } from '../backend.js'
import type { TakenFrame } from '../frame-intake.js'
import type { IngestJob, IngestResult } from './jobs.js'
import type { OpenTable } from './tsdb.js'

/**
 * Frames of one job: small ones are encoded together, up to so many bytes. A job costs a millisecond of all threads beside
 * its frames; what it knows of each label set takes memory, so those of tables with many sets stay smaller. The count of
 * frames bounds the runs of memory that tiny ones take.
 */
const jobByteLengthMax = { fewSets: 8 * MiB, manySets: 4 * MiB }
const fewSetsCountMax = 8192
/** What may be in a job beyond that when no frame is left behind then: a job for one frame costs more than it encodes. */
const lastFramesShare = 0.25
export const jobFrameCountMax = 64
/** Scratch of an ingest job beside what follows from the size of its frames. */
const ingestScratchByteLength = 3 * MiB
/** Times frames are sent again because label sets changed under them. */
const viewRetryCountMax = 100

/** Frames that one job has encoded: the first `frameCount` of those that it was given, one at least. */
export interface EncodedFrames {
  readonly frameCount: number
  /** Rows of each of these frames, as the sender counts them. */
  readonly rowCounts: readonly number[]
  readonly kinds: readonly (readonly [metric: string, bits: number])[]
  /** The bytes of the blocks stay in place until it is released. */
  readonly job: JobResult<IngestResult>
  readonly blocks: readonly PreparedBlock[]
}

type TableParts = Pick<OpenTable, 'labels' | 'schema' | 'blocks'>

export class FrameEncoder {
  readonly #parts: BackendParts
  readonly #table: TableParts
  readonly #signal: CancelSignal | null

  constructor(parts: BackendParts, table: TableParts, signal: CancelSignal | null) {
    this.#parts = parts
    this.#table = table
    this.#signal = signal
  }

  /** Whether what is stored must not change between the look at it and the commit, since duplicates are refused. */
  get isSerial(): boolean {
    return this.#table.schema.duplicates === 'error'
  }

  get #jobByteLengthMax(): number {
    return this.#table.labels.setCount <= fewSetsCountMax ? jobByteLengthMax.fewSets : jobByteLengthMax.manySets
  }

  /** Frames of so many bytes are worth waiting for: those of two jobs. */
  get waitingByteLengthMax(): number {
    return 2 * this.#jobByteLengthMax
  }

  /** How many of these frames the next job is given, one at least. */
  jobFrameCount(frames: readonly Pick<TakenFrame, 'byteLength'>[]): number {
    if (this.isSerial) return 1
    let byteLength = 0
    for (const frame of frames) byteLength += frame.byteLength
    const byteLengthMax = this.#jobByteLengthMax
    if (byteLength <= (1 + lastFramesShare) * byteLengthMax) return Math.min(frames.length, jobFrameCountMax)
    byteLength = 0
    let count = 0
    for (const frame of frames) {
      byteLength += frame.byteLength
      if (count > 0 && (byteLength > byteLengthMax || count === jobFrameCountMax)) break
      count++
    }
    return count
  }

  /**
   * Encodes frames in their order; null: each is to be tried by itself. Throws what is wrong with the first of them.
   *
   * requestKinds: metric → type bits of earlier frames of the same request.
   */
  async encode(frames: readonly TakenFrame[], requestKinds: IngestJob['requestKinds']): Promise<EncodedFrames | null> {
    const { pool } = this.#parts
    const byteLength = frames.reduce((sum, frame) => sum + frame.byteLength, 0)
    const inputs = frames.map(({ input }) => input)
    const scratchByteLength =
      ingestScratchByteLength + Math.ceil(2.5 * byteLength) + (this.isSerial ? duplicateCheckByteLength : 0)
    const options = this.#signal === null ? { scratchByteLength } : { scratchByteLength, signal: this.#signal }
    for (let tries = 0; ; tries++) {
      const { labels, schema, blocks } = this.#table
      const ready = labels.ready()
      if (ready !== undefined) await ready
      const handle = labels.acquire()
      const snapshot = this.isSerial ? blocks.acquire() : null
      try {
        const ingest: IngestJob = {
          kind: 'tsdb.ingest',
          inputs,
          labels: handle.view,
          partitionIntervalMs: schema.partitionIntervalMs,
          duplicates: schema.duplicates,
          stored:
            snapshot === null
              ? null
              : {
                  sources: await blocks.sources(snapshot.blocks),
                  partition: blocks.partition,
                  tableName: blocks.name,
                  access: this.#parts.store.workerAccess,
                },
          requestKinds,
        }
        const job = await pool.runToEnd<IngestResult>(ingest, options)
        const { result } = job
        if (result.status === 'rows') {
          try {
            if (result.registered === null || handle.register(result.registered)) return { ...result, job }
          } catch (error) {
            job.release()
            throw error
          }
        }
        job.release()
        if (result.status === 'split') return null
        if (result.status === 'grow') await labels.grow(result)
        if (result.status === 'outdated' && result.isStuck) labels.doubt()
        if (tries >= viewRetryCountMax) throw new FramesError('VIEW_OUTDATED', 'the label sets change all the time')
      } catch (error) {
        // A worker that died may have been about to put label sets into the table.
        if (!(error instanceof FramesError) || (error.kind === 'internal' && !isOutdated(error))) labels.doubt()
        if (frames.length > 1 && error instanceof FramesError && error.code === 'MEMORY_BUDGET') return null
        if (!isOutdated(error) || tries >= viewRetryCountMax) throw error
      } finally {
        snapshot?.release()
        handle.release()
      }
    }
  }
}

function isOutdated(error: unknown): boolean {
  return error instanceof FramesError && error.code === 'VIEW_OUTDATED'
}
