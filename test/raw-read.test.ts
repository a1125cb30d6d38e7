// Large raw reads: ranges of label sets are begun ahead, and everything comes in order whatever becomes of each of them.
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import type { BackendParts, ReadMessage } from '../dist/engine/backends/backend.js'
import { InputGate } from '../dist/engine/backends/input-gate.js'
import { OutgoingMessages } from '../dist/engine/backends/outgoing.js'
import { Tsdb } from '../dist/engine/backends/tsdb/tsdb.js'
import { Catalog } from '../dist/engine/blocks/catalog.js'
import { takeFrame } from '../dist/engine/codec/columns.js'
import { FramesError } from '../dist/engine/errors.js'
import { type Column, Frame, nullColumn, type ReadRequest, sliceColumn } from '../dist/engine/index.js'
import { kernelHeapBase, loadKernels } from '../dist/engine/kernels/kernels.js'
import { createSharedMemory } from '../dist/engine/memory/shared-memory.js'
import type { Job } from '../dist/engine/pool/job.js'
import { type JobResult, openPool, type Pool, type RunOptions } from '../dist/engine/pool/pool.js'
import { openMemoryStore } from '../dist/engine/stores/memory.js'
import { SeededRandom, seed } from './seeded-random.js'
import { readGenerated } from './wire.twin.js'

const MiB = 1024 * 1024
const workerCount = 2
const memory = createSharedMemory({ heapBase: kernelHeapBase(), byteLength: 512 * MiB })
const kernels = loadKernels(memory.memory)
const workers = openPool({ memory, workerCount })

/** Called for each scan, by its number since the last reset; what it does comes before the scan is answered. */
type OnScan = (number: number) => Promise<void>

/** The pool of the workers, with a hand on scans. */
class WatchedPool implements Pool {
  startedCount = 0
  /** Scans whose results were taken over and not released. */
  heldCount = 0
  onScan: OnScan = async () => undefined

  reset(): void {
    this.startedCount = 0
    this.onScan = async () => undefined
  }

  run<R>(job: Job, options: RunOptions): Promise<JobResult<R>> {
    return workers.run(job, options)
  }

  async runToEnd<R>(job: Job, options: RunOptions): Promise<JobResult<R>> {
    if (job.kind !== 'tsdb.scan') return workers.runToEnd(job, options)
    const number = this.startedCount++
    const done = await workers.runToEnd<R>(job, options)
    try {
      await this.onScan(number)
    } catch (error) {
      done.release()
      throw error
    }
    this.heldCount++
    return {
      ...done,
      release: () => {
        this.heldCount--
        done.release()
      },
    }
  }

  statistics() {
    return workers.statistics()
  }

  isIdle(worker: number): boolean {
    return workers.isIdle(worker)
  }

  close(): Promise<void> {
    return workers.close()
  }
}

const pool = new WatchedPool()
const store = openMemoryStore()
const parts: BackendParts = {
  store,
  catalog: new Catalog(store),
  memory,
  kernels,
  pool,
  inputs: new InputGate(memory.arenas),
  outgoing: new OutgoingMessages(kernels.u8, memory.arenas),
  defaultContainer: '',
  shrinkStore: async () => undefined,
  nowMs: () => 2e12,
  report: (message, error) => {
    throw new Error(message, { cause: error })
  },
}
const tsdb = new Tsdb(parts)
const large = { backend: 'tsdb', table: 'large' }
const all = { start: '0', end: '2000000000000' }
const largeSetCount = 60
const largeRowCount = 4000

afterAll(async () => {
  await tsdb.close()
  await workers.close()
})

async function write(table: typeof large, frames: readonly Frame[]): Promise<void> {
  const session = await tsdb.openWrite(table, {})
  for (const frame of frames) await session.addFrame(frame)
  await session.finish()
}

beforeAll(async () => {
  await tsdb.create({ ...large, rate: '1/s' })
  const times = BigInt64Array.from({ length: largeRowCount }, (_, row) => BigInt(row) * 1_000_000_000n)
  const frames = Array.from({ length: largeSetCount }, (_, set) => {
    // Bits that do not shrink: some 200 kB a set on the wire.
    const columns = ['a', 'b', 'c', 'd', 'e', 'f'].map((name, i) =>
      sliceColumn(
        name,
        Float64Array.from(times, (_time, row) => Math.sin(set + i + row)),
      ),
    )
    const labels = { host: String(set).padStart(3, '0') }
    return new Frame({ columns, indices: [sliceColumn('time', times, 'time')], labels })
  })
  await write(large, frames)
  await tsdb.execute({ ...large, command: 'compact' }, {})
}, 60_000)

afterEach(() => {
  pool.reset()
})

type Rows = string[]

function rowsOf(labels: string, columns: readonly { name: string; cells: readonly unknown[] }[], count: number): Rows {
  const text = (value: unknown): string => (Object.is(value, -0) ? '-0' : String(value))
  const named = [...columns].sort((a, b) => (a.name < b.name ? -1 : 1))
  return Array.from({ length: count }, (_, row) => {
    const cells = named
      .filter(({ cells }) => cells[row] !== null)
      .map(({ name, cells }) => `${name}=${text(cells[row])}`)
    return `${labels} ${cells.join(' ')}`
  })
}

/** The rows of what comes together; a limited read has a marker, too. */
function rowsOfMessage({ bytes, frame, batch }: ReadMessage): { rows: Rows; marker: string } {
  if (batch !== undefined) {
    const each = batch.map((message) => rowsOfMessage({ rowCount: 0, bytes: message, frame: null }))
    return { rows: each.flatMap(({ rows }) => rows), marker: each[each.length - 1]!.marker }
  }
  if (frame !== null) {
    const own = takeFrame(kernels, frame)
    const columns = [...own.columns, ...own.indices].map((column: Column) => ({
      name: column.name,
      cells: column.values().map((value) => (typeof value === 'object' && value !== null ? value.timeNs : value)),
    }))
    const { next_marker: marker = '', ...labels } = Object.fromEntries(own.labels)
    return { rows: rowsOf(JSON.stringify(labels), columns, own.length), marker: String(marker) }
  }
  const twin = readGenerated(Buffer.from(bytes!))
  const columns = [...twin.columns, ...twin.indices].map(({ name, kind, cells }) => ({
    name,
    cells: kind === 'label' ? new Array<unknown>(twin.rowCount).fill(cells[0]) : cells,
  }))
  const labels = Object.fromEntries(twin.labels.map(({ name, value }) => [name, value]))
  const { next_marker: marker = '', ...others } = labels
  return { rows: rowsOf(JSON.stringify(others), columns, twin.rowCount), marker: String(marker) }
}

async function readRows(
  request: ReadRequest,
  { format = 'wire', borrows = true }: { format?: 'wire' | 'columns'; borrows?: boolean } = {},
): Promise<{ rows: Rows; marker: string }> {
  const rows: Rows = []
  let marker = ''
  for await (const message of tsdb.read(request, format, { borrows })) {
    const read = rowsOfMessage(message)
    rows.push(...read.rows)
    marker = read.marker
  }
  return { rows, marker }
}

/** The host of each message, and where a read was ended. */
async function hostsOf(messages: AsyncIterable<ReadMessage>): Promise<{ hosts: string[]; error: unknown }> {
  const hosts: string[] = []
  try {
    for await (const { batch } of messages) {
      for (const bytes of batch!) {
        const { labels } = readGenerated(Buffer.from(bytes))
        hosts.push(String(labels.find(({ name }) => name === 'host')!.value))
      }
    }
  } catch (error) {
    return { hosts, error }
  }
  return { hosts, error: null }
}

const largeRead = { ...large, ...all, columns: ['a', 'b', 'c', 'd', 'e', 'f'] }
const allHosts = Array.from({ length: largeSetCount }, (_, set) => String(set).padStart(3, '0'))

function expectNothingHeld(): void {
  expect(pool.heldCount).toBe(0)
  expect(parts.outgoing.heldByteLength).toBe(0)
  expect(memory.arenas.statistics()).toMatchObject({ byteLengthUsed: 0, allocationCount: 0 })
}

test('whatever is stored and how it is read, the rows are the same and in one order', async () => {
  const random = new SeededRandom(seed)
  const table = { backend: 'tsdb', table: 'mixed' }
  await tsdb.create({ ...table, rate: '1/s' })
  const frameOf = (set: number): Frame => {
    const count = random.pick([1, 10, 900, 1100, 3000])
    const start = random.integer(0, 6000)
    const times = BigInt64Array.from({ length: count }, (_, row) => BigInt(start + row) * 1_000_000_000n)
    let walk = 50
    const small = () => (walk = Math.max(0, Math.min(120, walk + random.integer(-2, 3))))
    const kind = set % 6
    const columns = [
      sliceColumn(
        'small',
        BigInt64Array.from(times, () => BigInt(small())),
      ),
      sliceColumn(
        'decimal',
        Float64Array.from(times, () => Math.round(small() * 100 + random.next()) / 100),
      ),
    ]
    if (kind === 1)
      columns.push(
        sliceColumn(
          'wide',
          BigInt64Array.from(times, () => random.int64()),
        ),
      )
    if (kind === 2)
      columns.push(
        sliceColumn(
          'gaps',
          random.list(count, () => (random.chance(0.1) ? null : 1.5)),
          'float64',
        ),
      )
    if (kind === 3)
      columns.push(
        sliceColumn(
          'text',
          random.list(count, () => `t${random.integer(0, 5)}`),
          'string',
        ),
      )
    if (kind === 4)
      columns.push(
        sliceColumn(
          'flag',
          random.list(count, () => random.chance(0.5)),
          'bool',
        ),
      )
    if (kind === 5) columns[0] = nullColumn('small', count)
    return new Frame({ columns, indices: [sliceColumn('time', times, 'time')], labels: { set: `s${set}` } })
  }
  await write(table, random.list(60, frameOf))
  const columns = [undefined, ['small', 'decimal'], ['small', 'wide'], ['decimal', 'gaps', 'text', 'flag']]
  for (const state of ['fresh', 'merged', 'partly overwritten']) {
    if (state === 'merged') await tsdb.execute({ ...table, command: 'compact' }, {})
    if (state === 'partly overwritten')
      await write(
        table,
        random.list(25, (set) => frameOf(2 * set)),
      )
    for (const names of [random.pick(columns), random.pick(columns)]) {
      const request = {
        ...table,
        ...(random.chance(0.5) ? all : { start: String(random.integer(0, 3000) * 1000), end: '6000000' }),
        ...(names === undefined ? {} : { columns: names }),
        ...(random.chance(0.3) ? { messageLimit: BigInt(random.integer(1, 5000)) } : {}),
      }
      const { rows } = await readRows(request)
      expect((await readRows(request, { borrows: false })).rows).toEqual(rows)
      expect((await readRows(request, { format: 'columns' })).rows).toEqual(rows)
      const limited: Rows = []
      for (let marker = ''; ; ) {
        const part = await readRows({ ...request, limit: 30_001n, ...(marker === '' ? {} : { marker }) })
        expect(part.rows.length).toBeLessThanOrEqual(30_001)
        limited.push(...part.rows)
        marker = part.marker
        if (marker === '') break
      }
      expect(limited).toEqual(rows)
    }
  }
  expectNothingHeld()
}, 120_000)

test(`label sets that report together have the times that were written, and so have those that differ (seed ${seed})`, async () => {
  const random = new SeededRandom(seed)
  const table = { backend: 'tsdb', table: 'together' }
  await tsdb.create({ ...table, rate: '1/s' })
  // More cells than a worker keeps decoded. Several pages a set, and several messages of some; times that are not regular make long
  // pages.
  const names = Array.from({ length: 12 }, (_, i) => `value_${i}`)
  const rowCounts = [3000, 14_000, 30_000]
  const timesOf = (rowCount: number, isRegular: boolean): BigInt64Array => {
    let ms = 1_000_000n
    return BigInt64Array.from({ length: rowCount }, () => {
      ms += isRegular ? 1000n : BigInt(random.integer(1, 30_000))
      return ms * 1_000_000n
    })
  }
  const shared = rowCounts.flatMap((rowCount) => [timesOf(rowCount, true), timesOf(rowCount, false)])
  const frameOf = (set: number, times: BigInt64Array): Frame => {
    const values = BigInt64Array.from(times, (_time, i) => BigInt((set + i) % 100))
    return new Frame({
      columns: names.map((name) => sliceColumn(name, values)),
      indices: [sliceColumn('time', times, 'time')],
      labels: { set: String(set).padStart(2, '0') },
    })
  }
  const written = Array.from({ length: 40 }, () => {
    const times = random.pick(shared).slice()
    const change = random.integer(0, 8)
    const row = random.integer(0, times.length)
    if (change === 0) times[row] += 1n
    return change === 1 ? times.filter((_time, i) => i !== row) : change === 2 ? times.slice(row) : times
  })
  await write(
    table,
    written.map((times, set) => frameOf(set, times)),
  )
  await tsdb.execute({ ...table, command: 'compact' }, {})
  const expectTimes = async (startMs: number, endMs: number): Promise<void> => {
    const found = written.map((): bigint[] => [])
    const request = { ...table, start: String(startMs), end: String(endMs), columns: names }
    for await (const { batch } of tsdb.read(request, 'wire', {})) {
      for (const bytes of batch!) {
        const { labels, indices } = readGenerated(Buffer.from(bytes))
        const set = Number(labels.find(({ name }) => name === 'set')!.value)
        for (const ns of indices[0]!.cells) found[set]!.push(ns as bigint)
      }
    }
    const [startNs, endNs] = [BigInt(startMs) * 1_000_000n, BigInt(endMs + 1) * 1_000_000n]
    for (const [set, times] of found.entries()) {
      const wanted = [...written[set]!].filter((ns) => ns >= startNs && ns < endNs)
      expect(times, `set ${set}`).toEqual(wanted)
    }
  }
  await expectTimes(0, 4_000_000_000)
  const middleMs = random.integer(1_000_000, 20_000_000)
  if (random.chance(0.5)) await expectTimes(middleMs, 4_000_000_000)
  else await expectTimes(0, middleMs)
  // Other blocks of the same sets: some rows are written again, and some follow.
  const others = written.map((times, set) => {
    const from = random.integer(0, times.length)
    const again = times.slice(from, from + random.integer(0, 5000))
    const next = random.chance(0.5) ? [] : [times[times.length - 1]! + 7n]
    written[set] = BigInt64Array.from([...times, ...next])
    return frameOf(set, BigInt64Array.from([...again, ...next]))
  })
  await write(
    table,
    others.filter(({ length }) => length > 0),
  )
  await expectTimes(0, 4_000_000_000)
  expectNothingHeld()
}, 120_000)

test('ranges that are ready before the first one wait for it', async () => {
  let isFirstReady = (): void => undefined
  const first = new Promise<void>((resolve) => {
    isFirstReady = resolve
  })
  pool.onScan = async (number) => {
    if (number === 0) await first
    if (number === 1) setTimeout(isFirstReady, 20)
  }
  expect(await hostsOf(tsdb.read(largeRead, 'wire', {}))).toEqual({ hosts: allHosts, error: null })
  expect(pool.startedCount).toBeGreaterThan(3)
})

test.for([true, false])(
  'a reader that stops holds what a few jobs have made, and no more is made (borrows: %s)',
  async (borrows) => {
    const messages = tsdb.read(largeRead, 'wire', { borrows })
    await messages.next()
    const settle = async (): Promise<void> => {
      await new Promise((resolve) => setTimeout(resolve, 50))
      while (workers.statistics().runningCount > 0) await new Promise((resolve) => setTimeout(resolve, 5))
    }
    await settle()
    expect(pool.startedCount).toBeLessThanOrEqual(workerCount + 1)
    for (let i = 0; i < 3; i++) await messages.next()
    await settle()
    const stopped = pool.startedCount
    await settle()
    expect(pool.startedCount).toBe(stopped)
    // Those under way and the one whose messages leave, each of them of two messages' length at most beside the last one.
    expect(pool.heldCount).toBeLessThanOrEqual(workerCount + 2)
    expect(memory.arenas.statistics().byteLengthUsed).toBeLessThanOrEqual((workerCount + 2) * 4 * MiB)
    if (!borrows) expect(parts.outgoing.heldByteLength).toBe(0)
    await messages.return(undefined)
    expectNothingHeld()
  },
)

test('an error in a later range comes behind the rows of those before it', async () => {
  const gone = new FramesError('WORKER_DIED', 'the worker of a job (tsdb.scan) ended')
  pool.onScan = async (number) => {
    if (number === 4) throw gone
  }
  const { hosts, error } = await hostsOf(tsdb.read(largeRead, 'wire', { borrows: true }))
  expect(error).toBe(gone)
  expect(hosts.length).toBeGreaterThan(3)
  expect(hosts).toEqual(allHosts.slice(0, hosts.length))
  expectNothingHeld()
})

test('a read that is given up gives back what was begun ahead', async () => {
  const controller = new AbortController()
  const messages = tsdb.read(largeRead, 'wire', { borrows: true, signal: controller.signal })
  await messages.next()
  await messages.next()
  controller.abort(new FramesError('CANCELLED', 'enough'))
  const { error } = await hostsOf(messages)
  expect(error).toMatchObject({ code: 'CANCELLED' })
  expectNothingHeld()
})

test('readers that stop leave most of the memory to others, who are served as before', async () => {
  const readers = Array.from({ length: 24 }, () => tsdb.read(largeRead, 'wire', { borrows: true }))
  for (const reader of readers) await reader.next()
  expect(parts.outgoing.heldByteLength).toBeGreaterThan(0)
  expect(parts.outgoing.heldByteLength).toBeLessThanOrEqual(memory.arenas.slice.byteLength / 8)
  expect(await hostsOf(tsdb.read(largeRead, 'wire', { borrows: true }))).toEqual({ hosts: allHosts, error: null })
  await Promise.all(readers.map((reader) => reader.return(undefined)))
  expectNothingHeld()
})

test('what waits to be sent never stands in the way of the next job', () => {
  const { arenas } = memory
  const outgoing = new OutgoingMessages(kernels.u8, arenas)
  const steps = Array.from({ length: 200 }, () => {
    const scratch = arenas.tryAllocate(16 * MiB, { urgent: true })
    if (scratch === null) throw new Error(`no room while ${outgoing.heldByteLength} bytes are held`)
    let kept = scratch
    const job = {
      result: null,
      scratch,
      keepFirst: (byteLength: number) => {
        kept = arenas.shrink(kept, byteLength)
      },
      release: () => arenas.free(kept),
    }
    return outgoing.takeWire(job, Uint32Array.of(1, scratch.byteOffset, MiB), true)
  })
  expect(outgoing.heldByteLength).toBeGreaterThan(8 * MiB)
  for (const step of steps) step.release()
  expectNothingHeld()
})

test('bytes that are not borrowed stay as they are', async () => {
  const kept: Uint8Array[] = []
  for await (const { batch } of tsdb.read(largeRead, 'wire', {})) kept.push(...batch!)
  const others = await readRows(largeRead)
  expect(kept.flatMap((bytes) => rowsOfMessage({ rowCount: 0, bytes, frame: null }).rows)).toEqual(others.rows)
})
