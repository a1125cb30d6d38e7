// ORDER BY time and LIMIT, against all rows sorted by the test. SEED=n repeats a run.
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Engine, openEngine, type ReadRequest } from '../dist/engine/index.js'
import { SeededRandom, seed } from './seeded-random.js'
import { labelText, randomFrame, toFrame } from './tsdb-model.js'

const dayMs = 24 * 3_600_000
const timeMsMax = 10 * dayMs
const table = { backend: 'tsdb', table: 'my/ordered' }
let engine: Engine
const random = new SeededRandom(seed)

beforeAll(async () => {
  engine = await openEngine({ workerCount: 2, memoryByteLength: 384 * 2 ** 20 })
  await engine.create({ ...table, rate: '1/s' })
  for (let i = 0; i < 12; i++) {
    const frame = randomFrame(random, {
      // The first ones are long, so that every host has enough rows.
      rowCount: i < 3 ? 3000 : random.pick([1, 30, 300, 3000]),
      timeMsMax,
      gridMs: i < 3 ? 60_000 : random.pick([1, 1000, 60_000]),
    })
    const frameLabels = { host: 'abc'[i] ?? random.pick(['a', 'b', 'c']) }
    await engine.write(table, toFrame({ ...frame, frameLabels, indexLabels: [] }))
  }
})
afterAll(async () => {
  await engine.close()
})

interface Row {
  readonly labels: string
  readonly timeNs: bigint
  readonly cells: string
}

/** Rows as they come, and whether the message limit was kept. */
async function read(request: Omit<ReadRequest, 'backend' | 'table'>): Promise<Row[]> {
  const rows: Row[] = []
  for await (const frame of engine.read({ ...table, start: '0', end: String(timeMsMax), ...request })) {
    const labels = Object.fromEntries(frame.labels) as Record<string, string>
    expect('next_marker' in labels).toBe(false)
    const columns = frame.names.map((name) => frame.column(name).values())
    frame.indices[0]!.times().forEach((timeNs, row) => {
      const cells = columns.map((cells) => (typeof cells[row] === 'bigint' ? `${cells[row]}n` : String(cells[row])))
      rows.push({ labels: labelText(labels), timeNs, cells: cells.join('|') })
    })
    if (request.messageLimit !== undefined) expect(frame.length).toBeLessThanOrEqual(Number(request.messageLimit))
  }
  return rows
}

/** What a limit takes: first by time, of one time by label set; told label set by label set. */
function firstRows(all: readonly Row[], descending: boolean, limit: number): Row[] {
  const sets = [...new Set(all.map(({ labels }) => labels))]
  const sign = descending ? -1 : 1
  const byTime = (a: Row, b: Row) => (a.timeNs === b.timeNs ? 0 : a.timeNs < b.timeNs ? -sign : sign)
  const taken = new Set([...all].sort(byTime).slice(0, limit))
  return sets.flatMap((set) => all.filter((row) => row.labels === set && taken.has(row)).sort(byTime))
}

const modes = {
  raw: { select: '*' },
  'one metric': { select: 'disk' },
  text: { select: 'note, flag' },
  'over time': { select: 'count(*), max(cpu)', step: '20m' },
  rates: { select: 'rate(cpu), count(cpu)', step: '1h' },
  grouped: { select: 'sum(cpu), last(disk)', step: '1h', groupBy: 'host' },
  'looking back': { select: 'count(*)', step: '1h', window: '2h' },
  downsampled: { select: "linear(cpu, '1d'), disk", step: '1h' },
  'across series': { select: 'count_all(*), rate_all(cpu)', step: '1h' },
} as const

describe.for(Object.entries(modes))('%s', ([, mode]) => {
  const request = (tail: string) => ({
    query: `select ${mode.select} from 'my/ordered' ${'groupBy' in mode ? `group by ${mode.groupBy}` : ''} ${tail}`,
    ...('step' in mode ? { step: mode.step } : {}),
    ...('window' in mode ? { aggregationWindow: mode.window } : {}),
  })

  test('ORDER BY time DESC turns the rows of each label set round', async () => {
    const all = await read(request(''))
    expect(all.length).toBeGreaterThan(3)
    expect(await read(request('order by time'))).toEqual(all)
    expect(await read(request('ORDER BY time ASC;'))).toEqual(all)
    expect(await read(request('order by time desc'))).toEqual(firstRows(all, true, Infinity))
    expect(await read({ ...request('order by time desc'), messageLimit: 7n })).toEqual(firstRows(all, true, Infinity))
  })

  test.for([1, 2, 5, 100, 1000, 1_000_000])('LIMIT %i takes the rows that come first by time', async (limit) => {
    const all = await read(request(''))
    for (const descending of [true, false]) {
      const tail = `order by time ${descending ? 'desc' : 'asc'} limit ${limit}`
      const wanted = firstRows(all, descending, limit)
      expect(await read(request(tail)), tail).toEqual(wanted)
      if (limit <= 100) expect(await read({ ...request(tail), messageLimit: 3n }), tail).toEqual(wanted)
    }
  })
})

test('a limit of the request takes part, and a marker is refused', async () => {
  const query = "select * from 'my/ordered' order by time desc"
  const all = await read({ query: "select * from 'my/ordered'" })
  expect(await read({ query, limit: 3n })).toEqual(firstRows(all, true, 3))
  expect(await read({ query: `${query} limit 5`, limit: 3n })).toEqual(firstRows(all, true, 3))
  let marker = ''
  for await (const frame of engine.read({ ...table, start: '0', end: String(timeMsMax), limit: 3n })) {
    marker = String(Object.fromEntries(frame.labels)['next_marker'] ?? marker)
  }
  await expect(read({ query, marker })).rejects.toThrow('marker')
})

test('many rows of one label set come newest first, over several jobs', async () => {
  const wide = { backend: 'tsdb', table: 'my/wide' }
  await engine.create({ ...wide, rate: '1/s' })
  const rowCount = 400_000
  const times = BigInt64Array.from({ length: rowCount }, (_, i) => BigInt(i) * 1_000_000_000n)
  const { Frame, sliceColumn } = await import('../dist/engine/index.js')
  const cells = Float64Array.from({ length: rowCount }, (_, i) => i)
  const indices = [sliceColumn('time', times, 'time')]
  await engine.write(wide, new Frame({ columns: [sliceColumn('cpu', cells, 'float64')], indices }))
  let next = rowCount - 1
  const query = 'select cpu order by time desc'
  for await (const frame of engine.read({ ...wide, start: '0', end: '1000000000', query }))
    for (const value of frame.column('cpu').floats()) expect(value).toBe(next--)
  expect(next).toBe(-1)
})
