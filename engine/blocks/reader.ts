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
import { type KeptOfBlock, type KeptPages, keptOfBlock } from './kept-pages.js'
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
  /** Rows [0, decodedRowCount) are there. */
  readonly decodedRowCount: number
  readonly valuesPtr: number
  readonly validityPtr: number
  readonly bytesPtr: number
}

/** A page of strings without missing cells. */
export interface StoredTexts {
  readonly ptr: number
  readonly byteLength: number
  readonly rowCount: number
  /** Of the texts. */
  readonly textByteLength: number
}

/** A parsed block, kept by the worker between jobs (blocks never change). */
interface ParsedBlock {
  readonly layout: BlockLayout
  readonly columnsByName: ReadonlyMap<string, readonly ColumnEntry[]>
  readonly tables: (PageTable | undefined)[]
  /** Of each column of times that was asked for pages; see #alikePage. */
  readonly alikePages: (Int32Array | undefined)[]
  /** What the worker keeps of it between jobs; null: nothing yet. See #keptIndex. */
  kept: KeptOfBlock | null
  /** Of pages in segments that are kept: 1 where a page's checksum was found right; null: of none. */
  checkedPages: Uint8Array | null
  /** What the backend made of the directory, and what it noted of the attachments. */
  directory: unknown
  notes: unknown
  /** Attachments whose checksums were found right. */
  readonly checked: Set<number>
  byteLength: number
  /** Where its cache keys begin, of the job of this number. */
  firstKey: number
  keysOfIo: number
}

/** Parsed headers and page tables of one worker, by what they take of its heap of 512 MiB. */
export const parsedByteLengthMax = 64 * MiB
/** What V8 takes beside the bytes: for a header and its columns, and for the arrays of a page table. Small blocks are mostly that. */
const headerOverheadByteLength = 4096
/** Measured: 1,600 to 1,700 bytes of RSS beside the buffer, whether a table has 1, 8 or 32 pages. */
const tableOverheadByteLength = 1700
/** An array with a buffer of its own, beside its bytes. */
const arrayOverheadByteLength = 200
const parsedBlocks = new Map<bigint, ParsedBlock>()
let parsedByteLength = 0
let newestId: bigint | null = null

function keep(id: bigint, parsed: ParsedBlock): void {
  parsedBlocks.set(id, parsed)
  newestId = id
  parsedByteLength += parsed.byteLength
  makeRoom(id)
}

/** Drops what was used least recently; not the block that grows. */
function makeRoom(id: bigint): void {
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

/** Drops what this worker has parsed of all blocks. */
export function forgetAllBlocks(): void {
  parsedBlocks.clear()
  parsedByteLength = 0
}

/** What this worker keeps of parsed blocks, in bytes: at most parsedByteLengthMax, or one block. */
export function keptParsedByteLength(): number {
  return parsedByteLength
}

/** Whether this worker has parsed a block's header, and keeps it. */
export function isBlockKnown(id: bigint): boolean {
  return parsedBlocks.has(id)
}

/** So many jobs have read blocks. */
let ioCount = 0

/** What all readers of one job share. */
export class BlockIo {
  readonly cache: PageCache
  readonly densePtr: number
  /** Where pages of 64-bit cells are decoded to be made compact; 0 where none is kept. */
  readonly wholePtr: number
  #decoded: Map<number, DecodedPage | null> | null = null
  #checked: Set<number> | null = null
  readonly #number = ++ioCount
  /** How many cache keys there are of all blocks. */
  #keyCount = 0
  #headerCount = 0

  constructor(
    readonly kernels: Kernels,
    readonly scratch: Scratch,
    readonly store: WorkerReader | null,
    readonly partition: string,
    readonly tableName: string,
    /** Where pages and attachments are kept between jobs; for look-ups, not for scans. */
    readonly kept: KeptPages | null = null,
    /**
     * In which form pages are kept, too: compact for look-ups of single cells; stored: as they are, segments and all; none: only
     * attachments and what is made of them.
     */
    readonly keptForm: 'compact' | 'decoded' | 'stored' | 'none' = 'compact',
  ) {
    this.cache = new PageCache(scratch, kept)
    this.densePtr = scratch.allocate(8 * (pageRowCountMax + 1))
    this.wholePtr =
      kept === null || keptForm !== 'compact'
        ? 0
        : scratch.allocate(8 * (pageRowCountMax + 1) + pageRowCountMax / 8 + 16)
  }

  /** Decoded pages by cache key, so that a hit costs one look-up. Made for the first: many a job finds all of its pages kept. */
  get decoded(): Map<number, DecodedPage | null> {
    return (this.#decoded ??= new Map())
  }

  /** Attachments, by cache key, whose checksums this job has found right. */
  get checked(): Set<number> {
    return (this.#checked ??= new Set())
  }

  /** The first of the cache keys that belong to a block. Noted with the block, and not in a map that each job would make. */
  keysOf(parsed: ParsedBlock): number {
    if (parsed.keysOfIo !== this.#number) {
      const { columns, pageCount, attachments, segmentByteLengths } = parsed.layout
      const ofAttachments = (1 + derivedPartCountMax) * attachments.length
      parsed.keysOfIo = this.#number
      parsed.firstKey = this.#keyCount
      this.#keyCount += columns.length * pageCount + ofAttachments + segmentByteLengths.length + 1
    }
    return parsed.firstKey
  }

  /** The cache key of a header: how many keys its block takes is not known yet. */
  headerKey(): number {
    return -++this.#headerCount
  }

  /** The checksum of bytes anywhere in the memory. */
  crcOf(ptr: number, byteLength: number): number {
    // Nothing dense stands there yet: what is decoded was checked before.
    return this.kernels.call.crc32cFolded(ptr, byteLength, 0, this.densePtr) >>> 0
  }

  damaged(id: bigint, what: string): FramesError {
    return new FramesError('DATA_DAMAGED', `block ${id} of table '${this.tableName}' is damaged: ${what}`)
  }
}

/** Things that are made of one attachment. */
const derivedPartCountMax = 4

export class BlockReader {
  readonly #parsed: ParsedBlock
  /**
   * Of its keys in the cache, one behind the other: pages, column by column; what is made of attachments; attachments that were
   * checked; the bitmap of dead rows; segments. V8 finds numbers below 2^31 twice as fast as those above.
   */
  readonly #firstKey: number
  /** The segment that was last asked for, where it stands, and in which epoch of the cache that is so. */
  #lastSegment = -1
  #lastSegmentPtr = 0
  #lastEpoch = -1

  /** Throws DATA_DAMAGED. */
  constructor(
    readonly io: BlockIo,
    readonly source: BlockSource,
  ) {
    if (source.damage !== null) throw io.damaged(source.id, source.damage)
    let parsed = parsedBlocks.get(source.id)
    if (parsed === undefined) {
      const layout = this.#readHeader()
      parsed = {
        layout,
        columnsByName: columnsByName(layout),
        tables: [],
        alikePages: [],
        kept: null,
        checkedPages: null,
        directory: undefined,
        notes: undefined,
        checked: new Set(),
        byteLength: source.headerByteLength + headerOverheadByteLength,
        firstKey: 0,
        keysOfIo: 0,
      }
      keep(source.id, parsed)
    } else if (source.id !== newestId && parsedByteLength > parsedByteLengthMax / 2) {
      // Least recently used first, as Map order. Not while there is much room: V8 makes the table of a map anew for every few
      // entries that come and go.
      parsedBlocks.delete(source.id)
      parsedBlocks.set(source.id, parsed)
      newestId = source.id
    }
    this.#parsed = parsed
    this.#firstKey = io.keysOf(parsed)
  }

  #pageKey({ index }: ColumnEntry, page: number): number {
    return this.#firstKey + index * this.layout.pageCount + page
  }

  /** Of what is made of attachments, of which each has derivedPartCountMax. */
  get #firstDerivedKey(): number {
    const { columns, pageCount } = this.layout
    return this.#firstKey + columns.length * pageCount
  }

  get #firstAttachmentKey(): number {
    return this.#firstDerivedKey + derivedPartCountMax * this.layout.attachments.length
  }

  get #deadKey(): number {
    return this.#firstAttachmentKey + this.layout.attachments.length
  }

  get layout(): BlockLayout {
    return this.#parsed.layout
  }

  /** The directory as the backend parses it, once. arrays: those of it that others do not have, too. */
  directory<T>(parse: (bytes: Uint8Array) => T, arrays: (parsed: T) => readonly ArrayBufferView[]): T {
    const known = this.#parsed.directory
    if (known !== undefined) return known as T
    const parsed = parse(this.layout.directory)
    this.#parsed.directory = parsed
    let byteLength = 0
    for (const array of arrays(parsed)) byteLength += array.byteLength + arrayOverheadByteLength
    this.#countParsed(byteLength)
    return parsed
  }

  /** What the backend reads out of the attachments, once; small, for it stays in the worker's heap. */
  noted<T>(read: () => T): T {
    this.#parsed.notes ??= read()
    return this.#parsed.notes as T
  }

  column(name: string, dtype: DType): ColumnEntry | undefined {
    // Not by a text made of both: look-ups ask for each column of each block, thousands of times a second.
    const columns = this.#parsed.columnsByName.get(name)
    if (columns !== undefined) for (const column of columns) if (column.dtype === dtype) return column
    return undefined
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
    const ptr = cache.insert(this.io.headerKey(), headerByteLength)
    copyBytes(bytes, kernels.u8, ptr)
    const copy = kernels.u8.slice(ptr, ptr + headerByteLength)
    const crc = this.io.crcOf(ptr, headerByteLength - 4)
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
    // Pages of one column that follow each other stand in one segment.
    const { epoch } = this.io.cache
    if (segment === this.#lastSegment && epoch === this.#lastEpoch) return this.#lastSegmentPtr
    const ptr = this.#findSegment(segment)
    this.#lastSegment = segment
    this.#lastSegmentPtr = ptr
    this.#lastEpoch = epoch
    return ptr
  }

  #findSegment(segment: number): number {
    const { kernels, store, partition, cache, keptForm } = this.io
    const { packed, values, headerByteLength, isPacked, id } = this.source
    const { segmentByteLengths } = this.layout
    if (packed !== null) return packed.byteOffset + headerByteLength + segmentOffset(this.layout, segment)
    const kept = keptForm === 'stored' ? this.io.kept : null
    const keptIndex = this.#firstSegmentIndex + segment
    const keptPtr = kept?.find(this.#kept(), keptIndex) ?? 0
    if (keptPtr !== 0) return keptPtr
    const key = this.#deadKey + 1 + segment
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
    const ptr = kept?.insert(this.#kept(), keptIndex, byteLength) || cache.insert(key, byteLength)
    copyBytes(bytes, kernels.u8, ptr)
    // What comes from the store anew is checked anew; of which pages it is, is not looked up.
    this.#parsed.checkedPages?.fill(0)
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
    const own = this.#kept()
    const found = kept.find(own, number)
    if (found !== 0) return found
    const read = this.#readAttachment(number, entry)
    const ptr = kept.insert(own, number, entry.byteLength)
    if (ptr === 0) return read
    kernels.call.copyBytes(read, entry.byteLength, ptr)
    return ptr
  }

  /** As attachment, of those that are kept already; 0 for others. It stays where it is while pages are kept, too. */
  keptAttachment(number: number): number {
    const { kept } = this.io
    return kept === null || this.source.packed !== null ? 0 : kept.find(this.#kept(), number)
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
    const keptIndex = this.layout.attachments.length + key
    const found = kept?.find(this.#kept(), keptIndex) || cache.find(this.#firstDerivedKey + key)
    if (found) return found
    const fromPtr = this.#readAttachment(number, entry)
    const keptPtr = kept === null || this.source.packed !== null ? 0 : kept.insert(this.#kept(), keptIndex, byteLength)
    const ptr = keptPtr !== 0 ? keptPtr : cache.insert(this.#firstDerivedKey + key, byteLength)
    try {
      make(fromPtr, ptr)
    } catch (error) {
      if (keptPtr !== 0) kept?.discard(this.#kept(), keptIndex)
      throw error
    }
    return ptr
  }

  #readAttachment(number: number, entry: AttachmentEntry): number {
    const ptr = this.segment(entry.segment) + entry.offset
    const { checked } = this.#parsed
    // Memory does not change under us; what is read from the store anew may have.
    if (this.source.packed !== null && checked.has(number)) return ptr
    const key = this.#firstAttachmentKey + number
    if (this.io.checked.has(key)) return ptr
    if (this.io.crcOf(ptr, entry.byteLength) !== entry.crc)
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
    const key = this.#deadKey
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
    if (this.io.crcOf(ptr, tableByteLength) !== column.tableCrc) {
      throw this.io.damaged(this.source.id, `the page table of column '${column.name}' does not fit its checksum`)
    }
    const table = parsePageTable(kernels.u8.subarray(ptr, ptr + tableByteLength), this.layout.pageCount)
    this.#parsed.tables[column.index] = table
    this.#countParsed(table.statistics.buffer.byteLength + tableOverheadByteLength)
    return table
  }

  #countParsed(byteLength: number): void {
    // A block that made room for others is still used by this job, but counts no more.
    if (parsedBlocks.get(this.source.id) !== this.#parsed) return
    this.#parsed.byteLength += byteLength
    parsedByteLength += byteLength
    makeRoom(this.source.id)
  }

  /**
   * Decodes one page, rows [0, rowEnd) of it at least; it stays until the cache's next epoch. Most pages of some hours of a label set
   * are of other hours and sets, too. Throws DATA_DAMAGED.
   */
  page(column: ColumnEntry, number: number, rowEnd = Infinity): DecodedPage | null {
    const { cache, kept } = this.io
    const page = column.dtype === 'time' ? this.#alikePage(column, number) : number
    const key = this.#pageKey(column, page)
    const foundPtr = cache.find(key)
    if (foundPtr !== 0) {
      const found = this.io.decoded.get(key)!
      const { decodedRowCount } = found
      return rowEnd <= decodedRowCount || decodedRowCount === this.#rowCountOf(page)
        ? found
        : this.#decodeAt(key, column, page, Infinity, () => foundPtr)
    }
    const table = this.table(column)
    if (table.presentCounts[page] === 0) return null
    if (kept === null || !this.#keepsDecoded(column))
      return this.#decodeAt(key, column, page, rowEnd, (byteLength) => cache.insert(key, byteLength))
    const own = this.#kept()
    const keptIndex = this.#keptIndex(column, page)
    const keptPtr = kept.find(own, keptIndex)
    if (keptPtr !== 0) return this.#placeOf(column, table, page, this.#rowCountOf(page), keptPtr)
    const stored = this.#storedPage(column, table, page)
    let ptr = 0
    const place = (byteLength: number): number => {
      ptr = kept.insert(own, keptIndex, byteLength)
      return ptr === 0 ? cache.insert(key, byteLength) : ptr
    }
    try {
      const result = this.#decode(column, table, page, Infinity, stored, place)
      if (ptr === 0) this.io.decoded.set(key, result)
      return result
    } catch (error) {
      if (ptr !== 0) kept.discard(own, keptIndex)
      throw error
    }
  }

  #decodeAt(
    key: number,
    column: ColumnEntry,
    page: number,
    rowEnd: number,
    allocate: (byteLength: number) => number,
  ): DecodedPage {
    const table = this.table(column)
    const result = this.#decode(column, table, page, rowEnd, this.#storedPage(column, table, page), allocate)
    this.io.decoded.set(key, result)
    return result
  }

  /**
   * The first page of a column with the same bytes and rows, which may be the page itself. Label sets that report together have
   * the same times: such a page is decoded and kept once for all of them, and stays in the caches of the processor.
   */
  #alikePage(column: ColumnEntry, page: number): number {
    const alike = (this.#parsed.alikePages[column.index] ??= this.#alikeByTable(column))
    const found = alike[page]!
    if (found >= 0) return found
    const first = ~found
    const { segments, offsets, byteLengths } = this.table(column)
    const { u8 } = this.io.kernels
    const segmentPtr = this.segment(segments[page]!)
    const [own, other] = [page, first].map((number) => {
      const start = segmentPtr + offsets[number]!
      return u8.subarray(start, start + byteLengths[number]!)
    }) as [Uint8Array, Uint8Array]
    return (alike[page] = Buffer.compare(own, other) === 0 ? first : page)
  }

  /** Each page's number, or ~first where the table says that an earlier page may be the same: its bytes have not been compared. */
  #alikeByTable(column: ColumnEntry): Int32Array {
    const { segments, byteLengths, crcs, presentCounts, validityByteLengths } = this.table(column)
    const { pageCount } = this.layout
    const alike = new Int32Array(pageCount)
    const firstOfCrc = new Map<number, number>()
    for (let page = 0; page < pageCount; page++) {
      const crc = crcs[page]!
      const first = firstOfCrc.get(crc)
      if (first === undefined) firstOfCrc.set(crc, page)
      const isLikely =
        first !== undefined &&
        // Where both stand in one segment, comparing reads nothing else.
        segments[first] === segments[page] &&
        byteLengths[first] === byteLengths[page] &&
        presentCounts[first] === presentCounts[page] &&
        validityByteLengths[first] === validityByteLengths[page] &&
        this.#rowCountOf(first) === this.#rowCountOf(page)
      alike[page] = isLikely ? ~first : page
    }
    this.#countParsed(alike.byteLength + arrayOverheadByteLength)
    return alike
  }

  #rowCountOf(page: number): number {
    const { pageStarts } = this.layout
    return pageStarts[page + 1]! - pageStarts[page]!
  }

  /** Bytes of text of rows [from, to) of a page of strings, without decoding it; -1 where only that can tell. */
  textByteLength(column: ColumnEntry, page: number, from: number, to: number): number {
    const table = this.table(column)
    const presentCount = table.presentCounts[page]!
    if (presentCount === 0) return 0
    if (table.validityByteLengths[page]! > 0 || this.#isDecoded(column, page)) return -1
    // Not checked yet, which is done when it is decoded: whatever it holds, no more than the page is read.
    const pagePtr = this.segment(table.segments[page]!) + table.offsets[page]!
    return this.io.kernels.call.stringRowsByteLength(pagePtr, table.byteLengths[page]!, presentCount, from, to)
  }

  /**
   * Where a page of strings stands as it is stored, checked, for decodeStringPageAt: whoever wants all of it needs it in one
   * place only. Null where cells are missing, or it is decoded already. Valid until the cache's next epoch. Throws DATA_DAMAGED.
   */
  storedTexts(column: ColumnEntry, page: number): StoredTexts | null {
    const table = this.table(column)
    const { pageStarts } = this.layout
    const rowCount = table.presentCounts[page]!
    if (rowCount !== pageStarts[page + 1]! - pageStarts[page]! || this.#isDecoded(column, page)) return null
    const ptr = this.#storedPage(column, table, page)
    const byteLength = table.byteLengths[page]!
    const textByteLength = this.io.kernels.call.decodedStringByteLength(ptr, byteLength, rowCount)
    if (textByteLength < 0 || table.validityByteLengths[page]! > 0) throw this.#undecodable(column, page)
    return { ptr, byteLength, rowCount, textByteLength }
  }

  #isDecoded(column: ColumnEntry, page: number): boolean {
    return this.io.cache.find(this.#pageKey(column, page)) !== 0
  }

  /**
   * A page as scatterCompact (64-bit cells) or scatterCompactTexts (strings) read it, until the cache's next epoch: it takes
   * a fraction of the room of a decoded one. 0 where it is not kept so: then `page` has it. Throws DATA_DAMAGED.
   */
  compactPage(column: ColumnEntry, page: number): number {
    const { kept } = this.io
    if (kept === null || !this.#keepsCompact(column)) return 0
    return kept.find(this.#kept(), this.#keptIndex(column, page)) || this.#keepCompact(kept, column, page)
  }

  /**
   * compactPage for many pages, all of which stay until the next epoch. Other pages of this epoch do not.
   *
   * pages, target  u32 each: target[i] is for pages[i], i from `from` to before `to`
   *
   * Returns how many of them are kept.
   */
  compactPages(column: ColumnEntry, pagesPtr: number, from: number, to: number, targetPtr: number): number {
    const { kept, cache, kernels } = this.io
    const { u32 } = kernels
    const target = targetPtr >> 2
    if (kept === null || !this.#keepsCompact(column)) {
      u32.fill(0, target + from, target + to)
      return 0
    }
    const { ptrs } = this.#kept()
    const first = this.#keptIndex(column, 0)
    const columnCount = this.layout.columns.length
    const pages = pagesPtr >> 2
    let last = -1
    let ptr = 0
    let keptCount = 0
    for (let i = from; i < to; i++) {
      const page = u32[pages + i]!
      if (page !== last) {
        last = page
        ptr = ptrs[first + page * columnCount]!
        if (ptr === 0 || kept.isEndangered(ptr)) {
          cache.beginOwnEpoch()
          ptr = this.compactPage(column, page)
        }
      }
      u32[target + i] = ptr
      if (ptr !== 0) keptCount++
    }
    return keptCount
  }

  #keepsCompact({ dtype }: ColumnEntry): boolean {
    return this.io.keptForm === 'compact' && dtype !== 'bool'
  }

  #keepsDecoded({ dtype }: ColumnEntry): boolean {
    const { keptForm } = this.io
    // Packed blocks are soon merged. For look-ups they are kept all the same: who was just updated is often asked for.
    if (keptForm === 'decoded') return this.source.packed === null
    // Bools are small as they are.
    return keptForm === 'compact' && dtype === 'bool'
  }

  #kept(): KeptOfBlock {
    const known = this.#parsed.kept
    if (known !== null) return known
    const kept = keptOfBlock(this.#firstSegmentIndex + this.layout.segmentByteLengths.length)
    this.#parsed.kept = kept
    this.#countParsed(kept.ptrs.byteLength + kept.byteLengths.byteLength)
    return kept
  }

  /** What is kept of a block, in this order: attachments, what is made of them, the columns of one page after the other, segments. */
  #keptIndex({ index }: ColumnEntry, page: number): number {
    return this.#firstPageIndex + page * this.layout.columns.length + index
  }

  get #firstPageIndex(): number {
    return (1 + derivedPartCountMax) * this.layout.attachments.length
  }

  get #firstSegmentIndex(): number {
    const { pageCount, columns } = this.layout
    return this.#firstPageIndex + pageCount * columns.length
  }

  #keepCompact(kept: KeptPages, column: ColumnEntry, page: number): number {
    const { kernels, cache } = this.io
    const { call } = kernels
    // There was no room for it before.
    if (cache.find(this.#pageKey(column, page)) !== 0) return 0
    const table = this.table(column)
    const presentCount = table.presentCounts[page]!
    if (presentCount === 0) return 0
    const { pageStarts } = this.layout
    const rowCount = pageStarts[page + 1]! - pageStarts[page]!
    const stored = this.#storedPage(column, table, page)
    const validityByteLength = table.validityByteLengths[page]!
    const pagePtr = stored + validityByteLength
    const byteLength = table.byteLengths[page]! - validityByteLength
    const isText = column.dtype === 'string'
    const byteLengthMax = isText
      ? call.compactTextsByteLengthMax(byteLength, rowCount)
      : call.compactPageByteLengthMax(rowCount)
    const own = this.#kept()
    const keptIndex = this.#keptIndex(column, page)
    const ptr = kept.insert(own, keptIndex, byteLengthMax)
    if (ptr === 0) return 0
    let compactByteLength = -1
    try {
      if (isText) {
        const validityPtr = this.#validityOf(stored, validityByteLength, rowCount, presentCount)
        compactByteLength =
          validityPtr < 0 ? -1 : call.compactTexts(pagePtr, byteLength, presentCount, validityPtr, rowCount, ptr)
        if (compactByteLength < 0) throw this.#undecodable(column, page)
      } else {
        const whole = this.#decode(column, table, page, Infinity, stored, () => this.io.wholePtr)
        const digitCount = column.dtype === 'float64' ? call.decimalPlacesOfPage(pagePtr, byteLength) : -1
        compactByteLength = call.compactPage(whole.valuesPtr, whole.validityPtr, rowCount, digitCount, ptr)
      }
    } finally {
      if (compactByteLength < 0) kept.discard(own, keptIndex)
    }
    kept.shrink(own, keptIndex, compactByteLength)
    return ptr
  }

  /** The bitmap of a page's present rows, decoded; 0: all are; -1: it is malformed. */
  #validityOf(storedPtr: number, byteLength: number, rowCount: number, presentCount: number): number {
    if (byteLength === 0) return presentCount === rowCount ? 0 : -1
    const { kernels, wholePtr } = this.io
    const isWhole =
      kernels.call.decodeBoolPage(storedPtr, byteLength, rowCount, wholePtr) >= 0 &&
      kernels.call.countBits(wholePtr, rowCount) === presentCount
    return isWhole ? wholePtr : -1
  }

  /**
   * Writes an entry for the kernel wirePages: rows [from, to) of a page without missing cells. The page's bytes stay until the
   * cache's next epoch.
   */
  locate(column: ColumnEntry, page: number, from: number, to: number, entryPtr: number): void {
    const { u32 } = this.io.kernels
    const table = this.table(column)
    const entry = entryPtr >> 2
    u32[entry] = this.segment(table.segments[page]!) + table.offsets[page]!
    u32[entry + 1] = table.byteLengths[page]!
    u32[entry + 2] = table.crcs[page]!
    u32[entry + 3] = table.presentCounts[page]!
    u32[entry + 4] = from
    u32[entry + 5] = to
  }

  /** Whether each row of a page has a cell in a column. */
  isWhole(column: ColumnEntry, page: number): boolean {
    const { pageStarts } = this.layout
    return this.table(column).presentCounts[page] === pageStarts[page + 1]! - pageStarts[page]!
  }

  /** What a kernel has found wrong with a page. */
  damageOf(column: ColumnEntry, page: number, isChecksum: boolean): FramesError {
    return isChecksum ? this.#misfit(column, page) : this.#undecodable(column, page)
  }

  /** Where the bytes of a page stand, checked. */
  #storedPage(column: ColumnEntry, table: PageTable, page: number): number {
    const segment = table.segments[page]!
    const segmentPtr = this.segment(segment)
    const ptr = segmentPtr + table.offsets[page]!
    // Memory does not change under us.
    const checked = this.#checkedPages(segment, segmentPtr)
    const index = column.index * this.layout.pageCount + page
    if (checked !== null && checked[index] === 1) return ptr
    if (this.io.crcOf(ptr, table.byteLengths[page]!) !== table.crcs[page]) throw this.#misfit(column, page)
    if (checked !== null) checked[index] = 1
    return ptr
  }

  /** Which pages need not be checked any more, if a segment that stands at `ptr` is kept there. */
  #checkedPages(segment: number, ptr: number): Uint8Array | null {
    if (this.io.keptForm !== 'stored' || this.#parsed.kept?.ptrs[this.#firstSegmentIndex + segment] !== ptr) return null
    const { checkedPages } = this.#parsed
    if (checkedPages !== null) return checkedPages
    const { columns, pageCount } = this.layout
    const made = new Uint8Array(columns.length * pageCount)
    this.#countParsed(made.byteLength)
    this.#parsed.checkedPages = made
    return made
  }

  #misfit(column: ColumnEntry, page: number): FramesError {
    return this.io.damaged(this.source.id, `page ${page} of column '${column.name}' does not fit its checksum`)
  }

  /** The parts of a decoded page that stands at ptr: validity, values, text. */
  #placeOf(column: ColumnEntry, table: PageTable, page: number, decodedRowCount: number, ptr: number): DecodedPage {
    const rowCount = this.#rowCountOf(page)
    const bitmapByteLength = alignUp8(Math.ceil(rowCount / 8)) + 8
    const isString = column.dtype === 'string'
    const valuesByteLength = column.dtype === 'bool' ? bitmapByteLength : isString ? 4 * (rowCount + 1) : 8 * rowCount
    const valuesPtr = ptr + bitmapByteLength
    return {
      decodedRowCount,
      valuesPtr,
      validityPtr: table.validityByteLengths[page]! > 0 ? ptr : 0,
      bytesPtr: isString ? valuesPtr + alignUp8(valuesByteLength) : 0,
    }
  }

  #undecodable(column: ColumnEntry, page: number): FramesError {
    return this.io.damaged(this.source.id, `page ${page} of column '${column.name}' cannot be decoded`)
  }

  /** rowEnd: rows [0, rowEnd) are enough. */
  #decode(
    column: ColumnEntry,
    table: PageTable,
    page: number,
    rowEnd: number,
    ptr: number,
    allocate: (byteLength: number) => number,
  ): DecodedPage {
    const { kernels, densePtr } = this.io
    const { call } = kernels
    const rowCount = this.#rowCountOf(page)
    const presentCount = table.presentCounts[page]!
    const validityByteLength = table.validityByteLengths[page]!
    const byteLength = table.byteLengths[page]!
    const fail = (): never => {
      throw this.#undecodable(column, page)
    }
    const bitmapByteLength = alignUp8(Math.ceil(rowCount / 8)) + 8
    const valuesByteLength =
      column.dtype === 'bool' ? bitmapByteLength : column.dtype === 'string' ? 4 * (rowCount + 1) : 8 * rowCount
    const pagePtr = ptr + validityByteLength
    const pageByteLength = byteLength - validityByteLength
    let textByteLength = 0
    if (column.dtype === 'string') {
      textByteLength = call.decodedStringByteLength(pagePtr, pageByteLength, presentCount)
      if (textByteLength < 0) fail()
    }
    const hasMissing = validityByteLength > 0
    const target = allocate(bitmapByteLength + alignUp8(valuesByteLength) + textByteLength)
    const isPart = !hasMissing && (column.dtype === 'int64' || column.dtype === 'time')
    const decodedRowCount = isPart ? Math.min(rowCount, rowEnd) : rowCount
    const decoded = this.#placeOf(column, table, page, decodedRowCount, target)
    const { valuesPtr, bytesPtr } = decoded
    const validityPtr = target
    if (hasMissing && call.decodeBoolPage(ptr, validityByteLength, rowCount, validityPtr) < 0) fail()
    const targetPtr = hasMissing ? densePtr : valuesPtr
    const wantedCount = Math.min(presentCount, decodedRowCount)
    const scratchPtr = hasMissing ? 0 : densePtr
    let status: number
    switch (column.dtype) {
      case 'int64':
        status = call.decodeInt64Rows(pagePtr, pageByteLength, presentCount, wantedCount, targetPtr, scratchPtr)
        break
      case 'time':
        status = call.decodeTimeRows(pagePtr, pageByteLength, presentCount, wantedCount, targetPtr, scratchPtr)
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
    if (status < 0) fail()
    if (hasMissing) {
      if (column.dtype === 'bool') call.expandBits(densePtr, validityPtr, rowCount, valuesPtr)
      else if (column.dtype === 'string') call.expandOffsets(densePtr, validityPtr, rowCount, valuesPtr)
      else call.expand64(densePtr, validityPtr, rowCount, valuesPtr)
    }
    return decoded
  }
}

function columnsByName({ columns }: BlockLayout): Map<string, ColumnEntry[]> {
  const byName = new Map<string, ColumnEntry[]>()
  for (const column of columns) {
    const others = byName.get(column.name)
    if (others === undefined) byName.set(column.name, [column])
    else others.push(column)
  }
  return byName
}
