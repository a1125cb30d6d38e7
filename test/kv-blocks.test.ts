// Items in blocks, without a table: written, looked up, gathered and merged, against plain maps.
import { isDeepStrictEqual } from 'node:util'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { expect, test } from 'vitest'
import { writeItems } from '../dist/engine/backends/kv/item-block.js'
import { ItemReader, noRow } from '../dist/engine/backends/kv/item-reader.js'
import { type ItemPosition, mergeItems } from '../dist/engine/backends/kv/merge.js'
import type { PreparedBlock } from '../dist/engine/blocks/merge-rule.js'
import { segmentOffset } from '../dist/engine/blocks/block.js'
import { keptOfBlock, KeptPages } from '../dist/engine/blocks/kept-pages.js'
import { BlockIo, BlockReader, type BlockSource } from '../dist/engine/blocks/reader.js'
import { createMemory, type Kernels, loadKernels } from '../dist/engine/kernels/kernels.js'
import { Scratch } from '../dist/engine/memory/scratch.js'
import type { WorkerReader } from '../dist/engine/stores/store.js'
import { type Cell, gatherPlain, keyOf, byKey, type PlainItem, placeItems, placeKeys } from './kv-items.js'
import { SeededRandom, seed } from './seeded-random.js'

const MiB = 2 ** 20

/** Memory of a job: what is stored stands at its start, each call takes the rest anew. */
class Desk {
  readonly kernels: Kernels
  readonly #byteLength = 256 * MiB
  #stored: number

  constructor() {
    this.kernels = loadKernels(createMemory(this.#byteLength))
    this.#stored = (this.kernels.call.heapBase() + 63) & ~63
  }

  /** All that is free, in shares. */
  parts(...shares: readonly number[]): Scratch[] {
    const whole = new Scratch({ byteOffset: this.#stored, byteLength: this.#byteLength - this.#stored })
    return whole.split(shares)
  }

  get whole(): Scratch {
    return this.parts(1)[0]!
  }

  /** Memory that no call takes. */
  take(byteLength: number): { byteOffset: number; byteLength: number } {
    const byteOffset = this.#stored
    this.#stored = (byteOffset + byteLength + 63) & ~63
    return { byteOffset, byteLength }
  }

  /** Keeps blocks as sources. */
  store(blocks: readonly PreparedBlock[]): BlockSource[] {
    const bytes = blocks.map(({ packed }) =>
      this.kernels.u8.slice(packed.byteOffset, packed.byteOffset + packed.byteLength),
    )
    return blocks.map((block, i) => {
      const packed = { byteOffset: this.#stored, byteLength: bytes[i]!.length }
      this.kernels.u8.set(bytes[i]!, packed.byteOffset)
      this.#stored = (packed.byteOffset + packed.byteLength + 63) & ~63
      return {
        id: nextId++,
        rowCount: block.rowCount,
        headerByteLength: block.headerByteLength,
        headerCrc: block.headerCrc,
        extent: block.extent,
        isPacked: true,
        packed,
        values: null,
        dead: null,
        damage: null,
      }
    })
  }

  write(items: readonly PlainItem[]): BlockSource[] {
    const [input, output, work] = this.parts(0.3, 0.35, 0.35) as [Scratch, Scratch, Scratch]
    return this.store(writeItems(this.kernels, output, work, placeItems(this.kernels, input, items)))
  }

  find(
    sources: readonly BlockSource[],
    keys: readonly { folder: string; name: string }[],
    kept: KeptPages | null = null,
  ): (PlainItem | null)[] {
    const [cache, temporary, rest] = this.parts(0.1, 0.3, 0.6) as [Scratch, Scratch, Scratch]
    const reader = new ItemReader(new BlockIo(this.kernels, cache, null, 'p', 't', kept), temporary, sources)
    const places = [rest.allocate(4 * keys.length), rest.allocate(4 * keys.length)] as const
    reader.find(placeKeys(this.kernels, rest, keys), ...places)
    return gatherPlain(reader, rest, keys, ...places)
  }

  /** Where keys are: source and row. */
  locate(sources: readonly BlockSource[], keys: readonly { folder: string; name: string }[]): [number, number][] {
    const [cache, temporary, rest] = this.parts(0.1, 0.3, 0.6) as [Scratch, Scratch, Scratch]
    const reader = new ItemReader(new BlockIo(this.kernels, cache, null, 'p', 't'), temporary, sources)
    const places = [rest.allocate(4 * keys.length), rest.allocate(4 * keys.length)] as const
    reader.find(placeKeys(this.kernels, rest, keys), ...places)
    const [sourceIndexes, rows] = places.map((ptr) => this.kernels.u32.slice(ptr >> 2, (ptr >> 2) + keys.length))
    return keys.map((_, i) => [sourceIndexes![i]!, rows![i]!])
  }

  merge(sources: readonly BlockSource[], byteLength = 64 * MiB): BlockSource[] {
    const merged: BlockSource[] = []
    let position: ItemPosition | null = null
    do {
      const scratch = new Scratch({ byteOffset: this.whole.slice.byteOffset, byteLength })
      const step = mergeItems(this.kernels, scratch, null, {
        sources,
        position,
        partition: 'p',
        tableName: 't',
        isCancelled: () => false,
      })
      merged.push(...this.store(step.blocks))
      position = step.next as ItemPosition | null
    } while (position !== null)
    return merged
  }
}

let nextId = 1n

function randomCell(random: SeededRandom): Cell {
  const kind = random.integer(0, 6)
  if (kind === 0) return random.int64()
  if (kind === 1) return random.float64()
  if (kind === 2) return random.chance(0.5)
  if (kind === 3) return { timeNs: random.int64() }
  if (kind === 4) return Uint8Array.from(random.list(random.integer(0, 20), () => random.integer(0, 256)))
  return random.string()
}

const attributes = ['a', 'b', 'text', 'count']

function randomItem(random: SeededRandom, folder: string, name: string): PlainItem {
  const cells = new Map<string, Cell>()
  for (const attribute of attributes) if (random.chance(0.6)) cells.set(attribute, randomCell(random))
  return { folder, name, mtimeNs: random.int64(), ctimeNs: random.int64(), cells }
}

/** Names that share beginnings, of all lengths. */
function randomName(random: SeededRandom): string {
  const kind = random.integer(0, 4)
  if (kind === 0) return `user${random.integer(0, 3000)}`
  if (kind === 1) return `a-very-long-beginning-of-a-name/${random.integer(0, 3000)}`
  if (kind === 2) return String(random.integer(0, 3000)).padStart(8, '0')
  return `${random.string()}x`
}

const folders = ['', 'city=LA', 'city=LA/b=1', 'city=LA/b=2', 'city=Łódź', 'city=a-name-of-more-than-24-bytes/x=1']

function kill(source: BlockSource, rows: readonly number[]): BlockSource {
  const dead =
    source.dead === null ? new Uint8Array(Math.ceil(source.rowCount / 64) * 8) : (source.dead as Uint8Array).slice()
  for (const row of rows) dead[row >> 3]! |= 1 << (row & 7)
  return { ...source, dead }
}

test('after any sequence of writes, kills and merges, every name is found as in a map, with its cells', {
  timeout: 120_000,
}, () => {
  const random = new SeededRandom(seed)
  const desk = new Desk()
  const model = new Map<string, PlainItem>()
  let sources: BlockSource[] = []
  const killKeys = (keys: readonly { folder: string; name: string }[]): void => {
    const rowsOf = new Map<number, number[]>()
    for (const [source, row] of desk.locate(sources, keys))
      if (source !== noRow) rowsOf.set(source, [...(rowsOf.get(source) ?? []), row])
    sources = sources.map((source, i) => kill(source, rowsOf.get(i) ?? []))
  }
  for (let step = 0; step < 30; step++) {
    const where = `step ${step}`
    const usedFolders = random.chance(0.5) ? [''] : folders
    const count = random.pick([1, 5, 50, 1500, 3000])
    const batch = new Map<string, PlainItem>()
    for (let i = 0; i < count; i++) {
      const item = randomItem(random, random.pick(usedFolders), randomName(random))
      batch.set(keyOf(item), item)
    }
    const sorted = [...batch.values()].sort(byKey)
    killKeys(sorted)
    sources.push(...desk.write(sorted))
    for (const item of sorted) model.set(keyOf(item), item)
    if (random.chance(0.2)) {
      const some = [...model.values()].filter(() => random.chance(0.2)).sort(byKey)
      killKeys(some)
      for (const item of some) model.delete(keyOf(item))
    }
    if (random.chance(0.3)) sources = desk.merge(sources)
    const wanted = [
      ...[...model.values()].filter(() => random.chance(0.2)),
      ...random.list(random.pick([0, 1, 300]), () => ({ folder: random.pick(folders), name: randomName(random) })),
    ].sort(byKey)
    const found = desk.find(sources, wanted)
    wanted.forEach((key, i) => {
      const item = model.get(keyOf(key)) ?? null
      if (!isDeepStrictEqual(found[i], item)) expect(found[i], `${where}: ${keyOf(key)}`).toEqual(item)
    })
  }
})

function items(count: number, make: (i: number) => Partial<PlainItem>): PlainItem[] {
  return Array.from({ length: count }, (_, i) => ({
    folder: '',
    name: `item-${String(i).padStart(6, '0')}`,
    mtimeNs: BigInt(i),
    ctimeNs: 0n,
    cells: new Map<string, Cell>(),
    ...make(i),
  }))
}

test('long texts behind short codes are merged in smaller steps, and nothing is lost', () => {
  const desk = new Desk()
  const text = 'x'.repeat(2000)
  const [even, odd] = [0, 1].map((rest) =>
    items(6000, (i) => ({
      name: `item-${String(2 * i + rest).padStart(6, '0')}`,
      cells: new Map<string, Cell>([['text', text]]),
    })),
  )
  const sources = [...desk.write(even!), ...desk.write(odd!)]
  const merged = desk.merge(sources, 16 * MiB)
  expect(merged.length).toBeGreaterThan(1)
  expect(merged.reduce((sum, { rowCount }) => sum + rowCount, 0)).toBe(12_000)
  const wanted = [...even!, ...odd!].sort(byKey)
  expect(desk.find(merged, wanted).every((item, i) => isDeepStrictEqual(item, wanted[i]))).toBe(true)
})

test('a folder for every item, each name in several: they are kept apart, and headers stay small', () => {
  const desk = new Desk()
  const all = items(9000, (i) => ({
    folder: `city=${'long-name-of-a-city'.repeat(2)}-${String(i >> 1).padStart(6, '0')}`,
    name: i % 2 === 0 ? 'a' : 'b',
  })).sort(byKey)
  const sources = [...desk.write(all.filter((_, i) => i % 3 === 0)), ...desk.write(all.filter((_, i) => i % 3 !== 0))]
  for (const { headerByteLength } of sources) expect(headerByteLength).toBeLessThan(512 * 1024)
  expect(desk.find(sources, all).every((item, i) => isDeepStrictEqual(item, all[i]))).toBe(true)
  const merged = desk.merge(sources)
  expect(merged.length).toBeGreaterThan(1)
  expect(desk.find(merged, all).every((item, i) => isDeepStrictEqual(item, all[i]))).toBe(true)
  const absent = all.map(({ folder }) => ({ folder, name: 'c' })).filter((_, i) => i % 2 === 0)
  expect(desk.find(merged, absent).every((item) => item === null)).toBe(true)
})

test('a merge of dead rows alone writes nothing', () => {
  const desk = new Desk()
  const [source] = desk.write(items(100, () => ({})))
  expect(
    desk.merge([
      kill(
        source!,
        Array.from({ length: 100 }, (_, row) => row),
      ),
    ]),
  ).toEqual([])
})

test('a cell of many MiB beside small ones is written, found and merged', () => {
  const desk = new Desk()
  const random = new SeededRandom(seed + 1)
  const large = Uint8Array.from({ length: 3 * MiB }, () => random.integer(0, 256))
  const all = items(50, (i) => ({ cells: new Map<string, Cell>([['blob', i === 20 ? large : Uint8Array.of(i)]]) }))
  const sources = [...desk.write(all.slice(0, 25)), ...desk.write(all.slice(25))]
  const merged = desk.merge(sources)
  expect(desk.find(merged, all).every((item, i) => isDeepStrictEqual(item, all[i]))).toBe(true)
})

test('a flipped byte of a filter or of the names of pages is noticed and named, and hides no other block', () => {
  const desk = new Desk()
  const random = new SeededRandom(seed + 2)
  const [first, second] = ['a', 'b'].map((prefix) => items(3000, (i) => ({ name: `${prefix}-${i}` })).sort(byKey))
  for (const number of [0, 1]) {
    const [source] = desk.write(first!)
    const [other] = desk.write(second!)
    const [cache] = desk.parts(0.2) as [Scratch]
    const reader = new BlockReader(new BlockIo(desk.kernels, cache, null, 'p', 't'), source!)
    const ptr = reader.attachment(number)
    const { byteLength } = reader.layout.attachments[number]!
    desk.kernels.u8[ptr + random.integer(0, byteLength)]! ^= 1 << random.integer(0, 8)
    // As another worker sees it, which has not looked at the block before.
    const damaged = { ...source!, id: nextId++ }
    expect(() => desk.find([damaged, other!], first!.slice(0, 100))).toThrow(
      `block ${damaged.id} of table 't' is damaged: attachment ${number} does not fit its checksum`,
    )
    expect(desk.find([damaged, other!], second!.slice(0, 10))).toEqual(second!.slice(0, 10))
    // A merge makes filters anew, and needs the old ones for nothing.
    const merge = (): BlockSource[] => desk.merge([{ ...source!, id: nextId++ }])
    if (number === 0) expect(desk.find(merge(), first!.slice(0, 10))).toEqual(first!.slice(0, 10))
    else expect(merge).toThrow(/attachment 1/)
  }
})

test('of a small commit, too, look-ups keep what they have read: its pages are not decoded for each of them', () => {
  const desk = new Desk()
  const kept = new KeptPages(desk.kernels, desk.take(8 * MiB))
  const items = Array.from({ length: 40 }, (_, i): PlainItem => {
    const cells = new Map<string, Cell>([
      ['n', BigInt(i * i)],
      ['flag', i % 3 === 0],
      ['text', `text ${i}`],
    ])
    return { folder: '', name: `item${100 + i}`, mtimeNs: BigInt(i), ctimeNs: 0n, cells }
  })
  const sources = desk.write(items)
  expect(desk.find(sources, items, kept)).toEqual(items)
  const [cache] = desk.parts(1) as [Scratch]
  const reader = new BlockReader(new BlockIo(desk.kernels, cache, null, 'p', 't'), sources[0]!)
  for (const column of reader.layout.columns) {
    const { segments, offsets } = reader.table(column)
    desk.kernels.u8[reader.segment(segments[0]!) + offsets[0]!]! ^= 0xff
  }
  expect(desk.find(sources, items, kept)).toEqual(items)
  expect(() => desk.find(sources, items)).toThrow(/is damaged/)
})

test('a page of which some rows were wanted has all the others when those are', () => {
  const random = new SeededRandom(seed)
  const desk = new Desk()
  const rows = items(900, (i) => ({
    cells: new Map<string, Cell>([
      ['small', BigInt(random.integer(0, 128))],
      ['large', BigInt(random.integer(0, 2 ** 40)) * BigInt(i)],
      ['real', random.next()],
    ]),
  }))
  const sources = desk.write(rows)
  const { i64 } = desk.kernels
  const [cache] = desk.parts(1) as [Scratch]
  const whole = new BlockReader(new BlockIo(desk.kernels, cache, null, 'p', 't'), sources[0]!)
  for (const column of whole.layout.columns) {
    if (column.dtype === 'string' || column.dtype === 'bool') continue
    const rowCount = whole.layout.pageStarts[1]!
    const found = whole.page(column, 0)
    if (found === null) continue
    const wanted = i64.slice(found.valuesPtr / 8, found.valuesPtr / 8 + rowCount)
    const [partCache] = desk.parts(0.5, 0.5).slice(1) as [Scratch]
    const reader = new BlockReader(new BlockIo(desk.kernels, partCache, null, 'p', 't'), sources[0]!)
    for (const rowEnd of [1, 2, 300, 299, rowCount, 10, Infinity]) {
      const page = reader.page(column, 0, rowEnd)!
      const count = Math.min(rowEnd, rowCount)
      expect(i64.slice(page.valuesPtr / 8, page.valuesPtr / 8 + count), `${column.name}, seed ${seed}`).toEqual(
        wanted.slice(0, count),
      )
    }
  }
})

test('pages of times with the same bytes are decoded once, and one that is damaged is still noticed', () => {
  const desk = new Desk()
  const pageRowCount = 1024
  const timeOf = (row: number): bigint => {
    // The third page differs from the others in one time.
    return BigInt(row === 2 * pageRowCount + 500 ? 7 : (row % pageRowCount) * 1_000_000)
  }
  const rows = items(5 * pageRowCount, () => ({})).sort(byKey)
  const [source] = desk.write(rows.map((item, row) => ({ ...item, mtimeNs: timeOf(row) })))
  const open = (): BlockReader => {
    const [cache] = desk.parts(1) as [Scratch]
    return new BlockReader(new BlockIo(desk.kernels, cache, null, 'p', 't'), { ...source!, id: nextId++ })
  }
  const reader = open()
  const { layout } = reader
  expect([...layout.pageStarts]).toEqual([0, 1, 2, 3, 4, 5].map((page) => page * pageRowCount))
  const column = layout.columns.find(({ name, dtype }) => dtype === 'time' && name.includes('mtime'))!
  const { i64, u8 } = desk.kernels
  const places = [4, 0, 1, 2, 3].map((page) => {
    const { valuesPtr } = reader.page(column, page)!
    const times = [...i64.subarray(valuesPtr / 8, valuesPtr / 8 + pageRowCount)]
    expect(times).toEqual(times.map((_, row) => timeOf(page * pageRowCount + row)))
    return valuesPtr
  })
  expect(new Set([places[0], places[1], places[2], places[4]]).size).toBe(1)
  expect(places[3]).not.toBe(places[0])
  const { segments, offsets } = reader.table(column)
  const bytePtr = reader.segment(segments[1]!) + offsets[1]! + 2
  u8[bytePtr]! ^= 0xff
  const damaged = open()
  for (const page of [0, 2, 3, 4]) expect(damaged.page(column, page)).not.toBeNull()
  expect(() => damaged.page(column, 1)).toThrow(/page 1 of column '[^']*' does not fit its checksum/)
})

test('pages of a segment that is kept are checked once, and again when it comes from the store anew', () => {
  const desk = new Desk()
  const rows = items(900, (i) => ({ cells: new Map<string, Cell>([['number', BigInt(i * i)]]) }))
  const [source] = desk.write(rows)
  const { u8 } = desk.kernels
  const { byteOffset, byteLength } = source!.packed!
  let stored = u8.slice(byteOffset, byteOffset + byteLength)
  const store = { get: () => stored } as unknown as WorkerReader
  const kept = new KeptPages(desk.kernels, desk.take(8 * MiB))
  const inStore = { ...source!, id: nextId++, packed: null }
  const open = (): BlockReader => {
    const [cache] = desk.parts(1) as [Scratch]
    return new BlockReader(new BlockIo(desk.kernels, cache, store, 'p', 't', kept, 'stored'), inStore)
  }
  const first = open()
  const column = first.layout.columns.find(({ name, dtype }) => name.includes('number') && dtype === 'int64')!
  expect(first.page(column, 0)).not.toBeNull()
  // What is kept does not change with the store.
  const { segments, offsets } = first.table(column)
  const damaged = stored.slice()
  damaged[source!.headerByteLength + segmentOffset(first.layout, segments[0]!) + offsets[0]!]! ^= 0xff
  stored = damaged
  expect(open().page(column, 0)).not.toBeNull()
  // Others take its place.
  const others = keptOfBlock(100)
  for (let i = 0; i < 100; i++) {
    kept.beginEpoch()
    kept.insert(others, i, 256 * 1024)
  }
  expect(() => open().page(column, 0)).toThrow(/does not fit its checksum/)
})

test('what is kept of tens of thousands of small blocks is a part of the heap that a worker has', {
  timeout: 120_000,
}, () => {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const desk = new Desk()
  const cells = new Map<string, Cell>(Array.from({ length: 10 }, (_, i) => [`attribute${i}`, BigInt(i)]))
  const [source] = desk.write(items(1, () => ({ cells })))
  const [cache] = desk.parts(1) as [Scratch]
  const io = new BlockIo(desk.kernels, cache, null, 'p', 't')
  collect()
  const before = process.memoryUsage().heapUsed
  for (let i = 0; i < 40_000; i++) {
    const reader = new BlockReader(io, { ...source!, id: nextId++ })
    for (const column of reader.layout.columns) reader.table(column)
  }
  collect()
  expect(process.memoryUsage().heapUsed - before).toBeLessThan(192 * MiB)
})
