// Reads blocks inside a worker: headers and page tables are parsed once and kept, pages are decoded into scratch.
import type { DType } from '../frame/dtype.js'
import { assert } from '../assert.js'
import { FramesError } from '../errors.js'
import type { Kernels } from '../kernels/kernels.js'
import { MiB, pageRowCountMax } from '../limits.js'
import { copyBytes } from '../memory/copy.js'
import type { Scratch } from '../memory/scratch.js'
import type { Slice } from '../memory/slice.js'
import { dataKey, headKey, packedKey } from './keys.js'
import type { WorkerReader } from '../stores/store.js'
import type { AttachmentEntry, BlockLayout, ColumnEntry, PageTable } from './block.js'
import { alignUp8, isOtherVersion, parseHeader, parsePageTable, segmentOffset } from './block.js'
import type { KeptOfBlock, KeptPages } from './kept-pages.js'
import { PageCache } from './page-cache.js'

/** Where a job finds a block. Plain, so that a message can carry it. */
export interface BlockSource {
  /** Unique among all blocks and head chunks of the engine. */
  readonly id: bigint
  readonly rowCount: number
  readonly headerByteLength: number
  readonly headerCrc: number
  /** As in the live list: what the backend knows of the block without reading it. */
  readonly extent: readonly number[] | null
  /** Stored as one value (header and segments), not under keys of its own. */
  readonly isPacked: boolean
  /** In the shared memory: header and segments one behind the other. */
  readonly packed: Slice | null
  /** Of a store that workers cannot read: the packed value, or header and segments. They travel with the job, uncopied. */
  readonly values: readonly Uint8Array[] | null
  /** Bitmap of the rows that do not count any more, 1 = dead, in the shared memory or with the job; null: none. */
  readonly dead: Slice | Uint8Array | null
  /** Why the block cannot be read at all. */
  readonly damage: string | null
}

/** A decoded page: as in ColumnSlice, row 0 = first row of the page. Null stands for a page without any value. */
export interface DecodedPage {
  readonly valuesPtr: number
  readonly validityPtr: number
  readonly bytesPtr: number
}

/** A parsed block, kept by the worker between jobs (blocks never change). */
interface ParsedBlock {
  readonly layout: BlockLayout
  readonly columnsByKey: ReadonlyMap<string, ColumnEntry>
  readonly tables: (PageTable | undefined)[]
  /** What the worker keeps of it between jobs. */
  readonly kept: KeptOfBlock
  /** What the backend made of the directory, and what it noted of the attachments. */
  directory: unknown
  notes: unknown
  /** Attachments whose checksums were found right. */
  readonly checked: Set<number>
  byteLength: number
}

/** Parsed headers and page tables of one worker; bounded by the bytes they were parsed from. */
const parsedByteLengthMax = 32 * MiB
const parsedBlocks = new Map<bigint, ParsedBlock>()
let parsedByteLength = 0

function keep(id: bigint, parsed: ParsedBlock): void {
  parsedBlocks.set(id, parsed)
  parsedByteLength += parsed.byteLength
  for (const [oldId, old] of parsedBlocks) {
    if (parsedByteLength <= parsedByteLengthMax || oldId === id) break
    parsedBlocks.delete(oldId)
    parsedByteLength -= old.byteLength
  }
}

/** Drops what this worker has parsed of a block. */
export function forgetBlock(id: bigint): void {
  const parsed = parsedBlocks.get(id)
  if (parsed === undefined) return
  parsedBlocks.delete(id)
  parsedByteLength -= parsed.byteLength
}

/** What all readers of one job share. */
export class BlockIo {
  readonly cache: PageCache
  readonly densePtr: number
  /** Where a page is made compact before its length is known; 0 where none is kept. */
  readonly compactPtr: number
  /** Decoded pages by cache key, so that a hit costs one look-up. */
  readonly decoded = new Map<number, DecodedPage | null>()
  /** Attachments, by cache key, whose checksums this job has found right. */
  readonly checked = new Set<number>()

  constructor(
    readonly kernels: Kernels,
    readonly scratch: Scratch,
    readonly store: WorkerReader | null,
    readonly partition: string,
    readonly tableName: string,
    /** Where pages and attachments are kept between jobs; for look-ups, not for scans. */
    readonly kept: KeptPages | null = null,
    /** Whether pages are kept, too, or only what is made of attachments. */
    readonly keepsPages = kept !== null,
  ) {
    this.cache = new PageCache(scratch, kept)
    this.densePtr = scratch.allocate(8 * (pageRowCountMax + 1))
    this.compactPtr =
      kept === null || !keepsPages ? 0 : scratch.allocate(kernels.call.compactPageByteLengthMax(pageRowCountMax))
  }

  damaged(id: bigint, what: string): FramesError {
    return new FramesError('DATA_DAMAGED', `block ${id} of table '${this.tableName}' is damaged: ${what}`)
  }
}

// Cache keys: reader number, then what it is. 2^13 readers × 2^15 columns × 2^17 pages, and segments above them.
const keysPerColumn = 2 ** 17
const keysPerReader = 2 ** 33
/** A page is kept decoded, as it is stored (key + 1) or compact (key + 2). */
const keptForms = 3
/** Things that are made of one attachment, and where their keys begin: behind those of all columns. */
const derivedPartCountMax = 4
const firstDerivedKey = 2 ** 32

export class BlockReader {
  readonly #parsed: ParsedBlock
  readonly #firstKey: number

  /** `number` tells the readers of one job apart. Throws DATA_DAMAGED. */
  constructor(
    readonly io: BlockIo,
    readonly source: BlockSource,
    number: number,
  ) {
    this.#firstKey = number * keysPerReader
    if (source.damage !== null) throw io.damaged(source.id, source.damage)
    let parsed = parsedBlocks.get(source.id)
    if (parsed === undefined) {
      const layout = this.#readHeader()
      const columnsByKey = new Map(layout.columns.map((column) => [columnKey(column.name, column.dtype), column]))
      parsed = {
        layout,
        columnsByKey,
        tables: [],
        kept: new Map(),
        directory: undefined,
        notes: undefined,
        checked: new Set(),
        byteLength: source.headerByteLength,
      }
      keep(source.id, parsed)
    } else {
      // Least recently used first, as Map order.
      parsedBlocks.delete(source.id)
      parsedBlocks.set(source.id, parsed)
    }
    this.#parsed = parsed
  }

  get layout(): BlockLayout {
    return this.#parsed.layout
  }

  /** The directory as the backend parses it, once. */
  directory<T>(parse: (bytes: Uint8Array) => T): T {
    this.#parsed.directory ??= parse(this.layout.directory)
    return this.#parsed.directory as T
  }

  /** What the backend reads out of the attachments, once; small, for it stays in the worker's heap. */
  noted<T>(read: () => T): T {
    this.#parsed.notes ??= read()
    return this.#parsed.notes as T
  }

  column(name: string, dtype: DType): ColumnEntry | undefined {
    return this.#parsed.columnsByKey.get(columnKey(name, dtype))
  }

  #readHeader(): BlockLayout {
    const { kernels, cache, store, partition } = this.io
    const { packed, values, headerByteLength, headerCrc, isPacked, id } = this.source
    let bytes: Uint8Array | null
    if (packed !== null) bytes = kernels.u8.subarray(packed.byteOffset, packed.byteOffset + headerByteLength)
    else if (values !== null) bytes = values[0] ?? null
    else bytes = store?.get(partition, isPacked ? packedKey(id) : headKey(id)) ?? null
    if (bytes === null) throw this.io.damaged(id, 'its header is missing')
    if (isPacked) bytes = bytes.subarray(0, headerByteLength)
    if (bytes.length !== headerByteLength) throw this.io.damaged(id, 'its header has the wrong length')
    // In the cache and not beside it: it takes all the scratch there is.
    const key = this.#firstKey + keysPerReader - 2 * keysPerColumn
    const ptr = cache.find(key) || cache.insert(key, headerByteLength)
    copyBytes(bytes, kernels.u8, ptr)
    const copy = kernels.u8.slice(ptr, ptr + headerByteLength)
    const crc = kernels.call.crc32c(ptr, headerByteLength - 4, 0) >>> 0
    const stored = kernels.view.getUint32(ptr + headerByteLength - 4, true)
    const isWhole = crc === stored && crc === headerCrc
    if (isWhole && isOtherVersion(copy)) {
      throw new FramesError(
        'FORMAT_VERSION',
        `block ${id} of table '${this.io.tableName}' has a format that this framesd does not know`,
      )
    }
    const layout = isWhole ? parseHeader(copy) : null
    if (layout === null) throw this.io.damaged(id, 'the checksum of its header does not fit')
    return layout
  }

  /** Pointer to the bytes of a segment, in scratch (until the next epoch of the cache) or where the packed block stands. */
  segment(segment: number): number {
    const { kernels, store, partition, cache } = this.io
    const { packed, values, headerByteLength, isPacked, id } = this.source
    const { segmentByteLengths } = this.layout
    if (packed !== null) return packed.byteOffset + headerByteLength + segmentOffset(this.layout, segment)
    const key = this.#firstKey + keysPerReader - 1 - segment
    const found = cache.find(key)
    if (found !== 0) return found
    const byteLength = segmentByteLengths[segment]!
    let bytes: Uint8Array | null | undefined
    if (isPacked) {
      const start = headerByteLength + segmentOffset(this.layout, segment)
      bytes = (values !== null ? values[0] : store?.get(partition, packedKey(id)))?.subarray(start, start + byteLength)
    } else bytes = values !== null ? values[1 + segment] : store?.get(partition, dataKey(id, segment))
    if (bytes === null || bytes === undefined || bytes.length !== byteLength) {
      throw this.io.damaged(id, `segment ${segment} is missing or has the wrong length`)
    }
    const ptr = cache.insert(key, byteLength)
    copyBytes(bytes, kernels.u8, ptr)
    return ptr
  }

  /**
   * Pointer to the bytes of an attachment, 0 when the block has none of this number. They stay until the cache's next
   * epoch. Throws DATA_DAMAGED.
   */
  attachment(number: number): number {
    const entry = this.layout.attachments[number]
    if (entry === undefined) return 0
    const { kept, kernels } = this.io
    if (kept === null || this.source.packed !== null) return this.#readAttachment(number, entry)
    const keptKey = -1 - number
    const found = kept.find(this.#parsed.kept, keptKey)
    if (found !== 0) return found
    const read = this.#readAttachment(number, entry)
    const ptr = kept.insert(this.#parsed.kept, keptKey, entry.byteLength)
    if (ptr === 0) return read
    kernels.call.copyBytes(read, entry.byteLength, ptr)
    return ptr
  }

  /**
   * Pointer to byteLength bytes that `make` makes of an attachment, which is not kept itself. They are kept between jobs
   * where there is room, and stay until the cache's next epoch. `part` tells apart what is made of one attachment.
   * Throws DATA_DAMAGED.
   */
  derived(number: number, part: number, byteLength: number, make: (fromPtr: number, toPtr: number) => void): number {
    const { cache, kept } = this.io
    const entry = this.layout.attachments[number]
    assert(entry !== undefined && part < derivedPartCountMax, 'something is made of what there is')
    const key = derivedPartCountMax * number + part
    const keptKey = -1 - keysPerColumn - key
    const found = kept?.find(this.#parsed.kept, keptKey) || cache.find(this.#firstKey + firstDerivedKey + key)
    if (found) return found
    const fromPtr = this.#readAttachment(number, entry)
    const keptPtr =
      kept === null || this.source.packed !== null ? 0 : kept.insert(this.#parsed.kept, keptKey, byteLength)
    const ptr = keptPtr !== 0 ? keptPtr : cache.insert(this.#firstKey + firstDerivedKey + key, byteLength)
    try {
      make(fromPtr, ptr)
    } catch (error) {
      if (keptPtr !== 0) kept?.discard(this.#parsed.kept, keptKey)
      throw error
    }
    return ptr
  }

  #readAttachment(number: number, entry: AttachmentEntry): number {
    const ptr = this.segment(entry.segment) + entry.offset
    const { checked } = this.#parsed
    // Memory does not change under us; what is read from the store anew may have.
    if (this.source.packed !== null && checked.has(number)) return ptr
    const key = this.#firstKey + keysPerReader - keysPerColumn - 2 - number
    if (this.io.checked.has(key)) return ptr
    if (this.io.kernels.call.crc32c(ptr, entry.byteLength, 0) >>> 0 !== entry.crc)
      throw this.io.damaged(this.source.id, `attachment ${number} does not fit its checksum`)
    checked.add(number)
    this.io.checked.add(key)
    return ptr
  }

  /** Pointer to the bitmap of dead rows (1 = dead), 0 when there are none; it stays until the cache's next epoch. */
  dead(): number {
    const { dead } = this.source
    if (dead === null) return 0
    if (!(dead instanceof Uint8Array)) return dead.byteOffset
    const { cache, kernels } = this.io
    const key = this.#firstKey + keysPerReader - keysPerColumn - 1
    const found = cache.find(key)
    if (found !== 0) return found
    const ptr = cache.insert(key, dead.length)
    kernels.u8.set(dead, ptr)
    return ptr
  }

  table(column: ColumnEntry): PageTable {
    const known = this.#parsed.tables[column.index]
    if (known !== undefined) return known
    const { kernels } = this.io
    const ptr = this.segment(column.tableSegment) + column.tableOffset
    const { tableByteLength } = column
    if (kernels.call.crc32c(ptr, tableByteLength, 0) >>> 0 !== column.tableCrc) {
      throw this.io.damaged(this.source.id, `the page table of column '${column.name}' does not fit its checksum`)
    }
    const table = parsePageTable(kernels.u8.subarray(ptr, ptr + tableByteLength), this.layout.pageCount)
    this.#parsed.tables[column.index] = table
    // A block that made room for others is still used by this job, but counts no more.
    if (parsedBlocks.get(this.source.id) === this.#parsed) {
      this.#parsed.byteLength += tableByteLength
      parsedByteLength += tableByteLength
    }
    return table
  }

  /** Decodes one page; it stays until the cache's next epoch. Throws DATA_DAMAGED. */
  page(column: ColumnEntry, page: number): DecodedPage | null {
    const { cache, decoded, kept, kernels } = this.io
    const key = this.#firstKey + column.index * keysPerColumn + page
    if (cache.find(key) !== 0) return decoded.get(key)!
    const table = this.table(column)
    if (table.presentCounts[page] === 0) return null
    if (kept === null || !this.io.keepsPages || this.source.packed !== null) {
      const ptr = this.#storedPage(column, table, page)
      const result = this.#decode(column, table, page, ptr, (byteLength) => cache.insert(key, byteLength))
      decoded.set(key, result)
      return result
    }
    const own = this.#parsed.kept
    const keptKey = keptForms * (column.index * keysPerColumn + page)
    const keptPtr = kept.find(own, keptKey)
    if (keptPtr !== 0) return this.#placeOf(column, table, page, keptPtr)
    let stored = kept.find(own, keptKey + 1)
    if (stored === 0) {
      stored = this.#storedPage(column, table, page)
      const byteLength = table.byteLengths[page]!
      const ptr = kept.isFull ? kept.insert(own, keptKey + 1, byteLength) : 0
      if (ptr !== 0) kernels.call.copyBytes(stored, byteLength, ptr)
    }
    let isKept = false
    const place = (byteLength: number): number => {
      const ptr = kept.isFull ? 0 : kept.insert(own, keptKey, byteLength)
      isKept = ptr !== 0
      return isKept ? ptr : cache.insert(key, byteLength)
    }
    try {
      const result = this.#decode(column, table, page, stored, place)
      if (!isKept) decoded.set(key, result)
      return result
    } catch (error) {
      if (isKept) kept.discard(own, keptKey)
      throw error
    }
  }

  /**
   * A page of 64-bit cells as scatterCompact reads it, until the cache's next epoch: it takes a fraction of the room of a
   * decoded one, so that far more of a table is kept. 0 where it is not kept so: then `page` has it. Throws DATA_DAMAGED.
   */
  compactPage(column: ColumnEntry, page: number): number {
    const { cache, compactPtr, decoded, kept, kernels } = this.io
    if (kept === null || !this.io.keepsPages || this.source.packed !== null) return 0
    const own = this.#parsed.kept
    const pageNumber = column.index * keysPerColumn + page
    const keptKey = keptForms * pageNumber + 2
    const found = kept.find(own, keptKey)
    if (found !== 0 || kept.isFull) return found
    const key = this.#firstKey + pageNumber
    // Decoded by this job already, and then there was no room for it.
    if (cache.find(key) !== 0) return 0
    const table = this.table(column)
    if (table.presentCounts[page] === 0) return 0
    const stored = this.#storedPage(column, table, page)
    const whole = this.#decode(column, table, page, stored, (byteLength) => cache.insert(key, byteLength))
    decoded.set(key, whole)
    const { call } = kernels
    const { pageStarts } = this.layout
    const validityByteLength = table.validityByteLengths[page]!
    const digitCount =
      column.dtype === 'float64'
        ? call.decimalPlacesOfPage(stored + validityByteLength, table.byteLengths[page]! - validityByteLength)
        : -1
    const rowCount = pageStarts[page + 1]! - pageStarts[page]!
    const byteLength = call.compactPage(whole.valuesPtr, whole.validityPtr, rowCount, digitCount, compactPtr)
    const ptr = kept.insert(own, keptKey, byteLength)
    if (ptr !== 0) call.copyBytes(compactPtr, byteLength, ptr)
    return ptr
  }

  /** Where the bytes of a page stand, checked. */
  #storedPage(column: ColumnEntry, table: PageTable, page: number): number {
    const ptr = this.segment(table.segments[page]!) + table.offsets[page]!
    if (this.io.kernels.call.crc32c(ptr, table.byteLengths[page]!, 0) >>> 0 === table.crcs[page]) return ptr
    throw this.io.damaged(this.source.id, `page ${page} of column '${column.name}' does not fit its checksum`)
  }

  /** The parts of a decoded page that stands at ptr: validity, values, text. */
  #placeOf(column: ColumnEntry, table: PageTable, page: number, ptr: number): DecodedPage {
    const { pageStarts } = this.layout
    const rowCount = pageStarts[page + 1]! - pageStarts[page]!
    const bitmapByteLength = alignUp8(Math.ceil(rowCount / 8)) + 8
    const isString = column.dtype === 'string'
    const valuesByteLength = column.dtype === 'bool' ? bitmapByteLength : isString ? 4 * (rowCount + 1) : 8 * rowCount
    const valuesPtr = ptr + bitmapByteLength
    return {
      valuesPtr,
      validityPtr: table.validityByteLengths[page]! > 0 ? ptr : 0,
      bytesPtr: isString ? valuesPtr + alignUp8(valuesByteLength) : 0,
    }
  }

  #decode(
    column: ColumnEntry,
    table: PageTable,
    page: number,
    ptr: number,
    allocate: (byteLength: number) => number,
  ): DecodedPage {
    const { kernels, densePtr } = this.io
    const { call } = kernels
    const { pageStarts } = this.layout
    const rowCount = pageStarts[page + 1]! - pageStarts[page]!
    const presentCount = table.presentCounts[page]!
    const validityByteLength = table.validityByteLengths[page]!
    const byteLength = table.byteLengths[page]!
    const fail = (what: string): never => {
      throw this.io.damaged(this.source.id, `page ${page} of column '${column.name}' ${what}`)
    }
    const bitmapByteLength = alignUp8(Math.ceil(rowCount / 8)) + 8
    const valuesByteLength =
      column.dtype === 'bool' ? bitmapByteLength : column.dtype === 'string' ? 4 * (rowCount + 1) : 8 * rowCount
    const pagePtr = ptr + validityByteLength
    const pageByteLength = byteLength - validityByteLength
    let textByteLength = 0
    if (column.dtype === 'string') {
      textByteLength = call.decodedStringByteLength(pagePtr, pageByteLength, presentCount)
      if (textByteLength < 0) fail('cannot be decoded')
    }
    const hasMissing = validityByteLength > 0
    const target = allocate(bitmapByteLength + alignUp8(valuesByteLength) + textByteLength)
    const decoded = this.#placeOf(column, table, page, target)
    const { valuesPtr, bytesPtr } = decoded
    const validityPtr = target
    if (hasMissing && call.decodeBoolPage(ptr, validityByteLength, rowCount, validityPtr) < 0) fail('cannot be decoded')
    const targetPtr = hasMissing ? densePtr : valuesPtr
    let status: number
    switch (column.dtype) {
      case 'int64':
        status = call.decodeInt64Page(pagePtr, pageByteLength, presentCount, targetPtr)
        break
      case 'time':
        status = call.decodeTimePage(pagePtr, pageByteLength, presentCount, targetPtr)
        break
      case 'float64':
        status = call.decodeFloat64Page(pagePtr, pageByteLength, presentCount, targetPtr)
        break
      case 'bool':
        status = call.decodeBoolPage(pagePtr, pageByteLength, presentCount, targetPtr)
        break
      default:
        status = call.decodeStringPage(pagePtr, pageByteLength, presentCount, targetPtr, bytesPtr)
    }
    if (status < 0) fail('cannot be decoded')
    if (hasMissing) {
      if (column.dtype === 'bool') call.expandBits(densePtr, validityPtr, rowCount, valuesPtr)
      else if (column.dtype === 'string') call.expandOffsets(densePtr, validityPtr, rowCount, valuesPtr)
      else call.expand64(densePtr, validityPtr, rowCount, valuesPtr)
    }
    return decoded
  }
}

function columnKey(name: string, dtype: DType): string {
  return `${dtype} ${name}`
}
