import { readFileSync } from 'node:fs'
import { create, toBinary } from '@bufbuild/protobuf'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type Client, type ClientOptions, connect, FramesError } from '../dist/client/index.js'
import { ColumnSchema, FrameSchema } from '../dist/proto/gen/frames_pb.js'
import { eventually, missingTable } from './fake-engine.js'
import { type Fixture, startFixture } from './server-fixture.js'
import { failureOf } from './failures.js'

const MiB = 1024 * 1024
const golden = (name: string) => readFileSync(new URL(`golden/${name}`, import.meta.url))
const table = { backend: 'kv', table: 't' }

/** Bytes of a frame with one column of so many zero bytes; valid, so that an HTTP client can look at its first field. */
const frameOf = (byteLength: number) =>
  toBinary(
    FrameSchema,
    create(FrameSchema, {
      columns: [create(ColumnSchema, { name: 'x', dtype: 3, strings: ['0'.repeat(byteLength)] })],
    }),
  )

async function collect(frames: AsyncIterable<Uint8Array>): Promise<Buffer[]> {
  const collected: Buffer[] = []
  for await (const frame of frames) collected.push(Buffer.from(frame))
  return collected
}

/** Compares bytes; the matchers of the test runner look at each on its own, for minutes. */
function expectSame(actual: readonly Buffer[], expected: readonly Buffer[]): void {
  expect(actual.map((bytes) => bytes.byteLength)).toEqual(expected.map((bytes) => bytes.byteLength))
  expect(actual.every((bytes, index) => bytes.equals(expected[index]))).toBe(true)
}

/** What a client promises, whichever transport it uses. */
function clientCases(transport: string, addressOf: (server: Fixture) => string): void {
  describe(transport, () => {
    let server: Fixture
    let client: Client
    const connected = (options?: ClientOptions) => {
      client?.close()
      client = connect(addressOf(server), options)
      return client
    }

    beforeEach(async () => {
      server = await startFixture()
      connected()
    })
    afterEach(async () => {
      client.close()
      await server.stop()
    })

    test('requests arrive as they were given', async () => {
      const session = { container: 'box', user: 'joe' }
      const createRequest = {
        ...table,
        session,
        ifExists: 'ignore' as const,
        rate: '1/s',
        shards: 9007199254740993n,
        schema: {
          name: 'n',
          fields: [{ name: 'f', type: 'long', default: 0n, properties: { a: 'x', b: true, c: 1, d: -2.5, e: 7n } }],
          key: { shardingKey: ['f'], sortingKey: ['g'] },
        },
      }
      const readRequest = {
        ...table,
        session,
        columns: ['a', 'b'],
        filter: `a > 1 AND s == 'ü"\\'`,
        groupBy: 'g',
        limit: 5n,
        messageLimit: 6n,
        marker: 'm',
        segments: [1n, -1n],
        shardingKeys: ['k'],
        multiIndex: true,
        start: 'now-1h',
        sequence: 12n,
        resetIndex: true,
      }
      const deleteRequest = { ...table, session, filter: 'x', ifMissing: 'ignore' as const, metrics: ['m'] }
      const executeRequest = {
        ...table,
        session,
        command: 'c',
        args: { i: -3n, f: 2, s: '', b: false },
        expression: 'e',
      }
      const historyRequest = { session, backend: 'kv', action: 'read', minDuration: 5n }
      const writeRequest = { ...table, session, saveMode: 'updateItem', partitionKeys: ['p'], condition: 'c' }

      await client.create(createRequest)
      await collect(client.readWire(readRequest))
      await client.delete(deleteRequest)
      await client.executeWire(executeRequest)
      await collect(client.historyWire(historyRequest))
      await client.writeWire(writeRequest, [])
      expect(server.engine.asked.map((asked) => asked.request)).toEqual([
        createRequest,
        readRequest,
        deleteRequest,
        executeRequest,
        historyRequest,
        writeRequest,
      ])
    })

    test('requests without a session get the one of the client', async () => {
      await connected({ session: { container: 'mine', user: 'me' } }).create(table)
      expect(server.engine.asked[0].request.session).toEqual({ container: 'mine', user: 'me' })
    })

    test('a command answers with its frame, or null', async () => {
      expect(await client.executeWire({ ...table, command: 'c' })).toBeNull()
      server.engine.commandFrame = golden('frame_ints.bin')
      expect(await client.executeWire({ ...table, command: 'c' })).toEqual(golden('frame_ints.bin'))
    })

    test('the version is the one the server answers', async () => {
      expect(await client.version()).toBe('v0.13.13')
    })

    test('frames of a read come as they were sent', async () => {
      const frames = [golden('frame_ints.bin'), Buffer.from(frameOf(3 * MiB)), Buffer.alloc(0)]
      server.engine.answer = () => frames
      expectSame(await collect(client.readWire(table)), frames)
    })

    test('a slow reader slows the engine, and leaving the loop ends the read', async () => {
      const frame = frameOf(MiB)
      server.engine.answer = function* () {
        for (let index = 0; index < 500; index++) yield frame
      }
      let count = 0
      for await (const _frame of client.readWire(table)) {
        if (++count === 3) break
        await new Promise((resolve) => setTimeout(resolve, 50))
      }
      // Windows, sockets and the messages that grpc-js reads ahead.
      expect(server.engine.pulledCount).toBeLessThan(64)
      await eventually('the read is released', () => server.engine.isReadReleased)
    })

    test('a write sends its frames in order and answers with the counts', async () => {
      const frames = [golden('frame_ints.bin'), Buffer.from(frameOf(2 * MiB)), golden('frame_ints.bin')]
      server.engine.result = { frameCount: 3, rowCount: 20, skippedCount: 4 }
      async function* made() {
        yield* frames
      }
      expect(await client.writeWire(table, made())).toEqual({ frameCount: 3, rowCount: 20, skippedCount: 4 })
      expectSame(server.engine.frames, frames)
      await client.writeWire(table, frames)
      expectSame(server.engine.frames, [...frames, ...frames])
    })

    test('a slow engine slows the source of a write', async () => {
      let release = () => {}
      server.engine.onFrame = () => new Promise((resolve) => (release = resolve))
      let madeCount = 0
      const frame = frameOf(MiB)
      function* made() {
        for (; madeCount < 200; madeCount++) yield frame
      }
      const writing = client.writeWire(table, made())
      await new Promise((resolve) => setTimeout(resolve, 500))
      expect(madeCount).toBeLessThan(32)
      server.engine.onFrame = () => {}
      release()
      expect((await writing).frameCount).toBe(200)
    })

    test('an error of the server is the same error here', async () => {
      const missing = { ...table, table: missingTable }
      const creating = await failureOf(client.create(missing))
      expect([creating.code, creating.kind]).toEqual(['TABLE_NOT_FOUND', 'not-found'])
      expect(creating.message).toBe(
        "error creating table: no table 'missing'. Check its name and container, or make it: with create, or in kv and csv by writing to it.",
      )
      const reading = await failureOf(collect(client.readWire(missing)))
      expect(reading.message).toMatch(/^can't query: no table 'missing'/)
      const writing = await failureOf(client.writeWire(missing, [frameOf(10)]))
      expect(writing.code).toBe('TABLE_NOT_FOUND')
      expect(writing.message).toContain("backend Write failed: no table 'missing'")
    })

    test('a failed write ends its source early', async () => {
      server.engine.onFrame = () => {
        throw new FramesError('FRAME_SHAPE', 'column b has 2 rows')
      }
      let isClosed = false
      async function* endless() {
        try {
          // HTTP tells of an error after the whole body, so the body must end some time.
          for (let index = 0; index < 20; index++) {
            yield frameOf(10)
            await new Promise((resolve) => setTimeout(resolve, 5))
          }
        } finally {
          isClosed = true
        }
      }
      const error = await failureOf(client.writeWire(table, endless()))
      expect(error.code).toBe('FRAME_SHAPE')
      await eventually('the source is closed', () => isClosed)
    })

    test('an error of the source itself ends the write and is passed on', async () => {
      async function* broken() {
        yield frameOf(10)
        await eventually('the frame has come', () => server.engine.frames.length === 1)
        throw new FramesError('FRAME_SHAPE', 'made wrongly')
      }
      const overwriting = client.writeWire({ ...table, saveMode: 'overwriteTable' }, broken())
      expect((await failureOf(overwriting)).message).toMatch(/^made wrongly/)
      await eventually('the write is over', () => server.engine.abortCount + server.engine.finishCount === 1)
      expect(server.engine.finishCount).toBe(0)
    })

    test('an error of the source that is no FramesError is passed on as it is', async () => {
      async function* broken() {
        yield frameOf(10)
        throw new RangeError('made wrongly')
      }
      await expect(client.writeWire(table, broken())).rejects.toThrow(new RangeError('made wrongly'))
    })

    test('a client that was closed is not asked again', async () => {
      client.close()
      expect((await failureOf(client.version())).code).toBe('CANCELLED')
      expect((await failureOf(collect(client.readWire(table)))).code).toBe('CANCELLED')
    })

    test('a failed read says which error it was, also after some frames', async () => {
      const missing = await failureOf(collect(client.readWire({ ...table, table: missingTable })))
      expect(missing.code).toBe('TABLE_NOT_FOUND')
      server.engine.answer = function* () {
        yield frameOf(10)
        throw new FramesError('DATA_DAMAGED', 'block 7')
      }
      const frames: Uint8Array[] = []
      const reading = async () => {
        for await (const frame of client.readWire(table)) frames.push(frame)
      }
      expect((await failureOf(reading())).code).toBe('DATA_DAMAGED')
      expect(frames).toHaveLength(1)
    })

    test('an aborted call is cancelled on both sides', async () => {
      server.engine.onFinish = () => new Promise(() => {})
      const abort = new AbortController()
      const writing = failureOf(client.writeWire(table, [frameOf(10)], { signal: abort.signal }))
      await eventually('the frame has come', () => server.engine.frames.length === 1)
      abort.abort()
      expect((await writing).code).toBe('CANCELLED')
      await eventually('the write is given up', () => server.engine.abortCount === 1)
      expect((await failureOf(client.create(table, { signal: abort.signal }))).code).toBe('CANCELLED')
      expect((await failureOf(collect(client.readWire(table, { signal: abort.signal })))).code).toBe('CANCELLED')
    })

    test('a server that is not there is unreachable', async () => {
      await server.stop()
      expect((await failureOf(client.create(table))).code).toBe('SERVER_UNREACHABLE')
      expect((await failureOf(collect(client.readWire(table)))).code).toBe('SERVER_UNREACHABLE')
      expect((await failureOf(client.writeWire(table, [frameOf(1)]))).code).toBe('SERVER_UNREACHABLE')
    })
  })
}

clientCases('over gRPC', (server) => `grpc://127.0.0.1:${server.grpcPort}`)
clientCases('over gRPC without a scheme', (server) => `127.0.0.1:${server.grpcPort}`)
clientCases('over HTTP', (server) => `http://127.0.0.1:${server.httpPort}/`)

test.each(['', 'grpc://', 'ftp://127.0.0.1:80', 'http://'])('address "%s" is refused', (address) => {
  expect(() => connect(address)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }))
})

test('what JSON has no form for is refused before it is sent', async () => {
  const client = connect('http://127.0.0.1:1')
  for (const value of [Number.NaN, Number.POSITIVE_INFINITY, { timeNs: 5n }]) {
    const error = await failureOf(client.executeWire({ ...table, command: 'c', args: { x: value } }))
    expect(error.code).toBe('INVALID_ARGUMENT')
  }
  client.close()
})
