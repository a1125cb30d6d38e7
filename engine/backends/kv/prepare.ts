// A frame on its way into a table, in a worker: validated whole, decoded, its item names and partition folders made.
import { FramesError, shortened } from '../../errors.js'
import type { ColumnSlice, FrameLabel } from '../../frame/column-slice.js'
import type { Kernels } from '../../kernels/kernels.js'
import { cellByteLengthMax } from '../../limits.js'
import type { Scratch } from '../../memory/scratch.js'
import { type FrameInput, type InputFrame, openInput, spreadLabel } from '../frame-input.js'
import type { RowFolders } from './folders.js'
import { partitionFolders } from './folders.js'
import { attributeNameProblem, checkNames, joinedNames, nameColumn } from './names.js'
import type { FrameSchema, KvField } from './schema.js'
import { defaultKeyName, defaultSortingKeyName, dtypeOfValue, typeOfDType } from './schema.js'

/** What the frames of one write have in common. */
export interface FrameRules {
  readonly partitionKeys: readonly string[]
  /** False where an update expression is applied instead of the row: then partition keys are checked, and no more. */
  readonly storesRows: boolean
}

/** The keys of the table as it is when the frame is written; '' for none. */
export interface StoredKeys {
  readonly key: string
  readonly sortingKey: string
}

/**
 * names         of the items, a slice without missing cells, in the order of the frame
 * attributes    what each row says of its item; distinct names; of dtype null: missing in all rows
 * placeholders  what `{name}` stands for; distinct names
 *
 * All columns are slices of rowCount rows; attributes and placeholders may be the same ones.
 */
export interface PreparedRows {
  readonly rowCount: number
  readonly names: ColumnSlice
  readonly folders: RowFolders
  readonly attributes: readonly ColumnSlice[]
  readonly placeholders: readonly ColumnSlice[]
  readonly schema: FrameSchema
}

/** rowStart: the number of the frame's first row, where rows are named by their numbers. Throws FramesError. */
export function prepareRows(
  kernels: Kernels,
  scratch: Scratch,
  input: FrameInput,
  rules: FrameRules,
  stored: StoredKeys,
  rowStart: bigint,
): PreparedRows {
  const frame = openInput(kernels, scratch, input)
  const { rowCount, labels } = frame
  checkShape(frame, rules.partitionKeys)

  const columns = frame.columns.map((column) => spreadLabel(kernels, scratch, column.decode()))
  for (const column of columns) checkCells(kernels, column)
  const indices = frame.indices.map((index) => spreadLabel(kernels, scratch, index.decode()))
  const byName = new Map(columns.map((column) => [column.name, column]))

  const [first, second] = indices
  const key = {
    ...(first ?? rowNumbers(kernels, scratch, rowCount, rowStart)),
    name: (first?.name ?? '') || stored.key || defaultKeyName,
  }
  let sorting: ColumnSlice | null = null
  if (second !== undefined) sorting = { ...second, name: second.name || stored.sortingKey || defaultSortingKeyName }
  else if (stored.sortingKey !== '') sorting = sortingColumn(byName, stored.sortingKey)
  if (sorting?.name === key.name)
    throw new FramesError('INVALID_ARGUMENT', `the key and the sorting key are both named '${key.name}'`)

  const keyNames = keyColumn(kernels, scratch, key, 'key')
  const sortingNames = sorting === null ? null : keyColumn(kernels, scratch, sorting, 'sorting key')
  const names = sortingNames === null ? keyNames : joinedNames(kernels, scratch, keyNames, sortingNames)

  const placeholders = new Map(indices.map((index) => [index.name, index]))
  for (const column of columns) placeholders.set(column.name, column)
  const prepared = { rowCount, names, placeholders: [...placeholders.values()] }
  if (!rules.storesRows) {
    const schema: FrameSchema = { fields: [], key: '', sortingKey: '' }
    return { ...prepared, folders: { folders: [''], codesPtr: 0 }, attributes: [], schema }
  }

  const keys = sorting === null ? [key] : [key, sorting]
  for (const column of keys) checkNamesake(kernels, column, byName.get(column.name))
  const attributes = new Map(keys.map((column) => [column.name, column]))
  for (const column of columns) if (!attributes.has(column.name)) attributes.set(column.name, column)
  for (const label of labels)
    if (!attributes.has(label.name)) attributes.set(label.name, labelColumn(kernels, scratch, label, rowCount))
  const fields: KvField[] = []
  for (const { name, dtype } of attributes.values()) {
    const type = typeOfDType(dtype)
    // A sorting key that stands in a data column is in the schema already.
    const isKey = name === key.name || (second !== undefined && name === sorting?.name)
    if (type !== null) fields.push({ name, type, nullable: !isKey })
  }
  const schema: FrameSchema = { fields, key: key.name, sortingKey: second === undefined ? '' : sorting!.name }
  const partitions = rules.partitionKeys.map((name) => byName.get(name)!)
  const folders = partitionFolders(kernels, scratch, partitions, rowCount)
  return { ...prepared, folders, attributes: [...attributes.values()], schema }
}

/** What can be seen without looking at a cell; in the order in which callers expect to be told. */
function checkShape({ columns, indices, labels }: InputFrame, partitionKeys: readonly string[]): void {
  if (columns.length === 0) throw invalid('empty frame')
  if (indices.length > 2) throw invalid('can only write up to two indices')
  const names = new Set<string>()
  columns.forEach(({ name }, number) => {
    if (name === '') throw invalid(`column number ${number} has an empty name`)
    checkName('column', name)
    if (names.has(name)) throw invalid(`two columns are named '${name}'`)
    names.add(name)
  })
  for (const { name } of indices) if (name !== '') checkName('index', name)
  for (const { name } of labels) checkName('label', name)
  const partitioned = new Set<string>()
  for (const name of partitionKeys) {
    const shown = shortened(name)
    if (!names.has(name))
      throw invalid(`column '${shown}' does not exist in the dataframe: column "${shown}" not found`)
    if (partitioned.has(name)) throw invalid(`column '${shown}' appears more than once as a partition key`)
    partitioned.add(name)
  }
}

function checkName(what: 'column' | 'index' | 'label', name: string): void {
  const problem = attributeNameProblem(name)
  if (problem === null) return
  // The length of an index's name is told as if it were a column: callers know that text.
  throw invalid(`${problem.startsWith('exceeding') ? 'column' : what} '${shortened(name)}' ${problem}`)
}

function checkCells(kernels: Kernels, { dtype, name, valuesPtr, rowCount }: ColumnSlice): void {
  if (dtype !== 'string') return
  const row = kernels.call.rowOfBadLength(valuesPtr, rowCount, 0, cellByteLengthMax)
  if (row < 0) return
  const byteLength = kernels.u32[(valuesPtr >> 2) + row + 1]! - kernels.u32[(valuesPtr >> 2) + row]!
  throw new FramesError(
    'VALUE_TOO_LARGE',
    `column '${name}' has a value of ${byteLength} bytes in row ${row}, at most ${cellByteLengthMax} are allowed`,
  )
}

/** The names that the cells of a key make. */
function keyColumn(kernels: Kernels, scratch: Scratch, column: ColumnSlice, what: 'key' | 'sorting key'): ColumnSlice {
  const { dtype, validityPtr, rowCount, name } = column
  const isMissing = dtype === 'null' || (validityPtr !== 0 && kernels.call.countBits(validityPtr, rowCount) < rowCount)
  if (isMissing && rowCount > 0) throw invalid(`invalid input. ${what} "${name}" should not be empty`)
  if (dtype === 'null') return nameColumn(kernels, scratch, { ...column, dtype: 'int64', valuesPtr: 0 })
  const names = nameColumn(kernels, scratch, column)
  checkNames(kernels, names, what, name)
  return names
}

/**
 * An item has one attribute of a name: a data column with the name of a key may repeat its cells, or have none, and must not
 * say anything else, which would be lost.
 */
function checkNamesake(kernels: Kernels, key: ColumnSlice, column: ColumnSlice | undefined): void {
  if (column === undefined || column === key || column.dtype === 'null') return
  const row = column.dtype === key.dtype ? rowOfOtherCell(kernels, key, column) : 0
  if (row < 0 || row === column.rowCount) return
  const name = shortened(column.name)
  throw invalid(`column '${name}' has the name of the table's key and other values (row ${row}): make it the index`)
}

/** The first row where a column has a cell that is not that of the other one, which has all of them; -1: none. */
function rowOfOtherCell({ u8, u32, i64 }: Kernels, full: ColumnSlice, column: ColumnSlice): number {
  const bit = (ptr: number, row: number) => (u8[ptr + (row >> 3)]! >> (row & 7)) & 1
  const text = ({ valuesPtr, bytesPtr }: ColumnSlice, row: number) => {
    const [start, end] = [u32[(valuesPtr >> 2) + row]!, u32[(valuesPtr >> 2) + row + 1]!]
    return u8.subarray(bytesPtr + start, bytesPtr + end)
  }
  for (let row = 0; row < column.rowCount; row++) {
    if (column.validityPtr !== 0 && bit(column.validityPtr, row) === 0) continue
    let isSame: boolean
    if (column.dtype === 'string') isSame = Buffer.compare(text(full, row), text(column, row)) === 0
    else if (column.dtype === 'bool') isSame = bit(full.valuesPtr, row) === bit(column.valuesPtr, row)
    else isSame = i64[(full.valuesPtr >> 3) + row] === i64[(column.valuesPtr >> 3) + row]
    if (!isSame) return row
  }
  return -1
}

/** A table with a sorting key, and a frame with one index: a data column may have the sorting key's name. */
function sortingColumn(columns: ReadonlyMap<string, ColumnSlice>, name: string): ColumnSlice {
  const column = columns.get(name)
  if (column !== undefined) return column
  throw invalid(`the table has the sorting key '${name}', and the frame has no second index and no column of that name`)
}

function rowNumbers(kernels: Kernels, scratch: Scratch, rowCount: number, rowStart: bigint): ColumnSlice {
  const valuesPtr = scratch.allocate(8 * rowCount)
  kernels.call.countUp64(rowCount, rowStart, valuesPtr)
  return column64('', 'int64', rowCount, valuesPtr)
}

function column64(name: string, dtype: 'int64' | 'float64' | 'time', rowCount: number, valuesPtr: number): ColumnSlice {
  return { name, dtype, kind: 'slice', rowCount, valuesPtr, validityPtr: 0, bytesPtr: 0, byteLength: 0 }
}

/** A frame's label as a column: every row has it. */
function labelColumn(kernels: Kernels, scratch: Scratch, { name, value }: FrameLabel, rowCount: number): ColumnSlice {
  const { call, u8, u32 } = kernels
  const dtype = dtypeOfValue(value)
  if (typeof value === 'string') {
    const text = Buffer.from(value)
    const bytesPtr = scratch.allocate(text.length)
    u8.set(text, bytesPtr)
    const valuesPtr = scratch.allocate(8)
    u32[valuesPtr >> 2] = 0
    u32[(valuesPtr >> 2) + 1] = text.length
    const place = { validityPtr: 0, valuesPtr, bytesPtr, byteLength: text.length }
    return spreadLabel(kernels, scratch, { name, dtype, kind: 'label', rowCount, ...place })
  }
  if (typeof value === 'boolean') {
    const byteLength = Math.ceil(rowCount / 8)
    const valuesPtr = scratch.allocate(byteLength)
    u8.fill(value ? 255 : 0, valuesPtr, valuesPtr + byteLength)
    return { name, dtype, kind: 'slice', rowCount, valuesPtr, validityPtr: 0, bytesPtr: 0, byteLength: 0 }
  }
  const valuesPtr = scratch.allocate(8 * rowCount)
  if (typeof value === 'number') call.fillFloat64(valuesPtr, rowCount, value)
  else call.fillInt64(valuesPtr, rowCount, typeof value === 'bigint' ? value : value.timeNs)
  return { name, dtype, kind: 'slice', rowCount, valuesPtr, validityPtr: 0, bytesPtr: 0, byteLength: 0 }
}

function invalid(what: string): FramesError {
  return new FramesError('INVALID_ARGUMENT', what)
}
