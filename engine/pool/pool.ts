// The worker pool: jobs wait in one bounded queue, get their scratch when a worker is free, and are sent to it. A worker
// that dies fails only its own job and is replaced.
//
//   run ──► queue ──► scratch (arenas) ──► worker ──► result in scratch ──► release
//             │           │                  │
//           cancel:     cancel:        cancel: word set, caller told at once,
//           removed     not waited     scratch freed when the worker has finished
//
// Piscina starts, feeds and replaces the threads. The queue is ours: Piscina cannot know that a job waits for memory, and
// its abort signal kills the worker.
import { availableParallelism } from 'node:os'
import type { Worker } from 'node:worker_threads'
import { Piscina, queueOptionsSymbol } from 'piscina'
import { assert } from '../assert.js'
import { FramesError, fromErrorMessage } from '../errors.js'
import { compileKernels } from '../kernels/kernels.js'
import {
  jobQueueCountMax,
  jobRetryCountMax,
  MiB,
  poolCloseGraceMs,
  workerCountDefaultMax,
  workerHeapByteLengthMax,
} from '../limits.js'
import type { SharedMemory } from '../memory/shared-memory.js'
import { emptySlice, type Slice } from '../memory/slice.js'
import type { WorkerStart } from './context.js'
import type { Job, JobFault, JobOutcome, SentJob } from './job.js'

export interface PoolOptions {
  /** One pool a memory: it owns the control run. */
  readonly memory: SharedMemory
  /** Default: one a core, up to 8. */
  readonly workerCount?: number
  readonly queueCountMax?: number
  /** The module that exports openReader (a ReaderModule), for jobs that read a store. */
  readonly readerModule?: URL
  /** Allows the jobs of diagnostics.ts, which kill and hang workers. */
  readonly diagnostics?: boolean
  readonly workerHeapByteLengthMax?: number
  /** Told what belongs in the log. */
  readonly onEvent?: (event: PoolEvent) => void
}

export type PoolEvent =
  /** A job failed by a mistake of ours. */
  | { readonly event: 'jobFault'; readonly jobKind: string; readonly fault: JobFault }
  /** A worker ended that should not have. */
  | { readonly event: 'workerDied'; readonly jobKinds: readonly string[]; readonly reason: string }
  /** A new worker ended before it was ready; another is started after retryMs. */
  | { readonly event: 'workerStartFailed'; readonly reason: string; readonly retryMs: number }

export interface RunOptions {
  /** Memory for the job and its result; 0 for none. Grows by itself when the job says that it needs more. */
  readonly scratchByteLength: number
  readonly signal?: AbortSignal
  /** When the result is no longer wanted, in ms since 1970 as Date.now(); Infinity for never. */
  readonly deadlineMs?: number
}

export interface JobResult<R> {
  readonly result: R
  /** Where the result stands, if it is not in `result` itself. */
  readonly scratch: Slice
  /** Gives the scratch back; to be called once, when the result has been used. */
  release(): void
}

/** Counts since the start, unless they say "now". */
export interface PoolStatistics {
  /** Workers that can take jobs now. */
  readonly workerCount: number
  /** Jobs in workers now, also those whose callers have gone. */
  readonly runningCount: number
  /** Jobs that wait for a worker or for memory now. */
  readonly queueCount: number
  /** 1 when the first of the queue waits for memory now, else 0. */
  readonly memoryWaiterCount: number
  readonly jobDoneCount: number
  readonly jobFailedCount: number
  readonly jobCancelledCount: number
  readonly jobExpiredCount: number
  /** Jobs refused because the queue was full. */
  readonly jobRefusedCount: number
  /** Jobs sent again with more memory. */
  readonly jobRetryCount: number
  /** Kernels that trapped; each cost its worker. */
  readonly trapCount: number
  /** Workers that ended by themselves: full heap, process.exit, uncaught error. */
  readonly workerDeathCount: number
}

export interface Pool {
  /**
   * Sends a job to a worker and resolves with what its handler returned; the caller then owns the scratch.
   *
   * Fails with what the handler threw, QUEUE_FULL, MEMORY_BUDGET, CANCELLED (the signal's reason, if that is a FramesError),
   * DEADLINE_EXCEEDED, WORKER_DIED, SHUTTING_DOWN, or INTERNAL for a mistake of ours.
   */
  run<R>(job: Job, options: RunOptions): Promise<JobResult<R>>
  statistics(): PoolStatistics
  /** Refuses what waits, lets running jobs finish for graceMs, then cancels them and ends the workers. */
  close(options?: { graceMs?: number }): Promise<void>
}

export function openPool(options: PoolOptions): Pool {
  return new WorkerPool(options)
}

/** A job from its arrival to the moment that its worker is done with it. */
interface Request {
  readonly job: Job
  scratchByteLength: number
  retryCount: number
  scratch: Slice
  /** False once the caller has its answer; a worker may still be at it. */
  isWanted: boolean
  /** In a worker: the byte offset of its cancel word. */
  cancelWord: number | null
  resolve(result: JobResult<unknown>): void
  reject(error: FramesError): void
}

/** A thread that Piscina runs for us. */
interface PoolWorker {
  readonly thread: Worker
  readonly threadId: number
  /** One job at a time: a job behind another would die with it, and wait for it while other workers idle. */
  request: Request | null
  /** True when it takes no more jobs: trapped, failed, or exited. */
  isEnding: boolean
  readonly exited: Promise<void>
}

/** Travels with a Piscina task, on this thread only, and tells the balancer where it belongs. */
type TaskTarget = { readonly worker: PoolWorker } | { isPosted: boolean }

/** Cancel words stand a cache line apart, so that testing one does not slow the neighbours. */
const cancelWordStride = 64
const startRetryMsMin = 50
const startRetryMsMax = 5_000
/** So many starts in a row must fail, with no worker left, before those who wait are told. */
const startFailureCountMax = 3

class WorkerPool implements Pool {
  readonly #memory: SharedMemory
  readonly #words: Int32Array
  readonly #workerCount: number
  readonly #queueCountMax: number
  readonly #onEvent: (event: PoolEvent) => void
  readonly #piscina: Piscina<unknown, JobOutcome>

  readonly #queue: Request[] = []
  /** Set while the first of the queue waits for memory. */
  #memoryWait: { readonly request: Request; readonly controller: AbortController } | null = null
  readonly #workers = new Set<PoolWorker>()
  readonly #running = new Set<Request>()
  readonly #cancelWordsFree: number[] = []

  #isClosing = false
  #onDrained: (() => void) | null = null
  #closed: Promise<void> | null = null
  #startFailureCount = 0
  #startRetry: NodeJS.Timeout | null = null

  #jobDoneCount = 0
  #jobFailedCount = 0
  #jobCancelledCount = 0
  #jobExpiredCount = 0
  #jobRefusedCount = 0
  #jobRetryCount = 0
  #trapCount = 0
  #workerDeathCount = 0

  constructor(options: PoolOptions) {
    const { memory } = options
    this.#memory = memory
    this.#words = new Int32Array(memory.memory.buffer)
    this.#workerCount = options.workerCount ?? Math.max(1, Math.min(availableParallelism(), workerCountDefaultMax))
    this.#queueCountMax = options.queueCountMax ?? jobQueueCountMax
    this.#onEvent = options.onEvent ?? (() => {})
    const { control } = memory
    for (let offset = control.byteLength - cancelWordStride; offset >= 0; offset -= cancelWordStride) {
      this.#cancelWordsFree.push(control.byteOffset + offset)
    }
    const workerStart: WorkerStart = {
      memory: memory.memory,
      kernels: compileKernels(),
      readerModule: options.readerModule?.href ?? null,
      diagnostics: options.diagnostics ?? false,
    }
    this.#piscina = new Piscina({
      filename: new URL('./worker.js', import.meta.url).href,
      minThreads: this.#workerCount,
      maxThreads: this.#workerCount,
      concurrentTasksPerWorker: 1,
      atomics: 'sync',
      recordTiming: false,
      workerData: workerStart,
      resourceLimits: {
        maxOldGenerationSizeMb: (options.workerHeapByteLengthMax ?? workerHeapByteLengthMax) / MiB,
      },
      loadBalancer: (task, workers) => {
        const target = task[queueOptionsSymbol] as TaskTarget
        // A task that asks for a new worker finds none when it is posted; later any will do.
        if ('isPosted' in target) return target.isPosted ? (workers[0] ?? null) : null
        const found = workers.find((worker) => worker.id === target.worker.threadId)
        assert(found !== undefined, 'a worker that can take jobs is known to Piscina')
        return found
      },
    })
    this.#piscina.on('workerCreate', ({ id }: { id: number }) => this.#addWorker(id))
    // Piscina emits this before it has settled what it does next.
    this.#piscina.on('workerDestroy', () => setImmediate(() => this.#replaceWorkers()))
    // An error of a worker without a job: its exit tells the same.
    this.#piscina.on('error', (error: Error) => {
      this.#startFailure = error
    })
  }

  /** Why the last worker without a job ended. */
  #startFailure: Error | null = null

  run<R>(job: Job, { scratchByteLength, signal, deadlineMs = Infinity }: RunOptions): Promise<JobResult<R>> {
    return new Promise((resolve, reject) => {
      if (this.#isClosing) throw new FramesError('SHUTTING_DOWN', 'the worker pool is closed')
      if (signal?.aborted) throw this.#count(cancellation(signal))
      const waitMs = deadlineMs - Date.now()
      if (waitMs <= 0) throw this.#count(expiry())
      if (this.#queue.length >= this.#queueCountMax) {
        this.#jobRefusedCount++
        throw new FramesError('QUEUE_FULL', `${this.#queue.length} jobs wait for a worker already`)
      }
      const onAbort = () => this.#abandon(request, cancellation(signal!))
      signal?.addEventListener('abort', onAbort)
      const timer = waitMs === Infinity ? null : setTimeout(() => this.#abandon(request, expiry()), clampMs(waitMs))
      const leave = () => {
        request.isWanted = false
        signal?.removeEventListener('abort', onAbort)
        if (timer !== null) clearTimeout(timer)
      }
      const request: Request = {
        job,
        scratchByteLength,
        retryCount: 0,
        scratch: emptySlice,
        isWanted: true,
        cancelWord: null,
        resolve: (result) => {
          leave()
          this.#jobDoneCount++
          resolve(result as JobResult<R>)
        },
        reject: (error) => {
          leave()
          reject(this.#count(error))
        },
      }
      this.#queue.push(request)
      this.#dispatch()
    })
  }

  statistics(): PoolStatistics {
    let workerCount = 0
    for (const worker of this.#workers) if (!worker.isEnding) workerCount++
    return {
      workerCount,
      runningCount: this.#running.size,
      queueCount: this.#queue.length,
      memoryWaiterCount: this.#memoryWait === null ? 0 : 1,
      jobDoneCount: this.#jobDoneCount,
      jobFailedCount: this.#jobFailedCount,
      jobCancelledCount: this.#jobCancelledCount,
      jobExpiredCount: this.#jobExpiredCount,
      jobRefusedCount: this.#jobRefusedCount,
      jobRetryCount: this.#jobRetryCount,
      trapCount: this.#trapCount,
      workerDeathCount: this.#workerDeathCount,
    }
  }

  close({ graceMs = poolCloseGraceMs }: { graceMs?: number } = {}): Promise<void> {
    this.#closed ??= this.#close(graceMs)
    return this.#closed
  }

  async #close(graceMs: number): Promise<void> {
    this.#isClosing = true
    if (this.#startRetry !== null) clearTimeout(this.#startRetry)
    for (const request of [...this.#queue]) this.#abandon(request, new FramesError('SHUTTING_DOWN', 'the server stops'))
    await this.#drained(graceMs)
    for (const request of this.#running) this.#cancelRunning(request)
    await this.#drained(1000)
    const idle = [...this.#workers].filter((worker) => !worker.isEnding && worker.request === null)
    await Promise.allSettled(idle.map((worker) => this.#post({}, worker, 'closeReaders')))
    const exits = [...this.#workers].map((worker) => {
      worker.isEnding = true
      return worker.exited
    })
    await this.#piscina.destroy()
    await Promise.all(exits)
  }

  /** Waits until no job is in a worker, or waitMs. */
  #drained(waitMs: number): Promise<void> {
    if (this.#running.size === 0) return Promise.resolve()
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, clampMs(waitMs))
      this.#onDrained = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }

  /** Sends waiting jobs to free workers, in order, as far as memory goes. */
  #dispatch(): void {
    while (this.#memoryWait === null && this.#cancelWordsFree.length > 0) {
      const request = this.#queue[0]
      const worker = this.#freeWorker()
      if (request === undefined || worker === null) return
      if (request.scratch === emptySlice) {
        const scratch = this.#memory.arenas.tryAllocate(request.scratchByteLength)
        if (scratch === null) {
          void this.#waitForMemory(request)
          return
        }
        request.scratch = scratch
      }
      this.#queue.shift()
      this.#start(request, worker)
    }
  }

  #freeWorker(): PoolWorker | null {
    for (const worker of this.#workers) if (!worker.isEnding && worker.request === null) return worker
    return null
  }

  async #waitForMemory(request: Request): Promise<void> {
    const controller = new AbortController()
    this.#memoryWait = { request, controller }
    try {
      const scratch = await this.#memory.arenas.allocate(request.scratchByteLength, { signal: controller.signal })
      if (request.isWanted) request.scratch = scratch
      else this.#memory.arenas.free(scratch)
    } catch (error) {
      assert(error instanceof FramesError, 'memory is refused with a FramesError')
      if (request.isWanted) this.#abandon(request, error)
    } finally {
      this.#memoryWait = null
    }
    this.#dispatch()
  }

  #start(request: Request, worker: PoolWorker): void {
    const cancelWord = this.#cancelWordsFree.pop()!
    request.cancelWord = cancelWord
    Atomics.store(this.#words, cancelWord >> 2, 0)
    worker.request = request
    this.#running.add(request)
    const sent: SentJob = { ...request.job, scratch: request.scratch, cancelWord }
    this.#post(sent, worker).then(
      (outcome) => this.#finish(request, worker, outcome),
      (error: unknown) => this.#fail(request, worker, error),
    )
  }

  #post(task: object, worker: PoolWorker, name = 'default'): Promise<JobOutcome> {
    const target: TaskTarget = { worker }
    return this.#piscina.run({ ...task, [queueOptionsSymbol]: target }, { name })
  }

  /** The worker answered: it is done with the request's memory. */
  #finish(request: Request, worker: PoolWorker, outcome: JobOutcome): void {
    if ('fault' in outcome) this.#report(request, worker, outcome.fault)
    if ('ok' in outcome && outcome.ok && request.isWanted) {
      const { scratch } = request
      request.scratch = emptySlice
      request.resolve({ result: outcome.result, scratch, release: () => this.#memory.arenas.free(scratch) })
    } else if ('ok' in outcome && !outcome.ok && request.isWanted) {
      const cause = outcome.fault === undefined ? undefined : new Error(outcome.fault.stack)
      const error = fromErrorMessage(outcome.error)
      if (cause !== undefined) error.cause = cause
      request.reject(error)
    }
    this.#end(request, worker)
    if ('needBytes' in outcome && request.isWanted) this.#retry(request, outcome.needBytes)
    this.#dispatch()
  }

  /** A task failed without an answer: the worker died, or the job could not be sent. */
  #fail(request: Request, worker: PoolWorker, error: unknown): void {
    if (!worker.isEnding) {
      // Structured cloning refused the job.
      const stack = error instanceof Error ? (error.stack ?? error.message) : String(error)
      this.#report(request, worker, { stack, isTrap: false })
      if (request.isWanted) request.reject(new FramesError('INTERNAL', 'internal error', { cause: error }))
      this.#end(request, worker)
      this.#dispatch()
      return
    }
    if (request.isWanted) {
      request.reject(
        this.#isClosing
          ? new FramesError('SHUTTING_DOWN', 'the server stops')
          : new FramesError('WORKER_DIED', `the worker of this job (${request.job.kind}) ended`, { cause: error }),
      )
    }
    // The thread may write into the scratch until it has exited.
    void worker.exited.then(() => {
      this.#end(request, worker)
      this.#dispatch()
    })
  }

  /** No thread knows the request any more: its memory and its worker are free. */
  #end(request: Request, worker: PoolWorker): void {
    assert(worker.request === request, 'a worker ends the job that it has')
    worker.request = null
    this.#memory.arenas.free(request.scratch)
    request.scratch = emptySlice
    this.#cancelWordsFree.push(request.cancelWord!)
    request.cancelWord = null
    this.#running.delete(request)
    if (this.#running.size === 0) this.#onDrained?.()
  }

  #retry(request: Request, needBytes: number): void {
    const { arenas } = this.#memory
    const enough = Math.max(needBytes, Math.min(2 * request.scratchByteLength, arenas.slice.byteLength))
    if (this.#isClosing) {
      request.reject(new FramesError('SHUTTING_DOWN', 'the server stops'))
    } else if (request.retryCount >= jobRetryCountMax) {
      request.reject(
        new FramesError('MEMORY_BUDGET', `a job of kind '${request.job.kind}' keeps asking for more memory`),
      )
    } else {
      request.retryCount++
      request.scratchByteLength = enough
      this.#jobRetryCount++
      // It had its turn; but the first in line may hold memory already, or have asked for it.
      const isFirstServed = this.#memoryWait !== null || (this.#queue[0]?.scratch.byteLength ?? 0) > 0
      this.#queue.splice(isFirstServed ? 1 : 0, 0, request)
    }
  }

  /** The caller gets its answer now, wherever the job is. */
  #abandon(request: Request, error: FramesError): void {
    request.reject(error)
    if (request.cancelWord !== null) {
      this.#cancelRunning(request)
      return
    }
    this.#queue.splice(this.#queue.indexOf(request), 1)
    this.#memory.arenas.free(request.scratch)
    request.scratch = emptySlice
    if (this.#memoryWait?.request === request) this.#memoryWait.controller.abort(error)
    else this.#dispatch()
  }

  #cancelRunning({ cancelWord }: Request): void {
    assert(cancelWord !== null, 'a running job has a cancel word')
    Atomics.store(this.#words, cancelWord >> 2, 1)
    Atomics.notify(this.#words, cancelWord >> 2)
  }

  #report(request: Request, worker: PoolWorker, fault: JobFault | undefined): void {
    if (fault === undefined) return
    this.#onEvent({ event: 'jobFault', jobKind: request.job.kind, fault })
    if (!fault.isTrap) return
    this.#trapCount++
    worker.isEnding = true
    void worker.thread.terminate()
  }

  /** Called by Piscina's event when a thread is ready for jobs (at start: before it is). */
  #addWorker(threadId: number): void {
    const thread = this.#piscina.threads.find((candidate) => candidate.threadId === threadId)
    assert(thread !== undefined, 'a worker that is ready runs')
    const worker: PoolWorker = {
      thread,
      threadId,
      request: null,
      isEnding: false,
      exited: new Promise((resolve) => {
        // Piscina listens first, but settles promises only: these run before anyone learns of it.
        let reason: string | null = null
        thread.once('error', (error: Error) => {
          reason = error.message
          this.#noteDeath(worker, reason)
        })
        thread.once('exit', (code) => {
          if (reason === null) this.#noteDeath(worker, `exit code ${code}`)
          this.#workers.delete(worker)
          resolve()
        })
      }),
    }
    this.#workers.add(worker)
    this.#startFailureCount = 0
    // Piscina counts the worker among those that are ready when this event is over.
    queueMicrotask(() => this.#dispatch())
  }

  #noteDeath(worker: PoolWorker, reason: string): void {
    const isExpected = worker.isEnding || this.#isClosing
    worker.isEnding = true
    if (isExpected) return
    this.#workerDeathCount++
    this.#onEvent({ event: 'workerDied', jobKinds: worker.request === null ? [] : [worker.request.job.kind], reason })
  }

  /**
   * Piscina replaces a worker that ends, but gives up for good when one ends before it is ready. A task that no worker
   * takes makes it try again.
   */
  #replaceWorkers(): void {
    if (this.#isClosing || this.#startRetry !== null || this.#piscina.threads.length >= this.#workerCount) return
    const retryMs = Math.min(startRetryMsMin * 2 ** this.#startFailureCount, startRetryMsMax)
    this.#startFailureCount++
    const reason = this.#startFailure?.message ?? 'unknown'
    this.#onEvent({ event: 'workerStartFailed', reason, retryMs })
    if (this.#startFailureCount >= startFailureCountMax && this.#workers.size === 0) {
      const error = new FramesError('WORKER_DIED', 'no worker can be started', { cause: this.#startFailure })
      for (const request of [...this.#queue]) this.#abandon(request, error)
    }
    this.#startRetry = setTimeout(() => {
      this.#startRetry = null
      const target: TaskTarget = { isPosted: false }
      this.#piscina
        .run({ [queueOptionsSymbol]: target }, { name: 'standBy' })
        .then(
          () => {},
          (error: Error) => {
            this.#startFailure = error
          },
        )
        .finally(() => this.#replaceWorkers())
      target.isPosted = true
    }, retryMs)
  }

  #count(error: FramesError): FramesError {
    if (error.code === 'CANCELLED') this.#jobCancelledCount++
    else if (error.code === 'DEADLINE_EXCEEDED') this.#jobExpiredCount++
    else this.#jobFailedCount++
    return error
  }
}

function cancellation(signal: AbortSignal): FramesError {
  if (signal.reason instanceof FramesError) return signal.reason
  return new FramesError('CANCELLED', 'the request was cancelled', { cause: signal.reason })
}

function expiry(): FramesError {
  return new FramesError('DEADLINE_EXCEEDED', 'the deadline of the request has passed')
}

/** setTimeout takes 31 bits. */
function clampMs(ms: number): number {
  return Math.min(ms, 2 ** 31 - 1)
}
