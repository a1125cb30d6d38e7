// Single updates that are settled on top of commits which are still on their way to the disk: nobody is told what could still
// be lost, and a commit that fails takes along what was settled on top of it.
import { afterEach, expect, test } from 'vitest'
import type { BackendParts } from '../dist/engine/backends/backend.js'
import { InputGate } from '../dist/engine/backends/input-gate.js'
import { Kv } from '../dist/engine/backends/kv/kv.js'
import { OutgoingMessages } from '../dist/engine/backends/outgoing.js'
import { Catalog } from '../dist/engine/blocks/catalog.js'
import { FramesError } from '../dist/engine/errors.js'
import { kernelHeapBase, loadKernels } from '../dist/engine/kernels/kernels.js'
import { createSharedMemory } from '../dist/engine/memory/shared-memory.js'
import { openPool } from '../dist/engine/pool/pool.js'
import { openMemoryStore } from '../dist/engine/stores/memory.js'
import type { Batch, Entry, ScanRange, Store, WorkerAccess } from '../dist/engine/stores/store.js'
import { frameOf } from './kv-table.js'
import { SeededRandom, seed } from './seeded-random.js'

interface Held {
  readonly batch: Batch
  readonly resolve: (done: Promise<void>) => void
  readonly reject: (error: unknown) => void
}

/** A store whose commits wait, while it is told to hold them, until the test lets them through or fails them. */
class HeldStore implements Store {
  readonly #store = openMemoryStore()
  isHolding = false
  readonly held: Held[] = []
  /** Judges each commit that is not held; what it returns is what the commit fails with. */
  fault: (batch: Batch) => FramesError | null = () => null

  get workerAccess(): WorkerAccess {
    return this.#store.workerAccess
  }

  read(partition: string, keys: readonly Uint8Array[]): Promise<(Uint8Array | null)[]> {
    return this.#store.read(partition, keys)
  }

  scan(partition: string, range: ScanRange): Promise<Entry[]> {
    return this.#store.scan(partition, range)
  }

  commit(batch: Batch): Promise<void> {
    if (this.isHolding) return new Promise((resolve, reject) => this.held.push({ batch, resolve, reject }))
    const error = this.fault(batch)
    return error === null ? this.#store.commit(batch) : Promise.reject(error)
  }

  /** The oldest commit that is held happens, or fails. */
  async next(error: FramesError | null = null): Promise<void> {
    const { batch, resolve, reject } = this.held.shift()!
    if (error !== null) reject(error)
    else resolve(this.#store.commit(batch))
    await turn()
  }

  /** All that are held happen, and those to come. */
  async open(): Promise<void> {
    this.isHolding = false
    while (this.held.length > 0) await this.next()
  }

  partitions(prefix: string): Promise<string[]> {
    return this.#store.partitions(prefix)
  }

  dropPartition(partition: string): Promise<void> {
    return this.#store.dropPartition(partition)
  }

  close(): Promise<void> {
    return this.#store.close()
  }
}

/** Lets promises and messages that are due have their turn. */
function turn(): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, 0)
  })
}

async function until(isTrue: () => boolean): Promise<void> {
  while (!isTrue()) await turn()
}

const closes: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const close of closes.splice(0)) await close()
})

function openKv(): { kv: Kv; store: HeldStore } {
  const memory = createSharedMemory({ heapBase: kernelHeapBase(), byteLength: 256 * 2 ** 20 })
  const kernels = loadKernels(memory.memory)
  const store = new HeldStore()
  const pool = openPool({ memory, workerCount: 2 })
  const parts: BackendParts = {
    store,
    catalog: new Catalog(store),
    memory,
    kernels,
    pool,
    inputs: new InputGate(memory.arenas),
    outgoing: new OutgoingMessages(kernels.u8, memory.arenas),
    shrinkStore: async () => undefined,
    nowMs: Date.now,
    defaultContainer: 'x',
    report: () => undefined,
  }
  const kv = new Kv(parts)
  closes.push(async () => {
    await store.open()
    await kv.close()
    await pool.close()
  })
  return { kv, store }
}

const request = { backend: 'kv', table: 't' }

async function update(kv: Kv, key: string, expression: string, condition = ''): Promise<void> {
  await kv.execute({ ...request, command: 'update', args: { key, expression, condition } }, {})
}

/** The attribute n of an item, as readers see it; null: there is no such item. */
async function readN(kv: Kv, key: string): Promise<bigint | null> {
  const answer = await kv.execute({ ...request, command: 'get', args: { key } }, {})
  if (answer === null) return null
  if (!('columns' in answer)) throw new Error('get answers with columns')
  const column = answer.columns.find(({ name }) => name === 'n')
  if (column === undefined) return null
  const value: unknown = 'at' in column ? column.at(0) : column.values[0]
  return value === undefined ? null : (value as bigint)
}

/** How a call has ended so far. */
function watch(call: Promise<void>): { state: string } {
  const watched = { state: 'at work' }
  call.then(
    () => {
      watched.state = 'done'
    },
    (error: unknown) => {
      watched.state = error instanceof FramesError ? error.what : String(error)
    },
  )
  return watched
}

const diskFull = () => new FramesError('DISK_FULL', 'no room, says the test')

/** A table with an item 'x' that has n = 0. */
async function openTable(): Promise<{ kv: Kv; store: HeldStore }> {
  const opened = openKv()
  const session = await opened.kv.openWrite({ ...request, saveMode: 'createNewItemsOnly' }, {})
  await session.addFrame(frameOf({ n: [0n] }, { id: ['x'] }))
  await session.finish()
  return opened
}

/** The same, with commits held from now on. */
async function held(): Promise<{ kv: Kv; store: HeldStore }> {
  const opened = await openTable()
  opened.store.isHolding = true
  return opened
}

test('an update is settled on top of one whose commit is on its way, and each is answered when it is durable', async () => {
  const { kv, store } = await held()
  const first = watch(update(kv, 'x', 'n = n + 1'))
  await until(() => store.held.length === 1)
  const second = watch(update(kv, 'x', 'n = 10 * n'))
  await until(() => store.held.length === 2)
  expect([first.state, second.state]).toEqual(['at work', 'at work'])
  await store.next()
  await until(() => first.state !== 'at work')
  expect([first.state, second.state]).toEqual(['done', 'at work'])
  expect(await readN(kv, 'x'), 'readers see what is durable').toBe(1n)
  await store.next()
  await until(() => second.state !== 'at work')
  expect(second.state).toBe('done')
  expect(await readN(kv, 'x')).toBe(10n)
})

test('a commit that fails takes along those that were settled on top of it, and nothing of them is stored', async () => {
  const { kv, store } = await held()
  const calls: { readonly state: string }[] = []
  for (const [i, key] of ['x', 'x', 'y'].entries()) {
    calls.push(watch(update(kv, key, 'n = if_not_exists(n, 0) + 1')))
    await until(() => store.held.length === i + 1)
  }
  await store.next(diskFull())
  await store.open()
  await until(() => calls.every(({ state }) => state !== 'at work'))
  expect(calls.map(({ state }) => state)).toEqual(Array<string>(3).fill('no room, says the test'))
  expect([await readN(kv, 'x'), await readN(kv, 'y')]).toEqual([0n, null])
  await update(kv, 'x', 'n = n + 1')
  expect(await readN(kv, 'x')).toBe(1n)
})

test('what fails behind a commit leaves that commit alone', async () => {
  const { kv, store } = await held()
  const first = watch(update(kv, 'x', 'n = n + 1'))
  await until(() => store.held.length === 1)
  const second = watch(update(kv, 'x', 'n = n + 1'))
  await until(() => store.held.length === 2)
  await store.next()
  await store.next(diskFull())
  await until(() => second.state !== 'at work')
  expect([first.state, second.state]).toEqual(['done', 'no room, says the test'])
  await store.open()
  expect(await readN(kv, 'x')).toBe(1n)
})

test('a condition that was false for what may still be lost is answered when that is durable, and fails with it', async () => {
  for (const isLost of [false, true]) {
    const { kv, store } = await held()
    const first = watch(update(kv, 'x', 'n = 5'))
    await until(() => store.held.length === 1)
    const second = watch(update(kv, 'x', 'n = 6', 'n == 0'))
    await new Promise((resolve) => setTimeout(resolve, 100))
    expect(second.state, 'a crash could still make it true').toBe('at work')
    await store.next(isLost ? diskFull() : null)
    await store.open()
    await until(() => first.state !== 'at work' && second.state !== 'at work')
    expect(second.state).toBe(isLost ? 'no room, says the test' : "failed to update item 'x': the condition is false")
    expect(await readN(kv, 'x')).toBe(isLost ? 0n : 5n)
  }
})

test('a delete of the table waits for the commits on their way', async () => {
  const { kv, store } = await held()
  const first = watch(update(kv, 'x', 'n = n + 1'))
  await until(() => store.held.length === 1)
  const second = watch(update(kv, 'x', 'n = n + 1'))
  await until(() => store.held.length === 2)
  const removed = watch(kv.delete(request))
  await new Promise((resolve) => setTimeout(resolve, 50))
  expect(removed.state).toBe('at work')
  await store.open()
  await until(() => removed.state !== 'at work')
  expect([first.state, second.state, removed.state]).toEqual(['done', 'done', 'done'])
})

test('with commits that fail now and then, every item has been counted as often as its callers were told', async () => {
  const random = new SeededRandom(seed)
  const { kv, store } = await openTable()
  const partitionOfTable = (await store.partitions('t'))[0]
  store.fault = ({ partition }) => (partition === partitionOfTable && random.integer(0, 7) === 0 ? diskFull() : null)
  const counts = new Map<string, bigint>()
  let failureCount = 0
  const callers = Array.from({ length: 24 }, async () => {
    for (let i = 0; i < 40; i++) {
      const key = `k${random.integer(0, 9)}`
      try {
        await update(kv, key, 'n = if_not_exists(n, 0) + 1')
        counts.set(key, (counts.get(key) ?? 0n) + 1n)
      } catch (error) {
        expect((error as FramesError).code).toBe('DISK_FULL')
        failureCount++
      }
    }
  })
  await Promise.all(callers)
  store.fault = () => null
  expect(failureCount).toBeGreaterThan(0)
  for (const [key, n] of counts) expect([key, await readN(kv, key)]).toEqual([key, n])
})
