// The client's typed verbs: its codec alone on random frames, then against a real engine behind both transports.
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  type Client,
  connect,
  type Column,
  Frame,
  FrameCodec,
  FramesError,
  frameFromMap,
  labelColumn,
  nullColumn,
  sliceColumn,
} from '../dist/client/index.js'
import { openEngine } from '../dist/engine/index.js'
import { readConfig } from '../dist/server/config.js'
import { openLog } from '../dist/server/log.js'
import { type RunningServer, startServer } from '../dist/server/start.js'
import { rowCounts, SeededRandom, seed } from './seeded-random.js'
import { codeOf, failureOf } from './failures.js'

function plain(frame: Frame) {
  const plainColumn = (column: Column) => [column.name, column.dtype, column.values()]
  return {
    rowCount: frame.length,
    columns: frame.columns.map(plainColumn),
    indices: frame.indices.map(plainColumn),
    labels: [...frame.labels],
  }
}

async function collect(frames: AsyncIterable<Frame>): Promise<Frame[]> {
  const collected: Frame[] = []
  for await (const frame of frames) collected.push(frame)
  return collected
}

describe('the codec', () => {
  const codec = new FrameCodec()

  test('gives back every frame that it has encoded', () => {
    const random = new SeededRandom(seed)
    for (const rowCount of rowCounts.filter((count) => count > 0)) {
      const holes = random.bits(rowCount)
      const cells = <T>(make: () => T) => random.list(rowCount, (row) => (holes[row] ? make() : null))
      const frame = new Frame({
        columns: [
          sliceColumn(
            'int64',
            cells(() => random.int64()),
            'int64',
          ),
          sliceColumn(
            'float64',
            cells(() => random.float64()),
            'float64',
          ),
          sliceColumn(
            'string',
            cells(() => random.string()),
            'string',
          ),
          sliceColumn(
            'bool',
            cells(() => random.chance(0.5)),
            'bool',
          ),
          sliceColumn(
            'time',
            cells(() => ({ timeNs: random.int64() })),
            'time',
          ),
          sliceColumn(
            'whole',
            random.list(rowCount, () => random.int64()),
            'int64',
          ),
          labelColumn('label', random.string(), rowCount),
          nullColumn('nothing', rowCount),
        ],
        indices: [
          sliceColumn(
            'time',
            random.list(rowCount, (row) => ({ timeNs: BigInt(row) })),
            'time',
          ),
          labelColumn('host', 'a', rowCount),
        ],
        labels: { s: 'é', f: -0.5, i: 2n ** 60n, b: true, t: { timeNs: -1n } },
      })
      expect(plain(codec.decode(codec.encode(frame)))).toEqual(plain(frame))
    }
  })

  test('sends a label with missing rows value by value', () => {
    const validity = Uint8Array.of(0b101)
    const frame = new Frame({ columns: [labelColumn('x', 'yes', 3).withValidity(validity)] })
    expect(codec.decode(codec.encode(frame)).column('x').values()).toEqual(['yes', null, 'yes'])
  })

  test('takes a larger memory for a larger frame, and goes on with small ones', () => {
    const values = new Float64Array(3_000_000).map((_, row) => row / 3)
    const large = frameFromMap({ x: values, y: values, z: values })
    const back = codec.decode(codec.encode(large))
    expect(back.length).toBe(values.length)
    expect(
      back
        .column('z')
        .floats()
        .every((value, row) => value === values[row]),
    ).toBe(true)
    expect(
      codec
        .decode(codec.encode(frameFromMap({ x: [1n] })))
        .column('x')
        .values(),
    ).toEqual([1n])
  })

  test('knows a message that decodes to far more than it is', () => {
    const rowCount = 2_000_000
    const frame = frameFromMap({ x: new BigInt64Array(rowCount) })
    const message = codec.encode(frame)
    expect(message.byteLength).toBeLessThan(rowCount + 100)
    expect(codec.decode(message).column('x').ints()).toHaveLength(rowCount)
  })

  test('refuses bytes that are no frame', () => {
    expect(() => codec.decode(Uint8Array.of(0x0a, 0x7f))).toThrow(/past the end/)
  })
})

let server: RunningServer

beforeAll(async () => {
  const config = readConfig(null)
  const loopback = { host: '127.0.0.1', port: 0 }
  const engine = await openEngine({ memoryByteLength: 256 * 2 ** 20, workerCount: 1 })
  server = await startServer({
    engine,
    config,
    log: openLog('error'),
    httpAddress: loopback,
    grpcAddress: loopback,
  })
})
afterAll(() => server.stop())

const startNs = 1_700_000_000_000_000_000n
const secondNs = 1_000_000_000n
const times = (rowCount: number) =>
  BigInt64Array.from({ length: rowCount }, (_, row) => startNs + BigInt(row) * secondNs)

function engineCases(transport: string, addressOf: () => string): void {
  describe(transport, () => {
    const table = { backend: 'tsdb', table: transport.replace(/\W/g, '_') }
    const all = { ...table, start: '0', end: 'now' }
    let client: Client

    beforeAll(async () => {
      client = connect(addressOf())
      await client.create({ ...table, rate: '1/s' })
    })
    afterAll(() => client.close())

    const rowCount = 5000
    const frame = new Frame({
      columns: [
        sliceColumn(
          'value',
          Float64Array.from({ length: rowCount }, (_, row) => row / 4),
        ),
        sliceColumn(
          'count',
          BigInt64Array.from({ length: rowCount }, (_, row) => 2n ** 53n + BigInt(row)),
        ),
        sliceColumn(
          'note',
          Array.from({ length: rowCount }, (_, row) => (row % 3 === 0 ? `n${row}` : null)),
          'string',
        ),
      ],
      indices: [sliceColumn('time', times(rowCount), 'time')],
      labels: { host: 'a' },
    })

    test('what is written is read back', async () => {
      expect(await client.write(table, frame)).toMatchObject({ frameCount: 1, rowCount })
      const frames = await collect(client.read({ ...all, columns: ['value', 'count', 'note'] }))
      expect(frames.reduce((sum, { length }) => sum + length, 0)).toBe(rowCount)
      expect(Object.fromEntries(frames[0].labels)).toEqual({ host: 'a' })
      const cells = (name: string) => frames.flatMap((part) => part.column(name).values())
      for (const name of frame.names) expect(cells(name)).toEqual(frame.column(name).values())
      expect(frames.flatMap((part) => part.indices[0].values())).toEqual(frame.indices[0].values())
    })

    test('frames are made while others are sent', async () => {
      const part = (host: string) => new Frame({ ...frame, columns: frame.columns, labels: { host } })
      async function* made() {
        for (const host of ['b', 'c', 'd']) yield part(host)
      }
      expect(await client.write(table, made())).toMatchObject({ frameCount: 3, rowCount: 3 * rowCount })
      expect(await client.write(table, [part('e')])).toMatchObject({ frameCount: 1 })
      const hosts = new Set((await collect(client.read(all))).map(({ labels }) => labels.get('host')))
      expect([...hosts]).toEqual(['a', 'b', 'c', 'd', 'e'])
    })

    test('aggregates are those of the samples', async () => {
      const request = { ...all, columns: ['value'], aggregators: 'avg,max,count', step: '500s', filter: "host=='a'" }
      const [answer] = await collect(client.read({ ...request, start: String(startNs / 1_000_000n) }))
      expect(answer.column('count(value)').values()).toEqual(new Array(10).fill(500))
      expect(answer.column('max(value)').at(9)).toBe((rowCount - 1) / 4)
      expect(answer.column('avg(value)').at(0)).toBeCloseTo(499 / 8, 10)
    })

    test('a command answers with a frame', async () => {
      const answer = await client.execute({ ...table, command: 'stats' })
      expect(answer?.column('label_sets').values()).toEqual([5n])
    })

    test('errors of the engine keep their code', async () => {
      expect(await codeOf(collect(client.read({ ...all, table: 'nosuch' })))).toBe('TABLE_NOT_FOUND')
      expect(await codeOf(client.create({ ...table, rate: '1/s' }))).toBe('TABLE_EXISTS')
      await failureOf(client.write(table, frameFromMap({ x: [1] })))
      const broken = (function* () {
        yield frame
        throw new FramesError('VALUE_TYPE', 'made wrongly')
      })()
      expect(await codeOf(client.write(table, broken))).toBe('VALUE_TYPE')
    })
  })
}

engineCases('over gRPC', () => `grpc://127.0.0.1:${server.grpcPort}`)
engineCases('over HTTP', () => `http://127.0.0.1:${server.httpPort}`)
