// Rounds over the tables of a backend, and what they do for streams that nobody opens; the clocks are the test's.
import { afterEach, expect, test, vi } from 'vitest'
import { InputGate } from '../dist/engine/backends/input-gate.js'
import { OutgoingMessages } from '../dist/engine/backends/outgoing.js'
import { Rounds } from '../dist/engine/backends/rounds.js'
import { Streams } from '../dist/engine/backends/stream/stream.js'
import { Catalog } from '../dist/engine/blocks/catalog.js'
import { FramesError } from '../dist/engine/errors.js'
import { Frame, openEngine, sliceColumn } from '../dist/engine/index.js'
import { kernelHeapBase, loadKernels } from '../dist/engine/kernels/kernels.js'
import { createSharedMemory } from '../dist/engine/memory/shared-memory.js'
import { openPool } from '../dist/engine/pool/pool.js'
import { openMemoryStore } from '../dist/engine/stores/memory.js'

const minuteMs = 60_000
const hourMs = 60 * minuteMs
afterEach(() => vi.useRealTimers())

const catalog = {
  async *names(backend: string) {
    for (const path of ['a', 'b', 'c', 'd']) yield { container: 'users', backend, path }
  },
}

test('all tables are visited a minute after the start and every ten minutes, also when one fails or is gone', async () => {
  vi.useFakeTimers()
  const visited: string[] = []
  const problems: string[] = []
  const rounds = new Rounds({
    catalog,
    backend: 'tsdb',
    visit: async ({ path }) => {
      visited.push(path)
      if (path === 'b') throw new Error('no')
      if (path === 'c') throw new FramesError('TABLE_NOT_FOUND', 'deleted')
    },
    report: (message) => problems.push(message),
  })
  await vi.advanceTimersByTimeAsync(minuteMs - 1)
  expect(visited).toEqual([])
  await vi.advanceTimersByTimeAsync(10)
  expect(visited).toEqual(['a', 'b', 'c', 'd'])
  expect(problems).toEqual(["dropping what has expired of table 'users/b' failed"])
  await vi.advanceTimersByTimeAsync(9 * minuteMs)
  expect(visited).toHaveLength(4)
  await vi.advanceTimersByTimeAsync(minuteMs)
  expect(visited).toHaveLength(8)
  await rounds.stop()
  await vi.advanceTimersByTimeAsync(hourMs)
  expect(visited).toHaveLength(8)
})

test('a round rests nine times as long as a visit took, and ends when it is stopped', async () => {
  vi.useFakeTimers()
  const visited: string[] = []
  const rounds = new Rounds({
    catalog,
    backend: 'stream',
    visit: async ({ path }) => {
      visited.push(path)
      await new Promise((resolve) => setTimeout(resolve, 1000))
    },
    report: () => undefined,
  })
  await vi.advanceTimersByTimeAsync(minuteMs + 500)
  expect(visited).toEqual(['a'])
  await vi.advanceTimersByTimeAsync(9000)
  expect(visited).toEqual(['a'])
  await vi.advanceTimersByTimeAsync(1000)
  expect(visited).toEqual(['a', 'b'])
  await vi.advanceTimersByTimeAsync(1000)
  await rounds.stop()
  expect(visited).toEqual(['a', 'b'])
})

const stream = { backend: 'stream', table: 'left-alone' }

/** A catalog that counts how often all its tables were gone through. */
class CountingCatalog extends Catalog {
  roundCount = 0

  override async *names(backend: string) {
    yield* super.names(backend)
    this.roundCount++
  }
}

test('records expire in a stream that nobody has opened since the start', async () => {
  const memory = createSharedMemory({ heapBase: kernelHeapBase(), byteLength: 192 << 20 })
  const pool = openPool({ memory, workerCount: 1 })
  const store = openMemoryStore()
  const catalog = new CountingCatalog(store)
  const open = (nowMs: number): Streams =>
    new Streams({
      store,
      catalog,
      memory,
      kernels: loadKernels(memory.memory),
      pool,
      inputs: new InputGate(memory.arenas),
      outgoing: new OutgoingMessages(loadKernels(memory.memory).u8, memory.arenas),
      defaultContainer: 'users',
      shrinkStore: async () => undefined,
      nowMs: () => nowMs,
      report: (message, error) => {
        throw new Error(message, { cause: error })
      },
    })
  const startMs = Date.UTC(2024, 5, 1)
  const before = open(startMs)
  await before.create({ ...stream, retentionHours: 2n })
  const session = await before.openWrite(stream, {})
  await session.addFrame(new Frame({ columns: [sliceColumn('i', Float64Array.from({ length: 500 }))] }))
  await session.finish()
  await before.close()

  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  const later = open(startMs + 3 * hourMs)
  const step = () => new Promise((resolve) => setImmediate(resolve))
  await vi.advanceTimersByTimeAsync(minuteMs)
  while (catalog.roundCount === 0) {
    await step()
    await vi.advanceTimersByTimeAsync(10)
  }
  vi.useRealTimers()
  await later.close()

  // With the clock of the beginning, opening the stream drops nothing.
  const again = open(startMs)
  const described = (await again.execute({ ...stream, command: 'describe' }))!
  expect(described.columns.find(({ name }) => name === 'first_sequence')!.values).toEqual([501n])
  await again.close()
  await pool.close()
})

test('two names of one type serve the same streams', async () => {
  const engine = await openEngine({
    memoryByteLength: 192 * 2 ** 20,
    workerCount: 1,
    backends: [{ type: 'stream' }, { type: 'stream', name: 'events' }],
  })
  try {
    await engine.create(stream)
    const put = (backend: string) =>
      engine.execute({ ...stream, backend, command: 'put', args: { data: `{"from":"${backend}"}` } })
    for (let i = 0; i < 3; i++) {
      await put('stream')
      await put('events')
    }
    const from: unknown[] = []
    for await (const frame of engine.read({ ...stream, backend: 'events', seek: 'earliest' }))
      from.push(...frame.column('from').values())
    expect(from).toEqual(['stream', 'events', 'stream', 'events', 'stream', 'events'])
  } finally {
    await engine.close()
  }
})
