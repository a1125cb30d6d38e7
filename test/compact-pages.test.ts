// Pages as they are kept for look-ups, against a twin: every cell comes back from its few bytes, whatever it is.
import { afterEach, expect, test } from 'vitest'
import { KernelMemory } from './kernel-memory.js'
import { SeededRandom, seed } from './seeded-random.js'

const memory = new KernelMemory(8 * 2 ** 20)
const { call } = memory
afterEach(() => memory.reset())

const headerByteLength = 32
const bitsOf = (value: number): bigint => new BigInt64Array(Float64Array.of(value).buffer)[0]!

/** How many bits a cell of such integers takes: as many as the widest has of the common unit, or all above 57. */
function bitWidthTwin(integers: readonly bigint[]): number {
  if (integers.length === 0) return 0
  const least = integers.reduce((a, b) => (a < b ? a : b))
  const distances = integers.map((integer) => integer - least)
  const greatest = distances.reduce((a, b) => (a > b ? a : b))
  const unit = greatest >= 2n ** 15n ? distances.reduce(commonDivisor) : 1n
  let bitWidth = 0
  while ((greatest / unit) >> BigInt(bitWidth) !== 0n) bitWidth++
  return bitWidth > 57 ? 64 : bitWidth
}

function commonDivisor(a: bigint, b: bigint): bigint {
  return b === 0n ? a : commonDivisor(b, a % b)
}

/** The cells as integers: how many times 10^-digits each is, or its bits where one of them is no such number. */
function integersTwin(cells: readonly bigint[], digitCount: number): readonly bigint[] {
  if (digitCount < 0) return cells
  const power = 10 ** digitCount
  const integers: bigint[] = []
  for (const cell of cells) {
    const value = new Float64Array(BigInt64Array.of(cell).buffer)[0]!
    const product = Math.abs(value * power) < 2 ** 53 ? value * power : Number.NaN
    if (Number.isNaN(product)) return cells
    const below = Math.floor(product)
    const above = product - below
    const isUp = above > 0.5 || (above === 0.5 && below % 2 !== 0)
    const integer = isUp ? below + 1 : below
    if (Math.abs(integer) >= 2 ** 53 || bitsOf(Number(BigInt(integer)) / power) !== cell) return cells
    integers.push(BigInt(integer))
  }
  return integers
}

function check(random: SeededRandom, cells: readonly bigint[], present: readonly boolean[] | null, digitCount: number) {
  memory.reset()
  const rowCount = cells.length
  const valuesPtr = memory.i64s(cells)
  const validityPtr = present === null ? 0 : memory.bits(present)
  const byteLengthMax = call.compactPageByteLengthMax(rowCount)
  const pagePtr = memory.allocate(byteLengthMax)
  const byteLength = call.compactPage(valuesPtr, validityPtr, rowCount, digitCount, pagePtr)
  const integers = integersTwin(
    cells.filter((_, row) => present?.[row] ?? true),
    digitCount,
  )
  const bitmapByteLength = present === null ? 0 : 8 * Math.ceil(rowCount / 64)
  const codesByteLength = 8 * Math.ceil((rowCount * bitWidthTwin(integers)) / 64)
  expect(byteLength).toBe(headerByteLength + bitmapByteLength + codesByteLength + 8)
  expect(byteLength).toBeLessThanOrEqual(byteLengthMax)

  const count = random.integer(1, 60)
  const rows = random.list(count, () => random.integer(0, rowCount))
  const places = random.list(count, (place) => place).filter(() => random.chance(0.7))
  const isKept = places.map(() => random.chance(0.8))
  const before = random.list(count, () => random.int64())
  const bitsBefore = random.list(count, () => random.chance(0.5))
  const targetPtr = memory.i64s(before)
  const bitsPtr = memory.bits(bitsBefore)
  const presentCount = call.scatterCompact(
    memory.u32s(isKept.map((kept) => (kept ? pagePtr : 0))),
    memory.u32s(places),
    memory.u32s(places.map((place) => rows[place]!)),
    places.length,
    memory.allocate(8 * places.length),
    targetPtr,
    bitsPtr,
  )
  const values = [...before]
  const bits = [...bitsBefore]
  const wanted = places.filter((_, i) => isKept[i])
  for (const place of wanted) {
    const row = rows[place]!
    bits[place] = present?.[row] ?? true
    if (bits[place]) values[place] = cells[row]!
  }
  expect(memory.readI64s(targetPtr, count)).toEqual(values)
  expect(memory.readBits(bitsPtr, count)).toEqual(bits)
  expect(presentCount).toBe(wanted.filter((place) => bits[place]).length)
}

test('integers of any width come back, and take the bits that the widest of the page needs', () => {
  const random = new SeededRandom(seed)
  for (let round = 0; round < 300; round++) {
    const rowCount = random.pick([1, 2, 63, 64, 65, random.integer(1, 1025), 4096])
    const base = random.int64()
    const width = random.integer(0, 64)
    const cells = random.chance(0.2)
      ? random.list(rowCount, () => random.int64())
      : random.list(rowCount, () => BigInt.asIntN(64, base + (BigInt.asUintN(width, random.int64()) as bigint)))
    check(random, cells, random.chance(0.5) ? null : random.bits(rowCount), -1)
  }
})

test('integers that are all a multiple of something apart take no bits for that', () => {
  const random = new SeededRandom(seed + 3)
  for (let round = 0; round < 200; round++) {
    const rowCount = random.pick([1, 2, 65, random.integer(1, 1025)])
    const unit = random.pick([60n * 10n ** 9n, 1000n, 7n, 2n ** 40n, 3n ** 30n])
    const count = BigInt(random.pick([1, 2, 100, 100_000]))
    const base = random.int64()
    const multiple = (): bigint => BigInt.asUintN(32, random.int64()) % count
    const cells = random.list(rowCount, () => BigInt.asIntN(64, base + unit * multiple()))
    check(random, cells, random.chance(0.5) ? null : random.bits(rowCount), -1)
  }
})

test('decimals are kept as integers, and what is none keeps all its bits', () => {
  const random = new SeededRandom(seed + 1)
  const awkward = [-0, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53, 1e300, 5e-324, 0.1 + 0.2, -(2 ** 53) + 1]
  for (let round = 0; round < 300; round++) {
    const rowCount = random.pick([1, 2, 64, random.integer(1, 1025)])
    const digitCount = random.integer(0, 16)
    const numerator = 10 ** random.integer(1, 16)
    const values = random.list(rowCount, () => random.integer(-numerator, numerator) / 10 ** digitCount)
    if (random.chance(0.4)) values[random.integer(0, rowCount)] = random.pick(awkward)
    check(random, values.map(bitsOf), random.chance(0.5) ? null : random.bits(rowCount), digitCount)
  }
})

test('the decimal places of a page are those it was encoded with, and other pages have none', () => {
  const random = new SeededRandom(seed + 2)
  const scratchPtr = memory.allocate(256 * 1024)
  const encode = (values: readonly number[]): number => {
    const pagePtr = memory.allocate(call.maxEncodedFloat64Page(values.length))
    const byteLength = call.encodeFloat64Page(
      memory.i64s(values.map(bitsOf)),
      values.length,
      pagePtr,
      (scratchPtr + 63) & ~63,
    )
    return call.decimalPlacesOfPage(pagePtr, byteLength)
  }
  expect(encode(random.list(1000, () => random.integer(0, 1e6) / 1000))).toBe(3)
  expect(encode(random.list(1000, () => Math.sqrt(random.next())))).toBe(-1)
  expect(call.decimalPlacesOfPage(memory.allocate(8), 0)).toBe(-1)
})
