// Messages that differ in the values of their columns and in what stands behind them only: buckets of many label sets.

/** Bytes of what is told of a message: u32 rows, u32 where it begins, u32 how long it is. */
const PLACE_BYTES: usize = 12
/** In front of each message: a 0 and its length, u32 big-endian; see engine/frame/wire-messages.ts. */
const PREFIX_BYTES: u32 = 5

/**
 * Writes messages one behind the other, each behind its prefix: the pattern with values of its own, and then a tail of its own.
 *
 * pattern      patternByteLength bytes
 * valuePlaces  u32 a column: where its values stand in the pattern, not aligned
 * values       f64: rowCount of them for each column and message, those of column c of message m begin at
 *              c × columnStride + m × messageStride bytes
 * tails        (messageCount + 1) × u32 offsets, and bytes
 * places       PLACE_BYTES a message, overwritten: as above, without the prefix, the beginning as a pointer
 *
 * Returns the bytes written at target, or -1 when targetByteLength are too few.
 */
export function repeatMessage(
  patternPtr: usize,
  patternByteLength: u32,
  valuePlacesPtr: usize,
  columnCount: i32,
  rowCount: i32,
  valuesPtr: usize,
  columnStride: usize,
  messageStride: usize,
  tailOffsetsPtr: usize,
  tailBytesPtr: usize,
  messageCount: i32,
  targetPtr: usize,
  targetByteLength: u32,
  placesPtr: usize,
): i32 {
  const valuesByteLength = (<usize>rowCount) << 3
  let target = targetPtr
  for (let message = 0; message < messageCount; message++) {
    const tailStart = load<u32>(tailOffsetsPtr + ((<usize>message) << 2))
    const tailByteLength = load<u32>(tailOffsetsPtr + ((<usize>message) << 2), 4) - tailStart
    const byteLength = patternByteLength + tailByteLength
    if (<u64>(target - targetPtr) + PREFIX_BYTES + byteLength > targetByteLength) return -1
    store<u8>(target, 0)
    store<u32>(target, bswap<u32>(byteLength), 1)
    target += PREFIX_BYTES
    memory.copy(target, patternPtr, patternByteLength)
    const ofMessagePtr = valuesPtr + <usize>message * messageStride
    for (let column = 0; column < columnCount; column++) {
      const place = load<u32>(valuePlacesPtr + ((<usize>column) << 2))
      const fromPtr = ofMessagePtr + <usize>column * columnStride
      if (rowCount === 1) store<u64>(target + place, load<u64>(fromPtr))
      else memory.copy(target + place, fromPtr, valuesByteLength)
    }
    memory.copy(target + patternByteLength, tailBytesPtr + tailStart, tailByteLength)
    const placePtr = placesPtr + <usize>message * PLACE_BYTES
    store<u32>(placePtr, rowCount)
    store<u32>(placePtr, <u32>target, 4)
    store<u32>(placePtr, byteLength, 8)
    target += byteLength
  }
  return <i32>(target - targetPtr)
}
