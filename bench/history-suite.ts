// What the history costs: the same mix of loads, queries and updates of items with it and without it, in turns, and by how much
// the one takes more than the other. Over gRPC, where a call is dear, and embedded, where it is cheap; each side is a process of
// its own, so that neither leaves the other its garbage or its compiled code.
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { connect } from '../client/index.js'
import { Mix, type MixTurn } from './history-mix.js'
import { startMixProcess, startServerProcess } from './processes.js'
import { atMost, type Found, type Result } from './results.js'

export interface HistoryBenchOptions {
  readonly isSmall: boolean
  /** Turns of a minute, and not of some seconds. */
  readonly isLong: boolean
  readonly folder: string
  readonly found: Found
  readonly say: (text: string) => void
}

interface Side {
  readonly pid: number
  turn(turnMs: number): Promise<MixTurn>
  stop(): Promise<void>
}

/** For one mix, of one turn. */
interface Cost {
  readonly elapsedMs: number
  /** Of all threads of who keeps the history. */
  readonly cpuMs: number
}

const shareMax = 2
/** Longer than entries wait until they are flushed: what a turn leaves to be done is its own. */
const flushMs = 850

interface Lengths {
  readonly turnMs: number
  /** Turns of both sides that are not counted, then those that are: functions that run once a flush are compiled late. */
  readonly warmUpMs: number
  readonly pairCount: number
}

export async function runHistory(options: HistoryBenchOptions): Promise<void> {
  const { isSmall, isLong, found, say } = options
  const lengths: Lengths = isSmall
    ? { turnMs: 0, warmUpMs: 0, pairCount: 1 }
    : isLong
      ? { turnMs: 60_000, warmUpMs: 60_000, pairCount: 5 }
      : { turnMs: 4_000, warmUpMs: 8_000, pairCount: 5 }
  say('history, over gRPC')
  found(...(await compare('gRPC', await served(options), lengths)))
  say('history, embedded')
  found(...(await compare('embedded', await embedded(options), lengths)))
}

const names = ['history-on', 'history-off'] as const
type Sides = readonly [on: Side, off: Side]

async function served({ folder, isSmall }: HistoryBenchOptions): Promise<Sides> {
  const config = join(folder, 'no-history.json')
  writeFileSync(config, JSON.stringify({ disableHistory: true, backends: [{ type: 'tsdb' }, { type: 'kv' }] }))
  const mix = new Mix(isSmall)
  const open = async (name: string, options: readonly string[]): Promise<Side> => {
    const path = join(folder, name)
    const server = await startServerProcess(path, options)
    const client = connect(`grpc://${server.address}`, { session: { container: 'users' } })
    await mix.prepare(client)
    return {
      pid: server.pid,
      turn: (turnMs) => mix.turn(client, turnMs),
      async stop() {
        client.close()
        await server.stop()
        rmSync(path, { recursive: true, force: true })
      },
    }
  }
  return [await open(names[0], []), await open(names[1], ['--config', config])]
}

async function embedded({ folder, isSmall }: HistoryBenchOptions): Promise<Sides> {
  const open = async (name: string, history: 'on' | 'off'): Promise<Side> => {
    const path = join(folder, name)
    const { pid, turn, stop } = await startMixProcess(path, history, isSmall)
    return {
      pid,
      turn,
      async stop() {
        await stop()
        rmSync(path, { recursive: true, force: true })
      },
    }
  }
  return [await open(names[0], 'on'), await open(names[1], 'off')]
}

/** Turns of both sides, the first one by turns too, so that what the machine does meanwhile meets both alike. */
async function compare(where: string, [on, off]: Sides, lengths: Lengths): Promise<Result[]> {
  const pairs: { readonly on: Cost; readonly off: Cost }[] = []
  try {
    if (lengths.warmUpMs > 0) for (const side of [on, off]) await costOf(side, lengths.warmUpMs)
    for (let pair = 0; pair < lengths.pairCount; pair++) {
      const costs = new Map<Side, Cost>()
      for (const side of pair % 2 === 0 ? [on, off] : [off, on]) costs.set(side, await costOf(side, lengths.turnMs))
      pairs.push({ on: costs.get(on)!, off: costs.get(off)! })
    }
  } finally {
    await on.stop()
    await off.stop()
  }
  const time = resultOf(`${where}: time of the mix, more with the history`, pairs, ({ elapsedMs }) => elapsedMs)
  if (!hasCpuTimes) return [time]
  return [resultOf(`${where}: processor time of the mix, more with the history`, pairs, ({ cpuMs }) => cpuMs), time]
}

async function costOf({ pid, turn }: Side, turnMs: number): Promise<Cost> {
  const before = cpuMsOf(pid)
  const { mixCount, elapsedMs } = await turn(turnMs)
  await new Promise((resolve) => setTimeout(resolve, flushMs))
  return { elapsedMs: elapsedMs / mixCount, cpuMs: (cpuMsOf(pid) - before) / mixCount }
}

function resultOf(
  name: string,
  pairs: readonly { readonly on: Cost; readonly off: Cost }[],
  costOf: (cost: Cost) => number,
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
