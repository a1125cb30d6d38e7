// Cells of records that stand in several blocks, as one column: for messages of a read and blocks of a merge.
import type { BlockIo, BlockReader, DecodedPage, StoredTexts } from '../../blocks/reader.js'
import { bitmapByteLength } from '../../frame/bitmap.js'
import { columnOfCells } from '../../frame/builder.js'
import type { ColumnSlice } from '../../frame/column-slice.js'
import type { Kernels } from '../../kernels/kernels.js'
import type { Scratch } from '../../memory/scratch.js'
import { formatTimeNs } from '../../time.js'
import { type CellType, columnKey, type StoredColumn } from './stored-columns.js'

/** Rows of one page of one block, in the order in which they are wanted. */
export interface Stretch {
  readonly reader: BlockReader
  readonly page: number
  /** Counted from the first row of the page. */
  readonly rowStart: number
  readonly rowCount: number
  /** u32 a row, counted from the first row of the page: the rows that are wanted; 0: all of them from rowStart on. */
  readonly indexesPtr: number
}

export interface AssembleTools {
  readonly io: BlockIo
  /** For what is needed within one call. */
  readonly temporary: Scratch
}

/** The decoded page of a stretch, or null where the block has no cell of the column there. */
function pageOf({ reader, page }: Stretch, { name, dtype }: StoredColumn): DecodedPage | null {
  const column = reader.column(name, dtype)
  return column === undefined ? null : reader.page(column, page)
}

/** Bytes of text of a string column in the first `rowCount` rows of a stretch; its page is decoded only where it must be. */
export function textByteLengthOf(
  { call, u32 }: Kernels,
  stretch: Stretch,
  column: StoredColumn,
  rowCount: number,
): number {
  const { reader, rowStart, indexesPtr } = stretch
  const entry = reader.column(column.name, column.dtype)
  if (entry === undefined) return 0
  if (indexesPtr === 0) {
    const byteLength = reader.textByteLength(entry, stretch.page, rowStart, rowStart + rowCount)
    if (byteLength >= 0) return byteLength
  }
  const page = reader.page(entry, stretch.page)
  if (page === null) return 0
  if (indexesPtr !== 0) return call.gatheredStringsByteLength(page.valuesPtr, indexesPtr, rowCount)
  const offsets = (page.valuesPtr >> 2) + rowStart
  return u32[offsets + rowCount]! - u32[offsets]!
}

/** The page of strings that a stretch takes all of, as it is stored; null where it must be decoded by itself. */
function wholeTexts(
  { reader, page, rowCount, indexesPtr }: Stretch,
  { name, dtype }: StoredColumn,
): StoredTexts | null {
  const column = reader.column(name, dtype)
  const { pageStarts } = reader.layout
  if (column === undefined || indexesPtr !== 0 || rowCount !== pageStarts[page + 1]! - pageStarts[page]!) return null
  return reader.storedTexts(column, page)
}

function copyStretchBits(
  { io, temporary }: AssembleTools,
  { rowStart, rowCount, indexesPtr }: Stretch,
  sourcePtr: number,
  targetPtr: number,
  row: number,
): void {
  const { call } = io.kernels
  if (indexesPtr === 0) {
    call.copyBits(sourcePtr, rowStart, targetPtr, row, rowCount)
    return
  }
  const mark = temporary.mark()
  const bitsPtr = temporary.allocate(bitmapByteLength(rowCount) + 8)
  call.gatherBits(sourcePtr, indexesPtr, rowCount, bitsPtr)
  call.copyBits(bitsPtr, 0, targetPtr, row, rowCount)
  temporary.release(mark)
}

/**
 * One stored column over stretches, in scratch; null when none of the rows has a cell. Begins an epoch of the cache.
 *
 * rowCount  of all stretches together
 */
export function assembleColumn(
  tools: AssembleTools,
  scratch: Scratch,
  stretches: readonly Stretch[],
  rowCount: number,
  column: StoredColumn,
): ColumnSlice | null {
  const { io, temporary } = tools
  const { kernels } = io
  const { call, u8, u32 } = kernels
  const { name, dtype } = column
  io.cache.beginEpoch()
  const start = scratch.mark()
  const validityPtr = scratch.allocate(bitmapByteLength(rowCount) + 8)
  call.fillBits(validityPtr, rowCount, 0)
  const valuesPtr = scratch.allocate(
    dtype === 'string' ? 4 * (rowCount + 1) : dtype === 'bool' ? bitmapByteLength(rowCount) + 8 : 8 * rowCount,
  )
  // Text is written behind all that is allocated, and its place taken in the end.
  const bytesPtr = scratch.allocate(0)
  if (dtype === 'bool') call.fillBits(valuesPtr, rowCount, 0)
  let row = 0
  let end = 0
  let presentCount = 0
  for (const stretch of stretches) {
    const { rowStart, rowCount: count, indexesPtr } = stretch
    const texts = dtype === 'string' ? wholeTexts(stretch, column) : null
    if (texts !== null) {
      // Straight to its place: a page of texts is as large as half of a core's cache, and is not copied once more.
      reserve(scratch, end + texts.textByteLength)
      const offsetsPtr = valuesPtr + 4 * row
      if (call.decodeStringPageAt(texts.ptr, texts.byteLength, count, offsetsPtr, end, bytesPtr) < 0)
        throw stretch.reader.damageOf(stretch.reader.column(name, dtype)!, stretch.page, false)
      call.setBitRange(validityPtr, row, row + count, 1)
      end += texts.textByteLength
      presentCount += count
      row += count
      continue
    }
    const page = pageOf(stretch, column)
    if (page === null) {
      if (dtype === 'string') u32.fill(end, (valuesPtr >> 2) + row, (valuesPtr >> 2) + row + count + 1)
      else if (dtype !== 'bool') u8.fill(0, valuesPtr + 8 * row, valuesPtr + 8 * (row + count))
      row += count
      continue
    }
    if (page.validityPtr === 0) {
      call.setBitRange(validityPtr, row, row + count, 1)
      presentCount += count
    } else copyStretchBits(tools, stretch, page.validityPtr, validityPtr, row)
    if (dtype === 'string') {
      const byteLength = textByteLengthOf(kernels, stretch, column, count)
      reserve(scratch, end + byteLength)
      if (indexesPtr === 0)
        end = call.copyStrings(page.valuesPtr, page.bytesPtr, rowStart, count, valuesPtr + 4 * row, end, bytesPtr)
      else {
        const mark = temporary.mark()
        const targetPtr = temporary.allocate(4 * (count + 1))
        call.gatherStrings(page.valuesPtr, page.bytesPtr, indexesPtr, count, targetPtr, bytesPtr + end)
        for (let i = 0; i <= count; i++) u32[(valuesPtr >> 2) + row + i] = end + u32[(targetPtr >> 2) + i]!
        end += byteLength
        temporary.release(mark)
      }
    } else if (dtype === 'bool') copyStretchBits(tools, stretch, page.valuesPtr, valuesPtr, row)
    else if (indexesPtr === 0)
      u8.copyWithin(valuesPtr + 8 * row, page.valuesPtr + 8 * rowStart, page.valuesPtr + 8 * (rowStart + count))
    else call.gather64(page.valuesPtr, indexesPtr, count, valuesPtr + 8 * row)
    row += count
  }
  if (presentCount < rowCount) presentCount = call.countBits(validityPtr, rowCount)
  if (presentCount === 0) {
    scratch.release(start)
    return null
  }
  scratch.allocate(end)
  const isFull = presentCount === rowCount
  return {
    name,
    dtype,
    kind: 'slice',
    rowCount,
    valuesPtr,
    validityPtr: isFull ? 0 : validityPtr,
    bytesPtr: dtype === 'string' ? bytesPtr : 0,
    byteLength: end,
  }
}

/** Makes sure that so many bytes could be allocated. Throws ScratchFull. */
function reserve(scratch: Scratch, byteLength: number): void {
  const mark = scratch.mark()
  scratch.allocate(byteLength)
  scratch.release(mark)
}

/** Cells of one member as one column of a type that holds them all. Parts have no row in common. */
export function uniteColumns(
  kernels: Kernels,
  scratch: Scratch,
  parts: readonly ColumnSlice[],
  type: CellType,
): ColumnSlice {
  const [only] = parts
  if (parts.length === 1 && only!.dtype === type) return only!
  const { call } = kernels
  const { name, rowCount } = only!
  if (type !== 'float64') return uniteAsTexts(kernels, scratch, parts)
  const bitsByteLength = bitmapByteLength(rowCount) + 8
  const valuesPtr = scratch.allocate(8 * rowCount)
  const validityPtr = scratch.allocate(bitsByteLength)
  call.fillFloat64(valuesPtr, rowCount, 0)
  call.fillBits(validityPtr, rowCount, 0)
  for (const part of parts) {
    const mark = scratch.mark()
    let source = part.valuesPtr
    if (part.dtype === 'int64') {
      source = scratch.allocate(8 * rowCount)
      call.convertInt64ToFloat64(part.valuesPtr, rowCount, source)
    }
    selectRows(kernels, part.validityPtr, rowCount, source, valuesPtr)
    if (part.validityPtr === 0) call.fillBits(validityPtr, rowCount, 1)
    else call.orBits(validityPtr, part.validityPtr, validityPtr, rowCount)
    scratch.release(mark)
  }
  const isFull = call.countBits(validityPtr, rowCount) === rowCount
  return {
    name,
    dtype: type,
    kind: 'slice',
    rowCount,
    valuesPtr,
    validityPtr: isFull ? 0 : validityPtr,
    bytesPtr: 0,
    byteLength: 0,
  }
}

/** Copies the 8-byte cells that are there. */
function selectRows({ u8, f64 }: Kernels, validityPtr: number, rowCount: number, source: number, target: number): void {
  if (validityPtr === 0) {
    u8.copyWithin(target, source, source + 8 * rowCount)
    return
  }
  for (let row = 0; row < rowCount; row++)
    if ((u8[validityPtr + (row >> 3)]! >> (row & 7)) & 1) f64[(target >> 3) + row] = f64[(source >> 3) + row]!
}

/** Every cell as text: what is no string as its JSON text, times as RFC 3339. */
function uniteAsTexts(kernels: Kernels, scratch: Scratch, parts: readonly ColumnSlice[]): ColumnSlice {
  const { u8, u32, i64, f64 } = kernels
  const { name, rowCount } = parts[0]!
  const texts = new Array<string | null>(rowCount).fill(null)
  for (const { dtype, valuesPtr, validityPtr, bytesPtr } of parts) {
    for (let row = 0; row < rowCount; row++) {
      if (validityPtr !== 0 && ((u8[validityPtr + (row >> 3)]! >> (row & 7)) & 1) === 0) continue
      if (dtype === 'string') {
        const start = bytesPtr + u32[(valuesPtr >> 2) + row]!
        const end = bytesPtr + u32[(valuesPtr >> 2) + row + 1]!
        texts[row] = Buffer.from(u8.buffer, start, end - start).toString('utf8')
      } else if (dtype === 'bool') texts[row] = String(((u8[valuesPtr + (row >> 3)]! >> (row & 7)) & 1) === 1)
      else if (dtype === 'float64') texts[row] = String(f64[(valuesPtr >> 3) + row]!)
      else if (dtype === 'time') texts[row] = formatTimeNs(i64[(valuesPtr >> 3) + row]!)
      else texts[row] = String(i64[(valuesPtr >> 3) + row]!)
    }
  }
  const { validity, buffers } = columnOfCells(name, 'string', texts)
  if (buffers.dtype !== 'string') throw new TypeError('texts are laid out as text')
  const valuesPtr = scratch.allocate(buffers.offsets.byteLength)
  u32.set(buffers.offsets, valuesPtr >> 2)
  const bytesPtr = scratch.allocate(buffers.bytes.byteLength)
  u8.set(buffers.bytes, bytesPtr)
  let validityPtr = 0
  if (validity !== null) {
    validityPtr = scratch.allocate(validity.byteLength + 8)
    u8.set(validity, validityPtr)
  }
  const byteLength = buffers.bytes.byteLength
  return { name, dtype: 'string', kind: 'slice', rowCount, valuesPtr, validityPtr, bytesPtr, byteLength }
}

/** The columns of several blocks, in order of first sight. */
export function columnsOfReaders(readers: readonly BlockReader[]): StoredColumn[] {
  const columns = new Map<string, StoredColumn>()
  for (const { layout } of readers) {
    for (const { name, dtype } of layout.columns) {
      if (dtype === 'null') continue
      const column = { name, dtype }
      const key = columnKey(column)
      if (!columns.has(key)) columns.set(key, column)
    }
  }
  return [...columns.values()]
}
