// Jobs that test the pool itself: they answer, fill memory, hang and die. Never allowed in a server.
import { assert } from '../assert.js'
import { FramesError } from '../errors.js'
import { Scratch } from '../memory/scratch.js'
import type { Slice } from '../memory/slice.js'
import { type JobHandler, throwIfCancelled } from './context.js'
import type { Job } from './job.js'

export interface EchoJob extends Job {
  readonly kind: 'echo'
  readonly value: unknown
}

/** Fills the scratch with a pattern, `roundCount` times, and checks each time that nobody else wrote there. */
export interface FillJob extends Job {
  readonly kind: 'fill'
  /** 0 to 255. */
  readonly pattern: number
  readonly roundCount: number
}

/** Allocates byteLength bytes of its scratch, and answers where. */
export interface AllocateJob extends Job {
  readonly kind: 'allocate'
  readonly byteLength: number
}

/** Sleeps until the job is cancelled, then writes into its scratch for another `writeMs`, as a job between pages would. */
export interface SleepUntilCancelledJob extends Job {
  readonly kind: 'sleepUntilCancelled'
  readonly writeMs?: number
}

export interface FailJob extends Job {
  readonly kind: 'fail'
  readonly how: 'framesError' | 'assertion' | 'error' | 'notAnError' | 'promise' | 'unclonable'
}

/** Ways for a worker to die. */
export interface DieJob extends Job {
  readonly kind: 'exhaustHeap' | 'trap' | 'exit' | 'throwLater'
}

const echo: JobHandler<EchoJob> = (job) => job.value

const fill: JobHandler<FillJob, Slice> = ({ scratch, pattern, roundCount }, { kernels }) => {
  const bytes = kernels.u8.subarray(scratch.byteOffset, scratch.byteOffset + scratch.byteLength)
  for (let round = 0; round < roundCount; round++) {
    bytes.fill(pattern)
    const foreign = bytes.findIndex((byte) => byte !== pattern)
    assert(foreign === -1, `byte ${foreign} of the scratch is the job's own`)
  }
  return scratch
}

const allocate: JobHandler<AllocateJob, number> = (job) => new Scratch(job.scratch).allocate(job.byteLength)

const sleepUntilCancelled: JobHandler<SleepUntilCancelledJob> = (job, context) => {
  const { i32, u8 } = context.kernels
  Atomics.wait(i32, job.cancelWord >> 2, 0)
  const { byteOffset, byteLength } = job.scratch
  for (const endMs = performance.now() + (job.writeMs ?? 0); performance.now() < endMs; ) {
    u8.fill(0xee, byteOffset, byteOffset + byteLength)
  }
  throwIfCancelled(job, context)
}

const fail: JobHandler<FailJob> = ({ how }) => {
  if (how === 'framesError') throw new FramesError('TABLE_NOT_FOUND', 'no table of this name')
  if (how === 'error') throw new Error('a secret of the worker')
  if (how === 'notAnError') throw 'a text'
  if (how === 'promise') return Promise.reject(new FramesError('TABLE_EXISTS', 'the promise failed'))
  if (how === 'unclonable') return () => how
  assert(how !== 'assertion', 'this job is right')
}

const exhaustHeap: JobHandler<DieJob> = () => {
  const kept: number[][] = []
  for (;;) kept.push(new Array(1000).fill(kept.length))
}

const trap: JobHandler<DieJob> = (_, { kernels }) => kernels.call.trap(0, 0, 0, 0)

const exit: JobHandler<DieJob> = () => process.exit(3)

const throwLater: JobHandler<DieJob> = () =>
  new Promise(() => {
    setImmediate(() => {
      throw new Error('nobody catches this')
    })
  })

export const diagnosticHandlers = {
  echo,
  fill,
  allocate,
  sleepUntilCancelled,
  fail,
  exhaustHeap,
  trap,
  exit,
  throwLater,
}
