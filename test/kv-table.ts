// Key-value tables as tests see them: frames from plain rows, and all items of a table as plain objects.
import { columnOfCells, type DType, type Engine, Frame, nullColumn, type Value } from '../dist/engine/index.js'

export type CellList = readonly (Value | null)[]
/** Columns by name: cells, whose type is that of the first one that is there. */
export type Cells = Readonly<Record<string, CellList>>
export type Item = Readonly<Record<string, Value>>

function dtypeOf(cells: CellList): Exclude<DType, 'null'> | null {
  const first = cells.find((cell) => cell !== null)
  switch (typeof first) {
    case 'bigint':
      return 'int64'
    case 'number':
      return 'float64'
    case 'boolean':
      return 'bool'
    case 'string':
      return 'string'
    case 'object':
      return 'time'
    default:
      return null
  }
}

function columnsOf(cells: Cells) {
  return Object.entries(cells).map(([name, values]) => {
    const dtype = dtypeOf(values)
    if (dtype === null) return nullColumn(name, values.length)
    const cells = values.map((value) => (typeof value === 'object' && value !== null ? value.timeNs : value))
    return columnOfCells(name, dtype, cells)
  })
}

export function frameOf(columns: Cells, indices: Cells = {}, labels: Readonly<Record<string, Value>> = {}): Frame {
  return new Frame({ columns: columnsOf(columns), indices: columnsOf(indices), labels })
}

export interface KvRequest {
  readonly backend: string
  readonly table: string
}

/** All items of a table, as objects without what is missing, in the order of their names. */
export async function itemsOf(engine: Engine, request: KvRequest): Promise<Item[]> {
  const items: Item[] = []
  for await (const frame of engine.read({ ...request, resetIndex: true })) {
    for (let row = 0; row < frame.length; row++) {
      const item: Record<string, Value> = {}
      for (const column of frame.columns) {
        const value = column.at(row)
        if (value !== null) item[column.name] = value
      }
      items.push(item)
    }
  }
  return items
}

/** The names of all items, as filters see them. */
export async function namesOf(engine: Engine, request: KvRequest): Promise<string[]> {
  const names: string[] = []
  for await (const frame of engine.read({ ...request, columns: ['__name'] }))
    names.push(...frame.column('__name').strings())
  return names
}

/** The columns that a read of everything has, with their types. */
export async function columnsRead(engine: Engine, request: KvRequest): Promise<Record<string, DType>> {
  for await (const frame of engine.read({ ...request, resetIndex: true }))
    return Object.fromEntries(frame.columns.map(({ name, dtype }) => [name, dtype]))
  return {}
}
