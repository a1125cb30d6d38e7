// Reads at step points: downsampling, functions across series, raw columns beside functions. The examples of the
// documentation, then random tables against a plain model. SEED=n repeats a run.
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Engine, Frame, openEngine, type ReadRequest, sliceColumn } from '../dist/engine/index.js'
import { SeededRandom, seed } from './seeded-random.js'
import { labelText, randomFrame, toFrame, TsdbModel } from './tsdb-model.js'

const minuteMs = 60_000
const dayMs = 24 * 60 * minuteMs
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

/** Writes one metric: rows of minute (after T) and value. */
async function put(table: Table, metric: string, labels: Labels, rows: readonly (readonly [number, Cell])[]) {
  const first = rows[0]![1]
  const type =
    typeof first === 'string'
      ? 'string'
      : typeof first === 'bigint'
        ? 'int64'
        : typeof first === 'boolean'
          ? 'bool'
          : 'float64'
  const times = rows.map(([minute]) => BigInt(Math.round(T + minute * minuteMs)) * 1_000_000n)
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
  /** Minutes after T, then the value cells. */
  readonly rows: readonly (readonly Cell[])[]
}

async function read(request: ReadRequest): Promise<Answer[]> {
  const answers: Answer[] = []
  for await (const frame of engine.read(request)) {
    const { next_marker: _, ...labels } = Object.fromEntries(frame.labels) as Record<string, string>
    const names = frame.names.filter((name) => !(name in labels))
    const cells = names.map((name) => frame.column(name).values() as readonly Cell[])
    const rows = [...frame.indices[0]!.times()].map((timeNs, row) => [
      (Number(timeNs / 1_000_000n) - T) / minuteMs,
      ...cells.map((column) => column[row]!),
    ])
    const before = answers.at(-1)
    if (before !== undefined && labelText(before.labels) === labelText(labels)) {
      answers[answers.length - 1] = { labels, names, rows: [...before.rows, ...rows] }
    } else answers.push({ labels, names, rows })
  }
  return answers
}

/** From T on, so many minutes. */
const minutes = (count: number) => ({ start: String(T), end: String(T + count * minuteMs) })

describe('downsampling', () => {
  /** 10 at 0, 20 at 1 min, 30 at 6 min, 40 at 9 min. */
  async function sparse(): Promise<Table> {
    const table = await newTable()
    await put(table, 'cpu', { os: 'linux' }, [
      [0, 10],
      [1, 20],
      [6, 30],
      [9, 40],
    ])
    return table
  }

  test('a step without functions: at each step the next sample within two steps, nothing behind the last', async () => {
    const table = await sparse()
    expect(await read({ ...table, ...minutes(10), step: '2m', columns: ['cpu'] })).toEqual([
      {
        labels: { os: 'linux' },
        names: ['cpu'],
        rows: [
          [0, 10],
          [2, 30],
          [4, 30],
          [6, 30],
          [8, 40],
        ],
      },
    ])
  })

  test.for([
    ['cpu', [10, 30, 30, 30, 40]],
    ["next_val(cpu, '2m')", [10, null, 30, 30, 40]],
    ["prev_val(cpu, '2m')", [10, 20, null, 30, 30]],
    ["PREV_VAL(cpu, '1m')", [10, 20, null, 30, null]],
    ["linear(cpu, '10m')", [10, 22, 26, 30, 30 + (10 * 2) / 3]],
    ["lin(cpu, '4m')", [10, 22, 26, 30, 30 + (10 * 2) / 3]],
    ["linear(cpu, '2m')", [10, null, null, 30, 30 + (10 * 2) / 3]],
    ['nan(cpu)', [10, Number.NaN, Number.NaN, 30, Number.NaN]],
    ["none(cpu, '1m')", [10, 30, 30, 30, 40]],
    ["next_val(cpu, '0m')", [10, null, null, 30, null]],
  ] as const)('select %s', async ([column, values]) => {
    const { table } = await sparse()
    const wanted = values.flatMap((value, i) => (value === null ? [] : [[2 * i, value]]))
    const [answer] = await read({
      backend: 'tsdb',
      table: '',
      ...minutes(10),
      step: '2m',
      query: `select ${column} from '${table}'`,
    })
    expect(answer!.names).toEqual(['cpu'])
    expect(answer!.rows.map(([minute, value]) => [minute, value])).toEqual(wanted)
  })

  test('an alias names a downsampled column; columns keep the order of the query', async () => {
    const table = await sparse()
    await put(table, 'disk', { os: 'linux' }, [[0, 1]])
    const query = `select linear(disk) as d, cpu as c from '${table.table}';`
    const [answer] = await read({ ...table, ...minutes(1), step: '1m', query })
    expect(answer!.names).toEqual(['d', 'c'])
    expect(answer!.rows).toEqual([
      [0, 1, 10],
      [1, Number.NaN, 20],
    ])
  })

  test('ints and bools become floats; text has no values, and makes no row', async () => {
    const table = await newTable()
    await put(table, 'calls', {}, [[0, 7n]])
    await put(table, 'ok', {}, [
      [0, true],
      [1, false],
    ])
    await put(table, 'note', {}, [
      [0, 'a'],
      [2, 'b'],
    ])
    const [answer] = await read({ ...table, ...minutes(3), step: '1m' })
    expect([answer!.names, answer!.rows]).toEqual([
      ['calls', 'note', 'ok'],
      [
        [0, 7, Number.NaN, 1],
        [1, Number.NaN, Number.NaN, 0],
      ],
    ])
    expect(await read({ ...table, ...minutes(3), step: '1m', columns: ['note'] })).toEqual([])
  })

  test('a sample within the millisecond of a step is at the step; of several the latest', async () => {
    const table = await newTable()
    const base = BigInt(T) * 1_000_000n
    const times = [base + 1n, base + 999_999n, base + 1_000_000n, base + 60_000_000_000n + 5n]
    const time = sliceColumn('time', times, 'time')
    await engine.write(table, new Frame({ columns: [sliceColumn('cpu', [1, 2, 3, 4], 'float64')], indices: [time] }))
    const [answer] = await read({ ...table, ...minutes(2), step: '1m' })
    expect(answer!.rows).toEqual([
      [0, 2],
      [1, 4],
    ])
  })

  test('the sample before the start counts as the previous one, also in an earlier partition', async () => {
    const table = await newTable()
    const boundary = Math.ceil(T / partitionMs) * partitionMs
    const minuteOf = (timeMs: number) => (timeMs - T) / minuteMs
    await put(table, 'cpu', {}, [
      [minuteOf(boundary) - 3, 1],
      [minuteOf(boundary) + 5, 2],
    ])
    const query = `select prev_val(cpu, '5m') from '${table.table}'`
    const bounds = { start: String(boundary), end: String(boundary + 10 * minuteMs) }
    const [answer] = await read({ ...table, ...bounds, step: '1m', query })
    expect(answer!.rows.map(([minute, value]) => [(minute! as number) - minuteOf(boundary), value])).toEqual([
      [0, 1],
      [1, 1],
      [2, 1],
      [5, 2],
    ])
  })

  test('a stored NaN is a value; a line with one at an end is NaN', async () => {
    const table = await newTable()
    await put(table, 'cpu', {}, [
      [0, 1],
      [2, Number.NaN],
      [4, 3],
    ])
    const [answer] = await read({
      ...table,
      ...minutes(4),
      step: '1m',
      query: `select linear(cpu) from '${table.table}'`,
    })
    expect(answer!.rows).toEqual([
      [0, 1],
      [1, Number.NaN],
      [2, Number.NaN],
      [3, Number.NaN],
      [4, 3],
    ])
  })

  test('a long range with a small step costs only the steps that have values', async () => {
    const table = await newTable()
    await put(table, 'cpu', {}, [
      [0, 1],
      [5 * 365 * 24 * 60, 2],
    ])
    const [answer] = await read({ ...table, start: String(T), end: String(T + 5 * 365 * dayMs), step: '1s' })
    expect(answer!.rows).toEqual([[0, 1], ...[2, 1, 0].map((seconds) => [5 * 365 * 24 * 60 - seconds / 60, 2])])
  })
})

describe('functions across series', () => {
  async function two(): Promise<Table> {
    const table = await newTable()
    await put(table, 'cpu', { host: 'a', os: 'linux' }, [
      [0, 10],
      [1, 1],
      [2, 20],
      [3, 1],
      [4, 30],
    ])
    await put(table, 'cpu', { host: 'b', os: 'linux' }, [
      [0, 20],
      [1, 1],
      [2, 30],
      [3, 1],
      [4, 40],
    ])
    return table
  }

  test('they take one value of each series at each step, and make one frame without labels', async () => {
    const table = await two()
    const aggregators = 'sum_all,min_all,avg_all'
    expect(await read({ ...table, ...minutes(5), step: '2m', aggregators })).toEqual([
      {
        labels: {},
        names: ['sum(cpu)', 'min(cpu)', 'avg(cpu)'],
        rows: [
          [0, 30, 10, 15],
          [2, 50, 20, 25],
          [4, 70, 30, 35],
        ],
      },
    ])
  })

  test('prev_val with a tolerance leaves out what is too far away', async () => {
    const table = await newTable()
    await put(table, 'cpu', { host: 'a' }, [
      [0, 10],
      [1, 20],
      [10, 30],
    ])
    await put(table, 'cpu', { host: 'b' }, [
      [0, 20],
      [5, 30],
      [10, 40],
    ])
    const query = `select sum_all(prev_val(cpu, '1m')) from '${table.table}'`
    const [answer] = await read({ ...table, ...minutes(10), step: '5m', query })
    expect([answer!.names, answer!.rows]).toEqual([
      ['sum(cpu)'],
      [
        [0, 30],
        [5, 30],
        [10, 70],
      ],
    ])
  })

  test('all of them, of one and of two series', async () => {
    const table = await two()
    await put(table, 'cpu', { host: 'c', os: 'mac' }, [[2, 5]])
    const names = ['count', 'sum', 'sqr', 'min', 'max', 'last', 'avg', 'stdvar', 'stddev', 'rate']
    const request = { ...table, ...minutes(2), step: '2m', aggregators: names.map((name) => `${name}_all`).join() }
    const [all] = await read(request)
    expect(all!.names).toEqual(names.map((name) => `${name}(cpu)`))
    expect(all!.rows[0]).toEqual([
      0,
      3,
      35,
      525,
      5,
      20,
      5,
      35 / 3,
      expect.closeTo(175 / 3),
      expect.closeTo(Math.sqrt(175 / 3)),
      Number.NaN,
    ])
    expect(all!.rows[1]!.slice(0, 3)).toEqual([2, 3, 55])
    const grouped = await read({ ...request, groupBy: 'os', aggregators: 'count_all,last_all,rate_all,stdvar_all' })
    expect(grouped).toEqual([
      {
        labels: { os: 'linux' },
        names: ['count(cpu)', 'last(cpu)', 'rate(cpu)', 'stdvar(cpu)'],
        rows: [
          [0, 2, 20, Number.NaN, 50],
          [2, 2, 30, 10 / 120, 50],
        ],
      },
      {
        labels: { os: 'mac' },
        names: ['count(cpu)', 'last(cpu)', 'rate(cpu)', 'stdvar(cpu)'],
        rows: [
          [0, 1, 5, Number.NaN, Number.NaN],
          [2, 1, 5, 0, Number.NaN],
        ],
      },
    ])
  })

  test('without a step: at the start and at the end; non-SQL takes samples of just that time, SQL the next one', async () => {
    const table = await two()
    const request = {
      ...table,
      start: String(T + 30_000),
      end: String(T + 4 * minuteMs),
      aggregators: 'count_all,sum_all',
    }
    expect((await read(request))[0]!.rows).toEqual([[4, 2, 70]])
    const query = `select count_all(cpu), sum_all(cpu) as total from '${table.table}'`
    const [answer] = await read({ ...request, query })
    expect([answer!.names, answer!.rows]).toEqual([
      ['count(cpu)', 'total'],
      [
        [0.5, 2, 2],
        [4, 2, 70],
      ],
    ])
  })

  test('several metrics, also one that only some series have, and text', async () => {
    const table = await two()
    await put(table, 'disk', { host: 'a', os: 'linux' }, [[2, 7n]])
    await put(table, 'note', { host: 'b', os: 'linux' }, [[2, 'text']])
    const [answer] = await read({
      ...table,
      ...minutes(4),
      step: '2m',
      query: `select max_all(*) from '${table.table}'`,
    })
    expect([answer!.names, answer!.rows]).toEqual([
      ['max(cpu)', 'max(disk)', 'max(note)'],
      [
        [0, 20, 7, Number.NaN],
        [2, 30, 7, Number.NaN],
        [4, 40, Number.NaN, Number.NaN],
      ],
    ])
    const [named] = await read({
      ...table,
      ...minutes(4),
      step: '2m',
      aggregators: 'max_all',
      columns: ['disk,nosuch'],
    })
    expect([named!.names, named!.rows]).toEqual([
      ['max(disk)', 'max(nosuch)'],
      [
        [0, 7, Number.NaN],
        [2, 7, Number.NaN],
      ],
    ])
  })

  test('aggregation_window changes no value', async () => {
    const table = await two()
    const request = { ...table, ...minutes(5), step: '2m', aggregators: 'sum_all' }
    expect(await read({ ...request, aggregationWindow: '1h' })).toEqual(await read(request))
  })

  test.for([
    ['sum,sum_all', 'can not aggregate both over time and across series aggregates'],
    ['sum_all,max', 'can not aggregate both over time and across series aggregates'],
    ['sum_all,', 'can not aggregate both over time and across series aggregates: a raw column'],
    ['sum_all,max_all,sum_all', "function 'sum_all' was requested multiple time"],
    ['sum,sum', "function 'sum' was requested multiple time"],
    [',', "function '' was requested multiple time"],
    ['first_all', 'invalid aggragate type: first_all'],
    ['_all', 'invalid aggragate type: _all'],
    ['toString_all', 'invalid aggragate type: toString_all'],
    ['constructor', 'invalid aggragate type: constructor'],
    ['SUM_all', 'invalid aggragate type: SUM_all'],
    ['*', 'cannot aggregate *'],
  ] as const)('aggregators %s: %s', async ([aggregators, text]) => {
    const table = await two()
    await expect(read({ ...table, aggregators, step: '1m' })).rejects.toThrow(text)
  })
})

describe('a raw column beside functions', () => {
  async function five(): Promise<Table> {
    const table = await newTable()
    await put(table, 'cpu', { os: 'linux' }, [
      [0, 1],
      [1, 2],
      [3, 4],
      [9, 8],
    ])
    return table
  }

  test('it is sampled at the times of the buckets; buckets without samples have no row', async () => {
    const table = await five()
    const query = `select cpu, sum(cpu) as total, count(cpu) from '${table.table}'`
    const [answer] = await read({ ...table, ...minutes(10), step: '2m', query })
    expect([answer!.names, answer!.rows]).toEqual([
      ['cpu', 'total', 'count(cpu)'],
      [
        [0, 1, 3, 2],
        [2, 4, 4, 1],
        [8, 8, 8, 1],
      ],
    ])
    const linear = `select linear(cpu, '1m'), last(cpu) from '${table.table}'`
    expect((await read({ ...table, ...minutes(10), step: '2m', query: linear }))[0]!.rows).toEqual([
      [0, 1, 2],
      [2, 3, 4],
      [8, Number.NaN, 8],
    ])
  })

  test('an empty entry among the aggregators asks for it', async () => {
    const table = await five()
    const [answer] = await read({ ...table, ...minutes(10), step: '2m', aggregators: 'sum,' })
    expect([answer!.names, answer!.rows]).toEqual([
      ['sum(cpu)', 'cpu'],
      [
        [0, 3, 1],
        [2, 4, 4],
        [8, 8, 8],
      ],
    ])
  })

  test('functions of one metric, the samples of another, all metrics', async () => {
    const table = await five()
    await put(table, 'disk', { os: 'linux' }, [[5, 50]])
    const query = `select max(cpu), disk from '${table.table}'`
    expect((await read({ ...table, ...minutes(10), step: '2m', query }))[0]!.rows).toEqual([
      [0, 2, 50],
      [2, 4, 50],
      [4, Number.NaN, 50],
      [8, 8, Number.NaN],
    ])
    const all = await read({ ...table, ...minutes(1), step: '1m', query: `select sum(cpu), * from '${table.table}'` })
    expect(all[0]!.names).toEqual(['sum(cpu)', 'cpu', 'disk'])
  })

  test('windows that look back keep their own samples', async () => {
    const table = await five()
    const query = `select cpu, sum(cpu) from '${table.table}'`
    const [answer] = await read({ ...table, ...minutes(4), step: '2m', aggregationWindow: '4m', query })
    expect(answer!.rows).toEqual([
      [0, 1, 1],
      [2, 4, 3],
      [4, Number.NaN, 7],
    ])
  })
})

describe('what is refused', () => {
  test('a step below a second is no duration; too many step points are refused before they are made', async () => {
    const table = await newTable()
    await put(table, 'cpu', {}, [
      [0, 1],
      [10 * 365 * 24 * 60, 2],
    ])
    const range = { start: String(T), end: String(T + 10 * 365 * dayMs) }
    for (const step of ['1ns', '1ms', '0.5s'])
      await expect(read({ ...table, ...range, step })).rejects.toThrow('invalid duration')
    await expect(read({ ...table, ...range, step: '1s' })).rejects.toThrow('use a longer step')
    await expect(read({ ...table, ...range, step: '1s', aggregators: 'sum_all' })).rejects.toThrow('use a longer step')
    const [answer] = await read({ ...table, ...range, step: '1s', aggregators: 'sum' })
    expect(answer!.rows).toHaveLength(2)
  })

  test('ten thousand columns are answered', async () => {
    const table = await newTable()
    await put(table, 'cpu', {}, [[0, 1]])
    const columns = ['cpu', ...Array.from({ length: 9999 }, (_, i) => `nosuch${i}`)]
    const [answer] = await read({ ...table, ...minutes(1), step: '1m', columns })
    expect(answer!.names).toHaveLength(10_000)
    expect(answer!.rows[0]![1]).toBe(1)
  })
})

// ---- random tables against a plain model -------------------------------------------------------------------------------

type Method = 'next_val' | 'prev_val' | 'linear' | 'nan' | 'none'

interface Sample {
  readonly timeMs: number
  readonly value: number
}

/** The value of a series at a step, by the rules as they are written down; undefined: none. */
function valueAt(samples: readonly Sample[], stepMs: number, method: Method, toleranceMs: number): number | undefined {
  const exact = samples.findLast(({ timeMs }) => timeMs === stepMs)
  if (exact !== undefined) return exact.value
  const previous = samples.findLast(({ timeMs }) => timeMs < stepMs)
  const next = samples.find(({ timeMs }) => timeMs > stepMs)
  if (next === undefined) return undefined
  switch (method) {
    case 'none':
      return next.value
    case 'nan':
      return Number.NaN
    case 'next_val':
      return next.timeMs - stepMs <= toleranceMs ? next.value : undefined
    case 'prev_val':
      return previous !== undefined && stepMs - previous.timeMs <= toleranceMs ? previous.value : undefined
    case 'linear': {
      if (previous === undefined || stepMs - previous.timeMs > toleranceMs || next.timeMs - stepMs > toleranceMs)
        return undefined
      const share = (stepMs - previous.timeMs) / (next.timeMs - previous.timeMs)
      return previous.value + (next.value - previous.value) * share
    }
  }
}

function samplesOf(model: TsdbModel, text: string, metric: string, endMs: number): Sample[] {
  return model
    .samples(text, metric, 0, endMs)
    .filter(({ cell }) => typeof cell !== 'string')
    .map(({ timeNs, cell }) => ({ timeMs: Number(timeNs / 1_000_000n), value: Number(cell) }))
}

/** Where the range begins and ends, moved to the partitions that have samples; null: nowhere. */
function clamped(model: TsdbModel, startMs: number, endMs: number): [number, number] | null {
  const partitions: number[] = []
  for (const metrics of model.sets.values())
    for (const { samples } of metrics.values())
      for (const timeNs of samples.keys()) partitions.push(Math.floor(Number(timeNs / 1_000_000n) / partitionMs))
  const inRange = partitions.filter(
    (partition) => partition >= Math.floor(startMs / partitionMs) && partition <= Math.floor(endMs / partitionMs),
  )
  if (inRange.length === 0) return null
  return [
    Math.max(startMs, Math.min(...inRange) * partitionMs),
    Math.min(endMs, (Math.max(...inRange) + 1) * partitionMs - 1),
  ]
}

interface ModelRead {
  readonly startMs: number
  readonly endMs: number
  readonly stepMs: number
  readonly method: Method
  readonly toleranceMs: number
  readonly kind: 'downsample' | 'across' | 'mixed'
  readonly groupBy: string | null
}

const metricNames = ['cpu', 'disk', 'flag', 'load', 'note']
const acrossFunctions = ['count', 'sum', 'min', 'max', 'last', 'avg', 'stdvar'] as const

function acrossOf(values: readonly number[]): number[] {
  const n = values.length
  const sum = values.reduce((a, b) => a + b, 0)
  const mean = sum / n
  const extreme = (pick: (a: number, b: number) => number) =>
    values.some(Number.isNaN) ? Number.NaN : values.reduce((a, b) => pick(a, b))
  const variance = n < 2 ? Number.NaN : values.reduce((a, b) => a + (b - mean) ** 2, 0) / (n - 1)
  return [n, sum, extreme(Math.min), extreme(Math.max), values[n - 1]!, mean, variance]
}

/** `group/column/step time` → value; only cells that are there. */
function modelAnswer(model: TsdbModel, request: ModelRead): Map<string, { value: number; scale: number }> {
  const wanted = new Map<string, { value: number; scale: number }>()
  const bounds = clamped(model, request.startMs, request.endMs)
  if (bounds === null) return wanted
  const [from, to] = bounds
  const { stepMs, method, toleranceMs, kind, groupBy } = request
  const groups = new Map<string, string[]>()
  for (const text of [...model.sets.keys()].sort()) {
    const group =
      kind !== 'across'
        ? text
        : groupBy === null
          ? ''
          : text.split(',').find((label) => label.startsWith(`${groupBy}=`))!
    groups.set(group, [...(groups.get(group) ?? []), text])
  }
  for (const [group, texts] of groups) {
    for (const metric of metricNames) {
      const series = texts
        .filter((text) => model.sets.get(text)!.has(metric))
        .map((text) => samplesOf(model, text, metric, to))
      for (let timeMs = from; timeMs <= to; timeMs += stepMs) {
        const values = series
          .map((samples) => valueAt(samples, timeMs, method, toleranceMs))
          .filter((value) => value !== undefined)
        if (values.length === 0) continue
        const scale = Math.max(1, ...values.filter(Number.isFinite).map(Math.abs)) * values.length
        if (kind === 'across') {
          acrossOf(values).forEach((value, i) => {
            const fn = acrossFunctions[i]!
            wanted.set(`${group}/${fn}(${metric})/${timeMs}`, { value, scale: fn === 'stdvar' ? scale ** 2 : scale })
          })
        } else {
          // Beside functions, only buckets that have samples have a row.
          const hasRow =
            kind === 'downsample' ||
            texts.some((text) =>
              [...model.sets.get(text)!.keys()].some(
                (name) => model.samples(text, name, timeMs, Math.min(to, timeMs + stepMs - 1)).length > 0,
              ),
            )
          if (hasRow) wanted.set(`${group}/${metric}/${timeMs}`, { value: values[0]!, scale })
        }
      }
    }
  }
  return wanted
}

async function check(table: Table, model: TsdbModel, request: ModelRead, limit: bigint, where: string): Promise<void> {
  const { startMs, endMs, stepMs, method, toleranceMs, kind, groupBy } = request
  const sources = metricNames.map((metric) => `${method}(${metric}, '${toleranceMs / 1000}s')`)
  const columns =
    kind === 'across'
      ? sources.flatMap((source) => acrossFunctions.map((fn) => `${fn}_all(${source})`))
      : kind === 'mixed'
        ? [...sources, ...metricNames.map((metric) => `count(${metric})`)]
        : sources
  const fields: ReadRequest = {
    ...table,
    start: String(startMs),
    end: String(endMs),
    step: `${stepMs / 1000}s`,
    query: `select ${columns.join()} from '${table.table}' ${groupBy === null ? '' : `group by ${groupBy}`}`,
    limit,
  }
  const wanted = modelAnswer(model, request)
  const seen = new Set<string>()
  let marker = ''
  do {
    const page: ReadRequest = { ...fields, marker }
    marker = ''
    let rowCount = 0n
    for await (const frame of engine.read(page)) {
      const { next_marker, ...labels } = Object.fromEntries(frame.labels) as Record<string, string>
      marker = next_marker ?? ''
      const times = frame.indices[0]!.times()
      rowCount += BigInt(times.length)
      for (const name of frame.names) {
        if (name in labels || (kind === 'mixed' && name.startsWith('count('))) continue
        const values = frame.column(name).floats()
        times.forEach((timeNs, row) => {
          const key = `${labelText(labels)}/${name}/${timeNs / 1_000_000n}`
          const want = wanted.get(key)
          const got = values[row]!
          if (want === undefined) expect(got, `${where}: ${key} has no value`).toBeNaN()
          else {
            expect(seen.has(key), `${where}: ${key} comes once`).toBe(false)
            seen.add(key)
            const isClose =
              Object.is(got, want.value) ||
              got === want.value ||
              want.scale > 1e150 ||
              Math.abs(got - want.value) <= 1e-11 * want.scale
            if (!isClose) expect(got, `${where}: ${key}`).toBe(want.value)
          }
        })
      }
    }
    if (limit > 0n) expect(rowCount <= limit, `${where}: the limit`).toBe(true)
  } while (marker !== '')
  expect(seen.size, `${where}: values`).toBe(wanted.size)
}

test('random tables at random steps answer as the model does', { timeout: 600_000 }, async () => {
  const random = new SeededRandom(seed)
  const timeMsMax = 5 * partitionMs
  const table = await newTable()
  const model = new TsdbModel(true)
  for (let step = 0; step < 40 * Number(process.env['ROUNDS'] ?? 1); step++) {
    const frame = randomFrame(random, {
      rowCount: random.pick([1, 5, 50, 300]),
      timeMsMax,
      gridMs: random.pick([1, 1000, 60_000, 1_800_000]),
    })
    const labelled = {
      ...frame,
      frameLabels: { host: random.pick(['a', 'b', 'c']) },
      indexLabels: [{ name: 'os', texts: frame.timesNs.map(() => random.pick(['linux', 'mac'])) }],
    }
    await engine.write(table, toFrame(labelled))
    model.write(labelled)
    const [a, b] = [random.integer(0, timeMsMax), random.integer(0, timeMsMax)]
    const isShort = random.chance(0.3)
    const startMs = Math.min(a, b)
    // Many steps in a short range, in more than one chunk; or few over all.
    const stepMs = isShort ? 1000 : random.pick([3600, 7200, 86_400, 100_000]) * 1000
    const kind = random.pick(['downsample', 'across', 'mixed'] as const)
    await check(
      table,
      model,
      {
        startMs: !isShort && random.chance(0.3) ? 0 : startMs,
        endMs: isShort ? startMs + random.integer(1, 6_000_000) : Math.max(a, b),
        stepMs,
        method: random.pick(['next_val', 'prev_val', 'linear', 'nan', 'none']),
        toleranceMs: random.pick([0, 1000, stepMs, 2 * stepMs, 7_200_000, 30 * dayMs]),
        kind,
        groupBy: kind === 'across' ? random.pick([null, 'host', 'os']) : null,
      },
      random.pick([0n, 0n, 0n, 50n]),
      `step ${step}`,
    )
  }
})
