// One write at work: frames come in one after the other, are encoded by jobs and committed in order.
import { FramesError } from '../../errors.js'
import { frameByteLength, layFrame } from '../../codec/columns.js'
import type { Frame } from '../../frame/frame.js'
import type { Slice } from '../../memory/slice.js'
import type { JobResult } from '../../pool/pool.js'
import type { WriteCounts } from '../../requests.js'
import type { BackendParts, BackendWriteSession } from '../backend.js'
import type { FrameInput } from './append.js'
import type { IngestJob, IngestResult, RegisterJob, RegisterResult } from './jobs.js'
import { duplicateCheckByteLength } from '../../limits.js'
import type { OpenTable } from './tsdb.js'

export interface WriteOptions {
  readonly table: OpenTable
  readonly signal: AbortSignal | null
  readonly release: () => void
}

/** Commits of one session that may be on their way to the disk while the next frame is encoded. */
const commitCountMax = 4
/** Frames of one session that are here: one at work, one waiting. */
const frameCountMax = 2
/** Scratch of an ingest job beside what follows from the size of its frame. */
const ingestScratchByteLength = 3 * 1024 * 1024
/** Times a frame is sent again because label sets changed under it. */
const viewRetryCountMax = 100

export class TsdbWriteSession implements BackendWriteSession {
  readonly #parts: BackendParts
  readonly #options: WriteOptions
  readonly #table: OpenTable
  #frameCount = 0
  #rowCount = 0
  #failure: unknown = null
  /** A commit failed: those behind it must not be stored. */
  #commitFailure: unknown = null
  #isAborted = false
  #isReleased = false
  /** The last frame brought new label sets: the next one is registered before it is tried. */
  #expectsNew = false
  /** The frames before this one are encoded and their commits are submitted. */
  #tail: Promise<void> = Promise.resolve()
  readonly #waiting: Promise<void>[] = []
  readonly #commits = new Set<Promise<void>>()
  /** Metric → type bits of the frames so far. */
  readonly #kinds = new Map<string, number>()

  constructor(parts: BackendParts, options: WriteOptions) {
    this.#parts = parts
    this.#options = options
    this.#table = options.table
  }

  addWire(frame: Uint8Array): Promise<void> {
    return this.#add(frame.byteLength, (slice) => {
      this.#parts.kernels.u8.set(frame, slice.byteOffset)
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
    const input = await this.#parts.inputs.take(byteLength, this.#options.signal ?? undefined)
    let frame: FrameInput
    try {
      this.#throwFailure()
      frame = copyIn(input.slice)
    } catch (error) {
      input.release()
      throw error
    }
    const work = this.#tail.then(() => this.#write(frame, byteLength)).finally(() => input.release())
    this.#tail = work.catch((error: unknown) => {
      this.#failure ??= error
    })
    this.#waiting.push(this.#tail)
    if (this.#waiting.length >= frameCountMax) await this.#waiting.shift()
    this.#throwFailure()
  }

  #throwFailure(): void {
    if (this.#failure !== null) throw this.#failure
    if (this.#isAborted) throw new FramesError('CANCELLED', 'the write was given up')
  }

  async #write(input: FrameInput, byteLength: number): Promise<void> {
    if (this.#failure !== null || this.#isAborted) return
    // Where duplicates are refused, what is stored must not change between the look at it and the commit.
    if (this.#table.schema.duplicates === 'error')
      await this.#table.turn.run(() => this.#writeInTurn(input, byteLength))
    else await this.#writeInTurn(input, byteLength)
  }

  async #writeInTurn(input: FrameInput, byteLength: number): Promise<void> {
    const { job, rowCount, kinds, assertStored } = await this.#encode(input, byteLength)
    this.#frameCount++
    if (job === null) return
    this.#rowCount += rowCount
    for (const [metric, bits] of kinds) this.#kinds.set(metric, (this.#kinds.get(metric) ?? 0) | bits)
    const { blocks } = job.result as Extract<IngestResult, { status: 'rows' }>
    if (blocks.length === 0) {
      job.release()
      return
    }
    let commit: Promise<void>
    try {
      const table = this.#table.blocks
      const staged = await table.stageRows(blocks)
      const check = (): void => {
        // Not every failure: frames before a bad one stay written.
        if (this.#commitFailure !== null) throw this.#commitFailure
        assertStored()
      }
      commit = table.commitRows(staged, { check })
    } catch (error) {
      job.release()
      throw error
    }
    const settled: Promise<void> = commit
      .catch((error: unknown) => {
        this.#commitFailure ??= error
        this.#failure ??= error
      })
      .finally(() => {
        job.release()
        this.#commits.delete(settled)
      })
    this.#commits.add(settled)
    const isSerial = this.#table.schema.duplicates === 'error'
    while (this.#commits.size >= (isSerial ? 1 : commitCountMax)) await Promise.race(this.#commits)
  }

  async #encode(
    input: FrameInput,
    byteLength: number,
  ): Promise<{
    job: JobResult<IngestResult> | null
    rowCount: number
    kinds: readonly (readonly [string, number])[]
    assertStored: () => void
  }> {
    const { pool } = this.#parts
    const { signal } = this.#options
    const options = {
      scratchByteLength:
        ingestScratchByteLength +
        Math.ceil(2.5 * byteLength) +
        (this.#table.schema.duplicates === 'error' ? duplicateCheckByteLength : 0),
      ...(signal === null ? {} : { signal }),
    }
    const requestKinds = [...this.#kinds]
    for (let tries = 0; ; tries++) {
      if (this.#expectsNew) await this.#register(input, requestKinds, options, tries)
      const { labels, schema, blocks } = this.#table
      await labels.ready()
      const handle = labels.acquire()
      const snapshot = schema.duplicates === 'error' ? blocks.acquire() : null
      try {
        const ingest: IngestJob = {
          kind: 'tsdb.ingest',
          input,
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
        const { assertStored } = handle
        if (result.status === 'rows') return { job, rowCount: result.rowCount, kinds: result.kinds, assertStored }
        job.release()
        if (result.status === 'empty') return { job: null, rowCount: 0, kinds: [], assertStored }
      } catch (error) {
        if (!isOutdated(error) || tries >= viewRetryCountMax) throw error
      } finally {
        snapshot?.release()
        handle.release()
      }
      // Most likely unregistered: and where one frame brings new label sets, the next one often does.
      this.#expectsNew = true
    }
  }

  /** Registers what is new in a frame. When nothing is, the next frame is tried without. */
  async #register(
    input: FrameInput,
    requestKinds: RegisterJob['requestKinds'],
    options: { scratchByteLength: number },
    tries: number,
  ): Promise<void> {
    try {
      this.#expectsNew = await this.#table.labels.register(async (view) => {
        const job: RegisterJob = { kind: 'tsdb.register', input, labels: view, requestKinds }
        // Not cancelled with the call: half a registration would have to be undone.
        const done = await this.#parts.pool.runToEnd<RegisterResult>(job, {
          scratchByteLength: options.scratchByteLength,
        })
        done.release()
        return done.result
      })
    } catch (error) {
      if (!isOutdated(error) || tries >= viewRetryCountMax) throw error
    }
  }

  async finish(): Promise<WriteCounts> {
    try {
      await this.#tail
      await Promise.all(this.#commits)
      this.#throwFailure()
      return { frameCount: this.#frameCount, rowCount: this.#rowCount }
    } finally {
      this.#end()
    }
  }

  abort(): void {
    this.#isAborted = true
    // The table is given back when nothing of this session works on it any more.
    this.#tail.then(() => Promise.all(this.#commits)).finally(() => this.#end())
  }

  #end(): void {
    if (this.#isReleased) return
    this.#isReleased = true
    this.#options.release()
  }
}

function isOutdated(error: unknown): boolean {
  return error instanceof FramesError && error.code === 'VIEW_OUTDATED'
}
