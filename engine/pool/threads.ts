// The worker threads: Piscina starts them and replaces those that end. Here we learn when a thread has really exited, bring
// Piscina back when it has given up, and hand tasks over by a port of each thread's own: Piscina's way of a task takes
// longer than many a task.
import { setTimeout as delay } from 'node:timers/promises'
import { MessageChannel, type MessagePort, type Worker } from 'node:worker_threads'
import { Piscina, queueOptionsSymbol } from 'piscina'
import { assert } from '../assert.js'
import { MiB, workerStartRetryMsMax, workerYoungByteLengthMax } from '../limits.js'
import type { WorkerStart } from './context.js'
import type { JobOutcome } from './job.js'

export interface WorkerThread {
  /** Piscina's name for it; the thread itself forgets it when it exits. */
  readonly id: number
  /** True when it takes no more tasks: trapped, stuck, failed or exited. */
  readonly isEnding: boolean
  /** Resolves when no code of the thread runs any more: only then may its memory be given to another. */
  readonly exited: Promise<void>
}

export interface WorkerThreadsOptions {
  readonly threadCount: number
  readonly start: WorkerStart
  readonly heapByteLengthMax: number
  /** A thread has started and takes tasks. */
  readonly onReady: () => void
  /** A thread that took tasks ended by itself; what it did is rejected afterwards. */
  readonly onDied: (thread: WorkerThread, reason: string) => void
  /** A thread ended before it was ready; so many in a row. The next is started after retryMs. */
  readonly onStartFailed: (failure: { reason: string; failureCount: number; retryMs: number }) => void
}

interface OwnThread extends WorkerThread {
  readonly worker: Worker
  readonly port: MessagePort
  isEnding: boolean
  /** The task at work. */
  answer: TaskAnswer | null
}

/** Told how a task ended; error: there is no outcome. */
type TaskAnswer = (outcome: JobOutcome | null, error: unknown) => void

/** Travels with a Piscina task, on this side only, and tells the balancer which thread it is for; null: for none. */
interface TaskTarget {
  readonly threadId: number | null
}

const startRetryMsMin = 50
const startPollMs = 5
/** What threads get to start and to close their readers in, when they are to end. */
const closeWaitMsMax = 5_000

export class WorkerThreads {
  readonly #options: WorkerThreadsOptions
  readonly #piscina: Piscina<unknown, JobOutcome>
  readonly #threads = new Set<OwnThread>()
  #isClosing = false
  /** Threads that Piscina has taken leave of, and those of them that had started. */
  #endedCount = 0
  #endedStartedCount = 0
  #startFailureCount = 0
  #startFailureCountInRow = 0
  #startFailureReason = 'unknown'
  #startRetry: NodeJS.Timeout | null = null

  constructor(options: WorkerThreadsOptions) {
    this.#options = options
    // A program given as text (`node --input-type=module -e …`) would hand this flag on, and no thread starts with it.
    const isProgramText = process.execArgv.some((flag) => flag.startsWith('--input-type'))
    this.#piscina = new Piscina({
      ...(isProgramText ? { execArgv: [] } : {}),
      filename: new URL('./worker-entry.cjs', import.meta.url).href,
      minThreads: options.threadCount,
      maxThreads: options.threadCount,
      // A job behind another would die with it, and wait for it while other workers idle. Two a worker gained nothing for
      // jobs of 0.2 ms and more.
      concurrentTasksPerWorker: 1,
      // As fast as waiting with Atomics (each 20 to 30 µs a task in a row, 60 to 90 µs alone), and an idle worker's event
      // loop turns: the store's timers can end a read transaction that a job left behind.
      atomics: 'disabled',
      recordTiming: false,
      workerData: options.start,
      resourceLimits: {
        maxOldGenerationSizeMb: options.heapByteLengthMax / MiB,
        maxYoungGenerationSizeMb: workerYoungByteLengthMax / MiB,
      },
      loadBalancer: (task, workers) => {
        const target = task[queueOptionsSymbol] as TaskTarget
        if (target.threadId === null) return null
        const found = workers.find((worker) => worker.id === target.threadId)
        assert(found !== undefined, 'a thread that takes tasks is known to Piscina')
        return found
      },
    })
    this.#piscina.on('workerCreate', ({ id }: { id: number }) => this.#greet(id))
    this.#piscina.on('workerDestroy', () => {
      this.#endedCount++
      // Piscina starts another, if it does, right after this event.
      setImmediate(() => this.#replaceMissing())
    })
    // Errors of threads without a task; those that took tasks are heard one by one.
    this.#piscina.on('error', (error: Error) => {
      this.#startFailureReason = error.message
    })
  }

  /** Threads that have started and not exited, in the order of their start. */
  get all(): ReadonlySet<WorkerThread> {
    return this.#threads
  }

  /**
   * Gives a task to a thread that has none. `answer` is called once, later: with its outcome, or with an error when the thread
   * ends first (then it `isEnding`, and may still run until `exited`), or when the task is not plain data.
   */
  post(thread: WorkerThread, task: object, answer: TaskAnswer): void {
    const own = thread as OwnThread
    assert(!own.isEnding && own.answer === null, 'a task goes to a thread that takes one')
    try {
      own.port.postMessage(task)
    } catch (error) {
      queueMicrotask(() => answer(null, error))
      return
    }
    own.answer = answer
    // While a task is at work, the program goes on.
    own.port.ref()
  }

  /** Sends a task to the export `name` of worker.ts by way of Piscina. */
  #run(id: number, name: string, task: object, ports: MessagePort[] = []): Promise<unknown> {
    const target: TaskTarget = { threadId: id }
    return this.#piscina.run({ ...task, [queueOptionsSymbol]: target }, { name, transferList: ports })
  }

  /** Ends a thread that cannot be trusted any more; Piscina starts another. */
  end(thread: WorkerThread): void {
    for (const own of this.#threads) {
      if (own !== thread) continue
      own.isEnding = true
      void own.worker.terminate()
    }
  }

  /** Lets the threads that are not `busy` put their readers away, then ends all of them, whatever they do. */
  async close(busy: (thread: WorkerThread) => boolean): Promise<void> {
    this.#isClosing = true
    if (this.#startRetry !== null) clearTimeout(this.#startRetry)
    // A thread that still starts is let start: ending it then is what Node.js bears least (see worker-entry.cts).
    const endMs = performance.now() + closeWaitMsMax
    while (this.#isAnyStarting() && performance.now() < endMs) await delay(startPollMs)
    const idle = [...this.#threads].filter((thread) => !thread.isEnding && !busy(thread))
    const readersClosed = Promise.allSettled(idle.map((thread) => this.#run(thread.id, 'closeReaders', {})))
    const waited = new AbortController()
    await Promise.race([readersClosed, delay(closeWaitMsMax, null, { signal: waited.signal }).catch(() => {})])
    waited.abort()
    for (const thread of this.#threads) thread.isEnding = true
    const exits = [...this.#threads].map((thread) => thread.exited)
    await this.#piscina.destroy()
    await Promise.all(exits)
  }

  #isAnyStarting(): boolean {
    const started = new Set([...this.#threads].map((thread) => thread.worker))
    return this.#piscina.threads.some((worker) => !started.has(worker))
  }

  /** Meets a thread that Piscina counts as ready, and takes it among ours when it answers: the first ones still start. */
  #greet(id: number): void {
    const worker = this.#piscina.threads.find((candidate) => candidate.threadId === id)
    // It ended as soon as it was ready, and Piscina heard of the end first.
    if (worker === undefined) return
    const { port1: port, port2: farPort } = new MessageChannel()
    let isEnded = false
    // Piscina's own listeners come first, but they only settle promises: ours run before anyone learns of it.
    const onEnd = (reason: string) => {
      if (isEnded) return
      isEnded = true
      const isExpected = thread.isEnding || this.#isClosing
      thread.isEnding = true
      if (!this.#threads.has(thread)) {
        this.#startFailureReason = reason
        return
      }
      this.#endedStartedCount++
      if (!isExpected) this.#options.onDied(thread, reason)
      const { answer } = thread
      thread.answer = null
      answer?.(null, new Error(`the thread ended: ${reason}`))
    }
    const exited = new Promise<void>((resolve) => {
      worker.once('error', (error: Error) => onEnd(error.message))
      worker.once('exit', (code) => {
        onEnd(`exit code ${code}`)
        port.close()
        this.#threads.delete(thread)
        resolve()
      })
    })
    const thread: OwnThread = { id, worker, port, isEnding: false, exited, answer: null }
    port.on('message', (outcome: JobOutcome) => {
      const { answer } = thread
      thread.answer = null
      port.unref()
      answer?.(outcome, null)
    })
    port.unref()
    const onStarted = () => {
      if (thread.isEnding) return
      this.#threads.add(thread)
      this.#startFailureCountInRow = 0
      this.#options.onReady()
      this.#replaceMissing()
    }
    // Piscina counts the thread among those that take tasks when this event is over.
    queueMicrotask(() => {
      if (thread.isEnding) return
      this.#run(id, 'standBy', { port: farPort }, [farPort]).then(onStarted, (error: Error) => {
        this.#startFailureReason = error.message
      })
    })
  }

  /** Piscina replaces a thread that ends, but stops doing so for good once one has ended before it was ready. */
  #replaceMissing(): void {
    if (this.#isClosing) return
    const startFailureCount = this.#endedCount - this.#endedStartedCount
    const hasFailed = startFailureCount > this.#startFailureCount
    this.#startFailureCount = startFailureCount
    if (this.#startRetry !== null || this.#missingCount() === 0) return
    if (!hasFailed) {
      this.#startMissing()
      return
    }
    const retryMs = Math.min(startRetryMsMin * 2 ** this.#startFailureCountInRow, workerStartRetryMsMax)
    this.#startFailureCountInRow++
    this.#startRetry = setTimeout(() => {
      this.#startRetry = null
      this.#startMissing()
    }, retryMs)
    const failureCount = this.#startFailureCountInRow
    this.#options.onStartFailed({ reason: this.#startFailureReason, failureCount, retryMs })
  }

  #missingCount(): number {
    return this.#options.threadCount - this.#piscina.threads.length
  }

  /** Piscina starts a thread for a task that none takes; then the task has done its duty. */
  #startMissing(): void {
    for (let count = this.#missingCount(); count > 0; count--) {
      const target: TaskTarget = { threadId: null }
      const duty = new AbortController()
      this.#piscina.run({ [queueOptionsSymbol]: target }, { signal: duty.signal }).catch((error: Error) => {
        assert(error.name === 'AbortError', 'a task for no thread is never carried out')
      })
      duty.abort()
    }
  }
}
