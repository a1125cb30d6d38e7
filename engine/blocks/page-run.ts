// Neighbouring pages of one column as one column: a kernel checks and decodes all of them in one call. For scans; single
// pages are read by BlockReader.page.
import { dtypeNumbers } from '../frame/dtype.js'
import type { ColumnSlice } from '../frame/column-slice.js'
import type { Scratch } from '../memory/scratch.js'
import type { ColumnEntry } from './block.js'
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
  const { u32, call } = kernels
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
  const entriesPtr = work.allocate(entryByteLength * pageCount)
  const workPtr = work.allocate(call.pageRunScratchByteLength())
  let segment = -1
  let segmentPtr = 0
  for (let page = pageStart; page < pageEnd; page++) {
    const at = (entriesPtr + (page - pageStart) * entryByteLength) >> 2
    const pagePresentCount = table.presentCounts[page]!
    if (pagePresentCount > 0 && table.segments[page] !== segment) {
      segment = table.segments[page]!
      segmentPtr = reader.segment(segment)
    }
    u32[at] = segmentPtr + table.offsets[page]!
    u32[at + 1] = table.byteLengths[page]!
    u32[at + 2] = table.crcs[page]!
    u32[at + 3] = pagePresentCount
    u32[at + 4] = table.validityByteLengths[page]!
    u32[at + 5] = pageStarts[page + 1]! - pageStarts[page]!
  }
  const check = (status: number): number => {
    if (status >= 0) return status
    const isWhole = status <= -1 - undecodable
    const page = pageStart + (-1 - status - (isWhole ? undecodable : 0))
    const what = isWhole ? 'cannot be decoded' : 'does not fit its checksum'
    throw io.damaged(reader.source.id, `page ${page} of column '${column.name}' ${what}`)
  }
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
