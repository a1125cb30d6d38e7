// Texts of CSV fields: which type each has, and their values. A text is judged by its bytes alone, quoted or not.
import { POWERS_OF_FIVE, POWER_OF_FIVE_MAX, POWER_OF_FIVE_MIN } from './powers-of-five'

const IS_ESCAPED: u32 = 0x8000_0000

/** The types that a column's texts have, one bit each, and a bit for empty texts. */
const TIME: u32 = 1
const BOOL: u32 = 2
const INTEGER: u32 = 4
const FLOAT: u32 = 8
const TEXT: u32 = 16
const EMPTY: u32 = 32
const TYPES: u32 = 31

/** How sure a parsed float is: not one at all, right, or one whose value needs a slower parser. */
const NO_FLOAT: i32 = 0
const EXACT_FLOAT: i32 = 1
const HARD_FLOAT: i32 = 2

/** 10^0 … 10^22, all of them exact. */
const POWERS_OF_TEN = memory.data<f64>([
  1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
  1e21, 1e22,
])

function digitAt(ptr: usize): u32 {
  return <u32>load<u8>(ptr) - 0x30
}

/** Whether the bytes at ptr, in lower case, are the letters of a little-endian word. */
function isWord(ptr: usize, byteLength: u32, letters: u64): bool {
  let word: u64 = 0
  for (let i: u32 = 0; i < byteLength; i++) word |= (<u64>(load<u8>(ptr + i) | 0x20)) << ((<u64>i) << 3)
  return word === letters
}

// 'true', 'false', 'inf', 'nan', 'infinity' as little-endian words.
const WORD_TRUE: u64 = 0x65757274
const WORD_FALSE: u64 = 0x65736c6166
const WORD_INF: u64 = 0x666e69
const WORD_NAN: u64 = 0x6e616e
const WORD_INFINITY: u64 = 0x7974696e69666e69

/** 1 true, 0 false, -1 no boolean. */
function parseBool(ptr: usize, byteLength: u32): i32 {
  if (byteLength === 4 && isWord(ptr, 4, WORD_TRUE)) return 1
  if (byteLength === 5 && isWord(ptr, 5, WORD_FALSE)) return 0
  return -1
}

/** Stores the int64 at out; false when the text is none. */
function parseInteger(ptr: usize, byteLength: u32, outPtr: usize): bool {
  const end = ptr + byteLength
  const sign = load<u8>(ptr)
  let pos = ptr + (sign === 0x2d || sign === 0x2b ? 1 : 0)
  if (pos === end) return false
  while (pos < end - 1 && load<u8>(pos) === 0x30) pos++
  if (end - pos > 19) return false
  let value: u64 = 0
  for (; pos < end; pos++) {
    const digit = digitAt(pos)
    if (digit > 9) return false
    value = value * 10 + digit
  }
  // 19 digits fit u64.
  const limit: u64 = <u64>i64.MAX_VALUE + (sign === 0x2d ? 1 : 0)
  if (value > limit) return false
  store<i64>(outPtr, sign === 0x2d ? <i64>(0 - value) : <i64>value)
  return true
}

/** count digits as a number, or -1. */
function parseDigits(ptr: usize, count: u32): i32 {
  let value = 0
  for (let i: u32 = 0; i < count; i++) {
    const digit = digitAt(ptr + i)
    if (digit > 9) return -1
    value = value * 10 + <i32>digit
  }
  return value
}

function daysOfMonth(year: i32, month: i32): i32 {
  if (month === 2) return year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0) ? 29 : 28
  return month === 4 || month === 6 || month === 9 || month === 11 ? 30 : 31
}

/**
 * Days from 1970-01-01. After Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", 2013, `days_from_civil`;
 * years are shifted by 400 so that nothing is negative.
 */
function dayNumber(year: i32, month: i32, day: i32): i64 {
  const shifted = (month > 2 ? year : year - 1) + 400
  const era = shifted / 400
  const yearOfEra = shifted - era * 400
  const dayOfYear = (153 * ((month + 9) % 12) + 2) / 5 + day - 1
  const dayOfEra = yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear
  return <i64>(era - 1) * 146_097 + dayOfEra - 719_468
}

/** `YYYY-MM-DD` or an RFC 3339 date-time as nanoseconds at out; false when it is none, or out of the range of int64. */
function parseTime(ptr: usize, byteLength: u32, outPtr: usize): bool {
  if (byteLength < 10 || load<u8>(ptr, 4) !== 0x2d || load<u8>(ptr, 7) !== 0x2d) return false
  const year = parseDigits(ptr, 4)
  const month = parseDigits(ptr + 5, 2)
  const day = parseDigits(ptr + 8, 2)
  if (year < 0 || month < 1 || month > 12 || day < 1 || day > daysOfMonth(year, month)) return false
  let seconds = dayNumber(year, month, day) * 86_400
  let fraction: i64 = 0
  if (byteLength > 10) {
    if (byteLength < 20 || load<u8>(ptr, 10) !== 0x54 || load<u8>(ptr, 13) !== 0x3a || load<u8>(ptr, 16) !== 0x3a) {
      return false
    }
    const hour = parseDigits(ptr + 11, 2)
    const minute = parseDigits(ptr + 14, 2)
    const second = parseDigits(ptr + 17, 2)
    if (hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 59) return false
    const end = ptr + byteLength
    let pos = ptr + 19
    if (load<u8>(pos) === 0x2e) {
      pos++
      let scale: i64 = 100_000_000
      const first = pos
      for (; pos < end && digitAt(pos) <= 9; pos++) {
        fraction += <i64>digitAt(pos) * scale
        scale /= 10
      }
      if (pos === first || pos === end) return false
    }
    let zone: i64 = 0
    const mark = load<u8>(pos)
    if (mark === 0x5a) {
      if (pos + 1 !== end) return false
    } else {
      if ((mark !== 0x2b && mark !== 0x2d) || pos + 6 !== end || load<u8>(pos, 3) !== 0x3a) return false
      const zoneHour = parseDigits(pos + 1, 2)
      const zoneMinute = parseDigits(pos + 4, 2)
      if (zoneHour < 0 || zoneHour > 23 || zoneMinute < 0 || zoneMinute > 59) return false
      zone = <i64>(zoneHour * 3600 + zoneMinute * 60)
      if (mark === 0x2d) zone = -zone
    }
    seconds += hour * 3600 + minute * 60 + second - zone
  }
  // int64 nanoseconds are -9223372037 s + 145224192 ns to 9223372036 s + 854775807 ns.
  if (seconds < -9_223_372_037 || (seconds === -9_223_372_037 && fraction < 145_224_192)) return false
  if (seconds > 9_223_372_036 || (seconds === 9_223_372_036 && fraction > 854_775_807)) return false
  store<i64>(
    outPtr,
    seconds < 0 ? (seconds + 1) * 1_000_000_000 + (fraction - 1_000_000_000) : seconds * 1_000_000_000 + fraction,
  )
  return true
}

/** The high half of a 128-bit product. */
function multiplyHigh(a: u64, b: u64): u64 {
  const aLow = a & 0xffff_ffff
  const aHigh = a >> 32
  const bLow = b & 0xffff_ffff
  const bHigh = b >> 32
  const middle = aHigh * bLow + ((aLow * bLow) >> 32)
  const other = aLow * bHigh + (middle & 0xffff_ffff)
  return aHigh * bHigh + (middle >> 32) + (other >> 32)
}

/**
 * The double nearest to digits × 10^exponent at out. Returns false where this method cannot tell: far exponents, subnormal
 * results, and products that fall too near to the middle of two doubles.
 *
 * After Daniel Lemire, "Number Parsing at a Gigabyte per Second", Software: Practice and Experience 51 (2021), section 5.
 */
function scaleDecimal(digits: u64, exponent: i32, isNegative: bool, outPtr: usize): bool {
  if (digits < 0x20_0000_0000_0001 && exponent >= -22 && exponent <= 22) {
    // Both are exact, so one operation rounds once (William Clinger, "How to Read Floating Point Numbers Accurately", 1990).
    const power = load<f64>(POWERS_OF_TEN + ((<usize>abs(exponent)) << 3))
    const value = exponent < 0 ? <f64>digits / power : <f64>digits * power
    store<f64>(outPtr, isNegative ? -value : value)
    return true
  }
  if (digits === 0) {
    store<f64>(outPtr, isNegative ? -0.0 : 0.0)
    return true
  }
  if (exponent < POWER_OF_FIVE_MIN || exponent > POWER_OF_FIVE_MAX) return false
  const leading = <i32>clz(digits)
  const factor = digits << leading
  const power = POWERS_OF_FIVE + ((<usize>(exponent - POWER_OF_FIVE_MIN)) << 4)
  const powerHigh = load<u64>(power)
  let low = factor * powerHigh
  let high = multiplyHigh(factor, powerHigh)
  if ((high & 0x1ff) === 0x1ff) {
    const more = multiplyHigh(factor, load<u64>(power, 8))
    low += more
    if (low < more) high++
  }
  if (low === u64.MAX_VALUE && (exponent < -27 || exponent > 55)) return false
  const upper = <i32>(high >> 63)
  const shift = upper + 9
  let mantissa = high >> shift
  // floor(exponent × log2(10)) + 63 + 1023 and the bits that normalising has moved.
  let binary = ((217_706 * exponent) >> 16) + 63 + upper - leading + 1023
  if (binary <= 0) return false
  if (low <= 1 && exponent >= -4 && exponent <= 23 && (mantissa & 3) === 1 && mantissa << shift === high) {
    // Half-way between two doubles: to even.
    mantissa &= ~1
  }
  mantissa += mantissa & 1
  mantissa >>= 1
  if (mantissa >= 0x20_0000_0000_0000) {
    mantissa = 0x10_0000_0000_0000
    binary++
  }
  if (binary >= 2047) return false
  const bits = (mantissa & 0xf_ffff_ffff_ffff) | ((<u64>binary) << 52) | ((<u64>isNegative) << 63)
  store<u64>(outPtr, bits)
  return true
}

/** `0x` digits `p` exponent: whether it is such a number. Its value is left to the slower parser. */
function isHexFloat(start: usize, end: usize): bool {
  let pos = start
  let digitCount = 0
  let hasPoint = false
  for (; pos < end; pos++) {
    const byte = <u32>load<u8>(pos)
    if (byte === 0x2e && !hasPoint) {
      hasPoint = true
      continue
    }
    if (byte - 0x30 > 9 && (byte | 0x20) - 0x61 > 5) break
    digitCount++
  }
  if (digitCount === 0 || pos === end || (load<u8>(pos) | 0x20) !== 0x70) return false
  pos++
  if (pos < end && (load<u8>(pos) === 0x2b || load<u8>(pos) === 0x2d)) pos++
  const first = pos
  while (pos < end && digitAt(pos) <= 9) pos++
  return pos === end && pos > first && pos - first <= 5
}

/** Stores the double at out when it can tell it. A number beyond the range of doubles is none. */
function parseNumber(ptr: usize, byteLength: u32, outPtr: usize): i32 {
  const end = ptr + byteLength
  const sign = load<u8>(ptr)
  const isNegative = sign === 0x2d
  let pos = ptr + (isNegative || sign === 0x2b ? 1 : 0)
  const length = <u32>(end - pos)
  if (length === 0) return NO_FLOAT
  const first = digitAt(pos)
  if (first > 9 && load<u8>(pos) !== 0x2e) {
    if ((length === 3 && isWord(pos, 3, WORD_INF)) || (length === 8 && isWord(pos, 8, WORD_INFINITY))) {
      store<f64>(outPtr, isNegative ? -Infinity : Infinity)
      return EXACT_FLOAT
    }
    if (length === 3 && isWord(pos, 3, WORD_NAN)) {
      store<f64>(outPtr, NaN)
      return EXACT_FLOAT
    }
    return NO_FLOAT
  }
  if (first === 0 && length > 2 && (load<u8>(pos, 1) | 0x20) === 0x78) {
    return isHexFloat(pos + 2, end) ? HARD_FLOAT : NO_FLOAT
  }
  let digits: u64 = 0
  // Digits in `digits`; leading zeros do not count.
  let digitCount = 0
  let seenCount = 0
  let exponent: i64 = 0
  let isLong = false
  for (; pos < end; pos++) {
    const digit = digitAt(pos)
    if (digit > 9) break
    seenCount++
    if (digitCount < 19) {
      digits = digits * 10 + digit
      if (digits !== 0) digitCount++
    } else {
      exponent++
      isLong = true
    }
  }
  if (pos < end && load<u8>(pos) === 0x2e) {
    pos++
    for (; pos < end; pos++) {
      const digit = digitAt(pos)
      if (digit > 9) break
      seenCount++
      if (digitCount < 19) {
        digits = digits * 10 + digit
        if (digits !== 0) digitCount++
        exponent--
      } else isLong = true
    }
  }
  if (seenCount === 0) return NO_FLOAT
  if (pos < end) {
    if ((load<u8>(pos) | 0x20) !== 0x65) return NO_FLOAT
    pos++
    let isDown = false
    if (pos < end && (load<u8>(pos) === 0x2b || load<u8>(pos) === 0x2d)) {
      isDown = load<u8>(pos) === 0x2d
      pos++
    }
    if (pos === end) return NO_FLOAT
    let power: i64 = 0
    for (; pos < end; pos++) {
      const digit = digitAt(pos)
      if (digit > 9) return NO_FLOAT
      // Beyond this nothing changes any more.
      if (power < 1_000_000_000) power = power * 10 + digit
    }
    exponent += isDown ? -power : power
  }
  if (digits !== 0) {
    const magnitude = exponent + digitCount - 1
    if (magnitude > 308) return NO_FLOAT
    if (magnitude === 308 && leadingDigits(digits, digitCount) > 17_976_931_348_623_158) return NO_FLOAT
  }
  if (isLong || exponent < -400) return HARD_FLOAT
  return scaleDecimal(digits, <i32>exponent, isNegative, outPtr) ? EXACT_FLOAT : HARD_FLOAT
}

/** The first 17 of digitCount digits, zeros appended where there are fewer. */
function leadingDigits(digits: u64, digitCount: i32): u64 {
  let value = digits
  let count = digitCount
  for (; count > 17; count--) value /= 10
  for (; count < 17; count++) value *= 10
  return value
}

/** One bit of the type of a text that is not empty. */
function typeOf(ptr: usize, byteLength: u32, outPtr: usize): u32 {
  const first = <u32>load<u8>(ptr)
  if (first - 0x30 <= 9) {
    if (byteLength >= 10 && load<u8>(ptr, 4) === 0x2d) {
      // A number with a minus in its middle is none but a time, or has an exponent (`1234e-5`, where an `e` stands here).
      if (parseTime(ptr, byteLength, outPtr)) return TIME
    }
  } else {
    const letter = first | 0x20
    if (letter === 0x74 || letter === 0x66) return parseBool(ptr, byteLength) >= 0 ? BOOL : TEXT
    // Numbers begin with a sign, a point, `i` or `n`.
    if (first !== 0x2d && first !== 0x2b && first !== 0x2e && letter !== 0x69 && letter !== 0x6e) return TEXT
  }
  if (parseInteger(ptr, byteLength, outPtr)) return INTEGER
  return parseNumber(ptr, byteLength, outPtr) === NO_FLOAT ? TEXT : FLOAT
}

/** Whether nothing more can change the type of a column: it is text. */
function isSettled(types: u32): bool {
  const kinds = types & TYPES
  return (kinds & TEXT) !== 0 || ((kinds & (kinds - 1)) !== 0 && kinds !== (INTEGER | FLOAT))
}

/**
 * Adds the types of recordCount × columnCount texts to the columns' types.
 *
 * fields  as csvIndex wrote them
 * types   columnCount × u32, bits: 1 time, 2 bool, 4 int64, 8 float64, 16 other text, 32 empty; of a column that can only
 *         be text any more not all bits may be there
 * out     8 bytes, overwritten
 */
export function csvTypes(
  textPtr: usize,
  fieldsPtr: usize,
  columnCount: u32,
  recordCount: u32,
  typesPtr: usize,
  outPtr: usize,
): void {
  let ptr = fieldsPtr
  for (let record: u32 = 0; record < recordCount; record++) {
    for (let column: u32 = 0; column < columnCount; column++, ptr += 8) {
      const typePtr = typesPtr + ((<usize>column) << 2)
      const types = load<u32>(typePtr)
      if (isSettled(types)) continue
      const length = load<u32>(ptr, 4)
      let type: u32 = TEXT
      if (length === 0) type = EMPTY
      else if ((length & IS_ESCAPED) === 0) type = typeOf(textPtr + load<u32>(ptr), length, outPtr)
      store<u32>(typePtr, types | type)
    }
  }
}

/**
 * Reads a column of int64 (kind 4) or time (kind 1). Returns the number of empty fields, whose values are 0; or -1 when a
 * text is no such value.
 *
 * fields    its field of the first record
 * values    recordCount × i64
 * validity  ceil(recordCount / 8) bytes, 1 = present
 */
export function csvIntegers(
  textPtr: usize,
  fieldsPtr: usize,
  columnCount: u32,
  recordCount: u32,
  kind: u32,
  valuesPtr: usize,
  validityPtr: usize,
): i32 {
  const stride = (<usize>columnCount) << 3
  let emptyCount = 0
  let bits: u32 = 0
  let ptr = fieldsPtr
  for (let record: u32 = 0; record < recordCount; record++, ptr += stride) {
    const valuePtr = valuesPtr + ((<usize>record) << 3)
    const length = load<u32>(ptr, 4)
    if (length === 0) {
      emptyCount++
      store<i64>(valuePtr, 0)
    } else {
      if ((length & IS_ESCAPED) !== 0) return -1
      const text = textPtr + load<u32>(ptr)
      if (!(kind === TIME ? parseTime(text, length, valuePtr) : parseInteger(text, length, valuePtr))) return -1
      bits |= 1 << (record & 7)
    }
    if ((record & 7) === 7) {
      store<u8>(validityPtr + (record >> 3), <u8>bits)
      bits = 0
    }
  }
  if (recordCount & 7) store<u8>(validityPtr + (recordCount >> 3), <u8>bits)
  return emptyCount
}

/** The same for bool: values are ceil(recordCount / 8) bytes too. */
export function csvBools(
  textPtr: usize,
  fieldsPtr: usize,
  columnCount: u32,
  recordCount: u32,
  valuesPtr: usize,
  validityPtr: usize,
): i32 {
  const stride = (<usize>columnCount) << 3
  let emptyCount = 0
  let bits: u32 = 0
  let values: u32 = 0
  let ptr = fieldsPtr
  for (let record: u32 = 0; record < recordCount; record++, ptr += stride) {
    const length = load<u32>(ptr, 4)
    if (length === 0) emptyCount++
    else {
      const value = parseBool(textPtr + load<u32>(ptr), length)
      if (value < 0) return -1
      bits |= 1 << (record & 7)
      values |= value << (record & 7)
    }
    if ((record & 7) === 7) {
      store<u8>(validityPtr + (record >> 3), <u8>bits)
      store<u8>(valuesPtr + (record >> 3), <u8>values)
      bits = 0
      values = 0
    }
  }
  if (recordCount & 7) {
    store<u8>(validityPtr + (recordCount >> 3), <u8>bits)
    store<u8>(valuesPtr + (recordCount >> 3), <u8>values)
  }
  return emptyCount
}

/**
 * The same for float64, whose empty fields are 0.0. Values that need a slower parser are left 0; their record numbers are
 * in `hard`.
 *
 * hard    recordCount × u32
 * status  u32: how many are in it
 */
export function csvFloats(
  textPtr: usize,
  fieldsPtr: usize,
  columnCount: u32,
  recordCount: u32,
  valuesPtr: usize,
  validityPtr: usize,
  hardPtr: usize,
  statusPtr: usize,
): i32 {
  const stride = (<usize>columnCount) << 3
  let emptyCount = 0
  let hardCount: u32 = 0
  let bits: u32 = 0
  let ptr = fieldsPtr
  for (let record: u32 = 0; record < recordCount; record++, ptr += stride) {
    const valuePtr = valuesPtr + ((<usize>record) << 3)
    const length = load<u32>(ptr, 4)
    if (length === 0) {
      emptyCount++
      store<f64>(valuePtr, 0)
    } else {
      if ((length & IS_ESCAPED) !== 0) return -1
      const found = parseNumber(textPtr + load<u32>(ptr), length, valuePtr)
      if (found === NO_FLOAT) return -1
      if (found === HARD_FLOAT) {
        store<f64>(valuePtr, 0)
        store<u32>(hardPtr + ((<usize>hardCount) << 2), record)
        hardCount++
      }
      bits |= 1 << (record & 7)
    }
    if ((record & 7) === 7) {
      store<u8>(validityPtr + (record >> 3), <u8>bits)
      bits = 0
    }
  }
  if (recordCount & 7) store<u8>(validityPtr + (recordCount >> 3), <u8>bits)
  store<u32>(statusPtr, hardCount)
  return emptyCount
}
