// What runs in a worker thread: kernels over the shared memory, store readers, and a handler for every kind of job.
// Piscina loads it by worker-entry.cts; jobs come by a port of our own.
import { type MessagePort, workerData } from 'node:worker_threads'
import { assert } from '../assert.js'
import { FramesError, toErrorMessage } from '../errors.js'
import { loadKernels } from '../kernels/kernels.js'
import { GoneBlocksReader } from '../memory/gone-blocks.js'
import { ScratchFull } from '../memory/scratch.js'
import type { Slice } from '../memory/slice.js'
import type { WorkerReader } from '../stores/store.js'
import type { ReaderModule, WorkerContext, WorkerStart } from './context.js'
import { forgetAllBlocks, forgetBlock, handlerTable } from './handlers.js'
import { type JobMessage, type JobOutcome, type JobPlace, receiveJob, type SentJob } from './job.js'

const start = workerData as WorkerStart
const kernels = loadKernels(start.memory, start.kernels)
const handlers = handlerTable(start.diagnostics)
const readerModule: ReaderModule | null = start.readerModule === null ? null : await import(start.readerModule)
const goneBlocks = new GoneBlocksReader(start.memory, start.goneBlocks)
/** By driver, opened when first asked for, and again when the store has moved to another file. */
const readers = new Map<string, WorkerReader>()

/** What handlers keep in the worker's part of the memory; its first user makes it, and all know it by the same type. */
let kept: unknown = null

const context: WorkerContext = {
  kernels,
  reader(access) {
    const open = readers.get(access.driver)
    if (open?.path === access.path) return open
    if (open !== undefined) {
      readers.delete(access.driver)
      open.close()
    }
    assert(readerModule !== null, 'a pool whose jobs read a store is given its reader')
    const reader = readerModule.openReader(access)
    reader.beginJob()
    readers.set(access.driver, reader)
    return reader
  },
  keptPages<T>(job: JobPlace, open: (slice: Slice) => T): T | null {
    if (job.kept.byteLength === 0) return null
    kept ??= open(job.kept)
    return kept as T
  },
  isCancelled(job) {
    return Atomics.load(kernels.i32, job.cancelWord >> 2) !== 0
  },
}

/** Carries out one job. Never throws: what goes wrong is the outcome. */
function runJob(job: SentJob): JobOutcome | Promise<JobOutcome> {
  try {
    goneBlocks.take(forgetBlock, forgetAllBlocks)
    for (const reader of readers.values()) reader.beginJob()
    const handler = handlers.get(job.kind)
    assert(handler !== undefined, `there is a handler for jobs of kind '${job.kind}'`)
    const result = handler(job, context)
    if (result instanceof Promise) return result.then(done, failed).finally(endReads)
    endReads()
    return done(result)
  } catch (error) {
    endReads()
    return failed(error)
  }
}

/** The last message to a worker: releases what its readers hold. */
export function closeReaders(): void {
  for (const reader of readers.values()) reader.close()
  readers.clear()
}

/** An idle worker that held a snapshot would make the store's file grow. */
function endReads(): void {
  for (const reader of readers.values()) reader.endJob()
}

function done(result: unknown): JobOutcome {
  return isList(result) ? result : { ok: true, result }
}

function isList(result: unknown): result is readonly unknown[] {
  return Array.isArray(result)
}

function failed(error: unknown): JobOutcome {
  if (error instanceof ScratchFull) return { needBytes: error.byteLengthNeeded }
  if (error instanceof FramesError) return { ok: false, error: toErrorMessage(error) }
  return {
    ok: false,
    error: toErrorMessage(new FramesError('INTERNAL', 'internal error')),
    fault: {
      stack: error instanceof Error ? (error.stack ?? `${error.name}: ${error.message}`) : String(error),
      isTrap: error instanceof WebAssembly.RuntimeError,
    },
  }
}

/** Jobs come by this port from now on, one at a time. The answer says that this worker has started. */
export function standBy({ port }: { readonly port: MessagePort }): void {
  port.on('message', (message: JobMessage) => {
    const outcome = runJob(receiveJob(message))
    if (outcome instanceof Promise) void outcome.then((later) => port.postMessage(later))
    else port.postMessage(outcome)
  })
}
