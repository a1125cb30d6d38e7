// What the frames of a read look like: which columns in which types, and which of them are indices. Pure.
import { FramesError, shortened } from '../../errors.js'
import type { ColumnHead } from '../../frame/column-head.js'
import type { KvSchema } from './schema.js'
import { nameAttribute, systemAttributes } from './system-attributes.js'

/** The types in which attributes are stored; a blob or an array is shown as the base64 text of its bytes. */
export type StoredType = 'int64' | 'float64' | 'string' | 'time' | 'bool' | 'blob'
export type ShownType = Exclude<StoredType, 'blob'>

/** An attribute that items have, in all types in which they have it. */
export interface AttributeTypes {
  readonly name: string
  readonly types: readonly StoredType[]
}

/** What a table holds: what the columns of a read depend on beside the schema. */
export interface TableContents {
  /** Attributes of living items, by name. */
  readonly attributes: readonly AttributeTypes[]
  /** Items without the key attribute have names that are no text of the key's type; so have items without sorting key. */
  readonly isKeyText: boolean
  readonly isSortingKeyText: boolean
}

/** One column to be made; a frame may show it twice. */
export interface ShapeColumn {
  readonly name: string
  readonly from: 'attribute' | 'name' | 'system'
  readonly dtype: ShownType
  /** Where the attribute is missing, this part of the item's name stands in. */
  readonly nameText: 'all' | 'key' | 'sorting' | null
}

export interface ReadShape {
  readonly made: readonly ShapeColumn[]
  /** Names as shown, and which of `made` they are. */
  readonly columns: readonly { readonly name: string; readonly index: number }[]
  readonly indices: readonly { readonly name: string; readonly index: number }[]
}

export const dtypeOfFieldType: Readonly<Record<string, ShownType>> = {
  long: 'int64',
  double: 'float64',
  string: 'string',
  timestamp: 'time',
  boolean: 'bool',
}

/** The one type that shows values of all these types: integers and floats as floats, any other mix as text. */
export function commonType(types: Iterable<StoredType>): ShownType {
  let common: ShownType | null = null
  for (const type of types) {
    const shown: ShownType = type === 'blob' ? 'string' : type
    if (common === null || common === shown) common = shown
    else if (common === 'int64' && shown === 'float64') common = 'float64'
    else if (!(common === 'float64' && shown === 'int64')) return 'string'
  }
  return common ?? 'string'
}

/** Whether all columns are meant. */
function isAllColumns(columns: readonly string[]): boolean {
  return columns.length === 0 || (columns.length === 1 && (columns[0] === '*' || columns[0] === ''))
}

/**
 * The shape of a read.
 *
 * Throws COLUMN_NOT_FOUND for the first requested column that neither the schema nor any item has.
 */
export function readShape(
  schema: Pick<KvSchema, 'fields' | 'key' | 'sortingKey'>,
  contents: TableContents,
  { columns, resetIndex }: { readonly columns: readonly string[]; readonly resetIndex: boolean },
): ReadShape {
  const { key, sortingKey } = schema
  const stored = new Map(contents.attributes.map(({ name, types }) => [name, types]))
  const isField = new Set(schema.fields.map(({ name }) => name))
  const attribute = (name: string, fieldType: ShownType | null): ShapeColumn => {
    const isKey = name === key
    const isSorting = name === sortingKey && sortingKey !== ''
    const types: StoredType[] = [...(fieldType === null ? [] : [fieldType]), ...(stored.get(name) ?? [])]
    const isText = (isKey && contents.isKeyText) || (isSorting && contents.isSortingKeyText)
    return {
      name,
      from: 'attribute',
      dtype: isText ? 'string' : commonType(types),
      nameText: isKey ? (sortingKey === '' ? 'all' : 'key') : isSorting ? 'sorting' : null,
    }
  }
  const all = [
    ...schema.fields.map(({ name, type }) => attribute(name, dtypeOfFieldType[type] ?? 'string')),
    ...contents.attributes.filter(({ name }) => !isField.has(name)).map(({ name }) => attribute(name, null)),
  ]
  const isAll = isAllColumns(columns)
  const requested = new Set(
    isAll
      ? all.map(({ name }) => name)
      : columns.includes('*')
        ? [...all.map(({ name }) => name), ...columns.filter((name) => name !== '*')]
        : columns,
  )
  const known = new Set<string>([...all.map(({ name }) => name), nameAttribute, ...systemAttributes])
  for (const name of requested) {
    if (known.has(name)) continue
    throw new FramesError('COLUMN_NOT_FOUND', `error during iteration: column '${shortened(name)}' doesn't exist`)
  }
  const made: ShapeColumn[] = all.filter(({ name }) => requested.has(name))
  if (requested.has(nameAttribute)) made.push({ name: nameAttribute, from: 'name', dtype: 'string', nameText: null })
  for (const name of systemAttributes)
    if (requested.has(name)) made.push({ name, from: 'system', dtype: 'int64', nameText: null })

  const shown = made.map(({ name }, index) => ({ name, index }))
  const keys = shown.filter(({ index }) => made[index]!.nameText !== null)
  // The primary key first, whatever the order of the fields.
  keys.sort((a, b) => Number(b.name === key) - Number(a.name === key))
  if (resetIndex || keys.length === 0) return { made, columns: shown, indices: [] }
  if (isAll) {
    const rest = shown.filter(({ index }) => made[index]!.nameText === null)
    // A frame of indices alone would lose them.
    return rest.length === 0 ? { made, columns: shown, indices: [] } : { made, columns: rest, indices: keys }
  }
  if (shown.length === 1) return { made, columns: shown, indices: [] }
  return { made, columns: shown, indices: keys.map(({ name, index }) => ({ name: `_${name}`, index })) }
}

/** The columns of all frames of a read, as Arrow and JSON want to know them first. */
export function shapeHeads({ made, columns, indices }: ReadShape): ColumnHead[] {
  return [
    ...indices.map(({ name, index }): ColumnHead => ({ name, role: 'index', dtype: made[index]!.dtype })),
    ...columns.map(({ name, index }): ColumnHead => ({ name, role: 'column', dtype: made[index]!.dtype })),
  ]
}
