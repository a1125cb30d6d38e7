// The storage thread: the only writer of the LMDB file. It puts all batches that wait into one synced transaction, and
// reads for the main thread, which never touches the file system.
import { spawnSync } from 'node:child_process'
import { statfsSync, statSync, truncateSync } from 'node:fs'
import { basename } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import { assert } from '../assert.js'
import { FramesError, toErrorMessage } from '../errors.js'
import { MiB } from '../limits.js'
import { FileCopy } from './lmdb-copy.js'
import { faultWords } from './lmdb-faults.js'
import { inspectFile, isGivenUp, LmdbFile, toStoreError } from './lmdb-file.js'
import { currentFile, nextFile, publishFile, removeOldFiles, withdrawFile } from './lmdb-folder.js'
import {
  type FileSpace,
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
/** What such a step writes at most: the pages of its keys and of the tree above them. */
const dropStepByteLength = 2 * dropStepKeyCount * 4096
/** Room that even what makes room must leave: it writes its own pages before others are free. */
const makesRoomByteLength = 1 * MiB
/** After a move, jobs that were told of the old file can still open it for so long. */
const oldFileLifeMs = 10_000
/** Snapshots of processes that were killed are given up this often. */
const readerCheckIntervalMs = 60_000

type Job =
  | { readonly kind: 'batch'; readonly batch: PackedBatch }
  | { readonly kind: 'dropStep'; readonly id: number; readonly partition: string }
  | { readonly kind: 'compactFile'; readonly id: number }

assert(parentPort !== null, 'the storage thread is a worker thread')
const port: MessagePort = parentPort
const options = workerData as ThreadOptions
const faults = options.faults && new BigInt64Array(options.faults)

const waiting: Job[] = []
/** Set once a sync has failed: what the disk holds is then unknown, and trying again could report success wrongly. */
let readOnlyBecause: string | null = null
/** When the file that was left by a move is removed. */
let oldFilesTimer: NodeJS.Timeout | undefined
/** The copy of the file that is under way, and the calls that wait for it. */
let copy: { readonly file: FileCopy; readonly byteLength: number; readonly ids: readonly number[] } | null = null
/** Calls for a copy that came while one was under way: the next is for all of them, since that one misses what they freed. */
let nextCopyIds: number[] = []
let turnIsDue = false
let closing = false
let closed = false
/** Values in shared memory are copied here before LMDB copies them again: it misreads a SharedArrayBuffer. */
let copies: Buffer = Buffer.alloc(transactionByteLengthMax)

let file: LmdbFile
try {
  const path = currentFile(options.folder)
  if (path !== null) checkFile(path)
  file = new LmdbFile(path ?? (await createFile()), options)
  removeOldFiles(options.folder)
  cutUnusedTail()
  send({ kind: 'opened', path: file.path })
  port.on('message', receive)
  setInterval(() => file.database.readerCheck(), readerCheckIntervalMs).unref()
} catch (error) {
  send({ kind: 'openFailed', error: toErrorMessage(toStoreError(error, options.folder)) })
}

/**
 * LMDB's pages have no checksums, and a damaged one can end the process that reads it. After an unclean stop another
 * process reads all of them first. Throws DATA_DAMAGED when that one found something or did not survive.
 */
function checkFile(path: string): void {
  const { endsEarly } = inspectFile(path)
  if (!options.checkFirst && !endsEarly) return
  const script = fileURLToPath(new URL('./lmdb-check.js', import.meta.url))
  const { status, signal, stderr } = spawnSync(process.execPath, [script, path, endsEarly ? 'values' : 'keys'])
  if (status === 0) return
  const what = signal === null ? stderr.toString().trim() : `reading it ended with ${signal}`
  throw new FramesError('DATA_DAMAGED', `${path} is damaged: ${what}`)
}

/** An empty file; it gets its name when it is complete, so no crash leaves half of one. */
async function createFile(): Promise<string> {
  const next = nextFile(options.folder)
  await new LmdbFile(next.unfinished, options).close()
  publishFile(next)
  return next.finished
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
    case 'compactFile':
      waiting.push(message)
      break
    case 'close':
      closing = true
      break
    default:
      answer(message)
  }
}

function answer(message: Exclude<ToThread, { kind: 'commit' | 'dropStep' | 'compactFile' | 'close' }>): void {
  const { id } = message
  file.releaseSnapshot()
  try {
    if (message.kind === 'partitions') {
      send({ kind: 'answer', id, value: partitions(message.prefix) })
      return
    }
    if (message.kind === 'space') {
      send({ kind: 'answer', id, value: fileSpace() })
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
  setImmediate(async () => {
    if (canTakeTurn()) takeTurn()
    // Only a move to another file and the end take longer than the call itself.
    if (copy !== null) await catchUp()
    if (closing && waiting.length === 0 && copy === null) await close()
    turnIsDue = false
    if (canTakeTurn() || copy !== null || (closing && !closed)) takeTurnSoon()
  })
}

function canTakeTurn(): boolean {
  return waiting.length > 0 && !mustWaitForCopy(waiting[0])
}

/** Whether a job cannot be done beside the copy: its keys could not be noted, or the copy takes the room that it needs. */
function mustWaitForCopy(job: Job): boolean {
  if (copy === null || job.kind === 'compactFile') return false
  if (copy.file.isFull) return true
  return job.kind === 'batch' ? !hasRoom(job.batch.byteLength, job.batch.makesRoom) : !hasRoom(dropStepByteLength, true)
}

async function close(): Promise<void> {
  closed = true
  await file.close()
  removeOldFiles(options.folder)
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
  if (first.kind === 'compactFile') {
    waiting.shift()
    compactFile(first.id)
    return
  }
  const batches = takeBatches()
  const results = (batches.length > 1 && commitTogether(batches)) || batches.map((batch) => commitAlone(batch))
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
    if (batches.length > 0 && (byteLength > transactionByteLengthMax || mustWaitForCopy(job))) break
    batches.push(job.batch)
  }
  waiting.splice(0, batches.length)
  return batches
}

/** What became of each batch (null: it is durable); or null: nothing is written, and each is to be tried alone. */
function commitTogether(batches: readonly PackedBatch[]): (FramesError | null)[] | null {
  let byteLength = 0
  for (const batch of batches) byteLength += batch.byteLength
  if (readOnlyBecause !== null || !hasRoom(byteLength, false)) return null
  try {
    return transact(batches)
  } catch (error) {
    if (isFailedSync(error)) becomeReadOnly(error)
    return null
  }
}

function commitAlone(batch: PackedBatch): FramesError | null {
  if (readOnlyBecause !== null) return readOnly()
  if (!hasRoom(batch.byteLength, batch.makesRoom)) return diskFull(batch.byteLength)
  try {
    return transact([batch])[0]
  } catch (error) {
    return writeError(error, batch.byteLength)
  }
}

/** One synced transaction. Each batch sees what the ones before it wrote; a conflict leaves out one batch only. */
function transact(batches: readonly PackedBatch[]): (FramesError | null)[] {
  throwInjectedFault()
  if (copy !== null) for (const batch of batches) noteChanges(copy.file, batch)
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

function noteChanges(copy: FileCopy, { puts, deletes }: PackedBatch): void {
  for (const { key, value } of puts) copy.note(key, value.byteLength)
  for (const key of deletes) copy.note(key, 0)
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
    if (!hasRoom(dropStepByteLength, true)) throw diskFull(dropStepByteLength)
    file.releaseSnapshot()
    const start = Buffer.from(`${partition}\0`, 'latin1')
    const end = partitionEnd(partition)
    const found = file.scan({ start, end, reverse: false, limit: dropStepKeyCount, byteLengthMax: 0, keysOnly: true })
    file.releaseSnapshot() // the pages it saw could not be used again by the transaction
    throwInjectedFault()
    for (let i = 0; i < found.length; i += 2) copy?.file.note(Buffer.from(found[i]), 0)
    file.database.transactionSync(() => {
      for (let i = 0; i < found.length; i += 2) void file.database.remove(found[i])
    })
    send({ kind: 'answer', id, value: found.length < 2 * dropStepKeyCount })
  } catch (error) {
    send({ kind: 'failed', id, error: toErrorMessage(writeError(error, dropStepByteLength)) })
  }
}

/** Begins to copy what is in use into a new file, or has the call wait for the next copy. */
function compactFile(id: number): void {
  nextCopyIds.push(id)
  if (copy === null) beginCopy()
}

function beginCopy(): void {
  const ids = nextCopyIds
  nextCopyIds = []
  try {
    if (readOnlyBecause !== null) throw readOnly()
    const { usedByteLength } = fileSpace()
    if (freeByteLength() < usedByteLength + makesRoomByteLength) throw diskFull(usedByteLength)
    clearTimeout(oldFilesTimer) // or it would take the unfinished file for an old one
    removeOldFiles(options.folder)
    copy = { file: new FileCopy(file, nextFile(options.folder), options), byteLength: usedByteLength, ids }
  } catch (error) {
    answerCopy(ids, writeError(error, 0))
  }
}

/**
 * A step of the copy, between two turns; behind the last one the store moves to the new file. No commit is carried out
 * from that step until the new file is open under a name that is durable, so a crash before finds the old file, one
 * afterwards the new one, and each holds all that was acknowledged until then.
 */
async function catchUp(): Promise<void> {
  const { file: made, ids } = copy!
  const old = file
  try {
    if (readOnlyBecause !== null) throw readOnly() // nobody knows what of the last transaction is durable
    // Free pages of the old file are no room for the new one, so the disk alone is asked.
    if (freeByteLength() < made.stepByteLengthMax + makesRoomByteLength) throw diskFull(made.stepByteLengthMax)
    if (!made.isUpToDate) made.step()
    if (!made.isUpToDate || (faults && Atomics.load(faults, faultWords.copiesHeld) !== 0n)) return
    file = await moveTo(made)
  } catch (error) {
    await giveUpCopy(error)
    return
  }
  copy = null
  oldFilesTimer = setTimeout(() => removeOldFiles(options.folder), oldFileLifeMs).unref()
  send({ kind: 'moved', path: file.path })
  try {
    await old.close()
    answerCopy(ids, null)
  } catch (error) {
    answerCopy(ids, toStoreError(error, old.path))
  }
}

/** Publishes the copy and opens it. When that fails, it must go: the next start would take it and miss what comes after. */
async function moveTo(made: FileCopy): Promise<LmdbFile> {
  try {
    return new LmdbFile(await made.publish(), options)
  } catch (error) {
    try {
      withdrawFile(made.finishedPath)
    } catch (cannotWithdraw) {
      becomeReadOnly(cannotWithdraw)
    }
    throw error
  }
}

/** The old file stays the one that counts, whatever has happened to the copy. */
async function giveUpCopy(error: unknown): Promise<void> {
  const { file: unfinished, byteLength, ids } = copy!
  const isFull = !(error instanceof FramesError) && freeByteLength() < options.reserveByteLength
  const failure = isFull ? diskFull(byteLength) : toStoreError(error, file.path)
  try {
    await unfinished.discard()
  } catch (cannotDiscard) {
    // Its name never counts, and the next start or copy removes it: the first error is the one to tell.
    failure.cause ??= cannotDiscard
  }
  copy = null
  answerCopy(ids, failure)
}

function answerCopy(ids: readonly number[], failure: FramesError | null): void {
  for (const id of ids) {
    if (failure === null) send({ kind: 'answer', id, value: null })
    else send({ kind: 'failed', id, error: toErrorMessage(failure) })
  }
  if (nextCopyIds.length > 0) beginCopy()
}

/** Free bytes of the disk, for those who may not use the reserve of a system administrator. */
function freeByteLength(): number {
  const injected = faults ? Atomics.load(faults, faultWords.freeByteLength) : -1n
  if (injected >= 0n) return Number(injected)
  const { bavail, bsize } = statfsSync(options.folder)
  return bavail * bsize
}

/** What a failed transaction has written behind the last page would keep a full disk full. */
function cutUnusedTail(): void {
  const { endByteOffset } = file.pageCounts()
  if (statSync(file.path).size > endByteOffset) truncateSync(file.path, endByteOffset)
}

function fileSpace(): FileSpace {
  return { fileByteLength: statSync(file.path).size, usedByteLength: file.pageCounts().usedByteLength }
}

/**
 * Whether a transaction of so many bytes leaves the reserve free. It writes new pages before the old ones are free, and
 * the tree above them: twice the bytes is enough.
 *
 * Pages of the file that deletes have freed count as room, or a full disk would stay full whatever is deleted. Half of
 * them: a large value needs its pages side by side. Should it not find them, the file grows, so that must fit, too.
 */
function hasRoom(byteLength: number, makesRoom: boolean): boolean {
  if (byteLength === 0) return true
  const needed = makesRoom ? byteLength + makesRoomByteLength : 2 * byteLength + options.reserveByteLength
  const free = freeByteLength()
  if (free >= needed) return true
  if (free < 2 * byteLength && !makesRoom) return false
  const { fileByteLength, usedByteLength } = fileSpace()
  return free + (fileByteLength - usedByteLength) / 2 >= needed
}

/** LMDB reports both a full disk and a failed sync as EIO. */
function isFailedSync(error: unknown): boolean {
  return (error as { code?: unknown }).code === 5 && freeByteLength() >= options.reserveByteLength
}

/**
 * What a failed transaction means for its caller. A failed sync makes the store read-only until the restart, and so does
 * a file that LMDB has given up.
 */
function writeError(error: unknown, byteLength: number): FramesError {
  if (error instanceof FramesError) return error
  if (isFailedSync(error) || isGivenUp(error)) {
    becomeReadOnly(error)
    return readOnly()
  }
  const { code } = error as { code?: unknown }
  // EIO without room, ENOSPC, and LMDB's "map full" and "transaction full".
  if (code === 5 || code === 28 || code === -30792 || code === -30788) {
    try {
      cutUnusedTail()
    } catch (cannotRead) {
      becomeReadOnly(cannotRead) // the write that failed was the one that ends the transaction
      return readOnly()
    }
    return diskFull(byteLength)
  }
  return toStoreError(error, file.path)
}

function becomeReadOnly(error: unknown): void {
  readOnlyBecause = String((error as { message?: unknown }).message)
}

function readOnly(): FramesError {
  return new FramesError(
    'STORE_READ_ONLY',
    `${basename(file.path)} takes no more writes, because one failed: ${readOnlyBecause}`,
  )
}

function diskFull(byteLength: number): FramesError {
  const disk = `${freeByteLength()} are free in the data folder, and ${options.reserveByteLength} are kept for deletes`
  return new FramesError('DISK_FULL', `no room for ${byteLength} bytes: ${disk}`)
}

/** For tests: the next transactions fail as if the disk had refused to sync, or as if LMDB had given the file up. */
function throwInjectedFault(): void {
  if (faults === null) return
  if (Atomics.load(faults, faultWords.givenUp) !== 0n)
    throw Object.assign(new Error('Invalid argument: MDB_PANIC (injected)'), { code: 22 })
  if (Atomics.load(faults, faultWords.failedSyncs) <= 0n) return
  Atomics.sub(faults, faultWords.failedSyncs, 1n)
  throw Object.assign(new Error('Input/output error (injected)'), { code: 5 })
}
