// What the history says of one request.
import type { Value } from '../frame/dtype.js'
import type { RecordedRequest } from '../requests.js'
import type { Mask } from './mask.js'

export type Action = RecordedRequest['action']

/** What an entry says, beside what was set of its request. */
export interface Entry {
  readonly action: Action
  readonly userName: string
  /** The name a backend is configured under. */
  readonly backendName: string
  readonly tableName: string
  readonly container: string
  /** ms since 1970. */
  readonly startMs: number
  readonly durationNs: number
  readonly error: string | null
  readonly rowCount: number | null
  readonly byteLength: number | null
  readonly protocol: string | null
  readonly clientAddress: string | null
  readonly requestId: string | null
}

/** Arguments of commands that are secrets by their names. */
const secretName = /passw|passphrase|secret|token|credential|(api|access|private|session)_?key/i

/** What may be set of a request, by the names that the history has for it. */
export const dataFields = [
  'query',
  'columns',
  'filter',
  'groupBy',
  'limit',
  'messageLimit',
  'shardingkeys',
  'sortKeyRangeStart',
  'sortKeyRangeEnd',
  'start',
  'end',
  'step',
  'aggregators',
  'aggregationWindow',
  'seek',
  'shardID',
  'sequence',
  'expression',
  'condition',
  'partitionKeys',
  'saveMode',
  'rate',
  'aggregates',
  'aggregationGranularity',
  'shards',
  'retentionHours',
  'metrics',
  'command',
] as const

type DataField = (typeof dataFields)[number]

const fields = Object.fromEntries(dataFields.map((name, number) => [name, number])) as Readonly<
  Record<DataField, number>
>

/** Takes what was set of a request, field by field. */
export interface DataSink {
  /** number: index in dataFields; the text is masked. */
  field(number: number, text: string): void
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
      put(sink, mask, fields.query, request.query)
      putAll(sink, mask, fields.columns, request.columns)
      put(sink, mask, fields.filter, request.filter)
      put(sink, mask, fields.groupBy, request.groupBy)
      put(sink, mask, fields.limit, request.limit)
      put(sink, mask, fields.messageLimit, request.messageLimit)
      putAll(sink, mask, fields.shardingkeys, request.shardingKeys)
      put(sink, mask, fields.sortKeyRangeStart, request.sortKeyRangeStart)
      put(sink, mask, fields.sortKeyRangeEnd, request.sortKeyRangeEnd)
      put(sink, mask, fields.start, request.start)
      put(sink, mask, fields.end, request.end)
      put(sink, mask, fields.step, request.step)
      put(sink, mask, fields.aggregators, request.aggregators)
      put(sink, mask, fields.aggregationWindow, request.aggregationWindow)
      put(sink, mask, fields.seek, request.seek)
      put(sink, mask, fields.shardID, request.shardId)
      put(sink, mask, fields.sequence, request.sequence)
      break
    }
    case 'write': {
      const { request } = recorded
      put(sink, mask, fields.expression, request.expression)
      put(sink, mask, fields.condition, request.condition)
      putAll(sink, mask, fields.partitionKeys, request.partitionKeys)
      const { saveMode = '' } = request
      put(sink, mask, fields.saveMode, saveMode === '' ? 'errorIfTableExists' : saveMode)
      break
    }
    case 'create': {
      const { request } = recorded
      put(sink, mask, fields.rate, request.rate)
      put(sink, mask, fields.aggregates, request.aggregates)
      put(sink, mask, fields.aggregationGranularity, request.aggregationGranularity)
      put(sink, mask, fields.shards, request.shards)
      put(sink, mask, fields.retentionHours, request.retentionHours)
      break
    }
    case 'delete': {
      const { request } = recorded
      put(sink, mask, fields.filter, request.filter)
      put(sink, mask, fields.start, request.start)
      put(sink, mask, fields.end, request.end)
      putAll(sink, mask, fields.metrics, request.metrics)
      break
    }
    case 'execute': {
      const { request } = recorded
      put(sink, mask, fields.command, request.command)
      put(sink, mask, fields.expression, request.expression)
      const { args } = request
      if (args === undefined) break
      for (const name of Object.keys(args)) sink.argument(name, args[name]!, mask)
      break
    }
  }
}

function put(sink: DataSink, mask: Mask, number: number, value: string | number | bigint | undefined): void {
  if (value === undefined || value === '' || value === 0n) return
  sink.field(number, mask.text(typeof value === 'string' ? value : String(value)))
}

function putAll(sink: DataSink, mask: Mask, number: number, values: readonly (string | bigint)[] | undefined): void {
  if (values !== undefined && values.length > 0) put(sink, mask, number, values.join(','))
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
