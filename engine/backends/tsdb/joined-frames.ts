// Frames of one write that bring the same metrics become one, in their order: a stream of small frames then makes one
// block and one commit instead of many. A later frame's rows stand behind an earlier one's, so the newest still wins.
import type { ColumnPart } from '../../blocks/builder.js'
import type { ColumnSlice } from '../../frame/column-slice.js'
import type { Kernels } from '../../kernels/kernels.js'
import { blockByteLengthMax, blockRowCountMax, tableColumnCountMax } from '../../limits.js'
import type { Scratch } from '../../memory/scratch.js'
import { spreadLabel } from '../frame-input.js'
import type { OpenFrame, OpenMetric } from './append.js'
import type { Grouping, Steps } from './grouping.js'

/** A frame whose label sets are all known. */
export interface KnownFrame {
  readonly frame: OpenFrame
  /** u32 a group: the number of its label set. */
  readonly setNumbersPtr: number
}

/** Whether a frame may be put behind others: together they are at most one block. */
export function canJoin(frames: readonly KnownFrame[], { frame }: KnownFrame): boolean {
  const first = frames[0]!.frame
  if (frame.metrics.length !== first.metrics.length) return false
  // Each column of each frame is some objects in the worker's heap.
  if ((frames.length + 1) * first.metrics.length > tableColumnCountMax) return false
  let rowCount = frame.rowCount
  for (const part of frames) rowCount += part.frame.rowCount
  if (rowCount > blockRowCountMax) return false
  return frame.metrics.every((metric, i) => {
    const other = first.metrics[i]!
    if (metric.name !== other.name || metric.dtype !== other.dtype) return false
    return cellsByteLength(frame, metric) <= blockByteLengthMax && cellsByteLength(first, other) <= blockByteLengthMax
  })
}

/** Bytes of text of all cells: a label is one text, and will be one a row. */
function cellsByteLength({ rowCount }: OpenFrame, { kind, textByteLength }: OpenMetric): number {
  return kind === 'label' ? textByteLength * rowCount : textByteLength
}

/** One frame for many (canJoin). Its columns are put together when they are decoded; times and groups now, in scratch. */
export function joinFrames(kernels: Kernels, scratch: Scratch, parts: readonly KnownFrame[]): KnownFrame {
  if (parts.length === 1) return parts[0]!
  const { u32 } = kernels
  let rowCount = 0
  let sentRowCount = 0
  let groupCount = 0
  for (const { frame } of parts) {
    rowCount += frame.rowCount
    sentRowCount += frame.sentRowCount
    groupCount += frame.grouping.groupCount
  }
  const timesPtr = scratch.allocate(8 * rowCount)
  const setNumbersPtr = scratch.allocate(4 * groupCount)
  let row = 0
  let group = 0
  for (const part of parts) {
    const { frame } = part
    kernels.call.copyBytes(frame.timesPtr, 8 * frame.rowCount, timesPtr + 8 * row)
    for (let i = 0; i < frame.grouping.groupCount; i++)
      u32[(setNumbersPtr >> 2) + group++] = u32[(part.setNumbersPtr >> 2) + i]!
    row += frame.rowCount
  }
  const grouping = joinGroups(kernels, scratch, parts, rowCount, groupCount)
  const metrics = parts[0]!.frame.metrics.map((_, i) => joinMetric(kernels, scratch, parts, i, rowCount))
  return { frame: { rowCount, sentRowCount, metrics, types: parts[0]!.frame.types, timesPtr, grouping }, setNumbersPtr }
}

function joinGroups(
  kernels: Kernels,
  scratch: Scratch,
  parts: readonly KnownFrame[],
  rowCount: number,
  groupCount: number,
): Grouping {
  const { call, u32 } = kernels
  const codesPtr = scratch.allocate(4 * rowCount)
  let rowStarts: number[] | null = [0]
  let steps: Steps[] | null = []
  let row = 0
  let group = 0
  for (const { frame } of parts) {
    const { grouping } = frame
    const target = codesPtr + 4 * row
    if (grouping.codesPtr === 0) u32.fill(group, target >> 2, (target >> 2) + frame.rowCount)
    else call.shiftUint32(grouping.codesPtr, frame.rowCount, group, target)
    if (grouping.rowStarts === null) rowStarts = null
    for (let i = 1; rowStarts !== null && i <= grouping.groupCount; i++) rowStarts.push(row + grouping.rowStarts![i]!)
    if (grouping.steps === null) steps = null
    for (const own of grouping.steps ?? []) steps?.push({ ...own, rowStart: row + own.rowStart })
    row += frame.rowCount
    group += grouping.groupCount
  }
  // Keys are for finding set numbers, and these are known.
  return { groupCount, codesPtr, rowStarts, steps, firstRowsPtr: 0, keyOffsetsPtr: 0, keyBytesPtr: 0 }
}

function joinMetric(
  kernels: Kernels,
  scratch: Scratch,
  parts: readonly KnownFrame[],
  index: number,
  rowCount: number,
): OpenMetric {
  const { call } = kernels
  const { name, dtype } = parts[0]!.frame.metrics[index]!
  let textByteLength = 0
  let validityPtr = 0
  for (const { frame } of parts) {
    textByteLength += cellsByteLength(frame, frame.metrics[index]!)
    if (frame.metrics[index]!.validityPtr !== 0) validityPtr = 1
  }
  if (validityPtr !== 0) {
    validityPtr = scratch.allocate(Math.ceil(rowCount / 8) + 8)
    call.fillBits(validityPtr, rowCount, 1)
    let row = 0
    for (const { frame } of parts) {
      const part = frame.metrics[index]!.validityPtr
      if (part !== 0) call.copyBits(part, 0, validityPtr, row, frame.rowCount)
      row += frame.rowCount
    }
  }
  const decode = (): ColumnSlice =>
    dtype === 'string'
      ? joinStrings(kernels, scratch, parts, index, { name, rowCount, validityPtr })
      : joinValues(kernels, scratch, parts, index, { name, rowCount, validityPtr })
  const is64 = dtype !== 'string' && dtype !== 'bool'
  const decodeParts = is64 && validityPtr === 0 ? () => valueParts(kernels, scratch, parts, index) : null
  return { name, dtype, kind: 'slice', validityPtr, decode, decodeParts, textByteLength }
}

/** 64-bit values without missing cells, where each frame has them. */
function valueParts(
  kernels: Kernels,
  scratch: Scratch,
  parts: readonly KnownFrame[],
  index: number,
): readonly ColumnPart[] {
  let rowStart = 0
  return parts.map(({ frame }) => {
    const { valuesPtr } = spreadLabel(kernels, scratch, frame.metrics[index]!.decode(), frame.rowCount)
    const part = { rowStart, valuesPtr }
    rowStart += frame.rowCount
    return part
  })
}

interface JoinedColumn {
  readonly name: string
  readonly rowCount: number
  readonly validityPtr: number
}

/** Values of a fixed width, one frame's behind another's. */
function joinValues(
  kernels: Kernels,
  scratch: Scratch,
  parts: readonly KnownFrame[],
  index: number,
  joined: JoinedColumn,
): ColumnSlice {
  const { call } = kernels
  const { dtype } = parts[0]!.frame.metrics[index]!
  const isBool = dtype === 'bool'
  const valuesPtr = scratch.allocate(isBool ? Math.ceil(joined.rowCount / 8) + 8 : 8 * joined.rowCount)
  let row = 0
  for (const { frame } of parts) {
    const mark = scratch.mark()
    const column = spreadLabel(kernels, scratch, frame.metrics[index]!.decode(), frame.rowCount)
    if (isBool) call.copyBits(column.valuesPtr, 0, valuesPtr, row, frame.rowCount)
    else call.copyBytes(column.valuesPtr, 8 * frame.rowCount, valuesPtr + 8 * row)
    scratch.release(mark)
    row += frame.rowCount
  }
  return { ...joined, dtype, kind: 'slice', valuesPtr, bytesPtr: 0, byteLength: 0 }
}

/** Texts: all columns are decoded, then copied together. */
function joinStrings(
  kernels: Kernels,
  scratch: Scratch,
  parts: readonly KnownFrame[],
  index: number,
  joined: JoinedColumn,
): ColumnSlice {
  const { call, u32 } = kernels
  const columns = parts.map(({ frame }) =>
    spreadLabel(kernels, scratch, frame.metrics[index]!.decode(), frame.rowCount),
  )
  const byteLengths = columns.map(({ valuesPtr, rowCount }) => u32[(valuesPtr >> 2) + rowCount]!)
  const byteLength = byteLengths.reduce((sum, length) => sum + length, 0)
  const valuesPtr = scratch.allocate(4 * (joined.rowCount + 1))
  const bytesPtr = scratch.allocate(byteLength)
  let row = 0
  let byte = 0
  columns.forEach((column, i) => {
    call.shiftUint32(column.valuesPtr, column.rowCount, byte, valuesPtr + 4 * row)
    call.copyBytes(column.bytesPtr, byteLengths[i]!, bytesPtr + byte)
    row += column.rowCount
    byte += byteLengths[i]!
  })
  u32[(valuesPtr >> 2) + row] = byte
  return { ...joined, dtype: 'string', kind: 'slice', valuesPtr, bytesPtr, byteLength }
}
