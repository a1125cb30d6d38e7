// The engine in the hands of a program in plain JavaScript, whose mistakes no compiler finds: each is refused by name, and
// nothing is stored, lost or waited for without a word.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { connect } from '../dist/client/index.js'
import {
  type CallOptions,
  type Engine,
  type EngineOptions,
  Frame,
  frameFromRows,
  fromArrowTable,
  labelColumn,
  openEngine,
  sliceColumn,
  toArrowTable,
} from '../dist/engine/index.js'

const folder = mkdtempSync(join(tmpdir(), 'framesd-misuse-'))
const MiB = 2 ** 20
let engine: Engine
beforeAll(async () => {
  engine = await openEngine({ workerCount: 1, memoryByteLength: 64 * MiB })
  await engine.write({ backend: 'kv', table: 't' }, frameFromRows([{ k: 'a', n: 1n }], ['k']))
})
afterAll(async () => {
  await engine.close()
  rmSync(folder, { recursive: true, force: true })
})

const request = (table: string) => ({ backend: 'kv', table })
const keys = (count: number) =>
  sliceColumn(
    'k',
    Array.from({ length: count }, (_, i) => `${i}`),
    'string',
  )

async function rowsOf(table: string, options?: object): Promise<object[]> {
  const rows: object[] = []
  for await (const frame of engine.read(request(table), options)) rows.push(...frame.rows())
  return rows
}

test.each<[string, unknown]>([
  ['no object', null],
  ['a text', 'data'],
  ['a folder that is no text', { dataDir: 5 }],
  ['more threads than a machine bears', { workerCount: 100_000 }],
  ['a number of threads as text', { workerCount: '2' }],
  ['backends that are no list', { backends: 'kv' }],
  ['a backend that is none', { backends: [null] }],
  ['a backend by its name alone', { backends: ['kv'] }],
  ['an option of a backend misspelt', { backends: [{ type: 'csv', rootdir: folder }] }],
  ['a ttl that is no text', { backends: [{ type: 'tsdb', ttl: 5 }] }],
  ['a history that is neither options nor false', { history: true }],
  ['a retention that is no number', { history: { retentionMs: '1d' } }],
  ['a report that is no function', { report: 'x' }],
  ['a clock that is no function', { nowMs: 5 }],
])('an engine is not opened with %s', async (_, options) => {
  await expect(openEngine(options as EngineOptions)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
})

describe('a call', () => {
  test.each<[string, unknown]>([
    ['options that are null', null],
    ['a signal that is none', { signal: 5 }],
    ['a controller in the place of its signal', { signal: new AbortController() }],
  ])('is refused with %s', async (_, options) => {
    await expect(rowsOf('t', options as object)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
    const writing = engine.write(request('u'), frameFromRows([{ k: 'a', n: 1n }], ['k']), options as object)
    await expect(writing).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  })
})

describe('a write session', () => {
  test('refuses frames once it is finished, because nobody would store them', async () => {
    const session = await engine.openWrite(request('finished'))
    await session.add(frameFromRows([{ k: 'a', n: 1n }], ['k']))
    expect((await session.finish()).rowCount).toBe(1)
    const late = frameFromRows([{ k: 'b', n: 1n }], ['k'])
    await expect(session.add(late)).rejects.toMatchObject({ code: 'PRECONDITION' })
    await expect(session.addWire(new Uint8Array(0))).rejects.toMatchObject({ code: 'PRECONDITION' })
    expect((await session.finish()).rowCount).toBe(1)
  })

  test('refuses what is no bytes', async () => {
    const session = await engine.openWrite(request('bytes'))
    await expect(session.addWire('x' as never)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
    session.abort()
  })
})

describe('a column whose memory is gone', () => {
  test.each<[string, (buffer: ArrayBuffer) => void]>([
    ['transferred', (buffer) => void structuredClone(buffer, { transfer: [buffer] })],
    ['made shorter', (buffer) => (buffer as ArrayBuffer & { resize(byteLength: number): void }).resize(8)],
  ])('(%s) is refused, and nothing is stored', async (how, take) => {
    const options = { maxByteLength: 24 }
    const buffer: ArrayBuffer = Reflect.construct(ArrayBuffer, [24, options])
    const frame = new Frame({ columns: [sliceColumn('n', new Float64Array(buffer))], indices: [keys(3)] })
    take(buffer)
    const writing = engine.write(request(`gone-${how}`), frame)
    await expect(writing).rejects.toMatchObject({ code: 'FRAME_SHAPE' })
    await expect(rowsOf(`gone-${how}`)).rejects.toMatchObject({ code: 'TABLE_NOT_FOUND' })
  })
})

test.each<[string, unknown, unknown, string]>([
  ['rows that are no list', null, [], 'INVALID_ARGUMENT'],
  ['a row that is no object', [5], [], 'INVALID_ARGUMENT'],
  ['an index by its name alone', [{ time: 1 }], 'time', 'INVALID_ARGUMENT'],
  ['an index that no row has', [{ time: 1 }], ['Time'], 'COLUMN_NOT_FOUND'],
])('a frame is not made of %s', (_, rows, indexNames, code) => {
  expect(() => frameFromRows(rows as [], indexNames as [])).toThrow(expect.objectContaining({ code }))
})

test.each<[unknown, string]>([
  [{ container: 'users' }, "a client has no option 'container'; it has session, messageByteLengthMax"],
  [{ session: { contaner: 'users' } }, "the session of a client has no option 'contaner'; it has url, container"],
  [{ session: { container: 5 } }, "the option 'container' of the session of a client must be a string"],
  [{ session: 'users' }, "the option 'session' of a client must be an object"],
  [{ messageByteLengthMax: '1' }, "the option 'messageByteLengthMax' of a client must be a number"],
  [null, 'the options of a client are no object'],
])('a client is not made with options %j', (options, message) => {
  const failure = { code: 'INVALID_ARGUMENT', message: expect.stringContaining(message) as string }
  for (const address of ['127.0.0.1:1', 'http://127.0.0.1:1'])
    expect(() => connect(address, options as object)).toThrow(expect.objectContaining(failure))
})

describe('a text with half a surrogate pair, which UTF-8 does not have', () => {
  test('is no key and no value: two of them would be one item', () => {
    const rows = ['\ud800', '\ud801'].map((k) => ({ k, n: 1n }))
    expect(() => frameFromRows(rows, ['k'])).toThrow(expect.objectContaining({ code: 'VALUE_TYPE' }))
    expect(() => labelColumn('k', 'a\udc00', 1)).toThrow(expect.objectContaining({ code: 'VALUE_TYPE' }))
    expect([...frameFromRows([{ k: 'ä😀\ufffd' }]).rows()]).toEqual([{ k: 'ä😀\ufffd' }])
  })

  test('is no name of a column or index, and no label', () => {
    const column = (name: string) => sliceColumn(name, BigInt64Array.of(1n))
    const refused = expect.objectContaining({ code: 'VALUE_TYPE' })
    expect(() => new Frame({ columns: [column('\ud800')] })).toThrow(refused)
    expect(() => new Frame({ columns: [column('n')], indices: [column('\udc00')] })).toThrow(refused)
    expect(() => new Frame({ columns: [column('n')], labels: { a: 'x\ud800' } })).toThrow(refused)
    expect(() => new Frame({ columns: [column('n')], labels: { '\ud800': 'x' } })).toThrow(refused)
    expect(new Frame({ columns: [column('😀')], labels: { 'ä😀': '😀' } }).names).toEqual(['😀'])
  })

  test('is no name of a table, and no argument of a command, nor in a list of them', async () => {
    const frame = frameFromRows([{ k: 'a', n: 1n }], ['k'])
    await expect(engine.write(request('\ud800'), frame)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
    const update = { ...request('t'), command: 'update', args: { key: '\ud800', expression: 'n=7' } }
    await expect(engine.execute(update)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
    const listed = { ...request('t'), command: 'update', args: { keys: ['a', '\ud800'], expression: 'n=7' } }
    const said = { code: 'INVALID_ARGUMENT', message: expect.stringContaining('args.keys has half') as string }
    await expect(engine.execute(listed)).rejects.toMatchObject(said)
  })
})

test('a write that is finished while frames are still being taken stores them', async () => {
  const session = await engine.openWrite(request('unawaited'))
  const adding = session.add(frameFromRows([{ k: 'a', n: 1n }], ['k']))
  const result = await session.finish()
  await adding
  expect(result.rowCount).toBe(1)
  expect(await rowsOf('unawaited')).toEqual([{ n: 1n }])
})

test.each<[string, unknown]>([
  ['nothing', null],
  ['a number', 5],
  ['a text', 'table'],
  ['an object', {}],
  ['batches alone', { batches: [] }],
  ['a list of frames', [frameFromRows([{ n: 1n }])]],
])('%s is no Arrow table, and no frame that could become one', (_, value) => {
  expect(() => fromArrowTable(value as never)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }))
  expect(() => toArrowTable(value as never)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }))
})

describe('readers that stop', () => {
  const many = frameFromRows(
    Array.from({ length: 20_000 }, (_, i) => ({ k: `${i}`, s: 'x'.repeat(50) })),
    ['k'],
  )
  const readings: [string, (options: CallOptions) => AsyncIterable<unknown>][] = [
    ['frames', (options) => engine.read({ ...request('many'), messageLimit: 100n }, options)],
    ['messages', (options) => engine.readEncoded({ ...request('many'), messageLimit: 100n }, 'wire', options)],
    ['batches', (options) => engine.readBatches({ ...request('many'), messageLimit: 100n }, options)],
    ['JSON', (options) => engine.readEncoded({ ...request('many'), messageLimit: 100n }, 'json', options)],
    ['Arrow', (options) => engine.readEncoded({ ...request('many'), messageLimit: 100n }, 'arrow', options)],
  ]
  beforeAll(() => engine.write(request('many'), many))

  test.each(readings)('of %s in the middle, many times, give back all memory', async (_, read) => {
    for (let round = 0; round < 30; round++) {
      let count = 0
      for await (const _ of read({})) if (count++ === round % 4) break
      const controller = new AbortController()
      const cancelled = (async () => {
        for await (const _ of read({ signal: controller.signal })) controller.abort()
      })()
      await expect(cancelled).rejects.toMatchObject({ code: 'CANCELLED' })
    }
    await expect.poll(() => engine.statistics().memory.arenas).toMatchObject({ byteLengthUsed: 0, allocationCount: 0 })
  })

  test.each(readings)('of %s may ask many times at once, and get each answer once', async (_, read) => {
    let count = 0
    for await (const _ of read({})) count++
    const iterator = read({})[Symbol.asyncIterator]()
    const answers = await Promise.all(Array.from({ length: count + 20 }, () => iterator.next()))
    expect(answers.map(({ done }) => done === true)).toEqual(answers.map((_, i) => i >= count))
  })
})

test('what is open while an engine is closed: frames and reads are refused at once, and what counts as stored is there', async () => {
  const options: EngineOptions = { workerCount: 1, memoryByteLength: 64 * MiB, dataDir: join(folder, 'closed') }
  const own = await openEngine(options)
  const frame = frameFromRows([{ k: 'a', n: 1n }], ['k'])
  await own.write(request('t'), frame)
  const session = await own.openWrite(request('u'))
  await session.add(frame)
  const reading = own.read(request('t'))
  await own.close()
  await expect(session.add(frame)).rejects.toMatchObject({ code: 'SHUTTING_DOWN' })
  await expect(reading.next()).rejects.toMatchObject({ code: 'SHUTTING_DOWN' })
  const storedCount = await session.finish().then(
    ({ rowCount }) => rowCount,
    () => 0,
  )
  const again = await openEngine(options)
  let rowCount = 0
  if (storedCount > 0) for await (const { length } of again.read(request('u'))) rowCount += length
  await again.close()
  expect(rowCount).toBe(storedCount)
})
