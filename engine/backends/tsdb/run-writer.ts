// Rows that are sorted by (label set, time) become blocks: where to cut blocks and pages, then column by column.
import { assert } from '../../assert.js'
import type { BuilderColumn, PageEncoder } from '../../blocks/builder.js'
import { BlockBuilder } from '../../blocks/builder.js'
import type { PreparedBlock } from '../../blocks/merge-rule.js'
import { blockByteLengthMax, blockCellCountMax, blockRowCountMax, MiB, pageRowCountMax } from '../../limits.js'
import { type DigestGrain, DigestWriter } from './digests.js'
import type { Directory, TsdbExtent } from './directory.js'
import { encodeDirectory, encodeExtent, floorMs, partitionRanges } from './directory.js'

/** The hidden column of sample times; no metric can have this name. */
export const timeColumnName = '#time'

/** A label set with at least this many rows in a block begins a page of its own, so that its statistics are its own. */
const ownPageRowCountMin = 1024

export interface RunWriterOptions {
  readonly columnCount: number
  readonly rowByteLength: number
  /** null: the blocks have none. asked: those that the table was created with, beside our own; null: none. */
  readonly digests: { readonly asked: DigestGrain | null } | null
}

/** Sorted rows: which sets, where each begins, and all their times. */
export interface SortedRows {
  readonly directory: Directory
  readonly timesPtr: number
}

interface BlockPlan {
  readonly rowStart: number
  readonly builder: BlockBuilder
  readonly directory: Directory
  readonly digests: DigestWriter
}

/**
 * columnCount: value columns, for the cell limit. rowByteLength: bytes of a decoded row without nulls, for the byte
 * limits (long strings make shorter pages and blocks).
 */
export class RunWriter {
  readonly #plans: BlockPlan[] = []
  readonly #rows: SortedRows
  readonly #encoder: PageEncoder

  constructor(encoder: PageEncoder, rows: SortedRows, options: RunWriterOptions) {
    this.#encoder = encoder
    this.#rows = rows
    const columnCount = options.columnCount + 1
    const rowByteLength = Math.max(1, Math.ceil(options.rowByteLength))
    const blockRows = Math.max(
      1,
      Math.min(
        blockRowCountMax,
        Math.floor(blockCellCountMax / columnCount),
        Math.floor(blockByteLengthMax / rowByteLength),
      ),
    )
    const pageRows = Math.max(1, Math.min(pageRowCountMax, Math.floor(MiB / (rowByteLength / columnCount))))
    const { sets, starts } = rows.directory
    const rowCount = starts[sets.length]!
    for (let rowStart = 0; rowStart < rowCount; ) {
      const rowEnd = cutBlock(starts, sets.length, rowStart, blockRows)
      const directory = sliceDirectory(rows.directory, rowStart, rowEnd)
      const pageStarts = cutPages(directory, pageRows)
      const digests = new DigestWriter(encoder, { directory, timesPtr: rows.timesPtr, rowStart }, options.digests)
      this.#plans.push({ rowStart, builder: new BlockBuilder(encoder, pageStarts), directory, digests })
      rowStart = rowEnd
    }
    const times: BuilderColumn = { dtype: 'time', valuesPtr: rows.timesPtr, validityPtr: 0, bytesPtr: 0 }
    for (const { builder, rowStart } of this.#plans) builder.addColumn(timeColumnName, times, rowStart)
  }

  /** A column of all rows, in their order. */
  addColumn(name: string, column: BuilderColumn): void {
    for (const { builder, rowStart, digests } of this.#plans) {
      assert(column.near === undefined || !digests.hasDigests, 'digests are made of values')
      const number = builder.columnCount
      builder.addColumn(name, column, rowStart, !digests.hasDigests)
      if (builder.columnCount > number) digests.add(number, column)
    }
  }

  finish(partitionIntervalMs: number): PreparedBlock[] {
    const { kernels, scratch } = this.#encoder
    return this.#plans.map(({ builder, rowStart, directory, digests }) => {
      digests.finish(builder, rowStart)
      const starts = directory.starts.subarray(0, directory.sets.length)
      const extent = encodeExtent(this.#extent(directory, rowStart, partitionIntervalMs))
      return builder.finish(encodeDirectory(kernels, scratch, { sets: directory.sets, starts }), extent)
    })
  }

  #extent(directory: Directory, rowStart: number, partitionIntervalMs: number): TsdbExtent {
    const { call, i64 } = this.#encoder.kernels
    const times = this.#rows.timesPtr >> 3
    const { sets, starts } = directory
    let timeMinMs = Infinity
    let timeMaxMs = -Infinity
    const partitions = new Set<number>()
    for (let i = 0; i < sets.length; i++) {
      const start = rowStart + starts[i]!
      const end = rowStart + starts[i + 1]!
      const first = floorMs(i64[times + start]!)
      const last = floorMs(i64[times + end - 1]!)
      timeMinMs = Math.min(timeMinMs, first)
      timeMaxMs = Math.max(timeMaxMs, last)
      const lastPartition = Math.floor(last / partitionIntervalMs)
      let partition = Math.floor(first / partitionIntervalMs)
      partitions.add(partition)
      for (let row = start; partition < lastPartition; ) {
        const nextNs = BigInt(partition + 1) * BigInt(partitionIntervalMs) * 1_000_000n
        row = call.lowerBoundInt64(this.#rows.timesPtr, row, end, nextNs)
        partition = Math.floor(floorMs(i64[times + row]!) / partitionIntervalMs)
        partitions.add(partition)
      }
    }
    return {
      setMin: sets[0]!,
      setMax: sets[sets.length - 1]!,
      timeMinMs,
      timeMaxMs,
      partitions: partitionRanges(partitions),
    }
  }
}

/** End of the block that begins at rowStart: full, or at the end of a set when that leaves at least half of it filled. */
function cutBlock(starts: Uint32Array, setCount: number, rowStart: number, blockRows: number): number {
  const rowCount = starts[setCount]!
  if (rowCount - rowStart <= blockRows) return rowCount
  const full = rowStart + blockRows
  let low = 0
  let high = setCount
  while (low < high) {
    const middle = (low + high + 1) >>> 1
    if (starts[middle]! <= full) low = middle
    else high = middle - 1
  }
  return starts[low]! - rowStart >= blockRows / 2 ? starts[low]! : full
}

function sliceDirectory(directory: Directory, rowStart: number, rowEnd: number): Directory {
  const { sets, starts } = directory
  if (rowStart === 0 && rowEnd === starts[sets.length]) return directory
  let first = 0
  while (starts[first + 1]! <= rowStart) first++
  let end = first
  while (end < sets.length && starts[end]! < rowEnd) end++
  const sliced = new Uint32Array(end - first + 1)
  for (let i = first; i < end; i++) sliced[i - first] = Math.max(0, starts[i]! - rowStart)
  sliced[end - first] = rowEnd - rowStart
  return { sets: sets.slice(first, end), starts: sliced }
}

/** First row of each page, then the row count. */
function cutPages(directory: Directory, pageRows: number): Uint32Array {
  const { sets, starts } = directory
  const pageStarts: number[] = [0]
  const cut = (row: number): void => {
    if (row > pageStarts[pageStarts.length - 1]!) pageStarts.push(row)
  }
  for (let i = 0; i < sets.length; i++) {
    const start = starts[i]!
    const end = starts[i + 1]!
    const rowCount = end - start
    if (rowCount >= Math.min(ownPageRowCountMin, pageRows)) {
      cut(start)
      const pageCount = Math.ceil(rowCount / pageRows)
      for (let page = 1; page <= pageCount; page++) cut(start + Math.floor((rowCount * page) / pageCount))
    } else if (end - pageStarts[pageStarts.length - 1]! > pageRows) cut(start)
  }
  cut(starts[sets.length]!)
  return Uint32Array.from(pageStarts)
}
