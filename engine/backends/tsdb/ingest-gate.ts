// As many ingest jobs at once as there are workers. Which frames go into a job is decided when a worker is free: until then
// more of them come, and one job, block and commit for many frames costs less than many.
import type { Pool } from '../../pool/pool.js'

/** Of one pool; its writers come in in the order of asking. */
export class IngestGate {
  readonly #pool: Pool
  #insideCount = 0
  readonly #waiting: (() => void)[] = []

  constructor(pool: Pool) {
    this.#pool = pool
  }

  /** Resolves when the caller is inside; it must leave. */
  enter(): Promise<void> | void {
    if (this.#waiting.length === 0 && this.#insideCount < Math.max(1, this.#pool.statistics().workerCount)) {
      this.#insideCount++
      return
    }
    return new Promise((resolve) => {
      this.#waiting.push(resolve)
    })
  }

  leave(): void {
    const next = this.#waiting.shift()
    if (next === undefined) this.#insideCount--
    else next()
  }
}

const gates = new WeakMap<Pool, IngestGate>()

export function ingestGateOf(pool: Pool): IngestGate {
  let gate = gates.get(pool)
  if (gate === undefined) {
    gate = new IngestGate(pool)
    gates.set(pool, gate)
  }
  return gate
}
