// The engine: puts the parts together, and sends each request to its backend.
import { join } from 'node:path'
import { assert } from './assert.js'
import type { Backend, BackendParts, BackendWriteSession, CallOptions } from './backends/backend.js'
import { Csv } from './backends/csv/csv.js'
import { InputGate } from './backends/input-gate.js'
import { Kv } from './backends/kv/kv.js'
import { Streams } from './backends/stream/stream.js'
import { Tsdb } from './backends/tsdb/tsdb.js'
import { Catalog } from './blocks/catalog.js'
import { takeFrame } from './codec/columns.js'
import type { EncodeFrameJob, FormatFrameJob } from './codec/jobs.js'
import type { EngineApi, ReadFormat, WriteResult, WriteSession } from './engine-api.js'
import { FramesError } from './errors.js'
import { sliceColumn } from './frame/builder.js'
import type { ColumnHead } from './frame/column-head.js'
import { Frame } from './frame/frame.js'
import type { PlainFrame } from './frame/plain.js'
import { kernelHeapBase, loadKernels } from './kernels/kernels.js'
import type { Slice } from './memory/slice.js'
import { createSharedMemory } from './memory/shared-memory.js'
import type { SharedMemoryStatistics } from './memory/shared-memory.js'
import type { Pool, PoolStatistics } from './pool/pool.js'
import { openPool } from './pool/pool.js'
import type {
  CreateRequest,
  DeleteRequest,
  ExecuteRequest,
  HistoryRequest,
  ReadRequest,
  WriteRequest,
} from './requests.js'
import type { LmdbStore } from './stores/lmdb.js'
import { openLmdbStore } from './stores/lmdb.js'
import { openMemoryStore } from './stores/memory.js'
import type { Store } from './stores/store.js'
import { parseDurationMs } from './time.js'

export interface BackendOptions {
  /** How requests name it; the type unless given. */
  readonly name?: string
  readonly type: string
  /** csv: where the files are; by default the folder `csv` in the data folder. */
  readonly rootDir?: string
  /** tsdb: how long tables keep their samples that are made without a `ttl` of their own, for example '30d'; for ever. */
  readonly ttl?: string
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

const backendTypes = ['tsdb', 'kv', 'stream', 'csv']
/** Rewriting the store's file is worth it when this share of it, and this much, would be given back. */
const freeShareMin = 0.25
const freeByteLengthMin = 1024 * 1024
const plainScratchByteLength = 1024 * 1024

/** Typed columns in and out, over the same verbs as EngineApi. */
export class Engine implements EngineApi {
  readonly #store: Store
  readonly #pool: Pool
  readonly #parts: BackendParts
  readonly #backends: ReadonlyMap<string, Backend>
  #closed: Promise<void> | null = null

  private constructor(parts: BackendParts, backends: ReadonlyMap<string, Backend>) {
    this.#parts = parts
    this.#store = parts.store
    this.#pool = parts.pool
    this.#backends = backends
  }

  static async open(options: EngineOptions = {}): Promise<Engine> {
    const report =
      options.report ??
      ((message, error) =>
        process.emitWarning(error instanceof Error ? `${message}: ${error.stack}` : message, 'framesd'))
    const wanted = options.backends ?? backendTypes.map((type): BackendOptions => ({ type }))
    for (const { type, ttl } of wanted) {
      if (!backendTypes.includes(type)) throw new FramesError('UNKNOWN_BACKEND', `unknown backend - "${type}"`)
      // Before anything is opened.
      parseDurationMs(ttl ?? '')
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
      ...(options.workerCount === undefined ? {} : { workerCount: options.workerCount }),
      ...(lmdb === null ? {} : { readerModule: new URL('./stores/lmdb-reader.js', import.meta.url) }),
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
      defaultContainer: options.container ?? 'users',
      shrinkStore: () => (lmdb === null ? Promise.resolve() : shrink(lmdb)),
      nowMs: options.nowMs ?? Date.now,
      report,
    }
    const backends = new Map<string, Backend>()
    for (const { type, name, rootDir, ttl } of wanted) {
      if (type === 'tsdb') backends.set(name ?? type, new Tsdb(parts, ttl === undefined ? {} : { ttl }))
      else if (type === 'kv') backends.set(name ?? type, new Kv(parts))
      else if (type === 'csv') {
        backends.set(name ?? type, new Csv(parts, rootDir ?? (dataDir === null ? null : join(dataDir, 'csv'))))
      } else backends.set(name ?? type, new Streams(parts))
    }
    try {
      await catalog.eraseOrphans()
    } catch (error) {
      await pool.close()
      await store.close()
      throw error
    }
    return new Engine(parts, backends)
  }

  /** The backend of a request; `nosql` is `kv` unless a backend is really named so. */
  #backend(name: string): Backend {
    if (this.#closed !== null) throw new FramesError('SHUTTING_DOWN', 'the engine is closed')
    const backend = this.#backends.get(name) ?? (name === 'nosql' ? this.#backends.get('kv') : undefined)
    if (backend === undefined) throw new FramesError('UNKNOWN_BACKEND', `unknown backend - ${name}`)
    return backend
  }

  async create(request: CreateRequest, options: CallOptions = {}): Promise<void> {
    await this.#backend(request.backend).create(request, options)
  }

  /** Opens a write; frames go in one after the other, each is stored whole or not at all. */
  async openWrite(request: WriteRequest, options: CallOptions = {}): Promise<EngineWriteSession> {
    return new EngineWriteSession(await this.#backend(request.backend).openWrite(request, options))
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
      else for await (const frame of frames) await session.add(frame)
      return await session.finish()
    } catch (error) {
      session.abort()
      throw error
    }
  }

  /** Frames with buffers of their own, in order; the next is read while this one is used. */
  async *read(request: ReadRequest, options: CallOptions = {}): AsyncGenerator<Frame> {
    const { kernels } = this.#parts
    for await (const { frame } of this.#backend(request.backend).read(request, 'columns', options)) {
      if (frame !== null) yield takeFrame(kernels, frame)
    }
  }

  async *readEncoded(request: ReadRequest, format: ReadFormat, options: CallOptions = {}): AsyncGenerator<Uint8Array> {
    const backend = this.#backend(request.backend)
    if (format === 'wire') {
      for await (const { bytes } of backend.read(request, 'wire', options)) if (bytes !== null) yield bytes
      return
    }
    let index = 0
    let columns: readonly ColumnHead[] = []
    for await (const message of backend.read(request, 'columns', { ...options, describe: format === 'arrow' })) {
      columns = message.columns ?? columns
      const { frame } = message
      if (frame !== null) yield await this.#format({ kind: 'frame.format', frame, format, index: index++, columns })
    }
    const end = await this.#format({ kind: 'frame.format', frame: null, format, index, columns })
    if (end.length > 0) yield end
  }

  async #format(job: FormatFrameJob): Promise<Uint8Array> {
    const done = await this.#pool.run<Uint8Array>(job, { scratchByteLength: 0 })
    done.release()
    return done.result
  }

  async delete(request: DeleteRequest, options: CallOptions = {}): Promise<void> {
    await this.#backend(request.backend).delete(request, options)
  }

  /** The frame a command answers with, or null. */
  async execute(request: ExecuteRequest, options: CallOptions = {}): Promise<Frame | null> {
    const answer = await this.#backend(request.backend).execute(request, { ...options, format: 'columns' })
    if (answer === null || answer instanceof Frame) return answer
    assert(!(answer instanceof Uint8Array), 'an answer of columns is no wire bytes')
    return new Frame({
      columns: answer.columns.map(({ name, dtype, values }) => sliceColumn(name, [...values], dtype)),
    })
  }

  async executeEncoded(request: ExecuteRequest, options: CallOptions = {}): Promise<Uint8Array | null> {
    const answer = await this.#backend(request.backend).execute(request, { ...options, format: 'wire' })
    if (answer === null || answer instanceof Uint8Array) return answer
    assert(!(answer instanceof Frame), 'a frame for the wire is encoded by the backend')
    return this.#encode(answer)
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

  // biome-ignore lint/correctness/useYield: the history comes with its own backend; until then every call is an error
  async *historyEncoded(_request: HistoryRequest): AsyncGenerator<Uint8Array> {
    throw new FramesError(
      'NOT_IN_THIS_VERSION',
      'history server was not initialized properly: the history is not available in this version',
    )
  }

  statistics(): EngineStatistics {
    return { memory: this.#parts.memory.statistics(), pool: this.#pool.statistics() }
  }

  /** Waits for what is at work, then releases everything. */
  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async #close(): Promise<void> {
    try {
      for (const backend of this.#backends.values()) await backend.close()
    } finally {
      await this.#pool.close()
      await this.#store.close()
    }
  }
}

/** A write at work; see WriteSession. */
export class EngineWriteSession implements WriteSession {
  readonly #session: BackendWriteSession

  constructor(session: BackendWriteSession) {
    this.#session = session
  }

  /** Takes one frame, which must not change before this resolves: then the next may be given. */
  add(frame: Frame): Promise<void> {
    return this.#session.addFrame(frame)
  }

  addWire(frame: Uint8Array): Promise<void> {
    return this.#session.addWire(frame)
  }

  finish(): Promise<WriteResult> {
    return this.#session.finish()
  }

  abort(): void {
    this.#session.abort()
  }
}

/** Opens an engine over a data folder, or in memory. Throws STORE_IN_USE when another process has the folder. */
export function openEngine(options: EngineOptions = {}): Promise<Engine> {
  return Engine.open(options)
}

async function shrink(store: LmdbStore): Promise<void> {
  const { fileByteLength, usedByteLength } = await store.space()
  const free = fileByteLength - usedByteLength
  if (free >= freeByteLengthMin && free >= freeShareMin * fileByteLength) await store.compactFile()
}
