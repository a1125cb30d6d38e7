// Writes blocks: pages are encoded as their column comes by, then laid out in segments behind one header.
import { assert } from '../assert.js'
import { type DType, dtypeNumbers } from '../frame/dtype.js'
import type { Kernels } from '../kernels/kernels.js'
import { segmentByteLength } from '../limits.js'
import type { Scratch } from '../memory/scratch.js'
import type { Slice } from '../memory/slice.js'
import type { AttachmentEntry, BlockLayout, ColumnEntry } from './block.js'
import type { Extent } from './live-block.js'
import { alignUp8, encodeHeader, pageStatisticsByteLength, pageTableByteLength } from './block.js'

/** Scratch that the page encoders ask for. */
export const pageScratchByteLength = 256 * 1024

/** Values of one column as the builder takes them: as in ColumnSlice, for a run of rows that begins at bit 0. */
export interface BuilderColumn {
  readonly dtype: DType
  readonly valuesPtr: number
  readonly validityPtr: number
  readonly bytesPtr: number
  /** 64-bit values without missing cells may stand in several places instead of one: the first part begins at row 0. */
  readonly parts?: readonly ColumnPart[]
  /** int64 without missing cells may stand as differences from an origin instead; row 0 at nearPtr. */
  readonly near?: NearValues
}

/** Integers less an origin, as i16; what is possible says kernels/near-ints.ts. */
export interface NearValues {
  readonly nearPtr: number
  readonly origin: bigint
}

/** A finished block in the job's scratch: `packed` is the header followed by the segments. */
export interface EncodedBlock {
  readonly packed: Slice
  readonly headerByteLength: number
  readonly headerCrc: number
  readonly segmentByteLengths: readonly number[]
  readonly rowCount: number
  readonly extent: Extent
}

/** Rows of a column that stand in a place of their own; 64-bit values without missing cells. */
export interface ColumnPart {
  readonly rowStart: number
  readonly valuesPtr: number
}

/** Encoded pages of one column, as a list of kernels/page-lists.ts. */
interface EncodedPages {
  readonly entriesPtr: number
  readonly pageCount: number
  readonly presentCount: number
  readonly statisticsCount: number
  readonly byteLength: number
}

interface BuildingColumn {
  readonly name: string
  readonly dtype: DType
  readonly pages: EncodedPages
}

/** See kernels/page-lists.ts: bytes of an entry, and its u32 fields. */
const entryByteLength = 36
const entryFields = {
  source: 0,
  count: 1,
  ptr: 2,
  byteLength: 3,
  presentCount: 4,
  validityByteLength: 5,
  statistics: 6,
}

/** Encodes pages of columns into scratch. One encoder serves all blocks of a job. */
export class PageEncoder {
  readonly #scratchPtr: number
  readonly #validityPtr: number
  readonly #densePtr: number
  /** What encodePages keeps between the pages of a column, 24 bytes. */
  readonly #statePtr: number

  constructor(
    readonly kernels: Kernels,
    readonly scratch: Scratch,
    pageRowCountMax: number,
    /** 'narrow': those of few different bytes take 4 or 6 bits for each; not where look-ups keep pages as they are stored. */
    readonly texts: 'plain' | 'narrow' = 'plain',
  ) {
    this.#scratchPtr = scratch.allocate(pageScratchByteLength)
    this.#validityPtr = scratch.allocate(alignUp8(Math.ceil(pageRowCountMax / 8)) + 8)
    this.#densePtr = scratch.allocate(8 * (pageRowCountMax + 1))
    this.#statePtr = scratch.allocate(24)
  }

  /** The checksum of bytes anywhere in the memory. */
  crcOf(ptr: number, byteLength: number): number {
    return this.kernels.call.crc32cFolded(ptr, byteLength, 0, this.#scratchPtr) >>> 0
  }

  /** Copies the pages of a column to their places in a packed block, and writes their table; returns its checksum. */
  writePages(pages: EncodedPages, packedPtr: number, segmentStartsPtr: number, tablePtr: number): number {
    const { entriesPtr, pageCount } = pages
    const { call } = this.kernels
    return call.writePages(entriesPtr, pageCount, packedPtr, segmentStartsPtr, tablePtr, this.#scratchPtr) >>> 0
  }

  /**
   * Encodes a column whose row 0 is `rowOffset` rows before the first page; the bytes stay in scratch.
   *
   * pageStarts  first row of each page, then the row count
   */
  encode(column: BuilderColumn, rowOffset: number, pageStarts: Uint32Array, hasStatistics: boolean): EncodedPages {
    const { scratch } = this
    const { u32 } = this.kernels
    const pageCount = pageStarts.length - 1
    const is64 = column.dtype === 'int64' || column.dtype === 'float64' || column.dtype === 'time'
    const entriesPtr = scratch.allocate(entryByteLength * pageCount)
    const statisticsPtr = is64 && hasStatistics ? scratch.allocate(pageStatisticsByteLength * pageCount) : 0
    u32.fill(0, this.#statePtr >> 2, (this.#statePtr >> 2) + 6)
    if (is64 && column.validityPtr === 0) {
      const byteLength =
        column.near === undefined
          ? this.#encodeValues(column, rowOffset, pageStarts, entriesPtr, statisticsPtr)
          : this.#encodeNear(column.near, rowOffset, pageStarts, entriesPtr, statisticsPtr)
      const presentCount = pageStarts[pageCount]! - pageStarts[0]!
      return { entriesPtr, pageCount, presentCount, statisticsCount: u32[(this.#statePtr >> 2) + 3]!, byteLength }
    }
    let presentCount = 0
    let byteLength = 0
    for (let page = 0; page < pageCount; page++) {
      const start = pageStarts[page]!
      const entryPtr = entriesPtr + entryByteLength * page
      const ownStatisticsPtr = statisticsPtr === 0 ? 0 : statisticsPtr + pageStatisticsByteLength * page
      this.#encodePage(column, rowOffset + start, pageStarts[page + 1]! - start, entryPtr, ownStatisticsPtr)
      presentCount += u32[(entryPtr >> 2) + entryFields.presentCount]!
      byteLength += u32[(entryPtr >> 2) + entryFields.byteLength]!
    }
    return { entriesPtr, pageCount, presentCount, statisticsCount: u32[(this.#statePtr >> 2) + 3]!, byteLength }
  }

  /** 64-bit values without missing cells: all pages at once, but for those that lie in several parts. */
  #encodeValues(
    column: BuilderColumn,
    rowOffset: number,
    pageStarts: Uint32Array,
    entriesPtr: number,
    statisticsPtr: number,
  ): number {
    const { call, u32 } = this.kernels
    const pageCount = pageStarts.length - 1
    const parts = column.parts ?? [{ rowStart: 0, valuesPtr: column.valuesPtr }]
    let part = 0
    let first = 0
    let byteLength = 0
    const encodeUpTo = (page: number): void => {
      if (page === first) return
      const statistics = statisticsPtr === 0 ? 0 : statisticsPtr + pageStatisticsByteLength * first
      const entryPtr = entriesPtr + entryByteLength * first
      byteLength += this.#encodeList(column.dtype, entryPtr, page - first, statistics)
      first = page
    }
    for (let page = 0; page < pageCount; page++) {
      let row = rowOffset + pageStarts[page]!
      const rowEnd = rowOffset + pageStarts[page + 1]!
      while (part + 1 < parts.length && parts[part + 1]!.rowStart <= row) part++
      const { rowStart, valuesPtr } = parts[part]!
      const entry = (entriesPtr + entryByteLength * page) >> 2
      u32[entry + entryFields.count] = rowEnd - row
      if (part + 1 === parts.length || parts[part + 1]!.rowStart >= rowEnd) {
        u32[entry + entryFields.source] = valuesPtr + 8 * (row - rowStart)
        continue
      }
      encodeUpTo(page)
      u32[entry + entryFields.source] = this.#densePtr
      for (let target = this.#densePtr; row < rowEnd; part++) {
        const own = parts[part]!
        const end = Math.min(rowEnd, parts[part + 1]?.rowStart ?? rowEnd)
        call.copyBytes(own.valuesPtr + 8 * (row - own.rowStart), 8 * (end - row), target)
        target += 8 * (end - row)
        row = end
        if (row === rowEnd) break
      }
      encodeUpTo(page + 1)
    }
    encodeUpTo(pageCount)
    return byteLength
  }

  /** As #encodeValues. */
  #encodeNear(
    { nearPtr, origin }: NearValues,
    rowOffset: number,
    pageStarts: Uint32Array,
    entriesPtr: number,
    statisticsPtr: number,
  ): number {
    const { u32 } = this.kernels
    const pageCount = pageStarts.length - 1
    for (let page = 0; page < pageCount; page++) {
      const entry = (entriesPtr + entryByteLength * page) >> 2
      u32[entry + entryFields.source] = nearPtr + 2 * (rowOffset + pageStarts[page]!)
      u32[entry + entryFields.count] = pageStarts[page + 1]! - pageStarts[page]!
    }
    return this.#encodeList('int64', entriesPtr, pageCount, statisticsPtr, origin)
  }

  /** Encodes the pages of a list, of a dtype of 64 bits, and returns the bytes that stay. origin: of near values; else null. */
  #encodeList(
    dtype: DType,
    entriesPtr: number,
    pageCount: number,
    statisticsPtr: number,
    origin: bigint | null = null,
  ): number {
    const { call } = this.kernels
    const { scratch } = this
    const start = scratch.mark()
    const bound = call.maxEncodedPages(dtypeNumbers[dtype], entriesPtr, pageCount)
    const ptr = scratch.allocate(bound)
    const byteLength =
      origin === null
        ? this.#encodeInto(dtype, entriesPtr, pageCount, statisticsPtr, ptr)
        : call.encodeNearPages(origin, entriesPtr, pageCount, statisticsPtr, ptr, this.#statePtr, this.#scratchPtr)
    assert(byteLength <= bound, 'encoded pages are within their bound')
    this.#keep(start, ptr, byteLength, entriesPtr, pageCount)
    return byteLength
  }

  #encodeInto(dtype: DType, entriesPtr: number, pageCount: number, statisticsPtr: number, targetPtr: number): number {
    return this.kernels.call.encodePages(
      dtypeNumbers[dtype],
      entriesPtr,
      pageCount,
      statisticsPtr,
      targetPtr,
      this.#statePtr,
      this.#scratchPtr,
    )
  }

  /** Only what pages took stays, at whichever end the scratch is handed out from. */
  #keep(start: number, ptr: number, byteLength: number, entriesPtr: number, pageCount: number): void {
    const { call, u32 } = this.kernels
    this.scratch.release(start)
    const place = this.scratch.allocate(byteLength)
    if (place === ptr) return
    call.copyBytes(ptr, byteLength, place)
    for (let page = 0; page < pageCount; page++)
      u32[((entriesPtr + entryByteLength * page) >> 2) + entryFields.ptr]! += place - ptr
  }

  /** Encodes rows [rowStart, rowStart + rowCount) of any column. */
  #encodePage(
    column: BuilderColumn,
    rowStart: number,
    rowCount: number,
    entryPtr: number,
    statisticsPtr: number,
  ): void {
    const { call, u32 } = this.kernels
    const { scratch } = this
    const entry = entryPtr >> 2
    u32.fill(0, entry, entry + (entryByteLength >> 2))
    let presentCount = rowCount
    let validity = 0
    if (column.validityPtr !== 0) {
      validity = this.#validityPtr
      call.copyBits(column.validityPtr, rowStart, validity, 0, rowCount)
      clearBitsPast(this.kernels.u8, validity, rowCount)
      presentCount = call.countBits(validity, rowCount)
      if (presentCount === rowCount) validity = 0
      if (presentCount === 0) return
    }
    let bound: number
    let sourcePtr: number
    let { bytesPtr } = column
    const start = scratch.mark()
    switch (column.dtype) {
      case 'int64':
      case 'time':
      case 'float64': {
        sourcePtr = column.valuesPtr + 8 * rowStart
        if (validity !== 0) {
          call.compact64(sourcePtr, validity, rowCount, this.#densePtr)
          sourcePtr = this.#densePtr
        }
        u32[entry + entryFields.source] = sourcePtr
        u32[entry + entryFields.count] = presentCount
        bound = call.maxEncodedPages(dtypeNumbers[column.dtype], entryPtr, 1)
        break
      }
      case 'bool': {
        sourcePtr = this.#densePtr
        call.copyBits(column.valuesPtr, rowStart, sourcePtr, 0, rowCount)
        clearBitsPast(this.kernels.u8, sourcePtr, rowCount)
        if (validity !== 0) {
          const target = sourcePtr + alignUp8(Math.ceil(rowCount / 8)) + 8
          call.compactBits(sourcePtr, validity, rowCount, target)
          sourcePtr = target
        }
        bound = call.maxEncodedBoolPage(presentCount)
        break
      }
      case 'string': {
        sourcePtr = column.valuesPtr + 4 * rowStart
        if (validity !== 0) {
          if (call.compactStrings(sourcePtr, bytesPtr, validity, rowCount, this.#densePtr) < 0) {
            // Text under a missing cell (a column from outside): the present cells are copied together first.
            bytesPtr = this.#gatherPresent(sourcePtr, bytesPtr, validity, rowCount, presentCount)
          }
          sourcePtr = this.#densePtr
        }
        const textByteLength = u32[(sourcePtr >> 2) + presentCount]! - u32[sourcePtr >> 2]!
        bound = call.maxEncodedStringPage(presentCount, textByteLength)
        break
      }
      case 'null':
        throw new TypeError('a column of nulls has no pages')
    }
    const validityBound = validity === 0 ? 0 : call.maxEncodedBoolPage(rowCount)
    const ptr = scratch.allocate(validityBound + bound)
    let byteLength = 0
    if (validity !== 0) byteLength = call.encodeBoolPage(validity, rowCount, ptr, this.#scratchPtr)
    const validityByteLength = byteLength
    const target = ptr + byteLength
    switch (column.dtype) {
      case 'bool':
        byteLength += call.encodeBoolPage(sourcePtr, presentCount, target, this.#scratchPtr)
        break
      case 'string':
        byteLength += call.encodeStringPage(
          sourcePtr,
          bytesPtr,
          presentCount,
          target,
          this.#scratchPtr,
          this.texts === 'narrow' ? 1 : 0,
        )
        break
      default:
        byteLength += this.#encodeInto(column.dtype, entryPtr, 1, statisticsPtr, target)
    }
    assert(byteLength <= validityBound + bound, 'an encoded page is within its bound')
    u32[entry + entryFields.ptr] = ptr
    u32[entry + entryFields.byteLength] = byteLength
    u32[entry + entryFields.presentCount] = presentCount
    u32[entry + entryFields.validityByteLength] = validityByteLength
    this.#keep(start, ptr, byteLength, entryPtr, 1)
  }

  /** Offsets of the present cells to the dense place, their text to scratch; returns where the text stands. */
  #gatherPresent(
    offsetsPtr: number,
    bytesPtr: number,
    validityPtr: number,
    rowCount: number,
    presentCount: number,
  ): number {
    const { call } = this.kernels
    const indexesPtr = this.scratch.allocate(4 * presentCount)
    call.bitsToIndexes(validityPtr, rowCount, indexesPtr)
    const textPtr = this.scratch.allocate(call.gatheredStringsByteLength(offsetsPtr, indexesPtr, presentCount))
    call.gatherStrings(offsetsPtr, bytesPtr, indexesPtr, presentCount, this.#densePtr, textPtr)
    return textPtr
  }
}

function clearBitsPast(u8: Uint8Array, ptr: number, rowCount: number): void {
  const last = rowCount & 7
  if (last !== 0) u8[ptr + (rowCount >> 3)]! &= (1 << last) - 1
}

/** Collects the pages of one block, column by column, and lays them out. */
export class BlockBuilder {
  readonly rowCount: number
  readonly #columns: BuildingColumn[] = []
  readonly #attachments: Slice[] = []
  /** Encoded bytes so far. */
  byteLength = 0

  /** pageStarts: first row of each page, then the row count. */
  constructor(
    readonly encoder: PageEncoder,
    readonly pageStarts: Uint32Array,
  ) {
    this.rowCount = pageStarts[pageStarts.length - 1]!
  }

  get pageCount(): number {
    return this.pageStarts.length - 1
  }

  /**
   * Adds a column whose row 0 is the block's row 0 shifted by `rowOffset` (blocks cut from one long column). Without
   * statistics where the backend knows more about its values.
   */
  addColumn(name: string, column: BuilderColumn, rowOffset: number, hasStatistics = true): void {
    const pages = this.encoder.encode(column, rowOffset, this.pageStarts, hasStatistics)
    this.byteLength += pages.byteLength
    // A column without a single value in this block is not stored: missing and absent read the same.
    if (pages.presentCount > 0) this.#columns.push({ name, dtype: column.dtype, pages })
  }

  /** The next attachment: bytes that stay where they are until the block is finished. */
  addAttachment(bytes: Slice): void {
    this.#attachments.push(bytes)
    this.byteLength += bytes.byteLength
  }

  get columnCount(): number {
    return this.#columns.length
  }

  /** Lays out header and segments as one packed block, in the encoder's scratch unless told where. */
  finish(directory: Uint8Array, extent: Extent, output?: Scratch): EncodedBlock {
    const { kernels } = this.encoder
    const scratch = output ?? this.encoder.scratch
    const { call, u8, u32 } = kernels
    const { pageCount } = this
    // Places first: segments are closed when they reach their size, and the page tables begin a new one when much
    // is before them, so that reading tables does not copy pages.
    const { segmentByteLengths, segmentFill: pagesFill } = this.#placePages()
    let segmentFill = pagesFill
    const close = (): void => {
      if (segmentFill > 0) segmentByteLengths.push(segmentFill)
      segmentFill = 0
    }
    const place = (byteLength: number): { segment: number; offset: number } => {
      if (segmentFill > 0 && segmentFill + byteLength > segmentByteLength) close()
      const offset = segmentFill
      segmentFill = alignUp8(segmentFill + byteLength)
      return { segment: segmentByteLengths.length, offset }
    }
    if (segmentFill > segmentByteLength / 8) close()
    const attachmentPlaces = this.#attachments.map(({ byteLength }) => place(byteLength))
    if (segmentFill > segmentByteLength / 8) close()
    const tablePlaces = this.#columns.map(({ pages }) => place(pageTableByteLength(pageCount, pages.statisticsCount)))
    close()

    const columns: ColumnEntry[] = this.#columns.map((column, index) => ({
      index,
      name: column.name,
      dtype: column.dtype,
      tableSegment: tablePlaces[index]!.segment,
      tableOffset: tablePlaces[index]!.offset,
      tableByteLength: pageTableByteLength(pageCount, column.pages.statisticsCount),
      tableCrc: 0,
    }))
    const layout: BlockLayout = {
      rowCount: this.rowCount,
      pageCount,
      pageStarts: this.pageStarts,
      segmentByteLengths: Uint32Array.from(segmentByteLengths),
      columns,
      extent,
      attachments: attachmentPlaces.map((at, i) => ({ ...at, byteLength: this.#attachments[i]!.byteLength, crc: 0 })),
      directory,
    }
    const headerByteLength = encodeHeader(layout).length
    const segmentStarts: number[] = []
    let total = headerByteLength
    for (const length of segmentByteLengths) {
      segmentStarts.push(total)
      total += length
    }
    const packedPtr = scratch.allocate(total)
    call.zeroBytes(packedPtr + headerByteLength, total - headerByteLength)
    const startsMark = scratch.mark()
    const startsPtr = scratch.allocate(4 * segmentStarts.length)
    u32.set(segmentStarts, startsPtr >> 2)
    const filled = columns.map((entry, c): ColumnEntry => {
      const tablePtr = packedPtr + segmentStarts[entry.tableSegment]! + entry.tableOffset
      return { ...entry, tableCrc: this.encoder.writePages(this.#columns[c]!.pages, packedPtr, startsPtr, tablePtr) }
    })
    scratch.release(startsMark)
    const attachments = layout.attachments.map((entry, i): AttachmentEntry => {
      const { byteOffset, byteLength } = this.#attachments[i]!
      const target = packedPtr + segmentStarts[entry.segment]! + entry.offset
      call.copyBytes(byteOffset, byteLength, target)
      return { ...entry, crc: this.encoder.crcOf(target, byteLength) }
    })
    u8.set(encodeHeader({ ...layout, columns: filled, attachments }), packedPtr)
    const headerCrc = this.encoder.crcOf(packedPtr, headerByteLength - 4)
    kernels.view.setUint32(packedPtr + headerByteLength - 4, headerCrc, true)
    return {
      packed: { byteOffset: packedPtr, byteLength: total },
      headerByteLength,
      headerCrc,
      segmentByteLengths,
      rowCount: this.rowCount,
      extent,
    }
  }
  /** Finds places for the pages of all columns: the segments that are full then, and how full the last one is. */
  #placePages(): { segmentByteLengths: number[]; segmentFill: number } {
    const { kernels, scratch } = this.encoder
    const { call, u32 } = kernels
    const mark = scratch.mark()
    const statePtr = scratch.allocate(8 + 4 * this.pageCount * this.#columns.length)
    const state = statePtr >> 2
    u32.fill(0, state, state + 2)
    for (const { pages } of this.#columns)
      call.placePages(pages.entriesPtr, pages.pageCount, segmentByteLength, statePtr)
    scratch.release(mark)
    const segmentByteLengths = Array.from(u32.subarray(state + 2, state + 2 + u32[state]!))
    return { segmentByteLengths, segmentFill: u32[state + 1]! }
  }
}
