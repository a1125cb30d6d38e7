// Bit packing: blocks of zigzag codes in as few bits as most of them need, the rest as escapes.
// Internal to the page codecs (ints.ts, times.ts, floats.ts, strings.ts, bools.ts); docs/formats.md draws the bytes.
import { packByteBlock } from './byte-packing'
import { bitLength, maskOfWidth, packBits, packedByteLength, readBits, unpackBits, unzigzag } from './codes'
import { BLOCK_COUNT, ESCAPES, GROUP_COUNT } from './page-codecs'

// A group of 128 codes is packed "vertically", so that every lane of a SIMD register is shifted by the same amount
// (Lemire and Boytsov: Decoding billions of integers per second through vectorization, 2015, section 4).
// Up to 32 bits: row r holds codes 4r … 4r+3 in four 32-bit lanes. Wider: codes 2r and 2r+1 in two 64-bit lanes.
// Each lane is a stream of its own, lowest bit first, cut into words; the words of all lanes stand side by side.
// Either way the group is 16 × width bytes.

/** Packs 128 codes of `width` (0 to 64) bits each into 16 × width bytes. */
function packGroup(codesPtr: usize, width: i32, targetPtr: usize): void {
  if (width === 0) return
  let held = i64x2.splat(0)
  let heldCount = 0
  let target = targetPtr
  if (width <= 32) {
    for (let ptr = codesPtr; ptr < codesPtr + 1024; ptr += 32) {
      const row = v128.shuffle<i32>(v128.load(ptr), v128.load(ptr, 16), 0, 2, 4, 6)
      held = v128.or(held, i32x4.shl(row, heldCount))
      heldCount += width
      if (heldCount >= 32) {
        v128.store(target, held)
        target += 16
        heldCount -= 32
        held = heldCount === 0 ? i64x2.splat(0) : i32x4.shr_u(row, width - heldCount)
      }
    }
    return
  }
  for (let ptr = codesPtr; ptr < codesPtr + 1024; ptr += 16) {
    const row = v128.load(ptr)
    held = v128.or(held, i64x2.shl(row, heldCount))
    heldCount += width
    if (heldCount >= 64) {
      v128.store(target, held)
      target += 16
      heldCount -= 64
      held = heldCount === 0 ? i64x2.splat(0) : i64x2.shr_u(row, width - heldCount)
    }
  }
}

/** Unpacks 128 zigzag codes of `width` (0 to 64) bits from 16 × width bytes into i64. */
function unpackGroup(sourcePtr: usize, width: i32, targetPtr: usize): void {
  if (width === 0) {
    memory.fill(targetPtr, 0, 1024)
    return
  }
  if (width > 32) {
    unpackWide(sourcePtr, width, targetPtr)
    return
  }
  const mask = i32x4.splat(<i32>maskOfWidth(width))
  const one = i32x4.splat(1)
  let source = sourcePtr + 16
  let held = v128.load(sourcePtr)
  let heldCount = 0
  for (let target = targetPtr; target < targetPtr + 1024; target += 32) {
    let codes = i32x4.shr_u(held, heldCount)
    heldCount += width
    if (heldCount >= 32) {
      heldCount -= 32
      if (target !== targetPtr + 992) held = v128.load(source)
      source += 16
      if (heldCount !== 0) codes = v128.or(codes, i32x4.shl(held, width - heldCount))
    }
    codes = v128.and(codes, mask)
    const integers = v128.xor(i32x4.shr_u(codes, 1), i32x4.neg(v128.and(codes, one)))
    v128.store(target, i64x2.extend_low_i32x4_s(integers))
    v128.store(target, i64x2.extend_high_i32x4_s(integers), 16)
  }
}

/** The same for 33 to 64 bits: codes 2 × row and 2 × row + 1 in two 64-bit lanes. */
function unpackWide(sourcePtr: usize, width: i32, targetPtr: usize): void {
  const mask = i64x2.splat(<i64>maskOfWidth(width))
  const one = i64x2.splat(1)
  let source = sourcePtr + 16
  let held = v128.load(sourcePtr)
  let heldCount = 0
  for (let target = targetPtr; target < targetPtr + 1024; target += 16) {
    let codes = i64x2.shr_u(held, heldCount)
    heldCount += width
    if (heldCount >= 64) {
      heldCount -= 64
      if (target !== targetPtr + 1008) held = v128.load(source)
      source += 16
      if (heldCount !== 0) codes = v128.or(codes, i64x2.shl(held, width - heldCount))
    }
    codes = v128.and(codes, mask)
    v128.store(target, v128.xor(i64x2.shr_u(codes, 1), i64x2.neg(v128.and(codes, one))))
  }
}

/** Bytes that packBlocks writes at most. */
export function maxPackedByteLength(count: i32): i32 {
  return (count << 3) + (count / BLOCK_COUNT + 1) * 2
}

/**
 * Packs `count` zigzag codes (u64) in blocks of 256; returns the bytes written, at most maxPackedByteLength.
 *
 * Each block takes the width that makes it smallest. In a block with escapes the code of all ones says that the value
 * is one of the escapes, which follow, less that code, in a width of their own. So a few large values do not widen the
 * rest (compare PFOR: Zukowski, Heman, Nes, Boncz: Super-scalar RAM-CPU cache compression, ICDE 2006, which chains
 * positions instead), and frequent small values cost as little as with a two-level prefix code.
 *
 * scratch  8 KiB, 16-byte aligned
 */
export function packBlocks(codesPtr: usize, count: i32, targetPtr: usize, scratchPtr: usize): i32 {
  let target = targetPtr
  for (let start = 0; start < count; start += BLOCK_COUNT) {
    target += packBlock(codesPtr + ((<usize>start) << 3), min(count - start, BLOCK_COUNT), target, scratchPtr)
  }
  return <i32>(target - targetPtr)
}

function packBlock(codesPtr: usize, count: i32, targetPtr: usize, scratchPtr: usize): usize {
  const choice = chooseWidth(codesPtr, count, scratchPtr)
  const width = choice & 127
  const escapeWidth = (choice >> 7) & 127
  if (escapeWidth > 64) {
    store<u8>(targetPtr, <u8>width)
    return 1 + packCodes(codesPtr, count, width, targetPtr + 1)
  }
  store<u8>(targetPtr, <u8>(width | ESCAPES))
  const marker = maskOfWidth(width)
  store<u8>(targetPtr, <u8>escapeWidth, 1)
  let target = targetPtr + 2
  const escapesPtr = scratchPtr + 528
  let escapesEnd = escapesPtr
  if (width === 0) {
    target++
    for (let i = 0; i < count; i++) {
      const code = load<u64>(codesPtr + ((<usize>i) << 3))
      if (code === 0) continue
      store<u64>(escapesEnd, code)
      escapesEnd += 8
      store<u8>(target, <u8>i)
      target++
    }
    store<u8>(targetPtr, <u8>((escapesEnd - escapesPtr) >> 3), 2)
  } else {
    const cappedPtr = escapesPtr + ((<usize>BLOCK_COUNT) << 3) + 16
    escapesEnd = splitEscapes(codesPtr, count, marker, cappedPtr, escapesPtr)
    target += packCodes(cappedPtr, count, width, target)
  }
  target += packBits(escapesPtr, <i32>((escapesEnd - escapesPtr) >> 3), escapeWidth, target)
  return target - targetPtr
}

/**
 * The width at which at most 256 codes become smallest: bits needed × 2^14 + width of the escapes × 2^7 + width, the
 * width of the escapes being 127 where there are none.
 *
 * scratch  528 bytes, 16-byte aligned
 */
export function chooseWidth(codesPtr: usize, count: i32, scratchPtr: usize): i32 {
  // Slot n counts the codes with clz(code + 1) == n, so that a width w leaves those with n < 64 - w as escapes. A slot is
  // four 16-bit counters, taken in turn, because an increment waits for the last one of the same counter.
  for (let ptr = scratchPtr; ptr < scratchPtr + 528; ptr += 16) v128.store(ptr, i64x2.splat(0))
  let largest: u64 = 0
  const end = codesPtr + ((<usize>count) << 3)
  let ptr = codesPtr
  for (; ptr + 32 <= end; ptr += 32) {
    const a = load<u64>(ptr)
    const b = load<u64>(ptr, 8)
    const c = load<u64>(ptr, 16)
    const d = load<u64>(ptr, 24)
    largest = max(max(largest, max(a, b)), max(c, d))
    const aPtr = scratchPtr + ((<usize>clz(a + 1)) << 3)
    store<u16>(aPtr, load<u16>(aPtr) + 1)
    const bPtr = scratchPtr + ((<usize>clz(b + 1)) << 3)
    store<u16>(bPtr, load<u16>(bPtr, 2) + 1, 2)
    const cPtr = scratchPtr + ((<usize>clz(c + 1)) << 3)
    store<u16>(cPtr, load<u16>(cPtr, 4) + 1, 4)
    const dPtr = scratchPtr + ((<usize>clz(d + 1)) << 3)
    store<u16>(dPtr, load<u16>(dPtr, 6) + 1, 6)
  }
  for (; ptr < end; ptr += 8) {
    const code = load<u64>(ptr)
    largest = max(largest, code)
    const slotPtr = scratchPtr + ((<usize>clz(code + 1)) << 3)
    store<u16>(slotPtr, load<u16>(slotPtr) + 1)
  }

  const plainWidth = bitLength(largest)
  let width = plainWidth
  let escapeWidth = 127
  let bitCountMin = count * plainWidth + 8
  // The code 2^64 - 1 wraps to slot 64 and is an escape at every width.
  let escapeCount = slotCount(scratchPtr, 64)
  if (plainWidth < 64) escapeCount += slotCount(scratchPtr, 63 - plainWidth)
  for (let w = plainWidth - 1; w > 0; w--) {
    escapeCount += slotCount(scratchPtr, 63 - w)
    const escapeBitCount = bitLength(largest - maskOfWidth(w))
    if (escapeCount * escapeBitCount >= bitCountMin) break
    const bitCount = count * w + escapeCount * escapeBitCount + 16
    if (bitCount < bitCountMin) {
      bitCountMin = bitCount
      width = w
      escapeWidth = escapeBitCount
    }
  }
  // Width 0 has no code to spare: its escapes are the codes above 0, and each says where it stands.
  const sparseBitCount = (count - slotCount(scratchPtr, 63)) * (plainWidth + 8) + 24
  if (sparseBitCount < bitCountMin) {
    bitCountMin = sparseBitCount
    width = 0
    escapeWidth = plainWidth
  }
  return (bitCountMin << 14) | (escapeWidth << 7) | width
}

/** The sum of a slot's four counters. */
function slotCount(slotsPtr: usize, slot: i32): i32 {
  return <i32>((load<u64>(slotsPtr + ((<usize>slot) << 3)) * 0x0001000100010001) >> 48)
}

/** Writes each code, at most the marker, and what those that reach the marker have above it; returns where that ends. */
function splitEscapes(codesPtr: usize, count: i32, marker: u64, cappedPtr: usize, escapesPtr: usize): usize {
  // SIMD compares signed integers: with the highest bit flipped, they are in the order of the unsigned ones.
  const flip = i64x2.splat(i64.MIN_VALUE)
  const markers = i64x2.splat(<i64>marker)
  const flippedMarkers = v128.xor(markers, flip)
  const byteLength = (<usize>count) << 3
  let escapesEnd = escapesPtr
  let at: usize = 0
  for (; at + 64 <= byteLength; at += 64) {
    let places: i32 = 0
    for (let k: usize = 0; k < 64; k += 16) {
      const codes = v128.load(codesPtr + at + k)
      const isBelow = i64x2.lt_s(v128.xor(codes, flip), flippedMarkers)
      v128.store(cappedPtr + at + k, v128.bitselect(codes, markers, isBelow))
      places |= (i64x2.bitmask(isBelow) ^ 3) << (<i32>k >> 3)
    }
    for (; places !== 0; places &= places - 1) {
      store<u64>(escapesEnd, load<u64>(codesPtr + at + ((<usize>ctz(places)) << 3)) - marker)
      escapesEnd += 8
    }
  }
  for (; at < byteLength; at += 8) {
    const code = load<u64>(codesPtr + at)
    store<u64>(cappedPtr + at, min(code, marker))
    store<u64>(escapesEnd, code - marker)
    escapesEnd += (<usize>(code >= marker)) << 3
  }
  return escapesEnd
}

/** Packs whole groups vertically and what is left in one row; returns the bytes written, packedByteLength. */
function packCodes(codesPtr: usize, count: i32, width: i32, targetPtr: usize): usize {
  let target = targetPtr
  let i = 0
  for (; i + GROUP_COUNT <= count; i += GROUP_COUNT) {
    packGroup(codesPtr + ((<usize>i) << 3), width, target)
    target += (<usize>width) << 4
  }
  target += packBits(codesPtr + ((<usize>i) << 3), count - i, width, target)
  return target - targetPtr
}

/**
 * Reads the first wantedCount of `count` zigzag codes that packBlocks wrote, as the integers they are zigzag of; the rest of
 * their block, too. Of all codes, from exactly the bytes [ptr, end). Returns 0, or -1 when the bytes are not such a sequence
 * of blocks.
 */
export function unpackBlocks(ptr: usize, end: usize, count: i32, wantedCount: i32, targetPtr: usize): i32 {
  let source = ptr
  for (let start = 0; start < wantedCount; start += BLOCK_COUNT) {
    source = unpackBlock(source, end, min(count - start, BLOCK_COUNT), targetPtr + ((<usize>start) << 3))
    if (source === 0) return -1
  }
  return source === end || wantedCount < count ? 0 : -1
}

/** Unpacks one block and returns where the next one begins; 0 when it is malformed. */
function unpackBlock(ptr: usize, end: usize, count: i32, targetPtr: usize): usize {
  if (ptr >= end) return 0
  const head = <i32>load<u8>(ptr)
  if (head < ESCAPES) return unpackCodes(ptr + 1, end, count, head, targetPtr)
  if (end - ptr < 3) return 0
  const width = head & 127
  const escapeWidth = <i32>load<u8>(ptr, 1)
  if (escapeWidth > 64) return 0
  if (width === 0) return unpackSparse(ptr, end, count, escapeWidth, targetPtr)
  const source = unpackCodes(ptr + 2, end, count, width, targetPtr)
  if (source === 0) return 0
  return unpackEscapes(source, end, count, maskOfWidth(width), escapeWidth, targetPtr)
}

/** Puts the escapes of a block where its codes are all ones. Returns where the block ends; 0 when it is malformed. */
function unpackEscapes(ptr: usize, end: usize, count: i32, marker: u64, width: i32, targetPtr: usize): usize {
  // No block has more than 256 escapes of 8 bytes.
  const bitCount = (<i32>min<usize>(end - ptr, BLOCK_COUNT << 3)) << 3
  // Away from the page's end, eight bytes hold any escape of up to 56 bits.
  const fastBitCount = width <= 56 ? <i32>min<usize>(end - ptr, (BLOCK_COUNT << 3) + 8) * 8 - 64 : -1
  const mask = maskOfWidth(width)
  let bitIndex = 0
  for (let start = 0; start < count; start += 64) {
    const codesPtr = targetPtr + ((<usize>start) << 3)
    let places =
      start + 64 <= count
        ? placesOf(unzigzag(marker), codesPtr)
        : placesOfSome(unzigzag(marker), codesPtr, count - start)
    const bitEnd = bitIndex + <i32>popcnt(places) * width
    if (bitEnd <= fastBitCount) {
      for (; places !== 0; places &= places - 1) {
        const excess = (load<u64>(ptr + <usize>(bitIndex >> 3)) >> (bitIndex & 7)) & mask
        store<i64>(codesPtr + ((<usize>ctz(places)) << 3), unzigzag(marker + excess))
        bitIndex += width
      }
    } else {
      if (bitEnd > bitCount) return 0
      for (; places !== 0; places &= places - 1) {
        store<i64>(codesPtr + ((<usize>ctz(places)) << 3), unzigzag(marker + readBits(ptr, end, bitIndex, width)))
        bitIndex += width
      }
    }
  }
  return ptr + <usize>((bitIndex + 7) >> 3)
}

/** Which of fewer than 64 integers equal a value. */
function placesOfSome(value: i64, codesPtr: usize, count: i32): u64 {
  let places: u64 = 0
  for (let i = 0; i < count; i++) places |= (<u64>(load<i64>(codesPtr + ((<usize>i) << 3)) === value)) << i
  return places
}

/** Which of 64 integers equal a value, the first in the lowest bit. */
function placesOf(value: i64, codesPtr: usize): u64 {
  const wanted = i64x2.splat(value)
  let places: u64 = 0
  for (let i: usize = 0; i < 4; i++) {
    // 64-bit lanes of 0 or -1 are narrowed step by step until 16 codes are 16 bytes.
    const ptr = codesPtr + (i << 7)
    const a = v128.shuffle<i32>(i64x2.eq(v128.load(ptr), wanted), i64x2.eq(v128.load(ptr, 16), wanted), 0, 2, 4, 6)
    const b = v128.shuffle<i32>(i64x2.eq(v128.load(ptr, 32), wanted), i64x2.eq(v128.load(ptr, 48), wanted), 0, 2, 4, 6)
    const c = v128.shuffle<i32>(i64x2.eq(v128.load(ptr, 64), wanted), i64x2.eq(v128.load(ptr, 80), wanted), 0, 2, 4, 6)
    const d = v128.shuffle<i32>(i64x2.eq(v128.load(ptr, 96), wanted), i64x2.eq(v128.load(ptr, 112), wanted), 0, 2, 4, 6)
    const bytes = i8x16.narrow_i16x8_s(i16x8.narrow_i32x4_s(a, b), i16x8.narrow_i32x4_s(c, d))
    places |= (<u64>i8x16.bitmask(bytes)) << (i << 4)
  }
  return places
}

function unpackCodes(ptr: usize, end: usize, count: i32, width: i32, targetPtr: usize): usize {
  if (width > 64 || end - ptr < <usize>packedByteLength(count, width)) return 0
  let source = ptr
  let i = 0
  for (; i + GROUP_COUNT <= count; i += GROUP_COUNT) {
    unpackGroup(source, width, targetPtr + ((<usize>i) << 3))
    source += (<usize>width) << 4
  }
  unpackBits(source, end, count - i, width, targetPtr + ((<usize>i) << 3))
  return source + <usize>packedByteLength(count - i, width)
}

/** A block of zeros but for a few codes: width of these, their number, their places (a byte each), the codes. */
function unpackSparse(ptr: usize, end: usize, count: i32, escapeWidth: i32, targetPtr: usize): usize {
  const escapeCount = <i32>load<u8>(ptr, 2)
  const placesPtr = ptr + 3
  if (end - placesPtr < <usize>(escapeCount + packedByteLength(escapeCount, escapeWidth))) return 0
  const source = placesPtr + <usize>escapeCount
  memory.fill(targetPtr, 0, (<usize>count) << 3)
  let bitIndex: usize = 0
  for (let i = 0; i < escapeCount; i++) {
    const place = <i32>load<u8>(placesPtr + <usize>i)
    if (place >= count) return 0
    store<i64>(targetPtr + ((<usize>place) << 3), unzigzag(readBits(source, end, bitIndex, escapeWidth)))
    bitIndex += <usize>escapeWidth
  }
  return source + ((bitIndex + 7) >> 3)
}

// ---- Narrow codes ---------------------------------------------------------------------------------------------------
// Small differences, in less memory: u32 instead of u64 codes, and bytes where all of a block are that small. The bytes that are
// written are the same.

/**
 * As packBlocks, for codes below 2^31 that stand as u32; 16-byte aligned, and what is behind them may be read up to the next
 * multiple of 16 bytes.
 */
export function packNarrowBlocks(codesPtr: usize, count: i32, targetPtr: usize, scratchPtr: usize): i32 {
  let target = targetPtr
  for (let start = 0; start < count; start += BLOCK_COUNT) {
    target += packNarrowBlock(codesPtr + ((<usize>start) << 2), min(count - start, BLOCK_COUNT), target, scratchPtr)
  }
  return <i32>(target - targetPtr)
}

/** Places in the scratch of a block: escapes (u64), capped codes (u32), codes as bytes, the codes of an unfinished group (u64). */
const NARROW_ESCAPES: usize = 528
const NARROW_CAPPED: usize = NARROW_ESCAPES + 2064
const NARROW_BYTES: usize = NARROW_CAPPED + 1024
const NARROW_REST: usize = NARROW_BYTES + 256

function packNarrowBlock(codesPtr: usize, count: i32, targetPtr: usize, scratchPtr: usize): usize {
  const bytesPtr = scratchPtr + NARROW_BYTES
  const largest = narrowToBytes(codesPtr, count, bytesPtr)
  if (largest <= 255) return packByteBlock(bytesPtr, count, targetPtr)
  const choice = chooseNarrowWidth(codesPtr, count, <u64>largest, scratchPtr)
  const width = choice & 127
  const escapeWidth = (choice >> 7) & 127
  if (escapeWidth > 64) {
    store<u8>(targetPtr, <u8>width)
    return 1 + packNarrowCodes(codesPtr, count, width, targetPtr + 1, scratchPtr)
  }
  store<u8>(targetPtr, <u8>(width | ESCAPES))
  store<u8>(targetPtr, <u8>escapeWidth, 1)
  let target = targetPtr + 2
  const escapesPtr = scratchPtr + NARROW_ESCAPES
  let escapesEnd = escapesPtr
  const codesEnd = codesPtr + ((<usize>count) << 2)
  if (width === 0) {
    target++
    for (let ptr = codesPtr; ptr < codesEnd; ptr += 4) {
      const code = load<u32>(ptr)
      if (code === 0) continue
      store<u64>(escapesEnd, <u64>code)
      escapesEnd += 8
      store<u8>(target, <u8>((ptr - codesPtr) >> 2))
      target++
    }
    store<u8>(targetPtr, <u8>((escapesEnd - escapesPtr) >> 3), 2)
  } else {
    const marker = <u32>maskOfWidth(width)
    const markers = i32x4.splat(marker)
    const shift = scratchPtr + NARROW_CAPPED - codesPtr
    for (let ptr = codesPtr; ptr < codesEnd; ptr += 16) v128.store(ptr + shift, i32x4.min_u(v128.load(ptr), markers))
    // Each is written, and stays when it is an escape: whether it is cannot be foreseen.
    for (let ptr = codesPtr; ptr < codesEnd; ptr += 4) {
      const code = load<u32>(ptr)
      store<u64>(escapesEnd, <u64>(code - marker))
      escapesEnd += (<usize>(code >= marker)) << 3
    }
    target += packNarrowCodes(codesPtr + shift, count, width, target, scratchPtr)
  }
  target += packBits(escapesPtr, <i32>((escapesEnd - escapesPtr) >> 3), escapeWidth, target)
  return target - targetPtr
}

/** Writes codes as bytes, 255 for all above, and 0 up to the next multiple of 64; returns the greatest code. */
function narrowToBytes(codesPtr: usize, count: i32, bytesPtr: usize): u32 {
  const codesEnd = codesPtr + ((<usize>count) << 2)
  const bytesEnd = bytesPtr + <usize>((count + 63) & ~63)
  let largests = i64x2.splat(0)
  let ptr = codesPtr
  let bytes = bytesPtr
  for (; ptr + 64 <= codesEnd; ptr += 64, bytes += 16) {
    const a = v128.load(ptr)
    const b = v128.load(ptr, 16)
    const c = v128.load(ptr, 32)
    const d = v128.load(ptr, 48)
    largests = i32x4.max_u(i32x4.max_u(largests, i32x4.max_u(a, b)), i32x4.max_u(c, d))
    v128.store(bytes, i8x16.narrow_i16x8_u(i16x8.narrow_i32x4_s(a, b), i16x8.narrow_i32x4_s(c, d)))
  }
  for (let rest = bytes; rest < bytesEnd; rest += 16) v128.store(rest, i64x2.splat(0))
  let largest = max(
    max(<u32>i32x4.extract_lane(largests, 0), <u32>i32x4.extract_lane(largests, 1)),
    max(<u32>i32x4.extract_lane(largests, 2), <u32>i32x4.extract_lane(largests, 3)),
  )
  for (; ptr < codesEnd; ptr += 4, bytes++) {
    const code = load<u32>(ptr)
    largest = max(largest, code)
    store<u8>(bytes, <u8>min<u32>(code, 255))
  }
  return largest
}

/** As chooseWidth, with the same result; the largest code is known. */
function chooseNarrowWidth(codesPtr: usize, count: i32, largest: u64, scratchPtr: usize): i32 {
  countNarrowCodes(codesPtr, codesPtr + ((<usize>count) << 2), scratchPtr)
  const plainWidth = bitLength(largest)
  let width = plainWidth
  let escapeWidth = 127
  let bitCountMin = count * plainWidth + 8
  let escapeCount = slotCount(scratchPtr, 63 - plainWidth)
  for (let w = plainWidth - 1; w > 0; w--) {
    escapeCount += slotCount(scratchPtr, 63 - w)
    const escapeBitCount = bitLength(largest - maskOfWidth(w))
    if (escapeCount * escapeBitCount >= bitCountMin) break
    const bitCount = count * w + escapeCount * escapeBitCount + 16
    if (bitCount < bitCountMin) {
      bitCountMin = bitCount
      width = w
      escapeWidth = escapeBitCount
    }
  }
  const sparseBitCount = (count - slotCount(scratchPtr, 63)) * (plainWidth + 8) + 24
  if (sparseBitCount < bitCountMin) {
    bitCountMin = sparseBitCount
    width = 0
    escapeWidth = plainWidth
  }
  return (bitCountMin << 14) | (escapeWidth << 7) | width
}

/** Counts codes as chooseWidth does. */
function countNarrowCodes(codesPtr: usize, codesEnd: usize, slotsPtr: usize): void {
  for (let ptr = slotsPtr; ptr < slotsPtr + 528; ptr += 16) v128.store(ptr, i64x2.splat(0))
  let ptr = codesPtr
  for (; ptr + 8 <= codesEnd; ptr += 8) {
    const aPtr = slotsPtr + ((<usize>clz(<u64>load<u32>(ptr) + 1)) << 3)
    store<u16>(aPtr, load<u16>(aPtr) + 1)
    const bPtr = slotsPtr + ((<usize>clz(<u64>load<u32>(ptr, 4) + 1)) << 3)
    store<u16>(bPtr, load<u16>(bPtr, 2) + 1, 2)
  }
  for (; ptr < codesEnd; ptr += 4) {
    const slotPtr = slotsPtr + ((<usize>clz(<u64>load<u32>(ptr) + 1)) << 3)
    store<u16>(slotPtr, load<u16>(slotPtr) + 1)
  }
}

/** As packCodes. */
function packNarrowCodes(codesPtr: usize, count: i32, width: i32, targetPtr: usize, scratchPtr: usize): usize {
  let target = targetPtr
  let i = 0
  for (; i + GROUP_COUNT <= count; i += GROUP_COUNT) {
    packNarrowGroup(codesPtr + ((<usize>i) << 2), width, target)
    target += (<usize>width) << 4
  }
  const restPtr = scratchPtr + NARROW_REST
  for (let k = i; k < count; k++)
    store<u64>(restPtr + ((<usize>(k - i)) << 3), <u64>load<u32>(codesPtr + ((<usize>k) << 2)))
  target += packBits(restPtr, count - i, width, target)
  return target - targetPtr
}

/** As packGroup, of up to 31 bits. */
function packNarrowGroup(codesPtr: usize, width: i32, targetPtr: usize): void {
  if (width === 0) return
  let held = i64x2.splat(0)
  let heldCount = 0
  let target = targetPtr
  for (let ptr = codesPtr; ptr < codesPtr + 512; ptr += 16) {
    const row = v128.load(ptr)
    held = v128.or(held, i32x4.shl(row, heldCount))
    heldCount += width
    if (heldCount >= 32) {
      v128.store(target, held)
      target += 16
      heldCount -= 32
      held = heldCount === 0 ? i64x2.splat(0) : i32x4.shr_u(row, width - heldCount)
    }
  }
}
