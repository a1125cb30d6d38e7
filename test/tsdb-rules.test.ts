// Time series at the edges of their rules: values that are no plain numbers, sums and variances beside exact arithmetic,
// borders of pages and partitions, times and filters in all their forms, names that clash, and requests that ask for too much.
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { readColumnCountMax } from '../dist/engine/limits.js'
import { type Engine, Frame, openEngine, type ReadRequest, sliceColumn } from '../dist/engine/index.js'
import { labelText } from './tsdb-model.js'

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

const typeNames = { bigint: 'int64', number: 'float64', boolean: 'bool', string: 'string' } as const

/** Writes one metric: rows of time (ms) and value. */
async function put(table: Table, metric: string, labels: Labels, rows: readonly (readonly [number, Cell])[]) {
  const times = rows.map(([timeMs]) => BigInt(timeMs) * 1_000_000n)
  const type = typeNames[typeof rows[0]![1] as keyof typeof typeNames]
  await engine.write(
    table,
    new Frame({
      columns: [sliceColumn(metric, rows.map(([, cell]) => cell) as number[], type)],
      indices: [sliceColumn('when', times, 'time')],
      labels,
    }),
  )
}

interface Answer {
  readonly labels: Labels
  readonly names: readonly string[]
  /** Time in ms after T, then the value cells. */
  readonly rows: readonly (readonly Cell[])[]
}

async function read(request: ReadRequest): Promise<Answer[]> {
  const answers: Answer[] = []
  for await (const frame of engine.read(request)) {
    const labels = Object.fromEntries(frame.labels) as Record<string, string>
    const names = frame.names.filter((name) => !(name in labels))
    const cells = names.map((name) => frame.column(name).values() as readonly Cell[])
    const rows = [...frame.indices[0]!.times()].map((timeNs, row) => [
      Number(timeNs / 1_000_000n) - T,
      ...cells.map((column) => column[row]!),
    ])
    const before = answers.at(-1)
    if (before !== undefined && labelText(before.labels) === labelText(labels))
      answers[answers.length - 1] = { labels, names, rows: [...before.rows, ...rows] }
    else answers.push({ labels, names, rows })
  }
  return answers
}

const range = (startMs: number, endMs: number) => ({ start: String(startMs), end: String(endMs) })

describe('values that are no plain numbers', () => {
  test.for<[string, number[], Record<string, number>]>([
    ['a NaN', [1, NaN, 3], { count: 3, sum: NaN, sqr: NaN, min: NaN, max: NaN, avg: NaN, last: 3, stdvar: NaN }],
    ['a NaN at the end', [1, NaN], { count: 2, sum: NaN, min: NaN, max: NaN, last: NaN, stddev: NaN }],
    ['an infinity', [Infinity, 5], { count: 2, sum: Infinity, sqr: Infinity, min: 5, max: Infinity, last: 5 }],
    ['both infinities', [Infinity, -Infinity], { sum: NaN, min: -Infinity, max: Infinity, avg: NaN, last: -Infinity }],
    ['both zeros', [0, -0], { count: 2, sum: 0, min: -0, max: 0, last: -0, stdvar: 0 }],
    ['an overflow', [1e308, 1e308], { sum: Infinity, min: 1e308, max: 1e308, sqr: Infinity }],
    [
      'one sample',
      [7],
      { count: 1, sum: 7, sqr: 49, min: 7, max: 7, last: 7, avg: 7, stdvar: NaN, stddev: NaN, rate: NaN },
    ],
  ])('%s', async ([, values, wanted]) => {
    const table = await newTable()
    const rows = values.map((value, i) => [T + i, value] as const)
    await put(table, 'cpu', { os: 'linux' }, rows)
    for (const more of [{}, { groupBy: 'os' }, { aggregationWindow: '1m', start: String(T + minuteMs - 1) }]) {
      const request = {
        ...table,
        ...range(T, T + minuteMs),
        step: '1h',
        aggregators: Object.keys(wanted).join(),
        ...more,
      }
      const [answer] = await read(request)
      expect(answer!.rows[0]!.slice(1), JSON.stringify(more)).toEqual(Object.values(wanted))
    }
  })

  test('a bucket where only text has samples has a row, in which it is counted and nothing else', async () => {
    const table = await newTable()
    await put(table, 'note', {}, [[T, 'a']])
    await put(table, 'cpu', {}, [[T + minuteMs, 1]])
    const functions = 'count,sum,sqr,min,max,last,avg,stdvar,stddev,rate'
    const [answer] = await read({
      ...table,
      ...range(T, T + minuteMs),
      step: '1m',
      aggregators: functions,
      columns: ['note'],
    })
    expect(answer!.rows).toEqual([[0, 1, ...Array.from({ length: 9 }, () => NaN)]])
  })

  test('without a step, a sample just at the end has a bucket of its own', async () => {
    const table = await newTable()
    await put(table, 'cpu', {}, [
      [T, 1],
      [T + 1, 2],
      [T + minuteMs, 3],
    ])
    expect((await read({ ...table, ...range(T, T + minuteMs), aggregators: 'sum' }))[0]!.rows).toEqual([
      [0, 3],
      [minuteMs, 3],
    ])
    expect((await read({ ...table, ...range(T + 1, T + 1), aggregators: 'sum,count' }))[0]!.rows).toEqual([[1, 2, 1]])
  })
})

/** Sample variance of doubles that are multiples of 2^-40, by whole numbers. */
function exactVariance(values: readonly number[]): number {
  const scaled = values.map((value) => BigInt(Math.trunc(value)) * 2n ** 40n + BigInt((value % 1) * 2 ** 40))
  const count = BigInt(scaled.length)
  const sum = scaled.reduce((a, b) => a + b, 0n)
  const squares = scaled.reduce((a, b) => a + b * b, 0n)
  const numerator = count * squares - sum * sum
  const denominator = count * (count - 1n) * 2n ** 80n
  return Number((numerator * 10n ** 24n) / denominator) / 1e24
}

describe('arithmetic', () => {
  /** Digits are lost only where means of parts are joined: by as much as a mean of 1e9 can be told (1.2e-7). */
  test.for([0, 1e9, -1e9])('a variance of about 1 about %d is that of exact arithmetic', async (offset) => {
    for (const rowCount of [2, 3, 9, 100, 9000]) {
      const table = await newTable()
      const values = Array.from(
        { length: rowCount },
        (_, i) => offset + Math.round(Math.sin(i * 7.3) * 2 ** 20) / 2 ** 20,
      )
      const rows = values.map((value, i) => [T + i * 1000, value] as const)
      await put(table, 'cpu', { os: 'linux', part: 'a' }, rows.slice(0, rowCount >> 1))
      await put(table, 'cpu', { os: 'linux', part: 'b' }, rows.slice(rowCount >> 1))
      const wanted = exactVariance(values)
      const request = { ...table, ...range(T, T + rowCount * 1000), aggregators: 'stdvar,stddev', groupBy: 'os' }
      const [, variance, deviation] = (await read(request))[0]!.rows[0]! as number[]
      const tolerance = offset === 0 ? 1e-12 : 1e-7
      expect(Math.abs(variance! / wanted - 1), `${rowCount} rows`).toBeLessThan(tolerance)
      expect(Math.abs(deviation! / Math.sqrt(wanted) - 1), `${rowCount} rows`).toBeLessThan(tolerance)
    }
  })

  test('whole numbers beyond 2^53 are exact as samples and as bounds of WHERE, and rounded once in a sum', async () => {
    const table = await newTable()
    const first = 2n ** 53n + 1n
    const rows = Array.from({ length: 5000 }, (_, i) => [T + i, first + BigInt(i)] as const)
    await put(table, 'total', {}, rows)
    const request = { ...table, ...range(T, T + hourMs) }
    expect((await read(request))[0]!.rows).toEqual(rows.map(([timeMs, value]) => [timeMs - T, value]))
    const query = `select total from '${table.table}' where total > ${first + 4997n}`
    expect((await read({ ...request, query }))[0]!.rows).toEqual([
      [4998, first + 4998n],
      [4999, first + 4999n],
    ])
    const exact = Number(rows.reduce((sum, [, value]) => sum + value, 0n))
    const [, sum, last] = (await read({ ...request, aggregators: 'sum,last' }))[0]!.rows[0]! as number[]
    expect(Math.abs(sum! / exact - 1)).toBeLessThan(1e-12)
    expect(last).toBe(Number(first + 4999n))
  })

  test('a rate is a plain difference: of counters that begin again it is negative, and gaps are bridged', async () => {
    const table = await newTable()
    await put(table, 'requests', {}, [
      [T, 100],
      [T + minuteMs, 200],
      [T + 2 * minuteMs, 5],
      [T + 7 * minuteMs, 305],
    ])
    const request = { ...table, ...range(T, T + 10 * minuteMs), aggregators: 'rate' }
    expect((await read({ ...request, step: '1m' }))[0]!.rows).toEqual([
      [0, NaN],
      [minuteMs, 100 / 60],
      [2 * minuteMs, -195 / 60],
      [7 * minuteMs, 1],
    ])
    expect((await read({ ...request, step: '90s' }))[0]!.rows).toEqual([
      [0, NaN],
      [90_000, -195 / 90],
      [360_000, 300 / 270],
    ])
  })
})

describe('borders', () => {
  /** One sample every 20 s from a day before a partition's border to a day behind it: three pages, two partitions. */
  const border = Math.ceil(T / partitionMs) * partitionMs
  const values = Array.from({ length: 8640 }, (_, i) => (i * 7919) % 1000)
  const timeOf = (row: number) => border - dayMs + row * 20_000
  let table: Table

  beforeAll(async () => {
    table = await newTable()
    // The second half first: pages and blocks overlap.
    const rows = values.map((value, i) => [timeOf(i), value] as const)
    await put(table, 'cpu', {}, rows.slice(4000))
    await put(table, 'cpu', {}, rows.slice(0, 5000))
  })

  test.for([
    ['7m', ''],
    ['1000s', ''],
    ['7m', '5m'],
    ['7m', '7m'],
    ['7m', '16m'],
    ['1000s', '40000s'],
  ])('steps of %s and windows of %s that divide nothing hold their samples', async ([step, window]) => {
    const unitMs = { m: minuteMs, s: 1000 } as Record<string, number>
    const lengthOf = (text: string) => (text === '' ? 0 : Number(text.slice(0, -1)) * unitMs[text.at(-1)!]!)
    const [stepMs, windowMs] = [lengthOf(step!), lengthOf(window!)]
    const [startMs, endMs] = [border - 5 * hourMs - 777, border + 9 * hourMs + 333]
    const wanted: number[][] = []
    for (let at = startMs; at <= endMs; at += stepMs) {
      const held = values.filter((_, row) => {
        const timeMs = timeOf(row)
        if (windowMs === 0) return timeMs >= at && timeMs < at + stepMs && timeMs <= endMs
        return timeMs <= at && (windowMs === stepMs ? timeMs > at - windowMs : timeMs >= at - windowMs)
      })
      const sum = held.reduce((a, b) => a + b, 0)
      if (held.length > 0) wanted.push([at - T, held.length, sum, Math.min(...held), Math.max(...held), held.at(-1)!])
    }
    const request = { ...table, ...range(startMs, endMs), step: step!, aggregationWindow: window! }
    const [answer] = await read({ ...request, aggregators: 'count,sum,min,max,last' })
    expect(answer!.rows).toEqual(wanted)
  })

  test('a window longer than all times there are holds all samples before its end', async () => {
    const request = { ...table, ...range(timeOf(0), timeOf(8639)), step: '104249991d', aggregators: 'count,last' }
    const [answer] = await read({ ...request, aggregationWindow: '104249991d' })
    expect(answer!.rows).toEqual([[timeOf(0) - T, 1, values[0]]])
    const atEnd = { ...request, ...range(timeOf(8639), timeOf(8639)) }
    const [whole] = await read({ ...atEnd, aggregationWindow: '3000000d' })
    expect(whole!.rows).toEqual([[timeOf(8639) - T, 8640, values[8639]]])
  })
})

describe('start and end', () => {
  test.for([
    [undefined, undefined, [1]],
    ['', '', [1]],
    ['now-1h', 'now', [1]],
    ['now-2h', '', [2, 1]],
    ['now-120m', 'now-3600s', [2]],
    ['now-1', 'now+1h', [1, 3]],
    ['now-', 'now+1d', [3]],
    ['', 'now-1h', [2]],
    ['0', 'now', [2, 1]],
    ['+0', 'now', [2, 1]],
    ['-1000', 'now', [2, 1]],
    ['-9223372036854775808', '9223372036854775807', [2, 1, 3]],
    ['1970-01-01T00:00:00Z', '2200-01-01T00:00:00.123456789+14:00', [2, 1, 3]],
    ['1969-12-31T23:59:59.999-23:59', 'now', [2, 1]],
  ] as const)('from %s to %s', async ([start, end, wanted]) => {
    const nowMs = Date.now()
    const table = await newTable()
    await put(table, 'cpu', {}, [
      [nowMs - 30 * minuteMs, 1],
      [nowMs - 90 * minuteMs, 2],
      [nowMs + 30 * minuteMs, 3],
    ])
    const bounds = { ...(start === undefined ? {} : { start }), ...(end === undefined ? {} : { end }) }
    const answers = await read({ ...table, ...bounds })
    expect(answers.flatMap(({ rows }) => rows.map(([, value]) => value))).toEqual(wanted)
  })
})

describe('filters', () => {
  let table: Table

  beforeAll(async () => {
    table = await newTable()
    for (const [node, os] of [
      ['1', 'linux'],
      ['2', 'linux'],
      ['3', 'mac'],
      ['10', null],
    ] as const) {
      const labels: Record<string, string> = os === null ? { node } : { node, os }
      await put(table, 'cpu', labels, [[T, 1]])
      if (node !== '3') await put(table, 'mem', labels, [[T, 1]])
    }
  })

  test.for([
    ["node == '1'", 'cpu1 mem1'],
    ['node == 1', ''],
    ["node IN('1', '3')", 'cpu1 mem1 cpu3'],
    ["node not in ('1','2')", 'cpu10 mem10 cpu3'],
    ["os != 'linux'", 'cpu3'],
    ["NOT (os == 'linux')", 'cpu10 mem10 cpu3'],
    ['not exists(os) or exists(nosuch)', 'cpu10 mem10'],
    ["_name == 'mem' and exists(os)", 'mem1 mem2'],
    ["__name__ in ('mem') or os == 'mac'", 'mem1 mem10 mem2 cpu3'],
    ["starts(_name, 'c') and ends(os, 'c')", 'cpu3'],
    ["contains(os, 'inu') and node < '2'", 'cpu1 mem1'],
    ["length(os) == 3 and find(os, 'ac') == 1", 'cpu3'],
    ['to_int(node) * 2 == 20', 'cpu10 mem10'],
    ["node + os == '1linux'", 'cpu1 mem1'],
    ["if_else(exists(os), os, 'none') == 'none'", 'cpu10 mem10'],
    ["if_not_exists(os, 'mac') == 'mac'", 'cpu10 mem10 cpu3'],
    ["regexp_instr(os, '^l.n') == 0 and (node == '2') == true", 'cpu2 mem2'],
    ["1/0 == 1 or node == '3'", 'cpu3'],
    ["node=='1'AND os=='linux'OR node IN('3')", 'cpu1 mem1 cpu3'],
    ['node == nosuch', ''],
    ['1==1', 'cpu1 mem1 cpu10 mem10 cpu2 mem2 cpu3'],
  ] as const)('%s', async ([filter, wanted]) => {
    const answers = await read({ ...table, ...range(T, T), filter })
    const found = answers.flatMap(({ labels, names }) => names.map((name) => `${name}${labels['node']}`))
    expect(found.join(' ')).toBe(wanted)
  })

  test('the same in a delete', async () => {
    const own = await newTable()
    for (const node of ['1', '2']) for (const metric of ['cpu', 'mem']) await put(own, metric, { node }, [[T, 1]])
    await engine.delete({ ...own, ...range(0, T), filter: "__name__ == 'mem' and node == '1' or starts(_name,'c')" })
    const kept = (await read({ ...own, ...range(T, T), aggregators: 'count' })).map(({ labels, rows }) => [
      labels,
      rows,
    ])
    expect(kept).toEqual([[{ node: '2' }, [[0, NaN, 1]]]])
  })
})

describe('names that clash', () => {
  let table: Table

  beforeAll(async () => {
    table = await newTable()
    await put(table, 'cpu', { app: 'web', os: 'linux' }, [[T, 1]])
  })

  const ask = (query: string) => read({ ...table, ...range(T, T + minuteMs), query })

  test.for([
    ['select cpu as app', 'app'],
    ['select max(cpu) as app, min(cpu)', 'app'],
    ['select max(cpu) as os group by os', 'os'],
    ['select cpu as time', 'time'],
    ['select cpu, max(cpu) as cpu', 'cpu'],
  ])('%s: the frame would have two columns of one name', async ([query, name]) => {
    await expect(ask(query!)).rejects.toThrow(`column name '${name}' appears more than once in select query`)
  })

  test('an alias may be the name of a label that the frame has not', async () => {
    expect(await ask('select max(cpu) as app group by os')).toEqual([
      { labels: { os: 'linux' }, names: ['app'], rows: [[0, 1]] },
    ])
    expect((await ask('select sum_all(cpu) as app'))[0]!.names).toEqual(['app'])
  })
})

describe('too much', () => {
  test('more columns than an answer has are refused, however they are asked for', async () => {
    const table = await newTable()
    await put(table, 'cpu', {}, [[T, 1]])
    const request = { ...table, ...range(T, T) }
    const text = `at most ${readColumnCountMax} value columns`
    const metrics = Array.from({ length: readColumnCountMax / 10 + 1 }, (_, i) => `m${i}`)
    const functions = 'count,sum,sqr,min,max,last,avg,rate,stddev,stdvar'
    await expect(read({ ...request, columns: metrics, aggregators: functions })).rejects.toThrow(text)
    const many = Array.from({ length: readColumnCountMax + 1 }, () => 'cpu')
    await expect(read({ ...request, columns: many })).rejects.toThrow(text)
  })

  test.for([
    ['filter', `${'('.repeat(10_000)}1==1${')'.repeat(10_000)}`, 'nested too deeply'],
    ['filter', `${'not '.repeat(10_000)}1==1`, 'nested too deeply'],
    ['query', `select cpu where ${'('.repeat(10_000)}cpu=1${')'.repeat(10_000)}`, 'nested too deeply'],
    ['query', `select cpu${', cpu'.repeat(10_000)}`, "column name 'cpu' appears more than once"],
    ['query', `select ${'max('.repeat(10_000)}cpu`, 'could not parse expr'],
  ] as const)('a %s nested or repeated ten thousand times is refused: %s', async ([field, text, error]) => {
    const table = await newTable()
    await expect(read({ ...table, [field]: text })).rejects.toThrow(error)
  })

  test.for([
    "'x'; drop table x",
    "'../../etc/passwd'",
    "'a' 'b' 'c'",
    '`t`.`u`; select cpu from t',
    "'\u0000'",
    "''''",
  ])('what FROM names is a path and nothing else: %s', async (from) => {
    const table = await newTable()
    await put(table, 'cpu', {}, [[T, 1]])
    await expect(read({ ...table, query: `select cpu from ${from}` })).rejects.toThrow()
    expect(await read({ ...table, ...range(T, T) })).toHaveLength(1)
  })
})
