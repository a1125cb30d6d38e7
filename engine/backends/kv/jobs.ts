// The jobs of key-value writes: their messages, and what a worker does with each.
import type { Kill } from '../../blocks/dead-rows.js'
import type { BlockSource } from '../../blocks/reader.js'
import { keptPagesOf } from '../../blocks/kept-pages.js'
import { BlockIo } from '../../blocks/reader.js'
import { receiveSources, type SentSources } from '../../blocks/sent-sources.js'
import type { Expression } from '../../expression/tree.js'
import { MiB } from '../../limits.js'
import { Scratch } from '../../memory/scratch.js'
import type { Slice } from '../../memory/slice.js'
import type { JobHandler } from '../../pool/context.js'
import { throwIfCancelled } from '../../pool/context.js'
import type { Job } from '../../pool/job.js'
import type { WorkerAccess } from '../../stores/store.js'
import { ItemReader } from './item-reader.js'
import { findKills } from './kill.js'
import type { SentRule, SettleRequest, SettleResult } from './settle-request.js'
import { ruleOf } from './settle-request.js'
import { settleWrites } from './settle.js'

/** What a job on a table is told. */
interface TableJob extends Job {
  readonly partition: string
  readonly tableName: string
  readonly access: WorkerAccess
}

export interface SettleJob extends TableJob, Omit<SettleRequest, 'rules'> {
  readonly kind: 'kv.settle'
  readonly rules: readonly SentRule[]
  readonly sources: SentSources
}

/** Finds the living rows that a delete is about. */
export interface KillJob extends TableJob {
  readonly kind: 'kv.kill'
  readonly sources: readonly BlockSource[]
  /** Null: all rows. */
  readonly filter: Expression | null
  /** Only items in this partition folder and those in it; null: all. */
  readonly folder: string | null
  /** Only items that were last changed at this time or before; null: all. */
  readonly changedUntilNs: bigint | null
}

/** Parts of a job's memory: pages of blocks, what looking rows up needs, and all else. */
const pagesShare = 0.35
const temporaryShare = 0.15
/** Enough for one page of the largest cell, as stored and decoded, each in a place of a power of two. */
const pagesByteLengthMax = 80 * MiB

function divide(slice: Slice): { pages: Scratch; temporary: Scratch; rest: Scratch } {
  const share = Math.min(pagesShare, pagesByteLengthMax / slice.byteLength)
  const parts = new Scratch(slice).split([share, temporaryShare, 1 - share - temporaryShare])
  const [pages, temporary, rest] = parts as [Scratch, Scratch, Scratch]
  return { pages, temporary, rest }
}

const settle: JobHandler<SettleJob, SettleResult> = (job, context) => {
  const { kernels } = context
  const { partition, tableName, access } = job
  const sources = receiveSources(job.sources)
  const check = (): void => throwIfCancelled(job, context)
  const { schema, writes, nowNs } = job
  const request: SettleRequest = { schema, rules: job.rules.map(ruleOf), writes, nowNs }
  if (sources.length === 0) {
    const whole = new Scratch(job.scratch)
    return settleWrites(kernels, whole, whole.back(), request, null, [], check)
  }
  const { pages, temporary, rest } = divide(job.scratch)
  const store = access === null ? null : context.reader(access)
  const io = new BlockIo(kernels, pages, store, partition, tableName, keptPagesOf(context, job))
  const reader = new ItemReader(io, temporary, sources)
  const ids = sources.map(({ id }) => id)
  return settleWrites(kernels, rest, rest.back(), request, reader, ids, check)
}

const kill: JobHandler<KillJob, Kill[]> = (job, context) => {
  const { kernels } = context
  const { sources, partition, tableName, access } = job
  const { pages, temporary, rest } = divide(job.scratch)
  const store = access === null ? null : context.reader(access)
  const io = new BlockIo(kernels, pages, store, partition, tableName)
  return findKills(kernels, rest, temporary, io, sources, {
    ...job,
    throwIfCancelled: () => throwIfCancelled(job, context),
  })
}

export const kvHandlers = {
  'kv.settle': settle,
  'kv.kill': kill,
}
