// The schema of a key-value table: its fields, its key, and how a frame's columns are merged into it.
import { FramesError, shortened } from '../../errors.js'
import type { DType, Value } from '../../frame/dtype.js'
import { tableColumnCountMax } from '../../limits.js'
import type { CreateRequest } from '../../requests.js'
import { parseDurationMs, secondMs } from '../../time.js'
import { attributeNameProblem } from './names.js'

export type FieldType = 'long' | 'double' | 'string' | 'timestamp' | 'boolean'

export interface KvField {
  readonly name: string
  readonly type: FieldType
  readonly nullable: boolean
}

/**
 * key              '' while the table has items and no schema (they came from `execute update`): then it does not "exist"
 * sortingKey       '' without one
 * ttlMs            items are gone this long after their last change; null: never
 * foldersDrifted   an item's attributes may differ from the partition folder it stands in
 */
export interface KvSchema {
  readonly fields: readonly KvField[]
  readonly key: string
  readonly sortingKey: string
  readonly hashingBucketNum: number
  readonly ttlMs: number | null
  readonly foldersDrifted: boolean
}

export const emptySchema: KvSchema = {
  fields: [],
  key: '',
  sortingKey: '',
  hashingBucketNum: 0,
  ttlMs: null,
  foldersDrifted: false,
}

/** The attribute that has the row number where a frame has no index, and an index that has no name. */
export const defaultKeyName = 'idx'
/** The same for an unnamed second index. */
export const defaultSortingKeyName = 'sorting_idx'

const fieldTypes: Readonly<Record<DType, FieldType | null>> = {
  int64: 'long',
  float64: 'double',
  string: 'string',
  time: 'timestamp',
  bool: 'boolean',
  null: null,
}

const fieldTypeNames: ReadonlySet<unknown> = new Set<FieldType>(['long', 'double', 'string', 'timestamp', 'boolean'])

/** Null for a column of nulls: it is in no schema. */
export function typeOfDType(dtype: DType): FieldType | null {
  return fieldTypes[dtype]
}

export function dtypeOfValue(value: Value): Exclude<DType, 'null'> {
  switch (typeof value) {
    case 'bigint':
      return 'int64'
    case 'number':
      return 'float64'
    case 'boolean':
      return 'bool'
    case 'string':
      return 'string'
    default:
      return 'time'
  }
}

/** What a frame brings to the schema, in the order in which fields are added; no name comes twice. */
export interface FrameSchema {
  readonly fields: readonly KvField[]
  readonly key: string
  readonly sortingKey: string
}

/**
 * The stored schema with what a frame brings; the stored one itself when nothing changes. Throws INVALID_ARGUMENT for a
 * change that is not allowed, TOO_MANY_COLUMNS.
 */
export function mergeSchema(stored: KvSchema, frame: FrameSchema): KvSchema {
  const places = placesOf(stored)
  let fields: KvField[] | null = null
  for (const field of frame.fields) {
    const place = places.get(field.name)
    const known = place === undefined ? undefined : (fields ?? stored.fields)[place]!
    if (place === undefined || known === undefined) {
      fields ??= [...stored.fields]
      fields.push(field)
    } else if (known.type === 'long' && field.type === 'double') {
      fields ??= [...stored.fields]
      fields[place] = { ...known, type: 'double' }
    } else if (known.type !== field.type && !(known.type === 'double' && field.type === 'long')) {
      throw notMerged(`schema change for column ${field.name} from type ${known.type} to ${field.type} is not allowed`)
    }
  }
  if (fields !== null && fields.length > tableColumnCountMax) {
    throw new FramesError(
      'TOO_MANY_COLUMNS',
      `failed to merge schema: the table would have ${fields.length} columns; at most ${tableColumnCountMax} are possible`,
    )
  }
  const isNew = stored.fields.length === 0
  const key = mergeKey('primary key', stored.key, frame.key, isNew)
  const sortingKey = mergeKey('sorting key', stored.sortingKey, frame.sortingKey, isNew)
  if (fields === null && key === stored.key && sortingKey === stored.sortingKey) return stored
  return { ...stored, fields: fields ?? stored.fields, key, sortingKey }
}

function mergeKey(what: string, stored: string, given: string, isNew: boolean): string {
  if (given === '' || given === stored || isNew) return given === '' ? stored : given
  throw notMerged(`changing ${what} is not allowed, old: ${stored}, new:${given}`)
}

function notMerged(detail: string): FramesError {
  return new FramesError('INVALID_ARGUMENT', `failed to merge schema: ${detail}`)
}

/** Where each field stands; made once a schema. */
const knownPlaces = new WeakMap<KvSchema, ReadonlyMap<string, number>>()

function placesOf(schema: KvSchema): ReadonlyMap<string, number> {
  let places = knownPlaces.get(schema)
  if (places === undefined) {
    places = new Map(schema.fields.map(({ name }, place) => [name, place]))
    knownPlaces.set(schema, places)
  }
  return places
}

// ---- create ---------------------------------------------------------------------------------------------------------

const typeAliases: ReadonlyMap<string, FieldType> = new Map<string, FieldType>([
  ['long', 'long'],
  ['int', 'long'],
  ['integer', 'long'],
  ['double', 'double'],
  ['float', 'double'],
  ['string', 'string'],
  ['timestamp', 'timestamp'],
  ['time', 'timestamp'],
  ['boolean', 'boolean'],
  ['bool', 'boolean'],
])

/** The schema of a create request that has one. Throws INVALID_ARGUMENT. */
export function createSchema(request: CreateRequest): KvSchema {
  const { fields: given = [], key: keys } = request.schema ?? {}
  const [key, ...moreKeys] = keys?.shardingKey ?? []
  const [sortingKey = '', ...moreSortingKeys] = keys?.sortingKey ?? []
  if (key === undefined) throw invalidSchema('it has no key: name one attribute as sharding_key')
  if (moreKeys.length > 0 || moreSortingKeys.length > 0)
    throw invalidSchema('a key-value table has one key and at most one sorting key')
  const keyNames = sortingKey === '' ? [key] : [key, sortingKey]
  if (key === sortingKey) throw invalidSchema(`'${shortened(key)}' is the key and the sorting key`)
  const types = new Map<string, FieldType>()
  for (const field of given) {
    const type = typeAliases.get((field.type ?? '').toLowerCase())
    if (type === undefined) {
      const known = 'long, double, string, timestamp or boolean'
      throw invalidSchema(`field '${shortened(field.name)}' has type '${shortened(field.type ?? '')}', not ${known}`)
    }
    if (types.has(field.name)) throw invalidSchema(`two fields are named '${shortened(field.name)}'`)
    types.set(field.name, type)
  }
  for (const name of [...keyNames, ...types.keys()]) {
    const problem = attributeNameProblem(name)
    if (problem !== null) throw invalidSchema(`field '${shortened(name)}' ${problem}`)
  }
  if (types.size > tableColumnCountMax)
    throw new FramesError(
      'TOO_MANY_COLUMNS',
      `the schema has ${types.size} fields; at most ${tableColumnCountMax} are possible`,
    )
  const fields = keyNames.map((name): KvField => ({ name, type: types.get(name) ?? 'string', nullable: false }))
  for (const [name, type] of types) if (!keyNames.includes(name)) fields.push({ name, type, nullable: true })
  return { ...emptySchema, fields, key, sortingKey, ttlMs: ttlOf(request) }
}

/** Clients can send it only as a property of some schema field: a duration such as '90m' or '7d', or whole seconds. */
function ttlOf(request: CreateRequest): number | null {
  let ttlMs: number | null = null
  for (const { properties } of request.schema?.fields ?? []) {
    const value = properties?.['ttl']
    if (value === undefined) continue
    let ms: number
    if (typeof value === 'string') ms = parseDurationMs(value)
    else if (typeof value === 'bigint' || typeof value === 'number') ms = Number(value) * secondMs
    else throw invalidSchema(`property 'ttl' must be a duration such as '90m', or seconds, not a ${typeof value}`)
    if (!(Number.isSafeInteger(ms) && ms > 0)) throw invalidSchema(`property 'ttl' must be longer than 0`)
    if (ttlMs !== null && ttlMs !== ms) throw invalidSchema(`property 'ttl' is given as ${ttlMs} ms and as ${ms} ms`)
    ttlMs = ms
  }
  return ttlMs
}

function invalidSchema(what: string): FramesError {
  return new FramesError('INVALID_ARGUMENT', `the schema is not valid: ${what}`)
}

// ---- stored form ----------------------------------------------------------------------------------------------------

const schemaVersion = 1
const encoder = new TextEncoder()
const decoder = new TextDecoder()

/** JSON as the platform has it, with a version and our own fields; what is empty is left out. */
export function encodeSchema({
  fields,
  key,
  sortingKey,
  hashingBucketNum,
  ttlMs,
  foldersDrifted,
}: KvSchema): Uint8Array {
  return encoder.encode(
    JSON.stringify({
      version: schemaVersion,
      fields,
      key,
      ...(sortingKey === '' ? {} : { sortingKey }),
      hashingBucketNum,
      ...(ttlMs === null ? {} : { ttlMs }),
      ...(foldersDrifted ? { foldersDrifted } : {}),
    }),
  )
}

/** Throws FORMAT_VERSION for a schema of a newer framesd, DATA_DAMAGED for what is no schema. */
export function decodeSchema(bytes: Uint8Array): KvSchema {
  let stored: unknown
  try {
    stored = JSON.parse(decoder.decode(bytes))
  } catch (cause) {
    throw new FramesError('DATA_DAMAGED', 'a stored kv schema is not JSON', { cause })
  }
  if (typeof stored !== 'object' || stored === null) throw damaged('schema')
  const {
    version,
    fields,
    key,
    sortingKey = '',
    hashingBucketNum,
    ttlMs = null,
    foldersDrifted = false,
  } = stored as Readonly<Record<string, unknown>>
  if (version !== schemaVersion)
    throw new FramesError('FORMAT_VERSION', `a kv schema has version ${String(version)}, not ${schemaVersion}`)
  if (!Array.isArray(fields) || !fields.every(isField)) throw damaged('fields')
  if (typeof key !== 'string' || typeof sortingKey !== 'string') throw damaged('key')
  if (typeof hashingBucketNum !== 'number') throw damaged('hashingBucketNum')
  if (ttlMs !== null && typeof ttlMs !== 'number') throw damaged('ttlMs')
  if (typeof foldersDrifted !== 'boolean') throw damaged('foldersDrifted')
  return { fields, key, sortingKey, hashingBucketNum, ttlMs, foldersDrifted }
}

function isField(field: unknown): field is KvField {
  if (typeof field !== 'object' || field === null) return false
  const { name, type, nullable } = field as Readonly<Record<string, unknown>>
  return typeof name === 'string' && fieldTypeNames.has(type) && typeof nullable === 'boolean'
}

function damaged(part: string): FramesError {
  return new FramesError('DATA_DAMAGED', `a stored kv schema has no valid ${part}`)
}
