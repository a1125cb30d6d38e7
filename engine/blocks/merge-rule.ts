// What a backend must say so that the block layer can merge its runs.
import type { EncodedBlock } from './builder.js'
import type { Extent } from './live-block.js'
import type { BlockSource } from './reader.js'

/** A block that a job wrote into its scratch, with the backend's summary of it. */
export interface PreparedBlock extends EncodedBlock {
  readonly extent: Extent
}

/** What a merge job answers: the next blocks, and where to go on (null: done). */
export interface MergeStep {
  readonly blocks: readonly PreparedBlock[]
  readonly next: unknown
}

/** A job message: plain data. */
export interface JobMessage {
  readonly kind: string
  readonly [field: string]: unknown
}

export interface MergeRule {
  /**
   * The job that writes the next blocks of the merged run, some blockRowCountMax rows, in key order.
   * sources: oldest first. position: null at first, then what the last step returned as `next`.
   */
  mergeJob(sources: readonly BlockSource[], position: unknown): JobMessage
  /** Gives back what mergeJob holds on to (shared memory that the job reads), after each step. */
  mergeDone(job: JobMessage): void
}
