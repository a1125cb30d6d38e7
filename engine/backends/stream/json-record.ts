// A record that was put as text: a JSON object's members become columns, anything else is raw data.

/** A member of a record as a typed cell. Values: int64 bigint, float64 number, string text, bool boolean. */
export type Member =
  | { readonly dtype: 'int64'; readonly value: bigint }
  | { readonly dtype: 'float64'; readonly value: number }
  | { readonly dtype: 'string'; readonly value: string }
  | { readonly dtype: 'bool'; readonly value: boolean }

const int64Max = 2n ** 63n - 1n

/**
 * The members of a JSON object by name, in the order of their first appearance; of a repeated name the last counts, and
 * null is no member. Null when the text is not a JSON object.
 *
 * Whole numbers without point or exponent are int64, beyond 64 bits float64; arrays and objects are their text.
 */
export function jsonMembers(text: string): Map<string, Member> | null {
  if (!isObject(text)) return null
  // From here on the text is known to be well-formed.
  const members = new Map<string, Member>()
  const absent = new Set<string>()
  let at = skipBlanks(text, text.indexOf('{') + 1)
  while (text[at] !== '}') {
    const nameEnd = stringEnd(text, at)
    const name = JSON.parse(text.slice(at, nameEnd)) as string
    const start = skipBlanks(text, skipBlanks(text, nameEnd) + 1)
    const end = valueEnd(text, start)
    const member = memberOf(text.slice(start, end))
    if (member === null) absent.add(name)
    else {
      absent.delete(name)
      members.set(name, member)
    }
    at = skipBlanks(text, end)
    if (text[at] === ',') at = skipBlanks(text, at + 1)
  }
  for (const name of absent) members.delete(name)
  return members
}

function isObject(text: string): boolean {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null && !Array.isArray(value)
  } catch {
    // Not JSON: raw data.
    return false
  }
}

function memberOf(text: string): Member | null {
  switch (text[0]) {
    case '"':
      return { dtype: 'string', value: JSON.parse(text) as string }
    case '{':
    case '[':
      return { dtype: 'string', value: text }
    case 't':
    case 'f':
      return { dtype: 'bool', value: text === 'true' }
    case 'n':
      return null
    default:
      return numberOf(text)
  }
}

function numberOf(text: string): Member {
  // 19 digits hold every int64; a longer text is judged without being computed.
  if (text.length <= 20 && !/[.eE]/.test(text)) {
    const value = BigInt(text)
    if (value <= int64Max && value >= -int64Max - 1n) return { dtype: 'int64', value }
  }
  return { dtype: 'float64', value: Number(text) }
}

function skipBlanks(text: string, at: number): number {
  for (;;) {
    const unit = text.charCodeAt(at)
    if (unit !== 0x20 && unit !== 0x0a && unit !== 0x0d && unit !== 0x09) return at
    at++
  }
}

/** Behind the closing quote of the string that begins at `at`. */
function stringEnd(text: string, at: number): number {
  let end = at + 1
  for (;;) {
    end = text.indexOf('"', end)
    let backslashCount = 0
    while (text[end - 1 - backslashCount] === '\\') backslashCount++
    end++
    if (backslashCount % 2 === 0) return end
  }
}

/** Behind the value that begins at `at`. */
function valueEnd(text: string, at: number): number {
  const first = text[at]
  if (first === '"') return stringEnd(text, at)
  if (first !== '{' && first !== '[') {
    let end = at
    while (!',}] \n\r\t'.includes(text[end]!)) end++
    return end
  }
  let depth = 0
  for (let end = at; ; ) {
    const unit = text[end]
    if (unit === '"') {
      end = stringEnd(text, end)
      continue
    }
    end++
    if (unit === '{' || unit === '[') depth++
    else if ((unit === '}' || unit === ']') && --depth === 0) return end
  }
}
