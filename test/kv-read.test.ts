// Reads of kv tables: which rows, columns and indices a request gives.
import { namesOfFilter } from '../dist/engine/backends/kv/name-lookup.js'
import { parseFilter } from '../dist/engine/expression/parse.js'
import { afterEach, expect, test } from 'vitest'
import { FramesError } from '../dist/engine/errors.js'
import { KvFixture, plainRows, schemaOf } from './kv-read-fixture.js'

const open: KvFixture[] = []
afterEach(async () => {
  for (const fixture of open.splice(0)) await fixture.close()
})

async function tableOf(...args: Parameters<typeof schemaOf>): Promise<KvFixture> {
  const fixture = await KvFixture.open(schemaOf(...args))
  open.push(fixture)
  return fixture
}

/** mike{n1:1,n2:'a'} joe{n1:2}, as in the documentation. */
async function example(): Promise<KvFixture> {
  const table = await tableOf({ idx: 'string', n1: 'long', n2: 'string' }, 'idx')
  await table.put([
    { name: 'mike', cells: { idx: 'mike', n1: 1n, n2: 'a' } },
    { name: 'joe', cells: { idx: 'joe', n1: 2n } },
  ])
  return table
}

test('without columns the key is the index, rows stand in the order of names, and missing cells are null', async () => {
  const table = await example()
  const [frame, ...others] = await table.read()
  expect(others).toEqual([])
  expect(frame!.names).toEqual(['n1', 'n2'])
  expect(frame!.indices.map(({ name }) => name)).toEqual(['idx'])
  expect(plainRows([frame!])).toEqual([
    { idx: 'joe', n1: 2n, n2: null },
    { idx: 'mike', n1: 1n, n2: 'a' },
  ])
  expect(frame!.nullValues()?.map((names) => [...names])).toEqual([['n2'], []])
})

test('the key among other columns stays a column and is copied to an index', async () => {
  const table = await example()
  const [frame] = await table.read({ columns: ['idx', 'n1'] })
  expect(frame!.names).toEqual(['idx', 'n1'])
  expect(frame!.indices.map(({ name }) => name)).toEqual(['_idx'])
  expect(plainRows([frame!])[0]).toEqual({ _idx: 'joe', idx: 'joe', n1: 2n })
})

test('the key alone is a plain column, and so is everything with reset_index or in a table of keys only', async () => {
  const table = await example()
  const [alone] = await table.read({ columns: ['idx'] })
  expect([alone!.names, alone!.indices.length]).toEqual([['idx'], 0])
  const [reset] = await table.read({ resetIndex: true })
  expect([reset!.names, reset!.indices.length]).toEqual([['idx', 'n1', 'n2'], 0])
  const [without] = await table.read({ columns: ['n2', 'n1'] })
  expect([without!.names, without!.indices.length]).toEqual([['n1', 'n2'], 0])
  const keys = await tableOf({ k: 'long' }, 'k')
  await keys.put([{ name: '5', cells: { k: 5n } }])
  const [only] = await keys.read()
  expect([only!.names, only!.indices.length]).toEqual([['k'], 0])
})

test('a table with a sorting key has two indices, and its copies follow the same rules', async () => {
  const table = await tableOf({ s: 'long', k: 'string', v: 'double' }, 'k', 's')
  await table.put([
    { name: 'a.10', cells: { k: 'a', s: 10n, v: 1.5 } },
    { name: 'a.9', cells: { k: 'a', s: 9n, v: 2.5 } },
  ])
  const indexNames = async (columns: string[]): Promise<string[]> =>
    (await table.read({ columns }))[0]!.indices.map(({ name }) => name)
  expect(await indexNames([])).toEqual(['k', 's'])
  expect(await indexNames(['s', 'v'])).toEqual(['_s'])
  expect(await indexNames(['s'])).toEqual([])
  expect(await indexNames(['k', 's'])).toEqual(['_k', '_s'])
  expect(await table.rows()).toEqual([
    { k: 'a', s: 10n, v: 1.5 },
    { k: 'a', s: 9n, v: 2.5 },
  ])
})

test('all columns are meant by none, by an asterisk and by an empty name', async () => {
  const table = await example()
  const all = await table.rows()
  expect(await table.rows({ columns: ['*'] })).toEqual(all)
  expect(await table.rows({ columns: [''] })).toEqual(all)
})

test('a column that neither the schema nor any item has is an error that names the first of them', async () => {
  const table = await example()
  const reading = table.read({ columns: ['n1', 'zip', 'zap'] })
  await expect(reading).rejects.toThrow("error during iteration: column 'zip' doesn't exist")
  const empty = await tableOf({ k: 'string', n: 'long' }, 'k')
  expect(await empty.read({ columns: ['n'] })).toEqual([])
  await expect(empty.read({ columns: ['zip'] })).rejects.toThrow("column 'zip' doesn't exist")
})

test('system attributes and the name can be read and filtered, in their own order behind the others', async () => {
  const table = await tableOf({ k: 'string' }, 'k')
  await table.put([{ name: 'a', mtimeNs: -1n, ctimeNs: 1_500_000_007n, cells: { k: 'a' } }])
  const columns = ['__ctime_nsecs', '__mtime_secs', 'k', '__name', '__mode', '__gid', '__mtime_nsecs', '__ctime_secs']
  const [frame] = await table.read({ columns })
  expect(frame!.names).toEqual([
    'k',
    '__name',
    '__gid',
    '__mode',
    '__mtime_nsecs',
    '__mtime_secs',
    '__ctime_nsecs',
    '__ctime_secs',
  ])
  expect(plainRows([frame!])).toEqual([
    {
      _k: 'a',
      k: 'a',
      __name: 'a',
      __gid: 0n,
      __mode: 420n,
      __mtime_nsecs: 999_999_999n,
      __mtime_secs: -1n,
      __ctime_nsecs: 500_000_007n,
      __ctime_secs: 1n,
    },
  ])
  expect(await table.rows({ filter: "__name == 'a' and __ctime_secs == 1 and __size == 0" })).toHaveLength(1)
  expect(await table.rows({ filter: '__ctime_secs > 1' })).toEqual([])
})

test('a filter uses attributes that are not read, and one that nothing passes gives no frame at all', async () => {
  const table = await example()
  expect(await table.rows({ filter: 'n1 > 1', columns: ['n2'] })).toEqual([{ n2: null }])
  expect(await table.rows({ filter: "starts(idx, 'mi')" })).toEqual([{ idx: 'mike', n1: 1n, n2: 'a' }])
  expect(await table.read({ filter: 'n1 > 2' })).toEqual([])
  await expect(table.read({ filter: 'n1 >' })).rejects.toThrow('invalid filter expression')
  const empty = await tableOf({ k: 'string' }, 'k')
  expect(await empty.read()).toEqual([])
})

test('a table without a schema asks for infer', async () => {
  const table = await tableOf({}, '')
  await expect(table.read()).rejects.toThrow(
    'Failed to find a schema for table "/x/table/"; use the `execute` \'infer\' command to infer the schema and generate a schema file.',
  )
})

test('items in several runs come out in the order of folder and name, whatever run they are in', async () => {
  const table = await tableOf({ k: 'string', n: 'long' }, 'k')
  const names = ['b', 'é', 'a', '\u{1f600}', 'zz', '\u{ff5e}', 'B', '0', 'a.', 'a b', '/']
  for (let run = 0; run < names.length; run++) {
    await table.put([
      { name: names[run]!, cells: { k: names[run]!, n: BigInt(run) } },
      { folder: 'c=1', name: names[run]!, cells: { k: `c ${names[run]!}`, n: BigInt(run) } },
    ])
  }
  const sorted = [...names].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
  const rows = await table.rows({ columns: ['k'] })
  expect(rows.map(({ k }) => k)).toEqual([...sorted, ...sorted.map((name) => `c ${name}`)])
})

test('attributes that the schema lacks are columns behind its own, by name, and can be asked for', async () => {
  const table = await tableOf({ k: 'string', n: 'long' }, 'k')
  await table.put([{ name: 'a', cells: { k: 'a', n: 1n, zed: true, al: 2.5 } }])
  await table.put([{ name: 'b', cells: { k: 'b' } }])
  const [frame] = await table.read()
  expect(frame!.names).toEqual(['n', 'al', 'zed'])
  expect(await table.rows({ columns: ['zed'], filter: 'al > 2' })).toEqual([{ zed: true }])
  expect(await table.rows({ columns: ['zed'] })).toEqual([{ zed: true }, { zed: null }])
})

test('integers and floats in one column are floats, any other mix is text, in all frames alike', async () => {
  const table = await tableOf({ k: 'string', n: 'long', m: 'string', d: 'double' }, 'k')
  await table.put([{ name: 'a', cells: { k: 'a', n: 1n, m: 's', d: 7n } }])
  await table.put([{ name: 'b', cells: { k: 'b', n: 2.5, m: 3n } }])
  await table.put([{ name: 'c', cells: { k: 'c', n: 3n, m: 1e21, d: 0.5 } }])
  await table.put([{ name: 'd', cells: { k: 'd', m: true } }])
  await table.put([{ name: 'e', cells: { k: 'e', m: { timeNs: 1_500_000_000_123_000_000n } } }])
  await table.put([{ name: 'f', cells: { k: 'f', m: new Uint8Array([1, 2, 255]) } }])
  const frames = await table.read({ messageLimit: 1n })
  expect(frames.map((frame) => frame.columns.map(({ dtype }) => dtype).join())).toEqual(
    Array.from({ length: 6 }, () => 'float64,string,float64'),
  )
  expect(plainRows(frames)).toEqual([
    { k: 'a', n: 1, m: 's', d: 7 },
    { k: 'b', n: 2.5, m: '3', d: null },
    { k: 'c', n: 3, m: '1e+21', d: 0.5 },
    { k: 'd', n: null, m: 'true', d: null },
    { k: 'e', n: null, m: '2017-07-14T02:40:00.123Z', d: null },
    { k: 'f', n: null, m: 'AQL/', d: null },
  ])
})

test('values that were replaced or deleted say nothing about columns and types', async () => {
  const table = await tableOf({ k: 'string', n: 'long' }, 'k')
  await table.put([
    { name: 'a', cells: { k: 'a', n: 'text', gone: 1n } },
    { name: 'b', cells: { k: 'b', n: 2n } },
  ])
  expect((await table.read())[0]!.column('n').dtype).toBe('string')
  await table.put([{ name: 'a', cells: { k: 'a', n: 1n } }])
  const [frame] = await table.read()
  expect(frame!.names).toEqual(['n'])
  expect(frame!.column('n').dtype).toBe('int64')
  await expect(table.read({ columns: ['gone'] })).rejects.toThrow("column 'gone' doesn't exist")
  await table.remove([{ name: 'b' }])
  expect(await table.rows()).toEqual([{ k: 'a', n: 1n }])
})

test('the name supplies a key that the item lacks, in the type of the key', async () => {
  const cases = [
    { type: 'long', name: '-7', value: -7n },
    { type: 'double', name: '1.5', value: 1.5 },
    { type: 'boolean', name: 'True', value: true },
    { type: 'timestamp', name: '2018-01-01T00:00:00.5Z', value: { timeNs: 1_514_764_800_500_000_000n } },
    { type: 'string', name: 'x.y', value: 'x.y' },
  ]
  for (const { type, name, value } of cases) {
    const table = await tableOf({ k: type, n: 'long' }, 'k')
    await table.put([{ name, cells: { n: 1n } }])
    expect(await table.rows()).toEqual([{ k: value, n: 1n }])
  }
  const sorted = await tableOf({ k: 'string', s: 'long', n: 'long' }, 'k', 's')
  await sorted.put([{ name: 'a.5', cells: { n: 1n } }])
  expect(await sorted.rows()).toEqual([{ k: 'a', s: 5n, n: 1n }])
})

test('keys whose names are no text of their type make the column text', async () => {
  const table = await tableOf({ k: 'long', n: 'long' }, 'k')
  await table.put([
    { name: '5', cells: { k: 5n } },
    { name: 'five', cells: { n: 1n } },
  ])
  expect(await table.rows()).toEqual([
    { k: '5', n: null },
    { k: 'five', n: 1n },
  ])
  await table.remove([{ name: 'five' }])
  expect(await table.rows()).toEqual([{ k: 5n, n: null }])
})

test('sharding keys pick primary keys, and a range picks among their sorting keys', async () => {
  const table = await tableOf({ k: 'string', s: 'string', n: 'long' }, 'k', 's')
  const names = ['a.a', 'a.b', 'a.c', 'a', 'ab.a', 'b.b', 'b.c.d', 'c.a']
  for (const half of [names.slice(0, 4), names.slice(4)])
    await table.put(half.map((name, n) => ({ name, cells: { k: name.split('.')[0]!, n: BigInt(n) } })))
  const read = async (request: Parameters<KvFixture['rows']>[0]): Promise<unknown[]> =>
    (await table.rows({ columns: ['__name'], ...request })).map((row) => row['__name'])
  expect(await read({ shardingKeys: ['a'] })).toEqual(['a', 'a.a', 'a.b', 'a.c'])
  expect(await read({ shardingKeys: ['b', 'a', 'zz', 'a'] })).toEqual(['a', 'a.a', 'a.b', 'a.c', 'b.b', 'b.c.d'])
  expect(await read({ shardingKeys: ['a', 'b'], sortKeyRangeStart: 'b' })).toEqual(['a.b', 'a.c', 'b.b', 'b.c.d'])
  expect(await read({ shardingKeys: ['a', 'b'], sortKeyRangeStart: 'b', sortKeyRangeEnd: 'c' })).toEqual(['a.b', 'b.b'])
  expect(await read({ shardingKeys: ['a'], sortKeyRangeEnd: 'b' })).toEqual(['a', 'a.a'])
  expect(await read({ sortKeyRangeStart: 'b' })).toHaveLength(names.length)
  const plain = await tableOf({ k: 'string' }, 'k')
  await plain.put([
    { name: 'a', cells: {} },
    { name: 'a.b', cells: {} },
  ])
  expect(await plain.rows({ shardingKeys: ['a.b'] })).toEqual([{ k: 'a.b' }])
})

test('items of a key with dots are those of no other key, where both stand among the same names', async () => {
  const table = await tableOf({ k: 'string', s: 'string' }, 'k', 's')
  const keys: [key: string, sorting: string][] = [
    ['a', 'b.c'],
    ['a', 'x'],
    ['a.b', 'd'],
    ['a.b.c', 'x'],
    ['ab', 'c'],
  ]
  await table.put(keys.map(([k, s]) => ({ name: `${k}.${s}`, cells: { k, s } })))
  // Without the attribute an item belongs to any key that its name begins with; an assigned one says nothing of the name.
  await table.put([
    { name: 'a.b.y', cells: { s: 'y' } },
    { name: 'a.z', cells: { k: 'assigned', s: 'z' } },
  ])
  const read = async (request: Parameters<KvFixture['rows']>[0]): Promise<unknown[]> =>
    (await table.rows({ columns: ['__name'], ...request })).map((row) => row['__name'])
  expect(await read({ shardingKeys: ['a'] })).toEqual(['a.b.c', 'a.b.y', 'a.x', 'a.z'])
  expect(await read({ shardingKeys: ['a.b'] })).toEqual(['a.b.d', 'a.b.y'])
  expect(await read({ shardingKeys: ['a', 'a.b.c'], filter: "s != 'z'" })).toEqual(['a.b.c', 'a.b.c.x', 'a.b.y', 'a.x'])
  const times = await tableOf({ k: 'timestamp', s: 'long' }, 'k', 's')
  const time = { timeNs: 1_500_000_000n }
  await times.put([{ name: '1970-01-01T00:00:01.5Z.1', cells: { k: time, s: 1n } }])
  expect(await times.rows({ columns: ['s'], shardingKeys: ['1970-01-01T00:00:01'] })).toEqual([])
  expect(await times.rows({ columns: ['s'], shardingKeys: ['1970-01-01T00:00:01.5Z'] })).toEqual([{ s: 1n }])
  const floats = await tableOf({ k: 'double', s: 'long' }, 'k', 's')
  await floats.put([{ name: '1.5.1', cells: { k: 1.5, s: 1n } }])
  expect(await floats.rows({ columns: ['s'], shardingKeys: ['1'] })).toEqual([])
  expect(await floats.rows({ columns: ['s'], shardingKeys: ['1.5'] })).toEqual([{ s: 1n }])
})

test('a filter on __name finds what a scan finds', async () => {
  const { table, names } = await manyItems()
  const [one, two] = [names[17]!, names[4000]!]
  for (const condition of [
    `__name == '${one}'`,
    `'${one}' == __name AND n >= 0`,
    `__name IN ('${one}', '${two}', 'nobody', 5)`,
    `__name == '${two}' OR starts(__name, 'item77')`,
    `starts(__name, 'item1') AND __name IN ('${one}', 'item1', '${two}')`,
    "__name == 'nobody'",
    '__name == 5',
    `__name == '${one}' OR n < 5`,
    `NOT (__name == '${one}') AND n < 20`,
  ]) {
    const scanned = await table.rows({ columns: ['__name', 'n'], filter: `NOT (NOT (${condition}))` })
    expect(await table.rows({ columns: ['__name', 'n'], filter: condition })).toEqual(scanned)
    const [first, ...others] = scanned
    if (first === undefined || others.length === 0) continue
    const [limited] = await table.read({ columns: ['__name', 'n'], filter: condition, limit: 1n })
    const marker = String(limited!.labels.get('next_marker'))
    expect(await table.rows({ columns: ['__name', 'n'], filter: condition, marker })).toEqual(others)
  }
})

test('a filter on __name says which names it can hold for', () => {
  const names = (filter: string) =>
    namesOfFilter(parseFilter(filter))?.map(({ low, high }) => (high === `${low}\0` ? low : [low, high])) ?? null
  expect(names("__name == 'b'")).toEqual(['b'])
  expect(names("__name IN ('b', 'a', 'b') AND n > 1")).toEqual(['a', 'b'])
  expect(names("__name == 'b' OR starts(__name, 'a')")).toEqual([['a', 'b'], 'b'])
  expect(names("starts(__name, '\ud7ff')")).toEqual([['\ud7ff', '\ue000']])
  expect(names('__name == 5')).toEqual([])
  for (const filter of [
    "__name != 'b'",
    "NOT __name == 'b'",
    "__name == 'b' OR n == 1",
    "starts(__name, '')",
    '__name == s',
  ])
    expect(names(filter)).toBeNull()
  const many = Array.from({ length: 300 }, (_, i) => `'${i}'`).join(', ')
  expect(names(`__name IN (${many})`)).toBeNull()
})

/** Many items over several runs and folders that overlap. */
async function manyItems(): Promise<{ table: KvFixture; names: string[] }> {
  const table = await tableOf({ k: 'string', n: 'long', t: 'string' }, 'k')
  const names: string[] = []
  for (let run = 0; run < 3; run++) {
    const items = Array.from({ length: 3000 }, (_, i) => {
      const name = `item${((i * 3 + run) * 7919) % 9001}`
      return { folder: i % 2 === 0 ? '' : `p=${i % 3}`, name, cells: { k: name, n: BigInt(i), t: 'x'.repeat(i % 5) } }
    })
    const unique = [...new Map(items.map((item) => [`${item.folder} ${item.name}`, item])).values()]
    await table.put(unique)
  }
  for (const { __name } of await table.rows({ columns: ['__name'] })) names.push(String(__name))
  return { table, names }
}

test('segments are disjoint and together complete', async () => {
  const { table, names } = await manyItems()
  const parts: string[] = []
  for (let segment = 0n; segment < 5n; segment++) {
    const part = await table.rows({ columns: ['__name'], segments: [segment], totalSegments: 5n })
    expect(part.length).toBeGreaterThan(names.length / 10)
    parts.push(...part.map((row) => String(row['__name'])))
  }
  expect(parts.sort()).toEqual([...names].sort())
  expect(await table.rows({ columns: ['n'], segments: [0n, 1n, 2n], totalSegments: 3n })).toHaveLength(names.length)
  expect(await table.rows({ columns: ['n'], segments: [0n] })).toHaveLength(names.length)
  await expect(table.read({ segments: [3n], totalSegments: 3n })).rejects.toThrow(
    'segment 3 is not one of the 3 segments',
  )
})

test('a limit counts rows exactly, and its marker goes on where it ended, none twice and none missing', async () => {
  const { table, names } = await manyItems()
  for (const { limit, messageLimit, filter } of [
    { limit: 1000n, messageLimit: 0n, filter: '' },
    { limit: 997n, messageLimit: 100n, filter: 'n >= 500' },
    { limit: 3000n, messageLimit: 0n, filter: '' },
  ]) {
    const whole = (await table.rows({ columns: ['__name'], filter })).map((row) => row['__name'])
    const found: unknown[] = []
    let marker = ''
    for (let round = 0; round < 100; round++) {
      const frames = await table.read({ columns: ['__name'], filter, limit, messageLimit, marker })
      const rows = plainRows(frames)
      expect(rows.length).toBeLessThanOrEqual(Number(limit))
      found.push(...rows.map((row) => row['__name']))
      for (const frame of frames.slice(0, -1)) expect(frame.labels.has('next_marker')).toBe(false)
      const next = frames[frames.length - 1]?.labels.get('next_marker')
      if (next === undefined) break
      expect(rows).toHaveLength(Number(limit))
      marker = String(next)
    }
    expect(found).toEqual(whole)
  }
  expect(names).toHaveLength((await table.rows({ columns: ['n'], limit: 100_000n })).length)
})

test('a limit that the data just reaches has no marker, and a marker of another request is refused', async () => {
  const table = await example()
  const [exact] = await table.read({ limit: 2n })
  expect(exact!.labels.size).toBe(0)
  const [first] = await table.read({ limit: 1n })
  const marker = String(first!.labels.get('next_marker'))
  expect(await table.rows({ limit: 1n, marker })).toEqual([{ idx: 'mike', n1: 1n, n2: 'a' }])
  expect(await table.rows({ marker })).toEqual([{ idx: 'mike', n1: 1n, n2: 'a' }])
  await expect(table.read({ marker, filter: 'n1 > 0' })).rejects.toThrow('the marker does not fit this request')
  await expect(table.read({ marker: 'abc' })).rejects.toThrow('the marker is not one that a read has returned')
  await expect(table.read({ limit: -1n })).rejects.toThrow('limit is -1')
})

test('message_limit bounds the rows of every frame', async () => {
  const { table, names } = await manyItems()
  const frames = await table.read({ messageLimit: 256n })
  expect(frames.every((frame) => frame.length <= 256)).toBe(true)
  expect(frames.reduce((sum, frame) => sum + frame.length, 0)).toBe(names.length)
})

test('items older than the ttl are gone', async () => {
  const table = await tableOf({ k: 'string' }, 'k', '', { ttlMs: 1000 })
  table.nowMs = 5000
  await table.put([
    { name: 'old', mtimeNs: 4_000_000_000n, cells: { k: 'old' } },
    { name: 'new', mtimeNs: 4_000_000_001n, cells: { k: 'new' } },
  ])
  expect(await table.rows()).toEqual([{ k: 'new' }])
})

test('folders that the filter rules out are not read, unless items have drifted from them', async () => {
  const table = await tableOf({ k: 'string', city: 'string' }, 'k')
  const cities = ['LA', 'NY', 'a%2Fb', 'null']
  await table.put(
    cities.flatMap((city) =>
      Array.from({ length: 10 }, (_, i) => ({
        folder: `city=${city}`,
        name: `${i}`,
        cells: { k: `${i}`, ...(city === 'null' ? {} : { city: city.replace('%2F', '/') }) },
      })),
    ),
  )
  expect(await table.rows({ filter: "city == 'LA'" })).toHaveLength(10)
  expect(await table.rows({ filter: "city == 'a/b'" })).toHaveLength(10)
  expect(await table.rows({ filter: "city IN ('LA', 'NY') and k == '3'" })).toHaveLength(2)
  expect(await table.rows({ filter: 'NOT exists(city)' })).toHaveLength(10)
  expect(await table.rows({ filter: "city != 'LA'" })).toHaveLength(20)
  await table.put([{ folder: 'city=NY', name: 'moved', cells: { k: 'moved', city: 'LA' } }])
  table.schema = { ...table.schema, foldersDrifted: true }
  expect(await table.rows({ filter: "city == 'LA'" })).toHaveLength(11)
})

test('refused parameters are named', async () => {
  const table = await example()
  const reading = table.read({ groupBy: 'x' })
  await expect(reading).rejects.toThrow('GroupBy cannot be used as an argument to a ReadRequest to kv backend')
  await expect(reading).rejects.toBeInstanceOf(FramesError)
})
