// Ten million items for scans, by formulas that DuckDB computes, too: so both hold the same, and neither copies the other.
// Lehmer's generator (Park and Miller, "Random number generators: good ones are hard to find", CACM 1988) over the row number.
import { Frame } from '../engine/index.js'
import { keyColumn, wholeColumn } from './columns.js'
import { itemsPerFrame } from './flights.js'

const modulus = 2_147_483_647
const [ageFactor, scoreFactor, visitsFactor] = [48_271, 16_807, 69_621]

/** Items start to end - 1: key `id`, attributes age (0..99), score (float64), visits. */
export function peopleFrame(start: number, end: number): Frame {
  const length = end - start
  const ages = new BigInt64Array(length)
  const visits = new BigInt64Array(length)
  const scores = new Float64Array(length)
  for (let row = 0; row < length; row++) {
    const id = start + row
    ages[row] = BigInt(((id * ageFactor) % modulus) % 100)
    scores[row] = ((id * scoreFactor) % modulus) / 1000
    visits[row] = BigInt(((id * visitsFactor) % modulus) % 1_000_000)
  }
  return new Frame({
    indices: [keyColumn('id', start, end)],
    columns: [
      wholeColumn('age', 'int64', ages),
      wholeColumn('score', 'float64', scores),
      wholeColumn('visits', 'int64', visits),
    ],
  })
}

export function* peopleFrames(rowCount: number): Generator<Frame, void, undefined> {
  for (let start = 0; start < rowCount; start += itemsPerFrame)
    yield peopleFrame(start, Math.min(rowCount, start + itemsPerFrame))
}

/** The same items as a table of DuckDB. */
export function peopleSql(rowCount: number): string {
  const drawn = (factor: number) => `(i * ${factor}) % ${modulus}`
  return `CREATE OR REPLACE TABLE people AS SELECT i AS id, ${drawn(ageFactor)} % 100 AS age,
    (${drawn(scoreFactor)}) / 1000 AS score, ${drawn(visitsFactor)} % 1000000 AS visits FROM range(${rowCount}) t(i)`
}
