// Names of items: their hash and the filter that says which names a block cannot have, and searches in sorted names.
// The hash and the filter are stored (docs/formats.md): they must never change.
import { beginningOf, compareText, copyText, countEqualBytes } from './text'

/** In a list of rows: none. */
const NO_ROW: u32 = 0xffffffff

const MULTIPLIER: u64 = ((<u64>0x9e3779b9) << 32) | 0x7f4a7c15
const OTHER_MULTIPLIER: u64 = ((<u64>0xd6e8feb8) << 32) | 0x6659fd93

/** Bytes of one line of a filter: what the processor fetches at once. */
const LINE_BYTES: u32 = 64

/** The last 1 to 7 bytes of a text as a number, zeros above; reads nothing outside the text. */
function tailWord(ptr: usize, byteLength: u32): u64 {
  if (byteLength >= 4) {
    const low = <u64>load<u32>(ptr)
    if (byteLength === 4) return low
    return low | ((<u64>load<u32>(ptr + byteLength - 4) >> ((8 - byteLength) << 3)) << 32)
  }
  let word: u64 = 0
  for (let i: u32 = 0; i < byteLength; i++) word |= (<u64>load<u8>(ptr + i)) << (i << 3)
  return word
}

/**
 * The hash of a text: every 8 bytes (little endian, the last ones filled up with zeros) are mixed in by a multiplication
 * and a shift, as in multiply-xorshift generators; the length is part of it.
 */
function hashName(ptr: usize, byteLength: u32, seed: u64): u64 {
  let hash = seed ^ (<u64>byteLength * OTHER_MULTIPLIER)
  const end = ptr + (byteLength & ~7)
  for (; ptr < end; ptr += 8) {
    hash = (hash ^ load<u64>(ptr)) * MULTIPLIER
    hash ^= hash >> 32
  }
  if ((byteLength & 7) !== 0) {
    hash = (hash ^ tailWord(ptr, byteLength & 7)) * MULTIPLIER
    hash ^= hash >> 32
  }
  hash *= OTHER_MULTIPLIER
  return hash ^ (hash >> 29)
}

/**
 * Hashes items: each name with the hash of its folder as seed.
 *
 * folderOffsets  (folderCount + 1) × u32, read only; folderBytes their text
 * folderStarts   folderCount × u32: the first name of each folder, ascending, the first 0
 * offsets        (count + 1) × u32, read only; bytes their text
 * hashes         count × u64, overwritten
 */
export function hashItems(
  folderOffsetsPtr: usize,
  folderBytesPtr: usize,
  folderStartsPtr: usize,
  folderCount: i32,
  offsetsPtr: usize,
  bytesPtr: usize,
  count: i32,
  hashesPtr: usize,
): void {
  for (let folder = 0; folder < folderCount; folder++) {
    const folderPtr = folderOffsetsPtr + ((<usize>folder) << 2)
    const folderStart = load<u32>(folderPtr)
    const seed = hashName(folderBytesPtr + folderStart, load<u32>(folderPtr, 4) - folderStart, 0)
    const startPtr = folderStartsPtr + ((<usize>folder) << 2)
    const end = folder + 1 < folderCount ? <i32>load<u32>(startPtr, 4) : count
    let i = <i32>load<u32>(startPtr)
    let start = load<u32>(offsetsPtr + ((<usize>i) << 2))
    for (; i < end; i++) {
      const next = load<u32>(offsetsPtr + ((<usize>i) << 2), 4)
      store<u64>(hashesPtr + ((<usize>i) << 3), hashName(bytesPtr + start, next - start, seed))
      start = next
    }
  }
}

/**
 * Bytes of the filter of `count` names: whole lines, about 16 bits a name. A name that passes by mistake costs a page of
 * names, as much as a thousand probes; 10 bits let 1 in 110 pass, and twenty runs are asked.
 */
export function nameFilterByteLength(count: i32): i32 {
  return <i32>(LINE_BYTES * ((<u32>count * 16 + LINE_BYTES * 8 - 1) / (LINE_BYTES * 8)))
}

/** The line of a hash: its upper half, scaled to the number of lines. */
function lineOf(hash: u64, lineCount: u64): usize {
  return <usize>(((hash >> 32) * lineCount) >> 32) * LINE_BYTES
}

/** Says which words and bits of its line a name has; mixed, because the line has used the upper half. */
function bitsOf(hash: u64): u64 {
  const mixed = hash * MULTIPLIER
  return mixed ^ (mixed >> 32)
}

/** Offset of the first word of a name in its line, and of the second, which is one of the four behind it. */
function firstWord(bits: u64): usize {
  return (<usize>(bits & 7)) << 3
}

function secondWord(bits: u64): usize {
  return (<usize>((bits + 1 + ((bits >> 3) & 3)) & 7)) << 3
}

/** Four bits of the first word, three of the second; 6 bits of `bits` say which each is. */
function firstMask(bits: u64): u64 {
  const one: u64 = 1
  return (one << (bits >> 5)) | (one << (bits >> 11)) | (one << (bits >> 17)) | (one << (bits >> 23))
}

function secondMask(bits: u64): u64 {
  const one: u64 = 1
  return (one << (bits >> 29)) | (one << (bits >> 35)) | (one << (bits >> 41))
}

/**
 * Fills the filter of names: a Bloom filter whose bits of one name are all in one line of 64 bytes (Felix Putze, Peter
 * Sanders, Johannes Singler: Cache-, Hash- and Space-Efficient Bloom Filters, 2007), and there in two words of 8 bytes, so that
 * a probe is two loads; about 1 in 700 absent names passes.
 *
 * hashes  count × u64, read only
 * filter  byteLength bytes (nameFilterByteLength(count)), overwritten
 */
export function buildNameFilter(hashesPtr: usize, count: i32, filterPtr: usize, byteLength: i32): void {
  memory.fill(filterPtr, 0, byteLength)
  const lineCount = <u64>(<u32>byteLength / LINE_BYTES)
  for (let i = 0; i < count; i++) {
    const hash = load<u64>(hashesPtr + ((<usize>i) << 3))
    const line = filterPtr + lineOf(hash, lineCount)
    const bits = bitsOf(hash)
    const first = line + firstWord(bits)
    const second = line + secondWord(bits)
    store<u64>(first, load<u64>(first) | firstMask(bits))
    store<u64>(second, load<u64>(second) | secondMask(bits))
  }
}

/**
 * Keeps the names that a filter does not exclude. Returns how many.
 *
 * hashes   u64 of all names, read only
 * indexes  count × u32: the names to look at, read only
 * target   count × u32 at most, overwritten; may not overlap `indexes`
 */
export function probeNameFilter(
  filterPtr: usize,
  byteLength: i32,
  hashesPtr: usize,
  indexesPtr: usize,
  count: i32,
  targetPtr: usize,
): i32 {
  const lineCount = <u64>(<u32>byteLength / LINE_BYTES)
  let target = targetPtr
  for (let i = 0; i < count; i++) {
    const index = load<u32>(indexesPtr + ((<usize>i) << 2))
    const hash = load<u64>(hashesPtr + ((<usize>index) << 3))
    const line = filterPtr + lineOf(hash, lineCount)
    const bits = bitsOf(hash)
    // Without a branch, so that the loads of the next names need not wait for this one's.
    const absent =
      (firstMask(bits) & ~load<u64>(line + firstWord(bits))) | (secondMask(bits) & ~load<u64>(line + secondWord(bits)))
    store<u32>(target, index)
    target += (<usize>u32(absent === 0)) << 2
  }
  return <i32>((target - targetPtr) >> 2)
}

/**
 * The first of the sorted texts [from, to) that does not stand before `text`; `to` when all do.
 *
 * offsets  u32, one more than texts, read only
 */
export function lowerBoundText(
  offsetsPtr: usize,
  bytesPtr: usize,
  from: i32,
  to: i32,
  textPtr: usize,
  textByteLength: u32,
): i32 {
  let low = from
  let high = to
  while (low < high) {
    const middle = (low + high) >>> 1
    const ptr = offsetsPtr + ((<usize>middle) << 2)
    const start = load<u32>(ptr)
    if (compareText(bytesPtr + start, load<u32>(ptr, 4) - start, textPtr, textByteLength) < 0) low = middle + 1
    else high = middle
  }
  return low
}

/** As lowerBoundText, from a place on that is likely to be near: in steps of 1, 2, 4 … rows, then by halving. */
function gallop(offsetsPtr: usize, bytesPtr: usize, from: i32, to: i32, textPtr: usize, textByteLength: u32): i32 {
  let low = from
  let step = 1
  while (low + step <= to) {
    const ptr = offsetsPtr + ((<usize>(low + step - 1)) << 2)
    const start = load<u32>(ptr)
    if (compareText(bytesPtr + start, load<u32>(ptr, 4) - start, textPtr, textByteLength) >= 0) break
    low += step
    step <<= 1
  }
  return lowerBoundText(offsetsPtr, bytesPtr, low, min(low + step - 1, to), textPtr, textByteLength)
}

/**
 * The pages that sorted names stand in, if anywhere: for each the last page of [pageStart, pageEnd) whose first name is
 * not behind it, else pageStart.
 *
 * fenceOffsets    u32, one more than fences; fence p is the first name of page p, read only
 * offsets, bytes  all names; indexes names the ones to look for, ascending; count × u32, read only
 * pages           count × u32, overwritten
 */
export function findPages(
  fenceOffsetsPtr: usize,
  fenceBytesPtr: usize,
  pageStart: i32,
  pageEnd: i32,
  offsetsPtr: usize,
  bytesPtr: usize,
  indexesPtr: usize,
  count: i32,
  pagesPtr: usize,
): void {
  // The first fence says nothing: it may be of another folder. All others begin as the second and the last do, and the eight
  // bytes behind that mostly tell them apart.
  if (pageEnd - pageStart === 1) {
    for (let i = 0; i < count; i++) store<u32>(pagesPtr + ((<usize>i) << 2), <u32>pageStart)
    return
  }
  const secondPtr = fenceOffsetsPtr + ((<usize>(pageStart + 1)) << 2)
  const secondStart = load<u32>(secondPtr)
  const lastPtr = fenceOffsetsPtr + ((<usize>(pageEnd - 1)) << 2)
  const lastStart = load<u32>(lastPtr)
  const shared = countEqualBytes(
    fenceBytesPtr + secondStart,
    fenceBytesPtr + lastStart,
    min(load<u32>(secondPtr, 4) - secondStart, load<u32>(lastPtr, 4) - lastStart),
  )
  for (let i = 0; i < count; i++) {
    const ptr = offsetsPtr + ((<usize>load<u32>(indexesPtr + ((<usize>i) << 2))) << 2)
    const start = load<u32>(ptr)
    const byteLength = load<u32>(ptr, 4) - start
    const textPtr = bytesPtr + start
    let low = pageStart
    // Of a name that begins in another way all fences are on one side.
    const order = compareText(textPtr, min(byteLength, shared), fenceBytesPtr + secondStart, shared)
    if (order > 0) low = pageEnd - 1
    if (order === 0) {
      const restByteLength = byteLength - shared
      const beginning = beginningOf(textPtr + shared, restByteLength)
      // Fence `low` is not behind the name, or the first; fence `high` is.
      let high = pageEnd
      while (high - low > 1) {
        const middle = (low + high) >>> 1
        const fencePtr = fenceOffsetsPtr + ((<usize>middle) << 2)
        const fenceStart = load<u32>(fencePtr) + shared
        const fenceByteLength = load<u32>(fencePtr, 4) - fenceStart
        const other = beginningOf(fenceBytesPtr + fenceStart, fenceByteLength)
        let isBehind = other > beginning
        if (other === beginning)
          isBehind = compareText(fenceBytesPtr + fenceStart, fenceByteLength, textPtr + shared, restByteLength) > 0
        // Not by a branch: which half it is nobody can guess.
        low = select<i32>(low, middle, isBehind)
        high = select<i32>(middle, high, isBehind)
      }
    }
    store<u32>(pagesPtr + ((<usize>i) << 2), <u32>low)
  }
}

/** Fields of a block of a run, u32 each: see findPagesOfRun. */
const RUN_BLOCK_BYTE_LENGTH: usize = 24

/**
 * The pages that sorted names stand in, if anywhere, in blocks of one folder that follow each other without overlap: a name is
 * looked for in the last block whose first name is not behind it. Returns how many names the filters do not exclude.
 *
 * blocks          blockCount × (filter address, its bytes, fence offsets address, fence text address, pages, unused), in the
 *                 order of their names; the last fence is not looked at
 * offsets, bytes  all names, sorted; hashes: u64 each
 * pending         pendingCount × u32: the names to look for, ascending, read only
 * survivors       pendingCount × u32, overwritten: those that may be there, in the order of blocks and names
 * pages           pendingCount × u32, overwritten: the page of each in its block
 * starts          (blockCount + 1) × u32, overwritten: the survivors of each block
 */
export function findPagesOfRun(
  blocksPtr: usize,
  blockCount: i32,
  offsetsPtr: usize,
  bytesPtr: usize,
  hashesPtr: usize,
  pendingPtr: usize,
  pendingCount: i32,
  survivorsPtr: usize,
  pagesPtr: usize,
  startsPtr: usize,
): i32 {
  let next = pendingBehindFence(blocksPtr, offsetsPtr, bytesPtr, pendingPtr, 0, pendingCount)
  let survivorCount = 0
  for (let block = 0; block < blockCount; block++) {
    const blockPtr = blocksPtr + <usize>block * RUN_BLOCK_BYTE_LENGTH
    const from = next
    next =
      block + 1 === blockCount
        ? pendingCount
        : pendingBehindFence(blockPtr + RUN_BLOCK_BYTE_LENGTH, offsetsPtr, bytesPtr, pendingPtr, from, pendingCount)
    store<u32>(startsPtr + ((<usize>block) << 2), <u32>survivorCount)
    const at = (<usize>survivorCount) << 2
    const count = probeNameFilter(
      <usize>load<u32>(blockPtr),
      load<u32>(blockPtr, 4),
      hashesPtr,
      pendingPtr + ((<usize>from) << 2),
      next - from,
      survivorsPtr + at,
    )
    findPages(
      <usize>load<u32>(blockPtr, 8),
      <usize>load<u32>(blockPtr, 12),
      0,
      load<u32>(blockPtr, 16),
      offsetsPtr,
      bytesPtr,
      survivorsPtr + at,
      count,
      pagesPtr + at,
    )
    survivorCount += count
  }
  store<u32>(startsPtr + ((<usize>blockCount) << 2), <u32>survivorCount)
  return survivorCount
}

/** The first of the pending names [from, to) that does not stand before the first fence of a block; `to` when all do. */
function pendingBehindFence(
  blockPtr: usize,
  offsetsPtr: usize,
  bytesPtr: usize,
  pendingPtr: usize,
  from: i32,
  to: i32,
): i32 {
  const fencePtr = <usize>load<u32>(blockPtr, 8)
  const fenceStart = load<u32>(fencePtr)
  const fenceByteLength = load<u32>(fencePtr, 4) - fenceStart
  const textPtr = <usize>load<u32>(blockPtr, 12) + fenceStart
  let low = from
  let high = to
  while (low < high) {
    const middle = (low + high) >>> 1
    const ptr = offsetsPtr + ((<usize>load<u32>(pendingPtr + ((<usize>middle) << 2))) << 2)
    const start = load<u32>(ptr)
    if (compareText(bytesPtr + start, load<u32>(ptr, 4) - start, textPtr, fenceByteLength) < 0) low = middle + 1
    else high = middle
  }
  return low
}

/**
 * The rows of sorted names among the sorted rows [rowStart, rowEnd) of a page. Returns how many were found.
 *
 * pageOffsets  u32, one more than rows of the page, read only; pageBytes their text
 * offsets, bytes, indexes, count  as in findPages
 * rows         count × u32, overwritten: row in the page, or 0xffffffff
 */
export function findRows(
  pageOffsetsPtr: usize,
  pageBytesPtr: usize,
  rowStart: i32,
  rowEnd: i32,
  offsetsPtr: usize,
  bytesPtr: usize,
  indexesPtr: usize,
  count: i32,
  rowsPtr: usize,
): i32 {
  let row = rowStart
  let foundCount = 0
  // Many names in a page: the next one is near. Few: halving what is left is shorter.
  const isDense = count > 16
  for (let i = 0; i < count; i++) {
    const ptr = offsetsPtr + ((<usize>load<u32>(indexesPtr + ((<usize>i) << 2))) << 2)
    const start = load<u32>(ptr)
    const byteLength = load<u32>(ptr, 4) - start
    const textPtr = bytesPtr + start
    row = isDense
      ? gallop(pageOffsetsPtr, pageBytesPtr, row, rowEnd, textPtr, byteLength)
      : lowerBoundText(pageOffsetsPtr, pageBytesPtr, row, rowEnd, textPtr, byteLength)
    let found = NO_ROW
    if (row < rowEnd) {
      const pagePtr = pageOffsetsPtr + ((<usize>row) << 2)
      const pageStart = load<u32>(pagePtr)
      if (compareText(pageBytesPtr + pageStart, load<u32>(pagePtr, 4) - pageStart, textPtr, byteLength) === 0) {
        found = <u32>row
        foundCount++
      }
    }
    store<u32>(rowsPtr + ((<usize>i) << 2), found)
  }
  return foundCount
}

/**
 * Writes down where names were found: for those with a row that is not dead, `source` and the row.
 *
 * indexes         count × u32: the names looked for, read only; rows: count × u32 in the page, 0xffffffff for none
 * rowOffset       added to the rows of the page; dead: bitmap of the block's dead rows, or 0
 * sources, found  u32 of all names; written where found. Returns how many were.
 */
export function takeFound(
  indexesPtr: usize,
  rowsPtr: usize,
  count: i32,
  rowOffset: u32,
  deadPtr: usize,
  source: u32,
  sourcesPtr: usize,
  foundPtr: usize,
): i32 {
  let taken = 0
  for (let i = 0; i < count; i++) {
    const pageRow = load<u32>(rowsPtr + ((<usize>i) << 2))
    if (pageRow === NO_ROW) continue
    const row = pageRow + rowOffset
    if (deadPtr !== 0 && ((<u32>load<u8>(deadPtr + (<usize>row >> 3)) >> (row & 7)) & 1) !== 0) continue
    const at = (<usize>load<u32>(indexesPtr + ((<usize>i) << 2))) << 2
    store<u32>(sourcesPtr + at, source)
    store<u32>(foundPtr + at, row)
    taken++
  }
  return taken
}

/** Drops from a list of names those that have a source by now. Returns how many are left. */
export function dropFound(indexesPtr: usize, count: i32, sourcesPtr: usize): i32 {
  let target = indexesPtr
  for (let i = 0; i < count; i++) {
    const index = load<u32>(indexesPtr + ((<usize>i) << 2))
    store<u32>(target, index)
    target += (<usize>u32(load<u32>(sourcesPtr + ((<usize>index) << 2)) === NO_ROW)) << 2
  }
  return <i32>((target - indexesPtr) >> 2)
}

// ---- Cells of found rows --------------------------------------------------------------------------------------------

/**
 * Sorts places by the source that they name, in the order of the places (a counting sort). Returns how many have one.
 *
 * sources  count × u32, below sourceCount or 0xffffffff, read only
 * places   count × u32 at most, overwritten
 * starts   (sourceCount + 1) × u32, overwritten: those of source s are places[starts[s]] to before places[starts[s + 1]]
 */
export function groupBySource(
  sourcesPtr: usize,
  count: i32,
  sourceCount: i32,
  placesPtr: usize,
  startsPtr: usize,
): i32 {
  memory.fill(startsPtr, 0, (<usize>sourceCount + 1) << 2)
  for (let i = 0; i < count; i++) {
    const source = load<u32>(sourcesPtr + ((<usize>i) << 2))
    if (source === NO_ROW) continue
    const ptr = startsPtr + ((<usize>source) << 2)
    store<u32>(ptr, load<u32>(ptr) + 1)
  }
  // Counts become ends, and each place that is put in moves its end down to a start.
  let end: u32 = 0
  for (let source = 0; source <= sourceCount; source++) {
    const ptr = startsPtr + ((<usize>source) << 2)
    end += load<u32>(ptr)
    store<u32>(ptr, end)
  }
  for (let i = count - 1; i >= 0; i--) {
    const source = load<u32>(sourcesPtr + ((<usize>i) << 2))
    if (source === NO_ROW) continue
    const ptr = startsPtr + ((<usize>source) << 2)
    const place = load<u32>(ptr) - 1
    store<u32>(ptr, place)
    store<u32>(placesPtr + ((<usize>place) << 2), <u32>i)
  }
  return <i32>end
}

/**
 * Copies cells of one page to where they are wanted: target[places[i]] = values[rows[places[i]] - rowOffset].
 *
 * places  count × u32, read only; rows: u32, read only
 */
export function scatter64(
  valuesPtr: usize,
  placesPtr: usize,
  count: i32,
  rowsPtr: usize,
  rowOffset: u32,
  targetPtr: usize,
): void {
  for (let i = 0; i < count; i++) {
    const place = <usize>load<u32>(placesPtr + ((<usize>i) << 2))
    const row = <usize>(load<u32>(rowsPtr + (place << 2)) - rowOffset)
    store<u64>(targetPtr + (place << 3), load<u64>(valuesPtr + (row << 3)))
  }
}

/** As scatter64 for bits; `bits` 0: all ones. Bits of other places stay. Returns how many bits were set. */
export function scatterBits(
  bitsPtr: usize,
  placesPtr: usize,
  count: i32,
  rowsPtr: usize,
  rowOffset: u32,
  targetPtr: usize,
): i32 {
  let setCount = 0
  for (let i = 0; i < count; i++) {
    const place = load<u32>(placesPtr + ((<usize>i) << 2))
    let bit: u32 = 1
    if (bitsPtr !== 0) {
      const row = load<u32>(rowsPtr + ((<usize>place) << 2)) - rowOffset
      bit = (<u32>load<u8>(bitsPtr + (<usize>row >> 3)) >> (row & 7)) & 1
    }
    setCount += bit
    const ptr = targetPtr + (<usize>place >> 3)
    store<u8>(ptr, (<u32>load<u8>(ptr) & ~(1 << (place & 7))) | (bit << (place & 7)))
  }
  return setCount
}

/** Bytes of text that scatterTexts will copy; -1 if they are 2 GiB or more. */
export function scatteredTextsByteLength(
  offsetsPtr: usize,
  placesPtr: usize,
  count: i32,
  rowsPtr: usize,
  rowOffset: u32,
): i32 {
  let byteLength: u64 = 0
  for (let i = 0; i < count; i++) {
    const place = <usize>load<u32>(placesPtr + ((<usize>i) << 2))
    const ptr = offsetsPtr + ((<usize>(load<u32>(rowsPtr + (place << 2)) - rowOffset)) << 2)
    byteLength += load<u32>(ptr, 4) - load<u32>(ptr)
  }
  return byteLength < 0x80000000 ? <i32>byteLength : -1
}

/**
 * Copies texts of one page one behind the other, and says for each place where its text stands.
 *
 * offsets, bytes       of the page, read only
 * target               scatteredTextsByteLength(…) bytes
 * starts, byteLengths  u32 a place: address and length of its text; written for `places` only
 */
export function scatterTexts(
  offsetsPtr: usize,
  bytesPtr: usize,
  placesPtr: usize,
  count: i32,
  rowsPtr: usize,
  rowOffset: u32,
  targetPtr: usize,
  startsPtr: usize,
  byteLengthsPtr: usize,
): void {
  let target = targetPtr
  for (let i = 0; i < count; i++) {
    const place = <usize>load<u32>(placesPtr + ((<usize>i) << 2))
    const ptr = offsetsPtr + ((<usize>(load<u32>(rowsPtr + (place << 2)) - rowOffset)) << 2)
    const start = load<u32>(ptr)
    const byteLength = load<u32>(ptr, 4) - start
    copyText(target, bytesPtr + start, byteLength)
    store<u32>(startsPtr + (place << 2), <u32>target)
    store<u32>(byteLengthsPtr + (place << 2), byteLength)
    target += byteLength
  }
}

/**
 * Copies texts from anywhere into one string column.
 *
 * starts, byteLengths  count × u32: address and length of each text, read only
 * targetOffsets        (count + 1) × u32; targetBytes: the sum of the lengths
 */
export function joinTexts(
  startsPtr: usize,
  byteLengthsPtr: usize,
  count: i32,
  targetOffsetsPtr: usize,
  targetBytesPtr: usize,
): void {
  let written: u32 = 0
  store<u32>(targetOffsetsPtr, 0)
  for (let i = 0; i < count; i++) {
    const byteLength = load<u32>(byteLengthsPtr + ((<usize>i) << 2))
    copyText(targetBytesPtr + written, <usize>load<u32>(startsPtr + ((<usize>i) << 2)), byteLength)
    written += byteLength
    store<u32>(targetOffsetsPtr + ((<usize>i) << 2), written, 4)
  }
}

// ---- Merging sorted names -------------------------------------------------------------------------------------------

/** One cursor: u32 address of offsets, address of text, row, row after the last one, row of the page's first, source, dead bits. */
const CURSOR_BYTES: usize = 32

/** Bytes of one cursor of mergeNames. */
export function nameCursorByteLength(): i32 {
  return <i32>CURSOR_BYTES
}

function isDead(cursor: usize, row: u32): bool {
  const deadPtr = <usize>load<u32>(cursor, 24)
  if (deadPtr === 0) return false
  const blockRow = row + load<u32>(cursor, 16)
  return ((<u32>load<u8>(deadPtr + (<usize>blockRow >> 3)) >> (blockRow & 7)) & 1) !== 0
}

/** Whether the name of cursor a stands before that of cursor b; of equal ones (all but one are dead), either. */
function isBefore(a: usize, b: usize): bool {
  const aPtr = <usize>load<u32>(a) + ((<usize>load<u32>(a, 8)) << 2)
  const bPtr = <usize>load<u32>(b) + ((<usize>load<u32>(b, 8)) << 2)
  const aStart = load<u32>(aPtr)
  const bStart = load<u32>(bPtr)
  return (
    compareText(
      <usize>load<u32>(a, 4) + aStart,
      load<u32>(aPtr, 4) - aStart,
      <usize>load<u32>(b, 4) + bStart,
      load<u32>(bPtr, 4) - bStart,
    ) < 0
  )
}

/** Lets the cursor at `place` of the heap sink to where it belongs. */
function sink(heapPtr: usize, heapCount: i32, place: i32): void {
  const cursor = load<u32>(heapPtr + ((<usize>place) << 2))
  while (true) {
    let child = 2 * place + 1
    if (child >= heapCount) break
    if (
      child + 1 < heapCount &&
      isBefore(<usize>load<u32>(heapPtr + ((<usize>child) << 2), 4), <usize>load<u32>(heapPtr + ((<usize>child) << 2)))
    )
      child++
    const below = load<u32>(heapPtr + ((<usize>child) << 2))
    if (!isBefore(<usize>below, <usize>cursor)) break
    store<u32>(heapPtr + ((<usize>place) << 2), below)
    place = child
  }
  store<u32>(heapPtr + ((<usize>place) << 2), cursor)
}

/**
 * Merges sorted names: writes down the living rows of all cursors in the order of their names, until a cursor has no rows
 * left, `capacity` rows are written, or a name reaches the limit.
 *
 * cursors   cursorCount × 32 bytes: u32 address of the page's offsets, of its text, next row in the page, row after the last
 *           one (there is at least one), the page's first row in its block, number of the source, address of the block's
 *           dead bits or 0, 0. The rows are moved on.
 * heap      cursorCount × u32, overwritten
 * limit     address and length of the first name that is not wanted; address 0: none
 * sources, rows  u32, capacity of them, written from the start
 * result    u32: rows written
 *
 * Returns the index of the cursor that ended, -1 when capacity was reached, -2 at the limit.
 */
export function mergeNames(
  cursorsPtr: usize,
  cursorCount: i32,
  heapPtr: usize,
  limitPtr: usize,
  limitByteLength: u32,
  capacity: i32,
  sourcesPtr: usize,
  rowsPtr: usize,
  resultPtr: usize,
): i32 {
  for (let i = 0; i < cursorCount; i++)
    store<u32>(heapPtr + ((<usize>i) << 2), <u32>(cursorsPtr + <usize>i * CURSOR_BYTES))
  for (let place = (cursorCount >> 1) - 1; place >= 0; place--) sink(heapPtr, cursorCount, place)
  let written = 0
  let ended = -1
  while (written < capacity) {
    const cursor = <usize>load<u32>(heapPtr)
    const row = load<u32>(cursor, 8)
    if (limitPtr !== 0) {
      const ptr = <usize>load<u32>(cursor) + ((<usize>row) << 2)
      const start = load<u32>(ptr)
      if (compareText(<usize>load<u32>(cursor, 4) + start, load<u32>(ptr, 4) - start, limitPtr, limitByteLength) >= 0) {
        ended = -2
        break
      }
    }
    if (!isDead(cursor, row)) {
      store<u32>(sourcesPtr + ((<usize>written) << 2), load<u32>(cursor, 20))
      store<u32>(rowsPtr + ((<usize>written) << 2), row + load<u32>(cursor, 16))
      written++
    }
    store<u32>(cursor, row + 1, 8)
    if (row + 1 === load<u32>(cursor, 12)) {
      ended = <i32>((cursor - cursorsPtr) / CURSOR_BYTES)
      break
    }
    sink(heapPtr, cursorCount, 0)
  }
  store<u32>(resultPtr, written)
  return ended
}
