// Faults of a disk, on demand: tests share these words with the storage thread.

/** Indexes into the words, each an int64. */
export const faultWords = {
  /** Free bytes that the disk is said to have; -1: ask it. */
  freeByteLength: 0,
  /** How many of the next transactions fail as if a sync had. */
  failedSyncs: 1,
  /** Not 0: the storage thread throws before its next transaction. */
  crash: 2,
  /** Not 0: transactions fail as if LMDB had given the file up. */
  givenUp: 3,
  /** Not 0: a copy of the file that is up to date does not yet take its place. */
  copiesHeld: 4,
} as const

export class LmdbFaults {
  readonly shared = new SharedArrayBuffer(40)
  readonly #words = new BigInt64Array(this.shared)

  constructor() {
    this.setFreeByteLength(null)
  }

  /** Says how much room the disk has; null: what it really has. */
  setFreeByteLength(byteLength: number | null): void {
    Atomics.store(this.#words, faultWords.freeByteLength, byteLength === null ? -1n : BigInt(byteLength))
  }

  failSyncs(transactionCount: number): void {
    Atomics.store(this.#words, faultWords.failedSyncs, BigInt(transactionCount))
  }

  giveUp(): void {
    Atomics.store(this.#words, faultWords.givenUp, 1n)
  }

  /** Commits that come while copies are held come during the copy. */
  holdCopies(held: boolean): void {
    Atomics.store(this.#words, faultWords.copiesHeld, held ? 1n : 0n)
  }

  crashThread(): void {
    Atomics.store(this.#words, faultWords.crash, 1n)
  }
}
