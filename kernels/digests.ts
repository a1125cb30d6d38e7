// Digests and rows of many label sets at once, block by block: which of them fill buckets by themselves, and the buckets that
// they fill.
//
// The sets that are asked for have slots 0, 1, …; each slot belongs to a unit (a label set or a group), and each unit has
// bucketCount buckets, unit after unit, in one window state (see window.ts). A slot is broken where its set must be read by
// itself: a digest of it reaches beyond a bucket, or blocks have rows of it between those of others, which may be the same rows.
import { lowerBoundInt64 } from './compare'
import { addDigest, LAST_ARRAY, WHICH_COUNT, WHICH_LAST } from './window-state'

/** No slot: the set is not asked for. Also no bucket. */
const NO_SLOT: u32 = 0xffffffff
/** Bytes of a claim: u32 bucket of the state, u32 first digest, u32 behind the last one, u32 slot. */
const CLAIM_BYTES: usize = 16
const GAPS: u32 = 0xffffffff

/** The slot of a set, or NO_SLOT. */
function slotOf(set: u32, slotsPtr: usize, setMin: u32, setSpan: u32): u32 {
  const at = set - setMin
  return at < setSpan ? load<u32>(slotsPtr + ((<usize>at) << 2)) : NO_SLOT
}

function breakSlot(slot: u32, brokenPtr: usize): void {
  store<u32>(brokenPtr + ((<usize>slot) << 2), 1)
}

/**
 * Takes rows of a slot between two times, both inclusive, beside what was taken of it. False, and the slot is broken, where
 * that reaches into them, or when they come before it though they must come in order.
 *
 * spans  2 × i64 a slot: the times of the first and the last row so far; at first the latest and the earliest time there is
 */
function takeSpan(slot: u32, firstNs: i64, lastNs: i64, isOrdered: i32, spansPtr: usize, brokenPtr: usize): bool {
  const spanPtr = spansPtr + ((<usize>slot) << 4)
  const isFirst = load<i64>(spanPtr) > load<i64>(spanPtr, 8)
  if (isFirst || firstNs > load<i64>(spanPtr, 8)) {
    if (isFirst) store<i64>(spanPtr, firstNs)
    store<i64>(spanPtr, lastNs, 8)
    return true
  }
  if (isOrdered === 0 && lastNs < load<i64>(spanPtr)) {
    store<i64>(spanPtr, firstNs)
    return true
  }
  breakSlot(slot, brokenPtr)
  return false
}

/**
 * Claims the digests of a block that fill buckets: of each asked set that the block has, those in [startNs, endNs). Its slot
 * is broken when one of them reaches beyond a bucket or the range, or by takeSpan. Rows [startNs + i × stepNs, … + stepNs) are
 * bucket i.
 *
 * sets, starts    u32 ascending, setCount of them; (setCount + 1) × u32: where the digests of each begin
 * firsts, lasts   i64 ns: times of the first and the last row of each digest
 * slots           setSpan × u32: the slot of each set from setMin on, or NO_SLOT
 * units           u32 a slot
 * isOrdered       1: blocks must come in the order of the rows of each set
 * spans           see takeSpan
 * broken          u32 a slot: set to 1, or left alone
 * target          CLAIM_BYTES a claim; at most as many as there are digests
 *
 * Returns the number of claims.
 */
export function claimDigests(
  setsPtr: usize,
  startsPtr: usize,
  setCount: i32,
  firstsPtr: usize,
  lastsPtr: usize,
  slotsPtr: usize,
  setMin: u32,
  setSpan: u32,
  startNs: i64,
  endNs: i64,
  stepNs: i64,
  bucketCount: i32,
  unitsPtr: usize,
  isOrdered: i32,
  spansPtr: usize,
  brokenPtr: usize,
  targetPtr: usize,
): i32 {
  if (stepNs <= 0) unreachable()
  let target = targetPtr
  for (let i = 0; i < setCount; i++) {
    const slot = slotOf(load<u32>(setsPtr + ((<usize>i) << 2)), slotsPtr, setMin, setSpan)
    if (slot === NO_SLOT) continue
    const begin = load<i32>(startsPtr + ((<usize>i) << 2))
    const end = load<i32>(startsPtr + ((<usize>i) << 2), 4)
    if (begin >= end) continue
    // Most often all of them are in the range: then their ends are all that is looked at.
    const isFromFirst = load<i64>(lastsPtr + ((<usize>begin) << 3)) >= startNs
    const isToLast = load<i64>(firstsPtr + ((<usize>(end - 1)) << 3)) < endNs
    const from = isFromFirst ? begin : lowerBoundInt64(lastsPtr, begin, end, startNs)
    const to = isToLast ? end : lowerBoundInt64(firstsPtr, from, end, endNs)
    if (from >= to) continue
    const unitBucket = load<u32>(unitsPtr + ((<usize>slot) << 2)) * <u32>bucketCount
    const firstNs = load<i64>(firstsPtr + ((<usize>from) << 3))
    const lastNs = load<i64>(lastsPtr + ((<usize>(to - 1)) << 3))
    if (firstNs < startNs || lastNs >= endNs) {
      breakSlot(slot, brokenPtr)
      continue
    }
    if (!takeSpan(slot, firstNs, lastNs, isOrdered, spansPtr, brokenPtr)) continue
    const firstBucket = <u64>(firstNs - startNs) / <u64>stepNs
    if (firstBucket < <u64>bucketCount && lastNs < endOf(startNs + <i64>firstBucket * stepNs, stepNs)) {
      target = writeClaim(target, unitBucket + <u32>firstBucket, from, to, slot)
      continue
    }
    // The first digest of the claim under way, and where its bucket ends.
    let first = from
    let bucket: u64 = 0
    let bucketEndNs: i64 = i64.MIN_VALUE
    for (let digest = from; digest < to; digest++) {
      const ns = load<i64>(firstsPtr + ((<usize>digest) << 3))
      if (ns >= bucketEndNs) {
        if (digest > first) target = writeClaim(target, unitBucket + <u32>bucket, first, digest, slot)
        first = digest
        bucket = <u64>(ns - startNs) / <u64>stepNs
        bucketEndNs = endOf(startNs + <i64>bucket * stepNs, stepNs)
        if (bucket >= <u64>bucketCount) {
          breakSlot(slot, brokenPtr)
          first = to
          break
        }
      }
      if (load<i64>(lastsPtr + ((<usize>digest) << 3)) >= bucketEndNs) {
        breakSlot(slot, brokenPtr)
        first = to
        break
      }
    }
    if (first < to) target = writeClaim(target, unitBucket + <u32>bucket, first, to, slot)
  }
  return <i32>((target - targetPtr) / CLAIM_BYTES)
}

/** The end of a bucket; the latest time there is where it would be later. */
function endOf(bucketNs: i64, stepNs: i64): i64 {
  return bucketNs > i64.MAX_VALUE - stepNs ? i64.MAX_VALUE : bucketNs + stepNs
}

function writeClaim(target: usize, bucket: u32, from: i32, to: i32, slot: u32): usize {
  store<u32>(target, bucket)
  store<i32>(target, from, 4)
  store<i32>(target, to, 8)
  store<u32>(target, slot, 12)
  return target + CLAIM_BYTES
}

/**
 * Adds claimed digests to their buckets, as combineDigests does, but for those of broken slots.
 *
 * claims  claimCount of those that claimDigests has written
 * broken  u32 a slot
 * counts, sums, mins, maxs, lasts, m2s  f64 a digest of the block; m2s need sums. What is not among `which` may be anything
 * which   what is kept; of last values alone the count is more than 0 where there is a value, and exact only if it is asked for
 * state   of stateBucketCount buckets
 */
export function combineClaims(
  claimsPtr: usize,
  claimCount: i32,
  brokenPtr: usize,
  countsPtr: usize,
  sumsPtr: usize,
  minsPtr: usize,
  maxsPtr: usize,
  lastsPtr: usize,
  m2sPtr: usize,
  statePtr: usize,
  stateBucketCount: i32,
  which: i32,
): void {
  const stride = (<usize>stateBucketCount) << 3
  const isLastOnly = (which & ~WHICH_COUNT) === WHICH_LAST
  const needsCount = (which & WHICH_COUNT) !== 0
  for (let claim = 0; claim < claimCount; claim++) {
    const claimPtr = claimsPtr + <usize>claim * CLAIM_BYTES
    if (load<u32>(brokenPtr + ((<usize>load<u32>(claimPtr, 12)) << 2)) !== 0) continue
    const bucket = load<u32>(claimPtr)
    if (bucket >= <u32>stateBucketCount) unreachable()
    const ptr = statePtr + ((<usize>bucket) << 3)
    const end = (<usize>load<u32>(claimPtr, 8)) << 3
    let at = (<usize>load<u32>(claimPtr, 4)) << 3
    if (isLastOnly) {
      // Values before the last one need not be looked at, nor counts before that, unless they are asked for.
      let total: f64 = 0
      let lastAt: usize = 0
      for (let before = end; before > at; ) {
        before -= 8
        const count = load<f64>(countsPtr + before)
        if (!(count > 0)) continue
        if (total === 0) lastAt = before
        total += count
        if (!needsCount) break
      }
      if (total > 0) {
        store<f64>(ptr + stride * LAST_ARRAY, load<f64>(lastsPtr + lastAt))
        store<f64>(ptr, load<f64>(ptr) + total)
      }
      continue
    }
    for (; at < end; at += 8) {
      const count = load<f64>(countsPtr + at)
      if (!(count > 0)) continue
      addDigest(ptr, stride, count, sumsPtr, minsPtr, maxsPtr, lastsPtr, m2sPtr, at, which)
    }
  }
}

/**
 * Marks the pages of a block that hold rows of asked sets.
 *
 * sets, starts  setCount of them, ascending; (setCount + 1) × u32: where the rows of each begin in the block
 * slots         as for claimDigests
 * broken        u32 a slot: sets whose slots are broken count as not asked for; 0: none is
 * pageStarts    (pageCount + 1) × u32: where the rows of each page begin
 * target        pageCount × u8, overwritten: 1 where rows are asked for
 *
 * Returns how many sets of the block are asked for.
 */
export function askedPages(
  setsPtr: usize,
  startsPtr: usize,
  setCount: i32,
  slotsPtr: usize,
  setMin: u32,
  setSpan: u32,
  brokenPtr: usize,
  pageStartsPtr: usize,
  pageCount: i32,
  targetPtr: usize,
): i32 {
  memory.fill(targetPtr, 0, pageCount)
  let askedCount = 0
  let page = 0
  for (let i = 0; i < setCount; i++) {
    const slot = slotOf(load<u32>(setsPtr + ((<usize>i) << 2)), slotsPtr, setMin, setSpan)
    if (slot === NO_SLOT || (brokenPtr !== 0 && load<u32>(brokenPtr + ((<usize>slot) << 2)) !== 0)) continue
    askedCount++
    const begin = load<u32>(startsPtr + ((<usize>i) << 2))
    const end = load<u32>(startsPtr + ((<usize>i) << 2), 4)
    while (page < pageCount && load<u32>(pageStartsPtr + ((<usize>page) << 2), 4) <= begin) page++
    for (; page < pageCount && load<u32>(pageStartsPtr + ((<usize>page) << 2)) < end; page++)
      store<u8>(targetPtr + page, 1)
    // The last of them may hold rows of the next set.
    if (page > 0) page--
  }
  return askedCount
}

/** The first set of a directory that has `row` or later ones. */
function setAtRow(startsPtr: usize, setCount: i32, row: u32): i32 {
  let low = 0
  let high = setCount
  while (low < high) {
    const middle = (low + high) >>> 1
    if (load<u32>(startsPtr + ((<usize>middle) << 2), 4) <= row) low = middle + 1
    else high = middle
  }
  return low
}

/**
 * Claims the rows of one page in [startNs, endNs), or breaks the slots of their sets (takeSpan). The pages of a block come one
 * after the other.
 *
 * times         pageRowCount × i64: of rows [pageStart, pageStart + pageRowCount) of the block
 * sets, starts  the directory, as for askedPages; all else as for claimDigests
 */
export function claimRows(
  timesPtr: usize,
  pageStart: u32,
  pageRowCount: u32,
  setsPtr: usize,
  startsPtr: usize,
  setCount: i32,
  slotsPtr: usize,
  setMin: u32,
  setSpan: u32,
  startNs: i64,
  endNs: i64,
  isOrdered: i32,
  spansPtr: usize,
  brokenPtr: usize,
): void {
  const pageEnd = pageStart + pageRowCount
  for (let i = setAtRow(startsPtr, setCount, pageStart); i < setCount; i++) {
    const begin = max(load<u32>(startsPtr + ((<usize>i) << 2)), pageStart)
    if (begin >= pageEnd) return
    const slot = slotOf(load<u32>(setsPtr + ((<usize>i) << 2)), slotsPtr, setMin, setSpan)
    if (slot === NO_SLOT) continue
    let from = <i32>(begin - pageStart)
    let to = <i32>(min(load<u32>(startsPtr + ((<usize>i) << 2), 4), pageEnd) - pageStart)
    if (load<i64>(timesPtr + ((<usize>from) << 3)) < startNs) from = lowerBoundInt64(timesPtr, from, to, startNs)
    if (load<i64>(timesPtr + ((<usize>(to - 1)) << 3)) >= endNs) to = lowerBoundInt64(timesPtr, from, to, endNs)
    if (from >= to) continue
    const firstNs = load<i64>(timesPtr + ((<usize>from) << 3))
    takeSpan(slot, firstNs, load<i64>(timesPtr + ((<usize>(to - 1)) << 3)), isOrdered, spansPtr, brokenPtr)
  }
}

/**
 * The bucket of the state for each row of one page: NO_SLOT (0xffffffff) for rows outside of [startNs, endNs), of sets that
 * are not asked for and of broken slots. All else as for claimRows and claimDigests.
 *
 * target  pageRowCount × u32, overwritten
 *
 * Returns how many rows have a bucket.
 */
export function bucketsOfRows(
  timesPtr: usize,
  pageStart: u32,
  pageRowCount: u32,
  setsPtr: usize,
  startsPtr: usize,
  setCount: i32,
  slotsPtr: usize,
  setMin: u32,
  setSpan: u32,
  startNs: i64,
  endNs: i64,
  stepNs: i64,
  bucketCount: i32,
  unitsPtr: usize,
  brokenPtr: usize,
  targetPtr: usize,
): i32 {
  if (stepNs <= 0) unreachable()
  memory.fill(targetPtr, 0xff, (<usize>pageRowCount) << 2)
  const pageEnd = pageStart + pageRowCount
  let count = 0
  let bucket: u64 = 0
  let bucketNs = startNs
  for (let i = setAtRow(startsPtr, setCount, pageStart); i < setCount; i++) {
    const begin = max(load<u32>(startsPtr + ((<usize>i) << 2)), pageStart)
    if (begin >= pageEnd) break
    const slot = slotOf(load<u32>(setsPtr + ((<usize>i) << 2)), slotsPtr, setMin, setSpan)
    if (slot === NO_SLOT || load<u32>(brokenPtr + ((<usize>slot) << 2)) !== 0) continue
    const unitBucket = load<u32>(unitsPtr + ((<usize>slot) << 2)) * <u32>bucketCount
    const end = min(load<u32>(startsPtr + ((<usize>i) << 2), 4), pageEnd) - pageStart
    for (let row = begin - pageStart; row < end; row++) {
      const timeNs = load<i64>(timesPtr + ((<usize>row) << 3))
      if (timeNs < startNs || timeNs >= endNs) continue
      // Only a time outside the bucket of the row before needs a division.
      if (<u64>(timeNs - bucketNs) >= <u64>stepNs) {
        bucket = <u64>(timeNs - startNs) / <u64>stepNs
        bucketNs = startNs + <i64>bucket * stepNs
      }
      if (bucket >= <u64>bucketCount) unreachable()
      store<u32>(targetPtr + ((<usize>row) << 2), unitBucket + <u32>bucket)
      count++
    }
  }
  return count
}

/**
 * Where the buckets that have rows stand in each unit.
 *
 * mask    a bit for each bucket of each unit, unit after unit (see occupiedWindows)
 * target  unitCount × 2 u32: the first of them and how many there are, or GAPS (0xffffffff) where others stand between them
 */
export function occupiedRuns(maskPtr: usize, unitCount: i32, bucketCount: i32, targetPtr: usize): void {
  let bit: usize = 0
  for (let unit = 0; unit < unitCount; unit++) {
    let first: u32 = 0
    let count: u32 = 0
    for (let bucket: u32 = 0; bucket < <u32>bucketCount; bucket++, bit++) {
      if (((load<u8>(maskPtr + (bit >> 3)) >> (<u8>bit & 7)) & 1) === 0) continue
      if (count === 0) first = bucket
      else if (count !== GAPS && bucket !== first + count) count = GAPS
      if (count !== GAPS) count++
    }
    store<u32>(targetPtr + ((<usize>unit) << 3), first)
    store<u32>(targetPtr + ((<usize>unit) << 3), count, 4)
  }
}
