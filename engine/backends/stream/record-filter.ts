// A filter over records, page by page.
import { columnSummary } from '../../blocks/column-summary.js'
import type { BlockReader } from '../../blocks/reader.js'
import { Filter, type RowSource } from '../../expression/evaluate.js'
import { canSkip } from '../../expression/skip.js'
import type { Expression } from '../../expression/tree.js'
import { bitmapByteLength } from '../../frame/bitmap.js'
import type { ColumnSlice } from '../../frame/column-slice.js'
import type { ColumnSummary, PageSummary } from '../../frame/column-summary.js'
import type { Kernels } from '../../kernels/kernels.js'
import { pageRowCountMax } from '../../limits.js'
import type { Scratch } from '../../memory/scratch.js'
import { pieceAt, piecesOf } from './pieces.js'
import { type CellType, storedName } from './stored-columns.js'

const cellTypes: readonly CellType[] = ['int64', 'float64', 'string', 'bool', 'time']
/** Pages whose results are kept: a read of several shards goes to and fro between theirs. */
const keptPageCountMax = 64

/** What the stream itself knows of each record. */
type KnownName = 'seq_number' | 'shard_id' | 'stream_time'

function isKnown(name: string): name is KnownName {
  return name === 'seq_number' || name === 'shard_id' || name === 'stream_time'
}

export class RecordFilter {
  readonly #filter: Filter
  readonly #results: { reader: BlockReader | null; page: number; isSkipped: boolean; readonly ptr: number }[] = []
  #next = 0

  /** scratch: for the results, what IN looks up, and what one evaluation needs. */
  constructor(
    readonly kernels: Kernels,
    readonly scratch: Scratch,
    readonly tree: Expression,
  ) {
    for (let i = 0; i < keptPageCountMax; i++) {
      const ptr = scratch.allocate(bitmapByteLength(pageRowCountMax) + 8)
      this.#results.push({ reader: null, page: -1, isSkipped: false, ptr })
    }
    this.#filter = new Filter(kernels, scratch.back(), tree)
  }

  /**
   * A bit for each row of a page: whether the filter holds. 0: it holds for none, as the page's statistics say; then no
   * column of it was decoded. Valid until 64 other pages were asked for.
   */
  matches(reader: BlockReader, page: number): number {
    const known = this.#results.find((result) => result.reader === reader && result.page === page)
    if (known !== undefined) return known.isSkipped ? 0 : known.ptr
    const result = this.#results[this.#next]!
    this.#next = (this.#next + 1) % keptPageCountMax
    result.reader = reader
    result.page = page
    result.isSkipped = canSkip(this.tree, (name) => summaryOf(reader, page, name))
    if (result.isSkipped) return 0
    const mark = this.scratch.mark()
    this.#filter.evaluate(this.#rows(reader, page), result.ptr)
    this.scratch.release(mark)
    return result.ptr
  }

  #rows(reader: BlockReader, page: number): RowSource {
    const { pageStarts } = reader.layout
    const rowCount = pageStarts[page + 1]! - pageStarts[page]!
    return {
      rowCount,
      attribute: (name) => {
        if (isKnown(name)) return [this.#known(reader, page, rowCount, name)]
        return cellTypes.flatMap((dtype): ColumnSlice[] => {
          const column = reader.column(storedName(name), dtype)
          const cells = column === undefined ? null : reader.page(column, page)
          if (cells === null) return []
          const byteLength =
            dtype === 'string'
              ? this.kernels.u32[(cells.valuesPtr >> 2) + rowCount]! - this.kernels.u32[cells.valuesPtr >> 2]!
              : 0
          return [{ name, dtype, kind: 'slice', rowCount, ...cells, byteLength }]
        })
      },
      placeholder: () => [],
    }
  }

  #known(reader: BlockReader, page: number, rowCount: number, name: KnownName): ColumnSlice {
    const { call } = this.kernels
    const valuesPtr = this.scratch.allocate(8 * rowCount)
    const pieces = piecesOf(reader)
    const start = reader.layout.pageStarts[page]!
    const end = start + rowCount
    for (let piece = pieceAt(pieces, start); piece < pieces.count && pieces.rows[piece]! < end; piece++) {
      const row = Math.max(start, pieces.rows[piece]!)
      const count = Math.min(end, pieces.rows[piece + 1]!) - row
      const target = valuesPtr + 8 * (row - start)
      if (name === 'seq_number') {
        call.fillProgression(target, count, BigInt(pieces.sequences[piece]! + row - pieces.rows[piece]!), 1n)
      } else
        call.fillInt64(target, count, name === 'shard_id' ? BigInt(pieces.shards[piece]!) : pieces.arrivals[piece]!)
    }
    const dtype = name === 'stream_time' ? 'time' : 'int64'
    return { name, dtype, kind: 'slice', rowCount, valuesPtr, validityPtr: 0, bytesPtr: 0, byteLength: 0 }
  }
}

/** What is known of a page without decoding any of it. */
function summaryOf(reader: BlockReader, page: number, name: string): PageSummary {
  const { pageStarts } = reader.layout
  const start = pageStarts[page]!
  const rowCount = pageStarts[page + 1]! - start
  if (isKnown(name)) return { rowCount, columns: [knownSummary(reader, start, rowCount, name)] }
  const columns = cellTypes.flatMap((dtype): ColumnSummary[] => {
    const column = reader.column(storedName(name), dtype)
    return column === undefined ? [] : [columnSummary(reader, column, page)]
  })
  return { rowCount, columns }
}

function knownSummary(reader: BlockReader, start: number, rowCount: number, name: KnownName): ColumnSummary {
  const { count, rows, shards, sequences, arrivals } = piecesOf(reader)
  let min: bigint | null = null
  let max: bigint | null = null
  const see = (value: bigint): void => {
    if (min === null || value < min) min = value
    if (max === null || value > max) max = value
  }
  for (let piece = pieceAt(piecesOf(reader), start); piece < count && rows[piece]! < start + rowCount; piece++) {
    if (name === 'stream_time') see(arrivals[piece]!)
    else if (name === 'shard_id') see(BigInt(shards[piece]!))
    else {
      const first = sequences[piece]! - rows[piece]!
      see(BigInt(first + Math.max(start, rows[piece]!)))
      see(BigInt(first + Math.min(start + rowCount, rows[piece + 1]!) - 1))
    }
  }
  const value = (bound: bigint | null) => (bound === null || name !== 'stream_time' ? bound : { timeNs: bound })
  return { dtype: name === 'stream_time' ? 'time' : 'int64', presentCount: rowCount, min: value(min), max: value(max) }
}
