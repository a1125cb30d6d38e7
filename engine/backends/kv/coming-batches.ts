// Batches of writes whose commits are on their way to the disk: what later batches are settled against meanwhile.
//
//   settle 1 ──► commit 1 ─────────► answer 1
//             settle 2, on top of 1 ──► commit 2 ─────► answer 2
//
// Nobody is answered before what the answer rests on is durable. A commit that fails takes along those settled on top of it.
import { assert } from '../../assert.js'
import type { BlockSource } from '../../blocks/reader.js'

export class ComingBatch {
  /** Set when its commit has failed, or one that it rests on. */
  failure: { readonly error: unknown } | null = null
  /** Resolves when it is durable and answered, or has failed. Never rejects. */
  ended: Promise<void> = Promise.resolve()
  #userCount = 1
  readonly #giveBack: () => void

  /**
   * sources   its rows, as jobs are told of them
   * giveBack  called when nobody reads their memory any more: neither the commit nor a job
   */
  constructor(
    readonly sources: readonly BlockSource[],
    readonly writeCount: number,
    giveBack: () => void,
  ) {
    this.#giveBack = giveBack
  }

  hold(): void {
    assert(this.#userCount > 0, 'what is held is there')
    this.#userCount++
  }

  release(): void {
    this.#userCount--
    if (this.#userCount === 0) this.#giveBack()
  }

  /** Throws what its commit has failed with. */
  assertStored(): void {
    if (this.failure !== null) throw this.failure.error
  }
}

export class ComingBatches {
  /** Oldest first. */
  readonly #batches: ComingBatch[] = []

  get count(): number {
    return this.#batches.length
  }

  /** Writes in them. */
  get writeCount(): number {
    return this.#batches.reduce((sum, { writeCount }) => sum + writeCount, 0)
  }

  /** commit: resolves when the batch is answered; never rejects. */
  add(batch: ComingBatch, commit: Promise<void>): void {
    this.#batches.push(batch)
    batch.ended = commit.then(() => {
      this.#batches.splice(this.#batches.indexOf(batch), 1)
      batch.release()
    })
  }

  /** Those whose blocks no snapshot names yet, held for a job. */
  hold(isComing: (blockId: bigint) => boolean): ComingBatch[] {
    const held = this.#batches.filter(({ sources }) => sources.some(({ id }) => isComing(id)))
    for (const batch of held) batch.hold()
    return held
  }

  someEnded(): Promise<void> {
    return Promise.race(this.#batches.map(({ ended }) => ended))
  }

  async allEnded(): Promise<void> {
    while (this.#batches.length > 0) await this.#batches[this.#batches.length - 1]!.ended
  }
}
