// One request at work: its number, the signal that ends it, what it moved, and its line in the log.
import { FramesError, type Caller, type RecordedRequest } from '../engine/index.js'
import type { Log } from './log.js'
import { publicError } from './wire/errors.js'

export type Verb = 'read' | 'write' | 'create' | 'delete' | 'execute' | 'history' | 'version' | 'query' | 'search'

/** What the log says about a call beyond its number, verb and time. Never a secret. */
export interface CallFacts {
  backend?: string
  table?: string
  container?: string
  user?: string
  rowCount?: number
  frameCount: number
  byteLength: number
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

export class Call {
  readonly number: number
  readonly verb: Verb
  readonly facts: CallFacts = { frameCount: 0, byteLength: 0 }
  /** HTTP's Authorization header; null over gRPC, which has none. */
  readonly authorization: string | null
  readonly log: Log
  /** Who asks. Passwords and tokens are added as they are found; the log masks them too. */
  readonly caller: Caller & { readonly secrets: string[] }
  /** What is asked, as far as it is known. */
  asked: RecordedRequest | null = null
  /** The engine has it: from here on the engine records how it ends. */
  isHandedOn = false
  readonly #onRefused: (refused: RefusedCall) => void
  readonly #abort = new AbortController()
  readonly #startMs = performance.now()
  readonly #onEnd: () => void
  #hasEnded = false

  constructor(options: {
    readonly number: number
    readonly verb: Verb
    readonly authorization: string | null
    readonly log: Log
    readonly origin: Origin
    readonly onEnd: () => void
    /** A call of a verb that the history records has failed before the engine had it. */
    readonly onRefused: (refused: RefusedCall) => void
  }) {
    this.number = options.number
    this.verb = options.verb
    this.authorization = options.authorization
    this.log = options.log
    this.caller = { ...options.origin, requestId: String(options.number), secrets: [] }
    this.#onRefused = options.onRefused
    this.#onEnd = options.onEnd
  }

  get signal(): AbortSignal {
    return this.#abort.signal
  }

  get hasEnded(): boolean {
    return this.#hasEnded
  }

  /** Ends the work of the call: the client is gone, its time is over, or the server stops. Later aborts do nothing. */
  abort(error: FramesError): void {
    if (!this.#hasEnded) this.#abort.abort(error)
  }

  /** Counts a frame that came in or went out. */
  count(frame: Uint8Array): void {
    this.facts.frameCount++
    this.facts.byteLength += frame.byteLength
  }

  /**
   * Any error as the caller may see it, with the prefix of the layer that failed. An unexpected one is written to the
   * log in full, once, under the number of the call.
   */
  explain(error: unknown, prefix?: string): FramesError {
    const ended: unknown = this.signal.aborted ? this.signal.reason : undefined
    if (ended instanceof FramesError) return ended
    if (!(error instanceof FramesError)) this.log.error({ id: this.number, verb: this.verb, err: error }, 'defect')
    return publicError(error, this.number, prefix)
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
      this.#onRefused({ recorded, caller: this.caller, error: shown, durationMs: performance.now() - this.#startMs })
    }
    const isOurs = shown.kind === 'internal' || shown.kind === 'data-loss'
    this.#finish(shown.code, isOurs ? 'error' : 'info', shown.message)
    return shown
  }

  #finish(outcome: string, level: 'info' | 'error', error?: string): void {
    if (this.#hasEnded) return
    this.#hasEnded = true
    const durationMs = Math.round((performance.now() - this.#startMs) * 1000) / 1000
    const facts = { id: this.number, verb: this.verb, ...this.facts, durationMs, outcome, error }
    this.log[level](withoutSecrets(facts, this.caller.secrets), 'call')
    this.#onEnd()
  }
}

type RecordedVerb = RecordedRequest['action']

function isRecorded(verb: Verb): verb is RecordedVerb {
  return verb === 'read' || verb === 'write' || verb === 'create' || verb === 'delete' || verb === 'execute'
}

function emptyRequest(action: RecordedVerb): RecordedRequest {
  return { action, request: { backend: '', table: '', command: '' } } as RecordedRequest
}

/** Shorter secrets are parts of all sorts of texts. */
const secretLengthMin = 4

/** The facts of a log line with each secret in their texts masked. */
function withoutSecrets(facts: Readonly<Record<string, unknown>>, secrets: readonly string[]): Record<string, unknown> {
  const known = secrets.filter((secret) => secret.length >= secretLengthMin)
  if (known.length === 0) return facts
  const mask = (text: string): string => known.reduce((left, secret) => left.replaceAll(secret, '*****'), text)
  return Object.fromEntries(
    Object.entries(facts).map(([name, value]) => [name, typeof value === 'string' ? mask(value) : value]),
  )
}
