import { describe, expect, test } from 'vitest'
import { sliceBitmap } from '../dist/engine/frame/bitmap.js'
import {
  columnOfCells,
  dateOfTime,
  labelBuilder,
  labelColumn,
  nullColumn,
  sliceBuilder,
  sliceColumn,
  timeOfDate,
} from '../dist/engine/frame/builder.js'
import { Column } from '../dist/engine/frame/column.js'
import type { DType } from '../dist/engine/frame/dtype.js'
import { Frame, frameFromMap, frameFromRows, validateFrame } from '../dist/engine/frame/frame.js'
import { frameRowCountMax } from '../dist/engine/limits.js'
import { messageOf, seededRandom } from './fuzz.js'

const time = (timeNs: bigint) => ({ timeNs })
const ints = (name: string, ...values: bigint[]) => sliceColumn(name, BigInt64Array.from(values))

describe('cells laid out as they are', () => {
  test('may be missing or unset, and keep all 64 bits', () => {
    const column = columnOfCells('n', 'int64', [2n ** 63n - 1n, null, undefined, -(2n ** 63n)])
    expect(column.values()).toEqual([2n ** 63n - 1n, null, 0n, -(2n ** 63n)])
    expect(columnOfCells('s', 'string', []).length).toBe(0)
  })

  test.each<[string, unknown, string]>([
    ['int64', [1n, 2], 'a cell of int64 is a bigint, not a number (column "n", row 1)'],
    ['time', [{ timeNs: 1n }], 'a cell of time is a bigint, not a Object (column "n", row 0)'],
    ['float64', [1n], 'a cell of float64 is a number, not a bigint (column "n", row 0)'],
    ['string', [null, 5], 'a cell of string is a string, not a number (column "n", row 1)'],
    ['bool', ['true'], 'a cell of bool is a boolean, not a string (column "n", row 0)'],
    ['int64', [2n ** 63n], 'an integer of more than 64 bits (column "n", row 0)'],
    ['int32', [1], 'unknown dtype - int32'],
    ['null', [null], 'unknown dtype - null'],
  ])('of %s are refused where they would become another value', (dtype, cells, message) => {
    const making = () => columnOfCells('n', dtype as 'int64', cells as bigint[])
    const failure = { code: 'VALUE_TYPE', message: expect.stringContaining(message) as string }
    expect(making).toThrow(expect.objectContaining(failure))
  })
})

describe('a column', () => {
  const samples: readonly [DType, Column, unknown[], string[]][] = [
    [
      'int64',
      sliceColumn('c', [1n, -2n, 2n ** 63n - 1n]),
      [1n, -2n, 2n ** 63n - 1n],
      ['1', '-2', '9223372036854775807'],
    ],
    [
      'float64',
      sliceColumn('c', [1.5, 1e21, Number.NaN]),
      [1.5, 1e21, Number.NaN],
      ['1.5', `1${'0'.repeat(21)}`, 'NaN'],
    ],
    ['string', sliceColumn('c', ['a', '', 'ä😀']), ['a', '', 'ä😀'], ['a', '', 'ä😀']],
    ['bool', sliceColumn('c', [true, false, true]), [true, false, true], ['true', 'false', 'true']],
    [
      'time',
      sliceColumn('c', [time(0n), time(1500000000n), time(-1n)]),
      [time(0n), time(1500000000n), time(-1n)],
      ['1970-01-01T00:00:00Z', '1970-01-01T00:00:01.5Z', '1969-12-31T23:59:59.999999999Z'],
    ],
  ]

  test.each(samples)('of %s gives its values and their texts', (dtype, column, values, texts) => {
    expect([column.dtype, column.kind, column.length]).toEqual([dtype, 'slice', 3])
    expect(column.values()).toEqual(values)
    expect([0, 1, 2].map((row) => column.at(row))).toEqual(values)
    expect(column.strings()).toEqual(texts)
    expect([0, 1, 2].map((row) => column.stringAt(row))).toEqual(texts)
    expect(column.isNull(1)).toBe(false)
  })

  test.each(samples)('of %s repeats the value of a label', (dtype, column, [value], [text]) => {
    const label = labelColumn('l', column.at(0), 4)
    expect([label.dtype, label.kind, label.length]).toEqual([dtype, 'label', 4])
    expect(label.values()).toEqual([value, value, value, value])
    expect(label.strings()).toEqual([text, text, text, text])
    expect(label.at(3)).toEqual(value)
    expect(label.slice(1, 3).values()).toEqual([value, value])
    expect(labelColumn('l', column.at(0), 0).values()).toEqual([])
    expect(labelColumn('l', column.at(0), 0).strings()).toEqual([])
    expect(() => label.at(4)).toThrow('index 4 out of bounds [0:4]')
  })

  test.each(samples)('of %s cuts slices that stay as they are', (_dtype, column, values, texts) => {
    const slice = column.slice(1, 3)
    expect(slice.values()).toEqual(values.slice(1))
    expect(slice.strings()).toEqual(texts.slice(1))
    expect(slice.slice(1, 2).values()).toEqual(values.slice(2))
    expect(column.slice(1, 1).length).toBe(0)
    expect(column.slice(0, 0).length).toBe(0)
    validateFrame(new Frame({ columns: [slice] }))
  })

  test('of a type gives its values as an array, of another type an error before any other', () => {
    expect(ints('c', 1n, 2n).ints()).toEqual(BigInt64Array.of(1n, 2n))
    expect(sliceColumn('c', [1.5]).floats()).toEqual(Float64Array.of(1.5))
    expect(sliceColumn('c', BigInt64Array.of(5n), 'time').times()).toEqual(BigInt64Array.of(5n))
    expect(sliceColumn('c', [true, false]).bools()).toEqual([true, false])
    expect(labelColumn('c', 7n, 2).ints()).toEqual(BigInt64Array.of(7n, 7n))
    expect(labelColumn('c', 7, 0).floats()).toEqual(new Float64Array(0))
    expect(labelColumn('c', true, 2).bools()).toEqual([true, true])
    const column = ints('c', 1n)
    for (const access of [
      () => column.floats(),
      () => column.times(),
      () => column.bools(),
      () => column.floatAt(9),
      () => column.timeNsAt(9),
      () => column.boolAt(9),
      () => sliceColumn('c', [1.5]).ints(),
      () => sliceColumn('c', [1.5]).intAt(9),
    ]) {
      expect(messageOf(access)).toMatch(/^wrong dtype\. /)
    }
    expect(column.intAt(0)).toBe(1n)
    expect(() => column.intAt(-1)).toThrow('index -1 out of bounds [0:1]')
    expect(() => column.at(0.5)).toThrow('index 0.5 out of bounds [0:1]')
    expect(() => column.stringAt(1)).toThrow('index 1 out of bounds [0:1]')
  })

  test.each(samples)(
    'of %s has the same cells in a slice before and after its buffers are asked for',
    (_dtype, column) => {
      const validity = Uint8Array.of(0b101)
      const slice = column.withValidity(validity).slice(1, 3).copyWithName('d').slice(0, 2)
      const cells = [null, column.at(2)]
      expect(slice.values()).toEqual(cells)
      expect(slice.fillerAt(1)).toEqual(column.at(2))
      // Bytes before and after: counted from the whole column's buffers, then from its own.
      const { byteLength } = slice
      const { buffers } = slice
      expect(slice.validity).toEqual(Uint8Array.of(0b10))
      if (buffers.dtype === 'string') expect(buffers.offsets[0]).toBe(0)
      expect(slice.values()).toEqual(cells)
      expect(slice.byteLength).toBe(byteLength)
      expect(slice.slice(1, 2).values()).toEqual([column.at(2)])
      const arrays =
        buffers.dtype === 'string' ? [buffers.offsets, buffers.bytes] : buffers.dtype === 'null' ? [] : [buffers.values]
      expect(byteLength).toBe(arrays.reduce((sum, array) => sum + array.byteLength, slice.validity!.byteLength))
      expect(new Frame({ columns: [slice], indices: [slice] }).byteLength).toBe(2 * byteLength)
    },
  )

  test('refuses slices that it does not have', () => {
    const column = ints('c', 1n, 2n, 3n)
    expect(messageOf(() => column.slice(2, 1))).toMatch(/^start 2 bigger than end 1/)
    expect(messageOf(() => column.slice(3, 3))).toMatch(/^index 3 out of bounds \[0:3\]/)
    expect(messageOf(() => column.slice(-1, 2))).toMatch(/^index -1 out of bounds/)
    expect(messageOf(() => column.slice(1, 4))).toMatch(/^index 3 out of bounds/)
  })

  test('keeps its name when a copy gets another', () => {
    const column = sliceColumn('a', ['x'])
    expect([column.copyWithName('b').name, column.copyWithName('b').at(0), column.name]).toEqual(['b', 'x', 'a'])
  })

  test('of no type has length and nulls, but no texts', () => {
    const column = nullColumn('n', 2)
    expect([column.dtype, column.length, column.values(), column.isNull(0)]).toEqual(['null', 2, [null, null], true])
    expect(() => column.strings()).toThrow('unknown dtype - null')
    expect(() => column.stringAt(0)).toThrow('unknown dtype - null')
    expect(labelColumn('n', null, 3).values()).toEqual([null, null, null])
    expect(column.slice(1, 2).length).toBe(1)
  })

  test('distinguishes NaN from a missing value', () => {
    const column = sliceColumn('c', [Number.NaN, null, 0])
    expect(column.values()).toEqual([Number.NaN, null, 0])
    expect([column.isNull(0), column.isNull(1), column.fillerAt(1)]).toEqual([false, true, Number.NaN])
    expect(column.slice(1, 3).values()).toEqual([null, 0])
  })

  test('never shows what stands below a missing cell', () => {
    const column = Column.fromBuffers({
      name: 'c',
      kind: 'slice',
      length: 2,
      validity: Uint8Array.of(1),
      buffers: { dtype: 'float64', values: Float64Array.of(1.5, 99) },
    })
    expect([column.values(), column.strings(), column.stringAt(1), column.fillerAt(1)]).toEqual([
      [1.5, null],
      ['1.5', ''],
      '',
      Number.NaN,
    ])
    expect(sliceColumn('c', [null, 1.5]).floats()).toEqual(Float64Array.of(0, 1.5))
  })

  test('wraps views of shared memory without copying', () => {
    const memory = new SharedArrayBuffer(64)
    const values = new BigInt64Array(memory, 8, 2)
    values.set([5n, 6n])
    const offsets = new Uint32Array(memory, 32, 3)
    offsets.set([0, 1, 3])
    const bytes = new Uint8Array(memory, 48, 3)
    bytes.set(Buffer.from('xyz'))
    const column = Column.fromBuffers({
      name: 'c',
      kind: 'slice',
      length: 2,
      validity: null,
      buffers: { dtype: 'int64', values },
    })
    const text = Column.fromBuffers({
      name: 't',
      kind: 'slice',
      length: 2,
      validity: null,
      buffers: { dtype: 'string', offsets, bytes },
    })
    expect(column.buffers).toEqual({ dtype: 'int64', values })
    expect((column.buffers as { values: BigInt64Array }).values.buffer).toBe(memory)
    expect([column.values(), text.strings(), text.slice(1, 2).strings()]).toEqual([[5n, 6n], ['x', 'yz'], ['yz']])
  })

  test.each<[string, () => Column]>([
    ['values are too few', () => wrap(2, { dtype: 'int64', values: new BigInt64Array(1) })],
    ['values are too few', () => wrap(9, { dtype: 'bool', values: new Uint8Array(1) })],
    ['offsets are too few', () => wrap(2, { dtype: 'string', offsets: new Uint32Array(2), bytes: new Uint8Array(0) })],
    ['bytes are too few', () => wrap(1, { dtype: 'string', offsets: Uint32Array.of(0, 1), bytes: new Uint8Array(0) })],
    ['validity is too short', () => wrap(1, { dtype: 'null' }, new Uint8Array(0))],
    ['-1 is no row count', () => wrap(-1, { dtype: 'null' })],
    ['1.5 is no row count', () => wrap(1.5, { dtype: 'null' })],
  ])('whose %s is refused', (text, make) => {
    expect(messageOf(make)).toContain(text)
  })

  function wrap(length: number, buffers: Column['buffers'], validity: Uint8Array | null = null): Column {
    return Column.fromBuffers({ name: 'c', kind: 'slice', length, validity, buffers })
  }

  test.each<[string, () => Column]>([
    ['unknown data type undefined', () => sliceColumn('c', [])],
    ['unknown data type Object', () => sliceColumn('c', [{}] as never)],
    ['unknown data type function', () => labelColumn('c', (() => 1) as never, 1)],
    ['wrong type for float64 - string', () => sliceColumn('c', [1, 'a'])],
    ['wrong type for int64 - number', () => sliceColumn('c', [1n, 1.5])],
    ['wrong type for int64 - bigint', () => sliceColumn('c', [2n ** 63n])],
    ['an invalid Date is no time', () => sliceColumn('c', [new Date(Number.NaN)])],
  ])('is refused: %s', (text, make) => {
    expect(messageOf(make)).toContain(text)
  })

  test('is made of typed arrays and of values of a given type', () => {
    expect(sliceColumn('c', [], 'time').dtype).toBe('time')
    expect(sliceColumn('c', [1, 2], 'int64').values()).toEqual([1n, 2n])
    expect(sliceColumn('c', Int32Array.of(-1)).values()).toEqual([-1n])
    expect(sliceColumn('c', Uint8Array.of(255)).values()).toEqual([255n])
    expect(sliceColumn('c', Float32Array.of(0.5)).values()).toEqual([0.5])
    expect(sliceColumn('c', [null, undefined]).dtype).toBe('null')
    expect(sliceColumn('c', [null, 'x']).values()).toEqual([null, 'x'])
    expect(sliceColumn('c', [new Date(5)]).values()).toEqual([time(5000000n)])
    const values = Float64Array.of(1)
    expect(sliceColumn('c', values).floats().buffer).toBe(values.buffer)
  })

  test('times and Dates become each other', () => {
    const date = new Date('1969-12-31T23:59:59.999Z')
    expect(timeOfDate(date)).toEqual(time(-1000000n))
    expect(dateOfTime(timeOfDate(date))).toEqual(date)
    expect(dateOfTime(time(-1n))).toEqual(date)
  })
})

test('a slice of a bitmap has the bits of its rows, and zeros behind', () => {
  const seed = Date.now() % 2 ** 32
  const random = seededRandom(seed)
  for (let round = 0; round < 500; round++) {
    const rowCount = Math.floor(random() * 70)
    const flags = Array.from({ length: rowCount }, () => random() < 0.5)
    const bits = new Uint8Array(Math.ceil(rowCount / 8)).fill(255)
    flags.forEach((flag, row) => {
      if (!flag) bits[row >> 3] &= ~(1 << (row & 7))
    })
    const start = Math.floor(random() * (rowCount + 1))
    const end = start + Math.floor(random() * (rowCount - start + 1))
    const sliced = sliceBitmap(bits, start, end)
    const wanted = new Uint8Array(Math.ceil((end - start) / 8))
    flags.slice(start, end).forEach((flag, row) => {
      if (flag) wanted[row >> 3] |= 1 << (row & 7)
    })
    expect([...sliced], `seed ${seed}, [${start}, ${end}) of ${rowCount}`).toEqual([...wanted])
  }
})

describe('a frame', () => {
  const frame = new Frame({
    indices: [sliceColumn('time', BigInt64Array.of(1n, 2n, 3n), 'time')],
    columns: [sliceColumn('cpu', [0.5, null, 1.5]), labelColumn('host', 'a', 3)],
    labels: { os: 'linux', id: 7n },
  })

  test('knows its columns, names, labels and length', () => {
    expect([frame.length, frame.names, frame.indices.length]).toEqual([3, ['cpu', 'host'], 1])
    expect([...frame.labels]).toEqual([
      ['os', 'linux'],
      ['id', 7n],
    ])
    expect(frame.column('host').at(2)).toBe('a')
    expect(messageOf(() => frame.column('time'))).toMatch(/^column "time" not found\. /)
  })

  test('finds the last of several columns of one name', () => {
    const twice = new Frame({ columns: [ints('a', 1n), ints('a', 2n)] })
    expect(twice.column('a').at(0)).toBe(2n)
  })

  test('says which cells are missing', () => {
    expect([frame.isNull(0, 'cpu'), frame.isNull(1, 'cpu'), frame.isNull(1, 'host'), frame.isNull(1, 'time')]).toEqual([
      false,
      true,
      false,
      false,
    ])
    expect(frame.nullValues()).toEqual([new Set(), new Set(['cpu']), new Set()])
    expect(new Frame({ columns: [ints('a', 1n)] }).nullValues()).toBeNull()
    expect(() => frame.isNull(3, 'cpu')).toThrow('row 3 out of bounds [0:3]')
    expect(() => frame.isNull(0, 'nosuch')).toThrow('column "nosuch" not found')
  })

  test('takes null marks as rows of names', () => {
    const marked = new Frame({
      columns: [ints('a', 1n, 2n), sliceColumn('b', ['x', null]), nullColumn('n', 2)],
      nullValues: [['a', 'b'], ['n']],
    })
    expect(marked.columns.map((column) => column.values())).toEqual([
      [null, 2n],
      [null, null],
      [null, null],
    ])
    expect(messageOf(() => new Frame({ columns: [ints('a', 1n)], nullValues: [[], []] }))).toContain(
      'for 2 rows, not 1',
    )
    expect(messageOf(() => new Frame({ columns: [ints('a', 1n)], nullValues: [['b']] }))).toContain('"b" not found')
    expect(new Frame({ columns: [ints('a', 1n)], nullValues: [] }).nullValues()).toBeNull()
  })

  test('cuts slices with indices, marks and labels', () => {
    const slice = frame.slice(1, 3)
    expect([slice.length, slice.labels]).toEqual([2, frame.labels])
    expect(slice.indices[0].times()).toEqual(BigInt64Array.of(2n, 3n))
    expect(slice.column('cpu').values()).toEqual([null, 1.5])
    expect(slice.column('host').values()).toEqual(['a', 'a'])
    expect(frame.slice(1, 1).length).toBe(0)
  })

  test.each([
    [-1, 2, 'negative indexing not supported'],
    [2, 1, 'end < start'],
    [3, 3, 'start out of bounds'],
    [0, 4, 'end out of bounds'],
  ])('refuses the slice [%i, %i)', (start, end, text) => {
    expect(messageOf(() => frame.slice(start, end))).toMatch(new RegExp(`^${text}\\. `))
  })

  test('refuses columns of different lengths and labels that are no values', () => {
    expect(messageOf(() => new Frame({ columns: [ints('a', 1n), ints('b')] }))).toMatch(
      /^"b" column size mismatch \(0 != 1\)/,
    )
    expect(
      messageOf(() => new Frame({ columns: [ints('a', 1n)], indices: [ints('a', 1n), ints('i', 1n, 2n)] })),
    ).toMatch(/^index column 1 size mismatch \(2 != 1\)/)
    expect(messageOf(() => new Frame({ columns: [], indices: [ints('a', 1n), ints('i')] }))).toMatch(
      /^index column 1 size mismatch \(0 != 1\)/,
    )
    expect(messageOf(() => new Frame({ columns: [], labels: { a: null as never } }))).toMatch(
      /^can't encode a: unsupported type null/,
    )
  })

  test('may be empty', () => {
    const empty = new Frame({ columns: [] })
    expect([empty.length, [...empty.rows()], empty.nullValues()]).toEqual([0, [], null])
    expect(new Frame({ columns: [], indices: [ints('i', 1n)] }).length).toBe(1)
    validateFrame(empty)
  })

  test('from outside is validated down to its string offsets', () => {
    const text = (...offsets: number[]) =>
      new Frame({
        columns: [
          Column.fromBuffers({
            name: 's',
            kind: 'slice',
            length: offsets.length - 1,
            validity: null,
            buffers: { dtype: 'string', offsets: Uint32Array.from(offsets), bytes: new Uint8Array(4) },
          }),
        ],
      })
    validateFrame(text(0, 2, 2, 4))
    expect(messageOf(() => validateFrame(text(0, 3, 2)))).toContain('column "s": its offsets decrease at row 1')
    expect(messageOf(() => validateFrame(text(1, 2)))).toContain('column "s": its first offset is not 0')
    const long = new Frame({ columns: [labelColumn('l', 'x', frameRowCountMax + 1)] })
    expect(messageOf(() => validateFrame(long))).toContain(`a frame of ${frameRowCountMax + 1} rows exceeds`)
  })
})

describe('rows', () => {
  const frame = new Frame({
    indices: [ints('', 1n, 2n), ints('k', 3n, 4n), ints('', 5n, 6n)],
    columns: [
      sliceColumn('a', [0.5, null]),
      sliceColumn('', ['x', null]),
      labelColumn('l', true, 2),
      nullColumn('n', 2),
    ],
  })

  test('are objects, with names for unnamed columns', () => {
    expect([...frame.rows()]).toEqual([
      { a: 0.5, 'col-1': 'x', l: true, n: null },
      { a: null, 'col-1': null, l: true, n: null },
    ])
    expect([...frame.rows({ includeIndex: true })][1]).toEqual({
      idx: 2n,
      k: 4n,
      'idx-2': 6n,
      a: null,
      'col-1': null,
      l: true,
      n: null,
    })
  })

  test('show what stands below missing cells on demand', () => {
    expect([...frame.rows({ nulls: 'filler' })][1]).toEqual({ a: Number.NaN, 'col-1': '', l: true, n: null })
  })

  test('of duplicate names are refused', () => {
    const twice = new Frame({ columns: [ints('a', 1n), ints('a', 1n)], indices: [ints('i', 1n)] })
    expect(messageOf(() => [...twice.rows()])).toMatch(/^duplicate column name - "a"/)
    const shared = new Frame({ columns: [ints('a', 1n)], indices: [ints('a', 1n)] })
    expect([...shared.rows()]).toEqual([{ a: 1n }])
    expect(messageOf(() => [...shared.rows({ includeIndex: true })])).toMatch(
      /^duplicate name in columns and indices - "a"/,
    )
  })

  test('may have a column called __proto__', () => {
    const [row] = new Frame({ columns: [ints('__proto__', 1n)] }).rows()
    expect(Object.entries(row)).toEqual([['__proto__', 1n]])
  })
})

describe('frames from plain data', () => {
  test('arrays by name keep their order', () => {
    const frame = frameFromMap({ b: [1, 2], a: ['x', 'y'] }, { time: BigInt64Array.of(1n, 2n) }, { os: 'mac' })
    expect([frame.names, frame.indices[0].name, frame.labels.get('os')]).toEqual([['b', 'a'], 'time', 'mac'])
    expect(
      frameFromMap(
        new Map([
          ['2', [true]],
          ['1', [false]],
        ]),
      ).names,
    ).toEqual(['2', '1'])
    expect(messageOf(() => frameFromMap({ a: [{} as never] }))).toMatch(
      /^can't create column "a": unknown data type Object/,
    )
  })

  test('row objects give columns of the first type seen, and fillers with null marks', () => {
    const frame = frameFromRows(
      [
        { x: 1n, y: 'a' },
        { x: 2n, z: 1 },
        { x: 3n, y: 'b', z: 2n },
      ],
      ['z'],
      { os: 'mac' },
    )
    expect([frame.length, frame.names]).toEqual([3, ['x', 'y']])
    expect(frame.column('x').ints()).toEqual(BigInt64Array.of(1n, 2n, 3n))
    expect(frame.column('y').values()).toEqual(['a', null, 'b'])
    expect(frame.column('y').strings()).toEqual(['a', '', 'b'])
    expect(frame.indices[0].values()).toEqual([Number.NaN, 1, 2])
    expect(frame.labels.get('os')).toBe('mac')
  })

  test('a value of another type is refused with its place', () => {
    expect(messageOf(() => frameFromRows([{ x: 1n }, { x: 1.5 }]))).toMatch(
      /^wrong type for int64 - number \(column "x", row 1\)/,
    )
    expect(messageOf(() => frameFromRows([{ x: new Date(0) }, { x: 'a' }]))).toMatch(
      /^wrong type for time\.Time - string/,
    )
    expect(messageOf(() => frameFromRows([{ x: (() => 1) as never }]))).toMatch(/^unsupported type function/)
  })

  test('rows without values and no rows at all are fine', () => {
    expect([frameFromRows([]).length, frameFromRows([{}]).length]).toEqual([0, 0])
    const empty = frameFromRows([{ a: null }, {}])
    expect([empty.length, empty.column('a').dtype]).toEqual([2, 'null'])
  })

  test('the rows of a frame make the same frame', () => {
    const rows = [
      { a: 1n, b: 0.5, c: 'x', d: true, e: time(5n) },
      { a: 2n, b: null, c: null, d: null, e: time(6n) },
    ]
    expect([...frameFromRows(rows).rows()]).toEqual(rows)
  })
})

describe('a slice builder', () => {
  test('takes values at any row and fills gaps', () => {
    const filled = (dtype: DType, value: never) => {
      const builder = sliceBuilder('c', dtype)
      builder.set(2, value)
      expect([builder.at(0), builder.name]).toEqual([undefined, 'c'])
      return builder.finish().values()
    }
    expect(filled('int64', 5n as never)).toEqual([0n, 0n, 5n])
    expect(filled('float64', 1.5 as never)).toEqual([Number.NaN, Number.NaN, 1.5])
    expect(filled('string', 'a' as never)).toEqual(['', '', 'a'])
    expect(filled('bool', true as never)).toEqual([false, false, true])
    expect(filled('time', new Date(1) as never)).toEqual([time(0n), time(0n), time(1000000n)])
  })

  test('deletes rows at the end of its work', () => {
    const builder = sliceBuilder('c', 'int64', 3)
    for (let i = 0; i < 10; i++) builder.set(i, BigInt(i))
    for (const row of [1, 3, 9]) builder.delete(row)
    expect(builder.at(3)).toBe(3n)
    expect(builder.finish().ints()).toEqual(BigInt64Array.of(0n, 2n, 4n, 5n, 6n, 7n, 8n))
    builder.set(3, 33n)
    expect(builder.finish().ints()).toEqual(BigInt64Array.of(0n, 2n, 33n, 4n, 5n, 6n, 7n, 8n))
    expect(() => builder.delete(10)).toThrow('index out of bounds [0:9]')
    const single = sliceBuilder('c', 'int64')
    single.set(0, 1n)
    single.delete(0)
    expect(single.finish().length).toBe(0)
  })

  test('appends behind its last row, whatever the hint', () => {
    const builder = sliceBuilder('c', 'time', 1)
    for (const value of [1n, time(2n), new Date(3), null, 5]) builder.append(value)
    expect([builder.at(0), builder.at(1), builder.at(2), builder.at(3)]).toEqual([1n, 2n, 3000000n, null])
    expect(builder.finish().values()).toEqual([time(1n), time(2n), time(3000000n), null, time(5n)])
    expect(() => builder.at(5)).toThrow('index out of bounds [0:4]')
    expect(() => sliceBuilder('c', 'int64').at(0)).toThrow('index out of bounds [0:-1]')
  })

  test.each<[DType, unknown, string]>([
    ['int64', 1.5, 'unsupported type for int64 slice column - number'],
    ['int64', 'a', 'unsupported type for int64 slice column - string'],
    ['float64', 1n, 'unsupported type for float64 slice column - bigint'],
    ['string', 1, 'unsupported type for string slice column - number'],
    ['bool', 1n, 'unsupported type for bool slice column - bigint'],
    ['time', 'now', 'unsupported type for time slice column - string'],
    ['time', 2n ** 63n, 'unsupported type for time slice column - bigint'],
  ])('of %s refuses %s', (dtype, value, text) => {
    expect(messageOf(() => sliceBuilder('c', dtype).append(value as never))).toContain(text)
  })

  test('refuses rows that no frame has, and the type null', () => {
    expect(() => sliceBuilder('c', 'int64').set(-1, 1n)).toThrow('-1 is no row number')
    expect(() => sliceBuilder('c', 'int64').set(1e12, 1n)).toThrow('1000000000000 is no row number')
    expect(() => sliceBuilder('c', 'null')).toThrow('unknown dtype - null')
    expect(() => labelBuilder('c', 'null', 0)).toThrow('unknown dtype - null')
  })
})

describe('a label builder', () => {
  test('keeps its first value', () => {
    const builder = labelBuilder('l', 'string', 2)
    expect(builder.at(1)).toBeUndefined()
    builder.set(0, 'a')
    builder.append('a')
    expect([builder.at(2), builder.finish().length]).toEqual(['a', 3])
    builder.set(4, 'a')
    expect(builder.finish().values()).toEqual(['a', 'a', 'a', 'a', 'a'])
    expect(messageOf(() => builder.set(0, 'b'))).toContain('differnt value int string label column - b != a')
    expect(messageOf(() => builder.append(1))).toContain('unsupported type for string label column - number')
    expect(messageOf(() => builder.append(null))).toContain('unsupported type for string label column - null')
    expect(() => builder.at(5)).toThrow('index out of bounds 5 > 4')
  })

  test('loses a row for each index deleted', () => {
    const builder = labelBuilder('l', 'int64', 3)
    builder.set(0, 1n)
    for (const row of [0, 0, 99]) builder.delete(row)
    expect(builder.finish().values()).toEqual([1n])
    expect(labelBuilder('l', 'float64', 2).finish().values()).toEqual([Number.NaN, Number.NaN])
  })
})
