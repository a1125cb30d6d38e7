// Bytes between shared memory and other buffers.
import type { Slice } from './slice.js'

const { fill } = Buffer.prototype

/**
 * Copies all of source into target. For views of shared memory `set` and `slice` copy word by word, and byte by byte when
 * the two places are aligned differently (4 GB/s); to fill a range with as many bytes is one memcpy (50 GB/s).
 */
export function copyBytes(source: Uint8Array, target: Uint8Array, targetStart: number): void {
  const targetEnd = targetStart + source.byteLength
  if (targetEnd > target.byteLength) throw new RangeError(`${targetEnd} bytes do not fit ${target.byteLength}`)
  // An empty source has nothing to repeat: fill would refuse it.
  if (source.byteLength > 0) fill.call(target, source, targetStart, targetEnd)
}

/** A copy of shared memory in memory of its own. */
export function takeBytes(u8: Uint8Array, { byteOffset, byteLength }: Slice): Uint8Array {
  const bytes = new Uint8Array(Buffer.allocUnsafeSlow(byteLength).buffer)
  copyBytes(u8.subarray(byteOffset, byteOffset + byteLength), bytes, 0)
  return bytes
}
