// Digests: what a block knows of each stretch of time of each label set, so that a bucket that covers the stretch is answered
// without its samples. They stand beside the rows, as attachments of the block; see docs/formats.md and decision 0055.
import { pageScratchByteLength } from '../../blocks/builder.js'
import type { BlockBuilder, BuilderColumn, PageEncoder } from '../../blocks/builder.js'
import type { LiveBlock } from '../../blocks/live-block.js'
import type { BlockReader } from '../../blocks/reader.js'
import { assert } from '../../assert.js'
import type { Kernels } from '../../kernels/kernels.js'
import { pageRowCountMax } from '../../limits.js'
import type { Slice } from '../../memory/slice.js'
import { dayMs, hourMs, minuteMs } from '../../time.js'
import { nsPerMs } from './bounds.js'
import type { Directory } from './directory.js'
import type { RawAggregate, TsdbSchema } from './schema.js'

/** What is known of each digest: bits as those of a window's state (see accumulateWindows); the count always is. */
export const digestFields = { sum: 2, extremes: 4, last: 8, squares: 16 } as const
const allFields = 31

/** Which digests a table's blocks have: how long they are, and what is known of each. */
export interface DigestGrain {
  readonly grainMs: number
  readonly fields: number
}

/** Arrays of a state that are stored, by field; the mean follows from count and sum. */
const storedArrays: readonly (readonly [field: number, array: number])[] = [
  [1, 0],
  [digestFields.sum, 1],
  [digestFields.extremes, 2],
  [digestFields.extremes, 3],
  [digestFields.last, 4],
  [digestFields.squares, 6],
]

/** The digests that a table is created with: pre-aggregates, in the platform's words. */
export function askedDigests({ aggregates, aggregationGranularityMs }: TsdbSchema): DigestGrain | null {
  if (aggregates.length === 0) return null
  const bits: Readonly<Record<RawAggregate, number>> = {
    count: 1,
    sum: digestFields.sum,
    // Squared deviations are about the mean.
    sqr: digestFields.squares | digestFields.sum,
    min: digestFields.extremes,
    max: digestFields.extremes,
    last: digestFields.last,
  }
  return { grainMs: aggregationGranularityMs, fields: aggregates.reduce((all, name) => all | bits[name], 1) }
}

/** Lengths that digests have where nobody asked for one. */
const grainsMs = [1000, 10_000, minuteMs, 10 * minuteMs, hourMs, 6 * hourMs, dayMs]
/** Rows of a digest, about: then digests take some 5 % of the samples' room. */
const digestRowCountMin = 180
/** Blocks with fewer rows have no digests: they are small commits, which are merged soon. */
const blockRowCountMin = 1024
/** Digests that somebody asked for have at least so many rows, about: else the rows themselves are as good. */
const askedRowCountMin = 2

const headByteLength = 8
const grainByteLength = 24

interface WrittenGrain extends DigestGrain {
  readonly digestCount: number
  /** i64 each: first row in the column that the block is cut from, times of the first and last row. */
  readonly rowsPtr: number
  readonly firstsPtr: number
  readonly lastsPtr: number
  readonly columns: number[]
  readonly parts: Slice[]
}

/** Makes the digests of one block. The column of times comes first. */
export class DigestWriter {
  readonly #kernels: Kernels
  readonly #encoder: PageEncoder
  readonly #grains: readonly WrittenGrain[]
  readonly #rowEnd: number

  /** directory: of the block; its rows begin at rowStart of the columns that are added. */
  constructor(
    encoder: PageEncoder,
    { directory, timesPtr, rowStart }: { directory: Directory; timesPtr: number; rowStart: number },
    wanted: { readonly asked: DigestGrain | null } | null,
  ) {
    this.#encoder = encoder
    this.#kernels = encoder.kernels
    const rowCount = directory.starts[directory.sets.length]!
    this.#rowEnd = rowStart + rowCount
    const grains: WrittenGrain[] = []
    const add = (grain: DigestGrain, rowCountMin: number): void => {
      const written = this.#cut(grain, directory, timesPtr, rowStart, Math.floor(rowCount / rowCountMin))
      if (written !== null) grains.push(written)
    }
    if (wanted !== null && rowCount >= blockRowCountMin) {
      const { asked } = wanted
      const own = ownGrain(encoder.kernels, directory, timesPtr, rowStart)
      if (asked !== null) add(asked, askedRowCountMin)
      if (own !== null && asked?.grainMs !== own.grainMs) add(own, digestRowCountMin / 2)
    }
    this.#grains = grains
  }

  get hasDigests(): boolean {
    return this.#grains.length > 0
  }

  #cut(
    { grainMs, fields }: DigestGrain,
    { sets, starts }: Directory,
    timesPtr: number,
    rowStart: number,
    capacity: number,
  ): WrittenGrain | null {
    const { scratch } = this.#encoder
    const { call } = this.#kernels
    const mark = scratch.mark()
    const [rowsPtr, firstsPtr, lastsPtr] = [0, 1, 2].map(() => scratch.allocate(8 * capacity)) as [
      number,
      number,
      number,
    ]
    let digestCount = 0
    for (let i = 0; i < sets.length; i++) {
      const at = 8 * digestCount
      const count = call.cutStretches(
        timesPtr,
        rowStart + starts[i]!,
        rowStart + starts[i + 1]!,
        BigInt(grainMs) * nsPerMs,
        rowsPtr + at,
        firstsPtr + at,
        lastsPtr + at,
        capacity - digestCount,
      )
      if (count < 0) {
        scratch.release(mark)
        return null
      }
      digestCount += count
    }
    // What was too much is given back; the arrays move together, each towards the front.
    scratch.release(mark)
    const [rows, firsts, lasts] = [rowsPtr, firstsPtr, lastsPtr].map((ptr) => {
      const place = scratch.allocate(8 * digestCount)
      assert(place <= ptr, 'the encoder writes from the front of its scratch on')
      call.copyBytes(ptr, 8 * digestCount, place)
      return place
    }) as [number, number, number]
    return { grainMs, fields, digestCount, rowsPtr: rows, firstsPtr: firsts, lastsPtr: lasts, columns: [], parts: [] }
  }

  /** Adds a column of values, which is the block's column `number`. False: it has no digests, for its values have no sums. */
  add(number: number, column: BuilderColumn): boolean {
    const { dtype, valuesPtr, validityPtr } = column
    if (this.#grains.length === 0 || dtype === 'string' || dtype === 'time' || dtype === 'null') return false
    const { call, f64 } = this.#kernels
    const { scratch } = this.#encoder
    for (const grain of this.#grains) {
      const { digestCount, fields, rowsPtr } = grain
      const start = scratch.mark()
      const statePtr = scratch.allocate(call.windowStateByteLength(digestCount))
      call.initWindows(statePtr, digestCount)
      const args = [valuesPtr, validityPtr, rowsPtr, digestCount, this.#rowEnd, statePtr, fields] as const
      if (dtype === 'int64') call.accumulateRunsInt64(...args)
      else if (dtype === 'bool') call.accumulateRunsBits(...args)
      else call.accumulateRunsFloat64(...args)
      const state = statePtr >> 3
      if (validityPtr !== 0) {
        // The marks of an empty bucket would be in the way of the codec.
        for (let digest = 0; digest < digestCount; digest++)
          if (f64[state + digest] === 0) for (const array of [2, 3, 4]) f64[state + array * digestCount + digest] = 0
      }
      const arrays = storedArrays.filter(([field]) => (fields & field) !== 0)
      const encoded = arrays.flatMap(([, array]) =>
        this.#pages(statePtr + 8 * array * digestCount, digestCount, 'float64'),
      )
      grain.parts.push(this.#joined(start, encoded))
      grain.columns.push(number)
    }
    return true
  }

  /** Encodes 64-bit values into scratch, 4096 at a time, each page behind its length. */
  #pages(valuesPtr: number, count: number, dtype: 'int64' | 'time' | 'float64'): Slice[] {
    const { call, view } = this.#kernels
    const { scratch } = this.#encoder
    const pages: Slice[] = []
    for (let first = 0; first < count; first += pageRowCountMax) {
      const pageCount = Math.min(pageRowCountMax, count - first)
      const fromPtr = valuesPtr + 8 * first
      const bound =
        dtype === 'int64'
          ? call.maxEncodedInt64Page(pageCount)
          : dtype === 'time'
            ? call.maxEncodedTimePage(pageCount)
            : call.maxEncodedFloat64Page(pageCount)
      const ptr = scratch.allocate(4 + bound)
      const mark = scratch.mark()
      const workPtr = scratch.allocate(pageScratchByteLength)
      const byteLength =
        dtype === 'int64'
          ? call.encodeInt64Page(fromPtr, pageCount, ptr + 4, workPtr)
          : dtype === 'time'
            ? call.encodeTimePage(fromPtr, pageCount, ptr + 4, workPtr)
            : call.encodeFloat64Page(fromPtr, pageCount, ptr + 4, workPtr)
      scratch.release(mark)
      view.setUint32(ptr, byteLength, true)
      pages.push({ byteOffset: ptr, byteLength: 4 + byteLength })
    }
    return pages
  }

  /** Puts pages one behind the other, where `start` marks the scratch, and gives the rest back. */
  #joined(start: number, pages: readonly Slice[]): Slice {
    const { call, u8 } = this.#kernels
    const { scratch } = this.#encoder
    const total = pages.reduce((sum, { byteLength }) => sum + byteLength, 0)
    const joinedPtr = scratch.allocate(total)
    let at = joinedPtr
    for (const { byteOffset, byteLength } of pages) {
      call.copyBytes(byteOffset, byteLength, at)
      at += byteLength
    }
    scratch.release(start)
    const byteOffset = scratch.allocate(total)
    if (byteOffset !== joinedPtr) u8.copyWithin(byteOffset, joinedPtr, joinedPtr + total)
    return { byteOffset, byteLength: total }
  }

  /** Hands the attachments to the block. */
  finish(builder: BlockBuilder, rowStart: number): void {
    const grains = this.#grains.filter(({ columns }) => columns.length > 0)
    if (grains.length === 0) return
    const { view, i64, u8 } = this.#kernels
    const { scratch } = this.#encoder
    const start = scratch.mark()
    const headLength = grains.reduce(
      (sum, { columns }) => sum + grainByteLength + 8 * Math.ceil(columns.length / 2),
      headByteLength,
    )
    const headPtr = scratch.allocate(headLength)
    u8.fill(0, headPtr, headPtr + headLength)
    view.setUint32(headPtr, grains.length, true)
    let at = headPtr + headByteLength
    for (const { grainMs, fields, digestCount, columns } of grains) {
      view.setFloat64(at, grainMs, true)
      view.setUint32(at + 8, fields, true)
      view.setUint32(at + 12, digestCount, true)
      view.setUint32(at + 16, columns.length, true)
      for (const [i, number] of columns.entries()) view.setUint32(at + grainByteLength + 4 * i, number, true)
      at += grainByteLength + 8 * Math.ceil(columns.length / 2)
    }
    const pages = grains.flatMap(({ rowsPtr, firstsPtr, lastsPtr, digestCount }) => {
      for (let digest = 0; digest < digestCount; digest++) i64[(rowsPtr >> 3) + digest]! -= BigInt(rowStart)
      return [
        ...this.#pages(rowsPtr, digestCount, 'int64'),
        ...this.#pages(firstsPtr, digestCount, 'time'),
        ...this.#pages(lastsPtr, digestCount, 'time'),
      ]
    })
    builder.addAttachment(this.#joined(start, [{ byteOffset: headPtr, byteLength: headLength }, ...pages]))
    for (const { parts } of grains) for (const part of parts) builder.addAttachment(part)
  }
}

/** The length of digests that hold enough rows, by how dense the rows are; null: they are too far apart. */
function ownGrain(
  { i64 }: Kernels,
  { sets, starts }: Directory,
  timesPtr: number,
  rowStart: number,
): DigestGrain | null {
  let gapCount = 0
  let spanMs = 0
  for (let i = 0; i < sets.length; i++) {
    const first = i64[(timesPtr >> 3) + rowStart + starts[i]!]!
    const last = i64[(timesPtr >> 3) + rowStart + starts[i + 1]! - 1]!
    spanMs += Number(last - first) / 1e6
    gapCount += starts[i + 1]! - starts[i]! - 1
  }
  if (gapCount === 0) return null
  const grainMs = grainOfInterval(spanMs / gapCount)
  return grainMs === undefined ? null : { grainMs, fields: allFields & ~digestFields.squares }
}

/** The length of digests of rows so far apart; undefined: they have none. */
function grainOfInterval(intervalMs: number): number | undefined {
  return grainsMs.find((ms) => ms >= digestRowCountMin * intervalMs)
}

/** Whether digests no longer than stepMs are likely in a block, by what the live list says of it: only merges write them. */
export function isLikelyDigested(block: LiveBlock, stepMs: number): boolean {
  const { rowCount, extent, dead, firstCommit, lastCommit } = block
  if (extent === null || dead !== null || firstCommit === lastCommit || rowCount < blockRowCountMin) return false
  const [setMin, setMax, timeMinMs, timeMaxMs] = extent
  const rowCountOfSet = rowCount / (setMax! - setMin! + 1)
  const grainMs = grainOfInterval((timeMaxMs! - timeMinMs!) / rowCountOfSet)
  return rowCountOfSet >= digestRowCountMin && grainMs !== undefined && grainMs <= stepMs
}

// ---- reading ---------------------------------------------------------------------------------------------------------

/** The digests of one length in a block. */
export interface StoredGrain extends DigestGrain {
  readonly digestCount: number
  /** How many arrays of values are stored, and which one each array of a state is; 0 for those that are not. */
  readonly arrayCount: number
  readonly placeOf: readonly number[]
  /** Number of the block's column → attachment. */
  readonly attachments: ReadonlyMap<number, number>
  /** Where its pages begin in the first attachment. */
  readonly pagesOffset: number
  readonly number: number
}

/**
 * Which rows and times the digests of a block have, all i64, digestCount each: first row, times of first and last row. And
 * whose they are: the block's label sets, u32 each, and (setCount + 1) × u32, where the digests of each begin.
 */
export interface DigestPlaces {
  readonly rowsPtr: number
  readonly firstsPtr: number
  readonly lastsPtr: number
  readonly setsPtr: number
  readonly startsPtr: number
}

/** What is known of the values of one column in digests, f64 each. What is not stored has some other valid place. */
export interface DigestColumn {
  readonly countsPtr: number
  readonly sumsPtr: number
  readonly minsPtr: number
  readonly maxsPtr: number
  readonly lastsPtr: number
  readonly m2sPtr: number
}

/** The lengths of digests that a block has, parsed once a worker. Throws DATA_DAMAGED. */
export function grainsOf(reader: BlockReader): readonly StoredGrain[] {
  if (reader.layout.attachments.length === 0) return []
  return reader.noted(() => {
    const { view } = reader.io.kernels
    const ptr = reader.attachment(0)
    const grainCount = view.getUint32(ptr, true)
    const grains: StoredGrain[] = []
    let at = ptr + headByteLength
    let attachment = 1
    for (let number = 0; number < grainCount; number++) {
      const columnCount = view.getUint32(at + 16, true)
      const attachments = new Map<number, number>()
      for (let i = 0; i < columnCount; i++)
        attachments.set(view.getUint32(at + grainByteLength + 4 * i, true), attachment++)
      const fields = view.getUint32(at + 8, true)
      const arrays = storedArrays.filter(([field]) => (fields & field) !== 0).map(([, array]) => array)
      grains.push({
        grainMs: view.getFloat64(at, true),
        fields,
        arrayCount: arrays.length,
        placeOf: [0, 1, 2, 3, 4, 5, 6].map((array) => Math.max(0, arrays.indexOf(array))),
        digestCount: view.getUint32(at + 12, true),
        attachments,
        pagesOffset: 0,
        number,
      })
      at += grainByteLength + 8 * Math.ceil(columnCount / 2)
    }
    // The pages of all grains stand behind their heads.
    let pagesOffset = at - ptr
    return grains.map((grain) => {
      const own = { ...grain, pagesOffset }
      for (let page = 0; page < 3 * Math.ceil(grain.digestCount / pageRowCountMax); page++)
        pagesOffset += 4 + view.getUint32(ptr + pagesOffset, true)
      return own
    })
  })
}

/** directory: of the block. Valid until the cache's next epoch. Throws DATA_DAMAGED. */
export function digestPlaces(
  reader: BlockReader,
  { number, digestCount, pagesOffset }: StoredGrain,
  { sets, starts }: Directory,
): DigestPlaces {
  const setsOffset = 24 * digestCount
  const startsOffset = setsOffset + 4 * sets.length
  // A place of its own for what is made of the first attachment, beside those of the others.
  const rowsPtr = reader.derived(0, number, startsOffset + 4 * (sets.length + 1), (fromPtr, toPtr) => {
    const firstsFrom = decodePages(reader, fromPtr + pagesOffset, digestCount, toPtr, 'int64')
    const lastsFrom = decodePages(reader, firstsFrom, digestCount, toPtr + 8 * digestCount, 'time')
    decodePages(reader, lastsFrom, digestCount, toPtr + 16 * digestCount, 'time')
    const { call, u32 } = reader.io.kernels
    u32.set(sets, (toPtr + setsOffset) >> 2)
    const startsAt = (toPtr + startsOffset) >> 2
    let start = 0
    for (let i = 0; i < sets.length; i++) {
      start = call.lowerBoundInt64(toPtr, start, digestCount, BigInt(starts[i]!))
      u32[startsAt + i] = start
    }
    u32[startsAt + sets.length] = digestCount
  })
  return {
    rowsPtr,
    firstsPtr: rowsPtr + 8 * digestCount,
    lastsPtr: rowsPtr + 16 * digestCount,
    setsPtr: rowsPtr + setsOffset,
    startsPtr: rowsPtr + startsOffset,
  }
}

/**
 * The values of a column that has digests of a length, from one of those on; valid until the cache's next epoch.
 * Throws DATA_DAMAGED.
 */
export function digestColumn(reader: BlockReader, grain: StoredGrain, column: number, first: number): DigestColumn {
  const { digestCount, arrayCount, placeOf } = grain
  const attachment = grain.attachments.get(column)
  assert(attachment !== undefined, 'digests are read of a column that has them')
  const ptr = reader.derived(attachment, 0, 8 * arrayCount * digestCount, (fromPtr, toPtr) => {
    let from = fromPtr
    for (let i = 0; i < arrayCount; i++)
      from = decodePages(reader, from, digestCount, toPtr + 8 * i * digestCount, 'float64')
  })
  const firstPtr = ptr + 8 * first
  const stride = 8 * digestCount
  return {
    countsPtr: firstPtr,
    sumsPtr: firstPtr + placeOf[1]! * stride,
    minsPtr: firstPtr + placeOf[2]! * stride,
    maxsPtr: firstPtr + placeOf[3]! * stride,
    lastsPtr: firstPtr + placeOf[4]! * stride,
    m2sPtr: firstPtr + placeOf[6]! * stride,
  }
}

/** The same from a later digest on. */
export function digestsFrom(column: DigestColumn, first: number): DigestColumn {
  const at = 8 * first
  return {
    countsPtr: column.countsPtr + at,
    sumsPtr: column.sumsPtr + at,
    minsPtr: column.minsPtr + at,
    maxsPtr: column.maxsPtr + at,
    lastsPtr: column.lastsPtr + at,
    m2sPtr: column.m2sPtr + at,
  }
}

/** Returns where the bytes behind the pages stand. */
function decodePages(
  reader: BlockReader,
  fromPtr: number,
  count: number,
  toPtr: number,
  dtype: 'int64' | 'time' | 'float64',
): number {
  const { call, view } = reader.io.kernels
  let from = fromPtr
  for (let first = 0; first < count; first += pageRowCountMax) {
    const pageCount = Math.min(pageRowCountMax, count - first)
    const byteLength = view.getUint32(from, true)
    const to = toPtr + 8 * first
    const status =
      dtype === 'int64'
        ? call.decodeInt64Page(from + 4, byteLength, pageCount, to)
        : dtype === 'time'
          ? call.decodeTimePage(from + 4, byteLength, pageCount, to)
          : call.decodeFloat64Page(from + 4, byteLength, pageCount, to)
    if (status < 0) throw reader.io.damaged(reader.source.id, 'its digests cannot be decoded')
    from += 4 + byteLength
  }
  return from
}
