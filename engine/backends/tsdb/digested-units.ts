// Label sets or groups whose buckets digests fill by themselves, many at once: block by block instead of set by set. A set by
// itself takes some microseconds to open, find and send, whatever is read of it.
import { assert } from '../../assert.js'
import type { Scratch } from '../../memory/scratch.js'
import { toNs } from './bounds.js'
import { digestColumn, digestPlaces } from './digests.js'
import { functionNumbers, neededStates } from './plan.js'
import type { AlikeUnits } from './message-sink.js'
import type { WantedColumns } from './pools.js'
import type { ScanInput, ScanPosition, ScanSet } from './scan-input.js'
import {
  bitmapByteLength,
  type BucketGrid,
  type ReadBlock,
  type SeriesReader,
  servingDigests,
  type ServingDigests,
} from './series-reader.js'
import type { RowSink, Units } from './units.js'

/** Fewer sets are opened one by one: that costs as much. */
const setCountMin = 3
const setCountMax = 16_384
/** Buckets of all units worked on at once: their state stays in the cache. */
const bucketCountMax = 4096
const valuesByteLengthMax = 512 * 1024
/** The table that finds slots by the numbers of sets has so many places for each set that is asked for. */
const slotShareMax = 64
const claimByteLength = 12
/** What the kernel occupiedRuns says of a unit that has empty buckets between others. */
const hasGaps = 0xffffffff
const noSlot = 0xffffffff
const beforeAllTimes = -(2n ** 63n)

/** Where rows of units go. */
export interface UnitSink extends RowSink {
  readonly isLarge: boolean
  begin(index: number, set: ScanSet, wanted: WantedColumns): void
  repeat(units: AlikeUnits): number
  end(): void
}

/** Whether a read can be answered so at all. */
export function takesDigestedUnits({ plan, rowCondition, rowCountMax, metricsAt, setCount }: ScanInput): boolean {
  const { mode, windowMs, order, items, startMs, endMs, stepMs } = plan
  if (mode !== 'over-time' || windowMs > 0 || order !== null || rowCondition !== null) return false
  if (setCount < setCountMin || rowCountMax < 2 ** 52 || metricsAt(0) !== null) return false
  if ((endMs - startMs) / stepMs + 1 > bucketCountMax) return false
  return items.every(({ fn }) => fn !== null && fn !== 'rate')
}

/** Digests of a block that fill buckets, as the kernel claimDigests writes them. */
interface Claims {
  readonly block: ReadBlock
  readonly serving: ServingDigests
  readonly claimsPtr: number
  readonly claimCount: number
}

/** Units [first, end) that are worked on together. */
interface Chunk {
  readonly first: number
  readonly end: number
  readonly wanted: WantedColumns
  /** u32 a unit: 1 where digests do not suffice. */
  readonly brokenPtr: number
  /** Two u32 a unit, see the kernel occupiedRuns. */
  readonly runsPtr: number
  /** f64: the buckets of all units, column after column. */
  readonly valuesPtr: number
}

export class DigestedUnits {
  readonly #blocks: readonly ReadBlock[]
  readonly #grid: BucketGrid
  readonly #bucketCount: number
  readonly #mark: number
  #chunk: Chunk | null = null
  /** Units before this one need not be tried. */
  #tryFrom = 0
  #timesPtr = 0
  #serving: { readonly wanted: WantedColumns; readonly ofBlocks: readonly (ServingDigests | null)[] } | null = null

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
    this.#grid = { startNs: toNs(startMs), stepNs: toNs(stepMs), fields: neededStates(plan) }
    this.#bucketCount = Math.floor((endMs - startMs) / stepMs) + 1
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
      firstBucket,
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
    const targets = sink.reserve?.(rowCount, bucket) ?? null
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
    if (groupStarts === null) return sets.subarray(start, end)
    return groupStarts.subarray(start, end).map((place) => sets[place]!)
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
    const { end, setFrom, setTo } = this.#unitsAlike(index, wanted)
    const slots = setTo - setFrom < setCountMin ? null : this.#slotsOf(index, end, setFrom, setTo)
    if (slots === null) {
      this.#tryFrom = end
      return
    }
    const { call, u32, i64 } = this.reader.io.kernels
    const unitCount = end - index
    const totalCount = unitCount * this.#bucketCount
    const brokenPtr = scratch.allocate(4 * unitCount)
    u32.fill(0, brokenPtr >> 2, (brokenPtr >> 2) + unitCount)
    const endsPtr = scratch.allocate(8 * (setTo - setFrom))
    i64.fill(beforeAllTimes, endsPtr >> 3, (endsPtr >> 3) + setTo - setFrom)
    const claims = this.#claims(wanted, slots, endsPtr, brokenPtr)
    const valuesPtr = scratch.allocate(8 * wanted.columns.length * totalCount)
    const maskPtr = scratch.allocate(bitmapByteLength(totalCount))
    call.fillBits(maskPtr, totalCount, 0)
    this.#fill(wanted, claims, totalCount, valuesPtr, maskPtr)
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

  /** How far units reach, from `index` on, whose sets all have the same metrics, and may be worked on together. */
  #unitsAlike(index: number, wanted: WantedColumns): { end: number; setFrom: number; setTo: number } {
    const { groupStarts, sets, signatureOf, plan } = this.input
    const startOf = (unit: number): number => (groupStarts === null ? unit : groupStarts[unit]!)
    const { signature } = this.#firstOf(index)
    const affordable = Math.floor(valuesByteLengthMax / (8 * this.#bucketCount * wanted.columns.length))
    const unitCountMax = Math.max(1, Math.min(affordable, Math.floor(bucketCountMax / this.#bucketCount)))
    const takesPools = !plan.functions.includes('last')
    const setFrom = startOf(index)
    let end = index
    let setTo = setFrom
    while (end < this.units.count && end - index < unitCountMax) {
      const behind = startOf(end + 1)
      if (behind - setFrom > setCountMax || (behind - setTo > 1 && !takesPools)) break
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
  #slotsOf(index: number, end: number, setFrom: number, setTo: number): Slots | null {
    const { groupStarts, sets } = this.input
    const { scratch } = this
    const { u32 } = this.reader.io.kernels
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
    if (setSpan > slotShareMax * count) return null
    const slotsPtr = scratch.allocate(4 * setSpan)
    const slots = slotsPtr >> 2
    u32.fill(noSlot, slots, slots + setSpan)
    for (let slot = 0; slot < count; slot++) u32[slots + u32[(setsPtr >> 2) + slot]! - setMin] = slot
    return { slotsPtr, unitsPtr, setMin, setSpan }
  }

  #claims(wanted: WantedColumns, slots: Slots, endsPtr: number, brokenPtr: number): Claims[] {
    const { io } = this.reader
    const { call, u32 } = io.kernels
    const { startNs, stepNs } = this.#grid
    const { slotsPtr, unitsPtr, setMin, setSpan } = slots
    const endNs = toNs(this.input.plan.endMs + 1)
    if (this.#serving?.wanted !== wanted) {
      const ofBlocks = this.#blocks.map(({ reader }) => servingDigests(reader, wanted.metrics, this.#grid))
      this.#serving = { wanted, ofBlocks }
    }
    const { ofBlocks } = this.#serving
    return this.#blocks.flatMap((block, i): Claims[] => {
      const serving = ofBlocks[i]!
      const { reader, directory } = block
      if (serving === null) {
        for (const set of directory.sets) {
          const slot = set < setMin || set >= setMin + setSpan ? noSlot : u32[(slotsPtr >> 2) + set - setMin]!
          if (slot !== noSlot) u32[(brokenPtr >> 2) + u32[(unitsPtr >> 2) + slot]!] = 1
        }
        return []
      }
      io.cache.beginEpoch()
      const { firstsPtr, lastsPtr, setsPtr, startsPtr } = digestPlaces(reader, serving.grain, directory)
      const mark = this.scratch.mark()
      const claimsPtr = this.scratch.allocate(claimByteLength * serving.grain.digestCount)
      const claimCount = call.claimDigests(
        setsPtr,
        startsPtr,
        directory.sets.length,
        firstsPtr,
        lastsPtr,
        slotsPtr,
        setMin,
        setSpan,
        startNs,
        endNs,
        startNs,
        stepNs,
        this.#bucketCount,
        unitsPtr,
        endsPtr,
        brokenPtr,
        claimsPtr,
      )
      this.scratch.release(mark)
      if (claimCount === 0) return []
      const keptPtr = this.scratch.allocate(claimByteLength * claimCount)
      assert(keptPtr <= claimsPtr, 'scratch is handed out from its front')
      return [{ block, serving, claimsPtr: keptPtr, claimCount }]
    })
  }

  /** Fills the buckets of all columns, metric by metric, and marks those that have a sample. */
  #fill(
    { metrics, columns }: WantedColumns,
    claims: readonly Claims[],
    totalCount: number,
    valuesPtr: number,
    maskPtr: number,
  ): void {
    const { scratch } = this
    const { io } = this.reader
    const { call } = io.kernels
    const columnByteLength = 8 * totalCount
    columns.forEach(({ metric }, i) => {
      if (metric < 0) call.fillFloat64(valuesPtr + i * columnByteLength, totalCount, Number.NaN)
    })
    const mark = scratch.mark()
    const statePtr = scratch.allocate(call.windowStateByteLength(totalCount))
    for (let metric = 0; metric < metrics.length; metric++) {
      call.initWindows(statePtr, totalCount)
      for (const { block, serving, claimsPtr, claimCount } of claims) {
        const column = serving.columns[metric]!
        if (column < 0) continue
        io.cache.beginEpoch()
        const digests = digestColumn(block.reader, serving.grain, column, 0)
        call.combineClaims(
          claimsPtr,
          claimCount,
          digests.countsPtr,
          digests.sumsPtr,
          digests.minsPtr,
          digests.maxsPtr,
          digests.lastsPtr,
          digests.m2sPtr,
          statePtr,
          totalCount,
          this.#grid.fields,
        )
      }
      call.occupiedWindows(statePtr, totalCount, maskPtr)
      columns.forEach(({ metric: own, fn }, i) => {
        if (own !== metric) return
        assert(fn !== null && fn !== 'rate', 'only functions of single buckets are asked for')
        call.finishWindows(statePtr, totalCount, functionNumbers[fn], valuesPtr + i * columnByteLength)
      })
    }
    scratch.release(mark)
  }
}

/** The slots of some sets, as the kernel claimDigests takes them. */
interface Slots {
  readonly slotsPtr: number
  readonly unitsPtr: number
  readonly setMin: number
  readonly setSpan: number
}
