// Iterators of reads that a program drops without ending them: what they hold comes back when others wait for it.
import { afterEach, expect, test } from 'vitest'
import { DroppedReaders } from '../dist/engine/dropped-readers.js'
import { type Engine, frameFromRows, openEngine } from '../dist/engine/index.js'
import { exposedCollector } from '../dist/engine/memory/young-memory.js'
import { sourceOf, type StepSource } from '../dist/engine/steps.js'

const collect = exposedCollector()!
const turn = () => new Promise((resolve) => setTimeout(resolve, 10))

class Numbers implements StepSource<number> {
  closeCount = 0
  #next = 0
  readonly #count: number

  constructor(count: number) {
    this.#count = count
  }

  async next(): Promise<number | null> {
    return this.#next < this.#count ? this.#next++ : null
  }

  async close(): Promise<void> {
    this.closeCount++
  }
}

function watching() {
  const reports: string[] = []
  let isWaitedFor = false
  const readers = new DroppedReaders({
    isWaitedFor: () => isWaitedFor,
    collect,
    report: (message, error) => reports.push(error === null ? message : `${message}: ${String(error)}`),
  })
  const wait = (): void => {
    isWaitedFor = true
  }
  return { readers, reports, wait }
}

test('a source whose iterator is dropped is closed, once, and that is reported', async () => {
  const { readers, reports } = watching()
  const source = new Numbers(3)
  // In a function of its own: none of its variables keeps the iterator.
  await (async () => {
    const steps = readers.steps(source)
    expect(await steps.next()).toEqual({ value: 0, done: false })
  })()
  const closeCount = () => {
    collect()
    return source.closeCount
  }
  await expect.poll(closeCount).toBe(1)
  expect(reports).toEqual([expect.stringMatching('was dropped')])
})

test('a dropped iterator is found by itself only while somebody waits', async () => {
  const { readers, wait } = watching()
  const source = new Numbers(3)
  await (async () => {
    await readers.steps(source).next()
  })()
  wait()
  await expect.poll(() => source.closeCount, { timeout: 20_000 }).toBe(1)
})

test('what is read to its end, returned or has failed is closed once, and not reported', async () => {
  const { readers, reports } = watching()
  const sources = [new Numbers(2), new Numbers(2), new Numbers(2)] as const
  await (async () => {
    let sum = 0
    for await (const value of readers.steps(sources[0])) sum += value
    expect(sum).toBe(1)
    for await (const value of readers.steps(sources[1])) {
      expect(value).toBe(0)
      break
    }
    sources[2].next = () => Promise.reject(new Error('no more'))
    await expect(readers.steps(sources[2]).next()).rejects.toThrow('no more')
  })()
  for (let i = 0; i < 5; i++) {
    collect()
    await turn()
  }
  expect(sources.map(({ closeCount }) => closeCount)).toEqual([1, 1, 1])
  expect(reports).toEqual([])
})

test('an iterator that is kept, or whose source another layer has taken, is not taken for dropped', async () => {
  const { readers, reports, wait } = watching()
  wait()
  const kept = new Numbers(2)
  const steps = readers.steps(kept)
  await steps.next()
  const taken = new Numbers(2)
  const source = (() => sourceOf(readers.steps(taken)))()
  expect(await source.next()).toBe(0)
  for (let i = 0; i < 5; i++) {
    collect()
    await turn()
  }
  expect(await steps.next()).toEqual({ value: 1, done: false })
  expect(await source.next()).toBe(1)
  expect([kept.closeCount, taken.closeCount]).toEqual([0, 0])
  expect(reports).toEqual([])
  await steps.return()
  await source.close()
  expect([kept.closeCount, taken.closeCount]).toEqual([1, 1])
})

let engine: Engine | null = null
afterEach(() => engine?.close())

test.each(['read', 'readBatches', 'wire', 'json', 'arrow'] as const)(
  'dropped iterators of %s leave room for those who go on',
  { timeout: 120_000 },
  async (kind) => {
    const reports: string[] = []
    const opened = await openEngine({ memoryByteLength: 48 * 2 ** 20, report: (message) => reports.push(message) })
    engine = opened
    const table = { backend: 'tsdb', table: 't' }
    await opened.create({ ...table, rate: '1/s' })
    const rows = Array.from({ length: 60_000 }, (_, i) => ({ time: new Date(i * 1000), a: i / 7, b: i / 3 }))
    await opened.write(table, frameFromRows(rows, ['time']))
    const request = { ...table, start: '0', end: '2000-01-01T00:00:00Z' }
    const open = (): AsyncIterator<unknown> => {
      if (kind === 'read') return opened.read(request)
      if (kind === 'readBatches') return opened.readBatches(request)
      return opened.readEncoded(request, kind)
    }
    const dropped = async (): Promise<void> => {
      expect((await open().next()).done).toBe(false)
    }
    for (let i = 0; i < 60; i++) await dropped()
    let rowCount = 0
    for await (const frame of opened.read(request)) rowCount += frame.length
    expect(rowCount).toBe(rows.length)
    expect(opened.statistics().memory.arenas.failureCount).toBe(0)
    for (const report of reports) expect(report).toMatch('was dropped')
  },
)
