// Whether values are in a set: IN over literals. Hash tables with open addressing, at most half full.
//
//   number set  u32 slotBits, 4 bytes unused, u64 a key that stands for an empty slot, then 2^slotBits × u64 keys
//   text set    u32 slotBits, 12 bytes unused, then 2^slotBits × u32: number of the text + 1, or 0
import { storeTail } from './bits'
import { equalText, hash64, hashText } from './hash'

const HEADER: usize = 16
/** A set with a longer run of occupied slots is not used: its keys were made to collide. (Chance makes runs of some 60.) */
const PROBE_COUNT_MAX = 256

/** At most half full. */
function slotBitsFor(count: i32): i32 {
  return count <= 1 ? 2 : 33 - clz(count - 1)
}

export function numberSetByteLength(count: i32): i32 {
  return <i32>HEADER + (8 << slotBitsFor(count))
}

export function textSetByteLength(count: i32): i32 {
  return <i32>HEADER + (4 << slotBitsFor(count))
}

/**
 * Fills a set with keys: int64, or the bits of float64 other than NaN and -0. Returns 1, or 0 when too many collide.
 *
 * keys   count × u64, read only, no matter whether one occurs twice
 * empty  any value that is no key
 * set    numberSetByteLength(count) bytes, 8-byte aligned, overwritten
 */
export function buildNumberSet(keysPtr: usize, count: i32, empty: u64, setPtr: usize): i32 {
  const slotBits = slotBitsFor(count)
  const slotMask = (1 << slotBits) - 1
  store<u32>(setPtr, slotBits)
  store<u64>(setPtr, empty, 8)
  const slots = setPtr + HEADER
  for (let i = 0; i <= slotMask; i++) store<u64>(slots + ((<usize>i) << 3), empty)
  for (let i = 0; i < count; i++) {
    const key = load<u64>(keysPtr + ((<usize>i) << 3))
    let slot = <i32>(hash64(key) >> (64 - slotBits))
    let probeCount = 0
    while (true) {
      const ptr = slots + ((<usize>slot) << 3)
      const found = load<u64>(ptr)
      if (found === key) break
      if (found === empty) {
        store<u64>(ptr, key)
        break
      }
      if (++probeCount > PROBE_COUNT_MAX) return 0
      slot = (slot + 1) & slotMask
    }
  }
  return 1
}

/**
 * Marks the rows whose value is in the set. With isFloat, -0 is looked up as 0.
 *
 * values  rowCount × 8 bytes, 8-byte aligned, read only
 * mask    ceil(rowCount / 8) bytes, overwritten
 *
 * Returns the number of rows marked.
 */
export function maskInNumberSet(valuesPtr: usize, rowCount: i32, isFloat: i32, setPtr: usize, maskPtr: usize): i32 {
  const slotBits = load<u32>(setPtr)
  const slotMask = ((<usize>1) << slotBits) - 1
  const empty = load<u64>(setPtr, 8)
  const slots = setPtr + HEADER
  const minusZero: u64 = isFloat ? (<u64>1) << 63 : empty
  let markedCount = 0
  for (let row = 0; row < rowCount; row += 64) {
    const rowEnd = min(row + 64, rowCount)
    let bits: u64 = 0
    for (let i = row; i < rowEnd; i++) {
      let key = load<u64>(valuesPtr + ((<usize>i) << 3))
      if (isFloat && key === minusZero) key = 0
      let slot = <usize>(hash64(key) >> (64 - slotBits))
      let found = load<u64>(slots + (slot << 3))
      while (found !== empty && found !== key) {
        slot = (slot + 1) & slotMask
        found = load<u64>(slots + (slot << 3))
      }
      bits |= (<u64>(found !== empty)) << (i - row)
    }
    markedCount += storeMask(maskPtr, row, rowEnd, bits)
  }
  return markedCount
}

function storeMask(maskPtr: usize, row: i32, rowEnd: i32, bits: u64): i32 {
  const ptr = maskPtr + (<usize>row >> 3)
  if (rowEnd - row === 64) store<u64>(ptr, bits)
  else storeTail(ptr, rowEnd - row, bits)
  return <i32>popcnt(bits)
}

/**
 * Fills a set with texts, which must stay where they are. Returns 1, or 0 when too many collide.
 *
 * offsets  (count + 1) × u32, 4-byte aligned, read only
 * set      textSetByteLength(count) bytes, 8-byte aligned, overwritten
 */
export function buildTextSet(offsetsPtr: usize, bytesPtr: usize, count: i32, setPtr: usize): i32 {
  const slotBits = slotBitsFor(count)
  const slotMask = (1 << slotBits) - 1
  const textEnd = bytesPtr + load<u32>(offsetsPtr + ((<usize>count) << 2))
  const slots = setPtr + HEADER
  store<u32>(setPtr, slotBits)
  memory.fill(slots, 0, (<usize>4) << slotBits)
  for (let i = 0; i < count; i++) {
    const at = offsetsPtr + ((<usize>i) << 2)
    const start = load<u32>(at)
    const byteLength = load<u32>(at, 4) - start
    let slot = <i32>(hashText(bytesPtr + start, byteLength, textEnd) >> (64 - slotBits))
    let probeCount = 0
    while (true) {
      const ptr = slots + ((<usize>slot) << 2)
      const found = load<u32>(ptr)
      if (found === 0) {
        store<u32>(ptr, i + 1)
        break
      }
      if (isText(offsetsPtr, bytesPtr, found, bytesPtr + start, byteLength)) break
      if (++probeCount > PROBE_COUNT_MAX) return 0
      slot = (slot + 1) & slotMask
    }
  }
  return 1
}

/** Whether the text numbered from 1 is this one. */
function isText(offsetsPtr: usize, bytesPtr: usize, number: u32, textPtr: usize, byteLength: u32): bool {
  const at = offsetsPtr + ((<usize>(number - 1)) << 2)
  const start = load<u32>(at)
  return load<u32>(at, 4) - start === byteLength && equalText(bytesPtr + start, textPtr, byteLength)
}

/**
 * Marks the rows of a string column whose text is in the set.
 *
 * setOffsets, setBytes  the texts that the set was built from
 * offsets, bytes        the column: (rowCount + 1) × u32 and its text, read only
 * mask                  ceil(rowCount / 8) bytes, overwritten
 *
 * Returns the number of rows marked.
 */
export function maskInTextSet(
  offsetsPtr: usize,
  bytesPtr: usize,
  rowCount: i32,
  setOffsetsPtr: usize,
  setBytesPtr: usize,
  setPtr: usize,
  maskPtr: usize,
): i32 {
  const slotBits = load<u32>(setPtr)
  const slotMask = ((<usize>1) << slotBits) - 1
  const slots = setPtr + HEADER
  const textEnd = bytesPtr + load<u32>(offsetsPtr + ((<usize>rowCount) << 2))
  let markedCount = 0
  let start = load<u32>(offsetsPtr)
  for (let row = 0; row < rowCount; row += 64) {
    const rowEnd = min(row + 64, rowCount)
    let bits: u64 = 0
    for (let i = row; i < rowEnd; i++) {
      const end = load<u32>(offsetsPtr + ((<usize>i) << 2), 4)
      const byteLength = end - start
      let slot = <usize>(hashText(bytesPtr + start, byteLength, textEnd) >> (64 - slotBits))
      let found = load<u32>(slots + (slot << 2))
      while (found !== 0 && !isText(setOffsetsPtr, setBytesPtr, found, bytesPtr + start, byteLength)) {
        slot = (slot + 1) & slotMask
        found = load<u32>(slots + (slot << 2))
      }
      bits |= (<u64>(found !== 0)) << (i - row)
      start = end
    }
    markedCount += storeMask(maskPtr, row, rowEnd, bits)
  }
  return markedCount
}
