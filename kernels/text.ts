// Short runs of bytes: equality, order, copy. Not exported from kernels.wasm.
// Most cells are a few bytes long, where a call of memory.copy costs more than the copy itself.

/** Above this, memory.copy is the faster copy. */
const INLINE_COPY_MAX: u32 = 128

/** Whether byteLength bytes are equal. */
export function sameText(aPtr: usize, bPtr: usize, byteLength: u32): bool {
  if (byteLength >= 8) {
    const last = byteLength - 8
    for (let i: u32 = 0; i < last; i += 8) {
      if (load<u64>(aPtr + i) !== load<u64>(bPtr + i)) return false
    }
    // The last eight bytes may overlap those before.
    return load<u64>(aPtr + last) === load<u64>(bPtr + last)
  }
  if (byteLength >= 4) {
    const last = byteLength - 4
    return load<u32>(aPtr) === load<u32>(bPtr) && load<u32>(aPtr + last) === load<u32>(bPtr + last)
  }
  if (byteLength === 0) return true
  // One to three bytes: the first, the middle and the last.
  const middle = byteLength >> 1
  const last = byteLength - 1
  return (
    load<u8>(aPtr) === load<u8>(bPtr) &&
    load<u8>(aPtr + middle) === load<u8>(bPtr + middle) &&
    load<u8>(aPtr + last) === load<u8>(bPtr + last)
  )
}

/** -1, 0 or 1 as text a stands before, at or after text b in the order of their bytes. */
export function compareText(aPtr: usize, aByteLength: u32, bPtr: usize, bByteLength: u32): i32 {
  const shared = min(aByteLength, bByteLength)
  let i: u32 = 0
  while (i + 8 <= shared) {
    const a = load<u64>(aPtr + i)
    const b = load<u64>(bPtr + i)
    if (a !== b) {
      // The first byte that differs is the lowest, since memory is little endian.
      const shift = ctz(a ^ b) & ~7
      return ((a >> shift) & 0xff) < ((b >> shift) & 0xff) ? -1 : 1
    }
    i += 8
  }
  if (shared - i >= 4) {
    const a = bswap<u32>(load<u32>(aPtr + i))
    const b = bswap<u32>(load<u32>(bPtr + i))
    if (a !== b) return a < b ? -1 : 1
    i += 4
  }
  for (; i < shared; i++) {
    const a = load<u8>(aPtr + i)
    const b = load<u8>(bPtr + i)
    if (a !== b) return a < b ? -1 : 1
  }
  return i32(aByteLength > bByteLength) - i32(aByteLength < bByteLength)
}

/** The first eight bytes of a text as a number that orders as they do, zeros behind a shorter one; reads nothing outside. */
export function beginningOf(ptr: usize, byteLength: u32): u64 {
  if (byteLength >= 8) return bswap<u64>(load<u64>(ptr))
  if (byteLength >= 4) {
    // The last four may overlap the first: they say the same then.
    const last = <u64>bswap<u32>(load<u32>(ptr + byteLength - 4))
    return ((<u64>bswap<u32>(load<u32>(ptr))) << 32) | (last << ((8 - byteLength) << 3))
  }
  let word: u64 = 0
  for (let i: u32 = 0; i < byteLength; i++) word |= (<u64>load<u8>(ptr + i)) << (56 - (i << 3))
  return word
}

/** How many bytes from a on equal those from b on, byteLength at most. */
export function countEqualBytes(aPtr: usize, bPtr: usize, byteLength: u32): u32 {
  let i: u32 = 0
  for (; i + 16 <= byteLength; i += 16) {
    const equal = i8x16.bitmask(i8x16.eq(v128.load(aPtr + i), v128.load(bPtr + i)))
    if (equal !== 0xffff) return i + ctz<i32>(~equal)
  }
  while (i < byteLength && load<u8>(aPtr + i) === load<u8>(bPtr + i)) i++
  return i
}

/** How many rows from a on equal those from b on, `rowCount` at most: (rowCount + 1) × u32 offsets into bytes. */
export function countEqualRows(offsetsPtr: usize, bytesPtr: usize, a: i32, b: i32, rowCount: i32): i32 {
  const aOffsets = offsetsPtr + ((<usize>a) << 2)
  const bOffsets = offsetsPtr + ((<usize>b) << 2)
  const aStart = load<u32>(aOffsets)
  const bStart = load<u32>(bOffsets)
  // Equal lengths: offsets that stand equally far apart.
  const apart = aStart - bStart
  const aparts = i32x4.splat(apart)
  let equal: i32 = 0
  for (; equal + 4 <= rowCount; equal += 4) {
    const at = (<usize>equal) << 2
    if (!i32x4.all_true(i32x4.eq(i32x4.sub(v128.load(aOffsets + at, 4), v128.load(bOffsets + at, 4)), aparts))) break
  }
  for (; equal < rowCount; equal++) {
    const at = (<usize>equal) << 2
    if (load<u32>(aOffsets + at, 4) - load<u32>(bOffsets + at, 4) !== apart) break
  }
  const byteLength = load<u32>(aOffsets + ((<usize>equal) << 2)) - aStart
  const equalByteLength = countEqualBytes(bytesPtr + aStart, bytesPtr + bStart, byteLength)
  if (equalByteLength < byteLength) {
    while (load<u32>(aOffsets + ((<usize>equal) << 2)) - aStart > equalByteLength) equal--
  }
  return equal
}

/** Whether `rowCount` rows from a on equal those from b on: as countEqualRows, faster where they do. */
export function areRowsEqual(offsetsPtr: usize, bytesPtr: usize, a: i32, b: i32, rowCount: i32): bool {
  const aOffsets = offsetsPtr + ((<usize>a) << 2)
  const bOffsets = offsetsPtr + ((<usize>b) << 2)
  const aStart = load<u32>(aOffsets)
  const bStart = load<u32>(bOffsets)
  const apart = aStart - bStart
  const aparts = i32x4.splat(apart)
  let differing = i64x2.splat(0)
  const end = (<usize>rowCount + 1) << 2
  let at: usize = 0
  for (; at + 32 <= end; at += 32) {
    const first = i32x4.sub(v128.load(aOffsets + at), v128.load(bOffsets + at))
    const second = i32x4.sub(v128.load(aOffsets + at, 16), v128.load(bOffsets + at, 16))
    differing = v128.or(differing, v128.or(v128.xor(first, aparts), v128.xor(second, aparts)))
  }
  if (v128.any_true(differing)) return false
  for (; at < end; at += 4) if (load<u32>(aOffsets + at) - load<u32>(bOffsets + at) !== apart) return false
  const byteLength = load<u32>(aOffsets + ((<usize>rowCount) << 2)) - aStart
  const aPtr = bytesPtr + aStart
  const bPtr = bytesPtr + bStart
  let i: u32 = 0
  for (; i + 64 <= byteLength; i += 64) {
    const c = v128.xor(v128.load(aPtr + i), v128.load(bPtr + i))
    const d = v128.xor(v128.load(aPtr + i, 16), v128.load(bPtr + i, 16))
    const e = v128.xor(v128.load(aPtr + i, 32), v128.load(bPtr + i, 32))
    const f = v128.xor(v128.load(aPtr + i, 48), v128.load(bPtr + i, 48))
    if (v128.any_true(v128.or(v128.or(c, d), v128.or(e, f)))) return false
  }
  return countEqualBytes(aPtr + i, bPtr + i, byteLength - i) === byteLength - i
}

/** Copies byteLength bytes between places that do not overlap. */
export function copyText(targetPtr: usize, sourcePtr: usize, byteLength: u32): void {
  if (byteLength > INLINE_COPY_MAX) {
    memory.copy(targetPtr, sourcePtr, byteLength)
  } else if (byteLength >= 16) {
    const last = byteLength - 16
    for (let i: u32 = 0; i < last; i += 16) v128.store(targetPtr + i, v128.load(sourcePtr + i))
    v128.store(targetPtr + last, v128.load(sourcePtr + last))
  } else if (byteLength >= 8) {
    const last = byteLength - 8
    store<u64>(targetPtr, load<u64>(sourcePtr))
    store<u64>(targetPtr + last, load<u64>(sourcePtr + last))
  } else if (byteLength >= 4) {
    const last = byteLength - 4
    store<u32>(targetPtr, load<u32>(sourcePtr))
    store<u32>(targetPtr + last, load<u32>(sourcePtr + last))
  } else if (byteLength > 0) {
    const middle = byteLength >> 1
    const last = byteLength - 1
    store<u8>(targetPtr, load<u8>(sourcePtr))
    store<u8>(targetPtr + middle, load<u8>(sourcePtr + middle))
    store<u8>(targetPtr + last, load<u8>(sourcePtr + last))
  }
}
