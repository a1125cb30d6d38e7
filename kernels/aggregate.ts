// Sums and extremes of a whole column. A validity pointer of 0 means that no row is missing.
import { countBitRange, isSet } from './bits'
import { leastOfRun, missingPair, SIGN, sumRun } from './reduce'

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
  // The halves are added apart: sum = high × 2^32 + low. The high ones are taken as unsigned, 2^31 too large, which costs
  // less than shifting with the sign. In 2^31 rows neither overflows.
  const lowHalf = i64x2.splat(0xffffffff)
  const offset = i64x2.splat(i64.MIN_VALUE)
  let highs = i64x2.splat(0)
  let lows = highs
  let row = 0
  for (; row <= rowCount - 2; row += 2) {
    let pair = v128.load(valuesPtr + ((<usize>row) << 3))
    if (validityPtr) pair = v128.andnot(pair, missingPair(<u64>load<u8>(validityPtr + (<usize>row >> 3)) >> (row & 6)))
    highs = i64x2.add(highs, i64x2.shr_u(v128.xor(pair, offset), 32))
    lows = i64x2.add(lows, v128.and(pair, lowHalf))
  }
  let high = i64x2.extract_lane(highs, 0) + i64x2.extract_lane(highs, 1) - ((<i64>row) << 31)
  let low = i64x2.extract_lane(lows, 0) + i64x2.extract_lane(lows, 1)
  if (row < rowCount && isPresent(validityPtr, row)) {
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
  return leastInt64(valuesPtr, validityPtr, rowCount, 0)
}

/** The greatest present int64 value; i64's least when none is present. Shapes as sumInt64AsFloat64. */
export function maxInt64(valuesPtr: usize, validityPtr: usize, rowCount: i32): i64 {
  return ~leastInt64(valuesPtr, validityPtr, rowCount, -1)
}

/** The least of the present values after `flip` is XORed into them: -1 turns their order around. */
function leastInt64(valuesPtr: usize, validityPtr: usize, rowCount: i32, flip: i64): i64 {
  const flips = i64x2.splat(flip)
  const none = i64x2.splat(i64.MAX_VALUE)
  let a = none
  let b = none
  let row = 0
  for (; row <= rowCount - 4; row += 4) {
    const ptr = valuesPtr + ((<usize>row) << 3)
    let first = v128.xor(v128.load(ptr), flips)
    let second = v128.xor(v128.load(ptr, 16), flips)
    if (validityPtr) {
      const bits: u64 = <u64>load<u8>(validityPtr + (<usize>row >> 3)) >> (row & 4)
      first = v128.bitselect(none, first, missingPair(bits))
      second = v128.bitselect(none, second, missingPair(bits >> 2))
    }
    a = v128.bitselect(first, a, i64x2.gt_s(a, first))
    b = v128.bitselect(second, b, i64x2.gt_s(b, second))
  }
  a = v128.bitselect(b, a, i64x2.gt_s(a, b))
  let least = min(i64x2.extract_lane(a, 0), i64x2.extract_lane(a, 1))
  for (; row < rowCount; row++) {
    if (isPresent(validityPtr, row)) least = min(least, load<i64>(valuesPtr + ((<usize>row) << 3)) ^ flip)
  }
  return least
}

function isPresent(validityPtr: usize, row: i32): bool {
  return validityPtr === 0 || isSet(validityPtr, row)
}
