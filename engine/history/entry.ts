// What the history says of one request.
import type { Value } from '../frame/dtype.js'
import type { Caller, RecordedRequest, Session } from '../requests.js'

export type Action = RecordedRequest['action']

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
  /** JSON of an object of texts: what of the request was set; null for nothing. */
  readonly data: string | null
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
    this.#secrets = secrets.filter((secret): secret is string => secret !== undefined && secret !== '')
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
    let result = text
    // Before a long text is cut, or a part of a secret would stay.
    for (const secret of this.#secrets) {
      if (secret.length >= partialLengthMin) result = result.replaceAll(secret, masked)
      else if (result === secret && partialLengthMin === partialSecretLengthMin) result = masked
    }
    return result.length <= textLengthMax ? result : `${result.slice(0, textLengthMax)}…`
  }
}

const nothingToMask = new Mask([])

/** What was set of a request, by the names that the history has for it; null for nothing. */
export function additionalData(recorded: RecordedRequest, mask: Mask): string | null {
  let members = ''
  const putText = (name: string, text: string): void => {
    members += `${members === '' ? '' : ','}${quoted(name)}:${quoted(text)}`
  }
  const put = (name: string, value: string | number | bigint | readonly (string | bigint)[] | undefined): void => {
    if (value === undefined || value === '' || value === 0n) return
    const text = Array.isArray(value) ? value.join(',') : String(value)
    if (text !== '') putText(name, mask.text(text))
  }
  switch (recorded.action) {
    case 'read': {
      const { request } = recorded
      put('query', request.query)
      put('columns', request.columns)
      put('filter', request.filter)
      put('groupBy', request.groupBy)
      put('limit', request.limit)
      put('messageLimit', request.messageLimit)
      put('shardingkeys', request.shardingKeys)
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
      put('partitionKeys', request.partitionKeys)
      put(
        'saveMode',
        request.saveMode === undefined || request.saveMode === '' ? 'errorIfTableExists' : request.saveMode,
      )
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
      put('metrics', request.metrics)
      break
    }
    case 'execute': {
      const { request } = recorded
      put('command', request.command)
      put('expression', request.expression)
      const args = request.args ?? {}
      for (const name of Object.keys(args)) {
        // Names that are cut or masked may become the same one; the last one counts.
        const text = secretName.test(name) ? masked : mask.text(argumentText(args[name]!))
        putText(`args_${mask.text(name)}`, text)
      }
      break
    }
  }
  return members === '' ? null : `{${members}}`
}

const plain = /^[\w .,:;=+*/<>()'{}-]*$/

/** A text as JSON has it. */
function quoted(text: string): string {
  return plain.test(text) ? `"${text}"` : JSON.stringify(text)
}

/** The text form of a protobuf Value: `sval:"x"`, `ival:5`. */
function argumentText(value: Value | readonly Value[]): string {
  if (Array.isArray(value)) return value.map(argumentText).join(' ')
  switch (typeof value) {
    case 'string':
      return `sval:${quoted(value)}`
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
