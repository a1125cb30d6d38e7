// pb.Frame (proto/frames.proto) between protobuf bytes and columns.
//
// Reading: wireScanFrame finds the columns, wireScanColumn counts a column's elements, the wireDecode kernels write them.
// Writing: the byte length of a column's elements first, since it stands before them, then the elements.
//
// A message is bytes of a stranger. Every length is compared with what is left before a byte is touched, always in the
// form `length <= end - pos`, which cannot overflow. What is refused is told by a negative code, and by the place in the
// first word of the status (16 bytes of the caller's; the caller has the words for the codes).

import { countEqualBytes, countEqualRows } from './text'
import { isUtf8 } from './utf8'

const BAD_VARINT: i32 = -1 // cut off, longer than ten bytes, or too large
const TRUNCATED: i32 = -2 // a length that goes past the end
const WRONG_WIRE_TYPE: i32 = -3
const BAD_FIELD: i32 = -4 // field number 0, an unknown wire type, a group that is not closed or too deep
const BAD_DOUBLES: i32 = -5 // packed doubles whose byte length is no multiple of 8
const NOT_UTF8: i32 = -6 // status: the row
const UNKNOWN_NAME: i32 = -7 // status: the row, then the name's pointer and byte length
const COUNT_CHANGED: i32 = -8 // more elements than were counted: not the message that was scanned

// Wire types
const VARINT: u32 = 0
const FIXED64: u32 = 1
const BYTES: u32 = 2
const GROUP: u32 = 3
const GROUP_END: u32 = 4
const FIXED32: u32 = 5

/** Unknown groups inside each other; protobuf libraries allow a hundred. */
const GROUP_DEPTH_MAX: i32 = 100

/** The top bit of each byte: set in every byte of a varint but its last. */
const CONTINUES: u64 = 0x8080808080808080

const FAILED: usize = usize.MAX_VALUE

function refuse(statusPtr: usize, place: usize, code: i32): i32 {
  store<u32>(statusPtr, <u32>place)
  return code
}

// ---- Varints ----

/** Byte length of the varint at pos, 1 to 10; 0 when it is cut off or does not fit 64 bits. */
function varintByteLength(pos: usize, end: usize): usize {
  const longest = min<usize>(end - pos, 10)
  for (let i: usize = 0; i < longest; i++) {
    const byte = load<u8>(pos + i)
    if (byte < 0x80) return i === 9 && byte > 1 ? 0 : i + 1
  }
  return 0
}

/** Value of the varint at pos, whose byte length is known. */
function varintValue(pos: usize, byteLength: usize): u64 {
  let value: u64 = 0
  for (let i: usize = 0; i < byteLength; i++) value |= (<u64>(load<u8>(pos + i) & 0x7f)) << (<u64>i * 7)
  return value
}

/** A tag or length at pos: byte length << 32 | value; 0 when it is malformed or does not fit 32 bits. */
function readShort(pos: usize, end: usize): u64 {
  if (pos < end) {
    const byte = load<u8>(pos)
    if (byte < 0x80) return ((<u64>1) << 32) | byte
  }
  const byteLength = varintByteLength(pos, end)
  if (byteLength === 0) return 0
  const value = varintValue(pos, byteLength)
  return value >> 32 ? 0 : ((<u64>byteLength) << 32) | value
}

/** Number of varints that end in [pos, end). */
function countVarints(pos: usize, end: usize): u32 {
  let count: u32 = 0
  for (; end - pos >= 16; pos += 16) count += 16 - popcnt(i8x16.bitmask(v128.load(pos)))
  for (; pos < end; pos++) count += u32(load<u8>(pos) < 0x80)
  return count
}

/** Where the field ends whose tag stands right before pos; 0 when it is malformed. */
function skipField(pos: usize, end: usize, tag: u32, depthLeft: i32): usize {
  const type = tag & 7
  if (tag >> 3 === 0) return 0
  if (type === VARINT) {
    const byteLength = varintByteLength(pos, end)
    return byteLength ? pos + byteLength : 0
  }
  if (type === BYTES) {
    const length = readShort(pos, end)
    if (length === 0) return 0
    pos += <usize>(length >> 32)
    return <usize>(<u32>length) <= end - pos ? pos + <usize>(<u32>length) : 0
  }
  if (type === FIXED64) return end - pos >= 8 ? pos + 8 : 0
  if (type === FIXED32) return end - pos >= 4 ? pos + 4 : 0
  if (type !== GROUP || depthLeft === 0) return 0
  while (true) {
    const inner = readShort(pos, end)
    if (inner === 0) return 0
    pos += <usize>(inner >> 32)
    if ((<u32>inner & 7) === GROUP_END) return <u32>inner >> 3 === tag >> 3 ? pos : 0
    pos = skipField(pos, end, <u32>inner, depthLeft - 1)
    if (pos === 0) return 0
  }
}

// ---- Repetitions ----
//
// Label columns of rows that stand time by time repeat the same records again and again (kernels/group.ts), and to compare
// bytes costs a fraction of taking records apart. So a place is kept, the anchor; where a record begins as the anchor's
// does, the bytes from there on are compared with those from the anchor on. As far as they are equal they are repetitions
// of what stands between the two, which is whole records. Short repetitions are not worth it: a run of three equal texts
// would move the anchor, and the hundred texts that come again would not be found.

/** An anchor moves on after this many bytes: repetitions that are further apart are not found. */
const ANCHOR_REACH: usize = 64 * 1024
/** Bytes, or rows, that must be equal to be taken as a repetition. */
const REPEAT_BYTES_MIN: usize = 256
const REPEAT_ROWS_MIN: u32 = 64
/** Comparing in vain is limited to this many times the bytes, or rows, that were taken apart. */
const VAIN_MAX: u32 = 4

/** Whether it may be worth comparing what stands at pos with what stands at the anchor before it. */
function beginsAlike(pos: usize, anchor: usize, end: usize): bool {
  return end - pos >= 8 && load<u64>(pos) === load<u64>(anchor)
}

/** Copies the `period` bytes before target to it, `count` times. */
function repeatBytes(target: usize, period: usize, count: usize): void {
  const from = target - period
  const end = target + period * count
  while (target < end) {
    const byteLength = min(target - from, end - target)
    memory.copy(target, from, byteLength)
    target += byteLength
  }
}

/** Writes `count` offsets, each `step` above the one that stands `period` before it. */
function repeatOffsets(target: usize, period: u32, count: u32, step: u32): void {
  const distance = (<usize>period) << 2
  const end = target + ((<usize>count) << 2)
  // A vector of four reads nothing that it writes itself.
  if (period >= 4) {
    const steps = i32x4.splat(step)
    for (; target + 16 <= end; target += 16) v128.store(target, i32x4.add(v128.load(target - distance), steps))
  }
  for (; target < end; target += 4) store<u32>(target, load<u32>(target - distance) + step)
}

// ---- Finding ----

/**
 * Walks the fields of a pb.Frame without looking into its columns.
 *
 * table   room for `capacity` records of 3 × u32: field number (1 column, 2 index, 3 label), where its message stands, its
 *         byte length. In the order of the message; those past the capacity are counted, not written.
 * status  9 × u32: place of an error; number of columns, of indices, of labels, of null maps; where the first null map's
 *         field begins and the last one's ends; where the error text stands and its byte length.
 *
 * Returns 0 or a negative code.
 */
export function wireScanFrame(
  messagePtr: usize,
  messageEnd: usize,
  tablePtr: usize,
  capacity: u32,
  statusPtr: usize,
): i32 {
  let columnCount: u32 = 0
  let indexCount: u32 = 0
  let labelCount: u32 = 0
  let nullMapCount: u32 = 0
  let nullsPtr: usize = messageEnd
  let nullsEnd: usize = messageEnd
  let errorPtr: usize = 0
  let errorByteLength: usize = 0
  const emptyNullMaps = i16x8.splat(0x002a)

  let pos = messagePtr
  while (pos < messageEnd) {
    const start = pos
    // Eight rows without a missing cell.
    if (messageEnd - pos >= 16 && i8x16.all_true(i8x16.eq(v128.load(pos), emptyNullMaps))) {
      if (nullMapCount === 0) nullsPtr = start
      nullMapCount += 8
      pos += 16
      nullsEnd = pos
      continue
    }
    const tag = readShort(pos, messageEnd)
    if (tag === 0) return refuse(statusPtr, start, BAD_VARINT)
    pos += <usize>(tag >> 32)
    const field = <u32>tag >> 3
    if (field - 1 >= 5) {
      pos = skipField(pos, messageEnd, <u32>tag, GROUP_DEPTH_MAX)
      if (pos === 0) return refuse(statusPtr, start, BAD_FIELD)
      continue
    }
    if ((<u32>tag & 7) !== BYTES) return refuse(statusPtr, start, WRONG_WIRE_TYPE)
    const length = readShort(pos, messageEnd)
    if (length === 0) return refuse(statusPtr, start, BAD_VARINT)
    pos += <usize>(length >> 32)
    const byteLength = <usize>(<u32>length)
    if (byteLength > messageEnd - pos) return refuse(statusPtr, start, TRUNCATED)
    if (field === 5) {
      if (nullMapCount === 0) nullsPtr = start
      nullMapCount++
      nullsEnd = pos + byteLength
    } else if (field === 4) {
      errorPtr = pos
      errorByteLength = byteLength
    } else {
      if (columnCount + indexCount + labelCount < capacity) {
        const record = tablePtr + <usize>(columnCount + indexCount + labelCount) * 12
        store<u32>(record, field)
        store<u32>(record, <u32>pos, 4)
        store<u32>(record, <u32>byteLength, 8)
      }
      if (field === 1) columnCount++
      else if (field === 2) indexCount++
      else labelCount++
    }
    pos += byteLength
  }
  store<u32>(statusPtr, columnCount, 4)
  store<u32>(statusPtr, indexCount, 8)
  store<u32>(statusPtr, labelCount, 12)
  store<u32>(statusPtr, nullMapCount, 16)
  store<u32>(statusPtr, <u32>nullsPtr, 20)
  store<u32>(statusPtr, <u32>nullsEnd, 24)
  store<u32>(statusPtr, <u32>errorPtr, 28)
  store<u32>(statusPtr, <u32>errorByteLength, 32)
  return 0
}

/**
 * Walks a pb.Column: its header, and how many elements each of its arrays has. The last kind, name, dtype and size win.
 *
 * status  56 bytes: u32 place of an error, i32 kind, i32 dtype, u32 0, i64 size, then u32: where the name stands, its byte
 *         length, elements of ints, floats, strings, times, bools, bytes of all strings together.
 *
 * Returns 0 or a negative code. Varints are counted here and checked when they are decoded.
 */
export function wireScanColumn(columnPtr: usize, columnEnd: usize, statusPtr: usize): i32 {
  let kind: i32 = 0
  let dtype: i32 = 0
  let size: u64 = 0
  let namePtr: usize = columnPtr
  let nameByteLength: usize = 0
  let intCount: u32 = 0
  let floatCount: u32 = 0
  let stringCount: u32 = 0
  let timeCount: u32 = 0
  let boolCount: u32 = 0
  let textByteLength: usize = 0

  let pos = columnPtr
  while (pos < columnEnd) {
    // Strings shorter than 128 bytes: tag 3a, one byte of length.
    let anchor = pos
    let anchorCount = stringCount
    let anchorText = textByteLength
    let vainByteLength: usize = 0
    while (columnEnd - pos >= 2 && load<u8>(pos) === 0x3a) {
      const byteLength = <usize>load<u8>(pos, 1)
      if (byteLength >= 0x80) break
      if (byteLength > columnEnd - pos - 2) return refuse(statusPtr, pos, TRUNCATED)
      stringCount++
      textByteLength += byteLength
      pos += 2 + byteLength
      const distance = pos - anchor
      if (vainByteLength <= VAIN_MAX * <u32>(pos - columnPtr) && beginsAlike(pos, anchor, columnEnd)) {
        const equalByteLength = <usize>countEqualBytes(pos, anchor, <u32>(columnEnd - pos))
        const repeats = equalByteLength / distance
        if (repeats === 0 || equalByteLength < REPEAT_BYTES_MIN) {
          vainByteLength += equalByteLength
          continue
        }
        stringCount += (stringCount - anchorCount) * <u32>repeats
        textByteLength += (textByteLength - anchorText) * repeats
        pos += distance * repeats
      } else if (distance < ANCHOR_REACH) continue
      anchor = pos
      anchorCount = stringCount
      anchorText = textByteLength
    }
    if (pos === columnEnd) break

    const start = pos
    const tag = readShort(pos, columnEnd)
    if (tag === 0) return refuse(statusPtr, start, BAD_VARINT)
    pos += <usize>(tag >> 32)
    const field = <u32>tag >> 3
    const type = <u32>tag & 7
    if (field - 1 >= 9) {
      pos = skipField(pos, columnEnd, <u32>tag, GROUP_DEPTH_MAX)
      if (pos === 0) return refuse(statusPtr, start, BAD_FIELD)
    } else if (type === BYTES) {
      const length = readShort(pos, columnEnd)
      if (length === 0) return refuse(statusPtr, start, BAD_VARINT)
      pos += <usize>(length >> 32)
      const byteLength = <usize>(<u32>length)
      if (byteLength > columnEnd - pos) return refuse(statusPtr, start, TRUNCATED)
      const next = pos + byteLength
      if (field === 7) {
        stringCount++
        textByteLength += byteLength
      } else if (field === 2) {
        namePtr = pos
        nameByteLength = byteLength
      } else if (field === 6) {
        if (byteLength & 7) return refuse(statusPtr, start, BAD_DOUBLES)
        floatCount += <u32>(byteLength >> 3)
      } else if (field === 5 || field === 8 || field === 9) {
        if (byteLength > 0 && load<u8>(next - 1) >= 0x80) return refuse(statusPtr, next - 1, BAD_VARINT)
        const count = countVarints(pos, next)
        if (field === 5) intCount += count
        else if (field === 8) timeCount += count
        else boolCount += count
      } else return refuse(statusPtr, start, WRONG_WIRE_TYPE)
      pos = next
    } else if (type === VARINT) {
      const byteLength = varintByteLength(pos, columnEnd)
      if (byteLength === 0) return refuse(statusPtr, start, BAD_VARINT)
      if (field === 5) intCount++
      else if (field === 8) timeCount++
      else if (field === 9) boolCount++
      else if (field === 1) kind = <i32>varintValue(pos, byteLength)
      else if (field === 3) dtype = <i32>varintValue(pos, byteLength)
      else if (field === 4) size = varintValue(pos, byteLength)
      else return refuse(statusPtr, start, WRONG_WIRE_TYPE)
      pos += byteLength
    } else if (type === FIXED64 && field === 6) {
      if (columnEnd - pos < 8) return refuse(statusPtr, start, TRUNCATED)
      floatCount++
      pos += 8
    } else return refuse(statusPtr, start, WRONG_WIRE_TYPE)
  }
  store<i32>(statusPtr, kind, 4)
  store<i32>(statusPtr, dtype, 8)
  store<u64>(statusPtr, size, 16)
  store<u32>(statusPtr, <u32>namePtr, 24)
  store<u32>(statusPtr, <u32>nameByteLength, 28)
  store<u32>(statusPtr, intCount, 32)
  store<u32>(statusPtr, floatCount, 36)
  store<u32>(statusPtr, stringCount, 40)
  store<u32>(statusPtr, timeCount, 44)
  store<u32>(statusPtr, boolCount, 48)
  store<u32>(statusPtr, <u32>textByteLength, 52)
  return 0
}

// ---- Decoding values ----

/** The 7-bit groups of eight bytes, side by side: 56 bits. */
function joinGroups(bytes: u64): u64 {
  let x = bytes & 0x7f7f7f7f7f7f7f7f
  x = (x & 0x007f007f007f007f) | ((x & 0x7f007f007f007f00) >> 1)
  x = (x & 0x00003fff00003fff) | ((x & 0x3fff00003fff0000) >> 2)
  return (x & 0x000000000fffffff) | ((x & 0x0fffffff00000000) >> 4)
}

/** joinGroups of both lanes. */
function joinGroupsOfTwo(bytes: v128): v128 {
  let x = v128.and(bytes, i8x16.splat(0x7f))
  x = v128.or(v128.and(x, i16x8.splat(0x007f)), i16x8.shr_u(v128.and(x, i16x8.splat(0x7f00)), 1))
  x = v128.or(v128.and(x, i32x4.splat(0x3fff)), i32x4.shr_u(v128.and(x, i32x4.splat(0x3fff0000)), 2))
  return v128.or(v128.and(x, i64x2.splat(0x0fffffff)), i64x2.shr_u(v128.and(x, i64x2.splat(0x0fffffff00000000)), 4))
}

/**
 * Decodes the packed varints in [pos, end) to i64 at [out, outEnd). Returns where the values end, or FAILED with the place
 * in the status.
 */
function decodePacked(pos: usize, end: usize, out: usize, outEnd: usize, statusPtr: usize): usize {
  // Each step reads ten bytes ahead, uses ten at most and writes eight values at most, so that many steps need no checks.
  let steps = min((end - pos) / 10, (outEnd - out) >> 6)
  while (steps > 0) {
    for (; steps > 0; steps--) {
      const bytes = load<u64>(pos)
      const stops = ~bytes & CONTINUES
      if (stops === CONTINUES) {
        // Eight values of one byte.
        const u16s = i16x8.extend_low_i8x16_u(i64x2.splat(bytes))
        const low = i32x4.extend_low_i16x8_u(u16s)
        const high = i32x4.extend_high_i16x8_u(u16s)
        v128.store(out, i64x2.extend_low_i32x4_u(low))
        v128.store(out, i64x2.extend_high_i32x4_u(low), 16)
        v128.store(out, i64x2.extend_low_i32x4_u(high), 32)
        v128.store(out, i64x2.extend_high_i32x4_u(high), 48)
        pos += 8
        out += 64
        continue
      }
      const laterStops = stops & (stops - 1)
      if (laterStops !== 0) {
        // Two values or more: the first two. The next load waits for one count of bits instead of two.
        const first = bytes & (stops ^ (stops - 1))
        const second = (bytes & (laterStops ^ (laterStops - 1))) >> (ctz(stops) + 1)
        v128.store(out, joinGroupsOfTwo(i64x2.replace_lane(i64x2.splat(first), 1, second)))
        pos += <usize>((ctz(laterStops) + 1) >> 3)
        out += 16
        continue
      }
      // Up to and with the only stop; all eight bytes when there is none.
      let value = joinGroups(bytes & (stops ^ (stops - 1)))
      if (stops !== 0) {
        pos += <usize>((ctz(stops) + 1) >> 3)
      } else {
        const ninth = <u64>load<u8>(pos, 8)
        if (ninth < 0x80) {
          value |= ninth << 56
          pos += 9
        } else {
          const tenth = <u64>load<u8>(pos, 9)
          if (tenth > 1) {
            store<u32>(statusPtr, <u32>pos)
            return FAILED
          }
          value |= ((ninth & 0x7f) << 56) | (tenth << 63)
          pos += 10
        }
      }
      store<u64>(out, value)
      out += 8
    }
    steps = min((end - pos) / 10, (outEnd - out) >> 6)
  }
  while (pos < end) {
    const byteLength = varintByteLength(pos, end)
    if (byteLength === 0 || out === outEnd) {
      store<u32>(statusPtr, <u32>pos)
      return FAILED
    }
    store<u64>(out, varintValue(pos, byteLength))
    pos += byteLength
    out += 8
  }
  return out
}

/** Writes 0 where a row is missing. values: rowCount × 8 bytes; validity: ceil(rowCount / 8) bytes. */
function clearMissing(valuesPtr: usize, validityPtr: usize, rowCount: u32): void {
  for (let row: u32 = 0; row < rowCount; row += 8) {
    let missing = ~(<u32>load<u8>(validityPtr + <usize>(row >> 3))) & 0xff
    if (rowCount - row < 8) missing &= (1 << (rowCount - row)) - 1
    for (; missing !== 0; missing &= missing - 1) store<u64>(valuesPtr + ((<usize>(row + ctz(missing))) << 3), 0)
  }
}

/**
 * Decodes all elements of a column's `ints` (field 5) or `times` (field 8).
 *
 * column    its pb.Column, as scanned
 * validity  ceil(rowCount / 8) bytes, 1 = present; 0: no row is missing. A missing row's value is written as 0.
 * values    rowCount × i64, 8-byte aligned, overwritten
 *
 * Returns 0 or a negative code. rowCount is the number of elements that wireScanColumn counted.
 */
export function wireDecodeVarints(
  columnPtr: usize,
  columnEnd: usize,
  field: u32,
  validityPtr: usize,
  valuesPtr: usize,
  rowCount: u32,
  statusPtr: usize,
): i32 {
  let out = valuesPtr
  const outEnd = valuesPtr + ((<usize>rowCount) << 3)
  let pos = columnPtr
  while (pos < columnEnd) {
    const start = pos
    const tag = readShort(pos, columnEnd)
    if (tag === 0) return refuse(statusPtr, start, BAD_VARINT)
    pos += <usize>(tag >> 32)
    if (<u32>tag === ((field << 3) | BYTES)) {
      const length = readShort(pos, columnEnd)
      if (length === 0) return refuse(statusPtr, start, BAD_VARINT)
      pos += <usize>(length >> 32)
      const byteLength = <usize>(<u32>length)
      if (byteLength > columnEnd - pos) return refuse(statusPtr, start, TRUNCATED)
      out = decodePacked(pos, pos + byteLength, out, outEnd, statusPtr)
      if (out === FAILED) return BAD_VARINT
      pos += byteLength
    } else if (<u32>tag === ((field << 3) | VARINT)) {
      const byteLength = varintByteLength(pos, columnEnd)
      if (byteLength === 0) return refuse(statusPtr, start, BAD_VARINT)
      if (out === outEnd) return refuse(statusPtr, start, COUNT_CHANGED)
      store<u64>(out, varintValue(pos, byteLength))
      out += 8
      pos += byteLength
    } else {
      pos = skipField(pos, columnEnd, <u32>tag, GROUP_DEPTH_MAX)
      if (pos === 0) return refuse(statusPtr, start, BAD_FIELD)
    }
  }
  if (out !== outEnd) return refuse(statusPtr, pos, COUNT_CHANGED)
  if (validityPtr !== 0) clearMissing(valuesPtr, validityPtr, rowCount)
  return 0
}

/** Decodes all elements of a column's `floats` to rowCount × f64; every bit of a NaN is kept. As wireDecodeVarints. */
export function wireDecodeDoubles(
  columnPtr: usize,
  columnEnd: usize,
  validityPtr: usize,
  valuesPtr: usize,
  rowCount: u32,
  statusPtr: usize,
): i32 {
  let out = valuesPtr
  const outEnd = valuesPtr + ((<usize>rowCount) << 3)
  let pos = columnPtr
  while (pos < columnEnd) {
    const start = pos
    const tag = readShort(pos, columnEnd)
    if (tag === 0) return refuse(statusPtr, start, BAD_VARINT)
    pos += <usize>(tag >> 32)
    if (<u32>tag === ((6 << 3) | BYTES)) {
      const length = readShort(pos, columnEnd)
      if (length === 0) return refuse(statusPtr, start, BAD_VARINT)
      pos += <usize>(length >> 32)
      const byteLength = <usize>(<u32>length)
      if (byteLength > columnEnd - pos) return refuse(statusPtr, start, TRUNCATED)
      if (byteLength > outEnd - out) return refuse(statusPtr, start, COUNT_CHANGED)
      memory.copy(out, pos, byteLength)
      out += byteLength
      pos += byteLength
    } else if (<u32>tag === ((6 << 3) | FIXED64)) {
      if (columnEnd - pos < 8) return refuse(statusPtr, start, TRUNCATED)
      if (outEnd - out < 8) return refuse(statusPtr, start, COUNT_CHANGED)
      store<u64>(out, load<u64>(pos))
      out += 8
      pos += 8
    } else {
      pos = skipField(pos, columnEnd, <u32>tag, GROUP_DEPTH_MAX)
      if (pos === 0) return refuse(statusPtr, start, BAD_FIELD)
    }
  }
  if (out !== outEnd) return refuse(statusPtr, pos, COUNT_CHANGED)
  if (validityPtr !== 0) clearMissing(valuesPtr, validityPtr, rowCount)
  return 0
}

/**
 * Decodes all elements of a column's `bools` to a bitmap: any varint but 0 is true, a missing row is false.
 *
 * bits  ceil(rowCount / 8) bytes, overwritten, bits past the last row 0. The rest as wireDecodeVarints.
 */
export function wireDecodeBools(
  columnPtr: usize,
  columnEnd: usize,
  validityPtr: usize,
  bitsPtr: usize,
  rowCount: u32,
  statusPtr: usize,
): i32 {
  const bitsByteLength = (<usize>rowCount + 7) >> 3
  memory.fill(bitsPtr, 0, bitsByteLength)
  let row: u32 = 0
  let pos = columnPtr
  while (pos < columnEnd) {
    const start = pos
    const tag = readShort(pos, columnEnd)
    if (tag === 0) return refuse(statusPtr, start, BAD_VARINT)
    pos += <usize>(tag >> 32)
    let end: usize = 0
    if (<u32>tag === ((9 << 3) | BYTES)) {
      const length = readShort(pos, columnEnd)
      if (length === 0) return refuse(statusPtr, start, BAD_VARINT)
      pos += <usize>(length >> 32)
      if (<usize>(<u32>length) > columnEnd - pos) return refuse(statusPtr, start, TRUNCATED)
      end = pos + <usize>(<u32>length)
    } else if (<u32>tag === ((9 << 3) | VARINT)) {
      const byteLength = varintByteLength(pos, columnEnd)
      if (byteLength === 0) return refuse(statusPtr, start, BAD_VARINT)
      end = pos + byteLength
    } else {
      pos = skipField(pos, columnEnd, <u32>tag, GROUP_DEPTH_MAX)
      if (pos === 0) return refuse(statusPtr, start, BAD_FIELD)
      continue
    }
    while (pos < end) {
      // Sixteen values of one byte: two bytes of bits.
      if ((row & 7) === 0 && end - pos >= 16 && rowCount - row >= 16) {
        const bytes = v128.load(pos)
        if (i8x16.bitmask(bytes) === 0) {
          store<u16>(bitsPtr + <usize>(row >> 3), <u16>~i8x16.bitmask(i8x16.eq(bytes, i8x16.splat(0))))
          row += 16
          pos += 16
          continue
        }
      }
      const byteLength = varintByteLength(pos, end)
      if (byteLength === 0) return refuse(statusPtr, pos, BAD_VARINT)
      if (row === rowCount) return refuse(statusPtr, pos, COUNT_CHANGED)
      const bit = (<u32>(varintValue(pos, byteLength) !== 0)) << (row & 7)
      const bitPtr = bitsPtr + <usize>(row >> 3)
      store<u8>(bitPtr, <u8>(<u32>load<u8>(bitPtr) | bit))
      row++
      pos += byteLength
    }
  }
  if (row !== rowCount) return refuse(statusPtr, pos, COUNT_CHANGED)
  if (validityPtr !== 0) {
    for (let i: usize = 0; i < bitsByteLength; i++) {
      store<u8>(bitsPtr + i, load<u8>(bitsPtr + i) & load<u8>(validityPtr + i))
    }
  }
  return 0
}

/**
 * Copies a short run of bytes, sixteen at a time where both sides have the room: up to 15 bytes behind the target's end
 * are overwritten, but nothing at or after targetLimit; nothing at or after sourceLimit is read.
 */
function copyShort(target: usize, source: usize, byteLength: usize, targetLimit: usize, sourceLimit: usize): void {
  const rounded = (byteLength + 15) & ~15
  if (byteLength <= 256 && rounded <= targetLimit - target && rounded <= sourceLimit - source) {
    for (let i: usize = 0; i < byteLength; i += 16) v128.store(target + i, v128.load(source + i))
  } else {
    memory.copy(target, source, byteLength)
  }
}

/**
 * Decodes all elements of a column's `strings`.
 *
 * validity  as wireDecodeVarints; a missing row is written as ''
 * offsets   (rowCount + 1) × u32 into text, the first 0, overwritten
 * text      textByteLength bytes (what wireScanColumn counted), overwritten
 *
 * Returns the bytes of text written, or a negative code; NOT_UTF8 has the row in the status.
 */
export function wireDecodeStrings(
  columnPtr: usize,
  columnEnd: usize,
  validityPtr: usize,
  offsetsPtr: usize,
  rowCount: u32,
  textPtr: usize,
  textByteLength: usize,
  statusPtr: usize,
): i32 {
  const textEnd = textPtr + textByteLength
  let text = textPtr
  let row: u32 = 0
  // All texts together are UTF-8 and none begins inside a character: then each one is UTF-8.
  let beginsInside = false
  store<u32>(offsetsPtr, 0)
  let pos = columnPtr
  let anchor = pos
  let anchorRow: u32 = 0
  let anchorText = text
  let vainByteLength: usize = 0
  while (pos < columnEnd) {
    const start = pos
    const isAlike =
      row !== anchorRow &&
      vainByteLength <= VAIN_MAX * <u32>(pos - columnPtr) &&
      validityPtr === 0 &&
      beginsAlike(pos, anchor, columnEnd)
    if (isAlike) {
      const distance = pos - anchor
      const period = row - anchorRow
      const textPeriod = text - anchorText
      const equalByteLength = <usize>countEqualBytes(pos, anchor, <u32>(columnEnd - pos))
      let repeats = min(equalByteLength / distance, <usize>((rowCount - row) / period))
      if (textPeriod !== 0) repeats = min(repeats, (textEnd - text) / textPeriod)
      if (repeats !== 0 && equalByteLength >= REPEAT_BYTES_MIN) {
        const count = period * <u32>repeats
        repeatOffsets(offsetsPtr + ((<usize>row) << 2) + 4, period, count, <u32>textPeriod)
        repeatBytes(text, textPeriod, repeats)
        row += count
        text += textPeriod * repeats
        pos += distance * repeats
      } else vainByteLength += equalByteLength
    }
    if (pos !== start || pos - anchor >= ANCHOR_REACH) {
      anchor = pos
      anchorRow = row
      anchorText = text
      if (pos === columnEnd) break
    }
    let byteLength: usize = 0
    if (columnEnd - pos >= 2 && load<u8>(pos) === 0x3a && load<u8>(pos, 1) < 0x80) {
      byteLength = <usize>load<u8>(pos, 1)
      pos += 2
    } else {
      const tag = readShort(pos, columnEnd)
      if (tag === 0) return refuse(statusPtr, start, BAD_VARINT)
      pos += <usize>(tag >> 32)
      if (<u32>tag !== ((7 << 3) | BYTES)) {
        pos = skipField(pos, columnEnd, <u32>tag, GROUP_DEPTH_MAX)
        if (pos === 0) return refuse(statusPtr, start, BAD_FIELD)
        // The name stands before the texts, mostly: what repeats begins behind it.
        anchor = pos
        anchorRow = row
        anchorText = text
        continue
      }
      const length = readShort(pos, columnEnd)
      if (length === 0) return refuse(statusPtr, start, BAD_VARINT)
      pos += <usize>(length >> 32)
      byteLength = <usize>(<u32>length)
    }
    if (byteLength > columnEnd - pos) return refuse(statusPtr, start, TRUNCATED)
    if (row === rowCount || byteLength > textEnd - text) return refuse(statusPtr, start, COUNT_CHANGED)
    if (byteLength !== 0) {
      if (validityPtr !== 0 && ((<u32>load<u8>(validityPtr + <usize>(row >> 3)) >> (row & 7)) & 1) === 0) {
        // The text of a missing cell is dropped, yet it must be text.
        if (!isUtf8(pos, byteLength)) return refuse(statusPtr, row, NOT_UTF8)
      } else {
        beginsInside |= (load<u8>(pos) & 0xc0) === 0x80
        copyShort(text, pos, byteLength, textEnd, columnEnd)
        text += byteLength
      }
      pos += byteLength
    }
    row++
    store<u32>(offsetsPtr + ((<usize>row) << 2), <u32>(text - textPtr))
  }
  if (row !== rowCount) return refuse(statusPtr, pos, COUNT_CHANGED)
  if (beginsInside || !isUtf8(textPtr, text - textPtr)) {
    for (row = 0; row < rowCount; row++) {
      const offset = <usize>load<u32>(offsetsPtr + ((<usize>row) << 2))
      const offsetNext = <usize>load<u32>(offsetsPtr + ((<usize>row) << 2), 4)
      if (!isUtf8(textPtr + offset, offsetNext - offset)) break
    }
    return refuse(statusPtr, row, NOT_UTF8)
  }
  return <i32>(text - textPtr)
}

/**
 * Repeats one 8-byte value for each present row and writes 0 for each missing one: a label column some of whose rows are
 * missing. values: rowCount × 8 bytes, overwritten.
 */
export function wireRepeatValue(valuePtr: usize, validityPtr: usize, valuesPtr: usize, rowCount: u32): void {
  const value = load<u64>(valuePtr)
  for (let row: u32 = 0; row < rowCount; row++) {
    const present = (<u32>load<u8>(validityPtr + <usize>(row >> 3)) >> (row & 7)) & 1
    store<u64>(valuesPtr + ((<usize>row) << 3), present ? value : 0)
  }
}

/**
 * The same for a text.
 *
 * source   byteLength bytes
 * offsets  (rowCount + 1) × u32, overwritten
 * text     byteLength bytes for each present row, overwritten
 */
export function wireRepeatText(
  sourcePtr: usize,
  byteLength: usize,
  validityPtr: usize,
  offsetsPtr: usize,
  textPtr: usize,
  rowCount: u32,
): void {
  let text = textPtr
  store<u32>(offsetsPtr, 0)
  for (let row: u32 = 0; row < rowCount; row++) {
    if ((<u32>load<u8>(validityPtr + <usize>(row >> 3)) >> (row & 7)) & 1) {
      memory.copy(text, sourcePtr, byteLength)
      text += byteLength
    }
    store<u32>(offsetsPtr + ((<usize>row) << 2), <u32>(text - textPtr), 4)
  }
}

// ---- Null maps ----
//
// The names of the data columns stand in a hash table (open addressing, at most half full):
//
//   names    u32 slotBits, u32 columnCount, u64 multiplier, u64 finisher
//            then u32 where the last map entry stands, u32 its byte length (0: none yet), u32 its column, 12 bytes unused
//            then columnCount × (u32 name's pointer, u32 its byte length, u32 bitmap, u32 first column of this name)
//            then 2^slotBits × u32: column + 1, or 0
//
// A bitmap is numbered from 1; 0: no cell of this column is missing. Columns of one name share the entry of the first.
// The multipliers are odd and random for each call, so that no message can be made of names that collide.

const NAMES_HEADER: usize = 48

function hashName(namePtr: usize, byteLength: usize, namesPtr: usize): usize {
  const multiplier = load<u64>(namesPtr, 8)
  let hash: u64 = <u64>byteLength
  if (byteLength >= 8) {
    const last = namePtr + byteLength - 8
    for (let pos = namePtr; pos < last; pos += 8) hash = hash * multiplier + load<u64>(pos)
    hash = hash * multiplier + load<u64>(last)
  } else {
    let bytes: u64 = 0
    for (let i: usize = 0; i < byteLength; i++) bytes = (bytes << 8) | load<u8>(namePtr + i)
    hash = hash * multiplier + bytes
  }
  return <usize>((hash * load<u64>(namesPtr, 16)) >> (64 - <u64>load<u32>(namesPtr)))
}

/** Whether two stretches of memory hold the same bytes. */
export function sameBytes(a: usize, b: usize, byteLength: usize): bool {
  let i: usize = 0
  for (; byteLength - i >= 8; i += 8) if (load<u64>(a + i) !== load<u64>(b + i)) return false
  for (; i < byteLength; i++) if (load<u8>(a + i) !== load<u8>(b + i)) return false
  return true
}

/** The column of this name, or -1 with the name's free slot in the status. */
function findName(namePtr: usize, byteLength: usize, namesPtr: usize, statusPtr: usize): i32 {
  const columnsPtr = namesPtr + NAMES_HEADER
  const slotsPtr = columnsPtr + ((<usize>load<u32>(namesPtr, 4)) << 4)
  const slotMask = ((<usize>1) << load<u32>(namesPtr)) - 1
  let slot = hashName(namePtr, byteLength, namesPtr)
  while (true) {
    const slotPtr = slotsPtr + (slot << 2)
    const column = <i32>load<u32>(slotPtr) - 1
    if (column < 0) {
      store<u32>(statusPtr, <u32>slotPtr)
      return -1
    }
    const columnPtr = columnsPtr + ((<usize>column) << 4)
    if (<usize>load<u32>(columnPtr, 4) === byteLength && sameBytes(<usize>load<u32>(columnPtr), namePtr, byteLength)) {
      return column
    }
    slot = (slot + 1) & slotMask
  }
}

/** Fills the slots of a names table whose header and columns' names are written; see above. */
export function wireBuildNames(namesPtr: usize, statusPtr: usize): void {
  const columnCount = <i32>load<u32>(namesPtr, 4)
  const columnsPtr = namesPtr + NAMES_HEADER
  memory.fill(columnsPtr + ((<usize>columnCount) << 4), 0, (<usize>4) << load<u32>(namesPtr))
  for (let column: i32 = 0; column < columnCount; column++) {
    const columnPtr = columnsPtr + ((<usize>column) << 4)
    const same = findName(<usize>load<u32>(columnPtr), <usize>load<u32>(columnPtr, 4), namesPtr, statusPtr)
    if (same < 0) store<u32>(<usize>load<u32>(statusPtr), column + 1)
    store<u32>(columnPtr, 0, 8)
    store<u32>(columnPtr, same < 0 ? column : same, 12)
  }
}

/**
 * The column that a map entry (a message: key 1, value 2) in [pos, end) names, or a negative code. The key that an entry
 * does not have is ''.
 */
function columnOfEntry(pos: usize, end: usize, row: u32, namesPtr: usize, statusPtr: usize): i32 {
  let keyPtr = pos
  let keyByteLength: usize = 0
  while (pos < end) {
    const start = pos
    const tag = readShort(pos, end)
    if (tag === 0) return refuse(statusPtr, start, BAD_VARINT)
    pos += <usize>(tag >> 32)
    const next = skipField(pos, end, <u32>tag, GROUP_DEPTH_MAX)
    if (next === 0) return refuse(statusPtr, start, BAD_FIELD)
    if (<u32>tag === ((1 << 3) | BYTES)) {
      // skipField has read this length.
      const length = readShort(pos, end)
      keyPtr = pos + <usize>(length >> 32)
      keyByteLength = <usize>(<u32>length)
    } else if (<u32>tag >> 3 === 1 || (<u32>tag >> 3 === 2 && (<u32>tag & 7) !== VARINT)) {
      return refuse(statusPtr, start, WRONG_WIRE_TYPE)
    }
    pos = next
  }
  const column = findName(keyPtr, keyByteLength, namesPtr, statusPtr)
  if (column >= 0) return column
  store<u32>(statusPtr, <u32>keyPtr, 4)
  store<u32>(statusPtr, <u32>keyByteLength, 8)
  return refuse(statusPtr, row, UNKNOWN_NAME)
}

/** Clears a row's bit in a column's bitmap, which is taken and filled when the column has none yet. */
function markMissing(
  column: i32,
  row: u32,
  rowCount: u32,
  namesPtr: usize,
  bitmapsPtr: usize,
  bitmapCapacity: u32,
  statusPtr: usize,
): void {
  const bitmapByteLength = (((<usize>rowCount + 7) >> 3) + 15) & ~15
  const columnPtr = namesPtr + NAMES_HEADER + ((<usize>column) << 4)
  let bitmap = load<u32>(columnPtr, 8)
  if (bitmap === 0) {
    // The number of bitmaps in use is the status' fourth word.
    bitmap = load<u32>(statusPtr, 12) + 1
    store<u32>(statusPtr, bitmap, 12)
    store<u32>(columnPtr, bitmap, 8)
    if (bitmap <= bitmapCapacity) {
      const bitmapPtr = bitmapsPtr + <usize>(bitmap - 1) * bitmapByteLength
      memory.fill(bitmapPtr, 0xff, <usize>rowCount >> 3)
      if (rowCount & 7) store<u8>(bitmapPtr + (<usize>rowCount >> 3), <u8>(((<u32>1) << (rowCount & 7)) - 1))
    }
  }
  if (bitmap <= bitmapCapacity) {
    const bitPtr = bitmapsPtr + <usize>(bitmap - 1) * bitmapByteLength + <usize>(row >> 3)
    store<u8>(bitPtr, <u8>(<u32>load<u8>(bitPtr) & ~(1 << (row & 7))))
  }
}

/** Decodes one pb.NullValuesMap: marks the row in each column it names. Returns 0 or a negative code. */
function decodeNullMap(
  pos: usize,
  mapEnd: usize,
  row: u32,
  rowCount: u32,
  namesPtr: usize,
  bitmapsPtr: usize,
  bitmapCapacity: u32,
  statusPtr: usize,
): i32 {
  while (pos < mapEnd) {
    // Often one column has most of the missing cells: then this entry is the one before it, byte by byte.
    const start = pos
    const lastByteLength = <usize>load<u32>(namesPtr, 28)
    if (lastByteLength !== 0 && lastByteLength <= mapEnd - pos) {
      if (sameBytes(pos, <usize>load<u32>(namesPtr, 24), lastByteLength)) {
        markMissing(load<i32>(namesPtr, 32), row, rowCount, namesPtr, bitmapsPtr, bitmapCapacity, statusPtr)
        pos += lastByteLength
        continue
      }
    }
    const tag = readShort(pos, mapEnd)
    if (tag === 0) return refuse(statusPtr, start, BAD_VARINT)
    pos += <usize>(tag >> 32)
    if (<u32>tag !== ((1 << 3) | BYTES)) {
      if (<u32>tag >> 3 === 1) return refuse(statusPtr, start, WRONG_WIRE_TYPE)
      pos = skipField(pos, mapEnd, <u32>tag, GROUP_DEPTH_MAX)
      if (pos === 0) return refuse(statusPtr, start, BAD_FIELD)
      continue
    }
    const length = readShort(pos, mapEnd)
    if (length === 0) return refuse(statusPtr, start, BAD_VARINT)
    pos += <usize>(length >> 32)
    if (<usize>(<u32>length) > mapEnd - pos) return refuse(statusPtr, start, TRUNCATED)
    const entryEnd = pos + <usize>(<u32>length)
    const column = columnOfEntry(pos, entryEnd, row, namesPtr, statusPtr)
    if (column < 0) return column
    markMissing(column, row, rowCount, namesPtr, bitmapsPtr, bitmapCapacity, statusPtr)
    store<u32>(namesPtr, <u32>start, 24)
    store<u32>(namesPtr, <u32>(entryEnd - start), 28)
    store<i32>(namesPtr, column, 32)
    pos = entryEnd
  }
  return 0
}

/**
 * Decodes a frame's null maps, one a row, to bitmaps of the columns that have missing cells.
 *
 * nulls    the part of the message from its first null map to its last (other fields between them are skipped)
 * names    as wireBuildNames left it; the columns' bitmap numbers are written
 * bitmaps  room for bitmapCapacity bitmaps of ceil(rowCount / 8) bytes, each rounded up to 16, 1 = present. Those of more
 *          columns are counted, not written: call again with room for all.
 * status   16 bytes; the fourth word is left with the number of bitmaps in use
 *
 * Returns 0 or a negative code.
 */
export function wireDecodeNulls(
  nullsPtr: usize,
  nullsEnd: usize,
  rowCount: u32,
  namesPtr: usize,
  bitmapsPtr: usize,
  bitmapCapacity: u32,
  statusPtr: usize,
): i32 {
  store<u32>(statusPtr, 0, 12)
  store<u32>(namesPtr, 0, 28)
  let row: u32 = 0
  let pos = nullsPtr
  while (pos < nullsEnd) {
    // Four rows without a missing cell.
    if (nullsEnd - pos >= 8 && rowCount - row >= 4 && load<u64>(pos) === 0x002a002a002a002a) {
      row += 4
      pos += 8
      continue
    }
    const start = pos
    const tag = readShort(pos, nullsEnd)
    if (tag === 0) return refuse(statusPtr, start, BAD_VARINT)
    pos += <usize>(tag >> 32)
    const next = skipField(pos, nullsEnd, <u32>tag, GROUP_DEPTH_MAX)
    if (next === 0) return refuse(statusPtr, start, BAD_FIELD)
    if (<u32>tag === ((5 << 3) | BYTES)) {
      if (row === rowCount) return refuse(statusPtr, start, COUNT_CHANGED)
      // skipField has read this length.
      pos += <usize>(readShort(pos, nullsEnd) >> 32)
      const code = decodeNullMap(pos, next, row, rowCount, namesPtr, bitmapsPtr, bitmapCapacity, statusPtr)
      if (code < 0) return code
      row++
    }
    pos = next
  }
  return row === rowCount ? 0 : refuse(statusPtr, pos, COUNT_CHANGED)
}

// ---- Encoding ----

/** Bytes that are written at once where there is room for this many: a varint is at most ten. */
const VARINT_ROOM: usize = 10

/** Byte length of a varint: one for each 7 bits begun. */
function byteLengthOf(value: u64): usize {
  // For top bit 0 to 63 this is topBit / 7 + 1, without a division.
  return <usize>(((63 - clz(value | 1)) * 9 + 73) >> 6)
}

/** 56 bits cut into 7-bit groups, one a byte: joinGroups backwards. */
function splitGroups(bits: u64): u64 {
  let x = (bits & 0x000000000fffffff) | ((bits << 4) & 0x0fffffff00000000)
  x = (x & 0x00003fff00003fff) | ((x & 0x0fffc0000fffc000) << 2)
  return (x & 0x007f007f007f007f) | ((x & 0x3f803f803f803f80) << 1)
}

/** The same of two values; what is above 56 bits is left out. */
function splitGroupsOfBoth(values: v128): v128 {
  const low28 = i64x2.splat(0x000000000fffffff)
  let x = v128.or(v128.and(values, low28), v128.and(i64x2.shl(values, 4), i64x2.splat(0x0fffffff00000000)))
  const low14 = i64x2.splat(0x00003fff00003fff)
  x = v128.or(v128.and(x, low14), v128.and(i64x2.shl(x, 2), i64x2.splat(0x3fff00003fff0000)))
  const low7 = i64x2.splat(0x007f007f007f007f)
  return v128.or(v128.and(x, low7), v128.and(i64x2.shl(x, 1), i64x2.splat(0x7f007f007f007f00)))
}

/** Writes a varint byte by byte; returns where it ends. The room has been checked. */
function writeVarint(pos: usize, value: u64): usize {
  for (; value >= 0x80; value >>= 7) store<u8>(pos++, <u8>value | 0x80)
  store<u8>(pos++, <u8>value)
  return pos
}

/** Whether the eight i64 at ptr are all varints of one byte. */
function areEightOfOneByte(ptr: usize): bool {
  const some = v128.or(v128.or(v128.load(ptr), v128.load(ptr, 16)), v128.or(v128.load(ptr, 32), v128.load(ptr, 48)))
  return !v128.any_true(v128.and(some, i64x2.splat(~0x7f)))
}

/** Whether the eight i64 at ptr are all varints of nine bytes: times of these centuries are. */
function areEightOfNineBytes(ptr: usize): bool {
  const below = i64x2.splat(0x00ffffffffffffff)
  const a = v128.and(i64x2.gt_s(v128.load(ptr), below), i64x2.gt_s(v128.load(ptr, 16), below))
  const b = v128.and(i64x2.gt_s(v128.load(ptr, 32), below), i64x2.gt_s(v128.load(ptr, 48), below))
  return i64x2.all_true(v128.and(a, b))
}

/** Bytes of rowCount i64 as packed varints. */
export function wireVarintsByteLength(valuesPtr: usize, rowCount: u32): u32 {
  let byteLength: usize = 0
  let pos = valuesPtr
  const valuesEnd = valuesPtr + ((<usize>rowCount) << 3)
  while (valuesEnd - pos >= 64) {
    if (areEightOfOneByte(pos)) {
      byteLength += 8
      pos += 64
      continue
    }
    if (areEightOfNineBytes(pos)) {
      byteLength += 72
      pos += 64
      continue
    }
    for (let i = 0; i < 8; i++, pos += 8) byteLength += byteLengthOf(load<u64>(pos))
  }
  for (; pos < valuesEnd; pos += 8) byteLength += byteLengthOf(load<u64>(pos))
  return <u32>byteLength
}

/**
 * Writes rowCount i64 as packed varints.
 *
 * target  what wireVarintsByteLength says; up to 7 bytes behind it are overwritten, but nothing at or after targetEnd
 *
 * Returns the bytes written, or -1 when they do not fit.
 */
export function wireEncodeVarints(valuesPtr: usize, rowCount: u32, targetPtr: usize, targetEnd: usize): i32 {
  let pos = targetPtr
  let source = valuesPtr
  const sourceEnd = valuesPtr + ((<usize>rowCount) << 3)
  // Each step takes eight values and moves eighty bytes at most, so that many steps need no check of the room.
  let steps = min((targetEnd - pos) / (8 * VARINT_ROOM), (sourceEnd - source) >> 6)
  while (steps > 0) {
    for (; steps > 0; steps--) {
      const stepEnd = source + 64
      if (areEightOfOneByte(source)) {
        const low = i8x16.shuffle(
          v128.load(source),
          v128.load(source, 16),
          0,
          8,
          16,
          24,
          0,
          0,
          0,
          0,
          0,
          0,
          0,
          0,
          0,
          0,
          0,
          0,
        )
        const high = i8x16.shuffle(
          v128.load(source, 32),
          v128.load(source, 48),
          0,
          8,
          16,
          24,
          0,
          0,
          0,
          0,
          0,
          0,
          0,
          0,
          0,
          0,
          0,
          0,
        )
        store<u64>(pos, i64x2.extract_lane(i32x4.shuffle(low, high, 0, 4, 0, 0), 0))
        pos += 8
        source = stepEnd
        continue
      }
      if (areEightOfNineBytes(source)) {
        for (; source < stepEnd; source += 16, pos += 18) {
          const groups = v128.or(splitGroupsOfBoth(v128.load(source)), i64x2.splat(CONTINUES))
          store<u64>(pos, i64x2.extract_lane(groups, 0))
          store<u8>(pos, load<u8>(source, 7), 8)
          store<u64>(pos, i64x2.extract_lane(groups, 1), 9)
          store<u8>(pos, load<u8>(source, 15), 17)
        }
        continue
      }
      for (; source < stepEnd; source += 8) {
        const value = load<u64>(source)
        const byteLength = byteLengthOf(value)
        const groups = splitGroups(value)
        if (byteLength < 9) {
          store<u64>(pos, groups | (CONTINUES & (((<u64>1) << ((<u64>(byteLength - 1)) << 3)) - 1)))
          pos += byteLength
        } else {
          store<u64>(pos, groups | CONTINUES)
          const ninth = <u32>(value >> 56)
          if (byteLength === 9) {
            store<u8>(pos, <u8>ninth, 8)
            pos += 9
          } else {
            // Bit 63 makes a tenth byte of 1.
            store<u16>(pos, <u16>((ninth & 0x7f) | 0x180), 8)
            pos += 10
          }
        }
      }
    }
    steps = min((targetEnd - pos) / (8 * VARINT_ROOM), (sourceEnd - source) >> 6)
  }
  for (; source < sourceEnd; source += 8) {
    const value = load<u64>(source)
    if (byteLengthOf(value) > targetEnd - pos) return -1
    pos = writeVarint(pos, value)
  }
  return <i32>(pos - targetPtr)
}

/**
 * Writes rowCount f64 as packed doubles.
 *
 * validity  ceil(rowCount / 8) bytes, 1 = present, or 0: no row is missing. A missing row is written as NaN.
 * target    rowCount × 8 bytes, any alignment, overwritten
 */
export function wireEncodeDoubles(valuesPtr: usize, validityPtr: usize, rowCount: u32, targetPtr: usize): void {
  memory.copy(targetPtr, valuesPtr, (<usize>rowCount) << 3)
  if (validityPtr === 0) return
  for (let row: u32 = 0; row < rowCount; row += 8) {
    let missing = ~(<u32>load<u8>(validityPtr + <usize>(row >> 3))) & 0xff
    if (rowCount - row < 8) missing &= (1 << (rowCount - row)) - 1
    for (; missing !== 0; missing &= missing - 1) {
      store<u64>(targetPtr + ((<usize>(row + ctz(missing))) << 3), 0x7ff8000000000000)
    }
  }
}

/** Writes a bitmap of rowCount rows as packed bools: rowCount bytes are overwritten. */
export function wireEncodeBools(bitsPtr: usize, rowCount: u32, targetPtr: usize): void {
  const bitOfLane = i8x16(1, 2, 4, 8, 16, 32, 64, -128, 1, 2, 4, 8, 16, 32, 64, -128)
  let row: u32 = 0
  for (; rowCount - row >= 16; row += 16) {
    const bits = i16x8.splat(<i16>load<u16>(bitsPtr + <usize>(row >> 3)))
    const byteOfLane = i8x16.swizzle(bits, i8x16(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1))
    const isSet = i8x16.eq(v128.and(byteOfLane, bitOfLane), bitOfLane)
    v128.store(targetPtr + <usize>row, v128.and(isSet, i8x16.splat(1)))
  }
  for (; row < rowCount; row++) {
    store<u8>(targetPtr + <usize>row, (load<u8>(bitsPtr + <usize>(row >> 3)) >> <u8>(row & 7)) & 1)
  }
}

/** How many rows from `row` on equal those from `other` on. Lengths are compared first, so a step is short. */
function countRepeatedRows(offsetsPtr: usize, textPtr: usize, row: u32, other: u32, rowCount: u32): u32 {
  let count: u32 = 0
  while (row + count < rowCount) {
    const step = min(REPEAT_ROWS_MIN, rowCount - row - count)
    const equal: u32 = countEqualRows(offsetsPtr, textPtr, row + count, other + count, step)
    count += equal
    if (equal < step) break
  }
  return count
}

/** Bytes of rowCount strings as records of field 7. */
export function wireStringsByteLength(offsetsPtr: usize, rowCount: u32): u32 {
  // A tag and one byte of length for each, and the text; more for texts of 128 bytes and more.
  let byteLength = <usize>rowCount * 2 + load<u32>(offsetsPtr + ((<usize>rowCount) << 2)) - load<u32>(offsetsPtr)
  let row: u32 = 0
  while (row < rowCount) {
    const ptr = offsetsPtr + ((<usize>row) << 2)
    if (row + 4 <= rowCount && !v128.any_true(i32x4.shr_u(i32x4.sub(v128.load(ptr, 4), v128.load(ptr)), 7))) {
      row += 4
      continue
    }
    byteLength += byteLengthOf(<u64>(load<u32>(ptr, 4) - load<u32>(ptr))) - 1
    row++
  }
  return <u32>byteLength
}

/**
 * Writes rowCount strings as records of field 7.
 *
 * offsets  (rowCount + 1) × u32 into text, the first 0
 * target   what wireStringsByteLength says; up to 15 bytes behind it are overwritten, but nothing at or after targetEnd
 *
 * Returns the bytes written, or -1 when they do not fit.
 */
export function wireEncodeStrings(
  offsetsPtr: usize,
  textPtr: usize,
  rowCount: u32,
  targetPtr: usize,
  targetEnd: usize,
): i32 {
  const textEnd = textPtr + <usize>load<u32>(offsetsPtr + ((<usize>rowCount) << 2))
  let pos = targetPtr
  let offset = <usize>load<u32>(offsetsPtr)
  let anchorRow: u32 = 0
  let anchor = pos
  let anchorOffset = offset
  let vainCount: u32 = 0
  for (let row: u32 = 0; row < rowCount; row++) {
    const isAlike =
      row !== anchorRow && vainCount <= VAIN_MAX * row && beginsAlike(textPtr + offset, textPtr + anchorOffset, textEnd)
    if (isAlike) {
      const period = row - anchorRow
      const equalCount = countRepeatedRows(offsetsPtr, textPtr, row, anchorRow, rowCount)
      const repeats = min(<usize>(equalCount / period), (targetEnd - pos) / (pos - anchor))
      const isRepeated = repeats !== 0 && equalCount >= REPEAT_ROWS_MIN
      if (isRepeated) {
        repeatBytes(pos, pos - anchor, repeats)
        pos += (pos - anchor) * repeats
        row += period * <u32>repeats
        offset = <usize>load<u32>(offsetsPtr + ((<usize>row) << 2))
      } else vainCount += equalCount + 1
      if (isRepeated || offset - anchorOffset >= ANCHOR_REACH) {
        anchorRow = row
        anchor = pos
        anchorOffset = offset
        if (row === rowCount) break
      }
    } else if (offset - anchorOffset >= ANCHOR_REACH) {
      anchorRow = row
      anchor = pos
      anchorOffset = offset
    }
    const offsetNext = <usize>load<u32>(offsetsPtr + ((<usize>row) << 2), 4)
    const byteLength = offsetNext - offset
    const room = targetEnd - pos
    if (room < 6 || byteLength > room - 6) {
      // Near the end the length of the length counts.
      const headLength = <usize>1 + byteLengthOf(<u64>byteLength)
      if (room < headLength || byteLength > room - headLength) return -1
    }
    store<u8>(pos, 0x3a)
    if (byteLength < 0x80) {
      store<u8>(pos, <u8>byteLength, 1)
      pos += 2
    } else {
      pos = writeVarint(pos + 1, <u64>byteLength)
    }
    copyShort(pos, textPtr + offset, byteLength, targetEnd, textEnd)
    pos += byteLength
    offset = offsetNext
  }
  return <i32>(pos - targetPtr)
}

/**
 * Writes one null map (field 5 of pb.Frame) for each row.
 *
 * entries  entryCount × 4 × u32, one for each column with missing cells: where its map entry stands, finished; the entry's
 *          byte length; its validity bitmap, or 0 when every row is missing; unused. The entries are before targetEnd or
 *          at least 16 bytes before the memory's end.
 *
 * Returns the bytes written, or -1 when they do not fit before targetEnd.
 */
export function wireEncodeNulls(
  entriesPtr: usize,
  entryCount: u32,
  rowCount: u32,
  targetPtr: usize,
  targetEnd: usize,
): i32 {
  const entriesEnd = entriesPtr + ((<usize>entryCount) << 4)
  let pos = targetPtr
  for (let block: u32 = 0; block < rowCount; block += 8) {
    const blockRows = min<u32>(rowCount - block, 8)
    let missingSomewhere: u32 = 0
    for (let entry = entriesPtr; entry < entriesEnd; entry += 16) {
      const validityPtr = <usize>load<u32>(entry, 8)
      missingSomewhere |= validityPtr === 0 ? 0xff : ~(<u32>load<u8>(validityPtr + <usize>(block >> 3)))
    }
    for (let i: u32 = 0; i < blockRows; i++) {
      let byteLength: usize = 0
      if ((missingSomewhere >> i) & 1) {
        for (let entry = entriesPtr; entry < entriesEnd; entry += 16) {
          const validityPtr = <usize>load<u32>(entry, 8)
          const present = validityPtr !== 0 && (<u32>load<u8>(validityPtr + <usize>(block >> 3)) >> i) & 1
          if (!present) byteLength += <usize>load<u32>(entry, 4)
        }
      }
      const headLength = <usize>1 + byteLengthOf(<u64>byteLength)
      if (targetEnd - pos < headLength || targetEnd - pos - headLength < byteLength) return -1
      store<u8>(pos, 0x2a)
      pos = writeVarint(pos + 1, <u64>byteLength)
      if (byteLength === 0) continue
      for (let entry = entriesPtr; entry < entriesEnd; entry += 16) {
        const validityPtr = <usize>load<u32>(entry, 8)
        const present = validityPtr !== 0 && (<u32>load<u8>(validityPtr + <usize>(block >> 3)) >> i) & 1
        if (present) continue
        const entryPtr = <usize>load<u32>(entry)
        const entryByteLength = <usize>load<u32>(entry, 4)
        copyShort(pos, entryPtr, entryByteLength, targetEnd, entryPtr + ((entryByteLength + 15) & ~15))
        pos += entryByteLength
      }
    }
  }
  return <i32>(pos - targetPtr)
}
