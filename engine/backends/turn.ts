// One at a time, in the order of asking: for what depends on what is stored.

export class Turn {
  #last: Promise<unknown> = Promise.resolve()
  #waitingCount = 0

  /** Whether somebody waits for the turn. */
  get isWanted(): boolean {
    return this.#waitingCount > 0
  }

  /** Runs `work` when all that asked before have ended. */
  run<T>(work: () => Promise<T>): Promise<T> {
    this.#waitingCount++
    const begin = (): Promise<T> => {
      this.#waitingCount--
      return work()
    }
    const result = this.#last.then(begin)
    this.#last = result.catch(() => undefined)
    return result
  }
}
