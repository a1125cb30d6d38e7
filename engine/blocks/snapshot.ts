// What a reader sees: the live blocks of one moment. Nothing it names is erased or freed before it is released.
import { assert } from '../assert.js'
import type { LiveBlock } from './live-block.js'

export class Snapshot {
  #readerCount = 0
  /** Runs when this snapshot and all older ones have no reader: gives back what the next snapshot no longer names. */
  readonly #retired: (() => void)[] = []
  #next: Snapshot | null = null
  #isOldest = false
  /** Null when nobody can ask any more: while a reader holds an older one, thousands of lists would stay. */
  #blocks: readonly LiveBlock[] | null

  private constructor(
    readonly version: number,
    blocks: readonly LiveBlock[],
  ) {
    this.#blocks = blocks
  }

  /** Oldest commit first. Only of the current snapshot, and of those that are held. */
  get blocks(): readonly LiveBlock[] {
    assert(this.#blocks !== null, 'a snapshot is held by whoever asks for its blocks')
    return this.#blocks
  }

  static first(version: number, blocks: readonly LiveBlock[]): Snapshot {
    const snapshot = new Snapshot(version, blocks)
    snapshot.#isOldest = true
    return snapshot
  }

  /** The snapshot after this one; `retire` gives back what it dropped, once nobody can see it. */
  successor(version: number, blocks: readonly LiveBlock[], retire: (() => void) | null): Snapshot {
    assert(this.#next === null, 'a snapshot has one successor')
    const next = new Snapshot(version, blocks)
    this.#next = next
    if (retire !== null) this.#retired.push(retire)
    this.#settle()
    return next
  }

  acquire(): this {
    this.#readerCount++
    return this
  }

  release(): void {
    assert(this.#readerCount > 0, 'a snapshot is released as often as it was acquired')
    this.#readerCount--
    this.#settle()
  }

  /** Retires this snapshot, and those after it, as long as each is the oldest, unread and no longer current. */
  #settle(): void {
    if (this.#readerCount === 0 && this.#next !== null) this.#blocks = null
    let snapshot: Snapshot = this
    while (snapshot.#isOldest && snapshot.#readerCount === 0 && snapshot.#next !== null) {
      for (const retire of snapshot.#retired) retire()
      snapshot = snapshot.#next
      snapshot.#isOldest = true
    }
  }
}
