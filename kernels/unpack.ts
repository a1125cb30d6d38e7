// Unpacking of groups of 128 zigzag codes, the inner loop of every decoder. packing.ts describes the layout.
import { lowBits } from './packing'

/** Unpacks 128 zigzag codes of `width` (0 to 64) bits from 16 × width bytes into i64. */
export function unpackGroup(sourcePtr: usize, width: i32, targetPtr: usize): void {
  if (width === 0) {
    memory.fill(targetPtr, 0, 1024)
    return
  }
  if (width > 32) {
    unpackWide(sourcePtr, width, targetPtr)
    return
  }
  const mask = i32x4.splat(<i32>lowBits(width))
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
  const mask = i64x2.splat(<i64>lowBits(width))
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
