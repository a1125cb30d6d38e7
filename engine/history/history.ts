// The history: which requests there were, who made them, and how they ended. Kept in the store as a table of its own.
//
// A request leaves its entry in memory and goes on. Every 0.75 s what has gathered becomes one block and one commit; small
// blocks are put together as they add up, old ones dropped by age and size. Who is killed loses what gathered since.
import type { CancelSignal } from '../cancellation.js'
import type { BackendParts, ReadMessage } from '../backends/backend.js'
import { newPartition, type TableName } from '../blocks/catalog.js'
import { chooseMerge, type Run } from '../blocks/compaction.js'
import type { LiveBlock } from '../blocks/live-block.js'
import type { PreparedBlock } from '../blocks/merge-rule.js'
import { BlockTable } from '../blocks/table.js'
import { MiB } from '../limits.js'
import { emptySlice } from '../memory/slice.js'
import type { JobResult } from '../pool/pool.js'
import type { Caller, HistoryRequest, RecordedRequest } from '../requests.js'
import { dayMs, minuteMs, secondMs } from '../time.js'
import { copyOf, type EndedRequest } from './entry.js'
import { historyFilter } from './filter.js'
import type { AppendEntriesJob, HistoryPlace, MergeHistoryJob, ReadHistoryJob, ReadHistoryResult } from './jobs.js'
import { Mask } from './mask.js'
import { PendingEntries } from './pending.js'
import { checkSchema, decodeExtent, encodeSchema, inSequence } from './stored.js'

export interface HistoryOptions {
  /** Entries that started longer ago are dropped; 7 days by default. */
  readonly retentionMs?: number
  /** Oldest entries are dropped while the history takes more bytes in the store; 256 MiB by default. */
  readonly retentionByteLength?: number
}

const retentionMsDefault = 7 * dayMs
const retentionByteLengthDefault = 256 * MiB
/** With a commit under way, a killed process loses a second at most. Each flush costs some 5 ms of processor time. */
const flushIntervalMs = 0.75 * secondMs
/** One commit at most; what is above it begins another. */
const batchCountMax = 8192
const batchTextByteLengthMax = 4 * MiB
/** Entries that wait for a store that is slow or broken; further ones are left out, and that is reported. */
const pendingCountMax = 65_536
const pendingTextByteLengthMax = 32 * MiB
/** Calls that have ended and whose entries are then written together, and how many at most wait for the event loop to turn. */
const togetherCount = 16
const endedCountMax = 256
/** A failed commit is tried again after this time. */
const retryMs = secondMs
const retentionIntervalMs = minuteMs
/** Blocks from here on are left as they are. */
const fullRowCountMin = 4 * 1024
const fullTextByteLengthMin = 8 * MiB
const mergedRowCountMax = 128 * 1024
const mergedTextByteLengthMax = 16 * MiB
const jobScratchByteLength = 8 * MiB
const tableName: TableName = { container: '', backend: 'history', path: 'history' }
const shownName = 'the history'

/** A request at work; its entry is written when it ends. */
export class CallRecord implements EndedRequest {
  rowCount: number | null = null
  byteLength: number | null = null
  durationMs = 0
  error: unknown = undefined
  #hasEnded = false
  readonly #beganMs: number

  /** onEnd null: nothing is recorded. */
  constructor(
    readonly recorded: RecordedRequest,
    /** Of the configuration. */
    readonly backendName: string,
    readonly caller: Caller | undefined,
    readonly startMs: number,
    readonly onEnd: ((record: CallRecord) => void) | null,
  ) {
    this.#beganMs = onEnd === null ? 0 : performance.now()
  }

  /** Counts rows and bytes that came in or went out. */
  count(rowCount: number, byteLength: number): void {
    this.rowCount = (this.rowCount ?? 0) + rowCount
    this.byteLength = (this.byteLength ?? 0) + byteLength
  }

  /** Ends it, once; `error` is undefined for a request that ended well. */
  end(error?: unknown): void {
    if (this.#hasEnded || this.onEnd === null) return
    this.#hasEnded = true
    this.durationMs = performance.now() - this.#beganMs
    this.error = error
    this.onEnd(this)
  }
}

export class History {
  readonly #parts: BackendParts
  readonly #retentionMs: number
  readonly #retentionByteLength: number
  /** Calls whose entries are still to be written. */
  #ended: CallRecord[] = []
  /** The last one takes entries. */
  #batches: PendingEntries[] = [new PendingEntries()]
  /** One that was written: its memory is used again. */
  #spareBatch: PendingEntries | null = null
  #droppedCount = 0
  /** Requests that could not be told, and why the first of them. */
  #untoldCount = 0
  #untoldReason: unknown = null
  #timer: NodeJS.Timeout | null = null
  /** What works on the table, one thing at a time; never rejects. */
  #work: Promise<void> = Promise.resolve()
  #table: BlockTable | null = null
  #retainedMs = Number.NEGATIVE_INFINITY
  #isFailing = false
  #isClosed = false

  constructor(parts: BackendParts, options: HistoryOptions = {}) {
    this.#parts = parts
    this.#retentionMs = options.retentionMs ?? retentionMsDefault
    this.#retentionByteLength = options.retentionByteLength ?? retentionByteLengthDefault
  }

  /** Entries are written some together, when a turn of the event loop is over: by itself, each finds its code out of reach. */
  readonly #onEnd = (record: CallRecord): void => {
    if (this.#isClosed) return
    const count = this.#ended.push(record)
    if (count === 1) this.#flushSoon()
    else if (count === togetherCount) setImmediate(this.#addEnded)
    else if (count === endedCountMax) this.#addEnded()
  }

  readonly #addEnded = (): void => {
    const ended = this.#ended
    if (ended.length === 0) return
    this.#ended = []
    for (const record of ended) {
      try {
        this.#add(record)
      } catch (error) {
        // Nobody waits for an entry: what is thrown here would end the process.
        if (this.#untoldCount++ === 0) this.#untoldReason = error
      }
    }
    this.#flushSoon()
  }

  #flushSoon(): void {
    this.#timer ??= setTimeout(() => void this.flush(), flushIntervalMs)
  }

  /** A request begins; backendName: of the configuration. */
  begin(recorded: RecordedRequest, backendName: string, caller: Caller | undefined): CallRecord {
    // A server makes its requests for one call each, and tells who called.
    const own = caller === undefined ? copyOf(recorded) : recorded
    return new CallRecord(own, backendName, caller, this.#parts.nowMs(), this.#onEnd)
  }

  /** A request that failed before a backend saw it. */
  addRefused(
    recorded: RecordedRequest,
    backendName: string,
    { caller, error, durationMs }: { caller: Caller; error: unknown; durationMs: number },
  ): void {
    const record = new CallRecord(recorded, backendName, caller, this.#parts.nowMs() - durationMs, null)
    record.durationMs = durationMs
    record.error = error
    this.#onEnd(record)
  }

  #add(ended: CallRecord): void {
    const batch = this.#openBatch()
    if (batch === null) {
      if (this.#droppedCount++ === 0) this.#parts.report('the history is full: requests are left out of it', null)
      return
    }
    batch.add(ended, Mask.of(ended.recorded.request.session, ended.caller))
  }

  /** The batch that takes the next entry; null: too many wait. */
  #openBatch(): PendingEntries | null {
    const last = this.#batches[this.#batches.length - 1]!
    if (last.count < batchCountMax && last.textByteLength < batchTextByteLengthMax) return last
    let count = 0
    let textByteLength = 0
    for (const batch of this.#batches) {
      count += batch.count
      textByteLength += batch.textByteLength
    }
    if (count >= pendingCountMax || textByteLength >= pendingTextByteLengthMax) return null
    const next = this.#emptyBatch()
    this.#batches.push(next)
    // Only what is full: the rest has its time.
    this.#work = this.#work.then(() => this.#flush(last))
    return next
  }

  #emptyBatch(): PendingEntries {
    const spare = this.#spareBatch
    this.#spareBatch = null
    return spare ?? new PendingEntries()
  }

  /** Resolves when all entries of now are durable, or their commit has failed; that is reported, and tried again. */
  flush(): Promise<void> {
    this.#addEnded()
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
    this.#work = this.#work.then(() => this.#flush(this.#batches[this.#batches.length - 1]!))
    return this.#work
  }

  /** Writes the batches up to this one; what comes meanwhile waits: while requests keep coming there would be no end. */
  async #flush(last: PendingEntries): Promise<void> {
    try {
      for (let isLast = !this.#batches.includes(last); !isLast && this.#batches[0]!.count > 0; ) {
        const batch = this.#batches[0]!
        isLast = batch === last
        // From here on entries go into the next one.
        if (this.#batches.length === 1) this.#batches.push(this.#emptyBatch())
        await this.#append(batch)
        this.#batches.shift()
        batch.clear()
        this.#spareBatch = batch
      }
      if (this.#table !== null) {
        await this.#mergeSmall(this.#table)
        await this.#retain(this.#table)
      }
      if (this.#droppedCount > 0) this.#parts.report(`${this.#droppedCount} requests are missing in the history`, null)
      this.#droppedCount = 0
      if (this.#untoldCount > 0) {
        const reason = this.#untoldReason
        this.#parts.report(`${this.#untoldCount} requests cannot be told in the history`, reason)
      }
      this.#untoldCount = 0
      this.#untoldReason = null
      this.#isFailing = false
    } catch (error) {
      // Once, and not each second, while the store refuses.
      if (!this.#isFailing) this.#parts.report('writing the history failed; it is tried again', error)
      this.#isFailing = true
      if (!this.#isClosed) this.#timer ??= setTimeout(() => void this.flush(), retryMs)
    }
  }

  /** The table that was written before, or null. */
  async #find(): Promise<BlockTable | null> {
    if (this.#table !== null) return this.#table
    const partition = await this.#parts.catalog.find(tableName)
    if (partition === null) return null
    const table = await BlockTable.open(this.#tableParts(), partition, shownName)
    try {
      checkSchema(table.schema)
    } catch (error) {
      await table.close()
      throw error
    }
    this.#table = table
    return table
  }

  async #open(): Promise<BlockTable> {
    const found = await this.#find()
    if (found !== null) return found
    const partition = newPartition()
    await BlockTable.create(this.#tableParts(), partition, encodeSchema())
    await this.#parts.catalog.add(tableName, partition)
    this.#table = await BlockTable.open(this.#tableParts(), partition, shownName)
    return this.#table
  }

  #tableParts() {
    const { store, memory, pool, report, kernels } = this.#parts
    return { store, memory, pool, report, bytes: kernels.u8 }
  }

  async #append(batch: PendingEntries): Promise<void> {
    const table = await this.#open()
    const { memory, kernels, pool } = this.#parts
    const input = await memory.arenas.allocate(batch.byteLength)
    try {
      const entries = batch.copyTo(kernels.u8, input.byteOffset)
      const job: AppendEntriesJob = { kind: 'history.append', entries, firstSequence: nextSequence(table.blocks) }
      const done = await pool.runToEnd<PreparedBlock>(job, {
        scratchByteLength: 2 * MiB + 4 * batch.textByteLength + 256 * batch.count,
      })
      await this.#commit(table, done, [])
    } finally {
      memory.arenas.free(input)
    }
  }

  async #commit(table: BlockTable, done: JobResult<PreparedBlock>, dropped: readonly LiveBlock[]): Promise<void> {
    try {
      await table.commitRows(await table.stageRows([done.result]), { dropped })
    } finally {
      done.release()
    }
  }

  /** Puts small neighbours together, so that a read opens few blocks. */
  async #mergeSmall(table: BlockTable): Promise<void> {
    for (;;) {
      const blocks = smallTail(table.blocks)
      const choice = chooseMerge(blocks.map(runOf))
      if (choice === null) return
      const inputs = bounded(blocks.slice(choice.start, choice.end))
      if (inputs.length < 2) return
      const sources = await table.sources(inputs)
      const job: MergeHistoryJob = { kind: 'history.merge', ...this.#place(table), sources }
      const done = await this.#parts.pool.runToEnd<PreparedBlock>(job, { scratchByteLength: 2 * jobScratchByteLength })
      await this.#commit(table, done, inputs)
    }
  }

  /** Drops blocks whose entries are all too old, and the oldest while there are too many bytes. */
  async #retain(table: BlockTable): Promise<void> {
    const nowMs = this.#parts.nowMs()
    if (nowMs - this.#retainedMs < retentionIntervalMs) return
    const blocks = inSequence(table.blocks)
    let byteLength = blocks.reduce((sum, block) => sum + block.byteLength, 0)
    const dropped: LiveBlock[] = []
    for (const block of blocks) {
      const isOld = block.extent !== null && decodeExtent(block.extent).startMsMax < nowMs - this.#retentionMs
      // The newest stays: it says which sequence number is next.
      if ((!isOld && byteLength <= this.#retentionByteLength) || block === blocks[blocks.length - 1]) continue
      dropped.push(block)
      byteLength -= block.byteLength
    }
    if (dropped.length > 0) await table.commitRows(await table.stageRows([]), { dropped })
    this.#retainedMs = nowMs
  }

  #place(table: BlockTable): HistoryPlace {
    return { partition: table.partition, tableName: shownName, access: this.#parts.store.workerAccess }
  }

  /** Entries in the order in which their requests ended, up to 1000 in each frame. */
  async *read(
    request: HistoryRequest,
    backendName: string,
    format: 'wire' | 'columns',
    signal: CancelSignal | undefined,
  ): AsyncGenerator<ReadMessage> {
    const nowMs = Math.floor(this.#parts.nowMs())
    const asked = historyFilter(request, backendName, nowMs)
    const oldestMs = nowMs - this.#retentionMs
    const filter = { ...asked, startMsMin: Math.max(asked.startMsMin, oldestMs) }
    const found = this.flush().then(() => this.#find())
    // Nobody else opens the table meanwhile; a failure is this caller's.
    this.#work = found.then(
      () => undefined,
      () => undefined,
    )
    const table = await found
    if (table === null) return
    const snapshot = table.acquire()
    try {
      const wanted = inSequence(snapshot.blocks).filter(({ extent }) => {
        if (extent === null) return true
        const { startMsMin, startMsMax } = decodeExtent(extent)
        return startMsMax >= filter.startMsMin && startMsMin <= filter.startMsMax
      })
      if (wanted.length === 0) return
      const sources = await table.sources(wanted)
      let position: ReadHistoryJob['position'] | null = { source: 0, page: 0, row: 0 }
      while (position !== null) {
        const job: ReadHistoryJob = { kind: 'history.read', ...this.#place(table), sources, filter, position, format }
        const done: JobResult<ReadHistoryResult> = await this.#parts.pool.runToEnd<ReadHistoryResult>(job, {
          scratchByteLength: jobScratchByteLength,
          ...(signal === undefined ? {} : { signal }),
        })
        const { message, next } = done.result
        position = next
        const { outgoing, kernels } = this.#parts
        if (message === null || message.bytes !== null) {
          // A copy: a reader that stops reading would hold the scratch otherwise.
          const place = message?.bytes ?? emptySlice
          const bytes = kernels.u8.slice(place.byteOffset, place.byteOffset + place.byteLength)
          done.release()
          if (message !== null) yield { rowCount: message.rowCount, bytes, frame: null }
          continue
        }
        const step = outgoing.takeColumns(done, [message])
        try {
          yield* step.messages
        } finally {
          step.release()
        }
      }
    } finally {
      snapshot.release()
    }
  }

  /** Writes what has gathered, and closes the table. */
  async close(): Promise<void> {
    this.#addEnded()
    this.#isClosed = true
    await this.flush()
    await this.#table?.close()
    this.#table = null
  }
}

function nextSequence(blocks: readonly LiveBlock[]): number {
  let next = 1
  for (const { extent, rowCount } of blocks) {
    if (extent !== null) next = Math.max(next, decodeExtent(extent).firstSequence + rowCount)
  }
  return next
}

/** The blocks behind the last full one that follow each other without a gap, in the order of their entries. */
function smallTail(blocks: readonly LiveBlock[]): LiveBlock[] {
  const isFull = ({ extent, rowCount }: LiveBlock): boolean =>
    extent === null || rowCount >= fullRowCountMin || decodeExtent(extent).textByteLength >= fullTextByteLengthMin
  // Nearly all are full: the few others are looked for, and those in order.
  let fullSequenceMax = 0
  for (const block of blocks)
    if (block.extent !== null && isFull(block))
      fullSequenceMax = Math.max(fullSequenceMax, decodeExtent(block.extent).firstSequence)
  const tail = inSequence(
    blocks.filter((block) => !isFull(block) && decodeExtent(block.extent!).firstSequence > fullSequenceMax),
  )
  let start = tail.length - 1
  while (start > 0) {
    const before = tail[start - 1]!
    if (
      decodeExtent(before.extent!).firstSequence + before.rowCount !==
      decodeExtent(tail[start]!.extent!).firstSequence
    )
      break
    start--
  }
  return tail.slice(Math.max(0, start))
}

/** As many blocks from the first on as one job can merge. */
function bounded(blocks: readonly LiveBlock[]): LiveBlock[] {
  let rowCount = 0
  let textByteLength = 0
  const taken: LiveBlock[] = []
  for (const block of blocks) {
    rowCount += block.rowCount
    textByteLength += decodeExtent(block.extent!).textByteLength
    if (taken.length > 0 && (rowCount > mergedRowCountMax || textByteLength > mergedTextByteLengthMax)) break
    taken.push(block)
  }
  return taken
}

function runOf(block: LiveBlock, index: number): Run {
  return { start: index, end: index + 1, rowCount: block.rowCount, deadRowCount: 0, byteLength: block.byteLength }
}
