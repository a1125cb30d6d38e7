// Which names a read needs to look at: those of its sharding keys, or those that its filter asks for by `__name`.
import type { Value } from '../../frame/dtype.js'
import type { Expression } from '../../expression/tree.js'
import { compareTexts } from './item-keys.js'
import { valueOfNameText } from './name-values.js'
import type { KvSchema } from './schema.js'
import { nameAttribute } from './system-attributes.js'

/** Names [low, high) of one folder. */
export interface NameRange {
  readonly low: string
  readonly high: string
}

/** A filter that asks for more names is answered by a scan. */
const lookedUpCountMax = 256
const codePointMax = 0x10_ffff

/**
 * The ranges of names, ascending and apart, outside of which a filter holds for no item; null: it may hold anywhere.
 * `__name == 'x' AND n > 1` needs one name, `__name IN ('x', 'y')` two, `starts(__name, 'x')` all that begin with it.
 */
export function namesOfFilter(filter: Expression): readonly NameRange[] | null {
  const ranges = rangesOf(filter)
  return ranges === null || ranges.length > lookedUpCountMax ? null : joined(ranges)
}

function rangesOf(tree: Expression): readonly NameRange[] | null {
  switch (tree.kind) {
    case 'compare': {
      if (tree.operator !== '==') return null
      if (isName(tree.left)) return rangesOfConstants([tree.right])
      return isName(tree.right) ? rangesOfConstants([tree.left]) : null
    }
    case 'in':
      return isName(tree.operand) ? rangesOfConstants(tree.choices) : null
    case 'call': {
      const [text, prefix] = tree.operands
      const isPrefix = tree.function === 'starts' && text !== undefined && isName(text)
      return isPrefix && prefix?.kind === 'literal' && typeof prefix.value === 'string' ? rangeFrom(prefix.value) : null
    }
    case 'and': {
      const parts = tree.operands.map(rangesOf).filter((ranges) => ranges !== null)
      return parts.length === 0 ? null : parts.reduce((a, b) => (b.length < a.length ? b : a))
    }
    case 'or': {
      const parts = tree.operands.map(rangesOf)
      return parts.includes(null) ? null : parts.flatMap((ranges) => ranges ?? [])
    }
    default:
      return null
  }
}

function isName(tree: Expression): boolean {
  return tree.kind === 'attribute' && tree.name === nameAttribute
}

/** A name is a text: no other constant equals it. */
function rangesOfConstants(constants: readonly Expression[]): readonly NameRange[] | null {
  if (constants.some(({ kind }) => kind !== 'literal')) return null
  return constants.flatMap((constant) =>
    constant.kind === 'literal' && typeof constant.value === 'string' ? [rangeOfName(constant.value)] : [],
  )
}

function rangeOfName(name: string): NameRange {
  return { low: name, high: `${name}\0` }
}

/** All texts that begin with a prefix; null where no text is behind them all. */
function rangeFrom(prefix: string): readonly NameRange[] | null {
  const points = [...prefix]
  const last = points.pop()?.codePointAt(0)
  if (last === undefined || last === codePointMax) return null
  // Surrogates are no characters of a text.
  const next = last + 1 === 0xd800 ? 0xe000 : last + 1
  return [{ low: prefix, high: points.join('') + String.fromCodePoint(next) }]
}

/**
 * The ranges of names of one folder in which the items of these primary keys stand.
 *
 * keys          texts of primary keys, as in item names
 * hasSorting    names are `key.sorting`; then [start, end) of the sorting texts, '' for open
 */
export function keyRanges(keys: readonly string[], hasSorting: boolean, start: string, end: string): NameRange[] {
  return joined(
    keys.flatMap((key) => {
      if (!hasSorting) return [rangeOfName(key)]
      // '/' is the byte behind '.', so [key., key/) are all names that go on with a sorting text.
      const sorted = { low: `${key}.${start}`, high: end === '' ? `${key}/` : `${key}.${end}` }
      return start === '' ? [rangeOfName(key), sorted] : [sorted]
    }),
  )
}

/** Ascending and apart: `a` and `a.b` are both keys that a name `a.b.c` may have, and no item is to be found twice. */
function joined(ranges: readonly NameRange[]): NameRange[] {
  const sorted = ranges
    .filter(({ low, high }) => compareTexts(low, high) < 0)
    .sort((a, b) => compareTexts(a.low, b.low) || compareTexts(a.high, b.high))
  const apart: { low: string; high: string }[] = []
  for (const range of sorted) {
    const before = apart[apart.length - 1]
    if (before === undefined || compareTexts(before.high, range.low) <= 0) apart.push({ ...range })
    else if (compareTexts(range.high, before.high) > 0) before.high = range.high
  }
  return apart
}

/**
 * A filter that lets through what `filter` does, but for items of other keys that stand among the names of these keys: the
 * names of key `a.b` begin as those of key `a` do, and only the key's attribute tells them apart. An item without it
 * belongs to any key that its name begins with.
 */
export function withoutOtherKeys(
  filter: Expression | null,
  keys: readonly string[],
  { key, sortingKey, fields }: Pick<KvSchema, 'key' | 'sortingKey' | 'fields'>,
): Expression | null {
  // The names of integers and booleans have no dots.
  const type = fields.find(({ name }) => name === key)?.type
  if (sortingKey === '' || type === 'long' || type === 'boolean') return filter
  const attribute: Expression = { kind: 'attribute', name: key }
  const choices = keys.flatMap((text): Value[] => {
    const time = type === 'timestamp' ? valueOfNameText(text, 'time') : null
    const float = type === 'double' ? valueOfNameText(text, 'float64') : null
    return [
      text,
      ...(typeof time === 'bigint' ? [{ timeNs: time }] : []),
      ...(typeof float === 'number' ? [float] : []),
    ]
  })
  const literal = (value: Value): Expression => ({ kind: 'literal', value })
  const operands: Expression[] = [
    { kind: 'in', operand: attribute, choices: choices.map(literal) },
    { kind: 'not', operand: { kind: 'call', function: 'exists', operands: [attribute] } },
  ]
  // A key that was assigned by an update says nothing of the name.
  const dotted: Expression = { kind: 'sum', first: attribute, rest: [{ operator: '+', operand: literal('.') }] }
  const name: Expression = { kind: 'attribute', name: nameAttribute }
  if (type === 'string')
    operands.push({ kind: 'not', operand: { kind: 'call', function: 'starts', operands: [name, dotted] } })
  const isOfKeys: Expression = { kind: 'or', operands }
  return filter === null ? isOfKeys : { kind: 'and', operands: [filter, isOfKeys] }
}
