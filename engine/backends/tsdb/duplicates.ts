// Tables that refuse duplicates: is there a second sample of one series and time, in the frame or stored before?
import { FramesError } from '../../errors.js'
import type { Kernels } from '../../kernels/kernels.js'
import type { BlockSource } from '../../blocks/reader.js'
import type { OpenFrame, RowOrder } from './append.js'
import { decodeExtent, floorMs } from './directory.js'
import type { SeriesReader, WantedMetric } from './series-reader.js'
import type { Signature } from './signature.js'
import { seriesType, storedTypes } from './signature.js'

function isPresent(kernels: Kernels, validityPtr: number, row: number): boolean {
  return validityPtr === 0 || ((kernels.u8[validityPtr + (row >> 3)]! >> (row & 7)) & 1) === 1
}

function duplicate(metric: string, row: number, timeNs: bigint): FramesError {
  return new FramesError(
    'DUPLICATE_SAMPLE',
    `failed to Add: the series has a sample at this time already (column '${metric}', row ${row}, time ${floorMs(timeNs)} ms)`,
  )
}

/** Original rows of the frame that have the distinct (set, time) number `run`. */
function rowsOf(kernels: Kernels, order: RowOrder, run: number): number[] {
  if (order.permutationPtr === 0) return [run]
  const { u32 } = kernels
  const starts = order.runStartsPtr >> 2
  const rows: number[] = []
  for (let i = u32[starts + run]!; i < u32[starts + run + 1]!; i++) rows.push(u32[(order.permutationPtr >> 2) + i]!)
  return rows
}

/** Throws DUPLICATE_SAMPLE when two rows of the frame bring one series' sample of one time. */
export function refuseDuplicatesInFrame(kernels: Kernels, frame: OpenFrame, order: RowOrder): void {
  if (!order.hasDuplicates) return
  for (let run = 0; run < order.rowCount; run++) {
    const rows = rowsOf(kernels, order, run)
    if (rows.length < 2) continue
    for (const { name, validityPtr } of frame.metrics) {
      const present = rows.filter((row) => isPresent(kernels, validityPtr, row))
      if (present.length > 1) throw duplicate(name, present[1]!, kernels.i64[(frame.timesPtr >> 3) + present[1]!]!)
    }
  }
}

/** The blocks that reach into the label sets and the time of a frame: only they can hold a sample of it. */
export function sourcesWithin(
  { i64 }: Pick<Kernels, 'i64'>,
  sources: readonly BlockSource[],
  { directory: { sets, starts } }: Pick<RowOrder, 'directory'>,
  sortedTimesPtr: number,
): readonly BlockSource[] {
  if (sets.length === 0) return []
  const times = sortedTimesPtr >> 3
  let minNs = i64[times]!
  let maxNs = minNs
  sets.forEach((_, i) => {
    const firstNs = i64[times + starts[i]!]!
    const lastNs = i64[times + starts[i + 1]! - 1]!
    if (firstNs < minNs) minNs = firstNs
    if (lastNs > maxNs) maxNs = lastNs
  })
  const startMs = floorMs(minNs)
  const endMs = floorMs(maxNs)
  const setMin = sets[0]!
  const setMax = sets[sets.length - 1]!
  return sources.filter(({ extent }) => {
    if (extent === null) return true
    const block = decodeExtent(extent)
    return block.timeMinMs <= endMs && block.timeMaxMs >= startMs && block.setMin <= setMax && block.setMax >= setMin
  })
}

/**
 * Throws DUPLICATE_SAMPLE when a sample of the frame is stored already. sortedTimesPtr: i64 ns of the order's rows.
 * Walks both in step, row by row: such tables pay for what they ask for.
 */
export function refuseStoredDuplicates(
  kernels: Kernels,
  frame: OpenFrame,
  order: RowOrder,
  sortedTimesPtr: number,
  reader: SeriesReader,
  signatureOf: (set: number) => Signature,
): void {
  const { i64 } = kernels
  const { sets, starts } = order.directory
  const times = sortedTimesPtr >> 3
  sets.forEach((set, i) => {
    const signature = signatureOf(set)
    const metrics = frame.metrics.filter(({ name }) => signature.has(name))
    const wanted = metrics.map(({ name }): WantedMetric => {
      const bits = signature.get(name)!
      return { name, type: seriesType(bits), storedTypes: storedTypes(bits) }
    })
    let run = starts[i]!
    const end = starts[i + 1]!
    if (wanted.length === 0 || !reader.open(set, wanted, i64[times + run]!, i64[times + end - 1]! + 1n)) return
    for (let batch = reader.next(); batch !== null; batch = reader.next()) {
      for (let row = 0; row < batch.rowCount && run < end; row++) {
        const storedNs = i64[(batch.timesPtr >> 3) + row]!
        while (run < end && i64[times + run]! < storedNs) run++
        if (run === end || i64[times + run]! !== storedNs) continue
        batch.columns.forEach((cells, metric) => {
          if (cells === null || !isPresent(kernels, cells.validityPtr, row)) return
          const { name, validityPtr } = metrics[metric]!
          const found = rowsOf(kernels, order, run).find((frameRow) => isPresent(kernels, validityPtr, frameRow))
          if (found !== undefined) throw duplicate(name, found, storedNs)
        })
      }
    }
  })
}
