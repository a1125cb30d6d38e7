// Items of key-value tables on their way in: names from typed keys, equal keys found, cells moved between the rows of a
// frame and the items they belong to.
import { isSet, setBit } from './bits'
import { copyText, sameText } from './text'

// ---- Names ----------------------------------------------------------------------------------------------------------

function digitCount(value: u64): u32 {
  let count: u32 = 1
  for (; value >= 10; value /= 10) count++
  return count
}

/** Bytes of text that integerTexts writes; -1 for 2 GiB or more. */
export function integerTextsByteLength(valuesPtr: usize, count: i32): i32 {
  let byteLength: u64 = 0
  for (let i = 0; i < count; i++) {
    const value = load<i64>(valuesPtr + ((<usize>i) << 3))
    byteLength += digitCount(value < 0 ? 0 - <u64>value : <u64>value) + u32(value < 0)
  }
  return byteLength < 0x80000000 ? <i32>byteLength : -1
}

/**
 * Integers as decimal texts.
 *
 * offsets  (count + 1) × u32, overwritten; the first is 0
 * bytes    integerTextsByteLength bytes, overwritten
 */
export function integerTexts(valuesPtr: usize, count: i32, offsetsPtr: usize, bytesPtr: usize): void {
  let end: u32 = 0
  store<u32>(offsetsPtr, 0)
  for (let i = 0; i < count; i++) {
    const value = load<i64>(valuesPtr + ((<usize>i) << 3))
    let rest = value < 0 ? 0 - <u64>value : <u64>value
    if (value < 0) store<u8>(bytesPtr + end++, 0x2d)
    end += digitCount(rest)
    let at = bytesPtr + end
    do {
      const next = rest / 10
      store<u8>(--at, <u8>(rest - next * 10) + 0x30)
      rest = next
    } while (rest !== 0)
    store<u32>(offsetsPtr + ((<usize>i) << 2), end, 4)
  }
}

/**
 * Texts a, a separator byte, and texts b. Bytes of the target: those of a and of b, and one more a row.
 * Returns the bytes of text written.
 */
export function joinKeyTexts(
  aOffsetsPtr: usize,
  aBytesPtr: usize,
  bOffsetsPtr: usize,
  bBytesPtr: usize,
  count: i32,
  separator: u32,
  targetOffsetsPtr: usize,
  targetBytesPtr: usize,
): u32 {
  let end: u32 = 0
  store<u32>(targetOffsetsPtr, 0)
  for (let i = 0; i < count; i++) {
    const at = (<usize>i) << 2
    const aStart = load<u32>(aOffsetsPtr + at)
    const aByteLength = load<u32>(aOffsetsPtr + at, 4) - aStart
    copyText(targetBytesPtr + end, aBytesPtr + aStart, aByteLength)
    end += aByteLength
    store<u8>(targetBytesPtr + end++, <u8>separator)
    const bStart = load<u32>(bOffsetsPtr + at)
    const bByteLength = load<u32>(bOffsetsPtr + at, 4) - bStart
    copyText(targetBytesPtr + end, bBytesPtr + bStart, bByteLength)
    end += bByteLength
    store<u32>(targetOffsetsPtr + at, end, 4)
  }
  return end
}

/** The first row whose text has fewer than byteLengthMin or more than byteLengthMax bytes, or -1. */
export function rowOfBadLength(offsetsPtr: usize, count: i32, byteLengthMin: u32, byteLengthMax: u32): i32 {
  for (let i = 0; i < count; i++) {
    const at = offsetsPtr + ((<usize>i) << 2)
    const byteLength = load<u32>(at, 4) - load<u32>(at)
    if (byteLength < byteLengthMin || byteLength > byteLengthMax) return i
  }
  return -1
}

/**
 * Appends texts to a column of sort keys, each behind the number of its folder as four bytes, most significant first, so
 * that keys in the order of their bytes are in the order of (folder, text).
 *
 * foldersPtr     count × u32, or 0: all stand in folder `folder`
 * targetOffsets  where the offset of the first new key stands; it is read. count × u32 behind it are overwritten
 * targetBytes    the start of the target's text; 4 bytes a key more than the texts have
 */
export function appendKeys(
  offsetsPtr: usize,
  bytesPtr: usize,
  count: i32,
  foldersPtr: usize,
  folder: u32,
  targetOffsetsPtr: usize,
  targetBytesPtr: usize,
): void {
  let end = load<u32>(targetOffsetsPtr)
  for (let i = 0; i < count; i++) {
    const at = (<usize>i) << 2
    if (foldersPtr !== 0) folder = load<u32>(foldersPtr + at)
    store<u32>(targetBytesPtr + end, bswap<u32>(folder))
    end += 4
    const start = load<u32>(offsetsPtr + at)
    const byteLength = load<u32>(offsetsPtr + at, 4) - start
    copyText(targetBytesPtr + end, bytesPtr + start, byteLength)
    end += byteLength
    store<u32>(targetOffsetsPtr + at, end, 4)
  }
}

/** target[i] = table[codes[i]]; codes below the table's length. */
export function translateCodes(codesPtr: usize, count: i32, tablePtr: usize, targetPtr: usize): void {
  for (let i = 0; i < count; i++) {
    const at = (<usize>i) << 2
    store<u32>(targetPtr + at, load<u32>(tablePtr + ((<usize>load<u32>(codesPtr + at)) << 2)))
  }
}

// ---- Which row belongs to which item --------------------------------------------------------------------------------

/**
 * Numbers the distinct keys in sorted order, and of rows with one key the first, second, … time that it occurs.
 *
 * permutation  rowCount × u32: rows by key, rows of one key in their own order
 * itemOf       rowCount × u32, overwritten: the number of the row's key
 * roundOf      rowCount × u32, overwritten: how many rows before it have the same key
 * firstRows    rowCount × u32, overwritten: the first row of each key
 * rounds       one u32, overwritten: the most rows that one key has
 *
 * Returns the number of distinct keys.
 */
export function numberItems(
  offsetsPtr: usize,
  bytesPtr: usize,
  permutationPtr: usize,
  rowCount: i32,
  itemOfPtr: usize,
  roundOfPtr: usize,
  firstRowsPtr: usize,
  roundsPtr: usize,
): i32 {
  let item: i32 = -1
  let round: u32 = 0
  let roundMax: u32 = 0
  let previousPtr: usize = 0
  let previousByteLength: u32 = 0
  for (let i = 0; i < rowCount; i++) {
    const row = load<u32>(permutationPtr + ((<usize>i) << 2))
    const offsetPtr = offsetsPtr + ((<usize>row) << 2)
    const start = load<u32>(offsetPtr)
    const byteLength = load<u32>(offsetPtr, 4) - start
    const ptr = bytesPtr + start
    if (item >= 0 && byteLength === previousByteLength && sameText(ptr, previousPtr, byteLength)) {
      round++
      roundMax = max(roundMax, round)
    } else {
      item++
      round = 0
      store<u32>(firstRowsPtr + ((<usize>item) << 2), row)
      previousPtr = ptr
      previousByteLength = byteLength
    }
    store<u32>(itemOfPtr + ((<usize>row) << 2), item)
    store<u32>(roundOfPtr + ((<usize>row) << 2), round)
  }
  store<u32>(roundsPtr, rowCount === 0 ? 0 : roundMax + 1)
  return item + 1
}

/**
 * The names in sort keys that appendKeys made, of the given rows, and the numbers of their folders.
 *
 * targetOffsets  (count + 1) × u32, overwritten; the first is 0
 * targetBytes    as many bytes as the names have
 * folders        count × u32, overwritten
 */
export function splitKeys(
  offsetsPtr: usize,
  bytesPtr: usize,
  rowsPtr: usize,
  count: i32,
  targetOffsetsPtr: usize,
  targetBytesPtr: usize,
  foldersPtr: usize,
): void {
  let end: u32 = 0
  store<u32>(targetOffsetsPtr, 0)
  for (let i = 0; i < count; i++) {
    const at = (<usize>i) << 2
    const offsetPtr = offsetsPtr + ((<usize>load<u32>(rowsPtr + at)) << 2)
    const start = load<u32>(offsetPtr)
    const byteLength = load<u32>(offsetPtr, 4) - start - 4
    store<u32>(foldersPtr + at, bswap<u32>(load<u32>(bytesPtr + start)))
    copyText(targetBytesPtr + end, bytesPtr + start + 4, byteLength)
    end += byteLength
    store<u32>(targetOffsetsPtr + at, end, 4)
  }
}

/** first, first + 1, … */
export function countUp(count: i32, first: u32, targetPtr: usize): void {
  for (let i = 0; i < count; i++) store<u32>(targetPtr + ((<usize>i) << 2), first + i)
}

/** first, first + 1, … */
export function countUp64(count: i32, first: i64, targetPtr: usize): void {
  for (let i = 0; i < count; i++) store<i64>(targetPtr + ((<usize>i) << 3), first + i)
}

/** Keeps rows whose place in the list has its bit set. In place; returns how many are left. */
export function keepMarkedRows(rowsPtr: usize, count: i32, bitsPtr: usize): i32 {
  let kept = 0
  for (let i = 0; i < count; i++) {
    const row = load<u32>(rowsPtr + ((<usize>i) << 2))
    store<u32>(rowsPtr + ((<usize>kept) << 2), row)
    kept += i32(isSet(bitsPtr, i))
  }
  return kept
}

/** Keeps rows whose item has its bit clear. In place; returns how many are left. */
export function keepRowsOfClearItems(rowsPtr: usize, count: i32, itemOfPtr: usize, bitsPtr: usize): i32 {
  let kept = 0
  for (let i = 0; i < count; i++) {
    const row = load<u32>(rowsPtr + ((<usize>i) << 2))
    const isClear = !isSet(bitsPtr, load<u32>(itemOfPtr + ((<usize>row) << 2)))
    store<u32>(rowsPtr + ((<usize>kept) << 2), row)
    kept += i32(isClear)
  }
  return kept
}

/** Sets the bits of the given items. */
export function markItems(itemsPtr: usize, count: i32, bitsPtr: usize): void {
  for (let i = 0; i < count; i++) setBit(bitsPtr, load<u32>(itemsPtr + ((<usize>i) << 2)))
}

/** Clears the bits of the given items. */
export function clearItems(itemsPtr: usize, count: i32, bitsPtr: usize): void {
  for (let i = 0; i < count; i++) {
    const item = load<u32>(itemsPtr + ((<usize>i) << 2))
    const ptr = bitsPtr + (<usize>item >> 3)
    store<u8>(ptr, <u32>load<u8>(ptr) & ~(1 << (item & 7)))
  }
}

/** target[items[i]] = value. */
export function fillItems64(itemsPtr: usize, count: i32, value: i64, targetPtr: usize): void {
  for (let i = 0; i < count; i++) store<i64>(targetPtr + ((<usize>load<u32>(itemsPtr + ((<usize>i) << 2))) << 3), value)
}

/** The first place of the list whose item has its bit set, or -1. */
export function firstMarkedItem(itemsPtr: usize, count: i32, bitsPtr: usize): i32 {
  for (let i = 0; i < count; i++) if (isSet(bitsPtr, load<u32>(itemsPtr + ((<usize>i) << 2)))) return i
  return -1
}

// ---- Cells of items -------------------------------------------------------------------------------------------------
// Cells of items stand at the item's number: eight bytes each, or a bit; a text is a reference, its place in the low four
// bytes and its length in the high ones. The source is a column of a frame, or what an expression gave: row rows[i] of it,
// or row i where rows is 0. Missing cells leave the target as it is.

function isPresent(validityPtr: usize, row: u32): bool {
  return validityPtr === 0 || isSet(validityPtr, row)
}

/** Puts the present cells of rows to their items, and marks those as present. */
export function assignCells64(
  valuesPtr: usize,
  validityPtr: usize,
  rowsPtr: usize,
  itemsPtr: usize,
  count: i32,
  targetPtr: usize,
  targetValidityPtr: usize,
): void {
  for (let i = 0; i < count; i++) {
    const at = (<usize>i) << 2
    const row = rowsPtr === 0 ? i : load<u32>(rowsPtr + at)
    if (!isPresent(validityPtr, row)) continue
    const item = load<u32>(itemsPtr + at)
    store<u64>(targetPtr + ((<usize>item) << 3), load<u64>(valuesPtr + ((<usize>row) << 3)))
    setBit(targetValidityPtr, item)
  }
}

/** As assignCells64, for bitmaps. */
export function assignCellBits(
  bitsPtr: usize,
  validityPtr: usize,
  rowsPtr: usize,
  itemsPtr: usize,
  count: i32,
  targetPtr: usize,
  targetValidityPtr: usize,
): void {
  for (let i = 0; i < count; i++) {
    const at = (<usize>i) << 2
    const row = rowsPtr === 0 ? i : load<u32>(rowsPtr + at)
    if (!isPresent(validityPtr, row)) continue
    const item = load<u32>(itemsPtr + at)
    const ptr = targetPtr + (<usize>item >> 3)
    const bit = (<u32>1) << (item & 7)
    store<u8>(ptr, isSet(bitsPtr, row) ? <u32>load<u8>(ptr) | bit : <u32>load<u8>(ptr) & ~bit)
    setBit(targetValidityPtr, item)
  }
}

/** As assignCells64, for texts: the target gets references, and the text must stay where it is. */
export function assignCellTexts(
  offsetsPtr: usize,
  bytesPtr: usize,
  validityPtr: usize,
  rowsPtr: usize,
  itemsPtr: usize,
  count: i32,
  targetPtr: usize,
  targetValidityPtr: usize,
): void {
  for (let i = 0; i < count; i++) {
    const at = (<usize>i) << 2
    const row = rowsPtr === 0 ? i : load<u32>(rowsPtr + at)
    if (!isPresent(validityPtr, row)) continue
    const item = load<u32>(itemsPtr + at)
    const offsetPtr = offsetsPtr + ((<usize>row) << 2)
    const start = load<u32>(offsetPtr)
    const targetCell = targetPtr + ((<usize>item) << 3)
    store<u32>(targetCell, <u32>(bytesPtr + start))
    store<u32>(targetCell, load<u32>(offsetPtr, 4) - start, 4)
    setBit(targetValidityPtr, item)
  }
}

/** Clears the bits of items whose row has a cell: an attribute that gets a value of one type loses those of others. */
export function clearPresent(
  validityPtr: usize,
  rowsPtr: usize,
  itemsPtr: usize,
  count: i32,
  targetValidityPtr: usize,
): void {
  for (let i = 0; i < count; i++) {
    const at = (<usize>i) << 2
    const row = rowsPtr === 0 ? i : load<u32>(rowsPtr + at)
    if (!isPresent(validityPtr, row)) continue
    const item = load<u32>(itemsPtr + at)
    const ptr = targetValidityPtr + (<usize>item >> 3)
    store<u8>(ptr, <u32>load<u8>(ptr) & ~(1 << (item & 7)))
  }
}

/** Bytes of text that copyReferenced writes; -1 for 2 GiB or more. */
export function referencedByteLength(cellsPtr: usize, validityPtr: usize, itemsPtr: usize, count: i32): i32 {
  let byteLength: u64 = 0
  for (let i = 0; i < count; i++) {
    const item = load<u32>(itemsPtr + ((<usize>i) << 2))
    if (isSet(validityPtr, item)) byteLength += load<u32>(cellsPtr + ((<usize>item) << 3), 4)
  }
  return byteLength < 0x80000000 ? <i32>byteLength : -1
}

/**
 * The texts of items as a column; '' where there is none.
 *
 * cells          references by item number; only those whose bit is set are read
 * targetOffsets  (count + 1) × u32, overwritten; the first is 0
 * targetBytes    referencedByteLength bytes, overwritten
 */
export function copyReferenced(
  cellsPtr: usize,
  validityPtr: usize,
  itemsPtr: usize,
  count: i32,
  targetOffsetsPtr: usize,
  targetBytesPtr: usize,
): void {
  let end: u32 = 0
  store<u32>(targetOffsetsPtr, 0)
  for (let i = 0; i < count; i++) {
    const at = (<usize>i) << 2
    const item = load<u32>(itemsPtr + at)
    if (isSet(validityPtr, item)) {
      const cellPtr = cellsPtr + ((<usize>item) << 3)
      const byteLength = load<u32>(cellPtr, 4)
      copyText(targetBytesPtr + end, load<u32>(cellPtr), byteLength)
      end += byteLength
    }
    store<u32>(targetOffsetsPtr + at, end, 4)
  }
}

/** Clears the cells of 8 bytes whose bit is clear: a missing cell's value is 0. */
export function clearMissing64(cellsPtr: usize, validityPtr: usize, count: i32): void {
  for (let i = 0; i < count; i++) if (!isSet(validityPtr, i)) store<u64>(cellsPtr + ((<usize>i) << 3), 0)
}
