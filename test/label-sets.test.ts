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
