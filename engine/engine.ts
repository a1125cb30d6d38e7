// The engine: puts the parts together, and sends each request to its backend.
import type { CancelSignal } from './cancellation.js'
import { join } from 'node:path'
import { assert } from './assert.js'
import type { Backend, BackendParts, BackendWriteSession, ExecuteOptions } from './backends/backend.js'
import { Csv } from './backends/csv/csv.js'
import { InputGate } from './backends/input-gate.js'
import { Kv } from './backends/kv/kv.js'
import { OutgoingMessages } from './backends/outgoing.js'
import { Streams } from './backends/stream/stream.js'
import { Tsdb } from './backends/tsdb/tsdb.js'
import { Catalog } from './blocks/catalog.js'
import { takeFrame } from './codec/columns.js'
import type { EncodeFrameJob, FormatFrameJob } from './codec/jobs.js'
import type {
  CallOptions,
  EngineApi,
  ReadEncodedOptions,
  ReadFormat,
  WireBatch,
  WriteResult,
  WriteSession,
} from './engine-api.js'
import { FramesError } from './errors.js'
import { sliceColumn } from './frame/builder.js'
import type { Column } from './frame/column.js'
import type { ColumnHead } from './frame/column-head.js'
import { eachFrame, Frame } from './frame/frame.js'
import type { PlainColumn, PlainFrame } from './frame/plain.js'
import { CallRecord, History, type HistoryOptions } from './history/history.js'
import { kernelHeapBase, loadKernels } from './kernels/kernels.js'
import { checkOptions, type OptionTypes } from './options.js'
import { workerCountMax } from './limits.js'
import type { Slice } from './memory/slice.js'
import { createSharedMemory } from './memory/shared-memory.js'
import type { SharedMemoryStatistics } from './memory/shared-memory.js'
import { exposedCollector, YoungMemory } from './memory/young-memory.js'
import type { Pool, PoolStatistics } from './pool/pool.js'
import { openPool } from './pool/pool.js'
import type {
  Caller,
  CreateRequest,
  DeleteRequest,
  ExecuteRequest,
  HistoryRequest,
  ReadRequest,
  RecordedRequest,
  WriteRequest,
} from './requests.js'
import { shapedRequest } from './request-shape.js'
import type { LmdbStore } from './stores/lmdb.js'
import { openLmdbStore } from './stores/lmdb.js'
import { openMemoryStore } from './stores/memory.js'
import type { Store } from './stores/store.js'
import { DroppedReaders } from './dropped-readers.js'
import { sourceOf, Steps, type StepSource } from './steps.js'
import { parseDurationMs } from './time.js'
import { EachMessage, WireBatches } from './wire-batches.js'

export interface BackendOptions {
  /** How requests name it; the type unless given. */
  readonly name?: string
  readonly type: string
  /** csv: where the files are; by default the folder `csv` in the data folder. */
  readonly rootDir?: string
  /** tsdb: how long tables keep their samples that are made without a `ttl` of their own, for example '30d'; for ever. */
  readonly ttl?: string
  /** kv: items that the command `infer` looks at, at most; 11 unless given, and 10,000 in any case. */
  readonly inferItemCount?: number
}

export interface EngineOptions {
  /** Where everything is kept; made when it is missing. Without one, all is in memory and gone with the engine. */
  readonly dataDir?: string | null
  /** Default: the four types under their own names. */
  readonly backends?: readonly BackendOptions[]
  /** Shared memory, in bytes: frames on their way, recent rows, label sets. A quarter of the machine's, up to 1 GiB. */
  readonly memoryByteLength?: number
  /** Worker threads; one a core, up to 8. */
  readonly workerCount?: number
  /** How much of the history is kept; false: none is written. */
  readonly history?: HistoryOptions | false
  /** Told what went wrong outside any request, and what belongs in a log. Default: warnings of the process. */
  readonly report?: (message: string, error: unknown) => void
  /** The container of key-value tables whose requests name none, 'users'; '': then the path must begin with one. */
  readonly container?: string
  /** The clock, in ms since 1970. */
  readonly nowMs?: () => number
}

/** What an engine holds and does, for monitoring. */
export interface EngineStatistics {
  readonly memory: SharedMemoryStatistics
  readonly pool: PoolStatistics
}

const optionTypes: OptionTypes<EngineOptions> = {
  dataDir: 'string',
  backends: 'list',
  memoryByteLength: 'number',
  workerCount: 'number',
  // Or false: none is kept.
  history: 'object or false',
  report: 'function',
  container: 'string',
  nowMs: 'function',
}
const backendOptionTypes: OptionTypes<BackendOptions> = {
  name: 'string',
  type: 'string',
  rootDir: 'string',
  ttl: 'string',
  inferItemCount: 'number',
}
const historyOptionTypes: OptionTypes<HistoryOptions> = {
  retentionMs: 'number',
  retentionByteLength: 'number',
}

const backendTypes = ['tsdb', 'kv', 'stream', 'csv']
/** Rewriting the store's file is worth it when this share of it, and this much, would be given back. */
const freeShareMin = 0.25
const freeByteLengthMin = 1024 * 1024
const plainScratchByteLength = 1024 * 1024

/** What a request of a table always has, though it may be empty. */
const names = ['backend', 'table'] as const
const commandNames = ['backend', 'table', 'command'] as const

/** Typed columns in and out, over the same verbs as EngineApi. */
export class Engine implements EngineApi {
  readonly #store: Store
  readonly #pool: Pool
  readonly #parts: BackendParts
  readonly #backends: ReadonlyMap<string, Backend>
  readonly #history: History | null
  readonly #young = new YoungMemory()
  readonly #readers: DroppedReaders
  #closed: Promise<void> | null = null

  private constructor(parts: BackendParts, backends: ReadonlyMap<string, Backend>, history: History | null) {
    this.#parts = parts
    this.#store = parts.store
    this.#pool = parts.pool
    this.#backends = backends
    this.#history = history
    const { memory, outgoing, report } = parts
    this.#readers = new DroppedReaders({
      isWaitedFor: () => outgoing.isWaitedFor || memory.arenas.statistics().waiterCount > 0,
      collect: exposedCollector(),
      report,
    })
  }

  /** Throws INVALID_ARGUMENT for an option of another name or type: data meant for a folder would be kept in memory only. */
  static async open(options: EngineOptions = {}): Promise<Engine> {
    checkOptions('an engine', options, optionTypes)
    if (options.history) checkOptions('the history', options.history, historyOptionTypes)
    const report = guarded(options.report ?? warn)
    const wanted = options.backends ?? backendTypes.map((type): BackendOptions => ({ type }))
    for (const backend of wanted) checkOptions('a backend', backend, backendOptionTypes)
    const takenNames = new Set<string>()
    for (const { type, name = type, ttl } of wanted) {
      if (takenNames.has(name)) throw new FramesError('INVALID_ARGUMENT', `two backends are named '${name}'`)
      takenNames.add(name)
      if (!backendTypes.includes(type)) throw new FramesError('UNKNOWN_BACKEND', `unknown backend - "${type}"`)
      // Before anything is opened.
      parseDurationMs(ttl ?? '')
    }
    const { workerCount } = options
    if (
      workerCount !== undefined &&
      !(Number.isInteger(workerCount) && workerCount >= 1 && workerCount <= workerCountMax)
    ) {
      throw new FramesError(
        'INVALID_ARGUMENT',
        `workerCount is ${workerCount}, which is no number of threads from 1 to ${workerCountMax}`,
      )
    }
    const memory = createSharedMemory({
      heapBase: kernelHeapBase(),
      ...(options.memoryByteLength === undefined ? {} : { byteLength: options.memoryByteLength }),
    })
    const kernels = loadKernels(memory.memory)
    const dataDir = options.dataDir ?? null
    const lmdb: LmdbStore | null =
      dataDir === null ? null : await openLmdbStore({ path: dataDir, memory: memory.memory })
    const store: Store = lmdb ?? openMemoryStore()
    const pool = openPool({
      memory,
      ...(workerCount === undefined ? {} : { workerCount }),
      ...(lmdb === null ? {} : { readerModule: new URL('../threads/lmdb-reader.js', import.meta.url) }),
      onEvent: (event) => report(`worker pool: ${JSON.stringify(event)}`, null),
    })
    const catalog = new Catalog(store)
    const parts: BackendParts = {
      store,
      catalog,
      memory,
      kernels,
      pool,
      inputs: new InputGate(memory.arenas),
      outgoing: new OutgoingMessages(kernels.u8, memory.arenas),
      defaultContainer: options.container ?? 'users',
      shrinkStore: () => (lmdb === null ? Promise.resolve() : shrink(lmdb)),
      nowMs: options.nowMs ?? Date.now,
      report,
    }
    const backends = new Map<string, Backend>()
    // Tables of these types are the same under every name of their type: only one may have them open.
    let kv: Kv | null = null
    let streams: Streams | null = null
    for (const { type, name, rootDir, ttl, inferItemCount } of wanted) {
      if (type === 'tsdb') backends.set(name ?? type, new Tsdb(parts, ttl === undefined ? {} : { ttl }))
      else if (type === 'csv') {
        backends.set(name ?? type, new Csv(parts, rootDir ?? (dataDir === null ? null : join(dataDir, 'csv'))))
      } else if (type === 'kv') {
        kv ??= new Kv(parts, inferItemCount)
        backends.set(name ?? type, kv)
      } else {
        streams ??= new Streams(parts)
        backends.set(name ?? type, streams)
      }
    }
    try {
      await catalog.eraseOrphans()
    } catch (error) {
      await pool.close()
      await store.close()
      throw error
    }
    return new Engine(parts, backends, options.history === false ? null : new History(parts, options.history))
  }

  /** The backend of a request; `nosql` is `kv` unless a backend is really named so. */
  #backend(name: string): Backend {
    if (this.#closed !== null) throw new FramesError('SHUTTING_DOWN', 'the engine is closed')
    const backend = this.#backends.get(name) ?? (name === 'nosql' ? this.#backends.get('kv') : undefined)
    if (backend === undefined) throw new FramesError('UNKNOWN_BACKEND', `unknown backend - ${name}`)
    return backend
  }

  /** The configured name of a backend; of an unknown one the name as given. */
  #nameOf(name: string): string {
    return !this.#backends.has(name) && name === 'nosql' && this.#backends.has('kv') ? 'kv' : name
  }

  #begin(recorded: RecordedRequest, options: CallOptions): CallRecord {
    checkCallOptions(options)
    if (this.#history === null) return new CallRecord(recorded, '', undefined, 0, null)
    return this.#history.begin(recorded, this.#nameOf(recorded.request.backend), options.caller)
  }

  /** A call with its entry in the history. */
  async #recorded<T>(
    recorded: RecordedRequest,
    options: CallOptions,
    work: (record: CallRecord) => Promise<T>,
  ): Promise<T> {
    const record = this.#begin(recorded, options)
    try {
      const result = await work(record)
      record.end()
      return result
    } catch (error) {
      record.end(error)
      throw error
    }
  }

  /** The messages of a read with its entry in the history, which is written when the last one was taken. */
  async *#recordedRead<T>(
    request: ReadRequest,
    options: CallOptions,
    messages: (record: CallRecord) => AsyncIterable<T>,
  ): AsyncGenerator<T, void, undefined> {
    const record = this.#begin({ action: 'read', request }, options)
    record.count(0, 0)
    try {
      yield* messages(record)
      record.end()
    } catch (error) {
      record.end(error)
      throw error
    } finally {
      // The reader has stopped: by itself, or because its call was ended.
      record.end(options.signal?.aborted === true ? options.signal.reason : undefined)
    }
  }

  async create(given: CreateRequest, options: CallOptions = {}): Promise<void> {
    const request = shapedRequest(given, names)
    const work = async (): Promise<void> => this.#backend(request.backend).create(request, options)
    return this.#recorded({ action: 'create', request }, options, work)
  }

  /** Opens a write; frames go in one after the other, each is stored whole or not at all. */
  async openWrite(given: WriteRequest, options: CallOptions = {}): Promise<EngineWriteSession> {
    const request = shapedRequest(given, names)
    const record = this.#begin({ action: 'write', request }, options)
    try {
      const session = await this.#backend(request.backend).openWrite(request, options)
      return new EngineWriteSession(session, record, () => this.#closed !== null)
    } catch (error) {
      record.end(error)
      throw error
    }
  }

  /** Writes frames and resolves when all of them are durable. */
  async write(
    request: WriteRequest,
    frames: Frame | Iterable<Frame> | AsyncIterable<Frame>,
    options: CallOptions = {},
  ): Promise<WriteResult> {
    const session = await this.openWrite(request, options)
    try {
      if (frames instanceof Frame) await session.add(frames)
      else for await (const frame of eachFrame(frames)) await session.add(frame)
      return await session.finish()
    } catch (error) {
      session.abort()
      throw error
    }
  }

  /**
   * Frames with buffers of their own, in order; the next is read while this one is used. A request of wrong types is refused at
   * once, here and by the other reads: INVALID_ARGUMENT.
   */
  read(given: ReadRequest, options: CallOptions = {}): AsyncGenerator<Frame, void, undefined> {
    const request = shapedRequest(given, names)
    return this.#readers.steps(
      sourceOf(this.#recordedRead(request, options, (record) => this.#frames(request, options, record))),
    )
  }

  async *#frames(
    request: ReadRequest,
    options: CallOptions,
    record: CallRecord,
  ): AsyncGenerator<Frame, void, undefined> {
    for await (const { frame } of this.#backend(request.backend).read(request, 'columns', options)) {
      if (frame === null) continue
      const own = takeFrame(this.#parts.kernels, frame)
      const { byteLength } = own
      record.count(own.length, byteLength)
      this.#young.add(byteLength)
      yield own
    }
  }

  readEncoded(
    given: ReadRequest,
    format: ReadFormat,
    options: ReadEncodedOptions = {},
  ): AsyncGenerator<Uint8Array, void, undefined> {
    if (format === 'wire') return new Steps(new EachMessage(this.readBatches(given, options)))
    const request = shapedRequest(given, names)
    return this.#steps(
      sourceOf(this.#recordedRead(request, options, (record) => this.#encoded(request, format, options, record))),
      options,
    )
  }

  readBatches(given: ReadRequest, options: ReadEncodedOptions = {}): AsyncGenerator<WireBatch, void, undefined> {
    const request = shapedRequest(given, names)
    const record = this.#begin({ action: 'read', request }, options)
    record.count(0, 0)
    const open = () => sourceOf(this.#backend(request.backend).read(request, 'wire', options))
    return this.#steps(new WireBatches(open, record, options, this.#young), options)
  }

  /** Who borrows memory gives it back, and so ends what it reads. */
  #steps<T>(source: StepSource<T>, { borrows }: ReadEncodedOptions): Steps<T> {
    return borrows === true ? new Steps(source) : this.#readers.steps(source)
  }

  async *#encoded(
    request: ReadRequest,
    format: Exclude<ReadFormat, 'wire'>,
    options: ReadEncodedOptions,
    record: CallRecord,
  ): AsyncGenerator<Uint8Array, void, undefined> {
    const backend = this.#backend(request.backend)
    let index = 0
    let columns: readonly ColumnHead[] = []
    for await (const message of backend.read(request, 'columns', { ...options, describe: format === 'arrow' })) {
      columns = message.columns ?? columns
      const { frame } = message
      if (frame === null) continue
      const bytes = await this.#format({ kind: 'frame.format', frame, format, index: index++, columns }, options.signal)
      record.count(message.rowCount, bytes.byteLength)
      this.#young.add(bytes.byteLength + (frame.memory?.byteLength ?? 0))
      yield bytes
    }
    const end = await this.#format({ kind: 'frame.format', frame: null, format, index, columns }, options.signal)
    if (end.length > 0) yield end
  }

  /** Waits for the end of the job also where the signal aborts: it reads columns that are released then. */
  async #format(job: FormatFrameJob, signal: CancelSignal | undefined): Promise<Uint8Array> {
    const done = await this.#pool.runToEnd<Uint8Array>(job, { scratchByteLength: 0, signal })
    done.release()
    return done.result
  }

  async delete(given: DeleteRequest, options: CallOptions = {}): Promise<void> {
    const request = shapedRequest(given, names)
    const work = async (): Promise<void> => this.#backend(request.backend).delete(request, options)
    return this.#recorded({ action: 'delete', request }, options, work)
  }

  /** The frame a command answers with, or null. */
  async execute(given: ExecuteRequest, options: CallOptions = {}): Promise<Frame | null> {
    const request = shapedRequest(given, commandNames)
    // Not by #recorded, here and below: many small calls come this way, and each function that waits costs them.
    const record = this.#begin({ action: 'execute', request }, options)
    try {
      const answer = await this.#backend(request.backend).execute(request, executeOptions(options, 'columns'))
      assert(!(answer instanceof Uint8Array), 'an answer of columns is no wire bytes')
      const isFrame = answer === null || answer instanceof Frame
      const frame = isFrame ? answer : new Frame({ columns: answer.columns.map(plainColumn) })
      if (frame !== null) record.count(frame.length, frame.byteLength)
      record.end()
      return frame
    } catch (error) {
      record.end(error)
      throw error
    }
  }

  async executeEncoded(given: ExecuteRequest, options: CallOptions = {}): Promise<Uint8Array | null> {
    const request = shapedRequest(given, commandNames)
    const record = this.#begin({ action: 'execute', request }, options)
    try {
      const answer = await this.#backend(request.backend).execute(request, executeOptions(options, 'wire'))
      assert(!(answer instanceof Frame), 'a frame for the wire is encoded by the backend')
      const isDone = answer === null || answer instanceof Uint8Array
      const bytes = isDone ? answer : await this.#encode(answer)
      if (bytes !== null) record.byteLength = bytes.byteLength
      if (!isDone) record.rowCount = answer.columns[0]?.values.length ?? 0
      record.end()
      return bytes
    } catch (error) {
      record.end(error)
      throw error
    }
  }

  async #encode(plain: PlainFrame): Promise<Uint8Array> {
    const job: EncodeFrameJob = { kind: 'frame.encode', plain }
    const done = await this.#pool.run<Slice>(job, { scratchByteLength: plainScratchByteLength })
    try {
      const { byteOffset, byteLength } = done.result
      return this.#parts.kernels.u8.slice(byteOffset, byteOffset + byteLength)
    } finally {
      done.release()
    }
  }

  /** Which requests there were, in the order in which they ended: frames of up to 1000 rows. */
  async *history(request: HistoryRequest = {}, options: CallOptions = {}): AsyncGenerator<Frame, void, undefined> {
    for await (const { frame } of this.#readHistory(request, 'columns', options)) {
      if (frame !== null) yield takeFrame(this.#parts.kernels, frame)
    }
  }

  async *historyEncoded(
    request: HistoryRequest,
    options: CallOptions = {},
  ): AsyncGenerator<Uint8Array, void, undefined> {
    for await (const { bytes } of this.#readHistory(request, 'wire', options)) if (bytes !== null) yield bytes
  }

  #readHistory(request: HistoryRequest, format: 'wire' | 'columns', options: CallOptions) {
    if (this.#closed !== null) throw new FramesError('SHUTTING_DOWN', 'the engine is closed')
    if (this.#history === null) throw new FramesError('HISTORY_OFF', 'history server was not initialized properly')
    const shaped = shapedRequest(request)
    return this.#history.read(shaped, this.#nameOf(shaped.backend ?? ''), format, options.signal)
  }

  recordRefused(recorded: RecordedRequest, told: { caller: Caller; error: unknown; durationMs: number }): void {
    const backend = this.#nameOf(recorded.request.backend)
    this.#history?.addRefused(recorded, backend, told)
  }

  statistics(): EngineStatistics {
    return { memory: this.#parts.memory.statistics(), pool: this.#pool.statistics() }
  }

  /** Waits for what is at work, then releases everything; until then the process does not end by itself. */
  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async #close(): Promise<void> {
    try {
      for (const backend of new Set(this.#backends.values())) await backend.close()
      await this.#history?.close()
    } finally {
      await this.#pool.close()
      await this.#store.close()
    }
  }
}

/** Throws INVALID_ARGUMENT for what a program in plain JavaScript gives in the place of options, or of a signal. */
function checkCallOptions(options: CallOptions): void {
  if (typeof options !== 'object' || options === null)
    throw new FramesError('INVALID_ARGUMENT', 'the options of a call are no object')
  // A server makes signals when they are asked for.
  if (options.caller !== undefined || options.signal === undefined) return
  const { signal } = options
  if (typeof signal !== 'object' || signal === null || typeof signal.addEventListener !== 'function')
    throw new FramesError('INVALID_ARGUMENT', 'the signal of a call is no AbortSignal')
}

function warn(message: string, error: unknown): void {
  process.emitWarning(error instanceof Error ? `${message}: ${error.stack}` : message, 'framesd')
}

/** Reports come from where nobody would catch what the program's function throws. */
function guarded(report: NonNullable<EngineOptions['report']>): NonNullable<EngineOptions['report']> {
  return (message, error) => {
    try {
      report(message, error)
    } catch (failure) {
      warn(message, error)
      warn('the function for reports has thrown', failure)
    }
  }
}

const withoutSignal = { columns: { format: 'columns' }, wire: { format: 'wire' } } as const

/** Not by spreading: that makes an object of its own shape for each call, and asks for a signal that may not be needed. */
function executeOptions(options: CallOptions, format: 'columns' | 'wire'): ExecuteOptions {
  return 'signal' in options ? new SignalledOptions(options, format) : withoutSignal[format]
}

class SignalledOptions implements ExecuteOptions {
  readonly format: 'columns' | 'wire'
  readonly #options: CallOptions

  constructor(options: CallOptions, format: 'columns' | 'wire') {
    this.format = format
    this.#options = options
  }

  get signal(): CancelSignal {
    return this.#options.signal as CancelSignal
  }
}

/** A write at work; see WriteSession. */
export class EngineWriteSession implements WriteSession {
  readonly #session: BackendWriteSession
  readonly #record: CallRecord
  #failure: unknown
  #isFinished = false
  readonly #isEngineClosed: () => boolean
  /** Frames that are being taken. */
  readonly #addings = new Set<Promise<void>>()

  constructor(session: BackendWriteSession, record: CallRecord, isEngineClosed: () => boolean) {
    this.#session = session
    this.#record = record
    this.#isEngineClosed = isEngineClosed
  }

  /** Takes one frame, which must not change before this resolves: then the next may be given. */
  async add(frame: Frame): Promise<void> {
    if (!(frame instanceof Frame)) throw new FramesError('INVALID_ARGUMENT', 'what is to be written is no Frame')
    this.#checkOpen()
    this.#record.count(0, frame.byteLength)
    return this.#taking(this.#session.addFrame(frame))
  }

  async addWire(frame: Uint8Array): Promise<void> {
    if (!(frame instanceof Uint8Array)) throw new FramesError('INVALID_ARGUMENT', 'a frame of the wire is bytes')
    this.#checkOpen()
    this.#record.count(0, frame.byteLength)
    return this.#taking(this.#session.addWire(frame))
  }

  /** Resolves when the frames so far are stored. */
  stored(): Promise<void> {
    return this.#noting(this.#session.stored())
  }

  async #taking(adding: Promise<void>): Promise<void> {
    this.#addings.add(adding)
    try {
      await this.#noting(adding)
    } finally {
      this.#addings.delete(adding)
    }
  }

  /**
   * Throws PRECONDITION: a frame after the last one would be taken and not be stored; SHUTTING_DOWN: it would wait for memory that
   * nobody gives back.
   */
  #checkOpen(): void {
    if (this.#isEngineClosed()) throw new FramesError('SHUTTING_DOWN', 'the engine is closed')
    if (this.#isFinished) throw new FramesError('PRECONDITION', 'the write is finished, and takes no more frames')
  }

  /** What went wrong first is what the history says when the write is given up. */
  async #noting(adding: Promise<void>): Promise<void> {
    try {
      await adding
    } catch (error) {
      this.#failure ??= error
      throw error
    }
  }

  async finish(): Promise<WriteResult> {
    this.#isFinished = true
    try {
      // Of a program that has not waited for `add`: a frame that is still being taken would be lost.
      if (this.#addings.size > 0) await Promise.allSettled(this.#addings)
      const result = await this.#session.finish()
      this.#record.rowCount = result.rowCount
      this.#record.end()
      return result
    } catch (error) {
      this.#record.end(error)
      throw error
    }
  }

  abort(): void {
    this.#session.abort()
    this.#record.end(this.#failure ?? new FramesError('CANCELLED', 'the write was given up'))
  }
}

/** Opens an engine over a data folder, or in memory. Throws STORE_IN_USE when another process has the folder. */
export function openEngine(options: EngineOptions = {}): Promise<Engine> {
  return Engine.open(options)
}

function plainColumn({ name, dtype, values }: PlainColumn): Column {
  return sliceColumn(name, [...values], dtype)
}

async function shrink(store: LmdbStore): Promise<void> {
  const { fileByteLength, usedByteLength } = await store.space()
  const free = fileByteLength - usedByteLength
  if (free >= freeByteLengthMin && free >= freeShareMin * fileByteLength) await store.compactFile()
}
