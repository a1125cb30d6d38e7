// The stream's jobs: their messages, and what a worker does with each.
import type { MergeStep } from '../../blocks/merge-rule.js'
import type { BlockSource } from '../../blocks/reader.js'
import { BlockIo, BlockReader } from '../../blocks/reader.js'
import { Scratch } from '../../memory/scratch.js'
import type { JobHandler, WorkerContext } from '../../pool/context.js'
import type { Job, SentJob } from '../../pool/job.js'
import type { WorkerAccess, WorkerReader } from '../../stores/store.js'
import { type AppendInput, type AppendResult, appendInputs, type FreePlaces } from './append.js'
import { columnsOfReaders } from './assemble.js'
import { mergeRuns } from './merge.js'
import { piecesOf } from './pieces.js'
import { type RecordPosition, type ScanPlan, type ScanResult, scanRecords, type SequenceRange } from './scan.js'
import type { StoredColumn } from './stored-columns.js'

/** What every job on stored blocks is told. */
export interface StreamJob extends Job {
  readonly partition: string
  readonly tableName: string
  readonly access: WorkerAccess
  readonly sources: readonly BlockSource[]
}

export interface AppendJob extends Job {
  readonly kind: 'stream.append'
  readonly inputs: readonly AppendInput[]
  readonly places: FreePlaces
  readonly partitionKey: string | null
}

export interface ScanJob extends StreamJob {
  readonly kind: 'stream.scan'
  readonly plan: ScanPlan
  readonly ranges: readonly SequenceRange[]
  readonly position: RecordPosition | null
  readonly rowCountMax: number
  readonly format: 'wire' | 'columns'
}

/** Answers with the columns of each block. */
export interface DescribeJob extends StreamJob {
  readonly kind: 'stream.describe'
}

/** Looks for the records that arrived at a time or later. */
export interface LocateJob extends StreamJob {
  readonly kind: 'stream.locate'
  readonly fromNs: bigint
}

/** The first such record of each shard in these blocks, as pairs of shard and sequence; shards without one are left out. */
export type LocateResult = readonly (readonly [shard: number, sequence: number])[]

export interface MergeJob extends StreamJob {
  readonly kind: 'stream.merge'
  readonly position: number | null
}

// ---- what a worker does ----------------------------------------------------------------------------------------------

function storeReader(context: WorkerContext, access: WorkerAccess): WorkerReader | null {
  return access === null ? null : context.reader(access)
}

function openReaders(job: SentJob<StreamJob>, context: WorkerContext): BlockReader[] {
  const { partition, tableName, access, sources } = job
  const io = new BlockIo(context.kernels, new Scratch(job.scratch), storeReader(context, access), partition, tableName)
  return sources.map((source) => new BlockReader(io, source))
}

const append: JobHandler<AppendJob, AppendResult> = (job, context) =>
  appendInputs(context.kernels, new Scratch(job.scratch), job.inputs, {
    ...job.places,
    partitionKey: job.partitionKey,
    isCancelled: () => context.isCancelled(job),
  })

const scan: JobHandler<ScanJob, ScanResult> = (job, context) =>
  scanRecords(context.kernels, new Scratch(job.scratch), storeReader(context, job.access), {
    ...job,
    isCancelled: () => context.isCancelled(job),
  })

const describe: JobHandler<DescribeJob, readonly (readonly StoredColumn[])[]> = (job, context) =>
  openReaders(job, context).map((reader) => columnsOfReaders([reader]))

const locate: JobHandler<LocateJob, LocateResult> = (job, context) => {
  const found = new Map<number, number>()
  for (const reader of openReaders(job, context)) {
    const { count, shards, sequences, arrivals } = piecesOf(reader)
    for (let piece = 0; piece < count; piece++) {
      if (arrivals[piece]! < job.fromNs) continue
      const shard = shards[piece]!
      found.set(shard, Math.min(found.get(shard) ?? Infinity, sequences[piece]!))
    }
  }
  return [...found]
}

const merge: JobHandler<MergeJob, MergeStep> = (job, context) =>
  mergeRuns(context.kernels, new Scratch(job.scratch), storeReader(context, job.access), {
    ...job,
    isCancelled: () => context.isCancelled(job),
  })

export const streamHandlers = {
  'stream.append': append,
  'stream.scan': scan,
  'stream.describe': describe,
  'stream.locate': locate,
  'stream.merge': merge,
}
