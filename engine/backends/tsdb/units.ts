// A label set, or a group of them, as the rows of its frames in the order of time.
import { FramesError } from '../../errors.js'
import type { Kernels } from '../../kernels/kernels.js'
import type { Scratch } from '../../memory/scratch.js'
import { Aggregation } from './aggregation.js'
import { toInt64, toNs } from './bounds.js'
import type { ReadPlan } from './plan.js'
import { columnsOfSet, type Pool, Pools, type WantedColumns, wantedMetrics } from './pools.js'
import type { Carry, ScanInput, ScanPosition, ScanSet } from './scan-input.js'
import type { Batch, SampleReader } from './series-reader.js'

/** Takes rows; the position that it returns names what it could not take. */
export interface RowSink {
  push(batch: Batch): ScanPosition | null
  /**
   * Takes all rows of a unit at once, which are those of neighbouring buckets. Returns where their values go, for each column
   * rowCount × f64, not aligned; null: they must be pushed, as where there is no such thing.
   */
  reserve?(rowCount: number, firstBucket: number): readonly number[] | null
  /**
   * Takes all rows of a unit at once, whose columns are float64 without missing cells, and which need not be collected with others.
   * False: they must be pushed, as where there is no such thing.
   */
  sendWhole?(batch: Batch): boolean
}

/** Rows to send: [fromNs, toNs); of buckets those that have a part in it. */
export interface Span {
  readonly fromNs: bigint
  readonly toNs: bigint
  /** What rates need to know of the time before. */
  readonly carry: readonly Carry[]
}

export interface Unit {
  /** Its labels are those of the frames. */
  readonly first: ScanSet
  readonly wanted: WantedColumns
  /** False when there are no rows in the span. */
  open(span: Span): boolean
  /** Sends the rows of the open span. */
  send(sink: RowSink): ScanPosition | null
}

export function cancelled(): FramesError {
  return new FramesError('CANCELLED', 'the read was cancelled')
}

/** The units of a scan. One at a time: each takes the place of the one before. */
export class Units {
  readonly count: number
  readonly #input: ScanInput
  readonly #single: SingleUnit | null
  readonly #pooled: PooledUnit | null

  constructor(
    kernels: Kernels,
    reader: SampleReader,
    scratch: { readonly states: Scratch; readonly temporary: Scratch },
    input: ScanInput,
  ) {
    this.#input = input
    const { plan, groupStarts, setCount } = input
    this.count = groupStarts === null ? setCount : groupStarts.length - 1
    const aggregations = new Aggregations(kernels, scratch, plan)
    const pooled = isPooled(plan)
    this.#single = pooled ? null : new SingleUnit(reader, aggregations, plan)
    this.#pooled = pooled ? new PooledUnit(reader, aggregations, input) : null
  }

  /** Null when none of its sets has a requested metric: then it has no frames at all. */
  at(index: number): Unit | null {
    if (this.#pooled !== null) return this.#pooled.begin(index) ? this.#pooled : null
    const single = this.#single!
    const entry = this.#input.setAt(index)
    const allowed = this.#input.metricsAt(index)
    // A filter on metrics makes a list of its own.
    const { plan } = this.#input
    const wanted =
      allowed === null
        ? (columnsOfSet(plan, entry.signature)?.wanted ?? null)
        : wantedMetrics(plan, entry.signature, allowed)
    if (wanted === null) return null
    single.begin(entry, wanted)
    return single
  }
}

/** Whether each set is read again for each chunk of buckets: groups, buckets that look back, and step points. */
function isPooled({ mode, groupBy, windowMs, items }: ReadPlan): boolean {
  if (mode === 'raw') return false
  return groupBy !== null || windowMs > 0 || mode !== 'over-time' || items.some(({ fn }) => fn === null)
}

/** The one aggregation at work: units with the same columns share it. */
class Aggregations {
  #aggregation: Aggregation | null = null
  readonly #mark: number

  constructor(
    readonly kernels: Kernels,
    readonly scratch: { readonly states: Scratch; readonly temporary: Scratch },
    readonly plan: ReadPlan,
  ) {
    this.#mark = scratch.states.mark()
  }

  of(wanted: WantedColumns): Aggregation {
    if (this.#aggregation?.wanted !== wanted) {
      this.scratch.states.release(this.#mark)
      const { states, temporary } = this.scratch
      this.#aggregation = new Aggregation(this.kernels, states, temporary, this.plan, wanted)
    }
    return this.#aggregation!
  }
}

/** One label set: its samples, or functions over time of them. */
class SingleUnit implements Unit {
  first!: ScanSet
  wanted!: WantedColumns
  #carry: readonly Carry[] = []
  readonly #startNs: bigint
  readonly #endNs: bigint
  readonly #stepNs: bigint

  constructor(
    readonly reader: SampleReader,
    readonly aggregations: Aggregations,
    readonly plan: ReadPlan,
  ) {
    this.#startNs = toNs(plan.startMs)
    this.#endNs = toNs(plan.endMs + 1)
    this.#stepNs = toNs(plan.stepMs)
  }

  begin(first: ScanSet, wanted: WantedColumns): void {
    this.first = first
    this.wanted = wanted
  }

  open({ fromNs, toNs: behindNs, carry }: Span): boolean {
    this.#carry = carry
    let toNs = behindNs
    if (this.plan.mode !== 'raw' && toNs < this.#endNs) {
      // To the end of the last bucket.
      toNs = toInt64(this.#startNs + ((toNs - this.#startNs + this.#stepNs - 1n) / this.#stepNs) * this.#stepNs)
    }
    if (toNs > this.#endNs) toNs = this.#endNs
    const grid = this.plan.mode === 'over-time' ? this.aggregations.of(this.wanted).grid : null
    return this.reader.open(this.first.set, this.wanted.metrics, fromNs, toNs, grid)
  }

  send(sink: RowSink): ScanPosition | null {
    return this.plan.mode === 'raw' ? this.#sendRaw(sink) : this.#sendOverTime(sink)
  }

  #sendRaw(sink: RowSink): ScanPosition | null {
    for (let batch = this.reader.next(); batch !== null; batch = this.reader.next()) {
      const rest = sink.push(batch)
      if (rest !== null) return rest
    }
    return null
  }

  /** Buckets are filled chunk by chunk, so that a small step over a long time costs only the buckets that have samples. */
  #sendOverTime(sink: RowSink): ScanPosition | null {
    const aggregation = this.aggregations.of(this.wanted)
    aggregation.begin(this.#carry, 1)
    for (let batch = this.reader.next(); batch !== null; batch = this.reader.next()) {
      for (let row = 0; row < batch.rowCount; ) {
        row = aggregation.add(batch, row)
        const rest = row < batch.rowCount ? aggregation.flush(sink) : null
        if (rest !== null) return rest
      }
    }
    return aggregation.flush(sink)
  }
}

/** A group of label sets, or one whose buckets look back or take values at step points. */
class PooledUnit implements Unit {
  #pool!: Pool
  #span!: Span
  readonly #pools: Pools

  constructor(
    readonly reader: SampleReader,
    readonly aggregations: Aggregations,
    readonly input: ScanInput,
  ) {
    this.#pools = new Pools(input.plan, input)
  }

  get first(): ScanSet {
    return this.#pool.first
  }

  get wanted(): WantedColumns {
    return this.#pool.wanted
  }

  begin(index: number): boolean {
    const { groupStarts } = this.input
    const start = groupStarts === null ? index : groupStarts[index]!
    const end = groupStarts === null ? index + 1 : groupStarts[index + 1]!
    const pool = this.#pools.of(start, end)
    if (pool === null) return false
    this.#pool = pool
    return true
  }

  open(span: Span): boolean {
    this.#span = span
    return true
  }

  /** Chunk by chunk of buckets, all sets of the pool; where no set has rows, chunks are passed over. */
  send(sink: RowSink): ScanPosition | null {
    const { reader } = this
    const { isCancelled } = this.input
    const { memberAt, setCount, wanted } = this.#pool
    const aggregation = this.aggregations.of(wanted)
    aggregation.begin(this.#span.carry, setCount, this.#span.toNs)
    let bucket = aggregation.bucketAt(this.#span.fromNs)
    while (bucket < aggregation.bucketEnd) {
      const { startNs, endNs } = aggregation.beginChunk(bucket)
      for (let index = 0; index < setCount; index++) {
        if (isCancelled()) throw cancelled()
        const member = memberAt(index)
        if (member === null) continue
        if (aggregation.takesSamples && reader.open(member.set, member.metrics, startNs, endNs, aggregation.grid)) {
          aggregation.beginMember()
          let batch = reader.next()
          while (batch !== null && aggregation.addOfMember(member, batch)) batch = reader.next()
          aggregation.endMember(member)
        }
        aggregation.addSteps(reader, member, index)
      }
      const rest = aggregation.flush(sink)
      if (rest !== null) return rest
      bucket = aggregation.nextBucket(bucket)
    }
    return null
  }
}
