// The values of an expression for many rows at once, and the memory in which they are worked out.
import { assert } from '../assert.js'
import type { ColumnSlice } from '../frame/column-slice.js'
import type { Kernels } from '../kernels/kernels.js'
import type { Scratch } from '../memory/scratch.js'
import type { Scalar } from './scalar.js'
import type { ComparisonOperator } from './tree.js'

export type PartType = 'int64' | 'float64' | 'string' | 'time' | 'bool' | 'blob'

/**
 * The values of one type among the rows: a column, or one constant for all of them.
 *
 * validityPtr  the rows that have a value here: ceil(rowCount / 8) bytes, bits past the last row 0; 0: all rows
 * valuesPtr    as in ColumnSlice
 * bytesPtr     string and blob: their bytes
 * constant     the value of all rows of the part, instead of the two pointers; else null
 * hasZeros     missing rows of the column hold 0, false or '', as in a ColumnSlice
 * ownBitsPtr   0, or a bitmap of the part's own: then it and valuesPtr are temporary and may be overwritten
 */
export interface Part {
  readonly type: PartType
  readonly validityPtr: number
  readonly valuesPtr: number
  readonly bytesPtr: number
  readonly constant: Scalar | null
  readonly hasZeros: boolean
  readonly ownBitsPtr: number
}

/** A row has a value in one part at most; in none where the attribute is missing or the evaluation failed. */
export type Vector = readonly Part[]

/** With more parts, row by row is simpler and not much slower. */
export const partCountMax = 6

/**
 * Where the values of an attribute or placeholder come from: its columns of each type (disjoint validity); none: missing
 * everywhere. A blob or array is a string column named `#name`. Called at most once a name and evaluation, and only for
 * what is needed. Columns stay where they are until the evaluation ends; they must not be allocated meanwhile at the end
 * of the scratch that a filter is evaluated in (an update asks for all of them before it allocates).
 */
export interface RowSource {
  readonly rowCount: number
  attribute(name: string): readonly ColumnSlice[]
  placeholder(name: string): readonly ColumnSlice[]
  /**
   * Marks the rows whose value of an attribute is as the operator says, as `compareScalars` has it, where the source can tell
   * without its columns; then true. What it needs meanwhile it takes from the evaluation's scratch, and gives back.
   */
  compare?(name: string, operator: ComparisonOperator, constant: Scalar, resultPtr: number, scratch: Scratch): boolean
}

export function typeOf(value: Scalar): PartType {
  switch (typeof value) {
    case 'bigint':
      return 'int64'
    case 'number':
      return 'float64'
    case 'boolean':
      return 'bool'
    case 'string':
      return 'string'
    default:
      return value instanceof Uint8Array ? 'blob' : 'time'
  }
}

export function constantPart(value: Scalar, validityPtr = 0): Part {
  return {
    type: typeOf(value),
    validityPtr,
    valuesPtr: 0,
    bytesPtr: 0,
    constant: value,
    hasZeros: false,
    ownBitsPtr: 0,
  }
}

// Parts are written out and not spread: that costs a microsecond each, as much as a page of a thousand rows.
function maskedPart({ type, valuesPtr, bytesPtr, constant }: Part, validityPtr: number): Part {
  return { type, validityPtr, valuesPtr, bytesPtr, constant, hasZeros: false, ownBitsPtr: 0 }
}

/** The same part as one that nobody overwrites any more. */
export function settledPart(part: Part): Part {
  if (part.ownBitsPtr === 0) return part
  const { type, validityPtr, valuesPtr, bytesPtr, constant, hasZeros } = part
  return { type, validityPtr, valuesPtr, bytesPtr, constant, hasZeros, ownBitsPtr: 0 }
}

const buffers = new WeakMap<Kernels, Buffer>()

/** The whole memory as a Buffer, which reads and writes texts in place. */
function bufferOf(kernels: Kernels): Buffer {
  let buffer = buffers.get(kernels)
  if (buffer === undefined) {
    buffer = Buffer.from(kernels.memory.buffer)
    buffers.set(kernels, buffer)
  }
  return buffer
}

/** The columns and the memory of one evaluation. */
export class Rows {
  readonly kernels: Kernels
  readonly call: Kernels['call']
  readonly rowCount: number
  readonly #buffer: Buffer
  readonly #source: RowSource
  readonly #attributeNames: readonly string[]
  readonly #placeholderNames: readonly string[]
  readonly #attributes: (Vector | undefined)[] = []
  readonly #placeholders: (Vector | undefined)[] = []

  constructor(
    kernels: Kernels,
    /** For temporary columns: each step gives back what it took. */
    readonly scratch: Scratch,
    source: RowSource,
    attributeNames: readonly string[],
    placeholderNames: readonly string[],
  ) {
    this.kernels = kernels
    this.call = kernels.call
    this.rowCount = source.rowCount
    this.#buffer = bufferOf(kernels)
    this.#source = source
    this.#attributeNames = attributeNames
    this.#placeholderNames = placeholderNames
  }

  /** The attribute of this number among the program's. */
  attribute(index: number): Vector {
    const known = this.#attributes[index]
    if (known !== undefined) return known
    const vector = this.#vectorOf(this.#source.attribute(this.#attributeNames[index]))
    this.#attributes[index] = vector
    return vector
  }

  /** Whether the source has marked the rows; see RowSource. A column that is there already is sooner compared itself. */
  compareStored(index: number, operator: ComparisonOperator, constant: Scalar, resultPtr: number): boolean {
    if (this.#attributes[index] !== undefined) return false
    return this.#source.compare?.(this.#attributeNames[index], operator, constant, resultPtr, this.scratch) === true
  }

  assign(index: number, vector: Vector): void {
    this.#attributes[index] = vector
  }

  placeholder(index: number): Vector {
    const known = this.#placeholders[index]
    if (known !== undefined) return known
    const vector = this.#vectorOf(this.#source.placeholder(this.#placeholderNames[index]))
    this.#placeholders[index] = vector
    return vector
  }

  /** Asks the source for everything. */
  loadAll(): void {
    for (let i = 0; i < this.#attributeNames.length; i++) this.attribute(i)
    for (let i = 0; i < this.#placeholderNames.length; i++) this.placeholder(i)
  }

  #vectorOf(columns: readonly ColumnSlice[]): Vector {
    const vector: Part[] = []
    for (const column of columns) {
      if (column.dtype === 'null') continue
      assert(column.rowCount === this.rowCount, 'the columns of an evaluation have its rows')
      const { dtype, validityPtr, valuesPtr, bytesPtr } = column
      const type = dtype === 'string' && column.name.startsWith('#') ? 'blob' : dtype
      const part: Part = { type, validityPtr, valuesPtr, bytesPtr, constant: null, hasZeros: true, ownBitsPtr: 0 }
      vector.push(column.kind === 'label' ? constantPart(this.#valueAt(part, 0), validityPtr) : part)
    }
    return vector
  }

  /** Room for a bitmap. */
  allocateBits(): number {
    return this.scratch.allocate(Math.ceil(this.rowCount / 8) + 8)
  }

  allocateValues(): number {
    return this.scratch.allocate(8 * this.rowCount)
  }

  /** Bits of the rows that have a value in any part. */
  presence(vector: Vector, targetPtr: number): void {
    const { call, rowCount } = this
    call.fillBits(targetPtr, rowCount, 0)
    for (const { validityPtr } of vector) {
      if (validityPtr === 0) {
        call.fillBits(targetPtr, rowCount, 1)
        return
      }
      call.orBits(targetPtr, validityPtr, targetPtr, rowCount)
    }
  }

  /** bits = bits AND validity, where 0 stands for all rows. */
  restrict(bitsPtr: number, validityPtr: number): void {
    if (validityPtr !== 0) this.call.andBits(bitsPtr, validityPtr, bitsPtr, this.rowCount)
  }

  /** The rows of both, in a new bitmap unless one of them is all rows (0). */
  bothValid(aPtr: number, bPtr: number): number {
    if (aPtr === 0 || aPtr === bPtr) return bPtr
    if (bPtr === 0) return aPtr
    const bitsPtr = this.allocateBits()
    this.call.andBits(aPtr, bPtr, bitsPtr, this.rowCount)
    return bitsPtr
  }

  /** The same values in no other rows than these. */
  masked(vector: Vector, maskPtr: number): Vector {
    return vector.map((part) => maskedPart(part, this.bothValid(part.validityPtr, maskPtr)))
  }

  /** A place with the 8 bytes of a constant int64, float64 or time. */
  constantPtr(value: Scalar): number {
    const ptr = this.scratch.allocate(8)
    const { kernels } = this
    if (typeof value === 'bigint') kernels.i64[ptr / 8] = value
    else if (typeof value === 'number') kernels.f64[ptr / 8] = value
    else if (typeof value === 'object' && 'timeNs' in value) kernels.i64[ptr / 8] = value.timeNs
    else kernels.i64[ptr / 8] = value === true ? 1n : 0n
    return ptr
  }

  /** Writes a text or a blob to new memory. */
  bytesOf(value: string | Uint8Array): { ptr: number; byteLength: number } {
    if (typeof value !== 'string') {
      const ptr = this.scratch.allocate(value.length)
      this.kernels.u8.set(value, ptr)
      return { ptr, byteLength: value.length }
    }
    const byteLength = Buffer.byteLength(value)
    const ptr = this.scratch.allocate(byteLength)
    this.writeText(value, ptr, byteLength)
    return { ptr, byteLength }
  }

  writeText(text: string, ptr: number, byteLength: number): void {
    if (byteLength > 0) this.#buffer.write(text, ptr, byteLength, 'utf8')
  }

  /** The value of one row; undefined where it has none. */
  cell(vector: Vector, row: number): Scalar | undefined {
    const { u8 } = this.kernels
    for (const part of vector) {
      const { validityPtr } = part
      if (validityPtr === 0 || ((u8[validityPtr + (row >>> 3)] >>> (row & 7)) & 1) === 1) {
        return part.constant ?? this.#valueAt(part, row)
      }
    }
    return undefined
  }

  #valueAt({ type, valuesPtr, bytesPtr }: Part, row: number): Scalar {
    const { kernels } = this
    switch (type) {
      case 'int64':
        return kernels.i64[valuesPtr / 8 + row]
      case 'float64':
        return kernels.f64[valuesPtr / 8 + row]
      case 'time':
        return { timeNs: kernels.i64[valuesPtr / 8 + row] }
      case 'bool':
        return ((kernels.u8[valuesPtr + (row >>> 3)] >>> (row & 7)) & 1) === 1
      default: {
        const start = bytesPtr + kernels.u32[valuesPtr / 4 + row]
        const end = bytesPtr + kernels.u32[valuesPtr / 4 + row + 1]
        return type === 'string' ? this.#buffer.toString('utf8', start, end) : kernels.u8.slice(start, end)
      }
    }
  }
}
