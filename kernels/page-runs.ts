// Runs of pages: neighbouring pages of one column, checked and decoded in one call, row behind row.
import { copyBits, setBitRange } from './bitmap'
import { decodeBoolPage } from './bools'
import { crc32cFolded } from './crc'
import { decodeFloat64Page } from './floats'
import { expand64, expandBits, expandOffsets } from './gather'
import { decodeInt64Page } from './ints'
import { PAGE_COUNT_MAX } from './page-codecs'
import { badChecksum, badPage, FLOAT64, INT64, RUN_ENTRY, TIME } from './run-entries'
import { decodedStringByteLength, decodeStringPageAt } from './strings'
import { decodeTimePage } from './times'

/** Working room of decodePages, in bytes: a page's dense values, then its bits. */
export function pageRunScratchByteLength(): i32 {
  return 8 * (PAGE_COUNT_MAX + 2) + PAGE_COUNT_MAX / 8 + 32
}

/**
 * Decodes pages of int64, time, float64 or bool, row behind row. Missing cells become 0. Returns 0; -1 - page when the
 * checksum of a page does not fit; -1 - page - 2^20 when it cannot be decoded.
 *
 * entries   pageCount × 24 bytes, see above; a page has at most 4096 rows
 * dtype     the number of the dtype
 * values    as in a column of all rows together; bool: 8 bytes more
 * validity  bitmap of all rows, or 0 when the caller knows that none is missing
 * scratch   pageRunScratchByteLength(), 16-byte aligned
 */
export function decodePages(
  entriesPtr: usize,
  pageCount: i32,
  dtype: i32,
  valuesPtr: usize,
  validityPtr: usize,
  scratchPtr: usize,
): i32 {
  const bitsPtr = scratchPtr + 8 * (<usize>PAGE_COUNT_MAX + 2)
  let row = 0
  for (let page = 0; page < pageCount; page++) {
    const entry = entriesPtr + <usize>page * RUN_ENTRY
    const ptr = <usize>load<u32>(entry)
    const byteLength = <i32>load<u32>(entry, 4)
    const presentCount = <i32>load<u32>(entry, 12)
    const validityByteLength = <i32>load<u32>(entry, 16)
    const rowCount = <i32>load<u32>(entry, 20)
    if (rowCount > PAGE_COUNT_MAX || presentCount > rowCount || validityByteLength > byteLength) return badPage(page)
    const is64 = dtype === INT64 || dtype === FLOAT64 || dtype === TIME
    const target = valuesPtr + ((<usize>row) << 3)
    if (presentCount === 0) {
      if (validityPtr === 0) return badPage(page)
      setBitRange(validityPtr, row, row + rowCount, 0)
      if (is64) memory.fill(target, 0, (<usize>rowCount) << 3)
      else setBitRange(valuesPtr, row, row + rowCount, 0)
      row += rowCount
      continue
    }
    if (crc32cFolded(ptr, byteLength, 0, scratchPtr) !== load<u32>(entry, 8)) return badChecksum(page)
    const isWhole = validityByteLength === 0
    if (isWhole !== (presentCount === rowCount)) return badPage(page)
    if (!isWhole) {
      if (validityPtr === 0) return badPage(page)
      if (decodeBoolPage(ptr, validityByteLength, rowCount, bitsPtr) < 0) return badPage(page)
      copyBits(bitsPtr, 0, validityPtr, row, rowCount)
    } else if (validityPtr !== 0) {
      setBitRange(validityPtr, row, row + rowCount, 1)
    }
    const pagePtr = ptr + <usize>validityByteLength
    const pageByteLength = byteLength - validityByteLength
    if (is64) {
      const dense = isWhole ? target : scratchPtr
      const status =
        dtype === INT64
          ? decodeInt64Page(pagePtr, pageByteLength, presentCount, dense)
          : dtype === TIME
            ? decodeTimePage(pagePtr, pageByteLength, presentCount, dense)
            : decodeFloat64Page(pagePtr, pageByteLength, presentCount, dense)
      if (status < 0) return badPage(page)
      if (!isWhole) expand64(dense, bitsPtr, rowCount, target)
    } else {
      if (decodeBoolPage(pagePtr, pageByteLength, presentCount, scratchPtr) < 0) return badPage(page)
      let bits = scratchPtr
      if (!isWhole) {
        bits = scratchPtr + PAGE_COUNT_MAX / 8 + 16
        expandBits(scratchPtr, bitsPtr, rowCount, bits)
      }
      copyBits(bits, 0, valuesPtr, row, rowCount)
    }
    row += rowCount
  }
  return 0
}

/** Bytes of text that decodeStringPages will write, or a negative number as decodePages returns. */
export function decodedStringPagesByteLength(entriesPtr: usize, pageCount: i32): i32 {
  let total: u64 = 0
  for (let page = 0; page < pageCount; page++) {
    const entry = entriesPtr + <usize>page * RUN_ENTRY
    const presentCount = <i32>load<u32>(entry, 12)
    if (presentCount === 0) continue
    const byteLength = <i32>load<u32>(entry, 4)
    const validityByteLength = <i32>load<u32>(entry, 16)
    if (validityByteLength > byteLength) return badPage(page)
    const pagePtr = <usize>load<u32>(entry) + <usize>validityByteLength
    const textByteLength = decodedStringByteLength(pagePtr, byteLength - validityByteLength, presentCount)
    if (textByteLength < 0) return badPage(page)
    total += textByteLength
    if (total > <u64>i32.MAX_VALUE) return badPage(page)
  }
  return <i32>total
}

/**
 * Decodes pages of text, row behind row; missing cells become ''. Returns as decodePages.
 *
 * offsets   (rows of all pages + 1) × u32, 4-byte aligned; the first is 0
 * bytes     decodedStringPagesByteLength bytes
 */
export function decodeStringPages(
  entriesPtr: usize,
  pageCount: i32,
  offsetsPtr: usize,
  bytesPtr: usize,
  validityPtr: usize,
  scratchPtr: usize,
): i32 {
  const bitsPtr = scratchPtr + 8 * (<usize>PAGE_COUNT_MAX + 2)
  let row = 0
  let end: u32 = 0
  store<u32>(offsetsPtr, 0)
  for (let page = 0; page < pageCount; page++) {
    const entry = entriesPtr + <usize>page * RUN_ENTRY
    const ptr = <usize>load<u32>(entry)
    const byteLength = <i32>load<u32>(entry, 4)
    const presentCount = <i32>load<u32>(entry, 12)
    const validityByteLength = <i32>load<u32>(entry, 16)
    const rowCount = <i32>load<u32>(entry, 20)
    if (rowCount > PAGE_COUNT_MAX || presentCount > rowCount || validityByteLength > byteLength) return badPage(page)
    const target = offsetsPtr + ((<usize>row) << 2)
    if (presentCount === 0) {
      if (validityPtr === 0) return badPage(page)
      setBitRange(validityPtr, row, row + rowCount, 0)
      for (let i: usize = 1; i <= <usize>rowCount; i++) store<u32>(target + (i << 2), end)
      row += rowCount
      continue
    }
    if (crc32cFolded(ptr, byteLength, 0, scratchPtr) !== load<u32>(entry, 8)) return badChecksum(page)
    const isWhole = validityByteLength === 0
    if (isWhole !== (presentCount === rowCount)) return badPage(page)
    const pagePtr = ptr + <usize>validityByteLength
    const pageByteLength = byteLength - validityByteLength
    if (isWhole) {
      if (decodeStringPageAt(pagePtr, pageByteLength, presentCount, target, end, bytesPtr) < 0) return badPage(page)
      if (validityPtr !== 0) setBitRange(validityPtr, row, row + rowCount, 1)
    } else {
      if (validityPtr === 0) return badPage(page)
      if (decodeStringPageAt(pagePtr, pageByteLength, presentCount, scratchPtr, end, bytesPtr) < 0) return badPage(page)
      if (decodeBoolPage(ptr, validityByteLength, rowCount, bitsPtr) < 0) return badPage(page)
      copyBits(bitsPtr, 0, validityPtr, row, rowCount)
      expandOffsets(scratchPtr, bitsPtr, rowCount, target)
    }
    row += rowCount
    end = load<u32>(offsetsPtr + ((<usize>row) << 2))
  }
  return 0
}
