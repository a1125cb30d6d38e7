// How much is asked for at once where many label sets are answered together: what both halves of a read know of it.
import { MiB } from '../../limits.js'
import type { Extent, LiveBlock } from '../../blocks/live-block.js'
import { isLikelyDigested } from './digests.js'
import { timesOfExtent } from './directory.js'
import type { OverTimeFunction, ReadPlan } from './plan.js'

/** Of a job that reads samples. */
export const scanScratchByteLength = 16 * MiB
/** What a job makes that answers many sets together, before it ends: each of them walks over all blocks. */
export const manySetsJobByteLength = 8 * MiB
/** Rows of fewer sets are read set by set: that decodes hardly more pages. */
export const rowsSetCountMin = 64
/** A read of more buckets goes set by set; groups may have more, since there are fewer of them. */
export const bucketCountMax = 4096
export const groupBucketCountMax = 64 * 1024
/** Units whose rows are read together: as many as one job sends, since each time whole pages are decoded; and their state. */
export const rowsUnitCountMax = manySetsJobByteLength / 128
export const rowsStateByteLengthMax = 16 * MiB
/** Of the arenas, for one job beside what all reads need: where memory is small, sets are read one by one instead. */
const shareOfArenasMax = 1 / 8
/** For each set that is asked for: its number, unit, span and whether it is broken. */
const setByteLength = 28

/** Values of an answer that one worker makes of digests before a second one is woken. */
const digestedCellCountMax = 10_000

/**
 * Rows of blocks that a read looks at, about: those of blocks that digests answer for do not count where the whole answer is
 * one bucket of not too many values.
 */
export function rowCountToRead(plan: ReadPlan, blocks: readonly LiveBlock[], unitCount: number): number {
  const { mode, startMs, endMs, stepMs, items, windowMs, order } = plan
  const isOfDigests =
    mode === 'over-time' &&
    windowMs === 0 &&
    order === null &&
    unitCount * items.length <= digestedCellCountMax &&
    items.every(({ metric, fn }) => metric !== null && fn !== null && isOfOwnDigests(fn)) &&
    occupiedBuckets(plan, blocks).count === 1
  let rowCount = 0
  for (const block of blocks) {
    const { timeMinMs, timeMaxMs } = timesOfExtent(block.extent)
    // Digests at an edge of the range are opened.
    const isInside = isOfDigests && timeMinMs >= startMs && timeMaxMs <= endMs
    if (!isInside || !isLikelyDigested(block, stepMs)) rowCount += block.rowCount
  }
  return rowCount
}

/** Whether digests that nobody asked for tell it. */
function isOfOwnDigests(fn: OverTimeFunction): boolean {
  return fn === 'count' || fn === 'sum' || fn === 'min' || fn === 'max' || fn === 'avg' || fn === 'last'
}

/** Buckets of a plan's range, `count` of them from number `first` on. */
export interface BucketRange {
  readonly first: number
  readonly count: number
}

/** The buckets that may have rows, by what is known of the blocks. A range of a read is often far longer than what is stored. */
export function occupiedBuckets(
  { startMs, endMs, stepMs }: ReadPlan,
  blocks: Iterable<{ readonly extent: Extent | null }>,
): BucketRange {
  let minMs = Infinity
  let maxMs = -Infinity
  for (const { extent } of blocks) {
    const { timeMinMs, timeMaxMs } = timesOfExtent(extent)
    if (timeMinMs > endMs || timeMaxMs < startMs) continue
    minMs = Math.min(minMs, timeMinMs)
    maxMs = Math.max(maxMs, timeMaxMs)
  }
  const bucketOf = (ms: number): number => Math.floor((Math.max(startMs, Math.min(endMs, ms)) - startMs) / stepMs)
  return minMs > maxMs
    ? { first: 0, count: 1 }
    : { first: bucketOf(minMs), count: bucketOf(maxMs) - bucketOf(minMs) + 1 }
}

/** Scratch for that and its messages, beside what all reads need; 0: none of its own. tableSetCount: of the whole table. */
export function manySetsByteLength(
  plan: ReadPlan,
  bucketCount: number,
  { setCount, unitCount, tableSetCount }: { setCount: number; unitCount: number; tableSetCount: number },
  arenasByteLength: number,
): number {
  if (plan.mode !== 'over-time' || setCount < 16 * rowsSetCountMin || bucketCount > groupBucketCountMax) return 0
  const states = 64 * bucketCount * Math.min(unitCount, rowsUnitCountMax) * plan.items.length
  const ofStates = Math.min(2 * rowsStateByteLengthMax, 2 * states)
  const byteLength = manySetsJobByteLength + 4 * MiB + setByteLength * setCount + 4 * tableSetCount + ofStates
  return byteLength <= shareOfArenasMax * arenasByteLength ? byteLength : 0
}
