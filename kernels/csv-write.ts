// Columns → CSV text: comma, LF, quotes where a text needs them.
import { copyText } from './text'

const COMMA: u8 = 0x2c
const QUOTE: u8 = 0x22
const LF: u8 = 0x0a

/** dtypes, as in frames. */
const INT64: u32 = 1
const FLOAT64: u32 = 2
const STRING: u32 = 3
const TIME: u32 = 4
const BOOL: u32 = 5

/** A record of the columns table. */
const COLUMN_BYTE_LENGTH: usize = 24
/** A float's text: its byte length, then the text, 24 bytes at most. */
const SLOT_BYTE_LENGTH: usize = 32
/** What a field that is no string takes at most, with the comma behind it. */
const FIELD_BYTE_LENGTH_MAX: usize = 40
/** Decimals with so many digits at most are shortest when they read back as the same double. */
const SHORT_LIMIT: f64 = 1e15
const PLACES_MAX: i32 = 15

/** 10^0 … 10^15, all of them exact. */
const POWERS = memory.data<f64>([1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15])

/** Writes a number in decimal; returns the place behind it. */
function writeDigits(ptr: usize, value: u64): usize {
  let count = 1
  for (let rest = value / 10; rest !== 0; rest /= 10) count++
  let rest = value
  for (let pos = ptr + count - 1; pos >= ptr; pos--) {
    const next = rest / 10
    store<u8>(pos, <u8>(0x30 + rest - next * 10))
    rest = next
  }
  return ptr + count
}

/** Writes `count` digits, zeros before the number where it has fewer. */
function writePadded(ptr: usize, value: u64, count: i32): usize {
  let rest = value
  for (let i = count - 1; i >= 0; i--) {
    const next = rest / 10
    store<u8>(ptr + i, <u8>(0x30 + rest - next * 10))
    rest = next
  }
  return ptr + count
}

function writeInteger(ptr: usize, value: i64): usize {
  if (value >= 0) return writeDigits(ptr, <u64>value)
  store<u8>(ptr, 0x2d)
  return writeDigits(ptr + 1, 0 - <u64>value)
}

/** RFC 3339 in UTC, without the zeros at the end of the fraction. `civil_from_days` is Howard Hinnant's, 2013. */
function writeTime(ptr: usize, timeNs: i64): usize {
  let seconds = timeNs / 1_000_000_000
  let fraction = timeNs - seconds * 1_000_000_000
  if (fraction < 0) {
    fraction += 1_000_000_000
    seconds--
  }
  let days = seconds / 86_400
  let second = <i32>(seconds - days * 86_400)
  if (second < 0) {
    second += 86_400
    days--
  }
  // int64 nanoseconds are the years 1677 to 2262: nothing is negative.
  const shifted = <i32>days + 719_468
  const era = shifted / 146_097
  const dayOfEra = shifted - era * 146_097
  const yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
  const dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
  const monthFromMarch = (5 * dayOfYear + 2) / 153
  const day = dayOfYear - (153 * monthFromMarch + 2) / 5 + 1
  const month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9
  const year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
  let pos = writePadded(ptr, year, 4)
  store<u8>(pos, 0x2d)
  pos = writePadded(pos + 1, month, 2)
  store<u8>(pos, 0x2d)
  pos = writePadded(pos + 1, day, 2)
  store<u8>(pos, 0x54)
  pos = writePadded(pos + 1, second / 3600, 2)
  store<u8>(pos, 0x3a)
  pos = writePadded(pos + 1, (second / 60) % 60, 2)
  store<u8>(pos, 0x3a)
  pos = writePadded(pos + 1, second % 60, 2)
  if (fraction !== 0) {
    let places = 9
    let digits = <u64>fraction
    while (digits % 10 === 0) {
      digits /= 10
      places--
    }
    store<u8>(pos, 0x2e)
    pos = writePadded(pos + 1, digits, places)
  }
  store<u8>(pos, 0x5a)
  return pos + 1
}

/** The shortest decimal of a double with few digits, or 0 when it has more: ptr moves past the text. */
function writeShortFloat(ptr: usize, value: f64): usize {
  const magnitude = abs(value)
  if (magnitude !== 0 && !(magnitude >= 1e-4 && magnitude < SHORT_LIMIT)) return 0
  for (let places = 0; places <= PLACES_MAX; places++) {
    const power = load<f64>(POWERS + ((<usize>places) << 3))
    const scaled = nearest(magnitude * power)
    if (scaled >= SHORT_LIMIT) return 0
    if (scaled / power !== magnitude) continue
    const digits = <u64>scaled
    const divisor = <u64>power
    let pos = ptr
    if (reinterpret<u64>(value) >> 63) store<u8>(pos++, 0x2d)
    pos = writeDigits(pos, digits / divisor)
    if (places === 0) return pos
    store<u8>(pos, 0x2e)
    return writePadded(pos + 1, digits % divisor, places)
  }
  return 0
}

/**
 * Writes the texts of float64 values into slots: shortest digits that read back as the same value, `NaN`, `+Inf`, `-Inf`.
 * Returns how many are left to the caller; their numbers are in `hard`.
 *
 * values  count × f64
 * slots   count × 32 bytes: the byte length of the text, then the text
 * hard    count × u32
 */
export function csvFloatTexts(valuesPtr: usize, count: u32, slotsPtr: usize, hardPtr: usize): u32 {
  let hardCount: u32 = 0
  for (let i: u32 = 0; i < count; i++) {
    const value = load<f64>(valuesPtr + ((<usize>i) << 3))
    const slot = slotsPtr + <usize>i * SLOT_BYTE_LENGTH
    if (!(value <= Infinity)) {
      store<u32>(slot, 0x4e614e03)
      continue
    }
    if (abs(value) === Infinity) {
      store<u32>(slot, value > 0 ? 0x6e492b04 : 0x6e492d04)
      store<u8>(slot, 0x66, 4)
      continue
    }
    const end = writeShortFloat(slot + 1, value)
    if (end !== 0) store<u8>(slot, <u8>(end - slot - 1))
    else {
      store<u32>(hardPtr + ((<usize>hardCount) << 2), i)
      hardCount++
    }
  }
  return hardCount
}

/** Whether a text must be quoted: it holds a comma, a quote or a line end, or begins with a blank that readers may drop. */
function needsQuotes(ptr: usize, byteLength: u32): bool {
  if (byteLength === 0) return false
  const first = load<u8>(ptr)
  if (first === 0x20 || first === 0x09) return true
  let i: u32 = 0
  for (; i + 16 <= byteLength; i += 16) {
    const bytes = v128.load(ptr + i)
    const marks = v128.or(
      v128.or(i8x16.eq(bytes, i8x16.splat(COMMA)), i8x16.eq(bytes, i8x16.splat(QUOTE))),
      v128.or(i8x16.eq(bytes, i8x16.splat(LF)), i8x16.eq(bytes, i8x16.splat(0x0d))),
    )
    if (v128.any_true(marks)) return true
  }
  for (; i < byteLength; i++) {
    const byte = load<u8>(ptr + i)
    if (byte === COMMA || byte === QUOTE || byte === LF || byte === 0x0d) return true
  }
  return false
}

function writeText(target: usize, ptr: usize, byteLength: u32): usize {
  if (!needsQuotes(ptr, byteLength)) {
    copyText(target, ptr, byteLength)
    return target + byteLength
  }
  let pos = target
  store<u8>(pos++, QUOTE)
  for (let i: u32 = 0; i < byteLength; i++) {
    const byte = load<u8>(ptr + i)
    store<u8>(pos++, byte)
    if (byte === QUOTE) store<u8>(pos++, QUOTE)
  }
  store<u8>(pos++, QUOTE)
  return pos
}

/**
 * Writes the rows [rowStart, rowEnd) as records while there is room for them. Returns how many it wrote.
 *
 * columns  columnCount × 6 × u32: dtype (0: every cell is missing); 1 for one value that stands for all rows, else 0; values;
 *          validity or 0; the bytes of strings; the slots of floats, whose first is row rowStart (or the one value)
 * target   targetByteLength bytes
 * status   u32: the bytes written
 */
export function csvRecords(
  columnsPtr: usize,
  columnCount: u32,
  rowStart: u32,
  rowEnd: u32,
  targetPtr: usize,
  targetByteLength: u32,
  statusPtr: usize,
): u32 {
  const targetEnd = targetPtr + targetByteLength
  let pos = targetPtr
  let row = rowStart
  for (; row < rowEnd; row++) {
    const next = writeRecord(columnsPtr, columnCount, row, row - rowStart, pos, targetEnd)
    if (next === 0) break
    pos = next
  }
  store<u32>(statusPtr, <u32>(pos - targetPtr))
  return row - rowStart
}

/** Returns the place behind the record, or 0 when there is no room for it. */
function writeRecord(
  columnsPtr: usize,
  columnCount: u32,
  row: u32,
  slotRow: u32,
  targetPtr: usize,
  targetEnd: usize,
): usize {
  let pos = targetPtr
  for (let i: u32 = 0; i < columnCount; i++) {
    const column = columnsPtr + <usize>i * COLUMN_BYTE_LENGTH
    if (pos + FIELD_BYTE_LENGTH_MAX > targetEnd) return 0
    if (i > 0) store<u8>(pos++, COMMA)
    const dtype = load<u32>(column)
    const validity = <usize>load<u32>(column, 12)
    if (dtype === 0) continue
    if (validity !== 0 && ((load<u8>(validity + (row >> 3)) >> (row & 7)) & 1) === 0) continue
    const isOne = load<u32>(column, 4) !== 0
    const place: usize = isOne ? 0 : row
    const values = <usize>load<u32>(column, 8)
    if (dtype === INT64) pos = writeInteger(pos, load<i64>(values + (place << 3)))
    else if (dtype === TIME) pos = writeTime(pos, load<i64>(values + (place << 3)))
    else if (dtype === FLOAT64) {
      const slot = <usize>load<u32>(column, 20) + (isOne ? 0 : <usize>slotRow) * SLOT_BYTE_LENGTH
      const byteLength = <u32>load<u8>(slot)
      copyText(pos, slot + 1, byteLength)
      pos += byteLength
    } else if (dtype === BOOL) {
      if ((load<u8>(values + (place >> 3)) >> <u8>(place & 7)) & 1) {
        store<u32>(pos, 0x65757274)
        pos += 4
      } else {
        store<u32>(pos, 0x736c6166)
        store<u8>(pos, 0x65, 4)
        pos += 5
      }
    } else if (dtype === STRING) {
      const start = load<u32>(values + (place << 2))
      const byteLength = load<u32>(values + (place << 2), 4) - start
      if (pos + ((<usize>byteLength) << 1) + FIELD_BYTE_LENGTH_MAX > targetEnd) return 0
      pos = writeText(pos, <usize>load<u32>(column, 16) + start, byteLength)
    }
  }
  // A blank line is no record: one empty field is written with quotes.
  if (columnCount === 1 && pos === targetPtr) {
    store<u16>(pos, 0x2222)
    pos += 2
  }
  store<u8>(pos, LF)
  return pos + 1
}
