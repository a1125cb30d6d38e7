// What a read asks for, resolved to numbers: pure, made on the main thread, and small enough to travel with every job.
import { FramesError, shortened } from '../../errors.js'
import { type Aggregator, type Interpolator, parseAggregator } from '../../expression/aggregators.js'
import { filterOf, ParseCache, queryOf } from '../../expression/cache.js'
import type { SqlQuery } from '../../expression/sql.js'
import type { Expression } from '../../expression/tree.js'
import { orderedRowCountMax, readColumnCountMax, stepPointCountMax } from '../../limits.js'
import type { ReadRequest } from '../../requests.js'
import { parseDurationMs, parseTimeMs } from '../../time.js'
import type { TsdbExtent } from './directory.js'

/** Over-time functions, in the numbering of the finishWindows kernel; `rate` is worked out from `last`. */
export const functionNumbers = {
  count: 0,
  sum: 1,
  sqr: 2,
  min: 3,
  max: 4,
  last: 5,
  avg: 6,
  stdvar: 7,
  stddev: 8,
  rate: 9,
} as const
export type OverTimeFunction = keyof typeof functionNumbers

/** Which parts of a window's state each function needs; see accumulateWindows. */
export const functionStates: Readonly<Record<OverTimeFunction, number>> = {
  count: 1,
  sum: 2,
  sqr: 16,
  min: 4,
  max: 4,
  last: 8,
  avg: 2,
  stdvar: 16,
  stddev: 16,
  rate: 8,
}

export interface TimeRange {
  /** Both ends inclusive, in ms. */
  readonly startMs: number
  readonly endMs: number
}

/** Which parts of a window's state the functions of a plan need together; the count always is one. */
export function neededStates({ functions }: Pick<ReadPlan, 'functions'>): number {
  return functions.reduce((bits, fn) => bits | functionStates[fn], 1)
}

/**
 * A value column that is asked for.
 *
 * metric  null: every metric of the label set or group
 * fn      null: the samples themselves; in other modes than raw, the value at each step point
 * name    of the column in the frame; null for every metric's default, `fn(metric)` or the metric
 */
export interface PlanItem {
  readonly metric: string | null
  readonly fn: OverTimeFunction | null
  readonly name: string | null
}

/** How the series of a metric get values at step points, where samples may be so far away; see kernels/steps.ts. */
export interface Interpolation {
  readonly interpolator: Interpolator
  readonly toleranceMs: number
}

/**
 * What rows there are.
 *
 * raw         the samples
 * downsample  the value of each metric at each step point
 * over-time   functions of the samples in each bucket; raw columns beside them are sampled at the buckets' times
 * across      functions of the values that all series have at each step point
 */
export type ReadMode = 'raw' | 'downsample' | 'over-time' | 'across'

/** What a read asks for but for its times: one for all reads of a kind, which come again and again with other times. */
export interface ReadShape {
  readonly mode: ReadMode
  /** 0: none is asked for. */
  readonly stepMs: number
  /**
   * 0: a bucket begins at its time. Else it ends there and holds the samples of so long before. Between series it has no
   * effect but on where the range begins.
   */
  readonly windowMs: number
  /** For all metrics that `interpolations` does not name. */
  readonly interpolation: Interpolation
  readonly interpolations: readonly (readonly [metric: string, interpolation: Interpolation])[]
  /** Those of all items, each once. */
  readonly functions: readonly OverTimeFunction[]
  /** In the order in which they are asked for; a metric has each function once. */
  readonly items: readonly PlanItem[]
  /** Labels whose values make the groups in which label sets are pooled; none: one group. null: each set is by itself. */
  readonly groupBy: readonly string[] | null
  /** Rows in the order of time, also where a limit ends the read; null: label set by label set, each from its beginning. */
  readonly order: { readonly descending: boolean } | null
  readonly multiIndex: boolean
  /** Rows of one frame at most; 0: cut by bytes. */
  readonly messageLimit: number
}

export interface ReadPlan extends ReadShape {
  readonly shape: ReadShape
  readonly startMs: number
  readonly endMs: number
  /** At least 1; 0 in raw mode. */
  readonly stepMs: number
}

/** A shape with its times. Not by spreading: V8 looks the fields of what that makes up anew each time. */
export function planOf(shape: ReadShape, startMs: number, endMs: number, stepMs: number): ReadPlan {
  return {
    shape,
    startMs,
    endMs,
    stepMs,
    mode: shape.mode,
    windowMs: shape.windowMs,
    interpolation: shape.interpolation,
    interpolations: shape.interpolations,
    functions: shape.functions,
    items: shape.items,
    groupBy: shape.groupBy,
    order: shape.order,
    multiIndex: shape.multiIndex,
    messageLimit: shape.messageLimit,
  }
}

const defaultRangeMs = 3_600_000
/** A window as long as all times that there are; longer ones are the same, and leave int64 as nanoseconds. */
const lookbackMsMax = 9_223_372_036_853

/** The bounds of a request; `end` defaults to now in whole seconds, `start` to an hour before `end`. Throws. */
export function parseRange(request: Pick<ReadRequest, 'start' | 'end'>, nowMs: number): TimeRange {
  const endMs =
    request.end === undefined || request.end === '' ? Math.floor(nowMs / 1000) * 1000 : parseTimeMs(request.end, nowMs)
  const startMs =
    request.start === undefined || request.start === '' ? endMs - defaultRangeMs : parseTimeMs(request.start, nowMs)
  if (startMs > endMs)
    throw new FramesError('INVALID_ARGUMENT', `End time '${endMs}' is lower than start time '${startMs}'`)
  return { startMs, endMs }
}

const mixedAggregators = 'can not aggregate both over time and across series aggregates'

/** What a list of functions makes of a read; null stands for a raw column. Throws INVALID_ARGUMENT. */
function modeOf(aggregators: readonly (Aggregator | null)[], stepMs: number): ReadMode {
  const isAcross = aggregators.some((aggregator) => aggregator?.acrossSeries === true)
  if (isAcross && aggregators.some((aggregator) => aggregator?.acrossSeries === false))
    throw new FramesError('INVALID_ARGUMENT', mixedAggregators)
  const hasRaw = aggregators.includes(null)
  if (isAcross && hasRaw) {
    const what = `${mixedAggregators}: a raw column belongs to one series, a function across series to none`
    throw new FramesError('INVALID_ARGUMENT', what)
  }
  if (isAcross) return 'across'
  if (aggregators.some((aggregator) => aggregator !== null)) return 'over-time'
  return stepMs > 0 ? 'downsample' : 'raw'
}

type Wanted = Pick<ReadShape, 'mode' | 'items' | 'interpolation' | 'interpolations'>

/** Names of a list, without blanks around them. */
function namesOf(list: string): string[] {
  return list.split(',').map((name) => name.trim())
}

/** The items of a request's columns and aggregators: every function of every metric. */
function wantedByFields(
  { columns, aggregators }: { readonly columns: readonly string[]; readonly aggregators: string },
  stepMs: number,
): Wanted {
  const names = aggregators.trim() === '' ? [] : namesOf(aggregators)
  names.forEach((name, i) => {
    if (names.indexOf(name) < i)
      throw new FramesError('INVALID_ARGUMENT', `function '${shortened(name)}' was requested multiple time`)
  })
  const functions = names.map((name) => (name === '' ? null : parseAggregator(name)))
  checkColumnCount(columns.length)
  const metrics = new Set(columns.flatMap(namesOf).filter((name) => name !== ''))
  const wanted = functions.length === 0 ? [null] : functions.map((aggregator) => aggregator?.function ?? null)
  checkColumnCount(metrics.size * wanted.length)
  const itemsOf = (metric: string | null): PlanItem[] =>
    wanted.map((fn) => ({ metric, fn, name: metric === null ? null : defaultName(metric, fn) }))
  return {
    mode: modeOf(functions, stepMs),
    items: metrics.size === 0 ? itemsOf(null) : [...metrics].flatMap(itemsOf),
    interpolation: { interpolator: 'next_val', toleranceMs: 2 * stepMs },
    interpolations: [],
  }
}

function wantedByQuery({ items }: SqlQuery, stepMs: number): Wanted {
  const aggregators = items.map(({ function: fn, acrossSeries }) =>
    fn === null ? null : { function: fn, acrossSeries },
  )
  const standard: Interpolation = { interpolator: 'none', toleranceMs: 2 * stepMs }
  const interpolations = new Map<string | null, Interpolation>()
  for (const { metric, interpolator, toleranceMs } of items) {
    const known = interpolations.get(metric) ?? standard
    interpolations.set(metric, {
      interpolator: interpolator ?? known.interpolator,
      toleranceMs: toleranceMs ?? known.toleranceMs,
    })
  }
  return {
    mode: modeOf(aggregators, stepMs),
    items: items.map(({ metric, name, function: fn }) => ({ metric, fn, name })),
    interpolation: interpolations.get(null) ?? standard,
    interpolations: [...interpolations].flatMap(([metric, own]) => (metric === null ? [] : [[metric, own] as const])),
  }
}

function defaultName(metric: string, fn: OverTimeFunction | null): string {
  return fn === null ? metric : `${fn}(${metric})`
}

function doubledName(name: string): FramesError {
  const what = `column name '${shortened(name)}' appears more than once in select query`
  return new FramesError('INVALID_ARGUMENT', what)
}

/** Names that a query gives its columns and that are not theirs by default. */
export function aliasesOf({ items }: Pick<ReadPlan, 'items'>): Set<string> {
  const aliases = new Set<string>()
  for (const { metric, fn, name } of items)
    if (metric !== null && name !== null && name !== defaultName(metric, fn)) aliases.add(name)
  return aliases
}

/** A frame's labels are columns, too, and its index is called `time`. Throws INVALID_ARGUMENT. */
export function checkAliases(aliases: ReadonlySet<string>, others: Iterable<string>): void {
  for (const name of others) if (aliases.has(name)) throw doubledName(name)
}

/** Throws INVALID_ARGUMENT. */
function checkColumnCount(count: number): void {
  if (count <= readColumnCountMax) return
  const what = `an answer has at most ${readColumnCountMax} value columns`
  throw new FramesError('INVALID_ARGUMENT', `${what}; ask for fewer metrics or functions at once`)
}

/** One value column of a frame. */
export interface PlanColumn {
  readonly metric: string
  readonly fn: OverTimeFunction | null
  readonly name: string
}

/**
 * The value columns of a frame of a label set or group that has `metrics`, sorted by name: those that name their metric,
 * whether it is there or not, then every metric's that is not asked for by name.
 * Throws INVALID_ARGUMENT when two columns would have one name, or there are too many.
 */
export function planColumns({ items }: Pick<ReadPlan, 'items'>, metrics: readonly string[]): PlanColumn[] {
  const columns: PlanColumn[] = []
  const taken = new Set<string>()
  const names = new Set<string>()
  const add = (column: PlanColumn): void => {
    if (names.has(column.name)) throw doubledName(column.name)
    names.add(column.name)
    columns.push(column)
  }
  for (const { metric, fn, name } of items) {
    if (metric === null) continue
    taken.add(defaultName(metric, fn))
    add({ metric, fn, name: name ?? defaultName(metric, fn) })
  }
  const wildcards = items.filter(({ metric }) => metric === null)
  checkColumnCount(columns.length + wildcards.length * metrics.length)
  for (const metric of wildcards.length === 0 ? [] : metrics) {
    for (const { fn } of wildcards) {
      const name = defaultName(metric, fn)
      if (!taken.has(name)) add({ metric, fn, name })
    }
  }
  return columns
}

/** Errors of the query engine carry upstream's prefix. */
function asSelect<T>(work: () => T): T {
  try {
    return work()
  } catch (error) {
    throw error instanceof FramesError ? error.prefixed('Failed on TSDB Select') : error
  }
}

/** What a read is of: told by its query where it has one, else by the fields of the request. */
export interface ReadSource {
  readonly query: SqlQuery | null
  readonly table: string
  readonly filter: Expression | null
  /** Two filters with one text are the same. */
  readonly filterText: string
  /** Rows at most; null: all. */
  readonly limit: bigint | null
}

/** Throws INVALID_ARGUMENT. */
export function readSource(request: ReadRequest): ReadSource {
  const requestLimit = request.limit === undefined || request.limit <= 0n ? null : request.limit
  if (request.query === undefined || request.query === '') {
    const filterText = request.filter ?? ''
    const filter = filterText.trim() === '' ? null : filterOf(filterText)
    return { query: null, table: request.table, filter, filterText, limit: requestLimit }
  }
  const { query, whereText } = queryOf(request.query)
  const { where, orderBy } = query
  const limit =
    query.limit === null || (requestLimit !== null && requestLimit < query.limit) ? requestLimit : query.limit
  // Rows come by label set and time. Another order is passed over, as upstream does, unless it decides which rows come.
  const [first] = orderBy
  if (query.limit !== null && first !== undefined && first.name !== 'time') {
    const what = `LIMIT takes the first rows by time; ORDER BY ${shortened(first.name)} cannot choose them`
    throw new FramesError('INVALID_ARGUMENT', what)
  }
  if (orderOf(query) !== null && limit !== null && limit > BigInt(orderedRowCountMax))
    throw new FramesError('INVALID_ARGUMENT', `LIMIT with ORDER BY time is ${orderedRowCountMax} rows at most`)
  return {
    query,
    table: query.table ?? request.table,
    filter: where,
    filterText: whereText,
    limit,
  }
}

function groupLabels(groupBy: string, query: SqlQuery | null): string[] | null {
  const names = query === null ? namesOf(groupBy) : query.groupBy
  const labels = [...new Set(names.filter((name) => name !== ''))]
  return labels.length === 0 ? null : labels
}

/** What a shape is made of. */
type ShapeFields = readonly [
  columns: readonly string[],
  aggregators: string,
  step: string,
  aggregationWindow: string,
  groupBy: string,
  multiIndex: boolean,
  messageLimit: number,
  query: string,
]

/** By those fields as JSON. */
const shapes = new ParseCache((text) => shapeOf(JSON.parse(text) as ShapeFields))

/** Shapes of late, in turn: the fields are compared with theirs faster than written as JSON. */
const recentShapes: { readonly fields: ShapeFields; readonly shape: ReadShape }[] = []
const recentShapeCountMax = 4
let nextRecentShape = 0

function shapeOfFields(fields: ShapeFields): ReadShape {
  for (const recent of recentShapes) if (isSameFields(recent.fields, fields)) return recent.shape
  const text = JSON.stringify(fields)
  const shape = shapes.get(text)
  // A request belongs to its caller, who may change it.
  recentShapes[nextRecentShape] = { fields: JSON.parse(text) as ShapeFields, shape }
  nextRecentShape = (nextRecentShape + 1) % recentShapeCountMax
  return shape
}

function isSameFields(a: ShapeFields, b: ShapeFields): boolean {
  // The first are the columns.
  for (let i = 1; i < a.length; i++) if (a[i] !== b[i]) return false
  const columns = a[0]
  const others = b[0]
  if (columns.length !== others.length) return false
  for (let i = 0; i < columns.length; i++) if (columns[i] !== others[i]) return false
  return true
}

function shapeOf(fields: ShapeFields): ReadShape {
  const [columns, aggregators, step, aggregationWindow, groupByText, multiIndex, messageLimit, queryText] = fields
  const query = queryText === '' ? null : queryOf(queryText).query
  const stepMs = parseDurationMs(step)
  const windowMs = Math.min(parseDurationMs(aggregationWindow), lookbackMsMax)
  const { mode, items, interpolation, interpolations } = asSelect(() =>
    query === null ? wantedByFields({ columns, aggregators }, stepMs) : wantedByQuery(query, stepMs),
  )
  const functions = [...new Set(items.map(({ fn }) => fn))].filter((fn) => fn !== null)
  const hasRaw = items.some(({ fn }) => fn === null)
  const groupBy = groupLabels(groupByText, query)
  if (groupBy !== null && hasRaw) {
    const what = 'group_by requires an aggregation function'
    throw new FramesError('INVALID_ARGUMENT', functions.length === 0 ? what : `${what} for every column`)
  }
  checkAliases(aliasesOf({ items }), ['time', ...(groupBy ?? [])])
  const isOfSamples = mode === 'raw' || mode === 'downsample'
  return {
    mode,
    stepMs,
    windowMs: isOfSamples ? 0 : windowMs,
    interpolation,
    interpolations,
    functions,
    items,
    groupBy: mode === 'across' ? (groupBy ?? []) : groupBy,
    order: orderOf(query),
    multiIndex,
    messageLimit,
  }
}

/**
 * The plan of a read, before its bounds are clamped to the partitions that exist.
 * Throws INVALID_ARGUMENT.
 */
export function planRead(request: ReadRequest, nowMs: number): ReadPlan {
  const { startMs, endMs } = parseRange(request, nowMs)
  const fields: ShapeFields = [
    request.columns ?? [],
    request.aggregators ?? '',
    request.step ?? '',
    request.aggregationWindow ?? '',
    request.groupBy ?? '',
    request.multiIndex ?? false,
    Math.min(Number(request.messageLimit ?? 0n), 2 ** 31),
    request.query ?? '',
  ]
  const shape = shapeOfFields(fields)
  return planOf(shape, startMs, endMs, shape.stepMs)
}

/** Ascending is how rows come anyway; it counts when LIMIT decides which of them come. */
function orderOf(query: SqlQuery | null): ReadShape['order'] {
  const first = query?.orderBy[0]
  if (first?.name !== 'time' || (!first.descending && query!.limit === null)) return null
  return { descending: first.descending }
}

/** How long before its start a read looks at samples. */
export function lookbackMs({ mode, windowMs, items, interpolation, interpolations }: ReadPlan): number {
  if (mode === 'raw') return 0
  let longestMs = mode === 'over-time' ? windowMs : 0
  if (mode === 'over-time' && !items.some(({ fn }) => fn === null)) return longestMs
  for (const { interpolator, toleranceMs } of [interpolation, ...interpolations.map(([, own]) => own)])
    if (looksBack(interpolator)) longestMs = Math.max(longestMs, toleranceMs)
  return longestMs
}

/** Whether an interpolator looks at the sample before a step. */
export function looksBack(interpolator: Interpolator): boolean {
  return interpolator === 'prev_val' || interpolator === 'linear'
}

/**
 * Moves the bounds to the partitions that exist: the start to that of the first one in range, the end to the last ms of
 * the last; partitions that only a look-back reaches count. Null when there is none. `extents` null: a block whose contents are not known.
 */
export function clampRange(
  plan: ReadPlan,
  partitionIntervalMs: number,
  extents: readonly (TsdbExtent | null)[],
): ReadPlan | null {
  const firstWanted = Math.floor((plan.startMs - plan.windowMs) / partitionIntervalMs)
  const lastWanted = Math.floor(plan.endMs / partitionIntervalMs)
  const anywhere = [[firstWanted, lastWanted]] as const
  let first = Infinity
  let last = -Infinity
  for (const extent of extents) {
    for (const partition of extent?.partitions ?? anywhere) {
      const from = partition[0]
      const to = partition[1]
      if (to < firstWanted || from > lastWanted) continue
      first = Math.min(first, Math.max(from, firstWanted))
      last = Math.max(last, Math.min(to, lastWanted))
    }
  }
  if (first === Infinity) return null
  const startMs = Math.max(plan.startMs, first * partitionIntervalMs)
  const endMs = Math.min(plan.endMs, (last + 1) * partitionIntervalMs - 1)
  // All that there is stands before the start, where only windows reach: there is no bucket.
  if (endMs < startMs) return null
  // Functions without a step: one bucket over the whole range; at least a millisecond long.
  const stepMs = plan.mode === 'raw' ? 0 : plan.stepMs > 0 ? plan.stepMs : Math.max(1, endMs - startMs)
  const isInterpolated = plan.mode === 'downsample' || plan.mode === 'across'
  if (isInterpolated && (endMs - startMs) / stepMs > stepPointCountMax) {
    const what = `a step of ${stepMs / 1000} s from ${startMs} to ${endMs} makes more than ${stepPointCountMax} points`
    throw new FramesError('INVALID_ARGUMENT', `Failed on TSDB Select: ${what}; use a longer step or a shorter range`)
  }
  return planOf(plan.shape, startMs, endMs, stepMs)
}
