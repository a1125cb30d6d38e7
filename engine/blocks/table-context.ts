// What the parts of one table share.
import type { FramesError } from '../errors.js'
import type { SharedMemory } from '../memory/shared-memory.js'
import type { Pool } from '../pool/pool.js'
import type { Store } from '../stores/store.js'

/** What a table works with. */
export interface TableParts {
  readonly store: Store
  readonly memory: SharedMemory
  /** The whole shared memory as bytes. */
  readonly bytes: Uint8Array
  readonly pool: Pool
  /** Something went wrong outside any request. */
  readonly report: (message: string, error: unknown) => void
  /** What callers of a table that was deleted are told. */
  readonly missing?: (tableName: string) => FramesError
}

export interface TableContext extends TableParts {
  /** The store's partition that holds the table. */
  readonly partition: string
  /** For messages. */
  readonly name: string
}
