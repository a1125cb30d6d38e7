// Folds the kills of many commits into the bitmaps of their blocks.
import { KiB } from '../limits.js'
import type { Entry } from '../stores/store.js'
import type { DeadRows } from './dead-rows.js'
import { copyDead, deadBytes } from './dead-rows.js'
import { deadEntries } from './entries.js'
import type { Eraser } from './eraser.js'
import { deadKeys, killsKeys } from './keys.js'
import type { LiveSet } from './live-set.js'
import { commitByteLengthMax } from './staging.js'
import type { TableContext } from './table-context.js'

/**
 * Kills are folded when they are as long as the bitmaps that take their place, and when there are so many that opening the
 * table would take long.
 */
const foldByteLengthMin = 64 * KiB
const foldCommitCountMax = 2048

export class Folding {
  readonly #context: TableContext
  readonly #live: LiveSet
  readonly #eraser: Eraser
  /** The fold under way; it never rejects. */
  #folding: Promise<void> | null = null

  constructor(context: TableContext, live: LiveSet, eraser: Eraser) {
    this.#context = context
    this.#live = live
    this.#eraser = eraser
  }

  /** Resolves when no fold is under way. */
  async idle(): Promise<void> {
    while (this.#folding !== null) await this.#folding
  }

  /** Begins a fold if one is due. */
  foldSoon(): void {
    const { unfolded, snapshot } = this.#live
    if (this.#folding !== null || this.#live.isEnding || unfolded.commits.length === 0) return
    if (unfolded.commits.length < foldCommitCountMax) {
      if (unfolded.byteLength < foldByteLengthMin) return
      let bitmapByteLength = 0
      for (const { id, dead } of snapshot.blocks)
        if (dead !== null && unfolded.blockIds.has(id))
          bitmapByteLength += storedDeadByteLength(dead, this.#context.bytes)
      if (unfolded.byteLength < bitmapByteLength) return
    }
    this.#folding = this.#live
      .alone(() => this.#fold())
      .catch((error: unknown) => {
        // Nothing is lost: the kills stay as they are.
        if (!this.#live.isDropped)
          this.#context.report(`folding dead rows of table '${this.#context.name}' failed`, error)
      })
      .finally(() => {
        this.#folding = null
      })
  }

  /** Writes whole bitmaps instead of the kills of all commits up to now. */
  async #fold(): Promise<void> {
    const { unfolded } = this.#live
    const snapshot = this.#live.snapshot.acquire()
    try {
      const blocks = snapshot.blocks.filter(({ id, dead }) => dead !== null && unfolded.blockIds.has(id))
      const folded = unfolded.commits.filter((commit) => commit <= snapshot.version)
      const byteLength = unfolded.byteLength
      // The kills go last, with the last bitmaps. Bitmaps only gain bits, so those of earlier commits do no harm.
      for (let from = 0; from === 0 || from < blocks.length; ) {
        let to = from
        const puts: Entry[] = []
        for (let length = 0; to < blocks.length && length < commitByteLengthMax; to++) {
          const { id, dead, rowCount } = blocks[to]!
          const entries = deadEntries(id, copyDead(this.#context.bytes, dead, rowCount), dead!.count)
          for (const { value } of entries) length += value.length
          puts.push(...entries)
        }
        const deletes = to < blocks.length ? [] : folded.flatMap((commit) => killsKeys(BigInt(commit)))
        await this.#live.commit(() => ({ puts, deletes, makesRoom: true, added: [], removed: new Set() }), [])
        from = Math.max(to, 1)
      }
      unfolded.commits = unfolded.commits.slice(folded.length)
      unfolded.byteLength = Math.max(0, unfolded.byteLength - byteLength)
      const now = new Map(this.#live.snapshot.blocks.map((block) => [block.id, block.dead]))
      for (const { id, dead } of blocks) {
        if (now.get(id) === dead) unfolded.blockIds.delete(id)
        // Dropped by a commit that was on its way.
        else if (!now.has(id)) this.#eraser.eraseSoon(deadKeys(id))
      }
    } finally {
      snapshot.release()
    }
  }
}

/** About what the two stored copies of a bitmap take. */
function storedDeadByteLength(dead: DeadRows, memory: Uint8Array): number {
  return 2 * Math.min(deadBytes(memory, dead).length, 2 * dead.count)
}
