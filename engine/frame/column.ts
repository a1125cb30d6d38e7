// The public column: one named, typed run of values over Arrow-layout buffers. Immutable: slices and renamed copies share
// the buffers they can share, and nobody writes into them.
import { FramesError } from '../errors.js'
import { bitAt, bitmapByteLength, sliceBitmap } from './bitmap.js'
import type { DType, Value } from './dtype.js'
import { valueText } from './value-text.js'

/**
 * The buffers of a column with n rows ("n" is 1 for a label: its one value stands for all rows). They may be views of any
 * memory, also of shared memory; what a cell holds where validity says "missing" is undefined.
 *
 * int64    values: n × i64
 * time     values: n × i64, nanoseconds since 1970 UTC
 * float64  values: n × f64
 * bool     values: ceil(n / 8) bytes, row 0 is the lowest bit
 * string   offsets: (n + 1) × u32 into bytes, the first 0; bytes: UTF-8 text
 */
export type ColumnBuffers =
  | { readonly dtype: 'int64' | 'time'; readonly values: BigInt64Array }
  | { readonly dtype: 'float64'; readonly values: Float64Array }
  | { readonly dtype: 'bool'; readonly values: Uint8Array }
  | { readonly dtype: 'string'; readonly offsets: Uint32Array; readonly bytes: Uint8Array }
  | { readonly dtype: 'null' }

/** slice: one value a row; label: one value that stands for all rows. */
export type ColumnKind = 'slice' | 'label'

/**
 * validity  ceil(length / 8) bytes, row 0 is the lowest bit, 1 = present; null = no row is missing. It has a bit a row
 *           for labels too.
 */
export interface ColumnParts {
  readonly name: string
  readonly kind: ColumnKind
  readonly length: number
  readonly validity: Uint8Array | null
  readonly buffers: ColumnBuffers
}

const fillers: Readonly<Record<DType, Value | null>> = {
  int64: 0n,
  float64: Number.NaN,
  string: '',
  time: { timeNs: 0n },
  bool: false,
  null: null,
}

export class Column {
  readonly name: string
  readonly kind: ColumnKind
  readonly length: number
  /** Of a slice: those of the whole column, until somebody asks for its own. Typed arrays cost more than all else of it. */
  #validity: Uint8Array | null
  #buffers: ColumnBuffers
  /** The row of these where the slice begins; null once they are the column's own. */
  #start: number | null

  private constructor(
    name: string,
    kind: ColumnKind,
    length: number,
    validity: Uint8Array | null,
    buffers: ColumnBuffers,
    start: number | null,
  ) {
    this.name = name
    this.kind = kind
    this.length = length
    this.#validity = validity
    this.#buffers = buffers
    this.#start = start
  }

  /**
   * Wraps buffers without copying them; they must not change as long as the column is used. Lengths are checked here,
   * contents (string offsets) by validateFrame. Throws FRAME_SHAPE.
   */
  static fromBuffers(parts: ColumnParts): Column {
    const problem = shapeProblem(parts)
    if (problem !== null) throw new FramesError('FRAME_SHAPE', `column "${parts.name}": ${problem}`)
    const { name, kind, length, validity, buffers } = parts
    return new Column(name, kind, length, validity, buffers, null)
  }

  get dtype(): DType {
    return this.#buffers.dtype
  }

  get validity(): Uint8Array | null {
    this.#own()
    return this.#validity
  }

  get buffers(): ColumnBuffers {
    this.#own()
    return this.#buffers
  }

  /** Bytes of its values, text and validity. */
  get byteLength(): number {
    const buffers = this.#buffers
    const valueCount = this.kind === 'label' ? 1 : this.length
    const validityByteLength = this.#validity === null ? 0 : bitmapByteLength(this.length)
    switch (buffers.dtype) {
      case 'null':
        return 0
      case 'bool':
        return validityByteLength + bitmapByteLength(valueCount)
      case 'string': {
        const first = this.#place(0)
        const textByteLength = buffers.offsets[first + valueCount] - buffers.offsets[first]
        return validityByteLength + 4 * (valueCount + 1) + textByteLength
      }
      default:
        return validityByteLength + 8 * valueCount
    }
  }

  /** Makes buffers that begin with the column's first row. */
  #own(): void {
    const start = this.#start
    if (start === null) return
    const end = start + this.length
    if (this.#validity !== null) this.#validity = sliceBitmap(this.#validity, start, end)
    if (this.kind === 'slice') this.#buffers = sliceBuffers(this.#buffers, start, end)
    this.#start = null
  }

  /** True where the cell is missing. Throws COLUMN_ACCESS for a row that the column has not. */
  isNull(row: number): boolean {
    this.#checkRow(row)
    return this.#isNull(row)
  }

  /** The value of a row, null where it is missing. Throws COLUMN_ACCESS for a row that the column has not. */
  at(row: number): Value | null {
    this.#checkRow(row)
    return this.#isNull(row) ? null : this.#valueAt(row)
  }

  /** The value of a row; 0, NaN, '', 1970 or false where it is missing; null only for dtype null. */
  fillerAt(row: number): Value | null {
    this.#checkRow(row)
    return this.#isNull(row) ? fillers[this.dtype] : this.#valueAt(row)
  }

  /** All values, null where one is missing. */
  values(): (Value | null)[] {
    return this.#each((row) => this.#valueAt(row), null)
  }

  /**
   * The int64 values; a label's repeated. Not to be written to: it may be the column's own buffer. Here and in its like
   * below, what stands in a missing cell is undefined.
   */
  ints(): BigInt64Array {
    const { buffers } = this
    if (buffers.dtype !== 'int64') throw wrongDtype()
    return this.#repeated(buffers.values)
  }

  floats(): Float64Array {
    const { buffers } = this
    if (buffers.dtype !== 'float64') throw wrongDtype()
    return this.#repeated(buffers.values)
  }

  /** Nanoseconds since 1970 UTC. */
  times(): BigInt64Array {
    const { buffers } = this
    if (buffers.dtype !== 'time') throw wrongDtype()
    return this.#repeated(buffers.values)
  }

  bools(): boolean[] {
    const buffers = this.#buffers
    if (buffers.dtype !== 'bool') throw wrongDtype()
    return Array.from({ length: this.length }, (_, row) => bitAt(buffers.values, this.#place(row)))
  }

  intAt(row: number): bigint {
    const buffers = this.#buffers
    if (buffers.dtype !== 'int64') throw wrongDtype()
    this.#checkRow(row)
    return buffers.values[this.#place(row)]
  }

  floatAt(row: number): number {
    const buffers = this.#buffers
    if (buffers.dtype !== 'float64') throw wrongDtype()
    this.#checkRow(row)
    return buffers.values[this.#place(row)]
  }

  timeNsAt(row: number): bigint {
    const buffers = this.#buffers
    if (buffers.dtype !== 'time') throw wrongDtype()
    this.#checkRow(row)
    return buffers.values[this.#place(row)]
  }

  boolAt(row: number): boolean {
    const buffers = this.#buffers
    if (buffers.dtype !== 'bool') throw wrongDtype()
    this.#checkRow(row)
    return bitAt(buffers.values, this.#place(row))
  }

  /** Every value as text, of whatever type: floats in plain decimal, times as RFC 3339; '' where one is missing. */
  strings(): string[] {
    if (this.dtype === 'null') throw unknownDtype()
    return this.#each((row) => valueText(this.#valueAt(row), 'never'), '')
  }

  stringAt(row: number): string {
    if (this.dtype === 'null') throw unknownDtype()
    this.#checkRow(row)
    return this.#textAt(row)
  }

  /** The rows [start, end). Throws COLUMN_ACCESS, also for an empty slice at the end. */
  slice(start: number, end: number): Column {
    if (start > end) throw access(`start ${start} bigger than end ${end}`)
    this.#checkRow(start)
    if (end !== 0) this.#checkRow(end - 1)
    const first = (this.#start ?? 0) + start
    return new Column(this.name, this.kind, end - start, this.#validity, this.#buffers, first)
  }

  /** The same values under another name. */
  copyWithName(name: string): Column {
    return new Column(name, this.kind, this.length, this.#validity, this.#buffers, this.#start)
  }

  /** The same values with other cells missing. */
  withValidity(validity: Uint8Array | null): Column {
    const { name, kind, length, buffers } = this
    return Column.fromBuffers({ name, kind, length, validity, buffers })
  }

  /** One value for each row; a label's is made once. */
  #each<T>(make: (row: number) => T, missing: T): T[] {
    const { length } = this
    if (this.kind === 'slice' || this.dtype === 'null') {
      return Array.from({ length }, (_, row) => (this.#isNull(row) ? missing : make(row)))
    }
    const value = make(0)
    return Array.from({ length }, (_, row) => (this.#isNull(row) ? missing : value))
  }

  /** Where a row stands in the buffers. */
  #place(row: number): number {
    return this.kind === 'label' ? 0 : (this.#start ?? 0) + row
  }

  #isNull(row: number): boolean {
    const validity = this.#validity
    return this.#buffers.dtype === 'null' || (validity !== null && !bitAt(validity, (this.#start ?? 0) + row))
  }

  #valueAt(row: number): Value {
    const buffers = this.#buffers
    const place = this.#place(row)
    switch (buffers.dtype) {
      case 'int64':
      case 'float64':
        return buffers.values[place]
      case 'time':
        return { timeNs: buffers.values[place] }
      case 'bool':
        return bitAt(buffers.values, place)
      case 'string':
        return textOf(buffers.bytes, buffers.offsets[place], buffers.offsets[place + 1])
      case 'null':
        throw unknownDtype()
    }
  }

  #textAt(row: number): string {
    return this.#isNull(row) ? '' : valueText(this.#valueAt(row), 'never')
  }

  #repeated<T extends BigInt64Array | Float64Array>(values: T): T {
    if (this.kind === 'slice') return values.subarray(0, this.length) as T
    const repeated = values instanceof Float64Array ? new Float64Array(this.length) : new BigInt64Array(this.length)
    if (this.length > 0) repeated.fill(values[0] as never)
    return repeated as T
  }

  #checkRow(row: number): void {
    const isRow = Number.isInteger(row) && row >= 0 && row < this.length
    if (!isRow) throw access(`index ${row} out of bounds [0:${this.length}]`)
  }
}

/** What does not fit between a column's length and its buffers; null if all does. */
export function shapeProblem({ kind, length, validity, buffers }: ColumnParts): string | null {
  if (!Number.isSafeInteger(length) || length < 0) return `${length} is no row count`
  if (validity !== null && validity.length < bitmapByteLength(length)) return 'its validity is too short'
  const valueCount = kind === 'label' ? 1 : length
  switch (buffers.dtype) {
    case 'null':
      return null
    case 'bool':
      return buffers.values.length < bitmapByteLength(valueCount) ? 'its values are too few' : null
    case 'string':
      if (buffers.offsets.length < valueCount + 1) return 'its offsets are too few'
      return buffers.offsets[valueCount] > buffers.bytes.length ? 'its bytes are too few' : null
    default:
      return buffers.values.length < valueCount ? 'its values are too few' : null
  }
}

function sliceBuffers(buffers: ColumnBuffers, start: number, end: number): ColumnBuffers {
  switch (buffers.dtype) {
    case 'int64':
    case 'time':
      return { dtype: buffers.dtype, values: buffers.values.subarray(start, end) }
    case 'float64':
      return { dtype: buffers.dtype, values: buffers.values.subarray(start, end) }
    case 'bool':
      return { dtype: buffers.dtype, values: sliceBitmap(buffers.values, start, end) }
    case 'string': {
      const first = buffers.offsets[start]
      const bytes = buffers.bytes.subarray(first, buffers.offsets[end])
      // The first offset is always 0, so that the buffers can be copied to a kernel as they are.
      return { dtype: buffers.dtype, offsets: rebasedOffsets(buffers.offsets.subarray(start, end + 1)), bytes }
    }
    case 'null':
      return buffers
  }
}

/** The offsets with the first moved to 0; the same array where it is 0 already. */
export function rebasedOffsets(offsets: Uint32Array): Uint32Array {
  const first = offsets[0]
  if (first === 0) return offsets
  const rebased = new Uint32Array(offsets.length)
  // A plain loop: most slices are short, and map is slow to begin.
  for (let i = 0; i < offsets.length; i++) rebased[i] = offsets[i] - first
  return rebased
}

/** UTF-8 text in [start, end) of a view, which may be one of shared memory; malformed bytes become U+FFFD. */
function textOf(bytes: Uint8Array, start: number, end: number): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString('utf8')
}

function wrongDtype(): FramesError {
  return access('wrong dtype')
}

function unknownDtype(): FramesError {
  return access('unknown dtype - null')
}

function access(what: string): FramesError {
  return new FramesError('COLUMN_ACCESS', what)
}
