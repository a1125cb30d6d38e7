// CRC-32C (Castagnoli), the checksum of pages.
import { CRC_TABLES } from './crc-tables'

/**
 * The CRC-32C of bytes that continue those of which `seed` is the CRC (0 at the start).
 *
 * Sixteen bytes a step through sixteen tables (Kounavis, Berry: A systematic approach to building high performance
 * software-based CRC generators, ISCC 2005: slicing-by-8, taken twice as far).
 */
export function crc32c(ptr: usize, byteLength: i32, seed: u32): u32 {
  let crc = ~seed
  let at = ptr
  const end = ptr + <usize>byteLength
  while (at + 16 <= end) {
    const low = load<u64>(at) ^ <u64>crc
    const high = load<u64>(at, 8)
    crc =
      entry(15, low) ^
      entry(14, low >> 8) ^
      entry(13, low >> 16) ^
      entry(12, low >> 24) ^
      entry(11, low >> 32) ^
      entry(10, low >> 40) ^
      entry(9, low >> 48) ^
      entry(8, low >> 56) ^
      entry(7, high) ^
      entry(6, high >> 8) ^
      entry(5, high >> 16) ^
      entry(4, high >> 24) ^
      entry(3, high >> 32) ^
      entry(2, high >> 40) ^
      entry(1, high >> 48) ^
      entry(0, high >> 56)
    at += 16
  }
  for (; at < end; at++) crc = entry(0, <u64>(crc ^ <u32>load<u8>(at))) ^ (crc >> 8)
  return ~crc
}

/** Entry of the lowest byte of `bits` in one table. */
function entry(table: usize, bits: u64): u32 {
  return load<u32>(CRC_TABLES + (table << 10) + ((<usize>(<u32>bits & 255)) << 2))
}
