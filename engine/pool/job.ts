// The messages between the main thread and the workers: plain data, numbers and text; columns by place in shared memory.
import type { ErrorMessage } from '../errors.js'
import type { Slice } from '../memory/slice.js'

/** What a backend asks of a worker. Each kind adds its own fields; all of them survive structured cloning. */
export interface Job {
  readonly kind: string
}

/** What the pool adds to a job when it sends it. */
export interface JobPlace {
  /** The job's own memory: it writes nowhere else. Whole runs of 64 KiB, contents undefined; empty if none was asked. */
  readonly scratch: Slice
  /** Byte offset of an i32: not 0 once nobody wants the result. Jobs test it between pages. */
  readonly cancelWord: number
  /** The worker's own part of the region of decoded pages, the same in all its jobs: what it keeps from job to job. */
  readonly kept: Slice
}

export type SentJob<J extends Job = Job> = J & JobPlace

/**
 * A job whose fields are told by their places in a list, as both halves of a backend know them: of a small job their
 * names are most of what there is to write and to read. For jobs of 0.1 ms that takes a tenth of them.
 */
export interface FlatJob extends Job {
  readonly parts: readonly unknown[]
}

/** A job on its way to a worker: its place, then the job; of a flat one its kind and its parts. */
export type JobMessage = readonly [
  scratchByteOffset: number,
  scratchByteLength: number,
  cancelWord: number,
  keptByteOffset: number,
  keptByteLength: number,
  job: Job | string,
  parts: readonly unknown[] | null,
]

export function sendJob(job: Job | FlatJob, { scratch, cancelWord, kept }: JobPlace): JobMessage {
  const parts = 'parts' in job ? job.parts : null
  const told = parts === null ? job : job.kind
  return [scratch.byteOffset, scratch.byteLength, cancelWord, kept.byteOffset, kept.byteLength, told, parts]
}

/** Puts job and place together. */
export function receiveJob(message: JobMessage): SentJob {
  const scratch = { byteOffset: message[0], byteLength: message[1] }
  const cancelWord = message[2]
  const kept = { byteOffset: message[3], byteLength: message[4] }
  const job = message[5]
  if (typeof job !== 'string') return Object.assign(job, { scratch, cancelWord, kept })
  const flat: SentJob<FlatJob> = { kind: job, parts: message[6]!, scratch, cancelWord, kept }
  return flat
}

/** How a job ended, as the worker tells it. A list is the result itself, of a job that is done. */
export type JobOutcome = readonly unknown[] | JobDone | JobFailed | JobNeedsBytes

export interface JobDone {
  readonly ok: true
  /** Plain data; what it says by slice stands in the job's scratch. */
  readonly result: unknown
}

export interface JobFailed {
  readonly ok: false
  readonly error: ErrorMessage
  /** Present when the failure is a mistake of ours and not the request's. */
  readonly fault?: JobFault
}

export interface JobFault {
  /** Name, message and stack of what was thrown: for the log, never for the caller. */
  readonly stack: string
  /** A kernel trapped: its instance cannot be trusted, the worker must be replaced. */
  readonly isTrap: boolean
}

/** The scratch was too small: send the job again with at least this much. Nothing has been done. */
export interface JobNeedsBytes {
  readonly needBytes: number
}
