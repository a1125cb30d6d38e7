// The ten TSBS queries, framesd over gRPC and embedded beside DuckDB, ClickHouse and VictoriaMetrics (where these are
// installed): answers are held against each other first, then all are timed in turns.
import { createHash } from 'node:crypto'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { type Client, connect } from '../client/index.js'
import { type Engine, openEngine } from '../engine/index.js'
import { ClickHouse, clickHouseBodies } from './clickhouse.js'
import { elapsedMs, median, percentile99 } from './clock.js'
import { DuckDb } from './duckdb.js'
import { framesOf } from './layouts.js'
import { backend, loadEmbedded, rate } from './load-embedded.js'
import { type ServerProcess, startServerProcess } from './processes.js'
import { FrameReader } from './queries.js'
import { atMost, type Found, type Result, type Settings } from './results.js'
import { type Answer, answerOfFrames, answerOfRows, answerOfSeries, mustAgree } from './tsbs-answers.js'
import { type TsbsDraw, type TsbsQuery, tsbsQueries } from './tsbs-queries.js'
import { drawWorkload, type Workload, type WorkloadSize } from './tsbs.js'
import { VictoriaMetrics, victoriaBodies } from './victoria-metrics.js'

export interface TsbsOptions extends WorkloadSize {
  /** Different hosts and times of each query. */
  readonly drawCount: number
  /** For so long each system is asked each query before any is timed. */
  readonly warmUpMs: number
  /** Runs of a query that count; a turn of some that do not comes before them. */
  readonly runCount: number
  readonly folder: string
  readonly found: Found
  readonly say: (text: string) => void
}

const table = 'cpu'
/** Questions that a system is asked one after the other until it is the next one's turn. */
const turnRunCount = 10

/** ms over gRPC that are aimed at, in the order of tsbsQueries; embedded should take half of that. */
const aimsMs: ReadonlyMap<string, Readonly<Record<string, number>>> = new Map([
  [
    '100 x 12',
    {
      'single-groupby-1-1-1': 0.6,
      'single-groupby-1-8-1': 0.6,
      'single-groupby-5-8-1': 0.7,
      'cpu-max-all-8': 0.9,
      'double-groupby-1': 1.2,
      'double-groupby-all': 4,
      'high-cpu-1': 0.8,
      'high-cpu-all': 10,
      lastpoint: 0.8,
      'groupby-orderby-limit': 0.6,
    },
  ],
  ['1000 x 6', { 'double-groupby-all': 15, 'high-cpu-all': 45, lastpoint: 1.5 }],
])

export async function runTsbs(options: TsbsOptions): Promise<Settings> {
  const suite = await TsbsSuite.open(options)
  try {
    await suite.run()
    return suite.settings()
  } finally {
    await suite.close()
  }
}

interface System {
  readonly name: string
  /** Takes the whole answer and looks at nothing. null: has no words for the question. */
  readonly ask: (draw: TsbsDraw) => Promise<unknown> | null
}

class TsbsSuite {
  readonly #reader = new FrameReader()
  readonly #questions: readonly TsbsQuery[]
  readonly #sizeText: string

  private constructor(
    readonly options: TsbsOptions,
    readonly workload: Workload,
    readonly engine: Engine,
    readonly server: ServerProcess,
    readonly client: Client,
    readonly duckDb: DuckDb,
    readonly clickHouse: ClickHouse | null,
    readonly victoria: VictoriaMetrics | null,
    readonly versions: string,
  ) {
    this.#questions = tsbsQueries(workload, options.drawCount)
    this.#sizeText = `${options.hostCount} x ${options.hours}`
  }

  static async open(options: TsbsOptions): Promise<TsbsSuite> {
    const { folder, say } = options
    say(`tsbs, ${options.hostCount} hosts x ${options.hours} h: drawing the workload, starting the processes`)
    mkdirSync(folder, { recursive: true })
    const workload = drawWorkload(options)
    const engine = await openEngine({ dataDir: join(folder, 'embedded') })
    const server = await startServerProcess(join(folder, 'server'))
    const duckDb = await DuckDb.open(join(folder, 'duckdb.db'))
    const clickHouse = await ClickHouse.start(join(folder, 'clickhouse'))
    const victoria = await VictoriaMetrics.start(join(folder, 'victoria'))
    const versions = [
      `DuckDB ${await duckDb.version()}, in process`,
      clickHouse === null ? 'ClickHouse is not installed' : `ClickHouse ${await clickHouse.version()}, HTTP`,
      victoria === null
        ? 'VictoriaMetrics is not installed'
        : `VictoriaMetrics ${await victoria.version()}, HTTP, without its cache of answers`,
    ]
    say(versions.join('; '))
    const client = connect(server.address)
    const text = versions.join('; ')
    return new TsbsSuite(options, workload, engine, server, client, duckDb, clickHouse, victoria, text)
  }

  async close(): Promise<void> {
    this.client.close()
    await this.server.stop()
    await this.engine.close()
    this.duckDb.close()
    await this.clickHouse?.stop()
    await this.victoria?.stop()
  }

  settings(): Settings {
    const { runCount, warmUpMs, drawCount } = this.options
    const { sampleCount, checksum } = this.workload
    const name = `TSBS queries, ${this.#sizeText} h`
    const warmUp = `after each system has been asked each query for ${warmUpMs} ms`
    const runs = `${runCount} runs in turns of ${turnRunCount}, over ${drawCount} draws of hosts and times, ${warmUp}`
    return { [name]: `${sampleCount} samples, checksum ${checksum}, ${runs}; ${this.versions}` }
  }

  async run(): Promise<void> {
    await this.#load()
    const checksums: string[] = []
    for (const question of this.#questions) {
      this.options.say(`tsbs: ${question.name}, answers`)
      checksums.push(await this.#compare(question))
    }
    await this.#warmUp()
    for (const [i, question] of this.#questions.entries()) {
      this.options.say(`tsbs: ${question.name}`)
      await this.#time(question, checksums[i])
    }
  }

  async #load(): Promise<void> {
    const { workload, engine, client, duckDb, clickHouse, victoria } = this
    this.options.say('tsbs: loading')
    const frames = framesOf(workload, 'host')
    for (const side of [engine, client]) await side.create({ backend, table, rate })
    await loadEmbedded(engine, table, frames)
    await engine.execute({ backend, table, command: 'compact' })
    await client.write({ backend, table }, frames)
    await client.execute({ backend, table, command: 'compact' })
    await duckDb.create()
    await duckDb.load(workload)
    if (clickHouse !== null) {
      await clickHouse.create()
      await clickHouse.load(clickHouseBodies(workload))
      await clickHouse.compact()
    }
    if (victoria !== null) {
      await victoria.load(victoriaBodies(workload))
      await victoria.compact()
    }
  }

  /** Every draw, by every system. Returns the checksum of all answers. */
  async #compare({ name, key, draws }: TsbsQuery): Promise<string> {
    const { engine, client, duckDb, clickHouse, victoria } = this
    const hash = createHash('sha256')
    for (const draw of draws) {
      const request = { backend, table, ...draw.request }
      const wanted = answerOfFrames(key, this.#reader, await collect(client.readWire(request)))
      const found: Record<string, Answer> = {
        embedded: answerOfFrames(key, this.#reader, await collect(engine.readEncoded(request, 'wire'))),
        DuckDB: answerOfRows(key, await duckDb.rows(draw.duckDb)),
      }
      if (clickHouse !== null) found['ClickHouse'] = answerOfRows(key, await clickHouse.rows(draw.clickHouse))
      if (victoria !== null && draw.victoria !== null)
        found['VictoriaMetrics'] = answerOfSeries(key, draw.victoria, await victoria.series(draw.victoria))
      mustAgree(name, wanted, found)
      hash.update(wanted.join('\n'))
    }
    return hash.digest('hex').slice(0, 12)
  }

  /** A server runs for months, and compilers and caches learn from each question: all systems get the same time for that. */
  async #warmUp(): Promise<void> {
    this.options.say('tsbs: warm-up')
    for (const { draws } of this.#questions) {
      for (const { ask } of this.#systems()) {
        const endMs = performance.now() + this.options.warmUpMs
        for (let run = 0; performance.now() < endMs; run++) {
          const answer = ask(draws[run % draws.length])
          if (answer === null) break
          await answer
        }
      }
    }
  }

  /** Ours first. */
  #systems(): System[] {
    const { engine, client, duckDb, clickHouse, victoria } = this
    const requestOf = (draw: TsbsDraw) => ({ backend, table, ...draw.request })
    return [
      { name: 'gRPC', ask: (draw) => drain(client.readWire(requestOf(draw))) },
      { name: 'embedded', ask: (draw) => drain(engine.readEncoded(requestOf(draw), 'wire')) },
      { name: 'DuckDB', ask: (draw) => duckDb.fetch(draw.duckDb) },
      ...(clickHouse === null
        ? []
        : [{ name: 'ClickHouse', ask: (draw: TsbsDraw) => clickHouse.fetch(draw.clickHouse) }]),
      ...(victoria === null
        ? []
        : [
            {
              name: 'VictoriaMetrics',
              ask: (draw: TsbsDraw) => (draw.victoria === null ? null : victoria.fetch(draw.victoria)),
            },
          ]),
    ]
  }

  async #time({ name, draws }: TsbsQuery, checksum: string): Promise<void> {
    const { runCount, found } = this.options
    const systems = this.#systems()
    const times = new Map<string, number[]>(systems.map(({ name }) => [name, []]))
    for (let first = -turnRunCount; first < runCount; first += turnRunCount) {
      for (const system of systems) {
        for (let run = first; run < Math.min(first + turnRunCount, runCount); run++) {
          const draw = draws[(run + turnRunCount) % draws.length]
          let isAsked = true
          const ms = await elapsedMs(async () => {
            const answer = system.ask(draw)
            isAsked = answer !== null
            await answer
          })
          if (run >= 0 && isAsked) times.get(system.name)!.push(Math.round(ms * 1000) / 1000)
        }
      }
    }
    const [fastest] = [...times]
      .filter(([name, runs]) => name !== 'gRPC' && name !== 'embedded' && runs.length > 0)
      .map(([name, runs]) => ({ name, ms: median(runs) }))
      .sort((a, b) => a.ms - b.ms)
    const aimMs = aimsMs.get(this.#sizeText)?.[name] ?? null
    const shortMs = (ms: number) => Number(ms.toPrecision(3))
    for (const [system, runs] of times) {
      if (runs.length === 0) continue
      const value = median(runs)
      const p99 = `p99 ${percentile99(runs).toFixed(2)} ms`
      const half = aimMs === null ? null : aimMs / 2
      let target: Result['target'] = null
      let beside = p99
      if (system === 'gRPC') {
        target = atMost(value, fastest.ms, `${fastest.name} (${shortMs(fastest.ms)} ms)`)
        if (aimMs !== null) beside += `, aim ${aimMs} ms ${value <= aimMs ? '✓' : '✗'}`
      } else if (system === 'embedded' && half !== null) target = atMost(value, half, `${shortMs(half)} ms`)
      const result = {
        name: `${name}, ${this.#sizeText} h: ${system}`,
        value,
        unit: 'ms',
        runs,
        target,
        beside,
        checksum,
      }
      found({ group: 'tsbs', ...result })
    }
  }
}

async function collect(messages: AsyncIterable<Uint8Array>): Promise<Uint8Array[]> {
  const all: Uint8Array[] = []
  for await (const message of messages) all.push(message)
  return all
}

async function drain(messages: AsyncIterable<Uint8Array>): Promise<void> {
  for await (const message of messages) if (message.byteLength === 0) throw new Error('an empty message')
}
