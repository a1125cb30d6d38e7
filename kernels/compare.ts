// A column against a constant or a range: masks of the rows that hold. Sorted columns: where a value stands.
import { loadBytes, lowBits, setBit, storeTail } from './bits'
import {
  firstOfRange,
  invertedRange,
  lastOfRange,
  OPERATOR_GREATER,
  OPERATOR_LESS,
  OPERATOR_LESS_OR_EQUAL,
  OPERATOR_NOT_EQUAL,
} from './ranges'
import { compareText, sameText } from './text'

// Every comparison with a constant is a closed range [first, last] of values, or the rest of the values:
//   == c [c, c]    < c [lowest, before c]    <= c [lowest, c]    >= c [c, highest]    > c [after c, highest]    != c not [c, c]
// So one loop serves them all. NaN lies in no range, and a range of or to NaN is empty; only != holds for NaN.
// Operator 0 is ==, whose range is the constant itself; 5 is >=.

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
  const first = firstOfRange(operator, constant)
  const last = lastOfRange(operator, constant)
  return markRange<i64>(valuesPtr, rowCount, first, last, invertedRange(operator), maskPtr)
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
  if (operator <= OPERATOR_NOT_EQUAL) {
    const inverted: i64 = operator === OPERATOR_NOT_EQUAL ? -1 : 0
    return markText(offsetsPtr, bytesPtr, rowCount, constantPtr, constantByteLength, maskPtr, TEXT_WHOLE, inverted)
  }
  // Which outcomes the operator accepts: bit 0 less, bit 1 equal, bit 2 greater; four bits an operator.
  const accepted: u32 = (0x643152 >> (operator << 2)) & 7
  let markedCount: i32 = 0
  let start = load<u32>(offsetsPtr)
  for (let row = 0; row < rowCount; row += 64) {
    const rowEnd = min(row + 64, rowCount)
    let bits: u64 = 0
    for (let i = row; i < rowEnd; i++) {
      const end = load<u32>(offsetsPtr + ((<usize>i) << 2), 4)
      const outcome = compareText(bytesPtr + start, end - start, constantPtr, constantByteLength) + 1
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

/** The first eight bytes of a text, or all of it with zeros after it. */
function loadHead(ptr: usize, byteLength: u32): u64 {
  if (byteLength >= 8) return load<u64>(ptr)
  return byteLength === 0 ? 0 : loadBytes(ptr, byteLength)
}

/** Ones in the bytes of loadHead that belong to the text. */
function headMask(byteLength: u32): u64 {
  return byteLength === 0 ? 0 : lowBits(min(byteLength << 3, 64))
}

/** What markText looks for in a row. */
const TEXT_WHOLE = 0
const TEXT_START = 1
const TEXT_END = 2

/**
 * Marks the rows that are, begin with or end with the text, or with `inverted` -1 all others.
 *
 * The first sixteen bytes are compared at once and without a branch, since which rows fit cannot be foreseen. Near the
 * end of the column, where sixteen bytes may not be read, byte by byte.
 */
function markText(
  offsetsPtr: usize,
  bytesPtr: usize,
  rowCount: i32,
  textPtr: usize,
  textByteLength: u32,
  maskPtr: usize,
  where: i32,
  inverted: i64,
): i32 {
  const restByteLength = textByteLength > 8 ? textByteLength - 8 : 0
  const head = i64x2.replace_lane(
    i64x2.splat(loadHead(textPtr, textByteLength)),
    1,
    loadHead(textPtr + 8, restByteLength),
  )
  const mask = i64x2.replace_lane(i64x2.splat(headMask(textByteLength)), 1, headMask(restByteLength))
  const readableEnd = load<u32>(offsetsPtr + ((<usize>rowCount) << 2))
  const byteLengthMax = where === TEXT_WHOLE ? textByteLength : <u32>-1
  let markedCount: i32 = 0
  let start = load<u32>(offsetsPtr)
  for (let row = 0; row < rowCount; row += 64) {
    const rowEnd = min(row + 64, rowCount)
    let bits: u64 = 0
    for (let i = row; i < rowEnd; i++) {
      const end = load<u32>(offsetsPtr + ((<usize>i) << 2), 4)
      const byteLength = end - start
      let fits = u32(byteLength >= textByteLength) & u32(byteLength <= byteLengthMax)
      // Where the text does not fit, anything that may be read will do.
      const at = select<u32>(end - textByteLength, start, where === TEXT_END && fits !== 0)
      if (at + 16 <= readableEnd) {
        fits &= u32(!v128.any_true(v128.and(v128.xor(v128.load(bytesPtr + at), head), mask)))
        if (textByteLength > 16 && fits) fits = u32(sameText(bytesPtr + at + 16, textPtr + 16, textByteLength - 16))
      } else if (fits) {
        fits = u32(sameText(bytesPtr + at, textPtr, textByteLength))
      }
      bits |= (<u64>fits) << (i - row)
      start = end
    }
    markedCount += storeMaskWord(maskPtr, row, rowEnd, (bits ^ inverted) & lowBits(rowEnd - row))
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
  return markText(offsetsPtr, bytesPtr, rowCount, textPtr, textByteLength, maskPtr, TEXT_START, 0)
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
  return markText(offsetsPtr, bytesPtr, rowCount, textPtr, textByteLength, maskPtr, TEXT_END, 0)
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

/** Of fewer rows the halving takes no longer than a guess. */
const GUESSED_ROWS_MIN: i32 = 64
/** A guess is as good as the rows are evenly spaced: how far from it the row is looked for before all others. */
const GUESS_REACH: i32 = 8

/**
 * The first row in [rowStart, rowEnd) of an ascending int64 or time column with values[row] >= value; rowEnd if none.
 * Times are evenly spaced most often, so that the place between the first and the last row tells where to look: each step of
 * a search by halves alone is a line of memory that nobody has touched before.
 */
export function lowerBoundInt64(valuesPtr: usize, rowStart: i32, rowEnd: i32, value: i64): i32 {
  let base = rowStart
  let count = rowEnd - rowStart
  if (count >= GUESSED_ROWS_MIN) {
    const first = load<i64>(valuesPtr + ((<usize>rowStart) << 3))
    const last = load<i64>(valuesPtr + ((<usize>(rowEnd - 1)) << 3))
    if (first >= value) return rowStart
    if (last < value) return rowEnd
    // The row is in [base, end]. As floats, for the distance of two values may be no int64.
    let end = rowEnd - 1
    const share = (<f64>value - <f64>first) / (<f64>last - <f64>first)
    // Where all are one float64, that is no number.
    const guess = share >= 0 ? rowStart + <i32>(share * <f64>(count - 1)) : rowStart
    const low = max(guess - GUESS_REACH, rowStart)
    const high = min(guess + GUESS_REACH, end)
    if (load<i64>(valuesPtr + ((<usize>low) << 3)) >= value) end = low
    else if (load<i64>(valuesPtr + ((<usize>high) << 3)) < value) base = high + 1
    else {
      base = low + 1
      end = high
    }
    count = end - base
  }
  // Halves without a branch on the data: base moves past the half that is all below value.
  while (count > 1) {
    const half = count >> 1
    base = load<i64>(valuesPtr + ((<usize>(base + half - 1)) << 3)) < value ? base + half : base
    count -= half
  }
  if (count === 1 && load<i64>(valuesPtr + ((<usize>base) << 3)) < value) base++
  return base
}
