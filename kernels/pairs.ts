// A column against another column, row by row: masks of the rows that hold.
import { lowBits, storeTail } from './bits'
import { compareText, sameText } from './text'

// Which outcomes an operator accepts: bit 0 less, bit 1 equal, bit 2 greater; four bits an operator
// (0 ==, 1 !=, 2 <, 3 <=, 4 >, 5 >=).
const ACCEPTED: u32 = 0x643152

function acceptedBy(operator: i32): u32 {
  return (ACCEPTED >> ((<u32>operator) << 2)) & 7
}

/** All ones in the lanes where a stands to b as the operator says; with NaN only != holds. */
function comparedPair<T extends number>(a: v128, b: v128, operator: i32): v128 {
  switch (operator) {
    case 0:
      return v128.eq<T>(a, b)
    case 1:
      return v128.ne<T>(a, b)
    case 2:
      return isFloat<T>() ? f64x2.lt(a, b) : i64x2.lt_s(a, b)
    case 3:
      return isFloat<T>() ? f64x2.le(a, b) : i64x2.le_s(a, b)
    case 4:
      return isFloat<T>() ? f64x2.gt(a, b) : i64x2.gt_s(a, b)
    default:
      return isFloat<T>() ? f64x2.ge(a, b) : i64x2.ge_s(a, b)
  }
}

function comparedOne<T extends number>(a: T, b: T, operator: i32): bool {
  switch (operator) {
    case 0:
      return a === b
    case 1:
      return a !== b
    case 2:
      return a < b
    case 3:
      return a <= b
    case 4:
      return a > b
    default:
      return a >= b
  }
}

function comparePairs<T extends number>(aPtr: usize, bPtr: usize, rowCount: i32, operator: i32, maskPtr: usize): i32 {
  let markedCount: i32 = 0
  let row = 0
  for (; row <= rowCount - 8; row += 8) {
    const at = (<usize>row) << 3
    let bits: u32 = 0
    for (let i: usize = 0; i < 64; i += 16) {
      const lanes = comparedPair<T>(v128.load(aPtr + at + i), v128.load(bPtr + at + i), operator)
      bits |= (<u32>i64x2.bitmask(lanes)) << (<u32>(i >> 3))
    }
    store<u8>(maskPtr + (<usize>row >> 3), <u8>bits)
    markedCount += <i32>popcnt(bits)
  }
  if (row < rowCount) {
    let bits: u32 = 0
    for (let i = row; i < rowCount; i++) {
      const at = (<usize>i) << 3
      bits |= u32(comparedOne<T>(load<T>(aPtr + at), load<T>(bPtr + at), operator)) << (i - row)
    }
    store<u8>(maskPtr + (<usize>row >> 3), <u8>bits)
    markedCount += <i32>popcnt(bits)
  }
  return markedCount
}

/**
 * Marks the rows for which `a operator b` holds: 0 ==, 1 !=, 2 <, 3 <=, 4 >, 5 >=. Missing cells are compared as the 0
 * they hold: AND the mask with both validities.
 *
 * a, b  rowCount × i64, 8-byte aligned, read only
 * mask  ceil(rowCount / 8) bytes, overwritten
 *
 * Returns the number of rows marked.
 */
export function comparePairsInt64(aPtr: usize, bPtr: usize, rowCount: i32, operator: i32, maskPtr: usize): i32 {
  return comparePairs<i64>(aPtr, bPtr, rowCount, operator, maskPtr)
}

/** As comparePairsInt64 for float64: with NaN on either side only != holds. */
export function comparePairsFloat64(aPtr: usize, bPtr: usize, rowCount: i32, operator: i32, maskPtr: usize): i32 {
  return comparePairs<f64>(aPtr, bPtr, rowCount, operator, maskPtr)
}

/**
 * As comparePairsInt64 for strings, in the order of their bytes.
 *
 * offsets  (rowCount + 1) × u32, 4-byte aligned, read only
 * bytes    the text, read only
 */
export function comparePairsStrings(
  aOffsetsPtr: usize,
  aBytesPtr: usize,
  bOffsetsPtr: usize,
  bBytesPtr: usize,
  rowCount: i32,
  operator: i32,
  maskPtr: usize,
): i32 {
  const accepted = acceptedBy(operator)
  const isEquality = operator <= 1
  let markedCount: i32 = 0
  for (let row = 0; row < rowCount; row += 64) {
    const rowEnd = min(row + 64, rowCount)
    let bits: u64 = 0
    for (let i = row; i < rowEnd; i++) {
      const at = (<usize>i) << 2
      const aStart = load<u32>(aOffsetsPtr + at)
      const bStart = load<u32>(bOffsetsPtr + at)
      const aByteLength = load<u32>(aOffsetsPtr + at, 4) - aStart
      const bByteLength = load<u32>(bOffsetsPtr + at, 4) - bStart
      let outcome: i32
      if (isEquality) {
        const same = aByteLength === bByteLength && sameText(aBytesPtr + aStart, bBytesPtr + bStart, aByteLength)
        outcome = same ? 1 : 0
      } else {
        outcome = compareText(aBytesPtr + aStart, aByteLength, bBytesPtr + bStart, bByteLength) + 1
      }
      bits |= (<u64>((accepted >> outcome) & 1)) << (i - row)
    }
    const ptr = maskPtr + (<usize>row >> 3)
    bits &= lowBits(rowEnd - row)
    if (rowEnd - row === 64) store<u64>(ptr, bits)
    else storeTail(ptr, rowEnd - row, bits)
    markedCount += <i32>popcnt(bits)
  }
  return markedCount
}
