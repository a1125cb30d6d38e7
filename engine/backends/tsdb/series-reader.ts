// Reads one label set after another out of many blocks, in time order: overlapping blocks are merged cell by cell,
// everything else passes through as decoded pages. Scans, merges of runs and checks for duplicates all read through it.
import { type ColumnEntry, pageStatisticsWordCount } from '../../blocks/block.js'
import type { BlockIo, BlockSource } from '../../blocks/reader.js'
import { BlockReader } from '../../blocks/reader.js'
import { assert } from '../../assert.js'
import type { PageSummary } from '../../frame/column-summary.js'
import type { Value } from '../../frame/dtype.js'
import type { Scratch } from '../../memory/scratch.js'
import { FramesError } from '../../errors.js'
import { nsPerMs, toInt64, toNs } from './bounds.js'
import type { Directory, TsdbExtent } from './directory.js'
import { decodeExtent, directoryOf, findSet, mergeSets, timesOfExtent } from './directory.js'
import type { DigestColumn, StoredGrain } from './digests.js'
import { digestColumn, digestFields, digestPlaces, grainsOf } from './digests.js'
import { timeColumnName } from './run-writer.js'
import type { MetricType } from './signature.js'

/** A metric to read: in which type it is wanted, and the types its cells may be stored in. */
export interface WantedMetric {
  readonly name: string
  readonly type: MetricType
  readonly storedTypes: readonly MetricType[]
}

/**
 * Cells of one metric in a batch; pointers as in ColumnSlice for the batch's rows (row 0 at bit 0).
 * A string column's first offset may be above 0. Null instead: no row has a cell.
 */
export interface BatchColumn {
  readonly valuesPtr: number
  readonly validityPtr: number
  readonly bytesPtr: number
}

/**
 * Some rows of the open label set, times strictly ascending. Valid until the next call of next().
 *
 * page     of a reader that was told to pass pages: what the rows are of, when each has a number of each metric; then there are
 *          no columns. Its timesPtr is 0 where the times have not been decoded: see timesOfPage.
 * digests  null, or, of a reader that was given a grid, what is known of stretches of rows instead of the rows: rowCount
 *          counts stretches, each with the time of its first row, and there are no columns. Null in it: no row has a cell.
 */
export interface Batch {
  readonly rowCount: number
  readonly timesPtr: number
  readonly columns: readonly (BatchColumn | null)[]
  readonly digests: readonly (DigestColumn | null)[] | null
  readonly page?: PageRows
}

/** Rows of one page, from a row on, whose cells are not decoded; the column of times, and of each metric. */
export interface PageRows {
  readonly reader: BlockReader
  readonly page: number
  readonly from: number
  readonly timeColumn: ColumnEntry
  readonly entries: readonly ColumnEntry[]
}

/** The cells of such rows, of each metric. */
export function cellsOfPage({ reader, page, from, entries }: PageRows): BatchColumn[] {
  return entries.map((entry) => {
    const decoded = reader.page(entry, page)
    assert(decoded !== null && decoded.validityPtr === 0, 'each row of the page has a cell')
    return { valuesPtr: decoded.valuesPtr + 8 * from, validityPtr: 0, bytesPtr: 0 }
  })
}

/** The times of such rows. */
export function timesOfPage({ reader, page, from, timeColumn }: PageRows): number {
  const decoded = reader.page(timeColumn, page)
  assert(decoded !== null, 'each row of the page has a time')
  return decoded.valuesPtr + 8 * from
}

/** The buckets that samples go to: [startNs + i × stepNs, startNs + (i + 1) × stepNs); and what they keep, as digestFields. */
export interface BucketGrid {
  readonly startNs: bigint
  readonly stepNs: bigint
  readonly fields: number
}

/**
 * A reader that passes over rows of which no one is wanted.
 *
 * metrics  that are looked at: what is known of their cells
 * canSkip  whether none of some rows is wanted; it asks for what is known of a metric there, and is told null for nothing
 */
export interface RowSkip {
  readonly metrics: readonly WantedMetric[]
  readonly canSkip: (summaryOf: (name: string) => PageSummary | null) => boolean
}

/** Stretches of fewer rows, about, cost more to judge than to read. */
const skippedRowCountMin = 64

/** Digests of one block that are taken in place of rows [rowFrom, rowTo), or that say that those are not wanted. */
interface DigestRun {
  readonly rowFrom: number
  readonly rowTo: number
  readonly from: number
  readonly to: number
  readonly firstNs: bigint
}

/** Digests [from, to) of a block. */
interface Gap {
  readonly from: number
  readonly to: number
}

/** The digests of a block that serve some metrics. columns: the block's column of each metric; -1: it has none. */
export interface ServingDigests {
  readonly grain: StoredGrain
  readonly columns: readonly number[]
}

/** A block that can be read. */
export interface ReadBlock {
  readonly reader: BlockReader
  readonly directory: Directory
  /** Times of the block, all sets, in ms, both inclusive. */
  readonly timeMinMs: number
  readonly timeMaxMs: number
}

/** Where one block stands in the open label set. */
interface Cursor extends ReadBlock {
  readonly timeColumn: ColumnEntry
  readonly setMin: number
  readonly setMax: number
  /** Where in the directory the set stands that is asked for next, if sets are asked for in their order. */
  place: number
  /** What serves the metrics and the grid that were last asked for; null: nothing. */
  serving: ServingDigests | null
  /** The columns of each of the metrics that were last asked for: one for each type that is stored. */
  stored: readonly (readonly ColumnEntry[])[]
  /** Those columns, when pages may be passed, all are numbers and stored as they are wanted; else null. */
  plain: readonly ColumnEntry[] | null
  /** Runs of the open set that are not taken yet, from `run` on. */
  runs: readonly DigestRun[]
  run: number
  /** Rows of the set that are not loaded yet: [row, rowEnd). */
  row: number
  rowEnd: number
  page: number
  /** The loaded piece: rows [from, to) of page `piece`, or piece < 0. */
  piece: number
  /** It was found by what is known of the page, whose times have not been decoded: rows of it are passed on without. */
  isUndecoded: boolean
  from: number
  to: number
  firstNs: bigint
  lastNs: bigint
}

/** Rows of one cursor's piece that a batch takes. */
interface Part {
  readonly cursor: Cursor
  readonly page: number
  readonly from: number
  readonly rowCount: number
}

const beforeAllTimes = -(2n ** 63n)
const noRuns: readonly DigestRun[] = []
const noColumns: readonly (readonly ColumnEntry[])[] = []
/** A bucket for all times. */
const wholeNs = 2n ** 63n - 1n

/** Reads one label set after another, in time order. */
export interface SampleReader {
  /**
   * With a grid, some batches may be of digests, where that makes no difference to the buckets but for rounding of sums.
   * With a skip, rows that are not wanted may be left out.
   */
  open(
    set: number,
    metrics: readonly WantedMetric[],
    startNs: bigint,
    endNs: bigint,
    grid?: BucketGrid | null,
    skip?: RowSkip | null,
  ): boolean
  next(): Batch | null
}

export class SeriesReader implements SampleReader {
  readonly #cursors: Cursor[] = []
  /** Blocks whose header cannot be read: they stand in the way of the sets only that they may hold. */
  readonly #damaged: { readonly extent: TsdbExtent | null; readonly error: FramesError }[] = []
  /** Those that hold the open set, oldest first. */
  #open: Cursor[] = []
  #metrics: readonly WantedMetric[] = []
  #startNs = 0n
  #endNs = 0n
  #grid: BucketGrid | null = null
  #skip: RowSkip | null = null
  readonly #mark: number

  /**
   * sources: oldest first. `temporary` holds what a batch needs beyond decoded pages; it is taken back with each batch.
   * newestWins: of cells with one series and time, the newest commit's (else the oldest's).
   * passesPages: batches may have a page in place of columns.
   */
  constructor(
    readonly io: BlockIo,
    readonly temporary: Scratch,
    sources: readonly BlockSource[],
    readonly newestWins: boolean,
    readonly passesPages = false,
  ) {
    for (let i = 0; i < sources.length; i++) this.#add(sources[i]!)
    this.#mark = temporary.mark()
  }

  #add(source: BlockSource): void {
    try {
      this.#cursors.push(this.#cursor(source))
    } catch (error) {
      if (!(error instanceof FramesError) || error.code !== 'DATA_DAMAGED') throw error
      this.#damaged.push({ extent: source.extent === null ? null : decodeExtent(source.extent), error })
    }
  }

  #cursor(source: BlockSource): Cursor {
    const { io } = this
    const reader = new BlockReader(io, source)
    const timeColumn = reader.column(timeColumnName, 'time')
    if (timeColumn === undefined) throw io.damaged(source.id, 'it has no times')
    const directory = directoryOf(reader)
    const { timeMinMs, timeMaxMs } = timesOfExtent(source.extent)
    return {
      reader,
      directory,
      timeColumn,
      setMin: directory.sets[0] ?? 0,
      setMax: directory.sets[directory.sets.length - 1] ?? -1,
      place: 0,
      timeMinMs,
      timeMaxMs,
      serving: null,
      stored: noColumns,
      plain: null,
      runs: noRuns,
      run: 0,
      row: 0,
      rowEnd: 0,
      page: 0,
      piece: -1,
      isUndecoded: false,
      from: 0,
      to: 0,
      firstNs: 0n,
      lastNs: 0n,
    }
  }

  /** The blocks that can be read, oldest first. */
  get blocks(): readonly ReadBlock[] {
    return this.#cursors
  }

  /** Whether some block cannot be read: then opening a label set may fail. */
  get hasDamage(): boolean {
    return this.#damaged.length > 0
  }

  /** The reader of one of the blocks that can be read, oldest first. */
  readerAt(index: number): BlockReader {
    return this.#cursors[index]!.reader
  }

  /** The sets of all blocks from number `first` on, ascending: the first countMax of them, or all. */
  sets(first = 0, countMax = Infinity): Uint32Array {
    const damaged = this.#damaged[0]
    if (damaged !== undefined) throw damaged.error
    const lists = this.#cursors.map(({ directory }) => {
      const start = findSet(directory, first)
      return directory.sets.subarray(start < 0 ? ~start : start)
    })
    return mergeSets(lists, countMax)
  }

  /** Begins to read [startNs, endNs) of a label set. False when no block has it. Throws DATA_DAMAGED. */
  open(
    set: number,
    metrics: readonly WantedMetric[],
    startNs: bigint = beforeAllTimes,
    endNs: bigint = 2n ** 63n - 1n,
    grid: BucketGrid | null = null,
    skip: RowSkip | null = null,
  ): boolean {
    assert(grid === null || skip === null, 'digests tell nothing of single rows')
    const isServedAlike = metrics === this.#metrics && grid === this.#grid && skip === this.#skip
    this.#metrics = metrics
    this.#grid = grid
    this.#skip = skip
    this.#startNs = startNs
    this.#endNs = endNs
    this.#open = []
    for (const { extent, error } of this.#damaged) {
      if (extent === null || (extent.setMin <= set && set <= extent.setMax)) throw error
    }
    this.io.cache.beginEpoch()
    for (const cursor of this.#cursors) {
      const { directory, reader } = cursor
      if (!isServedAlike) {
        cursor.serving = this.#serving(cursor)
        cursor.stored = storedColumns(reader, metrics)
        cursor.plain = this.passesPages ? this.#plain(cursor) : null
      }
      if (set < cursor.setMin || set > cursor.setMax) continue
      const index = placeOf(cursor, set)
      if (index < 0) continue
      cursor.runs = noRuns
      cursor.run = 0
      cursor.row = directory.starts[index]!
      cursor.rowEnd = directory.starts[index + 1]!
      cursor.page = pageOf(reader.layout.pageStarts, cursor.row)
      cursor.piece = -1
      this.#open.push(cursor)
    }
    for (const cursor of this.#open) this.#findRuns(cursor)
    return this.#open.length > 0
  }

  #plain({ stored }: Cursor): ColumnEntry[] | null {
    const isPlain = this.#metrics.every(({ type }, i) => {
      const [first, second] = stored[i]!
      return first?.dtype === type && second === undefined && (type === 'int64' || type === 'float64')
    })
    return isPlain ? stored.map(([entry]) => entry!) : null
  }

  #serving({ reader }: Cursor): ServingDigests | null {
    if (this.#skip !== null) return skippingDigests(reader, this.#skip.metrics)
    return this.#grid === null ? null : servingDigests(reader, this.#metrics, this.#grid)
  }

  /**
   * Which digests of the open set are taken whole: those within a bucket and the range where no other block has rows. Of
   * those, with a skip, the ones whose rows are not wanted.
   */
  #findRuns(cursor: Cursor): void {
    const { reader, serving } = cursor
    if (serving === null) return
    const bucketNs = this.#grid?.startNs ?? this.#startNs
    const stepNs = this.#grid?.stepNs ?? wholeNs
    const { call, i64 } = this.io.kernels
    const { digestCount } = serving.grain
    const { rowsPtr, firstsPtr, lastsPtr } = digestPlaces(reader, serving.grain, cursor.directory)
    const rowAt = (digest: number): number =>
      digest < digestCount ? Number(i64[(rowsPtr >> 3) + digest]!) : reader.layout.rowCount
    const first = call.lowerBoundInt64(rowsPtr, 0, digestCount, BigInt(cursor.row))
    const end = call.lowerBoundInt64(rowsPtr, first, digestCount, BigInt(cursor.rowEnd))
    const from = call.lowerBoundInt64(lastsPtr, first, end, this.#startNs)
    const to = call.lowerBoundInt64(firstsPtr, from, end, this.#endNs)
    // What lies outside of the range need not be looked at.
    cursor.row = rowAt(from)
    cursor.rowEnd = rowAt(to)
    cursor.page = pageOf(reader.layout.pageStarts, cursor.row)
    if (from === to) return
    // Digests between which another block may have rows; the last one ends the search.
    const gaps: Gap[] = []
    for (const other of this.#open) {
      if (other === cursor || other.timeMaxMs < cursor.timeMinMs || other.timeMinMs > cursor.timeMaxMs) continue
      const { minNs, behindNs } = this.#setBounds(other)
      const gapFrom = call.lowerBoundInt64(lastsPtr, from, to, minNs)
      const gapTo = call.lowerBoundInt64(firstsPtr, from, to, behindNs)
      gaps.push({ from: gapFrom, to: Math.max(gapFrom, gapTo) })
    }
    gaps.push({ from: to, to })
    if (gaps.length > 1) gaps.sort((a, b) => a.from - b.from)
    const runs: DigestRun[] = []
    const add = (first: number, end: number): void => {
      const firstNs = i64[(firstsPtr >> 3) + first]!
      runs.push({ rowFrom: rowAt(first), rowTo: rowAt(end), from: first, to: end, firstNs })
    }
    const find = (at: number, gapFrom: number, wanted: number): number =>
      call.findDigest(firstsPtr, lastsPtr, at, gapFrom, this.#startNs, this.#endNs, bucketNs, stepNs, wanted)
    let at = from
    for (const gap of gaps) {
      while (at < gap.from) {
        const begin = find(at, gap.from, 1)
        if (begin === gap.from) break
        at = find(begin, gap.from, 0)
        if (this.#skip === null) add(begin, at)
        else for (const run of this.#skipped(cursor, serving, begin, at, rowAt)) add(run.from, run.to)
      }
      at = Math.max(at, gap.to)
    }
    cursor.runs = runs
  }

  /** Between which times a block has rows of the open set, as far as that is known without reading them. */
  #setBounds({ reader, directory, serving, row, rowEnd, timeMinMs, timeMaxMs }: Cursor): {
    minNs: bigint
    behindNs: bigint
  } {
    const ofBlock = () => ({
      minNs: Number.isFinite(timeMinMs) ? toNs(timeMinMs) : beforeAllTimes,
      behindNs: Number.isFinite(timeMaxMs) ? toNs(timeMaxMs + 1) : wholeNs,
    })
    if (serving === null) return ofBlock()
    const { call, i64 } = this.io.kernels
    const { digestCount } = serving.grain
    const { rowsPtr, firstsPtr, lastsPtr } = digestPlaces(reader, serving.grain, directory)
    const first = call.lowerBoundInt64(rowsPtr, 0, digestCount, BigInt(row))
    const end = call.lowerBoundInt64(rowsPtr, first, digestCount, BigInt(rowEnd))
    // Its rows may have been narrowed to the range already: then those outside of it do not matter.
    if (first === end) return ofBlock()
    return { minNs: i64[(firstsPtr >> 3) + first]!, behindNs: toInt64(i64[(lastsPtr >> 3) + end - 1]! + 1n) }
  }

  /** Runs of digests [from, to) whose rows are not wanted. */
  #skipped(
    { reader }: Cursor,
    { grain, columns }: ServingDigests,
    from: number,
    to: number,
    rowAt: (digest: number) => number,
  ): Gap[] {
    const { f64 } = this.io.kernels
    const { metrics, canSkip } = this.#skip!
    const known = new Map(
      metrics.map(({ name, type }, i) => {
        const column = columns[i]!
        return [name, { type, digests: column < 0 ? null : digestColumn(reader, grain, column, 0) }]
      }),
    )
    let digest = from
    const summaryOf = (name: string): PageSummary | null => {
      const metric = known.get(name)
      if (metric === undefined) return null
      const rowCount = rowAt(digest + 1) - rowAt(digest)
      const { type, digests } = metric
      if (digests === null) return { rowCount, columns: [] }
      const presentCount = f64[(digests.countsPtr >> 3) + digest]!
      const min = boundOf(type, f64[(digests.minsPtr >> 3) + digest]!)
      const max = boundOf(type, f64[(digests.maxsPtr >> 3) + digest]!)
      const bounds = min === null || max === null ? { min: null, max: null } : { min, max }
      return { rowCount, columns: [{ dtype: type, presentCount, ...bounds }] }
    }
    const runs: { from: number; to: number }[] = []
    for (; digest < to; digest++) {
      if (!canSkip(summaryOf)) continue
      const last = runs[runs.length - 1]
      if (last !== undefined && last.to === digest) last.to++
      else runs.push({ from: digest, to: digest + 1 })
    }
    return runs
  }

  /** Passes over rows that are not wanted. */
  #pass(cursor: Cursor): void {
    if (this.#skip === null) return
    for (let run = runAt(cursor); run !== null; run = runAt(cursor)) {
      cursor.run++
      cursor.row = run.rowTo
      if (cursor.row < cursor.rowEnd) cursor.page = pageOf(cursor.reader.layout.pageStarts, cursor.row)
    }
  }

  /** The next rows, or null at the end. Throws DATA_DAMAGED, ScratchFull. */
  next(): Batch | null {
    this.io.cache.beginEpoch()
    this.temporary.release(this.#mark)
    if (this.#open.length === 1) return this.#nextOf(this.#open[0]!)
    const { call } = this.io.kernels
    let first: Cursor | null = null
    let firstNs = 0n
    for (const cursor of this.#open) {
      const lowerNs = this.#lowerBound(cursor)
      if (lowerNs !== null && (first === null || lowerNs < firstNs)) {
        first = cursor
        firstNs = lowerNs
      }
    }
    if (first !== null && first.piece < 0) {
      const run = runAt(first)
      if (run !== null) return this.#digests(first, run)
    }
    if (first === null || !this.#load(first))
      return this.#open.some((cursor) => cursor.piece >= 0 || cursor.row < cursor.rowEnd) ? this.next() : null
    // All rows up to the horizon are loaded: no block has an unloaded row at or before it.
    let horizonNs = first.lastNs
    for (const cursor of this.#open) {
      if (cursor === first) continue
      const lowerNs = this.#lowerBound(cursor)
      if (lowerNs === null || lowerNs > horizonNs) continue
      const run = cursor.piece < 0 ? runAt(cursor) : null
      if (run !== null) horizonNs = run.firstNs - 1n
      else if (this.#load(cursor) && cursor.lastNs < horizonNs) horizonNs = cursor.lastNs
    }
    const parts: Part[] = []
    let rowCount = 0
    for (const cursor of this.#open) {
      if (cursor.piece < 0 || cursor.firstNs > horizonNs) continue
      const { from, to, piece: page } = cursor
      const isAll = cursor.lastNs <= horizonNs
      const timesPtr = isAll ? 0 : this.#timesOf(cursor, to)
      const end = isAll ? to : call.lowerBoundInt64(timesPtr, from, to, horizonNs + 1n)
      if (end === from) continue
      parts.push({ cursor, page, from, rowCount: end - from })
      rowCount += end - from
      if (end === to) cursor.piece = -1
      else {
        cursor.from = end
        cursor.firstNs = this.io.kernels.i64[(timesPtr >> 3) + end]!
      }
    }
    // What was loaded stands behind a run of digests: that comes first.
    if (parts.length === 0) return this.next()
    return parts.length === 1 ? this.#direct(parts[0]!) : this.#merged(parts, rowCount)
  }

  /** The next rows where one block has the set, as most do after merges: they come as they stand, and no bounds are compared. */
  #nextOf(cursor: Cursor): Batch | null {
    if (cursor.piece < 0) {
      this.#pass(cursor)
      const run = runAt(cursor)
      if (run !== null && cursor.row < cursor.rowEnd) return this.#digests(cursor, run)
      // Digests stand where the loaded rows would.
      if (!this.#load(cursor)) return cursor.row < cursor.rowEnd ? this.#nextOf(cursor) : null
    }
    const { piece: page, from, to } = cursor
    cursor.piece = -1
    return this.#direct({ cursor, page, from, rowCount: to - from })
  }

  #digests(cursor: Cursor, { rowTo, from, to }: DigestRun): Batch {
    const { reader, directory } = cursor
    const { grain, columns } = cursor.serving!
    cursor.run++
    cursor.row = rowTo
    if (rowTo < cursor.rowEnd) cursor.page = pageOf(reader.layout.pageStarts, rowTo)
    const { firstsPtr } = digestPlaces(reader, grain, directory)
    const digests = columns.map((column): DigestColumn | null =>
      column < 0 ? null : digestColumn(reader, grain, column, from),
    )
    return { rowCount: to - from, timesPtr: firstsPtr + 8 * from, columns: [], digests }
  }

  /** A time that no unread row of the cursor is before; null at its end. */
  #lowerBound(cursor: Cursor): bigint | null {
    if (cursor.piece >= 0) return cursor.firstNs
    this.#pass(cursor)
    if (cursor.row >= cursor.rowEnd) return null
    const run = runAt(cursor)
    if (run !== null) return run.firstNs
    const { reader, timeColumn } = cursor
    const statistics = this.#ownStatistics(cursor)
    if (statistics >= 0) {
      const minNs = reader.table(timeColumn).statistics[statistics]!
      if (minNs >= this.#endNs) {
        cursor.row = cursor.rowEnd
        return null
      }
      return minNs < this.#startNs ? this.#startNs : minNs
    }
    return this.#load(cursor) ? cursor.firstNs : null
  }

  /** Where the time statistics begin of the cursor's next page when all its rows are of the open set, else -1. */
  #ownStatistics(cursor: Cursor): number {
    const { reader, page, row, rowEnd, timeColumn } = cursor
    const { pageStarts } = reader.layout
    if (row > pageStarts[page]! || pageStarts[page + 1]! > rowEnd) return -1
    const index = reader.table(timeColumn).statisticsIndexes[page]!
    return index < 0 ? -1 : index * pageStatisticsWordCount
  }

  /** Times of the piece's page, up to row `rowEnd`. */
  #timesOf(cursor: Cursor, rowEnd: number): number {
    const page = cursor.reader.page(cursor.timeColumn, cursor.piece, rowEnd)
    if (page === null) throw this.io.damaged(cursor.reader.source.id, 'a page has no times')
    return page.valuesPtr
  }

  /** Loads the next piece with rows in the wanted range; false at the end. */
  #load(cursor: Cursor): boolean {
    if (cursor.piece >= 0) return true
    const { call, i64 } = this.io.kernels
    const { reader, timeColumn } = cursor
    const { pageStarts } = reader.layout
    const { statistics } = reader.table(timeColumn)
    for (;;) {
      this.#pass(cursor)
      if (cursor.row >= cursor.rowEnd || runAt(cursor) !== null) return false
      const own = this.#ownStatistics(cursor)
      const pageStart = pageStarts[cursor.page]!
      const pageEnd = pageStarts[cursor.page + 1]!
      const pieceEnd = Math.min(pageEnd, cursor.rowEnd, cursor.runs[cursor.run]?.rowFrom ?? Infinity)
      if (own >= 0 && statistics[own]! >= this.#endNs) {
        cursor.row = cursor.rowEnd
        return false
      }
      if (own >= 0 && statistics[own + 1]! < this.#startNs) {
        cursor.row = pieceEnd
        if (pieceEnd === pageEnd) cursor.page++
        continue
      }
      cursor.piece = cursor.page
      let from = cursor.row - pageStart
      let to = pieceEnd - pageStart
      if (own >= 0 && pieceEnd === pageEnd && this.#passesUndecoded(cursor)) {
        const firstNs = statistics[own]!
        const lastNs = statistics[own + 1]!
        if (firstNs >= this.#startNs && lastNs < this.#endNs) {
          cursor.row = pieceEnd
          cursor.page++
          cursor.from = from
          cursor.to = to
          cursor.firstNs = firstNs
          cursor.lastNs = lastNs
          cursor.isUndecoded = true
          return true
        }
      }
      cursor.isUndecoded = false
      const timesPtr = this.#timesOf(cursor, to)
      const times = timesPtr >> 3
      cursor.row = pieceEnd
      if (pieceEnd === pageEnd) cursor.page++
      if (i64[times + from]! < this.#startNs) from = call.lowerBoundInt64(timesPtr, from, to, this.#startNs)
      if (i64[times + to - 1]! >= this.#endNs) {
        to = call.lowerBoundInt64(timesPtr, from, to, this.#endNs)
        cursor.row = cursor.rowEnd
      }
      if (from < to) {
        cursor.from = from
        cursor.to = to
        cursor.firstNs = i64[times + from]!
        cursor.lastNs = i64[times + to - 1]!
        return true
      }
      cursor.piece = -1
    }
  }

  /** Whether a piece that is a whole page can be passed on without its times. */
  #passesUndecoded({ plain, reader, timeColumn, piece }: Cursor): boolean {
    if (plain === null || !reader.isWhole(timeColumn, piece)) return false
    return plain.every((entry) => reader.isWhole(entry, piece))
  }

  /** Rows of one page, as they stand there where possible. */
  #direct({ cursor, page, from, rowCount }: Part): Batch {
    const { reader, plain, timeColumn } = cursor
    if (plain !== null && cursor.isUndecoded) {
      const rows: PageRows = { reader, page, from, timeColumn, entries: plain }
      return { rowCount, timesPtr: 0, columns: [], digests: null, page: rows }
    }
    const rowEnd = from + rowCount
    const times = reader.page(timeColumn, page, rowEnd)!
    const timesPtr = times.valuesPtr + 8 * from
    if (plain?.every((entry) => reader.isWhole(entry, page)))
      return {
        rowCount,
        timesPtr,
        columns: [],
        digests: null,
        page: { reader, page, from, timeColumn, entries: plain },
      }
    const columns: (BatchColumn | null)[] = []
    for (let i = 0; i < this.#metrics.length; i++) columns.push(this.#cells(cursor, page, from, rowCount, i))
    return { rowCount, timesPtr, columns, digests: null }
  }

  /** Cells of one metric in rows of one page; null: no row has one. */
  #cells(cursor: Cursor, page: number, from: number, rowCount: number, number: number): BatchColumn | null {
    const { reader } = cursor
    const metric = this.#metrics[number]!
    const stored = cursor.stored[number]!
    const entry = stored[0]
    if (entry === undefined) return null
    if (stored.length > 1 || entry.dtype !== metric.type)
      return this.#gathered(metric, [{ cursor, page, from, rowCount }], rowCount)
    const decoded = reader.page(entry, page, from + rowCount)
    if (decoded === null) return null
    let { validityPtr, valuesPtr } = decoded
    if (validityPtr !== 0 && from > 0) validityPtr = this.#shiftedBits(validityPtr, from, rowCount)
    if (metric.type !== 'bool') valuesPtr += from * (metric.type === 'string' ? 4 : 8)
    else if (from > 0) valuesPtr = this.#shiftedBits(valuesPtr, from, rowCount)
    return { valuesPtr, validityPtr, bytesPtr: decoded.bytesPtr }
  }

  #shiftedBits(ptr: number, from: number, bitCount: number): number {
    const bitsPtr = this.temporary.allocate(bitmapByteLength(bitCount))
    this.io.kernels.call.copyBits(ptr, from, bitsPtr, 0, bitCount)
    return bitsPtr
  }

  /** Rows of several blocks: sorted by time, one row a time, each cell the newest that is there. */
  #merged(parts: readonly Part[], rowCount: number): Batch {
    const { temporary } = this
    const { call, u32 } = this.io.kernels
    const timesPtr = temporary.allocate(8 * rowCount)
    const partStartsPtr = temporary.allocate(4 * (parts.length + 1))
    let row = 0
    parts.forEach(({ cursor, page, from, rowCount: partRowCount }, i) => {
      const source = cursor.reader.page(cursor.timeColumn, page, from + partRowCount)!.valuesPtr + 8 * from
      call.copyBytes(source, 8 * partRowCount, timesPtr + 8 * row)
      u32[(partStartsPtr >> 2) + i] = row
      row += partRowCount
    })
    u32[(partStartsPtr >> 2) + parts.length] = row
    const permutationPtr = temporary.allocate(4 * rowCount)
    const mergePtr = temporary.allocate(call.mergeTimesScratchByteLength(rowCount))
    call.mergeTimes(timesPtr, partStartsPtr, parts.length, permutationPtr, mergePtr)
    const groupStartsPtr = temporary.allocate(4 * (rowCount + 1))
    const distinctCount = call.distinctTimes(timesPtr, permutationPtr, 0, rowCount, groupStartsPtr)
    const distinctPtr = temporary.allocate(8 * distinctCount)
    call.gatherGroupTimes(timesPtr, permutationPtr, groupStartsPtr, distinctCount, distinctPtr)
    const newest = this.newestWins ? 1 : 0
    const columns = this.#metrics.map((metric): BatchColumn | null => {
      const all = this.#gathered(metric, parts, rowCount)
      if (all === null) return null
      const validityPtr = temporary.allocate(bitmapByteLength(distinctCount))
      let valuesPtr: number
      let { bytesPtr } = all
      if (metric.type === 'string') {
        const indexesPtr = temporary.allocate(4 * distinctCount)
        call.coalesceIndexes(all.validityPtr, permutationPtr, groupStartsPtr, distinctCount, newest, indexesPtr)
        valuesPtr = temporary.allocate(4 * (distinctCount + 1))
        bytesPtr = temporary.allocate(call.gatheredStringsByteLength(all.valuesPtr, indexesPtr, distinctCount))
        call.gatherStrings(all.valuesPtr, all.bytesPtr, indexesPtr, distinctCount, valuesPtr, bytesPtr)
        call.presentIndexes(indexesPtr, distinctCount, validityPtr)
      } else if (metric.type === 'bool') {
        valuesPtr = temporary.allocate(bitmapByteLength(distinctCount))
        call.coalesceBits(
          all.valuesPtr,
          all.validityPtr,
          permutationPtr,
          groupStartsPtr,
          distinctCount,
          newest,
          valuesPtr,
          validityPtr,
        )
      } else {
        valuesPtr = temporary.allocate(8 * distinctCount)
        call.coalesce64(
          all.valuesPtr,
          all.validityPtr,
          permutationPtr,
          groupStartsPtr,
          distinctCount,
          newest,
          valuesPtr,
          validityPtr,
        )
      }
      return { valuesPtr, validityPtr: all.validityPtr === 0 ? 0 : validityPtr, bytesPtr }
    })
    return { rowCount: distinctCount, timesPtr: distinctPtr, columns, digests: null }
  }

  /** One metric's cells of several parts, one behind the other, in the wanted type. Null when there is none. */
  #gathered(metric: WantedMetric, parts: readonly Part[], rowCount: number): BatchColumn | null {
    const { temporary } = this
    const { call, u8 } = this.io.kernels
    const isString = metric.type === 'string'
    const isBool = metric.type === 'bool'
    const pages = parts.map(({ cursor, page, from, rowCount: partRowCount }) =>
      metric.storedTypes.flatMap((type) => {
        const entry = cursor.reader.column(metric.name, type)
        const decoded = entry === undefined ? null : cursor.reader.page(entry, page, from + partRowCount)
        return decoded === null ? [] : [{ type, decoded }]
      }),
    )
    if (pages.every((found) => found.length === 0)) return null
    const validityPtr = temporary.allocate(bitmapByteLength(rowCount))
    call.fillBits(validityPtr, rowCount, 0)
    const valuesPtr = temporary.allocate(
      isBool ? bitmapByteLength(rowCount) : isString ? 4 * (rowCount + 1) : 8 * rowCount,
    )
    if (isBool) call.fillBits(valuesPtr, rowCount, 0)
    if (isString) return this.#gatheredStrings(parts, pages, rowCount, validityPtr, valuesPtr)
    const convertedPtr = temporary.allocate(8 * rowCount)
    let row = 0
    parts.forEach((part, i) => {
      const found = pages[i]!
      if (found.length !== 1 && !isBool) u8.fill(0, valuesPtr + 8 * row, valuesPtr + 8 * (row + part.rowCount))
      for (const { type, decoded } of found) {
        let cellsPtr = convertedPtr
        if (type === metric.type && !isBool) cellsPtr = decoded.valuesPtr + 8 * part.from
        else if (type === 'int64')
          call.convertInt64ToFloat64(decoded.valuesPtr + 8 * part.from, part.rowCount, convertedPtr)
        else {
          call.copyBits(decoded.valuesPtr, part.from, convertedPtr, 0, part.rowCount)
          if (metric.type === 'float64')
            this.#bitsTo64(convertedPtr, part.rowCount, (from, to) =>
              call.convertBitsToFloat64(from, part.rowCount, to),
            )
          else if (metric.type === 'int64')
            this.#bitsTo64(convertedPtr, part.rowCount, (from, to) => call.convertBitsToInt64(from, part.rowCount, to))
        }
        if (found.length === 1) {
          if (isBool) call.copyBits(cellsPtr, 0, valuesPtr, row, part.rowCount)
          else call.copyBytes(cellsPtr, 8 * part.rowCount, valuesPtr + 8 * row)
          if (decoded.validityPtr === 0) call.setBitRange(validityPtr, row, row + part.rowCount, 1)
          else call.copyBits(decoded.validityPtr, part.from, validityPtr, row, part.rowCount)
        } else this.#mix(cellsPtr, decoded.validityPtr, part, row, valuesPtr, validityPtr)
      }
      row += part.rowCount
    })
    const isFull = call.countBits(validityPtr, rowCount) === rowCount
    return { valuesPtr, validityPtr: isFull ? 0 : validityPtr, bytesPtr: 0 }
  }

  /** Widens bits that stand at `ptr` into 8-byte cells at the same place. */
  #bitsTo64(ptr: number, rowCount: number, convert: (from: number, to: number) => void): void {
    const byteLength = Math.ceil(rowCount / 8)
    const copyPtr = this.temporary.allocate(bitmapByteLength(rowCount))
    this.io.kernels.call.copyBytes(ptr, byteLength, copyPtr)
    convert(copyPtr, ptr)
  }

  /** A page that holds cells of several types, each in rows of its own. Rare: a block that is not merged yet. */
  #mix(
    cellsPtr: number,
    pageValidityPtr: number,
    part: Part,
    row: number,
    valuesPtr: number,
    validityPtr: number,
  ): void {
    const { call, u8, i64 } = this.io.kernels
    for (let i = 0; i < part.rowCount; i++) {
      const bit = part.from + i
      if (pageValidityPtr !== 0 && ((u8[pageValidityPtr + (bit >> 3)]! >> (bit & 7)) & 1) === 0) continue
      i64[(valuesPtr >> 3) + row + i] = i64[(cellsPtr >> 3) + i]!
      call.setBitRange(validityPtr, row + i, row + i + 1, 1)
    }
  }

  #gatheredStrings(
    parts: readonly Part[],
    pages: readonly (readonly { decoded: { valuesPtr: number; validityPtr: number; bytesPtr: number } }[])[],
    rowCount: number,
    validityPtr: number,
    offsetsPtr: number,
  ): BatchColumn {
    const { call, u32 } = this.io.kernels
    let byteLength = 0
    parts.forEach((part, i) => {
      const page = pages[i]![0]
      if (page === undefined) return
      const offsets = (page.decoded.valuesPtr >> 2) + part.from
      byteLength += u32[offsets + part.rowCount]! - u32[offsets]!
    })
    const bytesPtr = this.temporary.allocate(byteLength)
    let row = 0
    let end = 0
    u32[offsetsPtr >> 2] = 0
    parts.forEach((part, i) => {
      const page = pages[i]![0]
      if (page === undefined) u32.fill(end, (offsetsPtr >> 2) + row, (offsetsPtr >> 2) + row + part.rowCount + 1)
      else {
        const { valuesPtr, bytesPtr: textPtr, validityPtr: pageValidityPtr } = page.decoded
        end = call.copyStrings(valuesPtr, textPtr, part.from, part.rowCount, offsetsPtr + 4 * row, end, bytesPtr)
        if (pageValidityPtr === 0) call.setBitRange(validityPtr, row, row + part.rowCount, 1)
        else call.copyBits(pageValidityPtr, part.from, validityPtr, row, part.rowCount)
      }
      row += part.rowCount
    })
    const isFull = call.countBits(validityPtr, rowCount) === rowCount
    return { valuesPtr: offsetsPtr, validityPtr: isFull ? 0 : validityPtr, bytesPtr }
  }
}

/** The coarsest digests of a block that have all that the grid keeps, for all metrics, and may lie within its buckets. */
export function servingDigests(
  reader: BlockReader,
  metrics: readonly WantedMetric[],
  { fields, stepNs }: BucketGrid,
): ServingDigests | null {
  return coarsest(reader, metrics, (grain) => {
    return (grain.fields & fields) === fields && BigInt(grain.grainMs) * nsPerMs <= stepNs
  })
}

/** The coarsest digests that know the extremes of all metrics, where enough rows are passed over with each. */
function skippingDigests(reader: BlockReader, metrics: readonly WantedMetric[]): ServingDigests | null {
  return coarsest(reader, metrics, (grain) => {
    const isLong = reader.layout.rowCount >= skippedRowCountMin * grain.digestCount
    return isLong && (grain.fields & digestFields.extremes) !== 0
  })
}

function coarsest(
  reader: BlockReader,
  metrics: readonly WantedMetric[],
  serves: (grain: StoredGrain) => boolean,
): ServingDigests | null {
  let best: ServingDigests | null = null
  for (const grain of grainsOf(reader)) {
    if (!serves(grain) || (best !== null && best.grain.grainMs >= grain.grainMs)) continue
    const columns = metrics.map(({ name, storedTypes }) => {
      const entries = storedTypes.map((type) => reader.column(name, type)).filter((entry) => entry !== undefined)
      // Cells of several types in one block: which was the last one is not known.
      if (entries.length > 1 || entries.some(({ index }) => !grain.attachments.has(index))) return null
      return entries[0]?.index ?? -1
    })
    if (columns.every((column) => column !== null)) best = { grain, columns }
  }
  return best
}

/** Bytes of a bitmap, with room for kernels that write whole words. */
export function bitmapByteLength(rowCount: number): number {
  return ((rowCount + 63) >> 6) * 8 + 8
}

/** A bound of cells of a type; null: it may be rounded, or the type has no order. */
function boundOf(type: MetricType, bound: number): Value | null {
  if (type === 'float64') return bound
  return type === 'int64' && Number.isSafeInteger(bound) ? BigInt(bound) : null
}

/** The run that begins at the cursor's next row, if one does. */
function runAt({ runs, run, row }: Cursor): DigestRun | null {
  const next = runs[run]
  return next !== undefined && next.rowFrom === row ? next : null
}

/** Index of a set in the directory, below 0 when it is not there. Merges ask for one after another, of many blocks. */
function placeOf(cursor: Cursor, set: number): number {
  const { directory, place } = cursor
  const { sets } = directory
  const next = sets[place]
  if (next === set) return cursor.place++
  if (next !== undefined && next > set && (place === 0 || sets[place - 1]! < set)) return -1
  const index = findSet(directory, set)
  cursor.place = index < 0 ? ~index : index + 1
  return index
}

/** The columns of each metric. Loops: of few columns V8 takes longer for flatMap than for all else of opening a set. */
function storedColumns(reader: BlockReader, metrics: readonly WantedMetric[]): ColumnEntry[][] {
  const stored: ColumnEntry[][] = []
  for (let i = 0; i < metrics.length; i++) {
    const { name, storedTypes } = metrics[i]!
    const columns: ColumnEntry[] = []
    for (let j = 0; j < storedTypes.length; j++) {
      const column = reader.column(name, storedTypes[j]!)
      if (column !== undefined) columns.push(column)
    }
    stored.push(columns)
  }
  return stored
}

/** The page that holds a row. */
function pageOf(pageStarts: Uint32Array, row: number): number {
  let low = 0
  let high = pageStarts.length - 1
  while (low + 1 < high) {
    const middle = (low + high) >>> 1
    if (pageStarts[middle]! <= row) low = middle
    else high = middle
  }
  return low
}
