import { readFileSync } from 'node:fs'
import { connect as connectHttp2, type IncomingHttpHeaders } from 'node:http2'
import { connect as connectTcp } from 'node:net'
import { deflateSync, gzipSync } from 'node:zlib'
import {
  create,
  type DescMessage,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from '@bufbuild/protobuf'
import {
  Client,
  type ClientReadableStream,
  type ClientWritableStream,
  credentials,
  type Metadata,
  type ServiceError,
  status,
} from '@grpc/grpc-js'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { FramesError } from '../dist/engine/errors.js'
import { Expansions } from '../dist/server/expansions.js'
import { ExecResponseSchema } from '../dist/proto/gen/envelope_pb.js'
import {
  CreateRequestSchema,
  DeleteRequestSchema,
  ExecRequestSchema,
  HistoryRequestSchema,
  ReadRequestSchema,
  VersionResponseSchema,
  WriteRequestSchema,
  WriteResposeSchema,
} from '../dist/proto/gen/frames_pb.js'
import { defectTable, eventually, missingTable, within } from './fake-engine.js'
import { type Fixture, startFixture } from './server-fixture.js'

const MiB = 1024 * 1024
const identity = (bytes: Buffer) => bytes
const golden = (name: string) => readFileSync(new URL(`golden/${name}`, import.meta.url))

let server: Fixture
let client: Client

async function restart(options: Parameters<typeof startFixture>[0] = {}): Promise<void> {
  await stop()
  server = await startFixture(options)
  client = new Client(`127.0.0.1:${server.grpcPort}`, credentials.createInsecure(), {
    'grpc.max_receive_message_length': 128 * MiB,
    'grpc.max_send_message_length': -1,
    'grpc.use_local_subchannel_pool': 1,
    'grpc.enable_retries': 0,
  })
}

async function stop(): Promise<void> {
  client?.close()
  await server?.stop()
}

beforeEach(() => restart())
afterEach(stop)

function bytesOf<Desc extends DescMessage>(schema: Desc, fields: MessageInitShape<Desc>): Buffer {
  return Buffer.from(toBinary(schema, create(schema, fields)))
}

function unary(method: string, request: Buffer, options: { deadline?: Date } = {}): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest(`/pb.Frames/${method}`, identity, identity, request, options, (error, reply) =>
      error ? reject(error) : resolve(reply ?? Buffer.alloc(0)),
    )
  })
}

function stream(method: string, request: Buffer): ClientReadableStream<Buffer> {
  return client.makeServerStreamRequest(`/pb.Frames/${method}`, identity, identity, request)
}

async function collect(method: string, request: Buffer): Promise<Buffer[]> {
  const messages: Buffer[] = []
  for await (const message of stream(method, request)) messages.push(message)
  return messages
}

interface Upload {
  readonly sink: ClientWritableStream<Buffer>
  readonly reply: Promise<{ message: MessageShape<typeof WriteResposeSchema>; trailer: Metadata }>
}

function upload(): Upload {
  let trailer: Metadata | undefined
  let sink: ClientWritableStream<Buffer> | undefined
  const reply = new Promise<{ message: MessageShape<typeof WriteResposeSchema>; trailer: Metadata }>(
    (resolve, reject) => {
      let message: Buffer | undefined
      sink = client.makeClientStreamRequest('/pb.Frames/Write', identity, identity, (error, value) => {
        if (error) reject(error)
        else message = value
      })
      sink.on('status', (ended) => {
        trailer = ended.metadata
        if (message !== undefined) resolve({ message: fromBinary(WriteResposeSchema, message), trailer })
      })
    },
  )
  reply.catch(() => {})
  if (sink === undefined) throw new Error('no stream')
  return { sink, reply }
}

async function write(...messages: Buffer[]): Promise<Awaited<Upload['reply']>> {
  const { sink, reply } = upload()
  for (const message of messages) sink.write(message)
  sink.end()
  return reply
}

const head = (fields: object = {}) =>
  bytesOf(WriteRequestSchema, {
    type: { case: 'request', value: { backend: 'kv', table: 't', ...fields } },
  })

/** A WriteRequest that holds a frame of so many bytes, opaque to the server. */
function frameMessage(byteLength: number, fill = 1): Buffer {
  const lengthBytes: number[] = []
  for (let rest = byteLength; ; rest = Math.floor(rest / 128)) {
    lengthBytes.push(rest < 128 ? rest : (rest % 128) | 0x80)
    if (rest < 128) break
  }
  return Buffer.concat([Buffer.from([0x12, ...lengthBytes]), Buffer.alloc(byteLength, fill)])
}

async function failure(promise: Promise<unknown>): Promise<ServiceError> {
  try {
    await promise
  } catch (error) {
    return error as ServiceError
  }
  throw new Error('the call did not fail')
}

const readOf = (table: string, fields: object = {}) => bytesOf(ReadRequestSchema, { backend: 'kv', table, ...fields })

describe('calls of one message', () => {
  test('version answers the line of the published client', async () => {
    expect(fromBinary(VersionResponseSchema, await unary('Version', Buffer.alloc(0))).version).toBe('v0.13.13')
  })

  test('the version of an older line is answered byte for byte', async () => {
    await restart({ config: '{version: v0.10.14, backends: [{type: kv}]}' })
    expect(await unary('Version', Buffer.alloc(0))).toEqual(golden('version_response.bin'))
  })

  test('the version answered is configurable', async () => {
    await restart({ config: '{version: v1.2.3, backends: [{type: kv}]}' })
    expect(fromBinary(VersionResponseSchema, await unary('Version', Buffer.alloc(0))).version).toBe('v1.2.3')
  })

  test('create passes every field of the request', async () => {
    expect(await unary('Create', golden('create_request_stream.bin'))).toHaveLength(0)
    await unary('Create', golden('create_request_csv_schema.bin'))
    const session = { container: 'bigdata', user: 'u1' }
    expect(server.engine.asked).toEqual([
      {
        verb: 'create',
        request: { session, backend: 'stream', table: 's1', ifExists: 'ignore', shards: 2n, retentionHours: 48n },
      },
      {
        verb: 'create',
        request: {
          session,
          backend: 'csv',
          table: 'x.csv',
          schema: {
            type: 'type',
            namespace: 'ns',
            name: 'n',
            doc: 'd',
            fields: [
              { name: 'field1', default: '', type: 't1' },
              { name: 'f2', doc: 'doc', default: 5n, type: 'long', properties: { p: 1.5 } },
            ],
            key: { shardingKey: ['field1'], sortingKey: ['f2'] },
          },
        },
      },
    ])
  })

  test('delete passes every field, and nosql means kv', async () => {
    await unary('Delete', golden('delete_request.bin'))
    expect(server.engine.asked[0].request).toEqual({
      session: { container: 'bigdata', user: 'u1' },
      backend: 'kv',
      table: 't1',
      filter: 'a>1',
      ifMissing: 'ignore',
      metrics: ['cpu'],
    })
  })

  test('nosql stays nosql when a backend is really named so', async () => {
    await restart({ config: '{backends: [{type: kv}, {type: kv, name: nosql}]}' })
    await unary('Delete', golden('delete_request.bin'))
    expect(server.engine.asked[0].request).toMatchObject({ backend: 'nosql' })
  })

  test('execute passes arguments with their types and answers with the frame', async () => {
    const frame = golden('exec_response_frame.bin').subarray(2)
    server.engine.commandFrame = frame
    expect(await unary('Exec', golden('exec_request_args.bin'))).toEqual(golden('exec_response_frame.bin'))
    expect(server.engine.asked[0].request).toMatchObject({
      command: 'update',
      args: { b: true, empty: '', expression: 'a=1', f: 1.5, key: 'k1', n: -3n, zero: 0n },
    })
  })

  test('execute leaves the frame unset when the command has none', async () => {
    const reply = await unary('Exec', golden('exec_request_args.bin'))
    expect(reply).toHaveLength(0)
    expect(fromBinary(ExecResponseSchema, reply).frame).toEqual([])
  })

  test('a frame split over several records is joined', async () => {
    const parts = Buffer.from([0x12, 2, 1, 2, 0x12, 1, 3])
    await write(head(), parts)
    expect(server.engine.frames).toEqual([Buffer.from([1, 2, 3])])
  })

  test('a request without a session is served as an empty session', async () => {
    await unary('Create', bytesOf(CreateRequestSchema, { backend: 'kv', table: 't' }))
    expect(server.engine.asked[0].request).toEqual({ backend: 'kv', table: 't', session: {} })
  })

  test('calls of different sessions that follow one another have each its own', async () => {
    await restart({ config: '{container: box, backends: [{type: kv}]}' })
    const sessions = [
      { container: 'a', user: 'u1' },
      { container: 'a', user: 'u1' },
      { container: 'b', user: 'u1' },
      { container: 'b', user: 'u1', password: 'pw', token: 'tk' },
      { container: 'b', user: 'u2', path: 'p' },
      {},
      { container: 'a', user: 'u1' },
    ]
    for (const session of sessions)
      await unary('Create', bytesOf(CreateRequestSchema, { backend: 'kv', table: 't', session }))
    expect(server.engine.asked.map(({ request }) => request.session)).toEqual(
      sessions.map(({ password: _password, token: _token, ...session }) => ({ container: 'box', ...session })),
    )
  })

  test('empty fields of a session come from the configuration', async () => {
    await restart({ config: '{container: box, username: joe, password: secret, backends: [{type: kv}]}' })
    await unary('Create', bytesOf(CreateRequestSchema, { backend: 'kv', table: 't', session: { container: 'mine' } }))
    expect(server.engine.asked[0].request.session).toEqual({ container: 'mine', user: 'joe' })
  })
})

test.each(['v1', 'v1alpha'])('reflection %s tells the services and the contract', async (version) => {
  const method = `/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`
  const call = client.makeBidiStreamRequest(method, identity, identity)
  // ServerReflectionRequest: list_services is field 7, file_containing_symbol field 4.
  const ask = (field: number, text: string) =>
    call.write(Buffer.from([(field << 3) | 2, text.length, ...Buffer.from(text)]))
  ask(7, '*')
  ask(4, 'pb.Frames')
  call.end()
  const answers: Buffer[] = []
  for await (const answer of call) answers.push(answer)
  expect(answers).toHaveLength(2)
  expect(answers[0].includes('pb.Frames')).toBe(true)
  expect(answers[1].includes('InitialWriteRequest')).toBe(true)
})

describe('errors', () => {
  const cases: [string, string, Buffer, number, string][] = [
    ['create without a table', 'Create', bytesOf(CreateRequestSchema, { backend: 'kv' }), 3, 'missing parameters'],
    ['delete without a backend', 'Delete', bytesOf(DeleteRequestSchema, { table: 't' }), 3, 'missing parameters'],
    ['execute without a table', 'Exec', bytesOf(ExecRequestSchema, { backend: 'kv' }), 3, 'missing parameters'],
    [
      'create on an unknown backend',
      'Create',
      bytesOf(CreateRequestSchema, { backend: 'KV', table: 't' }),
      3,
      'unknown backend - KV',
    ],
    [
      'execute on an unknown backend',
      'Exec',
      bytesOf(ExecRequestSchema, { backend: '../kv', table: 't' }),
      3,
      'unknown backend - ../kv',
    ],
    [
      'create of a table that fails',
      'Create',
      bytesOf(CreateRequestSchema, { backend: 'kv', table: missingTable }),
      5,
      "error creating table: no table 'missing'",
    ],
    [
      'delete of a missing table',
      'Delete',
      bytesOf(DeleteRequestSchema, { backend: 'kv', table: missingTable }),
      5,
      "can't delete: no table 'missing'",
    ],
    [
      'execute on a missing table',
      'Exec',
      bytesOf(ExecRequestSchema, { backend: 'kv', table: missingTable }),
      5,
      "can't exec: no table 'missing'",
    ],
    ['bytes that are no message', 'Create', Buffer.from('garbage'), 3, "can't decode CreateRequest"],
    [
      'an if_exists that is neither FAIL nor IGNORE',
      'Create',
      Buffer.concat([bytesOf(CreateRequestSchema, { backend: 'kv', table: 't' }), Buffer.from([0x28, 7])]),
      3,
      'if_exists is 7',
    ],
    [
      'a text that is not UTF-8',
      'Create',
      Buffer.concat([bytesOf(CreateRequestSchema, { backend: 'kv' }), Buffer.from([0x1a, 1, 0xff])]),
      3,
      "can't decode CreateRequest",
    ],
  ]
  test.each(cases)('%s', async (_name, method, request, code, text) => {
    const error = await failure(unary(method, request))
    expect(error.code).toBe(code)
    expect(error.details.startsWith(text)).toBe(true)
  })

  test('reading from an unknown backend quotes its name', async () => {
    const error = await failure(collect('Read', bytesOf(ReadRequestSchema, { backend: 'kv ', table: 't' })))
    expect(error.code).toBe(status.INVALID_ARGUMENT)
    expect(error.details).toMatch(/^unknown backend - "kv "/)
  })

  test('a failed set-up of a read and a failed iteration have their own prefixes', async () => {
    expect((await failure(collect('Read', readOf(missingTable)))).details).toMatch(/^can't query: no table/)
    server.engine.answer = function* () {
      yield Buffer.from([1])
      throw new FramesError('DATA_DAMAGED', 'block 7 is damaged')
    }
    const messages: Buffer[] = []
    const reading = async () => {
      for await (const message of stream('Read', readOf('t'))) messages.push(message)
    }
    const error = await failure(reading())
    expect(messages).toEqual([Buffer.from([1])])
    expect(error.code).toBe(status.DATA_LOSS)
    expect(error.details).toMatch(/^error during iteration: block 7 is damaged/)
  })

  test('an error that names itself one of iteration has no other prefix, also before the first message', async () => {
    // biome-ignore lint/correctness/useYield: it fails before it has a message.
    server.engine.answer = function* () {
      throw new FramesError('COLUMN_NOT_FOUND', "error during iteration: column 'x' doesn't exist")
    }
    const { details } = await failure(collect('Read', readOf('t')))
    expect(details).toMatch(/^error during iteration: column 'x' doesn't exist/)
  })

  test('a defect shows its number and nothing of itself, and the log has all of it', async () => {
    const error = await failure(unary('Create', bytesOf(CreateRequestSchema, { backend: 'kv', table: defectTable })))
    expect(error.code).toBe(status.INTERNAL)
    expect(error.details).toMatch(/^error creating table: internal error \(request 1\)/)
    expect(error.details).not.toMatch(/home|secret|TypeError/)
    expect(server.logged.join('')).toMatch(/secret detail of \/home\/framesd/)
  })

  test('UNAVAILABLE is never answered, whatever the engine says', async () => {
    server.engine.answer = () => {
      throw new FramesError('SHUTTING_DOWN', 'closing')
    }
    expect((await failure(collect('Read', readOf('t')))).code).toBe(status.ABORTED)
  })

  test('a very long error text, and a text with lone surrogates, reach the client', async () => {
    server.engine.answer = () => {
      throw new FramesError('INVALID_ARGUMENT', `bad \ud800 filter ${'ü'.repeat(100_000)}`)
    }
    const error = await failure(collect('Read', readOf('t')))
    expect(error.code).toBe(status.INVALID_ARGUMENT)
    expect(error.details).toMatch(/^can't query: bad \ufffd filter ü+\.\.\.$/)
  })

  test('unknown methods are UNIMPLEMENTED', async () => {
    expect((await failure(unary('Nothing', Buffer.alloc(0)))).code).toBe(status.UNIMPLEMENTED)
  })

  test('a control message above its limit is RESOURCE_EXHAUSTED', async () => {
    const request = bytesOf(CreateRequestSchema, { backend: 'kv', table: 'x'.repeat(9 * MiB) })
    expect((await failure(unary('Create', request))).code).toBe(status.RESOURCE_EXHAUSTED)
  })

  test('a message of 129 MiB is RESOURCE_EXHAUSTED and its connection serves the next call', async () => {
    await unary('Version', Buffer.alloc(0))
    const error = await failure(write(head(), frameMessage(129 * MiB)))
    expect(error.code).toBe(status.RESOURCE_EXHAUSTED)
    await unary('Version', Buffer.alloc(0))
    await eventually('the write has ended in the log', () => server.logged.some((line) => line.includes('"write"')))
  })
})

describe('reads', () => {
  test('a read passes its fields and sends the frames one message each', async () => {
    server.engine.answer = () => [Buffer.from('one'), Buffer.from('two')]
    expect(await collect('Read', golden('read_request_kv.bin'))).toEqual([Buffer.from('one'), Buffer.from('two')])
    expect(server.engine.asked).toEqual([
      {
        verb: 'read',
        format: 'wire',
        request: {
          session: { container: 'bigdata', user: 'u1' },
          backend: 'kv',
          table: 't1',
          columns: ['n1', 'idx'],
          filter: "n1>5 AND starts(s,'a')",
          messageLimit: 100n,
          segments: [0n, 2n],
          totalSegments: 4n,
          shardingKeys: ['mike', 'joe'],
          sortKeyRangeStart: 'bb',
          resetIndex: true,
        },
      },
    ])
  })

  test('an empty session is a session', async () => {
    expect(await collect('Read', golden('read_request_stream_empty_session.bin'))).toEqual([])
    expect(server.engine.asked[0].request).toMatchObject({ session: {}, seek: 'seq', shardId: '0', sequence: 12n })
  })

  test('row_layout and data_format change nothing', async () => {
    await collect('Read', readOf('t', { rowLayout: true, dataFormat: 'arrow' }))
    expect(server.engine.asked[0].format).toBe('wire')
  })

  test('the configured limit holds for reads that set none', async () => {
    await restart({ config: '{limit: 7, backends: [{type: kv}]}' })
    await collect('Read', readOf('t'))
    await collect('Read', readOf('t', { limit: 3n }))
    expect(server.engine.asked.map(({ request }) => (request as { limit?: bigint }).limit)).toEqual([7n, 3n])
  })

  test('messages in shared memory arrive as they were when they were given', async () => {
    const shared = new Uint8Array(new SharedArrayBuffer(MiB))
    server.engine.answer = function* () {
      for (let index = 1; index <= 20; index++) yield shared.fill(index)
    }
    const messages = await collect('Read', readOf('t'))
    expect(messages.map((message) => [message[0], message[MiB - 1]])).toEqual(
      Array.from({ length: 20 }, (_, index) => [index + 1, index + 1]),
    )
  })

  test('history passes its filters', async () => {
    server.engine.answer = () => [Buffer.from('h')]
    expect(await collect('History', golden('history_request.bin'))).toEqual([Buffer.from('h')])
    expect(server.engine.asked[0].request).toEqual({
      session: { container: 'bigdata', user: 'u1' },
      backend: 'kv',
      table: 't1',
      user: 'u',
      action: 'read',
      minStartTime: 'now-1d',
      maxStartTime: 'now',
      container: 'bigdata',
      minDuration: 5n,
      maxDuration: 9n,
    })
  })

  test('history knows nosql as kv', async () => {
    await collect('History', bytesOf(HistoryRequestSchema, { backend: 'nosql' }))
    expect(server.engine.asked[0].request).toMatchObject({ backend: 'kv' })
  })

  test('history that is off says so', async () => {
    await restart({ config: '{disableHistory: true, backends: [{type: kv}]}' })
    const error = await failure(collect('History', Buffer.alloc(0)))
    expect(error.details).toMatch(
      /^history server was not initialized properly\. To enable this feature, please contact the system administrator/,
    )
  })

  test('a reader that stops reading stops the engine', async () => {
    server.engine.answer = function* () {
      for (let index = 0; index < 1000; index++) yield Buffer.alloc(MiB)
    }
    // grpc-js reads on without bound until its caller first reads, so the slow reader is a bare HTTP/2 client.
    const session = connectHttp2(`http://127.0.0.1:${server.grpcPort}`)
    const request = session.request({
      ':method': 'POST',
      ':path': '/pb.Frames/Read',
      'content-type': 'application/grpc',
      te: 'trailers',
    })
    const message = readOf('t')
    const prefix = Buffer.alloc(5)
    prefix.writeUInt32BE(message.byteLength, 1)
    request.end(Buffer.concat([prefix, message]))
    await new Promise((resolve) => request.once('response', resolve))
    await new Promise((resolve) => setTimeout(resolve, 100))
    expect(server.engine.pulledCount).toBeLessThanOrEqual(2)

    let receivedByteLength = 0
    request.on('data', (chunk: Buffer) => {
      receivedByteLength += chunk.byteLength
    })
    await eventually('it goes on', () => receivedByteLength > 50 * MiB)
    request.pause()
    await new Promise((resolve) => setTimeout(resolve, 100))
    const stalledAt = server.engine.pulledCount
    expect(stalledAt * (MiB + 5)).toBeLessThanOrEqual(receivedByteLength + 3 * MiB)
    request.close()
    await eventually('the read is released', () => server.engine.isReadReleased)
    session.destroy()
  })

  test('a client that goes away mid-read ends the work of the engine', async () => {
    server.engine.answer = async function* () {
      yield Buffer.from([1])
      await new Promise(() => {})
    }
    const reading = stream('Read', readOf('t'))
    reading.on('error', () => {})
    await new Promise((resolve) => reading.once('data', resolve))
    reading.cancel()
    await eventually('the signal is aborted', () => server.engine.signal?.aborted === true)
    await eventually('the call has ended', () => server.logged.some((line) => line.includes('"outcome":"CANCELLED"')))
  })

  test('a deadline that passes ends the work of the engine', async () => {
    server.engine.onFinish = () => new Promise(() => {})
    const waiting = new Promise<ServiceError | null>((resolve) => {
      const sink = client.makeClientStreamRequest(
        '/pb.Frames/Write',
        identity,
        identity,
        { deadline: new Date(Date.now() + 300) },
        (error) => resolve(error),
      )
      sink.write(head())
      sink.end()
    })
    expect((await waiting)?.code).toBe(status.DEADLINE_EXCEEDED)
    await eventually('the write is given up', () => server.engine.abortCount === 1)
  })
})

describe('writes', () => {
  test('a write takes its head, then its frames, and counts them', async () => {
    server.engine.result = { frameCount: 2, rowCount: 6 }
    const { message } = await write(
      golden('write_request_header.bin'),
      golden('write_request_frame.bin'),
      golden('write_request_frame.bin'),
    )
    expect([message.frames, message.rows]).toEqual([2n, 6n])
    expect(server.engine.asked[0].request).toEqual({
      session: { container: 'bigdata', user: 'u1' },
      backend: 'kv',
      table: 't1',
      partitionKeys: ['b'],
      condition: '{a}>1',
      saveMode: 'createNewItemsOnly',
    })
    expect(server.engine.frames).toEqual([0, 0].map(() => golden('write_request_frame.bin').subarray(2)))
    expect([server.engine.finishCount, server.engine.abortCount]).toEqual([1, 0])
  })

  test('initial data is the first frame', async () => {
    await write(golden('write_request_header_with_initial_data.bin'), golden('write_request_frame.bin'))
    expect(server.engine.frames).toHaveLength(2)
    expect(server.engine.frames[0]).toEqual(server.engine.frames[1])
    expect(server.engine.asked[0].request).toMatchObject({ more: true, saveMode: 'errorIfTableExists' })
  })

  test('kv tells the number of skipped rows in the trailing metadata, zero too', async () => {
    expect((await write(head())).trailer.get('num_skipped')).toEqual(['0'])
    server.engine.result = { frameCount: 1, rowCount: 5, skippedCount: 3 }
    expect((await write(head())).trailer.get('num_skipped')).toEqual(['3'])
    expect((await write(head({ backend: 'csv' }))).trailer.get('num_skipped')).toEqual(['3'])
    server.engine.result = { frameCount: 1, rowCount: 5 }
    expect((await write(head({ backend: 'csv' }))).trailer.get('num_skipped')).toEqual([])
  })

  const refused: [string, Buffer[], string][] = [
    ['no message at all', [], 'EOF'],
    ['a frame first', [frameMessage(3)], "stream didn't start with write request"],
    ['an empty message first', [Buffer.alloc(0)], "stream didn't start with write request"],
    ['a second head', [head(), head()], 'nil frame'],
    ['an empty message later', [head(), Buffer.alloc(0)], 'nil frame'],
    ['a head without a table', [head({ table: '' })], 'missing parameters'],
    ['an unknown backend', [head({ backend: 'sql' })], 'unknown backend - sql'],
    ['an unknown save mode', [head({ saveMode: 'append' })], "no save mode named 'append'"],
    ['garbage first', [Buffer.from('garbage')], "can't decode WriteRequest"],
    ['a message with both a head and a frame', [Buffer.concat([head(), frameMessage(1)])], 'a WriteRequest holds both'],
  ]
  test.each(refused)('%s is refused', async (_name, messages, text) => {
    const error = await failure(write(...messages))
    expect(error.code).toBe(status.INVALID_ARGUMENT)
    expect(error.details.startsWith(text)).toBe(true)
  })

  test('a stream that breaks off says what is stored of it', async () => {
    const error = await failure(write(head(), frameMessage(3), Buffer.alloc(0)))
    expect(error.details).toMatch(/10 rows of the 1 frames before it are stored\.$/)
    expect([server.engine.finishCount, server.engine.abortCount]).toEqual([1, 0])
  })

  test('a stream that breaks off leaves an overwritten table as it was', async () => {
    const error = await failure(write(head({ saveMode: 'overwriteTable' }), frameMessage(3), Buffer.alloc(0)))
    expect(error.details).toMatch(/Nothing of this write is stored\.$/)
    expect([server.engine.finishCount, server.engine.abortCount]).toEqual([0, 1])
  })

  test('a failing opening, frame and finish have their own prefixes', async () => {
    const failing = await failure(write(head({ table: missingTable })))
    expect([failing.code, failing.details.startsWith('backend Write failed: no table')]).toEqual([5, true])

    server.engine.onFrame = () => {
      throw new FramesError('FRAME_SHAPE', 'column b has 2 rows')
    }
    const initial = await failure(write(golden('write_request_header_with_initial_data.bin')))
    expect(initial.details).toMatch(/^backend Write failed: column b has 2 rows/)
    server.engine.onFrame = () => undefined
    server.engine.onStored = () => {
      throw new FramesError('INVALID_ARGUMENT', 'empty frame')
    }
    const stored = await failure(
      write(golden('write_request_header_with_initial_data.bin'), golden('write_request_frame.bin')),
    )
    expect(stored.details).toMatch(/^backend Write failed: empty frame/)
    server.engine.onFrame = () => {
      throw new FramesError('FRAME_SHAPE', 'column b has 2 rows')
    }
    const later = await failure(write(head(), frameMessage(3)))
    expect(later.details).toMatch(/^can't add frame: column b has 2 rows/)

    server.engine.onFinish = () => {
      throw new FramesError('DISK_FULL', 'no space')
    }
    const ending = await failure(write(head()))
    expect([ending.code, ending.details.startsWith("can't wait for completion: no space")]).toEqual([8, true])
    expect(server.engine.abortCount).toBe(4)
  })

  test('a finish that takes longer than the configured timeout is an error', async () => {
    await restart({ config: '{timeout: 1, backends: [{type: kv}]}' })
    server.engine.onFinish = () => new Promise(() => {})
    const error = await failure(write(head()))
    expect(error.details).toMatch(/^can't wait for completion: The operation timed out after 1\.00 seconds/)
  })

  test('a failed frame is answered while the client still has frames to send', async () => {
    server.engine.onFrame = () => {
      throw new FramesError('FRAME_SHAPE', 'bad')
    }
    const { sink, reply } = upload()
    sink.on('error', () => {})
    sink.write(head())
    for (let index = 0; index < 20; index++) sink.write(frameMessage(MiB))
    expect((await failure(reply)).code).toBe(status.INVALID_ARGUMENT)
  })

  test('a slow engine holds one message at work, and the client waits', async () => {
    let release = () => {}
    server.engine.onFrame = () => new Promise((resolve) => (release = resolve))
    const { sink, reply } = upload()
    sink.write(head())
    let sent = 0
    for (let index = 0; index < 64; index++) sink.write(frameMessage(4 * MiB), () => sent++)
    sink.end()
    await eventually('the first frame arrives', () => server.engine.asked.length === 1)
    await eventually('nothing is sent any more', async () => {
      const before = sent
      await new Promise((resolve) => setTimeout(resolve, 300))
      return before === sent
    })
    // The stream window (8 MiB), one at work, one waiting, and what the sockets hold.
    expect(sent).toBeLessThanOrEqual(10)
    server.engine.onFrame = () => {}
    release()
    expect((await reply).message.frames).toBe(64n)
  })

  test('a client that goes away mid-write gives the write up', async () => {
    server.engine.onFrame = () => new Promise(() => {})
    const { sink } = upload()
    sink.on('error', () => {})
    sink.write(head())
    sink.write(frameMessage(10))
    await eventually('the write is open', () => server.engine.asked.length === 1)
    sink.cancel()
    await eventually('the signal is aborted', () => server.engine.signal?.aborted === true)
    await eventually('the write is given up', () => server.engine.abortCount === 1)
  })
})

describe('a write cancelled between two frames', () => {
  test('does not replace the table it was to overwrite', async () => {
    const { sink } = upload()
    sink.on('error', () => {})
    sink.write(head({ saveMode: 'overwriteTable' }))
    sink.write(frameMessage(10))
    await eventually('the frame has come', () => server.engine.frames.length === 1)
    sink.cancel()
    await eventually('the write is over', () => server.engine.abortCount + server.engine.finishCount === 1)
    expect(server.engine.finishCount).toBe(0)
  })
})

interface BareAnswer {
  readonly headers: IncomingHttpHeaders
  readonly body: Buffer
  /** grpc-status and what else came behind the messages. */
  readonly trailers: IncomingHttpHeaders
}

/** A call whose request is these bytes, prefix and all. */
async function bareCall(method: string, body: Buffer, headers: Record<string, string> = {}): Promise<BareAnswer> {
  const session = connectHttp2(`http://127.0.0.1:${server.grpcPort}`)
  try {
    const request = session.request({
      ':method': 'POST',
      ':path': `/pb.Frames/${method}`,
      'content-type': 'application/grpc',
      te: 'trailers',
      ...headers,
    })
    let answered: IncomingHttpHeaders = {}
    let trailers: IncomingHttpHeaders | null = null
    const chunks: Buffer[] = []
    request.on('response', (found) => {
      answered = found
    })
    request.on('trailers', (found) => {
      trailers = found
    })
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.end(body)
    await new Promise((resolve, reject) => request.once('end', resolve).once('error', reject))
    return { headers: answered, body: Buffer.concat(chunks), trailers: trailers ?? answered }
  } finally {
    session.destroy()
  }
}

const callHeaders = { ':method': 'POST', 'content-type': 'application/grpc', te: 'trailers' }

function prefixed(message: Buffer, isCompressed = false): Buffer {
  const prefix = Buffer.alloc(5)
  prefix[0] = isCompressed ? 1 : 0
  prefix.writeUInt32BE(message.byteLength, 1)
  return Buffer.concat([prefix, message])
}

describe('the request of a call', () => {
  const create = () => bytesOf(CreateRequestSchema, { backend: 'kv', table: 't' })

  test('comes compressed where the client says how', async () => {
    for (const [encoding, compress] of [
      ['gzip', gzipSync],
      ['deflate', deflateSync],
    ] as const) {
      const answer = await bareCall('Create', prefixed(compress(create()), true), { 'grpc-encoding': encoding })
      expect(answer.trailers['grpc-status']).toBe('0')
    }
    const plain = await bareCall('Create', prefixed(create()), { 'grpc-encoding': 'gzip' })
    expect(plain.trailers['grpc-status']).toBe('0')
    expect(server.engine.asked.length).toBe(3)
    expect((await bareCall('Create', prefixed(create(), true))).trailers['grpc-status']).toBe(
      String(status.UNIMPLEMENTED),
    )
    const broken = await bareCall('Create', prefixed(create(), true), { 'grpc-encoding': 'gzip' })
    expect(broken.trailers['grpc-status']).toBe(String(status.INTERNAL))
    const bomb = gzipSync(Buffer.alloc(64 * MiB))
    const large = await bareCall('Create', prefixed(bomb, true), { 'grpc-encoding': 'gzip' })
    expect(large.trailers['grpc-status']).toBe(String(status.RESOURCE_EXHAUSTED))
  })

  test('of a write comes compressed too', async () => {
    const messages = [head(), frameMessage(100_000)].map((message) => prefixed(gzipSync(message), true))
    const answer = await bareCall('Write', Buffer.concat(messages), { 'grpc-encoding': 'gzip' })
    expect(answer.trailers['grpc-status']).toBe('0')
    expect(server.engine.frames.map(({ byteLength }) => byteLength)).toEqual([100_000])
  })

  test('of a write ends with a whole message', async () => {
    for (const cut of [1, 5, 1000]) {
      const body = Buffer.concat([prefixed(head()), prefixed(frameMessage(1000))]).subarray(0, -cut)
      const { trailers } = await bareCall('Write', body)
      expect(trailers['grpc-status']).toBe(String(status.INVALID_ARGUMENT))
      expect(decodeURIComponent(String(trailers['grpc-message']))).toMatch(/^the stream ended within a message/)
    }
  })

  test('is one message: none, a part of one and two are UNIMPLEMENTED', async () => {
    const whole = prefixed(create())
    for (const body of [Buffer.alloc(0), whole.subarray(0, 3), whole.subarray(0, -1), Buffer.concat([whole, whole])]) {
      expect((await bareCall('Create', body)).trailers['grpc-status']).toBe(String(status.UNIMPLEMENTED))
    }
    expect(server.engine.asked).toEqual([])
  })

  test('has a deadline: an unreadable one is INTERNAL, one that passes is answered at once', async () => {
    const unreadable = await bareCall('Create', prefixed(create()), { 'grpc-timeout': 'soon' })
    expect(unreadable.trailers['grpc-status']).toBe(String(status.INTERNAL))
    server.engine.answer = async function* () {
      yield Buffer.from('one')
      await new Promise(() => {})
    }
    const late = await bareCall('Read', prefixed(readOf('t')), { 'grpc-timeout': '200m' })
    expect(late.body).toEqual(prefixed(Buffer.from('one')))
    expect(late.trailers['grpc-status']).toBe(String(status.DEADLINE_EXCEEDED))
    expect(server.engine.signal?.aborted).toBe(true)
    const long = await bareCall('Create', prefixed(create()), { 'grpc-timeout': '99999999H' })
    expect(long.trailers['grpc-status']).toBe('0')
  })

  test('comes in pieces of any size', async () => {
    const request = prefixed(bytesOf(CreateRequestSchema, { backend: 'kv', table: 'x'.repeat(3000) }))
    const session = connectHttp2(`http://127.0.0.1:${server.grpcPort}`)
    const call = session.request({ ...callHeaders, ':path': '/pb.Frames/Create' })
    const ended = new Promise((resolve) => call.once('trailers', resolve))
    for (const byte of request) call.write(Buffer.from([byte]))
    call.resume().end()
    expect(await ended).toMatchObject({ 'grpc-status': '0' })
    expect(server.engine.asked[0].request).toMatchObject({ table: 'x'.repeat(3000) })
    session.destroy()
  })

  test('of a method that is none is UNIMPLEMENTED, by the name of that method', async () => {
    const { headers } = await bareCall('No thing', prefixed(create()))
    expect([headers[':status'], headers['grpc-status']]).toEqual([200, String(status.UNIMPLEMENTED)])
    expect(decodeURIComponent(String(headers['grpc-message']))).toBe(
      'The server does not implement the method /pb.Frames/No thing',
    )
  })

  test('of another type than gRPC is refused', async () => {
    const answer = await bareCall('Create', prefixed(create()), { 'content-type': 'text/plain' })
    expect(answer.headers[':status']).toBe(415)
  })
})

test('too many calls at once are refused to the connection that has most of them, and to no other', async () => {
  await restart({ limits: { callCountMax: 8, connectionCountMax: 4 } })
  const connection = () => {
    const session = connectHttp2(`http://127.0.0.1:${server.grpcPort}`)
    session.on('error', () => {})
    return session
  }
  const open = (session: ReturnType<typeof connection>, method: string) => {
    const request = session.request({ ...callHeaders, ':path': `/pb.Frames/${method}` })
    request.on('error', () => {})
    return request
  }
  const first = connection()
  for (let i = 0; i < 8; i++) open(first, 'Write')
  const surplus = open(first, 'Write')
  await eventually('the call above the limit is refused', () => surplus.closed)
  // REFUSED_STREAM
  expect(surplus.rstCode).toBe(0x7)
  expect((await bareCall('Version', prefixed(Buffer.alloc(0)))).trailers['grpc-status']).toBe('0')
  const closed = new Promise((resolve) => first.once('close', resolve))
  first.destroy()
  await closed
  // Those of a connection that is gone count no more.
  const second = connection()
  for (let i = 0; i < 7; i++) open(second, 'Write')
  const last = open(second, 'Version')
  last.end(prefixed(Buffer.alloc(0)))
  last.resume()
  await eventually('the call below the limit is answered', () => last.closed)
  expect(last.rstCode).toBe(0)
  second.destroy()
})

describe('the budget of what waits', () => {
  test('refuses the peer that has the most waiting, with its reason, and serves the others', async () => {
    await restart({ limits: { receivedByteLengthMax: 8 * MiB } })
    server.engine.onFrame = () => new Promise(() => {})
    const large = upload()
    large.sink.on('error', () => {})
    large.sink.write(head())
    large.sink.write(frameMessage(2 * MiB))
    await eventually('the write is open', () => server.engine.asked.length === 1)
    // The first part of a message that never ends.
    const session = connectHttp2(`http://127.0.0.1:${server.grpcPort}`)
    session.on('error', () => {})
    const request = { ':method': 'POST', ':path': '/pb.Frames/Create', 'content-type': 'application/grpc' }
    const partial = session.request(request)
    partial.on('error', () => {})
    const prefix = Buffer.alloc(5)
    prefix.writeUInt32BE(8 * MiB, 1)
    partial.write(Buffer.concat([prefix, Buffer.alloc(7 * MiB)]))
    await eventually('the call that has most waiting is refused', () => partial.closed)
    // ENHANCE_YOUR_CALM, which clients report as RESOURCE_EXHAUSTED.
    expect(partial.rstCode).toBe(0xb)
    session.destroy()

    large.sink.write(frameMessage(7 * MiB))
    const error = await within('the write above the budget fails', failure(large.reply))
    expect([error.code, error.details.startsWith('too many bytes')]).toEqual([status.RESOURCE_EXHAUSTED, true])
    server.engine.onFrame = () => {}
    expect((await write(head(), frameMessage(5 * MiB), frameMessage(5 * MiB))).message.frames).toBe(2n)
  })

  test('counts what many small messages take beside their bytes', async () => {
    await restart({ limits: { receivedByteLengthMax: 8 * MiB } })
    server.engine.onFrame = () => new Promise(() => {})
    const empty = Buffer.alloc(100_000 * 5)
    const body = Buffer.concat([prefixed(head()), prefixed(frameMessage(10)), empty])
    const { trailers } = await within('the write above the budget fails', bareCall('Write', body))
    expect(Number(trailers['grpc-status'])).toBe(status.RESOURCE_EXHAUSTED)
  })

  test('counts requests until it is their turn to be expanded', async () => {
    await restart({ limits: { receivedByteLengthMax: 8 * MiB, expansionCountMax: 0 } })
    const body = prefixed(Buffer.alloc(5 * MiB), true)
    const session = connectHttp2(`http://127.0.0.1:${server.grpcPort}`)
    session.on('error', () => {})
    const call = () => {
      const request = session.request({ ...callHeaders, ':path': '/pb.Frames/Create', 'grpc-encoding': 'gzip' })
      request.on('error', () => {})
      request.end(body)
      return request
    }
    const first = call()
    await new Promise((resolve) => first.once('finish', resolve))
    // It has all been sent before any of this.
    call()
    await eventually('the first request is refused', () => first.closed)
    // ENHANCE_YOUR_CALM
    expect(first.rstCode).toBe(0xb)
    session.destroy()
  })

  test('holds for messages that came compressed', async () => {
    await restart({ limits: { receivedByteLengthMax: 8 * MiB } })
    let release = () => {}
    const released = new Promise<void>((resolve) => {
      release = resolve
    })
    server.engine.onFrame = () => released
    const call = (byteLength: number) => {
      const messages = [head(), frameMessage(byteLength)].map((message) => prefixed(gzipSync(message), true))
      return bareCall('Write', Buffer.concat(messages), { 'grpc-encoding': 'gzip' })
    }
    const calls = [6 * MiB, 5 * MiB, 1 * MiB].map(call)
    await within('the one above the budget is refused', Promise.race(calls))
    release()
    const all = await Promise.all(calls)
    expect(all.map(({ trailers }) => Number(trailers['grpc-status']))).toEqual([
      status.RESOURCE_EXHAUSTED,
      status.OK,
      status.OK,
    ])
  })
})

describe('compressed messages', () => {
  const zeros = gzipSync(Buffer.alloc(1000))

  test('are expanded as many at once as may be, the others in their turn', async () => {
    const expansions = new Expansions(2)
    const asked: number[] = []
    const expand = (i: number) =>
      expansions.expand(
        () => {
          asked.push(i)
          return i === 3 ? null : zeros
        },
        'gzip',
        1000,
      )
    const all = [0, 1, 2, 3, 4].map(expand)
    expect(asked).toEqual([0, 1])
    const lengths = (await Promise.all(all)).map((bytes) => (Buffer.isBuffer(bytes) ? bytes.byteLength : bytes))
    expect(lengths).toEqual([1000, 1000, 1000, null, 1000])
    expect(asked).toEqual([0, 1, 2, 3, 4])
  })
})

function http2Frame(type: number, flags: number, streamId: number, payload = Buffer.alloc(0)): Buffer {
  const header = Buffer.alloc(9)
  header.writeUIntBE(payload.byteLength, 0, 3)
  header[3] = type
  header[4] = flags
  header.writeUInt32BE(streamId, 5)
  return Buffer.concat([header, payload])
}

/** The header block of a call to Write: literals without indexing, which need no state (RFC 7541, 6.2.2). */
const writeHeaders = Buffer.concat(
  [
    [':method', 'POST'],
    [':scheme', 'http'],
    [':path', '/pb.Frames/Write'],
    [':authority', 'x'],
    ['content-type', 'application/grpc'],
  ].flatMap(([name, value]) => [
    Buffer.from([0, name.length]),
    Buffer.from(name),
    Buffer.from([value.length]),
    Buffer.from(value),
  ]),
)

describe('connections', () => {
  test('receive windows are wide for the first sessions and small beyond', async () => {
    await restart({ limits: { wideSessionCountMax: 2 } })
    const windows: (number | undefined)[] = []
    const frameSizes: (number | undefined)[] = []
    const sessions: ReturnType<typeof connectHttp2>[] = []
    for (let index = 0; index < 4; index++) {
      const session = connectHttp2(`http://127.0.0.1:${server.grpcPort}`)
      sessions.push(session)
      const settings = await new Promise<{ initialWindowSize?: number; maxFrameSize?: number }>((resolve) =>
        session.once('remoteSettings', resolve),
      )
      windows.push(settings.initialWindowSize)
      frameSizes.push(settings.maxFrameSize)
    }
    expect(windows).toEqual([8 * MiB, 8 * MiB, 256 * 1024, 256 * 1024])
    expect(frameSizes).toEqual([MiB, MiB, MiB, MiB])
    await eventually('the session window is wide', () => sessions[0].state.remoteWindowSize === 16 * MiB)
    for (const session of sessions) session.destroy()
  })

  test('garbage bytes end their connection and no other', async () => {
    const socket = connectTcp(server.grpcPort, '127.0.0.1')
    socket.on('error', () => {})
    const closed = new Promise((resolve) => socket.resume().once('close', resolve))
    socket.write(Buffer.alloc(4096, 0xa5))
    await closed
    await unary('Version', Buffer.alloc(0))
  })

  test('a connection that never says anything is closed', async () => {
    await restart({ limits: { handshakeMs: 100 } })
    const socket = connectTcp(server.grpcPort, '127.0.0.1')
    await new Promise((resolve) => socket.resume().once('close', resolve))
  })

  test('a session that breaks its calls off without end is ended, and no other', async () => {
    await restart({ limits: { resetBurstMax: 50, resetPerSecondMax: 1 } })
    const socket = connectTcp(server.grpcPort, '127.0.0.1')
    socket.on('error', () => {})
    let isClosed = false
    socket.resume().once('close', () => {
      isClosed = true
    })
    // Bare frames: clients that behave cannot be made to do this.
    socket.write(Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), http2Frame(0x4, 0, 0)]))
    for (let id = 1; id < 1000 && !isClosed; id += 2) {
      socket.write(
        Buffer.concat([http2Frame(0x1, 0x4, id, writeHeaders), http2Frame(0x3, 0, id, Buffer.from([0, 0, 0, 8]))]),
      )
      await new Promise((resolve) => setTimeout(resolve, 1))
    }
    await eventually('the session is closed', () => isClosed)
    await unary('Version', Buffer.alloc(0))
  })

  test('a session without calls is closed after its time, one with a call at work is not', async () => {
    await restart({ limits: { connectionIdleMs: 100 } })
    let release = () => {}
    server.engine.onFinish = () =>
      new Promise((resolve) => {
        release = resolve
      })
    const idle = connectHttp2(`http://127.0.0.1:${server.grpcPort}`)
    const closed = new Promise((resolve) => idle.once('close', resolve))
    const { sink, reply } = upload()
    sink.write(head())
    sink.end()
    await closed
    await new Promise((resolve) => setTimeout(resolve, 300))
    release()
    expect((await reply).message.frames).toBe(0n)
  })

  test('a call that waits for its peer ends after its time, one that waits for the engine does not', async () => {
    await restart({ limits: { stalledCallMs: 80 } })
    let release = () => {}
    server.engine.onFinish = () =>
      new Promise((resolve) => {
        release = resolve
      })
    server.engine.answer = () => [Buffer.alloc(MiB)]
    const slow = upload()
    slow.sink.write(head())
    slow.sink.end()
    const session = connectHttp2(`http://127.0.0.1:${server.grpcPort}`, { settings: { initialWindowSize: 1000 } })
    const unread = session.request({ ...callHeaders, ':path': '/pb.Frames/Read' })
    unread.on('error', () => {})
    unread.end(prefixed(readOf('t')))
    const unsent = session.request({ ...callHeaders, ':path': '/pb.Frames/Write' })
    unsent.on('error', () => {})
    unsent.write(prefixed(head()))
    await Promise.all([unread, unsent].map((stream) => new Promise((resolve) => stream.once('close', resolve))))
    // CANCEL.
    expect([unread.rstCode, unsent.rstCode]).toEqual([8, 8])
    session.destroy()
    release()
    expect((await slow.reply).message.frames).toBe(0n)
  })

  test('a session that gives no sign of life is ended, one that does is not', async () => {
    await restart({ limits: { keepaliveMs: 50, keepaliveAnswerMs: 50 } })
    const alive = connectHttp2(`http://127.0.0.1:${server.grpcPort}`)
    let isAliveClosed = false
    alive.once('close', () => {
      isAliveClosed = true
    })
    const silent = connectTcp(server.grpcPort, '127.0.0.1')
    silent.on('error', () => {})
    silent.write(Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), http2Frame(0x4, 0, 0)]))
    await new Promise((resolve) => silent.resume().once('close', resolve))
    await new Promise((resolve) => setTimeout(resolve, 300))
    expect(isAliveClosed).toBe(false)
    alive.destroy()
  })

  test('whatever a session says is a sign of life, as long as it goes on', async () => {
    await restart({ limits: { keepaliveMs: 50, keepaliveAnswerMs: 400 } })
    const busy = connectTcp(server.grpcPort, '127.0.0.1')
    busy.on('error', () => {})
    const closed = new Promise((resolve) => busy.resume().once('close', resolve))
    busy.write(Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), http2Frame(0x4, 0, 0)]))
    for (let i = 0; i < 60; i++) {
      busy.write(http2Frame(0x2, 0, 3, Buffer.alloc(5)))
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    expect(busy.closed || busy.readableEnded).toBe(false)
    await closed
  })

  test('a session of a certain age takes no new calls, and ends with those it has', async () => {
    await restart({ limits: { connectionAgeMs: 100 } })
    let release = () => {}
    server.engine.onFinish = () =>
      new Promise((resolve) => {
        release = resolve
      })
    const session = connectHttp2(`http://127.0.0.1:${server.grpcPort}`)
    const goAway = new Promise((resolve) => session.once('goaway', resolve))
    const closed = new Promise((resolve) => session.once('close', resolve))
    const call = session.request({ ...callHeaders, ':path': '/pb.Frames/Write' })
    const ended = new Promise((resolve) => call.once('trailers', resolve))
    call.resume().end(prefixed(head()))
    expect(await goAway).toBe(0)
    release()
    expect(await ended).toMatchObject({ 'grpc-status': '0' })
    await closed
  })

  test('stopping ends idle sessions, and does not wait for clients that never answer', async () => {
    const idle = connectHttp2(`http://127.0.0.1:${server.grpcPort}`)
    await new Promise((resolve) => idle.once('remoteSettings', resolve))
    const closed = new Promise((resolve) => idle.once('close', resolve))
    const silent = connectTcp(server.grpcPort, '127.0.0.1')
    silent.on('error', () => {})
    const silentClosed = new Promise((resolve) => silent.resume().once('close', resolve))
    silent.write(Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), http2Frame(0x4, 0, 0)]))
    await new Promise((resolve) => setTimeout(resolve, 50))
    await server.stop()
    await Promise.all([closed, silentClosed])
  })

  test('a session is told how many streams it may open', async () => {
    await restart({ limits: { sessionStreamCountMax: 4 } })
    const session = connectHttp2(`http://127.0.0.1:${server.grpcPort}`)
    session.on('error', () => {})
    const settings = await new Promise<{ maxConcurrentStreams?: number }>((resolve) =>
      session.once('remoteSettings', resolve),
    )
    expect(settings.maxConcurrentStreams).toBe(4)
    session.destroy()
  })

  test('connections beyond the limit are refused', async () => {
    await restart({ limits: { connectionCountMax: 1 } })
    await unary('Version', Buffer.alloc(0))
    const socket = connectTcp(server.grpcPort, '127.0.0.1')
    socket.on('error', () => {})
    await new Promise((resolve) => socket.resume().once('close', resolve))
    await unary('Version', Buffer.alloc(0))
  })

  test('stopping lets a call at work finish and closes the engine last', async () => {
    await restart({ limits: { drainMs: 5000 } })
    let release = () => {}
    const released = new Promise<void>((resolve) => {
      release = resolve
    })
    server.engine.onFinish = () => released
    const { sink, reply } = upload()
    sink.write(head())
    sink.end()
    await eventually('the write is open', () => server.engine.asked.length === 1)
    const stopped = server.stop()
    await new Promise((resolve) => setTimeout(resolve, 50))
    expect(server.engine.isClosed).toBe(false)
    release()
    expect((await reply).message.frames).toBe(0n)
    await stopped
    expect(server.engine.isClosed).toBe(true)
  })

  test('stopping aborts calls that outlast the grace', async () => {
    server.engine.onFinish = () => new Promise(() => {})
    const { sink, reply } = upload()
    sink.write(head())
    sink.end()
    await eventually('the write is open', () => server.engine.asked.length === 1)
    await server.stop()
    expect(server.engine.signal?.aborted).toBe(true)
    expect(server.engine.isClosed).toBe(true)
    await failure(reply)
  })
})

describe('the log', () => {
  test('a call is one line that says who, what and how it ended, without a secret', async () => {
    const session = { container: 'box', user: 'joe', password: 'canary-password', token: 'canary-token' }
    server.engine.answer = () => [Buffer.alloc(10), Buffer.alloc(20)]
    await collect('Read', readOf('t', { session }))
    await failure(unary('Delete', bytesOf(DeleteRequestSchema, { backend: 'kv', table: missingTable, session })))
    const lines = server.logged.map((line) => JSON.parse(line)).filter((line) => line.msg === 'call')
    expect(lines).toMatchObject([
      { id: 1, verb: 'read', backend: 'kv', table: 't', container: 'box', user: 'joe', outcome: 'ok' },
      { id: 2, verb: 'delete', table: missingTable, outcome: 'TABLE_NOT_FOUND' },
    ])
    expect(lines[0]).toMatchObject({ frameCount: 2, byteLength: 30 })
    expect(typeof lines[0].durationMs).toBe('number')
    expect(server.logged.join('')).not.toMatch(/canary/)
    expect(JSON.stringify(server.engine.asked)).not.toMatch(/canary/)
  })
})
