// Reads in other formats than frames, through the engine and over HTTP: one body, whatever the frames it is made of.
import { type Table, tableFromIPC } from 'apache-arrow'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Engine, frameFromRows, openEngine, type ReadFormat, type ReadRequest } from '../dist/engine/index.js'
import { HeadUnion, widerDType } from '../dist/engine/frame/column-head.js'
import { readConfig } from '../dist/server/config.js'
import { openLog } from '../dist/server/log.js'
import { type RunningServer, startServer } from '../dist/server/start.js'

let engine: Engine
let server: RunningServer

const timeNs = (second: number) => 1_700_000_000_000_000_000n + BigInt(second) * 1_000_000_000n
const time = (second: number) => ({ timeNs: timeNs(second) })
const range = { backend: 'tsdb', table: 'mixed', start: '1700000000000', end: '1700000100000' }

beforeAll(async () => {
  engine = await openEngine({ memoryByteLength: 256 * 2 ** 20, workerCount: 2 })
  const loopback = { host: '127.0.0.1', port: 0 }
  const log = openLog('error')
  server = await startServer({ engine, config: readConfig(null), log, httpAddress: loopback, grpcAddress: loopback })
  await engine.create({ ...range, rate: '1/s' })
  // Label sets with other labels, other metrics, and one metric in other types.
  await engine.write(range, [
    frameFromRows(
      [
        { time: time(0), load: 1.5, users: 2n ** 53n + 1n },
        { time: time(1), load: null, users: 4n },
      ],
      ['time'],
      { host: 'ant' },
    ),
    frameFromRows([{ time: time(2), load: 7n, note: 'é' }], ['time'], { host: 'bee', region: 'eu' }),
    frameFromRows([{ time: time(3), users: true, up: true }], ['time'], { zone: 'z' }),
  ])
})
afterAll(() => server.stop())

async function body(request: ReadRequest, format: ReadFormat): Promise<Buffer> {
  const parts: Buffer[] = []
  for await (const part of engine.readEncoded(request, format)) parts.push(Buffer.from(part))
  return Buffer.concat(parts)
}

function plain(table: Table): Record<string, unknown>[] {
  const names = table.schema.names.map(String)
  const columns = table.schema.fields.map((_, i) => table.getChildAt(i))
  return Array.from({ length: table.numRows }, (_, row) => {
    const cells = names.map((name, i): [string, unknown] => [name, columns[i]?.get(row) ?? null])
    return Object.fromEntries(cells.filter(([name, cell]) => name !== 'time' && cell !== null))
  })
}

const asText = (table: Table): string[] =>
  plain(table).map((row) =>
    Object.entries(row)
      .map(([name, cell]) => `${name}=${cell}`)
      .join(' '),
  )

const mixedRows = [
  'load=1.5 users=9007199254740993 host=ant',
  'users=4 host=ant',
  'load=7 host=bee note=é region=eu',
  'users=1 up=true zone=z',
]

describe('an Arrow stream', () => {
  test('has the columns of all label sets, each in the type that holds all of its values', async () => {
    const table = tableFromIPC(await body(range, 'arrow'))
    expect(table.schema.fields.map(({ name, type }) => `${name}: ${type}`)).toEqual([
      'time: Timestamp<NANOSECOND, UTC>',
      'load: Float64',
      'users: Int64',
      'host: Utf8',
      'note: Utf8',
      'region: Utf8',
      'up: Bool',
      'zone: Utf8',
    ])
    expect(asText(table)).toEqual(mixedRows)
    const times = table.getChild('time')
    expect(Array.from({ length: 4 }, (_, row) => times?.data.flatMap((data) => [...data.values])[row])).toEqual(
      [0, 1, 2, 3].map(timeNs),
    )
  })

  test('marks index columns, also where a label set has no such label', async () => {
    const table = tableFromIPC(await body({ ...range, multiIndex: true }, 'arrow'))
    const indices = table.schema.fields.filter(({ metadata }) => metadata.get('framesd.role') === 'index')
    expect(indices.map(({ name }) => name)).toEqual(['time', 'host', 'region', 'zone'])
    expect(plain(table)[3]).toEqual({ zone: 'z', users: 1n, up: true })
  })

  test('has a column for every metric asked for, of a type that does not depend on who lacks it', async () => {
    const table = tableFromIPC(await body({ ...range, columns: ['users', 'nosuch', 'note'] }, 'arrow'))
    expect(table.schema.fields.slice(0, 4).map(({ name, type }) => `${name}: ${type}`)).toEqual([
      'time: Timestamp<NANOSECOND, UTC>',
      'users: Int64',
      'nosuch: Float64',
      'note: Utf8',
    ])
    expect(asText(table)).toEqual([
      'users=9007199254740993 host=ant',
      'users=4 host=ant',
      'note=é host=bee region=eu',
      'users=1 zone=z',
    ])
  })

  test('tells functions over time', async () => {
    const request = { ...range, columns: ['load'], aggregators: 'count,max', step: '100s' }
    const table = tableFromIPC(await body(request, 'arrow'))
    expect(asText(table)).toEqual([
      'count(load)=1 max(load)=1.5 host=ant',
      'count(load)=1 max(load)=7 host=bee region=eu',
    ])
  })

  test('joins many frames in order', async () => {
    const rowCount = 20_000
    const samples = (host: string) => {
      const rows = Array.from({ length: rowCount }, (_, row) => ({ time: time(row), value: row / 2 }))
      return frameFromRows(rows, ['time'], { host })
    }
    const long = { ...range, table: 'long', end: '1700000000000', start: '0' }
    await engine.create({ ...long, rate: '1/s' })
    await engine.write(long, ['a', 'b', 'c'].map(samples))
    const table = tableFromIPC(await body({ ...long, end: 'now', messageLimit: 3000n }, 'arrow'))
    expect(table.batches.length).toBeGreaterThanOrEqual(3 * 7)
    expect(table.numRows).toBe(3 * rowCount)
    const values = table.getChild('value')?.toArray() as Float64Array
    expect(values.every((value, row) => value === (row % rowCount) / 2)).toBe(true)
    expect([0, rowCount, 3 * rowCount - 1].map((row) => table.getChild('host')?.get(row))).toEqual(['a', 'b', 'c'])
  })

  test('is complete without a single row', async () => {
    const nothing = tableFromIPC(await body({ ...range, start: '5', end: '6' }, 'arrow'))
    expect([nothing.numRows, nothing.schema.fields.length]).toEqual([0, 0])
    const none = tableFromIPC(await body({ ...range, start: '1700000090000' }, 'arrow'))
    expect(none.numRows).toBe(0)
  })
})

describe('rows', () => {
  const rows = [
    { time: '2023-11-14T22:13:20Z', load: 1.5, users: '9007199254740993', host: 'ant' },
    { time: '2023-11-14T22:13:21Z', load: null, users: 4, host: 'ant' },
    { time: '2023-11-14T22:13:22Z', load: 7, note: 'é', host: 'bee', region: 'eu' },
    { time: '2023-11-14T22:13:23Z', up: true, users: true, zone: 'z' },
  ]

  test('are one JSON array, or one object a line', async () => {
    expect(JSON.parse((await body(range, 'json')).toString())).toEqual(rows)
    const lines = (await body(range, 'ndjson')).toString().trimEnd().split('\n')
    expect(lines.map((line) => JSON.parse(line))).toEqual(rows)
    expect((await body({ ...range, start: '5', end: '6' }, 'json')).toString()).toBe('[]')
    expect(await body({ ...range, start: '5', end: '6' }, 'ndjson')).toHaveLength(0)
  })
})

describe('over HTTP', () => {
  const ask = (fields: object, accept: string) =>
    fetch(`http://127.0.0.1:${server.httpPort}/read`, {
      method: 'POST',
      headers: { accept },
      body: JSON.stringify({ ...range, ...fields }),
    })

  test('an Arrow stream is answered to those who name it', async () => {
    const answer = await ask({ data_format: 'arrow' }, 'application/vnd.apache.arrow.stream')
    expect(answer.headers.get('content-type')).toBe('application/vnd.apache.arrow.stream')
    expect(asText(tableFromIPC(new Uint8Array(await answer.arrayBuffer())))).toEqual(mixedRows)
    const frames = await ask({ data_format: 'arrow' }, '*/*')
    expect(frames.headers.get('content-type')).not.toBe('application/vnd.apache.arrow.stream')
    await frames.arrayBuffer()
  })

  test('an error before the first byte is a status', async () => {
    const answer = await ask({ data_format: 'arrow', table: 'nosuch' }, 'application/vnd.apache.arrow.stream')
    expect(answer.status).toBeGreaterThanOrEqual(400)
    expect(await answer.text()).toContain('No TSDB schema file found')
  })

  test('rows are answered to those who name them', async () => {
    expect(await (await ask({ row_layout: true }, 'application/json')).json()).toHaveLength(4)
    const lines = await (await ask({ row_layout: true }, 'application/x-ndjson')).text()
    expect(lines.trimEnd().split('\n')).toHaveLength(4)
  })
})

test('types widen to one that holds both', () => {
  expect(widerDType('bool', 'int64')).toBe('int64')
  expect(widerDType('float64', 'bool')).toBe('float64')
  expect(widerDType('null', 'time')).toBe('time')
  expect(widerDType('string', 'int64')).toBe('string')
  expect(widerDType('time', 'int64')).toBe('string')
})

test('columns of one name keep their places', () => {
  const union = new HeadUnion()
  const head = (name: string, dtype: 'int64' | 'float64' | 'string') => ({ name, role: 'column' as const, dtype })
  union.add([head('a', 'int64'), head('a', 'string')])
  union.add([head('b', 'int64'), head('a', 'float64')])
  expect(union.heads().map(({ name, dtype }) => `${name} ${dtype}`)).toEqual(['a float64', 'a string', 'b int64'])
})
