// What scans and look-ups of kv tables stand on: runs of pages, pages kept between jobs, pages that statistics spare.
import { expect, test } from 'vitest'
import { writeItems } from '../dist/engine/backends/kv/item-block.js'
import { ItemReader } from '../dist/engine/backends/kv/item-reader.js'
import { Matcher } from '../dist/engine/backends/kv/match.js'
import type { PreparedBlock } from '../dist/engine/blocks/merge-rule.js'
import { KeptPages } from '../dist/engine/blocks/kept-pages.js'
import { readPages } from '../dist/engine/blocks/page-run.js'
import {
  BlockIo,
  BlockReader,
  forgetAllBlocks,
  forgetBlock,
  isBlockKnown,
  keptParsedByteLength,
  parsedByteLengthMax,
} from '../dist/engine/blocks/reader.js'
import { parseFilter } from '../dist/engine/expression/parse.js'
import type { ColumnSlice } from '../dist/engine/frame/column-slice.js'
import { createMemory, kernelHeapBase, type Kernels, loadKernels } from '../dist/engine/kernels/kernels.js'
import { Scratch } from '../dist/engine/memory/scratch.js'
import { type Cell, placeItems, type PlainItem, readColumn } from './kv-items.js'
import { SeededRandom, seed } from './seeded-random.js'

const random = new SeededRandom(seed)
const kernels: Kernels = loadKernels(createMemory(96 * 2 ** 20))
const start = Math.ceil(kernelHeapBase() / 65_536) * 65_536
const scratchOf = (place: number, megabytes: number): Scratch =>
  new Scratch({ byteOffset: start + place * 2 ** 20, byteLength: megabytes * 2 ** 20 })

let blockId = 1n << 40n

/** One block of items; its bytes stay in place until the next. */
function blockOf(items: readonly PlainItem[]): PreparedBlock {
  const output = scratchOf(0, 24)
  const [block, ...others] = writeItems(kernels, output, output.back(), placeItems(kernels, output.back(), items))
  expect(others).toEqual([])
  return block!
}

function readerOf(block: PreparedBlock, scratch: Scratch, options: { kept?: KeptPages; isInMemory?: boolean } = {}) {
  const { packed, headerByteLength, headerCrc, rowCount, extent } = block
  const bytes = kernels.u8.slice(packed.byteOffset, packed.byteOffset + packed.byteLength)
  const io = new BlockIo(kernels, scratch, null, 'p', 'x/t', options.kept ?? null)
  const source = {
    id: blockId,
    rowCount,
    headerByteLength,
    headerCrc,
    extent,
    isPacked: true,
    packed: options.isInMemory === true ? packed : null,
    values: options.isInMemory === true ? null : [bytes],
    dead: null,
    damage: null,
  }
  return { reader: new BlockReader(io, source), bytes }
}

function cellOf(kind: number): Cell {
  if (kind === 0) return random.int64()
  if (kind === 1) return random.float64()
  if (kind === 2) return 'é'.repeat(random.integer(0, 4)) + String(random.integer(0, 20))
  if (kind === 3) return random.chance(0.5)
  return { timeNs: random.int64() }
}

/** Items with attributes of all types, some of them missing in stretches and here and there. */
function randomItems(count: number): PlainItem[] {
  return Array.from({ length: count }, (_, i): PlainItem => {
    const cells = new Map<string, Cell>([
      ['whole', BigInt(i)],
      ['rising', BigInt(i * 1000 + random.integer(0, 1000))],
    ])
    for (let kind = 0; kind < 5; kind++) {
      const isGap = Math.floor(i / 1500) % 3 === kind % 3
      if (!isGap && random.chance(0.8)) cells.set(`a${kind}`, cellOf(kind))
    }
    return { folder: '', name: String(i).padStart(6, '0'), mtimeNs: BigInt(i), ctimeNs: 0n, cells }
  })
}

/** Column by column what readPages gives, against what page gives one by one. */
test('a run of pages is decoded as its pages are one by one, missing cells and all', () => {
  for (const rowCount of [1, 1023, 1024, 5000]) {
    blockId++
    const block = blockOf(randomItems(rowCount))
    const { reader } = readerOf(block, scratchOf(40, 16), { isInMemory: true })
    const { pageCount, pageStarts, columns } = reader.layout
    for (let round = 0; round < 6; round++) {
      const from = random.integer(0, pageCount)
      const to = random.integer(from, pageCount) + 1
      for (const column of columns) {
        const scratch = scratchOf(60, 16)
        const run = readPages(reader, column, from, to, scratch)
        const found = run === null ? null : readColumn(kernels, { ...run, name: 'plain' })
        const expected: (Cell | undefined)[] = []
        for (let page = from; page < to; page++) {
          const pageRows = pageStarts[page + 1]! - pageStarts[page]!
          const decoded = reader.page(column, page)
          if (decoded === null) expected.push(...new Array<undefined>(pageRows).fill(undefined))
          else {
            const slice: ColumnSlice = {
              ...decoded,
              name: 'plain',
              dtype: column.dtype,
              kind: 'slice',
              rowCount: pageRows,
              byteLength: 0,
            }
            expected.push(...readColumn(kernels, slice))
          }
        }
        if (found === null) expect(expected.every((cell) => cell === undefined)).toBe(true)
        else expect(found).toEqual(expected)
        reader.io.cache.beginEpoch()
      }
    }
    forgetBlock(blockId)
  }
})

test('what a backend makes of a directory counts among what is kept, once, and goes with its block', () => {
  blockId++
  const before = keptParsedByteLength()
  const { reader } = readerOf(blockOf(randomItems(10)), scratchOf(40, 16), { isInMemory: true })
  const opened = keptParsedByteLength()
  const numbers = new Uint32Array(100_000)
  for (let i = 0; i < 3; i++)
    expect(
      reader.directory(
        () => numbers,
        (parsed) => [parsed],
      ),
    ).toBe(numbers)
  const { byteLength } = numbers
  expect(keptParsedByteLength() - opened).toBeGreaterThanOrEqual(byteLength)
  expect(keptParsedByteLength() - opened).toBeLessThan(byteLength + 1000)
  forgetBlock(blockId)
  expect(keptParsedByteLength()).toBe(before)
})

test('a byte that has changed is named with its page and column', () => {
  blockId++
  const block = blockOf(randomItems(3000))
  const { reader } = readerOf(block, scratchOf(40, 16), { isInMemory: true })
  const column = reader.column('whole', 'int64')!
  const table = reader.table(column)
  const at = reader.segment(table.segments[1]!) + table.offsets[1]! + table.byteLengths[1]! - 1
  kernels.u8[at]! ^= 1
  expect(() => readPages(reader, column, 0, 3, scratchOf(60, 16))).toThrow(
    /page 1 of column 'whole' does not fit its checksum/,
  )
  expect(readPages(reader, column, 0, 1, scratchOf(60, 16))!.rowCount).toBe(1024)
  forgetBlock(blockId)
})

test('pages and attachments that are kept are not read again, and the oldest make room for new ones', () => {
  blockId++
  const items = randomItems(16_000)
  const block = blockOf(items)
  const columns = [
    ['whole', 'int64'],
    ['a0', 'int64'],
    ['a1', 'float64'],
    ['a2', 'string'],
    ['a3', 'bool'],
    ['a4', 'time'],
  ] as const
  for (const keptByteLength of [4 * 2 ** 20, 208 * 1024]) {
    const kept = new KeptPages(kernels, { byteOffset: start + 80 * 2 ** 20, byteLength: keptByteLength })
    for (let job = 0; job < 4; job++) {
      const { reader, bytes } = readerOf(block, scratchOf(40, 16), { kept })
      const work = scratchOf(60, 16)
      const itemReader = new ItemReader(reader.io, work, [reader.source])
      if (job === 3 && keptByteLength > 2 ** 20) {
        // All that is asked for again is kept: where it came from no longer matters.
        bytes.fill(0)
      }
      const look = (row: number): void => {
        const mark = work.mark()
        expect(reader.attachment(0)).not.toBe(0)
        const { folder, name, cells } = items[row]!
        const wanted = placeItems(kernels, work, [{ folder, name, mtimeNs: 0n, ctimeNs: 0n, cells: new Map() }])
        const [sourcePtr, rowPtr] = [work.allocate(4), work.allocate(4)]
        itemReader.find({ folders: wanted.folders, names: wanted.names }, sourcePtr, rowPtr)
        expect([kernels.u32[sourcePtr >> 2], kernels.u32[rowPtr >> 2]]).toEqual([0, row])
        for (const [column, dtype] of columns) {
          const found = readColumn(kernels, itemReader.gather(column, dtype, sourcePtr, rowPtr, 1, work))
          expect([column, ...found]).toEqual([column, cells.get(column)])
        }
        work.release(mark)
      }
      const lookAtAllPages = (): void => {
        for (let row = 0; row < items.length; row += 1024) look(row)
      }
      if (job === 3 && keptByteLength < 2 ** 20) {
        // Not all of them found room.
        bytes.fill(0)
        expect(lookAtAllPages).toThrow(/is damaged/)
        continue
      }
      for (let i = 0; i < 40; i++) look(random.integer(0, items.length))
      if (job === 2) lookAtAllPages()
    }
    forgetBlock(blockId)
  }
})

test('pages that cannot match are not decoded', () => {
  blockId++
  const items = randomItems(10_240)
  const { reader } = readerOf(blockOf(items), scratchOf(40, 16), { isInMemory: true })
  const matched = (filter: string): { count: number; read: number; skipped: number } => {
    const scratch = scratchOf(60, 16)
    const conditions = { filter: parseFilter(filter), expiredNs: null, segments: null, excludedFolders: [] }
    const matcher = new Matcher(kernels, scratch, conditions, [])
    let count = 0
    for (let page = matcher.nextPage(reader, 0, 10); page < 10; page = matcher.nextPage(reader, page, 10)) {
      const end = matcher.batchEnd(reader, page, 10)
      const mark = scratch.mark()
      count += matcher.match(reader, { start: page, end }, { start: 0, end: 10_240 }, scratch)?.count ?? 0
      scratch.release(mark)
      page = end
    }
    return { count, read: matcher.readPageCount, skipped: matcher.skippedPageCount }
  }
  expect(matched('rising >= 5000000 and rising < 5010000')).toEqual({ count: 10, read: 1, skipped: 9 })
  expect(matched('rising < 1000 or rising >= 10239000')).toEqual({ count: 2, read: 2, skipped: 8 })
  expect(matched('rising < 0')).toEqual({ count: 0, read: 0, skipped: 10 })
  expect(matched('NOT (rising < 10240000)')).toEqual({ count: 0, read: 0, skipped: 10 })
  expect(matched('exists(rising)')).toEqual({ count: 10_240, read: 10, skipped: 0 })
  // Where it is missing, a comparison fails and its opposite holds.
  const lacking = items.filter(({ cells }) => !cells.has('a0')).length
  expect(matched('NOT exists(a0)').count).toBe(lacking)
  forgetBlock(blockId)
})

test('times are split into seconds rounded down and nanoseconds from 0 on', () => {
  const times = [0n, 1n, -1n, 999_999_999n, 1_000_000_000n, -1_000_000_000n, -(2n ** 63n), 2n ** 63n - 1n]
  const timesPtr = start
  const targetPtr = start + 4096
  kernels.i64.set(times, timesPtr >> 3)
  for (const isSeconds of [1, 0]) {
    kernels.call.splitTimes(timesPtr, times.length, isSeconds, targetPtr)
    const found = [...kernels.i64.subarray(targetPtr >> 3, (targetPtr >> 3) + times.length)]
    expect(found).toEqual(
      times.map((time) => {
        const rest = ((time % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n
        return isSeconds === 1 ? (time - rest) / 1_000_000_000n : rest
      }),
    )
  }
})

test('values of one column are laid over those of another where it has any', () => {
  for (const rowCount of [1, 63, 64, 65, 200]) {
    const bits = random.bits(rowCount)
    const [basePtr, overPtr, bitsPtr] = [start, start + 8192, start + 16_384]
    kernels.u8.fill(0, bitsPtr, bitsPtr + 64)
    bits.forEach((bit, row) => {
      kernels.f64[(basePtr >> 3) + row] = row
      kernels.f64[(overPtr >> 3) + row] = -row
      if (bit) kernels.u8[bitsPtr + (row >> 3)]! |= 1 << (row & 7)
    })
    kernels.call.overlay64(overPtr, bitsPtr, rowCount, basePtr)
    const found = [...kernels.f64.subarray(basePtr >> 3, (basePtr >> 3) + rowCount)]
    expect(found).toEqual(bits.map((bit, row) => (bit ? -row : row)))
  }
})

test('runs of texts in order become one, whatever they have in common and however long they are', () => {
  for (let round = 0; round < 60; round++) {
    const prefix = 'key/'.repeat(random.integer(0, 6))
    const count = random.integer(1, 400)
    const texts = new Set<string>()
    while (texts.size < count)
      texts.add(
        prefix + ['', 'é', 'aaaaaaaa', 'aaaaaaaab'][random.integer(0, 4)]! + String(random.integer(0, 2 * count + 2)),
      )
    const bytes = [...texts].map((text) => Buffer.from(text))
    const offsetsPtr = start
    const bytesPtr = start + 65_536
    let end = 0
    bytes.forEach((text, i) => {
      kernels.u32[(offsetsPtr >> 2) + i] = end
      kernels.u8.set(text, bytesPtr + end)
      end += text.length
    })
    kernels.u32[(offsetsPtr >> 2) + count] = end
    const runs: number[][] = Array.from({ length: random.integer(1, 9) }, () => [])
    for (let i = 0; i < count; i++) random.pick(runs).push(i)
    const byText = (a: number, b: number) => Buffer.compare(bytes[a]!, bytes[b]!)
    const listPtr = start + 2 ** 20
    const runEndsPtr = listPtr + 65_536
    let place = 0
    runs.forEach((run, i) => {
      for (const row of run.sort(byText)) kernels.u32[(listPtr >> 2) + place++] = row
      kernels.u32[(runEndsPtr >> 2) + i] = place
    })
    kernels.call.mergeTextRuns(offsetsPtr, bytesPtr, listPtr, runEndsPtr, runs.length, runEndsPtr + 4096)
    const found = [...kernels.u32.subarray(listPtr >> 2, (listPtr >> 2) + count)]
    expect(found).toEqual(bytes.map((_, i) => i).sort(byText))
  }
})

test('each name is in one segment of any number of them', () => {
  const names = Array.from({ length: 500 }, (_, i) => Buffer.from(i % 7 === 0 ? `long name of item ${i}` : String(i)))
  const [offsetsPtr, bytesPtr, wantedPtr, maskPtr] = [start, start + 8192, start + 65_536, start + 70_000]
  let end = 0
  names.forEach((name, i) => {
    kernels.u32[(offsetsPtr >> 2) + i] = end
    kernels.u8.set(name, bytesPtr + end)
    end += name.length
  })
  kernels.u32[(offsetsPtr >> 2) + names.length] = end
  for (const total of [1, 2, 7, 64]) {
    const seen = new Array<number>(names.length).fill(0)
    for (let segment = 0; segment < total; segment++) {
      kernels.u8.fill(0, wantedPtr, wantedPtr + total)
      kernels.u8[wantedPtr + segment] = 1
      kernels.call.fillBits(maskPtr, names.length, 1)
      kernels.call.maskSegments(offsetsPtr, bytesPtr, names.length, total, wantedPtr, maskPtr)
      for (let row = 0; row < names.length; row++)
        if (((kernels.u8[maskPtr + (row >> 3)]! >> (row & 7)) & 1) === 1) seen[row]!++
    }
    expect(seen.every((count) => count === 1)).toBe(true)
  }
})

test('headers and page tables of many small blocks never take more than their bound, and a block in use stays', () => {
  const { packed, headerByteLength, headerCrc, rowCount, extent } = blockOf(randomItems(10))
  const hotId = ++blockId
  const ids = [hotId]
  let highest = 0
  const readTables = (io: BlockIo, id: bigint): void => {
    const source = {
      id,
      rowCount,
      headerByteLength,
      headerCrc,
      extent,
      isPacked: true,
      packed,
      values: null,
      dead: null,
    }
    const reader = new BlockReader(io, { ...source, damage: null })
    for (const column of reader.layout.columns) {
      reader.table(column)
      highest = Math.max(highest, keptParsedByteLength())
    }
  }
  for (let job = 0; job < 100; job++) {
    const io = new BlockIo(kernels, scratchOf(40, 16), null, 'p', 'x/t')
    for (let i = 0; i < 60; i++) {
      ids.push(++blockId)
      readTables(io, blockId)
    }
    readTables(io, hotId)
  }
  expect(highest).toBeGreaterThan(0.99 * parsedByteLengthMax)
  expect(highest).toBeLessThanOrEqual(parsedByteLengthMax)
  expect(isBlockKnown(hotId)).toBe(true)
  expect(isBlockKnown(ids[1]!)).toBe(false)
  for (const id of ids.slice(0, -1)) forgetBlock(id)
  expect(isBlockKnown(hotId)).toBe(false)
  expect(isBlockKnown(ids[ids.length - 1]!)).toBe(true)
  forgetAllBlocks()
  expect(keptParsedByteLength()).toBe(0)
})
