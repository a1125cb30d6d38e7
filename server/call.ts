// One request at work: its number, the signal that ends it, what it moved, and its line in the log.
import { FramesError } from '../engine/index.js'
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

export class Call {
  readonly number: number
  readonly verb: Verb
  readonly facts: CallFacts = { frameCount: 0, byteLength: 0 }
  /** HTTP's Authorization header; null over gRPC, which has none. */
  readonly authorization: string | null
  readonly log: Log
  readonly #abort = new AbortController()
  readonly #startMs = performance.now()
  readonly #onEnd: () => void
  #hasEnded = false

  constructor(options: {
    readonly number: number
    readonly verb: Verb
    readonly authorization: string | null
    readonly log: Log
    readonly onEnd: () => void
  }) {
    this.number = options.number
    this.verb = options.verb
    this.authorization = options.authorization
    this.log = options.log
    this.#onEnd = options.onEnd
  }

  get signal(): AbortSignal {
    return this.#abort.signal
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
    const isOurs = shown.kind === 'internal' || shown.kind === 'data-loss'
    this.#finish(shown.code, isOurs ? 'error' : 'info', shown.message)
    return shown
  }

  #finish(outcome: string, level: 'info' | 'error', error?: string): void {
    if (this.#hasEnded) return
    this.#hasEnded = true
    const durationMs = Math.round((performance.now() - this.#startMs) * 1000) / 1000
    this.log[level]({ id: this.number, verb: this.verb, ...this.facts, durationMs, outcome, error }, 'call')
    this.#onEnd()
  }
}
