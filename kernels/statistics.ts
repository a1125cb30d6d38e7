// Statistics of one page, for pre-aggregates and for skipping pages.
import { MAGIC, MAGIC_INTEGER_MAX } from './floats-as-integers'

// Squared deviations are summed in a second pass, then corrected by what the rounded mean is off (Chan, Golub, LeVeque:
// Algorithms for computing the sample variance: analysis and recommendations, 1983, equation 1.7).

/**
 * Writes 48 bytes: min i64, max i64, first i64, last i64, sum f64, sum of squared deviations from the mean f64.
 * The sum is the exact one, rounded once, as long as all values are within ±2^51.
 *
 * values  count × i64, 8-byte aligned, 1 <= count <= 4096
 * out     48 bytes, 8-byte aligned
 */
export function statisticsInt64(valuesPtr: usize, count: i32, outPtr: usize): void {
  if (statisticsNear(valuesPtr, count, outPtr)) return
  const end = valuesPtr + ((<usize>count) << 3)
  let leasts = i64x2.splat(load<i64>(valuesPtr))
  let greatests = leasts
  let sums = i64x2.splat(0)
  let ptr = valuesPtr
  for (; ptr + 32 <= end; ptr += 32) {
    const a = v128.load(ptr)
    const b = v128.load(ptr, 16)
    sums = i64x2.add(sums, i64x2.add(a, b))
    const aIsLess = i64x2.lt_s(a, b)
    const low = v128.bitselect(a, b, aIsLess)
    const high = v128.bitselect(b, a, aIsLess)
    leasts = v128.bitselect(low, leasts, i64x2.lt_s(low, leasts))
    greatests = v128.bitselect(high, greatests, i64x2.gt_s(high, greatests))
  }
  let least = min(i64x2.extract_lane(leasts, 0), i64x2.extract_lane(leasts, 1))
  let greatest = max(i64x2.extract_lane(greatests, 0), i64x2.extract_lane(greatests, 1))
  let integerSum = i64x2.extract_lane(sums, 0) + i64x2.extract_lane(sums, 1)
  for (; ptr < end; ptr += 8) {
    const value = load<i64>(ptr)
    least = min(least, value)
    greatest = max(greatest, value)
    integerSum += value
  }
  store<i64>(outPtr, least)
  store<i64>(outPtr, greatest, 8)
  store<i64>(outPtr, load<i64>(valuesPtr), 16)
  store<i64>(outPtr, load<i64>(end - 8), 24)
  // Within these bounds 4096 values do not overflow an int64.
  const isSmall = least > -MAGIC_INTEGER_MAX && greatest < MAGIC_INTEGER_MAX
  const sum = isSmall ? <f64>integerSum : sumOfInt64(valuesPtr, end)
  store<f64>(outPtr, sum, 32)
  const mean = sum / <f64>count
  ptr = valuesPtr
  let m2: f64 = 0
  let deviationSum: f64 = 0
  if (isSmall) {
    const magic = f64x2.splat(MAGIC)
    const means = f64x2.splat(mean)
    let squares = f64x2.splat(0)
    let otherSquares = squares
    let deviations = squares
    for (; ptr + 32 <= end; ptr += 32) {
      const a = f64x2.sub(f64x2.sub(i64x2.add(v128.load(ptr), magic), magic), means)
      const b = f64x2.sub(f64x2.sub(i64x2.add(v128.load(ptr, 16), magic), magic), means)
      squares = f64x2.add(squares, f64x2.mul(a, a))
      otherSquares = f64x2.add(otherSquares, f64x2.mul(b, b))
      deviations = f64x2.add(deviations, f64x2.add(a, b))
    }
    m2 = sumOfLanes(f64x2.add(squares, otherSquares))
    deviationSum = sumOfLanes(deviations)
  }
  for (; ptr < end; ptr += 8) {
    const deviation = <f64>load<i64>(ptr) - mean
    m2 += deviation * deviation
    deviationSum += deviation
  }
  store<f64>(outPtr, max(0, m2 - (deviationSum * deviationSum) / <f64>count), 40)
}

/** Values that are at most so far from the first are summed as 16-bit integers. */
const NEAR: i64 = 1023
/** Values that are looked at before it is known whether they are near. */
const NEAR_STEP: usize = 256 << 3

/**
 * The same where all values are near the first, and that is not near the ends of int64: all sums are integers and exact, and
 * so is the sum of squared deviations, but for its last division. False where they are not: nothing is written.
 */
function statisticsNear(valuesPtr: usize, count: i32, outPtr: usize): bool {
  const first = load<i64>(valuesPtr)
  if (first < -(MAGIC_INTEGER_MAX >> 1) || first > MAGIC_INTEGER_MAX >> 1) return false
  const end = valuesPtr + ((<usize>count) << 3)
  // 0 to 2046 where a value is near; anything else has a bit above these.
  const origin = first - NEAR
  const origins = i64x2.splat(origin)
  const centers = i16x8.splat(<i16>NEAR)
  const ones = i16x8.splat(1)
  let leasts = centers
  let greatests = centers
  let sums = i64x2.splat(0)
  let squares = sums
  let ptr = valuesPtr
  while (ptr + 64 <= end) {
    let seen = i64x2.splat(0)
    const stepEnd = min(ptr + NEAR_STEP, end)
    for (; ptr + 64 <= stepEnd; ptr += 64) {
      const a = i64x2.sub(v128.load(ptr), origins)
      const b = i64x2.sub(v128.load(ptr, 16), origins)
      const c = i64x2.sub(v128.load(ptr, 32), origins)
      const d = i64x2.sub(v128.load(ptr, 48), origins)
      seen = v128.or(v128.or(seen, v128.or(a, b)), v128.or(c, d))
      const eight = i16x8.narrow_i32x4_s(v128.shuffle<i32>(a, b, 0, 2, 4, 6), v128.shuffle<i32>(c, d, 0, 2, 4, 6))
      leasts = i16x8.min_s(leasts, eight)
      greatests = i16x8.max_s(greatests, eight)
      // A lane holds at most 2 × 512 squares of 1023, which are less than 2^31.
      const deviations = i16x8.sub(eight, centers)
      sums = i32x4.add(sums, i32x4.dot_i16x8_s(deviations, ones))
      squares = i32x4.add(squares, i32x4.dot_i16x8_s(deviations, deviations))
    }
    if ((i64x2.extract_lane(seen, 0) | i64x2.extract_lane(seen, 1)) >>> 11 !== 0) return false
  }
  let sum = sumOfInt32(sums)
  let square = sumOfInt32(squares)
  let least = leastOfInt16(leasts)
  let greatest = -leastOfInt16(i16x8.neg(greatests))
  for (; ptr < end; ptr += 8) {
    const offset = load<i64>(ptr) - origin
    if (<u64>offset > 2 * <u64>NEAR) return false
    least = min(least, offset)
    greatest = max(greatest, offset)
    sum += offset - NEAR
    square += (offset - NEAR) * (offset - NEAR)
  }
  if (greatest > 2 * NEAR) return false
  store<i64>(outPtr, origin + least)
  store<i64>(outPtr, origin + greatest, 8)
  store<i64>(outPtr, first, 16)
  store<i64>(outPtr, load<i64>(end - 8), 24)
  store<f64>(outPtr, <f64>(<i64>count * first + sum), 32)
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

function leastOfInt16(lanes: v128): i64 {
  const four = i16x8.min_s(lanes, v128.shuffle<i32>(lanes, lanes, 2, 3, 0, 1))
  const two = i16x8.min_s(four, v128.shuffle<i32>(four, four, 1, 0, 3, 2))
  return <i64>min(i16x8.extract_lane_s(two, 0), i16x8.extract_lane_s(two, 1))
}

/**
 * Writes 48 bytes: min, max, first, last, sum, sum of squared deviations from the mean, all f64; returns the number of
 * NaN. With any NaN, min, max, sum and deviations are NaN. A min or max of 0 may have either sign.
 *
 * values  count × f64, 8-byte aligned, count >= 1
 * out     48 bytes, 8-byte aligned
 */
export function statisticsFloat64(valuesPtr: usize, count: i32, outPtr: usize): i32 {
  const end = valuesPtr + ((<usize>count) << 3)
  const zero = f64x2.splat(0)
  // Four partial sums: rounding errors grow with a quarter of the count, and additions need not wait for each other.
  let sums = zero
  let otherSums = zero
  let nanCounts = zero
  let leasts = f64x2.splat(load<f64>(valuesPtr))
  let greatests = leasts
  let ptr = valuesPtr
  for (; ptr + 32 <= end; ptr += 32) {
    const a = v128.load(ptr)
    const b = v128.load(ptr, 16)
    sums = f64x2.add(sums, a)
    otherSums = f64x2.add(otherSums, b)
    nanCounts = i64x2.sub(nanCounts, i64x2.add(f64x2.ne(a, a), f64x2.ne(b, b)))
    leasts = f64x2.pmin(leasts, f64x2.pmin(a, b))
    greatests = f64x2.pmax(greatests, f64x2.pmax(a, b))
  }
  let least = min(f64x2.extract_lane(leasts, 0), f64x2.extract_lane(leasts, 1))
  let greatest = max(f64x2.extract_lane(greatests, 0), f64x2.extract_lane(greatests, 1))
  let sum = sumOfLanes(f64x2.add(sums, otherSums))
  let nanCount = <i32>(i64x2.extract_lane(nanCounts, 0) + i64x2.extract_lane(nanCounts, 1))
  for (; ptr < end; ptr += 8) {
    const value = load<f64>(ptr)
    least = min(least, value)
    greatest = max(greatest, value)
    sum += value
    nanCount += i32(f64.ne(value, value))
  }
  store<f64>(outPtr, load<f64>(valuesPtr), 16)
  store<f64>(outPtr, load<f64>(end - 8), 24)
  if (nanCount > 0) {
    store<f64>(outPtr, NaN)
    store<f64>(outPtr, NaN, 8)
    store<f64>(outPtr, NaN, 32)
    store<f64>(outPtr, NaN, 40)
    return nanCount
  }
  const mean = sum / <f64>count
  const means = f64x2.splat(mean)
  let squares = zero
  let otherSquares = zero
  let deviations = zero
  for (ptr = valuesPtr; ptr + 32 <= end; ptr += 32) {
    const a = f64x2.sub(v128.load(ptr), means)
    const b = f64x2.sub(v128.load(ptr, 16), means)
    squares = f64x2.add(squares, f64x2.mul(a, a))
    otherSquares = f64x2.add(otherSquares, f64x2.mul(b, b))
    deviations = f64x2.add(deviations, f64x2.add(a, b))
  }
  let m2 = sumOfLanes(f64x2.add(squares, otherSquares))
  let deviationSum = sumOfLanes(deviations)
  for (; ptr < end; ptr += 8) {
    const deviation = load<f64>(ptr) - mean
    m2 += deviation * deviation
    deviationSum += deviation
  }
  store<f64>(outPtr, least)
  store<f64>(outPtr, greatest, 8)
  store<f64>(outPtr, sum, 32)
  store<f64>(outPtr, max(0, m2 - (deviationSum * deviationSum) / <f64>count), 40)
  return 0
}

function sumOfInt64(valuesPtr: usize, end: usize): f64 {
  let sum: f64 = 0
  for (let ptr = valuesPtr; ptr < end; ptr += 8) sum += <f64>load<i64>(ptr)
  return sum
}

function sumOfLanes(pair: v128): f64 {
  return f64x2.extract_lane(pair, 0) + f64x2.extract_lane(pair, 1)
}
