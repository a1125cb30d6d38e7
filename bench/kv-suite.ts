// Key-value tables: loads, filter scans, point operations and the mixes of YCSB, beside DuckDB (scans) and Redis (loads and
// points, where it is installed), in one run and with the answers compared.
import { existsSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Client, connect } from '../client/index.js'
import { type Engine, Frame, openEngine, type ReadRequest, sliceColumn } from '../engine/index.js'
import { elapsedMs, median, percentile99 } from './clock.js'
import { DuckDb } from './duckdb.js'
import { EchoClient } from './echo.js'
import { flightsPath, itemsPerFrame, readFlights } from './flights.js'
import { peakMemory } from './memory.js'
import { peopleFrames, peopleSql } from './people.js'
import { startEchoProcess, startServerProcess } from './processes.js'
import { Redis, redisCommand, redisVersion, type RedisSync } from './redis.js'
import { atLeast, atMost, type Found, type Result, type Settings } from './results.js'
import { randomOf, zipfian } from './zipf.js'

export const kvPartNames = ['kv-load', 'kv-scan', 'kv-point', 'kv-ycsb', 'kv-server'] as const
export type KvPartName = (typeof kvPartNames)[number]

export interface KvOptions {
  readonly parts: ReadonlySet<string>
  readonly flightCount: number
  readonly peopleCount: number
  readonly recordCount: number
  /** Point operations of one run. */
  readonly operationCount: number
  /** How long a mix of YCSB runs on one system, each time. */
  readonly mixMs: number
  /** Counted runs, after one that is not. */
  readonly runCount: number
  readonly folder: string
  readonly found: Found
  readonly say: (text: string) => void
}

const backend = 'kv'
/** Writes at work at once, as in the tsdb's loads. */
const writeCount = 4
/** Calls at work at once: what some dozens of clients have. */
const callCount = 64
const getsInFlight = 512
const keysPerBatch = 100
/** Scans of both systems before those that count: V8 compiles what they run. The first one after opening is shown by itself. */
const scanWarmUpCount = 12
/** Runs of `get` and of updates before those that count: V8 compiles what they run through for some 200,000 calls. */
const pointWarmUpCount = 4
const fieldCount = 10
const fieldByteLength = 100

export async function runKv(options: KvOptions): Promise<Settings> {
  const suite = await KvSuite.open(options)
  try {
    return await suite.run()
  } finally {
    await suite.close()
  }
}

class KvSuite {
  readonly #options: KvOptions
  readonly #duckDb: DuckDb
  readonly #redisVersion = redisVersion()
  #engine: Engine
  /** Where the flights were loaded. */
  #flightsTable: string | null = null

  private constructor(options: KvOptions, engine: Engine, duckDb: DuckDb) {
    this.#options = options
    this.#engine = engine
    this.#duckDb = duckDb
  }

  static async open(options: KvOptions): Promise<KvSuite> {
    const engine = await openEngine({ dataDir: join(options.folder, 'kv-embedded') })
    return new KvSuite(options, engine, await DuckDb.open(join(options.folder, 'kv-duckdb.db')))
  }

  async close(): Promise<void> {
    await this.#engine.close()
    this.#duckDb.close()
  }

  async run(): Promise<Settings> {
    const { flightCount, peopleCount, recordCount, operationCount, mixMs, runCount } = this.#options
    const work: Readonly<Record<KvPartName, () => Promise<void>>> = {
      'kv-load': () => this.#loads(),
      'kv-scan': () => this.#scans(),
      'kv-point': () => this.#points(),
      'kv-ycsb': () => this.#ycsb(),
      'kv-server': () => this.#server(),
    }
    for (const part of kvPartNames) if (this.#options.parts.has(part)) await work[part]()
    return {
      'kv loads': `${flightCount} flights in frames of ${itemsPerFrame}, five attributes, createNewItemsOnly, ${writeCount} writes in flight`,
      'kv scans': `${flightCount} flights and ${peopleCount} people, after compaction`,
      'kv points': `${operationCount} operations a run, Zipfian keys (0.99), ${runCount} runs after ${pointWarmUpCount} to warm up`,
      YCSB: `${recordCount} records of ${fieldCount} fields of ${fieldByteLength} bytes, ${callCount} calls in flight, ${mixMs} ms a run`,
      Redis: this.#redisVersion ?? 'not installed',
    }
  }

  #say(text: string): void {
    this.#options.say(`kv: ${text}`)
  }

  #add(
    group: Result['group'],
    name: string,
    unit: string,
    runs: readonly number[],
    extra: { target?: Result['target']; beside?: string; checksum?: string } = {},
  ): number {
    const value = median(runs)
    const { target = null, beside = '', checksum = '' } = extra
    this.#options.found({ group, name, value, unit, runs, target, beside, checksum })
    return value
  }

  // ---- loads ----

  async #loads(): Promise<void> {
    const { flightCount, runCount } = this.#options
    this.#say('reading the flights')
    const frames = await readFlights(flightCount)
    const server = await startServerProcess(join(this.#options.folder, 'kv-server'))
    const client = connect(server.address, { session: { container: 'users' } })
    const rates = { embedded: [] as number[], grpc: [] as number[] }
    const redisRates: Record<RedisSync, number[]> = { always: [], everysec: [] }
    try {
      for (let run = -1; run < runCount; run++) {
        this.#say(`load: run ${run + 1} of ${runCount}`)
        const note = (list: number[], ms: number) => {
          if (run >= 0) list.push(flightCount / ms)
        }
        const table = `flights${run + 1}`
        note(rates.embedded, await loadFrames(frames, (own) => this.#engine.write({ ...writeRequest, table }, own)))
        note(rates.grpc, await loadFrames(frames, (own) => client.write({ ...writeRequest, table }, own)))
        for (const target of [this.#engine, client]) await this.#checkFlights(target, table)
        await client.delete({ backend, table })
        if (run < runCount - 1) await this.#engine.delete({ backend, table })
        else this.#flightsTable = table
        if (this.#redisVersion === null) continue
        for (const sync of ['always', 'everysec'] as const) note(redisRates[sync], await this.#loadRedis(frames, sync))
      }
    } finally {
      client.close()
      await server.stop()
    }
    const redis = redisRates.always.length === 0 ? null : median(redisRates.always)
    const unit = 'k items/s'
    const checksum = `${flightCount} flights`
    const beside = redis === null ? 'no Redis' : `Redis, each batch synced: ${redis.toFixed(0)}`
    this.#add('kv load', 'flights, embedded', unit, rates.embedded, {
      target: atLeast(median(rates.embedded), 1200, '1200'),
      beside,
      checksum,
    })
    const grpcTarget = Math.max(600, 2 * (redis ?? 0))
    this.#add('kv load', 'flights, gRPC', unit, rates.grpc, {
      target: atLeast(median(rates.grpc), grpcTarget, `600 and 2 x Redis (${grpcTarget.toFixed(0)})`),
      beside,
      checksum,
    })
    if (redis === null) return
    this.#add('kv load', 'flights, Redis pipelined HSET, appendfsync always', unit, redisRates.always, { checksum })
    this.#add('kv load', 'flights, Redis pipelined HSET, appendfsync everysec', unit, redisRates.everysec, { checksum })
  }

  /** A table of this engine with the flights, as one run. */
  async #flights(): Promise<string> {
    if (this.#flightsTable === null) {
      this.#say('loading the flights')
      const table = 'flights'
      const frames = await readFlights(this.#options.flightCount)
      await loadFrames(frames, (own) => this.#engine.write({ ...writeRequest, table }, own))
      this.#flightsTable = table
    }
    await this.#engine.execute({ backend, table: this.#flightsTable, command: 'compact' })
    return this.#flightsTable
  }

  /** Count and sums of what was stored, against the file. */
  async #checkFlights(target: Pick<Engine | Client, 'execute'>, table: string): Promise<void> {
    const { flightCount } = this.#options
    const [[expected]] = (
      await this.#duckDb.query(`SELECT sum(delay)::DOUBLE FROM (FROM '${flightsPath}' LIMIT ${flightCount})`)
    ).columns
    const args = { aggregators: 'count,sum', columns: 'delay' }
    const answer = await executed(target, { table, command: 'aggregate', args })
    const found = [answer.column('count(delay)').at(0), answer.column('sum(delay)').at(0)].map(Number)
    expectEqual(found, [flightCount, Number(expected)], `flights in ${table}`)
  }

  async #loadRedis(frames: readonly Frame[], sync: RedisSync): Promise<number> {
    const folder = join(this.#options.folder, 'redis')
    const redis = await Redis.start(folder, sync)
    try {
      // Made before the clock runs: a client in C would take next to no time for it.
      const batches = frames.map((frame) => ({ commands: hsetCommands(frame), count: frame.length }))
      let next = 0
      return await elapsedMs(() =>
        Promise.all(
          Array.from({ length: writeCount }, async () => {
            while (next < batches.length) {
              const { commands, count } = batches[next++]
              await redis.run(commands, count)
            }
          }),
        ),
      )
    } finally {
      await redis.stop()
      rmSync(folder, { recursive: true, force: true })
    }
  }

  // ---- scans ----

  async #scans(): Promise<void> {
    const { flightCount, peopleCount } = this.#options
    const flights = await this.#flights()
    await this.#duckDb.query(`CREATE OR REPLACE TABLE flights AS FROM '${flightsPath}' LIMIT ${flightCount}`)
    this.#say(`loading ${peopleCount} people`)
    await this.#duckDb.query(peopleSql(peopleCount))
    await this.#duckDb.query('CHECKPOINT')
    const frames = peopleFrames(peopleCount)
    const ms = await loadSource(frames, (own) => this.#engine.write({ ...writeRequest, table: 'people' }, own))
    this.#add('kv load', 'people, embedded, three attributes', 'k items/s', [peopleCount / ms])
    await this.#engine.execute({ backend, table: 'people', command: 'compact' })
    this.#say('scans')
    for (const least of [1000, 120, 30, 0, -60]) await this.#scan(flights, 'flights', 'delay', least, 'distance', null)
    await this.#scan('people', 'people', 'age', 40, 'score', 1.5)
    await this.#coldScan()
  }

  /** A count, a count with an average, and two columns of the rows above a bound; DuckDB answers the same. */
  async #scan(
    table: string,
    sqlTable: string,
    column: string,
    least: number,
    other: string,
    limit: number | null,
  ): Promise<void> {
    const filter = `${column} > ${least}`
    const where = `FROM ${sqlTable} WHERE ${filter}`
    const count = async () => {
      const frame = await executed(this.#engine, { table, command: 'count', args: { filter } })
      return [Number(frame.column('count').at(0))]
    }
    const average = async () => {
      const args = { filter, aggregators: 'count,avg', columns: other }
      const frame = await executed(this.#engine, { table, command: 'aggregate', args })
      return ['count', 'avg'].map((name) => Number(frame.column(`${name}(${other})`).at(0)))
    }
    const columns = async () => {
      let rowCount = 0
      const request: ReadRequest = { backend, table, filter, columns: [column, other] }
      for await (const frame of this.#engine.read(request)) rowCount += frame.length
      return [rowCount]
    }
    const numbers = async (sql: string) => (await this.#duckDb.query(sql)).columns.map(([value]) => Number(value))
    const counted = await numbers(`SELECT count(*) ${where}`)
    const share = `${((100 * counted[0]) / (await numbers(`SELECT count(*) FROM ${sqlTable}`))[0]).toFixed(1)} %`
    const cases = [
      { name: 'count', ours: count, sql: `SELECT count(*) ${where}`, expected: counted },
      {
        name: `count and avg(${other})`,
        ours: average,
        sql: `SELECT count(*), avg(${other}) ${where}`,
        expected: await numbers(`SELECT count(*), avg(${other}) ${where}`),
      },
      { name: `${column}, ${other}`, ours: columns, sql: `SELECT ${column}, ${other} ${where}`, expected: counted },
    ]
    for (const { name, ours, sql, expected } of cases) {
      expectEqual(await ours(), expected, `${filter}: ${name}`)
      const times = { ours: [] as number[], duckDb: [] as number[] }
      for (let run = -scanWarmUpCount; run < 3 * this.#options.runCount; run++) {
        const oursMs = await elapsedMs(ours)
        const duckDbMs = await elapsedMs(() => this.#duckDb.fetch(sql))
        if (run < 0) continue
        times.ours.push(oursMs)
        times.duckDb.push(duckDbMs)
      }
      const duckDb = median(times.duckDb)
      const checksum = expected.map((value) => value.toPrecision(8)).join(' ')
      const title = `${sqlTable}, ${filter} (${share}): ${name}`
      this.#add('kv scan', `${title}: embedded`, 'ms', times.ours, {
        target: limit === null ? null : atMost(median(times.ours), limit * duckDb, `${limit} x DuckDB`),
        beside: `DuckDB ${duckDb.toFixed(2)} ms`,
        checksum,
      })
      this.#add('kv scan', `${title}: DuckDB`, 'ms', times.duckDb, { checksum })
    }
  }

  /** The first scan after opening, with the file no longer in the system's memory where we may see to that. */
  async #coldScan(): Promise<void> {
    const { peopleCount, folder } = this.#options
    await this.#engine.close()
    const isCold = dropFileCache()
    this.#engine = await openEngine({ dataDir: join(folder, 'kv-embedded') })
    const args = { filter: 'age > 40' }
    const ms = await elapsedMs(() => this.#engine.execute({ backend, table: 'people', command: 'count', args }))
    const rate = peopleCount / ms / 1000
    this.#add('kv scan', 'people, age > 40: count, first after opening', 'M rows/s', [rate], {
      target: atLeast(rate, 20, '20'),
      beside: isCold ? 'file cache dropped' : 'file still cached (dropping it is not allowed here)',
    })
  }

  // ---- points ----

  async #points(): Promise<void> {
    const { flightCount, operationCount } = this.#options
    const table = await this.#flights()
    this.#say('points')
    const chooser = zipfian(flightCount, 7)
    const keys = Array.from({ length: operationCount }, () => String(chooser.next()))
    const singles = async () => {
      await concurrently(keys.length, getsInFlight, async (i) => {
        const frame = await executed(this.#engine, { table, command: 'get', args: { key: keys[i] } })
        if (frame.length !== 1) throw new Error(`item ${keys[i]} is not there`)
      })
    }
    const batches = Array.from({ length: Math.ceil(keys.length / keysPerBatch) }, (_, i) => [
      ...new Set(keys.slice(i * keysPerBatch, (i + 1) * keysPerBatch)),
    ])
    const batchTexts = batches.map((batch) => JSON.stringify(batch))
    const inBatches = async () => {
      await concurrently(batches.length, 8, async (i) => {
        const frame = await executed(this.#engine, { table, command: 'get', args: { keys: batchTexts[i] } })
        if (frame.length !== batches[i].length) throw new Error('items are not there')
      })
    }
    const batchedCount = batches.reduce((sum, batch) => sum + batch.length, 0)
    await this.#operations('get, one key a call, embedded', singles, keys.length, 100)
    await this.#operations(`get, ${keysPerBatch} keys a call, embedded`, inBatches, batchedCount, 400)
    const updateFrames: Frame[] = []
    for (let start = 0; start < keys.length; start += 1000) {
      const own = [...new Set(keys.slice(start, start + 1000))].map(BigInt)
      const length = own.length
      updateFrames.push(
        new Frame({
          indices: [sliceColumn('flight', BigInt64Array.from(own))],
          columns: [sliceColumn('delay', new BigInt64Array(length).fill(BigInt(start)))],
        }),
      )
    }
    const updates = async () => {
      const request = { ...writeRequest, table, saveMode: 'updateItem' as const, condition: '{delay} != delay' }
      await loadFrames(updateFrames, (own) => this.#engine.write(request, own))
    }
    const updateCount = updateFrames.reduce((sum, frame) => sum + frame.length, 0)
    await this.#operations('updates with a condition, 1000 a frame, embedded', updates, updateCount, 200)
  }

  async #operations(name: string, work: () => Promise<void>, count: number, least: number | null): Promise<void> {
    const rates: number[] = []
    for (let run = -pointWarmUpCount; run < this.#options.runCount; run++) {
      const ms = await elapsedMs(work)
      if (run >= 0) rates.push(count / ms)
    }
    const target = least === null ? null : atLeast(median(rates), least, String(least))
    this.#add('kv point', name, 'k operations/s', rates, { target, checksum: `${count} operations` })
  }

  // ---- YCSB ----

  async #ycsb(): Promise<void> {
    const { recordCount, folder } = this.#options
    this.#say('YCSB')
    const frames = recordFrames(recordCount)
    const server = await startServerProcess(join(folder, 'kv-ycsb'))
    const client = connect(server.address, { session: { container: 'users' } })
    const redis = this.#redisVersion === null ? null : await Redis.start(join(folder, 'redis-ycsb'), 'always')
    try {
      for (const target of [this.#engine, client]) await target.write({ ...writeRequest, table: 'usertable' }, frames)
      if (redis !== null) for (const frame of frames) await redis.run(hsetCommands(frame), frame.length)
      for (const mix of mixes) {
        await this.#mix(mix, 'embedded', frameworkOperations(this.#engine))
        await this.#mix(mix, 'gRPC', frameworkOperations(client))
        if (redis !== null) await this.#mix(mix, 'Redis, appendfsync always', redisOperations(redis))
      }
    } finally {
      client.close()
      await server.stop()
      await redis?.stop()
    }
  }

  async #mix({ name, readShare, change }: Mix, system: string, operations: Operations): Promise<void> {
    const { recordCount, mixMs, runCount } = this.#options
    const rates: number[] = []
    const latencies: number[] = []
    for (let run = -1; run < runCount; run++) {
      const chooser = zipfian(recordCount, 11 + run)
      const random = randomOf(17 + run)
      let count = 0
      const endMs = performance.now() + mixMs
      const callInTurn = async (): Promise<void> => {
        while (performance.now() < endMs) {
          const key = `user${chooser.next()}`
          const start = performance.now()
          if (random() < readShare) await operations.read(key)
          else await operations[change](key, fieldText(random))
          if (run >= 0) latencies.push(performance.now() - start)
          count++
        }
      }
      const ms = await elapsedMs(() => Promise.all(Array.from({ length: callCount }, callInTurn)))
      if (run >= 0) rates.push(count / ms)
    }
    const beside = `p99 ${percentile99(latencies).toFixed(2)} ms`
    this.#add('kv point', `YCSB ${name}: ${system}`, 'k operations/s', rates, { beside })
  }

  // ---- the server ----

  async #server(): Promise<void> {
    const { peopleCount, operationCount, runCount, folder } = this.#options
    this.#say(`${peopleCount} people over gRPC, memory of the server`)
    const server = await startServerProcess(join(folder, 'kv-memory'))
    const client = connect(server.address, { session: { container: 'users' } })
    const echoServer = await startEchoProcess()
    const echo = new EchoClient(echoServer.address)
    try {
      let loadMs = 0
      const peak = await peakMemory(server.pid, async () => {
        loadMs = await loadSource(peopleFrames(peopleCount), (own) =>
          client.write({ ...writeRequest, table: 'people' }, own),
        )
        for (const filter of ['age > 40', 'score > 1000000', "__name == '77'"])
          await executed(client, { table: 'people', command: 'count', args: { filter } })
      })
      this.#add('kv load', 'people, gRPC, three attributes', 'k items/s', [peopleCount / loadMs])
      if (peak !== null) {
        this.#add('kv memory', `${peopleCount} items, loaded and scanned`, 'MB', [peak / 1e6], {
          target: atMost(peak / 1e6, 1500, '1500'),
          beside: 'RssAnon + RssShmem of the server',
        })
      }
      this.#say('single updates over gRPC')
      // The load's own merges are not what an update costs.
      await client.execute({ backend, table: 'people', command: 'compact' })
      const calls = Math.ceil(operationCount / 8)
      const chooser = zipfian(peopleCount, 5)
      const rates = { update: [] as number[], echo: [] as number[] }
      const message = Buffer.alloc(120, 'x')
      for (let run = -1; run < runCount; run++) {
        const updateMs = await elapsedMs(() =>
          concurrently(calls, callCount, async () => {
            const args = { key: String(chooser.next()), expression: 'visits = visits + 1;', condition: 'age < 200' }
            await client.execute({ backend, table: 'people', command: 'update', args })
          }),
        )
        const echoMs = await elapsedMs(() => concurrently(calls, callCount, () => echo.call(message)))
        if (run < 0) continue
        rates.update.push(calls / updateMs)
        rates.echo.push(calls / echoMs)
      }
      const bare = median(rates.echo)
      const unit = 'k operations/s'
      this.#add('kv point', 'update of one item with a condition, gRPC', unit, rates.update, {
        target: atLeast(median(rates.update), 0.8 * bare, `0.8 x a bare call (${(0.8 * bare).toFixed(1)})`),
        beside: `bare call ${bare.toFixed(1)}`,
      })
      this.#add('kv point', 'bare gRPC call (echo)', unit, rates.echo)
    } finally {
      echo.close()
      client.close()
      await echoServer.stop()
      await server.stop()
    }
  }
}

const writeRequest = { backend, saveMode: 'createNewItemsOnly' } as const

interface Operations {
  read(key: string): Promise<unknown>
  update(key: string, field: string): Promise<unknown>
  readModifyWrite(key: string, field: string): Promise<unknown>
}

interface Mix {
  readonly name: string
  readonly readShare: number
  readonly change: 'update' | 'readModifyWrite'
}

const mixes: readonly Mix[] = [
  { name: 'A (half reads, half updates)', readShare: 0.5, change: 'update' },
  { name: 'B (95 % reads)', readShare: 0.95, change: 'update' },
  { name: 'C (reads)', readShare: 1, change: 'update' },
  { name: 'F (half reads, half read-modify-writes)', readShare: 0.5, change: 'readModifyWrite' },
]

function frameworkOperations(target: Pick<Engine | Client, 'execute'>): Operations {
  const table = 'usertable'
  const read = async (key: string) => {
    const frame = await executed(target, { table, command: 'get', args: { key } })
    if (frame.length !== 1) throw new Error(`record ${key} is not there`)
  }
  const update = (key: string, field: string) =>
    target.execute({ backend, table, command: 'update', args: { key, expression: `field3='${field}'` } })
  return {
    read,
    update,
    async readModifyWrite(key, field) {
      await read(key)
      await update(key, field)
    },
  }
}

function redisOperations(redis: Redis): Operations {
  const read = (key: string) => redis.run(Buffer.from(redisCommand('HGETALL', key)), 1)
  const update = (key: string, field: string) => redis.run(Buffer.from(redisCommand('HSET', key, 'field3', field)), 1)
  return {
    read,
    update,
    async readModifyWrite(key, field) {
      await read(key)
      await update(key, field)
    },
  }
}

function fieldText(random: () => number): string {
  return Math.floor(random() * 2 ** 31)
    .toString(36)
    .padEnd(fieldByteLength, 'framesd')
    .slice(0, fieldByteLength)
}

function recordFrames(recordCount: number): Frame[] {
  const random = randomOf(3)
  const frames: Frame[] = []
  const perFrame = 1000
  for (let start = 0; start < recordCount; start += perFrame) {
    const length = Math.min(perFrame, recordCount - start)
    const texts = (text: (row: number) => string) => Array.from({ length }, (_, row) => text(row))
    frames.push(
      new Frame({
        indices: [
          sliceColumn(
            'key',
            texts((row) => `user${start + row}`),
            'string',
          ),
        ],
        columns: Array.from({ length: fieldCount }, (_, field) =>
          sliceColumn(
            `field${field}`,
            texts(() => fieldText(random)),
            'string',
          ),
        ),
      }),
    )
  }
  return frames
}

/** One HSET a row: key of the item, then name and text of each attribute. */
function hsetCommands(frame: Frame): Buffer {
  const [key] = frame.indices
  const columns = frame.columns.map((column) => ({ name: column.name, cells: textsOf(column) }))
  const parts: string[] = []
  textsOf(key).forEach((name, row) => {
    parts.push(redisCommand('HSET', name, ...columns.flatMap((column) => [column.name, column.cells[row]])))
  })
  return Buffer.from(parts.join(''))
}

function textsOf(column: Frame['columns'][number]): string[] {
  if (column.dtype === 'string') return column.strings()
  return Array.from(column.dtype === 'time' ? column.times() : column.ints(), String)
}

async function executed(
  target: Pick<Engine | Client, 'execute'>,
  request: { readonly table: string; readonly command: string; readonly args: Readonly<Record<string, string>> },
): Promise<Frame> {
  // Field by field, as a caller writes it: an object that others are spread into costs both sides more than a look-up.
  const { table, command, args } = request
  const frame = await target.execute({ backend, table, command, args })
  if (frame === null) throw new Error(`${request.command} answered with no frame`)
  return frame
}

type WriteFrames = (frames: Iterable<Frame>) => Promise<{ readonly rowCount: number }>

/** Shares frames out to `writeCount` writes; from the first to the last acknowledged one, in ms. */
async function loadFrames(frames: readonly Frame[], write: WriteFrames): Promise<number> {
  const wanted = frames.reduce((sum, frame) => sum + frame.length, 0)
  let rowCount = 0
  const loadMs = await loadSource(frames[Symbol.iterator](), async (own) => {
    const stored = await write(own)
    rowCount += stored.rowCount
    return stored
  })
  if (rowCount !== wanted) throw new Error(`${rowCount} rows were counted instead of ${wanted}`)
  return loadMs
}

function loadSource(frames: Iterator<Frame>, write: WriteFrames): Promise<number> {
  function* own(): Generator<Frame, void, undefined> {
    for (let next = frames.next(); next.done !== true; next = frames.next()) yield next.value
  }
  return elapsedMs(() => Promise.all(Array.from({ length: writeCount }, () => write(own()))))
}

/** `work` for 0 to count - 1, `width` of them at once. */
async function concurrently(count: number, width: number, work: (i: number) => Promise<unknown>): Promise<void> {
  let next = 0
  await Promise.all(
    Array.from({ length: Math.min(width, count) }, async () => {
      while (next < count) await work(next++)
    }),
  )
}

function expectEqual(found: readonly number[], expected: readonly number[], what: string): void {
  const isEqual = found.every((value, i) => Math.abs(value - expected[i]) <= 1e-9 * Math.abs(expected[i]))
  if (!isEqual || found.length !== expected.length)
    throw new Error(`${what}: found ${found.join(', ')} instead of ${expected.join(', ')}`)
}

/** Whether the system could be asked to forget the pages of files. */
function dropFileCache(): boolean {
  const path = '/proc/sys/vm/drop_caches'
  if (!existsSync(path)) return false
  try {
    writeFileSync(path, '1')
    return true
  } catch (error) {
    if (error instanceof Error && 'code' in error && (error.code === 'EACCES' || error.code === 'EROFS')) return false
    throw error
  }
}
