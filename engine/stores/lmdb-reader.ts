// How a pool worker reads the store: the same file, mapped once for the whole process, without asking any thread.
import { LmdbFile, toStoreError } from './lmdb-file.js'
import { storedKey } from './lmdb-messages.js'
import type { WorkerAccess, WorkerReader } from './store.js'

/**
 * Opens what `workerAccess.path` of an open lmdb store names. Every reader is closed when its worker ends; one that is
 * opened after the store's close keeps the store from being opened again in this process.
 */
export function openLmdbReader(path: string): WorkerReader {
  let file: LmdbFile
  try {
    file = new LmdbFile(path, { readOnly: true })
  } catch (error) {
    throw toStoreError(error, path)
  }
  return {
    path,
    beginJob: () => file.releaseSnapshot(),
    endJob: () => file.releaseSnapshot(),
    get(partition, key) {
      try {
        return file.get(storedKey(partition, key))
      } catch (error) {
        throw toStoreError(error, path)
      }
    },
    close: () => void file.close(),
  }
}

/** What the worker pool calls in the reader's module. */
export function openReader(access: NonNullable<WorkerAccess>): WorkerReader {
  return openLmdbReader(access.path)
}
