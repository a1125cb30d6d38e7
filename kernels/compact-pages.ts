// Pages of 64-bit cells as they are kept for look-ups: any cell is found without decoding the others, in as few whole bytes
// as the widest of the page needs. Never stored.
//
//   │ base i64 │ power f64 │ byteWidth u32 │ validityByteLength u32 │ validity │ rowCount × byteWidth │ 8 unused bytes │
//
// A cell is base + its bytes; with a power other than 0 it is a float64, that number divided by the power.
import { maskOfWidth } from './codes'
import { CODEC_DECIMALS } from './page-codecs'

const HEADER_BYTE_LENGTH: usize = 24
/** Up to here every integer is a float64. */
const INTEGER_MAX: f64 = 9007199254740992
/** Powers of ten up to this one are exact. */
const DIGITS_MAX: i32 = 15

/** Bytes that compactPage writes at most. */
export function compactPageByteLengthMax(rowCount: i32): i32 {
  return <i32>HEADER_BYTE_LENGTH + (((rowCount + 63) >> 6) << 3) + (rowCount << 3) + 8
}

/** Decimal places of the values of an encoded float64 page; -1 where they are not kept as decimals. */
export function decimalPlacesOfPage(pagePtr: usize, byteLength: i32): i32 {
  if (byteLength < 2 || <i32>load<u8>(pagePtr) !== CODEC_DECIMALS) return -1
  const digitCount = <i32>load<u8>(pagePtr, 1)
  return digitCount <= DIGITS_MAX ? digitCount : -1
}

/**
 * Writes a decoded page of 64-bit cells in the form above; returns its bytes, at most compactPageByteLengthMax.
 *
 * values      rowCount × 8 bytes, 8-byte aligned, 1 <= rowCount <= 4096; validity: bitmap, whole 8 bytes, or 0
 * digitCount  float64 with so many decimal places (0 to 15), as far as every cell is such a number; -1: any 64 bits
 * target      8-byte aligned; all of compactPageByteLengthMax bytes may be written
 */
export function compactPage(
  valuesPtr: usize,
  validityPtr: usize,
  rowCount: i32,
  digitCount: i32,
  targetPtr: usize,
): i32 {
  let power: f64 = 0
  if (digitCount >= 0) {
    power = 1
    for (let i = 0; i < digitCount; i++) power *= 10
    if (!areDecimals(valuesPtr, validityPtr, rowCount, power)) power = 0
  }
  let low = i64.MAX_VALUE
  let high = i64.MIN_VALUE
  for (let row = 0; row < rowCount; row++) {
    if (!isPresent(validityPtr, row)) continue
    const integer = integerAt(valuesPtr + ((<usize>row) << 3), power)
    low = min(low, integer)
    high = max(high, integer)
  }
  if (low > high) {
    low = 0
    high = 0
  }
  const byteWidth = (71 - <i32>clz(<u64>high - <u64>low)) >> 3
  const validityByteLength = validityPtr === 0 ? <usize>0 : (<usize>((rowCount + 63) >> 6)) << 3
  store<i64>(targetPtr, low)
  store<f64>(targetPtr, power, 8)
  store<u32>(targetPtr, <u32>byteWidth, 16)
  store<u32>(targetPtr, <u32>validityByteLength, 20)
  memory.copy(targetPtr + HEADER_BYTE_LENGTH, validityPtr, validityByteLength)
  // Each store writes 8 bytes: the next one puts right what the last one wrote behind its cell.
  let target = targetPtr + HEADER_BYTE_LENGTH + validityByteLength
  for (let row = 0; row < rowCount; row++) {
    const integer = isPresent(validityPtr, row) ? integerAt(valuesPtr + ((<usize>row) << 3), power) : low
    store<i64>(target, integer - low)
    target += <usize>byteWidth
  }
  return <i32>(target - targetPtr) + 8
}

/**
 * Copies cells of a compact page to where they are wanted: as scatter64 for the values and as scatterBits for the validity,
 * except that the value of a missing cell stays as it is. Returns how many cells are present.
 *
 * places  count × u32, read only; rows: u32, read only
 */
export function scatterCompact(
  pagePtr: usize,
  placesPtr: usize,
  count: i32,
  rowsPtr: usize,
  rowOffset: u32,
  targetPtr: usize,
  targetValidityPtr: usize,
): i32 {
  const base = load<i64>(pagePtr)
  const power = load<f64>(pagePtr, 8)
  const byteWidth = load<u32>(pagePtr, 16)
  const validityByteLength = <usize>load<u32>(pagePtr, 20)
  const validityPtr = validityByteLength === 0 ? <usize>0 : pagePtr + HEADER_BYTE_LENGTH
  const valuesPtr = pagePtr + HEADER_BYTE_LENGTH + validityByteLength
  const mask = maskOfWidth((<i32>byteWidth) << 3)
  let presentCount = 0
  for (let i = 0; i < count; i++) {
    const place = load<u32>(placesPtr + ((<usize>i) << 2))
    const row = load<u32>(rowsPtr + ((<usize>place) << 2)) - rowOffset
    const bit: u32 = isPresent(validityPtr, <i32>row) ? 1 : 0
    const bitPtr = targetValidityPtr + (<usize>place >> 3)
    store<u8>(bitPtr, (<u32>load<u8>(bitPtr) & ~(1 << (place & 7))) | (bit << (place & 7)))
    if (bit === 0) continue
    presentCount++
    const integer = base + <i64>(load<u64>(valuesPtr + <usize>(row * byteWidth)) & mask)
    const cellPtr = targetPtr + ((<usize>place) << 3)
    if (power === 0) store<i64>(cellPtr, integer)
    else store<f64>(cellPtr, <f64>integer / power)
  }
  return presentCount
}

/** Whether every cell is, bit for bit, an integer divided by the power. */
function areDecimals(valuesPtr: usize, validityPtr: usize, rowCount: i32, power: f64): bool {
  for (let row = 0; row < rowCount; row++) {
    if (!isPresent(validityPtr, row)) continue
    const ptr = valuesPtr + ((<usize>row) << 3)
    const integer = nearest(load<f64>(ptr) * power)
    // NaN is not below anything.
    if (!(abs(integer) < INTEGER_MAX)) return false
    if (reinterpret<i64>(<f64>(<i64>integer) / power) !== load<i64>(ptr)) return false
  }
  return true
}

function integerAt(ptr: usize, power: f64): i64 {
  return power === 0 ? load<i64>(ptr) : <i64>nearest(load<f64>(ptr) * power)
}

function isPresent(validityPtr: usize, row: i32): bool {
  return validityPtr === 0 || ((<u32>load<u8>(validityPtr + (<usize>row >> 3)) >> (row & 7)) & 1) !== 0
}
