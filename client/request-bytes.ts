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
  readonly fields: readonly Field[] | null
}

/** Plain values by the names that the library gives to fields; absent ones are undefined. */
type PlainMessage = Readonly<Record<string, unknown>>

const fixed64 = 1
const lengthDelimited = 2
const fieldsOf = new WeakMap<DescMessage, readonly Field[]>()

/**
 * A message with the prefix of gRPC, byte for byte as the library writes it. Null where that must write it: it has fields of
 * other kinds than texts, flags, int64, lists of those, messages of such fields, and maps of text to Value, or values of other
 * types than its fields.
 */
export function requestBytes(schema: DescMessage, request: object): Buffer | null {
  const fields = knownFields(schema)
  const message = request as PlainMessage
  const byteLength = messageByteLength(fields, message)
  if (byteLength === null) return null
  const bytes = Buffer.allocUnsafe(messagePrefixByteLength + byteLength)
  writePrefix(bytes, byteLength)
  writeMessage(bytes, messagePrefixByteLength, fields, message)
  return bytes
}

function knownFields(schema: DescMessage): readonly Field[] {
  let fields = fieldsOf.get(schema)
  if (fields === undefined) {
    fields = [...schema.fields].sort((a, b) => a.number - b.number).map(fieldOf)
    fieldsOf.set(schema, fields)
  }
  return fields
}

function fieldOf(field: DescField): Field {
  const kind = kindOf(field)
  const wireType = kind === 'flag' || kind === 'int64' ? 0 : lengthDelimited
  const fields = kind === 'message' && field.fieldKind === 'message' ? knownFields(field.message) : null
  return { name: field.localName, kind, tag: (field.number << 3) | wireType, fields }
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

function messageByteLength(fields: readonly Field[], message: PlainMessage): number | null {
  let byteLength = 0
  for (const { name, kind, tag, fields: inner } of fields) {
    const value = message[name]
    if (value === undefined) continue
    const tagByteLength = tag < 0x80 ? 1 : 2
    if (kind === 'text') {
      if (typeof value !== 'string') return null
      if (value !== '') byteLength += tagByteLength + delimitedByteLength(Buffer.byteLength(value))
    } else if (kind === 'flag') {
      if (typeof value !== 'boolean') return null
      if (value) byteLength += tagByteLength + 1
    } else if (kind === 'int64') {
      if (!isInt64(value)) return null
      if (value !== 0n) byteLength += tagByteLength + varintByteLength(value)
    } else if (kind === 'texts') {
      if (!Array.isArray(value)) return null
      for (const text of value as readonly unknown[]) {
        if (typeof text !== 'string') return null
        byteLength += tagByteLength + delimitedByteLength(Buffer.byteLength(text))
      }
    } else if (kind === 'int64s') {
      if (!Array.isArray(value) || !value.every(isInt64)) return null
      if (value.length > 0) byteLength += tagByteLength + delimitedByteLength(packedByteLength(value))
    } else if (kind === 'values') {
      if (typeof value !== 'object' || value === null) return null
      for (const [key, one] of Object.entries(value)) {
        const own = valueByteLength(one)
        if (own === null) return null
        byteLength += tagByteLength + delimitedByteLength(entryByteLength(key, own))
      }
    } else {
      if (inner === null || typeof value !== 'object' || value === null) return null
      const own = messageByteLength(inner, value as PlainMessage)
      if (own === null) return null
      byteLength += tagByteLength + delimitedByteLength(own)
    }
  }
  return byteLength
}

function writeMessage(target: Buffer, start: number, fields: readonly Field[], message: PlainMessage): number {
  let at = start
  for (const { name, kind, tag, fields: inner } of fields) {
    const value = message[name]
    if (value === undefined) continue
    if (kind === 'text') {
      if (value !== '') at = writeText(target, writeVarint(target, at, tag), value as string)
    } else if (kind === 'flag') {
      if (value === true) at = writeVarint(target, writeVarint(target, at, tag), 1)
    } else if (kind === 'int64') {
      if (value !== 0n) at = writeInt64(target, writeVarint(target, at, tag), value as bigint)
    } else if (kind === 'texts') {
      for (const text of value as readonly string[]) at = writeText(target, writeVarint(target, at, tag), text)
    } else if (kind === 'int64s') {
      const values = value as readonly bigint[]
      if (values.length === 0) continue
      at = writeVarint(target, writeVarint(target, at, tag), packedByteLength(values))
      for (const one of values) at = writeInt64(target, at, one)
    } else if (kind === 'values') {
      for (const [key, one] of Object.entries(value as Readonly<Record<string, Value>>)) {
        const own = valueByteLength(one)!
        at = writeVarint(target, writeVarint(target, at, tag), entryByteLength(key, own))
        at = writeText(target, writeVarint(target, at, (1 << 3) | lengthDelimited), key)
        at = writeVarint(target, writeVarint(target, at, (2 << 3) | lengthDelimited), own)
        at = writeValue(target, at, one)
      }
    } else {
      const own = value as PlainMessage
      at = writeVarint(target, writeVarint(target, at, tag), messageByteLength(inner!, own)!)
      at = writeMessage(target, at, inner!, own)
    }
  }
  return at
}

/** Of an entry of a map: a key, and a Value of so many bytes. */
function entryByteLength(key: string, valueByteLength: number): number {
  return 1 + delimitedByteLength(Buffer.byteLength(key)) + 1 + delimitedByteLength(valueByteLength)
}

/** Null for what is no Value. */
function valueByteLength(value: unknown): number | null {
  switch (typeof value) {
    case 'string':
      return 1 + delimitedByteLength(Buffer.byteLength(value))
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

function writeText(target: Buffer, at: number, text: string): number {
  const start = writeVarint(target, at, Buffer.byteLength(text))
  return start + target.write(text, start)
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
