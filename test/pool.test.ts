import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterEach, describe, expect, test } from 'vitest'
import { FramesError } from '../dist/engine/errors.js'
import { kernelHeapBase } from '../dist/engine/kernels/kernels.js'
import { runByteLength } from '../dist/engine/memory/region.js'
import { createSharedMemory, type SharedMemory } from '../dist/engine/memory/shared-memory.js'
import type { Slice } from '../dist/engine/memory/slice.js'
import type {
  AllocateJob,
  EchoJob,
  EchoPartsJob,
  FailJob,
  FillJob,
  ReadJob,
  SleepJob,
} from '../dist/engine/pool/diagnostics.js'
import type { Job } from '../dist/engine/pool/job.js'
import { openPool, type Pool, type PoolEvent, type PoolOptions } from '../dist/engine/pool/pool.js'
import { SeededRandom, seed } from './seeded-random.js'
import { codeOf, failureOf } from './failures.js'

const run = runByteLength
const MiB = 1024 * 1024

interface Opened {
  readonly pool: Pool
  readonly memory: SharedMemory
  readonly events: PoolEvent[]
}

const opened: Pool[] = []

function open(options: Partial<PoolOptions> & { byteLength?: number } = {}): Opened {
  const { byteLength = 64 * MiB, ...poolOptions } = options
  const memory = createSharedMemory({ byteLength, heapBase: kernelHeapBase() })
  const events: PoolEvent[] = []
  const pool = openPool({
    memory,
    workerCount: 2,
    diagnostics: true,
    workerHeapByteLengthMax: 32 * MiB,
    onEvent: (event) => events.push(event),
    ...poolOptions,
  })
  opened.push(pool)
  return { pool, memory, events }
}

afterEach(async () => {
  await Promise.all(opened.splice(0).map((pool) => pool.close({ graceMs: 0 })))
})

async function echo(pool: Pool, value: unknown = 1): Promise<unknown> {
  const job: EchoJob = { kind: 'echo', value }
  const { result, release } = await pool.run(job, { scratchByteLength: run })
  release()
  return result
}

/** Waits until a fact holds; the test's own time limit ends a wait that is in vain. */
async function until(fact: () => boolean): Promise<void> {
  while (!fact()) await new Promise((resolve) => setTimeout(resolve, 1))
}

async function expectAllFree({ pool, memory }: Opened): Promise<void> {
  await until(() => pool.statistics().runningCount === 0)
  expect(memory.arenas.statistics()).toMatchObject({ byteLengthUsed: 0, allocationCount: 0, waiterCount: 0 })
  expect(pool.statistics()).toMatchObject({ queueCount: 0, isWaitingForMemory: false })
}

async function expectWhole(place: Opened, workerCount = 2): Promise<void> {
  await until(() => place.pool.statistics().workerCount === workerCount)
  expect(await Promise.all([1, 2, 3, 4].map((value) => echo(place.pool, value)))).toEqual([1, 2, 3, 4])
  await expectAllFree(place)
}

const sleep: SleepJob = { kind: 'sleepUntilCancelled', writeMs: 0 }
const sleepAndHang: SleepJob = { ...sleep, writeMs: 1e9 }
const failJob = (how: FailJob['how']): FailJob => ({ kind: 'fail', how })
const allocateJob = (byteLength: number): AllocateJob => ({ kind: 'allocate', byteLength })

describe('a job', () => {
  test('is answered with plain data, and its result stands in the scratch until it is released', async () => {
    const { pool, memory } = open()
    expect(await echo(pool, { a: [1n, 'x', null] })).toEqual({ a: [1n, 'x', null] })
    const job: FillJob = { kind: 'fill', pattern: 0xab, roundCount: 1 }
    const { result, scratch, release } = await pool.run<Slice>(job, { scratchByteLength: 3 * run })
    expect(result).toEqual(scratch)
    expect(memory.arenas.statistics().byteLengthUsed).toBe(3 * run)
    const bytes = new Uint8Array(memory.memory.buffer, scratch.byteOffset, scratch.byteLength)
    expect(bytes.every((byte) => byte === 0xab)).toBe(true)
    release()
    expect(memory.arenas.statistics().byteLengthUsed).toBe(0)
  })

  test('gives back the end of its scratch first, where its result needs only the beginning', async () => {
    const place = open()
    const { keepFirst, release } = await place.pool.run({ kind: 'echo' }, { scratchByteLength: 5 * run })
    keepFirst(run + 1)
    expect(place.memory.arenas.statistics().byteLengthUsed).toBe(2 * run)
    release()
    await expectAllFree(place)
    const other = await place.pool.run({ kind: 'echo' }, { scratchByteLength: run })
    other.keepFirst(0)
    expect(place.memory.arenas.statistics().byteLengthUsed).toBe(0)
    other.release()
    await expectAllFree(place)
  })

  test('that answers with a list, also of what an answer about a failure is made of, is done', async () => {
    const place = open()
    for (const list of [[], [1, 2 ** 40, -0.5], [{ ok: false, error: 'text' }, { needBytes: 1 }], ['needBytes']])
      expect(await echo(place.pool, list)).toEqual(list)
    expect(place.pool.statistics()).toMatchObject({ jobDoneCount: 4, jobFailedCount: 0, jobRetryCount: 0 })
    await expectAllFree(place)
  })

  test('may be told as a list of parts', async () => {
    const place = open()
    const parts = ['text', 2 ** 52, 3n, null, [0.5, 7], { a: 1 }, Uint32Array.of(5)]
    const job: EchoPartsJob = { kind: 'echoParts', parts }
    const { result, scratch, release } = await place.pool.run(job, { scratchByteLength: run })
    expect(result).toEqual({ kind: 'echoParts', parts, scratch })
    release()
    await expectAllFree(place)
  })

  test('may need no memory at all', async () => {
    const place = open()
    const { scratch, release } = await place.pool.run({ kind: 'echo' }, { scratchByteLength: 0 })
    expect(scratch.byteLength).toBe(0)
    release()
    await expectAllFree(place)
  })

  test('that needs more memory is sent again with more, as often as it takes', async () => {
    const place = open()
    const job = allocateJob(5 * MiB)
    const { scratch, release } = await place.pool.run<number>(job, { scratchByteLength: run })
    expect(scratch.byteLength).toBeGreaterThanOrEqual(5 * MiB)
    expect(place.pool.statistics().jobRetryCount).toBe(1)
    release()
    await expectAllFree(place)
  })

  test('that needs more memory than there is fails with a typed error', async () => {
    const place = open()
    const job = allocateJob(64 * MiB)
    expect(await codeOf(place.pool.run(job, { scratchByteLength: run }))).toBe('MEMORY_BUDGET')
    expect(await codeOf(place.pool.run({ kind: 'echo' }, { scratchByteLength: 64 * MiB }))).toBe('MEMORY_BUDGET')
    await expectWhole(place)
  })

  test('fails with the typed error of its handler', async () => {
    const place = open()
    const fail = (how: FailJob['how']) => failureOf(place.pool.run(failJob(how), { scratchByteLength: run }))
    const error = await fail('framesError')
    expect([error.code, error.message]).toEqual([
      'TABLE_NOT_FOUND',
      'no table of this name. Check its name and container, or make it: with create, or in kv and csv by writing to it.',
    ])
    expect((await fail('promise')).code).toBe('TABLE_EXISTS')
    expect(place.events).toEqual([])
    await expectWhole(place)
  })

  test('that fails by a mistake of ours says so in the log, and to the caller only that', async () => {
    const place = open()
    for (const how of ['assertion', 'error', 'notAnError'] as const) {
      const error = await failureOf(place.pool.run(failJob(how), { scratchByteLength: run }))
      expect(error.code).toBe('INTERNAL')
      expect(error.message).not.toMatch(/secret|right|text|\.js/)
    }
    expect(await codeOf(place.pool.run({ kind: 'noSuchKind' }, { scratchByteLength: run }))).toBe('INTERNAL')
    const stacks = place.events.map((event) => (event.event === 'jobFault' ? event.fault.stack : event.event))
    expect(stacks[0]).toMatch(/AssertionFailed.*this job is right/)
    expect(stacks[1]).toMatch(/a secret of the worker/)
    expect(stacks[2]).toBe('a text')
    expect(place.pool.statistics()).toMatchObject({ trapCount: 0, workerDeathCount: 0, jobFailedCount: 4 })
    await expectWhole(place)
  })

  test('that cannot be sent fails alone', async () => {
    const place = open()
    const job: EchoJob = { kind: 'echo', value: () => 1 }
    expect(await codeOf(place.pool.run(job, { scratchByteLength: run }))).toBe('INTERNAL')
    expect(place.pool.statistics().workerDeathCount).toBe(0)
    await expectWhole(place)
  })

  test('of the diagnostics is refused unless they are allowed', async () => {
    const { pool } = open({ diagnostics: false })
    expect(await codeOf(echo(pool))).toBe('INTERNAL')
  })
})

describe('cancelling', () => {
  test('a running job answers at once, and frees its memory when the worker has finished', async () => {
    const place = open()
    const controller = new AbortController()
    const job: SleepJob = { ...sleep, writeMs: 50 }
    const failed = codeOf(place.pool.run(job, { scratchByteLength: run, signal: controller.signal }))
    await until(() => place.pool.statistics().runningCount === 1)
    await echo(place.pool)
    controller.abort()
    expect(await failed).toBe('CANCELLED')
    // The worker still writes: the slice is not free.
    expect(place.memory.arenas.statistics().allocationCount).toBe(1)
    await expectWhole(place)
    expect(place.pool.statistics()).toMatchObject({ workerDeathCount: 0, jobCancelledCount: 1 })
  })

  test('a waiting job removes it from the queue', async () => {
    const place = open({ workerCount: 1 })
    const first = new AbortController()
    const second = new AbortController()
    const running = codeOf(place.pool.run(sleep, { scratchByteLength: run, signal: first.signal }))
    const queued = codeOf(place.pool.run(sleep, { scratchByteLength: run, signal: second.signal }))
    await until(() => place.pool.statistics().runningCount === 1)
    expect(place.pool.statistics().queueCount).toBe(1)
    second.abort()
    expect(await queued).toBe('CANCELLED')
    expect(place.pool.statistics()).toMatchObject({ queueCount: 0, runningCount: 1 })
    first.abort()
    expect(await running).toBe('CANCELLED')
    await expectWhole(place, 1)
  })

  test('a job that waits for memory lets the next one have it', async () => {
    const place = open()
    const whole = place.memory.arenas.tryAllocate(place.memory.arenas.slice.byteLength - run, { urgent: true })!
    const controller = new AbortController()
    const options = { scratchByteLength: 2 * run, signal: controller.signal }
    const waiting = codeOf(place.pool.run({ kind: 'echo' }, options))
    const next = echo(place.pool, 'next')
    await until(() => place.pool.statistics().isWaitingForMemory)
    controller.abort()
    expect(await waiting).toBe('CANCELLED')
    expect(await next).toBe('next')
    place.memory.arenas.free(whole)
    await expectWhole(place)
  })

  test('a request ends all of its jobs, however many, with one signal', async () => {
    const place = open()
    const warnings: Error[] = []
    const onWarning = (warning: Error) => warnings.push(warning)
    process.on('warning', onWarning)
    const controller = new AbortController()
    const options = { scratchByteLength: run, signal: controller.signal }
    const codes = Array.from({ length: 100 }, () => codeOf(place.pool.run(sleep, options)))
    await until(() => place.pool.statistics().runningCount === 2)
    controller.abort()
    expect(new Set(await Promise.all(codes))).toEqual(new Set(['CANCELLED']))
    await expectWhole(place)
    process.off('warning', onWarning)
    expect(warnings).toEqual([])
  })

  test('gives the reason of the signal when that is a typed error', async () => {
    const place = open()
    const controller = new AbortController()
    const options = { scratchByteLength: run, signal: controller.signal }
    const failed = codeOf(place.pool.run(sleep, options))
    controller.abort(new FramesError('SHUTTING_DOWN', 'the session ends'))
    expect(await failed).toBe('SHUTTING_DOWN')
    await expectWhole(place)
  })

  test('before the job is sent fails without sending it', async () => {
    const place = open()
    expect(await codeOf(place.pool.run(sleep, { scratchByteLength: run, signal: AbortSignal.abort() }))).toBe(
      'CANCELLED',
    )
    const deadlineMs = Date.now() - 1
    expect(await codeOf(place.pool.run(sleep, { scratchByteLength: run, deadlineMs }))).toBe('DEADLINE_EXCEEDED')
    await expectAllFree(place)
  })

  test('happens by itself when the deadline passes, for running and waiting jobs', async () => {
    const place = open({ workerCount: 1 })
    const deadlineMs = Date.now() + 100
    const codes = [1, 2, 3].map(() => codeOf(place.pool.run(sleep, { scratchByteLength: run, deadlineMs })))
    expect(await Promise.all(codes)).toEqual(new Array(3).fill('DEADLINE_EXCEEDED'))
    expect(place.pool.statistics()).toMatchObject({ jobExpiredCount: 3, workerDeathCount: 0 })
    await expectWhole(place, 1)
  })
})

describe('the queue', () => {
  test('is bounded: one job more is refused with a typed error', async () => {
    const place = open({ workerCount: 1, queueCountMax: 3 })
    const controller = new AbortController()
    const options = { scratchByteLength: run, signal: controller.signal }
    const running = codeOf(place.pool.run(sleep, options))
    await until(() => place.pool.statistics().runningCount === 1)
    const queued = [1, 2, 3].map((value) => echo(place.pool, value))
    expect(await codeOf(echo(place.pool))).toBe('QUEUE_FULL')
    controller.abort()
    expect(await running).toBe('CANCELLED')
    expect(await Promise.all(queued)).toEqual([1, 2, 3])
    expect(place.pool.statistics().jobRefusedCount).toBe(1)
    await expectWhole(place, 1)
  })

  test('holds no memory: only jobs that have a worker do', async () => {
    const place = open({ workerCount: 1, byteLength: 8 * MiB })
    const jobs = Array.from({ length: 200 }, (_, value) => echo(place.pool, value))
    expect(await Promise.all(jobs)).toEqual(Array.from({ length: 200 }, (_, value) => value))
    // One job with its worker, and the results that callers have not released yet.
    expect(place.memory.arenas.statistics().byteLengthUsedMax).toBeLessThanOrEqual(4 * run)
    await expectAllFree(place)
  })

  test('goes on when frames that wait for a job have filled all the memory that they may use', async () => {
    const place = open()
    const { arenas } = place.memory
    const frames: Slice[] = []
    for (let frame = arenas.tryAllocate(run); frame !== null; frame = arenas.tryAllocate(run)) frames.push(frame)
    expect(await Promise.all([1, 2, 3, 4].map((value) => echo(place.pool, value)))).toEqual([1, 2, 3, 4])
    for (const frame of frames) arenas.free(frame)
    await expectAllFree(place)
  })

  test('gives a job to the worker that it asks for, or to another one while that is at work', async () => {
    const place = open()
    await until(() => place.pool.statistics().workerCount === 2)
    const controller = new AbortController()
    const options = { scratchByteLength: run, signal: controller.signal, worker: 1 }
    const idle = () => [0, 1, 2].map((worker) => place.pool.isIdle(worker))
    expect(idle()).toEqual([true, true, false])
    const first = codeOf(place.pool.run(sleep, options))
    expect(idle()).toEqual([true, false, false])
    const second = codeOf(place.pool.run(sleep, options))
    expect(idle()).toEqual([false, false, false])
    controller.abort()
    expect([await first, await second]).toEqual(['CANCELLED', 'CANCELLED'])
    await expectWhole(place)
  })

  test('waits for memory in order, and goes on when it comes free', async () => {
    const place = open({ workerCount: 1 })
    const { arenas } = place.memory
    const whole = arenas.tryAllocate(arenas.slice.byteLength, { urgent: true })!
    const order: number[] = []
    const jobs = [3, 2, 1].map(async (runCount, index) => {
      const { release } = await place.pool.run({ kind: 'echo' }, { scratchByteLength: runCount * run })
      order.push(index)
      release()
    })
    await until(() => place.pool.statistics().isWaitingForMemory)
    arenas.free(whole)
    await Promise.all(jobs)
    expect(order).toEqual([0, 1, 2])
    await expectWhole(place, 1)
  })
})

describe('a worker that dies', () => {
  const die = (pool: Pool, kind: string) => codeOf(pool.run({ kind }, { scratchByteLength: 2 * run }))

  test.each(['exit', 'exhaustHeap', 'throwInstead'])(
    'by %s fails its job with a typed error and is replaced',
    async (kind) => {
      const place = open()
      expect(await die(place.pool, kind)).toBe('WORKER_DIED')
      await expectWhole(place)
      expect(place.pool.statistics()).toMatchObject({ workerDeathCount: 1, trapCount: 0 })
      expect(place.events).toMatchObject([{ event: 'workerDied', jobKind: kind }])
    },
  )

  test('without a job is replaced all the same', async () => {
    const place = open()
    const { release } = await place.pool.run({ kind: 'throwLater' }, { scratchByteLength: run })
    release()
    await until(() => place.pool.statistics().workerDeathCount === 1)
    expect(place.events).toMatchObject([{ event: 'workerDied', jobKind: null }])
    await expectWhole(place)
  })

  test('by a result that is not plain data fails its job with a typed error and is replaced', async () => {
    const place = open()
    expect(await codeOf(place.pool.run(failJob('unclonable'), { scratchByteLength: run }))).toBe('WORKER_DIED')
    await expectWhole(place)
  })

  test('holds its memory until it has really exited', async () => {
    const place = open({ workerCount: 1 })
    const usedWhenTold = place.pool.run({ kind: 'throwInstead' }, { scratchByteLength: run }).then(
      () => -1,
      () => place.memory.arenas.statistics().byteLengthUsed,
    )
    expect(await usedWhenTold).toBe(run)
    await expectWhole(place, 1)
  })

  test('because its job does not stop when it is cancelled is replaced', async () => {
    const place = open({ jobCancelMsMax: 50 })
    const controller = new AbortController()
    const failed = codeOf(place.pool.run(sleepAndHang, { scratchByteLength: run, signal: controller.signal }))
    await until(() => place.pool.statistics().runningCount === 1)
    controller.abort()
    expect(await failed).toBe('CANCELLED')
    expect(place.memory.arenas.statistics().allocationCount).toBe(1)
    await until(() => place.pool.statistics().workerDeathCount === 1)
    expect(place.events).toMatchObject([{ event: 'jobStuck', jobKind: 'sleepUntilCancelled' }])
    await expectWhole(place)
  })

  test('by a trap of a kernel is counted, told apart, and replaced', async () => {
    const place = open()
    await until(() => place.pool.statistics().workerCount === 2)
    expect(await die(place.pool, 'trap')).toBe('INTERNAL')
    expect(place.pool.statistics()).toMatchObject({ trapCount: 1, workerCount: 1 })
    await expectWhole(place)
    expect(place.pool.statistics()).toMatchObject({ trapCount: 1, workerDeathCount: 0 })
    expect(place.events).toMatchObject([{ event: 'jobFault', jobKind: 'trap', fault: { isTrap: true } }])
  })

  test('takes nobody with it: jobs in other workers and in the queue go on', async () => {
    const place = open()
    const controller = new AbortController()
    const options = { scratchByteLength: run, signal: controller.signal }
    const other = codeOf(place.pool.run(sleep, options))
    await until(() => place.pool.statistics().runningCount === 1)
    const dying = die(place.pool, 'exit')
    const queued = Array.from({ length: 20 }, (_, value) => echo(place.pool, value))
    expect(await dying).toBe('WORKER_DIED')
    expect(await Promise.all(queued)).toEqual(Array.from({ length: 20 }, (_, value) => value))
    expect(place.pool.statistics().runningCount).toBe(1)
    controller.abort()
    expect(await other).toBe('CANCELLED')
    await expectWhole(place)
  })

  test('after its job was cancelled frees the memory all the same', async () => {
    const place = open({ workerCount: 1 })
    const controller = new AbortController()
    const job: Job = { kind: 'throwInstead' }
    const failed = codeOf(place.pool.run(job, { scratchByteLength: run, signal: controller.signal }))
    controller.abort()
    expect(await failed).toBe('CANCELLED')
    await expectWhole(place, 1)
  })

  test('200 times in a row leaves a pool that is whole', { timeout: 300_000 }, async () => {
    const place = open()
    const kinds = ['exit', 'trap', 'throwInstead', 'exit']
    for (let death = 0; death < 200; death += 4) {
      await Promise.all(kinds.map((kind) => die(place.pool, kind)))
    }
    await expectWhole(place)
    expect(place.pool.statistics()).toMatchObject({ trapCount: 50, workerDeathCount: 150, jobFailedCount: 200 })
  })
})

describe('a reader of a store', () => {
  // A reader that says how many jobs it has seen begin, and notes its end.
  const readerSource = `
    import { appendFileSync } from 'node:fs'
    export function openReader({ path }) {
      let jobCount = 0
      return {
        path,
        beginJob: () => { jobCount++ },
        endJob: () => appendFileSync(path, 'ended '),
        get: (partition, key) => partition === 'none' ? null : Uint8Array.of(jobCount, ...key),
        close: () => appendFileSync(path, 'closed '),
      }
    }`

  test('is opened once a worker, begins and ends every job, and is closed with the pool', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'framesd-pool-'))
    const readerModule = pathToFileURL(join(folder, 'reader.mjs'))
    await writeFile(readerModule, readerSource)
    const place = open({ workerCount: 1, readerModule })
    const notes = join(folder, 'notes')
    const read = async (partition: string) => {
      const access = { driver: 'lmdb', path: notes } as const
      const job: ReadJob = { kind: 'read', access, partition, key: Uint8Array.of(7) }
      return (await place.pool.run<Uint8Array | null>(job, { scratchByteLength: 0 })).result
    }
    expect(await read('table')).toEqual(Uint8Array.of(1, 7))
    expect(await read('none')).toBeNull()
    expect(await read('table')).toEqual(Uint8Array.of(3, 7))
    await place.pool.close()
    expect(await readFile(notes, 'utf8')).toBe('ended ended ended closed ')
    await rm(folder, { recursive: true })
  })
})

describe('workers that cannot start', () => {
  test('are tried again, and those who wait are told when none comes', async () => {
    const place = open({ readerModule: new URL('file:///no/such/module.js') })
    const codes = await Promise.all([1, 2, 3].map(() => codeOf(echo(place.pool))))
    expect(codes).toEqual(new Array(3).fill('WORKER_DIED'))
    expect(place.events.filter((event) => event.event === 'workerStartFailed').length).toBeGreaterThan(2)
    await expectAllFree(place)
  })

  test('are whole again when what kept them from starting is gone', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'framesd-pool-'))
    const readerModule = pathToFileURL(join(folder, 'reader.mjs'))
    const place = open({ readerModule })
    await until(() => place.events.filter((event) => event.event === 'workerStartFailed').length === 3)
    expect(place.pool.statistics().workerCount).toBe(0)
    await writeFile(readerModule, 'export function openReader() {}')
    await expectWhole(place)
    await rm(folder, { recursive: true })
  })
})

describe('closing', () => {
  test('lets running jobs finish, refuses those that wait and those that come', async () => {
    const place = open({ workerCount: 1 })
    const fill: FillJob = { kind: 'fill', pattern: 7, roundCount: 20 }
    const running = place.pool.run<Slice>(fill, { scratchByteLength: MiB })
    await until(() => place.pool.statistics().runningCount === 1)
    const queued = codeOf(echo(place.pool))
    const closed = place.pool.close()
    expect(await codeOf(echo(place.pool))).toBe('SHUTTING_DOWN')
    expect(await queued).toBe('SHUTTING_DOWN')
    const { release } = await running
    release()
    await closed
    await expectAllFree(place)
  })

  test('cancels what runs too long, and ends what does not stop', async () => {
    const place = open()
    const stoppable = codeOf(place.pool.run(sleep, { scratchByteLength: run }))
    const endless = codeOf(place.pool.run(sleepAndHang, { scratchByteLength: run }))
    await until(() => place.pool.statistics().runningCount === 2)
    await place.pool.close({ graceMs: 10 })
    expect(await stoppable).toBe('CANCELLED')
    expect(await endless).toBe('SHUTTING_DOWN')
    await expectAllFree(place)
  })
})

describe('memory under load', () => {
  test('is never shared: while workers write, are cancelled and die, every owner finds its own bytes', {
    timeout: 300_000,
  }, async () => {
    const random = new SeededRandom(seed)
    // So little that owners wait for memory all the time.
    const place = open({ byteLength: 8 * MiB })
    const { arenas, memory } = place.memory
    const bytesOf = (slice: Slice) => new Uint8Array(memory.buffer, slice.byteOffset, slice.byteLength)
    const randomLength = () => random.integer(1, 16 * run)
    const counts = { checked: 0, cancelled: 0, died: 0 }
    const expectOwn = (slice: Slice, pattern: number) => {
      for (const byte of bytesOf(slice)) if (byte !== pattern) throw new Error(`found ${byte}, not ${pattern}`)
      counts.checked++
    }

    /** Fills a slice in a worker, lets others run, and finds it as it was. */
    const inWorker = async (pattern: number) => {
      const job: FillJob = { kind: 'fill', pattern, roundCount: random.integer(1, 4) }
      const { scratch, release } = await place.pool.run(job, { scratchByteLength: randomLength() })
      if (random.chance(0.5)) await new Promise((resolve) => setImmediate(resolve))
      expectOwn(scratch, pattern)
      release()
    }
    /** The same on the main thread, as frames that arrive. */
    const onMainThread = async (pattern: number) => {
      const slice = await arenas.allocate(randomLength())
      bytesOf(slice).fill(pattern)
      await new Promise((resolve) => setTimeout(resolve, random.integer(0, 3)))
      expectOwn(slice, pattern)
      arenas.free(slice)
    }
    /** Grows its scratch on the way. */
    const growing = async (pattern: number) => {
      const job = allocateJob(randomLength())
      const { scratch, release } = await place.pool.run(job, { scratchByteLength: run })
      bytesOf(scratch).fill(pattern)
      await new Promise((resolve) => setImmediate(resolve))
      expectOwn(scratch, pattern)
      release()
    }
    /** Writes on for a while after its caller has gone. */
    const cancelled = async () => {
      const signal = AbortSignal.timeout(random.integer(0, 10))
      const options = { scratchByteLength: randomLength(), signal }
      const job: SleepJob = { ...sleep, writeMs: 3 }
      expect(await codeOf(place.pool.run(job, options))).toBe('CANCELLED')
      counts.cancelled++
    }
    const died = async () => {
      const job: Job = { kind: random.chance(0.5) ? 'exit' : 'throwInstead' }
      expect(await codeOf(place.pool.run(job, { scratchByteLength: randomLength() }))).toBe('WORKER_DIED')
      counts.died++
    }
    const step = (pattern: number): Promise<void> => {
      const choice = random.next()
      if (choice < 0.02) return died()
      if (choice < 0.12) return cancelled()
      if (choice < 0.3) return growing(pattern)
      return choice < 0.6 ? onMainThread(pattern) : inWorker(pattern)
    }
    await Promise.all(
      Array.from({ length: 16 }, async (_, owner) => {
        for (let count = 0; count < 60; count++) await step(1 + ((owner * 60 + count) % 200))
      }),
    )
    expect(counts.checked + counts.cancelled + counts.died).toBe(960)
    expect(place.pool.statistics()).toMatchObject({ workerDeathCount: counts.died, trapCount: 0 })
    expect(new Set(place.events.map(({ event }) => event))).toEqual(new Set(counts.died > 0 ? ['workerDied'] : []))
    await expectWhole(place)
  })
})
