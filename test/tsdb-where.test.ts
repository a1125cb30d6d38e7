// WHERE with metrics: rows are let through by their values. Examples, and random rows against a plain condition. SEED=n
// repeats a run.
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Engine, Frame, openEngine, sliceColumn } from '../dist/engine/index.js'
import { SeededRandom, seed } from './seeded-random.js'
import { labelText, randomFrame, toFrame, TsdbModel } from './tsdb-model.js'

const minuteMs = 60_000
const T = Date.UTC(2018, 6, 21, 21, 40)
let engine: Engine

beforeAll(async () => {
  engine = await openEngine({ workerCount: 2, memoryByteLength: 384 * 2 ** 20 })
})
afterAll(async () => {
  await engine.close()
})

type Cell = bigint | number | boolean | string | null

interface Row {
  readonly labels: string
  readonly timeNs: bigint
  readonly cells: Readonly<Record<string, Cell>>
}

async function read(query: string, fields: Readonly<Record<string, string>> = {}): Promise<Row[]> {
  const rows: Row[] = []
  const request = { backend: 'tsdb', table: '', start: '0', end: String(T + 1e9), query, ...fields }
  for await (const frame of engine.read(request)) {
    const labels = Object.fromEntries(frame.labels) as Record<string, string>
    const names = frame.names.filter((name) => !(name in labels))
    const columns = names.map((name) => frame.column(name).values() as readonly Cell[])
    frame.indices[0]!.times().forEach((timeNs, row) => {
      const cells = Object.fromEntries(names.map((name, i) => [name, columns[i]![row]!]))
      rows.push({ labels: labelText(labels), timeNs, cells })
    })
  }
  return rows
}

describe('a servers table', () => {
  const table = 'my/servers'

  beforeAll(async () => {
    await engine.create({ backend: 'tsdb', table, rate: '1/s' })
    for (const [node, os] of [
      ['1', 'linux'],
      ['2', 'linux'],
      ['3', 'mac'],
    ] as const) {
      const count = 4
      const times = Array.from({ length: count }, (_, i) => BigInt(T + i * minuteMs) * 1_000_000n)
      const cpu = times.map((_, i) => 10 * Number(node) + i)
      const state = times.map((_, i) => (i % 2 === 0 ? 'idle' : 'busy'))
      await engine.write(
        { backend: 'tsdb', table },
        new Frame({
          columns: [sliceColumn('cpu', cpu, 'float64'), sliceColumn('state', state, 'string')],
          indices: [sliceColumn('time', times, 'time')],
          labels: { node, os },
        }),
      )
    }
  })

  const found = async (where: string) =>
    (await read(`select cpu from '${table}' where ${where}`)).map(({ cells }) => cells['cpu'])

  test('a metric is compared row by row, beside labels', async () => {
    expect(await found('cpu > 21')).toEqual([22, 23, 30, 31, 32, 33])
    expect(await found("cpu > 21 and os='linux'")).toEqual([22, 23])
    expect(await found("cpu = 10 or node='3'")).toEqual([10, 30, 31, 32, 33])
    expect(await found("not (cpu > 11) and (state = 'busy' or node = '9')")).toEqual([11])
    expect(await found("cpu IN (12, 31, 99) AND node <> '1'")).toEqual([31])
    expect(await found("state='busy' and _name='cpu'")).toEqual([11, 13, 21, 23, 31, 33])
    expect(await found('cpu + 1 >= 34;')).toEqual([33])
  })

  test('metrics that are only compared are no columns', async () => {
    expect(await read(`select state from '${table}' where cpu = 21`)).toEqual([
      { labels: 'node=2,os=linux', timeNs: BigInt(T + minuteMs) * 1_000_000n, cells: { state: 'busy' } },
    ])
  })

  test('functions are of the rows that are let through', async () => {
    const step = { step: '1h' }
    expect(
      (await read(`select count(cpu), sum(cpu) from '${table}' where cpu > 21`, step)).map(({ cells }) => cells),
    ).toEqual([
      { 'count(cpu)': 2, 'sum(cpu)': 45 },
      { 'count(cpu)': 4, 'sum(cpu)': 126 },
    ])
    const grouped = await read(`select count(cpu), last(cpu) from '${table}' where state = 'busy' group by os`, step)
    expect(grouped.map(({ labels, cells }) => [labels, ...Object.values(cells)])).toEqual([
      ['os=linux', 4, 23],
      ['os=mac', 2, 33],
    ])
    const across = await read(`select sum_all(cpu) from '${table}' where state = 'busy'`, {
      start: String(T),
      end: String(T + 3 * minuteMs),
      step: '1m',
    })
    expect(across.map(({ cells }) => cells['sum(cpu)'])).toEqual([63, 63, 69, 69])
    const latest = await read(`select cpu from '${table}' where cpu < 30 order by time desc limit 2`)
    expect(latest.map(({ cells }) => cells['cpu'])).toEqual([13, 23])
  })

  test('a limit and its marker count the rows that are let through', async () => {
    const cells: Cell[] = []
    let marker = ''
    do {
      const request = {
        backend: 'tsdb',
        table,
        start: '0',
        end: 'now',
        query: 'select cpu where cpu > 21',
        limit: 2n,
        marker,
      }
      marker = ''
      let count = 0
      for await (const frame of engine.read(request)) {
        count += frame.length
        cells.push(...frame.column('cpu').floats())
        marker = String(Object.fromEntries(frame.labels)['next_marker'] ?? '')
      }
      expect(count).toBe(2)
    } while (marker !== '')
    expect(cells).toEqual([22, 23, 30, 31, 32, 33])
  })

  test('a name that is neither label nor metric is missing; a filter knows labels only', async () => {
    expect(await found('nosuch > 1')).toEqual([])
    expect(await found('cpu > 32 and not (nosuch > 1)')).toEqual([33])
    const request = { backend: 'tsdb', table, start: '0', end: 'now', filter: 'cpu > 21' }
    for await (const _ of engine.read(request)) expect.fail('no label set has a label cpu')
  })

  test('_name in one condition with a metric is refused', async () => {
    await expect(found("_name = 'cpu' or cpu > 5")).rejects.toThrow(
      "_name cannot stand in one condition with the metric 'cpu'",
    )
  })
})

interface Condition {
  readonly text: string
  readonly holds: (cells: Readonly<Record<string, Cell>>, host: string) => boolean
}

const compared = (cell: Cell | undefined, test: (value: number) => boolean): boolean =>
  (typeof cell === 'number' || typeof cell === 'bigint') && test(Number(cell))

const conditions: readonly Condition[] = [
  { text: 'load > 0.5', holds: ({ load }) => compared(load, (value) => value > 0.5) },
  { text: 'disk <= 100', holds: ({ disk }) => compared(disk, (value) => value <= 100) },
  {
    text: "load > 0.5 and disk > 0 and host = 'a'",
    holds: ({ load, disk }, host) =>
      compared(load, (value) => value > 0.5) && compared(disk, (value) => value > 0) && host === 'a',
  },
  {
    text: "load < 0.2 or host = 'b'",
    holds: ({ load }, host) => compared(load, (value) => value < 0.2) || host === 'b',
  },
  { text: 'not (disk > 0)', holds: ({ disk }) => !compared(disk, (value) => value > 0) },
  { text: "note > 'a'", holds: ({ note }) => typeof note === 'string' && note > 'a' },
]

test('random rows are let through as the condition says', { timeout: 300_000 }, async () => {
  const random = new SeededRandom(seed)
  const table = 'my/random'
  await engine.create({ backend: 'tsdb', table, rate: '1/s' })
  const model = new TsdbModel(true)
  const timeMsMax = 1e9
  for (let step = 0; step < 20 * Number(process.env['ROUNDS'] ?? 1); step++) {
    const frame = randomFrame(random, { rowCount: random.pick([1, 9, 300, 2000]), timeMsMax, gridMs: 60_000 })
    // Values of one type and without extremes: the plain conditions above compare numbers only.
    const columns = frame.columns.filter(({ name }) => name !== 'flag' && name !== 'cpu')
    if (columns.length === 0) continue
    const labelled = { ...frame, columns, frameLabels: { host: random.pick(['a', 'b', 'c']) }, indexLabels: [] }
    await engine.write({ backend: 'tsdb', table }, toFrame(labelled))
    model.write(labelled)
    if (random.chance(0.2)) await engine.execute({ backend: 'tsdb', table, command: 'compact' })
    const { text, holds } = random.pick(conditions)
    const wanted: string[] = []
    for (const labels of [...model.sets.keys()].sort()) {
      const { names, rows } = model.rows(labels, 0, timeMsMax)
      const shown = names.filter((name) => name !== 'note')
      for (const { timeNs, cells } of rows) {
        const byName = Object.fromEntries(names.map((name, i) => [name, cells[i]!]))
        if (!holds(byName, labels.replace('host=', ''))) continue
        if (shown.some((name) => byName[name] !== null))
          wanted.push(`${labels} ${timeNs} ${shown.map((name) => byName[name])}`)
      }
    }
    const found = (await read(`select disk, load from '${table}' where ${text}`, { end: String(timeMsMax) })).map(
      ({ labels, timeNs, cells }) => {
        const has = model.sets.get(labels)!
        return `${labels} ${timeNs} ${['disk', 'load'].filter((name) => has.has(name)).map((name) => cells[name])}`
      },
    )
    expect(found, `step ${step}: ${text}`).toEqual(wanted)
  }
})
