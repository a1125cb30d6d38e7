// Time series tables through the engine: what is written is what is read.
import { fromBinary } from '@bufbuild/protobuf'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Engine, Frame, openEngine, sliceColumn } from '../dist/engine/index.js'
import { FrameSchema } from '../dist/proto/gen/frames_pb.js'

let engine: Engine
let tableCount = 0

beforeAll(async () => {
  engine = await openEngine({ workerCount: 1 })
})
afterAll(async () => {
  await engine.close()
})

async function newTable(): Promise<{ backend: string; table: string }> {
  const request = { backend: 'tsdb', table: `table-${tableCount++}` }
  await engine.create({ ...request, rate: '1/s' })
  return request
}

async function readCells(request: { backend: string; table: string }, columns: string[]): Promise<unknown[][]> {
  const cells: unknown[][] = []
  for await (const frame of engine.read({ ...request, columns, start: '0', end: 'now' })) {
    cells.push(...columns.map((name) => frame.column(name).values()))
  }
  return cells
}

describe('frames as the Python client sends them', () => {
  // v3io_frames 0.13.13: float [1.5, None, 3.5] and present [1, 2, 3], an index named time, a null map a row.
  const message =
    '0a231205666c6f617418023218000000000000f83f00000000000000000000000000000c40' +
    '0a10120770726573656e7418012a030102031225120474696d651804421b80c0d7fce384e0' +
    'a11580f0f4bec386e0a11580a09281a388e0a1152a002a0b0a090a05666c6f617410012a00'

  test('a column with missing cells beside a full one keeps the cells that are there', async () => {
    const request = await newTable()
    const session = await engine.openWrite(request)
    await session.addWire(Buffer.from(message, 'hex'))
    await session.finish()
    expect(await readCells(request, ['float', 'present'])).toEqual([
      [1.5, null, 3.5],
      [1n, 2n, 3n],
    ])
  })

  test('the same frame as columns is stored alike', async () => {
    const request = await newTable()
    const times = [0n, 60_000_000_000n, 120_000_000_000n]
    const columns = [sliceColumn('float', [1.5, null, 3.5], 'float64'), sliceColumn('present', [1n, 2n, 3n], 'int64')]
    await engine.write(request, new Frame({ columns, indices: [sliceColumn('time', times, 'time')] }))
    expect(await readCells(request, ['float', 'present'])).toEqual([
      [1.5, null, 3.5],
      [1n, 2n, 3n],
    ])
  })
})

describe('frames as the Python client needs them', () => {
  const time = sliceColumn('time', [0n, 60_000_000_000n, 120_000_000_000n], 'time')
  const full = sliceColumn('full', [1n, 2n, 3n], 'int64')
  const gaps = sliceColumn('gaps', [1.5, null, 3.5], 'float64')

  async function nullMaps(columns: string[], labels: Record<string, string>): Promise<string[][]> {
    const request = await newTable()
    await engine.write(request, new Frame({ columns: [full, gaps], indices: [time], labels }))
    const maps: string[][] = []
    for await (const bytes of engine.readEncoded({ ...request, columns, start: '0', end: 'now' }, 'wire')) {
      maps.push(...fromBinary(FrameSchema, bytes).nullValues.map(({ nullColumns }) => Object.keys(nullColumns)))
    }
    return maps
  }

  test.for([{}, { node: 'a' }])('null maps are none, or one a row, with labels %j', async (labels) => {
    expect(await nullMaps(['full'], labels)).toEqual([])
    expect(await nullMaps(['full', 'gaps'], labels)).toEqual([[], ['gaps'], []])
  })

  test('a missing bool is sent as false, whatever the message before had there', async () => {
    const request = await newTable()
    const frameAt = (minute: number, flags: boolean[] | null) => {
      const times = [0, 1].map((row) => BigInt(2 * minute + row) * 60_000_000_000n)
      const columns = [sliceColumn('full', [1n, 2n], 'int64')]
      if (flags !== null) columns.push(sliceColumn('flag', flags, 'bool'))
      return new Frame({ columns, indices: [sliceColumn('time', times, 'time')] })
    }
    await engine.write(request, frameAt(0, [true, true]))
    await engine.write(request, frameAt(1, null))
    const found: [boolean[], boolean[]][] = []
    const read = { ...request, columns: ['flag', 'full'], start: '0', end: 'now', messageLimit: 1n }
    for await (const bytes of engine.readEncoded(read, 'wire')) {
      const { columns, nullValues } = fromBinary(FrameSchema, bytes)
      found.push([columns[0]!.bools, nullValues.map(({ nullColumns }) => nullColumns['flag'] === true)])
    }
    const missing = [[false], [true]]
    expect(found).toEqual([[[true], []], [[true], []], missing, missing])
  })
})

test('a label called __name__ has a column called metric_name, as a value or as an index, and its name in the labels', async () => {
  const request = await newTable()
  const indices = [
    sliceColumn('time', [0n], 'time'),
    sliceColumn('__name__', ['zz'], 'string'),
    sliceColumn('node', ['a'], 'string'),
  ]
  await engine.write(request, new Frame({ columns: [sliceColumn('cpu', [1.5], 'float64')], indices }))
  for (const multiIndex of [false, true]) {
    const read = { ...request, start: '0', end: 'now', multiIndex }
    const shown: unknown[] = []
    for await (const frame of engine.read(read)) {
      shown.push([frame.names, frame.indices.map(({ name }) => name), Object.fromEntries(frame.labels)])
    }
    for await (const bytes of engine.readEncoded(read, 'wire')) {
      const { columns, indices, labels } = fromBinary(FrameSchema, bytes)
      const texts = Object.entries(labels).map(([name, { value }]) => [name, value.value])
      shown.push([columns.map(({ name }) => name), indices.map(({ name }) => name), Object.fromEntries(texts)])
    }
    const constants = ['metric_name', 'node']
    const expected = multiIndex ? [['cpu'], ['time', ...constants]] : [['cpu', ...constants], ['time']]
    expect(shown).toEqual([0, 1].map(() => [...expected, { __name__: 'zz', node: 'a' }]))
  }
})

describe('encoded messages of several label sets', () => {
  const minuteNs = 60_000_000_000n
  const hosts = ['a', 'b', 'c', 'd', 'e', 'f']

  /** Host number n has n + i in minute i; some hosts lack some minutes, one the other metric, and one has text in it. */
  async function written(): Promise<{ backend: string; table: string }> {
    const request = await newTable()
    for (const [number, host] of hosts.entries()) {
      const minutes = [0, 1, 2, 3, 4, 5].filter((minute) => host !== 'c' || (minute !== 2 && minute !== 5))
      const columns = [
        sliceColumn(
          'load',
          minutes.map((minute) => number + minute),
          'float64',
        ),
      ]
      if (host === 'e') {
        const text = minutes.map((minute) => `text ${minute}`)
        columns.push(sliceColumn('other', text, 'string'))
      } else if (host !== 'b') {
        const counts = minutes.map((minute) => BigInt(10 * number + minute))
        columns.push(sliceColumn('other', counts, 'int64'))
      }
      const times = minutes.map((minute) => BigInt(minute) * minuteNs)
      const labels = { host, place: `place of ${host}` }
      await engine.write(request, new Frame({ columns, indices: [sliceColumn('time', times, 'time')], labels }))
    }
    return request
  }

  async function encoded(request: Parameters<Engine['readEncoded']>[0]): Promise<string[]> {
    const messages: string[] = []
    for await (const bytes of engine.readEncoded(request, 'wire')) messages.push(Buffer.from(bytes).toString('hex'))
    return messages
  }

  const shapes: [name: string, fields: object][] = [
    ['in one bucket', { aggregators: 'count,last', step: '6m' }],
    ['in many buckets', { aggregators: 'avg,max', step: '1m' }],
    ['in a part of the buckets', { aggregators: 'min,sum', step: '1m', start: '120000', end: '239999' }],
    ['grouped by a label', { aggregators: 'avg,stddev', step: '2m', groupBy: 'host' }],
    ['with labels as indexes', { aggregators: 'max', step: '1m', multiIndex: true }],
    ['with columns that some lack', { aggregators: 'max', step: '1m', columns: ['load', 'other', 'none'] }],
    ['cut into short messages', { aggregators: 'max', step: '1m', messageLimit: 4n }],
  ]

  test.for(shapes)('the answer %s is the same as set by set', async ([, fields]) => {
    const table = await written()
    const request = { ...table, columns: ['load'], start: '0', end: '359999', ...fields }
    const all = await encoded(request)
    const each: string[] = []
    for (const host of hosts) each.push(...(await encoded({ ...request, filter: `host == '${host}'` })))
    expect(all.length).toBeGreaterThanOrEqual(hosts.length)
    expect(all).toEqual(each)
  })

  test('messages come in order however they are asked for, and end where the reader ends', async () => {
    const request = {
      ...(await written()),
      columns: ['load'],
      aggregators: 'max',
      step: '6m',
      start: '0',
      end: '359999',
    }
    const all = await encoded(request)
    expect(all).toHaveLength(hosts.length)
    const hexOf = ({ value, done }: IteratorResult<Uint8Array>): string =>
      done === true ? 'end' : Buffer.from(value).toString('hex')
    const ahead = engine.readEncoded(request, 'wire')
    const asked = await Promise.all(Array.from({ length: hosts.length + 2 }, () => ahead.next()))
    expect(asked.map(hexOf)).toEqual([...all, 'end', 'end'])
    const ended = engine.readEncoded(request, 'wire')
    expect(hexOf(await ended.next())).toBe(all[0])
    await ended.return(undefined)
    expect(hexOf(await ended.next())).toBe('end')
  })
})
