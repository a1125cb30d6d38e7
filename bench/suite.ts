// The whole bench over one workload: the engine of this process, the server in another one with a client in a third, and
// DuckDB, in turns, so that whatever else the machine does meets all of them.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Client, connect } from '../client/index.js'
import { type Engine, type Frame, openEngine } from '../engine/index.js'
import { elapsedMs, median, percentile99 } from './clock.js'
import { folderByteLength } from './disk.js'
import { DuckDb } from './duckdb.js'
import { benchKernels, kernelResults } from './kernels.js'
import { runHistory } from './history-suite.js'
import { framesOf, type Layout, layouts } from './layouts.js'
import { ingest } from './ingest.js'
import { LoadPeers } from './load-peers.js'
import { backend, loadEmbedded, rate, writeCount } from './load-embedded.js'
import { type KvOptions, kvPartNames, runKv } from './kv-suite.js'
import { describeMachine, type MachineLimits, measureLimits } from './machine.js'
import { peakMemory } from './memory.js'
import { type LoaderProcess, type ServerProcess, startLoaderProcess, startServerProcess } from './processes.js'
import {
  answerOfColumns,
  answerOfFrames,
  checkTotals,
  FrameReader,
  type Query,
  queriesOf,
  totalsRequest,
} from './queries.js'
import { readRaw } from './raw-read.js'
import { atLeast, atMost, type Found, type Report, type Result } from './results.js'
import type { BenchRow } from './rows.js'
import { runScale, type ScaleOptions } from './scale.js'
import { runStreams } from './stream-suite.js'
import { runTsbs } from './tsbs-suite.js'
import { drawWorkload, metricNames, type Workload, type WorkloadSize } from './tsbs.js'

export const partNames = [
  'kernels',
  'load',
  'query',
  'tsbs',
  'size',
  'read',
  'memory',
  'ingest',
  ...kvPartNames,
  'stream',
  'history',
  'history-long',
  'scale',
] as const
export type PartName = (typeof partNames)[number]
/** Parts that take long, and run only when they are named. */
export const longPartNames: readonly PartName[] = ['history-long', 'scale']

export interface SuiteOptions extends WorkloadSize {
  readonly parts: ReadonlySet<PartName>
  /** Loads that are not counted, then those that are. V8 compiles for some twenty of them, and a server runs for longer. */
  readonly warmUpCount: number
  readonly runCount: number
  /** Calls before the first query: V8 takes some thousands until it has compiled all that a call passes through. */
  readonly callWarmUpCount: number
  /** Runs of a query that are not counted, then those that are. */
  readonly queryWarmUpCount: number
  readonly queryRunCount: number
  readonly tsbsDrawCount: number
  readonly tsbsWarmUpMs: number
  readonly tsbsRunCount: number
  readonly memoryLoadCount: number
  readonly kernelSeconds: number
  readonly ingestSeconds: number
  readonly isSmall: boolean
  /** Told of each result as soon as it is known. */
  readonly found: Found
  /** Told what is being done. */
  readonly say: (text: string) => void
}

/** Where the data of a run goes: given back at its end. */
export async function runSuite(options: SuiteOptions): Promise<Report> {
  const startedAt = new Date().toISOString()
  const folder = mkdtempSync(join(tmpdir(), 'framesd-bench-'))
  try {
    const limits = measureLimits(folder)
    const kernels: BenchRow[] = []
    const results: Result[] = []
    const found: Found = (...some) => {
      // Targets are set for the whole size.
      const judged = options.isSmall ? some.map((result) => ({ ...result, target: null })) : some
      results.push(...judged)
      options.found(...judged)
    }
    if (options.parts.has('kernels')) {
      options.say('kernels')
      kernels.push(...(await benchKernels({ seconds: options.kernelSeconds, isSmall: options.isSmall })))
      found(...kernelResults(kernels))
    }
    const settings: Record<string, string | number> = {}
    if (options.parts.has('tsbs')) {
      for (const [index, size] of tsbsSizes(options).entries()) {
        const tsbsFolder = join(folder, `tsbs-${index}`)
        const { tsbsDrawCount: drawCount, tsbsWarmUpMs: warmUpMs, tsbsRunCount: runCount, say } = options
        const counts = { drawCount, warmUpMs, runCount: Math.ceil(runCount / (index === 0 ? 1 : 3)) }
        Object.assign(settings, await runTsbs({ ...size, ...counts, folder: tsbsFolder, found, say }))
        rmSync(tsbsFolder, { recursive: true })
      }
    }
    if (['load', 'query', 'size', 'memory'].some((part) => options.parts.has(part as PartName))) {
      const suite = await Suite.open({ ...options, found }, folder, limits)
      try {
        await suite.run()
        Object.assign(settings, suite.settings())
      } finally {
        await suite.close()
      }
    }
    if (options.parts.has('read')) {
      const { isSmall, say, queryRunCount, hostCount } = options
      const hours = isSmall ? options.hours : Math.ceil(10_000_000 / (hostCount * 3600))
      const runCount = Math.min(10, queryRunCount)
      // Compiled by then: a server runs for longer than it warms up.
      await readRaw({ hostCount, hours, warmUpCount: isSmall ? 0 : 20, runCount, folder, found, say })
    }
    if (options.parts.has('ingest'))
      await ingest({ seconds: options.isSmall ? 1 : options.ingestSeconds, folder, found, say: options.say })
    if (kvPartNames.some((part) => options.parts.has(part))) {
      const settingsOfKv = await runKv({
        ...kvSizes(options.isSmall),
        parts: options.parts,
        runCount: Math.min(3, options.runCount),
        folder,
        found,
        say: options.say,
      })
      Object.assign(settings, settingsOfKv)
    }
    if (options.parts.has('stream')) {
      const settingsOfStreams = await runStreams({
        recordCount: options.isSmall ? 20_000 : 2_000_000,
        runCount: Math.min(3, options.runCount),
        folder,
        found,
        say: options.say,
      })
      Object.assign(settings, settingsOfStreams)
    }
    if (options.parts.has('scale'))
      Object.assign(settings, await runScale({ ...scaleSizes(options.isSmall), folder, found, say: options.say }))
    for (const isLong of [false, true]) {
      if (!options.parts.has(isLong ? 'history-long' : 'history')) continue
      await runHistory({ isSmall: options.isSmall, isLong, folder, found, say: options.say })
    }
    return { startedAt, machine: describeMachine(), limits, settings, results, kernels }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** The given one, and where that is the usual one, many hosts for a shorter time. */
function tsbsSizes({ hostCount, hours }: WorkloadSize): readonly WorkloadSize[] {
  const given = { hostCount, hours }
  return hostCount === 100 && hours === 12 ? [given, { hostCount: 1000, hours: 6 }] : [given]
}

function scaleSizes(isSmall: boolean): Pick<ScaleOptions, 'manySeriesCount' | 'longSampleCount' | 'growth'> {
  return isSmall
    ? { manySeriesCount: 2000, longSampleCount: 1000, growth: [100_000] }
    : { manySeriesCount: 1_000_000, longSampleCount: 10_000_000, growth: [1e6, 3e6, 1e7, 3e7, 1e8] }
}

function kvSizes(
  isSmall: boolean,
): Pick<KvOptions, 'flightCount' | 'peopleCount' | 'recordCount' | 'operationCount' | 'mixMs'> {
  return isSmall
    ? { flightCount: 20_000, peopleCount: 30_000, recordCount: 2000, operationCount: 2000, mixMs: 50 }
    : { flightCount: 3_000_000, peopleCount: 10_000_000, recordCount: 100_000, operationCount: 200_000, mixMs: 1000 }
}

/** Loads of a peer that are counted: a load of VictoriaMetrics takes seconds. */
const peerRunCountMax = 3

class Suite {
  readonly #options: SuiteOptions
  readonly #folder: string
  readonly #limits: MachineLimits
  readonly #workload: Workload
  readonly #frames: Readonly<Record<Layout, readonly Frame[]>>
  readonly #reader = new FrameReader()
  readonly #engine: Engine
  readonly #server: ServerProcess
  readonly #client: Client
  readonly #loader: LoaderProcess
  readonly #duckDb: DuckDb
  readonly #duckDbVersion: string
  #tableCount = 0
  #peerText = ''

  private constructor(
    options: SuiteOptions,
    folder: string,
    limits: MachineLimits,
    parts: {
      readonly workload: Workload
      readonly engine: Engine
      readonly server: ServerProcess
      readonly client: Client
      readonly loader: LoaderProcess
      readonly duckDb: DuckDb
      readonly duckDbVersion: string
    },
  ) {
    this.#options = options
    this.#folder = folder
    this.#limits = limits
    this.#workload = parts.workload
    this.#frames = { host: framesOf(parts.workload, 'host'), span: framesOf(parts.workload, 'span') }
    this.#engine = parts.engine
    this.#server = parts.server
    this.#client = parts.client
    this.#loader = parts.loader
    this.#duckDb = parts.duckDb
    this.#duckDbVersion = parts.duckDbVersion
  }

  static async open(options: SuiteOptions, folder: string, limits: MachineLimits): Promise<Suite> {
    options.say('drawing the workload, starting the processes')
    const workload = drawWorkload(options)
    const engine = await openEngine({ dataDir: join(folder, 'embedded') })
    const server = await startServerProcess(join(folder, 'server'))
    const loader = await startLoaderProcess(server.address, options.hostCount, options.hours)
    const duckDb = await DuckDb.open(join(folder, 'duckdb.db'))
    const duckDbVersion = await duckDb.version()
    const client = connect(server.address)
    return new Suite(options, folder, limits, { workload, engine, server, client, loader, duckDb, duckDbVersion })
  }

  async close(): Promise<void> {
    this.#client.close()
    await this.#loader.stop()
    await this.#server.stop()
    await this.#engine.close()
    this.#duckDb.close()
  }

  settings(): Record<string, string | number> {
    const { hostCount, hours, sampleCount, checksum } = this.#workload
    const { warmUpCount, runCount, callWarmUpCount, queryWarmUpCount, queryRunCount } = this.#options
    return {
      workload: `TSBS cpu-only, ${hostCount} hosts x ${hours} h, ${sampleCount} samples, checksum ${checksum}`,
      'writes in flight': `${writeCount} sessions (embedded), ${writeCount} streams (gRPC), one appender (DuckDB)`,
      'frames by host': `${this.#frames.host.length} of ${this.#frames.host[0].length} rows, tags as labels`,
      'frames by span': `${this.#frames.span.length} of up to ${this.#frames.span[0].length} rows, tags as ten index columns`,
      'runs of a load': `${runCount} after ${warmUpCount} to warm up, in turns`,
      'runs of a query': `${queryRunCount} after ${queryWarmUpCount} to warm up, and ${callWarmUpCount} calls before all`,
      DuckDB: `${this.#duckDbVersion}, appender by chunks of 2048 rows, file, CHECKPOINT at the end`,
      ...(this.#peerText === '' ? {} : { 'other peers': this.#peerText }),
    }
  }

  async run(): Promise<void> {
    const { parts } = this.#options
    if (parts.has('load')) await this.#loads()
    if (parts.has('query')) await this.#queries()
    if (parts.has('size')) await this.#sizes()
    if (parts.has('memory')) await this.#memory()
  }

  // ---- loading ----

  async #loads(): Promise<void> {
    const { warmUpCount, runCount, say } = this.#options
    const times = { embedded: { host: [], span: [] }, grpc: { host: [], span: [] } } as Record<
      'embedded' | 'grpc',
      Record<Layout, number[]>
    >
    const duckDbMs: number[] = []
    const peers = await LoadPeers.open(join(this.#folder, 'peers'), this.#workload)
    this.#peerText = peers.text
    for (let run = -warmUpCount; run < runCount; run++) {
      say(run < 0 ? `load: warm-up ${run + warmUpCount + 1} of ${warmUpCount}` : `load: run ${run + 1} of ${runCount}`)
      const note = (list: number[], ms: number) => {
        if (run >= 0) list.push(ms)
      }
      for (const layout of layouts) note(times.embedded[layout], await this.#loadEmbedded(layout))
      for (const layout of layouts) note(times.grpc[layout], await this.#loadGrpc(layout))
      await this.#duckDb.create()
      note(duckDbMs, await this.#duckDb.load(this.#workload))
      if (run >= 0 && run < peerRunCountMax) await peers.load()
    }
    await peers.close()
    const { sampleCount, checksum } = this.#workload
    const perSecond = (ms: number) => sampleCount / ms / 1000
    const duckDbRate = median(duckDbMs.map(perSecond))
    const storedByteLength = 0.6 * sampleCount
    const limitMs =
      1000 *
      ((8 * sampleCount) / this.#limits.memcpyBytesPerSecond + storedByteLength / this.#limits.syncedBytesPerSecond)
    const beside = `a copy and a synced write: ${perSecond(limitMs).toFixed(0)}`
    const result = (name: string, ms: readonly number[], target: (rate: number) => Result['target']): Result => {
      const runs = ms.map(perSecond)
      const value = median(runs)
      return { group: 'load', name, value, unit: 'M samples/s', runs, target: target(value), beside, checksum }
    }
    const fiveTimes = (value: number) => atLeast(value, 5 * duckDbRate, `5 x DuckDB (${(5 * duckDbRate).toFixed(1)})`)
    const bounds = [
      { name: 'DuckDB', times: 2.5, rate: duckDbRate },
      { name: 'ClickHouse', times: 1.5, rate: median(peers.clickHouseMs.map(perSecond)) },
      { name: 'VictoriaMetrics', times: 15, rate: median(peers.victoriaMs.map(perSecond)) },
    ].filter(({ rate }) => !Number.isNaN(rate))
    const aboveAll = (value: number) => ({
      text: `≥ ${bounds.map(({ name, times, rate }) => `${times} x ${name} (${(times * rate).toFixed(1)})`).join(', ')}`,
      isMet: bounds.every(({ times, rate }) => value >= times * rate),
    })
    const millionRows = (value: number) => atLeast(value, metricNames.length, '1 M rows/s')
    this.#options.found(
      result('embedded, frames by host', times.embedded.host, fiveTimes),
      result('embedded, frames by span', times.embedded.span, fiveTimes),
      result('gRPC, frames by host', times.grpc.host, aboveAll),
      result('gRPC, frames by span', times.grpc.span, millionRows),
      result('DuckDB appender', duckDbMs, () => null),
    )
    if (peers.clickHouseMs.length > 0)
      this.#options.found(result('ClickHouse, RowBinary over HTTP', peers.clickHouseMs, () => null))
    if (peers.victoriaMs.length > 0)
      this.#options.found(result('VictoriaMetrics, JSON lines over HTTP', peers.victoriaMs, () => null))
  }

  #newTable(layout: Layout): string {
    return `cpu_${layout}_${++this.#tableCount}`
  }

  /** Loads and checks a new table; merging ends before the clock of anything else starts. */
  async #loadEmbedded(layout: Layout): Promise<number> {
    const table = this.#newTable(layout)
    await this.#engine.create({ backend, table, rate })
    const loadMs = await loadEmbedded(this.#engine, table, this.#frames[layout])
    await this.#engine.execute({ backend, table, command: 'compact' })
    const request = { backend, table, ...totalsRequest(this.#workload) }
    checkTotals(this.#reader, await collect(this.#engine.readEncoded(request, 'wire')), this.#workload)
    return loadMs
  }

  async #loadGrpc(layout: Layout): Promise<number> {
    const table = this.#newTable(layout)
    await this.#client.create({ backend, table, rate })
    const { loadMs } = await this.#loader.load({ table, layout })
    await this.#client.executeWire({ backend, table, command: 'compact' })
    const request = { backend, table, ...totalsRequest(this.#workload) }
    checkTotals(this.#reader, await collect(this.#client.readWire(request)), this.#workload)
    return loadMs
  }

  // ---- reading ----

  async #queries(): Promise<void> {
    const table = 'cpu_query'
    await this.#engine.create({ backend, table, rate })
    await loadEmbedded(this.#engine, table, this.#frames.host)
    await this.#engine.execute({ backend, table, command: 'compact' })
    await this.#client.create({ backend, table, rate })
    await this.#loader.load({ table, layout: 'host' })
    await this.#client.executeWire({ backend, table, command: 'compact' })
    await this.#duckDb.create()
    await this.#duckDb.load(this.#workload)
    await this.#warmUp(table)
    const roundTripMs = median(await this.#timesOf(() => this.#client.version()))
    for (const [index, query] of queriesOf(this.#workload).entries()) {
      this.#options.say(`query: ${query.name}`)
      await this.#query(query, table, queryTargetsMs[index], roundTripMs)
    }
  }

  /** A server, a client and an engine that have answered before: the cheapest query, again and again. */
  async #warmUp(table: string): Promise<void> {
    const { callWarmUpCount, say } = this.#options
    say(`query: ${callWarmUpCount} calls to warm up`)
    const request = { backend, table, ...queriesOf(this.#workload)[0].request }
    for (let i = 0; i < callWarmUpCount; i++) {
      await collect(this.#client.readWire(request))
      if (i % 4 === 0) await collect(this.#engine.readEncoded(request, 'wire'))
    }
  }

  async #query(query: Query, table: string, targetMs: number | null, roundTripMs: number): Promise<void> {
    const request = { backend, table, ...query.request }
    const overGrpc = () => collect(this.#client.readWire(request))
    const embedded = () => collect(this.#engine.readEncoded(request, 'wire'))
    const answer = answerOfFrames(this.#reader, await overGrpc())
    const others = {
      embedded: answerOfFrames(this.#reader, await embedded()),
      DuckDB: answerOfColumns((await this.#duckDb.query(query.sql)).columns),
    }
    for (const [name, other] of Object.entries(others)) {
      if (other.checksum === answer.checksum) continue
      throw new Error(`${query.name}: over gRPC ${answer.rowCount} rows, ${name} gives ${other.rowCount} others`)
    }
    const result = (name: string, runs: readonly number[], target: Result['target'], beside: string): Result => ({
      group: 'query',
      name: `${query.name}: ${name}`,
      value: median(runs),
      unit: 'ms',
      runs: runs.map((ms) => Math.round(ms * 1000) / 1000),
      target,
      beside: `p99 ${percentile99(runs).toFixed(2)} ms${beside}`,
      checksum: answer.checksum,
    })
    const grpcMs = await this.#timesOf(overGrpc)
    const decodedMs = await this.#timesOf(async () => {
      for await (const message of this.#client.readWire(request)) this.#reader.decode(message)
    })
    const embeddedMs = await this.#timesOf(embedded)
    const duckDbMs = await this.#timesOf(() => this.#duckDb.fetch(query.sql))
    const target = targetMs === null ? null : atMost(median(grpcMs), targetMs, `${targetMs.toFixed(1)} ms`)
    this.#options.found(
      result('gRPC', grpcMs, target, `, empty call ${roundTripMs.toFixed(2)} ms`),
      result('gRPC and decoded', decodedMs, null, ''),
      result('embedded', embeddedMs, null, ''),
      result('DuckDB', duckDbMs, null, ', in process'),
    )
  }

  async #timesOf(work: () => Promise<unknown>): Promise<number[]> {
    const { queryWarmUpCount, queryRunCount } = this.#options
    for (let i = 0; i < queryWarmUpCount; i++) await work()
    const times: number[] = []
    for (let i = 0; i < queryRunCount; i++) times.push(await elapsedMs(work))
    return times
  }

  // ---- size ----

  async #sizes(): Promise<void> {
    await this.#sizesOf(this.#workload, this.#frames)
    const decimals = drawWorkload(this.#options, 1, 'two decimals')
    await this.#sizesOf(decimals, { host: framesOf(decimals, 'host'), span: framesOf(decimals, 'span') })
  }

  /** Data folders that hold a workload and nothing else, compacted and closed. */
  async #sizesOf(workload: Workload, frames: Readonly<Record<Layout, readonly Frame[]>>): Promise<void> {
    const { values, sampleCount, checksum } = workload
    const found = (name: string, byteLength: number, mostBytes: number | null) => {
      const value = byteLength / sampleCount
      const target = mostBytes === null ? null : atMost(value, mostBytes, `${mostBytes} B`)
      const beside = `raw values 8 B, all files ${byteLength} B`
      const all = {
        name: `bytes per sample, ${values}: ${name}`,
        value,
        unit: 'B',
        runs: [value],
        target,
        beside,
        checksum,
      }
      this.#options.found({ group: 'size', ...all })
    }
    for (const layout of layouts) {
      this.#options.say(`size: ${values}, frames by ${layout}`)
      const dataDir = join(this.#folder, `size-${layout}`)
      const engine = await openEngine({ dataDir })
      const table = 'cpu'
      await engine.create({ backend, table, rate })
      await loadEmbedded(engine, table, frames[layout])
      await engine.execute({ backend, table, command: 'compact' })
      await engine.close()
      found(`frames by ${layout}`, folderByteLength(dataDir), values === 'whole numbers' ? 0.45 : 1.3)
      rmSync(dataDir, { recursive: true })
    }
    await this.#duckDb.create(values)
    await this.#duckDb.load(workload)
    found('DuckDB', this.#duckDb.byteLength(), null)
    const peers = await LoadPeers.open(join(this.#folder, 'size-peers'), workload)
    try {
      for (const [name, byteLength] of await peers.compactedByteLengths()) found(name, byteLength, null)
    } finally {
      await peers.close()
    }
  }

  // ---- memory ----

  async #memory(): Promise<void> {
    const peaks: number[] = []
    for (let load = 0; load < this.#options.memoryLoadCount; load++) {
      this.#options.say(`memory: load ${load + 1} of ${this.#options.memoryLoadCount}`)
      const table = this.#newTable('host')
      await this.#client.create({ backend, table, rate })
      const peak = await peakMemory(this.#server.pid, () => this.#loader.load({ table, layout: 'host' }))
      if (peak === null) return
      peaks.push(peak / 1e6)
    }
    const value = Math.max(...peaks)
    const half = Math.ceil(peaks.length / 2)
    const growth = Math.max(...peaks.slice(half)) / Math.max(...peaks.slice(0, half))
    const base = { group: 'memory', checksum: this.#workload.checksum } as const
    this.#options.found(
      {
        ...base,
        name: `peak during ${peaks.length} loads over gRPC`,
        value,
        unit: 'MB',
        runs: peaks,
        target: atMost(value, 600, '600 MB'),
        beside: 'RssAnon + RssShmem',
      },
      {
        ...base,
        name: 'peak of the second half of the loads, by that of the first',
        value: growth,
        unit: '',
        runs: [growth],
        target: atMost(growth, 1.1, '1.10'),
        beside: 'flat is 1',
      },
    )
  }
}

/** Of queriesOf, in order. */
const queryTargetsMs: readonly (number | null)[] = [1.0, null, 6, null, null]

async function collect(messages: AsyncIterable<Uint8Array>): Promise<Uint8Array[]> {
  const all: Uint8Array[] = []
  for await (const message of messages) all.push(message)
  return all
}
