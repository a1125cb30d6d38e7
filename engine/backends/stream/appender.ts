// The one way records get into a stream: what waits is encoded by one job and stored by one commit, in the order of
// arrival; while a commit is on its way to the disk, the next job runs.
//
//   append ──► queue ──► job: sequences, blocks ──► commit (up to four at once) ──► durable: published, answered
//                ▲                                     │
//                └───── encoded again: a commit before it failed, so its sequence numbers are others now
import type { StagedRows } from '../../blocks/table.js'
import { FramesError, fromErrorMessage } from '../../errors.js'
import { MiB, tableColumnCountMax } from '../../limits.js'
import type { JobResult } from '../../pool/pool.js'
import type { BackendParts } from '../backend.js'
import type { AppendOutcome, AppendResult, Places, RecordInput } from './append.js'
import type { AppendJob } from './jobs.js'
import { nsPerMs } from './pieces.js'
import { lastArrivalMs, nextSequences } from './schema.js'
import { columnKey } from './stored-columns.js'
import type { StreamTable } from './table.js'

/** Inputs of one writer: after a failure, none of it is stored any more. */
export class AppendSession {
  failure: unknown = null
}

/** What was stored of an input. places: of records; null for frames. */
export interface Appended {
  readonly rowCount: number
  readonly places: Places | null
}

interface Ticket {
  readonly session: AppendSession
  readonly source: RecordInput
  readonly byteLength: number
  resolve(appended: Appended): void
  reject(error: unknown): void
}

/** Where the next record goes. */
interface State {
  readonly nextSequences: Float64Array
  readonly cursor: number
  readonly arrivalNs: bigint
}

/** Bytes and inputs of one job: enough to make a commit worth its sync, few enough that it goes out as one batch. */
const batchByteLength = 3 * MiB
const batchTicketCount = 512
/** Commits that may be on their way to the disk while the next job runs. */
const commitCountMax = 4
const scratchByteLengthMin = 3 * MiB
const scratchBytesPerByte = 4

export class Appender {
  readonly #parts: BackendParts
  readonly #table: StreamTable
  readonly #onCommit: () => void
  readonly #queue: Ticket[] = []
  /** Commits under way, in order. */
  readonly #commits = new Set<Promise<void>>()
  /** A commit failed: those behind it are given up, and their inputs encoded again. */
  #isBroken = false
  readonly #again: Ticket[] = []
  readonly #exclusive: (() => Promise<void>)[] = []
  #pumping: Promise<void> | null = null
  #durable: State
  #planned: State
  /** Members of all records so far, as far as this process knows. */
  readonly #columnKeys = new Set<string>()

  constructor(parts: BackendParts, table: StreamTable, onCommit: () => void) {
    this.#parts = parts
    this.#table = table
    this.#onCommit = onCommit
    const { schema, blocks } = table
    const next = nextSequences(schema, blocks.blocks)
    this.#durable = {
      nextSequences: next,
      cursor: next.reduce((sum, sequence) => sum + sequence - 1, 0) % next.length,
      arrivalNs: BigInt(lastArrivalMs(schema, blocks.blocks)) * nsPerMs,
    }
    this.#planned = this.#durable
  }

  /** One past the newest durable record of each shard. Not to be changed. */
  get nextSequences(): Float64Array {
    return this.#durable.nextSequences
  }

  /** When the newest durable record arrived, or later. */
  get arrivalNs(): bigint {
    return this.#durable.arrivalNs
  }

  /** Resolves when the input is durable; the memory that it names must stay until then. */
  append(session: AppendSession, source: RecordInput, byteLength: number): Promise<Appended> {
    return new Promise((resolve, reject) => {
      this.#queue.push({ session, source, byteLength, resolve, reject })
      this.#pump()
    })
  }

  /** Runs `work` when no append is at work or on its way, and lets none begin meanwhile. */
  exclusively<T>(work: () => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#exclusive.push(() => work().then(resolve, reject))
      this.#pump()
    })
  }

  /** After shards were added, in exclusive work. */
  addShards(): void {
    const next = nextSequences(this.#table.schema, [])
    next.set(this.#durable.nextSequences)
    this.#durable = { ...this.#durable, nextSequences: next }
    this.#planned = this.#durable
  }

  /** Resolves when nothing waits or is on its way. */
  async idle(): Promise<void> {
    while (this.#pumping !== null) await this.#pumping
  }

  #pump(): void {
    this.#pumping ??= this.#work().finally(() => {
      this.#pumping = null
      // Something may have come between the last look and this.
      if (this.#queue.length > 0 || this.#exclusive.length > 0) this.#pump()
    })
  }

  /** Never rejects. */
  async #work(): Promise<void> {
    for (;;) {
      if (this.#isBroken || this.#exclusive.length > 0 || this.#queue.length === 0) {
        await Promise.all(this.#commits)
        if (this.#isBroken) {
          this.#queue.unshift(...this.#again.splice(0))
          this.#isBroken = false
          this.#planned = this.#durable
        }
        const work = this.#exclusive.shift()
        if (work !== undefined) await work()
        else if (this.#queue.length === 0) return
        continue
      }
      await this.#write(this.#takeBatch())
      while (this.#commits.size >= commitCountMax) await Promise.race(this.#commits)
    }
  }

  #takeBatch(): Ticket[] {
    const batch: Ticket[] = []
    let byteLength = 0
    for (const ticket of this.#queue) {
      if (batch.length > 0 && (byteLength + ticket.byteLength > batchByteLength || batch.length >= batchTicketCount))
        break
      byteLength += ticket.byteLength
      batch.push(ticket)
    }
    this.#queue.splice(0, batch.length)
    return batch
  }

  /** Encodes and commits a batch; its tickets are settled when the commit is. Never rejects. */
  async #write(batch: readonly Ticket[]): Promise<void> {
    const tickets = batch.filter((ticket) => {
      if (ticket.session.failure !== null) ticket.reject(ticket.session.failure)
      return ticket.session.failure === null
    })
    if (tickets.length === 0) return
    let job: JobResult<AppendResult> & { arrivalNs: bigint }
    try {
      this.#table.assertWhole()
      job = await this.#encode(tickets)
      this.#checkColumns(job)
    } catch (error) {
      if (tickets.length === 1) fail(tickets[0]!, error)
      // Whose fault it is shows when each is tried alone.
      else for (const ticket of tickets) await this.#write([ticket])
      return
    }
    const stored: { ticket: Ticket; outcome: Extract<AppendOutcome, { status: 'stored' }> }[] = []
    job.result.outcomes.forEach((outcome, i) => {
      const ticket = tickets[i]!
      if (outcome.status === 'stored') stored.push({ ticket, outcome })
      else if (outcome.status === 'failed') fail(ticket, fromErrorMessage(outcome.error))
      else ticket.reject(ticket.session.failure)
    })
    const { blocks, shardRowCounts, cursor, columns } = job.result
    if (blocks.length === 0) {
      for (const { ticket, outcome } of stored) ticket.resolve(outcome)
      job.release()
      return
    }
    let staged: StagedRows
    try {
      staged = await this.#table.blocks.stageRows(blocks)
    } catch (error) {
      for (const { ticket } of stored) fail(ticket, error)
      job.release()
      return
    }
    const next = this.#planned.nextSequences.map((sequence, shard) => sequence + shardRowCounts[shard]!)
    const state: State = { nextSequences: next, cursor, arrivalNs: job.arrivalNs }
    this.#planned = state
    const commit: Promise<void> = this.#table.blocks
      .commitRows(staged, {
        check: () => {
          if (this.#isBroken) throw superseded
        },
        onFailure: () => {
          this.#isBroken = true
        },
      })
      .then(
        () => {
          this.#durable = state
          this.#table.keepColumns(staged.ids, columns)
          for (const { ticket, outcome } of stored) ticket.resolve(outcome)
          this.#onCommit()
        },
        (error: unknown) => {
          this.#isBroken = true
          for (const { ticket } of stored) {
            if (error === superseded) this.#again.push(ticket)
            else fail(ticket, error)
          }
        },
      )
      .finally(() => {
        job.release()
        this.#commits.delete(commit)
      })
    this.#commits.add(commit)
  }

  async #encode(tickets: readonly Ticket[]): Promise<JobResult<AppendResult> & { arrivalNs: bigint }> {
    const sessions = new Map<AppendSession, number>()
    for (const { session } of tickets) if (!sessions.has(session)) sessions.set(session, sessions.size)
    const { nextSequences: next, cursor, arrivalNs: last } = this.#planned
    const nowNs = BigInt(Math.floor(this.#parts.nowMs())) * nsPerMs
    // Later than all before it, also when the clock is not: the time tells commits apart.
    const arrivalNs = nowNs > last ? nowNs : last + 1n
    const job: AppendJob = {
      kind: 'stream.append',
      inputs: tickets.map(({ session, source }) => ({ session: sessions.get(session)!, source })),
      places: { nextSequences: next, cursor, arrivalNs },
      partitionKey: this.#table.schema.partitionKey,
    }
    const byteLength = tickets.reduce((sum, ticket) => sum + ticket.byteLength, 0)
    const done = await this.#parts.pool.runToEnd<AppendResult>(job, {
      scratchByteLength: scratchByteLengthMin + scratchBytesPerByte * byteLength,
    })
    return { ...done, release: () => done.release(), arrivalNs }
  }

  /** A stream of ever new members would make every read wider. */
  #checkColumns(job: JobResult<AppendResult>): void {
    const added = job.result.columns.map(columnKey).filter((key) => !this.#columnKeys.has(key))
    if (this.#columnKeys.size + added.length > tableColumnCountMax) {
      job.release()
      const what = `the records of the stream would have more than ${tableColumnCountMax} different members`
      throw new FramesError('TOO_MANY_COLUMNS', what)
    }
    for (const key of added) this.#columnKeys.add(key)
  }
}

/** Given up because a commit before it failed. */
const superseded = new FramesError('VIEW_OUTDATED', 'a commit before this one failed')

function fail(ticket: Ticket, error: unknown): void {
  ticket.session.failure ??= error
  ticket.reject(error)
}
