// An engine that stores nothing: it records what it is asked, and answers as the test tells it to.
import type { EngineApi, ReadFormat, WriteResult, WriteSession } from '../dist/engine/engine-api.js'
import { FramesError } from '../dist/engine/errors.js'
import { ListedMessages } from '../dist/engine/frame/wire-messages.js'
import type {
  CreateRequest,
  DeleteRequest,
  ExecuteRequest,
  HistoryRequest,
  ReadRequest,
  RecordedRequest,
  WriteRequest,
} from '../dist/engine/requests.js'

export interface Asked {
  readonly verb: string
  readonly request: CreateRequest | DeleteRequest | ExecuteRequest | HistoryRequest | ReadRequest | WriteRequest
  readonly format?: ReadFormat
}

/** A table named so makes the call fail with TABLE_NOT_FOUND; `defect` makes it throw an error that is none of ours. */
export const missingTable = 'missing'
export const defectTable = 'defect'

export class FakeEngine implements EngineApi {
  readonly asked: Asked[] = []
  /** What failed before it was asked. */
  readonly refused: { recorded: RecordedRequest; error: unknown }[] = []
  /** Copies of the frames that writes have brought. */
  readonly frames: Buffer[] = []
  /** What a read or history answers; the number of messages taken from it so far. */
  answer: () => AsyncIterable<Uint8Array> | Iterable<Uint8Array> = () => []
  pulledCount = 0
  isReadReleased = false
  commandFrame: Uint8Array | null = null
  /** Called for each frame of a write before it is taken. */
  onFrame: (frame: Uint8Array, index: number) => Promise<void> | void = () => {}
  /** While the frames so far are stored. */
  onStored: () => Promise<void> | void = () => {}
  result: WriteResult | null = null
  /** Called when a write finishes, before it is durable. */
  onFinish: () => Promise<void> | void = () => {}
  abortCount = 0
  finishCount = 0
  isClosed = false
  /** The signal of the last call. */
  signal: AbortSignal | undefined

  async create(request: CreateRequest, options?: { signal?: AbortSignal }): Promise<void> {
    await this.#take('create', request, options?.signal)
  }

  async delete(request: DeleteRequest, options?: { signal?: AbortSignal }): Promise<void> {
    await this.#take('delete', request, options?.signal)
  }

  async executeEncoded(request: ExecuteRequest, options?: { signal?: AbortSignal }): Promise<Uint8Array | null> {
    await this.#take('execute', request, options?.signal)
    return this.commandFrame
  }

  async openWrite(request: WriteRequest, options?: { signal?: AbortSignal }): Promise<WriteSession> {
    await this.#take('write', request, options?.signal)
    let frameCount = 0
    let isOver = false
    return {
      addWire: async (frame) => {
        const copy = Buffer.from(frame)
        await this.onFrame(copy, frameCount)
        frameCount++
        this.frames.push(copy)
      },
      stored: async () => this.onStored(),
      finish: async () => {
        await this.onFinish()
        isOver = true
        this.finishCount++
        return this.result ?? { frameCount, rowCount: frameCount * 10 }
      },
      abort: () => {
        if (!isOver) this.abortCount++
        isOver = true
      },
    }
  }

  async *readEncoded(request: ReadRequest, format: ReadFormat, options?: { signal?: AbortSignal }) {
    await this.#take('read', request, options?.signal, format)
    yield* this.#messages()
  }

  async *readBatches(request: ReadRequest, options?: { signal?: AbortSignal }) {
    for await (const message of this.readEncoded(request, 'wire', options))
      yield { messages: new ListedMessages([message]), isLast: false }
  }

  async *historyEncoded(request: HistoryRequest, options?: { signal?: AbortSignal }) {
    await this.#take('history', request, options?.signal)
    yield* this.#messages()
  }

  recordRefused(recorded: RecordedRequest, { error }: { error: unknown }): void {
    this.refused.push({ recorded, error })
  }

  async *#messages(): AsyncGenerator<Uint8Array, void, undefined> {
    try {
      for await (const message of this.answer()) {
        this.pulledCount++
        yield message
      }
    } finally {
      this.isReadReleased = true
    }
  }

  async close(): Promise<void> {
    this.isClosed = true
  }

  async #take(verb: string, request: Asked['request'], signal: AbortSignal | undefined, format?: ReadFormat) {
    this.asked.push({ verb, request, ...(format === undefined ? {} : { format }) })
    this.signal = signal
    if (request.table === missingTable) throw new FramesError('TABLE_NOT_FOUND', `no table '${request.table}'`)
    if (request.table === defectTable) throw new TypeError('secret detail of /home/framesd/engine.ts')
  }
}

/** Resolves when the condition holds; fails the test after five seconds. */
export async function eventually(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  const endMs = Date.now() + 5000
  while (!(await condition())) {
    if (Date.now() > endMs) throw new Error(`${what}: not within five seconds`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

/** What the promise gives; fails the test after five seconds. */
export async function within<T>(what: string, promise: Promise<T>): Promise<T> {
  let hasSettled = false
  const settle = (): void => {
    hasSettled = true
  }
  promise.then(settle, settle)
  await eventually(what, () => hasSettled)
  return promise
}
