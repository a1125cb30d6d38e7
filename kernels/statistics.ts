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
