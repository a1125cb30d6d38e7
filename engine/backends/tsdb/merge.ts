// Merges runs of a tsdb table, in a worker: label set after label set, each in time order, into new blocks.
import { PageEncoder } from '../../blocks/builder.js'
import type { MergeStep } from '../../blocks/merge-rule.js'
import type { BlockSource } from '../../blocks/reader.js'
import { BlockIo } from '../../blocks/reader.js'
import { FramesError } from '../../errors.js'
import type { Kernels } from '../../kernels/kernels.js'
import { blockCellCountMax, blockRowCountMax, MiB, pageRowCountMax } from '../../limits.js'
import type { Scratch } from '../../memory/scratch.js'
import type { WorkerReader } from '../../stores/store.js'
import type { DigestGrain } from './digests.js'
import { type Erasure, ErasingReader } from './erase.js'
import { type MergePosition, type MergeStretch, reachMin } from './merge-stretch.js'
import { RowCollector } from './row-collector.js'
import { RunWriter } from './run-writer.js'
import type { SampleReader, WantedMetric } from './series-reader.js'
import { SeriesReader } from './series-reader.js'
import type { Signature } from './signature.js'
import { seriesType, storedTypes } from './signature.js'

/** Before and behind all times. */
const timeMinNs = -(2n ** 63n)
const timeMaxNs = 2n ** 63n - 1n

/** A block of strings ends at this much text. */
const textByteLengthMax = 8 * MiB

export interface MergeInput {
  readonly sources: readonly BlockSource[]
  readonly end: MergeStretch['end']
  readonly position: MergePosition | null
  readonly partition: string
  readonly tableName: string
  readonly signatureOf: (set: number) => Signature
  readonly partitionIntervalMs: number
  /** Digests that the table was created with. */
  readonly asked: DigestGrain | null
  readonly newestWins: boolean
  readonly isCancelled: () => boolean
  /** What is to be left out; null: nothing. */
  readonly erasure: Erasure | null
}

export function mergeRuns(
  kernels: Kernels,
  scratch: Scratch,
  store: WorkerReader | null,
  input: MergeInput,
): MergeStep {
  // Rows are collected first; then the place of pages and temporaries serves the encoder.
  const [collectorScratch, rest] = scratch.split([0.55, 0.45]) as [Scratch, Scratch]
  const mark = rest.mark()
  const [cacheScratch, temporary] = rest.split([0.65, 0.35]) as [Scratch, Scratch]
  const io = new BlockIo(kernels, cacheScratch, store, input.partition, input.tableName)
  const stored = new SeriesReader(io, temporary, input.sources, input.newestWins)
  const reader: SampleReader =
    input.erasure === null ? stored : new ErasingReader(stored, kernels, temporary, input.erasure)

  const reach = input.position?.reach ?? reachMin
  const { end } = input
  // As many as one step can write, each having a row, and one more to go on with.
  const sets = stored.sets(input.position?.set, blockRowCountMax + 1)
  const rowCountTotal = input.sources.reduce((sum, source) => sum + source.rowCount, 0)
  const wantedBySignature = new Map<Signature, readonly WantedMetric[]>()
  // Looked at once: a writer may give a set another signature meanwhile.
  const signatures: Signature[] = []
  let columnCountMax = 1
  for (let i = 0; i < sets.length; i++) {
    const signature = input.signatureOf(sets[i]!)
    signatures.push(signature)
    if (wantedBySignature.has(signature)) continue
    wantedBySignature.set(
      signature,
      [...signature].map(([name, bits]) => ({ name, type: seriesType(bits), storedTypes: storedTypes(bits) })),
    )
  }
  const names = new Set<string>()
  for (const wanted of wantedBySignature.values()) for (const { name, type } of wanted) names.add(`${type} ${name}`)
  columnCountMax += names.size
  const capacity = Math.max(
    1,
    Math.min(rowCountTotal, blockRowCountMax, Math.floor(blockCellCountMax / columnCountMax)),
  )
  const collector = new RowCollector(kernels, collectorScratch, capacity)
  const columns = new Map<string, { number: number; wanted: WantedMetric }>()
  const columnOf = (wanted: WantedMetric): number => {
    const key = `${wanted.type} ${wanted.name}`
    let column = columns.get(key)
    if (column === undefined) {
      column = { number: collector.addColumn(wanted.type), wanted }
      columns.set(key, column)
    }
    return column.number
  }

  const numbersOfWanted = new Map<readonly WantedMetric[], readonly number[]>()
  const setsDone: number[] = []
  const starts: number[] = []
  let next: MergePosition | null = null
  for (let i = 0; i < sets.length && next === null; i++) {
    const set = sets[i]!
    if (end !== null && set > end.set) break
    if (i === blockRowCountMax) {
      next = { set, fromNs: timeMinNs, reach }
      break
    }
    // Never a part of the rows as if it were all: the inputs would be erased.
    if (input.isCancelled()) throw new FramesError('CANCELLED', 'the merge was cancelled')
    const wanted = wantedBySignature.get(signatures[i]!)!
    let numbers = numbersOfWanted.get(wanted)
    if (numbers === undefined) {
      numbers = wanted.map(columnOf)
      numbersOfWanted.set(wanted, numbers)
    }
    const fromNs = input.position?.set === set ? input.position.fromNs : timeMinNs
    const endNs = set === end?.set ? end.timeNs : timeMaxNs
    if (!reader.open(set, wanted, fromNs, endNs)) continue
    const start = collector.rowCount
    for (let batch = reader.next(); batch !== null; batch = reader.next()) {
      const free = collector.textByteLength >= textByteLengthMax ? 0 : capacity - collector.rowCount
      const rowCount = Math.min(batch.rowCount, free)
      if (rowCount > 0) collector.append(batch, rowCount, numbers, true)
      if (rowCount < batch.rowCount) {
        next = { set, fromNs: kernels.i64[(batch.timesPtr >> 3) + rowCount]!, reach }
        break
      }
    }
    if (collector.rowCount > start) {
      setsDone.push(set)
      starts.push(start)
    }
  }
  // Too few for a block: with more sources, as much of it as one can have.
  if (next === null && end !== null)
    return { blocks: [], next: { ...(input.position ?? { set: 0, fromNs: timeMinNs }), reach: 2 * reach } }
  if (collector.rowCount === 0) return { blocks: [], next }

  rest.release(mark)
  const encoder = new PageEncoder(kernels, rest, pageRowCountMax)
  const directory = { sets: Uint32Array.from(setsDone), starts: Uint32Array.from([...starts, collector.rowCount]) }
  const rowByteLength = 8 * (columns.size + 1) + collector.textByteLength / collector.rowCount
  const writer = new RunWriter(
    encoder,
    { directory, timesPtr: collector.timesPtr },
    { columnCount: columns.size, rowByteLength, digests: { asked: input.asked } },
  )
  for (const { number, wanted } of [...columns.values()].sort((a, b) => (a.wanted.name < b.wanted.name ? -1 : 1))) {
    const { valuesPtr, validityPtr, bytesPtr } = collector.column(number)
    writer.addColumn(wanted.name, { dtype: wanted.type, valuesPtr, validityPtr, bytesPtr })
  }
  return { blocks: writer.finish(input.partitionIntervalMs), next }
}
