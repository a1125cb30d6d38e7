// How a pool worker reads the store: the same file, mapped once for the whole process, without asking any thread.
import { LmdbFile } from './lmdb-file.js'
import { storedKey } from './lmdb-messages.js'
import type { WorkerReader } from './store.js'

/**
 * Opens what `workerAccess.path` of an lmdb store names. When the store has moved to a newer file meanwhile, the reader
 * takes that one: it has everything the older one had.
 */
export function openLmdbReader(path: string): WorkerReader {
  const file = new LmdbFile(path, { readOnly: true })
  return {
    path,
    beginJob: () => file.releaseSnapshot(),
    endJob: () => file.releaseSnapshot(),
    get: (partition, key) => file.get(storedKey(partition, key)),
    close: () => void file.close(),
  }
}
