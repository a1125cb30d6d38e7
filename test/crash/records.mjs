// The records of the stream crash test: what stands in frame n of a writer follows from (writer, n) alone.
import { Frame, sliceColumn } from '../../dist/engine/index.js'

export const stream = { backend: 'stream', table: 'ingest' }
export const shardCount = 3
export const group = 'readers'

export function rowCountOf(writer, n) {
  const random = Math.imul(writer * 7919 + n * 104_729 + 12_345, 0x21f0aaad) >>> 8
  if (random % 16 === 0) return 1 + (random % 9000)
  return 1 + (random % (random % 3 === 0 ? 700 : 5))
}

/** Every third one is put as a JSON text, the others are frames. */
export function isText(n) {
  return n % 3 === 2
}

export function textOf(writer, n, row) {
  return `record ${row} of frame ${n} of writer ${writer}`
}

export function frameNumber(writer, n) {
  const rows = Array.from({ length: rowCountOf(writer, n) }, (_, row) => row)
  const constant = (value) => BigInt64Array.from(rows, () => BigInt(value))
  return new Frame({
    columns: [
      sliceColumn('writer', constant(writer), 'int64'),
      sliceColumn('n', constant(n), 'int64'),
      sliceColumn('row', BigInt64Array.from(rows, BigInt), 'int64'),
      sliceColumn(
        'text',
        rows.map((row) => textOf(writer, n, row)),
      ),
    ],
  })
}

export function jsonNumber(writer, n) {
  return JSON.stringify(
    Array.from({ length: Math.min(20, rowCountOf(writer, n)) }, (_, row) => ({
      writer,
      n,
      row,
      text: textOf(writer, n, row),
    })),
  )
}

/**
 * Reads all records; throws when a shard's sequence numbers are not dense, an arrival time goes back, or a frame is not
 * whole, once and as it was written. Returns how many frames of each writer there are: they are stored in their order.
 */
export async function wholeFrames(engine, writerCount) {
  const found = Array.from({ length: writerCount }, () => new Map())
  for (let shard = 0; shard < shardCount; shard++) {
    let sequence = 1n
    let arrivalNs = 0n
    for await (const frame of engine.read({ ...stream, seek: 'earliest', shardId: String(shard) })) {
      const sequences = frame.indices[0].ints()
      const arrivals = frame.column('stream_time').times()
      const columns = ['writer', 'n', 'row'].map((name) => frame.column(name).ints())
      const texts = frame.column('text').values()
      for (let i = 0; i < frame.length; i++) {
        const [writer, n, row] = columns.map((column) => Number(column[i]))
        if (sequences[i] !== sequence++)
          throw new Error(`record ${sequences[i]} of shard ${shard} follows ${sequence - 2n}`)
        if (arrivals[i] < arrivalNs) throw new Error(`record ${sequences[i]} of shard ${shard} arrived before the last`)
        arrivalNs = arrivals[i]
        if (texts[i] !== textOf(writer, n, row)) throw new Error(`'${texts[i]}' stands where frame ${n} has row ${row}`)
        const rows = found[writer].get(n) ?? new Set()
        found[writer].set(n, rows)
        if (rows.has(row)) throw new Error(`row ${row} of frame ${n} of writer ${writer} is there twice`)
        rows.add(row)
      }
    }
  }
  return found.map((frames, writer) => {
    for (const [n, rows] of frames) {
      const wanted = isText(n) ? Math.min(20, rowCountOf(writer, n)) : rowCountOf(writer, n)
      if (rows.size !== wanted) throw new Error(`frame ${n} of writer ${writer} has ${rows.size} records of ${wanted}`)
    }
    const last = Math.max(-1, ...frames.keys())
    if (frames.size !== last + 1) throw new Error(`writer ${writer} has ${frames.size} frames, the last is ${last}`)
    return last + 1
  })
}
