// Reads label sets, in a worker, into finished messages: raw samples, or functions of them.
import { BlockIo } from '../../blocks/reader.js'
import { FramesError } from '../../errors.js'
import type { Kernels } from '../../kernels/kernels.js'
import type { Scratch } from '../../memory/scratch.js'
import type { WorkerReader } from '../../stores/store.js'
import { Aggregation } from './aggregation.js'
import { toNs } from './bounds.js'
import { MessageSink } from './message-sink.js'
import type { Pool, WantedColumns } from './pools.js'
import { Pools, wantedMetrics } from './pools.js'
import type { ScanInput, ScanPosition, ScanResult } from './scan-input.js'
import { SeriesReader } from './series-reader.js'
import type { ReadPlan } from './plan.js'
import type { Signature } from './signature.js'

export function scanSets(kernels: Kernels, scratch: Scratch, store: WorkerReader | null, input: ScanInput): ScanResult {
  const parts = scratch.split([0.25, 0.2, 0.08, 0.35, 0.12])
  const [output, collected, states, cacheScratch, temporary] = parts as [Scratch, Scratch, Scratch, Scratch, Scratch]
  const io = new BlockIo(kernels, cacheScratch, store, input.partition, input.tableName)
  const reader = new SeriesReader(io, temporary, input.sources, input.newestWins)
  const sink = new MessageSink(kernels, output, collected, temporary, input)
  const { plan } = input
  if (isPooled(plan)) return scanPooled(kernels, reader, sink, { states, temporary }, input)
  const wantedBySignature = new Map<Signature, WantedColumns | null>()
  let aggregation = null as Aggregation | null
  const statesMark = states.mark()
  for (let index = input.position?.index ?? 0; index < input.setCount; index++) {
    if (input.isCancelled()) throw cancelled()
    const entry = input.setAt(index)
    const allowed = input.metricsAt(index)
    // Most label sets have the same metrics; a filter on metrics makes a list of its own.
    let wanted = allowed === null ? wantedBySignature.get(entry.signature) : undefined
    if (wanted === undefined) {
      wanted = wantedMetrics(plan, entry.signature, allowed)
      if (allowed === null) wantedBySignature.set(entry.signature, wanted)
    }
    if (wanted === null) continue
    const from = index === input.position?.index ? input.position : null
    const endNs = toNs(plan.endMs + 1)
    const startNs = from?.fromNs ?? toNs(plan.startMs)
    if (!reader.open(entry.set, wanted.metrics, startNs, endNs)) continue
    sink.begin(index, entry, wanted)
    let next: ScanPosition | null
    if (plan.mode === 'raw') next = sendRaw(reader, sink)
    else {
      if (aggregation?.wanted !== wanted) {
        states.release(statesMark)
        aggregation = new Aggregation(kernels, states, temporary, plan, wanted)
      }
      aggregation.begin(from?.carry ?? [], 1)
      next = sendOverTime(reader, sink, aggregation)
    }
    sink.end()
    if (next !== null) return { messages: sink.messages, next }
    // At the row limit the scan goes on to the next row, if there is one: only then there is a place to go on from.
    if (sink.isLarge && !sink.isAtRowLimit)
      return {
        messages: sink.messages,
        next: index + 1 < input.setCount ? { index: index + 1, fromNs: toNs(plan.startMs), carry: [] } : null,
      }
  }
  return { messages: sink.messages, next: null }
}

function cancelled(): FramesError {
  return new FramesError('CANCELLED', 'the read was cancelled')
}

/** Whether each set is read again for each chunk of buckets: groups, buckets that look back, and step points. */
function isPooled({ mode, groupBy, windowMs, items }: ReadPlan): boolean {
  if (mode === 'raw') return false
  return groupBy !== null || windowMs > 0 || mode !== 'over-time' || items.some(({ fn }) => fn === null)
}

function scanPooled(
  kernels: Kernels,
  reader: SeriesReader,
  sink: MessageSink,
  scratch: { readonly states: Scratch; readonly temporary: Scratch },
  input: ScanInput,
): ScanResult {
  const { plan, groupStarts, position, isCancelled } = input
  const pools = new Pools(plan, input)
  const mark = scratch.states.mark()
  let aggregation = null as Aggregation | null
  const unitCount = groupStarts === null ? input.setCount : groupStarts.length - 1
  for (let index = position?.index ?? 0; index < unitCount; index++) {
    if (isCancelled()) throw cancelled()
    const start = groupStarts === null ? index : groupStarts[index]!
    const end = groupStarts === null ? index + 1 : groupStarts[index + 1]!
    const pool = pools.of(start, end)
    if (pool === null) continue
    const from = index === position?.index ? position : null
    sink.begin(index, pool.first, pool.wanted)
    if (aggregation?.wanted !== pool.wanted) {
      scratch.states.release(mark)
      aggregation = new Aggregation(kernels, scratch.states, scratch.temporary, plan, pool.wanted)
    }
    aggregation.begin(from?.carry ?? [], pool.setCount)
    const next = sendPooled(reader, sink, aggregation, { pool, from, isCancelled })
    sink.end()
    if (next !== null) return { messages: sink.messages, next }
    if (sink.isLarge && !sink.isAtRowLimit)
      return {
        messages: sink.messages,
        next: index + 1 < unitCount ? { index: index + 1, fromNs: toNs(plan.startMs), carry: [] } : null,
      }
  }
  return { messages: sink.messages, next: null }
}

function sendRaw(reader: SeriesReader, sink: MessageSink): ScanPosition | null {
  for (let batch = reader.next(); batch !== null; batch = reader.next()) {
    const rest = sink.push(batch)
    if (rest !== null) return rest
  }
  return null
}

/** Buckets are filled chunk by chunk, so that a small step over a long time costs only the buckets that have samples. */
function sendOverTime(reader: SeriesReader, sink: MessageSink, aggregation: Aggregation): ScanPosition | null {
  for (let batch = reader.next(); batch !== null; batch = reader.next()) {
    for (let row = 0; row < batch.rowCount; ) {
      row = aggregation.add(batch, row)
      const rest = row < batch.rowCount ? aggregation.flush(sink) : null
      if (rest !== null) return rest
    }
  }
  return aggregation.flush(sink)
}

/** Chunk by chunk of buckets, all sets of a pool; where no set has rows, chunks are passed over. */
function sendPooled(
  reader: SeriesReader,
  sink: MessageSink,
  aggregation: Aggregation,
  { pool, from, isCancelled }: { pool: Pool; from: ScanPosition | null; isCancelled: () => boolean },
): ScanPosition | null {
  let bucket = from === null ? 0 : aggregation.bucketAt(from.fromNs)
  while (bucket < aggregation.bucketCount) {
    const { startNs, endNs } = aggregation.beginChunk(bucket)
    for (let index = 0; index < pool.setCount; index++) {
      if (isCancelled()) throw cancelled()
      const member = pool.memberAt(index)
      if (member === null) continue
      if (aggregation.takesSamples && reader.open(member.set, member.metrics, startNs, endNs)) {
        aggregation.beginMember()
        let batch = reader.next()
        while (batch !== null && aggregation.addOfMember(member, batch)) batch = reader.next()
        aggregation.endMember(member)
      }
      aggregation.addSteps(reader, member, index)
    }
    const rest = aggregation.flush(sink)
    if (rest !== null) return rest
    bucket = aggregation.nextBucket(bucket)
  }
  return null
}
