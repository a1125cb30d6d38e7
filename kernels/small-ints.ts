// Pages of int64 whose values all are 0 to 127, as a byte each: varints of one byte. The same steps as in packing.ts and
// ints.ts in 16-bit lanes, four times as many at once. Internal to ints.ts, wire-pages.ts and compare-pages.ts.
import { addByteSteps, BYTE_SCRATCH, isByteBlock, unpackByteBlock } from './byte-ints'
import { integerEnd, packedByteLength, readInteger, readNarrowBits } from './codes'
import { CODEC_PACKED } from './page-codecs'

/** Codes of one block, and of one vertical group; see packing.ts. */
export const BLOCK_COUNT: i32 = 256
const GROUP_COUNT: i32 = 128
const ESCAPES: i32 = 128
/** With narrower codes, escapes and bases a step from 0 to 127 cannot wrap around into them again. */
const WIDTH_MAX: i32 = 14
export const INTEGER_MAX: i64 = 16_383

/** Scratch of smallIntegers, in bytes. */
export const SMALL_SCRATCH: usize = BYTE_SCRATCH

/**
 * Decodes the first wantedCount values of a page as decodeInt64Rows does. False when it is another page than that: with other
 * values, of another codec, or malformed; then what is written is no good. It reads only [page, page + byteLength).
 *
 * wantedCount  1 to count
 * target       count bytes, rounded up to 16
 * scratch      SMALL_SCRATCH bytes, 16-byte aligned, overwritten
 */
export function smallIntegers(
  pagePtr: usize,
  byteLength: i32,
  count: i32,
  wantedCount: i32,
  targetPtr: usize,
  scratchPtr: usize,
): bool {
  if (byteLength < 3 || <i32>load<u8>(pagePtr) !== CODEC_PACKED) return false
  const end = pagePtr + <usize>byteLength
  const order = <i32>load<u8>(pagePtr, 1)
  if (order > 1) return false
  let source = integerEnd(pagePtr + 2, end)
  if (source === 0) return false
  const base = readInteger(pagePtr + 2)
  let before: i64 = 0
  if (order === 1) {
    const firstPtr = source
    source = integerEnd(firstPtr, end)
    if (source === 0) return false
    before = readInteger(firstPtr)
    if (<u64>before > 127) return false
    before -= base
  }
  if (base > INTEGER_MAX || base < -INTEGER_MAX) return false
  for (let start = 0; start < wantedCount; start += BLOCK_COUNT) {
    const blockCount = min(count - start, BLOCK_COUNT)
    const blockPtr = targetPtr + <usize>start
    if (isByteBlock(source, end, <i32>base)) {
      source = unpackByteBlock(source, end, blockCount, scratchPtr)
      if (source === 0) return false
      if (!addByteSteps(scratchPtr, blockCount, order, <i32>base, <i32>before, blockPtr)) return false
      before = <i64>load<u8>(blockPtr + <usize>blockCount - 1)
      continue
    }
    source = unpackBlock(source, end, blockCount, scratchPtr)
    if (source === 0) return false
    const last =
      order === 0
        ? addBase(scratchPtr, blockCount, <i32>base, blockPtr)
        : addDeltas(scratchPtr, blockCount, <i32>base, <i32>before, blockPtr)
    if (last < 0) return false
    before = last
  }
  return source === end || wantedCount < count
}

/** Unpacks the zigzag codes (u16) of one block; returns where the next one begins, 0 when it is none of ours. */
export function unpackBlock(ptr: usize, end: usize, count: i32, codesPtr: usize): usize {
  if (ptr >= end) return 0
  const head = <i32>load<u8>(ptr)
  const width = head & (ESCAPES - 1)
  if (width > WIDTH_MAX) return 0
  if (head < ESCAPES) return unpackCodes(ptr + 1, end, count, width, codesPtr)
  if (end - ptr < 3) return 0
  const escapeWidth = <i32>load<u8>(ptr, 1)
  if (escapeWidth > WIDTH_MAX) return 0
  if (width === 0) return unpackSparse(ptr + 2, end, count, escapeWidth, codesPtr)
  const source = unpackCodes(ptr + 2, end, count, width, codesPtr)
  if (source === 0) return 0
  return unpackEscapes(source, end, count, (1 << width) - 1, escapeWidth, codesPtr)
}

/** Adds what escapes have above the marker; returns where the block ends, 0 when it is malformed. */
function unpackEscapes(source: usize, end: usize, count: i32, marker: i32, width: i32, codesPtr: usize): usize {
  const bitCount = (<i32>min<usize>(end - source, BLOCK_COUNT << 1)) << 3
  // Away from the page's end, eight bytes hold any escape.
  const fastBitCount = <i32>min<usize>(end - source, (BLOCK_COUNT << 1) + 8) * 8 - 64
  const markers = i16x8.splat(<i16>marker)
  const mask = ((<u64>1) << width) - 1
  let bitIndex = 0
  for (let start = 0; start < count; start += 64) {
    const place = codesPtr + ((<usize>start) << 1)
    let places: u64 = 0
    for (let i: usize = 0; i < 4; i++) {
      const at = place + (i << 5)
      const isEscape = i8x16.narrow_i16x8_s(i16x8.eq(v128.load(at), markers), i16x8.eq(v128.load(at, 16), markers))
      places |= (<u64>i8x16.bitmask(isEscape)) << (i << 4)
    }
    if (count - start < 64) places &= ((<u64>1) << (count - start)) - 1
    const bitEnd = bitIndex + <i32>popcnt(places) * width
    if (width === 8 && bitEnd <= bitCount) {
      // Whole bytes, in half the time.
      let at = source + <usize>(bitIndex >> 3)
      for (; places !== 0; places &= places - 1) {
        store<u16>(place + ((<usize>ctz(places)) << 1), <u16>(marker + <i32>load<u8>(at)))
        at++
      }
      bitIndex = bitEnd
      continue
    }
    if (bitEnd <= fastBitCount) {
      for (; places !== 0; places &= places - 1) {
        const excess = (load<u64>(source + <usize>(bitIndex >> 3)) >> (bitIndex & 7)) & mask
        store<u16>(place + ((<usize>ctz(places)) << 1), <u16>(marker + <i32>excess))
        bitIndex += width
      }
      continue
    }
    if (bitEnd > bitCount) return 0
    for (; places !== 0; places &= places - 1) {
      const code = marker + <i32>readNarrowBits(source, end, bitIndex, width)
      store<u16>(place + ((<usize>ctz(places)) << 1), <u16>code)
      bitIndex += width
    }
  }
  return source + <usize>((bitIndex + 7) >> 3)
}

function unpackCodes(ptr: usize, end: usize, count: i32, width: i32, codesPtr: usize): usize {
  if (end - ptr < <usize>packedByteLength(count, width)) return 0
  if (width === 0) {
    memory.fill(codesPtr, 0, 2 * BLOCK_COUNT)
    return ptr
  }
  let source = ptr
  let i = 0
  for (; i + GROUP_COUNT <= count; i += GROUP_COUNT) {
    unpackGroup(source, width, codesPtr + ((<usize>i) << 1))
    source += (<usize>width) << 4
  }
  const restCount = count - i
  for (let k = 0; k < restCount; k++)
    store<u16>(codesPtr + ((<usize>(i + k)) << 1), <u16>readNarrowBits(source, end, k * width, width))
  return source + <usize>packedByteLength(restCount, width)
}

/** 128 codes of 1 to 14 bits from 16 × width bytes; see unpackGroup of packing.ts. */
function unpackGroup(sourcePtr: usize, width: i32, codesPtr: usize): void {
  const mask = i32x4.splat((1 << width) - 1)
  let source = sourcePtr + 16
  let held = v128.load(sourcePtr)
  let heldCount = 0
  for (let at = codesPtr; at < codesPtr + 256; at += 16) {
    let a = i32x4.shr_u(held, heldCount)
    heldCount += width
    if (heldCount >= 32) {
      heldCount -= 32
      held = v128.load(source)
      source += 16
      if (heldCount !== 0) a = v128.or(a, i32x4.shl(held, width - heldCount))
    }
    let b = i32x4.shr_u(held, heldCount)
    heldCount += width
    if (heldCount >= 32) {
      heldCount -= 32
      // The last row ends where the group does.
      if (at !== codesPtr + 240) held = v128.load(source)
      source += 16
      if (heldCount !== 0) b = v128.or(b, i32x4.shl(held, width - heldCount))
    }
    v128.store(at, i16x8.narrow_i32x4_u(v128.and(a, mask), v128.and(b, mask)))
  }
}

/** A block of zeros but for a few codes: their number, their places (a byte each), the codes. */
function unpackSparse(ptr: usize, end: usize, count: i32, width: i32, codesPtr: usize): usize {
  const escapeCount = <i32>load<u8>(ptr)
  const source = ptr + 1 + <usize>escapeCount
  const byteLength = <usize>packedByteLength(escapeCount, width)
  if (end - ptr < 1 + <usize>escapeCount + byteLength) return 0
  memory.fill(codesPtr, 0, 2 * BLOCK_COUNT)
  for (let i = 0; i < escapeCount; i++) {
    const place = <i32>load<u8>(ptr + 1 + <usize>i)
    if (place >= count) return 0
    store<u16>(codesPtr + ((<usize>place) << 1), <u16>readNarrowBits(source, end, i * width, width))
  }
  return source + byteLength
}

/** The integers that codes are zigzag of. */
export function unzigzagAll(codes: v128): v128 {
  return v128.xor(i16x8.shr_u(codes, 1), i16x8.neg(v128.and(codes, i16x8.splat(1))))
}

export function unzigzag(code: i32): i32 {
  return (code >>> 1) ^ -(code & 1)
}

/** Writes base + integer of each code as a byte; returns the last value, -1 when some value is none of 0 to 127. */
function addBase(codesPtr: usize, count: i32, base: i32, targetPtr: usize): i32 {
  const bases = i16x8.splat(<i16>base)
  let seen = i64x2.splat(0)
  let i = 0
  for (; i + 16 <= count; i += 16) {
    const at = codesPtr + ((<usize>i) << 1)
    const a = i16x8.add(bases, unzigzagAll(v128.load(at)))
    const b = i16x8.add(bases, unzigzagAll(v128.load(at, 16)))
    seen = v128.or(seen, v128.or(a, b))
    v128.store(targetPtr + <usize>i, i8x16.narrow_i16x8_u(a, b))
  }
  let rest = 0
  for (; i < count; i++) {
    const value = base + unzigzag(<i32>load<u16>(codesPtr + ((<usize>i) << 1)))
    rest |= value
    store<u8>(targetPtr + <usize>i, <u8>value)
  }
  return isSmall(seen, rest) ? 0 : -1
}

/** Sums within eight lanes, each of all lanes up to it. */
export function sums(lanes: v128): v128 {
  // Neighbouring lanes of both are one instruction, any others three.
  const zero = i64x2.splat(0)
  let x = i16x8.add(lanes, v128.shuffle<i16>(zero, lanes, 7, 8, 9, 10, 11, 12, 13, 14))
  x = i16x8.add(x, v128.shuffle<i16>(zero, x, 6, 7, 8, 9, 10, 11, 12, 13))
  return i16x8.add(x, v128.shuffle<i16>(zero, x, 4, 5, 6, 7, 8, 9, 10, 11))
}

export function lastLane(lanes: v128): v128 {
  return v128.shuffle<i16>(lanes, lanes, 7, 7, 7, 7, 7, 7, 7, 7)
}

/** The same of values[i] = values[i - 1] + base + integer, where values[-1] is `before`. */
function addDeltas(codesPtr: usize, count: i32, base: i32, before: i32, targetPtr: usize): i32 {
  const bases = i16x8.splat(<i16>base)
  let carry = i16x8.splat(<i16>before)
  let seen = i64x2.splat(0)
  let i = 0
  for (; i + 16 <= count; i += 16) {
    const at = codesPtr + ((<usize>i) << 1)
    const aSums = sums(i16x8.add(bases, unzigzagAll(v128.load(at))))
    const bSums = sums(i16x8.add(bases, unzigzagAll(v128.load(at, 16))))
    const a = i16x8.add(carry, aSums)
    const b = i16x8.add(i16x8.add(carry, lastLane(aSums)), bSums)
    carry = lastLane(b)
    seen = v128.or(seen, v128.or(a, b))
    v128.store(targetPtr + <usize>i, i8x16.narrow_i16x8_u(a, b))
  }
  let value = <i32>i16x8.extract_lane_s(carry, 0)
  let rest = 0
  for (; i < count; i++) {
    value += base + unzigzag(<i32>load<u16>(codesPtr + ((<usize>i) << 1)))
    rest |= value
    store<u8>(targetPtr + <usize>i, <u8>value)
  }
  return isSmall(seen, rest) ? value : -1
}

function isSmall(seen: v128, rest: i32): bool {
  return !v128.any_true(v128.and(seen, i16x8.splat(~127))) && (rest & ~127) === 0
}
