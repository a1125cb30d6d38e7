// Reads label sets, in a worker, into finished messages.
import type { KeptPages } from '../../blocks/kept-pages.js'
import { BlockIo } from '../../blocks/reader.js'
import type { Kernels } from '../../kernels/kernels.js'
import type { Scratch } from '../../memory/scratch.js'
import { readJobByteLength } from '../../limits.js'
import type { WorkerReader } from '../../stores/store.js'
import { toNs } from './bounds.js'
import { DigestedUnits, takesDigestedUnits } from './digested-units.js'
import { manySetsJobByteLength, scanScratchByteLength } from './many-sets.js'
import { MessageSink } from './message-sink.js'
import { scanOrdered } from './ordered-scan.js'
import { FilteredReader } from './row-filter.js'
import type { ScanInput, ScanPosition, ScanResult } from './scan-input.js'
import { SeriesReader } from './series-reader.js'
import { cancelled, Units } from './units.js'

/** kept: what the worker keeps between jobs; keptForm: also pages of samples, and how. */
export function scanSets(
  kernels: Kernels,
  scratch: Scratch,
  { store, kept, keptForm }: { store: WorkerReader | null; kept: KeptPages | null; keptForm: BlockIo['keptForm'] },
  input: ScanInput,
): ScanResult {
  const takesDigested = takesDigestedUnits(input)
  const parts = scratch.split(scratchShares(takesDigested, input.manySetsShare))
  const [output, collected, states, cacheScratch, temporary, ofDigested] = parts as [
    Scratch,
    Scratch,
    Scratch,
    Scratch,
    Scratch,
    Scratch,
  ]
  const io = new BlockIo(kernels, cacheScratch, store, input.partition, input.tableName, kept, keptForm)
  const { rowCondition: condition, plan } = input
  // Pages go into messages as they are, where nobody else looks at their cells, nor wants them again.
  const passesPages =
    input.format === 'wire' &&
    plan.mode === 'raw' &&
    plan.order === null &&
    condition === null &&
    keptForm !== 'decoded'
  const samples = new SeriesReader(io, temporary, input.sources, input.newestWins, passesPages)
  const reader = condition === null ? samples : new FilteredReader(samples, kernels, temporary, { ...input, condition })
  const jobByteLength = takesDigested && input.manySetsShare > 0 ? manySetsJobByteLength : readJobByteLength
  const sink = new MessageSink(kernels, output, collected, temporary, input, jobByteLength)
  const units = new Units(kernels, reader, { states, temporary }, input)
  if (plan.order !== null) {
    return scanOrdered(kernels, units, sink, { collected, temporary }, input)
  }
  const startNs = toNs(plan.startMs)
  const endNs = toNs(plan.endMs + 1)
  const goOn = (index: number): ScanPosition | null =>
    index < units.count ? { index, fromNs: startNs, carry: [], ordered: null } : null
  const digested = !takesDigested || samples.hasDamage ? null : new DigestedUnits(samples, ofDigested, units, input)
  for (let index = input.position?.index ?? 0; index < units.count; index++) {
    if (input.isCancelled()) throw cancelled()
    // Of the unit where the job before stopped some rows may have been sent.
    if (digested !== null && (index !== input.position?.index || input.position.fromNs === startNs)) {
      const sent = digested.send(index, sink)
      if (sent.rest !== null || sink.isLarge) return sink.result(sent.rest ?? goOn(sent.index))
      index = sent.index
      if (index === units.count) break
    }
    const unit = units.at(index)
    if (unit === null) continue
    const from = index === input.position?.index ? input.position : null
    if (!unit.open({ fromNs: from?.fromNs ?? startNs, toNs: endNs, carry: from?.carry ?? [] })) continue
    sink.begin(index, unit.first, unit.wanted)
    const next = unit.send(sink)
    sink.end()
    if (next !== null) return sink.result(next)
    // At the row limit the scan goes on to the next row, if there is one: only then there is a place to go on from.
    if (sink.isLarge && !sink.isAtRowLimit) return sink.result(goOn(index + 1))
  }
  return sink.result(null)
}

/** Of a job's scratch: messages, rows collected, states, what is read, what is soon let go, and many sets together. */
function scratchShares(takesDigested: boolean, manySetsShare: number): number[] {
  if (!takesDigested) return [0.25, 0.2, 0.08, 0.35, 0.12, 0]
  if (manySetsShare === 0) return [0.25, 0.2, 0.08, 0.25, 0.12, 0.1]
  const rest = 1 - manySetsShare
  const messages = (rest * manySetsJobByteLength) / scanScratchByteLength
  return [0.25 * rest + messages, 0.2 * rest, 0.08 * rest, 0.35 * rest, 0.12 * rest, manySetsShare - messages]
}
