// Sums and extremes of a whole column. A validity pointer of 0 means that no row is missing.
import { countBitRange, isSet } from './bits'
import { leastOfRun, SIGN, sumRun } from './reduce'

/** Rows that are summed lane by lane; above it, the sums of two parts are added. */
const SUM_LEAF_ROWS = 512

/**
 * The sum of the present values; 0 when there is none. NaN if a present value is NaN or both infinities are.
 *
 * values    rowCount × f64, 8-byte aligned, read only
 * validity  ceil(rowCount / 8) bytes, read only; 0: none missing
 *
 * Pairwise (N. J. Higham, The Accuracy of Floating Point Summation, 1993): leaves of 512 rows are summed in eight lanes
 * (two where rows are missing), so the error is at most (67 + log2(rowCount / 512)) × 2^-53 × sum of |values|
 * (265 + … where rows are missing).
 */
export function sumFloat64(valuesPtr: usize, validityPtr: usize, rowCount: i32): f64 {
  return pairwiseSum(valuesPtr, validityPtr, 0, rowCount)
}

function pairwiseSum(valuesPtr: usize, validityPtr: usize, rowStart: i32, rowEnd: i32): f64 {
  const rowCount = rowEnd - rowStart
  if (rowCount <= SUM_LEAF_ROWS) return sumRun<f64>(valuesPtr, validityPtr, rowStart, rowEnd)
  // The left part is the greatest power of two below rowCount, so that all leaves but the last are full.
  const middle = rowStart + (1 << (31 - clz(rowCount - 1)))
  return pairwiseSum(valuesPtr, validityPtr, rowStart, middle) + pairwiseSum(valuesPtr, validityPtr, middle, rowEnd)
}

/** Whether no row is present. */
function isEmpty(validityPtr: usize, rowCount: i32): bool {
  return rowCount <= 0 || (validityPtr !== 0 && countBitRange(validityPtr, 0, rowCount) === 0)
}

/**
 * The least present value; NaN if a present value is NaN, or if none is present. -0 is less than 0.
 * Shapes as sumFloat64.
 */
export function minFloat64(valuesPtr: usize, validityPtr: usize, rowCount: i32): f64 {
  return isEmpty(validityPtr, rowCount) ? NaN : leastOfRun<f64>(valuesPtr, validityPtr, 0, rowCount, 0)
}

/** The greatest present value; otherwise as minFloat64. */
export function maxFloat64(valuesPtr: usize, validityPtr: usize, rowCount: i32): f64 {
  return isEmpty(validityPtr, rowCount) ? NaN : -leastOfRun<f64>(valuesPtr, validityPtr, 0, rowCount, SIGN)
}

/**
 * The sum of the present int64 values, added exactly and rounded once to float64; 0 when there is none.
 *
 * values    rowCount × i64, 8-byte aligned, read only
 * validity  ceil(rowCount / 8) bytes, read only; 0: none missing
 */
export function sumInt64AsFloat64(valuesPtr: usize, validityPtr: usize, rowCount: i32): f64 {
  // The halves are added apart: sum = high × 2^32 + low. Neither overflows in 2^31 rows.
  let high: i64 = 0
  let low: i64 = 0
  for (let row = 0; row < rowCount; row++) {
    if (!isPresent(validityPtr, row)) continue
    const value = load<i64>(valuesPtr + ((<usize>row) << 3))
    high += value >> 32
    low += value & 0xffffffff
  }
  return roundOnce(high + (low >> 32), low & 0xffffffff)
}

/** high × 2^32 + low, 0 <= low < 2^32, rounded once to nearest even. */
function roundOnce(high: i64, low: i64): f64 {
  // Below 2^53 both halves are exact float64, and their sum is the only rounding.
  if (high >= -(1 << 53) && high <= 1 << 53) return <f64>high * 4294967296.0 + <f64>low
  // Above, one more bit of low, and a last bit that stands for all the rest: enough to round as if all were there.
  return <f64>((high << 1) | (low >> 31) | i64((low & 0x7fffffff) !== 0)) * 2147483648.0
}

/** The least present int64 value; i64's greatest when none is present. Shapes as sumInt64AsFloat64. */
export function minInt64(valuesPtr: usize, validityPtr: usize, rowCount: i32): i64 {
  let least = i64.MAX_VALUE
  for (let row = 0; row < rowCount; row++) {
    const value = load<i64>(valuesPtr + ((<usize>row) << 3))
    if (value < least && isPresent(validityPtr, row)) least = value
  }
  return least
}

/** The greatest present int64 value; i64's least when none is present. Shapes as sumInt64AsFloat64. */
export function maxInt64(valuesPtr: usize, validityPtr: usize, rowCount: i32): i64 {
  let greatest = i64.MIN_VALUE
  for (let row = 0; row < rowCount; row++) {
    const value = load<i64>(valuesPtr + ((<usize>row) << 3))
    if (value > greatest && isPresent(validityPtr, row)) greatest = value
  }
  return greatest
}

function isPresent(validityPtr: usize, row: i32): bool {
  return validityPtr === 0 || isSet(validityPtr, row)
}
