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
    // Each byte is shifted straight to its place in a table: (byte << 2) of bits 8k … 8k + 7. The next step waits only for
    // what depends on the CRC, so that is put together last and as a tree.
    const ahead =
      load<u32>(<usize>((high << 2) & 0x3fc), CRC_TABLES + 7 * 1024) ^
      load<u32>(<usize>((high >> 6) & 0x3fc), CRC_TABLES + 6 * 1024) ^
      load<u32>(<usize>((high >> 14) & 0x3fc), CRC_TABLES + 5 * 1024) ^
      load<u32>(<usize>((high >> 22) & 0x3fc), CRC_TABLES + 4 * 1024) ^
      load<u32>(<usize>((high >> 30) & 0x3fc), CRC_TABLES + 3 * 1024) ^
      load<u32>(<usize>((high >> 38) & 0x3fc), CRC_TABLES + 2 * 1024) ^
      load<u32>(<usize>((high >> 46) & 0x3fc), CRC_TABLES + 1 * 1024) ^
      load<u32>(<usize>((high >> 54) & 0x3fc), CRC_TABLES + 0 * 1024)
    const a =
      load<u32>(<usize>((low << 2) & 0x3fc), CRC_TABLES + 15 * 1024) ^
      load<u32>(<usize>((low >> 6) & 0x3fc), CRC_TABLES + 14 * 1024)
    const b =
      load<u32>(<usize>((low >> 14) & 0x3fc), CRC_TABLES + 13 * 1024) ^
      load<u32>(<usize>((low >> 22) & 0x3fc), CRC_TABLES + 12 * 1024)
    const c =
      load<u32>(<usize>((low >> 30) & 0x3fc), CRC_TABLES + 11 * 1024) ^
      load<u32>(<usize>((low >> 38) & 0x3fc), CRC_TABLES + 10 * 1024)
    const d =
      load<u32>(<usize>((low >> 46) & 0x3fc), CRC_TABLES + 9 * 1024) ^
      load<u32>(<usize>((low >> 54) & 0x3fc), CRC_TABLES + 8 * 1024)
    crc = ahead ^ (a ^ b ^ (c ^ d))
    at += 16
  }
  for (; at < end; at++) crc = entry(0, <u64>(crc ^ <u32>load<u8>(at))) ^ (crc >> 8)
  return ~crc
}

/** Entry of the lowest byte of `bits` in one table. */
function entry(table: usize, bits: u64): u32 {
  return load<u32>(CRC_TABLES + (table << 10) + ((<usize>(<u32>bits & 255)) << 2))
}
