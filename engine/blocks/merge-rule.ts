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

/** What a job answers that writes one block anew: as a merge, and whether the block may stay as it is (then without blocks). */
export interface RewriteStep extends MergeStep {
  readonly isUnchanged: boolean
}

/** A job, and what is to be called when it has ended: it gives back the shared memory that the job reads. */
export interface RuleJob {
  readonly job: Job
  readonly release: () => void
}

export type RuleStep = (sources: readonly BlockSource[], position: unknown, isAgain: boolean) => RuleJob

/** A backend's part of a merge. */
export interface MergeRule {
  /**
   * The job that writes the next blocks of the merged run, some blockRowCountMax living rows, in key order; it answers
   * with a MergeStep.
   *
   * sources: oldest first. position: null at first, then what the last step returned as `next`.
   * isAgain: this job ended with VIEW_OUTDATED when it was sent before, and is not to do so again.
   */
  step: RuleStep
  /** Of backends whose rows die while they are merged; without it such a merge is begun again. */
  readonly settle?: SettleRule
}

export interface SettleRule {
  /** Runs work when no commit with kills is under way, and keeps them from starting meanwhile. */
  inTurn(work: () => Promise<void>): Promise<void>
  /**
   * The job that finds rows of merged blocks in what they were merged into. The `dead` of a source in `died` are the rows
   * that died since the merge began, and those alone. Answers for each block of `outputs` with the ascending rows that
   * are dead there: Uint32Array[].
   */
  job(died: readonly BlockSource[], outputs: readonly BlockSource[]): RuleJob
}
