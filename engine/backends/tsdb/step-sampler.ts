// Values of series at step points: reads each series as far as a chunk of steps needs, and keeps what it saw beside the
// chunk, so that the next chunk goes on where this one ended.
import type { Interpolator } from '../../expression/aggregators.js'
import type { Kernels } from '../../kernels/kernels.js'
import type { Scratch } from '../../memory/scratch.js'
import { toInt64, toNs } from './bounds.js'
import { looksBack, type Interpolation, type ReadPlan } from './plan.js'
import type { Member, WantedColumns } from './pools.js'
import type { BatchColumn, SampleReader } from './series-reader.js'
import { bitmapByteLength } from './series-reader.js'
import type { MetricType } from './signature.js'

/** In the numbering of kernels/steps.ts. */
const methodNumbers: Readonly<Record<Interpolator, number>> = { next_val: 0, prev_val: 1, linear: 2, nan: 3, none: 4 }

/** A value and a bit, and some room between the bitmaps. */
export const stepByteLengthPerPoint = 9

/** What is kept of the series of a pool between chunks: a pool of more series reads a little of each again. */
const keptByteLengthMax = 1024 * 1024

const unknownTime = -(2n ** 63n)

/** Which of the metrics need values at step points: indexes into `wanted.metrics`. Text has none. */
export function sampledMetrics({ mode }: ReadPlan, { metrics, columns }: WantedColumns): number[] {
  const sampled: number[] = []
  for (let index = 0; index < metrics.length; index++) {
    if (metrics[index]!.type === 'string') continue
    const isSampled =
      mode === 'downsample' ||
      mode === 'across' ||
      (mode === 'over-time' && columns.some(({ metric, fn }) => metric === index && fn === null))
    if (isSampled) sampled.push(index)
  }
  return sampled
}

/**
 * state    number of the metric in the pool
 * values   f64 a step, NaN where there is none; present: a bit a step
 */
interface SampledMetric {
  readonly state: number
  readonly valuesPtr: number
  readonly presentPtr: number
  readonly method: number
  readonly looksBack: boolean
  readonly toleranceNs: bigint
  /** Place among those that are sampled. */
  readonly slot: number
}

export class StepSampler {
  readonly sampled: readonly SampledMetric[]
  /** The same by number of the metric in the pool. */
  readonly #byState: (SampledMetric | undefined)[] = []
  readonly #kernels: Kernels
  readonly #scratch: Scratch
  readonly #mark: number
  readonly #endNs: bigint
  readonly #stepNs: bigint
  readonly #stateByteLength: number
  /** States of the series of all sets of the pool, or of one set at a time. */
  #statesPtr = 0
  #keepsAll = false
  #nextStep = Infinity

  constructor(
    kernels: Kernels,
    scratch: Scratch,
    plan: ReadPlan,
    wanted: WantedColumns,
    metrics: readonly number[],
    stepCount: number,
  ) {
    this.#kernels = kernels
    this.#scratch = scratch
    this.#endNs = toNs(plan.endMs + 1)
    this.#stepNs = toNs(plan.stepMs)
    this.#stateByteLength = kernels.call.stepStateByteLength()
    const named = new Map(plan.interpolations)
    this.sampled = metrics.map((state, slot): SampledMetric => {
      const { interpolator, toleranceMs }: Interpolation = named.get(wanted.metrics[state]!.name) ?? plan.interpolation
      return {
        state,
        slot,
        valuesPtr: scratch.allocate(8 * stepCount),
        presentPtr: scratch.allocate(bitmapByteLength(stepCount)),
        method: methodNumbers[interpolator],
        looksBack: looksBack(interpolator),
        toleranceNs: toNs(toleranceMs),
      }
    })
    for (const metric of this.sampled) this.#byState[metric.state] = metric
    this.#mark = scratch.mark()
  }

  valuesPtr(state: number): number {
    return this.#byState[state]!.valuesPtr
  }

  /** A new pool of so many sets: nothing is known of their series. */
  begin(setCount: number): void {
    this.#scratch.release(this.#mark)
    const setByteLength = this.#stateByteLength * this.sampled.length
    this.#keepsAll = setByteLength * setCount <= keptByteLengthMax
    const count = this.#keepsAll ? setCount : 1
    this.#statesPtr = this.#scratch.allocate(setByteLength * count)
    for (let i = 0; i < count * this.sampled.length; i++)
      this.#kernels.call.initStepState(this.#statesPtr + i * this.#stateByteLength)
  }

  /** A new chunk of steps. */
  beginChunk(): void {
    this.#nextStep = Infinity
  }

  /** The first step behind the chunk that may have a value, counted from the chunk's start; Infinity: there is none. */
  get nextStep(): number {
    return this.#nextStep
  }

  /**
   * Fills the values of a set's series in a chunk of steps. Returns those of its metrics that are sampled.
   * `index`: of the set in its pool.
   */
  sample(
    reader: SampleReader,
    member: Member,
    index: number,
    chunkNs: bigint,
    stepCount: number,
  ): readonly SampledMetric[] {
    const { call, i64 } = this.#kernels
    const statesPtr = this.#statesPtr + (this.#keepsAll ? index * this.#stateByteLength * this.sampled.length : 0)
    const stateOf = ({ slot }: SampledMetric): number => statesPtr + slot * this.#stateByteLength
    const own: SampledMetric[] = []
    const unread: { metric: SampledMetric; index: number }[] = []
    let fromNs = this.#endNs
    member.states.forEach((state, i) => {
      const metric = this.#byState[state]
      if (metric === undefined) return
      own.push(metric)
      const { method, toleranceNs, valuesPtr, presentPtr } = metric
      const statePtr = stateOf(metric)
      if (!this.#keepsAll) call.initStepState(statePtr)
      const nextNs = i64[(statePtr >> 3) + 2]!
      const isDecided = call.beginSteps(
        chunkNs,
        this.#stepNs,
        stepCount,
        method,
        toleranceNs,
        statePtr,
        valuesPtr,
        presentPtr,
      )
      if (isDecided) return
      unread.push({ metric, index: i })
      const backNs = metric.looksBack ? toInt64(chunkNs - toleranceNs) : chunkNs
      const neededNs = nextNs === unknownTime ? backNs : nextNs
      if (neededNs < fromNs) fromNs = neededNs
    })
    if (unread.length > 0) {
      const metrics = unread.map((entry) => member.metrics[entry.index]!)
      const isOpen = reader.open(member.set, metrics, fromNs, this.#endNs)
      let left = unread.length
      const isDone = unread.map(() => false)
      for (let batch = isOpen ? reader.next() : null; batch !== null && left > 0; batch = reader.next()) {
        for (let i = 0; i < unread.length; i++) {
          const cells = batch.columns[i]
          if (isDone[i] || cells == null) continue
          const { metric } = unread[i]!
          const rows = { timesPtr: batch.timesPtr, rowCount: batch.rowCount, cells, type: metrics[i]!.type }
          if (!this.#addRows(rows, metric, stateOf(metric), chunkNs, stepCount)) continue
          isDone[i] = true
          left--
        }
        if (left === 0) break
      }
      unread.forEach(({ metric }, i) => {
        if (!isDone[i]) call.endSteps(stateOf(metric))
      })
    }
    for (const metric of own) {
      const { method, toleranceNs } = metric
      const next = call.nextStepWithValue(chunkNs, this.#stepNs, stepCount, method, toleranceNs, stateOf(metric))
      this.#nextStep = Math.min(this.#nextStep, Number(next))
    }
    return own
  }

  /** True when the metric needs no further rows in this chunk. */
  #addRows(
    rows: { timesPtr: number; rowCount: number; cells: BatchColumn; type: MetricType },
    { method, toleranceNs, valuesPtr, presentPtr }: SampledMetric,
    statePtr: number,
    chunkNs: bigint,
    stepCount: number,
  ): boolean {
    const { call } = this.#kernels
    const { timesPtr, rowCount, cells, type } = rows
    const add = type === 'bool' ? call.addStepsBits : type === 'int64' ? call.addStepsInt64 : call.addStepsFloat64
    const isDecided = add(
      timesPtr,
      cells.valuesPtr,
      cells.validityPtr,
      rowCount,
      chunkNs,
      this.#stepNs,
      stepCount,
      method,
      toleranceNs,
      statePtr,
      valuesPtr,
      presentPtr,
    )
    return isDecided === 1
  }
}
