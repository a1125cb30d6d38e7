// Gathers batches of sorted rows into whole columns: for a message of a raw read, or for a block of a merge.
import type { Kernels } from '../../kernels/kernels.js'
import type { Scratch } from '../../memory/scratch.js'
import type { Batch, BatchColumn, PageRows } from './series-reader.js'
import { bitmapByteLength, cellsOfPage, timesOfPage } from './series-reader.js'
import type { MetricType } from './signature.js'

interface TextPiece {
  readonly row: number
  readonly rowCount: number
  readonly offsetsPtr: number
  readonly bytesPtr: number
  readonly byteLength: number
}

interface Column {
  readonly type: MetricType
  /** 8-byte cells or bits; 0 for strings. */
  readonly valuesPtr: number
  readonly validityPtr: number
  readonly pieces: TextPiece[]
  presentCount: number
}

/** Rows of a page that are collected. hasTimes: their times stand in their place. */
export interface CollectedPage extends PageRows {
  readonly rowCount: number
  readonly hasTimes: boolean
}

/** A collected column; see ColumnSlice. */
export interface CollectedColumn {
  readonly valuesPtr: number
  readonly validityPtr: number
  readonly bytesPtr: number
  readonly byteLength: number
  readonly presentCount: number
}

export class RowCollector {
  rowCount = 0
  /** Bytes of text so far. */
  textByteLength = 0
  readonly timesPtr: number
  readonly #columns: Column[] = []
  readonly #indexesPtr: number
  /** Column → where batches have it, -1: nowhere; and the list that this was made of. */
  readonly #batchIndexes: number[] = []
  #batchColumns: readonly number[] | null = null
  readonly #pages: CollectedPage[] = []
  #mark: number

  constructor(
    readonly kernels: Kernels,
    readonly scratch: Scratch,
    readonly capacity: number,
  ) {
    this.timesPtr = scratch.allocate(8 * capacity)
    this.#indexesPtr = scratch.allocate(4 * capacity)
    this.#mark = 0
  }

  get columnCount(): number {
    return this.#columns.length
  }

  /** Adds a column; rows collected before have no cell in it. Returns its number. */
  addColumn(type: MetricType): number {
    const { call } = this.kernels
    this.#batchColumns = null
    const validityPtr = this.scratch.allocate(bitmapByteLength(this.capacity))
    call.fillBits(validityPtr, this.capacity, 0)
    let valuesPtr = 0
    if (type === 'bool') {
      valuesPtr = this.scratch.allocate(bitmapByteLength(this.capacity))
      call.fillBits(valuesPtr, this.capacity, 0)
    } else if (type !== 'string') {
      valuesPtr = this.scratch.allocate(8 * this.capacity)
      if (this.rowCount > 0) this.kernels.u8.fill(0, valuesPtr, valuesPtr + 8 * this.rowCount)
    }
    return this.#columns.push({ type, valuesPtr, validityPtr, pieces: [], presentCount: 0 }) - 1
  }

  /** Forgets the rows, keeps the columns. Text of strings is given back. */
  clear(): void {
    if (this.#mark === 0) this.#mark = this.scratch.mark()
    else this.scratch.release(this.#mark)
    // Kernels write whole words.
    const used = Math.min(this.capacity, this.rowCount + 128)
    this.rowCount = 0
    this.textByteLength = 0
    // Pages leave no traces in columns.
    if (this.#pages.length > 0) {
      this.#pages.length = 0
      return
    }
    for (const column of this.#columns) {
      this.kernels.call.fillBits(column.validityPtr, used, 0)
      column.pieces.length = 0
      column.presentCount = 0
    }
  }

  /** The pages that all rows are of, in order; none: rows are in columns. */
  get pages(): readonly CollectedPage[] {
    return this.#pages
  }

  /** Whether rows can be taken as a page: those before them were, or there are none. */
  get takesPages(): boolean {
    return this.rowCount === 0 || this.#pages.length > 0
  }

  /** Takes rows as what they are of, from row `from` of the page on. timesPtr: their times; 0: they are not decoded. */
  appendPage({ reader, page, timeColumn, entries }: PageRows, from: number, rowCount: number, timesPtr: number): void {
    const hasTimes = timesPtr !== 0
    if (hasTimes) this.kernels.call.copyBytes(timesPtr, 8 * rowCount, this.timesPtr + 8 * this.rowCount)
    // Not spread: V8 looks up each field of such a copy anew, in each column of the message.
    this.#pages.push({ reader, page, from, rowCount, timeColumn, entries, hasTimes })
    this.rowCount += rowCount
  }

  /** Puts the times of pages in their place that are not there yet. */
  decodeTimes(): void {
    let row = 0
    for (const page of this.#pages) {
      if (!page.hasTimes) this.kernels.call.copyBytes(timesOfPage(page), 8 * page.rowCount, this.timesPtr + 8 * row)
      row += page.rowCount
    }
  }

  /** Puts the rows of pages into columns: others are to follow that stand in no page. columns: as of `append`. */
  settle(columns: readonly number[]): void {
    this.decodeTimes()
    const pages = this.#pages.splice(0)
    this.rowCount = 0
    for (const page of pages) {
      const timesPtr = this.timesPtr + 8 * this.rowCount
      this.append(
        { rowCount: page.rowCount, timesPtr, columns: cellsOfPage(page), digests: null },
        page.rowCount,
        columns,
        false,
      )
    }
  }

  /**
   * Takes rows [0, rowCount) of a batch; column i of the batch goes to columns[i]. With `dropEmpty`, rows without any
   * cell are left out. rowCount must fit: capacity - this.rowCount.
   */
  append(batch: Batch, rowCount: number, columns: readonly number[], dropEmpty: boolean): void {
    const { call, u8 } = this.kernels
    const row = this.rowCount
    const indexCount = dropEmpty ? this.#presentRows(batch, rowCount) : rowCount
    if (indexCount === 0) return
    const isWhole = indexCount === rowCount
    // Rows that a condition lets through: where nothing else is missing, each that is taken has all cells.
    const hasAll = !isWhole && haveOneValidity(batch.columns)
    if (isWhole) call.copyBytes(batch.timesPtr, 8 * rowCount, this.timesPtr + 8 * row)
    else call.gather64(batch.timesPtr, this.#indexesPtr, indexCount, this.timesPtr + 8 * row)
    // Column → where the batch has it; a search for each column would cost the square of a wide table's columns.
    if (this.#batchColumns !== columns) {
      this.#batchIndexes.length = 0
      for (let number = 0; number < this.#columns.length; number++) this.#batchIndexes.push(-1)
      for (let index = 0; index < columns.length; index++) this.#batchIndexes[columns[index]!] = index
      this.#batchColumns = columns
    }
    for (let number = 0; number < this.#columns.length; number++) {
      const column = this.#columns[number]!
      const index = this.#batchIndexes[number]!
      const cells = index < 0 ? null : batch.columns[index]!
      if (cells === null) {
        if (column.type === 'bool') call.setBitRange(column.valuesPtr, row, row + indexCount, 0)
        else if (column.type !== 'string')
          u8.fill(0, column.valuesPtr + 8 * row, column.valuesPtr + 8 * (row + indexCount))
        continue
      }
      this.#appendCells(column, cells, row, indexCount, isWhole, hasAll)
    }
    this.rowCount += indexCount
  }

  /** rowCount: of the rows that are taken, which the index list names unless these are all. hasAll: none of them misses a cell. */
  #appendCells(
    column: Column,
    cells: BatchColumn,
    row: number,
    rowCount: number,
    isWhole: boolean,
    hasAll: boolean,
  ): void {
    const { call, u32 } = this.kernels
    const { scratch } = this
    const { valuesPtr, validityPtr, type } = column
    const indexes = this.#indexesPtr
    if (hasAll || cells.validityPtr === 0) {
      call.setBitRange(validityPtr, row, row + rowCount, 1)
      column.presentCount += rowCount
    } else {
      let source = cells.validityPtr
      const mark = scratch.mark()
      if (!isWhole) {
        source = scratch.allocate(bitmapByteLength(rowCount))
        call.gatherBits(cells.validityPtr, indexes, rowCount, source)
      }
      call.copyBits(source, 0, validityPtr, row, rowCount)
      column.presentCount += call.countBits(source, rowCount)
      scratch.release(mark)
    }
    if (type === 'string') {
      const offsetsPtr = scratch.allocate(4 * (rowCount + 1))
      let byteLength: number
      let bytesPtr: number
      if (isWhole) {
        const offsets = cells.valuesPtr >> 2
        byteLength = u32[offsets + rowCount]! - u32[offsets]!
        bytesPtr = scratch.allocate(byteLength)
        call.copyStrings(cells.valuesPtr, cells.bytesPtr, 0, rowCount, offsetsPtr, 0, bytesPtr)
      } else {
        byteLength = call.gatheredStringsByteLength(cells.valuesPtr, indexes, rowCount)
        bytesPtr = scratch.allocate(byteLength)
        call.gatherStrings(cells.valuesPtr, cells.bytesPtr, indexes, rowCount, offsetsPtr, bytesPtr)
      }
      column.pieces.push({ row, rowCount, offsetsPtr, bytesPtr, byteLength })
      this.textByteLength += byteLength
      return
    }
    if (type === 'bool') {
      const mark = scratch.mark()
      let source = cells.valuesPtr
      if (!isWhole) {
        source = scratch.allocate(bitmapByteLength(rowCount))
        call.gatherBits(cells.valuesPtr, indexes, rowCount, source)
      }
      call.copyBits(source, 0, valuesPtr, row, rowCount)
      scratch.release(mark)
      return
    }
    if (isWhole) call.copyBytes(cells.valuesPtr, 8 * rowCount, valuesPtr + 8 * row)
    else call.gather64(cells.valuesPtr, indexes, rowCount, valuesPtr + 8 * row)
  }

  /** Whether any row of a batch has a cell. */
  hasCells(batch: Batch): boolean {
    for (const column of batch.columns) {
      if (column === null) continue
      if (column.validityPtr === 0 || this.kernels.call.countBits(column.validityPtr, batch.rowCount) > 0) return true
    }
    return false
  }

  /** Writes the rows that have any cell into the index list; returns how many. */
  #presentRows(batch: Batch, rowCount: number): number {
    const { call } = this.kernels
    let anyPtr = 0
    let lastPtr = 0
    const mark = this.scratch.mark()
    for (const column of batch.columns) {
      if (column === null) continue
      if (column.validityPtr === 0) {
        this.scratch.release(mark)
        return rowCount
      }
      if (anyPtr === 0) {
        anyPtr = this.scratch.allocate(bitmapByteLength(rowCount))
        call.copyBits(column.validityPtr, 0, anyPtr, 0, rowCount)
        const last = rowCount & 7
        if (last !== 0) this.kernels.u8[anyPtr + (rowCount >> 3)]! &= (1 << last) - 1
      } else if (column.validityPtr !== lastPtr) call.orBits(anyPtr, column.validityPtr, anyPtr, rowCount)
      lastPtr = column.validityPtr
    }
    const count = anyPtr === 0 ? 0 : call.countBits(anyPtr, rowCount)
    if (count > 0 && count < rowCount) call.bitsToIndexes(anyPtr, rowCount, this.#indexesPtr)
    this.scratch.release(mark)
    return count
  }

  /** The collected cells of a column. Strings are laid out now, in scratch. */
  column(number: number): CollectedColumn {
    const { call, u32 } = this.kernels
    const column = this.#columns[number]!
    const { presentCount } = column
    const validityPtr = presentCount === this.rowCount ? 0 : column.validityPtr
    if (column.type !== 'string')
      return { valuesPtr: column.valuesPtr, validityPtr, bytesPtr: 0, byteLength: 0, presentCount }
    const total = column.pieces.reduce((sum, piece) => sum + piece.byteLength, 0)
    const offsetsPtr = this.scratch.allocate(4 * (this.rowCount + 1))
    const bytesPtr = this.scratch.allocate(total)
    const offsets = offsetsPtr >> 2
    let end = 0
    let row = 0
    u32[offsets] = 0
    for (const piece of column.pieces) {
      u32.fill(end, offsets + row, offsets + piece.row + 1)
      end = call.copyStrings(
        piece.offsetsPtr,
        piece.bytesPtr,
        0,
        piece.rowCount,
        offsetsPtr + 4 * piece.row,
        end,
        bytesPtr,
      )
      row = piece.row + piece.rowCount
    }
    u32.fill(end, offsets + row, offsets + this.rowCount + 1)
    return { valuesPtr: offsetsPtr, validityPtr, bytesPtr, byteLength: total, presentCount }
  }
}

/** Whether the cells of all columns that have any are missing in the same rows. */
function haveOneValidity(columns: readonly (BatchColumn | null)[]): boolean {
  let validityPtr = 0
  for (const column of columns) {
    if (column === null) continue
    if (validityPtr !== 0 && column.validityPtr !== validityPtr) return false
    validityPtr = column.validityPtr
  }
  return true
}
