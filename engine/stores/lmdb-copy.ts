// A copy of the data file that is made while commits to the file go on, and brought up to date behind them.
import { existsSync, rmSync } from 'node:fs'
import { open } from 'node:fs/promises'
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
/** The least that a changed key makes LMDB write. */
const pageByteLength = 4096

/*
 * Why the copy equals the file in the end. Of every key one of two things is true at any moment between two turns of the
 * storage thread: the copy has the file's value of it (or both have none), or it is noted.
 *
 *   begin   noting begins before the copy takes its snapshot: what changed since the snapshot is noted
 *   commit  notes each key before it changes it; one that fails has noted keys that are the same, which does no harm
 *   step    takes keys off the notes and gives the copy the values that the file has now; no commit comes in between
 *
 * So when nothing is noted, the two are the same. Until then the copy is a mix of moments: it has a name that never counts.
 */
export class FileCopy {
  readonly #source: LmdbFile
  readonly #names: { readonly unfinished: string; readonly finished: string }
  readonly #options: FileOptions
  /** The keys to be brought over, in latin1, and the bytes that each makes LMDB write. */
  readonly #noted = new Map<string, number>()
  #notedByteLength = 0
  #byteLengthSinceStep = 0
  #target: LmdbFile | null = null

  constructor(source: LmdbFile, names: { unfinished: string; finished: string }, options: FileOptions) {
    this.#source = source
    this.#names = names
    this.#options = options
  }

  /** Copies what is in use, in threads of LMDB's own, and syncs it, so that the syncs of steps are short. */
  async make(): Promise<void> {
    const { unfinished } = this.#names
    await this.#source.database.backup(unfinished, true)
    const handle = await open(unfinished, 'r')
    try {
      await handle.sync()
    } finally {
      await handle.close()
    }
  }

  /** Opens the copy that was made, so that steps can be done. */
  open(): void {
    this.#target = new LmdbFile(this.#names.unfinished, this.#options)
    this.#byteLengthSinceStep = 0
  }

  /** Where the copy is once it is published. */
  get finishedPath(): string {
    return this.#names.finished
  }

  get isOpen(): boolean {
    return this.#target !== null
  }

  get isUpToDate(): boolean {
    return this.#target !== null && this.#noted.size === 0
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
    this.#source.releaseSnapshot() // what is read is what the newest commit left
    try {
      target.database.transactionSync(() => {
        let byteLength = 0
        for (const [text, keyByteLength] of this.#noted) {
          if (byteLength > 0 && byteLength + keyByteLength > byteLengthMax) break
          byteLength += keyByteLength
          this.#noted.delete(text)
          this.#notedByteLength -= text.length + notedOverheadByteLength
          const key = Buffer.from(text, 'latin1')
          const value = this.#source.get(key)
          if (value === null) void target.database.remove(key)
          else void target.database.put(key, value)
        }
      })
    } finally {
      this.#source.releaseSnapshot()
    }
  }

  /** Gives the copy its name, under which it counts from then on. Nothing may be written to the file any more. */
  async publish(): Promise<string> {
    assert(this.#target !== null && this.#noted.size === 0, 'what is published is the same as the file')
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
