// Passwords and tokens in every field of every call, over gRPC, over HTTP and embedded: neither the history nor the log, at its
// most talkative, may hold one, in no spelling and not in part.
import { mkdtempSync, rmSync } from 'node:fs'
import { request as httpRequest } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import {
  create,
  type DescField,
  type DescMessage,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from '@bufbuild/protobuf'
import { Client, credentials } from '@grpc/grpc-js'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Engine, frameFromMap, openEngine, type Value } from '../dist/engine/index.js'
import {
  CreateRequestSchema,
  DeleteRequestSchema,
  ExecRequestSchema,
  HistoryRequestSchema,
  InitialWriteRequestSchema,
  ReadRequestSchema,
  ValueSchema,
  WriteRequestSchema,
} from '../dist/proto/gen/frames_pb.js'
import { readConfig } from '../dist/server/config.js'
import { openLog } from '../dist/server/log.js'
import { type RunningServer, startServer } from '../dist/server/start.js'
import { createForm, deleteForm, executeForm, historyForm, readForm } from '../dist/server/wire/requests.js'

const password = 'Pä55"W\\ord/+ 1%'
const token = 'ToKeN-0123456789-abcdefghij'
const argumentSecret = 'aRg-s3cret-8812'
const configured = { password: 'cOnf-s3cret-1', token: 'cOnf-K3y-771' }
const numberSecret = '90817263544536271'
const user = 'mallory'
const secrets = [password, token, argumentSecret, configured.password, configured.token, numberSecret]
const basic = (text: string) => Buffer.from(text).toString('base64')
/** Spellings that a message may have them in, and what is left of one that was cut. */
const forms = [
  ...secrets.flatMap((secret) => [
    secret,
    JSON.stringify(secret).slice(1, -1),
    encodeURIComponent(secret),
    secret.slice(0, 7),
    secret.toLowerCase(),
  ]),
  basic(`${user}:${password}`),
  basic(`__ACCESS_KEY:${token}`),
]
/** Long ones are cut in messages: here in the midst of a secret. */
const plants = [
  `a ${password} b ${token} c ${encodeURIComponent(password)} d ${JSON.stringify(password)}`,
  `${'x'.repeat(192)}${password}`,
  `${'x'.repeat(186)}${token}`,
]

const requests = {
  Read: { schema: ReadRequestSchema, path: '/read' },
  Write: { schema: InitialWriteRequestSchema, path: '/write' },
  Create: { schema: CreateRequestSchema, path: '/create' },
  Delete: { schema: DeleteRequestSchema, path: '/delete' },
  Exec: { schema: ExecRequestSchema, path: '/exec' },
  History: { schema: HistoryRequestSchema, path: '/history' },
} as const
type Method = keyof typeof requests
const methods = Object.keys(requests) as Method[]
const backends = ['kv', 'tsdb', 'stream', 'csv']
const commands = ['update', 'get', 'put', 'put_many', 'commit', 'offsets', 'ping', 'compact', 'series', 'infer', 'x']

let engine: Engine
let server: RunningServer
let client: Client
const folder = mkdtempSync(join(tmpdir(), 'framesd-secrets-'))
const logged: string[] = []

beforeAll(async () => {
  engine = await openEngine({
    workerCount: 1,
    report: (message, error) => logged.push(JSON.stringify([message, String(error)])),
    backends: [{ type: 'kv' }, { type: 'tsdb' }, { type: 'stream' }, { type: 'csv', rootDir: folder }],
  })
  await engine.create({ backend: 'stream', table: 't' })
  await engine.create({ backend: 'tsdb', table: 't', rate: '1/s' })
  await engine.write({ backend: 'kv', table: 't' }, frameFromMap({ a: [1n] }))
  await engine.write({ backend: 'csv', table: 't' }, frameFromMap({ a: [1n] }))
  const sink = new Writable({
    write(chunk: Buffer, _encoding, done) {
      logged.push(chunk.toString())
      done()
    },
  })
  const loopback = { host: '127.0.0.1', port: 0 }
  const config = `{username: default-user, password: ${configured.password}, sessionKey: ${configured.token}, backends: [{type: kv}, {type: tsdb}, {type: stream}, {type: csv, rootdir: ${JSON.stringify(folder)}}]}`
  server = await startServer({
    engine,
    config: readConfig(config),
    log: openLog('debug', sink),
    httpAddress: loopback,
    grpcAddress: loopback,
  })
  client = new Client(`127.0.0.1:${server.grpcPort}`, credentials.createInsecure())
})
afterAll(async () => {
  client.close()
  await server.stop()
  rmSync(folder, { recursive: true, force: true })
})

// ---- requests --------------------------------------------------------------------------------------------------------

type Plain = Record<string, unknown>

/** A message whose every text is this one; Values are texts, as HTTP's JSON has them. */
function planted(schema: DescMessage, text: string): Plain {
  return Object.fromEntries(schema.fields.flatMap((field) => plantedField(field, text) ?? []))
}

function plantedField(field: DescField, text: string): [string, unknown][] | null {
  const one = (message: DescMessage | undefined): unknown => {
    if (message === undefined) return text
    return message.typeName === ValueSchema.typeName ? text : planted(message, text)
  }
  switch (field.fieldKind) {
    case 'scalar':
      return typeof field.getDefaultValue?.() === 'string' || field.scalar === 9 ? [[field.localName, text]] : null
    case 'message':
      return [[field.localName, one(field.message)]]
    case 'list':
      if (field.listKind === 'message') return [[field.localName, [one(field.message)]]]
      return field.listKind === 'scalar' && field.scalar === 9 ? [[field.localName, [text]]] : null
    case 'map':
      return field.mapKind === 'message' ? [[field.localName, { [text]: one(field.message) }]] : null
    default:
      return null
  }
}

/** The same as protobuf's own form: texts of Values become Values. */
function initOf(schema: DescMessage, plain: Plain): Plain {
  const one = (message: DescMessage, value: unknown): unknown =>
    message.typeName === ValueSchema.typeName
      ? { value: { case: 'sval', value } }
      : create(message, initOf(message, value as Plain) as MessageInitShape<DescMessage>)
  return Object.fromEntries(
    Object.entries(plain).map(([name, value]) => {
      const field = schema.fields.find(({ localName }) => localName === name)!
      if (field.fieldKind === 'message') return [name, one(field.message, value)]
      if (field.fieldKind === 'list' && field.listKind === 'message')
        return [name, (value as unknown[]).map((each) => one(field.message, each))]
      if (field.fieldKind === 'map' && field.mapKind === 'message') {
        const entries = Object.entries(value as Plain)
        return [name, Object.fromEntries(entries.map(([key, each]) => [key, one(field.message, each)]))]
      }
      return [name, value]
    }),
  )
}

function messageOf<Desc extends DescMessage>(schema: Desc, plain: Plain): MessageShape<Desc> {
  return create(schema, initOf(schema, plain) as MessageInitShape<Desc>)
}

const session = { user, password, token, url: `https://${user}:${encodeURIComponent(password)}@host/`, id: token }

/** One request a field, all else being well, and one with all fields. */
function* requestsOf(method: Method): Generator<Plain> {
  const { schema } = requests[method]
  for (const text of plants) {
    yield { ...planted(schema, text), session: { ...(planted(schema, text)['session'] as Plain), ...session } }
    for (const backend of backends) {
      const fine = { session, backend, table: 't', ...(method === 'Exec' ? { command: 'x' } : {}) }
      for (const field of schema.fields) {
        if (field.localName === 'session') continue
        const [entry] = plantedField(field, text) ?? []
        if (entry === undefined) continue
        yield { ...fine, [entry[0]]: entry[1] }
        if (entry[0] === 'args') {
          const args = {
            key: text,
            data: text,
            records: text,
            group: text,
            shard_id: text,
            rows: text,
            expression: text,
          }
          for (const command of commands) {
            yield { ...fine, command, args }
            yield { ...fine, command, args: { password: argumentSecret, Access_Key: argumentSecret, [text]: text } }
          }
        }
      }
    }
  }
}

// ---- callers ---------------------------------------------------------------------------------------------------------

const identity = (bytes: Buffer) => bytes

function overGrpc(method: Method, plain: Plain): Promise<unknown> {
  const path = `/pb.Frames/${method}`
  const bytes = Buffer.from(toBinary(requests[method].schema, messageOf(requests[method].schema, plain)))
  return new Promise((resolve) => {
    if (method === 'Write') {
      const sink = client.makeClientStreamRequest(path, identity, identity, resolve)
      const request = messageOf(InitialWriteRequestSchema, plain)
      sink.on('error', () => undefined)
      sink.end(
        Buffer.from(
          toBinary(WriteRequestSchema, create(WriteRequestSchema, { type: { case: 'request', value: request } })),
        ),
      )
    } else if (method === 'Read' || method === 'History') {
      const stream = client.makeServerStreamRequest(path, identity, identity, bytes)
      stream.on('error', resolve).on('end', resolve).resume()
    } else client.makeUnaryRequest(path, identity, identity, bytes, resolve)
  })
}

function post(path: string, body: string | Uint8Array, headers: Record<string, string> = {}): Promise<void> {
  return new Promise((resolve, reject) => {
    const request = httpRequest({ port: server.httpPort, path, method: 'POST', headers, agent: false }, (response) =>
      response
        .resume()
        .on('end', () => resolve())
        .on('error', () => resolve()),
    )
    request.on('error', reject).end(body)
  })
}

function overHttp(method: Method, plain: Plain, headers: Record<string, string> = {}): Promise<void> {
  const { path, schema } = requests[method]
  if (method !== 'Write') return post(path, JSON.stringify(plain), headers)
  const head = toBinary(schema, messageOf(schema, plain))
  const length = Buffer.alloc(8)
  length.writeBigInt64LE(BigInt(head.length))
  return post(path, Buffer.concat([length, head]), headers)
}

async function embedded(method: Method, plain: Plain): Promise<void> {
  const bytes = toBinary(requests[method].schema, messageOf(requests[method].schema, plain))
  const drain = async (rows: AsyncIterable<unknown>): Promise<void> => {
    for await (const _ of rows);
  }
  switch (method) {
    case 'Read':
      return drain(engine.read(readForm.fromBytes(bytes)))
    case 'History':
      return drain(engine.history(historyForm.fromBytes(bytes)))
    case 'Create':
      return engine.create(createForm.fromBytes(bytes))
    case 'Delete':
      return engine.delete(deleteForm.fromBytes(bytes))
    case 'Exec':
      await engine.execute(executeForm.fromBytes(bytes))
      return
    case 'Write': {
      const { backend = '', table = '', ...rest } = plain
      const text = String(rest['expression'] ?? table)
      await engine.write({ ...rest, backend: String(backend), table: String(table) }, frameFromMap({ [text]: [text] }))
    }
  }
}

/** Some at once: what is said of one may not reach another. */
async function inTurns(calls: Iterable<() => Promise<unknown>>): Promise<number> {
  const iterator = calls[Symbol.iterator]()
  let count = 0
  const work = async (): Promise<void> => {
    for (let next = iterator.next(); next.done !== true; next = iterator.next()) {
      count++
      await next.value().catch(() => undefined)
    }
  }
  await Promise.all(Array.from({ length: 8 }, work))
  return count
}

// ---- what is found ---------------------------------------------------------------------------------------------------

/** All texts in a value, the keys of objects too. */
function textsOf(value: unknown): string[] {
  if (typeof value === 'string') return [value]
  if (Array.isArray(value)) return value.flatMap(textsOf)
  if (typeof value !== 'object' || value === null) return [String(value)]
  return Object.entries(value).flatMap(([key, each]) => [key, ...textsOf(each)])
}

function found(texts: readonly string[]): string[] {
  return texts.filter((text) => forms.some((form) => text.includes(form)))
}

async function rowsOfHistory(): Promise<Readonly<Record<string, Value | null>>[]> {
  const rows: Readonly<Record<string, Value | null>>[] = []
  for await (const frame of engine.history({})) rows.push(...frame.rows())
  return rows
}

async function expectNoSecret(least: number): Promise<void> {
  const rows = await rowsOfHistory()
  expect(rows.filter((row) => row['UserName'] === user).length).toBeGreaterThanOrEqual(least)
  expect(found(rows.flatMap(textsOf)).slice(0, 3)).toEqual([])
  expect(found(logged.flatMap((line) => textsOf(JSON.parse(line)))).slice(0, 3)).toEqual([])
  expect(rows.flatMap(textsOf).some((text) => text.includes('*****'))).toBe(true)
}

test.each([
  ['over gRPC', overGrpc],
  ['over HTTP', overHttp],
  ['embedded', embedded],
])('no secret of any field of any call is kept %s', { timeout: 120_000 }, async (_where, call) => {
  const before = (await rowsOfHistory()).length
  const lineCount = logged.length
  const count = await inTurns(
    (function* () {
      for (const method of methods) for (const plain of requestsOf(method)) yield () => call(method, plain)
    })(),
  )
  expect(count).toBeGreaterThan(800)
  const rows = await rowsOfHistory()
  // All but those of the history itself leave an entry.
  expect(rows.length - before).toBeGreaterThan(0.8 * count)
  if (call !== embedded) expect(logged.length - lineCount).toBeGreaterThanOrEqual(count)
  await expectNoSecret(0.5 * count)
})

test('no secret of an Authorization header is kept, understood or not', async () => {
  const sent = [
    [`Basic ${basic(`${user}:${password}`)}`, password],
    [`Basic ${basic(`__ACCESS_KEY:${token}`)}`, token],
    [`Bearer ${token}`, token],
    [`Digest ${token}`, token],
    [`Basic ${token}`, token],
    [token, token],
  ] as const
  const calls = sent.flatMap(([authorization, secret]) => {
    const own = `a ${secret} b ${authorization.replace(/^.* /, '')}`
    const target = `backend=csv;table=${own};fields=${own};filter=${own}`
    const body = JSON.stringify({ range: { from: own, to: own }, targets: [{ target, type: 'table' }], target })
    return [
      ...methods.flatMap((method) =>
        ['csv', own].map((backend) => () => {
          const fields = method === 'Exec' ? { command: own } : method === 'Read' ? { filter: own } : {}
          return overHttp(method, { backend, table: own, ...fields }, { authorization })
        }),
      ),
      ...['/query', '/search', `/read?${encodeURIComponent(own)}`].map(
        (path) => () => post(path, body, { authorization }),
      ),
    ]
  })
  await inTurns(calls)
  await expectNoSecret(1)
})

test('no secret of a body that is no request is kept', async () => {
  const bodies = [
    `{"session":{"password":${numberSecret}},"backend":"csv","table":"t"}`,
    `{"session":{"token":[${numberSecret}]},"backend":"csv","table":"t"}`,
    `{"session":{"password":"${token}",}`,
    `{"session":{"password":${token}}}`,
    `{"session":"${token}"`,
    `{"backend":"csv","session":{"password":"${token}"},"limit":"${token}"}`,
    token,
  ]
  for (const { path } of Object.values(requests)) for (const body of bodies) await post(path, body)
  for (const method of methods) {
    const bytes = Buffer.concat([Buffer.from([0x0a, 0x20, 0x2a, 0xff]), Buffer.from(token)])
    await new Promise((resolve) => client.makeUnaryRequest(`/pb.Frames/${method}`, identity, identity, bytes, resolve))
  }
  await expectNoSecret(0)
})
