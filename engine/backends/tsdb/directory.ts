// The directory of a tsdb block: which label sets stand at which rows. And the extent that the live list keeps of it.
import type { Extent } from '../../blocks/live-block.js'
import type { BlockReader } from '../../blocks/reader.js'
import type { Kernels } from '../../kernels/kernels.js'
import { pageRowCountMax } from '../../limits.js'
import type { Scratch } from '../../memory/scratch.js'
import { pageScratchByteLength } from '../../blocks/builder.js'

/** Set numbers ascending; the rows of sets[i] are [starts[i], starts[i + 1]). */
export interface Directory {
  readonly sets: Uint32Array
  readonly starts: Uint32Array
}

/** Sets of one encoded chunk of the directory. */
const chunkSetCount = pageRowCountMax

/** u32 setCount, then for each 4096 sets: u32 length and int64 page of the numbers, u32 length and page of the starts. */
export function encodeDirectory(kernels: Kernels, scratch: Scratch, directory: Directory): Uint8Array {
  const { call, u8, i64 } = kernels
  const mark = scratch.mark()
  const { sets, starts } = directory
  const valuesPtr = scratch.allocate(8 * chunkSetCount)
  const targetPtr = scratch.allocate(call.maxEncodedInt64Page(chunkSetCount))
  const pageScratchPtr = scratch.allocate(pageScratchByteLength)
  const parts: Uint8Array[] = []
  let byteLength = 4
  for (let first = 0; first < sets.length; first += chunkSetCount) {
    const count = Math.min(chunkSetCount, sets.length - first)
    for (const values of [sets, starts]) {
      for (let i = 0; i < count; i++) i64[(valuesPtr >> 3) + i] = BigInt(values[first + i]!)
      const encoded = call.encodeInt64Page(valuesPtr, count, targetPtr, pageScratchPtr)
      parts.push(u8.slice(targetPtr, targetPtr + encoded))
      byteLength += 4 + encoded
    }
  }
  scratch.release(mark)
  const bytes = new Uint8Array(byteLength)
  const view = new DataView(bytes.buffer)
  view.setUint32(0, sets.length, true)
  let at = 4
  for (const part of parts) {
    view.setUint32(at, part.length, true)
    bytes.set(part, at + 4)
    at += 4 + part.length
  }
  return bytes
}

/** The directory of an open block, decoded once a worker. Throws DATA_DAMAGED. */
export function directoryOf(reader: BlockReader): Directory {
  const { kernels, scratch } = reader.io
  return reader.directory((bytes) => {
    const { call, u8, u32 } = kernels
    const mark = scratch.mark()
    const pagePtr = scratch.allocate(bytes.length + 16)
    const valuesPtr = scratch.allocate(8 * chunkSetCount)
    u8.set(bytes, pagePtr)
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    const setCount = view.getUint32(0, true)
    const sets = new Uint32Array(setCount)
    const starts = new Uint32Array(setCount + 1)
    let at = 4
    for (let first = 0; first < setCount; first += chunkSetCount) {
      const count = Math.min(chunkSetCount, setCount - first)
      for (const values of [sets, starts]) {
        const byteLength = view.getUint32(at, true)
        if (call.decodeInt64Page(pagePtr + at + 4, byteLength, count, valuesPtr) < 0) {
          throw reader.io.damaged(reader.source.id, 'its directory cannot be decoded')
        }
        for (let i = 0; i < count; i++) values[first + i] = u32[(valuesPtr >> 2) + 2 * i]!
        at += 4 + byteLength
      }
    }
    starts[setCount] = reader.layout.rowCount
    scratch.release(mark)
    return { sets, starts }
  })
}

/** Index of a set in a directory, or of the first set above it with `~`. */
export function findSet(directory: Directory, set: number): number {
  const { sets } = directory
  let low = 0
  let high = sets.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (sets[middle]! < set) low = middle + 1
    else high = middle
  }
  return low < sets.length && sets[low] === set ? low : ~low
}

/**
 * What the live list knows of a tsdb block: lowest and highest set, earliest and latest time (floored to ms, both
 * inclusive), then the time partitions with samples as pairs [first, last].
 */
export interface TsdbExtent {
  readonly setMin: number
  readonly setMax: number
  readonly timeMinMs: number
  readonly timeMaxMs: number
  readonly partitions: readonly (readonly [first: number, last: number])[]
}

export function encodeExtent(extent: TsdbExtent): Extent {
  return [extent.setMin, extent.setMax, extent.timeMinMs, extent.timeMaxMs, ...extent.partitions.flat()]
}

export function decodeExtent(extent: Extent): TsdbExtent {
  const [setMin, setMax, timeMinMs, timeMaxMs, ...bounds] = extent as [number, number, number, number, ...number[]]
  const partitions: [number, number][] = []
  for (let i = 0; i + 1 < bounds.length; i += 2) partitions.push([bounds[i]!, bounds[i + 1]!])
  return { setMin, setMax, timeMinMs, timeMaxMs, partitions }
}

/** Joins partition numbers into ranges. */
export function partitionRanges(numbers: Iterable<number>): [number, number][] {
  const ranges: [number, number][] = []
  for (const number of [...new Set(numbers)].sort((a, b) => a - b)) {
    const last = ranges[ranges.length - 1]
    if (last !== undefined && last[1] === number - 1) last[1] = number
    else ranges.push([number, number])
  }
  return ranges
}

const nsPerMs = 1_000_000n

/** A time floored to milliseconds. Times of samples are never negative. */
export function floorMs(timeNs: bigint): number {
  return Number(timeNs / nsPerMs)
}
