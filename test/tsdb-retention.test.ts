// Tables that keep their samples for a time only; the clock is the test's.
import { afterAll, beforeAll, expect, test } from 'vitest'
import { isDue } from '../dist/engine/backends/tsdb/retention.js'
import { createSchema } from '../dist/engine/backends/tsdb/schema.js'
import { type CreateRequest, type Engine, Frame, openEngine, sliceColumn } from '../dist/engine/index.js'

const dayMs = 24 * 3_600_000
const T = Date.UTC(2018, 6, 21)
let nowMs = T
let engine: Engine
let tableCount = 0

beforeAll(async () => {
  engine = await openEngine({
    workerCount: 1,
    memoryByteLength: 192 * 2 ** 20,
    nowMs: () => nowMs,
    backends: [{ type: 'tsdb' }, { type: 'tsdb', name: 'short', ttl: '1d' }],
  })
})
afterAll(async () => {
  await engine.close()
})

async function newTable(backend: string, ttl: string | null): Promise<{ backend: string; table: string }> {
  const table = { backend, table: `table-${tableCount++}` }
  const schema: CreateRequest['schema'] = ttl === null ? {} : { fields: [{ name: 'options', properties: { ttl } }] }
  await engine.create({ ...table, rate: '1/s', schema })
  return table
}

/** A sample an hour of so many days up to now. */
async function fill(table: { backend: string; table: string }, days: number): Promise<void> {
  const times = Array.from({ length: 24 * days }, (_, i) => BigInt(nowMs - i * 3_600_000) * 1_000_000n)
  await engine.write(
    table,
    new Frame({
      columns: [
        sliceColumn(
          'cpu',
          times.map((_, i) => i),
          'float64',
        ),
      ],
      indices: [sliceColumn('time', times, 'time')],
    }),
  )
}

async function sampleCount(table: { backend: string; table: string }): Promise<number> {
  let count = 0
  for await (const frame of engine.read({ ...table, start: '0', end: 'now' })) count += frame.length
  return count
}

test('what is older than the time to live goes when the table is compacted; the rest stays', async () => {
  nowMs = T
  const table = await newTable('tsdb', '7d')
  await fill(table, 10)
  expect(await sampleCount(table)).toBe(240)
  await engine.execute({ ...table, command: 'compact' })
  expect(await sampleCount(table)).toBe(7 * 24 + 1)
  nowMs += dayMs
  await engine.execute({ ...table, command: 'compact' })
  expect(await sampleCount(table)).toBe(6 * 24 + 1)
  nowMs += 30 * dayMs
  await engine.execute({ ...table, command: 'compact' })
  expect(await sampleCount(table)).toBe(0)
})

test('a clock that goes back brings nothing back and takes nothing away', async () => {
  nowMs = T
  const table = await newTable('tsdb', '2d')
  await fill(table, 3)
  await engine.execute({ ...table, command: 'compact' })
  nowMs -= 365 * dayMs
  await engine.execute({ ...table, command: 'compact' })
  nowMs = T
  expect(await sampleCount(table)).toBe(49)
})

test('the default of a backend holds for tables that say nothing; 0 keeps samples for ever', async () => {
  nowMs = T
  const [silent, forEver, none] = await Promise.all([
    newTable('short', null),
    newTable('short', '0'),
    newTable('tsdb', null),
  ])
  for (const table of [silent, forEver, none]) {
    await fill(table, 5)
    await engine.execute({ ...table, command: 'compact' })
  }
  expect(await sampleCount(silent)).toBe(25)
  expect(await sampleCount(forEver)).toBe(120)
  expect(await sampleCount(none)).toBe(120)
})

test('an empty time to live is none: the default holds', () => {
  const schema = { fields: [{ name: 'options', properties: { ttl: '' } }] }
  expect(createSchema({ backend: 'tsdb', table: 't', rate: '1/s', schema }, dayMs).ttlMs).toBe(dayMs)
})

test.for([
  ['1w', 'invalid duration'],
  ['-5d', 'is negative'],
] as const)('ttl %s is refused', async ([ttl, text]) => {
  await expect(newTable('tsdb', ttl)).rejects.toThrow(text)
})

test('a table is worth a delete when a sixteenth of its time to live has passed', () => {
  const schema = createSchema({ backend: 'tsdb', table: 't', rate: '1/s' }, 16 * dayMs)
  expect(isDue(schema, T, T + 17 * dayMs)).toBe(false)
  expect(isDue(schema, T, T + 17 * dayMs + 1)).toBe(true)
  expect(isDue(schema, Infinity, T + 17 * dayMs)).toBe(false)
  expect(isDue({ ...schema, ttlMs: 0 }, 0, T)).toBe(false)
})

test('an engine whose default is no duration is not opened', async () => {
  await expect(openEngine({ backends: [{ type: 'tsdb', ttl: 'long' }] })).rejects.toThrow('invalid duration')
})
