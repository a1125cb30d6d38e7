// What a program in plain JavaScript may give instead of a request is refused by name, by the engine and by the client; before,
// some of it ended the process when the history was written.
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { RequestMessages } from '../dist/client/requests.js'
import { type Engine, type Frame, frameFromRows, FramesError, openEngine } from '../dist/engine/index.js'
import { shapedRequest } from '../dist/engine/request-shape.js'

let engine: Engine

beforeAll(async () => {
  engine = await openEngine({ workerCount: 1, memoryByteLength: 128 * 2 ** 20 })
  await engine.write(
    { backend: 'kv', table: 't' },
    frameFromRows(
      [
        { k: 'a', v: 1n },
        { k: 'b', v: 2n },
      ],
      ['k'],
    ),
  )
})
afterAll(async () => {
  await engine.close()
})

/** As a program without types would give it. */
function untyped<Request>(request: unknown): Request {
  return request as Request
}

async function textOf(call: () => Promise<unknown>): Promise<string> {
  try {
    await call()
  } catch (error) {
    if (!(error instanceof FramesError)) throw error
    return `${error.code}: ${error.what}`
  }
  return 'none'
}

async function rowsOf(request: object): Promise<number> {
  let count = 0
  for await (const frame of engine.read(untyped({ backend: 'kv', table: 't', ...request }))) count += frame.length
  return count
}

describe('a request of wrong types', () => {
  test.each<[object, string]>([
    [{ columns: 'k' }, 'columns must be a list of strings, not a string'],
    [{ columns: ['k', 5] }, 'columns must be a list of strings, not 5'],
    [{ limit: 1.5 }, 'limit must be a whole number of 64 bits, not 1.5'],
    [{ limit: Number.NaN }, 'limit must be a whole number of 64 bits, not NaN'],
    [{ limit: 2n ** 63n }, 'limit must be a whole number of 64 bits, not 9223372036854775808'],
    [{ limit: '1' }, 'limit must be a whole number of 64 bits, not a string'],
    [{ segments: [1, '2'] }, 'segments must be a whole number of 64 bits, not a string'],
    [{ filter: 5 }, 'filter must be a string, not 5'],
    [{ start: new Date() }, 'start must be a string, not an object'],
    [{ resetIndex: 'true' }, 'resetIndex must be true or false, not a string'],
    [{ followMs: '5' }, 'followMs must be a number, not a string'],
    [{ table: 5 }, 'table must be a string, not 5'],
    [{ backend: ['kv'] }, 'backend must be a string, not a list'],
    [{ session: 'x' }, 'session must be an object, not a string'],
    [{ session: { password: 5 } }, 'session.password must be a string, not 5'],
  ])('%o is refused by its name', async (request, what) => {
    expect(await textOf(() => rowsOf(request))).toBe(`INVALID_ARGUMENT: ${what}`)
    const messages = new RequestMessages({})
    expect(await textOf(async () => messages.read(untyped(request)))).toBe(`INVALID_ARGUMENT: ${what}`)
    expect(await textOf(async () => messages.readBytes(untyped(request)))).toBe(`INVALID_ARGUMENT: ${what}`)
  })

  test('of the other verbs is refused, too', async () => {
    const table = { backend: 'kv', table: 't' }
    const create = (more: object) => textOf(() => engine.create(untyped({ backend: 'stream', table: 's', ...more })))
    expect(await create({ shards: 1.5 })).toBe('INVALID_ARGUMENT: shards must be a whole number of 64 bits, not 1.5')
    expect(await create({ ifExists: 'maybe' })).toBe(
      `INVALID_ARGUMENT: ifExists must be 'fail' or 'ignore', not a string`,
    )
    expect(await create({ ifExists: 'IGNORE' })).toContain(`ifExists must be 'fail' or 'ignore' in small letters`)
    expect(await create({ schema: { fields: {} } })).toBe(
      'INVALID_ARGUMENT: schema.fields must be a list, not an object',
    )
    expect(await create({ schema: { fields: [{ properties: { ttl: [] } }] } })).toBe(
      'INVALID_ARGUMENT: schema.fields.properties.ttl must be a string, number, bigint, boolean or time, not a list',
    )
    expect(await textOf(() => engine.delete(untyped({ ...table, metrics: 'cpu' })))).toContain('metrics must be a list')
    expect(await textOf(() => engine.openWrite(untyped({ ...table, saveMode: 1 })))).toContain(
      'saveMode must be a string',
    )
    const args = { key: {} }
    expect(await textOf(() => engine.execute(untyped({ ...table, command: 'get', args })))).toContain(
      'args.key must be a',
    )
    const history = async () => {
      for await (const _ of engine.history(untyped({ minDuration: 'x' }))) throw new Error('there should be no frame')
    }
    expect(await textOf(history)).toContain('minDuration must be a whole number')
    expect(await textOf(() => engine.create(untyped(null)))).toBe(
      'INVALID_ARGUMENT: the request must be an object, not null',
    )
  })

  test('without the name of a backend, a table or a command misses them', async () => {
    expect(await textOf(() => engine.delete(untyped({})))).toBe('UNKNOWN_BACKEND: unknown backend - ')
    expect(await textOf(() => rowsOf({ table: undefined }))).toBe('MISSING_PARAMETER: the table has no name')
    const execute = () => engine.execute(untyped({ backend: 'kv', table: 't' }))
    expect(await textOf(execute)).toContain(`doesn't support execute command ''`)
  })
})

test('an option that no engine has is refused, and two backends of one name', async () => {
  expect(await textOf(() => openEngine(untyped({ datadir: 'data' })))).toBe(
    "INVALID_ARGUMENT: an engine has no option 'datadir'; it has dataDir, backends, memoryByteLength, workerCount, history, report, container, nowMs",
  )
  const backends = [{ type: 'kv' }, { type: 'tsdb', name: 'kv' }]
  expect(await textOf(() => openEngine({ backends }))).toBe("INVALID_ARGUMENT: two backends are named 'kv'")
})

test('what is no frame is refused, and nothing is left open', async () => {
  const write = (frames: unknown) => textOf(() => engine.write({ backend: 'kv', table: 'n' }, untyped<Frame>(frames)))
  for (const frames of [null, undefined, 5, 'text', { a: 1 }]) {
    expect(await write(frames)).toBe(
      'INVALID_ARGUMENT: what is to be written is no Frame and no list of them; frameFromRows makes one of row objects',
    )
  }
  expect(await write([{ k: 'a' }])).toBe(
    'INVALID_ARGUMENT: what is to be written is no Frame; frameFromRows makes one of row objects',
  )
  const session = await engine.openWrite({ backend: 'kv', table: 'n' })
  expect(await textOf(() => session.add(untyped({ k: 'a' })))).toBe(
    'INVALID_ARGUMENT: what is to be written is no Frame',
  )
  session.abort()
})

test('null is the same as absent, and a whole number is as good as a bigint', async () => {
  expect(await rowsOf({ filter: null, limit: null, columns: null, session: null })).toBe(2)
  expect(await rowsOf({ limit: 1, session: { user: null } })).toBe(1)
  const request = { backend: 'kv', table: 't', segments: [1, 2n], limit: 3, filter: null, args: { a: null, b: 1 } }
  expect(shapedRequest(request)).toEqual({ backend: 'kv', table: 't', segments: [1n, 2n], limit: 3n, args: { b: 1 } })
  expect(request.limit).toBe(3)
})

test('a request that is right is not copied, and fields that no request has are left alone', () => {
  const request = { backend: 'kv', table: 't', limit: 1n, own: { of: 'the program' } }
  expect(shapedRequest(request, ['backend', 'table'])).toBe(request)
})

test('a field whose name is nearly that of a request is refused, with the name that was meant', () => {
  const meant: Record<string, string> = {
    tabel: 'table',
    colums: 'columns',
    group_by: 'groupBy',
    if_exists: 'ifExists',
    Filter: 'filter',
    agregators: 'aggregators',
  }
  for (const [name, known] of Object.entries(meant)) {
    expect(() => shapedRequest({ backend: 'kv', [name]: 'x' })).toThrow(
      `a request has no field '${name}'; did you mean ${known}?`,
    )
  }
  // A sentence that ends with a question mark gets no full stop.
  expect(() => shapedRequest({ backend: 'kv', colums: 'x' })).toThrow(/did you mean columns\? [A-Z]/)
  for (const name of ['en', 'rates2', 'note', 'labels', 'x']) {
    expect(shapedRequest({ backend: 'kv', [name]: 'x' })).toEqual({ backend: 'kv', [name]: 'x' })
  }
})
