// Texts of few different bytes: a code of 4 or 6 bits for each byte, in order of first sight. Internal to the pages of strings.
//
// Sixteen bytes a step. Tables of more than 16 bytes are looked up by one swizzle for each 16 of them, which gives 0 for what
// is not its own; bits are put together as in Muła, Lemire: Faster Base64 Encoding and Decoding Using AVX2 Instructions, ACM
// Transactions on the Web 12 (3), 2018. Unlike there the alphabet is the text's own.

/** Different bytes at most. */
export const ALPHABET_MAX: i32 = 64
/** Bytes of text that are worth it. */
export const NARROW_BYTE_LENGTH_MIN: u32 = 1024
/** Working room of packNarrow, in bytes: the codes of bytes 0 to 127, with the highest bit set, and the last bytes of the text. */
const CODES_BYTE_LENGTH: usize = 128
const KNOWN: u8 = 0x80
const BYTE_MIN: u8 = 0x20
const BYTE_MAX: u8 = 0x7f

/** Bits of a code. */
export function narrowWidth(alphabetCount: i32): i32 {
  return alphabetCount <= 16 ? 4 : 6
}

/** Bytes of the codes of `byteLength` bytes of text. */
export function narrowByteLength(byteLength: u32, width: i32): u32 {
  return <u32>((<u64>byteLength * <u64>width + 7) >> 3)
}

/**
 * Writes a code of `width` bits, 4 or 6, for each of byteLength bytes, and behind the codes the bytes they stand for. Returns
 * how many these are, or 0 as soon as there are more than codes, or bytes other than 0x20 to 0x7f.
 *
 * source   byteLength bytes, at least one
 * target   narrowByteLength(byteLength, width) + 16 + ALPHABET_MAX bytes, all of which may be written
 * scratch  208 bytes, 16-byte aligned, overwritten
 */
export function packNarrow(sourcePtr: usize, byteLength: u32, width: i32, targetPtr: usize, scratchPtr: usize): i32 {
  const lastPtr = scratchPtr + CODES_BYTE_LENGTH
  const alphabetPtr = lastPtr + 16
  memory.fill(scratchPtr, 0, CODES_BYTE_LENGTH)
  // What stands behind the last byte has code 0, the first byte's.
  const last = byteLength & 15
  memory.fill(lastPtr, load<u8>(sourcePtr), 16)
  memory.copy(lastPtr, sourcePtr + <usize>(byteLength - last), last)
  const countMax = 1 << width
  let count = 0
  let target = targetPtr
  const sixteen = i8x16.splat(16)
  let twos = i8x16.splat(0)
  let threes = twos
  let fours = twos
  let fives = twos
  let sixes = twos
  let sevens = twos
  // In short: code[i] = alphabet.indexOf(source[i]).
  for (let at: u32 = 0; at < byteLength; at += 16) {
    const ptr = at + 16 <= byteLength ? sourcePtr + <usize>at : lastPtr
    const bytes = v128.load(ptr)
    let codes: v128
    while (true) {
      // Places in the next table are below 16 once more 16 are taken away: one constant stays in its register.
      let places = i8x16.sub(bytes, i8x16.splat(BYTE_MIN))
      codes = i8x16.swizzle(twos, places)
      places = i8x16.sub(places, sixteen)
      codes = v128.or(codes, i8x16.swizzle(threes, places))
      places = i8x16.sub(places, sixteen)
      codes = v128.or(codes, i8x16.swizzle(fours, places))
      places = i8x16.sub(places, sixteen)
      codes = v128.or(codes, i8x16.swizzle(fives, places))
      places = i8x16.sub(places, sixteen)
      codes = v128.or(codes, i8x16.swizzle(sixes, places))
      places = i8x16.sub(places, sixteen)
      codes = v128.or(codes, i8x16.swizzle(sevens, places))
      const unknown = ~i8x16.bitmask(codes) & 0xffff
      if (unknown === 0) break
      const byte = load<u8>(ptr + <usize>ctz(unknown))
      if (byte < BYTE_MIN || byte > BYTE_MAX || count === countMax) return 0
      store<u8>(scratchPtr + <usize>byte, KNOWN | <u8>count)
      store<u8>(alphabetPtr + <usize>count, byte)
      count++
      twos = v128.load(scratchPtr, 0x20)
      threes = v128.load(scratchPtr, 0x30)
      fours = v128.load(scratchPtr, 0x40)
      fives = v128.load(scratchPtr, 0x50)
      sixes = v128.load(scratchPtr, 0x60)
      sevens = v128.load(scratchPtr, 0x70)
    }
    if (width === 4) {
      const pairs = v128.or(v128.and(codes, i16x8.splat(0x000f)), v128.and(i16x8.shr_u(codes, 4), i16x8.splat(0x00f0)))
      v128.store(target, i8x16.swizzle(pairs, i8x16(0, 2, 4, 6, 8, 10, 12, 14, -1, -1, -1, -1, -1, -1, -1, -1)))
      target += 8
    } else {
      const pairs = v128.or(v128.and(codes, i16x8.splat(0x003f)), v128.and(i16x8.shr_u(codes, 2), i16x8.splat(0x0fc0)))
      const fourfold = v128.or(
        v128.and(pairs, i32x4.splat(0x00000fff)),
        v128.and(i32x4.shr_u(pairs, 4), i32x4.splat(0x00fff000)),
      )
      v128.store(target, i8x16.swizzle(fourfold, i8x16(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1)))
      target += 12
    }
  }
  memory.copy(targetPtr + <usize>narrowByteLength(byteLength, width), alphabetPtr, count)
  return count
}

/**
 * Writes the text of codes; those that are no place in the alphabet stand for 0. Reads only [codes, end) and writes only the text.
 *
 * codes     narrowByteLength(byteLength, narrowWidth(alphabetCount)) bytes, behind them the alphabet of 1 to 64 bytes, then `end`
 * target    byteLength bytes
 */
export function unpackNarrow(codesPtr: usize, end: usize, alphabetCount: i32, byteLength: u32, targetPtr: usize): void {
  const width = narrowWidth(alphabetCount)
  const alphabetPtr = end - <usize>alphabetCount
  // Sixteen codes a step, as long as sixteen bytes can be read.
  const readable = end - codesPtr
  let stepCount: u32 = readable < 16 ? 0 : <u32>((readable - 16) / <usize>(2 * width)) + 1
  stepCount = min(stepCount, byteLength >> 4)
  // In short: target[i] = alphabet[code[i]].
  if (width === 4) unpackFours(codesPtr, stepCount, targetPtr, alphabetPart(alphabetPtr, alphabetCount, 0))
  else if (alphabetCount <= 48) unpackFewSixes(codesPtr, stepCount, targetPtr, alphabetPtr, alphabetCount)
  else unpackSixes(codesPtr, stepCount, targetPtr, alphabetPtr, alphabetCount)
  const mask = ((<u32>1) << width) - 1
  for (let at = stepCount << 4; at < byteLength; at++) {
    const bitIndex = <usize>at * <usize>width
    const ptr = codesPtr + (bitIndex >> 3)
    const shift = <u32>(bitIndex & 7)
    let bits = <u32>load<u8>(ptr)
    if (<i32>shift + width > 8) bits |= (<u32>load<u8>(ptr, 1)) << 8
    const code = (bits >> shift) & mask
    store<u8>(targetPtr + <usize>at, code < <u32>alphabetCount ? load<u8>(alphabetPtr + <usize>code) : 0)
  }
}

function unpackFours(codesPtr: usize, stepCount: u32, targetPtr: usize, alphabet: v128): void {
  const nibble = i8x16.splat(0x0f)
  for (let step: usize = 0; step < <usize>stepCount; step++) {
    const pairs = v128.load(codesPtr + (step << 3))
    const low = v128.and(pairs, nibble)
    const high = v128.and(i16x8.shr_u(pairs, 4), nibble)
    const codes = i8x16.shuffle(low, high, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
    v128.store(targetPtr + (step << 4), i8x16.swizzle(alphabet, codes))
  }
}

/** As unpackSixes, where 48 bytes are all of the alphabet. Told twice: tests in the loop would take a fifth of the time. */
function unpackFewSixes(
  codesPtr: usize,
  stepCount: u32,
  targetPtr: usize,
  alphabetPtr: usize,
  alphabetCount: i32,
): void {
  const first = alphabetPart(alphabetPtr, alphabetCount, 0)
  const second = alphabetPart(alphabetPtr, alphabetCount, 16)
  const third = alphabetPart(alphabetPtr, alphabetCount, 32)
  const sixteen = i8x16.splat(16)
  let source = codesPtr
  const targetEnd = targetPtr + ((<usize>stepCount) << 4)
  for (let target = targetPtr; target < targetEnd; target += 16) {
    const packed = i8x16.swizzle(v128.load(source), i8x16(0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11, -1))
    const pairs = v128.or(
      v128.and(packed, i32x4.splat(0x00000fff)),
      v128.and(i32x4.shl(packed, 4), i32x4.splat(0x0fff0000)),
    )
    const codes = v128.or(v128.and(pairs, i16x8.splat(0x003f)), v128.and(i16x8.shl(pairs, 2), i16x8.splat(0x3f00)))
    let text = i8x16.swizzle(first, codes)
    let places = i8x16.sub(codes, sixteen)
    text = v128.or(text, i8x16.swizzle(second, places))
    places = i8x16.sub(places, sixteen)
    text = v128.or(text, i8x16.swizzle(third, places))
    v128.store(target, text)
    source += 12
  }
}

function unpackSixes(codesPtr: usize, stepCount: u32, targetPtr: usize, alphabetPtr: usize, alphabetCount: i32): void {
  const first = alphabetPart(alphabetPtr, alphabetCount, 0)
  const second = alphabetPart(alphabetPtr, alphabetCount, 16)
  const third = alphabetPart(alphabetPtr, alphabetCount, 32)
  const fourth = alphabetPart(alphabetPtr, alphabetCount, 48)
  const sixteen = i8x16.splat(16)
  let source = codesPtr
  const targetEnd = targetPtr + ((<usize>stepCount) << 4)
  for (let target = targetPtr; target < targetEnd; target += 16) {
    const packed = i8x16.swizzle(v128.load(source), i8x16(0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11, -1))
    const pairs = v128.or(
      v128.and(packed, i32x4.splat(0x00000fff)),
      v128.and(i32x4.shl(packed, 4), i32x4.splat(0x0fff0000)),
    )
    const codes = v128.or(v128.and(pairs, i16x8.splat(0x003f)), v128.and(i16x8.shl(pairs, 2), i16x8.splat(0x3f00)))
    let text = i8x16.swizzle(first, codes)
    let places = i8x16.sub(codes, sixteen)
    text = v128.or(text, i8x16.swizzle(second, places))
    places = i8x16.sub(places, sixteen)
    text = v128.or(text, i8x16.swizzle(third, places))
    places = i8x16.sub(places, sixteen)
    text = v128.or(text, i8x16.swizzle(fourth, places))
    v128.store(target, text)
    source += 12
  }
}

/** Bytes [start, start + 16) of the alphabet, 0 behind its end. */
function alphabetPart(alphabetPtr: usize, alphabetCount: i32, start: i32): v128 {
  let low: u64 = 0
  let high: u64 = 0
  const stop = min(alphabetCount - start, 16)
  for (let i = 0; i < stop; i++) {
    const byte = <u64>load<u8>(alphabetPtr + <usize>(start + i))
    if (i < 8) low |= byte << (i << 3)
    else high |= byte << ((i - 8) << 3)
  }
  return i64x2.replace_lane(i64x2.splat(<i64>low), 1, <i64>high)
}
