// Is this text UTF-8?

/**
 * Looks up, for each byte, what may be wrong with the pair of bytes that ends with it.
 *
 * The bits: 01 a lead byte without its continuation, 02 a continuation after ASCII, 04 overlong of 3 bytes, 08 and 40 above
 * U+10FFFF, 10 a surrogate, 20 overlong of 2 bytes, 40 also overlong of 4 bytes, 80 two continuations (wrong unless the
 * byte is the 3rd or 4th of its character). A pair is wrong where all three tables agree.
 */
function pairErrors(bytes: v128, previous: v128): v128 {
  const low = i8x16.splat(0x0f)
  const byFirstHigh = i8x16(2, 2, 2, 2, 2, 2, 2, 2, -0x80, -0x80, -0x80, -0x80, 0x21, 0x01, 0x15, 0x49)
  const byFirstLow = i8x16(
    -0x19,
    -0x5d,
    -0x7d,
    -0x7d,
    -0x75,
    -0x35,
    -0x35,
    -0x35,
    -0x35,
    -0x35,
    -0x35,
    -0x35,
    -0x35,
    -0x25,
    -0x35,
    -0x35,
  )
  const bySecondHigh = i8x16(1, 1, 1, 1, 1, 1, 1, 1, -0x1a, -0x52, -0x46, -0x46, 1, 1, 1, 1)
  return v128.and(
    v128.and(i8x16.swizzle(byFirstHigh, i8x16.shr_u(previous, 4)), i8x16.swizzle(byFirstLow, v128.and(previous, low))),
    i8x16.swizzle(bySecondHigh, i8x16.shr_u(bytes, 4)),
  )
}

/**
 * Non-zero where `bytes` breaks the rules of UTF-8, given the 16 bytes before it.
 *
 * After Keiser and Lemire, "Validating UTF-8 In Less Than One Instruction Per Byte", Software: Practice and Experience 51
 * (2021): three table look-ups find every wrong pair of bytes, and a comparison finds where a third or fourth byte of a
 * character must be.
 */
function blockErrors(bytes: v128, before: v128): v128 {
  const back1 = i8x16.shuffle(before, bytes, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30)
  const back2 = i8x16.shuffle(before, bytes, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29)
  const back3 = i8x16.shuffle(before, bytes, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28)
  // The top bit is left where two bytes back stands a lead of three or more, or three bytes back a lead of four.
  const mustContinue = v128.and(
    v128.or(i8x16.sub_sat_u(back2, i8x16.splat(0x60)), i8x16.sub_sat_u(back3, i8x16.splat(0x70))),
    i8x16.splat(-0x80),
  )
  return v128.xor(mustContinue, pairErrors(bytes, back1))
}

/** The last byteLength (0 to 15) bytes before `end` as the front of a block of zeros; reads nothing before `start`. */
function tailBlock(start: usize, end: usize, byteLength: usize): v128 {
  if (end - start >= 16) {
    // Swizzle gives 0 for an index past 15.
    const shift = i8x16.splat(<i8>(16 - byteLength))
    const lanes = i8x16(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
    return i8x16.swizzle(v128.load(end - 16), i8x16.add(lanes, shift))
  }
  let low: u64 = 0
  let high: u64 = 0
  for (let i: usize = 0; i < byteLength; i++) {
    const byte = <u64>load<u8>(end - byteLength + i)
    if (i < 8) low |= byte << ((<u64>i) << 3)
    else high |= byte << ((<u64>(i - 8)) << 3)
  }
  return i64x2.replace_lane(i64x2.splat(low), 1, high)
}

/**
 * Returns 1 when the bytes are well-formed UTF-8 (no overlong forms, no surrogates, nothing above U+10FFFF), else 0.
 *
 * ptr  byteLength bytes, any alignment, read only
 */
export function isUtf8(ptr: usize, byteLength: usize): i32 {
  const end = ptr + byteLength
  const blocksEnd = ptr + (byteLength & ~15)
  let before = i64x2.splat(0)
  let errors = i64x2.splat(0)
  for (let pos = ptr; pos < blocksEnd; pos += 16) {
    const bytes = v128.load(pos)
    // Nothing can be wrong in two blocks of ASCII.
    if (i8x16.bitmask(v128.or(bytes, before))) errors = v128.or(errors, blockErrors(bytes, before))
    before = bytes
  }
  // The zeros behind the last byte are ASCII, so a character that is cut off shows.
  errors = v128.or(errors, blockErrors(tailBlock(ptr, end, byteLength & 15), before))
  return v128.any_true(errors) ? 0 : 1
}
