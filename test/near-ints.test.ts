// Integers near one another: as differences from an origin they are put in order, and encoded as the pages that they are otherwise.
import { expect, test } from 'vitest'
import { createMemory, loadKernels } from '../dist/engine/kernels/kernels.js'
import { SeededRandom, seed } from './seeded-random.js'

const memory = createMemory(16 * 1024 * 1024)
const { call, u8, u32, i64, view } = loadKernels(memory)
const random = new SeededRandom(seed)

const entryByteLength = 36
const entriesPtr = (call.heapBase() + 63) & ~63
const statePtr = entriesPtr + 64 * 1024
const statisticsPtr = statePtr + 64 * 1024
const scratchPtr = statisticsPtr + 64 * 1024
const placesPtr = scratchPtr + 256 * 1024
const valuesPtr = placesPtr + 64 * 1024
const targetPtr = valuesPtr + 2 * 1024 * 1024
const otherPtr = targetPtr + 4 * 1024 * 1024
const guardByte = 0xa5
const int64 = 1

test('rows that come step by step stand one set behind another, as differences, or it is said that some are too far', () => {
  let farCount = 0
  for (let round = 0; round < 400; round++) {
    const distance = random.pick([1, 2, 7, 8, 9, 15, 16, 17, 100, 300])
    const rowCount = random.integer(1, 40 * distance)
    const origin = BigInt(random.integer(-1e6, 1e6)) * random.pick([1n, 1_000_000_000n])
    const values = Array.from({ length: rowCount }, () => origin + BigInt(random.integer(-8192, 8192)))
    const far = random.chance(0.3) ? random.integer(0, rowCount) : -1
    if (far >= 0) values[far] = origin + random.pick([-8193n, 8192n, 1n << 40n, -(1n << 62n)])
    i64.set(values, valuesPtr / 8)
    // Sets in any order, with room of others between them.
    const ownRowCount = Math.ceil(rowCount / distance) + random.integer(0, 5)
    const keys = Array.from({ length: distance }, () => random.next())
    const sets = keys.map((_, i) => i).sort((a, b) => keys[a]! - keys[b]!)
    const places = sets.map((set) => set * ownRowCount)
    u32.set(places, placesPtr / 4)
    u8.fill(guardByte, targetPtr, targetPtr + 2 * distance * ownRowCount + 16)
    const scratchByteLength = call.placeNearScratchByteLength(distance)
    u8.fill(guardByte, scratchPtr + scratchByteLength, scratchPtr + scratchByteLength + 16)
    const isNear = call.placeNear(valuesPtr, rowCount, distance, placesPtr, origin, targetPtr, scratchPtr)
    expect(u8.slice(scratchPtr + scratchByteLength, scratchPtr + scratchByteLength + 16)).toEqual(
      new Uint8Array(16).fill(guardByte),
    )
    expect(isNear).toBe(far < 0 ? 1 : 0)
    if (far >= 0) {
      farCount++
      continue
    }
    const expected = new Uint8Array(2 * distance * ownRowCount + 16).fill(guardByte)
    const expectedView = new DataView(expected.buffer)
    values.forEach((value, row) => {
      const place = places[row % distance]! + Math.floor(row / distance)
      expectedView.setInt16(2 * place, Number(value - origin), true)
    })
    expect(Buffer.compare(u8.slice(targetPtr, targetPtr + expected.length), expected)).toBe(0)
  }
  expect(farCount).toBeGreaterThan(20)
})

test('an origin far from zero is none', () => {
  i64[valuesPtr / 8] = 1n << 51n
  u32[placesPtr / 4] = 0
  expect(call.placeNear(valuesPtr, 1, 1, placesPtr, 1n << 51n, targetPtr, scratchPtr)).toBe(0)
})

/** Walks, counters, steps and noise; the longest differences between values of a page are those of i16. */
function drawPages(origin: bigint, pageCount: number): number[][] {
  return Array.from({ length: pageCount }, () => {
    const count = random.pick([1, 2, 3, 4, 5, 6, 15, 16, 17, 63, 65, 130, 256, 257, 1000, 2160, 3456, 4096])
    const step = random.pick([0, 1, 2, 3, 20, 100, 500, 20_000])
    const rare = random.pick([0, 0.01, 0.1])
    const drift = random.pick([0, 0, 1, -1])
    let value = random.integer(-8192, 8192)
    return Array.from({ length: count }, () => {
      value += drift + Math.round(step * (random.next() + random.next() - 1))
      if (random.chance(rare)) value += random.integer(-300, 300)
      value = Math.max(-8192, Math.min(8191, value))
      return value
    })
  }).map((page) => page.map((value) => Number(origin) + value))
}

function encode(pages: readonly number[][], origin: bigint, isNear: boolean, ptr: number): Uint8Array[] {
  let at = valuesPtr
  pages.forEach((page, i) => {
    const entry = (entriesPtr + i * entryByteLength) >> 2
    u32[entry] = at
    u32[entry + 1] = page.length
    for (const value of page) {
      if (isNear) view.setInt16(at, value - Number(origin), true)
      else i64[at >> 3] = BigInt(value)
      at += isNear ? 2 : 8
    }
  })
  u32.fill(0, statePtr >> 2, (statePtr >> 2) + 6)
  const bound = call.maxEncodedPages(int64, entriesPtr, pages.length)
  u8.fill(guardByte, ptr + bound, ptr + bound + 32)
  const byteLength = isNear
    ? call.encodeNearPages(origin, entriesPtr, pages.length, statisticsPtr, ptr, statePtr, scratchPtr)
    : call.encodePages(int64, entriesPtr, pages.length, statisticsPtr, ptr, statePtr, scratchPtr)
  expect(byteLength).toBeLessThanOrEqual(bound)
  expect(u8.slice(ptr + bound, ptr + bound + 32)).toEqual(new Uint8Array(32).fill(guardByte))
  return pages.map((_, i) => {
    const entry = (entriesPtr + i * entryByteLength) >> 2
    expect([u32[entry + 4], u32[entry + 5]]).toEqual([pages[i]!.length, 0])
    return u8.slice(u32[entry + 2]!, u32[entry + 2]! + u32[entry + 3]!)
  })
}

function statisticsOf(page: number): number[] | null {
  const ptr = u32[((entriesPtr + page * entryByteLength) >> 2) + 6]!
  if (ptr === 0) return null
  const integers = [0, 8, 16, 24].map((at) => Number(view.getBigInt64(ptr + at, true)))
  return [...integers, view.getFloat64(ptr + 32, true), view.getFloat64(ptr + 40, true)]
}

test('pages of differences are the pages of the integers themselves, with their statistics', () => {
  let statisticsCount = 0
  for (let round = 0; round < 150; round++) {
    const origin = BigInt(random.pick([0, 50, -7, 1_000_000, 2 ** 40, -(2 ** 50)]))
    const pages = drawPages(origin, random.integer(1, 30))
    const own = encode(pages, origin, false, otherPtr)
    const near = encode(pages, origin, true, targetPtr)
    pages.forEach((page, i) => {
      expect(Buffer.compare(near[i]!, own[i]!)).toBe(0)
      u8.set(near[i]!, otherPtr)
      expect(call.decodeInt64Page(otherPtr, near[i]!.length, page.length, valuesPtr)).toBe(0)
      expect([...i64.slice(valuesPtr / 8, valuesPtr / 8 + page.length)].map(Number)).toEqual(page)
      const statistics = statisticsOf(i)
      expect(statistics === null).toBe(near[i]!.length < 960)
      if (statistics === null) return
      statisticsCount++
      const big = page.map(BigInt)
      const sum = big.reduce((a, b) => a + b, 0n)
      const squares = big.reduce((a, b) => a + b * b, 0n)
      const sorted = [...page].sort((a, b) => a - b)
      const exact = [sorted[0], sorted.at(-1), page[0], page.at(-1), Number(sum)]
      expect(statistics.slice(0, 5)).toEqual(exact)
      const squaredDeviations = Number(BigInt(page.length) * squares - sum * sum) / page.length
      expect(Math.abs(statistics[5]! - squaredDeviations)).toBeLessThanOrEqual(1e-9 * squaredDeviations)
    })
  }
  expect(statisticsCount).toBeGreaterThan(100)
})

/** Blocks of codes as docs/formats.md draws them, each of the width that makes it smallest. */
function packTwin(codes: readonly number[]): number[] {
  const bytes: number[] = []
  for (let start = 0; start < codes.length; start += 256) bytes.push(...packBlockTwin(codes.slice(start, start + 256)))
  return bytes
}

const bitLength = (code: number): number => 32 - Math.clz32(code)

/** Lowest bit first, one code after the other. */
function bitsOf(codes: readonly number[], width: number): number[] {
  const bits = codes.flatMap((code) => Array.from({ length: width }, (_, i) => (code >> i) & 1))
  const bytes = Array.from({ length: Math.ceil(bits.length / 8) }, () => 0)
  bits.forEach((bit, i) => {
    bytes[i >> 3]! |= bit << (i & 7)
  })
  return bytes
}

function packBlockTwin(codes: readonly number[]): number[] {
  const largest = Math.max(...codes)
  const plainWidth = bitLength(largest)
  const aboveOf = (width: number): number[] => codes.filter((code) => code >= 2 ** width - 1)
  const escapeWidthOf = (width: number): number => bitLength(largest - (2 ** width - 1))
  let width = plainWidth
  let hasEscapes = false
  let bitCountMin = codes.length * plainWidth + 8
  for (let w = plainWidth - 1; w > 0; w--) {
    const bitCount = codes.length * w + aboveOf(w).length * escapeWidthOf(w) + 16
    if (bitCount >= bitCountMin) continue
    bitCountMin = bitCount
    width = w
    hasEscapes = true
  }
  const others = codes.filter((code) => code > 0)
  if (others.length * (plainWidth + 8) + 24 < bitCountMin) {
    const places = codes.flatMap((code, i) => (code > 0 ? [i] : []))
    return [128, plainWidth, others.length, ...places, ...bitsOf(others, plainWidth)]
  }
  const capped = codes.map((code) => Math.min(code, 2 ** width - 1))
  const bytes = hasEscapes ? [128 | width, escapeWidthOf(width)] : [width]
  let i = 0
  for (; i + 128 <= codes.length; i += 128) {
    // Four streams, whose words stand side by side.
    const streams = [0, 1, 2, 3].map((lane) =>
      bitsOf(
        capped.slice(i, i + 128).filter((_, k) => k % 4 === lane),
        width,
      ),
    )
    for (let word = 0; word < width; word++)
      for (const stream of streams) bytes.push(...stream.slice(4 * word, 4 * word + 4))
  }
  bytes.push(...bitsOf(capped.slice(i), width))
  if (hasEscapes) {
    const above = aboveOf(width).map((code) => code - (2 ** width - 1))
    bytes.push(...bitsOf(above, escapeWidthOf(width)))
  }
  return bytes
}

test('codes of a byte each are packed as a plain loop packs them', () => {
  let ownCount = 0
  for (let round = 0; round < 300; round++) {
    const count = random.pick([5, 16, 100, 127, 128, 129, 255, 256, 300, 512, 1000, 2160])
    const most = random.pick([1, 2, 3, 5, 15, 60, 127])
    const rare = random.pick([0, 0.02, 0.2])
    const residuals = Array.from({ length: count }, () =>
      random.chance(rare) ? random.integer(-128, 128) : random.chance(0.5) ? 0 : random.integer(-most, most),
    )
    // Of order 0 the middle is the base, so the values are the residuals when least and greatest are as far from 0.
    residuals[0] = -128
    residuals[1] = 127
    const page = encode([residuals], 0n, true, targetPtr)[0]!
    // Codec, order, base (0 has no bytes).
    if (page[0] !== 3 || page[1] !== 0 || page[2] !== 0) continue
    ownCount++
    const codes = residuals.map((x) => (x < 0 ? -2 * x - 1 : 2 * x))
    expect([...page.slice(3)]).toEqual(packTwin(codes))
  }
  expect(ownCount).toBeGreaterThan(50)
})
