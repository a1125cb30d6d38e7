// Which items of some pages a read wants: alive, in the range, not expired, in the segment, and let through by the filter.
import type { ColumnEntry } from '../../blocks/block.js'
import { columnSummary } from '../../blocks/column-summary.js'
import type { BlockReader } from '../../blocks/reader.js'
import { Filter } from '../../expression/evaluate.js'
import { canSkip } from '../../expression/skip.js'
import { collectAttributes, type Expression } from '../../expression/tree.js'
import type { PageSummary } from '../../frame/column-summary.js'
import type { Kernels } from '../../kernels/kernels.js'
import type { Scratch } from '../../memory/scratch.js'
import { attributeColumns, ItemBatch } from './item-batch.js'
import { mtimeColumn, nameColumn } from './item-columns.js'
import { foldersOf } from './item-keys.js'
import { isSystemAttribute, nameAttribute } from './system-attributes.js'

export interface Conditions {
  readonly filter: Expression | null
  /** Items last written at this time (ns) or before are expired; null: none ever is. */
  readonly expiredNs: bigint | null
  /** Items whose name's hash, modulo the total, is one of these numbers; null: all. */
  readonly segments: { readonly total: number; readonly wanted: readonly number[] } | null
  /** Folders whose items cannot match. */
  readonly excludedFolders: readonly string[]
}

export interface Match {
  readonly batch: ItemBatch
  /** A bit a row of the batch, 1 = wanted; bits past the last row are 0. */
  readonly maskPtr: number
  readonly count: number
}

/** Pages of a batch: enough that a call of a kernel is cheap, few enough that columns stay in the second-level cache. */
const batchPageCountMax = 16
/** Where nothing is decoded into columns: a whole block. */
const storedPageCountMax = 128
/** The operator of compareInt64 for "greater than". */
const compareGreater = 4

export class Matcher {
  readonly #excluded: ReadonlySet<string>
  /** Pages whose statistics said that none of their rows can match, and those that were looked into. */
  skippedPageCount = 0
  readPageCount = 0

  readonly #filter: Filter | null
  readonly #filterScratch: Scratch
  /** The attributes that the filter looks at. */
  readonly #filterNames = new Set<string>()
  readonly #wanted: ReadonlySet<string>
  readonly #pageCountMax: number
  /** Of the block that was asked for last: whether all of its pages can be skipped; null: that depends on the page. */
  #judged: { readonly reader: BlockReader; readonly canSkip: boolean | null } | null = null

  /**
   * scratch  the filter takes what it needs from its end, and keeps some of it
   * wanted   attributes whose columns the caller asks the batches for
   */
  constructor(
    kernels: Kernels,
    scratch: Scratch,
    readonly conditions: Conditions,
    wanted: Iterable<string>,
  ) {
    this.#excluded = new Set(conditions.excludedFolders)
    this.#filterScratch = scratch.back()
    const { filter, expiredNs, segments } = conditions
    this.#filter = filter === null ? null : new Filter(kernels, this.#filterScratch, filter)
    if (filter !== null) collectAttributes(filter, this.#filterNames)
    this.#wanted = new Set(wanted)
    const isStored = this.#filter?.comparesStored !== false && expiredNs === null && segments === null
    this.#pageCountMax = isStored && this.#wanted.size === 0 ? storedPageCountMax : batchPageCountMax
  }

  isFolderExcluded(folder: string): boolean {
    return this.#excluded.has(folder)
  }

  /** The first page at `page` or behind it that may have a match, pageEnd when there is none. */
  nextPage(reader: BlockReader, page: number, pageEnd: number): number {
    const canSkipAll = this.#ofBlock(reader)
    if (canSkipAll === false) return page
    let next = page
    while (next < pageEnd && this.#canSkipPage(reader, next)) {
      next++
      this.skippedPageCount++
    }
    return next
  }

  /** Where a batch that begins at `page` ends: at most `countMax` pages, none of which can be skipped. */
  batchEnd(reader: BlockReader, page: number, pageEnd: number, countMax = this.#pageCountMax): number {
    const end = Math.min(pageEnd, page + Math.min(countMax, this.#pageCountMax))
    if (this.#ofBlock(reader) !== null) return end
    let next = page + 1
    while (next < end && !this.#canSkipPage(reader, next)) next++
    return next
  }

  #canSkipPage(reader: BlockReader, page: number): boolean {
    const { filter } = this.conditions
    if (filter === null) return false
    return canSkip(filter, (attribute) => pageSummary(reader, attribute, page))
  }

  /** Whether all pages of a block can be skipped; null where their statistics have to be looked at one by one. */
  #ofBlock(reader: BlockReader): boolean | null {
    if (this.#judged?.reader === reader) return this.#judged.canSkip
    let isUniform = true
    for (const name of this.#filterNames) {
      for (const column of attributeColumns(reader).get(name) ?? []) isUniform &&= isPlain(reader, column)
    }
    const canSkip = isUniform ? this.#canSkipPage(reader, 0) : null
    this.#judged = { reader, canSkip }
    return canSkip
  }

  /**
   * The wanted rows among [rowStart, rowEnd) of pages [pageStart, pageEnd); null when there is none. What it decodes stands
   * in scratch. Throws DATA_DAMAGED, ScratchFull.
   */
  match(
    reader: BlockReader,
    pages: { readonly start: number; readonly end: number },
    rows: { readonly start: number; readonly end: number },
    scratch: Scratch,
  ): Match | null {
    const { kernels, cache } = reader.io
    const { call } = kernels
    const { expiredNs, segments } = this.conditions
    cache.beginEpoch()
    this.readPageCount += pages.end - pages.start
    const batch = new ItemBatch(reader, pages.start, pages.end, scratch, this.#wanted)
    const { rowCount, rowStart } = batch
    const maskByteLength = 8 * Math.ceil(rowCount / 64) + 16
    const maskPtr = scratch.allocate(maskByteLength)
    if (this.#filter === null) call.fillBits(maskPtr, rowCount, 1)
    else this.#evaluate(this.#filter, batch, maskPtr)
    // Columns that the batch decodes meanwhile stay in scratch, so what is needed for a while comes from its other end.
    const work = this.#filterScratch
    const deadPtr = reader.dead()
    if (deadPtr !== 0) {
      const mark = work.mark()
      const piecePtr = work.allocate(maskByteLength)
      call.copyBits(deadPtr, rowStart, piecePtr, 0, rowCount)
      call.andNotBits(maskPtr, piecePtr, maskPtr, rowCount)
      work.release(mark)
    }
    if (rows.start > rowStart) call.setBitRange(maskPtr, 0, Math.min(rowCount, rows.start - rowStart), 0)
    if (rows.end < rowStart + rowCount) call.setBitRange(maskPtr, Math.max(0, rows.end - rowStart), rowCount, 0)
    if (this.#excluded.size > 0) {
      for (const { folder, rowStart: start, rowEnd: end } of foldersOf(reader)) {
        if (end <= rowStart || start >= rowStart + rowCount || !this.#excluded.has(folder)) continue
        call.setBitRange(maskPtr, Math.max(0, start - rowStart), Math.min(rowCount, end - rowStart), 0)
      }
    }
    if (expiredNs !== null) {
      const mark = work.mark()
      const piecePtr = work.allocate(maskByteLength)
      call.compareInt64(batch.hidden(mtimeColumn).valuesPtr, rowCount, compareGreater, expiredNs, piecePtr)
      call.andBits(maskPtr, piecePtr, maskPtr, rowCount)
      work.release(mark)
    }
    if (segments !== null) {
      const names = batch.hidden(nameColumn)
      const mark = work.mark()
      const wantedPtr = work.allocate(segments.total)
      kernels.u8.fill(0, wantedPtr, wantedPtr + segments.total)
      for (const segment of segments.wanted) kernels.u8[wantedPtr + segment] = 1
      call.maskSegments(names.valuesPtr, names.bytesPtr, rowCount, segments.total, wantedPtr, maskPtr)
      work.release(mark)
    }
    const count = call.countBits(maskPtr, rowCount)
    return count === 0 ? null : { batch, maskPtr, count }
  }

  #evaluate(filter: Filter, batch: ItemBatch, maskPtr: number): void {
    const mark = this.#filterScratch.mark()
    try {
      filter.evaluate(batch, maskPtr)
    } finally {
      this.#filterScratch.release(mark)
    }
  }
}

/** Whether the pages of a column have no statistics and no missing cells: all that is known of one is known of all. */
function isPlain(reader: BlockReader, column: ColumnEntry): boolean {
  const { statisticsIndexes, presentCounts } = reader.table(column)
  const { pageStarts, pageCount } = reader.layout
  for (let page = 0; page < pageCount; page++) {
    if (statisticsIndexes[page]! >= 0 || presentCounts[page] !== pageStarts[page + 1]! - pageStarts[page]!) return false
  }
  return true
}

/** What page tables say about an attribute; null: nothing. */
function pageSummary(reader: BlockReader, attribute: string, page: number): PageSummary | null {
  if (attribute === nameAttribute || isSystemAttribute(attribute)) return null
  const { pageStarts } = reader.layout
  const columns = attributeColumns(reader).get(attribute) ?? []
  return {
    rowCount: pageStarts[page + 1]! - pageStarts[page]!,
    columns: columns.map((column) => {
      const summary = columnSummary(reader, column, page)
      return column.name === attribute ? summary : { ...summary, dtype: 'blob' }
    }),
  }
}
