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
    const endsPtr = memory.i64s(units.map(() => beforeAllTimes))
    const brokenPtr = memory.u32s([0, 0, 0, 0])
    const broken = [0, 0, 0, 0]
    const ends = units.map(() => beforeAllTimes)
    for (let b = 0; b < 3; b++) {
      const { sets, digests } = randomBlock(setCount)
      const all = digests.flat()
      const starts = [0]
      for (const own of digests) starts.push(starts[starts.length - 1]! + own.length)
      const targetPtr = memory.u32s(3 * all.length)
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
        startNs,
        stepNs,
        bucketCount,
        unitsPtr,
        endsPtr,
        brokenPtr,
        targetPtr,
      )
      const claimed = new Map<number, number[]>()
      for (let i = 0; i < count; i++) {
        const [bucket, from, to] = u32.subarray(targetPtr / 4 + 3 * i, targetPtr / 4 + 3 * i + 3)
        for (let digest = from!; digest < to!; digest++) claimed.set(digest, [...(claimed.get(digest) ?? []), bucket!])
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
        const unit = units[slot]!
        if (!isWhole || inRange[0]!.firstNs <= ends[slot]!) {
          broken[unit] = 1
          // What is known of the set does not matter any more.
          ends[slot] = i64[endsPtr / 8 + slot]!
          return
        }
        ends[slot] = inRange[inRange.length - 1]!.lastNs
        for (const { number, firstNs } of inRange)
          expect(claimed.get(number)).toEqual([unit * bucketCount + Number((firstNs - startNs) / stepNs)])
      })
    }
    expect([...u32.subarray(brokenPtr / 4, brokenPtr / 4 + 4)]).toEqual(broken)
    memory.reset()
  }
})

test('claims add their digests to their buckets as combineDigests does', () => {
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
    const perBucket: number[][] = Array.from({ length: bucketCount }, () => [])
    for (let from = 0; from < digestCount; ) {
      const to = Math.min(digestCount, from + random.integer(1, 6))
      const bucket = random.integer(0, bucketCount)
      claims.push(bucket, from, to)
      for (let digest = from; digest < to; digest++) perBucket[bucket]!.push(digest)
      from = to
    }
    const state = memory.allocate(56 * bucketCount)
    call.initWindows(state, bucketCount)
    const claimsPtr = memory.u32s(claims)
    const arrays = [counts, sums, mins, maxs, lasts, m2s] as const
    call.combineClaims(claimsPtr, claims.length / 3, ...arrays, state, bucketCount, which)
    const timesPtr = memory.i64s([0n])
    perBucket.forEach((digests, bucket) => {
      const twin = memory.allocate(56)
      call.initWindows(twin, 1)
      for (const digest of digests) {
        const at = arrays.map((ptr) => ptr + 8 * digest) as [number, number, number, number, number, number]
        call.combineDigests(timesPtr, ...at, 1, 0n, 10n, 1, twin, which)
      }
      for (let array = 0; array < 7; array++)
        expect(f64[state / 8 + array * bucketCount + bucket]).toBe(f64[twin / 8 + array])
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
    const byteLength = messageCount * patternByteLength + offsets[messageCount]!
    const wanted: number[] = []
    for (let message = 0; message < messageCount; message++) {
      const bytes = pattern.slice()
      places.forEach((place, column) => {
        const at = 8 * rowCount * (column * messageCount + message)
        bytes.set(values.subarray(at, at + 8 * rowCount), place)
      })
      wanted.push(...bytes, ...tails[message]!)
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
        targetPtr + message * patternByteLength + offsets[message]!,
        patternByteLength + tails[message]!.length,
      ])
    const short = byteLength - 1
    if (byteLength > 0) expect(repeat(memory.allocate(short), short, placesPtr)).toBe(-1)
    memory.reset()
  }
})
