import { readFileSync } from 'node:fs'
import { Agent, type IncomingHttpHeaders, request as httpRequest, type RequestOptions } from 'node:http'
import { connect, type Socket } from 'node:net'
import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { FramesError } from '../dist/engine/errors.js'
import { FrameSchema, InitialWriteRequestSchema } from '../dist/proto/gen/frames_pb.js'
import { frameMessage } from '../dist/engine/codec/message-stream.js'
import { defectTable, eventually, missingTable } from './fake-engine.js'
import { type Fixture, startFixture } from './server-fixture.js'

const MiB = 1024 * 1024
const golden = (name: string) => readFileSync(new URL(`golden/${name}`, import.meta.url))

let server: Fixture

async function restart(options: Parameters<typeof startFixture>[0] = {}): Promise<void> {
  await server?.stop()
  server = await startFixture(options)
}

beforeEach(() => restart())
afterEach(() => server.stop())

interface Reply {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly body: Buffer
  readonly text: string
}

function send(path: string, body: string | Buffer | readonly Buffer[], options: RequestOptions = {}): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const sent = httpRequest(
      { host: '127.0.0.1', port: server.httpPort, path, method: 'POST', agent: false, ...options },
      (response) => {
        const chunks: Buffer[] = []
        response.on('data', (chunk: Buffer) => chunks.push(chunk))
        response.on('error', reject)
        response.on('end', () => {
          const whole = Buffer.concat(chunks)
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            body: whole,
            text: whole.toString(),
          })
        })
      },
    )
    sent.on('error', reject)
    if (typeof body === 'string' || Buffer.isBuffer(body)) {
      sent.end(body)
    } else {
      for (const chunk of body) sent.write(chunk)
      sent.end()
    }
  })
}

const post = (path: string, json: unknown, options: RequestOptions = {}) => send(path, JSON.stringify(json), options)
const table = { backend: 'kv', table: 't' }

/** The messages of a framed body. */
function unframe(body: Buffer): Buffer[] {
  const messages: Buffer[] = []
  for (let at = 0; at < body.byteLength; ) {
    const length = Number(body.readBigInt64LE(at))
    messages.push(body.subarray(at + 8, at + 8 + length))
    at += 8 + length
  }
  return messages
}

const errorOf = (body: Buffer) => fromBinary(FrameSchema, unframe(body).at(-1) ?? Buffer.alloc(0)).error

const head = (fields: MessageInitShape<typeof InitialWriteRequestSchema> = {}) =>
  frameMessage(toBinary(InitialWriteRequestSchema, create(InitialWriteRequestSchema, { ...table, ...fields })))
const frame = (byteLength: number, fill = 7) => frameMessage(Buffer.alloc(byteLength, fill))

describe('routes', () => {
  test('/ and /_/status say that the server runs, whatever the method', async () => {
    for (const path of ['/', '/_/status', '//_/status/']) {
      for (const method of ['GET', 'POST', 'PUT']) {
        const reply = await send(path, '', { method })
        expect([reply.status, reply.text]).toEqual([200, '{"state":"running"}'])
        expect(reply.headers['content-type']).toBe('application/json')
      }
    }
  })

  test('/version answers POST with a string', async () => {
    const reply = await post('/version', {})
    expect([reply.status, JSON.parse(reply.text)]).toEqual([200, { version: 'v0.13.13' }])
    expect(reply.headers['content-type']).toBe('application/json')
  })

  test('/_/config shows the effective configuration without its secrets', async () => {
    await restart({
      config:
        '{password: canary1, sessionKey: canary2, webApiEndpoint: "http://u:canary3@h/", backends: [{type: KV, options: {apiToken: canary4, deep: {secret: canary5}, x: 1}}]}',
    })
    const reply = await send('/_/config', '', { method: 'GET' })
    expect(reply.text).not.toMatch(/canary/)
    const config = JSON.parse(reply.text)
    expect(config).toMatchObject({ password: '*****', sessionKey: '*****', logsFolderPath: '/monitoring/frames' })
    expect(config.backends[0]).toMatchObject({ type: 'kv', name: 'KV', options: { apiToken: '*****', x: 1 } })
  })

  test('paths are cleaned like file paths and compared exactly', async () => {
    for (const path of ['//read', '/read/', '/x/../read', '/./read//', '/read?x=1', '//read?a=b/c']) {
      expect((await post(path, table)).status).toBe(200)
    }
    for (const path of ['/READ', '/%72ead', '/read/x', '/re ad'.replace(' ', '%20')]) {
      const reply = await post(path, table)
      expect([reply.status, reply.text]).toEqual([404, `unknown path - "${path}"`])
    }
  })

  test('a wrong method is a plain 405 with Allow', async () => {
    for (const path of [
      '/version',
      '/read',
      '/write',
      '/create',
      '/delete',
      '/exec',
      '/history',
      '/query',
      '/search',
    ]) {
      const reply = await send(path, '', { method: 'GET' })
      expect([reply.status, reply.text, reply.headers.allow]).toEqual([405, 'unsupported method', 'POST'])
    }
    expect(server.engine.asked).toEqual([])
  })

  test('replies are never compressed', async () => {
    server.engine.answer = () => [Buffer.alloc(10_000)]
    const reply = await post('/read', table, { headers: { 'Accept-Encoding': 'gzip, deflate, br' } })
    expect(reply.headers['content-encoding']).toBeUndefined()
    expect(reply.body).toHaveLength(10_008)
  })

  test('a call with Connection: close gets a reply that says so, others keep the connection', async () => {
    const closing = await post('/version', {}, { headers: { Connection: 'close' } })
    expect(closing.headers.connection).toBe('close')
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    const ports = new Set<number | undefined>()
    for (let index = 0; index < 3; index++) {
      await new Promise<void>((resolve) => {
        const sent = httpRequest(
          { host: '127.0.0.1', port: server.httpPort, path: '/version', method: 'POST', agent },
          (response) => {
            ports.add(sent.socket?.localPort)
            response.resume().on('end', resolve)
          },
        )
        sent.end('{}')
      })
    }
    agent.destroy()
    expect(ports.size).toBe(1)
  })
})

interface GoldenRequest {
  readonly call: string
  readonly path: string
  readonly headers: Record<string, string>
  readonly json?: unknown
}

describe('what the published Python client sends', () => {
  const { requests }: { requests: GoldenRequest[] } = JSON.parse(golden('http_requests.json').toString())
  const session = { container: 'bigdata', user: 'u1' }
  const expected: Record<string, unknown[]> = {
    'constructor (version check)': [],
    "read('nosql', 't1')": [{ verb: 'read', format: 'wire', request: { session, backend: 'kv', table: 't1' } }],
    "read('kv', 't1', columns=['a'], filter='a>1', reset_index=True, sharding_keys=['x'], max_rows_in_msg=10)": [
      {
        verb: 'read',
        format: 'wire',
        request: {
          session,
          backend: 'kv',
          table: 't1',
          columns: ['a'],
          filter: 'a>1',
          messageLimit: 10n,
          resetIndex: true,
          shardingKeys: ['x'],
        },
      },
    ],
    "read('stream', 's1', seek='time', shard_id='0', start=<2024-01-02 03:04:05.005 UTC as a datetime>)": [
      {
        verb: 'read',
        format: 'wire',
        request: {
          session,
          backend: 'stream',
          table: 's1',
          seek: 'time',
          shardId: '0',
          start: '2024-01-02T03:04:05.5000000+00:00',
        },
      },
    ],
    "create('stream', 's1', shards=2, retention_hours=48)": [
      { verb: 'create', request: { session, backend: 'stream', table: 's1', shards: 2n, retentionHours: 48n } },
    ],
    "create('csv', 'x.csv', schema=<TableSchema>)": [
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
          },
        },
      },
    ],
    "delete('nosql', 't1')": [{ verb: 'delete', request: { session, backend: 'kv', table: 't1' } }],
    "delete('kv', 't1', filter='a>1', if_missing=IGNORE)": [
      { verb: 'delete', request: { session, backend: 'kv', table: 't1', filter: 'a>1', ifMissing: 'ignore' } },
    ],
    "execute('csv', 't1', 'ping', {...})": [
      {
        verb: 'execute',
        request: {
          session,
          backend: 'csv',
          table: 't1',
          command: 'ping',
          args: { rows: 2n, cols: 1n, neg: -3n, f: 1.5, s: 'x', b: true },
        },
      },
    ],
    "execute('kv', 't1', 'infer')": [
      { verb: 'execute', request: { session, backend: 'kv', table: 't1', command: 'infer' } },
    ],
    "history('nosql', min_start_time='now-1d', min_duration=5)": [
      { verb: 'history', request: { session, backend: 'kv', minStartTime: 'now-1d', minDuration: 5n } },
    ],
    'client built directly with session=None, then read': [],
  }
  const withJson = requests.filter((request) => request.json !== undefined)

  test('every body is known here', () => {
    expect(Object.keys(expected).sort()).toEqual(withJson.map((request) => request.call).sort())
  })

  test.each(withJson)('$call', async ({ call, path, headers, json }) => {
    const reply = await post(path, json, {
      headers: { ...headers, Accept: '*/*', 'Accept-Encoding': '', Connection: 'close' },
    })
    expect(reply.status).toBe(200)
    expect(server.engine.asked).toEqual(expected[call])
    if (call.includes('session=None')) expect(errorOf(reply.body)).toMatch(/^unknown backend - "no-such-backend"/)
  })

  test('the body of a write, one chunk a message, labelled with an encoding that is none', async () => {
    server.engine.result = { frameCount: 2, rowCount: 6, skippedCount: 1 }
    const chunks = unframe(golden('http_write_body.bin')).map((message) => frameMessage(message))
    const reply = await send('/write', chunks, {
      headers: { 'Content-Encoding': 'chunked', 'Transfer-Encoding': 'chunked', Connection: 'close' },
    })
    expect(reply.status).toBe(200)
    expect(reply.headers['content-type']).toBe('application/json')
    expect(JSON.parse(reply.text)).toEqual({ num_frames: 2, num_rows: 6, num_skipped: 1 })
    expect(server.engine.asked[0].request).toEqual({
      session,
      backend: 'kv',
      table: 't1',
      partitionKeys: ['b'],
      condition: '{a}>1',
      saveMode: 'createNewItemsOnly',
    })
    expect(server.engine.frames).toEqual(unframe(golden('http_write_body.bin')).slice(1))
  })
})

describe('JSON bodies', () => {
  const readRequest = async (json: string) => {
    const reply = await send('/read', json)
    expect(reply.status, reply.text).toBe(200)
    return server.engine.asked.at(-1)?.request
  }

  test('keys match in any letter case, in snake_case and in camelCase', async () => {
    for (const key of ['message_limit', 'MESSAGE_LIMIT', 'Message_Limit', 'messageLimit']) {
      expect(await readRequest(`{"Backend":"kv","TABLE":"t","${key}":5}`)).toMatchObject({ messageLimit: 5n })
    }
  })

  test('unknown keys are ignored, null is absent, the last of repeated keys wins', async () => {
    const json = '{"backend":"csv","backend":"kv","table":"t","nothing":{"a":[1]},"limit":null,"columns":null}'
    expect(await readRequest(json)).toEqual({ backend: 'kv', table: 't', session: {} })
  })

  test('integers keep their last digit beyond 2^53', async () => {
    const json =
      '{"backend":"kv","table":"t","limit":9007199254740993,"segments":[9223372036854775807,-9223372036854775808]}'
    expect(await readRequest(json)).toMatchObject({
      limit: 9007199254740993n,
      segments: [9223372036854775807n, -9223372036854775808n],
    })
  })

  test('empty arrays are absent', async () => {
    expect(await readRequest('{"backend":"kv","table":"t","columns":[],"sharding_keys":[]}')).toEqual({
      backend: 'kv',
      table: 't',
      session: {},
    })
  })

  test('arguments: digits are integers, negative ones too, other numbers floats', async () => {
    const args = '{"i":3,"n":-3,"big":9007199254740993,"f":1.0,"e":1e3,"s":"3","b":false,"gone":null,"__proto__":7}'
    await send('/exec', `{"backend":"kv","table":"t","command":"c","args":${args}}`)
    const { args: taken } = server.engine.asked[0].request as { args: Record<string, unknown> }
    expect({ ...taken }).toMatchObject({ i: 3n, n: -3n, big: 9007199254740993n, f: 1, e: 1000, s: '3', b: false })
    expect(Object.keys(taken)).not.toContain('gone')
    expect(Object.getPrototypeOf({})).toBe(Object.prototype)
    expect(({} as { polluted?: unknown }).polluted).toBeUndefined()
  })

  const bad: [string, string][] = [
    ['', 'ends'],
    ['{', 'ends'],
    ['[]', 'must be an object'],
    ['{"backend":"kv"} x', 'after the value'],
    ['{"limit":5.0}', 'limit must be an integer'],
    ['{"limit":5e0}', 'limit must be an integer'],
    ['{"limit":"5"}', 'limit must be an integer'],
    ['{"limit":9223372036854775808}', 'int64'],
    ['{"table":7}', 'table must be a string'],
    ['{"row_layout":1}', 'row_layout must be true or false'],
    ['{"columns":"a"}', 'columns must be an array'],
    ['{"columns":["a",null]}', 'columns[1] must be a string'],
    ['{"session":"x"}', 'session must be an object'],
    ['{"table":"\\x"}', 'invalid escape'],
    ['{"table":"a', 'does not end'],
    ['{"limit":01}', 'after an object entry'],
    [`${'['.repeat(100_000)}`, 'deeper'],
  ]
  test.each(bad)('%s is a bad request', async (json, reason) => {
    const reply = await send('/read', json)
    expect(reply.status).toBe(400)
    expect(reply.text.startsWith('bad request - ')).toBe(true)
    expect(reply.text).toContain(reason)
  })

  test('enums are numbers, and only known ones', async () => {
    expect((await post('/create', { ...table, if_exists: 1 })).status).toBe(200)
    expect((await post('/create', { ...table, if_exists: 'IGNORE' })).status).toBe(400)
    expect((await post('/create', { ...table, if_exists: 2 })).text).toMatch(/^bad request - if_exists is 2/)
  })

  test('arguments that are no plain value are a bad request', async () => {
    for (const value of [[1], { a: 1 }]) {
      expect((await post('/exec', { ...table, command: 'c', args: { x: value } })).status).toBe(400)
    }
  })

  test('a body that is not UTF-8 is a bad request', async () => {
    const reply = await send('/read', Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]))
    expect(reply.status).toBe(400)
  })

  test('a body above its limit is refused, and its client gets the answer', async () => {
    const reply = await send('/create', Buffer.alloc(20 * MiB, 0x20))
    expect(reply.status).toBe(413)
  })

  test('a body that is announced to be above its limit is refused before it comes', async () => {
    await restart({ limits: { bodyIdleMs: 600_000, controlBodyMs: 600_000 } })
    const socket = connect({ port: server.httpPort, host: '127.0.0.1' })
    let reply = ''
    socket.on('data', (chunk) => {
      reply += chunk.toString()
    })
    socket.write(`POST /create HTTP/1.1\r\nHost: x\r\nContent-Length: ${20 * MiB}\r\n\r\n{`)
    await eventually('it is answered', () => reply.includes('a request of more than'))
    expect(reply).toMatch(/^HTTP\/1\.1 413 /)
    expect(reply).toMatch(/\r\nConnection: close\r\n/)
    socket.destroy()
  })

  test('a megabyte of JSON is parsed in linear time', async () => {
    const bodies = [`{"table":"${'\\"'.repeat(500_000)}"}`, `[${'1,'.repeat(500_000)}1]`, ' '.repeat(1_000_000)]
    const startMs = Date.now()
    for (const body of bodies) await send('/read', body)
    expect(Date.now() - startMs).toBeLessThan(5000)
  })

  test('content types are not required, and encodings that would change the body are refused', async () => {
    expect((await post('/create', table, { headers: { 'Content-Type': 'image/png' } })).status).toBe(200)
    expect((await post('/create', table, { headers: { 'Content-Encoding': 'gzip' } })).status).toBe(415)
  })
})

describe('reads', () => {
  test('frames are sent with their length, and nothing is a valid answer', async () => {
    expect((await post('/read', table)).body).toHaveLength(0)
    server.engine.answer = () => unframe(golden('http_read_stream_with_error.bin'))
    const reply = await post('/read', table)
    expect(reply.body).toEqual(golden('http_read_stream_with_error.bin'))
    expect(reply.headers['content-type']).toBe('text/plain; charset=utf-8')
    expect(reply.headers['transfer-encoding']).toBe('chunked')
  })

  test('each frame leaves at once', async () => {
    let release = () => {}
    server.engine.answer = async function* () {
      yield Buffer.from('first')
      await new Promise<void>((resolve) => {
        release = resolve
      })
    }
    await new Promise<void>((resolve, reject) => {
      const sent = httpRequest(
        { host: '127.0.0.1', port: server.httpPort, path: '/read', method: 'POST' },
        (response) => {
          response.once('data', (chunk: Buffer) => {
            expect(chunk).toEqual(frameMessage(Buffer.from('first')))
            release()
            response.resume().on('end', resolve)
          })
        },
      )
      sent.on('error', reject)
      sent.end(JSON.stringify(table))
    })
  })

  test('a failed set-up is a 200 and a frame with its text', async () => {
    const reply = await post('/read', { ...table, table: missingTable })
    expect(reply.status).toBe(200)
    expect(unframe(reply.body)).toHaveLength(1)
    expect(errorOf(reply.body)).toMatch(/^can't query: no table 'missing'/)
  })

  test('a failure after some frames is one more frame', async () => {
    server.engine.answer = function* () {
      yield Buffer.from('one')
      throw new FramesError('DATA_DAMAGED', 'boom')
    }
    const reply = await post('/read', table)
    expect(unframe(reply.body)[0]).toEqual(Buffer.from('one'))
    expect(errorOf(reply.body)).toMatch(/^error during iteration: boom/)
  })

  test('history is a frame stream too', async () => {
    server.engine.answer = () => [Buffer.from('h')]
    expect(unframe((await post('/history', {})).body)).toEqual([Buffer.from('h')])
    await restart({ config: '{disableHistory: true, backends: [{type: kv}]}' })
    expect(errorOf((await post('/history', {})).body)).toMatch(/^history server was not initialized properly/)
  })

  test('other formats are answered only when request and Accept both name them', async () => {
    server.engine.answer = () => [Buffer.from('body')]
    const arrow = 'application/vnd.apache.arrow.stream'
    const cases: [object, string, string, string][] = [
      [{ data_format: 'arrow' }, '*/*', 'wire', 'text/plain; charset=utf-8'],
      [{ data_format: 'arrow' }, 'application/*', 'wire', 'text/plain; charset=utf-8'],
      [{}, arrow, 'wire', 'text/plain; charset=utf-8'],
      [{ data_format: 'arrow' }, `text/html, ${arrow};q=0.9`, 'arrow', arrow],
      [{ row_layout: true }, '*/*', 'wire', 'text/plain; charset=utf-8'],
      [{ row_layout: true }, 'application/json', 'json', 'application/json'],
      [{ row_layout: true }, 'application/x-ndjson', 'ndjson', 'application/x-ndjson'],
      [{ row_layout: false }, 'application/json', 'wire', 'text/plain; charset=utf-8'],
    ]
    for (const [fields, accept, format, contentType] of cases) {
      const reply = await post('/read', { ...table, ...fields }, { headers: { Accept: accept } })
      expect([reply.status, server.engine.asked.at(-1)?.format]).toEqual([200, format])
      expect(reply.headers['content-type']).toBe(contentType)
      expect(reply.text.endsWith('body')).toBe(true)
    }
  })

  test('other formats fail with a status before their first byte, and break off after it', async () => {
    const headers = { Accept: 'application/json' }
    const missing = await post('/read', { ...table, table: missingTable, row_layout: true }, { headers })
    expect([missing.status, missing.text.startsWith("can't query: ")]).toEqual([404, true])
    server.engine.answer = function* () {
      yield Buffer.from('[1,')
      throw new FramesError('DATA_DAMAGED', 'boom')
    }
    await expect(post('/read', { ...table, row_layout: true }, { headers })).rejects.toThrow()
  })

  test('a reader that stops reading stops the engine, and going away ends its work', async () => {
    server.engine.answer = function* () {
      for (let index = 0; index < 1000; index++) yield Buffer.alloc(MiB)
    }
    const body = JSON.stringify(table)
    const socket = connect({ port: server.httpPort, host: '127.0.0.1' })
    socket.on('error', () => {})
    socket.pause()
    socket.write(`POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n${body}`)
    await eventually('frames are made', () => server.engine.pulledCount > 0)
    await new Promise((resolve) => setTimeout(resolve, 200))
    const stalledAt = server.engine.pulledCount
    await new Promise((resolve) => setTimeout(resolve, 100))
    // What the sockets of the machine hold, and two messages.
    expect(stalledAt).toBeLessThan(16)
    expect(server.engine.pulledCount).toBe(stalledAt)
    socket.destroy()
    await eventually('the signal is aborted', () => server.engine.signal?.aborted === true)
    await eventually('the read is released', () => server.engine.isReadReleased)
  })

  test('a reader that hangs up right before a frame is sent has cancelled its call', async () => {
    const body = JSON.stringify(table)
    const socket = connect({ port: server.httpPort, host: '127.0.0.1' })
    socket.on('error', () => {})
    server.engine.answer = function* () {
      yield Buffer.alloc(1000)
      // The server has not been told yet when it writes the next frame.
      socket.resetAndDestroy()
      yield Buffer.alloc(1000)
    }
    socket.write(`POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n${body}`)
    const ends = () => server.logged.filter((line) => line.includes('"outcome"'))
    await eventually('the call has ended', () => ends().length > 0)
    expect(ends()).toEqual([expect.stringContaining('"outcome":"CANCELLED"')])
  })
})

describe('writes', () => {
  test('messages may be cut anywhere', async () => {
    const body = Buffer.concat([head(), frame(1), frame(0), frame(100_000), frame(3, 9)])
    for (const cut of [1, 7, 8, 9, 50, 4096]) {
      const chunks: Buffer[] = []
      const step = cut < 50 ? cut : 997
      for (let at = 0; at < Math.min(body.length, step * 200); at += step) chunks.push(body.subarray(at, at + step))
      chunks.push(body.subarray(Math.min(body.length, step * 200)))
      server.engine.frames.length = 0
      const reply = await send('/write', chunks)
      expect(JSON.parse(reply.text)).toMatchObject({ num_frames: 4 })
      expect(server.engine.frames.map((taken) => taken.length)).toEqual([1, 0, 100_000, 3])
      expect(server.engine.frames[2].every((byte) => byte === 7)).toBe(true)
      expect(server.engine.frames[3]).toEqual(Buffer.alloc(3, 9))
    }
  })

  test('a write of the head alone is a success', async () => {
    expect(JSON.parse((await send('/write', head())).text)).toEqual({ num_frames: 0, num_rows: 0, num_skipped: 0 })
    const csv = await send('/write', head({ backend: 'csv' }))
    expect(JSON.parse(csv.text)).toEqual({ num_frames: 0, num_rows: 0 })
  })

  const length = (value: bigint) => {
    const prefix = Buffer.alloc(8)
    prefix.writeBigInt64LE(value)
    return prefix
  }
  const badHeads: [string, Buffer][] = [
    ['an empty body', Buffer.alloc(0)],
    ['a body that ends inside the length', Buffer.alloc(3)],
    ['a body that ends inside the message', length(100n)],
    ['a negative length', length(-1n)],
    ['the largest length', length(2n ** 63n - 1n)],
    ['a length above the limit', length(BigInt(128 * MiB + 1))],
    ['bytes that are no message', frameMessage(Buffer.from('garbage'))],
  ]
  test.each(badHeads)('%s is a bad write request', async (_name, body) => {
    const reply = await send('/write', body)
    expect(reply.status).toBe(400)
    expect(reply.text).toMatch(/^bad write request/)
    expect(server.engine.asked).toEqual([])
  })

  test('an unknown save mode is a 400 with its text', async () => {
    const reply = await send('/write', head({ saveMode: 'append' }))
    expect(reply.status).toBe(400)
    expect(reply.text).toMatch(/^no save mode named 'append'/)
  })

  const badLater: [string, Buffer][] = [
    ['a body that ends inside a length', Buffer.alloc(3)],
    ['a body that ends inside a message', Buffer.concat([length(100n), Buffer.alloc(5)])],
    ['a negative length', length(-5n)],
    ['a length above the limit', length(2n ** 62n)],
  ]
  test.each(badLater)('%s later on is a decode error that says what is stored', async (_name, tail) => {
    const reply = await send('/write', Buffer.concat([head(), frame(10), frame(20), tail]))
    expect(reply.status).toBe(500)
    expect(reply.text).toMatch(/^decode error: /)
    expect(reply.text).toMatch(/20 rows of the 2 frames before it are stored\.$/)
  })

  test('bytes that are no frame are a decode error', async () => {
    server.engine.onFrame = () => {
      throw new FramesError('MALFORMED_FRAME', 'frame: a varint is cut off')
    }
    const reply = await send('/write', Buffer.concat([head(), frame(10)]))
    expect(reply.status).toBe(500)
    expect(reply.text).toMatch(/^decode error: can't add frame: frame: a varint is cut off/)
  })

  const failures: [string, MessageInitShape<typeof InitialWriteRequestSchema>, string][] = [
    ['missing parameters', { table: '' }, 'write error: missing parameters'],
    ['an unknown backend', { backend: 'sql' }, 'write error: unknown backend - sql'],
    ['a missing table', { table: missingTable }, "write error: backend Write failed: no table 'missing'"],
    ['a defect', { table: defectTable }, 'write error: backend Write failed: internal error (request 1)'],
  ]
  test.each(failures)('%s is a 500 with its text', async (_name, fields, text) => {
    const reply = await send('/write', Buffer.concat([head(fields), frame(10)]))
    expect(reply.status).toBe(500)
    expect(reply.text.startsWith(text)).toBe(true)
  })

  test('a failed frame is answered after the rest of the body has been read', async () => {
    server.engine.onFrame = (_frame, index) => {
      if (index === 1) throw new FramesError('FRAME_SHAPE', 'column b has 2 rows')
    }
    const chunks = [head(), ...Array.from({ length: 40 }, () => frame(MiB))]
    for (const headers of [{}, { Connection: 'close' }]) {
      const reply = await send('/write', chunks, { headers })
      expect(reply.status).toBe(500)
      expect(reply.text).toMatch(/^write error: can't add frame: column b has 2 rows/)
    }
    expect(server.engine.frames).toHaveLength(2)
  })

  test('errors of routes without a use for the body are answered after it too', async () => {
    const big = Buffer.alloc(20 * MiB)
    expect((await send('/nowhere', big)).status).toBe(404)
    expect((await send('/read', big, { method: 'PUT' })).status).toBe(405)
  })

  test('a slow engine slows the client', async () => {
    let release = () => {}
    server.engine.onFrame = () =>
      new Promise((resolve) => {
        release = resolve
      })
    const socket = connect({ port: server.httpPort, host: '127.0.0.1' })
    let reply = ''
    socket.on('data', (chunk) => {
      reply += chunk.toString()
    })
    const frames = 64
    const one = frame(MiB)
    const total = head().byteLength + frames * one.byteLength
    socket.write(`POST /write HTTP/1.1\r\nHost: x\r\nContent-Length: ${total}\r\n\r\n`)
    socket.write(head())
    for (let index = 0; index < frames; index++) socket.write(one)
    await eventually('the first frame arrives', () => server.engine.asked.length === 1)
    await new Promise((resolve) => setTimeout(resolve, 300))
    // What the sockets of the machine hold, and one message.
    expect(total - socket.writableLength).toBeLessThan(24 * MiB)
    server.engine.onFrame = () => {}
    release()
    await eventually('the write is answered', () => reply.includes(`"num_frames":${frames}`))
    socket.destroy()
  })

  test('above the budget of all peers the one with the most waiting is refused, with its reason', async () => {
    await restart({ limits: { receivedByteLengthMax: 4 * MiB } })
    const reply = await send('/write', [head(), frame(3 * MiB), frame(3 * MiB), frame(9 * MiB)])
    expect(reply.status).toBe(500)
    expect(reply.text).toMatch(/^write error: too many bytes of all clients are waiting/)
    expect(server.engine.frames).toHaveLength(2)
    expect((await send('/write', [head(), frame(3 * MiB)])).status).toBe(200)
  })

  test('a client that goes away mid-write gives the write up', async () => {
    const socket = connect({ port: server.httpPort, host: '127.0.0.1' })
    socket.on('error', () => {})
    socket.write('POST /write HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n')
    socket.write(head())
    socket.write(frame(10))
    await eventually('the frame has come', () => server.engine.frames.length === 1)
    socket.destroy()
    await eventually('the signal is aborted', () => server.engine.signal?.aborted === true)
    await eventually('the write is given up', () => server.engine.abortCount === 1)
    await eventually('the call has ended', () => server.logged.some((line) => line.includes('"outcome":"CANCELLED"')))
  })
})

describe('create, delete, exec', () => {
  test('create and delete answer OK as text', async () => {
    for (const path of ['/create', '/delete']) {
      const reply = await post(path, table)
      expect([reply.status, reply.text]).toEqual([200, 'OK'])
      expect(reply.headers['content-type']).toBe('text/plain; charset=utf-8')
    }
  })

  test('exec answers the frame in base64, or an empty text', async () => {
    expect((await post('/exec', { ...table, command: 'c' })).text).toBe('{"frame":""}')
    server.engine.commandFrame = golden('frame_ints.bin')
    const reply = await post('/exec', { ...table, command: 'c' })
    expect(Buffer.from(JSON.parse(reply.text).frame, 'base64')).toEqual(golden('frame_ints.bin'))
  })

  const failures: [string, string, object, string][] = [
    ['create without a table', '/create', { backend: 'kv' }, 'missing parameters'],
    ['delete without a backend', '/delete', { table: 't' }, 'missing parameters'],
    ['create on an unknown backend', '/create', { backend: 'sql', table: 't' }, 'unknown backend - sql'],
    ['create that fails', '/create', { ...table, table: missingTable }, "error creating table: no table 'missing'"],
    ['delete that fails', '/delete', { ...table, table: missingTable }, "can't delete: no table 'missing'"],
    ['exec without a table', '/exec', { backend: 'kv' }, "can't exec: missing parameters"],
    ['exec on an unknown backend', '/exec', { backend: 'sql', table: 't' }, "can't exec: unknown backend - sql"],
    ['exec that fails', '/exec', { ...table, table: missingTable }, "can't exec: no table 'missing'"],
    ['a defect', '/create', { ...table, table: defectTable }, 'error creating table: internal error (request 1)'],
  ]
  test.each(failures)('%s is a 500 with its text', async (_name, path, json, text) => {
    const reply = await post(path, json)
    expect(reply.status).toBe(500)
    expect(reply.text.startsWith(text), reply.text).toBe(true)
    expect(reply.text).not.toMatch(/secret detail/)
  })
})

describe('the Authorization header', () => {
  const session = { container: 'box', user: 'body', password: 'canary' }
  const basic = (text: string) => `Basic ${Buffer.from(text).toString('base64')}`
  const userFor = async (authorization: string) => {
    await post('/create', { ...table, session }, { headers: { Authorization: authorization } })
    return server.engine.asked.at(-1)?.request.session
  }

  test('Basic overrides the user of the session', async () => {
    expect(await userFor(basic('joe:pa:ss'))).toEqual({ container: 'box', user: 'joe' })
  })

  test('an access key, a token and headers that are ignored leave the user as it was', async () => {
    const headers = [
      basic('__ACCESS_KEY:key'),
      'Bearer abc',
      'bearer abc',
      'Digest x',
      'Basic !!!',
      basic('no colon'),
      `basic ${Buffer.from('joe:x').toString('base64')}`,
    ]
    for (const header of headers) expect(await userFor(header)).toEqual({ container: 'box', user: 'body' })
    expect(server.logged.filter((line) => line.includes('Authorization header ignored'))).toHaveLength(5)
  })

  test('it applies without a session in the body', async () => {
    await post('/read', table, { headers: { Authorization: basic('joe:x') } })
    expect(server.engine.asked[0].request.session).toEqual({ user: 'joe' })
  })

  test('neither the log nor the engine sees a secret', async () => {
    await userFor(basic('joe:canary-password'))
    await userFor('Bearer canary-token')
    await userFor('Digest canary-digest')
    expect(server.logged.join('')).not.toMatch(/canary/)
    expect(JSON.stringify(server.engine.asked)).not.toMatch(/canary/)
  })
})

describe('connections', () => {
  const open = async (): Promise<Socket> => {
    const socket = connect({ port: server.httpPort, host: '127.0.0.1' })
    socket.on('error', () => {})
    await new Promise((resolve) => socket.once('connect', resolve))
    return socket
  }
  const closed = (socket: Socket) => new Promise((resolve) => socket.resume().once('close', resolve))

  test('garbage bytes end their connection and no other', async () => {
    const socket = await open()
    socket.write(Buffer.alloc(4096, 0xa5))
    await closed(socket)
    expect((await post('/version', {})).status).toBe(200)
  })

  test('headers that never end are cut off in time', async () => {
    await restart({ limits: { handshakeMs: 200 } })
    const socket = await open()
    socket.write('POST /read HTTP/1.1\r\nHost: x\r\n')
    await closed(socket)
    const silent = await open()
    await closed(silent)
  })

  test('bodies that never end are cut off in time', async () => {
    await restart({ limits: { controlBodyMs: 200, bodyIdleMs: 200 } })
    for (const path of ['/read', '/write', '/nowhere']) {
      const socket = await open()
      socket.write(`POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{`)
      await closed(socket)
    }
    const writing = await open()
    writing.write('POST /write HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n')
    writing.write(head())
    await closed(writing)
    await eventually('the write is given up', () => server.engine.abortCount === 1)
  })

  test('headers above their limit are refused', async () => {
    const reply = await post('/version', {}, { headers: { 'X-Long': 'x'.repeat(20_000) } })
    expect(reply.status).toBe(431)
  })

  test('connections beyond the limit are refused', async () => {
    await restart({ limits: { connectionCountMax: 1 } })
    const first = await open()
    const second = await open()
    await closed(second)
    first.destroy()
  })

  test('stopping lets a call at work finish', async () => {
    await restart({ limits: { drainMs: 5000 } })
    let release = () => {}
    const released = new Promise<void>((resolve) => {
      release = resolve
    })
    server.engine.onFinish = () => released
    const reply = send('/write', head())
    await eventually('the write is open', () => server.engine.asked.length === 1)
    const stopped = server.stop()
    await expect(post('/version', {})).rejects.toThrow()
    release()
    expect((await reply).status).toBe(200)
    await stopped
    expect(server.engine.isClosed).toBe(true)
  })
})
