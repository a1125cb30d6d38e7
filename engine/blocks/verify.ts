// Reads every byte of a block, in a worker, and says what is wrong with it.
import { FramesError } from '../errors.js'
import { Scratch } from '../memory/scratch.js'
import type { JobHandler } from '../pool/context.js'
import type { Job } from '../pool/job.js'
import type { WorkerAccess } from '../stores/store.js'
import type { BlockSource } from './reader.js'
import { BlockIo, BlockReader, forgetBlock } from './reader.js'

export interface VerifyJob extends Job {
  readonly kind: 'blocks.verify'
  readonly partition: string
  readonly tableName: string
  readonly access: WorkerAccess
  readonly source: BlockSource
}

/** Answers with a line for each header, page table or page that cannot be read; none for a whole block. */
const verify: JobHandler<VerifyJob, string[]> = (job, context) => {
  const { source, access, partition, tableName } = job
  const store = access === null ? null : context.reader(access)
  const io = new BlockIo(context.kernels, new Scratch(job.scratch), store, partition, tableName)
  const damages: string[] = []
  const attempt = <T>(read: () => T): T | null => {
    try {
      return read()
    } catch (error) {
      if (!(error instanceof FramesError)) throw error
      damages.push(error.what)
      return null
    }
  }
  // What this worker parsed earlier may have been damaged since.
  forgetBlock(source.id)
  const reader = attempt(() => new BlockReader(io, source))
  if (reader === null) return damages
  reader.layout.attachments.forEach((_, number) => {
    io.cache.beginEpoch()
    attempt(() => reader.attachment(number))
  })
  for (const column of reader.layout.columns) {
    if (attempt(() => reader.table(column)) === null) continue
    for (let page = 0; page < reader.layout.pageCount; page++) {
      io.cache.beginEpoch()
      attempt(() => reader.page(column, page))
    }
  }
  return damages
}

export const blockHandlers = { 'blocks.verify': verify }
