// Cuts sorted records into blocks and pages. Columns are given one by one, each whole.
import type { BuilderColumn, PageEncoder } from '../../blocks/builder.js'
import { BlockBuilder } from '../../blocks/builder.js'
import type { PreparedBlock } from '../../blocks/merge-rule.js'
import { blockByteLengthMax, blockCellCountMax, blockRowCountMax, MiB, pageRowCountMax } from '../../limits.js'
import { encodeExtent, encodePieces, type Pieces, slicePieces } from './pieces.js'

/** A shard with at least this many rows in a block begins a page of its own. */
const ownPageRowCountMin = 1024

interface BlockPlan {
  readonly rowStart: number
  readonly builder: BlockBuilder
  readonly pieces: Pieces
}

/** Rows of one block at most, for records of so many columns and decoded bytes. */
export function blockRowCount(columnCount: number, rowByteLength: number): number {
  return Math.max(
    1,
    Math.min(
      blockRowCountMax,
      Math.floor(blockCellCountMax / Math.max(1, columnCount)),
      Math.floor(blockByteLengthMax / Math.max(1, rowByteLength)),
    ),
  )
}

/** rowByteLength: bytes of a decoded row, on average. */
export class BlockWriter {
  readonly #plans: BlockPlan[] = []
  readonly #encoder: PageEncoder

  constructor(encoder: PageEncoder, pieces: Pieces, options: { columnCount: number; rowByteLength: number }) {
    this.#encoder = encoder
    const { columnCount, rowByteLength } = options
    const blockRows = blockRowCount(columnCount, rowByteLength)
    const cellByteLength = rowByteLength / Math.max(1, columnCount)
    const pageRows = Math.max(1, Math.min(pageRowCountMax, Math.floor(MiB / Math.max(1, cellByteLength))))
    const rowCount = pieces.rows[pieces.count]!
    for (let rowStart = 0; rowStart < rowCount; ) {
      const rowEnd = Math.min(rowCount, rowStart + blockRows)
      const own = slicePieces(pieces, rowStart, rowEnd)
      this.#plans.push({ rowStart, builder: new BlockBuilder(encoder, cutPages(own, pageRows)), pieces: own })
      rowStart = rowEnd
    }
  }

  /** A column of all rows, in their order. */
  addColumn(name: string, column: BuilderColumn): void {
    for (const { builder, rowStart } of this.#plans) builder.addColumn(name, column, rowStart)
  }

  finish(): PreparedBlock[] {
    const { kernels, scratch } = this.#encoder
    return this.#plans.map(({ builder, pieces }) =>
      builder.finish(encodePieces(kernels, scratch, pieces), encodeExtent(pieces)),
    )
  }
}

/** First row of each page, then the row count. */
function cutPages(pieces: Pieces, pageRows: number): Uint32Array {
  const pageStarts: number[] = [0]
  const cut = (row: number): void => {
    if (row > pageStarts[pageStarts.length - 1]!) pageStarts.push(row)
  }
  for (let piece = 0; piece < pieces.count; ) {
    let end = piece
    while (end < pieces.count && pieces.shards[end] === pieces.shards[piece]) end++
    const rowStart = pieces.rows[piece]!
    const rowEnd = pieces.rows[end]!
    if (rowEnd - rowStart >= ownPageRowCountMin) cut(rowStart)
    for (let last = pageStarts[pageStarts.length - 1]!; rowEnd - last > pageRows; last += pageRows) cut(last + pageRows)
    piece = end
  }
  cut(pieces.rows[pieces.count]!)
  return Uint32Array.from(pageStarts)
}
