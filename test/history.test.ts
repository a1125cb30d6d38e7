// The history: which requests there were, as it is read back through the engine and the server.
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { request as httpRequest } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { connect } from '../dist/client/index.js'
import {
  type Caller,
  type Engine,
  type EngineOptions,
  type Frame,
  frameFromMap,
  FramesError,
  type HistoryRequest,
  openEngine,
  type Value,
} from '../dist/engine/index.js'
import { checkSchema, encodeSchema } from '../dist/engine/history/stored.js'
import { readConfig } from '../dist/server/config.js'
import { openLog } from '../dist/server/log.js'
import { type RunningServer, startServer } from '../dist/server/start.js'

const folders: string[] = []
const newFolder = (): string => {
  const folder = mkdtempSync(join(tmpdir(), 'framesd-history-'))
  folders.push(folder)
  return folder
}
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true })
})

const backend = 'csv'
const caller: Caller = { protocol: 'grpc', address: '10.0.0.1:5', requestId: '7', secrets: [] }

async function open(options: EngineOptions = {}): Promise<Engine> {
  return openEngine({ workerCount: 1, backends: [{ type: 'csv', rootDir: newFolder() }, { type: 'tsdb' }], ...options })
}

async function framesOf(
  source: { history(request: HistoryRequest): AsyncIterable<Frame> },
  request: HistoryRequest = {},
) {
  const frames: Frame[] = []
  for await (const frame of source.history(request)) frames.push(frame)
  return frames
}

type HistoryRow = Readonly<Record<string, Value | null>>

async function rowsOf(source: Parameters<typeof framesOf>[0], request: HistoryRequest = {}): Promise<HistoryRow[]> {
  return (await framesOf(source, request)).flatMap((frame) => [...frame.rows()])
}

async function tablesOf(engine: Engine, request: HistoryRequest): Promise<unknown[]> {
  return (await rowsOf(engine, request)).map((row) => row['TableName'])
}

/** An entry that says nothing but this. */
function refuse(engine: Engine, table: string, options: { durationMs?: number; error?: unknown } = {}): void {
  const { durationMs = 0, error = new Error('x') } = options
  engine.recordRefused({ action: 'delete', request: { backend, table } }, { caller, error, durationMs })
}

describe('a request that cannot be told', () => {
  test('is left out, counted and reported, and the others have their entries', async () => {
    const reported: unknown[][] = []
    const engine = await open({ report: (...told) => void reported.push(told) })
    refuse(engine, 'before')
    const reason = new RangeError('too long')
    const request = {
      backend,
      table: 'odd',
      get filter(): string {
        throw reason
      },
    }
    for (let i = 0; i < 2; i++)
      engine.recordRefused({ action: 'delete', request }, { caller, error: new Error('x'), durationMs: 0 })
    refuse(engine, 'after')
    expect(await tablesOf(engine, {})).toEqual(['before', 'after'])
    expect(reported).toEqual([['2 requests cannot be told in the history', reason]])
    await engine.close()
  })

  test('does no harm where the function for reports throws, too', async () => {
    const engine = await open({
      report: () => {
        throw new Error('of a report')
      },
    })
    const warned: string[] = []
    const onWarning = ({ message }: Error) => void warned.push(message)
    process.on('warning', onWarning)
    try {
      const request = {
        backend,
        get table(): string {
          throw new RangeError('too long')
        },
      }
      engine.recordRefused({ action: 'delete', request }, { caller, error: new Error('x'), durationMs: 0 })
      refuse(engine, 'after')
      expect(await tablesOf(engine, {})).toEqual(['after'])
      await new Promise((resolve) => setImmediate(resolve))
      expect(warned.some((text) => text.startsWith('1 requests cannot be told'))).toBe(true)
      expect(warned.some((text) => text.includes('of a report'))).toBe(true)
    } finally {
      process.off('warning', onWarning)
      await engine.close()
    }
  })
})

describe('entries', () => {
  test('every verb has one, failed ones too, in the order in which they ended', async () => {
    const engine = await open()
    const session = { user: 'ann', container: 'c' }
    const request = { backend, table: 'a.csv', session }
    await engine.create({ ...request, shards: 3n, retentionHours: 2n, rate: '1/s' })
    await engine.write({ ...request, partitionKeys: ['k', 'l'] }, frameFromMap({ a: [1n, 2n, 3n] }))
    for await (const _ of engine.read({ ...request, columns: ['a'], filter: 'a > 1', limit: 2n, messageLimit: 1n }));
    await engine.execute({
      ...request,
      command: 'ping',
      args: { rows: 2n, name: 'x"y', f: 1.5, b: true, t: { timeNs: 5n } },
    })
    await engine.delete({ ...request, filter: 'ignored' })
    const failed = [
      engine.delete(request),
      engine.create({ ...request, backend: 'nothing' }),
      engine.write({ ...request, backend: 'tsdb', saveMode: 'overwriteTable' }, []),
      rowsOf({ history: () => engine.read({ ...request, table: 'missing.csv' }) }),
      engine.execute({ ...request, command: 'pong' }),
    ]
    for (const result of await Promise.allSettled(failed)) expect(result.status).toBe('rejected')
    const rows = await rowsOf(engine)
    const brief = rows.map((row) => [
      row['ActionType'],
      row['BackendName'],
      row['TableName'],
      row['rows'],
      row['error'] === null,
    ])
    expect(brief.slice(0, 5)).toEqual([
      ['create', 'csv', 'a.csv', null, true],
      ['write', 'csv', 'a.csv', 3n, true],
      ['read', 'csv', 'a.csv', 2n, true],
      ['execute', 'csv', 'a.csv', 2n, true],
      ['delete', 'csv', 'a.csv', null, true],
    ])
    expect(
      brief
        .slice(5)
        .map(([action, name]) => `${action} ${name}`)
        .sort(),
    ).toEqual(['create nothing', 'delete csv', 'execute csv', 'read csv', 'write tsdb'])
    expect(brief.slice(5).every(([, , , , isWell]) => isWell === false)).toBe(true)
    for (const row of rows) {
      expect(row).toMatchObject({ UserName: 'ann', Container: 'c' })
      expect(row['ActionDuration']).toBeTypeOf('bigint')
    }
    expect(rows[0]).toMatchObject({ rate: '1/s', shards: '3', retentionHours: '2', saveMode: null })
    expect(rows[1]).toMatchObject({ saveMode: 'errorIfTableExists', partitionKeys: 'k,l' })
    expect(rows[1]!['bytes']).toBeTypeOf('bigint')
    expect(rows[2]).toMatchObject({ columns: 'a', filter: 'a > 1', limit: '2', messageLimit: '1' })
    expect(rows[3]).toMatchObject({
      command: 'ping',
      args_rows: 'ival:2',
      args_name: 'sval:"x\\"y"',
      args_f: 'fval:1.5',
      args_b: 'bval:true',
      args_t: 'tval:5',
    })
    const errors = new Map(rows.map((row) => [`${row['ActionType']} ${row['BackendName']}`, row['error']]))
    expect(errors.get('create nothing')).toBe('unknown backend - nothing')
    expect(errors.get('read csv')).toContain('no such file or directory')
    await engine.close()
  })

  test('the columns that clients know come first, then what was set, then ours; an index without values', async () => {
    const engine = await open()
    await engine.execute({ backend, table: 't', command: 'ping', args: { rows: 1n } })
    const [frame] = await framesOf(engine)
    expect(frame!.names).toEqual([
      ...['UserName', 'BackendName', 'TableName', 'ActionDuration', 'StartTime', 'ActionType', 'Container'],
      ...['command', 'args_rows', 'rows', 'bytes'],
    ])
    expect(frame!.columns.map(({ dtype }) => dtype).slice(0, 7)).toEqual([
      'string',
      'string',
      'string',
      'int64',
      'time',
      'string',
      'string',
    ])
    expect(frame!.indices.map(({ name, dtype, kind, length }) => [name, dtype, kind, length])).toEqual([
      ['id', 'null', 'label', 1],
    ])
    await engine.close()
  })

  test('the alias of a backend is written and found under its name', async () => {
    const engine = await openEngine({ workerCount: 1 })
    await engine.execute({ backend: 'nosql', table: 'c/t', command: 'x' }).catch(() => undefined)
    for (const name of ['nosql', 'kv']) {
      const rows = await rowsOf(engine, { backend: name })
      expect(rows.map((row) => row['BackendName'])).toEqual(['kv'])
    }
    await engine.close()
  })

  test('a read that is left early, and a write that is given up, are there', async () => {
    const engine = await open()
    await engine.write({ backend, table: 'a.csv' }, frameFromMap({ a: [1n, 2n, 3n] }))
    for await (const _ of engine.read({ backend, table: 'a.csv', messageLimit: 1n })) break
    const session = await engine.openWrite({ backend, table: 'a.csv' })
    session.abort()
    const [, read, write] = await rowsOf(engine)
    expect(read).toMatchObject({ ActionType: 'read', rows: 1n, error: null })
    expect(write).toMatchObject({ ActionType: 'write', error: 'the write was given up' })
    await engine.close()
  })

  test('a program may use the objects of a request again', async () => {
    const engine = await open()
    const args = { keys: ['a'], name: '' }
    const columns = ['']
    for (const name of ['x', 'y', 'z']) {
      args.name = name
      args.keys[0] = name
      columns[0] = name
      await engine.execute({ backend, table: 't', command: 'ping', args })
      await expect(async () => {
        for await (const _ of engine.read({ backend, table: 't', columns }));
      }).rejects.toThrow(FramesError)
    }
    const rows = await rowsOf(engine)
    expect(rows.map((row) => row['args_name'] ?? row['columns'])).toEqual(
      ['x', 'y', 'z'].flatMap((name) => [`sval:"${name}"`, name]),
    )
    expect(rows.flatMap((row) => row['args_keys'] ?? [])).toEqual(['sval:"x"', 'sval:"y"', 'sval:"z"'])
    await engine.close()
  })

  test('a text of any length leaves room for others', async () => {
    const engine = await open()
    await engine.delete({ backend, table: 'a.csv', filter: 'x'.repeat(100_000), ifMissing: 'ignore' })
    const [row] = await rowsOf(engine)
    expect((row!['filter'] as string).length).toBeLessThan(5000)
    await engine.close()
  })
})

describe('filters', () => {
  let engine: Engine
  const startMs = 1_700_000_000_000
  let nowMs = startMs

  beforeAll(async () => {
    engine = await open({ nowMs: () => nowMs })
    for (const [user, container, table] of [
      ['ann', 'c', 'x'],
      ['bob', 'c', 'x'],
      ['ann', 'd', 'y'],
    ] as const) {
      await engine.create({ backend, table, session: { user, container }, ifExists: 'ignore' })
      nowMs += 1000
    }
    await engine.write({ backend, table: 'w', session: { user: 'bob' } }, frameFromMap({ a: [1n] }))
    for await (const _ of engine.read({ backend, table: 'w', session: { user: 'bob' } }));
    await engine.execute({ backend, table: 'e', command: 'ping' })
    nowMs += 1000
    engine.recordRefused(
      { action: 'delete', request: { backend: 'tsdb', table: 'slow' } },
      { caller, error: new Error('x'), durationMs: 100_250.9 },
    )
  })
  afterAll(() => engine.close())

  test.each<[HistoryRequest, string[]]>([
    [{}, ['x', 'x', 'y', 'w', 'w', 'e', 'slow']],
    [{ user: 'ann' }, ['x', 'y']],
    [{ user: 'an' }, []],
    [{ container: 'd' }, ['y']],
    [{ table: 'x' }, ['x', 'x']],
    [{ table: 'X' }, []],
    [{ backend: 'tsdb' }, ['slow']],
    [{ backend: 'csv', table: 'e' }, ['e']],
    [{ action: 'create' }, ['x', 'x', 'y']],
    [{ action: 'write' }, ['w']],
    [{ action: 'ingest' }, ['w']],
    [{ action: 'read' }, ['w']],
    [{ action: 'query' }, ['w']],
    [{ action: 'execute' }, ['e']],
    [{ action: 'delete' }, ['slow']],
    [{ action: 'Read' }, []],
    [{ minDuration: 100_250n }, ['slow']],
    [{ minDuration: 100_251n }, []],
    [{ minDuration: 100_000n, maxDuration: 100_250n }, ['slow']],
    [{ minDuration: 100_000n, maxDuration: 100_249n }, []],
    [{ minStartTime: String(startMs + 1000), maxStartTime: String(startMs + 2000) }, ['x', 'y']],
    [{ minStartTime: '2023-11-14T22:13:21Z', maxStartTime: '2023-11-14T22:13:21.999Z' }, ['x']],
    [{ maxStartTime: 'now-3s' }, ['x', 'x', 'slow']],
    [{ minStartTime: 'now-2s', user: 'bob' }, ['w', 'w']],
  ])('%o', async (request, expected) => {
    expect(await tablesOf(engine, request)).toEqual(expected)
  })

  test('a time that is none says which', async () => {
    const errorOf = (request: HistoryRequest) => rowsOf(engine, request).catch((error: FramesError) => error.message)
    expect(await errorOf({ minStartTime: 'x' })).toContain("failed to parse 'start_time' filter: Invalid time string")
    expect(await errorOf({ maxStartTime: 'now*3' })).toContain("failed to parse 'end_time' filter: ")
  })
})

describe('what is kept', () => {
  test('more entries than a frame or a commit takes, in order, in frames of 1000 rows', async () => {
    const engine = await open()
    for (let i = 0; i < 20_500; i++) refuse(engine, `t${i}`)
    const frames = await framesOf(engine)
    expect(frames.map(({ length }) => length)).toEqual([...Array.from({ length: 20 }, () => 1000), 500])
    expect(frames.flatMap((frame) => frame.column('TableName').strings())).toEqual(
      Array.from({ length: 20_500 }, (_, i) => `t${i}`),
    )
    await engine.close()
  })

  test('requests of many callers in one commit keep each its own texts', async () => {
    const engine = await open()
    const expected: unknown[] = []
    for (let i = 0; i < 600; i++) {
      // More kinds than are remembered, some of them the same again, with and without each text.
      const kind = i % 3 === 0 ? 0 : i % 23
      const table = kind % 5 === 0 ? '' : `tä"${kind}`
      const own: Caller = {
        protocol: kind % 2 === 0 ? 'http' : 'grpc',
        address: `10.0.0.${kind % 4}`,
        requestId: `${i}`,
        secrets: [],
      }
      const error = i % 4 === 0 ? undefined : new FramesError('INVALID_ARGUMENT', `${i} é`)
      const args = i % 5 === 0 ? {} : { [`k${i % 7}`]: `"${'x'.repeat(i % 90)}\u0007` }
      const request = { backend, table, command: 'c', args, session: { user: `u${kind % 6}` } }
      engine.recordRefused({ action: 'execute', request }, { caller: own, error, durationMs: i })
      expected.push([
        ...[table, `u${kind % 6}`, own.protocol, own.address, `${i}`],
        ...[error === undefined ? null : `${i} é`, BigInt(i)],
        ...Object.values(args).map((value) => `sval:${JSON.stringify(value)}`),
      ])
    }
    const rows = await rowsOf(engine)
    const names = ['TableName', 'UserName', 'protocol', 'clientAddress', 'requestId', 'error', 'ActionDuration']
    const found = rows.map((row) => [
      ...names.map((name) => row[name]),
      ...Object.keys(row).flatMap((name) => (name.startsWith('args_') && row[name] !== null ? [row[name]] : [])),
    ])
    expect(found).toEqual(expected)
    await engine.close()
  })

  test('texts that stay, change and change back are those of their request, also where masking makes names alike', async () => {
    const engine = await open()
    const expected: unknown[] = []
    for (let i = 0; i < 300; i++) {
      // Two names that both have the secret in them become one.
      const args = {
        'a-hidden1': `${i}`,
        'b-hidden1': i % 7 === 0 ? 'x' : `"${i}`,
        password: `p${i}`,
        n: BigInt(i % 2),
      }
      const command = `c${i % 3}`
      const expression = i < 100 ? 'same' : i % 50 === 0 ? '' : 'other'
      const own: Caller = { ...caller, secrets: i % 2 === 0 ? ['hidden1'] : [] }
      const request = { backend, table: 't', command, expression, args }
      engine.recordRefused({ action: 'execute', request }, { caller: own, error: new Error('x'), durationMs: 0 })
      const b = `sval:${JSON.stringify(args['b-hidden1'])}`
      const names = i % 2 === 0 ? { 'args_b-*****': b } : { 'args_a-hidden1': `sval:"${i}"`, 'args_b-hidden1': b }
      const shown = { command, ...names, args_password: '*****', args_n: `ival:${i % 2}` }
      expected.push(expression === '' ? shown : { ...shown, expression })
    }
    const found = (await rowsOf(engine)).map((row) =>
      Object.fromEntries(
        Object.entries(row).filter(
          ([name, cell]) => cell !== null && /^(args_|command|expression)/.test(name) && name !== 'args_a-*****',
        ),
      ),
    )
    expect(found).toEqual(expected)
    await engine.close()
  })

  test('small commits are put together, and nothing of them is lost', async () => {
    const engine = await open()
    const expected: string[] = []
    for (let commit = 0; commit < 150; commit++) {
      for (let i = 0; i <= commit % 7; i++) {
        expected.push(`é${commit}-${i}`)
        refuse(engine, expected[expected.length - 1]!)
      }
      await tablesOf(engine, { table: 'none' })
    }
    expect(await tablesOf(engine, {})).toEqual(expected)
    await engine.close()
  })

  test('it is there after a restart, also what came in last', async () => {
    const dataDir = newFolder()
    for (const table of ['a', 'b', 'c']) {
      const engine = await open({ dataDir })
      refuse(engine, table)
      await engine.close()
    }
    const engine = await open({ dataDir })
    expect(await tablesOf(engine, {})).toEqual(['a', 'b', 'c'])
    await engine.close()
  })

  test('entries that are too old are gone', async () => {
    let nowMs = 1_700_000_000_000
    const engine = await open({ nowMs: () => nowMs, history: { retentionMs: 10_000 } })
    refuse(engine, 'old')
    expect(await tablesOf(engine, {})).toEqual(['old'])
    nowMs += 9000
    refuse(engine, 'young')
    expect(await tablesOf(engine, {})).toEqual(['old', 'young'])
    nowMs += 5000
    expect(await tablesOf(engine, {})).toEqual(['young'])
    nowMs += 60_000
    refuse(engine, 'new')
    expect(await tablesOf(engine, {})).toEqual(['new'])
    await engine.close()
  })

  test('the oldest go when there are too many bytes', async () => {
    let nowMs = 1_700_000_000_000
    const engine = await open({ nowMs: () => nowMs, history: { retentionByteLength: 100_000 } })
    const random = () => Math.random().toString(36).repeat(20)
    for (let commit = 0; commit < 60; commit++) {
      for (let i = 0; i < 20; i++) refuse(engine, `${commit} ${random()}`)
      nowMs += 61_000
      await tablesOf(engine, { table: 'none' })
    }
    const kept = (await tablesOf(engine, {})) as string[]
    expect(kept.length).toBeLessThan(1200)
    expect(kept.length).toBeGreaterThan(0)
    expect(kept.at(-1)!.split(' ')[0]).toBe('59')
    await engine.close()
  })

  test('a killed process has lost what ended in its last second at most', async () => {
    const dataDir = newFolder()
    const child = spawn(process.execPath, [join(import.meta.dirname, 'history.writer.mjs'), dataDir], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const ended: number[] = []
    let text = ''
    const killed = new Promise<number>((resolve) => {
      child.stdout.on('data', (chunk: Buffer) => {
        text += chunk.toString()
        if (text.split('\n').length > 900 && !child.killed) child.kill('SIGKILL')
      })
      child.on('exit', () => resolve(Date.now()))
    })
    await killed
    for (const line of text.split('\n')) {
      const [number, endMs] = line.split(' ')
      if (endMs !== undefined) ended[Number(number)] = Number(endMs)
    }
    const engine = await openEngine({ dataDir, workerCount: 1 })
    const found = new Set(await tablesOf(engine, {}))
    const lastMs = ended[ended.length - 1]!
    ended.forEach((endMs, i) => {
      if (lastMs - endMs > 1000)
        expect(found.has(`t${i}`), `t${i} ended ${lastMs - endMs} ms before the end`).toBe(true)
    })
    expect(lastMs - ended[0]!).toBeGreaterThan(1000)
    await engine.close()
  })

  test('one that a newer version has written is refused; the first version is read', () => {
    const schema = (version: number): Uint8Array => Buffer.from(JSON.stringify({ version }))
    expect(() => checkSchema(schema(3))).toThrow(expect.objectContaining({ code: 'FORMAT_VERSION' }))
    expect(() => checkSchema(encodeSchema())).not.toThrow()
    expect(() => checkSchema(schema(1))).not.toThrow()
  })

  test('an engine without a history says so', async () => {
    const engine = await open({ history: false })
    refuse(engine, 'x')
    const error = await rowsOf(engine).catch((thrown: FramesError) => thrown)
    expect(error).toMatchObject({ code: 'HISTORY_OFF' })
    await engine.close()
  })
})

describe('over the wire', () => {
  let engine: Engine
  let server: RunningServer
  const logged: string[] = []
  const loopback = { host: '127.0.0.1', port: 0 }

  beforeAll(async () => {
    engine = await open()
    const sink = new Writable({
      write(chunk: Buffer, _encoding, done) {
        logged.push(chunk.toString())
        done()
      },
    })
    const config = readConfig(
      '{username: default-user, password: CONFIGURED-SECRET, sessionKey: CONFIGURED-KEY, backends: [{type: csv}, {type: tsdb}]}',
    )
    const log = openLog('debug', sink)
    server = await startServer({ engine, config, log, httpAddress: loopback, grpcAddress: loopback })
  })
  afterAll(() => server.stop())

  const clients = () =>
    [
      ['grpc', connect(`127.0.0.1:${server.grpcPort}`)],
      ['http', connect(`http://127.0.0.1:${server.httpPort}`)],
    ] as const

  test('both protocols record who asked, also where no backend was asked, and both read it back', async () => {
    for (const [protocol, client] of clients()) {
      const table = `${protocol}.csv`
      await client.write({ backend, table, session: { user: 'eve' } }, frameFromMap({ a: [1n, 2n] }))
      await expect(client.create({ backend: 'nothing', table })).rejects.toThrow()
      await expect(client.delete({ backend, table: '' })).rejects.toThrow()
      await expect(client.write({ backend, table, saveMode: 'no such mode' }, [])).rejects.toThrow()
      for (const [, reader] of clients()) {
        const rows = (await rowsOf(reader)).filter((row) => row['protocol'] === protocol)
        const brief = rows.map((row) => [
          row['ActionType'],
          row['BackendName'],
          row['TableName'],
          row['UserName'],
          row['rows'],
        ])
        expect(brief).toEqual([
          ['write', 'csv', table, 'eve', 2n],
          ['create', 'nothing', table, 'default-user', null],
          ['delete', 'csv', '', 'default-user', null],
          ['write', 'csv', table, 'default-user', null],
        ])
        expect(rows.map((row) => row['error'] === null)).toEqual([true, false, false, false])
        expect(rows[3]!['error']).toContain("no save mode named 'no such mode'")
        for (const row of rows) {
          expect(row['clientAddress']).toMatch(/127\.0\.0\.1/)
          expect(row['requestId']).toMatch(/^\d+$/)
        }
        reader.close()
      }
      client.close()
    }
  })

  test('a body that is no request leaves an entry with what is known', async () => {
    const status = await new Promise<number | undefined>((resolve, reject) => {
      const request = httpRequest({ port: server.httpPort, path: '/create', method: 'POST' }, (response) => {
        response.resume().on('end', () => resolve(response.statusCode))
      })
      request.on('error', reject).end('{"backend":')
    })
    expect(status).toBe(400)
    const rows = await rowsOf(engine, { action: 'create' })
    expect(rows.at(-1)).toMatchObject({ BackendName: '', TableName: '', protocol: 'http' })
    expect(rows.at(-1)!['error']).not.toBeNull()
  })

  test('no secret is kept, wherever it was', async () => {
    const secrets = { password: 'PASSWORD-SECRET', token: 'TOKEN-SECRET' }
    const planted = `${secrets.password} and ${secrets.token}`
    const session = { user: 'mallory', ...secrets, url: `https://u:${secrets.password}@host/` }
    for (const [protocol, client] of clients()) {
      const request = { backend, table: `secret-${protocol}.csv`, session }
      const calls = [
        client.create({
          ...request,
          rate: planted,
          aggregates: planted,
          aggregationGranularity: planted,
          schema: { fields: [{ name: planted }] },
        }),
        client.write(
          { ...request, expression: planted, condition: planted, partitionKeys: [planted] },
          frameFromMap({ [planted]: [planted] }),
        ),
        rowsOf({
          history: () =>
            client.read({
              ...request,
              filter: planted,
              columns: [planted],
              query: planted,
              groupBy: planted,
              start: planted,
              end: planted,
              step: planted,
              aggregators: planted,
              seek: planted,
              shardId: planted,
              marker: planted,
              shardingKeys: [planted],
              sortKeyRangeStart: planted,
              sortKeyRangeEnd: planted,
              aggregationWindow: planted,
              dataFormat: planted,
            }),
        }),
        rowsOf({ history: () => client.read({ ...request, columns: [planted] }) }),
        client.execute({
          ...request,
          command: planted,
          expression: planted,
          args: { [planted]: planted, password: 'ARGUMENT-SECRET', apiKey: 'ARGUMENT-SECRET' },
        }),
        client.execute({ ...request, command: 'ping', args: { access_key: 'ARGUMENT-SECRET', x: planted } }),
        client.delete({ ...request, filter: planted, start: planted, end: planted, metrics: [planted] }),
        client.delete({ ...request, table: planted }),
        client.delete({ ...request, backend: planted }),
        rowsOf(client, { session, table: planted, minStartTime: planted }),
      ]
      await Promise.allSettled(calls)
      client.close()
    }
    // Basic and Bearer credentials, understood or not.
    const headers = [
      `Basic ${Buffer.from(`mallory:HEADER-SECRET`).toString('base64')}`,
      `Basic ${Buffer.from(`__ACCESS_KEY:HEADER-SECRET`).toString('base64')}`,
      'Bearer HEADER-SECRET',
      'Digest HEADER-SECRET',
      'Basic HEADER-SECRET',
    ]
    for (const authorization of headers) {
      for (const path of ['/create', '/delete', '/exec', '/read', '/history']) {
        const body = JSON.stringify({
          backend,
          table: 'HEADER-SECRET',
          command: 'x HEADER-SECRET',
          filter: 'HEADER-SECRET',
        })
        await new Promise<void>((resolve, reject) => {
          const request = httpRequest(
            { port: server.httpPort, path, method: 'POST', headers: { authorization } },
            (response) => response.resume().on('end', () => resolve()),
          )
          request.on('error', reject).end(body)
        })
      }
    }
    // Embedded too: there the request itself has the secrets.
    await engine.delete({ backend, table: 'x', session, filter: planted }).catch(() => undefined)
    const rows = await rowsOf(engine)
    expect(rows.filter((row) => row['UserName'] === 'mallory').length).toBeGreaterThan(20)
    const kept = JSON.stringify(rows, (_key, value) => (typeof value === 'bigint' ? String(value) : value))
    // Unknown schemes say nothing of what follows: there the table and filter are no secrets that anyone could know.
    const known = kept.replaceAll('"TableName":"HEADER-SECRET"', '').replaceAll('"filter":"HEADER-SECRET"', '')
    for (const secret of [secrets.password, secrets.token, 'ARGUMENT-SECRET', 'CONFIGURED-SECRET', 'CONFIGURED-KEY']) {
      expect(kept).not.toContain(secret)
      expect(logged.join('')).not.toContain(secret)
    }
    expect(known).not.toContain('Bearer')
    const understood = rows.filter((row) => row['filter'] === '*****' || row['TableName'] === '*****')
    expect(understood.length).toBeGreaterThan(0)
  })
})

test('while requests keep coming, what has gathered is written at intervals, and not as soon as the write before has ended', async () => {
  const engine = await openEngine({ workerCount: 1, backends: [{ type: 'kv' }] })
  try {
    const table = { backend: 'kv', table: 'busy' }
    await engine.execute({
      ...table,
      command: 'update',
      args: { key: 'a', expression: 'n = 1', mode: 'createOrReplace' },
    })
    const jobCount = (): number => engine.statistics().pool.jobDoneCount
    const before = jobCount()
    const endMs = performance.now() + 2000
    const startMs = performance.now()
    // It needs no job, so that all jobs there are write the history.
    let callCount = 0
    while (performance.now() < endMs) {
      await engine.execute({ ...table, command: 'stats' })
      await new Promise(setImmediate)
      callCount++
    }
    const intervalCount = (performance.now() - startMs) / 750
    // One for what has gathered, and now and then one that merges; one for each batch that is full.
    expect(jobCount() - before).toBeLessThan(3 * (intervalCount + 2) + callCount / 8192)
  } finally {
    await engine.close()
  }
})
