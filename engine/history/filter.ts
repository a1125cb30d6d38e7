// Which entries a history request asks for.
import { FramesError } from '../errors.js'
import type { HistoryRequest } from '../requests.js'
import { parseTimeMs } from '../time.js'

/** Texts are compared whole; '' matches all. Bounds are inclusive. */
export interface HistoryFilter {
  readonly backendName: string
  readonly tableName: string
  readonly userName: string
  readonly action: string
  readonly container: string
  readonly startMsMin: number
  readonly startMsMax: number
  /** Whole milliseconds; durationMsMax 0: none. */
  readonly durationMsMin: number
  readonly durationMsMax: number
}

/** What the client's documentation calls two of the actions. */
const actionAliases: Readonly<Record<string, string>> = { query: 'read', ingest: 'write' }

/** backendName: of the configuration, for the name in the request. Throws INVALID_ARGUMENT. */
export function historyFilter(request: HistoryRequest, backendName: string, nowMs: number): HistoryFilter {
  const action = request.action ?? ''
  return {
    backendName,
    tableName: request.table ?? '',
    userName: request.user ?? '',
    action: Object.hasOwn(actionAliases, action) ? actionAliases[action]! : action,
    container: request.container ?? '',
    startMsMin: timeOf(request.minStartTime, '0', 'start_time', nowMs),
    startMsMax: timeOf(request.maxStartTime, 'now', 'end_time', nowMs),
    durationMsMin: Number(request.minDuration ?? 0n),
    durationMsMax: Number(request.maxDuration ?? 0n),
  }
}

function timeOf(text: string | undefined, byDefault: string, name: string, nowMs: number): number {
  try {
    return parseTimeMs(text === undefined || text === '' ? byDefault : text, nowMs)
  } catch (error) {
    throw error instanceof FramesError ? error.prefixed(`failed to parse '${name}' filter`) : error
  }
}
