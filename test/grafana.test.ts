// Grafana's SimpleJSON data source: what a target says, and what a real server answers.
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Engine, Frame, openEngine, sliceColumn } from '../dist/engine/index.js'
import { readConfig } from '../dist/server/config.js'
import { parseQuery, parseSearch, parseTarget, readOf } from '../dist/server/grafana.js'
import { openLog } from '../dist/server/log.js'
import { type RunningServer, startServer } from '../dist/server/start.js'

const body = (value: unknown): Uint8Array => Buffer.from(JSON.stringify(value))
const illegal = 'is illegal. field should be one of filter|fields|table|backend|container|step|query'

describe('a target', () => {
  test('is cut at semicolons, and each part at its first equals sign; blanks around are not meant', () => {
    expect(parseTarget(" backend = kv ;; table= a/b;filter= age == 5 AND s == 'x=y' ;fields=a, b;", false)).toEqual({
      backend: 'kv',
      table: 'a/b',
      filter: "age == 5 AND s == 'x=y'",
      fields: ['a', ' b'],
      container: '',
      step: '',
      query: '',
      isTable: false,
    })
  })

  test.each(['backend', 'Backend=kv', 'from=x', '=kv'])('a part that is none is refused: %s', (part) => {
    expect(() => parseTarget(`table=t;${part}`, true)).toThrow(`field ${part} ${illegal}`)
    expect(() => parseSearch(body({ target: part }))).toThrow(new RegExp(`^field ${part} is illegal`))
    expect(() => parseQuery(body({ targets: [{ target: part }] }))).toThrow(
      new RegExp(`^Failed to parse target: field ${part} is illegal`),
    )
  })

  test.each([
    [],
    'x',
    { targets: {} },
    { targets: [1] },
    { targets: [{ target: 5 }] },
    { range: [] },
    { range: { from: 1 } },
  ])('a body of another shape is refused: %j', (value) => {
    expect(() => parseQuery(body(value))).toThrow(/^(Failed to parse target: )?(the body|targets?|a target|range|from)/)
  })

  test('is one read: time series take range, step and query, streams the range', () => {
    const range = { from: '2024-01-01T00:00:00Z', to: '2024-01-02T00:00:00Z' }
    const read = (text: string, type: string | null) => readOf(parseTarget(text, false), range, type)
    expect(read('backend=tsdb;table=t;fields=cpu;step=1h;container=c', 'tsdb')).toEqual({
      backend: 'tsdb',
      table: 't',
      columns: ['cpu'],
      session: { container: 'c' },
      start: range.from,
      end: range.to,
      step: '1h',
    })
    expect(read('backend=kv;table=t;fields=*;step=1h', 'kv')).toEqual({ backend: 'kv', table: 't' })
    expect(read('backend=stream;table=t', 'stream')).toMatchObject({ seek: 'time', start: range.from, end: range.to })
    expect(readOf(parseTarget('backend=stream;table=t', false), null, 'stream')).toMatchObject({ seek: 'earliest' })
  })
})

describe('a server', () => {
  let engine: Engine
  let server: RunningServer
  const T = Date.UTC(2024, 0, 1)
  const range = { from: new Date(T).toISOString(), to: new Date(T + 3_600_000).toISOString() }

  beforeAll(async () => {
    engine = await openEngine({ memoryByteLength: 192 * 2 ** 20, workerCount: 1 })
    const loopback = { host: '127.0.0.1', port: 0 }
    const log = openLog('error')
    server = await startServer({ engine, config: readConfig(null), log, httpAddress: loopback, grpcAddress: loopback })
    const session = { container: 'c' }
    await engine.write(
      { backend: 'kv', table: 't', session },
      new Frame({
        columns: [
          sliceColumn('age', [10n, 15n, null], 'int64'),
          sliceColumn('big', [2n ** 53n + 1n, null, 0n], 'int64'),
          sliceColumn('score', [Number.NaN, 1.5, 2], 'float64'),
        ],
        indices: [sliceColumn('idx', ['tom', 'nick', 'bo'], 'string')],
      }),
    )
    await engine.create({ backend: 'tsdb', table: 'cpu', rate: '1/m', session })
    const times = [0, 1, 2].map((minute) => BigInt(T + minute * 60_000) * 1_000_000n)
    for (const [node, values] of [
      ['2', [1, 2, Number.NaN]],
      ['1', [5, 6, 7]],
    ] as const) {
      const columns = [sliceColumn('cpu', [...values], 'float64'), sliceColumn('disk', [...values], 'float64')]
      const indices = [sliceColumn('time', BigInt64Array.from(times), 'time')]
      await engine.write(
        { backend: 'tsdb', table: 'cpu', session },
        new Frame({ columns, indices, labels: { node, os: 'x' } }),
      )
    }
    await engine.create({ backend: 'stream', table: 's', session })
    await engine.execute({ backend: 'stream', table: 's', session, command: 'put', args: { data: '{"i":1,"t":"a"}' } })
  })
  afterAll(() => server.stop())

  async function post(path: string, value: unknown): Promise<{ status: number; text: string }> {
    const reply = await fetch(`http://127.0.0.1:${server.httpPort}${path}`, {
      method: 'POST',
      body: JSON.stringify(value),
    })
    return { status: reply.status, text: await reply.text() }
  }

  async function query(target: string, type: string, rest: object = {}): Promise<unknown> {
    const { status, text } = await post('/query', { targets: [{ target, type }], range, ...rest })
    expect([status, text.slice(0, 1)]).toEqual([200, '['])
    return JSON.parse(text)
  }

  test('answers the connection test', async () => {
    expect((await fetch(`http://127.0.0.1:${server.httpPort}/`)).status).toBe(200)
  })

  test('answers tables: the fields in their order, an index among them as a column', async () => {
    const [table] = (await query('backend=kv;table=t;fields=age,idx;container=c', 'table')) as [{ rows: unknown[][] }]
    expect(table).toMatchObject({
      columns: [
        { text: 'age', type: 'number' },
        { text: 'idx', type: 'string' },
      ],
      type: 'table',
    })
    expect(table.rows.sort(([, a], [, b]) => (String(a) < String(b) ? -1 : 1))).toEqual([
      [null, 'bo'],
      [15, 'nick'],
      [10, 'tom'],
    ])
  })

  test('without fields all columns and the first index, by name; a NaN is a missing cell and shifts none', async () => {
    for (const fields of ['', ';fields=*']) {
      const { text } = await post('/query', {
        targets: [{ target: `backend=nosql;table=t;container=c;filter=age == 10${fields}`, type: 'table' }],
      })
      expect(text).toBe(
        '[{"columns":[{"text":"age","type":"number"},{"text":"big","type":"number"},{"text":"idx","type":"string"},' +
          '{"text":"score","type":"number"}],"rows":[[10,9007199254740993,"tom",null]],"type":"table"}]',
      )
    }
  })

  test('times in tables are RFC 3339', async () => {
    const tables = (await query(
      "backend=tsdb;table=cpu;fields=time,cpu;container=c;filter=node=='1'",
      'table',
    )) as unknown[]
    expect(tables).toEqual([
      {
        columns: [
          { text: 'time', type: 'time' },
          { text: 'cpu', type: 'number' },
        ],
        rows: [
          ['2024-01-01T00:00:00Z', 5],
          ['2024-01-01T00:01:00Z', 6],
          ['2024-01-01T00:02:00Z', 7],
        ],
        type: 'table',
      },
    ])
  })

  test.each(['timeseries', 'timeserie', 'anything', ''])('answers time series for type %j', async (type) => {
    expect(await query('backend=tsdb;table=cpu;fields=cpu;container=c', type)).toEqual([
      {
        datapoints: [
          [5, T],
          [6, T + 60_000],
          [7, T + 120_000],
        ],
        target: 'cpu[node=1,os=x]',
      },
      {
        datapoints: [
          [1, T],
          [2, T + 60_000],
        ],
        target: 'cpu[node=2,os=x]',
      },
    ])
  })

  test('all columns are series of their own, sorted; several targets stand one behind the other', async () => {
    const target = 'backend=tsdb;table=cpu;container=c'
    const series = (await query(target, '')) as { target: string }[]
    expect(series.map((one) => one.target)).toEqual([
      'cpu[node=1,os=x]',
      'cpu[node=2,os=x]',
      'disk[node=1,os=x]',
      'disk[node=2,os=x]',
    ])
    const { text } = await post('/query', {
      range,
      targets: [
        { target: `${target};fields=disk,cpu;filter=node=='1'` },
        { target: 'table=t' },
        { target: 'backend=kv;table=t;fields=age;container=c;filter=age == 10' },
      ],
    })
    const both = JSON.parse(text) as { target: string; datapoints: unknown[] }[]
    expect(both.map((one) => one.target)).toEqual(['disk[node=1,os=x]', 'cpu[node=1,os=x]', 'age[]'])
    // An item has no time.
    expect(both[2]!.datapoints).toEqual([[10, null]])
  })

  test('range, step and query are those of the read', async () => {
    const later = { range: { from: range.to, to: new Date(T + 7_200_000).toISOString() } }
    expect(await query('backend=tsdb;table=cpu;fields=cpu;container=c', '', later)).toEqual([])
    const sql = "query=select max(cpu) as m from 'cpu' where node='1'"
    const [series] = (await query(`backend=tsdb;table=cpu;container=c;step=1h;${sql}`, '')) as [{ datapoints: unknown }]
    expect(series).toMatchObject({ target: expect.stringMatching(/^m\[/), datapoints: [[7, T]] })
  })

  test('streams are read over the range of arrival', async () => {
    const now = {
      range: { from: new Date(Date.now() - 3_600_000).toISOString(), to: new Date(Date.now() + 1000).toISOString() },
    }
    const [table] = (await query('backend=stream;table=s;container=c;fields=i,t', 'table', now)) as [{ rows: unknown }]
    expect(table.rows).toEqual([[1, 'a']])
    expect(await query('backend=stream;table=s;container=c;fields=i', 'table')).toEqual([])
  })

  test('search gives values of the fields, row by row', async () => {
    const search = async (target: unknown) => JSON.parse((await post('/search', { target })).text) as unknown
    expect(await search('backend=kv;table=t;fields=idx,age;container=c;filter=age > 0')).toHaveLength(4)
    expect(await search('backend=kv;table=t;fields=idx;container=c;filter=age == 10')).toEqual(['tom'])
    expect(await search('backend=kv;table=t;fields=idx;container=c;filter=age > 99')).toEqual([])
    for (const nothing of ['', 'table=t', 'backend=kv', 'backend=kv;table=t']) expect(await search(nothing)).toEqual([])
  })

  test('what is wrong is said', async () => {
    for (const type of ['table', '']) {
      const kv = { target: 'backend=kv;table=t;container=c;fields=none', type }
      expect(await post('/query', { range, targets: [kv] })).toEqual({
        status: 500,
        text: expect.stringMatching(/^Error querying: Failed to build a response: column "none" not found/),
      })
      const tsdb = { target: 'backend=tsdb;table=cpu;container=c;fields=cpu,none', type }
      expect(await post('/query', { range, targets: [tsdb] })).toEqual({
        status: 500,
        text: expect.stringMatching(/^Error querying: .*column .none./),
      })
    }
    // A metric that no label set has is a read without an answer.
    expect(await query('backend=tsdb;table=cpu;container=c;fields=none', '')).toEqual([])
    // A column that is there, and missing in these items, is no error.
    expect(await query('backend=kv;table=t;container=c;fields=age;filter=score == 2', 'table')).toMatchObject([
      { rows: [[null]] },
    ])
    const unknown = await post('/query', { targets: [{ target: 'backend=nowhere;table=t' }] })
    expect([unknown.status, unknown.text]).toEqual([500, expect.stringMatching(/^Error querying: .*unknown backend/)])
    expect(await post('/query', { targets: [{ target: 'x=1' }] })).toEqual({
      status: 400,
      text: expect.stringMatching(/^bad request - Failed to parse target: field x=1 is illegal\./),
    })
    expect((await post('/search', { target: 'x=1' })).text).toMatch(/^bad request - field x=1 is illegal\./)
    expect(await post('/query', {})).toEqual({ status: 200, text: '[]' })
  })

  test('the reads are in the history, failed ones too', async () => {
    await post('/query', { targets: [{ target: 'backend=kv;table=told;container=c' }] })
    await post('/query', { targets: [{ target: 'backend=nowhere;table=told;container=c' }] })
    const rows: unknown[] = []
    for await (const frame of engine.history({ table: 'told' })) rows.push(...frame.rows())
    expect(rows).toMatchObject([
      { BackendName: 'kv', ActionType: 'read', protocol: 'http', error: expect.any(String) },
      { BackendName: 'nowhere', ActionType: 'read', error: expect.stringContaining('unknown backend') },
    ])
  })
})
