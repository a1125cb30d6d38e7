// The partition folder of each row: rows are grouped by their partition cells, and each group has one folder text.
import { FramesError } from '../../errors.js'
import type { ColumnSlice } from '../../frame/column-slice.js'
import type { Kernels } from '../../kernels/kernels.js'
import { nameByteLengthMax } from '../../limits.js'
import type { Scratch } from '../../memory/scratch.js'
import { cellOf, partitionText } from './names.js'

/** Folders that one frame may bring: their texts stand in the worker's heap. */
const folderCountMax = 64 * 1024

/**
 * folders   distinct, in the order of their UTF-8 bytes
 * codesPtr  u32 a row: which folder it goes to; 0: all rows go to the first
 */
export interface RowFolders {
  readonly folders: readonly string[]
  readonly codesPtr: number
}

/** columns: slices, in the order of the partition keys; none: everything stands in the root. */
export function partitionFolders(
  kernels: Kernels,
  scratch: Scratch,
  columns: readonly ColumnSlice[],
  rowCount: number,
): RowFolders {
  if (columns.length === 0 || rowCount === 0) return { folders: [''], codesPtr: 0 }
  const { call, u32 } = kernels
  const codesPtr = scratch.allocate(4 * rowCount)
  const mark = scratch.mark()
  const tableCapacity = call.groupTableCapacity(rowCount)
  const tablePtr = scratch.allocate(4 * tableCapacity)
  const firstRowsPtr = scratch.allocate(4 * rowCount)
  const ownPtr = scratch.allocate(4 * rowCount)
  let count = 0
  const combine = (ownCount: number): void => {
    if (count === 0) {
      // With nothing: that copies the codes and finds the first row of each.
      count = call.combineCodes(ownPtr, ownCount, ownPtr, 1, rowCount, codesPtr, firstRowsPtr, tablePtr, tableCapacity)
      return
    }
    count = call.combineCodes(
      codesPtr,
      count,
      ownPtr,
      ownCount,
      rowCount,
      codesPtr,
      firstRowsPtr,
      tablePtr,
      tableCapacity,
    )
  }
  for (const column of columns) {
    const { dtype, valuesPtr, validityPtr, bytesPtr } = column
    if (dtype === 'null') continue
    if (dtype === 'string')
      combine(call.dictionaryStrings(valuesPtr, bytesPtr, rowCount, ownPtr, firstRowsPtr, tablePtr, tableCapacity))
    else if (dtype === 'bool') combine(call.dictionaryBits(valuesPtr, rowCount, ownPtr, firstRowsPtr))
    else combine(call.dictionary64(valuesPtr, rowCount, ownPtr, firstRowsPtr, tablePtr, tableCapacity))
    // A missing cell has a value, too, which some present cell may have.
    if (validityPtr !== 0) combine(call.dictionaryBits(validityPtr, rowCount, ownPtr, firstRowsPtr))
  }
  if (count === 0) {
    // Nothing but columns of nulls.
    count = 1
    u32.fill(0, codesPtr >> 2, (codesPtr >> 2) + rowCount)
    u32[firstRowsPtr >> 2] = 0
  }
  if (count > folderCountMax) {
    const what = `the rows of the frame go to ${count} partitions, at most ${folderCountMax} are allowed`
    throw new FramesError('FRAME_TOO_LARGE', what)
  }
  const texts: string[] = []
  for (let group = 0; group < count; group++)
    texts.push(folderText(kernels, columns, u32[(firstRowsPtr >> 2) + group]!))
  const folders = sortByBytes(new Set(texts))
  const numbers = new Map(folders.map((folder, number) => [folder, number]))
  const tableOfGroupsPtr = scratch.allocate(4 * count)
  texts.forEach((text, group) => {
    u32[(tableOfGroupsPtr >> 2) + group] = numbers.get(text)!
  })
  call.translateCodes(codesPtr, rowCount, tableOfGroupsPtr, codesPtr)
  scratch.release(mark)
  return { folders, codesPtr: folders.length > 1 ? codesPtr : 0 }
}

function folderText(kernels: Kernels, columns: readonly ColumnSlice[], row: number): string {
  const folder = columns
    .map((column) => {
      const isMissing =
        column.dtype === 'null' ||
        (column.validityPtr !== 0 && ((kernels.u8[column.validityPtr + (row >> 3)]! >> (row & 7)) & 1) === 0)
      return `${column.name}=${partitionText(isMissing ? null : cellOf(kernels, column, row))}`
    })
    .join('/')
  const byteLength = Buffer.byteLength(folder)
  if (byteLength <= nameByteLengthMax) return folder
  const what = `the partition of row ${row} has a name of ${byteLength} bytes, at most ${nameByteLengthMax} are allowed`
  throw new FramesError('VALUE_TOO_LARGE', what)
}

/** The order of UTF-8 bytes. */
export function sortByBytes(texts: Iterable<string>): string[] {
  return [...texts]
    .map((text) => ({ text, bytes: Buffer.from(text) }))
    .sort((a, b) => Buffer.compare(a.bytes, b.bytes))
    .map(({ text }) => text)
}
