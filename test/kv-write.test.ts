// Writes to key-value tables through the engine: what each save mode, condition and expression makes of the items, and what
// is refused in which words.
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Engine, type Frame, type FramesError, openEngine, type WriteRequest } from '../dist/engine/index.js'
import { columnsRead, frameOf, itemsOf, type KvRequest, namesOf } from './kv-table.js'

let engine: Engine
let tableCount = 0
let nowMs = 1_700_000_000_000
const reports: string[] = []

beforeAll(async () => {
  engine = await openEngine({ workerCount: 2, nowMs: () => nowMs, report: (message) => reports.push(message) })
})
afterAll(async () => {
  await engine.close()
})

function newTable(): KvRequest {
  return { backend: 'kv', table: `table${tableCount++}` }
}

const write = (request: KvRequest, frames: Frame | Frame[], more: Partial<WriteRequest> = {}) =>
  engine.write({ ...request, saveMode: 'createNewItemsOnly', ...more }, frames)

async function failureOf(promise: Promise<unknown>): Promise<{ code: string; what: string }> {
  const error = await promise.then(
    () => null,
    (reason: FramesError) => reason,
  )
  if (error === null) throw new Error('it should have failed')
  return { code: error.code, what: error.what }
}

const two = frameOf({ n1: [1n, 2n], n2: ['a', null] }, { idx: ['mike', 'joe'] })

describe('save modes', () => {
  test('createNewItemsOnly makes items that are not there, and skips and counts those that are', async () => {
    const table = newTable()
    expect(await write(table, two)).toEqual({ frameCount: 1, rowCount: 2, skippedCount: 0 })
    const more = frameOf({ n1: [9n, 9n, 9n], n3: ['new', 'new', 'new'] }, { idx: ['joe', 'zoe', 'mike'] })
    expect(await write(table, more)).toEqual({ frameCount: 1, rowCount: 3, skippedCount: 2 })
    expect(await itemsOf(engine, table)).toEqual([
      { idx: 'joe', n1: 2n },
      { idx: 'mike', n1: 1n, n2: 'a' },
      { idx: 'zoe', n1: 9n, n3: 'new' },
    ])
  })

  test('updateItem sets what is there, removes what is null, and keeps what the frame does not have', async () => {
    const table = newTable()
    await write(table, two)
    const update = frameOf({ n1: [null, 7n], n3: [1.5, null] }, { idx: ['mike', 'zoe'] })
    expect(await write(table, update, { saveMode: 'updateItem' })).toMatchObject({ rowCount: 2, skippedCount: 0 })
    expect(await itemsOf(engine, table)).toEqual([
      { idx: 'joe', n1: 2n },
      { idx: 'mike', n2: 'a', n3: 1.5 },
      { idx: 'zoe', n1: 7n },
    ])
  })

  test('updateItem removes the attribute of a column that is all null', async () => {
    const table = newTable()
    await write(table, two)
    await write(table, frameOf({ n1: [null, null], x: [true, false] }, { idx: ['mike', 'joe'] }), {
      saveMode: 'updateItem',
    })
    expect(await itemsOf(engine, table)).toEqual([
      { idx: 'joe', x: false },
      { idx: 'mike', n2: 'a', x: true },
    ])
  })

  test('overwriteItem leaves nothing of the old item', async () => {
    const table = newTable()
    await write(table, two)
    const whole = frameOf({ n3: [1.5, null], n1: [null, 4n] }, { idx: ['mike', 'joe'] })
    await write(table, whole, { saveMode: 'overwriteItem' })
    expect(await itemsOf(engine, table)).toEqual([
      { idx: 'joe', n1: 4n },
      { idx: 'mike', n3: 1.5 },
    ])
  })

  test.for(['', 'errorIfTableExists'])('mode %j makes a table once', async (saveMode) => {
    const table = newTable()
    await write(table, two, { saveMode })
    expect(await failureOf(write(table, two, { saveMode }))).toEqual({
      code: 'TABLE_EXISTS',
      what: `table '${table.table}/' already exists; either use a differnet save mode or save to a different table`,
    })
  })

  test('errorIfTableExists refuses a folder that has items or tables and no schema', async () => {
    const table = newTable()
    const what = `folder '${table.table}/' already exists; you can't write to an existing folder unless it already contains a schema file`
    await write({ ...table, table: `${table.table}/below` }, two)
    expect(await failureOf(write(table, two, { saveMode: '' }))).toEqual({ code: 'TABLE_EXISTS', what })
    await engine.delete({ ...table, table: `${table.table}/below` })
    await engine.execute({ ...table, command: 'update', args: { key: 'a', expression: 'x=1' } })
    expect(await failureOf(write(table, two, { saveMode: '' }))).toEqual({ code: 'TABLE_EXISTS', what })
    await write(table, two)
    expect(await namesOf(engine, table)).toEqual(['a', 'joe', 'mike'])
  })

  test('errorIfTableExists touches no attribute whose cell is null, also within one call', async () => {
    const table = newTable()
    const frames = [two, frameOf({ n1: [null, 5n], n2: ['b', null] }, { idx: ['mike', 'mike'] })]
    await write(table, frames, { saveMode: 'errorIfTableExists' })
    expect(await itemsOf(engine, table)).toEqual([
      { idx: 'joe', n1: 2n },
      { idx: 'mike', n1: 5n, n2: 'b' },
    ])
  })

  test('overwriteTable forgets items, schema and key', async () => {
    const table = newTable()
    await write(table, two)
    await write(table, frameOf({ n1: ['text'] }, { other: [1n] }), { saveMode: 'overwriteTable' })
    expect(await itemsOf(engine, table)).toEqual([{ other: 1n, n1: 'text' }])
  })

  test('overwriteTable shows the old table until all of the new one is there', async () => {
    const table = newTable()
    await write(table, two)
    const before = await itemsOf(engine, table)
    const session = await engine.openWrite({ ...table, saveMode: 'overwriteTable' })
    for (let i = 0; i < 3; i++) {
      await session.add(frameOf({ x: [BigInt(i)] }, { id: [BigInt(i)] }))
      expect(await itemsOf(engine, table)).toEqual(before)
    }
    // Others still write to the old table, which will be gone.
    await write(table, frameOf({ n1: [3n] }, { idx: ['late'] }))
    await session.finish()
    expect(await namesOf(engine, table)).toEqual(['0', '1', '2'])
  })

  test('overwriteTable that is given up or fails changes nothing', async () => {
    const table = newTable()
    await write(table, two)
    const before = await itemsOf(engine, table)
    const session = await engine.openWrite({ ...table, saveMode: 'overwriteTable' })
    await session.add(frameOf({ x: [1n] }, { id: [1n] }))
    session.abort()
    const bad = [frameOf({ x: [1n] }, { id: [1n] }), frameOf({ x: ['a'] }, { id: [1n] })]
    expect((await failureOf(write(table, bad, { saveMode: 'overwriteTable' }))).code).toBe('INVALID_ARGUMENT')
    expect(await itemsOf(engine, table)).toEqual(before)
  })

  test('overwriteTable without a frame leaves no table', async () => {
    const table = newTable()
    await write(table, two)
    await write(table, [], { saveMode: 'overwriteTable' })
    expect((await failureOf(itemsOf(engine, table))).code).toBe('TABLE_NOT_FOUND')
  })

  test('a mode that nobody knows is named', async () => {
    expect(await failureOf(write(newTable(), two, { saveMode: 'replace' }))).toEqual({
      code: 'UNKNOWN_SAVE_MODE',
      what: "no save mode named 'replace'",
    })
  })
})

describe('schema', () => {
  test('a frame gives its fields in order: indices, columns, labels', async () => {
    const table = newTable()
    const time = { timeNs: 5n }
    const frame = frameOf(
      { f: [1.5], s: ['x'], b: [true], t: [time], none: [null] },
      { key: [1n], sort: ['a'] },
      { place: 'here', level: 3n },
    )
    await write(table, frame)
    expect(Object.entries(await columnsRead(engine, table))).toEqual([
      ['key', 'int64'],
      ['sort', 'string'],
      ['f', 'float64'],
      ['s', 'string'],
      ['b', 'bool'],
      ['t', 'time'],
      ['place', 'string'],
      ['level', 'int64'],
    ])
    expect(await itemsOf(engine, table)).toEqual([
      { key: 1n, sort: 'a', f: 1.5, s: 'x', b: true, t: time, place: 'here', level: 3n },
    ])
  })

  test('a frame without rows makes the table, a write without frames makes none', async () => {
    const table = newTable()
    expect(await write(table, [])).toEqual({ frameCount: 0, rowCount: 0, skippedCount: 0 })
    expect((await failureOf(itemsOf(engine, table))).what).toBe(
      `Failed to find a schema for table "/users/${table.table}"; use the \`execute\` 'infer' command to infer the schema and generate a schema file.`,
    )
    expect(await write(table, two.slice(0, 0))).toEqual({ frameCount: 1, rowCount: 0, skippedCount: 0 })
    expect(await itemsOf(engine, table)).toEqual([])
    expect((await failureOf(write(table, two, { saveMode: '' }))).code).toBe('TABLE_EXISTS')
  })

  test('integers become floats, and floats stay when integers come', async () => {
    const table = newTable()
    await write(table, frameOf({ x: [1n] }, { id: [1n] }))
    await write(table, frameOf({ x: [2.5] }, { id: [2n] }))
    await write(table, frameOf({ x: [3n] }, { id: [3n] }))
    expect(await columnsRead(engine, table)).toMatchObject({ x: 'float64' })
    expect((await itemsOf(engine, table)).map(({ x }) => x)).toEqual([1, 2.5, 3])
  })

  test.for<[string, Frame, string]>([
    [
      'the type of a column',
      frameOf({ n1: ['x'] }, { idx: ['a'] }),
      'schema change for column n1 from type long to string is not allowed',
    ],
    [
      'the type of a key',
      frameOf({ n1: [1n] }, { idx: [1n] }),
      'schema change for column idx from type string to long is not allowed',
    ],
    ['the key', frameOf({ n1: [1n] }, { id: ['a'] }), 'changing primary key is not allowed, old: idx, new:id'],
    [
      'the sorting key',
      frameOf({ n1: [1n] }, { idx: ['a'], sort: ['b'] }),
      'changing sorting key is not allowed, old: , new:sort',
    ],
  ])('%s never changes', async ([, frame, detail]) => {
    const table = newTable()
    await write(table, two)
    const before = await itemsOf(engine, table)
    for (const saveMode of ['createNewItemsOnly', 'updateItem', 'overwriteItem'])
      expect(await failureOf(write(table, frame, { saveMode }))).toEqual({
        code: 'INVALID_ARGUMENT',
        what: `failed to merge schema: ${detail}`,
      })
    expect(await itemsOf(engine, table)).toEqual(before)
  })

  test('the schema grows although all rows are skipped', async () => {
    const table = newTable()
    await write(table, two)
    await write(table, frameOf({ more: [1n, 2n] }, { idx: ['mike', 'joe'] }))
    expect(Object.keys(await columnsRead(engine, table))).toEqual(['idx', 'n1', 'n2', 'more'])
  })
})

describe('frames that are refused', () => {
  const long = 'x'.repeat(257)
  const invalidName = 'has an invalid name: letters, digits and _ make one, and no digit begins it'
  test.for<[string, Frame, Partial<WriteRequest>]>([
    ['empty frame', frameOf({}, { idx: ['a'] }), {}],
    ['can only write up to two indices', frameOf({ x: [1n] }, { a: [1n], b: [1n], c: [1n] }), {}],
    ['column number 1 has an empty name', frameOf({ x: [1n], '': [1n] }, { idx: ['a'] }), {}],
    [`column 'a b' ${invalidName}`, frameOf({ 'a b': [1n] }, { idx: ['a'] }), {}],
    [`column '9x' ${invalidName}`, frameOf({ '9x': [1n] }, { idx: ['a'] }), {}],
    [`column '${long}' exceeding maximum allowed attribute name of 256`, frameOf({ [long]: [1n] }, { idx: ['a'] }), {}],
    [`index 'i-d' ${invalidName}`, frameOf({ x: [1n] }, { 'i-d': ['a'] }), {}],
    [`column '${long}' exceeding maximum allowed attribute name of 256`, frameOf({ x: [1n] }, { [long]: ['a'] }), {}],
    [
      `column 'p' does not exist in the dataframe: column "p" not found`,
      frameOf({ x: [1n] }, { p: ['a'] }),
      { partitionKeys: ['p'] },
    ],
    [
      "column 'x' appears more than once as a partition key",
      frameOf({ x: [1n] }, { p: ['a'] }),
      { partitionKeys: ['x', 'x'] },
    ],
    ['invalid input. key "idx" should not be empty (row 1)', frameOf({ x: [1n, 2n] }, { idx: ['a', ''] }), {}],
    [
      'invalid input. sorting key "s" should not be empty (row 0)',
      frameOf({ x: [1n, 2n] }, { idx: ['a', 'b'], s: ['', 'x'] }),
      {},
    ],
  ])('%s', async ([what, frame, more]) => {
    const table = newTable()
    expect(await failureOf(write(table, frame, more))).toEqual({ code: 'INVALID_ARGUMENT', what })
    // Nothing was made: the folder is not there either.
    expect((await failureOf(engine.delete(table))).code).toBe('TABLE_NOT_FOUND')
  })

  test('a column with the name of a key says what the key says, or nothing: what it has else would be lost', async () => {
    const table = newTable()
    const twins = { int64: [1n, 2n], float64: [1.5, 2], string: ['a', 'bc'], bool: [true, false] }
    for (const cells of Object.values(twins)) {
      await write(table, frameOf({ k: cells, n: [1n, 2n] }, { k: cells }), { saveMode: 'overwriteTable' })
      expect((await itemsOf(engine, table)).map(({ k }) => k).sort()).toEqual([...cells].sort())
      await write(table, frameOf({ k: [cells[0]!, null], n: [1n, 2n] }, { k: cells }), { saveMode: 'updateItem' })
      const other = frameOf({ k: [cells[0]!, cells[0]!], n: [3n, 4n] }, { k: cells })
      expect(await failureOf(write(table, other, { saveMode: 'updateItem' }))).toEqual({
        code: 'INVALID_ARGUMENT',
        what: "column 'k' has the name of the table's key and other values (row 1): make it the index",
      })
      expect((await itemsOf(engine, table)).map(({ n }) => n).sort()).toEqual([1n, 2n])
    }
    const numbered = frameOf({ idx: [5n, 6n], n: [1n, 2n] })
    expect((await failureOf(write(newTable(), numbered))).what).toContain(
      "column 'idx' has the name of the table's key",
    )
    const sorted = frameOf({ s: ['x', 'y'], n: [1n, 2n] }, { k: ['a', 'b'], s: [1n, 2n] })
    expect((await failureOf(write(newTable(), sorted))).what).toContain("column 's' has the name of the table's key")
    // An expression stores no column: they are what its placeholders stand for.
    await write(newTable(), numbered, { expression: 'n = {idx}' })
  })

  test('frames before a bad one stay, those behind it are not stored', async () => {
    const table = newTable()
    const frames = ['a', 'b', 'c', 'd'].map((key, i) =>
      i === 2 ? frameOf({ x: ['text'] }, { id: [key] }) : frameOf({ x: [1n] }, { id: [key] }),
    )
    expect((await failureOf(write(table, frames))).code).toBe('INVALID_ARGUMENT')
    expect(await namesOf(engine, table)).toEqual(['a', 'b'])
  })

  test('`more` is refused', async () => {
    expect(await failureOf(write(newTable(), two, { more: true }))).toEqual({
      code: 'REFUSED_PARAMETER',
      what: 'HaveMore cannot be used as an argument to a WriteRequest to kv backend',
    })
  })
})

describe('item names', () => {
  test.for<[string, Frame, string[]]>([
    ['bools', frameOf({ x: [1n, 2n] }, { k: [true, false] }), ['False', 'True']],
    [
      'integers',
      frameOf({ x: [1n, 2n, 3n] }, { k: [-(2n ** 63n), 2n ** 53n + 1n, 0n] }),
      ['-9223372036854775808', '0', '9007199254740993'],
    ],
    [
      'floats',
      frameOf({ x: [1n, 2n, 3n, 4n, 5n, 6n] }, { k: [1, 1.5, -0.25, 1e22, 1e-7, 123456789.12345679] }),
      ['-0.25', '0.0000001', '1.0', '1.5', '10000000000000000000000.0', '123456789.12345679'],
    ],
    [
      'times',
      frameOf({ x: [1n, 2n] }, { k: [{ timeNs: 1_514_764_800_123_000_000n }, { timeNs: -1n }] }),
      ['1969-12-31T23:59:59.999999999Z', '2018-01-01T00:00:00.123Z'],
    ],
    ['strings', frameOf({ x: [1n, 2n, 3n] }, { k: ['a/b', '..', "it's 100 %?="] }), ['..', 'a/b', "it's 100 %?="]],
    ['a key and a sorting key', frameOf({ x: [1n, 2n] }, { k: [1n, 2n], s: [1.5, 2] }), ['1.1.5', '2.2.0']],
  ])('%s', async ([, frame, names]) => {
    const table = newTable()
    await write(table, frame)
    expect(await namesOf(engine, table)).toEqual(names)
  })

  test('rows without an index are numbered over all frames of a write, from 0 in each write', async () => {
    const table = newTable()
    const frame = frameOf({ x: ['a', 'b', 'c'] })
    await write(table, [frame, frame.slice(0, 0), frame], { saveMode: 'updateItem' })
    expect((await itemsOf(engine, table)).map(({ idx, x }) => [idx, x])).toEqual([
      [0n, 'a'],
      [1n, 'b'],
      [2n, 'c'],
      [3n, 'a'],
      [4n, 'b'],
      [5n, 'c'],
    ])
    expect(await write(table, frame)).toMatchObject({ skippedCount: 3 })
  })

  test('an index without a name is the key of the table, or idx', async () => {
    const table = newTable()
    await write(table, frameOf({ x: [1n] }, { '': ['a'] }))
    expect(await itemsOf(engine, table)).toEqual([{ idx: 'a', x: 1n }])
    const named = newTable()
    await write(named, frameOf({ x: [1n] }, { user: ['a'] }))
    await write(named, frameOf({ x: [2n] }, { '': ['b'] }))
    expect(await itemsOf(engine, named)).toEqual([
      { user: 'a', x: 1n },
      { user: 'b', x: 2n },
    ])
  })

  test('a table with a sorting key takes it from a column, or says what is missing', async () => {
    const table = newTable()
    await write(table, frameOf({ x: [1n] }, { k: ['a'], s: ['1'] }))
    await write(table, frameOf({ x: [2n], s: ['2'] }, { k: ['a'] }))
    expect(await namesOf(engine, table)).toEqual(['a.1', 'a.2'])
    expect(await failureOf(write(table, frameOf({ x: [2n] }, { k: ['a'] })))).toEqual({
      code: 'INVALID_ARGUMENT',
      what: "the table has the sorting key 's', and the frame has no second index and no column of that name",
    })
  })
})

describe('conditions', () => {
  test('a row is written where its condition holds for the stored item; others are skipped and counted', async () => {
    const table = newTable()
    await write(table, frameOf({ age: [10n, 20n, 30n] }, { id: ['a', 'b', 'c'] }))
    const frame = frameOf({ age: [11n, 21n, 31n, 41n], seen: [true, true, true, true] }, { id: ['a', 'b', 'c', 'd'] })
    expect(await write(table, frame, { saveMode: 'updateItem', condition: 'age > 14' })).toEqual({
      frameCount: 1,
      rowCount: 4,
      skippedCount: 2,
    })
    expect(await itemsOf(engine, table)).toEqual([
      { id: 'a', age: 10n },
      { id: 'b', age: 21n, seen: true },
      { id: 'c', age: 31n, seen: true },
    ])
  })

  test('a new item is made where the condition holds without it', async () => {
    const table = newTable()
    const frame = frameOf({ age: [10n, 20n] }, { id: ['a', 'b'] })
    await write(table, frame, { saveMode: 'updateItem', condition: 'NOT exists(age) AND {age} > 14' })
    expect(await namesOf(engine, table)).toEqual(['b'])
  })

  test('when all rows are skipped the table is there, and empty', async () => {
    const table = newTable()
    expect(await write(table, two, { condition: 'n1 > 0' })).toMatchObject({ rowCount: 2, skippedCount: 2 })
    expect(await itemsOf(engine, table)).toEqual([])
  })

  test('placeholders are bound values: quotes, braces and operators in them are text', async () => {
    const table = newTable()
    const evil = ["' OR 1==1 OR 'a'=='", "{x}' ; delete(x);", '`x`', 'ünï"cödé\\']
    const ids = evil.map((_, i) => BigInt(i))
    await write(table, frameOf({ s: evil, x: evil }, { id: ids }))
    const wrong = frameOf({ s: evil.map(() => "' OR 1==1 OR 'a'=='x"), x: evil }, { id: ids })
    expect(await write(table, wrong, { saveMode: 'updateItem', condition: '{s} == s' })).toMatchObject({
      skippedCount: 4,
    })
    const right = frameOf({ s: evil, x: evil.map((text) => `${text}!`) }, { id: ids })
    expect(await write(table, right, { saveMode: 'updateItem', condition: 's == {s}' })).toMatchObject({
      skippedCount: 0,
    })
    expect((await itemsOf(engine, table)).map(({ x }) => x)).toEqual(evil.map((text) => `${text}!`))
    await write(table, right, { saveMode: 'updateItem', expression: 'copy = {x}; twice = {s} + {x}' })
    expect((await itemsOf(engine, table)).map(({ copy, twice }) => [copy, twice])).toEqual(
      evil.map((text) => [`${text}!`, `${text}${text}!`]),
    )
  })

  test('placeholders keep their types, also those of indices and of nulls', async () => {
    const table = newTable()
    const time = { timeNs: 1_559_668_665_000_000_001n }
    const frame = frameOf(
      { f: [5], t: [time], b: [true], none: [null], gap: [null] },
      { k: [2n ** 53n + 1n], s: ['x'] },
    )
    await write(table, frame, {
      expression: "f = {f}; t = {t}; b = {b}; k = {k}; s = {s}; g = if_else({b}, 1, {none}); h = str({k}) + '.' + {s}",
      condition: 'NOT ({none} == 0) AND NOT ({gap} == 0) AND {f} == 5',
    })
    await engine.execute({
      ...table,
      command: 'update',
      args: { key: '9007199254740993.x', expression: 'seen = true' },
    })
    await write(table, frameOf({ z: [1n] }, { idx: ['other'] }))
    expect((await itemsOf(engine, table))[0]).toMatchObject({
      ...{ f: 5, t: time, b: true, k: 2n ** 53n + 1n, s: 'x', g: 1n, h: '9007199254740993.x', seen: true },
    })
  })

  test('a condition sees system attributes of items that are there', async () => {
    const table = newTable()
    await write(table, frameOf({ x: [1n, 1n] }, { id: ['a', 'b'] }))
    const frame = frameOf({ x: [2n, 2n, 2n] }, { id: ['a', 'b', 'c'] })
    const condition = `__name == 'a' AND __mtime_secs == ${nowMs / 1000} AND __ctime_nsecs == 0`
    expect(await write(table, frame, { saveMode: 'updateItem', condition })).toMatchObject({ skippedCount: 2 })
    expect((await itemsOf(engine, table)).map(({ x }) => x)).toEqual([2n, 1n])
  })

  test.for([
    ['condition', 'a =', 'invalid condition expression: '],
    ['condition', '{unknown} == 1', ''],
    ['expression', 'a == 1', 'invalid update expression: '],
    ['expression', '__name = 1', 'invalid update expression: '],
  ])('%s %j is refused before a frame comes', async ([what, text, prefix]) => {
    const table = newTable()
    const result = engine.openWrite({ ...table, [what!]: text })
    if (prefix === '') (await result).abort()
    else expect((await failureOf(result)).what).toContain(prefix)
  })
})

describe('update expressions', () => {
  test('a placeholder without a column or index in the frame is an error, also where no row would come to it', async () => {
    const table = newTable()
    await write(table, frameOf({ n: [1n] }, { id: ['a'] }))
    const text = 'the frame has no column or index for the placeholder {m}'
    for (const keys of [['a'], []]) {
      const frame = frameOf({ n: keys.map(() => 2n), s: keys.map(() => null) }, { id: keys })
      const condition = await failureOf(write(table, frame, { saveMode: 'updateItem', condition: '1==1 OR {m} == 1' }))
      expect(condition).toEqual({ code: 'INVALID_ARGUMENT', what: `invalid condition expression: ${text}` })
      const update = await failureOf(write(table, frame, { saveMode: 'updateItem', expression: 'n = {n} + {m}' }))
      expect(update).toEqual({ code: 'INVALID_ARGUMENT', what: `invalid update expression: ${text}` })
      // An index, and a column of nulls, are there.
      await write(table, frame, { saveMode: 'updateItem', condition: "{id} == 'zz' OR {s} == 1" })
    }
    expect(await itemsOf(engine, table)).toEqual([{ id: 'a', n: 1n }])
  })

  test('without an index every frame counts its rows from the start', async () => {
    const table = newTable()
    await write(table, frameOf({ n: [0n, 0n] }, {}))
    const session = await engine.openWrite({ ...table, saveMode: 'updateItem', expression: 'n = n + {d}' })
    // More than stand in line at once: some frames come when earlier ones are stored.
    for (let i = 0; i < 40; i++) await session.add(frameOf({ d: [1n, 10n] }, {}))
    await session.finish()
    expect((await itemsOf(engine, table)).map(({ n }) => n)).toEqual([40n, 400n])
  })

  test('are applied instead of the row: no column is stored, no schema is made', async () => {
    const table = newTable()
    await write(table, frameOf({ n1: [1n, 5n], n2: [2n, 6n] }, { id: ['a', 'b'] }))
    await write(table, frameOf({ d: [10n, 20n] }, { id: ['a', 'b'] }), {
      saveMode: 'updateItem',
      expression: 'n3 = n1 + n2 + {d}; delete(n1);',
    })
    expect(await itemsOf(engine, table)).toEqual([
      { id: 'a', n2: 2n, n3: 13n },
      { id: 'b', n2: 6n, n3: 31n },
    ])
  })

  test('overwriteItem evaluates against the old item and keeps only what is assigned', async () => {
    const table = newTable()
    await write(table, frameOf({ n1: [1n], n2: [2n] }, { id: ['a'] }))
    await write(table, frameOf({ d: [0n] }, { id: ['a'] }), { saveMode: 'overwriteItem', expression: 'n3 = n1 + n2' })
    expect(await itemsOf(engine, table)).toEqual([{ id: 'a', n3: 3n }])
  })

  test('createNewItemsOnly applies them to new items only', async () => {
    const table = newTable()
    await write(table, frameOf({ n: [1n] }, { id: ['a'] }))
    const frame = frameOf({ d: [5n, 6n] }, { id: ['a', 'b'] })
    expect(await write(table, frame, { expression: 'n = {d}' })).toMatchObject({ rowCount: 2, skippedCount: 1 })
    expect((await itemsOf(engine, table)).map(({ n }) => n)).toEqual([1n, 6n])
  })

  test('rows of one item are applied one after the other, in order', async () => {
    const table = newTable()
    const frame = frameOf({ d: [1n, 2n, 3n, 4n], s: ['a', 'b', 'c', 'd'] }, { id: ['x', 'y', 'x', 'x'] })
    const expression = "n = if_not_exists(n, 0) * 10 + {d}; path = if_not_exists(path, '') + {s}"
    await write(table, [frame, frame], { saveMode: 'updateItem', expression, condition: 'NOT exists(n) OR n < 1341' })
    await write(table, frameOf({ q: [1n] }, { id: ['q'] }))
    expect((await itemsOf(engine, table)).slice(1)).toMatchObject([
      { n: 1341n, path: 'acda' },
      { n: 22n, path: 'bb' },
    ])
  })

  test('a thousand rows of one item are a thousand steps', async () => {
    const table = newTable()
    const frame = frameOf({ d: Array<bigint>(1000).fill(1n) }, { id: Array<string>(1000).fill('x') })
    await write(table, [frame, frame], { saveMode: 'updateItem', expression: 'n = if_not_exists(n, 0) + {d}' })
    await write(table, frameOf({ n: [0n] }, { id: ['y'] }))
    expect((await itemsOf(engine, table))[0]).toMatchObject({ n: 2000n })
  })

  test.for([
    ['n = missing + 1', "attribute 'missing' is missing"],
    ['n = 1 / zero', 'division by zero'],
    ['n = n + 9223372036854775807', 'integer overflow'],
    ["n = n + 'x'", "'+' cannot be applied to an integer and a string"],
    ['arr[0] = 1', ''],
  ])('%s fails the whole frame and names the item', async ([expression, detail]) => {
    const table = newTable()
    await write(table, frameOf({ n: [1n, 2n], zero: [0n, 0n] }, { id: ['a', 'b'] }))
    const before = await itemsOf(engine, table)
    const { code, what } = await failureOf(
      write(table, frameOf({ d: [1n, 1n] }, { id: ['a', 'b'] }), { saveMode: 'updateItem', expression: expression! }),
    )
    expect(code).toBe('PRECONDITION')
    expect(what.startsWith(`failed to update item 'a': ${detail}`)).toBe(true)
    expect(what.endsWith(' (and 1 more row)')).toBe(true)
    expect(await itemsOf(engine, table)).toEqual(before)
  })

  test('a write that fails takes nothing of the others that wait with it', async () => {
    const table = newTable()
    await write(table, frameOf({ n: [0n] }, { id: ['a'] }))
    const step = (expression: string) =>
      write(table, frameOf({ d: [1n] }, { id: ['a'] }), { saveMode: 'updateItem', expression })
    const results = await Promise.allSettled([
      step('n = n + 1'),
      step('n = n + 1; m = missing'),
      step('n = n + 1'),
      step('n = n / 0'),
      step('n = n + 1'),
    ])
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled', 'rejected', 'fulfilled'])
    expect(await itemsOf(engine, table)).toEqual([{ id: 'a', n: 3n }])
  })

  test('arrays and blobs are stored and changed', async () => {
    const table = newTable()
    await write(table, frameOf({ n: [0n] }, { id: ['a'] }))
    const step = (expression: string) =>
      write(table, frameOf({ d: [3n] }, { id: ['a'] }), { saveMode: 'updateItem', expression })
    await step("arr = init_array(3, 'int'); arr[1] = {d}")
    await step('arr[2] = arr[1] + 1; total = sum(arr); len = length(arr)')
    expect((await itemsOf(engine, table))[0]).toMatchObject({ total: 7n, len: 3n })
  })

  test('where an expression is applied, rows without an index are numbered from 0 in every frame', async () => {
    const table = newTable()
    await write(table, [frameOf({ d: [1n, 2n] }), frameOf({ d: [10n, 20n] })], {
      saveMode: 'updateItem',
      expression: 'n = if_not_exists(n, 0) + {d}',
    })
    await write(table, frameOf({ n: [null] }, { idx: [5n] }))
    expect((await itemsOf(engine, table)).map(({ n }) => n)).toEqual([11n, 22n, undefined])
  })
})

describe('partitions', () => {
  const frame = frameOf({ n1: [1n, null], n2: ['a', 'tal'], n3: [null, true], f: [1, 2.5] }, { idx: ['mike', 'joe'] })

  test('the same key in two partitions is two items', async () => {
    const table = newTable()
    const rows = frameOf({ city: ['LA', 'NY', 'LA'], n: [1n, 2n, 3n] }, { id: ['a', 'a', 'b'] })
    await write(table, rows, { partitionKeys: ['city'] })
    expect(await itemsOf(engine, table)).toEqual([
      { id: 'a', city: 'LA', n: 1n },
      { id: 'b', city: 'LA', n: 3n },
      { id: 'a', city: 'NY', n: 2n },
    ])
    expect(await write(table, rows, { partitionKeys: ['city'] })).toMatchObject({ skippedCount: 3 })
    expect(await write(table, rows)).toMatchObject({ skippedCount: 1 })
  })

  test('a partition folder can be named in execute update and in delete', async () => {
    const table = newTable()
    await write(table, frame, { partitionKeys: ['n1', 'n2', 'n3', 'f'] })
    const update = (folder: string) =>
      engine.execute({
        ...{ backend: 'kv', table: `${table.table}/${folder}`, command: 'update' },
        args: { key: 'mike', expression: 'seen = 1', condition: 'exists(idx)' },
      })
    await update('n1=1/n2=a/n3=null/f=1')
    expect((await failureOf(update('n1=2/n2=a/n3=null/f=1'))).code).toBe('PRECONDITION')
    expect((await itemsOf(engine, table)).map(({ idx, seen }) => [idx, seen])).toEqual([
      ['mike', 1n],
      ['joe', undefined],
    ])
    await engine.delete({ backend: 'kv', table: `${table.table}/n1=null` })
    expect((await itemsOf(engine, table)).map(({ idx }) => idx)).toEqual(['mike'])
    await engine.delete({ backend: 'kv', table: `${table.table}/n1=1/n2=a/n3=null/f=1`, filter: 'seen == 2' })
    expect((await itemsOf(engine, table)).map(({ idx }) => idx)).toEqual(['mike'])
  })

  test('an item of a partition folder that is made before its table is found in the table', async () => {
    const table = newTable()
    const args = { key: 'b', expression: "city='LA'; n=2" }
    await engine.execute({ ...table, table: `${table.table}/city=LA`, command: 'update', args })
    expect((await failureOf(write(table, two, { saveMode: '' }))).what).toContain('already exists')
    await write(table, frameOf({ city: ['LA'], n: [1n] }, { id: ['a'] }), { partitionKeys: ['city'] })
    expect(await itemsOf(engine, table)).toEqual([
      { id: 'a', city: 'LA', n: 1n },
      { id: 'b', city: 'LA', n: 2n },
    ])
    await engine.delete({ ...table, table: `${table.table}/city=LA` })
    expect(await itemsOf(engine, table)).toEqual([])
  })

  test('a slash in a value makes no other folder', async () => {
    const table = newTable()
    await write(
      table,
      frameOf({ a: ['x/b=1', 'x', '50%', 'x%2Fb=1'], n: [1n, 2n, 3n, 4n] }, { id: ['k', 'k', 'k', 'k'] }),
      {
        partitionKeys: ['a'],
      },
    )
    await engine.delete({ backend: 'kv', table: `${table.table}/a=x` })
    expect((await itemsOf(engine, table)).map(({ n }) => n)).toEqual([3n, 4n, 1n])
    await engine.delete({ backend: 'kv', table: `${table.table}/a=x%2Fb=1` })
    expect((await itemsOf(engine, table)).map(({ n }) => n)).toEqual([3n, 4n])
  })
})

describe('delete', () => {
  test('with a filter takes matching items of all partitions, and leaves the table', async () => {
    const table = newTable()
    const rows = frameOf({ city: ['LA', 'NY', 'LA'], n: [1n, 2n, 3n] }, { id: ['a', 'b', 'c'] })
    await write(table, rows, { partitionKeys: ['city'] })
    await engine.delete({ ...table, filter: 'n >= 2' })
    expect((await itemsOf(engine, table)).map(({ id }) => id)).toEqual(['a'])
    await engine.delete({ ...table, filter: '__mtime_secs > 0' })
    expect(await itemsOf(engine, table)).toEqual([])
    await engine.delete({ ...table, filter: 'n >= 2' })
    // Deleted items are new again.
    expect(await write(table, rows, { partitionKeys: ['city'] })).toMatchObject({ skippedCount: 0 })
    expect((await itemsOf(engine, table)).map(({ n }) => n)).toEqual([1n, 3n, 2n])
  })

  test('without a filter takes the table, once', async () => {
    const table = newTable()
    await write(table, two)
    await engine.delete(table)
    expect((await failureOf(itemsOf(engine, table))).code).toBe('TABLE_NOT_FOUND')
    for (const filter of ['', 'x == 1']) {
      const { code, what } = await failureOf(engine.delete({ ...table, filter }))
      expect(code).toBe('TABLE_NOT_FOUND')
      expect(what.startsWith(`GetItems failed during recursive delete of '${table.table}/'.: `)).toBe(true)
      await engine.delete({ ...table, filter, ifMissing: 'ignore' })
    }
    await write(table, frameOf({ n1: ['other type'] }, { other: [1n] }))
    expect(await itemsOf(engine, table)).toEqual([{ other: 1n, n1: 'other type' }])
  })

  test('a folder of tables is no table: it is not missing, and it goes with the last of them', async () => {
    const folder = newTable()
    const below = { ...folder, table: `${folder.table}/below` }
    await write(below, two)
    for (let time = 0; time < 2; time++) {
      const { code, what } = await failureOf(engine.delete(folder))
      expect([code, what]).toEqual([
        'NOT_A_TABLE',
        `Failed to delete table object '${folder.table}/'.: it is a folder of tables, and no table itself`,
      ])
    }
    await engine.delete({ ...folder, ifMissing: 'ignore' })
    await engine.delete({ ...folder, filter: 'n1 == 1' })
    expect(await namesOf(engine, below)).toEqual(['joe', 'mike'])
    await engine.delete(below)
    expect((await failureOf(engine.delete(folder))).code).toBe('TABLE_NOT_FOUND')
  })

  test('a partition folder is missing when nothing is left in it', async () => {
    const table = newTable()
    await write(table, frameOf({ city: ['LA', 'NY'], n: [1n, 2n] }, { id: ['a', 'b'] }), { partitionKeys: ['city'] })
    const folder = { ...table, table: `${table.table}/city=LA` }
    await engine.delete({ ...folder, filter: 'n == 2' })
    await engine.delete(folder)
    for (const filter of ['', 'n == 1']) {
      const { code, what } = await failureOf(engine.delete({ ...folder, filter }))
      expect(code).toBe('TABLE_NOT_FOUND')
      expect(what.startsWith(`GetItems failed during recursive delete of '${folder.table}/'.: `)).toBe(true)
      await engine.delete({ ...folder, filter, ifMissing: 'ignore' })
    }
    expect((await itemsOf(engine, table)).map(({ id }) => id)).toEqual(['b'])
  })

  test('a filter that cannot be read is refused before anything is touched', async () => {
    const table = newTable()
    await write(table, two)
    expect((await failureOf(engine.delete({ ...table, filter: 'n1 >' }))).what).toContain('invalid filter expression: ')
    expect((await itemsOf(engine, table)).length).toBe(2)
  })

  test.for(['start', 'end'])('%s is refused', async (field) => {
    const { code, what } = await failureOf(engine.delete({ ...newTable(), [field]: '1' }))
    expect(code).toBe('REFUSED_PARAMETER')
    expect(what).toContain('to a DeleteRequest to kv backend')
  })
})

describe('execute update', () => {
  const update = (request: KvRequest, args: Record<string, string>) =>
    engine.execute({ ...request, command: ' Update ', args })

  test('changes one item, or makes it; the name is taken as it is', async () => {
    const table = newTable()
    await write(table, frameOf({ n: [1n] }, { id: [5n] }))
    expect(await update(table, { key: '5', expression: 'n = n + 1; s = "x"' })).toBeNull()
    await update(table, { key: 'no/number', expression: 'n = 7' })
    expect(await namesOf(engine, table)).toEqual(['5', 'no/number'])
    expect((await itemsOf(engine, table)).map(({ n, s }) => [n, s])).toEqual([
      [2n, 'x'],
      [7n, undefined],
    ])
  })

  test('a false condition is an error, and changes nothing', async () => {
    const table = newTable()
    await write(table, frameOf({ n: [1n] }, { id: ['a'] }))
    const args = { key: 'a', expression: 'n = 9', condition: 'n > 1' }
    expect(await failureOf(update(table, args))).toEqual({
      code: 'PRECONDITION',
      what: "failed to update item 'a': the condition is false",
    })
    expect((await failureOf(update(table, { ...args, key: 'b' }))).code).toBe('PRECONDITION')
    expect(await itemsOf(engine, table)).toEqual([{ id: 'a', n: 1n }])
  })

  test.for<Record<string, string>>([{ key: 'a' }, { expression: 'n=1' }, { key: '', expression: 'n=1' }])(
    'arguments %j are too few',
    async (args) => {
      expect((await failureOf(update(newTable(), args))).what).toBe(
        "missing a required parameter - 'table', 'expression', and/or 'key' argument: there is no text in " +
          (args['key'] ? 'expression' : 'key'),
      )
    },
  )

  test('a template is no expression here', async () => {
    expect((await failureOf(update(newTable(), { key: 'a', expression: 'n = {n}' }))).what).toContain(
      'invalid update expression: ',
    )
  })

  test('a table that is not there gets an item and no schema', async () => {
    const table = newTable()
    await update(table, { key: 'a', expression: 'n = 1' })
    expect((await failureOf(itemsOf(engine, table))).what).toContain('Failed to find a schema for table')
    // The table as the caller wrote it.
    const slashed = { ...table, table: `${table.table}/` }
    expect((await failureOf(itemsOf(engine, slashed))).what).toContain(`/${slashed.table}"`)
    await engine.delete(table)
    expect((await failureOf(engine.delete(table))).code).toBe('TABLE_NOT_FOUND')
  })

  test('an unknown command is named in lower case', async () => {
    expect((await failureOf(engine.execute({ ...newTable(), command: ' Drop ' }))).what).toBe(
      "NoSQL backend doesn't support execute command 'drop'; it has update, compact, flush, get, count, aggregate, stats, infer, infer_schema, inferschema",
    )
  })
})

describe('create', () => {
  test('without a schema is an error that says what to do', async () => {
    expect(await failureOf(engine.create(newTable()))).toEqual({
      code: 'CREATE_NOT_NEEDED',
      what: "'create' isn't required for the NoSQL backend; the table is created on first write",
    })
  })

  const schema = {
    fields: [
      { name: 'score', type: 'double' },
      { name: 'id', type: 'long' },
      { name: 'day', type: 'timestamp', properties: { ttl: '2h' } },
    ],
    key: { shardingKey: ['id'], sortingKey: ['day'] },
  }

  test('with a schema makes a typed table, and the log has the warning', async () => {
    const table = newTable()
    await engine.create({ ...table, schema })
    expect(reports).toContain("'create' isn't required for the NoSQL backend; the table is created on first write")
    expect(await itemsOf(engine, table)).toEqual([])
    expect((await failureOf(write(table, frameOf({ score: ['x'] }, { id: [1n], day: [{ timeNs: 0n }] })))).what).toBe(
      'failed to merge schema: schema change for column score from type double to string is not allowed',
    )
    await write(table, frameOf({ score: [1n] }, { '': [1n], day: [{ timeNs: 0n }] }))
    expect(await namesOf(engine, table)).toEqual(['1.1970-01-01T00:00:00Z'])
    expect((await failureOf(engine.create({ ...table, schema }))).code).toBe('TABLE_EXISTS')
    await engine.create({ ...table, schema, ifExists: 'ignore' })
    expect((await failureOf(write(table, two, { saveMode: '' }))).code).toBe('TABLE_EXISTS')
  })

  test.for([
    [{ fields: [{ name: 'a', type: 'long' }] }, 'it has no key'],
    [{ key: { shardingKey: ['a', 'b'] } }, 'one key'],
    [{ fields: [{ name: 'a', type: 'uuid' }], key: { shardingKey: ['a'] } }, "type 'uuid'"],
    [{ fields: [{ name: 'a b', type: 'long' }], key: { shardingKey: ['k'] } }, 'invalid name'],
    [{ fields: [{ name: 'k', type: 'long', properties: { ttl: '0s' } }], key: { shardingKey: ['k'] } }, 'ttl'],
  ] as const)('schema %j is refused', async ([bad, detail]) => {
    const { code, what } = await failureOf(engine.create({ ...newTable(), schema: bad }))
    expect(code).toBe('INVALID_ARGUMENT')
    expect(what).toContain(detail)
  })

  test('items are gone when their time to live is over, and are new items then', async () => {
    const table = newTable()
    await engine.create({ ...table, schema: { ...schema, key: { shardingKey: ['id'] } } })
    await write(table, frameOf({ score: [1, 2] }, { id: [1n, 2n] }))
    nowMs += 3_600_000
    await write(table, frameOf({ score: [3] }, { id: [2n] }), { saveMode: 'updateItem' })
    nowMs += 3_600_000
    expect((await itemsOf(engine, table)).map(({ id }) => id)).toEqual([2n])
    const condition = '{score} > score'
    expect(
      await write(table, frameOf({ score: [9, 9] }, { id: [1n, 2n] }), { saveMode: 'updateItem', condition }),
    ).toMatchObject({ skippedCount: 1 })
    expect(await write(table, frameOf({ score: [5] }, { id: [1n] }))).toMatchObject({ skippedCount: 0 })
    expect((await itemsOf(engine, table)).map(({ score }) => score)).toEqual([5, 9])
    nowMs += 7_200_000
    await engine.execute({ ...table, command: 'compact' })
    nowMs -= 7_200_000
    expect(await itemsOf(engine, table)).toEqual([])
  })
})

describe('containers', () => {
  test('one table name in two containers is two tables; a slash more or less is none', async () => {
    const table = newTable()
    const inContainer = (container: string) => ({ ...table, session: { container } })
    await write(table, two, inContainer('one'))
    await write({ ...table, table: `${table.table}/` }, two, { ...inContainer('two'), table: `${table.table}/` })
    expect(await failureOf(write(table, two, { ...inContainer('two'), saveMode: '' }))).toMatchObject({
      code: 'TABLE_EXISTS',
    })
    await engine.delete({ ...table, ...inContainer('one') })
    expect((await itemsOf(engine, { ...table, ...inContainer('two') })).length).toBe(2)
  })

  test('without a container the path begins with one, or the request is refused', async () => {
    const strict = await openEngine({ workerCount: 1, container: '' })
    try {
      await strict.write({ backend: 'nosql', table: 'big/a/b' }, two)
      const request = { backend: 'kv', table: 'a/b', session: { container: 'big' } }
      expect((await itemsOf(strict, request)).length).toBe(2)
      const refused = await failureOf(strict.write({ backend: 'kv', table: 'mytable' }, two))
      expect(refused).toEqual({
        code: 'INVALID_ARGUMENT',
        what: 'Please specify a data container name via the container parameters or the path prefix e.g. bigdata/mytable',
      })
      await strict.write({ backend: 'kv', table: '$V3IO_HOME/t', session: { user: 'ann' } }, two)
      const home = { backend: 'kv', table: 'ann/t', session: { container: 'users' } }
      expect((await itemsOf(strict, home)).length).toBe(2)
    } finally {
      await strict.close()
    }
  })
})
