// Aggregates of the buckets of a series: count, sum, extremes, last and variance for each time step of sorted times.
//
// The state of bucketCount buckets is seven arrays of f64, each bucketCount long, one after another:
//
//   count | sum | min | max | last | mean | m2        m2: the sum of the squared deviations from the mean
//
// It is kept across calls, so that a series can be fed in batches, and two states of the same buckets can be combined.
// However the batches are cut, count, min, max and last are the same to the bit; sum, mean and m2 but for rounding.
import { countBitRange, isSet, loadBits, setBit } from './bits'
import { lowerBoundInt64 } from './compare'
import { leastOfRun, loadNumber, squaresOfRun, sumAndExtremes, sumRun } from './reduce'

/** What accumulating is to keep besides the count: the bits of `which`. */
const WHICH_SUM = 2
const WHICH_EXTREMES = 4
const WHICH_LAST = 8
const WHICH_VARIANCE = 16

/** The types of rows besides f64 and i64: one bit a row; and rows that are only counted. */
type Bit = bool
type Counted = u8

/** A run is summed in pieces of this many rows, which stay in the nearest cache for the second pass of the variance. */
const PIECE_ROWS = 2048

/** The bytes of a state: 7 × bucketCount × 8. */
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
 * Adds count values with this mean and m2 to those of a bucket (T. F. Chan, G. H. Golub, R. J. LeVeque, Updating Formulae
 * and a Pairwise Algorithm for Computing Sample Variances, 1979). Must be called before the bucket's count is raised.
 * An infinite value makes the mean infinite or NaN and m2 Infinity; a NaN makes both NaN.
 */
function addMoments(ptr: usize, stride: usize, count: f64, mean: f64, m2: f64): void {
  const countBefore = load<f64>(ptr)
  const meanPtr = ptr + stride * 5
  const m2Ptr = ptr + stride * 6
  if (countBefore === 0) {
    store<f64>(meanPtr, mean)
    store<f64>(m2Ptr, m2)
    return
  }
  const meanBefore = load<f64>(meanPtr)
  const distance = mean - meanBefore
  const share = count / (countBefore + count)
  if (abs(distance) < Infinity) {
    store<f64>(meanPtr, meanBefore + distance * share)
    store<f64>(m2Ptr, load<f64>(m2Ptr) + m2 + distance * distance * (countBefore * share))
  } else {
    store<f64>(meanPtr, meanBefore + mean)
    store<f64>(m2Ptr, load<f64>(m2Ptr) + m2)
  }
}

/** Adds rows [rowStart, rowEnd) of a column to one bucket; ptr is where the bucket's count stands. */
function addRows<T>(
  valuesPtr: usize,
  validityPtr: usize,
  rowStart: i32,
  rowEnd: i32,
  ptr: usize,
  stride: usize,
  which: i32,
): void {
  const presentCount = validityPtr ? countBitRange(validityPtr, rowStart, rowEnd) : rowEnd - rowStart
  if (presentCount === 0) return
  const count = <f64>presentCount

  if (isFloat<T>() || sizeof<T>() === 8) {
    // A run without gaps needs no validity.
    const presentPtr = presentCount === rowEnd - rowStart ? <usize>0 : validityPtr
    if (which & (WHICH_SUM | WHICH_EXTREMES | WHICH_VARIANCE)) {
      const sum =
        which & WHICH_EXTREMES
          ? sumAndExtremes<T>(valuesPtr, presentPtr, rowStart, rowEnd, ptr + stride * 2, ptr + stride * 3)
          : sumRun<T>(valuesPtr, presentPtr, rowStart, rowEnd)
      store<f64>(ptr + stride, load<f64>(ptr + stride) + sum)
      if (which & WHICH_VARIANCE) {
        const mean = sum / count
        let m2: f64 = Infinity
        if (abs(mean) < Infinity) {
          m2 = squaresOfRun<T>(valuesPtr, presentPtr, rowStart, rowEnd, presentCount, mean)
        } else {
          const least = leastOfRun<T>(valuesPtr, presentPtr, rowStart, rowEnd, 0)
          if (!(least <= Infinity)) m2 = NaN
        }
        addMoments(ptr, stride, count, mean, m2)
      }
    }
    if (which & WHICH_LAST) {
      const row = presentPtr ? lastPresentRow(presentPtr, rowEnd) : rowEnd - 1
      store<f64>(ptr + stride * 4, loadNumber<T>(valuesPtr + ((<usize>row) << 3)))
    }
  } else if (isBoolean<T>()) {
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

/** Lowers the bucket's min and raises its max; NaN stays NaN. */
function addExtremes(ptr: usize, stride: usize, least: f64, greatest: f64): void {
  store<f64>(ptr + stride * 2, min(load<f64>(ptr + stride * 2), least))
  store<f64>(ptr + stride * 3, max(load<f64>(ptr + stride * 3), greatest))
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

/**
 * The first row after `row` with times[row] >= endNs, or rowCount. Most series are regular, so it is tried whether the
 * run is as long as the one before; then the search gallops from there (J. L. Bentley, A. C. Yao, An Almost Optimal
 * Algorithm for Unbounded Searching, 1976).
 */
function endOfRun(timesPtr: usize, row: i32, rowCount: i32, endNs: i64, lengthBefore: i32): i32 {
  // All rows before `low` are before endNs.
  let low = row + 1
  const guess = min(row + lengthBefore, rowCount)
  if (load<i64>(timesPtr + ((<usize>guess) << 3) - 8) < endNs) {
    if (guess === rowCount || load<i64>(timesPtr + ((<usize>guess) << 3)) >= endNs) return guess
    low = guess + 1
  }
  let width = 1
  while (low + width <= rowCount && load<i64>(timesPtr + ((<usize>(low + width - 1)) << 3)) < endNs) {
    low += width
    width <<= 1
  }
  return lowerBoundInt64(timesPtr, low, min(low + width, rowCount), endNs)
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
    const rowEnd = endOfRun(timesPtr, row, rowCount, endNs, runLength)
    runLength = rowEnd - row
    while (row < rowEnd) {
      const pieceEnd = min(row + PIECE_ROWS, rowEnd)
      addRows<T>(valuesPtr, validityPtr, row, pieceEnd, ptr, stride, which)
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
 * which     the sum of what is to be kept: 2 sum, 4 min and max, 8 last, 16 mean and m2; the count always is
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
 * Adds the buckets of one state to those of another with the same buckets. The last value becomes that of `from` where
 * `from` has rows, so `from` must be the later part of the series.
 */
export function combineWindows(fromStatePtr: usize, intoStatePtr: usize, bucketCount: i32): void {
  const stride = (<usize>bucketCount) << 3
  for (let at: usize = 0; at < stride; at += 8) {
    const from = fromStatePtr + at
    const into = intoStatePtr + at
    const count = load<f64>(from)
    if (count === 0) continue
    addMoments(into, stride, count, load<f64>(from + stride * 5), load<f64>(from + stride * 6))
    addExtremes(into, stride, load<f64>(from + stride * 2), load<f64>(from + stride * 3))
    store<f64>(into + stride, load<f64>(into + stride) + load<f64>(from + stride))
    store<f64>(into + stride * 4, load<f64>(from + stride * 4))
    store<f64>(into, load<f64>(into) + count)
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
