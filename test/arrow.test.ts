import {
  Bool,
  type DataType,
  DateDay,
  DateMillisecond,
  Dictionary,
  Float16,
  Float32,
  Float64,
  Int8,
  Int32,
  Int64,
  LargeUtf8,
  List,
  Field,
  makeData,
  RecordBatch,
  Schema,
  Struct,
  Table,
  TimestampMicrosecond,
  TimestampMillisecond,
  TimestampSecond,
  tableFromArrays,
  tableFromIPC,
  Uint64,
  Utf8,
  Vector,
  vectorFromArray,
} from 'apache-arrow'
import { describe, expect, test } from 'vitest'
import { ArrowStreamEncoder, frameToArrowIpc, fromArrowTable, toArrowTable } from '../dist/engine/codec/arrow.js'
import { jsonElements, jsonLines } from '../dist/engine/codec/json.js'
import { labelColumn, nullColumn, sliceColumn } from '../dist/engine/frame/builder.js'
import { Column } from '../dist/engine/frame/column.js'
import { Frame, validateFrame } from '../dist/engine/frame/frame.js'
import { formatTimeNs } from '../dist/engine/time.js'
import { messageOf, seededRandom } from './fuzz.js'
import { SeededRandom, seed } from './seeded-random.js'

const time = (timeNs: bigint) => ({ timeNs })

const frame = new Frame({
  indices: [sliceColumn('time', BigInt64Array.of(1n, -5n, 1514764800123456789n), 'time')],
  columns: [
    sliceColumn('int', [1n, null, 2n ** 63n - 1n]),
    sliceColumn('float', [0.5, Number.NaN, null]),
    sliceColumn('text', ['a', null, 'ä😀']),
    sliceColumn('flag', [true, false, null]),
    sliceColumn('when', [null, time(0n), time(7n)]),
    nullColumn('nothing', 3),
    labelColumn('host', 'h1', 3),
    labelColumn('zone', 4n, 3),
    labelColumn('weight', 0.25, 3),
    labelColumn('up', true, 3),
    labelColumn('since', time(9n), 3),
    labelColumn('void', null, 3),
  ],
  labels: { s: 'x', i: 2n ** 62n, f: Number.NEGATIVE_INFINITY, b: false, t: time(5n) },
})

/** Names, types and cells; kinds are told apart where Arrow can (text labels). */
function plain({ columns, indices, labels }: Frame) {
  const contents = (column: Column) => ({
    name: column.name,
    dtype: column.dtype,
    kind: column.dtype === 'string' ? column.kind : 'any',
    values: column.values(),
  })
  return { columns: columns.map(contents), indices: indices.map(contents), labels: [...labels] }
}

describe('a frame as an Arrow table', () => {
  const table = toArrowTable(frame)

  test('has the types of its columns', () => {
    expect(table.schema.fields.map((field) => `${field.name}: ${field.type}`)).toEqual([
      'time: Timestamp<NANOSECOND, UTC>',
      'int: Int64',
      'float: Float64',
      'text: Utf8',
      'flag: Bool',
      'when: Timestamp<NANOSECOND, UTC>',
      'nothing: Null',
      'host: Dictionary<Int32, Utf8>',
      'zone: Int64',
      'weight: Float64',
      'up: Bool',
      'since: Timestamp<NANOSECOND, UTC>',
      'void: Null',
    ])
    expect([table.numRows, table.batches.length]).toEqual([3, 1])
  })

  test('has its values', () => {
    const column = (name: string) => [...(table.getChild(name) ?? [])]
    expect(column('int')).toEqual([1n, null, 2n ** 63n - 1n])
    expect(column('float')).toEqual([0.5, Number.NaN, null])
    expect(column('text')).toEqual(['a', null, 'ä😀'])
    expect(column('flag')).toEqual([true, false, null])
    expect(column('host')).toEqual(['h1', 'h1', 'h1'])
    expect(column('zone')).toEqual([4n, 4n, 4n])
    expect(column('up')).toEqual([true, true, true])
    expect(table.getChild('float')?.nullCount).toBe(1)
  })

  test('shares the buffers of its columns', () => {
    const shared = (name: string, buffer: ArrayBufferLike) =>
      expect(table.getChild(name)?.data[0].values.buffer, name).toBe(buffer)
    for (const column of frame.columns) {
      const { buffers, kind, name } = column
      if (kind === 'label' || buffers.dtype === 'null') continue
      shared(name, buffers.dtype === 'string' ? buffers.bytes.buffer : buffers.values.buffer)
    }
    const [back] = fromArrowTable(table)
    for (const name of ['int', 'float', 'when', 'flag']) {
      const [before, after] = [frame.column(name).buffers, back.column(name).buffers]
      if ('values' in before && 'values' in after) expect(after.values.buffer, name).toBe(before.values.buffer)
    }
    const [before, after] = [frame.column('text').buffers, back.column('text').buffers]
    if (before.dtype === 'string' && after.dtype === 'string') {
      expect([after.bytes.buffer, after.offsets.buffer]).toEqual([before.bytes.buffer, before.offsets.buffer])
    }
  })

  test('comes back as the same frame, also through IPC', () => {
    for (const back of [fromArrowTable(table), fromArrowTable(tableFromIPC(frameToArrowIpc([frame])))]) {
      expect(back.length).toBe(1)
      expect(plain(back[0])).toEqual(plain(frame))
      validateFrame(back[0])
    }
  })

  test('keeps views of shared memory', () => {
    const memory = new SharedArrayBuffer(32)
    const values = new Float64Array(memory, 8, 2)
    values.set([1.5, 2.5])
    const column = Column.fromBuffers({
      name: 'c',
      kind: 'slice',
      length: 2,
      validity: null,
      buffers: { dtype: 'float64', values },
    })
    const shared = toArrowTable(new Frame({ columns: [column] }))
    expect(shared.getChild('c')?.data[0].values.buffer).toBe(memory)
    expect([...(tableFromIPC(frameToArrowIpc([new Frame({ columns: [column] })])).getChild('c') ?? [])]).toEqual([
      1.5, 2.5,
    ])
  })

  test('may have no rows or no columns', () => {
    const empty = frame.slice(1, 1)
    for (const one of [empty, new Frame({ columns: [] }), new Frame({ columns: [labelColumn('l', 'x', 0)] })]) {
      expect(plain(fromArrowTable(toArrowTable(one))[0] ?? one)).toEqual(plain(one))
      tableFromIPC(frameToArrowIpc([one]))
    }
    expect(tableFromIPC(frameToArrowIpc([])).numCols).toBe(0)
  })

  test('of random cells and slices comes back as it was', () => {
    const seed = Date.now() % 2 ** 32
    const random = seededRandom(seed)
    for (let round = 0; round < 100; round++) {
      const rowCount = 1 + Math.floor(random() * 40)
      const cells = <T>(make: () => T) => Array.from({ length: rowCount }, () => (random() < 0.3 ? null : make()))
      const whole = new Frame({
        columns: [
          sliceColumn(
            'i',
            cells(() => BigInt(Math.floor(random() * 1e15))),
            'int64',
          ),
          sliceColumn('f', cells(random), 'float64'),
          sliceColumn(
            's',
            cells(() => 'xäy'.repeat(random() * 4)),
            'string',
          ),
          sliceColumn(
            'b',
            cells(() => random() < 0.5),
            'bool',
          ),
        ],
      })
      const start = Math.floor(random() * rowCount)
      const part = whole.slice(start, start + Math.ceil(random() * (rowCount - start)))
      expect(plain(fromArrowTable(tableFromIPC(frameToArrowIpc([part])))[0]), `seed ${seed}`).toEqual(plain(part))
      const cut = toArrowTable(whole).slice(start, start + part.length)
      expect(plain(fromArrowTable(cut)[0]), `seed ${seed}`).toEqual(plain(part))
    }
  })
})

describe('an Arrow stream of several frames', () => {
  const of = (host: string | null, ...values: number[]) =>
    new Frame({ columns: [sliceColumn('v', values), labelColumn('host', host, values.length)] })

  test('gives each frame its own labels', () => {
    const table = tableFromIPC(frameToArrowIpc([of('a', 1, 2), of('b', 3), of('b', 4)]))
    expect([...(table.getChild('v') ?? [])]).toEqual([1, 2, 3, 4])
    expect([...(table.getChild('host') ?? [])]).toEqual(['a', 'a', 'b', 'b'])
  })

  test('takes what fits the columns of its first frame', () => {
    const many = new Frame({ columns: [sliceColumn('host', ['x', null]), sliceColumn('v', [1n, 2n])] })
    const table = tableFromIPC(
      frameToArrowIpc([of('a', 1), many, new Frame({ columns: [sliceColumn('v', [9])] }), of(null, 5)]),
    )
    expect([...(table.getChild('v') ?? [])]).toEqual([1, 1, 2, 9, 5])
    expect([...(table.getChild('host') ?? [])]).toEqual(['a', 'x', null, null, null])
    const text = new Frame({ columns: [sliceColumn('host', ['p'])] })
    const label = new Frame({ columns: [labelColumn('host', 'q', 2)] })
    expect([...(tableFromIPC(frameToArrowIpc([text, label])).getChild('host') ?? [])]).toEqual(['p', 'q', 'q'])
  })

  test('fills columns that a later frame lacks with nulls, of every type', () => {
    const one = new Frame({ columns: [sliceColumn('other', [1, 2])] })
    const first = new Frame({ columns: [...frame.columns, sliceColumn('other', [0, 0, 0])], indices: frame.indices })
    const table = tableFromIPC(frameToArrowIpc([first, one]))
    const second = fromArrowTable(table)[1]
    expect(second.column('other').values()).toEqual([1, 2])
    for (const column of second.columns) {
      if (column.name !== 'other') expect(column.values(), column.name).toEqual([null, null])
    }
  })

  test('refuses other columns and other types', () => {
    const encoder = new ArrowStreamEncoder()
    encoder.encode(of('a', 1))
    expect(messageOf(() => encoder.encode(new Frame({ columns: [sliceColumn('w', [1])] })))).toContain(
      'column "w" is not in the schema of this Arrow stream',
    )
    expect(messageOf(() => encoder.encode(new Frame({ columns: [sliceColumn('v', ['x'])] })))).toContain(
      'column "v" is string, and Float64 in the first frame of this Arrow stream',
    )
    encoder.encode(of('b', 2))
    expect(Buffer.concat(encoder.finish()).length).toBeGreaterThan(0)
  })

  test('comes out piece by piece', () => {
    const encoder = new ArrowStreamEncoder()
    const pieces = [of('a', 1), of('a', 2)].map((one) => Buffer.concat(encoder.encode(one)))
    pieces.push(Buffer.concat(encoder.finish()))
    expect(pieces.every((piece) => piece.length > 0)).toBe(true)
    expect([...(tableFromIPC(Buffer.concat(pieces)).getChild('v') ?? [])]).toEqual([1, 2])
  })
})

describe('tables from elsewhere', () => {
  const read = (vector: Vector) => fromArrowTable(new Table({ c: vector }))[0].column('c')

  test.each<[string, unknown[], DataType, unknown[]]>([
    ['int64', [1, null, -3], new Int8(), [1n, null, -3n]],
    ['int64', [1n, 2n], new Uint64(), [1n, 2n]],
    ['float64', [0.5, null], new Float32(), [0.5, null]],
    ['float64', [0.5, 2], new Float16(), [0.5, 2]],
    ['string', ['a', null, 'bc'], new LargeUtf8(), ['a', null, 'bc']],
    ['time', [new Date(86400000), null], new DateDay(), [time(86400000000000n), null]],
    ['time', [new Date(5)], new DateMillisecond(), [time(5000000n)]],
    ['time', [2000, null], new TimestampSecond(), [time(2000000000n), null]],
    ['time', [1500], new TimestampMillisecond(), [time(1500000000n)]],
    ['bool', [true, null, false], new Bool(), [true, null, false]],
  ])('give %s (case %#)', (dtype, values, type, expected) => {
    const column = read(vectorFromArray(values, type))
    expect([column.dtype, column.values()]).toEqual([dtype, expected])
  })

  test('give dictionaries as texts, of one value as a label', () => {
    const many = read(vectorFromArray(['a', 'b', null, 'a'], new Dictionary(new Utf8(), new Int32())))
    expect([many.kind, many.values()]).toEqual(['slice', ['a', 'b', null, 'a']])
    const one = read(vectorFromArray(['a', null, 'a'], new Dictionary(new Utf8(), new Int32())))
    expect([one.kind, one.values()]).toEqual(['label', ['a', null, 'a']])
    const numbers = read(vectorFromArray([5, 6, 5], new Dictionary(new Float64(), new Int32())))
    expect(numbers.values()).toEqual([5, 6, 5])
  })

  test('give one frame for each record batch', () => {
    const table = tableFromArrays({ a: Int32Array.of(1, 2) }).concat(tableFromArrays({ a: Int32Array.of(3) }))
    expect(fromArrowTable(table).map((one) => one.column('a').values())).toEqual([[1n, 2n], [3n]])
  })

  test('are cut anywhere', () => {
    const values = Array.from({ length: 20 }, (_, i) => (i % 3 === 0 ? null : i % 2 === 0))
    const table = new Table({ c: vectorFromArray(values, new Bool()) }).slice(3, 14)
    expect(fromArrowTable(table)[0].column('c').values()).toEqual(values.slice(3, 14))
  })

  test('are refused where a value or a type does not fit', () => {
    expect(messageOf(() => read(vectorFromArray([2n ** 63n], new Uint64())))).toContain('exceeds 2^63 - 1')
    const far = makeData({ type: new TimestampMicrosecond(), data: BigInt64Array.of(2n ** 62n) })
    expect(messageOf(() => read(new Vector([far])))).toContain('is no time between 1677 and 2262')
    const list = vectorFromArray([[1n]], new List(new Field('item', new Int64())))
    expect(messageOf(() => read(list))).toContain('column "c": Arrow type List<Int64> has no dtype')
  })

  test.each(['{', '[1]', '{"a":null}', '{"a":{"int64":"x"}}', '{"a":{"list":1}}'])(
    'with damaged labels (%s) are refused',
    (text) => {
      const schema = new Schema([], new Map([['framesd.labels', text]]))
      const batch = new RecordBatch(schema, makeData({ type: new Struct([]), length: 0, children: [] }))
      expect(messageOf(() => fromArrowTable(new Table(schema, [batch])))).toContain('schema metadata framesd.labels')
    },
  )
})

const linesOf = (frame: Frame) => new TextDecoder().decode(jsonLines(frame)).split('\n').slice(0, -1)

/** What a cell should be as JSON, from plain values. */
function cellJson(column: Column, row: number): string {
  const value = column.at(row)
  if (value === null) return 'null'
  if (typeof value === 'object') return `"${formatTimeNs(value.timeNs)}"`
  if (typeof value === 'bigint') return Number.isSafeInteger(Number(value)) ? String(value) : `"${value}"`
  if (typeof value !== 'number') return JSON.stringify(value)
  if (!Number.isFinite(value)) return `"${value}"`
  return Object.is(value, -0) ? '-0' : String(value)
}

describe('rows as JSON', () => {
  test('keep what is exact, null and missing apart', () => {
    const rows = linesOf(frame)
    expect(rows.length).toBe(3)
    expect(rows[0]).toBe(
      '{"time":"1970-01-01T00:00:00.000000001Z","int":1,"float":0.5,"text":"a","flag":true,"when":null,"nothing":null,"host":"h1","zone":4,"weight":0.25,"up":true,"since":"1970-01-01T00:00:00.000000009Z","void":null}',
    )
    expect(JSON.parse(rows[1]!)).toMatchObject({ int: null, float: 'NaN', text: null, flag: false })
    expect(JSON.parse(rows[2]!)).toMatchObject({ int: '9223372036854775807', float: null, text: 'ä😀', flag: null })
  })

  test('show int64 beyond 2^53 as text and floats as they are', () => {
    const numbers = new Frame({
      columns: [
        sliceColumn('i', [2n ** 53n - 1n, -(2n ** 53n) + 1n, 2n ** 53n, -(2n ** 63n)]),
        sliceColumn('f', [1e21, -0, Number.POSITIVE_INFINITY, 5]),
      ],
    })
    expect(linesOf(numbers)).toEqual([
      '{"i":9007199254740991,"f":1e+21}',
      '{"i":-9007199254740991,"f":-0}',
      '{"i":"9007199254740992","f":"Infinity"}',
      '{"i":"-9223372036854775808","f":5}',
    ])
  })

  test('are what JSON.stringify, String and toISOString make of each cell', () => {
    const random = new SeededRandom(seed)
    const bits = new DataView(new ArrayBuffer(8))
    const int64 = () => {
      bits.setUint32(0, random.next() * 2 ** 32)
      bits.setUint32(4, random.next() * 2 ** 32)
      return bits.getBigInt64(0) >> BigInt(random.integer(0, 64))
    }
    const float64 = () => {
      const places = 10 ** random.integer(0, 7)
      if (random.chance(0.6)) return random.integer(-1e9, 1e9) / places
      if (random.chance(0.3))
        return random.pick([0, -0, 1e21, 1e-7, 1e15, 1e11, 99999999999.9999, 5e-324, -0.5, 2 ** 53])
      bits.setBigInt64(0, int64())
      return bits.getFloat64(0)
    }
    const times = [0n, -1n, 999_999_999n, -(2n ** 63n), 2n ** 63n - 1n, 86_400_000_000_000n, -86_400_000_000_001n]
    const timeOf = () => time(random.chance(0.2) ? random.pick(times) : int64() / random.pick([1n, 1000n, 1n]))
    const text = () =>
      random
        .list(random.integer(0, 30), () => random.pick(['a', 'é', '😀', '"', '\\', '\n', '\0', '\u2028', '\x7f', '/']))
        .join('')
    for (let round = 0; round < 40; round++) {
      const rowCount = random.integer(1, 200)
      const cells = <T>(make: () => T): (T | null)[] => {
        const missing = random.pick([0, 0.3])
        return random.list(rowCount, () => (random.chance(missing) ? null : make()))
      }
      const some = new Frame({
        indices: [sliceColumn('t\n', cells(timeOf), 'time')],
        columns: [
          sliceColumn('i', cells(int64), 'int64'),
          sliceColumn('f', cells(float64), 'float64'),
          sliceColumn('s"', cells(text), 'string'),
          sliceColumn(
            'b',
            cells(() => random.chance(0.5)),
            'bool',
          ),
          labelColumn('l', text(), rowCount),
        ],
      })
      const from = random.integer(0, rowCount)
      const part = some.slice(from, random.integer(from + 1, rowCount + 1))
      const columns = [...part.indices, ...part.columns]
      const rowsOf = random.list(part.length, (row) => {
        return `{${columns.map((column) => `${JSON.stringify(column.name)}:${cellJson(column, row)}`).join(',')}}`
      })
      expect(linesOf(part)).toEqual(rowsOf)
    }
  })

  test('of several frames make one array', () => {
    const one = new Frame({ columns: [sliceColumn('a"', ['\n\u2028', 'b'])] })
    const decoder = new TextDecoder()
    expect(decoder.decode(jsonElements(one, '['))).toBe('[{"a\\"":"\\n\u2028"},{"a\\"":"b"}')
    expect(decoder.decode(jsonElements(one, ','))).toBe(',{"a\\"":"\\n\u2028"},{"a\\"":"b"}')
    const none = new Frame({ columns: [sliceColumn('a', [], 'int64')] })
    expect([jsonElements(none, '[').length, jsonLines(none).length]).toEqual([0, 0])
  })

  test('name unnamed columns and refuse duplicate names', () => {
    const unnamed = new Frame({ indices: [sliceColumn('', [1n])], columns: [sliceColumn('', [2n])] })
    expect(linesOf(unnamed)).toEqual(['{"idx":1,"col-0":2}'])
    const twice = new Frame({ columns: [sliceColumn('a', [1n]), sliceColumn('a', [1n])] })
    expect(messageOf(() => jsonLines(twice))).toContain('duplicate column name - "a"')
  })
})
