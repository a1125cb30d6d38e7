// Pages of 64-bit cells as they are kept for look-ups: any cell is found without decoding the others, in as few bits as the
// widest of the page needs. Never stored.
//
//   │ base i64 │ power f64 │ unit i64 │ bitWidth u32 │ validityByteLength u32 │ validity │ codes, 8-byte aligned │ 8 unused │
//
// A cell is base + unit × its code; with a power other than 0 it is a float64, that number divided by the power.
import { putBit } from './bits'
import { bitLength, maskOfWidth } from './codes'
import { CODEC_DECIMALS } from './page-codecs'

const HEADER_BYTE_LENGTH: usize = 32
/** Up to here every integer is a float64. */
const INTEGER_MAX: f64 = 9007199254740992
/** Powers of ten up to this one are exact. */
const DIGITS_MAX: i32 = 15
/** Codes of up to so many bits are found by one load; wider ones take all 64. */
const NARROW_WIDTH_MAX: i32 = 57
/** In a narrower range a common divisor saves too little. */
const DIVIDED_WIDTH_MIN: i32 = 16

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
  const range = <u64>high - <u64>low
  const unit: u64 =
    bitLength(range) >= DIVIDED_WIDTH_MIN ? commonDivisor(valuesPtr, validityPtr, rowCount, power, low) : 1
  let bitWidth = bitLength(range / unit)
  if (bitWidth > NARROW_WIDTH_MAX) bitWidth = 64
  const validityByteLength = validityPtr === 0 ? <usize>0 : (<usize>((rowCount + 63) >> 6)) << 3
  store<i64>(targetPtr, low)
  store<f64>(targetPtr, power, 8)
  store<u64>(targetPtr, unit, 16)
  store<u32>(targetPtr, <u32>bitWidth, 24)
  store<u32>(targetPtr, <u32>validityByteLength, 28)
  memory.copy(targetPtr + HEADER_BYTE_LENGTH, validityPtr, validityByteLength)
  let target = targetPtr + HEADER_BYTE_LENGTH + validityByteLength
  let held: u64 = 0
  let heldCount = 0
  for (let row = 0; row < rowCount; row++) {
    const integer = isPresent(validityPtr, row) ? integerAt(valuesPtr + ((<usize>row) << 3), power) : low
    const distance = <u64>integer - <u64>low
    const code = unit === 1 ? distance : distance / unit
    held |= code << heldCount
    heldCount += bitWidth
    if (heldCount >= 64) {
      store<u64>(target, held)
      target += 8
      heldCount -= 64
      held = heldCount === 0 ? 0 : code >> (bitWidth - heldCount)
    }
  }
  if (heldCount > 0) {
    store<u64>(target, held)
    target += 8
  }
  return <i32>(target - targetPtr) + 8
}

/**
 * Copies cells of compact pages to where they are wanted: cell i is row pageRows[i] of page pages[i], and goes to
 * places[i] of the target, where its bit of validity is written, too; the value of a missing cell stays as it is. Cells
 * whose page is 0 are left out. Returns how many cells are present.
 *
 * First where all codes stand is found, then they are fetched, then decoded: in loops of few instructions, which do not wait for
 * each other, the processor fetches a dozen lines of memory at once (Shimin Chen, Anastassia Ailamaki, Phillip Gibbons, Todd
 * Mowry: Improving Hash Join Performance through Prefetching, ICDE 2004, group prefetching).
 *
 * pages, places, pageRows  count × u32, read only
 * work                     count × 8 bytes, 8-byte aligned, overwritten
 */
export function scatterCompact(
  pagesPtr: usize,
  placesPtr: usize,
  pageRowsPtr: usize,
  count: i32,
  workPtr: usize,
  targetPtr: usize,
  targetValidityPtr: usize,
): i32 {
  for (let i = 0; i < count; i++) {
    const at = (<usize>i) << 2
    const pagePtr = <usize>load<u32>(pagesPtr + at)
    // Page 0 has nothing to say, but can be read.
    const bitIndex = load<u32>(pageRowsPtr + at) * load<u32>(pagePtr, 24)
    const codesPtr = pagePtr + HEADER_BYTE_LENGTH + <usize>load<u32>(pagePtr, 28)
    store<u32>(workPtr + (at << 1), pagePtr === 0 ? 0 : <u32>codesPtr + (bitIndex >> 3))
  }
  for (let i = 0; i < count; i++) {
    const codePtr = workPtr + ((<usize>i) << 3)
    store<u64>(codePtr, load<u64>(<usize>load<u32>(codePtr)))
  }
  let presentCount = 0
  for (let i = 0; i < count; i++) {
    const at = (<usize>i) << 2
    const pagePtr = <usize>load<u32>(pagesPtr + at)
    if (pagePtr === 0) continue
    const place = <i32>load<u32>(placesPtr + at)
    const row = <i32>load<u32>(pageRowsPtr + at)
    const isThere = load<u32>(pagePtr, 28) === 0 || isPresent(pagePtr + HEADER_BYTE_LENGTH, row)
    putBit(targetValidityPtr, place, isThere)
    if (!isThere) continue
    presentCount++
    const bitWidth = <i32>load<u32>(pagePtr, 24)
    const bits = load<u64>(workPtr + (at << 1)) >> ((row * bitWidth) & 7)
    const integer = load<i64>(pagePtr) + <i64>((bits & maskOfWidth(bitWidth)) * load<u64>(pagePtr, 16))
    const power = load<f64>(pagePtr, 8)
    const cellPtr = targetPtr + ((<usize>place) << 3)
    if (power === 0) store<i64>(cellPtr, integer)
    else store<f64>(cellPtr, <f64>integer / power)
  }
  return presentCount
}

/** The greatest common divisor of how far the cells are above `low`; 1 where there is no other. */
function commonDivisor(valuesPtr: usize, validityPtr: usize, rowCount: i32, power: f64, low: i64): u64 {
  let divisor: u64 = 0
  for (let row = 0; row < rowCount; row++) {
    if (!isPresent(validityPtr, row)) continue
    let rest = <u64>integerAt(valuesPtr + ((<usize>row) << 3), power) - <u64>low
    if (divisor !== 0 && rest % divisor === 0) continue
    // Euclid's algorithm.
    while (rest !== 0) {
      const next = divisor % rest
      divisor = rest
      rest = next
    }
    if (divisor === 1) return 1
  }
  return max<u64>(divisor, 1)
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
