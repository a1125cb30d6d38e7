// Requests of the wire → the engine's plain requests. What is empty on the wire (text, list, zero, false) is absent
// there. Bytes and JSON become the same protobuf messages first, so there is one translation.
import { type DescMessage, fromBinary, type MessageShape } from '@bufbuild/protobuf'
import { configureTextEncoding } from '@bufbuild/protobuf/wire'
import {
  type CreateRequest,
  type DeleteRequest,
  type ExecuteRequest,
  FramesError,
  type HistoryRequest,
  type IfExists,
  parseDurationMs,
  type ReadRequest,
  type Session,
  type TableSchema,
  type Value,
  type WriteRequest,
} from '../../engine/index.js'
import { InitialWriteRequestSchema, WriteRequestSchema } from '../../proto/gen/envelope_pb.js'
import type * as pb from '../../proto/gen/frames_pb.js'
import {
  CreateRequestSchema,
  DeleteRequestSchema,
  ErrorOptions,
  ExecRequestSchema,
  HistoryRequestSchema,
  ReadRequestSchema,
} from '../../proto/gen/frames_pb.js'
import { type Json, JsonError, JsonNumber, parseJson } from './json.js'
import { messageFromJson } from './json-message.js'
import { plainFields, plainMessage } from './plain-message.js'

// proto3 strings are UTF-8; the library's own decoder would put U+FFFD for what is not and so change a name in silence.
const strictUtf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
const encoder = new TextEncoder()
configureTextEncoding({
  encodeUtf8: (text) => new Uint8Array(encoder.encode(text)),
  decodeUtf8: (bytes) => strictUtf8.decode(bytes),
  checkUtf8: (text) => Buffer.from(text, 'utf8').toString('utf8') === text,
})

/** How one request looks from outside: how its bytes and its JSON become the plain request. Both throw FramesError. */
export interface RequestForm<Plain> {
  readonly fromBytes: (bytes: Uint8Array) => Plain
  readonly fromJson: (body: Uint8Array) => Plain
}

/** As requestForm; of bytes that hold what most requests do, the plain request is made at once. `complete` adds what a request always has. */
function fastForm<Desc extends DescMessage, Plain>(
  schema: Desc,
  toPlain: (message: MessageShape<Desc>) => Plain,
  complete: (message: Record<string, unknown>) => Plain,
): RequestForm<Plain> {
  const slow = requestForm(schema, toPlain)
  const fields = plainFields(schema)
  return {
    fromBytes: (bytes) => {
      const message = Buffer.isBuffer(bytes) ? plainMessage(fields, bytes) : null
      return message === null ? slow.fromBytes(bytes) : complete(message)
    },
    fromJson: slow.fromJson,
  }
}

/** What is always there, though it may be empty. */
function withNames(message: Record<string, unknown>): { backend: string; table: string } {
  message['backend'] ??= ''
  message['table'] ??= ''
  return message as { backend: string; table: string }
}

function requestForm<Desc extends DescMessage, Plain>(
  schema: Desc,
  toPlain: (message: MessageShape<Desc>) => Plain,
): RequestForm<Plain> {
  return {
    fromBytes: (bytes) => toPlain(decodeMessage(schema, bytes)),
    fromJson: (body) => toPlain(decodeJson(schema, body)),
  }
}

/** A control message from its JSON. Throws MALFORMED_REQUEST. */
function decodeJson<Desc extends DescMessage>(schema: Desc, body: Uint8Array): MessageShape<Desc> {
  return asMalformed(() => messageFromJson(schema, parseJson(strictUtf8.decode(body))))
}

function asMalformed<T>(decode: () => T): T {
  try {
    return decode()
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new FramesError('MALFORMED_REQUEST', reason, { cause: error })
  }
}

/** A control message from its bytes. Throws MALFORMED_REQUEST. */
function decodeMessage<Desc extends DescMessage>(schema: Desc, bytes: Uint8Array): MessageShape<Desc> {
  try {
    return fromBinary(schema, bytes, { readUnknownFields: false })
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new FramesError('MALFORMED_REQUEST', `can't decode ${schema.name}: ${reason}`, { cause: error })
  }
}

const plainReadForm = fastForm(
  ReadRequestSchema,
  (message): ReadRequest => ({
    ...tableOf(message),
    ...given({
      schema: schemaOf(message.schema),
      dataFormat: message.dataFormat,
      rowLayout: message.rowLayout,
      multiIndex: message.multiIndex,
      query: message.query,
      columns: message.columns,
      filter: message.filter,
      groupBy: message.groupBy,
      limit: message.limit,
      messageLimit: message.messageLimit,
      marker: message.marker,
      segments: message.segments,
      totalSegments: message.totalSegments,
      shardingKeys: message.shardingKeys,
      sortKeyRangeStart: message.sortKeyRangeStart,
      sortKeyRangeEnd: message.sortKeyRangeEnd,
      start: message.start,
      end: message.end,
      step: message.step,
      aggregators: message.aggregators,
      seek: message.seek,
      shardId: message.shardId,
      sequence: message.sequence,
      aggregationWindow: message.aggregationWindow,
      resetIndex: message.resetIndex,
    }),
  }),
  withNames,
)

/** Over HTTP a read can say `follow`, which the messages of gRPC have no field for. */
export const readForm: RequestForm<ReadRequest> = {
  fromBytes: plainReadForm.fromBytes,
  fromJson: (body) => {
    const plain = plainReadForm.fromJson(body)
    const followMs = asMalformed(() => followOf(parseJson(strictUtf8.decode(body))))
    return followMs === null ? plain : { ...plain, followMs }
  },
}

/** follow: seconds as a number, or a duration such as "30s". In ms; null when it is not given. */
function followOf(body: Json): number | null {
  if (!(body instanceof Map)) return null
  for (const [key, value] of body) {
    if (key.toLowerCase() !== 'follow' || value === null || value === '' || value === false) continue
    if (value instanceof JsonNumber && Number(value.text) >= 0) return Number(value.text) * 1000
    if (typeof value === 'string') return parseDurationMs(value)
    throw new JsonError('follow must be a number of seconds, or a duration such as "30s"')
  }
  return null
}

export const createForm = requestForm(
  CreateRequestSchema,
  (message): CreateRequest => ({
    ...tableOf(message),
    ...given({
      schema: schemaOf(message.schema),
      ifExists: ifExistsOf(message.ifExists, 'if_exists'),
      rate: message.rate,
      aggregates: message.aggregates,
      aggregationGranularity: message.aggregationGranularity,
      shards: message.shards,
      retentionHours: message.retentionHours,
    }),
  }),
)

export const deleteForm = requestForm(
  DeleteRequestSchema,
  (message): DeleteRequest => ({
    ...tableOf(message),
    ...given({
      filter: message.filter,
      ifMissing: ifExistsOf(message.ifMissing, 'if_missing'),
      start: message.start,
      end: message.end,
      metrics: message.metrics,
    }),
  }),
)

export const executeForm = fastForm(
  ExecRequestSchema,
  (message): ExecuteRequest => ({
    ...tableOf(message),
    command: message.command,
    ...given({ args: plainValuesOf(message.args), expression: message.expression }),
  }),
  (message) => ({ command: '', ...withNames(message) }),
)

export const historyForm = requestForm(
  HistoryRequestSchema,
  (message): HistoryRequest =>
    given({
      session: sessionOf(message.session),
      backend: message.backend,
      table: message.table,
      user: message.user,
      action: message.action,
      minStartTime: message.minStartTime,
      maxStartTime: message.maxStartTime,
      container: message.container,
      minDuration: message.minDuration,
      maxDuration: message.maxDuration,
    }),
)

/** The head of a write, and the frame that came with it. */
export interface WriteHead {
  readonly request: WriteRequest
  readonly initialFrame: Uint8Array | null
}

/** The first message of an HTTP write. Throws MALFORMED_REQUEST. */
export function decodeWriteHead(bytes: Uint8Array): WriteHead {
  return writeHeadOf(decodeMessage(InitialWriteRequestSchema, bytes))
}

/** One message of a gRPC write: its head, or a frame, or neither. Throws MALFORMED_REQUEST. */
export function decodeWriteMessage(bytes: Uint8Array): WriteHead | Uint8Array | null {
  const message = decodeMessage(WriteRequestSchema, bytes)
  const frame = joinParts(message.frame)
  if (message.request === undefined) return frame
  if (frame !== null) throw new FramesError('MALFORMED_REQUEST', 'a WriteRequest holds both a request and a frame')
  return writeHeadOf(message.request)
}

function writeHeadOf(message: MessageShape<typeof InitialWriteRequestSchema>): WriteHead {
  const request = {
    ...tableOf(message),
    ...given({
      expression: message.expression,
      condition: message.condition,
      partitionKeys: message.partitionKeys,
      saveMode: message.saveMode,
      more: message.more,
    }),
  }
  return { request, initialFrame: joinParts(message.initialData) }
}

/** A frame from the records it was split over: merging messages is joining their bytes. No record: no frame. */
function joinParts(parts: readonly Uint8Array[]): Uint8Array | null {
  if (parts.length === 0) return null
  return parts.length === 1 ? parts[0] : Buffer.concat(parts)
}

type Given<T> = { [K in keyof T]?: Exclude<T[K], undefined> }

/** Leaves out what is not set: undefined, and what the wire cannot tell from it (empty text and lists, zero, false). */
function given<T extends object>(fields: T): Given<T> {
  const kept: Given<T> = {}
  for (const name in fields) {
    const value = fields[name]
    const isEmptyList = Array.isArray(value) && value.length === 0
    if (value !== undefined && value !== '' && value !== 0n && value !== false && !isEmptyList) {
      kept[name] = value as Exclude<T[typeof name], undefined>
    }
  }
  return kept
}

function tableOf(message: { backend: string; table: string; session?: pb.Session }): {
  backend: string
  table: string
  session?: Session
} {
  return { backend: message.backend, table: message.table, ...given({ session: sessionOf(message.session) }) }
}

function sessionOf(session: pb.Session | undefined): Session | undefined {
  if (session === undefined) return undefined
  const { url, container, path, user, password, token, id } = session
  return given({ url, container, path, user, password, token, id })
}

function ifExistsOf(option: ErrorOptions, name: string): IfExists | undefined {
  if (option === ErrorOptions.FAIL) return undefined
  if (option === ErrorOptions.IGNORE) return 'ignore'
  throw new FramesError('INVALID_ARGUMENT', `${name} is ${option}, neither 0 (FAIL) nor 1 (IGNORE)`)
}

function schemaOf(schema: pb.TableSchema | undefined): TableSchema | undefined {
  if (schema === undefined) return undefined
  return given({
    type: schema.type,
    namespace: schema.namespace,
    name: schema.name,
    doc: schema.doc,
    aliases: schema.aliases,
    fields: schema.fields.map((field) => ({
      name: field.name,
      ...given({
        doc: field.doc,
        type: field.type,
        properties: plainValuesOf(field.properties),
      }),
      // A default may well be 0, false or "".
      ...(field.default?.value.case === undefined ? {} : { default: plainValueOf(field.default) }),
    })),
    key:
      schema.key === undefined
        ? undefined
        : given({ shardingKey: schema.key.shardingKey, sortingKey: schema.key.sortingKey }),
  })
}

/** The entries that have a value; undefined when there are none. */
function plainValuesOf(values: Readonly<Record<string, pb.Value>>): Record<string, Value> | undefined {
  const entries = Object.entries(values)
    .filter(([, value]) => value.value.case !== undefined)
    .map(([name, value]): [string, Value] => [name, plainValueOf(value)])
  // fromEntries defines properties, so that an entry named __proto__ is an entry.
  return entries.length === 0 ? undefined : Object.fromEntries(entries)
}

function plainValueOf({ value }: pb.Value): Value {
  switch (value.case) {
    case 'tval':
      return { timeNs: value.value }
    case 'ival':
    case 'fval':
    case 'sval':
    case 'bval':
      return value.value
    case undefined:
      throw new FramesError('MALFORMED_REQUEST', 'a Value without a value')
  }
}
