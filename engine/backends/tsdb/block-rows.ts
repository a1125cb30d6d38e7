// Rows of many label sets at once, out of blocks without digests: block by block and page by page, each page decoded once for
// all sets. A set by itself opens each block that it stands in, and decodes pages that hold rows of thousands of others.
import { assert } from '../../assert.js'
import type { ColumnEntry } from '../../blocks/block.js'
import type { BlockIo } from '../../blocks/reader.js'
import type { Scratch } from '../../memory/scratch.js'
import { pageRowCountMax } from '../../limits.js'
import { timeColumnName } from './run-writer.js'
import type { BatchColumn, ReadBlock, WantedMetric } from './series-reader.js'

/** Sets with slots, and what is wanted of them; see kernels/digests.ts. Rows in [startNs, endNs). */
export interface AskedSets {
  readonly slotCount: number
  /** setSpan × u32: the slots of sets from setMin on. */
  readonly slotsPtr: number
  readonly setMin: number
  readonly setSpan: number
  /** u32 a slot: its unit; 2 × i64: the times of what was taken of it; u32: whether it is broken. */
  readonly unitsPtr: number
  readonly spansPtr: number
  readonly brokenPtr: number
  readonly startNs: bigint
  readonly endNs: bigint
  readonly stepNs: bigint
  readonly bucketCount: number
  /** Whether blocks must come in the order of the rows of each set. */
  readonly isOrdered: boolean
}

/** Where the buckets of all units are filled: a window state of each metric. */
export interface FilledStates {
  readonly metrics: readonly WantedMetric[]
  readonly statePtrs: readonly number[]
  /** Buckets of all units. */
  readonly bucketCount: number
  /** What they keep, as digestFields. */
  readonly fields: number
}

/** The sets and pages of a block, as kernels take them. */
interface Places {
  readonly setsPtr: number
  readonly startsPtr: number
  readonly setCount: number
}

const bucketsByteLength = 4 * pageRowCountMax

/**
 * Whether rows of a block can be added up column by column: no metric has cells of several types there, nor text. Which of
 * two cells was the last one would not be known.
 */
export function hasPlainMetrics({ reader }: ReadBlock, metrics: readonly WantedMetric[]): boolean {
  return metrics.every(({ name, storedTypes }) => {
    const entries = storedTypes.filter((type) => reader.column(name, type) !== undefined)
    return entries.length === 0 || (entries.length === 1 && entries[0] !== 'string')
  })
}

/** Claims the rows of a block for the sets that are asked for, or breaks slots. Returns whether it has any such set. */
export function claimBlockRows(io: BlockIo, scratch: Scratch, block: ReadBlock, asked: AskedSets): boolean {
  const { call } = io.kernels
  return forEachPage(io, scratch, block, asked, (timesPtr, pageStart, rowCount, { setsPtr, startsPtr, setCount }) => {
    call.claimRows(
      timesPtr,
      pageStart,
      rowCount,
      setsPtr,
      startsPtr,
      setCount,
      asked.slotsPtr,
      asked.setMin,
      asked.setSpan,
      asked.startNs,
      asked.endNs,
      asked.isOrdered ? 1 : 0,
      asked.spansPtr,
      asked.brokenPtr,
    )
  })
}

/** Adds the rows of a block to their buckets, but for those of broken slots. Throws DATA_DAMAGED. */
export function addBlockRows(
  io: BlockIo,
  scratch: Scratch,
  block: ReadBlock,
  asked: AskedSets,
  states: FilledStates,
): void {
  const { reader } = block
  const entries = states.metrics.map(({ name, storedTypes }): ColumnEntry | null => {
    for (const type of storedTypes) {
      const entry = reader.column(name, type)
      if (entry !== undefined) return entry
    }
    return null
  })
  const start = scratch.mark()
  const bucketsPtr = scratch.allocate(bucketsByteLength)
  forEachPage(io, scratch, block, asked, (timesPtr, pageStart, rowCount, places, page) => {
    if (bucketsOf(io, asked, timesPtr, pageStart, rowCount, places, bucketsPtr) === 0) return
    entries.forEach((entry, metric) => {
      if (entry === null) return
      // Its times are not needed any more.
      io.cache.beginEpoch()
      const cells = reader.page(entry, page)
      if (cells !== null) addCells(io, entry.dtype, cells, bucketsPtr, rowCount, states, metric)
    })
  })
  scratch.release(start)
}

/** Adds rows of one set, in the order of time, to the buckets of its unit; see SeriesReader.next. */
export function addRowsOfSet(
  io: BlockIo,
  scratch: Scratch,
  slot: number,
  { timesPtr, rowCount, columns }: { timesPtr: number; rowCount: number; columns: readonly (BatchColumn | null)[] },
  asked: AskedSets,
  states: FilledStates,
): void {
  const { u32 } = io.kernels
  const mark = scratch.mark()
  const bucketsPtr = scratch.allocate(4 * rowCount)
  // A directory of one set, whose number is that of the slot.
  const placesPtr = scratch.allocate(32)
  u32.set([0, 0, rowCount, slot, 0], placesPtr >> 2)
  const places = { setsPtr: placesPtr, startsPtr: placesPtr + 4, setCount: 1 }
  const single: AskedSets = { ...asked, slotsPtr: placesPtr + 12, setMin: 0, setSpan: 1 }
  bucketsOf(io, single, timesPtr, 0, rowCount, places, bucketsPtr)
  states.metrics.forEach(({ type }, metric) => {
    const cells = columns[metric]
    if (cells != null) addCells(io, type, cells, bucketsPtr, rowCount, states, metric)
  })
  scratch.release(mark)
}

/** Visits the pages that hold rows of asked sets, with their times. Returns whether there are such sets. */
function forEachPage(
  io: BlockIo,
  scratch: Scratch,
  { reader, directory }: ReadBlock,
  { slotsPtr, setMin, setSpan, brokenPtr }: AskedSets,
  visit: (timesPtr: number, pageStart: number, rowCount: number, places: Places, page: number) => void,
): boolean {
  const { call, u8, u32 } = io.kernels
  const { sets, starts } = directory
  const { pageStarts, pageCount } = reader.layout
  const start = scratch.mark()
  const setsPtr = scratch.allocate(4 * sets.length)
  const startsPtr = scratch.allocate(4 * starts.length)
  const pageStartsPtr = scratch.allocate(4 * pageStarts.length)
  const askedPtr = scratch.allocate(pageCount)
  u32.set(sets, setsPtr >> 2)
  u32.set(starts, startsPtr >> 2)
  u32.set(pageStarts, pageStartsPtr >> 2)
  const askedCount = call.askedPages(
    setsPtr,
    startsPtr,
    sets.length,
    slotsPtr,
    setMin,
    setSpan,
    brokenPtr,
    pageStartsPtr,
    pageCount,
    askedPtr,
  )
  const timeColumn = reader.column(timeColumnName, 'time')
  assert(timeColumn !== undefined, 'a block that is read has times')
  const places = { setsPtr, startsPtr, setCount: sets.length }
  for (let page = 0; page < pageCount && askedCount > 0; page++) {
    if (u8[askedPtr + page] === 0) continue
    io.cache.beginEpoch()
    const times = reader.page(timeColumn, page)
    if (times === null) throw io.damaged(reader.source.id, 'a page has no times')
    const pageStart = pageStarts[page]!
    visit(times.valuesPtr, pageStart, pageStarts[page + 1]! - pageStart, places, page)
  }
  scratch.release(start)
  return askedCount > 0
}

function bucketsOf(
  { kernels }: BlockIo,
  asked: AskedSets,
  timesPtr: number,
  pageStart: number,
  rowCount: number,
  { setsPtr, startsPtr, setCount }: Places,
  bucketsPtr: number,
): number {
  return kernels.call.bucketsOfRows(
    timesPtr,
    pageStart,
    rowCount,
    setsPtr,
    startsPtr,
    setCount,
    asked.slotsPtr,
    asked.setMin,
    asked.setSpan,
    asked.startNs,
    asked.endNs,
    asked.stepNs,
    asked.bucketCount,
    asked.unitsPtr,
    asked.brokenPtr,
    bucketsPtr,
  )
}

function addCells(
  { kernels }: BlockIo,
  type: ColumnEntry['dtype'],
  { valuesPtr, validityPtr }: BatchColumn,
  bucketsPtr: number,
  rowCount: number,
  { statePtrs, bucketCount, fields }: FilledStates,
  metric: number,
): void {
  const { call } = kernels
  const args = [valuesPtr, validityPtr, bucketsPtr, rowCount, statePtrs[metric]!, bucketCount, fields] as const
  if (type === 'int64') call.accumulateBucketsInt64(...args)
  else if (type === 'bool') call.accumulateBucketsBits(...args)
  else call.accumulateBucketsFloat64(...args)
}
