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
import { functionNumbers, functionStates } from './plan.js'
import { RowCollector } from './row-collector.js'
import type { Batch, BatchColumn, WantedMetric } from './series-reader.js'
import { bitmapByteLength, SeriesReader } from './series-reader.js'
import type { MetricType, Signature } from './signature.js'
import { seriesType, storedTypes } from './signature.js'

/** One label set to read. */
export interface ScanSet {
  readonly set: number
  readonly signature: Signature
}

/** Where a scan goes on: the set's place in the list, and the first time that was not sent. */
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
  const wantedBySignature = new Map<Signature, WantedColumns | null>()
  let aggregation = null as Aggregation | null
  const statesMark = states.mark()
  for (let index = input.position?.index ?? 0; index < input.setCount; index++) {
    if (input.isCancelled()) throw new FramesError('CANCELLED', 'the read was cancelled')
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

const int64Max = 2n ** 63n - 1n

/** A bound in ns; times beyond int64 (the years before 1677 and after 2262) are its ends. */
function toNs(timeMs: number): bigint {
  return toInt64(BigInt(timeMs) * nsPerMs)
}

function toInt64(value: bigint): bigint {
  return value > int64Max ? int64Max : value < -int64Max ? -int64Max : value
}

/** The value columns of a label set's frames. */
export interface WantedColumns {
  /** Metrics that the set has. */
  readonly metrics: readonly WantedMetric[]
  /** Output columns: name, type, and which of `metrics` they come from (-1: the set has no such metric). */
  readonly columns: readonly {
    readonly name: string
    readonly type: MetricType
    readonly metric: number
    readonly fn: OverTimeFunction | null
  }[]
}

/** Null when the set has none of the requested metrics: then it has no frame at all. */
export function wantedMetrics(
  plan: ReadPlan,
  signature: Signature,
  allowed: ReadonlySet<string> | null,
): WantedColumns | null {
  const names = plan.metrics ?? [...signature.keys()].sort()
  const metrics: WantedMetric[] = []
  const columns: WantedColumns['columns'][number][] = []
  for (const name of names) {
    const bits = allowed === null || allowed.has(name) ? (signature.get(name) ?? 0) : 0
    if (bits === 0 && plan.metrics === null) continue
    const metric = bits === 0 ? -1 : metrics.length
    const type = bits === 0 ? 'float64' : seriesType(bits)
    if (bits !== 0) metrics.push({ name, type, storedTypes: storedTypes(bits) })
    if (plan.mode === 'raw') columns.push({ name, type, metric, fn: null })
    else for (const fn of plan.functions) columns.push({ name: `${fn}(${name})`, type: 'float64', metric, fn })
  }
  return metrics.length === 0 ? null : { metrics, columns }
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
    const affordable = Math.floor(
      chunkByteLengthMax / ((stateByteLengthPerBucket + 8 * plan.functions.length) * wanted.metrics.length),
    )
    this.#chunkBucketCount = Math.max(1, Math.min(bucketCount, chunkBucketCountMax, affordable))
    const count = this.#chunkBucketCount
    this.#states = wanted.metrics.map(() => scratch.allocate(stateByteLengthPerBucket * count))
    this.#columnPtrs = wanted.columns.map(() => scratch.allocate(8 * count))
    this.#finishedPtr = scratch.allocate(8 * count)
    this.#maskPtr = scratch.allocate(bitmapByteLength(count))
    this.#indexesPtr = scratch.allocate(4 * count)
    this.#timesPtr = scratch.allocate(8 * count)
    this.#needed = plan.functions.reduce((bits, fn) => bits | functionStates[fn], 1)
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
    this.wanted.metrics.forEach((metric, i) => {
      const cells = rows.columns[i]
      if (cells == null) return
      const statePtr = this.#states[i]!
      const count = this.#chunkBucketCount
      if (metric.type === 'float64') {
        call.accumulateWindowsFloat64(
          rows.timesPtr,
          cells.valuesPtr,
          cells.validityPtr,
          rowCount,
          chunkNs,
          this.#stepNs,
          count,
          statePtr,
          this.#needed,
        )
      } else if (metric.type === 'int64') {
        call.accumulateWindowsInt64(
          rows.timesPtr,
          cells.valuesPtr,
          cells.validityPtr,
          rowCount,
          chunkNs,
          this.#stepNs,
          count,
          statePtr,
          this.#needed,
        )
      } else if (metric.type === 'bool') {
        call.accumulateWindowsBits(
          rows.timesPtr,
          cells.valuesPtr,
          cells.validityPtr,
          rowCount,
          chunkNs,
          this.#stepNs,
          count,
          statePtr,
          this.#needed,
        )
      } else
        call.accumulateWindowsCount(rows.timesPtr, cells.validityPtr, rowCount, chunkNs, this.#stepNs, count, statePtr)
    })
    return end
  }

  /** Sends the buckets of the chunk that have a sample, and forgets the chunk. */
  flush(sink: MessageSink): ScanPosition | null {
    if (this.#first < 0) return null
    const { call, u8, u32 } = this.#kernels
    const count = this.#chunkBucketCount
    u8.fill(0, this.#maskPtr, this.#maskPtr + bitmapByteLength(count))
    for (const statePtr of this.#states) call.occupiedWindows(statePtr, count, this.#maskPtr)
    const rowCount = call.bitsToIndexes(this.#maskPtr, count, this.#indexesPtr)
    const first = this.#first
    this.#first = -1
    if (rowCount === 0) return null
    const chunkNs = this.#startNs + BigInt(first) * this.#stepNs
    call.bucketTimes(this.#indexesPtr, rowCount, chunkNs, this.#stepNs, this.#timesPtr)
    const buckets = u32.subarray(this.#indexesPtr >> 2, (this.#indexesPtr >> 2) + rowCount)
    const columns = this.wanted.columns.map(({ metric, fn }, i): BatchColumn => {
      const targetPtr = this.#columnPtrs[i]!
      const isString = metric >= 0 && this.wanted.metrics[metric]!.type === 'string'
      if (metric < 0 || (isString && fn !== 'count')) call.fillFloat64(targetPtr, rowCount, Number.NaN)
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
    const labelsOf = (): Labels => this.input.labelsOf(set)
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
    const tail = labelTail(kernels, collected, `${this.input.labelsId}:${set}`, labelsOf, rowCount, multiIndex)
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
