// JSON objects → protobuf messages, driven by the messages' own descriptors, so that proto/frames.proto alone says which
// fields there are. The rules are those of the published server, which are not protobuf's JSON mapping: keys match in any
// letter case, in snake_case and camelCase; unknown keys are ignored; null is absent; enums are numbers; a pb.Value is a
// plain JSON value.
import { create, type DescField, type DescMessage, type MessageShape, ScalarType } from '@bufbuild/protobuf'
import { type ReflectMessage, reflect } from '@bufbuild/protobuf/reflect'
import { ValueSchema } from '../../proto/gen/frames_pb.js'
import { type Json, JsonError, JsonNumber } from './json.js'

const int64Min = -(2n ** 63n)
const int64Max = 2n ** 63n - 1n

/** Throws JsonError when a value has not the type of its field. */
export function messageFromJson<Desc extends DescMessage>(schema: Desc, json: Json): MessageShape<Desc> {
  const message = create(schema)
  if (json !== null) fillMessage(reflect(schema, message), json, 'the body')
  return message
}

/** `message_limit`, `MESSAGE_LIMIT` and `messageLimit` are one name. */
function plainName(name: string): string {
  return name.replaceAll('_', '').toLowerCase()
}

const fieldsByName = new WeakMap<DescMessage, ReadonlyMap<string, DescField>>()

function fieldsOf(schema: DescMessage): ReadonlyMap<string, DescField> {
  let fields = fieldsByName.get(schema)
  if (fields === undefined) {
    fields = new Map(schema.fields.map((field) => [plainName(field.name), field]))
    fieldsByName.set(schema, fields)
  }
  return fields
}

function fillMessage(message: ReflectMessage, json: Json, where: string): void {
  if (!(json instanceof Map)) throw wrongType(where, 'an object', json)
  const fields = fieldsOf(message.desc)
  for (const [key, value] of json) {
    const field = fields.get(plainName(key))
    if (field === undefined || value === null) continue
    fillField(message, field, value)
  }
}

function fillField(message: ReflectMessage, field: DescField, json: Json): void {
  switch (field.fieldKind) {
    case 'scalar':
      message.set(field, readScalar(field.scalar, json, field.name))
      return
    case 'enum':
      message.set(field, Number(readInt64(json, field.name)))
      return
    case 'message':
      message.set(field, readMessage(field.message, json, field.name))
      return
    case 'list': {
      if (!Array.isArray(json)) throw wrongType(field.name, 'an array', json)
      const list = message.get(field)
      list.clear()
      for (const [index, element] of json.entries()) {
        const where = `${field.name}[${index}]`
        if (field.listKind === 'scalar') list.add(readScalar(field.scalar, element, where))
        else if (field.listKind === 'message') list.add(readMessage(field.message, element, where))
        else list.add(Number(readInt64(element, where)))
      }
      return
    }
    case 'map': {
      if (!(json instanceof Map)) throw wrongType(field.name, 'an object', json)
      if (field.mapKind !== 'message') throw new JsonError(`${field.name} cannot be given as JSON`)
      const map = message.get(field)
      map.clear()
      // A null entry is one without a value, which is as good as none.
      for (const [key, value] of json) {
        if (value !== null) map.set(key, readMessage(field.message, value, `${field.name}.${key}`))
      }
    }
  }
}

function readMessage(schema: DescMessage, json: Json, where: string): ReflectMessage {
  if (schema.typeName === ValueSchema.typeName) return reflect(ValueSchema, readValue(json, where))
  const message = reflect(schema)
  if (json !== null) fillMessage(message, json, where)
  return message
}

/** A pb.Value: text, truth or number; a number written with digits only (and a sign) is an integer. */
function readValue(json: Json, where: string): MessageShape<typeof ValueSchema> {
  if (typeof json === 'string') return create(ValueSchema, { value: { case: 'sval', value: json } })
  if (typeof json === 'boolean') return create(ValueSchema, { value: { case: 'bval', value: json } })
  if (!(json instanceof JsonNumber)) throw wrongType(where, 'a string, a number or a boolean', json)
  if (/^-?[0-9]+$/.test(json.text)) {
    return create(ValueSchema, { value: { case: 'ival', value: readInt64(json, where) } })
  }
  return create(ValueSchema, { value: { case: 'fval', value: Number(json.text) } })
}

function readScalar(type: ScalarType, json: Json, where: string): string | boolean | bigint {
  switch (type) {
    case ScalarType.STRING:
      if (typeof json !== 'string') throw wrongType(where, 'a string', json)
      return json
    case ScalarType.BOOL:
      if (typeof json !== 'boolean') throw wrongType(where, 'true or false', json)
      return json
    case ScalarType.INT64:
      return readInt64(json, where)
    default:
      throw new JsonError(`${where} cannot be given as JSON`)
  }
}

/** An int64 as JSON: digits and a sign. `5.0`, `5e0` and "5" are not integers here. */
function readInt64(json: Json, where: string): bigint {
  if (!(json instanceof JsonNumber) || !/^-?[0-9]+$/.test(json.text)) throw wrongType(where, 'an integer', json)
  // 20 characters hold every int64; a longer text is not worth converting.
  const value = json.text.length <= 20 ? BigInt(json.text) : int64Max + 1n
  if (value < int64Min || value > int64Max) throw new JsonError(`${where} is beyond the range of int64`)
  return value
}

function wrongType(where: string, expected: string, json: Json): JsonError {
  return new JsonError(`${where} must be ${expected}, not ${typeName(json)}`)
}

function typeName(json: Json): string {
  if (json === null) return 'null'
  if (Array.isArray(json)) return 'an array'
  if (json instanceof Map) return 'an object'
  // Not which one: it may be a password.
  if (json instanceof JsonNumber) return 'a number'
  return typeof json === 'string' ? 'a string' : 'a boolean'
}
