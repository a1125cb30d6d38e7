// The storage thread: the only writer of the LMDB file. It puts all batches that wait into one synced transaction, and
// reads for the main thread, which never touches the file system.
import { statfsSync } from 'node:fs'
import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import { assert } from '../assert.js'
import { FramesError, toErrorMessage } from '../errors.js'
import { MiB } from '../limits.js'
import { faultWords } from './lmdb-faults.js'
import { currentFile, LmdbFile, toStoreError } from './lmdb-file.js'
import {
  type FromThread,
  type PackedBatch,
  packList,
  partitionEnd,
  type ThreadOptions,
  type ToThread,
  unpackBatches,
  unpackList,
} from './lmdb-messages.js'

/** Values of one transaction: at 1 MiB it moved 359 MB/s with a p99 of 6 ms; larger ones only made others wait. */
const transactionByteLengthMax = 1 * MiB
/** Keys of one step of a drop: a transaction that frees 256 segments still ends within some ms. */
const dropStepKeyCount = 256
/** Room that even a batch which makes room must find: its own pages are written before others are free. */
const makesRoomByteLength = 1 * MiB
/** Snapshots of processes that were killed are given up this often. */
const readerCheckIntervalMs = 60_000

type Job =
  | { readonly kind: 'batch'; readonly batch: PackedBatch }
  | { readonly kind: 'dropStep'; readonly id: number; readonly partition: string }

assert(parentPort !== null, 'the storage thread is a worker thread')
const port: MessagePort = parentPort
const options = workerData as ThreadOptions
const faults = options.faults && new BigInt64Array(options.faults)

const waiting: Job[] = []
/** Set once a sync has failed: what the disk holds is then unknown, and trying again could report success wrongly. */
let readOnlyBecause: string | null = null
let turnIsDue = false
let closing = false
/** Values in shared memory are copied here before LMDB copies them again: it misreads a SharedArrayBuffer. */
let copies: Buffer = Buffer.alloc(transactionByteLengthMax)

let file: LmdbFile
try {
  file = new LmdbFile(currentFile(options.folder), options)
  send({ kind: 'opened', path: file.path })
  port.on('message', receive)
  setInterval(() => file.database.readerCheck(), readerCheckIntervalMs).unref()
} catch (error) {
  send({ kind: 'openFailed', error: toErrorMessage(toStoreError(error, options.folder)) })
}

function send(message: FromThread, transfer: ArrayBuffer[] = []): void {
  port.postMessage(message, transfer)
}

/** Takes a message and all that wait behind it. Reads are answered at once: they see what is durable. */
function receive(first: ToThread): void {
  let message: ToThread | undefined = first
  while (message !== undefined) {
    accept(message)
    message = receiveMessageOnPort(port)?.message
  }
  takeTurnSoon()
}

function accept(message: ToThread): void {
  switch (message.kind) {
    case 'commit':
      for (const batch of unpackBatches(message.packed, message.batchCount, options.shared)) {
        waiting.push({ kind: 'batch', batch })
      }
      break
    case 'dropStep':
      waiting.push(message)
      break
    case 'close':
      closing = true
      break
    default:
      answer(message)
  }
}

function answer(message: Exclude<ToThread, { kind: 'commit' | 'dropStep' | 'close' }>): void {
  const { id } = message
  file.releaseSnapshot()
  try {
    if (message.kind === 'partitions') {
      send({ kind: 'answer', id, value: partitions(message.prefix) })
      return
    }
    const found =
      message.kind === 'scan'
        ? file.scan(message)
        : // Each value is copied, because the next read overwrites it.
          unpackList(message.packed).map((key) => file.get(key!)?.slice() ?? null)
    const packed = packList(found)
    send({ kind: 'answer', id, value: packed }, [packed.buffer])
  } catch (error) {
    send({ kind: 'failed', id, error: toErrorMessage(toStoreError(error, file.path)) })
  } finally {
    file.releaseSnapshot()
  }
}

/** One key of each partition is enough: from there the search goes on behind the partition's last. */
function partitions(prefix: string): string[] {
  const names: string[] = []
  const end = Buffer.from(`${prefix}\x7f`, 'latin1')
  let start: Uint8Array = prefix === '' ? Buffer.of(0) : Buffer.from(prefix, 'latin1')
  for (;;) {
    const [key] = file.scan({ start, end, reverse: false, limit: 1, byteLengthMax: 0, keysOnly: true })
    if (key === undefined) return names
    const name = Buffer.from(key.buffer, key.byteOffset, key.indexOf(0)).toString('latin1')
    names.push(name)
    start = partitionEnd(name)
  }
}

/** The next transaction comes after the event loop has turned once, so that messages, timers and copies have theirs. */
function takeTurnSoon(): void {
  if (turnIsDue) return
  turnIsDue = true
  setImmediate(() => {
    turnIsDue = false
    if (waiting.length > 0) {
      takeTurn()
      takeTurnSoon()
    } else if (closing) void close()
  })
}

async function close(): Promise<void> {
  await file.close()
  port.close() // nothing keeps the thread alive now
}

function takeTurn(): void {
  if (faults && Atomics.load(faults, faultWords.crash) !== 0n) throw new Error('the storage thread was told to crash')
  const first = waiting[0]
  if (first.kind === 'dropStep') {
    waiting.shift()
    dropStep(first)
    return
  }
  const batches = takeBatches()
  const results = commitTogether(batches) ?? batches.map((batch) => commitAlone(batch))
  const errors = results.flatMap((error, index) => (error ? [{ index, error: toErrorMessage(error) }] : []))
  send({ kind: 'committed', batchCount: batches.length, errors })
}

/** The oldest batches that wait: one at least, and more while their bytes fit one transaction. */
function takeBatches(): PackedBatch[] {
  const batches: PackedBatch[] = []
  let byteLength = 0
  for (const job of waiting) {
    if (job.kind !== 'batch') break
    byteLength += job.batch.byteLength
    if (batches.length > 0 && byteLength > transactionByteLengthMax) break
    batches.push(job.batch)
  }
  waiting.splice(0, batches.length)
  return batches
}

/** What became of each batch (null: it is durable), or null when the transaction failed and nothing is written. */
function commitTogether(batches: readonly PackedBatch[]): (FramesError | null)[] | null {
  if (readOnlyBecause !== null) return batches.map(() => readOnly())
  let byteLength = 0
  for (const batch of batches) byteLength += batch.byteLength
  if (batches.length > 1 && !hasRoom(byteLength, false)) return null
  try {
    return transact(batches)
  } catch (error) {
    if (batches.length > 1 && !isFailedSync(error)) return null
    return batches.map(() => writeError(error, byteLength))
  }
}

function commitAlone(batch: PackedBatch): FramesError | null {
  if (readOnlyBecause !== null) return readOnly()
  if (!hasRoom(batch.byteLength, batch.makesRoom)) return diskFull(batch.byteLength)
  return commitTogether([batch])![0]
}

/** One synced transaction. Each batch sees what the ones before it wrote; a conflict leaves out one batch only. */
function transact(batches: readonly PackedBatch[]): (FramesError | null)[] {
  throwInjectedFault()
  return file.database.transactionSync(() => batches.map((batch) => applyBatch(batch)))
}

function applyBatch({ partition, expect, puts, deletes }: PackedBatch): FramesError | null {
  for (const { key, value } of expect) {
    const found = file.get(key)
    const equal = found === null || value === null ? found === value : Buffer.compare(found, value) === 0
    if (!equal) return new FramesError('COMMIT_CONFLICT', `a key of partition "${partition}" is not as expected`)
  }
  for (const { key, value } of puts) void file.database.put(key, copyOfShared(value))
  for (const key of deletes) void file.database.remove(key)
  return null
}

/** The value itself, unless it lies in shared memory: then a copy that is valid until the next one. */
function copyOfShared(value: Uint8Array): Uint8Array {
  if (value.buffer instanceof ArrayBuffer) return value
  if (copies.byteLength < value.byteLength) copies = Buffer.alloc(value.byteLength)
  copies.set(value)
  return copies.subarray(0, value.byteLength)
}

function dropStep({ id, partition }: { id: number; partition: string }): void {
  if (readOnlyBecause !== null) {
    send({ kind: 'failed', id, error: toErrorMessage(readOnly()) })
    return
  }
  try {
    if (!hasRoom(0, true)) throw diskFull(makesRoomByteLength)
    file.releaseSnapshot()
    const start = Buffer.from(`${partition}\0`, 'latin1')
    const end = partitionEnd(partition)
    const found = file.scan({ start, end, reverse: false, limit: dropStepKeyCount, byteLengthMax: 0, keysOnly: true })
    file.releaseSnapshot() // the pages it saw could not be used again by the transaction
    throwInjectedFault()
    file.database.transactionSync(() => {
      for (let i = 0; i < found.length; i += 2) void file.database.remove(found[i])
    })
    send({ kind: 'answer', id, value: found.length < 2 * dropStepKeyCount })
  } catch (error) {
    send({ kind: 'failed', id, error: toErrorMessage(writeError(error, makesRoomByteLength)) })
  }
}

/** Free bytes of the disk, for those who may not use the reserve of a system administrator. */
function freeByteLength(): number {
  const injected = faults ? Atomics.load(faults, faultWords.freeByteLength) : -1n
  if (injected >= 0n) return Number(injected)
  const { bavail, bsize } = statfsSync(options.folder)
  return bavail * bsize
}

/** A transaction writes new pages before the old ones are free, and the tree above them: twice the batch is enough. */
function hasRoom(byteLength: number, makesRoom: boolean): boolean {
  const needed = makesRoom ? byteLength + makesRoomByteLength : 2 * byteLength + options.reserveByteLength
  return freeByteLength() >= needed
}

/** LMDB reports both a full disk and a failed sync as EIO. */
function isFailedSync(error: unknown): boolean {
  return (error as { code?: unknown }).code === 5 && hasRoom(0, false)
}

/** What a failed transaction means for its caller. A failed sync makes the store read-only until the restart. */
function writeError(error: unknown, byteLength: number): FramesError {
  if (error instanceof FramesError) return error
  const { code, message } = error as { code?: unknown; message?: unknown }
  if (isFailedSync(error)) {
    readOnlyBecause = String(message)
    return readOnly()
  }
  // EIO without room, ENOSPC, and LMDB's "map full" and "transaction full".
  if (code === 5 || code === 28 || code === -30792 || code === -30788) return diskFull(byteLength)
  return toStoreError(error, file.path)
}

function readOnly(): FramesError {
  return new FramesError('STORE_READ_ONLY', `${file.path} takes no more writes, because one failed: ${readOnlyBecause}`)
}

function diskFull(byteLength: number): FramesError {
  return new FramesError('DISK_FULL', `no room for ${byteLength} bytes beside the reserve in ${options.folder}`)
}

/** For tests: the next transactions fail as if the disk had refused to sync. */
function throwInjectedFault(): void {
  if (faults === null || Atomics.load(faults, faultWords.failedSyncs) <= 0n) return
  Atomics.sub(faults, faultWords.failedSyncs, 1n)
  throw Object.assign(new Error('Input/output error (injected)'), { code: 5 })
}
