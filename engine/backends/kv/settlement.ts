// Applies the rows of all writes to their items, round by round, and makes blocks of what has changed.
import { assert } from '../../assert.js'
import type { PreparedBlock } from '../../blocks/merge-rule.js'
import type { SentKills } from '../../blocks/sent-kills.js'
import { noKills } from '../../blocks/sent-kills.js'
import { FramesError, shortened } from '../../errors.js'
import type { RowSource } from '../../expression/evaluate.js'
import { evaluateFilter, evaluateUpdate } from '../../expression/evaluate.js'
import type { UpdateAction } from '../../expression/tree.js'
import { collectAttributes } from '../../expression/tree.js'
import type { ColumnSlice } from '../../frame/column-slice.js'
import type { Kernels } from '../../kernels/kernels.js'
import type { Scratch } from '../../memory/scratch.js'
import type { Items, StoredRows } from './batch-items.js'
import { folderRuns } from './batch-items.js'
import { writeItems } from './item-block.js'
import { ctimeColumn, mtimeColumn } from './item-columns.js'
import type { ItemReader } from './item-reader.js'
import { noRow } from './item-reader.js'
import { ItemStates, stateAttribute } from './item-states.js'
import { cellOf, systemAttributeNames } from './names.js'
import type { OpenWrite } from './open-writes.js'
import { appliedItem } from './open-writes.js'
import type { SettledWrite, SettleRequest } from './settle-request.js'
import { systemAttribute } from './system-attributes.js'

export interface Failure {
  readonly write: OpenWrite
  readonly error: FramesError
  /** An item whose row failed. */
  readonly item: number
}

export class Settlement {
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
    for (const { number, sessions, rows } of writes) {
      if (sessions === null) setSkipped(results, number, 0)
      else results.fill(appliedItem, number, number + rows.rowCount)
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
      u32[(livingPtr >> 2) + item] = i64[(valuesPtr >> 3) + item]! <= expiredNs ? noRow : source
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

  finish(blockIds: readonly bigint[]): { blocks: readonly PreparedBlock[]; kills: SentKills } {
    const { call } = this.#kernels
    const { count, names, folders, foldersPtr } = this.#items
    const work = this.#work
    const changedCount = call.countBits(this.#changedPtr, count)
    if (changedCount === 0) return { blocks: [], kills: noKills }
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
  #kills(itemsPtr: number, count: number, blockIds: readonly bigint[]): SentKills {
    const { call, u32 } = this.#kernels
    const { foundCount, sourcesPtr, rowsPtr } = this.#stored
    if (foundCount === 0) return noKills
    const work = this.#work
    const mark = work.mark()
    const ownSourcesPtr = work.allocate(4 * count)
    const ownRowsPtr = work.allocate(4 * count)
    let foundOwnCount = 0
    for (let i = 0; i < count; i++) {
      const item = u32[(itemsPtr >> 2) + i]!
      const source = u32[(sourcesPtr >> 2) + item]!
      if (source === noRow) continue
      u32[(ownSourcesPtr >> 2) + foundOwnCount] = source
      u32[(ownRowsPtr >> 2) + foundOwnCount] = u32[(rowsPtr >> 2) + item]!
      foundOwnCount++
    }
    const orderPtr = work.allocate(4 * Math.max(1, foundOwnCount))
    const startsPtr = work.allocate(4 * (blockIds.length + 1))
    call.sortGroups(ownSourcesPtr, blockIds.length, foundOwnCount, orderPtr, startsPtr)
    const killedIds: bigint[] = []
    const ends: number[] = []
    const rows = new Uint32Array(foundOwnCount)
    for (let source = 0, start = 0; start < foundOwnCount; source++) {
      const end = u32[(startsPtr >> 2) + source + 1]!
      if (start === end) continue
      for (let i = start; i < end; i++) rows[i] = u32[(ownRowsPtr >> 2) + u32[(orderPtr >> 2) + i]!]!
      rows.subarray(start, end).sort()
      killedIds.push(blockIds[source]!)
      ends.push(end)
      start = end
    }
    work.release(mark)
    return { blockIds: BigUint64Array.from(killedIds), ends: Uint32Array.from(ends), rows }
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
