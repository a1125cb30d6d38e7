// Jobs that test the pool itself: they answer, fill memory, hang and die. Never allowed in a server.
import { AssertionFailed, assert } from '../assert.js'
import { FramesError } from '../errors.js'
import { Scratch } from '../memory/scratch.js'
import type { Slice } from '../memory/slice.js'
import type { WorkerAccess } from '../stores/store.js'
import { type JobHandler, throwIfCancelled } from './context.js'
import type { FlatJob, Job } from './job.js'

export interface EchoJob extends Job {
  readonly kind: 'echo'
  readonly value: unknown
}

/** Answers with its parts, and where its scratch is. */
export interface EchoPartsJob extends FlatJob {
  readonly kind: 'echoParts'
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

/** Sleeps until the job is cancelled, then goes on writing into its scratch for `writeMs`, as a job between pages would. */
export interface SleepJob extends Job {
  readonly kind: 'sleepUntilCancelled'
  readonly writeMs: number
}

/** Answers with a copy of a stored value. */
export interface ReadJob extends Job {
  readonly kind: 'read'
  readonly access: NonNullable<WorkerAccess>
  readonly partition: string
  readonly key: Uint8Array
}

export interface FailJob extends Job {
  readonly kind: 'fail'
  readonly how: 'framesError' | 'assertion' | 'error' | 'notAnError' | 'promise' | 'unclonable'
}

/** Ways for a worker to die. */
export interface DieJob extends Job {
  readonly kind: 'exhaustHeap' | 'trap' | 'exit' | 'throwInstead' | 'throwLater'
}

const echo: JobHandler<EchoJob> = (job) => job.value

const echoParts: JobHandler<EchoPartsJob> = ({ kind, parts, scratch }) => ({ kind, parts, scratch })

const fill: JobHandler<FillJob, Slice> = ({ scratch, pattern, roundCount }, { kernels }) => {
  const { u8 } = kernels
  const end = scratch.byteOffset + scratch.byteLength
  for (let round = 0; round < roundCount; round++) {
    u8.fill(pattern, scratch.byteOffset, end)
    for (let offset = scratch.byteOffset; offset < end; offset++) {
      if (u8[offset] !== pattern) throw new AssertionFailed(`byte ${offset} belongs to the job of pattern ${pattern}`)
    }
  }
  return scratch
}

const allocate: JobHandler<AllocateJob, number> = (job) => new Scratch(job.scratch).allocate(job.byteLength)

const sleepUntilCancelled: JobHandler<SleepJob> = (job, context) => {
  const { i32, u8 } = context.kernels
  Atomics.wait(i32, job.cancelWord >> 2, 0)
  const { byteOffset, byteLength } = job.scratch
  for (const endMs = performance.now() + job.writeMs; performance.now() < endMs; ) {
    u8.fill(0xee, byteOffset, byteOffset + byteLength)
  }
  throwIfCancelled(job, context)
}

const read: JobHandler<ReadJob, Uint8Array | null> = ({ access, partition, key }, context) =>
  context.reader(access).get(partition, key)?.slice() ?? null

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

/** Outside the handler, where nobody catches it: the thread ends before it can answer. */
const throwInstead: JobHandler<DieJob> = () => new Promise(() => setImmediate(throwUncaught))

/** The same after the answer: the thread ends without a job. */
const throwLater: JobHandler<DieJob> = () => {
  setTimeout(throwUncaught, 5)
}

function throwUncaught(): never {
  throw new Error('nobody catches this')
}

export const diagnosticHandlers = {
  echo,
  echoParts,
  fill,
  allocate,
  sleepUntilCancelled,
  read,
  fail,
  exhaustHeap,
  trap,
  exit,
  throwInstead,
  throwLater,
}
