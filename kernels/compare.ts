// A column against a constant or a range: masks of the rows that hold. Sorted columns: where a value stands.
import { setBit, storeTail } from './bits'
import { compareText, sameText } from './text'

// Every comparison with a constant is a closed range [first, last] of values, or the rest of the values:
//   == c [c, c]    < c [lowest, before c]    <= c [lowest, c]    >= c [c, highest]    > c [after c, highest]    != c not [c, c]
// So one loop serves them all. NaN lies in no range, and a range of or to NaN is empty; only != holds for NaN.
// Operator 0 is ==, whose range is the constant itself; 5 is >=.
const OPERATOR_NOT_EQUAL = 1
const OPERATOR_LESS = 2
const OPERATOR_LESS_OR_EQUAL = 3
const OPERATOR_GREATER = 4

/** All ones in the lanes of the pair at ptr that lie in [first, last]. */
function pairInRange<T extends number>(ptr: usize, first: v128, last: v128): v128 {
  const pair = v128.load(ptr)
  if (isFloat<T>()) return v128.and(f64x2.ge(pair, first), f64x2.le(pair, last))
  // With exact integers "not below and not above" costs two instructions less than "ge and le".
  return v128.not(v128.or(i64x2.lt_s(pair, first), i64x2.gt_s(pair, last)))
}

/** 64-bit lanes of two vectors, all ones or all zeros, as four 32-bit lanes. */
function pack(a: v128, b: v128): v128 {
  return v128.shuffle<i32>(a, b, 0, 2, 4, 6)
}

/**
 * Marks the rows with first <= value <= last, or with `inverted` -1 all others. Returns the number of rows marked.
 * In short: mask[row] = (first <= values[row] && values[row] <= last) != inverted.
 */
function markRange<T extends number>(
  valuesPtr: usize,
  rowCount: i32,
  first: T,
  last: T,
  inverted: i32,
  maskPtr: usize,
): i32 {
  let markedCount: i32 = 0
  const firstPair = v128.splat<T>(first)
  const lastPair = v128.splat<T>(last)
  let row = 0
  // Sixteen rows to two bytes.
  for (; row <= rowCount - 16; row += 16) {
    const ptr = valuesPtr + ((<usize>row) << 3)
    const a = pack(pairInRange<T>(ptr, firstPair, lastPair), pairInRange<T>(ptr + 16, firstPair, lastPair))
    const b = pack(pairInRange<T>(ptr + 32, firstPair, lastPair), pairInRange<T>(ptr + 48, firstPair, lastPair))
    const c = pack(pairInRange<T>(ptr + 64, firstPair, lastPair), pairInRange<T>(ptr + 80, firstPair, lastPair))
    const d = pack(pairInRange<T>(ptr + 96, firstPair, lastPair), pairInRange<T>(ptr + 112, firstPair, lastPair))
    const bytes = i8x16.narrow_i16x8_s(i16x8.narrow_i32x4_s(a, b), i16x8.narrow_i32x4_s(c, d))
    const bits = (i8x16.bitmask(bytes) ^ inverted) & 0xffff
    store<u16>(maskPtr + (<usize>row >> 3), <u16>bits)
    markedCount += popcnt(bits)
  }
  if (row < rowCount) {
    let bits: u32 = 0
    for (let i = row; i < rowCount; i++) {
      const value = load<T>(valuesPtr + ((<usize>i) << 3))
      bits |= u32(first <= value && value <= last) << (i - row)
    }
    bits = (bits ^ <u32>inverted) & ((1 << (rowCount - row)) - 1)
    storeTail(maskPtr + (<usize>row >> 3), rowCount - row, bits)
    markedCount += popcnt(bits)
  }
  return markedCount
}

/** The greatest float64 below value; NaN for NaN and for -Infinity, which has none. */
function below(value: f64): f64 {
  if (value === 0) return -5e-324
  if (!(value > -Infinity)) return NaN
  return reinterpret<f64>(reinterpret<i64>(value) + (value > 0 ? -1 : 1))
}

/**
 * Marks the rows of a float64 column that lie in [low, high); NaN never does, and a bound of NaN leaves none.
 *
 * values  rowCount × f64, 8-byte aligned, read only
 * mask    ceil(rowCount / 8) bytes, row 0 is the lowest bit, overwritten
 *
 * Returns the number of rows marked. Allocates nothing.
 */
export function maskFloat64InRange(valuesPtr: usize, rowCount: i32, low: f64, high: f64, maskPtr: usize): i32 {
  return markRange<f64>(valuesPtr, rowCount, low, below(high), 0, maskPtr)
}

/** Marks the rows of an int64 or time column that lie in [low, high). Shapes and result as maskFloat64InRange. */
export function maskInt64InRange(valuesPtr: usize, rowCount: i32, low: i64, high: i64, maskPtr: usize): i32 {
  if (high === i64.MIN_VALUE) return markRange<i64>(valuesPtr, rowCount, 0, -1, 0, maskPtr)
  return markRange<i64>(valuesPtr, rowCount, low, high - 1, 0, maskPtr)
}

/**
 * Marks the rows for which `value operator constant` holds: 0 ==, 1 !=, 2 <, 3 <=, 4 >, 5 >=. With NaN on either side
 * only != holds; -0 and 0 are equal. Shapes and result as maskFloat64InRange. Missing cells are compared as the 0 they
 * hold: AND the mask with the validity.
 */
export function compareFloat64(valuesPtr: usize, rowCount: i32, operator: i32, constant: f64, maskPtr: usize): i32 {
  let first = constant
  let last = constant
  if (operator === OPERATOR_LESS) {
    first = -Infinity
    last = below(constant)
  } else if (operator === OPERATOR_LESS_OR_EQUAL) {
    first = -Infinity
  } else if (operator === OPERATOR_GREATER) {
    first = -below(-constant)
    last = Infinity
  } else if (operator > OPERATOR_GREATER) {
    last = Infinity
  }
  return markRange<f64>(valuesPtr, rowCount, first, last, operator === OPERATOR_NOT_EQUAL ? -1 : 0, maskPtr)
}

/** As compareFloat64, for int64 and time columns. */
export function compareInt64(valuesPtr: usize, rowCount: i32, operator: i32, constant: i64, maskPtr: usize): i32 {
  let first = constant
  let last = constant
  let inverted = operator === OPERATOR_NOT_EQUAL ? -1 : 0
  if (operator >= OPERATOR_LESS) {
    // < is the rest of >=, and > the rest of <=, which spares the values before the lowest and after the highest.
    if (operator === OPERATOR_LESS || operator > OPERATOR_GREATER) last = i64.MAX_VALUE
    else first = i64.MIN_VALUE
    if (operator === OPERATOR_LESS || operator === OPERATOR_GREATER) inverted = -1
  }
  return markRange<i64>(valuesPtr, rowCount, first, last, inverted, maskPtr)
}

/**
 * Marks the rows of a string column for which `value operator constant` holds, in the order of the bytes (which for
 * UTF-8 is the order of the code points). Operators as compareFloat64.
 *
 * offsets   (rowCount + 1) × u32, 4-byte aligned, read only
 * bytes     the text, read only
 * constant  constantByteLength bytes, read only
 * mask      ceil(rowCount / 8) bytes, overwritten
 *
 * Returns the number of rows marked.
 */
export function compareStrings(
  offsetsPtr: usize,
  bytesPtr: usize,
  rowCount: i32,
  operator: i32,
  constantPtr: usize,
  constantByteLength: i32,
  maskPtr: usize,
): i32 {
  // Which outcomes the operator accepts: bit 0 less, bit 1 equal, bit 2 greater; four bits an operator.
  const accepted: u32 = (0x643152 >> (operator << 2)) & 7
  const equalityOnly = operator <= OPERATOR_NOT_EQUAL
  let markedCount: i32 = 0
  let start = load<u32>(offsetsPtr)
  for (let row = 0; row < rowCount; row += 64) {
    const rowEnd = min(row + 64, rowCount)
    let bits: u64 = 0
    for (let i = row; i < rowEnd; i++) {
      const end = load<u32>(offsetsPtr + ((<usize>i) << 2), 4)
      const byteLength = end - start
      const ptr = bytesPtr + start
      let outcome: u32
      if (equalityOnly) {
        const same = byteLength === <u32>constantByteLength && sameText(ptr, constantPtr, byteLength)
        outcome = same ? 1 : 0
      } else {
        outcome = compareText(ptr, byteLength, constantPtr, constantByteLength) + 1
      }
      bits |= (<u64>((accepted >> outcome) & 1)) << (i - row)
      start = end
    }
    markedCount += storeMaskWord(maskPtr, row, rowEnd, bits)
  }
  return markedCount
}

/** Writes the mask of rows [row, rowEnd), at most 64 and row a multiple of 64. Returns the number of bits set. */
function storeMaskWord(maskPtr: usize, row: i32, rowEnd: i32, bits: u64): i32 {
  const ptr = maskPtr + (<usize>row >> 3)
  if (rowEnd - row === 64) store<u64>(ptr, bits)
  else storeTail(ptr, rowEnd - row, bits)
  return <i32>popcnt(bits)
}

/** Marks the rows that begin (fromEnd: end) with the text. */
function markAffix(
  offsetsPtr: usize,
  bytesPtr: usize,
  rowCount: i32,
  textPtr: usize,
  textByteLength: u32,
  maskPtr: usize,
  fromEnd: bool,
): i32 {
  let markedCount: i32 = 0
  let start = load<u32>(offsetsPtr)
  for (let row = 0; row < rowCount; row += 64) {
    const rowEnd = min(row + 64, rowCount)
    let bits: u64 = 0
    for (let i = row; i < rowEnd; i++) {
      const end = load<u32>(offsetsPtr + ((<usize>i) << 2), 4)
      if (end - start >= textByteLength) {
        const ptr = bytesPtr + (fromEnd ? end - textByteLength : start)
        bits |= (<u64>sameText(ptr, textPtr, textByteLength)) << (i - row)
      }
      start = end
    }
    markedCount += storeMaskWord(maskPtr, row, rowEnd, bits)
  }
  return markedCount
}

/** Marks the rows of a string column that begin with the text; '' begins every one. Shapes as compareStrings. */
export function startsStrings(
  offsetsPtr: usize,
  bytesPtr: usize,
  rowCount: i32,
  textPtr: usize,
  textByteLength: i32,
  maskPtr: usize,
): i32 {
  return markAffix(offsetsPtr, bytesPtr, rowCount, textPtr, textByteLength, maskPtr, false)
}

/** Marks the rows of a string column that end with the text; '' ends every one. Shapes as compareStrings. */
export function endsStrings(
  offsetsPtr: usize,
  bytesPtr: usize,
  rowCount: i32,
  textPtr: usize,
  textByteLength: i32,
  maskPtr: usize,
): i32 {
  return markAffix(offsetsPtr, bytesPtr, rowCount, textPtr, textByteLength, maskPtr, true)
}

/**
 * Marks the rows of a string column that contain the text; '' stands in every one. Shapes as compareStrings.
 *
 * The text of all rows is searched in one go: sixteen places at a time where both the first and the last byte fit are
 * looked at closely (W. Muła, "SIMD-friendly algorithms for substring searching", 2016), and a match that would reach
 * into the next row is none.
 */
export function containsStrings(
  offsetsPtr: usize,
  bytesPtr: usize,
  rowCount: i32,
  textPtr: usize,
  textByteLength: i32,
  maskPtr: usize,
): i32 {
  if (rowCount <= 0) return 0
  const fullBytes = <usize>rowCount >> 3
  memory.fill(maskPtr, textByteLength === 0 ? 0xff : 0, fullBytes)
  if (rowCount & 7) storeTail(maskPtr + fullBytes, rowCount & 7, textByteLength === 0 ? -1 : 0)
  if (textByteLength === 0) return rowCount

  const lastAt = <usize>textByteLength - 1
  const firstByte = load<u8>(textPtr)
  const lastByte = load<u8>(textPtr + lastAt)
  const firstBytes = i8x16.splat(firstByte)
  const lastBytes = i8x16.splat(lastByte)
  let markedCount: i32 = 0
  // The row that the place `ptr` lies in, and where that row's text ends.
  let row = 0
  let rowEndPtr = bytesPtr + load<u32>(offsetsPtr, 4)
  let ptr = bytesPtr + load<u32>(offsetsPtr)
  const endPtr = bytesPtr + load<u32>(offsetsPtr + ((<usize>rowCount) << 2))
  while (ptr + lastAt < endPtr) {
    let candidates: u32
    let width: usize
    if (ptr + lastAt + 16 <= endPtr) {
      const match = v128.and(i8x16.eq(v128.load(ptr), firstBytes), i8x16.eq(v128.load(ptr + lastAt), lastBytes))
      candidates = i8x16.bitmask(match)
      width = 16
    } else {
      candidates = u32(load<u8>(ptr) === firstByte && load<u8>(ptr + lastAt) === lastByte)
      width = 1
    }
    let next = ptr + width
    for (; candidates !== 0; candidates &= candidates - 1) {
      const place = ptr + ctz(candidates)
      while (rowEndPtr <= place) {
        row++
        rowEndPtr = bytesPtr + load<u32>(offsetsPtr + ((<usize>row) << 2), 4)
      }
      if (place + lastAt < rowEndPtr && sameText(place, textPtr, textByteLength)) {
        setBit(maskPtr, row)
        markedCount++
        // The rest of this row has nothing more to say.
        next = rowEndPtr
        break
      }
    }
    ptr = next
  }
  return markedCount
}

/**
 * The first row in [rowStart, rowEnd) of an ascending int64 or time column with values[row] >= value; rowEnd if none.
 */
export function lowerBoundInt64(valuesPtr: usize, rowStart: i32, rowEnd: i32, value: i64): i32 {
  let base = rowStart
  let count = rowEnd - rowStart
  // Halves without a branch on the data: base moves past the half that is all below value.
  while (count > 1) {
    const half = count >> 1
    base = load<i64>(valuesPtr + ((<usize>(base + half - 1)) << 3)) < value ? base + half : base
    count -= half
  }
  if (count === 1 && load<i64>(valuesPtr + ((<usize>base) << 3)) < value) base++
  return base
}
