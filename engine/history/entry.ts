// What the history says of one request.
import type { Value } from '../frame/dtype.js'
import type { Caller, RecordedRequest, Session } from '../requests.js'

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

/** Texts as the history keeps them: a long one is cut, so that nobody fills it with one request. */
const textLengthMax = 4096

const masked = '*****'
/** Arguments of commands that are secrets by their names. */
const secretName = /passw|passphrase|secret|token|credential|(api|access|private|session)_?key/i
/** Shorter secrets are masked where they are the whole text: parts of any text may look like them. */
const partialSecretLengthMin = 4
/** A name that has so much of a secret in it is one. */
const nameSecretLengthMin = 8

/** Masks secrets in texts. */
export class Mask {
  readonly #secrets: readonly string[]

  constructor(secrets: readonly (string | undefined)[]) {
    const given = secrets.filter((secret): secret is string => secret !== undefined && secret !== '')
    // A password mostly stands in the session and among what came with the call.
    this.#secrets = given.length < 2 ? given : [...new Set(given)]
  }

  static of(session: Session | undefined, caller: Caller | undefined): Mask {
    const hasOwn = session?.password !== undefined || session?.token !== undefined
    if (!hasOwn && (caller === undefined || caller.secrets.length === 0)) return nothingToMask
    return new Mask([session?.password, session?.token, ...(caller?.secrets ?? [])])
  }

  text(text: string): string {
    return this.#masked(text, partialSecretLengthMin)
  }

  /** A name that tables and users are found by: only what can be nothing but a secret is masked. */
  name(text: string): string {
    return this.#masked(text, nameSecretLengthMin)
  }

  #masked(text: string, partialLengthMin: number): string {
    if (this.#secrets.length === 0 && text.length <= textLengthMax) return text
    let result = text
    // Before a long text is cut, or a part of a secret would stay.
    for (const secret of this.#secrets) {
      if (secret.length >= partialLengthMin) {
        if (result.includes(secret)) result = result.replaceAll(secret, masked)
      } else if (result === secret && partialLengthMin === partialSecretLengthMin) result = masked
    }
    if (result.length <= textLengthMax) return result
    // A slice would keep the whole text in memory for as long as it is kept itself.
    return `${Buffer.from(result.slice(0, textLengthMax)).toString()}…`
  }
}

const nothingToMask = new Mask([])

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
