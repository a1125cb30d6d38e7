// Bitmaps as frames use them outside the kernels: row 0 is the lowest bit of byte 0; bits past the last row are 0.

export function bitmapByteLength(rowCount: number): number {
  return (rowCount + 7) >>> 3
}

export function bitAt(bits: Uint8Array, row: number): boolean {
  return ((bits[row >>> 3] >>> (row & 7)) & 1) === 1
}

export function setBit(bits: Uint8Array, row: number): void {
  bits[row >>> 3] |= 1 << (row & 7)
}

export function clearBit(bits: Uint8Array, row: number): void {
  bits[row >>> 3] &= ~(1 << (row & 7))
}

/** rowCount bits that are all 1. */
export function fullBitmap(rowCount: number): Uint8Array {
  const bits = new Uint8Array(bitmapByteLength(rowCount)).fill(255)
  clearTail(bits, rowCount)
  return bits
}

/** A copy of the bits of rows [start, end). */
export function sliceBitmap(bits: Uint8Array, start: number, end: number): Uint8Array {
  const rowCount = end - start
  const target = new Uint8Array(bitmapByteLength(rowCount))
  const shift = start & 7
  const firstByte = start >>> 3
  for (let i = 0; i < target.length; i++) {
    const next = bits[firstByte + i + 1] ?? 0
    target[i] = (bits[firstByte + i] >>> shift) | (next << (8 - shift))
  }
  clearTail(target, rowCount)
  return target
}

/** True when the bits past the last row are 0, as kernels want them; buffers from elsewhere may leave them as they are. */
export function hasCleanTail(bits: Uint8Array, rowCount: number): boolean {
  return (rowCount & 7) === 0 || bits[rowCount >>> 3] >>> (rowCount & 7) === 0
}

function clearTail(bits: Uint8Array, rowCount: number): void {
  if ((rowCount & 7) !== 0) bits[rowCount >>> 3] &= (1 << (rowCount & 7)) - 1
}
