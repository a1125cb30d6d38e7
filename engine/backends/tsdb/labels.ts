// The canonical key of a label set, in TypeScript: what kernels/labels.ts writes for many rows at once.
//
// For every label, sorted by name: name bytes, 00, value bytes with every 00 written as 00 FF, then 00 01. Two sets have
// one key only if they are equal, and the order of keys as bytes is the order of label text.
import { assert } from '../../assert.js'
import { FramesError } from '../../errors.js'

export type Label = readonly [name: string, value: string]

const encoder = new TextEncoder()
const decoder = new TextDecoder('utf-8', { ignoreBOM: true })

/**
 * The canonical key of labels in any order. Names are distinct and hold no NUL: both are checked before, with the names
 * themselves.
 */
export function formatLabelKey(labels: Iterable<Label>): Uint8Array {
  const entries = Array.from(labels, ([name, value]) => ({ name: encoder.encode(name), value: encoder.encode(value) }))
  entries.sort((a, b) => Buffer.compare(a.name, b.name))
  const key: number[] = []
  for (let i = 0; i < entries.length; i++) {
    const { name, value } = entries[i]
    assert(!name.includes(0), 'a label name holds no NUL')
    assert(i === 0 || Buffer.compare(entries[i - 1].name, name) < 0, 'label names are distinct')
    for (const byte of name) key.push(byte)
    key.push(0)
    for (const byte of value) {
      key.push(byte)
      if (byte === 0) key.push(0xff)
    }
    key.push(0, 1)
  }
  return Uint8Array.from(key)
}

/**
 * The labels of a canonical key, sorted by name as it is. Takes views of shared memory. Throws DATA_DAMAGED for bytes
 * that formatLabelKey cannot have written: a stored key is not trusted.
 */
export function parseLabelKey(key: Uint8Array): [name: string, value: string][] {
  const labels: [string, string][] = []
  let previousName: Uint8Array | undefined
  let position = 0
  while (position < key.length) {
    const nameEnd = key.indexOf(0, position)
    if (nameEnd < 0) throw damaged(key, 'a name has no end')
    const name = key.slice(position, nameEnd)
    if (previousName !== undefined && Buffer.compare(previousName, name) >= 0) throw damaged(key, 'names out of order')
    const { value, end } = parseValue(key, nameEnd + 1)
    labels.push([decoder.decode(name), decoder.decode(value)])
    previousName = name
    position = end
  }
  return labels
}

/** The value of a label as it stands in a key (kernel labelValue): the same bytes with 00 FF read as 00. */
export function unescapeLabelValue(escaped: Uint8Array): string {
  return decoder.decode(withoutEscapes(escaped))
}

function parseValue(key: Uint8Array, start: number): { value: Uint8Array; end: number } {
  let nul = key.indexOf(0, start)
  while (nul >= 0 && key[nul + 1] === 0xff) nul = key.indexOf(0, nul + 2)
  if (nul < 0 || key[nul + 1] !== 1) throw damaged(key, 'a value has no end')
  return { value: withoutEscapes(key.subarray(start, nul)), end: nul + 2 }
}

/** A copy in ordinary memory (TextDecoder refuses views of shared memory) without the FF behind every 00. */
function withoutEscapes(escaped: Uint8Array): Uint8Array {
  const value = escaped.slice()
  if (!value.includes(0)) return value
  let length = 0
  for (let i = 0; i < escaped.length; i++) {
    value[length++] = escaped[i]
    if (escaped[i] === 0) i++
  }
  return value.subarray(0, length)
}

function damaged(key: Uint8Array, what: string): FramesError {
  return new FramesError('DATA_DAMAGED', `A stored label set of ${key.length} bytes is malformed: ${what}`)
}
