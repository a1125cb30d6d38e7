// Label sets: their canonical keys, the table of all label sets of one tsdb table, and the look at one label of a set.
//
// The canonical key of a label set is, for every label, sorted by name:
//
//     name bytes │ 00 │ value bytes, every 00 written as 00 FF │ 00 01
//
// A name has no 00. Two sets have one key only if they are equal, and the order of keys as bytes (memcmp) is the order
// of label text: by first name, then first value, and so on. The set without labels has the empty key.
import { compareText, equalText, hashText } from './hash'
import { sortTextRows, sortTextRowsScratchByteLength } from './order'

// ---- Keys -----------------------------------------------------------------------------------------------------------

/** Bytes of one entry of the table of label columns that labelKeys takes. */
const columnByteLength: usize = 32

const ones: u64 = ((<u64>0x01010101) << 32) | 0x01010101
const highs: u64 = ((<u64>0x80808080) << 32) | 0x80808080

/** How many bytes of text are 00. */
function countNuls(ptr: usize, byteLength: u32): u32 {
  let count: u32 = 0
  let i: u32 = 0
  for (; i + 8 <= byteLength; i += 8) {
    const word = load<u64>(ptr + i)
    // Quick test (some byte is 00), then the slow count.
    if (!hasNul(word)) continue
    for (let j: u32 = 0; j < 8; j++) count += u32(load<u8>(ptr + i + j) === 0)
  }
  for (; i < byteLength; i++) count += u32(load<u8>(ptr + i) === 0)
  return count
}

/** 1 when a byte of the word is 00. */
function hasNul(word: u64): bool {
  return ((word - ones) & ~word & highs) !== 0
}

/** Copies text, every 00 as 00 FF. Returns the end of what was written. */
function copyEscaped(ptr: usize, byteLength: u32, target: usize): usize {
  if (byteLength >= 8) {
    const last = byteLength - 8
    for (let i: u32 = 0; i < last; i += 8) {
      const word = load<u64>(ptr + i)
      if (hasNul(word)) return copyEscapedBytes(ptr + i, byteLength - i, target + i)
      store<u64>(target + i, word)
    }
    // The last word overlaps the one before it.
    const word = load<u64>(ptr + last)
    if (hasNul(word)) return copyEscapedBytes(ptr + last, 8, target + last)
    store<u64>(target + last, word)
    return target + byteLength
  }
  return copyEscapedBytes(ptr, byteLength, target)
}

function copyEscapedBytes(ptr: usize, byteLength: u32, target: usize): usize {
  for (let i: u32 = 0; i < byteLength; i++) {
    const byte = load<u8>(ptr + i)
    store<u8>(target++, byte)
    if (byte === 0) store<u8>(target++, 0xff)
  }
  return target
}

/** Copies text. Returns the end of what was written. */
function copyBytes(ptr: usize, byteLength: u32, target: usize): usize {
  if (byteLength >= 8) {
    const last = byteLength - 8
    for (let i: u32 = 0; i < last; i += 8) store<u64>(target + i, load<u64>(ptr + i))
    store<u64>(target + last, load<u64>(ptr + last))
  } else {
    for (let i: u32 = 0; i < byteLength; i++) store<u8>(target + i, load<u8>(ptr + i))
  }
  return target + byteLength
}

/** The place of a row's value in the offsets of a label column (an entry of the table that labelKeys takes). */
function valueIndex(columnPtr: usize, row: u32): u32 {
  if (load<u32>(columnPtr, 20) !== 0) return row
  const codesPtr = <usize>load<u32>(columnPtr, 8)
  return codesPtr === 0 ? 0 : load<u32>(codesPtr + ((<usize>row) << 2))
}

/**
 * The bytes that labelKeys will write, or -1 when they are 2 GiB or more. Arguments as for labelKeys.
 */
export function labelKeysByteLength(columnsPtr: usize, columnCount: i32, rowsPtr: usize, groupCount: i32): i32 {
  let total: u64 = 0
  for (let column: i32 = 0; column < columnCount; column++) {
    const columnPtr = columnsPtr + <usize>column * columnByteLength
    const offsetsPtr = <usize>load<u32>(columnPtr, 12)
    const bytesPtr = <usize>load<u32>(columnPtr, 16)
    total += <u64>groupCount * (<u64>load<u32>(columnPtr, 4) + 3)
    for (let group: i32 = 0; group < groupCount; group++) {
      const index = valueIndex(columnPtr, load<u32>(rowsPtr + ((<usize>group) << 2)))
      const start = load<u32>(offsetsPtr + ((<usize>index) << 2))
      const byteLength = load<u32>(offsetsPtr + ((<usize>index) << 2), 4) - start
      total += byteLength + countNuls(bytesPtr + start, byteLength)
    }
  }
  return total > 0x7fffffff ? -1 : <i32>total
}

/**
 * Writes the canonical keys of many groups of rows.
 *
 * columns        columnCount × 8 u32, sorted by name, names distinct:
 *                  namePtr, nameByteLength   the label's name
 *                  codesPtr                  u32 for every row: the place of its value in the dictionary;
 *                                            0: one value for all rows, the dictionary's first
 *                  offsetsPtr, bytesPtr      the dictionary: u32 offsets, text
 *                  byRow                     1: there are no codes, offsets and bytes are those of the column itself
 *                  0, 0
 * rows           groupCount × u32: a row of each group
 * targetOffsets  (groupCount + 1) × u32, overwritten
 * targetBytes    labelKeysByteLength bytes, overwritten
 *
 * Returns the number of bytes written.
 */
export function labelKeys(
  columnsPtr: usize,
  columnCount: i32,
  rowsPtr: usize,
  groupCount: i32,
  targetOffsetsPtr: usize,
  targetBytesPtr: usize,
): i32 {
  let target = targetBytesPtr
  const columnsEnd = columnsPtr + <usize>columnCount * columnByteLength
  for (let group: i32 = 0; group < groupCount; group++) {
    store<u32>(targetOffsetsPtr + ((<usize>group) << 2), <u32>(target - targetBytesPtr))
    const row = load<u32>(rowsPtr + ((<usize>group) << 2))
    for (let columnPtr = columnsPtr; columnPtr < columnsEnd; columnPtr += columnByteLength) {
      target = copyBytes(load<u32>(columnPtr), load<u32>(columnPtr, 4), target)
      store<u8>(target++, 0)
      const offsetPtr = <usize>load<u32>(columnPtr, 12) + ((<usize>valueIndex(columnPtr, row)) << 2)
      const start = load<u32>(offsetPtr)
      target = copyEscaped(<usize>load<u32>(columnPtr, 16) + start, load<u32>(offsetPtr, 4) - start, target)
      store<u16>(target, 0x0100)
      target += 2
    }
  }
  store<u32>(targetOffsetsPtr + ((<usize>groupCount) << 2), <u32>(target - targetBytesPtr))
  return <i32>(target - targetBytesPtr)
}

// ---- The table of label sets ----------------------------------------------------------------------------------------
//
// Append-only. One writer at a time; readers on other threads need no lock, because they trust only set numbers below
// a count that they read before, and the writer stores a set's count and slot after all else of it.
//
//      0  u32 setCount            4  u32 setCapacity       8  u32 slotCapacity   12  u32 keyBytesUsed
//     16  u32 keyBytesCapacity   20  u32 keyOffsetsAt     24  u32 signaturesAt   28  u32 keyBytesAt
//     32  u32 for writers, to agree who is the one; 28 bytes of 0 (…At: bytes from the table's begin)
//    ┌────────────────────────────────────────────────────────────────────────────────────────────┐
//  64│ slots       slotCapacity × u64: hash << 32 | set + 1; 0 = empty. Open addressing, linear     │
//    │             probing from the hash's high bits on. A power of two, at least 2 × setCapacity    │
//    │ keyOffsets  (setCapacity + 1) × u32 into key bytes                                           │
//    │ signatures  setCapacity × u32: a number that the caller keeps for each set, at first 0       │
//    │ key bytes   keyBytesCapacity bytes                                                           │
//    └────────────────────────────────────────────────────────────────────────────────────────────┘
//
// The hash stands beside the set number: a probe that meets another set is settled by one load, and a larger table is
// filled without hashing any key again.

const slotsAt: usize = 64
const notFound: u32 = 0xffffffff

function slotCapacityOf(setCapacity: u32): u32 {
  let capacity: u32 = 2
  while (capacity < setCapacity << 1) capacity <<= 1
  return capacity
}

function alignUp8(byteLength: usize): usize {
  return (byteLength + 7) & ~7
}

/** The bytes of a table for so many sets with so many bytes of keys. Read it as unsigned (>>> 0) from 2 GiB on. */
export function labelTableByteLength(setCapacity: i32, keyBytesCapacity: i32): u32 {
  const slots = (<usize>slotCapacityOf(setCapacity)) << 3
  return <u32>(
    (slotsAt +
      slots +
      alignUp8((<usize>setCapacity + 1) << 2) +
      alignUp8((<usize>setCapacity) << 2) +
      alignUp8(keyBytesCapacity))
  )
}

/** Makes an empty table at tablePtr, 8-byte aligned, in labelTableByteLength bytes. */
export function initLabelTable(tablePtr: usize, setCapacity: i32, keyBytesCapacity: i32): void {
  const slotCapacity = slotCapacityOf(setCapacity)
  const keyOffsetsAt = slotsAt + ((<usize>slotCapacity) << 3)
  const signaturesAt = keyOffsetsAt + alignUp8((<usize>setCapacity + 1) << 2)
  const keyBytesAt = signaturesAt + alignUp8((<usize>setCapacity) << 2)
  memory.fill(tablePtr, 0, keyOffsetsAt + 4)
  store<u32>(tablePtr, setCapacity, 4)
  store<u32>(tablePtr, slotCapacity, 8)
  store<u32>(tablePtr, keyBytesCapacity, 16)
  store<u32>(tablePtr, <u32>keyOffsetsAt, 20)
  store<u32>(tablePtr, <u32>signaturesAt, 24)
  store<u32>(tablePtr, <u32>keyBytesAt, 28)
}

function setCapacityOf(tablePtr: usize): u32 {
  return load<u32>(tablePtr, 4)
}

function slotMaskOf(tablePtr: usize): u32 {
  return load<u32>(tablePtr, 8) - 1
}

function keyOffsetsOf(tablePtr: usize): usize {
  return tablePtr + load<u32>(tablePtr, 20)
}

function signaturesOf(tablePtr: usize): usize {
  return tablePtr + load<u32>(tablePtr, 24)
}

function keyBytesOf(tablePtr: usize): usize {
  return tablePtr + load<u32>(tablePtr, 28)
}

/** The 32 bits of a key's hash that a slot keeps; the highest of them pick its place. */
function keyHash(ptr: usize, byteLength: u32, textEnd: usize): u32 {
  return <u32>(hashText(ptr, byteLength, textEnd) >> 32)
}

/**
 * Looks for a key. Returns the number of a set below setCountVisible, or notFound; sets that are not visible yet are
 * passed over as if they were others.
 */
function probe(tablePtr: usize, hash: u32, ptr: usize, byteLength: u32, setCountVisible: u32): u32 {
  const mask = slotMaskOf(tablePtr)
  let slot = hash >> clz(mask)
  const keyOffsetsPtr = keyOffsetsOf(tablePtr)
  const keyBytesPtr = keyBytesOf(tablePtr)
  while (true) {
    const entry = atomic.load<u64>(tablePtr + slotsAt + ((<usize>slot) << 3))
    if (entry === 0) return notFound
    const set = <u32>entry - 1
    if (<u32>(entry >> 32) === hash && set < setCountVisible) {
      const start = load<u32>(keyOffsetsPtr + ((<usize>set) << 2))
      const end = load<u32>(keyOffsetsPtr + ((<usize>set) << 2), 4)
      if (end - start === byteLength && equalText(ptr, keyBytesPtr + start, byteLength)) return set
    }
    slot = (slot + 1) & mask
  }
}

/** Keys that are looked for at once. */
const findKeyCount: i32 = 64

/**
 * The numbers of label sets, on any thread.
 *
 * setCountVisible  sets from this number on are not known to the caller and count as not found
 * keysOffsets      (keyCount + 1) × u32 into keysBytes; keysBytes: canonical keys
 * setNumbers       keyCount × u32, overwritten; 0xFFFFFFFF where not found
 *
 * Returns how many were not found.
 *
 * A large table is in no cache, and a key waits for its slot, for its offset and for its bytes. So some keys go through
 * these steps together, each step a loop so short that the processor has many keys' loads under way at once (group
 * prefetching: Shimin Chen et al.: Improving Hash Join Performance through Prefetching, 2004). Between steps,
 * setNumbers holds what the next one needs: a hash, then a set.
 */
export function labelTableFind(
  tablePtr: usize,
  setCountVisible: i32,
  keysOffsetsPtr: usize,
  keysBytesPtr: usize,
  keyCount: i32,
  setNumbersPtr: usize,
): i32 {
  const textEnd = keysBytesPtr + load<u32>(keysOffsetsPtr + ((<usize>keyCount) << 2))
  const keyOffsetsPtr = keyOffsetsOf(tablePtr)
  const keyBytesPtr = keyBytesOf(tablePtr)
  let missing: i32 = 0
  for (let first: i32 = 0; first < keyCount; first += findKeyCount) {
    const end = min(first + findKeyCount, keyCount)
    for (let key = first; key < end; key++) {
      const offsetPtr = keysOffsetsPtr + ((<usize>key) << 2)
      const start = load<u32>(offsetPtr)
      store<u32>(
        setNumbersPtr + ((<usize>key) << 2),
        keyHash(keysBytesPtr + start, load<u32>(offsetPtr, 4) - start, textEnd),
      )
    }
    findByHash(tablePtr, setCountVisible, setNumbersPtr + ((<usize>first) << 2), setNumbersPtr + ((<usize>end) << 2))
    for (let key = first; key < end; key++) {
      const set = load<u32>(setNumbersPtr + ((<usize>key) << 2))
      // Only brings it near.
      if (set !== notFound) load<u8>(keyBytesPtr + load<u32>(keyOffsetsPtr + ((<usize>set) << 2)))
    }
    for (let key = first; key < end; key++) {
      let set = load<u32>(setNumbersPtr + ((<usize>key) << 2))
      if (set !== notFound) {
        const offsetPtr = keysOffsetsPtr + ((<usize>key) << 2)
        const ptr = keysBytesPtr + load<u32>(offsetPtr)
        const byteLength = load<u32>(offsetPtr, 4) - load<u32>(offsetPtr)
        const setOffsetPtr = keyOffsetsPtr + ((<usize>set) << 2)
        const setStart = load<u32>(setOffsetPtr)
        if (
          load<u32>(setOffsetPtr, 4) - setStart !== byteLength ||
          !equalText(ptr, keyBytesPtr + setStart, byteLength)
        ) {
          // Another key with the same 32 bits of hash. Its own set may stand behind it.
          set = probe(tablePtr, keyHash(ptr, byteLength, textEnd), ptr, byteLength, setCountVisible)
          store<u32>(setNumbersPtr + ((<usize>key) << 2), set)
        }
      }
      missing += i32(set === notFound)
    }
  }
  return missing
}

/** Replaces hashes by the first visible set that has each, or by notFound. */
function findByHash(tablePtr: usize, setCountVisible: u32, hashesPtr: usize, hashesEnd: usize): void {
  const mask = slotMaskOf(tablePtr)
  const shift = clz(mask)
  for (let ptr = hashesPtr; ptr < hashesEnd; ptr += 4) {
    const hash = load<u32>(ptr)
    let slot = hash >> shift
    let set: u32
    while (true) {
      const entry = atomic.load<u64>(tablePtr + slotsAt + ((<usize>slot) << 3))
      // An empty slot's set is notFound.
      set = <u32>entry - 1
      if (entry === 0 || (<u32>(entry >> 32) === hash && set < setCountVisible)) break
      slot = (slot + 1) & mask
    }
    store<u32>(ptr, set)
  }
}

/**
 * The numbers of label sets; those that are new are appended, in the order of their keys, with signature 0. Only one
 * thread at a time may do this to a table.
 *
 * Arguments as for labelTableFind. Equal keys get one number.
 *
 * Returns the number of new sets; -1 when they may not fit the sets, -2 when they may not fit the key bytes (equal new
 * keys are counted singly for this): then the table is as before and setNumbers are those that labelTableFind gives.
 */
export function labelTableInsert(
  tablePtr: usize,
  keysOffsetsPtr: usize,
  keysBytesPtr: usize,
  keyCount: i32,
  setNumbersPtr: usize,
): i32 {
  const countBefore = load<u32>(tablePtr)
  const missing = labelTableFind(tablePtr, countBefore, keysOffsetsPtr, keysBytesPtr, keyCount, setNumbersPtr)
  if (missing === 0) return 0
  if (<u64>countBefore + <u64>missing > <u64>setCapacityOf(tablePtr)) return -1
  let keyBytesUsed = load<u32>(tablePtr, 12)
  let keyBytesNeeded: u64 = keyBytesUsed
  for (let key: i32 = 0; key < keyCount; key++) {
    if (load<u32>(setNumbersPtr + ((<usize>key) << 2)) !== notFound) continue
    const offsetPtr = keysOffsetsPtr + ((<usize>key) << 2)
    keyBytesNeeded += load<u32>(offsetPtr, 4) - load<u32>(offsetPtr)
  }
  if (keyBytesNeeded > <u64>load<u32>(tablePtr, 16)) return -2

  const textEnd = keysBytesPtr + load<u32>(keysOffsetsPtr + ((<usize>keyCount) << 2))
  const mask = slotMaskOf(tablePtr)
  const keyOffsetsPtr = keyOffsetsOf(tablePtr)
  const keyBytesPtr = keyBytesOf(tablePtr)
  let count = countBefore
  for (let key: i32 = 0; key < keyCount; key++) {
    if (load<u32>(setNumbersPtr + ((<usize>key) << 2)) !== notFound) continue
    const start = load<u32>(keysOffsetsPtr + ((<usize>key) << 2))
    const byteLength = load<u32>(keysOffsetsPtr + ((<usize>key) << 2), 4) - start
    const ptr = keysBytesPtr + start
    const hash = keyHash(ptr, byteLength, textEnd)
    // Again, since an equal key may have been appended just now.
    let set = probe(tablePtr, hash, ptr, byteLength, count)
    if (set === notFound) {
      set = count++
      memory.copy(keyBytesPtr + keyBytesUsed, ptr, byteLength)
      keyBytesUsed += byteLength
      store<u32>(keyOffsetsPtr + ((<usize>set) << 2), keyBytesUsed, 4)
      store<u32>(signaturesOf(tablePtr) + ((<usize>set) << 2), 0)
      store<u32>(tablePtr, keyBytesUsed, 12)
      atomic.store<u32>(tablePtr, count)
      enterSlot(tablePtr, mask, ((<u64>hash) << 32) | <u64>count)
    }
    store<u32>(setNumbersPtr + ((<usize>key) << 2), set)
  }
  return count - countBefore
}

/** Stores a slot's content (hash << 32 | set + 1) in the first free place of its probe sequence. */
function enterSlot(tablePtr: usize, mask: u32, entry: u64): void {
  let slot = <u32>(entry >> 32) >> clz(mask)
  while (load<u64>(tablePtr + slotsAt + ((<usize>slot) << 3)) !== 0) slot = (slot + 1) & mask
  atomic.store<u64>(tablePtr + slotsAt + ((<usize>slot) << 3), entry)
}

/**
 * Copies all sets, with their numbers and signatures, into an empty, larger table.
 *
 * Returns their count, or -1 (sets) or -2 (key bytes) when they do not fit; then the target stays empty.
 */
export function copyLabelTable(sourcePtr: usize, targetPtr: usize): i32 {
  const count = load<u32>(sourcePtr)
  const keyBytesUsed = load<u32>(sourcePtr, 12)
  if (count > setCapacityOf(targetPtr)) return -1
  if (keyBytesUsed > load<u32>(targetPtr, 16)) return -2
  memory.copy(keyOffsetsOf(targetPtr), keyOffsetsOf(sourcePtr), (<usize>count + 1) << 2)
  memory.copy(signaturesOf(targetPtr), signaturesOf(sourcePtr), (<usize>count) << 2)
  memory.copy(keyBytesOf(targetPtr), keyBytesOf(sourcePtr), keyBytesUsed)
  const mask = slotMaskOf(targetPtr)
  const slotsEnd = keyOffsetsOf(sourcePtr)
  for (let ptr = sourcePtr + slotsAt; ptr < slotsEnd; ptr += 8) {
    const entry = load<u64>(ptr)
    if (entry !== 0) enterSlot(targetPtr, mask, entry)
  }
  store<u32>(targetPtr, keyBytesUsed, 12)
  atomic.store<u32>(targetPtr, count)
  return count
}

/** The number of sets: what the writer tells readers once their commit is durable. */
export function labelTableCount(tablePtr: usize): i32 {
  return atomic.load<u32>(tablePtr)
}

/** How many sets the table can take. */
export function labelTableSetCapacity(tablePtr: usize): i32 {
  return setCapacityOf(tablePtr)
}

/** Bytes of keys that the table holds. */
export function labelTableKeyBytesUsed(tablePtr: usize): i32 {
  return load<u32>(tablePtr, 12)
}

/** Bytes of keys that the table can take. */
export function labelTableKeyBytesCapacity(tablePtr: usize): i32 {
  return load<u32>(tablePtr, 16)
}

/** Where the canonical key of a set stands. */
export function labelTableKeyPtr(tablePtr: usize, set: i32): usize {
  return keyBytesOf(tablePtr) + load<u32>(keyOffsetsOf(tablePtr) + ((<usize>set) << 2))
}

export function labelTableKeyByteLength(tablePtr: usize, set: i32): i32 {
  const offsetPtr = keyOffsetsOf(tablePtr) + ((<usize>set) << 2)
  return load<u32>(offsetPtr, 4) - load<u32>(offsetPtr)
}

/** The number that the caller keeps for a set. */
export function labelTableSignature(tablePtr: usize, set: i32): u32 {
  return atomic.load<u32>(signaturesOf(tablePtr) + ((<usize>set) << 2))
}

/** Where these numbers stand, a u32 each, by set. */
export function labelTableSignaturesPtr(tablePtr: usize): usize {
  return signaturesOf(tablePtr)
}

export function setLabelTableSignature(tablePtr: usize, set: i32, signature: u32): void {
  atomic.store<u32>(signaturesOf(tablePtr) + ((<usize>set) << 2), signature)
}

/** The signatures of many sets. setNumbers, target: count × u32. */
export function labelTableSignatures(tablePtr: usize, setNumbersPtr: usize, count: i32, targetPtr: usize): void {
  const signaturesPtr = signaturesOf(tablePtr)
  for (let i: i32 = 0; i < count; i++) {
    const set = load<u32>(setNumbersPtr + ((<usize>i) << 2))
    store<u32>(targetPtr + ((<usize>i) << 2), load<u32>(signaturesPtr + ((<usize>set) << 2)))
  }
}

// ---- Order ----------------------------------------------------------------------------------------------------------

/** Negative, 0 or positive as set a stands before, is, or stands behind set b in label text order. */
export function compareLabelKeys(tablePtr: usize, a: i32, b: i32): i32 {
  return compareText(
    labelTableKeyPtr(tablePtr, a),
    labelTableKeyByteLength(tablePtr, a),
    labelTableKeyPtr(tablePtr, b),
    labelTableKeyByteLength(tablePtr, b),
  )
}

/** What sortLabelSets needs as scratch for so many sets. */
export function sortLabelSetsScratchByteLength(count: i32): i32 {
  return sortTextRowsScratchByteLength(count)
}

/**
 * Sorts set numbers by canonical key.
 *
 * setNumbers  count × u32, read and overwritten
 * scratch     sortLabelSetsScratchByteLength(count), 8-byte aligned
 */
export function sortLabelSets(tablePtr: usize, setNumbersPtr: usize, count: i32, scratchPtr: usize): void {
  // The table's key offsets and key bytes are a string column, and set numbers are its rows.
  sortTextRows(keyOffsetsOf(tablePtr), keyBytesOf(tablePtr), setNumbersPtr, count, scratchPtr)
}

// ---- One label ------------------------------------------------------------------------------------------------------

/** Where a label value that begins at ptr ends: at its 00 01. */
function valueEnd(ptr: usize): usize {
  while (true) {
    while (load<u8>(ptr) !== 0) ptr++
    if (load<u8>(ptr, 1) === 1) return ptr
    ptr += 2
  }
}

/** Where the value of a label begins in the key [ptr, end), or 0 when the set has no such label. */
function findValue(ptr: usize, end: usize, namePtr: usize, nameByteLength: u32): usize {
  while (ptr < end) {
    const labelPtr = ptr
    while (load<u8>(ptr) !== 0) ptr++
    const valuePtr = ptr + 1
    if (<u32>(ptr - labelPtr) === nameByteLength && equalText(labelPtr, namePtr, nameByteLength)) return valuePtr
    ptr = valueEnd(valuePtr) + 2
  }
  return 0
}

/**
 * Looks for a label in a set.
 *
 * out  2 × u32, written when found: where its value stands and how many bytes it has, as written in the key
 *
 * Returns 0: the set has no such label; 1: found, and what stands there is the value itself; 2: found, and the value
 * holds escapes (every 00 FF stands for 00).
 */
export function labelValue(tablePtr: usize, set: i32, namePtr: usize, nameByteLength: i32, outPtr: usize): i32 {
  const keyPtr = labelTableKeyPtr(tablePtr, set)
  const valuePtr = findValue(keyPtr, keyPtr + labelTableKeyByteLength(tablePtr, set), namePtr, nameByteLength)
  if (valuePtr === 0) return 0
  const byteLength = <u32>(valueEnd(valuePtr) - valuePtr)
  store<u32>(outPtr, <u32>valuePtr)
  store<u32>(outPtr, byteLength, 4)
  return countNuls(valuePtr, byteLength) === 0 ? 1 : 2
}

/**
 * One label of many sets as a string column, for a filter over all of them.
 *
 * sets            [setStart, setStart + setCount)
 * targetOffsets   (setCount + 1) × u32, overwritten
 * targetBytes     the values without escapes, '' where a set has no such label: at most the bytes of these sets' keys
 * targetValidity  ceil(setCount / 8) bytes, overwritten: 1 = the set has the label
 *
 * Returns the number of bytes written.
 */
export function labelColumn(
  tablePtr: usize,
  setStart: i32,
  setCount: i32,
  namePtr: usize,
  nameByteLength: i32,
  targetOffsetsPtr: usize,
  targetBytesPtr: usize,
  targetValidityPtr: usize,
): i32 {
  const keyBytesPtr = keyBytesOf(tablePtr)
  const keyOffsetsPtr = keyOffsetsOf(tablePtr) + ((<usize>setStart) << 2)
  let target = targetBytesPtr
  memory.fill(targetValidityPtr, 0, (<usize>setCount + 7) >> 3)
  for (let i: i32 = 0; i < setCount; i++) {
    store<u32>(targetOffsetsPtr + ((<usize>i) << 2), <u32>(target - targetBytesPtr))
    const offsetPtr = keyOffsetsPtr + ((<usize>i) << 2)
    const ptr = findValue(
      keyBytesPtr + load<u32>(offsetPtr),
      keyBytesPtr + load<u32>(offsetPtr, 4),
      namePtr,
      nameByteLength,
    )
    if (ptr === 0) continue
    const bitPtr = targetValidityPtr + (<usize>i >> 3)
    store<u8>(bitPtr, load<u8>(bitPtr) | ((<u8>1) << (<u8>i & 7)))
    const end = valueEnd(ptr)
    for (let from = ptr; from < end; from++) {
      const byte = load<u8>(from)
      store<u8>(target++, byte)
      // The FF behind a 00.
      if (byte === 0) from++
    }
  }
  store<u32>(targetOffsetsPtr + ((<usize>setCount) << 2), <u32>(target - targetBytesPtr))
  return <i32>(target - targetBytesPtr)
}

/**
 * How many of some sets have each value of a label.
 *
 * sets    setCount × u32
 * slots   slotCount × u32, overwritten; slotCount is a power of two above setCount
 * target  2 × u32 a value: a set that has it, and how many have; room for setCount of them
 *
 * Returns how many values there are.
 */
export function countLabelValues(
  tablePtr: usize,
  setsPtr: usize,
  setCount: i32,
  namePtr: usize,
  nameByteLength: i32,
  slotsPtr: usize,
  slotCount: i32,
  targetPtr: usize,
): i32 {
  if (slotCount <= setCount || popcnt(slotCount) !== 1) unreachable()
  memory.fill(slotsPtr, 0, (<usize>slotCount) << 2)
  const mask = <u32>slotCount - 1
  const keyBytesPtr = keyBytesOf(tablePtr)
  const keyOffsetsPtr = keyOffsetsOf(tablePtr)
  const textEnd = keyBytesPtr + <usize>labelTableKeyBytesUsed(tablePtr)
  let valueCount = 0
  for (let i = 0; i < setCount; i++) {
    const set = load<u32>(setsPtr + ((<usize>i) << 2))
    const offsetPtr = keyOffsetsPtr + ((<usize>set) << 2)
    const keyEnd = keyBytesPtr + load<u32>(offsetPtr, 4)
    const valuePtr = findValue(keyBytesPtr + load<u32>(offsetPtr), keyEnd, namePtr, nameByteLength)
    if (valuePtr === 0) continue
    const byteLength = <u32>(valueEnd(valuePtr) - valuePtr)
    let slot = <u32>(hashText(valuePtr, byteLength, textEnd) >> 32) & mask
    while (true) {
      const place = load<u32>(slotsPtr + ((<usize>slot) << 2))
      if (place === 0) {
        store<u32>(slotsPtr + ((<usize>slot) << 2), ++valueCount)
        store<u32>(targetPtr + ((<usize>(valueCount - 1)) << 3), set)
        store<u32>(targetPtr + ((<usize>(valueCount - 1)) << 3), 1, 4)
        break
      }
      const entryPtr = targetPtr + ((<usize>(place - 1)) << 3)
      const otherOffsetPtr = keyOffsetsPtr + ((<usize>load<u32>(entryPtr)) << 2)
      const otherPtr = findValue(
        keyBytesPtr + load<u32>(otherOffsetPtr),
        keyBytesPtr + load<u32>(otherOffsetPtr, 4),
        namePtr,
        nameByteLength,
      )
      if (<u32>(valueEnd(otherPtr) - otherPtr) === byteLength && equalText(valuePtr, otherPtr, byteLength)) {
        store<u32>(entryPtr, load<u32>(entryPtr, 4) + 1, 4)
        break
      }
      slot = (slot + 1) & mask
    }
  }
  return valueCount
}

/**
 * The first of some sets, from number `from` in their list on, that has a label of another name than those that are known; setCount: none
 * has.
 *
 * sets                    setCount × u32
 * nameOffsets, nameBytes  (nameCount + 1) × u32 and text: known names
 */
export function findOtherLabel(
  tablePtr: usize,
  setsPtr: usize,
  from: i32,
  setCount: i32,
  nameOffsetsPtr: usize,
  nameBytesPtr: usize,
  nameCount: i32,
): i32 {
  for (let i = from; i < setCount; i++) {
    const set = load<i32>(setsPtr + ((<usize>i) << 2))
    let ptr = labelTableKeyPtr(tablePtr, set)
    const end = ptr + <usize>labelTableKeyByteLength(tablePtr, set)
    // Names of sets mostly are the same, in one order.
    let name = 0
    while (ptr < end) {
      const labelPtr = ptr
      while (load<u8>(ptr) !== 0) ptr++
      const byteLength = <u32>(ptr - labelPtr)
      let tried = 0
      for (; tried < nameCount; tried++) {
        const offsetPtr = nameOffsetsPtr + ((<usize>name) << 2)
        const knownPtr = nameBytesPtr + load<u32>(offsetPtr)
        const isSame = load<u32>(offsetPtr, 4) - load<u32>(offsetPtr) === byteLength
        name = name + 1 < nameCount ? name + 1 : 0
        if (isSame && equalText(labelPtr, knownPtr, byteLength)) break
      }
      if (tried === nameCount) return i
      ptr = valueEnd(ptr + 1) + 2
    }
  }
  return setCount
}
