// Deletes of a part of a table, in a worker: which cells of a block go, and whether any does.
import type { Kernels } from '../../kernels/kernels.js'
import type { Scratch } from '../../memory/scratch.js'
import type { Batch, BatchColumn, SampleReader, SeriesReader, WantedMetric } from './series-reader.js'
import { bitmapByteLength } from './series-reader.js'
import type { Signature } from './signature.js'
import { seriesType, storedTypes } from './signature.js'

/**
 * Samples to delete.
 *
 * startNs, endNs  [startNs, endNs)
 * sets            ascending; null: all label sets
 * lists           which of `metricLists` goes of each of the sets; null: the same for all
 * metricLists     names of metrics
 * metrics         those of all sets; null: all metrics, or those of the lists
 */
export interface Erasure {
  readonly startNs: bigint
  readonly endNs: bigint
  readonly sets: Uint32Array | null
  readonly lists: Uint32Array | null
  readonly metricLists: readonly (readonly string[])[]
  readonly metrics: readonly string[] | null
}

/** What an erasure says of one label set: whether a metric of it goes; null: none does. */
export function erasedMetrics(
  { sets, lists, metricLists, metrics }: Erasure,
  set: number,
): ((metric: string) => boolean) | null {
  const place = sets === null ? 0 : placeOf(sets, set)
  if (place < 0) return null
  const list = lists === null ? null : metricLists[lists[place]!]!
  return (metric) => (metrics === null || metrics.includes(metric)) && (list === null || list.includes(metric))
}

function placeOf(sets: Uint32Array, set: number): number {
  let low = 0
  let high = sets.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (sets[middle]! < set) low = middle + 1
    else high = middle
  }
  return sets[low] === set ? low : -1
}

/** Whether any cell of the reader's blocks goes. */
export function erasesAny(
  reader: SeriesReader,
  kernels: Kernels,
  erasure: Erasure,
  signatureOf: (set: number) => Signature,
): boolean {
  for (const set of reader.sets()) {
    const isErased = erasedMetrics(erasure, set)
    if (isErased === null) continue
    const wanted = [...signatureOf(set)].flatMap(([name, bits]): WantedMetric[] =>
      isErased(name) ? [{ name, type: seriesType(bits), storedTypes: storedTypes(bits) }] : [],
    )
    if (wanted.length === 0 || !reader.open(set, wanted, erasure.startNs, erasure.endNs)) continue
    for (let batch = reader.next(); batch !== null; batch = reader.next()) {
      const { rowCount } = batch
      for (const cells of batch.columns) {
        if (cells === null) continue
        if (cells.validityPtr === 0 || kernels.call.countBits(cells.validityPtr, rowCount) > 0) return true
      }
    }
  }
  return false
}

/** As the reader that it reads, without the cells that go. */
export class ErasingReader implements SampleReader {
  /** Of the open set's metrics, in their order, whether they go. */
  #isErased: readonly boolean[] | null = null

  /** temporary: what a batch needs beyond decoded pages; the same as that of the reader. */
  constructor(
    readonly reader: SampleReader,
    readonly kernels: Kernels,
    readonly temporary: Scratch,
    readonly erasure: Erasure,
  ) {}

  open(set: number, metrics: readonly WantedMetric[], startNs: bigint, endNs: bigint): boolean {
    const isErased = erasedMetrics(this.erasure, set)
    this.#isErased = isErased === null ? null : metrics.map(({ name }) => isErased(name))
    return this.reader.open(set, metrics, startNs, endNs)
  }

  next(): Batch | null {
    const batch = this.reader.next()
    if (batch === null || this.#isErased === null) return batch
    const { call } = this.kernels
    const { timesPtr, rowCount } = batch
    const { startNs, endNs } = this.erasure
    const start = call.lowerBoundInt64(timesPtr, 0, rowCount, startNs)
    const end = call.lowerBoundInt64(timesPtr, start, rowCount, endNs)
    if (start >= end) return batch
    return {
      ...batch,
      columns: batch.columns.map((cells, i) =>
        this.#isErased![i] ? this.#without(cells, start, end, rowCount) : cells,
      ),
    }
  }

  /** Cells without those of rows [start, end). */
  #without(cells: BatchColumn | null, start: number, end: number, rowCount: number): BatchColumn | null {
    if (cells === null || (start === 0 && end === rowCount)) return null
    const { call } = this.kernels
    const validityPtr = this.temporary.allocate(bitmapByteLength(rowCount))
    call.fillBits(validityPtr, rowCount, 1)
    if (cells.validityPtr !== 0) call.copyBits(cells.validityPtr, 0, validityPtr, 0, rowCount)
    call.setBitRange(validityPtr, start, end, 0)
    return { ...cells, validityPtr }
  }
}
