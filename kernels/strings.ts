// Pages of strings: one text, a dictionary with a code a row, or lengths and texts, as they are or in 4 or 6 bits a byte.
import { CODEC_CONSTANT, CODEC_DICTIONARY, CODEC_NARROW, CODEC_STRINGS, PAGE_COUNT_MAX } from './page-codecs'
import { bitLength, packBits, packedByteLength, readNarrowBits } from './codes'
import {
  ALPHABET_MAX,
  NARROW_BYTE_LENGTH_MIN,
  narrowByteLength,
  narrowWidth,
  packNarrow,
  unpackNarrow,
} from './narrow-texts'

/** Slots of the hash table that finds equal texts; at most half of them are taken. */
const SLOT_COUNT: i32 = 8192
/** When so many rows at the beginning have each its own long text, no dictionary is made. */
const DIFFERENT_COUNT: i32 = 1024
const LONG_BYTE_LENGTH: u32 = 64

/** Bytes that encodeStringPage writes at most, for `byteLength` bytes of text in `count` rows. */
export function maxEncodedStringPage(count: i32, byteLength: i32): i32 {
  return 32 + byteLength + (count << 2) + (count << 1)
}

/**
 * Encodes the texts of one page and returns the bytes written, at most maxEncodedStringPage(count, byte length).
 *
 * offsets  (count + 1) × u32, 4-byte aligned, 1 <= count <= 4096; text i is bytes + offsets[i] … bytes + offsets[i + 1],
 *          so that a page may be a window into a larger column (the first offset need not be 0)
 * target   maxEncodedStringPage(count, offsets[count] - offsets[0]) bytes; all of them may be written
 * scratch  PAGE_SCRATCH bytes, 16-byte aligned, overwritten
 * mayNarrow  1: texts of few different bytes may take 4 or 6 bits for each
 */
export function encodeStringPage(
  offsetsPtr: usize,
  bytesPtr: usize,
  count: i32,
  targetPtr: usize,
  scratchPtr: usize,
  mayNarrow: i32,
): i32 {
  const slotsPtr = scratchPtr
  const codesPtr = slotsPtr + <usize>SLOT_COUNT * 4
  const entriesPtr = codesPtr + <usize>PAGE_COUNT_MAX * 8
  memory.fill(slotsPtr, 0, <usize>SLOT_COUNT * 4)
  const textPtr = bytesPtr + <usize>load<u32>(offsetsPtr)
  const totalByteLength = load<u32>(offsetsPtr + ((<usize>count) << 2)) - load<u32>(offsetsPtr)

  // The dictionary: entry k is the text of the row where it was first seen; a slot holds an entry's number + 1.
  let entryCount = 0
  let entryByteLength: u32 = 0
  let longest: u32 = 0
  let code = 0
  let text = textPtr
  let length: u32 = u32.MAX_VALUE
  for (let i = 0; i < count; i++) {
    const offsetPtr = offsetsPtr + ((<usize>i) << 2)
    const start = load<u32>(offsetPtr)
    const textBefore = text
    const lengthBefore = length
    length = load<u32>(offsetPtr, 4) - start
    text = bytesPtr + <usize>start
    if (i === DIFFERENT_COUNT && entryCount === i && start - load<u32>(offsetsPtr) >= LONG_BYTE_LENGTH * <u32>i) {
      // As if all were different, which they nearly always are.
      entryCount = count
      entryByteLength = totalByteLength
      longest = longestText(offsetsPtr, count)
      break
    }
    // Very often a text is that of the row before.
    if (length === lengthBefore && isSame(textBefore, text, length)) {
      store<u64>(codesPtr + ((<usize>i) << 3), <u64>code)
      continue
    }
    longest = max(longest, length)
    let slot = hash(text, length) & (SLOT_COUNT - 1)
    while (true) {
      const slotPtr = slotsPtr + ((<usize>slot) << 2)
      code = <i32>load<u32>(slotPtr) - 1
      if (code < 0) {
        code = entryCount
        store<u32>(slotPtr, <u32>(code + 1))
        store<u32>(entriesPtr + ((<usize>code) << 2), <u32>i)
        entryByteLength += length
        entryCount++
        break
      }
      const entryPtr = offsetsPtr + ((<usize>load<u32>(entriesPtr + ((<usize>code) << 2))) << 2)
      const entryStart = load<u32>(entryPtr)
      if (load<u32>(entryPtr, 4) - entryStart === length && isSame(bytesPtr + <usize>entryStart, text, length)) break
      slot = (slot + 1) & (SLOT_COUNT - 1)
    }
    store<u64>(codesPtr + ((<usize>i) << 3), <u64>code)
  }

  if (entryCount === 1) {
    store<u8>(targetPtr, <u8>CODEC_CONSTANT)
    memory.copy(targetPtr + 1, textPtr, <usize>longest)
    return 1 + <i32>longest
  }
  const codeWidth = bitLength(<u64>(entryCount - 1))
  const startByteLength = entryByteLength < 65536 ? 2 : 4
  const lengthWidth = bitLength(<u64>longest)
  const dictionaryByteLength =
    9 + (entryCount - 1) * startByteLength + packedByteLength(count, codeWidth) + <i32>entryByteLength
  const plainByteLength = 6 + packedByteLength(count, lengthWidth) + <i32>totalByteLength
  // Where a dictionary saves less than a quarter, few different bytes save more.
  if (mayNarrow !== 0 && totalByteLength >= NARROW_BYTE_LENGTH_MIN && 4 * dictionaryByteLength > 3 * plainByteLength) {
    const byteLength = encodeNarrow(offsetsPtr, textPtr, count, totalByteLength, lengthWidth, targetPtr, scratchPtr)
    if (byteLength > 0) return byteLength
  }
  if (dictionaryByteLength < plainByteLength) {
    store<u8>(targetPtr, <u8>CODEC_DICTIONARY)
    store<u32>(targetPtr, totalByteLength, 1)
    store<u16>(targetPtr, <u16>(entryCount - 1), 5)
    store<u8>(targetPtr, <u8>startByteLength, 7)
    store<u8>(targetPtr, <u8>codeWidth, 8)
    let target = targetPtr + 9
    let start: u32 = 0
    for (let k = 1; k < entryCount; k++) {
      const entryPtr = offsetsPtr + ((<usize>load<u32>(entriesPtr + ((<usize>(k - 1)) << 2))) << 2)
      start += load<u32>(entryPtr, 4) - load<u32>(entryPtr)
      if (startByteLength === 2) store<u16>(target, <u16>start)
      else store<u32>(target, start)
      target += <usize>startByteLength
    }
    target += packBits(codesPtr, count, codeWidth, target)
    for (let k = 0; k < entryCount; k++) {
      const entryPtr = offsetsPtr + ((<usize>load<u32>(entriesPtr + ((<usize>k) << 2))) << 2)
      const length = <usize>(load<u32>(entryPtr, 4) - load<u32>(entryPtr))
      memory.copy(target, bytesPtr + <usize>load<u32>(entryPtr), length)
      target += length
    }
    return <i32>(target - targetPtr)
  }
  store<u8>(targetPtr, <u8>CODEC_STRINGS)
  store<u32>(targetPtr, totalByteLength, 1)
  store<u8>(targetPtr, <u8>lengthWidth, 5)
  const target = targetPtr + 6 + <usize>packLengths(offsetsPtr, count, lengthWidth, targetPtr + 6, codesPtr)
  memory.copy(target, textPtr, <usize>totalByteLength)
  return <i32>(target - targetPtr) + <i32>totalByteLength
}

/** A page of texts of few different bytes; returns its bytes, 0 when there are too many. */
function encodeNarrow(
  offsetsPtr: usize,
  textPtr: usize,
  count: i32,
  totalByteLength: u32,
  lengthWidth: i32,
  targetPtr: usize,
  scratchPtr: usize,
): i32 {
  const lengthsPtr = targetPtr + 7
  const codesPtr = lengthsPtr + <usize>packedByteLength(count, lengthWidth)
  // Which width fits shows within the first bytes, nearly always.
  let alphabetCount = packNarrow(textPtr, totalByteLength, 4, codesPtr, scratchPtr)
  if (alphabetCount === 0) alphabetCount = packNarrow(textPtr, totalByteLength, 6, codesPtr, scratchPtr)
  if (alphabetCount === 0) return 0
  store<u8>(targetPtr, <u8>CODEC_NARROW)
  store<u32>(targetPtr, totalByteLength, 1)
  store<u8>(targetPtr, <u8>lengthWidth, 5)
  store<u8>(targetPtr, <u8>alphabetCount, 6)
  packLengths(offsetsPtr, count, lengthWidth, lengthsPtr, scratchPtr)
  const codesByteLength = narrowByteLength(totalByteLength, narrowWidth(alphabetCount))
  return <i32>(codesPtr - targetPtr) + <i32>codesByteLength + alphabetCount
}

/** scratch: 8 bytes a row. Returns the bytes written. */
function packLengths(offsetsPtr: usize, count: i32, width: i32, targetPtr: usize, scratchPtr: usize): i32 {
  for (let i = 0; i < count; i++) {
    const offsetPtr = offsetsPtr + ((<usize>i) << 2)
    store<u64>(scratchPtr + ((<usize>i) << 3), <u64>(load<u32>(offsetPtr, 4) - load<u32>(offsetPtr)))
  }
  return packBits(scratchPtr, count, width, targetPtr)
}

function longestText(offsetsPtr: usize, count: i32): u32 {
  let longest: u32 = 0
  for (let i = 0; i < count; i++) {
    const offsetPtr = offsetsPtr + ((<usize>i) << 2)
    longest = max(longest, load<u32>(offsetPtr, 4) - load<u32>(offsetPtr))
  }
  return longest
}

/** Bytes of text that decodeStringPage will write; -1 when the page is malformed. */
export function decodedStringByteLength(pagePtr: usize, byteLength: i32, count: i32): i32 {
  if (byteLength < 1 || count < 1 || count > PAGE_COUNT_MAX) return -1
  const codec = <i32>load<u8>(pagePtr)
  if (codec === CODEC_CONSTANT) {
    const total = (<i64>byteLength - 1) * <i64>count
    return total > <i64>i32.MAX_VALUE ? -1 : <i32>total
  }
  if (codec !== CODEC_STRINGS && codec !== CODEC_DICTIONARY && codec !== CODEC_NARROW) return -1
  if (byteLength < 6) return -1
  const total = <i32>load<u32>(pagePtr, 1)
  return total < 0 ? -1 : total
}

/**
 * Decodes a page of `count` texts. Returns 0, or -1 when the bytes are not such a page; whatever the bytes, it reads
 * only [page, page + byteLength) and writes only the target bytes.
 *
 * targetOffsets  (count + 1) × u32, 4-byte aligned; the first is 0
 * targetBytes    decodedStringByteLength bytes
 */
export function decodeStringPage(
  pagePtr: usize,
  byteLength: i32,
  count: i32,
  targetOffsetsPtr: usize,
  targetBytesPtr: usize,
): i32 {
  const total = decodedStringByteLength(pagePtr, byteLength, count)
  if (total < 0) return -1
  const end = pagePtr + <usize>byteLength
  const codec = <i32>load<u8>(pagePtr)
  if (codec === CODEC_CONSTANT) {
    const length = <usize>byteLength - 1
    for (let i: usize = 0; i < <usize>count; i++) {
      store<u32>(targetOffsetsPtr + (i << 2), <u32>(i * length))
      copyText(pagePtr + 1, end, targetBytesPtr + i * length, targetBytesPtr + <usize>total, length)
    }
    store<u32>(targetOffsetsPtr + ((<usize>count) << 2), <u32>total)
    return 0
  }
  if (codec === CODEC_STRINGS) return decodePlain(pagePtr, byteLength, count, total, targetOffsetsPtr, targetBytesPtr)
  if (codec === CODEC_NARROW) return decodeNarrow(pagePtr, byteLength, count, total, targetOffsetsPtr, targetBytesPtr)
  return decodeDictionary(pagePtr, byteLength, count, total, targetOffsetsPtr, targetBytesPtr)
}

/**
 * Decodes a page of texts that go on where others end: as decodeStringPage, but their offsets begin at `first` and their bytes
 * stand there, counted from the start of all texts. Returns 0 or -1.
 */
export function decodeStringPageAt(
  pagePtr: usize,
  byteLength: i32,
  count: i32,
  targetOffsetsPtr: usize,
  first: u32,
  targetBytesPtr: usize,
): i32 {
  if (decodeStringPage(pagePtr, byteLength, count, targetOffsetsPtr, targetBytesPtr + <usize>first) < 0) return -1
  if (first === 0) return 0
  let at = targetOffsetsPtr
  const end = at + ((<usize>count) << 2)
  const shift = i32x4.splat(<i32>first)
  for (; at + 16 <= end; at += 16) v128.store(at, i32x4.add(v128.load(at), shift))
  for (; at <= end; at += 4) store<u32>(at, load<u32>(at) + first)
  return 0
}

/**
 * Bytes of the texts of rows [from, to) of a page of `count` texts, 0 <= from <= to <= count, without decoding any; -1 when only
 * decoding can tell, or the page is malformed. Reads only the page.
 */
export function stringRowsByteLength(pagePtr: usize, byteLength: i32, count: i32, from: i32, to: i32): i32 {
  const total = decodedStringByteLength(pagePtr, byteLength, count)
  if (total < 0 || (from === 0 && to === count)) return total
  const codec = <i32>load<u8>(pagePtr)
  if (codec === CODEC_CONSTANT) return (byteLength - 1) * (to - from)
  if (codec !== CODEC_STRINGS && codec !== CODEC_NARROW) return -1
  const width = <i32>load<u8>(pagePtr, 5)
  const lengthsPtr = pagePtr + (codec === CODEC_STRINGS ? 6 : 7)
  const end = pagePtr + <usize>byteLength
  if (width > 31 || lengthsPtr + <usize>packedByteLength(count, width) > end) return -1
  let sum: u64 = 0
  for (let i = from; i < to; i++) sum += <u64>readNarrowBits(lengthsPtr, end, i * width, width)
  return sum > <u64>total ? -1 : <i32>sum
}

function decodePlain(
  pagePtr: usize,
  byteLength: i32,
  count: i32,
  total: i32,
  targetOffsetsPtr: usize,
  targetBytesPtr: usize,
): i32 {
  const width = <i32>load<u8>(pagePtr, 5)
  if (width > 31) return -1
  const lengthsPtr = pagePtr + 6
  const lengthsByteLength = packedByteLength(count, width)
  if (byteLength - 6 - lengthsByteLength !== total) return -1
  const textPtr = lengthsPtr + <usize>lengthsByteLength
  if (!offsetsOfLengths(lengthsPtr, pagePtr + <usize>byteLength, count, width, total, targetOffsetsPtr)) return -1
  memory.copy(targetBytesPtr, textPtr, <usize>total)
  return 0
}

function decodeNarrow(
  pagePtr: usize,
  byteLength: i32,
  count: i32,
  total: i32,
  targetOffsetsPtr: usize,
  targetBytesPtr: usize,
): i32 {
  if (byteLength < 7) return -1
  const width = <i32>load<u8>(pagePtr, 5)
  const alphabetCount = <i32>load<u8>(pagePtr, 6)
  if (width > 31 || alphabetCount < 1 || alphabetCount > ALPHABET_MAX) return -1
  const end = pagePtr + <usize>byteLength
  const lengthsPtr = pagePtr + 7
  const lengthsByteLength = packedByteLength(count, width)
  const codesByteLength = narrowByteLength(<u32>total, narrowWidth(alphabetCount))
  if (<i64>byteLength - 7 - lengthsByteLength - alphabetCount !== <i64>codesByteLength) return -1
  if (!offsetsOfLengths(lengthsPtr, end, count, width, total, targetOffsetsPtr)) return -1
  unpackNarrow(lengthsPtr + <usize>lengthsByteLength, end, alphabetCount, <u32>total, targetBytesPtr)
  return 0
}

/** Offsets of texts of these lengths; false unless they are `total` bytes together. */
function offsetsOfLengths(
  lengthsPtr: usize,
  end: usize,
  count: i32,
  width: i32,
  total: i32,
  targetOffsetsPtr: usize,
): bool {
  let offset: u64 = 0
  for (let i = 0; i < count; i++) {
    store<u32>(targetOffsetsPtr + ((<usize>i) << 2), <u32>offset)
    offset += <u64>readNarrowBits(lengthsPtr, end, i * width, width)
  }
  store<u32>(targetOffsetsPtr + ((<usize>count) << 2), <u32>total)
  return offset === <u64>total
}

function decodeDictionary(
  pagePtr: usize,
  byteLength: i32,
  count: i32,
  total: i32,
  targetOffsetsPtr: usize,
  targetBytesPtr: usize,
): i32 {
  if (byteLength < 9) return -1
  const end = pagePtr + <usize>byteLength
  const startCount = <u32>load<u16>(pagePtr, 5)
  const startByteLength = <i32>load<u8>(pagePtr, 7)
  const codeWidth = <i32>load<u8>(pagePtr, 8)
  if ((startByteLength !== 2 && startByteLength !== 4) || codeWidth > 12) return -1
  const startsPtr = pagePtr + 9
  const codesPtr = startsPtr + <usize>(<i32>startCount * startByteLength)
  const textPtr = codesPtr + <usize>packedByteLength(count, codeWidth)
  if (textPtr > end) return -1
  const textByteLength = <u32>(end - textPtr)
  let offset: u32 = 0
  for (let i = 0; i < count; i++) {
    const code = readNarrowBits(codesPtr, end, i * codeWidth, codeWidth)
    if (code > startCount) return -1
    let start: u32 = 0
    let stop = textByteLength
    if (startByteLength === 2) {
      const stopPtr = startsPtr + ((<usize>code) << 1)
      if (code > 0) start = load<u16>(stopPtr - 2)
      if (code < startCount) stop = load<u16>(stopPtr)
    } else {
      const stopPtr = startsPtr + ((<usize>code) << 2)
      if (code > 0) start = load<u32>(stopPtr - 4)
      if (code < startCount) stop = load<u32>(stopPtr)
    }
    if (start > stop || stop > textByteLength || stop - start > <u32>total - offset) return -1
    store<u32>(targetOffsetsPtr + ((<usize>i) << 2), offset)
    const target = targetBytesPtr + <usize>offset
    copyText(textPtr + <usize>start, end, target, targetBytesPtr + <usize>total, <usize>(stop - start))
    offset += stop - start
  }
  if (offset !== <u32>total) return -1
  store<u32>(targetOffsetsPtr + ((<usize>count) << 2), <u32>total)
  return 0
}

/**
 * Copies a short text, 16 bytes a step where the source has them and the target takes them: what is written behind the
 * text is overwritten by the next one.
 */
function copyText(source: usize, sourceEnd: usize, target: usize, targetEnd: usize, byteLength: usize): void {
  if (byteLength > 256 || source + byteLength + 16 > sourceEnd || target + byteLength + 16 > targetEnd) {
    memory.copy(target, source, byteLength)
    return
  }
  for (let at: usize = 0; at < byteLength; at += 16) v128.store(target + at, v128.load(source + at))
}

/** Multiplies and folds eight bytes at a time; good enough for a table that is thrown away after one page. */
function hash(textPtr: usize, length: u32): i32 {
  const K: u64 = ((<u64>0x9e3779b9) << 32) | 0x7f4a7c15
  let h: u64 = <u64>length * K
  let left = length
  let ptr = textPtr
  for (; left >= 8; left -= 8) {
    h = rotl<u64>((h ^ load<u64>(ptr)) * K, 29)
    ptr += 8
  }
  for (; left > 0; left--) {
    h = rotl<u64>((h ^ <u64>load<u8>(ptr)) * K, 29)
    ptr++
  }
  return <i32>((h * K) >> 40)
}

function isSame(a: usize, b: usize, length: u32): bool {
  let at: usize = 0
  for (; at + 8 <= <usize>length; at += 8) if (load<u64>(a + at) !== load<u64>(b + at)) return false
  for (; at < <usize>length; at++) if (load<u8>(a + at) !== load<u8>(b + at)) return false
  return true
}
