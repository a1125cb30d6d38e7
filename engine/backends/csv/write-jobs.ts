// Writing files, worker half: a frame's columns become records, and go to the file piece by piece.
import { writeSync } from 'node:fs'
import { FramesError, shortened } from '../../errors.js'
import type { ColumnSlice } from '../../frame/column-slice.js'
import { dtypeNumbers } from '../../frame/dtype.js'
import { floatText } from '../../frame/value-text.js'
import type { Kernels } from '../../kernels/kernels.js'
import { MiB } from '../../limits.js'
import { Scratch, ScratchFull } from '../../memory/scratch.js'
import { type JobHandler, throwIfCancelled } from '../../pool/context.js'
import type { Job } from '../../pool/job.js'
import { type FrameInput, openInput } from '../frame-input.js'
import { fileError } from './file-error.js'
import { recordText } from './record-text.js'

/** Writes a frame's rows at a place of a file. Sent again, it writes the same bytes at the same place. */
export interface WriteTextJob extends Job {
  readonly kind: 'csv.write'
  readonly input: FrameInput
  readonly fd: number
  readonly byteOffset: number
  /** The columns of the file; null: this frame's, and the header is written before it. */
  readonly names: readonly string[] | null
}

export interface WriteTextResult {
  readonly rowCount: number
  /** The columns of the file; null while no frame had any. */
  readonly names: readonly string[] | null
  /** Where the next frame goes. */
  readonly byteOffset: number
}

const recordsByteLength = 1 * MiB
/** Slots for the texts of floats that are made at once. */
const slotCountMax = 32 * 1024
const slotByteLength = 32
const columnRecordByteLength = 24

interface NamedColumn {
  readonly name: string
  readonly column: ColumnSlice
}

const write: JobHandler<WriteTextJob, WriteTextResult> = (job, context) => {
  const { kernels } = context
  const { fd } = job
  const scratch = new Scratch(job.scratch)
  const { rowCount, columns: own } = openFrame(kernels, job.input, scratch)
  const columns = job.names === null ? own : inOrder(own, job.names)
  if (columns.length === 0) return { rowCount, names: job.names, byteOffset: job.byteOffset }
  let { byteOffset } = job
  if (job.names === null) {
    byteOffset += writeWhole(fd, Buffer.from(recordText(columns.map(({ name }) => name))), byteOffset)
  }
  const writer = new RecordWriter(
    kernels,
    scratch,
    columns.map(({ column }) => column),
  )
  for (let row = 0; row < rowCount; ) {
    throwIfCancelled(job, context)
    const written = writer.write(row, rowCount)
    byteOffset += writeWhole(fd, written.bytes, byteOffset)
    row += written.rowCount
  }
  return { rowCount, names: columns.map(({ name }) => name), byteOffset }
}

/** All columns of a frame: indices first. */
function openFrame(
  kernels: Kernels,
  input: FrameInput,
  scratch: Scratch,
): { rowCount: number; columns: readonly NamedColumn[] } {
  const { rowCount, indices, columns } = openInput(kernels, scratch, input)
  return {
    rowCount,
    columns: [
      ...namedIndices(indices.map((index) => index.decode())),
      ...columns.map(({ name, decode }) => ({ name, column: decode() })),
    ],
  }
}

/** An index without values only tells the number of rows. */
function namedIndices(indices: readonly ColumnSlice[]): NamedColumn[] {
  return indices.flatMap((column, position) => {
    if (column.dtype === 'null') return []
    return { name: column.name !== '' ? column.name : position === 0 ? 'idx' : `idx-${position}`, column }
  })
}

/** The columns in the order of the file; of several with one name the first is the first there. Throws FRAME_SHAPE. */
function inOrder(columns: readonly NamedColumn[], names: readonly string[]): NamedColumn[] {
  const byName = new Map<string, NamedColumn[]>()
  for (const column of columns) {
    const same = byName.get(column.name)
    if (same === undefined) byName.set(column.name, [column])
    else same.push(column)
  }
  const ordered = names.map((name) => {
    const column = byName.get(name)?.shift()
    if (column === undefined) throw shapeError(`the frame has no column ${JSON.stringify(shortened(name))}`)
    return column
  })
  const left = [...byName.values()].find((rest) => rest.length > 0)
  if (left !== undefined) throw shapeError(`the frame has a column ${JSON.stringify(shortened(left[0]!.name))} more`)
  return ordered
}

function shapeError(what: string): FramesError {
  return new FramesError('FRAME_SHAPE', `${what}; all frames of a file have the same columns`)
}

/** Makes records of columns, as many at once as its buffer takes. */
class RecordWriter {
  readonly #floats: readonly { readonly column: ColumnSlice; readonly slotsPtr: number }[]
  readonly #columnsPtr: number
  readonly #columnCount: number
  readonly #rowCountMax: number
  readonly #hardPtr: number
  readonly #statusPtr: number
  readonly #targetPtr: number
  readonly #targetByteLength: number

  constructor(
    readonly kernels: Kernels,
    readonly scratch: Scratch,
    columns: readonly ColumnSlice[],
  ) {
    const { u32 } = kernels
    const floatCount = columns.filter(({ dtype }) => dtype === 'float64').length
    this.#rowCountMax = Math.max(1, Math.floor(slotCountMax / Math.max(1, floatCount)))
    this.#columnCount = columns.length
    this.#columnsPtr = scratch.allocate(columnRecordByteLength * columns.length)
    this.#hardPtr = scratch.allocate(4 * this.#rowCountMax)
    this.#statusPtr = scratch.allocate(16)
    const floats: { column: ColumnSlice; slotsPtr: number }[] = []
    columns.forEach((column, i) => {
      const isOne = column.kind === 'label'
      const slotsPtr =
        column.dtype === 'float64' ? scratch.allocate(slotByteLength * (isOne ? 1 : this.#rowCountMax)) : 0
      if (column.dtype === 'float64') floats.push({ column, slotsPtr })
      const dtype = column.dtype === 'null' ? 0 : dtypeNumbers[column.dtype]
      const record = [dtype, isOne ? 1 : 0, column.valuesPtr, column.validityPtr, column.bytesPtr, slotsPtr]
      u32.set(record, (this.#columnsPtr + columnRecordByteLength * i) >> 2)
    })
    this.#floats = floats
    // What the columns leave free, so that a scratch that grows has room for longer rows.
    this.#targetByteLength = Math.max(recordsByteLength, Math.min(scratch.byteLengthFree, 2 ** 31) - 64)
    this.#targetPtr = scratch.allocate(this.#targetByteLength)
  }

  /** Records of the rows from `start` on; the bytes hold until the next call. Throws ScratchFull for a row that is too long. */
  write(start: number, rowCount: number): { rowCount: number; bytes: Uint8Array } {
    const { call, u8, u32 } = this.kernels
    const end = Math.min(rowCount, start + this.#rowCountMax)
    for (const { column, slotsPtr } of this.#floats) this.#writeFloats(column, slotsPtr, start, end)
    const room = Math.min(this.#targetByteLength, 2 ** 31 - 1)
    const count = call.csvRecords(
      this.#columnsPtr,
      this.#columnCount,
      start,
      end,
      this.#targetPtr,
      room,
      this.#statusPtr,
    )
    if (count === 0) throw new ScratchFull(2 * this.scratch.slice.byteLength)
    const byteLength = u32[this.#statusPtr >> 2]!
    return { rowCount: count, bytes: u8.subarray(this.#targetPtr, this.#targetPtr + byteLength) }
  }

  #writeFloats(column: ColumnSlice, slotsPtr: number, start: number, end: number): void {
    const { call, u8, u32, f64 } = this.kernels
    const first = column.kind === 'label' ? 0 : start
    const count = column.kind === 'label' ? 1 : end - start
    const hardCount = call.csvFloatTexts(column.valuesPtr + 8 * first, count, slotsPtr, this.#hardPtr)
    for (let i = 0; i < hardCount; i++) {
      const row = u32[(this.#hardPtr >> 2) + i]!
      const text = floatText(f64[(column.valuesPtr >> 3) + first + row]!)
      const slot = slotsPtr + slotByteLength * row
      u8[slot] = text.length
      for (let at = 0; at < text.length; at++) u8[slot + 1 + at] = text.charCodeAt(at)
    }
  }
}

/** Writes all bytes at a place; returns how many. Throws DISK_FULL, FILE_FAILED. */
function writeWhole(fd: number, bytes: Uint8Array, byteOffset: number): number {
  let written = 0
  try {
    while (written < bytes.byteLength) {
      written += writeSync(fd, bytes, written, bytes.byteLength - written, byteOffset + written)
    }
  } catch (error) {
    throw fileError(error, 'write')
  }
  return written
}

export const csvWriteHandlers = { 'csv.write': write }
