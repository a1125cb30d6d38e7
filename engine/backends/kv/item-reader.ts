// Looks items up by name in the blocks of a table, and gathers their cells. Runs in a worker, over one job's memory.
//
//   names ──► hashes ──► per block: key range ──► filter ──► fences: page ──► names of the page: row ──► living?
//
// The newest block is asked first, and names that are found are not asked for again: where blocks of commits that are on their
// way stand behind the others, the rows that theirs replace are not dead yet.
import type { BlockLayout, ColumnEntry } from '../../blocks/block.js'
import type { BlockIo, BlockSource } from '../../blocks/reader.js'
import { BlockReader, isBlockKnown } from '../../blocks/reader.js'
import type { ColumnSlice } from '../../frame/column-slice.js'
import type { DType } from '../../frame/dtype.js'
import type { Scratch } from '../../memory/scratch.js'
import type { Fences, FolderList, FolderStart } from './item-block.js'
import {
  directoryOf,
  fencesAttachment,
  fencesOf,
  filterAttachment,
  folderBytes,
  lowerBoundFolder,
  placeFolders,
} from './item-block.js'
import { attributeOf, nameColumn } from './item-columns.js'
import { endsBefore, extentMayHold, type KeyNumbers, keyNumbers } from './item-extent.js'

/** As source index or row: there is none. */
export const noRow = 0xffffffff

/** Up to this many keys are cheaper to ask of a filter than to compare with the first and last name of its block. */
const fewKeyCount = 64
/** Of one block, as findPagesOfRun takes it. */
const runBlockByteLength = 24

/** Keys in the order of (folder, name), by their bytes. Equal ones may follow each other. */
export interface ItemKeys {
  readonly folders: readonly FolderStart[]
  /** string, one value a row. */
  readonly names: ColumnSlice
}

export interface ItemColumn {
  readonly name: string
  readonly dtype: DType
}

/** Rows in the order in which blocks have them. See groupRows. */
export interface GroupedRows {
  readonly count: number
  readonly rowsPtr: number
  /** u32: places of the wanted rows, sorted by source. */
  readonly placesPtr: number
  /** u32, in the order of places: the page of each, and the row in it. */
  readonly pagesPtr: number
  readonly pageRowsPtr: number
  /** Sources with rows, and which places are of each. */
  readonly stretches: readonly { readonly source: number; readonly from: number; readonly to: number }[]
}

/** One look-up at work: all keys, and those that have no row yet. */
interface Search {
  readonly names: ColumnSlice
  readonly folders: FolderList
  readonly hashesPtr: number
  readonly first: KeyNumbers
  readonly last: KeyNumbers
  /** Ascending numbers of keys. */
  readonly pendingPtr: number
  pendingCount: number
  readonly survivorsPtr: number
  readonly pagesPtr: number
  /** Of the pages: where they are kept. */
  readonly pagePtrsPtr: number
  readonly pageRowsPtr: number
  readonly sourceIndexesPtr: number
  readonly rowsPtr: number
}

/** Survivors [start, end) of a block's filter, of one folder, and the block's rows [rowStart, rowEnd) of that. */
interface SurvivorRange {
  readonly start: number
  readonly end: number
  readonly rowStart: number
  readonly rowEnd: number
}

export class ItemReader {
  readonly #readers: (BlockReader | undefined)[]

  /** temporary: what calls need while they run. Sources: the blocks of a snapshot, in its order. */
  constructor(
    readonly io: BlockIo,
    readonly temporary: Scratch,
    readonly sources: readonly BlockSource[],
  ) {
    this.#readers = new Array<BlockReader | undefined>(sources.length)
  }

  /** The reader of a source, opened when first asked for. Throws DATA_DAMAGED. */
  reader(index: number): BlockReader {
    this.#readers[index] ??= new BlockReader(this.io, this.sources[index]!)
    return this.#readers[index]
  }

  /**
   * Where keys have their living rows.
   *
   * sourceIndexes, rows  u32 a key, overwritten: index of the source and row in it, both noRow where there is none
   *
   * Throws DATA_DAMAGED when a block that may hold one of the keys cannot be read.
   */
  find(keys: ItemKeys, sourceIndexesPtr: number, rowsPtr: number): void {
    const { kernels } = this.io
    const { call, u32 } = kernels
    const { temporary } = this
    const { names } = keys
    const count = names.rowCount
    u32.fill(noRow, sourceIndexesPtr >> 2, (sourceIndexesPtr >> 2) + count)
    u32.fill(noRow, rowsPtr >> 2, (rowsPtr >> 2) + count)
    if (count === 0 || this.sources.length === 0) return
    const mark = temporary.mark()
    const folders = placeFolders(kernels, temporary, keys.folders)
    const search: Search = {
      names,
      folders,
      hashesPtr: temporary.allocate(8 * count),
      first: this.#numbersOf(keys, folders, 0),
      last: this.#numbersOf(keys, folders, count - 1),
      pendingPtr: temporary.allocate(4 * count),
      pendingCount: count,
      survivorsPtr: temporary.allocate(4 * count),
      pagesPtr: temporary.allocate(4 * count),
      pagePtrsPtr: temporary.allocate(4 * count),
      pageRowsPtr: temporary.allocate(4 * count),
      sourceIndexesPtr,
      rowsPtr,
    }
    const { offsetsPtr, bytesPtr, startsPtr } = folders
    call.hashItems(
      offsetsPtr,
      bytesPtr,
      startsPtr,
      folders.count,
      names.valuesPtr,
      names.bytesPtr,
      count,
      search.hashesPtr,
    )
    const pending = search.pendingPtr >> 2
    for (let i = 0; i < count; i++) u32[pending + i] = i
    for (let index = this.sources.length - 1; index >= 0 && search.pendingCount > 0; ) {
      const first = search.pendingCount > fewKeyCount ? this.#firstOfRun(index) : index
      if (first < index) this.#findInRun(first, index, search)
      else if (this.#mayHold(index, search)) this.#findIn(index, search)
      index = first - 1
    }
    temporary.release(mark)
  }

  #mayHold(index: number, search: Search): boolean {
    return extentMayHold(this.sources[index]!.extent, search.first, search.last)
  }

  /** The first of the sources up to `index` that follow each other in the order of their keys without overlap. */
  #firstOfRun(index: number): number {
    const { sources } = this
    let first = index
    while (first > 0 && endsBefore(sources[first - 1]!.extent, sources[first]!.extent)) first--
    return first
  }

  /**
   * Sources [from, to], which follow each other without overlap: those of the keys' one folder whose filters and fences are kept
   * are asked all at once, the others one by one.
   */
  #findInRun(from: number, to: number, search: Search): void {
    const { cache, kernels } = this.io
    const { call, u32 } = kernels
    const { names, survivorsPtr, pagesPtr, pagePtrsPtr, pageRowsPtr, sourceIndexesPtr } = search
    const { temporary } = this
    const mark = temporary.mark()
    const blocksPtr = temporary.allocate(runBlockByteLength * (to + 1 - from))
    cache.beginEpoch()
    const indexes: number[] = []
    const others: number[] = []
    let pageStartCount = 0
    for (let index = from; index <= to; index++) {
      if (!this.#mayHold(index, search)) continue
      // A block that cannot be read is none of the business of keys that other blocks have.
      if (!isBlockKnown(this.sources[index]!.id)) {
        others.push(index)
        continue
      }
      const reader = this.reader(index)
      const fencesPtr = reader.keptAttachment(fencesAttachment)
      const filterPtr = reader.keptAttachment(filterAttachment)
      if (fencesPtr === 0 || filterPtr === 0 || !this.#isOneFolder(search, reader)) {
        others.push(index)
        continue
      }
      const block = (blocksPtr + runBlockByteLength * indexes.length) >> 2
      const { pageCount, pageStarts, attachments } = reader.layout
      u32[block] = filterPtr
      u32[block + 1] = attachments[filterAttachment]!.byteLength
      u32[block + 2] = fencesPtr
      u32[block + 3] = fencesPtr + 4 * (pageCount + 2)
      u32[block + 4] = pageCount
      indexes.push(index)
      pageStartCount += pageStarts.length
    }
    if (indexes.length > 0) {
      const startsPtr = temporary.allocate(4 * (indexes.length + 1))
      const { valuesPtr, bytesPtr } = names
      const survivorCount = call.findPagesOfRun(
        blocksPtr,
        indexes.length,
        valuesPtr,
        bytesPtr,
        search.hashesPtr,
        search.pendingPtr,
        search.pendingCount,
        survivorsPtr,
        pagesPtr,
        startsPtr,
      )
      const startOf = (place: number): number => u32[(startsPtr >> 2) + place]!
      // All pages of the run get numbers of their own, so that one call looks into all of them.
      const pageStartsPtr = temporary.allocate(4 * pageStartCount)
      let firstPage = 0
      let keptCount = 0
      indexes.forEach((index, place) => {
        const reader = this.reader(index)
        const { pageStarts } = reader.layout
        u32.set(pageStarts, (pageStartsPtr >> 2) + firstPage)
        const end = startOf(place + 1)
        keptCount += reader.compactPages(nameEntry(reader), pagesPtr, startOf(place), end, pagePtrsPtr)
        for (let i = startOf(place); i < end; i++) u32[(pagesPtr >> 2) + i]! += firstPage
        firstPage += pageStarts.length
      })
      const workPtr = temporary.allocate(16 * survivorCount)
      call.findCompactRows(
        pagesPtr,
        pagePtrsPtr,
        pageStartsPtr,
        0,
        noRow,
        valuesPtr,
        bytesPtr,
        survivorsPtr,
        survivorCount,
        workPtr,
        pageRowsPtr,
      )
      firstPage = 0
      indexes.forEach((index, place) => {
        const reader = this.reader(index)
        const { rowCount, pageStarts } = reader.layout
        const start = startOf(place)
        const count = startOf(place + 1) - start
        const found = pageRowsPtr + 4 * start
        if (count > 0)
          call.takeFound(
            survivorsPtr + 4 * start,
            found,
            count,
            0,
            reader.dead(),
            index,
            sourceIndexesPtr,
            search.rowsPtr,
          )
        if (keptCount < survivorCount) {
          for (let i = start; i < start + count; i++) u32[(pagesPtr >> 2) + i]! -= firstPage
          this.#findInPages(index, reader, search, { start, end: start + count, rowStart: 0, rowEnd: rowCount })
        }
        firstPage += pageStarts.length
      })
      search.pendingCount = call.dropFound(search.pendingPtr, search.pendingCount, sourceIndexesPtr)
    }
    temporary.release(mark)
    for (const index of others) if (search.pendingCount > 0) this.#findIn(index, search)
  }

  /** Whether the keys have one folder, which is all that a block has. */
  #isOneFolder({ folders }: Search, reader: BlockReader): boolean {
    const { count, offsets, bytes } = directoryOf(reader)
    if (folders.count !== 1 || count !== 1) return false
    const { u8, u32 } = this.io.kernels
    const start = folders.bytesPtr + u32[folders.offsetsPtr >> 2]!
    const byteLength = u32[(folders.offsetsPtr >> 2) + 1]! - u32[folders.offsetsPtr >> 2]!
    if (offsets[1]! - offsets[0]! !== byteLength) return false
    for (let i = 0; i < byteLength; i++) if (bytes[offsets[0]! + i] !== u8[start + i]) return false
    return true
  }

  /** The beginnings of a key's folder and name; see item-extent.ts. */
  #numbersOf({ names }: ItemKeys, folders: FolderList, key: number): KeyNumbers {
    const { u8, u32 } = this.io.kernels
    const text = (offsetsPtr: number, bytesPtr: number, index: number): Uint8Array => {
      const offsets = (offsetsPtr >> 2) + index
      return u8.subarray(bytesPtr + u32[offsets]!, bytesPtr + u32[offsets + 1]!)
    }
    const folder = this.#folderOf(folders, key, 0)
    return keyNumbers(text(folders.offsetsPtr, folders.bytesPtr, folder), text(names.valuesPtr, names.bytesPtr, key))
  }

  #folderText({ offsetsPtr, bytesPtr }: FolderList, folder: number): Uint8Array {
    const { u8, u32 } = this.io.kernels
    const offsets = (offsetsPtr >> 2) + folder
    return u8.subarray(bytesPtr + u32[offsets]!, bytesPtr + u32[offsets + 1]!)
  }

  /** The folder of a key, at `from` or behind it. */
  #folderOf({ count, startsPtr }: FolderList, key: number, from: number): number {
    const { u32 } = this.io.kernels
    const starts = startsPtr >> 2
    let low = from
    let high = count
    while (high - low > 1) {
      const middle = (low + high) >>> 1
      if (u32[starts + middle]! <= key) low = middle
      else high = middle
    }
    return low
  }

  #findIn(index: number, search: Search): void {
    const { cache, kernels } = this.io
    const { call, u32 } = kernels
    const { names, folders, survivorsPtr, pagesPtr } = search
    cache.beginEpoch()
    const reader = this.reader(index)
    let pendingFrom = 0
    let pendingTo = search.pendingCount
    // The first and last name of the block leave some keys out; few keys are sooner asked of the filter.
    if (pendingTo > fewKeyCount) {
      const fences = fencesOf(reader)
      const directory = directoryOf(reader)
      const from = this.#lowerBoundKey(search, folderBytes(directory, 0), fences, 0, false)
      const lastFolder = folderBytes(directory, directory.count - 1)
      const to = this.#lowerBoundKey(search, lastFolder, fences, fences.count - 1, true)
      pendingFrom = this.#lowerBoundPending(search, from)
      pendingTo = this.#lowerBoundPending(search, to)
      if (pendingFrom >= pendingTo) return
    }
    const filterPtr = reader.attachment(filterAttachment)
    const filterByteLength = reader.layout.attachments[filterAttachment]!.byteLength
    const survivorCount = call.probeNameFilter(
      filterPtr,
      filterByteLength,
      search.hashesPtr,
      search.pendingPtr + 4 * pendingFrom,
      pendingTo - pendingFrom,
      survivorsPtr,
    )
    if (survivorCount === 0) return
    const fences = fencesOf(reader)
    const directory = directoryOf(reader)
    // Which page each name would stand in: folder by folder, since fences are names only.
    const survivors = survivorsPtr >> 2
    const { rowCount } = reader.layout
    const ranges: SurvivorRange[] = []
    let folder = 0
    for (let start = 0; start < survivorCount; ) {
      folder = this.#folderOf(folders, u32[survivors + start]!, folder)
      const nextKey = folder + 1 < folders.count ? u32[(folders.startsPtr >> 2) + folder + 1]! : names.rowCount
      let end = start + 1
      if (folder + 1 === folders.count) end = survivorCount
      else while (end < survivorCount && u32[survivors + end]! < nextKey) end++
      const place = directory.count === 1 ? 0 : lowerBoundFolder(directory, this.#folderText(folders, folder))
      if (place < directory.count && this.#isFolder(folders, folder, folderBytes(directory, place))) {
        const rowStart = directory.rowStarts[place]!
        const rowEnd = place + 1 < directory.count ? directory.rowStarts[place + 1]! : rowCount
        call.findPages(
          fences.offsetsPtr,
          fences.bytesPtr,
          pageOf(reader, rowStart),
          pageOf(reader, rowEnd - 1) + 1,
          names.valuesPtr,
          names.bytesPtr,
          survivorsPtr + 4 * start,
          end - start,
          pagesPtr + 4 * start,
        )
        ranges.push({ start, end, rowStart, rowEnd })
      }
      start = end
    }
    let foundCount = 0
    for (const range of ranges) foundCount += this.#findInRange(index, reader, search, range)
    if (foundCount > 0)
      search.pendingCount = call.dropFound(search.pendingPtr, search.pendingCount, search.sourceIndexesPtr)
  }

  /** Survivors [start, end) among the rows of their folder. */
  #findInRange(index: number, reader: BlockReader, search: Search, range: SurvivorRange): number {
    const { start, end, rowStart, rowEnd } = range
    const { cache, kernels } = this.io
    const { call, u32 } = kernels
    const { names, survivorsPtr, pagesPtr, pagePtrsPtr, pageRowsPtr } = search
    const { temporary } = this
    const { pageStarts } = reader.layout
    cache.beginEpoch()
    const keptCount = reader.compactPages(nameEntry(reader), pagesPtr, start, end, pagePtrsPtr)
    const mark = temporary.mark()
    const workPtr = temporary.allocate(16 * (end - start))
    const pageStartsPtr = temporary.allocate(4 * pageStarts.length)
    u32.set(pageStarts, pageStartsPtr >> 2)
    const indexesPtr = survivorsPtr + 4 * start
    const rowsPtr = pageRowsPtr + 4 * start
    const foundCount = call.findCompactRows(
      pagesPtr + 4 * start,
      pagePtrsPtr + 4 * start,
      pageStartsPtr,
      rowStart,
      rowEnd,
      names.valuesPtr,
      names.bytesPtr,
      indexesPtr,
      end - start,
      workPtr,
      rowsPtr,
    )
    temporary.release(mark)
    let takenCount = 0
    if (foundCount > 0) {
      const { sourceIndexesPtr, rowsPtr: targetPtr } = search
      const deadPtr = reader.dead()
      takenCount = call.takeFound(indexesPtr, rowsPtr, end - start, 0, deadPtr, index, sourceIndexesPtr, targetPtr)
    }
    return keptCount === end - start ? takenCount : takenCount + this.#findInPages(index, reader, search, range)
  }

  /** Those of the survivors [start, end) whose pages are not kept. */
  #findInPages(index: number, reader: BlockReader, search: Search, range: SurvivorRange): number {
    const { u32 } = this.io.kernels
    const { pagesPtr, pagePtrsPtr } = search
    let takenCount = 0
    for (let i = range.start; i < range.end; ) {
      const page = u32[(pagesPtr >> 2) + i]!
      let next = i + 1
      while (next < range.end && u32[(pagesPtr >> 2) + next] === page) next++
      if (u32[(pagePtrsPtr >> 2) + i] === 0)
        takenCount += this.#findInPage(index, reader, search, page, { ...range, start: i, end: next })
      i = next
    }
    return takenCount
  }

  #findInPage(index: number, reader: BlockReader, search: Search, page: number, range: SurvivorRange): number {
    const { cache, kernels } = this.io
    const { call } = kernels
    const { names, survivorsPtr, pageRowsPtr } = search
    cache.beginEpoch()
    const decoded = reader.page(nameEntry(reader), page)
    if (decoded === null) throw this.io.damaged(reader.source.id, `page ${page} has no names`)
    const { pageStarts } = reader.layout
    const pageStart = pageStarts[page]!
    const count = range.end - range.start
    const foundCount = call.findRows(
      decoded.valuesPtr,
      decoded.bytesPtr,
      Math.max(range.rowStart, pageStart) - pageStart,
      Math.min(range.rowEnd, pageStarts[page + 1]!) - pageStart,
      names.valuesPtr,
      names.bytesPtr,
      survivorsPtr + 4 * range.start,
      count,
      pageRowsPtr,
    )
    if (foundCount === 0) return 0
    return call.takeFound(
      survivorsPtr + 4 * range.start,
      pageRowsPtr,
      count,
      pageStart,
      reader.dead(),
      index,
      search.sourceIndexesPtr,
      search.rowsPtr,
    )
  }

  /** The number of keys before (folder, name of a fence), with `isAfter` also of those that are equal. */
  #lowerBoundKey(
    { names, folders }: Search,
    folder: Uint8Array,
    fences: Fences,
    fence: number,
    isAfter: boolean,
  ): number {
    const { call, u8, u32 } = this.io.kernels
    const count = names.rowCount
    let start = 0
    let end = count
    if (folders.count > 1 || !this.#isFolder(folders, 0, folder)) {
      const { temporary } = this
      const mark = temporary.mark()
      const folderPtr = temporary.allocate(folder.length)
      u8.set(folder, folderPtr)
      const { offsetsPtr, bytesPtr, startsPtr } = folders
      const place = call.lowerBoundText(offsetsPtr, bytesPtr, 0, folders.count, folderPtr, folder.length)
      temporary.release(mark)
      if (place === folders.count) return count
      start = u32[(startsPtr >> 2) + place]!
      if (!this.#isFolder(folders, place, folder)) return start
      if (place + 1 < folders.count) end = u32[(startsPtr >> 2) + place + 1]!
    }
    const fenceAt = (fences.offsetsPtr >> 2) + fence
    const namePtr = fences.bytesPtr + u32[fenceAt]!
    const byteLength = u32[fenceAt + 1]! - u32[fenceAt]!
    let key = call.lowerBoundText(names.valuesPtr, names.bytesPtr, start, end, namePtr, byteLength)
    if (isAfter) {
      const offsets = names.valuesPtr >> 2
      const isEqual = (): boolean => {
        const from = names.bytesPtr + u32[offsets + key]!
        const to = names.bytesPtr + u32[offsets + key + 1]!
        if (to - from !== byteLength) return false
        for (let i = 0; i < byteLength; i++) if (u8[from + i] !== u8[namePtr + i]) return false
        return true
      }
      while (key < end && isEqual()) key++
    }
    return key
  }

  /** Whether a folder of the keys is the one of these bytes. */
  #isFolder({ offsetsPtr, bytesPtr }: FolderList, place: number, folder: Uint8Array): boolean {
    const { u8, u32 } = this.io.kernels
    const from = bytesPtr + u32[(offsetsPtr >> 2) + place]!
    const to = bytesPtr + u32[(offsetsPtr >> 2) + place + 1]!
    if (to - from !== folder.length) return false
    for (let i = 0; i < folder.length; i++) if (u8[from + i] !== folder[i]) return false
    return true
  }

  /** The first pending key that is not below `key`, as index of the pending list. */
  #lowerBoundPending({ pendingPtr, pendingCount }: Search, key: number): number {
    const { u32 } = this.io.kernels
    const pending = pendingPtr >> 2
    let low = 0
    let high = pendingCount
    while (low < high) {
      const middle = (low + high) >>> 1
      if (u32[pending + middle]! < key) low = middle + 1
      else high = middle
    }
    return low
  }

  /**
   * All (name, dtype) of attributes that any source has, or any of those that rows stand in; blobs and arrays as '#name'.
   * Throws DATA_DAMAGED.
   */
  columns(rows: GroupedRows | null = null): readonly ItemColumn[] {
    const columns = new Map<string, ItemColumn>()
    const add = (index: number): void => {
      for (const { name, dtype } of this.reader(index).layout.columns)
        if (attributeOf(name) !== null) columns.set(`${dtype} ${name}`, { name, dtype })
    }
    if (rows === null) for (let index = 0; index < this.sources.length; index++) add(index)
    else for (const { source } of rows.stretches) add(source)
    return [...columns.values()]
  }

  /**
   * Rows whose cells are wanted, put in the order in which blocks have them: once for all columns.
   *
   * sourceIndexes, rows  count × u32, as find writes them, which stay as they are; fastest where the rows of each source
   *                      ascend
   *
   * What this returns stands in scratch. Throws DATA_DAMAGED.
   */
  groupRows(sourceIndexesPtr: number, rowsPtr: number, count: number, scratch: Scratch): GroupedRows {
    const { call, u32 } = this.io.kernels
    const { length } = this.sources
    const placesPtr = scratch.allocate(4 * count)
    const startsPtr = scratch.allocate(4 * (length + 1))
    const foundCount = call.groupBySource(sourceIndexesPtr, count, length, placesPtr, startsPtr)
    const pagesPtr = scratch.allocate(4 * foundCount)
    const pageRowsPtr = scratch.allocate(4 * foundCount)
    const places = placesPtr >> 2
    const rows = rowsPtr >> 2
    const starts = startsPtr >> 2
    const stretches: GroupedRows['stretches'][number][] = []
    for (let from = 0, source = 0; from < foundCount; source++) {
      const to = u32[starts + source + 1]!
      if (from === to) continue
      stretches.push({ source, from, to })
      const { layout } = this.reader(source)
      const { pageStarts } = layout
      let page = 0
      for (; from < to; from++) {
        const row = u32[rows + u32[places + from]!]!
        if (row < pageStarts[page]! || row >= pageStarts[page + 1]!) page = pageAt(layout, row)
        u32[(pagesPtr >> 2) + from] = page
        u32[(pageRowsPtr >> 2) + from] = row - pageStarts[page]!
      }
    }
    return { count, rowsPtr, placesPtr, pagesPtr, pageRowsPtr, stretches }
  }

  /** As gatherRows, for one column. */
  gather(
    name: string,
    dtype: DType,
    sourceIndexesPtr: number,
    rowsPtr: number,
    count: number,
    scratch: Scratch,
  ): ColumnSlice {
    const mark = this.temporary.mark()
    const rows = this.groupRows(sourceIndexesPtr, rowsPtr, count, this.temporary)
    const column = this.gatherRows(name, dtype, rows, scratch)
    this.temporary.release(mark)
    return column
  }

  /**
   * Cells of rows as one column in scratch. A row whose source is noRow, or that has no such cell, is missing.
   * Throws DATA_DAMAGED.
   */
  gatherRows(name: string, dtype: DType, rows: GroupedRows, scratch: Scratch): ColumnSlice {
    const { temporary } = this
    const { kernels, cache } = this.io
    const { call, u8, u32 } = kernels
    const { count, rowsPtr, placesPtr, pagesPtr, pageRowsPtr, stretches } = rows
    const bitmapByteLength = Math.ceil(count / 64) * 8
    const isString = dtype === 'string'
    const validityPtr = scratch.allocate(bitmapByteLength)
    u8.fill(0, validityPtr, validityPtr + bitmapByteLength)
    const valuesByteLength = isString ? 4 * (count + 1) : dtype === 'bool' ? bitmapByteLength : 8 * count
    const valuesPtr = scratch.allocate(valuesByteLength)
    u8.fill(0, valuesPtr, valuesPtr + valuesByteLength)
    const mark = temporary.mark()
    const startsPtr = isString ? temporary.allocate(4 * count) : 0
    const byteLengthsPtr = isString ? temporary.allocate(4 * count) : 0
    if (isString) u8.fill(0, byteLengthsPtr, byteLengthsPtr + 4 * count)
    let textByteLength = 0
    let presentCount = 0
    const foundCount = stretches[stretches.length - 1]?.to ?? 0
    const pagePtrsPtr = temporary.allocate(4 * foundCount)
    const pagePtrs = pagePtrsPtr >> 2
    cache.beginEpoch()
    let keptCount = 0
    for (const { source, from, to } of stretches) {
      const reader = this.reader(source)
      const entry = reader.column(name, dtype)
      if (entry === undefined) u32.fill(0, pagePtrs + from, pagePtrs + to)
      else keptCount += reader.compactPages(entry, pagesPtr, from, to, pagePtrsPtr)
    }
    if (isString) {
      const textsPtr = temporary.allocate(8 * (foundCount + 1))
      const byteLength = call.locateCompactTexts(pagePtrsPtr, pageRowsPtr, foundCount, textsPtr)
      const textPtr = temporary.allocate(byteLength)
      presentCount += call.scatterCompactTexts(
        pagePtrsPtr,
        placesPtr,
        textsPtr,
        foundCount,
        textPtr,
        startsPtr,
        byteLengthsPtr,
        validityPtr,
      )
      textByteLength += byteLength
    } else if (dtype !== 'bool') {
      const workPtr = temporary.allocate(8 * foundCount)
      presentCount += call.scatterCompact(
        pagePtrsPtr,
        placesPtr,
        pageRowsPtr,
        foundCount,
        workPtr,
        valuesPtr,
        validityPtr,
      )
    }
    // Those whose pages are not kept.
    for (const { source, from, to } of keptCount === foundCount ? [] : stretches) {
      const reader = this.reader(source)
      const entry = reader.column(name, dtype)
      for (let i = from; i < to && entry !== undefined; ) {
        const page = u32[(pagesPtr >> 2) + i]!
        let next = i + 1
        while (next < to && u32[(pagesPtr >> 2) + next] === page) next++
        const places = placesPtr + 4 * i
        const placeCount = next - i
        i = next
        if (u32[pagePtrs + i - 1] !== 0) continue
        cache.beginEpoch()
        const decoded = reader.page(entry, page)
        if (decoded === null) continue
        const rowOffset = reader.layout.pageStarts[page]!
        presentCount += call.scatterBits(decoded.validityPtr, places, placeCount, rowsPtr, rowOffset, validityPtr)
        if (isString) {
          const byteLength = call.scatteredTextsByteLength(decoded.valuesPtr, places, placeCount, rowsPtr, rowOffset)
          const textPtr = temporary.allocate(byteLength)
          call.scatterTexts(
            decoded.valuesPtr,
            decoded.bytesPtr,
            places,
            placeCount,
            rowsPtr,
            rowOffset,
            textPtr,
            startsPtr,
            byteLengthsPtr,
          )
          textByteLength += byteLength
        } else if (dtype === 'bool')
          call.scatterBits(decoded.valuesPtr, places, placeCount, rowsPtr, rowOffset, valuesPtr)
        else call.scatter64(decoded.valuesPtr, places, placeCount, rowsPtr, rowOffset, valuesPtr)
      }
    }
    let bytesPtr = 0
    if (isString) {
      bytesPtr = scratch.allocate(textByteLength)
      call.joinTexts(startsPtr, byteLengthsPtr, count, valuesPtr, bytesPtr)
    }
    temporary.release(mark)
    return {
      name,
      dtype,
      kind: 'slice',
      rowCount: count,
      valuesPtr,
      validityPtr: presentCount === count ? 0 : validityPtr,
      bytesPtr,
      byteLength: textByteLength,
    }
  }
}

/** The column of names, which every item block has. */
export function nameEntry(reader: BlockReader): ColumnEntry {
  const entry = reader.column(nameColumn, 'string')
  if (entry === undefined) throw reader.io.damaged(reader.source.id, 'it has no names')
  return entry
}

/** The page that a row stands in. */
export function pageOf({ layout }: BlockReader, row: number): number {
  return pageAt(layout, row)
}

function pageAt({ pageStarts, pageCount }: BlockLayout, row: number): number {
  let low = 0
  let high = pageCount
  while (high - low > 1) {
    const middle = (low + high) >>> 1
    if (pageStarts[middle]! <= row) low = middle
    else high = middle
  }
  return low
}
