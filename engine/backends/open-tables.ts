// The open tables of a backend: opened on first use, closed when they were idle for a while and others need the place,
// dropped when they are deleted.
import type { Catalog, TableName } from '../blocks/catalog.js'
import { shownName } from '../blocks/catalog.js'
import type { Store } from '../stores/store.js'

/** What every backend's open table has. */
export interface OpenTable {
  readonly name: TableName
  /** Waits for what is at work; then nothing of the table is held any more. */
  close(): Promise<void>
  /** As close, but nothing may start meanwhile; resolves when nobody reads the table any more. */
  drop(): Promise<void>
}

export interface OpenTablesOptions<Table extends OpenTable> {
  readonly catalog: Catalog
  readonly store: Store
  /** Opens a table. Throws TABLE_NOT_FOUND. */
  readonly load: (name: TableName) => Promise<Table>
  readonly report: (message: string, error: unknown) => void
}

/** Tables open at once; each holds at least two runs of shared memory. */
const openTableCountMax = 512

interface Entry<Table> {
  readonly table: Table
  userCount: number
}

export class OpenTables<Table extends OpenTable> {
  readonly #options: OpenTablesOptions<Table>
  readonly #open = new Map<string, Promise<Entry<Table>>>()
  /** Tables that are being closed: a partition is opened again only when nobody works on it any more. */
  readonly #closing = new Map<string, Promise<void>>()
  /** Deleted tables whose rows are still being erased. */
  readonly #erasing = new Set<Promise<void>>()
  #stopErasing: () => void = () => undefined
  readonly #stopped = new Promise<'stopped'>((resolve) => {
    this.#stopErasing = () => resolve('stopped')
  })

  constructor(options: OpenTablesOptions<Table>) {
    this.#options = options
  }

  /** The open table, and how to give it back (once). Throws TABLE_NOT_FOUND. */
  async take(name: TableName): Promise<{ readonly table: Table; readonly release: () => void }> {
    const { entry } = await this.#take(name)
    return { table: entry.table, release: () => void entry.userCount-- }
  }

  async #take(name: TableName): Promise<{ opening: Promise<Entry<Table>>; entry: Entry<Table> }> {
    const key = keyOf(name)
    for (;;) {
      let opening = this.#open.get(key)
      if (opening === undefined) {
        opening = this.#load(name)
        this.#open.set(key, opening)
        opening.catch(() => {
          if (this.#open.get(key) === opening) this.#open.delete(key)
        })
      }
      const entry = await opening
      // Closed or dropped meanwhile: look again.
      if (this.#open.get(key) !== opening) continue
      entry.userCount++
      // Least recently used first, as Map order.
      this.#open.delete(key)
      this.#open.set(key, opening)
      this.#closeIdle()
      return { opening, entry }
    }
  }

  /** Does something with a table. One that was not open before is closed again, unless somebody else has taken it. */
  async visit(name: TableName, work: (table: Table) => Promise<void>): Promise<void> {
    const key = keyOf(name)
    const wasOpen = this.#open.has(key)
    const { opening, entry } = await this.#take(name)
    try {
      await work(entry.table)
    } finally {
      entry.userCount--
      if (!wasOpen) this.#closeUnused(key, opening, entry)
    }
    await this.#closing.get(key)
  }

  async #load(name: TableName): Promise<Entry<Table>> {
    await this.#closing.get(keyOf(name))
    return { table: await this.#options.load(name), userCount: 0 }
  }

  /** Closes tables that nobody uses, least recently used first, until few enough are open or all are in use. */
  #closeIdle(): void {
    if (this.#open.size <= openTableCountMax) return
    for (const [key, opening] of this.#open) {
      opening.then(
        (entry) => {
          if (this.#open.size > openTableCountMax) this.#closeUnused(key, opening, entry)
        },
        () => undefined,
      )
    }
  }

  #closeUnused(key: string, opening: Promise<Entry<Table>>, { table, userCount }: Entry<Table>): void {
    if (userCount > 0 || this.#open.get(key) !== opening) return
    this.#open.delete(key)
    const closing = table
      .close()
      .catch((error: unknown) => this.#options.report(`closing table '${shownName(table.name)}' failed`, error))
      .finally(() => this.#closing.delete(key))
    this.#closing.set(key, closing)
  }

  /**
   * Deletes a table. It is gone when the catalog says so; its space is given back when its last reader has ended. False
   * when another delete was first.
   */
  async delete(name: TableName, partition: string): Promise<boolean> {
    const { catalog, store, report } = this.#options
    if (!(await catalog.remove(name, partition))) return false
    // Only now: whoever opened the table before this found the old partition, and is in the map.
    const key = keyOf(name)
    const open = this.#open.get(key)
    this.#open.delete(key)
    const erase = async (): Promise<void> => {
      const entry = await open?.catch(() => undefined)
      const end = await Promise.race([entry?.table.drop(), this.#stopped])
      // Somebody still reads: the rows are erased at the next start.
      if (end !== 'stopped') await store.dropPartition(partition)
    }
    const erased: Promise<void> = erase()
      .catch((error: unknown) =>
        report(`erasing table '${shownName(name)}' failed; it is tried again at the next start`, error),
      )
      .finally(() => this.#erasing.delete(erased))
    this.#erasing.add(erased)
    return true
  }

  /** Closes all tables. */
  async close(): Promise<void> {
    const entries = await Promise.allSettled(this.#open.values())
    this.#open.clear()
    for (const result of entries) if (result.status === 'fulfilled') await result.value.table.close()
    await Promise.all(this.#closing.values())
    this.#stopErasing()
    await Promise.all(this.#erasing)
  }
}

function keyOf({ container, path }: TableName): string {
  return `${container}\0${path}`
}
