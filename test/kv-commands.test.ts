// The commands that read kv tables, through the engine: get, count, aggregate, stats, infer.
import { afterEach, expect, test } from 'vitest'
import { inferSchema } from '../dist/engine/backends/kv/infer.js'
import { type Engine, frameFromRows, openEngine } from '../dist/engine/index.js'
import type { Value } from '../dist/engine/frame/dtype.js'
import { loadKernels, createMemory } from '../dist/engine/kernels/kernels.js'
import { scanFrame } from '../dist/engine/codec/wire.js'
import { Scratch } from '../dist/engine/memory/scratch.js'
import { plainRows } from './kv-read-fixture.js'

const open: Engine[] = []
afterEach(async () => {
  for (const engine of open.splice(0)) await engine.close()
})

const people = { backend: 'kv', table: 'people' }

async function engineWithPeople(): Promise<Engine> {
  const engine = await openEngine({ workerCount: 2 })
  open.push(engine)
  const rows = [
    { name: 'mike', age: 40n, city: 'LA', w: 1.5 },
    { name: 'joe', age: 50n, city: 'NY', w: Number.NaN },
    { name: 'ann', age: 7n, city: null, w: -2 },
  ]
  await engine.write({ ...people, saveMode: 'updateItem' }, frameFromRows(rows, ['name']))
  return engine
}

type Arguments = Readonly<Record<string, Value | readonly Value[]>>

async function rowsOf(engine: Engine, command: string, args: Arguments, request = people): Promise<unknown[]> {
  const frame = await engine.execute({ ...request, command, args })
  return frame === null ? [] : plainRows([frame])
}

test('get gives items by name as a read without columns would, in the order of the names', async () => {
  const engine = await engineWithPeople()
  const frame = await engine.execute({ ...people, command: 'get', args: { keys: ['mike', 'zoe', 'ann'] } })
  expect(frame!.indices.map(({ name }) => name)).toEqual(['name'])
  expect(plainRows([frame!])).toEqual([
    { name: 'mike', age: 40n, city: 'LA', w: 1.5 },
    { name: 'ann', age: 7n, city: null, w: -2 },
  ])
  expect(await rowsOf(engine, 'get', { key: 'joe' })).toEqual([{ name: 'joe', age: 50n, city: 'NY', w: Number.NaN }])
  expect(await rowsOf(engine, 'get', { keys: '["ann","joe"]', columns: 'age' })).toEqual([{ age: 7n }, { age: 50n }])
  expect(await rowsOf(engine, 'get', { keys: 'ann', columns: ['city', 'age'] })).toEqual([{ age: 7n, city: null }])
  expect(await rowsOf(engine, 'get', { key: 'zoe' })).toEqual([])
  await expect(rowsOf(engine, 'get', {})).rejects.toThrow("needs an argument 'key' or 'keys'")
  await expect(rowsOf(engine, 'get', { keys: '[1' })).rejects.toThrow("argument 'keys' is no JSON list")
  await expect(rowsOf(engine, 'get', { key: 'joe', columns: 'zip' })).rejects.toThrow("column 'zip' doesn't exist")
})

test('calls of get at one moment are each answered with their own items', async () => {
  const engine = await engineWithPeople()
  const names = ['mike', 'joe', 'ann', 'zoe']
  const calls = Array.from({ length: 400 }, (_, i) => names[(i * 7) % 4]!)
  const answers = await Promise.all(calls.map((key) => rowsOf(engine, 'get', { key, columns: 'age' })))
  const ages: Record<string, bigint> = { mike: 40n, joe: 50n, ann: 7n }
  calls.forEach((key, i) => {
    expect(answers[i]).toEqual(key === 'zoe' ? [] : [{ age: ages[key] }])
  })
})

test('keys of other types are written as item names are', async () => {
  const engine = await engineWithPeople()
  const cases: readonly { table: string; key: Value; text: string }[] = [
    { table: 'ints', key: 2n ** 53n + 1n, text: '[9007199254740993]' },
    { table: 'floats', key: 1, text: '[1.0]' },
    { table: 'bools', key: true, text: '[true]' },
    { table: 'times', key: { timeNs: 1_500_000_000_000_000_000n }, text: '["2017-07-14T02:40:00Z"]' },
  ]
  for (const { table, key, text } of cases) {
    const request = { backend: 'kv', table }
    await engine.write(request, frameFromRows([{ k: key, v: 1n }], ['k']))
    expect(await rowsOf(engine, 'get', { key }, request)).toEqual([{ k: key, v: 1n }])
    expect(await rowsOf(engine, 'get', { keys: [key] }, request)).toEqual([{ k: key, v: 1n }])
    expect(await rowsOf(engine, 'get', { keys: text }, request)).toEqual([{ k: key, v: 1n }])
  }
})

test('over the wire each caller gets a frame of its own', async () => {
  const engine = await engineWithPeople()
  const bytes = await Promise.all(
    ['mike', 'zoe', 'ann'].map((key) => engine.executeEncoded({ ...people, command: 'get', args: { key } })),
  )
  expect(bytes[1]).toBeNull()
  const kernels = loadKernels(createMemory(64 * 65_536))
  const start = kernels.call.heapBase()
  for (const message of [bytes[0]!, bytes[2]!]) {
    kernels.u8.set(message, start)
    const scratch = new Scratch({ byteOffset: start + 65_536, byteLength: 2 * 2 ** 20 })
    const frame = scanFrame(kernels, { byteOffset: start, byteLength: message.length }, scratch)
    expect([frame.rowCount, frame.columns.map(({ name }) => name)]).toEqual([1, ['age', 'city', 'w']])
  }
})

test('count counts the items that a filter lets through', async () => {
  const engine = await engineWithPeople()
  expect(await rowsOf(engine, 'count', {})).toEqual([{ count: 3n }])
  expect(await rowsOf(engine, 'count', { filter: 'age >= 40' })).toEqual([{ count: 2n }])
  expect(await rowsOf(engine, 'count', { filter: 'NOT exists(city)' })).toEqual([{ count: 1n }])
  await engine.delete({ ...people, filter: "name == 'joe'" })
  expect(await rowsOf(engine, 'count', {})).toEqual([{ count: 2n }])
})

test('aggregates leave out missing cells and text, and NaN makes them NaN', async () => {
  const engine = await engineWithPeople()
  const args = { aggregators: 'count,sum,avg,min,max', columns: 'age' }
  expect(await rowsOf(engine, 'aggregate', { ...args, filter: 'age < 50' })).toEqual([
    { 'count(age)': 2n, 'sum(age)': 47, 'avg(age)': 23.5, 'min(age)': 7, 'max(age)': 40 },
  ])
  expect(await rowsOf(engine, 'aggregate', { aggregators: 'count, avg', columns: 'city,w' })).toEqual([
    { 'count(city)': 2n, 'count(w)': 3n, 'avg(city)': Number.NaN, 'avg(w)': Number.NaN },
  ])
  expect(await rowsOf(engine, 'aggregate', { aggregators: 'count' })).toEqual([{ count: 3n }])
  expect(await rowsOf(engine, 'aggregate', { ...args, filter: 'age > 99' })).toEqual([
    {
      'count(age)': 0n,
      'sum(age)': Number.NaN,
      'avg(age)': Number.NaN,
      'min(age)': Number.NaN,
      'max(age)': Number.NaN,
    },
  ])
  await expect(rowsOf(engine, 'aggregate', { aggregators: 'median', columns: 'age' })).rejects.toThrow(
    "aggregator 'median'",
  )
  await expect(rowsOf(engine, 'aggregate', { aggregators: 'avg' })).rejects.toThrow("needs an argument 'columns'")
  await expect(rowsOf(engine, 'aggregate', { ...args, columns: 'zip' })).rejects.toThrow("column 'zip' doesn't exist")
})

test('stats tell how many items there are', async () => {
  const engine = await engineWithPeople()
  await engine.write({ ...people, saveMode: 'updateItem' }, frameFromRows([{ name: 'joe', age: 51n }], ['name']))
  const [row] = await rowsOf(engine, 'stats', {})
  expect(row).toMatchObject({ items: 3n, dead_rows: 1n, fields: 4n, key: 'name', sorting_key: '' })
})

test('infer makes a schema for items without one, and reads go on with it', async () => {
  const engine = await engineWithPeople()
  const table = { backend: 'kv', table: 'made' }
  const update = (key: string, expression: string) =>
    engine.execute({ ...table, command: 'update', args: { key, expression } })
  await update('rocky', "name='rocky'; animal='dog'; age=2")
  await update('mocha', "name='mocha'; animal='dog'; age=3.5")
  const read = async () => {
    const rows: unknown[] = []
    for await (const frame of engine.read(table)) rows.push(...plainRows([frame]))
    return rows
  }
  await expect(read()).rejects.toThrow("use the `execute` 'infer' command")
  for (const command of ['infer', ' Infer_Schema ', 'inferschema'])
    expect(await engine.execute({ ...table, command })).toBeNull()
  expect(await read()).toEqual([
    { name: 'mocha', animal: 'dog', age: 3.5 },
    { name: 'rocky', animal: 'dog', age: 2 },
  ])
})

test('infer looks at as many items as the engine is told', async () => {
  const table = { backend: 'kv', table: 'drifting' }
  for (const [inferItemCount, fields] of [
    [undefined, 2n],
    [12, 3n],
  ] as const) {
    const backends = [{ type: 'kv', ...(inferItemCount === undefined ? {} : { inferItemCount }) }]
    const engine = await openEngine({ workerCount: 1, backends })
    open.push(engine)
    for (let i = 10; i < 22; i++) {
      const expression = i < 21 ? `k='${i}'; n=0` : `k='${i}'; late=1`
      await engine.execute({ ...table, command: 'update', args: { key: `${i}`, expression } })
    }
    await engine.execute({ ...table, command: 'infer' })
    expect(await rowsOf(engine, 'stats', {}, table)).toMatchObject([{ fields }])
  }
})

/** Items as names with the values of some attributes, and what is inferred of them. */
const inferred: readonly {
  readonly what: string
  readonly items: Readonly<Record<string, Readonly<Record<string, Value>>>>
  readonly expected: readonly [key: string, sortingKey: string, buckets: number]
}[] = [
  {
    what: 'a key',
    items: { rocky: { name: 'rocky', animal: 'dog', age: 2n }, mocha: { name: 'mocha', animal: 'dog', age: 3n } },
    expected: ['name', '', 0],
  },
  {
    what: 'a key and a sorting key',
    items: {
      'rocky.dog': { name: 'rocky', animal: 'dog' },
      'mocha.dog': { name: 'mocha', animal: 'dog' },
      'mocha.cat': { name: 'mocha', animal: 'cat' },
    },
    expected: ['name', 'animal', 0],
  },
  {
    what: 'a key with a dot',
    items: { 'rock.y': { name: 'rock.y', suffix: 'y' }, 'moch.a': { name: 'moch.a', suffix: 'a' } },
    expected: ['name', '', 0],
  },
  {
    what: 'an integer key with a sorting key',
    items: { '1.dog': { id: 1n, animal: 'dog' }, '2.dog': { id: 2n, animal: 'dog' } },
    expected: ['id', 'animal', 0],
  },
  {
    what: 'a hashed key',
    items: { 'rocky_2.dog': { name: 'rocky', animal: 'dog' }, 'mocha_4.cat': { name: 'mocha', animal: 'cat' } },
    expected: ['name', 'animal', 64],
  },
  {
    what: 'a key that looks hashed',
    items: { 'rocky_2.dog': { name: 'rocky_2', animal: 'dog' } },
    expected: ['name', 'animal', 0],
  },
  { what: 'a float key', items: { '5.0': { id: 5 }, '1.5': { id: 1.5 } }, expected: ['id', '', 0] },
  { what: 'a bool key', items: { True: { b: true }, False: { b: false } }, expected: ['b', '', 0] },
  { what: 'a name that ends with a dot', items: { 'a.': { k: 'a.' } }, expected: ['k', '', 0] },
]

function inferOf(items: Readonly<Record<string, Readonly<Record<string, Value>>>>, key = '') {
  const samples = Object.entries(items).map(([name, cells]) => ({ name, attributes: new Map(Object.entries(cells)) }))
  return inferSchema(samples, key)
}

test.each(inferred)('infer finds $what', ({ items, expected }) => {
  const { key, sortingKey, hashingBucketNum, fields } = inferOf(items)
  expect([key, sortingKey, hashingBucketNum]).toEqual(expected)
  for (const { name, nullable } of fields) expect(nullable).toBe(name !== key && name !== sortingKey)
})

test('infer says why it cannot tell, and takes a key that fits when it is named', () => {
  const twins = { a: { name: 'a', second_name: 'a', n: 1n }, b: { name: 'b', second_name: 'b', n: 2.5 } }
  expect(() => inferOf(twins)).toThrow(
    "could not determine which column is the table's primary-key attribute, because 2 columns (name, second_name) match the primary-key attribute",
  )
  expect(inferOf(twins, 'name')).toMatchObject({ key: 'name', sortingKey: '' })
  expect(inferOf(twins, 'name').fields.find(({ name }) => name === 'n')!.type).toBe('double')
  expect(() => inferOf(twins, 'n')).toThrow('n is not one of the optional key columns')
  expect(() => inferOf({})).toThrow('because no column matches the primary-key attribute')
  expect(() => inferOf({ a: { v: 1n }, b: { v: 'x' } })).toThrow(
    "type 'int' of value '1' doesn't match type 'string' of value 'x' for column 'v'.",
  )
})
