// The mix whose cost is compared with the history and without it: loads, queries and updates of items.
import type { Client } from '../client/index.js'
import { type Engine, Frame, sliceColumn } from '../engine/index.js'
import { framesOf } from './layouts.js'
import { queriesOf } from './queries.js'
import { drawWorkload } from './tsbs.js'
import { randomOf } from './zipf.js'

/** What a client and an engine have in common. */
export type Api = Pick<Client & Engine, 'create' | 'delete'> & {
  write(request: { backend: string; table: string; saveMode?: string }, frame: Frame): Promise<unknown>
  execute(request: { backend: string; table: string; command: string; args: Record<string, string> }): Promise<unknown>
  read(request: { backend: string; table: string }): AsyncIterable<Frame>
}

const tsdb = { backend: 'tsdb', table: 'history-bench' }
const items = { backend: 'kv', table: 'history-bench' }
const itemCount = 10_000
/** Calls at work at once. */
const writeCount = 4
const queryCount = 8
const callCount = 64

export class Mix {
  readonly #frames: readonly Frame[]
  readonly #query: ReturnType<typeof queriesOf>[number]['request']
  readonly #queryCount: number
  readonly #updateCount: number

  constructor(isSmall: boolean) {
    const workload = drawWorkload({ hostCount: isSmall ? 2 : 50, hours: 1 })
    this.#frames = framesOf(workload, 'host')
    this.#query = queriesOf(workload)[0]!.request
    this.#queryCount = isSmall ? 10 : 100
    this.#updateCount = isSmall ? 20 : 1500
  }

  async prepare(api: Api): Promise<void> {
    const numbers = Float64Array.from({ length: itemCount }, (_, i) => i)
    const keys = Array.from({ length: itemCount }, (_, i) => `item-${i}`)
    const frame = new Frame({
      columns: [sliceColumn('visits', numbers)],
      indices: [sliceColumn('key', keys, 'string')],
    })
    await api.write({ ...items, saveMode: 'overwriteTable' }, frame)
  }

  async run(api: Api, mixCount: number): Promise<void> {
    for (let i = 0; i < mixCount; i++) await this.#run(api)
  }

  /** Once: every frame is a write of its own. */
  async #run(api: Api): Promise<void> {
    await api.delete({ ...tsdb, ifMissing: 'ignore' })
    await api.create({ ...tsdb, rate: '6/m' })
    await inFlight(writeCount, this.#frames.length, (i) => api.write(tsdb, this.#frames[i]!))
    await inFlight(queryCount, this.#queryCount, async () => {
      for await (const frame of api.read({ ...tsdb, ...this.#query }))
        if (frame.length === 0) throw new Error('no rows')
    })
    const random = randomOf(11)
    await inFlight(callCount, this.#updateCount, () =>
      api.execute({
        ...items,
        command: 'update',
        args: { key: `item-${Math.floor(random() * itemCount)}`, expression: 'visits = visits + 1' },
      }),
    )
  }
}

async function inFlight(atOnce: number, count: number, call: (i: number) => Promise<unknown>): Promise<void> {
  let next = 0
  await Promise.all(
    Array.from({ length: atOnce }, async () => {
      while (next < count) await call(next++)
    }),
  )
}
