// The tsdb's jobs: their messages, and what a worker does with each.
import { unpack } from 'msgpackr'
import type { MergeStep, PreparedBlock, RewriteStep } from '../../blocks/merge-rule.js'
import { keptPagesOf } from '../../blocks/kept-pages.js'
import type { BlockSource } from '../../blocks/reader.js'
import { BlockIo, BlockReader } from '../../blocks/reader.js'
import { ParseCache } from '../../expression/cache.js'
import type { Expression } from '../../expression/tree.js'
import { FramesError } from '../../errors.js'
import type { ColumnHead } from '../../frame/column-head.js'
import type { PlainFrame } from '../../frame/plain.js'
import { duplicateCheckByteLength } from '../../limits.js'
import { Scratch } from '../../memory/scratch.js'
import type { Slice } from '../../memory/slice.js'
import type { JobHandler, WorkerContext } from '../../pool/context.js'
import type { FlatJob, Job, JobPlace, SentJob } from '../../pool/job.js'
import type { WorkerAccess, WorkerReader } from '../../stores/store.js'
import type { FrameInput } from '../frame-input.js'
import type { OpenFrame, RowOrder } from './append.js'
import { encodeFrameRows, frameKinds } from './append.js'
import type { DigestGrain } from './digests.js'
import { describeSets } from './describe.js'
import type { Erasure } from './erase.js'
import { erasesAny } from './erase.js'
import { refuseDuplicatesInFrame, refuseStoredDuplicates, sourcesWithin } from './duplicates.js'
import { FrameOpener } from './frame-opener.js'
import { canJoin, joinFrames, type KnownFrame } from './joined-frames.js'
import { mergeRuns } from './merge.js'
import type { MergePosition, MergeStretch } from './merge-stretch.js'
import { planOf, type ReadPlan, type ReadShape } from './plan.js'
import type { Listing } from './label-listing.js'
import { listLabels } from './label-listing.js'
import { timeColumnName } from './run-writer.js'
import { type MissingRoom, moveTable, Registration } from './registration.js'
import { scanSets } from './scan.js'
import { receiveScan, type ScanParts } from './sent-scan.js'
import { type NumberList, type ScanAnswer, type ScanPosition, shortAnswer } from './scan-input.js'
import { SeriesReader } from './series-reader.js'
import type { Selection } from './select.js'
import { labelsOf, selectSets } from './select.js'
import type { Signature, SignatureMessage } from './signature.js'
import { Signatures } from './signature.js'
import type { DuplicatePolicy } from './schema.js'

/** A table's label sets as a job sees them; the memory stays where it is until the job has ended. */
export interface LabelView {
  /** Names these label sets: number n stands for the same labels wherever the id is the same. */
  readonly id: string
  readonly tablePtr: number
  /** Sets below this number may be used. */
  readonly setCount: number
  /** Names this list of signatures; a longer list has another name. */
  readonly signaturesId: string
  /** The list as JSON text. */
  readonly signatures: Slice
}

/** What every job on a table is told. */
interface TableJob extends Job {
  readonly partition: string
  readonly tableName: string
  readonly access: WorkerAccess
  readonly labels: LabelView
}

export interface IngestJob extends Job {
  readonly kind: 'tsdb.ingest'
  /** Frames of one write, in order, one at least. */
  readonly inputs: readonly FrameInput[]
  readonly labels: LabelView
  readonly partitionIntervalMs: number
  readonly duplicates: DuplicatePolicy
  /** duplicates 'error': what is stored, to look for duplicates in. */
  readonly stored: {
    readonly sources: readonly BlockSource[]
    readonly partition: string
    readonly tableName: string
    readonly access: WorkerAccess
  } | null
  /** Metric → type bits of the request's earlier frames. */
  readonly requestKinds: readonly (readonly [metric: string, bits: number])[]
}

/** What a job has found to be new; the label sets themselves stand in the table already. */
export interface Registered {
  /** Label sets below this number may stand in its rows. */
  readonly setCount: number
  readonly signatures: readonly SignatureMessage[]
  /** Which sets need which of these signatures, beside what they have: set and index by turns, by set. */
  readonly changes: Uint32Array
}

export type IngestResult =
  /** The label table has no room for the new sets of the first frame: it must hold so much. */
  | { readonly status: 'grow'; readonly setCount: number; readonly keyByteLength: number }
  /** The label table has moved (or is stuck: somebody who died keeps others out): to be sent again with a new view. */
  | { readonly status: 'outdated'; readonly isStuck: boolean }
  /** One of the frames cannot be encoded: each is to be sent by itself, so that those before it are stored. */
  | { readonly status: 'split' }
  | {
      readonly status: 'rows'
      /** How many of the frames, from the first on, are in the blocks: those behind go into the next job. */
      readonly frameCount: number
      readonly blocks: readonly PreparedBlock[]
      /** Rows of each of these frames, as the sender counts them. */
      readonly rowCounts: readonly number[]
      readonly kinds: readonly [metric: string, bits: number][]
      /** null: nothing is new. */
      readonly registered: Registered | null
    }

export interface LoadLabelsJob extends Job {
  readonly kind: 'tsdb.loadLabels'
  readonly tablePtr: number
  readonly payload: Uint8Array
}

export type LoadLabelsResult =
  | { readonly status: 'grow'; readonly setCount: number; readonly keyByteLength: number }
  | {
      readonly status: 'loaded'
      readonly setCount: number
      readonly signatures: readonly SignatureMessage[]
      readonly changes: Uint32Array
    }

export interface CopyLabelsJob extends Job {
  readonly kind: 'tsdb.copyLabels'
  readonly fromPtr: number
  readonly toPtr: number
  readonly setCapacity: number
  readonly keyByteCapacity: number
}

export interface SelectJob extends Job {
  readonly kind: 'tsdb.select'
  readonly labels: LabelView
  readonly filter: Expression | null
  /** Labels that make groups, and the metrics that are read (null: all); groupBy null: no groups. */
  readonly groupBy: readonly string[] | null
  readonly metrics: readonly string[] | null
  /** Names that are metrics, and labels of no set, are values of rows. */
  readonly filtersRows: boolean
}

/** What all scans of a table are told whose reads have one shape: as text, which workers parse once. */
export interface ScanTerms {
  readonly partition: string
  readonly tableName: string
  readonly newestWins: boolean
  readonly format: 'wire' | 'columns'
  readonly shape: ReadShape
}

export interface ScanJob extends FlatJob {
  readonly kind: 'tsdb.scan'
  readonly parts: ScanParts
}

/** What a scan is told; see sendScan. */
export interface ScanFields {
  /** ScanTerms as JSON: objects take three times as long to travel. */
  readonly terms: string
  /** Of the plan, beside its shape. */
  readonly startMs: number
  readonly endMs: number
  readonly stepMs: number
  readonly rowCountMax: number
  /** Rows that the read looks at, as far as they may come to one worker. */
  readonly keptRowCount: number
  /** What their blocks take in the store. */
  readonly storedByteLength: number
  readonly access: WorkerAccess
  readonly labels: LabelView
  readonly sources: readonly BlockSource[]
  readonly sets: NumberList
  readonly manySetsShare: number
  /** Group i is sets[starts[i]] to before sets[starts[i + 1]]; null: each set is by itself. */
  readonly groupStarts: NumberList | null
  readonly metricListOf: Uint32Array | null
  readonly metricLists: readonly (readonly string[])[]
  readonly rowCondition: Expression | null
  /** The labels that it names. */
  readonly rowLabels: readonly string[]
  readonly position: ScanPosition | null
}

export interface DescribeJob extends Job {
  readonly kind: 'tsdb.describe'
  readonly labels: LabelView
  readonly plan: ReadPlan
  readonly sets: Uint32Array
  readonly metricListOf: Uint32Array | null
  readonly metricLists: readonly (readonly string[])[]
}

export interface ListJob extends Job {
  readonly kind: 'tsdb.list'
  readonly labels: LabelView
  readonly listing: Listing
  readonly filter: Expression | null
  readonly offset: number
  readonly limit: number
}

/** Counts the samples of blocks, and the series of the table. */
export interface CountJob extends TableJob {
  readonly kind: 'tsdb.count'
  readonly sources: readonly BlockSource[]
}

export interface MergeJob extends TableJob {
  readonly kind: 'tsdb.merge'
  /**
   * The signature of each label set when the job was made, for one that must not be outdated; null: those that stand in the table
   * when the job looks.
   */
  readonly setSignatures: Uint32Array | null
  readonly sources: readonly BlockSource[]
  /** See MergeStretch. */
  readonly end: MergeStretch['end']
  readonly position: MergePosition | null
  readonly partitionIntervalMs: number
  /** Digests that the table was created with. */
  readonly asked: DigestGrain | null
  readonly newestWins: boolean
  /** Samples that have expired; null: none. */
  readonly erasure: Erasure | null
}

/** Writes what stays of one block. */
export interface EraseJob extends Omit<MergeJob, 'kind'> {
  readonly kind: 'tsdb.erase'
  readonly erasure: Erasure
}

// ---- what a worker does ----------------------------------------------------------------------------------------------

/** Parsed signature lists of the tables this worker was last asked about. */
const signatureLists = new Map<string, Signatures>()
const signatureListCountMax = 64

/** What was asked for last: the texts come anew with each message, and comparing two takes less than hashing one. */
let newestList: { readonly id: string; readonly signatures: Signatures } | null = null

function signaturesOf(context: WorkerContext, view: LabelView): Signatures {
  if (newestList !== null && newestList.id === view.signaturesId) return newestList.signatures
  const signatures = signatureLists.get(view.signaturesId) ?? readSignatures(context, view)
  newestList = { id: view.signaturesId, signatures }
  return signatures
}

function readSignatures(context: WorkerContext, view: LabelView): Signatures {
  const { byteOffset, byteLength } = view.signatures
  // JSON text is decoded from a copy: TextDecoder does not take shared memory.
  const text = new TextDecoder().decode(context.kernels.u8.slice(byteOffset, byteOffset + byteLength))
  const signatures = Signatures.of(JSON.parse(text) as SignatureMessage[])
  signatureLists.set(view.signaturesId, signatures)
  for (const id of signatureLists.keys()) {
    if (signatureLists.size <= signatureListCountMax) break
    signatureLists.delete(id)
  }
  return signatures
}

function signatureReader(
  context: WorkerContext,
  view: LabelView,
  setSignatures: Uint32Array | null = null,
): (set: number) => Signature {
  const { list } = signaturesOf(context, view)
  const { call } = context.kernels
  return (set) => {
    const signature = list[setSignatures === null ? call.labelTableSignature(view.tablePtr, set) : setSignatures[set]!]
    // A write registered a new signature after this job was sent: the job is sent again with the longer list.
    if (signature === undefined) throw new FramesError('VIEW_OUTDATED', 'the label sets have changed')
    return signature
  }
}

function storeReader(context: WorkerContext, access: WorkerAccess): WorkerReader | null {
  return access === null ? null : context.reader(access)
}

const ingest: JobHandler<IngestJob, IngestResult> = (job, context) => {
  const { kernels } = context
  const output = new Scratch(job.scratch)
  const work = output.back()
  const registration = new Registration(kernels, job.labels, signaturesOf(context, job.labels), job.requestKinds)
  const { frames, rowCounts, missing } = takeFrames(job, context, work, registration)
  const frameCount = rowCounts.length
  if (typeof missing === 'string') return { status: 'outdated', isStuck: missing === 'stuck' }
  if (frameCount === 0) return { status: 'grow', ...missing! }
  const registered = registration.found()
  if (frames.length === 0) return { status: 'rows', frameCount, blocks: [], rowCounts, kinds: [], registered }
  const { frame, setNumbersPtr } = joinFrames(kernels, work, frames)
  const signatureAt = signatureReader(context, job.labels)
  try {
    const blocks = encodeFrameRows(kernels, output, work, frame, setNumbersPtr, {
      partitionIntervalMs: job.partitionIntervalMs,
      newestWins: job.duplicates !== 'first',
      check: job.stored === null ? null : duplicateCheck(job, context, work, frame, signatureAt),
      isCancelled: () => context.isCancelled(job),
    })
    return { status: 'rows', frameCount, blocks, rowCounts, kinds: frameKinds(frame), registered }
  } catch (error) {
    if (frames.length > 1 && error instanceof FramesError && error.code !== 'CANCELLED') return { status: 'split' }
    throw error
  }
}

interface TakenFrames {
  readonly frames: readonly KnownFrame[]
  /** Rows of each of the inputs that they stand in, with those that have none. */
  readonly rowCounts: readonly number[]
  /** Why there is none. */
  readonly missing: MissingRoom | null
}

/**
 * Opens as many frames from the first on as can be encoded together, and puts their label sets into the table. A frame with
 * an error ends that: it comes again as the first of a job, and fails then. Throws for an error of the first frame.
 */
function takeFrames(
  job: SentJob<IngestJob>,
  context: WorkerContext,
  work: Scratch,
  registration: Registration,
): TakenFrames {
  const frames: KnownFrame[] = []
  const rowCounts: number[] = []
  const opener = new FrameOpener(context.kernels, work)
  for (const input of job.inputs) {
    if (context.isCancelled(job)) throw new FramesError('CANCELLED', 'the write was cancelled')
    try {
      const frame = opener.open(input)
      if (frame !== null) {
        const setNumbersPtr = work.allocate(4 * frame.grouping.groupCount)
        const known = { frame, setNumbersPtr }
        if (frames.length > 0 && !canJoin(frames, known)) break
        const missing = registration.register(frame, setNumbersPtr)
        if (missing !== null) return { frames, rowCounts, missing }
        frames.push(known)
      }
      rowCounts.push(frame?.sentRowCount ?? 0)
    } catch (error) {
      if (rowCounts.length > 0 && error instanceof FramesError) break
      throw error
    }
  }
  return { frames, rowCounts, missing: null }
}

/** For tables that refuse duplicates. The reader's memory is given back with the check. */
function duplicateCheck(
  job: SentJob<IngestJob>,
  context: WorkerContext,
  work: Scratch,
  frame: OpenFrame,
  signatureOf: (set: number) => Signature,
): (order: RowOrder, sortedTimesPtr: number) => void {
  const { kernels } = context
  return (order, sortedTimesPtr) => {
    refuseDuplicatesInFrame(kernels, frame, order)
    const { partition, tableName, access } = job.stored!
    const sources = sourcesWithin(kernels, job.stored!.sources, order, sortedTimesPtr)
    if (sources.length === 0) return
    const mark = work.mark()
    const [cache, temporary] = new Scratch({
      byteOffset: work.allocate(duplicateCheckByteLength),
      byteLength: duplicateCheckByteLength,
    }).split([0.6, 0.4]) as [Scratch, Scratch]
    const io = new BlockIo(kernels, cache, storeReader(context, access), partition, tableName)
    refuseStoredDuplicates(
      kernels,
      frame,
      order,
      sortedTimesPtr,
      new SeriesReader(io, temporary, sources, true),
      signatureOf,
    )
    work.release(mark)
  }
}

/** New label sets of one stored value. */
/** A stored value of label sets: the first one's number, keys, signatures that are new, and which set has which. */
export type SetsPayload = [
  first: number,
  keyOffsets: readonly number[],
  keys: Uint8Array,
  signatures: readonly SignatureMessage[],
  changes: readonly number[],
]

const loadLabels: JobHandler<LoadLabelsJob, LoadLabelsResult> = (job, { kernels }) => {
  const { call, u8, u32 } = kernels
  const work = new Scratch(job.scratch)
  const [, keyOffsets, keys, signatures, changes] = unpack(job.payload) as SetsPayload
  const { tablePtr } = job
  const count = keyOffsets.length - 1
  if (count > 0) {
    const offsetsPtr = work.allocate(4 * (count + 1))
    const keysPtr = work.allocate(keys.length)
    const setsPtr = work.allocate(4 * count)
    u32.set(keyOffsets, offsetsPtr >> 2)
    u8.set(keys, keysPtr)
    if (call.labelTableInsert(tablePtr, offsetsPtr, keysPtr, count, setsPtr) < 0) {
      return {
        status: 'grow',
        setCount: call.labelTableCount(tablePtr) + count,
        keyByteLength: call.labelTableKeyBytesUsed(tablePtr) + keys.length,
      }
    }
  }
  const setCount = call.labelTableCount(tablePtr)
  if (changes.some((set, i) => i % 2 === 0 && set >= setCount))
    throw new FramesError('DATA_DAMAGED', `An entry of label sets changes one that is none of the first ${setCount}`)
  return { status: 'loaded', setCount, signatures, changes: Uint32Array.from(changes) }
}

const copyLabels: JobHandler<CopyLabelsJob, null> = (job, { kernels }) => {
  kernels.call.initLabelTable(job.toPtr, job.setCapacity, job.keyByteCapacity)
  if (!moveTable(kernels, job.fromPtr, job.toPtr)) throw new RangeError('the label table cannot be moved')
  return null
}

const select: JobHandler<SelectJob, Selection> = (job, context) =>
  selectSets(context.kernels, new Scratch(job.scratch), {
    ...job,
    tablePtr: job.labels.tablePtr,
    setCount: job.labels.setCount,
    signatureOf: signatureReader(context, job.labels),
    isCancelled: () => context.isCancelled(job),
  })

/** How the pages of a scan are kept: one over much data would push out all that others come back for. */
function keptFormOf(
  { shape }: ScanTerms,
  { sets, keptRowCount, storedByteLength }: ScanFields,
  { kept }: JobPlace,
  signatureAt: (set: number) => Signature,
): 'decoded' | 'stored' | 'none' {
  const first = sets[0]
  if (first === undefined) return 'none'
  const columnCount = shape.items.some(({ metric }) => metric === null) ? signatureAt(first).size : shape.items.length
  if (8 * keptRowCount * (columnCount + 1) <= kept.byteLength / 2) return 'decoded'
  return storedByteLength <= kept.byteLength / 4 ? 'stored' : 'none'
}

const scanTerms = new ParseCache((text) => JSON.parse(text) as ScanTerms)

const scan: JobHandler<ScanJob, ScanAnswer> = (job, context) => {
  const { kernels } = context
  const told = receiveScan(job.parts)
  const terms = scanTerms.get(told.terms)
  const { partition, tableName, newestWins, format, shape } = terms
  const { labels, sets, manySetsShare, groupStarts, metricListOf, metricLists, rowCondition, rowLabels } = told
  const { rowCountMax, position } = told
  const signatureAt = signatureReader(context, labels)
  const metricSets = metricLists.map((list) => new Set(list))
  const kept = keptPagesOf(context, job)
  const keptForm = keptFormOf(terms, told, job, signatureAt)
  const parts = { store: storeReader(context, told.access), kept, keptForm } as const
  // Not spread: V8 would look up its fields anew each time.
  const result = scanSets(kernels, new Scratch(job.scratch), parts, {
    partition,
    tableName,
    newestWins,
    plan: planOf(shape, told.startMs, told.endMs, told.stepMs),
    rowLabels,
    rowCountMax,
    format,
    groupStarts,
    rowCondition,
    position,
    sources: told.sources,
    sets,
    setCount: sets.length,
    manySetsShare,
    labelsId: labels.id,
    setAt: (index) => ({ set: sets[index]!, signature: signatureAt(sets[index]!) }),
    signatureOf: signatureAt,
    labelsOf: (set) => labelsOf(kernels, labels.tablePtr, set),
    metricsAt: (index) => (metricListOf === null ? null : metricSets[metricListOf[index]!]!),
    isCancelled: () => context.isCancelled(job),
  })
  return shortAnswer(result)
}

const describe: JobHandler<DescribeJob, ColumnHead[]> = (job, context) => {
  const { plan, sets, metricListOf, metricLists } = job
  const signatureAt = signatureReader(context, job.labels)
  const metricSets = metricLists.map((list) => new Set(list))
  return describeSets({
    plan,
    setCount: sets.length,
    setAt: (index) => ({ set: sets[index]!, signature: signatureAt(sets[index]!) }),
    labelsOf: (set) => labelsOf(context.kernels, job.labels.tablePtr, set),
    metricsAt: (index) => (metricListOf === null ? null : metricSets[metricListOf[index]!]!),
  })
}

const list: JobHandler<ListJob, PlainFrame> = (job, context) =>
  listLabels(context.kernels, new Scratch(job.scratch), {
    ...job,
    tablePtr: job.labels.tablePtr,
    setCount: job.labels.setCount,
    signatureOf: signatureReader(context, job.labels),
    isCancelled: () => context.isCancelled(job),
  })

const count: JobHandler<CountJob, { sampleCount: number; seriesCount: number }> = (job, context) => {
  const { kernels } = context
  const scratch = new Scratch(job.scratch)
  const mark = scratch.mark()
  let sampleCount = 0
  for (const source of job.sources) {
    if (context.isCancelled(job)) break
    const io = new BlockIo(kernels, scratch, storeReader(context, job.access), job.partition, job.tableName)
    const reader = new BlockReader(io, source)
    for (const column of reader.layout.columns) {
      if (column.name === timeColumnName && column.dtype === 'time') continue
      for (const presentCount of reader.table(column).presentCounts) sampleCount += presentCount
    }
    scratch.release(mark)
  }
  const signatureAt = signatureReader(context, job.labels)
  let seriesCount = 0
  for (let set = 0; set < job.labels.setCount; set++) seriesCount += signatureAt(set).size
  return { sampleCount, seriesCount }
}

const merge: JobHandler<MergeJob, MergeStep> = (job, context) =>
  mergeRuns(context.kernels, new Scratch(job.scratch), storeReader(context, job.access), {
    ...job,
    signatureOf: signatureReader(context, job.labels, job.setSignatures),
    isCancelled: () => context.isCancelled(job),
  })

const erase: JobHandler<EraseJob, RewriteStep> = (job, context) => {
  const { kernels } = context
  const { erasure, sources, partition, tableName, newestWins } = job
  const store = storeReader(context, job.access)
  const signatureOf = signatureReader(context, job.labels, job.setSignatures)
  if (job.position === null) {
    const [cache, temporary] = new Scratch(job.scratch).split([0.65, 0.35]) as [Scratch, Scratch]
    const io = new BlockIo(kernels, cache, store, partition, tableName)
    const reader = new SeriesReader(io, temporary, sources, newestWins)
    if (!erasesAny(reader, kernels, erasure, signatureOf)) return { blocks: [], next: null, isUnchanged: true }
  }
  const isCancelled = (): boolean => context.isCancelled(job)
  const step = mergeRuns(kernels, new Scratch(job.scratch), store, { ...job, signatureOf, isCancelled, erasure })
  return { ...step, isUnchanged: false }
}

export const tsdbHandlers = {
  'tsdb.ingest': ingest,
  'tsdb.loadLabels': loadLabels,
  'tsdb.copyLabels': copyLabels,
  'tsdb.select': select,
  'tsdb.scan': scan,
  'tsdb.describe': describe,
  'tsdb.merge': merge,
  'tsdb.erase': erase,
  'tsdb.list': list,
  'tsdb.count': count,
}
