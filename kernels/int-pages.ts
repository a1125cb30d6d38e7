// How int64 pages are written (see ints.ts): the choice of residuals, and these bit-packed. Where values are near one another,
// from 16-bit differences. Internal to ints.ts and page-lists.ts.
import { packByteBlocks } from './byte-packing'
import { writeInteger, zigzag } from './codes'
import { isNearProgression, nearCodes, nearMiddle } from './near-ints'
import { chooseWidth, packBlocks, packNarrowBlocks } from './packing'
import { CODEC_CONSTANT, CODEC_PACKED, CODEC_PROGRESSION, CODEC_RAW, PAGE_COUNT_MAX } from './page-codecs'

/** Runs of 16 residuals that the choice of an order looks at. */
const SAMPLE_RUN_COUNT: i32 = 16
/** Values of which the median is taken at most. */
const MEDIAN_COUNT: i32 = 63

/** Bases of near residuals are no farther from their origin. */
const NEAR_BASE_MAX: i64 = 8192

/**
 * encodeInt64Page, for values whose differences from an origin stand there as i16, too (near-ints.ts); near 0: they do not.
 */
export function writePage(
  valuesPtr: usize,
  nearPtr: usize,
  origin: i64,
  count: i32,
  targetPtr: usize,
  scratchPtr: usize,
): i32 {
  const first = load<i64>(valuesPtr)
  const step = count > 1 ? load<i64>(valuesPtr, 8) - first : 0
  if (isProgression(valuesPtr, count, step)) return writeProgression(targetPtr, first, step)

  // The base of order 0 is the middle of the range, or where outliers stretch the range, the median.
  const medians = scratchPtr
  const sample = scratchPtr + 1024
  const middle = middleOf(valuesPtr, count)
  let order = 0
  let base = middle
  let cost = residualCost(valuesPtr, count, 0, middle, sample)
  const median = sampleMedian(valuesPtr, count, 0, medians)
  const medianCost = residualCost(valuesPtr, count, 0, median, sample)
  if (medianCost < cost) {
    cost = medianCost
    base = median
  }
  const delta = sampleMedian(valuesPtr, count, 1, medians)
  const deltaCost = residualCost(valuesPtr, count, 1, delta, sample)
  if (deltaCost < cost) {
    cost = deltaCost
    base = delta
    order = 1
  }
  if (residualCost(valuesPtr, count, 2, 0, sample) < cost) {
    base = step
    order = 2
  }

  if (nearPtr !== 0) {
    const byteLength = writeNear(nearPtr, origin, count, order, base, targetPtr, scratchPtr)
    if (byteLength > 0) return byteLength
  }
  return writePacked(valuesPtr, count, order, base, targetPtr, scratchPtr)
}

/** encodeInt64PageLike, as writePage. Where the differences are there, values may be 0; then it returns -1 when it needs them. */
export function writePageLike(
  valuesPtr: usize,
  nearPtr: usize,
  origin: i64,
  count: i32,
  order: i32,
  base: i64,
  byteLengthMax: i32,
  targetPtr: usize,
  scratchPtr: usize,
): i32 {
  if (count < 3) return 0
  if (nearPtr !== 0 && order < 2) {
    if (isNearProgression(nearPtr, count)) return 0
    const ownBase = order === 1 ? base : origin + <i64>nearMiddle(nearPtr, count)
    const byteLength = writeNear(nearPtr, origin, count, order, ownBase, targetPtr, scratchPtr)
    if (byteLength > 0) return byteLength <= byteLengthMax ? byteLength : 0
  }
  if (valuesPtr === 0) return -1
  const step = load<i64>(valuesPtr, 8) - load<i64>(valuesPtr)
  if (isProgression(valuesPtr, count, step)) return 0
  const ownBase = order === 1 ? base : order === 2 ? step : middleOf(valuesPtr, count)
  const byteLength = writePacked(valuesPtr, count, order, ownBase, targetPtr, scratchPtr)
  return byteLength <= byteLengthMax ? byteLength : 0
}

/** What writePacked writes, of an order below 2; 0: not all codes are bytes, or they are better raw. Scratch: PAGE_COUNT_MAX bytes. */
function writeNear(
  nearPtr: usize,
  origin: i64,
  count: i32,
  order: i32,
  base: i64,
  targetPtr: usize,
  scratchPtr: usize,
): i32 {
  const nearBase = order === 0 ? base - origin : base
  if (order > 1 || count < 5 || nearBase < -NEAR_BASE_MAX || nearBase > NEAR_BASE_MAX) return 0
  if (!nearCodes(nearPtr, count, order, <i32>nearBase, scratchPtr)) return 0
  let target = targetPtr
  store<u8>(target, <u8>CODEC_PACKED)
  store<u8>(target, <u8>order, 1)
  target = writeInteger(target + 2, base)
  if (order > 0) target = writeInteger(target, origin + <i64>load<i16>(nearPtr))
  target += packByteBlocks(scratchPtr, count, target)
  const byteLength = <i32>(target - targetPtr)
  return byteLength <= count << 3 ? byteLength : 0
}

/** Residuals of an order, bit-packed, or raw values where those are fewer bytes. */
function writePacked(valuesPtr: usize, count: i32, order: i32, base: i64, targetPtr: usize, scratchPtr: usize): i32 {
  let target = targetPtr
  store<u8>(target, <u8>CODEC_PACKED)
  store<u8>(target, <u8>order, 1)
  target = writeInteger(target + 2, base)
  if (order > 0) target = writeInteger(target, load<i64>(valuesPtr))
  const residuals = scratchPtr
  const packScratch = scratchPtr + ((<usize>PAGE_COUNT_MAX) << 3)
  if (order < 2 && count > 4 && writeNarrowResiduals(valuesPtr, count, order, base, residuals) >> 31 === 0) {
    target += packNarrowBlocks(residuals, count, target, packScratch)
  } else {
    writeResiduals(valuesPtr, count, order, base, residuals)
    target += packBlocks(residuals, count, target, packScratch)
  }
  const byteLength = <i32>(target - targetPtr)
  if (byteLength <= count << 3) return byteLength
  store<u8>(targetPtr, <u8>CODEC_RAW)
  memory.copy(targetPtr + 1, valuesPtr, (<usize>count) << 3)
  return 1 + (count << 3)
}

function isProgression(valuesPtr: usize, count: i32, step: i64): bool {
  const end = valuesPtr + ((<usize>count) << 3)
  for (let ptr = valuesPtr + 8; ptr < end; ptr += 8) if (load<i64>(ptr) - load<i64>(ptr - 8) !== step) return false
  return true
}

function lesser(a: v128, b: v128): v128 {
  return v128.bitselect(a, b, i64x2.lt_s(a, b))
}

function greater(a: v128, b: v128): v128 {
  return v128.bitselect(a, b, i64x2.gt_s(a, b))
}

/** The middle between the least and the greatest value, rounded up. */
function middleOf(valuesPtr: usize, count: i32): i64 {
  const first = i64x2.splat(load<i64>(valuesPtr))
  let least = first
  let greatest = first
  const end = valuesPtr + ((<usize>count) << 3)
  let ptr = valuesPtr
  for (; ptr + 64 <= end; ptr += 64) {
    const a = v128.load(ptr)
    const b = v128.load(ptr, 16)
    const c = v128.load(ptr, 32)
    const d = v128.load(ptr, 48)
    least = lesser(least, lesser(lesser(a, b), lesser(c, d)))
    greatest = greater(greatest, greater(greater(a, b), greater(c, d)))
  }
  let low = min(i64x2.extract_lane(least, 0), i64x2.extract_lane(least, 1))
  let high = max(i64x2.extract_lane(greatest, 0), i64x2.extract_lane(greatest, 1))
  for (; ptr < end; ptr += 8) {
    low = min(low, load<i64>(ptr))
    high = max(high, load<i64>(ptr))
  }
  return low + <i64>((<u64>high - <u64>low + 1) >> 1)
}

function writeProgression(targetPtr: usize, first: i64, step: i64): i32 {
  store<u8>(targetPtr, <u8>(step === 0 ? CODEC_CONSTANT : CODEC_PROGRESSION))
  let target = writeInteger(targetPtr + 1, first)
  if (step !== 0) target = writeInteger(target, step)
  return <i32>(target - targetPtr)
}

/** What is left of the value at ptr after subtracting what its order predicts from the `order` values before it. */
function residual(ptr: usize, order: i32): i64 {
  const value = load<i64>(ptr)
  if (order === 0) return value
  const delta = value - load<i64>(ptr - 8)
  if (order === 1) return delta
  return delta - (load<i64>(ptr - 8) - load<i64>(ptr - 16))
}

/** The median of up to 63 residuals spread over the page. Scratch: 512 bytes. */
function sampleMedian(valuesPtr: usize, count: i32, order: i32, sortedPtr: usize): i64 {
  const available = count - order
  const sampleCount = min(min(MEDIAN_COUNT, (count >> 2) | 15), available)
  for (let k = 0; k < sampleCount; k++) {
    const i = order + (k * available) / sampleCount
    const value = residual(valuesPtr + ((<usize>i) << 3), order)
    let at = sortedPtr + ((<usize>k) << 3)
    for (; at > sortedPtr && load<i64>(at - 8) > value; at -= 8) store<i64>(at, load<i64>(at - 8))
    store<i64>(at, value)
  }
  return load<i64>(sortedPtr + ((<usize>sampleCount >> 1) << 3))
}

/**
 * About how many bits the residuals of an order need, times 256 / their number, seen on at most 256 of them in up to 16
 * runs. Scratch: 528 + 2048 bytes.
 */
function residualCost(valuesPtr: usize, count: i32, order: i32, base: i64, scratchPtr: usize): i32 {
  const codesPtr = scratchPtr + 528
  const runCount = min(SAMPLE_RUN_COUNT, count / 16 + 1)
  const runLength = min(16, count)
  let sampleEnd = codesPtr
  for (let run = 0; run < runCount; run++) {
    const start = runCount === 1 ? 0 : (run * (count - runLength)) / (runCount - 1)
    const runEnd = valuesPtr + ((<usize>(start + runLength)) << 3)
    for (let ptr = valuesPtr + ((<usize>max(start, order)) << 3); ptr < runEnd; ptr += 8) {
      store<u64>(sampleEnd, zigzag(residual(ptr, order) - base))
      sampleEnd += 8
    }
  }
  const sampleCount = <i32>((sampleEnd - codesPtr) >> 3)
  return sampleCount === 0 ? 0 : ((chooseWidth(codesPtr, sampleCount, scratchPtr) >> 14) << 8) / sampleCount
}

/** zigzag of two integers. */
function zigzagPair(integers: v128): v128 {
  return v128.xor(i64x2.shl(integers, 1), i64x2.lt_s(integers, i64x2.splat(0)))
}

/** Writes count zigzag codes; the first of orders 1 and 2 is 0. Scratch for codes: 16-byte aligned. */
function writeResiduals(valuesPtr: usize, count: i32, order: i32, base: i64, codesPtr: usize): void {
  const end = valuesPtr + ((<usize>count) << 3)
  const bases = i64x2.splat(base)
  // Values stand at ptr, codes at ptr + shift; the first two are done alone, so that all stores are aligned.
  const shift = codesPtr - valuesPtr
  let ptr = valuesPtr + 16
  if (order === 0) {
    store<u64>(codesPtr, zigzag(load<i64>(valuesPtr) - base))
    store<u64>(codesPtr, zigzag(load<i64>(valuesPtr, 8) - base), 8)
    for (; ptr + 32 <= end; ptr += 32) {
      v128.store(ptr + shift, zigzagPair(i64x2.sub(v128.load(ptr), bases)))
      v128.store(ptr + shift, zigzagPair(i64x2.sub(v128.load(ptr, 16), bases)), 16)
    }
    for (; ptr < end; ptr += 8) store<u64>(ptr + shift, zigzag(load<i64>(ptr) - base))
    return
  }
  store<u64>(codesPtr, 0)
  store<u64>(codesPtr, zigzag(load<i64>(valuesPtr, 8) - load<i64>(valuesPtr) - base), 8)
  if (order === 1) {
    for (; ptr + 32 <= end; ptr += 32) {
      const a = i64x2.sub(v128.load(ptr), v128.load(ptr - 8))
      const b = i64x2.sub(v128.load(ptr, 16), v128.load(ptr - 8, 16))
      v128.store(ptr + shift, zigzagPair(i64x2.sub(a, bases)))
      v128.store(ptr + shift, zigzagPair(i64x2.sub(b, bases)), 16)
    }
    for (; ptr < end; ptr += 8) store<u64>(ptr + shift, zigzag(load<i64>(ptr) - load<i64>(ptr - 8) - base))
    return
  }
  for (; ptr + 16 <= end; ptr += 16) {
    const before = v128.load(ptr - 8)
    const delta = i64x2.sub(v128.load(ptr), before)
    v128.store(ptr + shift, zigzagPair(i64x2.sub(delta, i64x2.sub(before, v128.load(ptr - 16)))))
  }
  for (; ptr < end; ptr += 8) store<u64>(ptr + shift, zigzag(residual(ptr, 2)))
}

/**
 * Writes the codes of order 0 or 1 as u32, more than four of them, and returns all of them by or: from 2^31 on they are not
 * for this.
 */
function writeNarrowResiduals(valuesPtr: usize, count: i32, order: i32, base: i64, codesPtr: usize): u64 {
  let seen: u64 = 0
  for (let i = 0; i < 4; i++) {
    const code = i < order ? 0 : zigzag(residual(valuesPtr + ((<usize>i) << 3), order) - base)
    seen |= code
    store<u32>(codesPtr + ((<usize>i) << 2), <u32>code)
  }
  const end = valuesPtr + ((<usize>count) << 3)
  const bases = i64x2.splat(base)
  let seens = i64x2.splat(0)
  let ptr = valuesPtr + 32
  let codes = codesPtr + 16
  if (order === 0) {
    for (; ptr + 32 <= end; ptr += 32, codes += 16) {
      const a = zigzagPair(i64x2.sub(v128.load(ptr), bases))
      const b = zigzagPair(i64x2.sub(v128.load(ptr, 16), bases))
      seens = v128.or(seens, v128.or(a, b))
      v128.store(codes, v128.shuffle<i32>(a, b, 0, 2, 4, 6))
    }
  } else {
    for (; ptr + 32 <= end; ptr += 32, codes += 16) {
      const a = zigzagPair(i64x2.sub(i64x2.sub(v128.load(ptr), v128.load(ptr - 8)), bases))
      const b = zigzagPair(i64x2.sub(i64x2.sub(v128.load(ptr, 16), v128.load(ptr - 8, 16)), bases))
      seens = v128.or(seens, v128.or(a, b))
      v128.store(codes, v128.shuffle<i32>(a, b, 0, 2, 4, 6))
    }
  }
  for (; ptr < end; ptr += 8, codes += 4) {
    const code = zigzag(residual(ptr, order) - base)
    seen |= code
    store<u32>(codes, <u32>code)
  }
  return seen | <u64>i64x2.extract_lane(seens, 0) | <u64>i64x2.extract_lane(seens, 1)
}
