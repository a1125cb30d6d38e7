// Frames and records become blocks, in a worker: all that waits for one stream goes into one commit.
//
// Every input is validated whole before any of it is stored; a bad one fails alone, and takes the later ones of its
// session with it. Rows are laid out by (shard, sequence); sequences are given here, from those that are free.
import { PageEncoder } from '../../blocks/builder.js'
import type { PreparedBlock } from '../../blocks/merge-rule.js'
import { frameByteLength, layFrame } from '../../codec/columns.js'
import { type ErrorMessage, FramesError, toErrorMessage } from '../../errors.js'
import { bitmapByteLength } from '../../frame/bitmap.js'
import { columnOfCells, type Cell } from '../../frame/builder.js'
import type { ColumnSlice } from '../../frame/column-slice.js'
import { Frame } from '../../frame/frame.js'
import { valueText } from '../../frame/value-text.js'
import type { Kernels } from '../../kernels/kernels.js'
import { nameByteLengthMax, pageRowCountMax, tableColumnCountMax } from '../../limits.js'
import type { Scratch } from '../../memory/scratch.js'
import { formatTimeNs } from '../../time.js'
import { type FrameInput, type InputColumn, type InputFrame, openInput, spreadLabel } from '../frame-input.js'
import { BlockWriter } from './block-writer.js'
import { jsonMembers, type Member } from './json-record.js'
import { type Pieces, PiecesBuilder } from './pieces.js'
import {
  type CellType,
  clientInfoColumn,
  columnKey,
  dataColumn,
  partitionKeyColumn,
  rawDataName,
  type StoredColumn,
  storedName,
} from './stored-columns.js'

/** One record put by a command. */
export interface PutRecord {
  readonly data: string
  readonly clientInfo: string | null
  readonly partitionKey: string | null
}

export type RecordInput = FrameInput | { readonly format: 'records'; readonly records: readonly PutRecord[] }

export interface AppendInput {
  /** Inputs of one session are stored in order, and none behind one that failed. */
  readonly session: number
  readonly source: RecordInput
}

/** Where the free places of a stream are. */
export interface FreePlaces {
  /** The next sequence number of each shard. */
  readonly nextSequences: Float64Array
  /** The shard that the next record without a key goes to. */
  readonly cursor: number
  readonly arrivalNs: bigint
}

/** Shard and sequence number of each record of an input, in order. */
export interface Places {
  readonly shards: Uint32Array
  readonly sequences: Float64Array
}

export type AppendOutcome =
  /** places: of records; null for frames. */
  | { readonly status: 'stored'; readonly rowCount: number; readonly places: Places | null }
  | { readonly status: 'failed'; readonly error: ErrorMessage }
  /** Not looked at, because an earlier input of its session failed. */
  | { readonly status: 'skipped' }

export interface AppendResult {
  /** As the inputs. */
  readonly outcomes: readonly AppendOutcome[]
  readonly blocks: readonly PreparedBlock[]
  /** Records that each shard gets. */
  readonly shardRowCounts: Uint32Array
  readonly cursor: number
  readonly columns: readonly StoredColumn[]
}

/** An input that passed, ready to be laid out. */
interface OpenSource {
  readonly inputIndex: number
  readonly rowCount: number
  readonly columns: readonly OpenColumn[]
  /** Texts that say which records belong together; a missing one leaves the record free. Null: none has a key. */
  readonly keys: ColumnSlice | null
  readonly isRecords: boolean
}

interface OpenColumn extends StoredColumn {
  /** Bytes of text in all its cells. */
  readonly textByteLength: number
  /** One value a row. */
  readonly read: () => ColumnSlice
}

export function appendInputs(
  kernels: Kernels,
  output: Scratch,
  inputs: readonly AppendInput[],
  options: FreePlaces & { readonly partitionKey: string | null; readonly isCancelled: () => boolean },
): AppendResult {
  const work = output.back()
  const outcomes: AppendOutcome[] = []
  const failedSessions = new Set<number>()
  const sources: OpenSource[] = []
  inputs.forEach(({ session, source }, inputIndex) => {
    if (failedSessions.has(session)) {
      outcomes.push({ status: 'skipped' })
      return
    }
    const mark = work.mark()
    try {
      const open = openSource(kernels, work, source, inputIndex, options.partitionKey)
      // Alone, its columns are decoded one by one; among others, a column that cannot be must not fail its neighbours.
      sources.push(inputs.length === 1 ? open : { ...open, columns: open.columns.map(decoded) })
      outcomes.push({ status: 'stored', rowCount: open.rowCount, places: null })
    } catch (error) {
      if (!(error instanceof FramesError)) throw error
      work.release(mark)
      failedSessions.add(session)
      outcomes.push({ status: 'failed', error: toErrorMessage(error) })
    }
  })
  const filled = sources.filter(({ rowCount }) => rowCount > 0)
  const shardCount = options.nextSequences.length
  const empty = {
    outcomes,
    blocks: [],
    shardRowCounts: new Uint32Array(shardCount),
    cursor: options.cursor,
    columns: [],
  }
  if (filled.length === 0) return empty
  const order = orderRows(kernels, work, filled, options)
  for (const { inputIndex, isRecords } of filled) {
    if (!isRecords) continue
    const stored = outcomes[inputIndex] as Extract<AppendOutcome, { status: 'stored' }>
    outcomes[inputIndex] = { ...stored, places: order.places.get(inputIndex)! }
  }
  const columns = new Map<string, StoredColumn>()
  for (const source of filled)
    for (const { name, dtype } of source.columns) columns.set(columnKey({ name, dtype }), { name, dtype })
  if (columns.size > tableColumnCountMax) {
    const what = `the records have ${columns.size} different members; at most ${tableColumnCountMax} are possible`
    throw new FramesError('TOO_MANY_COLUMNS', what)
  }
  const blocks = encodeRows(kernels, output, work, {
    sources: filled,
    columns,
    order,
    isCancelled: options.isCancelled,
  })
  const { shardRowCounts, cursor } = order
  return { outcomes, blocks, shardRowCounts, cursor, columns: [...columns.values()] }
}

function decoded(column: OpenColumn): OpenColumn {
  const slice = column.read()
  return { ...column, read: () => slice }
}

// ---- inputs ----------------------------------------------------------------------------------------------------------

function openSource(
  kernels: Kernels,
  work: Scratch,
  source: RecordInput,
  inputIndex: number,
  partitionKey: string | null,
): OpenSource {
  if (source.format === 'records') return openRecords(kernels, work, source.records, inputIndex, partitionKey)
  const frame = openInput(kernels, work, source)
  const columns = namedColumns(frame).map(({ name, column }): OpenColumn | null =>
    column.dtype === 'null'
      ? null
      : {
          name: storedName(name),
          dtype: column.dtype,
          textByteLength: column.textByteLength,
          read: () => spreadLabel(kernels, work, column.decode()),
        },
  )
  const present = columns.filter((column) => column !== null)
  const key = partitionKey === null ? undefined : present.find(({ name }) => name === storedName(partitionKey))
  return {
    inputIndex,
    rowCount: frame.rowCount,
    columns: present,
    keys: key === undefined || frame.rowCount === 0 ? null : textsOf(kernels, work, key.read()),
    isRecords: false,
  }
}

/** Data columns and index columns by the names that records have them under, sorted. Throws INVALID_ARGUMENT. */
function namedColumns(frame: InputFrame): { name: string; column: InputColumn }[] {
  const named = new Map<string, InputColumn>()
  frame.columns.forEach((column, position) => {
    const name = column.name === '' ? `col-${position}` : column.name
    if (named.has(name)) throw duplicate('duplicate column name', name)
    named.set(name, column)
  })
  frame.indices.forEach((column, position) => {
    const name = column.name === '' ? (position === 0 ? 'idx' : `idx-${position}`) : column.name
    if (named.has(name)) throw duplicate('duplicate name in columns and indices', name)
    named.set(name, column)
  })
  return [...named].map(([name, column]) => ({ name, column })).sort((a, b) => (a.name < b.name ? -1 : 1))
}

function duplicate(what: string, name: string): FramesError {
  return new FramesError('INVALID_ARGUMENT', `row iteration error: ${what} - ${JSON.stringify(name)}`)
}

/** Cells of any type as texts, the same for equal values of any type. */
function textsOf(kernels: Kernels, work: Scratch, column: ColumnSlice): ColumnSlice {
  if (column.dtype === 'string') return column
  const { u8, i64, f64 } = kernels
  const cells: Cell[] = []
  for (let row = 0; row < column.rowCount; row++) {
    const isPresent = column.validityPtr === 0 || (u8[column.validityPtr + (row >> 3)]! >> (row & 7)) & 1
    if (!isPresent) cells.push(null)
    else if (column.dtype === 'bool') cells.push(String(((u8[column.valuesPtr + (row >> 3)]! >> (row & 7)) & 1) === 1))
    else if (column.dtype === 'float64') cells.push(valueText(f64[(column.valuesPtr >> 3) + row]!, 'allowed'))
    else if (column.dtype === 'time') cells.push(formatTimeNs(i64[(column.valuesPtr >> 3) + row]!))
    else cells.push(String(i64[(column.valuesPtr >> 3) + row]!))
  }
  return layColumns(kernels, work, [{ name: column.name, dtype: 'string', cells }])[0]!
}

interface Cells extends StoredColumn {
  readonly cells: Cell[]
}

function layColumns(kernels: Kernels, work: Scratch, columns: readonly Cells[]): readonly ColumnSlice[] {
  const frame = new Frame({ columns: columns.map(({ name, dtype, cells }) => columnOfCells(name, dtype, cells)) })
  return layFrame(kernels, frame, work.allocate(frameByteLength(frame))).columns
}

function openRecords(
  kernels: Kernels,
  work: Scratch,
  records: readonly PutRecord[],
  inputIndex: number,
  partitionKey: string | null,
): OpenSource {
  const columns = new Map<string, Cells>()
  const set = (name: string, dtype: CellType, row: number, value: Cell): void => {
    const key = columnKey({ name, dtype })
    let column = columns.get(key)
    if (column === undefined) {
      column = { name, dtype, cells: new Array<Cell>(records.length).fill(null) }
      columns.set(key, column)
      if (columns.size > tableColumnCountMax)
        throw new FramesError('TOO_MANY_COLUMNS', `the records have more than ${tableColumnCountMax} different members`)
    }
    column.cells[row] = value
  }
  let hasKeys = false
  const keys: Cell[] = records.map((record, row) => {
    const members = jsonMembers(record.data)
    if (members === null) set(rawDataName, 'string', row, record.data)
    else {
      for (const [name, { dtype, value }] of members) {
        if (Buffer.byteLength(name) > nameByteLengthMax)
          throw new FramesError('FRAME_TOO_LARGE', `a member's name is longer than ${nameByteLengthMax} bytes`)
        set(storedName(name), dtype, row, value)
      }
      set(dataColumn, 'string', row, record.data)
    }
    if (record.clientInfo !== null) set(clientInfoColumn, 'string', row, record.clientInfo)
    if (record.partitionKey !== null) set(partitionKeyColumn, 'string', row, record.partitionKey)
    const key = record.partitionKey ?? memberText(partitionKey === null ? undefined : members?.get(partitionKey))
    hasKeys ||= key !== null
    return key
  })
  const cells = [...columns.values()]
  const slices = layColumns(kernels, work, cells)
  return {
    inputIndex,
    rowCount: records.length,
    columns: cells.map(({ name, dtype }, i) => ({
      name,
      dtype,
      textByteLength: slices[i]!.byteLength,
      read: () => slices[i]!,
    })),
    keys: hasKeys ? layColumns(kernels, work, [{ name: '', dtype: 'string', cells: keys }])[0]! : null,
    isRecords: true,
  }
}

function memberText(member: Member | undefined): string | null {
  return member === undefined ? null : valueText(member.value, 'allowed')
}

// ---- order -----------------------------------------------------------------------------------------------------------

interface RowOrder {
  readonly rowCount: number
  readonly pieces: Pieces
  readonly shardRowCounts: Uint32Array
  readonly cursor: number
  /** u32 a row: which row of the inputs, one behind the other, stands there; 0: they stand as they came. */
  readonly permutationPtr: number
  /** By input. */
  readonly places: ReadonlyMap<number, Places>
}

function orderRows(kernels: Kernels, work: Scratch, sources: readonly OpenSource[], free: FreePlaces): RowOrder {
  const { call, u32 } = kernels
  const shardCount = free.nextSequences.length
  const rowCount = sources.reduce((sum, source) => sum + source.rowCount, 0)
  let { cursor } = free
  /** Rows of each shard when they are spread evenly; those left over go on where the last ones ended. */
  const spread = (count: number): Uint32Array => {
    const counts = new Uint32Array(shardCount).fill(Math.floor(count / shardCount))
    const rest = count % shardCount
    for (let i = 0; i < rest; i++) counts[(cursor + i) % shardCount]!++
    cursor = (cursor + rest) % shardCount
    return counts
  }
  let permutationPtr = 0
  let shardRowCounts: Uint32Array
  if (shardCount === 1 || sources.every(({ keys }) => keys === null)) shardRowCounts = spread(rowCount)
  else {
    const codesPtr = work.allocate(4 * rowCount)
    let row = 0
    for (const source of sources) {
      const targetPtr = codesPtr + 4 * row
      if (source.keys === null) {
        let start = row
        spread(source.rowCount).forEach((count, shard) => {
          u32.fill(shard, (codesPtr >> 2) + start, (codesPtr >> 2) + start + count)
          start += count
        })
      } else {
        const { valuesPtr, bytesPtr, validityPtr } = source.keys
        call.shardsOfTexts(valuesPtr, bytesPtr, validityPtr, source.rowCount, shardCount, targetPtr)
        for (let i = 0; source.isRecords && i < source.rowCount; i++) {
          if (validityPtr === 0 || (kernels.u8[validityPtr + (i >> 3)]! >> (i & 7)) & 1) continue
          u32[(targetPtr >> 2) + i] = cursor
          cursor = (cursor + 1) % shardCount
        }
      }
      row += source.rowCount
    }
    permutationPtr = work.allocate(4 * rowCount)
    const startsPtr = work.allocate(4 * (shardCount + 1))
    call.sortGroups(codesPtr, shardCount, rowCount, permutationPtr, startsPtr)
    shardRowCounts = new Uint32Array(shardCount)
    for (let shard = 0; shard < shardCount; shard++)
      shardRowCounts[shard] = u32[(startsPtr >> 2) + shard + 1]! - u32[(startsPtr >> 2) + shard]!
  }
  const pieces = new PiecesBuilder()
  shardRowCounts.forEach((count, shard) => {
    pieces.add({ shard, sequence: free.nextSequences[shard]!, arrivalNs: free.arrivalNs, rowCount: count })
  })
  const order = { rowCount, pieces: pieces.finish(), shardRowCounts, cursor, permutationPtr }
  return { ...order, places: placesOf(kernels, sources, order) }
}

/** Where the records of commands stand now. */
function placesOf(
  { u32 }: Kernels,
  sources: readonly OpenSource[],
  { pieces, permutationPtr }: Omit<RowOrder, 'places'>,
): ReadonlyMap<number, Places> {
  const places = new Map<number, Places>()
  const found: { readonly rowStart: number; readonly rowEnd: number; readonly places: Places }[] = []
  let rowStart = 0
  for (const { inputIndex, rowCount, isRecords } of sources) {
    if (isRecords) {
      const own = { shards: new Uint32Array(rowCount), sequences: new Float64Array(rowCount) }
      places.set(inputIndex, own)
      found.push({ rowStart, rowEnd: rowStart + rowCount, places: own })
    }
    rowStart += rowCount
  }
  if (found.length === 0) return places
  // Rows that came one behind the other mostly stand so: the last input that fitted is looked at first.
  let last = found[0]!
  for (let piece = 0; piece < pieces.count; piece++) {
    for (let at = pieces.rows[piece]!; at < pieces.rows[piece + 1]!; at++) {
      const row = permutationPtr === 0 ? at : u32[(permutationPtr >> 2) + at]!
      if (row < last.rowStart || row >= last.rowEnd) {
        const other = inputOfRow(found, row)
        if (other === undefined) continue
        last = other
      }
      last.places.shards[row - last.rowStart] = pieces.shards[piece]!
      last.places.sequences[row - last.rowStart] = pieces.sequences[piece]! + at - pieces.rows[piece]!
    }
  }
  return places
}

function inputOfRow<Input extends { readonly rowStart: number; readonly rowEnd: number }>(
  inputs: readonly Input[],
  row: number,
): Input | undefined {
  let low = 0
  let high = inputs.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (inputs[middle]!.rowEnd <= row) low = middle + 1
    else high = middle
  }
  const input = inputs[low]
  return input !== undefined && input.rowStart <= row ? input : undefined
}

// ---- columns ---------------------------------------------------------------------------------------------------------

function encodeRows(
  kernels: Kernels,
  output: Scratch,
  work: Scratch,
  rows: {
    readonly sources: readonly OpenSource[]
    readonly columns: ReadonlyMap<string, StoredColumn>
    readonly order: RowOrder
    readonly isCancelled: () => boolean
  },
): PreparedBlock[] {
  const { sources, columns, order } = rows
  const columnsOf = sources.map((source) => new Map(source.columns.map((column) => [columnKey(column), column])))
  let textByteLength = 0
  for (const source of sources) for (const column of source.columns) textByteLength += column.textByteLength
  const writer = new BlockWriter(new PageEncoder(kernels, output, pageRowCountMax, 'narrow'), order.pieces, {
    columnCount: columns.size,
    rowByteLength: 8 * columns.size + textByteLength / order.rowCount,
  })
  for (const [key, { name }] of columns) {
    if (rows.isCancelled()) throw new FramesError('CANCELLED', 'the write was cancelled')
    const mark = work.mark()
    const parts = sources.map(({ rowCount }, i) => ({ rowCount, column: columnsOf[i]!.get(key)?.read() ?? null }))
    const column = joinColumns(kernels, work, parts, order.rowCount)
    writer.addColumn(
      name,
      order.permutationPtr === 0 ? column : gatherColumn(kernels, work, column, order.permutationPtr),
    )
    work.release(mark)
  }
  return writer.finish()
}

interface Part {
  readonly rowCount: number
  /** Null: none of these rows has a cell. */
  readonly column: ColumnSlice | null
}

/** The cells of several inputs one behind the other. */
function joinColumns(kernels: Kernels, work: Scratch, parts: readonly Part[], rowCount: number): ColumnSlice {
  const [first] = parts
  if (parts.length === 1) return first!.column!
  const { call, u8, u32 } = kernels
  const { name, dtype } = parts.find(({ column }) => column !== null)!.column!
  const isFull = parts.every(({ column }) => column !== null && column.validityPtr === 0)
  const validityPtr = isFull ? 0 : work.allocate(bitmapByteLength(rowCount) + 8)
  if (!isFull) call.fillBits(validityPtr, rowCount, 0)
  const byteLength =
    dtype === 'string' ? parts.reduce((sum, { column }) => sum + (column === null ? 0 : textLength(u32, column)), 0) : 0
  // Offsets of text are u32, and kernels count bytes as i32.
  if (byteLength >= 2 ** 31)
    throw new FramesError('FRAME_TOO_LARGE', `column '${name}' holds ${byteLength} bytes of text`)
  const valuesPtr = work.allocate(
    dtype === 'string' ? 4 * (rowCount + 1) : dtype === 'bool' ? bitmapByteLength(rowCount) + 8 : 8 * rowCount,
  )
  const bytesPtr = dtype === 'string' ? work.allocate(byteLength) : 0
  let row = 0
  let end = 0
  for (const part of parts) {
    const { column, rowCount: count } = part
    if (column === null) {
      if (dtype === 'string') u32.fill(end, (valuesPtr >> 2) + row, (valuesPtr >> 2) + row + count + 1)
      else if (dtype !== 'bool') u8.fill(0, valuesPtr + 8 * row, valuesPtr + 8 * (row + count))
    } else {
      if (!isFull && column.validityPtr === 0) call.setBitRange(validityPtr, row, row + count, 1)
      else if (!isFull) call.copyBits(column.validityPtr, 0, validityPtr, row, count)
      if (dtype === 'string')
        end = call.copyStrings(column.valuesPtr, column.bytesPtr, 0, count, valuesPtr + 4 * row, end, bytesPtr)
      else if (dtype === 'bool') call.copyBits(column.valuesPtr, 0, valuesPtr, row, count)
      else u8.copyWithin(valuesPtr + 8 * row, column.valuesPtr, column.valuesPtr + 8 * count)
    }
    row += count
  }
  return { name, dtype, kind: 'slice', rowCount, valuesPtr, validityPtr, bytesPtr, byteLength }
}

function textLength(u32: Uint32Array, { valuesPtr, rowCount }: ColumnSlice): number {
  return u32[(valuesPtr >> 2) + rowCount]! - u32[valuesPtr >> 2]!
}

/** Cells in another order. */
function gatherColumn(kernels: Kernels, work: Scratch, column: ColumnSlice, permutationPtr: number): ColumnSlice {
  const { call } = kernels
  const { rowCount, dtype } = column
  const bitsByteLength = bitmapByteLength(rowCount) + 8
  let validityPtr = 0
  if (column.validityPtr !== 0) {
    validityPtr = work.allocate(bitsByteLength)
    call.gatherBits(column.validityPtr, permutationPtr, rowCount, validityPtr)
  }
  if (dtype === 'string') {
    const byteLength = call.gatheredStringsByteLength(column.valuesPtr, permutationPtr, rowCount)
    const valuesPtr = work.allocate(4 * (rowCount + 1))
    const bytesPtr = work.allocate(byteLength)
    call.gatherStrings(column.valuesPtr, column.bytesPtr, permutationPtr, rowCount, valuesPtr, bytesPtr)
    return { ...column, valuesPtr, validityPtr, bytesPtr, byteLength }
  }
  const valuesPtr = work.allocate(dtype === 'bool' ? bitsByteLength : 8 * rowCount)
  if (dtype === 'bool') call.gatherBits(column.valuesPtr, permutationPtr, rowCount, valuesPtr)
  else call.gather64(column.valuesPtr, permutationPtr, rowCount, valuesPtr)
  return { ...column, valuesPtr, validityPtr }
}
