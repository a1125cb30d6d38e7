// A table of items over each store: written, overwritten and deleted in turns while merges run, closed and opened, with a
// store that fails now and then; what it holds is compared with a plain map.
import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { afterAll, afterEach, expect, test } from 'vitest'
import { writeItems } from '../dist/engine/backends/kv/item-block.js'
import { ItemReader, noRow } from '../dist/engine/backends/kv/item-reader.js'
import { nameColumn } from '../dist/engine/backends/kv/item-columns.js'
import { itemMergeRule } from '../dist/engine/backends/kv/merge-jobs.js'
import { Turn } from '../dist/engine/backends/turn.js'
import { Catalog, newPartition } from '../dist/engine/blocks/catalog.js'
import type { Kill } from '../dist/engine/blocks/dead-rows.js'
import { dataKey, deadKeys, keyKinds, killsKeys } from '../dist/engine/blocks/keys.js'
import { BlockIo, type BlockSource } from '../dist/engine/blocks/reader.js'
import type { Snapshot } from '../dist/engine/blocks/snapshot.js'
import { BlockTable } from '../dist/engine/blocks/table.js'
import { FramesError } from '../dist/engine/errors.js'
import { type Kernels, loadKernels } from '../dist/engine/kernels/kernels.js'
import { Scratch } from '../dist/engine/memory/scratch.js'
import { createSharedMemory, type SharedMemory } from '../dist/engine/memory/shared-memory.js'
import { openPool, type Pool } from '../dist/engine/pool/pool.js'
import { openReader } from '../dist/engine/stores/lmdb-reader.js'
import { openLmdbStore } from '../dist/engine/stores/lmdb.js'
import { Faults, openMemoryStore } from '../dist/engine/stores/memory.js'
import type { Store, WorkerReader } from '../dist/engine/stores/store.js'
import { byKey, type Cell, gatherPlain, keyOf, type PlainItem, placeItems, placeKeys, readColumn } from './kv-items.js'
import { SeededRandom, seed } from './seeded-random.js'

const root = mkdtempSync(join(tmpdir(), 'framesd-items-'))
afterAll(() => rmSync(root, { recursive: true, force: true }))
const roundCount = Number(process.env['ROUNDS'] ?? 1)
const partition = 'titems'
const MiB = 2 ** 20

interface Key {
  readonly folder: string
  readonly name: string
}
type Model = Map<string, PlainItem>

class Bench {
  readonly #memory: SharedMemory
  readonly kernels: Kernels
  readonly reports: string[] = []
  readonly #pool: Pool
  readonly store: Store
  table!: BlockTable
  turn = new Turn()
  #reader: WorkerReader | null = null

  private constructor(
    store: Store,
    readonly faults: Faults | null,
    memory: SharedMemory,
  ) {
    this.store = store
    this.#memory = memory
    this.kernels = loadKernels(memory.memory)
    this.#pool = openPool({
      memory,
      workerCount: 2,
      ...(faults === null ? { readerModule: new URL('../dist/threads/lmdb-reader.js', import.meta.url) } : {}),
    })
  }

  static async open(driver: 'memory' | 'lmdb'): Promise<Bench> {
    const memory = createSharedMemory({
      heapBase: loadKernels(new WebAssembly.Memory({ initial: 2, maximum: 2, shared: true })).call.heapBase(),
      byteLength: 384 * MiB,
    })
    const faults = driver === 'memory' ? new Faults() : null
    const path = join(root, `data-${folderCount++}`)
    const store = faults === null ? await openLmdbStore({ path, memory: memory.memory }) : openMemoryStore({ faults })
    const bench = new Bench(store, faults, memory)
    open.push(bench)
    await BlockTable.create(bench.parts, partition, new Uint8Array([1]))
    await bench.openTable()
    return bench
  }

  get parts() {
    return {
      store: this.store,
      memory: this.#memory,
      pool: this.#pool,
      bytes: this.kernels.u8,
      report: (message: string, error: unknown) =>
        this.reports.push(error instanceof Error ? `${message}: ${error.message}` : message),
    }
  }

  async openTable(): Promise<void> {
    this.table = await BlockTable.open(this.parts, partition, 'x/items')
    this.turn = new Turn()
    const { turn, store } = this
    this.table.startMerging(
      itemMergeRule({
        partition,
        tableName: 'x/items',
        access: () => store.workerAccess,
        inTurn: (work) => turn.run(work),
      }),
    )
  }

  /** Calls `body` with some scratch and, for stores that workers read, a reader. */
  async #withScratch<T>(byteLength: number, body: (scratch: Scratch) => Promise<T>): Promise<T> {
    const slice = await this.#memory.arenas.allocate(byteLength, { urgent: true })
    const { workerAccess } = this.store
    if (workerAccess !== null && this.#reader?.path !== workerAccess.path) {
      this.#reader?.close()
      this.#reader = openReader(workerAccess)
    }
    this.#reader?.beginJob()
    try {
      return await body(new Scratch(slice))
    } finally {
      this.#reader?.endJob()
      this.#memory.arenas.free(slice)
    }
  }

  /** Looks keys up in blocks; `use` gets the reader and where each key was found. */
  #find(
    scratch: Scratch,
    sources: readonly BlockSource[],
    keys: readonly Key[],
  ): { reader: ItemReader; rest: Scratch; sourceIndexesPtr: number; rowsPtr: number } {
    const [cache, temporary, rest] = scratch.split([0.3, 0.2, 0.5]) as [Scratch, Scratch, Scratch]
    const reader = new ItemReader(
      new BlockIo(this.kernels, cache, this.#reader, partition, 'x/items'),
      temporary,
      sources,
    )
    const sourceIndexesPtr = rest.allocate(4 * keys.length)
    const rowsPtr = rest.allocate(4 * keys.length)
    reader.find(placeKeys(this.kernels, rest, keys), sourceIndexesPtr, rowsPtr)
    return { reader, rest, sourceIndexesPtr, rowsPtr }
  }

  /** Kills items; inside a turn. */
  async kill(deletes: readonly Key[]): Promise<void> {
    const snapshot = this.table.acquire()
    const sources = await this.table.sources(snapshot.blocks)
    await this.#withScratch(32 * MiB, async (scratch) => {
      const { sourceIndexesPtr, rowsPtr } = this.#find(scratch, sources, deletes)
      const kills = this.#killsOf(snapshot, deletes.length, sourceIndexesPtr, rowsPtr)
      await this.table.commitRows(await this.table.stageRows([]), { kills })
    })
    snapshot.release()
  }

  /** One commit: writes items whole, and deletes others. Sorted, no key twice. */
  async change(items: readonly PlainItem[], deletes: readonly Key[], schema?: Uint8Array): Promise<void> {
    await this.table.waitForMerges()
    await this.turn.run(async () => {
      const snapshot = this.table.acquire()
      try {
        const sources = await this.table.sources(snapshot.blocks)
        await this.#withScratch(48 * MiB, async (scratch) => {
          const keys = [...items, ...deletes].sort(byKey)
          const [findScratch, rest] = scratch.split([0.5, 0.5]) as [Scratch, Scratch]
          const { sourceIndexesPtr, rowsPtr } = this.#find(findScratch, sources, keys)
          const kills = this.#killsOf(snapshot, keys.length, sourceIndexesPtr, rowsPtr)
          const [input, output] = rest.split([0.4, 0.6]) as [Scratch, Scratch]
          const blocks =
            items.length === 0
              ? []
              : writeItems(this.kernels, output, output.back(), placeItems(this.kernels, input, items))
          const staged = await this.table.stageRows(blocks)
          await this.table.commitRows(staged, { kills, ...(schema === undefined ? {} : { schema }) })
        })
      } finally {
        snapshot.release()
      }
    })
  }

  #killsOf(snapshot: Snapshot, count: number, sourceIndexesPtr: number, rowsPtr: number): Kill[] {
    const { u32 } = this.kernels
    const rowsOf = new Map<number, number[]>()
    for (let i = 0; i < count; i++) {
      const source = u32[(sourceIndexesPtr >> 2) + i]!
      if (source === noRow) continue
      rowsOf.set(source, [...(rowsOf.get(source) ?? []), u32[(rowsPtr >> 2) + i]!])
    }
    return [...rowsOf].map(([source, rows]) => ({
      blockId: snapshot.blocks[source]!.id,
      rows: Uint32Array.from(rows).sort(),
    }))
  }

  /** Holds the snapshot to the model: every item is there once, as it should be, and nothing else is. */
  async compare(snapshot: Snapshot, model: Model, where: string): Promise<void> {
    const living = snapshot.blocks.reduce((sum, { rowCount, dead }) => sum + rowCount - (dead?.count ?? 0), 0)
    expect(living, `${where}: living rows`).toBe(model.size)
    const keys = [...model.values()].sort(byKey)
    const sources = await this.table.sources(snapshot.blocks)
    await this.#withScratch(64 * MiB, async (scratch) => {
      const { reader, rest, sourceIndexesPtr, rowsPtr } = this.#find(scratch, sources, keys)
      const found = gatherPlain(reader, rest, keys, sourceIndexesPtr, rowsPtr)
      keys.forEach((item, i) => {
        // Thousands of items: only what differs is worth an assertion.
        if (!isDeepStrictEqual(found[i], item)) expect(found[i], `${where}: ${keyOf(item)}`).toEqual(item)
      })
    })
  }

  /** That these items, in order, are there as they should be; of others nothing is said. */
  async compareFound(items: readonly PlainItem[]): Promise<void> {
    const sources = await this.table.sources(this.table.blocks)
    await this.#withScratch(32 * MiB, async (scratch) => {
      const { reader, rest, sourceIndexesPtr, rowsPtr } = this.#find(scratch, sources, items)
      // Cells by column: columns() would open every block.
      const names = reader.gather(nameColumn, 'string', sourceIndexesPtr, rowsPtr, items.length, rest)
      expect(readColumn(this.kernels, names)).toEqual(items.map(({ name }) => name))
    })
  }

  async now(model: Model, where: string): Promise<void> {
    const snapshot = this.table.acquire()
    try {
      await this.compare(snapshot, model, where)
    } finally {
      snapshot.release()
    }
  }

  async close(): Promise<void> {
    await this.table.close()
    this.#reader?.close()
    const { arenas, heads } = this.#memory
    expect([arenas, heads].map((region) => region.statistics().byteLengthUsed)).toEqual([0, 0])
    await this.#pool.close()
    await this.store.close()
    open.splice(open.indexOf(this), 1)
  }

  async abandon(): Promise<void> {
    this.#reader?.close()
    await this.#pool.close({ graceMs: 0 })
    await this.store.close()
  }

  async keys(): Promise<Map<number, number>> {
    const counts = new Map<number, number>()
    for (const { key } of await this.store.scan(partition, { limit: 1e6, keysOnly: true }))
      counts.set(key[0]!, (counts.get(key[0]!) ?? 0) + 1)
    return counts
  }
}

let folderCount = 0
const open: Bench[] = []
afterEach(async () => {
  for (const bench of open.splice(0)) await bench.abandon()
})

const folders = ['', '', '', 'city=LA', 'city=NY/b=1']
const diskFull = (): FramesError => new FramesError('DISK_FULL', 'no room')

function randomKey(random: SeededRandom): Key {
  return { folder: random.pick(folders), name: `item-${random.integer(0, 8000)}` }
}

function randomItem(random: SeededRandom, key: Key): PlainItem {
  const cells = new Map<string, Cell>([['n', BigInt(random.integer(0, 1e6))]])
  if (random.chance(0.5)) cells.set('text', random.string())
  if (random.chance(0.2)) cells.set('flag', random.chance(0.5))
  return { ...key, mtimeNs: random.int64(), ctimeNs: random.int64(), cells }
}

interface Batch {
  readonly items: readonly PlainItem[]
  readonly deletes: readonly Key[]
}

function randomBatch(random: SeededRandom, model: Model): Batch {
  const items = new Map<string, PlainItem>()
  const count = random.pick([0, 1, 20, 300, 5000])
  // Now and then the same few items over and over: blocks that die whole.
  const isHot = random.chance(0.3)
  for (let i = 0; i < count; i++) {
    const key = isHot ? { folder: '', name: `hot-${i % 30}` } : randomKey(random)
    items.set(keyOf(key), randomItem(random, key))
  }
  const deleteCount = random.chance(0.15) ? random.pick([1, 100, model.size]) : 0
  const deletes = [...model.values()].slice(0, deleteCount).filter((item) => !items.has(keyOf(item)))
  return { items: [...items.values()].sort(byKey), deletes }
}

function apply(model: Model, { items, deletes }: Batch): void {
  for (const key of deletes) model.delete(keyOf(key))
  for (const item of items) model.set(keyOf(item), item)
}

async function expectNothingLeft(bench: Bench): Promise<void> {
  await bench.table.erased()
  const keys = await bench.keys()
  expect([keys.get(keyKinds.gone) ?? 0, keys.get(keyKinds.stage) ?? 0], 'nothing waits for its end').toEqual([0, 0])
  expect((keys.get(keyKinds.head) ?? 0) + (keys.get(keyKinds.packed) ?? 0)).toBe(keys.get(keyKinds.live) ?? 0)
  expect(keys.get(keyKinds.dead) ?? 0).toBe(keys.get(keyKinds.deadCopy) ?? 0)
  expect(keys.get(keyKinds.kills) ?? 0).toBe(keys.get(keyKinds.killsCopy) ?? 0)
  expect(keys.get(keyKinds.dead) ?? 0, 'bitmaps of live blocks only').toBeLessThanOrEqual(keys.get(keyKinds.live) ?? 0)
}

for (const driver of ['memory', 'lmdb'] as const) {
  test(`${driver}: whatever is written, overwritten, deleted and merged, every item is there once, as last written`, {
    timeout: 600_000,
  }, async () => {
    const random = new SeededRandom(seed)
    const bench = await Bench.open(driver)
    const model: Model = new Map()
    const held: { snapshot: Snapshot; model: Model }[] = []
    const checkHeld = async (where: string): Promise<void> => {
      for (const one of held.splice(0)) {
        await bench.compare(one.snapshot, one.model, `${where}: a snapshot of before`)
        one.snapshot.release()
      }
    }
    let merging: Promise<void> = Promise.resolve()
    for (let step = 0; step < 40 * roundCount; step++) {
      const where = `step ${step}`
      const choice = random.next()
      if (choice < 0.6) {
        const batch = randomBatch(random, model)
        await bench.change(batch.items, batch.deletes)
        apply(model, batch)
      } else if (choice < 0.7) {
        // It runs beside the writes that follow.
        await merging
        merging = bench.table.compact()
      } else if (choice < 0.8) {
        if (held.length < 3) held.push({ snapshot: bench.table.acquire(), model: new Map(model) })
        else await checkHeld(where)
      } else if (choice < 0.86) {
        await merging
        await checkHeld(where)
        await bench.table.close()
        await bench.openTable()
        await bench.now(model, `${where}, opened again`)
      } else await bench.now(model, where)
    }
    await checkHeld('at the end')
    await merging
    await bench.now(model, 'at the end')
    await bench.table.compact()
    await bench.now(model, 'merged')
    await expectNothingLeft(bench)
    expect(bench.table.blocks.every(({ dead }) => dead === null)).toBe(true)
    expect(bench.reports).toEqual([])
    await bench.close()
  })
}

test('with a store that fails now and then, a change happens whole, kills and all, or not at all', {
  timeout: 600_000,
}, async () => {
  const random = new SeededRandom(seed + 1)
  const bench = await Bench.open('memory')
  const model: Model = new Map()
  let failureCount = 0
  for (let step = 0; step < 30 * roundCount; step++) {
    if (random.chance(0.5))
      bench.faults!.fail('commit', diskFull(), { n: random.integer(1, 5), times: random.integer(1, 3) })
    const merging = random.chance(0.3) ? bench.table.compact().catch(() => undefined) : null
    for (let i = 0; i < 3; i++) {
      const batch = randomBatch(random, model)
      try {
        await bench.change(batch.items, batch.deletes)
        apply(model, batch)
      } catch (error) {
        failureCount++
        expect((error as FramesError).code).toBe('DISK_FULL')
      }
    }
    await merging
    if (random.chance(0.3)) await bench.now(model, `step ${step}`)
    if (random.chance(0.15)) {
      await bench.table.close()
      bench.faults!.clear()
      await bench.openTable()
      await bench.now(model, `step ${step}, opened again`)
    }
  }
  bench.faults!.clear()
  expect(failureCount).toBeGreaterThan(0)
  await bench.table.close()
  await bench.openTable()
  await bench.table.compact()
  await bench.now(model, 'at the end')
  await expectNothingLeft(bench)
  await bench.close()
})

/** Items with an integer, and a blob of bytes that cannot be compressed. */
function numbered(count: number, value: bigint, prefix = 'item', blobByteLength = 0): PlainItem[] {
  return Array.from({ length: count }, (_, i) => ({
    folder: '',
    name: `${prefix}-${String(i).padStart(6, '0')}`,
    mtimeNs: value,
    ctimeNs: 0n,
    cells: new Map<string, Cell>(
      blobByteLength === 0
        ? [['n', value]]
        : [
            ['n', value],
            ['blob', new Uint8Array(randomBytes(blobByteLength))],
          ],
    ),
  }))
}

const modelOf = (items: readonly PlainItem[]): Model => new Map(items.map((item) => [keyOf(item), item]))

test('a block whose rows are all dead goes with the commit that killed them', async () => {
  const bench = await Bench.open('memory')
  for (let i = 0; i < 5; i++) {
    await bench.change(numbered(100, BigInt(i)), [])
    expect(bench.table.blocks.length).toBe(1)
  }
  await bench.now(modelOf(numbered(100, 4n)), 'at the end')
  await bench.change([], numbered(100, 0n))
  expect(bench.table.blocks.length).toBe(0)
  await expectNothingLeft(bench)
  await bench.close()
})

test('a block with a quarter of its rows dead is written anew, without them', { timeout: 600_000 }, async () => {
  const bench = await Bench.open('lmdb')
  const items = numbered(10_000, 1n)
  await bench.change(items, [])
  await bench.change([], items.slice(0, 2_600))
  // In the background, when the workers are idle: a busy machine takes its time.
  await expect
    .poll(() => bench.table.blocks.map(({ rowCount, dead }) => [rowCount, dead]), { timeout: 20_000 })
    .toEqual([[7_400, null]])
  await bench.now(modelOf(items.slice(2_600)), 'written anew')
  await bench.close()
})

test('kills are folded into bitmaps, and a table opens the same before and after', { timeout: 600_000 }, async () => {
  const bench = await Bench.open('memory')
  const items = numbered(60_000, 1n)
  const model = modelOf(items)
  await bench.change(items, [])
  const counts: [kills: number, dead: number][] = []
  // Scattered, so that their lists are long; too few for a rewrite.
  for (let round = 0; round < 8; round++) {
    const dying = items.filter((_, i) => i % 40 === round)
    await bench.change([], dying)
    for (const item of dying) model.delete(keyOf(item))
    await bench.table.close()
    const keys = await bench.keys()
    counts.push([keys.get(keyKinds.kills) ?? 0, keys.get(keyKinds.dead) ?? 0])
    await bench.openTable()
  }
  await bench.now(model, 'opened')
  // 1500 rows in two bytes each: 64 KiB after 44 commits, so these lists stay; many small commits fold, too.
  expect(counts.map(([kills]) => kills)).toEqual([1, 2, 3, 4, 5, 6, 7, 8])
  for (let i = 0; i < 2100; i++) {
    const snapshot = bench.table.acquire()
    const row = 41 + 28 * i
    await bench.turn.run(async () => {
      const staged = await bench.table.stageRows([])
      await bench.table.commitRows(staged, {
        kills: [{ blockId: snapshot.blocks[0]!.id, rows: Uint32Array.of(row) }],
      })
    })
    snapshot.release()
    model.delete(keyOf(items[row]!))
  }
  await bench.table.close()
  const keys = await bench.keys()
  expect(keys.get(keyKinds.dead)).toBe(1)
  expect(keys.get(keyKinds.kills) ?? 0).toBeLessThan(100)
  await bench.openTable()
  await bench.now(model, 'folded')
  await bench.close()
})

test('rows that die while they are merged are dead in what they are merged into', { timeout: 600_000 }, async () => {
  for (const driver of ['memory', 'lmdb'] as const) {
    // A packed block; one that is committed from the merge's memory; several that are stored before the commit.
    for (const [count, blobByteLength] of [
      [300, 0],
      [6_000, 0],
      [6_000, 900],
    ] as const) {
      const bench = await Bench.open(driver)
      const items = ['a', 'b'].map((prefix) => numbered(count, 1n, prefix, blobByteLength))
      for (const list of items) await bench.change(list, [])
      const dying = [...items[0]!.slice(10, 60), ...items[1]!.slice(100, 103)]
      const place = bench.turn.run(async () => {
        const compacting = bench.table.compact()
        await new Promise((resolve) => setTimeout(resolve, 1000))
        await bench.kill(dying)
        return { compacting }
      })
      await (await place).compacting
      expect(bench.table.blocks.reduce((sum, { dead }) => sum + (dead?.count ?? 0), 0)).toBe(dying.length)
      expect(
        new Set(bench.table.blocks.map(({ firstCommit, lastCommit }) => `${firstCommit} ${lastCommit}`)).size,
      ).toBe(1)
      const gone = new Set(dying)
      const model = modelOf(items.flat().filter((item) => !gone.has(item)))
      await bench.now(model, `${driver}, ${count}`)
      await bench.table.close()
      await bench.openTable()
      await bench.now(model, `${driver}, ${count}, opened again`)
      await bench.close()
    }
  }
})

test('a block that dies whole by a commit on its way when a merge of it begins is dead in what it is merged into', {
  timeout: 600_000,
}, async () => {
  for (const isAlone of [false, true]) {
    const bench = await Bench.open('memory')
    const [first, second] = [numbered(300, 1n, 'a'), numbered(300, 1n, 'b')]
    await bench.change(first, [])
    await bench.change(second, [])
    bench.faults!.delay('commit', 300)
    const again = numbered(300, 2n, 'a')
    const changing = isAlone ? bench.change(again, second) : bench.change(again, [])
    await new Promise((resolve) => setTimeout(resolve, 150))
    const compacting = bench.table.compact()
    await changing
    await compacting
    bench.faults!.delay('commit', 0)
    const model = modelOf(isAlone ? again : [...again, ...second])
    await bench.now(model, 'merged')
    await bench.table.compact()
    await bench.table.close()
    await bench.openTable()
    await bench.now(model, 'opened again')
    await bench.table.compact()
    await expectNothingLeft(bench)
    expect(bench.reports).toEqual([])
    await bench.close()
  }
})

test('a schema and kills come with a commit or not at all, also without rows', async () => {
  const bench = await Bench.open('memory')
  const items = numbered(50, 1n)
  await bench.change(items, [], new Uint8Array([2]))
  expect([...bench.table.schema]).toEqual([2])
  bench.faults!.fail('commit', diskFull())
  await expect(bench.change([], items, new Uint8Array([3]))).rejects.toMatchObject({ code: 'DISK_FULL' })
  expect([...bench.table.schema]).toEqual([2])
  await bench.now(modelOf(items), 'after the failed commit')
  await bench.change([], items.slice(1), new Uint8Array([4]))
  await bench.table.close()
  await bench.openTable()
  expect([...bench.table.schema]).toEqual([4])
  await bench.now(modelOf(items.slice(0, 1)), 'at the end')
  await bench.close()
})

test('a kill of a block that is no longer live is refused, and nothing of its commit happens', async () => {
  const bench = await Bench.open('memory')
  const items = numbered(50, 1n)
  await bench.change(items, [])
  const staged = await bench.table.stageRows([])
  const kills = [{ blockId: 12345n, rows: Uint32Array.of(1) }]
  await expect(bench.table.commitRows(staged, { kills })).rejects.toMatchObject({ code: 'VIEW_OUTDATED' })
  await bench.now(modelOf(items), 'at the end')
  await bench.close()
})

test('a sealed generation takes no commit, still serves its readers, and another takes its name', async () => {
  const bench = await Bench.open('memory')
  const catalog = new Catalog(bench.store)
  const name = { container: 'x', backend: 'kv', path: 'items' }
  await catalog.add(name, partition)
  const items = numbered(50, 1n)
  await bench.change(items, [])
  const waiting = bench.change(numbered(1, 2n), [])
  await waiting
  await bench.table.seal()
  await expect(bench.change(items, [])).rejects.toMatchObject({ code: 'TABLE_REPLACED' })
  await bench.now(modelOf([...numbered(1, 2n), ...items.slice(1)]), 'sealed')
  const next = newPartition()
  expect(await catalog.replace(name, 'tother', next)).toBe(false)
  expect(await catalog.find(name)).toBe(partition)
  bench.table.unseal()
  await bench.change(items, [])
  await bench.table.seal()
  expect(await catalog.replace(name, partition, next)).toBe(true)
  expect(await catalog.find(name)).toBe(next)
  await bench.table.drop()
  expect(() => bench.table.acquire()).toThrow(expect.objectContaining({ code: 'TABLE_REPLACED' }))
  await bench.close()
})

test('closing a table does not wait for a merge that waits for the turn of whoever closes it', async () => {
  const bench = await Bench.open('memory')
  for (let i = 0; i < 4; i++) await bench.change(numbered(300, BigInt(i), `run-${i}`), [])
  await bench.turn.run(async () => {
    const merging = bench.table.compact()
    // Long enough for the merge to want its turn.
    await new Promise((resolve) => setTimeout(resolve, 300))
    await bench.table.close()
    await expect(merging).rejects.toMatchObject({ code: 'SHUTTING_DOWN' })
  })
  await bench.openTable()
  await bench.now(modelOf([0, 1, 2, 3].flatMap((i) => numbered(300, BigInt(i), `run-${i}`))), 'opened again')
  await expectNothingLeft(bench)
  await bench.close()
})

/** Changes bytes of stored values, as a disk might. */
async function damage(bench: Bench, keys: readonly Uint8Array[]): Promise<void> {
  const values = await bench.store.read(partition, keys)
  const puts = keys.map((key, i) => {
    const value = values[i]!.slice()
    value[value.length >> 1]! ^= 4
    return { key, value }
  })
  await bench.store.commit({ partition, puts })
}

test('a bitmap that is damaged in one copy is mended; in both, its block says so and no other', async () => {
  const bench = await Bench.open('memory')
  const old = numbered(1000, 1n, 'old')
  const other = numbered(1000, 1n, 'other')
  await bench.change(old, [])
  await bench.change(other, [])
  const [oldBlock] = bench.table.blocks
  // Kills while it is merged are stored as a bitmap.
  const { compacting } = await bench.turn.run(async () => {
    const compacting = bench.table.compact()
    await new Promise((resolve) => setTimeout(resolve, 300))
    await bench.kill(old.slice(0, 100))
    return { compacting }
  })
  await compacting
  const third = numbered(1000, 1n, 'third')
  await bench.change(third, [])
  const model = modelOf([...old.slice(100), ...other, ...third])
  const { id } = bench.table.blocks[0]!
  expect(id).not.toBe(oldBlock!.id)
  for (const copy of [0, 1]) {
    await bench.table.close()
    await damage(bench, [deadKeys(id)[copy]!])
    await bench.openTable()
    expect(bench.reports.splice(0).join()).toMatch(/a copy of the dead rows of block \d+ .*damaged/)
    await bench.now(model, `copy ${copy} of the bitmap`)
    await bench.table.close()
    await bench.openTable()
    expect(bench.reports).toEqual([])
  }
  await bench.table.close()
  await damage(bench, deadKeys(id))
  await bench.openTable()
  expect(bench.reports.splice(0).join()).toMatch(/damaged in both copies/)
  await expect(bench.compareFound(other)).rejects.toMatchObject({
    code: 'DATA_DAMAGED',
    what: `block ${id} of table 'x/items' is damaged: its dead rows cannot be told from the others`,
  })
  await bench.compareFound(third)
  await bench.close()
})

test('dead rows that are damaged in one copy are mended; in both, the blocks that need them say so and hide no other', async () => {
  const bench = await Bench.open('memory')
  const old = numbered(1000, 1n, 'old')
  const other = numbered(1000, 1n, 'other')
  await bench.change(old, [])
  const [oldBlock] = bench.table.blocks
  await bench.change([], old.slice(0, 100))
  const killing = bench.table.version
  await bench.change(other, [])
  const model = modelOf([...old.slice(100), ...other])
  for (const copy of [0, 1]) {
    await bench.table.close()
    await damage(bench, [killsKeys(BigInt(killing))[copy]!])
    await bench.openTable()
    expect(bench.reports.splice(0).join()).toMatch(/a copy of the rows that died with commit 2 .*damaged/)
    await bench.now(model, `copy ${copy} of the kills`)
    await bench.table.close()
    await bench.openTable()
    expect(bench.reports).toEqual([])
  }
  await bench.table.close()
  await damage(bench, killsKeys(BigInt(killing)))
  await bench.openTable()
  expect(bench.reports.splice(0).join()).toMatch(/died with commit 2 are damaged in both copies/)
  const outcome = async (items: readonly PlainItem[]): Promise<string> =>
    bench.compareFound(items).then(
      () => 'found',
      (error: FramesError) => `${error.code} ${error.what}`,
    )
  expect(await outcome(old.slice(100))).toBe(
    `DATA_DAMAGED block ${oldBlock!.id} of table 'x/items' is damaged: which of its rows died with commit 2 is not known`,
  )
  expect(await outcome(other)).toBe('found')
  // Writes go on, merges leave the block alone.
  await bench.change(numbered(10, 1n, 'third'), [])
  expect(await outcome(numbered(10, 1n, 'third'))).toBe('found')
  await expect(bench.table.compact()).rejects.toMatchObject({ code: 'DATA_DAMAGED' })
  expect(await outcome(other)).toBe('found')
  await bench.close()
})

test('verifying a block finds a changed byte in its attachments as in its pages', { timeout: 600_000 }, async () => {
  const bench = await Bench.open('memory')
  await bench.change(numbered(10_000, 1n), [])
  const [block] = bench.table.blocks
  expect(await bench.table.verify(block!)).toEqual([])
  const found = new Set<string>()
  for (let segment = 0; segment < block!.segmentCount; segment++) {
    const key = dataKey(block!.id, segment)
    const [value] = await bench.store.read(partition, [key])
    for (const share of [0.1, 0.3, 0.5, 0.7, 0.9]) {
      const changed = value!.slice()
      changed[Math.floor(share * changed.length)]! ^= 16
      await bench.store.commit({ partition, puts: [{ key, value: changed }] })
      for (const damage of await bench.table.verify(block!)) found.add(/attachment \d|page/.exec(damage)?.[0] ?? damage)
    }
    await bench.store.commit({ partition, puts: [{ key, value: value! }] })
  }
  expect([...found].sort()).toEqual(expect.arrayContaining(['attachment 0', 'page']))
  expect(await bench.table.verify(block!)).toEqual([])
  await bench.close()
})
