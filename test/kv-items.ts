// Items in the shared memory for tests: plain items in, sorted columns out, and back.
import type { ItemRows } from '../dist/engine/backends/kv/item-block.js'
import { blobColumn, ctimeColumn, mtimeColumn, nameColumn } from '../dist/engine/backends/kv/item-columns.js'
import type { ItemKeys, ItemReader } from '../dist/engine/backends/kv/item-reader.js'
import type { ColumnSlice } from '../dist/engine/frame/column-slice.js'
import type { DType } from '../dist/engine/frame/dtype.js'
import type { Kernels } from '../dist/engine/kernels/kernels.js'
import type { Scratch } from '../dist/engine/memory/scratch.js'

/** bigint int64, number float64, Uint8Array a blob. */
export type Cell = string | number | bigint | boolean | Uint8Array | { readonly timeNs: bigint }

export interface PlainItem {
  readonly folder: string
  readonly name: string
  readonly mtimeNs: bigint
  readonly ctimeNs: bigint
  readonly cells: ReadonlyMap<string, Cell>
}

export function keyOf({ folder, name }: { folder: string; name: string }): string {
  return `${folder}\u0000${name}`
}

const encoder = new TextEncoder()
const decoder = new TextDecoder()

export function byKey(a: { folder: string; name: string }, b: { folder: string; name: string }): number {
  return (
    Buffer.compare(encoder.encode(a.folder), encoder.encode(b.folder)) ||
    Buffer.compare(encoder.encode(a.name), encoder.encode(b.name))
  )
}

export function dtypeOf(cell: Cell): DType {
  if (typeof cell === 'string' || cell instanceof Uint8Array) return 'string'
  if (typeof cell === 'number') return 'float64'
  if (typeof cell === 'bigint') return 'int64'
  return typeof cell === 'boolean' ? 'bool' : 'time'
}

/** One column; undefined is a missing cell. */
export function placeColumn(
  { u8, u32, f64, i64 }: Kernels,
  scratch: Scratch,
  name: string,
  dtype: DType,
  cells: readonly (Cell | undefined)[],
): ColumnSlice {
  const rowCount = cells.length
  const bitmapByteLength = Math.ceil(rowCount / 64) * 8 + 8
  const validityPtr = scratch.allocate(bitmapByteLength)
  u8.fill(0, validityPtr, validityPtr + bitmapByteLength)
  let isFull = true
  cells.forEach((cell, row) => {
    if (cell === undefined) isFull = false
    else u8[validityPtr + (row >> 3)]! |= 1 << (row & 7)
  })
  const head = { name, dtype, kind: 'slice' as const, rowCount, validityPtr: isFull ? 0 : validityPtr }
  if (dtype === 'string') {
    const texts = cells.map((cell) =>
      cell === undefined ? new Uint8Array(0) : cell instanceof Uint8Array ? cell : encoder.encode(cell as string),
    )
    const byteLength = texts.reduce((sum, text) => sum + text.length, 0)
    const valuesPtr = scratch.allocate(4 * (rowCount + 1))
    const bytesPtr = scratch.allocate(byteLength)
    let offset = 0
    texts.forEach((text, row) => {
      u32[(valuesPtr >> 2) + row] = offset
      u8.set(text, bytesPtr + offset)
      offset += text.length
    })
    u32[(valuesPtr >> 2) + rowCount] = offset
    return { ...head, valuesPtr, bytesPtr, byteLength }
  }
  if (dtype === 'bool') {
    const valuesPtr = scratch.allocate(bitmapByteLength)
    u8.fill(0, valuesPtr, valuesPtr + bitmapByteLength)
    cells.forEach((cell, row) => {
      if (cell === true) u8[valuesPtr + (row >> 3)]! |= 1 << (row & 7)
    })
    return { ...head, valuesPtr, bytesPtr: 0, byteLength: 0 }
  }
  const valuesPtr = scratch.allocate(8 * rowCount)
  cells.forEach((cell, row) => {
    if (dtype === 'float64') f64[(valuesPtr >> 3) + row] = (cell as number | undefined) ?? 0
    else {
      const value = typeof cell === 'bigint' ? cell : (cell as { timeNs: bigint } | undefined)?.timeNs
      i64[(valuesPtr >> 3) + row] = value ?? 0n
    }
  })
  return { ...head, valuesPtr, bytesPtr: 0, byteLength: 0 }
}

function foldersOf(sorted: readonly { folder: string }[]): { folder: string; rowStart: number }[] {
  return sorted.flatMap(({ folder }, rowStart) =>
    rowStart === 0 || sorted[rowStart - 1]!.folder !== folder ? [{ folder, rowStart }] : [],
  )
}

/** Items, sorted by key, as columns. */
export function placeItems(kernels: Kernels, scratch: Scratch, sorted: readonly PlainItem[]): ItemRows {
  const columns = new Map<string, { name: string; dtype: DType; isBlob: boolean; attribute: string }>()
  for (const { cells } of sorted) {
    for (const [attribute, cell] of cells) {
      const isBlob = cell instanceof Uint8Array
      const name = isBlob ? blobColumn(attribute) : attribute
      columns.set(`${name} ${dtypeOf(cell)}`, { name, dtype: dtypeOf(cell), isBlob, attribute })
    }
  }
  const times = (name: string, pick: (item: PlainItem) => bigint): ColumnSlice =>
    placeColumn(
      kernels,
      scratch,
      name,
      'time',
      sorted.map((item) => ({ timeNs: pick(item) })),
    )
  return {
    rowCount: sorted.length,
    folders: foldersOf(sorted),
    names: placeColumn(
      kernels,
      scratch,
      nameColumn,
      'string',
      sorted.map(({ name }) => name),
    ),
    mtimes: times(mtimeColumn, ({ mtimeNs }) => mtimeNs),
    ctimes: times(ctimeColumn, ({ ctimeNs }) => ctimeNs),
    attributes: [...columns.values()].map(({ name, dtype, isBlob, attribute }) =>
      placeColumn(
        kernels,
        scratch,
        name,
        dtype,
        sorted.map(({ cells }) => {
          const cell = cells.get(attribute)
          const fits = cell !== undefined && dtypeOf(cell) === dtype && cell instanceof Uint8Array === isBlob
          return fits ? cell : undefined
        }),
      ),
    ),
  }
}

/** Keys, sorted. */
export function placeKeys(
  kernels: Kernels,
  scratch: Scratch,
  sorted: readonly { folder: string; name: string }[],
): ItemKeys {
  const names = placeColumn(
    kernels,
    scratch,
    nameColumn,
    'string',
    sorted.map(({ name }) => name),
  )
  return { folders: foldersOf(sorted), names }
}

export function readColumn({ u8, u32, f64, i64 }: Kernels, column: ColumnSlice): (Cell | undefined)[] {
  const { rowCount, valuesPtr, validityPtr, bytesPtr, dtype } = column
  const bit = (ptr: number, row: number): boolean => ((u8[ptr + (row >> 3)]! >> (row & 7)) & 1) === 1
  return Array.from({ length: rowCount }, (_, row) => {
    if (validityPtr !== 0 && !bit(validityPtr, row)) return undefined
    if (dtype === 'bool') return bit(valuesPtr, row)
    if (dtype === 'float64') return f64[(valuesPtr >> 3) + row]!
    if (dtype === 'int64') return i64[(valuesPtr >> 3) + row]!
    if (dtype === 'time') return { timeNs: i64[(valuesPtr >> 3) + row]! }
    const bytes = u8.slice(bytesPtr + u32[(valuesPtr >> 2) + row]!, bytesPtr + u32[(valuesPtr >> 2) + row + 1]!)
    return column.name.startsWith('#') && !column.name.startsWith('##') ? bytes : decoder.decode(bytes)
  })
}

/** The items at (source, row) pairs, null where there is none. */
export function gatherPlain(
  reader: ItemReader,
  scratch: Scratch,
  keys: readonly { folder: string; name: string }[],
  sourceIndexesPtr: number,
  rowsPtr: number,
): (PlainItem | null)[] {
  const { kernels } = reader.io
  const column = (name: string, dtype: DType) =>
    readColumn(kernels, reader.gather(name, dtype, sourceIndexesPtr, rowsPtr, keys.length, scratch))
  const mtimes = column(mtimeColumn, 'time')
  const ctimes = column(ctimeColumn, 'time')
  const names = column(nameColumn, 'string')
  const attributes = reader.columns().map(({ name, dtype }) => ({ name, cells: column(name, dtype) }))
  return keys.map(({ folder, name }, i) => {
    if (names[i] === undefined) return null
    if (names[i] !== name) throw new Error(`${String(names[i])} is not ${name}`)
    const cells = new Map<string, Cell>()
    for (const attribute of attributes) {
      const cell = attribute.cells[i]
      if (cell !== undefined) cells.set(attribute.name.replace(/^#/, ''), cell)
    }
    return {
      folder,
      name,
      mtimeNs: (mtimes[i] as { timeNs: bigint }).timeNs,
      ctimeNs: (ctimes[i] as { timeNs: bigint }).timeNs,
      cells,
    }
  })
}
