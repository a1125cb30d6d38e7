// Reads of time series that pool, look back or are told in SQL: the examples of the documentation, and random tables
// against a plain model. SEED=n repeats a run.
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Engine, Frame, openEngine, type ReadRequest, sliceColumn } from '../dist/engine/index.js'
import { SeededRandom, seed } from './seeded-random.js'
import { labelText, randomFrame, toFrame, TsdbModel } from './tsdb-model.js'

const minuteMs = 60_000
const hourMs = 60 * minuteMs
const dayMs = 24 * hourMs
const partitionMs = 2 * dayMs
/** 2018-07-21T21:40:00Z */
const T = Date.UTC(2018, 6, 21, 21, 40)

let engine: Engine
let tableCount = 0

beforeAll(async () => {
  engine = await openEngine({ workerCount: 2, memoryByteLength: 384 * 2 ** 20 })
})
afterAll(async () => {
  await engine.close()
})

type Table = { readonly backend: string; readonly table: string }
type Cell = bigint | number | boolean | string | null
type Labels = Readonly<Record<string, string>>

async function newTable(): Promise<Table> {
  const request = { backend: 'tsdb', table: `my/table-${tableCount++}` }
  await engine.create({ ...request, rate: '1/s' })
  return request
}

/** Writes one metric: rows of time (ms) and value. */
async function put(table: Table, metric: string, labels: Labels, rows: readonly (readonly [number, Cell])[]) {
  const type = typeof rows[0]![1] === 'string' ? 'string' : typeof rows[0]![1] === 'bigint' ? 'int64' : 'float64'
  const times = rows.map(([timeMs]) => BigInt(timeMs) * 1_000_000n)
  await engine.write(
    table,
    new Frame({
      columns: [sliceColumn(metric, rows.map(([, cell]) => cell) as number[], type)],
      indices: [sliceColumn('time', times, 'time')],
      labels,
    }),
  )
}

interface Answer {
  readonly labels: Labels
  readonly names: readonly string[]
  /** Time in ms, then the value cells. */
  readonly rows: readonly (readonly Cell[])[]
}

async function read(request: ReadRequest): Promise<Answer[]> {
  const answers: Answer[] = []
  for await (const frame of engine.read(request)) {
    const { next_marker: _, ...labels } = Object.fromEntries(frame.labels) as Record<string, string>
    const names = frame.names.filter((name) => !(name in labels))
    const cells = names.map((name) => frame.column(name).values() as readonly Cell[])
    const rows = [...frame.indices[0]!.times()].map((timeNs, row) => [
      Number(timeNs / 1_000_000n),
      ...cells.map((column) => column[row]!),
    ])
    const before = answers.at(-1)
    if (before !== undefined && labelText(before.labels) === labelText(labels)) {
      answers[answers.length - 1] = { labels, names, rows: [...before.rows, ...rows] }
    } else answers.push({ labels, names, rows })
  }
  return answers
}

const range = (startMs: number, endMs: number) => ({ start: String(startMs), end: String(endMs) })

describe('aggregation_window', () => {
  const everyMinute = Array.from({ length: 10 }, (_, minute) => [T + minute * minuteMs, 10 * minute] as const)

  test.for([
    ['6m', [0, 150, 390]],
    ['5m', [0, 150, 300]],
    ['2m', [0, 120, 170]],
  ] as const)('a window of %s ends at its bucket time', async ([window, sums]) => {
    const table = await newTable()
    await put(table, 'cpu', {}, everyMinute)
    const request = { ...table, ...range(T, T + 10 * minuteMs), aggregators: 'sum', step: '5m' }
    expect(await read({ ...request, aggregationWindow: window })).toEqual([
      { labels: {}, names: ['sum(cpu)'], rows: sums.map((sum, i) => [T + i * 5 * minuteMs, sum]) },
    ])
  })

  test('samples before the start are looked back to, also in an earlier partition', async () => {
    const table = await newTable()
    const start = Math.ceil(T / partitionMs) * partitionMs + minuteMs
    await put(table, 'cpu', {}, [
      [start - 10 * minuteMs, 1000],
      [start - 3 * minuteMs, 1],
      [start - 2 * minuteMs, 2],
      [start + 5 * minuteMs, 4],
    ])
    const request = { ...table, ...range(start, start + 6 * minuteMs), aggregators: 'sum,count', step: '3m' }
    const [answer] = await read({ ...request, aggregationWindow: '4m' })
    expect(answer!.rows).toEqual([
      [start, 3, 2],
      [start + 6 * minuteMs, 4, 1],
    ])
  })

  test('a time counts as floored to milliseconds', async () => {
    const table = await newTable()
    const time = sliceColumn('time', [BigInt(T) * 1_000_000n + 999_999n], 'time')
    await engine.write(table, new Frame({ columns: [sliceColumn('cpu', [7], 'float64')], indices: [time] }))
    const request = { ...table, ...range(T, T + 60_000), aggregators: 'sum', step: '30s' }
    expect((await read({ ...request, aggregationWindow: '30s' }))[0]!.rows).toEqual([[T, 7]])
    expect((await read({ ...request, aggregationWindow: '31s' }))[0]!.rows).toEqual([
      [T, 7],
      [T + 30_000, 7],
    ])
  })

  test('no bucket comes behind the end', async () => {
    const table = await newTable()
    await put(table, 'cpu', {}, [[T + minuteMs, 1]])
    const request = { ...table, ...range(T, T + minuteMs), aggregators: 'count', step: '1m', aggregationWindow: '1h' }
    expect((await read(request))[0]!.rows).toEqual([[T + minuteMs, 1]])
  })

  test('without a step there is one window, which ends at the start, and one at the end', async () => {
    const table = await newTable()
    await put(table, 'cpu', {}, everyMinute)
    const request = { ...table, ...range(T + minuteMs, T + 5 * minuteMs), aggregators: 'sum', aggregationWindow: '1m' }
    expect((await read(request))[0]!.rows).toEqual([
      [T + minuteMs, 10],
      [T + 5 * minuteMs, 90],
    ])
  })

  test('it is passed over in raw reads', async () => {
    const table = await newTable()
    await put(table, 'cpu', {}, everyMinute)
    const request = { ...table, ...range(T + minuteMs, T + 2 * minuteMs), aggregationWindow: '1h' }
    expect((await read(request))[0]!.rows).toEqual([
      [T + minuteMs, 10],
      [T + 2 * minuteMs, 20],
    ])
  })
})

describe('group_by', () => {
  async function fourSeries(): Promise<Table> {
    const table = await newTable()
    for (const [os, region] of [
      ['linux', 'europe'],
      ['mac', 'europe'],
      ['linux', 'americas'],
      ['linux', 'asia'],
    ] as const) {
      await put(table, 'cpu', { os, region }, [[T, 10]])
    }
    return table
  }

  test('samples of a group are pooled; its frame has the labels of the group', async () => {
    const table = await fourSeries()
    const request = { ...table, ...range(T, T + 10 * minuteMs), aggregators: 'sum,count', groupBy: 'os' }
    const names = ['sum(cpu)', 'count(cpu)']
    expect(await read(request)).toEqual([
      { labels: { os: 'linux' }, names, rows: [[T, 30, 3]] },
      { labels: { os: 'mac' }, names, rows: [[T, 10, 1]] },
    ])
    const both = await read({ ...request, groupBy: ' region , os ', filter: "os == 'linux'" })
    expect(both.map(({ labels }) => labels)).toEqual(
      ['americas', 'asia', 'europe'].map((region) => ({ os: 'linux', region })),
    )
  })

  test('two series with 10 at one time have sum 20 and count 2', async () => {
    const table = await newTable()
    for (const host of ['a', 'b']) await put(table, 'cpu', { host, os: 'linux' }, [[T, 10]])
    const request = { ...table, ...range(T, T + minuteMs), aggregators: 'sum,count', step: '1m', groupBy: 'os' }
    expect((await read(request))[0]!.rows).toEqual([[T, 20, 2]])
  })

  test('last is of the greatest time, and of equal times that of the later label set', async () => {
    const table = await newTable()
    await put(table, 'cpu', { host: 'a', os: 'x' }, [
      [T, 1],
      [T + 2000, 3],
    ])
    await put(table, 'cpu', { host: 'b', os: 'x' }, [
      [T, 2],
      [T + 1000, 4],
    ])
    const request = { ...table, ...range(T, T + minuteMs), aggregators: 'last', groupBy: 'os' }
    expect((await read(request))[0]!.rows).toEqual([[T, 3]])
    expect((await read({ ...request, end: String(T + 500) }))[0]!.rows).toEqual([[T, 2]])
  })

  test('a metric that is text in one series and a number in another counts both', async () => {
    const table = await newTable()
    await put(table, 'mixed', { host: 'a', os: 'x' }, [[T, 5]])
    await put(table, 'mixed', { host: 'b', os: 'x' }, [[T, 'five']])
    await put(table, 'text', { host: 'b', os: 'x' }, [[T, 'five']])
    const request = { ...table, ...range(T, T), aggregators: 'count,sum', groupBy: 'os' }
    expect((await read(request))[0]!.rows).toEqual([[T, 2, 5, 1, Number.NaN]])
  })

  test('columns that some sets of a group lack, and that all lack', async () => {
    const table = await newTable()
    await put(table, 'cpu', { host: 'a', os: 'x' }, [[T, 5n]])
    await put(table, 'mem', { host: 'b', os: 'x' }, [[T, 7.5]])
    const request = { ...table, ...range(T, T), aggregators: 'sum', groupBy: 'os', columns: ['mem', 'cpu', 'nosuch'] }
    expect(await read(request)).toEqual([
      { labels: { os: 'x' }, names: ['sum(mem)', 'sum(cpu)', 'sum(nosuch)'], rows: [[T, 7.5, 5, Number.NaN]] },
    ])
    expect(await read({ ...request, columns: ['nosuch'] })).toEqual([])
    const named = await read({ ...request, filter: "_name == 'cpu'" })
    expect(named[0]!.rows).toEqual([[T, Number.NaN, 5, Number.NaN]])
  })

  test('a series without the label, or with an empty value, fails the whole query', async () => {
    const table = await newTable()
    await put(table, 'cpu', { os: 'linux' }, [[T, 1]])
    await put(table, 'cpu', { os: '' }, [[T, 1]])
    await put(table, 'disk', { host: 'a' }, [[T, 1]])
    const request = { ...table, ...range(T, T), aggregators: 'sum' }
    const text = 'no label named os found to group by'
    await expect(read({ ...request, groupBy: 'os' })).rejects.toThrow(text)
    await expect(read({ ...request, groupBy: 'os', columns: ['cpu'] })).rejects.toThrow(text)
    await expect(read({ ...request, groupBy: 'os', columns: ['disk'] })).rejects.toThrow(text)
    expect(await read({ ...request, groupBy: 'os', filter: "os == 'linux'" })).toHaveLength(1)
    expect(await read({ ...request, groupBy: 'host', columns: ['disk'] })).toHaveLength(1)
    // Also where nothing is in range, whatever blocks there are; only a range without any partition has no series at all.
    const between = range(T + 1000, T + 2000)
    await expect(read({ ...request, ...between, groupBy: 'os' })).rejects.toThrow(text)
    await put(table, 'cpu', { os: 'linux' }, [[T + 3000, 1]])
    await engine.execute({ ...table, command: 'compact' })
    await expect(read({ ...request, ...between, groupBy: 'os' })).rejects.toThrow(text)
    expect(await read({ ...request, ...range(0, 1), groupBy: 'os' })).toEqual([])
  })

  test('time groups by bucket alone: all series are one frame without labels, unless they have a label of that name', async () => {
    const table = await newTable()
    await put(table, 'cpu', { os: 'linux' }, [
      [T, 1],
      [T + 1000, 2],
      [T + minuteMs, 3],
    ])
    await put(table, 'cpu', { os: 'mac' }, [
      [T + 2000, 5],
      [T + 2 * minuteMs, 7],
    ])
    const request = { ...table, ...range(T, T + hourMs), aggregators: 'max,count', step: '1m' }
    const rows = [
      [T, 5, 3],
      [T + minuteMs, 3, 1],
      [T + 2 * minuteMs, 7, 1],
    ]
    const names = ['max(cpu)', 'count(cpu)']
    expect(await read({ ...request, groupBy: 'time' })).toEqual([{ labels: {}, names, rows }])
    const query = `select max(cpu), count(cpu) from '${table.table}' group by time order by time desc limit 2`
    expect((await read({ ...request, query }))[0]!.rows).toEqual([rows[2], rows[1]])
    expect(await read({ ...request, groupBy: 'time, os' })).toEqual(await read({ ...request, groupBy: 'os' }))
    await put(table, 'cpu', { os: 'mac', time: 'winter' }, [[T, 9]])
    const winter = await read({ ...request, groupBy: 'time', filter: "time == 'winter'" })
    expect(winter.map(({ labels }) => labels)).toEqual([{ time: 'winter' }])
    await expect(read({ ...request, groupBy: 'time' })).rejects.toThrow('no label named time found to group by')
  })

  test('without a function it is refused', async () => {
    const table = await fourSeries()
    const text = 'group_by requires an aggregation function'
    await expect(read({ ...table, groupBy: 'os' })).rejects.toThrow(text)
    await expect(read({ ...table, groupBy: 'os', step: '1m' })).rejects.toThrow(text)
    await expect(read({ ...table, query: 'select cpu group by os' })).rejects.toThrow(text)
  })

  test('multi_index moves the labels of the group to the index', async () => {
    const table = await fourSeries()
    const request = { ...table, ...range(T, T), aggregators: 'sum', groupBy: 'os', multiIndex: true }
    for await (const frame of engine.read(request)) {
      expect(frame.indices.map(({ name }) => name)).toEqual(['time', 'os'])
      expect(frame.names).toEqual(['sum(cpu)'])
    }
  })
})

describe('query', () => {
  async function servers(): Promise<Table> {
    const table = await newTable()
    for (const [node, os] of [
      ['1', 'linux'],
      ['2', 'linux'],
      ['3', 'mac'],
    ] as const) {
      const rows = [
        [T, 10 * Number(node)],
        [T + minuteMs, 20 * Number(node)],
      ] as const
      await put(table, 'cpu', { node, os }, rows)
      await put(
        table,
        'disk',
        { node, os },
        rows.map(([timeMs, value]) => [timeMs, value + 1] as const),
      )
    }
    return table
  }
  const inRange = range(T, T + hourMs)
  /** The table is named by the query alone, and the fields that a query makes void say something else. */
  const ask = (query: string) => ({
    backend: 'tsdb',
    table: '',
    ...inRange,
    query,
    columns: ['no'],
    filter: "a == 'b'",
  })

  test('the documented query: aliases, also one that is a metric name', async () => {
    const { table } = await servers()
    const query = `select avg(cpu) as cpu, avg(disk) from '${table}' where node='1'`
    expect(await read(ask(query))).toEqual([
      { labels: { node: '1', os: 'linux' }, names: ['cpu', 'avg(disk)'], rows: [[T, 15, 16]] },
    ])
  })

  test('metrics as they are, with an alias, and all of them', async () => {
    const { table } = await servers()
    const where = `from '${table}' where node = '2'`
    const [raw] = await read(ask(`SELECT disk, cpu AS c ${where};`))
    expect([raw!.names, raw!.rows]).toEqual([
      ['disk', 'c'],
      [
        [T, 21, 20],
        [T + minuteMs, 41, 40],
      ],
    ])
    expect((await read(ask(`select * ${where}`)))[0]!.names).toEqual(['cpu', 'disk'])
    expect((await read(ask(`select disk as d, * ${where}`)))[0]!.names).toEqual(['d', 'cpu'])
    expect((await read(ask(`select linear(cpu, '10m') ${where}`)))[0]!.names).toEqual(['cpu'])
  })

  test('functions of every metric follow those that are named', async () => {
    const { table } = await servers()
    const [answer] = await read(ask(`select max(*), min(cpu), max(disk) as d from '${table}' where node='1'`))
    expect([answer!.names, answer!.rows]).toEqual([['min(cpu)', 'd', 'max(cpu)'], [[T, 10, 21, 20]]])
    const [counts] = await read(ask(`select count(*) from '${table}' where node='1'`))
    expect([counts!.names, counts!.rows]).toEqual([['count(cpu)', 'count(disk)'], [[T, 2, 2]]])
    const [prev] = await read(ask(`select max(prev_val(cpu)) from '${table}' where node='1'`))
    expect(prev!.names).toEqual(['max(cpu)'])
  })

  test('WHERE as callers write it: nested, without blanks, IN, a final semicolon', async () => {
    const { table } = await servers()
    const nodes = async (where: string) =>
      (await read(ask(`select cpu from '${table}' where ${where}`))).map(({ labels }) => labels['node'])
    expect(await nodes("os='linux' AND ((node='1' AND os='linux') OR (node='3' AND os='mac'));")).toEqual(['1'])
    expect(await nodes("node IN('1','3')")).toEqual(['1', '3'])
    expect(await nodes("node <> '1'")).toEqual(['2', '3'])
    expect(await nodes("nosuch = '1'")).toEqual([])
    expect(await nodes('1=1')).toEqual(['1', '2', '3'])
  })

  test('model monitoring: a path in quotes, labels of an endpoint, text beside numbers', async () => {
    const table = { backend: 'tsdb', table: 'proj/model-endpoints/x' }
    await engine.create({ ...table, rate: '10/m', aggregates: 'count,avg', aggregationGranularity: '1m' })
    for (const [endpoint_id, app, name] of [
      ['x', 'p', 'q'],
      ['x', 'r', 's'],
      ['y', 'p', 'q'],
    ] as const) {
      const labels = { endpoint_id, app, name }
      await put(table, 'a', labels, [[T, 1n]])
      await put(table, 'b', labels, [[T, 2.5]])
      await put(table, 'c', labels, [[T, 'text']])
    }
    const where = "WHERE endpoint_id='x' AND ((app='p' AND name='q') OR (app='r' AND name='s'))"
    const found = await read(ask(`SELECT a,b FROM 'proj/model-endpoints/x' ${where};`))
    expect(found.map(({ labels }) => labels['app'])).toEqual(['p', 'r'])
    expect([found[0]!.names, found[0]!.rows]).toEqual([['a', 'b'], [[T, 1n, 2.5]]])
    const last = { ...table, ...inRange, aggregators: 'last', groupBy: 'endpoint_id' }
    const names = ['last(a)', 'last(b)', 'last(c)']
    expect(await read(last)).toEqual([
      { labels: { endpoint_id: 'x' }, names, rows: [[T, 1, 2.5, Number.NaN]] },
      { labels: { endpoint_id: 'y' }, names, rows: [[T, 1, 2.5, Number.NaN]] },
    ])
  })

  test('GROUP BY with a step', async () => {
    const { table } = await servers()
    const query = `select sum(cpu) as total, max(disk) from '${table}' group by os`
    expect(await read({ ...ask(query), step: '1m' })).toEqual([
      {
        labels: { os: 'linux' },
        names: ['total', 'max(disk)'],
        rows: [
          [T, 30, 21],
          [T + minuteMs, 60, 41],
        ],
      },
      {
        labels: { os: 'mac' },
        names: ['total', 'max(disk)'],
        rows: [
          [T, 30, 31],
          [T + minuteMs, 60, 61],
        ],
      },
    ])
    const missing = ask(`select sum(cpu) from '${table}' group by region`)
    await expect(read(missing)).rejects.toThrow('no label named region found to group by')
  })

  test('without FROM the table of the request is read', async () => {
    const table = await servers()
    expect(await read({ ...table, ...inRange, query: "select cpu where node='1'" })).toHaveLength(1)
  })

  test('LIMIT is of rows; DISTINCT and an ORDER BY other than time change nothing', async () => {
    const { table } = await servers()
    const rowCount = async (query: string, limit = 0n) =>
      (await read({ ...ask(query), limit })).reduce((sum, { rows }) => sum + rows.length, 0)
    expect(await rowCount(`select cpu from '${table}' limit 3`)).toBe(3)
    expect(await rowCount(`select cpu from '${table}' limit 3`, 2n)).toBe(2)
    expect(await rowCount(`select cpu from '${table}' limit 0`)).toBe(0)
    expect(await rowCount(`select distinct cpu from '${table}' order by time limit 3`)).toBe(3)
    expect(await rowCount(`select cpu from '${table}' order by cpu desc`)).toBe(6)
    const byValue = ask(`select cpu from '${table}' order by cpu limit 1`)
    await expect(read(byValue)).rejects.toThrow('LIMIT takes the first rows by time; ORDER BY cpu cannot choose them')
    const many = ask(`select cpu from '${table}' order by time desc limit 1000001`)
    await expect(read(many)).rejects.toThrow('LIMIT with ORDER BY time is 1000000 rows at most')
  })

  test.for([
    ['select AVG(cpu) from t', 'invalid aggragate type: AVG'],
    ['select max(*) as m from t', 'cannot alias a wildcard'],
    ['select max(avg(cpu)) from t', 'could not parse expr'],
    ['select cpu as x, disk as x from t', "column name 'x' appears more than once in select query"],
    ['select avg(cpu), avg(cpu) as x from t', "function 'avg' for metric 'cpu' was requested multiple time"],
    ['select cpu from a, b', 'select from multiple tables is not supported (got 2)'],
    ['select cpu from (select 1)', 'not a table in FROM field'],
    ['delete from t', 'not a SELECT statement'],
    ["select cpu from t where node == '1'", 'syntax error at position'],
    ['select cpu, sum_all(cpu) from t', 'can not aggregate both over time and across series aggregates: a raw column'],
    ['select max(cpu), sum_all(cpu) from t', 'can not aggregate both over time and across series aggregates'],
    ['select max(cpu), cpu from t group by os', 'group_by requires an aggregation function for every column'],
    ['select toString_all(cpu) from t', 'invalid aggragate type: toString_all'],
    ['select constructor(cpu) from t', 'invalid aggragate type: constructor'],
    [
      'select linear(cpu), max(prev_val(cpu)) from t',
      'multiple interpolation for the same metric are not supported, got linear and prev_val',
    ],
    [
      "select sum(linear(cpu, '5m')), max(linear(cpu, '10m')) from t",
      'different interpolation tolerances for the same metric are not supported, got 300000 and 600000',
    ],
    ["select linear(cpu, '5m', '6m') from t", 'unssoported number of parameters for function linear'],
    ['select count() from t', 'unssoported number of parameters for function count'],
    ['select linear(max(cpu)) from t', 'could not parse expr'],
    ['select nosuch(linear(cpu)) from t', 'invalid aggragate type: nosuch'],
    ['select max(nosuch(cpu)) from t', 'unknown/unsupported interpulation function nosuch'],
    ['select cpu + 1 from t', "unknown columns type - '+' at position 12"],
    ['select cpu from t where', 'syntax error at position 24'],
    ["select cpu from a/b where node='1'", 'syntax error at position 18'],
    ["select cpu from 'no/such'", 'No TSDB schema file found'],
  ] as const)('%s: %s', async ([query, text]) => {
    await expect(read(ask(query))).rejects.toThrow(text)
  })
})

// ---- random tables against a plain model -------------------------------------------------------------------------------

interface ModelRead {
  readonly startMs: number
  readonly endMs: number
  readonly stepMs: number
  /** 0: none. */
  readonly windowMs: number
  readonly groupBy: string | null
}

interface ModelBucket {
  readonly values: number[]
  readonly results: readonly number[]
}

describe('a question that comes again', () => {
  const question = { columns: ['v'], aggregators: 'max', step: '1m', groupBy: 'time' }
  const maxima = async (request: ReadRequest) => (await read(request)).flatMap(({ rows }) => rows)

  test('with other times, on another table, after new series and after other types is answered anew', async () => {
    const table = await newTable()
    const other = await newTable()
    const first = { ...question, ...range(T, T + 2 * minuteMs - 1) }
    const second = { ...question, ...range(T + minuteMs, T + 3 * minuteMs - 1) }
    await put(table, 'v', { host: 'a' }, [
      [T, 1],
      [T + minuteMs, 2],
      [T + 2 * minuteMs, 3],
    ])
    await put(other, 'v', { host: 'b' }, [[T + minuteMs, 10n]])
    expect(await maxima({ ...table, ...first })).toEqual([
      [T, 1],
      [T + minuteMs, 2],
    ])
    expect(await maxima({ ...table, ...second })).toEqual([
      [T + minuteMs, 2],
      [T + 2 * minuteMs, 3],
    ])
    expect(await maxima({ ...other, ...first })).toEqual([[T + minuteMs, 10]])
    await put(table, 'v', { host: 'c' }, [[T, 7]])
    await put(table, 'w', { host: 'a' }, [[T, 8]])
    expect(await maxima({ ...table, ...first })).toEqual([
      [T, 7],
      [T + minuteMs, 2],
    ])
    expect(await maxima({ ...table, ...first, filter: `host == 'a'` })).toEqual([
      [T, 1],
      [T + minuteMs, 2],
    ])
  })

  test('with another function, step or metric is another question', async () => {
    const table = await newTable()
    await put(table, 'v', { host: 'a' }, [
      [T, 1],
      [T + minuteMs, 3],
    ])
    await put(table, 'w', { host: 'a' }, [[T, 5]])
    const asked = { ...table, ...question, ...range(T, T + 2 * minuteMs - 1) }
    expect(await maxima(asked)).toHaveLength(2)
    expect(await maxima({ ...asked, step: '2m' })).toEqual([[T, 3]])
    expect(await maxima({ ...asked, step: '2m', aggregators: 'avg' })).toEqual([[T, 2]])
    expect(await maxima({ ...asked, step: '2m', columns: ['w'] })).toEqual([[T, 5]])
    expect(await maxima({ ...asked, step: '2m', columns: ['v', 'w'] })).toEqual([[T, 3, 5]])
  })
})

const functions = ['count', 'sum', 'min', 'max', 'last', 'avg', 'stdvar', 'rate'] as const

/** Where the range begins and ends, moved to the partitions that have samples; null: nowhere. */
function clamped(model: TsdbModel, { startMs, endMs, windowMs }: ModelRead): [number, number] | null {
  const partitions: number[] = []
  for (const metrics of model.sets.values())
    for (const { samples } of metrics.values())
      for (const timeNs of samples.keys()) partitions.push(Math.floor(Number(timeNs / 1_000_000n) / partitionMs))
  const first = Math.floor((startMs - windowMs) / partitionMs)
  const inRange = partitions.filter((partition) => partition >= first && partition <= Math.floor(endMs / partitionMs))
  if (inRange.length === 0) return null
  const from = Math.max(startMs, Math.min(...inRange) * partitionMs)
  const to = Math.min(endMs, (Math.max(...inRange) + 1) * partitionMs - 1)
  return from > to ? null : [from, to]
}

/** `group/metric/bucket time` → results, by the rules as they are written down. */
function modelAnswer(model: TsdbModel, request: ModelRead): Map<string, ModelBucket> {
  const wanted = new Map<string, ModelBucket>()
  const bounds = clamped(model, request)
  if (bounds === null) return wanted
  const [from, to] = bounds
  const { stepMs, windowMs, groupBy } = request
  const lastBucket = Math.floor((to - from) / stepMs)
  // Group and metric → samples of all series, in the order of time and series.
  const pooled = new Map<string, { timeNs: bigint; value: number; isText: boolean }[]>()
  for (const text of [...model.sets.keys()].sort()) {
    for (const metric of model.sets.get(text)!.keys()) {
      const group = groupBy === null ? text : text.split(',').find((label) => label.startsWith(`${groupBy}=`))!
      const key = `${group}/${metric}`
      const samples = pooled.get(key) ?? []
      pooled.set(key, samples)
      for (const { timeNs, cell } of model.samples(text, metric, from - windowMs, to))
        samples.push({ timeNs, value: Number(cell), isText: typeof cell === 'string' })
    }
  }
  for (const [key, samples] of pooled) {
    samples.sort((a, b) => (a.timeNs < b.timeNs ? -1 : a.timeNs > b.timeNs ? 1 : 0))
    const buckets = new Map<number, typeof samples>()
    for (const sample of samples) {
      const timeMs = Number(sample.timeNs / 1_000_000n)
      const nearest = Math.max(0, Math.floor((timeMs - from) / stepMs))
      const furthest = windowMs === 0 ? nearest : Math.min(lastBucket, Math.ceil((timeMs + windowMs - from) / stepMs))
      for (let i = nearest; i <= furthest; i++) {
        const bucketMs = from + i * stepMs
        const holds =
          windowMs === 0
            ? bucketMs <= timeMs && timeMs < bucketMs + stepMs
            : timeMs <= bucketMs && (windowMs === stepMs ? bucketMs - windowMs < timeMs : bucketMs - windowMs <= timeMs)
        if (holds) buckets.set(i, [...(buckets.get(i) ?? []), sample])
      }
    }
    let before: { timeMs: number; last: number } | null = null
    for (const i of [...buckets.keys()].sort((a, b) => a - b)) {
      const all = buckets.get(i)!
      const timeMs = from + i * stepMs
      const values = all.filter(({ isText }) => !isText).map(({ value }) => value)
      const last = values.at(-1) ?? Number.NaN
      const rate: number = before === null ? Number.NaN : (last - before.last) / ((timeMs - before.timeMs) / 1000)
      if (values.length > 0) before = { timeMs, last }
      wanted.set(`${key}/${timeMs}`, { values, results: [all.length, ...aggregate(values), rate] })
    }
  }
  return wanted
}

/** sum, min, max, last, avg, stdvar; NaN without values. */
function aggregate(values: readonly number[]): number[] {
  const n = values.length
  if (n === 0) return Array.from({ length: 6 }, () => Number.NaN)
  const sum = values.reduce((a, b) => a + b, 0)
  const mean = sum / n
  const extreme = (pick: (a: number, b: number) => number) =>
    values.some(Number.isNaN) ? Number.NaN : values.reduce((a, b) => pick(a, b))
  const variance = n < 2 ? Number.NaN : values.reduce((a, b) => a + (b - mean) ** 2, 0) / (n - 1)
  return [sum, extreme(Math.min), extreme(Math.max), values[n - 1]!, mean, variance]
}

function isClose(a: number, b: number, scale: number): boolean {
  // Overflow may be reached in one order of additions and not in another.
  return Object.is(a, b) || a === b || scale > 1e300 || Math.abs(a - b) <= 1e-11 * scale
}

/** Reads with a row limit now and then, page by page, and compares every bucket. */
async function check(table: Table, model: TsdbModel, request: ModelRead, limit: bigint, where: string): Promise<void> {
  const { startMs, endMs, stepMs, windowMs, groupBy } = request
  const fields: ReadRequest = {
    ...table,
    ...range(startMs, endMs),
    step: `${stepMs / 1000}s`,
    aggregationWindow: windowMs === 0 ? '' : `${windowMs / 1000}s`,
    aggregators: functions.join(),
    groupBy: groupBy ?? '',
    limit,
  }
  const wanted = modelAnswer(model, request)
  let marker = ''
  let count = 0
  do {
    const page: ReadRequest = { ...fields, marker }
    marker = ''
    for await (const frame of engine.read(page)) {
      const { next_marker, ...labels } = Object.fromEntries(frame.labels) as Record<string, string>
      marker = next_marker ?? ''
      const times = frame.indices[0]!.times()
      const metrics = new Set(
        frame.names.filter((name) => !(name in labels)).map((name) => name.replace(/.*\(|\)/g, '')),
      )
      for (const metric of metrics) {
        const columns = functions.map((fn) => frame.column(`${fn}(${metric})`).floats())
        times.forEach((timeNs, row) => {
          const key = `${labelText(labels)}/${metric}/${timeNs / 1_000_000n}`
          const want = wanted.get(key)
          const got = columns.map((values) => values[row]!)
          if (want === undefined) {
            expect(got.every(Number.isNaN), `${where}: ${key} has no samples`).toBe(true)
            return
          }
          count++
          let scale = 1
          for (const value of want.values) if (Number.isFinite(value)) scale = Math.max(scale, Math.abs(value))
          scale *= Math.max(1, want.values.length)
          functions.forEach((fn, i) => {
            // A rate is of two buckets; the other one's values are not at hand.
            if (fn === 'rate' && (Math.abs(got[i]!) > 1e6 || !Number.isFinite(got[i]!))) return
            const isSame = isClose(got[i]!, want.results[i]!, fn === 'stdvar' ? scale ** 2 : scale)
            if (!isSame) expect(got[i], `${where}: ${fn} of ${key}`).toBe(want.results[i])
          })
        })
      }
    }
  } while (marker !== '')
  expect(count, `${where}: buckets`).toBe(wanted.size)
}

test('rates of a read that goes on from a marker know infinities and NaN of the bucket before', async () => {
  const table = await newTable()
  const values = [1, Infinity, 2, -Infinity, -Infinity, 3, Number.NaN, -0, 0, 5]
  await put(
    table,
    'cpu',
    {},
    values.map((value, i) => [T + i * minuteMs, value] as const),
  )
  const request = { ...table, ...range(T, T + 20 * minuteMs), aggregators: 'rate', step: '1m' }
  const [whole] = await read(request)
  expect(whole!.rows.length).toBe(values.length)
  const rows: unknown[] = []
  let marker = ''
  do {
    const page = { ...request, limit: 1n, marker }
    marker = ''
    for await (const frame of engine.read(page)) {
      marker = String(Object.fromEntries(frame.labels)['next_marker'] ?? '')
      rows.push([Number(frame.indices[0]!.times()[0]! / 1_000_000n), frame.column('rate(cpu)').floats()[0]])
    }
  } while (marker !== '')
  expect(rows).toEqual(whole!.rows)
})

test('random tables, windows and groups answer as the model does', { timeout: 600_000 }, async () => {
  const random = new SeededRandom(seed)
  const timeMsMax = 5 * partitionMs
  const table = await newTable()
  const model = new TsdbModel(true)
  for (let step = 0; step < 40 * Number(process.env['ROUNDS'] ?? 1); step++) {
    const frame = randomFrame(random, {
      rowCount: random.pick([1, 5, 50, 300, 300, 3000]),
      timeMsMax,
      gridMs: random.pick([1, 1000, 60_000, 1_800_000]),
    })
    const labelled = {
      ...frame,
      frameLabels: { host: random.pick(['a', 'b', 'c']) },
      // The model cuts label text at commas.
      indexLabels: [{ name: 'os', texts: frame.timesNs.map(() => random.pick(['linux', 'mac', 'none'])) }],
    }
    await engine.write(table, toFrame(labelled))
    model.write(labelled)
    const [a, b] = [random.integer(0, timeMsMax), random.integer(0, timeMsMax)]
    const stepMs = random.pick([120, 600, 86_400, 100_000, 1_000_000]) * 1000
    await check(
      table,
      model,
      {
        startMs: random.chance(0.3) ? 0 : Math.min(a, b),
        endMs: random.chance(0.3) ? timeMsMax : Math.max(a, b),
        stepMs,
        windowMs: random.pick([0, 1000, stepMs / 2, stepMs, stepMs + 1000, 3 * stepMs]),
        groupBy: random.pick([null, 'host', 'os']),
      },
      random.pick([0n, 0n, 0n, 100n]),
      `step ${step}`,
    )
  }
})
