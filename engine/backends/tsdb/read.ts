// A read at work, main-thread half: label sets are shared out to jobs, and their messages leave in order.
import type { CancelSignal } from '../../cancellation.js'
import type { LiveBlock } from '../../blocks/live-block.js'
import { sendSources } from '../../blocks/sent-sources.js'
import { appendMarker } from '../../codec/labels.js'
import { FramesError } from '../../errors.js'
import type { ColumnHead } from '../../frame/column-head.js'
import { ListedMessages, type WireMessages } from '../../frame/wire-messages.js'
import { readJobByteLength } from '../../limits.js'
import type { StepSource } from '../../steps.js'
import type { BackendParts, ReadMessage } from '../backend.js'
import type { RunOptions } from '../../pool/pool.js'
import type { OutgoingStep } from '../outgoing.js'
import { extentOf } from './directory.js'
import type { DescribeJob, LabelView, ScanTerms } from './jobs.js'
import { manySetsByteLength, occupiedBuckets, rowCountToRead, scanScratchByteLength } from './many-sets.js'
import { encodeMarker, type Marker, parseMarker } from './marker.js'
import { clampRange, lookbackMs, planOf, type ReadPlan, type ReadShape } from './plan.js'
import { rowCountNone, type ScanAnswer, type ScanPosition, scanResult } from './scan-input.js'
import { type ScanStart, type SentFields, sendScan } from './sent-scan.js'
import type { Selection } from './select.js'
import type { OpenTable } from './tsdb.js'

export interface ReadOptions {
  readonly plan: ReadPlan
  /** 0: all. */
  readonly limit: bigint
  readonly marker: string
  /** What must be the same for a marker to fit. */
  readonly markerOf: () => string
  /** At once where it is known. */
  readonly select: () => Selection | Promise<Selection>
  readonly format: 'wire' | 'columns'
  /** Whether the first message tells the columns of all others. */
  readonly describe: boolean
  /** Whether bytes may stand in the shared memory; see OutgoingMessages. */
  readonly borrows: boolean
  readonly signal: CancelSignal | null
}

/** A read that looks at more rows than this is shared out to several workers: to wake one more costs more than to read fewer. */
const parallelRowCountMin = 50_000
/** Rows of the first ranges of a raw read, about; what comes of them says how large the next ones are. */
const firstRangeRowCount = 16_384
const viewRetryCountMax = 100

/** Begins a read of an open table; null: it has no rows. */
export async function openSets(
  parts: BackendParts,
  table: OpenTable,
  options: ReadOptions,
): Promise<StepSource<ReadMessage> | null> {
  const snapshot = table.blocks.acquire()
  let messages: StepSource<ReadMessage> | null = null
  try {
    const marker = options.marker === '' ? null : parseMarker(options.marker, options.markerOf())
    if (marker !== null && options.plan.order !== null)
      throw new FramesError('INVALID_ARGUMENT', 'a read with ORDER BY time is whole and cannot go on from a marker')
    const clamped = clampRange(options.plan, table.schema.partitionIntervalMs, snapshot.blocks.map(extentOf))
    if (clamped === null) return null
    const plan = marker === null ? clamped : planOf(clamped.shape, marker.startMs, marker.endMs, marker.stepMs)
    const readStartMs = plan.startMs - lookbackMs(plan)
    const blocks = snapshot.blocks.filter((block) => {
      const extent = extentOf(block)
      return extent === null || (extent.timeMinMs <= plan.endMs && extent.timeMaxMs >= readStartMs)
    })
    // A label that a series lacks is an error of the question, whether or not a block happens to reach into the range.
    if (blocks.length === 0 && plan.groupBy === null) return null
    const selected = options.select()
    const selection = selected instanceof Promise ? await selected : selected
    if (blocks.length === 0) return null
    if (selection.sets.length === 0) return null
    const wanted = blocksOfSets(blocks, selection.sets)
    const found = table.blocks.sources(wanted)
    const sources = found instanceof Promise ? await found : found
    let rowCount = 0
    for (const block of wanted) rowCount += block.rowCount
    const limit = options.limit > 0n ? Number(options.limit) : rowCountNone
    const { groupStarts } = selection
    const unitCount = groupStarts === null ? selection.sets.length : groupStarts.length - 1
    const rowCountOfJobs =
      selection.rowCondition === null && rowCount >= parallelRowCountMin
        ? rowCountToRead(plan, wanted, unitCount)
        : rowCount
    const workerCount =
      limit === rowCountNone && marker === null && rowCountOfJobs >= parallelRowCountMin
        ? Math.max(1, parts.pool.statistics().workerCount)
        : 1
    const readRowCount = rowCount * Math.min(1, selection.sets.length / table.labels.setCount)
    const terms = scanTermsOf(table, plan.shape, options.format)
    const access = parts.store.workerAccess
    // What even ranges have not read, others of them do.
    const keptRowCount = plan.mode === 'raw' ? readRowCount : readRowCount / workerCount
    let storedByteLength = 0
    for (const block of wanted) storedByteLength += block.byteLength
    const described: ReadMessage | null = !options.describe
      ? null
      : {
          rowCount: 0,
          bytes: null,
          frame: null,
          columns: await columnsOf(parts, table, plan, selection, options.signal),
        }
    const first = marker === null ? 0 : marker.index(selection)
    const ranges =
      workerCount > 1 && plan.mode === 'raw' && plan.order === null
        ? new UnitRanges(first, unitCount, firstRangeRowCount / (readRowCount / unitCount))
        : new EvenRanges(first, unitCount, workerCount)
    const bucketCount = plan.mode === 'over-time' ? occupiedBuckets(plan, wanted).count : 0
    const start = ({ start, end }: UnitRange): ScanChain => {
      const position =
        marker !== null && first === start
          ? { index: 0, fromNs: marker.fromNs, carry: marker.carry, ordered: null }
          : null
      // A group is read by one job.
      const firstSet = groupStarts === null ? start : groupStarts[start]!
      const endSet = groupStarts === null ? end : groupStarts[end]!
      // A view of some of them would send all.
      const isWhole = firstSet === 0 && endSet === selection.sets.length
      const isAll = isWhole && start === 0 && end === unitCount
      const sets = isWhole ? selection.sets : selection.sets.slice(firstSet, endSet)
      const setCounts = { setCount: sets.length, unitCount: end - start, tableSetCount: table.labels.setCount }
      const ofManySets = manySetsByteLength(plan, bucketCount, setCounts, parts.memory.arenas.slice.byteLength)
      return new ScanChain(parts, table, options, {
        terms,
        startMs: plan.startMs,
        endMs: plan.endMs,
        stepMs: plan.stepMs,
        rowCountMax: limit,
        keptRowCount,
        storedByteLength,
        access,
        sources: sendSources(blocksOfSets(sources, sets)),
        sets,
        manySetsShare: ofManySets / (ofManySets + scanScratchByteLength),
        groupStarts: groupStarts === null || isAll ? groupStarts : partOf(groupStarts, start, end, firstSet),
        metricListOf: selection.metricListOf === null ? null : selection.metricListOf.slice(firstSet, endSet),
        metricLists: selection.metricLists,
        rowCondition: selection.rowCondition,
        rowLabels: selection.rowLabels,
        position,
      })
    }
    messages = new OrderedMessages(ranges, start, workerCount, {
      described,
      markerOf: (next) => encodeMarker(markerAt(next, plan, selection, first), options.markerOf()),
      release: () => snapshot.release(),
    })
    return messages
  } finally {
    if (messages === null) snapshot.release()
  }
}

/** Where the groups [start, end) begin among their own sets. */
function partOf(groupStarts: Uint32Array, start: number, end: number, firstSet: number): Uint32Array {
  return groupStarts.slice(start, end + 1).map((place) => place - firstSet)
}

function scanTermsOf({ blocks, schema, scanTerms }: OpenTable, shape: ReadShape, format: 'wire' | 'columns'): string {
  const known = scanTerms[format].get(shape)
  if (known !== undefined) return known
  const newestWins = schema.duplicates !== 'first'
  const terms: ScanTerms = { partition: blocks.partition, tableName: blocks.name, newestWins, format, shape }
  const text = JSON.stringify(terms)
  scanTerms[format].set(shape, text)
  return text
}

/** Few label sets are looked up one by one; for many, nearly every block has some. */
const pruneSetCountMax = 16

/** Those of some blocks that may hold one of the sets. */
function blocksOfSets<Block extends Pick<LiveBlock, 'extent'>>(
  blocks: readonly Block[],
  sets: Uint32Array,
): readonly Block[] {
  if (sets.length > pruneSetCountMax) return blocks
  return blocks.filter((block) => {
    const extent = extentOf(block)
    if (extent === null) return true
    for (let i = 0; i < sets.length; i++) if (extent.setMin <= sets[i]! && sets[i]! <= extent.setMax) return true
    return false
  })
}

async function columnsOf(
  parts: BackendParts,
  table: OpenTable,
  plan: ReadPlan,
  { sets, metricListOf, metricLists }: Selection,
  signal: CancelSignal | null,
): Promise<ColumnHead[]> {
  const done = await withLabels(table, (labels) => {
    const job: DescribeJob = { kind: 'tsdb.describe', labels, plan, sets, metricListOf, metricLists }
    return parts.pool.runToEnd<ColumnHead[]>(job, { scratchByteLength: 0, ...(signal === null ? {} : { signal }) })
  })
  done.release()
  return done.result
}

/** Runs a job with the label sets as they are now, and again when it asks for newer ones. */
export async function withLabels<T>(table: OpenTable, run: (labels: LabelView) => Promise<T>): Promise<T> {
  for (let tries = 0; ; tries++) {
    const handle = table.labels.acquire()
    try {
      return await run(handle.view)
    } catch (error) {
      const isOutdated = error instanceof FramesError && error.code === 'VIEW_OUTDATED'
      if (!isOutdated || tries >= viewRetryCountMax) throw error
    } finally {
      handle.release()
    }
  }
}

/** Units [start, end) that one chain of jobs reads. */
interface UnitRange {
  readonly start: number
  readonly end: number
}

/** Cuts the units of a read into ranges. */
interface Ranges {
  /** The next range; null: there is none. */
  take(): UnitRange | null
  /** What came of the first job of a range: so many units made so many bytes. */
  learn(unitCount: number, byteLength: number): void
}

/** So many ranges of nearly equal size; fewer when there are fewer units. */
class EvenRanges implements Ranges {
  readonly #count: number
  #taken = 0

  constructor(
    readonly first: number,
    readonly end: number,
    countMax: number,
  ) {
    this.#count = Math.max(1, Math.min(countMax, end - first))
  }

  take(): UnitRange | null {
    if (this.#taken === this.#count) return null
    const at = (i: number): number => this.first + Math.floor(((this.end - this.first) * i) / this.#count)
    const i = this.#taken++
    return { start: at(i), end: at(i + 1) }
  }

  learn(): void {}
}

/** Ranges of as many units as one job reads: it stops when it has made enough. */
class UnitRanges implements Ranges {
  #next: number
  #unitCount: number

  constructor(
    first: number,
    readonly end: number,
    unitCount: number,
  ) {
    this.#next = first
    this.#unitCount = Math.max(1, Math.round(unitCount))
  }

  take(): UnitRange | null {
    if (this.#next >= this.end) return null
    const start = this.#next
    this.#next = Math.min(this.end, start + this.#unitCount)
    return { start, end: this.#next }
  }

  learn(unitCount: number, byteLength: number): void {
    const wanted = byteLength === 0 ? Infinity : Math.ceil((readJobByteLength * unitCount) / byteLength)
    this.#unitCount = Math.max(1, Math.min(wanted, 4 * this.#unitCount))
  }
}

/**
 * The messages of all ranges in their order. Some ranges are begun ahead, one job of each: a reader that stalls holds what
 * those have made.
 */
class OrderedMessages implements StepSource<ReadMessage> {
  readonly #ranges: Ranges
  readonly #start: (range: UnitRange) => ScanChain
  readonly #workerCount: number
  readonly #markerOf: (next: ScanPosition) => string
  readonly #release: () => void
  readonly #chains: ScanChain[] = []
  /** What leaves now, and the messages of it. */
  #step: ScanStep | null = null
  #messages: readonly ReadMessage[]
  #index = 0

  /** described: the first message, if there is one; release: called when no job is at work any more. */
  constructor(
    ranges: Ranges,
    start: (range: UnitRange) => ScanChain,
    workerCount: number,
    options: {
      readonly described: ReadMessage | null
      readonly markerOf: (next: ScanPosition) => string
      readonly release: () => void
    },
  ) {
    this.#ranges = ranges
    this.#start = start
    this.#workerCount = workerCount
    this.#messages = options.described === null ? [] : [options.described]
    this.#markerOf = options.markerOf
    this.#release = options.release
  }

  #fill(isTaken: boolean): void {
    // One more than there are workers, so that none waits for a message to leave; before anybody takes one, fewer.
    while (this.#chains.length < this.#workerCount + (isTaken && this.#workerCount > 1 ? 1 : 0)) {
      const range = this.#ranges.take()
      if (range === null) return
      this.#chains.push(this.#start(range))
    }
  }

  async next(): Promise<ReadMessage | null> {
    for (;;) {
      if (this.#index < this.#messages.length) return this.#messages[this.#index++]!
      const isTaken = this.#step !== null
      this.#leave()
      this.#fill(isTaken)
      const chain = this.#chains[0]
      if (chain === undefined) return null
      const step = await chain.step
      if (step === null) {
        this.#chains.shift()
        continue
      }
      chain.take(step, this.#ranges)
      this.#step = step
      if (chain.isDone) this.#chains.shift()
      this.#fill(isTaken)
      this.#messages = marked(step, this.#markerOf, this.#chains.length === 0)
      this.#index = 0
    }
  }

  #leave(): void {
    const step = this.#step
    this.#step = null
    this.#messages = []
    step?.made.release()
  }

  async close(): Promise<void> {
    this.#leave()
    try {
      if (this.#chains.length > 0) await Promise.all(this.#chains.map((chain) => chain.close()))
    } finally {
      this.#release()
    }
  }
}

/** The messages of a step; the last one says where a limited read goes on. isEnd: no step follows. */
function marked(
  { made, isLast, next }: ScanStep,
  markerOf: (next: ScanPosition) => string,
  isEnd: boolean,
): readonly ReadMessage[] {
  const { messages, batch, rowCount } = made
  const marker = isLast && next !== null ? markerOf(next) : null
  if (batch !== null) {
    if (batch.count === 0) return []
    const all = marker === null ? batch : withMarker(batch, marker)
    return [{ rowCount, bytes: null, frame: null, batch: all, isLast: isEnd }]
  }
  if (marker === null) return messages
  return messages.map((message, i) => {
    const { frame } = message
    if (i < messages.length - 1 || frame === null) return message
    return { ...message, frame: { ...frame, labels: [...frame.labels, { name: 'next_marker', value: marker }] } }
  })
}

function withMarker(batch: WireMessages, marker: string): WireMessages {
  const last = batch.count - 1
  const list = Array.from({ length: batch.count }, (_, i) => batch.at(i))
  list[last] = appendMarker(list[last]!, marker)
  return new ListedMessages(list)
}

function markerAt(
  next: ScanPosition,
  plan: ReadPlan,
  selection: Selection,
  first: number,
): Omit<Marker, 'index'> & { set: number } {
  const { startMs, endMs, stepMs } = plan
  const { sets, groupStarts } = selection
  const unit = first + next.index
  return {
    set: sets[groupStarts === null ? unit : groupStarts[unit]!]!,
    fromNs: next.fromNs,
    carry: next.carry,
    startMs,
    endMs,
    stepMs,
  }
}

/** What a job has made, and where it stopped. */
class ScanStep {
  /** The row limit ends the read here: known when it is taken. */
  isLast = false

  constructor(
    readonly made: OutgoingStep,
    readonly next: ScanPosition | null,
  ) {}
}

/** One job after another over a range of units; the next one runs while the messages of the last leave. */
class ScanChain {
  #next: Promise<ScanStep> | null
  #rowCountLeft: number
  #isFirst = true

  constructor(
    readonly parts: BackendParts,
    readonly table: OpenTable,
    readonly options: Pick<ReadOptions, 'format' | 'borrows' | 'signal'>,
    readonly job: SentFields & Omit<ScanStart, 'labels'>,
  ) {
    this.#rowCountLeft = job.rowCountMax
    this.#next = this.#start(job.position)
  }

  get isDone(): boolean {
    return this.#next === null
  }

  #start(position: ScanPosition | null): Promise<ScanStep> {
    const started = this.#run(position)
    // Looked at when its turn comes; a failure must not count as unhandled before.
    started.catch(() => undefined)
    return started
  }

  async #run(position: ScanPosition | null): Promise<ScanStep> {
    const { format, borrows, signal } = this.options
    if (format === 'columns') await this.parts.outgoing.roomForColumns(signal)
    const scratchByteLength = Math.ceil(scanScratchByteLength / (1 - this.job.manySetsShare))
    const runOptions: RunOptions = { scratchByteLength, signal: signal ?? undefined }
    const done = await withLabels(this.table, (labels) => {
      const job = sendScan(this.job, { labels, rowCountMax: this.#rowCountLeft, position })
      return this.parts.pool.runToEnd<ScanAnswer>(job, runOptions)
    })
    const { wire, frames, next } = scanResult(done.result)
    const { outgoing } = this.parts
    const made = wire === null ? outgoing.takeColumns(done, frames) : outgoing.takeWire(done, wire, borrows)
    return new ScanStep(made, next)
  }

  /** The next result; null: there is none. */
  get step(): Promise<ScanStep> | null {
    return this.#next
  }

  /** The result is the caller's now, to be released by it; the job behind it begins. */
  take(step: ScanStep, ranges: Ranges): void {
    const { made, next } = step
    if (this.#rowCountLeft !== rowCountNone) this.#rowCountLeft -= made.rowCount
    step.isLast = this.#rowCountLeft <= 0
    this.#next = next === null || step.isLast ? null : this.#start(next)
    if (this.#isFirst) {
      this.#isFirst = false
      const { groupStarts, sets } = this.job
      const unitCount = next?.index ?? (groupStarts === null ? sets.length : groupStarts.length - 1)
      ranges.learn(Math.max(1, unitCount), made.byteLength)
    }
  }

  /** Gives back what was started and not taken. */
  async close(): Promise<void> {
    const pending = this.#next
    this.#next = null
    const step = await pending?.catch(() => null)
    step?.made.release()
  }
}
