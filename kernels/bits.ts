// Runs of up to 64 bits at any place of a bitmap: what the column kernels share. Not exported from kernels.wasm.

/** The lowest bitCount bits set; bitCount 1 to 64. */
export function lowBits(bitCount: i32): u64 {
  return <u64>-1 >> (64 - <u64>bitCount)
}

/** Reads byteCount bytes, 1 to 7, and nothing beyond them; the first becomes the lowest. */
export function loadBytes(ptr: usize, byteCount: u32): u64 {
  if (byteCount === 1) return load<u8>(ptr)
  let word: u64 = 0
  let shift: u64 = 0
  if (byteCount & 4) {
    word = load<u32>(ptr)
    ptr += 4
    shift = 32
  }
  if (byteCount & 2) {
    word |= (<u64>load<u16>(ptr)) << shift
    ptr += 2
    shift += 16
  }
  if (byteCount & 1) word |= (<u64>load<u8>(ptr)) << shift
  return word
}

/**
 * The bits of rows [row, row + bitCount), the first row lowest; bitCount 1 to 64. Reads only the bytes that hold them.
 */
export function loadBits(bitsPtr: usize, row: i32, bitCount: i32): u64 {
  const ptr = bitsPtr + (<usize>row >> 3)
  const shift = <u64>(row & 7)
  const byteCount = (<u32>(row & 7) + bitCount + 7) >> 3
  let word: u64
  if (byteCount < 8) {
    word = loadBytes(ptr, byteCount) >> shift
  } else {
    word = load<u64>(ptr) >> shift
    // A ninth byte is needed only when the run begins inside a byte, so the shift is below 64.
    if (byteCount > 8) word |= (<u64>load<u8>(ptr, 8)) << (64 - shift)
  }
  return word & lowBits(bitCount)
}

/** Writes the lowest bitCount bits (1 to 63) of word to whole bytes; the bits of the last byte past them become 0. */
export function storeTail(ptr: usize, bitCount: i32, word: u64): void {
  word &= lowBits(bitCount)
  const byteCount = (bitCount + 7) >> 3
  if (byteCount === 8) {
    store<u64>(ptr, word)
    return
  }
  if (byteCount & 4) {
    store<u32>(ptr, <u32>word)
    ptr += 4
    word >>= 32
  }
  if (byteCount & 2) {
    store<u16>(ptr, <u16>word)
    ptr += 2
    word >>= 16
  }
  if (byteCount & 1) store<u8>(ptr, <u8>word)
}

/** Replaces bitCount bits (1 to 8 - bit) of one byte, from bit `bit` on; its other bits stay. */
export function replaceInByte(ptr: usize, bit: i32, bitCount: i32, bits: u32): void {
  const mask = ((1 << bitCount) - 1) << bit
  store<u8>(ptr, (load<u8>(ptr) & ~mask) | ((bits << bit) & mask))
}

/** Whether the row's bit is set. */
export function isSet(bitsPtr: usize, row: i32): bool {
  return ((<u32>load<u8>(bitsPtr + (<usize>row >> 3)) >> (row & 7)) & 1) !== 0
}

/** Sets the row's bit; the others stay. */
export function setBit(bitsPtr: usize, row: i32): void {
  const ptr = bitsPtr + (<usize>row >> 3)
  store<u8>(ptr, <u32>load<u8>(ptr) | (1 << (row & 7)))
}

/** Writes the row's bit; the others stay. */
export function putBit(bitsPtr: usize, row: i32, isSet: bool): void {
  const ptr = bitsPtr + (<usize>row >> 3)
  const shift = row & 7
  store<u8>(ptr, (<u32>load<u8>(ptr) & ~(1 << shift)) | ((isSet ? 1 : 0) << shift))
}

/** Counts the set bits of rows [rowStart, rowEnd). */
export function countBitRange(bitsPtr: usize, rowStart: i32, rowEnd: i32): i32 {
  let count: i32 = 0
  let row = rowStart
  for (; row <= rowEnd - 64; row += 64) count += <i32>popcnt(loadBits(bitsPtr, row, 64))
  if (row < rowEnd) count += <i32>popcnt(loadBits(bitsPtr, row, rowEnd - row))
  return count
}
