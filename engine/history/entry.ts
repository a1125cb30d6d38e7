// What the history says of one request.
import type { Value } from '../frame/dtype.js'
import type { RecordedRequest } from '../requests.js'
import { type Mask, masked, textLengthMax } from './mask.js'

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

const numberOf = Object.fromEntries(dataFields.map((name, number) => [name, number])) as Readonly<
  Record<DataField, number>
>

/** Takes what was set of a request, field by field. */
export interface DataSink {
  /** number: index in dataFields. */
  field(number: number, text: string): void
  /** An argument of a command; isString: the text is that of a string, and not yet as argumentText has it. */
  argument(name: string, text: string, isString: boolean): void
}

/** Names that were asked about: nearly always the same few. */
const knownNames = new Map<string, boolean>()
const knownNameCountMax = 256

function isSecretName(name: string): boolean {
  const known = knownNames.get(name)
  if (known !== undefined) return known
  const isSecret = secretName.test(name)
  if (knownNames.size < knownNameCountMax && name.length <= textLengthMax) knownNames.set(name, isSecret)
  return isSecret
}

/** Tells what was set of a request, masked. */
export function tellData(recorded: RecordedRequest, mask: Mask, sink: DataSink): void {
  const put = (name: DataField, value: string | number | bigint | undefined): void => {
    if (value === undefined || value === '' || value === 0n) return
    sink.field(numberOf[name], mask.text(typeof value === 'string' ? value : String(value)))
  }
  const putAll = (name: DataField, values: readonly (string | bigint)[] | undefined): void => {
    if (values !== undefined && values.length > 0) put(name, values.join(','))
  }
  switch (recorded.action) {
    case 'read': {
      const { request } = recorded
      put('query', request.query)
      putAll('columns', request.columns)
      put('filter', request.filter)
      put('groupBy', request.groupBy)
      put('limit', request.limit)
      put('messageLimit', request.messageLimit)
      putAll('shardingkeys', request.shardingKeys)
      put('sortKeyRangeStart', request.sortKeyRangeStart)
      put('sortKeyRangeEnd', request.sortKeyRangeEnd)
      put('start', request.start)
      put('end', request.end)
      put('step', request.step)
      put('aggregators', request.aggregators)
      put('aggregationWindow', request.aggregationWindow)
      put('seek', request.seek)
      put('shardID', request.shardId)
      put('sequence', request.sequence)
      break
    }
    case 'write': {
      const { request } = recorded
      put('expression', request.expression)
      put('condition', request.condition)
      putAll('partitionKeys', request.partitionKeys)
      const { saveMode = '' } = request
      put('saveMode', saveMode === '' ? 'errorIfTableExists' : saveMode)
      break
    }
    case 'create': {
      const { request } = recorded
      put('rate', request.rate)
      put('aggregates', request.aggregates)
      put('aggregationGranularity', request.aggregationGranularity)
      put('shards', request.shards)
      put('retentionHours', request.retentionHours)
      break
    }
    case 'delete': {
      const { request } = recorded
      put('filter', request.filter)
      put('start', request.start)
      put('end', request.end)
      putAll('metrics', request.metrics)
      break
    }
    case 'execute': {
      const { request } = recorded
      put('command', request.command)
      put('expression', request.expression)
      const { args } = request
      for (const name in args) {
        if (!Object.hasOwn(args, name)) continue
        const value = args[name]!
        if (isSecretName(name)) sink.argument(mask.text(name), masked, false)
        else if (typeof value === 'string') sink.argument(mask.text(name), mask.text(value), true)
        else sink.argument(mask.text(name), mask.text(argumentText(value)), false)
      }
      break
    }
  }
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
