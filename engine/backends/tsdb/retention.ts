// Samples older than their table allows go in the background: with merges, and by deletes now and then.
import type { Catalog, TableName } from '../../blocks/catalog.js'
import type { TsdbSchema } from './schema.js'

/** Between two rounds over all tables. */
const roundMs = 10 * 60_000
/** Blocks hold old and new samples, so they are written anew only when so large a part of the time to live has passed. */
const shareOfTtl = 1 / 16

/** Samples before this time have expired; null: none ever does. */
export function expiryMs({ ttlMs }: TsdbSchema, nowMs: number): number | null {
  return ttlMs === 0 ? null : nowMs - ttlMs
}

/** Whether a table whose oldest sample is of this time is worth a delete. */
export function isDue(schema: TsdbSchema, oldestMs: number, nowMs: number): boolean {
  const expiredMs = expiryMs(schema, nowMs)
  return expiredMs !== null && oldestMs < expiredMs - schema.ttlMs * shareOfTtl
}

/** Visits all tables of a backend from time to time. */
export class Retention {
  #timer: NodeJS.Timeout | null = null
  #round: Promise<void> = Promise.resolve()
  #isStopped = false

  constructor(
    readonly catalog: Pick<Catalog, 'names'>,
    readonly backend: string,
    readonly visit: (name: TableName) => Promise<void>,
    readonly report: (message: string, error: unknown) => void,
  ) {
    this.#plan()
  }

  #plan(): void {
    this.#timer = setTimeout(() => {
      this.#round = this.#visitAll().finally(() => {
        if (!this.#isStopped) this.#plan()
      })
    }, roundMs).unref()
  }

  async #visitAll(): Promise<void> {
    try {
      for await (const name of this.catalog.names(this.backend)) {
        if (this.#isStopped) return
        await this.visit(name).catch((error: unknown) => {
          if (!this.#isStopped) this.report(`deleting expired samples of table '${name.path}' failed`, error)
        })
      }
    } catch (error) {
      if (!this.#isStopped) this.report('looking for expired samples failed', error)
    }
  }

  /** Resolves when nothing of it is at work. */
  async stop(): Promise<void> {
    this.#isStopped = true
    if (this.#timer !== null) clearTimeout(this.#timer)
    await this.#round
  }
}
