// A read at work, main-thread half: blocks are cut into tasks, whose jobs run ahead of each other, and their messages
// leave in order. A read that follows begins anew from its position when there are new records.
import type { CancelSignal } from '../../cancellation.js'
import type { LiveBlock } from '../../blocks/live-block.js'
import { runsOf } from '../../blocks/compaction.js'
import { FramesError, shortened } from '../../errors.js'
import type { ColumnHead } from '../../frame/column-head.js'
import { pageRowCountMax, streamJobByteLength } from '../../limits.js'
import { copyBytes } from '../../memory/copy.js'
import type { JobResult } from '../../pool/pool.js'
import type { BackendParts, ReadMessage } from '../backend.js'
import { appendMarker } from '../../codec/labels.js'
import type { ScanJob } from './jobs.js'
import { encodeMarker, parseMarker } from './marker.js'
import { decodeExtent, nsPerMs, shardRange } from './pieces.js'
import type { ReadPlan } from './plan.js'
import type { RecordPosition, ScanPlan, ScanResult, SequenceRange, WantedColumn } from './scan.js'
import { type CellType, clientInfoColumn, memberName, partitionKeyColumn, type StoredColumn } from './stored-columns.js'
import type { StreamTable } from './table.js'

export interface ReadOptions {
  readonly plan: ReadPlan
  readonly marker: string
  /** What must be the same for a marker to fit. */
  readonly markerKey: string
  readonly format: 'wire' | 'columns'
  /** Whether the first message tells the columns of all others. */
  readonly describe: boolean
  readonly signal: CancelSignal | null
}

const scanScratchByteLength = 16 * 1024 * 1024
/** Records of one task at most, about: its jobs run one after the other, those of different tasks at once. */
const taskRowCount = 32_768
/** What a message has of each record beside its data: sequence number, arrival time, length. */
const rowHeadByteLength = 24
/** Blocks of one task at most: its jobs hold pages of each. */
const taskBlockCountMax = 256
const noBoundNs = 2n ** 63n - 1n

/** Some blocks, and what of them is read. */
interface Task {
  readonly blocks: readonly LiveBlock[]
  readonly ranges: readonly SequenceRange[]
}

/** Where a read stands: the next record of each shard, and for all shards together the next in order of arrival. */
interface Cursor {
  readonly starts: Float64Array
  position: RecordPosition | null
  fromNs: bigint
}

export async function* readStream(
  parts: BackendParts,
  table: StreamTable,
  options: ReadOptions,
): AsyncGenerator<ReadMessage> {
  const { plan } = options
  const marker = options.marker === '' ? null : parseMarker(options.marker, options.markerKey)
  const endMs = marker === null ? plan.endMs : marker.endMs
  if (options.describe && plan.followMs !== null) {
    throw new FramesError('INVALID_ARGUMENT', 'a read in this format cannot follow a stream: its columns come first')
  }
  table.assertWhole()
  const shard = plan.shard === null ? null : shardOf(plan.shard, table.shardCount)
  const cursor = seekCursor(table, plan, shard)
  if (marker !== null) {
    const { position } = marker
    if (shard === null) cursor.position = position
    else cursor.starts[shard] = Math.max(cursor.starts[shard]!, position.sequence)
  }
  const read = new SnapshotReads(parts, table, { ...options, endMs, shard, cursor })
  for (;;) {
    const seen = table.blocks.version
    yield* read.next()
    if (read.isDone || plan.followMs === null) return
    if (table.blocks.version !== seen) continue
    const isWoken = await table.waitForCommit(plan.followMs, options.signal)
    if (options.signal?.aborted) throw new FramesError('CANCELLED', 'the read was given up')
    if (!isWoken && table.blocks.version === seen) return
  }
}

/** Throws INVALID_ARGUMENT, SHARD_NOT_FOUND. */
export function shardOf(text: string, shardCount: number): number {
  if (!/^[0-9]{1,9}$/.test(text)) {
    throw new FramesError('INVALID_ARGUMENT', `Error in Seek operation - shard '${shortened(text)}' is not a number`)
  }
  const shard = Number(text)
  if (shard >= shardCount) {
    const what = `Error in Seek operation - there is no shard ${shard}; the stream has ${shardCount}`
    throw new FramesError('SHARD_NOT_FOUND', what)
  }
  return shard
}

function seekCursor(table: StreamTable, { seek }: ReadPlan, shard: number | null): Cursor {
  const firsts = Float64Array.from(table.schema.shards, ({ first }) => first)
  const { nextSequences: ends } = table.appender
  const cursor: Cursor = { starts: firsts, position: null, fromNs: 0n }
  switch (seek.kind) {
    case 'earliest':
      return cursor
    case 'latest':
      return { ...cursor, starts: Float64Array.from(ends) }
    case 'time':
      return { ...cursor, fromNs: BigInt(Math.max(0, seek.fromMs)) * nsPerMs }
    case 'sequence': {
      if (shard === null && firsts.length > 1) {
        throw new FramesError(
          'INVALID_ARGUMENT',
          'missing essential parameters, need: table, seek, shard parameters: a sequence number belongs to a shard',
        )
      }
      const own = shard ?? 0
      const { sequence } = seek
      const [first, end] = [firsts[own]!, ends[own]!]
      // One past the newest is where a consumer goes on; so is the first of all where there is none yet.
      if (sequence > end || (sequence < first && sequence !== end) || sequence < 1) {
        const held = first === end ? `has no records, the next one is ${end}` : `has records ${first} to ${end - 1}`
        throw new FramesError(
          'RECORD_NOT_FOUND',
          `Error in Seek operation - no record has sequence number ${sequence}; shard ${own} ${held}`,
        )
      }
      const starts = Float64Array.from(firsts)
      starts[own] = sequence
      return { ...cursor, starts }
    }
  }
}

interface SnapshotReadOptions extends ReadOptions {
  readonly endMs: number | null
  /** Null: all. */
  readonly shard: number | null
  readonly cursor: Cursor
}

/** The same read over one snapshot after another, each from where the last one ended. */
class SnapshotReads {
  readonly #parts: BackendParts
  readonly #table: StreamTable
  readonly #options: SnapshotReadOptions
  #rowCountLeft: number
  #isDescribed = false
  readonly #buffers = new OutgoingBuffers()
  /** Bytes of a record in the messages of the last job; null: none has ended yet. */
  #rowByteLength: number | null = null
  /** The limit or the bound was reached: later records are not wanted. */
  isDone = false

  constructor(parts: BackendParts, table: StreamTable, options: SnapshotReadOptions) {
    this.#parts = parts
    this.#table = table
    this.#options = options
    this.#rowCountLeft = options.plan.limit ?? Infinity
  }

  async *next(): AsyncGenerator<ReadMessage> {
    const { blocks, appender, schema } = this.#table
    const { cursor, shard, plan, endMs } = this.#options
    const snapshot = blocks.acquire()
    try {
      const ends = Float64Array.from(appender.nextSequences)
      // Shards may have been added, and old records dropped, since the last look.
      const starts = Float64Array.from(schema.shards, ({ first }, i) => Math.max(first, cursor.starts[i] ?? first))
      const ranges = (shard === null ? [...ends.keys()] : [shard])
        .map((own): SequenceRange => ({ shard: own, start: starts[own]!, end: ends[own]! }))
        .filter(({ start, end }) => start < end)
      if (ranges.length === 0) return
      const wanted = wantedBlocks(snapshot.blocks, ranges, cursor, endMs)
      if (wanted.length > 0) {
        const columns = wantedColumns(plan.columns, await this.#table.columnsOf(wanted), this.#options.format)
        if (this.#options.describe && !this.#isDescribed) yield this.#description(columns)
        const scanPlan: ScanPlan = {
          columns,
          filter: plan.filter,
          hasShardIndex: shard === null,
          fromNs: cursor.fromNs,
          untilNs: endMs === null ? noBoundNs : BigInt(endMs + 1) * nsPerMs,
          messageLimit: plan.messageLimit,
        }
        const tasks =
          shard === null
            ? mergedTasks(wanted, ranges)
            : shardTasks(wanted, ranges[0]!, plan.messageLimit, () => this.#rowByteLength)
        yield* this.#run(tasks, scanPlan)
      }
      if (endMs !== null && snapshot.blocks.length > 0) {
        const last = decodeExtent(snapshot.blocks[snapshot.blocks.length - 1]!.extent!)
        if (last.arrivalMinMs > endMs) this.isDone = true
      }
      for (const { shard: own, end } of ranges) this.#reach(own, end)
      cursor.position = null
    } finally {
      snapshot.release()
    }
  }

  #reach(shard: number, sequence: number): void {
    const { cursor } = this.#options
    if (shard >= cursor.starts.length) return
    cursor.starts[shard] = sequence
  }

  #description(columns: readonly WantedColumn[]): ReadMessage {
    this.#isDescribed = true
    const indices: ColumnHead[] = [{ name: 'seq_number', role: 'index', dtype: 'int64' }]
    if (this.#options.shard === null) indices.unshift({ name: 'shard_id', role: 'index', dtype: 'int64' })
    const heads = columns.map(({ name, type }): ColumnHead => ({ name, role: 'column', dtype: type }))
    return { rowCount: 0, bytes: null, frame: null, columns: [...indices, ...heads] }
  }

  async *#run(tasks: Iterator<Task, void>, plan: ScanPlan): AsyncGenerator<ReadMessage> {
    // Where a limit may end the read, nothing is read ahead of it.
    // One more than workers: all of them are at work while the messages of the first task leave.
    const aheadCount = this.#rowCountLeft === Infinity ? 1 + this.#parts.pool.statistics().workerCount : 1
    const chains: ScanChain[] = []
    try {
      for (;;) {
        while (chains.length < aheadCount) {
          const task = tasks.next()
          if (task.done === true) break
          const chain = this.#chain(task.value, plan)
          if (this.#rowCountLeft === Infinity) chain.begin()
          chains.push(chain)
        }
        const chain = chains[0]
        if (chain === undefined) return
        const step = await chain.next(this.#rowCountLeft)
        if (step === null) {
          chains.shift()
          continue
        }
        try {
          const { messages } = step
          const rowCount = messages.reduce((sum, message) => sum + message.rowCount, 0)
          this.#rowCountLeft -= rowCount
          if (rowCount > 0) this.#rowByteLength = step.byteLength / rowCount
          let marker: string | null = null
          if (this.#rowCountLeft <= 0) {
            this.isDone = true
            const next = step.isEnd ? null : await this.#nextRecord(chain, tasks, plan)
            if (next !== null)
              marker = encodeMarker({ position: next, endMs: this.#options.endMs }, this.#options.markerKey)
          }
          for (const [i, message] of messages.entries()) {
            yield i === messages.length - 1 && marker !== null ? withMarker(message, marker) : message
            // Who asks for the next one is done with it.
            if (message.bytes !== null) this.#buffers.giveBack(message.bytes)
          }
          if (step.isEnd) this.isDone = true
          if (this.isDone) return
        } finally {
          step.release()
        }
      }
    } finally {
      await Promise.all(chains.map((chain) => chain.close()))
    }
  }

  #chain({ blocks, ranges }: Task, plan: ScanPlan): ScanChain {
    const { cursor, format, shard, signal } = this.#options
    const template: ScanTemplate = {
      kind: 'stream.scan',
      ...this.#table.place,
      blocks,
      plan,
      ranges,
      position: shard === null ? cursor.position : null,
      rowCountMax: Infinity,
      format,
    }
    return new ScanChain(this.#parts, this.#table, template, signal, this.#buffers)
  }

  /** The record behind the last one that was read, if there is one that is wanted. */
  async #nextRecord(chain: ScanChain, rest: Iterator<Task, void>, plan: ScanPlan): Promise<RecordPosition | null> {
    const found = await chain.peek()
    if (found !== 'none') return found
    for (;;) {
      const task = rest.next()
      if (task.done === true) return null
      const next = this.#chain(task.value, plan)
      const other = await next.peek()
      await next.close()
      if (other !== 'none') return other
    }
  }
}

/** Blocks that may hold records of the ranges. */
function wantedBlocks(
  blocks: readonly LiveBlock[],
  ranges: readonly SequenceRange[],
  { fromNs, position }: Cursor,
  endMs: number | null,
): LiveBlock[] {
  const fromMs = Number((position !== null && position.arrivalNs > fromNs ? position.arrivalNs : fromNs) / nsPerMs)
  const rangeOf = new Map(ranges.map((range) => [range.shard, range]))
  const [only] = ranges
  return blocks.filter(({ extent }) => {
    const [arrivalMinMs, arrivalMaxMs] = extent as readonly [number, number]
    if (arrivalMaxMs < fromMs || (endMs !== null && arrivalMinMs > endMs)) return false
    const overlaps = ({ first, count }: { first: number; count: number }, range: SequenceRange): boolean =>
      first < range.end && first + count > range.start
    if (ranges.length === 1) {
      const own = shardRange(extent!, only!.shard)
      return own !== null && overlaps(own, only!)
    }
    return decodeExtent(extent!).shards.some((own) => {
      const range = rangeOf.get(own.shard)
      return range !== undefined && overlaps(own, range)
    })
  })
}

interface OwnBlock {
  readonly block: LiveBlock
  /** Sequence numbers of the shard's records in it. */
  readonly first: number
  readonly count: number
}

/**
 * The records of one shard in order. With a message limit, a multiple of it each; else as many as one job makes messages of,
 * in whole pages, so that none is decoded for two tasks.
 */
function* shardTasks(
  blocks: readonly LiveBlock[],
  range: SequenceRange,
  messageLimit: number,
  rowByteLength: () => number | null,
): Generator<Task, void> {
  const own = blocks
    .map((block): OwnBlock => ({ block, ...shardRange(block.extent!, range.shard)! }))
    .sort((a, b) => a.first - b.first)
  let start = Math.max(range.start, own[0]?.first ?? range.end)
  let from = 0
  while (from < own.length && start < range.end) {
    const last = own[Math.min(own.length, from + taskBlockCountMax) - 1]!
    const wanted =
      messageLimit > 0
        ? start + Math.max(1, Math.floor(taskRowCount / messageLimit)) * Math.min(messageLimit, taskRowCount)
        : pagesEnd(own, from, start, rowByteLength())
    const end = Math.min(wanted, last.first + last.count, range.end)
    let to = from
    while (to < own.length && own[to]!.first < end) to++
    yield { blocks: own.slice(from, to).map(({ block }) => block), ranges: [{ shard: range.shard, start, end }] }
    while (from < own.length && own[from]!.first + own[from]!.count <= end) from++
    start = Math.max(end, own[from]?.first ?? end)
  }
}

/**
 * Where a task that begins at a record should end: with a page, and before its messages have more bytes than a job makes.
 *
 * messageRowByteLength  bytes of a record in messages; null: not known yet, what is stored tells
 */
function pagesEnd(own: readonly OwnBlock[], from: number, start: number, messageRowByteLength: number | null): number {
  let byteLengthLeft = streamJobByteLength
  let at = start
  for (let i = from; i < Math.min(own.length, from + taskBlockCountMax); i++) {
    const { block, first, count } = own[i]!
    at = Math.max(at, first)
    const rowByteLength = messageRowByteLength ?? rowHeadByteLength + block.byteLength / block.rowCount
    const rowCount = Math.floor(Math.min(byteLengthLeft / rowByteLength, taskRowCount - (at - start)))
    if (at + rowCount < first + count) {
      const pageEnd = first + Math.floor((at + rowCount - first) / pageRowCountMax) * pageRowCountMax
      if (pageEnd > at) return pageEnd
      return at > start ? at : Math.min(first + count, pageEnd + pageRowCountMax)
    }
    byteLengthLeft -= (first + count - at) * rowByteLength
    at = first + count
  }
  return at
}

/** Whole runs, some together: later runs hold later commits. */
function* mergedTasks(blocks: readonly LiveBlock[], ranges: readonly SequenceRange[]): Generator<Task, void> {
  let start = 0
  let rowCount = 0
  for (const run of runsOf(blocks)) {
    if (run.start > start && (rowCount + run.rowCount > taskRowCount || run.end - start > taskBlockCountMax)) {
      yield { blocks: blocks.slice(start, run.start), ranges }
      start = run.start
      rowCount = 0
    }
    rowCount += run.rowCount
  }
  if (start < blocks.length) yield { blocks: blocks.slice(start), ranges }
}

/** What the columns of the answer are made of: members by name, then when each record arrived. */
function wantedColumns(
  names: readonly string[],
  stored: readonly StoredColumn[],
  format: 'wire' | 'columns',
): WantedColumn[] {
  const members = new Map<string, StoredColumn[]>()
  for (const column of stored) {
    const name = memberName(column.name)
    if (name === null) continue
    const known = members.get(name)
    if (known === undefined) members.set(name, [column])
    else known.push(column)
  }
  const cells = (name: string, columns: readonly StoredColumn[], isRequested: boolean): WantedColumn => ({
    name,
    source: 'cells',
    type: columns.length === 0 ? 'float64' : unitedType(columns),
    stored: columns,
    isRequested,
  })
  const known = (name: string, source: 'arrival' | 'sequence', type: CellType): WantedColumn => ({
    name,
    source,
    type,
    stored: [],
    isRequested: true,
  })
  if (names.length === 0) {
    members.delete('stream_time')
    members.delete('seq_number')
    return [
      ...[...members].map(([name, columns]) => cells(name, columns, false)),
      known('stream_time', 'arrival', 'time'),
    ]
  }
  const isSequenceAlone = format === 'wire' && names.every((name) => name === 'seq_number')
  return [...new Set(names)].flatMap((name): WantedColumn[] => {
    if (name === 'stream_time') return [known(name, 'arrival', 'time')]
    // It is the index; but clients of the wire drop frames without any column.
    if (name === 'seq_number') return isSequenceAlone ? [known(name, 'sequence', 'int64')] : []
    const columns = members.get(name) ?? hiddenColumns(name, stored)
    return [cells(name, columns, true)]
  })
}

/** What came with a record beside its data is told to who asks for it by name. */
function hiddenColumns(name: string, stored: readonly StoredColumn[]): readonly StoredColumn[] {
  const hidden = name === 'client_info' ? clientInfoColumn : name === 'partition_key' ? partitionKeyColumn : null
  return stored.filter((column) => column.name === hidden)
}

/** INTEGER and FLOAT are FLOAT together, any other mix is text. */
function unitedType(columns: readonly StoredColumn[]): CellType {
  const types = new Set(columns.map(({ dtype }) => dtype))
  if (types.size === 1) return columns[0]!.dtype
  return types.size === 2 && types.has('int64') && types.has('float64') ? 'float64' : 'string'
}

function withMarker({ rowCount, bytes, frame }: ReadMessage, marker: string): ReadMessage {
  return {
    rowCount,
    bytes: bytes === null ? null : appendMarker(bytes, marker),
    frame: frame === null ? null : { ...frame, labels: [...frame.labels, { name: 'next_marker', value: marker }] },
  }
}

/** What a job has made; its columns are valid until it is released. */
interface ScanStep {
  readonly messages: readonly ReadMessage[]
  readonly next: RecordPosition | null
  readonly isEnd: boolean
  readonly byteLength: number
  release(): void
}

/** Buffers for the bytes of messages on their way out: fresh memory for each costs more than the copy. */
class OutgoingBuffers {
  readonly #free: Buffer[] = []

  /** Bytes of the shared memory, in a buffer that is given back. */
  copy(bytes: Uint8Array): Uint8Array {
    const at = this.#free.findIndex(({ byteLength }) => byteLength >= bytes.byteLength)
    const buffer = at < 0 ? Buffer.allocUnsafeSlow(bytes.byteLength + spareByteLength) : this.#free.splice(at, 1)[0]!
    copyBytes(bytes, buffer, 0)
    return buffer.subarray(0, bytes.byteLength)
  }

  /** Nobody looks at these bytes any more. */
  giveBack(bytes: Uint8Array): void {
    if (this.#free.length < freeBufferCountMax) this.#free.push(Buffer.from(bytes.buffer))
  }
}

/** Messages differ a little in length; one buffer is to fit most. */
const spareByteLength = 64 * 1024
const freeBufferCountMax = 8

/**
 * Finished bytes are copied out as soon as their job has ended, and its scratch is free: a few readers that stop reading
 * would hold all memory of the arenas otherwise, and nobody else could read.
 */
function stepOf(
  { kernels: { u8 }, outgoing }: BackendParts,
  job: JobResult<ScanResult>,
  buffers: OutgoingBuffers,
): ScanStep {
  const { next, isEnd, byteLength: madeByteLength } = job.result
  if (job.result.messages.some(({ frame }) => frame !== null)) {
    const { messages, release } = outgoing.takeColumns(job, job.result.messages)
    return { messages, next, isEnd, byteLength: madeByteLength, release }
  }
  const messages = job.result.messages.map(({ rowCount, bytes, frame }): ReadMessage => {
    if (bytes === null) return { rowCount, bytes, frame }
    const { byteOffset, byteLength } = bytes
    return { rowCount, bytes: buffers.copy(u8.subarray(byteOffset, byteOffset + byteLength)), frame }
  })
  job.release()
  return { messages, next, isEnd, byteLength: madeByteLength, release: () => undefined }
}

type ScanTemplate = Omit<ScanJob, 'sources'> & { readonly blocks: readonly LiveBlock[] }

/** One job after another over one task; the next one runs while the messages of the last leave. */
class ScanChain {
  readonly #parts: BackendParts
  readonly #table: StreamTable
  readonly #template: ScanTemplate
  readonly #signal: CancelSignal | null
  readonly #buffers: OutgoingBuffers
  #position: RecordPosition | null
  #isDone = false
  #running: Promise<ScanStep> | null = null

  constructor(
    parts: BackendParts,
    table: StreamTable,
    template: ScanTemplate,
    signal: CancelSignal | null,
    buffers: OutgoingBuffers,
  ) {
    this.#parts = parts
    this.#table = table
    this.#template = template
    this.#signal = signal
    this.#buffers = buffers
    this.#position = template.position
  }

  #start(rowCountMax: number): Promise<ScanStep> {
    const started = this.#run(rowCountMax)
    // Looked at when its turn comes; a failure must not count as unhandled before.
    started.catch(() => undefined)
    return started
  }

  /** Starts the first job ahead of its turn. */
  begin(): void {
    this.#running ??= this.#start(Infinity)
  }

  async #run(rowCountMax: number): Promise<ScanStep> {
    const { blocks, ...template } = this.#template
    if (template.format === 'columns') await this.#parts.outgoing.roomForColumns(this.#signal)
    const job: ScanJob = {
      ...template,
      sources: await this.#table.blocks.sources(blocks),
      position: this.#position,
      rowCountMax,
    }
    const done = await this.#parts.pool.runToEnd<ScanResult>(job, {
      scratchByteLength: scanScratchByteLength,
      ...(this.#signal === null ? {} : { signal: this.#signal }),
    })
    return stepOf(this.#parts, done, this.#buffers)
  }

  /** The next result, to be released by the caller; null: the task has no more. */
  async next(rowCountMax: number): Promise<ScanStep | null> {
    if (this.#isDone) return null
    const step = await (this.#running ?? this.#start(rowCountMax))
    this.#running = null
    this.#position = step.next
    this.#isDone = step.next === null
    if (!this.#isDone && rowCountMax === Infinity) this.#running = this.#start(Infinity)
    return step
  }

  /** The next record of the task that is wanted; 'none': the task has no more; null: nor has any task behind it. */
  async peek(): Promise<RecordPosition | null | 'none'> {
    if (this.#isDone) return 'none'
    const step = await this.#run(0)
    step.release()
    if (step.isEnd) return null
    return step.next ?? 'none'
  }

  /** Gives back what was started and not taken. */
  async close(): Promise<void> {
    const pending = this.#running
    this.#running = null
    const step = await pending?.catch(() => null)
    step?.release()
  }
}
