// Values back from the texts of item names: where an item lacks its key attribute, the name supplies it.
import { parseInt64, parseRfc3339 } from '../../time.js'
import type { ShownType } from './read-shape.js'

/** The part of an item's name that is the text of the key, or of the sorting key; the leftmost dot parts them. */
export function namePart(name: string, part: 'all' | 'key' | 'sorting'): string | null {
  if (part === 'all') return name
  const dot = name.indexOf('.')
  if (dot < 0) return part === 'key' ? name : null
  return part === 'key' ? name.slice(0, dot) : name.slice(dot + 1)
}

/** The value that a name's text stands for in a column of this type (time: nanoseconds); null when it is none. */
export function valueOfNameText(text: string, dtype: ShownType): string | number | bigint | boolean | null {
  switch (dtype) {
    case 'string':
      return text
    case 'bool':
      return text === 'True' ? true : text === 'False' ? false : null
    case 'int64': {
      const value = parseInt64(text)
      return typeof value === 'bigint' && value.toString() === text ? value : null
    }
    case 'time':
      // Texts of years outside int64 are nobody's key.
      return int64OrNull(parseRfc3339(text))
    case 'float64': {
      if (text === 'NaN') return Number.NaN
      if (/^[+-]?Inf$/.test(text)) return text.startsWith('-') ? -Infinity : Infinity
      return /^-?[0-9]+(\.[0-9]+)?$/.test(text) ? Number(text) : null
    }
  }
}

function int64OrNull(value: bigint | null): bigint | null {
  return value !== null && BigInt.asIntN(64, value) === value ? value : null
}
