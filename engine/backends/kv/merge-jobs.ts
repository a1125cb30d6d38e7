// The merges of kv tables: the rule that the block layer follows, its jobs, and what a worker does with each.
import type { MergeRule, MergeStep } from '../../blocks/merge-rule.js'
import type { BlockSource } from '../../blocks/reader.js'
import { Scratch } from '../../memory/scratch.js'
import type { JobHandler, WorkerContext } from '../../pool/context.js'
import type { Job } from '../../pool/job.js'
import type { WorkerAccess, WorkerReader } from '../../stores/store.js'
import type { ItemPosition } from './merge.js'
import { mergeItems, settleMerge } from './merge.js'

export interface ItemMergeJob extends Job {
  readonly kind: 'kv.merge'
  readonly partition: string
  readonly tableName: string
  readonly access: WorkerAccess
  readonly sources: readonly BlockSource[]
  readonly position: ItemPosition | null
}

export interface ItemSettleJob extends Job {
  readonly kind: 'kv.settleMerge'
  readonly partition: string
  readonly tableName: string
  readonly access: WorkerAccess
  readonly died: readonly BlockSource[]
  readonly outputs: readonly BlockSource[]
}

/** What a table's merges need to know. */
export interface ItemMergeParts {
  readonly partition: string
  readonly tableName: string
  /** Taken anew for every job: the store may move to another file. */
  readonly access: () => WorkerAccess
  /** Runs work in the table's turn, in which all its kills are committed. */
  readonly inTurn: (work: () => Promise<void>) => Promise<void>
}

export function itemMergeRule({ partition, tableName, access, inTurn }: ItemMergeParts): MergeRule {
  const release = (): void => undefined
  return {
    step: (sources, position) => {
      const job: ItemMergeJob = {
        kind: 'kv.merge',
        partition,
        tableName,
        access: access(),
        sources,
        position: position as ItemPosition | null,
      }
      return { job, release }
    },
    settle: {
      inTurn,
      job: (died, outputs) => {
        const job: ItemSettleJob = { kind: 'kv.settleMerge', partition, tableName, access: access(), died, outputs }
        return { job, release }
      },
    },
  }
}

function storeReader(context: WorkerContext, access: WorkerAccess): WorkerReader | null {
  return access === null ? null : context.reader(access)
}

const merge: JobHandler<ItemMergeJob, MergeStep> = (job, context) =>
  mergeItems(context.kernels, new Scratch(job.scratch), storeReader(context, job.access), {
    ...job,
    isCancelled: () => context.isCancelled(job),
  })

const settle: JobHandler<ItemSettleJob, Uint32Array[]> = (job, context) =>
  settleMerge(context.kernels, new Scratch(job.scratch), storeReader(context, job.access), job)

export const kvMergeHandlers = { 'kv.merge': merge, 'kv.settleMerge': settle }
