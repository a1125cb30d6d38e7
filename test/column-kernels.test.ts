// Bitmap, compare, gather, convert and aggregate kernels against twins too simple to be wrong.
import { afterEach, describe, expect, test } from 'vitest'
import { ColumnsInMemory, packBits, unpackBits } from './columns-in-memory.js'
import { rowCounts, SeededRandom, seed } from './seeded-random.js'

const columns = new ColumnsInMemory(8 * 2 ** 20)
const { call } = columns.kernels
const random = new SeededRandom(seed)

afterEach(() => columns.clear())

/** Runs the body for each row count, a few times, and checks the guards each time. */
function forRowCounts(body: (rowCount: number) => void): void {
  for (const rowCount of rowCounts) {
    for (let round = 0; round < 4; round++) {
      body(rowCount)
      columns.expectGuardsIntact()
      columns.clear()
    }
  }
}

const bitmapByteLength = (rowCount: number) => Math.ceil(rowCount / 8)
const countTrue = (bits: readonly boolean[]) => bits.filter(Boolean).length

describe('bitmaps', () => {
  test('the set bits are counted', () => {
    forRowCounts((rowCount) => {
      const bits = random.bits(rowCount)
      expect(call.countBits(columns.bits(bits), rowCount)).toBe(countTrue(bits))
    })
  })

  test('two bitmaps are combined row by row, also into one of the two', () => {
    forRowCounts((rowCount) => {
      const a = random.bits(rowCount)
      const b = random.bits(rowCount)
      const cases = [
        { kernel: call.andBits, twin: (x: boolean, y: boolean) => x && y },
        { kernel: call.orBits, twin: (x: boolean, y: boolean) => x || y },
        { kernel: call.andNotBits, twin: (x: boolean, y: boolean) => x && !y },
      ]
      for (const { kernel, twin } of cases) {
        const aPtr = columns.bits(a)
        const bPtr = columns.bits(b)
        const targetPtr = columns.target(bitmapByteLength(rowCount))
        const expected = a.map((bit, row) => twin(bit, b[row]!))
        kernel(aPtr, bPtr, targetPtr, rowCount)
        expect(columns.readBits(targetPtr, rowCount)).toEqual(expected)
        kernel(aPtr, bPtr, aPtr, rowCount)
        expect(columns.readBits(aPtr, rowCount)).toEqual(expected)
      }
    })
  })

  test('NOT turns every bit and leaves none past the last row', () => {
    forRowCounts((rowCount) => {
      const bits = random.bits(rowCount)
      const targetPtr = columns.target(bitmapByteLength(rowCount))
      call.notBits(columns.bits(bits), targetPtr, rowCount)
      expect(columns.readBits(targetPtr, rowCount)).toEqual(bits.map((bit) => !bit))
    })
  })

  test('a filled bitmap has every row and nothing past the last', () => {
    forRowCounts((rowCount) => {
      for (const value of [0, 1]) {
        const targetPtr = columns.target(bitmapByteLength(rowCount))
        call.fillBits(targetPtr, rowCount, value)
        expect(columns.readBits(targetPtr, rowCount)).toEqual(Array.from({ length: rowCount }, () => value === 1))
      }
    })
  })

  test('a range of rows is set and all other bits stay', () => {
    forRowCounts((rowCount) => {
      const bits = random.bits(rowCount)
      const rowStart = random.integer(0, rowCount + 1)
      const rowEnd = random.integer(rowStart, rowCount + 1)
      const value = random.chance(0.5)
      const targetPtr = columns.target(bitmapByteLength(rowCount))
      columns.kernels.u8.set(packBits(bits), targetPtr)
      call.setBitRange(targetPtr, rowStart, rowEnd, value ? 1 : 0)
      const expected = bits.map((bit, row) => (rowStart <= row && row < rowEnd ? value : bit))
      expect(columns.readBits(targetPtr, rowCount)).toEqual(expected)
    })
  })

  test('rows are copied from any place to any place and all other bits stay, garbage too', () => {
    forRowCounts((rowCount) => {
      const sourceRow = random.integer(0, 80)
      const targetRow = random.integer(0, 80)
      const source = random.bits(sourceRow + rowCount)
      const targetRowCount = targetRow + rowCount + random.integer(0, 20)
      const before = random.list(bitmapByteLength(targetRowCount) * 8, () => random.chance(0.5))
      const targetPtr = columns.target(before.length / 8)
      columns.kernels.u8.set(packBits(before), targetPtr)
      call.copyBits(columns.bits(source), sourceRow, targetPtr, targetRow, rowCount)
      const expected = [...before]
      for (let row = 0; row < rowCount; row++) expected[targetRow + row] = source[sourceRow + row]!
      expect(unpackBits(columns.kernels.u8.slice(targetPtr, targetPtr + before.length / 8), before.length)).toEqual(
        expected,
      )
    })
  })

  test('the row numbers of the set bits are listed in order', () => {
    forRowCounts((rowCount) => {
      const bits = random.bits(rowCount)
      const expected = [...bits.keys()].filter((row) => bits[row])
      const targetPtr = columns.target(expected.length * 4)
      expect(call.bitsToIndexes(columns.bits(bits), rowCount, targetPtr)).toBe(expected.length)
      expect(columns.readU32s(targetPtr, expected.length)).toEqual(expected)
    })
  })
})

describe('comparisons', () => {
  const operators: readonly (<T extends number | bigint | string>(a: T, b: T) => boolean)[] = [
    (a, b) => a === b,
    (a, b) => a !== b,
    (a, b) => a < b,
    (a, b) => a <= b,
    (a, b) => a > b,
    (a, b) => a >= b,
  ]

  /** Checks the mask and the count that a kernel gives. */
  function expectMask(rowCount: number, expected: boolean[], kernel: (maskPtr: number) => number): void {
    const maskPtr = columns.target(bitmapByteLength(rowCount))
    expect(kernel(maskPtr)).toBe(countTrue(expected))
    expect(columns.readBits(maskPtr, rowCount)).toEqual(expected)
  }

  test('float64 rows in a half-open range are marked; NaN never is, and a bound of NaN leaves none', () => {
    forRowCounts((rowCount) => {
      const values = random.list(rowCount, () => random.float64())
      const low = random.float64()
      const high = random.chance(0.2) && rowCount > 0 ? random.pick(values) : random.float64()
      const valuesPtr = columns.float64s(values)
      expectMask(
        rowCount,
        values.map((value) => low <= value && value < high),
        (maskPtr) => call.maskFloat64InRange(valuesPtr, rowCount, low, high, maskPtr),
      )
    })
  })

  test('int64 rows in a half-open range are marked, up to the ends of int64', () => {
    forRowCounts((rowCount) => {
      const values = random.list(rowCount, () => random.int64())
      const low = random.int64()
      const high = random.int64()
      const valuesPtr = columns.int64s(values)
      expectMask(
        rowCount,
        values.map((value) => low <= value && value < high),
        (maskPtr) => call.maskInt64InRange(valuesPtr, rowCount, low, high, maskPtr),
      )
    })
  })

  test('float64 rows are compared with a constant as IEEE 754 says, NaN, infinities and both zeros included', () => {
    forRowCounts((rowCount) => {
      const values = random.list(rowCount, () => random.float64(0.5))
      const constant = random.float64(0.7)
      const valuesPtr = columns.float64s(values)
      for (const [operator, holds] of operators.entries()) {
        expectMask(
          rowCount,
          values.map((value) => holds(value, constant)),
          (maskPtr) => call.compareFloat64(valuesPtr, rowCount, operator, constant, maskPtr),
        )
      }
    })
  })

  test('int64 rows are compared with a constant exactly', () => {
    forRowCounts((rowCount) => {
      const values = random.list(rowCount, () => random.int64())
      const constant = random.int64()
      const valuesPtr = columns.int64s(values)
      for (const [operator, holds] of operators.entries()) {
        expectMask(
          rowCount,
          values.map((value) => holds(value, constant)),
          (maskPtr) => call.compareInt64(valuesPtr, rowCount, operator, constant, maskPtr),
        )
      }
    })
  })

  test('strings are compared with a constant in the order of their bytes', () => {
    forRowCounts((rowCount) => {
      const values = random.list(rowCount, () => random.string())
      const constant = rowCount > 0 && random.chance(0.5) ? random.pick(values) : random.string()
      const { offsetsPtr, bytesPtr } = columns.text(values)
      const constantBytes = Buffer.from(constant)
      const constantPtr = columns.bytes(constantBytes)
      for (const [operator, holds] of operators.entries()) {
        expectMask(
          rowCount,
          values.map((value) => holds(Buffer.compare(Buffer.from(value), constantBytes), 0)),
          (maskPtr) =>
            call.compareStrings(offsetsPtr, bytesPtr, rowCount, operator, constantPtr, constantBytes.length, maskPtr),
        )
      }
    })
  })

  test('strings that begin with, end with or contain a text are marked; no match reaches into the next row', () => {
    const cases = [
      { kernel: call.startsStrings, twin: (value: string, text: string) => value.startsWith(text) },
      { kernel: call.endsStrings, twin: (value: string, text: string) => value.endsWith(text) },
      { kernel: call.containsStrings, twin: (value: string, text: string) => value.includes(text) },
    ]
    forRowCounts((rowCount) => {
      const values = random.list(rowCount, () => random.string())
      // Short and frequent, or a piece of a row; some pieces are longer than what is compared in one step.
      const row = [...(values[random.integer(0, rowCount)] ?? '')]
      const [from, to] = [random.integer(0, row.length + 1), random.integer(0, row.length + 1)]
      const text = random.chance(0.5)
        ? random.list(random.integer(0, 4), () => random.pick(['a', 'b', 'é'])).join('')
        : row.slice(random.chance(0.5) ? 0 : from, random.chance(0.5) ? row.length : to).join('')
      const { offsetsPtr, bytesPtr } = columns.text(values)
      const textPtr = columns.bytes(Buffer.from(text))
      for (const { kernel, twin } of cases) {
        expectMask(
          rowCount,
          values.map((value) => twin(value, text)),
          (maskPtr) => kernel(offsetsPtr, bytesPtr, rowCount, textPtr, Buffer.byteLength(text), maskPtr),
        )
      }
    })
  })

  test('the first row at or after a value is found in any range of a sorted column', () => {
    forRowCounts((rowCount) => {
      const draw = random.pick([
        () => random.int64(),
        // Few different values, all the same, and those at the ends of what there is.
        () => BigInt(random.integer(0, 5)),
        () => 2n ** 62n,
        () => random.pick([-(2n ** 63n), -1n, 0n, 2n ** 63n - 1n]),
        // Evenly spaced, about; and close together far away from zero.
        () => BigInt(random.integer(0, 10 * rowCount)) * 1_000_000_000n,
        () => 2n ** 62n + BigInt(random.integer(0, 100)),
      ])
      const values = random.list(rowCount, draw).sort((a, b) => (a < b ? -1 : a > b ? 1 : 0))
      const valuesPtr = columns.int64s(values)
      const rowStart = random.integer(0, rowCount + 1)
      const rowEnd = random.integer(rowStart, rowCount + 1)
      for (const value of [random.int64(), draw(), values[random.integer(0, rowCount)] ?? 0n]) {
        let expected = rowStart
        while (expected < rowEnd && values[expected]! < value) expected++
        expect(call.lowerBoundInt64(valuesPtr, rowStart, rowEnd, value)).toBe(expected)
      }
    })
  })
})

describe('compacting and expanding', () => {
  test('the present values are copied together, and back to their rows with 0 in the gaps', () => {
    forRowCounts((rowCount) => {
      const values = random.list(rowCount, () => random.int64())
      const validity = random.bits(rowCount)
      const dense = values.filter((_, row) => validity[row])
      const validityPtr = columns.bits(validity)
      const densePtr = columns.target(dense.length * 8)
      expect(call.compact64(columns.int64s(values), validityPtr, rowCount, densePtr)).toBe(dense.length)
      expect(columns.readInt64s(densePtr, dense.length)).toEqual(dense)
      const targetPtr = columns.target(rowCount * 8)
      call.expand64(densePtr, validityPtr, rowCount, targetPtr)
      expect(columns.readInt64s(targetPtr, rowCount)).toEqual(values.map((value, row) => (validity[row] ? value : 0n)))
    })
  })

  test('the present bits are copied together, and back to their rows with 0 in the gaps', () => {
    forRowCounts((rowCount) => {
      const bits = random.bits(rowCount)
      const validity = random.bits(rowCount)
      const dense = bits.filter((_, row) => validity[row])
      const validityPtr = columns.bits(validity)
      const densePtr = columns.target(bitmapByteLength(dense.length))
      expect(call.compactBits(columns.bits(bits), validityPtr, rowCount, densePtr)).toBe(dense.length)
      expect(columns.readBits(densePtr, dense.length)).toEqual(dense)
      const targetPtr = columns.target(bitmapByteLength(rowCount))
      call.expandBits(densePtr, validityPtr, rowCount, targetPtr)
      expect(columns.readBits(targetPtr, rowCount)).toEqual(bits.map((bit, row) => bit && validity[row]!))
    })
  })

  test('the offsets of the present strings are copied together and back; the text stays', () => {
    forRowCounts((rowCount) => {
      const validity = random.bits(rowCount)
      const values = validity.map((present) => (present ? random.string() : ''))
      const dense = values.filter((_, row) => validity[row])
      const { offsetsPtr, bytesPtr } = columns.text(values)
      const validityPtr = columns.bits(validity)
      const densePtr = columns.target((dense.length + 1) * 4)
      expect(call.compactStrings(offsetsPtr, bytesPtr, validityPtr, rowCount, densePtr)).toBe(dense.length)
      expect(columns.readText(densePtr, bytesPtr, dense.length)).toEqual(dense)
      const targetPtr = columns.target((rowCount + 1) * 4)
      call.expandOffsets(densePtr, validityPtr, rowCount, targetPtr)
      expect(columns.readText(targetPtr, bytesPtr, rowCount)).toEqual(values)
    })
  })

  test('a missing string that has text is refused', () => {
    for (const rowCount of [1, 5, 64, 65, 130]) {
      for (const missing of [0, rowCount >> 1, rowCount - 1]) {
        const values = random.list(rowCount, () => 'x')
        const { offsetsPtr, bytesPtr } = columns.text(values)
        const validityPtr = columns.bits(values.map((_, row) => row !== missing))
        const targetPtr = columns.target((rowCount + 1) * 4)
        expect(call.compactStrings(offsetsPtr, bytesPtr, validityPtr, rowCount, targetPtr)).toBe(-1)
        columns.expectGuardsIntact()
      }
    }
  })
})

describe('gathering', () => {
  const noRow = 0xffffffff

  /** Row numbers of a column, some of them "no row"; only those for a column without rows. */
  function randomIndexes(rowCount: number, count: number): number[] {
    const noRowChance = random.pick([0, 0.01, 0.1])
    const runLength = random.pick([1, 3, 8, 30, 1000])
    let row = 0
    return random.list(count, (index) => {
      if (rowCount === 0 || random.chance(noRowChance)) return noRow
      row = index % runLength === 0 ? random.integer(0, rowCount) : (row + 1) % rowCount
      return row
    })
  }

  test('values of 8 and of 4 bytes come by row number, 0 for no row', () => {
    forRowCounts((count) => {
      const rowCount = random.pick(rowCounts)
      const indexes = randomIndexes(rowCount, count)
      const indexesPtr = columns.u32s(indexes)
      const wide = random.list(rowCount, () => random.int64())
      const widePtr = columns.target(count * 8)
      call.gather64(columns.int64s(wide), indexesPtr, count, widePtr)
      expect(columns.readInt64s(widePtr, count)).toEqual(indexes.map((row) => (row === noRow ? 0n : wide[row]!)))
      const narrow = random.list(rowCount, () => random.integer(0, 2 ** 32))
      const narrowPtr = columns.target(count * 4)
      call.gather32(columns.u32s(narrow), indexesPtr, count, narrowPtr)
      expect(columns.readU32s(narrowPtr, count)).toEqual(indexes.map((row) => (row === noRow ? 0 : narrow[row]!)))
    })
  })

  test('values go where they are told, which is to gather them by the inverse order', () => {
    forRowCounts((count) => {
      const order = random.list(count, (i) => i)
      for (let i = count - 1; i > 0; i--) {
        const other = random.integer(0, i + 1)
        ;[order[i], order[other]] = [order[other]!, order[i]!]
      }
      const placesPtr = columns.target(count * 4)
      call.invertPermutation(columns.u32s(order), count, placesPtr)
      const values = random.list(count, () => random.int64())
      const targetPtr = columns.target(count * 8)
      call.place64(columns.int64s(values), placesPtr, count, targetPtr)
      expect(columns.readInt64s(targetPtr, count)).toEqual(order.map((row) => values[row]!))
    })
  })

  test('bits come by row number, false for no row', () => {
    forRowCounts((count) => {
      const rowCount = random.pick(rowCounts)
      const bits = random.bits(rowCount)
      const indexes = randomIndexes(rowCount, count)
      const targetPtr = columns.target(bitmapByteLength(count))
      call.gatherBits(columns.bits(bits), columns.u32s(indexes), count, targetPtr)
      expect(columns.readBits(targetPtr, count)).toEqual(indexes.map((row) => row !== noRow && bits[row]!))
    })
  })

  test('strings come by row number, empty for no row, and their length is known before', () => {
    forRowCounts((count) => {
      const rowCount = random.pick(rowCounts)
      const values = random.list(rowCount, () => random.string())
      const indexes = randomIndexes(rowCount, count)
      const expected = indexes.map((row) => (row === noRow ? '' : values[row]!))
      const byteLength = Buffer.byteLength(expected.join(''))
      const { offsetsPtr, bytesPtr } = columns.text(values)
      const indexesPtr = columns.u32s(indexes)
      expect(call.gatheredStringsByteLength(offsetsPtr, indexesPtr, count)).toBe(byteLength)
      const targetOffsetsPtr = columns.target((count + 1) * 4)
      const targetBytesPtr = columns.target(byteLength)
      expect(call.gatherStrings(offsetsPtr, bytesPtr, indexesPtr, count, targetOffsetsPtr, targetBytesPtr)).toBe(
        byteLength,
      )
      expect(columns.readText(targetOffsetsPtr, targetBytesPtr, count)).toEqual(expected)
    })
  })

  test('a string column is put together from ranges of others', () => {
    forRowCounts((rowCount) => {
      const pieces = random.list(3, () => random.list(rowCount, () => random.string()))
      const ranges = pieces.map(() => {
        const rowStart = random.integer(0, rowCount + 1)
        return { rowStart, rowEnd: random.integer(rowStart, rowCount + 1) }
      })
      const expected = pieces.flatMap((piece, at) => piece.slice(ranges[at]!.rowStart, ranges[at]!.rowEnd))
      const targetOffsetsPtr = columns.target((expected.length + 1) * 4)
      const targetBytesPtr = columns.target(Buffer.byteLength(expected.join('')))
      let row = 0
      let offset = 0
      for (const [at, piece] of pieces.entries()) {
        const { rowStart, rowEnd } = ranges[at]!
        const { offsetsPtr, bytesPtr } = columns.text(piece)
        const count = rowEnd - rowStart
        const rowPtr = targetOffsetsPtr + row * 4
        offset = call.copyStrings(offsetsPtr, bytesPtr, rowStart, count, rowPtr, offset, targetBytesPtr)
        row += count
      }
      expect(offset).toBe(Buffer.byteLength(expected.join('')))
      expect(columns.readText(targetOffsetsPtr, targetBytesPtr, expected.length)).toEqual(expected)
    })
  })
})

describe('conversions', () => {
  test('int64 becomes float64, rounded to nearest even, also in place', () => {
    forRowCounts((count) => {
      const values = random.list(count, () => random.int64())
      const valuesPtr = columns.int64s(values)
      const targetPtr = columns.target(count * 8)
      call.convertInt64ToFloat64(valuesPtr, count, targetPtr)
      expect(columns.readFloat64s(targetPtr, count)).toEqual(values.map(Number))
      call.convertInt64ToFloat64(valuesPtr, count, valuesPtr)
      expect(columns.readFloat64s(valuesPtr, count)).toEqual(values.map(Number))
    })
  })

  test('bits become 1 and 0', () => {
    forRowCounts((count) => {
      const bits = random.bits(count)
      const bitsPtr = columns.bits(bits)
      const floatsPtr = columns.target(count * 8)
      call.convertBitsToFloat64(bitsPtr, count, floatsPtr)
      expect(columns.readFloat64s(floatsPtr, count)).toEqual(bits.map(Number))
      const integersPtr = columns.target(count * 8)
      call.convertBitsToInt64(bitsPtr, count, integersPtr)
      expect(columns.readInt64s(integersPtr, count)).toEqual(bits.map(BigInt))
    })
  })

  test('a constant fills a column', () => {
    forRowCounts((count) => {
      const float = random.float64(0.5)
      const integer = random.int64()
      const floatsPtr = columns.target(count * 8)
      const integersPtr = columns.target(count * 8)
      call.fillFloat64(floatsPtr, count, float)
      call.fillInt64(integersPtr, count, integer)
      expect(columns.readFloat64s(floatsPtr, count)).toEqual(random.list(count, () => float))
      expect(columns.readInt64s(integersPtr, count)).toEqual(random.list(count, () => integer))
    })
  })
})

describe('copies', () => {
  test('bytes are copied as they are, also between places that overlap', () => {
    forRowCounts((count) => {
      const bytes = Uint8Array.from(random.list(count + 9, () => random.integer(0, 255)))
      const sourcePtr = columns.bytes(bytes)
      const targetPtr = columns.target(count)
      call.copyBytes(sourcePtr + 3, count, targetPtr)
      const { u8 } = columns.kernels
      expect(u8.slice(targetPtr, targetPtr + count)).toEqual(bytes.slice(3, 3 + count))
      call.copyBytes(sourcePtr, count, sourcePtr + 9)
      expect(u8.slice(sourcePtr + 9, sourcePtr + 9 + count)).toEqual(bytes.slice(0, count))
    })
  })

  test('codes are copied with a number added, also in place', () => {
    forRowCounts((count) => {
      const values = random.list(count, () => random.integer(0, 2 ** 31))
      const base = random.integer(0, 2 ** 31)
      const sourcePtr = columns.u32s(values)
      const targetPtr = columns.target(4 * count)
      const wanted = values.map((value) => (value + base) % 2 ** 32)
      call.shiftUint32(sourcePtr, count, base, targetPtr)
      expect(columns.readU32s(targetPtr, count)).toEqual(wanted)
      call.shiftUint32(sourcePtr, count, base, sourcePtr)
      expect(columns.readU32s(sourcePtr, count)).toEqual(wanted)
    })
  })
})

describe('aggregates of a column', () => {
  /** A column with its present values, the validity given as a pointer: 0 when nothing is missing, now and then. */
  function withValidity<T>(values: readonly T[]): { validityPtr: number; present: T[] } {
    if (random.chance(0.3)) return { validityPtr: 0, present: [...values] }
    const validity = random.bits(values.length)
    return { validityPtr: columns.bits(validity), present: values.filter((_, row) => validity[row]) }
  }

  test('sum, min and max of float64; NaN if one is NaN, and min and max if none is present', () => {
    forRowCounts((rowCount) => {
      const awkwardChance = random.pick([0, 0.001, 0.1])
      const values = random.list(rowCount, () => random.float64(awkwardChance))
      const { validityPtr, present } = withValidity(values)
      const valuesPtr = columns.float64s(values)
      const sum = call.sumFloat64(valuesPtr, validityPtr, rowCount)
      const expected = present.reduce((a, b) => a + b, 0)
      const magnitude = present.reduce((a, b) => a + Math.abs(b), 0)
      if (magnitude < 1e300) expect(Math.abs(sum - expected)).toBeLessThanOrEqual(magnitude * 1e-13)
      else if (present.some(Number.isNaN)) expect(sum).toBeNaN()
      const least = present.length === 0 ? Number.NaN : present.reduce((a, b) => Math.min(a, b))
      const greatest = present.length === 0 ? Number.NaN : present.reduce((a, b) => Math.max(a, b))
      expect(call.minFloat64(valuesPtr, validityPtr, rowCount)).toBe(least)
      expect(call.maxFloat64(valuesPtr, validityPtr, rowCount)).toBe(greatest)
    })
  })

  test('NaN counts wherever it stands', () => {
    for (const rowCount of rowCounts.slice(1)) {
      for (const at of [0, rowCount >> 1, rowCount - 1]) {
        const valuesPtr = columns.float64s(random.list(rowCount, (row) => (row === at ? Number.NaN : row)))
        expect(call.sumFloat64(valuesPtr, 0, rowCount)).toBeNaN()
        expect(call.minFloat64(valuesPtr, 0, rowCount)).toBeNaN()
        expect(call.maxFloat64(valuesPtr, 0, rowCount)).toBeNaN()
        const validityPtr = columns.bits(random.list(rowCount, (row) => row !== at))
        expect(call.sumFloat64(valuesPtr, validityPtr, rowCount)).toBe((rowCount * (rowCount - 1)) / 2 - at)
      }
      columns.clear()
    }
  })

  test('the least zero is -0 and the greatest is 0, wherever they stand', () => {
    for (const rowCount of [2, 3, 9, 64, 65, 100]) {
      for (const at of [0, rowCount >> 1, rowCount - 1]) {
        const negativePtr = columns.float64s(random.list(rowCount, (row) => (row === at ? -0 : 0)))
        expect(call.minFloat64(negativePtr, 0, rowCount)).toBe(-0)
        expect(call.maxFloat64(negativePtr, 0, rowCount)).toBe(0)
        const positivePtr = columns.float64s(random.list(rowCount, (row) => (row === at ? 0 : -0)))
        expect(call.minFloat64(positivePtr, 0, rowCount)).toBe(-0)
        expect(call.maxFloat64(positivePtr, 0, rowCount)).toBe(0)
      }
    }
  })

  test('the sum of float64 keeps its error bound where adding one by one does not', () => {
    const rowCount = 300_000
    const valuesPtr = columns.float64s(random.list(rowCount, () => 0.1))
    // The exact sum of the stored values, each 5.6e-18 above a tenth, is 30,000 within half a unit of its last place.
    expect(Math.abs(call.sumFloat64(valuesPtr, 0, rowCount) - 30_000)).toBeLessThanOrEqual(30_000 * 77 * 2 ** -53)
  })

  test('int64 is summed exactly and rounded once', () => {
    forRowCounts((rowCount) => {
      const values = random.list(rowCount, () => random.int64())
      const { validityPtr, present } = withValidity(values)
      const expected = Number(present.reduce((a, b) => a + b, 0n))
      expect(call.sumInt64AsFloat64(columns.int64s(values), validityPtr, rowCount)).toBe(expected)
    })
  })

  test('the extremes of int64 are exact; of no rows they are the ends of int64', () => {
    forRowCounts((rowCount) => {
      const values = random.list(rowCount, () => random.int64())
      const { validityPtr, present } = withValidity(values)
      const valuesPtr = columns.int64s(values)
      const sorted = [...present].sort((a, b) => (a < b ? -1 : 1))
      const least = sorted[0] ?? 2n ** 63n - 1n
      const greatest = sorted.at(-1) ?? -(2n ** 63n)
      expect(call.minInt64(valuesPtr, validityPtr, rowCount)).toBe(least)
      expect(call.maxInt64(valuesPtr, validityPtr, rowCount)).toBe(greatest)
    })
  })
})
