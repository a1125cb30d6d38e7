// Rounds over all tables of a backend, also those that nobody has opened since the start: what expires goes in the
// background.
import type { Catalog, TableName } from '../blocks/catalog.js'
import { shownName } from '../blocks/catalog.js'
import { FramesError } from '../errors.js'
import { minuteMs } from '../time.js'

/** A server that has just started has more urgent things to do. */
const firstMs = minuteMs
/** From the end of a round to the next one. */
const intervalMs = 10 * minuteMs
/** After a visit the round rests for so many times as long as the visit took: many tables take long, but little at a time. */
const restPerVisit = 9

export interface RoundsOptions {
  readonly catalog: Pick<Catalog, 'names'>
  readonly backend: string
  readonly visit: (name: TableName) => Promise<void>
  readonly report: (message: string, error: unknown) => void
}

/** Visits one table after the other, a minute after the start and then every ten minutes. */
export class Rounds {
  readonly #options: RoundsOptions
  #isStopped = false
  /** Ends the rest under way. */
  #wake: () => void = () => undefined
  readonly #running: Promise<void>

  constructor(options: RoundsOptions) {
    this.#options = options
    this.#running = this.#run()
  }

  /** Never rejects. */
  async #run(): Promise<void> {
    for (let waitMs = firstMs; ; waitMs = intervalMs) {
      await this.#rest(waitMs)
      if (this.#isStopped) return
      await this.#visitAll()
    }
  }

  async #visitAll(): Promise<void> {
    const { catalog, backend, visit, report } = this.#options
    try {
      for await (const name of catalog.names(backend)) {
        if (this.#isStopped) return
        const beganMs = performance.now()
        try {
          await visit(name)
        } catch (error) {
          // Deleted meanwhile, or the engine is being closed.
          const isGone = error instanceof FramesError && error.code === 'TABLE_NOT_FOUND'
          if (!isGone && !this.#isStopped)
            report(`dropping what has expired of table '${shownName(name)}' failed`, error)
        }
        await this.#rest(restPerVisit * (performance.now() - beganMs))
      }
    } catch (error) {
      if (!this.#isStopped) report(`looking for what has expired in tables of '${backend}' failed`, error)
    }
  }

  /** Resolves after a time, or when all is to stop. */
  #rest(ms: number): Promise<void> {
    return new Promise((resolve) => {
      if (this.#isStopped) return resolve()
      const timer = setTimeout(resolve, ms).unref()
      this.#wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }

  /** Resolves when nothing of it is at work. */
  async stop(): Promise<void> {
    this.#isStopped = true
    this.#wake()
    await this.#running
  }
}
