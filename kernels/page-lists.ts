// Lists of pages: all pages of one column encoded in one call, and laid out in a block with their checksums in others.
import { readInteger } from './codes'
import { crc32cFolded } from './crc'
import { encodeFloat64Page, maxEncodedFloat64Page } from './floats'
import { writePage, writePageLike } from './int-pages'
import { maxEncodedInt64Page } from './ints'
import { isOrigin, narrow, statisticsOfNear, widen } from './near-ints'
import { CODEC_PACKED } from './page-codecs'
import { statisticsFloat64, statisticsInt64 } from './statistics'
import { encodeTimePage, maxEncodedTimePage } from './times'

// One page in such a list, 36 bytes, all u32:
//   0 source       where its values stand (count × 8 bytes)
//   4 count        how many there are
//   8 ptr          where the encoded page stands
//  12 byteLength
//  16 present      rows with a value
//  20 validity     bytes of the validity bitmap; 0: no row is missing
//  24 statistics   where its statistics stand; 0: it has none
//  28 segment      where it comes to stand in the block
//  32 offset
const ENTRY: usize = 36

/** Numbers of dtypes, as in the column's header; any other one is int64. */
const FLOAT64: i32 = 2
const TIME: i32 = 4

/** Places in the scratch of encodePages behind those of the page codecs: a page's near integers, and its values. */
const SCRATCH_NEAR: usize = 160 << 10
const SCRATCH_VALUES: usize = 192 << 10

const STATISTICS_BYTE_LENGTH: usize = 48
/** A page of values has statistics when they are at most about 5 % of it, one of times when it has as many. */
const STATISTICS_PAGE_BYTE_LENGTH_MIN: i32 = 960
const STATISTICS_TIME_COUNT_MIN: i32 = 256
/** One page in a page table. */
const PLACE_BYTE_LENGTH: usize = 24

/** Pages that may be encoded as one before them; then all ways are tried again. */
const ALIKE_PAGE_COUNT_MAX: u32 = 15
/** What such a page may need in 1/256, by what the one before it took. */
const ALIKE_COST_MAX: i32 = 276

/** Bytes that encodePages writes at most for the pages of a list, whose counts alone are read. */
export function maxEncodedPages(dtype: i32, entriesPtr: usize, pageCount: i32): i32 {
  let byteLength = 0
  for (let page = 0; page < pageCount; page++) {
    const count = <i32>load<u32>(entriesPtr + <usize>page * ENTRY, 4)
    byteLength +=
      dtype === FLOAT64
        ? maxEncodedFloat64Page(count)
        : dtype === TIME
          ? maxEncodedTimePage(count)
          : maxEncodedInt64Page(count)
  }
  return byteLength
}

/**
 * Encodes pages of one column of int64, float64 or time without missing cells, one behind the other, and returns the bytes
 * written. A page of int64 is encoded as the one before it where that is about as small: to choose anew takes a third of
 * the time.
 *
 * entries     the list; source and count are read, ptr, byteLength, present, validity and statistics are written
 * statistics  pageCount × 48 bytes, 8-byte aligned; 0: the pages have none
 * target      maxEncodedPages bytes; all of them may be written
 * state       u32: order of the page before, bits × 256 that a page like it may take a value, pages that may still be like
 *             it, pages with statistics so far; i64: base of the page before. All 0 before the first page of a column, and
 *             kept for its next pages; 8-byte aligned
 * scratch     PAGE_SCRATCH bytes, 16-byte aligned, overwritten
 */
export function encodePages(
  dtype: i32,
  entriesPtr: usize,
  pageCount: i32,
  statisticsPtr: usize,
  targetPtr: usize,
  statePtr: usize,
  scratchPtr: usize,
): i32 {
  let target = targetPtr
  let statistics = statisticsPtr
  let statisticsCount: u32 = 0
  for (let page = 0; page < pageCount; page++) {
    const entry = entriesPtr + <usize>page * ENTRY
    const source = <usize>load<u32>(entry)
    const count = <i32>load<u32>(entry, 4)
    const isAgain = dtype === TIME && page > 0 && isSamePage(entry)
    let near: usize = 0
    let origin: i64 = 0
    let byteLength: i32
    if (isAgain) {
      byteLength = <i32>load<u32>(entry - ENTRY, 12)
      memory.copy(target, <usize>load<u32>(entry - ENTRY, 8), <usize>byteLength)
    } else if (dtype === FLOAT64) {
      byteLength = encodeFloat64Page(source, count, target, scratchPtr)
    } else if (dtype === TIME) {
      byteLength = encodeTimePage(source, count, target, scratchPtr)
    } else {
      origin = load<i64>(source)
      if (isOrigin(origin) && narrow(source, count, origin, scratchPtr + SCRATCH_NEAR)) near = scratchPtr + SCRATCH_NEAR
      byteLength = encodeAlike(source, near, origin, count, target, statePtr, scratchPtr)
    }
    writeEntry(entry, target, count, byteLength)
    target += <usize>byteLength
    const isWanted = dtype === TIME ? count >= STATISTICS_TIME_COUNT_MIN : byteLength >= STATISTICS_PAGE_BYTE_LENGTH_MIN
    if (statisticsPtr === 0 || !isWanted) continue
    store<u32>(entry, <u32>statistics, 24)
    if (isAgain) memory.copy(statistics, <usize>load<u32>(entry - ENTRY, 24), STATISTICS_BYTE_LENGTH)
    else if (dtype === FLOAT64) statisticsFloat64(source, count, statistics)
    else if (near === 0 || !statisticsOfNear(near, count, origin, statistics))
      statisticsInt64(source, count, statistics)
    statistics += STATISTICS_BYTE_LENGTH
    statisticsCount++
  }
  store<u32>(statePtr, load<u32>(statePtr, 12) + statisticsCount, 12)
  return <i32>(target - targetPtr)
}

/** Whether a page's values are those of the one before it: times of label sets that report together. */
function isSamePage(entry: usize): bool {
  const count = load<u32>(entry, 4)
  if (load<u32>(entry - ENTRY, 4) !== count) return false
  const before = <usize>load<u32>(entry - ENTRY)
  const shift = <usize>load<u32>(entry) - before
  const end = before + ((<usize>count) << 3)
  let ptr = before
  for (; ptr + 64 <= end; ptr += 64) {
    const a = v128.xor(v128.load(ptr), v128.load(ptr + shift))
    const b = v128.xor(v128.load(ptr, 16), v128.load(ptr + shift, 16))
    const c = v128.xor(v128.load(ptr, 32), v128.load(ptr + shift, 32))
    const d = v128.xor(v128.load(ptr, 48), v128.load(ptr + shift, 48))
    if (v128.any_true(v128.or(v128.or(a, b), v128.or(c, d)))) return false
  }
  for (; ptr < end; ptr += 8) if (load<i64>(ptr) !== load<i64>(ptr + shift)) return false
  return true
}

/** Of a page without missing cells and, so far, without statistics. */
function writeEntry(entry: usize, ptr: usize, count: i32, byteLength: i32): void {
  store<u32>(entry, <u32>ptr, 8)
  store<u32>(entry, byteLength, 12)
  store<u32>(entry, count, 16)
  store<u32>(entry, 0, 20)
  store<u32>(entry, 0, 24)
}

/**
 * encodePages for integers that stand as differences from an origin (see near-ints.ts): the same pages.
 *
 * entries  as there, but source is where a page's i16 stand
 * origin   within 2^50
 */
export function encodeNearPages(
  origin: i64,
  entriesPtr: usize,
  pageCount: i32,
  statisticsPtr: usize,
  targetPtr: usize,
  statePtr: usize,
  scratchPtr: usize,
): i32 {
  const values = scratchPtr + SCRATCH_VALUES
  let target = targetPtr
  let statistics = statisticsPtr
  let statisticsCount: u32 = 0
  for (let page = 0; page < pageCount; page++) {
    const entry = entriesPtr + <usize>page * ENTRY
    const near = <usize>load<u32>(entry)
    const count = <i32>load<u32>(entry, 4)
    // The values themselves are made where a choice needs them.
    let byteLength = encodeAsBefore(0, near, origin, count, target, statePtr, scratchPtr)
    if (byteLength <= 0) {
      widen(near, count, origin, values)
      if (byteLength < 0) byteLength = encodeAsBefore(values, near, origin, count, target, statePtr, scratchPtr)
      if (byteLength === 0) byteLength = encodeAnew(values, near, origin, count, target, statePtr, scratchPtr)
    }
    writeEntry(entry, target, count, byteLength)
    target += <usize>byteLength
    if (statisticsPtr === 0 || byteLength < STATISTICS_PAGE_BYTE_LENGTH_MIN) continue
    store<u32>(entry, <u32>statistics, 24)
    if (!statisticsOfNear(near, count, origin, statistics)) {
      widen(near, count, origin, values)
      statisticsInt64(values, count, statistics)
    }
    statistics += STATISTICS_BYTE_LENGTH
    statisticsCount++
  }
  store<u32>(statePtr, load<u32>(statePtr, 12) + statisticsCount, 12)
  return <i32>(target - targetPtr)
}

/** An int64 page as the one before it, where that is about as small. near 0: its differences from an origin are not at hand. */
function encodeAlike(
  sourcePtr: usize,
  nearPtr: usize,
  origin: i64,
  count: i32,
  targetPtr: usize,
  statePtr: usize,
  scratchPtr: usize,
): i32 {
  const byteLength = encodeAsBefore(sourcePtr, nearPtr, origin, count, targetPtr, statePtr, scratchPtr)
  if (byteLength > 0) return byteLength
  return encodeAnew(sourcePtr, nearPtr, origin, count, targetPtr, statePtr, scratchPtr)
}

/** 0: not about as small, or enough pages were encoded so. source 0: -1 where the values are needed; nothing has changed then. */
function encodeAsBefore(
  sourcePtr: usize,
  nearPtr: usize,
  origin: i64,
  count: i32,
  targetPtr: usize,
  statePtr: usize,
  scratchPtr: usize,
): i32 {
  const alikeCount = load<u32>(statePtr, 8)
  if (alikeCount === 0) return 0
  const order = <i32>load<u32>(statePtr)
  const byteLengthMax = <i32>((<u64>load<u32>(statePtr, 4) * <u64>count) >> 11)
  const base = load<i64>(statePtr, 16)
  const byteLength = writePageLike(sourcePtr, nearPtr, origin, count, order, base, byteLengthMax, targetPtr, scratchPtr)
  if (byteLength >= 0) store<u32>(statePtr, alikeCount - 1, 8)
  return byteLength
}

function encodeAnew(
  sourcePtr: usize,
  nearPtr: usize,
  origin: i64,
  count: i32,
  targetPtr: usize,
  statePtr: usize,
  scratchPtr: usize,
): i32 {
  const byteLength = writePage(sourcePtr, nearPtr, origin, count, targetPtr, scratchPtr)
  const isPacked = <i32>load<u8>(targetPtr) === CODEC_PACKED
  if (isPacked) {
    // The second byte of such a page is its order. Bits a value × 256, and a little more.
    store<u32>(statePtr, <u32>load<u8>(targetPtr, 1))
    store<u32>(statePtr, (ALIKE_COST_MAX * 8 * byteLength + count - 1) / count, 4)
    store<i64>(statePtr, readInteger(targetPtr + 2), 16)
  }
  store<u32>(statePtr, isPacked ? ALIKE_PAGE_COUNT_MAX : 0, 8)
  return byteLength
}

/**
 * Finds places in segments for the pages of a list, and writes segment and offset of each.
 *
 * state  u32: segments that are full, bytes in the one that is not; then the lengths of the full ones, in order: as many as
 *        there are pages, at most, are added
 */
export function placePages(entriesPtr: usize, pageCount: i32, segmentByteLength: u32, statePtr: usize): void {
  let segment = load<u32>(statePtr)
  let fill = load<u32>(statePtr, 4)
  for (let page = 0; page < pageCount; page++) {
    const entry = entriesPtr + <usize>page * ENTRY
    const byteLength = load<u32>(entry, 12)
    if (fill > 0 && fill + byteLength > segmentByteLength) {
      store<u32>(statePtr + 8 + ((<usize>segment) << 2), fill)
      segment++
      fill = 0
    }
    store<u32>(entry, segment, 28)
    store<u32>(entry, fill, 32)
    fill = (fill + byteLength + 7) & ~7
  }
  store<u32>(statePtr, segment)
  store<u32>(statePtr, fill, 4)
}

/**
 * Copies the pages of a list to their places in a packed block and writes their page table; returns the table's CRC-32C.
 *
 * entries        the list, with places
 * segmentStarts  u32 a segment: where it begins, from `packed` on
 * packed         the block; bytes between pages are 0 already
 * table          pageCount × 25 bytes, rounded up to 8, and 48 bytes for each page with statistics; 0 already
 * scratch        crcScratchByteLength bytes, 16-byte aligned, overwritten
 */
export function writePages(
  entriesPtr: usize,
  pageCount: i32,
  packedPtr: usize,
  segmentStartsPtr: usize,
  tablePtr: usize,
  scratchPtr: usize,
): u32 {
  const marks = tablePtr + <usize>pageCount * PLACE_BYTE_LENGTH
  const statisticsStart = (marks + <usize>pageCount - tablePtr + 7) & ~7
  let statistics = tablePtr + statisticsStart
  for (let page = 0; page < pageCount; page++) {
    const entry = entriesPtr + <usize>page * ENTRY
    const byteLength = load<u32>(entry, 12)
    const segment = load<u32>(entry, 28)
    const offset = load<u32>(entry, 32)
    const target = packedPtr + <usize>load<u32>(segmentStartsPtr + ((<usize>segment) << 2)) + <usize>offset
    memory.copy(target, <usize>load<u32>(entry, 8), <usize>byteLength)
    const place = tablePtr + <usize>page * PLACE_BYTE_LENGTH
    store<u32>(place, segment)
    store<u32>(place, offset, 4)
    store<u32>(place, byteLength, 8)
    store<u32>(place, crc32cFolded(target, byteLength, 0, scratchPtr), 12)
    store<u32>(place, load<u32>(entry, 16), 16)
    store<u32>(place, load<u32>(entry, 20), 20)
    const ownStatistics = <usize>load<u32>(entry, 24)
    if (ownStatistics === 0) continue
    store<u8>(marks + <usize>page, 1)
    memory.copy(statistics, ownStatistics, STATISTICS_BYTE_LENGTH)
    statistics += STATISTICS_BYTE_LENGTH
  }
  return crc32cFolded(tablePtr, <i32>(statistics - tablePtr), 0, scratchPtr)
}
