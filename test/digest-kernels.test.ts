// Digests of many label sets at once: claims, buckets and messages against twins that go set by set.
import { afterEach, expect, test } from 'vitest'
import { KernelMemory } from './kernel-memory.js'
import { SeededRandom, seed } from './seeded-random.js'

const memory = new KernelMemory(4 * 2 ** 20)
const { call } = memory
const { u32, f64, i64, u8 } = memory.kernels
const random = new SeededRandom(seed)

afterEach(() => memory.reset())

const noSlot = 0xffffffff
const beforeAllTimes = -(2n ** 63n)
const behindAllTimes = 2n ** 63n - 1n

interface Digest {
  readonly firstNs: bigint
  readonly lastNs: bigint
}

interface Block {
  readonly sets: readonly number[]
  readonly digests: readonly (readonly Digest[])[]
}

function randomBlock(setCount: number): Block {
  const sets = Array.from({ length: setCount }, (_, i) => 100 + i).filter(() => random.chance(0.6))
  const digests = sets.map(() => {
    let at = BigInt(random.integer(0, 200))
    return random.list(random.integer(0, 6), () => {
      const firstNs = at
      const lastNs = firstNs + BigInt(random.integer(0, 15))
      at = lastNs + BigInt(random.integer(1, 30))
      return { firstNs, lastNs }
    })
  })
  return { sets, digests }
}

/** The twin of takeSpan. */
function takes(span: [bigint, bigint], firstNs: bigint, lastNs: bigint, isOrdered: boolean): boolean {
  const isFirst = span[0] > span[1]
  if (isFirst || firstNs > span[1]) {
    if (isFirst) span[0] = firstNs
    span[1] = lastNs
    return true
  }
  if (isOrdered || lastNs >= span[0]) return false
  span[0] = firstNs
  return true
}

test('digests are claimed where all of a set in the range lie in buckets, and behind those claimed before', () => {
  for (let round = 0; round < 300; round++) {
    const setCount = random.integer(1, 12)
    const bucketCount = random.integer(1, 8)
    const stepNs = BigInt(random.pick([1, 10, 40, 500]))
    const startNs = BigInt(random.integer(0, 100))
    const endNs = startNs + BigInt(random.integer(1, 400))
    const setMin = 100 + random.integer(0, 3)
    const setSpan = random.integer(1, setCount + 2)
    const slotOfSet = random.list<number>(setSpan, () => (random.chance(0.8) ? 0 : noSlot))
    let slotCount = 0
    for (let i = 0; i < setSpan; i++) if (slotOfSet[i] === 0) slotOfSet[i] = slotCount++
    const units = random.list(slotCount, () => random.integer(0, 4))
    const slotsPtr = memory.u32s(slotOfSet)
    const unitsPtr = memory.u32s(units)
    const isOrdered = random.chance(0.5)
    const spansPtr = memory.i64s(units.flatMap(() => [behindAllTimes, beforeAllTimes]))
    const brokenPtr = memory.u32s(units.map(() => 0))
    const broken = units.map(() => 0)
    const spans = units.map((): [bigint, bigint] => [behindAllTimes, beforeAllTimes])
    for (let b = 0; b < 3; b++) {
      const { sets, digests } = randomBlock(setCount)
      const all = digests.flat()
      const starts = [0]
      for (const own of digests) starts.push(starts[starts.length - 1]! + own.length)
      const targetPtr = memory.u32s(4 * all.length)
      const count = call.claimDigests(
        memory.u32s(sets),
        memory.u32s(starts),
        sets.length,
        memory.i64s(all.map(({ firstNs }) => firstNs)),
        memory.i64s(all.map(({ lastNs }) => lastNs)),
        slotsPtr,
        setMin,
        setSpan,
        startNs,
        endNs,
        stepNs,
        bucketCount,
        unitsPtr,
        isOrdered ? 1 : 0,
        spansPtr,
        brokenPtr,
        targetPtr,
      )
      const claimed = new Map<number, number[]>()
      for (let i = 0; i < count; i++) {
        const [bucket, from, to, slot] = u32.subarray(targetPtr / 4 + 4 * i, targetPtr / 4 + 4 * i + 4)
        for (let digest = from!; digest < to!; digest++)
          claimed.set(digest, [...(claimed.get(digest) ?? []), bucket!, slot!])
      }
      sets.forEach((set, i) => {
        const slot = slotOfSet[set - setMin] ?? noSlot
        const own = digests[i]!.map((digest, j) => ({ ...digest, number: starts[i]! + j }))
        const inRange = own.filter(({ firstNs, lastNs }) => lastNs >= startNs && firstNs < endNs)
        if (slot === noSlot || set < setMin || inRange.length === 0) {
          for (const { number } of own) expect(claimed.has(number)).toBe(false)
          return
        }
        const isWhole = inRange.every(({ firstNs, lastNs }) => {
          const bucket = (firstNs - startNs) / stepNs
          const isWithin = firstNs >= startNs && lastNs < endNs && bucket === (lastNs - startNs) / stepNs
          return isWithin && bucket < BigInt(bucketCount)
        })
        const isTaken = takes(spans[slot]!, inRange[0]!.firstNs, inRange[inRange.length - 1]!.lastNs, isOrdered)
        if (!isWhole || !isTaken) {
          broken[slot] = 1
          // What is known of the set does not matter any more.
          spans[slot] = [i64[spansPtr / 8 + 2 * slot]!, i64[spansPtr / 8 + 2 * slot + 1]!]
          return
        }
        const unitBucket = units[slot]! * bucketCount
        for (const { number, firstNs } of inRange)
          expect(claimed.get(number)).toEqual([unitBucket + Number((firstNs - startNs) / stepNs), slot])
      })
    }
    expect([...u32.subarray(brokenPtr / 4, brokenPtr / 4 + broken.length)]).toEqual(broken)
    memory.reset()
  }
})

test('claims add their digests to their buckets as combineDigests does, but for those of broken slots', () => {
  for (let round = 0; round < 100; round++) {
    const digestCount = random.integer(1, 40)
    const bucketCount = random.integer(1, 6)
    const which = random.pick([2, 4, 8, 9, 16, 31, 1])
    const column = (make: () => number): number => {
      const ptr = memory.i64s(digestCount)
      for (let i = 0; i < digestCount; i++) f64[ptr / 8 + i] = make()
      return ptr
    }
    const counts = column(() => random.integer(0, 4))
    const [sums, mins, maxs, lasts, m2s] = [0, 1, 2, 3, 4].map(() => column(() => random.integer(-50, 50))) as [
      number,
      number,
      number,
      number,
      number,
    ]
    const claims: number[] = []
    const brokenSlot = random.integer(0, 4)
    const brokenPtr = memory.u32s([0, 1, 2, 3].map((slot) => (slot === brokenSlot ? 1 : 0)))
    const perBucket: number[][] = Array.from({ length: bucketCount }, () => [])
    for (let from = 0; from < digestCount; ) {
      const to = Math.min(digestCount, from + random.integer(1, 6))
      const bucket = random.integer(0, bucketCount)
      const slot = random.integer(0, 4)
      claims.push(bucket, from, to, slot)
      if (slot !== brokenSlot) for (let digest = from; digest < to; digest++) perBucket[bucket]!.push(digest)
      from = to
    }
    const state = memory.allocate(56 * bucketCount)
    call.initWindows(state, bucketCount)
    const claimsPtr = memory.u32s(claims)
    const arrays = [counts, sums, mins, maxs, lasts, m2s] as const
    call.combineClaims(claimsPtr, claims.length / 4, brokenPtr, ...arrays, state, bucketCount, which)
    const timesPtr = memory.i64s([0n])
    perBucket.forEach((digests, bucket) => {
      const twin = memory.allocate(56)
      call.initWindows(twin, 1)
      for (const digest of digests) {
        const at = arrays.map((ptr) => ptr + 8 * digest) as [number, number, number, number, number, number]
        call.combineDigests(timesPtr, ...at, 1, 0n, 10n, 1, twin, which)
      }
      for (let array = 0; array < 7; array++) {
        const [found, wanted] = [f64[state / 8 + array * bucketCount + bucket]!, f64[twin / 8 + array]!]
        // Of last values alone the count says only whether there is one.
        if (array === 0 && which === 8) expect(found > 0).toBe(wanted > 0)
        else expect(found).toBe(wanted)
      }
    })
    memory.reset()
  }
})

test('the occupied buckets of a unit are told by the first and their number, or as gaps', () => {
  for (let round = 0; round < 100; round++) {
    const bucketCount = random.integer(1, 10)
    const units = random.list(random.integer(1, 20), () => random.list(bucketCount, () => random.chance(0.6)))
    const target = memory.u32s(2 * units.length)
    call.occupiedRuns(memory.bits(units.flat()), units.length, bucketCount, target)
    units.forEach((buckets, unit) => {
      const occupied = buckets.flatMap((isOccupied, bucket) => (isOccupied ? [bucket] : []))
      const isRun = occupied.every((bucket, i) => bucket === occupied[0]! + i)
      const count = isRun ? occupied.length : noSlot
      expect([u32[target / 4 + 2 * unit], u32[target / 4 + 2 * unit + 1]]).toEqual([occupied[0] ?? 0, count])
    })
    memory.reset()
  }
})

test('a message is repeated with values and tails of its own, and not past its target', () => {
  for (let round = 0; round < 100; round++) {
    const rowCount = random.integer(1, 5)
    const columnCount = random.integer(0, 4)
    const messageCount = random.integer(1, 6)
    const gap = (): number => random.integer(0, 9)
    const places: number[] = []
    let patternByteLength = gap()
    for (let i = 0; i < columnCount; i++) {
      places.push(patternByteLength)
      patternByteLength += 8 * rowCount + gap()
    }
    const bytesOf = (count: number): Uint8Array => Uint8Array.from({ length: count }, () => random.integer(0, 256))
    const pattern = bytesOf(patternByteLength)
    const values = bytesOf(8 * rowCount * columnCount * messageCount)
    const tails = random.list(messageCount, () => bytesOf(random.integer(0, 20)))
    const offsets = [0]
    for (const tail of tails) offsets.push(offsets[offsets.length - 1]! + tail.length)
    const prefixByteLength = 5
    const byteLength = messageCount * (prefixByteLength + patternByteLength) + offsets[messageCount]!
    const wanted: number[] = []
    for (let message = 0; message < messageCount; message++) {
      const bytes = pattern.slice()
      places.forEach((place, column) => {
        const at = 8 * rowCount * (column * messageCount + message)
        bytes.set(values.subarray(at, at + 8 * rowCount), place)
      })
      // Messages are shorter than 256 bytes here.
      wanted.push(0, 0, 0, 0, bytes.length + tails[message]!.length, ...bytes, ...tails[message]!)
    }
    const repeat = (targetPtr: number, room: number, placesPtr: number): number =>
      call.repeatMessage(
        memory.bytes(pattern),
        patternByteLength,
        memory.u32s(places),
        columnCount,
        rowCount,
        memory.bytes(values),
        8 * rowCount * messageCount,
        8 * rowCount,
        memory.u32s(offsets),
        memory.bytes(Uint8Array.from(tails.flatMap((tail) => [...tail]))),
        messageCount,
        targetPtr,
        room,
        placesPtr,
      )
    const targetPtr = memory.allocate(byteLength)
    const placesPtr = memory.u32s(3 * messageCount)
    expect(repeat(targetPtr, byteLength, placesPtr)).toBe(byteLength)
    expect([...u8.subarray(targetPtr, targetPtr + byteLength)]).toEqual(wanted)
    for (let message = 0; message < messageCount; message++)
      expect([...u32.subarray(placesPtr / 4 + 3 * message, placesPtr / 4 + 3 * message + 3)]).toEqual([
        rowCount,
        targetPtr + (message + 1) * prefixByteLength + message * patternByteLength + offsets[message]!,
        patternByteLength + tails[message]!.length,
      ])
    const short = byteLength - 1
    expect(repeat(memory.allocate(short), short, placesPtr)).toBe(-1)
    memory.reset()
  }
})

test('rows of pages are claimed set by set, and told their buckets, but for those of broken slots', () => {
  for (let round = 0; round < 300; round++) {
    const bucketCount = random.integer(1, 8)
    const stepNs = BigInt(random.pick([1, 10, 40]))
    const startNs = BigInt(random.integer(0, 60))
    const endNs = startNs + stepNs * BigInt(bucketCount) - BigInt(random.integer(0, Number(stepNs)))
    const isOrdered = random.chance(0.5)
    const setMin = 100 + random.integer(0, 3)
    const setSpan = random.integer(1, 14)
    const slotOfSet = random.list<number>(setSpan, () => (random.chance(0.7) ? 0 : noSlot))
    let slotCount = 0
    for (let i = 0; i < setSpan; i++) if (slotOfSet[i] === 0) slotOfSet[i] = slotCount++
    const slotOf = (set: number): number => slotOfSet[set - setMin] ?? noSlot
    const units = random.list(slotCount, () => random.integer(0, 4))
    const spans = units.map((): [bigint, bigint] => [behindAllTimes, beforeAllTimes])
    const broken = units.map(() => 0)
    const slotsPtr = memory.u32s(slotOfSet)
    const unitsPtr = memory.u32s(units)
    const spansPtr = memory.i64s(spans.flat())
    const brokenPtr = memory.u32s(broken)
    const blocks = random.list(random.integer(1, 4), () => randomRows())
    for (const { sets, starts, times, pageStarts } of blocks) {
      const [setsPtr, startsPtr, pageStartsPtr] = [sets, starts, pageStarts].map((list) => memory.u32s(list)) as [
        number,
        number,
        number,
      ]
      const pageCount = pageStarts.length - 1
      const askedPtr = memory.allocate(pageCount)
      const asked = [setsPtr, startsPtr, sets.length, slotsPtr, setMin, setSpan] as const
      const count = call.askedPages(...asked, brokenPtr, pageStartsPtr, pageCount, askedPtr)
      const isAsked = (set: number): boolean => slotOf(set) !== noSlot && broken[slotOf(set)] === 0
      expect(count).toBe(sets.filter(isAsked).length)
      for (let page = 0; page < pageCount; page++) {
        const own = sets.filter((_, i) => starts[i]! < pageStarts[page + 1]! && starts[i + 1]! > pageStarts[page]!)
        expect(u8[askedPtr + page]).toBe(own.some(isAsked) ? 1 : 0)
      }
      for (let page = 0; page < pageCount; page++) {
        const rows = times.slice(pageStarts[page], pageStarts[page + 1])
        const timesPtr = memory.i64s(rows)
        const ofPage = [timesPtr, pageStarts[page]!, rows.length] as const
        call.claimRows(...ofPage, ...asked, startNs, endNs, isOrdered ? 1 : 0, spansPtr, brokenPtr)
        sets.forEach((set, i) => {
          if (slotOf(set) === noSlot) return
          const from = Math.max(starts[i]!, pageStarts[page]!)
          const own = times.slice(from, Math.min(starts[i + 1]!, pageStarts[page + 1]!))
          const within = own.filter((ns) => ns >= startNs && ns < endNs)
          if (within.length === 0) return
          if (!takes(spans[slotOf(set)]!, within[0]!, within[within.length - 1]!, isOrdered)) broken[slotOf(set)] = 1
        })
      }
      expect([...i64.subarray(spansPtr / 8, spansPtr / 8 + 2 * slotCount)]).toEqual(spans.flat())
      expect([...u32.subarray(brokenPtr / 4, brokenPtr / 4 + slotCount)]).toEqual(broken)
    }
    for (const { sets, starts, times, pageStarts } of blocks) {
      const asked = [memory.u32s(sets), memory.u32s(starts), sets.length, slotsPtr, setMin, setSpan] as const
      for (let page = 0; page + 1 < pageStarts.length; page++) {
        const first = pageStarts[page]!
        const rows = times.slice(first, pageStarts[page + 1])
        const targetPtr = memory.u32s(rows.length)
        const ofBuckets = [startNs, endNs, stepNs, bucketCount, unitsPtr, brokenPtr, targetPtr] as const
        const count = call.bucketsOfRows(memory.i64s(rows), first, rows.length, ...asked, ...ofBuckets)
        const expected = rows.map((ns, row) => {
          const slot = slotOf(sets.find((_, i) => starts[i]! <= first + row && starts[i + 1]! > first + row)!)
          if (slot === noSlot || broken[slot] === 1 || ns < startNs || ns >= endNs) return noSlot
          return units[slot]! * bucketCount + Number((ns - startNs) / stepNs)
        })
        expect([...u32.subarray(targetPtr / 4, targetPtr / 4 + rows.length)]).toEqual(expected)
        expect(count).toBe(expected.filter((bucket) => bucket !== noSlot).length)
      }
    }
    memory.reset()
  }
})

/** Some rows of some sets, in pages. */
function randomRows(): { sets: number[]; starts: number[]; times: bigint[]; pageStarts: number[] } {
  const sets = Array.from({ length: 14 }, (_, i) => 98 + i).filter((set) => set === 104 || random.chance(0.7))
  const starts = [0]
  const times: bigint[] = []
  for (const _ of sets) {
    let ns = BigInt(random.integer(0, 200))
    for (let row = random.integer(1, 6); row > 0; row--) {
      times.push(ns)
      ns += BigInt(random.integer(1, 30))
    }
    starts.push(times.length)
  }
  const pageStarts = [0]
  while (pageStarts[pageStarts.length - 1]! < times.length)
    pageStarts.push(Math.min(times.length, pageStarts[pageStarts.length - 1]! + random.integer(1, 12)))
  return { sets, starts, times, pageStarts }
}

test('rows are added to the buckets that are told for them, those of one bucket as a run', () => {
  for (let round = 0; round < 100; round++) {
    const rowCount = random.integer(1, 200)
    const bucketCount = random.integer(1, 6)
    const which = random.integer(0, 16) * 2
    const runs = random.list(rowCount, () => (random.chance(0.2) ? noSlot : random.integer(0, bucketCount)))
    const buckets = runs.map((_, row) => runs[row - (row % random.pick([1, 7]))]!)
    const present = random.bits(rowCount)
    const values = random.list(rowCount, () => random.integer(-50, 50))
    const bits = random.bits(rowCount)
    const validityPtr = random.chance(0.3) ? 0 : memory.bits(present)
    const isPresent = (row: number): boolean => validityPtr === 0 || present[row]!
    const floatsPtr = memory.i64s(rowCount)
    for (let row = 0; row < rowCount; row++) f64[floatsPtr / 8 + row] = values[row]!
    const args = [validityPtr, memory.u32s(buckets), rowCount] as const
    const states = [0, 1, 2].map(() => memory.allocate(56 * bucketCount))
    for (const state of states) call.initWindows(state, bucketCount)
    const [floats, ints, bools] = states as [number, number, number]
    call.accumulateBucketsFloat64(floatsPtr, ...args, floats, bucketCount, which)
    call.accumulateBucketsInt64(memory.i64s(values.map(BigInt)), ...args, ints, bucketCount, which)
    call.accumulateBucketsBits(memory.bits(bits), ...args, bools, bucketCount, which)
    for (let bucket = 0; bucket < bucketCount; bucket++) {
      const rows = buckets.flatMap((own, row) => (own === bucket && isPresent(row) ? [row] : []))
      for (const [state, of] of [
        [floats, (row: number) => values[row]!],
        [ints, (row: number) => values[row]!],
        [bools, (row: number) => (bits[row]! ? 1 : 0)],
      ] as const) {
        const cells = rows.map(of)
        const at = (array: number): number => f64[state / 8 + array * bucketCount + bucket]!
        expect(at(0)).toBe(cells.length)
        if (cells.length === 0) continue
        const sum = cells.reduce((sum, cell) => sum + cell, 0)
        if (which & 2) expect(at(1)).toBe(sum)
        if (which & 4) expect([at(2), at(3)]).toEqual([Math.min(...cells), Math.max(...cells)])
        if (which & 8) expect(at(4)).toBe(cells[cells.length - 1])
        const mean = sum / cells.length
        if (which & 16)
          expect(at(6)).toBeCloseTo(
            cells.reduce((m2, cell) => m2 + (cell - mean) ** 2, 0),
            6,
          )
      }
    }
    memory.reset()
  }
})
