// The worker pool: jobs wait in one bounded queue, get their scratch when a worker is free, and are sent to it. A worker
// that dies fails only its own job and is replaced.
//
//   run ──► queue ──► scratch ──► worker ──► result in scratch ──► release
//             │          │           │
//           cancel:    cancel:     cancel: word set, caller told at once,
//           removed    not waited  scratch freed when the worker has finished
//
// The queue is ours and not Piscina's: a job waits for memory too, and Piscina's abort signal kills the worker.
import type { CancelSignal } from '../cancellation.js'
import { availableParallelism } from 'node:os'
import { assert } from '../assert.js'
import { FramesError, fromErrorMessage } from '../errors.js'
import { compileKernels } from '../kernels/kernels.js'
import {
  jobCancelMsMax,
  jobQueueCountMax,
  jobRetryCountMax,
  poolCloseGraceMs,
  workerCountDefaultMax,
  workerHeapByteLengthMax,
  workerStartFailureCountMax,
} from '../limits.js'
import { runByteLength } from '../memory/region.js'
import type { SharedMemory } from '../memory/shared-memory.js'
import { emptySlice, type Slice } from '../memory/slice.js'
import { type Job, type JobFault, type JobOutcome, type JobPlace, sendJob } from './job.js'
import { type WorkerThread, WorkerThreads } from './threads.js'

export interface PoolOptions {
  /** One pool a memory: it owns the control run. */
  readonly memory: SharedMemory
  /** Default: one a core, up to 8. */
  readonly workerCount?: number
  /** Jobs that wait, at most. */
  readonly queueCountMax?: number
  /** The module that exports openReader (a ReaderModule), for jobs that read a store. */
  readonly readerModule?: URL
  /** Allows the jobs of diagnostics.ts, which kill and hang workers. */
  readonly diagnostics?: boolean
  readonly workerHeapByteLengthMax?: number
  readonly jobCancelMsMax?: number
  /** Told what belongs in the log. Must not throw. */
  readonly onEvent?: (event: PoolEvent) => void
}

export type PoolEvent =
  /** A job failed by a mistake of ours. */
  | { readonly event: 'jobFault'; readonly jobKind: string; readonly fault: JobFault }
  /** A job was cancelled and did not stop: its worker is ended. */
  | { readonly event: 'jobStuck'; readonly jobKind: string; readonly waitedMs: number }
  /** A worker ended that should not have; with the kind of its job, if it had one. */
  | { readonly event: 'workerDied'; readonly jobKind: string | null; readonly reason: string }
  /** A new worker ended before it was ready; another is started after retryMs. */
  | { readonly event: 'workerStartFailed'; readonly reason: string; readonly retryMs: number }

export interface RunOptions {
  /** Which worker may have kept what the job needs: a number from 0 to their count. Another one takes it when that is at work. */
  readonly worker?: number | undefined
  /** Memory for the job and its result; 0 for none. Grows by itself when the job says that it needs more. */
  readonly scratchByteLength: number
  readonly signal?: CancelSignal | undefined
  /** When the result is no longer wanted, in ms since 1970 as Date.now(); Infinity for never. */
  readonly deadlineMs?: number | undefined
}

export interface JobResult<R> {
  readonly result: R
  /** Where the result stands, if it is not in `result` itself. */
  readonly scratch: Slice
  /** Gives back all of the scratch but its first byteLength bytes: the result stands there. */
  keepFirst(byteLength: number): void
  /** Gives the scratch back; to be called once, when the result has been used. */
  release(): void
}

/** Counts since the start, unless they say "now". */
export interface PoolStatistics {
  /** Workers that take jobs now. */
  readonly workerCount: number
  /** Jobs in workers now, also those whose callers have gone. */
  readonly runningCount: number
  /** Jobs that wait for a worker or for memory now. */
  readonly queueCount: number
  /** Whether the first of the queue waits for memory now. */
  readonly isWaitingForMemory: boolean
  readonly jobDoneCount: number
  readonly jobFailedCount: number
  readonly jobCancelledCount: number
  /** Jobs whose deadline passed. */
  readonly jobExpiredCount: number
  /** Jobs refused because the queue was full. */
  readonly jobRefusedCount: number
  /** Jobs sent again with more memory. */
  readonly jobRetryCount: number
  /** Kernels that trapped; each cost its worker. */
  readonly trapCount: number
  /** Workers that ended otherwise: full heap, process.exit, uncaught error, stuck job. */
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
  /**
   * As run, but a job that is given up is waited for: afterwards no worker looks at memory that the message names, and
   * the caller may give it back.
   */
  runToEnd<R>(job: Job, options: RunOptions): Promise<JobResult<R>>
  statistics(): PoolStatistics
  /** Whether the worker of this number has no job now. */
  isIdle(worker: number): boolean
  /** Refuses what waits, lets running jobs finish for graceMs, then cancels them, and ends the workers. */
  close(options?: { graceMs?: number }): Promise<void>
}

export function openPool(options: PoolOptions): Pool {
  return new WorkerPool(options)
}

/** A job from its arrival to the moment that its worker is done with it. */
interface Request {
  readonly job: Job
  readonly worker: number
  scratchByteLength: number
  retryCount: number
  /** Empty until it has its turn, and again when it has ended. */
  scratch: Slice
  /** Byte offset of its cancel word while a worker has it, else null. */
  cancelWord: number | null
  /** Ends the worker when the job does not stop. */
  stuckTimer: NodeJS.Timeout | null
  /** False once the caller has its answer; a worker may still be at it. */
  isWanted: boolean
  /** Called once, when no worker has it any more. */
  readonly onEnd: () => void
  resolve(result: JobResult<unknown>): void
  reject(error: FramesError): void
}

/** Part of the arenas that a job is given unasked; frames that have not been decoded fill up to a quarter (InputGate). */
const retryShareOfArenas = 0.75
/** Cancel words stand a cache line apart, so that testing one does not slow the neighbours. */
const cancelWordStride = 64
/** What a cancelled job gets to stop in when the pool closes. */
const closeCancelMs = 1_000

class WorkerPool implements Pool {
  readonly #memory: SharedMemory
  readonly #words: Int32Array
  readonly #cancelWordsFree: number[] = []
  readonly #queueCountMax: number
  readonly #jobCancelMsMax: number
  readonly #onEvent: (event: PoolEvent) => void
  readonly #threads: WorkerThreads

  readonly #queue: Request[] = []
  /** Set while the first of the queue waits for memory. */
  #memoryWait: { readonly request: Request; readonly controller: AbortController } | null = null
  /** Parts of the region of decoded pages that no thread has, and those that threads have until they have exited. */
  readonly #keptFree: Slice[]
  readonly #kept = new Map<WorkerThread, Slice>()
  /** One job a worker. */
  readonly #running = new Map<WorkerThread, Request>()
  readonly #ofSignals = new WeakMap<CancelSignal, Set<Request>>()

  #isClosing = false
  #closed: Promise<void> | null = null
  #onDrained: (() => void) | null = null

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
    const { control } = memory
    for (let offset = control.byteLength - cancelWordStride; offset >= 0; offset -= cancelWordStride) {
      this.#cancelWordsFree.push(control.byteOffset + offset)
    }
    const threadCount = options.workerCount ?? Math.max(1, Math.min(availableParallelism(), workerCountDefaultMax))
    this.#keptFree = divided(memory.decodedPages.slice, threadCount)
    this.#queueCountMax = options.queueCountMax ?? jobQueueCountMax
    this.#jobCancelMsMax = options.jobCancelMsMax ?? jobCancelMsMax
    this.#onEvent = options.onEvent ?? (() => {})
    this.#threads = new WorkerThreads({
      threadCount,
      start: {
        memory: memory.memory,
        kernels: compileKernels(),
        goneBlocks: memory.goneBlocks.slice,
        readerModule: options.readerModule?.href ?? null,
        diagnostics: options.diagnostics ?? false,
      },
      heapByteLengthMax: options.workerHeapByteLengthMax ?? workerHeapByteLengthMax,
      onReady: () => this.#dispatch(),
      onDied: (thread, reason) => {
        this.#workerDeathCount++
        this.#onEvent({ event: 'workerDied', jobKind: this.#running.get(thread)?.job.kind ?? null, reason })
      },
      onStartFailed: ({ reason, failureCount, retryMs }) => {
        this.#onEvent({ event: 'workerStartFailed', reason, retryMs })
        if (this.#threads.all.size === 0 && failureCount >= workerStartFailureCountMax) {
          this.#refuseQueue(new FramesError('WORKER_DIED', 'no worker can be started'))
        }
      },
    })
  }

  run<R>(job: Job, options: RunOptions): Promise<JobResult<R>> {
    return new Promise<JobResult<R>>((resolve, reject) => {
      this.#submit(job, options, resolve as (result: JobResult<unknown>) => void, reject, () => undefined)
    })
  }

  /** onEnd: called when no worker has the job any more, nor will; behind `reject`, if that is called. */
  #submit(
    job: Job,
    { worker = 0, scratchByteLength, signal, deadlineMs = Infinity }: RunOptions,
    resolve: (result: JobResult<unknown>) => void,
    reject: (error: FramesError) => void,
    onEnd: () => void,
  ): void {
    const waitMs = deadlineMs === Infinity ? Infinity : deadlineMs - Date.now()
    const refusal = this.#refusal(signal, waitMs)
    if (refusal !== null) {
      this.#countFailure(refusal)
      reject(refusal)
      onEnd()
      return
    }
    const timer = waitMs === Infinity ? null : setTimeout(() => this.#abandon(request, expiry()), clampMs(waitMs))
    const ofSignal = signal === undefined ? null : this.#requestsOf(signal)
    const leave = () => {
      request.isWanted = false
      ofSignal?.delete(request)
      if (timer !== null) clearTimeout(timer)
    }
    const request: Request = {
      job,
      worker,
      scratchByteLength,
      retryCount: 0,
      scratch: emptySlice,
      cancelWord: null,
      stuckTimer: null,
      isWanted: true,
      onEnd,
      resolve: (result) => {
        leave()
        this.#jobDoneCount++
        resolve(result)
      },
      reject: (error) => {
        leave()
        this.#countFailure(error)
        reject(error)
      },
    }
    ofSignal?.add(request)
    this.#queue.push(request)
    this.#dispatch()
  }

  /** What is to be abandoned with a signal: one listener for all jobs of a request, which live as long as it does. */
  #requestsOf(signal: CancelSignal): Set<Request> {
    const known = this.#ofSignals.get(signal)
    if (known !== undefined) return known
    const requests = new Set<Request>()
    this.#ofSignals.set(signal, requests)
    const onAbort = (): void => {
      for (const request of [...requests]) this.#abandon(request, cancellation(signal))
    }
    signal.addEventListener('abort', onAbort, { once: true })
    return requests
  }

  runToEnd<R>(job: Job, options: RunOptions): Promise<JobResult<R>> {
    return new Promise<JobResult<R>>((resolve, reject) => {
      let failure: FramesError | null = null
      const fail = (error: FramesError): void => {
        failure = error
      }
      const onEnd = (): void => {
        if (failure !== null) reject(failure)
      }
      this.#submit(job, options, resolve as (result: JobResult<unknown>) => void, fail, onEnd)
    })
  }

  statistics(): PoolStatistics {
    let workerCount = 0
    for (const thread of this.#threads.all) if (!thread.isEnding) workerCount++
    return {
      workerCount,
      runningCount: this.#running.size,
      queueCount: this.#queue.length,
      isWaitingForMemory: this.#memoryWait !== null,
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
    this.#refuseQueue(shutdown())
    await this.#drained(graceMs)
    for (const request of this.#running.values()) this.#cancelRunning(request)
    await this.#drained(closeCancelMs)
    await this.#threads.close((thread) => this.#running.has(thread))
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

  #refusal(signal: CancelSignal | undefined, waitMs: number): FramesError | null {
    if (this.#isClosing) return shutdown()
    if (signal?.aborted) return cancellation(signal)
    if (!(waitMs > 0)) return expiry()
    if (this.#queue.length < this.#queueCountMax) return null
    return new FramesError('QUEUE_FULL', `${this.#queue.length} jobs wait for a worker already`)
  }

  #refuseQueue(error: FramesError): void {
    for (const request of [...this.#queue]) this.#abandon(request, error)
  }

  /** Sends waiting jobs to free workers, in order, as far as memory goes. */
  #dispatch(): void {
    while (!this.#isClosing && this.#memoryWait === null && this.#cancelWordsFree.length > 0) {
      const request = this.#queue[0]
      if (request === undefined) return
      const thread = this.#freeThread(request.worker)
      if (thread === null) return
      if (request.scratch.byteLength === 0) {
        const scratch = this.#memory.arenas.tryAllocate(request.scratchByteLength, { urgent: true })
        if (scratch === null) {
          void this.#waitForMemory(request)
          return
        }
        request.scratch = scratch
      }
      this.#queue.shift()
      this.#start(request, thread)
    }
  }

  isIdle(worker: number): boolean {
    let i = 0
    for (const thread of this.#threads.all) if (i++ === worker) return !thread.isEnding && !this.#running.has(thread)
    return false
  }

  /** The thread of this number if it is free, else the first that is. */
  #freeThread(number: number): WorkerThread | null {
    let free: WorkerThread | null = null
    let i = 0
    for (const thread of this.#threads.all) {
      const isFree = !thread.isEnding && !this.#running.has(thread)
      if (isFree && i === number) return thread
      if (isFree) free ??= thread
      i++
    }
    return free
  }

  async #waitForMemory(request: Request): Promise<void> {
    const controller = new AbortController()
    this.#memoryWait = { request, controller }
    try {
      const options = { signal: controller.signal, urgent: true }
      const scratch = await this.#memory.arenas.allocate(request.scratchByteLength, options)
      this.#memoryWait = null
      if (request.isWanted) request.scratch = scratch
      else this.#memory.arenas.free(scratch)
    } catch (error) {
      this.#memoryWait = null
      assert(error instanceof FramesError, 'memory is refused with a FramesError')
      if (request.isWanted) this.#abandon(request, error)
    }
    this.#dispatch()
  }

  #start(request: Request, thread: WorkerThread): void {
    const cancelWord = this.#cancelWordsFree.pop()!
    Atomics.store(this.#words, cancelWord >> 2, 0)
    request.cancelWord = cancelWord
    this.#running.set(thread, request)
    const place: JobPlace = { scratch: request.scratch, cancelWord, kept: this.#keptOf(thread) }
    this.#threads.post(thread, sendJob(request.job, place), (outcome, error) => {
      if (outcome === null) this.#fail(request, thread, error)
      else this.#finish(request, thread, outcome)
    })
  }

  #keptOf(thread: WorkerThread): Slice {
    let kept = this.#kept.get(thread)
    if (kept === undefined) {
      kept = this.#keptFree.pop() ?? emptySlice
      this.#kept.set(thread, kept)
      const own = kept
      void thread.exited.then(() => {
        this.#kept.delete(thread)
        if (own.byteLength > 0) this.#keptFree.push(own)
      })
    }
    return kept
  }

  /** The worker answered: it is done with the request's memory. */
  #finish(request: Request, thread: WorkerThread, outcome: JobOutcome): void {
    if (isList(outcome)) {
      this.#succeed(request, outcome)
      this.#end(request, thread)
    } else if ('needBytes' in outcome) {
      const isWanted = request.isWanted
      this.#end(request, thread, !isWanted)
      if (isWanted) this.#retry(request, outcome.needBytes)
    } else if (outcome.ok) {
      this.#succeed(request, outcome.result)
      this.#end(request, thread)
    } else {
      const { error, fault } = outcome
      if (fault !== undefined) this.#onEvent({ event: 'jobFault', jobKind: request.job.kind, fault })
      if (request.isWanted) request.reject(fromErrorMessage(error))
      if (fault?.isTrap) {
        this.#trapCount++
        this.#threads.end(thread)
        this.#endAfterExit(request, thread)
      } else {
        this.#end(request, thread)
      }
    }
    this.#dispatch()
  }

  #succeed(request: Request, result: unknown): void {
    if (!request.isWanted) return
    const { scratch } = request
    const { arenas } = this.#memory
    let kept = scratch
    request.scratch = emptySlice
    request.resolve({
      result,
      scratch,
      keepFirst: (byteLength) => {
        kept = arenas.shrink(kept, byteLength)
      },
      release: () => arenas.free(kept),
    })
  }

  /** There is no answer: the worker died, or the job could not be sent. */
  #fail(request: Request, thread: WorkerThread, error: unknown): void {
    const { kind } = request.job
    if (!thread.isEnding) {
      // Structured cloning refused the job: a mistake of ours.
      const stack = error instanceof Error ? (error.stack ?? error.message) : String(error)
      this.#onEvent({ event: 'jobFault', jobKind: kind, fault: { stack, isTrap: false } })
      if (request.isWanted) request.reject(new FramesError('INTERNAL', 'internal error'))
      this.#end(request, thread)
      this.#dispatch()
      return
    }
    if (request.isWanted) {
      const died = new FramesError('WORKER_DIED', `the worker of a job (${kind}) ended`)
      request.reject(this.#isClosing ? shutdown() : died)
    }
    this.#endAfterExit(request, thread)
  }

  /** A thread that ends may write into the scratch until it has exited. */
  #endAfterExit(request: Request, thread: WorkerThread): void {
    void thread.exited.then(() => {
      this.#end(request, thread)
      this.#dispatch()
    })
  }

  /** No thread knows the request any more: its memory and its worker are free. */
  #end(request: Request, thread: WorkerThread, isLast = true): void {
    assert(this.#running.get(thread) === request, 'a worker ends the job that it has')
    assert(request.cancelWord !== null, 'a running job has a cancel word')
    this.#running.delete(thread)
    this.#freeScratch(request)
    this.#cancelWordsFree.push(request.cancelWord)
    request.cancelWord = null
    if (request.stuckTimer !== null) clearTimeout(request.stuckTimer)
    if (isLast) request.onEnd()
    if (this.#running.size === 0) this.#onDrained?.()
  }

  #freeScratch(request: Request): void {
    this.#memory.arenas.free(request.scratch)
    request.scratch = emptySlice
  }

  #retry(request: Request, needBytes: number): void {
    if (this.#isClosing) {
      request.reject(shutdown())
      request.onEnd()
      return
    }
    if (request.retryCount >= jobRetryCountMax) {
      request.reject(
        new FramesError('MEMORY_BUDGET', `a job (${request.job.kind}) asks for more memory again and again`),
      )
      request.onEnd()
      return
    }
    request.retryCount++
    this.#jobRetryCount++
    // At least twice as much, so that few rounds are needed; but no more than comes free, if that suffices: frames that
    // wait for jobs like this one may hold the rest.
    const { byteLength } = this.#memory.arenas.slice
    const most = needBytes <= retryShareOfArenas * byteLength ? retryShareOfArenas * byteLength : byteLength
    const doubled = Math.min(2 * request.scratchByteLength, most)
    request.scratchByteLength = Math.max(needBytes, doubled)
    // It had its turn. Only a job that holds memory already, or is the next to get some, stays before it.
    const isFirstServed = this.#memoryWait !== null || (this.#queue[0]?.scratch.byteLength ?? 0) > 0
    this.#queue.splice(isFirstServed ? 1 : 0, 0, request)
  }

  /** The caller gets its answer now, wherever the job is. */
  #abandon(request: Request, error: FramesError): void {
    request.reject(error)
    if (request.cancelWord !== null) {
      this.#cancelRunning(request)
      return
    }
    const index = this.#queue.indexOf(request)
    assert(index >= 0, 'a job that no worker has is in the queue')
    this.#queue.splice(index, 1)
    this.#freeScratch(request)
    request.onEnd()
    if (this.#memoryWait?.request === request) this.#memoryWait.controller.abort(error)
    this.#dispatch()
  }

  /** Asks a running job to stop, and ends its worker if it does not. */
  #cancelRunning(request: Request): void {
    assert(request.cancelWord !== null, 'a running job has a cancel word')
    if (request.stuckTimer !== null) return
    Atomics.store(this.#words, request.cancelWord >> 2, 1)
    Atomics.notify(this.#words, request.cancelWord >> 2)
    request.stuckTimer = setTimeout(() => this.#endStuck(request), this.#jobCancelMsMax).unref()
  }

  #endStuck(request: Request): void {
    for (const [thread, running] of this.#running) {
      if (running !== request || thread.isEnding) continue
      this.#workerDeathCount++
      this.#onEvent({ event: 'jobStuck', jobKind: request.job.kind, waitedMs: this.#jobCancelMsMax })
      this.#threads.end(thread)
    }
  }

  #countFailure({ code }: FramesError): void {
    if (code === 'CANCELLED') this.#jobCancelledCount++
    else if (code === 'DEADLINE_EXCEEDED') this.#jobExpiredCount++
    else if (code === 'QUEUE_FULL') this.#jobRefusedCount++
    else this.#jobFailedCount++
  }
}

function isList(outcome: JobOutcome): outcome is readonly unknown[] {
  return Array.isArray(outcome)
}

function cancellation(signal: CancelSignal): FramesError {
  if (signal.reason instanceof FramesError) return signal.reason
  return new FramesError('CANCELLED', 'the request was cancelled', { cause: signal.reason })
}

function expiry(): FramesError {
  return new FramesError('DEADLINE_EXCEEDED', 'the deadline of the request has passed')
}

function shutdown(): FramesError {
  return new FramesError('SHUTTING_DOWN', 'the worker pool is closed')
}

/** setTimeout takes 31 bits. */
function clampMs(ms: number): number {
  return Math.min(ms, 2 ** 31 - 1)
}

/** The region of decoded pages belongs to the pool alone: a part for each worker, of whole runs. */
function divided({ byteOffset, byteLength }: Slice, count: number): Slice[] {
  const each = Math.floor(byteLength / count / runByteLength) * runByteLength
  if (each === 0) return []
  return Array.from({ length: count }, (_, i) => ({ byteOffset: byteOffset + i * each, byteLength: each }))
}
