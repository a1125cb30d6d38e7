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
  | { readonly format: 'columns'; readonly frame: FrameSlice }

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
    columns: frame.columns.map((column, i) => open(column, validity[i] ?? 0)),
    indices: frame.indices.map((index) => open(index, 0)),
    labels: frame.labels,
  }
}

function openColumns(frame: FrameSlice): InputFrame {
  const open = (column: ColumnSlice): InputColumn => ({
    name: column.name,
    dtype: column.dtype,
    kind: column.kind,
    validityPtr: column.validityPtr,
    textByteLength: column.byteLength,
    decode: () => column,
  })
  return { ...frame, columns: frame.columns.map(open), indices: frame.indices.map(open) }
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
