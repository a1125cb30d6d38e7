// Whether a request has the types that it should: a program in plain JavaScript may give anything, and what is no request is
// refused by name before any part of the engine, or the wire, trips over it.
import { FramesError, shortened } from './errors.js'
import { hasHalfPair } from './frame/dtype.js'
import type {
  CreateRequest,
  DeleteRequest,
  ExecuteRequest,
  HistoryRequest,
  ReadRequest,
  WriteRequest,
} from './requests.js'

type Shape = 'text' | 'texts' | 'flag' | 'int64' | 'int64s' | 'number' | 'option' | 'session' | 'schema' | 'args'

type AnyRequest = CreateRequest & WriteRequest & ReadRequest & DeleteRequest & ExecuteRequest & HistoryRequest

/** A field has the same type in all requests that have it. */
const shapes: Readonly<Record<keyof AnyRequest, Shape>> = {
  action: 'text',
  aggregates: 'text',
  aggregationGranularity: 'text',
  aggregationWindow: 'text',
  aggregators: 'text',
  args: 'args',
  backend: 'text',
  columns: 'texts',
  command: 'text',
  condition: 'text',
  container: 'text',
  dataFormat: 'text',
  end: 'text',
  expression: 'text',
  filter: 'text',
  followMs: 'number',
  groupBy: 'text',
  ifExists: 'option',
  ifMissing: 'option',
  limit: 'int64',
  marker: 'text',
  maxDuration: 'int64',
  maxStartTime: 'text',
  messageLimit: 'int64',
  metrics: 'texts',
  minDuration: 'int64',
  minStartTime: 'text',
  more: 'flag',
  multiIndex: 'flag',
  partitionKeys: 'texts',
  query: 'text',
  rate: 'text',
  resetIndex: 'flag',
  retentionHours: 'int64',
  rowLayout: 'flag',
  saveMode: 'text',
  schema: 'schema',
  seek: 'text',
  segments: 'int64s',
  sequence: 'int64',
  session: 'session',
  shardId: 'text',
  shardingKeys: 'texts',
  shards: 'int64',
  sortKeyRangeEnd: 'text',
  sortKeyRangeStart: 'text',
  start: 'text',
  step: 'text',
  table: 'text',
  totalSegments: 'int64',
  user: 'text',
}
const shapeOf = new Map<string, Shape>(Object.entries(shapes))

/**
 * The request itself, or one like it that has its types: a field that is null is left out, a whole `number` where a bigint
 * should be becomes one, and `always` names the texts that are empty where they are absent. Fields that no request has are left
 * alone, unless they are nearly the name of one: what is misspelt would be left out in silence. Throws INVALID_ARGUMENT, which
 * names the field.
 */
export function shapedRequest<Request extends object>(
  request: Request,
  always: readonly (keyof Request & string)[] = [],
): Request {
  if (!isRecord(request))
    throw new FramesError('INVALID_ARGUMENT', `the request must be an object, not ${told(request)}`)
  let shaped: Record<string, unknown> | null = null
  for (const name in request) {
    const shape = shapeOf.get(name)
    const given: unknown = request[name]
    // Most fields are texts.
    if (shape === undefined) refuseMisspelt(name)
    if (
      shape === undefined ||
      given === undefined ||
      (shape === 'text' && typeof given === 'string' && !hasHalfPair(given))
    )
      continue
    const value = given === null ? undefined : shapedValue(name, shape, given)
    if (value === given) continue
    shaped ??= { ...request }
    if (value === undefined) delete shaped[name]
    else shaped[name] = value
  }
  for (const name of always) {
    if ((shaped ?? request)[name] !== undefined) continue
    shaped ??= { ...request }
    shaped[name] = ''
  }
  return shaped === null ? request : (shaped as Request)
}

function shapedValue(name: string, shape: Shape, value: unknown): unknown {
  switch (shape) {
    case 'text':
      return typeof value === 'string' ? whole(name, value) : refuse(name, 'a string', value)
    case 'flag':
      return typeof value === 'boolean' ? value : refuse(name, 'true or false', value)
    case 'number':
      return typeof value === 'number' ? value : refuse(name, 'a number', value)
    case 'option':
      if (value === 'fail' || value === 'ignore') return value
      if (value === 'FAIL' || value === 'IGNORE') return refuse(name, `'fail' or 'ignore' in small letters`, value)
      return refuse(name, `'fail' or 'ignore'`, value)
    case 'int64':
      return int64(name, value)
    case 'texts':
      if (!Array.isArray(value)) return refuse(name, 'a list of strings', value)
      for (const text of value) typeof text === 'string' ? whole(name, text) : refuse(name, 'a list of strings', text)
      return value
    case 'int64s':
      if (!Array.isArray(value)) return refuse(name, 'a list of whole numbers', value)
      return value.every((number) => typeof number === 'bigint') ? value : value.map((number) => int64(name, number))
    case 'session':
      if (!isRecord(value)) return refuse(name, 'an object', value)
      for (const key in value)
        if (typeof (value[key] ?? '') !== 'string') refuse(`${name}.${key}`, 'a string', value[key])
      return value
    case 'schema':
      checkSchema(value)
      return value
    case 'args':
      return isRecord(value) ? shapedArgs(value) : refuse(name, 'an object', value)
  }
}

/** Throws INVALID_ARGUMENT for a text that UTF-8 cannot say: two such names would be one. */
function whole(name: string, text: string): string {
  if (hasHalfPair(text))
    throw new FramesError('INVALID_ARGUMENT', `${name} has half a surrogate pair, which is no text`)
  return text
}

const int64Max = 2n ** 63n - 1n

function int64(name: string, value: unknown): bigint {
  if (typeof value === 'number' && Number.isSafeInteger(value)) return BigInt(value)
  if (typeof value === 'bigint' && value <= int64Max && value >= -int64Max - 1n) return value
  return refuse(name, 'a whole number of 64 bits', value)
}

/** Each is a value or a list of them; on the wire, one may be without a value. */
function shapedArgs(args: Record<string, unknown>): Record<string, unknown> {
  let hasNull = false
  for (const name in args) {
    const value = args[name]
    hasNull ||= value === null
    if (value === null || value === undefined) continue
    for (const one of Array.isArray(value) ? (value as readonly unknown[]) : [value])
      checkValue('args', name, typeof one === 'string' ? whole(`args.${name}`, one) : one)
  }
  return hasNull ? Object.fromEntries(Object.entries(args).filter(([, value]) => value !== null)) : args
}

function checkValue(group: string, name: string, value: unknown): void {
  const type = typeof value
  if (type === 'string' || type === 'bigint' || type === 'number' || type === 'boolean') return
  if (isRecord(value) && typeof value['timeNs'] === 'bigint') return
  refuse(`${group}.${name}`, 'a string, number, bigint, boolean or time', value)
}

function checkSchema(schema: unknown): void {
  if (!isRecord(schema)) refuse('schema', 'an object', schema)
  const fields: unknown = schema['fields'] ?? []
  if (!Array.isArray(fields)) refuse('schema.fields', 'a list', fields)
  for (const field of fields as readonly unknown[]) {
    if (!isRecord(field)) refuse('schema.fields', 'a list of objects', field)
    for (const part of ['name', 'doc', 'type'])
      if (field[part] !== undefined) shapedValue(`schema.fields.${part}`, 'text', field[part])
    const properties: unknown = field['properties'] ?? {}
    if (!isRecord(properties)) refuse('schema.fields.properties', 'an object', properties)
    for (const key in properties) checkValue('schema.fields.properties', key, properties[key])
  }
  const key: unknown = schema['key'] ?? {}
  if (!isRecord(key)) refuse('schema.key', 'an object', key)
  for (const part of ['shardingKey', 'sortingKey'])
    if (key[part] !== undefined) shapedValue(`schema.key.${part}`, 'texts', key[part])
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Throws INVALID_ARGUMENT for the name of a field in another spelling (`group_by`, `TABLE`) or with a letter wrong (`tabel`). */
function refuseMisspelt(name: string): void {
  const plain = name.replaceAll('_', '').toLowerCase()
  for (const known of shapeOf.keys()) {
    if (!isNearly(plain, known.toLowerCase())) continue
    throw new FramesError('INVALID_ARGUMENT', `a request has no field '${shortened(name)}'; did you mean ${known}?`)
  }
}

/** Whether one letter more, less or other, or two neighbours exchanged, make one text the other; short ones must be equal. */
function isNearly(a: string, b: string): boolean {
  if (a === b) return true
  if (Math.min(a.length, b.length) < 4 || Math.abs(a.length - b.length) > 1) return false
  let start = 0
  while (start < a.length && a[start] === b[start]) start++
  let end = 0
  while (end < Math.min(a.length, b.length) - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end++
  const [left, right] = [a.slice(start, a.length - end), b.slice(start, b.length - end)]
  return (left.length <= 1 && right.length <= 1) || (left.length === 2 && left === `${right[1]}${right[0]}`)
}

function refuse(name: string, wanted: string, value: unknown): never {
  throw new FramesError('INVALID_ARGUMENT', `${name} must be ${wanted}, not ${told(value)}`)
}

/** What was given instead, without showing what may be a secret. */
function told(value: unknown): string {
  if (value === null || value === undefined) return String(value)
  if (typeof value === 'number' || typeof value === 'bigint') return String(value)
  if (Array.isArray(value)) return 'a list'
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`
}
