// What the history costs: the same mix of loads, queries and updates of items with it and without it, in turns, and by how much
// the one is slower than the other. Over gRPC, where a call is dear, and embedded, where it is cheap.
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Client, connect } from '../client/index.js'
import { type Engine, Frame, openEngine, sliceColumn } from '../engine/index.js'
import { elapsedMs } from './clock.js'
import { framesOf } from './layouts.js'
import { type ServerProcess, startServerProcess } from './processes.js'
import { queriesOf } from './queries.js'
import { atMost, type Found, type Result } from './results.js'
import { drawWorkload } from './tsbs.js'
import { randomOf } from './zipf.js'

export interface HistoryBenchOptions {
  readonly isSmall: boolean
  readonly folder: string
  readonly found: Found
  readonly say: (text: string) => void
}

/** What a client and an engine have in common. */
type Api = Pick<Client & Engine, 'create' | 'delete'> & {
  write(request: { backend: string; table: string; saveMode?: string }, frame: Frame): Promise<unknown>
  execute(request: { backend: string; table: string; command: string; args: Record<string, string> }): Promise<unknown>
  read(request: { backend: string; table: string }): AsyncIterable<Frame>
}

interface Side {
  readonly api: Api
  /** Processor time of whoever keeps the history so far, in ms. */
  readonly cpuMs: () => number
  /** After a turn: what it leaves to be done must not be done in a turn of the other side. */
  readonly restMs: number
}

interface Turn {
  readonly elapsedMs: number
  /** Until the next turn of the same side, where each has a process of its own: what a turn leaves to be done is its own. */
  cpuMs: number
}

const tsdb = { backend: 'tsdb', table: 'history-bench' }
const items = { backend: 'kv', table: 'history-bench' }
const itemCount = 10_000
/** Calls at work at once. */
const writeCount = 4
const queryCount = 8
const callCount = 64
const shareMax = 2
/** Longer than entries wait until they are flushed. */
const flushMs = 850
/** Pairs that are not counted: what runs once a flush is compiled late. */
const warmUpPairCount = 6
const countedPairCount = 20

export async function runHistory(options: HistoryBenchOptions): Promise<void> {
  const mix = new Mix(options.isSmall)
  options.found(...(await served(options, mix)))
  options.found(...(await embedded(options, mix)))
}

class Mix {
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

  /** One turn: every frame is a write of its own. */
  async run(api: Api): Promise<void> {
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

async function served({ folder, say, isSmall }: HistoryBenchOptions, mix: Mix): Promise<Result[]> {
  say('history, over gRPC')
  const config = join(folder, 'no-history.json')
  writeFileSync(config, JSON.stringify({ disableHistory: true, backends: [{ type: 'tsdb' }, { type: 'kv' }] }))
  const folders = ['history-on', 'history-off'].map((name) => join(folder, name))
  const servers: ServerProcess[] = []
  const clients: Client[] = []
  try {
    servers.push(await startServerProcess(folders[0]!), await startServerProcess(folders[1]!, ['--config', config]))
    clients.push(...servers.map(({ address }) => connect(`grpc://${address}`, { session: { container: 'users' } })))
    const [on, off] = servers.map(({ pid }, i): Side => ({ api: clients[i]!, cpuMs: () => cpuMsOf(pid), restMs: 0 }))
    return await compare('gRPC', mix, on!, off!, isSmall)
  } finally {
    for (const client of clients) client.close()
    for (const server of servers) await server.stop()
    for (const path of folders) rmSync(path, { recursive: true, force: true })
  }
}

async function embedded({ folder, say, isSmall }: HistoryBenchOptions, mix: Mix): Promise<Result[]> {
  say('history, embedded')
  const folders = ['history-embedded-on', 'history-embedded-off'].map((name) => join(folder, name))
  const engines = [
    await openEngine({ dataDir: folders[0]! }),
    await openEngine({ dataDir: folders[1]!, history: false }),
  ]
  try {
    const [on, off] = engines.map((api): Side => ({ api, cpuMs: () => cpuMsOf(process.pid), restMs: flushMs }))
    return await compare('embedded', mix, on!, off!, isSmall)
  } finally {
    for (const engine of engines) await engine.close()
    for (const path of folders) rmSync(path, { recursive: true, force: true })
  }
}

/** Turns of both sides, the first one by turns too, so that what the machine does meanwhile meets both alike. */
async function compare(where: string, mix: Mix, on: Side, off: Side, isSmall: boolean): Promise<Result[]> {
  for (const { api } of [on, off]) await mix.prepare(api)
  const pairs: { readonly on: Turn; readonly off: Turn }[] = []
  const ends = new Map<Side['cpuMs'], () => void>()
  const [warmUpCount, pairCount] = isSmall ? [0, 1] : [warmUpPairCount, countedPairCount]
  for (let pair = 0; pair < pairCount + warmUpCount; pair++) {
    const order = pair % 2 === 0 ? [on, off] : [off, on]
    const turns = new Map<Side, Turn>()
    for (const side of order) turns.set(side, await turnOf(side, mix, ends))
    if (pair >= warmUpCount) pairs.push({ on: turns.get(on)!, off: turns.get(off)! })
  }
  await new Promise((resolve) => setTimeout(resolve, flushMs))
  for (const end of ends.values()) end()
  const time = resultOf(`${where}: time of the mix, more with the history`, pairs, (turn) => turn.elapsedMs)
  if (!hasCpuTimes) return [time]
  return [resultOf(`${where}: processor time of the mix, more with the history`, pairs, ({ cpuMs }) => cpuMs), time]
}

async function turnOf({ api, cpuMs, restMs }: Side, mix: Mix, ends: Map<Side['cpuMs'], () => void>): Promise<Turn> {
  ends.get(cpuMs)?.()
  const before = cpuMs()
  const turn: Turn = { elapsedMs: await elapsedMs(() => mix.run(api)), cpuMs: 0 }
  await new Promise((resolve) => setTimeout(resolve, restMs))
  const end = (): void => {
    turn.cpuMs = cpuMs() - before
  }
  if (restMs > 0) end()
  else ends.set(cpuMs, end)
  return turn
}

function resultOf(
  name: string,
  pairs: readonly { readonly on: Turn; readonly off: Turn }[],
  costOf: (turn: Turn) => number,
): Result {
  const shares = pairs.map(({ on, off }) => 100 * (costOf(on) / costOf(off) - 1))
  const costs = pairs.map(({ on, off }) => ({ on: costOf(on), off: costOf(off) }))
  const total = costs.reduce((sum, { on, off }) => ({ on: sum.on + on, off: sum.off + off }), { on: 0, off: 0 })
  const ratio = total.on / total.off
  const value = 100 * (ratio - 1)
  // Of a ratio of sums over pairs (Cochran, Sampling Techniques, 1977, section 6.4).
  const squares = costs.reduce((sum, { on, off }) => sum + (on - ratio * off) ** 2, 0)
  const error = (100 * Math.sqrt((squares * pairs.length) / Math.max(1, pairs.length - 1))) / total.off
  const offMs = total.off / pairs.length
  return {
    group: 'history',
    name,
    value,
    unit: '%',
    runs: shares,
    target: atMost(value, shareMax, `${shareMax} %`),
    beside: `± ${error.toFixed(1)} % (standard error); ${offMs.toFixed(0)} ms without`,
    checksum: '',
  }
}

/** Only Linux tells them so. */
const hasCpuTimes = existsSync('/proc/self/schedstat')

/** Processor time of all threads of a process, in ms. */
function cpuMsOf(pid: number): number {
  if (!hasCpuTimes) return Number.NaN
  let ns = 0
  for (const thread of readdirSync(`/proc/${pid}/task`))
    ns += Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ')[0])
  return ns / 1e6
}

async function inFlight(atOnce: number, count: number, call: (i: number) => Promise<unknown>): Promise<void> {
  let next = 0
  await Promise.all(
    Array.from({ length: atOnce }, async () => {
      while (next < count) await call(next++)
    }),
  )
}
