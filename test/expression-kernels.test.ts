// The kernels of expressions against twins too simple to be wrong.
import { afterEach, expect, test } from 'vitest'
import { ColumnsInMemory } from './columns-in-memory.js'
import { rowCounts, SeededRandom, seed } from './seeded-random.js'

const columns = new ColumnsInMemory(8 * 2 ** 20)
const { call } = columns.kernels
const random = new SeededRandom(seed)

afterEach(() => columns.clear())

function forRowCounts(body: (rowCount: number) => void): void {
  for (const rowCount of rowCounts) {
    for (let round = 0; round < 4; round++) {
      body(rowCount)
      columns.expectGuardsIntact()
      columns.clear()
    }
  }
}

const bitsTarget = (rowCount: number) => columns.target(Math.ceil(rowCount / 8))

function expectMask(expected: readonly boolean[], kernel: (maskPtr: number) => number): void {
  const maskPtr = bitsTarget(expected.length)
  expect(kernel(maskPtr)).toBe(expected.filter(Boolean).length)
  expect(columns.readBits(maskPtr, expected.length)).toEqual(expected)
}

const operators: readonly (<T extends number | bigint>(a: T, b: T) => boolean)[] = [
  (a, b) => a === b,
  (a, b) => a !== b,
  (a, b) => a < b,
  (a, b) => a <= b,
  (a, b) => a > b,
  (a, b) => a >= b,
]

test('two columns are compared row by row, NaN and both zeros as IEEE 754 says', () => {
  forRowCounts((rowCount) => {
    const integers = random.list(rowCount, () => random.int64())
    const otherIntegers = integers.map((value) => (random.chance(0.3) ? value : random.int64()))
    const floats = random.list(rowCount, () => random.float64(0.5))
    const otherFloats = floats.map((value) => (random.chance(0.3) ? value : random.float64(0.5)))
    const texts = random.list(rowCount, () => random.string())
    const otherTexts = texts.map((value) => (random.chance(0.4) ? value : random.string()))
    const [aInts, bInts] = [columns.int64s(integers), columns.int64s(otherIntegers)]
    const [aFloats, bFloats] = [columns.float64s(floats), columns.float64s(otherFloats)]
    const [a, b] = [columns.text(texts), columns.text(otherTexts)]
    operators.forEach((holds, operator) => {
      expectMask(
        integers.map((value, row) => holds(value, otherIntegers[row]!)),
        (maskPtr) => call.comparePairsInt64(aInts, bInts, rowCount, operator, maskPtr),
      )
      expectMask(
        floats.map((value, row) => holds(value, otherFloats[row]!)),
        (maskPtr) => call.comparePairsFloat64(aFloats, bFloats, rowCount, operator, maskPtr),
      )
      expectMask(
        texts.map((value, row) => holds(Buffer.compare(Buffer.from(value), Buffer.from(otherTexts[row]!)), 0)),
        (maskPtr) =>
          call.comparePairsStrings(a.offsetsPtr, a.bytesPtr, b.offsetsPtr, b.bytesPtr, rowCount, operator, maskPtr),
      )
    })
  })
})

const integerOperations: readonly ((a: bigint, b: bigint) => bigint)[] = [
  (a, b) => a + b,
  (a, b) => a - b,
  (a, b) => a * b,
  (a, b) => a / b,
  (a, b) => a % b,
]

test('int64 arithmetic is exact, and rows that overflow or divide by zero are told apart', () => {
  forRowCounts((rowCount) => {
    const pickOne = () => (random.chance(0.4) ? BigInt(random.integer(-3, 4)) : random.int64())
    const lefts = random.list(rowCount, pickOne)
    const rights = random.list(rowCount, pickOne)
    const one = pickOne()
    integerOperations.forEach((apply, operator) => {
      for (const side of ['both', 'left', 'right', 'in place'] as const) {
        const leftOf = (row: number) => (side === 'left' ? one : lefts[row]!)
        const rightOf = (row: number) => (side === 'right' ? one : rights[row]!)
        const expected = lefts.map((_, row) => {
          if (operator >= 3 && rightOf(row) === 0n) return null
          const result = apply(leftOf(row), rightOf(row))
          return result === BigInt.asIntN(64, result) ? result : null
        })
        const aPtr = columns.int64s(side === 'left' ? [one] : lefts)
        const bPtr = columns.int64s(side === 'right' ? [one] : rights)
        const targetPtr = side === 'in place' ? aPtr : columns.target(8 * rowCount)
        const okPtr = bitsTarget(rowCount)
        const [aStride, bStride] = [side === 'left' ? 0 : 8, side === 'right' ? 0 : 8]
        const count = call.calculateInt64(operator, aPtr, aStride, bPtr, bStride, rowCount, targetPtr, okPtr)
        expect(count).toBe(expected.filter((value) => value === null).length)
        expect(columns.readInt64s(targetPtr, rowCount)).toEqual(expected.map((value) => value ?? 0n))
        expect(columns.readBits(okPtr, rowCount)).toEqual(expected.map((value) => value !== null))
      }
    })
  })
})

const floatOperations: readonly ((a: number, b: number) => number)[] = [
  (a, b) => a + b,
  (a, b) => a - b,
  (a, b) => a * b,
  (a, b) => a / b,
  (a, b) => a % b,
]

test('float64 arithmetic is that of JavaScript, to the bit but for the bits of NaN', () => {
  forRowCounts((rowCount) => {
    const lefts = random.list(rowCount, () => random.float64(0.3))
    const rights = random.list(rowCount, () => random.float64(0.3))
    const one = random.float64(0.3)
    floatOperations.forEach((apply, operator) => {
      const targetPtr = columns.target(8 * rowCount)
      const [aPtr, bPtr, onePtr] = [columns.float64s(lefts), columns.float64s(rights), columns.float64s([one])]
      call.calculateFloat64(operator, aPtr, 8, bPtr, 8, rowCount, targetPtr)
      expect(columns.readFloat64s(targetPtr, rowCount)).toEqual(lefts.map((left, row) => apply(left, rights[row]!)))
      call.calculateFloat64(operator, onePtr, 0, bPtr, 8, rowCount, targetPtr)
      expect(columns.readFloat64s(targetPtr, rowCount)).toEqual(rights.map((right) => apply(one, right)))
      call.calculateFloat64(operator, aPtr, 8, onePtr, 0, rowCount, aPtr)
      expect(columns.readFloat64s(aPtr, rowCount)).toEqual(lefts.map((left) => apply(left, one)))
    })
  })
})

test('the lesser and the greater of two columns: NaN wins, and of equals the first', () => {
  forRowCounts((rowCount) => {
    const lefts = random.list(rowCount, () => random.float64(0.5))
    const rights = random.list(rowCount, () => random.float64(0.5))
    const [a, b] = [random.list(rowCount, () => random.int64()), random.list(rowCount, () => random.int64())]
    const one = random.float64(0.5)
    for (const isMax of [false, true]) {
      const expected = (left: number, right: number): number => {
        if (Number.isNaN(left) || Number.isNaN(right)) return Number.NaN
        return (isMax ? right > left : right < left) ? right : left
      }
      const [aPtr, bPtr, onePtr] = [columns.float64s(lefts), columns.float64s(rights), columns.float64s([one])]
      const targetPtr = columns.target(8 * rowCount)
      call.extremeFloat64(isMax ? 1 : 0, onePtr, 0, bPtr, 8, rowCount, targetPtr)
      expect(columns.readFloat64s(targetPtr, rowCount)).toEqual(rights.map((right) => expected(one, right)))
      call.extremeFloat64(isMax ? 1 : 0, aPtr, 8, bPtr, 8, rowCount, aPtr)
      expect(columns.readFloat64s(aPtr, rowCount)).toEqual(lefts.map((left, row) => expected(left, rights[row]!)))
      call.extremeInt64(isMax ? 1 : 0, columns.int64s(a), 8, columns.int64s(b), 8, rowCount, targetPtr)
      expect(columns.readInt64s(targetPtr, rowCount)).toEqual(
        a.map((left, row) => ((isMax ? b[row]! > left : b[row]! < left) ? b[row]! : left)),
      )
    }
  })
})

const bitsOf = (value: number) => new BigInt64Array(Float64Array.of(value).buffer)[0]!

test('numbers are found in a set of numbers, and -0 in one with 0', () => {
  forRowCounts((rowCount) => {
    for (const isFloat of [false, true]) {
      const pickOne = () => (isFloat ? random.float64(0.3) : random.int64())
      const choices = random.list(random.integer(0, 300), pickOne).filter((value) => !Number.isNaN(value))
      const keys = choices.map((value) => (typeof value === 'bigint' ? value : bitsOf(value === 0 ? 0 : value)))
      const values = random.list(rowCount, () =>
        choices.length > 0 && random.chance(0.5) ? random.pick(choices) : pickOne(),
      )
      let empty = -1n
      while (keys.includes(empty)) empty--
      const setPtr = columns.target(call.numberSetByteLength(keys.length))
      expect(call.buildNumberSet(columns.int64s(keys), keys.length, empty, setPtr)).toBe(1)
      const cells = values.map((value) => (typeof value === 'bigint' ? value : bitsOf(value)))
      // The value that stands for an empty slot is found as little as any other.
      if (rowCount > 0 && !isFloat) cells[0] = empty
      const valuesPtr = columns.int64s(cells)
      expectMask(
        cells.map((cell, row) => (cell === empty ? false : choices.some((choice) => choice === values[row]))),
        (maskPtr) => call.maskInNumberSet(valuesPtr, rowCount, isFloat ? 1 : 0, setPtr, maskPtr),
      )
    }
  })
})

test('numbers that are made to collide are refused', () => {
  // Multiples of the inverse of the hash's factor: their hashes are 0, 1, 2 …, whose high bits are all 0.
  const inverse = 0xf1de83e19937733dn
  const keys = Array.from({ length: 1000 }, (_, i) => BigInt.asIntN(64, BigInt(i) * inverse))
  const setPtr = columns.target(call.numberSetByteLength(keys.length))
  expect(call.buildNumberSet(columns.int64s(keys), keys.length, -1n, setPtr)).toBe(0)
  columns.expectGuardsIntact()
})

test('texts are found in a set of texts', () => {
  forRowCounts((rowCount) => {
    const choices = random.list(random.integer(0, 200), () => random.string())
    const values = random.list(rowCount, () =>
      choices.length > 0 && random.chance(0.5) ? random.pick(choices) : random.string(),
    )
    const set = columns.text(choices)
    const column = columns.text(values)
    const setPtr = columns.target(call.textSetByteLength(choices.length))
    expect(call.buildTextSet(set.offsetsPtr, set.bytesPtr, choices.length, setPtr)).toBe(1)
    expectMask(
      values.map((value) => choices.includes(value)),
      (maskPtr) =>
        call.maskInTextSet(column.offsetsPtr, column.bytesPtr, rowCount, set.offsetsPtr, set.bytesPtr, setPtr, maskPtr),
    )
  })
})

test('values are laid over others where a mask says so', () => {
  forRowCounts((rowCount) => {
    const [values, others] = [random.list(rowCount, () => random.int64()), random.list(rowCount, () => random.int64())]
    const mask = random.bits(rowCount)
    const targetPtr = columns.target(8 * rowCount)
    columns.kernels.i64.set(others, targetPtr / 8)
    call.blend64(columns.int64s(values), 8, columns.bits(mask), rowCount, targetPtr)
    expect(columns.readInt64s(targetPtr, rowCount)).toEqual(
      others.map((other, row) => (mask[row] ? values[row] : other)),
    )
    columns.kernels.i64.set(others, targetPtr / 8)
    call.blend64(columns.int64s([7n]), 0, columns.bits(mask), rowCount, targetPtr)
    expect(columns.readInt64s(targetPtr, rowCount)).toEqual(others.map((other, row) => (mask[row] ? 7n : other)))
  })
})

test('strings come from one column, from another or from nowhere, and never outgrow their room', () => {
  forRowCounts((rowCount) => {
    const [values, others] = [
      random.list(rowCount, () => random.string()),
      random.list(rowCount, () => random.string()),
    ]
    const [mask, otherMask] = [random.bits(rowCount), random.bits(rowCount)]
    const isRepeated = random.chance(0.3)
    const hasOther = random.chance(0.7)
    const expected = values.map((value, row) => {
      if (mask[row]) return isRepeated ? 'same' : value
      return hasOther && otherMask[row] ? others[row]! : ''
    })
    const a = columns.text(isRepeated ? ['same'] : values)
    const b = hasOther ? columns.text(others) : null
    const byteLength = Buffer.byteLength(expected.join(''))
    const offsetsPtr = columns.target(4 * (rowCount + 1))
    const bytesPtr = columns.target(byteLength)
    const blend = (room: number) =>
      call.blendStrings(
        a.offsetsPtr,
        isRepeated ? 0 : 4,
        a.bytesPtr,
        columns.bits(mask),
        b?.offsetsPtr ?? 0,
        b?.bytesPtr ?? 0,
        b === null ? 0 : columns.bits(otherMask),
        rowCount,
        offsetsPtr,
        bytesPtr,
        room,
      )
    expect(blend(byteLength)).toBe(byteLength)
    expect(columns.readText(offsetsPtr, bytesPtr, rowCount)).toEqual(expected)
    if (byteLength > 0) expect(blend(byteLength - 1)).toBe(-1)
  })
})

test('code points are counted', () => {
  forRowCounts((rowCount) => {
    const values = random.list(rowCount, () => random.string())
    const { offsetsPtr, bytesPtr } = columns.text(values)
    const targetPtr = columns.target(8 * rowCount)
    call.countCodePoints(offsetsPtr, bytesPtr, rowCount, targetPtr)
    expect(columns.readInt64s(targetPtr, rowCount)).toEqual(values.map((value) => BigInt([...value].length)))
  })
})
