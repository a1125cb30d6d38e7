// Numbers as bits: zigzag codes, codes of any width one after the other, integers of as many bytes as they need.
// Internal to the page codecs; docs/formats.md draws the bytes.

/** Bits needed to write x: 0 for 0, 64 for 2^63 and more. */
export function bitLength(x: u64): i32 {
  return 64 - <i32>clz(x)
}

/** All ones in the lowest `width` bits, 0 to 64. */
export function maskOfWidth(width: i32): u64 {
  return width === 0 ? 0 : ~(<u64>0) >> (64 - width)
}

/** 0, -1, 1, -2, 2 … as 0, 1, 2, 3, 4 … */
export function zigzag(x: i64): u64 {
  return ((<u64>x) << 1) ^ <u64>(x >> 63)
}

export function unzigzag(z: u64): i64 {
  return <i64>((z >> 1) ^ (0 - (z & 1)))
}

/** Bytes of `count` codes of `width` bits. */
export function packedByteLength(count: i32, width: i32): i32 {
  return (count * width + 7) >> 3
}

/**
 * Reads `width` bits (0 to 64) from bit `bitIndex` of the bytes [ptr, end), lowest bit first.
 * The caller knows that the bits lie inside; bytes beyond `end` are not touched.
 */
export function readBits(ptr: usize, end: usize, bitIndex: usize, width: i32): u64 {
  const at = ptr + (bitIndex >> 3)
  const shift = <u64>(bitIndex & 7)
  let bits: u64 = 0
  let above: u64 = 0
  if (at + 9 <= end) {
    bits = load<u64>(at)
    above = load<u8>(at, 8)
  } else {
    for (let i: usize = 0; at + i < end && i < 8; i++) bits |= (<u64>load<u8>(at + i)) << ((<u64>i) << 3)
    if (at + 8 < end) above = load<u8>(at, 8)
  }
  bits >>= shift
  if (<i32>shift + width > 64) bits |= above << (64 - shift)
  return bits & maskOfWidth(width)
}

/** readBits for at most 31 bits of a page that ends at `end`, mostly one load. */
export function readNarrowBits(ptr: usize, end: usize, bitIndex: i32, width: i32): u32 {
  const at = ptr + <usize>(bitIndex >> 3)
  if (at + 8 > end) return <u32>readBits(ptr, end, <usize>bitIndex, width)
  return <u32>(load<u64>(at) >> (bitIndex & 7)) & <u32>(((<u64>1) << width) - 1)
}

/** Writes `count` codes of `width` bits (0 to 64) one after the other, lowest bit first; returns the bytes written. */
export function packBits(codesPtr: usize, count: i32, width: i32, targetPtr: usize): i32 {
  let held: u64 = 0
  let heldCount = 0
  let target = targetPtr
  const end = codesPtr + ((<usize>count) << 3)
  for (let ptr = codesPtr; ptr < end; ptr += 8) {
    const code = load<u64>(ptr)
    held |= code << heldCount
    heldCount += width
    if (heldCount >= 64) {
      store<u64>(target, held)
      target += 8
      heldCount -= 64
      held = heldCount === 0 ? 0 : code >> (width - heldCount)
    }
  }
  for (; heldCount > 0; heldCount -= 8) {
    store<u8>(target, <u8>held)
    held >>= 8
    target++
  }
  return <i32>(target - targetPtr)
}

/** Reads zigzag codes that packBits wrote into i64. The caller has checked that the codes end at or before `end`. */
export function unpackBits(ptr: usize, end: usize, count: i32, width: i32, targetPtr: usize): void {
  let i = 0
  if (width <= 56 && end - ptr >= 8) {
    // Eight bytes hold any code of up to 56 bits; the last ones may stand too near to the end to be read so.
    const mask = maskOfWidth(width)
    const last = (<i32>min<usize>(end - ptr - 8, 4096)) << 3
    for (let bitIndex = 0; i < count && bitIndex <= last; bitIndex += width) {
      const code = (load<u64>(ptr + <usize>(bitIndex >> 3)) >> (bitIndex & 7)) & mask
      store<i64>(targetPtr + ((<usize>i) << 3), unzigzag(code))
      i++
    }
  }
  for (; i < count; i++) {
    store<i64>(targetPtr + ((<usize>i) << 3), unzigzag(readBits(ptr, end, <usize>i * <usize>width, width)))
  }
}

/** Writes an integer as its byte length (0 to 8) and its lowest bytes; returns where it ends. Touches 9 bytes. */
export function writeInteger(targetPtr: usize, value: i64): usize {
  const length = (bitLength(zigzag(value)) + 7) >> 3
  store<u8>(targetPtr, <u8>length)
  store<i64>(targetPtr, value, 1)
  return targetPtr + 1 + <usize>length
}

/** Where the integer at ptr ends, 0 when it does not end at or before `end`. */
export function integerEnd(ptr: usize, end: usize): usize {
  if (ptr >= end) return 0
  const length = <usize>load<u8>(ptr)
  return length > 8 || end - ptr - 1 < length ? 0 : ptr + 1 + length
}

/** The integer at ptr, which integerEnd has found complete. */
export function readInteger(ptr: usize): i64 {
  const length = <i32>load<u8>(ptr)
  let bits: u64 = 0
  for (let i = 0; i < length; i++) bits |= (<u64>load<u8>(ptr + 1 + <usize>i)) << (i << 3)
  const unused = 64 - (length << 3)
  return length === 0 ? 0 : <i64>(bits << unused) >> unused
}
