// What framesd needs of a database: partitions of ordered binary keys, atomic batches with preconditions. That is all.

/** One stored pair. */
export interface Entry {
  readonly key: Uint8Array
  readonly value: Uint8Array
}

/**
 * Changes to one partition that happen together or not at all.
 *
 * Values may be views of the engine's shared memory; they must not change before the commit settles.
 */
export interface Batch {
  readonly partition: string
  /** Every key must have exactly this value (null: be absent), or nothing happens and the commit fails with COMMIT_CONFLICT. */
  readonly expect?: readonly { readonly key: Uint8Array; readonly value: Uint8Array | null }[]
  readonly puts: readonly Entry[]
  readonly deletes?: readonly Uint8Array[]
}

/** Keys in [start, end), byte order; a bound that is absent is open. */
export interface ScanRange {
  readonly start?: Uint8Array
  readonly end?: Uint8Array
  readonly reverse?: boolean
  /** Entries returned at most. */
  readonly limit: number
}

/** How a worker thread can read this store by itself; null when values must travel with the job. */
export type WorkerAccess = { readonly driver: 'lmdb'; readonly path: string } | null

/**
 * A driver. Partition names are short ASCII text without NUL. Every method may fail with a FramesError; a value that is
 * returned belongs to the caller.
 */
export interface Store {
  readonly workerAccess: WorkerAccess

  /** One value a key, null where there is none. All of them from one moment. */
  read(partition: string, keys: readonly Uint8Array[]): Promise<(Uint8Array | null)[]>

  /** The first `limit` entries of a range, in key order (reverse: from its end). */
  scan(partition: string, range: ScanRange): Promise<Entry[]>

  /**
   * Resolves when the batch is durable. Batches are carried out in the order of the calls, whatever partition they are
   * for, and the preconditions of each see all earlier ones.
   */
  commit(batch: Batch): Promise<void>

  /** Names of the partitions that begin with a prefix and hold at least one key, in order. */
  partitions(prefix: string): Promise<string[]>

  /** Removes every key of a partition, in steps that let other writers through. */
  dropPartition(partition: string): Promise<void>

  /** Waits for commits under way, then releases the store. */
  close(): Promise<void>
}

/** Read access inside a worker thread; synchronous, because a worker has nothing else to do. */
export interface WorkerReader {
  /** Every job begins with this: without it a cached transaction would miss newer commits. */
  beginJob(): void
  /**
   * The value of a key, or null. The bytes are valid until the next call: copy them (into the shared memory) at once.
   */
  get(partition: string, key: Uint8Array): Uint8Array | null
  close(): void
}
