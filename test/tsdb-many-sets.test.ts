// Reads of many label sets: those whose buckets digests fill are answered together, others among them one by one, and the
// messages are those of a read that goes set by set (as one with a row limit does).
import { afterAll, beforeAll, expect, test } from 'vitest'
import { isLikelyDigested } from '../dist/engine/backends/tsdb/digests.js'
import type { LiveBlock } from '../dist/engine/blocks/live-block.js'
import { type Engine, Frame, openEngine, type ReadRequest, sliceColumn } from '../dist/engine/index.js'
import { SeededRandom, seed } from './seeded-random.js'

const backend = 'tsdb'
const table = 'many'
const hourMs = 3_600_000
const startMs = 400_000 * hourMs
const rowCount = 1440
const random = new SeededRandom(seed)
let engine: Engine

function frameOf(host: number, fromMs: number, rows: number, metrics: readonly string[]): Frame {
  const time = sliceColumn(
    'time',
    BigInt64Array.from({ length: rows }, (_, row) => BigInt(fromMs + row * 10_000) * 1_000_000n),
    'time',
  )
  const columns = metrics.map((name) =>
    sliceColumn(
      name,
      Float64Array.from({ length: rows }, () => random.integer(-1000, 1000) / 100),
      'float64',
    ),
  )
  return new Frame({ columns, indices: [time], labels: { host: `host_${host}`, zone: `zone_${host % 7}` } })
}

beforeAll(async () => {
  engine = await openEngine({ memoryByteLength: 256 * 2 ** 20, workerCount: 2, history: false })
  await engine.create({ backend, table, rate: '1/s' })
  const frames = Array.from({ length: 120 }, (_, host) => {
    // Some have other metrics, some begin later, and some have an empty hour between others.
    const metrics = host % 11 === 3 ? ['a', 'c'] : ['a', 'b']
    if (host % 13 === 5) return [frameOf(host, startMs + 2 * hourMs, rowCount / 2, metrics)]
    if (host % 17 === 6)
      return [frameOf(host, startMs, 360, metrics), frameOf(host, startMs + 2 * hourMs, 720, metrics)]
    return [frameOf(host, startMs, rowCount, metrics)]
  }).flat()
  await engine.write({ backend, table }, frames)
  await engine.execute({ backend, table, command: 'compact' })
})

afterAll(() => engine.close())

const hasManyRows = 10n ** 12n

async function hexOf(request: Partial<ReadRequest>): Promise<string[]> {
  const messages: string[] = []
  for await (const message of engine.readEncoded({ backend, table, ...request }, 'wire'))
    messages.push(Buffer.from(message).toString('hex'))
  return messages
}

const range = { start: String(startMs), end: String(startMs + 4 * hourMs - 1) }
const requests: Readonly<Record<string, Partial<ReadRequest>>> = {
  'last values of all sets': { ...range, aggregators: 'last', groupBy: 'host' },
  'last values of all time': { start: '0', end: 'now', aggregators: 'last' },
  'named metrics in one bucket': {
    start: '0',
    end: 'now',
    aggregators: 'last,min',
    columns: ['a', 'b'],
    groupBy: 'host',
  },
  'means by hour': { ...range, aggregators: 'avg', step: '1h' },
  'all functions by two hours': { ...range, aggregators: 'count,sum,sqr,min,max,last,avg,stdvar,stddev', step: '2h' },
  'one metric that some have': { ...range, aggregators: 'max', columns: ['b'], step: '1h', groupBy: 'host' },
  'a metric that none has, too': { ...range, aggregators: 'max,min', columns: ['a', 'x'], step: '1h' },
  'pools of several sets': { ...range, aggregators: 'count,avg', step: '1h', groupBy: 'zone' },
  'last values of pools': { ...range, aggregators: 'last', step: '1h', groupBy: 'zone' },
  'one pool of all': { ...range, aggregators: 'max', step: '1h', groupBy: 'time' },
  'buckets that cut stretches': { start: String(startMs + hourMs / 2), end: range.end, aggregators: 'max', step: '1h' },
  'a few sets by name': { ...range, aggregators: 'max', step: '1h', filter: "host IN ('host_3', 'host_77', 'host_9')" },
  'labels as index': { ...range, aggregators: 'max', step: '1h', multiIndex: true },
  'messages of three rows': { ...range, aggregators: 'max', step: '1h', messageLimit: 3n },
}

for (const [name, request] of Object.entries(requests)) {
  test(`${name}: answered together as one by one`, async () => {
    const apart = await hexOf({ ...request, limit: hasManyRows })
    expect(apart.length).toBeGreaterThan(0)
    // Twice: what was kept of the first time is used the second time.
    for (let time = 0; time < 2; time++) expect(await hexOf(request)).toEqual(apart)
  })
}

test('sets with late samples are read with them among the others', async () => {
  for (const host of [1, 50, 100]) {
    const late = frameOf(host, startMs + hourMs + 5000, 3, ['a', 'b'])
    await engine.write({ backend, table }, [late])
  }
  for (const request of Object.values(requests))
    expect(await hexOf(request)).toEqual(await hexOf({ ...request, limit: hasManyRows }))
  // And as dense as the others.
  await engine.write({ backend, table }, [frameOf(60, startMs + hourMs + 5000, 1200, ['a', 'b'])])
  await engine.execute({ backend, table, command: 'compact' })
  for (const request of Object.values(requests))
    expect(await hexOf(request)).toEqual(await hexOf({ ...request, limit: hasManyRows }))
})

test('a merged block of many rows a label set counts as digested, any other does not', () => {
  const block: LiveBlock = {
    id: 1n,
    firstCommit: 1,
    lastCommit: 2,
    rowCount: 10 * 360,
    byteLength: 1,
    headerByteLength: 1,
    headerCrc: 0,
    segmentCount: 1,
    isPacked: false,
    extent: [1, 10, startMs, startMs + hourMs],
    memory: null,
    dead: null,
    damage: null,
  }
  // A sample each ten seconds: 180 of them are half an hour, so digests are of an hour.
  expect(isLikelyDigested(block, hourMs)).toBe(true)
  expect(isLikelyDigested(block, hourMs - 1)).toBe(false)
  expect(isLikelyDigested({ ...block, lastCommit: 1 }, hourMs)).toBe(false)
  expect(isLikelyDigested({ ...block, extent: [1, 100, startMs, startMs + hourMs] }, hourMs)).toBe(false)
  expect(isLikelyDigested({ ...block, extent: null }, hourMs)).toBe(false)
})
