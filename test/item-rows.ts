// Items of plain values as the columns that expressions are evaluated over, and columns back as values.
import type { RowSource } from '../dist/engine/expression/evaluate.js'
import type { Scalar } from '../dist/engine/expression/scalar.js'
import type { ColumnSlice } from '../dist/engine/frame/column-slice.js'
import type { DType } from '../dist/engine/frame/dtype.js'
import { createMemory, type Kernels, loadKernels } from '../dist/engine/kernels/kernels.js'
import { Scratch } from '../dist/engine/memory/scratch.js'

export type Item = Readonly<Record<string, Scalar>>

type Type = Exclude<DType, 'null'> | 'blob'

const types: readonly Type[] = ['int64', 'float64', 'string', 'time', 'bool', 'blob']

export function typeOfValue(value: Scalar): Type {
  if (value instanceof Uint8Array) return 'blob'
  if (typeof value === 'object') return 'time'
  return ({ bigint: 'int64', number: 'float64', boolean: 'bool', string: 'string' } as const)[
    typeof value as 'bigint' | 'number' | 'boolean' | 'string'
  ]
}

/** Memory in which items stand as columns, and a scratch for what is tested behind them. */
export class ItemMemory {
  readonly kernels: Kernels
  readonly #start: number

  constructor(byteLength: number) {
    this.kernels = loadKernels(createMemory(byteLength))
    this.#start = this.kernels.call.heapBase()
  }

  /** All memory, full of garbage where it is used first. */
  scratch(garbageByteLength = 65536): Scratch {
    this.kernels.u8.fill(0xa5, this.#start, Math.min(this.#start + garbageByteLength, this.kernels.u8.length))
    return new Scratch({ byteOffset: this.#start, byteLength: this.kernels.u8.length - this.#start })
  }

  /** The columns of an attribute, one for each type that occurs. */
  columns(scratch: Scratch, name: string, cells: readonly (Scalar | undefined)[]): ColumnSlice[] {
    return types
      .filter((type) => cells.some((cell) => cell !== undefined && typeOfValue(cell) === type))
      .map((type) => this.#column(scratch, name, type, cells))
  }

  #column(scratch: Scratch, name: string, type: Type, cells: readonly (Scalar | undefined)[]): ColumnSlice {
    const { kernels } = this
    const rowCount = cells.length
    const own = cells.map((cell) => (cell !== undefined && typeOfValue(cell) === type ? cell : undefined))
    const bits = (test: (cell: Scalar | undefined) => boolean): number => {
      const ptr = scratch.allocate(Math.ceil(rowCount / 8) + 8)
      for (let i = 0; i < Math.ceil(rowCount / 8); i++) kernels.u8[ptr + i] = 0
      own.forEach((cell, row) => {
        if (test(cell)) kernels.u8[ptr + (row >> 3)]! |= 1 << (row & 7)
      })
      return ptr
    }
    const isFull = own.every((cell) => cell !== undefined)
    const validityPtr = isFull ? 0 : bits((cell) => cell !== undefined)
    const base = { kind: 'slice', rowCount, validityPtr, bytesPtr: 0, byteLength: 0 } as const
    if (type === 'string' || type === 'blob') {
      const texts = own.map((cell) => (cell instanceof Uint8Array ? cell : Buffer.from(String(cell ?? ''))))
      const all = Buffer.concat(texts)
      const valuesPtr = scratch.allocate(4 * (rowCount + 1))
      let offset = 0
      kernels.u32[valuesPtr / 4] = 0
      texts.forEach((text, row) => {
        offset += text.length
        kernels.u32[valuesPtr / 4 + row + 1] = offset
      })
      const bytesPtr = scratch.allocate(all.length)
      kernels.u8.set(all, bytesPtr)
      const slice = { ...base, dtype: 'string', valuesPtr, bytesPtr, byteLength: all.length } as const
      return { ...slice, name: type === 'blob' ? `#${name}` : name }
    }
    if (type === 'bool') return { ...base, name, dtype: type, valuesPtr: bits((cell) => cell === true) }
    const valuesPtr = scratch.allocate(8 * rowCount)
    own.forEach((cell, row) => {
      if (typeof cell === 'number') kernels.f64[valuesPtr / 8 + row] = cell
      else if (typeof cell === 'object' && 'timeNs' in cell) kernels.i64[valuesPtr / 8 + row] = cell.timeNs
      else kernels.i64[valuesPtr / 8 + row] = typeof cell === 'bigint' ? cell : 0n
    })
    return { ...base, name, dtype: type, valuesPtr }
  }

  /** A source over items and, for placeholders, over the rows that are written. */
  source(scratch: Scratch, items: readonly Item[], written: readonly Item[] = []): RowSource {
    const of = (rows: readonly Item[]) => (name: string) => {
      const cells = rows.map((row) => (Object.hasOwn(row, name) ? row[name] : undefined))
      return this.columns(scratch, name, cells)
    }
    return { rowCount: items.length, attribute: of(items), placeholder: of(written) }
  }

  readBits(ptr: number, rowCount: number): boolean[] {
    const { u8 } = this.kernels
    if (rowCount % 8 > 0 && u8[ptr + (rowCount >> 3)]! >> (rowCount % 8) !== 0)
      throw new Error('bits past the last row')
    return Array.from({ length: rowCount }, (_, row) => ((u8[ptr + (row >> 3)]! >> (row & 7)) & 1) === 1)
  }

  /** The value of each row in columns of one attribute. Throws when a row has two, or a missing cell is not empty. */
  cells(columns: readonly ColumnSlice[], rowCount: number, isMeant: (row: number) => boolean): (Scalar | undefined)[] {
    const cells = new Array<Scalar | undefined>(rowCount).fill(undefined)
    for (const column of columns) {
      const valid = column.validityPtr === 0 ? null : this.readBits(column.validityPtr, rowCount)
      for (let row = 0; row < rowCount; row++) {
        if (!isMeant(row)) continue
        const value = this.#valueAt(column, row)
        if (valid === null || valid[row]) {
          if (cells[row] !== undefined) throw new Error(`row ${row} has two values`)
          cells[row] = value
        } else if (!isEmpty(value))
          throw new Error(`row ${row} of '${column.name}' is missing and holds ${String(value)}`)
      }
    }
    return cells
  }

  #valueAt({ name, dtype, valuesPtr, bytesPtr }: ColumnSlice, row: number): Scalar {
    const { i64, f64, u32, u8 } = this.kernels
    switch (dtype) {
      case 'int64':
        return i64[valuesPtr / 8 + row]!
      case 'float64':
        return f64[valuesPtr / 8 + row]!
      case 'time':
        return { timeNs: i64[valuesPtr / 8 + row]! }
      case 'bool':
        return ((u8[valuesPtr + (row >> 3)]! >> (row & 7)) & 1) === 1
      default: {
        const bytes = u8.slice(bytesPtr + u32[valuesPtr / 4 + row]!, bytesPtr + u32[valuesPtr / 4 + row + 1]!)
        return name.startsWith('#') ? Uint8Array.from(bytes) : Buffer.from(bytes).toString()
      }
    }
  }
}

function isEmpty(value: Scalar): boolean {
  if (value instanceof Uint8Array) return value.length === 0
  if (typeof value === 'object') return value.timeNs === 0n
  return value === 0n || Object.is(value, 0) || value === '' || value === false
}
