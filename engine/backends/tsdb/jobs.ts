// The tsdb's jobs: their messages, and what a worker does with each.
import { unpack, pack } from 'msgpackr'
import type { MergeStep, PreparedBlock } from '../../blocks/merge-rule.js'
import type { BlockSource } from '../../blocks/reader.js'
import { BlockIo, BlockReader } from '../../blocks/reader.js'
import type { Expression } from '../../expression/tree.js'
import { FramesError } from '../../errors.js'
import type { ColumnHead } from '../../frame/column-head.js'
import type { PlainFrame } from '../../frame/plain.js'
import { duplicateCheckByteLength, tableColumnCountMax } from '../../limits.js'
import { Scratch } from '../../memory/scratch.js'
import type { Slice } from '../../memory/slice.js'
import type { JobHandler, WorkerContext } from '../../pool/context.js'
import type { Job, SentJob } from '../../pool/job.js'
import type { WorkerAccess, WorkerReader } from '../../stores/store.js'
import type { FrameInput, OpenFrame, RowOrder } from './append.js'
import { checkTypes, encodeFrameRows, frameKinds, knownSets, openFrame, setNumberOf } from './append.js'
import { describeSets } from './describe.js'
import { refuseDuplicatesInFrame, refuseStoredDuplicates } from './duplicates.js'
import type { MergePosition } from './merge.js'
import { mergeRuns } from './merge.js'
import type { ReadPlan } from './plan.js'
import type { Listing } from './label-listing.js'
import { listLabels } from './label-listing.js'
import { timeColumnName } from './run-writer.js'
import { scanSets } from './scan.js'
import type { ScanPosition, ScanResult } from './scan-input.js'
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
  readonly input: FrameInput
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

export type IngestResult =
  | { readonly status: 'empty' }
  /** A label set, a metric or a type is new: it must be registered first. */
  | { readonly status: 'unregistered' }
  | {
      readonly status: 'rows'
      readonly blocks: readonly PreparedBlock[]
      readonly rowCount: number
      readonly kinds: readonly [metric: string, bits: number][]
    }

export interface RegisterJob extends Job {
  readonly kind: 'tsdb.register'
  readonly input: FrameInput
  readonly labels: LabelView
  readonly requestKinds: readonly (readonly [metric: string, bits: number])[]
}

export type RegisterResult =
  /** Too small a label table: nothing was changed. */
  | { readonly status: 'grow'; readonly setCount: number; readonly keyByteLength: number }
  | {
      readonly status: 'registered'
      /** What must be stored, in order; none when nothing was new. */
      readonly payloads: readonly Uint8Array[]
      readonly setCount: number
      readonly signatures: readonly SignatureMessage[]
      /** Which sets have which signature from now on: set and number by turns. */
      readonly changes: Uint32Array
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

export interface ScanJob extends TableJob {
  readonly kind: 'tsdb.scan'
  readonly sources: readonly BlockSource[]
  readonly plan: ReadPlan
  readonly sets: Uint32Array
  /** Group i is sets[starts[i]] to before sets[starts[i + 1]]; null: each set is by itself. */
  readonly groupStarts: Uint32Array | null
  readonly metricListOf: Uint32Array | null
  readonly metricLists: readonly (readonly string[])[]
  readonly rowCondition: Expression | null
  readonly position: ScanPosition | null
  readonly rowCountMax: number
  readonly newestWins: boolean
  readonly format: 'wire' | 'columns'
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
  readonly sources: readonly BlockSource[]
  readonly position: MergePosition | null
  readonly partitionIntervalMs: number
  readonly newestWins: boolean
}

// ---- what a worker does ----------------------------------------------------------------------------------------------

/** Parsed signature lists of the tables this worker was last asked about. */
const signatureLists = new Map<string, Signatures>()
const signatureListCountMax = 64

function signaturesOf(context: WorkerContext, view: LabelView): Signatures {
  const known = signatureLists.get(view.signaturesId)
  if (known !== undefined) return known
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

function signatureReader(context: WorkerContext, view: LabelView): (set: number) => Signature {
  const { list } = signaturesOf(context, view)
  const { call } = context.kernels
  return (set) => {
    const signature = list[call.labelTableSignature(view.tablePtr, set)]
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
  const frame = openFrame(kernels, work, job.input)
  if (frame === null) return { status: 'empty' }
  const { labels } = job
  const setsPtr = knownSets(kernels, work, labels, frame.grouping)
  if (setsPtr === null) return { status: 'unregistered' }
  const signatureAt = signatureReader(context, labels)
  let isKnown = true
  checkTypes(
    kernels,
    frame,
    (group) => signatureAt(setNumberOf(kernels, setsPtr, group)),
    () => {
      isKnown = false
    },
    new Map(job.requestKinds),
  )
  if (!isKnown) return { status: 'unregistered' }
  const blocks = encodeFrameRows(kernels, output, work, frame, setsPtr, {
    partitionIntervalMs: job.partitionIntervalMs,
    newestWins: job.duplicates !== 'first',
    check: job.stored === null ? null : duplicateCheck(job, context, work, frame, signatureAt),
    isCancelled: () => context.isCancelled(job),
  })
  return { status: 'rows', blocks, rowCount: frame.rowCount, kinds: frameKinds(frame) }
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
    const { sources, partition, tableName, access } = job.stored!
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
const setsPerPayload = 4096

/** A stored value of label sets: the first one's number, keys, signatures that are new, and which set has which. */
type SetsPayload = [
  first: number,
  keyOffsets: readonly number[],
  keys: Uint8Array,
  signatures: readonly SignatureMessage[],
  changes: readonly number[],
]

/** Runs alone for its table. What it changes in memory is made durable by the caller before anything depends on it. */
const register: JobHandler<RegisterJob, RegisterResult> = (job, context) => {
  const { kernels } = context
  const { call, u8, u32 } = kernels
  const work = new Scratch(job.scratch)
  const frame = openFrame(kernels, work, job.input)
  const { labels } = job
  const { tablePtr } = labels
  const countBefore = call.labelTableCount(tablePtr)
  const unchanged: RegisterResult = {
    status: 'registered',
    payloads: [],
    setCount: countBefore,
    signatures: [],
    changes: new Uint32Array(0),
  }
  if (frame === null) return unchanged
  const { grouping } = frame
  const setsPtr = work.allocate(4 * grouping.groupCount)

  // A type that does not fit is refused before anything changes; sets that are new have no types.
  const text = new TextDecoder().decode(
    u8.slice(labels.signatures.byteOffset, labels.signatures.byteOffset + labels.signatures.byteLength),
  )
  const signatures = Signatures.of(JSON.parse(text) as SignatureMessage[])
  const signatureCountBefore = signatures.list.length
  call.labelTableFind(tablePtr, countBefore, grouping.keyOffsetsPtr, grouping.keyBytesPtr, grouping.groupCount, setsPtr)
  const numberOf = (group: number): number => {
    const set = u32[(setsPtr >> 2) + group]!
    return set < countBefore ? call.labelTableSignature(tablePtr, set) : 0
  }
  const wanted: { group: number; types: ReadonlyMap<string, number> }[] = []
  checkTypes(
    kernels,
    frame,
    (group) => signatures.list[numberOf(group)]!,
    (group, types) => wanted.push({ group, types }),
    new Map(job.requestKinds),
  )

  const metrics = new Set(signatures.list.flatMap((signature) => [...signature.keys()]))
  for (const { types } of wanted) for (const name of types.keys()) metrics.add(name)
  if (metrics.size > tableColumnCountMax) {
    const what = `the table would have ${metrics.size} metrics; at most ${tableColumnCountMax} are possible`
    throw new FramesError('TOO_MANY_COLUMNS', what)
  }

  const added = call.labelTableInsert(
    tablePtr,
    grouping.keyOffsetsPtr,
    grouping.keyBytesPtr,
    grouping.groupCount,
    setsPtr,
  )
  if (added < 0) {
    const keyByteLength = u32[(grouping.keyOffsetsPtr >> 2) + grouping.groupCount]!
    return {
      status: 'grow',
      setCount: countBefore + grouping.groupCount,
      keyByteLength: call.labelTableKeyBytesUsed(tablePtr) + keyByteLength,
    }
  }
  // Several groups may be one set (0.0 and -0.0 have one text); the caller writes the numbers into the table.
  const numbers = new Map<number, number>()
  for (const { group, types } of wanted) {
    const set = u32[(setsPtr >> 2) + group]!
    numbers.set(set, signatures.extended(numbers.get(set) ?? call.labelTableSignature(tablePtr, set), types))
  }
  const changes = Uint32Array.from([...numbers].flat())
  const countAfter = call.labelTableCount(tablePtr)
  const newSignatures = signatures.since(signatureCountBefore)
  if (countAfter === countBefore && changes.length === 0) return unchanged

  const payloads: Uint8Array[] = []
  for (let first = countBefore; payloads.length === 0 || first < countAfter; first += setsPerPayload) {
    const count = Math.min(setsPerPayload, countAfter - first)
    const offsets = [0]
    for (let i = 0; i < count; i++) offsets.push(offsets[i]! + call.labelTableKeyByteLength(tablePtr, first + i))
    const keysPtr = count === 0 ? 0 : call.labelTableKeyPtr(tablePtr, first)
    const isFirst = payloads.length === 0
    const payload: SetsPayload = [
      first,
      offsets,
      u8.slice(keysPtr, keysPtr + offsets[count]!),
      isFirst ? newSignatures : [],
      isFirst ? [...changes] : [],
    ]
    payloads.push(pack(payload))
  }
  return { status: 'registered', payloads, setCount: countAfter, signatures: newSignatures, changes }
}

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
  return { status: 'loaded', setCount: call.labelTableCount(tablePtr), signatures, changes: Uint32Array.from(changes) }
}

const copyLabels: JobHandler<CopyLabelsJob, null> = (job, { kernels }) => {
  kernels.call.initLabelTable(job.toPtr, job.setCapacity, job.keyByteCapacity)
  if (job.fromPtr !== 0 && kernels.call.copyLabelTable(job.fromPtr, job.toPtr) < 0)
    throw new RangeError('the new label table is too small')
  return null
}

const select: JobHandler<SelectJob, Selection> = (job, context) =>
  selectSets(context.kernels, new Scratch(job.scratch), {
    ...job,
    tablePtr: job.labels.tablePtr,
    setCount: job.labels.setCount,
    signatureOf: signatureReader(context, job.labels),
  })

const scan: JobHandler<ScanJob, ScanResult> = (job, context) => {
  const { kernels } = context
  const signatureAt = signatureReader(context, job.labels)
  const { sets, metricListOf, metricLists } = job
  const metricSets = metricLists.map((list) => new Set(list))
  return scanSets(kernels, new Scratch(job.scratch), storeReader(context, job.access), {
    ...job,
    setCount: sets.length,
    labelsId: job.labels.id,
    setAt: (index) => ({ set: sets[index]!, signature: signatureAt(sets[index]!) }),
    signatureOf: signatureAt,
    labelsOf: (set) => labelsOf(kernels, job.labels.tablePtr, set),
    metricsAt: (index) => (metricListOf === null ? null : metricSets[metricListOf[index]!]!),
    isCancelled: () => context.isCancelled(job),
  })
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
  listLabels(context.kernels, {
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
    const reader = new BlockReader(io, source, 0)
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
    signatureOf: signatureReader(context, job.labels),
    isCancelled: () => context.isCancelled(job),
  })

export const tsdbHandlers = {
  'tsdb.ingest': ingest,
  'tsdb.register': register,
  'tsdb.loadLabels': loadLabels,
  'tsdb.copyLabels': copyLabels,
  'tsdb.select': select,
  'tsdb.scan': scan,
  'tsdb.describe': describe,
  'tsdb.merge': merge,
  'tsdb.list': list,
  'tsdb.count': count,
}
