import { describe, expect, test } from 'vitest'
import { AssertionFailed } from '../dist/engine/assert.js'
import { FramesError } from '../dist/engine/errors.js'
import { kernelHeapBase } from '../dist/engine/kernels/kernels.js'
import { copyBytes } from '../dist/engine/memory/copy.js'
import { GoneBlocks, GoneBlocksReader } from '../dist/engine/memory/gone-blocks.js'
import { Region, type RegionOptions, runByteLength } from '../dist/engine/memory/region.js'
import { createSharedMemory, defaultMemoryByteLength } from '../dist/engine/memory/shared-memory.js'
import type { Slice } from '../dist/engine/memory/slice.js'
import { SeededRandom, seed } from './seeded-random.js'
import { codeOf } from './failures.js'

const run = runByteLength

function regionOfRuns(runCount: number, options: Partial<RegionOptions> = {}): Region {
  return new Region({ name: 'test', slice: { byteOffset: 3 * run, byteLength: runCount * run }, ...options })
}

test('bytes are copied into shared memory and out of it, at any alignment, and never past the end', () => {
  const shared = new Uint8Array(new SharedArrayBuffer(64))
  const source = Uint8Array.from({ length: 40 }, (_, i) => i + 1)
  for (const [start, end, at] of [
    [0, 40, 24],
    [3, 20, 1],
    [5, 5, 64],
    [7, 8, 63],
  ] as const) {
    shared.fill(0)
    copyBytes(source.subarray(start, end), shared, at)
    const wanted = new Uint8Array(64)
    wanted.set(source.subarray(start, end), at)
    expect([...shared]).toEqual([...wanted])
    const back = new Uint8Array(end - start + 1)
    copyBytes(shared.subarray(at, at + end - start), back, 1)
    expect([...back]).toEqual([0, ...source.subarray(start, end)])
  }
  expect(() => copyBytes(source, shared, 25)).toThrow(RangeError)
})

describe('a region', () => {
  test('hands out the lowest place first, in whole runs', () => {
    const region = regionOfRuns(4)
    const first = region.tryAllocate(1)!
    const second = region.tryAllocate(run + 1)!
    expect(first).toEqual({ byteOffset: 3 * run, byteLength: run })
    expect(second).toEqual({ byteOffset: 4 * run, byteLength: 2 * run })
    region.free(first)
    expect(region.tryAllocate(run)).toEqual(first)
  })

  test('hands out the highest place where that is asked for, below what is kept for urgent requests', () => {
    const region = regionOfRuns(6, { byteLengthReserved: run })
    const last = region.tryAllocate(2 * run, { fromEnd: true })!
    expect(last).toEqual({ byteOffset: 6 * run, byteLength: 2 * run })
    const before = region.tryAllocate(1, { fromEnd: true })!
    expect(before).toEqual({ byteOffset: 5 * run, byteLength: run })
    expect(region.tryAllocate(1, { fromEnd: true, urgent: true })).toEqual({ byteOffset: 8 * run, byteLength: run })
    expect(region.tryAllocate(3 * run, { fromEnd: true })).toBe(null)
    region.free(last)
    region.free(before)
    expect(region.tryAllocate(5 * run)).toEqual({ byteOffset: 3 * run, byteLength: 5 * run })
  })

  test('takes the end of a slice back, and the rest when that is freed', () => {
    const region = regionOfRuns(4)
    const slice = region.tryAllocate(4 * run)!
    const kept = region.shrink(slice, run + 1)
    expect(kept).toEqual({ byteOffset: slice.byteOffset, byteLength: 2 * run })
    expect(region.statistics()).toMatchObject({ byteLengthUsed: 2 * run, allocationCount: 1 })
    const behind = region.tryAllocate(2 * run)!
    expect(behind.byteOffset).toBe(slice.byteOffset + 2 * run)
    expect(region.shrink(kept, 2 * run)).toEqual(kept)
    region.free(kept)
    expect(region.shrink(behind, 0).byteLength).toBe(0)
    expect(region.tryAllocate(4 * run)).toEqual(slice)
  })

  test('serves who waits with the end that a slice gives back', async () => {
    const region = regionOfRuns(3)
    const slice = region.tryAllocate(3 * run)!
    const waiting = region.allocate(2 * run)
    const kept = region.shrink(slice, 1)
    expect(await waiting).toEqual({ byteOffset: kept.byteOffset + run, byteLength: 2 * run })
  })

  test('joins a freed slice with its neighbours on both sides', () => {
    const region = regionOfRuns(3)
    const slices = [1, 2, 3].map(() => region.tryAllocate(run)!)
    region.free(slices[0]!)
    region.free(slices[2]!)
    expect(region.tryAllocate(2 * run)).toBeNull()
    region.free(slices[1]!)
    expect(region.tryAllocate(3 * run)).toEqual({ byteOffset: 3 * run, byteLength: 3 * run })
  })

  test('needs no place for no bytes', () => {
    const region = regionOfRuns(1)
    const slice = region.tryAllocate(0)!
    expect(slice.byteLength).toBe(0)
    region.free(slice)
    expect(region.statistics()).toMatchObject({ allocationCount: 0, byteLengthUsed: 0, byteLengthUsedMax: 0 })
  })

  test('takes a slice back once, whole, and only if it is its own', () => {
    const region = regionOfRuns(4)
    const slice = region.tryAllocate(2 * run)!
    expect(() => region.free({ byteOffset: slice.byteOffset, byteLength: run })).toThrow(AssertionFailed)
    expect(() => region.free({ byteOffset: slice.byteOffset + run, byteLength: run })).toThrow(AssertionFailed)
    region.free(slice)
    expect(() => region.free(slice)).toThrow(AssertionFailed)
    expect(region.statistics().byteLengthUsed).toBe(0)
  })

  test('counts what is used now, the most that was used, and what was refused', async () => {
    const region = regionOfRuns(4)
    const slices = [region.tryAllocate(run)!, region.tryAllocate(2 * run)!]
    for (const slice of slices) region.free(slice)
    expect(await codeOf(region.allocate(5 * run))).toBe('MEMORY_BUDGET')
    expect(region.statistics()).toEqual({
      byteLength: 4 * run,
      byteLengthUsed: 0,
      byteLengthUsedMax: 3 * run,
      allocationCount: 0,
      waiterCount: 0,
      failureCount: 1,
    })
  })

  test('serves those who wait in the order in which they came', async () => {
    const region = regionOfRuns(4)
    const whole = region.tryAllocate(4 * run)!
    const order: string[] = []
    const wait = async (name: string, runCount: number): Promise<Slice> => {
      const slice = await region.allocate(runCount * run)
      order.push(name)
      return slice
    }
    const waiting = [wait('a', 1), wait('b', 2), wait('c', 1)]
    expect(region.statistics().waiterCount).toBe(3)
    region.free(whole)
    for (const slice of await Promise.all(waiting)) region.free(slice)
    expect(order).toEqual(['a', 'b', 'c'])
  })

  test('lets nobody overtake a large request, so that it does not starve', async () => {
    const region = regionOfRuns(4)
    const slices = [1, 2, 3, 4].map(() => region.tryAllocate(run)!)
    const order: string[] = []
    const large = region.allocate(3 * run).then((slice) => {
      order.push('large')
      return slice
    })
    const small = region.allocate(run).then((slice) => {
      order.push('small')
      return slice
    })
    region.free(slices[0]!)
    region.free(slices[1]!)
    expect(region.tryAllocate(run)).toBeNull()
    await Promise.resolve()
    expect(order).toEqual([])
    region.free(slices[2]!)
    await large
    expect(order).toEqual(['large'])
    region.free(slices[3]!)
    region.free(await small)
    region.free(await large)
    expect(region.statistics()).toMatchObject({ byteLengthUsed: 0, waiterCount: 0, failureCount: 0 })
  })

  test('lets those behind pass when the first in line gives up', async () => {
    const region = regionOfRuns(4)
    const slices = [1, 2].map(() => region.tryAllocate(2 * run)!)
    const controller = new AbortController()
    const large = codeOf(region.allocate(4 * run, { signal: controller.signal }))
    const small = region.allocate(2 * run)
    region.free(slices[0]!)
    controller.abort()
    expect(await large).toBe('CANCELLED')
    expect(await small).toEqual(slices[0])
  })

  test('keeps its end for urgent requests, so that what waits for a job cannot keep the job from its memory', async () => {
    const region = regionOfRuns(4, { byteLengthReserved: run })
    expect(await codeOf(region.allocate(4 * run))).toBe('MEMORY_BUDGET')
    const ordinary = region.tryAllocate(3 * run)!
    expect(region.tryAllocate(run)).toBeNull()
    const urgent = region.tryAllocate(run, { urgent: true })!
    expect(urgent.byteOffset).toBe(6 * run)
    region.free(ordinary)
    region.free(urgent)
    expect(region.tryAllocate(4 * run, { urgent: true })).not.toBeNull()
  })

  test('serves urgent requests before those that came earlier', async () => {
    const region = regionOfRuns(4, { byteLengthReserved: run })
    const whole = region.tryAllocate(4 * run, { urgent: true })!
    const order: string[] = []
    const ordinary = region.allocate(2 * run).then(() => order.push('ordinary'))
    const urgent = region.allocate(2 * run, { urgent: true }).then((slice) => {
      order.push('urgent')
      return slice
    })
    region.free(whole)
    region.free(await urgent)
    await ordinary
    expect(order).toEqual(['urgent', 'ordinary'])
    expect(region.statistics()).toMatchObject({ waiterCount: 0, byteLengthUsed: 2 * run })
  })

  test('refuses a request whose signal has aborted, with its reason if that is typed', async () => {
    const region = regionOfRuns(1)
    expect(await codeOf(region.allocate(run, { signal: AbortSignal.abort() }))).toBe('CANCELLED')
    const reason = new FramesError('DEADLINE_EXCEEDED', 'too late')
    expect(await codeOf(region.allocate(run, { signal: AbortSignal.abort(reason) }))).toBe('DEADLINE_EXCEEDED')
    expect(region.statistics().allocationCount).toBe(0)
  })

  test('refuses at once when too many wait already', async () => {
    const region = regionOfRuns(1, { waiterCountMax: 2 })
    const slice = region.tryAllocate(run)!
    const waiting = [region.allocate(run), region.allocate(run)]
    expect(await codeOf(region.allocate(run))).toBe('MEMORY_BUDGET')
    region.free(slice)
    region.free(await waiting[0]!)
    region.free(await waiting[1]!)
  })

  test('lets nobody wait for ever', async () => {
    const region = regionOfRuns(1, { waitMsMax: 20 })
    const slice = region.tryAllocate(run)!
    expect(await codeOf(region.allocate(run))).toBe('MEMORY_BUDGET')
    expect(region.statistics()).toMatchObject({ waiterCount: 0, failureCount: 1 })
    region.free(slice)
  })

  test('hands out each run to one owner only, whatever the order of allocation and release', () => {
    const random = new SeededRandom(seed)
    const runCount = 200
    const region = regionOfRuns(runCount)
    // The twin: one flag a run, searched from the start.
    const isUsed = new Array<boolean>(runCount).fill(false)
    const held: Slice[] = []
    for (let step = 0; step < 20_000; step++) {
      if (random.chance(0.55)) {
        const count = 1 + Math.floor(random.next() ** 3 * 40)
        const fromEnd = random.chance(0.2)
        const free: number[] = []
        for (let start = 0; start + count <= runCount; start++)
          if (!isUsed.slice(start, start + count).includes(true)) free.push(start)
        const expected = free.at(fromEnd ? -1 : 0) ?? -1
        const slice = region.tryAllocate(count * run - random.integer(0, run), { fromEnd })
        const start = slice === null ? -1 : slice.byteOffset / run - 3
        if (start !== expected) throw new Error(`step ${step}: run ${start}, expected ${expected}`)
        if (slice === null) continue
        isUsed.fill(true, start, start + count)
        held.push(slice)
      } else if (held.length > 0) {
        const [slice] = held.splice(random.integer(0, held.length), 1)
        const start = slice!.byteOffset / run - 3
        isUsed.fill(false, start, start + slice!.byteLength / run)
        region.free(slice!)
      }
      const usedCount = isUsed.filter((used) => used).length
      if (region.statistics().byteLengthUsed !== usedCount * run) throw new Error(`step ${step}: count`)
    }
    for (const slice of held) region.free(slice)
    expect(region.tryAllocate(runCount * run)).not.toBeNull()
  })
})

describe('the shared memory', () => {
  test('begins above the static data of the kernels and is divided without gap or overlap', () => {
    const heapBase = kernelHeapBase()
    const memory = createSharedMemory({ byteLength: 64 * 1024 * 1024, heapBase })
    const { control, goneBlocks, arenas, heads, labelTables, decodedPages } = memory
    const slices = [control, goneBlocks.slice, arenas.slice, heads.slice, labelTables.slice, decodedPages.slice]
    expect(control.byteOffset).toBeGreaterThanOrEqual(heapBase)
    expect(control.byteOffset - heapBase).toBeLessThan(run)
    let end = control.byteOffset
    for (const slice of slices) {
      expect(slice.byteOffset).toBe(end)
      end += slice.byteLength
    }
    expect(end).toBe(memory.byteLength)
    expect(memory.memory.buffer.byteLength).toBe(memory.byteLength)
    const shares = slices.slice(2).map((slice) => slice.byteLength / memory.byteLength)
    for (const [index, share] of [0.5, 0.2, 0.15, 0.15].entries()) expect(shares[index]).toBeCloseTo(share, 1)
  })

  test('starts one run higher when the static data reaches into the next run', () => {
    const options = { byteLength: 8 * 1024 * 1024 }
    expect(createSharedMemory({ ...options, heapBase: 0 }).control.byteOffset).toBe(0)
    expect(createSharedMemory({ ...options, heapBase: run }).control.byteOffset).toBe(run)
    expect(createSharedMemory({ ...options, heapBase: run + 1 }).control.byteOffset).toBe(2 * run)
  })

  test('is at most 1 GiB by default', () => {
    expect(defaultMemoryByteLength()).toBeLessThanOrEqual(1024 ** 3)
    expect(defaultMemoryByteLength()).toBeGreaterThan(0)
  })

  test('refuses a size that cannot be divided or addressed', () => {
    const codeOfSize = (byteLength: number) => {
      try {
        createSharedMemory({ byteLength, heapBase: 1024 })
      } catch (error) {
        return (error as FramesError).code
      }
      return 'no error'
    }
    expect([0, run, 21 * run, 2 ** 31 + run, Number.NaN].map(codeOfSize)).toEqual(new Array(5).fill('INVALID_ARGUMENT'))
    expect(codeOfSize(22 * run)).toBe('no error')
  })

  test('says how much of each region is used', () => {
    const memory = createSharedMemory({ byteLength: 8 * 1024 * 1024, heapBase: 0 })
    memory.heads.tryAllocate(run)
    expect(memory.statistics()).toMatchObject({
      byteLength: 8 * 1024 * 1024,
      arenas: { byteLengthUsed: 0 },
      heads: { byteLengthUsed: run, allocationCount: 1 },
    })
  })
})

describe('blocks that have gone', () => {
  const memory = () => new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true })
  // Room for 8 ids and not for 16.
  const slice: Slice = { byteOffset: 64, byteLength: 8 * 12 }

  /** What a worker is told since the last time, or 'all'. */
  function taken(reader: GoneBlocksReader): bigint[] | 'all' {
    const ids: bigint[] = []
    let isAll = false
    reader.take(
      (id) => ids.push(id),
      () => {
        isAll = true
      },
    )
    return isAll ? 'all' : ids
  }

  test('are told to each worker once, in order; of those before its start it hears nothing', () => {
    const shared = memory()
    const gone = new GoneBlocks(shared, slice)
    gone.add(1n)
    const first = new GoneBlocksReader(shared, slice)
    gone.add(2n ** 63n + 5n)
    gone.add(3n)
    const second = new GoneBlocksReader(shared, slice)
    gone.add(4n)
    expect(taken(first)).toEqual([2n ** 63n + 5n, 3n, 4n])
    expect(taken(first)).toEqual([])
    expect(taken(second)).toEqual([4n])
  })

  test('are none too few when many come and go, also where the count starts again at 0', () => {
    const random = new SeededRandom(seed)
    const shared = memory()
    new Uint32Array(shared.buffer)[slice.byteOffset / 4] = 2 ** 32 - 100
    const gone = new GoneBlocks(shared, slice)
    const reader = new GoneBlocksReader(shared, slice)
    let id = 0n
    for (let round = 0; round < 200; round++) {
      const count = random.integer(0, 11)
      const ids = Array.from({ length: count }, () => ++id)
      for (const one of ids) gone.add(one)
      expect(taken(reader)).toEqual(count < 8 ? ids : 'all')
    }
    expect(id).toBeGreaterThan(200n)
  })

  test('touch no other memory', () => {
    const shared = memory()
    const gone = new GoneBlocks(shared, slice)
    for (let id = 1n; id < 100n; id++) gone.add(id)
    const bytes = new Uint8Array(shared.buffer)
    const isInside = (at: number) => at >= slice.byteOffset && at < slice.byteOffset + slice.byteLength
    expect(bytes.filter((byte, at) => byte !== 0 && !isInside(at)).length).toBe(0)
  })
})
