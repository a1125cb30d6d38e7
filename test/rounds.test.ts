// Rounds over the tables of a backend, and what they do for streams that nobody opens; the clocks are the test's.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, expect, test, vi } from 'vitest'
import { Rounds } from '../dist/engine/backends/rounds.js'
import { FramesError } from '../dist/engine/errors.js'
import { type Engine, Frame, openEngine, sliceColumn } from '../dist/engine/index.js'

const minuteMs = 60_000
const hourMs = 60 * minuteMs
const root = mkdtempSync(join(tmpdir(), 'framesd-rounds-'))
afterAll(() => rmSync(root, { recursive: true, force: true }))
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

async function withEngine<T>(nowMs: number, body: (engine: Engine) => Promise<T>): Promise<T> {
  const engine = await openEngine({
    dataDir: root,
    memoryByteLength: 192 * 2 ** 20,
    workerCount: 1,
    history: false,
    nowMs: () => nowMs,
  })
  try {
    return await body(engine)
  } finally {
    await engine.close()
  }
}

async function firstSequence(engine: Engine): Promise<unknown> {
  return (await engine.execute({ ...stream, command: 'describe' }))!.column('first_sequence').at(0)
}

test('records expire in a stream that nobody has opened since the start', async () => {
  const startMs = Date.UTC(2024, 5, 1)
  await withEngine(startMs, async (engine) => {
    await engine.create({ ...stream, retentionHours: 2n })
    await engine.write(stream, new Frame({ columns: [sliceColumn('i', Float64Array.from({ length: 500 }))] }))
  })
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  await withEngine(startMs + 3 * hourMs, async () => {
    await vi.advanceTimersByTimeAsync(minuteMs + 10)
  })
  vi.useRealTimers()
  // With the clock of the beginning, opening the stream drops nothing.
  await withEngine(startMs, async (engine) => {
    expect(await firstSequence(engine)).toBe(501n)
  })
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
