// What the history costs: a mix of loads, queries and updates of items, over gRPC, where a call is dear, and embedded, where it is
// cheap, without entries and with ten for each call, in turns of one process that follow each other: two processes differ by
// more than what is looked for, and one entry a call is found only by very many turns (isLong).
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { connect } from '../client/index.js'
import { Mix } from './history-mix.js'
import { startMixProcess, startSwitchedServerProcess } from './processes.js'
import { atMost, type Found, type Result } from './results.js'

export interface HistoryBenchOptions {
  readonly isSmall: boolean
  /** Ten times as many rounds, and turns with one entry a call. */
  readonly isLong: boolean
  readonly folder: string
  readonly found: Found
  readonly say: (text: string) => void
}

interface Process {
  readonly pid: number
  /** The milliseconds of so many mixes, each call with so many entries. */
  turn(entryCount: number, mixCount: number): Promise<number>
  stop(): Promise<void>
}

/** For one mix, of one turn. */
interface Cost {
  readonly elapsedMs: number
  /** Of all threads of who keeps the history. */
  readonly cpuMs: number
}

const shareMax = 2
const manyEntries = 10
type Round = ReadonlyMap<number, Cost>

interface Lengths {
  /** Entries of each call, in the order of the turns of a round; the next round is the other way round. */
  readonly entryCounts: readonly number[]
  readonly mixCount: number
  readonly warmUpRoundCount: number
  readonly roundCount: number
}

export async function runHistory(options: HistoryBenchOptions): Promise<void> {
  const { isSmall, isLong, found, say } = options
  // What the history takes as it is can be told from chance only by many turns.
  const entryCounts = isSmall || isLong ? [0, 1, manyEntries] : [0, manyEntries]
  const lengths = (mixCount: number, warmUpRoundCount: number, roundCount: number): Lengths =>
    isSmall
      ? { entryCounts, mixCount: 1, warmUpRoundCount: 0, roundCount: 1 }
      : { entryCounts, mixCount, warmUpRoundCount, roundCount: isLong ? 10 * roundCount : roundCount }
  say('history, over gRPC')
  found(...(await compare('gRPC', await served(options), lengths(1, 4, 20))))
  say('history, embedded')
  // Short turns, and many: the machine is another one some seconds later (of eight mixes each, 18 rounds tell half as much).
  found(...(await compare('embedded', await embedded(options), lengths(2, 12, 54))))
}

async function served({ folder, isSmall }: HistoryBenchOptions): Promise<Process> {
  const path = join(folder, 'history-served')
  const server = await startSwitchedServerProcess(path)
  const client = connect(`grpc://${server.address}`, { session: { container: 'users' } })
  const mix = new Mix(isSmall)
  await mix.prepare(client)
  return {
    pid: server.pid,
    async turn(entryCount, mixCount) {
      await server.setEntryCount(entryCount)
      const startMs = performance.now()
      await mix.run(client, mixCount)
      return performance.now() - startMs
    },
    async stop() {
      client.close()
      await server.stop()
      rmSync(path, { recursive: true, force: true })
    },
  }
}

async function embedded({ folder, isSmall }: HistoryBenchOptions): Promise<Process> {
  const path = join(folder, 'history-embedded')
  const { pid, turn, stop } = await startMixProcess(path, isSmall)
  return {
    pid,
    turn,
    async stop() {
      await stop()
      rmSync(path, { recursive: true, force: true })
    },
  }
}

async function compare(
  where: string,
  side: Process,
  { entryCounts, mixCount, warmUpRoundCount, roundCount }: Lengths,
): Promise<Result[]> {
  const rounds: Round[] = []
  try {
    for (let number = -warmUpRoundCount; number < roundCount; number++) {
      const round = new Map<number, Cost>()
      const order = number % 2 === 0 ? entryCounts : [...entryCounts].reverse()
      for (const entryCount of order) round.set(entryCount, await costOf(side, entryCount, mixCount))
      if (number >= 0) rounds.push(round)
    }
  } finally {
    await side.stop()
  }
  const kinds = [
    ['time', ({ elapsedMs }: Cost) => elapsedMs],
    ...(hasCpuTimes ? [['processor time', ({ cpuMs }: Cost) => cpuMs] as const] : []),
  ] as const
  return kinds.flatMap(([kind, numberOf]) =>
    entryCounts.slice(1).map((entryCount) => {
      const name = entryCount === 1 ? 'more with the history' : 'a tenth of what ten entries a call take'
      return resultOf(`${where}: ${kind} of the mix, ${name}`, rounds, entryCount, numberOf)
    }),
  )
}

/** Of a turn, after a mix that is not counted: what switching costs is not the history's. */
async function costOf({ pid, turn }: Process, entryCount: number, mixCount: number): Promise<Cost> {
  await turn(entryCount, 1)
  const before = cpuMsOf(pid)
  const elapsedMs = (await turn(entryCount, mixCount)) / mixCount
  return { elapsedMs, cpuMs: (cpuMsOf(pid) - before) / mixCount }
}

/** What one entry a call costs: the median of the rounds, each with its turn without entries. */
function resultOf(
  name: string,
  rounds: readonly Round[],
  entryCount: number,
  numberOf: (cost: Cost) => number,
): Result {
  const offs = rounds.map((round) => numberOf(round.get(0)!))
  const shares = rounds.map((round, i) => (100 * (numberOf(round.get(entryCount)!) / offs[i]! - 1)) / entryCount)
  const value = medianOf(shares)
  const [least, most] = boundsOfMedian(shares)
  return {
    group: 'history',
    name,
    value,
    unit: '%',
    runs: shares,
    target: atMost(value, shareMax, `${shareMax} %`),
    beside: `${least.toFixed(1)} to ${most.toFixed(1)} % (95 of 100); ${medianOf(offs).toFixed(0)} ms without`,
    checksum: '',
  }
}

const ascending = (values: readonly number[]): number[] => [...values].sort((a, b) => a - b)

function medianOf(values: readonly number[]): number {
  const sorted = ascending(values)
  const middle = Math.floor(sorted.length / 2)
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

/**
 * Between which values the median lies, 95 times of 100, whatever the distribution: by their ranks, of a binomial count taken as
 * normal (Conover, Practical Nonparametric Statistics, 1999, section 3.2).
 */
function boundsOfMedian(values: readonly number[]): [least: number, most: number] {
  const sorted = ascending(values)
  const { length } = sorted
  const first = Math.max(0, Math.floor((length - 1.96 * Math.sqrt(length)) / 2))
  return [sorted[first]!, sorted[length - 1 - first]!]
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
