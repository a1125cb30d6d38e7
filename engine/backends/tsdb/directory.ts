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
    return { sets: shared(sets), starts: shared(starts) }
  }, ownArrays)
}

/** Those that are no views of what others have, too. */
function ownArrays({ sets, starts }: Directory): Uint32Array[] {
  return [sets, starts].filter((array) => array.byteLength === array.buffer.byteLength)
}

/** 0, 1, 2, ...: what directories of sets without gaps are views of, and those of one row a set. */
let countingNumbers = new Uint32Array(0)
/** Those of the highest numbers stay as they are. */
const countingNumberMax = 2 ** 21

/** The same numbers: a view of what others have too where they go up by one. Blocks of very many label sets do, and stay for long. */
function shared(numbers: Uint32Array): Uint32Array {
  const first = numbers[0] ?? 0
  const end = first + numbers.length
  if (end > countingNumberMax || numbers[numbers.length - 1] !== end - 1) return numbers
  if (end > countingNumbers.length)
    countingNumbers = Uint32Array.from({ length: Math.min(countingNumberMax, 2 * end) }, (_, i) => i)
  return countingNumbers.subarray(first, end)
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

/** Set numbers that are marked at once. */
const windowSetCount = 64 * 1024

/** The distinct numbers of ascending lists, ascending: the first countMax of them. Stretch after stretch of numbers is marked in a bitmap. */
export function mergeSets(lists: readonly Uint32Array[], countMax: number): Uint32Array {
  if (lists.length === 1) return lists[0]!.length <= countMax ? lists[0]! : lists[0]!.subarray(0, countMax)
  const places = lists.map(() => 0)
  const marks = new Uint32Array(windowSetCount / 32)
  const total = lists.reduce((sum, list) => sum + list.length, 0)
  let sets = new Uint32Array(Math.min(countMax, total, windowSetCount))
  let count = 0
  while (count < countMax) {
    let base = Infinity
    for (let i = 0; i < lists.length; i++) base = Math.min(base, lists[i]![places[i]!] ?? Infinity)
    if (base === Infinity) break
    const end = base + windowSetCount
    for (let i = 0; i < lists.length; i++) {
      const list = lists[i]!
      let place = places[i]!
      for (; place < list.length && list[place]! < end; place++) {
        const set = list[place]! - base
        marks[set >> 5]! |= 1 << (set & 31)
      }
      places[i] = place
    }
    if (count + windowSetCount > sets.length) {
      const longer = new Uint32Array(Math.min(countMax, total, 2 * sets.length + windowSetCount))
      longer.set(sets.subarray(0, count))
      sets = longer
    }
    for (let word = 0; word < marks.length; word++) {
      for (let bits = marks[word]!; bits !== 0 && count < countMax; bits &= bits - 1) {
        sets[count++] = base + 32 * word + 31 - Math.clz32(bits & -bits)
      }
      marks[word] = 0
    }
  }
  return sets.subarray(0, count)
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
  const partitions: (readonly [number, number])[] = []
  for (let i = 4; i + 1 < extent.length; i += 2) partitions.push([extent[i]!, extent[i + 1]!])
  return { setMin: extent[0]!, setMax: extent[1]!, timeMinMs: extent[2]!, timeMaxMs: extent[3]!, partitions }
}

/** Times of an extent, both inclusive; of one that is not known all there are. */
export function timesOfExtent(extent: Extent | null): { readonly timeMinMs: number; readonly timeMaxMs: number } {
  return extent === null
    ? { timeMinMs: -Infinity, timeMaxMs: Infinity }
    : { timeMinMs: extent[2]!, timeMaxMs: extent[3]! }
}

const knownExtents = new WeakMap<Extent, TsdbExtent>()

/** The decoded extent of a live block, which each read asks for; null: nobody knows what it holds. */
export function extentOf({ extent }: { readonly extent: Extent | null }): TsdbExtent | null {
  if (extent === null) return null
  let known = knownExtents.get(extent)
  if (known === undefined) {
    known = decodeExtent(extent)
    knownExtents.set(extent, known)
  }
  return known
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
