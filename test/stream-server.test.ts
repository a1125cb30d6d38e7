// Streams through the server: what the wire adds to them. The published client's side is in test/interop/test_stream.py.
import { tableFromIPC } from 'apache-arrow'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { connect } from '../dist/client/index.js'
import { type Engine, Frame, openEngine, sliceColumn } from '../dist/engine/index.js'
import { readConfig } from '../dist/server/config.js'
import { openLog } from '../dist/server/log.js'
import { type RunningServer, startServer } from '../dist/server/start.js'

let engine: Engine
let server: RunningServer
let streamCount = 0

beforeAll(async () => {
  engine = await openEngine({ memoryByteLength: 256 * 2 ** 20, workerCount: 2 })
  const loopback = { host: '127.0.0.1', port: 0 }
  const log = openLog('error')
  server = await startServer({ engine, config: readConfig(null), log, httpAddress: loopback, grpcAddress: loopback })
})
afterAll(() => server.stop())

async function newStream(shards: bigint): Promise<{ backend: string; table: string }> {
  const stream = { backend: 'stream', table: `c/stream-${streamCount++}` }
  const client = await connect(`http://127.0.0.1:${server.httpPort}`)
  await client.create({ ...stream, shards })
  client.close()
  return stream
}

function frameOf(values: readonly bigint[]): Frame {
  return new Frame({ columns: [sliceColumn('i', [...values], 'int64')] })
}

function post(path: string, body: object, accept = '*/*'): Promise<Response> {
  return fetch(`http://127.0.0.1:${server.httpPort}${path}`, {
    method: 'POST',
    headers: { accept },
    body: JSON.stringify(body),
  })
}

test('the TypeScript client follows over HTTP; over gRPC it says that it cannot', async () => {
  const stream = await newStream(1n)
  const http = await connect(`http://127.0.0.1:${server.httpPort}`)
  const grpc = await connect(`grpc://127.0.0.1:${server.grpcPort}`)
  try {
    const found: bigint[] = []
    const request = { ...stream, seek: 'earliest', shardId: '0', followMs: 60_000, limit: 3n }
    const following = (async () => {
      for await (const frame of http.read(request)) found.push(...frame.column('i').ints())
    })()
    for (const i of [1n, 2n, 3n, 4n]) await grpc.write(stream, frameOf([i]))
    await following
    expect(found).toEqual([1n, 2n, 3n])
    expect(() => grpc.readWire(request)).toThrow('followMs works over HTTP')
  } finally {
    http.close()
    grpc.close()
  }
})

test('a read that follows ends when its client goes', async () => {
  const stream = await newStream(1n)
  const controller = new AbortController()
  const answer = await fetch(`http://127.0.0.1:${server.httpPort}/read`, {
    method: 'POST',
    body: JSON.stringify({ ...stream, seek: 'latest', shard_id: '0', Follow: '1h' }),
    signal: controller.signal,
  })
  expect(answer.status).toBe(200)
  controller.abort()
  await expect(answer.arrayBuffer()).rejects.toThrow()
  // The engine can be closed only when nobody reads: afterAll would wait for an hour.
})

test.each([{ follow: 'soon' }, { follow: -1 }, { follow: [] }])('%j is no time to follow', async (follow) => {
  const stream = await newStream(1n)
  const answer = await post('/read', { ...stream, seek: 'latest', shard_id: '0', ...follow })
  expect(answer.status).toBe(400)
  expect(await answer.text()).toMatch(/^bad request - /)
})

test('rows as JSON, and as an Arrow stream with the columns of all records', async () => {
  const stream = await newStream(2n)
  for (const data of ['{"a":1}', '{"a":2.5,"b":"x"}', 'raw']) {
    expect((await post('/exec', { ...stream, command: 'put', args: { data } })).status).toBe(200)
  }
  const request = { ...stream, seek: 'earliest' }
  const json = await post('/read', { ...request, row_layout: true, columns: ['a', 'b'] }, 'application/json')
  expect(await json.json()).toEqual([
    { shard_id: 0, seq_number: 1, a: 1, b: null },
    { shard_id: 1, seq_number: 1, a: 2.5, b: 'x' },
    { shard_id: 0, seq_number: 2, a: null, b: null },
  ])
  const type = 'application/vnd.apache.arrow.stream'
  const arrow = await post('/read', { ...request, data_format: 'arrow', message_limit: 1 }, type)
  const table = tableFromIPC(new Uint8Array(await arrow.arrayBuffer()))
  expect(table.schema.names).toEqual(['shard_id', 'seq_number', 'a', 'b', 'raw_data', 'stream_time'])
  expect([...(table.getChild('a') ?? [])]).toEqual([1, 2.5, null])
  const followed = await post('/read', { ...request, data_format: 'arrow', follow: 1 }, type)
  expect(followed.status).toBe(400)
})
