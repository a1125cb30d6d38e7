// Settles writes against what is stored, in a worker: which rows count, what becomes of each item, which stored rows die.
//
//   rows of all writes ──► sorted by (folder, name): rows of one item meet, and know the how-manieth of it they are
//                             │
//      round 1: the first row of each item   ─┐   each round, write by write: save mode, condition, expression or cells,
//      round 2: the second row of each item   │   over all rows of the round at once; later rows see what earlier ones did
//      …                                     ─┘
//                             ▼
//                  items that changed ──► blocks; their stored rows are dead
//
// A write in which a row fails is taken out, and the others are settled again without it.
import { assert } from '../../assert.js'
import type { Kill } from '../../blocks/dead-rows.js'
import type { PreparedBlock } from '../../blocks/merge-rule.js'
import type { ErrorMessage } from '../../errors.js'
import { FramesError, shortened, toErrorMessage } from '../../errors.js'
import type { RowSource } from '../../expression/evaluate.js'
import { evaluateFilter, evaluateUpdate } from '../../expression/evaluate.js'
import type { Expression, UpdateAction } from '../../expression/tree.js'
import { collectAttributes, collectPlaceholders, expressionsOf } from '../../expression/tree.js'
import type { ColumnSlice } from '../../frame/column-slice.js'
import type { Kernels } from '../../kernels/kernels.js'
import type { Scratch } from '../../memory/scratch.js'
import { sortByBytes } from './folders.js'
import { writeItems } from './item-block.js'
import { ctimeColumn, mtimeColumn, nameColumn } from './item-columns.js'
import type { ItemReader } from './item-reader.js'
import { ItemStates, stateAttribute } from './item-states.js'
import { cellOf, systemAttributeNames } from './names.js'
import type { FrameInput } from '../frame-input.js'
import type { FrameRules, PreparedRows } from './prepare.js'
import { prepareRows } from './prepare.js'
import type { KvSchema } from './schema.js'
import { emptySchema, mergeSchema } from './schema.js'
import { systemAttribute } from './system-attributes.js'

export type SaveMode = 'errorIfTableExists' | 'overwriteTable' | 'updateItem' | 'overwriteItem' | 'createNewItemsOnly'

/** What a write does with each of its rows. */
export interface WriteRule {
  readonly saveMode: SaveMode
  /** Rows for which it is false are skipped; null: none. */
  readonly condition: Expression | null
  /** Applied to the item instead of the row's cells; null: the cells are. */
  readonly actions: readonly UpdateAction[] | null
  readonly partitionKeys: readonly string[]
}

/** A frame of a write, or one item that `execute update` changes. */
export type Write =
  | { readonly kind: 'frame'; readonly input: FrameInput; readonly rowStart: bigint }
  | { readonly kind: 'item'; readonly folder: string; readonly name: string }

/** session: writes of one session fail together, from the first that fails on. */
export type SettleWrite = Write & { readonly session: number; readonly rule: number }

export interface SettleRequest {
  readonly schema: KvSchema
  readonly rules: readonly WriteRule[]
  /** In the order in which they take effect. */
  readonly writes: readonly SettleWrite[]
  /** Times of what changes. */
  readonly nowNs: bigint
}

/** error: nothing of the write is stored; abandoned: an earlier write of its session failed. */
export interface SettledWrite {
  readonly rowCount: number
  readonly skippedCount: number
  readonly error: ErrorMessage | null
  readonly isAbandoned: boolean
}

/** schema: null when it is unchanged. */
export interface SettleResult {
  readonly writes: readonly SettledWrite[]
  readonly blocks: readonly PreparedBlock[]
  readonly kills: readonly Kill[]
  readonly schema: KvSchema | null
}

const notFound = 0xffffffff

/** A write whose frame is in order, or several of single items, a row each, that follow one another by one rule. */
interface OpenWrite {
  /** Number among the request's writes; of several, the first one's: the others follow. */
  readonly number: number
  readonly session: number
  readonly rule: WriteRule
  readonly rows: PreparedRows
  /** Null for one write; else the sessions of several. */
  readonly sessions: readonly number[] | null
  /** Set when the rows are numbered. */
  rowsPlace: RowsPlace | null
}

/** Where a write's rows stand among all: item and round of each, and rows by round. */
interface RowsPlace {
  readonly itemsPtr: number
  readonly roundsPtr: number
  /** 0: there is one round, of all rows. */
  readonly rowsByRoundPtr: number
  /** Round i: rowsByRound[starts[i]] to before rowsByRound[starts[i + 1]]. */
  readonly roundStartsPtr: number
  readonly roundCount: number
}

/** The items of a batch: distinct (folder, name), sorted. */
interface Items {
  readonly count: number
  readonly names: ColumnSlice
  readonly folders: readonly string[]
  /** u32 an item; 0: all in folders[0]. */
  readonly foldersPtr: number
  readonly roundCount: number
}

/** Stored rows of items: u32 an item each, source 0xffffffff for an item that is not stored. */
interface StoredRows {
  readonly foundCount: number
  readonly sourcesPtr: number
  readonly rowsPtr: number
}

interface Failure {
  readonly write: OpenWrite
  readonly error: FramesError
  /** An item whose row failed. */
  readonly item: number
}

/**
 * front: what is returned stands there, and what a round needs; back: the other end of the same memory, for what stays
 * until the end. reader: null when the table has no rows. Throws ScratchFull, DATA_DAMAGED; what is wrong with a write is its own result.
 */
export function settleWrites(
  kernels: Kernels,
  front: Scratch,
  back: Scratch,
  request: SettleRequest,
  reader: ItemReader | null,
  blockIds: readonly bigint[],
  throwIfCancelled: () => void,
): SettleResult {
  const results: SettledWrite[] = []
  const { writes, schema } = prepareWrites(kernels, back, request, results)
  const changed = schema === request.schema ? null : schema
  const rowCount = writes.reduce((sum, { rows }) => sum + rows.rowCount, 0)
  if (rowCount === 0) return { writes: results, blocks: [], kills: [], schema: changed }
  throwIfCancelled()

  const items = numberItems(kernels, back, writes, rowCount)
  const stored = findStored(kernels, back, items, reader)
  const frontMark = front.mark()
  let backMark = back.mark()
  let left: readonly OpenWrite[] = writes
  for (;;) {
    throwIfCancelled()
    const settlement = new Settlement(kernels, front, back, request, items, stored, reader)
    const failures = settlement.settle(left, results)
    if (failures.length === 0) {
      const { blocks, kills } = settlement.finish(blockIds)
      return { writes: results, blocks, kills, schema: changed }
    }
    front.release(frontMark)
    back.release(backMark)
    if (failures.some(({ write }) => write.sessions !== null))
      left = left.flatMap((write) => singles(kernels, back, write))
    else left = withoutFailed(kernels, front, left, failures, items.count, results)
    // What is made of the writes here stays.
    backMark = back.mark()
  }
}

// ---- preparing ------------------------------------------------------------------------------------------------------

/** Frames decoded and checked, and their fields merged into the schema, one after the other. */
function prepareWrites(
  kernels: Kernels,
  work: Scratch,
  request: SettleRequest,
  results: SettledWrite[],
): { writes: OpenWrite[]; schema: KvSchema } {
  let { schema } = request
  const open: OpenWrite[] = []
  const failedSessions = new Set<number>()
  /** Rows that earlier frames of a session had, for those that number their rows. */
  const rowCounts = new Map<number, number>()
  for (let number = 0; number < request.writes.length; number++) {
    const write = request.writes[number]!
    const { session } = write
    const rule = request.rules[write.rule]!
    if (write.kind === 'item') {
      const several = itemWrites(request.writes, number)
      if (several.some(({ folder }) => folder !== '') && !schema.foldersDrifted)
        schema = { ...schema, foldersDrifted: true }
      const sessions = several.length > 1 ? several.map((one) => one.session) : null
      open.push({ number, session, rule, rows: itemRows(kernels, work, several), sessions, rowsPlace: null })
      for (const _ of several) results.push({ rowCount: 1, skippedCount: 0, error: null, isAbandoned: false })
      number += several.length - 1
      continue
    }
    if (failedSessions.has(session)) {
      results.push(abandoned)
      continue
    }
    try {
      const before = rowCounts.get(session) ?? 0
      // Where an expression is applied, every frame counts its rows from the start.
      const rowStart = rule.actions === null ? write.rowStart + BigInt(before) : 0n
      const rules: FrameRules = { partitionKeys: rule.partitionKeys, storesRows: rule.actions === null }
      const rows = prepareRows(kernels, work, write.input, rules, schema, rowStart)
      checkPlaceholders(rule, rows.placeholders)
      rowCounts.set(session, before + rows.rowCount)
      if (rows.schema.key !== '') schema = mergeSchema(schema, rows.schema)
      open.push({ number, session, rule, rows, sessions: null, rowsPlace: null })
      results.push({ rowCount: rows.rowCount, skippedCount: 0, error: null, isAbandoned: false })
    } catch (error) {
      if (!(error instanceof FramesError)) throw error
      failedSessions.add(session)
      results.push(failed(error))
    }
  }
  return { writes: open, schema }
}

/** A placeholder that the frame has no column or index for is a misspelt name, not a missing cell. */
function checkPlaceholders({ condition, actions }: WriteRule, columns: readonly ColumnSlice[]): void {
  const known = new Set(columns.map(({ name }) => name))
  const check = (what: 'condition' | 'update', trees: readonly Expression[]): void => {
    const named = new Set<string>()
    for (const tree of trees) collectPlaceholders(tree, named)
    for (const name of named) {
      if (known.has(name)) continue
      const detail = `the frame has no column or index for the placeholder {${shortened(name)}}`
      throw new FramesError('INVALID_ARGUMENT', `invalid ${what} expression: ${detail}`)
    }
  }
  if (condition !== null) check('condition', [condition])
  if (actions !== null) check('update', actions.flatMap(expressionsOf))
}

const abandoned: SettledWrite = { rowCount: 0, skippedCount: 0, error: null, isAbandoned: true }

function failed(error: FramesError): SettledWrite {
  return { rowCount: 0, skippedCount: 0, error: toErrorMessage(error), isAbandoned: false }
}

type ItemWrite = Extract<SettleWrite, { kind: 'item' }>

/** The writes of single items from one on that follow one another by its rule. */
function itemWrites(writes: readonly SettleWrite[], start: number): ItemWrite[] {
  const { rule } = writes[start]!
  const several: ItemWrite[] = []
  for (let i = start; i < writes.length; i++) {
    const write = writes[i]!
    if (write.kind !== 'item' || write.rule !== rule) break
    several.push(write)
  }
  return several
}

/** A row for each of them. */
function itemRows(kernels: Kernels, work: Scratch, writes: readonly ItemWrite[]): PreparedRows {
  const { u8, u32 } = kernels
  const rowCount = writes.length
  const texts = writes.map(({ name }) => Buffer.from(name))
  const byteLength = texts.reduce((sum, text) => sum + text.length, 0)
  const valuesPtr = work.allocate(4 * (rowCount + 1))
  const bytesPtr = work.allocate(byteLength)
  u32[valuesPtr >> 2] = 0
  texts.forEach((text, row) => {
    const start = u32[(valuesPtr >> 2) + row]!
    u8.set(text, bytesPtr + start)
    u32[(valuesPtr >> 2) + row + 1] = start + text.length
  })
  const folders = sortByBytes(new Set(writes.map(({ folder }) => folder)))
  let codesPtr = 0
  if (folders.length > 1) {
    codesPtr = work.allocate(4 * rowCount)
    writes.forEach(({ folder }, row) => {
      u32[(codesPtr >> 2) + row] = folders.indexOf(folder)
    })
  }
  const place = { valuesPtr, validityPtr: 0, bytesPtr, byteLength }
  return {
    rowCount,
    names: { name: '', dtype: 'string', kind: 'slice', rowCount, ...place },
    folders: { folders, codesPtr },
    attributes: [],
    placeholders: [],
    schema: emptySchema,
  }
}

/** Writes of single items each by itself: one of them fails, and the others must not. */
function singles(kernels: Kernels, work: Scratch, write: OpenWrite): OpenWrite[] {
  const { sessions, rows, rowsPlace, rule } = write
  if (sessions === null) return [write]
  assert(rowsPlace !== null, 'rows are numbered before they are settled')
  const { itemsPtr, roundsPtr, roundCount } = rowsPlace
  return sessions.map((session, row) => ({
    number: write.number + row,
    session,
    rule,
    rows: { ...rows, rowCount: 1, names: { ...rows.names, rowCount: 1, valuesPtr: rows.names.valuesPtr + 4 * row } },
    sessions: null,
    rowsPlace: placeRows(kernels, work, itemsPtr + 4 * row, roundsPtr + 4 * row, 1, roundCount),
  }))
}

// ---- items ----------------------------------------------------------------------------------------------------------

/** Sorts the rows of all writes by (folder, name), and tells each which item it belongs to, and in which round. */
function numberItems(kernels: Kernels, work: Scratch, writes: readonly OpenWrite[], rowCount: number): Items {
  const { call, u32 } = kernels
  const folders = sortByBytes(new Set(writes.flatMap(({ rows }) => rows.folders.folders)))
  const isPlain = writes.length === 1 && folders.length === 1
  const [write] = writes as [OpenWrite]
  const keys = isPlain ? write.rows.names : keyColumn(kernels, work, writes, rowCount, folders)

  const itemsPtr = work.allocate(4 * rowCount)
  const roundsPtr = work.allocate(4 * rowCount)
  const firstRowsPtr = work.allocate(4 * rowCount)
  const permutationPtr = work.allocate(4 * rowCount)
  const roundCountPtr = work.allocate(4)
  const mark = work.mark()
  const sortPtr = work.allocate(call.sortTextRowsScratchByteLength(rowCount))
  call.countUp(rowCount, 0, permutationPtr)
  call.sortTextRows(keys.valuesPtr, keys.bytesPtr, permutationPtr, rowCount, sortPtr)
  work.release(mark)
  const { valuesPtr, bytesPtr } = keys
  const count = call.numberItems(
    valuesPtr,
    bytesPtr,
    permutationPtr,
    rowCount,
    itemsPtr,
    roundsPtr,
    firstRowsPtr,
    roundCountPtr,
  )
  const roundCount = u32[roundCountPtr >> 2]!
  let rowStart = 0
  for (const open of writes) {
    const { rowCount: own } = open.rows
    open.rowsPlace = placeRows(kernels, work, itemsPtr + 4 * rowStart, roundsPtr + 4 * rowStart, own, roundCount)
    rowStart += own
  }
  return { count, folders, roundCount, ...itemNames(kernels, work, keys, isPlain, firstRowsPtr, count) }
}

/** Folder number and name of each row, as one text that sorts as (folder, name). */
function keyColumn(
  kernels: Kernels,
  work: Scratch,
  writes: readonly OpenWrite[],
  rowCount: number,
  folders: readonly string[],
): ColumnSlice {
  const { call, u32 } = kernels
  const numbers = new Map(folders.map((folder, number) => [folder, number]))
  const byteLength = writes.reduce((sum, { rows }) => sum + rows.names.byteLength, 4 * rowCount)
  const valuesPtr = work.allocate(4 * (rowCount + 1))
  const bytesPtr = work.allocate(byteLength)
  u32[valuesPtr >> 2] = 0
  let rowStart = 0
  for (const { rows } of writes) {
    const { names, folders: own, rowCount: count } = rows
    const mark = work.mark()
    let codesPtr = 0
    if (own.codesPtr !== 0) {
      const tablePtr = work.allocate(4 * own.folders.length)
      own.folders.forEach((folder, code) => {
        u32[(tablePtr >> 2) + code] = numbers.get(folder)!
      })
      codesPtr = work.allocate(4 * count)
      call.translateCodes(own.codesPtr, count, tablePtr, codesPtr)
    }
    const folder = numbers.get(own.folders[0]!)!
    call.appendKeys(names.valuesPtr, names.bytesPtr, count, codesPtr, folder, valuesPtr + 4 * rowStart, bytesPtr)
    work.release(mark)
    rowStart += count
  }
  const place = { valuesPtr, validityPtr: 0, bytesPtr, byteLength }
  return { name: '', dtype: 'string', kind: 'slice', rowCount, ...place }
}

/** Folder and name of each item, from one of its rows. */
function itemNames(
  kernels: Kernels,
  work: Scratch,
  keys: ColumnSlice,
  isPlain: boolean,
  firstRowsPtr: number,
  count: number,
): Pick<Items, 'names' | 'foldersPtr'> {
  const { call } = kernels
  const keyByteLength = call.gatheredStringsByteLength(keys.valuesPtr, firstRowsPtr, count)
  const byteLength = isPlain ? keyByteLength : keyByteLength - 4 * count
  const valuesPtr = work.allocate(4 * (count + 1))
  const bytesPtr = work.allocate(byteLength)
  const names: ColumnSlice = { ...keys, name: nameColumn, rowCount: count, valuesPtr, bytesPtr, byteLength }
  if (isPlain) {
    call.gatherStrings(keys.valuesPtr, keys.bytesPtr, firstRowsPtr, count, valuesPtr, bytesPtr)
    return { names, foldersPtr: 0 }
  }
  const foldersPtr = work.allocate(4 * count)
  call.splitKeys(keys.valuesPtr, keys.bytesPtr, firstRowsPtr, count, valuesPtr, bytesPtr, foldersPtr)
  return { names, foldersPtr }
}

function placeRows(
  kernels: Kernels,
  work: Scratch,
  itemsPtr: number,
  roundsPtr: number,
  rowCount: number,
  roundCount: number,
): RowsPlace {
  if (roundCount === 1) return { itemsPtr, roundsPtr, rowsByRoundPtr: 0, roundStartsPtr: 0, roundCount }
  const rowsByRoundPtr = work.allocate(4 * rowCount)
  const roundStartsPtr = work.allocate(4 * (roundCount + 1))
  kernels.call.sortGroups(roundsPtr, roundCount, rowCount, rowsByRoundPtr, roundStartsPtr)
  return { itemsPtr, roundsPtr, rowsByRoundPtr, roundStartsPtr, roundCount }
}

/** Where each folder's items begin, of items in their order. foldersPtr as in Items. */
function folderRuns(
  { u32 }: Kernels,
  folders: readonly string[],
  foldersPtr: number,
  count: number,
): { folder: string; rowStart: number }[] {
  if (foldersPtr === 0) return [{ folder: folders[0]!, rowStart: 0 }]
  const runs: { folder: string; rowStart: number }[] = []
  let previous = notFound
  for (let item = 0; item < count; item++) {
    const folder = u32[(foldersPtr >> 2) + item]!
    if (folder !== previous) runs.push({ folder: folders[folder]!, rowStart: item })
    previous = folder
  }
  return runs
}

function findStored(kernels: Kernels, work: Scratch, items: Items, reader: ItemReader | null): StoredRows {
  const { u32, call } = kernels
  const { count, names, folders, foldersPtr } = items
  const sourcesPtr = work.allocate(4 * count)
  const rowsPtr = work.allocate(4 * count)
  if (reader === null) {
    u32.fill(notFound, sourcesPtr >> 2, (sourcesPtr >> 2) + count)
    return { foundCount: 0, sourcesPtr, rowsPtr }
  }
  reader.find({ folders: folderRuns(kernels, folders, foldersPtr, count), names }, sourcesPtr, rowsPtr)
  const mark = work.mark()
  const foundCount = call.presentIndexes(sourcesPtr, count, work.allocate(Math.ceil(count / 8)))
  work.release(mark)
  return { foundCount, sourcesPtr, rowsPtr }
}

// ---- rounds ---------------------------------------------------------------------------------------------------------

class Settlement {
  readonly #kernels: Kernels
  /** What a round needs, and in the end the blocks; what stays until then. */
  readonly #work: Scratch
  readonly #kept: Scratch
  readonly #request: SettleRequest
  readonly #items: Items
  readonly #stored: StoredRows
  readonly #states: ItemStates
  /** A bit an item: it exists now; it has changed. */
  readonly #existsPtr: number
  readonly #changedPtr: number
  /** Times of each item; null where all of them are new and nobody asks. */
  readonly #times: { readonly mtimesPtr: number; readonly ctimesPtr: number } | null

  constructor(
    kernels: Kernels,
    work: Scratch,
    kept: Scratch,
    request: SettleRequest,
    items: Items,
    stored: StoredRows,
    private readonly reader: ItemReader | null,
  ) {
    this.#kernels = kernels
    this.#kept = kept
    this.#work = work
    this.#request = request
    this.#items = items
    this.#stored = stored
    const { count } = items
    this.#states = new ItemStates(kernels, kept, count)
    this.#existsPtr = this.#bitmap(count)
    this.#changedPtr = this.#bitmap(count)
    const asks = request.rules.some(({ condition, actions }) => condition !== null || actions !== null)
    this.#times = asks || stored.foundCount > 0 ? this.#allTimes(request.nowNs) : null
  }

  #allTimes(timeNs: bigint): { mtimesPtr: number; ctimesPtr: number } {
    const { count } = this.#items
    const [mtimesPtr, ctimesPtr] = [this.#kept.allocate(8 * count), this.#kept.allocate(8 * count)]
    this.#kernels.call.fillInt64(mtimesPtr, count, timeNs)
    this.#kernels.call.fillInt64(ctimesPtr, count, timeNs)
    return { mtimesPtr, ctimesPtr }
  }

  #bitmap(count: number): number {
    const byteLength = Math.ceil(count / 64) * 8
    const ptr = this.#kept.allocate(byteLength)
    this.#kernels.u8.fill(0, ptr, ptr + byteLength)
    return ptr
  }

  /** Applies all rows; results get the numbers of rows skipped. Returns the writes in which a row failed. */
  settle(writes: readonly OpenWrite[], results: SettledWrite[]): Failure[] {
    const failures: Failure[] = []
    this.#loadStored(writes)
    for (const write of writes) {
      const count = write.sessions === null ? 1 : write.rows.rowCount
      for (let i = 0; i < count; i++) setSkipped(results, write.number + i, 0)
    }
    for (let round = 0; round < this.#items.roundCount; round++) {
      for (const write of writes) {
        const failure = this.#settleRound(write, round, results)
        if (failure !== null) failures.push(failure)
      }
    }
    return failures
  }

  /** Cells that the writes may look at or that must be stored again, times of what is stored, what has expired. */
  #loadStored(writes: readonly OpenWrite[]): void {
    const { reader } = this
    const { count } = this.#items
    const { foundCount, sourcesPtr, rowsPtr } = this.#stored
    if (reader === null || foundCount === 0) return
    const { call, u8 } = this.#kernels
    const presentSources = this.#livingSources(reader, sourcesPtr, rowsPtr)
    if (call.presentIndexes(presentSources, count, this.#existsPtr) === 0) return
    const rows = reader.groupRows(presentSources, rowsPtr, count, this.#kept)
    const load = (name: string, dtype: ColumnSlice['dtype']): ColumnSlice =>
      reader.gatherRows(name, dtype, rows, this.#kept)
    const takeTimes = (column: ColumnSlice, targetPtr: number): void => {
      const mark = this.#work.mark()
      const itemsPtr = this.#work.allocate(4 * count)
      call.countUp(count, 0, itemsPtr)
      const ignoredPtr = this.#work.allocate(Math.ceil(count / 64) * 8)
      u8.fill(0, ignoredPtr, ignoredPtr + Math.ceil(count / 64) * 8)
      call.assignCells64(column.valuesPtr, this.#existsPtr, 0, itemsPtr, count, targetPtr, ignoredPtr)
      this.#work.release(mark)
    }
    assert(this.#times !== null, 'where items are stored, their times count')
    takeTimes(load(mtimeColumn, 'time'), this.#times.mtimesPtr)
    takeTimes(load(ctimeColumn, 'time'), this.#times.ctimesPtr)
    const wanted = wantedAttributes(writes)
    for (const { name, dtype } of reader.columns(rows))
      if (wanted === null || wanted.has(stateAttribute(name))) this.#states.load(load(name, dtype))
  }

  /** Sources of stored rows without those that have expired: for the writes they are not there any more. */
  #livingSources(reader: ItemReader, sourcesPtr: number, rowsPtr: number): number {
    const { ttlMs } = this.#request.schema
    if (ttlMs === null) return sourcesPtr
    const { u32, i64 } = this.#kernels
    const { count } = this.#items
    const { valuesPtr } = reader.gather(mtimeColumn, 'time', sourcesPtr, rowsPtr, count, this.#kept)
    const livingPtr = this.#kept.allocate(4 * count)
    const expiredNs = this.#request.nowNs - BigInt(ttlMs) * 1_000_000n
    for (let item = 0; item < count; item++) {
      const source = u32[(sourcesPtr >> 2) + item]!
      u32[(livingPtr >> 2) + item] = i64[(valuesPtr >> 3) + item]! <= expiredNs ? notFound : source
    }
    return livingPtr
  }

  /** One write's rows of one round; returns what failed. */
  #settleRound(write: OpenWrite, round: number, results: SettledWrite[]): Failure | null {
    const { call, u32 } = this.#kernels
    const { rule, rowsPlace } = write
    assert(rowsPlace !== null, 'rows are numbered before they are settled')
    const isOnly = rowsPlace.rowsByRoundPtr === 0
    const start = isOnly ? 0 : u32[(rowsPlace.roundStartsPtr >> 2) + round]!
    const end = isOnly ? write.rows.rowCount : u32[(rowsPlace.roundStartsPtr >> 2) + round + 1]!
    const roundRowCount = end - start
    if (roundRowCount === 0) return null
    const work = this.#work
    const mark = work.mark()
    // A list of its own: rows that are skipped are taken out of it.
    const rowsPtr = work.allocate(4 * roundRowCount)
    const first = (rowsPlace.rowsByRoundPtr >> 2) + start
    if (isOnly) call.countUp(roundRowCount, 0, rowsPtr)
    else u32.copyWithin(rowsPtr >> 2, first, first + roundRowCount)
    let count = roundRowCount
    if (rule.saveMode === 'createNewItemsOnly')
      count = call.keepRowsOfClearItems(rowsPtr, count, rowsPlace.itemsPtr, this.#existsPtr)
    const itemsPtr = work.allocate(4 * Math.max(1, count))
    call.gather32(rowsPlace.itemsPtr, rowsPtr, count, itemsPtr)
    if (rule.condition !== null && count > 0) {
      const maskPtr = work.allocate(Math.ceil(count / 8) + 8)
      // A filter is evaluated at one end of the memory, and finds its columns at the other.
      const keptMark = this.#kept.mark()
      const source = this.#rowSource(write, rowsPtr, itemsPtr, count, this.#kept)
      evaluateFilter(this.#kernels, work, rule.condition, source, maskPtr)
      this.#kept.release(keptMark)
      count = call.keepMarkedRows(rowsPtr, count, maskPtr)
      call.gather32(rowsPlace.itemsPtr, rowsPtr, count, itemsPtr)
    }
    let keepsText = false
    if (count > 0) {
      if (rule.actions === null) this.#applyCells(write, rowsPtr, itemsPtr, count)
      else {
        const applied = this.#applyActions(write, rule.actions, rowsPtr, itemsPtr, count)
        if (typeof applied !== 'boolean') {
          work.release(mark)
          return applied
        }
        keepsText = applied
      }
      call.markItems(itemsPtr, count, this.#existsPtr)
      call.markItems(itemsPtr, count, this.#changedPtr)
      if (this.#times !== null) call.fillItems64(itemsPtr, count, this.#request.nowNs, this.#times.mtimesPtr)
    }
    this.#countSkipped(write, { first, roundRowCount, isOnly }, { rowsPtr, count }, results)
    if (!keepsText) work.release(mark)
    return null
  }

  /** Rows of the round that are not in the list of those that were applied. */
  #countSkipped(
    { number, sessions }: OpenWrite,
    round: { readonly first: number; readonly roundRowCount: number; readonly isOnly: boolean },
    applied: { readonly rowsPtr: number; readonly count: number },
    results: SettledWrite[],
  ): void {
    const skippedCount = round.roundRowCount - applied.count
    if (skippedCount === 0) return
    if (sessions === null) {
      setSkipped(results, number, results[number]!.skippedCount + skippedCount)
      return
    }
    const { u32 } = this.#kernels
    // Both lists ascend.
    for (let i = 0, next = 0; i < round.roundRowCount; i++) {
      const row = round.isOnly ? i : u32[round.first + i]!
      if (next < applied.count && u32[(applied.rowsPtr >> 2) + next] === row) next++
      else setSkipped(results, number + row, 1)
    }
  }

  #applyCells({ rule, rows }: OpenWrite, rowsPtr: number, itemsPtr: number, count: number): void {
    const place = { rowsPtr, itemsPtr, count }
    if (rule.saveMode === 'overwriteItem') this.#states.removeAll(place)
    for (const column of rows.attributes) {
      if (rule.saveMode === 'updateItem' && (column.validityPtr !== 0 || column.dtype === 'null'))
        this.#states.remove(column.name, place)
      this.#states.assign(column, place)
    }
  }

  /** Whether texts were made that must stay, or what failed. */
  #applyActions(
    write: OpenWrite,
    actions: readonly UpdateAction[],
    rowsPtr: number,
    itemsPtr: number,
    count: number,
  ): boolean | Failure {
    const { u32 } = this.#kernels
    const source = this.#rowSource(write, rowsPtr, itemsPtr, count, this.#work)
    const { assigned, failures, failedCount } = evaluateUpdate(this.#kernels, this.#work, actions, source)
    const [first] = failures
    if (first !== undefined) {
      const { rows } = write
      const key = cellOf(this.#kernels, rows.names, u32[(rowsPtr >> 2) + first.row]!) as string
      const others = failedCount - 1
      const more = others === 0 ? '' : ` (and ${others} more row${others === 1 ? '' : 's'})`
      const what = `failed to update item '${shortened(key)}': ${first.detail}${more}`
      return { write, error: new FramesError('PRECONDITION', what), item: u32[(itemsPtr >> 2) + first.row]! }
    }
    const place = { rowsPtr: 0, itemsPtr, count }
    if (write.rule.saveMode === 'overwriteItem') this.#states.removeAll(place)
    for (const { name, columns } of assigned) {
      this.#states.remove(name, place)
      for (const column of columns) this.#states.assign(column, place)
    }
    return assigned.some(({ columns }) => columns.some(({ dtype }) => dtype === 'string'))
  }

  /** What an expression sees: the items as they are now, and the row's own cells by placeholder. */
  #rowSource({ rows }: OpenWrite, rowsPtr: number, itemsPtr: number, count: number, scratch: Scratch): RowSource {
    return {
      rowCount: count,
      attribute: (name) =>
        systemAttributeNames.has(name)
          ? this.#systemAttribute(name, itemsPtr, count, scratch)
          : this.#states.attribute(name, itemsPtr, count, scratch),
      placeholder: (name) => {
        const column = rows.placeholders.find((candidate) => candidate.name === name)
        return column === undefined || column.dtype === 'null'
          ? []
          : [gatherRows(this.#kernels, scratch, column, rowsPtr, count)]
      },
    }
  }

  #systemAttribute(name: string, itemsPtr: number, count: number, scratch: Scratch): ColumnSlice[] {
    const { call } = this.#kernels
    const validityPtr = scratch.allocate(Math.ceil(count / 64) * 8)
    call.gatherBits(this.#existsPtr, itemsPtr, count, validityPtr)
    if (name === '__name') {
      const names = gatherRows(this.#kernels, scratch, this.#items.names, itemsPtr, count)
      return [{ ...names, name, validityPtr }]
    }
    const times = (cellsPtr: number): ColumnSlice => {
      const valuesPtr = scratch.allocate(8 * count)
      call.gather64(cellsPtr, itemsPtr, count, valuesPtr)
      const place = { valuesPtr, validityPtr: 0, bytesPtr: 0, byteLength: 0 }
      return { name, dtype: 'time', kind: 'slice', rowCount: count, ...place }
    }
    assert(this.#times !== null, 'where there is an expression, times count')
    const { mtimesPtr, ctimesPtr } = this.#times
    const column = systemAttribute(this.#kernels, scratch, name, times(mtimesPtr), times(ctimesPtr))
    return column === null ? [] : [{ ...column, validityPtr }]
  }

  // ---- what is stored -----------------------------------------------------------------------------------------------

  finish(blockIds: readonly bigint[]): { blocks: readonly PreparedBlock[]; kills: readonly Kill[] } {
    const { call } = this.#kernels
    const { count, names, folders, foldersPtr } = this.#items
    const work = this.#work
    const changedCount = call.countBits(this.#changedPtr, count)
    if (changedCount === 0) return { blocks: [], kills: [] }
    const isAll = changedCount === count
    const itemsPtr = work.allocate(4 * changedCount)
    call.bitsToIndexes(this.#changedPtr, count, itemsPtr)
    const kills = this.#kills(itemsPtr, changedCount, blockIds)
    let changedFoldersPtr = foldersPtr
    if (foldersPtr !== 0 && !isAll) {
      changedFoldersPtr = work.allocate(4 * changedCount)
      call.gather32(foldersPtr, itemsPtr, changedCount, changedFoldersPtr)
    }
    const blocks = writeItems(this.#kernels, work, this.#kept, {
      rowCount: changedCount,
      folders: folderRuns(this.#kernels, folders, changedFoldersPtr, changedCount),
      names: isAll ? names : gatherRows(this.#kernels, work, names, itemsPtr, changedCount),
      mtimes: this.#timeColumn(mtimeColumn, this.#times?.mtimesPtr ?? null, itemsPtr, changedCount),
      ctimes: this.#timeColumn(ctimeColumn, this.#times?.ctimesPtr ?? null, itemsPtr, changedCount),
      attributes: this.#states.columns(itemsPtr, changedCount, work),
    })
    return { blocks, kills }
  }

  /** cellsPtr null: the items are all of now. */
  #timeColumn(name: string, cellsPtr: number | null, itemsPtr: number, rowCount: number): ColumnSlice {
    const valuesPtr = this.#work.allocate(cellsPtr === null ? 8 : 8 * rowCount)
    if (cellsPtr === null) this.#kernels.i64[valuesPtr >> 3] = this.#request.nowNs
    else this.#kernels.call.gather64(cellsPtr, itemsPtr, rowCount, valuesPtr)
    const kind = cellsPtr === null ? 'label' : 'slice'
    return { name, dtype: 'time', kind, rowCount, valuesPtr, validityPtr: 0, bytesPtr: 0, byteLength: 0 }
  }

  /** The stored rows of changed items, block by block. */
  #kills(itemsPtr: number, count: number, blockIds: readonly bigint[]): Kill[] {
    const { call, u32 } = this.#kernels
    const { foundCount, sourcesPtr, rowsPtr } = this.#stored
    if (foundCount === 0) return []
    const work = this.#work
    const mark = work.mark()
    const ownSourcesPtr = work.allocate(4 * count)
    const ownRowsPtr = work.allocate(4 * count)
    let foundOwnCount = 0
    for (let i = 0; i < count; i++) {
      const item = u32[(itemsPtr >> 2) + i]!
      const source = u32[(sourcesPtr >> 2) + item]!
      if (source === notFound) continue
      u32[(ownSourcesPtr >> 2) + foundOwnCount] = source
      u32[(ownRowsPtr >> 2) + foundOwnCount] = u32[(rowsPtr >> 2) + item]!
      foundOwnCount++
    }
    const orderPtr = work.allocate(4 * Math.max(1, foundOwnCount))
    const startsPtr = work.allocate(4 * (blockIds.length + 1))
    call.sortGroups(ownSourcesPtr, blockIds.length, foundOwnCount, orderPtr, startsPtr)
    const kills: Kill[] = []
    blockIds.forEach((blockId, source) => {
      const start = u32[(startsPtr >> 2) + source]!
      const end = u32[(startsPtr >> 2) + source + 1]!
      if (start === end) return
      const rows = new Uint32Array(end - start)
      for (let i = start; i < end; i++) rows[i - start] = u32[(ownRowsPtr >> 2) + u32[(orderPtr >> 2) + i]!]!
      kills.push({ blockId, rows: rows.sort() })
    })
    work.release(mark)
    return kills
  }
}

function setSkipped(results: SettledWrite[], number: number, skippedCount: number): void {
  results[number] = { ...results[number]!, skippedCount }
}

/** Which attributes of stored items the writes need; null: all of them. */
function wantedAttributes(writes: readonly OpenWrite[]): ReadonlySet<string> | null {
  const names = new Set<string>()
  for (const { rule } of writes) {
    // What is there already is skipped, whatever it holds.
    if (rule.saveMode === 'createNewItemsOnly') continue
    if (rule.saveMode !== 'overwriteItem' || rule.actions !== null) return null
    if (rule.condition !== null) collectAttributes(rule.condition, names)
  }
  return names
}

/** Rows of a slice column. */
function gatherRows(
  kernels: Kernels,
  scratch: Scratch,
  column: ColumnSlice,
  rowsPtr: number,
  count: number,
): ColumnSlice {
  const { call } = kernels
  const { dtype, valuesPtr: fromPtr, bytesPtr: textPtr } = column
  const bitmapByteLength = Math.ceil(count / 64) * 8
  let validityPtr = 0
  if (column.validityPtr !== 0) {
    validityPtr = scratch.allocate(bitmapByteLength)
    call.gatherBits(column.validityPtr, rowsPtr, count, validityPtr)
  }
  if (dtype === 'string') {
    const byteLength = call.gatheredStringsByteLength(fromPtr, rowsPtr, count)
    assert(byteLength >= 0, 'rows of a column have no more text than the column')
    const valuesPtr = scratch.allocate(4 * (count + 1))
    const bytesPtr = scratch.allocate(byteLength)
    call.gatherStrings(fromPtr, textPtr, rowsPtr, count, valuesPtr, bytesPtr)
    return { ...column, rowCount: count, valuesPtr, validityPtr, bytesPtr, byteLength }
  }
  const valuesPtr = scratch.allocate(dtype === 'bool' ? bitmapByteLength : 8 * count)
  if (dtype === 'bool') call.gatherBits(fromPtr, rowsPtr, count, valuesPtr)
  else call.gather64(fromPtr, rowsPtr, count, valuesPtr)
  return { ...column, rowCount: count, valuesPtr, validityPtr }
}

/**
 * The writes that are left when those that failed are taken out, and what later writes of their sessions had done. A
 * failure may come from what another write did that failed, too: only one whose item none of those had touched is final.
 */
function withoutFailed(
  kernels: Kernels,
  work: Scratch,
  writes: readonly OpenWrite[],
  failures: readonly Failure[],
  itemCount: number,
  results: SettledWrite[],
): OpenWrite[] {
  const { call, u8 } = kernels
  const mark = work.mark()
  const touchedPtr = work.allocate(Math.ceil(itemCount / 8))
  u8.fill(0, touchedPtr, touchedPtr + Math.ceil(itemCount / 8))
  const failedSessions = new Map<number, number>()
  for (const { write, error, item } of [...failures].sort((a, b) => a.write.number - b.write.number)) {
    const isFinal = ((u8[touchedPtr + (item >> 3)]! >> (item & 7)) & 1) === 0
    if (isFinal && !failedSessions.has(write.session)) {
      failedSessions.set(write.session, write.number)
      results[write.number] = failed(error)
    }
    call.markItems(write.rowsPlace!.itemsPtr, write.rows.rowCount, touchedPtr)
  }
  work.release(mark)
  return writes.filter(({ session, number }) => {
    const failedNumber = failedSessions.get(session)
    if (failedNumber === undefined || number < failedNumber) return true
    if (number > failedNumber) results[number] = abandoned
    return false
  })
}
