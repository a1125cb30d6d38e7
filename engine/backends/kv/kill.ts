// Which living rows a delete is about, in a worker.
import type { Kill } from '../../blocks/dead-rows.js'
import type { BlockIo, BlockSource } from '../../blocks/reader.js'
import { evaluateFilter } from '../../expression/evaluate.js'
import type { RowSource } from '../../expression/evaluate.js'
import type { Expression } from '../../expression/tree.js'
import type { ColumnSlice } from '../../frame/column-slice.js'
import type { Kernels } from '../../kernels/kernels.js'
import type { Scratch } from '../../memory/scratch.js'
import { directoryOf, folderText } from './item-block.js'
import { attributeOf, ctimeColumn, mtimeColumn, nameColumn } from './item-columns.js'
import { ItemReader } from './item-reader.js'
import { systemAttributeNames } from './names.js'
import { systemAttribute } from './system-attributes.js'

export interface KillRequest {
  /** Null: all rows. */
  readonly filter: Expression | null
  /** Only items in this partition folder and those in it; null: all. */
  readonly folder: string | null
  /** Only items that were last changed at this time or before; null: all. */
  readonly changedUntilNs: bigint | null
  readonly throwIfCancelled: () => void
}

/** Rows that are looked at together. */
const stepRowCount = 16 * 1024

/** Per block, its living rows that match. Throws DATA_DAMAGED, ScratchFull. */
export function findKills(
  kernels: Kernels,
  scratch: Scratch,
  temporary: Scratch,
  io: BlockIo,
  sources: readonly BlockSource[],
  request: KillRequest,
): Kill[] {
  const kills: Kill[] = []
  const reader = new ItemReader(io, temporary, sources)
  const matches = new Matches(kernels, scratch, scratch.back(), reader, request)
  sources.forEach((source, number) => {
    const rows: Uint32Array[] = []
    for (const { rowStart, rowEnd } of rangesOf(reader, number, request.folder)) {
      for (let start = rowStart; start < rowEnd; start += stepRowCount) {
        request.throwIfCancelled()
        rows.push(matches.rows(number, start, Math.min(rowEnd, start + stepRowCount)))
      }
    }
    const count = rows.reduce((sum, { length }) => sum + length, 0)
    if (count === 0) return
    const all = new Uint32Array(count)
    let at = 0
    for (const part of rows) {
      all.set(part, at)
      at += part.length
    }
    kills.push({ blockId: source.id, rows: all })
  })
  return kills
}

/** The rows of a block that stand in a folder or below it. */
function rangesOf(reader: ItemReader, number: number, folder: string | null): { rowStart: number; rowEnd: number }[] {
  const { rowCount } = reader.sources[number]!
  if (folder === null) return [{ rowStart: 0, rowEnd: rowCount }]
  const directory = directoryOf(reader.reader(number))
  const ranges: { rowStart: number; rowEnd: number }[] = []
  for (let i = 0; i < directory.count; i++) {
    const text = folderText(directory, i)
    if (text !== folder && !text.startsWith(`${folder}/`)) continue
    ranges.push({ rowStart: directory.rowStarts[i]!, rowEnd: directory.rowStarts[i + 1] ?? rowCount })
  }
  return ranges
}

class Matches {
  constructor(
    readonly kernels: Kernels,
    readonly columns: Scratch,
    readonly work: Scratch,
    readonly reader: ItemReader,
    readonly request: KillRequest,
  ) {}

  /** Living rows [start, end) of a source that match. */
  rows(number: number, start: number, end: number): Uint32Array {
    const { kernels, columns, work, request } = this
    const { call, u8, u32, i64 } = kernels
    const count = end - start
    const [columnsMark, workMark] = [columns.mark(), work.mark()]
    const sourcesPtr = columns.allocate(4 * count)
    const rowsPtr = columns.allocate(4 * count)
    u32.fill(number, sourcesPtr >> 2, (sourcesPtr >> 2) + count)
    call.countUp(count, start, rowsPtr)
    const grouped = this.reader.groupRows(sourcesPtr, rowsPtr, count, columns)
    const cells = (name: string, dtype: ColumnSlice['dtype']): ColumnSlice =>
      this.reader.gatherRows(name, dtype, grouped, columns)
    const maskPtr = work.allocate(Math.ceil(count / 64) * 8 + 8)
    if (request.filter === null) u8.fill(255, maskPtr, maskPtr + Math.ceil(count / 8))
    else evaluateFilter(kernels, work, request.filter, this.#rowSource(cells, count), maskPtr)
    if (request.changedUntilNs !== null) {
      const { valuesPtr } = cells(mtimeColumn, 'time')
      for (let i = 0; i < count; i++)
        if (i64[(valuesPtr >> 3) + i]! > request.changedUntilNs) u8[maskPtr + (i >> 3)]! &= ~(1 << (i & 7))
    }
    const { dead } = this.reader.sources[number]!
    const isDead = (row: number): boolean => {
      if (dead === null) return false
      const byte = dead instanceof Uint8Array ? dead[row >> 3]! : u8[dead.byteOffset + (row >> 3)]!
      return ((byte >> (row & 7)) & 1) === 1
    }
    const listPtr = work.allocate(4 * count)
    const markedCount = call.bitsToIndexes(maskPtr, count, listPtr)
    const found = new Uint32Array(markedCount)
    let foundCount = 0
    for (let i = 0; i < markedCount; i++) {
      const row = start + u32[(listPtr >> 2) + i]!
      if (!isDead(row)) found[foundCount++] = row
    }
    columns.release(columnsMark)
    work.release(workMark)
    return found.slice(0, foundCount)
  }

  #rowSource(cells: (name: string, dtype: ColumnSlice['dtype']) => ColumnSlice, count: number): RowSource {
    return {
      rowCount: count,
      attribute: (name) => {
        if (name === '__name') return [{ ...cells(nameColumn, 'string'), name }]
        if (systemAttributeNames.has(name)) {
          const [mtimes, ctimes] = [cells(mtimeColumn, 'time'), cells(ctimeColumn, 'time')]
          const column = systemAttribute(this.kernels, this.columns, name, mtimes, ctimes)
          return column === null ? [] : [column]
        }
        return this.reader
          .columns()
          .filter((column) => attributeOf(column.name) === name)
          .map((column) => cells(column.name, column.dtype))
      },
      placeholder: () => [],
    }
  }
}
