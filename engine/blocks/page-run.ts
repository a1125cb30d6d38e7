// Neighbouring pages of one column as one column: a kernel checks and decodes all of them in one call. For scans; single
// pages are read by BlockReader.page.
import { dtypeNumbers } from '../frame/dtype.js'
import type { ColumnSlice } from '../frame/column-slice.js'
import type { Scratch } from '../memory/scratch.js'
import type { ColumnEntry, PageTable } from './block.js'
import { alignUp8 } from './block.js'
import type { BlockReader } from './reader.js'

const entryByteLength = 24
/** In the status of the kernels: the page cannot be decoded, though its checksum fits. */
const undecodable = 2 ** 20

/**
 * Decodes pages [pageStart, pageEnd) into scratch, whose other end it needs meanwhile. Null when none of their rows has a value. Segments are fetched through
 * the reader's cache. Throws DATA_DAMAGED, ScratchFull.
 */
export function readPages(
  reader: BlockReader,
  column: ColumnEntry,
  pageStart: number,
  pageEnd: number,
  scratch: Scratch,
): ColumnSlice | null {
  const { io, layout } = reader
  const { kernels } = io
  const { call } = kernels
  const table = reader.table(column)
  const { pageStarts } = layout
  const pageCount = pageEnd - pageStart
  const rowCount = pageStarts[pageEnd]! - pageStarts[pageStart]!
  let presentCount = 0
  for (let page = pageStart; page < pageEnd; page++) presentCount += table.presentCounts[page]!
  if (presentCount === 0) return null

  const isString = column.dtype === 'string'
  const validityPtr = presentCount === rowCount ? 0 : scratch.allocate(alignUp8(Math.ceil(rowCount / 8)) + 8)
  const valuesPtr = scratch.allocate(
    isString ? 4 * (rowCount + 1) : column.dtype === 'bool' ? alignUp8(Math.ceil(rowCount / 8)) + 8 : 8 * rowCount,
  )
  // At the other end, and given back: what stays of a column is no more than its cells.
  const work = scratch.back()
  const mark = work.mark()
  const entriesPtr = listPages(reader, table, pageStart, pageEnd, work)
  const workPtr = work.allocate(call.pageRunScratchByteLength())
  const check = (status: number): number => checked(reader, column, pageStart, status)
  let bytesPtr = 0
  let byteLength = 0
  if (isString) {
    byteLength = check(call.decodedStringPagesByteLength(entriesPtr, pageCount))
    bytesPtr = scratch.allocate(byteLength)
    check(call.decodeStringPages(entriesPtr, pageCount, valuesPtr, bytesPtr, validityPtr, workPtr))
  } else check(call.decodePages(entriesPtr, pageCount, dtypeNumbers[column.dtype], valuesPtr, validityPtr, workPtr))
  work.release(mark)
  return {
    name: column.name,
    dtype: column.dtype,
    kind: 'slice',
    rowCount,
    valuesPtr,
    validityPtr,
    bytesPtr,
    byteLength,
  }
}

/**
 * Marks the rows of pages [pageStart, pageEnd) whose cell in a column of int64, time or float64 is as the operator (its number
 * in the kernels) says, without decoding them into a column; a missing cell is not. Returns how many are. Throws DATA_DAMAGED,
 * ScratchFull.
 *
 * constant  what int64 and time (bigint) or float64 (number) are compared with
 * mask      bitmap of all rows, overwritten
 * scratch   what is taken of it is given back
 */
export function comparePages(
  reader: BlockReader,
  column: ColumnEntry,
  pages: { readonly start: number; readonly end: number },
  comparison: { readonly operator: number; readonly constant: bigint | number },
  maskPtr: number,
  scratch: Scratch,
): number {
  const { call } = reader.io.kernels
  const mark = scratch.mark()
  const entriesPtr = listPages(reader, reader.table(column), pages.start, pages.end, scratch)
  const workPtr = scratch.allocate(call.comparePagesScratchByteLength())
  const { operator, constant } = comparison
  const status = call.comparePages(
    entriesPtr,
    pages.end - pages.start,
    dtypeNumbers[column.dtype],
    operator,
    typeof constant === 'bigint' ? constant : 0n,
    typeof constant === 'bigint' ? 0 : constant,
    maskPtr,
    workPtr,
  )
  scratch.release(mark)
  return checked(reader, column, pages.start, status)
}

/** The list of pages as kernels read it; all of them stay until the cache's next epoch. */
function listPages(
  reader: BlockReader,
  { segments, offsets, byteLengths, crcs, presentCounts, validityByteLengths }: PageTable,
  pageStart: number,
  pageEnd: number,
  scratch: Scratch,
): number {
  const { u32 } = reader.io.kernels
  const { pageStarts } = reader.layout
  const entriesPtr = scratch.allocate(entryByteLength * (pageEnd - pageStart))
  let at = entriesPtr >> 2
  let segment = -1
  let segmentPtr = 0
  for (let page = pageStart; page < pageEnd; page++) {
    const presentCount = presentCounts[page]!
    if (presentCount > 0 && segments[page] !== segment) {
      segment = segments[page]!
      segmentPtr = reader.segment(segment)
    }
    u32[at] = segmentPtr + offsets[page]!
    u32[at + 1] = byteLengths[page]!
    u32[at + 2] = crcs[page]!
    u32[at + 3] = presentCount
    u32[at + 4] = validityByteLengths[page]!
    u32[at + 5] = pageStarts[page + 1]! - pageStarts[page]!
    at += entryByteLength >> 2
  }
  return entriesPtr
}

/** What a kernel returned, unless that is an error. */
function checked(reader: BlockReader, column: ColumnEntry, pageStart: number, status: number): number {
  if (status >= 0) return status
  const isWhole = status <= -1 - undecodable
  const page = pageStart + (-1 - status - (isWhole ? undecodable : 0))
  throw reader.damageOf(column, page, !isWhole)
}
