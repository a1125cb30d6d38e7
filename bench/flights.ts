// Three million real flights (package vega-datasets: flights-3m.parquet) as items of a table: a flight's number in the file
// is its key, and it has five attributes.
import { fileURLToPath } from 'node:url'
import { DuckDBBigIntVector, DuckDBInstance, type DuckDBVector } from '@duckdb/node-api'
import { Frame, sliceColumn } from '../engine/index.js'
import { keyColumn, wholeColumn } from './columns.js'

/** Rows of a frame: what the published clients' users write at once. */
export const itemsPerFrame = 10_000

export const flightsPath = fileURLToPath(new URL('../data/flights-3m.parquet', import.meta.resolve('vega-datasets')))

/** The first flights of the file, in frames: index `flight` (int64), columns date, delay, distance, origin, destination. */
export async function readFlights(rowCountMax: number): Promise<Frame[]> {
  const instance = await DuckDBInstance.create(':memory:')
  const connection = await instance.connect()
  try {
    const sql = `SELECT epoch_ns(date), delay, distance, origin, destination FROM '${flightsPath}' LIMIT ${rowCountMax}`
    const chunks = await (await connection.run(sql)).fetchAllChunks()
    const rowCount = chunks.reduce((sum, chunk) => sum + chunk.rowCount, 0)
    const numbers = [0, 1, 2].map(() => new BigInt64Array(rowCount))
    const texts = [0, 1].map(() => new Array<string>(rowCount))
    let at = 0
    for (const chunk of chunks) {
      numbers.forEach((target, column) => {
        copyNumbers(chunk.getColumnVector(column), chunk.rowCount, target, at)
      })
      texts.forEach((target, column) => {
        const vector = chunk.getColumnVector(numbers.length + column)
        for (let row = 0; row < chunk.rowCount; row++) target[at + row] = String(vector.getItem(row))
      })
      at += chunk.rowCount
    }
    const frames: Frame[] = []
    for (let start = 0; start < rowCount; start += itemsPerFrame) {
      const end = Math.min(rowCount, start + itemsPerFrame)
      const [dates, delays, distances] = numbers.map((values) => values.subarray(start, end))
      const [origins, destinations] = texts.map((values) => values.slice(start, end))
      frames.push(
        new Frame({
          indices: [keyColumn('flight', start, end)],
          columns: [
            wholeColumn('date', 'time', dates),
            wholeColumn('delay', 'int64', delays),
            wholeColumn('distance', 'int64', distances),
            sliceColumn('origin', origins, 'string'),
            sliceColumn('destination', destinations, 'string'),
          ],
        }),
      )
    }
    return frames
  } finally {
    connection.closeSync()
    instance.closeSync()
  }
}

function copyNumbers(vector: DuckDBVector, rowCount: number, target: BigInt64Array, at: number): void {
  if (!(vector instanceof DuckDBBigIntVector)) throw new Error('a column of the flights is no BIGINT')
  for (let row = 0; row < rowCount; row++) target[at + row] = vector.getItem(row) ?? 0n
}
