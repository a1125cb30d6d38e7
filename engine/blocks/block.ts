// The one storage format: an immutable, sorted, columnar block. Drawn as boxes in docs/formats.md.
//
//   header    what is where; read first, checked by its own CRC
//   segments  stored values of some 256 KiB: first the pages of all columns, then the page tables
//   attachment  bytes that the backend looks rows up with (kv: a filter of names), with a CRC of its own
//   page      up to 4096 rows of one column: [missing-cell bitmap] values, compressed, with a CRC of its own
//
// A block that is not stored under its own keys (a small commit in the log, a chunk of the head) is "packed": its header
// and its segments stand one behind the other.
import { assert } from '../assert.js'
import type { DType } from '../frame/dtype.js'
import { dtypeNumbers, dtypeOfNumber } from '../frame/dtype.js'

export const blockMagic = 0xfb
export const blockFormatVersion = 2

/** Fixed part of a header, in bytes: magic, version, u16 attachments, then six u32 (see docs/formats.md). */
const headerFixedByteLength = 28
const columnFixedByteLength = 24
const attachmentByteLength = 16
/** One page in a page table: segment, offset, byteLength, crc, presentCount, validityByteLength. */
export const pagePlaceByteLength = 24
/** min, max, first, last (as the dtype), sum, m2 (f64). */
export const pageStatisticsByteLength = 48
export const pageStatisticsWordCount = pageStatisticsByteLength / 8

/** Where a column's page table stands. */
export interface ColumnEntry {
  readonly index: number
  readonly name: string
  readonly dtype: DType
  readonly tableSegment: number
  readonly tableOffset: number
  readonly tableByteLength: number
  readonly tableCrc: number
}

/** Where bytes of the backend stand that are fetched by themselves. */
export interface AttachmentEntry {
  readonly segment: number
  readonly offset: number
  readonly byteLength: number
  readonly crc: number
}

/** A parsed header. */
export interface BlockLayout {
  readonly rowCount: number
  readonly pageCount: number
  /** First row of each page, then rowCount. */
  readonly pageStarts: Uint32Array
  readonly segmentByteLengths: Uint32Array
  readonly columns: readonly ColumnEntry[]
  /** The backend's summary of the keys, as in the live entry, which can so be made again from the block. */
  readonly extent: readonly number[]
  /** What they hold is the backend's; it knows them by their index. */
  readonly attachments: readonly AttachmentEntry[]
  /** The backend's own: which keys stand at which rows. */
  readonly directory: Uint8Array
}

/** Offset of a segment in a packed block, counted from the end of the header. */
export function segmentOffset(layout: BlockLayout, segment: number): number {
  let offset = 0
  for (let i = 0; i < segment; i++) offset += layout.segmentByteLengths[i]!
  return offset
}

const encoder = new TextEncoder()
const decoder = new TextDecoder()

/**
 * Writes a header. The last 4 bytes are left for the CRC-32C of all before them.
 * Returns a fresh array, a multiple of 8 bytes long.
 */
export function encodeHeader(layout: BlockLayout): Uint8Array {
  const names = layout.columns.map((column) => encoder.encode(column.name))
  let byteLength =
    headerFixedByteLength +
    4 * layout.pageStarts.length +
    4 * layout.segmentByteLengths.length +
    8 * layout.extent.length +
    attachmentByteLength * layout.attachments.length
  for (const name of names) byteLength += columnFixedByteLength + name.length
  byteLength = alignUp8(byteLength + layout.directory.length + 4)
  const bytes = new Uint8Array(byteLength)
  const view = new DataView(bytes.buffer)
  bytes[0] = blockMagic
  bytes[1] = blockFormatVersion
  view.setUint16(2, layout.attachments.length, true)
  view.setUint32(4, layout.rowCount, true)
  view.setUint32(8, layout.pageCount, true)
  view.setUint32(12, layout.segmentByteLengths.length, true)
  view.setUint32(16, layout.columns.length, true)
  view.setUint32(20, layout.directory.length, true)
  view.setUint32(24, layout.extent.length, true)
  let at = headerFixedByteLength
  // Little endian, as all that kernels see.
  for (const { buffer, byteOffset, byteLength } of [layout.pageStarts, layout.segmentByteLengths]) {
    bytes.set(new Uint8Array(buffer, byteOffset, byteLength), at)
    at += byteLength
  }
  layout.columns.forEach((column, i) => {
    const name = names[i]!
    bytes[at] = dtypeNumbers[column.dtype]
    view.setUint32(at + 4, name.length, true)
    view.setUint32(at + 8, column.tableSegment, true)
    view.setUint32(at + 12, column.tableOffset, true)
    view.setUint32(at + 16, column.tableByteLength, true)
    view.setUint32(at + 20, column.tableCrc, true)
    bytes.set(name, at + columnFixedByteLength)
    at += columnFixedByteLength + name.length
  })
  for (const value of layout.extent) {
    view.setFloat64(at, value, true)
    at += 8
  }
  for (const attachment of layout.attachments) {
    view.setUint32(at, attachment.segment, true)
    view.setUint32(at + 4, attachment.offset, true)
    view.setUint32(at + 8, attachment.byteLength, true)
    view.setUint32(at + 12, attachment.crc, true)
    at += attachmentByteLength
  }
  bytes.set(layout.directory, at)
  return bytes
}

/** Version 1 had no narrow pages of texts, and is otherwise the same. */
function isKnownVersion(version: number | undefined): boolean {
  return version === 1 || version === blockFormatVersion
}

/** Whether bytes are the header of a block in a format that this framesd does not know. */
export function isOtherVersion(bytes: Uint8Array): boolean {
  return bytes[0] === blockMagic && !isKnownVersion(bytes[1])
}

/**
 * Parses header bytes whose CRC has been checked. Returns null when the bytes are no header of this format version
 * (a damaged or newer one); the layout keeps no reference to `bytes`.
 */
export function parseHeader(bytes: Uint8Array): BlockLayout | null {
  if (bytes.length < headerFixedByteLength + 4 || bytes[0] !== blockMagic || !isKnownVersion(bytes[1])) return null
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const attachmentCount = view.getUint16(2, true)
  const rowCount = view.getUint32(4, true)
  const pageCount = view.getUint32(8, true)
  const segmentCount = view.getUint32(12, true)
  const columnCount = view.getUint32(16, true)
  const directoryByteLength = view.getUint32(20, true)
  const extentCount = view.getUint32(24, true)
  let at = headerFixedByteLength
  if (at + 4 * (pageCount + 1 + segmentCount) > bytes.length) return null
  const pageStarts = new Uint32Array(pageCount + 1)
  for (let i = 0; i <= pageCount; i++, at += 4) pageStarts[i] = view.getUint32(at, true)
  const segmentByteLengths = new Uint32Array(segmentCount)
  for (let i = 0; i < segmentCount; i++, at += 4) segmentByteLengths[i] = view.getUint32(at, true)
  const columns: ColumnEntry[] = []
  for (let index = 0; index < columnCount; index++) {
    if (at + columnFixedByteLength > bytes.length) return null
    const dtype = dtypeOfNumber(bytes[at]!)
    const nameByteLength = view.getUint32(at + 4, true)
    const nameStart = at + columnFixedByteLength
    if (dtype === undefined || nameStart + nameByteLength > bytes.length) return null
    columns.push({
      index,
      name: decoder.decode(bytes.slice(nameStart, nameStart + nameByteLength)),
      dtype,
      tableSegment: view.getUint32(at + 8, true),
      tableOffset: view.getUint32(at + 12, true),
      tableByteLength: view.getUint32(at + 16, true),
      tableCrc: view.getUint32(at + 20, true),
    })
    at = nameStart + nameByteLength
  }
  if (at + 8 * extentCount + attachmentByteLength * attachmentCount + directoryByteLength + 4 > bytes.length)
    return null
  const extent: number[] = []
  for (let i = 0; i < extentCount; i++, at += 8) extent.push(view.getFloat64(at, true))
  const attachments: AttachmentEntry[] = []
  for (let i = 0; i < attachmentCount; i++, at += attachmentByteLength) {
    attachments.push({
      segment: view.getUint32(at, true),
      offset: view.getUint32(at + 4, true),
      byteLength: view.getUint32(at + 8, true),
      crc: view.getUint32(at + 12, true),
    })
  }
  return {
    rowCount,
    pageCount,
    pageStarts,
    segmentByteLengths,
    columns,
    extent,
    attachments,
    directory: bytes.slice(at, at + directoryByteLength),
  }
}

/** Length of a page table: all places, one byte a page that says whether it has statistics, then those, 8-byte aligned. */
export function pageTableByteLength(pageCount: number, statisticsCount: number): number {
  return alignUp8(pageCount * (pagePlaceByteLength + 1)) + statisticsCount * pageStatisticsByteLength
}

/** Of a parsed page table: the six fields of a page's place, and statisticsIndexes. */
const pageTableArrayCount = 7

/** One column's pages. Plain arrays, index = page, all in one buffer. */
export interface PageTable {
  readonly segments: Uint32Array
  readonly offsets: Uint32Array
  readonly byteLengths: Uint32Array
  readonly crcs: Uint32Array
  readonly presentCounts: Uint32Array
  readonly validityByteLengths: Uint32Array
  /** Index into `statistics` (× pageStatisticsWordCount), or -1. */
  readonly statisticsIndexes: Int32Array
  /** Words of 64 bits: the least and the greatest value come first. An array, since V8 calls a function for each look into a view. */
  readonly statistics: BigInt64Array
}

export function parsePageTable(bytes: Uint8Array, pageCount: number): PageTable {
  // One buffer for all: workers keep tens of thousands of tables, and most of what small ones take is their buffers.
  const arraysStart = alignUp8(bytes.length)
  const buffer = new ArrayBuffer(arraysStart + pageTableArrayCount * 4 * pageCount)
  const copy = new Uint8Array(buffer, 0, bytes.length)
  copy.set(bytes)
  const view = new DataView(buffer)
  const column = (field: number): Uint32Array => {
    const values = new Uint32Array(buffer, arraysStart + 4 * field * pageCount, pageCount)
    for (let page = 0; page < pageCount; page++)
      values[page] = view.getUint32(page * pagePlaceByteLength + 4 * field, true)
    return values
  }
  const statisticsIndexes = new Int32Array(buffer, arraysStart + 4 * 6 * pageCount, pageCount)
  let statisticsCount = 0
  for (let page = 0; page < pageCount; page++) {
    statisticsIndexes[page] = copy[pageCount * pagePlaceByteLength + page] === 1 ? statisticsCount++ : -1
  }
  const statisticsStart = pageTableByteLength(pageCount, 0)
  assert(copy.length === pageTableByteLength(pageCount, statisticsCount), 'a page table is as long as its counts say')
  return {
    segments: column(0),
    offsets: column(1),
    byteLengths: column(2),
    crcs: column(3),
    presentCounts: column(4),
    validityByteLengths: column(5),
    statisticsIndexes,
    statistics: new BigInt64Array(buffer, statisticsStart, pageStatisticsWordCount * statisticsCount),
  }
}

export function alignUp8(byteLength: number): number {
  return (byteLength + 7) & ~7
}
