// What comes one after the other and takes time, as a generator would give it. Generators within generators take longer for
// one small read than its work: each level costs every value several turns of promises.

/** Makes values one at a time; nobody asks for the next one before this one is there. */
export interface StepSource<T> {
  /** The next value; null: there is none. */
  next(): Promise<T | null>
  /** The next value, if it is there already: of many small ones most are. null: `next` has to say. */
  ready?(): T | null
  /** Called once, when nothing is asked for any more: all was taken, `next` has failed, or the taker has stopped. */
  close(): Promise<void>
}

/**
 * What an iterable takes its values from, for one who keeps the promises of a StepSource's taker: of Steps that nobody has asked
 * yet it is their source itself. Between layers that do, the turns of an iterator would only take time.
 */
export function sourceOf<T>(values: AsyncIterable<T>): StepSource<T> {
  return values instanceof Steps ? (values as Steps<T>).source : new IteratorSource(values[Symbol.asyncIterator]())
}

class IteratorSource<T> implements StepSource<T> {
  readonly #values: AsyncIterator<T>
  #isOver = false

  constructor(values: AsyncIterator<T>) {
    this.#values = values
  }

  async next(): Promise<T | null> {
    try {
      const { value, done } = await this.#values.next()
      if (done !== true) return value
    } catch (error) {
      this.#isOver = true
      throw error
    }
    this.#isOver = true
    return null
  }

  async close(): Promise<void> {
    // An iterator that has ended by itself has nothing left to close.
    if (!this.#isOver) await this.#values.return?.()
  }
}

const done: IteratorReturnResult<void> = { value: undefined, done: true }

export class Steps<T> implements AsyncGenerator<T, void, undefined> {
  readonly source: StepSource<T>
  #isOver = false
  /** Something is asked of the source now, or waits for its turn. */
  #askedCount = 0
  #last: Promise<unknown> = Promise.resolve()

  constructor(source: StepSource<T>) {
    this.source = source
  }

  next(): Promise<IteratorResult<T, void>> {
    if (this.#askedCount === 0 && !this.#isOver) {
      const value = this.source.ready?.() ?? null
      if (value !== null) return Promise.resolve({ value, done: false })
    }
    return this.#inTurn(() => this.#next())
  }

  return(): Promise<IteratorResult<T, void>> {
    return this.#inTurn(() => this.#stop())
  }

  throw(error: unknown): Promise<IteratorResult<T, void>> {
    return this.#inTurn(async () => {
      await this.#stop()
      throw error
    })
  }

  /** work: counts as asked until it has answered. */
  #inTurn(work: () => Promise<IteratorResult<T, void>>): Promise<IteratorResult<T, void>> {
    const answer = this.#askedCount++ === 0 ? work() : this.#last.then(work, work)
    this.#last = answer
    return answer
  }

  async #next(): Promise<IteratorResult<T, void>> {
    let value: T | null = null
    try {
      if (!this.#isOver) value = await this.source.next()
      if (value === null) await this.#end()
    } catch (error) {
      await this.#end()
      throw error
    } finally {
      this.#askedCount--
    }
    return value === null ? done : { value, done: false }
  }

  async #stop(): Promise<IteratorResult<T, void>> {
    try {
      await this.#end()
    } finally {
      this.#askedCount--
    }
    return done
  }

  async #end(): Promise<void> {
    if (this.#isOver) return
    this.#isOver = true
    await this.source.close()
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return()
  }
}
