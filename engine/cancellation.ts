// How a request is given up: what the engine looks at of an AbortSignal, and one of its own that costs next to nothing. Node's
// is an EventTarget: to make one and to listen takes longer than to plan a small read.

/** What the engine needs of a signal; every AbortSignal is one. */
export interface CancelSignal {
  readonly aborted: boolean
  readonly reason: unknown
  addEventListener(type: 'abort', listener: () => void, options?: { readonly once?: boolean }): void
  removeEventListener(type: 'abort', listener: () => void): void
}

/** A signal, and its controller in one. Listeners are called once, in the order in which they came, and must not throw. */
export class Cancellation implements CancelSignal {
  #isAborted = false
  #reason: unknown = undefined
  /** The first that came, as long as it is the only one; then all. */
  #listener: (() => void) | null = null
  #listeners: Set<() => void> | null = null

  get aborted(): boolean {
    return this.#isAborted
  }

  get reason(): unknown {
    return this.#reason
  }

  /** Later ones do nothing. */
  abort(reason: unknown): void {
    if (this.#isAborted) return
    this.#isAborted = true
    this.#reason = reason
    const listener = this.#listener
    const listeners = this.#listeners ?? []
    this.#listener = null
    this.#listeners = null
    listener?.()
    for (const each of listeners) each()
  }

  addEventListener(_type: 'abort', listener: () => void): void {
    // As with an AbortSignal: who comes too late is told nothing.
    if (this.#isAborted) return
    if (this.#listeners === null) {
      if (this.#listener === null || this.#listener === listener) {
        this.#listener = listener
        return
      }
      this.#listeners = new Set([this.#listener])
      this.#listener = null
    }
    this.#listeners.add(listener)
  }

  removeEventListener(_type: 'abort', listener: () => void): void {
    if (this.#listener === listener) this.#listener = null
    else this.#listeners?.delete(listener)
  }
}
