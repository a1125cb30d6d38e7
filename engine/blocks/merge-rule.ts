// What a backend must say so that the block layer can merge its runs.
import type { EncodedBlock } from './builder.js'
import type { Job } from '../pool/job.js'
import type { BlockSource } from './reader.js'

/** A block that a job wrote into its scratch. */
export type PreparedBlock = EncodedBlock

/** What a merge job answers: the next blocks, and where to go on (null: done). */
export interface MergeStep {
  readonly blocks: readonly PreparedBlock[]
  readonly next: unknown
}

/**
 * A backend's part of a merge: the job that writes the next blocks of the merged run, some blockRowCountMax rows, in key
 * order; it answers with a MergeStep.
 *
 * sources: oldest first. position: null at first, then what the last step returned as `next`.
 * `release` is called when the job has ended: it gives back the shared memory that the job reads.
 */
export type MergeRule = (
  sources: readonly BlockSource[],
  position: unknown,
) => { readonly job: Job; readonly release: () => void }
