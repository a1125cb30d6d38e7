// What a job handler is given besides its job: the kernels of this worker, and the way to the stored values.
import { FramesError } from '../errors.js'
import type { Kernels } from '../kernels/kernels.js'
import type { Slice } from '../memory/slice.js'
import type { WorkerAccess, WorkerReader } from '../stores/store.js'
import type { Job, JobPlace, SentJob } from './job.js'

export interface WorkerContext {
  readonly kernels: Kernels
  /** The reader of a store, opened when first asked for and kept; it sees all that was committed when the job began. */
  reader(access: NonNullable<WorkerAccess>): WorkerReader
  /** What this worker keeps between jobs; null where there is no memory for it. */
  keptPages<T>(job: JobPlace, open: (slice: Slice) => T): T | null
  /** True once nobody wants the job's result. Cheap: test it once a page. */
  isCancelled(job: JobPlace): boolean
}

/**
 * Carries out one kind of job. Runs synchronously wherever it can; a promise is waited for, but a read transaction must
 * never be held across an await. The result is plain data. Throws FramesError for what the caller can act on, ScratchFull
 * to be called again with more memory.
 */
export type JobHandler<J extends Job = Job, R = unknown> = (job: SentJob<J>, context: WorkerContext) => R | Promise<R>

/** How a driver's worker half is found: the module of this name exports openReader. */
export interface ReaderModule {
  openReader(access: NonNullable<WorkerAccess>): WorkerReader
}

/** What a worker is told when it starts. */
export interface WorkerStart {
  readonly memory: WebAssembly.Memory
  readonly kernels: WebAssembly.Module
  /** Of the memory: which blocks may be forgotten. */
  readonly goneBlocks: Slice
  /** URL of a ReaderModule, null when no store can be read by workers. */
  readonly readerModule: string | null
  /** Whether jobs that test the pool itself (they kill and hang workers) are allowed. */
  readonly diagnostics: boolean
}

/** Ends a job whose result nobody wants. */
export function throwIfCancelled(job: JobPlace, context: WorkerContext): void {
  if (context.isCancelled(job)) throw new FramesError('CANCELLED', 'the job was cancelled')
}
