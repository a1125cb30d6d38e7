// Digests of many label sets at once: which of them fill buckets by themselves, and the buckets that they fill.
//
// The sets that are asked for have slots 0, 1, …; each slot belongs to a unit (a label set or a group), and each unit has
// bucketCount buckets, unit after unit, in one window state (see window.ts).
import { lowerBoundInt64 } from './compare'
import { addDigest, LAST_ARRAY, WHICH_COUNT, WHICH_LAST } from './window-state'

/** No slot: the set is not asked for. */
const NO_SLOT: u32 = 0xffffffff
/** Bytes of a claim: u32 bucket of the state, u32 first digest, u32 behind the last one. */
const CLAIM_BYTES: usize = 12
const GAPS: u32 = 0xffffffff

/** Marks the unit of a slot: its buckets are not filled by digests alone. */
function breakUnit(slot: u32, unitsPtr: usize, brokenPtr: usize): void {
  store<u32>(brokenPtr + ((<usize>load<u32>(unitsPtr + ((<usize>slot) << 2))) << 2), 1)
}

/**
 * Claims the digests of a block that fill buckets: of each asked set that the block has, those in [startNs, endNs). The unit of a
 * set is broken when one of them reaches beyond a bucket or the range, or when rows of the set that came before it (in
 * blocks that were claimed from earlier) reach into its time. Rows [bucketNs + i × stepNs, … + stepNs) are bucket i.
 *
 * sets, starts    u32 ascending, setCount of them; (setCount + 1) × u32: where the digests of each begin
 * firsts, lasts   i64 ns: times of the first and the last row of each digest
 * slots           setSpan × u32: the slot of each set from setMin on, or NO_SLOT
 * units           u32 a slot
 * ends            i64 a slot: the time of the last row so far, or before all times
 * broken          u32 a unit: set to 1, or left alone
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
  bucketNs: i64,
  stepNs: i64,
  bucketCount: i32,
  unitsPtr: usize,
  endsPtr: usize,
  brokenPtr: usize,
  targetPtr: usize,
): i32 {
  if (stepNs <= 0) unreachable()
  let target = targetPtr
  for (let i = 0; i < setCount; i++) {
    const at = load<u32>(setsPtr + ((<usize>i) << 2)) - setMin
    if (at >= setSpan) continue
    const slot = load<u32>(slotsPtr + ((<usize>at) << 2))
    if (slot === NO_SLOT) continue
    const begin = load<i32>(startsPtr + ((<usize>i) << 2))
    const end = load<i32>(startsPtr + ((<usize>i) << 2), 4)
    const from = lowerBoundInt64(lastsPtr, begin, end, startNs)
    const to = lowerBoundInt64(firstsPtr, from, end, endNs)
    if (from >= to) continue
    const endPtr = endsPtr + ((<usize>slot) << 3)
    const unitBucket = load<u32>(unitsPtr + ((<usize>slot) << 2)) * <u32>bucketCount
    const firstNs = load<i64>(firstsPtr + ((<usize>from) << 3))
    const lastNs = load<i64>(lastsPtr + ((<usize>(to - 1)) << 3))
    if (firstNs < startNs || lastNs >= endNs || firstNs <= load<i64>(endPtr)) {
      breakUnit(slot, unitsPtr, brokenPtr)
      continue
    }
    store<i64>(endPtr, lastNs)
    // The first digest of the claim under way, and where its bucket ends.
    let first = from
    let bucket: u64 = 0
    let bucketEndNs: i64 = i64.MIN_VALUE
    for (let digest = from; digest < to; digest++) {
      const ns = load<i64>(firstsPtr + ((<usize>digest) << 3))
      if (ns >= bucketEndNs) {
        if (digest > first) target = writeClaim(target, unitBucket + <u32>bucket, first, digest)
        first = digest
        bucket = <u64>(ns - bucketNs) / <u64>stepNs
        bucketEndNs = endOf(bucketNs + <i64>bucket * stepNs, stepNs)
        if (bucket >= <u64>bucketCount) {
          breakUnit(slot, unitsPtr, brokenPtr)
          first = to
          break
        }
      }
      if (load<i64>(lastsPtr + ((<usize>digest) << 3)) >= bucketEndNs) {
        breakUnit(slot, unitsPtr, brokenPtr)
        first = to
        break
      }
    }
    if (first < to) target = writeClaim(target, unitBucket + <u32>bucket, first, to)
  }
  return <i32>((target - targetPtr) / CLAIM_BYTES)
}

/** The end of a bucket; the latest time there is where it would be later. */
function endOf(bucketNs: i64, stepNs: i64): i64 {
  return bucketNs > i64.MAX_VALUE - stepNs ? i64.MAX_VALUE : bucketNs + stepNs
}

function writeClaim(target: usize, bucket: u32, from: i32, to: i32): usize {
  store<u32>(target, bucket)
  store<i32>(target, from, 4)
  store<i32>(target, to, 8)
  return target + CLAIM_BYTES
}

/**
 * Adds claimed digests to their buckets, as combineDigests does.
 *
 * claims  claimCount of those that claimDigests has written
 * counts, sums, mins, maxs, lasts, m2s  f64 a digest of the block; m2s need sums. What is not among `which` may be anything
 * state   of stateBucketCount buckets
 */
export function combineClaims(
  claimsPtr: usize,
  claimCount: i32,
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
  for (let claim = 0; claim < claimCount; claim++) {
    const claimPtr = claimsPtr + <usize>claim * CLAIM_BYTES
    const bucket = load<u32>(claimPtr)
    if (bucket >= <u32>stateBucketCount) unreachable()
    const ptr = statePtr + ((<usize>bucket) << 3)
    const end = (<usize>load<u32>(claimPtr, 8)) << 3
    let at = (<usize>load<u32>(claimPtr, 4)) << 3
    if (isLastOnly) {
      // Values before the last one need not be looked at.
      let total: f64 = 0
      let lastAt: usize = 0
      for (; at < end; at += 8) {
        const count = load<f64>(countsPtr + at)
        if (!(count > 0)) continue
        total += count
        lastAt = at
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
