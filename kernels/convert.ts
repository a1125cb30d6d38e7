// One dtype to another, and constant columns.
import { loadBits } from './bits'
import { loadPair } from './reduce'

/**
 * target[i] = values[i] as float64, rounded to nearest even.
 *
 * values  count × i64, 8-byte aligned, read only
 * target  count × f64, 8-byte aligned; may be the same memory as values
 */
export function convertInt64ToFloat64(valuesPtr: usize, count: i32, targetPtr: usize): void {
  let i = 0
  for (; i <= count - 4; i += 4) {
    const at = (<usize>i) << 3
    const first = loadPair<i64>(valuesPtr + at)
    const second = loadPair<i64>(valuesPtr + at + 16)
    v128.store(targetPtr + at, first)
    v128.store(targetPtr + at, second, 16)
  }
  for (; i < count; i++) store<f64>(targetPtr + ((<usize>i) << 3), <f64>load<i64>(valuesPtr + ((<usize>i) << 3)))
}

/**
 * target[row] = `one` where the bit is set, else 0. One is a bit pattern of 64 bits, so int64 and float64 share the loop.
 */
function convertBits(bitsPtr: usize, count: i32, targetPtr: usize, one: u64): void {
  const ones = i64x2.splat(one)
  for (let row = 0; row < count; row += 64) {
    const bitCount = min(count - row, 64)
    let word = loadBits(bitsPtr, row, bitCount)
    let ptr = targetPtr + ((<usize>row) << 3)
    for (const end = ptr + ((<usize>(bitCount & ~1)) << 3); ptr < end; ptr += 16) {
      // 0 - bit is all ones where the bit is set.
      const bits = i64x2.replace_lane(i64x2.splat(word & 1), 1, (word >> 1) & 1)
      v128.store(ptr, v128.and(i64x2.neg(bits), ones))
      word >>= 2
    }
    if (bitCount & 1) store<u64>(ptr, word & 1 ? one : 0)
  }
}

/**
 * target[row] = 1.0 where the bit is set, else 0.0.
 *
 * bits    ceil(count / 8) bytes, read only
 * target  count × f64, 8-byte aligned
 */
export function convertBitsToFloat64(bitsPtr: usize, count: i32, targetPtr: usize): void {
  convertBits(bitsPtr, count, targetPtr, reinterpret<u64>(1.0))
}

/** target[row] = 1 where the bit is set, else 0; int64. Shapes as convertBitsToFloat64. */
export function convertBitsToInt64(bitsPtr: usize, count: i32, targetPtr: usize): void {
  convertBits(bitsPtr, count, targetPtr, 1)
}

/** target[i] = value for count float64; NaN keeps its bits. */
export function fillFloat64(targetPtr: usize, count: i32, value: f64): void {
  fillInt64(targetPtr, count, reinterpret<i64>(value))
}

/** target[i] = value for count int64. */
export function fillInt64(targetPtr: usize, count: i32, value: i64): void {
  const pair = i64x2.splat(value)
  let ptr = targetPtr
  for (const end = targetPtr + ((<usize>(count & ~1)) << 3); ptr < end; ptr += 16) v128.store(ptr, pair)
  if (count & 1) store<i64>(ptr, value)
}

/**
 * The first row whose value is negative, or `end` or more; rowCount when there is none.
 *
 * values  rowCount × i64, 8-byte aligned
 * end     may be beyond what an i64 holds
 */
export function firstNotBelow(valuesPtr: usize, rowCount: i32, end: u64): i32 {
  for (let row = 0; row < rowCount; row++) {
    const value = load<i64>(valuesPtr + ((<usize>row) << 3))
    if (value < 0 || <u64>value >= end) return row
  }
  return rowCount
}
