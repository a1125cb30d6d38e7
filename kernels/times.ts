// Pages of times (int64 nanoseconds): ticks of the coarsest decimal unit that is exact, then as integers.
import { decodeInt64Rows, encodeInt64Page, maxEncodedInt64Page } from './ints'
import { CODEC_SCALED, PAGE_COUNT_MAX } from './page-codecs'
import { integerEnd, readInteger, writeInteger } from './codes'

/** The largest power of ten of nanoseconds that is tried: 10^10 ns are 10 s. */
const EXPONENT_MAX: i32 = 10

/** 10^0 … 10^10. */
const POWERS = memory.data<i64>([
  1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000, 10_000_000_000,
])

/** Bytes that encodeTimePage writes at most. */
export function maxEncodedTimePage(count: i32): i32 {
  return 16 + maxEncodedInt64Page(count)
}

/**
 * Encodes the times of one page and returns the bytes written, at most maxEncodedTimePage(count).
 *
 * values   count × i64 ns, 8-byte aligned, 1 <= count <= 4096; any values, though sorted ones become smallest
 * target   maxEncodedTimePage(count) bytes; all of them may be written
 * scratch  PAGE_SCRATCH bytes, 16-byte aligned, overwritten
 *
 * A regular series is its first time and its step. Others are residuals of deltas, or of deltas of deltas (Gorilla:
 * Pelkonen et al.: A fast, scalable, in-memory time series database, VLDB 2015, section 4.1.1, with bit-packed blocks
 * instead of its prefix code), whichever looks smaller; see encodeInt64Page.
 */
export function encodeTimePage(valuesPtr: usize, count: i32, targetPtr: usize, scratchPtr: usize): i32 {
  const ticksPtr = scratchPtr
  const exponent = writeTicks(valuesPtr, count, ticksPtr)
  if (exponent === 0) return encodeInt64Page(valuesPtr, count, targetPtr, scratchPtr)
  store<u8>(targetPtr, <u8>CODEC_SCALED)
  store<u8>(targetPtr, <u8>exponent, 1)
  const target = writeInteger(targetPtr + 2, load<i64>(valuesPtr))
  const packed = encodeInt64Page(ticksPtr, count, target, scratchPtr + ((<usize>PAGE_COUNT_MAX) << 3))
  return <i32>(target - targetPtr) + packed
}

/**
 * Decodes a page of `count` times. Returns 0, or -1 when the bytes are not such a page; whatever the bytes, it reads
 * only [page, page + byteLength) and writes only count × 8 bytes at target (also when it fails).
 */
export function decodeTimePage(pagePtr: usize, byteLength: i32, count: i32, targetPtr: usize): i32 {
  return decodeTimeRows(pagePtr, byteLength, count, count, targetPtr, 0)
}

/** As decodeTimePage, the first wantedCount values at least; see decodeInt64Rows. */
export function decodeTimeRows(
  pagePtr: usize,
  byteLength: i32,
  count: i32,
  wantedCount: i32,
  targetPtr: usize,
  scratchPtr: usize,
): i32 {
  if (byteLength < 2 || <i32>load<u8>(pagePtr) !== CODEC_SCALED) {
    return decodeInt64Rows(pagePtr, byteLength, count, wantedCount, targetPtr, scratchPtr)
  }
  const end = pagePtr + <usize>byteLength
  const exponent = <i32>load<u8>(pagePtr, 1)
  const source = integerEnd(pagePtr + 2, end)
  if (exponent > EXPONENT_MAX || source === 0) return -1
  const first = readInteger(pagePtr + 2)
  if (decodeInt64Rows(source, <i32>(end - source), count, wantedCount, targetPtr, scratchPtr) < 0) return -1
  const power = load<i64>(POWERS + ((<usize>exponent) << 3))
  const valueEnd = targetPtr + ((<usize>wantedCount) << 3)
  let ptr = targetPtr
  for (; ptr + 32 <= valueEnd; ptr += 32) {
    store<i64>(ptr, first + load<i64>(ptr) * power)
    store<i64>(ptr, first + load<i64>(ptr, 8) * power, 8)
    store<i64>(ptr, first + load<i64>(ptr, 16) * power, 16)
    store<i64>(ptr, first + load<i64>(ptr, 24) * power, 24)
  }
  for (; ptr < valueEnd; ptr += 8) store<i64>(ptr, first + load<i64>(ptr) * power)
  return 0
}

/**
 * Finds the largest exponent such that 10^exponent divides every difference to the first value, and unless it is 0
 * writes the quotients.
 */
function writeTicks(valuesPtr: usize, count: i32, ticksPtr: usize): i32 {
  // A few differences mostly settle the exponent; if a later one does not fit, all is done again.
  let exponent = EXPONENT_MAX
  const sampleCount = min(count, 8)
  while (exponent > 0 && !divideAll(valuesPtr, sampleCount, exponent, ticksPtr)) exponent--
  while (exponent > 0 && !divideAll(valuesPtr, count, exponent, ticksPtr)) exponent--
  return exponent
}

/**
 * Divides the differences to the first value by 10^exponent; false when there is a remainder.
 *
 * An exact division by an odd number is a multiplication by its inverse modulo 2^64; when the division is not exact,
 * the product lies outside the range of quotients (Warren: Hacker's Delight, 2nd edition, 2012, sections 10-16, 10-17).
 */
function divideAll(valuesPtr: usize, count: i32, exponent: i32, ticksPtr: usize): bool {
  const fives = load<i64>(POWERS + ((<usize>exponent) << 3)) >> exponent
  // Every step of Newton's iteration doubles the number of right bits: 3, 6, 12, 24, 48, 96.
  let inverse = fives
  for (let k = 0; k < 5; k++) inverse *= 2 - fives * inverse
  const quotientMax = <u64>(i64.MAX_VALUE / fives)
  const quotientSpan = quotientMax << 1
  const evenMask = ((<i64>1) << exponent) - 1
  const first = load<i64>(valuesPtr)
  const end = valuesPtr + ((<usize>count) << 3)
  const shift = ticksPtr - valuesPtr
  let low: i64 = 0
  let isOutside: i32 = 0
  let ptr = valuesPtr
  for (; ptr + 16 <= end; ptr += 16) {
    const a = load<i64>(ptr) - first
    const b = load<i64>(ptr, 8) - first
    low |= a | b
    const aQuotient = (a >> exponent) * inverse
    const bQuotient = (b >> exponent) * inverse
    isOutside |= i32(<u64>aQuotient + quotientMax > quotientSpan) | i32(<u64>bQuotient + quotientMax > quotientSpan)
    store<i64>(ptr + shift, aQuotient)
    store<i64>(ptr + shift, bQuotient, 8)
  }
  if (ptr < end) {
    const a = load<i64>(ptr) - first
    low |= a
    const aQuotient = (a >> exponent) * inverse
    isOutside |= i32(<u64>aQuotient + quotientMax > quotientSpan)
    store<i64>(ptr + shift, aQuotient)
  }
  return isOutside === 0 && (low & evenMask) === 0
}
