// A frame as a job is given it: wire bytes or laid-out columns, opened the same way. Values are decoded column by column.
import { decodeColumn, decodeNulls, scanFrame } from '../codec/wire.js'
import type { WireColumn } from '../codec/wire.js'
import { FramesError } from '../errors.js'
import type { ColumnSlice, FrameLabel, FrameSlice } from '../frame/column-slice.js'
import type { DType } from '../frame/dtype.js'
import type { Kernels } from '../kernels/kernels.js'
import type { Scratch } from '../memory/scratch.js'
import type { Slice } from '../memory/slice.js'

/** Where a frame stands: as pb.Frame bytes, or as columns that the caller laid out. */
export type FrameInput =
  | { readonly format: 'wire'; readonly message: Slice }
  | { readonly format: 'columns'; readonly frame: LaidFrame }

/** What the frames of one sender have in common: those of a job name one object, which travels once. */
export interface FrameShape {
  readonly columns: readonly ColumnShape[]
  readonly indices: readonly ColumnShape[]
  readonly labelNames: readonly string[]
}

export type ColumnShape = Pick<ColumnSlice, 'name' | 'dtype' | 'kind'>

/** A frame in the shared memory, less what it has in common with others. */
export interface LaidFrame {
  readonly shape: FrameShape
  readonly rowCount: number
  /** Not 0: of the texts of index columns only so many are laid out, which come again to the end. */
  readonly repeatedRowCount: number
  /** valuesPtr, validityPtr, bytesPtr and byteLength of each column, then of each index. */
  readonly places: readonly number[]
  readonly labelValues: readonly FrameLabel['value'][]
}

/** Fields of a column in `places`. */
export const placeFieldCount = 4

/** A frame whose columns have `rowCount` rows each, by the shape of one before it where that is the same. */
export function laidFrame(frame: FrameSlice, before: FrameShape | null, repeatedRowCount = 0): LaidFrame {
  const { rowCount, columns, indices, labels } = frame
  const places: number[] = []
  for (const list of [columns, indices])
    for (const { valuesPtr, validityPtr, bytesPtr, byteLength } of list)
      places.push(valuesPtr, validityPtr, bytesPtr, byteLength)
  const shape = before !== null && isShapedAs(frame, before) ? before : shapeOf(frame)
  return { shape, rowCount, repeatedRowCount, places, labelValues: labels.map(({ value }) => value) }
}

function shapeOf({ columns, indices, labels }: FrameSlice): FrameShape {
  const shaped = ({ name, dtype, kind }: ColumnSlice): ColumnShape => ({ name, dtype, kind })
  return { columns: columns.map(shaped), indices: indices.map(shaped), labelNames: labels.map(({ name }) => name) }
}

function isShapedAs({ columns, indices, labels }: FrameSlice, shape: FrameShape): boolean {
  return (
    areShapedAs(columns, shape.columns) &&
    areShapedAs(indices, shape.indices) &&
    labels.length === shape.labelNames.length &&
    labels.every(({ name }, i) => name === shape.labelNames[i])
  )
}

export function isSameShape(a: FrameShape, b: FrameShape): boolean {
  return (
    areShapedAs(a.columns, b.columns) &&
    areShapedAs(a.indices, b.indices) &&
    a.labelNames.length === b.labelNames.length &&
    a.labelNames.every((name, i) => name === b.labelNames[i])
  )
}

function areShapedAs(columns: readonly ColumnShape[], shapes: readonly ColumnShape[]): boolean {
  if (columns.length !== shapes.length) return false
  return columns.every(({ name, dtype, kind }, i) => {
    const shape = shapes[i]!
    return name === shape.name && dtype === shape.dtype && kind === shape.kind
  })
}

export interface InputColumn {
  readonly name: string
  readonly dtype: DType
  /** See ColumnSlice. */
  readonly kind: ColumnSlice['kind']
  readonly validityPtr: number
  /** string: bytes of all cells (a label's: of its one value); else 0. */
  readonly textByteLength: number
  /** Decodes into the scratch that the frame was opened with. Throws MALFORMED_FRAME. */
  readonly decode: () => ColumnSlice
}

export interface InputFrame {
  readonly rowCount: number
  /** Not 0: text columns among the indices decode to so many rows, which come again to the end. Only of frames laid out so. */
  readonly repeatedRowCount: number
  readonly columns: readonly InputColumn[]
  readonly indices: readonly InputColumn[]
  readonly labels: readonly FrameLabel[]
}

/** Finds the columns of a frame, and checks its shape. Throws MALFORMED_FRAME, FRAME_SHAPE, FRAME_TOO_LARGE. */
export function openInput(kernels: Kernels, scratch: Scratch, input: FrameInput): InputFrame {
  return input.format === 'wire' ? openWire(kernels, scratch, input.message) : openColumns(input.frame)
}

function openWire(kernels: Kernels, scratch: Scratch, message: Slice): InputFrame {
  const frame = scanFrame(kernels, message, scratch)
  const validity = decodeNulls(kernels, frame, scratch)
  const open = (column: WireColumn, validityPtr: number): InputColumn => ({
    name: column.name,
    dtype: column.dtype,
    kind: column.kind,
    validityPtr,
    textByteLength: column.textByteLength,
    decode: () => decodeColumn(kernels, column, validityPtr, scratch),
  })
  return {
    rowCount: frame.rowCount,
    repeatedRowCount: 0,
    columns: frame.columns.map((column, i) => open(column, validity[i] ?? 0)),
    indices: frame.indices.map((index) => open(index, 0)),
    labels: frame.labels,
  }
}

function openColumns({ shape, rowCount: frameRowCount, repeatedRowCount, places, labelValues }: LaidFrame): InputFrame {
  const open = ({ name, dtype, kind }: ColumnShape, number: number): InputColumn => {
    const isRepeated = number >= shape.columns.length && kind === 'slice' && dtype === 'string'
    const rowCount = isRepeated && repeatedRowCount > 0 ? repeatedRowCount : frameRowCount
    const at = placeFieldCount * number
    const valuesPtr = places[at]!
    const validityPtr = places[at + 1]!
    const bytesPtr = places[at + 2]!
    const byteLength = places[at + 3]!
    return {
      name,
      dtype,
      kind,
      validityPtr,
      textByteLength: byteLength,
      decode: () => ({ name, dtype, kind, rowCount, valuesPtr, validityPtr, bytesPtr, byteLength }),
    }
  }
  return {
    rowCount: frameRowCount,
    repeatedRowCount,
    columns: shape.columns.map(open),
    indices: shape.indices.map((index, i) => open(index, shape.columns.length + i)),
    labels: shape.labelNames.map((name, i) => ({ name, value: labelValues[i]! })),
  }
}

/**
 * A column that is one value for all rows, as rows; `rowCount` of them, where that is not as many as the sender counts.
 * Throws FRAME_TOO_LARGE.
 */
export function spreadLabel(
  kernels: Kernels,
  scratch: Scratch,
  column: ColumnSlice,
  rowCount = column.rowCount,
): ColumnSlice {
  if (column.kind === 'slice') return column
  const { call, u8, u32, i64 } = kernels
  const { dtype, valuesPtr: onePtr } = column
  if (dtype === 'null') return { ...column, kind: 'slice', rowCount }
  if (dtype === 'bool') {
    const valuesPtr = scratch.allocate(Math.ceil(rowCount / 8) + 8)
    call.fillBits(valuesPtr, rowCount, u8[onePtr]! & 1)
    return { ...column, kind: 'slice', rowCount, valuesPtr }
  }
  if (dtype !== 'string') {
    const valuesPtr = scratch.allocate(8 * rowCount)
    // A float by its bits.
    call.fillInt64(valuesPtr, rowCount, i64[onePtr >> 3]!)
    return { ...column, kind: 'slice', rowCount, valuesPtr }
  }
  const textByteLength = u32[(onePtr >> 2) + 1]! - u32[onePtr >> 2]!
  const byteLength = textByteLength * rowCount
  if (byteLength >= 2 ** 31) {
    const what = `column '${column.name}' repeats ${textByteLength} bytes in ${rowCount} rows`
    throw new FramesError('FRAME_TOO_LARGE', what)
  }
  const valuesPtr = scratch.allocate(4 * (rowCount + 1))
  const bytesPtr = scratch.allocate(byteLength)
  const mark = scratch.mark()
  const indexesPtr = scratch.allocate(4 * rowCount)
  u32.fill(0, indexesPtr >> 2, (indexesPtr >> 2) + rowCount)
  call.gatherStrings(onePtr, column.bytesPtr, indexesPtr, rowCount, valuesPtr, bytesPtr)
  scratch.release(mark)
  return { ...column, kind: 'slice', rowCount, valuesPtr, bytesPtr, byteLength }
}
