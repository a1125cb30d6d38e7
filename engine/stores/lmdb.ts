// The default store: one LMDB file, written by a thread of its own. This half runs on the main thread and only passes
// messages.
import { Worker } from 'node:worker_threads'
import { assert } from '../assert.js'
import { type ErrorMessage, FramesError, fromErrorMessage } from '../errors.js'
import { MiB } from '../limits.js'
import { assertBatch, assertPartition } from './keys.js'
import type { LmdbFaults } from './lmdb-faults.js'
import {
  batchByteLength,
  type FileSpace,
  type FromThread,
  packBatches,
  packList,
  partitionEnd,
  storedKey,
  type ThreadOptions,
  type ToThread,
  unpackList,
} from './lmdb-messages.js'
import { type FolderLock, lockFolder } from './lock.js'
import type { Batch, Entry, ScanRange, Store, WorkerAccess } from './store.js'

export interface LmdbOptions {
  /** The data folder; made when it is missing. It belongs to this process until the store is closed. */
  readonly path: string
  /** The engine's memory: values that are views of it are named by offset to the storage thread, not copied here. */
  readonly memory?: WebAssembly.Memory
  /** Address space reserved for the file, 1 TiB unless given. */
  readonly mapByteLength?: number
  /** Disk space that is always kept free, beside twice the batch, so that deletes have room: 16 MiB unless given. */
  readonly reserveByteLength?: number
  /** Batches sent to the storage thread and not yet settled; more wait here. 64 MiB unless given. */
  readonly inFlightByteLengthMax?: number
  /** For tests. */
  readonly faults?: LmdbFaults
}

export interface LmdbStore extends Store {
  /** How large the data file is, and how much of it holds something. */
  space(): Promise<FileSpace>

  /**
   * Rewrites the file without its free pages, so that the disk gets them back: LMDB itself only uses them again.
   *
   * Commits and reads go on meanwhile, and `workerAccess` names the new file afterwards. What is freed while it is copied
   * stays in it as free pages; a call that comes then waits for a copy of its own. Where the disk has no room for a commit
   * beside the copy, or very much changes, commits wait for the copy. The disk has the old file's space back some seconds
   * later, once every reader of it is closed. Throws DISK_FULL when there is no room for the copy; the old file then stays.
   */
  compactFile(): Promise<void>
}

/** Opens the store of a folder. Throws STORE_IN_USE, and DATA_DAMAGED when its file cannot be read. */
export async function openLmdbStore(options: LmdbOptions): Promise<LmdbStore> {
  const lock = await lockFolder(options.path)
  const memory = options.memory?.buffer
  assert(memory === undefined || memory instanceof SharedArrayBuffer, "the engine's memory is shared")
  const threadOptions: ThreadOptions = {
    folder: options.path,
    checkFirst: lock.tookOver,
    mapByteLength: options.mapByteLength ?? 2 ** 40,
    reserveByteLength: options.reserveByteLength ?? 16 * MiB,
    shared: memory ?? null,
    faults: options.faults?.shared ?? null,
  }
  // A program given as text (`node --input-type=module -e …`) would hand this flag on, and no thread starts with it.
  const isProgramText = process.execArgv.some((flag) => flag.startsWith('--input-type'))
  const thread = new Worker(new URL('./lmdb-thread.js', import.meta.url), {
    workerData: threadOptions,
    ...(isProgramText ? { execArgv: [] } : {}),
  })
  try {
    const opened = await new Promise<FromThread>((resolve, reject) => {
      thread.once('message', resolve)
      thread.once('error', reject)
    })
    if (opened.kind === 'openFailed') throw fromErrorMessage(opened.error)
    assert(opened.kind === 'opened', 'the storage thread first says that it has opened the file')
    return new ThreadedStore(thread, lock, opened.path, memory ?? null, options.inFlightByteLengthMax ?? 64 * MiB)
  } catch (error) {
    await lock.release()
    throw error
  }
}

interface PendingCommit {
  readonly batch: Batch
  readonly byteLength: number
  resolve(): void
  reject(error: FramesError): void
}

interface PendingAnswer {
  resolve(value: unknown): void
  reject(error: FramesError): void
}

/** What a call asks of the thread; the number of the call is added when it is sent. */
type Question =
  Extract<ToThread, { id: number }> extends infer Message
    ? Message extends unknown
      ? Omit<Message, 'id'>
      : never
    : never

class ThreadedStore implements LmdbStore {
  readonly #thread: Worker
  readonly #lock: FolderLock
  readonly #memory: SharedArrayBuffer | null
  readonly #inFlightByteLengthMax: number
  #path: string
  /** Commits not yet sent, then those sent and not yet settled, both in order. */
  #unsent: PendingCommit[] = []
  readonly #inFlight: PendingCommit[] = []
  #inFlightByteLength = 0
  #sendIsDue = false
  #closeIsSent = false
  readonly #answers = new Map<number, PendingAnswer>()
  #lastId = 0
  /** Why no more calls are taken. */
  #ended: FramesError | null = null
  readonly #exited: Promise<void>

  constructor(
    thread: Worker,
    lock: FolderLock,
    path: string,
    memory: SharedArrayBuffer | null,
    inFlightByteLengthMax: number,
  ) {
    this.#thread = thread
    this.#lock = lock
    this.#path = path
    this.#memory = memory
    this.#inFlightByteLengthMax = inFlightByteLengthMax
    thread.on('message', (message: FromThread) => this.#receive(message))
    let cause: unknown
    thread.on('error', (error) => {
      cause = error
    })
    this.#exited = new Promise((resolve) => {
      thread.on('exit', () => {
        this.#fail(cause)
        resolve()
      })
    })
  }

  get workerAccess(): WorkerAccess {
    return { driver: 'lmdb', path: this.#path }
  }

  async read(partition: string, keys: readonly Uint8Array[]): Promise<(Uint8Array | null)[]> {
    if (keys.length === 0) return []
    const packed = packList(keys.map((key) => this.#key(partition, key)))
    return unpackList((await this.#ask({ kind: 'read', packed }, [packed.buffer])) as Uint8Array)
  }

  async scan(partition: string, range: ScanRange): Promise<Entry[]> {
    const { start, end, reverse = false, limit, byteLengthMax = Infinity, keysOnly = false } = range
    if (limit <= 0 || (start && end && Buffer.compare(start, end) >= 0)) return []
    const question = {
      kind: 'scan' as const,
      start: this.#key(partition, start ?? new Uint8Array()),
      end: end ? this.#key(partition, end) : partitionEnd(partition),
      reverse,
      limit,
      byteLengthMax,
      keysOnly,
    }
    const found = unpackList((await this.#ask(question)) as Uint8Array)
    const entries: Entry[] = []
    for (let i = 0; i < found.length; i += 2) {
      entries.push({ key: found[i]!.subarray(partition.length + 1), value: found[i + 1]! })
    }
    return entries
  }

  commit(batch: Batch): Promise<void> {
    if (this.#ended) return Promise.reject(this.#ended)
    assertBatch(batch)
    return new Promise((resolve, reject) => {
      this.#unsent.push({ batch, byteLength: batchByteLength(batch), resolve, reject })
      if (this.#sendIsDue) return
      // All commits of one turn travel in one message.
      this.#sendIsDue = true
      queueMicrotask(() => {
        this.#sendIsDue = false
        this.#send()
      })
    })
  }

  async partitions(prefix: string): Promise<string[]> {
    return (await this.#ask({ kind: 'partitions', prefix })) as string[]
  }

  async dropPartition(partition: string): Promise<void> {
    await this.commit({ partition, puts: [] }) // what was called before this is carried out before it
    while (!(await this.#ask({ kind: 'dropStep', partition })));
  }

  async space(): Promise<FileSpace> {
    return (await this.#ask({ kind: 'space' })) as FileSpace
  }

  async compactFile(): Promise<void> {
    await this.#ask({ kind: 'compactFile' })
  }

  async close(): Promise<void> {
    if (!this.#ended) {
      this.#ended = new FramesError('SHUTTING_DOWN', 'the store is closed')
      this.#send()
    }
    await this.#exited
    await this.#lock.release()
  }

  #key(partition: string, key: Uint8Array): Uint8Array {
    assertPartition(partition)
    return storedKey(partition, key)
  }

  /** Sends what waits while the bytes under way stay within bounds; one batch always goes. Then the end, if it has come. */
  #send(): void {
    this.#sendCommits()
    if (!this.#ended || this.#closeIsSent || this.#unsent.length > 0) return
    this.#closeIsSent = true
    this.#post({ kind: 'close' }) // the thread carries out what was sent before
  }

  #sendCommits(): void {
    let count = 0
    for (const { byteLength } of this.#unsent) {
      const isFirst = count === 0 && this.#inFlight.length === 0
      if (!isFirst && this.#inFlightByteLength + byteLength > this.#inFlightByteLengthMax) break
      this.#inFlightByteLength += byteLength
      count++
    }
    if (count === 0) return
    const sent = count === this.#unsent.length ? this.#unsent : this.#unsent.slice(0, count)
    this.#unsent = this.#unsent.slice(count)
    for (const pending of sent) this.#inFlight.push(pending)
    const packed = packBatches(
      sent.map(({ batch }) => batch),
      this.#memory,
    )
    this.#post({ kind: 'commit', batchCount: count, packed }, [packed.buffer])
  }

  #ask(question: Question, transfer: ArrayBuffer[] = []): Promise<unknown> {
    if (this.#ended) return Promise.reject(this.#ended)
    const id = ++this.#lastId
    return new Promise((resolve, reject) => {
      this.#answers.set(id, { resolve, reject })
      this.#post({ ...question, id } as ToThread, transfer)
    })
  }

  #post(message: ToThread, transfer: ArrayBuffer[] = []): void {
    this.#thread.postMessage(message, transfer)
  }

  #receive(message: FromThread): void {
    if (message.kind === 'committed') {
      const settled = this.#inFlight.splice(0, message.batchCount)
      assert(settled.length === message.batchCount, 'the storage thread settles commits that are under way')
      const errors = new Map<number, ErrorMessage>(message.errors.map(({ index, error }) => [index, error]))
      for (const [index, { byteLength, resolve, reject }] of settled.entries()) {
        this.#inFlightByteLength -= byteLength
        const error = errors.get(index)
        if (error) reject(fromErrorMessage(error))
        else resolve()
      }
      this.#send()
      return
    }
    if (message.kind === 'moved') {
      this.#path = message.path
      return
    }
    assert(message.kind === 'answer' || message.kind === 'failed', 'the storage thread has opened the file only once')
    const pending = this.#answers.get(message.id)
    assert(pending !== undefined, 'every answer of the storage thread belongs to a call')
    this.#answers.delete(message.id)
    if (message.kind === 'failed') pending.reject(fromErrorMessage(message.error))
    else pending.resolve(message.value)
  }

  /** The thread is gone. After a close nothing waits; otherwise whatever does has failed, and nobody knows how far. */
  #fail(cause: unknown): void {
    const error = new FramesError('STORE_FAILED', 'the storage thread has stopped', { cause })
    this.#ended ??= error
    const commits = [...this.#inFlight.splice(0), ...this.#unsent.splice(0)]
    for (const { reject } of commits) reject(error)
    for (const { reject } of this.#answers.values()) reject(error)
    this.#answers.clear()
  }
}
