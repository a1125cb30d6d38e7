// The csv backend through the engine: files below a root folder.
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  type Engine,
  Frame,
  frameFromMap,
  frameFromRows,
  labelColumn,
  nullColumn,
  openEngine,
  sliceColumn,
} from '../dist/engine/index.js'
import { failureOf } from './failures.js'

const root = mkdtempSync(join(tmpdir(), 'framesd-csv-'))
const outside = mkdtempSync(join(tmpdir(), 'framesd-csv-outside-'))
let engine: Engine
let tableCount = 0

beforeAll(async () => {
  engine = await openEngine({ workerCount: 2, backends: [{ type: 'csv', rootDir: root }] })
})
afterAll(async () => {
  await engine.close()
  rmSync(root, { recursive: true, force: true })
  rmSync(outside, { recursive: true, force: true })
})

const backend = 'csv'
const newTable = () => `t${tableCount++}.csv`
const fileOf = (table: string) => join(root, table)
const textOf = (table: string) => readFileSync(fileOf(table), 'utf8')

function tableWith(text: string | Uint8Array): string {
  const table = newTable()
  writeFileSync(fileOf(table), text)
  return table
}

type Read = Omit<Parameters<Engine['read']>[0], 'backend'>

async function readAll(request: Read): Promise<Frame[]> {
  const frames: Frame[] = []
  for await (const frame of engine.read({ backend, ...request })) frames.push(frame)
  return frames
}

/** Rows of all frames, as plain objects. */
async function rowsOf(request: Read): Promise<unknown[]> {
  return (await readAll(request)).flatMap((frame) => [...frame.rows()])
}

async function typesOf(text: string): Promise<Record<string, string>> {
  const [frame] = await readAll({ table: tableWith(text) })
  return Object.fromEntries(frame!.columns.map((column) => [column.name, column.dtype]))
}

const leftovers = () => readdirSync(join(root, '.framesd')).filter((name) => name.endsWith('.tmp'))

describe('create', () => {
  test('without fields makes an empty file, with fields a header in their order', async () => {
    const [empty, full] = [newTable(), newTable()]
    await engine.create({ backend, table: empty })
    await engine.create({ backend, table: full, schema: { fields: [{ name: 'b' }, { name: 'a,c' }, { name: ' x' }] } })
    expect(textOf(empty)).toBe('')
    expect(textOf(full)).toBe('b,"a,c"," x"\n')
  })

  test('a field without a name is refused, and no file is made', async () => {
    const table = newTable()
    const error = await failureOf(engine.create({ backend, table, schema: { fields: [{ name: 'a' }, { name: '' }] } }))
    expect(error.message).toContain('field 1 with no name')
    expect(existsSync(fileOf(table))).toBe(false)
  })

  test('over a file that exists it fails, or leaves it as it is', async () => {
    const table = tableWith('x\n1\n')
    const error = await failureOf(engine.create({ backend, table }))
    expect(error.code).toBe('TABLE_EXISTS')
    expect(error.message).toContain(`file '"${table}"' already exists`)
    await engine.create({ backend, table, ifExists: 'ignore', schema: { fields: [{ name: 'y' }] } })
    expect(textOf(table)).toBe('x\n1\n')
  })

  test('of one name by many at once, one makes the file', async () => {
    const table = newTable()
    const names = ['a', 'b', 'c', 'd', 'e', 'f']
    const results = await Promise.allSettled(
      names.map((name) => engine.create({ backend, table, schema: { fields: [{ name }] } })),
    )
    const made = results.flatMap((result, i) => (result.status === 'fulfilled' ? [names[i]!] : []))
    expect(made).toHaveLength(1)
    expect(textOf(table)).toBe(`${made[0]}\n`)
    expect(leftovers()).toEqual([])
  })

  test('in a folder that does not exist, says so', async () => {
    const error = await failureOf(engine.create({ backend, table: 'no/such/folder.csv' }))
    expect(error.message).toContain('cannot create file: open no/such/folder.csv: no such file or directory')
    mkdirSync(join(root, 'some/folder'), { recursive: true })
    await engine.create({ backend, table: 'some/folder/t.csv' })
    expect(existsSync(join(root, 'some/folder/t.csv'))).toBe(true)
  })
})

describe('write', () => {
  test('writes every type as the file format has it, and reads it back as it was', async () => {
    const table = newTable()
    const frame = frameFromMap({
      int: [1n, 2n ** 63n - 1n, -(2n ** 63n)],
      float: [1.5, 1e-7, -1e21],
      text: ['a', 'b,"c"', 'line\nbreak\r\nü'],
      bool: [true, false, true],
      time: [{ timeNs: 1_514_764_800_123_000_000n }, { timeNs: -1n }, { timeNs: 0n }],
    })
    expect(await engine.write({ backend, table }, frame)).toEqual({ frameCount: 1, rowCount: 3 })
    expect(textOf(table)).toBe(
      'int,float,text,bool,time\n' +
        '1,1.5,a,true,2018-01-01T00:00:00.123Z\n' +
        '9223372036854775807,1e-07,"b,""c""",false,1969-12-31T23:59:59.999999999Z\n' +
        '-9223372036854775808,-1e+21,"line\nbreak\r\nü",true,1970-01-01T00:00:00Z\n',
    )
    const [back] = await readAll({ table })
    expect(back!.names).toEqual(frame.names)
    expect([...back!.rows()]).toEqual([...frame.rows()])
  })

  test('special floats have their texts, and whole floats no point', async () => {
    const table = newTable()
    await engine.write(
      { backend, table },
      frameFromMap({ f: [1, NaN, Infinity, -Infinity, 0.1 + 0.2, 123456789012345680] }),
    )
    expect(textOf(table)).toBe('f\n1\nNaN\n+Inf\n-Inf\n0.30000000000000004\n123456789012345680\n')
    const [back] = await readAll({ table })
    expect(back!.columns[0]!.values()).toEqual([1, NaN, Infinity, -Infinity, 0.1 + 0.2, 123456789012345680])
  })

  test('a missing cell is an empty field, and missing again when read; in text it is an empty text', async () => {
    const table = newTable()
    await engine.write(
      { backend, table },
      new Frame({
        columns: [
          sliceColumn('i', [1n, null], 'int64'),
          sliceColumn('s', ['a', null], 'string'),
          sliceColumn('b', [null, true], 'bool'),
          nullColumn('n', 2),
        ],
      }),
    )
    expect(textOf(table)).toBe('i,s,b,n\n1,a,,\n,,true,\n')
    expect(await rowsOf({ table })).toEqual([
      { i: 1n, s: 'a', b: null, n: '' },
      { i: null, s: '', b: true, n: '' },
    ])
  })

  test('a column that holds one value for all rows is written in each', async () => {
    const table = newTable()
    await engine.write(
      { backend, table },
      new Frame({
        columns: [labelColumn('l', 'x', 3), labelColumn('f', 0.5, 3), sliceColumn('i', [1n, 2n, 3n], 'int64')],
      }),
    )
    expect(textOf(table)).toBe('l,f,i\nx,0.5,1\nx,0.5,2\nx,0.5,3\n')
  })

  test('index columns come first, the unnamed as idx; labels are left out', async () => {
    const table = newTable()
    await engine.write(
      { backend, table },
      new Frame({
        columns: [sliceColumn('x', [1n], 'int64')],
        indices: [
          sliceColumn('', ['a'], 'string'),
          sliceColumn('', ['b'], 'string'),
          sliceColumn('k', ['c'], 'string'),
        ],
        labels: { host: 'left out' },
      }),
    )
    expect(textOf(table)).toBe('idx,idx-1,k,x\na,b,c,1\n')
  })

  test('later frames are written by name, and must have the same columns', async () => {
    const table = newTable()
    await engine.write({ backend, table }, [frameFromMap({ a: [1n], b: ['x'] }), frameFromMap({ b: ['y'], a: [2n] })])
    expect(textOf(table)).toBe('a,b\n1,x\n2,y\n')
    const before = textOf(table)
    for (const [wrong, said] of [
      [frameFromMap({ a: [1n] }), 'has no column "b"'],
      [frameFromMap({ a: [1n], b: ['x'], c: [1n] }), 'has a column "c" more'],
    ] as const) {
      const error = await failureOf(engine.write({ backend, table }, [frameFromMap({ a: [1n], b: ['x'] }), wrong]))
      expect(error.code).toBe('FRAME_SHAPE')
      expect(error.message).toContain(said)
      expect(textOf(table)).toBe(before)
    }
    expect(leftovers()).toEqual([])
  })

  test('replaces the whole file, and a failed or abandoned write leaves the old one', async () => {
    const table = tableWith('old\n1\n')
    const failing = await engine.openWrite({ backend, table })
    await failing.add(frameFromMap({ a: [1n] }))
    await failing.add(frameFromMap({ b: [1n] })).catch(() => undefined)
    await expect(failing.finish()).rejects.toThrow('has no column')
    expect(textOf(table)).toBe('old\n1\n')
    const abandoned = await engine.openWrite({ backend, table })
    await abandoned.add(frameFromMap({ a: [1n] }))
    abandoned.abort()
    await expect.poll(leftovers, { timeout: 10_000 }).toEqual([])
    expect(textOf(table)).toBe('old\n1\n')
    await engine.write({ backend, table }, frameFromMap({ a: [2n] }))
    expect(textOf(table)).toBe('a\n2\n')
  })

  test('without frames makes an empty file, with a frame of no rows a header', async () => {
    const [empty, header] = [newTable(), newTable()]
    expect(await engine.write({ backend, table: empty }, [])).toEqual({ frameCount: 0, rowCount: 0 })
    expect(textOf(empty)).toBe('')
    await engine.write({ backend, table: header }, new Frame({ columns: [sliceColumn('a', [], 'int64')] }))
    expect(textOf(header)).toBe('a\n')
    expect(await readAll({ table: header })).toEqual([])
  })

  test('a row whose only cell is empty is a row', async () => {
    const table = newTable()
    await engine.write({ backend, table }, new Frame({ columns: [sliceColumn('s', ['', 'x', ''], 'string')] }))
    expect(textOf(table)).toBe('s\n""\nx\n""\n')
    expect(await rowsOf({ table })).toEqual([{ s: '' }, { s: 'x' }, { s: '' }])
  })

  test('all write parameters are accepted and change nothing', async () => {
    const table = newTable()
    const request = {
      backend,
      table,
      saveMode: 'updateItem',
      expression: 'x=1',
      condition: '1==1',
      partitionKeys: ['a'],
      more: true,
    }
    await engine.write(request, frameFromMap({ a: [1n] }))
    expect(textOf(table)).toBe('a\n1\n')
  })

  test('writers of one file at once leave the file of one of them', async () => {
    const table = newTable()
    await Promise.all(
      Array.from({ length: 8 }, (_, i) =>
        engine.write({ backend, table }, frameFromMap({ a: Array.from({ length: 500 }, () => BigInt(i)) })),
      ),
    )
    const values = new Set((await rowsOf({ table })).map((row) => (row as { a: bigint }).a))
    expect(values.size).toBe(1)
    expect(leftovers()).toEqual([])
  })

  test('text longer than a piece, and very wide rows, come back', async () => {
    const table = newTable()
    const long = 'é"'.repeat(2_000_000)
    await engine.write({ backend, table }, frameFromMap({ s: ['a', long, 'b'], i: [1n, 2n, 3n] }))
    const rows = await rowsOf({ table })
    expect(rows.map((row) => (row as { i: bigint }).i)).toEqual([1n, 2n, 3n])
    expect((rows[1] as { s: string }).s === long).toBe(true)
    const wide = newTable()
    const columns = Array.from({ length: 5000 }, (_, i) => sliceColumn(`column ${i}`, [0.1 * i, null, i], 'float64'))
    await engine.write({ backend, table: wide }, new Frame({ columns }))
    const frames = await readAll({ table: wide })
    expect(frames.reduce((sum, frame) => sum + frame.length, 0)).toBe(3)
    expect([...frames[0]!.rows()][0]).toMatchObject({ 'column 4999': 0.1 * 4999 })
  })
})

describe('append', () => {
  const appending = { fields: [{ name: 'a', properties: { append: true } }, { name: 'b' }] }

  test('a table that was created so keeps its rows when others are written', async () => {
    const table = newTable()
    await engine.create({ backend, table, schema: appending })
    await engine.write({ backend, table }, frameFromMap({ b: ['x'], a: [1n] }))
    await engine.write({ backend, table }, [frameFromMap({ a: [2n], b: ['y'] }), frameFromMap({ a: [3n], b: ['z'] })])
    await engine.write({ backend, table }, [])
    expect(textOf(table)).toBe('a,b\n1,x\n2,y\n3,z\n')
    const error = await failureOf(engine.write({ backend, table }, frameFromMap({ a: [1n] })))
    expect(error.message).toContain('the frame has no column "b"')
    expect(textOf(table)).toBe('a,b\n1,x\n2,y\n3,z\n')
    expect(leftovers()).toEqual([])
  })

  test('appends of many at once are all there', async () => {
    const table = newTable()
    await engine.create({ backend, table, schema: appending })
    await Promise.all(
      Array.from({ length: 12 }, (_, i) =>
        engine.write({ backend, table }, frameFromMap({ a: [BigInt(i)], b: ['x'] })),
      ),
    )
    const values = (await rowsOf({ table })).map((row) => Number((row as { a: bigint }).a))
    expect(values.sort((a, b) => a - b)).toEqual(Array.from({ length: 12 }, (_, i) => i))
  })

  test('a last line without an end gets one first', async () => {
    const table = newTable()
    await engine.create({ backend, table, schema: appending })
    writeFileSync(fileOf(table), 'a,b\n1,x')
    await engine.write({ backend, table }, frameFromMap({ a: [2n], b: ['y'] }))
    expect(textOf(table)).toBe('a,b\n1,x\n2,y\n')
  })

  test('it is forgotten with the table', async () => {
    const table = newTable()
    await engine.create({ backend, table, schema: appending })
    await engine.delete({ backend, table })
    await engine.create({ backend, table, schema: { fields: [{ name: 'a' }] } })
    await engine.write({ backend, table }, frameFromMap({ c: [1n] }))
    expect(textOf(table)).toBe('c\n1\n')
  })

  test('what is no truth value is refused', async () => {
    const schema = { fields: [{ name: 'a', properties: { append: 'yes' } }] }
    const error = await failureOf(engine.create({ backend, table: newTable(), schema }))
    expect(error.message).toContain("property 'append' must be true or false")
  })
})

describe('read', () => {
  test('types are decided over the whole file', async () => {
    expect(
      await typesOf('i,f,t,b,s,m,e,n\n1,1,2018-01-01,true,x,1,,+5\n2,2.5,2018-01-01T00:00:00Z,FALSE,1,true,,\n'),
    ).toEqual({
      i: 'int64',
      f: 'float64',
      t: 'time',
      b: 'bool',
      s: 'string',
      m: 'string',
      e: 'string',
      n: 'int64',
    })
    // The last of very many rows counts as the first does.
    const text = `a,b\n${'1,true\n'.repeat(400_000)}`
    expect(await typesOf(`${text}2.5,x\n`)).toEqual({ a: 'float64', b: 'string' })
    const frames = await readAll({ table: tableWith(`${text}2.5,x\n`) })
    expect(frames.length).toBeGreaterThan(1)
    expect(new Set(frames.map((frame) => frame.columns.map(({ dtype }) => dtype).join()))).toEqual(
      new Set(['float64,string']),
    )
  })

  test('integers of 64 bits are exact, mixed text stays as it stands in the file', async () => {
    const table = tableWith('i,m\n9007199254740993,007\n-9223372036854775808,2020-01-01\n')
    expect(await rowsOf({ table })).toEqual([
      { i: 9007199254740993n, m: '007' },
      { i: -(2n ** 63n), m: '2020-01-01' },
    ])
  })

  test('CRLF, blank lines, quotes and a byte order mark are understood', async () => {
    const table = tableWith('\ufeff\r\nname,n\r\n\r\n"a ""quoted"",\r\ntext",1\r\nplain,2')
    expect(await rowsOf({ table })).toEqual([
      { name: 'a "quoted",\r\ntext', n: 1n },
      { name: 'plain', n: 2n },
    ])
  })

  test('floats of any spelling are the nearest doubles', async () => {
    const texts = [
      '0.1',
      '1e-320',
      '123456789012345678901234567890',
      '0x1.8p1',
      '0x.8P-1',
      '0x1p-1074',
      '-0x3p-1075',
      '2.2250738585072011e-308',
      '.5',
      '5.',
      '+Inf',
      '1.5',
    ]
    const [frame] = await readAll({ table: tableWith(`f\n${texts.join('\n')}\n`) })
    const hex = new Map([
      ['0x1.8p1', 3],
      ['0x.8P-1', 0.25],
      ['0x1p-1074', 5e-324],
      ['-0x3p-1075', -1e-323],
      ['+Inf', Infinity],
    ])
    expect(frame!.columns[0]!.values()).toEqual(texts.map((one) => hex.get(one) ?? Number(one)))
  })

  test('limit counts rows, and its marker goes on exactly where it ended', async () => {
    const rowCount = 25
    const table = tableWith(`i,s\n${Array.from({ length: rowCount }, (_, i) => `${i},"row\n${i}"\n`).join('')}`)
    const seen: unknown[] = []
    let marker: string | undefined
    let pageCount = 0
    do {
      const frames = await readAll({ table, limit: 7n, ...(marker === undefined ? {} : { marker }) })
      for (const frame of frames.slice(0, -1)) expect(frame.labels.size).toBe(0)
      seen.push(...frames.flatMap((frame) => [...frame.rows()]))
      marker = frames.at(-1)?.labels.get('next_marker') as string | undefined
      pageCount++
    } while (marker !== undefined)
    expect(pageCount).toBe(4)
    expect(seen).toEqual(await rowsOf({ table }))
    // The limit at the end of the data: there is nothing to go on with.
    expect((await readAll({ table, limit: BigInt(rowCount) })).at(-1)!.labels.size).toBe(0)
  })

  test('a marker of another version of the file, or none of ours, is refused', async () => {
    const table = tableWith('i\n1\n2\n3\n')
    const [page] = await readAll({ table, limit: 1n })
    const marker = page!.labels.get('next_marker') as string
    expect((await failureOf(readAll({ table, marker: 'x' }))).code).toBe('INVALID_ARGUMENT')
    writeFileSync(fileOf(table), 'i\n1\n2\n3\n4\n')
    expect((await failureOf(readAll({ table, marker }))).code).toBe('FILE_CHANGED')
  })

  test('message_limit gives full frames but for the last', async () => {
    const table = tableWith(`i\n${Array.from({ length: 1000 }, (_, i) => `${i}\n`).join('')}`)
    const lengths = (await readAll({ table, messageLimit: 300n })).map((frame) => frame.length)
    expect(lengths).toEqual([300, 300, 300, 100])
    expect((await readAll({ table, messageLimit: 1n, limit: 5n })).map((frame) => frame.length)).toEqual([
      1, 1, 1, 1, 1,
    ])
    const large = tableWith(`i,s\n${Array.from({ length: 300_000 }, (_, i) => `${i},some text of a row\n`).join('')}`)
    const large1 = (await readAll({ table: large, messageLimit: 120_000n })).map((frame) => frame.length)
    expect(large1).toEqual([120_000, 120_000, 60_000])
  })

  test('only the asked columns come, each once and as the file has them; an unknown one is an error', async () => {
    const table = tableWith('a,b,c\n1,2,3\n')
    const [frame] = await readAll({ table, columns: ['c', 'a', 'c'] })
    expect(frame!.names).toEqual(['a', 'c'])
    const error = await failureOf(readAll({ table, columns: ['a', 'zz'] }))
    expect(error.code).toBe('COLUMN_NOT_FOUND')
    expect(error.message).toContain("column 'zz' doesn't exist")
  })

  test('filter and reset_index change nothing; parameters of other backends are refused', async () => {
    const table = tableWith('a\n1\n')
    expect(await rowsOf({ table, filter: 'a > 5', resetIndex: true })).toEqual([{ a: 1n }])
    const error = await failureOf(readAll({ table, start: '0' }))
    expect(error.message).toContain('Start cannot be used as an argument to a ReadRequest to csv backend')
  })

  test('a reader goes on with the file it has opened when another takes its place', async () => {
    const table = tableWith(`a\n${'1\n'.repeat(3_000_000)}`)
    let rowCount = 0
    let isReplaced = false
    for await (const frame of engine.read({ backend, table })) {
      rowCount += frame.length
      if (!isReplaced) {
        await engine.write({ backend, table }, frameFromMap({ b: ['new'] }))
        isReplaced = true
      }
    }
    expect(rowCount).toBe(3_000_000)
    expect(await rowsOf({ table })).toEqual([{ b: 'new' }])
  })

  test('Arrow and JSON come from the same columns', async () => {
    const table = tableWith('i,t,s\n9007199254740993,2018-01-01,x\n,,y\n')
    let json = ''
    for await (const chunk of engine.readEncoded({ backend, table }, 'json')) json += Buffer.from(chunk).toString()
    expect(JSON.parse(json)).toEqual([
      { i: '9007199254740993', t: '2018-01-01T00:00:00Z', s: 'x' },
      { i: null, t: null, s: 'y' },
    ])
    let byteLength = 0
    for await (const chunk of engine.readEncoded({ backend, table }, 'arrow')) byteLength += chunk.length
    expect(byteLength).toBeGreaterThan(100)
  })

  test.each([
    ['ragged rows', 'a,b\n1,2\n\n3\n', 'record on line 4: wrong number of fields'],
    ['too many fields', 'a,b\n1,2,3\n', 'record on line 2: wrong number of fields'],
    ['a quote inside a field', 'a\nx"y\n', 'parse error on line 2: bare " in non-quoted field'],
    ['text behind a quote', 'a\n"x"y\n', 'parse error on line 2: extraneous or missing " in quoted field'],
    ['an open quote', 'a\n1\n"x\ny\n', 'extraneous or missing " in quoted field'],
    ['an empty file', '', 'cannot read header (columns): EOF'],
    ['blank lines only', '\n\r\n', 'cannot read header (columns): EOF'],
    ['another encoding', Buffer.from('a\n1\n\xff\n', 'latin1'), 'line 3 is not UTF-8'],
    ['too many columns', `${'a,'.repeat(20_000)}a\n`, 'at most 16384 are possible'],
  ])('%s: an error that says what and where', async (_, text, said) => {
    const error = await failureOf(readAll({ table: tableWith(text) }))
    expect(error.kind === 'invalid' || error.kind === 'exhausted').toBe(true)
    expect(error.message).toContain(said)
  })

  test('a header only gives no frame; NUL bytes are data', async () => {
    expect(await readAll({ table: tableWith('a,b') })).toEqual([])
    expect(await rowsOf({ table: tableWith('a\n\0\nx\0y\n') })).toEqual([{ a: '\0' }, { a: 'x\0y' }])
  })

  test('a quote that is never closed ends with an error and not with all memory', async () => {
    const error = await failureOf(readAll({ table: tableWith(`a\n"${'x'.repeat(40 * 2 ** 20)}\n`) }))
    expect(error.code).toBe('CSV_SYNTAX')
  })

  test('a missing file, a folder and a pipe have errors of their own', async () => {
    expect((await failureOf(readAll({ table: 'missing.csv' }))).message).toContain(
      'open missing.csv: no such file or directory',
    )
    expect((await failureOf(readAll({ table: 'missing.csv' }))).code).toBe('TABLE_NOT_FOUND')
    mkdirSync(join(root, 'folder'), { recursive: true })
    expect((await failureOf(readAll({ table: 'folder' }))).code).toBe('FILE_FAILED')
    expect((await failureOf(engine.write({ backend, table: 'folder' }, []))).message).toContain('is not a file')
    expect((await failureOf(readAll({ table: 'folder/t.csv' }))).code).toBe('TABLE_NOT_FOUND')
    expect((await failureOf(readAll({ table: `${'x'.repeat(300)}.csv` }))).code).toBe('PATH_REFUSED')
  })
})

describe('delete', () => {
  test('removes the file; a missing one is an error or is ignored', async () => {
    const table = tableWith('a\n')
    await engine.delete({ backend, table, filter: 'ignored' })
    expect(existsSync(fileOf(table))).toBe(false)
    const error = await failureOf(engine.delete({ backend, table }))
    expect(error.message).toContain(`path to file '"${table}"' doesn't exist`)
    expect(error.code).toBe('TABLE_NOT_FOUND')
    await engine.delete({ backend, table, ifMissing: 'ignore' })
    await engine.delete({ backend, table: 'no/such/folder', ifMissing: 'ignore' })
    expect((await failureOf(engine.delete({ backend, table, start: '0' }))).code).toBe('REFUSED_PARAMETER')
  })

  test('what cannot be removed says why', async () => {
    mkdirSync(join(root, 'full'), { recursive: true })
    expect((await failureOf(engine.delete({ backend, table: 'full' }))).message).toContain(
      `cannot delete file '"full"': `,
    )
  })
})

describe('execute', () => {
  test('ping multiplies rows and columns', async () => {
    const frame = await engine.execute({ backend, table: 'any', command: 'PiNg', args: { rows: 3n, cols: 2n } })
    expect([...frame!.rows()]).toEqual([
      { 'col-0': 0n, 'col-1': 0n },
      { 'col-0': 0n, 'col-1': 1n },
      { 'col-0': 0n, 'col-1': 2n },
    ])
    const byDefault = await engine.execute({ backend, table: 'any', command: 'ping', args: { rows: 'x', cols: 1.5 } })
    expect([byDefault!.length, byDefault!.columns.length]).toEqual([37, 4])
  })

  test('sizes that make no sense are refused', async () => {
    for (const args of [{ rows: -1n }, { cols: -1n }, { rows: 2n ** 62n }, { rows: 0n, cols: 2n ** 62n }]) {
      const error = await failureOf(engine.execute({ backend, table: 'any', command: 'ping', args }))
      expect(['invalid', 'exhausted']).toContain(error.kind)
    }
    expect(await engine.execute({ backend, table: 'any', command: 'ping', args: { rows: 0n } })).toBeNull()
  })

  test('other commands do not exist', async () => {
    const error = await failureOf(engine.execute({ backend, table: 'any', command: ' ping' }))
    expect(error.message).toContain(`CSV backend doesn't support execute command '" ping"'`)
  })
})

describe('nobody leaves the root folder', () => {
  const secret = 'a\nsecret\n'

  beforeAll(() => {
    writeFileSync(join(outside, 'secret.csv'), secret)
    symlinkSync(outside, join(root, 'way-out'))
    symlinkSync(join(outside, 'secret.csv'), join(root, 'link-out.csv'))
    symlinkSync(join(outside, 'new.csv'), join(root, 'link-to-nothing.csv'))
    symlinkSync('loop', join(root, 'loop'))
    symlinkSync('.framesd', join(root, 'own'))
    mkdirSync(join(root, 'inner'), { recursive: true })
    symlinkSync('..', join(root, 'inner/up'))
    symlinkSync('../..', join(root, 'inner/up-and-out'))
  })

  const outOfReach = [
    '../../etc/passwd',
    '..',
    'inner/../../etc/passwd',
    'way-out/secret.csv',
    'way-out/new.csv',
    'link-out.csv',
    'link-to-nothing.csv',
    'loop',
    'inner/up-and-out/x.csv',
    'a\0b',
    '.',
    '/',
    '.framesd/x',
    './/.framesd/x',
    'own/x',
    'inner/up',
  ]

  test.each(outOfReach)('%j', async (table) => {
    const frame = frameFromMap({ a: ['overwritten'] })
    const results = await Promise.allSettled([
      readAll({ table }),
      engine.create({ backend, table }),
      engine.create({ backend, table, ifExists: 'ignore' }),
      engine.write({ backend, table }, frame),
      ...(table === 'link-to-nothing.csv' ? [] : [engine.delete({ backend, table })]),
    ])
    for (const result of results) {
      expect(result.status).toBe('rejected')
      if (result.status === 'rejected') expect(['PATH_REFUSED', 'FILE_FAILED']).toContain(result.reason.code)
    }
    expect(readFileSync(join(outside, 'secret.csv'), 'utf8')).toBe(secret)
    expect(readdirSync(outside)).toEqual(['secret.csv'])
  })

  test('a path that looks absolute begins at the root folder', async () => {
    expect((await failureOf(readAll({ table: '/etc/passwd' }))).code).toBe('TABLE_NOT_FOUND')
    const table = tableWith('a\n1\n')
    expect(await rowsOf({ table: `/${table}` })).toEqual([{ a: 1n }])
    expect(await rowsOf({ table: `inner/../inner//up/./${table}` })).toEqual([{ a: 1n }])
  })

  test('a link inside the root folder is followed, and deleting it leaves what it names', async () => {
    const table = tableWith('a\n1\n')
    symlinkSync(`../${table}`, join(root, 'inner/alias.csv'))
    expect(await rowsOf({ table: 'inner/alias.csv' })).toEqual([{ a: 1n }])
    await engine.write({ backend, table: 'inner/alias.csv' }, frameFromMap({ a: [2n] }))
    expect(textOf(table)).toBe('a\n2\n')
    await engine.delete({ backend, table: 'inner/alias.csv' })
    expect(textOf(table)).toBe('a\n2\n')
    expect(existsSync(join(root, 'inner/alias.csv'))).toBe(false)
  })

  test('a folder that becomes a link while calls run leads nobody out', async () => {
    mkdirSync(join(root, 'swing'))
    writeFileSync(join(root, 'swing/secret.csv'), 'a\nharmless\n')
    let isDone = false
    const turn = () => new Promise((resolve) => setImmediate(resolve))
    const swinging = (async () => {
      while (!isDone) {
        renameSync(join(root, 'swing'), join(root, 'swing-aside'))
        symlinkSync(outside, join(root, 'swing'))
        await turn()
        unlinkSync(join(root, 'swing'))
        renameSync(join(root, 'swing-aside'), join(root, 'swing'))
        await turn()
      }
    })()
    const outcomes = new Set<string>()
    try {
      // As often as some seconds allow: each write waits for the disk.
      const endMs = Date.now() + 4000
      for (let i = 0; i < 200 && Date.now() < endMs; i++) {
        const [read, write] = await Promise.allSettled([
          rowsOf({ table: 'swing/secret.csv' }),
          engine.write({ backend, table: `swing/w${i % 3}.csv` }, frameFromMap({ a: [1n] })),
        ])
        outcomes.add(read.status === 'fulfilled' ? JSON.stringify(read.value) : read.reason.code)
        if (write.status === 'rejected') outcomes.add(write.reason.code)
      }
    } finally {
      isDone = true
      await swinging
    }
    expect(readdirSync(outside)).toEqual(['secret.csv'])
    for (const outcome of outcomes) {
      expect(['[{"a":"harmless"}]', 'PATH_REFUSED', 'TABLE_NOT_FOUND', 'FILE_FAILED']).toContain(outcome)
    }
  })
})

describe('the root folder', () => {
  test('is the folder csv of the data folder unless it is given; an engine in memory has none', async () => {
    const dataDir = mkdtempSync(join(tmpdir(), 'framesd-csv-data-'))
    const stored = await openEngine({ dataDir, workerCount: 1 })
    await stored.write({ backend, table: 'x.csv' }, frameFromRows([{ a: 1n }]))
    await stored.close()
    expect(readFileSync(join(dataDir, 'csv/x.csv'), 'utf8')).toBe('a\n1\n')
    rmSync(dataDir, { recursive: true })
    const inMemory = await openEngine({ workerCount: 1 })
    const error = await failureOf(inMemory.create({ backend, table: 'x.csv' }))
    expect(error.code).toBe('NO_ROOT_FOLDER')
    expect(
      await inMemory.execute({ backend, table: 'x', command: 'ping', args: { rows: 1n, cols: 1n } }),
    ).not.toBeNull()
    await inMemory.close()
  })

  test('files of calls that a crash ended are removed, those of calls at work are not', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'framesd-csv-left-'))
    mkdirSync(join(folder, '.framesd'))
    for (const name of ['old.tmp', 'new.tmp', 'old.json']) writeFileSync(join(folder, '.framesd', name), '')
    const longAgo = new Date(Date.now() - 2 * 3600 * 1000)
    for (const name of ['old.tmp', 'old.json']) utimesSync(join(folder, '.framesd', name), longAgo, longAgo)
    const other = await openEngine({ workerCount: 1, backends: [{ type: 'csv', rootDir: folder }] })
    await other.create({ backend, table: 'a.csv' })
    await other.close()
    expect(readdirSync(join(folder, '.framesd')).sort()).toEqual(['new.tmp', 'old.json'])
    rmSync(folder, { recursive: true })
  })

  test('a written file can be read by others of the machine as its folder allows', async () => {
    const table = newTable()
    await engine.write({ backend, table }, frameFromMap({ a: [1n] }))
    expect(statSync(fileOf(table)).mode & 0o700).toBe(0o600)
    chmodSync(fileOf(table), 0o600)
  })
})
