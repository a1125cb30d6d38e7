// Updates that assign nothing but constants (`field3='…'`), told as cells: many of them, each with other constants, are one
// write by one rule, and none of them is compiled.
import type { UpdateAction } from '../../expression/tree.js'
import type { ColumnSlice } from '../../frame/column-slice.js'
import type { Kernels } from '../../kernels/kernels.js'
import type { Scratch } from '../../memory/scratch.js'

export interface AssignedCell {
  readonly attribute: string
  readonly value: string | bigint | number
}

/** The cells of one attribute and type, one an item. */
export interface AssignedColumn {
  readonly attribute: string
  readonly dtype: 'string' | 'int64' | 'float64'
  readonly cells: readonly AssignedCell['value'][]
}

/** Longer texts are left to the expression. */
const textLengthMax = 64 * 1024

/** What an update assigns; null when it does anything else, or assigns an attribute twice. */
export function assignedCells(actions: readonly UpdateAction[]): AssignedCell[] | null {
  const cells: AssignedCell[] = []
  for (const action of actions) {
    if (action.kind !== 'set' || action.value.kind !== 'literal') return null
    const { attribute, start, end } = action.target
    const { value } = action.value
    if (start !== null || end !== null || typeof value === 'boolean' || typeof value === 'object') return null
    if (typeof value === 'string' && value.length > textLengthMax) return null
    if (cells.some((cell) => cell.attribute === attribute)) return null
    cells.push({ attribute, value })
  }
  return cells
}

export function dtypeOfCell(value: AssignedCell['value']): AssignedColumn['dtype'] {
  if (typeof value === 'string') return 'string'
  return typeof value === 'bigint' ? 'int64' : 'float64'
}

/** Assigned cells as a column in scratch. */
export function columnOfAssigned(
  kernels: Kernels,
  scratch: Scratch,
  { attribute, dtype, cells }: AssignedColumn,
): ColumnSlice {
  const { i64, f64 } = kernels
  const rowCount = cells.length
  const head = { name: attribute, dtype, kind: 'slice', rowCount, validityPtr: 0 } as const
  if (dtype === 'string') return { ...head, ...placeTexts(kernels, scratch, cells.map(String)) }
  const valuesPtr = scratch.allocate(8 * rowCount)
  cells.forEach((value, row) => {
    if (dtype === 'int64') i64[(valuesPtr >> 3) + row] = BigInt(value)
    else f64[(valuesPtr >> 3) + row] = Number(value)
  })
  return { ...head, valuesPtr, bytesPtr: 0, byteLength: 0 }
}

/** Texts in scratch: u32 offsets, one more than texts, and their bytes. */
export function placeTexts(
  { u8, u32 }: Kernels,
  scratch: Scratch,
  texts: readonly string[],
): { readonly valuesPtr: number; readonly bytesPtr: number; readonly byteLength: number } {
  const encoded = texts.map((text) => Buffer.from(text))
  const byteLength = encoded.reduce((sum, text) => sum + text.length, 0)
  const valuesPtr = scratch.allocate(4 * (texts.length + 1))
  const bytesPtr = scratch.allocate(byteLength)
  let offset = 0
  u32[valuesPtr >> 2] = 0
  encoded.forEach((text, row) => {
    u8.set(text, bytesPtr + offset)
    offset += text.length
    u32[(valuesPtr >> 2) + row + 1] = offset
  })
  return { valuesPtr, bytesPtr, byteLength }
}
