// pb.Frame (proto/frames.proto) ↔ columns in the shared memory. Runs in workers and in clients; the server's main thread
// moves frame bytes without looking into them.
//
// Reading goes in three steps, so that a caller decodes only the columns it needs, one after the other in little memory:
// scanFrame (structure, names, row counts), decodeNulls (all missing cells), decodeColumn (the values of one column).
import { assert } from '../assert.js'
import { FramesError } from '../errors.js'
import type { ColumnSlice, FrameLabel, FrameSlice } from '../frame/column-slice.js'
import { type DType, dtypeNumbers, dtypeOfNumber } from '../frame/dtype.js'
import type { Kernels } from '../kernels/kernels.js'
import {
  frameLabelCountMax,
  frameNamesByteLengthMax,
  frameRowCountMax,
  nameByteLengthMax,
  tableColumnCountMax,
} from '../limits.js'
import { type Scratch, ScratchFull } from '../memory/scratch.js'
import type { Slice } from '../memory/slice.js'
import { decodeText, labelByteLengthMax, labelBytes, readLabel } from './labels.js'

/**
 * A column as scanFrame found it; no value is decoded yet.
 *
 * rowCount        the frame's, for every column
 * byteOffset      its pb.Column message in the memory
 * name…           its name's UTF-8 in the memory
 * textByteLength  string: bytes of all its cells together (label: of the one value); else 0
 */
export interface WireColumn {
  readonly role: 'column' | 'index'
  /** Number among the frame's columns, or among its indices. */
  readonly position: number
  readonly name: string
  readonly dtype: DType
  readonly kind: 'slice' | 'label'
  readonly rowCount: number
  readonly byteOffset: number
  readonly byteLength: number
  readonly nameByteOffset: number
  readonly nameByteLength: number
  readonly textByteLength: number
  readonly messageByteOffset: number
}

/** A frame as scanFrame found it. The bytes it was found in must not change until its columns are decoded. */
export interface WireFrame {
  readonly rowCount: number
  readonly columns: readonly WireColumn[]
  readonly indices: readonly WireColumn[]
  readonly labels: readonly FrameLabel[]
  /** Why a read over HTTP failed; '' otherwise. */
  readonly error: string
  /** Whether there is a null map for each row (which may all be empty). */
  readonly hasNulls: boolean
  /** From the first null map to the end of the last. */
  readonly nulls: Slice
  readonly messageByteOffset: number
}

/** Bytes of scratch for what kernels tell beside their result. */
const statusByteLength = 64

/** The codes of kernels/wire.ts. */
const refusals: Readonly<Record<number, string>> = {
  [-1]: 'a varint is cut off, longer than ten bytes or too large',
  [-2]: 'a length goes past the end',
  [-3]: 'a field has the wrong wire type',
  [-4]: 'a field is not valid protobuf',
  [-5]: 'the byte length of packed doubles is no multiple of 8',
}
const notUtf8 = -6
const unknownName = -7

/** Elements of a table of field records that wireScanFrame writes: field number, byte offset, byte length. */
const recordByteLength = 12
const recordCountMax = 2 * tableColumnCountMax + frameLabelCountMax

/** The fields of pb.Column that hold values, in the order in which wireScanColumn counts them. */
const arrays = ['ints', 'floats', 'strings', 'times', 'bools'] as const
const arrayOfDType: Readonly<Record<DType, (typeof arrays)[number] | undefined>> = {
  int64: 'ints',
  float64: 'floats',
  string: 'strings',
  time: 'times',
  bool: 'bools',
  null: undefined,
}

const fieldInts = 5
const fieldTimes = 8

function quoted(name: string): string {
  return JSON.stringify(name.length <= 200 ? name : `${name.slice(0, 200)}…`)
}

/** How error texts call a column. */
function titleOf(column: Pick<WireColumn, 'role' | 'position' | 'name'>): string {
  return column.role === 'column' ? `column ${quoted(column.name)}` : `index column ${column.position}`
}

function malformed(where: string, code: number, byte: number): FramesError {
  const why = refusals[code]
  assert(why !== undefined, `the message is the one that was scanned (code ${code})`)
  return new FramesError('MALFORMED_FRAME', `${where}: ${why} at byte ${byte}`)
}

function u32(kernels: Kernels, pointer: number): number {
  return kernels.view.getUint32(pointer, true)
}

// ---- Finding the columns ----

/**
 * Walks a pb.Frame once and checks it: structure, names, labels, row counts, limits. Values are checked when they are
 * decoded (varints, UTF-8). The scratch is as before when it returns.
 *
 * Throws MALFORMED_FRAME; FRAME_SHAPE where columns disagree about the number of rows; FRAME_TOO_LARGE above a limit of
 * limits.ts, before anything of that size is allocated; ScratchFull.
 */
export function scanFrame(kernels: Kernels, message: Slice, scratch: Scratch): WireFrame {
  const messageEnd = message.byteOffset + message.byteLength
  assert(messageEnd <= kernels.u8.byteLength && messageEnd < 2 ** 32, 'the message lies in the memory')
  assert(message.byteLength < 2 ** 31, 'byte lengths fit a kernel result')
  const mark = scratch.mark()
  const statusPtr = scratch.allocate(statusByteLength)
  const capacity = Math.min(recordCountMax, Math.max(0, Math.floor((scratch.byteLengthFree - 16) / recordByteLength)))
  const tablePtr = scratch.allocate(capacity * recordByteLength)

  const code = kernels.call.wireScanFrame(message.byteOffset, messageEnd, tablePtr, capacity, statusPtr)
  if (code < 0) throw malformed('frame', code, u32(kernels, statusPtr) - message.byteOffset)
  const [columnCount, indexCount, labelCount, nullMapCount, nullsStart, nullsEnd, errorStart, errorByteLength] = [
    4, 8, 12, 16, 20, 24, 28, 32,
  ].map((offset) => u32(kernels, statusPtr + offset)) as [
    number,
    number,
    number,
    number,
    number,
    number,
    number,
    number,
  ]
  checkCount('columns', columnCount, tableColumnCountMax)
  checkCount('index columns', indexCount, tableColumnCountMax)
  checkCount('labels', labelCount, frameLabelCountMax)
  checkCount('null maps', nullMapCount, frameRowCountMax)
  const recordCount = columnCount + indexCount + labelCount
  if (recordCount > capacity) {
    throw new ScratchFull(tablePtr - scratch.slice.byteOffset + recordCount * recordByteLength + 2 * 16)
  }

  const drafts: WireColumn[] = []
  const labels = new Map<string, FrameLabel>()
  const names = { byteLength: errorByteLength }
  checkNames(names.byteLength)
  for (let i = 0, columns = 0, indices = 0; i < recordCount; i++) {
    const record = tablePtr + i * recordByteLength
    const field = u32(kernels, record)
    const byteOffset = u32(kernels, record + 4)
    const byteLength = u32(kernels, record + 8)
    if (field === 3) {
      checkNames((names.byteLength += byteLength))
      const label = readLabel(kernels.u8, byteOffset, byteLength, message.byteOffset)
      labels.set(label.name, label)
    } else {
      const role = field === 1 ? 'column' : 'index'
      const position = field === 1 ? columns++ : indices++
      const place = { role, position, byteOffset, byteLength, messageByteOffset: message.byteOffset } as const
      const column = scanColumn(kernels, place, statusPtr)
      checkNames((names.byteLength += column.nameByteLength))
      drafts.push(column)
    }
  }
  scratch.release(mark)

  const rowCount = frameRowCount(drafts, nullMapCount)
  if (rowCount > frameRowCountMax) {
    throw new FramesError('FRAME_TOO_LARGE', `the frame has ${rowCount} rows, at most ${frameRowCountMax} are allowed`)
  }
  if (nullMapCount !== 0 && nullMapCount !== rowCount) {
    throw new FramesError('FRAME_SHAPE', `null_values has ${nullMapCount} maps for ${rowCount} rows`)
  }
  const settled = drafts.map((column) => withRowCount(column, rowCount))
  return {
    rowCount,
    columns: settled.filter((column) => column.role === 'column'),
    indices: settled.filter((column) => column.role === 'index'),
    labels: [...labels.values()],
    error: decodeText(kernels.u8.subarray(errorStart, errorStart + errorByteLength), 'the error text'),
    hasNulls: nullMapCount > 0,
    nulls: { byteOffset: nullsStart, byteLength: nullsEnd - nullsStart },
    messageByteOffset: message.byteOffset,
  }
}

function checkCount(what: string, count: number, countMax: number): void {
  if (count > countMax) {
    throw new FramesError('FRAME_TOO_LARGE', `the frame has ${count} ${what}, at most ${countMax} are allowed`)
  }
}

function checkNames(byteLength: number): void {
  if (byteLength > frameNamesByteLengthMax) {
    throw new FramesError('FRAME_TOO_LARGE', `names and labels take more than ${frameNamesByteLengthMax} bytes`)
  }
}

type ColumnPlace = Pick<WireColumn, 'role' | 'position' | 'byteOffset' | 'byteLength' | 'messageByteOffset'>

/** Reads one column's header and counts its elements. Its rowCount is its own, or -1 when it does not tell. */
function scanColumn(kernels: Kernels, place: ColumnPlace, statusPtr: number): WireColumn {
  const { role, position, byteOffset, byteLength, messageByteOffset } = place
  const code = kernels.call.wireScanColumn(byteOffset, byteOffset + byteLength, statusPtr)
  if (code < 0) throw malformed(`${role} ${position}`, code, u32(kernels, statusPtr) - messageByteOffset)

  const { view } = kernels
  const nameByteOffset = u32(kernels, statusPtr + 24)
  const nameByteLength = u32(kernels, statusPtr + 28)
  if (nameByteLength > nameByteLengthMax) {
    const what = `the name of ${role} ${position} has ${nameByteLength} bytes, at most ${nameByteLengthMax} are allowed`
    throw new FramesError('FRAME_TOO_LARGE', what)
  }
  const nameBytes = kernels.u8.subarray(nameByteOffset, nameByteOffset + nameByteLength)
  const name = decodeText(nameBytes, `the name of ${role} ${position}`)
  const title = () => titleOf({ role, position, name })

  const dtypeNumber = view.getInt32(statusPtr + 8, true)
  const dtype = dtypeOfNumber(dtypeNumber)
  if (dtype === undefined) throw new FramesError('MALFORMED_FRAME', `${title()} has no valid dtype (${dtypeNumber})`)
  const kindNumber = view.getInt32(statusPtr + 4, true)
  if (kindNumber !== 0 && kindNumber !== 1) {
    throw new FramesError('MALFORMED_FRAME', `${title()} has no valid kind (${kindNumber})`)
  }
  const kind = kindNumber === 0 ? 'slice' : 'label'

  const counts = arrays.map((_, i) => u32(kernels, statusPtr + 32 + 4 * i))
  const ownArray = arrayOfDType[dtype]
  const ownCount = ownArray === undefined ? 0 : counts[arrays.indexOf(ownArray)]!
  for (const [i, array] of arrays.entries()) {
    const isOwn = array === ownArray || (dtype === 'null' && kind === 'label' && array === 'bools')
    if (!isOwn && counts[i] !== 0) {
      throw new FramesError('MALFORMED_FRAME', `${title()} of dtype ${dtype} has ${counts[i]} values in ${array}`)
    }
  }

  let rowCount = dtype === 'null' ? -1 : ownCount
  if (kind === 'label') {
    const valueCount = dtype === 'null' ? counts[arrays.indexOf('bools')]! : ownCount
    if (valueCount > 1 || (valueCount === 0 && dtype !== 'null')) {
      throw new FramesError('MALFORMED_FRAME', `${title()} is a LABEL and has ${valueCount} values instead of one`)
    }
    const size = view.getBigInt64(statusPtr + 16, true)
    if (size < 0n) throw new FramesError('FRAME_SHAPE', `${title()} has size ${size}`)
    if (size > BigInt(frameRowCountMax)) {
      throw new FramesError(
        'FRAME_TOO_LARGE',
        `${title()} has size ${size}, at most ${frameRowCountMax} rows are allowed`,
      )
    }
    rowCount = Number(size)
  }
  return {
    role,
    position,
    name,
    dtype,
    kind,
    rowCount,
    byteOffset,
    byteLength,
    nameByteOffset,
    nameByteLength,
    textByteLength: dtype === 'string' ? u32(kernels, statusPtr + 52) : 0,
    messageByteOffset,
  }
}

/** The first index that tells, else the first column that tells, else the number of null maps. */
function frameRowCount(columns: readonly WireColumn[], nullMapCount: number): number {
  const told = columns.filter((column) => column.rowCount >= 0)
  const first = told.find((column) => column.role === 'index') ?? told[0]
  return first?.rowCount ?? nullMapCount
}

function withRowCount(column: WireColumn, rowCount: number): WireColumn {
  if (column.rowCount === rowCount) return column
  if (column.rowCount < 0) return { ...column, rowCount }
  const { role, position, name } = column
  const title = role === 'column' ? `${quoted(name)} column` : `index column ${position}`
  throw new FramesError('FRAME_SHAPE', `${title} size mismatch (${column.rowCount} != ${rowCount})`)
}

// ---- Missing cells ----

/** Layout of the names table of kernels/wire.ts. */
const namesHeaderByteLength = 48
const namesColumnByteLength = 16

/** An odd 64-bit number that no sender can guess. */
function randomMultiplier(): bigint {
  const word = (): bigint => BigInt(Math.floor(Math.random() * 2 ** 32))
  return (word() << 32n) | word() | 1n
}

/** Writes the names of the data columns as wireDecodeNulls wants them. Returns where the table stands. */
function buildNames(kernels: Kernels, columns: readonly WireColumn[], scratch: Scratch, statusPtr: number): number {
  const slotBits = Math.max(1, Math.ceil(Math.log2(2 * columns.length + 2)))
  const columnsByteLength = columns.length * namesColumnByteLength
  const namesPtr = scratch.allocate(namesHeaderByteLength + columnsByteLength + 4 * 2 ** slotBits)
  const { view } = kernels
  view.setUint32(namesPtr, slotBits, true)
  view.setUint32(namesPtr + 4, columns.length, true)
  view.setBigUint64(namesPtr + 8, randomMultiplier(), true)
  view.setBigUint64(namesPtr + 16, randomMultiplier(), true)
  for (const [i, column] of columns.entries()) {
    const entry = namesPtr + namesHeaderByteLength + i * namesColumnByteLength
    view.setUint32(entry, column.nameByteOffset, true)
    view.setUint32(entry + 4, column.nameByteLength, true)
  }
  kernels.call.wireBuildNames(namesPtr, statusPtr)
  return namesPtr
}

/**
 * Decodes the null maps of all data columns at once. Entry i is the validityPtr of columns[i]: a bitmap in scratch of
 * ceil(rowCount / 8) bytes, 16-byte aligned, 1 = present, bits past the last row 0; or 0 when no row is missing. A column
 * of dtype null has none either: all its rows are missing. Columns of one name share a bitmap.
 *
 * Throws MALFORMED_FRAME; FRAME_SHAPE for a name that is no data column; ScratchFull.
 */
export function decodeNulls(kernels: Kernels, frame: WireFrame, scratch: Scratch): number[] {
  const { columns, rowCount, nulls } = frame
  if (!frame.hasNulls) return columns.map(() => 0)

  // The bitmaps stay, so they come first; how many there will be shows only at the end. So take what there is room for.
  const bitmapByteLength = Math.ceil(Math.ceil(rowCount / 8) / 16) * 16
  const tableByteLength = 32 + 32 * (columns.length + 1) * 2 + statusByteLength + 64
  const free = Math.max(0, scratch.byteLengthFree - tableByteLength)
  const capacity = Math.min(columns.length, Math.floor(free / bitmapByteLength))
  const mark = scratch.mark()
  const bitmapsPtr = scratch.allocate(capacity * bitmapByteLength)
  const statusPtr = scratch.allocate(statusByteLength)
  const namesPtr = buildNames(kernels, columns, scratch, statusPtr)

  const code = kernels.call.wireDecodeNulls(
    nulls.byteOffset,
    nulls.byteOffset + nulls.byteLength,
    rowCount,
    namesPtr,
    bitmapsPtr,
    capacity,
    statusPtr,
  )
  if (code === unknownName) {
    const nameStart = u32(kernels, statusPtr + 4)
    const nameEnd = nameStart + u32(kernels, statusPtr + 8)
    const name = Buffer.from(kernels.u8.subarray(nameStart, nameEnd)).toString()
    const row = u32(kernels, statusPtr)
    throw new FramesError('FRAME_SHAPE', `null_values of row ${row} name ${quoted(name)}, which is no data column`)
  }
  if (code < 0) throw malformed('null_values', code, u32(kernels, statusPtr) - frame.messageByteOffset)
  const bitmapCount = u32(kernels, statusPtr + 12)
  if (bitmapCount > capacity) {
    throw new ScratchFull(mark - scratch.slice.byteOffset + bitmapCount * bitmapByteLength + tableByteLength)
  }

  const bitmapNumbers = columns.map((column, i) => {
    const entry = namesPtr + namesHeaderByteLength
    const first = u32(kernels, entry + i * namesColumnByteLength + 12)
    return column.dtype === 'null' ? 0 : u32(kernels, entry + first * namesColumnByteLength + 8)
  })
  scratch.release(mark)
  // A scratch that is handed out from its end gives the bitmaps a place behind the one they were written to.
  const keptPtr = scratch.allocate(bitmapCount * bitmapByteLength)
  if (keptPtr !== bitmapsPtr) {
    kernels.u8.copyWithin(keptPtr, bitmapsPtr, bitmapsPtr + bitmapCount * bitmapByteLength)
  }
  return bitmapNumbers.map((bitmap) => (bitmap === 0 ? 0 : keptPtr + (bitmap - 1) * bitmapByteLength))
}

// ---- Values ----

/** Bytes of the values buffer of a column with this many values. */
function valuesByteLength(dtype: DType, valueCount: number): number {
  if (dtype === 'null') return 0
  if (dtype === 'bool') return Math.ceil(valueCount / 8)
  return dtype === 'string' ? 4 * (valueCount + 1) : 8 * valueCount
}

/** Scratch that decodeColumn takes at most for a column whose validityPtr is 0, or that is no label. */
export function decodedColumnByteLength(column: WireColumn): number {
  const valueCount = column.kind === 'label' ? 1 : column.rowCount
  return valuesByteLength(column.dtype, valueCount) + column.textByteLength + statusByteLength + 3 * 16
}

/**
 * Decodes one column into scratch. A label column stays one value, unless some of its rows are missing: then it comes out
 * as a slice.
 *
 * validityPtr  from decodeNulls; 0 for indices and for columns without missing cells
 *
 * Throws MALFORMED_FRAME (varints, UTF-8); FRAME_TOO_LARGE when a label with missing rows would be too much text;
 * ScratchFull.
 */
export function decodeColumn(kernels: Kernels, column: WireColumn, validityPtr: number, scratch: Scratch): ColumnSlice {
  if (column.kind === 'label' && validityPtr !== 0 && column.dtype !== 'null') {
    return repeatLabel(kernels, column, validityPtr, scratch)
  }
  const { name, dtype, kind, rowCount, textByteLength } = column
  if (dtype === 'null') {
    return { name, dtype, kind, rowCount, valuesPtr: 0, validityPtr: 0, bytesPtr: 0, byteLength: 0 }
  }
  const valueCount = kind === 'label' ? 1 : rowCount
  const valuesPtr = scratch.allocate(valuesByteLength(dtype, valueCount))
  const bytesPtr = dtype === 'string' ? scratch.allocate(textByteLength) : 0
  const mark = scratch.mark()
  const statusPtr = scratch.allocate(statusByteLength)
  const code = decodeValues(kernels, column, { validityPtr, valuesPtr, valueCount, bytesPtr, statusPtr })
  if (code < 0) {
    const place = u32(kernels, statusPtr)
    if (code === notUtf8) throw new FramesError('MALFORMED_FRAME', `${titleOf(column)}: row ${place} is not UTF-8`)
    throw malformed(titleOf(column), code, place - column.messageByteOffset)
  }
  scratch.release(mark)
  return { name, dtype, kind, rowCount, valuesPtr, validityPtr, bytesPtr, byteLength: dtype === 'string' ? code : 0 }
}

interface Target {
  readonly validityPtr: number
  readonly valuesPtr: number
  readonly valueCount: number
  readonly bytesPtr: number
  readonly statusPtr: number
}

function decodeValues({ call }: Kernels, column: WireColumn, target: Target): number {
  const { validityPtr, valuesPtr, valueCount, bytesPtr, statusPtr } = target
  const start = column.byteOffset
  const end = start + column.byteLength
  switch (column.dtype) {
    case 'int64':
      return call.wireDecodeVarints(start, end, fieldInts, validityPtr, valuesPtr, valueCount, statusPtr)
    case 'time':
      return call.wireDecodeVarints(start, end, fieldTimes, validityPtr, valuesPtr, valueCount, statusPtr)
    case 'float64':
      return call.wireDecodeDoubles(start, end, validityPtr, valuesPtr, valueCount, statusPtr)
    case 'bool':
      return call.wireDecodeBools(start, end, validityPtr, valuesPtr, valueCount, statusPtr)
    case 'string': {
      const { textByteLength } = column
      return call.wireDecodeStrings(start, end, validityPtr, valuesPtr, valueCount, bytesPtr, textByteLength, statusPtr)
    }
    case 'null':
      return 0
  }
}

/** A label column some of whose rows are missing, as a slice. */
function repeatLabel(kernels: Kernels, column: WireColumn, validityPtr: number, scratch: Scratch): ColumnSlice {
  const { name, dtype, rowCount, textByteLength } = column
  const presentCount = kernels.call.countBits(validityPtr, rowCount)
  const byteLength = presentCount * textByteLength
  if (byteLength >= 2 ** 31) {
    const what = `${titleOf(column)} repeats ${textByteLength} bytes in ${presentCount} rows and is missing in others`
    throw new FramesError('FRAME_TOO_LARGE', what)
  }
  const valuesPtr = scratch.allocate(valuesByteLength(dtype, rowCount))
  const bytesPtr = dtype === 'string' ? scratch.allocate(byteLength) : 0
  const mark = scratch.mark()
  const one = decodeColumn(kernels, column, 0, scratch)
  if (dtype === 'string') {
    kernels.call.wireRepeatText(one.bytesPtr, one.byteLength, validityPtr, valuesPtr, bytesPtr, rowCount)
  } else if (dtype === 'bool') {
    const bitsByteLength = Math.ceil(rowCount / 8)
    if (kernels.u8[one.valuesPtr]! & 1) kernels.u8.copyWithin(valuesPtr, validityPtr, validityPtr + bitsByteLength)
    else kernels.u8.fill(0, valuesPtr, valuesPtr + bitsByteLength)
  } else {
    kernels.call.wireRepeatValue(one.valuesPtr, validityPtr, valuesPtr, rowCount)
  }
  scratch.release(mark)
  return { name, dtype, kind: 'slice', rowCount, valuesPtr, validityPtr, bytesPtr, byteLength }
}

// ---- Writing ----

const encoder = new TextEncoder()

/** Column names come again with every frame; their bytes are kept, up to this many names. */
const keptNameCountMax = 4096
const keptNames = new Map<string, Uint8Array>()

function nameBytes(name: string): Uint8Array {
  let bytes = keptNames.get(name)
  if (bytes === undefined) {
    bytes = encoder.encode(name)
    if (keptNames.size >= keptNameCountMax) keptNames.clear()
    keptNames.set(name, bytes)
  }
  return bytes
}

/** Everything of a column's message but its values: tags, lengths, kind, dtype, size. */
const columnHeadByteLengthMax = 48
/** A row's null map without its entries, and an entry without its name. */
const nullMapHeadByteLengthMax = 6
const nullEntryHeadByteLengthMax = 14
/** A record of the table that wireEncodeNulls reads, and what an entry behind it is rounded up to. */
const nullEntryRecordByteLength = 16

/** Whether some cells of a data column may be missing. */
function mayMiss(column: ColumnSlice): boolean {
  return column.validityPtr !== 0 || (column.dtype === 'null' && column.kind === 'slice')
}

function valueCountOf(column: ColumnSlice): number {
  return column.kind === 'label' ? 1 : column.rowCount
}

function columnBound(column: ColumnSlice): number {
  const valueCount = valueCountOf(column)
  const head = columnHeadByteLengthMax + nameBytes(column.name).length
  switch (column.dtype) {
    case 'int64':
    case 'time':
      return head + 10 * valueCount
    case 'float64':
      return head + 8 * valueCount
    case 'string':
      return head + 6 * valueCount + column.byteLength
    case 'bool':
      return head + valueCount
    case 'null':
      return head
  }
}

/** Bytes of the table that wireEncodeNulls reads. It stands at the end of the target, behind the message. */
function nullEntriesBound(frame: FrameSlice): number {
  let byteLength = 16
  for (const column of frame.columns) {
    if (!mayMiss(column)) continue
    byteLength += nullEntryRecordByteLength + nameBytes(column.name).length + nullEntryHeadByteLengthMax + 16
  }
  return byteLength
}

/** Bytes that encodeFrame needs at most for this frame, working room included. */
export function encodedFrameBound(frame: FrameSlice): number {
  let byteLength = nullEntriesBound(frame)
  for (const column of frame.columns) byteLength += columnBound(column)
  for (const column of frame.indices) byteLength += columnBound(column)
  for (const label of frame.labels) byteLength += 8 + labelByteLengthMax(label)
  let nullMapByteLength = nullMapHeadByteLengthMax
  for (const column of frame.columns) {
    if (mayMiss(column)) nullMapByteLength += nameBytes(column.name).length + nullEntryHeadByteLengthMax
  }
  return byteLength + frame.rowCount * nullMapByteLength
}

/** Writes the small parts of a message one after the other. */
class MessageWriter {
  constructor(
    private readonly u8: Uint8Array,
    public position: number,
  ) {}

  bytes(bytes: ArrayLike<number>): void {
    this.u8.set(bytes, this.position)
    this.position += bytes.length
  }

  /** A varint below 2^32. */
  varint(value: number): void {
    let rest = value
    for (; rest >= 0x80; rest >>>= 7) this.u8[this.position++] = (rest & 0x7f) | 0x80
    this.u8[this.position++] = rest
  }

  /** A length-delimited field. */
  field(number: number, bytes: ArrayLike<number>): void {
    this.fieldHead(number, bytes.length)
    this.bytes(bytes)
  }

  fieldHead(number: number, byteLength: number): void {
    this.varint((number << 3) | 2)
    this.varint(byteLength)
  }
}

function varintByteLength(value: number): number {
  return value < 2 ** 7 ? 1 : value < 2 ** 14 ? 2 : value < 2 ** 21 ? 3 : value < 2 ** 28 ? 4 : 5
}

/**
 * Writes the values of a column of numbers as one packed field, without its tag and length, to before targetEnd; returns
 * the bytes written. column: its number; index columns come behind data columns.
 */
export type PutValues = (column: number, targetPtr: number, targetEnd: number) => number

/**
 * Writes a whole pb.Frame at target and returns its byte length.
 *
 * Missing cells become null_values, with exactly one map a row, only if some data column has a missing cell; their fillers
 * are 0, NaN, '', time 0 and false. Index columns have no null marks: of their missing cells the fillers are sent. A label
 * of dtype null carries bools [false]. Columns of one name share their marks. If no column tells the row count (all are slices of dtype null) the null maps do.
 *
 * target     targetByteLength ≥ encodedFrameBound(frame); bytes behind the message are working room
 * valuePtrs  gets the place of each data column's values, if it is given, and of index columns that `put` writes
 * put        writes the values of the columns, whose valuesPtr is not looked at: numbers, none missing; null: they stand
 *            in the columns
 */
export function encodeFrame(
  kernels: Kernels,
  frame: FrameSlice,
  targetPtr: number,
  targetByteLength: number,
  valuePtrs?: number[],
  put: PutValues | null = null,
): number {
  const targetEnd = targetPtr + targetByteLength
  assert(targetByteLength >= encodedFrameBound(frame), 'the target has room for the frame')
  assert(targetEnd <= kernels.u8.byteLength && targetEnd < 2 ** 32, 'the target lies in the memory')
  assert(frame.rowCount <= frameRowCountMax, 'the frame has no more rows than a frame may have')
  const writer = new MessageWriter(kernels.u8, targetPtr)
  const { columns, indices } = frame
  const putColumn = (field: number, column: ColumnSlice, number: number, write: PutValues): void => {
    const guess = guessOf(column)
    const valuesPtr = putValues(kernels, writer, field, column, guess, targetEnd, (at, end) => write(number, at, end))
    valuePtrs?.push(valuesPtr)
  }
  columns.forEach((column, i) => {
    if (put !== null) putColumn(1, column, i, put)
    else {
      const valuesPtr = writeColumn(kernels, writer, 1, column, targetEnd)
      valuePtrs?.push(valuesPtr)
    }
  })
  indices.forEach((column, i) => {
    if (put !== null) putColumn(2, column, columns.length + i, put)
    else writeColumn(kernels, writer, 2, column, targetEnd)
  })
  for (const label of frame.labels) writer.field(3, labelBytes(label))
  writeNulls(kernels, writer, frame, targetEnd)
  return writer.position - targetPtr
}

/** Byte length of a column's values as one packed field, without its tag and length; of strings with them. */
function payloadByteLength({ call }: Kernels, column: ColumnSlice, dtype: Exclude<DType, 'int64' | 'time'>): number {
  const valueCount = valueCountOf(column)
  switch (dtype) {
    case 'float64':
      return 8 * valueCount
    case 'string':
      return call.wireStringsByteLength(column.valuesPtr, valueCount)
    case 'bool':
      return valueCount
    case 'null':
      return column.kind === 'label' ? 1 : 0
  }
}

/** Where the values go. dtype null: its label's `false`. */
const fieldOfDType: Readonly<Record<DType, number>> = {
  int64: fieldInts,
  float64: 6,
  string: 7,
  time: fieldTimes,
  bool: 9,
  null: 9,
}

/** Bytes of a column's message with a payload of so many bytes. */
function columnByteLength({ dtype, kind, name: text, rowCount }: ColumnSlice, payload: number): number {
  const name = nameBytes(text)
  const isLabel = kind === 'label'
  return (
    (isLabel ? 2 : 0) +
    (name.byteLength > 0 ? 1 + varintByteLength(name.byteLength) + name.byteLength : 0) +
    2 +
    (isLabel && rowCount > 0 ? 1 + varintByteLength(rowCount) : 0) +
    (dtype !== 'string' && payload > 0 ? 1 + varintByteLength(payload) : 0) +
    payload
  )
}

/** Everything of a column but its payload. */
function writeColumnHead(writer: MessageWriter, field: number, column: ColumnSlice, payload: number): void {
  const { dtype } = column
  const name = nameBytes(column.name)
  const isLabel = column.kind === 'label'
  writer.fieldHead(field, columnByteLength(column, payload))
  if (isLabel) {
    writer.varint(0x08)
    writer.varint(1)
  }
  if (name.byteLength > 0) writer.field(2, name)
  writer.varint(0x18)
  writer.varint(dtypeNumbers[dtype])
  if (isLabel && column.rowCount > 0) {
    writer.varint(0x20)
    writer.varint(column.rowCount)
  }
  if (dtype !== 'string' && payload > 0) writer.fieldHead(fieldOfDType[dtype], payload)
}

/**
 * A column of numbers whose payload is as long as it turns out to be: `guess`, mostly, and else it is moved. Returns where its values
 * begin.
 */
function putValues(
  { call }: Kernels,
  writer: MessageWriter,
  field: number,
  column: ColumnSlice,
  guess: number,
  targetEnd: number,
  put: (targetPtr: number, targetEnd: number) => number,
): number {
  const start = writer.position
  const headByteLength = (payload: number): number => {
    const byteLength = columnByteLength(column, payload)
    return 1 + varintByteLength(byteLength) + byteLength - payload
  }
  const guessedPtr = start + headByteLength(guess)
  const payload = put(guessedPtr, targetEnd)
  assert(payload >= 0, 'the values of a column fit before the end of the target')
  const payloadPtr = start + headByteLength(payload)
  if (payloadPtr !== guessedPtr) call.copyBytes(guessedPtr, payload, payloadPtr)
  writeColumnHead(writer, field, column, payload)
  assert(writer.position === payloadPtr, 'the head of a column is as long as it was thought to be')
  writer.position += payload
  return payloadPtr
}

/** What the values of a column of numbers are likely to take. */
function guessOf({ dtype, rowCount }: ColumnSlice): number {
  // Times of these centuries are varints of nine bytes.
  return dtype === 'time' ? 9 * rowCount : dtype === 'float64' ? 8 * rowCount : rowCount
}

/** Returns where its values begin. */
function writeColumn(
  kernels: Kernels,
  writer: MessageWriter,
  field: number,
  column: ColumnSlice,
  targetEnd: number,
): number {
  const { call } = kernels
  const { dtype, valuesPtr } = column
  const valueCount = valueCountOf(column)
  if (dtype === 'int64' || dtype === 'time') {
    // One pass instead of two: all take about as much as the first one.
    const guess = valueCount * call.wireVarintsByteLength(valuesPtr, Math.min(valueCount, 1))
    return putValues(kernels, writer, field, column, guess, targetEnd, (at, end) =>
      call.wireEncodeVarints(valuesPtr, valueCount, at, end),
    )
  }
  const payload = payloadByteLength(kernels, column, dtype)
  writeColumnHead(writer, field, column, payload)
  const { position } = writer
  let written = payload
  if (dtype === 'float64') {
    call.wireEncodeDoubles(valuesPtr, column.validityPtr, valueCount, position)
  } else if (dtype === 'bool') {
    call.wireEncodeBools(valuesPtr, valueCount, position)
  } else if (dtype === 'string') {
    written = call.wireEncodeStrings(valuesPtr, column.bytesPtr, valueCount, position, targetEnd)
  } else if (payload === 1) {
    kernels.u8[position] = 0
  }
  assert(written === payload, `${dtype} column: as many bytes are written as were announced`)
  writer.position += payload
  return position
}

/** One null map a row, if some cell is missing, or if no column tells the number of rows. */
function writeNulls(kernels: Kernels, writer: MessageWriter, frame: FrameSlice, targetEnd: number): void {
  if (frame.rowCount === 0) return
  const missing = frame.columns.filter((column) => mayMiss(column) && missesSome(kernels, column))
  if (missing.length === 0 && (frame.columns.some(tellsRowCount) || frame.indices.some(tellsRowCount))) return

  // The table: a record for each column, then the finished map entries, each rounded up so that it can be copied in
  // blocks of sixteen bytes.
  const entriesPtr = Math.floor((targetEnd - nullEntriesBound(frame)) / 8) * 8 + 8
  const entries = new MessageWriter(kernels.u8, entriesPtr + missing.length * nullEntryRecordByteLength)
  for (const [i, column] of missing.entries()) {
    const name = nameBytes(column.name)
    const keyByteLength = name.byteLength > 0 ? 1 + varintByteLength(name.byteLength) + name.byteLength : 0
    const start = entries.position
    entries.fieldHead(1, keyByteLength + 2)
    if (keyByteLength > 0) entries.field(1, name)
    entries.varint(0x10)
    entries.varint(1)
    const byteLength = entries.position - start
    entries.position = start + Math.ceil(byteLength / 16) * 16
    const record = entriesPtr + i * nullEntryRecordByteLength
    kernels.view.setUint32(record, start, true)
    kernels.view.setUint32(record + 4, byteLength, true)
    kernels.view.setUint32(record + 8, column.kind === 'label' ? 0 : column.validityPtr, true)
  }
  assert(entries.position <= targetEnd, 'the null entries fit behind the message')
  const written = kernels.call.wireEncodeNulls(entriesPtr, missing.length, frame.rowCount, writer.position, entriesPtr)
  assert(written >= 0, 'the null maps fit before their table')
  writer.position += written
}

function tellsRowCount({ dtype, kind }: ColumnSlice): boolean {
  return dtype !== 'null' || kind === 'label'
}

function missesSome(kernels: Kernels, column: ColumnSlice): boolean {
  if (column.validityPtr === 0) return true
  const valueCount = valueCountOf(column)
  return kernels.call.countBits(column.validityPtr, valueCount) < valueCount
}
