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

/** A job on its way to a worker, which puts the two together: here that would copy each field of the job. */
export interface JobMessage {
  readonly job: Job
  readonly place: JobPlace
}

/** How a job ended, as the worker tells it. */
export type JobOutcome = JobDone | JobFailed | JobNeedsBytes

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
