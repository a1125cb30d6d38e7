// Very many label sets of one table: registered at once, read back after a restart, and as many as the budget has room for.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { type Engine, Frame, openEngine, type ReadRequest, sliceColumn } from '../dist/engine/index.js'

const folder = mkdtempSync(join(tmpdir(), 'framesd-label-sets-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const table = { backend: 'tsdb', table: 'sets' }
const timeNs = 1_600_000_000_000_000_000n

/** One row of each of the sets [first, first + count). */
function frameOf(metric: string, first: number, count: number, textOf = (set: number) => `set-${set}`): Frame {
  const sets = Array.from({ length: count }, (_, i) => first + i)
  return new Frame({
    columns: [sliceColumn(metric, sets.map(BigInt), 'int64')],
    indices: [
      sliceColumn(
        'time',
        sets.map(() => timeNs),
        'time',
      ),
      sliceColumn('node', sets.map(textOf)),
    ],
  })
}

async function totals(engine: Engine, request: Omit<ReadRequest, 'backend' | 'table'>): Promise<unknown[]> {
  const found: unknown[] = []
  const range = { start: '1600000000000', end: '1600000000000' }
  for await (const frame of engine.read({ ...table, ...range, ...request, groupBy: 'time' }))
    for (const name of frame.names) if (name !== 'time') found.push(name, frame.column(name).values()[0])
  return found
}

test('ten thousand sets that came in one frame, and a metric that all of them got later, are read after a restart', async () => {
  const dataDir = join(folder, 'restart')
  const count = 10_000
  const sum = (count * (count - 1)) / 2
  for (const turn of [0, 1, 2]) {
    const engine = await openEngine({ dataDir, workerCount: 1, memoryByteLength: 128 * 2 ** 20 })
    try {
      if (turn === 0) {
        await engine.create({ ...table, rate: '1/m' })
        await engine.write(table, frameOf('a', 0, count))
      }
      expect(await totals(engine, { columns: ['a'], aggregators: 'count,sum' })).toEqual([
        'count(a)',
        count,
        'sum(a)',
        sum,
      ])
      expect(await totals(engine, { columns: ['a'], aggregators: 'sum', filter: "node == 'set-9876'" })).toEqual([
        'sum(a)',
        9876,
      ])
      if (turn === 1) await engine.write(table, frameOf('b', 0, count))
      if (turn === 2) {
        expect(await totals(engine, { columns: ['b'], aggregators: 'sum' })).toEqual(['sum(b)', sum])
      }
    } finally {
      await engine.close()
    }
  }
})

test('sets are taken until the budget of label sets is nearly used up, not only half of it', async () => {
  // 15 % of this are 4.5 MiB: 20,000 sets of some 190 bytes need 4.3 MB with their index, and a copy while they grow.
  const engine = await openEngine({ workerCount: 1, memoryByteLength: 32 * 2 ** 20 })
  try {
    await engine.create({ ...table, rate: '1/m' })
    const textOf = (set: number) => `${set} ${'x'.repeat(100)}`
    const frameSetCount = 1000
    let setCount = 0
    const fill = async (): Promise<void> => {
      for (; ; setCount += frameSetCount) await engine.write(table, frameOf('a', setCount, frameSetCount, textOf))
    }
    await expect(fill()).rejects.toMatchObject({ code: 'MEMORY_BUDGET' })
    const byteLength = setCount * (110 + 24)
    expect(byteLength).toBeGreaterThan(0.15 * 32 * 2 ** 20 * 0.4)
    expect(await totals(engine, { aggregators: 'count' })).toEqual(['count(a)', setCount])
  } finally {
    await engine.close()
  }
})

test('writers that bring new sets at once, some of them the same ones, store each row under its own set', async () => {
  const dataDir = join(folder, 'at-once')
  const writerCount = 6
  const frameCount = 30
  const setsOfFrame = 40
  // Each writer shares half of its sets with the next one; in all, the table grows several times.
  const firstOf = (writer: number, frame: number) => (writer * setsOfFrame) / 2 + frame * setsOfFrame * writerCount
  const counts = new Map<number, number>()
  for (let writer = 0; writer < writerCount; writer++)
    for (let frame = 0; frame < frameCount; frame++)
      for (let i = 0; i < setsOfFrame; i++) {
        const set = firstOf(writer, frame) + i
        counts.set(set, (counts.get(set) ?? 0) + 1)
      }
  /** One row of each set, at a time of the writer's own. */
  const rowsOf = (writer: number, frame: number): Frame => {
    const sets = Array.from({ length: setsOfFrame }, (_, i) => firstOf(writer, frame) + i)
    return new Frame({
      columns: [sliceColumn('a', sets.map(BigInt), 'int64')],
      indices: [
        sliceColumn(
          'time',
          sets.map(() => timeNs + BigInt(writer) * 1_000_000n),
          'time',
        ),
        sliceColumn(
          'node',
          sets.map((set) => `set-${set}`),
        ),
      ],
    })
  }
  for (const turn of [0, 1]) {
    const engine = await openEngine({ dataDir, workerCount: 2, memoryByteLength: 128 * 2 ** 20 })
    try {
      if (turn === 0) {
        await engine.create({ ...table, rate: '1/m' })
        await Promise.all(
          Array.from({ length: writerCount }, async (_, writer) => {
            const session = await engine.openWrite(table)
            for (let frame = 0; frame < frameCount; frame++) await session.add(rowsOf(writer, frame))
            await session.finish()
          }),
        )
      }
      const range = { start: '1600000000000', end: '1600000000100' }
      const found = new Map<number, number>()
      for await (const frame of engine.read({ ...table, ...range, columns: ['a'] }))
        for (const row of frame.rows()) {
          const set = Number(row['a'])
          expect(row['node'] ?? frame.labels.get('node')).toBe(`set-${set}`)
          found.set(set, (found.get(set) ?? 0) + 1)
        }
      expect(found).toEqual(counts)
    } finally {
      await engine.close()
    }
  }
})

test('of two writers that begin one series at once, as text and as numbers, one is refused', async () => {
  const engine = await openEngine({ workerCount: 2, memoryByteLength: 128 * 2 ** 20 })
  try {
    for (let i = 0; i < 30; i++) {
      const one = { backend: 'tsdb', table: `kinds-${i}` }
      await engine.create({ ...one, rate: '1/m' })
      const frame = (values: readonly string[] | readonly bigint[]) =>
        new Frame({
          columns: [typeof values[0] === 'bigint' ? sliceColumn('a', values, 'int64') : sliceColumn('a', values)],
          indices: [sliceColumn('time', [timeNs], 'time')],
          labels: { node: 'n' },
        })
      // Different sessions: neither waits for the other's job.
      const outcomes = await Promise.allSettled(
        [frame(['text']), frame([1n])].map(async (rows) => {
          const session = await engine.openWrite(one)
          // Two frames: they are not gathered with those of others.
          await session.add(rows)
          await session.add(rows)
          await session.finish()
        }),
      )
      const refused = outcomes.filter((outcome) => outcome.status === 'rejected')
      expect(refused).toHaveLength(1)
      expect(refused[0]!.reason).toMatchObject({ code: 'INVALID_ARGUMENT' })
      const range = { start: '1600000000000', end: '1600000000000' }
      let rowCount = 0
      for await (const found of engine.read({ ...one, ...range })) rowCount += found.length
      expect(rowCount).toBe(1)
    }
  } finally {
    await engine.close()
  }
})
