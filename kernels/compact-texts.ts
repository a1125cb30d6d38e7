// Pages of texts as they are kept for look-ups: any text is found without decoding the others, and what all of them begin
// with stands there once. Never stored.
//
//   │ entryCount u32 │ codeWidth u32 │ validityByteLength u32 │ prefixByteLength u32 │ offsetByteLength u32 │ codesByteLength u32 │
//   │ validity │ codes, 8-byte aligned │ (entryCount + 1) × offset, 8-byte aligned │ prefix │ texts │ 8 unused bytes │
//
// Row r has entry code[r]; its text is the prefix and what stands between two offsets, which are counted from the prefix on.
// Where each row is an entry of its own, there stands instead of the codes, for a search in sorted texts, what every 16th of
// them begins with behind the prefix: eight bytes, the first one highest, zeros behind a shorter text, the highest bit turned
// over, so that numbers with a sign order as the texts do.
import { putBit } from './bits'
import { packedByteLength, readNarrowBits } from './codes'
import { CODEC_CONSTANT, CODEC_DICTIONARY, CODEC_STRINGS, PAGE_COUNT_MAX } from './page-codecs'
import { beginningOf, compareText, copyText, countEqualBytes, sameText } from './text'

const HEADER_BYTE_LENGTH: usize = 24
/** As codeWidth: each row is its own entry. */
const NO_CODES: u32 = 32
/** Rows from one beginning to the next. */
const ROWS_PER_BEGINNING: u32 = 16
const HIGHEST_BIT: u64 = 0x8000000000000000
/** In a list of rows: none. */
const NO_ROW: u32 = 0xffffffff
/** As the length of a text: its cell is missing. */
const NO_TEXT: u32 = 0xffffffff

function alignUp8(byteLength: usize): usize {
  return (byteLength + 7) & ~7
}

/** Bytes that compactTexts writes at most for an encoded page of byteLength bytes. */
export function compactTextsByteLengthMax(byteLength: i32, rowCount: i32): i32 {
  return <i32>HEADER_BYTE_LENGTH + byteLength + 6 * rowCount + (((rowCount + 63) >> 6) << 3) + 64
}

/**
 * Writes an encoded page of texts in the form above; returns its bytes, at most compactTextsByteLengthMax, or -1 when the
 * page is malformed.
 *
 * page      byteLength bytes, as encodeStringPage wrote them for presentCount texts
 * validity  bitmap of rowCount rows, whole 8 bytes, presentCount of them set; 0: presentCount = rowCount
 * target    8-byte aligned; all of compactTextsByteLengthMax bytes may be written
 */
export function compactTexts(
  pagePtr: usize,
  byteLength: i32,
  presentCount: i32,
  validityPtr: usize,
  rowCount: i32,
  targetPtr: usize,
): i32 {
  if (byteLength < 1 || presentCount < 1 || presentCount > rowCount || rowCount > PAGE_COUNT_MAX) return -1
  const validityByteLength = validityPtr === 0 ? <usize>0 : (<usize>((rowCount + 63) >> 6)) << 3
  store<u32>(targetPtr, <u32>validityByteLength, 8)
  memory.copy(targetPtr + HEADER_BYTE_LENGTH, validityPtr, validityByteLength)
  const codec = <i32>load<u8>(pagePtr)
  if (codec === CODEC_CONSTANT) return compactConstant(pagePtr, byteLength, targetPtr)
  if (codec === CODEC_STRINGS) return compactPlain(pagePtr, byteLength, presentCount, validityPtr, rowCount, targetPtr)
  if (codec !== CODEC_DICTIONARY) return -1
  return compactDictionary(pagePtr, byteLength, presentCount, validityPtr, rowCount, targetPtr)
}

/** Writes the rest of a header, whose validity is there already; returns where the codes begin. */
function writeHeader(
  targetPtr: usize,
  entryCount: i32,
  codeWidth: u32,
  prefixByteLength: u32,
  offsetByteLength: u32,
  codesByteLength: usize,
): usize {
  store<u32>(targetPtr, <u32>entryCount)
  store<u32>(targetPtr, codeWidth, 4)
  store<u32>(targetPtr, prefixByteLength, 12)
  store<u32>(targetPtr, offsetByteLength, 16)
  store<u32>(targetPtr, <u32>codesByteLength, 20)
  return targetPtr + HEADER_BYTE_LENGTH + <usize>load<u32>(targetPtr, 8)
}

function storeOffset(offsetsPtr: usize, index: i32, offsetByteLength: u32, offset: u32): void {
  if (offsetByteLength === 2) store<u16>(offsetsPtr + ((<usize>index) << 1), <u16>offset)
  else store<u32>(offsetsPtr + ((<usize>index) << 2), offset)
}

function offsetByteLengthOf(byteLength: u32): u32 {
  return byteLength < 65536 ? 2 : 4
}

function offsetsByteLengthOf(entryCount: i32, offsetByteLength: u32): usize {
  return alignUp8(<usize>(entryCount + 1) * <usize>offsetByteLength)
}

function compactConstant(pagePtr: usize, byteLength: i32, targetPtr: usize): i32 {
  const length = <u32>byteLength - 1
  const offsetByteLength = offsetByteLengthOf(length)
  const offsetsPtr = writeHeader(targetPtr, 1, 0, 0, offsetByteLength, 0)
  storeOffset(offsetsPtr, 0, offsetByteLength, 0)
  storeOffset(offsetsPtr, 1, offsetByteLength, length)
  const textPtr = offsetsPtr + offsetsByteLengthOf(1, offsetByteLength)
  copyText(textPtr, pagePtr + 1, length)
  return <i32>(textPtr + length - targetPtr) + 8
}

function compactPlain(
  pagePtr: usize,
  byteLength: i32,
  presentCount: i32,
  validityPtr: usize,
  rowCount: i32,
  targetPtr: usize,
): i32 {
  if (byteLength < 6) return -1
  const total = load<u32>(pagePtr, 1)
  const width = <i32>load<u8>(pagePtr, 5)
  if (width > 31) return -1
  const end = pagePtr + <usize>byteLength
  const lengthsPtr = pagePtr + 6
  const sourcePtr = lengthsPtr + <usize>packedByteLength(presentCount, width)
  if (sourcePtr > end || end - sourcePtr !== <usize>total) return -1
  // What all texts begin with.
  let prefixByteLength: u32 = 0
  let offset: u32 = 0
  for (let i = 0; i < presentCount; i++) {
    const length = readNarrowBits(lengthsPtr, end, i * width, width)
    if (length > total - offset) return -1
    prefixByteLength = i === 0 ? length : countEqualBytes(sourcePtr, sourcePtr + offset, min(length, prefixByteLength))
    offset += length
  }
  if (offset !== total) return -1
  const textByteLength = prefixByteLength + total - <u32>presentCount * prefixByteLength
  const offsetByteLength = offsetByteLengthOf(textByteLength)
  const beginningsByteLength = (<usize>((<u32>rowCount + ROWS_PER_BEGINNING - 1) / ROWS_PER_BEGINNING)) << 3
  const beginningsPtr = writeHeader(
    targetPtr,
    rowCount,
    NO_CODES,
    prefixByteLength,
    offsetByteLength,
    beginningsByteLength,
  )
  const offsetsPtr = beginningsPtr + beginningsByteLength
  const textPtr = offsetsPtr + offsetsByteLengthOf(rowCount, offsetByteLength)
  copyText(textPtr, sourcePtr, prefixByteLength)
  let source = sourcePtr
  let next = prefixByteLength
  for (let row = 0, i = 0; row < rowCount; row++) {
    storeOffset(offsetsPtr, row, offsetByteLength, next)
    if (!isPresent(validityPtr, row)) continue
    const length = readNarrowBits(lengthsPtr, end, i++ * width, width)
    copyText(textPtr + next, source + prefixByteLength, length - prefixByteLength)
    source += length
    next += length - prefixByteLength
  }
  storeOffset(offsetsPtr, rowCount, offsetByteLength, next)
  for (let row: u32 = 0; row < <u32>rowCount; row += ROWS_PER_BEGINNING) {
    const start = offsetAt(offsetsPtr, offsetByteLength, row)
    const length = offsetAt(offsetsPtr, offsetByteLength, row + 1) - start
    const beginning = beginningOf(textPtr + start, length) ^ HIGHEST_BIT
    store<u64>(beginningsPtr + <usize>((row / ROWS_PER_BEGINNING) << 3), beginning)
  }
  return <i32>(textPtr + textByteLength - targetPtr) + 8
}

function compactDictionary(
  pagePtr: usize,
  byteLength: i32,
  presentCount: i32,
  validityPtr: usize,
  rowCount: i32,
  targetPtr: usize,
): i32 {
  if (byteLength < 9) return -1
  const end = pagePtr + <usize>byteLength
  const startCount = <i32>load<u16>(pagePtr, 5)
  const startByteLength = <i32>load<u8>(pagePtr, 7)
  const codeWidth = <i32>load<u8>(pagePtr, 8)
  if (startCount >= presentCount || (startByteLength !== 2 && startByteLength !== 4) || codeWidth > 12) return -1
  const startsPtr = pagePtr + 9
  const codesPtr = startsPtr + <usize>(startCount * startByteLength)
  const sourcePtr = codesPtr + <usize>packedByteLength(presentCount, codeWidth)
  if (sourcePtr > end) return -1
  const textByteLength = <u32>(end - sourcePtr)
  const offsetByteLength = offsetByteLengthOf(textByteLength)
  const entryCount = startCount + 1
  const codesByteLength = (<usize>((rowCount * codeWidth + 63) >> 6)) << 3
  const targetCodesPtr = writeHeader(targetPtr, entryCount, <u32>codeWidth, 0, offsetByteLength, codesByteLength)
  let target = targetCodesPtr
  let held: u64 = 0
  let heldCount = 0
  for (let row = 0, i = 0; row < rowCount; row++) {
    const code = isPresent(validityPtr, row) ? readNarrowBits(codesPtr, end, i++ * codeWidth, codeWidth) : 0
    if (<i32>code > startCount) return -1
    held |= (<u64>code) << heldCount
    heldCount += codeWidth
    if (heldCount < 64) continue
    store<u64>(target, held)
    target += 8
    heldCount -= 64
    held = heldCount === 0 ? 0 : <u64>code >> (codeWidth - heldCount)
  }
  if (heldCount > 0) store<u64>(target, held)
  const offsetsPtr = targetCodesPtr + codesByteLength
  storeOffset(offsetsPtr, 0, offsetByteLength, 0)
  let before: u32 = 0
  for (let entry = 1; entry <= startCount; entry++) {
    const startPtr = startsPtr + <usize>((entry - 1) * startByteLength)
    const start = startByteLength === 2 ? <u32>load<u16>(startPtr) : load<u32>(startPtr)
    if (start < before || start > textByteLength) return -1
    storeOffset(offsetsPtr, entry, offsetByteLength, start)
    before = start
  }
  storeOffset(offsetsPtr, entryCount, offsetByteLength, textByteLength)
  const textPtr = offsetsPtr + offsetsByteLengthOf(entryCount, offsetByteLength)
  memory.copy(textPtr, sourcePtr, textByteLength)
  return <i32>(textPtr + textByteLength - targetPtr) + 8
}

function isPresent(validityPtr: usize, row: i32): bool {
  return validityPtr === 0 || ((<u32>load<u8>(validityPtr + (<usize>row >> 3)) >> (row & 7)) & 1) !== 0
}

// ---- reading --------------------------------------------------------------------------------------------------------

function codesOf(pagePtr: usize): usize {
  return pagePtr + HEADER_BYTE_LENGTH + <usize>load<u32>(pagePtr, 8)
}

function offsetsOf(pagePtr: usize): usize {
  return codesOf(pagePtr) + <usize>load<u32>(pagePtr, 20)
}

function textsOf(pagePtr: usize): usize {
  return offsetsOf(pagePtr) + offsetsByteLengthOf(<i32>load<u32>(pagePtr), load<u32>(pagePtr, 16))
}

/** The entry of a row. */
function entryAt(codesPtr: usize, codeWidth: u32, row: u32): u32 {
  if (codeWidth === NO_CODES) return row
  const bitIndex = row * codeWidth
  return <u32>(load<u64>(codesPtr + <usize>(bitIndex >> 3)) >> (bitIndex & 7)) & ((1 << codeWidth) - 1)
}

function offsetAt(offsetsPtr: usize, offsetByteLength: u32, entry: u32): u32 {
  return offsetByteLength === 2
    ? <u32>load<u16>(offsetsPtr + ((<usize>entry) << 1))
    : load<u32>(offsetsPtr + ((<usize>entry) << 2))
}

/**
 * Where texts of compact pages stand: text i is that of row pageRows[i] of page pages[i]. Returns how many bytes
 * scatterCompactTexts will copy; -1 if they are 2 GiB or more.
 *
 * In loops of few instructions, each of which fetches what the one before has found: code, offsets, text; see scatterCompact.
 *
 * pages, pageRows  count × u32, read only
 * texts            (count + 1) × 2 × u32, 8-byte aligned, overwritten: address behind the prefix and bytes from there on, NO_TEXT
 *                  for a missing one; address 0 where the page is 0; the last one undefined
 */
export function locateCompactTexts(pagesPtr: usize, pageRowsPtr: usize, count: i32, textsPtr: usize): i32 {
  for (let i = 0; i < count; i++) {
    const at = (<usize>i) << 2
    const pagePtr = <usize>load<u32>(pagesPtr + at)
    // Page 0 has nothing to say, but can be read. Where each row is its own entry, there are eight bytes, too.
    const codeWidth = load<u32>(pagePtr, 4)
    const bitIndex = codeWidth === NO_CODES ? 0 : load<u32>(pageRowsPtr + at) * codeWidth
    const codesPtr = pagePtr + HEADER_BYTE_LENGTH + <usize>load<u32>(pagePtr, 8)
    store<u32>(textsPtr + (at << 1), pagePtr === 0 ? 0 : <u32>codesPtr + (bitIndex >> 3))
  }
  fetchAll(textsPtr, count)
  for (let i = 0; i < count; i++) {
    const at = (<usize>i) << 2
    const pagePtr = <usize>load<u32>(pagesPtr + at)
    const textPtr = textsPtr + (at << 1)
    if (pagePtr === 0) {
      store<u32>(textPtr, 0)
      continue
    }
    const row = load<u32>(pageRowsPtr + at)
    const codeWidth = load<u32>(pagePtr, 4)
    const code = <u32>(load<u64>(textPtr) >> ((row * codeWidth) & 7)) & ((1 << codeWidth) - 1)
    const entry = codeWidth === NO_CODES ? row : code
    store<u32>(textPtr, <u32>offsetsOf(pagePtr) + entry * load<u32>(pagePtr, 16))
  }
  fetchAll(textsPtr, count)
  let byteLength: u64 = 0
  for (let i = 0; i < count; i++) {
    const at = (<usize>i) << 2
    const pagePtr = <usize>load<u32>(pagesPtr + at)
    const textPtr = textsPtr + (at << 1)
    if (pagePtr === 0) {
      store<u32>(textPtr, 0)
      continue
    }
    const offsets = load<u64>(textPtr)
    const isShort = load<u32>(pagePtr, 16) === 2
    const start = isShort ? <u32>offsets & 0xffff : <u32>offsets
    const end = isShort ? <u32>offsets >> 16 : <u32>(offsets >> 32)
    const isThere =
      load<u32>(pagePtr, 8) === 0 || isPresent(pagePtr + HEADER_BYTE_LENGTH, <i32>load<u32>(pageRowsPtr + at))
    store<u32>(textPtr, <u32>textsOf(pagePtr) + start)
    store<u32>(textPtr, isThere ? end - start : NO_TEXT, 4)
    if (isThere) byteLength += end - start + load<u32>(pagePtr, 12)
  }
  return byteLength < 0x80000000 ? <i32>byteLength : -1
}

/** Puts in the place of addresses the eight bytes that stand there. */
function fetchAll(addressesPtr: usize, count: i32): void {
  for (let i = 0; i < count; i++) {
    const ptr = addressesPtr + ((<usize>i) << 3)
    store<u64>(ptr, load<u64>(<usize>load<u32>(ptr)))
  }
}

/**
 * Copies texts of compact pages one behind the other, and says for each place where its text stands: text i goes to places[i].
 * Bits of validity are written as in scatterCompact; a missing cell has an empty text. Texts whose page is 0 are left out.
 * Returns how many cells are present.
 *
 * pages, places        count × u32, read only; texts: as locateCompactTexts wrote them; the last one is overwritten
 * target               as many bytes as that said
 * starts, byteLengths  u32 a place: address and length of its text
 */
export function scatterCompactTexts(
  pagesPtr: usize,
  placesPtr: usize,
  textsPtr: usize,
  count: i32,
  targetPtr: usize,
  startsPtr: usize,
  byteLengthsPtr: usize,
  targetValidityPtr: usize,
): i32 {
  // Fetched first, as in locateCompactTexts; what they say does not matter yet.
  let touched: u32 = 0
  for (let i = 0; i < count; i++) touched ^= <u32>load<u8>(<usize>load<u32>(textsPtr + ((<usize>i) << 3)))
  store<u32>(textsPtr + ((<usize>count) << 3), touched)
  let target = targetPtr
  let presentCount = 0
  for (let i = 0; i < count; i++) {
    const at = (<usize>i) << 2
    const pagePtr = <usize>load<u32>(pagesPtr + at)
    if (pagePtr === 0) continue
    const place = load<u32>(placesPtr + at)
    const textPtr = textsPtr + ((<usize>i) << 3)
    const restByteLength = load<u32>(textPtr, 4)
    const isThere = restByteLength !== NO_TEXT
    putBit(targetValidityPtr, <i32>place, isThere)
    let length: u32 = 0
    if (isThere) {
      presentCount++
      const prefixByteLength = load<u32>(pagePtr, 12)
      if (prefixByteLength > 0) copyText(target, textsOf(pagePtr), prefixByteLength)
      copyText(target + prefixByteLength, <usize>load<u32>(textPtr), restByteLength)
      length = prefixByteLength + restByteLength
    }
    store<u32>(startsPtr + ((<usize>place) << 2), <u32>target)
    store<u32>(byteLengthsPtr + ((<usize>place) << 2), length)
    target += length
  }
  return presentCount
}

/**
 * The rows of names, each in its compact page of names, none of which is missing. Returns how many were found.
 *
 * Each step (header, beginnings, offsets, texts) is one for all names, and what it reads is fetched before in a loop of few
 * instructions, as in scatterCompact.
 *
 * pages                   count × u32: number in the block of the page that name i would stand in
 * pagePtrs                count × u32: that page; 0: its name is not looked for
 * pageStarts              u32: the first row of each page, then the block's row count
 * rowStart, rowEnd        the rows of the block that count: they are sorted
 * offsets, bytes, indexes as in findPages
 * work                    count × 16 bytes, 8-byte aligned, overwritten
 * rows                    count × u32, overwritten: row in the block, or 0xffffffff
 */
export function findCompactRows(
  pagesPtr: usize,
  pagePtrsPtr: usize,
  pageStartsPtr: usize,
  rowStart: u32,
  rowEnd: u32,
  offsetsPtr: usize,
  bytesPtr: usize,
  indexesPtr: usize,
  count: i32,
  workPtr: usize,
  rowsPtr: usize,
): i32 {
  for (let i = 0; i < count; i++) {
    const pagePtr = <usize>load<u32>(pagePtrsPtr + ((<usize>i) << 2))
    if (pagePtr !== 0) store<u32>(workPtr + ((<usize>i) << 4), <u32>textsOf(pagePtr))
  }
  for (let i = 0; i < count; i++) {
    const pagePtr = <usize>load<u32>(pagePtrsPtr + ((<usize>i) << 2))
    if (pagePtr === 0) continue
    const placePtr = workPtr + ((<usize>i) << 4)
    store<u32>(placePtr, touchBeginnings(pagePtr) ^ <u32>load<u8>(<usize>load<u32>(placePtr)), 4)
  }
  for (let i = 0; i < count; i++) {
    const at = (<usize>i) << 2
    const pagePtr = <usize>load<u32>(pagePtrsPtr + at)
    if (pagePtr === 0) continue
    const pageStartPtr = pageStartsPtr + ((<usize>load<u32>(pagesPtr + at)) << 2)
    const pageStart = load<u32>(pageStartPtr)
    const from = max(rowStart, pageStart) - pageStart
    const to = min(rowEnd, load<u32>(pageStartPtr, 4)) - pageStart
    const namePtr = offsetsPtr + ((<usize>load<u32>(indexesPtr + at)) << 2)
    const start = load<u32>(namePtr)
    narrowRows(pagePtr, from, to, bytesPtr + start, load<u32>(namePtr, 4) - start, workPtr + ((<usize>i) << 4))
  }
  for (let i = 0; i < count; i++) {
    const pagePtr = <usize>load<u32>(pagePtrsPtr + ((<usize>i) << 2))
    if (pagePtr === 0) continue
    const placePtr = workPtr + ((<usize>i) << 4)
    const low = load<u32>(placePtr, 4)
    const high = load<u32>(placePtr, 8)
    const hasCodes = load<u32>(pagePtr, 4) !== NO_CODES
    const offsetByteLength = load<u32>(pagePtr, 16)
    const offsetsOfPage = offsetsOf(pagePtr)
    // Of a page with codes the texts are somewhere: their search waits for each of them.
    const first = hasCodes || low >= high ? 0 : offsetAt(offsetsOfPage, offsetByteLength, low)
    const end = hasCodes || low >= high ? 0 : offsetAt(offsetsOfPage, offsetByteLength, high)
    store<u32>(placePtr, load<u32>(placePtr) + first)
    store<u32>(placePtr, end - first, 12)
  }
  for (let i = 0; i < count; i++) {
    if (load<u32>(pagePtrsPtr + ((<usize>i) << 2)) === 0) continue
    const placePtr = workPtr + ((<usize>i) << 4)
    const textPtr = <usize>load<u32>(placePtr)
    const byteLength = load<u32>(placePtr, 12)
    // Three lines at most of what the search will read; what they say does not matter.
    const touched =
      load<u8>(textPtr) ^ load<u8>(textPtr + min(byteLength, 64)) ^ load<u8>(textPtr + min(byteLength, 128))
    store<u8>(placePtr, touched)
  }
  let foundCount = 0
  for (let i = 0; i < count; i++) {
    const at = (<usize>i) << 2
    const pagePtr = <usize>load<u32>(pagePtrsPtr + at)
    let found = NO_ROW
    if (pagePtr !== 0) {
      const placePtr = workPtr + ((<usize>i) << 4)
      const namePtr = offsetsPtr + ((<usize>load<u32>(indexesPtr + at)) << 2)
      const start = load<u32>(namePtr)
      const byteLength = load<u32>(namePtr, 4) - start
      const row = rowOfText(pagePtr, load<u32>(placePtr, 4), load<u32>(placePtr, 8), bytesPtr + start, byteLength)
      if (row !== NO_ROW) {
        found = row + load<u32>(pageStartsPtr + ((<usize>load<u32>(pagesPtr + at)) << 2))
        foundCount++
      }
    }
    store<u32>(rowsPtr + at, found)
  }
  return foundCount
}

/** Reads something of each line of memory in which beginnings of up to 1024 rows stand, and before. */
function touchBeginnings(pagePtr: usize): u32 {
  const byteLength = load<u32>(pagePtr, 20)
  const ptr = pagePtr + HEADER_BYTE_LENGTH
  let touched: u32 = 0
  for (let at: u32 = 0; at < min<u32>(byteLength, 8 * (1024 / ROWS_PER_BEGINNING)); at += 64)
    touched ^= load<u8>(ptr + at)
  return touched
}

/**
 * Among which of the sorted rows [from, to) of a page a text is, if anywhere: their first and end are put at 4 and 8 of `place`,
 * where the address of the page's texts stands; equal where it is not there.
 */
function narrowRows(pagePtr: usize, from: u32, to: u32, textPtr: usize, byteLength: u32, placePtr: usize): void {
  const prefixByteLength = load<u32>(pagePtr, 12)
  let low = from
  let high = to
  if (byteLength < prefixByteLength || !sameText(textPtr, <usize>load<u32>(placePtr), prefixByteLength)) {
    high = low
  } else if (load<u32>(pagePtr, 4) === NO_CODES) {
    // How many beginnings of these rows are before the text's, and how many not behind it. All are looked at, and not by
    // halving: loads that wait for nothing cost less than a few that wait for each other.
    const codesPtr = codesOf(pagePtr)
    const first = (from + ROWS_PER_BEGINNING - 1) / ROWS_PER_BEGINNING
    const end = max(first, (to + ROWS_PER_BEGINNING - 1) / ROWS_PER_BEGINNING)
    const wanted = <i64>(beginningOf(textPtr + prefixByteLength, byteLength - prefixByteLength) ^ HIGHEST_BIT)
    const wantedTwice = i64x2.splat(wanted)
    let before = i64x2.splat(0)
    let notBehind = i64x2.splat(0)
    let at = first
    for (; at + 2 <= end; at += 2) {
      const beginnings = v128.load(codesPtr + ((<usize>at) << 3))
      before = i64x2.sub(before, i64x2.lt_s(beginnings, wantedTwice))
      notBehind = i64x2.sub(notBehind, i64x2.le_s(beginnings, wantedTwice))
    }
    let beforeEnd = first + <u32>(i64x2.extract_lane(before, 0) + i64x2.extract_lane(before, 1))
    let notBehindEnd = first + <u32>(i64x2.extract_lane(notBehind, 0) + i64x2.extract_lane(notBehind, 1))
    if (at < end) {
      const last = load<i64>(codesPtr + ((<usize>at) << 3))
      beforeEnd += u32(last < wanted)
      notBehindEnd += u32(last <= wanted)
    }
    if (beforeEnd > 0) low = max(from, (beforeEnd - 1) * ROWS_PER_BEGINNING)
    high = min(to, notBehindEnd * ROWS_PER_BEGINNING)
  }
  store<u32>(placePtr, low, 4)
  store<u32>(placePtr, high, 8)
}

/** The row of a text, which begins as all of the page do, among the sorted rows [low, high). */
function rowOfText(pagePtr: usize, low: u32, high: u32, textPtr: usize, byteLength: u32): u32 {
  const codeWidth = load<u32>(pagePtr, 4)
  const prefixByteLength = load<u32>(pagePtr, 12)
  const offsetByteLength = load<u32>(pagePtr, 16)
  const codesPtr = codesOf(pagePtr)
  const offsetsPtr = offsetsOf(pagePtr)
  const pageTextPtr = textsOf(pagePtr)
  const restPtr = textPtr + prefixByteLength
  const restByteLength = byteLength - prefixByteLength
  const beginning = low < high ? beginningOf(restPtr, restByteLength) : 0
  while (low < high) {
    const middle = (low + high) >>> 1
    const entry = entryAt(codesPtr, codeWidth, middle)
    const start = offsetAt(offsetsPtr, offsetByteLength, entry)
    const length = offsetAt(offsetsPtr, offsetByteLength, entry + 1) - start
    // Eight bytes can be read anywhere in the page.
    let other = bswap<u64>(load<u64>(pageTextPtr + start))
    if (length < 8) other = length === 0 ? 0 : other & (~(<u64>0) << (64 - (length << 3)))
    let order = i32(other > beginning) - i32(other < beginning)
    if (order === 0) {
      order =
        length <= 8 && restByteLength <= 8
          ? i32(length > restByteLength) - i32(length < restByteLength)
          : compareText(pageTextPtr + start, length, restPtr, restByteLength)
      if (order === 0) return middle
    }
    // Not by a branch: which half it is nobody can guess.
    low = select<u32>(middle + 1, low, order < 0)
    high = select<u32>(high, middle, order < 0)
  }
  return NO_ROW
}
