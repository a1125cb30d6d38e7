// Builders of columns: values come one by one, in any order of rows, and are laid out in buffers at the end.
import { FramesError } from '../errors.js'
import { frameRowCountMax } from '../limits.js'
import { bitmapByteLength, clearBit, fullBitmap, setBit } from './bitmap.js'
import { Column, type ColumnBuffers } from './column.js'
import { type DType, hasHalfPair, type TimeValue, type Value } from './dtype.js'

/** What builders take: a Date is a time in whole milliseconds; null and undefined make a missing cell. */
export type CellInput = Value | Date | null | undefined

/** Types that a builder can hold. */
export type ValueDType = Exclude<DType, 'null'>

/** A column of one value a row. */
export interface ColumnBuilder {
  readonly name: string
  /** Sets the row after the last one. */
  append(value: CellInput): void
  /** Sets a row, also beyond the end. Throws VALUE_TYPE. */
  set(row: number, value: CellInput): void
  /** The value of a row (a time as nanoseconds), undefined for one that was not set. Throws COLUMN_ACCESS. */
  at(row: number): Cell | undefined
  /** Takes a row out: later rows move up when the column is finished, not before. */
  delete(row: number): void
  finish(): Column
}

/** A value as it is stored: times are nanoseconds. */
export type Cell = bigint | number | string | boolean | null

/** sizeHint is a guess at the number of rows; it limits and pads nothing. */
export function sliceBuilder(name: string, dtype: DType, _sizeHint = 0): ColumnBuilder {
  return new SliceBuilder(name, valueDType(dtype))
}

export function labelBuilder(name: string, dtype: DType, size: number): ColumnBuilder {
  return new LabelBuilder(name, valueDType(dtype), size)
}

function valueDType(dtype: DType): ValueDType {
  if (dtype === 'null') throw new FramesError('VALUE_TYPE', 'unknown dtype - null')
  return dtype
}

class SliceBuilder implements ColumnBuilder {
  readonly #cells: (Cell | undefined)[] = []
  readonly #deleted = new Set<number>()

  constructor(
    readonly name: string,
    readonly dtype: ValueDType,
  ) {}

  append(value: CellInput): void {
    this.set(this.#cells.length, value)
  }

  set(row: number, value: CellInput): void {
    checkRowNumber(row)
    const cell = toCell(this.dtype, value)
    if (cell === undefined) throw unsupported(this.dtype, 'slice', value)
    while (this.#cells.length < row) this.#cells.push(undefined)
    this.#cells[row] = cell
    this.#deleted.delete(row)
  }

  at(row: number): Cell | undefined {
    this.#checkRow(row)
    return this.#cells[row]
  }

  delete(row: number): void {
    this.#checkRow(row)
    this.#deleted.add(row)
  }

  finish(): Column {
    const cells = this.#deleted.size === 0 ? this.#cells : this.#cells.filter((_, row) => !this.#deleted.has(row))
    return columnOfCells(this.name, this.dtype, cells)
  }

  #checkRow(row: number): void {
    const isRow = Number.isInteger(row) && row >= 0 && row < this.#cells.length
    if (!isRow) throw new FramesError('COLUMN_ACCESS', `index out of bounds [0:${this.#cells.length - 1}]`)
  }
}

class LabelBuilder implements ColumnBuilder {
  #value: Cell | undefined
  #size: number
  readonly #deleted = new Set<number>()

  constructor(
    readonly name: string,
    readonly dtype: ValueDType,
    size: number,
  ) {
    checkRowNumber(size)
    this.#size = size
  }

  append(value: CellInput): void {
    this.set(this.#size, value)
  }

  set(row: number, value: CellInput): void {
    checkRowNumber(row)
    const cell = toCell(this.dtype, value)
    if (cell === undefined || cell === null) throw unsupported(this.dtype, 'label', value)
    if (this.#value !== undefined && !Object.is(this.#value, cell)) {
      throw new FramesError(
        'VALUE_TYPE',
        `differnt value int ${this.dtype} label column - ${String(cell)} != ${String(this.#value)}`,
      )
    }
    this.#value = cell
    this.#size = Math.max(this.#size, row + 1)
  }

  at(row: number): Cell | undefined {
    const isRow = Number.isInteger(row) && row >= 0 && row < this.#size
    if (!isRow) throw new FramesError('COLUMN_ACCESS', `index out of bounds ${row} > ${this.#size - 1}`)
    return this.#value
  }

  delete(row: number): void {
    this.#deleted.add(row)
  }

  finish(): Column {
    const length = Math.max(0, this.#size - this.#deleted.size)
    const { buffers } = columnOfCells(this.name, this.dtype, [this.#value])
    return Column.fromBuffers({ name: this.name, kind: 'label', length, validity: null, buffers })
  }
}

function checkRowNumber(row: number): void {
  const isRow = Number.isInteger(row) && row >= 0 && row <= frameRowCountMax
  if (!isRow) throw new FramesError('COLUMN_ACCESS', `${row} is no row number`)
}

/** A value in the form of a type's cells; null for a missing one, undefined when the type does not take it. */
export function toCell(dtype: ValueDType, value: CellInput): Cell | undefined {
  if (value === null || value === undefined) return null
  switch (dtype) {
    case 'int64':
      return toInt64(value)
    case 'float64':
      return typeof value === 'number' ? value : undefined
    case 'string':
      return typeof value === 'string' ? value : undefined
    case 'bool':
      return typeof value === 'boolean' ? value : undefined
    case 'time':
      return toTimeNs(value)
  }
}

/** A number counts as an integer where it is one exactly. */
function toInt64(value: Value | Date): bigint | undefined {
  const integer = typeof value === 'number' && Number.isSafeInteger(value) ? BigInt(value) : value
  return typeof integer === 'bigint' && integer === BigInt.asIntN(64, integer) ? integer : undefined
}

function toTimeNs(value: Value | Date): bigint | undefined {
  if (value instanceof Date) return toTimeNs(timeOfDate(value))
  if (typeof value === 'object') return toInt64(value.timeNs)
  return toInt64(value)
}

/** A Date as a time value. An invalid Date is an error (VALUE_TYPE). */
export function timeOfDate(date: Date): TimeValue {
  const timeMs = date.getTime()
  if (Number.isNaN(timeMs)) throw new FramesError('VALUE_TYPE', 'an invalid Date is no time')
  return { timeNs: BigInt(timeMs) * 1_000_000n }
}

/** A time value as a Date: floored to milliseconds. */
export function dateOfTime(time: TimeValue): Date {
  return new Date(Number((time.timeNs - (((time.timeNs % 1_000_000n) + 1_000_000n) % 1_000_000n)) / 1_000_000n))
}

/** The type of a value; undefined for what no column holds. */
export function dtypeOf(value: unknown): ValueDType | undefined {
  switch (typeof value) {
    case 'bigint':
      return 'int64'
    case 'number':
      return 'float64'
    case 'string':
      return 'string'
    case 'boolean':
      return 'bool'
    case 'object':
      if (value instanceof Date) return 'time'
      return value !== null && 'timeNs' in value && typeof value.timeNs === 'bigint' ? 'time' : undefined
    default:
      return undefined
  }
}

/** A type as messages name it. */
export function typeNameOf(value: unknown): string {
  if (value === null) return 'null'
  return typeof value === 'object' ? (value.constructor?.name ?? 'object') : typeof value
}

function unsupported(dtype: ValueDType, kind: string, value: unknown): FramesError {
  return new FramesError('VALUE_TYPE', `unsupported type for ${dtype} ${kind} column - ${typeNameOf(value)}`)
}

/**
 * Lays cells out in buffers. Unset cells are 0, NaN, '' or false and present; null cells are missing, 0 below.
 *
 * Throws VALUE_TYPE for a cell of another type than the column's, which is bigint for int64 and time, for an integer of more
 * than 64 bits, and for a text with half a surrogate pair: UTF-8 has none, so that different texts would become one.
 */
export function columnOfCells(name: string, dtype: ValueDType, cells: readonly (Cell | undefined)[]): Column {
  if (!Object.hasOwn(cellTypes, dtype)) throw new FramesError('VALUE_TYPE', `unknown dtype - ${String(dtype)}`)
  const type = cellTypes[dtype]
  let validity: Uint8Array | null = null
  cells.forEach((cell, row) => {
    if (cell === undefined || typeof cell === type) return
    if (cell !== null) {
      const where = `column "${name}", row ${row}`
      throw new FramesError('VALUE_TYPE', `a cell of ${dtype} is a ${type}, not a ${typeNameOf(cell)} (${where})`)
    }
    validity ??= fullBitmap(cells.length)
    clearBit(validity, row)
  })
  return Column.fromBuffers({
    name,
    kind: 'slice',
    length: cells.length,
    validity,
    buffers: layOut(name, dtype, cells),
  })
}

/** What a cell is in JavaScript. */
const cellTypes: Readonly<Record<ValueDType, 'bigint' | 'number' | 'string' | 'boolean'>> = {
  int64: 'bigint',
  time: 'bigint',
  float64: 'number',
  string: 'string',
  bool: 'boolean',
}

function layOut(name: string, dtype: ValueDType, cells: readonly (Cell | undefined)[]): ColumnBuffers {
  switch (dtype) {
    case 'int64':
    case 'time':
      return { dtype, values: layOutIntegers(name, cells) }
    case 'float64':
      return { dtype, values: Float64Array.from(cells, floatOfCell) }
    case 'bool': {
      const values = new Uint8Array(bitmapByteLength(cells.length))
      cells.forEach((cell, row) => {
        if (cell === true) setBit(values, row)
      })
      return { dtype, values }
    }
    case 'string':
      return layOutStrings(name, cells)
  }
}

function layOutIntegers(name: string, cells: readonly (Cell | undefined)[]): BigInt64Array {
  const values = new BigInt64Array(cells.length)
  cells.forEach((cell, row) => {
    if (typeof cell !== 'bigint') return
    values[row] = cell
    if (values[row] === cell) return
    throw new FramesError('VALUE_TYPE', `an integer of more than 64 bits (column "${name}", row ${row})`)
  })
  return values
}

function floatOfCell(cell: Cell | undefined): number {
  if (cell === undefined) return Number.NaN
  return typeof cell === 'number' ? cell : 0
}

function layOutStrings(name: string, cells: readonly (Cell | undefined)[]): ColumnBuffers {
  const offsets = new Uint32Array(cells.length + 1)
  let byteLength = 0
  cells.forEach((cell, row) => {
    if (typeof cell === 'string') {
      const cellByteLength = Buffer.byteLength(cell)
      // ASCII, which most texts are, has as many bytes as units.
      if (cellByteLength !== cell.length && hasHalfPair(cell)) {
        throw new FramesError('VALUE_TYPE', `half a surrogate pair is no text (column "${name}", row ${row})`)
      }
      byteLength += cellByteLength
    }
    if (byteLength > 2 ** 31 - 1) throw new FramesError('FRAME_TOO_LARGE', 'a string column holds more than 2 GiB')
    offsets[row + 1] = byteLength
  })
  const bytes = Buffer.from(new ArrayBuffer(byteLength))
  cells.forEach((cell, row) => {
    if (typeof cell === 'string') bytes.write(cell, offsets[row])
  })
  return { dtype: 'string', offsets, bytes: new Uint8Array(bytes.buffer, 0, byteLength) }
}

/** Arrays that already are a column's buffer, or nearly so. */
export type ColumnArray =
  | readonly CellInput[]
  | BigInt64Array
  | Float64Array
  | Float32Array
  | Int32Array
  | Int16Array
  | Int8Array
  | Uint32Array
  | Uint16Array
  | Uint8Array

/**
 * A column of the values of an array; null and undefined are missing.
 *
 * dtype  needed where the array alone does not tell: it is empty, or its numbers (a BigInt64Array's: nanoseconds) are to
 *        be int64 or time. BigInt64Array and Float64Array are not copied and must not change any more.
 *
 * Throws VALUE_TYPE.
 */
export function sliceColumn(name: string, data: ColumnArray, dtype?: ValueDType): Column {
  const { length } = data
  const whole = { name, kind: 'slice', length, validity: null } as const
  if (data instanceof BigInt64Array && (dtype === undefined || dtype === 'int64' || dtype === 'time')) {
    return Column.fromBuffers({ ...whole, buffers: { dtype: dtype ?? 'int64', values: data } })
  }
  if (data instanceof Float64Array && (dtype === undefined || dtype === 'float64')) {
    return Column.fromBuffers({ ...whole, buffers: { dtype: 'float64', values: data } })
  }
  const cells: readonly CellInput[] = isArray(data) ? data : Array.from<CellInput>(data)
  const chosen = dtype ?? (isArray(data) ? dtypeOfFirst(cells) : dtypeOfTypedArray(data))
  if (chosen === undefined) {
    if (cells.every((cell) => cell === null || cell === undefined) && length > 0) return nullColumn(name, length)
    throw new FramesError('VALUE_TYPE', `unknown data type ${typeNameOf(firstValue(cells))}`)
  }
  return columnOfCells(
    name,
    chosen,
    cells.map((value, row) => {
      const cell = toCell(chosen, value)
      if (cell !== undefined) return cell
      const problem = typeof value === 'bigint' && chosen === 'int64' ? 'bigint beyond 64 bits' : typeNameOf(value)
      throw new FramesError('VALUE_TYPE', `wrong type for ${chosen} - ${problem} (column "${name}", row ${row})`)
    }),
  )
}

/** Array.isArray does not narrow readonly arrays. */
function isArray(data: ColumnArray): data is readonly CellInput[] {
  return Array.isArray(data)
}

function firstValue(cells: readonly CellInput[]): CellInput {
  return cells.find((cell) => cell !== null && cell !== undefined)
}

function dtypeOfFirst(cells: readonly CellInput[]): ValueDType | undefined {
  return dtypeOf(firstValue(cells))
}

function dtypeOfTypedArray(data: ColumnArray): ValueDType {
  return data instanceof Float32Array || data instanceof Float64Array ? 'float64' : 'int64'
}

/** A column without a single value. */
export function nullColumn(name: string, length: number, kind: 'slice' | 'label' = 'slice'): Column {
  return Column.fromBuffers({ name, kind, length, validity: null, buffers: { dtype: 'null' } })
}

/** One value that stands for `size` rows; null makes a column of type null. Throws VALUE_TYPE. */
export function labelColumn(name: string, value: CellInput, size: number): Column {
  if (value === null || value === undefined) return nullColumn(name, size, 'label')
  const dtype = dtypeOf(value)
  const cell = dtype === undefined ? undefined : toCell(dtype, value)
  if (dtype === undefined || cell === undefined) {
    throw new FramesError('VALUE_TYPE', `unknown data type ${typeNameOf(value)}`)
  }
  const { buffers } = columnOfCells(name, dtype, [cell])
  return Column.fromBuffers({ name, kind: 'label', length: size, validity: null, buffers })
}
