// Pages of strings: one text, a dictionary with a code a row, or lengths and texts.
import { CODEC_CONSTANT, CODEC_DICTIONARY, CODEC_STRINGS, PAGE_COUNT_MAX } from './page-codecs'
import { bitLength, packBits, packedByteLength, readBits } from './packing'

/** Slots of the hash table that finds equal texts; at most half of them are taken. */
const SLOT_COUNT: i32 = 8192

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
 */
export function encodeStringPage(
  offsetsPtr: usize,
  bytesPtr: usize,
  count: i32,
  targetPtr: usize,
  scratchPtr: usize,
): i32 {
  const slotsPtr = scratchPtr
  const codesPtr = slotsPtr + <usize>SLOT_COUNT * 4
  const entriesPtr = codesPtr + <usize>PAGE_COUNT_MAX * 8
  const startsPtr = entriesPtr + <usize>PAGE_COUNT_MAX * 4
  memory.fill(slotsPtr, 0, <usize>SLOT_COUNT * 4)
  const textPtr = bytesPtr + <usize>load<u32>(offsetsPtr)
  const totalByteLength = load<u32>(offsetsPtr + ((<usize>count) << 2)) - load<u32>(offsetsPtr)

  // The dictionary: entry k is the text of the row where it was first seen; a slot holds an entry's number + 1.
  let entryCount = 0
  let entryByteLength: u32 = 0
  let longest: u32 = 0
  for (let i = 0; i < count; i++) {
    const offsetPtr = offsetsPtr + ((<usize>i) << 2)
    const start = load<u32>(offsetPtr)
    const length = load<u32>(offsetPtr, 4) - start
    const text = bytesPtr + <usize>start
    longest = max(longest, length)
    let slot = hash(text, length) & (SLOT_COUNT - 1)
    let code = 0
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
  const startWidth = bitLength(<u64>entryByteLength)
  const lengthWidth = bitLength(<u64>longest)
  const dictionaryByteLength =
    9 + packedByteLength(entryCount - 1, startWidth) + packedByteLength(count, codeWidth) + <i32>entryByteLength
  const plainByteLength = 6 + packedByteLength(count, lengthWidth) + <i32>totalByteLength
  if (dictionaryByteLength < plainByteLength) {
    store<u8>(targetPtr, <u8>CODEC_DICTIONARY)
    store<u32>(targetPtr, totalByteLength, 1)
    store<u16>(targetPtr, <u16>(entryCount - 1), 5)
    store<u8>(targetPtr, <u8>startWidth, 7)
    store<u8>(targetPtr, <u8>codeWidth, 8)
    let start: u32 = 0
    for (let k = 0; k < entryCount; k++) {
      if (k > 0) store<u64>(startsPtr + ((<usize>(k - 1)) << 3), <u64>start)
      const entryPtr = offsetsPtr + ((<usize>load<u32>(entriesPtr + ((<usize>k) << 2))) << 2)
      start += load<u32>(entryPtr, 4) - load<u32>(entryPtr)
    }
    let target = targetPtr + 9
    target += packBits(startsPtr, entryCount - 1, startWidth, target)
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
  for (let i = 0; i < count; i++) {
    const offsetPtr = offsetsPtr + ((<usize>i) << 2)
    store<u64>(codesPtr + ((<usize>i) << 3), <u64>(load<u32>(offsetPtr, 4) - load<u32>(offsetPtr)))
  }
  let target = targetPtr + 6
  target += packBits(codesPtr, count, lengthWidth, target)
  memory.copy(target, textPtr, <usize>totalByteLength)
  return <i32>(target - targetPtr) + <i32>totalByteLength
}

/** Bytes of text that decodeStringPage will write; -1 when the page is malformed. */
export function decodedStringByteLength(pagePtr: usize, byteLength: i32, count: i32): i32 {
  if (byteLength < 1 || count < 1 || count > PAGE_COUNT_MAX) return -1
  const codec = <i32>load<u8>(pagePtr)
  if (codec === CODEC_CONSTANT) {
    const total = (<i64>byteLength - 1) * <i64>count
    return total > <i64>i32.MAX_VALUE ? -1 : <i32>total
  }
  if (codec !== CODEC_STRINGS && codec !== CODEC_DICTIONARY) return -1
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
      memory.copy(targetBytesPtr + i * length, pagePtr + 1, length)
    }
    store<u32>(targetOffsetsPtr + ((<usize>count) << 2), <u32>total)
    return 0
  }
  if (codec === CODEC_STRINGS) {
    const width = <i32>load<u8>(pagePtr, 5)
    if (width > 31) return -1
    const lengthsPtr = pagePtr + 6
    const lengthsByteLength = (<i64>count * <i64>width + 7) >> 3
    if (<i64>byteLength !== 6 + lengthsByteLength + <i64>total) return -1
    const textPtr = lengthsPtr + <usize>lengthsByteLength
    let offset: u64 = 0
    for (let i = 0; i < count; i++) {
      store<u32>(targetOffsetsPtr + ((<usize>i) << 2), <u32>offset)
      offset += readBits(lengthsPtr, textPtr, <usize>i * <usize>width, width)
    }
    if (offset !== <u64>total) return -1
    store<u32>(targetOffsetsPtr + ((<usize>count) << 2), <u32>total)
    memory.copy(targetBytesPtr, textPtr, <usize>total)
    return 0
  }
  if (byteLength < 9) return -1
  const startCount = <i32>load<u16>(pagePtr, 5)
  const startWidth = <i32>load<u8>(pagePtr, 7)
  const codeWidth = <i32>load<u8>(pagePtr, 8)
  if (startWidth > 31 || codeWidth > 12 || startCount >= count) return -1
  const startsPtr = pagePtr + 9
  const codesPtr = startsPtr + <usize>packedByteLength(startCount, startWidth)
  const textPtr = codesPtr + <usize>packedByteLength(count, codeWidth)
  if (textPtr > end) return -1
  const textByteLength = <u64>(end - textPtr)
  let offset: u64 = 0
  for (let i = 0; i < count; i++) {
    const code = <i32>readBits(codesPtr, textPtr, <usize>i * <usize>codeWidth, codeWidth)
    if (code > startCount) return -1
    const start = code === 0 ? 0 : readBits(startsPtr, codesPtr, <usize>(code - 1) * <usize>startWidth, startWidth)
    const stop =
      code === startCount ? textByteLength : readBits(startsPtr, codesPtr, <usize>code * <usize>startWidth, startWidth)
    if (start > stop || stop > textByteLength || offset + stop - start > <u64>total) return -1
    store<u32>(targetOffsetsPtr + ((<usize>i) << 2), <u32>offset)
    memory.copy(targetBytesPtr + <usize>offset, textPtr + <usize>start, <usize>(stop - start))
    offset += stop - start
  }
  if (offset !== <u64>total) return -1
  store<u32>(targetOffsetsPtr + ((<usize>count) << 2), <u32>total)
  return 0
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
