// The engine's one shared WebAssembly.Memory, and how its bytes are divided:
//
//   0          heapBase   control    arenas         heads     label tables   decoded pages
//   ├─ kernels ─┼─ gap ───┼─ 64 KiB ─┼──── 50 % ────┼── 20 % ─┼──── 15 % ────┼──── 15 % ────┤
//
// It is reserved whole at start and never grown, so no view goes stale; pages that nobody touched cost nothing.
import { totalmem } from 'node:os'
import { assert } from '../assert.js'
import { FramesError } from '../errors.js'
import { arenaShareOfJobs, memoryByteLengthDefaultMax, memoryByteLengthMax, memoryShareOfMachine } from '../limits.js'
import { GoneBlocks } from './gone-blocks.js'
import { Region, type RegionStatistics, runByteLength } from './region.js'
import type { Slice } from './slice.js'

declare global {
  // Programs whose `lib` has neither DOM nor another declaration of it still compile; where there is one, this adds nothing.
  namespace WebAssembly {
    interface Memory {}
    interface Module {}
  }
}

export interface SharedMemory {
  readonly memory: WebAssembly.Memory
  readonly byteLength: number
  /** Half a run of 64 KiB for the words that threads exchange, all 0 at start; the worker pool owns it. */
  readonly control: Slice
  /** The other half: which blocks workers may forget. */
  readonly goneBlocks: GoneBlocks
  /** Frames that arrive; scratch and results of jobs (urgent: a quarter is theirs alone). */
  readonly arenas: Region
  /** Decoded rows of the logs. */
  readonly heads: Region
  /** Label sets and their hash tables. */
  readonly labelTables: Region
  /** Decoded pages that are likely to be read again. */
  readonly decodedPages: Region
  statistics(): SharedMemoryStatistics
}

export interface SharedMemoryStatistics {
  readonly byteLength: number
  readonly arenas: RegionStatistics
  readonly heads: RegionStatistics
  readonly labelTables: RegionStatistics
  readonly decodedPages: RegionStatistics
}

export interface SharedMemoryOptions {
  /** Rounded down to 64 KiB. Default: a quarter of the machine's memory, up to 1 GiB. */
  readonly byteLength?: number
  /** Where the kernels' static data ends, in bytes: nothing below is handed out. */
  readonly heapBase: number
}

/** A quarter of the memory of the machine, or of the container if that has less; up to 1 GiB. */
export function defaultMemoryByteLength(): number {
  // 0 or absurdly large when there is no limit.
  const constrained = process.constrainedMemory()
  const machine = constrained > 0 ? Math.min(constrained, totalmem()) : totalmem()
  return Math.min(machine * memoryShareOfMachine, memoryByteLengthDefaultMax)
}

/** Reserves the memory and divides it. Fails with INVALID_ARGUMENT when byteLength is too small or too large to be used. */
export function createSharedMemory({
  byteLength = defaultMemoryByteLength(),
  heapBase,
}: SharedMemoryOptions): SharedMemory {
  assert(Number.isSafeInteger(heapBase) && heapBase >= 0, 'heapBase is a byte offset')
  const runCount = Math.floor(byteLength / runByteLength)
  const controlRun = Math.ceil(heapBase / runByteLength)
  const firstRun = controlRun + 1
  const runCountShared = runCount - firstRun
  // One run a region at least: 20 of them make 15 % three runs.
  if (!(runCountShared >= 20 && byteLength <= memoryByteLengthMax)) {
    const byteLengthMin = (firstRun + 20) * runByteLength
    throw new FramesError(
      'INVALID_ARGUMENT',
      `a shared memory of ${byteLength} bytes is not between ${byteLengthMin} and ${memoryByteLengthMax}`,
    )
  }
  const memory = new WebAssembly.Memory({ initial: runCount, maximum: runCount, shared: true })

  let nextRun = firstRun
  const region = (name: string, regionRunCount: number, reservedRunCount = 0): Region => {
    const slice = { byteOffset: nextRun * runByteLength, byteLength: regionRunCount * runByteLength }
    nextRun += regionRunCount
    return new Region({ name, slice, byteLengthReserved: reservedRunCount * runByteLength })
  }
  const headRunCount = Math.floor(runCountShared * 0.2)
  const labelTableRunCount = Math.floor(runCountShared * 0.15)
  const decodedPageRunCount = Math.floor(runCountShared * 0.15)
  // Half, and what rounding left.
  const arenaRunCount = runCountShared - headRunCount - labelTableRunCount - decodedPageRunCount
  const arenas = region('arenas', arenaRunCount, Math.floor(arenaRunCount * arenaShareOfJobs))
  const heads = region('heads', headRunCount)
  const labelTables = region('label tables', labelTableRunCount)
  const decodedPages = region('decoded pages', decodedPageRunCount)
  assert(nextRun === runCount, 'the regions fill the memory')

  const control = { byteOffset: controlRun * runByteLength, byteLength: runByteLength / 2 }
  return {
    memory,
    byteLength: runCount * runByteLength,
    control,
    goneBlocks: new GoneBlocks(memory, { ...control, byteOffset: control.byteOffset + control.byteLength }),
    arenas,
    heads,
    labelTables,
    decodedPages,
    statistics: () => ({
      byteLength: runCount * runByteLength,
      arenas: arenas.statistics(),
      heads: heads.statistics(),
      labelTables: labelTables.statistics(),
      decodedPages: decodedPages.statistics(),
    }),
  }
}
