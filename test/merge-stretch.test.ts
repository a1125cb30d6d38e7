// Merges whose steps read a few of many blocks.
import { afterAll, beforeAll, expect, test } from 'vitest'
import { encodeExtent } from '../dist/engine/backends/tsdb/directory.js'
import { type MergePosition, stretchAt } from '../dist/engine/backends/tsdb/merge-stretch.js'
import type { BlockSource } from '../dist/engine/blocks/reader.js'
import { type Engine, Frame, openEngine, sliceColumn } from '../dist/engine/index.js'
import { SeededRandom, seed } from './seeded-random.js'

const blockRowCountMax = 128 * 1024
const nsPerMs = 1_000_000n
const T = 1_700_000_000_000_000_000n

let engine: Engine
beforeAll(async () => {
  engine = await openEngine({ workerCount: 1, memoryByteLength: 256 * 2 ** 20 })
})
afterAll(async () => {
  await engine.close()
})

interface Row {
  readonly set: number
  readonly timeMs: number
}

const isBefore = (a: Row, b: Row): boolean => a.set < b.set || (a.set === b.set && a.timeMs < b.timeMs)

function sourceOf(id: number, rows: readonly Row[], rowCount: number): BlockSource {
  const sets = rows.map(({ set }) => set)
  const times = rows.map(({ timeMs }) => timeMs)
  return {
    id: BigInt(id),
    rowCount,
    headerByteLength: 0,
    headerCrc: 0,
    extent: encodeExtent({
      setMin: Math.min(...sets),
      setMax: Math.max(...sets),
      timeMinMs: Math.min(...times),
      timeMaxMs: Math.max(...times),
      partitions: [],
    }),
    isPacked: false,
    packed: null,
    values: null,
    dead: null,
    damage: null,
  }
}

test('each step reads all blocks with rows between its position and its end, and these suffice for what it writes', () => {
  const random = new SeededRandom(seed)
  let endedCount = 0
  for (let round = 0; round < 500; round++) {
    const setCount = random.pick([1, 3, 40])
    // Runs in commit order, each ordered by set and time, cut into blocks.
    const blocks = random.list(random.integer(1, 6), () => {
      const rows = random
        .list(random.integer(1, 60), (): Row => ({ set: random.integer(0, setCount), timeMs: random.integer(0, 1000) }))
        .sort((a, b) => a.set - b.set || a.timeMs - b.timeMs)
      const cut: Row[][] = []
      for (let at = 0; at < rows.length; ) {
        const end = at + random.integer(1, 8)
        cut.push(rows.slice(at, end))
        at = end
      }
      return cut
    })
    const all = blocks.flat()
    const sources = all.map((rows, i) => sourceOf(i, rows, random.integer(1, blockRowCountMax + 1)))
    const reach = random.pick([2, 4])
    const from: Row = { set: random.integer(0, setCount + 1), timeMs: random.integer(-1, 1001) }
    const position: MergePosition | null = random.chance(0.2)
      ? null
      : { set: from.set, fromNs: BigInt(from.timeMs) * nsPerMs + 5n, reach }
    const { sources: wanted, end } = stretchAt(sources, position)
    const ids = wanted.map(({ id }) => Number(id))
    expect(ids).toEqual([...ids].sort((a, b) => a - b))
    const isAhead = (row: Row): boolean => position === null || !isBefore(row, from)
    const endRow = end === null ? null : { set: end.set, timeMs: Number(end.timeNs / nsPerMs) }
    const isInFront = (row: Row): boolean => endRow === null || isBefore(row, endRow)
    for (const [id, rows] of all.entries()) {
      if (rows.some((row) => isAhead(row) && isInFront(row))) expect(ids, `round ${round}, block ${id}`).toContain(id)
    }
    if (end === null) continue
    endedCount++
    expect(ids.length).toBeLessThan(all.length)
    const whole = all.flatMap((rows, id) => (rows.every((row) => isAhead(row) && isInFront(row)) ? id : []))
    const rowCount = whole.reduce((sum, id) => sum + sources[id]!.rowCount, 0)
    expect(rowCount).toBeGreaterThanOrEqual((position === null ? 2 : reach) * blockRowCountMax)
  }
  expect(endedCount).toBeGreaterThan(100)
})

test('where nobody knows what a block holds, each step reads all of them', () => {
  const sources = [0, 1, 2].map((id) => sourceOf(id, [{ set: id, timeMs: 7 }], blockRowCountMax))
  const unknown = [...sources, { ...sources[0]!, id: 9n, extent: null }]
  expect(stretchAt(unknown, { set: 2, fromNs: 0n, reach: 2 })).toEqual({ sources: unknown, end: null })
})

async function written(
  table: { backend: string; table: string },
  {
    rowCount,
    from = 0,
    host,
    valueAt,
  }: { rowCount: number; from?: number; host: string; valueAt(row: number): number },
): Promise<void> {
  const rows = Array.from({ length: rowCount }, (_, row) => from + row)
  const times = BigInt64Array.from(rows, (row) => T + BigInt(row) * nsPerMs)
  const values = Float64Array.from(rows, valueAt)
  const indices = [sliceColumn('time', times, 'time')]
  await engine.write(table, new Frame({ columns: [sliceColumn('cpu', values)], indices, labels: { host } }))
}

async function statsOf(table: { backend: string; table: string }): Promise<{ blocks: number; samples: number }> {
  const frame = await engine.execute({ ...table, command: 'stats' })
  const value = (name: string): number => Number(frame!.column(name)!.at(0))
  return { blocks: value('blocks'), samples: value('samples') }
}

test('rows that were written six times over become full blocks, of the last values', async () => {
  const table = { backend: 'tsdb', table: 'again' }
  await engine.create({ ...table, rate: '1/s' })
  const rowCount = 300_000
  for (let round = 0; round < 6; round++) {
    for (const host of ['a', 'b']) await written(table, { rowCount, host, valueAt: (row) => row + 10 * round })
  }
  await engine.execute({ ...table, command: 'compact' })
  expect(await statsOf(table)).toEqual({ blocks: Math.ceil((2 * rowCount) / blockRowCountMax), samples: 2 * rowCount })
  for (const host of ['a', 'b']) {
    let row = 0
    for await (const frame of engine.read({ ...table, start: '0', end: 'now', filter: `host=='${host}'` })) {
      const values = frame.column('cpu')!
      for (let i = 0; i < frame.length; i++) if (values.at(i) !== row++ + 50) expect.fail(`${host}: row ${row - 1}`)
    }
    expect(row).toBe(rowCount)
  }
})

test('many runs one behind the other become full blocks, and each row is there once', async () => {
  const table = { backend: 'tsdb', table: 'behind' }
  await engine.create({ ...table, rate: '1/s' })
  const rowCount = 40_000
  const runCount = 24
  for (let run = 0; run < runCount; run++) {
    for (const host of ['a', 'b', 'c']) {
      await written(table, { rowCount, from: run * rowCount, host, valueAt: (row) => row })
    }
  }
  await engine.execute({ ...table, command: 'compact' })
  const samples = 3 * runCount * rowCount
  expect(await statsOf(table)).toEqual({ blocks: Math.ceil(samples / blockRowCountMax), samples })
  for (const host of ['a', 'b', 'c']) {
    let row = 0
    for await (const frame of engine.read({ ...table, start: '0', end: 'now', filter: `host=='${host}'` })) {
      const values = frame.column('cpu')!
      for (let i = 0; i < frame.length; i++) if (values.at(i) !== row++) expect.fail(`${host}: row ${row - 1}`)
    }
    expect(row).toBe(runCount * rowCount)
  }
})
