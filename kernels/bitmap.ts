// Bitmaps: one bit a row, row 0 the lowest bit of byte 0, 1 = present or selected; bits past the last row are 0.
// A bitmap of rowCount rows is ceil(rowCount / 8) bytes, 8-byte aligned unless said; kernels touch only these bytes.
import { loadBits, replaceInByte, storeTail } from './bits'

/**
 * Counts the set bits of the first rowCount rows.
 *
 * bits  ceil(rowCount / 8) bytes, 8-byte aligned, read only
 */
export function countBits(bitsPtr: usize, rowCount: i32): i32 {
  let count: i32 = 0
  let row = 0
  for (; row <= rowCount - 64; row += 64) count += <i32>popcnt(load<u64>(bitsPtr + (<usize>row >> 3)))
  if (row < rowCount) count += <i32>popcnt(loadBits(bitsPtr, row, rowCount - row))
  return count
}

/** target = a AND b, row by row. The target may be one of the sources. */
export function andBits(aPtr: usize, bPtr: usize, targetPtr: usize, rowCount: i32): void {
  let row = 0
  for (; row <= rowCount - 64; row += 64) {
    const at = <usize>row >> 3
    store<u64>(targetPtr + at, load<u64>(aPtr + at) & load<u64>(bPtr + at))
  }
  const bitCount = rowCount - row
  if (bitCount <= 0) return
  storeTail(targetPtr + (<usize>row >> 3), bitCount, loadBits(aPtr, row, bitCount) & loadBits(bPtr, row, bitCount))
}

/** target = a OR b, row by row. The target may be one of the sources. */
export function orBits(aPtr: usize, bPtr: usize, targetPtr: usize, rowCount: i32): void {
  let row = 0
  for (; row <= rowCount - 64; row += 64) {
    const at = <usize>row >> 3
    store<u64>(targetPtr + at, load<u64>(aPtr + at) | load<u64>(bPtr + at))
  }
  const bitCount = rowCount - row
  if (bitCount <= 0) return
  storeTail(targetPtr + (<usize>row >> 3), bitCount, loadBits(aPtr, row, bitCount) | loadBits(bPtr, row, bitCount))
}

/** target = a AND NOT b, row by row. The target may be one of the sources. */
export function andNotBits(aPtr: usize, bPtr: usize, targetPtr: usize, rowCount: i32): void {
  let row = 0
  for (; row <= rowCount - 64; row += 64) {
    const at = <usize>row >> 3
    store<u64>(targetPtr + at, load<u64>(aPtr + at) & ~load<u64>(bPtr + at))
  }
  const bitCount = rowCount - row
  if (bitCount <= 0) return
  storeTail(targetPtr + (<usize>row >> 3), bitCount, loadBits(aPtr, row, bitCount) & ~loadBits(bPtr, row, bitCount))
}

/** target = NOT source, row by row; bits past the last row become 0. The target may be the source. */
export function notBits(sourcePtr: usize, targetPtr: usize, rowCount: i32): void {
  let row = 0
  for (; row <= rowCount - 64; row += 64) {
    const at = <usize>row >> 3
    store<u64>(targetPtr + at, ~load<u64>(sourcePtr + at))
  }
  const bitCount = rowCount - row
  if (bitCount <= 0) return
  storeTail(targetPtr + (<usize>row >> 3), bitCount, ~loadBits(sourcePtr, row, bitCount))
}

/** Sets all of the first rowCount rows to value (0 or 1); bits past the last row become 0. */
export function fillBits(targetPtr: usize, rowCount: i32, value: i32): void {
  const byteCount = <usize>rowCount >> 3
  memory.fill(targetPtr, value ? 0xff : 0, byteCount)
  if (rowCount & 7) storeTail(targetPtr + byteCount, rowCount & 7, value ? -1 : 0)
}

/** Sets rows [rowStart, rowEnd) to value (0 or 1); all other bits stay. */
export function setBitRange(targetPtr: usize, rowStart: i32, rowEnd: i32, value: i32): void {
  if (rowStart >= rowEnd) return
  const word: u32 = value ? 0xff : 0
  let row = rowStart
  if (row & 7) {
    const bitCount = min(8 - (row & 7), rowEnd - row)
    replaceInByte(targetPtr + (<usize>row >> 3), row & 7, bitCount, word)
    row += bitCount
  }
  const byteCount = <usize>(rowEnd - row) >> 3
  memory.fill(targetPtr + (<usize>row >> 3), <u8>word, byteCount)
  row += <i32>(byteCount << 3)
  if (row < rowEnd) replaceInByte(targetPtr + (<usize>row >> 3), 0, rowEnd - row, word)
}

/**
 * Copies rows [sourceRow, sourceRow + rowCount) of one bitmap to row targetRow of another. Bits of the target outside
 * the range stay as they are, so that columns can be put together piece by piece. The bitmaps must not overlap.
 *
 * source  at least ceil((sourceRow + rowCount) / 8) bytes, read only
 * target  at least ceil((targetRow + rowCount) / 8) bytes
 */
export function copyBits(sourcePtr: usize, sourceRow: i32, targetPtr: usize, targetRow: i32, rowCount: i32): void {
  if (rowCount <= 0) return
  let from = sourceRow
  let to = targetRow
  const toEnd = targetRow + rowCount
  // The target's first bits, up to the next whole byte.
  if (to & 7) {
    const bitCount = min(8 - (to & 7), toEnd - to)
    replaceInByte(targetPtr + (<usize>to >> 3), to & 7, bitCount, <u32>loadBits(sourcePtr, from, bitCount))
    from += bitCount
    to += bitCount
  }
  // Whole bytes of the target, by 64 rows.
  if (from & 7) {
    const shift = <u64>(from & 7)
    for (; to <= toEnd - 64; to += 64, from += 64) {
      const ptr = sourcePtr + (<usize>from >> 3)
      store<u64>(targetPtr + (<usize>to >> 3), (load<u64>(ptr) >> shift) | ((<u64>load<u8>(ptr, 8)) << (64 - shift)))
    }
  } else {
    const byteCount = <usize>(toEnd - to) >> 3
    memory.copy(targetPtr + (<usize>to >> 3), sourcePtr + (<usize>from >> 3), byteCount)
    from += <i32>(byteCount << 3)
    to += <i32>(byteCount << 3)
  }
  // What is left: whole bytes, then the first bits of the last one.
  for (; to <= toEnd - 8; to += 8, from += 8) {
    store<u8>(targetPtr + (<usize>to >> 3), <u8>loadBits(sourcePtr, from, 8))
  }
  if (to < toEnd) replaceInByte(targetPtr + (<usize>to >> 3), 0, toEnd - to, <u32>loadBits(sourcePtr, from, toEnd - to))
}

/**
 * Writes the row numbers of the set bits, ascending. Returns how many.
 *
 * target  countBits(bits, rowCount) × u32, 4-byte aligned
 */
export function bitsToIndexes(bitsPtr: usize, rowCount: i32, targetPtr: usize): i32 {
  let ptr = targetPtr
  for (let row = 0; row < rowCount; row += 64) {
    let word = row <= rowCount - 64 ? load<u64>(bitsPtr + (<usize>row >> 3)) : loadBits(bitsPtr, row, rowCount - row)
    if (word === -1) {
      let rows = i32x4.add(i32x4.splat(row), i32x4(0, 1, 2, 3))
      for (const end = ptr + 256; ptr < end; ptr += 16) {
        v128.store(ptr, rows)
        rows = i32x4.add(rows, i32x4.splat(4))
      }
      continue
    }
    for (; word !== 0; word &= word - 1) {
      store<u32>(ptr, row + <i32>ctz(word))
      ptr += 4
    }
  }
  return <i32>((ptr - targetPtr) >> 2)
}
