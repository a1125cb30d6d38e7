// Blocks of codes that stand as bytes, sixteen of them at once. What is written are the bytes of packing.ts.
import { packedByteLength } from './codes'
import { BLOCK_COUNT, ESCAPES, GROUP_COUNT } from './page-codecs'

/**
 * As packBlocks, for codes of a byte each.
 *
 * codes   count bytes, 16-byte aligned, and 0 up to the next multiple of 64
 * target  as many bytes as packBlocks asks for; all of them may be written
 */
export function packByteBlocks(codesPtr: usize, count: i32, targetPtr: usize): i32 {
  let target = targetPtr
  for (let start = 0; start < count; start += BLOCK_COUNT)
    target += packByteBlock(codesPtr + <usize>start, min(count - start, BLOCK_COUNT), target)
  return <i32>(target - targetPtr)
}

/** One block of them, up to 256. */
export function packByteBlock(codesPtr: usize, count: i32, targetPtr: usize): usize {
  const codesEnd = codesPtr + <usize>((count + 15) & ~15)
  const choice = chooseWidthOfBytes(codesPtr, codesEnd, count, greatestByte(codesPtr, codesEnd))
  const width = choice & 127
  const escapeWidth = (choice >> 7) & 127
  const marker = (1 << width) - 1
  if (escapeWidth > 64) {
    store<u8>(targetPtr, <u8>width)
    return 1 + packBytes(codesPtr, count, width, marker, targetPtr + 1)
  }
  store<u8>(targetPtr, <u8>(width | ESCAPES))
  store<u8>(targetPtr, <u8>escapeWidth, 1)
  let target = targetPtr + 2
  if (width === 0) {
    target++
    for (let start = 0; start < count; start += 64) {
      for (let places = placesFrom(codesPtr + <usize>start, 1); places !== 0; places &= places - 1) {
        store<u8>(target, <u8>(start + <i32>ctz(places)))
        target++
      }
    }
    store<u8>(targetPtr, <u8>(target - targetPtr - 3), 2)
    target += packEscapes(codesPtr, count, 1, 0, escapeWidth, target)
  } else {
    target += packBytes(codesPtr, count, width, marker, target)
    target += packEscapes(codesPtr, count, marker, marker, escapeWidth, target)
  }
  return target - targetPtr
}

/** As chooseWidth, with the same result, for codes that stand as bytes: whole vectors, 0 behind the last code. */
function chooseWidthOfBytes(bytesPtr: usize, bytesEnd: usize, count: i32, largest: i32): i32 {
  const plainWidth = 32 - <i32>clz(largest)
  let width = plainWidth
  let escapeWidth = 127
  let bitCountMin = count * plainWidth + 8
  for (let w = plainWidth - 1; w > 0; w--) {
    const marker = (1 << w) - 1
    const escapeCount = countBytesFrom(bytesPtr, bytesEnd, marker)
    const escapeBitCount = 32 - <i32>clz(largest - marker)
    if (escapeCount * escapeBitCount >= bitCountMin) break
    const bitCount = count * w + escapeCount * escapeBitCount + 16
    if (bitCount < bitCountMin) {
      bitCountMin = bitCount
      width = w
      escapeWidth = escapeBitCount
    }
  }
  const sparseBitCount = countBytesFrom(bytesPtr, bytesEnd, 1) * (plainWidth + 8) + 24
  if (sparseBitCount < bitCountMin) {
    bitCountMin = sparseBitCount
    width = 0
    escapeWidth = plainWidth
  }
  return (bitCountMin << 14) | (escapeWidth << 7) | width
}

/** How many of at most 256 bytes are `least` or more; whole vectors. */
function countBytesFrom(bytesPtr: usize, bytesEnd: usize, least: i32): i32 {
  const leasts = i8x16.splat(<i8>least)
  let counts = i64x2.splat(0)
  for (let ptr = bytesPtr; ptr < bytesEnd; ptr += 16) {
    counts = i8x16.sub(counts, i8x16.ge_u(v128.load(ptr), leasts))
  }
  const sums = i32x4.extadd_pairwise_i16x8_u(i16x8.extadd_pairwise_i8x16_u(counts))
  return (
    i32x4.extract_lane(sums, 0) +
    i32x4.extract_lane(sums, 1) +
    i32x4.extract_lane(sums, 2) +
    i32x4.extract_lane(sums, 3)
  )
}

/** The greatest of whole vectors of bytes. */
function greatestByte(ptr: usize, end: usize): i32 {
  let greatest = i64x2.splat(0)
  for (let at = ptr; at < end; at += 16) greatest = i8x16.max_u(greatest, v128.load(at))
  greatest = i8x16.max_u(greatest, v128.shuffle<i64>(greatest, greatest, 1, 0))
  greatest = i8x16.max_u(greatest, v128.shuffle<i32>(greatest, greatest, 1, 0, 3, 2))
  greatest = i8x16.max_u(greatest, i32x4.shr_u(greatest, 16))
  greatest = i8x16.max_u(greatest, i32x4.shr_u(greatest, 8))
  return <i32>i8x16.extract_lane_u(greatest, 0)
}

/** Which of 64 bytes are `least` or more, the first in the lowest bit. */
function placesFrom(ptr: usize, least: i32): u64 {
  const leasts = i8x16.splat(<i8>least)
  const a = <u64>i8x16.bitmask(i8x16.ge_u(v128.load(ptr), leasts))
  const b = <u64>i8x16.bitmask(i8x16.ge_u(v128.load(ptr, 16), leasts))
  const c = <u64>i8x16.bitmask(i8x16.ge_u(v128.load(ptr, 32), leasts))
  const d = <u64>i8x16.bitmask(i8x16.ge_u(v128.load(ptr, 48), leasts))
  return a | (b << 16) | (c << 32) | (d << 48)
}

/** What codes that are `least` (1 or more) or more have above a base, one after the other as packBits writes them. */
function packEscapes(codesPtr: usize, count: i32, least: i32, base: i32, width: i32, targetPtr: usize): usize {
  let target = targetPtr
  let held: u64 = 0
  let heldCount = 0
  for (let start = 0; start < count; start += 64) {
    const ptr = codesPtr + <usize>start
    for (let places = placesFrom(ptr, least); places !== 0; places &= places - 1) {
      held |= (<u64>(<i32>load<u8>(ptr + <usize>ctz(places)) - base)) << heldCount
      heldCount += width
      if (heldCount >= 32) {
        store<u32>(target, <u32>held)
        target += 4
        held >>= 32
        heldCount -= 32
      }
    }
  }
  store<u64>(target, held)
  return target + <usize>packedByteLength(heldCount, 1) - targetPtr
}

/** As packCodes, of codes of which none counts for more than the marker, 2^width - 1. */
function packBytes(codesPtr: usize, count: i32, width: i32, marker: i32, targetPtr: usize): usize {
  if (width === 0) return 0
  let target = targetPtr
  let i = 0
  for (; i + GROUP_COUNT <= count; i += GROUP_COUNT) {
    packByteGroup(codesPtr + <usize>i, width, marker, target)
    target += (<usize>width) << 4
  }
  let held: u64 = 0
  let heldCount = 0
  for (; i < count; i++) {
    held |= (<u64>min<i32>(load<u8>(codesPtr + <usize>i), marker)) << heldCount
    heldCount += width
    if (heldCount >= 32) {
      store<u32>(target, <u32>held)
      target += 4
      held >>= 32
      heldCount -= 32
    }
  }
  store<u64>(target, held)
  return target + <usize>packedByteLength(heldCount, 1) - targetPtr
}

/** As packGroup: 128 codes in four streams of 32-bit words, side by side. */
function packByteGroup(codesPtr: usize, width: i32, marker: i32, targetPtr: usize): void {
  const markers = i8x16.splat(<i8>marker)
  const lowBytes = i16x8.splat(255)
  const lowPairs = i32x4.splat(65535)
  const fourWidth = width << 2
  let held = i64x2.splat(0)
  let heldCount = 0
  let target = targetPtr
  for (let ptr = codesPtr; ptr < codesPtr + 128; ptr += 16) {
    const capped = i8x16.min_u(v128.load(ptr), markers)
    // Of each stream four codes side by side; then these are moved together, two by two.
    const bytes = v128.shuffle<i8>(capped, capped, 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15)
    const pairs = v128.or(v128.and(bytes, lowBytes), i16x8.shl(i16x8.shr_u(bytes, 8), width))
    const fours = v128.or(v128.and(pairs, lowPairs), i32x4.shl(i32x4.shr_u(pairs, 16), width << 1))
    held = v128.or(held, i32x4.shl(fours, heldCount))
    heldCount += fourWidth
    if (heldCount >= 32) {
      v128.store(target, held)
      target += 16
      heldCount -= 32
      held = heldCount === 0 ? i64x2.splat(0) : i32x4.shr_u(fours, fourWidth - heldCount)
    }
  }
}
