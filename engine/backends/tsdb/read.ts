// A read at work, main-thread half: label sets are shared out to jobs, and their messages leave in order.
import type { LiveBlock } from '../../blocks/live-block.js'
import { appendMarker } from '../../codec/labels.js'
import { FramesError } from '../../errors.js'
import type { ColumnHead } from '../../frame/column-head.js'
import { takeBytes } from '../../memory/copy.js'
import type { JobResult } from '../../pool/pool.js'
import type { BackendParts, ReadMessage } from '../backend.js'
import { decodeExtent } from './directory.js'
import type { DescribeJob, LabelView, ScanAnswer, ScanJob } from './jobs.js'
import { encodeMarker, type Marker, parseMarker } from './marker.js'
import { lookbackMs, type ReadPlan } from './plan.js'
import type { ScanPosition, ScanResult } from './scan-input.js'
import type { Selection } from './select.js'
import type { OpenTable } from './tsdb.js'

export interface ReadOptions {
  readonly plan: ReadPlan
  /** 0: all. */
  readonly limit: bigint
  readonly marker: string
  /** What must be the same for a marker to fit. */
  readonly markerOf: string
  readonly select: () => Promise<Selection>
  /** The plan with its bounds moved to the partitions of these blocks; null: there are none. */
  readonly clamp: (blocks: readonly LiveBlock[]) => ReadPlan | null
  readonly format: 'wire' | 'columns'
  /** Whether the first message tells the columns of all others. */
  readonly describe: boolean
  readonly signal: AbortSignal | null
}

const scanScratchByteLength = 16 * 1024 * 1024
/** A read of more rows than this is shared out to several workers. */
const parallelRowCountMin = 50_000
const rowCountNone = 2 ** 52
const viewRetryCountMax = 100

export async function* readSets(
  parts: BackendParts,
  table: OpenTable,
  options: ReadOptions,
): AsyncGenerator<ReadMessage> {
  const snapshot = table.blocks.acquire()
  try {
    const marker = options.marker === '' ? null : parseMarker(options.marker, options.markerOf)
    if (marker !== null && options.plan.order !== null)
      throw new FramesError('INVALID_ARGUMENT', 'a read with ORDER BY time is whole and cannot go on from a marker')
    const clamped = options.clamp(snapshot.blocks)
    if (clamped === null) return
    const plan =
      marker === null ? clamped : { ...clamped, startMs: marker.startMs, endMs: marker.endMs, stepMs: marker.stepMs }
    const readStartMs = plan.startMs - lookbackMs(plan)
    const blocks = snapshot.blocks.filter(({ extent }) => {
      if (extent === null) return true
      const { timeMinMs, timeMaxMs } = decodeExtent(extent)
      return timeMinMs <= plan.endMs && timeMaxMs >= readStartMs
    })
    if (blocks.length === 0) return
    const selection = await options.select()
    if (selection.sets.length === 0) return
    const wanted = blocksOfSets(blocks, selection.sets)
    const sources = await table.blocks.sources(wanted)
    const rowCount = wanted.reduce((sum, block) => sum + block.rowCount, 0)
    const limit = options.limit > 0n ? Number(options.limit) : rowCountNone
    const common = {
      kind: 'tsdb.scan' as const,
      partition: table.blocks.partition,
      tableName: table.blocks.name,
      access: parts.store.workerAccess,
      sources,
      plan,
      metricLists: selection.metricLists,
      rowCondition: selection.rowCondition,
      newestWins: table.schema.duplicates !== 'first',
      format: options.format,
    }
    if (options.describe)
      yield {
        rowCount: 0,
        bytes: null,
        frame: null,
        columns: await columnsOf(parts, table, plan, selection, options.signal),
      }
    const first = marker === null ? 0 : marker.index(selection)
    const ranges =
      limit === rowCountNone && marker === null && rowCount >= parallelRowCountMin
        ? parts.pool.statistics().workerCount
        : 1
    const { groupStarts } = selection
    const unitCount = groupStarts === null ? selection.sets.length : groupStarts.length - 1
    const chains = shareOut(first, unitCount, Math.max(1, ranges)).map(({ start, end }) => {
      const position =
        marker !== null && first === start
          ? { index: 0, fromNs: marker.fromNs, carry: marker.carry, ordered: null }
          : null
      // A group is read by one job.
      const firstSet = groupStarts === null ? start : groupStarts[start]!
      const endSet = groupStarts === null ? end : groupStarts[end]!
      return new ScanChain(parts, table, options.signal, {
        ...common,
        sets: selection.sets.slice(firstSet, endSet),
        groupStarts: groupStarts?.slice(start, end + 1).map((place) => place - firstSet) ?? null,
        metricListOf: selection.metricListOf?.slice(firstSet, endSet) ?? null,
        position,
        rowCountMax: limit,
      })
    })
    try {
      for (const chain of chains) yield* messagesOf(chain, { plan, selection, first, options })
    } finally {
      await Promise.all(chains.map((chain) => chain.close()))
    }
  } finally {
    snapshot.release()
  }
}

/** Few label sets are looked up one by one; for many, nearly every block has some. */
const pruneSetCountMax = 16

/** Blocks that may hold one of the sets. */
function blocksOfSets(blocks: readonly LiveBlock[], sets: Uint32Array): readonly LiveBlock[] {
  if (sets.length > pruneSetCountMax) return blocks
  return blocks.filter(({ extent }) => {
    if (extent === null) return true
    const { setMin, setMax } = decodeExtent(extent)
    return sets.some((set) => setMin <= set && set <= setMax)
  })
}

async function columnsOf(
  parts: BackendParts,
  table: OpenTable,
  plan: ReadPlan,
  { sets, metricListOf, metricLists }: Selection,
  signal: AbortSignal | null,
): Promise<ColumnHead[]> {
  const done = await withLabels(table, (labels) => {
    const job: DescribeJob = { kind: 'tsdb.describe', labels, plan, sets, metricListOf, metricLists }
    return parts.pool.runToEnd<ColumnHead[]>(job, { scratchByteLength: 0, ...(signal === null ? {} : { signal }) })
  })
  done.release()
  return done.result
}

/** Runs a job with the label sets as they are now, and again when it asks for newer ones. */
export async function withLabels<T>(table: OpenTable, run: (labels: LabelView) => Promise<T>): Promise<T> {
  for (let tries = 0; ; tries++) {
    const handle = table.labels.acquire()
    try {
      return await run(handle.view)
    } catch (error) {
      const isOutdated = error instanceof FramesError && error.code === 'VIEW_OUTDATED'
      if (!isOutdated || tries >= viewRetryCountMax) throw error
    } finally {
      handle.release()
    }
  }
}

/** [start, end) of `count` parts of nearly equal size; fewer when there are fewer sets. */
function shareOut(first: number, end: number, count: number): { start: number; end: number }[] {
  const parts = Math.max(1, Math.min(count, end - first))
  return Array.from({ length: parts }, (_, i) => ({
    start: first + Math.floor(((end - first) * i) / parts),
    end: first + Math.floor(((end - first) * (i + 1)) / parts),
  }))
}

async function* messagesOf(
  chain: ScanChain,
  { plan, selection, first, options }: { plan: ReadPlan; selection: Selection; first: number; options: ReadOptions },
): AsyncGenerator<ReadMessage> {
  for (let step = await chain.next(); step !== null; step = await chain.next()) {
    const { job, isLast } = step
    try {
      const { messages, next } = job
      if (job.batch !== null) {
        const batch = [...job.batch.messages]
        if (isLast && next !== null && batch.length > 0) {
          const marker = encodeMarker(markerAt(next, plan, selection, first), options.markerOf)
          batch.push(appendMarker(batch.pop()!, marker))
        }
        if (batch.length > 0) yield { rowCount: job.batch.rowCount, bytes: null, frame: null, batch }
        continue
      }
      for (let i = 0; i < messages.length; i++) {
        const { rowCount, frame } = messages[i]!
        let labelled = frame
        if (isLast && i === messages.length - 1 && next !== null) {
          const marker = encodeMarker(markerAt(next, plan, selection, first), options.markerOf)
          if (labelled !== null)
            labelled = { ...labelled, labels: [...labelled.labels, { name: 'next_marker', value: marker }] }
        }
        yield { rowCount, bytes: null, frame: labelled }
      }
    } finally {
      job.release()
    }
  }
}

function markerAt(
  next: ScanPosition,
  plan: ReadPlan,
  selection: Selection,
  first: number,
): Omit<Marker, 'index'> & { set: number } {
  const { startMs, endMs, stepMs } = plan
  const { sets, groupStarts } = selection
  const unit = first + next.index
  return {
    set: sets[groupStarts === null ? unit : groupStarts[unit]!]!,
    fromNs: next.fromNs,
    carry: next.carry,
    startMs,
    endMs,
    stepMs,
  }
}

/** What a job has made; its columns are valid until it is released. */
interface ScanStep extends Pick<ScanResult, 'next'> {
  /** Columns. */
  readonly messages: readonly ReadMessage[]
  /** Encoded messages; null where columns are wanted. */
  readonly batch: { readonly rowCount: number; readonly messages: readonly Uint8Array[] } | null
  release(): void
}

/**
 * Finished bytes are copied out as soon as their job has ended, and its scratch is free: a few readers that stop reading
 * would hold all memory of the arenas otherwise, and nobody else could read.
 */
function stepOf(parts: BackendParts, job: JobResult<ScanAnswer>): ScanStep {
  const { next, wire } = job.result
  if (wire === null) {
    const messages = job.result.messages.map(({ rowCount, frame }): ReadMessage => ({ rowCount, bytes: null, frame }))
    return { messages, batch: null, next, release: () => job.release() }
  }
  const messages: Uint8Array[] = []
  let rowCount = 0
  if (wire.length > 0) {
    // They stand one behind the other: one piece of memory for all, and one copy.
    const start = wire[1]!
    const byteLength = wire[wire.length - 2]! + wire[wire.length - 1]! - start
    const bytes = takeBytes(parts.kernels.u8, { byteOffset: start, byteLength })
    for (let i = 0; i < wire.length; i += 3) {
      rowCount += wire[i]!
      const from = wire[i + 1]! - start
      messages.push(bytes.subarray(from, from + wire[i + 2]!))
    }
  }
  job.release()
  return { messages: [], batch: { rowCount, messages }, next, release: () => undefined }
}

/** One job after another over a range of label sets; the next one runs while the messages of the last leave. */
class ScanChain {
  #next: Promise<ScanStep> | null
  #rowCountLeft: number

  constructor(
    readonly parts: BackendParts,
    readonly table: OpenTable,
    readonly signal: AbortSignal | null,
    readonly job: Omit<ScanJob, 'labels'>,
  ) {
    this.#rowCountLeft = job.rowCountMax
    this.#next = this.#start(job.position)
  }

  #start(position: ScanPosition | null): Promise<ScanStep> {
    const started = this.#run(position)
    // Looked at when its turn comes; a failure must not count as unhandled before.
    started.catch(() => undefined)
    return started
  }

  async #run(position: ScanPosition | null): Promise<ScanStep> {
    const done = await withLabels(this.table, (labels) => {
      const job: ScanJob = { ...this.job, position, rowCountMax: this.#rowCountLeft, labels }
      return this.parts.pool.runToEnd<ScanAnswer>(job, {
        scratchByteLength: scanScratchByteLength,
        ...(this.signal === null ? {} : { signal: this.signal }),
      })
    })
    return stepOf(this.parts, done)
  }

  /** The next result; its scratch is the caller's. `isLast`: the row limit ends the read here. */
  async next(): Promise<{ job: ScanStep; isLast: boolean } | null> {
    if (this.#next === null) return null
    const job = await this.#next
    const { messages, batch, next } = job
    this.#rowCountLeft -= batch?.rowCount ?? 0
    for (const { rowCount } of messages) this.#rowCountLeft -= rowCount
    const isLast = this.#rowCountLeft <= 0
    this.#next = next === null || isLast ? null : this.#start(next)
    return { job, isLast }
  }

  /** Gives back what was started and not taken. */
  async close(): Promise<void> {
    const pending = this.#next
    this.#next = null
    const job = await pending?.catch(() => null)
    job?.release()
  }
}
