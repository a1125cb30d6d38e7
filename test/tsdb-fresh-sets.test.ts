// Reads of many label sets whose rows stand in fresh blocks: answered block by block, and as a read that goes set by set (one with
// a row limit) answers. Values are whole numbers, so that sums do not depend on the order.
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Column, type Engine, Frame, openEngine, type ReadRequest, sliceColumn } from '../dist/engine/index.js'
import { SeededRandom, seed } from './seeded-random.js'

const backend = 'tsdb'
const table = 'fresh'
const startMs = 1_450_000_000_000
const setCount = 3000
const stepMs = 10_000
const random = new SeededRandom(seed)
let engine: Engine

/** Some sets, each with a few rows from a time on. */
function frameOf(sets: readonly number[], fromMs: number, rows: number, columnOf: (count: number) => Column): Frame {
  const count = sets.length * rows
  const times = BigInt64Array.from({ length: count }, (_, i) => BigInt(fromMs + (i % rows) * stepMs) * 1_000_000n)
  const text = (name: string, of: (set: number) => string) =>
    sliceColumn(
      name,
      Array.from({ length: count }, (_, i) => of(sets[Math.floor(i / rows)]!)),
      'string',
    )
  return new Frame({
    columns: [columnOf(count)],
    indices: [
      sliceColumn('time', times, 'time'),
      text('series', (set) => `s${set}`),
      text('host', (set) => `host_${set % 40}`),
      text('region', (set) => ['eu', 'us', 'ap'][set % 3]!),
    ],
  })
}

const ints = (count: number): Column =>
  sliceColumn(
    'a',
    BigInt64Array.from({ length: count }, () => BigInt(random.integer(-1000, 1000))),
    'int64',
  )
const floatsWithGaps = (count: number): Column =>
  sliceColumn(
    'a',
    Array.from({ length: count }, () => (random.chance(0.3) ? null : random.integer(-1000, 1000))),
    'float64',
  )
const bools = (count: number): Column =>
  sliceColumn(
    'b',
    Array.from({ length: count }, () => random.chance(0.5)),
    'bool',
  )

beforeAll(async () => {
  engine = await openEngine({ memoryByteLength: 256 * 2 ** 20, workerCount: 2, history: false })
  await engine.create({ backend, table, rate: '1/s' })
  const all = Array.from({ length: setCount }, (_, set) => set)
  const write = (frame: Frame) => engine.write({ backend, table }, [frame])
  for (let round = 0; round < 6; round++) await write(frameOf(all, startMs + round * 3 * stepMs, 3, ints))
  // Before all others, with gaps, and some between others or in their place.
  await write(frameOf(all, startMs - 5 * stepMs, 2, ints))
  await write(
    frameOf(
      all.filter((set) => set % 7 === 0),
      startMs + 100 * stepMs,
      4,
      floatsWithGaps,
    ),
  )
  await write(
    frameOf(
      all.filter((set) => set % 50 === 0),
      startMs + 2 * stepMs + 5000,
      9,
      ints,
    ),
  )
  await write(
    frameOf(
      all.filter((set) => set % 90 === 1),
      startMs + stepMs,
      5,
      ints,
    ),
  )
  await write(
    frameOf(
      all.filter((set) => set % 11 === 0),
      startMs,
      5,
      bools,
    ),
  )
})

afterAll(() => engine.close())

async function hexOf(request: Partial<ReadRequest>): Promise<string[]> {
  const messages: string[] = []
  for await (const message of engine.readEncoded({ backend, table, ...request }, 'wire'))
    messages.push(Buffer.from(message).toString('hex'))
  return messages
}

const all = { start: '0', end: 'now' }
const aggregators = 'count,sum,min,max,avg'
const minute = { start: String(startMs - 60_000), end: String(startMs + 119_999), step: '1m' }
const requests: Readonly<Record<string, Partial<ReadRequest>>> = {
  'all sets': { ...all, aggregators },
  'last values of all sets': { ...all, aggregators: 'last,count' },
  'all sets by minute': { ...minute, aggregators },
  'last values by minute': { ...minute, aggregators: 'last' },
  'groups of a few': { ...all, groupBy: 'region', aggregators },
  'groups by minute': { ...minute, groupBy: 'region', aggregators },
  'groups of small steps': { ...all, groupBy: 'region', aggregators, step: '1s' },
  'groups of one': { ...all, groupBy: 'series', aggregators: 'last,max' },
  'one group': { ...all, groupBy: 'time', aggregators },
  'last values of groups': { ...minute, groupBy: 'host', aggregators: 'last' },
  'part of the time': {
    start: String(startMs + stepMs),
    end: String(startMs + 7 * stepMs),
    groupBy: 'host',
    aggregators,
  },
  'part of the sets': { ...all, filter: "host IN ('host_3', 'host_14')", aggregators },
  'one metric that some have': { ...all, columns: ['b'], groupBy: 'host', aggregators: 'count,sum,last' },
}

for (const [name, request] of Object.entries(requests)) {
  test(`${name}: answered together as one by one`, async () => {
    const apart = await hexOf({ ...request, limit: 10n ** 12n })
    expect(apart.length).toBeGreaterThan(0)
    expect(await hexOf(request)).toEqual(apart)
  })
}

test('merged blocks among fresh ones answer as those', async () => {
  await engine.execute({ backend, table, command: 'compact' })
  const some = Array.from({ length: 500 }, (_, set) => 3 * set)
  await engine.write({ backend, table }, [frameOf(some, startMs + 50 * stepMs, 3, ints)])
  await engine.write({ backend, table }, [frameOf(some.slice(100), startMs + 60 * stepMs, 3, ints)])
  for (const request of Object.values(requests))
    expect(await hexOf(request)).toEqual(await hexOf({ ...request, limit: 10n ** 12n }))
})

test('more sets than one job can send are answered together to the end, and as one by one', async () => {
  const setCount = 20_000
  // Texts so long that the messages of a worker's half are more than a job makes.
  const note = 'n'.repeat(1000)
  await engine.create({ backend, table: 'long', rate: '1/s' })
  for (let round = 0; round < 2; round++) {
    const times = new BigInt64Array(setCount).fill(BigInt(startMs + round * stepMs) * 1_000_000n)
    const series = Array.from({ length: setCount }, (_, set) => `s${set}`)
    const indices = [
      sliceColumn('time', times, 'time'),
      sliceColumn('series', series, 'string'),
      sliceColumn(
        'note',
        series.map(() => note),
        'string',
      ),
    ]
    const column = sliceColumn(
      'a',
      BigInt64Array.from({ length: setCount }, (_, set) => BigInt(set + round)),
      'int64',
    )
    await engine.write({ backend, table: 'long' }, [new Frame({ columns: [column], indices })])
  }
  const request = { ...all, table: 'long', aggregators: 'count,sum' }
  const together = await hexOf(request)
  expect(together).toHaveLength(setCount)
  expect(together).toEqual(await hexOf({ ...request, limit: 10n ** 12n }))
})
