// What docs/operations.md and README promise to whoever runs framesd: a copy of the data is a backup, limits are errors with
// names, and what a beginner meets first.
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Engine, FramesError, frameFromRows, openEngine, type ReadRequest } from '../dist/engine/index.js'

const root = mkdtempSync(join(tmpdir(), 'framesd-operations-'))
const options = { workerCount: 1, memoryByteLength: 256 * 2 ** 20, history: false } as const
const cpu = { backend: 'tsdb', table: 'cpu' }
const people = { backend: 'kv', table: 'people', session: { container: 'users' } }
const events = { backend: 'stream', table: 'events' }
const file = { backend: 'csv', table: 'people.csv' }

afterAll(() => rmSync(root, { recursive: true, force: true }))

async function rowCountOf(engine: Engine, request: ReadRequest): Promise<number> {
  let rowCount = 0
  for await (const frame of engine.read(request)) rowCount += frame.length
  return rowCount
}

async function failureOf(work: Promise<unknown>): Promise<string> {
  try {
    await work
  } catch (error) {
    if (error instanceof FramesError) return `${error.code}: ${error.what}`
    throw error
  }
  return 'nothing failed'
}

test('the highest data file and the csv folder are a backup: an engine over a copy of them has everything', async () => {
  const dataDir = join(root, 'data')
  const engine = await openEngine({ ...options, dataDir })
  await engine.create({ ...cpu, rate: '1/s' })
  await engine.write(cpu, frameFromRows([{ time: new Date(1000), load: 1 }], ['time'], { host: 'ant' }))
  await engine.write(people, frameFromRows([{ name: 'ann', age: 3n }], ['name']))
  await engine.create({ ...events, shards: 2n })
  await engine.write(events, frameFromRows([{ clicks: 3n }]))
  await engine.write(file, frameFromRows([{ name: 'ann' }, { name: 'bo' }]))
  await engine.close()

  const copy = join(root, 'copy')
  mkdirSync(copy)
  const [dataFile, ...others] = readdirSync(dataDir).filter((name) => /^data\.\d+\.mdb$/.test(name))
  expect(others).toEqual([])
  cpSync(join(dataDir, dataFile!), join(copy, dataFile!))
  cpSync(join(dataDir, 'csv'), join(copy, 'csv'), { recursive: true })
  const restored = await openEngine({ ...options, dataDir: copy })
  expect(await rowCountOf(restored, { ...cpu, start: '0' })).toBe(1)
  expect(await rowCountOf(restored, people)).toBe(1)
  expect(await rowCountOf(restored, { ...events, seek: 'earliest' })).toBe(1)
  expect(await rowCountOf(restored, file)).toBe(2)
  await restored.close()
})

describe('an engine in memory', () => {
  let engine: Engine
  const nowMs = Date.UTC(2024, 5, 1, 12)
  beforeAll(async () => {
    engine = await openEngine({ ...options, nowMs: () => nowMs })
    await engine.create({ ...cpu, rate: '1/s' })
    const minutesAgo = (minutes: number) => new Date(nowMs - minutes * 60_000)
    const rows = [
      { time: minutesAgo(90), load: 1 },
      { time: minutesAgo(30), load: 2 },
    ]
    await engine.write(cpu, frameFromRows(rows, ['time'], { host: 'ant' }))
  })
  afterAll(() => engine.close())

  test('a read of a time series that says no start gives the last hour before its end', async () => {
    expect(await rowCountOf(engine, cpu)).toBe(1)
    expect(await rowCountOf(engine, { ...cpu, end: 'now-1h' })).toBe(1)
    expect(await rowCountOf(engine, { ...cpu, start: '0' })).toBe(2)
  })

  test('a filter of a time series sees labels and no values; SQL sees both', async () => {
    expect(await rowCountOf(engine, { ...cpu, start: '0', filter: 'load > 0' })).toBe(0)
    expect(await rowCountOf(engine, { ...cpu, start: '0', filter: "host == 'ant'" })).toBe(2)
    const query = "select load from 'cpu' where load > 1 and host = 'ant'"
    expect(await rowCountOf(engine, { ...cpu, table: '', start: '0', query })).toBe(1)
  })

  test('a write to a key-value table that is there needs a save mode, and says which there are', async () => {
    const write = (saveMode?: string) =>
      engine.write(
        { ...people, ...(saveMode === undefined ? {} : { saveMode }) },
        frameFromRows([{ name: 'ann', age: 3n }], ['name']),
      )
    await write()
    expect(await failureOf(write())).toMatch(/^TABLE_EXISTS: /)
    expect(await write('createNewItemsOnly')).toEqual({ frameCount: 1, rowCount: 1, skippedCount: 1 })
    await expect(write()).rejects.toThrow('another save_mode of write')
  })

  test('a stream has at most 1024 shards and as many consumer groups, and a record of text at most 16 MiB', async () => {
    expect(await failureOf(engine.create({ ...events, shards: 1025n }))).toBe(
      'INVALID_ARGUMENT: a stream of 1025 shards is not possible; at most 1024 are',
    )
    await engine.create({ ...events, shards: 1024n })
    const data = 'x'.repeat(16 * 2 ** 20 + 1)
    expect(await failureOf(engine.execute({ ...events, command: 'put', args: { data } }))).toBe(
      'FRAME_TOO_LARGE: a record has 16777217 bytes; at most 16777216 are possible',
    )
    await engine.execute({ ...events, command: 'put', args: { data: '{}', partition_key: 'k' } })
    const groups = { backend: 'stream', table: 'groups' }
    await engine.create({ ...groups, shards: 1n })
    await engine.execute({ ...groups, command: 'put', args: { data: '{}' } })
    const commit = (group: number) =>
      engine.execute({ ...groups, command: 'commit', args: { group: `g${group}`, shard_id: 0n, sequence: 1n } })
    for (let group = 0; group < 1024; group++) await commit(group)
    expect(await failureOf(commit(1024))).toBe('MEMORY_BUDGET: the stream has 1024 consumer groups already')
    await commit(1023)
  })

  test('a table has at most 16,384 columns', async () => {
    const row = Object.fromEntries(Array.from({ length: 16_385 }, (_, i) => [`c${i}`, 1]))
    const wide = engine.write(cpu, frameFromRows([{ time: new Date(nowMs), ...row }], ['time']))
    expect(await failureOf(wide)).toMatch(/^(FRAME_TOO_LARGE|TOO_MANY_COLUMNS): .*16384/)
  })

  test('an expression has at most 1 MiB, nested 200 deep', async () => {
    const read = (filter: string) => failureOf(rowCountOf(engine, { ...cpu, start: '0', filter }))
    expect(await read(`host == '${'x'.repeat(2 ** 20)}'`)).toContain('it is longer than 1048576 characters')
    expect(await read(`${'('.repeat(199)}1 == 1${')'.repeat(199)}`)).toBe('nothing failed')
    expect(await read(`${'('.repeat(201)}1 == 1${')'.repeat(201)}`)).toMatch(/^INVALID_ARGUMENT: /)
  })
})
