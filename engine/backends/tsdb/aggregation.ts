// Functions of the samples in each bucket, or of the values of several series at its time; chunk by chunk of buckets.
import type { Kernels } from '../../kernels/kernels.js'
import type { Scratch } from '../../memory/scratch.js'
import { nsPerMs, toInt64, toNs } from './bounds.js'
import { type DigestColumn, digestsFrom } from './digests.js'
import type { ReadPlan } from './plan.js'
import { functionNumbers, functionStates, neededStates } from './plan.js'
import { shiftBatch } from './message-sink.js'
import type { Member, WantedColumns } from './pools.js'
import type { Carry, ScanPosition } from './scan-input.js'
import type { Batch, BatchColumn, BucketGrid, SampleReader } from './series-reader.js'
import { bitmapByteLength } from './series-reader.js'
import type { MetricType } from './signature.js'
import type { RowSink } from './units.js'
import { sampledMetrics, StepSampler, stepByteLengthPerPoint } from './step-sampler.js'

/** Buckets worked on at once; more would leave the cache. */
const chunkBucketCountMax = 4096
/** States of all metrics together stay below this. */
const chunkByteLengthMax = 512 * 1024
const stateByteLengthPerBucket = 56

const noBuckets = new Uint32Array(0)

/** A chunk of buckets from `first` on, of those before bucketEnd. */
interface Chunk {
  readonly first: number
  readonly bucketEnd: number
  readonly chunkNs: bigint
  /** Rows from here on belong to no bucket of it. */
  readonly chunkEndNs: bigint
  /** Times of the rows that it needs and those behind it, [startNs, endNs). */
  readonly startNs: bigint
  readonly endNs: bigint
}

/** Before the first row. */
const timeMinNs = -(2n ** 63n)
/** In windows a time counts as floored to milliseconds: each ends with the last nanosecond of its millisecond. */
const restOfMsNs = nsPerMs - 1n

export class Aggregation {
  readonly #kernels: Kernels
  readonly #plan: ReadPlan
  readonly #chunkBucketCount: number
  readonly #states: number[]
  readonly #needed: number
  readonly #grid: BucketGrid
  /** Of the pool at work. */
  #setCount = 1
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
  /** Value and time (ms) of the last bucket with samples, two numbers a metric; NaN: none. Kept where `rate` is. */
  #carry: number[] = []
  readonly #hasRate: boolean
  readonly #countsBoth: boolean
  /** A unit has one chunk, and its columns are made of states alone. */
  readonly #isWhole: boolean
  readonly bucketCount: number
  /** Buckets from here on are not sent. */
  bucketEnd: number
  /** The time that it was made of. */
  #bucketEndOf: bigint | null = null
  /** The times of the chunk under way, and of the rows that it needs; most units have the same one. */
  #chunk: Chunk = { first: -1, bucketEnd: -1, chunkNs: 0n, chunkEndNs: 0n, startNs: 0n, endNs: 0n }
  /** Values at the times of the buckets: what functions across series and raw columns beside functions are made of. */
  readonly #steps: StepSampler | null
  /** Those times, for functions across series. */
  readonly #stepTimesPtr: number
  readonly #windowNs: bigint
  readonly #looksBack: boolean
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
    this.bucketEnd = bucketCount
    this.#windowNs = toNs(plan.windowMs)
    this.#looksBack = plan.windowMs > 0 && plan.mode === 'over-time'
    this.#countsBoth = wanted.columns.some(({ counted }) => counted >= 0)
    this.#hasRate = plan.functions.includes('rate')
    this.#needed = neededStates(plan)
    const needsTimes = plan.mode === 'over-time' && plan.groupBy !== null && (this.#needed & functionStates.last) !== 0
    const stateByteLength = needsTimes ? 2 * stateByteLengthPerBucket + 16 : stateByteLengthPerBucket
    const affordable = Math.floor(
      chunkByteLengthMax /
        ((stateByteLength + stepByteLengthPerPoint) * wanted.metrics.length + 8 * wanted.columns.length),
    )
    this.#chunkBucketCount = Math.max(1, Math.min(bucketCount, chunkBucketCountMax, affordable))
    this.#isWhole =
      plan.mode === 'over-time' &&
      this.#chunkBucketCount === bucketCount &&
      wanted.columns.every(({ fn, counted }) => fn !== null && fn !== 'rate' && (fn !== 'count' || counted < 0))
    const count = this.#chunkBucketCount
    const stateful = plan.mode === 'downsample' ? [] : wanted.metrics
    this.#states = stateful.map(() => scratch.allocate(stateByteLengthPerBucket * count))
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
    this.#grid = { startNs: this.#startNs, stepNs: this.#stepNs, fields: this.#needed }
    this.#stepTimesPtr = plan.mode === 'across' ? scratch.allocate(8 * count) : 0
    // Last, for it takes more memory with each pool.
    const sampled = sampledMetrics(plan, wanted)
    this.#steps = sampled.length === 0 ? null : new StepSampler(kernels, scratch, plan, wanted, sampled, count)
  }

  /** A new label set, or a new pool of so many; of the buckets, those that begin before toNs. */
  begin(carry: readonly Carry[], setCount: number, toNs: bigint | null = null): void {
    this.#first = -1
    this.#setCount = setCount
    if (toNs === null) this.bucketEnd = this.bucketCount
    else if (toNs !== this.#bucketEndOf)
      this.bucketEnd = Math.max(0, Math.min(this.bucketCount, this.bucketAt(toNs + this.#stepNs - 1n)))
    this.#bucketEndOf = toNs
    this.#steps?.begin(setCount)
    if (!this.#hasRate) return
    const known = new Map(carry.map(([metric, value, timeMs]) => [metric, [value, timeMs]]))
    this.#carry = this.wanted.metrics.flatMap(({ name }) => known.get(name) ?? [Number.NaN, Number.NaN])
  }

  /**
   * The buckets that samples go to, for readers that know more than samples; null: only samples will do, where buckets
   * overlap, or where the time of the last sample counts, too.
   */
  get grid(): BucketGrid | null {
    return this.#looksBack || this.#isTimed ? null : this.#grid
  }

  /** Whether the last value of a pool must be found among those of its members. */
  get #isTimed(): boolean {
    return this.#lastTimes.length > 0 && this.#setCount > 1
  }

  /** Whether the samples themselves go into the buckets. */
  get takesSamples(): boolean {
    return this.#plan.mode === 'over-time'
  }

  /** Adds the values of a pool's set at the times of the chunk's buckets, where they are needed. */
  addSteps(reader: SampleReader, member: Member, index: number): void {
    if (this.#steps === null) return
    const stepCount = this.#stepCount
    const chunkNs = this.#startNs + BigInt(this.#first) * this.#stepNs
    const sampled = this.#steps.sample(reader, member, index, chunkNs, stepCount)
    if (this.#plan.mode !== 'across') return
    const { call } = this.#kernels
    for (const { state, valuesPtr, presentPtr } of sampled) {
      call.accumulateWindowsFloat64(
        this.#stepTimesPtr,
        valuesPtr,
        presentPtr,
        stepCount,
        chunkNs,
        this.#stepNs,
        this.#chunkBucketCount,
        this.#states[state]!,
        this.#needed,
      )
    }
  }

  /** The chunk may be longer than what is left. */
  get #stepCount(): number {
    return Math.min(this.#chunkBucketCount, this.bucketEnd - this.#first)
  }

  /** Adds rows from `row` on that fall into the chunk; returns the first row behind it. */
  add(batch: Batch, row: number): number {
    const { call, i64 } = this.#kernels
    if (this.#first < 0) {
      this.#first = Number((i64[(batch.timesPtr >> 3) + row]! - this.#startNs) / this.#stepNs)
      for (const statePtr of this.#states) call.initWindows(statePtr, this.#chunkBucketCount)
    }
    const { chunkNs, chunkEndNs } = this.#chunkOf(this.#first)
    const last = i64[(batch.timesPtr >> 3) + batch.rowCount - 1]!
    const end =
      last < chunkEndNs ? batch.rowCount : call.lowerBoundInt64(batch.timesPtr, row, batch.rowCount, chunkEndNs)
    const rowCount = end - row
    if (batch.digests !== null) {
      for (let i = 0; i < batch.digests.length; i++) {
        const digests = batch.digests[i]!
        if (digests === null) continue
        const rest = row === 0 ? digests : digestsFrom(digests, row)
        this.#addDigests(rest, batch.timesPtr + 8 * row, rowCount, chunkNs, this.#states[i]!)
      }
      return end
    }
    const rows = row === 0 ? batch : shiftBatch(this.#kernels, this.#temporary, batch, row, this.wanted.metrics)
    const { metrics } = this.wanted
    for (let i = 0; i < metrics.length; i++) {
      const cells = rows.columns[i]
      if (cells != null) this.#addWindows(metrics[i]!.type, rows.timesPtr, cells, rowCount, chunkNs, this.#states[i]!)
    }
    return end
  }

  #addDigests(
    { countsPtr, sumsPtr, minsPtr, maxsPtr, lastsPtr, m2sPtr }: DigestColumn,
    timesPtr: number,
    digestCount: number,
    chunkNs: bigint,
    statePtr: number,
  ): void {
    this.#kernels.call.combineDigests(
      timesPtr,
      countsPtr,
      sumsPtr,
      minsPtr,
      maxsPtr,
      lastsPtr,
      m2sPtr,
      digestCount,
      chunkNs,
      this.#stepNs,
      this.#chunkBucketCount,
      statePtr,
      this.#needed,
    )
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
    const chunk = this.#chunkOf(bucket)
    this.#steps?.beginChunk()
    if (this.#stepTimesPtr !== 0) call.stepTimes(chunk.chunkNs, this.#stepNs, this.#stepCount, this.#stepTimesPtr)
    return chunk
  }

  #chunkOf(first: number): Chunk {
    if (this.#chunk.first !== first || this.#chunk.bucketEnd !== this.bucketEnd) this.#chunk = this.#chunkAt(first)
    return this.#chunk
  }

  #chunkAt(first: number): Chunk {
    const { bucketEnd } = this
    const count = BigInt(this.#chunkBucketCount)
    const chunkNs = this.#startNs + BigInt(first) * this.#stepNs
    if (!this.#looksBack) {
      const endNs = toNs(this.#plan.endMs + 1)
      return { first, bucketEnd, chunkNs, chunkEndNs: toInt64(chunkNs + count * this.#stepNs), startNs: chunkNs, endNs }
    }
    const lastNs = this.#startNs + BigInt(bucketEnd - 1) * this.#stepNs
    return {
      first,
      bucketEnd,
      chunkNs,
      // Behind the end of the last bucket's window.
      chunkEndNs: toInt64(chunkNs + (count - 1n) * this.#stepNs + nsPerMs),
      startNs: toInt64(chunkNs - this.#windowNs),
      endNs: toInt64(lastNs + nsPerMs),
    }
  }

  /** A new member of the pool. */
  beginMember(): void {
    if (!this.#isTimed) return
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
    const { chunkNs, chunkEndNs } = this.#chunk
    const lastNs = i64[(timesPtr >> 3) + batch.rowCount - 1]!
    const rowCount =
      lastNs < chunkEndNs ? batch.rowCount : call.lowerBoundInt64(timesPtr, 0, batch.rowCount, chunkEndNs)
    if (rowCount > 0) {
      if (this.#looksBack) {
        const lastAddedNs = i64[(timesPtr >> 3) + rowCount - 1]!
        if (lastAddedNs > this.#lastNs) this.#lastNs = lastAddedNs
      }
      const isTimed = this.#isTimed
      const into = isTimed ? this.#memberStates : this.#states
      if (batch.digests !== null) {
        for (let i = 0; i < states.length; i++) {
          const digests = batch.digests[i]!
          if (digests !== null) this.#addDigests(digests, timesPtr, rowCount, chunkNs, into[states[i]!]!)
        }
        return this.#isWithin(batch, rowCount)
      }
      const firstEndNs = toInt64(chunkNs + restOfMsNs)
      for (let i = 0; i < metrics.length; i++) {
        const { type } = metrics[i]!
        const state = states[i]!
        const cells = batch.columns[i]
        if (cells == null) continue
        if (this.#looksBack) this.#addLookback(type, timesPtr, cells, rowCount, firstEndNs, into[state]!)
        else this.#addWindows(type, timesPtr, cells, rowCount, chunkNs, into[state]!)
        if (!isTimed) continue
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
      }
    }
    return this.#isWithin(batch, rowCount)
  }

  /** Whether the chunk takes all rows of a batch; the first that it does not take is remembered. */
  #isWithin({ timesPtr, rowCount }: Batch, takenCount: number): boolean {
    if (takenCount === rowCount) return true
    const behindNs = this.#kernels.i64[(timesPtr >> 3) + takenCount]!
    if (this.#behindNs === null || behindNs < this.#behindNs) this.#behindNs = behindNs
    return false
  }

  /** Pools what was added of a member; of values with one time, the later member's is the last. */
  endMember({ states }: Member): void {
    if (!this.#isTimed) return
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
    if (!this.takesSamples) return bucket + (this.#steps?.nextStep ?? Infinity)
    if (!this.#looksBack) return this.#behindNs === null ? this.bucketEnd : this.bucketAt(this.#behindNs)
    const next = bucket + this.#chunkBucketCount
    const nextNs = this.#startNs + BigInt(next) * this.#stepNs
    if (this.#lastNs >= nextNs - this.#windowNs) return next
    if (this.#behindNs === null) return this.bucketEnd
    return Math.max(next, this.bucketAt(this.#behindNs - restOfMsNs + this.#stepNs - 1n))
  }

  /** Sends the buckets of the chunk that have a sample, and forgets the chunk. */
  flush(sink: RowSink): ScanPosition | null {
    if (this.#first < 0) return null
    const { call, u8, u32 } = this.#kernels
    const count = this.#chunkBucketCount
    u8.fill(0, this.#maskPtr, this.#maskPtr + bitmapByteLength(count))
    for (const statePtr of this.#states) call.occupiedWindows(statePtr, count, this.#maskPtr)
    if (this.#plan.mode === 'downsample')
      for (const { presentPtr } of this.#steps?.sampled ?? [])
        call.orBits(this.#maskPtr, presentPtr, this.#maskPtr, count)
    // The chunk may be longer than what is left: buckets behind the last one would look back into the range.
    if (this.#first + count > this.bucketEnd)
      call.setBitRange(this.#maskPtr, Math.max(0, this.bucketEnd - this.#first), count, 0)
    const rowCount = call.bitsToIndexes(this.#maskPtr, count, this.#indexesPtr)
    const first = this.#first
    this.#first = -1
    if (rowCount === 0) return null
    if (this.#isWhole && this.#writeWhole(sink, first, rowCount)) return null
    const { chunkNs } = this.#chunkOf(first)
    call.bucketTimes(this.#indexesPtr, rowCount, chunkNs, this.#stepNs, this.#timesPtr)
    const buckets =
      this.#hasRate || this.#countsBoth
        ? u32.subarray(this.#indexesPtr >> 2, (this.#indexesPtr >> 2) + rowCount)
        : noBuckets
    const columns = this.wanted.columns.map(({ metric, counted, fn }, i): BatchColumn => {
      const targetPtr = this.#columnPtrs[i]!
      const isString = metric >= 0 && this.wanted.metrics[metric]!.type === 'string'
      if (metric < 0 || (isString && fn !== 'count')) call.fillFloat64(targetPtr, rowCount, Number.NaN)
      else if (fn === null) call.gather64(this.#steps!.valuesPtr(metric), this.#indexesPtr, rowCount, targetPtr)
      else if (fn === 'count' && counted >= 0) this.#countBoth(metric, counted, buckets, targetPtr)
      else if (fn === 'rate') this.#rate(metric, first, buckets, targetPtr)
      else {
        call.finishWindows(this.#states[metric]!, count, functionNumbers[fn], this.#finishedPtr)
        call.gather64(this.#finishedPtr, this.#indexesPtr, rowCount, targetPtr)
      }
      return { valuesPtr: targetPtr, validityPtr: 0, bytesPtr: 0 }
    })
    const batch: Batch = { rowCount, timesPtr: this.#timesPtr, columns, digests: null }
    if (this.#isWhole && sink.sendWhole?.(batch) === true) return null
    const rest = sink.push(batch)
    if (this.#hasRate) {
      const sentRows = rest === null ? rowCount : Number((rest.fromNs - chunkNs) / this.#stepNs)
      this.#advanceCarry(first, rest === null ? buckets : buckets.filter((bucket) => bucket < sentRows))
    }
    return rest === null ? null : { ...rest, carry: this.#hasRate ? this.#namedCarry() : [] }
  }

  /** Writes the rows of a unit into a message that has all but their values; false where that cannot be. */
  #writeWhole(sink: RowSink, first: number, rowCount: number): boolean {
    const { call, u32 } = this.#kernels
    const indexes = this.#indexesPtr >> 2
    const firstIndex = u32[indexes]!
    if (u32[indexes + rowCount - 1]! - firstIndex !== rowCount - 1) return false
    const targets = sink.reserve?.(rowCount, first + firstIndex) ?? null
    if (targets === null) return false
    const { columns, metrics } = this.wanted
    const count = this.#chunkBucketCount
    for (let i = 0; i < columns.length; i++) {
      const { metric, fn } = columns[i]!
      const targetPtr = targets[i]!
      if (metric < 0 || (metrics[metric]!.type === 'string' && fn !== 'count'))
        call.fillFloat64(targetPtr, rowCount, Number.NaN)
      else if (rowCount === count) call.finishWindows(this.#states[metric]!, count, functionNumbers[fn!], targetPtr)
      else {
        call.finishWindows(this.#states[metric]!, count, functionNumbers[fn!], this.#finishedPtr)
        call.copyBytes(this.#finishedPtr + 8 * firstIndex, 8 * rowCount, targetPtr)
      }
    }
    return true
  }

  #namedCarry(): Carry[] {
    return this.wanted.metrics.flatMap(({ name, type }, metric) => {
      const value = this.#carry[2 * metric]!
      const timeMs = this.#carry[2 * metric + 1]!
      return type === 'string' || Number.isNaN(timeMs) ? [] : [[name, value, timeMs] as const]
    })
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
