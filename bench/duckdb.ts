// The yardstick: DuckDB in this process, over a file. Its appender takes chunks of 2048 rows by column, the fastest way
// its Node.js package offers (rows one by one are many times slower); a load ends with CHECKPOINT, so that all of it is in
// the synced file. Tags stand in a table of their own, as TSBS does it for relational stores: the samples carry a number.
import { existsSync, rmSync, statSync } from 'node:fs'
import {
  BIGINT,
  DOUBLE,
  type DuckDBConnection,
  DuckDBDataChunk,
  DuckDBInstance,
  type DuckDBType,
  INTEGER,
  TIMESTAMP,
} from '@duckdb/node-api'
import { elapsedMs } from './clock.js'
import { metricNames, tagNames, type Workload, type WorkloadValues } from './tsbs.js'

/** Rows of a chunk: what DuckDB calls its vector size. */
const chunkRowCount = 2048

function columnTypesOf(values: WorkloadValues): readonly DuckDBType[] {
  return [TIMESTAMP, INTEGER, ...metricNames.map(() => (values === 'whole numbers' ? BIGINT : DOUBLE))]
}

export class DuckDb {
  readonly #path: string
  readonly #instance: DuckDBInstance
  readonly #connection: DuckDBConnection

  private constructor(path: string, instance: DuckDBInstance, connection: DuckDBConnection) {
    this.#path = path
    this.#instance = instance
    this.#connection = connection
  }

  static async open(path: string): Promise<DuckDb> {
    const instance = await DuckDBInstance.create(path)
    return new DuckDb(path, instance, await instance.connect())
  }

  async version(): Promise<string> {
    const reader = await this.#connection.runAndReadAll('SELECT version()')
    return String(reader.value(0, 0))
  }

  /** Fresh tables for a workload. */
  async create(values: WorkloadValues = 'whole numbers'): Promise<void> {
    await this.#connection.run('DROP TABLE IF EXISTS cpu; DROP TABLE IF EXISTS tags; CHECKPOINT')
    await this.#connection.run(
      `CREATE TABLE tags (id INTEGER, ${tagNames.map((name) => `${name} VARCHAR`).join(', ')})`,
    )
    const metrics = metricNames.map((name) => `${name} ${values === 'whole numbers' ? 'BIGINT' : 'DOUBLE'}`).join(', ')
    await this.#connection.run(`CREATE TABLE cpu (time TIMESTAMP, tags_id INTEGER, ${metrics})`)
  }

  /** From the first typed array to the checkpointed file, in ms. */
  load(workload: Workload): Promise<number> {
    return elapsedMs(async () => {
      await this.#appendTags(workload)
      await this.#appendSamples(workload)
      await this.#connection.run('CHECKPOINT')
    })
  }

  async #appendTags({ hosts }: Workload): Promise<void> {
    const appender = await this.#connection.createAppender('tags')
    hosts.forEach(({ tags }, id) => {
      appender.appendInteger(id)
      for (const name of tagNames) appender.appendVarchar(tags[name])
      appender.endRow()
    })
    appender.closeSync()
  }

  async #appendSamples({ hosts, timesNs, values }: Workload): Promise<void> {
    const timesUs = timesNs.map((timeNs) => timeNs / 1000n)
    const appender = await this.#connection.createAppender('cpu')
    const whole = new SampleChunk(columnTypesOf(values), chunkRowCount)
    hosts.forEach(({ metrics }, id) => {
      for (let start = 0; start < timesUs.length; start += chunkRowCount) {
        const end = Math.min(start + chunkRowCount, timesUs.length)
        const chunk = end - start === chunkRowCount ? whole : new SampleChunk(columnTypesOf(values), end - start)
        appender.appendDataChunk(chunk.fill(timesUs, id, metrics, start, end))
      }
    })
    appender.closeSync()
  }

  /** The answer's columns, read to the end. */
  async query(sql: string): Promise<{ columns: readonly (readonly unknown[])[] }> {
    const reader = await this.#connection.runAndReadAll(sql)
    return { columns: reader.getColumnsJS() }
  }

  async rows(sql: string): Promise<readonly (readonly unknown[])[]> {
    const reader = await this.#connection.runAndReadAll(sql)
    return reader.getRowsJS()
  }

  /** Runs a query and fetches its answer as DuckDB holds it: nothing is turned into JavaScript values. */
  async fetch(sql: string): Promise<void> {
    const result = await this.#connection.run(sql)
    await result.fetchAllChunks()
  }

  byteLength(): number {
    return [this.#path, `${this.#path}.wal`].reduce(
      (sum, path) => sum + (existsSync(path) ? statSync(path).size : 0),
      0,
    )
  }

  close(): void {
    this.#connection.closeSync()
    this.#instance.closeSync()
    rmSync(this.#path, { force: true })
  }
}

type ColumnArray = BigInt64Array | Float64Array | Int32Array

/** A chunk whose columns are filled by copying typed arrays. */
class SampleChunk {
  readonly #chunk: DuckDBDataChunk
  readonly #arrays: readonly ColumnArray[]

  constructor(columnTypes: readonly DuckDBType[], rowCount: number) {
    this.#chunk = DuckDBDataChunk.create(columnTypes, rowCount)
    this.#arrays = columnTypes.map((_, column) => valuesOf(this.#chunk.getColumnVector(column)))
  }

  fill(
    timesUs: BigInt64Array,
    id: number,
    metrics: readonly (BigInt64Array | Float64Array)[],
    start: number,
    end: number,
  ): DuckDBDataChunk {
    this.#arrays.forEach((array, column) => {
      const source = column === 0 ? timesUs : metrics[column - 2]
      if (array instanceof Int32Array) array.fill(id)
      else if (array instanceof Float64Array && source instanceof Float64Array) array.set(source.subarray(start, end))
      else if (array instanceof BigInt64Array && source instanceof BigInt64Array) array.set(source.subarray(start, end))
      else throw new TypeError('a column of another type')
      this.#chunk.getColumnVector(column).flush()
    })
    return this.#chunk
  }
}

/** The array behind a vector. The package offers only setItem, value by value, which takes ten times as long. */
function valuesOf(vector: object): ColumnArray {
  const items: unknown = 'items' in vector ? vector.items : null
  if (items instanceof BigInt64Array || items instanceof Float64Array || items instanceof Int32Array) return items
  throw new Error('this version of @duckdb/node-api keeps the values of a vector elsewhere')
}
