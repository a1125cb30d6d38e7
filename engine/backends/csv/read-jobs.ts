// Reading files, worker half: text comes in pieces into scratch, kernels find records and make columns of them.
import { readSync } from 'node:fs'
import { encodedFrameBound, encodeFrame } from '../../codec/wire.js'
import { FramesError } from '../../errors.js'
import type { ColumnSlice, FrameLabel, FrameSlice } from '../../frame/column-slice.js'
import type { DType } from '../../frame/dtype.js'
import type { Kernels } from '../../kernels/kernels.js'
import {
  csvRecordByteLengthMax,
  MiB,
  nameByteLengthMax,
  readMessageByteLength,
  tableColumnCountMax,
} from '../../limits.js'
import { Scratch, ScratchFull } from '../../memory/scratch.js'
import type { Slice } from '../../memory/slice.js'
import { type JobHandler, throwIfCancelled } from '../../pool/context.js'
import type { Job } from '../../pool/job.js'
import { fileError } from './file-error.js'
import { encodeMarker, type TextPlace } from './marker.js'
import { parseSlowFloat } from './slow-float.js'

/** A file as jobs find it: opened by the main thread, closed when no job uses it any more. */
export interface OpenText {
  readonly fd: number
  /** Bytes that it had when it was opened; what is appended later is not read. */
  readonly byteLength: number
}

/** Looks through a part of a file: which types its columns have, how many records there are, whether all is well-formed. */
export interface ScanTextJob extends Job {
  readonly kind: 'csv.scan'
  readonly text: OpenText
  readonly place: TextPlace
  /** Type bits of the columns so far (see csvTypes); null: the header comes first. */
  readonly types: Uint32Array | null
}

export interface ScanTextResult {
  /** The header, where it was in this part. */
  readonly header: { readonly names: readonly string[]; readonly end: TextPlace } | null
  readonly types: Uint32Array
  /** Where the next part starts; null: this was the last. */
  readonly next: TextPlace | null
  readonly rowCount: number
}

/** Makes the next frames of a read. */
export interface ReadTextJob extends Job {
  readonly kind: 'csv.read'
  readonly text: OpenText
  readonly place: TextPlace
  /** Fields of each record. */
  readonly columnCount: number
  /** Columns of the frames, in their order; `field` is the place of each in a record. */
  readonly columns: readonly { readonly field: number; readonly name: string; readonly dtype: DType }[]
  /** Rows that are wanted at most. */
  readonly rowCountMax: number
  /** Rows of each frame but the last; 0: cut by bytes. */
  readonly frameRowCount: number
  /** Rows of the file, and what a marker says of it: a read that ends before them tells where. */
  readonly fileRowCount: number
  readonly file: string
  readonly format: 'wire' | 'columns'
}

export interface ReadTextResult {
  readonly messages: readonly {
    readonly rowCount: number
    readonly bytes: Slice | null
    readonly frame: FrameSlice | null
  }[]
  /** Null: there are no more rows. */
  readonly next: TextPlace | null
}

/** Text of one scan job at most: enough to amortise the job, little enough that others come in between. */
const scanByteLengthMax = 32 * MiB
const statusByteLength = 64
/** Text that is taken in at once, as a part of the scratch. Half as many fields fit as it has bytes. */
const textShare = 1 / 16
/** Below this a frame that lacks rows of the asked number is read again with more text. */
const frameTextByteLengthMax = 16 * MiB
const int64Kind = 4
const timeKind = 1

const faults: Readonly<Record<number, string>> = {
  [-2]: 'bare " in non-quoted field',
  [-3]: 'extraneous or missing " in quoted field',
}
const wrongFieldCount = -1

/** The scratch of a job that reads text. */
interface Desk {
  readonly kernels: Kernels
  readonly text: OpenText
  readonly textPtr: number
  readonly textCapacity: number
  readonly fieldsPtr: number
  readonly fieldCapacity: number
  readonly statusPtr: number
}

function layDesk(kernels: Kernels, scratch: Scratch, text: OpenText, columnCount: number): Desk {
  const textCapacity = Math.floor((scratch.slice.byteLength * textShare) / 64) * 64
  const fieldCapacity = Math.max(textCapacity / 2, columnCount)
  return {
    kernels,
    text,
    textPtr: scratch.allocate(textCapacity),
    textCapacity,
    fieldsPtr: scratch.allocate(8 * fieldCapacity),
    fieldCapacity,
    statusPtr: scratch.allocate(statusByteLength),
  }
}

/** Fills the text from a place on; returns how many bytes there are. */
function fillText({ kernels, text, textPtr, textCapacity }: Desk, byteOffset: number): number {
  const byteLength = Math.min(textCapacity, text.byteLength - byteOffset)
  let filled = 0
  try {
    while (filled < byteLength) {
      const count = readSync(text.fd, kernels.u8, textPtr + filled, byteLength - filled, byteOffset + filled)
      if (count === 0) throw new FramesError('FILE_CHANGED', 'the file became shorter while it was read')
      filled += count
    }
  } catch (error) {
    throw fileError(error, 'read')
  }
  return byteLength
}

/** Records of the text from `start` on; their fields stand in the desk. */
interface Records {
  readonly count: number
  /** Bytes of text that are done with. */
  readonly byteLength: number
  readonly lineCount: number
}

function indexRecords(
  desk: Desk,
  { start, end, isLast }: { start: number; end: number; isLast: boolean },
  columnCount: number,
  countMax: number,
  line: number,
): Records {
  const { kernels, textPtr, fieldsPtr, fieldCapacity, statusPtr } = desk
  const count = kernels.call.csvIndex(
    textPtr + start,
    end - start,
    isLast ? 1 : 0,
    columnCount,
    Math.min(countMax, 2 ** 31 - 1),
    fieldsPtr,
    fieldCapacity,
    statusPtr,
  )
  const status = statusPtr >> 2
  if (count < 0) {
    const wrongLine = line + kernels.u32[status + 2]!
    if (count !== wrongFieldCount)
      throw new FramesError('CSV_SYNTAX', `parse error on line ${wrongLine}: ${faults[count]}`)
    const fieldCount = kernels.u32[status + 3]!
    if (columnCount === 0) {
      throw new FramesError(
        'TOO_MANY_COLUMNS',
        `the header has ${fieldCount} columns, at most ${tableColumnCountMax} are possible`,
      )
    }
    throw new FramesError('CSV_SYNTAX', `record on line ${wrongLine}: wrong number of fields`)
  }
  return { count, byteLength: kernels.u32[status]!, lineCount: kernels.u32[status + 1]! }
}

/** No record ends in the text at hand: more of it is needed, in a larger scratch. */
function needMoreText(scratch: Scratch, desk: Desk, line: number): Error {
  if (desk.textCapacity < csvRecordByteLengthMax) return new ScratchFull(2 * scratch.slice.byteLength)
  const what = `the record on line ${line} is longer than ${csvRecordByteLengthMax} bytes`
  return new FramesError('CSV_SYNTAX', `${what}; perhaps a quote is not closed`)
}

function checkUtf8({ kernels, textPtr }: Desk, byteLength: number, line: number): void {
  const { call, u8 } = kernels
  if (call.isUtf8(textPtr, byteLength) === 1) return
  let start = textPtr
  let wrongLine = line
  for (const end = textPtr + byteLength; ; wrongLine++) {
    const found = u8.subarray(start, end).indexOf(0x0a)
    const lineEnd = found < 0 ? end : start + found + 1
    if (found < 0 || call.isUtf8(start, lineEnd - start) !== 1) break
    start = lineEnd
  }
  throw new FramesError('CSV_SYNTAX', `line ${wrongLine} is not UTF-8`)
}

// ---- Looking through a file ----

const byteOrderMark = [0xef, 0xbb, 0xbf]

const scan: JobHandler<ScanTextJob, ScanTextResult> = (job, context) => {
  const { kernels } = context
  const scratch = new Scratch(job.scratch)
  const desk = layDesk(kernels, scratch, job.text, job.types?.length ?? tableColumnCountMax)
  let { place } = job
  let header: ScanTextResult['header'] = null
  if (job.types === null) {
    header = readHeader(desk, scratch, place)
    place = header.end
  }
  const columnCount = job.types?.length ?? header!.names.length
  const typesPtr = scratch.allocate(4 * columnCount)
  const valuePtr = scratch.allocate(8)
  const types = kernels.u32.subarray(typesPtr >> 2, (typesPtr >> 2) + columnCount)
  if (job.types === null) types.fill(0)
  else types.set(job.types)

  const stop = Math.min(job.text.byteLength, place.byteOffset + scanByteLengthMax)
  let rowCount = 0
  while (place.byteOffset < stop) {
    throwIfCancelled(job, context)
    const byteLength = fillText(desk, place.byteOffset)
    const isLast = place.byteOffset + byteLength === job.text.byteLength
    const records = indexRecords(desk, { start: 0, end: byteLength, isLast }, columnCount, Infinity, place.line)
    if (records.byteLength === 0) throw needMoreText(scratch, desk, place.line)
    checkUtf8(desk, records.byteLength, place.line)
    kernels.call.csvTypes(desk.textPtr, desk.fieldsPtr, columnCount, records.count, typesPtr, valuePtr)
    rowCount += records.count
    place = after(place, records)
  }
  const next = place.byteOffset < job.text.byteLength ? place : null
  return { header, types: types.slice(), next, rowCount }
}

function after({ byteOffset, line, row }: TextPlace, records: Records): TextPlace {
  return { byteOffset: byteOffset + records.byteLength, line: line + records.lineCount, row: row + records.count }
}

function readHeader(desk: Desk, scratch: Scratch, start: TextPlace): { names: string[]; end: TextPlace } {
  const { kernels, textPtr, fieldsPtr } = desk
  const byteLength = fillText(desk, 0)
  const hasMark = byteOrderMark.every((byte, i) => i < byteLength && kernels.u8[textPtr + i] === byte)
  const markByteLength = hasMark ? byteOrderMark.length : 0
  const isLast = byteLength === desk.text.byteLength
  const range = { start: markByteLength, end: byteLength, isLast }
  const records = indexRecords({ ...desk, fieldCapacity: tableColumnCountMax }, range, 0, 1, start.line)
  if (records.count === 0) {
    if (isLast) throw new FramesError('CSV_SYNTAX', 'cannot read header (columns): EOF')
    throw needMoreText(scratch, desk, start.line)
  }
  checkUtf8(desk, markByteLength + records.byteLength, start.line)
  const columnCount = kernels.u32[(desk.statusPtr >> 2) + 3]!
  const names: string[] = []
  for (let i = 0; i < columnCount; i++) {
    const field = (fieldsPtr >> 2) + 2 * i
    const length = kernels.u32[field + 1]! & 0x7fff_ffff
    if (length > nameByteLengthMax) {
      const what = `the name of column ${i} has ${length} bytes, at most ${nameByteLengthMax} are possible`
      throw new FramesError('CSV_SYNTAX', what)
    }
    const nameStart = textPtr + markByteLength + kernels.u32[field]!
    const name = Buffer.from(kernels.u8.slice(nameStart, nameStart + length)).toString()
    names.push(kernels.u32[field + 1]! > 0x7fff_ffff ? name.replaceAll('""', '"') : name)
  }
  const end = {
    byteOffset: markByteLength + records.byteLength,
    line: start.line + records.lineCount,
    row: 0,
  }
  return { names, end }
}

// ---- Making frames ----

const read: JobHandler<ReadTextJob, ReadTextResult> = (job, context) => {
  const { kernels } = context
  const { columnCount, text, frameRowCount } = job
  const scratch = new Scratch(job.scratch)
  const desk = layDesk(kernels, scratch, text, columnCount)
  let { place } = job
  const byteLength = fillText(desk, place.byteOffset)
  const isLast = place.byteOffset + byteLength === text.byteLength
  const messages: ReadTextResult['messages'][number][] = []
  let start = 0
  let madeByteLength = 0
  let leftCount = job.rowCountMax
  // Fewer rows where the scratch has no room for a frame of more.
  let fittingCount = Infinity
  while (start < byteLength && leftCount > 0) {
    throwIfCancelled(job, context)
    const wanted = Math.min(leftCount, frameRowCount === 0 ? Infinity : frameRowCount, fittingCount)
    const records = indexRecords(desk, { start, end: byteLength, isLast }, columnCount, wanted, place.line)
    const isWhole = isLast && start + records.byteLength === byteLength
    if (records.byteLength === 0 && messages.length === 0) throw needMoreText(scratch, desk, place.line)
    if (records.byteLength === 0) break
    if (frameRowCount > 0 && records.count < Math.min(leftCount, frameRowCount) && !isWhole) {
      // Frames of the asked number of rows: the next job starts with this one.
      if (messages.length > 0) break
      if (desk.textCapacity < frameTextByteLengthMax) throw new ScratchFull(2 * scratch.slice.byteLength)
    }
    const end = after(place, records)
    if (records.count > 0) {
      leftCount -= records.count
      const isCut = leftCount === 0 && end.row < job.fileRowCount
      const labels: FrameLabel[] = isCut ? [{ name: 'next_marker', value: encodeMarker(end, job.file) }] : []
      const message = makeMessage(job, desk, scratch, { start, rowCount: records.count, labels })
      if (message === null) {
        if (messages.length > 0) break
        if (records.count === 1) throw new ScratchFull(2 * scratch.slice.byteLength)
        fittingCount = Math.ceil(records.count / 2)
        leftCount += records.count
        continue
      }
      messages.push(message)
      madeByteLength += records.byteLength
    }
    place = end
    start += records.byteLength
    if (frameRowCount === 0 || madeByteLength >= readMessageByteLength) break
  }
  return { messages, next: place.byteOffset < text.byteLength && leftCount > 0 ? place : null }
}

/** One frame of indexed records; null when the scratch has no room for it. */
function makeMessage(
  job: ReadTextJob,
  desk: Desk,
  scratch: Scratch,
  { start, rowCount, labels }: { start: number; rowCount: number; labels: readonly FrameLabel[] },
): ReadTextResult['messages'][number] | null {
  const mark = scratch.mark()
  try {
    const columns = job.columns.map(({ field, name, dtype }) =>
      makeColumn(job, desk, scratch, { textPtr: desk.textPtr + start, field, name, dtype, rowCount }),
    )
    const frame: FrameSlice = { rowCount, columns, indices: [], labels }
    if (job.format === 'columns') return { rowCount, bytes: null, frame }
    const bound = encodedFrameBound(frame)
    const byteOffset = scratch.allocate(bound)
    const byteLength = encodeFrame(desk.kernels, frame, byteOffset, bound)
    return { rowCount, bytes: { byteOffset, byteLength }, frame: null }
  } catch (error) {
    if (!(error instanceof ScratchFull)) throw error
    scratch.release(mark)
    return null
  }
}

interface ColumnText {
  readonly textPtr: number
  readonly field: number
  readonly name: string
  readonly dtype: DType
  readonly rowCount: number
}

function makeColumn(
  { columnCount }: ReadTextJob,
  { kernels, fieldsPtr, statusPtr }: Desk,
  scratch: Scratch,
  { textPtr, field, name, dtype, rowCount }: ColumnText,
): ColumnSlice {
  const { call } = kernels
  const fieldPtr = fieldsPtr + 8 * field
  const column = { name, dtype, kind: 'slice' as const, rowCount, validityPtr: 0, bytesPtr: 0, byteLength: 0 }
  if (dtype === 'string') {
    const valuesPtr = scratch.allocate(4 * (rowCount + 1))
    const bytesPtr = scratch.allocate(call.csvTextByteLength(fieldPtr, columnCount, rowCount))
    const byteLength = call.csvTexts(textPtr, fieldPtr, columnCount, rowCount, valuesPtr, bytesPtr)
    return { ...column, valuesPtr, bytesPtr, byteLength }
  }
  const bitsByteLength = Math.ceil(rowCount / 8)
  const validityPtr = scratch.allocate(bitsByteLength)
  const valuesPtr = scratch.allocate(dtype === 'bool' ? bitsByteLength : 8 * rowCount)
  let emptyCount: number
  if (dtype === 'bool') emptyCount = call.csvBools(textPtr, fieldPtr, columnCount, rowCount, valuesPtr, validityPtr)
  else if (dtype === 'float64') {
    const mark = scratch.mark()
    const hardPtr = scratch.allocate(4 * rowCount)
    emptyCount = call.csvFloats(textPtr, fieldPtr, columnCount, rowCount, valuesPtr, validityPtr, hardPtr, statusPtr)
    const hardCount = emptyCount < 0 ? 0 : kernels.u32[statusPtr >> 2]!
    for (let i = 0; i < hardCount; i++) {
      const row = kernels.u32[(hardPtr >> 2) + i]!
      const entry = (fieldPtr >> 2) + 2 * row * columnCount
      const start = textPtr + kernels.u32[entry]!
      const text = Buffer.from(kernels.u8.slice(start, start + kernels.u32[entry + 1]!)).toString('latin1')
      kernels.f64[(valuesPtr >> 3) + row] = parseSlowFloat(text)
    }
    scratch.release(mark)
  } else {
    const kind = dtype === 'time' ? timeKind : int64Kind
    emptyCount = call.csvIntegers(textPtr, fieldPtr, columnCount, rowCount, kind, valuesPtr, validityPtr)
  }
  if (emptyCount < 0) {
    throw new FramesError(
      'FILE_CHANGED',
      `column ${JSON.stringify(name)} has other values than when its types were looked for`,
    )
  }
  return { ...column, valuesPtr, validityPtr: emptyCount === 0 ? 0 : validityPtr }
}

export const csvReadHandlers = { 'csv.scan': scan, 'csv.read': read }
