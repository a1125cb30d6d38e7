// Integers near one another, as 16-bit differences from an origin: a quarter of the memory, and four times as many at once.
// Internal to the pages of int64 and to the order of rows.
import { MAGIC_INTEGER_MAX } from './floats-as-integers'

/** Differences are -8192 to 8191: what is between any two of them, and a base besides, is a 16-bit integer, too. */
const NEAR: i64 = 8192
/** Values that are looked at before it is known whether they are near. */
const NEAR_STEP: usize = 256 << 3

/** Whether integers near this one can be counted from it: they are no nearer to each other than they seem, and their sums are exact. */
export function isOrigin(origin: i64): bool {
  return origin >= -(MAGIC_INTEGER_MAX >> 1) && origin <= MAGIC_INTEGER_MAX >> 1
}

/** Eight integers less origin - NEAR, as 16-bit differences from the origin; garbage where they are not near. */
function narrowEight(a: v128, b: v128, c: v128, d: v128): v128 {
  const eight = i16x8.narrow_i32x4_s(v128.shuffle<i32>(a, b, 0, 2, 4, 6), v128.shuffle<i32>(c, d, 0, 2, 4, 6))
  return i16x8.sub(eight, i16x8.splat(<i16>NEAR))
}

/** Whether differences that were combined by or, NEAR more each, are all near. */
function areNear(seen: v128): bool {
  return (i64x2.extract_lane(seen, 0) | i64x2.extract_lane(seen, 1)) >>> 14 === 0
}

/**
 * Writes the differences from an origin (isOrigin). False when some value is not near it: then what is written is no good.
 *
 * near  count × i16
 */
export function narrow(valuesPtr: usize, count: i32, origin: i64, nearPtr: usize): bool {
  const end = valuesPtr + ((<usize>count) << 3)
  const low = origin - NEAR
  const lows = i64x2.splat(low)
  let ptr = valuesPtr
  let near = nearPtr
  while (ptr + 64 <= end) {
    let seen = i64x2.splat(0)
    const stepEnd = min(ptr + NEAR_STEP, end)
    for (; ptr + 64 <= stepEnd; ptr += 64, near += 16) {
      const a = i64x2.sub(v128.load(ptr), lows)
      const b = i64x2.sub(v128.load(ptr, 16), lows)
      const c = i64x2.sub(v128.load(ptr, 32), lows)
      const d = i64x2.sub(v128.load(ptr, 48), lows)
      seen = v128.or(v128.or(seen, v128.or(a, b)), v128.or(c, d))
      v128.store(near, narrowEight(a, b, c, d))
    }
    if (!areNear(seen)) return false
  }
  for (; ptr < end; ptr += 8, near += 2) {
    const above = load<i64>(ptr) - low
    if (above >>> 14 !== 0) return false
    store<i16>(near, <i16>(above - NEAR))
  }
  return true
}

/** The integers again. */
export function widen(nearPtr: usize, count: i32, origin: i64, valuesPtr: usize): void {
  const origins = i64x2.splat(origin)
  let i = 0
  for (; i + 4 <= count; i += 4) {
    const four = i32x4.extend_low_i16x8_s(v128.load64_zero(nearPtr + ((<usize>i) << 1)))
    const values = valuesPtr + ((<usize>i) << 3)
    v128.store(values, i64x2.add(origins, i64x2.extend_low_i32x4_s(four)))
    v128.store(values, i64x2.add(origins, i64x2.extend_high_i32x4_s(four)), 16)
  }
  for (; i < count; i++) store<i64>(valuesPtr + ((<usize>i) << 3), origin + <i64>load<i16>(nearPtr + ((<usize>i) << 1)))
}

export function isNearProgression(nearPtr: usize, count: i32): bool {
  if (count < 2) return true
  const step = <i32>load<i16>(nearPtr, 2) - <i32>load<i16>(nearPtr)
  const end = nearPtr + ((<usize>count) << 1)
  for (let ptr = nearPtr + 2; ptr < end; ptr += 2)
    if (<i32>load<i16>(ptr) - <i32>load<i16>(ptr - 2) !== step) return false
  return true
}

/** The middle between the least and the greatest, rounded up. */
export function nearMiddle(nearPtr: usize, count: i32): i32 {
  let least = <i32>load<i16>(nearPtr)
  let greatest = least
  let i = 0
  if (count >= 8) {
    let leasts = v128.load(nearPtr)
    let greatests = leasts
    for (i = 8; i + 8 <= count; i += 8) {
      const eight = v128.load(nearPtr + ((<usize>i) << 1))
      leasts = i16x8.min_s(leasts, eight)
      greatests = i16x8.max_s(greatests, eight)
    }
    least = leastOfInt16(leasts)
    greatest = greatestOfInt16(greatests)
  }
  for (; i < count; i++) {
    const value = <i32>load<i16>(nearPtr + ((<usize>i) << 1))
    least = min(least, value)
    greatest = max(greatest, value)
  }
  return least + ((greatest - least + 1) >> 1)
}

function leastOfInt16(lanes: v128): i32 {
  const four = i16x8.min_s(lanes, v128.shuffle<i32>(lanes, lanes, 2, 3, 0, 1))
  const two = i16x8.min_s(four, v128.shuffle<i32>(four, four, 1, 0, 3, 2))
  return min<i32>(i16x8.extract_lane_s(two, 0), i16x8.extract_lane_s(two, 1))
}

function greatestOfInt16(lanes: v128): i32 {
  const four = i16x8.max_s(lanes, v128.shuffle<i32>(lanes, lanes, 2, 3, 0, 1))
  const two = i16x8.max_s(four, v128.shuffle<i32>(four, four, 1, 0, 3, 2))
  return max<i32>(i16x8.extract_lane_s(two, 0), i16x8.extract_lane_s(two, 1))
}

/** zigzag of eight. */
function zigzagEight(eight: v128): v128 {
  return v128.xor(i16x8.shl(eight, 1), i16x8.shr_s(eight, 15))
}

/**
 * Writes zigzag codes of the residuals of order 0 or 1 (see ints.ts) as bytes, the first of order 1 being 0. False when one is
 * above 255: then what is written is no good.
 *
 * base   of order 0 counted from the origin, too; from -8192 to 8192
 * codes  count bytes, and 0 up to the next multiple of 64
 */
export function nearCodes(nearPtr: usize, count: i32, order: i32, base: i32, codesPtr: usize): bool {
  const codesEnd = codesPtr + <usize>((count + 63) & ~63)
  for (let ptr = codesPtr + <usize>(count & ~63); ptr < codesEnd; ptr += 16) v128.store(ptr, i64x2.splat(0))
  let rest = 0
  let i = 0
  // The first residual of order 1 has nothing before it.
  const firstCount = order === 0 ? 0 : min(count, 16)
  for (; i < firstCount; i++) {
    const near = nearPtr + ((<usize>i) << 1)
    const code = i === 0 ? 0 : zigzag32(<i32>load<i16>(near) - <i32>load<i16>(near - 2) - base)
    rest |= code
    store<u8>(codesPtr + <usize>i, <u8>code)
  }
  const bases = i16x8.splat(<i16>base)
  let seen = i64x2.splat(0)
  if (order === 0) {
    for (; i + 16 <= count; i += 16) {
      const near = nearPtr + ((<usize>i) << 1)
      const a = zigzagEight(i16x8.sub(v128.load(near), bases))
      const b = zigzagEight(i16x8.sub(v128.load(near, 16), bases))
      seen = v128.or(seen, v128.or(a, b))
      v128.store(codesPtr + <usize>i, i8x16.narrow_i16x8_u(a, b))
    }
  } else {
    for (; i + 16 <= count; i += 16) {
      const near = nearPtr + ((<usize>i) << 1)
      const a = zigzagEight(i16x8.sub(i16x8.sub(v128.load(near), v128.load(near - 2)), bases))
      const b = zigzagEight(i16x8.sub(i16x8.sub(v128.load(near, 16), v128.load(near - 2, 16)), bases))
      seen = v128.or(seen, v128.or(a, b))
      v128.store(codesPtr + <usize>i, i8x16.narrow_i16x8_u(a, b))
    }
  }
  for (; i < count; i++) {
    const near = nearPtr + ((<usize>i) << 1)
    const code = zigzag32(<i32>load<i16>(near) - base - (order === 0 ? 0 : <i32>load<i16>(near - 2)))
    rest |= code
    store<u8>(codesPtr + <usize>i, <u8>code)
  }
  return rest >>> 8 === 0 && i16x8.bitmask(i16x8.gt_u(seen, i16x8.splat(255))) === 0
}

function zigzag32(x: i32): i32 {
  return (x << 1) ^ (x >> 31)
}

/** Statistics are made of differences of so much from the first at most: their squares are summed in 32 bits. */
const STATISTICS_NEAR: i32 = 1023

/**
 * Writes what statisticsInt64 writes, from sums of integers, so that all is exact but for the last division. False where values are
 * too far from the first: nothing is written.
 *
 * near  count × i16, 1 <= count <= 4096; the values less the origin (isOrigin)
 */
export function statisticsOfNear(nearPtr: usize, count: i32, origin: i64, outPtr: usize): bool {
  const first = <i32>load<i16>(nearPtr)
  const end = nearPtr + ((<usize>count) << 1)
  const firsts = i16x8.splat(<i16>first)
  const ones = i16x8.splat(1)
  let leasts = i64x2.splat(0)
  let greatests = leasts
  let sums = leasts
  let squares = leasts
  let ptr = nearPtr
  for (; ptr + 16 <= end; ptr += 16) {
    const eight = i16x8.sub(v128.load(ptr), firsts)
    leasts = i16x8.min_s(leasts, eight)
    greatests = i16x8.max_s(greatests, eight)
    // A lane holds at most 2 × 512 squares of 1023, which are less than 2^31.
    sums = i32x4.add(sums, i32x4.dot_i16x8_s(eight, ones))
    squares = i32x4.add(squares, i32x4.dot_i16x8_s(eight, eight))
  }
  let least = leastOfInt16(leasts)
  let greatest = greatestOfInt16(greatests)
  let sum = sumOfInt32(sums)
  let square = sumOfInt32(squares)
  for (; ptr < end; ptr += 2) {
    const difference = <i32>load<i16>(ptr) - first
    least = min(least, difference)
    greatest = max(greatest, difference)
    sum += <i64>difference
    square += <i64>(difference * difference)
  }
  if (least < -STATISTICS_NEAR || greatest > STATISTICS_NEAR) return false
  const firstValue = origin + <i64>first
  store<i64>(outPtr, firstValue + <i64>least)
  store<i64>(outPtr, firstValue + <i64>greatest, 8)
  store<i64>(outPtr, firstValue, 16)
  store<i64>(outPtr, origin + <i64>load<i16>(end - 2), 24)
  store<f64>(outPtr, <f64>(<i64>count * firstValue + sum), 32)
  store<f64>(outPtr, <f64>(<i64>count * square - sum * sum) / <f64>count, 40)
  return true
}

function sumOfInt32(lanes: v128): i64 {
  return (
    <i64>i32x4.extract_lane(lanes, 0) +
    <i64>i32x4.extract_lane(lanes, 1) +
    <i64>i32x4.extract_lane(lanes, 2) +
    <i64>i32x4.extract_lane(lanes, 3)
  )
}
