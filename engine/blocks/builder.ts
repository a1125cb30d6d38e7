// Writes blocks: pages are encoded as their column comes by, then laid out in segments behind one header.
import { assert } from '../assert.js'
import type { DType } from '../frame/dtype.js'
import type { Kernels } from '../kernels/kernels.js'
import { segmentByteLength } from '../limits.js'
import type { Scratch } from '../memory/scratch.js'
import type { Slice } from '../memory/slice.js'
import type { AttachmentEntry, BlockLayout, ColumnEntry } from './block.js'
import type { Extent } from './live-block.js'
import {
  alignUp8,
  encodeHeader,
  pagePlaceByteLength,
  pageStatisticsByteLength,
  pageTableByteLength,
  statisticsPageByteLengthMin,
} from './block.js'

/** Scratch that the page encoders ask for. */
export const pageScratchByteLength = 256 * 1024

/** Values of one column as the builder takes them: as in ColumnSlice, for a run of rows that begins at bit 0. */
export interface BuilderColumn {
  readonly dtype: DType
  readonly valuesPtr: number
  readonly validityPtr: number
  readonly bytesPtr: number
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

interface Page {
  ptr: number
  byteLength: number
  presentCount: number
  validityByteLength: number
  statisticsPtr: number
}

interface BuildingColumn {
  name: string
  dtype: DType
  pages: Page[]
}

/** The first byte of a page of bit-packed residuals; the second is their order. */
const packedCodec = 3
/** Pages that may be encoded as one before them; then all ways are tried again. */
const alikePageCountMax = 7
/** What such a page may seem to need, by what the one before it took: a sample is not exact. */
const alikeCostMax = 1.08

/** How the last page of a column was encoded. */
interface AlikePages {
  readonly column: BuilderColumn
  readonly order: number
  /** Bits a value × 256. */
  readonly costMax: number
  pageCountLeft: number
}

/** Encodes pages of columns into scratch. One encoder serves all blocks of a job. */
export class PageEncoder {
  readonly #scratchPtr: number
  readonly #validityPtr: number
  readonly #densePtr: number
  #alike: AlikePages | null = null

  constructor(
    readonly kernels: Kernels,
    readonly scratch: Scratch,
    pageRowCountMax: number,
  ) {
    this.#scratchPtr = scratch.allocate(pageScratchByteLength)
    this.#validityPtr = scratch.allocate(alignUp8(Math.ceil(pageRowCountMax / 8)) + 8)
    this.#densePtr = scratch.allocate(8 * (pageRowCountMax + 1))
  }

  /** The checksum of bytes anywhere in the memory. */
  crcOf(ptr: number, byteLength: number): number {
    return this.kernels.call.crc32cFolded(ptr, byteLength, 0, this.#scratchPtr) >>> 0
  }

  /** Encodes rows [rowStart, rowStart + rowCount) of a column; the bytes stay in scratch, in the order of the calls. */
  encode(column: BuilderColumn, rowStart: number, rowCount: number, hasStatistics = true): Page {
    const { call } = this.kernels
    const { scratch } = this
    let presentCount = rowCount
    let validity = 0
    if (column.validityPtr !== 0) {
      validity = this.#validityPtr
      call.copyBits(column.validityPtr, rowStart, validity, 0, rowCount)
      clearBitsPast(this.kernels.u8, validity, rowCount)
      presentCount = call.countBits(validity, rowCount)
      if (presentCount === rowCount) validity = 0
      if (presentCount === 0) return { ptr: 0, byteLength: 0, presentCount: 0, validityByteLength: 0, statisticsPtr: 0 }
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
        bound =
          column.dtype === 'int64'
            ? call.maxEncodedInt64Page(presentCount)
            : column.dtype === 'time'
              ? call.maxEncodedTimePage(presentCount)
              : call.maxEncodedFloat64Page(presentCount)
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
        const { u32 } = this.kernels
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
      case 'int64':
        byteLength += this.#encodeInt64(column, sourcePtr, presentCount, target)
        break
      case 'time':
        byteLength += call.encodeTimePage(sourcePtr, presentCount, target, this.#scratchPtr)
        break
      case 'float64':
        byteLength += call.encodeFloat64Page(sourcePtr, presentCount, target, this.#scratchPtr)
        break
      case 'bool':
        byteLength += call.encodeBoolPage(sourcePtr, presentCount, target, this.#scratchPtr)
        break
      case 'string':
        byteLength += call.encodeStringPage(sourcePtr, bytesPtr, presentCount, target, this.#scratchPtr)
        break
    }
    assert(byteLength <= validityBound + bound, 'an encoded page is within its bound')
    // Only what the page took stays, at whichever end the scratch is handed out from.
    scratch.release(start)
    const place = scratch.allocate(byteLength)
    if (place !== ptr) call.copyBytes(ptr, byteLength, place)
    let statisticsPtr = 0
    const wanted = column.dtype === 'time' ? presentCount >= 256 : byteLength >= statisticsPageByteLengthMin
    if (
      hasStatistics &&
      wanted &&
      (column.dtype === 'int64' || column.dtype === 'time' || column.dtype === 'float64')
    ) {
      statisticsPtr = scratch.allocate(pageStatisticsByteLength)
      if (column.dtype === 'float64') call.statisticsFloat64(sourcePtr, presentCount, statisticsPtr)
      else call.statisticsInt64(sourcePtr, presentCount, statisticsPtr)
    }
    return { ptr: place, byteLength, presentCount, validityByteLength, statisticsPtr }
  }

  /** A page as the one before it in its column, where that is about as small: to choose anew takes a third of the time. */
  #encodeInt64(column: BuilderColumn, valuesPtr: number, count: number, targetPtr: number): number {
    const { call, u8 } = this.kernels
    const alike = this.#alike
    if (alike?.column === column && alike.pageCountLeft > 0) {
      alike.pageCountLeft--
      const { order, costMax } = alike
      const byteLength = call.encodeInt64PageLike(valuesPtr, count, order, costMax, targetPtr, this.#scratchPtr)
      if (byteLength > 0) return byteLength
    }
    const byteLength = call.encodeInt64Page(valuesPtr, count, targetPtr, this.#scratchPtr)
    if (u8[targetPtr] === packedCodec) {
      const costMax = Math.ceil((alikeCostMax * 2048 * byteLength) / count)
      this.#alike = { column, order: u8[targetPtr + 1]!, costMax, pageCountLeft: alikePageCountMax }
    } else this.#alike = null
    return byteLength
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
    const pages: Page[] = []
    let presentCount = 0
    for (let page = 0; page < this.pageCount; page++) {
      const start = this.pageStarts[page]!
      const encoded = this.encoder.encode(column, rowOffset + start, this.pageStarts[page + 1]! - start, hasStatistics)
      presentCount += encoded.presentCount
      this.byteLength += encoded.byteLength
      pages.push(encoded)
    }
    // A column without a single value in this block is not stored: missing and absent read the same.
    if (presentCount > 0) this.#columns.push({ name, dtype: column.dtype, pages })
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
    const { call, u8 } = kernels
    const { pageCount } = this
    // Places first: segments are closed when they reach their size, and the page tables begin a new one when much
    // is before them, so that reading tables does not copy pages.
    const segmentByteLengths: number[] = []
    let segmentFill = 0
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
    const pagePlaces = this.#columns.map((column) => column.pages.map((page) => place(page.byteLength)))
    if (segmentFill > segmentByteLength / 8) close()
    const attachmentPlaces = this.#attachments.map(({ byteLength }) => place(byteLength))
    if (segmentFill > segmentByteLength / 8) close()
    const statisticsCounts = this.#columns.map((column) =>
      column.pages.reduce((n, page) => n + (page.statisticsPtr === 0 ? 0 : 1), 0),
    )
    const tablePlaces = statisticsCounts.map((count) => place(pageTableByteLength(pageCount, count)))
    close()

    const columns: ColumnEntry[] = this.#columns.map((column, index) => ({
      index,
      name: column.name,
      dtype: column.dtype,
      tableSegment: tablePlaces[index]!.segment,
      tableOffset: tablePlaces[index]!.offset,
      tableByteLength: pageTableByteLength(pageCount, statisticsCounts[index]!),
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
    u8.fill(0, packedPtr + headerByteLength, packedPtr + total)
    const filled = columns.map((entry, c): ColumnEntry => {
      const { pages } = this.#columns[c]!
      const tablePtr = packedPtr + segmentStarts[entry.tableSegment]! + entry.tableOffset
      const { view } = kernels
      let statisticsPtr = tablePtr + pageTableByteLength(pageCount, 0)
      pages.forEach((page, p) => {
        const { segment, offset } = pagePlaces[c]![p]!
        const target = packedPtr + segmentStarts[segment]! + offset
        call.copyBytes(page.ptr, page.byteLength, target)
        const at = tablePtr + p * pagePlaceByteLength
        view.setUint32(at, segment, true)
        view.setUint32(at + 4, offset, true)
        view.setUint32(at + 8, page.byteLength, true)
        view.setUint32(at + 12, this.encoder.crcOf(target, page.byteLength), true)
        view.setUint32(at + 16, page.presentCount, true)
        view.setUint32(at + 20, page.validityByteLength, true)
        if (page.statisticsPtr !== 0) {
          u8[tablePtr + pageCount * pagePlaceByteLength + p] = 1
          call.copyBytes(page.statisticsPtr, pageStatisticsByteLength, statisticsPtr)
          statisticsPtr += pageStatisticsByteLength
        }
      })
      return { ...entry, tableCrc: this.encoder.crcOf(tablePtr, entry.tableByteLength) }
    })
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
}
