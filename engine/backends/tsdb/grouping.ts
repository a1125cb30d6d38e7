// Rows of a frame to label sets: the label columns become codes, equal rows a group, and each group a canonical key.
import { FramesError } from '../../errors.js'
import type { ColumnSlice, FrameLabel } from '../../frame/column-slice.js'
import { plainFloatText } from '../../frame/value-text.js'
import { formatTimeNs } from '../../time.js'
import type { Kernels } from '../../kernels/kernels.js'
import { labelSetByteLengthMax } from '../../limits.js'
import type { Scratch } from '../../memory/scratch.js'

/**
 * codesPtr      u32 a row: its group; 0 when there is one group
 * rowStarts     (groupCount + 1): where the rows of each group begin, when they stand group by group; null: they need not
 * steps         the rows in stretches, in each of which they come step by step; null: they need not
 * firstRowsPtr  u32 a group: one row of it
 * keys          canonical label keys: (groupCount + 1) u32 offsets, and bytes
 */
export interface Grouping {
  readonly groupCount: number
  readonly codesPtr: number
  readonly rowStarts: readonly number[] | null
  readonly steps: readonly Steps[] | null
  readonly firstRowsPtr: number
  readonly keyOffsetsPtr: number
  readonly keyBytesPtr: number
}

/** Rows from rowStart on that come step by step: the first `distance` of them are of different groups, which come again so to the end. */
export interface Steps {
  readonly rowStart: number
  readonly rowCount: number
  readonly distance: number
}

/** A label: one text for all rows, or a column. */
export type LabelSource =
  | { readonly name: string; readonly text: string }
  | { readonly name: string; readonly column: ColumnSlice }

/** The values of one label: a dictionary of texts, and which of them each row has (codesPtr 0: the first). */
interface CodedLabel {
  readonly name: string
  readonly codesPtr: number
  readonly valueCount: number
  readonly offsetsPtr: number
  readonly bytesPtr: number
}

const encoder = new TextEncoder()
/** u32 words of an entry in the table of label columns that the kernel takes. */
const entryWordCount = 8

/** labels: distinct names. repeatedRowCount: not 0 where columns have only so many rows, which come again to the end. */
export function groupRows(
  kernels: Kernels,
  scratch: Scratch,
  labels: readonly LabelSource[],
  rowCount: number,
  repeatedRowCount = 0,
): Grouping {
  const { call, u8, u32 } = kernels
  // Constant labels need no table of values, and most small frames have no other ones.
  const hasColumns = labels.some((label) => 'column' in label && label.column.kind === 'slice')
  const tableCapacity = hasColumns ? call.groupTableCapacity(repeatedRowCount || rowCount) : 0
  const tablePtr = scratch.allocate(4 * tableCapacity)
  const sorted = [...labels].sort((a, b) => compareBytes(encoder.encode(a.name), encoder.encode(b.name)))
  const firstRowsPtr = scratch.allocate(4 * (hasColumns ? Math.max(1, rowCount) : 1))
  const tables: GroupTables = { firstRowsPtr, tablePtr, tableCapacity }
  const { coded, codesPtr, groupCount, distance } =
    (repeatedRowCount > 0 && groupFirstRows(kernels, scratch, sorted, rowCount, repeatedRowCount, tables)) ||
    (hasColumns && groupRepeatedRows(kernels, scratch, sorted, rowCount, tables)) ||
    groupCodes(kernels, scratch, sorted, rowCount, rowCount, tables)

  const entriesPtr = scratch.allocate(4 * entryWordCount * Math.max(1, coded.length))
  coded.forEach((label, i) => {
    const name = encoder.encode(label.name)
    const namePtr = scratch.allocate(name.length)
    u8.set(name, namePtr)
    const words = [namePtr, name.length, label.codesPtr, label.offsetsPtr, label.bytesPtr, 0, 0, 0]
    u32.set(words, (entriesPtr >> 2) + i * entryWordCount)
  })
  const keyByteLength = call.labelKeysByteLength(entriesPtr, coded.length, firstRowsPtr, groupCount)
  if (keyByteLength < 0) {
    throw new FramesError('FRAME_TOO_LARGE', 'the label sets of the frame have 2 GiB of text or more')
  }
  const keyBytesPtr = scratch.allocate(keyByteLength)
  const keyOffsetsPtr = scratch.allocate(4 * (groupCount + 1))
  call.labelKeys(entriesPtr, coded.length, firstRowsPtr, groupCount, keyOffsetsPtr, keyBytesPtr)
  for (let group = 0; group < groupCount; group++) {
    const byteLength = u32[(keyOffsetsPtr >> 2) + group + 1]! - u32[(keyOffsetsPtr >> 2) + group]!
    if (byteLength <= labelSetByteLengthMax) continue
    const row = u32[(firstRowsPtr >> 2) + group]!
    throw new FramesError(
      'LABELS_TOO_LONG',
      `the labels of row ${row} have ${byteLength} bytes; at most ${labelSetByteLengthMax} are possible`,
    )
  }
  const rowStarts = groupCount === 1 ? [0, rowCount] : null
  const steps = groupCount > 1 && groupCount === distance ? [{ rowStart: 0, rowCount, distance }] : null
  return { groupCount, codesPtr, rowStarts, steps, firstRowsPtr, keyOffsetsPtr, keyBytesPtr }
}

interface GroupTables {
  /** A row of each group is written here. */
  readonly firstRowsPtr: number
  readonly tablePtr: number
  readonly tableCapacity: number
}

interface CodedRows {
  readonly coded: readonly CodedLabel[]
  /** u32 a row, with room for all rows of the frame; 0: there is one group. */
  readonly codesPtr: number
  readonly groupCount: number
  /** The rows after which all come again; 0: they need not. */
  readonly distance: number
}

/** Groups the first `count` of the frame's rows. */
function groupCodes(
  kernels: Kernels,
  scratch: Scratch,
  labels: readonly LabelSource[],
  rowCount: number,
  count: number,
  { firstRowsPtr, tablePtr, tableCapacity }: GroupTables,
): CodedRows {
  const { call, u32 } = kernels
  const coded = labels.map((label) =>
    'text' in label
      ? constantLabel(kernels, scratch, label.name, label.text)
      : codeLabel(kernels, scratch, label.name, { ...label.column, rowCount: count }, tablePtr, tableCapacity),
  )
  let codesPtr = 0
  let groupCount = rowCount === 0 ? 0 : 1
  u32[firstRowsPtr >> 2] = 0
  for (const label of coded) {
    if (label.codesPtr === 0) continue
    // The first one is combined with nothing: that copies its codes and finds the first row of each.
    const isFirst = codesPtr === 0
    if (isFirst) codesPtr = scratch.allocate(4 * rowCount)
    groupCount = call.combineCodes(
      isFirst ? label.codesPtr : codesPtr,
      isFirst ? label.valueCount : groupCount,
      label.codesPtr,
      isFirst ? 1 : label.valueCount,
      count,
      codesPtr,
      firstRowsPtr,
      tablePtr,
      tableCapacity,
    )
  }
  return { coded, codesPtr, groupCount, distance: 0 }
}

/** Groups the first `count` rows, which come again to the end. */
function groupFirstRows(
  kernels: Kernels,
  scratch: Scratch,
  labels: readonly LabelSource[],
  rowCount: number,
  count: number,
  tables: GroupTables,
): CodedRows {
  const rows = groupCodes(kernels, scratch, labels, rowCount, count, tables)
  if (rows.codesPtr !== 0) kernels.call.repeatCodes(rows.codesPtr, count, rowCount, count)
  return { ...rows, distance: count }
}

/** Rows that are grouped to see whether they repeat. */
const repeatRowCount = 2048

/**
 * Frames that come time by time bring the same label sets again and again. Where the first rows do, and all texts of all
 * later rows are those of so many rows before, the later rows need no codes of their own. Null: they are not so.
 */
function groupRepeatedRows(
  kernels: Kernels,
  scratch: Scratch,
  labels: readonly LabelSource[],
  rowCount: number,
  tables: GroupTables,
): CodedRows | null {
  const { call } = kernels
  const columns = labels.flatMap((label) => ('column' in label && label.column.kind === 'slice' ? [label.column] : []))
  if (rowCount < 4 * repeatRowCount || columns.some(({ dtype }) => dtype !== 'string')) return null
  const mark = scratch.mark()
  const rows = groupCodes(kernels, scratch, labels, rowCount, repeatRowCount, tables)
  const { codesPtr } = rows
  const distance = codesPtr === 0 ? 1 : call.repeatDistance(codesPtr, repeatRowCount)
  const isRepeated = ({ valuesPtr, bytesPtr }: ColumnSlice): boolean =>
    call.areRowsRepeated(valuesPtr, bytesPtr, rowCount, distance) === 1
  if (distance === 0 || !columns.every(isRepeated)) {
    scratch.release(mark)
    return null
  }
  if (codesPtr !== 0) call.repeatCodes(codesPtr, repeatRowCount, rowCount, distance)
  return { ...rows, distance }
}

function constantLabel(kernels: Kernels, scratch: Scratch, name: string, text: string): CodedLabel {
  return { name, codesPtr: 0, valueCount: 1, ...writeTexts(kernels, scratch, [text]) }
}

function codeLabel(
  kernels: Kernels,
  scratch: Scratch,
  name: string,
  column: ColumnSlice,
  tablePtr: number,
  tableCapacity: number,
): CodedLabel {
  const { call, u32 } = kernels
  const { dtype, rowCount, valuesPtr, bytesPtr } = column
  if (column.kind === 'label' || rowCount <= 1) {
    if (dtype === 'string') return { name, codesPtr: 0, valueCount: 1, offsetsPtr: valuesPtr, bytesPtr }
    return constantLabel(kernels, scratch, name, textOfCell(kernels, column, 0))
  }
  const codesPtr = scratch.allocate(4 * rowCount)
  const firstRowsPtr = scratch.allocate(4 * rowCount)
  let valueCount: number
  if (dtype === 'string')
    valueCount = call.dictionaryStrings(valuesPtr, bytesPtr, rowCount, codesPtr, firstRowsPtr, tablePtr, tableCapacity)
  else if (dtype === 'bool') valueCount = call.dictionaryBits(valuesPtr, rowCount, codesPtr, firstRowsPtr)
  else valueCount = call.dictionary64(valuesPtr, rowCount, codesPtr, firstRowsPtr, tablePtr, tableCapacity)
  if (dtype === 'string') {
    const offsetsPtr = scratch.allocate(4 * (valueCount + 1))
    const byteLength = call.gatheredStringsByteLength(valuesPtr, firstRowsPtr, valueCount)
    const textPtr = scratch.allocate(byteLength)
    call.gatherStrings(valuesPtr, bytesPtr, firstRowsPtr, valueCount, offsetsPtr, textPtr)
    return { name, codesPtr: valueCount > 1 ? codesPtr : 0, valueCount, offsetsPtr, bytesPtr: textPtr }
  }
  const texts: string[] = []
  for (let i = 0; i < valueCount; i++) texts.push(textOfCell(kernels, column, u32[(firstRowsPtr >> 2) + i]!))
  return { name, codesPtr: valueCount > 1 ? codesPtr : 0, valueCount, ...writeTexts(kernels, scratch, texts) }
}

function writeTexts(
  kernels: Kernels,
  scratch: Scratch,
  texts: readonly string[],
): { offsetsPtr: number; bytesPtr: number } {
  const { u8, u32 } = kernels
  const encoded = texts.map((text) => encoder.encode(text))
  const offsetsPtr = scratch.allocate(4 * (texts.length + 1))
  const bytesPtr = scratch.allocate(encoded.reduce((sum, text) => sum + text.length, 0))
  let offset = 0
  encoded.forEach((text, i) => {
    u32[(offsetsPtr >> 2) + i] = offset
    u8.set(text, bytesPtr + offset)
    offset += text.length
  })
  u32[(offsetsPtr >> 2) + texts.length] = offset
  return { offsetsPtr, bytesPtr }
}

/** A cell of an index column as label text. */
function textOfCell(kernels: Kernels, column: ColumnSlice, row: number): string {
  const { dtype, valuesPtr } = column
  switch (dtype) {
    case 'int64':
      return kernels.i64[(valuesPtr >> 3) + row]!.toString()
    case 'time':
      return formatTimeNs(kernels.i64[(valuesPtr >> 3) + row]!)
    case 'float64':
      return plainFloatText(kernels.f64[(valuesPtr >> 3) + row]!)
    case 'bool':
      return (kernels.u8[valuesPtr + (row >> 3)]! >> (row & 7)) & 1 ? 'true' : 'false'
    default:
      return ''
  }
}

function compareBytes(a: Uint8Array, b: Uint8Array): number {
  const length = Math.min(a.length, b.length)
  for (let i = 0; i < length; i++) if (a[i] !== b[i]) return a[i]! - b[i]!
  return a.length - b.length
}

/** Labels of the frame's map win over index columns of the same name; of equal index names the last counts. */
export function labelSources(
  indices: readonly ColumnSlice[],
  frameLabels: readonly FrameLabel[],
  textOf: (label: FrameLabel) => string,
): LabelSource[] {
  const byName = new Map<string, LabelSource>()
  for (const column of indices) byName.set(column.name, { name: column.name, column })
  for (const label of frameLabels) byName.set(label.name, { name: label.name, text: textOf(label) })
  return [...byName.values()]
}
