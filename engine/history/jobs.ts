// The worker half of the history: entries become blocks, small blocks become large ones, and blocks become frames.
import { BlockBuilder, PageEncoder } from '../blocks/builder.js'
import type { PreparedBlock } from '../blocks/merge-rule.js'
import { BlockIo, BlockReader, type BlockSource, type DecodedPage } from '../blocks/reader.js'
import { encodedFrameBound, encodeFrame } from '../codec/wire.js'
import { bitmapByteLength } from '../frame/bitmap.js'
import type { ColumnSlice, FrameSlice } from '../frame/column-slice.js'
import type { Kernels } from '../kernels/kernels.js'
import { pageRowCountMax } from '../limits.js'
import { Scratch } from '../memory/scratch.js'
import type { Slice } from '../memory/slice.js'
import { type JobHandler, throwIfCancelled } from '../pool/context.js'
import type { Job } from '../pool/job.js'
import type { WorkerAccess, WorkerReader } from '../stores/store.js'
import type { HistoryFilter } from './filter.js'
import { headTexts, type LaidEntries, ownTexts, rowFieldCount, rowFields } from './pending.js'
import { decodeData, decodeExtent, encodeExtent, numberColumns, storedColumns, textColumns } from './stored.js'

/** Where the blocks of the history stand. */
export interface HistoryPlace {
  readonly partition: string
  readonly tableName: string
  readonly access: WorkerAccess
}

/** Writes entries as one block. */
export interface AppendEntriesJob extends Job {
  readonly kind: 'history.append'
  readonly entries: LaidEntries
  readonly firstSequence: number
}

/** Writes neighbouring blocks as one. */
export interface MergeHistoryJob extends Job, HistoryPlace {
  readonly kind: 'history.merge'
  readonly sources: readonly BlockSource[]
}

/** Looks for the entries that a filter asks for, from a place on. */
export interface ReadHistoryJob extends Job, HistoryPlace {
  readonly kind: 'history.read'
  readonly sources: readonly BlockSource[]
  readonly filter: HistoryFilter
  readonly position: HistoryPosition
  readonly format: 'wire' | 'columns'
}

export interface HistoryPosition {
  readonly source: number
  readonly page: number
  readonly row: number
}

export interface ReadHistoryResult {
  /** One frame; null where none of the rows that were looked at is asked for. */
  readonly message: {
    readonly rowCount: number
    readonly bytes: Slice | null
    readonly frame: FrameSlice | null
  } | null
  readonly next: HistoryPosition | null
}

/** Rows of one frame. */
const frameRowCountMax = 1000
/** Pages that one job looks through. */
const pageCountMax = 64

/** A column in scratch, as frames and blocks take it. */
interface LaidColumn {
  readonly valuesPtr: number
  /** 0: no cell is missing. */
  readonly validityPtr: number
  readonly bytesPtr: number
  readonly byteLength: number
}

const noCells: LaidColumn = { valuesPtr: 0, validityPtr: 0, bytesPtr: 0, byteLength: 0 }

/** Room for a bitmap, all 0. */
function layBits({ u8 }: Kernels, scratch: Scratch, count: number): number {
  const byteLength = Math.ceil(count / 8)
  const ptr = scratch.allocate(byteLength)
  u8.fill(0, ptr, ptr + byteLength)
  return ptr
}

function layIntegers(kernels: Kernels, scratch: Scratch, values: readonly (bigint | null)[]): LaidColumn {
  const { u8, i64 } = kernels
  const valuesPtr = scratch.allocate(8 * values.length)
  const validityPtr = layBits(kernels, scratch, values.length)
  const first = valuesPtr >> 3
  let presentCount = 0
  for (let row = 0; row < values.length; row++) {
    const value = values[row]!
    i64[first + row] = value ?? 0n
    if (value === null) continue
    u8[validityPtr + (row >> 3)]! |= 1 << (row & 7)
    presentCount++
  }
  return { ...noCells, valuesPtr, validityPtr: presentCount === values.length ? 0 : validityPtr }
}

/** UTF-8 takes three bytes for a unit of a string at most. */
const byteLengthOfUnitMax = 3

function layTexts(kernels: Kernels, scratch: Scratch, texts: readonly (string | null)[]): LaidColumn {
  const { u8, u32 } = kernels
  // Written where they belong, without an array for each.
  const memory = Buffer.from(u8.buffer)
  let lengthMax = 0
  for (const text of texts) lengthMax += text === null ? 0 : text.length
  const valuesPtr = scratch.allocate(4 * (texts.length + 1))
  const validityPtr = layBits(kernels, scratch, texts.length)
  const bytesPtr = scratch.allocate(byteLengthOfUnitMax * lengthMax)
  const first = valuesPtr >> 2
  let byteLength = 0
  let presentCount = 0
  u32[first] = 0
  for (let row = 0; row < texts.length; row++) {
    const text = texts[row]!
    if (text !== null) {
      if (text !== '') byteLength += memory.write(text, bytesPtr + byteLength)
      u8[validityPtr + (row >> 3)]! |= 1 << (row & 7)
      presentCount++
    }
    u32[first + row + 1] = byteLength
  }
  return { valuesPtr, validityPtr: presentCount === texts.length ? 0 : validityPtr, bytesPtr, byteLength }
}

// ---- Writing ----

function builderOf(kernels: Kernels, scratch: Scratch, rowCount: number): BlockBuilder {
  const pageStarts: number[] = []
  for (let row = 0; row < rowCount; row += pageRowCountMax) pageStarts.push(row)
  pageStarts.push(rowCount)
  return new BlockBuilder(new PageEncoder(kernels, scratch, pageRowCountMax), Uint32Array.from(pageStarts))
}

const nsPerMs = 1_000_000n

/**
 * A field of all rows as whole numbers: each, of less than 2^53, times `scale`, and `base` added to it; NaN is a missing cell.
 * Numbers are those above `from`.
 */
function layNumbers(
  { u8, u32, f64 }: Kernels,
  scratch: Scratch,
  { count, rowsPtr }: LaidEntries,
  field: number,
  { from = 0, scale = 1, base = 0n } = {},
): LaidColumn {
  const valuesPtr = scratch.allocate(8 * count)
  const validityPtr = scratch.allocate(bitmapByteLength(count))
  u8.fill(0, validityPtr, validityPtr + bitmapByteLength(count))
  // In halves of 32 bits: a BigInt for each takes twenty times as long.
  const baseLow = Number(base & 0xffffffffn)
  const baseHigh = Number(base >> 32n)
  let presentCount = 0
  let at = valuesPtr >> 2
  let source = (rowsPtr >> 3) + field
  for (let row = 0; row < count; row++, at += 2, source += rowFieldCount) {
    const value = f64[source]!
    if (Number.isNaN(value)) {
      u32[at] = 0
      u32[at + 1] = 0
      continue
    }
    const whole = Math.floor((value - from) * scale)
    const high = Math.floor(whole / 2 ** 32)
    const low = whole - high * 2 ** 32 + baseLow
    u32[at] = low
    u32[at + 1] = baseHigh + high + (low >= 2 ** 32 ? 1 : 0)
    u8[validityPtr + (row >> 3)]! |= 1 << (row & 7)
    presentCount++
  }
  return { ...noCells, valuesPtr, validityPtr: presentCount === count ? 0 : validityPtr }
}

/** Texts that stand one behind the other, their lengths in a field of the rows. */
function layOwnTexts(
  { u8, u32, f64 }: Kernels,
  scratch: Scratch,
  { count, rowsPtr }: LaidEntries,
  field: number,
  bytesPtr: number,
): LaidColumn {
  const valuesPtr = scratch.allocate(4 * (count + 1))
  const validityPtr = scratch.allocate(bitmapByteLength(count))
  u8.fill(0, validityPtr, validityPtr + bitmapByteLength(count))
  const first = valuesPtr >> 2
  let source = (rowsPtr >> 3) + field
  let byteLength = 0
  let presentCount = 0
  u32[first] = 0
  for (let row = 0; row < count; row++, source += rowFieldCount) {
    const own = f64[source]!
    if (own >= 0) {
      byteLength += own
      presentCount++
      u8[validityPtr + (row >> 3)]! |= 1 << (row & 7)
    }
    u32[first + row + 1] = byteLength
  }
  return { valuesPtr, validityPtr: presentCount === count ? 0 : validityPtr, bytesPtr, byteLength }
}

/** The number of the head of each row, u32. */
function layHeadNumbers({ u32, f64 }: Kernels, scratch: Scratch, { count, rowsPtr }: LaidEntries): number {
  const numbersPtr = scratch.allocate(4 * count)
  const first = numbersPtr >> 2
  let source = (rowsPtr >> 3) + rowFields.head
  for (let row = 0; row < count; row++, source += rowFieldCount) u32[first + row] = f64[source]!
  return numbersPtr
}

/** A text of the heads, for each row that of its head. */
function layHeadTexts(
  kernels: Kernels,
  scratch: Scratch,
  { count, headCount, headLengthsPtr, headBytesPtr }: LaidEntries,
  number: number,
  headNumbersPtr: number,
): LaidColumn {
  const { call, u8, i32, u32 } = kernels
  const lengths = i32.subarray(headLengthsPtr >> 2, (headLengthsPtr >> 2) + headTexts.length * headCount)
  const totalByteLength = lengths.reduce((sum, byteLength) => sum + Math.max(0, byteLength), 0)
  // The texts of the heads as a column of their own.
  const offsetsPtr = scratch.allocate(4 * (headCount + 1))
  const textsPtr = scratch.allocate(totalByteLength)
  const presentPtr = layBits(kernels, scratch, headCount)
  let source = headBytesPtr
  let byteLength = 0
  let missingCount = 0
  u32[offsetsPtr >> 2] = 0
  for (let head = 0; head < headCount; head++) {
    for (let text = 0; text < headTexts.length; text++) {
      const own = lengths[headTexts.length * head + text]!
      if (text === number && own < 0) missingCount++
      if (text === number && own >= 0) {
        u8[presentPtr + (head >> 3)]! |= 1 << (head & 7)
        for (let i = 0; i < own; i++) u8[textsPtr + byteLength + i] = u8[source + i]!
        byteLength += own
      }
      source += Math.max(0, own)
    }
    u32[(offsetsPtr >> 2) + head + 1] = byteLength
  }
  const valuesPtr = scratch.allocate(4 * (count + 1))
  const bytesPtr = scratch.allocate(call.gatheredStringsByteLength(offsetsPtr, headNumbersPtr, count))
  const gathered = call.gatherStrings(offsetsPtr, textsPtr, headNumbersPtr, count, valuesPtr, bytesPtr)
  const validityPtr = missingCount === 0 ? 0 : scratch.allocate(bitmapByteLength(count) + 8)
  if (validityPtr !== 0) call.gatherBits(presentPtr, headNumbersPtr, count, validityPtr)
  return { valuesPtr, validityPtr, bytesPtr, byteLength: gathered }
}

const append: JobHandler<AppendEntriesJob, PreparedBlock> = (job, { kernels }) => {
  const { entries, firstSequence } = job
  const { count, rowsPtr, ownBytesPtrs } = entries
  // Pages stay at the front; the values of a column are needed only until they are encoded.
  const scratch = new Scratch(job.scratch)
  const temporary = scratch.back()
  const builder = builderOf(kernels, scratch, count)
  let startMsMin = Infinity
  let startMsMax = -Infinity
  for (let row = 0; row < count; row++) {
    const startMs = kernels.f64[(rowsPtr >> 3) + rowFieldCount * row + rowFields.startMs]!
    startMsMin = Math.min(startMsMin, startMs)
    startMsMax = Math.max(startMsMax, startMs)
  }
  for (const { name, dtype } of numberColumns) {
    const mark = temporary.mark()
    const laid =
      name === 'startTime'
        ? layNumbers(kernels, temporary, entries, rowFields.startMs, {
            from: startMsMin,
            scale: Number(nsPerMs),
            base: BigInt(startMsMin) * nsPerMs,
          })
        : layNumbers(kernels, temporary, entries, rowFields[name])
    builder.addColumn(name, { dtype, ...laid }, 0)
    temporary.release(mark)
  }
  const headNumbersPtr = layHeadNumbers(kernels, temporary, entries)
  let textByteLength = 0
  for (const name of textColumns) {
    const mark = temporary.mark()
    const own = ownTexts.indexOf(name)
    const column =
      own >= 0
        ? layOwnTexts(kernels, temporary, entries, rowFields.ownTexts + own, ownBytesPtrs[own]!)
        : layHeadTexts(kernels, temporary, entries, headTexts.indexOf(name), headNumbersPtr)
    textByteLength += column.byteLength
    builder.addColumn(name, { dtype: 'string', ...column }, 0)
    temporary.release(mark)
  }
  return builder.finish(new Uint8Array(0), encodeExtent({ firstSequence, textByteLength, startMsMin, startMsMax }))
}

const merge: JobHandler<MergeHistoryJob, PreparedBlock> = (job, context) => {
  const { kernels } = context
  const { call, u8, u32 } = kernels
  const [cache, output, temporary] = new Scratch(job.scratch).split([0.25, 0.35, 0.4]) as [Scratch, Scratch, Scratch]
  const store: WorkerReader | null = job.access === null ? null : context.reader(job.access)
  const io = new BlockIo(kernels, cache, store, job.partition, job.tableName)
  const readers = job.sources.map((source) => new BlockReader(io, source))
  const extents = job.sources.map(({ extent }) => decodeExtent(extent!))
  const rowCount = job.sources.reduce((sum, source) => sum + source.rowCount, 0)
  const textByteLength = extents.reduce((sum, extent) => sum + extent.textByteLength, 0)
  const builder = builderOf(kernels, output, rowCount)
  for (const { name, dtype } of storedColumns) {
    throwIfCancelled(job, context)
    const mark = temporary.mark()
    const isText = dtype === 'string'
    const valuesPtr = temporary.allocate(isText ? 4 * (rowCount + 1) : 8 * rowCount)
    const validityPtr = temporary.allocate(Math.ceil(rowCount / 8) + 8)
    const bytesPtr = isText ? temporary.allocate(textByteLength) : 0
    call.fillBits(validityPtr, rowCount, 0)
    if (isText) u32[valuesPtr >> 2] = 0
    let row = 0
    let textEnd = 0
    for (const reader of readers) {
      const column = reader.column(name, dtype)
      const { pageStarts, pageCount } = reader.layout
      for (let page = 0; page < pageCount; page++) {
        io.cache.beginEpoch()
        const count = pageStarts[page + 1]! - pageStarts[page]!
        const cells = column === undefined ? null : reader.page(column, page)
        if (cells === null) {
          if (isText) u32.fill(textEnd, (valuesPtr >> 2) + row, (valuesPtr >> 2) + row + count + 1)
          else u8.fill(0, valuesPtr + 8 * row, valuesPtr + 8 * (row + count))
        } else {
          if (cells.validityPtr === 0) call.setBitRange(validityPtr, row, row + count, 1)
          else call.copyBits(cells.validityPtr, 0, validityPtr, row, count)
          if (isText) {
            const target = valuesPtr + 4 * row
            textEnd = call.copyStrings(cells.valuesPtr, cells.bytesPtr, 0, count, target, textEnd, bytesPtr)
          } else u8.copyWithin(valuesPtr + 8 * row, cells.valuesPtr, cells.valuesPtr + 8 * count)
        }
        row += count
      }
    }
    builder.addColumn(name, { dtype, valuesPtr, validityPtr, bytesPtr }, 0)
    temporary.release(mark)
  }
  const { firstSequence } = extents[0]!
  const startMsMin = Math.min(...extents.map((extent) => extent.startMsMin))
  const startMsMax = Math.max(...extents.map((extent) => extent.startMsMax))
  return builder.finish(new Uint8Array(0), encodeExtent({ firstSequence, textByteLength, startMsMin, startMsMax }))
}

// ---- Reading ----

/** An entry as it is answered with. */
interface FoundEntry {
  readonly numbers: readonly (bigint | null)[]
  readonly texts: readonly (string | null)[]
}

const read: JobHandler<ReadHistoryJob, ReadHistoryResult> = (job, context) => {
  const { kernels } = context
  const [cache, output] = new Scratch(job.scratch).split([0.5, 0.5]) as [Scratch, Scratch]
  const store: WorkerReader | null = job.access === null ? null : context.reader(job.access)
  const io = new BlockIo(kernels, cache, store, job.partition, job.tableName)
  const found: FoundEntry[] = []
  let { source, page, row } = job.position
  let pageCount = 0
  let next: HistoryPosition | null = null
  for (; source < job.sources.length && next === null; source++, page = 0) {
    const reader = new BlockReader(io, job.sources[source]!)
    const { pageStarts } = reader.layout
    for (; page < reader.layout.pageCount && next === null; page++, row = 0) {
      if (pageCount++ === pageCountMax) {
        next = { source, page, row }
        break
      }
      throwIfCancelled(job, context)
      io.cache.beginEpoch()
      const entries = new EntriesPage(kernels, reader, page)
      const rowCount = pageStarts[page + 1]! - pageStarts[page]!
      for (; row < rowCount; row++) {
        if (!entries.fits(row, job.filter)) continue
        if (found.length === frameRowCountMax) {
          next = { source, page, row }
          break
        }
        found.push(entries.at(row))
      }
    }
  }
  if (found.length === 0) return { message: null, next }
  const frame = frameOf(kernels, output, found)
  const { rowCount } = frame
  if (job.format === 'columns') return { message: { rowCount, bytes: null, frame }, next }
  const bound = encodedFrameBound(frame)
  const byteOffset = output.allocate(bound)
  const byteLength = encodeFrame(kernels, frame, byteOffset, bound)
  return { message: { rowCount, bytes: { byteOffset, byteLength }, frame: null }, next }
}

/** One page of a block, all columns of it decoded. */
class EntriesPage {
  readonly #numbers: readonly (DecodedPage | null)[]
  readonly #texts: readonly (DecodedPage | null)[]

  constructor(
    readonly kernels: Kernels,
    reader: BlockReader,
    page: number,
  ) {
    const decoded = storedColumns.map(({ name, dtype }) => {
      const column = reader.column(name, dtype)
      return column === undefined ? null : reader.page(column, page)
    })
    this.#numbers = decoded.slice(0, numberColumns.length)
    this.#texts = decoded.slice(numberColumns.length)
  }

  fits(row: number, filter: HistoryFilter): boolean {
    const startNs = this.#number(0, row) ?? 0n
    if (startNs < BigInt(filter.startMsMin) * nsPerMs || startNs > BigInt(filter.startMsMax) * nsPerMs) return false
    const durationMs = Number((this.#number(1, row) ?? 0n) / nsPerMs)
    if (durationMs < filter.durationMsMin) return false
    if (filter.durationMsMax !== 0 && durationMs > filter.durationMsMax) return false
    for (const [i, name] of filterColumns) if (filter[name] !== '' && this.#text(i, row) !== filter[name]) return false
    return true
  }

  at(row: number): FoundEntry {
    return {
      numbers: numberColumns.map((_, i) => this.#number(i, row)),
      texts: textColumns.map((_, i) => this.#text(i, row)),
    }
  }

  #number(index: number, row: number): bigint | null {
    const page = this.#numbers[index]
    if (page == null || !this.#isPresent(page, row)) return null
    return this.kernels.i64[(page.valuesPtr >> 3) + row]!
  }

  #text(index: number, row: number): string | null {
    const page = this.#texts[index]
    if (page == null || !this.#isPresent(page, row)) return null
    const { u8, u32 } = this.kernels
    const offset = (page.valuesPtr >> 2) + row
    return Buffer.from(u8.slice(page.bytesPtr + u32[offset]!, page.bytesPtr + u32[offset + 1]!)).toString()
  }

  #isPresent({ validityPtr }: DecodedPage, row: number): boolean {
    return validityPtr === 0 || ((this.kernels.u8[validityPtr + (row >> 3)]! >> (row & 7)) & 1) === 1
  }
}

const filterColumns = textColumns.flatMap((name, i) =>
  name === 'backendName' || name === 'tableName' || name === 'userName' || name === 'action' || name === 'container'
    ? [[i, name] as const]
    : [],
)

/** Where each text column stands among the texts of an entry. */
const textPlace = Object.fromEntries(textColumns.map((name, i) => [name, i])) as Readonly<
  Record<(typeof textColumns)[number], number>
>

/** The columns that clients know, then what was set of the requests, then ours: those that some row has. */
function frameOf(kernels: Kernels, scratch: Scratch, entries: readonly FoundEntry[]): FrameSlice {
  const rowCount = entries.length
  const columns: ColumnSlice[] = []
  const add = (name: string, dtype: 'string' | 'int64' | 'time', cells: LaidColumn): void => {
    columns.push({ name, dtype, kind: 'slice', rowCount, ...cells })
  }
  const texts = (place: number): (string | null)[] => entries.map((entry) => entry.texts[place]!)
  const names = (place: number): string[] => texts(place).map((text) => text ?? '')
  const numbers = (index: number): (bigint | null)[] => entries.map((entry) => entry.numbers[index]!)
  const addText = (name: string, cells: readonly (string | null)[]): void => {
    if (cells.some((cell) => cell !== null)) add(name, 'string', layTexts(kernels, scratch, cells))
  }
  const addInteger = (name: string, cells: readonly (bigint | null)[]): void => {
    if (cells.some((cell) => cell !== null)) add(name, 'int64', layIntegers(kernels, scratch, cells))
  }
  add('UserName', 'string', layTexts(kernels, scratch, names(textPlace.userName)))
  add('BackendName', 'string', layTexts(kernels, scratch, names(textPlace.backendName)))
  add('TableName', 'string', layTexts(kernels, scratch, names(textPlace.tableName)))
  const durations = numbers(1).map((durationNs) => (durationNs ?? 0n) / nsPerMs)
  add('ActionDuration', 'int64', layIntegers(kernels, scratch, durations))
  add('StartTime', 'time', layIntegers(kernels, scratch, numbers(0)))
  add('ActionType', 'string', layTexts(kernels, scratch, names(textPlace.action)))
  add('Container', 'string', layTexts(kernels, scratch, names(textPlace.container)))
  const ownData = texts(textPlace.ownData)
  const data = texts(textPlace.data).map((text, row) => decodeData(text, ownData[row]!))
  const keys = new Set(data.flatMap((one) => Object.keys(one)))
  for (const key of keys)
    addText(
      key,
      data.map((one) => (Object.hasOwn(one, key) ? one[key]! : null)),
    )
  addInteger('rows', numbers(2))
  addInteger('bytes', numbers(3))
  addText('error', texts(textPlace.error))
  addText('protocol', texts(textPlace.protocol))
  addText('clientAddress', texts(textPlace.clientAddress))
  addText('requestId', texts(textPlace.requestId))
  const index: ColumnSlice = { name: 'id', dtype: 'null', kind: 'label', rowCount, ...noCells }
  return { rowCount, columns, indices: [index], labels: [] }
}

export const historyHandlers = { 'history.append': append, 'history.merge': merge, 'history.read': read }
