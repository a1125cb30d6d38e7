// Messages of the wire → the JSON bodies of HTTP: snake_case keys, int64 with all its digits, enums as numbers, a
// pb.Value as a plain JSON value. Fields that are not set are left out.
import type { DescField, DescMessage, MessageShape } from '@bufbuild/protobuf'
import { type ReflectMessage, reflect } from '@bufbuild/protobuf/reflect'
import { FramesError } from '../engine/errors.js'
import { ValueSchema } from '../proto/gen/frames_pb.js'

/** Throws INVALID_ARGUMENT for a value that JSON has no form for: a time, a number that is not finite. */
export function jsonOf<Desc extends DescMessage>(schema: Desc, message: MessageShape<Desc>): string {
  return messageText(reflect(schema, message))
}

function messageText(message: ReflectMessage): string {
  const fields = message.fields.filter((field) => message.isSet(field))
  return `{${fields.map((field) => `${JSON.stringify(field.name)}:${fieldText(message, field)}`).join(',')}}`
}

function fieldText(message: ReflectMessage, field: DescField): string {
  switch (field.fieldKind) {
    case 'message':
      return elementText(message.get(field), field.name)
    case 'list':
      return `[${[...message.get(field)].map((element) => elementText(element, field.name)).join(',')}]`
    case 'map': {
      const entries = [...message.get(field)]
      return `{${entries.map(([key, value]) => `${JSON.stringify(String(key))}:${elementText(value, String(key))}`).join(',')}}`
    }
    default:
      return elementText(message.get(field), field.name)
  }
}

function elementText(element: unknown, name: string): string {
  if (isReflected(element)) {
    return element.desc.typeName === ValueSchema.typeName ? valueText(element, name) : messageText(element)
  }
  if (typeof element === 'bigint') return element.toString()
  return JSON.stringify(element)
}

function isReflected(element: unknown): element is ReflectMessage {
  return typeof element === 'object' && element !== null && 'desc' in element && 'fields' in element
}

function valueText(message: ReflectMessage, name: string): string {
  const { value } = message.message as MessageShape<typeof ValueSchema>
  if (value.case === 'tval') throw new FramesError('INVALID_ARGUMENT', `${name}: a time cannot be sent over HTTP`)
  if (value.case !== 'fval') return elementText(value.value ?? null, name)
  if (!Number.isFinite(value.value)) {
    throw new FramesError('INVALID_ARGUMENT', `${name}: ${value.value} cannot be sent over HTTP`)
  }
  // A number of digits alone is an integer to the server.
  const text = JSON.stringify(value.value)
  return /^-?[0-9]+$/.test(text) ? `${text}.0` : text
}
