// Runs of memory copied as they are, or with a number added.

/**
 * Copies bytes; the two places may overlap. (JavaScript's copyWithin and set on shared memory copy byte by byte, each
 * atomically, when the two places are aligned differently: 4 GB/s instead of 50.)
 */
export function copyBytes(sourcePtr: usize, byteLength: usize, targetPtr: usize): void {
  memory.copy(targetPtr, sourcePtr, byteLength)
}

/**
 * target[i] = values[i] + base, for codes and offsets of columns that are put one behind the other.
 *
 * values  count × u32, 4-byte aligned, read only
 * target  count × u32, 4-byte aligned; may be the same memory as values
 */
export function shiftUint32(valuesPtr: usize, count: i32, base: u32, targetPtr: usize): void {
  const bases = i32x4.splat(base)
  let i = 0
  for (; i <= count - 4; i += 4) {
    const at = (<usize>i) << 2
    v128.store(targetPtr + at, i32x4.add(v128.load(valuesPtr + at), bases))
  }
  for (; i < count; i++) {
    const at = (<usize>i) << 2
    store<u32>(targetPtr + at, load<u32>(valuesPtr + at) + base)
  }
}

/** Writes zeros. (JavaScript's fill writes shared memory byte by byte.) */
export function zeroBytes(targetPtr: usize, byteLength: usize): void {
  memory.fill(targetPtr, 0, byteLength)
}
