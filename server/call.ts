// One request at work: its number, the signal that ends it, what it moved, and its line in the log.
import {
  Cancellation,
  FramesError,
  type Caller,
  type CancelSignal,
  Mask,
  type RecordedRequest,
  type WireMessages,
} from '../engine/index.js'
import type { Log } from './log.js'
import { publicError } from './wire/errors.js'

export type Verb = 'read' | 'write' | 'create' | 'delete' | 'execute' | 'history' | 'version' | 'query' | 'search'

/** What the log says about a call beyond its number, verb and time. Never a secret. */
export class CallFacts {
  // All of them from the beginning: what V8 adds one by one it looks up each time.
  backend: string | undefined = undefined
  table: string | undefined = undefined
  container: string | undefined = undefined
  user: string | undefined = undefined
  rowCount: number | undefined = undefined
  frameCount = 0
  byteLength = 0
}

/** Where a call comes from. */
export interface Origin {
  readonly protocol: 'grpc' | 'http'
  readonly address: string
}

/** What the history is told of a call that no engine saw. */
export interface RefusedCall {
  readonly recorded: RecordedRequest
  readonly caller: Caller
  readonly error: FramesError
  readonly durationMs: number
}

/** Whom a call tells how it goes. */
export interface CallOwner {
  onEnd(call: Call): void
  /** A call of a verb that the history records has failed before the engine had it. */
  onRefused(refused: RefusedCall): void
}

export class Call {
  readonly number: number
  readonly verb: Verb
  readonly facts = new CallFacts()
  /** HTTP's Authorization header; null over gRPC, which has none. */
  readonly authorization: string | null
  readonly log: Log
  /** Who asks. Passwords and tokens are added as they are found; the log masks them too. */
  readonly caller: Caller & { readonly secrets: string[] }
  /** What is asked, as far as it is known. */
  asked: RecordedRequest | null = null
  /** The engine has it: from here on the engine records how it ends. */
  isHandedOn = false
  readonly #owner: CallOwner
  #abortReason: FramesError | null = null
  /** Made when first asked for. */
  #signal: Cancellation | null = null
  /** Told when the call is aborted: who waits for the one thing that it waits for now. */
  #waiting: ((reason: unknown) => void) | null = null
  readonly #startMs = performance.now()
  #hasEnded = false

  constructor(options: {
    readonly number: number
    readonly verb: Verb
    readonly authorization: string | null
    readonly log: Log
    readonly origin: Origin
    readonly owner: CallOwner
  }) {
    this.number = options.number
    this.verb = options.verb
    this.authorization = options.authorization
    this.log = options.log
    const { protocol, address } = options.origin
    // Not by spreading, here and in the log line: V8 looks up each field of what that makes.
    this.caller = { protocol, address, requestId: String(options.number), secrets: [] }
    this.#owner = options.owner
  }

  get signal(): CancelSignal {
    if (this.#signal === null) {
      this.#signal = new Cancellation()
      if (this.#abortReason !== null) this.#signal.abort(this.#abortReason)
    }
    return this.#signal
  }

  throwIfAborted(): void {
    if (this.#abortReason !== null) throw this.#abortReason
  }

  get isAborted(): boolean {
    return this.#abortReason !== null
  }

  get hasEnded(): boolean {
    return this.#hasEnded
  }

  /** Ends the work of the call: the client is gone, its time is over, or the server stops. Later aborts do nothing. */
  abort(error: FramesError): void {
    if (this.#hasEnded || this.#abortReason !== null) return
    this.#abortReason = error
    this.#signal?.abort(error)
    this.#waiting?.(error)
    this.#waiting = null
  }

  /** Rejects as soon as the call is aborted, whatever becomes of the promise. To be waited for before the next one. */
  unlessAborted<T>(promise: Promise<T>): Promise<T> {
    // Not by the signal: its listeners take longer than the rest of this.
    return new Promise((resolve, reject) => {
      if (this.#abortReason !== null) {
        reject(this.#abortReason)
        // Whoever is not waited for may fail.
        promise.catch(() => {})
        return
      }
      if (this.#waiting !== null) throw new Error('a call waits for one thing at a time')
      this.#waiting = reject
      promise.then(
        (value) => {
          this.#waiting = null
          resolve(value)
        },
        (error: unknown) => {
          this.#waiting = null
          reject(error)
        },
      )
    })
  }

  /** Counts a frame that came in or went out. */
  count(frame: Uint8Array): void {
    this.facts.frameCount++
    this.facts.byteLength += frame.byteLength
  }

  /** As count, of many. */
  countAll({ count, byteLength }: WireMessages): void {
    this.facts.frameCount += count
    this.facts.byteLength += byteLength
  }

  /**
   * Any error as the caller may see it, with the prefix of the layer that failed. An unexpected one is written to the
   * log in full, once, under the number of the call.
   */
  explain(error: unknown, prefix?: string): FramesError {
    if (this.#abortReason !== null) return this.#abortReason
    if (!(error instanceof FramesError)) this.#logError('error', error, 'defect')
    return publicError(error, this.number, prefix)
  }

  #logError(level: 'error' | 'debug', error: unknown, what: string): void {
    this.log[level]({ id: this.number, verb: this.verb, err: shownError(error, this.caller.secrets) }, what)
  }

  /** A source that was told that no more is wanted ended with an error. */
  released(error: unknown): void {
    this.#logError('debug', error, 'read released')
  }

  /** Ends the call well. */
  end(): void {
    this.#finish('ok', 'info')
  }

  /** Ends the call with an error, and gives the error back as the caller may see it. */
  fail(error: unknown): FramesError {
    const shown = this.explain(error)
    const recorded = this.asked ?? (isRecorded(this.verb) ? emptyRequest(this.verb) : null)
    if (!this.#hasEnded && !this.isHandedOn && recorded !== null) {
      this.#owner.onRefused({
        recorded,
        caller: this.caller,
        error: shown,
        durationMs: performance.now() - this.#startMs,
      })
    }
    const isOurs = shown.kind === 'internal' || shown.kind === 'data-loss'
    this.#finish(shown.code, isOurs ? 'error' : 'info', shown.message)
    return shown
  }

  #finish(outcome: string, level: 'info' | 'error', error?: string): void {
    if (this.#hasEnded) return
    this.#hasEnded = true
    const durationMs = Math.round((performance.now() - this.#startMs) * 1000) / 1000
    // Behind the answer, which leaves when this turn of the event loop is over.
    setImmediate(() => this.#log(durationMs, outcome, level, error))
  }

  #log(durationMs: number, outcome: string, level: 'info' | 'error', error: string | undefined): void {
    const { frameCount, byteLength, rowCount, backend, table, container, user } = this.facts
    const facts = {
      id: this.number,
      verb: this.verb,
      frameCount,
      byteLength,
      rowCount,
      backend,
      table,
      container,
      user,
      durationMs,
      outcome,
      error,
    }
    this.log[level](withoutSecrets(facts, this.caller.secrets), 'call')
    this.#owner.onEnd(this)
  }
}

type RecordedVerb = RecordedRequest['action']

function isRecorded(verb: Verb): verb is RecordedVerb {
  return verb === 'read' || verb === 'write' || verb === 'create' || verb === 'delete' || verb === 'execute'
}

function emptyRequest(action: RecordedVerb): RecordedRequest {
  return { action, request: { backend: '', table: '', command: '' } } as RecordedRequest
}

/** The facts of a log line with each secret in their texts masked. */
function withoutSecrets(facts: Readonly<Record<string, unknown>>, secrets: readonly string[]): Record<string, unknown> {
  if (secrets.length === 0) return facts
  const mask = new Mask(secrets)
  return Object.fromEntries(
    Object.entries(facts).map(([name, value]) => [name, typeof value === 'string' ? mask.text(value) : value]),
  )
}

/** An error as the log has it. */
function shownError(error: unknown, secrets: readonly string[]): Record<string, unknown> {
  if (!(error instanceof Error)) return withoutSecrets({ message: String(error) }, secrets)
  const { name, message, stack, cause } = error
  const shown = withoutSecrets({ type: name, message, stack }, secrets)
  return cause === undefined ? shown : { ...shown, cause: shownError(cause, secrets) }
}
