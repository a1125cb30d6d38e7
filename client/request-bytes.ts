// Requests as wire bytes. The library writes a message field by field through reflection, which takes longer than all else
// that the client does before a small read leaves; here the fields of a message are looked up once.
import { type DescField, type DescMessage, ScalarType } from '@bufbuild/protobuf'
import { messagePrefixByteLength, writePrefix } from './message-reader.js'

type Kind = 'text' | 'flag' | 'int64' | 'texts' | 'int64s' | 'message' | 'other'

interface Field {
  readonly name: string
  readonly kind: Kind
  /** Number and wire type, one varint. */
  readonly tag: number
  readonly fields: readonly Field[] | null
}

/** Plain values by the names that the library gives to fields; absent ones are undefined. */
type PlainMessage = Readonly<Record<string, unknown>>

const lengthDelimited = 2
const fieldsOf = new WeakMap<DescMessage, readonly Field[]>()

/**
 * A message with the prefix of gRPC, byte for byte as the library writes it. Null where that must write it: it has fields of
 * other kinds than texts, flags, int64, lists of those, and messages of such fields, or values of other types than its fields.
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
    } else {
      const own = value as PlainMessage
      at = writeVarint(target, writeVarint(target, at, tag), messageByteLength(inner!, own)!)
      at = writeMessage(target, at, inner!, own)
    }
  }
  return at
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
