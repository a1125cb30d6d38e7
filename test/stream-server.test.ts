// Streams through the server: what the wire adds to them. The published client's side is in test/interop/test_stream.py.
import { tableFromIPC } from 'apache-arrow'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Client, connect } from '../dist/client/index.js'
import { type Engine, Frame, openEngine, type ReadRequest, sliceColumn } from '../dist/engine/index.js'
import { readConfig } from '../dist/server/config.js'
import { openLog } from '../dist/server/log.js'
import { type RunningServer, startServer } from '../dist/server/start.js'

let engine: Engine
let server: RunningServer
let streamCount = 0

beforeAll(async () => {
  engine = await openEngine({ memoryByteLength: 512 * 2 ** 20, workerCount: 2 })
  const loopback = { host: '127.0.0.1', port: 0 }
  const log = openLog('error')
  // Connections without any bytes for this time are ended, but those of readers that follow.
  const limits = { stalledCallMs: 1000 }
  const config = readConfig(null)
  server = await startServer({ engine, config, log, httpAddress: loopback, grpcAddress: loopback, limits })
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

test('one client writes much and reads much at once', async () => {
  const own = await openEngine({ memoryByteLength: 256 * 2 ** 20, workerCount: 2 })
  const loopback = { host: '127.0.0.1', port: 0 }
  const config = readConfig(null)
  const log = openLog('error')
  // With its own limits: on a busy machine more than a second passes without any bytes of a call.
  const patient = await startServer({ engine: own, config, log, httpAddress: loopback, grpcAddress: loopback })
  const client = connect(`grpc://127.0.0.1:${patient.grpcPort}`)
  const stream = { backend: 'stream', table: 'c/much' }
  const text = 'x'.repeat(100)
  const texts = Array.from({ length: 10_000 }, (_, i) => text + i)
  const frame = new Frame({ columns: [sliceColumn('s', texts, 'string')] })
  const write = (): Promise<unknown> => client.write(stream, Array(20).fill(frame))
  const read = async (): Promise<number> => {
    let count = 0
    for await (const part of client.read({ ...stream, seek: 'earliest', limit: 200_000n })) count += part.length
    return count
  }
  try {
    await client.create({ ...stream, shards: 1n })
    await write()
    const both = Array.from({ length: 4 }, async () => {
      const [count] = await Promise.all([read(), write()])
      return count
    })
    expect(await Promise.all(both)).toEqual([200_000, 200_000, 200_000, 200_000])
  } finally {
    client.close()
    await patient.stop()
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

test('a server that stops tells those who follow at once', async () => {
  const own = await openEngine({ memoryByteLength: 128 * 2 ** 20, workerCount: 1 })
  const loopback = { host: '127.0.0.1', port: 0 }
  const log = openLog('error')
  // Calls of other kinds may take longer than this test.
  const limits = { drainMs: 600_000 }
  const config = readConfig(null)
  const stopped = await startServer({ engine: own, config, log, httpAddress: loopback, grpcAddress: loopback, limits })
  await own.create({ backend: 'stream', table: 's', session: { container: 'c' } })
  const answer = await fetch(`http://127.0.0.1:${stopped.httpPort}/read`, {
    method: 'POST',
    body: JSON.stringify({ backend: 'stream', table: 's', session: { container: 'c' }, seek: 'latest', follow: '1h' }),
  })
  const followed = answer.text()
  await stopped.stop()
  expect(await followed).toContain('the server is stopping')
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

test('a read that follows is not ended by a stream that is silent for longer than a connection may stall', async () => {
  const stream = await newStream(1n)
  const http = await connect(`http://127.0.0.1:${server.httpPort}`)
  const found: bigint[] = []
  const following = (async () => {
    for await (const frame of http.read({ ...stream, seek: 'earliest', followMs: 20_000, limit: 2n }))
      found.push(...frame.column('i').ints())
  })()
  await new Promise((resolve) => setTimeout(resolve, 2500))
  await engine.write(stream, frameOf([1n]))
  await new Promise((resolve) => setTimeout(resolve, 2500))
  await engine.write(stream, frameOf([2n]))
  await following
  expect(found).toEqual([1n, 2n])
  http.close()
})

describe.each(['grpc', 'http'] as const)('what cannot be, over %s', (protocol) => {
  let client: Client
  beforeAll(async () => {
    const port = protocol === 'grpc' ? server.grpcPort : server.httpPort
    client = connect(`${protocol}://127.0.0.1:${port}`)
  })
  afterAll(() => client.close())

  const read = async (request: Omit<ReadRequest, 'backend'>): Promise<Frame[]> => {
    const frames: Frame[] = []
    for await (const frame of client.read({ backend: 'stream', ...request })) frames.push(frame)
    return frames
  }
  const newOne = async (shards = 1n): Promise<{ backend: string; table: string }> => {
    const stream = await newStream(shards)
    await client.execute({ ...stream, command: 'put', args: { data: '{"i":1}' } })
    return stream
  }
  /** A connection that was ended would fail differently. */
  const isServing = async ({ table }: { table: string }): Promise<void> => {
    expect((await read({ table, seek: 'earliest' }))[0]!.length).toBe(1)
  }

  test.each(['1', '-1', '0x0', '1.0', ' 0', '1e0', 'x', '99999999999999999999', '4294967296', '\0'])(
    'shard %j',
    async (shardId) => {
      const stream = await newOne()
      await expect(read({ table: stream.table, seek: 'earliest', shardId })).rejects.toThrow(
        'Error in Seek operation - ',
      )
      await isServing(stream)
    },
  )

  test.each([0n, -1n, 3n, -(2n ** 63n), 2n ** 63n - 1n])('sequence number %s', async (sequence) => {
    const stream = await newOne()
    const request = { table: stream.table, seek: 'seq', shardId: '0', sequence }
    await expect(read(request)).rejects.toThrow('Error in Seek operation - no record has sequence number')
    await isServing(stream)
  })

  test('a seek without what it needs', async () => {
    const stream = await newOne(2n)
    const { table } = stream
    await expect(read({ table, seek: '' })).rejects.toThrow('missing essential parameters, need: table, seek, shard')
    await expect(read({ table, seek: 'seq', shardId: '0' })).rejects.toThrow('Error in Seek operation - ')
    await expect(read({ table, seek: 'seq', sequence: 1n })).rejects.toThrow('missing essential parameters')
    await expect(read({ table, seek: 'time', shardId: '0' })).rejects.toThrow('Invalid time string')
    await expect(read({ table, seek: 'time', start: 'soon' })).rejects.toThrow('Invalid time string')
    await isServing(stream)
  })

  test('a million shards are refused, 1024 are made; retention 0 is a day', async () => {
    const table = `c/many-${protocol}`
    const create = (shards: bigint, retentionHours: bigint) =>
      client.create({ backend: 'stream', table, shards, retentionHours })
    await expect(create(1_000_000n, 0n)).rejects.toThrow('a stream of 1000000 shards is not possible')
    await expect(create(-1n, 0n)).rejects.toThrow("'shards' must be a positive integer (got -1)")
    await expect(create(1n, -1n)).rejects.toThrow("'retention_hours' must be a positive integer (got -1)")
    await expect(create(1n, 2n ** 62n)).rejects.toThrow("'retention_hours' is")
    await create(1024n, 0n)
    const described = (await client.execute({ backend: 'stream', table, command: 'describe' }))!
    expect(described.length).toBe(1024)
    expect(described.column('retention_hours').at(0)).toBe(24n)
    await client.delete({ backend: 'stream', table })
  })

  test('a record of 32 MB is refused as a command and as a cell is stored whole', async () => {
    const stream = await newOne()
    const large = 'x'.repeat(32_000_000)
    const put = client.execute({ ...stream, command: 'put', args: { data: large } })
    await expect(put).rejects.toMatchObject({ kind: 'exhausted' })
    await isServing(stream)
    await client.write(stream, new Frame({ columns: [sliceColumn('large', [large], 'string')] }))
    const frames = await read({ table: stream.table, seek: 'seq', shardId: '0', sequence: 2n })
    expect(frames[0]!.column('large').at(0) === large).toBe(true)
  })
})
