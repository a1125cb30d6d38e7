// Bytes between shared memory and other buffers.

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
