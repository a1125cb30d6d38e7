// The schema of a table as its first items show it. Pure: items in, schema out.
import { FramesError, shortened } from '../../errors.js'
import type { Value } from '../../frame/dtype.js'
import { valueText } from '../../frame/value-text.js'
import { formatTimeNs } from '../../time.js'
import { compareTexts } from './item-keys.js'
import type { KvSchema } from './schema.js'

/** An item as infer looks at it; blobs and arrays are left out. */
export interface SampleItem {
  readonly name: string
  readonly attributes: ReadonlyMap<string, Value>
}

type FieldType = KvSchema['fields'][number]['type']

/** Items that are looked at: as many as upstream's default, and the one more that it reads. */
export const inferItemCountDefault = 11
/** They stand in a worker's heap. */
export const inferItemCountMax = 10_000
/** Of a name that begins with a hash bucket's number behind the key, `key_12.sorting`. */
const hashedPattern = /^[a-zA-Z_][a-zA-Z0-9_]*_[0-9]+$/
const hashingBucketNum = 64

const typeNames = { long: 'int', double: 'float64', string: 'string', boolean: 'bool', timestamp: 'time.Time' } as const

function fieldTypeOf(value: Value): FieldType {
  if (typeof value === 'bigint') return 'long'
  if (typeof value === 'number') return 'double'
  if (typeof value === 'string') return 'string'
  return typeof value === 'boolean' ? 'boolean' : 'timestamp'
}

/** All texts that a value has in a name: floats and bools are also compared as item names write them. */
function textsOf(value: Value): readonly string[] {
  if (typeof value === 'boolean') return [String(value), value ? 'True' : 'False']
  if (typeof value === 'number') {
    const plain = valueText(value, 'never')
    return [valueText(value, 'allowed'), plain, /^-?[0-9]+$/.test(plain) ? `${plain}.0` : plain]
  }
  if (typeof value === 'object') return [formatTimeNs(value.timeNs)]
  return [String(value)]
}

/** The parts that an item's name may be put together of; '' where it has no such part. */
function partsOf(name: string): { primary: string; sorting: string; hashed: string } {
  const dot = name.indexOf('.')
  if (dot < 0 || name.indexOf('.') === name.length - 1) return { primary: '', sorting: '', hashed: '' }
  const primary = name.slice(0, dot)
  const isHashed = hashedPattern.test(primary)
  return {
    primary,
    sorting: name.slice(dot + 1),
    hashed: isHashed ? primary.slice(0, primary.lastIndexOf('_')) : '',
  }
}

interface Candidate {
  type: FieldType
  /** The value before, for the text of an error. */
  value: Value
  isFull: boolean
  isPrimary: boolean
  isSorting: boolean
  isHashed: boolean
}

/**
 * Fields, key and sorting key of the items. `key` names the key instead of looking for it, '' looks.
 * Throws INVALID_ARGUMENT when types disagree or no attribute is the key.
 */
export function inferSchema(
  items: readonly SampleItem[],
  key: string,
): Pick<KvSchema, 'fields' | 'key' | 'sortingKey' | 'hashingBucketNum'> {
  const candidates = new Map<string, Candidate>()
  for (const { name, attributes } of items) {
    const { primary, sorting, hashed } = partsOf(name)
    for (const [attribute, value] of attributes) {
      const type = fieldTypeOf(value)
      const texts = textsOf(value)
      const isFull = texts.includes(name)
      const isPrimary = primary !== '' && texts.includes(primary)
      const isSorting = sorting !== '' && texts.includes(sorting)
      const isHashed = hashed !== '' && texts.includes(hashed)
      const known = candidates.get(attribute)
      if (known === undefined) {
        candidates.set(attribute, { type, value, isFull, isPrimary, isSorting, isHashed })
        continue
      }
      known.type = commonType(known, type, attribute, value)
      known.value = value
      known.isFull &&= isFull
      known.isPrimary &&= isPrimary
      known.isSorting &&= isSorting
      known.isHashed &&= isHashed
    }
  }
  const chosen =
    key === '' ? chooseKeys(candidates) : { key: namedKey(candidates, key), sortingKey: '', isHashed: false }
  const fields = [...candidates]
    .sort(([a], [b]) => compareTexts(a, b))
    .map(([name, { type }]) => ({ name, type, nullable: name !== chosen.key && name !== chosen.sortingKey }))
  return {
    fields,
    key: chosen.key,
    sortingKey: chosen.sortingKey,
    hashingBucketNum: chosen.isHashed ? hashingBucketNum : 0,
  }
}

function commonType(known: Candidate, type: FieldType, attribute: string, value: Value): FieldType {
  if (known.type === type) return type
  const isNumeric = (candidate: FieldType): boolean => candidate === 'long' || candidate === 'double'
  if (isNumeric(known.type) && isNumeric(type)) return 'double'
  const [before, after] = [known.value, value].map((shown) => shortened(valueText(shown, 'allowed')))
  throw new FramesError(
    'INVALID_ARGUMENT',
    `type '${typeNames[known.type]}' of value '${before}' doesn't match type '${typeNames[type]}' of value '${after}' for column '${attribute}'.`,
  )
}

function namedKey(candidates: ReadonlyMap<string, Candidate>, key: string): string {
  if (candidates.get(key)?.isFull !== true) {
    throw new FramesError('INVALID_ARGUMENT', `${shortened(key)} is not one of the optional key columns`)
  }
  return key
}

function chooseKeys(candidates: ReadonlyMap<string, Candidate>): {
  key: string
  sortingKey: string
  isHashed: boolean
} {
  const named = (test: (candidate: Candidate) => boolean): string[] =>
    [...candidates].filter(([, candidate]) => test(candidate)).map(([name]) => name)
  const hashed = named(({ isHashed }) => isHashed)
  const primary = named(({ isPrimary }) => isPrimary)
  const sorting = named(({ isSorting }) => isSorting)
  const isHashed = hashed.length === 1
  const [first] = isHashed ? hashed : primary.length === 1 ? primary : []
  const [second] = first !== undefined && sorting.length === 1 ? sorting : []
  if (first !== undefined && second !== undefined) return { key: first, sortingKey: second, isHashed }
  const full = named(({ isFull }) => isFull).sort(compareTexts)
  const [only] = full
  if (only !== undefined && full.length === 1) return { key: only, sortingKey: '', isHashed: false }
  const reason =
    full.length === 0
      ? 'no column matches the primary-key attribute'
      : `${full.length} columns (${full.join(', ')}) match the primary-key attribute`
  throw new FramesError(
    'INVALID_ARGUMENT',
    `could not determine which column is the table's primary-key attribute, because ${reason}`,
  )
}
