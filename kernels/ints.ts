// int64 pages: integers of one page as small differences, bit-packed. docs/formats.md draws the bytes.
import { integerEnd, readInteger } from './codes'
import { writePage, writePageLike } from './int-pages'
import { maxPackedByteLength, unpackBlocks } from './packing'
import { CODEC_CONSTANT, CODEC_PACKED, CODEC_PROGRESSION, CODEC_RAW, PAGE_COUNT_MAX } from './page-codecs'
import { SMALL_SCRATCH, smallIntegers } from './small-ints'

/** Bytes that encodeInt64Page writes at most. */
export function maxEncodedInt64Page(count: i32): i32 {
  return 32 + maxPackedByteLength(count)
}

/**
 * Encodes the values of one page and returns the bytes written, at most maxEncodedInt64Page(count).
 *
 * values   count × i64, 8-byte aligned, 1 <= count <= 4096, read only; a missing cell has no value here
 * target   maxEncodedInt64Page(count) bytes; all of them may be written
 * scratch  PAGE_SCRATCH bytes, 16-byte aligned, overwritten
 *
 * The page holds, in this order of preference: one value; first and step; residuals, bit-packed; raw values. A residual
 * is what is left of a value after subtracting a base (order 0), the value before it and a base (order 1: delta), or
 * the value and the difference before it (order 2: delta of deltas). All arithmetic wraps, so every int64 comes back.
 */
export function encodeInt64Page(valuesPtr: usize, count: i32, targetPtr: usize, scratchPtr: usize): i32 {
  return writePage(valuesPtr, 0, 0, count, targetPtr, scratchPtr)
}

/**
 * As encodeInt64Page, for a page that is likely to look as the one before it in its column: residuals of that page's order,
 * and of order 1 of its base. Returns 0 when it would take more than byteLengthMax bytes, or is a progression: then it is
 * for encodeInt64Page.
 *
 * order  0 to 2
 */
export function encodeInt64PageLike(
  valuesPtr: usize,
  count: i32,
  order: i32,
  base: i64,
  byteLengthMax: i32,
  targetPtr: usize,
  scratchPtr: usize,
): i32 {
  return writePageLike(valuesPtr, 0, 0, count, order, base, byteLengthMax, targetPtr, scratchPtr)
}

/**
 * Decodes a page of `count` values. Returns 0, or -1 when the bytes are not such a page; whatever the bytes, it reads
 * only [page, page + byteLength) and writes only count × 8 bytes at target (also when it fails).
 *
 * target  count × i64, 8-byte aligned
 */
export function decodeInt64Page(pagePtr: usize, byteLength: i32, count: i32, targetPtr: usize): i32 {
  return decodeInt64Rows(pagePtr, byteLength, count, count, targetPtr, 0)
}

/** Scratch of decodeInt64Rows and decodeTimeRows, in bytes. */
export function rowsScratchByteLength(): i32 {
  return <i32>SMALL_SCRATCH + PAGE_COUNT_MAX
}

/**
 * As decodeInt64Page, the first wantedCount values at least. What stands behind them in the page is not looked at, and behind
 * them at the target may be overwritten.
 *
 * wantedCount  1 to count
 * scratch      rowsScratchByteLength() bytes, 16-byte aligned, overwritten: values of 0 to 127 are decoded as bytes, in a third
 *              of the time; 0: there is none
 */
export function decodeInt64Rows(
  pagePtr: usize,
  byteLength: i32,
  count: i32,
  wantedCount: i32,
  targetPtr: usize,
  scratchPtr: usize,
): i32 {
  if (byteLength < 1 || wantedCount < 1 || wantedCount > count || count > PAGE_COUNT_MAX) return -1
  const bytesPtr = scratchPtr + SMALL_SCRATCH
  if (
    scratchPtr !== 0 &&
    byteLength < count &&
    smallIntegers(pagePtr, byteLength, count, wantedCount, bytesPtr, scratchPtr)
  ) {
    widenBytes(bytesPtr, wantedCount, targetPtr)
    return 0
  }
  const end = pagePtr + <usize>byteLength
  const codec = <i32>load<u8>(pagePtr)
  const valueEnd = targetPtr + ((<usize>wantedCount) << 3)
  if (codec === CODEC_RAW) {
    if (byteLength !== 1 + (count << 3)) return -1
    memory.copy(targetPtr, pagePtr + 1, (<usize>wantedCount) << 3)
    return 0
  }
  if (codec === CODEC_CONSTANT || codec === CODEC_PROGRESSION) {
    let source = integerEnd(pagePtr + 1, end)
    if (source === 0) return -1
    const value = readInteger(pagePtr + 1)
    let step: i64 = 0
    if (codec === CODEC_PROGRESSION) {
      const stepPtr = source
      source = integerEnd(stepPtr, end)
      if (source === 0) return -1
      step = readInteger(stepPtr)
    }
    if (source !== end) return -1
    let pair = i64x2.replace_lane(i64x2.splat(value), 1, value + step)
    const pairStep = i64x2.splat(step << 1)
    let ptr = targetPtr
    for (; ptr + 16 <= valueEnd; ptr += 16) {
      v128.store(ptr, pair)
      pair = i64x2.add(pair, pairStep)
    }
    if (ptr < valueEnd) store<i64>(ptr, i64x2.extract_lane(pair, 0))
    return 0
  }
  if (codec !== CODEC_PACKED || byteLength < 2) return -1
  const order = <i32>load<u8>(pagePtr, 1)
  if (order > 2) return -1
  let source = integerEnd(pagePtr + 2, end)
  if (source === 0) return -1
  const base = readInteger(pagePtr + 2)
  let first: i64 = 0
  if (order > 0) {
    const firstPtr = source
    source = integerEnd(firstPtr, end)
    if (source === 0) return -1
    first = readInteger(firstPtr)
  }
  if (unpackBlocks(source, end, count, wantedCount, targetPtr) < 0) return -1
  if (order === 0) addBase(targetPtr, wantedCount, base)
  else if (order === 1) addDeltas(targetPtr, wantedCount, first - base, base)
  else addDeltasOfDeltas(targetPtr, wantedCount, first - base, base)
  return 0
}

/** Bytes as i64. */
function widenBytes(bytesPtr: usize, count: i32, targetPtr: usize): void {
  const end = bytesPtr + <usize>count
  let at = bytesPtr
  let target = targetPtr
  for (; at + 16 <= end; at += 16, target += 128) {
    const bytes = v128.load(at)
    const low = i16x8.extend_low_i8x16_u(bytes)
    const high = i16x8.extend_high_i8x16_u(bytes)
    const a = i32x4.extend_low_i16x8_u(low)
    const b = i32x4.extend_high_i16x8_u(low)
    const c = i32x4.extend_low_i16x8_u(high)
    const d = i32x4.extend_high_i16x8_u(high)
    v128.store(target, i64x2.extend_low_i32x4_u(a))
    v128.store(target, i64x2.extend_high_i32x4_u(a), 16)
    v128.store(target, i64x2.extend_low_i32x4_u(b), 32)
    v128.store(target, i64x2.extend_high_i32x4_u(b), 48)
    v128.store(target, i64x2.extend_low_i32x4_u(c), 64)
    v128.store(target, i64x2.extend_high_i32x4_u(c), 80)
    v128.store(target, i64x2.extend_low_i32x4_u(d), 96)
    v128.store(target, i64x2.extend_high_i32x4_u(d), 112)
  }
  for (; at < end; at++, target += 8) store<u64>(target, <u64>load<u8>(at))
}

/** In place: values[i] = base + residuals[i]. */
function addBase(ptr: usize, count: i32, base: i64): void {
  const end = ptr + ((<usize>count) << 3)
  const bases = i64x2.splat(base)
  let at = ptr
  for (; at + 32 <= end; at += 32) {
    v128.store(at, i64x2.add(bases, v128.load(at)))
    v128.store(at, i64x2.add(bases, v128.load(at, 16)), 16)
  }
  for (; at < end; at += 8) store<i64>(at, base + load<i64>(at))
}

/** In place: values[i] = values[i - 1] + base + residuals[i], where values[-1] is `before`. */
function addDeltas(ptr: usize, count: i32, before: i64, base: i64): void {
  const end = ptr + ((<usize>count) << 3)
  const bases = i64x2.splat(base)
  const zero = i64x2.splat(0)
  let carry = i64x2.splat(before)
  let at = ptr
  for (; at + 32 <= end; at += 32) {
    // Sums within pairs, then of the pairs, then of all before: two additions a step wait for the step before.
    const a = i64x2.add(bases, v128.load(at))
    const b = i64x2.add(bases, v128.load(at, 16))
    const aSums = i64x2.add(a, v128.shuffle<i64>(zero, a, 0, 2))
    const bSums = i64x2.add(b, v128.shuffle<i64>(zero, b, 0, 2))
    const abSums = i64x2.add(bSums, v128.shuffle<i64>(aSums, aSums, 1, 1))
    v128.store(at, i64x2.add(carry, aSums))
    v128.store(at, i64x2.add(carry, abSums), 16)
    carry = i64x2.add(carry, v128.shuffle<i64>(abSums, abSums, 1, 1))
  }
  let value = i64x2.extract_lane(carry, 0)
  for (; at < end; at += 8) {
    value += base + load<i64>(at)
    store<i64>(at, value)
  }
}

/** In place: values[i] = values[i - 1] + deltas[i], deltas[i] = deltas[i - 1] + residuals[i]. */
function addDeltasOfDeltas(ptr: usize, count: i32, before: i64, deltaBefore: i64): void {
  const end = ptr + ((<usize>count) << 3)
  let value = before
  let delta = deltaBefore
  for (let at = ptr; at < end; at += 8) {
    delta += load<i64>(at)
    value += delta
    store<i64>(at, value)
  }
}
