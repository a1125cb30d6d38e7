// One LMDB file as a thread sees it: reads from snapshots that are taken and given back by hand.
import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import { basename } from 'node:path'
import * as lmdb from 'lmdb'
import { FramesError } from '../errors.js'

/** What lmdb-js exports and its types do not say: a read transaction's address, and the call that releases its snapshot. */
interface ReadTransaction {
  readonly address: number
  done(): void
}
const { nativeAddon } = lmdb as unknown as { nativeAddon: { resetTxn(address: number): void } }

export interface FileOptions {
  /** Address space reserved for the file; it grows beyond in steps, but never moves while it fits. */
  readonly mapByteLength?: number
  readonly readOnly?: boolean
}

/** 1 TiB: address space only, of which a process has 128 TiB. */
const mapByteLengthDefault = 2 ** 40

export interface FileRange {
  readonly start: Uint8Array
  readonly end: Uint8Array
  readonly reverse: boolean
  readonly limit: number
  readonly byteLengthMax: number
  readonly keysOnly: boolean
}

export class LmdbFile {
  readonly path: string
  /** For writing; null in a reader. */
  readonly database: lmdb.RootDatabase<Uint8Array, Uint8Array>
  readonly #transaction: ReadTransaction

  /**
   * Opens the file, making it unless readOnly.
   *
   * overlappingSync is off because with it a full disk left commits pending for ever; a transaction is then synced by
   * its commit. The map is not written through (useWritemap), so no stray pointer can damage it.
   */
  constructor(path: string, { mapByteLength = mapByteLengthDefault, readOnly = false }: FileOptions = {}) {
    this.path = path
    this.database = lmdb.open<Uint8Array, Uint8Array>(path, {
      encoding: 'binary',
      keyEncoding: 'binary',
      noSubdir: true,
      overlappingSync: false,
      pageSize: 4096,
      mapSize: mapByteLength,
      maxDbs: 1,
      readOnly,
    })
    // One read transaction for the whole life, reset and renewed by hand. lmdb-js renews its own ones with a timer each
    // time, which never fires in a pool worker that waits with Atomics: those timers would pile up, and the snapshot
    // would stay.
    this.#transaction = this.database.useReadTransaction() as unknown as ReadTransaction
    this.releaseSnapshot()
  }

  /** The next read takes a new snapshot, and all reads until the next release see it. */
  releaseSnapshot(): void {
    nativeAddon.resetTxn(this.#transaction.address)
  }

  /** The value of a key in the snapshot (inside a write transaction: as that leaves it). Valid until the next read. */
  get(key: Uint8Array): Uint8Array | null {
    const options = { transaction: this.#transaction }
    // The declared type lacks the options.
    const get: (key: Uint8Array, options: object) => Buffer | undefined = this.database.getBinaryFast
    const value = get.call(this.database, key, options)
    // What comes back is lmdb-js's own large buffer, whose `length` property it has set; its view does not know that.
    return value === undefined ? null : new Uint8Array(value.buffer, value.byteOffset, value.length)
  }

  /** Keys and values of a range, one after the other, as copies. */
  scan({ start, end, reverse, limit, byteLengthMax, keysOnly }: FileRange): Uint8Array[] {
    const found: Uint8Array[] = []
    const options = {
      ...(reverse
        ? { start: end, exclusiveStart: true, end: start, inclusiveEnd: true, reverse: true }
        : { start, end }),
      limit,
      transaction: this.#transaction as unknown as lmdb.Transaction,
    }
    if (keysOnly) {
      for (const key of this.database.getKeys(options)) found.push(key, new Uint8Array())
      return found
    }
    let byteLength = 0
    for (const { key, value } of this.database.getRange(options)) {
      found.push(key, value)
      byteLength += value.byteLength
      if (byteLength >= byteLengthMax) break
    }
    return found
  }

  /** What the newest transaction left, from the counts that LMDB keeps: nothing is searched for. */
  pageCounts(): { usedByteLength: number; endByteOffset: number } {
    const stats = this.database.getStats() as { lastPageNumber: number; root: TreeStats; free: TreeStats }
    // It takes a read transaction of lmdb-js itself, which a timer would release.
    this.database.resetReadTxn()
    this.releaseSnapshot()
    let pageCount = 2 // the two that say where the trees are
    for (const tree of [stats.root, stats.free]) {
      pageCount += tree.treeBranchPageCount + tree.treeLeafPageCount + tree.overflowPages
    }
    return { usedByteLength: pageCount * pageByteLength, endByteOffset: (stats.lastPageNumber + 1) * pageByteLength }
  }

  async close(): Promise<void> {
    this.#transaction.done()
    await this.database.close()
  }
}

interface TreeStats {
  readonly treeBranchPageCount: number
  readonly treeLeafPageCount: number
  readonly overflowPages: number
}

/** LMDB's codes for bytes that cannot be a database: page not found, corrupted, not an LMDB file. */
const damageCodes = new Set([-30797, -30796, -30793])

/**
 * Whether LMDB has given the file up: the page that ends a transaction could not be written, and from then on all calls
 * of this process fail, those that read, too. Renewing a read transaction says so in its text only.
 */
export function isGivenUp(error: unknown): boolean {
  const { code, message } = error as { code?: unknown; message?: unknown }
  return code === -30795 || String(message).includes('MDB_PANIC')
}

/** What lmdb-js threw, as an error of ours. Callers far away may see it: it names the file and not where it lies. */
export function toStoreError(error: unknown, path: string): FramesError {
  if (error instanceof FramesError) return error
  const { code, message } = error as { code?: unknown; message?: unknown }
  const what = `${basename(path)}: ${message}`
  if (isGivenUp(error)) return new FramesError('STORE_FAILED', what, { cause: error })
  const damaged = typeof code === 'number' && damageCodes.has(code)
  return new FramesError(damaged ? 'DATA_DAMAGED' : 'INTERNAL', what, { cause: error })
}

/*
 * The first two pages of a file (LMDB data format 2): each says where the trees are, and the one with the higher
 * transaction number counts.
 *
 *   24 | u32 magic | u32 version | ... | 144: u64 last page | u64 transaction |
 */
const pageByteLength = 4096
const magicOffset = 24
const lastPageOffset = 144
const transactionOffset = 152
const magic = 0xbeefc0de

/**
 * Looks at a file before LMDB does, which ends the process over a file that is not its own. Throws DATA_DAMAGED then.
 *
 * Returns whether the file ends before its last page. That may be right (pages taken and given back in one transaction
 * are not written) or the file was cut, and reading behind its end would end the process, too.
 */
export function inspectFile(path: string): { endsEarly: boolean } {
  const header = Buffer.alloc(2 * pageByteLength)
  const descriptor = openSync(path, 'r')
  try {
    const byteLength = readSync(descriptor, header)
    const isDatabase =
      byteLength === header.byteLength &&
      [0, pageByteLength].every((page) => header.readUInt32LE(page + magicOffset) === magic)
    if (!isDatabase) throw new FramesError('DATA_DAMAGED', `${path} is not an LMDB file`)
    const transaction = (page: number) => header.readBigUInt64LE(page + transactionOffset)
    const newest = transaction(pageByteLength) > transaction(0) ? pageByteLength : 0
    const pageCount = Number(header.readBigUInt64LE(newest + lastPageOffset)) + 1
    return { endsEarly: fstatSync(descriptor).size < pageCount * pageByteLength }
  } finally {
    closeSync(descriptor)
  }
}
