// What the history says of one request.
import type { Value } from '../frame/dtype.js'
import type { Caller, RecordedRequest } from '../requests.js'
import type { Mask } from './mask.js'

/** A request that has ended. */
export interface EndedRequest {
  readonly recorded: RecordedRequest
  /** The name a backend is configured under. */
  readonly backendName: string
  readonly caller: Caller | undefined
  /** ms since 1970. */
  readonly startMs: number
  readonly durationMs: number
  /** undefined: it ended well. */
  readonly error: unknown
  readonly rowCount: number | null
  readonly byteLength: number | null
}

/** A request as it is now: a program that made it may change its objects and use them again. */
export function copyOf<Request>(request: Request): Request {
  if (typeof request !== 'object' || request === null) return request
  if (Array.isArray(request)) return request.map(copyOf) as Request
  const copy = { ...request }
  // V8 finds the values of such a loop without looking their names up.
  for (const name in copy) if (typeof copy[name] === 'object') copy[name] = copyOf(copy[name])
  return copy
}

/** Arguments of commands that are secrets by their names. */
const secretName = /passw|passphrase|secret|token|credential|(api|access|private|session)_?key/i

/** What may be set of a request, by the names that the history has for it. */
export type DataField =
  | 'query'
  | 'columns'
  | 'filter'
  | 'groupBy'
  | 'limit'
  | 'messageLimit'
  | 'shardingkeys'
  | 'sortKeyRangeStart'
  | 'sortKeyRangeEnd'
  | 'start'
  | 'end'
  | 'step'
  | 'aggregators'
  | 'aggregationWindow'
  | 'seek'
  | 'shardID'
  | 'sequence'
  | 'expression'
  | 'condition'
  | 'partitionKeys'
  | 'saveMode'
  | 'rate'
  | 'aggregates'
  | 'aggregationGranularity'
  | 'shards'
  | 'retentionHours'
  | 'metrics'
  | 'command'

/** Takes what was set of a request, field by field. */
export interface DataSink {
  /** The text is masked. */
  field(name: DataField, text: string): void
  /** An argument of a command, to be masked. */
  argument(name: string, value: Value | readonly Value[], mask: Mask): void
}

export function isSecretName(name: string): boolean {
  return secretName.test(name)
}

/** Tells what was set of a request. */
export function tellData(recorded: RecordedRequest, mask: Mask, sink: DataSink): void {
  switch (recorded.action) {
    case 'read': {
      const { request } = recorded
      put(sink, mask, 'query', request.query)
      putAll(sink, mask, 'columns', request.columns)
      put(sink, mask, 'filter', request.filter)
      put(sink, mask, 'groupBy', request.groupBy)
      put(sink, mask, 'limit', request.limit)
      put(sink, mask, 'messageLimit', request.messageLimit)
      putAll(sink, mask, 'shardingkeys', request.shardingKeys)
      put(sink, mask, 'sortKeyRangeStart', request.sortKeyRangeStart)
      put(sink, mask, 'sortKeyRangeEnd', request.sortKeyRangeEnd)
      put(sink, mask, 'start', request.start)
      put(sink, mask, 'end', request.end)
      put(sink, mask, 'step', request.step)
      put(sink, mask, 'aggregators', request.aggregators)
      put(sink, mask, 'aggregationWindow', request.aggregationWindow)
      put(sink, mask, 'seek', request.seek)
      put(sink, mask, 'shardID', request.shardId)
      put(sink, mask, 'sequence', request.sequence)
      break
    }
    case 'write': {
      const { request } = recorded
      put(sink, mask, 'expression', request.expression)
      put(sink, mask, 'condition', request.condition)
      putAll(sink, mask, 'partitionKeys', request.partitionKeys)
      const { saveMode = '' } = request
      put(sink, mask, 'saveMode', saveMode === '' ? 'errorIfTableExists' : saveMode)
      break
    }
    case 'create': {
      const { request } = recorded
      put(sink, mask, 'rate', request.rate)
      put(sink, mask, 'aggregates', request.aggregates)
      put(sink, mask, 'aggregationGranularity', request.aggregationGranularity)
      put(sink, mask, 'shards', request.shards)
      put(sink, mask, 'retentionHours', request.retentionHours)
      break
    }
    case 'delete': {
      const { request } = recorded
      put(sink, mask, 'filter', request.filter)
      put(sink, mask, 'start', request.start)
      put(sink, mask, 'end', request.end)
      putAll(sink, mask, 'metrics', request.metrics)
      break
    }
    case 'execute': {
      const { request } = recorded
      put(sink, mask, 'command', request.command)
      put(sink, mask, 'expression', request.expression)
      const { args } = request
      if (args === undefined) break
      // V8 finds the values of such a loop without looking their names up.
      for (const name in args) if (Object.hasOwn(args, name)) sink.argument(name, args[name]!, mask)
      break
    }
  }
}

function put(sink: DataSink, mask: Mask, name: DataField, value: string | number | bigint | undefined): void {
  if (value === undefined || value === '' || value === 0n) return
  sink.field(name, mask.text(typeof value === 'string' ? value : String(value)))
}

function putAll(sink: DataSink, mask: Mask, name: DataField, values: readonly (string | bigint)[] | undefined): void {
  if (values !== undefined && values.length > 0) put(sink, mask, name, values.join(','))
}

/** The text form of a protobuf Value: `sval:"x"`, `ival:5`. */
export function argumentText(value: Value | readonly Value[]): string {
  if (Array.isArray(value)) return value.map(argumentText).join(' ')
  switch (typeof value) {
    case 'string':
      return `sval:${JSON.stringify(value)}`
    case 'bigint':
      return `ival:${value}`
    case 'number':
      return `fval:${value}`
    case 'boolean':
      return `bval:${value}`
    default:
      return `tval:${'timeNs' in value ? value.timeNs : ''}`
  }
}
