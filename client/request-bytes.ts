// Requests as wire bytes. The library writes a message field by field through reflection, which takes longer than all else
// that the client does before a small read leaves; here the fields of a message are looked up once.
import { type DescField, type DescMessage, ScalarType } from '@bufbuild/protobuf'
import type { Value } from '../engine/frame/dtype.js'
import { messagePrefixByteLength, writePrefix } from './message-reader.js'

type Kind = 'text' | 'flag' | 'int64' | 'texts' | 'int64s' | 'message' | 'values' | 'other'

interface Field {
  readonly name: string
  readonly kind: Kind
  /** Number and wire type, one varint. */
  readonly tag: number
  readonly inner: Fields | null
}

interface Fields {
  /** By their numbers. */
  readonly all: readonly Field[]
  readonly indexes: ReadonlyMap<string, number>
}

/** What is set of a message, in the order of its fields; of an inner message what is set of that. */
interface Given {
  readonly values: readonly unknown[]
  readonly byteLength: number
}

const fixed64 = 1
const lengthDelimited = 2
const fieldsOf = new WeakMap<DescMessage, Fields>()
/** Texts of ASCII up to this length are looked at and written faster than Node is called. */
const asciiLengthMax = 64

/**
 * A message with the prefix of gRPC, byte for byte as the library writes it; `session` stands in the place of its own. Null where
 * the library must write it: it has fields of other kinds than texts, flags, int64, lists of those, messages of such fields, and
 * maps of text to Value, or values of other types than its fields.
 */
export function requestBytes(schema: DescMessage, request: object, session: object): Buffer | null {
  const fields = knownFields(schema)
  const given = givenOf(fields, request, session)
  if (given === null) return null
  const bytes = Buffer.allocUnsafe(messagePrefixByteLength + given.byteLength)
  writePrefix(bytes, given.byteLength)
  writeMessage(bytes, messagePrefixByteLength, fields, given)
  return bytes
}

function knownFields(schema: DescMessage): Fields {
  let fields = fieldsOf.get(schema)
  if (fields === undefined) {
    const all = [...schema.fields].sort((a, b) => a.number - b.number).map(fieldOf)
    fields = { all, indexes: new Map(all.map(({ name }, index) => [name, index])) }
    fieldsOf.set(schema, fields)
  }
  return fields
}

function fieldOf(field: DescField): Field {
  const kind = kindOf(field)
  const wireType = kind === 'flag' || kind === 'int64' ? 0 : lengthDelimited
  const inner = kind === 'message' && field.fieldKind === 'message' ? knownFields(field.message) : null
  return { name: field.localName, kind, tag: (field.number << 3) | wireType, inner }
}

function kindOf(field: DescField): Kind {
  if (field.oneof !== undefined) return 'other'
  if (field.fieldKind === 'map') {
    const isOfValues = field.mapKind === 'message' && field.message.name === 'Value'
    return isOfValues && field.mapKey === ScalarType.STRING ? 'values' : 'other'
  }
  if (field.fieldKind === 'message') return isPlain(field.message) ? 'message' : 'other'
  const isList = field.fieldKind === 'list'
  if (field.fieldKind !== 'scalar' && !(isList && field.listKind === 'scalar')) return 'other'
  if (field.scalar === ScalarType.STRING) return isList ? 'texts' : 'text'
  if (field.scalar === ScalarType.INT64) return isList ? 'int64s' : 'int64'
  return field.scalar === ScalarType.BOOL && !isList ? 'flag' : 'other'
}

function isPlain({ fields }: DescMessage): boolean {
  return fields.every(({ fieldKind, oneof }) => fieldKind === 'scalar' && oneof === undefined)
}

/** Null where the library must write it. */
function givenOf({ all, indexes }: Fields, message: object, session: object | null): Given | null {
  const values = new Array<unknown>(all.length)
  // Each name that there is, and not each that there may be: V8 takes long to find that an object has no such field.
  for (const name in message) {
    const index = indexes.get(name)
    if (index !== undefined) values[index] = (message as Readonly<Record<string, unknown>>)[name]
  }
  const sessionIndex = session === null ? undefined : indexes.get('session')
  if (sessionIndex !== undefined) values[sessionIndex] = session
  let byteLength = 0
  for (let i = 0; i < all.length; i++) {
    const value = values[i]
    if (value === undefined) continue
    const field = all[i]
    const own = field.inner === null ? value : innerOf(field.inner, value)
    const valueByteLength = own === null ? null : fieldByteLength(field, own)
    if (valueByteLength === null) return null
    values[i] = own
    byteLength += valueByteLength
  }
  return { values, byteLength }
}

function innerOf(fields: Fields, value: unknown): Given | null {
  return typeof value === 'object' && value !== null ? givenOf(fields, value, null) : null
}

/** With its tags; null for a value that is none of the field's. */
function fieldByteLength({ kind, tag }: Field, value: unknown): number | null {
  const tagByteLength = tag < 0x80 ? 1 : 2
  let byteLength = 0
  switch (kind) {
    case 'text':
      if (typeof value !== 'string') return null
      return value === '' ? 0 : tagByteLength + delimitedByteLength(textByteLength(value))
    case 'flag':
      if (typeof value !== 'boolean') return null
      return value ? tagByteLength + 1 : 0
    case 'int64':
      if (!isInt64(value)) return null
      return value === 0n ? 0 : tagByteLength + varintByteLength(value)
    case 'texts':
      if (!Array.isArray(value)) return null
      for (const text of value as readonly unknown[]) {
        if (typeof text !== 'string') return null
        byteLength += tagByteLength + delimitedByteLength(textByteLength(text))
      }
      return byteLength
    case 'int64s':
      if (!Array.isArray(value) || !value.every(isInt64)) return null
      return value.length === 0 ? 0 : tagByteLength + delimitedByteLength(packedByteLength(value))
    case 'values':
      if (typeof value !== 'object' || value === null) return null
      for (const [key, one] of Object.entries(value)) {
        const own = valueByteLength(one)
        if (own === null) return null
        byteLength += tagByteLength + delimitedByteLength(entryByteLength(key, own))
      }
      return byteLength
    case 'message':
      return tagByteLength + delimitedByteLength((value as Given).byteLength)
    case 'other':
      return null
  }
}

function writeMessage(target: Buffer, start: number, { all }: Fields, { values }: Given): number {
  let at = start
  for (let i = 0; i < all.length; i++) {
    const value = values[i]
    if (value === undefined) continue
    const { kind, tag, inner } = all[i]
    if (kind === 'text') {
      if (value !== '') at = writeText(target, writeVarint(target, at, tag), value as string)
    } else if (kind === 'flag') {
      if (value === true) at = writeVarint(target, writeVarint(target, at, tag), 1)
    } else if (kind === 'int64') {
      if (value !== 0n) at = writeInt64(target, writeVarint(target, at, tag), value as bigint)
    } else if (kind === 'texts') {
      for (const text of value as readonly string[]) at = writeText(target, writeVarint(target, at, tag), text)
    } else if (kind === 'int64s') {
      const numbers = value as readonly bigint[]
      if (numbers.length === 0) continue
      at = writeVarint(target, writeVarint(target, at, tag), packedByteLength(numbers))
      for (const one of numbers) at = writeInt64(target, at, one)
    } else if (kind === 'values') {
      for (const [key, one] of Object.entries(value as Readonly<Record<string, Value>>)) {
        const own = valueByteLength(one)!
        at = writeVarint(target, writeVarint(target, at, tag), entryByteLength(key, own))
        at = writeText(target, writeVarint(target, at, (1 << 3) | lengthDelimited), key)
        at = writeVarint(target, writeVarint(target, at, (2 << 3) | lengthDelimited), own)
        at = writeValue(target, at, one)
      }
    } else {
      const own = value as Given
      at = writeVarint(target, writeVarint(target, at, tag), own.byteLength)
      at = writeMessage(target, at, inner!, own)
    }
  }
  return at
}

/** Of an entry of a map: a key, and a Value of so many bytes. */
function entryByteLength(key: string, valueByteLength: number): number {
  return 1 + delimitedByteLength(textByteLength(key)) + 1 + delimitedByteLength(valueByteLength)
}

/** Null for what is no Value. */
function valueByteLength(value: unknown): number | null {
  switch (typeof value) {
    case 'string':
      return 1 + delimitedByteLength(textByteLength(value))
    case 'boolean':
      return 2
    case 'number':
      return 9
    case 'bigint':
      return isInt64(value) ? 1 + varintByteLength(value) : null
    default:
      return isTime(value) && isInt64(value.timeNs) ? 1 + varintByteLength(value.timeNs) : null
  }
}

function isTime(value: unknown): value is { readonly timeNs: unknown } {
  return typeof value === 'object' && value !== null && 'timeNs' in value
}

/** Its one field, which is written also where it is empty. */
function writeValue(target: Buffer, at: number, value: Value): number {
  switch (typeof value) {
    case 'string':
      return writeText(target, writeVarint(target, at, (3 << 3) | lengthDelimited), value)
    case 'boolean':
      return writeVarint(target, writeVarint(target, at, 5 << 3), value ? 1 : 0)
    case 'number':
      return target.writeDoubleLE(value, writeVarint(target, at, (2 << 3) | fixed64))
    case 'bigint':
      return writeInt64(target, writeVarint(target, at, 1 << 3), value)
    default:
      return writeInt64(target, writeVarint(target, at, 4 << 3), value.timeNs)
  }
}

function isInt64(value: unknown): value is bigint {
  return typeof value === 'bigint' && BigInt.asIntN(64, value) === value
}

/** Of a length and what it is the length of. */
function delimitedByteLength(byteLength: number): number {
  let own = 1
  for (let rest = byteLength; rest >= 0x80; rest = Math.floor(rest / 0x80)) own++
  return own + byteLength
}

function packedByteLength(values: readonly bigint[]): number {
  return values.reduce((sum, value) => sum + varintByteLength(value), 0)
}

function varintByteLength(value: bigint): number {
  let byteLength = 1
  for (let rest = BigInt.asUintN(64, value); rest >= 0x80n; rest >>= 7n) byteLength++
  return byteLength
}

/** In UTF-8. */
function textByteLength(text: string): number {
  return isShortAscii(text) ? text.length : Buffer.byteLength(text)
}

function isShortAscii(text: string): boolean {
  if (text.length > asciiLengthMax) return false
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) >= 0x80) return false
  return true
}

function writeText(target: Buffer, at: number, text: string): number {
  if (!isShortAscii(text)) {
    const start = writeVarint(target, at, Buffer.byteLength(text))
    return start + target.write(text, start)
  }
  target[at] = text.length
  const start = at + 1
  for (let i = 0; i < text.length; i++) target[start + i] = text.charCodeAt(i)
  return start + text.length
}

function writeVarint(target: Buffer, at: number, value: number): number {
  let end = at
  let rest = value
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) target[end++] = (rest % 0x80) | 0x80
  target[end++] = rest
  return end
}

function writeInt64(target: Buffer, at: number, value: bigint): number {
  let end = at
  let rest = BigInt.asUintN(64, value)
  for (; rest >= 0x80n; rest >>= 7n) target[end++] = Number(rest & 0x7fn) | 0x80
  target[end++] = Number(rest)
  return end
}
