// What nobody should write to a key-value table, and some do: strange and long keys, too many columns, huge values.
import { afterAll, beforeAll, expect, test } from 'vitest'
import { columnOfCells, type Engine, Frame, type FramesError, labelColumn, openEngine } from '../dist/engine/index.js'
import { frameOf, itemsOf, type KvRequest, namesOf } from './kv-table.js'

let engine: Engine
let tableCount = 0

beforeAll(async () => {
  engine = await openEngine({ workerCount: 2, memoryByteLength: 2 ** 29, report: () => undefined })
})
afterAll(async () => {
  await engine.close()
})

const newTable = (): KvRequest => ({ backend: 'kv', table: `table${tableCount++}` })
const write = (request: KvRequest, frame: Frame, more: object = {}) =>
  engine.write({ ...request, saveMode: 'updateItem', ...more }, frame)
const failureOf = (promise: Promise<unknown>) =>
  promise.then(
    () => ({ code: 'none', what: '' }),
    ({ code, what }: FramesError) => ({ code, what }),
  )

test('any text is a key, reads back as written, and is no path', async () => {
  const table = newTable()
  const keys = [
    ...[
      'a/b',
      '../../etc/passwd',
      '..',
      '.',
      '.#schema',
      'a\0b',
      '\0',
      ' ',
      '\n',
      '%2F',
      'a=1/b',
      "'; DROP",
      '😀',
      '\ufeff',
    ],
    ...[
      'k'.repeat(10_000),
      `${'é'.repeat(5000)}.x`,
      '__name',
      'null',
      'True',
      '1.0',
      '{id}',
      '`',
      '\uffff',
      '\u{10ffff}',
    ],
  ]
  await write(table, frameOf({ n: keys.map((_, i) => BigInt(i)) }, { id: keys }))
  const items = await itemsOf(engine, table)
  expect(new Map(items.map(({ id, n }) => [id, n]))).toEqual(new Map(keys.map((key, i) => [key, BigInt(i)])))
  // In the order of their bytes.
  const sorted = [...keys].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
  expect(await namesOf(engine, table)).toEqual(sorted)
  for (const [i, key] of keys.entries())
    await engine.execute({ ...table, command: 'update', args: { key, expression: `m = ${i}; delete(n)` } })
  expect(new Map((await itemsOf(engine, table)).map(({ id, m }) => [id, m]))).toEqual(
    new Map(keys.map((key, i) => [key, BigInt(i)])),
  )
  expect(
    await write(table, frameOf({ n: keys.map(() => 0n) }, { id: keys }), { saveMode: 'createNewItemsOnly' }),
  ).toEqual({ frameCount: 1, rowCount: keys.length, skippedCount: keys.length })
})

test('a key of more than 64 KiB is refused, with its row', async () => {
  const keys = ['short', 'x'.repeat(65_537)]
  expect(await failureOf(write(newTable(), frameOf({ n: [1n, 2n] }, { id: keys })))).toEqual({
    code: 'VALUE_TOO_LARGE',
    what: 'key "id" of row 1 has 65537 bytes, at most 65536 are allowed',
  })
})

test('100,000 attributes are refused, in one frame and in many', async () => {
  const table = newTable()
  const wide = (start: number, count: number) =>
    frameOf(Object.fromEntries(Array.from({ length: count }, (_, i) => [`a${start + i}`, [1n]])), { id: ['x'] })
  expect((await failureOf(write(table, wide(0, 100_000)))).code).toMatch(/FRAME_TOO_LARGE|TOO_MANY_COLUMNS/)
  await write(table, wide(0, 10_000))
  expect(await failureOf(write(table, wide(10_000, 10_000)))).toMatchObject({
    code: 'TOO_MANY_COLUMNS',
    what: 'failed to merge schema: the table would have 20001 columns; at most 16384 are possible',
  })
  for await (const frame of engine.read({ ...table, columns: ['a0', 'a9999'], filter: 'exists(a5000)' }))
    expect([...frame.rows()]).toEqual([{ a0: 1n, a9999: 1n }])
})

test('a value of 64 MiB is refused, one of 16 MiB is stored and read back', async () => {
  const table = newTable()
  const big = 'x'.repeat(16 * 2 ** 20)
  expect(await failureOf(write(table, frameOf({ n: ['y', big + big + big + big] }, { id: ['a', 'b'] })))).toEqual({
    code: 'VALUE_TOO_LARGE',
    what: "column 'n' has a value of 67108864 bytes in row 1, at most 16777216 are allowed",
  })
  await write(table, frameOf({ n: [big] }, { id: ['a'] }))
  await write(table, frameOf({ m: [1n] }, { id: ['a'] }))
  const [item] = await itemsOf(engine, table)
  expect([item?.['m'], String(item?.['n']).length]).toEqual([1n, big.length])
})

test('a label that repeats a long text in many rows is refused before memory is gone', async () => {
  const text = 'x'.repeat(2 ** 20)
  const index = columnOfCells(
    'id',
    'int64',
    Array.from({ length: 4096 }, (_, i) => BigInt(i)),
  )
  const frame = new Frame({ columns: [labelColumn('n', text, 4096)], indices: [index] })
  expect((await failureOf(write(newTable(), frame))).code).toMatch(/FRAME_TOO_LARGE|MEMORY_BUDGET/)
})

test('more partitions than a frame may have are refused, as many as it may have are stored', async () => {
  const table = newTable()
  const rows = (count: number) => {
    const numbers = Array.from({ length: count }, (_, i) => BigInt(i))
    return frameOf({ p: numbers }, { id: numbers })
  }
  expect(await failureOf(write(table, rows(65_537), { partitionKeys: ['p'] }))).toEqual({
    code: 'FRAME_TOO_LARGE',
    what: 'the rows of the frame go to 65537 partitions, at most 65536 are allowed',
  })
  await write(table, rows(20_000), { partitionKeys: ['p'] })
  expect((await itemsOf(engine, table)).length).toBe(20_000)
})

test('a frame of a million rows is one write', async () => {
  const table = newTable()
  const numbers = Array.from({ length: 1_000_000 }, (_, i) => BigInt(i))
  expect(await write(table, frameOf({ n: numbers }, { id: numbers }))).toMatchObject({ rowCount: 1_000_000 })
  const once = frameOf({ n: numbers.slice(0, 100_000) }, { id: numbers.slice(0, 100_000) })
  expect(await write(table, once, { condition: 'n == {n} AND n % 2 == 0', expression: 'n = -1 - n' })).toMatchObject({
    skippedCount: 50_000,
  })
  let negative = 0
  for await (const frame of engine.read({ ...table, filter: 'n < 0', columns: ['n'] })) negative += frame.length
  expect(negative).toBe(50_000)
})

test.for([
  "n > 'text'",
  "n == 'text' OR s > 5",
  'n / 0 == 1',
  'length(n) > 1',
  'n[3] == 1',
  'starts(n, s)',
  'NOT n',
  'n AND s',
  't < 5',
])('a filter or condition %j that makes no sense for an item is false for it, and fails nothing', async (filter) => {
  const table = newTable()
  await write(table, frameOf({ n: [1n], s: ['x'], t: [{ timeNs: 0n }] }, { id: ['a'] }))
  const isTrue = filter === 'NOT n'
  const result = await write(table, frameOf({ m: [1n] }, { id: ['a'] }), { condition: filter })
  expect(result.skippedCount).toBe(isTrue ? 0 : 1)
  await engine.delete({ ...table, filter })
  expect((await itemsOf(engine, table)).length).toBe(isTrue ? 0 : 1)
})

test('wire bytes that are no frame fail the write and nothing else', async () => {
  const table = newTable()
  await write(table, frameOf({ n: [1n] }, { id: ['a'] }))
  for (const bytes of [Buffer.from([0xff]), Buffer.from('0a03120178', 'hex'), Buffer.alloc(100, 0x0a)]) {
    const session = await engine.openWrite({ ...table, saveMode: 'updateItem' })
    const failure = await failureOf(session.addWire(bytes).then(() => session.finish()))
    expect(failure.code).toMatch(/MALFORMED_FRAME|FRAME_SHAPE|INVALID_ARGUMENT/)
    session.abort()
  }
  expect(await itemsOf(engine, table)).toEqual([{ id: 'a', n: 1n }])
})
