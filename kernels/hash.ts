// The hash of text and of 64-bit keys, for tables that live as long as a job or a process: it is never stored on disk.
//
// Its good bits are the high ones: a slot is hash >> (64 - bits of the table).
//
// A 64-bit key is multiplied by an odd constant (multiply-shift: Martin Dietzfelbinger et al.: A Reliable Randomized
// Algorithm for the Closest-Pair Problem, 1997), and text up to 16 bytes is read as one masked vector whose halves are
// multiplied by two constants and added: two products that do not wait for each other. Longer text runs in two lanes of
// 8 bytes, each round a multiply-mix in the manner of wyhash: WebAssembly has no 64 × 64 → 128 bit product, so one round
// is x · k folded onto itself, x ^ (x >> 32), which is a bijection and brings the product's high bits to the low ones.

const multiplier: u64 = ((<u64>0x9e3779b9) << 32) | 0x7f4a7c15
const otherMultiplier: u64 = ((<u64>0xd6e8feb8) << 32) | 0x6659fd93

/** 16 bytes of ones, then 16 of zeros: the vector at (masks + 16 - n) keeps the first n bytes. */
export const masks = memory.data<u8>(
  [
    255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0,
  ],
  16,
)

/** Text up to this many bytes is compared and hashed as one vector. */
export const shortByteLength: u32 = 16

function mix(word: u64): u64 {
  const product = word * multiplier
  return product ^ (product >> 32)
}

/** The hash of one 64-bit key. */
export function hash64(key: u64): u64 {
  return key * multiplier
}

/**
 * Text of at most 16 bytes as a vector, zeros behind it. One load where 16 bytes stand before textEnd (the end of the
 * buffer that the text stands in), else the same from loads inside the text alone.
 */
export function shortText(ptr: usize, byteLength: u32, textEnd: usize): v128 {
  if (ptr + 16 <= textEnd) return v128.and(v128.load(ptr), v128.load(masks + 16 - byteLength))
  return shortTextAtEnd(ptr, byteLength)
}

/** The same where no 16 bytes stand before the end of the buffer. */
export function shortTextAtEnd(ptr: usize, byteLength: u32): v128 {
  let low: u64 = 0
  let high: u64 = 0
  if (byteLength >= 8) {
    low = load<u64>(ptr)
    // The last 8 bytes, less those that are in `low` already; a shift by 64 would be a shift by 0.
    if (byteLength > 8) high = load<u64>(ptr + byteLength - 8) >> ((16 - byteLength) << 3)
  } else {
    for (let i: u32 = 0; i < byteLength; i++) low |= (<u64>load<u8>(ptr + i)) << (i << 3)
  }
  return i64x2.replace_lane(i64x2.splat(low), 1, high)
}

/**
 * The hash of the two lanes of what shortText gave. Without the length: only texts that end in NULs could tell, and
 * those are compared.
 */
export function hashShort(low: u64, high: u64): u64 {
  return low * multiplier + high * otherMultiplier
}

/** The hash of text longer than 16 bytes. */
export function hashLong(ptr: usize, byteLength: u32): u64 {
  let a: u64 = <u64>byteLength * otherMultiplier
  let b: u64 = a ^ multiplier
  const last = ptr + byteLength - 16
  for (; ptr < last; ptr += 16) {
    a = mix(a ^ load<u64>(ptr))
    b = mix(b ^ load<u64>(ptr, 8))
  }
  a = mix(a ^ load<u64>(last))
  b = mix(b ^ load<u64>(last, 8))
  return mix(a ^ rotl<u64>(b, 29))
}

/** The hash of text of any length that stands in a buffer ending at textEnd. */
export function hashText(ptr: usize, byteLength: u32, textEnd: usize): u64 {
  if (byteLength > shortByteLength) return hashLong(ptr, byteLength)
  const text = shortText(ptr, byteLength, textEnd)
  return hashShort(i64x2.extract_lane(text, 0), i64x2.extract_lane(text, 1))
}

/** 1 when two texts longer than 16 bytes are equal. */
export function equalLong(aPtr: usize, bPtr: usize, byteLength: u32): bool {
  const last = aPtr + byteLength - 16
  for (; aPtr < last; aPtr += 16, bPtr += 16) {
    if (v128.any_true(v128.xor(v128.load(aPtr), v128.load(bPtr)))) return false
  }
  // The last vector overlaps the one before it.
  return !v128.any_true(v128.xor(v128.load(last), v128.load(bPtr + last - aPtr)))
}

/** 1 when two texts of one length are equal; reads nothing outside them. */
export function equalText(aPtr: usize, bPtr: usize, byteLength: u32): bool {
  if (byteLength > 16) return equalLong(aPtr, bPtr, byteLength)
  if (byteLength >= 8) {
    return (
      ((load<u64>(aPtr) ^ load<u64>(bPtr)) | (load<u64>(aPtr + byteLength - 8) ^ load<u64>(bPtr + byteLength - 8))) ===
      0
    )
  }
  if (byteLength >= 4) {
    return (
      ((load<u32>(aPtr) ^ load<u32>(bPtr)) | (load<u32>(aPtr + byteLength - 4) ^ load<u32>(bPtr + byteLength - 4))) ===
      0
    )
  }
  for (let i: u32 = 0; i < byteLength; i++) {
    if (load<u8>(aPtr + i) !== load<u8>(bPtr + i)) return false
  }
  return true
}

/** memcmp: negative, 0 or positive as text a sorts before, with or behind text b; a text sorts behind its own start. */
export function compareText(aPtr: usize, aByteLength: u32, bPtr: usize, bByteLength: u32): i32 {
  const shared = min(aByteLength, bByteLength)
  let i: u32 = 0
  for (; i + 8 <= shared; i += 8) {
    const a = load<u64>(aPtr + i)
    const b = load<u64>(bPtr + i)
    if (a !== b) return bswap<u64>(a) < bswap<u64>(b) ? -1 : 1
  }
  for (; i < shared; i++) {
    const difference = <i32>load<u8>(aPtr + i) - <i32>load<u8>(bPtr + i)
    if (difference !== 0) return difference
  }
  return aByteLength < bByteLength ? -1 : i32(aByteLength > bByteLength)
}
