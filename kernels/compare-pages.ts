// Runs of pages against a constant, in one call: which rows hold, without a column of values. Integers near their page's
// base are compared as they are packed, in 16-bit lanes.
import { copyBits, setBitRange } from './bitmap'
import { decodeBoolPage } from './bools'
import { integerEnd, readInteger } from './codes'
import { compareFloat64, compareInt64 } from './compare'
import { crc32cFolded } from './crc'
import { decodeFloat64Page } from './floats'
import { expandBits } from './gather'
import { decodeInt64Page } from './ints'
import { CODEC_PACKED, PAGE_COUNT_MAX } from './page-codecs'
import { firstOfRange, invertedRange, lastOfRange } from './ranges'
import { badChecksum, badPage, FLOAT64, INT64, RUN_ENTRY, TIME } from './run-entries'
import { BLOCK_COUNT, INTEGER_MAX, lastLane, sums, unpackBlock, unzigzag, unzigzagAll } from './small-ints'
import { decodeTimePage } from './times'

/** Around origins further from 0 integers might wrap around. */
const ORIGIN_MAX: i64 = 0x3fffffffffffffff

const BITMAP_BYTE_LENGTH: usize = PAGE_COUNT_MAX / 8 + 16

/** Working room of comparePages, in bytes: a page's values, the bits of its cells and of those that hold, then of its rows. */
export function comparePagesScratchByteLength(): i32 {
  return 8 * (PAGE_COUNT_MAX + 2) + 3 * <i32>BITMAP_BYTE_LENGTH
}

/**
 * Marks the rows of pages, row behind row, for which `value operator constant` holds; operators as compareFloat64. A missing
 * cell does not hold. Returns how many do; -1 - page when the checksum of a page does not fit; -1 - page - 2^20 when it
 * cannot be decoded.
 *
 * entries   as decodePages reads them
 * dtype     the number of the dtype: int64 and time are compared with `integer`, float64 with `float`
 * mask      bitmap of all rows, overwritten; bits past the last row of its last byte are 0
 * scratch   comparePagesScratchByteLength(), 16-byte aligned
 */
export function comparePages(
  entriesPtr: usize,
  pageCount: i32,
  dtype: i32,
  operator: i32,
  integer: i64,
  float: f64,
  maskPtr: usize,
  scratchPtr: usize,
): i32 {
  const cellBitsPtr = scratchPtr + 8 * (<usize>PAGE_COUNT_MAX + 2)
  const denseBitsPtr = cellBitsPtr + BITMAP_BYTE_LENGTH
  const rowBitsPtr = denseBitsPtr + BITMAP_BYTE_LENGTH
  let row = 0
  let markedCount = 0
  for (let page = 0; page < pageCount; page++) {
    const entry = entriesPtr + <usize>page * RUN_ENTRY
    const ptr = <usize>load<u32>(entry)
    const byteLength = <i32>load<u32>(entry, 4)
    const presentCount = <i32>load<u32>(entry, 12)
    const validityByteLength = <i32>load<u32>(entry, 16)
    const rowCount = <i32>load<u32>(entry, 20)
    if (rowCount > PAGE_COUNT_MAX || presentCount > rowCount || validityByteLength > byteLength) return badPage(page)
    // Bits of a page that begins within a byte are moved there; those of others are written where they belong.
    const isAligned = (row & 63) === 0
    const targetPtr = isAligned ? maskPtr + (<usize>row >> 3) : rowBitsPtr
    if (presentCount === 0) {
      if (rowCount > 0) memory.fill(targetPtr, 0, <usize>((rowCount + 7) >> 3))
    } else {
      if (crc32cFolded(ptr, byteLength, 0, scratchPtr) !== load<u32>(entry, 8)) return badChecksum(page)
      const isWhole = validityByteLength === 0
      if (isWhole !== (presentCount === rowCount)) return badPage(page)
      const pagePtr = ptr + <usize>validityByteLength
      const pageByteLength = byteLength - validityByteLength
      const bitsPtr = isWhole ? targetPtr : denseBitsPtr
      let count = -1
      if (dtype === INT64) {
        count = compareNear(pagePtr, pageByteLength, presentCount, operator, integer, bitsPtr, scratchPtr)
        if (count < 0 && decodeInt64Page(pagePtr, pageByteLength, presentCount, scratchPtr) < 0) return badPage(page)
        if (count < 0) count = compareInt64(scratchPtr, presentCount, operator, integer, bitsPtr)
      } else if (dtype === TIME) {
        if (decodeTimePage(pagePtr, pageByteLength, presentCount, scratchPtr) < 0) return badPage(page)
        count = compareInt64(scratchPtr, presentCount, operator, integer, bitsPtr)
      } else if (dtype === FLOAT64) {
        if (decodeFloat64Page(pagePtr, pageByteLength, presentCount, scratchPtr) < 0) return badPage(page)
        count = compareFloat64(scratchPtr, presentCount, operator, float, bitsPtr)
      } else return badPage(page)
      markedCount += count
      if (!isWhole) {
        if (decodeBoolPage(ptr, validityByteLength, rowCount, cellBitsPtr) < 0) return badPage(page)
        expandBits(bitsPtr, cellBitsPtr, rowCount, targetPtr)
      }
    }
    if (!isAligned) {
      copyBits(rowBitsPtr, 0, maskPtr, row, rowCount)
      if ((row + rowCount) & 7) setBitRange(maskPtr, row + rowCount, (row + rowCount + 7) & ~7, 0)
    }
    row += rowCount
  }
  return markedCount
}

/**
 * Marks the cells of an int64 page that hold, as compareInt64; -1 when it is not one of integers near each other, packed as
 * differences from a base or from each other: then what is written is no good.
 *
 * bits     8-byte aligned
 * scratch  2 × BLOCK_COUNT bytes, 16-byte aligned
 */
function compareNear(
  pagePtr: usize,
  byteLength: i32,
  count: i32,
  operator: i32,
  constant: i64,
  bitsPtr: usize,
  scratchPtr: usize,
): i32 {
  if (byteLength < 3 || <i32>load<u8>(pagePtr) !== CODEC_PACKED) return -1
  const order = <i32>load<u8>(pagePtr, 1)
  if (order > 1) return -1
  const end = pagePtr + <usize>byteLength
  let source = integerEnd(pagePtr + 2, end)
  if (source === 0) return -1
  const base = readInteger(pagePtr + 2)
  // Integers are counted from this one, and must be within INTEGER_MAX + 1 of it.
  let origin = base
  if (order === 1) {
    const firstPtr = source
    source = integerEnd(firstPtr, end)
    if (source === 0 || base > INTEGER_MAX || base < -INTEGER_MAX) return -1
    origin = readInteger(firstPtr)
  }
  if (origin > ORIGIN_MAX || origin < -ORIGIN_MAX) return -1
  const first = distance(firstOfRange(operator, constant), origin)
  const last = distance(lastOfRange(operator, constant), origin)
  const inverted = invertedRange(operator)
  let markedCount = 0
  let before = -(<i32>base)
  for (let start = 0; start < count; start += BLOCK_COUNT) {
    const blockCount = min(count - start, BLOCK_COUNT)
    source = unpackBlock(source, end, blockCount, scratchPtr)
    if (source === 0) return -1
    if (order === 0) unzigzagCodes(scratchPtr, blockCount)
    else if (!addDifferences(scratchPtr, blockCount, <i32>base, before)) return -1
    before = <i32>load<i16>(scratchPtr + ((<usize>blockCount) << 1) - 2)
    markedCount += markNear(scratchPtr, blockCount, first, last, inverted, bitsPtr + <usize>(start >> 3))
  }
  return source === end ? markedCount : -1
}

/** How far a bound is from the origin, or just further than any integer is. */
function distance(bound: i64, origin: i64): i32 {
  if (bound > origin + INTEGER_MAX) return <i32>INTEGER_MAX + 1
  if (bound < origin - INTEGER_MAX - 1) return -(<i32>INTEGER_MAX) - 2
  return <i32>(bound - origin)
}

/** In place, u16 to i16: the integers that codes are zigzag of. What is behind them, up to 16 codes, changes, too. */
function unzigzagCodes(codesPtr: usize, count: i32): void {
  const end = codesPtr + ((<usize>count) << 1)
  for (let at = codesPtr; at < end; at += 32) {
    v128.store(at, unzigzagAll(v128.load(at)))
    v128.store(at, unzigzagAll(v128.load(at, 16)), 16)
  }
}

/**
 * In place, u16 to i16: sums[i] = sums[i - 1] + base + integer of codes[i], where sums[-1] is `before`. False when one of them
 * is further than INTEGER_MAX + 1 from 0; a step from within these bounds does not wrap around into them again.
 */
function addDifferences(codesPtr: usize, count: i32, base: i32, before: i32): bool {
  const bases = i16x8.splat(<i16>base)
  const bound = i16x8.splat(<i16>(INTEGER_MAX + 1))
  let carry = i16x8.splat(<i16>before)
  let seen = i64x2.splat(0)
  const pairsEnd = codesPtr + ((<usize>(count & ~15)) << 1)
  let at = codesPtr
  for (; at < pairsEnd; at += 32) {
    const aSums = sums(i16x8.add(bases, unzigzagAll(v128.load(at))))
    const bSums = sums(i16x8.add(bases, unzigzagAll(v128.load(at, 16))))
    const a = i16x8.add(carry, aSums)
    const b = i16x8.add(i16x8.add(carry, lastLane(aSums)), bSums)
    carry = lastLane(b)
    seen = v128.or(seen, v128.or(i16x8.add(a, bound), i16x8.add(b, bound)))
    v128.store(at, a)
    v128.store(at, b, 16)
  }
  let sum = <i32>i16x8.extract_lane_s(carry, 0)
  let isNear = !v128.any_true(v128.and(seen, i16x8.splat(i16.MIN_VALUE)))
  for (const end = codesPtr + ((<usize>count) << 1); at < end; at += 2) {
    sum += base + unzigzag(<i32>load<u16>(at))
    isNear = isNear && sum <= <i32>INTEGER_MAX && sum >= -(<i32>INTEGER_MAX) - 1
    store<i16>(at, <i16>sum)
  }
  return isNear
}

/** Marks the integers (i16) in [first, last], or all others; returns how many. */
function markNear(integersPtr: usize, count: i32, first: i32, last: i32, inverted: i32, maskPtr: usize): i32 {
  const firsts = i16x8.splat(<i16>first)
  const lasts = i16x8.splat(<i16>last)
  let markedCount = 0
  let i = 0
  for (; i + 16 <= count; i += 16) {
    const at = integersPtr + ((<usize>i) << 1)
    const a = v128.load(at)
    const b = v128.load(at, 16)
    const aIsOut = v128.or(i16x8.lt_s(a, firsts), i16x8.gt_s(a, lasts))
    const bIsOut = v128.or(i16x8.lt_s(b, firsts), i16x8.gt_s(b, lasts))
    const bits = (i8x16.bitmask(i8x16.narrow_i16x8_s(aIsOut, bIsOut)) ^ ~inverted) & 0xffff
    store<u16>(maskPtr + <usize>(i >> 3), <u16>bits)
    markedCount += popcnt(bits)
  }
  if (i === count) return markedCount
  let bits = 0
  for (let k = i; k < count; k++) {
    const value = <i32>load<i16>(integersPtr + ((<usize>k) << 1))
    bits |= i32(first <= value && value <= last) << (k - i)
  }
  bits = (bits ^ inverted) & ((1 << (count - i)) - 1)
  store<u8>(maskPtr + <usize>(i >> 3), <u8>bits)
  if (count - i > 8) store<u8>(maskPtr + <usize>(i >> 3), <u8>(bits >> 8), 1)
  return markedCount + popcnt(bits)
}
