// Reads records, in a worker, into finished messages: one shard in the order of its sequence numbers, or several in the
// order of arrival.
import type { BlockSource } from '../../blocks/reader.js'
import { BlockIo, BlockReader } from '../../blocks/reader.js'
import { encodedFrameBound, encodeFrame } from '../../codec/wire.js'
import { FramesError } from '../../errors.js'
import type { Expression } from '../../expression/tree.js'
import { bitmapByteLength } from '../../frame/bitmap.js'
import type { ColumnSlice, FrameLabel, FrameSlice } from '../../frame/column-slice.js'
import type { Kernels } from '../../kernels/kernels.js'
import { readMessageByteLength, streamJobByteLength } from '../../limits.js'
import type { Scratch } from '../../memory/scratch.js'
import type { Slice } from '../../memory/slice.js'
import type { WorkerReader } from '../../stores/store.js'
import { type AssembleTools, assembleColumn, type Stretch, textByteLengthOf, uniteColumns } from './assemble.js'
import { firstPiece, type Pieces, piecesOf } from './pieces.js'
import { RecordFilter } from './record-filter.js'
import type { CellType, StoredColumn } from './stored-columns.js'

/** The first record that is wanted, in the order of the read. */
export interface RecordPosition {
  readonly arrivalNs: bigint
  readonly shard: number
  readonly sequence: number
}

/** Sequence numbers [start, end) of a shard. */
export interface SequenceRange {
  readonly shard: number
  readonly start: number
  readonly end: number
}

/** A column of the answer. */
export interface WantedColumn {
  readonly name: string
  /** cells: members of records; else what the stream knows of each. */
  readonly source: 'cells' | 'arrival' | 'sequence'
  /** Type of its cells in every frame. */
  readonly type: CellType
  readonly stored: readonly StoredColumn[]
  /** It is in every frame, also where no record has it. */
  readonly isRequested: boolean
}

export interface ScanPlan {
  readonly columns: readonly WantedColumn[]
  /** Null: all records. */
  readonly filter: Expression | null
  /** Whether the shard is an index, before the sequence number. */
  readonly hasShardIndex: boolean
  /** Records that arrived before are left out; the first that arrived at `untilNs` or later ends the read. */
  readonly fromNs: bigint
  readonly untilNs: bigint
  /** Records of one message at most; 0: cut by bytes. */
  readonly messageLimit: number
}

export interface ScanInput {
  readonly sources: readonly BlockSource[]
  readonly partition: string
  readonly tableName: string
  readonly plan: ScanPlan
  /** One a shard, in order of shards. */
  readonly ranges: readonly SequenceRange[]
  readonly position: RecordPosition | null
  /** Records that may still be sent. */
  readonly rowCountMax: number
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
  /** Where to go on; null: the sources have no more. */
  readonly next: RecordPosition | null
  /** A record arrived at `untilNs` or later. */
  readonly isEnd: boolean
  /** Bytes of the messages, as they are counted towards the end of a job. */
  readonly byteLength: number
}

/** Rows of a message, whatever their size. */
const messageRowCountMax = 65_536
/** How full a message is that ends with a page. */
const fullShare = 3 / 4
/** An entry of a null map, without its name. */
const nullEntryByteLength = 8
/** Sequence number and arrival time of a row. */
const rowHeadByteLength = 16

export function scanRecords(
  kernels: Kernels,
  scratch: Scratch,
  store: WorkerReader | null,
  input: ScanInput,
): ScanResult {
  const parts = scratch.split(input.plan.filter === null ? [0.3, 0.25, 0.35, 0.1] : [0.25, 0.2, 0.25, 0.1, 0.1, 0.1])
  const [output, collected, cache, temporary, selected, evaluation] = parts as [
    Scratch,
    Scratch,
    Scratch,
    Scratch,
    ...Scratch[],
  ]
  const io = new BlockIo(kernels, cache, store, input.partition, input.tableName)
  const walk = new PieceWalk(
    input.sources.map((source) => new BlockReader(io, source)),
    input,
  )
  const sink = new MessageSink({ io, temporary }, output, collected, input)
  if (input.plan.filter !== null) sink.filterBy(new RecordFilter(kernels, evaluation!, input.plan.filter), selected!)
  for (let piece = walk.first(); piece !== null; piece = walk.next()) {
    if (input.isCancelled()) throw new FramesError('CANCELLED', 'the read was cancelled')
    if (piece.arrivalNs >= input.plan.untilNs) {
      sink.close()
      return { ...sink.made, next: null, isEnd: true }
    }
    const taken = sink.push(piece)
    if (taken < piece.rowEnd - piece.rowStart) {
      const { arrivalNs, shard, sequence } = piece
      return { ...sink.made, next: { arrivalNs, shard, sequence: sequence + taken }, isEnd: false }
    }
  }
  sink.close()
  return { ...sink.made, next: null, isEnd: false }
}

/** Rows [rowStart, rowEnd) of a block: records of one commit in one shard, `sequence` that of the first. */
interface Piece {
  readonly reader: BlockReader
  readonly rowStart: number
  readonly rowEnd: number
  readonly shard: number
  readonly sequence: number
  readonly arrivalNs: bigint
}

/** The pieces of one shard, over all blocks. */
interface ShardWalk {
  readonly range: SequenceRange
  readonly parts: readonly { readonly reader: BlockReader; readonly pieces: Pieces; readonly end: number }[]
  /** First piece of each part that is wanted. */
  readonly starts: readonly number[]
  part: number
  piece: number
}

/** Pieces in order of (arrival, shard): each shard has its own in that order, so this is a merge, by a heap. */
class PieceWalk {
  readonly #heap: ShardWalk[] = []
  readonly #plan: ScanPlan
  readonly #position: RecordPosition | null

  constructor(readers: readonly BlockReader[], { ranges, plan, position }: ScanInput) {
    this.#plan = plan
    this.#position = position
    const all = readers.map((reader) => ({ reader, pieces: piecesOf(reader) }))
    const fromNs = position !== null && position.arrivalNs > plan.fromNs ? position.arrivalNs : plan.fromNs
    for (const range of ranges) {
      const parts: { reader: BlockReader; pieces: Pieces; end: number }[] = []
      const starts: number[] = []
      for (const { reader, pieces } of all) {
        const { shards, sequences, arrivals, rows, count } = pieces
        const shardStart = firstPiece(0, count, (piece) => shards[piece]! >= range.shard)
        const end = firstPiece(
          shardStart,
          count,
          (piece) => shards[piece]! > range.shard || sequences[piece]! >= range.end,
        )
        const start = firstPiece(
          shardStart,
          end,
          (piece) => arrivals[piece]! >= fromNs && sequences[piece]! + rows[piece + 1]! - rows[piece]! > range.start,
        )
        if (start === end) continue
        parts.push({ reader, pieces, end })
        starts.push(start)
      }
      const walk: ShardWalk = { range, parts, starts, part: 0, piece: starts[0] ?? 0 }
      if (parts.length > 0) this.#push(walk)
    }
  }

  first(): Piece | null {
    return this.#heap.length === 0 ? null : (this.#clipped(this.#heap[0]!) ?? this.next())
  }

  /** The piece behind the last one that was given. */
  next(): Piece | null {
    for (;;) {
      const top = this.#heap[0]
      if (top === undefined) return null
      top.piece++
      if (top.piece === top.parts[top.part]!.end) {
        top.part++
        if (top.part < top.parts.length) top.piece = top.starts[top.part]!
      }
      if (top.part === top.parts.length) {
        const last = this.#heap.pop()!
        if (last !== top) this.#heap[0] = last
      }
      this.#sink(0)
      if (this.#heap.length === 0) return null
      const piece = this.#clipped(this.#heap[0]!)
      if (piece !== null) return piece
    }
  }

  /** What is wanted of the piece where a shard stands, or null. */
  #clipped({ range, parts, part, piece }: ShardWalk): Piece | null {
    const { reader, pieces } = parts[part]!
    const arrivalNs = pieces.arrivals[piece]!
    const first = pieces.sequences[piece]!
    const firstRow = pieces.rows[piece]!
    let start = Math.max(first, range.start)
    const end = Math.min(first + pieces.rows[piece + 1]! - firstRow, range.end)
    const position = this.#position
    if (position !== null && arrivalNs === position.arrivalNs) {
      if (range.shard < position.shard) return null
      if (range.shard === position.shard) start = Math.max(start, position.sequence)
    }
    if (start >= end || arrivalNs < this.#plan.fromNs) return null
    const rowStart = firstRow + start - first
    return { reader, rowStart, rowEnd: rowStart + end - start, shard: range.shard, sequence: start, arrivalNs }
  }

  #isBefore(a: ShardWalk, b: ShardWalk): boolean {
    const arrivalA = a.parts[a.part]!.pieces.arrivals[a.piece]!
    const arrivalB = b.parts[b.part]!.pieces.arrivals[b.piece]!
    return arrivalA === arrivalB ? a.range.shard < b.range.shard : arrivalA < arrivalB
  }

  #push(walk: ShardWalk): void {
    const heap = this.#heap
    let at = heap.push(walk) - 1
    while (at > 0) {
      const parent = (at - 1) >>> 1
      if (!this.#isBefore(heap[at]!, heap[parent]!)) return
      swap(heap, at, parent)
      at = parent
    }
  }

  #sink(start: number): void {
    const heap = this.#heap
    for (let at = start; ; ) {
      let least = at
      for (const child of [2 * at + 1, 2 * at + 2])
        if (child < heap.length && this.#isBefore(heap[child]!, heap[least]!)) least = child
      if (least === at) return
      swap(heap, at, least)
      at = least
    }
  }
}

function swap(heap: ShardWalk[], a: number, b: number): void {
  const kept = heap[a]!
  heap[a] = heap[b]!
  heap[b] = kept
}

/** Collects stretches of rows and closes messages when they are large enough. */
class MessageSink {
  readonly #messages: ScanMessage[] = []
  readonly #capacity: number
  readonly #textColumns: readonly StoredColumn[]
  #stretches: Stretch[] = []
  #filter: { readonly filter: RecordFilter; readonly selected: Scratch; readonly mark: number } | null = null
  #rowCount = 0
  #sentRowCount = 0
  /** Estimated bytes of the rows collected, and of the messages that are closed. */
  #byteLength = 0
  #sentByteLength = 0
  #heads: { readonly sequencesPtr: number; readonly arrivalsPtr: number; readonly shardsPtr: number } | null = null
  #start = 0

  constructor(
    readonly tools: AssembleTools,
    readonly output: Scratch,
    readonly collected: Scratch,
    readonly input: ScanInput,
  ) {
    const { plan, rowCountMax } = input
    const limit = plan.messageLimit > 0 ? plan.messageLimit : messageRowCountMax
    this.#capacity = Math.max(1, Math.min(limit, messageRowCountMax, rowCountMax))
    this.#textColumns = plan.columns.flatMap(({ stored }) => stored.filter(({ dtype }) => dtype === 'string'))
  }

  get made(): Pick<ScanResult, 'messages' | 'byteLength'> {
    return { messages: this.#messages, byteLength: this.#sentByteLength }
  }

  /** Where a message is put together: columns that stay must stand in the output. */
  get #target(): Scratch {
    return this.input.format === 'wire' ? this.collected : this.output
  }

  /** From now on, only rows that the filter lets through are taken. */
  filterBy(filter: RecordFilter, selected: Scratch): void {
    this.#filter = { filter, selected, mark: selected.mark() }
  }

  /** Takes rows of a piece from its start on; returns how many. Fewer than all: the job ends before the next that is wanted. */
  push(piece: Piece): number {
    const { reader } = piece
    const { pageStarts } = reader.layout
    let page = pageOfRow(pageStarts, piece.rowStart)
    for (let row = piece.rowStart; row < piece.rowEnd; page++) {
      const pageStart = pageStarts[page]!
      const rowEnd = Math.min(piece.rowEnd, pageStarts[page + 1]!)
      if (row === pageStart && this.#endsBefore({ reader, page, rowStart: 0, rowCount: pageStarts[page + 1]! - row }))
        this.close()
      const selection = this.#select(reader, page, row - pageStart, rowEnd - pageStart)
      const count = selection === null ? rowEnd - row : selection.count
      for (let taken = 0; taken < count; ) {
        if (
          this.#sentRowCount + this.#rowCount >= this.input.rowCountMax ||
          this.#sentByteLength >= streamJobByteLength
        ) {
          this.close()
          const next = selection === null ? row + taken : pageStart + selection.rowAt(taken)
          return next - piece.rowStart
        }
        const room = Math.min(this.#capacity, this.input.rowCountMax - this.#sentRowCount) - this.#rowCount
        taken += this.#take(
          {
            reader,
            page,
            rowStart: row - pageStart + (selection === null ? taken : 0),
            rowCount: Math.min(count - taken, room),
            indexesPtr: selection === null ? 0 : selection.indexesPtr + 4 * taken,
          },
          piece,
        )
      }
      row = rowEnd
    }
    return piece.rowEnd - piece.rowStart
  }

  /** Whether the message under way is large enough, and a page would not go into it whole: whole pages are copied once less. */
  #endsBefore(page: Omit<Stretch, 'indexesPtr'>): boolean {
    if (this.#filter !== null || this.#byteLength < fullShare * readMessageByteLength) return false
    return this.#byteLength + this.#byteLengthOf({ ...page, indexesPtr: 0 }, page.rowCount) > readMessageByteLength
  }

  /** The rows of [rowStart, rowEnd) of a page that are wanted, by their numbers in the page; null: all of them. */
  #select(reader: BlockReader, page: number, rowStart: number, rowEnd: number): Selection | null {
    if (this.#filter === null) return null
    const { filter, selected, mark } = this.#filter
    const { u8, u32 } = this.tools.io.kernels
    // Those of rows that have left are not needed any more.
    if (this.#rowCount === 0) selected.release(mark)
    const bitsPtr = filter.matches(reader, page)
    if (bitsPtr === 0) return noRows
    const indexesPtr = selected.allocate(4 * (rowEnd - rowStart))
    let count = 0
    for (let row = rowStart; row < rowEnd; row++)
      if ((u8[bitsPtr + (row >> 3)]! >> (row & 7)) & 1) u32[(indexesPtr >> 2) + count++] = row
    selected.release(indexesPtr)
    selected.allocate(4 * count)
    return { indexesPtr, count, rowAt: (index) => u32[(indexesPtr >> 2) + index]! }
  }

  /** Takes rows of a stretch from its start on, as many as the message under way should have; returns how many. */
  #take(stretch: Stretch, piece: Piece): number {
    const wanted = stretch.rowCount
    const byteLength = this.#byteLengthOf(stretch, wanted)
    const left = readMessageByteLength - this.#byteLength
    const rowCount = byteLength > left ? Math.max(1, Math.floor((wanted * left) / byteLength)) : wanted
    this.#append({ ...stretch, rowCount }, piece)
    this.#byteLength += rowCount === wanted ? byteLength : this.#byteLengthOf(stretch, rowCount)
    if (this.#rowCount >= this.#capacity || this.#byteLength >= readMessageByteLength || rowCount < wanted) this.close()
    return rowCount
  }

  #append(stretch: Stretch, piece: Piece): void {
    const { kernels } = this.tools.io
    const { call, u32, i64 } = kernels
    if (this.#heads === null) {
      const target = this.#target
      this.#start = target.mark()
      const byteLength = 8 * this.#capacity
      this.#heads = {
        sequencesPtr: target.allocate(byteLength),
        arrivalsPtr: target.allocate(byteLength),
        shardsPtr: this.input.plan.hasShardIndex ? target.allocate(byteLength) : 0,
      }
    }
    const { sequencesPtr, arrivalsPtr, shardsPtr } = this.#heads
    const at = 8 * this.#rowCount
    const { rowCount, indexesPtr } = stretch
    /** Sequence number of the record in row 0 of the page, if it were of this piece. */
    const sequenceOfPage = piece.sequence - piece.rowStart + stretch.reader.layout.pageStarts[stretch.page]!
    if (indexesPtr === 0) {
      call.fillProgression(sequencesPtr + at, rowCount, BigInt(sequenceOfPage + stretch.rowStart), 1n)
    } else {
      for (let i = 0; i < rowCount; i++)
        i64[((sequencesPtr + at) >> 3) + i] = BigInt(sequenceOfPage + u32[(indexesPtr >> 2) + i]!)
    }
    call.fillInt64(arrivalsPtr + at, rowCount, piece.arrivalNs)
    if (shardsPtr !== 0) call.fillInt64(shardsPtr + at, rowCount, BigInt(piece.shard))
    this.#rowCount += rowCount
    // Rows that follow each other in one page are one stretch.
    const last = this.#stretches[this.#stretches.length - 1]
    const isNext =
      indexesPtr === 0 &&
      last !== undefined &&
      last.reader === stretch.reader &&
      last.page === stretch.page &&
      last.rowStart + last.rowCount === stretch.rowStart
    if (isNext) this.#stretches[this.#stretches.length - 1] = { ...last, rowCount: last.rowCount + rowCount }
    else this.#stretches.push(stretch)
  }

  /** About how many bytes the first rows of a stretch take in a message. */
  #byteLengthOf(stretch: Stretch, rowCount: number): number {
    const { kernels } = this.tools.io
    let byteLength = rowHeadByteLength * rowCount
    for (const column of this.#textColumns) byteLength += textByteLengthOf(kernels, stretch, column, rowCount)
    for (const { name, source, stored, isRequested } of this.input.plan.columns) {
      if (source !== 'cells') continue
      let share = 0
      for (const { name: storedName, dtype } of stored) {
        const column = stretch.reader.column(storedName, dtype)
        if (column === undefined) continue
        const pageStarts = stretch.reader.layout.pageStarts
        const pageRowCount = pageStarts[stretch.page + 1]! - pageStarts[stretch.page]!
        share += stretch.reader.table(column).presentCounts[stretch.page]! / pageRowCount
      }
      // A column that no row of a message has is left out of it, if it may be.
      if (share > 0 || isRequested)
        byteLength += rowCount * (8 * share + Math.max(0, 1 - share) * (name.length + nullEntryByteLength))
    }
    return byteLength
  }

  /** Finishes the message under way, if there is one. */
  close(): void {
    if (this.#heads === null) return
    const { io } = this.tools
    const { plan, format } = this.input
    const rowCount = this.#rowCount
    const { sequencesPtr, arrivalsPtr, shardsPtr } = this.#heads
    const index = (name: string, valuesPtr: number): ColumnSlice => ({
      ...emptyColumn,
      name,
      dtype: 'int64',
      rowCount,
      valuesPtr,
    })
    const sequences = index('seq_number', sequencesPtr)
    const columns: ColumnSlice[] = []
    for (const wanted of plan.columns) {
      if (wanted.source === 'sequence') columns.push(sequences)
      else if (wanted.source === 'arrival')
        columns.push({ ...sequences, name: wanted.name, dtype: 'time', valuesPtr: arrivalsPtr })
      else {
        const column = this.#cells(wanted)
        if (column !== null) columns.push(column)
      }
    }
    const lastSequence = io.kernels.i64[(sequencesPtr >> 3) + rowCount - 1]!
    const labels: FrameLabel[] = [{ name: 'last_seq', value: lastSequence }]
    const indices = shardsPtr === 0 ? [sequences] : [index('shard_id', shardsPtr), sequences]
    this.#finish({ rowCount, columns, indices, labels }, format)
    this.#heads = null
    this.#stretches = []
    this.#rowCount = 0
    this.#byteLength = 0
    this.#sentRowCount += rowCount
    io.cache.beginEpoch()
  }

  #cells({ name, stored, type, isRequested }: WantedColumn): ColumnSlice | null {
    const { tools } = this
    const target = this.#target
    const parts: ColumnSlice[] = []
    for (const column of stored) {
      const part = assembleColumn(tools, target, this.#stretches, this.#rowCount, column)
      if (part !== null) parts.push(part)
    }
    if (parts.length > 0) return { ...uniteColumns(tools.io.kernels, target, parts, type), name }
    return isRequested ? this.#missing(name, type) : null
  }

  /** A column of which no record has a cell. */
  #missing(name: string, type: CellType): ColumnSlice {
    const { u8 } = this.tools.io.kernels
    const rowCount = this.#rowCount
    const valuesByteLength = 8 * (rowCount + 1)
    const valuesPtr = this.#target.allocate(valuesByteLength)
    const validityPtr = this.#target.allocate(bitmapByteLength(rowCount) + 8)
    u8.fill(0, valuesPtr, valuesPtr + valuesByteLength)
    u8.fill(0, validityPtr, validityPtr + bitmapByteLength(rowCount))
    return { ...emptyColumn, name, dtype: type, rowCount, valuesPtr, validityPtr, bytesPtr: valuesPtr }
  }

  #finish(frame: FrameSlice, format: 'wire' | 'columns'): void {
    const { output } = this
    const { rowCount } = frame
    const start = output.mark()
    if (format === 'columns') {
      this.#sentByteLength += this.#byteLength
      this.#messages.push({ rowCount, bytes: null, frame })
      return
    }
    const bound = encodedFrameBound(frame)
    const byteOffset = output.allocate(bound)
    const byteLength = encodeFrame(this.tools.io.kernels, frame, byteOffset, bound)
    output.release(start)
    output.allocate(byteLength)
    this.#sentByteLength += byteLength
    this.collected.release(this.#start)
    this.#messages.push({ rowCount, bytes: { byteOffset, byteLength }, frame: null })
  }
}

/** Rows of a page by their numbers in it. */
interface Selection {
  readonly indexesPtr: number
  readonly count: number
  readonly rowAt: (index: number) => number
}

const noRows: Selection = { indexesPtr: 0, count: 0, rowAt: () => 0 }

const emptyColumn = { kind: 'slice' as const, validityPtr: 0, bytesPtr: 0, byteLength: 0 }

/** The page that holds a row. */
function pageOfRow(pageStarts: Uint32Array, row: number): number {
  let low = 0
  let high = pageStarts.length - 2
  while (low < high) {
    const middle = (low + high + 1) >>> 1
    if (pageStarts[middle]! <= row) low = middle
    else high = middle - 1
  }
  return low
}
