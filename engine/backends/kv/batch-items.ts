// The items that a batch of writes is about: which row belongs to which item, and where the items are stored.
import { assert } from '../../assert.js'
import type { ColumnSlice } from '../../frame/column-slice.js'
import type { Kernels } from '../../kernels/kernels.js'
import type { Scratch } from '../../memory/scratch.js'
import { sortByBytes } from './folders.js'
import { nameColumn } from './item-columns.js'
import type { ItemReader } from './item-reader.js'
import { noRow } from './item-reader.js'
import type { OpenWrite, RowsPlace } from './open-writes.js'

/** The items of a batch: distinct (folder, name), sorted. */
export interface Items {
  readonly count: number
  readonly names: ColumnSlice
  readonly folders: readonly string[]
  /** u32 an item; 0: all in folders[0]. */
  readonly foldersPtr: number
  readonly roundCount: number
}

/** Stored rows of items: u32 an item each, source 0xffffffff for an item that is not stored. */
export interface StoredRows {
  readonly foundCount: number
  readonly sourcesPtr: number
  readonly rowsPtr: number
}

/** Sorts the rows of all writes by (folder, name), and tells each which item it belongs to, and in which round. */
export function numberItems(kernels: Kernels, work: Scratch, writes: readonly OpenWrite[], rowCount: number): Items {
  const { call, u32 } = kernels
  const folders = sortByBytes(new Set(writes.flatMap(({ rows }) => rows.folders.folders)))
  const isPlain = writes.length === 1 && folders.length === 1
  const [write] = writes as [OpenWrite]
  const keys = isPlain ? write.rows.names : keyColumn(kernels, work, writes, rowCount, folders)

  const itemsPtr = work.allocate(4 * rowCount)
  const roundsPtr = work.allocate(4 * rowCount)
  const firstRowsPtr = work.allocate(4 * rowCount)
  const permutationPtr = work.allocate(4 * rowCount)
  const roundCountPtr = work.allocate(4)
  const mark = work.mark()
  const sortPtr = work.allocate(call.sortTextRowsScratchByteLength(rowCount))
  call.countUp(rowCount, 0, permutationPtr)
  call.sortTextRows(keys.valuesPtr, keys.bytesPtr, permutationPtr, rowCount, sortPtr)
  work.release(mark)
  const { valuesPtr, bytesPtr } = keys
  const count = call.numberItems(
    valuesPtr,
    bytesPtr,
    permutationPtr,
    rowCount,
    itemsPtr,
    roundsPtr,
    firstRowsPtr,
    roundCountPtr,
  )
  const roundCount = u32[roundCountPtr >> 2]!
  let rowStart = 0
  for (const open of writes) {
    const { rowCount: own } = open.rows
    open.rowsPlace = placeRows(kernels, work, itemsPtr + 4 * rowStart, roundsPtr + 4 * rowStart, own, roundCount)
    rowStart += own
  }
  return { count, folders, roundCount, ...itemNames(kernels, work, keys, isPlain, firstRowsPtr, count) }
}

/** Folder number and name of each row, as one text that sorts as (folder, name). */
function keyColumn(
  kernels: Kernels,
  work: Scratch,
  writes: readonly OpenWrite[],
  rowCount: number,
  folders: readonly string[],
): ColumnSlice {
  const { call, u32 } = kernels
  const numbers = new Map(folders.map((folder, number) => [folder, number]))
  const byteLength = writes.reduce((sum, { rows }) => sum + rows.names.byteLength, 4 * rowCount)
  const valuesPtr = work.allocate(4 * (rowCount + 1))
  const bytesPtr = work.allocate(byteLength)
  u32[valuesPtr >> 2] = 0
  let rowStart = 0
  for (const { rows } of writes) {
    const { names, folders: own, rowCount: count } = rows
    const mark = work.mark()
    let codesPtr = 0
    if (own.codesPtr !== 0) {
      const tablePtr = work.allocate(4 * own.folders.length)
      own.folders.forEach((folder, code) => {
        u32[(tablePtr >> 2) + code] = numbers.get(folder)!
      })
      codesPtr = work.allocate(4 * count)
      call.translateCodes(own.codesPtr, count, tablePtr, codesPtr)
    }
    const folder = numbers.get(own.folders[0]!)!
    call.appendKeys(names.valuesPtr, names.bytesPtr, count, codesPtr, folder, valuesPtr + 4 * rowStart, bytesPtr)
    work.release(mark)
    rowStart += count
  }
  const place = { valuesPtr, validityPtr: 0, bytesPtr, byteLength }
  return { name: '', dtype: 'string', kind: 'slice', rowCount, ...place }
}

/** Folder and name of each item, from one of its rows. */
function itemNames(
  kernels: Kernels,
  work: Scratch,
  keys: ColumnSlice,
  isPlain: boolean,
  firstRowsPtr: number,
  count: number,
): Pick<Items, 'names' | 'foldersPtr'> {
  const { call } = kernels
  const keyByteLength = call.gatheredStringsByteLength(keys.valuesPtr, firstRowsPtr, count)
  const byteLength = isPlain ? keyByteLength : keyByteLength - 4 * count
  const valuesPtr = work.allocate(4 * (count + 1))
  const bytesPtr = work.allocate(byteLength)
  const names: ColumnSlice = { ...keys, name: nameColumn, rowCount: count, valuesPtr, bytesPtr, byteLength }
  if (isPlain) {
    call.gatherStrings(keys.valuesPtr, keys.bytesPtr, firstRowsPtr, count, valuesPtr, bytesPtr)
    return { names, foldersPtr: 0 }
  }
  const foldersPtr = work.allocate(4 * count)
  call.splitKeys(keys.valuesPtr, keys.bytesPtr, firstRowsPtr, count, valuesPtr, bytesPtr, foldersPtr)
  return { names, foldersPtr }
}

function placeRows(
  kernels: Kernels,
  work: Scratch,
  itemsPtr: number,
  roundsPtr: number,
  rowCount: number,
  roundCount: number,
): RowsPlace {
  if (roundCount === 1) return { itemsPtr, roundsPtr, rowsByRoundPtr: 0, roundStartsPtr: 0, roundCount }
  const rowsByRoundPtr = work.allocate(4 * rowCount)
  const roundStartsPtr = work.allocate(4 * (roundCount + 1))
  kernels.call.sortGroups(roundsPtr, roundCount, rowCount, rowsByRoundPtr, roundStartsPtr)
  return { itemsPtr, roundsPtr, rowsByRoundPtr, roundStartsPtr, roundCount }
}

/** Where each folder's items begin, of items in their order. foldersPtr as in Items. */
export function folderRuns(
  { u32 }: Kernels,
  folders: readonly string[],
  foldersPtr: number,
  count: number,
): { folder: string; rowStart: number }[] {
  if (foldersPtr === 0) return [{ folder: folders[0]!, rowStart: 0 }]
  const runs: { folder: string; rowStart: number }[] = []
  let previous = noRow
  for (let item = 0; item < count; item++) {
    const folder = u32[(foldersPtr >> 2) + item]!
    if (folder !== previous) runs.push({ folder: folders[folder]!, rowStart: item })
    previous = folder
  }
  return runs
}

export function findStored(kernels: Kernels, work: Scratch, items: Items, reader: ItemReader | null): StoredRows {
  const { u32, call } = kernels
  const { count, names, folders, foldersPtr } = items
  const sourcesPtr = work.allocate(4 * count)
  const rowsPtr = work.allocate(4 * count)
  if (reader === null) {
    u32.fill(noRow, sourcesPtr >> 2, (sourcesPtr >> 2) + count)
    return { foundCount: 0, sourcesPtr, rowsPtr }
  }
  reader.find({ folders: folderRuns(kernels, folders, foldersPtr, count), names }, sourcesPtr, rowsPtr)
  const mark = work.mark()
  const foundCount = call.presentIndexes(sourcesPtr, count, work.allocate(Math.ceil(count / 8)))
  work.release(mark)
  return { foundCount, sourcesPtr, rowsPtr }
}

/** Writes of single items each by itself: one of them fails, and the others must not. */
export function singles(kernels: Kernels, work: Scratch, write: OpenWrite): OpenWrite[] {
  const { sessions, rows, rowsPlace, rule } = write
  if (sessions === null) return [write]
  assert(rowsPlace !== null, 'rows are numbered before they are settled')
  const { itemsPtr, roundsPtr, roundCount } = rowsPlace
  return sessions.map((session, row) => ({
    number: write.number + row,
    session,
    rule,
    rows: {
      ...rows,
      rowCount: 1,
      names: rowOf(rows.names, row),
      attributes: rows.attributes.map((column) => rowOf(column, row)),
    },
    sessions: null,
    rowsPlace: placeRows(kernels, work, itemsPtr + 4 * row, roundsPtr + 4 * row, 1, roundCount),
  }))
}

/** One row of a column that has no bitmaps. */
function rowOf(column: ColumnSlice, row: number): ColumnSlice {
  assert(column.dtype !== 'bool' && column.validityPtr === 0, 'single items are not assigned bools, nor nothing')
  return { ...column, rowCount: 1, valuesPtr: column.valuesPtr + (column.dtype === 'string' ? 4 : 8) * row }
}
