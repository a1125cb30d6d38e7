// Deletes of a part of a table: exact to the sample, and nothing else changes.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type DeleteRequest, type Engine, Frame, openEngine, sliceColumn } from '../dist/engine/index.js'

const minuteMs = 60_000
const hourMs = 60 * minuteMs
const T = Date.UTC(2018, 6, 21, 21, 40)
const dataDir = mkdtempSync(join(tmpdir(), 'framesd-delete-'))
let engine: Engine
let tableCount = 0

async function open(): Promise<void> {
  engine = await openEngine({ dataDir, workerCount: 2, memoryByteLength: 256 * 2 ** 20 })
}
beforeAll(open)
afterAll(async () => {
  await engine.close()
  rmSync(dataDir, { recursive: true, force: true })
})

type Table = { readonly backend: string; readonly table: string }

/** Ten minutes of cpu and disk for the hosts a and b. */
async function newTable(startMs = T): Promise<Table> {
  const table = { backend: 'tsdb', table: `table-${tableCount++}` }
  await engine.create({ ...table, rate: '1/s' })
  for (const host of ['a', 'b']) await put(table, host, startMs, 10)
  return table
}

async function put(table: Table, host: string, startMs: number, count: number, first = 0): Promise<void> {
  const times = Array.from({ length: count }, (_, i) => BigInt(startMs + i * minuteMs) * 1_000_000n)
  await engine.write(
    table,
    new Frame({
      columns: [
        sliceColumn(
          'cpu',
          times.map((_, i) => first + i),
          'float64',
        ),
        sliceColumn(
          'disk',
          times.map((_, i) => BigInt(first + i)),
          'int64',
        ),
      ],
      indices: [sliceColumn('time', times, 'time')],
      labels: { host },
    }),
  )
}

/** `host metric`: values. */
async function contents(table: Table): Promise<Record<string, (number | bigint)[]>> {
  const found: Record<string, (number | bigint)[]> = {}
  for await (const frame of engine.read({ ...table, start: '0', end: 'now+9d' })) {
    const host = String(Object.fromEntries(frame.labels)['host'])
    for (const name of ['cpu', 'disk']) {
      const cells = frame.column(name).values() as readonly (number | bigint | null)[]
      found[`${host} ${name}`] = cells.filter((cell) => cell !== null)
    }
  }
  return found
}

const numbers = (...values: number[]) => values
const integers = (...values: number[]) => values.map(BigInt)
const all = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
const remove = (table: Table, request: Omit<DeleteRequest, 'backend' | 'table'>) =>
  engine.delete({ ...table, ...request })

test('a range goes, both ends inclusive', async () => {
  const table = await newTable()
  await remove(table, { start: String(T + 2 * minuteMs), end: String(T + 4 * minuteMs) })
  const cpu = numbers(0, 1, 5, 6, 7, 8, 9)
  const disk = integers(0, 1, 5, 6, 7, 8, 9)
  expect(await contents(table)).toEqual({ 'a cpu': cpu, 'a disk': disk, 'b cpu': cpu, 'b disk': disk })
})

test('a filter and metrics choose the series, together', async () => {
  const table = await newTable()
  await remove(table, { start: '0', end: 'now', filter: "host == 'a'", metrics: ['disk', 'nosuch'] })
  expect(await contents(table)).toEqual({ 'a cpu': all, 'a disk': [], 'b cpu': all, 'b disk': integers(...all) })
  await remove(table, { start: '0', filter: "__name__ == 'cpu' and host == 'b'" })
  expect(await contents(table)).toEqual({ 'a cpu': all, 'a disk': [], 'b cpu': [], 'b disk': integers(...all) })
  await remove(table, { start: '0', filter: "host == 'nosuch'" })
  expect(await contents(table)).toEqual({ 'a cpu': all, 'a disk': [], 'b cpu': [], 'b disk': integers(...all) })
})

test('only an end: from the beginning; only a start: until now', async () => {
  const table = await newTable()
  await remove(table, { end: String(T + 7 * minuteMs) })
  expect((await contents(table))['a cpu']).toEqual([8, 9])
  await remove(table, { start: String(T + 9 * minuteMs) })
  expect((await contents(table))['b cpu']).toEqual([8])
})

test('only a filter or metrics: the last hour', async () => {
  const now = Date.now()
  const table = await newTable(now - hourMs - 5 * minuteMs)
  await remove(table, { metrics: ['cpu'] })
  const left = await contents(table)
  expect(left['a disk']).toHaveLength(10)
  expect(left['a cpu']!.length).toBeGreaterThanOrEqual(5)
  expect(left['a cpu']!.length).toBeLessThanOrEqual(6)
  await remove(table, { filter: "host == 'b'" })
  expect((await contents(table))['b disk']!.length).toBeLessThan(10)
  expect((await contents(table))['a disk']).toHaveLength(10)
})

test('a start behind the end deletes nothing; nor does a range without samples', async () => {
  const table = await newTable()
  await remove(table, { start: String(T + hourMs), end: String(T) })
  await remove(table, { start: String(T + hourMs), end: String(T + 2 * hourMs) })
  expect((await contents(table))['a cpu']).toEqual(all)
})

test('when every sample is gone, the table stays and is written again', async () => {
  const table = await newTable()
  await remove(table, { start: '0', end: 'now' })
  expect(await contents(table)).toEqual({})
  await put(table, 'a', T, 3, 70)
  expect(await contents(table)).toEqual({ 'a cpu': [70, 71, 72], 'a disk': integers(70, 71, 72) })
})

test('of duplicates in several commits none comes back, and the newest of the others stays', async () => {
  const table = await newTable()
  await put(table, 'a', T, 10, 100)
  await put(table, 'a', T + 3 * minuteMs, 2, 200)
  await remove(table, { start: String(T + 4 * minuteMs), end: String(T + 6 * minuteMs) })
  const wanted = numbers(100, 101, 102, 200, 107, 108, 109)
  expect((await contents(table))['a cpu']).toEqual(wanted)
  await engine.execute({ ...table, command: 'compact' })
  expect((await contents(table))['a cpu']).toEqual(wanted)
  await engine.close()
  await open()
  expect((await contents(table))['a cpu']).toEqual(wanted)
})

test('writes and reads beside a delete go on; what is written later stays', { timeout: 60_000 }, async () => {
  const table = await newTable()
  for (let i = 0; i < 40; i++) await put(table, `h${i}`, T, 500)
  const writes = Array.from({ length: 10 }, (_, i) => put(table, `late${i}`, T + hourMs, 5, i))
  const reads = Array.from({ length: 5 }, () => contents(table))
  await Promise.all([
    remove(table, { start: '0', end: String(T + 30 * minuteMs) }),
    remove(table, { start: String(T + 40 * minuteMs), end: String(T + 50 * minuteMs), metrics: ['cpu'] }),
    ...writes,
    ...reads,
  ])
  const left = await contents(table)
  for (let i = 0; i < 10; i++) expect(left[`late${i} cpu`]).toEqual([0, 1, 2, 3, 4].map((value) => value + i))
  expect(left['a cpu']).toBeUndefined()
  expect(left['h7 cpu']).toHaveLength(500 - 31 - 11)
  expect(left['h7 disk']).toHaveLength(500 - 31)
})

test('space is given back', { timeout: 60_000 }, async () => {
  const table = await newTable()
  for (let i = 0; i < 8; i++) await put(table, `h${i}`, T, 20_000)
  await engine.execute({ ...table, command: 'compact' })
  const bytes = async () => Number((await engine.execute({ ...table, command: 'stats' }))!.column('bytes').values()[0])
  const before = await bytes()
  await remove(table, { end: String(T + 15_000 * minuteMs) })
  expect(await bytes()).toBeLessThan(before / 2)
})

test.for([
  [{ start: 'yesterday' }, 'failed to parse start time: Invalid time string'],
  [{ end: 'now-1w' }, "failed to parse end time: Could not parse the pattern following 'now-'"],
  [{ filter: 'host ==' }, 'invalid filter expression'],
] as const)('%o is refused', async ([request, text]) => {
  const table = await newTable()
  await expect(remove(table, request)).rejects.toThrow(text)
  expect((await contents(table))['a cpu']).toEqual(all)
})

test('a part of a missing table is missing, or ignored', async () => {
  const table = { backend: 'tsdb', table: 'nosuch' }
  await expect(remove(table, { start: '0' })).rejects.toThrow('No TSDB schema file found')
  await remove(table, { start: '0', ifMissing: 'ignore' })
})

test('deletes and compactions of a table whose every write brings a new metric end, and nothing but what was deleted is gone', async () => {
  const table = await newTable()
  const secondNs = 1_000_000_000n
  const firstNs = BigInt(T) * 1_000_000n + 3600n * secondNs
  const rowCount = 200
  const writeCount = 60
  let next = 0
  let isWriting = true
  const write = async (): Promise<void> => {
    for (let n = next++; n < writeCount; n = next++) {
      const times = BigInt64Array.from({ length: rowCount }, (_, i) => firstNs + BigInt(n * rowCount + i) * secondNs)
      const values = new Float64Array(rowCount).fill(n)
      await engine.write(
        table,
        new Frame({
          columns: [sliceColumn('cpu', values), sliceColumn(`new${n}`, values)],
          indices: [sliceColumn('time', times, 'time')],
          labels: { host: n % 2 === 0 ? 'a' : 'b' },
        }),
      )
    }
    isWriting = false
  }
  let deletedCount = 0
  const change = async (): Promise<void> => {
    for (; isWriting || deletedCount === 0; deletedCount++) {
      const at = String(T + (deletedCount % 10) * minuteMs)
      await engine.delete({ ...table, start: at, end: at })
      await engine.execute({ ...table, command: 'compact' })
    }
  }
  await Promise.all([write(), write(), write(), change()])
  const found = new Map<string, number>()
  for (const column of ['cpu', 'new0', `new${writeCount - 1}`]) {
    let count = 0
    for await (const frame of engine.read({ ...table, columns: [column], start: '0', end: String(T + 1e9) }))
      count += frame
        .column(column)
        .values()
        .filter((value) => value !== null).length
    found.set(column, count)
  }
  expect(Object.fromEntries(found)).toEqual({
    cpu: writeCount * rowCount + 2 * (10 - Math.min(10, deletedCount)),
    new0: rowCount,
    [`new${writeCount - 1}`]: rowCount,
  })
})
