// Rows to dense codes: equal values get one code, codes count up from 0 in order of first appearance.
//
// All hash tables here are open addressing with linear probing over u32 slots. A slot holds code + 1 in its low bits
// and, in the bits that the table's size leaves over, a piece of the hash, so that most unequal keys are told apart
// without a look at them; 0 = empty. A table starts small, in the first-level cache, and grows inside the capacity it
// is given: most label columns have few values.
import { equalLong, hash64, hashLong, hashShort, hashText, shortByteLength, shortText } from './hash'

/** Slots that a table starts with. */
const startCapacity: i32 = 512

/** How much a table grows at once: rehashing costs a seventh of the inserts that led to it. */
const growthShift: i32 = 3

/** The slots of a table that takes rowCount distinct keys: the smallest power of two that is twice as many. */
export function groupTableCapacity(rowCount: i32): i32 {
  let capacity: i32 = 2
  while (capacity < rowCount << 1) capacity <<= 1
  return capacity
}

/**
 * Codes of a string column.
 *
 * offsets    (rowCount + 1) × u32 into bytes, read only; bytes: text, read only
 * codes      rowCount × u32, overwritten
 * firstRows  rowCount × u32: for every code the first row that has it; what stands behind the codes is undefined
 * table      tableCapacity × u32, a power of two, at least 2 × rowCount; scratch
 *
 * Returns the number of distinct values. In short: codes[row] = index of the value in the list of distinct values.
 */
export function dictionaryStrings(
  offsetsPtr: usize,
  bytesPtr: usize,
  rowCount: i32,
  codesPtr: usize,
  firstRowsPtr: usize,
  tablePtr: usize,
  tableCapacity: i32,
): i32 {
  if (rowCount === 0) return 0
  const textEnd = bytesPtr + load<u32>(offsetsPtr + ((<usize>rowCount) << 2))
  let capacity = min(startCapacity, tableCapacity)
  let mask: u32 = capacity - 1
  memory.fill(tablePtr, 0, (<usize>capacity) << 2)

  let count: i32 = 0
  let code: u32 = 0
  let previousPtr: usize = 0
  let previousByteLength: u32 = 0xffffffff
  let previousText = i64x2.splat(0)
  let end = load<u32>(offsetsPtr)
  for (let row: i32 = 0; row < rowCount; row++) {
    const ptr = bytesPtr + end
    const start = end
    end = load<u32>(offsetsPtr + ((<usize>row) << 2), 4)
    const byteLength = end - start
    let hash: u64
    let text = previousText
    if (byteLength <= shortByteLength) {
      text = shortText(ptr, byteLength, textEnd)
      if (byteLength === previousByteLength && !v128.any_true(v128.xor(text, previousText))) {
        store<u32>(codesPtr + ((<usize>row) << 2), code)
        continue
      }
      previousText = text
      hash = hashShort(i64x2.extract_lane(text, 0), i64x2.extract_lane(text, 1), byteLength)
    } else {
      if (byteLength === previousByteLength && equalLong(ptr, previousPtr, byteLength)) {
        store<u32>(codesPtr + ((<usize>row) << 2), code)
        continue
      }
      previousPtr = ptr
      hash = hashLong(ptr, byteLength)
    }
    previousByteLength = byteLength

    const tag = <u32>(hash >> 32) & ~mask
    let slot = <u32>hash & mask
    while (true) {
      const entry = load<u32>(tablePtr + ((<usize>slot) << 2))
      if (entry === 0) {
        code = count++
        store<u32>(firstRowsPtr + ((<usize>code) << 2), row)
        store<u32>(tablePtr + ((<usize>slot) << 2), tag | (code + 1))
        if (count << 1 > capacity) {
          capacity = min(capacity << growthShift, tableCapacity)
          mask = capacity - 1
          fillStringTable(offsetsPtr, bytesPtr, textEnd, firstRowsPtr, count, tablePtr, capacity)
        }
        break
      }
      if ((entry & ~mask) === tag) {
        code = (entry & mask) - 1
        const firstRow = load<u32>(firstRowsPtr + ((<usize>code) << 2))
        const other = load<u32>(offsetsPtr + ((<usize>firstRow) << 2))
        if (load<u32>(offsetsPtr + ((<usize>firstRow) << 2), 4) - other === byteLength) {
          if (byteLength <= shortByteLength) {
            if (!v128.any_true(v128.xor(text, shortText(bytesPtr + other, byteLength, textEnd)))) break
          } else if (equalLong(ptr, bytesPtr + other, byteLength)) break
        }
      }
      slot = (slot + 1) & mask
    }
    store<u32>(codesPtr + ((<usize>row) << 2), code)
  }
  return count
}

/** Clears a table of strings and enters the first `count` codes. */
function fillStringTable(
  offsetsPtr: usize,
  bytesPtr: usize,
  textEnd: usize,
  firstRowsPtr: usize,
  count: i32,
  tablePtr: usize,
  capacity: i32,
): void {
  memory.fill(tablePtr, 0, (<usize>capacity) << 2)
  const mask: u32 = capacity - 1
  for (let code: i32 = 0; code < count; code++) {
    const offsetPtr = offsetsPtr + ((<usize>load<u32>(firstRowsPtr + ((<usize>code) << 2))) << 2)
    const start = load<u32>(offsetPtr)
    enterCode(hashText(bytesPtr + start, load<u32>(offsetPtr, 4) - start, textEnd), code, tablePtr, mask)
  }
}

/** Enters a code whose key is known to be new. */
function enterCode(hash: u64, code: u32, tablePtr: usize, mask: u32): void {
  let slot = <u32>hash & mask
  while (load<u32>(tablePtr + ((<usize>slot) << 2)) !== 0) slot = (slot + 1) & mask
  store<u32>(tablePtr + ((<usize>slot) << 2), (<u32>(hash >> 32) & ~mask) | (code + 1))
}

/**
 * Codes of a column of 8-byte values: int64, times, or the bits of float64 (so 0.0 and -0.0 differ, and so do NaNs
 * with different bits).
 *
 * values  rowCount × 8 bytes, read only; the rest as in dictionaryStrings
 */
export function dictionary64(
  valuesPtr: usize,
  rowCount: i32,
  codesPtr: usize,
  firstRowsPtr: usize,
  tablePtr: usize,
  tableCapacity: i32,
): i32 {
  if (rowCount === 0) return 0
  let capacity = min(startCapacity, tableCapacity)
  let mask: u32 = capacity - 1
  memory.fill(tablePtr, 0, (<usize>capacity) << 2)

  let count: i32 = 0
  let code: u32 = 0
  // Unequal to the first value, whatever that is.
  let previous = ~load<u64>(valuesPtr)
  for (let row: i32 = 0; row < rowCount; row++) {
    const value = load<u64>(valuesPtr + ((<usize>row) << 3))
    if (value !== previous) {
      previous = value
      const hash = hash64(value)
      const tag = <u32>(hash >> 32) & ~mask
      let slot = <u32>hash & mask
      while (true) {
        const entry = load<u32>(tablePtr + ((<usize>slot) << 2))
        if (entry === 0) {
          code = count++
          store<u32>(firstRowsPtr + ((<usize>code) << 2), row)
          store<u32>(tablePtr + ((<usize>slot) << 2), tag | (code + 1))
          if (count << 1 > capacity) {
            capacity = min(capacity << growthShift, tableCapacity)
            mask = capacity - 1
            fill64Table(valuesPtr, firstRowsPtr, count, tablePtr, capacity)
          }
          break
        }
        if ((entry & ~mask) === tag) {
          code = (entry & mask) - 1
          const firstRow = load<u32>(firstRowsPtr + ((<usize>code) << 2))
          if (load<u64>(valuesPtr + ((<usize>firstRow) << 3)) === value) break
        }
        slot = (slot + 1) & mask
      }
    }
    store<u32>(codesPtr + ((<usize>row) << 2), code)
  }
  return count
}

function fill64Table(valuesPtr: usize, firstRowsPtr: usize, count: i32, tablePtr: usize, capacity: i32): void {
  memory.fill(tablePtr, 0, (<usize>capacity) << 2)
  for (let code: i32 = 0; code < count; code++) {
    const firstRow = load<u32>(firstRowsPtr + ((<usize>code) << 2))
    enterCode(hash64(load<u64>(valuesPtr + ((<usize>firstRow) << 3))), code, tablePtr, capacity - 1)
  }
}

/**
 * Codes of a column of bools.
 *
 * bits       ceil(rowCount / 8) bytes, row 0 is the lowest bit, read only
 * firstRows  min(rowCount, 2) × u32; the rest as in dictionaryStrings
 */
export function dictionaryBits(bitsPtr: usize, rowCount: i32, codesPtr: usize, firstRowsPtr: usize): i32 {
  if (rowCount === 0) return 0
  const first = <u32>load<u8>(bitsPtr) & 1
  store<u32>(firstRowsPtr, 0)
  let other: u32 = 0
  for (let row: i32 = 0; row < rowCount; row++) {
    const code = ((<u32>load<u8>(bitsPtr + (<usize>row >> 3)) >> (row & 7)) & 1) ^ first
    store<u32>(codesPtr + ((<usize>row) << 2), code)
    if (code > other) {
      other = 1
      store<u32>(firstRowsPtr, row, 4)
    }
  }
  return <i32>other + 1
}

/**
 * Codes of pairs of codes: rows that agree in both get one code.
 *
 * a, b       rowCount × u32, every one below aCount and bCount
 * target     rowCount × u32, overwritten; may be a or b itself
 * the rest as in dictionaryStrings
 *
 * Where aCount × bCount slots fit the table, a pair is its own place in it and nothing is hashed.
 */
export function combineCodes(
  aPtr: usize,
  aCount: i32,
  bPtr: usize,
  bCount: i32,
  rowCount: i32,
  targetPtr: usize,
  firstRowsPtr: usize,
  tablePtr: usize,
  tableCapacity: i32,
): i32 {
  if (rowCount === 0) return 0
  const pairCount = <u64>aCount * <u64>bCount
  return pairCount <= <u64>min(tableCapacity, max(rowCount << 2, startCapacity))
    ? combineInTable(aPtr, bPtr, bCount, rowCount, targetPtr, firstRowsPtr, tablePtr, <u32>pairCount)
    : combineByHash(aPtr, bPtr, rowCount, targetPtr, firstRowsPtr, tablePtr, tableCapacity)
}

function combineInTable(
  aPtr: usize,
  bPtr: usize,
  bCount: u32,
  rowCount: i32,
  targetPtr: usize,
  firstRowsPtr: usize,
  tablePtr: usize,
  pairCount: u32,
): i32 {
  memory.fill(tablePtr, 0, (<usize>pairCount) << 2)
  let count: u32 = 0
  for (let row: i32 = 0; row < rowCount; row++) {
    const at = (<usize>row) << 2
    const slotPtr = tablePtr + ((<usize>(load<u32>(aPtr + at) * bCount + load<u32>(bPtr + at))) << 2)
    let next = load<u32>(slotPtr)
    if (next === 0) {
      store<u32>(firstRowsPtr + ((<usize>count) << 2), row)
      next = ++count
      store<u32>(slotPtr, next)
    }
    store<u32>(targetPtr + at, next - 1)
  }
  return count
}

/**
 * The target may be a or b, and a key is compared with a and b of its first row: so first rows are written last, when
 * all comparing is done. (The code of a first row needs no place of its own: firstRows has it.)
 */
function combineByHash(
  aPtr: usize,
  bPtr: usize,
  rowCount: i32,
  targetPtr: usize,
  firstRowsPtr: usize,
  tablePtr: usize,
  tableCapacity: i32,
): i32 {
  let capacity = min(startCapacity, tableCapacity)
  let mask: u32 = capacity - 1
  memory.fill(tablePtr, 0, (<usize>capacity) << 2)

  let count: i32 = 0
  let code: u32 = 0
  let previous = ~pairOf(aPtr, bPtr, 0)
  for (let row: i32 = 0; row < rowCount; row++) {
    const pair = pairOf(aPtr, bPtr, row)
    if (pair !== previous) {
      previous = pair
      const hash = hash64(pair)
      const tag = <u32>(hash >> 32) & ~mask
      let slot = <u32>hash & mask
      let isNew = false
      while (true) {
        const entry = load<u32>(tablePtr + ((<usize>slot) << 2))
        if (entry === 0) {
          isNew = true
          code = count++
          store<u32>(firstRowsPtr + ((<usize>code) << 2), row)
          store<u32>(tablePtr + ((<usize>slot) << 2), tag | (code + 1))
          if (count << 1 > capacity) {
            capacity = min(capacity << growthShift, tableCapacity)
            mask = capacity - 1
            fillPairTable(aPtr, bPtr, firstRowsPtr, count, tablePtr, capacity)
          }
          break
        }
        if ((entry & ~mask) === tag) {
          code = (entry & mask) - 1
          if (pairOf(aPtr, bPtr, load<u32>(firstRowsPtr + ((<usize>code) << 2))) === pair) break
        }
        slot = (slot + 1) & mask
      }
      if (isNew) continue
    }
    store<u32>(targetPtr + ((<usize>row) << 2), code)
  }
  for (let c: i32 = 0; c < count; c++) {
    store<u32>(targetPtr + ((<usize>load<u32>(firstRowsPtr + ((<usize>c) << 2))) << 2), c)
  }
  return count
}

function fillPairTable(
  aPtr: usize,
  bPtr: usize,
  firstRowsPtr: usize,
  count: i32,
  tablePtr: usize,
  capacity: i32,
): void {
  memory.fill(tablePtr, 0, (<usize>capacity) << 2)
  for (let code: i32 = 0; code < count; code++) {
    enterCode(hash64(pairOf(aPtr, bPtr, load<u32>(firstRowsPtr + ((<usize>code) << 2)))), code, tablePtr, capacity - 1)
  }
}

function pairOf(aPtr: usize, bPtr: usize, row: u32): u64 {
  const at = (<usize>row) << 2
  return ((<u64>load<u32>(aPtr + at)) << 32) | <u64>load<u32>(bPtr + at)
}
