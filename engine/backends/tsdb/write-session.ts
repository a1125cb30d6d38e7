// One write at work: frames come in one after the other, are encoded by jobs and committed in order.
import type { CancelSignal } from '../../cancellation.js'
import { FramesError } from '../../errors.js'
import type { Frame } from '../../frame/frame.js'
import type { WriteCounts } from '../../requests.js'
import type { BackendParts, BackendWriteSession } from '../backend.js'
import { FrameIntake, type TakenFrame } from '../frame-intake.js'
import { type EncodedFrames, FrameEncoder, jobFrameCountMax } from './frame-encoder.js'
import { gatheredByteLengthMax } from './gathered-writes.js'
import { type IngestGate, ingestGateOf } from './ingest-gate.js'
import { MiB } from '../../limits.js'
import type { OpenTable } from './tsdb.js'

export interface WriteOptions {
  readonly table: OpenTable
  readonly signal: CancelSignal | null
  readonly release: () => void
}

/** Commits of one session that may be on their way to the disk while the next frames are encoded. */
const commitCountMax = 4
/** Bytes of frames at which a job is sent at once; fewer wait until the event loop has turned, for more may be coming. */
const startByteLength = MiB

export class TsdbWriteSession implements BackendWriteSession {
  readonly #intake: FrameIntake
  readonly #encoder: FrameEncoder
  readonly #gate: IngestGate
  readonly #options: WriteOptions
  readonly #table: OpenTable
  #frameCount = 0
  #rowCount = 0
  #failure: unknown = null
  /** A commit failed: those behind it must not be stored. */
  #commitFailure: unknown = null
  #isAborted = false
  #isReleased = false
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
    this.#intake = new FrameIntake(parts, {
      signal: options.signal,
      check: () => this.#throwFailure(),
      takesRepeatedRows: true,
    })
    this.#options = options
    this.#table = options.table
    this.#encoder = new FrameEncoder(parts, options.table, options.signal)
    this.#gate = ingestGateOf(parts.pool)
  }

  async addWire(frame: Uint8Array): Promise<void> {
    await this.#intake.takeWire(frame, this.#add)
    await this.#room()
  }

  async addFrame(frame: Frame): Promise<void> {
    await this.#intake.takeFrame(frame, this.#add)
    await this.#room()
  }

  /** The frame belongs to the session from now on. A job that it begins is on its way before another frame is copied. */
  readonly #add = (frame: TakenFrame): void => {
    this.#frames.push(frame)
    this.#byteLength += frame.byteLength
    if (this.#byteLength >= startByteLength) this.#write()
    else this.#writeDue ??= setImmediate(() => this.#write())
  }

  /** Resolves when another frame may come. */
  async #room(): Promise<void> {
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
    // One waits in any case; more while they are small: all of them go into the next job.
    return length < 2 || (length < 2 * jobFrameCountMax && this.#byteLength < this.#encoder.waitingByteLengthMax)
  }

  #throwFailure(): void {
    if (this.#failure !== null) throw this.#failure
    if (this.#isAborted) throw new FramesError('CANCELLED', 'the write was given up')
  }

  async #writeAll(): Promise<void> {
    this.#isWriting = true
    try {
      while (this.#frames.length > 0 && this.#failure === null && !this.#isAborted) {
        if (this.#encoder.isSerial) await this.#table.turn.run(() => this.#writeSome())
        else await this.#writeSome()
      }
    } catch (error) {
      this.#failure ??= error
    }
    this.#take(this.#frames.length)
    this.#isWriting = false
  }

  /** Gives back the first frames. */
  #take(frameCount: number): void {
    for (const { byteLength, release } of this.#frames.splice(0, frameCount)) {
      this.#byteLength -= byteLength
      release()
    }
    for (const wake of this.#adders.splice(0)) wake()
  }

  /** Writes the first of the frames that wait, as many as go into one job. */
  async #writeSome(): Promise<void> {
    if (this.#isGathered) return this.#writeGathered(this.#frames[0]!)
    const encoded = await this.#encode()
    if (encoded === null) return
    const { frameCount, rowCounts, kinds, job, blocks } = encoded
    this.#take(frameCount)
    this.#aloneCount = Math.max(0, this.#aloneCount - frameCount)
    this.#count(frameCount, rowCounts, kinds)
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
    this.#follow(commit, () => job.release())
    while (this.#commits.size >= (this.#encoder.isSerial ? 1 : commitCountMax)) await Promise.race(this.#commits)
  }

  /** Encodes the first frames that wait when a worker is free; null: nobody wants them, or each is to be tried by itself. */
  async #encode(): Promise<EncodedFrames | null> {
    const entered = this.#gate.enter()
    if (entered !== undefined) await entered
    try {
      if (this.#isAborted) return null
      const frames = this.#frames.slice(0, this.#aloneCount > 0 ? 1 : this.#encoder.jobFrameCount(this.#frames))
      const encoded = await this.#encoder.encode(frames, [...this.#kinds])
      if (encoded === null) this.#aloneCount = frames.length
      return encoded
    } finally {
      this.#gate.leave()
    }
  }

  /** Whether the frame that stands first is small and the only one so far: most likely it stays the only one. */
  get #isGathered(): boolean {
    const isOnly = this.#frames.length === 1 && this.#frameCount === 0
    return isOnly && this.#frames[0]!.byteLength <= gatheredByteLengthMax && !this.#encoder.isSerial
  }

  async #writeGathered(frame: TakenFrame): Promise<void> {
    const check = (): void => {
      this.#throwFailure()
      if (this.#options.signal?.aborted) throw new FramesError('CANCELLED', 'the write was cancelled')
    }
    const { rowCount, kinds, committed } = await this.#table.gathered.write(frame, check)
    this.#take(1)
    this.#count(1, [rowCount], kinds)
    this.#follow(committed, () => undefined)
  }

  #count(frameCount: number, rowCounts: readonly number[], kinds: EncodedFrames['kinds']): void {
    this.#frameCount += frameCount
    for (const rowCount of rowCounts) this.#rowCount += rowCount
    for (const [metric, bits] of kinds) this.#kinds.set(metric, (this.#kinds.get(metric) ?? 0) | bits)
  }

  /** Notes a commit that is on its way, and its failure. */
  #follow(commit: Promise<void>, release: () => void): void {
    const settled: Promise<void> = commit
      .catch((error: unknown) => {
        this.#commitFailure ??= error
        this.#failure ??= error
      })
      .finally(() => {
        release()
        this.#commits.delete(settled)
      })
    this.#commits.add(settled)
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
