// The block layer by itself: one table over each store, written, merged, closed and opened in random order, with a store
// that fails now and then; what it holds is compared with a plain map.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, expect, test, vi } from 'vitest'
import type { BackendParts } from '../dist/engine/backends/backend.js'
import { InputGate } from '../dist/engine/backends/input-gate.js'
import { deleteSamples } from '../dist/engine/backends/tsdb/delete.js'
import type { ScanTerms } from '../dist/engine/backends/tsdb/jobs.js'
import { type MergePosition, stretchAt } from '../dist/engine/backends/tsdb/merge-stretch.js'
import { type SentFields, sendScan } from '../dist/engine/backends/tsdb/sent-scan.js'
import type { ScanResult } from '../dist/engine/backends/tsdb/scan-input.js'
import { OutgoingMessages } from '../dist/engine/backends/outgoing.js'
import { LabelSets } from '../dist/engine/backends/tsdb/label-sets.js'
import { createSchema } from '../dist/engine/backends/tsdb/schema.js'
import type { OpenTable } from '../dist/engine/backends/tsdb/tsdb.js'
import { GatheredWrites } from '../dist/engine/backends/tsdb/gathered-writes.js'
import { TsdbWriteSession } from '../dist/engine/backends/tsdb/write-session.js'
import { Turn } from '../dist/engine/backends/turn.js'
import { encodeHeader, isOtherVersion, parseHeader } from '../dist/engine/blocks/block.js'
import { Catalog } from '../dist/engine/blocks/catalog.js'
import { CommitQueue, versionValue } from '../dist/engine/blocks/commit-queue.js'
import { dataKey, goneKey, headKey, keyKinds, packedKey, stageKey, versionKey } from '../dist/engine/blocks/keys.js'
import type { RuleJob, SettleRule } from '../dist/engine/blocks/merge-rule.js'
import type { BlockSource } from '../dist/engine/blocks/reader.js'
import { seal } from '../dist/engine/blocks/sealed.js'
import type { Snapshot } from '../dist/engine/blocks/snapshot.js'
import { sendSources } from '../dist/engine/blocks/sent-sources.js'
import { BlockTable } from '../dist/engine/blocks/table.js'
import { takeFrame } from '../dist/engine/codec/columns.js'
import { FramesError } from '../dist/engine/errors.js'
import { Frame, sliceColumn } from '../dist/engine/index.js'
import { type Kernels, loadKernels } from '../dist/engine/kernels/kernels.js'
import { GoneBlocksReader } from '../dist/engine/memory/gone-blocks.js'
import { createSharedMemory, type SharedMemory } from '../dist/engine/memory/shared-memory.js'
import { openPool } from '../dist/engine/pool/pool.js'
import { openLmdbStore } from '../dist/engine/stores/lmdb.js'
import { Faults, openMemoryStore } from '../dist/engine/stores/memory.js'
import type { Store } from '../dist/engine/stores/store.js'
import { SeededRandom, seed } from './seeded-random.js'

const root = mkdtempSync(join(tmpdir(), 'framesd-blocks-'))
afterAll(() => rmSync(root, { recursive: true, force: true }))
const roundCount = Number(process.env['ROUNDS'] ?? 1)
const partition = 'ttable'
/** Rows that, with columns beside the value, do not fit one commit. */
const largeRowCount = 40_000
const largeColumnCount = 16
const hosts = ['a', 'b', 'c', 'd', 'e', 'f']

/** host/time in ns → value. */
type Model = Map<string, number>

/** A table with all that it works with; the store outlives it. */
class Bench {
  readonly #memory: SharedMemory
  readonly kernels: Kernels
  readonly reports: string[] = []
  readonly store: Store
  readonly #parts: BackendParts
  table!: OpenTable

  private constructor(
    store: Store,
    readonly faults: Faults | null,
    memory: SharedMemory,
  ) {
    this.#memory = memory
    this.kernels = loadKernels(memory.memory)
    this.store = store
    const pool = openPool({
      memory,
      workerCount: 2,
      ...(faults === null ? { readerModule: new URL('../dist/threads/lmdb-reader.js', import.meta.url) } : {}),
    })
    this.#parts = {
      store,
      catalog: new Catalog(store),
      memory,
      kernels: this.kernels,
      pool,
      inputs: new InputGate(memory.arenas),
      outgoing: new OutgoingMessages(this.kernels.u8, memory.arenas),
      shrinkStore: async () => undefined,
      nowMs: Date.now,
      defaultContainer: '',
      report: (message, error) => this.reports.push(error instanceof Error ? `${message}: ${error.message}` : message),
    }
  }

  static async open(driver: 'memory' | 'lmdb'): Promise<Bench> {
    const memory = createSharedMemory({
      heapBase: loadKernels(new WebAssembly.Memory({ initial: 2, maximum: 2, shared: true })).call.heapBase(),
      byteLength: 384 * 2 ** 20,
    })
    const faults = driver === 'memory' ? new Faults() : null
    const path = join(root, `data-${folderCount++}`)
    const store = faults === null ? await openLmdbStore({ path, memory: memory.memory }) : openMemoryStore({ faults })
    const bench = new Bench(store, faults, memory)
    open.push(bench)
    await BlockTable.create(bench.tableParts, partition, new Uint8Array([1, 2, 3]))
    await bench.openTable()
    return bench
  }

  get tableParts() {
    const { store, memory, pool, report } = this.#parts
    return { store, memory, pool, report, bytes: this.kernels.u8 }
  }

  /** What workers are told since the last call. */
  goneBlocks(): () => bigint[] {
    const { memory, goneBlocks } = this.#memory
    const reader = new GoneBlocksReader(memory, goneBlocks.slice)
    return () => {
      const ids: bigint[] = []
      reader.take(
        (id) => ids.push(id),
        () => expect.unreachable('they are few'),
      )
      return ids
    }
  }

  /** onStep: called before each step of a merge; onSent: behind it, before a worker can have looked at its job. */
  async openTable(
    settle?: SettleRule,
    onStep: (isFirst: boolean) => void = () => undefined,
    onSent: (isAgain: boolean) => void = () => undefined,
  ): Promise<void> {
    const { pool, kernels, memory } = this.#parts
    const blocks = await BlockTable.open(this.tableParts, partition, 'x/table')
    const labels = await LabelSets.load({ pool, kernels, region: memory.labelTables }, blocks)
    const schema = createSchema({ backend: 'tsdb', table: 'table', rate: '1/s' })
    const step = (sources: readonly BlockSource[], position: unknown, isAgain: boolean): RuleJob => {
      onStep(position === null)
      const { view, setSignatures, release } = isAgain ? labels.acquireFixed() : labels.acquire()
      const job = {
        kind: 'tsdb.merge',
        partition,
        tableName: 'x/table',
        access: this.store.workerAccess,
        ...stretchAt(sources, position as MergePosition | null),
        position,
        labels: view,
        setSignatures,
        partitionIntervalMs: schema.partitionIntervalMs,
        asked: null,
        newestWins: true,
        erasure: null,
      }
      onSent(isAgain)
      return { job, release }
    }
    blocks.startMerging(settle === undefined ? { step } : { step, settle })
    this.table = {
      name: { container: 'x', backend: 'tsdb', path: 'table' },
      blocks,
      labels,
      schema,
      turn: new Turn(),
      gathered: new GatheredWrites(this.#parts, { blocks, labels, schema }),
      selections: new Map(),
      selectionsVersion: '',
      scanTerms: { wire: new WeakMap(), columns: new WeakMap() },
      userCount: 0,
    }
  }

  /** Deletes the rows of some label sets, by number (null: of all), with times of these seconds, both inclusive. */
  async delete(sets: readonly number[] | null, firstSecond: number, lastSecond: number): Promise<void> {
    const plan = { startMs: firstSecond * 1000, endMs: lastSecond * 1000, filter: null, filterText: '', metrics: null }
    const selection = {
      groupStarts: null,
      rowCondition: null,
      rowLabels: [],
      metricListOf: null,
      metricLists: [],
    }
    await deleteSamples(
      this.#parts,
      this.table,
      plan,
      sets === null ? null : { ...selection, sets: Uint32Array.from(sets) },
    )
  }

  async closeTable(): Promise<void> {
    await this.table.blocks.close()
    this.table.labels.close()
  }

  session(): TsdbWriteSession {
    return new TsdbWriteSession(this.#parts, { table: this.table, signal: null, release: () => undefined })
  }

  async write(frames: readonly Frame[]): Promise<void> {
    const session = this.session()
    try {
      for (const frame of frames) await session.addFrame(frame)
      await session.finish()
    } catch (error) {
      session.abort()
      throw error
    }
  }

  /** All rows of a snapshot, as its blocks have them. */
  async rows(snapshot: Snapshot): Promise<Model> {
    const { pool } = this.#parts
    const rows: Model = new Map()
    const { labels, blocks } = this.table
    const sources = await blocks.sources(snapshot.blocks)
    for (let position: ScanResult['next'] = null, isFirst = true; isFirst || position !== null; isFirst = false) {
      const { view, release } = labels.acquire()
      const terms: ScanTerms = {
        partition,
        tableName: 'x/table',
        shape: {
          mode: 'raw',
          stepMs: 0,
          windowMs: 0,
          functions: [],
          items: [{ metric: 'value', fn: null, name: 'value' }],
          interpolation: { interpolator: 'none', toleranceMs: 0 },
          interpolations: [],
          order: null,
          groupBy: null,
          multiIndex: false,
          messageLimit: 0,
        },
        newestWins: true,
        format: 'columns',
      }
      const fields: SentFields = {
        terms: JSON.stringify(terms),
        startMs: 0,
        endMs: 10 ** 12,
        stepMs: 0,
        rowLabels: [],
        keptRowCount: 0,
        storedByteLength: 0,
        access: this.store.workerAccess,
        sources: sendSources(sources),
        sets: Uint32Array.from({ length: view.setCount }, (_, set) => set),
        manySetsShare: 0,
        groupStarts: null,
        metricListOf: null,
        metricLists: [],
        rowCondition: null,
      }
      const job = sendScan(fields, { labels: view, rowCountMax: 2 ** 52, position })
      const done = await pool.run<ScanResult>(job, { scratchByteLength: 8 * 2 ** 20 })
      for (const message of done.result.frames) {
        const frame = takeFrame(this.kernels, message.frame!)
        const values = frame.column('value').floats()
        frame.indices[0]!.times().forEach((timeNs, row) => {
          const key = `${frame.labels.get('host')}/${timeNs}`
          if (rows.has(key)) expect.fail(`${key} is there twice`)
          rows.set(key, values[row]!)
        })
      }
      position = done.result.next
      done.release()
      release()
    }
    return rows
  }

  async now(): Promise<Model> {
    const snapshot = this.table.blocks.acquire()
    try {
      return await this.rows(snapshot)
    } finally {
      snapshot.release()
    }
  }

  async close(): Promise<void> {
    await this.closeTable()
    expect(this.usedByteLengths(), 'all memory is given back').toEqual([0, 0, 0])
    await this.#parts.pool.close()
    await this.store.close()
    open.splice(open.indexOf(this), 1)
  }

  /** Ends what a failed test left. */
  async abandon(): Promise<void> {
    await this.#parts.pool.close({ graceMs: 0 })
    await this.store.close()
  }

  usedByteLengths(): number[] {
    const { arenas, heads, labelTables } = this.#memory
    return [arenas, heads, labelTables].map((region) => region.statistics().byteLengthUsed)
  }

  /** Keys of the partition, by kind. */
  async keys(): Promise<Map<number, number>> {
    const counts = new Map<number, number>()
    for (const { key } of await this.store.scan(partition, { limit: 1e6, keysOnly: true })) {
      counts.set(key[0]!, (counts.get(key[0]!) ?? 0) + 1)
    }
    return counts
  }
}

let folderCount = 0
const open: Bench[] = []
afterEach(async () => {
  for (const bench of open.splice(0)) await bench.abandon()
})

interface Rows {
  readonly host: string
  readonly firstSecond: number
  readonly values: Float64Array
}

function randomRows(random: SeededRandom, host: string, rowCount: number): Rows {
  return {
    host,
    firstSecond: random.integer(0, 2000),
    // Full doubles, so that large frames stay large.
    values: Float64Array.from({ length: rowCount }, () => random.next() * 1000),
  }
}

function frameOf({ host, firstSecond, values }: Rows): Frame {
  const times = BigInt64Array.from({ length: values.length }, (_, i) => BigInt(firstSecond + i) * 1_000_000_000n)
  const columns = [sliceColumn('value', values)]
  if (values.length === largeRowCount) {
    for (let i = 1; i < largeColumnCount; i++)
      columns.push(
        sliceColumn(
          `beside${i}`,
          values.map((value) => value * i),
        ),
      )
  }
  return new Frame({
    columns,
    indices: [sliceColumn('time', times, 'time')],
    labels: { host },
  })
}

function apply(model: Model, { host, firstSecond, values }: Rows): void {
  values.forEach((value, i) => {
    model.set(`${host}/${BigInt(firstSecond + i) * 1_000_000_000n}`, value)
  })
}

function expectSame(found: Model, wanted: Model, where: string): void {
  expect(found.size, `${where}: rows`).toBe(wanted.size)
  for (const [key, value] of wanted)
    if (found.get(key) !== value) expect(found.get(key), `${where}: ${key}`).toBe(value)
}

const diskFull = () => new FramesError('DISK_FULL', 'no room')

for (const driver of ['memory', 'lmdb'] as const) {
  test(`${driver}: after any sequence of commits, merges and restarts the table holds what a map holds`, {
    timeout: 600_000,
  }, async () => {
    const random = new SeededRandom(seed)
    const bench = await Bench.open(driver)
    const model: Model = new Map()
    const held: { snapshot: Snapshot; model: Model }[] = []
    const checkHeld = async (where: string): Promise<void> => {
      for (const one of held.splice(0)) {
        expectSame(await bench.rows(one.snapshot), one.model, `${where}: a snapshot of before`)
        one.snapshot.release()
      }
    }
    for (let step = 0; step < 50 * roundCount; step++) {
      const where = `step ${step}`
      const choice = random.next()
      if (step % 60 === 20) {
        // More than 4 MiB: sent ahead of its commit.
        const rows = randomRows(random, random.pick(hosts), largeRowCount)
        await bench.write([frameOf(rows)])
        apply(model, rows)
      } else if (choice < 0.55) {
        const rows = random.list(random.integer(1, 12), () =>
          randomRows(random, random.pick(hosts), random.pick([1, 10, 100, 3000])),
        )
        await bench.write(rows.map(frameOf))
        for (const one of rows) apply(model, one)
      } else if (choice < 0.65) {
        const rows = hosts.map((host) => randomRows(random, host, random.integer(1, 3000)))
        await Promise.all(rows.map((one) => bench.write([frameOf(one)])))
        for (const one of rows) apply(model, one)
      } else if (choice < 0.75)
        await random.pick([() => bench.table.blocks.compact(), () => bench.table.blocks.flush()])()
      else if (choice < 0.85) {
        if (held.length < 3) held.push({ snapshot: bench.table.blocks.acquire(), model: new Map(model) })
        else await checkHeld(where)
      } else if (choice < 0.9) {
        await checkHeld(where)
        await bench.closeTable()
        await bench.openTable()
      } else expectSame(await bench.now(), model, where)
    }
    await checkHeld('at the end')
    await bench.table.blocks.compact()
    await bench.table.blocks.erased()
    expectSame(await bench.now(), model, 'at the end')
    const keys = await bench.keys()
    expect(keys.get(keyKinds.gone) ?? 0, 'nothing waits for its end').toBe(0)
    expect(keys.get(keyKinds.stage) ?? 0, 'nothing is left half done').toBe(0)
    expect((keys.get(keyKinds.head) ?? 0) + (keys.get(keyKinds.packed) ?? 0)).toBe(keys.get(keyKinds.live))
    expect(bench.reports).toEqual([])
    await bench.close()
  })
}

test('a store that fails now and then loses nothing that was acknowledged, stores nothing that was not, and keeps the order', {
  timeout: 600_000,
}, async () => {
  const random = new SeededRandom(seed + 1)
  const bench = await Bench.open('memory')
  const model: Model = new Map()
  let failureCount = 0
  for (let step = 0; step < 40 * roundCount; step++) {
    const where = `step ${step}`
    if (random.chance(0.6))
      bench.faults!.fail('commit', diskFull(), { n: random.integer(1, 8), times: random.integer(1, 3) })
    // Now and then a host that was never seen: its label set is stored before its rows, or neither is.
    const names = [...hosts, `new-${step}`]
    const rows = random.list(step % 60 === 12 ? 2 : random.integer(1, 8), () =>
      randomRows(random, random.pick(names), step % 60 === 12 ? largeRowCount : random.pick([1, 20, 50, 3000])),
    )
    // Each in a session of its own, submitted in this order, all of them on their way at once.
    const byHost = new Map<string, Rows[]>()
    for (const one of rows) byHost.set(one.host, [...(byHost.get(one.host) ?? []), one])
    await Promise.all(
      [...byHost.values()].map(async (list) => {
        for (const one of list) {
          try {
            await bench.write([frameOf(one)])
            apply(model, one)
          } catch (error) {
            failureCount++
            expect((error as FramesError).code, where).toBe('DISK_FULL')
          }
        }
      }),
    )
    if (random.chance(0.1)) await bench.table.blocks.compact().catch(() => undefined)
    if (random.chance(0.3)) expectSame(await bench.now(), model, where)
    if (random.chance(0.1)) {
      await bench.closeTable()
      bench.faults!.clear()
      await bench.openTable()
      expectSame(await bench.now(), model, `${where}, opened again`)
    }
  }
  bench.faults!.clear()
  await bench.closeTable()
  await bench.openTable()
  await bench.table.blocks.compact()
  await bench.table.blocks.erased()
  expectSame(await bench.now(), model, 'at the end')
  const keys = await bench.keys()
  expect([keys.get(keyKinds.gone) ?? 0, keys.get(keyKinds.stage) ?? 0]).toEqual([0, 0])
  expect((keys.get(keyKinds.head) ?? 0) + (keys.get(keyKinds.packed) ?? 0)).toBe(keys.get(keyKinds.live))
  expect(failureCount).toBeGreaterThan(0)
  await bench.close()
})

test('commits behind a failed one are tried again, in their order', async () => {
  const faults = new Faults()
  const store = openMemoryStore({ faults })
  await store.commit({ partition, puts: [{ key: versionKey, value: versionValue(0) }] })
  const queue = new CommitQueue(store, partition, 0)
  faults.fail('commit', diskFull(), { n: 3 })
  faults.fail('commit', diskFull(), { n: 14, times: 2 })
  const published: [name: number, commit: number][] = []
  const failed: number[] = []
  const results = await Promise.allSettled(
    Array.from({ length: 12 }, (_, name) =>
      queue.run({
        build: (commit) => {
          if (name === 5 && failed.length > 0) throw new FramesError('CANCELLED', 'not wanted any more')
          return { puts: [{ key: Uint8Array.of(9, commit), value: Uint8Array.of(name) }] }
        },
        publish: (commit) => published.push([name, commit]),
        onFailure: () => failed.push(name),
      }),
    ),
  )
  expect(results.flatMap(({ status }, name) => (status === 'rejected' ? [name] : []))).toEqual(
    [...failed].sort((x, y) => x - y),
  )
  expect(failed.slice(0, 2)).toEqual([2, 5])
  const stored = await store.scan(partition, { start: Uint8Array.of(9), end: Uint8Array.of(10), limit: 100 })
  expect(stored.map(({ key, value }) => [value[0], key[1]])).toEqual(published)
  expect(published.map(([, commit]) => commit)).toEqual(published.map((_, i) => i + 1))
  const names = published.map(([name]) => name)
  expect(names).toEqual([...names].sort((x, y) => x - y))
  expect(names.length + failed.length).toBe(12)
})

test('frames of a write whose commit failed for good are a prefix of it', async () => {
  const bench = await Bench.open('memory')
  let failureCount = 0
  for (let round = 0; round < 12; round++) {
    const host = `h${round}`
    await bench.write([frameOf({ host, firstSecond: 0, values: Float64Array.of(1) })])
    // Frames of different columns are commits of their own. Several are under way when one fails for good: those behind
    // it must not be stored when they are tried again.
    const frames = Array.from({ length: 8 }, (_, n) => {
      const { columns, indices, labels } = frameOf({ host, firstSecond: 10 + n, values: Float64Array.of(n) })
      return new Frame({ columns: n % 2 === 0 ? columns : [...columns, sliceColumn('beside', [n])], indices, labels })
    })
    await bench.write(frames.slice(0, 2))
    bench.faults!.delay('commit', 5)
    bench.faults!.fail('commit', diskFull(), { n: 2 + (round % 3) })
    const [written] = await Promise.allSettled([bench.write(frames.slice(2))])
    bench.faults!.clear()
    const rows = await bench.now()
    const isStored = frames.map((_, n) => rows.has(`${host}/${BigInt(10 + n) * 1_000_000_000n}`))
    expect(isStored).toEqual([...isStored].sort((a, b) => Number(b) - Number(a)))
    // The commit that failed may have been that of a merge.
    expect(isStored.includes(false)).toBe(written.status === 'rejected')
    if (written.status === 'fulfilled') continue
    expect(written.reason).toMatchObject({ code: 'DISK_FULL' })
    failureCount++
  }
  expect(failureCount).toBeGreaterThan(0)
  await bench.close()
})

test('a label table that a dead worker has left taken is read anew, and writers go on', async () => {
  const bench = await Bench.open('memory')
  await bench.write([frameOf({ host: 'a', firstSecond: 0, values: Float64Array.of(1) })])
  const { view, release } = bench.table.labels.acquire()
  // The word by which writers agree; see kernels/labels.ts.
  Atomics.store(bench.kernels.i32, (view.tablePtr >> 2) + 8, 1)
  release()
  await Promise.all(
    ['b', 'c'].map((host, i) => bench.write([frameOf({ host, firstSecond: 0, values: Float64Array.of(2 + i) })])),
  )
  await bench.write([frameOf({ host: 'a', firstSecond: 1, values: Float64Array.of(4) })])
  const wanted = [
    ['a/0', 1],
    ['a/1000000000', 4],
    ['b/0', 2],
    ['c/0', 3],
  ]
  expect([...(await bench.now())].sort()).toEqual(wanted)
  await bench.closeTable()
  await bench.openTable()
  expect([...(await bench.now())].sort()).toEqual(wanted)
  await bench.close()
})

test('rows are never stored under a label set that could not be: they are refused, or sent again with it', async () => {
  const bench = await Bench.open('memory')
  await bench.write([frameOf({ host: 'a', firstSecond: 0, values: Float64Array.of(1) })])
  // The next commit is that of the new set; it fails when its rows are on their way, or before they are made.
  bench.faults!.fail('commit', diskFull())
  bench.faults!.delay('commit', 100)
  const [lost] = await Promise.allSettled([
    bench.write([frameOf({ host: 'lost', firstSecond: 0, values: Float64Array.of(2) })]),
  ])
  bench.faults!.delay('commit', 0)
  if (lost!.status === 'rejected') expect(lost!.reason).toMatchObject({ code: 'DISK_FULL' })
  await bench.write([frameOf({ host: 'a', firstSecond: 1, values: Float64Array.of(3) })])
  await bench.write([frameOf({ host: 'b', firstSecond: 0, values: Float64Array.of(4) })])
  await bench.closeTable()
  await bench.openTable()
  expect([...(await bench.now())].sort()).toEqual([
    ['a/0', 1],
    ['a/1000000000', 3],
    ['b/0', 4],
    ...(lost!.status === 'fulfilled' ? [['lost/0', 2]] : []),
  ])
  await bench.close()
})

test('blocks that a crash left half written, or dead, are erased when the table is opened', async () => {
  for (const driver of ['memory', 'lmdb'] as const) {
    const bench = await Bench.open(driver)
    await bench.write([frameOf({ host: 'a', firstSecond: 0, values: Float64Array.of(1) })])
    await bench.closeTable()
    const value = new Uint8Array(100)
    const mark = (key: Uint8Array, isPacked: number, segmentCount: number) => ({
      key,
      value: seal(key, Uint8Array.of(isPacked, 0, 0, 0, segmentCount)),
    })
    const puts = [
      mark(stageKey(7n), 0, 3),
      ...[headKey(7n), dataKey(7n, 0), dataKey(7n, 2)].map((key) => ({ key, value })),
      mark(goneKey(8n), 1, 0),
      { key: packedKey(8n), value },
      // A damaged mark: its segments are found by their keys.
      { key: goneKey(9n), value },
      ...[headKey(9n), dataKey(9n, 0), dataKey(9n, 1), dataKey(9n, 500)].map((key) => ({ key, value })),
    ]
    const before = await bench.keys()
    await bench.store.commit({ partition, puts })
    await bench.openTable()
    expect(await bench.keys()).toEqual(before)
    expect(bench.reports.length).toBe(1)
    expect(await bench.now()).toEqual(new Map([['a/0', 1]]))
    await bench.close()
  }
})

test('workers are told of blocks that merges and deletes have made superfluous, when nobody reads them any more', async () => {
  const bench = await Bench.open('memory')
  const gone = bench.goneBlocks()
  for (let i = 0; i < 3; i++) await bench.write([frameOf({ host: 'a', firstSecond: i, values: Float64Array.of(i) })])
  expect(gone()).toEqual([])
  const snapshot = bench.table.blocks.acquire()
  const ids = snapshot.blocks.map(({ id }) => id)
  expect(ids).toHaveLength(3)
  await bench.table.blocks.compact()
  expect(gone()).toEqual([])
  snapshot.release()
  expect(gone().sort()).toEqual(ids.sort())
  const merged = bench.table.blocks.acquire()
  const mergedIds = merged.blocks.map(({ id }) => id)
  merged.release()
  await bench.table.blocks.drop()
  expect(gone()).toEqual(mergedIds)
  await bench.close()
})

test('a table that is dropped waits for its readers, refuses writers, and gives its memory back', async () => {
  const bench = await Bench.open('memory')
  await bench.write([frameOf({ host: 'a', firstSecond: 0, values: Float64Array.of(1) })])
  const snapshot = bench.table.blocks.acquire()
  let isDropped = false
  const dropped = bench.table.blocks.drop().then(() => {
    isDropped = true
  })
  await expect(bench.write([frameOf({ host: 'a', firstSecond: 1, values: Float64Array.of(2) })])).rejects.toMatchObject(
    {
      code: 'TABLE_NOT_FOUND',
    },
  )
  expect((await bench.rows(snapshot)).size).toBe(1)
  expect(isDropped).toBe(false)
  snapshot.release()
  await dropped
  await bench.close()
})

test('a merge that fails is tried again, and leaves nothing behind', async () => {
  const bench = await Bench.open('memory')
  const model: Model = new Map()
  for (let i = 0; i < 12; i++) {
    const rows = {
      host: 'a',
      firstSecond: i * 10_000,
      values: Float64Array.from({ length: 6000 }, (_, k) => i + k / 7),
    }
    await bench.write([frameOf(rows)])
    apply(model, rows)
  }
  for (let n = 1; n < 6; n++) {
    bench.faults!.fail('commit', diskFull(), { n, times: 1 })
    await bench.table.blocks.compact().catch((error: FramesError) => expect(error.code).toBe('DISK_FULL'))
    expectSame(await bench.now(), model, `the ${n}-th commit of a merge fails`)
    bench.faults!.clear()
    const rows = { host: 'a', firstSecond: n * 7000, values: Float64Array.from({ length: 5000 }, () => n) }
    await bench.write([frameOf(rows)])
    apply(model, rows)
  }
  await bench.table.blocks.compact()
  await bench.table.blocks.erased()
  expect(bench.table.blocks.blocks.every(({ firstCommit }) => firstCommit <= 2)).toBe(true)
  expectSame(await bench.now(), model, 'at the end')
  const keys = await bench.keys()
  expect([keys.get(keyKinds.gone) ?? 0, keys.get(keyKinds.stage) ?? 0]).toEqual([0, 0])
  await bench.close()
})

test('while a large merge has not ended, small runs are merged beside it, and what needs no merge beside it waits', async () => {
  const bench = await Bench.open('memory')
  await bench.closeTable()
  const model: Model = new Map()
  let endLarge = (): void => undefined
  const largeMayEnd = new Promise<void>((resolve) => {
    endLarge = resolve
  })
  let endCount = 0
  await bench.openTable({
    // The first merge ends when the test says so, others at once.
    inTurn: async (work) => {
      if (++endCount === 1) await largeMayEnd
      await work()
    },
    job: () => expect.fail('no row dies here'),
  })
  const write = async (i: number, rowCount: number): Promise<void> => {
    const values = Float64Array.from({ length: rowCount }, (_, k) => i + k / 7)
    const rows = { host: 'a', firstSecond: i * 3000, values }
    await bench.write([frameOf(rows)])
    apply(model, rows)
  }
  for (let i = 0; i < 8; i++) await write(i, 4000)
  await vi.waitFor(() => expect(endCount).toBe(1))
  const before = bench.table.blocks.blocks.map(({ id }) => id)
  expect(before.length).toBe(8)
  for (let i = 0; i < 200; i++) await write(i % 20, 1)
  // Not all of them, since 64 fresh ones are not many; without a merge there would be 200.
  await vi.waitFor(() => expect(bench.table.blocks.blocks.length).toBeLessThan(8 + 80))
  // The large merge has changed nothing yet.
  expect(bench.table.blocks.blocks.slice(0, 8).map(({ id }) => id)).toEqual(before)
  expectSame(await bench.now(), model, 'while the large merge waits')
  let isCompacted = false
  const compacted = bench.table.blocks.compact().then(() => {
    isCompacted = true
  })
  await write(3, 5)
  expect(isCompacted).toBe(false)
  endLarge()
  await compacted
  expectSame(await bench.now(), model, 'after both')
  await bench.closeTable()
  await bench.openTable()
  expectSame(await bench.now(), model, 'opened again')
  await bench.close()
})

test('while a table is compacted, small runs that come are merged among themselves, and no small write waits for the end', async () => {
  const bench = await Bench.open('memory')
  const model: Model = new Map()
  const write = async (i: number, rowCount: number): Promise<void> => {
    const values = Float64Array.from({ length: rowCount }, (_, k) => i + k / 7)
    const rows = { host: 'a', firstSecond: i * 3000, values }
    await bench.write([frameOf(rows)])
    apply(model, rows)
  }
  for (let i = 0; i < 4; i++) await write(i, 4000)
  await bench.closeTable()
  let endCompaction = (): void => undefined
  const compactionMayEnd = new Promise<void>((resolve) => {
    endCompaction = resolve
  })
  let endCount = 0
  await bench.openTable({
    // The merge of the compaction ends when the test says so, others at once.
    inTurn: async (work) => {
      if (++endCount === 1) await compactionMayEnd
      await work()
    },
    job: () => expect.fail('no row dies here'),
  })
  // As many as there may be: what is compacted does not count against what comes meanwhile.
  const written = bench.table.blocks.exclusively(async () => {
    for (let i = 0; i < 246; i++) await write(i % 20, 1)
  })
  const compacted = bench.table.blocks.compact()
  await written
  const { version } = bench.table.blocks
  await vi.waitFor(() => expect(endCount).toBe(1))
  const before = bench.table.blocks.blocks.map(({ id }) => id)
  expect(before.length).toBe(250)
  // As writers do that wait for merges first: of the runs without a merge meanwhile there would be more than they may leave.
  for (let i = 0; i < 600; i++) {
    await bench.table.blocks.waitForMerges()
    await write(i % 20, 1)
  }
  const meanwhile = bench.table.blocks.blocks
  expect(meanwhile.length).toBeLessThan(250 + 256)
  expect(meanwhile.slice(0, 250).map(({ id }) => id)).toEqual(before)
  // None of what came later has become a part of what is compacted.
  expect(meanwhile.slice(250).every(({ firstCommit }) => firstCommit > version)).toBe(true)
  expectSame(await bench.now(), model, 'while the table is compacted')
  endCompaction()
  await compacted
  expect(bench.table.blocks.blocks[0]!.lastCommit).toBe(version)
  expectSame(await bench.now(), model, 'after that')
  await bench.closeTable()
  await bench.openTable()
  expectSame(await bench.now(), model, 'opened again')
  await bench.close()
})

for (const driver of ['memory', 'lmdb'] as const) {
  test(`${driver}: deletes take effect between the steps of a merge, which goes on with what is left`, {
    timeout: 600_000,
  }, async () => {
    const random = new SeededRandom(seed + 1)
    const bench = await Bench.open(driver)
    let early = 0
    for (let round = 0; round < 4 * roundCount; round++) {
      const where = `round ${round}`
      const model: Model = new Map()
      await bench.delete(null, 0, 10 ** 7)
      // The number of a label set is its host's place in the list.
      for (const host of hosts) {
        const rows = randomRows(random, host, 1)
        await bench.write([frameOf(rows)])
        apply(model, rows)
      }
      await bench.closeTable()
      const isBackground = round % 2 === 1
      let stepCount = 0
      let isEnded = false
      const deletes: Promise<void>[] = []
      let endFirst = (): void => undefined
      const isBegun = new Promise<void>((resolve) => {
        endFirst = resolve
      })
      await bench.openTable(undefined, (isFirst) => {
        stepCount = isFirst ? 1 : stepCount + 1
        endFirst()
        if (deletes.length >= 3 || random.next() < 0.3) return
        const sets = random.next() < 0.3 ? null : [random.integer(0, 2), random.integer(3, 5)]
        const first = random.integer(0, 90_000)
        const last = first + random.integer(0, random.pick([10, 100_000]))
        for (const [set, host] of hosts.entries()) {
          if (sets !== null && !sets.includes(set)) continue
          for (let second = first; second <= last; second++) model.delete(`${host}/${BigInt(second) * 1_000_000_000n}`)
        }
        const deleted = bench.delete(sets, first, last).then(() => {
          if (!isEnded) early++
        })
        deletes.push(deleted)
      })
      // Written before a merge may begin, so that the order of writes and deletes is known.
      const rows = Array.from({ length: 9 }, (_, i) => ({
        ...randomRows(random, hosts[i % hosts.length]!, 70_000),
        firstSecond: random.integer(0, 30_000),
      }))
      const { blocks } = bench.table
      await blocks.exclusively(async () => {
        for (const one of rows) {
          await bench.write([frameOf(one)])
          apply(model, one)
        }
      })
      if (isBackground) {
        await isBegun
        // What has merged the large frames has ended when nothing of it waits any more.
        await vi.waitFor(() => expect(blocks.blocks.length).toBeLessThan(9), { timeout: 60_000 })
        isEnded = true
      } else {
        await blocks.compact()
        isEnded = true
        expect(blocks.blocks.every((block) => block.lastCommit === blocks.blocks[0]!.lastCommit)).toBe(true)
      }
      await Promise.all(deletes)
      expectSame(await bench.now(), model, where)
      await bench.closeTable()
      await bench.openTable()
      expectSame(await bench.now(), model, `${where}, opened again`)
      await bench.table.blocks.compact()
      await bench.table.blocks.erased()
      expectSame(await bench.now(), model, `${where}, compacted`)
      const keys = await bench.keys()
      expect([keys.get(keyKinds.gone) ?? 0, keys.get(keyKinds.stage) ?? 0], where).toEqual([0, 0])
      expect((keys.get(keyKinds.head) ?? 0) + (keys.get(keyKinds.packed) ?? 0)).toBe(keys.get(keyKinds.live) ?? 0)
    }
    expect(early, 'some were done before the merge beside them had ended').toBeGreaterThan(0)
    expect(bench.reports).toEqual([])
    await bench.close()
  })
}

test('a flush while a large merge is under way makes one run of the small commits that this does not read, and waits for no end', async () => {
  const bench = await Bench.open('memory')
  await bench.closeTable()
  const model: Model = new Map()
  const write = async (i: number, rowCount: number): Promise<void> => {
    const rows = {
      host: hosts[i % 3]!,
      firstSecond: i * 1000,
      values: Float64Array.from({ length: rowCount }, (_, k) => i + k),
    }
    await bench.write([frameOf(rows)])
    apply(model, rows)
  }
  /** Merges that want to end; those at `held` wait until the test lets them. */
  let endCount = 0
  const held = new Map<number, () => void>()
  const hold = (): void => void held.set(endCount + 1, () => undefined)
  const letGo = (): void => {
    for (const release of held.values()) release()
    held.clear()
  }
  await bench.openTable({
    inTurn: async (work) => {
      const number = ++endCount
      if (held.has(number)) await new Promise<void>((resolve) => held.set(number, resolve))
      await work()
    },
    job: () => expect.fail('no row dies here'),
  })
  const { blocks } = bench.table
  const ids = (): bigint[] => blocks.blocks.map(({ id }) => id)

  // Eight large runs and three small commits behind them: one merge of all.
  hold()
  await blocks.exclusively(async () => {
    for (let i = 0; i < 8; i++) await write(i, 9000)
    for (let i = 0; i < 3; i++) await write(i, 5)
  })
  await vi.waitFor(() => expect(endCount).toBe(1))
  const large = ids()
  expect(large.length).toBe(11)
  await blocks.flush()
  expect(ids()).toEqual(large)
  for (let round = 0; round < 3; round++) {
    for (let i = 0; i < 20; i++) await write(i, round === 1 ? 3000 : 3)
    await Promise.all([blocks.flush(), blocks.flush()])
    expect(ids().slice(0, 11)).toEqual(large)
    // What three thousand rows twenty times make is no small commit any more.
    expect(blocks.blocks.length, `round ${round}`).toBe(round === 2 ? 13 : 12)
    expectSame(await bench.now(), model, `round ${round}`)
  }
  letGo()
  await vi.waitFor(() => expect(blocks.blocks.length).toBeLessThan(11))

  // A small merge is waited for: its run, and what has come since, become one.
  hold()
  const before = endCount
  await blocks.exclusively(async () => {
    for (let i = 0; i < 40; i++) await write(i, 1)
  })
  await vi.waitFor(() => expect(endCount).toBe(before + 1))
  await write(7, 2)
  let isFlushed = false
  const flushed = blocks.flush().then(() => {
    isFlushed = true
  })
  await write(8, 2)
  expect(isFlushed).toBe(false)
  letGo()
  await flushed
  expect(blocks.blocks.filter(({ isPacked }) => isPacked).length).toBe(1)
  expectSame(await bench.now(), model, 'flushed')
  expect(bench.reports).toEqual([])
  await bench.closeTable()
  await bench.openTable()
  expectSame(await bench.now(), model, 'opened again')
  await bench.close()
})

test('metrics that are new in every write hold no merge up: each step is sent once more at most', async () => {
  const bench = await Bench.open('memory')
  await bench.closeTable()
  const model: Model = new Map()
  const sentCounts = { first: 0, again: 0 }
  let metricCount = 0
  await bench.openTable(undefined, undefined, (isAgain) => {
    if (isAgain) sentCounts.again++
    else sentCounts.first++
    // As writes do: when a worker looks, each label set has a signature that the job has not been told of.
    const { view, register, release } = bench.table.labels.acquire()
    for (let set = 0; set < view.setCount; set++)
      register({ setCount: 0, signatures: [[[`new${++metricCount}`, 2]]], changes: Uint32Array.of(set, 0) })
    release()
  })
  const { blocks } = bench.table
  for (const [i, host] of [...hosts, ...hosts, ...hosts].entries()) {
    const rows = { host, firstSecond: i * 10_000, values: Float64Array.from({ length: 30_000 }, (_, k) => i + k / 7) }
    await bench.write([frameOf(rows)])
    apply(model, rows)
  }
  await blocks.compact()
  expectSame(await bench.now(), model, 'compacted')
  expect(blocks.blocks.every((block) => block.lastCommit === blocks.blocks[0]!.lastCommit)).toBe(true)
  expect(sentCounts.again).toBeGreaterThan(3)
  expect(sentCounts.again).toBe(sentCounts.first)
  expect(bench.reports).toEqual([])
  await bench.closeTable()
  await bench.openTable()
  expectSame(await bench.now(), model, 'opened again')
  await bench.close()
})

test('flushes, compactions, deletes and writes at the same time lose nothing and leave nothing', {
  timeout: 600_000,
}, async () => {
  const random = new SeededRandom(seed + 2)
  const bench = await Bench.open('memory')
  const model: Model = new Map()
  const write = async (host: string, rowCount: number): Promise<void> => {
    const rows = randomRows(random, host, rowCount)
    await bench.write([frameOf(rows)])
    apply(model, rows)
  }
  for (const host of hosts) await write(host, 1)
  const { blocks } = bench.table
  for (let round = 0; round < 12 * roundCount; round++) {
    for (let i = random.integer(0, 40); i > 0; i--) await write(random.pick(hosts), random.pick([1, 100, 3000]))
    for (let i = random.integer(0, 3); i > 0; i--) await write(random.pick(hosts), 30_000)
    // Rows of the first three are deleted while those of the others are written.
    const first = random.integer(0, 20_000)
    const last = first + random.integer(0, 20_000)
    const works = [
      () => blocks.flush(),
      () => blocks.flush(),
      () => blocks.compact(),
      () => blocks.exclusively(async () => undefined),
      () => bench.delete([0, 1, 2], first, last),
      async () => {
        for (let i = 0; i < 20; i++) await write(random.pick(hosts.slice(3)), random.pick([1, 10, 3000]))
      },
    ]
    await Promise.all(
      works.map(async (work) => {
        await new Promise((resolve) => setTimeout(resolve, random.integer(0, 20)))
        await work()
      }),
    )
    for (const host of hosts.slice(0, 3))
      for (let second = first; second <= last; second++) model.delete(`${host}/${BigInt(second) * 1_000_000_000n}`)
    expectSame(await bench.now(), model, `round ${round}`)
  }
  await blocks.flush()
  expect(blocks.blocks.slice(-2).filter(({ isPacked }) => isPacked).length, 'small commits at the end').toBeLessThan(2)
  await blocks.compact()
  await blocks.erased()
  expectSame(await bench.now(), model, 'compacted')
  const keys = await bench.keys()
  expect([keys.get(keyKinds.gone) ?? 0, keys.get(keyKinds.stage) ?? 0]).toEqual([0, 0])
  expect((keys.get(keyKinds.head) ?? 0) + (keys.get(keyKinds.packed) ?? 0)).toBe(keys.get(keyKinds.live))
  expect(bench.reports).toEqual([])
  await bench.close()
})

test('a compaction and the end of a table wait for a step of a merge under way, not for its end', async () => {
  for (const isDropped of [false, true]) {
    const bench = await Bench.open('memory')
    await bench.closeTable()
    const model: Model = new Map()
    let stepCount = 0
    let firstStepCount = 0
    let ended: Promise<void> | null = null
    await bench.openTable(undefined, (isFirst) => {
      if (isFirst) stepCount = 0
      stepCount++
      if (ended === null) ended = isDropped ? bench.table.blocks.drop() : bench.table.blocks.compact()
      else if (isFirst) firstStepCount++
    })
    for (let i = 0; i < 9; i++) {
      const rows = {
        host: hosts[i % 3]!,
        firstSecond: i * 70_000,
        values: Float64Array.from({ length: 70_000 }, (_, k) => i + k),
      }
      // The ninth may be refused: the table is gone by then.
      const written = bench.write([frameOf(rows)])
      if (isDropped && i === 8) await written.catch(() => undefined)
      else await written
      apply(model, rows)
    }
    await vi.waitFor(() => expect(ended).not.toBe(null), { timeout: 10_000 })
    await ended
    if (isDropped) expect([stepCount, firstStepCount]).toEqual([1, 0])
    else {
      // Of nine runs one: the first merge would have made two.
      expect(firstStepCount).toBe(1)
      expectSame(await bench.now(), model, 'compacted')
    }
    expect(bench.reports).toEqual([])
    if (isDropped) await bench.abandon()
    else await bench.close()
  }
})

test('while merges fail, a writer of a table with many runs waits for the next try, and for no more', async () => {
  const bench = await Bench.open('memory')
  await bench.closeTable()
  const model: Model = new Map()
  const write = async (i: number): Promise<void> => {
    const rows = { host: 'a', firstSecond: i, values: Float64Array.of(i) }
    await bench.write([frameOf(rows)])
    apply(model, rows)
  }
  let tryCount = 0
  let isFailing = true
  await bench.openTable({
    inTurn: async (work) => {
      tryCount++
      if (isFailing) throw diskFull()
      await work()
    },
    job: () => expect.fail('no row dies here'),
  })
  const { blocks } = bench.table
  for (let i = 0; i < 270; i++) await write(i)
  for (let i = 0; i < 2; i++) {
    const before = tryCount
    await blocks.waitForMerges()
    expect(tryCount).toBe(before + 1)
    await write(i)
  }
  expectSame(await bench.now(), model, 'while merges fail')
  isFailing = false
  await blocks.waitForMerges()
  await vi.waitFor(() => expect(blocks.blocks.length).toBeLessThan(200), { timeout: 10_000 })
  isFailing = true
  for (let i = 0; i < 600 && !blocks.isBehindWithMerges; i++) await write(i)
  const waited = blocks.waitForMerges()
  await bench.closeTable()
  await waited
  await bench.openTable()
  expectSame(await bench.now(), model, 'opened again')
  await bench.close()
})

test('headers of blocks are read that were written before texts were narrow, and those of no other version', () => {
  const layout = {
    rowCount: 5,
    pageCount: 1,
    pageStarts: Uint32Array.of(0, 5),
    segmentByteLengths: Uint32Array.of(64),
    columns: [],
    extent: [1, 2],
    attachments: [],
    directory: Uint8Array.of(7),
  }
  const versions = [0, 1, 2, 3, 255].map((version) => {
    const bytes = encodeHeader(layout)
    expect(bytes[1]).toBe(2)
    bytes[1] = version
    return { version, isOther: isOtherVersion(bytes), rowCount: parseHeader(bytes)?.rowCount ?? null }
  })
  expect(versions).toEqual([
    { version: 0, isOther: true, rowCount: null },
    { version: 1, isOther: false, rowCount: 5 },
    { version: 2, isOther: false, rowCount: 5 },
    { version: 3, isOther: true, rowCount: null },
    { version: 255, isOther: true, rowCount: null },
  ])
})
