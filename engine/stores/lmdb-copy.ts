// A copy of the data file that is made while commits to the file go on, and brought up to date behind them.
import { existsSync, rmSync } from 'node:fs'
import { assert } from '../assert.js'
import { MiB } from '../limits.js'
import { type FileOptions, LmdbFile } from './lmdb-file.js'
import { publishFile } from './lmdb-folder.js'

/** Keys noted at most, in bytes of memory; then commits wait for the copy. Some 200,000 keys, so many GB of segments. */
const notedByteLengthMax = 32 * MiB
/** What a noted key takes beside its own bytes: a string and an entry of the map. */
const notedOverheadByteLength = 100
/** What a step brings over beside what was written since the one before: it ends within some ms. */
const stepByteLength = 1 * MiB
/** Small keys that a step walks over at most. */
const walkKeyCount = 4096
/** The least that a changed key makes LMDB write. */
const pageByteLength = 4096

/*
 * The copy is written by the storage thread in steps between its turns: a walk through all keys, in their order. LMDB's own
 * compacting copy is not used: writes to a file that it has made can end the process (decision 0089).
 *
 * Why the copy equals the file in the end. Of every key one of three things is true at any moment between two turns: the
 * copy has the file's value of it (or both have none), it is noted, or the walk has not come to it.
 *
 *   commit  notes each key before it changes it; one that fails has noted keys that are the same, which does no harm
 *   step    takes keys off the notes or from the walk and gives the copy the values that the file has now; no commit
 *           comes in between
 *
 * So when nothing is noted and the walk has ended, the two are the same. Until then the copy is a mix of moments: it has a
 * name that never counts.
 */
export class FileCopy {
  readonly #source: LmdbFile
  readonly #names: { readonly unfinished: string; readonly finished: string }
  /** The keys to be brought over, in latin1, and the bytes that each makes LMDB write. */
  readonly #noted = new Map<string, number>()
  #notedByteLength = 0
  #byteLengthSinceStep = 0
  /** Where the walk through all keys goes on; null when it has reached the end. */
  #walkFrom: Uint8Array | null = Buffer.of(0)
  #target: LmdbFile | null

  constructor(source: LmdbFile, names: { unfinished: string; finished: string }, options: FileOptions) {
    this.#source = source
    this.#names = names
    this.#target = new LmdbFile(names.unfinished, options)
  }

  /** Where the copy is once it is published. */
  get finishedPath(): string {
    return this.#names.finished
  }

  get isUpToDate(): boolean {
    return this.#walkFrom === null && this.#noted.size === 0
  }

  /** No more is to be written to the file until steps have made room for notes. */
  get isFull(): boolean {
    return this.#notedByteLength >= notedByteLengthMax
  }

  /** What the next step writes at most, or one value if that is larger. */
  get stepByteLengthMax(): number {
    return stepByteLength + this.#byteLengthSinceStep
  }

  /** Says that a key of the file is about to be changed, to a value of so many bytes. */
  note(key: Buffer, valueByteLength: number): void {
    const byteLength = Math.max(pageByteLength, key.byteLength + valueByteLength)
    const text = key.toString('latin1')
    if (!this.#noted.has(text)) this.#notedByteLength += text.length + notedOverheadByteLength
    this.#noted.set(text, byteLength)
    this.#byteLengthSinceStep += byteLength
  }

  /**
   * Brings the oldest notes over in one synced transaction: 1 MiB more than was written since the last step. So however
   * fast commits come, the notes become fewer by that with each step, and a commit waits for no more than a step.
   */
  step(): void {
    assert(this.#target !== null, 'steps follow the copy')
    const target = this.#target
    const byteLengthMax = this.stepByteLengthMax
    this.#byteLengthSinceStep = 0
    // Read first, then written: lmdb-js has one buffer for what it reads, and its writes name places in memory.
    const changes: { key: Buffer; value: Uint8Array | null }[] = []
    let byteLength = 0
    this.#source.releaseSnapshot() // what is read is what the newest commit left
    for (const [text, keyByteLength] of this.#noted) {
      if (byteLength > 0 && byteLength + keyByteLength > byteLengthMax) break
      byteLength += keyByteLength
      this.#noted.delete(text)
      this.#notedByteLength -= text.length + notedOverheadByteLength
      const key = Buffer.from(text, 'latin1')
      changes.push({ key, value: this.#source.get(key)?.slice() ?? null })
    }
    if (byteLength < byteLengthMax && this.#walkFrom !== null) changes.push(...this.#walk(byteLengthMax - byteLength))
    this.#source.releaseSnapshot()
    target.database.transactionSync(() => {
      for (const { key, value } of changes) {
        if (value === null) void target.database.remove(key)
        else void target.database.put(key, value)
      }
    })
  }

  /** The next keys of the walk and their values. */
  #walk(byteLengthMax: number): { key: Buffer; value: Uint8Array }[] {
    const range = { start: this.#walkFrom!, end: Buffer.of(0xff), reverse: false, keysOnly: false }
    const found = this.#source.scan({ ...range, limit: walkKeyCount, byteLengthMax })
    const entries: { key: Buffer; value: Uint8Array }[] = []
    for (let i = 0; i < found.length; i += 2) entries.push({ key: Buffer.from(found[i]), value: found[i + 1] })
    const last = entries.at(-1)
    this.#walkFrom = last === undefined ? null : Buffer.concat([last.key, Buffer.of(0)])
    return entries
  }

  /** Gives the copy its name, under which it counts from then on. Nothing may be written to the file any more. */
  async publish(): Promise<string> {
    assert(this.#target !== null && this.isUpToDate, 'what is published is the same as the file')
    const target = this.#target
    this.#target = null
    await target.close() // each of its transactions is synced
    publishFile(this.#names)
    return this.#names.finished
  }

  /** Removes a copy that was not published. */
  async discard(): Promise<void> {
    const target = this.#target
    this.#target = null
    try {
      await target?.close()
    } finally {
      const { unfinished } = this.#names
      for (const path of [unfinished, `${unfinished}-lock`]) if (existsSync(path)) rmSync(path)
    }
  }
}
