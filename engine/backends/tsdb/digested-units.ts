// Label sets or groups many at once: block by block instead of set by set. Their buckets are filled by digests and, where blocks
// have none, by rows. A set by itself takes some microseconds to open, find and send, whatever is read of it.
import { assert } from '../../assert.js'
import type { Scratch } from '../../memory/scratch.js'
import {
  addBlockRows,
  addRowsOfSet,
  type AskedSets,
  claimBlockRows,
  type FilledStates,
  hasPlainMetrics,
} from './block-rows.js'
import { toNs } from './bounds.js'
import { digestColumn, digestPlaces } from './digests.js'
import {
  bucketCountMax,
  groupBucketCountMax,
  occupiedBuckets,
  rowsSetCountMin,
  rowsStateByteLengthMax,
  rowsUnitCountMax,
} from './many-sets.js'
import { functionNumbers, neededStates } from './plan.js'
import type { AlikeUnits } from './message-sink.js'
import type { WantedColumns } from './pools.js'
import { rowCountNone, type ScanInput, type ScanPosition, type ScanSet } from './scan-input.js'
import {
  bitmapByteLength,
  type BucketGrid,
  type ReadBlock,
  type SeriesReader,
  servingDigests,
  type ServingDigests,
} from './series-reader.js'
import { cancelled, type RowSink, type Units } from './units.js'

/** Fewer sets are opened one by one: that costs as much. */
const setCountMin = 3
const setCountMax = 16_384
/** What the buckets of all units worked on at once take, which are bucketCountMax at most: their state stays in the cache. */
const valuesByteLengthMax = 512 * 1024
/** The table that finds slots by the numbers of sets has so many places for each set that is asked for. */
const slotShareMax = 64
const claimByteLength = 16
/** The same where rows are read, which spares more. */
const rowsSlotShareMax = 1024
/** What the kernel occupiedRuns says of a unit that has empty buckets between others. */
const hasGaps = 0xffffffff
const noSlot = 0xffffffff
const beforeAllTimes = -(2n ** 63n)
const behindAllTimes = 2n ** 63n - 1n

/** Where rows of units go. */
export interface UnitSink extends RowSink {
  readonly isLarge: boolean
  begin(index: number, set: ScanSet, wanted: WantedColumns): void
  repeat(units: AlikeUnits): number
  end(): void
}

/** Whether a read can be answered so at all. */
export function takesDigestedUnits(input: ScanInput): boolean {
  const { plan, rowCondition, rowCountMax, metricsAt, setCount, groupStarts, manySetsShare } = input
  const { mode, windowMs, order, items } = plan
  if (mode !== 'over-time' || windowMs > 0 || order !== null || rowCondition !== null) return false
  if (setCount < setCountMin || rowCountMax !== rowCountNone || metricsAt(0) !== null) return false
  const isOfGroups = groupStarts !== null && manySetsShare > 0
  if (occupiedBuckets(plan, input.sources).count > (isOfGroups ? groupBucketCountMax : bucketCountMax)) return false
  return items.every(({ fn }) => fn !== null && fn !== 'rate')
}

/** Digests of a block that fill buckets, as the kernel claimDigests writes them. */
interface Claims {
  readonly block: ReadBlock
  readonly serving: ServingDigests
  readonly claimsPtr: number
  readonly claimCount: number
}

/** What was claimed of a block: digests, or rows. */
type Claimed = Claims | { readonly block: ReadBlock; readonly serving: null }

/** What answers for some columns, block by block. */
interface Serving {
  readonly wanted: WantedColumns
  readonly ofBlocks: readonly (ServingDigests | null)[]
  /** Whether the rows of blocks without digests are read for all sets together, and of which blocks that can be done. */
  readonly readsRows: boolean
  readonly takesRows: readonly boolean[]
}

/** Units [first, end) that are worked on together. */
interface Chunk {
  readonly first: number
  readonly end: number
  readonly wanted: WantedColumns
  /** u32 a unit: 1 where it must be read by itself. */
  readonly brokenPtr: number
  /** Two u32 a unit, see the kernel occupiedRuns. */
  readonly runsPtr: number
  /** f64: the buckets of all units, column after column. */
  readonly valuesPtr: number
}

export class DigestedUnits {
  readonly #blocks: readonly ReadBlock[]
  readonly #grid: BucketGrid
  /** Where the grid begins, in buckets of the plan. */
  readonly #firstBucket: number
  readonly #bucketCount: number
  /** What is added up of digests: their counts only where somebody asks for them. */
  readonly #digestFields: number
  readonly #mark: number
  #chunk: Chunk | null = null
  /** Units before this one need not be tried. */
  #tryFrom = 0
  #timesPtr = 0
  #serving: Serving | null = null

  /** scratch: what lasts as long as some units are at work. */
  constructor(
    readonly reader: SeriesReader,
    readonly scratch: Scratch,
    readonly units: Units,
    readonly input: ScanInput,
  ) {
    const { plan } = input
    const { startMs, endMs, stepMs } = plan
    // Of one label set, earlier rows come first, or its unit counts as broken.
    this.#blocks = [...reader.blocks]
      .filter(({ timeMinMs, timeMaxMs }) => timeMinMs <= endMs && timeMaxMs >= startMs)
      .sort((a, b) => (a.timeMinMs === b.timeMinMs ? 0 : a.timeMinMs - b.timeMinMs))
    const { first, count } = occupiedBuckets(plan, input.sources)
    this.#grid = { startNs: toNs(startMs + first * stepMs), stepNs: toNs(stepMs), fields: neededStates(plan) }
    this.#firstBucket = first
    this.#bucketCount = count
    this.#digestFields = plan.functions.includes('count') ? this.#grid.fields : this.#grid.fields & ~1
    this.#mark = scratch.mark()
  }

  /**
   * Sends the units from `index` on that are full of digests. Returns the first that was not sent; with `rest` where a message
   * ended in it.
   */
  send(index: number, sink: UnitSink): { index: number; rest: ScanPosition | null } {
    if (index < this.#tryFrom) return { index, rest: null }
    if (this.#chunk === null || index >= this.#chunk.end) this.#begin(index)
    const chunk = this.#chunk
    if (chunk === null) return { index, rest: null }
    const { u32 } = this.reader.io.kernels
    const { first, end, wanted, brokenPtr, runsPtr } = chunk
    const runs = runsPtr >> 2
    let next = index
    while (next < end) {
      const unit = next - first
      const bucket = u32[runs + 2 * unit]!
      const count = u32[runs + 2 * unit + 1]!
      if (u32[(brokenPtr >> 2) + unit] !== 0 || count === hasGaps) return { index: next, rest: null }
      if (count === 0) {
        next++
        continue
      }
      sink.begin(next, this.#firstOf(next), wanted)
      // The units behind it with rows of the same buckets.
      let alike = unit + 1
      while (
        alike < end - first &&
        u32[runs + 2 * alike] === bucket &&
        u32[runs + 2 * alike + 1] === count &&
        u32[(brokenPtr >> 2) + alike] === 0
      )
        alike++
      const sent = this.#repeat(chunk, unit, alike, bucket, count, sink)
      const rest = sent > 0 ? null : this.#sendUnit(chunk, unit, bucket, count, sink)
      sink.end()
      next += Math.max(1, sent)
      if (rest !== null || sink.isLarge) return { index: next, rest }
    }
    return { index: end, rest: null }
  }

  /** Sends the first of units [unit, end), which have rows of the same buckets. Returns how many. */
  #repeat(chunk: Chunk, unit: number, end: number, firstBucket: number, rowCount: number, sink: UnitSink): number {
    const { first, valuesPtr } = chunk
    return sink.repeat({
      sets: this.#firstSets(first + unit, first + end),
      rowCount,
      firstBucket: this.#firstBucket + firstBucket,
      valuesPtr: valuesPtr + 8 * (unit * this.#bucketCount + firstBucket),
      columnStride: 8 * (chunk.end - first) * this.#bucketCount,
      unitStride: 8 * this.#bucketCount,
    })
  }

  #sendUnit(chunk: Chunk, unit: number, bucket: number, rowCount: number, sink: UnitSink): ScanPosition | null {
    const { call } = this.reader.io.kernels
    const { first, end, wanted, valuesPtr } = chunk
    const columnByteLength = 8 * (end - first) * this.#bucketCount
    const fromPtr = valuesPtr + 8 * (unit * this.#bucketCount + bucket)
    const targets = sink.reserve?.(rowCount, this.#firstBucket + bucket) ?? null
    if (targets !== null) {
      for (let column = 0; column < targets.length; column++)
        call.copyBytes(fromPtr + column * columnByteLength, 8 * rowCount, targets[column]!)
      return null
    }
    const columns = wanted.columns.map((_, column) => {
      return { valuesPtr: fromPtr + column * columnByteLength, validityPtr: 0, bytesPtr: 0 }
    })
    return sink.push({ rowCount, timesPtr: this.#timesPtr + 8 * bucket, columns, digests: null })
  }

  /** The sets whose labels units [start, end) have. */
  #firstSets(start: number, end: number): Uint32Array {
    const { groupStarts, sets } = this.input
    if (groupStarts === null && sets instanceof Uint32Array) return sets.subarray(start, end)
    const found = new Uint32Array(end - start)
    for (let i = 0; i < found.length; i++) found[i] = sets[groupStarts === null ? start + i : groupStarts[start + i]!]!
    return found
  }

  #firstOf(index: number): ScanSet {
    const { groupStarts, setAt } = this.input
    return setAt(groupStarts === null ? index : groupStarts[index]!)
  }

  /** Fills the buckets of units from `index` on. */
  #begin(index: number): void {
    const { scratch } = this
    this.#chunk = null
    scratch.release(this.#mark)
    const wanted = this.#wantedOf(index)
    if (wanted === null) {
      this.#tryFrom = index + 1
      return
    }
    const serving = this.#servingOf(wanted)
    const { end, setFrom, setTo } = this.#unitsAlike(index, serving)
    const asked = setTo - setFrom < setCountMin ? null : this.#askedSets(index, end, setFrom, setTo, serving)
    if (asked === null) {
      this.#tryFrom = end
      return
    }
    const { call } = this.reader.io.kernels
    const unitCount = end - index
    const totalCount = unitCount * this.#bucketCount
    const claimed = this.#claims(serving, asked)
    const valuesPtr = scratch.allocate(8 * wanted.columns.length * totalCount)
    const maskPtr = scratch.allocate(bitmapByteLength(totalCount))
    call.fillBits(maskPtr, totalCount, 0)
    this.#fill(wanted, claimed, asked, setFrom, totalCount, valuesPtr, maskPtr)
    const brokenPtr = this.#brokenUnits(unitCount, asked)
    const runsPtr = scratch.allocate(8 * unitCount)
    call.occupiedRuns(maskPtr, unitCount, this.#bucketCount, runsPtr)
    this.#timesPtr = scratch.allocate(8 * this.#bucketCount)
    call.stepTimes(this.#grid.startNs, this.#grid.stepNs, this.#bucketCount, this.#timesPtr)
    this.#chunk = { first: index, end, wanted, brokenPtr, runsPtr, valuesPtr }
  }

  /** The columns of a unit; null where it has none, or columns that digests tell nothing of. */
  #wantedOf(index: number): WantedColumns | null {
    const unit = this.units.at(index)
    if (unit === null) return null
    const { wanted } = unit
    return wanted.metrics.some(({ type }) => type === 'string') ? null : wanted
  }

  #servingOf(wanted: WantedColumns): Serving {
    if (this.#serving?.wanted === wanted) return this.#serving
    const ofBlocks = this.#blocks.map(({ reader }) => servingDigests(reader, wanted.metrics, this.#grid))
    const readsRows = this.input.setCount >= rowsSetCountMin && ofBlocks.includes(null)
    const takesRows = this.#blocks.map((block, i) => {
      return readsRows && ofBlocks[i] === null && hasPlainMetrics(block, wanted.metrics)
    })
    this.#serving = { wanted, ofBlocks, readsRows, takesRows }
    return this.#serving
  }

  /** How far units reach, from `index` on, whose sets all have the same metrics, and may be worked on together. */
  #unitsAlike(index: number, { wanted, readsRows }: Serving): { end: number; setFrom: number; setTo: number } {
    const { groupStarts, sets, signatureOf, plan } = this.input
    const startOf = (unit: number): number => (groupStarts === null ? unit : groupStarts[unit]!)
    const { signature } = this.#firstOf(index)
    const { metrics, columns } = wanted
    const affordable = readsRows
      ? Math.min(rowsStateByteLengthMax, this.scratch.byteLengthFree / 2) /
        (this.#bucketCount * (8 * columns.length + 56 * metrics.length))
      : Math.min(valuesByteLengthMax / (8 * this.#bucketCount * columns.length), bucketCountMax / this.#bucketCount)
    const unitCountMax = Math.max(1, Math.min(Math.floor(affordable), readsRows ? rowsUnitCountMax : Infinity))
    const takesPools = !plan.functions.includes('last')
    const setFrom = startOf(index)
    let end = index
    let setTo = setFrom
    while (end < this.units.count && end - index < unitCountMax) {
      const behind = startOf(end + 1)
      if ((!readsRows && behind - setFrom > setCountMax) || (behind - setTo > 1 && !takesPools)) break
      let isAlike = true
      for (let set = setTo; set < behind && isAlike; set++) isAlike = signatureOf(sets[set]!) === signature
      if (!isAlike) break
      end++
      setTo = behind
    }
    // The first one can be tried by itself at least.
    return end === index ? { end: index + 1, setFrom, setTo: setFrom } : { end, setFrom, setTo }
  }

  /** Which slot and unit each set has; null where the numbers of the sets are too far from each other. */
  #askedSets(index: number, end: number, setFrom: number, setTo: number, { readsRows }: Serving): AskedSets | null {
    const { groupStarts, sets, plan } = this.input
    const { scratch } = this
    const { u32, i64 } = this.reader.io.kernels
    const count = setTo - setFrom
    const setsPtr = scratch.allocate(4 * count)
    const unitsPtr = scratch.allocate(4 * count)
    let setMin = Infinity
    let setMax = 0
    for (let unit = index, place = setFrom; unit < end; unit++) {
      const behind = groupStarts === null ? unit + 1 : groupStarts[unit + 1]!
      for (; place < behind; place++) {
        const set = sets[place]!
        u32[(setsPtr >> 2) + place - setFrom] = set
        u32[(unitsPtr >> 2) + place - setFrom] = unit - index
        setMin = Math.min(setMin, set)
        setMax = Math.max(setMax, set)
      }
    }
    const setSpan = setMax - setMin + 1
    if (setSpan > (readsRows ? rowsSlotShareMax : slotShareMax) * count) return null
    const slotsPtr = scratch.allocate(4 * setSpan)
    const slots = slotsPtr >> 2
    u32.fill(noSlot, slots, slots + setSpan)
    for (let slot = 0; slot < count; slot++) u32[slots + u32[(setsPtr >> 2) + slot]! - setMin] = slot
    const brokenPtr = scratch.allocate(4 * count)
    u32.fill(0, brokenPtr >> 2, (brokenPtr >> 2) + count)
    const spansPtr = scratch.allocate(16 * count)
    for (let slot = 0; slot < count; slot++) {
      i64[(spansPtr >> 3) + 2 * slot] = behindAllTimes
      i64[(spansPtr >> 3) + 2 * slot + 1] = beforeAllTimes
    }
    return {
      slotCount: count,
      slotsPtr,
      setMin,
      setSpan,
      unitsPtr,
      spansPtr,
      brokenPtr,
      startNs: this.#grid.startNs,
      endNs: toNs(plan.endMs + 1),
      stepNs: this.#grid.stepNs,
      bucketCount: this.#bucketCount,
      isOrdered: plan.functions.includes('last'),
    }
  }

  /** Of all blocks in the order of their first times. */
  #claims({ ofBlocks, takesRows }: Serving, asked: AskedSets): Claimed[] {
    const { scratch, input } = this
    const { io } = this.reader
    const { call, u32 } = io.kernels
    const { slotsPtr, setMin, setSpan, brokenPtr } = asked
    const claimed: Claimed[] = []
    this.#blocks.forEach((block, i) => {
      if (input.isCancelled()) throw cancelled()
      const serving = ofBlocks[i]!
      const { reader, directory } = block
      if (takesRows[i]) {
        if (claimBlockRows(io, scratch, block, asked)) claimed.push({ block, serving: null })
        return
      }
      if (serving === null) {
        for (const set of directory.sets) {
          const slot = set < setMin || set >= setMin + setSpan ? noSlot : u32[(slotsPtr >> 2) + set - setMin]!
          if (slot !== noSlot) u32[(brokenPtr >> 2) + slot] = 1
        }
        return
      }
      io.cache.beginEpoch()
      const { firstsPtr, lastsPtr, setsPtr, startsPtr } = digestPlaces(reader, serving.grain, directory)
      const mark = scratch.mark()
      const claimsPtr = scratch.allocate(claimByteLength * serving.grain.digestCount)
      const claimCount = call.claimDigests(
        setsPtr,
        startsPtr,
        directory.sets.length,
        firstsPtr,
        lastsPtr,
        slotsPtr,
        setMin,
        setSpan,
        asked.startNs,
        asked.endNs,
        asked.stepNs,
        asked.bucketCount,
        asked.unitsPtr,
        asked.isOrdered ? 1 : 0,
        asked.spansPtr,
        brokenPtr,
        claimsPtr,
      )
      scratch.release(mark)
      if (claimCount === 0) return
      const keptPtr = scratch.allocate(claimByteLength * claimCount)
      assert(keptPtr <= claimsPtr, 'scratch is handed out from its front')
      claimed.push({ block, serving, claimsPtr: keptPtr, claimCount })
    })
    return claimed
  }

  /** Fills the buckets of all columns, and marks those that have a sample. */
  #fill(
    { metrics, columns }: WantedColumns,
    claimed: readonly Claimed[],
    asked: AskedSets,
    setFrom: number,
    totalCount: number,
    valuesPtr: number,
    maskPtr: number,
  ): void {
    const { scratch, input } = this
    const { io } = this.reader
    const { call } = io.kernels
    const columnByteLength = 8 * totalCount
    columns.forEach(({ metric }, i) => {
      if (metric < 0) call.fillFloat64(valuesPtr + i * columnByteLength, totalCount, Number.NaN)
    })
    const mark = scratch.mark()
    const finish = (metric: number, statePtr: number): void => {
      call.occupiedWindows(statePtr, totalCount, maskPtr)
      columns.forEach(({ metric: own, fn }, i) => {
        if (own !== metric) return
        assert(fn !== null && fn !== 'rate', 'only functions of single buckets are asked for')
        call.finishWindows(statePtr, totalCount, functionNumbers[fn], valuesPtr + i * columnByteLength)
      })
    }
    const stateByteLength = call.windowStateByteLength(totalCount)
    if (claimed.some(({ serving }) => serving === null)) {
      // A page is decoded for all metrics at once.
      const statePtrs = metrics.map(() => scratch.allocate(stateByteLength))
      for (const statePtr of statePtrs) call.initWindows(statePtr, totalCount)
      const states: FilledStates = { metrics, statePtrs, bucketCount: totalCount, fields: this.#grid.fields }
      for (const claims of claimed) {
        if (input.isCancelled()) throw cancelled()
        if (claims.serving === null) addBlockRows(io, scratch, claims.block, asked, states)
        else
          for (const [metric, statePtr] of statePtrs.entries())
            this.#addClaims(claims, metric, asked, statePtr, totalCount)
      }
      if (input.groupStarts !== null) this.#addBroken(asked, setFrom, states)
      for (const [metric, statePtr] of statePtrs.entries()) finish(metric, statePtr)
    } else {
      // One state, which stays in the cache.
      const statePtr = scratch.allocate(stateByteLength)
      for (let metric = 0; metric < metrics.length; metric++) {
        call.initWindows(statePtr, totalCount)
        for (const claims of claimed)
          if (claims.serving !== null) this.#addClaims(claims, metric, asked, statePtr, totalCount)
        finish(metric, statePtr)
      }
    }
    scratch.release(mark)
  }

  #addClaims(
    { block, serving, claimsPtr, claimCount }: Claims,
    metric: number,
    { brokenPtr }: AskedSets,
    statePtr: number,
    totalCount: number,
  ): void {
    const column = serving.columns[metric]!
    if (column < 0) return
    const { io } = this.reader
    io.cache.beginEpoch()
    const digests = digestColumn(block.reader, serving.grain, column, 0)
    io.kernels.call.combineClaims(
      claimsPtr,
      claimCount,
      brokenPtr,
      digests.countsPtr,
      digests.sumsPtr,
      digests.minsPtr,
      digests.maxsPtr,
      digests.lastsPtr,
      digests.m2sPtr,
      statePtr,
      totalCount,
      this.#digestFields,
    )
  }

  /** Adds the rows of broken sets to their groups, set by set, and mends them. */
  #addBroken(asked: AskedSets, setFrom: number, states: FilledStates): void {
    const { reader, scratch, input } = this
    const { u32 } = reader.io.kernels
    const broken = asked.brokenPtr >> 2
    for (let slot = 0; slot < asked.slotCount; slot++) {
      if (u32[broken + slot] === 0) continue
      if (input.isCancelled()) throw cancelled()
      u32[broken + slot] = 0
      const set = input.sets[setFrom + slot]!
      if (!reader.open(set, states.metrics, asked.startNs, asked.endNs)) continue
      for (let batch = reader.next(); batch !== null; batch = reader.next())
        addRowsOfSet(reader.io, scratch, slot, batch, asked, states)
    }
  }

  /** u32 a unit: 1 where one of its sets is broken. */
  #brokenUnits(unitCount: number, { slotCount, unitsPtr, brokenPtr }: AskedSets): number {
    const { u32 } = this.reader.io.kernels
    const ptr = this.scratch.allocate(4 * unitCount)
    u32.fill(0, ptr >> 2, (ptr >> 2) + unitCount)
    for (let slot = 0; slot < slotCount; slot++)
      if (u32[(brokenPtr >> 2) + slot] !== 0) u32[(ptr >> 2) + u32[(unitsPtr >> 2) + slot]!] = 1
    return ptr
  }
}
