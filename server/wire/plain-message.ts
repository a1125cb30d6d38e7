// Requests out of wire bytes by hand. The library reads a message field by field through reflection and makes an object of
// all its fields, of which a request has a few: for a small call that took longer than to find the answer.
import { type DescField, type DescMessage, ScalarType } from '@bufbuild/protobuf'
import type { Value } from '../../engine/index.js'

type Kind = 'text' | 'flag' | 'int64' | 'texts' | 'message' | 'values'

interface Field {
  /** Of its own among those of its message. */
  readonly bit: number
  readonly name: string
  readonly kind: Kind
  readonly fields: PlainFields | null
}

/** The fields of a message that can be read by hand, by number and wire type together. */
export type PlainFields = ReadonlyMap<number, Field>

type PlainMessage = Record<string, unknown>

const varint = 0
const fixed64 = 1
const delimited = 2
/** Texts of ASCII up to this length are put together faster than the decoder is called. */
const asciiByteLengthMax = 256
const strictUtf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Fields of a message are told apart by the bits of a number. */
const fieldCountMax = 31

/** Those of texts, flags, int64, lists of texts, messages of such fields, and maps of text to Value. */
export function plainFields({ fields }: DescMessage): PlainFields {
  return new Map(
    fields.flatMap((field, i): [number, Field][] => {
      const kind = kindOf(field)
      if (kind === null || i >= fieldCountMax) return []
      const wireType = kind === 'flag' || kind === 'int64' ? varint : delimited
      const inner = kind === 'message' && field.fieldKind === 'message' ? plainFields(field.message) : null
      return [[(field.number << 3) | wireType, { bit: 1 << i, name: field.localName, kind, fields: inner }]]
    }),
  )
}

function kindOf(field: DescField): Kind | null {
  if (field.oneof !== undefined) return null
  if (field.fieldKind === 'message') {
    return field.message.fields.every((inner) => inner.fieldKind === 'scalar' && inner.scalar === ScalarType.STRING)
      ? 'message'
      : null
  }
  if (field.fieldKind === 'map') {
    return field.mapKey === ScalarType.STRING && field.mapKind === 'message' && field.message.name === 'Value'
      ? 'values'
      : null
  }
  if (field.fieldKind === 'list') {
    return field.listKind === 'scalar' && field.scalar === ScalarType.STRING ? 'texts' : null
  }
  if (field.fieldKind !== 'scalar') return null
  if (field.scalar === ScalarType.STRING) return 'text'
  if (field.scalar === ScalarType.INT64) return 'int64'
  return field.scalar === ScalarType.BOOL ? 'flag' : null
}

/**
 * A message as a plain object, without what is empty: text, list, zero, false. Null where the library must read it: malformed
 * bytes, fields of other kinds, and fields that occur again.
 */
export function plainMessage(fields: PlainFields, bytes: Buffer): PlainMessage | null {
  return readMessage(new Reader(bytes), bytes.byteLength, fields)
}

/** Reads on; a negative `at` says that it could not. */
class Reader {
  at = 0

  constructor(readonly bytes: Buffer) {}

  /** Below 2^31; longer ones are no lengths or tags of ours. */
  small(end: number): number {
    const { bytes } = this
    let value = 0
    for (let shift = 0; shift < 28 && this.at < end; shift += 7) {
      const byte = bytes[this.at++]
      value |= (byte & 0x7f) << shift
      if (byte < 0x80) return value
    }
    return -1
  }

  /** The end of what is behind its length; -1: it is malformed. */
  delimitedEnd(end: number): number {
    const byteLength = this.small(end)
    return byteLength < 0 || byteLength > end - this.at ? -1 : this.at + byteLength
  }

  int64(end: number): bigint | null {
    const start = this.at
    const value = this.small(end)
    if (value >= 0) return BigInt(value)
    this.at = start
    let wide = 0n
    for (let shift = 0n; shift < 70n && this.at < end; shift += 7n) {
      const byte = this.bytes[this.at++]
      wide |= BigInt(byte & 0x7f) << shift
      if (byte < 0x80) return BigInt.asIntN(64, wide)
    }
    return null
  }

  /** Null: it is no UTF-8. */
  text(end: number): string | null {
    const { bytes, at: start } = this
    this.at = end
    let isAscii = end - start <= asciiByteLengthMax
    for (let i = start; isAscii && i < end; i++) isAscii = bytes[i] < 0x80
    if (isAscii) return bytes.toString('latin1', start, end)
    try {
      return strictUtf8.decode(bytes.subarray(start, end))
    } catch {
      // The library says what is wrong with it.
      return null
    }
  }
}

function readMessage(reader: Reader, end: number, fields: PlainFields): PlainMessage | null {
  const message: PlainMessage = {}
  let seenBits = 0
  while (reader.at < end) {
    const field = fields.get(reader.small(end))
    if (field === undefined) return null
    const { bit, name, kind } = field
    if (kind === 'texts' || kind === 'values') {
      if (!readInto(reader, end, field, message)) return null
      continue
    }
    const value = readOne(reader, end, field)
    if (value === null || (seenBits & bit) !== 0) return null
    seenBits |= bit
    if (value !== '' && value !== 0n && value !== false) message[name] = value
  }
  return message
}

function readOne(reader: Reader, end: number, { kind, fields }: Field): unknown {
  if (kind === 'int64') return reader.int64(end)
  if (kind === 'flag') {
    const value = reader.int64(end)
    return value === null ? null : value !== 0n
  }
  const valueEnd = reader.delimitedEnd(end)
  if (valueEnd < 0) return null
  return kind === 'text' ? reader.text(valueEnd) : readMessage(reader, valueEnd, fields!)
}

/** Adds an element of a list or map; false: it cannot be read. */
function readInto(reader: Reader, end: number, { name, kind }: Field, message: PlainMessage): boolean {
  const valueEnd = reader.delimitedEnd(end)
  if (valueEnd < 0) return false
  if (kind === 'texts') {
    const text = reader.text(valueEnd)
    if (text === null) return false
    const list = message[name] as string[] | undefined
    if (list === undefined) message[name] = [text]
    else list.push(text)
    return true
  }
  const entry = readEntry(reader, valueEnd)
  if (entry === null) return false
  const [key, value] = entry
  const map = (message[name] ??= {}) as Record<string, Value>
  if (Object.hasOwn(map, key)) return false
  // Not by assignment: an entry named __proto__ is an entry.
  Object.defineProperty(map, key, { value, enumerable: true, configurable: true, writable: true })
  return true
}

/** Of a map: a key and then a Value, as encoders write them. */
function readEntry(reader: Reader, end: number): readonly [string, Value] | null {
  if (reader.small(end) !== ((1 << 3) | delimited)) return null
  const keyEnd = reader.delimitedEnd(end)
  const key = keyEnd < 0 ? null : reader.text(keyEnd)
  if (key === null || reader.small(end) !== ((2 << 3) | delimited)) return null
  if (reader.delimitedEnd(end) !== end) return null
  const value = readValue(reader, end)
  return value === null || reader.at !== end ? null : [key, value]
}

const valueTags = {
  integer: (1 << 3) | varint,
  float: (2 << 3) | fixed64,
  text: (3 << 3) | delimited,
  time: (4 << 3) | varint,
  flag: (5 << 3) | varint,
} as const

function readValue(reader: Reader, end: number): Value | null {
  const tag = reader.small(end)
  if (tag === valueTags.text) {
    const textEnd = reader.delimitedEnd(end)
    return textEnd < 0 ? null : reader.text(textEnd)
  }
  if (tag === valueTags.float) {
    const { at } = reader
    if (end - at < 8) return null
    reader.at = at + 8
    return reader.bytes.readDoubleLE(at)
  }
  if (tag !== valueTags.integer && tag !== valueTags.time && tag !== valueTags.flag) return null
  const value = reader.int64(end)
  if (value === null) return null
  if (tag === valueTags.time) return { timeNs: value }
  return tag === valueTags.flag ? value !== 0n : value
}
