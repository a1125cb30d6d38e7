// One column out of several: rows of a source are laid over a target where a mask says so.
import { loadBits } from './bits'
import { copyText } from './text'

/**
 * target[row] = source[row] where the mask is set; other rows stay.
 *
 * source  8 bytes a value, 8-byte aligned, read only; stride 8: rowCount of them, stride 0: one for all rows
 * mask    ceil(rowCount / 8) bytes, read only
 * target  rowCount × 8 bytes, 8-byte aligned
 */
export function blend64(sourcePtr: usize, stride: i32, maskPtr: usize, rowCount: i32, targetPtr: usize): void {
  for (let row = 0; row < rowCount; row += 64) {
    let word = loadBits(maskPtr, row, min(rowCount - row, 64))
    const source = sourcePtr + <usize>row * stride
    const target = targetPtr + ((<usize>row) << 3)
    if (word === -1 && stride === 8) {
      for (let at: usize = 0; at < 512; at += 16) v128.store(target + at, v128.load(source + at))
      continue
    }
    for (; word !== 0; word &= word - 1) {
      const i = <usize>ctz(word)
      store<u64>(target + (i << 3), load<u64>(source + i * stride))
    }
  }
}

/**
 * Writes the strings of a where its mask is set, else those of b where its mask is set, else ''. Returns the bytes of
 * text written, or -1 when they would be more than targetByteLength.
 *
 * offsets  u32, 4-byte aligned, read only; stride 4: rowCount + 1 of them, stride 0: two, one text for all rows
 * mask     ceil(rowCount / 8) bytes, read only; b's pointers may be 0, together: there is no b
 * target   (rowCount + 1) × u32 offsets, 4-byte aligned, and targetByteLength bytes
 */
export function blendStrings(
  aOffsetsPtr: usize,
  aStride: i32,
  aBytesPtr: usize,
  aMaskPtr: usize,
  bOffsetsPtr: usize,
  bBytesPtr: usize,
  bMaskPtr: usize,
  rowCount: i32,
  targetOffsetsPtr: usize,
  targetBytesPtr: usize,
  targetByteLength: i32,
): i32 {
  let written: u32 = 0
  store<u32>(targetOffsetsPtr, 0)
  for (let row = 0; row < rowCount; row += 64) {
    const rowEnd = min(row + 64, rowCount)
    let a = loadBits(aMaskPtr, row, rowEnd - row)
    let b: u64 = bMaskPtr === 0 ? 0 : loadBits(bMaskPtr, row, rowEnd - row)
    for (let i = row; i < rowEnd; i++) {
      if ((a | b) & 1) {
        const offsets = a & 1 ? aOffsetsPtr + <usize>i * aStride : bOffsetsPtr + ((<usize>i) << 2)
        const bytes = a & 1 ? aBytesPtr : bBytesPtr
        const start = load<u32>(offsets)
        const byteLength = load<u32>(offsets, 4) - start
        if (byteLength > <u32>targetByteLength - written) return -1
        copyText(targetBytesPtr + written, bytes + start, byteLength)
        written += byteLength
      }
      store<u32>(targetOffsetsPtr + ((<usize>i) << 2), written, 4)
      a >>= 1
      b >>= 1
    }
  }
  return <i32>written
}

/**
 * target[row] = the number of code points of the row's text.
 *
 * offsets  (rowCount + 1) × u32, 4-byte aligned, read only
 * bytes    UTF-8, read only
 * target   rowCount × i64, 8-byte aligned
 */
export function countCodePoints(offsetsPtr: usize, bytesPtr: usize, rowCount: i32, targetPtr: usize): void {
  let ptr = bytesPtr + load<u32>(offsetsPtr)
  for (let row = 0; row < rowCount; row++) {
    const end = bytesPtr + load<u32>(offsetsPtr + ((<usize>row) << 2), 4)
    // Every byte but the continuations 10xxxxxx, which are below -64 as signed bytes, begins a code point.
    let count: i64 = 0
    for (; ptr + 16 <= end; ptr += 16) {
      count += popcnt(i8x16.bitmask(i8x16.ge_s(v128.load(ptr), i8x16.splat(-64))))
    }
    for (; ptr < end; ptr++) count += i64(load<i8>(ptr) >= -64)
    store<i64>(targetPtr + ((<usize>row) << 3), count)
  }
}
