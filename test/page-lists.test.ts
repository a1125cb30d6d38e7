// Lists of pages: what is encoded in one call comes back page by page, and a block is laid out as a plain loop would do it.
import { expect, test } from 'vitest'
import { createMemory, loadKernels } from '../dist/engine/kernels/kernels.js'
import { SeededRandom, seed } from './seeded-random.js'

const memory = createMemory(16 * 1024 * 1024)
const { call, u8, u32, i64, f64, view } = loadKernels(memory)
const random = new SeededRandom(seed)

const entryByteLength = 36
const entriesPtr = (call.heapBase() + 63) & ~63
const statePtr = entriesPtr + 64 * 1024
const statisticsPtr = statePtr + 64 * 1024
const scratchPtr = statisticsPtr + 64 * 1024
const decodedPtr = scratchPtr + 256 * 1024
const valuesPtr = decodedPtr + 64 * 1024
const targetPtr = valuesPtr + 4 * 1024 * 1024
const packedPtr = targetPtr + 4 * 1024 * 1024
const guardByte = 0xa5

const dtypes = { int64: 1, float64: 2, time: 4 } as const
const decoders = { int64: call.decodeInt64Page, float64: call.decodeFloat64Page, time: call.decodeTimePage }

interface Entry {
  readonly source: number
  readonly count: number
  readonly ptr: number
  readonly byteLength: number
  readonly presentCount: number
  readonly validityByteLength: number
  readonly statistics: number
  readonly segment: number
  readonly offset: number
}

function entry(page: number): Entry {
  const at = (entriesPtr + page * entryByteLength) >> 2
  const [source, count, ptr, byteLength, presentCount, validityByteLength, statistics, segment, offset] = u32.slice(
    at,
    at + 9,
  ) as unknown as [number, number, number, number, number, number, number, number, number]
  return { source, count, ptr, byteLength, presentCount, validityByteLength, statistics, segment, offset }
}

/** Values of one page each; from page to page they are alike, or not. */
function drawPages(dtype: keyof typeof dtypes, pageCount: number): void {
  let at = valuesPtr
  let step = random.integer(1, 5)
  for (let page = 0; page < pageCount; page++) {
    const count = random.pick([1, 2, 3, 4, 5, 130, 256, 1000, 2160, 4096])
    if (random.chance(0.2)) step = random.pick([1, 3, 300, 1e6, 1e12])
    const isNoise = random.chance(0.1)
    const isProgression = random.chance(0.1)
    let value = BigInt(random.integer(0, 1000))
    for (let row = 0; row < count; row++) {
      if (isNoise) value = BigInt.asIntN(64, BigInt(random.integer(0, 2 ** 32)) << BigInt(random.integer(0, 40)))
      else value += isProgression ? BigInt(step) : BigInt(Math.floor(step * (random.next() - 0.5)))
      if (dtype === 'float64') f64[(at >> 3) + row] = Number(value) / random.pick([1, 100])
      else i64[(at >> 3) + row] = value
    }
    u32[(entriesPtr + page * entryByteLength) >> 2] = at
    u32[((entriesPtr + page * entryByteLength) >> 2) + 1] = count
    at += 8 * count + random.pick([0, 8, 64])
  }
}

/** The same, but for the rounding of the sum of squares where one of them knows it exactly. */
function expectStatistics(ptr: number, expectedPtr: number): void {
  expect(u8.slice(ptr, ptr + 40)).toEqual(u8.slice(expectedPtr, expectedPtr + 40))
  const [found, expected] = [f64[(ptr + 40) >> 3]!, f64[(expectedPtr + 40) >> 3]!]
  if (!Object.is(found, expected)) expect(Math.abs(found / expected - 1)).toBeLessThan(1e-12)
}

test.each(Object.keys(dtypes) as (keyof typeof dtypes)[])(
  'pages of %s that are encoded together come back one by one, with the statistics of each',
  (dtype) => {
    for (let round = 0; round < 60; round++) {
      const pageCount = random.integer(1, 40)
      drawPages(dtype, pageCount)
      const bound = call.maxEncodedPages(dtypes[dtype], entriesPtr, pageCount)
      u8.fill(guardByte, targetPtr + bound, targetPtr + bound + 32)
      u32.fill(0, statePtr >> 2, (statePtr >> 2) + 6)
      const hasStatistics = random.chance(0.7)
      const statistics = hasStatistics ? statisticsPtr : 0
      const byteLength = call.encodePages(
        dtypes[dtype],
        entriesPtr,
        pageCount,
        statistics,
        targetPtr,
        statePtr,
        scratchPtr,
      )
      expect(byteLength).toBeLessThanOrEqual(bound)
      expect(u8.slice(targetPtr + bound, targetPtr + bound + 32).every((byte) => byte === guardByte)).toBe(true)
      let at = targetPtr
      let statisticsCount = 0
      for (let page = 0; page < pageCount; page++) {
        const found = entry(page)
        expect(found.ptr).toBe(at)
        expect(found.presentCount).toBe(found.count)
        expect(found.validityByteLength).toBe(0)
        at += found.byteLength
        expect(decoders[dtype](found.ptr, found.byteLength, found.count, decodedPtr)).toBe(0)
        const bytes = 8 * found.count
        expect(
          Buffer.compare(u8.slice(decodedPtr, decodedPtr + bytes), u8.slice(found.source, found.source + bytes)),
        ).toBe(0)
        const isWanted = hasStatistics && (dtype === 'time' ? found.count >= 256 : found.byteLength >= 960)
        expect(found.statistics).toBe(isWanted ? statisticsPtr + 48 * statisticsCount : 0)
        if (!isWanted) continue
        statisticsCount++
        if (dtype === 'float64') call.statisticsFloat64(found.source, found.count, decodedPtr)
        else call.statisticsInt64(found.source, found.count, decodedPtr)
        expectStatistics(found.statistics, decodedPtr)
      }
      expect(at).toBe(targetPtr + byteLength)
      expect(u32[(statePtr >> 2) + 3]).toBe(statisticsCount)
    }
  },
)

test('a page that does not look as the one before it takes no more than it would by itself, and a little', () => {
  for (let round = 0; round < 200; round++) {
    drawPages('int64', 2)
    u32.fill(0, statePtr >> 2, (statePtr >> 2) + 6)
    call.encodePages(dtypes.int64, entriesPtr, 2, 0, targetPtr, statePtr, scratchPtr)
    const [first, second] = [entry(0), entry(1)]
    const alone = call.encodeInt64Page(second.source, second.count, decodedPtr, scratchPtr)
    // As much a value as the page before it, at most.
    const alike = Math.ceil((1.08 * first.byteLength * second.count) / first.count)
    expect(second.byteLength).toBeLessThanOrEqual(Math.max(alone, alike))
  }
})

test('pages are placed and written as a plain loop would do it', () => {
  for (let round = 0; round < 100; round++) {
    const pageCount = random.integer(1, 60)
    const segmentByteLength = random.pick([100, 1000, 65_512])
    // Pages, as random bytes; some have no bytes at all, some more than a segment.
    let from = targetPtr
    let tableByteLength = (pageCount * 25 + 7) & ~7
    for (let page = 0; page < pageCount; page++) {
      const byteLength = random.chance(0.1) ? 0 : random.integer(1, random.pick([20, 200, 3000]))
      for (let i = 0; i < byteLength; i++) u8[from + i] = random.integer(0, 256)
      const hasStatistics = random.chance(0.5)
      if (hasStatistics) tableByteLength += 48
      const statistics = hasStatistics ? statisticsPtr + 48 * page : 0
      if (hasStatistics) for (let i = 0; i < 48; i++) u8[statistics + i] = random.integer(0, 256)
      const words = [0, 0, from, byteLength, random.integer(0, 4096), random.integer(0, 500), statistics, 0, 0]
      u32.set(words, (entriesPtr + page * entryByteLength) >> 2)
      from += byteLength + random.integer(0, 10)
    }
    const state = statePtr >> 2
    u32.fill(0, state, state + 2)
    call.placePages(entriesPtr, pageCount, segmentByteLength, statePtr)

    const lengths: number[] = []
    let fill = 0
    for (let page = 0; page < pageCount; page++) {
      const { byteLength, segment, offset } = entry(page)
      if (fill > 0 && fill + byteLength > segmentByteLength) {
        lengths.push(fill)
        fill = 0
      }
      expect([segment, offset]).toEqual([lengths.length, fill])
      fill = Math.ceil((fill + byteLength) / 8) * 8
    }
    expect([...u32.slice(state + 2, state + 2 + u32[state]!), u32[state + 1]]).toEqual([...lengths, fill])

    lengths.push(fill)
    const starts: number[] = []
    let total = 0
    for (const length of lengths) {
      starts.push(total)
      total += length
    }
    const tablePtr = packedPtr + total
    const end = tablePtr + tableByteLength
    u8.fill(guardByte, packedPtr, end + 32)
    call.zeroBytes(packedPtr, end - packedPtr)
    u32.set(starts, decodedPtr >> 2)
    const crc = call.writePages(entriesPtr, pageCount, packedPtr, decodedPtr, tablePtr, scratchPtr)

    const expected = new Uint8Array(end - packedPtr)
    const table = new DataView(expected.buffer, total)
    let statisticsAt = total + ((pageCount * 25 + 7) & ~7)
    for (let page = 0; page < pageCount; page++) {
      const found = entry(page)
      const bytes = u8.slice(found.ptr, found.ptr + found.byteLength)
      expected.set(bytes, starts[found.segment]! + found.offset)
      const fields = [found.segment, found.offset, found.byteLength, call.crc32c(found.ptr, found.byteLength, 0) >>> 0]
      for (const [i, field] of [...fields, found.presentCount, found.validityByteLength].entries())
        table.setUint32(24 * page + 4 * i, field, true)
      if (found.statistics === 0) continue
      expected[total + 24 * pageCount + page] = 1
      expected.set(u8.slice(found.statistics, found.statistics + 48), statisticsAt)
      statisticsAt += 48
    }
    expect(Buffer.compare(u8.slice(packedPtr, end), expected)).toBe(0)
    expect(crc >>> 0).toBe(call.crc32c(tablePtr, tableByteLength, 0) >>> 0)
    expect(view.getUint8(end)).toBe(guardByte)
  }
})

test('the first value that is negative, or as much as a limit, is found', () => {
  const limits = [1n, 1000n, 2n ** 62n, 2n ** 63n, 13_569_465_600_000_000_000n, 2n ** 64n - 1n]
  for (let round = 0; round < 300; round++) {
    const count = random.integer(0, 100)
    const end = random.pick(limits)
    const draw = (): bigint =>
      random.chance(0.97)
        ? BigInt(random.integer(0, 1000))
        : random.pick([-1n, -(2n ** 63n), 2n ** 63n - 1n, BigInt.asIntN(64, end), end < 2n ** 63n ? end - 1n : 0n])
    const values = random.list(count, draw)
    i64.set(values, valuesPtr >> 3)
    const found = values.findIndex((value) => value < 0n || value >= end)
    expect(call.firstNotBelow(valuesPtr, count, end)).toBe(found < 0 ? count : found)
  }
})
