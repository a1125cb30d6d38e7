// Reads units of a table, in a worker, into finished messages.
import type { BlockSource } from '../../blocks/reader.js'
import { BlockIo, BlockReader } from '../../blocks/reader.js'
import { encodedFrameBound, encodeFrame } from '../../codec/wire.js'
import { FramesError } from '../../errors.js'
import type { FrameSlice } from '../../frame/column-slice.js'
import type { Kernels } from '../../kernels/kernels.js'
import { MiB, readMessageByteLength } from '../../limits.js'
import { type Scratch, ScratchFull } from '../../memory/scratch.js'
import type { Slice } from '../../memory/slice.js'
import type { WorkerReader } from '../../stores/store.js'
import { ItemCollector, sliceFrame } from './item-collector.js'
import { BlockKeys, compareTexts, type ItemKey } from './item-keys.js'
import { type Conditions, Matcher } from './match.js'
import type { ReadShape } from './read-shape.js'
import { type ScanUnit, splitUnit, type UnitSource } from './scan-units.js'

/** Where a scan goes on. */
export interface ScanPosition {
  readonly unit: number
  /** Of a sorted unit: which of its sources, and which page of that. */
  readonly source: number
  readonly page: number
  /** Of an unsorted unit: what is below has been sent. */
  readonly low: ItemKey | null
}

export interface ScanInput {
  readonly sources: readonly BlockSource[]
  readonly partition: string
  readonly tableName: string
  readonly units: readonly ScanUnit[]
  readonly position: ScanPosition | null
  readonly shape: ReadShape
  readonly conditions: Conditions
  /** Rows that may still be sent; null: all. */
  readonly rowCountMax: number | null
  /** Rows of one frame at most; 0: frames are cut by bytes. */
  readonly messageRowCountMax: number
  readonly format: 'wire' | 'columns'
  readonly isCancelled: () => boolean
}

export interface ScanMessage {
  readonly rowCount: number
  /** format wire: one pb.Frame. */
  readonly bytes: Slice | null
  /** format columns: buffers in the job's scratch. */
  readonly frame: FrameSlice | null
}

export interface ScanResult {
  readonly messages: readonly ScanMessage[]
  readonly next: ScanPosition | null
  /** The row limit ended the scan before the data did. */
  readonly isLimited: boolean
  /** With a row limit: the last item that is sent, if any is. */
  readonly lastKey: ItemKey | null
  /** Rows that were looked at. */
  readonly scannedRowCount: number
  /** Pages that statistics spared, and those that were decoded. */
  readonly skippedPageCount: number
  readonly readPageCount: number
}

/** Rows that a job collects at most, whatever their size. */
const collectedRowCountMax = 131_072
/** Messages of one job: with few rows a frame they cost more than what is in them. */
const messageCountMax = 256
/** Frames beyond this are cut, unless the request says how. */
const messageByteLengthMax = 2 * MiB

/** A unit did not fit what is left of the scratch. */
const full = Symbol('full')
type Full = typeof full

export function scanItems(
  kernels: Kernels,
  scratch: Scratch,
  store: WorkerReader | null,
  input: ScanInput,
): ScanResult {
  return new Scan(kernels, scratch, store, input).run()
}

/** Readers of the sources of one job, each opened when first asked for. */
export function readersOf(io: BlockIo, sources: readonly BlockSource[]): (source: number) => BlockReader {
  const readers: (BlockReader | undefined)[] = []
  return (source) => {
    let reader = readers[source]
    if (reader === undefined) {
      reader = new BlockReader(io, sources[source]!)
      readers[source] = reader
    }
    return reader
  }
}

class Scan {
  readonly #input: ScanInput
  readonly #output: Scratch
  readonly #temporary: Scratch
  readonly #collector: ItemCollector
  readonly #matcher: Matcher
  readonly #readerOf: (source: number) => BlockReader
  readonly #keys = new Map<number, BlockKeys>()
  readonly #batchPageCountMax: number
  readonly #scratchByteLength: number
  readonly #rowCountWanted: number
  #scannedRowCount = 0

  constructor(
    readonly kernels: Kernels,
    scratch: Scratch,
    store: WorkerReader | null,
    input: ScanInput,
  ) {
    const parts = scratch.split([0.25, 0.2, 0.3, 0.25])
    const [output, cache, collected, temporary] = parts as [Scratch, Scratch, Scratch, Scratch]
    this.#input = input
    this.#scratchByteLength = scratch.slice.byteLength
    this.#output = output
    this.#temporary = temporary
    const io = new BlockIo(kernels, cache, store, input.partition, input.tableName)
    this.#readerOf = readersOf(io, input.sources)
    const shown = input.shape.made.map(({ name }) => name)
    this.#matcher = new Matcher(kernels, temporary, input.conditions, shown)
    const { shape, messageRowCountMax, rowCountMax, units } = input
    const fits = Math.floor((collected.byteLengthFree * 0.7) / ItemCollector.rowByteLength(shape))
    const ofMessages = messageRowCountMax === 0 ? collectedRowCountMax : messageRowCountMax * messageCountMax
    const capacity = Math.max(1, Math.min(collectedRowCountMax, fits))
    this.#rowCountWanted = Math.min(capacity, ofMessages)
    this.#batchPageCountMax = Math.max(1, Math.min(16, Math.ceil(this.#rowCountWanted / 1024)))
    const withNames = rowCountMax !== null || units.some(({ isSorted }) => !isSorted)
    this.#collector = new ItemCollector(kernels, collected, shape, capacity, withNames)
  }

  run(): ScanResult {
    const { units, position, isCancelled } = this.#input
    let next: ScanPosition | null = null
    for (let unit = position?.unit ?? 0; unit < units.length && next === null; unit++) {
      if (isCancelled()) throw cancelled()
      const from = unit === position?.unit ? position : null
      const isSorted = units[unit]!.isSorted
      next = isSorted ? this.#readSorted(unit, from) : this.#readUnsorted(unit, from?.low ?? null)
      if (this.#isLimited) break
      if (next === null && this.#isFull && unit + 1 < units.length)
        next = { unit: unit + 1, source: 0, page: 0, low: null }
    }
    return this.#finish(next)
  }

  /** One more row than the limit was found. */
  get #isLimited(): boolean {
    const { rowCountMax } = this.#input
    return rowCountMax !== null && this.#collector.rowCount > rowCountMax
  }

  get #isFull(): boolean {
    const { rowCount, textByteLength, shape } = this.#collector
    // At the row limit the scan goes on to the next row, if there is one: only then there is a place to go on from.
    if (rowCount === this.#input.rowCountMax) return false
    const byteLength = rowCount * ItemCollector.rowByteLength(shape) + textByteLength
    return rowCount >= this.#rowCountWanted || byteLength >= readMessageByteLength
  }

  /** The rows of a source that belong to a unit. */
  #rows(unit: ScanUnit, { source, pageStart, pageEnd }: UnitSource): { start: number; end: number } {
    const { pageStarts } = this.#readerOf(source).layout
    return {
      start: unit.low === null ? pageStarts[pageStart]! : this.#keysOf(source).rowAt(unit.low),
      end: unit.high === null ? pageStarts[pageEnd]! : this.#keysOf(source).rowAt(unit.high),
    }
  }

  #keysOf(source: number): BlockKeys {
    let keys = this.#keys.get(source)
    if (keys === undefined) {
      const reader = this.#readerOf(source)
      reader.io.cache.beginEpoch()
      keys = new BlockKeys(reader)
      this.#keys.set(source, keys)
    }
    return keys
  }

  /** Sources one behind the other; stops between two batches when enough is collected. */
  #readSorted(unit: number, from: ScanPosition | null): ScanPosition | null {
    const whole = this.#input.units[unit]!
    for (let source = from?.source ?? 0; source < whole.sources.length; source++) {
      const part = whole.sources[source]!
      const rows = this.#rows(whole, part)
      const first = source === from?.source ? from.page : part.pageStart
      const stopped = this.#readPages(part.source, { start: first, end: part.pageEnd }, rows, true)
      if (stopped.status === full && this.#collector.rowCount === 0) throw new ScratchFull(stopped.byteLengthNeeded)
      if (stopped.page < part.pageEnd && !this.#isLimited) return { unit, source, page: stopped.page, low: null }
      if (this.#isLimited) return null
      if (this.#isFull && source + 1 < whole.sources.length)
        return { unit, source: source + 1, page: whole.sources[source + 1]!.pageStart, low: null }
    }
    return null
  }

  /** All sources, then the order by name. A unit that does not fit is read in parts. */
  #readUnsorted(unit: number, low: ItemKey | null): ScanPosition | null {
    let part = this.#input.units[unit]!
    if (low !== null) part = this.#from(part, low)
    for (;;) {
      const state = this.#collector.state()
      let contributorCount = 0
      let isFull = false
      let byteLengthNeeded = 0
      for (const source of part.sources) {
        const before = this.#collector.rowCount
        const rows = this.#rows(part, source)
        const stopped = this.#readPages(source.source, { start: source.pageStart, end: source.pageEnd }, rows, false)
        isFull = stopped.status === full
        byteLengthNeeded = stopped.byteLengthNeeded
        if (isFull) break
        if (this.#collector.rowCount > before) contributorCount++
      }
      if (!isFull) {
        if (contributorCount > 1) this.#collector.order(state.rowCount, this.#temporary, compareTexts)
        else this.#collector.extendOrder(state.rowCount)
        const { high } = this.#input.units[unit]!
        const isWhole =
          part.high === null || (high !== null && part.high.name === high.name && part.high.folder === high.folder)
        return isWhole ? null : { unit, source: 0, page: 0, low: part.high }
      }
      this.#collector.rollBack(state)
      if (state.rowCount > 0) return { unit, source: 0, page: 0, low: part.low }
      const halves = splitUnit(part, this.#readerOf)
      if (halves === null) throw new ScratchFull(byteLengthNeeded)
      part = halves[0]
    }
  }

  /** What is left of a unit from a key on. */
  #from(unit: ScanUnit, low: ItemKey): ScanUnit {
    const sources = unit.sources.flatMap(({ source }): UnitSource[] => {
      const pages = this.#keysOf(source).pages(low, unit.high)
      return pages.pageStart === pages.pageEnd ? [] : [{ source, ...pages }]
    })
    return { ...unit, low, sources }
  }

  /**
   * Collects what matches in some pages of a source. Stops before the page that is returned: behind the last one, or when
   * the collector has no more room (full), or, with `mayStop`, when enough is collected.
   */
  #readPages(
    source: number,
    pages: { readonly start: number; readonly end: number },
    rows: { readonly start: number; readonly end: number },
    mayStop: boolean,
  ): { page: number; status: Full | null; byteLengthNeeded: number } {
    const reader = this.#readerOf(source)
    const { pageStarts } = reader.layout
    const collector = this.#collector
    let countMax = this.#batchPageCountMax
    let page = pages.start
    for (;;) {
      page = this.#matcher.nextPage(reader, page, pages.end)
      if (page >= pages.end || pageStarts[page]! >= rows.end)
        return { page: pages.end, status: null, byteLengthNeeded: 0 }
      if (this.#input.isCancelled()) throw cancelled()
      const end = this.#matcher.batchEnd(reader, page, pages.end, countMax)
      const mark = this.#temporary.mark()
      const state = collector.state()
      let overflow: ScratchFull | null = null
      try {
        const match = this.#matcher.match(reader, { start: page, end }, rows, this.#temporary)
        if (match !== null) {
          if (state.rowCount + match.count <= collector.capacity) {
            collector.append(match, this.#temporary.back())
            if (mayStop) collector.extendOrder(state.rowCount)
          } else overflow = new ScratchFull(2 * this.#scratchByteLength)
        }
      } catch (error) {
        if (!(error instanceof ScratchFull)) throw error
        overflow = error
        collector.rollBack(state)
      } finally {
        this.#temporary.release(mark)
      }
      if (overflow !== null) {
        if (end - page > 1) {
          countMax = (end - page) >> 1
          continue
        }
        return { page, status: full, byteLengthNeeded: overflow.byteLengthNeeded }
      }
      this.#scannedRowCount += pageStarts[end]! - pageStarts[page]!
      page = end
      if (this.#isLimited && mayStop) return { page: pages.end, status: null, byteLengthNeeded: 0 }
      if (mayStop && this.#isFull) return { page, status: null, byteLengthNeeded: 0 }
    }
  }

  #finish(next: ScanPosition | null): ScanResult {
    const { rowCountMax, messageRowCountMax, shape } = this.#input
    const collector = this.#collector
    const isLimited = this.#isLimited
    const rowCount = isLimited ? rowCountMax! : collector.rowCount
    const messages: ScanMessage[] = []
    const counts = {
      scannedRowCount: this.#scannedRowCount,
      skippedPageCount: this.#matcher.skippedPageCount,
      readPageCount: this.#matcher.readPageCount,
    }
    if (rowCount > 0) {
      const byteLength = rowCount * ItemCollector.rowByteLength(shape) + collector.textByteLength
      const byBytes = Math.max(1, Math.ceil(rowCount / Math.ceil(byteLength / messageByteLengthMax)))
      const rowCountEach = messageRowCountMax === 0 ? byBytes : messageRowCountMax
      const frame = collector.finish(rowCount, this.#output)
      for (let start = 0; start < rowCount; start += rowCountEach) {
        const end = Math.min(rowCount, start + rowCountEach)
        messages.push(this.#message(sliceFrame(this.kernels, this.#output, frame, start, end)))
      }
    }
    const lastKey = rowCountMax !== null && rowCount > 0 ? collector.keyAt(rowCount - 1) : null
    return { messages, next: isLimited ? null : next, isLimited, lastKey, ...counts }
  }

  #message(frame: FrameSlice): ScanMessage {
    const { rowCount } = frame
    if (this.#input.format === 'columns') return { rowCount, bytes: null, frame }
    const bound = encodedFrameBound(frame)
    const byteOffset = this.#output.allocate(bound)
    const byteLength = encodeFrame(this.kernels, frame, byteOffset, bound)
    // What the encoder left is for the next message.
    this.#output.release(byteOffset + Math.ceil(byteLength / 16) * 16)
    return { rowCount, bytes: { byteOffset, byteLength }, frame: null }
  }
}

function cancelled(): FramesError {
  return new FramesError('CANCELLED', 'the read was cancelled')
}
