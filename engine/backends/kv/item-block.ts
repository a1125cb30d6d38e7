// Item blocks: rows sorted by (folder, name) become pages of all columns, a directory of folders, a filter of names and
// the first name of each page.
import type { BuilderColumn } from '../../blocks/builder.js'
import { BlockBuilder, PageEncoder } from '../../blocks/builder.js'
import type { PreparedBlock } from '../../blocks/merge-rule.js'
import type { BlockReader } from '../../blocks/reader.js'
import type { ColumnSlice } from '../../frame/column-slice.js'
import type { Kernels } from '../../kernels/kernels.js'
import { blockByteLengthMax, blockCellCountMax, blockRowCountMax, KiB, kvPageRowCountMax, MiB } from '../../limits.js'
import type { Scratch } from '../../memory/scratch.js'
import { spreadLabel } from '../frame-input.js'
import type { Slice } from '../../memory/slice.js'
import { ctimeColumn, mtimeColumn, nameColumn } from './item-columns.js'
import { encodeItemExtent, keyNumbers } from './item-extent.js'

/** Attachments of an item block. */
export const filterAttachment = 0
export const fencesAttachment = 1

/** Text of one column in a page, unless a single cell is longer. */
const pageTextByteLengthMax = MiB
/**
 * Pages of more than a few rows are cut sooner: a look-up reads whole pages, and one of 1024 rows of a hundred bytes each cost
 * it a tenth of a millisecond. Not those of fewer rows, which all other columns would have to be cut for.
 */
const longPageTextByteLengthMax = 32 * KiB
const longPageRowCountMin = 65

/** Folders of one block: they stand in its header, which is read whole. */
const folderTextByteLengthMax = 256 * KiB

/** Folders in the order of their bytes; the rows of one end where those of the next begin. */
export interface FolderStart {
  readonly folder: string
  readonly rowStart: number
}

/**
 * Items in the order of (folder, name), by their bytes; no two of one key.
 *
 * names       string, no cell missing; mtimes, ctimes: time, no cell missing
 * attributes  columns by (name, dtype), blobs and arrays as '#name'; columns of one name have disjoint cells
 */
export interface ItemRows {
  readonly rowCount: number
  readonly folders: readonly FolderStart[]
  readonly names: ColumnSlice
  readonly mtimes: ColumnSlice
  readonly ctimes: ColumnSlice
  readonly attributes: readonly ColumnSlice[]
}

const encoder = new TextEncoder()
const decoder = new TextDecoder()

/** Writes items as blocks. The blocks stand in `output`; `work` is for what is needed meanwhile, and given back. */
export function writeItems(kernels: Kernels, output: Scratch, work: Scratch, items: ItemRows): PreparedBlock[] {
  const mark = work.mark()
  const names = spreadLabel(kernels, work, items.names)
  const columns: { name: string; column: ColumnSlice }[] = [
    { name: nameColumn, column: names },
    { name: mtimeColumn, column: spreadLabel(kernels, work, items.mtimes) },
    { name: ctimeColumn, column: spreadLabel(kernels, work, items.ctimes) },
    ...items.attributes.map((column) => ({ name: column.name, column: spreadLabel(kernels, work, column) })),
  ]
  const stringColumns = columns.flatMap(({ column }) => (column.dtype === 'string' ? [column] : []))
  const pageEncoder = new PageEncoder(kernels, work, kvPageRowCountMax)
  const blocks: PreparedBlock[] = []
  for (let rowStart = 0; rowStart < items.rowCount; ) {
    const rowEnd = cutBlock(kernels, items, rowStart, columns.length, stringColumns)
    const blockMark = work.mark()
    const pageStarts = cutPages(kernels, rowStart, rowEnd, stringColumns)
    const builder = new BlockBuilder(pageEncoder, pageStarts)
    for (const { name, column } of columns) builder.addColumn(name, builderColumn(column), rowStart)
    const folders = foldersOf(items, rowStart, rowEnd)
    builder.addAttachment(nameFilter(kernels, work, folders, names, rowStart, rowEnd))
    builder.addAttachment(fences(kernels, work, names, rowStart, pageStarts))
    blocks.push(
      builder.finish(encodeItemDirectory(folders), extentOf(kernels, folders, names, rowStart, rowEnd), output),
    )
    work.release(blockMark)
    rowStart = rowEnd
  }
  work.release(mark)
  return blocks
}

function builderColumn({ dtype, valuesPtr, validityPtr, bytesPtr }: ColumnSlice): BuilderColumn {
  return { dtype, valuesPtr, validityPtr, bytesPtr }
}

/** Bytes of text of rows [rowStart, rowEnd). */
function textByteLength({ u32 }: Kernels, column: ColumnSlice, rowStart: number, rowEnd: number): number {
  const offsets = column.valuesPtr >> 2
  return u32[offsets + rowEnd]! - u32[offsets + rowStart]!
}

/** Where a block that begins at rowStart ends: at a limit of rows, cells, bytes or folders. */
function cutBlock(
  kernels: Kernels,
  { rowCount, folders }: ItemRows,
  rowStart: number,
  columnCount: number,
  stringColumns: readonly ColumnSlice[],
): number {
  const rowCountMax = Math.max(1, Math.min(blockRowCountMax, Math.floor(blockCellCountMax / columnCount)))
  let rowEnd = Math.min(rowCount, rowStart + rowCountMax)
  const byteLength = (end: number): number => {
    let total = 8 * (columnCount - stringColumns.length) * (end - rowStart)
    for (const column of stringColumns) total += textByteLength(kernels, column, rowStart, end)
    return total
  }
  while (rowEnd - rowStart > 1 && byteLength(rowEnd) > blockByteLengthMax)
    rowEnd = rowStart + ((rowEnd - rowStart) >> 1)
  let folderByteLength = 0
  for (let i = folderAt(folders, rowStart); i < folders.length && folders[i]!.rowStart < rowEnd; i++) {
    folderByteLength += 8 + 3 * folders[i]!.folder.length
    if (folderByteLength > folderTextByteLengthMax && folders[i]!.rowStart > rowStart) return folders[i]!.rowStart
  }
  return rowEnd
}

/** First row of each page, then the row count, counted from the block's first row. */
function cutPages(
  kernels: Kernels,
  rowStart: number,
  rowEnd: number,
  stringColumns: readonly ColumnSlice[],
): Uint32Array {
  const pageStarts: number[] = []
  for (let start = rowStart; start < rowEnd; ) {
    let end = Math.min(rowEnd, start + kvPageRowCountMax)
    const isTooLong = (column: ColumnSlice): boolean =>
      textByteLength(kernels, column, start, end) >
      (end - start >= longPageRowCountMin ? longPageTextByteLengthMax : pageTextByteLengthMax)
    while (end - start > 1 && stringColumns.some(isTooLong)) end = start + ((end - start) >> 1)
    pageStarts.push(start - rowStart)
    start = end
  }
  pageStarts.push(rowEnd - rowStart)
  return Uint32Array.from(pageStarts)
}

/** The index of the folder that a row stands in. */
function folderAt(folders: readonly FolderStart[], row: number): number {
  let low = 0
  let high = folders.length
  while (high - low > 1) {
    const middle = (low + high) >>> 1
    if (folders[middle]!.rowStart <= row) low = middle
    else high = middle
  }
  return low
}

/** The folders of rows [rowStart, rowEnd), with rows counted from rowStart. */
function foldersOf({ folders }: ItemRows, rowStart: number, rowEnd: number): FolderStart[] {
  const found: FolderStart[] = []
  for (let i = folderAt(folders, rowStart); i < folders.length && folders[i]!.rowStart < rowEnd; i++)
    found.push({ folder: folders[i]!.folder, rowStart: Math.max(0, folders[i]!.rowStart - rowStart) })
  return found
}

/** Folders in scratch, as kernels take them. */
export interface FolderList {
  readonly count: number
  readonly offsetsPtr: number
  readonly bytesPtr: number
  /** The first row of each. */
  readonly startsPtr: number
}

export function placeFolders({ u8, u32 }: Kernels, scratch: Scratch, folders: readonly FolderStart[]): FolderList {
  const texts = folders.map(({ folder }) => encoder.encode(folder))
  const offsetsPtr = scratch.allocate(4 * (folders.length + 1))
  const startsPtr = scratch.allocate(4 * folders.length)
  let byteLength = 0
  for (const text of texts) byteLength += text.length
  const bytesPtr = scratch.allocate(byteLength)
  let offset = 0
  texts.forEach((text, i) => {
    u32[(offsetsPtr >> 2) + i] = offset
    u32[(startsPtr >> 2) + i] = folders[i]!.rowStart
    u8.set(text, bytesPtr + offset)
    offset += text.length
  })
  u32[(offsetsPtr >> 2) + folders.length] = offset
  return { count: folders.length, offsetsPtr, bytesPtr, startsPtr }
}

function nameFilter(
  kernels: Kernels,
  work: Scratch,
  folders: readonly FolderStart[],
  names: ColumnSlice,
  rowStart: number,
  rowEnd: number,
): Slice {
  const { call } = kernels
  const rowCount = rowEnd - rowStart
  const byteLength = call.nameFilterByteLength(rowCount)
  const byteOffset = work.allocate(byteLength)
  const mark = work.mark()
  const list = placeFolders(kernels, work, folders)
  const hashesPtr = work.allocate(8 * rowCount)
  const offsetsPtr = names.valuesPtr + 4 * rowStart
  call.hashItems(
    list.offsetsPtr,
    list.bytesPtr,
    list.startsPtr,
    list.count,
    offsetsPtr,
    names.bytesPtr,
    rowCount,
    hashesPtr,
  )
  call.buildNameFilter(hashesPtr, rowCount, byteOffset, byteLength)
  work.release(mark)
  return { byteOffset, byteLength }
}

/** The first name of each page and the last of the block: u32 offsets (one more than names), then the text. */
function fences(kernels: Kernels, work: Scratch, names: ColumnSlice, rowStart: number, pageStarts: Uint32Array): Slice {
  const { call, u32 } = kernels
  const count = pageStarts.length
  const offsetsByteLength = 4 * (count + 1)
  const rows = work.allocate(4 * count)
  u32.set(pageStarts, rows >> 2)
  u32[(rows >> 2) + count - 1]! -= 1
  const offsetsPtr = names.valuesPtr + 4 * rowStart
  const byteLength = offsetsByteLength + call.gatheredStringsByteLength(offsetsPtr, rows, count)
  const byteOffset = work.allocate(byteLength)
  call.gatherStrings(offsetsPtr, names.bytesPtr, rows, count, byteOffset, byteOffset + offsetsByteLength)
  return { byteOffset, byteLength }
}

/** The text of a name. */
function nameBytes({ u8, u32 }: Kernels, names: ColumnSlice, row: number): Uint8Array {
  const offsets = (names.valuesPtr >> 2) + row
  return u8.slice(names.bytesPtr + u32[offsets]!, names.bytesPtr + u32[offsets + 1]!)
}

function extentOf(
  kernels: Kernels,
  folders: readonly FolderStart[],
  names: ColumnSlice,
  rowStart: number,
  rowEnd: number,
): readonly number[] {
  const first = keyNumbers(encoder.encode(folders[0]!.folder), nameBytes(kernels, names, rowStart))
  const last = keyNumbers(encoder.encode(folders[folders.length - 1]!.folder), nameBytes(kernels, names, rowEnd - 1))
  return encodeItemExtent(first, last)
}

// ---- directory ------------------------------------------------------------------------------------------------------

/** The folders of a block. Texts are looked up in their bytes; no array of strings is kept. */
export interface ItemDirectory {
  readonly count: number
  /** The first row of each folder, then the row after the last one of the block is not there: see BlockLayout.rowCount. */
  readonly rowStarts: Uint32Array
  readonly offsets: Uint32Array
  readonly bytes: Uint8Array
}

/** u32 count, count × u32 first rows, (count + 1) × u32 offsets, text. */
function encodeItemDirectory(folders: readonly FolderStart[]): Uint8Array {
  const texts = folders.map(({ folder }) => encoder.encode(folder))
  let byteLength = 4 + 4 * folders.length + 4 * (folders.length + 1)
  for (const text of texts) byteLength += text.length
  const bytes = new Uint8Array(byteLength)
  const view = new DataView(bytes.buffer)
  view.setUint32(0, folders.length, true)
  let at = 4
  for (const { rowStart } of folders) {
    view.setUint32(at, rowStart, true)
    at += 4
  }
  let offset = 0
  for (const text of [...texts, null]) {
    view.setUint32(at, offset, true)
    at += 4
    offset += text?.length ?? 0
  }
  for (const text of texts) {
    bytes.set(text, at)
    at += text.length
  }
  return bytes
}

function parseItemDirectory(bytes: Uint8Array): ItemDirectory {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const count = view.getUint32(0, true)
  const numbers = (start: number, length: number): Uint32Array =>
    Uint32Array.from({ length }, (_, i) => view.getUint32(start + 4 * i, true))
  return {
    count,
    rowStarts: numbers(4, count),
    offsets: numbers(4 + 4 * count, count + 1),
    bytes: bytes.slice(4 + 4 * count + 4 * (count + 1)),
  }
}

export function directoryOf(reader: BlockReader): ItemDirectory {
  return reader.directory(parseItemDirectory, ({ rowStarts, offsets, bytes }) => [rowStarts, offsets, bytes])
}

export function folderBytes({ offsets, bytes }: ItemDirectory, index: number): Uint8Array {
  return bytes.subarray(offsets[index]!, offsets[index + 1]!)
}

export function folderText(directory: ItemDirectory, index: number): string {
  return decoder.decode(folderBytes(directory, index))
}

/** The first folder that does not stand before `folder`; count when all do. */
export function lowerBoundFolder(directory: ItemDirectory, folder: Uint8Array): number {
  let low = 0
  let high = directory.count
  while (low < high) {
    const middle = (low + high) >>> 1
    if (Buffer.compare(folderBytes(directory, middle), folder) < 0) low = middle + 1
    else high = middle
  }
  return low
}

/** The fences of a block: `count` names, the first of each page and the last of the block, as a string column. */
export interface Fences {
  readonly count: number
  readonly offsetsPtr: number
  readonly bytesPtr: number
}

/** They stay until the cache's next epoch. Throws DATA_DAMAGED. */
export function fencesOf(reader: BlockReader): Fences {
  const offsetsPtr = reader.attachment(fencesAttachment)
  if (offsetsPtr === 0) throw reader.io.damaged(reader.source.id, 'it has no names of its pages')
  const count = reader.layout.pageCount + 1
  return { count, offsetsPtr, bytesPtr: offsetsPtr + 4 * (count + 1) }
}
