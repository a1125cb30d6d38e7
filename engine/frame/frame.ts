// The public frame: named columns and index columns of one length, and labels that hold for all rows.
import { FramesError } from '../errors.js'
import { frameRowCountMax } from '../limits.js'
import { bitAt, clearBit, fullBitmap } from './bitmap.js'
import { columnOfCells, dtypeOf, nullColumn, sliceColumn, toCell, typeNameOf } from './builder.js'
import type { Cell, CellInput, ColumnArray, ValueDType } from './builder.js'
import { type Column, shapeProblem } from './column.js'
import { hasHalfPair, type Value } from './dtype.js'
import { type RowOptions, rowsOf } from './rows.js'

/** One row as an object. A cell that is missing is null. */
export type Row = Readonly<Record<string, Value | null>>

export interface FrameParts {
  readonly columns: readonly Column[]
  readonly indices?: readonly Column[]
  readonly labels?: Readonly<Record<string, Value>> | ReadonlyMap<string, Value>
  /** The names of the missing cells of each row, as the wire marks them; beside what the columns mark themselves. */
  readonly nullValues?: readonly Iterable<string>[]
}

export class Frame {
  readonly columns: readonly Column[]
  readonly indices: readonly Column[]
  readonly labels: ReadonlyMap<string, Value>
  /** Number of rows. */
  readonly length: number

  /** Throws FRAME_SHAPE when the columns are not of one length, VALUE_TYPE for a label that is no value and a name that is no text. */
  constructor({ columns, indices = [], labels = {}, nullValues }: FrameParts) {
    this.length = indices[0]?.length ?? columns[0]?.length ?? 0
    this.indices = indices
    this.labels = new Map(labels instanceof Map ? labels : Object.entries(labels))
    checkLengths(columns, indices)
    checkLabels(this.labels)
    for (const { name } of columns) checkName(name)
    for (const { name } of indices) checkName(name)
    this.columns = nullValues === undefined ? columns : marked(columns, nullValues, this.length)
  }

  /** Names of the data columns, in order. */
  get names(): readonly string[] {
    return this.columns.map((column) => column.name)
  }

  /** Bytes of the values, text and validity of all columns. */
  get byteLength(): number {
    let byteLength = 0
    for (const column of this.columns) byteLength += column.byteLength
    for (const index of this.indices) byteLength += index.byteLength
    return byteLength
  }

  /** The data column of a name; the last one where several have it. Throws COLUMN_NOT_FOUND. */
  column(name: string): Column {
    const column = this.columns.findLast((candidate) => candidate.name === name)
    if (column === undefined) throw new FramesError('COLUMN_NOT_FOUND', `column "${name}" not found`)
    return column
  }

  /** The rows [start, end) of all columns; labels are kept. Throws COLUMN_ACCESS. */
  slice(start: number, end: number): Frame {
    if (start < 0 || end < 0) throw access('negative indexing not supported')
    if (end < start) throw access('end < start')
    if (start >= this.length) throw access('start out of bounds')
    if (end > this.length) throw access('end out of bounds')
    const cut = (column: Column) => column.slice(start, end)
    return new Frame({ columns: this.columns.map(cut), indices: this.indices.map(cut), labels: this.labels })
  }

  /** True where a data column's cell is missing; index cells never are. Throws COLUMN_ACCESS, COLUMN_NOT_FOUND. */
  isNull(row: number, name: string): boolean {
    const isRow = Number.isInteger(row) && row >= 0 && row < this.length
    if (!isRow) throw access(`row ${row} out of bounds [0:${this.length}]`)
    const isIndex = this.indices.some((index) => index.name === name) && !this.names.includes(name)
    return !isIndex && this.column(name).isNull(row)
  }

  /** The names of the missing cells of each row, or null when none is missing. */
  nullValues(): ReadonlySet<string>[] | null {
    let marks: Set<string>[] | null = null
    for (const column of this.columns) {
      const { validity } = column
      if (column.dtype !== 'null' && validity === null) continue
      for (let row = 0; row < this.length; row++) {
        if (validity !== null && column.dtype !== 'null' && bitAt(validity, row)) continue
        marks ??= Array.from({ length: this.length }, () => new Set())
        marks[row].add(column.name)
      }
    }
    return marks
  }

  /** The rows as objects, in order. See rows.ts for the names of unnamed columns. */
  rows(options: RowOptions = {}): Generator<Row> {
    return rowsOf(this, options)
  }
}

const howToMakeOne = 'frameFromRows makes one of row objects'

/** The frames of a list or stream, one by one. Throws INVALID_ARGUMENT for what is no frame, as a program may give it. */
export async function* eachFrame(
  frames: Iterable<Frame> | AsyncIterable<Frame>,
): AsyncGenerator<Frame, void, undefined> {
  const isMany = typeof frames === 'object' && frames !== null
  if (!isMany || !(Symbol.iterator in frames || Symbol.asyncIterator in frames))
    throw new FramesError('INVALID_ARGUMENT', `what is to be written is no Frame and no list of them; ${howToMakeOne}`)
  for await (const frame of frames) {
    if (!(frame instanceof Frame))
      throw new FramesError('INVALID_ARGUMENT', `what is to be written is no Frame; ${howToMakeOne}`)
    yield frame
  }
}

function checkLengths(columns: readonly Column[], indices: readonly Column[]): void {
  const wanted = columns[0]?.length
  for (const column of columns) {
    if (column.length === wanted) continue
    throw new FramesError('FRAME_SHAPE', `"${column.name}" column size mismatch (${column.length} != ${wanted})`)
  }
  const indexLength = wanted ?? indices[0]?.length
  indices.forEach((index, position) => {
    if (index.length === indexLength) return
    const sizes = `(${index.length} != ${indexLength})`
    throw new FramesError('FRAME_SHAPE', `index column ${position} size mismatch ${sizes}`)
  })
}

function checkLabels(labels: ReadonlyMap<string, unknown>): void {
  for (const [name, value] of labels) {
    if (hasHalfPair(name) || (typeof value === 'string' && hasHalfPair(value)))
      throw new FramesError('VALUE_TYPE', `half a surrogate pair is no text (label "${name}")`)
    if (dtypeOf(value) !== undefined && !(value instanceof Date)) continue
    throw new FramesError('VALUE_TYPE', `can't encode ${name}: unsupported type ${typeNameOf(value)}`)
  }
}

/** UTF-8 has no halves of surrogate pairs: different names would become one. */
function checkName(name: string): void {
  if (hasHalfPair(name))
    throw new FramesError('VALUE_TYPE', `half a surrogate pair is no text (the name of column "${name}")`)
}

/** The columns with further cells marked as missing. Throws FRAME_SHAPE, COLUMN_NOT_FOUND. */
function marked(columns: readonly Column[], nullValues: readonly Iterable<string>[], length: number): Column[] {
  const result = [...columns]
  if (nullValues.length === 0) return result
  if (nullValues.length !== length) {
    throw new FramesError('FRAME_SHAPE', `there are null marks for ${nullValues.length} rows, not ${length}`)
  }
  const positions = new Map(columns.map((column, position) => [column.name, position]))
  const validities = new Map<number, Uint8Array>()
  nullValues.forEach((names, row) => {
    for (const name of names) {
      const position = positions.get(name)
      if (position === undefined) throw new FramesError('COLUMN_NOT_FOUND', `column "${name}" not found`)
      const validity = validities.get(position) ?? columns[position].validity?.slice() ?? fullBitmap(length)
      clearBit(validity, row)
      validities.set(position, validity)
    }
  })
  for (const [position, validity] of validities) {
    if (columns[position].dtype !== 'null') result[position] = columns[position].withValidity(validity)
  }
  return result
}

/**
 * Checks all that kernels rely on, for frames whose buffers come from outside: the lengths of buffers, the order of
 * string offsets, limits. Costs a pass over the offsets. Throws FRAME_SHAPE, FRAME_TOO_LARGE.
 */
export function validateFrame(frame: Frame): void {
  if (frame.length > frameRowCountMax) {
    throw new FramesError('FRAME_TOO_LARGE', `a frame of ${frame.length} rows exceeds ${frameRowCountMax}`)
  }
  checkLengths(frame.columns, frame.indices)
  for (const column of [...frame.columns, ...frame.indices]) {
    const problem = shapeProblem(column) ?? offsetsProblem(column)
    if (problem !== null) throw new FramesError('FRAME_SHAPE', `column "${column.name}": ${problem}`)
  }
}

function offsetsProblem({ buffers, kind, length }: Column): string | null {
  if (buffers.dtype !== 'string') return null
  const { offsets } = buffers
  if (offsets[0] !== 0) return 'its first offset is not 0'
  const valueCount = kind === 'label' ? 1 : length
  for (let i = 0; i < valueCount; i++) {
    if (offsets[i] > offsets[i + 1]) return `its offsets decrease at row ${i}`
  }
  return null
}

/** Arrays by name; a Map keeps names that an object would put in another order (numbers). */
export type ColumnArrays = Readonly<Record<string, ColumnArray>> | ReadonlyMap<string, ColumnArray>

/** A frame of arrays by name, in the order of insertion. See sliceColumn for types. Throws VALUE_TYPE, FRAME_SHAPE. */
export function frameFromMap(
  columns: ColumnArrays,
  indices: ColumnArrays = {},
  labels: Readonly<Record<string, Value>> = {},
): Frame {
  return new Frame({ columns: columnsOfMap(columns), indices: columnsOfMap(indices), labels })
}

function columnsOfMap(arrays: ColumnArrays): Column[] {
  const entries: Iterable<[string, ColumnArray]> = arrays instanceof Map ? arrays : Object.entries(arrays)
  return Array.from(entries, ([name, data]) => {
    try {
      return sliceColumn(name, data)
    } catch (error) {
      if (error instanceof FramesError) throw error.prefixed(`can't create column "${name}"`)
      throw error
    }
  })
}

/**
 * A frame of row objects: a column for every name, typed by its first value; a bigint in a float column becomes a float.
 * Cells that a row lacks are missing. Columns named in indexNames become indices, in that order; an index has no missing
 * cells but fillers (0, NaN, '', 1970, false). Throws VALUE_TYPE, COLUMN_NOT_FOUND for an index that no row has,
 * INVALID_ARGUMENT for what is no list of objects.
 */
export function frameFromRows(
  rows: readonly Readonly<Record<string, CellInput>>[],
  indexNames: readonly string[] = [],
  labels: Readonly<Record<string, Value>> = {},
): Frame {
  // Programs in plain JavaScript give anything, most often 'time' instead of ['time'].
  if (!isList(rows)) throw new FramesError('INVALID_ARGUMENT', 'rows must be a list of objects')
  if (!isList(indexNames)) throw new FramesError('INVALID_ARGUMENT', `index names must be a list, as ['time']`)
  const drafts = new Map<string, Draft>()
  rows.forEach((row: unknown, rowNumber) => {
    if (typeof row !== 'object' || row === null)
      throw new FramesError('INVALID_ARGUMENT', `row ${rowNumber} of a frame is no object`)
    for (const [name, value] of Object.entries(row as Readonly<Record<string, CellInput>>)) {
      let draft = drafts.get(name)
      if (draft === undefined)
        drafts.set(name, (draft = { dtype: null, cells: new Array<Cell>(rows.length).fill(null) }))
      if (value === null || value === undefined) continue
      draft.dtype ??= requiredDtypeOf(name, value, rowNumber)
      draft.cells[rowNumber] = rowCell(name, draft.dtype, value, rowNumber)
    }
  })
  const finish = (name: string, { dtype, cells }: Draft) =>
    dtype === null ? nullColumn(name, rows.length) : columnOfCells(name, dtype, cells)
  const indices = indexNames.flatMap((name) => {
    const draft = drafts.get(name)
    if (draft === undefined && rows.length > 0) {
      throw new FramesError('COLUMN_NOT_FOUND', `no row has a cell for the index "${name}"`)
    }
    return draft === undefined ? [] : [finish(name, { ...draft, cells: draft.cells.map((cell) => cell ?? undefined) })]
  })
  const isIndex = new Set(indexNames)
  const columns = Array.from(drafts).flatMap(([name, draft]) => (isIndex.has(name) ? [] : [finish(name, draft)]))
  return new Frame({ columns, indices, labels })
}

/** As Array.isArray, which would take what is no list for `never` after it. */
function isList(value: unknown): boolean {
  return Array.isArray(value)
}

/** A column under construction; it has no type before its first value. */
interface Draft {
  dtype: ValueDType | null
  readonly cells: (Cell | undefined)[]
}

function requiredDtypeOf(name: string, value: CellInput, rowNumber: number): ValueDType {
  const dtype = dtypeOf(value)
  if (dtype !== undefined) return dtype
  throw new FramesError('VALUE_TYPE', `unsupported type ${typeNameOf(value)} (column "${name}", row ${rowNumber})`)
}

function rowCell(name: string, dtype: ValueDType, value: CellInput, rowNumber: number): Cell {
  const isWidened = dtype === 'float64' && typeof value === 'bigint'
  const cell = toCell(dtype, isWidened ? Number(value) : value)
  if (cell !== undefined) return cell
  const goName = dtype === 'time' ? 'time.Time' : dtype
  throw new FramesError(
    'VALUE_TYPE',
    `wrong type for ${goName} - ${typeNameOf(value)} (column "${name}", row ${rowNumber})`,
  )
}

function access(what: string): FramesError {
  return new FramesError('COLUMN_ACCESS', what)
}
