// What both transports share: the verbs, with the checks and the error texts of the layer above the backends.
import {
  type Caller,
  type CallOptions,
  type CancelSignal,
  type CreateRequest,
  type DeleteRequest,
  type EngineApi,
  type ExecuteRequest,
  FramesError,
  type HistoryRequest,
  type ReadEncodedOptions,
  type ReadFormat,
  type ReadRequest,
  type RecordedRequest,
  type Session,
  type StepSource,
  sourceOf,
  Steps,
  type TableRequest,
  type WireBatch,
  type WriteRequest,
  type WriteResult,
  type WriteSession,
} from '../engine/index.js'
import { AuthorizationIgnored, completeSession, readAuthorization, withoutSecrets } from './auth.js'
import { Call, type CallOwner, type Origin, type Verb } from './call.js'
import type { Config } from './config.js'
import type { Log } from './log.js'
import type { WriteHead } from './wire/requests.js'

const saveModes: ReadonlySet<string> = new Set([
  'createNewItemsOnly',
  'updateItem',
  'overwriteItem',
  'overwriteTable',
  'errorIfTableExists',
])

export class Verbs {
  readonly config: Config
  readonly #engine: EngineApi
  readonly #log: Log
  readonly #backendTypes: ReadonlyMap<string, string>
  readonly #calls = new Set<Call>()
  #callNumber = 0
  #lastSession: AdmittedSession | null = null
  #onIdle: (() => void) | null = null

  readonly #callOwner: CallOwner = {
    onRefused: ({ recorded, ...told }) => this.#engine.recordRefused(recorded, told),
    onEnd: (call) => {
      this.#calls.delete(call)
      if (this.#calls.size === 0) this.#onIdle?.()
    },
  }

  constructor(engine: EngineApi, config: Config, log: Log) {
    this.config = config
    this.#engine = engine
    this.#log = log
    this.#backendTypes = new Map(config.backends.map((backend) => [backend.name, backend.type]))
  }

  /** Starts a call. Whoever starts it ends it, with `end` or `fail`. */
  begin(verb: Verb, origin: Origin, authorization: string | null = null): Call {
    const number = ++this.#callNumber
    const call = new Call({ number, verb, authorization, log: this.#log, origin, owner: this.#callOwner })
    this.#calls.add(call)
    return call
  }

  /**
   * Resolves when no call is at work, at the latest after `withinMs`: what still works then is aborted. Readers that follow
   * a stream are told at once: they wait for what does not come any more.
   */
  async drain(withinMs: number): Promise<void> {
    const stopping = new FramesError('SHUTTING_DOWN', 'the server is stopping')
    for (const call of this.#calls) {
      if (call.asked?.action === 'read' && call.asked.request.followMs !== undefined) call.abort(stopping)
    }
    if (this.#calls.size === 0) return
    const isIdle = new Promise<void>((resolve) => {
      this.#onIdle = resolve
    })
    const timer = setTimeout(() => {
      for (const call of this.#calls) call.abort(stopping)
      this.#onIdle?.()
    }, withinMs)
    await isIdle
    clearTimeout(timer)
  }

  /** The type of the backend that a request names; null: there is none of this name. */
  backendTypeOf(name: string): string | null {
    const known = this.#backendNamed(name)
    return known === null ? null : (this.#backendTypes.get(known) ?? null)
  }

  async create(request: CreateRequest, call: Call): Promise<void> {
    const admitted = this.#admitTable({ action: 'create', request }, call)
    try {
      await this.#engine.create(admitted, handedOn(call))
    } catch (error) {
      throw call.explain(error, 'error creating table')
    }
  }

  async delete(request: DeleteRequest, call: Call): Promise<void> {
    const admitted = this.#admitTable({ action: 'delete', request }, call)
    try {
      await this.#engine.delete(admitted, handedOn(call))
    } catch (error) {
      throw call.explain(error, "can't delete")
    }
  }

  /** Wire bytes of the frame a command answers with, or null. */
  async execute(request: ExecuteRequest, call: Call): Promise<Uint8Array | null> {
    const admitted = this.#admitTable({ action: 'execute', request }, call)
    try {
      const frame = await this.#engine.executeEncoded(admitted, new CommandOptions(call))
      if (frame !== null) call.count(frame)
      return frame
    } catch (error) {
      throw call.explain(error, "can't exec")
    }
  }

  /**
   * Finished messages of a read; the bytes of one are valid until the next is asked for. borrows: as in ReadEncodedOptions.
   */
  read(
    request: ReadRequest,
    format: ReadFormat,
    call: Call,
    { borrows }: { readonly borrows: boolean } = { borrows: false },
  ): AsyncGenerator<Uint8Array, void, undefined> {
    const admit = () => {
      const admitted = this.#admitRead(request, call)
      return () => this.#engine.readEncoded(admitted, format, { ...handedOn(call), borrows })
    }
    return new Steps(new Relayed(admit, (message) => call.count(message), call, readPrefixes))
  }

  /** As read, in the format of the wire: all messages together that are ready together. */
  readBatches(request: ReadRequest, call: Call): StepSource<WireBatch> {
    const admit = () => {
      const admitted = this.#admitRead(request, call)
      return () => this.#engine.readBatches(admitted, borrowing(call))
    }
    const count = ({ messages }: WireBatch): void => call.countAll(messages)
    return new Relayed(admit, count, call, readPrefixes)
  }

  #admitRead(request: ReadRequest, call: Call): ReadRequest {
    const backend = this.#backendNamed(request.backend)
    const limit = request.limit ?? (this.config.limit > 0 ? BigInt(this.config.limit) : undefined)
    const isNamed = backend === null || backend === request.backend
    const admitted = this.#withSession(isNamed ? request : { ...request, backend }, call)
    call.asked = { action: 'read', request: admitted }
    call.isHandedOn = false
    if (backend === null) {
      throw new FramesError('UNKNOWN_BACKEND', `unknown backend - ${JSON.stringify(request.backend)}`)
    }
    return limit === undefined ? admitted : { ...admitted, limit }
  }

  history(request: HistoryRequest, call: Call): AsyncGenerator<Uint8Array, void, undefined> {
    const admit = () => {
      const filter = this.#admitHistory(request, call)
      return () => this.#engine.historyEncoded(filter, { signal: call.signal })
    }
    return new Steps(new Relayed(admit, (message) => call.count(message), call, {}))
  }

  #admitHistory(request: HistoryRequest, call: Call): HistoryRequest {
    const admitted = this.#withSession(request, call)
    if (this.config.disableHistory) {
      const text = 'history server was not initialized properly'
      throw new FramesError('HISTORY_OFF', `${text}. To enable this feature, please contact the system administrator`)
    }
    const backend = request.backend === undefined ? undefined : (this.#backendNamed(request.backend) ?? request.backend)
    return backend === undefined ? admitted : { ...admitted, backend }
  }

  /**
   * Writes the frames of a stream. They are taken one at a time, as fast as the engine takes them. An error thrown by
   * `frames` itself (bytes that are no message) ends the write and says what is stored of it.
   */
  async write(head: WriteHead, frames: AsyncIterable<Uint8Array>, call: Call): Promise<WriteResult> {
    const { saveMode } = head.request
    if (saveMode !== undefined && !saveModes.has(saveMode)) {
      call.asked = { action: 'write', request: this.#withSession(head.request, call) }
      throw new FramesError('UNKNOWN_SAVE_MODE', `no save mode named '${saveMode}'`)
    }
    const request = this.#admitTable({ action: 'write', request: head.request }, call)
    const session = await this.#openWrite(request, head.initialFrame, call)
    try {
      await this.#addFrames(session, frames, saveMode === 'overwriteTable', call)
      const result = await this.#finishWrite(session, call)
      call.facts.rowCount = result.rowCount
      const isKv = this.#backendTypes.get(request.backend) === 'kv'
      return isKv ? { ...result, skippedCount: result.skippedCount ?? 0 } : result
    } catch (error) {
      session.abort()
      throw error
    }
  }

  async #openWrite(request: WriteRequest, initialFrame: Uint8Array | null, call: Call): Promise<WriteSession> {
    let session: WriteSession | null = null
    try {
      session = await this.#engine.openWrite(request, handedOn(call))
      if (initialFrame !== null) {
        call.count(initialFrame)
        await session.addWire(initialFrame)
        // Its errors are those of opening the write.
        await call.unlessAborted(session.stored())
      }
      return session
    } catch (error) {
      session?.abort()
      throw call.explain(error, 'backend Write failed')
    }
  }

  async #addFrames(
    session: WriteSession,
    frames: AsyncIterable<Uint8Array>,
    isAllOrNothing: boolean,
    call: Call,
  ): Promise<void> {
    const source = frames[Symbol.asyncIterator]()
    for (;;) {
      let next: IteratorResult<Uint8Array>
      try {
        next = await call.unlessAborted(source.next())
      } catch (error) {
        throw await this.#brokenStream(session, error, isAllOrNothing, call)
      }
      if (next.done === true) return
      call.count(next.value)
      try {
        await call.unlessAborted(session.addWire(next.value))
      } catch (error) {
        throw call.explain(error, "can't add frame")
      }
    }
  }

  /** The error of a stream that broke off, completed by what is stored of it: nothing of an overwritten table. */
  async #brokenStream(session: WriteSession, error: unknown, isAllOrNothing: boolean, call: Call): Promise<unknown> {
    if (call.isAborted || !(error instanceof FramesError)) return call.explain(error)
    if (isAllOrNothing) return withStored(error, 'nothing of this write is stored')
    const { frameCount, rowCount } = await this.#finishWrite(session, call)
    return withStored(error, `${rowCount} rows of the ${frameCount} frames before it are stored`)
  }

  async #finishWrite(session: WriteSession, call: Call): Promise<WriteResult> {
    const seconds = this.config.timeout
    const tooLong = new FramesError('DEADLINE_EXCEEDED', `The operation timed out after ${seconds.toFixed(2)} seconds`)
    let timer: NodeJS.Timeout | undefined
    const timeout = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => reject(tooLong), seconds * 1000)
    })
    try {
      return await call.unlessAborted(Promise.race([session.finish(), timeout]))
    } catch (error) {
      throw call.explain(error, isOfFrame(error) ? "can't add frame" : "can't wait for completion")
    } finally {
      clearTimeout(timer)
    }
  }

  /** Checks that a request names a table and a backend that is served, and completes its session. */
  #admitTable<Recorded extends RecordedRequest>({ action, request }: Recorded, call: Call): Recorded['request'] {
    const backend = this.#backendNamed(request.backend)
    const isNamed = backend === null || backend === request.backend
    const admitted = this.#withSession(isNamed ? request : { ...request, backend }, call)
    call.asked = { action, request: admitted } as RecordedRequest
    if (request.backend === '' || request.table === '') throw new FramesError('MISSING_PARAMETER', 'missing parameters')
    if (backend === null) throw new FramesError('UNKNOWN_BACKEND', `unknown backend - ${request.backend}`)
    return admitted
  }

  /** The configured name: `nosql` is `kv`, unless a backend is really named so. */
  #backendNamed(name: string): string | null {
    if (this.#backendTypes.has(name)) return name
    return name === 'nosql' && this.#backendTypes.has('kv') ? 'kv' : null
  }

  #withSession<Request extends Partial<TableRequest>>(request: Request, call: Call): Request {
    const { session, secrets } = this.#admitSession(request.session, call)
    if (secrets.length > 0) call.caller.secrets.push(...secrets)
    const { facts } = call
    const { backend, table } = request
    if (backend !== undefined) facts.backend = backend
    if (table !== undefined) facts.table = table
    if (session.container !== undefined) facts.container = session.container
    if (session.user !== undefined) facts.user = session.user
    return { ...request, session }
  }

  /** Calls that follow one another mostly come with the same session. One with secrets is not kept. */
  #admitSession(given: Session | undefined, call: Call): AdmittedSession {
    const last = this.#lastSession
    if (call.authorization === null && last !== null && isSameSession(last.given, given)) return last
    const header = call.authorization === null ? {} : readAuthorization(call.authorization)
    if (header instanceof AuthorizationIgnored) {
      this.#log.warn({ id: call.number, reason: header.reason }, 'Authorization header ignored')
    }
    const override = header instanceof AuthorizationIgnored ? {} : header
    const complete = completeSession({ ...given, ...override }, this.config)
    // What came with the request counts too where the header has replaced it.
    // So does what a header says behind its scheme, also one that is not understood.
    const sent = call.authorization?.replace(/^\S*\s+/, '')
    const texts = [complete.password, complete.token, given?.password, given?.token, sent]
    const secrets = texts.filter((secret): secret is string => secret !== undefined && secret !== '')
    const admitted = { given, session: withoutSecrets(complete), secrets }
    if (call.authorization === null && secrets.length === 0) this.#lastSession = admitted
    return admitted
  }
}

/** A session as it came, and what was made of it. */
interface AdmittedSession {
  readonly given: Session | undefined
  /** Complete, and without secrets. */
  readonly session: Session
  readonly secrets: readonly string[]
}

function isSameSession(a: Session | undefined, b: Session | undefined): boolean {
  return (
    a?.container === b?.container &&
    a?.user === b?.user &&
    a?.password === b?.password &&
    a?.token === b?.token &&
    a?.path === b?.path &&
    a?.url === b?.url &&
    a?.id === b?.id
  )
}

/** Options of the engine's calls. From here on it is the engine that records how the call ends. */
function handedOn(call: Call): CallOptions {
  call.isHandedOn = true
  return { signal: call.signal, caller: call.caller }
}

function borrowing(call: Call): ReadEncodedOptions {
  call.isHandedOn = true
  return { signal: call.signal, caller: call.caller, borrows: true }
}

/** As handedOn, for commands, of which few look at the signal: it is made when one does. Not to be spread. */
class CommandOptions implements CallOptions {
  readonly #call: Call

  constructor(call: Call) {
    call.isHandedOn = true
    this.#call = call
  }

  get signal(): CancelSignal {
    return this.#call.signal
  }

  get caller(): Caller {
    return this.#call.caller
  }
}

/**
 * The engine takes a frame while it still works on the one before, so what is wrong with the last frames is known only
 * when the write is finished; to the client it is an error of a frame all the same.
 */
function isOfFrame(error: unknown): boolean {
  if (!(error instanceof FramesError)) return false
  return error.kind === 'invalid' || frameLimits.has(error.code)
}

const frameLimits: ReadonlySet<string> = new Set([
  'FRAME_TOO_LARGE',
  'VALUE_TOO_LARGE',
  'LABELS_TOO_LONG',
  'TOO_MANY_COLUMNS',
])

function withStored(error: FramesError, stored: string): FramesError {
  const complete = new FramesError(error.code, '', { cause: error })
  complete.message = `${error.message} ${stored[0].toUpperCase()}${stored.slice(1)}.`
  return complete
}

const readPrefixes = { setUp: "can't query", iteration: 'error during iteration' } as const

/**
 * Passes messages of the engine on, one each time the consumer asks. An error before the first is a failed set-up, a
 * later one a failed iteration; each has its prefix.
 */
class Relayed<T> implements StepSource<T> {
  readonly #admit: () => () => AsyncIterable<T>
  readonly #count: (message: T) => void
  readonly #call: Call
  readonly #prefixes: { readonly setUp?: string; readonly iteration?: string }
  #source: StepSource<T> | null = null
  /** What the source was asked for last: a call that is aborted does not wait for it. */
  #asked: Promise<T | null> | null = null
  #hasMessages = false

  /** admit: what is wrong with the request itself is thrown as it is, before the source is opened. */
  constructor(
    admit: () => () => AsyncIterable<T>,
    count: (message: T) => void,
    call: Call,
    prefixes: { readonly setUp?: string; readonly iteration?: string },
  ) {
    this.#admit = admit
    this.#count = count
    this.#call = call
    this.#prefixes = prefixes
  }

  async next(): Promise<T | null> {
    const known = this.#source
    const open = known === null ? this.#admit() : null
    try {
      const source = known ?? sourceOf(open!())
      this.#source = source
      this.#asked = source.next()
      const message = await this.#call.unlessAborted(this.#asked)
      if (message === null) return null
      this.#hasMessages = true
      this.#count(message)
      return message
    } catch (error) {
      throw this.#call.explain(error, this.#prefixOf(error))
    }
  }

  /** An error that says itself that it is one of iteration (a missing column of a kv table) has its prefix. */
  #prefixOf(error: unknown): string | undefined {
    const { setUp, iteration } = this.#prefixes
    if (this.#hasMessages) return iteration
    const isPrefixed = iteration !== undefined && error instanceof FramesError && error.message.startsWith(iteration)
    return isPrefixed ? undefined : setUp
  }

  /** Tells the source that no more is wanted. One that still makes a message answers later: nobody waits for that. */
  async close(): Promise<void> {
    if (this.#source === null) return
    const released = this.#release(this.#source)
    if (!this.#call.isAborted) await released
  }

  async #release(source: StepSource<T>): Promise<void> {
    try {
      // What it was asked for has failed, and was told; or nobody waits for it any more.
      if (this.#call.isAborted) await this.#asked?.catch(() => undefined)
      await source.close()
    } catch (error) {
      this.#call.released(error)
    }
  }
}
