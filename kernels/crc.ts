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

// Many bytes are folded first, without tables. With y = x^8 the polynomial divides y^299 + y^142 + y^134 + y^62 + y^21 + 1, so
// a byte may be taken away if it is added 157, 165, 237, 278 and 299 bytes behind its place: the remainder stays as it is.
//
//   folded[i] = bytes[i] ^ folded[i - 157] ^ folded[i - 165] ^ folded[i - 237] ^ folded[i - 278] ^ folded[i - 299]
//
// In the end 304 bytes are left for the tables. (Sam Russell: Chorba, a novel CRC32 implementation, 2024, with a multiple
// of four terms, which of this polynomial is 5 KB long; this one was found by search. It must reach back far enough that what
// is loaded was stored long before: a load over two recent stores waits for both.)

/** How far back folding reaches, in whole steps of 16 bytes. */
const HISTORY: usize = 304
/** Bytes folded at a time; with those before them they stay in the first-level cache. A multiple of 64. */
const PORTION: usize = 4096
/** The nearest that is added, 157 bytes behind its place, in whole steps: so much of what is left is looked at as history. */
const NEAREST: usize = 160
/** Fewer bytes gain nothing: HISTORY of them go through the tables in any case. */
const FOLDED_MIN: i32 = 352

/** Scratch of crc32cFolded, in bytes. */
export function crcScratchByteLength(): i32 {
  return <i32>(HISTORY + PORTION + NEAREST + HISTORY)
}

/** Bytes set to 0, a multiple of 16. A loop: V8 leaves the code of WebAssembly for memory.fill. */
function clear(ptr: usize, byteLength: usize): void {
  for (const end = ptr + byteLength; ptr < end; ptr += 16) v128.store(ptr, i64x2.splat(0))
}

/** What is added to 16 bytes of the place `at` by those before it. */
function before(at: usize): v128 {
  const near = v128.xor(v128.load(at - 157), v128.load(at - 165))
  return v128.xor(v128.xor(near, v128.load(at - 237)), v128.xor(v128.load(at - 278), v128.load(at - 299)))
}

/**
 * As crc32c; for many bytes three times as fast.
 *
 * scratch  crcScratchByteLength() bytes, 16-byte aligned, overwritten
 */
export function crc32cFolded(ptr: usize, byteLength: i32, seed: u32, scratchPtr: usize): u32 {
  if (byteLength < FOLDED_MIN) return crc32c(ptr, byteLength, seed)
  const portionPtr = scratchPtr + HISTORY
  // Zeros ahead of all change nothing, so as many are added as make whole steps of the rest.
  const ahead = <usize>(-byteLength & 15)
  clear(scratchPtr, HISTORY + 16)
  // What was before these bytes is added to the first of them. None of them is reached from before.
  v128.store(portionPtr + ahead, v128.load(ptr))
  v128.store(portionPtr + ahead, v128.load(ptr, 16), 16)
  store<u32>(portionPtr + ahead, ~seed ^ load<u32>(ptr))
  let at = ptr + 32 - ahead
  let target = portionPtr + 32
  let left = <usize>byteLength + ahead - HISTORY
  let end: usize
  while (true) {
    end = portionPtr + min(left, PORTION)
    for (; target + 64 <= end; target += 64, at += 64) {
      v128.store(target, v128.xor(before(target), v128.load(at)))
      v128.store(target, v128.xor(before(target + 16), v128.load(at, 16)), 16)
      v128.store(target, v128.xor(before(target + 32), v128.load(at, 32)), 32)
      v128.store(target, v128.xor(before(target + 48), v128.load(at, 48)), 48)
    }
    for (; target < end; target += 16, at += 16) v128.store(target, v128.xor(before(target), v128.load(at)))
    left -= end - portionPtr
    if (left === 0) break
    memory.copy(scratchPtr, end - HISTORY, HISTORY)
    target = portionPtr
  }
  // The rest is not taken away, so nothing is added for it: as history it is 0, and it stands behind that.
  clear(end, NEAREST)
  const restPtr = end + NEAREST
  for (let i: usize = 0; i < HISTORY; i += 16) v128.store(restPtr + i, v128.xor(before(end + i), v128.load(at + i)))
  return crc32c(restPtr, <i32>HISTORY, ~0)
}
