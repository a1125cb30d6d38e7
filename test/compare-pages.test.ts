// Pages against a constant: what comparePages marks is what a comparison value by value marks, whatever the codec of a page, and
// damaged pages are told apart from those that do not hold.
import { expect, test } from 'vitest'
import { createMemory, loadKernels } from '../dist/engine/kernels/kernels.js'
import { SeededRandom, seed } from './seeded-random.js'

const { call, u8, u32, i64, f64 } = loadKernels(createMemory(16 * 1024 * 1024))
const random = new SeededRandom(seed)

const entriesPtr = (call.heapBase() + 63) & ~63
const scratchPtr = entriesPtr + 64 * 1024
const valuesPtr = scratchPtr + 256 * 1024
const maskPtr = valuesPtr + 64 * 1024
const pagesPtr = maskPtr + 64 * 1024
const canary = 0xa5

type DType = 'int64' | 'time' | 'float64'
const dtypes = { int64: 1, float64: 2, time: 4 } as const
const encoders = { int64: call.encodeInt64Page, float64: call.encodeFloat64Page, time: call.encodeTimePage }
type Cell = bigint | number | null

/** In the order of the kernels' numbers. */
const operators: readonly ((a: bigint | number, b: bigint | number) => boolean)[] = [
  (a, b) => a === b,
  (a, b) => a !== b,
  (a, b) => a < b,
  (a, b) => a <= b,
  (a, b) => a > b,
  (a, b) => a >= b,
]

function drawPage(dtype: DType): Cell[] {
  const rowCount = random.pick([1, 5, 63, 64, 65, 255, 256, 257, 300, 1024, 1024, 1024, 4096])
  const missing = random.pick([0, 0, 0, 0.05, 0.7, 1])
  const base = random.pick([0n, 50n, -3n, 1_700_000_000_000_000_000n, 2n ** 62n, -(2n ** 63n), 2n ** 63n - 200n])
  const width = random.pick([0, 1, 7, 100, 3000, 16_000, 40_000, 1e9])
  const outliers = random.pick([0, 0, 0.01, 0.5])
  const isWalk = random.chance(0.4)
  const isRising = random.chance(0.3)
  let before = base
  return Array.from({ length: rowCount }, (): Cell => {
    if (random.chance(missing)) return null
    const step = BigInt(random.integer(isWalk && !isRising ? -width : 0, width + 1))
    const far = random.chance(outliers) ? random.pick([20_000n, 10_000n, -9000n, 2n ** 40n]) : 0n
    before = BigInt.asIntN(64, (isWalk ? before : base) + step + far)
    if (dtype !== 'float64') return before
    return random.chance(0.01) ? random.pick([Number.NaN, Infinity, -0]) : Number(before) / random.pick([1, 100])
  })
}

/** Encodes pages one behind the other and lists them; returns the byte after the last one. */
function placePages(dtype: DType, pages: readonly (readonly Cell[])[]): number {
  let at = pagesPtr
  pages.forEach((page, index) => {
    const cells = page.filter((cell) => cell !== null)
    const start = at
    let validityByteLength = 0
    if (cells.length > 0 && cells.length < page.length) {
      const bits = new Uint8Array(Math.ceil(page.length / 8))
      page.forEach((cell, row) => {
        if (cell !== null) bits[row >> 3]! |= 1 << (row & 7)
      })
      u8.set(bits, valuesPtr)
      validityByteLength = call.encodeBoolPage(valuesPtr, page.length, at, scratchPtr)
    }
    if (cells.length > 0) {
      if (dtype === 'float64') f64.set(cells.map(Number), valuesPtr / 8)
      else i64.set(cells.map(BigInt), valuesPtr / 8)
      const encoded = encoders[dtype](valuesPtr, cells.length, start + validityByteLength, scratchPtr)
      at = start + validityByteLength + encoded
    }
    const crc = call.crc32c(start, at - start, 0)
    u32.set([start, at - start, crc, cells.length, validityByteLength, page.length], (entriesPtr + 24 * index) / 4)
  })
  return at
}

function compare(dtype: DType, pageCount: number, operator: number, constant: bigint | number): number {
  const integer = typeof constant === 'bigint' ? constant : 0n
  const args = [entriesPtr, pageCount, dtypes[dtype], operator] as const
  return call.comparePages(...args, integer, Number(constant), maskPtr, scratchPtr)
}

test.each(['int64', 'time', 'float64'] as const)(
  'the marked rows of %s pages are those whose cells hold, for every operator',
  (dtype) => {
    for (let turn = 0; turn < 60; turn++) {
      const pages = Array.from({ length: random.integer(1, 7) }, () => drawPage(dtype))
      placePages(dtype, pages)
      const cells = pages.flat()
      const present = cells.filter((cell) => cell !== null)
      const some = present.length === 0 ? 7n : random.pick(present)
      const near = typeof some === 'bigint' ? BigInt.asIntN(64, some + BigInt(random.integer(-2, 3))) : some
      const extreme = dtype === 'float64' ? Number.NaN : random.pick([-(2n ** 63n), 2n ** 63n - 1n, 0n])
      const other = dtype === 'float64' ? 0 : BigInt(random.integer(-100_000, 100_000))
      for (const value of [near, extreme, other]) {
        const constant = dtype === 'float64' ? Number(value) : value
        operators.forEach((holds, operator) => {
          const maskByteLength = Math.ceil(cells.length / 8)
          u8.fill(canary, maskPtr, maskPtr + maskByteLength + 16)
          const found = compare(dtype, pages.length, operator, constant)
          const expected = cells.map((cell) => cell !== null && holds(cell, constant))
          const what = `seed ${seed}, turn ${turn}, operator ${operator}, constant ${constant}`
          expect(found, what).toBe(expected.filter(Boolean).length)
          const bits = new Uint8Array(maskByteLength)
          expected.forEach((isMarked, row) => {
            if (isMarked) bits[row >> 3]! |= 1 << (row & 7)
          })
          if (Buffer.compare(bits, u8.subarray(maskPtr, maskPtr + maskByteLength)) !== 0) expect.fail(what)
          expect(
            u8.subarray(maskPtr + maskByteLength, maskPtr + maskByteLength + 16).every((byte) => byte === canary),
          ).toBe(true)
        })
      }
    }
  },
)

test('a page whose checksum does not fit, and one that cannot be decoded, are named', () => {
  const whole = Array.from({ length: 1024 }, (_, row) => BigInt((row * 48_271) % 100))
  for (const dtype of ['int64', 'time', 'float64'] as const) {
    const cells = dtype === 'float64' ? whole.map(Number) : whole
    placePages(dtype, [cells, cells, cells])
    const [ptr = 0, byteLength = 0] = u32.slice((entriesPtr + 24) / 4)
    u8[ptr + byteLength - 1]! ^= 1
    expect(compare(dtype, 3, 4, dtype === 'float64' ? 40 : 40n)).toBe(-2)
    // Cut short, with a checksum that fits.
    u32[(entriesPtr + 24) / 4 + 1] = byteLength - 9
    u32[(entriesPtr + 24) / 4 + 2] = call.crc32c(ptr, byteLength - 9, 0)
    expect(compare(dtype, 3, 4, dtype === 'float64' ? 40 : 40n)).toBe(-2 - 2 ** 20)
  }
})

test('bytes that are no pages are refused or compared, but never read beyond their end or written elsewhere', () => {
  for (let turn = 0; turn < 3000; turn++) {
    const dtype = random.pick(['int64', 'time', 'float64'] as const)
    const page = drawPage(dtype)
    const end = placePages(dtype, [page])
    for (let i = 0; i < 3; i++) u8[random.integer(pagesPtr, Math.max(pagesPtr + 1, end))] = random.integer(0, 256)
    u32[entriesPtr / 4 + 2] = call.crc32c(pagesPtr, end - pagesPtr, 0)
    const maskByteLength = Math.ceil(page.length / 8)
    u8.fill(canary, maskPtr + maskByteLength, maskPtr + maskByteLength + 16)
    const scratchEnd = scratchPtr + call.comparePagesScratchByteLength()
    u8.fill(canary, scratchEnd, scratchEnd + 16)
    const found = compare(dtype, 1, random.integer(0, 6), dtype === 'float64' ? 3 : 3n)
    expect(found === -1 - 2 ** 20 || (found >= 0 && found <= page.length), `seed ${seed}, turn ${turn}`).toBe(true)
    expect(u8.subarray(maskPtr + maskByteLength, maskPtr + maskByteLength + 16).every((byte) => byte === canary)).toBe(
      true,
    )
    expect(u8.subarray(scratchEnd, scratchEnd + 16).every((byte) => byte === canary)).toBe(true)
  }
})
