// Typed columns of this thread ↔ columns in the shared memory: plain copies of buffers, nothing is decoded.
import { FramesError } from '../errors.js'
import { Column, type ColumnBuffers, shapeProblem } from '../frame/column.js'
import type { ColumnSlice, FrameSlice } from '../frame/column-slice.js'
import { Frame } from '../frame/frame.js'
import { copyBytes } from '../memory/copy.js'
import type { Kernels } from '../kernels/kernels.js'

const alignment = 16

function alignUp(byteLength: number): number {
  return Math.ceil(byteLength / alignment) * alignment
}

/** The arrays of a column, as bytes. */
function arraysOf(buffers: ColumnBuffers): readonly (BigInt64Array | Float64Array | Uint8Array | Uint32Array)[] {
  switch (buffers.dtype) {
    case 'string':
      return [buffers.offsets, buffers.bytes]
    case 'null':
      return []
    default:
      return [buffers.values]
  }
}

/** A column's arrays; of text in an index column of which `rowCount` rows are enough, the arrays of those. */
function enoughOf({ buffers, kind }: Column, rowCount: number): ColumnBuffers {
  if (rowCount === 0 || kind === 'label' || buffers.dtype !== 'string') return buffers
  const { dtype, offsets, bytes } = buffers
  return { dtype, offsets: offsets.subarray(0, rowCount + 1), bytes: bytes.subarray(0, offsets[rowCount]!) }
}

/** Bytes that layFrame needs. */
export function frameByteLength(frame: Frame, repeatedRowCount = 0): number {
  let total = 0
  const add = (buffers: ColumnBuffers, validity: Uint8Array | null): void => {
    for (const array of arraysOf(buffers)) total += alignUp(array.byteLength + 8)
    if (validity !== null) total += alignUp(validity.byteLength + 8)
  }
  for (const { buffers, validity } of frame.columns) add(buffers, validity)
  for (const index of frame.indices) add(enoughOf(index, repeatedRowCount), index.validity)
  return total + alignment
}

/**
 * Copies a frame to byteOffset, where frameByteLength bytes are free. repeatedRowCount: not 0 where the texts of index columns come
 * again after so many rows, and are to be laid out once. Throws FRAME_SHAPE where a program has taken memory from a column since it was
 * made (an ArrayBuffer that was transferred or resized).
 */
export function layFrame(kernels: Kernels, frame: Frame, byteOffset: number, repeatedRowCount = 0): FrameSlice {
  const { u8 } = kernels
  let next = alignUp(byteOffset)
  const lay = (array: BigInt64Array | Float64Array | Uint8Array | Uint32Array): number => {
    const pointer = next
    copyBytes(new Uint8Array(array.buffer, array.byteOffset, array.byteLength), u8, pointer)
    next += alignUp(array.byteLength + 8)
    return pointer
  }
  const layColumn = (column: Column, buffers: ColumnBuffers): ColumnSlice => {
    // Else the rows without memory would get what was in the shared memory before.
    const problem = shapeProblem(column)
    if (problem !== null) {
      const what = `column "${column.name}": ${problem}; has its ArrayBuffer been transferred or resized?`
      throw new FramesError('FRAME_SHAPE', what)
    }
    let valuesPtr = 0
    let bytesPtr = 0
    let byteLength = 0
    if (buffers.dtype === 'string') {
      valuesPtr = lay(buffers.offsets)
      bytesPtr = lay(buffers.bytes)
      byteLength = buffers.bytes.byteLength
    } else if (buffers.dtype !== 'null') valuesPtr = lay(buffers.values)
    const validityPtr = column.validity === null ? 0 : lay(column.validity)
    return {
      name: column.name,
      dtype: buffers.dtype,
      kind: column.kind,
      rowCount: column.length,
      valuesPtr,
      validityPtr,
      bytesPtr,
      byteLength,
    }
  }
  return {
    rowCount: frame.length,
    columns: frame.columns.map((column) => layColumn(column, column.buffers)),
    indices: frame.indices.map((index) => layColumn(index, enoughOf(index, repeatedRowCount))),
    labels: [...frame.labels].map(([name, value]) => ({ name, value })),
  }
}

/** What a column takes: byte lengths of its values, its validity and its text. */
function byteLengthsOf({
  dtype,
  kind,
  rowCount,
  validityPtr,
  byteLength,
}: ColumnSlice): readonly [number, number, number] {
  const valueCount = kind === 'label' ? 1 : rowCount
  const validity = validityPtr === 0 ? 0 : Math.ceil(rowCount / 8)
  if (dtype === 'string') return [4 * (valueCount + 1), validity, byteLength]
  if (dtype === 'bool') return [Math.ceil(valueCount / 8), validity, 0]
  return [dtype === 'null' ? 0 : 8 * valueCount, validity, 0]
}

/** Where the columns of a frame end in the shared memory: none of them stands at or behind it. */
export function frameEnd(frame: FrameSlice): number {
  let end = 0
  for (const column of [...frame.columns, ...frame.indices]) {
    const [values, validity, text] = byteLengthsOf(column)
    end = Math.max(end, column.valuesPtr + values, column.validityPtr + validity, column.bytesPtr + text)
  }
  return end
}

/** Copies the columns of a frame into memory of their own, to which the pointers of the new frame refer. */
export function moveFrame(u8: Uint8Array, frame: FrameSlice): FrameSlice & { readonly memory: Uint8Array } {
  // Pointer 0 means that there is none.
  let byteLength = alignment
  for (const column of [...frame.columns, ...frame.indices]) {
    for (const part of byteLengthsOf(column)) byteLength += alignUp(part)
  }
  const memory = Buffer.allocUnsafeSlow(byteLength)
  let next = alignment
  const movePart = (ptr: number, partByteLength: number): number => {
    if (ptr === 0 || partByteLength === 0) return ptr === 0 ? 0 : alignment
    const moved = next
    copyBytes(u8.subarray(ptr, ptr + partByteLength), memory, moved)
    next += alignUp(partByteLength)
    return moved
  }
  const move = (column: ColumnSlice): ColumnSlice => {
    const [values, validity, text] = byteLengthsOf(column)
    return {
      ...column,
      valuesPtr: movePart(column.valuesPtr, values),
      validityPtr: movePart(column.validityPtr, validity),
      bytesPtr: movePart(column.bytesPtr, text),
    }
  }
  return { ...frame, memory, columns: frame.columns.map(move), indices: frame.indices.map(move) }
}

/** Bytes of the shared memory in memory of their own, at its very start. */
function takeBytes(u8: Uint8Array, ptr: number, byteLength: number): ArrayBuffer {
  const own = Buffer.allocUnsafeSlow(byteLength)
  copyBytes(u8.subarray(ptr, ptr + byteLength), own, 0)
  return own.buffer
}

/** A column with buffers of its own, from one in the shared memory. */
export function takeColumn({ u8 }: Pick<Kernels, 'u8'>, column: ColumnSlice): Column {
  const { name, dtype, kind, rowCount, valuesPtr, validityPtr, bytesPtr } = column
  const valueCount = kind === 'label' ? 1 : rowCount
  const validity = validityPtr === 0 ? null : new Uint8Array(takeBytes(u8, validityPtr, Math.ceil(rowCount / 8)))
  let buffers: ColumnBuffers
  if (dtype === 'string') {
    const offsets = new Uint32Array(takeBytes(u8, valuesPtr, 4 * (valueCount + 1)))
    buffers = { dtype, offsets, bytes: new Uint8Array(takeBytes(u8, bytesPtr, offsets[valueCount]!)) }
  } else if (dtype === 'bool') {
    buffers = { dtype, values: new Uint8Array(takeBytes(u8, valuesPtr, Math.ceil(valueCount / 8))) }
  } else if (dtype === 'float64') {
    buffers = { dtype, values: new Float64Array(takeBytes(u8, valuesPtr, 8 * valueCount)) }
  } else if (dtype === 'null') buffers = { dtype }
  else buffers = { dtype, values: new BigInt64Array(takeBytes(u8, valuesPtr, 8 * valueCount)) }
  return Column.fromBuffers({ name, kind, length: rowCount, validity, buffers })
}

/** A frame with buffers of its own. */
export function takeFrame(kernels: Pick<Kernels, 'u8'>, frame: FrameSlice): Frame {
  const from = frame.memory === undefined ? kernels : { u8: frame.memory }
  const take = (column: ColumnSlice): Column => takeColumn(from, column)
  return new Frame({
    columns: frame.columns.map(take),
    indices: frame.indices.map(take),
    labels: new Map(frame.labels.map(({ name, value }) => [name, value])),
  })
}
