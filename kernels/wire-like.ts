// A pb.Frame that looks as one before it: found out in one call, so that the frames of a stream need no look at each column.
import { isUtf8 } from './utf8'
import { wireScanColumn, wireScanFrame } from './wire'

/** Bytes of the shape's head, of a column and of a label in it. */
const HEAD: usize = 16
const COLUMN: usize = 12
const LABEL: usize = 8

const INT64: i32 = 1
const FLOAT64: i32 = 2
const TIME: i32 = 4

/** Labels are ticked off in 64 bits. */
const LABEL_COUNT_MAX: u32 = 64

/**
 * Whether a pb.Frame has the columns, indices and labels of a shape: same names, same types of 64 bits, one value a row, no
 * row missing, labels of text without 00 bytes. Where it has not, for whatever reason, it is to be looked at in full.
 *
 * shape    u32: columns, indices, labels, 0; then of each column and each index dtype, name's place, name's byte length; then
 *          of each label name's place and byte length, sorted by name, names distinct. Indices follow columns.
 * result   u32: rows, bytes of the key; then of each column and index where its message stands, and its byte length
 * key      the canonical key of the labels (see labels.ts), at most keyCapacity bytes
 * scratch  64 bytes, and 12 for each column, index and label, and 8 for each label
 *
 * Returns 1, or 0 where the frame does not look like that. Values are not decoded.
 */
export function wireScanLike(
  messagePtr: usize,
  messageEnd: usize,
  shapePtr: usize,
  resultPtr: usize,
  keyPtr: usize,
  keyCapacity: u32,
  scratchPtr: usize,
): i32 {
  const columnCount = load<u32>(shapePtr)
  const indexCount = load<u32>(shapePtr, 4)
  const labelCount = load<u32>(shapePtr, 8)
  if (labelCount > LABEL_COUNT_MAX) return 0
  const recordCount = columnCount + indexCount + labelCount
  const statusPtr = scratchPtr
  const tablePtr = scratchPtr + 64
  const valuesPtr = tablePtr + <usize>recordCount * 12
  if (wireScanFrame(messagePtr, messageEnd, tablePtr, recordCount, statusPtr) < 0) return 0
  const isAlike =
    load<u32>(statusPtr, 4) === columnCount &&
    load<u32>(statusPtr, 8) === indexCount &&
    load<u32>(statusPtr, 12) === labelCount &&
    load<u32>(statusPtr, 16) === 0 &&
    load<u32>(statusPtr, 32) === 0
  if (!isAlike) return 0

  const labelsPtr = shapePtr + HEAD + <usize>(columnCount + indexCount) * COLUMN
  let column: u32 = 0
  let index: u32 = columnCount
  let seen: u64 = 0
  let rowCount: u32 = u32.MAX_VALUE
  for (let record: u32 = 0; record < recordCount; record++) {
    const recordPtr = tablePtr + <usize>record * 12
    const field = load<u32>(recordPtr)
    const ptr = <usize>load<u32>(recordPtr, 4)
    const byteLength = load<u32>(recordPtr, 8)
    if (field === 3) {
      const label = findLabel(ptr, ptr + <usize>byteLength, labelsPtr, labelCount, valuesPtr)
      if (label < 0 || ((seen >> label) & 1) !== 0) return 0
      seen |= (<u64>1) << label
      continue
    }
    const number = field === 1 ? column++ : index++
    const ownCount = rowCountLike(ptr, ptr + <usize>byteLength, shapePtr + HEAD + <usize>number * COLUMN, statusPtr)
    if (rowCount === u32.MAX_VALUE) rowCount = ownCount
    if (ownCount !== rowCount || ownCount === u32.MAX_VALUE) return 0
    const placePtr = resultPtr + 8 + ((<usize>number) << 3)
    store<u32>(placePtr, <u32>ptr)
    store<u32>(placePtr, byteLength, 4)
  }
  const keyByteLength = writeKey(labelsPtr, labelCount, valuesPtr, keyPtr, keyCapacity)
  if (keyByteLength === u32.MAX_VALUE) return 0
  store<u32>(resultPtr, rowCount)
  store<u32>(resultPtr, keyByteLength, 4)
  return 1
}

/** Rows of a column that is as its shape says; else u32.MAX_VALUE. */
function rowCountLike(ptr: usize, end: usize, shapePtr: usize, statusPtr: usize): u32 {
  if (wireScanColumn(ptr, end, statusPtr) < 0) return u32.MAX_VALUE
  const dtype = load<i32>(shapePtr)
  const isAlike =
    load<i32>(statusPtr, 4) === 0 &&
    load<i32>(statusPtr, 8) === dtype &&
    isNamed(
      <usize>load<u32>(statusPtr, 24),
      load<u32>(statusPtr, 28),
      <usize>load<u32>(shapePtr, 4),
      load<u32>(shapePtr, 8),
    )
  if (!isAlike) return u32.MAX_VALUE
  const ints = load<u32>(statusPtr, 32)
  const floats = load<u32>(statusPtr, 36)
  const times = load<u32>(statusPtr, 44)
  const own = dtype === INT64 ? ints : dtype === FLOAT64 ? floats : dtype === TIME ? times : 0
  // Values of another type are refused, with a text of its own.
  const all = <u64>ints + floats + times + load<u32>(statusPtr, 40) + load<u32>(statusPtr, 48)
  return all === <u64>own ? own : u32.MAX_VALUE
}

function isNamed(aPtr: usize, aByteLength: u32, bPtr: usize, bByteLength: u32): bool {
  if (aByteLength !== bByteLength) return false
  for (let i: u32 = 0; i < aByteLength; i++) if (load<u8>(aPtr + i) !== load<u8>(bPtr + i)) return false
  return true
}

/**
 * Which label of the shape an entry of the map is, and notes where its text stands; -1 for one that is written otherwise
 * than name, then value with a text, with lengths of one byte each.
 */
function findLabel(ptr: usize, end: usize, labelsPtr: usize, labelCount: u32, valuesPtr: usize): i32 {
  if (end - ptr < 6 || load<u8>(ptr) !== 0x0a) return -1
  const nameByteLength = <u32>load<u8>(ptr, 1)
  const namePtr = ptr + 2
  const valuePtr = namePtr + <usize>nameByteLength
  if (nameByteLength >= 0x80 || end - namePtr < <usize>nameByteLength + 4) return -1
  const byteLength = <usize>load<u8>(valuePtr, 3)
  const isText = load<u8>(valuePtr) === 0x12 && load<u8>(valuePtr, 2) === 0x1a
  const textPtr = valuePtr + 4
  if (!isText || byteLength >= 0x80 || <usize>load<u8>(valuePtr, 1) !== byteLength + 2) return -1
  if (end - textPtr !== byteLength || !isUtf8(textPtr, byteLength)) return -1
  for (let i: usize = 0; i < byteLength; i++) if (load<u8>(textPtr + i) === 0) return -1
  for (let label: u32 = 0; label < labelCount; label++) {
    const labelPtr = labelsPtr + <usize>label * LABEL
    if (!isNamed(namePtr, nameByteLength, <usize>load<u32>(labelPtr), load<u32>(labelPtr, 4))) continue
    store<u32>(valuesPtr + ((<usize>label) << 3), <u32>textPtr)
    store<u32>(valuesPtr + ((<usize>label) << 3), <u32>byteLength, 4)
    return <i32>label
  }
  return -1
}

/** The bytes of the key, or u32.MAX_VALUE where it does not fit. */
function writeKey(labelsPtr: usize, labelCount: u32, valuesPtr: usize, keyPtr: usize, capacity: u32): u32 {
  let target = keyPtr
  const end = keyPtr + <usize>capacity
  for (let label: u32 = 0; label < labelCount; label++) {
    const namePtr = <usize>load<u32>(labelsPtr + <usize>label * LABEL)
    const nameByteLength = <usize>load<u32>(labelsPtr + <usize>label * LABEL, 4)
    const textPtr = <usize>load<u32>(valuesPtr + ((<usize>label) << 3))
    const byteLength = <usize>load<u32>(valuesPtr + ((<usize>label) << 3), 4)
    if (end - target < nameByteLength + byteLength + 3) return u32.MAX_VALUE
    memory.copy(target, namePtr, nameByteLength)
    target += nameByteLength
    store<u8>(target++, 0)
    memory.copy(target, textPtr, byteLength)
    target += byteLength
    store<u8>(target++, 0)
    store<u8>(target++, 1)
  }
  return <u32>(target - keyPtr)
}
