import { expect, test } from 'vitest'
import { KernelMemory, newSeed, Random } from './kernel-memory.js'

const memory = new KernelMemory(64 << 20)
const rowCounts = [0, 1, 2, 3, 15, 16, 17, 33, 100, 1000, 5000]

const sequence = (count: number, start = 0) => Array.from({ length: count }, (_, i) => start + i)
const compareBigints = (a: bigint, b: bigint) => (a < b ? -1 : a > b ? 1 : 0)

/** Times in the forms that come in: near, far, equal, sorted but for a few, runs, extremes. */
function drawTimes(random: Random, rowCount: number): bigint[] {
  const form = random.below(11)
  const start = random.pick([0n, 1_700_000_000_000_000_000n, -5n])
  const times = sequence(rowCount).map((row) => {
    if (form === 0) return start + BigInt(random.below(5))
    if (form === 1) return random.int64()
    if (form === 2) return start
    if (form === 3) return start + BigInt(row) * 1_000_000n
    if (form === 4) return start + BigInt(random.chance(0.05) ? random.below(rowCount) : row) * 1_000_000_000n
    if (form === 5) return start + BigInt(row % 64) * 1_000_000n + BigInt(random.below(2))
    if (form === 6) return start - BigInt(row)
    if (form === 7) return start + BigInt(random.below(2 ** 31)) * 1_000_000n * BigInt(random.pick([1, 1, 1, 3000]))
    if (form === 8) return start + BigInt(row + (random.chance(0.02) ? -random.below(row + 1) : 0)) * 1_000_000n
    if (form === 9) return start + BigInt(random.below(2 ** 31))
    return random.pick([-(2n ** 63n), 2n ** 63n - 1n, 0n, 1n, random.int64()])
  })
  return times
}

test('sorted is told from strictly sorted and from unsorted', () => {
  const random = new Random(newSeed())
  for (let round = 0; round < 500; round++) {
    memory.reset()
    const times = drawTimes(random, random.pick([0, 1, 2, 7, 8, 9, 10, 30, 200]))
    if (random.chance(0.7)) times.sort(compareBigints)
    if (times.length > 0 && random.chance(0.3)) times[random.below(times.length)] = random.int64()
    const at = memory.i64s(times)
    const pairs = times.slice(1).map((time, i) => compareBigints(times[i], time))
    expect(memory.call.isSortedInt64(at, times.length)).toBe(pairs.every((order) => order <= 0) ? 1 : 0)
    expect(memory.call.isStrictlySortedInt64(at, times.length)).toBe(pairs.every((order) => order < 0) ? 1 : 0)
  }
})

test('rows that come step by step have their places by the first step, unless one is not later than the one before it', () => {
  const random = new Random(newSeed())
  for (let round = 0; round < 300; round++) {
    memory.reset()
    const rowCount = 1 + random.below(random.pick([3, 30, 500]))
    const distance = 1 + random.below(Math.min(rowCount, random.pick([3, 8, 100])))
    const times = sequence(rowCount).map(
      (row) => BigInt(Math.floor(row / distance)) * 1000n + BigInt(random.below(1000)),
    )
    if (random.chance(0.3)) times[random.below(rowCount)] = random.pick([random.int64(), times[0]])
    const firstPlaces = sequence(rowCount).map(() => random.below(1000))
    const places = memory.u32s(firstPlaces)
    const isLater = times.every((time, row) => row < distance || time > times[row - distance])
    expect(memory.call.placeSteps(memory.i64s(times), rowCount, distance, places)).toBe(isLater ? 1 : 0)
    memory.checkGuards()
    if (!isLater) continue
    const wanted = sequence(rowCount).map((row) => firstPlaces[row % distance] + Math.floor(row / distance))
    expect(memory.readU32s(places, rowCount)).toEqual(wanted)
  }
})

test('rows are sorted by code and keep their order inside a code', () => {
  const random = new Random(newSeed())
  for (let round = 0; round < 200; round++) {
    memory.reset()
    const rowCount = random.pick(rowCounts)
    const groupCount = 1 + random.below(random.pick([1, 3, 100, 5000]))
    const codes = sequence(rowCount).map(() => random.below(groupCount))
    if (random.chance(0.3)) codes.sort((a, b) => a - b)
    const permutation = memory.u32s(rowCount)
    const starts = memory.u32s(groupCount + 1)
    memory.call.sortGroups(memory.u32s(codes), groupCount, rowCount, permutation, starts)
    memory.checkGuards()
    const groups = sequence(groupCount).map((): number[] => [])
    for (let row = 0; row < rowCount; row++) groups[codes[row]].push(row)
    expect(memory.readU32s(permutation, rowCount)).toEqual(groups.flat())
    let start = 0
    expect(memory.readU32s(starts, groupCount + 1)).toEqual([
      ...groups.map((group) => (start += group.length) - group.length),
      rowCount,
    ])
  }
})

test('a range of a permutation is sorted by time, stable, and the rest of it stays', () => {
  const random = new Random(newSeed())
  for (let round = 0; round < 400; round++) {
    memory.reset()
    const rowCount = random.pick(rowCounts)
    const times = drawTimes(random, rowCount)
    const permutation = sequence(rowCount)
    if (random.chance(0.3)) permutation.sort(() => random.below(3) - 1)
    const rowStart = random.chance(0.5) ? 0 : random.below(rowCount + 1)
    const rowEnd = random.chance(0.5) ? rowCount : rowStart + random.below(rowCount - rowStart + 1)
    const at = memory.u32s(permutation)
    const scratch = memory.allocate(16 * (rowEnd - rowStart))
    const wasUnsorted = memory.call.sortRowsByTime(memory.i64s(times), at, rowStart, rowEnd, scratch)
    memory.checkGuards()
    const sorted = permutation.slice(rowStart, rowEnd).sort((a, b) => compareBigints(times[a], times[b]))
    const isSorted = sorted.every((row, i) => row === permutation[rowStart + i])
    expect(wasUnsorted).toBe(isSorted ? 0 : 1)
    expect(memory.readU32s(at, rowCount)).toEqual([
      ...permutation.slice(0, rowStart),
      ...sorted,
      ...permutation.slice(rowEnd),
    ])
  }
})

test('the rows of every group are sorted by time, and the distinct times of every group are marked', () => {
  const random = new Random(newSeed())
  for (let round = 0; round < 100; round++) {
    memory.reset()
    const rowCount = random.pick(rowCounts)
    const groupCount = 1 + random.below(random.pick([1, 5, 300]))
    const times = drawTimes(random, rowCount)
    const codes = sequence(rowCount).map(() => random.below(groupCount))
    const timesPtr = memory.i64s(times)
    const permutation = memory.u32s(rowCount)
    const starts = memory.u32s(groupCount + 1)
    memory.call.sortGroups(memory.u32s(codes), groupCount, rowCount, permutation, starts)
    const groups = sequence(groupCount).map((group) => sequence(rowCount).filter((row) => codes[row] === group))
    const sorted = groups.map((rows) => rows.toSorted((a, b) => compareBigints(times[a], times[b])))
    const unsortedCount = groups.filter((rows, group) => rows.some((row, i) => row !== sorted[group][i])).length

    const scratch = memory.allocate(16 * Math.max(...groups.map((rows) => rows.length)))
    expect(memory.call.sortGroupsByTime(timesPtr, permutation, starts, groupCount, scratch)).toBe(unsortedCount)
    expect(memory.readU32s(permutation, rowCount)).toEqual(sorted.flat())

    const timeStarts = memory.u32s(rowCount + 1)
    const groupTimes = memory.u32s(groupCount + 1)
    const count = memory.call.distinctTimesOfGroups(timesPtr, permutation, starts, groupCount, timeStarts, groupTimes)
    memory.checkGuards()
    const expectedStarts: number[] = []
    const expectedGroups: number[] = []
    let place = 0
    for (const rows of sorted) {
      expectedGroups.push(expectedStarts.length)
      rows.forEach((row, i) => {
        if (i === 0 || times[rows[i - 1]] !== times[row]) expectedStarts.push(place)
        place++
      })
    }
    expect(count).toBe(expectedStarts.length)
    expect(memory.readU32s(groupTimes, groupCount + 1)).toEqual([...expectedGroups, count])
    expect(memory.readU32s(timeStarts, count + 1)).toEqual([...expectedStarts, rowCount])
  }
})

/** Several sorted runs, overlapping in many ways. */
function drawRuns(random: Random): bigint[][] {
  const runCount = random.pick([0, 1, 2, 2, 2, 3, 5, 8, 13])
  const form = random.below(5)
  let next = 1_000n
  return sequence(runCount).map((run) => {
    const rowCount = random.pick([0, 1, 2, 31, 32, 33, 64, 200, 1000])
    if (form === 0) return sequence(rowCount).map(() => (next += BigInt(random.below(2)))) // one behind the other
    if (form === 1) return sequence(rowCount, 1000 * (runCount - run)).map(BigInt) // the later run is the earlier time
    const width = random.pick([1, 5, 100, 10_000])
    const start = form === 2 ? random.below(500) : 0
    const times = sequence(rowCount).map((row) => BigInt(start + (form === 4 ? row : random.below(width))))
    return times.sort(compareBigints)
  })
}

test('sorted runs are merged; of equal times those of the earlier run come first', () => {
  const random = new Random(newSeed())
  for (let round = 0; round < 400; round++) {
    memory.reset()
    const runs = drawRuns(random)
    const times = runs.flat()
    const starts = [0]
    for (const run of runs) starts.push(starts[starts.length - 1] + run.length)
    const permutation = memory.u32s(times.length)
    const scratch = memory.allocate(memory.call.mergeTimesScratchByteLength(times.length))
    memory.call.mergeTimes(memory.i64s(times), memory.u32s(starts), runs.length, permutation, scratch)
    memory.checkGuards()
    expect(memory.readU32s(permutation, times.length)).toEqual(
      sequence(times.length).sort((a, b) => compareBigints(times[a], times[b])),
    )
  }
})

test('of the rows of one time the newest present cell wins, or the oldest, cell by cell', () => {
  const random = new Random(newSeed())
  for (let round = 0; round < 300; round++) {
    memory.reset()
    const rowCount = random.pick([0, 1, 2, 9, 64, 500])
    const times = drawTimes(random, rowCount)
    const values = times.map(() => random.int64())
    const bools = times.map(() => random.chance(0.5))
    const present = times.map(() => random.chance(0.6))
    const allPresent = random.chance(0.3)
    const newest = random.below(2)
    const rowStart = random.below(rowCount + 1)
    const permutation = sequence(rowCount)
    const sorted = permutation.slice(rowStart).sort((a, b) => compareBigints(times[a], times[b]))

    const timesPtr = memory.i64s(times)
    const permutationPtr = memory.u32s([...permutation.slice(0, rowStart), ...sorted])
    const startsPtr = memory.u32s(sorted.length + 1)
    const groupCount = memory.call.distinctTimes(timesPtr, permutationPtr, rowStart, rowCount, startsPtr)
    const groups: number[][] = []
    for (const row of sorted) {
      const last = groups[groups.length - 1]
      if (last !== undefined && times[last[0]] === times[row]) last.push(row)
      else groups.push([row])
    }
    let start = rowStart
    expect(groupCount).toBe(groups.length)
    expect(memory.readU32s(startsPtr, groupCount + 1)).toEqual([
      ...groups.map((group) => (start += group.length) - group.length),
      rowCount,
    ])
    const groupTimes = memory.i64s(groupCount)
    memory.call.gatherGroupTimes(timesPtr, permutationPtr, startsPtr, groupCount, groupTimes)
    expect(memory.readI64s(groupTimes, groupCount)).toEqual(groups.map((group) => times[group[0]]))

    const winners = groups.map((group) => {
      const candidates = group.filter((row) => allPresent || present[row])
      return newest ? candidates.at(-1) : candidates[0]
    })
    const presentCount = winners.filter((row) => row !== undefined).length
    const validityPtr = allPresent ? 0 : memory.bits(present)
    const byteLength = Math.ceil(groupCount / 8)
    const expectedBits = winners.map((row) => row !== undefined)

    const target = memory.i64s(groupCount)
    const bitsTarget = memory.allocate(byteLength)
    const indexes = memory.u32s(groupCount)
    const { coalesce64, coalesceBits, coalesceIndexes } = memory.call
    for (const withValidity of [true, false]) {
      const validity = withValidity ? memory.allocate(byteLength) : 0
      const group = [permutationPtr, startsPtr, groupCount, newest] as const
      expect(coalesce64(memory.i64s(values), validityPtr, ...group, target, validity)).toBe(presentCount)
      expect(memory.readI64s(target, groupCount)).toEqual(winners.map((row) => (row === undefined ? 0n : values[row])))
      if (withValidity) expect(memory.readBits(validity, byteLength * 8)).toEqual(padded(expectedBits))
      expect(coalesceBits(memory.bits(bools), validityPtr, ...group, bitsTarget, validity)).toBe(presentCount)
      expect(memory.readBits(bitsTarget, byteLength * 8)).toEqual(
        padded(winners.map((row) => row !== undefined && bools[row])),
      )
      if (withValidity) expect(memory.readBits(validity, byteLength * 8)).toEqual(padded(expectedBits))
      expect(coalesceIndexes(validityPtr, ...group, indexes)).toBe(presentCount)
      expect(memory.readU32s(indexes, groupCount)).toEqual(winners.map((row) => row ?? 0xffffffff))
    }
    memory.checkGuards()
  }
})

/** Bits up to a whole byte: those behind the last row are 0. */
function padded(bits: readonly boolean[]): boolean[] {
  return [...bits, ...new Array<boolean>((8 - (bits.length & 7)) & 7).fill(false)]
}

test('rows are sorted by the bytes of their text, stable', () => {
  const random = new Random(newSeed())
  for (let round = 0; round < 200; round++) {
    memory.reset()
    const rowCount = random.pick(rowCounts)
    const prefixes = ['', 'host\0', '\0', '\0\0\0\0\0\0\0\0\0', 'a prefix that many rows have in common ']
    const alphabet = random.pick([
      ['a'],
      ['a', '\0'],
      ['a', 'b', '\xff', '\0'],
      sequence(256).map((byte) => String.fromCharCode(byte)),
    ])
    const texts = sequence(rowCount).map(() => {
      const length = random.below(random.pick([2, 9, 40]))
      const text = Array.from({ length }, () => random.pick(alphabet)).join('')
      return Buffer.from(random.pick(prefixes) + text, 'latin1')
    })
    const { offsets, bytes } = memory.stringsAtEnd(texts)
    const permutation = sequence(rowCount).filter(() => random.chance(0.9))
    const at = memory.u32s(permutation)
    const scratch = memory.allocate(memory.call.sortTextRowsScratchByteLength(permutation.length))
    memory.call.sortTextRows(offsets, bytes, at, permutation.length, scratch)
    memory.checkGuards()
    expect(memory.readU32s(at, permutation.length)).toEqual(
      permutation.sort((a, b) => Buffer.compare(texts[a], texts[b])),
    )
  }
})

test('texts of which each is the start of the next are sorted without a deep stack', () => {
  memory.reset()
  const texts = sequence(3000).map((length) => Buffer.alloc(length * 3, 'a'))
  const { offsets, bytes } = memory.strings(texts)
  const permutation = sequence(3000).reverse()
  const at = memory.u32s(permutation)
  const scratch = memory.allocate(memory.call.sortTextRowsScratchByteLength(3000))
  memory.call.sortTextRows(offsets, bytes, at, 3000, scratch)
  memory.checkGuards()
  expect(memory.readU32s(at, 3000)).toEqual(sequence(3000))
})
