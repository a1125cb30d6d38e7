// int64 pages: integers of one page as small differences, bit-packed. docs/formats.md draws the bytes.
import { integerEnd, readInteger, writeInteger, zigzag } from './codes'
import { chooseWidth, maxPackedByteLength, packBlocks, packNarrowBlocks, unpackBlocks } from './packing'
import { CODEC_CONSTANT, CODEC_PACKED, CODEC_PROGRESSION, CODEC_RAW, PAGE_COUNT_MAX } from './page-codecs'

/** Runs of 16 residuals that the choice of an order looks at. */
const SAMPLE_RUN_COUNT: i32 = 16
/** Values of which the median is taken at most. */
const MEDIAN_COUNT: i32 = 63

/** Bytes that encodeInt64Page writes at most. */
export function maxEncodedInt64Page(count: i32): i32 {
  return 32 + maxPackedByteLength(count)
}

/**
 * Encodes the values of one page and returns the bytes written, at most maxEncodedInt64Page(count).
 *
 * values   count × i64, 8-byte aligned, 1 <= count <= 4096, read only; a missing cell has no value here
 * target   maxEncodedInt64Page(count) bytes; all of them may be written
 * scratch  PAGE_SCRATCH bytes, 16-byte aligned, overwritten
 *
 * The page holds, in this order of preference: one value; first and step; residuals, bit-packed; raw values. A residual
 * is what is left of a value after subtracting a base (order 0), the value before it and a base (order 1: delta), or
 * the value and the difference before it (order 2: delta of deltas). All arithmetic wraps, so every int64 comes back.
 */
export function encodeInt64Page(valuesPtr: usize, count: i32, targetPtr: usize, scratchPtr: usize): i32 {
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

  return writePacked(valuesPtr, count, order, base, targetPtr, scratchPtr)
}

/**
 * As encodeInt64Page, for a page that is likely to look as the one before it in its column: residuals of that page's order,
 * and of order 1 of its base. Returns 0 when it would take more than byteLengthMax bytes, or is a progression: then it is
 * for encodeInt64Page.
 *
 * order  0 to 2
 */
export function encodeInt64PageLike(
  valuesPtr: usize,
  count: i32,
  order: i32,
  base: i64,
  byteLengthMax: i32,
  targetPtr: usize,
  scratchPtr: usize,
): i32 {
  if (count < 3) return 0
  const step = load<i64>(valuesPtr, 8) - load<i64>(valuesPtr)
  if (isProgression(valuesPtr, count, step)) return 0
  const ownBase = order === 1 ? base : order === 2 ? step : middleOf(valuesPtr, count)
  const byteLength = writePacked(valuesPtr, count, order, ownBase, targetPtr, scratchPtr)
  return byteLength <= byteLengthMax ? byteLength : 0
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

/**
 * Decodes a page of `count` values. Returns 0, or -1 when the bytes are not such a page; whatever the bytes, it reads
 * only [page, page + byteLength) and writes only count × 8 bytes at target (also when it fails).
 *
 * target  count × i64, 8-byte aligned
 */
export function decodeInt64Page(pagePtr: usize, byteLength: i32, count: i32, targetPtr: usize): i32 {
  if (byteLength < 1 || count < 1 || count > PAGE_COUNT_MAX) return -1
  const end = pagePtr + <usize>byteLength
  const codec = <i32>load<u8>(pagePtr)
  const valueEnd = targetPtr + ((<usize>count) << 3)
  if (codec === CODEC_RAW) {
    if (byteLength !== 1 + (count << 3)) return -1
    memory.copy(targetPtr, pagePtr + 1, (<usize>count) << 3)
    return 0
  }
  if (codec === CODEC_CONSTANT || codec === CODEC_PROGRESSION) {
    let source = integerEnd(pagePtr + 1, end)
    if (source === 0) return -1
    const value = readInteger(pagePtr + 1)
    let step: i64 = 0
    if (codec === CODEC_PROGRESSION) {
      const stepPtr = source
      source = integerEnd(stepPtr, end)
      if (source === 0) return -1
      step = readInteger(stepPtr)
    }
    if (source !== end) return -1
    let pair = i64x2.replace_lane(i64x2.splat(value), 1, value + step)
    const pairStep = i64x2.splat(step << 1)
    let ptr = targetPtr
    for (; ptr + 16 <= valueEnd; ptr += 16) {
      v128.store(ptr, pair)
      pair = i64x2.add(pair, pairStep)
    }
    if (ptr < valueEnd) store<i64>(ptr, i64x2.extract_lane(pair, 0))
    return 0
  }
  if (codec !== CODEC_PACKED || byteLength < 2) return -1
  const order = <i32>load<u8>(pagePtr, 1)
  if (order > 2) return -1
  let source = integerEnd(pagePtr + 2, end)
  if (source === 0) return -1
  const base = readInteger(pagePtr + 2)
  let first: i64 = 0
  if (order > 0) {
    const firstPtr = source
    source = integerEnd(firstPtr, end)
    if (source === 0) return -1
    first = readInteger(firstPtr)
  }
  if (unpackBlocks(source, end, count, targetPtr) < 0) return -1
  if (order === 0) addBase(targetPtr, count, base)
  else if (order === 1) addDeltas(targetPtr, count, first - base, base)
  else addDeltasOfDeltas(targetPtr, count, first - base, base)
  return 0
}

/** In place: values[i] = base + residuals[i]. */
function addBase(ptr: usize, count: i32, base: i64): void {
  const end = ptr + ((<usize>count) << 3)
  const bases = i64x2.splat(base)
  let at = ptr
  for (; at + 32 <= end; at += 32) {
    v128.store(at, i64x2.add(bases, v128.load(at)))
    v128.store(at, i64x2.add(bases, v128.load(at, 16)), 16)
  }
  for (; at < end; at += 8) store<i64>(at, base + load<i64>(at))
}

/** In place: values[i] = values[i - 1] + base + residuals[i], where values[-1] is `before`. */
function addDeltas(ptr: usize, count: i32, before: i64, base: i64): void {
  const end = ptr + ((<usize>count) << 3)
  const bases = i64x2.splat(base)
  const zero = i64x2.splat(0)
  let carry = i64x2.splat(before)
  let at = ptr
  for (; at + 32 <= end; at += 32) {
    // Sums within pairs, then of the pairs, then of all before: two additions a step wait for the step before.
    const a = i64x2.add(bases, v128.load(at))
    const b = i64x2.add(bases, v128.load(at, 16))
    const aSums = i64x2.add(a, v128.shuffle<i64>(zero, a, 0, 2))
    const bSums = i64x2.add(b, v128.shuffle<i64>(zero, b, 0, 2))
    const abSums = i64x2.add(bSums, v128.shuffle<i64>(aSums, aSums, 1, 1))
    v128.store(at, i64x2.add(carry, aSums))
    v128.store(at, i64x2.add(carry, abSums), 16)
    carry = i64x2.add(carry, v128.shuffle<i64>(abSums, abSums, 1, 1))
  }
  let value = i64x2.extract_lane(carry, 0)
  for (; at < end; at += 8) {
    value += base + load<i64>(at)
    store<i64>(at, value)
  }
}

/** In place: values[i] = values[i - 1] + deltas[i], deltas[i] = deltas[i - 1] + residuals[i]. */
function addDeltasOfDeltas(ptr: usize, count: i32, before: i64, deltaBefore: i64): void {
  const end = ptr + ((<usize>count) << 3)
  let value = before
  let delta = deltaBefore
  for (let at = ptr; at < end; at += 8) {
    delta += load<i64>(at)
    value += delta
    store<i64>(at, value)
  }
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
