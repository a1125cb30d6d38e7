// Aggregates of the buckets of a series: count, sum, extremes, last and variance for each time step of sorted times.
//
// The state of bucketCount buckets is seven arrays of f64, each bucketCount long, one after another:
//
//   count | sum | min | max | last | mean | m2        m2: the sum of the squared deviations from the mean
//
// It is kept across calls, so that a series can be fed in batches, and two states of the same buckets can be combined.
// However the batches are cut, count, min, max and last are the same to the bit; sum, mean and m2 but for rounding.
import { countBitRange, isSet, loadBits, lowBits, setBit } from './bits'
import { lowerBoundInt64 } from './compare'
import {
  addLanes,
  anyNegative,
  greatestLane,
  leastLane,
  leastOfRun,
  loadNumber,
  loadPair,
  missingPair,
  SIGN,
  withOther,
} from './reduce'
import {
  addDigest,
  addExtremes,
  addMoments,
  WHICH_EXTREMES,
  WHICH_LAST,
  WHICH_SUM,
  WHICH_VARIANCE,
} from './window-state'

/** What accumulating takes besides columns of f64 and i64: bits; rows that are only counted; rows whose last time is kept. */
type Bit = bool
type Counted = u8
type LastTime = u16

/** A run is summed in pieces of this many rows, which stay in the nearest cache for the second pass of the variance. */
const PIECE_ROWS = 2048
/** Of a row that goes to no bucket. */
const NO_BUCKET: u32 = 0xffffffff

/** The bytes of a state: 7 × bucketCount × 8. At most 38 Mi buckets, so that it is an i32. */
export function windowStateByteLength(bucketCount: i32): i32 {
  return bucketCount * 56
}

/** Makes all buckets empty: count 0, sum 0, min Infinity, max -Infinity, last NaN, mean 0, m2 0. */
export function initWindows(statePtr: usize, bucketCount: i32): void {
  const stride = (<usize>bucketCount) << 3
  memory.fill(statePtr, 0, stride * 7)
  for (let at: usize = 0; at < stride; at += 8) {
    store<f64>(statePtr + stride * 2 + at, Infinity)
    store<f64>(statePtr + stride * 3 + at, -Infinity)
    store<f64>(statePtr + stride * 4 + at, NaN)
  }
}

/**
 * Adds up to eight rows to one bucket, without a branch on their number: runs of a few rows are the rule, and a branch on
 * their length is mispredicted in most of them. Lanes of rows that are missing, or no longer in the run, become 0 for the
 * sum and NaN for the extremes, which pmin and pmax pass over when it is their second operand.
 *
 * pmin and pmax also pass over NaN among the values, of which the sum tells, and take -0 and 0 for equal. Where there may
 * be a NaN or an extreme is zero, nothing is done and the answer is false: addFewSpecial is for these. (Small enough to
 * become part of the loop that calls it, which is worth a fifth of the time.)
 *
 * at    eight values that may be read
 * bits  which of them count: bit 0 is the first; not 0
 */
function addFew<T extends number>(at: usize, bits: u64, ptr: usize, stride: usize, which: i32): bool {
  const a = loadPair<T>(at)
  const b = loadPair<T>(at + 16)
  const c = loadPair<T>(at + 32)
  const d = loadPair<T>(at + 48)
  const noA = missingPair(bits)
  const noB = missingPair(bits >> 2)
  const noC = missingPair(bits >> 4)
  const noD = missingPair(bits >> 6)
  let sum = f64x2.add(
    f64x2.add(v128.andnot(a, noA), v128.andnot(b, noB)),
    f64x2.add(v128.andnot(c, noC), v128.andnot(d, noD)),
  )
  sum = f64x2.add(sum, v128.shuffle<i64>(sum, sum, 1, 0))
  if (which & WHICH_EXTREMES) {
    const orA = v128.or(a, noA)
    const orB = v128.or(b, noB)
    const orC = v128.or(c, noC)
    const orD = v128.or(d, noD)
    let least = f64x2.splat(Infinity)
    let greatest = f64x2.splat(-Infinity)
    least = f64x2.pmin(f64x2.pmin(f64x2.pmin(f64x2.pmin(least, orA), orB), orC), orD)
    least = f64x2.pmin(least, v128.shuffle<i64>(least, least, 1, 0))
    greatest = f64x2.pmax(f64x2.pmax(f64x2.pmax(f64x2.pmax(greatest, orA), orB), orC), orD)
    greatest = f64x2.pmax(greatest, v128.shuffle<i64>(greatest, greatest, 1, 0))
    if (isFloat<T>()) {
      const zero = f64x2.splat(0)
      const special = v128.or(f64x2.ne(sum, sum), v128.or(f64x2.eq(least, zero), f64x2.eq(greatest, zero)))
      if (v128.any_true(special)) return false
    }
    const minPtr = ptr + stride * 2
    const maxPtr = ptr + stride * 3
    // A NaN of the state stays, as the first operand.
    v128.store64_lane(minPtr, f64x2.pmin(v128.load64_zero(minPtr), least), 0)
    v128.store64_lane(maxPtr, f64x2.pmax(v128.load64_zero(maxPtr), greatest), 0)
  }
  store<f64>(ptr, load<f64>(ptr) + <f64>(<i32>popcnt(bits)))
  store<f64>(ptr + stride, load<f64>(ptr + stride) + f64x2.extract_lane(sum, 0))
  if (which & WHICH_LAST) {
    store<f64>(ptr + stride * 4, loadNumber<T>(at + ((63 - <usize>clz(bits)) << 3)))
  }
  return true
}

/** The lane of `pair` or, where `missing` is all ones, of `other`. */
function presentOr(pair: v128, missing: v128, other: v128): v128 {
  return v128.bitselect(other, pair, missing)
}

/** As addFew, with extremes, for all float64: f64x2.min knows NaN and both zeros, but is many instructions. */
function addFewSpecial(at: usize, bits: u64, ptr: usize, stride: usize, which: i32): void {
  const a = v128.load(at)
  const b = v128.load(at, 16)
  const c = v128.load(at, 32)
  const d = v128.load(at, 48)
  const noA = missingPair(bits)
  const noB = missingPair(bits >> 2)
  const noC = missingPair(bits >> 4)
  const noD = missingPair(bits >> 6)
  const sum = addLanes(
    f64x2.add(f64x2.add(v128.andnot(a, noA), v128.andnot(b, noB)), f64x2.add(v128.andnot(c, noC), v128.andnot(d, noD))),
  )
  const highest = f64x2.splat(Infinity)
  const least = f64x2.min(
    f64x2.min(presentOr(a, noA, highest), presentOr(b, noB, highest)),
    f64x2.min(presentOr(c, noC, highest), presentOr(d, noD, highest)),
  )
  const lowest = f64x2.splat(-Infinity)
  const greatest = f64x2.max(
    f64x2.max(presentOr(a, noA, lowest), presentOr(b, noB, lowest)),
    f64x2.max(presentOr(c, noC, lowest), presentOr(d, noD, lowest)),
  )
  const minPtr = ptr + stride * 2
  const maxPtr = ptr + stride * 3
  const leastBoth = f64x2.min(least, v128.shuffle<i64>(least, least, 1, 0))
  const greatestBoth = f64x2.max(greatest, v128.shuffle<i64>(greatest, greatest, 1, 0))
  v128.store64_lane(minPtr, f64x2.min(v128.load64_zero(minPtr), leastBoth), 0)
  v128.store64_lane(maxPtr, f64x2.max(v128.load64_zero(maxPtr), greatestBoth), 0)
  store<f64>(ptr, load<f64>(ptr) + <f64>(<i32>popcnt(bits)))
  store<f64>(ptr + stride, load<f64>(ptr + stride) + sum)
  if (which & WHICH_LAST) store<f64>(ptr + stride * 4, load<f64>(at + ((63 - <usize>clz(bits)) << 3)))
}

/** Adds the mean and m2 of up to eight rows, as addFew takes them. Must be called before it. */
function addMomentsOfFew<T extends number>(at: usize, bits: u64, ptr: usize, stride: usize): void {
  const noA = missingPair(bits)
  const noB = missingPair(bits >> 2)
  const noC = missingPair(bits >> 4)
  const noD = missingPair(bits >> 6)
  let a = v128.andnot(loadPair<T>(at), noA)
  let b = v128.andnot(loadPair<T>(at + 16), noB)
  let c = v128.andnot(loadPair<T>(at + 32), noC)
  let d = v128.andnot(loadPair<T>(at + 48), noD)
  const count = <f64>(<i32>popcnt(bits))
  const mean = addLanes(f64x2.add(f64x2.add(a, b), f64x2.add(c, d))) / count
  if (abs(mean) < Infinity) {
    const means = f64x2.splat(mean)
    a = v128.andnot(f64x2.sub(a, means), noA)
    b = v128.andnot(f64x2.sub(b, means), noB)
    c = v128.andnot(f64x2.sub(c, means), noC)
    d = v128.andnot(f64x2.sub(d, means), noD)
    const deviation = addLanes(f64x2.add(f64x2.add(a, b), f64x2.add(c, d)))
    const squares = addLanes(
      f64x2.add(f64x2.add(f64x2.mul(a, a), f64x2.mul(b, b)), f64x2.add(f64x2.mul(c, c), f64x2.mul(d, d))),
    )
    addMoments(ptr, stride, count, mean, correctedSquares(squares, deviation, count))
  } else {
    const nans = v128.or(v128.or(f64x2.ne(a, a), f64x2.ne(b, b)), v128.or(f64x2.ne(c, c), f64x2.ne(d, d)))
    addMoments(ptr, stride, count, mean, v128.any_true(nans) ? NaN : Infinity)
  }
}

/**
 * The squared deviations from a mean without what the rounding of that mean added (T. F. Chan, G. H. Golub, R. J. LeVeque,
 * Algorithms for Computing the Sample Variance, 1983, the corrected two-pass algorithm).
 */
function correctedSquares(squares: f64, deviation: f64, count: f64): f64 {
  return max<f64>(0, squares - (deviation * deviation) / count)
}

/**
 * Adds rows [rowStart, rowEnd) of a column of numbers to one bucket; ptr is where the bucket's count stands. The lanes
 * work as in addFew.
 */
function addRun<T extends number>(
  valuesPtr: usize,
  validityPtr: usize,
  rowStart: i32,
  rowEnd: i32,
  rowCount: i32,
  ptr: usize,
  stride: usize,
  which: i32,
): void {
  let presentCount: i32 = 0
  let lastRow: i32 = 0
  let sums = f64x2.splat(0)
  let leasts = f64x2.splat(Infinity)
  let greatests = f64x2.splat(-Infinity)
  let row = rowStart

  // Without gaps: eight rows at a time, all but the last one to eight.
  if (!validityPtr && rowEnd - row > 8) {
    let sums1 = sums
    let sums2 = sums
    let sums3 = sums
    let at = valuesPtr + ((<usize>row) << 3)
    const endPtr = valuesPtr + ((<usize>rowEnd) << 3) - 64
    if (which & WHICH_EXTREMES) {
      let leasts1 = leasts
      let greatests1 = greatests
      for (; at < endPtr; at += 64) {
        const a = loadPair<T>(at)
        const b = loadPair<T>(at + 16)
        const c = loadPair<T>(at + 32)
        const d = loadPair<T>(at + 48)
        sums = f64x2.add(sums, a)
        sums1 = f64x2.add(sums1, b)
        sums2 = f64x2.add(sums2, c)
        sums3 = f64x2.add(sums3, d)
        leasts = f64x2.pmin(f64x2.pmin(leasts, a), b)
        leasts1 = f64x2.pmin(f64x2.pmin(leasts1, c), d)
        greatests = f64x2.pmax(f64x2.pmax(greatests, a), b)
        greatests1 = f64x2.pmax(f64x2.pmax(greatests1, c), d)
      }
      leasts = f64x2.pmin(leasts, leasts1)
      greatests = f64x2.pmax(greatests, greatests1)
    } else {
      for (; at < endPtr; at += 64) {
        sums = f64x2.add(sums, loadPair<T>(at))
        sums1 = f64x2.add(sums1, loadPair<T>(at + 16))
        sums2 = f64x2.add(sums2, loadPair<T>(at + 32))
        sums3 = f64x2.add(sums3, loadPair<T>(at + 48))
      }
    }
    sums = f64x2.add(f64x2.add(sums, sums1), f64x2.add(sums2, sums3))
    row = <i32>((at - valuesPtr) >> 3)
    presentCount = row - rowStart
  }

  // The rest, or all rows where some may be missing: one bit a row, eight rows a step.
  while (row < rowEnd) {
    const chunkRows = min(rowEnd - row, 64)
    const chunkEnd = row + chunkRows
    let bits = validityPtr ? loadBits(validityPtr, row, chunkRows) : lowBits(chunkRows)
    presentCount += <i32>popcnt(bits)
    if (bits !== 0) lastRow = row + 63 - <i32>clz(bits)
    for (; row < chunkEnd; row += 8, bits >>= 8) {
      const at = valuesPtr + ((<usize>row) << 3)
      if (row + 8 <= rowCount) {
        const a = loadPair<T>(at)
        const b = loadPair<T>(at + 16)
        const c = loadPair<T>(at + 32)
        const d = loadPair<T>(at + 48)
        const noA = missingPair(bits)
        const noB = missingPair(bits >> 2)
        const noC = missingPair(bits >> 4)
        const noD = missingPair(bits >> 6)
        sums = f64x2.add(
          sums,
          f64x2.add(
            f64x2.add(v128.andnot(a, noA), v128.andnot(b, noB)),
            f64x2.add(v128.andnot(c, noC), v128.andnot(d, noD)),
          ),
        )
        leasts = f64x2.pmin(f64x2.pmin(leasts, v128.or(a, noA)), v128.or(b, noB))
        leasts = f64x2.pmin(f64x2.pmin(leasts, v128.or(c, noC)), v128.or(d, noD))
        greatests = f64x2.pmax(f64x2.pmax(greatests, v128.or(a, noA)), v128.or(b, noB))
        greatests = f64x2.pmax(f64x2.pmax(greatests, v128.or(c, noC)), v128.or(d, noD))
      } else {
        // The last rows of the column: beyond them is not ours to read.
        for (let rest = bits & 0xff; rest !== 0; rest &= rest - 1) {
          const value = loadNumber<T>(at + ((<usize>ctz(rest)) << 3))
          sums = f64x2.add(sums, withOther(value, 0))
          leasts = f64x2.pmin(leasts, f64x2.splat(value))
          greatests = f64x2.pmax(greatests, f64x2.splat(value))
        }
      }
    }
  }
  if (presentCount === 0) return

  const count = <f64>presentCount
  const sum = addLanes(sums)
  if (which & WHICH_EXTREMES) {
    // pmin and pmax passed over NaN among the values, of which the sum tells, and took -0 and 0 for equal.
    let least = leastLane(leasts)
    let greatest = greatestLane(greatests)
    if (isFloat<T>()) {
      if (!(sum <= Infinity)) {
        least = leastOfRun<T>(valuesPtr, validityPtr, rowStart, rowEnd, 0)
        greatest = -leastOfRun<T>(valuesPtr, validityPtr, rowStart, rowEnd, SIGN)
      } else {
        if (least === 0) least = anyNegative(valuesPtr, validityPtr, rowStart, rowEnd, 0) ? -0.0 : 0
        if (greatest === 0) greatest = anyNegative(valuesPtr, validityPtr, rowStart, rowEnd, SIGN) ? 0 : -0.0
      }
    }
    addExtremes(ptr, stride, least, greatest)
  }
  if (which & WHICH_VARIANCE) {
    const mean = sum / count
    let m2: f64 = Infinity
    if (abs(mean) < Infinity) {
      m2 = squaresOfRun<T>(valuesPtr, validityPtr, rowStart, rowEnd, rowCount, count, mean)
    } else {
      const least = leastOfRun<T>(valuesPtr, validityPtr, rowStart, rowEnd, 0)
      if (!(least <= Infinity)) m2 = NaN
    }
    addMoments(ptr, stride, count, mean, m2)
  }
  store<f64>(ptr, load<f64>(ptr) + count)
  store<f64>(ptr + stride, load<f64>(ptr + stride) + sum)
  if (which & WHICH_LAST) store<f64>(ptr + stride * 4, loadNumber<T>(valuesPtr + ((<usize>lastRow) << 3)))
}

/**
 * The squared deviations of the present values of rows [rowStart, rowEnd) from `mean`, which is their mean but for
 * rounding. Steps as in addRun.
 */
function squaresOfRun<T extends number>(
  valuesPtr: usize,
  validityPtr: usize,
  rowStart: i32,
  rowEnd: i32,
  rowCount: i32,
  count: f64,
  mean: f64,
): f64 {
  const means = f64x2.splat(mean)
  let deviations = f64x2.splat(0)
  let squares = deviations
  let row = rowStart
  if (!validityPtr && rowEnd - row > 8) {
    let deviations1 = deviations
    let squares1 = squares
    let at = valuesPtr + ((<usize>row) << 3)
    const endPtr = valuesPtr + ((<usize>rowEnd) << 3) - 64
    for (; at < endPtr; at += 64) {
      const a = f64x2.sub(loadPair<T>(at), means)
      const b = f64x2.sub(loadPair<T>(at + 16), means)
      const c = f64x2.sub(loadPair<T>(at + 32), means)
      const d = f64x2.sub(loadPair<T>(at + 48), means)
      deviations = f64x2.add(deviations, f64x2.add(a, b))
      deviations1 = f64x2.add(deviations1, f64x2.add(c, d))
      squares = f64x2.add(squares, f64x2.add(f64x2.mul(a, a), f64x2.mul(b, b)))
      squares1 = f64x2.add(squares1, f64x2.add(f64x2.mul(c, c), f64x2.mul(d, d)))
    }
    deviations = f64x2.add(deviations, deviations1)
    squares = f64x2.add(squares, squares1)
    row = <i32>((at - valuesPtr) >> 3)
  }
  while (row < rowEnd) {
    const chunkRows = min(rowEnd - row, 64)
    const chunkEnd = row + chunkRows
    let bits = validityPtr ? loadBits(validityPtr, row, chunkRows) : lowBits(chunkRows)
    for (; row < chunkEnd; row += 8, bits >>= 8) {
      const at = valuesPtr + ((<usize>row) << 3)
      if (row + 8 <= rowCount) {
        const a = v128.andnot(f64x2.sub(loadPair<T>(at), means), missingPair(bits))
        const b = v128.andnot(f64x2.sub(loadPair<T>(at + 16), means), missingPair(bits >> 2))
        const c = v128.andnot(f64x2.sub(loadPair<T>(at + 32), means), missingPair(bits >> 4))
        const d = v128.andnot(f64x2.sub(loadPair<T>(at + 48), means), missingPair(bits >> 6))
        deviations = f64x2.add(deviations, f64x2.add(f64x2.add(a, b), f64x2.add(c, d)))
        squares = f64x2.add(
          squares,
          f64x2.add(f64x2.add(f64x2.mul(a, a), f64x2.mul(b, b)), f64x2.add(f64x2.mul(c, c), f64x2.mul(d, d))),
        )
      } else {
        for (let rest = bits & 0xff; rest !== 0; rest &= rest - 1) {
          const deviation = withOther(loadNumber<T>(at + ((<usize>ctz(rest)) << 3)) - mean, 0)
          deviations = f64x2.add(deviations, deviation)
          squares = f64x2.add(squares, f64x2.mul(deviation, deviation))
        }
      }
    }
  }
  return correctedSquares(addLanes(squares), addLanes(deviations), count)
}

/**
 * Adds rows [rowStart, rowEnd) that are not numbers to one bucket. For LastTime the values are the times, and ptr is where
 * the bucket's last time stands.
 */
function addOther<T>(
  valuesPtr: usize,
  validityPtr: usize,
  rowStart: i32,
  rowEnd: i32,
  ptr: usize,
  stride: usize,
  which: i32,
): void {
  if (sizeof<T>() === 2) {
    let row = rowEnd - 1
    if (validityPtr) while (row >= rowStart && !isSet(validityPtr, row)) row--
    if (row >= rowStart) store<i64>(ptr, load<i64>(valuesPtr + ((<usize>row) << 3)))
    return
  }
  const presentCount = validityPtr ? countBitRange(validityPtr, rowStart, rowEnd) : rowEnd - rowStart
  if (presentCount === 0) return
  const count = <f64>presentCount
  if (isBoolean<T>()) {
    const sum = <f64>countTrue(valuesPtr, validityPtr, rowStart, rowEnd)
    if (which & WHICH_VARIANCE) addMoments(ptr, stride, count, sum / count, (sum * (count - sum)) / count)
    if (which & WHICH_SUM) store<f64>(ptr + stride, load<f64>(ptr + stride) + sum)
    if (which & WHICH_EXTREMES) addExtremes(ptr, stride, sum === count ? 1 : 0, sum > 0 ? 1 : 0)
    if (which & WHICH_LAST) {
      const row = validityPtr ? lastPresentRow(validityPtr, rowEnd) : rowEnd - 1
      store<f64>(ptr + stride * 4, isSet(valuesPtr, row) ? 1 : 0)
    }
  }
  store<f64>(ptr, load<f64>(ptr) + count)
}

/** The last row before rowEnd whose bit is set; there is one. */
function lastPresentRow(validityPtr: usize, rowEnd: i32): i32 {
  let row = rowEnd - 1
  while (!isSet(validityPtr, row)) row--
  return row
}

/** The rows of [rowStart, rowEnd) that are present and true. */
function countTrue(bitsPtr: usize, validityPtr: usize, rowStart: i32, rowEnd: i32): i32 {
  if (!validityPtr) return countBitRange(bitsPtr, rowStart, rowEnd)
  let count: i32 = 0
  for (let row = rowStart; row < rowEnd; row += 64) {
    const bitCount = min(rowEnd - row, 64)
    count += <i32>popcnt(loadBits(bitsPtr, row, bitCount) & loadBits(validityPtr, row, bitCount))
  }
  return count
}

/** How many of eight ascending times from ptr on are before endNs. */
function countBefore(ptr: usize, endNs: i64): i32 {
  const end = i64x2.splat(endNs)
  const a = i64x2.lt_s(v128.load(ptr), end)
  const b = i64x2.lt_s(v128.load(ptr, 16), end)
  const c = i64x2.lt_s(v128.load(ptr, 32), end)
  const d = i64x2.lt_s(v128.load(ptr, 48), end)
  // Each lane that holds is -1.
  const total = i64x2.add(i64x2.add(a, b), i64x2.add(c, d))
  return -(<i32>(i64x2.extract_lane(total, 0) + i64x2.extract_lane(total, 1)))
}

/**
 * The first row from `low` on with times[row] >= endNs, or rowCount. What is near is counted eight rows at a time, then the
 * search gallops (J. L. Bentley, A. C. Yao, An Almost Optimal Algorithm for Unbounded Searching, 1976).
 */
function firstFrom(timesPtr: usize, low: i32, rowCount: i32, endNs: i64): i32 {
  for (let step = 0; step < 4 && low + 8 <= rowCount; step++) {
    const count = countBefore(timesPtr + ((<usize>low) << 3), endNs)
    low += count
    if (count < 8) return low
  }
  let width = 8
  while (low + width <= rowCount && load<i64>(timesPtr + ((<usize>(low + width - 1)) << 3)) < endNs) {
    low += width
    width <<= 1
  }
  return lowerBoundInt64(timesPtr, low, min(low + width, rowCount), endNs)
}

/** The end of the run that begins at `row`, searched from three quarters of the length of the run before if that is in it. */
function endOfRun(timesPtr: usize, row: i32, rowCount: i32, endNs: i64, lengthBefore: i32): i32 {
  const near = row + lengthBefore - (lengthBefore >> 2)
  const isNear = lengthBefore > 16 && near < rowCount && load<i64>(timesPtr + ((<usize>near) << 3)) < endNs
  return firstFrom(timesPtr, isNear ? near + 1 : row + 1, rowCount, endNs)
}

/** Whether the run that begins at `row` ends at `rowEnd`: the row before is in it and the row there is not. */
function isEndOfRun(timesPtr: usize, rowEnd: i32, rowCount: i32, endNs: i64): bool {
  if (rowEnd >= rowCount) return false
  const ptr = timesPtr + ((<usize>rowEnd) << 3)
  return load<i64>(ptr - 8) < endNs && load<i64>(ptr) >= endNs
}

/** Cuts the rows into runs of one bucket each and adds them. Safe for times in any order, right for ascending ones. */
function accumulate<T>(
  timesPtr: usize,
  valuesPtr: usize,
  validityPtr: usize,
  rowCount: i32,
  startNs: i64,
  stepNs: i64,
  bucketCount: i32,
  statePtr: usize,
  which: i32,
): void {
  // A step below 1 is a mistake of ours, and would send writes anywhere.
  if (stepNs <= 0) unreachable()
  const stride = (<usize>bucketCount) << 3
  let row = lowerBoundInt64(timesPtr, 0, rowCount, startNs)
  let runLength = 1
  // How many runs in a row had that length, up to 2.
  let regularCount = 0
  // Where the next bucket begins, and its number.
  let nextNs = startNs
  let next: i64 = 0
  while (row < rowCount) {
    const timeNs = load<i64>(timesPtr + ((<usize>row) << 3))
    // Only a time outside the next bucket needs a division. Unsigned: startNs may be far below 0 and the time far above.
    if (<u64>(timeNs - nextNs) >= <u64>stepNs) {
      next = <i64>(<u64>(timeNs - startNs) / <u64>stepNs)
      nextNs = startNs + next * stepNs
    }
    if (<u64>next >= <u64>max(bucketCount, 0)) return
    const ptr = statePtr + ((<usize>next) << 3)
    next++
    nextNs += stepNs
    // Past the end of int64 the sum wraps below the time: the bucket is open.
    const endNs = nextNs > timeNs ? nextNs : i64.MAX_VALUE
    // In a regular series each run is as long as the one before, which the processor learns to foresee.
    let rowEnd = row + runLength
    if ((regularCount < 2 && runLength <= 16) || !isEndOfRun(timesPtr, rowEnd, rowCount, endNs)) {
      rowEnd = endOfRun(timesPtr, row, rowCount, endNs, runLength)
      regularCount = rowEnd - row === runLength ? regularCount + 1 : 0
      runLength = rowEnd - row
    }
    if (isFloat<T>() || sizeof<T>() === 8) {
      if (runLength <= 8 && row + 8 <= rowCount) {
        const at = valuesPtr + ((<usize>row) << 3)
        const bits = validityPtr ? loadBits(validityPtr, row, runLength) : lowBits(runLength)
        row = rowEnd
        if (bits === 0) continue
        if (which & WHICH_VARIANCE) addMomentsOfFew<T>(at, bits, ptr, stride)
        if (!addFew<T>(at, bits, ptr, stride, which)) addFewSpecial(at, bits, ptr, stride, which)
        continue
      }
    }
    while (row < rowEnd) {
      const pieceEnd = min(row + PIECE_ROWS, rowEnd)
      if (isFloat<T>() || sizeof<T>() === 8) {
        addRun<T>(valuesPtr, validityPtr, row, pieceEnd, rowCount, ptr, stride, which)
      } else {
        addOther<T>(valuesPtr, validityPtr, row, pieceEnd, ptr, stride, which)
      }
      row = pieceEnd
    }
  }
}

/**
 * Adds the rows of a float64 column to their buckets: bucket i holds startNs + i × stepNs <= time < startNs + (i + 1) ×
 * stepNs. Rows outside the buckets and missing rows are skipped. NaN counts, and makes sum, min, max, mean and m2 NaN.
 *
 * times     rowCount × i64, ascending (equal ones are fine), 8-byte aligned, read only
 * values    rowCount × f64, 8-byte aligned, read only
 * validity  ceil(rowCount / 8) bytes, read only; 0: none missing
 * stepNs    1 or more
 * state     windowStateByteLength(bucketCount) bytes, 8-byte aligned, as described above
 * which     the sum of what is to be kept: 2 sum, 4 min and max, 8 last, 16 mean and m2; the count always is. What is not
 *           asked for may or may not be kept
 */
export function accumulateWindowsFloat64(
  timesPtr: usize,
  valuesPtr: usize,
  validityPtr: usize,
  rowCount: i32,
  startNs: i64,
  stepNs: i64,
  bucketCount: i32,
  statePtr: usize,
  which: i32,
): void {
  accumulate<f64>(timesPtr, valuesPtr, validityPtr, rowCount, startNs, stepNs, bucketCount, statePtr, which)
}

/** As accumulateWindowsFloat64 for an int64 column; each value is rounded to float64 first. */
export function accumulateWindowsInt64(
  timesPtr: usize,
  valuesPtr: usize,
  validityPtr: usize,
  rowCount: i32,
  startNs: i64,
  stepNs: i64,
  bucketCount: i32,
  statePtr: usize,
  which: i32,
): void {
  accumulate<i64>(timesPtr, valuesPtr, validityPtr, rowCount, startNs, stepNs, bucketCount, statePtr, which)
}

/** As accumulateWindowsFloat64 for a bool column (ceil(rowCount / 8) bytes), whose values count as 1.0 and 0.0. */
export function accumulateWindowsBits(
  timesPtr: usize,
  bitsPtr: usize,
  validityPtr: usize,
  rowCount: i32,
  startNs: i64,
  stepNs: i64,
  bucketCount: i32,
  statePtr: usize,
  which: i32,
): void {
  accumulate<Bit>(timesPtr, bitsPtr, validityPtr, rowCount, startNs, stepNs, bucketCount, statePtr, which)
}

/** As accumulateWindowsFloat64 for columns whose values are no numbers: only the present rows are counted. */
export function accumulateWindowsCount(
  timesPtr: usize,
  validityPtr: usize,
  rowCount: i32,
  startNs: i64,
  stepNs: i64,
  bucketCount: i32,
  statePtr: usize,
): void {
  accumulate<Counted>(timesPtr, 0, validityPtr, rowCount, startNs, stepNs, bucketCount, statePtr, 0)
}

/**
 * Keeps the time of the last present row of each bucket, in addition to a state: what combineWindowsByTime needs.
 *
 * lastTimes  bucketCount × i64, 8-byte aligned; before the first batch all i64's least (fillInt64)
 */
export function accumulateWindowsLastTime(
  timesPtr: usize,
  validityPtr: usize,
  rowCount: i32,
  startNs: i64,
  stepNs: i64,
  bucketCount: i32,
  lastTimesPtr: usize,
): void {
  accumulate<LastTime>(timesPtr, timesPtr, validityPtr, rowCount, startNs, stepNs, bucketCount, lastTimesPtr, 0)
}

/**
 * Adds rows to look-back windows: that of bucket i ends at Ti = startNs + i × stepNs and holds Ti - windowNs <= time <= Ti,
 * or, when windowNs equals stepNs, Ti - windowNs < time <= Ti. Windows longer than a step overlap, and a row counts in
 * each that holds it. Safe for times in any order, right for ascending ones.
 */
function accumulateLookback<T>(
  timesPtr: usize,
  valuesPtr: usize,
  validityPtr: usize,
  rowCount: i32,
  startNs: i64,
  stepNs: i64,
  bucketCount: i32,
  windowNs: i64,
  statePtr: usize,
  which: i32,
): void {
  // A mistake of ours, as in accumulate.
  if (stepNs <= 0 || windowNs < 0) unreachable()
  if (rowCount <= 0) return
  const stride = (<usize>bucketCount) << 3
  const firstNs = load<i64>(timesPtr)
  const lastNs = load<i64>(timesPtr + ((<usize>rowCount) << 3) - 8)
  // The first window that does not end before the first row. Unsigned, as in accumulate.
  let bucket: u64 = firstNs > startNs ? (<u64>(firstNs - startNs) - 1) / <u64>stepNs + 1 : 0
  // The last one that ends within int64.
  const lastBucket = <u64>(i64.MAX_VALUE - startNs) / <u64>stepNs
  let rowStart = 0
  let rowEnd = 0
  for (; bucket < <u64>max(bucketCount, 0) && bucket <= lastBucket; bucket++) {
    const endNs = startNs + <i64>bucket * stepNs
    // Below the least int64 there is nothing to look back to.
    let beginNs = endNs < i64.MIN_VALUE + windowNs ? i64.MIN_VALUE : endNs - windowNs
    if (windowNs === stepNs && endNs - beginNs === windowNs) beginNs++
    if (beginNs > lastNs) return
    rowStart = firstFrom(timesPtr, rowStart, rowCount, beginNs)
    rowEnd = endNs === i64.MAX_VALUE ? rowCount : firstFrom(timesPtr, max(rowStart, rowEnd), rowCount, endNs + 1)
    const ptr = statePtr + ((<usize>bucket) << 3)
    for (let row = rowStart; row < rowEnd; row += PIECE_ROWS) {
      const pieceEnd = min(row + PIECE_ROWS, rowEnd)
      if (isFloat<T>() || sizeof<T>() === 8) {
        addRun<T>(valuesPtr, validityPtr, row, pieceEnd, rowCount, ptr, stride, which)
      } else {
        addOther<T>(valuesPtr, validityPtr, row, pieceEnd, ptr, stride, which)
      }
    }
  }
}

/**
 * Adds the rows of a float64 column to look-back windows: that of bucket i ends at Ti = startNs + i × stepNs and holds
 * Ti - windowNs <= time <= Ti, without its beginning when windowNs equals stepNs. Windows longer than a step overlap.
 * windowNs is 0 or more; all else as accumulateWindowsFloat64, also the state.
 */
export function accumulateLookbackFloat64(
  timesPtr: usize,
  valuesPtr: usize,
  validityPtr: usize,
  rowCount: i32,
  startNs: i64,
  stepNs: i64,
  bucketCount: i32,
  windowNs: i64,
  statePtr: usize,
  which: i32,
): void {
  accumulateLookback<f64>(
    timesPtr,
    valuesPtr,
    validityPtr,
    rowCount,
    startNs,
    stepNs,
    bucketCount,
    windowNs,
    statePtr,
    which,
  )
}

/** As accumulateLookbackFloat64 for an int64 column; each value is rounded to float64 first. */
export function accumulateLookbackInt64(
  timesPtr: usize,
  valuesPtr: usize,
  validityPtr: usize,
  rowCount: i32,
  startNs: i64,
  stepNs: i64,
  bucketCount: i32,
  windowNs: i64,
  statePtr: usize,
  which: i32,
): void {
  accumulateLookback<i64>(
    timesPtr,
    valuesPtr,
    validityPtr,
    rowCount,
    startNs,
    stepNs,
    bucketCount,
    windowNs,
    statePtr,
    which,
  )
}

/** As accumulateLookbackFloat64 for a bool column, whose values count as 1.0 and 0.0. */
export function accumulateLookbackBits(
  timesPtr: usize,
  bitsPtr: usize,
  validityPtr: usize,
  rowCount: i32,
  startNs: i64,
  stepNs: i64,
  bucketCount: i32,
  windowNs: i64,
  statePtr: usize,
  which: i32,
): void {
  accumulateLookback<Bit>(
    timesPtr,
    bitsPtr,
    validityPtr,
    rowCount,
    startNs,
    stepNs,
    bucketCount,
    windowNs,
    statePtr,
    which,
  )
}

/** As accumulateLookbackFloat64 for columns whose values are no numbers: only the present rows are counted. */
export function accumulateLookbackCount(
  timesPtr: usize,
  validityPtr: usize,
  rowCount: i32,
  startNs: i64,
  stepNs: i64,
  bucketCount: i32,
  windowNs: i64,
  statePtr: usize,
): void {
  accumulateLookback<Counted>(timesPtr, 0, validityPtr, rowCount, startNs, stepNs, bucketCount, windowNs, statePtr, 0)
}

/** As accumulateWindowsLastTime, for look-back windows. */
export function accumulateLookbackLastTime(
  timesPtr: usize,
  validityPtr: usize,
  rowCount: i32,
  startNs: i64,
  stepNs: i64,
  bucketCount: i32,
  windowNs: i64,
  lastTimesPtr: usize,
): void {
  accumulateLookback<LastTime>(
    timesPtr,
    timesPtr,
    validityPtr,
    rowCount,
    startNs,
    stepNs,
    bucketCount,
    windowNs,
    lastTimesPtr,
    0,
  )
}

/**
 * Cuts rows [rowStart, rowEnd) into stretches: runs of rows whose times lie between the same two multiples of grainNs.
 * Returns how many there are, or -1 when they are more than `capacity`; then what was written has no meaning.
 *
 * times   i64 ns, 0 or more, ascending in the range
 * rows    capacity × i64: the first row of each stretch
 * firsts  capacity × i64: the time of that row
 * lasts   capacity × i64: the time of the stretch's last row
 */
export function cutStretches(
  timesPtr: usize,
  rowStart: i32,
  rowEnd: i32,
  grainNs: i64,
  rowsPtr: usize,
  firstsPtr: usize,
  lastsPtr: usize,
  capacity: i32,
): i32 {
  if (grainNs <= 0) unreachable()
  let count = 0
  let length = 1
  for (let row = rowStart; row < rowEnd; count++) {
    if (count >= capacity) return -1
    const timeNs = load<i64>(timesPtr + ((<usize>row) << 3))
    const beginNs = timeNs - (timeNs % grainNs)
    const endNs = beginNs > i64.MAX_VALUE - grainNs ? i64.MAX_VALUE : beginNs + grainNs
    const end = endOfRun(timesPtr, row, rowEnd, endNs, length)
    length = end - row
    const at = (<usize>count) << 3
    store<i64>(rowsPtr + at, row)
    store<i64>(firstsPtr + at, timeNs)
    store<i64>(lastsPtr + at, load<i64>(timesPtr + ((<usize>(end - 1)) << 3)))
    row = end
  }
  return count
}

/** Adds each run of rows to a bucket of its own. */
function accumulateRuns<T>(
  valuesPtr: usize,
  validityPtr: usize,
  rowsPtr: usize,
  runCount: i32,
  rowEnd: i32,
  statePtr: usize,
  which: i32,
): void {
  const stride = (<usize>runCount) << 3
  for (let run = 0; run < runCount; run++) {
    const at = (<usize>run) << 3
    const end = run + 1 < runCount ? <i32>load<i64>(rowsPtr + at + 8) : rowEnd
    for (let row = <i32>load<i64>(rowsPtr + at); row < end; row += PIECE_ROWS) {
      const pieceEnd = min(row + PIECE_ROWS, end)
      if (isFloat<T>() || sizeof<T>() === 8) {
        addRun<T>(valuesPtr, validityPtr, row, pieceEnd, rowEnd, statePtr + at, stride, which)
      } else {
        addOther<T>(valuesPtr, validityPtr, row, pieceEnd, statePtr + at, stride, which)
      }
    }
  }
}

/**
 * Adds the rows of a float64 column to one bucket for each run of rows.
 *
 * rows    runCount × i64, ascending: where each run begins; it ends where the next one begins, the last one at rowEnd
 * rowEnd  rows that the column has at least
 * state   windowStateByteLength(runCount) bytes, initWindows was called; all else as accumulateWindowsFloat64
 */
export function accumulateRunsFloat64(
  valuesPtr: usize,
  validityPtr: usize,
  rowsPtr: usize,
  runCount: i32,
  rowEnd: i32,
  statePtr: usize,
  which: i32,
): void {
  accumulateRuns<f64>(valuesPtr, validityPtr, rowsPtr, runCount, rowEnd, statePtr, which)
}

/** As accumulateRunsFloat64 for an int64 column; each value is rounded to float64 first. */
export function accumulateRunsInt64(
  valuesPtr: usize,
  validityPtr: usize,
  rowsPtr: usize,
  runCount: i32,
  rowEnd: i32,
  statePtr: usize,
  which: i32,
): void {
  accumulateRuns<i64>(valuesPtr, validityPtr, rowsPtr, runCount, rowEnd, statePtr, which)
}

/** As accumulateRunsFloat64 for a bool column, whose values count as 1.0 and 0.0. */
export function accumulateRunsBits(
  bitsPtr: usize,
  validityPtr: usize,
  rowsPtr: usize,
  runCount: i32,
  rowEnd: i32,
  statePtr: usize,
  which: i32,
): void {
  accumulateRuns<Bit>(bitsPtr, validityPtr, rowsPtr, runCount, rowEnd, statePtr, which)
}

/** Adds the rows of a page to the buckets that are told for each; runs of rows of one bucket are added together. */
function accumulateBuckets<T>(
  valuesPtr: usize,
  validityPtr: usize,
  bucketsPtr: usize,
  rowCount: i32,
  statePtr: usize,
  bucketCount: i32,
  which: i32,
): void {
  const stride = (<usize>bucketCount) << 3
  for (let row = 0; row < rowCount; ) {
    const bucket = load<u32>(bucketsPtr + ((<usize>row) << 2))
    const first = row++
    const rowEnd = min(first + PIECE_ROWS, rowCount)
    while (row < rowEnd && load<u32>(bucketsPtr + ((<usize>row) << 2)) === bucket) row++
    if (bucket === NO_BUCKET) continue
    if (bucket >= <u32>bucketCount) unreachable()
    const ptr = statePtr + ((<usize>bucket) << 3)
    if (isFloat<T>() || sizeof<T>() === 8) {
      addRun<T>(valuesPtr, validityPtr, first, row, rowCount, ptr, stride, which)
    } else {
      addOther<T>(valuesPtr, validityPtr, first, row, ptr, stride, which)
    }
  }
}

/**
 * Adds the rows of a float64 column to the buckets that are told for each.
 *
 * buckets  rowCount × u32: the bucket of each row (see bucketsOfRows), or 0xffffffff: none
 * state    windowStateByteLength(bucketCount) bytes; all else as accumulateWindowsFloat64
 */
export function accumulateBucketsFloat64(
  valuesPtr: usize,
  validityPtr: usize,
  bucketsPtr: usize,
  rowCount: i32,
  statePtr: usize,
  bucketCount: i32,
  which: i32,
): void {
  accumulateBuckets<f64>(valuesPtr, validityPtr, bucketsPtr, rowCount, statePtr, bucketCount, which)
}

/** As accumulateBucketsFloat64 for an int64 column; each value is rounded to float64 first. */
export function accumulateBucketsInt64(
  valuesPtr: usize,
  validityPtr: usize,
  bucketsPtr: usize,
  rowCount: i32,
  statePtr: usize,
  bucketCount: i32,
  which: i32,
): void {
  accumulateBuckets<i64>(valuesPtr, validityPtr, bucketsPtr, rowCount, statePtr, bucketCount, which)
}

/** As accumulateBucketsFloat64 for a bool column, whose values count as 1.0 and 0.0. */
export function accumulateBucketsBits(
  bitsPtr: usize,
  validityPtr: usize,
  bucketsPtr: usize,
  rowCount: i32,
  statePtr: usize,
  bucketCount: i32,
  which: i32,
): void {
  accumulateBuckets<Bit>(bitsPtr, validityPtr, bucketsPtr, rowCount, statePtr, bucketCount, which)
}

/** Whether a digest lies in [startNs, endNs) and in one bucket. Unsigned, as in accumulate. */
function isUsable(firstNs: i64, lastNs: i64, startNs: i64, endNs: i64, bucketNs: i64, stepNs: i64): bool {
  if (firstNs < startNs || lastNs >= endNs) return false
  return <u64>(firstNs - bucketNs) / <u64>stepNs === <u64>(lastNs - bucketNs) / <u64>stepNs
}

/**
 * The first of digests [from, to) that can be taken whole (wanted 1), or that cannot (wanted 0); `to` when there is none. A
 * digest is taken whole when all its rows are in [startNs, endNs) and in one of the buckets that begin at bucketNs and are
 * stepNs long; startNs is not before bucketNs.
 *
 * firsts, lasts  i64 ns: times of the first and the last row of each digest
 */
export function findDigest(
  firstsPtr: usize,
  lastsPtr: usize,
  from: i32,
  to: i32,
  startNs: i64,
  endNs: i64,
  bucketNs: i64,
  stepNs: i64,
  wanted: i32,
): i32 {
  if (stepNs <= 0) unreachable()
  for (let digest = from; digest < to; digest++) {
    const at = (<usize>digest) << 3
    const found = isUsable(load<i64>(firstsPtr + at), load<i64>(lastsPtr + at), startNs, endNs, bucketNs, stepNs)
    if (found === (wanted !== 0)) return digest
  }
  return to
}

/**
 * Adds digests to the buckets that hold them, as if their rows were added one by one, but for rounding of sums. Digests without
 * a value are passed over, and those outside the buckets. What is not among `which` may be 0.
 *
 * firsts  digestCount × i64, ascending: a time in each digest
 * counts, sums, mins, maxs, lasts, m2s  digestCount × f64 each; m2s need sums
 * all else as accumulateWindowsFloat64
 */
export function combineDigests(
  firstsPtr: usize,
  countsPtr: usize,
  sumsPtr: usize,
  minsPtr: usize,
  maxsPtr: usize,
  lastsPtr: usize,
  m2sPtr: usize,
  digestCount: i32,
  startNs: i64,
  stepNs: i64,
  bucketCount: i32,
  statePtr: usize,
  which: i32,
): void {
  if (stepNs <= 0) unreachable()
  const stride = (<usize>bucketCount) << 3
  for (let digest = 0; digest < digestCount; digest++) {
    const at = (<usize>digest) << 3
    const count = load<f64>(countsPtr + at)
    const timeNs = load<i64>(firstsPtr + at)
    if (!(count > 0) || timeNs < startNs) continue
    const bucket = <u64>(timeNs - startNs) / <u64>stepNs
    if (bucket >= <u64>max(bucketCount, 0)) return
    const ptr = statePtr + ((<usize>bucket) << 3)
    addDigest(ptr, stride, count, sumsPtr, minsPtr, maxsPtr, lastsPtr, m2sPtr, at, which)
  }
}

/** Adds one bucket with rows to another, all but the last value. */
function combineBucket(from: usize, into: usize, stride: usize): void {
  const count = load<f64>(from)
  addMoments(into, stride, count, load<f64>(from + stride * 5), load<f64>(from + stride * 6))
  addExtremes(into, stride, load<f64>(from + stride * 2), load<f64>(from + stride * 3))
  store<f64>(into + stride, load<f64>(into + stride) + load<f64>(from + stride))
  store<f64>(into, load<f64>(into) + count)
}

/**
 * Adds the buckets of one state to those of another with the same buckets. The last value becomes that of `from` where
 * `from` has rows, so `from` must be the later part of the series.
 */
export function combineWindows(fromStatePtr: usize, intoStatePtr: usize, bucketCount: i32): void {
  const stride = (<usize>bucketCount) << 3
  for (let at: usize = 0; at < stride; at += 8) {
    if (load<f64>(fromStatePtr + at) === 0) continue
    combineBucket(fromStatePtr + at, intoStatePtr + at, stride)
    store<f64>(intoStatePtr + at + stride * 4, load<f64>(fromStatePtr + at + stride * 4))
  }
}

/**
 * Adds the buckets of one state to those of another with the same buckets, for series that are pooled: the last value is
 * the one with the greater time, and of equal times that of `from`. The last times are combined too.
 *
 * lastTimes  bucketCount × i64, as accumulateWindowsLastTime keeps them
 */
export function combineWindowsByTime(
  fromStatePtr: usize,
  fromLastTimesPtr: usize,
  intoStatePtr: usize,
  intoLastTimesPtr: usize,
  bucketCount: i32,
): void {
  const stride = (<usize>bucketCount) << 3
  for (let at: usize = 0; at < stride; at += 8) {
    if (load<f64>(fromStatePtr + at) === 0) continue
    combineBucket(fromStatePtr + at, intoStatePtr + at, stride)
    const lastTimeNs = load<i64>(fromLastTimesPtr + at)
    if (lastTimeNs < load<i64>(intoLastTimesPtr + at)) continue
    store<i64>(intoLastTimesPtr + at, lastTimeNs)
    store<f64>(intoStatePtr + at + stride * 4, load<f64>(fromStatePtr + at + stride * 4))
  }
}

/**
 * Sets the bits of the buckets that have rows; other bits stay, so that the metrics of a frame can be put together.
 * Returns the number of buckets of this state that have rows.
 *
 * mask  ceil(bucketCount / 8) bytes
 */
export function occupiedWindows(statePtr: usize, bucketCount: i32, maskPtr: usize): i32 {
  let occupiedCount: i32 = 0
  for (let bucket = 0; bucket < bucketCount; bucket++) {
    if (load<f64>(statePtr + ((<usize>bucket) << 3)) === 0) continue
    setBit(maskPtr, bucket)
    occupiedCount++
  }
  return occupiedCount
}

/** The value of one aggregate for a bucket that has rows. */
function finish(ptr: usize, stride: usize, count: f64, aggregate: i32): f64 {
  switch (aggregate) {
    case 0:
      return count
    case 1:
      return load<f64>(ptr + stride)
    case 2: {
      // Both parts are positive, so nothing cancels. An infinite m2 stands for infinite values; NaN for NaN.
      const m2 = load<f64>(ptr + stride * 6)
      const mean = load<f64>(ptr + stride * 5)
      return m2 === Infinity ? m2 : m2 + count * mean * mean
    }
    case 3:
      return load<f64>(ptr + stride * 2)
    case 4:
      return load<f64>(ptr + stride * 3)
    case 5:
      return load<f64>(ptr + stride * 4)
    case 6:
      return load<f64>(ptr + stride) / count
    default: {
      // One value has no variance, and neither have infinite ones.
      if (count < 2 || !(abs(load<f64>(ptr + stride * 5)) < Infinity)) return NaN
      const variance = max<f64>(0, load<f64>(ptr + stride * 6) / (count - 1))
      return aggregate === 7 ? variance : sqrt(variance)
    }
  }
}

/**
 * Writes one aggregate of all buckets: 0 count, 1 sum, 2 sqr (the sum of the squares), 3 min, 4 max, 5 last, 6 avg,
 * 7 stdvar (of the sample; NaN for one value), 8 stddev. Buckets without rows become NaN, also for count.
 * Needs what accumulating was told to keep: sum and avg 2, min and max 4, last 8, sqr, stdvar and stddev 16.
 *
 * target  bucketCount × f64, 8-byte aligned
 */
export function finishWindows(statePtr: usize, bucketCount: i32, aggregate: i32, targetPtr: usize): void {
  const stride = (<usize>bucketCount) << 3
  for (let at: usize = 0; at < stride; at += 8) {
    const count = load<f64>(statePtr + at)
    store<f64>(targetPtr + at, count > 0 ? finish(statePtr + at, stride, count, aggregate) : NaN)
  }
}

/**
 * Writes the rate of each bucket, per second: the difference of its last value and that of the nearest earlier bucket
 * with rows, over the time between the two buckets. NaN for the first bucket with rows and for those without.
 * Counter resets are not corrected: rates may be negative. Needs 8 (last) in accumulating.
 *
 * target  bucketCount × f64, 8-byte aligned
 */
export function finishRate(statePtr: usize, bucketCount: i32, _startNs: i64, stepNs: i64, targetPtr: usize): void {
  const stride = (<usize>bucketCount) << 3
  let before = -1
  for (let bucket = 0; bucket < bucketCount; bucket++) {
    const ptr = statePtr + ((<usize>bucket) << 3)
    let rate: f64 = NaN
    if (load<f64>(ptr) > 0) {
      if (before >= 0) {
        const lastBefore = load<f64>(statePtr + ((<usize>before) << 3) + stride * 4)
        rate = (load<f64>(ptr + stride * 4) - lastBefore) / (<f64>(<i64>(bucket - before) * stepNs) / 1e9)
      }
      before = bucket
    }
    store<f64>(targetPtr + ((<usize>bucket) << 3), rate)
  }
}

/**
 * The times at which buckets begin.
 *
 * indexes  u32, count of them: bucket numbers, read only
 * target   count × i64 ns, overwritten
 */
export function bucketTimes(indexesPtr: usize, count: i32, startNs: i64, stepNs: i64, targetPtr: usize): void {
  for (let i = 0; i < count; i++) {
    const bucket = <i64>load<u32>(indexesPtr + ((<usize>i) << 2))
    store<i64>(targetPtr + ((<usize>i) << 3), startNs + bucket * stepNs)
  }
}
