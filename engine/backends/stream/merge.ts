// Merges runs of a stream, in a worker: shard after shard, each in the order of its sequence numbers, into new blocks.
import { PageEncoder } from '../../blocks/builder.js'
import type { MergeStep } from '../../blocks/merge-rule.js'
import type { BlockSource } from '../../blocks/reader.js'
import { BlockIo, BlockReader } from '../../blocks/reader.js'
import { FramesError } from '../../errors.js'
import type { Kernels } from '../../kernels/kernels.js'
import { MiB, pageRowCountMax } from '../../limits.js'
import type { Scratch } from '../../memory/scratch.js'
import type { WorkerReader } from '../../stores/store.js'
import { assembleColumn, columnsOfReaders, type Stretch, textByteLengthOf } from './assemble.js'
import { BlockWriter, blockRowCount } from './block-writer.js'
import type { StoredColumn } from './stored-columns.js'
import { PiecesBuilder, type Pieces, piecesOf } from './pieces.js'

export interface MergeInput {
  readonly sources: readonly BlockSource[]
  /** Rows of the merged run that are written already; null: none. */
  readonly position: number | null
  readonly partition: string
  readonly tableName: string
  readonly isCancelled: () => boolean
}

/** A block ends at this much text. */
const textByteLengthMax = 8 * MiB

export function mergeRuns(
  kernels: Kernels,
  scratch: Scratch,
  store: WorkerReader | null,
  input: MergeInput,
): MergeStep {
  const [output, collected, cache, temporary] = scratch.split([0.3, 0.35, 0.3, 0.05]) as [
    Scratch,
    Scratch,
    Scratch,
    Scratch,
  ]
  const io = new BlockIo(kernels, cache, store, input.partition, input.tableName)
  const readers = input.sources.map((source) => new BlockReader(io, source))
  const columns = columnsOfReaders(readers)
  const skipped = input.position ?? 0
  const rows = takeRows(kernels, io, readers, {
    skipped,
    rowCountMax: blockRowCount(columns.length, 0),
    textColumns: columns.filter(({ dtype }) => dtype === 'string'),
  })
  const { pieces, stretches, rowCount, textByteLength } = rows
  const writer = new BlockWriter(new PageEncoder(kernels, output, pageRowCountMax, 'narrow'), pieces, {
    columnCount: columns.length,
    rowByteLength: 8 * columns.length + textByteLength / Math.max(1, rowCount),
  })
  for (const column of columns) {
    // Never a part of the rows as if it were all: the inputs will be erased.
    if (input.isCancelled()) throw new FramesError('CANCELLED', 'the merge was cancelled')
    const mark = collected.mark()
    const cells = assembleColumn({ io, temporary }, collected, stretches, rowCount, column)
    if (cells !== null) writer.addColumn(column.name, cells)
    collected.release(mark)
  }
  const total = input.sources.reduce((sum, source) => sum + source.rowCount, 0)
  const done = skipped + rowCount
  return { blocks: writer.finish(), next: done < total ? done : null }
}

/** The next rows in the order (shard, sequence), by pages: those behind the first `skipped`. */
function takeRows(
  kernels: Kernels,
  io: BlockIo,
  readers: readonly BlockReader[],
  limits: {
    readonly skipped: number
    readonly rowCountMax: number
    readonly textColumns: readonly StoredColumn[]
  },
): { pieces: Pieces; stretches: Stretch[]; rowCount: number; textByteLength: number } {
  const pieces = new PiecesBuilder()
  const stretches: Stretch[] = []
  let skip = limits.skipped
  let textByteLength = 0
  const sources = readers.map((reader) => ({ reader, pieces: piecesOf(reader), next: 0 }))
  for (;;) {
    // Sources are in the order of commits, so within a shard they are in the order of sequence numbers.
    let shard = Infinity
    for (const source of sources)
      if (source.next < source.pieces.count) shard = Math.min(shard, source.pieces.shards[source.next]!)
    if (shard === Infinity) break
    for (const source of sources) {
      const own = source.pieces
      for (; source.next < own.count && own.shards[source.next] === shard; source.next++) {
        const piece = source.next
        const pieceEnd = own.rows[piece + 1]!
        let row = own.rows[piece]!
        const skippedHere = Math.min(skip, pieceEnd - row)
        skip -= skippedHere
        row += skippedHere
        const { pageStarts } = source.reader.layout
        while (row < pieceEnd) {
          const page = pageOf(pageStarts, row, stretches, source.reader)
          const rowEnd = Math.min(pieceEnd, pageStarts[page + 1]!, row + limits.rowCountMax - pieces.rowCount)
          const stretch: Stretch = {
            reader: source.reader,
            page,
            rowStart: row - pageStarts[page]!,
            rowCount: rowEnd - row,
            indexesPtr: 0,
          }
          io.cache.beginEpoch()
          for (const column of limits.textColumns)
            textByteLength += textByteLengthOf(kernels, stretch, column, stretch.rowCount)
          appendStretch(stretches, stretch)
          pieces.add({
            shard,
            sequence: own.sequences[piece]! + row - own.rows[piece]!,
            arrivalNs: own.arrivals[piece]!,
            rowCount: rowEnd - row,
          })
          row = rowEnd
          if (pieces.rowCount >= limits.rowCountMax || textByteLength >= textByteLengthMax)
            return { pieces: pieces.finish(), stretches, rowCount: pieces.rowCount, textByteLength }
        }
      }
    }
  }
  return { pieces: pieces.finish(), stretches, rowCount: pieces.rowCount, textByteLength }
}

function appendStretch(stretches: Stretch[], stretch: Stretch): void {
  const last = stretches[stretches.length - 1]
  const isNext =
    last !== undefined &&
    last.reader === stretch.reader &&
    last.page === stretch.page &&
    last.rowStart + last.rowCount === stretch.rowStart
  if (isNext) stretches[stretches.length - 1] = { ...last, rowCount: last.rowCount + stretch.rowCount }
  else stretches.push(stretch)
}

/** The page of a row; most often that of the last stretch, or the one behind it. */
function pageOf(pageStarts: Uint32Array, row: number, stretches: readonly Stretch[], reader: BlockReader): number {
  const last = stretches[stretches.length - 1]
  let page = last?.reader === reader ? last.page : 0
  while (pageStarts[page + 1]! <= row) page++
  return page
}
