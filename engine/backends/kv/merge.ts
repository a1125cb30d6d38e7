// Merges runs of a kv table, in a worker: the living rows of all blocks in the order of (folder, name), into new blocks.
//
//   names of all blocks ──► order: (source, row) of some 128 Ki rows ──► column by column: gather ──► blocks
import type { MergeStep } from '../../blocks/merge-rule.js'
import type { BlockSource } from '../../blocks/reader.js'
import { BlockIo } from '../../blocks/reader.js'
import { assert } from '../../assert.js'
import { FramesError } from '../../errors.js'
import type { Kernels } from '../../kernels/kernels.js'
import { blockByteLengthMax, blockCellCountMax, blockRowCountMax } from '../../limits.js'
import { type Scratch, ScratchFull } from '../../memory/scratch.js'
import type { WorkerReader } from '../../stores/store.js'
import type { FolderStart, ItemRows } from './item-block.js'
import { directoryOf, fencesOf, folderBytes, folderText, writeItems } from './item-block.js'
import { ctimeColumn, mtimeColumn, nameColumn } from './item-columns.js'
import type { ItemColumn } from './item-reader.js'
import { ItemReader, nameEntry, noRow, pageOf } from './item-reader.js'

/** Where the next step of a merge begins: at this key. */
export interface ItemPosition {
  readonly folder: Uint8Array
  readonly name: Uint8Array
}

export interface ItemMergeInput {
  readonly sources: readonly BlockSource[]
  readonly position: ItemPosition | null
  readonly partition: string
  readonly tableName: string
  readonly isCancelled: () => boolean
}

/** Rows of one step are not made fewer than this because their cells take too much memory. */
const stepRowCountMin = 64

/** A block that the merge walks through. */
interface Cursor {
  readonly index: number
  /** First and last key: where it begins to count, and when it is behind. */
  readonly firstFolder: Uint8Array
  readonly firstName: Uint8Array
  /** The folder that it is in, as index of its directory, and the rows of it that are left. */
  folder: number
  row: number
  folderEnd: number
}

export function mergeItems(
  kernels: Kernels,
  scratch: Scratch,
  store: WorkerReader | null,
  input: ItemMergeInput,
): MergeStep {
  const [cacheScratch, temporary, output] = scratch.split([0.3, 0.15, 0.55]) as [Scratch, Scratch, Scratch]
  const work = output.back()
  const io = new BlockIo(kernels, cacheScratch, store, input.partition, input.tableName)
  const reader = new ItemReader(io, temporary, input.sources)
  const columns = reader.columns()
  const capacity = Math.max(
    1,
    Math.min(
      blockRowCountMax,
      Math.floor(blockCellCountMax / (columns.length + 3)),
      // A guess at what they take decoded; see fewerRows.
      Math.floor(
        (2 * blockByteLengthMax) / Math.max(1, ...input.sources.map((_, i) => encodedRowByteLength(reader, i))),
      ),
    ),
  )
  const sourceIndexesPtr = work.allocate(4 * (capacity + 1))
  const rowsPtr = work.allocate(4 * (capacity + 1))
  // One row more than are written: the next step begins with it.
  const order = new ItemOrder(reader, input)
  const ordered = order.take(capacity + 1, sourceIndexesPtr, rowsPtr)
  let { rowCount } = ordered
  if (rowCount > capacity) rowCount = capacity
  else if (rowCount === 0) return { blocks: [], next: null }
  for (;;) {
    const marks = [output.mark(), work.mark(), temporary.mark()] as const
    try {
      const items = gatherItems(reader, work, columns, ordered.folders, { sourceIndexesPtr, rowsPtr, rowCount })
      if (input.isCancelled()) throw new FramesError('CANCELLED', 'the merge was cancelled')
      const blocks = writeItems(kernels, output, work, items)
      const next =
        rowCount < ordered.rowCount ? keyAt(reader, ordered.folders, sourceIndexesPtr, rowsPtr, rowCount) : null
      return { blocks, next }
    } catch (error) {
      // Long texts behind short codes: fewer rows a step.
      if (!(error instanceof ScratchFull) || rowCount <= stepRowCountMin) throw error
      output.release(marks[0])
      work.release(marks[1])
      temporary.release(marks[2])
      rowCount >>= 1
    }
  }
}

function encodedRowByteLength(reader: ItemReader, index: number): number {
  const { layout } = reader.reader(index)
  return layout.segmentByteLengths.reduce((sum, length) => sum + length, 0) / Math.max(1, layout.rowCount)
}

interface OrderedRows {
  readonly sourceIndexesPtr: number
  readonly rowsPtr: number
  readonly rowCount: number
}

function gatherItems(
  reader: ItemReader,
  work: Scratch,
  columns: readonly ItemColumn[],
  folders: readonly FolderStart[],
  { sourceIndexesPtr, rowsPtr, rowCount }: OrderedRows,
): ItemRows {
  const column = ({ name, dtype }: ItemColumn) => reader.gather(name, dtype, sourceIndexesPtr, rowsPtr, rowCount, work)
  return {
    rowCount,
    folders: folders.filter(({ rowStart }) => rowStart < rowCount),
    names: column({ name: nameColumn, dtype: 'string' }),
    mtimes: column({ name: mtimeColumn, dtype: 'time' }),
    ctimes: column({ name: ctimeColumn, dtype: 'time' }),
    attributes: columns.map(column),
  }
}

/** The key of an ordered row. */
function keyAt(
  reader: ItemReader,
  folders: readonly FolderStart[],
  sourceIndexesPtr: number,
  rowsPtr: number,
  place: number,
): ItemPosition {
  const { u32 } = reader.io.kernels
  let folder = folders[0]!
  for (const one of folders) if (one.rowStart <= place) folder = one
  const name = nameOf(reader, u32[(sourceIndexesPtr >> 2) + place]!, u32[(rowsPtr >> 2) + place]!)
  return { folder: new TextEncoder().encode(folder.folder), name }
}

/** The name of a row, as a copy. */
function nameOf(reader: ItemReader, index: number, row: number): Uint8Array {
  const { kernels, cache } = reader.io
  cache.beginEpoch()
  const block = reader.reader(index)
  const page = pageOf(block, row)
  const decoded = block.page(nameEntry(block), page)
  if (decoded === null) throw reader.io.damaged(block.source.id, `page ${page} has no names`)
  const offsets = (decoded.valuesPtr >> 2) + row - block.layout.pageStarts[page]!
  const { u8, u32 } = kernels
  return u8.slice(decoded.bytesPtr + u32[offsets]!, decoded.bytesPtr + u32[offsets + 1]!)
}

function compareKeys(aFolder: Uint8Array, aName: Uint8Array, bFolder: Uint8Array, bName: Uint8Array): number {
  return Buffer.compare(aFolder, bFolder) || Buffer.compare(aName, bName)
}

/** Puts the living rows of all sources in order, folder after folder, from a position on. */
class ItemOrder {
  readonly #reader: ItemReader
  readonly #isCancelled: () => boolean
  readonly #position: ItemPosition | null
  /** Blocks that the walk has reached, and those that it has not, the nearest first. */
  readonly #active: Cursor[] = []
  readonly #waiting: Cursor[]
  readonly #folders: FolderStart[] = []

  constructor(reader: ItemReader, { position, isCancelled }: ItemMergeInput) {
    this.#reader = reader
    this.#isCancelled = isCancelled
    this.#position = position
    this.#waiting = reader.sources.flatMap((_, index) => this.#open(index) ?? [])
    this.#waiting.sort((a, b) => compareKeys(a.firstFolder, a.firstName, b.firstFolder, b.firstName))
  }

  /** Null when all of the block stands before the position. */
  #open(index: number): Cursor | null {
    const { cache, kernels } = this.#reader.io
    const { u8, u32 } = kernels
    cache.beginEpoch()
    const block = this.#reader.reader(index)
    const directory = directoryOf(block)
    const fences = fencesOf(block)
    const fence = (i: number): Uint8Array => {
      const offsets = (fences.offsetsPtr >> 2) + i
      return u8.slice(fences.bytesPtr + u32[offsets]!, fences.bytesPtr + u32[offsets + 1]!)
    }
    const cursor: Cursor = {
      index,
      firstFolder: folderBytes(directory, 0),
      firstName: fence(0),
      folder: 0,
      row: 0,
      folderEnd: directory.count > 1 ? directory.rowStarts[1]! : block.layout.rowCount,
    }
    const position = this.#position
    if (position === null) return cursor
    const lastFolder = folderBytes(directory, directory.count - 1)
    if (compareKeys(lastFolder, fence(fences.count - 1), position.folder, position.name) < 0) return null
    if (compareKeys(cursor.firstFolder, cursor.firstName, position.folder, position.name) >= 0) return cursor
    return this.#moved(cursor, position)
  }

  /** The cursor at its first key that does not stand before the position, which is inside its block. */
  #moved(cursor: Cursor, { folder, name }: ItemPosition): Cursor {
    const block = this.#reader.reader(cursor.index)
    const directory = directoryOf(block)
    let place = 0
    while (place < directory.count && Buffer.compare(folderBytes(directory, place), folder) < 0) place++
    const rowStart = directory.rowStarts[place]!
    const rowEnd = place + 1 < directory.count ? directory.rowStarts[place + 1]! : block.layout.rowCount
    let low = rowStart
    if (Buffer.compare(folderBytes(directory, place), folder) === 0) {
      let high = rowEnd
      while (low < high) {
        const middle = (low + high) >>> 1
        if (Buffer.compare(nameOf(this.#reader, cursor.index, middle), name) < 0) low = middle + 1
        else high = middle
      }
    }
    if (low < rowEnd) return this.#at(cursor, place, low)
    return this.#at(cursor, place + 1, directory.rowStarts[place + 1]!)
  }

  #at(cursor: Cursor, folder: number, row: number): Cursor {
    const block = this.#reader.reader(cursor.index)
    const directory = directoryOf(block)
    return {
      index: cursor.index,
      firstFolder: folderBytes(directory, folder),
      firstName: nameOf(this.#reader, cursor.index, row),
      folder,
      row,
      folderEnd: folder + 1 < directory.count ? directory.rowStarts[folder + 1]! : block.layout.rowCount,
    }
  }

  /** Writes up to `capacity` rows: source and row of each. The folders say where each begins among them. */
  take(
    capacity: number,
    sourceIndexesPtr: number,
    rowsPtr: number,
  ): { readonly rowCount: number; readonly folders: readonly FolderStart[] } {
    let rowCount = 0
    while (rowCount < capacity && this.#active.length + this.#waiting.length > 0) {
      if (this.#isCancelled()) throw new FramesError('CANCELLED', 'the merge was cancelled')
      const folder = this.#nextFolder()
      const start = rowCount
      rowCount = this.#takeFolder(folder, rowCount, capacity, sourceIndexesPtr, rowsPtr)
      if (rowCount > start) this.#folders.push({ folder: new TextDecoder().decode(folder), rowStart: start })
    }
    return { rowCount, folders: this.#folders }
  }

  #folderOf({ index, folder }: Cursor): Uint8Array {
    return folderBytes(directoryOf(this.#reader.reader(index)), folder)
  }

  /** The first folder with rows left. */
  #nextFolder(): Uint8Array {
    let first: Uint8Array | null = this.#waiting[0]?.firstFolder ?? null
    for (const cursor of this.#active) {
      const folder = this.#folderOf(cursor)
      if (first === null || Buffer.compare(folder, first) < 0) first = folder
    }
    assert(first !== null, 'a merge that goes on has a folder')
    return first
  }

  #takeFolder(
    folder: Uint8Array,
    rowCountBefore: number,
    capacity: number,
    sourceIndexesPtr: number,
    rowsPtr: number,
  ): number {
    const { kernels, cache } = this.#reader.io
    const { temporary } = this.#reader
    const { call, u8, u32 } = kernels
    let rowCount = rowCountBefore
    for (;;) {
      const taking = this.#active.filter((cursor) => Buffer.compare(this.#folderOf(cursor), folder) === 0)
      const waiting = this.#waiting[0]
      const isNext = waiting !== undefined && Buffer.compare(waiting.firstFolder, folder) === 0
      if (taking.length === 0 && !isNext) return rowCount
      if (rowCount === capacity) return rowCount
      if (taking.length === 0) {
        this.#active.push(this.#waiting.shift()!)
        continue
      }
      const mark = temporary.mark()
      const cursorByteLength = call.nameCursorByteLength()
      const cursorsPtr = temporary.allocate(cursorByteLength * taking.length)
      const heapPtr = temporary.allocate(4 * taking.length)
      const resultPtr = temporary.allocate(4)
      cache.beginEpoch()
      taking.forEach((cursor, i) => {
        this.#place(cursor, (cursorsPtr + cursorByteLength * i) >> 2)
      })
      let limitPtr = 0
      if (isNext) {
        limitPtr = temporary.allocate(waiting.firstName.length)
        u8.set(waiting.firstName, limitPtr)
      }
      const ended = call.mergeNames(
        cursorsPtr,
        taking.length,
        heapPtr,
        limitPtr,
        isNext ? waiting.firstName.length : 0,
        capacity - rowCount,
        sourceIndexesPtr + 4 * rowCount,
        rowsPtr + 4 * rowCount,
        resultPtr,
      )
      rowCount += u32[resultPtr >> 2]!
      taking.forEach((cursor, i) => {
        const at = (cursorsPtr + cursorByteLength * i) >> 2
        this.#advance(cursor, u32[at + 2]! + u32[at + 4]!)
      })
      temporary.release(mark)
      if (ended === -2) this.#active.push(this.#waiting.shift()!)
    }
  }

  /** Writes a cursor as mergeNames takes it. */
  #place({ index, row, folderEnd }: Cursor, at: number): void {
    const { u32 } = this.#reader.io.kernels
    const block = this.#reader.reader(index)
    const { pageStarts } = block.layout
    const page = pageOf(block, row)
    const decoded = block.page(nameEntry(block), page)
    if (decoded === null) throw this.#reader.io.damaged(block.source.id, `page ${page} has no names`)
    const pageStart = pageStarts[page]!
    u32[at] = decoded.valuesPtr
    u32[at + 1] = decoded.bytesPtr
    u32[at + 2] = row - pageStart
    u32[at + 3] = Math.min(folderEnd, pageStarts[page + 1]!) - pageStart
    u32[at + 4] = pageStart
    u32[at + 5] = index
    u32[at + 6] = block.dead()
    u32[at + 7] = 0
  }

  /** Moves a cursor to a row of its folder, or to the next folder, or out of the merge. */
  #advance(cursor: Cursor, row: number): void {
    cursor.row = row
    if (row < cursor.folderEnd) return
    const block = this.#reader.reader(cursor.index)
    const directory = directoryOf(block)
    cursor.folder++
    if (cursor.folder === directory.count) {
      this.#active.splice(this.#active.indexOf(cursor), 1)
      return
    }
    cursor.folderEnd =
      cursor.folder + 1 < directory.count ? directory.rowStarts[cursor.folder + 1]! : block.layout.rowCount
  }
}

export interface ItemSettleInput {
  readonly died: readonly BlockSource[]
  readonly outputs: readonly BlockSource[]
  readonly partition: string
  readonly tableName: string
}

/** The rows of merged blocks that stand for rows which died in their inputs meanwhile; see SettleRule. */
export function settleMerge(
  kernels: Kernels,
  scratch: Scratch,
  store: WorkerReader | null,
  { died, outputs, partition, tableName }: ItemSettleInput,
): Uint32Array[] {
  const { call, u8, u32 } = kernels
  const [diedScratch, outputScratch, temporary, work] = scratch.split([0.25, 0.25, 0.2, 0.3]) as [
    Scratch,
    Scratch,
    Scratch,
    Scratch,
  ]
  const diedReader = new ItemReader(new BlockIo(kernels, diedScratch, store, partition, tableName), temporary, died)
  const outputReader = new ItemReader(
    new BlockIo(kernels, outputScratch, store, partition, tableName),
    temporary,
    outputs,
  )
  // A bitmap for each output.
  const bitmapPtrs = outputs.map(({ rowCount }) => {
    const bitmapPtr = work.allocate(Math.ceil(rowCount / 8) + 8)
    call.fillBits(bitmapPtr, rowCount, 0)
    return bitmapPtr
  })
  died.forEach((source, index) => {
    const mark = work.mark()
    diedReader.io.cache.beginEpoch()
    const block = diedReader.reader(index)
    const rowsPtr = work.allocate(4 * source.rowCount)
    const rowCount = call.bitsToIndexes(block.dead(), source.rowCount, rowsPtr)
    const sourceIndexesPtr = work.allocate(4 * rowCount)
    u32.fill(index, sourceIndexesPtr >> 2, (sourceIndexesPtr >> 2) + rowCount)
    const names = diedReader.gather(nameColumn, 'string', sourceIndexesPtr, rowsPtr, rowCount, work)
    const outputIndexesPtr = work.allocate(4 * rowCount)
    const outputRowsPtr = work.allocate(4 * rowCount)
    const directory = directoryOf(block)
    const folders: FolderStart[] = []
    for (let folder = 0, i = 0; folder < directory.count; folder++) {
      const end = folder + 1 < directory.count ? directory.rowStarts[folder + 1]! : source.rowCount
      const rowStart = i
      while (i < rowCount && u32[(rowsPtr >> 2) + i]! < end) i++
      if (i > rowStart) folders.push({ folder: folderText(directory, folder), rowStart })
    }
    outputReader.find({ folders, names }, outputIndexesPtr, outputRowsPtr)
    for (let i = 0; i < rowCount; i++) {
      const output = u32[(outputIndexesPtr >> 2) + i]!
      assert(output !== noRow, 'what lived when a merge began stands in what it wrote')
      const row = u32[(outputRowsPtr >> 2) + i]!
      u8[bitmapPtrs[output]! + (row >> 3)]! |= 1 << (row & 7)
    }
    work.release(mark)
  })
  return outputs.map(({ rowCount }, output) => {
    const mark = work.mark()
    const indexesPtr = work.allocate(4 * rowCount)
    const count = call.bitsToIndexes(bitmapPtrs[output]!, rowCount, indexesPtr)
    work.release(mark)
    return u32.slice(indexesPtr >> 2, (indexesPtr >> 2) + count)
  })
}
