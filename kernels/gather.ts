// Rows out of columns: the present ones (compact) and back (expand), by row number (gather), and ranges of strings.
// None of the targets may overlap a source.
import { loadBits, storeTail } from './bits'
import { copyText } from './text'

/** In a list of row numbers: no row. It gives 0, false or ''. */
const NO_ROW: u32 = 0xffffffff

/** What "no row" reads; a load from here keeps the loops free of branches. */
const ZERO = memory.data<u64>([0])

/** The bits of rows [row, rowEnd) with row a multiple of 64, at most 64 of them. */
function wordAt(bitsPtr: usize, row: i32, rowCount: i32): u64 {
  return row <= rowCount - 64 ? load<u64>(bitsPtr + (<usize>row >> 3)) : loadBits(bitsPtr, row, rowCount - row)
}

/**
 * Copies the values of the present rows, one after another. Returns how many.
 *
 * values    rowCount × 8 bytes, 8-byte aligned, read only
 * validity  ceil(rowCount / 8) bytes, read only
 * target    countBits(validity, rowCount) × 8 bytes, 8-byte aligned
 */
export function compact64(valuesPtr: usize, validityPtr: usize, rowCount: i32, targetPtr: usize): i32 {
  let target = targetPtr
  for (let row = 0; row < rowCount; row += 64) {
    let word = wordAt(validityPtr, row, rowCount)
    const source = valuesPtr + ((<usize>row) << 3)
    if (word === -1) {
      for (let at: usize = 0; at < 512; at += 16) v128.store(target + at, v128.load(source + at))
      target += 512
      continue
    }
    for (; word !== 0; word &= word - 1) {
      store<u64>(target, load<u64>(source + ((<usize>ctz(word)) << 3)))
      target += 8
    }
  }
  return <i32>((target - targetPtr) >> 3)
}

/**
 * Copies dense values to the present rows, in order; missing rows become 0. The inverse of compact64.
 *
 * dense   countBits(validity, rowCount) × 8 bytes, 8-byte aligned, read only
 * target  rowCount × 8 bytes, 8-byte aligned
 */
export function expand64(densePtr: usize, validityPtr: usize, rowCount: i32, targetPtr: usize): void {
  let source = densePtr
  for (let row = 0; row < rowCount; row += 64) {
    let word = wordAt(validityPtr, row, rowCount)
    const target = targetPtr + ((<usize>row) << 3)
    if (word === -1) {
      for (let at: usize = 0; at < 512; at += 16) v128.store(target + at, v128.load(source + at))
      source += 512
      continue
    }
    memory.fill(target, 0, (<usize>min(rowCount - row, 64)) << 3)
    for (; word !== 0; word &= word - 1) {
      store<u64>(target + ((<usize>ctz(word)) << 3), load<u64>(source))
      source += 8
    }
  }
}

/**
 * Copies the bits of the present rows, one after another. Returns how many. Bits of the target past them are 0.
 *
 * bits, validity  ceil(rowCount / 8) bytes, read only
 * target          ceil(count / 8) bytes, 8-byte aligned
 */
export function compactBits(bitsPtr: usize, validityPtr: usize, rowCount: i32, targetPtr: usize): i32 {
  let count: i32 = 0
  // Bits not written yet: count % 64 of them.
  let pending: u64 = 0
  for (let row = 0; row < rowCount; row += 64) {
    const present = wordAt(validityPtr, row, rowCount)
    const dense = compressBits(wordAt(bitsPtr, row, rowCount), present)
    const shift = <u64>(count & 63)
    const presentCount = <i32>popcnt(present)
    pending |= dense << shift
    if (<i32>shift + presentCount >= 64) {
      store<u64>(targetPtr + ((<usize>count >> 6) << 3), pending)
      pending = shift === 0 ? 0 : dense >> (64 - shift)
    }
    count += presentCount
  }
  if (count & 63) storeTail(targetPtr + ((<usize>count >> 6) << 3), count & 63, pending)
  return count
}

/**
 * Copies dense bits to the present rows, in order; missing rows become 0. The inverse of compactBits.
 *
 * dense   ceil(countBits(validity, rowCount) / 8) bytes, read only
 * target  ceil(rowCount / 8) bytes, 8-byte aligned
 */
export function expandBits(densePtr: usize, validityPtr: usize, rowCount: i32, targetPtr: usize): void {
  let denseRow = 0
  for (let row = 0; row < rowCount; row += 64) {
    const present = wordAt(validityPtr, row, rowCount)
    const presentCount = <i32>popcnt(present)
    let word: u64 = 0
    if (presentCount > 0) word = depositBits(loadBits(densePtr, denseRow, presentCount), present)
    denseRow += presentCount
    const target = targetPtr + (<usize>row >> 3)
    if (row <= rowCount - 64) store<u64>(target, word)
    else storeTail(target, rowCount - row, word)
  }
}

/** One step of the prefix parity: bit i becomes the parity of bits 0 to i. */
function prefixParity(word: u64): u64 {
  word ^= word << 1
  word ^= word << 2
  word ^= word << 4
  word ^= word << 8
  word ^= word << 16
  return word ^ (word << 32)
}

/**
 * The bits of word where mask is set, moved together at the low end (the instruction PEXT, which WebAssembly lacks).
 * Six rounds; in round k the bits move down by 2^k whose number of gaps below has bit k set. After G. L. Steele in
 * H. S. Warren, Hacker's Delight, 2nd edition, 2012, section 7-4.
 */
function compressBits(word: u64, mask: u64): u64 {
  if (mask === -1) return word
  word &= mask
  let gaps = ~mask << 1
  for (let shift: u64 = 1; shift < 64; shift <<= 1) {
    const odd = prefixParity(gaps)
    const moving = odd & mask
    mask = (mask ^ moving) | (moving >> shift)
    const bits = word & moving
    word = (word ^ bits) | (bits >> shift)
    gaps &= ~odd
  }
  return word
}

/** The low bits of word moved to where mask is set (the instruction PDEP): the rounds of compressBits, backwards. */
function depositBits(word: u64, mask: u64): u64 {
  if (mask === -1) return word
  let moved = mask
  let gaps = ~mask << 1
  // The rounds of compressBits, to learn which bits move in each; six names, since kernels have no arrays.
  let odd = prefixParity(gaps)
  const moving0 = odd & moved
  moved = (moved ^ moving0) | (moving0 >> 1)
  gaps &= ~odd
  odd = prefixParity(gaps)
  const moving1 = odd & moved
  moved = (moved ^ moving1) | (moving1 >> 2)
  gaps &= ~odd
  odd = prefixParity(gaps)
  const moving2 = odd & moved
  moved = (moved ^ moving2) | (moving2 >> 4)
  gaps &= ~odd
  odd = prefixParity(gaps)
  const moving3 = odd & moved
  moved = (moved ^ moving3) | (moving3 >> 8)
  gaps &= ~odd
  odd = prefixParity(gaps)
  const moving4 = odd & moved
  moved = (moved ^ moving4) | (moving4 >> 16)
  gaps &= ~odd
  const moving5 = prefixParity(gaps) & moved

  word = v64Merge(word, word << 32, moving5)
  word = v64Merge(word, word << 16, moving4)
  word = v64Merge(word, word << 8, moving3)
  word = v64Merge(word, word << 4, moving2)
  word = v64Merge(word, word << 2, moving1)
  word = v64Merge(word, word << 1, moving0)
  return word & mask
}

/** Bits of b where mask is set, else of a. */
function v64Merge(a: u64, b: u64, mask: u64): u64 {
  return (a & ~mask) | (b & mask)
}

/**
 * The offsets of the present rows of a string column, one after another; the text itself stays as it is, since missing
 * cells are ''. Returns how many rows are present, or -1 when a missing cell has text.
 *
 * offsets        (rowCount + 1) × u32, 4-byte aligned, read only
 * bytes          not read: the target's text is the same buffer
 * targetOffsets  (count + 1) × u32, 4-byte aligned
 */
export function compactStrings(
  offsetsPtr: usize,
  _bytesPtr: usize,
  validityPtr: usize,
  rowCount: i32,
  targetOffsetsPtr: usize,
): i32 {
  let target = targetOffsetsPtr
  let end = load<u32>(offsetsPtr)
  // Any bit set: a present cell does not begin where the one before it ended.
  let gap: u32 = 0
  for (let row = 0; row < rowCount; row += 64) {
    let word = wordAt(validityPtr, row, rowCount)
    const source = offsetsPtr + ((<usize>row) << 2)
    if (word === -1) {
      gap |= load<u32>(source) ^ end
      for (let at: usize = 0; at < 256; at += 16) v128.store(target + at, v128.load(source + at))
      target += 256
      end = load<u32>(source, 256)
      continue
    }
    for (; word !== 0; word &= word - 1) {
      const at = source + ((<usize>ctz(word)) << 2)
      const start = load<u32>(at)
      gap |= start ^ end
      store<u32>(target, start)
      target += 4
      end = load<u32>(at, 4)
    }
  }
  store<u32>(target, end)
  gap |= load<u32>(offsetsPtr + ((<usize>rowCount) << 2)) ^ end
  return gap ? -1 : <i32>((target - targetOffsetsPtr) >> 2)
}

/**
 * The offsets of all rows from those of the present ones; missing cells become ''. The inverse of compactStrings, and
 * the text again stays as it is.
 *
 * denseOffsets   (countBits(validity, rowCount) + 1) × u32, 4-byte aligned, read only
 * targetOffsets  (rowCount + 1) × u32, 4-byte aligned
 */
export function expandOffsets(
  denseOffsetsPtr: usize,
  validityPtr: usize,
  rowCount: i32,
  targetOffsetsPtr: usize,
): void {
  let source = denseOffsetsPtr
  for (let row = 0; row < rowCount; row += 64) {
    let word = wordAt(validityPtr, row, rowCount)
    const target = targetOffsetsPtr + ((<usize>row) << 2)
    if (word === -1) {
      for (let at: usize = 0; at < 256; at += 16) v128.store(target + at, v128.load(source + at))
      source += 256
      continue
    }
    // Target row i begins at the dense offset numbered by the present rows before it.
    const end = target + ((<usize>min(rowCount - row, 64)) << 2)
    for (let ptr = target; ptr < end; ptr += 4) {
      store<u32>(ptr, load<u32>(source))
      source += (<usize>(word & 1)) << 2
      word >>= 1
    }
  }
  store<u32>(targetOffsetsPtr + ((<usize>rowCount) << 2), load<u32>(source))
}

/**
 * target[i] = values[indexes[i]], 0 for index 0xFFFFFFFF.
 *
 * values   8 bytes a row, 8-byte aligned, read only; every index other than 0xFFFFFFFF is a row of it
 * indexes  count × u32, 4-byte aligned, read only
 * target   count × 8 bytes, 8-byte aligned
 */
export function gather64(valuesPtr: usize, indexesPtr: usize, count: i32, targetPtr: usize): void {
  for (let i = 0; i < count; i++) {
    const index = load<u32>(indexesPtr + ((<usize>i) << 2))
    const source = select<usize>(ZERO, valuesPtr + ((<usize>index) << 3), index === NO_ROW)
    store<u64>(targetPtr + ((<usize>i) << 3), load<u64>(source))
  }
}

/**
 * target[places[i]] = values[i]: what gather64 does by the inverse of `places`, in half the time. Values that another core
 * has just written are read in their order, and each group's rows are written one behind the other.
 *
 * values, target  count × 8 bytes, 8-byte aligned
 * places          count × u32, each number below count once, read only
 */
export function place64(valuesPtr: usize, placesPtr: usize, count: i32, targetPtr: usize): void {
  let i = 0
  for (; i + 4 <= count; i += 4) {
    const places = placesPtr + ((<usize>i) << 2)
    const values = valuesPtr + ((<usize>i) << 3)
    store<u64>(targetPtr + ((<usize>load<u32>(places)) << 3), load<u64>(values))
    store<u64>(targetPtr + ((<usize>load<u32>(places, 4)) << 3), load<u64>(values, 8))
    store<u64>(targetPtr + ((<usize>load<u32>(places, 8)) << 3), load<u64>(values, 16))
    store<u64>(targetPtr + ((<usize>load<u32>(places, 12)) << 3), load<u64>(values, 24))
  }
  for (; i < count; i++) {
    const place = load<u32>(placesPtr + ((<usize>i) << 2))
    store<u64>(targetPtr + ((<usize>place) << 3), load<u64>(valuesPtr + ((<usize>i) << 3)))
  }
}

/** places[permutation[i]] = i. Both count × u32; the permutation names each number below count once. */
export function invertPermutation(permutationPtr: usize, count: i32, placesPtr: usize): void {
  for (let i = 0; i < count; i++) {
    const row = load<u32>(permutationPtr + ((<usize>i) << 2))
    store<u32>(placesPtr + ((<usize>row) << 2), i)
  }
}

/** As gather64 for values of 4 bytes, 4-byte aligned. */
export function gather32(valuesPtr: usize, indexesPtr: usize, count: i32, targetPtr: usize): void {
  for (let i = 0; i < count; i++) {
    const index = load<u32>(indexesPtr + ((<usize>i) << 2))
    const source = select<usize>(ZERO, valuesPtr + ((<usize>index) << 2), index === NO_ROW)
    store<u32>(targetPtr + ((<usize>i) << 2), load<u32>(source))
  }
}

/** As gather64 for bitmaps: also the way to gather a validity, where "no row" is missing. */
export function gatherBits(bitsPtr: usize, indexesPtr: usize, count: i32, targetPtr: usize): void {
  for (let first = 0; first < count; first += 64) {
    const bitCount = min(count - first, 64)
    let word: u64 = 0
    for (let i = 0; i < bitCount; i++) {
      const index = load<u32>(indexesPtr + ((<usize>(first + i)) << 2))
      const source = select<usize>(ZERO, bitsPtr + (<usize>index >> 3), index === NO_ROW)
      word |= (<u64>((load<u8>(source) >> (index & 7)) & 1)) << i
    }
    const target = targetPtr + (<usize>first >> 3)
    if (bitCount === 64) store<u64>(target, word)
    else storeTail(target, bitCount, word)
  }
}

/** The bytes of text that gatherStrings will write for these row numbers; -1 if they are 2 GiB or more. */
export function gatheredStringsByteLength(offsetsPtr: usize, indexesPtr: usize, count: i32): i32 {
  let byteLength: u64 = 0
  for (let i = 0; i < count; i++) {
    const index = load<u32>(indexesPtr + ((<usize>i) << 2))
    const source = select<usize>(ZERO, offsetsPtr + ((<usize>index) << 2), index === NO_ROW)
    byteLength += load<u32>(source, 4) - load<u32>(source)
  }
  return byteLength < 0x80000000 ? <i32>byteLength : -1
}

/**
 * The cells of the given rows, '' for index 0xFFFFFFFF. Returns the bytes of text written.
 *
 * offsets        u32, one more than rows, 4-byte aligned, read only; every other index is a row
 * targetOffsets  (count + 1) × u32, 4-byte aligned; the first is 0
 * targetBytes    gatheredStringsByteLength(offsets, indexes, count) bytes
 */
export function gatherStrings(
  offsetsPtr: usize,
  bytesPtr: usize,
  indexesPtr: usize,
  count: i32,
  targetOffsetsPtr: usize,
  targetBytesPtr: usize,
): i32 {
  let written: u32 = 0
  store<u32>(targetOffsetsPtr, 0)
  let i = 0
  while (i < count) {
    const index = load<u32>(indexesPtr + ((<usize>i) << 2))
    // Rows that follow each other, as merges and filters often want them, are copied in one go.
    let runEnd = i + 1
    if (index !== NO_ROW) {
      const next = index - i
      while (runEnd < count && load<u32>(indexesPtr + ((<usize>runEnd) << 2)) === next + runEnd) runEnd++
    }
    if (runEnd - i >= 8) {
      const rowPtr = targetOffsetsPtr + ((<usize>i) << 2)
      written = copyStrings(offsetsPtr, bytesPtr, index, runEnd - i, rowPtr, written, targetBytesPtr)
      i = runEnd
      continue
    }
    for (; i < runEnd; i++) {
      const row = load<u32>(indexesPtr + ((<usize>i) << 2))
      const source = select<usize>(ZERO, offsetsPtr + ((<usize>row) << 2), row === NO_ROW)
      const start = load<u32>(source)
      const byteLength = load<u32>(source, 4) - start
      copyText(targetBytesPtr + written, bytesPtr + start, byteLength)
      written += byteLength
      store<u32>(targetOffsetsPtr + ((<usize>i) << 2), written, 4)
    }
  }
  return <i32>written
}

/**
 * Appends rows [rowStart, rowStart + rowCount) of a string column to another one that has targetFirstOffset bytes of
 * text so far. Returns the offset where the next piece begins.
 *
 * offsets        u32, at least rowStart + rowCount + 1 of them, 4-byte aligned, read only
 * targetOffsets  where the offset of the first new row stands: (rowCount + 1) × u32, 4-byte aligned, the first
 *                becomes targetFirstOffset
 * targetBytes    the start of the target's text
 */
export function copyStrings(
  offsetsPtr: usize,
  bytesPtr: usize,
  rowStart: i32,
  rowCount: i32,
  targetOffsetsPtr: usize,
  targetFirstOffset: u32,
  targetBytesPtr: usize,
): u32 {
  const source = offsetsPtr + ((<usize>rowStart) << 2)
  const start = load<u32>(source)
  const byteLength = load<u32>(source + ((<usize>rowCount) << 2)) - start
  const moved = targetFirstOffset - start
  const movedLanes = i32x4.splat(moved)
  let i = 0
  for (; i <= rowCount - 3; i += 4) {
    const at = (<usize>i) << 2
    v128.store(targetOffsetsPtr + at, i32x4.add(v128.load(source + at), movedLanes))
  }
  for (; i <= rowCount; i++)
    store<u32>(targetOffsetsPtr + ((<usize>i) << 2), load<u32>(source + ((<usize>i) << 2)) + moved)
  memory.copy(targetBytesPtr + targetFirstOffset, bytesPtr + start, byteLength)
  return targetFirstOffset + byteLength
}

/**
 * Marks the indexes that name a row (are not 0xFFFFFFFF).
 *
 * indexes     u32, count of them, read only
 * targetBits  ceil(count / 8) bytes, overwritten
 *
 * Returns the number of rows marked.
 */
export function presentIndexes(indexesPtr: usize, count: i32, targetBitsPtr: usize): i32 {
  let present = 0
  for (let i = 0; i < count; i += 8) {
    const end = min(i + 8, count)
    let bits: u32 = 0
    for (let j = i; j < end; j++) bits |= u32(load<u32>(indexesPtr + ((<usize>j) << 2)) !== 0xffffffff) << (j - i)
    store<u8>(targetBitsPtr + (<usize>i >> 3), <u8>bits)
    present += popcnt(bits)
  }
  return present
}
