// Blocks of packed codes whose steps fit a signed byte, as values 0 to 127 in a byte each: the steps of small-ints.ts, sixteen
// lanes at once. Sums wrap around, and tell all the same: from 0 to 127, a step of -127 to 127 leads to a byte without its
// highest bit only where it leads to 0 to 127. Internal to small-ints.ts.
import { packedByteLength, readNarrowBits } from './codes'

const BLOCK_COUNT: i32 = 256
const GROUP_COUNT: i32 = 128
const ESCAPES: i32 = 128
const STEP_MAX: i32 = 127
/** Of the codes that a step is made of: a code is a byte. */
const CODE_WIDTH_MAX: i32 = 8

/** What unpackByteBlock overwrites: codes, and what escapes have above the marker, read in sixteens. */
export const BYTE_SCRATCH: usize = 2 * <usize>BLOCK_COUNT + 16

/** Whether no step of the block that begins at ptr can be beyond STEP_MAX; false also where it is cut off. */
export function isByteBlock(ptr: usize, end: usize, base: i32): bool {
  if (end - ptr < 2) return false
  const head = <i32>load<u8>(ptr)
  const width = head & (ESCAPES - 1)
  if (width > CODE_WIDTH_MAX) return false
  let codeMax = (1 << width) - 1
  if (head >= ESCAPES) {
    const escapeWidth = <i32>load<u8>(ptr, 1)
    if (escapeWidth > CODE_WIDTH_MAX) return false
    codeMax += (1 << escapeWidth) - 1
  }
  return abs(base) + ((codeMax + 1) >> 1) <= STEP_MAX
}

/**
 * Unpacks the codes of such a block, a byte each; returns where the next one begins, 0 when it is malformed. codes: BYTE_SCRATCH
 * bytes.
 */
export function unpackByteBlock(ptr: usize, end: usize, count: i32, codesPtr: usize): usize {
  const head = <i32>load<u8>(ptr)
  const width = head & (ESCAPES - 1)
  if (head < ESCAPES) return unpackCodes(ptr + 1, end, count, width, codesPtr)
  const escapeWidth = <i32>load<u8>(ptr, 1)
  if (width === 0) return unpackSparse(ptr + 2, end, count, escapeWidth, codesPtr)
  const source = unpackCodes(ptr + 2, end, count, width, codesPtr)
  return source === 0 ? 0 : unpackEscapes(source, end, count, (1 << width) - 1, escapeWidth, codesPtr)
}

function unpackCodes(ptr: usize, end: usize, count: i32, width: i32, codesPtr: usize): usize {
  if (end - ptr < <usize>packedByteLength(count, width)) return 0
  if (width === 0) {
    memory.fill(codesPtr, 0, BLOCK_COUNT)
    return ptr
  }
  let source = ptr
  let i = 0
  for (; i + GROUP_COUNT <= count; i += GROUP_COUNT) {
    unpackGroup(source, width, codesPtr + <usize>i)
    source += (<usize>width) << 4
  }
  unpackBytes(source, end, count - i, width, codesPtr + <usize>i)
  return source + <usize>packedByteLength(count - i, width)
}

/** 128 codes of 1 to 8 bits from 16 × width bytes, four rows at once; see unpackGroup of packing.ts. */
function unpackGroup(sourcePtr: usize, width: i32, codesPtr: usize): void {
  const mask = i32x4.splat((1 << width) - 1)
  const taken = width << 2
  let source = sourcePtr + 16
  let held = v128.load(sourcePtr)
  let heldCount = 0
  for (let at: usize = 0; at < <usize>GROUP_COUNT; at += 16) {
    let rows = i32x4.shr_u(held, heldCount)
    heldCount += taken
    if (heldCount >= 32) {
      heldCount -= 32
      // The last row ends where the group does.
      if (at !== <usize>GROUP_COUNT - 16) held = v128.load(source)
      source += 16
      if (heldCount !== 0) rows = v128.or(rows, i32x4.shl(held, taken - heldCount))
    }
    const a = v128.and(rows, mask)
    const b = v128.and(i32x4.shr_u(rows, width), mask)
    const c = v128.and(i32x4.shr_u(rows, width << 1), mask)
    const d = v128.and(i32x4.shr_u(rows, width * 3), mask)
    v128.store(codesPtr + at, i8x16.narrow_i16x8_u(i16x8.narrow_i32x4_u(a, b), i16x8.narrow_i32x4_u(c, d)))
  }
}

/** See unpackSparse of small-ints.ts. */
function unpackSparse(ptr: usize, end: usize, count: i32, width: i32, codesPtr: usize): usize {
  if (ptr >= end) return 0
  const escapeCount = <i32>load<u8>(ptr)
  const source = ptr + 1 + <usize>escapeCount
  const byteLength = <usize>packedByteLength(escapeCount, width)
  if (end - ptr < 1 + <usize>escapeCount + byteLength) return 0
  memory.fill(codesPtr, 0, BLOCK_COUNT)
  for (let i = 0; i < escapeCount; i++) {
    const place = <i32>load<u8>(ptr + 1 + <usize>i)
    if (place >= count) return 0
    store<u8>(codesPtr + <usize>place, <u8>readNarrowBits(source, end, i * width, width))
  }
  return source + byteLength
}

/** Adds what escapes have above the marker; returns where the block ends, 0 when it is malformed. */
function unpackEscapes(source: usize, end: usize, count: i32, marker: i32, width: i32, codesPtr: usize): usize {
  const codesEnd = codesPtr + <usize>BLOCK_COUNT
  // The marker is not 0.
  if (count < BLOCK_COUNT) memory.fill(codesPtr + <usize>count, 0, <usize>(BLOCK_COUNT - count))
  const markers = i8x16.splat(<i8>marker)
  let escapeCount = 0
  for (let at = codesPtr; at < codesEnd; at += 16)
    escapeCount += popcnt(i8x16.bitmask(i8x16.eq(v128.load(at), markers)))
  const byteLength = <usize>packedByteLength(escapeCount, width)
  if (end - source < byteLength) return 0
  unpackBytes(source, end, escapeCount, width, codesEnd)
  let excesses = codesEnd
  for (let at = codesPtr; at < codesEnd; at += 16) {
    const codes = v128.load(at)
    const isEscape = i8x16.eq(codes, markers)
    // -1 for each: the complement of their sum is the number of those before.
    const places = v128.not(sums(isEscape))
    v128.store(at, i8x16.add(codes, v128.and(i8x16.swizzle(v128.load(excesses), places), isEscape)))
    excesses += <usize>popcnt(i8x16.bitmask(isEscape))
  }
  return source + byteLength
}

/** Codes of at most 8 bits, one after the other, as a byte each, eight at once; up to 7 more are written. */
function unpackBytes(source: usize, end: usize, count: i32, width: i32, targetPtr: usize): void {
  const lows4 = ((<u64>1) << (width << 2)) - 1
  const lows2 = (((<u64>1) << (width << 1)) - 1) * 0x0000000100000001
  const lows1 = (((<u64>1) << width) - 1) * 0x0001000100010001
  const shift4 = 32 - (width << 2)
  const shift2 = 16 - (width << 1)
  const shift1 = 8 - width
  let at = source
  for (let i = 0; i < count; i += 8, at += <usize>width) {
    // Near the end those bytes are read that end there, and what was before is shifted out.
    const left = end - at
    let codes = left >= 8 ? load<u64>(at) : load<u64>(end - 8) >> ((8 - left) << 3)
    codes = (codes & lows4) | ((codes << shift4) & (lows4 << 32))
    codes = (codes & lows2) | ((codes << shift2) & (lows2 << 16))
    codes = (codes & lows1) | ((codes << shift1) & (lows1 << 8))
    store<u64>(targetPtr + <usize>i, codes)
  }
}

/** The signed bytes that codes are zigzag of. */
function unzigzagBytes(codes: v128): v128 {
  return v128.xor(i8x16.shr_u(codes, 1), i8x16.neg(v128.and(codes, i8x16.splat(1))))
}

/** Sums within sixteen lanes, each of all lanes up to it. */
function sums(lanes: v128): v128 {
  const zero = i64x2.splat(0)
  let x = i8x16.add(
    lanes,
    v128.shuffle<i8>(zero, lanes, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30),
  )
  x = i8x16.add(x, v128.shuffle<i8>(zero, x, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29))
  x = i8x16.add(x, v128.shuffle<i8>(zero, x, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27))
  return i8x16.add(x, v128.shuffle<i8>(zero, x, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23))
}

/**
 * Writes the values of such a block: base + step of each code, or with `order` 1 that added to the value before, where the
 * first follows `before`. False when some value is none of 0 to 127.
 *
 * target  count bytes, rounded up to 16
 */
export function addByteSteps(codesPtr: usize, count: i32, order: i32, base: i32, before: i32, targetPtr: usize): bool {
  const bases = i8x16.splat(<i8>base)
  let seen = i64x2.splat(0)
  let i = 0
  let value = before
  if (order === 0) {
    for (; i + 16 <= count; i += 16) {
      const values = i8x16.add(bases, unzigzagBytes(v128.load(codesPtr + <usize>i)))
      seen = v128.or(seen, values)
      v128.store(targetPtr + <usize>i, values)
    }
  } else {
    let carry = i8x16.splat(<i8>before)
    for (; i + 16 <= count; i += 16) {
      const stepSums = sums(i8x16.add(bases, unzigzagBytes(v128.load(codesPtr + <usize>i))))
      const values = i8x16.add(carry, stepSums)
      carry = v128.shuffle<i8>(values, values, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15)
      seen = v128.or(seen, values)
      v128.store(targetPtr + <usize>i, values)
    }
    value = <i32>i8x16.extract_lane_u(carry, 15)
  }
  let rest = i8x16.bitmask(seen)
  for (; i < count; i++) {
    const code = <i32>load<u8>(codesPtr + <usize>i)
    const step = base + ((code >>> 1) ^ -(code & 1))
    value = order === 0 ? step : value + step
    rest |= value & ~127
    store<u8>(targetPtr + <usize>i, <u8>value)
  }
  return rest === 0
}
