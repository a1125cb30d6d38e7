// Places in a table: items stand in the order of (folder, name), both by their UTF-8 bytes.
import type { BlockReader } from '../../blocks/reader.js'
import { directoryOf, fencesOf, folderText } from './item-block.js'
import { nameEntry } from './item-reader.js'

const decoder = new TextDecoder()

/** A place between items. It need not be an item's own: a name followed by NUL is the place right behind that item. */
export interface ItemKey {
  readonly folder: string
  readonly name: string
}

/** UTF-8 order of two texts: that of UTF-16 wherever no surrogate is involved. */
export function compareTexts(a: string, b: string): number {
  if (a === b) return 0
  const length = Math.min(a.length, b.length)
  for (let i = 0; i < length; i++) {
    const x = a.charCodeAt(i)
    const y = b.charCodeAt(i)
    if (x === y) continue
    // Surrogates stand for code points above all others, but below U+E000 as numbers.
    const isXHigh = x >= 0xd800 && x <= 0xdfff
    const isYHigh = y >= 0xd800 && y <= 0xdfff
    return isXHigh === isYHigh ? x - y : isXHigh ? 1 : -1
  }
  return a.length - b.length
}

export function compareKeys(a: ItemKey, b: ItemKey): number {
  return compareTexts(a.folder, b.folder) || compareTexts(a.name, b.name)
}

/** The place right behind an item. */
export function keyAfter({ folder, name }: ItemKey): ItemKey {
  return { folder, name: `${name}\0` }
}

/** Rows of one folder in a block. */
export interface FolderRows {
  readonly folder: string
  readonly rowStart: number
  readonly rowEnd: number
}

/** By directory; parsed blocks are kept by the worker, and this with them. */
const foldersByDirectory = new WeakMap<object, readonly FolderRows[]>()

/** The folders of a block with their rows, in order. */
export function foldersOf(reader: BlockReader): readonly FolderRows[] {
  const directory = directoryOf(reader)
  let folders = foldersByDirectory.get(directory)
  if (folders === undefined) {
    const { rowCount } = reader.layout
    folders = Array.from({ length: directory.count }, (_, i) => ({
      folder: folderText(directory, i),
      rowStart: directory.rowStarts[i]!,
      rowEnd: i + 1 < directory.count ? directory.rowStarts[i + 1]! : rowCount,
    }))
    foldersByDirectory.set(directory, folders)
  }
  return folders
}

/** Index of the folder in which a row stands. */
function folderIndexAt(folders: readonly FolderRows[], row: number): number {
  let low = 0
  let high = folders.length - 1
  while (low < high) {
    const middle = (low + high + 1) >> 1
    if (folders[middle]!.rowStart <= row) low = middle
    else high = middle - 1
  }
  return low
}

/** The first item of each page, then the last item of the block. */
export class BlockKeys {
  readonly folders: readonly FolderRows[]
  readonly #names: readonly string[]

  constructor(readonly reader: BlockReader) {
    this.folders = foldersOf(reader)
    const { u8, u32 } = reader.io.kernels
    const { count, offsetsPtr, bytesPtr } = fencesOf(reader)
    this.#names = Array.from({ length: count }, (_, i) => {
      const offsets = (offsetsPtr >> 2) + i
      return decoder.decode(u8.slice(bytesPtr + u32[offsets]!, bytesPtr + u32[offsets + 1]!))
    })
  }

  get pageCount(): number {
    return this.reader.layout.pageCount
  }

  first(page: number): ItemKey {
    const row = this.reader.layout.pageStarts[page]!
    return { folder: this.folders[folderIndexAt(this.folders, row)]!.folder, name: this.#names[page]! }
  }

  get last(): ItemKey {
    return { folder: this.folders[this.folders.length - 1]!.folder, name: this.#names[this.pageCount]! }
  }

  /** The pages that may hold items in [low, high); null is open. */
  pages(low: ItemKey | null, high: ItemKey | null): { pageStart: number; pageEnd: number } {
    const { pageCount } = this
    if (low !== null && compareKeys(this.last, low) < 0) return { pageStart: 0, pageEnd: 0 }
    // The last page that begins at `low` or before, and the first that begins at `high` or behind.
    const pageStart = low === null ? 0 : Math.max(0, this.#pageCountBelow(low, true) - 1)
    const pageEnd = high === null ? pageCount : this.#pageCountBelow(high, false)
    return { pageStart, pageEnd: Math.max(pageStart, pageEnd) }
  }

  /** How many pages begin before a key (or at it, with `orAt`). */
  #pageCountBelow(key: ItemKey, orAt: boolean): number {
    let low = 0
    let high = this.pageCount
    while (low < high) {
      const middle = (low + high) >> 1
      const order = compareKeys(this.first(middle), key)
      if (order < 0 || (orAt && order === 0)) low = middle + 1
      else high = middle
    }
    return low
  }

  /** The first row at a key or behind it, in the pages that `pages` has found for it. */
  rowAt(key: ItemKey): number {
    const { reader, folders, pageCount } = this
    const { pageStarts } = reader.layout
    const page = this.#pageCountBelow(key, true) - 1
    if (page < 0) return 0
    if (compareKeys(this.first(page), key) === 0) return pageStarts[page]!
    const next = page + 1 < pageCount ? this.first(page + 1) : this.last
    if (page + 1 < pageCount && compareKeys(next, key) === 0) return pageStarts[page + 1]!
    if (page + 1 === pageCount && compareKeys(next, key) < 0) return pageStarts[pageCount]!
    const names = new PageNames(reader, page)
    let low = pageStarts[page]!
    let high = pageStarts[page + 1]!
    while (low < high) {
      const middle = (low + high) >> 1
      const folder = folders[folderIndexAt(folders, middle)]!.folder
      const order = compareTexts(folder, key.folder) || compareTexts(names.at(middle - names.rowStart), key.name)
      if (order < 0) low = middle + 1
      else high = middle
    }
    return low
  }
}

/** The names of one page, decoded in the reader's cache. */
class PageNames {
  readonly rowStart: number
  readonly #offsets: number
  readonly #bytesPtr: number

  constructor(
    readonly reader: BlockReader,
    page: number,
  ) {
    const decoded = reader.page(nameEntry(reader), page)
    if (decoded === null) throw reader.io.damaged(reader.source.id, 'it has no names')
    this.rowStart = reader.layout.pageStarts[page]!
    this.#offsets = decoded.valuesPtr >> 2
    this.#bytesPtr = decoded.bytesPtr
  }

  at(row: number): string {
    const { u8, u32 } = this.reader.io.kernels
    const start = this.#bytesPtr + u32[this.#offsets + row]!
    const end = this.#bytesPtr + u32[this.#offsets + row + 1]!
    return decoder.decode(u8.slice(start, end))
  }
}
