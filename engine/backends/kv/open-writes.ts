import { FramesError, shortened, toErrorMessage } from '../../errors.js'
import type { Expression } from '../../expression/tree.js'
import { collectPlaceholders, expressionsOf } from '../../expression/tree.js'
import type { ColumnSlice } from '../../frame/column-slice.js'
import type { Kernels } from '../../kernels/kernels.js'
import type { Scratch } from '../../memory/scratch.js'
import { columnOfAssigned, placeTexts } from './assigned-cells.js'
import { sortByBytes } from './folders.js'
import type { FrameRules, PreparedRows } from './prepare.js'
import { prepareRows } from './prepare.js'
import type { KvSchema } from './schema.js'
import { emptySchema, mergeSchema } from './schema.js'
import type { SettledWrite, SettleRequest, WriteRule } from './settle-request.js'

/** A write whose frame is in order, or several of single items, a row each, that follow one another by one rule. */
export interface OpenWrite {
  /** Its place among the results; of several, the first one's: the others follow. */
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
export interface RowsPlace {
  readonly itemsPtr: number
  readonly roundsPtr: number
  /** 0: there is one round, of all rows. */
  readonly rowsByRoundPtr: number
  /** Round i: rowsByRound[starts[i]] to before rowsByRound[starts[i + 1]]. */
  readonly roundStartsPtr: number
  readonly roundCount: number
}

/** Frames decoded and checked, and their fields merged into the schema, one after the other. */
export function prepareWrites(
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
  for (const write of request.writes) {
    const { session } = write
    const rule = request.rules[write.rule]!
    const number = results.length
    if (write.kind === 'items') {
      const { names, folders, assigned } = write
      if (folders !== null && !schema.foldersDrifted) schema = { ...schema, foldersDrifted: true }
      const attributes = assigned.map((column) => columnOfAssigned(kernels, work, column))
      const rows = { ...itemRows(kernels, work, names, folders), attributes }
      const sessions = names.length > 1 ? names.map((_, i) => session + i) : null
      open.push({ number, session, rule, rows, sessions, rowsPlace: null })
      for (const _ of names) results.push(appliedItem)
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

/** One object for all: a message tells it once. */
export const appliedItem: SettledWrite = { rowCount: 1, skippedCount: 0, error: null, isAbandoned: false }
export const abandoned: SettledWrite = { rowCount: 0, skippedCount: 0, error: null, isAbandoned: true }

export function failed(error: FramesError): SettledWrite {
  return { rowCount: 0, skippedCount: 0, error: toErrorMessage(error), isAbandoned: false }
}

/** A row for each of some items. */
function itemRows(
  kernels: Kernels,
  work: Scratch,
  itemNames: readonly string[],
  itemFolders: readonly string[] | null,
): PreparedRows {
  const { u32 } = kernels
  const rowCount = itemNames.length
  const folders = itemFolders === null ? [''] : sortByBytes(new Set(itemFolders))
  let codesPtr = 0
  if (folders.length > 1) {
    codesPtr = work.allocate(4 * rowCount)
    itemFolders?.forEach((folder, row) => {
      u32[(codesPtr >> 2) + row] = folders.indexOf(folder)
    })
  }
  const texts = placeTexts(kernels, work, itemNames)
  return {
    rowCount,
    names: { name: '', dtype: 'string', kind: 'slice', rowCount, validityPtr: 0, ...texts },
    folders: { folders, codesPtr },
    attributes: [],
    placeholders: [],
    schema: emptySchema,
  }
}
