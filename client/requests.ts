// The engine's plain requests → messages of the wire.
import { create, type MessageInitShape, type MessageShape } from '@bufbuild/protobuf'
import { formatTimeNs } from '../engine/time.js'
import type { Value } from '../engine/frame/dtype.js'
import { shapedRequest } from '../engine/request-shape.js'
import type {
  CreateRequest,
  DeleteRequest,
  ExecuteRequest,
  HistoryRequest,
  IfExists,
  ReadRequest,
  Session,
  TableSchema,
  WriteRequest,
} from '../engine/requests.js'
import { InitialWriteRequestSchema } from '../proto/gen/envelope_pb.js'
import { requestBytes } from './request-bytes.js'
import {
  CreateRequestSchema,
  DeleteRequestSchema,
  ErrorOptions,
  ExecRequestSchema,
  HistoryRequestSchema,
  ReadRequestSchema,
  type TableSchemaSchema,
  type ValueSchema,
} from '../proto/gen/frames_pb.js'

/**
 * The wire's requests, made from the plain ones; a request without a session gets `session`. What is no request throws
 * INVALID_ARGUMENT.
 */
export class RequestMessages {
  readonly #session: Session

  constructor(session: Session) {
    this.#session = session
  }

  create(request: CreateRequest): MessageShape<typeof CreateRequestSchema> {
    const { schema, ifExists, ...same } = shapedRequest(request)
    return create(CreateRequestSchema, {
      ...same,
      session: this.#sessionOf(request),
      ...schemaOf(schema),
      ifExists: optionOf(ifExists),
    })
  }

  read(request: ReadRequest): MessageShape<typeof ReadRequestSchema> {
    const { schema, columns, segments, shardingKeys, followMs: _, ...same } = shapedRequest(request)
    return create(ReadRequestSchema, {
      ...same,
      session: this.#sessionOf(request),
      ...schemaOf(schema),
      columns: [...(columns ?? [])],
      segments: [...(segments ?? [])],
      shardingKeys: [...(shardingKeys ?? [])],
    })
  }

  /** The head of a write, with the frame in it that comes first, if any. */
  write(request: WriteRequest, initialFrame?: Uint8Array): MessageShape<typeof InitialWriteRequestSchema> {
    const { partitionKeys, ...same } = shapedRequest(request)
    return create(InitialWriteRequestSchema, {
      ...same,
      session: this.#sessionOf(request),
      partitionKeys: [...(partitionKeys ?? [])],
      initialData: initialFrame === undefined ? [] : [initialFrame],
    })
  }

  delete(request: DeleteRequest): MessageShape<typeof DeleteRequestSchema> {
    const { ifMissing, metrics, ...same } = shapedRequest(request)
    return create(DeleteRequestSchema, {
      ...same,
      session: this.#sessionOf(request),
      ifMissing: optionOf(ifMissing),
      metrics: [...(metrics ?? [])],
    })
  }

  /** The request as requestBytes takes it; null where the library must write it. */
  executeBytes(request: ExecuteRequest): Buffer | null {
    const shaped = shapedRequest(request)
    const { args } = shaped
    const plain = args === undefined ? shaped : { ...shaped, args: singleValues(args) }
    return requestBytes(ExecRequestSchema, plain, this.#sessionOf(request))
  }

  execute(request: ExecuteRequest): MessageShape<typeof ExecRequestSchema> {
    const { args, ...same } = shapedRequest(request)
    return create(ExecRequestSchema, { ...same, session: this.#sessionOf(request), args: valuesOf(singleValues(args)) })
  }

  history(request: HistoryRequest): MessageShape<typeof HistoryRequestSchema> {
    return create(HistoryRequestSchema, { ...shapedRequest(request), session: this.#sessionOf(request) })
  }

  /** As executeBytes. */
  readBytes(request: ReadRequest): Buffer | null {
    return requestBytes(ReadRequestSchema, shapedRequest(request), this.#sessionOf(request))
  }

  #sessionOf(request: { readonly session?: Session }): Session {
    return request.session ?? this.#session
  }
}

function optionOf(option: IfExists | undefined): ErrorOptions {
  return option === 'ignore' ? ErrorOptions.IGNORE : ErrorOptions.FAIL
}

function schemaOf(schema: TableSchema | undefined): { schema?: MessageInitShape<typeof TableSchemaSchema> } {
  if (schema === undefined) return {}
  const { aliases, fields, key, ...same } = schema
  return {
    schema: {
      ...same,
      aliases: [...(aliases ?? [])],
      fields: (fields ?? []).map(({ default: initial, properties, ...field }) => ({
        ...field,
        ...(initial === undefined ? {} : { default: messageOf(initial) }),
        properties: valuesOf(properties),
      })),
      ...(key === undefined
        ? {}
        : { key: { shardingKey: [...(key.shardingKey ?? [])], sortingKey: [...(key.sortingKey ?? [])] } }),
    },
  }
}

/** The wire has single values: a list travels as its JSON text. */
function singleValues(args: ExecuteRequest['args'] = {}): Readonly<Record<string, Value>> {
  if (hasNoLists(args)) return args
  const jsonOf = (value: Value): string => {
    if (typeof value === 'bigint') return value.toString()
    return JSON.stringify(typeof value === 'object' ? formatTimeNs(value.timeNs) : value)
  }
  return Object.fromEntries(
    Object.entries(args).map(([name, value]) => [name, isList(value) ? `[${value.map(jsonOf).join(',')}]` : value]),
  )
}

function hasNoLists(args: NonNullable<ExecuteRequest['args']>): args is Readonly<Record<string, Value>> {
  return !Object.values(args).some(isList)
}

function isList(value: Value | readonly Value[]): value is readonly Value[] {
  return Array.isArray(value)
}

function valuesOf(
  values: Readonly<Record<string, Value>> | undefined,
): Record<string, MessageInitShape<typeof ValueSchema>> {
  return Object.fromEntries(Object.entries(values ?? {}).map(([name, value]) => [name, messageOf(value)]))
}

function messageOf(value: Value): MessageInitShape<typeof ValueSchema> {
  switch (typeof value) {
    case 'string':
      return { value: { case: 'sval', value } }
    case 'boolean':
      return { value: { case: 'bval', value } }
    case 'bigint':
      return { value: { case: 'ival', value } }
    case 'number':
      return { value: { case: 'fval', value } }
    default:
      return { value: { case: 'tval', value: value.timeNs } }
  }
}
