// One write at work: frames come in one after the other, are encoded by jobs and committed in order.
import { FramesError } from '../../errors.js'
import type { Frame } from '../../frame/frame.js'
import type { JobResult } from '../../pool/pool.js'
import type { WriteCounts } from '../../requests.js'
import type { PreparedBlock } from '../../blocks/merge-rule.js'
import type { BackendParts, BackendWriteSession } from '../backend.js'
import { FrameIntake, type TakenFrame } from '../frame-intake.js'
import type { IngestJob, IngestResult, RegisterJob, RegisterResult } from './jobs.js'
import { duplicateCheckByteLength, MiB } from '../../limits.js'
import type { OpenTable } from './tsdb.js'

export interface WriteOptions {
  readonly table: OpenTable
  readonly signal: AbortSignal | null
  readonly release: () => void
}

/** Commits of one session that may be on their way to the disk while the next frames are encoded. */
const commitCountMax = 4
/**
 * Frames of one session that wait while others are at work: all of them go into the next job. One waits in any case; more
 * while they are small. The count bounds the runs of memory that tiny frames take.
 */
const waitingByteLengthMax = 4 * MiB
const waitingCountMax = 64
/** Scratch of an ingest job beside what follows from the size of its frames. */
const ingestScratchByteLength = 3 * MiB
/** Times frames are sent again because label sets changed under them. */
const viewRetryCountMax = 100

/** Bytes of frames at which a job is sent at once; fewer wait until the event loop has turned, for more may be coming. */
const startByteLength = 2 * MiB

/** Frames that one job has encoded. */
interface Encoded {
  readonly frameCount: number
  readonly rowCount: number
  readonly kinds: readonly (readonly [metric: string, bits: number])[]
  readonly job: JobResult<IngestResult>
  readonly blocks: readonly PreparedBlock[]
  readonly assertStored: () => void
}

export class TsdbWriteSession implements BackendWriteSession {
  readonly #parts: BackendParts
  readonly #intake: FrameIntake
  readonly #options: WriteOptions
  readonly #table: OpenTable
  #frameCount = 0
  #rowCount = 0
  #failure: unknown = null
  /** A commit failed: those behind it must not be stored. */
  #commitFailure: unknown = null
  #isAborted = false
  #isReleased = false
  /** The last frames brought new label sets: the next ones are registered before they are tried. */
  #expectsNew: boolean
  /** Writers of one table often begin together, with the same label sets: what another has registered may do. */
  #mayBeRegistered = true
  /** How many of the frames that wait, from the first on, have been registered. */
  #registeredCount = 0
  /** Frames that go into jobs by themselves, because they could not be encoded together. */
  #aloneCount = 0
  /** In order; those at work stand first. */
  readonly #frames: TakenFrame[] = []
  #byteLength = 0
  /** Those who add frames and wait until there is room for more. */
  readonly #adders: (() => void)[] = []
  #isWriting = false
  #writeDue: NodeJS.Immediate | null = null
  /** Ends when no frame waits; it never rejects. */
  #writing: Promise<void> = Promise.resolve()
  readonly #commits = new Set<Promise<void>>()
  /** Metric → type bits of the frames so far. */
  readonly #kinds = new Map<string, number>()

  constructor(parts: BackendParts, options: WriteOptions) {
    this.#parts = parts
    this.#intake = new FrameIntake(parts, { signal: options.signal, check: () => this.#throwFailure() })
    this.#options = options
    this.#table = options.table
    this.#expectsNew = this.#table.labels.setCount === 0
  }

  async addWire(frame: Uint8Array): Promise<void> {
    await this.#add(await this.#intake.takeWire(frame))
  }

  async addFrame(frame: Frame): Promise<void> {
    await this.#add(await this.#intake.takeFrame(frame))
  }

  /** Resolves when another frame may come. */
  async #add(frame: TakenFrame): Promise<void> {
    this.#frames.push(frame)
    this.#byteLength += frame.byteLength
    if (this.#byteLength >= startByteLength) this.#write()
    else this.#writeDue ??= setImmediate(() => this.#write())
    while (!this.#hasRoom())
      await new Promise<void>((resolve) => {
        this.#adders.push(resolve)
      })
    this.#throwFailure()
  }

  /** Begins to write what waits, unless that is done already. */
  #write(): void {
    if (this.#writeDue !== null) clearImmediate(this.#writeDue)
    this.#writeDue = null
    if (!this.#isWriting && this.#frames.length > 0) this.#writing = this.#writeAll()
  }

  #hasRoom(): boolean {
    const { length } = this.#frames
    return length < 2 || (length < 2 * waitingCountMax && this.#byteLength < 2 * waitingByteLengthMax)
  }

  #throwFailure(): void {
    if (this.#failure !== null) throw this.#failure
    if (this.#isAborted) throw new FramesError('CANCELLED', 'the write was given up')
  }

  async #writeAll(): Promise<void> {
    this.#isWriting = true
    try {
      while (this.#frames.length > 0 && this.#failure === null && !this.#isAborted) {
        // Where duplicates are refused, what is stored must not change between the look at it and the commit.
        if (this.#isSerial) await this.#table.turn.run(() => this.#writeSome())
        else await this.#writeSome()
      }
    } catch (error) {
      this.#failure ??= error
    }
    this.#take(this.#frames.length)
    this.#isWriting = false
  }

  get #isSerial(): boolean {
    return this.#table.schema.duplicates === 'error'
  }

  /** Gives back the first frames. */
  #take(frameCount: number): void {
    this.#registeredCount = Math.max(0, this.#registeredCount - frameCount)
    for (const { byteLength, release } of this.#frames.splice(0, frameCount)) {
      this.#byteLength -= byteLength
      release()
    }
    for (const wake of this.#adders.splice(0)) wake()
  }

  /** Writes the first of the frames that wait, as many as go into one job. */
  async #writeSome(): Promise<void> {
    const encoded = await this.#encode(this.#nextFrames())
    if (encoded === null) return
    const { frameCount, rowCount, kinds, job, blocks, assertStored } = encoded
    this.#take(frameCount)
    this.#aloneCount = Math.max(0, this.#aloneCount - frameCount)
    this.#frameCount += frameCount
    this.#rowCount += rowCount
    for (const [metric, bits] of kinds) this.#kinds.set(metric, (this.#kinds.get(metric) ?? 0) | bits)
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
      // Before the commits behind it are tried again: they must find the failure.
      const onFailure = (error: unknown): void => {
        this.#commitFailure ??= error
      }
      commit = table.commitRows(staged, { check, onFailure })
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
    while (this.#commits.size >= (this.#isSerial ? 1 : commitCountMax)) await Promise.race(this.#commits)
  }

  /** What the next job is given: frames of some MiB, one at least. */
  #nextFrames(): TakenFrame[] {
    if (this.#isSerial || this.#aloneCount > 0) return this.#frames.slice(0, 1)
    let byteLength = 0
    let count = 0
    for (const frame of this.#frames) {
      byteLength += frame.byteLength
      if (count > 0 && (byteLength > waitingByteLengthMax || count === waitingCountMax)) break
      count++
    }
    return this.#frames.slice(0, count)
  }

  /** Null: they are to be tried one by one. */
  async #encode(frames: readonly TakenFrame[]): Promise<Encoded | null> {
    const { pool } = this.#parts
    const { signal } = this.#options
    const inputs = frames.map(({ input }) => input)
    const byteLength = frames.reduce((sum, frame) => sum + frame.byteLength, 0)
    const options = {
      scratchByteLength:
        ingestScratchByteLength + Math.ceil(2.5 * byteLength) + (this.#isSerial ? duplicateCheckByteLength : 0),
      ...(signal === null ? {} : { signal }),
    }
    const requestKinds = [...this.#kinds]
    for (let tries = 0; ; tries++) {
      if (this.#expectsNew && this.#registeredCount < frames.length) await this.#register(requestKinds, options, tries)
      const { labels, schema, blocks } = this.#table
      await labels.ready()
      const handle = labels.acquire()
      const snapshot = this.#isSerial ? blocks.acquire() : null
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
          if (result.isNextNew) this.#expectsNew = true
          return { ...result, job, assertStored: handle.assertStored }
        }
        job.release()
        if (result.status === 'split') {
          this.#aloneCount = frames.length
          return null
        }
      } catch (error) {
        if (frames.length > 1 && error instanceof FramesError && error.code === 'MEMORY_BUDGET') {
          this.#aloneCount = frames.length
          return null
        }
        if (!isOutdated(error) || tries >= viewRetryCountMax) throw error
      } finally {
        snapshot?.release()
        handle.release()
      }
      // Most likely unregistered: and where one frame brings new label sets, the next one often does.
      this.#expectsNew = true
      this.#registeredCount = 0
    }
  }

  /** Registers what is new in the frames that wait. When nothing is, the next ones are tried without. */
  async #register(
    requestKinds: RegisterJob['requestKinds'],
    options: { scratchByteLength: number },
    tries: number,
  ): Promise<void> {
    const mayBeDone = this.#mayBeRegistered
    this.#mayBeRegistered = false
    const inputs = this.#isSerial ? [this.#frames[0]!.input] : this.#frames.map(({ input }) => input)
    try {
      this.#expectsNew = await this.#table.labels.register(async (view) => {
        const job: RegisterJob = { kind: 'tsdb.register', inputs, labels: view, requestKinds }
        // Not cancelled with the call: half a registration would have to be undone.
        const done = await this.#parts.pool.runToEnd<RegisterResult>(job, {
          scratchByteLength: options.scratchByteLength,
        })
        done.release()
        if (done.result.status === 'registered') this.#registeredCount = done.result.frameCount
        return done.result
      }, mayBeDone)
    } catch (error) {
      if (!isOutdated(error) || tries >= viewRetryCountMax) throw error
    }
  }

  async stored(): Promise<void> {
    this.#write()
    await this.#writing
    await Promise.all(this.#commits)
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
    this.#isAborted = true
    this.#write()
    // The table is given back when nothing of this session works on it any more.
    void this.#writing.then(() => Promise.all(this.#commits)).finally(() => this.#end())
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
