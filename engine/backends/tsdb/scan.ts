// Reads label sets, in a worker, into finished messages: raw samples, or functions over time.
import type { BlockSource } from '../../blocks/reader.js'
import { BlockIo } from '../../blocks/reader.js'
import { encodedFrameBound, encodeFrame } from '../../codec/wire.js'
import { FramesError } from '../../errors.js'
import type { ColumnSlice, FrameSlice } from '../../frame/column-slice.js'
import type { Kernels } from '../../kernels/kernels.js'
import { readMessageByteLength } from '../../limits.js'
import type { Scratch } from '../../memory/scratch.js'
import type { Slice } from '../../memory/slice.js'
import type { WorkerReader } from '../../stores/store.js'
import type { Labels } from './label-tail.js'
import { labelColumns, labelTail } from './label-tail.js'
import type { OverTimeFunction, ReadPlan } from './plan.js'
import { functionNumbers, functionStates, planColumns } from './plan.js'
import { RowCollector } from './row-collector.js'
import type { Batch, BatchColumn, WantedMetric } from './series-reader.js'
import { bitmapByteLength, SeriesReader } from './series-reader.js'
import type { MetricType, Signature } from './signature.js'
import { seriesType, storedTypes, typeBits } from './signature.js'

/** One label set to read. */
export interface ScanSet {
  readonly set: number
  readonly signature: Signature
}

/** Where a scan goes on: the place of the set or group in the list, and the first time that was not sent. */
export interface ScanPosition {
  readonly index: number
  readonly fromNs: bigint
  /** rate: value and time (ms) of the last bucket before `fromNs`, two numbers a metric; NaN: none. */
  readonly carry: readonly number[]
}

export interface ScanInput {
  readonly sources: readonly BlockSource[]
  readonly partition: string
  readonly tableName: string
  readonly newestWins: boolean
  readonly plan: ReadPlan
  readonly setCount: number
  readonly setAt: (index: number) => ScanSet
  /** Group i is sets starts[i] to before starts[i + 1]; null: each set is by itself. */
  readonly groupStarts: Uint32Array | null
  /** Names the table's label sets; see labelTail. */
  readonly labelsId: string
  readonly labelsOf: (set: number) => Labels
  readonly position: ScanPosition | null
  /** Rows that may still be sent; the scan stops behind the last of them. */
  readonly rowCountMax: number
  /** Metrics of a set that the filter lets through; null: all. */
  readonly metricsAt: (index: number) => ReadonlySet<string> | null
  readonly format: 'wire' | 'columns'
  readonly isCancelled: () => boolean
}

export interface ScanMessage {
  readonly rowCount: number
  /** format wire: one pb.Frame. */
  readonly bytes: Slice | null
  /** format columns: buffers in the job's scratch. */
  readonly frame: FrameSlice | null
}

export interface ScanResult {
  readonly messages: readonly ScanMessage[]
  readonly next: ScanPosition | null
}

const nsPerMs = 1_000_000n
/** Buckets worked on at once; more would leave the cache. */
const chunkBucketCountMax = 4096
/** States of all metrics together stay below this. */
const chunkByteLengthMax = 512 * 1024
const stateByteLengthPerBucket = 56
/** Rows of a message, whatever their size: pointers of the collector stay small. */
const messageRowCountMax = 65_536
/** An entry of a null map, without its name. */
const nullEntryByteLength = 8

export function scanSets(kernels: Kernels, scratch: Scratch, store: WorkerReader | null, input: ScanInput): ScanResult {
  const parts = scratch.split([0.25, 0.2, 0.08, 0.35, 0.12])
  const [output, collected, states, cacheScratch, temporary] = parts as [Scratch, Scratch, Scratch, Scratch, Scratch]
  const io = new BlockIo(kernels, cacheScratch, store, input.partition, input.tableName)
  const reader = new SeriesReader(io, temporary, input.sources, input.newestWins)
  const sink = new MessageSink(kernels, output, collected, temporary, input)
  const { plan } = input
  if (plan.groupBy !== null || plan.windowMs > 0) return scanPooled(kernels, reader, sink, { states, temporary }, input)
  const wantedBySignature = new Map<Signature, WantedColumns | null>()
  let aggregation = null as Aggregation | null
  const statesMark = states.mark()
  for (let index = input.position?.index ?? 0; index < input.setCount; index++) {
    if (input.isCancelled()) throw cancelled()
    const entry = input.setAt(index)
    const allowed = input.metricsAt(index)
    // Most label sets have the same metrics; a filter on metrics makes a list of its own.
    let wanted = allowed === null ? wantedBySignature.get(entry.signature) : undefined
    if (wanted === undefined) {
      wanted = wantedMetrics(plan, entry.signature, allowed)
      if (allowed === null) wantedBySignature.set(entry.signature, wanted)
    }
    if (wanted === null) continue
    const from = index === input.position?.index ? input.position : null
    const endNs = toNs(plan.endMs + 1)
    const startNs = from?.fromNs ?? toNs(plan.startMs)
    if (!reader.open(entry.set, wanted.metrics, startNs, endNs)) continue
    sink.begin(index, entry, wanted)
    let next: ScanPosition | null
    if (plan.mode === 'raw') next = sendRaw(reader, sink)
    else {
      if (aggregation?.wanted !== wanted) {
        states.release(statesMark)
        aggregation = new Aggregation(kernels, states, temporary, plan, wanted)
      }
      aggregation.begin(from?.carry ?? [])
      next = sendOverTime(reader, sink, aggregation)
    }
    sink.end()
    if (next !== null) return { messages: sink.messages, next }
    // At the row limit the scan goes on to the next row, if there is one: only then there is a place to go on from.
    if (sink.isLarge && !sink.isAtRowLimit)
      return {
        messages: sink.messages,
        next: index + 1 < input.setCount ? { index: index + 1, fromNs: toNs(plan.startMs), carry: [] } : null,
      }
  }
  return { messages: sink.messages, next: null }
}

function cancelled(): FramesError {
  return new FramesError('CANCELLED', 'the read was cancelled')
}

/** Groups of sets, and buckets that look back: both read each set again for each chunk of buckets. */
function scanPooled(
  kernels: Kernels,
  reader: SeriesReader,
  sink: MessageSink,
  scratch: { readonly states: Scratch; readonly temporary: Scratch },
  input: ScanInput,
): ScanResult {
  const { plan, groupStarts, position, isCancelled } = input
  const pools = new Pools(plan)
  const mark = scratch.states.mark()
  let aggregation = null as Aggregation | null
  const unitCount = groupStarts === null ? input.setCount : groupStarts.length - 1
  for (let index = position?.index ?? 0; index < unitCount; index++) {
    if (isCancelled()) throw cancelled()
    const start = groupStarts === null ? index : groupStarts[index]!
    const end = groupStarts === null ? index + 1 : groupStarts[index + 1]!
    const pool = pools.of(start, end, input)
    if (pool === null) continue
    const from = index === position?.index ? position : null
    sink.begin(index, pool.members[0]!, pool.wanted)
    if (aggregation?.wanted !== pool.wanted) {
      scratch.states.release(mark)
      aggregation = new Aggregation(kernels, scratch.states, scratch.temporary, plan, pool.wanted)
    }
    aggregation.begin(from?.carry ?? [])
    const next = sendPooled(reader, sink, aggregation, { members: pool.members, from, isCancelled })
    sink.end()
    if (next !== null) return { messages: sink.messages, next }
    if (sink.isLarge && !sink.isAtRowLimit)
      return {
        messages: sink.messages,
        next: index + 1 < unitCount ? { index: index + 1, fromNs: toNs(plan.startMs), carry: [] } : null,
      }
  }
  return { messages: sink.messages, next: null }
}

const int64Max = 2n ** 63n - 1n

/** A bound in ns; times beyond int64 (the years before 1677 and after 2262) are its ends. */
function toNs(timeMs: number): bigint {
  return toInt64(BigInt(timeMs) * nsPerMs)
}

function toInt64(value: bigint): bigint {
  return value > int64Max ? int64Max : value < -int64Max ? -int64Max : value
}

/** The value columns of a label set's or a group's frames. */
export interface WantedColumns {
  /** Metrics that the set has; in a group, a metric that is text in some sets and numeric in others stands here twice. */
  readonly metrics: readonly WantedMetric[]
  /**
   * Output columns: name, type, and which of `metrics` they come from (-1: the set has no such metric). counted: another
   * of `metrics` whose samples count, too, or -1.
   */
  readonly columns: readonly {
    readonly name: string
    readonly type: MetricType
    readonly metric: number
    readonly counted: number
    readonly fn: OverTimeFunction | null
  }[]
}

/** Null when the set has none of the requested metrics: then it has no frame at all. */
export function wantedMetrics(
  plan: ReadPlan,
  signature: Signature,
  allowed: ReadonlySet<string> | null,
): WantedColumns | null {
  const names = [...signature.keys()].filter((name) => allowed === null || allowed.has(name)).sort()
  const present = new Set(names)
  const metrics: WantedMetric[] = []
  const numbers = new Map<string, { readonly number: number; readonly counted: number }>()
  const add = (name: string, bits: number): number =>
    bits === 0 ? -1 : metrics.push({ name, type: seriesType(bits), storedTypes: storedTypes(bits) }) - 1
  const columns = planColumns(plan, names).map(({ metric: name, fn, name: shownName }) => {
    let found = numbers.get(name)
    if (found === undefined) {
      const bits = present.has(name) ? (signature.get(name) ?? 0) : 0
      const numeric = add(name, bits & ~typeBits.string)
      const text = add(name, bits & typeBits.string)
      found = numeric < 0 ? { number: text, counted: -1 } : { number: numeric, counted: text }
      numbers.set(name, found)
    }
    const { number, counted } = found
    const type = plan.mode === 'raw' && number >= 0 ? metrics[number]!.type : 'float64'
    return { name: shownName, type, metric: number, counted, fn }
  })
  return metrics.length === 0 ? null : { metrics, columns }
}

/** A label set of a pool: what to read of it, and which of the pool's metrics each is. */
interface Member extends ScanSet {
  readonly metrics: readonly WantedMetric[]
  readonly states: readonly number[]
}

interface Pool {
  readonly wanted: WantedColumns
  readonly members: readonly Member[]
}

/** Pools of label sets. Most have the same metrics: what follows from those is worked out once. */
class Pools {
  readonly #wanted = new Map<
    string,
    { wanted: WantedColumns | null; read: Map<Signature, Omit<Member, keyof ScanSet>> }
  >()
  readonly #signatureNumbers = new Map<Signature, number>()

  constructor(readonly plan: ReadPlan) {}

  /** Of sets [start, end); null when none of them has a requested metric. */
  of(start: number, end: number, { setAt, metricsAt }: Pick<ScanInput, 'setAt' | 'metricsAt'>): Pool | null {
    const sets: { entry: ScanSet; allowed: ReadonlySet<string> | null }[] = []
    const signatures = new Set<Signature>()
    for (let index = start; index < end; index++) {
      const entry = setAt(index)
      const allowed = metricsAt(index)
      // What a filter on metrics lets through is a signature of its own.
      const signature = allowed === null ? entry.signature : this.#narrowed(entry.signature, allowed)
      sets.push({ entry: { set: entry.set, signature }, allowed })
      signatures.add(signature)
    }
    const key = [...signatures]
      .map((signature) => this.#numberOf(signature))
      .sort((a, b) => a - b)
      .join()
    let known = this.#wanted.get(key)
    if (known === undefined) {
      const union = new Map<string, number>()
      for (const signature of signatures)
        for (const [name, bits] of signature) union.set(name, (union.get(name) ?? 0) | bits)
      known = { wanted: wantedMetrics(this.plan, union, null), read: new Map() }
      this.#wanted.set(key, known)
    }
    const { wanted, read } = known
    if (wanted === null) return null
    const members = sets.map(({ entry }): Member => {
      let own = read.get(entry.signature)
      if (own === undefined) {
        own = ownMetrics(wanted, entry.signature)
        read.set(entry.signature, own)
      }
      return { ...entry, ...own }
    })
    return { wanted, members: members.filter(({ metrics }) => metrics.length > 0) }
  }

  readonly #narrowings = new Map<string, Signature>()

  #narrowed(signature: Signature, allowed: ReadonlySet<string>): Signature {
    const key = `${this.#numberOf(signature)} ${[...allowed].sort().join()}`
    let narrowed = this.#narrowings.get(key)
    if (narrowed === undefined) {
      narrowed = new Map([...signature].filter(([name]) => allowed.has(name)))
      this.#narrowings.set(key, narrowed)
    }
    return narrowed
  }

  #numberOf(signature: Signature): number {
    let number = this.#signatureNumbers.get(signature)
    if (number === undefined) this.#signatureNumbers.set(signature, (number = this.#signatureNumbers.size))
    return number
  }
}

/** Which of a pool's metrics a set of this signature has. */
function ownMetrics({ metrics }: WantedColumns, signature: Signature): Omit<Member, keyof ScanSet> {
  const own: WantedMetric[] = []
  const states: number[] = []
  metrics.forEach(({ name, type }, state) => {
    const bits = signature.get(name) ?? 0
    const isText = type === 'string'
    if (bits === 0 || isText !== ((bits & typeBits.string) !== 0)) return
    own.push({ name, type: seriesType(bits), storedTypes: storedTypes(bits) })
    states.push(state)
  })
  return { metrics: own, states }
}

function sendRaw(reader: SeriesReader, sink: MessageSink): ScanPosition | null {
  for (let batch = reader.next(); batch !== null; batch = reader.next()) {
    const rest = sink.push(batch)
    if (rest !== null) return rest
  }
  return null
}

/** Buckets are filled chunk by chunk, so that a small step over a long time costs only the buckets that have samples. */
function sendOverTime(reader: SeriesReader, sink: MessageSink, aggregation: Aggregation): ScanPosition | null {
  for (let batch = reader.next(); batch !== null; batch = reader.next()) {
    for (let row = 0; row < batch.rowCount; ) {
      row = aggregation.add(batch, row)
      const rest = row < batch.rowCount ? aggregation.flush(sink) : null
      if (rest !== null) return rest
    }
  }
  return aggregation.flush(sink)
}

/** Chunk by chunk of buckets, all sets of a pool; where no set has rows, chunks are passed over. */
function sendPooled(
  reader: SeriesReader,
  sink: MessageSink,
  aggregation: Aggregation,
  pool: { members: readonly Member[]; from: ScanPosition | null; isCancelled: () => boolean },
): ScanPosition | null {
  let bucket = pool.from === null ? 0 : aggregation.bucketAt(pool.from.fromNs)
  while (bucket < aggregation.bucketCount) {
    const { startNs, endNs } = aggregation.beginChunk(bucket)
    for (const member of pool.members) {
      if (pool.isCancelled()) throw cancelled()
      if (!reader.open(member.set, member.metrics, startNs, endNs)) continue
      aggregation.beginMember()
      let batch = reader.next()
      while (batch !== null && aggregation.addOfMember(member, batch)) batch = reader.next()
      aggregation.endMember(member)
    }
    const rest = aggregation.flush(sink)
    if (rest !== null) return rest
    bucket = aggregation.nextBucket(bucket)
  }
  return null
}

/** Before the first row. */
const timeMinNs = -(2n ** 63n)
/** In windows a time counts as floored to milliseconds: each ends with the last nanosecond of its millisecond. */
const restOfMsNs = nsPerMs - 1n

class Aggregation {
  readonly #kernels: Kernels
  readonly #plan: ReadPlan
  readonly #chunkBucketCount: number
  readonly #states: number[]
  readonly #needed: number
  readonly #stepNs: bigint
  readonly #startNs: bigint
  /** First bucket of the chunk under way; -1: none. */
  #first = -1
  readonly #temporary: Scratch
  readonly #columnPtrs: number[]
  readonly #finishedPtr: number
  readonly #maskPtr: number
  readonly #indexesPtr: number
  readonly #timesPtr: number
  #carry: number[] = []
  readonly bucketCount: number
  readonly #windowNs: bigint
  /** States of one member and times of their last rows, then those times of the pool; needed where `last` is. */
  readonly #memberStates: number[]
  readonly #memberTimes: number[]
  readonly #lastTimes: number[]
  /** The last row that went into the chunk, and the first one behind it. */
  #lastNs = timeMinNs
  #behindNs: bigint | null = null

  constructor(
    kernels: Kernels,
    scratch: Scratch,
    temporary: Scratch,
    plan: ReadPlan,
    readonly wanted: WantedColumns,
  ) {
    this.#kernels = kernels
    this.#plan = plan
    this.#temporary = temporary
    const bucketCount = Math.floor((plan.endMs - plan.startMs) / plan.stepMs) + 1
    this.bucketCount = bucketCount
    this.#windowNs = toNs(plan.windowMs)
    this.#needed = plan.functions.reduce((bits, fn) => bits | functionStates[fn], 1)
    const needsTimes = plan.groupBy !== null && (this.#needed & functionStates.last) !== 0
    const stateByteLength = needsTimes ? 2 * stateByteLengthPerBucket + 16 : stateByteLengthPerBucket
    const affordable = Math.floor(
      chunkByteLengthMax / (stateByteLength * wanted.metrics.length + 8 * wanted.columns.length),
    )
    this.#chunkBucketCount = Math.max(1, Math.min(bucketCount, chunkBucketCountMax, affordable))
    const count = this.#chunkBucketCount
    this.#states = wanted.metrics.map(() => scratch.allocate(stateByteLengthPerBucket * count))
    this.#columnPtrs = wanted.columns.map(() => scratch.allocate(8 * count))
    this.#finishedPtr = scratch.allocate(8 * count)
    this.#maskPtr = scratch.allocate(bitmapByteLength(count))
    this.#indexesPtr = scratch.allocate(4 * count)
    this.#timesPtr = scratch.allocate(8 * count)
    const timed = needsTimes ? wanted.metrics : []
    this.#memberStates = timed.map(() => scratch.allocate(stateByteLengthPerBucket * count))
    this.#memberTimes = timed.map(() => scratch.allocate(8 * count))
    this.#lastTimes = timed.map(() => scratch.allocate(8 * count))
    this.#stepNs = toNs(plan.stepMs)
    this.#startNs = toNs(plan.startMs)
  }

  /** A new label set. */
  begin(carry: readonly number[]): void {
    this.#first = -1
    this.#carry = carry.length > 0 ? [...carry] : this.wanted.metrics.flatMap(() => [Number.NaN, Number.NaN])
  }

  /** Adds rows from `row` on that fall into the chunk; returns the first row behind it. */
  add(batch: Batch, row: number): number {
    const { call, i64 } = this.#kernels
    if (this.#first < 0) {
      this.#first = Number((i64[(batch.timesPtr >> 3) + row]! - this.#startNs) / this.#stepNs)
      for (const statePtr of this.#states) call.initWindows(statePtr, this.#chunkBucketCount)
    }
    const chunkNs = this.#startNs + BigInt(this.#first) * this.#stepNs
    const chunkEndNs = toInt64(chunkNs + BigInt(this.#chunkBucketCount) * this.#stepNs)
    const last = i64[(batch.timesPtr >> 3) + batch.rowCount - 1]!
    const end =
      last < chunkEndNs ? batch.rowCount : call.lowerBoundInt64(batch.timesPtr, row, batch.rowCount, chunkEndNs)
    const rows = row === 0 ? batch : shiftBatch(this.#kernels, this.#temporary, batch, row, this.wanted.metrics)
    const rowCount = end - row
    this.wanted.metrics.forEach(({ type }, i) => {
      const cells = rows.columns[i]
      if (cells != null) this.#addWindows(type, rows.timesPtr, cells, rowCount, chunkNs, this.#states[i]!)
    })
    return end
  }

  #addWindows(
    type: MetricType,
    timesPtr: number,
    { valuesPtr, validityPtr }: BatchColumn,
    rowCount: number,
    chunkNs: bigint,
    statePtr: number,
  ): void {
    const { call } = this.#kernels
    const stepNs = this.#stepNs
    const count = this.#chunkBucketCount
    const which = this.#needed
    if (type === 'string')
      call.accumulateWindowsCount(timesPtr, validityPtr, rowCount, chunkNs, stepNs, count, statePtr)
    else if (type === 'bool')
      call.accumulateWindowsBits(timesPtr, valuesPtr, validityPtr, rowCount, chunkNs, stepNs, count, statePtr, which)
    else if (type === 'int64')
      call.accumulateWindowsInt64(timesPtr, valuesPtr, validityPtr, rowCount, chunkNs, stepNs, count, statePtr, which)
    else
      call.accumulateWindowsFloat64(timesPtr, valuesPtr, validityPtr, rowCount, chunkNs, stepNs, count, statePtr, which)
  }

  /** As #addWindows, for buckets that look back; chunkNs is where the first one ends. */
  #addLookback(
    type: MetricType,
    timesPtr: number,
    { valuesPtr, validityPtr }: BatchColumn,
    rowCount: number,
    chunkNs: bigint,
    statePtr: number,
  ): void {
    const { call } = this.#kernels
    const stepNs = this.#stepNs
    const windowNs = this.#kernelWindowNs
    const count = this.#chunkBucketCount
    const which = this.#needed
    if (type === 'string')
      call.accumulateLookbackCount(timesPtr, validityPtr, rowCount, chunkNs, stepNs, count, windowNs, statePtr)
    else if (type === 'bool')
      call.accumulateLookbackBits(
        timesPtr,
        valuesPtr,
        validityPtr,
        rowCount,
        chunkNs,
        stepNs,
        count,
        windowNs,
        statePtr,
        which,
      )
    else if (type === 'int64')
      call.accumulateLookbackInt64(
        timesPtr,
        valuesPtr,
        validityPtr,
        rowCount,
        chunkNs,
        stepNs,
        count,
        windowNs,
        statePtr,
        which,
      )
    else
      call.accumulateLookbackFloat64(
        timesPtr,
        valuesPtr,
        validityPtr,
        rowCount,
        chunkNs,
        stepNs,
        count,
        windowNs,
        statePtr,
        which,
      )
  }

  /**
   * With ends moved to the end of their millisecond, windows are as much longer, so that they begin at a millisecond; one
   * as long as the step is open at its beginning, which the kernel sees to when it is given just that length.
   */
  get #kernelWindowNs(): bigint {
    return this.#windowNs === this.#stepNs ? this.#windowNs : this.#windowNs + restOfMsNs
  }

  get #looksBack(): boolean {
    return this.#windowNs > 0n
  }

  /** The bucket that has this time. */
  bucketAt(timeNs: bigint): number {
    return Number((timeNs - this.#startNs) / this.#stepNs)
  }

  /** Empties the chunk that begins with a bucket. Returns the times of the rows that it needs, [startNs, endNs). */
  beginChunk(bucket: number): { startNs: bigint; endNs: bigint } {
    const { call } = this.#kernels
    this.#first = bucket
    this.#lastNs = timeMinNs
    this.#behindNs = null
    const count = this.#chunkBucketCount
    for (const statePtr of this.#states) call.initWindows(statePtr, count)
    for (const timesPtr of this.#lastTimes) call.fillInt64(timesPtr, count, timeMinNs)
    const chunkNs = this.#startNs + BigInt(bucket) * this.#stepNs
    if (!this.#looksBack) return { startNs: chunkNs, endNs: toNs(this.#plan.endMs + 1) }
    const lastNs = this.#startNs + BigInt(this.bucketCount - 1) * this.#stepNs
    return { startNs: toInt64(chunkNs - this.#windowNs), endNs: toInt64(lastNs + nsPerMs) }
  }

  /** A new member of the pool. */
  beginMember(): void {
    const { call } = this.#kernels
    const count = this.#chunkBucketCount
    for (const statePtr of this.#memberStates) call.initWindows(statePtr, count)
    for (const timesPtr of this.#memberTimes) call.fillInt64(timesPtr, count, timeMinNs)
  }

  /** Adds the rows of a batch to the chunk; false when the rest of the member is behind it. */
  addOfMember({ metrics, states }: Member, batch: Batch): boolean {
    const { call, i64 } = this.#kernels
    const { timesPtr } = batch
    const count = this.#chunkBucketCount
    const chunkNs = this.#startNs + BigInt(this.#first) * this.#stepNs
    // Behind the last bucket, and for look-back behind the end of its window.
    const chunkEndNs = toInt64(
      this.#looksBack ? chunkNs + BigInt(count - 1) * this.#stepNs + nsPerMs : chunkNs + BigInt(count) * this.#stepNs,
    )
    const lastNs = i64[(timesPtr >> 3) + batch.rowCount - 1]!
    const rowCount =
      lastNs < chunkEndNs ? batch.rowCount : call.lowerBoundInt64(timesPtr, 0, batch.rowCount, chunkEndNs)
    if (rowCount > 0) {
      const lastAddedNs = i64[(timesPtr >> 3) + rowCount - 1]!
      if (lastAddedNs > this.#lastNs) this.#lastNs = lastAddedNs
      const isTimed = this.#lastTimes.length > 0
      const into = isTimed ? this.#memberStates : this.#states
      const firstEndNs = toInt64(chunkNs + restOfMsNs)
      metrics.forEach(({ type }, i) => {
        const cells = batch.columns[i]
        if (cells == null) return
        const state = states[i]!
        if (this.#looksBack) this.#addLookback(type, timesPtr, cells, rowCount, firstEndNs, into[state]!)
        else this.#addWindows(type, timesPtr, cells, rowCount, chunkNs, into[state]!)
        if (!isTimed) return
        const { validityPtr } = cells
        const lastTimesPtr = this.#memberTimes[state]!
        if (this.#looksBack) {
          call.accumulateLookbackLastTime(
            timesPtr,
            validityPtr,
            rowCount,
            firstEndNs,
            this.#stepNs,
            count,
            this.#kernelWindowNs,
            lastTimesPtr,
          )
        } else
          call.accumulateWindowsLastTime(timesPtr, validityPtr, rowCount, chunkNs, this.#stepNs, count, lastTimesPtr)
      })
    }
    if (rowCount === batch.rowCount) return true
    const behindNs = i64[(timesPtr >> 3) + rowCount]!
    if (this.#behindNs === null || behindNs < this.#behindNs) this.#behindNs = behindNs
    return false
  }

  /** Pools what was added of a member; of values with one time, the later member's is the last. */
  endMember({ states }: Member): void {
    if (this.#lastTimes.length === 0) return
    const { call } = this.#kernels
    for (const state of states) {
      call.combineWindowsByTime(
        this.#memberStates[state]!,
        this.#memberTimes[state]!,
        this.#states[state]!,
        this.#lastTimes[state]!,
        this.#chunkBucketCount,
      )
    }
  }

  /** The first bucket behind the chunk that began with `bucket` which may have samples. */
  nextBucket(bucket: number): number {
    const next = bucket + this.#chunkBucketCount
    const nextNs = this.#startNs + BigInt(next) * this.#stepNs
    if (this.#looksBack && this.#lastNs >= nextNs - this.#windowNs) return next
    if (this.#behindNs === null) return this.bucketCount
    if (!this.#looksBack) return this.bucketAt(this.#behindNs)
    return Math.max(next, this.bucketAt(this.#behindNs - restOfMsNs + this.#stepNs - 1n))
  }

  /** Sends the buckets of the chunk that have a sample, and forgets the chunk. */
  flush(sink: MessageSink): ScanPosition | null {
    if (this.#first < 0) return null
    const { call, u8, u32 } = this.#kernels
    const count = this.#chunkBucketCount
    u8.fill(0, this.#maskPtr, this.#maskPtr + bitmapByteLength(count))
    for (const statePtr of this.#states) call.occupiedWindows(statePtr, count, this.#maskPtr)
    // The chunk may be longer than what is left: buckets behind the last one would look back into the range.
    if (this.#first + count > this.bucketCount)
      call.setBitRange(this.#maskPtr, this.bucketCount - this.#first, count, 0)
    const rowCount = call.bitsToIndexes(this.#maskPtr, count, this.#indexesPtr)
    const first = this.#first
    this.#first = -1
    if (rowCount === 0) return null
    const chunkNs = this.#startNs + BigInt(first) * this.#stepNs
    call.bucketTimes(this.#indexesPtr, rowCount, chunkNs, this.#stepNs, this.#timesPtr)
    const buckets = u32.subarray(this.#indexesPtr >> 2, (this.#indexesPtr >> 2) + rowCount)
    const columns = this.wanted.columns.map(({ metric, counted, fn }, i): BatchColumn => {
      const targetPtr = this.#columnPtrs[i]!
      const isString = metric >= 0 && this.wanted.metrics[metric]!.type === 'string'
      if (metric < 0 || (isString && fn !== 'count')) call.fillFloat64(targetPtr, rowCount, Number.NaN)
      else if (fn === 'count' && counted >= 0) this.#countBoth(metric, counted, buckets, targetPtr)
      else if (fn === 'rate') this.#rate(metric, first, buckets, targetPtr)
      else {
        call.finishWindows(this.#states[metric]!, count, functionNumbers[fn!], this.#finishedPtr)
        call.gather64(this.#finishedPtr, this.#indexesPtr, rowCount, targetPtr)
      }
      return { valuesPtr: targetPtr, validityPtr: 0, bytesPtr: 0 }
    })
    const batch: Batch = { rowCount, timesPtr: this.#timesPtr, columns }
    const rest = sink.push(batch)
    const sentRows = rest === null ? rowCount : Number((rest.fromNs - chunkNs) / this.#stepNs)
    if (this.#plan.functions.includes('rate')) {
      this.#advanceCarry(first, rest === null ? buckets : buckets.filter((bucket) => bucket < sentRows))
    }
    return rest === null ? null : { ...rest, carry: this.#plan.functions.includes('rate') ? this.#carry : [] }
  }

  /** The samples of two of the pool's metrics together. */
  #countBoth(a: number, b: number, buckets: Uint32Array, targetPtr: number): void {
    const { f64 } = this.#kernels
    buckets.forEach((bucket, row) => {
      const count = f64[(this.#states[a]! >> 3) + bucket]! + f64[(this.#states[b]! >> 3) + bucket]!
      f64[(targetPtr >> 3) + row] = count > 0 ? count : Number.NaN
    })
  }

  /** rate(i) = (last(i) - last(j)) / seconds between the buckets, j the nearest earlier one that has samples. */
  #rate(metric: number, first: number, buckets: Uint32Array, targetPtr: number): void {
    const { f64 } = this.#kernels
    const state = this.#states[metric]! >> 3
    let previous = this.#carry[2 * metric]!
    let previousMs = this.#carry[2 * metric + 1]!
    buckets.forEach((bucket, row) => {
      const last = f64[state + 4 * this.#chunkBucketCount + bucket]!
      const hasSamples = f64[state + bucket]! > 0
      const timeMs = this.#plan.startMs + (first + bucket) * this.#plan.stepMs
      f64[(targetPtr >> 3) + row] = hasSamples ? (last - previous) / ((timeMs - previousMs) / 1000) : Number.NaN
      if (!hasSamples) return
      previous = last
      previousMs = timeMs
    })
  }

  #advanceCarry(first: number, buckets: Uint32Array): void {
    const { f64 } = this.#kernels
    this.#states.forEach((statePtr, metric) => {
      const state = statePtr >> 3
      for (const bucket of buckets) {
        if (f64[state + bucket]! === 0) continue
        this.#carry[2 * metric] = f64[state + 4 * this.#chunkBucketCount + bucket]!
        this.#carry[2 * metric + 1] = this.#plan.startMs + (first + bucket) * this.#plan.stepMs
      }
    })
  }
}

/** A batch without its first rows. */
function shiftBatch(
  kernels: Kernels,
  temporary: Scratch,
  batch: Batch,
  row: number,
  metrics: readonly { readonly type: MetricType }[],
): Batch {
  const rowCount = batch.rowCount - row
  const shiftBits = (ptr: number): number => {
    const targetPtr = temporary.allocate(bitmapByteLength(rowCount))
    kernels.call.copyBits(ptr, row, targetPtr, 0, rowCount)
    return targetPtr
  }
  const columns = batch.columns.map((cells, i): BatchColumn | null => {
    if (cells === null) return null
    const { type } = metrics[i]!
    const valuesPtr = type === 'bool' ? shiftBits(cells.valuesPtr) : cells.valuesPtr + row * (type === 'string' ? 4 : 8)
    return {
      valuesPtr,
      validityPtr: cells.validityPtr === 0 ? 0 : shiftBits(cells.validityPtr),
      bytesPtr: cells.bytesPtr,
    }
  })
  return { rowCount, timesPtr: batch.timesPtr + 8 * row, columns }
}

/** Collects rows of one label set after another and closes messages when they are large enough. */
class MessageSink {
  readonly messages: ScanMessage[] = []
  #sentRowCount = 0
  #byteLength = 0
  /** Of the rows collected; see #extraOf. */
  #extraByteLength = 0
  #collector: RowCollector | null = null
  #types = ''
  #capacity = 0
  #index = 0
  #set: ScanSet | null = null
  #wanted: WantedColumns | null = null
  #columnNumbers: number[] = []
  /** Where column i of a batch goes. */
  #batchNumbers: readonly number[] = []
  readonly #mark: number

  constructor(
    readonly kernels: Kernels,
    readonly output: Scratch,
    readonly collected: Scratch,
    readonly temporary: Scratch,
    readonly input: ScanInput,
  ) {
    this.#mark = collected.mark()
  }

  /** Enough for one job. */
  get isLarge(): boolean {
    return this.#byteLength >= readMessageByteLength
  }

  get isAtRowLimit(): boolean {
    return this.#sentRowCount + (this.#collector?.rowCount ?? 0) >= this.input.rowCountMax
  }

  begin(index: number, set: ScanSet, wanted: WantedColumns): void {
    this.#index = index
    this.#set = set
    this.#wanted = wanted
    const { plan } = this.input
    const types = wanted.columns.map(({ type }) => type).join()
    if (this.#collector === null || types !== this.#types) {
      this.collected.release(this.#mark)
      const rowByteLength = wanted.columns.reduce(
        (sum, { type }) => sum + (type === 'bool' ? 1 : type === 'string' ? 16 : 8),
        9,
      )
      const limit = plan.messageLimit > 0 ? plan.messageLimit : messageRowCountMax
      this.#capacity = Math.max(
        1,
        Math.min(limit, messageRowCountMax, Math.floor(readMessageByteLength / rowByteLength)),
      )
      this.#collector = new RowCollector(this.kernels, this.collected, this.#capacity)
      this.#columnNumbers = wanted.columns.map(({ type }) => this.#collector!.addColumn(type))
      this.#types = types
    }
    // Raw batches have a column a metric; the frame also has those that the set lacks.
    this.#batchNumbers =
      plan.mode === 'raw' ? this.#columnNumbers.filter((_, i) => wanted.columns[i]!.metric >= 0) : this.#columnNumbers
    this.#collector.clear()
  }

  /** Takes rows; what it could not take is named by the position returned. */
  push(batch: Batch): ScanPosition | null {
    const { plan, rowCountMax } = this.input
    const wanted = this.#wanted!
    const collector = this.#collector!
    const isRaw = plan.mode === 'raw'
    const numbers = this.#batchNumbers
    const types = isRaw ? wanted.metrics : wanted.columns
    for (let rows = batch; ; ) {
      const room = Math.min(this.#capacity - collector.rowCount, rowCountMax - this.#sentRowCount - collector.rowCount)
      const taken = this.#rowsThatFit(rows, Math.min(rows.rowCount, room))
      if (taken > 0) collector.append(rows, taken, numbers, isRaw)
      this.#extraByteLength += this.#extraOf(rows, taken)
      if (collector.rowCount >= this.#capacity || this.#extraByteLength >= readMessageByteLength) this.#close()
      if (taken === rows.rowCount) return null
      // More may fit: this step took only what fills a message.
      const rest = taken > 0 ? shiftBatch(this.kernels, this.temporary, rows, taken, types) : rows
      if (this.isAtRowLimit) {
        // Rows without any cell are no reason to go on.
        if (isRaw && !collector.hasCells(rest)) return null
      } else if (!this.isLarge) {
        rows = rest
        continue
      }
      return { index: this.#index, fromNs: this.kernels.i64[rest.timesPtr >> 3]!, carry: [] }
    }
  }

  /** What rows [0, rowCount) of a batch take beyond their cells of fixed size: text, and names in null maps. */
  #extraOf(batch: Batch, rowCount: number): number {
    if (this.input.plan.mode !== 'raw') return 0
    const { call, u32 } = this.kernels
    let byteLength = 0
    for (const { name, type, metric } of this.#wanted!.columns) {
      const cells = metric < 0 ? null : batch.columns[metric]!
      if (type === 'string' && cells !== null) {
        const offsets = cells.valuesPtr >> 2
        byteLength += u32[offsets + rowCount]! - u32[offsets]!
      }
      if (cells !== null && cells.validityPtr === 0) continue
      const presentCount = cells === null ? 0 : call.countBits(cells.validityPtr, rowCount)
      byteLength += (rowCount - presentCount) * (name.length + nullEntryByteLength)
    }
    return byteLength
  }

  /** How many of `rowCount` rows one step takes, at least one: a page of wide rows would make too large a message. */
  #rowsThatFit(batch: Batch, rowCount: number): number {
    if (rowCount <= 1 || this.#extraOf(batch, rowCount) <= readMessageByteLength) return rowCount
    let fits = 1
    let tooMany = rowCount
    while (fits + 1 < tooMany) {
      const middle = (fits + tooMany) >>> 1
      if (this.#extraOf(batch, middle) <= readMessageByteLength) fits = middle
      else tooMany = middle
    }
    return fits
  }

  end(): void {
    this.#close()
  }

  #close(): void {
    const collector = this.#collector!
    const { rowCount } = collector
    if (rowCount === 0) return
    const set = this.#set!
    const mark = this.collected.mark()
    const columns: ColumnSlice[] = this.#wanted!.columns.map(({ name, type }, i) => {
      const { valuesPtr, validityPtr, bytesPtr, byteLength } = collector.column(this.#columnNumbers[i]!)
      return { name, dtype: type, kind: 'slice', rowCount, valuesPtr, validityPtr, bytesPtr, byteLength }
    })
    const time: ColumnSlice = {
      name: 'time',
      dtype: 'time',
      kind: 'slice',
      rowCount,
      valuesPtr: collector.timesPtr,
      validityPtr: 0,
      bytesPtr: 0,
      byteLength: 0,
    }
    this.messages.push(this.#write({ rowCount, columns, indices: [time], labels: [] }, set.set))
    this.collected.release(mark)
    this.#sentRowCount += rowCount
    this.#extraByteLength = 0
    collector.clear()
  }

  /** Writes the frame of a label set, whose labels are added here. */
  #write(frame: FrameSlice, set: number): ScanMessage {
    const { output, kernels, collected } = this
    const { rowCount } = frame
    const { multiIndex } = this.input.plan
    const { groupBy } = this.input.plan
    const labelsOf = (): Labels => {
      const labels = this.input.labelsOf(set)
      return groupBy === null ? labels : labels.filter(([name]) => groupBy.includes(name))
    }
    if (this.input.format === 'columns') {
      const start = output.mark()
      const labels = labelsOf()
      const constants = labelColumns(kernels, collected, labels, rowCount)
      const copy = copyFrame(kernels, output, {
        rowCount,
        columns: multiIndex ? frame.columns : [...frame.columns, ...constants],
        indices: multiIndex ? [...frame.indices, ...constants] : frame.indices,
        labels: labels.map(([name, value]) => ({ name, value })),
      })
      this.#byteLength += output.mark() - start
      return { rowCount, bytes: null, frame: copy }
    }
    const group = groupBy === null ? '' : `:${groupBy.join()}`
    const tail = labelTail(kernels, collected, `${this.input.labelsId}:${set}${group}`, labelsOf, rowCount, multiIndex)
    const bound = encodedFrameBound(frame)
    const byteOffset = output.allocate(bound + tail.length)
    const headByteLength = encodeFrame(kernels, frame, byteOffset, bound)
    kernels.u8.set(tail, byteOffset + headByteLength)
    const byteLength = headByteLength + tail.length
    output.release(byteOffset)
    output.allocate(byteLength)
    this.#byteLength += byteLength
    return { rowCount, bytes: { byteOffset, byteLength }, frame: null }
  }
}

/** A frame whose buffers stand in `target`, for a reader that wants columns. */
function copyFrame(kernels: Kernels, target: Scratch, frame: FrameSlice): FrameSlice {
  const { u8, u32, call } = kernels
  const copyBytes = (ptr: number, byteLength: number): number => {
    const targetPtr = target.allocate(byteLength)
    u8.copyWithin(targetPtr, ptr, ptr + byteLength)
    return targetPtr
  }
  const copyColumn = (column: ColumnSlice): ColumnSlice => {
    const rowCount = column.kind === 'label' ? 1 : column.rowCount
    const validityPtr = column.validityPtr === 0 ? 0 : copyBytes(column.validityPtr, Math.ceil(rowCount / 8))
    if (column.dtype === 'string') {
      const byteLength = u32[(column.valuesPtr >> 2) + rowCount]! - u32[column.valuesPtr >> 2]!
      const valuesPtr = target.allocate(4 * (rowCount + 1))
      const bytesPtr = target.allocate(byteLength)
      call.copyStrings(column.valuesPtr, column.bytesPtr, 0, rowCount, valuesPtr, 0, bytesPtr)
      return { ...column, valuesPtr, validityPtr, bytesPtr, byteLength }
    }
    return {
      ...column,
      valuesPtr: copyBytes(column.valuesPtr, column.dtype === 'bool' ? Math.ceil(rowCount / 8) : 8 * rowCount),
      validityPtr,
    }
  }
  return { ...frame, columns: frame.columns.map(copyColumn), indices: frame.indices.map(copyColumn) }
}
