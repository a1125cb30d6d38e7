// A filter over records, page by page.
import type { BlockReader } from '../../blocks/reader.js'
import { Filter, type RowSource } from '../../expression/evaluate.js'
import type { Expression } from '../../expression/tree.js'
import { bitmapByteLength } from '../../frame/bitmap.js'
import type { ColumnSlice } from '../../frame/column-slice.js'
import type { Kernels } from '../../kernels/kernels.js'
import { pageRowCountMax } from '../../limits.js'
import type { Scratch } from '../../memory/scratch.js'
import { pieceAt, piecesOf } from './pieces.js'
import { type CellType, storedName } from './stored-columns.js'

const cellTypes: readonly CellType[] = ['int64', 'float64', 'string', 'bool', 'time']
/** Pages whose results are kept: a read of several shards goes to and fro between theirs. */
const keptPageCountMax = 64

export class RecordFilter {
  readonly #filter: Filter
  readonly #results: { reader: BlockReader | null; page: number; readonly ptr: number }[] = []
  #next = 0

  /** scratch: for the results, what IN looks up, and what one evaluation needs. */
  constructor(
    readonly kernels: Kernels,
    readonly scratch: Scratch,
    tree: Expression,
  ) {
    for (let i = 0; i < keptPageCountMax; i++) {
      const ptr = scratch.allocate(bitmapByteLength(pageRowCountMax) + 8)
      this.#results.push({ reader: null, page: -1, ptr })
    }
    this.#filter = new Filter(kernels, scratch.back(), tree)
  }

  /** A bit for each row of a page: whether the filter holds. Valid until 64 other pages were asked for. */
  matches(reader: BlockReader, page: number): number {
    const known = this.#results.find((result) => result.reader === reader && result.page === page)
    if (known !== undefined) return known.ptr
    const result = this.#results[this.#next]!
    this.#next = (this.#next + 1) % keptPageCountMax
    result.reader = reader
    result.page = page
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
        if (name === 'seq_number' || name === 'shard_id' || name === 'stream_time') {
          return [this.#known(reader, page, rowCount, name)]
        }
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

  /** What the stream knows of each record. */
  #known(
    reader: BlockReader,
    page: number,
    rowCount: number,
    name: 'seq_number' | 'shard_id' | 'stream_time',
  ): ColumnSlice {
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
