// The kernels of CSV text against twins too simple to be wrong, and against another parser.
import { initParser, type Schema } from 'udsv'
import { afterEach, describe, expect, test } from 'vitest'
import { floatText } from '../dist/engine/frame/value-text.js'
import { formatTimeNs, parseInt64, parseRfc3339 } from '../dist/engine/time.js'
import { KernelMemory, newSeed, Random } from './kernel-memory.js'

const memory = new KernelMemory(16 * 2 ** 20)
const { call, kernels } = memory
const random = new Random(newSeed())

afterEach(() => memory.reset())

type Outcome = string[][] | number

/** Records of a whole text, character by character; or the code of what is wrong. */
function parsedByTwin(text: string, columnCount: number): Outcome {
  const records: string[][] = []
  let record: string[] = []
  let field = ''
  let state: 'start' | 'plain' | 'quoted' | 'closed' = 'start'
  const endField = () => {
    record.push(field)
    field = ''
    state = 'start'
  }
  for (let i = 0; i <= text.length; i++) {
    const c = text[i]
    const isLineEnd = c === '\n' || c === undefined || (c === '\r' && (text[i + 1] === '\n' || i + 1 === text.length))
    if (state === 'quoted') {
      if (c === undefined) return -3
      if (c !== '"') field += c
      else if (text[i + 1] === '"') {
        field += '"'
        i++
      } else state = 'closed'
    } else if (isLineEnd) {
      const isBlank = state === 'start' && record.length === 0
      if (!isBlank) {
        endField()
        if (record.length !== columnCount) return -1
        records.push(record)
        record = []
      }
      if (c === '\r' && text[i + 1] === '\n') i++
    } else if (state === 'closed' && c !== ',') return -3
    else if (c === ',') endField()
    else if (c === '"') {
      if (state !== 'start') return -2
      state = 'quoted'
    } else {
      field += c
      state = 'plain'
    }
  }
  return records
}

/** The same by the kernel, in pieces of pieceByteLength bytes. */
function parsedByKernel(text: string, columnCount: number, pieceByteLength: number): Outcome {
  const bytes = Buffer.from(text)
  const capacity = columnCount + random.below(20)
  const fields = memory.allocate(8 * capacity)
  const status = memory.allocate(16)
  const records: string[][] = []
  for (let at = 0, wanted = pieceByteLength; at < bytes.length; ) {
    const piece = bytes.subarray(at, at + wanted)
    const textPtr = memory.bytes(piece)
    const isLast = at + piece.length === bytes.length
    const countMax = 1 + random.below(6)
    const count = call.csvIndex(textPtr, piece.length, isLast ? 1 : 0, columnCount, countMax, fields, capacity, status)
    if (count < 0) return count
    for (let i = 0; i < count; i++) {
      records.push(
        Array.from({ length: columnCount }, (_, column) => {
          const offsets = memory.allocate(8)
          const fieldPtr = fields + 8 * (i * columnCount + column)
          const target = memory.allocate(call.csvTextByteLength(fieldPtr, columnCount, 1))
          const byteLength = call.csvTexts(textPtr, fieldPtr, columnCount, 1, offsets, target)
          return Buffer.from(memory.readBytes(target, byteLength)).toString()
        }),
      )
    }
    const [consumed] = memory.readU32s(status, 4)
    at += consumed!
    // Nothing ended in this piece: a longer one.
    wanted = consumed === 0 ? wanted + pieceByteLength : pieceByteLength
  }
  return records
}

describe('records and fields', () => {
  test('are those of a parser that goes character by character, whatever the pieces', () => {
    const alphabet = [
      'a',
      'é',
      '1',
      ',',
      ',',
      '"',
      '"',
      '\n',
      '\n',
      '\r',
      '\r\n',
      '""',
      ' ',
      '\0',
      'long enough for sixteen',
    ]
    for (let round = 0; round < 4000; round++) {
      const text = Array.from({ length: random.below(24) }, () => random.pick(alphabet)).join('')
      const columnCount = 1 + random.below(3)
      // A quote as the last byte of a piece, and so on: pieces of any length.
      const pieceByteLength = 1 + random.below(40)
      const got = parsedByKernel(text, columnCount, pieceByteLength)
      expect(got, JSON.stringify({ text, columnCount, pieceByteLength })).toEqual(parsedByTwin(text, columnCount))
      memory.reset()
    }
  })

  test('are those of udsv where the text is well-formed', () => {
    for (let round = 0; round < 300; round++) {
      const columnCount = 2 + random.below(4)
      const table = Array.from({ length: 1 + random.below(40) }, () =>
        Array.from({ length: columnCount }, () =>
          random.pick(['', 'x', '17', 'a,b', 'say "so"', 'two\nlines', 'é€😀']),
        ),
      ).filter((record) => record.some((field) => field !== ''))
      if (table.length === 0) continue
      const quoted = (field: string) =>
        /[,"\n]/.test(field) || random.chance(0.3) ? `"${field.replaceAll('"', '""')}"` : field
      const text = table.map((record) => record.map(quoted).join(',')).join('\n')
      const cols = Array.from({ length: columnCount }, (_, i) => ({ name: `c${i}`, type: 's', repl: {} }))
      const schema = { skip: 0, col: ',', row: '\n', trim: false, cols } as unknown as Schema
      const expected = initParser(schema).stringArrs(text)
      expect(expected).toEqual(table)
      expect(parsedByKernel(text, columnCount, 1 + random.below(100))).toEqual(expected)
      memory.reset()
    }
  })

  test('the line of a wrong record is told, blank lines and lines inside quotes counted', () => {
    const text = Buffer.from('\n1,2\r\n\r\n"a\nb",c\n1,2,3\n')
    const status = memory.allocate(16)
    const fields = memory.allocate(8 * 20)
    expect(call.csvIndex(memory.bytes(text), text.length, 1, 2, 100, fields, 20, status)).toBe(-1)
    expect(memory.readU32s(status, 4)[2]).toBe(5)
  })

  test('a header is one record of whatever number of fields', () => {
    const text = Buffer.from('\na,"b ""c""",,d\n1,2\n')
    const status = memory.allocate(16)
    const fields = memory.allocate(8 * 4)
    expect(call.csvIndex(memory.bytes(text), text.length, 1, 0, 1, fields, 4, status)).toBe(1)
    expect(memory.readU32s(status, 4)).toEqual([16, 2, 2, 4])
    expect(call.csvIndex(memory.bytes(text), text.length, 1, 0, 1, fields, 3, status)).toBe(-1)
  })
})

const time = 1
const bool = 2
const int64 = 4
const float64 = 8
const text = 16
const empty = 32

/** Lays texts out as one column of unquoted fields. */
function column(texts: readonly string[]): { textPtr: number; fields: number } {
  const bytes = Buffer.from(texts.join(''))
  const entries: number[] = []
  let at = 0
  for (const one of texts) {
    const byteLength = Buffer.byteLength(one)
    entries.push(at, byteLength)
    at += byteLength
  }
  return { textPtr: memory.bytes(bytes), fields: memory.u32s(entries) }
}

function typesOf(texts: readonly string[]): number {
  const { textPtr, fields } = column(texts)
  const types = memory.u32s([0])
  call.csvTypes(textPtr, fields, 1, texts.length, types, memory.allocate(8))
  return memory.readU32s(types, 1)[0]!
}

function typeByTwin(one: string): number {
  if (one === '') return empty
  const instant = parseRfc3339(/^\d{4}-\d{2}-\d{2}$/.test(one) ? `${one}T00:00:00Z` : one)
  if (instant !== null && instant === BigInt.asIntN(64, instant)) return time
  if (/^(true|false)$/i.test(one)) return bool
  if (typeof parseInt64(one) === 'bigint') return int64
  if (/^[+-]?(inf|infinity|nan)$/i.test(one)) return float64
  if (/^[+-]?0x([0-9a-f]+\.?[0-9a-f]*|\.[0-9a-f]+)p[+-]?\d{1,5}$/i.test(one)) return float64
  if (/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(one) && Number.isFinite(Number(one))) return float64
  return text
}

describe('types of texts', () => {
  test.each([
    ['2018-01-01T00:00:00.123Z', time],
    ['2018-01-01', time],
    ['2018-01-01T00:00:00+02:00', time],
    ['2018-01-01T00:00:00', text],
    ['2018-02-29', text],
    ['2018-01-01 00:00:00', text],
    ['1677-09-21T00:12:43.145224192Z', time],
    ['1677-09-21T00:12:43.145224191Z', text],
    ['2262-04-11T23:47:16.854775807Z', time],
    ['2262-04-11T23:47:16.854775808Z', text],
    ['9999-12-31', text],
    ['TRUE', bool],
    ['False', bool],
    ['t', text],
    ['0', int64],
    ['-0', int64],
    ['+5', int64],
    ['007', int64],
    [' 5', text],
    ['9223372036854775807', int64],
    ['-9223372036854775808', int64],
    ['9223372036854775808', float64],
    ['00000000000000000000000000000001', int64],
    ['1_000', text],
    ['1.5', float64],
    ['.5', float64],
    ['5.', float64],
    ['.', text],
    ['1e5', float64],
    ['1e', text],
    ['1e+', text],
    ['1234e-5678', float64],
    ['1e400', text],
    ['1.7976931348623157e308', float64],
    ['1.7976931348623159e308', text],
    ['0x1.8p3', float64],
    ['0x18', text],
    ['iNf', float64],
    ['-Infinity', float64],
    ['NaN', float64],
    ['nane', text],
    ['-', text],
    ['+', text],
    ['', empty],
    ['é', text],
  ])('%j', (one, expected) => {
    expect(typesOf([one])).toBe(expected)
    expect(typeByTwin(one)).toBe(expected)
  })

  test('are those of the twin for texts that look nearly like values', () => {
    const parts = [
      '0',
      '1',
      '9',
      '12',
      '2018',
      '-',
      '-01',
      '-02',
      'T',
      ':00',
      '.',
      'e',
      'Z',
      '+',
      'p',
      '0x',
      'true',
      'inf',
      'nan',
      'a',
    ]
    for (let round = 0; round < 20_000; round++) {
      const one = Array.from({ length: 1 + random.below(7) }, () => random.pick(parts)).join('')
      expect(typesOf([one]), JSON.stringify(one)).toBe(typeByTwin(one))
      memory.reset()
    }
  })

  test('a column has the types of all its texts, and no more is asked of one that is text', () => {
    expect(typesOf(['1', '', '2.5'])).toBe(int64 | float64 | empty)
    expect(typesOf(['1', 'x', '2020-01-01'])).toBe(int64 | text)
    expect(typesOf(['true', '1'])).toBe(bool | int64)
  })
})

describe('values of texts', () => {
  test('floats are the nearest doubles', () => {
    const bits = new DataView(new ArrayBuffer(8))
    let slowCount = 0
    for (let round = 0; round < 40; round++) {
      const texts = Array.from({ length: 500 }, (_, i) => {
        bits.setBigInt64(0, random.int64())
        const any = bits.getFloat64(0)
        const unit = random.below(2 ** 31) / 2 ** 31
        if (i % 5 === 0) return Number.isFinite(any) ? String(any) : '0.1'
        if (i % 5 === 1) return String(unit * 10 ** (random.below(40) - 20))
        if (i % 5 === 2) return unit.toFixed(random.below(18))
        // Half-way between two doubles, and a little beside it.
        if (i % 5 === 3)
          return `${BigInt(2 ** 53) + 2n * BigInt(random.below(1000)) + 1n}${random.pick(['', '.0', '.0000001'])}e${random.below(20)}`
        return `${random.below(10 ** 9)}.${random.below(10 ** 9)}e${random.below(100) - 50}`
      })
      const { textPtr, fields } = column(texts)
      const values = memory.allocate(8 * texts.length)
      const validity = memory.allocate(Math.ceil(texts.length / 8))
      const hard = memory.u32s(texts.length)
      const status = memory.allocate(16)
      expect(call.csvFloats(textPtr, fields, 1, texts.length, values, validity, hard, status)).toBe(0)
      const slow = new Set(memory.readU32s(hard, memory.readU32s(status, 1)[0]!))
      slowCount += slow.size
      texts.forEach((one, i) => {
        if (!slow.has(i)) expect(kernels.f64[values / 8 + i], one).toBe(Number(one))
      })
      memory.reset()
    }
    // Far exponents are left to others; what is near is not.
    expect(slowCount).toBeLessThan(40 * 200)
  })

  test('integers and times are exact, empty texts are missing, other texts are refused', () => {
    for (const [kind, texts, expected] of [
      [int64, ['-9223372036854775808', '', '+7', '000'], [-(2n ** 63n), 0n, 7n, 0n]],
      [
        time,
        ['1969-12-31T23:59:59.999999999Z', '', '2018-01-01', '2018-01-01T01:00:00+01:00'],
        [-1n, 0n, 1_514_764_800n * 10n ** 9n, 1_514_764_800n * 10n ** 9n],
      ],
    ] as const) {
      const { textPtr, fields } = column(texts)
      const values = memory.allocate(8 * texts.length)
      const validity = memory.allocate(1)
      expect(call.csvIntegers(textPtr, fields, 1, texts.length, kind, values, validity)).toBe(1)
      expect(memory.readI64s(values, texts.length)).toEqual(expected)
      expect(memory.readBits(validity, texts.length)).toEqual([true, false, true, true])
      const wrong = column(['x'])
      expect(call.csvIntegers(wrong.textPtr, wrong.fields, 1, 1, kind, values, validity)).toBe(-1)
    }
  })

  test('booleans are read in any letter case, bit by bit', () => {
    const texts = Array.from({ length: 21 }, (_, i) => ['TRUE', 'false', '', 'True'][i % 4]!)
    const { textPtr, fields } = column(texts)
    const values = memory.allocate(3)
    const validity = memory.allocate(3)
    expect(call.csvBools(textPtr, fields, 1, texts.length, values, validity)).toBe(
      texts.filter((one) => one === '').length,
    )
    expect(memory.readBits(validity, texts.length)).toEqual(texts.map((one) => one !== ''))
    expect(memory.readBits(values, texts.length)).toEqual(texts.map((one) => /^true$/i.test(one)))
  })
})

describe('texts of values', () => {
  test('floats have the shortest digits', () => {
    const bits = new DataView(new ArrayBuffer(8))
    const values = [
      0,
      -0,
      1,
      -1.5,
      1e-7,
      0.0001,
      123456789.125,
      1e15,
      1e21,
      999999999999999.9,
      NaN,
      Infinity,
      -Infinity,
      0.1 + 0.2,
    ]
    for (let i = 0; i < 3000; i++) {
      bits.setBigInt64(0, random.int64())
      values.push(bits.getFloat64(0), random.below(10 ** 6) / 1000, random.below(2 ** 31) / 2 ** 31)
    }
    const source = memory.allocate(8 * values.length)
    kernels.f64.set(values, source / 8)
    const slots = memory.allocate(32 * values.length)
    const hard = memory.u32s(values.length)
    const slow = new Set(memory.readU32s(hard, call.csvFloatTexts(source, values.length, slots, hard)))
    expect(slow.size).toBeLessThan(values.length)
    values.forEach((value, i) => {
      if (slow.has(i)) return
      const slot = memory.readBytes(slots + 32 * i, 32)
      expect(Buffer.from(slot.subarray(1, 1 + slot[0]!)).toString()).toBe(floatText(value))
    })
  })

  test('records are written with quotes where they are needed, and only whole', () => {
    const texts = [
      '',
      'plain',
      'a,b',
      'say "so"',
      ' blank',
      'two\nlines',
      'cr\r',
      'a text of more than sixteen bytes, with a comma',
      'é',
    ]
    for (let round = 0; round < 200; round++) {
      const rowCount = 1 + random.below(40)
      const ints = Array.from({ length: rowCount }, () =>
        random.pick([0n, -1n, 2n ** 63n - 1n, -(2n ** 63n), random.int64()]),
      )
      const strings = Array.from({ length: rowCount }, () => random.pick(texts))
      const present = Array.from({ length: rowCount }, () => random.chance(0.8))
      const laid = memory.strings(strings.map((one) => Buffer.from(one)))
      const label = memory.strings([Buffer.from('one, for all')])
      const columns = memory.u32s([
        ...[1, 0, memory.i64s(ints), memory.bits(present), 0, 0],
        ...[4, 0, memory.i64s(ints), 0, 0, 0],
        ...[3, 0, laid.offsets, memory.bits(present), laid.bytes, 0],
        ...[5, 0, memory.bits(present), 0, 0, 0],
        ...[3, 1, label.offsets, 0, label.bytes, 0],
        ...[0, 0, 0, 0, 0, 0],
      ])
      const quoted = (one: string) => (/[,"\r\n]|^[ \t]/.test(one) ? `"${one.replaceAll('"', '""')}"` : one)
      const lines = ints.map(
        (value, row) =>
          `${present[row] ? value : ''},${formatTimeNs(value)},${present[row] ? quoted(strings[row]!) : ''},${present[row]},"one, for all",\n`,
      )
      const room = 400 + random.below(4000)
      const target = memory.allocate(room)
      const status = memory.allocate(4)
      let written = ''
      for (let row = 0; row < rowCount; ) {
        const count = call.csvRecords(columns, 6, row, rowCount, target, room, status)
        expect(count).toBeGreaterThan(0)
        written += Buffer.from(memory.readBytes(target, memory.readU32s(status, 1)[0]!)).toString()
        row += count
      }
      expect(written).toBe(lines.join(''))
      memory.reset()
    }
  })

  test('a record whose only field is empty is no blank line', () => {
    const laid = memory.strings([Buffer.from(''), Buffer.from('x')])
    const columns = memory.u32s([3, 0, laid.offsets, 0, laid.bytes, 0])
    const target = memory.allocate(200)
    const status = memory.allocate(4)
    expect(call.csvRecords(columns, 1, 0, 2, target, 200, status)).toBe(2)
    expect(Buffer.from(memory.readBytes(target, memory.readU32s(status, 1)[0]!)).toString()).toBe('""\nx\n')
  })
})
