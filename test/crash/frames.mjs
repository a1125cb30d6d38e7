// The frames of the crash test: what stands in frame n of a stream follows from (stream, n) alone, so that whoever reads
// it back knows every cell.
import { Frame, sliceColumn } from '../../dist/engine/index.js'

export const backend = 'tsdb'
/** Rows of the largest frame. */
const rowCountMax = 20_000
/** Time between the first rows of two frames. */
const frameMs = 1_000_000n

/** A small permutation of bits: sizes look random and can be worked out again. */
function mix(stream, n) {
  let x = (stream * 7919 + n * 104_729 + 12_345) | 0
  x = Math.imul(x ^ (x >>> 16), 0x21f0aaad)
  x = Math.imul(x ^ (x >>> 15), 0x735a2d97)
  return (x ^ (x >>> 15)) >>> 0
}

export function rowCountOf(stream, n) {
  const random = mix(stream, n)
  if (random % 16 === 0) return 1 + (random % rowCountMax)
  return 1 + (random % (random % 3 === 0 ? 1000 : 20))
}

export function firstTimeNs(n) {
  return BigInt(n) * frameMs * 1_000_000n
}

/** Which frame a row belongs to. */
export function frameOf(timeNs) {
  return Number(timeNs / 1_000_000n / frameMs)
}

export function cellOf(stream, n, row) {
  return stream * 1e9 + n * 1e4 + row / 8
}

/** Each stream is a label set; now and then a new one comes with it, so that label sets are registered all the time. */
export function labelsOf(stream, n) {
  return { stream: `s${stream}`, epoch: `e${Math.floor(n / 40)}` }
}

export function frameNumber(stream, n) {
  const rowCount = rowCountOf(stream, n)
  const times = BigInt64Array.from({ length: rowCount }, (_, row) => firstTimeNs(n) + BigInt(row) * 1_000_000n)
  const values = Float64Array.from({ length: rowCount }, (_, row) => cellOf(stream, n, row))
  const numbers = BigInt64Array.from({ length: rowCount }, (_, row) => BigInt(n * 100_000 + row))
  return new Frame({
    columns: [sliceColumn('value', values), sliceColumn('number', numbers, 'int64')],
    indices: [sliceColumn('time', times, 'time')],
    labels: labelsOf(stream, n),
  })
}

/**
 * Reads the frames from number `from` on; throws when one of them is not whole and exactly as it was written.
 * Returns the numbers of those that are there.
 */
export async function wholeFrames(engine, table, stream, from) {
  const rowCounts = new Map()
  const request = {
    backend,
    table,
    start: String(firstTimeNs(from) / 1_000_000n),
    end: '13000000000000',
    filter: `stream=='s${stream}'`,
  }
  for await (const frame of engine.read(request)) {
    const times = frame.indices[0].times()
    const values = frame.column('value').floats()
    const numbers = frame.column('number').ints()
    const epoch = frame.labels.get('epoch')
    for (let i = 0; i < times.length; i++) {
      const n = frameOf(times[i])
      const row = rowCounts.get(n) ?? 0
      rowCounts.set(n, row + 1)
      const isRight =
        times[i] === firstTimeNs(n) + BigInt(row) * 1_000_000n &&
        values[i] === cellOf(stream, n, row) &&
        numbers[i] === BigInt(n * 100_000 + row) &&
        epoch === labelsOf(stream, n).epoch
      if (!isRight) throw new Error(`row ${row} of frame ${n} of stream ${stream} is not what was written`)
    }
  }
  for (const [n, rowCount] of rowCounts) {
    if (rowCount !== rowCountOf(stream, n))
      throw new Error(`frame ${n} of stream ${stream} has ${rowCount} rows of ${rowCountOf(stream, n)}`)
  }
  return new Set(rowCounts.keys())
}
