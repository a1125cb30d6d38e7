// Bitmaps: one bit a row, row 0 the lowest bit of byte 0, 1 = present or selected; bits past the last row are 0.

/**
 * Counts the set bits of the first rowCount rows.
 *
 * bits  ceil(rowCount / 8) bytes, 8-byte aligned, read only
 */
export function countBits(bitsPtr: usize, rowCount: i32): i32 {
  let count: i32 = 0
  const wordEnd = bitsPtr + ((<usize>rowCount >> 6) << 3)
  let ptr = bitsPtr
  for (; ptr < wordEnd; ptr += 8) count += <i32>popcnt(load<u64>(ptr))
  for (let row = rowCount & ~63; row < rowCount; row++) {
    count += <i32>((load<u8>(bitsPtr + (<usize>row >> 3)) >> (row & 7)) & 1)
  }
  return count
}
