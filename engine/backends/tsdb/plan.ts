// What a read asks for, resolved to numbers: pure, made on the main thread, and small enough to travel with every job.
import { FramesError } from '../../errors.js'
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

export interface ReadPlan {
  readonly mode: 'raw' | 'over-time'
  readonly startMs: number
  readonly endMs: number
  /** over-time only, at least 1. */
  readonly stepMs: number
  readonly functions: readonly OverTimeFunction[]
  /** Requested metrics in order, each once; null: all of each label set, by name. */
  readonly metrics: readonly string[] | null
  readonly multiIndex: boolean
  /** Rows of one frame at most; 0: cut by bytes. */
  readonly messageLimit: number
}

const defaultRangeMs = 3_600_000

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

function parseFunctions(aggregators: string): OverTimeFunction[] {
  const functions: OverTimeFunction[] = []
  for (const entry of aggregators.split(',')) {
    const name = entry.trim()
    if (name === '')
      throw new FramesError(
        'NOT_IN_THIS_VERSION',
        'a raw column beside aggregated ones (an empty entry in aggregators) is not available in this version',
      )
    if (name.endsWith('_all') && name.slice(0, -4) in functionNumbers) {
      throw new FramesError(
        'NOT_IN_THIS_VERSION',
        `the cross-series function '${name}' is not available in this version`,
      )
    }
    if (name === '*') throw new FramesError('INVALID_ARGUMENT', 'cannot aggregate *')
    if (!Object.hasOwn(functionNumbers, name))
      throw new FramesError('INVALID_ARGUMENT', `invalid aggragate type: ${name.slice(0, 100)}`)
    if (functions.includes(name as OverTimeFunction))
      throw new FramesError('INVALID_ARGUMENT', `function '${name}' was requested multiple time`)
    functions.push(name as OverTimeFunction)
  }
  return functions
}

/** Errors of the query engine carry upstream's prefix. */
function asSelect<T>(work: () => T): T {
  try {
    return work()
  } catch (error) {
    throw error instanceof FramesError ? error.prefixed('Failed on TSDB Select') : error
  }
}

/**
 * The plan of a read, before its bounds are clamped to the partitions that exist.
 * Throws INVALID_ARGUMENT, NOT_IN_THIS_VERSION.
 */
export function planRead(request: ReadRequest, nowMs: number): ReadPlan {
  const notYet = (what: string): FramesError =>
    new FramesError('NOT_IN_THIS_VERSION', `${what} is not available in this version`)
  if (request.query !== undefined && request.query !== '') throw notYet('reading by SQL query')
  const { startMs, endMs } = parseRange(request, nowMs)
  const stepMs = parseDurationMs(request.step ?? '')
  const windowMs = parseDurationMs(request.aggregationWindow ?? '')
  const aggregators = request.aggregators ?? ''
  const functions = aggregators.trim() === '' ? [] : asSelect(() => parseFunctions(aggregators))
  if (request.groupBy !== undefined && request.groupBy.trim() !== '') {
    if (functions.length === 0) throw new FramesError('INVALID_ARGUMENT', 'group_by requires an aggregation function')
    throw notYet('group_by')
  }
  if (windowMs > 0 && functions.length > 0) throw notYet('aggregation_window')
  if (functions.length === 0 && stepMs > 0) throw notYet('a step without aggregators (downsampling)')
  const metrics = [...new Set((request.columns ?? []).map((name) => name.trim()).filter((name) => name !== ''))]
  return {
    mode: functions.length === 0 ? 'raw' : 'over-time',
    startMs,
    endMs,
    stepMs,
    functions,
    metrics: metrics.length === 0 ? null : metrics,
    multiIndex: request.multiIndex ?? false,
    messageLimit: Math.min(Number(request.messageLimit ?? 0n), 2 ** 31),
  }
}

/**
 * Moves the bounds to the partitions that exist: the start to that of the first one in range, the end to the last ms of
 * the last. Null when there is none. `extents` null: a block whose contents are not known.
 */
export function clampRange(
  plan: ReadPlan,
  partitionIntervalMs: number,
  extents: Iterable<TsdbExtent | null>,
): ReadPlan | null {
  const firstWanted = Math.floor(plan.startMs / partitionIntervalMs)
  const lastWanted = Math.floor(plan.endMs / partitionIntervalMs)
  let first = Infinity
  let last = -Infinity
  for (const extent of extents) {
    for (const [from, to] of extent?.partitions ?? [[firstWanted, lastWanted]]) {
      if (to! < firstWanted || from! > lastWanted) continue
      first = Math.min(first, Math.max(from!, firstWanted))
      last = Math.max(last, Math.min(to!, lastWanted))
    }
  }
  if (first === Infinity) return null
  const startMs = Math.max(plan.startMs, first * partitionIntervalMs)
  const endMs = Math.min(plan.endMs, (last + 1) * partitionIntervalMs - 1)
  // Functions without a step: one bucket over the whole range; at least a millisecond long.
  const stepMs = plan.mode === 'raw' ? 0 : plan.stepMs > 0 ? plan.stepMs : Math.max(1, endMs - startMs)
  return { ...plan, startMs, endMs, stepMs }
}
