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
  /** Applied after the puts; a key that is not there is no error. */
  readonly deletes?: readonly Uint8Array[]
  /**
   * This batch makes room (it deletes, or lets something be deleted soon), so it may use the disk space that is kept
   * free. A batch without puts may always.
   */
  readonly makesRoom?: boolean
}

/** Keys in [start, end), byte order; a bound that is absent is open. */
export interface ScanRange {
  readonly start?: Uint8Array
  readonly end?: Uint8Array
  readonly reverse?: boolean
  /** Entries returned at most. */
  readonly limit: number
  /** Stops after the entry whose value reaches this many bytes of values; there may be more although fewer than `limit` came. */
  readonly byteLengthMax?: number
  /** Values are left empty and are not read. */
  readonly keysOnly?: boolean
}

/**
 * How a worker thread can read this store by itself; null when values must travel with the job. It changes when the
 * store moves to another file, so take it anew for every job; a reader of another path is closed and opened again.
 */
export type WorkerAccess = { readonly driver: 'lmdb'; readonly path: string } | null

/**
 * A driver. Partition names are 1 to 64 printable ASCII characters, keys up to 1900 bytes; the empty key is one.
 * Every method may fail with a FramesError. A value that is returned may be kept for as long as the caller likes, and
 * is not to be changed.
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
  /** The path it was opened with; a job with another path needs another reader. */
  readonly path: string
  /** Every job begins with this: what it reads is then the newest commit, and stays that until the job's end. */
  beginJob(): void
  /** Every job ends with this, also a failed one: an idle worker that holds a snapshot makes the file grow. */
  endJob(): void
  /**
   * The value of a key, or null. The bytes are valid until the next call: copy them (into the shared memory) at once.
   */
  get(partition: string, key: Uint8Array): Uint8Array | null
  close(): void
}
