// Pages of bools and of validity: one value, run lengths, or the bitmap as it is.
import { CODEC_CONSTANT, CODEC_RAW, CODEC_RUNS, PAGE_COUNT_MAX } from './page-codecs'
import { bitLength, packBits, packedByteLength, readBits } from './codes'

/** Bytes that encodeBoolPage writes at most. */
export function maxEncodedBoolPage(count: i32): i32 {
  return 16 + ((count + 7) >> 3)
}

/**
 * Encodes the bits of one page and returns the bytes written, at most maxEncodedBoolPage(count).
 *
 * bits     ceil(count / 8) bytes, 8-byte aligned, row 0 is the lowest bit, 1 <= count <= 4096; bits past count are ignored
 * target   maxEncodedBoolPage(count) bytes; all of them may be written
 * scratch  PAGE_SCRATCH bytes, 16-byte aligned, overwritten
 */
export function encodeBoolPage(bitsPtr: usize, count: i32, targetPtr: usize, scratchPtr: usize): i32 {
  const byteCount = (count + 7) >> 3
  const runsPtr = scratchPtr
  const firstBit = <i32>load<u8>(bitsPtr) & 1
  let runCount = 0
  let runStart = 0
  let longest = 0
  // Where the bit differs from the one before it a run begins.
  let before = <u32>firstBit
  for (let byte = 0; byte < byteCount; byte++) {
    const bits = <u32>load<u8>(bitsPtr + <usize>byte)
    let edges = (bits ^ ((bits << 1) | before)) & 255
    before = bits >> 7
    for (; edges !== 0; edges &= edges - 1) {
      const row = (byte << 3) + <i32>ctz(edges)
      if (row >= count) break
      store<u64>(runsPtr + ((<usize>runCount) << 3), <u64>(row - runStart - 1))
      longest = max(longest, row - runStart - 1)
      runStart = row
      runCount++
    }
  }
  if (runCount === 0) {
    store<u8>(targetPtr, <u8>CODEC_CONSTANT)
    store<u8>(targetPtr, <u8>firstBit, 1)
    return 2
  }
  // The last run reaches to the end and is not stored.
  const width = bitLength(<u64>longest)
  if (5 + packedByteLength(runCount, width) < 1 + byteCount) {
    store<u8>(targetPtr, <u8>CODEC_RUNS)
    store<u8>(targetPtr, <u8>firstBit, 1)
    store<u8>(targetPtr, <u8>width, 2)
    store<u16>(targetPtr, <u16>runCount, 3)
    return 5 + packBits(runsPtr, runCount, width, targetPtr + 5)
  }
  store<u8>(targetPtr, <u8>CODEC_RAW)
  memory.copy(targetPtr + 1, bitsPtr, <usize>byteCount)
  clearTail(targetPtr + 1, count)
  return 1 + byteCount
}

/**
 * Decodes a page of `count` bits; bits past count are 0. Returns 0, or -1 when the bytes are not such a page; whatever
 * the bytes, it reads only [page, page + byteLength) and writes only ceil(count / 8) bytes at target.
 */
export function decodeBoolPage(pagePtr: usize, byteLength: i32, count: i32, targetBitsPtr: usize): i32 {
  if (byteLength < 2 || count < 1 || count > PAGE_COUNT_MAX) return -1
  const byteCount = (count + 7) >> 3
  const codec = <i32>load<u8>(pagePtr)
  if (codec === CODEC_RAW) {
    if (byteLength !== 1 + byteCount) return -1
    memory.copy(targetBitsPtr, pagePtr + 1, <usize>byteCount)
    clearTail(targetBitsPtr, count)
    return 0
  }
  const firstBit = <u32>load<u8>(pagePtr, 1)
  if (firstBit > 1) return -1
  if (codec === CODEC_CONSTANT) {
    if (byteLength !== 2) return -1
    memory.fill(targetBitsPtr, <u8>(0 - firstBit), <usize>byteCount)
    clearTail(targetBitsPtr, count)
    return 0
  }
  if (codec !== CODEC_RUNS || byteLength < 5) return -1
  const width = <i32>load<u8>(pagePtr, 2)
  const runCount = <i32>load<u16>(pagePtr, 3)
  if (width > 12 || runCount >= count || byteLength !== 5 + packedByteLength(runCount, width)) return -1
  memory.fill(targetBitsPtr, 0, <usize>byteCount)
  let start = 0
  let bit = firstBit
  for (let run = 0; run <= runCount; run++) {
    let runEnd = count
    if (run < runCount) {
      runEnd = start + 1 + <i32>readBits(pagePtr + 5, pagePtr + <usize>byteLength, <usize>run * <usize>width, width)
      if (runEnd >= count) return -1
    }
    if (bit !== 0) setBits(targetBitsPtr, start, runEnd)
    bit ^= 1
    start = runEnd
  }
  return 0
}

/** Sets the bits [start, end) of a bitmap. */
function setBits(bitsPtr: usize, start: i32, end: i32): void {
  let row = start
  for (; row < end && (row & 7) !== 0; row++) setBit(bitsPtr, row)
  const wholeEnd = end & ~7
  if (row < wholeEnd) {
    memory.fill(bitsPtr + (<usize>row >> 3), 255, (<usize>wholeEnd - <usize>row) >> 3)
    row = wholeEnd
  }
  for (; row < end; row++) setBit(bitsPtr, row)
}

function setBit(bitsPtr: usize, row: i32): void {
  const ptr = bitsPtr + (<usize>row >> 3)
  store<u8>(ptr, <u8>(<u32>load<u8>(ptr) | (1 << (row & 7))))
}

/** Clears the bits past `count` in the last byte of a bitmap. */
function clearTail(bitsPtr: usize, count: i32): void {
  if ((count & 7) === 0) return
  const ptr = bitsPtr + (<usize>count >> 3)
  store<u8>(ptr, <u8>(<u32>load<u8>(ptr) & ((1 << (count & 7)) - 1)))
}
