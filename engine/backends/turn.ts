// One at a time, in the order of asking: for what depends on what is stored.

export class Turn {
  #last: Promise<unknown> = Promise.resolve()

  /** Runs `work` when all that asked before have ended. */
  run<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(work)
    this.#last = result.catch(() => undefined)
    return result
  }
}
