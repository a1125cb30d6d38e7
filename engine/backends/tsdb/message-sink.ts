// Rows of label sets become messages: finished wire frames, or columns.
import { assert } from '../../assert.js'
import { encodedFrameBound, encodeFrame, type PutValues } from '../../codec/wire.js'
import type { ColumnSlice, FrameSlice } from '../../frame/column-slice.js'
import type { DType } from '../../frame/dtype.js'
import type { ColumnEntry } from '../../blocks/block.js'
import type { Kernels } from '../../kernels/kernels.js'
import { readJobByteLength, readMessageByteLength } from '../../limits.js'
import { copyBytes } from '../../memory/copy.js'
import { Scratch } from '../../memory/scratch.js'
import type { Labels } from './label-tail.js'
import { labelTail, labelTails, shownLabelColumns } from './label-tail.js'
import { aliasesOf, checkAliases } from './plan.js'
import type { WantedColumns } from './pools.js'
import { type CollectedPage, RowCollector } from './row-collector.js'
import type { NumberList, ScanFrame, ScanInput, ScanPosition, ScanResult, ScanSet } from './scan-input.js'
import { rowCountNone } from './scan-input.js'
import type { Batch, BatchColumn, PageRows } from './series-reader.js'
import { bitmapByteLength, cellsOfPage, timesOfPage } from './series-reader.js'
import type { MetricType } from './signature.js'

/** Rows of a message, whatever their size: pointers of the collector stay small. */
const messageRowCountMax = 65_536
/** An entry of the kernel wirePages, what pages hold, and the faults that it finds. */
const pageEntryByteLength = 24
const kindOfPages: Readonly<Partial<Record<DType, number>>> = { int64: 0, float64: 1, time: 2 }
const badChecksum = 1
const noRoom = 3
/** Stored pages of times that a job keeps, to know those that are alike again. */
const keptTimesByteLengthMax = 64 * 1024
const keptTimesCountMax = 16
const noLabels: FrameSlice['labels'] = []
/** An entry of a null map, without its name. */
const nullEntryByteLength = 8

/** A column of numbers without missing cells. */
function sliceOf(name: string, dtype: MetricType | 'time', rowCount: number, valuesPtr: number): ColumnSlice {
  return { name, dtype, kind: 'slice', rowCount, valuesPtr, validityPtr: 0, bytesPtr: 0, byteLength: 0 }
}

function typesOf({ columns }: WantedColumns): string {
  return columns.map(({ type }) => type).join()
}

/** Rows of a message with these columns. */
function capacityOf({ columns }: WantedColumns, messageLimit: number): number {
  let rowByteLength = 9
  for (let i = 0; i < columns.length; i++) {
    const { type } = columns[i]!
    rowByteLength += type === 'bool' ? 1 : type === 'string' ? 16 : 8
  }
  const limit = messageLimit > 0 ? messageLimit : messageRowCountMax
  return Math.max(1, Math.min(limit, messageRowCountMax, Math.floor(readMessageByteLength / rowByteLength)))
}

/** A batch without its first rows. */
export function shiftBatch(
  kernels: Kernels,
  temporary: Scratch,
  batch: Batch,
  row: number,
  metrics: readonly { readonly type: MetricType }[],
): Batch {
  const rowCount = batch.rowCount - row
  const shiftBits = (ptr: number): number => {
    const targetPtr = temporary.allocate(bitmapByteLength(rowCount))
    kernels.call.copyBits(ptr, row, targetPtr, 0, rowCount)
    return targetPtr
  }
  const columns = batch.columns.map((cells, i): BatchColumn | null => {
    if (cells === null) return null
    const { type } = metrics[i]!
    const valuesPtr = type === 'bool' ? shiftBits(cells.valuesPtr) : cells.valuesPtr + row * (type === 'string' ? 4 : 8)
    return {
      valuesPtr,
      validityPtr: cells.validityPtr === 0 ? 0 : shiftBits(cells.validityPtr),
      bytesPtr: cells.bytesPtr,
    }
  })
  return { rowCount, timesPtr: batch.timesPtr + 8 * row, columns, digests: null }
}

/** A finished message of buckets. The next one of the same buckets and columns differs in its values and labels only. */
interface Pattern {
  readonly wanted: WantedColumns
  readonly rowCount: number
  readonly firstBucket: number
  /** The message without its labels, and where its values stand. */
  readonly ptr: number
  readonly byteLength: number
  readonly valuePtrs: readonly number[]
}

/** Times of a message: the stored pages they were made of, as entries of wirePages, and where what became of them stands. */
interface KeptTimes {
  readonly entriesPtr: number
  readonly pageCount: number
  readonly rowCount: number
  wirePtr: number
  readonly wireByteLength: number
}

/** Messages up to so many are told in a plain list: a typed array has memory of its own, on both sides of a message. */
const listedPlaceCountMax = 16

/** Where finished messages stand: rows, byte offset and byte length of each. */
class MessagePlaces {
  /** The first ones; then all are in #words. */
  #list: number[] = []
  #words: Uint32Array | null = null
  #count = 0

  /** Room for so many more words. */
  #reserve(wordCount: number): Uint32Array {
    const needed = this.#count + wordCount
    const old = this.#words
    if (old !== null && needed <= old.length) return old
    const words = new Uint32Array(Math.max(needed, 2 * this.#count, 3 * 64))
    words.set(old === null ? this.#list : old.subarray(0, this.#count))
    this.#words = words
    return words
  }

  add(rowCount: number, byteOffset: number, byteLength: number): void {
    if (this.#words === null && this.#count < 3 * listedPlaceCountMax) {
      this.#list.push(rowCount, byteOffset, byteLength)
      this.#count += 3
      return
    }
    const words = this.#reserve(3)
    words[this.#count++] = rowCount
    words[this.#count++] = byteOffset
    words[this.#count++] = byteLength
  }

  addAll(added: Uint32Array): void {
    this.#reserve(added.length).set(added, this.#count)
    this.#count += added.length
  }

  get all(): NumberList {
    return this.#words === null ? this.#list : this.#words.slice(0, this.#count)
  }
}

/** Buckets of several units, one behind the other, whose rows stand in the same buckets. */
export interface AlikeUnits {
  readonly sets: Uint32Array
  readonly rowCount: number
  readonly firstBucket: number
  /** f64: column c of unit u begins at valuesPtr + c × columnStride + u × unitStride, in bytes. */
  readonly valuesPtr: number
  readonly columnStride: number
  readonly unitStride: number
}

/** What tails of labels are kept by, for the labels of groups: those of one shape of reads are one list. */
const tailNames = new WeakMap<readonly string[], { readonly labelsId: string; readonly name: string }>()

function tailNameOf(labelsId: string, groupBy: readonly string[]): string {
  let known = tailNames.get(groupBy)
  if (known?.labelsId !== labelsId) {
    known = { labelsId, name: `${labelsId}:${groupBy.join()}` }
    tailNames.set(groupBy, known)
  }
  return known.name
}

/** Collects rows of one label set after another and closes messages when they are large enough. */
export class MessageSink {
  /** Columns, where those are wanted. */
  readonly frames: ScanFrame[] = []
  readonly #places = new MessagePlaces()
  #sentRowCount = 0
  #byteLength = 0
  /** Of the rows collected; see #extraOf. */
  #extraByteLength = 0
  #collector: RowCollector | null = null
  #types = ''
  #capacity = 0
  #index = 0
  #set: ScanSet | null = null
  #wanted: WantedColumns | null = null
  #columnNumbers: readonly number[] = []
  /** Where column i of a batch goes; null: not worked out yet. */
  #batchNumbers: readonly number[] | null = null
  readonly #mark: number
  readonly #aliases: ReadonlySet<string>
  /** What tells tails of labels apart, beside the set. */
  readonly #tailOf: string
  readonly #takesPatterns: boolean
  #pattern: Pattern | null = null
  /**
   * Label sets that report together have the same pages of times: such a column is a copy of what another one became. The
   * messages of a job stay where they are until it ends.
   */
  readonly #keptTimes: KeptTimes[] = []
  readonly #ofKeptTimes: Scratch | null
  /** The one that is written now: where its values stand is known afterwards. */
  #newTimes: KeptTimes | null = null
  /** The buckets of the message under way, if it can become a pattern. */
  #patternBuckets: Pick<Pattern, 'rowCount' | 'firstBucket'> | null = null

  constructor(
    readonly kernels: Kernels,
    readonly output: Scratch,
    readonly collected: Scratch,
    readonly temporary: Scratch,
    readonly input: ScanInput,
    /** A job ends when its messages have so many bytes. */
    readonly jobByteLength: number,
  ) {
    const keepsTimes = input.format === 'wire' && input.plan.mode === 'raw'
    this.#ofKeptTimes = keepsTimes
      ? new Scratch({ byteOffset: collected.allocate(keptTimesByteLengthMax), byteLength: keptTimesByteLengthMax })
      : null
    this.#mark = collected.mark()
    this.#aliases = aliasesOf(input.plan)
    const { groupBy } = input.plan
    this.#takesPatterns = input.format === 'wire' && input.rowCountMax === rowCountNone
    this.#tailOf = groupBy === null ? input.labelsId : tailNameOf(input.labelsId, groupBy)
  }

  /** Enough for one job. */
  get isLarge(): boolean {
    return this.#byteLength >= this.jobByteLength
  }

  get isAtRowLimit(): boolean {
    return this.#sentRowCount + this.#collectedRowCount >= this.input.rowCountMax
  }

  get #collectedRowCount(): number {
    return this.#collector === null ? 0 : this.#collector.rowCount
  }

  begin(index: number, set: ScanSet, wanted: WantedColumns): void {
    const isAsBefore = wanted === this.#wanted
    this.#patternBuckets = null
    this.#index = index
    this.#set = set
    this.#wanted = wanted
    const { plan } = this.input
    // Which labels there are is known here only, but for those of groups.
    if (this.#aliases.size > 0 && plan.groupBy === null)
      checkAliases(
        this.#aliases,
        this.input.labelsOf(set.set).map(([label]) => label),
      )
    if (isAsBefore) {
      this.#collector?.clear()
      return
    }
    if (this.#collector !== null && typesOf(wanted) === this.#types) this.#collector.clear()
    else {
      this.#collector = null
      this.collected.release(this.#mark)
      this.#capacity = capacityOf(wanted, plan.messageLimit)
    }
    this.#batchNumbers = null
  }

  /** What collects the rows of the message under way; made for the first rows that must be collected. */
  #collecting(): RowCollector {
    if (this.#collector !== null) return this.#collector
    const wanted = this.#wanted!
    const collector = new RowCollector(this.kernels, this.collected, this.#capacity)
    this.#columnNumbers = wanted.columns.map(({ type }) => collector.addColumn(type))
    this.#types = typesOf(wanted)
    collector.clear()
    this.#collector = collector
    return collector
  }

  /** Raw batches have a column a metric; the frame also has those that the set lacks. */
  #numbersOfBatch(): readonly number[] {
    if (this.#batchNumbers !== null) return this.#batchNumbers
    const { columns } = this.#wanted!
    const all = this.#columnNumbers
    const numbers = this.input.plan.mode === 'raw' ? all.filter((_, i) => columns[i]!.metric >= 0) : all
    this.#batchNumbers = numbers
    return numbers
  }

  /**
   * Takes rows; what it could not take is named by the position returned. With `keepsWhole` no message is closed: what
   * does not fit into the one under way is not taken.
   */
  push(batch: Batch, keepsWhole = false): ScanPosition | null {
    const { plan, rowCountMax } = this.input
    const wanted = this.#wanted!
    const collector = this.#collecting()
    const isRaw = plan.mode === 'raw'
    const numbers = this.#numbersOfBatch()
    if (batch.page !== undefined) {
      const isWhole = numbers.length === wanted.columns.length
      if (isWhole && collector.takesPages) return this.#pushPage(batch, batch.page)
      const { rowCount, page } = batch
      const timesPtr = batch.timesPtr === 0 ? timesOfPage(page) : batch.timesPtr
      return this.push({ rowCount, timesPtr, columns: cellsOfPage(page), digests: null }, keepsWhole)
    }
    if (collector.pages.length > 0) collector.settle(numbers)
    const types = isRaw ? wanted.metrics : wanted.columns
    if (keepsWhole) {
      const extra = this.#extraByteLength + this.#extraOf(batch, batch.rowCount)
      if (collector.rowCount + batch.rowCount > this.#capacity || extra > readMessageByteLength)
        return this.#positionOf(batch)
      collector.append(batch, batch.rowCount, numbers, isRaw)
      this.#extraByteLength = extra
      return null
    }
    for (let rows = batch; ; ) {
      const room = Math.min(this.#capacity - collector.rowCount, rowCountMax - this.#sentRowCount - collector.rowCount)
      const taken = this.#rowsThatFit(rows, Math.min(rows.rowCount, room))
      if (taken > 0) collector.append(rows, taken, numbers, isRaw)
      this.#extraByteLength += this.#extraOf(rows, taken)
      if (collector.rowCount >= this.#capacity || this.#extraByteLength >= readMessageByteLength) this.#close()
      if (taken === rows.rowCount) return null
      // More may fit: this step took only what fills a message.
      const rest = taken > 0 ? shiftBatch(this.kernels, this.temporary, rows, taken, types) : rows
      if (this.isAtRowLimit) {
        // Rows without any cell are no reason to go on.
        if (isRaw && !collector.hasCells(rest)) return null
      } else if (!this.isLarge) {
        rows = rest
        continue
      }
      return this.#positionOf(rest)
    }
  }

  reserve(rowCount: number, firstBucket: number): readonly number[] | null {
    if (!this.#takesPatterns || this.#collectedRowCount > 0 || rowCount > this.#capacity) return null
    const pattern = this.#pattern
    if (
      pattern === null ||
      pattern.wanted !== this.#wanted ||
      pattern.rowCount !== rowCount ||
      pattern.firstBucket !== firstBucket
    ) {
      this.#patternBuckets = { rowCount, firstBucket }
      return null
    }
    const { output, kernels } = this
    const tail = this.#tail(this.#set!.set, rowCount)
    const byteLength = pattern.byteLength + tail.length
    const byteOffset = output.allocate(byteLength)
    kernels.call.copyBytes(pattern.ptr, pattern.byteLength, byteOffset)
    kernels.u8.set(tail, byteOffset + pattern.byteLength)
    this.#places.add(rowCount, byteOffset, byteLength)
    this.#sentRowCount += rowCount
    this.#byteLength += byteLength
    const distance = byteOffset - pattern.ptr
    return pattern.valuePtrs.map((ptr) => ptr + distance)
  }

  sendWhole({ rowCount, timesPtr, columns: cells }: Batch): boolean {
    if (this.#collectedRowCount > 0 || rowCount > this.#capacity) return false
    if (rowCount > this.input.rowCountMax - this.#sentRowCount) return false
    const columns: ColumnSlice[] = []
    const wanted = this.#wanted!.columns
    for (let i = 0; i < wanted.length; i++)
      columns.push(sliceOf(wanted[i]!.name, 'float64', rowCount, cells[i]!.valuesPtr))
    const time = sliceOf('time', 'time', rowCount, timesPtr)
    this.#write({ rowCount, columns, indices: [time], labels: noLabels }, this.#set!.set, null)
    this.#sentRowCount += rowCount
    return true
  }

  /**
   * Takes the first of some units that have the columns of the last message, and rows of the same buckets. Returns how many it
   * took; 0: there is no such message, and the next one is to come by itself.
   */
  repeat({ sets, rowCount, firstBucket, valuesPtr, columnStride, unitStride }: AlikeUnits): number {
    const pattern = this.#pattern
    if (pattern === null || pattern.wanted !== this.#wanted || this.#collectedRowCount > 0) return 0
    if (pattern.rowCount !== rowCount || pattern.firstBucket !== firstBucket) return 0
    const { kernels, output, collected, input } = this
    const { call, u8, u32 } = kernels
    const { multiIndex } = input.plan
    const tailByteLength = this.#tail(sets[0]!, rowCount).length
    const room = Math.ceil((this.jobByteLength - this.#byteLength) / (pattern.byteLength + tailByteLength))
    const roomOfTails = Math.ceil(readJobByteLength / (tailByteLength + 16))
    const count = Math.max(1, Math.min(sets.length, room, roomOfTails))
    const taken = count === sets.length ? sets : sets.subarray(0, count)
    const tails = labelTails(this.#tailOf, taken, rowCount, multiIndex, (i) => this.#tail(taken[i]!, rowCount))
    const mark = collected.mark()
    const placesPtr = collected.allocate(12 * count)
    const valuePlacesPtr = collected.allocate(4 * pattern.valuePtrs.length)
    for (let i = 0; i < pattern.valuePtrs.length; i++)
      u32[(valuePlacesPtr >> 2) + i] = pattern.valuePtrs[i]! - pattern.ptr
    const offsetsPtr = collected.allocate(4 * (count + 1))
    u32.set(tails.offsets, offsetsPtr >> 2)
    const tailsPtr = collected.allocate(tails.bytes.length)
    copyBytes(tails.bytes, u8, tailsPtr)
    const byteLength = count * pattern.byteLength + tails.bytes.length
    const targetPtr = output.allocate(byteLength)
    const written = call.repeatMessage(
      pattern.ptr,
      pattern.byteLength,
      valuePlacesPtr,
      pattern.valuePtrs.length,
      rowCount,
      valuesPtr,
      columnStride,
      unitStride,
      offsetsPtr,
      tailsPtr,
      count,
      targetPtr,
      byteLength,
      placesPtr,
    )
    assert(written === byteLength, 'messages of one pattern are as long as it and their tails')
    this.#places.addAll(u32.subarray(placesPtr >> 2, (placesPtr >> 2) + 3 * count))
    collected.release(mark)
    this.#sentRowCount += count * rowCount
    this.#byteLength += byteLength
    return count
  }

  /** What has been made of a read. */
  result(next: ScanPosition | null): ScanResult {
    const wire = this.input.format === 'wire' ? this.#places.all : null
    return { wire, frames: this.frames, next }
  }

  /** As push, for rows that have all their cells. */
  #pushPage({ rowCount, timesPtr }: Batch, page: PageRows): ScanPosition | null {
    const collector = this.#collecting()
    const timesFrom = (row: number): number => (timesPtr === 0 ? 0 : timesPtr + 8 * row)
    for (let row = 0; ; ) {
      const limited = this.input.rowCountMax - this.#sentRowCount - collector.rowCount
      const taken = Math.min(rowCount - row, this.#capacity - collector.rowCount, limited)
      if (taken > 0) collector.appendPage(page, page.from + row, taken, timesFrom(row))
      if (collector.rowCount >= this.#capacity) this.#close()
      row += taken
      if (row === rowCount) return null
      if (this.isAtRowLimit || this.isLarge)
        return this.#positionOf({ timesPtr: (timesPtr === 0 ? timesOfPage(page) : timesPtr) + 8 * row })
    }
  }

  #positionOf({ timesPtr }: Pick<Batch, 'timesPtr'>): ScanPosition {
    return { index: this.#index, fromNs: this.kernels.i64[timesPtr >> 3]!, carry: [], ordered: null }
  }

  /** Whether the first row of a batch would be a row of a message: it has a cell. */
  takesFirst(batch: Batch): boolean {
    return this.input.plan.mode !== 'raw' || this.#collecting().hasCells({ ...batch, rowCount: 1 })
  }

  /** Forgets the rows of the message under way. */
  discard(): void {
    this.#extraByteLength = 0
    this.#collector?.clear()
  }

  /** What rows [0, rowCount) of a batch take beyond their cells of fixed size: text, and names in null maps. */
  #extraOf(batch: Batch, rowCount: number): number {
    if (this.input.plan.mode !== 'raw') return 0
    const { call, u32 } = this.kernels
    let byteLength = 0
    for (const { name, type, metric } of this.#wanted!.columns) {
      const cells = metric < 0 ? null : batch.columns[metric]!
      if (type === 'string' && cells !== null) {
        const offsets = cells.valuesPtr >> 2
        byteLength += u32[offsets + rowCount]! - u32[offsets]!
      }
      if (cells !== null && cells.validityPtr === 0) continue
      const presentCount = cells === null ? 0 : call.countBits(cells.validityPtr, rowCount)
      byteLength += (rowCount - presentCount) * (name.length + nullEntryByteLength)
    }
    return byteLength
  }

  /** How many of `rowCount` rows one step takes, at least one: a page of wide rows would make too large a message. */
  #rowsThatFit(batch: Batch, rowCount: number): number {
    if (rowCount <= 1 || this.#extraOf(batch, rowCount) <= readMessageByteLength) return rowCount
    let fits = 1
    let tooMany = rowCount
    while (fits + 1 < tooMany) {
      const middle = (fits + tooMany) >>> 1
      if (this.#extraOf(batch, middle) <= readMessageByteLength) fits = middle
      else tooMany = middle
    }
    return fits
  }

  end(): void {
    this.#close()
  }

  /** Ends the message under way, its last row first; of more rows than the limit allows the last ones are taken. */
  endReversed(): void {
    const rowCount = this.#collectedRowCount
    this.#close(Math.min(rowCount, this.input.rowCountMax - this.#sentRowCount))
  }

  /** `reversedCount`: so many of the last rows, the last one first; null: all as they are. */
  #close(reversedCount: number | null = null): void {
    const collector = this.#collector
    const rowCount = reversedCount ?? this.#collectedRowCount
    if (rowCount === 0 || collector === null) return
    const set = this.#set!
    const mark = this.collected.mark()
    const { pages } = collector
    let columns: ColumnSlice[] = this.#wanted!.columns.map(({ name, type }, i) => {
      // The values are put where they belong when the message is written.
      if (pages.length > 0) return sliceOf(name, type, rowCount, 0)
      const { valuesPtr, validityPtr, bytesPtr, byteLength } = collector.column(this.#columnNumbers[i]!)
      return { name, dtype: type, kind: 'slice', rowCount, valuesPtr, validityPtr, bytesPtr, byteLength }
    })
    let time = sliceOf('time', 'time', rowCount, collector.timesPtr)
    if (reversedCount !== null) {
      const indexesPtr = this.collected.allocate(4 * rowCount)
      for (let i = 0; i < rowCount; i++) this.kernels.u32[(indexesPtr >> 2) + i] = collector.rowCount - 1 - i
      columns = columns.map((column) => gatheredColumn(this.kernels, this.collected, column, indexesPtr))
      time = gatheredColumn(this.kernels, this.collected, time, indexesPtr)
    }
    const put = pages.length > 0 ? this.#pageWriter(pages) : null
    this.#write({ rowCount, columns, indices: [time], labels: noLabels }, set.set, put)
    this.collected.release(mark)
    this.#sentRowCount += rowCount
    this.#extraByteLength = 0
    collector.clear()
  }

  /** Writes the values of a column out of its pages. */
  #pageWriter(pages: readonly CollectedPage[]): PutValues {
    const { call } = this.kernels
    const entriesPtr = this.collected.allocate(pageEntryByteLength * pages.length)
    const { columns } = this.#wanted!
    const write = (columnOf: (page: CollectedPage) => ColumnEntry, targetPtr: number, targetEnd: number): number => {
      const { densePtr } = pages[0]!.reader.io
      const kind = kindOfPages[columnOf(pages[0]!).dtype]!
      const written = call.wirePages(entriesPtr, pages.length, kind, densePtr, targetPtr, targetEnd)
      if (written >= 0) return written
      const faulty = pages[-written >> 2]!
      const fault = -written & 3
      assert(fault !== noRoom, 'the message has room for its columns')
      throw faulty.reader.damageOf(columnOf(faulty), faulty.page, fault === badChecksum)
    }
    return (column, targetPtr, targetEnd) => {
      if (column === columns.length) return this.#putTimes(pages, entriesPtr, targetPtr, targetEnd, write)
      const { metric } = columns[column]!
      for (let i = 0; i < pages.length; i++) {
        const { reader, page, from, rowCount, entries } = pages[i]!
        reader.locate(entries[metric]!, page, from, from + rowCount, entriesPtr + pageEntryByteLength * i)
      }
      return write(({ entries }) => entries[metric]!, targetPtr, targetEnd)
    }
  }

  /** Writes the times of pages: a copy where those of another message were made of the same bytes. */
  #putTimes(
    pages: readonly CollectedPage[],
    entriesPtr: number,
    targetPtr: number,
    targetEnd: number,
    write: (columnOf: (page: CollectedPage) => ColumnEntry, targetPtr: number, targetEnd: number) => number,
  ): number {
    const collector = this.#collector!
    const { call } = this.kernels
    if (pages.some(({ hasTimes }) => hasTimes)) {
      collector.decodeTimes()
      return call.wireEncodeVarints(collector.timesPtr, collector.rowCount, targetPtr, targetEnd)
    }
    for (let i = 0; i < pages.length; i++) {
      const { reader, page, from, rowCount, timeColumn } = pages[i]!
      reader.locate(timeColumn, page, from, from + rowCount, entriesPtr + pageEntryByteLength * i)
    }
    const { rowCount } = collector
    for (const kept of this.#keptTimes) {
      if (kept.rowCount !== rowCount || kept.pageCount !== pages.length) continue
      // Their checksums need no look: those bytes fitted theirs, which are the same.
      if (call.arePagesAlike(entriesPtr, kept.entriesPtr, pages.length) === 0) continue
      assert(targetEnd - targetPtr >= kept.wireByteLength, 'the message has room for its times')
      call.copyBytes(kept.wirePtr, kept.wireByteLength, targetPtr)
      return kept.wireByteLength
    }
    const wireByteLength = write(({ timeColumn }) => timeColumn, targetPtr, targetEnd)
    this.#keepTimes(entriesPtr, pages.length, wireByteLength)
    return wireByteLength
  }

  /** Keeps pages of times, if there is room. Where their values stand is known when the message is written. */
  #keepTimes(entriesPtr: number, pageCount: number, wireByteLength: number): void {
    const scratch = this.#ofKeptTimes
    if (scratch === null || this.#keptTimes.length === keptTimesCountMax) return
    const { call, u32 } = this.kernels
    let byteLength = 0
    for (let i = 0; i < pageCount; i++) byteLength += u32[(entriesPtr >> 2) + 6 * i + 1]!
    const listByteLength = pageEntryByteLength * pageCount
    if (listByteLength + byteLength > scratch.byteLengthFree) return
    const keptPtr = scratch.allocate(listByteLength + byteLength)
    call.copyBytes(entriesPtr, listByteLength, keptPtr)
    let at = keptPtr + listByteLength
    for (let entry = keptPtr >> 2; entry < (keptPtr + listByteLength) >> 2; entry += 6) {
      call.copyBytes(u32[entry]!, u32[entry + 1]!, at)
      u32[entry] = at
      at += u32[entry + 1]!
    }
    const { rowCount } = this.#collector!
    this.#newTimes = { entriesPtr: keptPtr, pageCount, rowCount, wirePtr: 0, wireByteLength }
  }

  /** Writes the frame of a label set, whose labels are added here. */
  #write(frame: FrameSlice, set: number, put: PutValues | null): void {
    const { output, kernels, collected } = this
    const { rowCount } = frame
    const { multiIndex } = this.input.plan
    if (this.input.format === 'columns') {
      const start = output.mark()
      const labels = this.#labelsOf(set)
      const constants = shownLabelColumns(kernels, collected, labels, rowCount)
      const copy = copyFrame(kernels, output, {
        rowCount,
        columns: multiIndex ? frame.columns : [...frame.columns, ...constants],
        indices: multiIndex ? [...frame.indices, ...constants] : frame.indices,
        labels: labels.map(([name, value]) => ({ name, value })),
      })
      this.#byteLength += output.mark() - start
      this.frames.push({ rowCount, frame: copy })
      return
    }
    const tail = this.#tail(set, rowCount)
    const bound = encodedFrameBound(frame)
    const byteOffset = output.allocate(bound + tail.length)
    const valuePtrs: number[] = []
    const headByteLength = encodeFrame(kernels, frame, byteOffset, bound, valuePtrs, put)
    const buckets = this.#patternBuckets
    if (this.#newTimes !== null) {
      this.#newTimes.wirePtr = valuePtrs[frame.columns.length]!
      this.#keptTimes.push(this.#newTimes)
      this.#newTimes = null
    }
    if (put === null && buckets !== null && buckets.rowCount === rowCount && frame.columns.every(isPlain))
      // Not spread: V8 makes the shape of such an object anew each time, which takes as long as the encoding.
      this.#pattern = {
        wanted: this.#wanted!,
        rowCount,
        firstBucket: buckets.firstBucket,
        ptr: byteOffset,
        byteLength: headByteLength,
        valuePtrs,
      }
    kernels.u8.set(tail, byteOffset + headByteLength)
    const byteLength = headByteLength + tail.length
    output.release(byteOffset)
    output.allocate(byteLength)
    this.#byteLength += byteLength
    this.#places.add(rowCount, byteOffset, byteLength)
  }

  #labelsOf(set: number): Labels {
    const { groupBy } = this.input.plan
    const labels = this.input.labelsOf(set)
    return groupBy === null ? labels : labels.filter(([name]) => groupBy.includes(name))
  }

  #tail(set: number, rowCount: number): Uint8Array {
    const { kernels, collected, input } = this
    return labelTail(kernels, collected, this.#tailOf, set, () => this.#labelsOf(set), rowCount, input.plan.multiIndex)
  }
}

/** Whether only the values of a column differ from message to message. */
function isPlain({ dtype, validityPtr }: ColumnSlice): boolean {
  return dtype === 'float64' && validityPtr === 0
}

/** The rows of a column that a list of indexes names, so many as the column is told to have. */
function gatheredColumn(kernels: Kernels, scratch: Scratch, column: ColumnSlice, indexesPtr: number): ColumnSlice {
  const { call } = kernels
  const { dtype, rowCount } = column
  let { validityPtr } = column
  if (validityPtr !== 0) {
    validityPtr = scratch.allocate(bitmapByteLength(rowCount))
    call.gatherBits(column.validityPtr, indexesPtr, rowCount, validityPtr)
  }
  if (dtype === 'string') {
    const byteLength = call.gatheredStringsByteLength(column.valuesPtr, indexesPtr, rowCount)
    const valuesPtr = scratch.allocate(4 * (rowCount + 1))
    const bytesPtr = scratch.allocate(byteLength)
    call.gatherStrings(column.valuesPtr, column.bytesPtr, indexesPtr, rowCount, valuesPtr, bytesPtr)
    return { ...column, validityPtr, valuesPtr, bytesPtr, byteLength }
  }
  const valuesPtr = scratch.allocate(dtype === 'bool' ? bitmapByteLength(rowCount) : 8 * rowCount)
  if (dtype === 'bool') call.gatherBits(column.valuesPtr, indexesPtr, rowCount, valuesPtr)
  else call.gather64(column.valuesPtr, indexesPtr, rowCount, valuesPtr)
  return { ...column, validityPtr, valuesPtr }
}

/** A frame whose buffers stand in `target`, for a reader that wants columns. */
function copyFrame(kernels: Kernels, target: Scratch, frame: FrameSlice): FrameSlice {
  const { u8, u32, call } = kernels
  const copyBytes = (ptr: number, byteLength: number): number => {
    const targetPtr = target.allocate(byteLength)
    u8.copyWithin(targetPtr, ptr, ptr + byteLength)
    return targetPtr
  }
  const copyColumn = (column: ColumnSlice): ColumnSlice => {
    const rowCount = column.kind === 'label' ? 1 : column.rowCount
    const validityPtr = column.validityPtr === 0 ? 0 : copyBytes(column.validityPtr, Math.ceil(rowCount / 8))
    if (column.dtype === 'string') {
      const byteLength = u32[(column.valuesPtr >> 2) + rowCount]! - u32[column.valuesPtr >> 2]!
      const valuesPtr = target.allocate(4 * (rowCount + 1))
      const bytesPtr = target.allocate(byteLength)
      call.copyStrings(column.valuesPtr, column.bytesPtr, 0, rowCount, valuesPtr, 0, bytesPtr)
      return { ...column, valuesPtr, validityPtr, bytesPtr, byteLength }
    }
    return {
      ...column,
      valuesPtr: copyBytes(column.valuesPtr, column.dtype === 'bool' ? Math.ceil(rowCount / 8) : 8 * rowCount),
      validityPtr,
    }
  }
  return { ...frame, columns: frame.columns.map(copyColumn), indices: frame.indices.map(copyColumn) }
}
