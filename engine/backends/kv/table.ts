// Tables by name: which are open, and what takes the place of a table that is overwritten or deleted.
import { assert } from '../../assert.js'
import type { TableName } from '../../blocks/catalog.js'
import { newPartition, shownName } from '../../blocks/catalog.js'
import { BlockTable } from '../../blocks/table.js'
import { FramesError } from '../../errors.js'
import type { BackendParts } from '../backend.js'
import { Turn } from '../turn.js'
import { itemMergeRule } from './merge-jobs.js'
import type { KvSchema } from './schema.js'
import { decodeSchema, emptySchema, encodeSchema } from './schema.js'
import { WriteQueue } from './writes.js'

/** Places open at once; each table holds at least two runs of shared memory. */
const openPlaceCountMax = 512

/**
 * One generation of a table. It "exists" for its users when its schema has a key.
 *
 * turn  of commits that depend on stored rows; merges commit in it, too, so nothing inside may wait for a merge
 */
export interface KvTable {
  readonly name: TableName
  readonly blocks: BlockTable
  readonly turn: Turn
  /** As of the newest commit. */
  readonly schema: KvSchema
}

/** What callers of a table that is gone are told. */
export function missingTable(name: TableName): FramesError {
  return new FramesError('TABLE_NOT_FOUND', `there is no table '${name.path}/' in container '${name.container}'`)
}

/**
 * A name, and the generation of the table that it stands for now. What changes that, and all writes, take the place's
 * turn: first this one, then the table's.
 */
export class TablePlace {
  readonly turn = new Turn()
  readonly writes: WriteQueue
  /** Calls that use it now. */
  userCount = 0
  /** When expired items are next looked for, in ms since 1970. */
  sweepAfterMs = 0
  readonly #parts: BackendParts
  readonly #erase: (table: KvTable) => void
  readonly #isNamed: boolean
  #table: Promise<KvTable | null> | null

  /** `erase` is given generations that the place no longer stands for. isNamed: false for a generation being filled. */
  constructor(
    parts: BackendParts,
    readonly name: TableName,
    erase: (table: KvTable) => void,
    isNamed = true,
  ) {
    this.#parts = parts
    this.#erase = erase
    this.#isNamed = isNamed
    this.#table = isNamed ? null : Promise.resolve(null)
    this.writes = new WriteQueue(parts, this)
  }

  /** The table of now; null when there is none. */
  current(): Promise<KvTable | null> {
    if (this.#table === null) {
      const opening = this.#load()
      this.#table = opening
      opening.catch(() => {
        if (this.#table === opening) this.#table = null
      })
    }
    return this.#table
  }

  async #load(): Promise<KvTable | null> {
    const partition = await this.#parts.catalog.find(this.name)
    return partition === null ? null : openTable(this.#parts, this.name, partition)
  }

  /** In the place's turn: the table of now, made without a schema when there is none. */
  async openOrCreate(): Promise<KvTable> {
    const known = await this.current()
    if (known !== null) return known
    const { catalog, store } = this.#parts
    const partition = newPartition()
    await BlockTable.create(tableParts(this.#parts), partition, encodeSchema(emptySchema))
    if (this.#isNamed && !(await catalog.add(this.name, partition))) {
      await store.dropPartition(partition)
      throw new FramesError('COMMIT_CONFLICT', `table '${shownName(this.name)}' was made by another process meanwhile`)
    }
    const table = await openTable(this.#parts, this.name, partition)
    this.#table = Promise.resolve(table)
    return table
  }

  /** In the place's turn: a table that was filled elsewhere takes the place of this one, for all readers at once. */
  async replace(filled: TablePlace): Promise<void> {
    const table = await filled.current()
    assert(table !== null, 'a generation that takes a place was filled')
    const before = await this.current()
    const { catalog } = this.#parts
    if (before === null) await this.#add(table)
    else {
      await before.blocks.seal()
      if (!(await catalog.replace(this.name, before.blocks.partition, table.blocks.partition))) {
        before.blocks.unseal()
        throw new FramesError('COMMIT_CONFLICT', `table '${shownName(this.name)}' was replaced meanwhile`)
      }
    }
    this.#table = Promise.resolve(table)
    filled.#table = Promise.resolve(null)
    if (before !== null) this.#erase(before)
  }

  async #add(table: KvTable): Promise<void> {
    if (await this.#parts.catalog.add(this.name, table.blocks.partition)) return
    throw new FramesError('COMMIT_CONFLICT', `table '${shownName(this.name)}' was made by another process meanwhile`)
  }

  /** In the place's turn: there is no table any more. False when there was none. */
  async remove(): Promise<boolean> {
    const table = await this.current()
    if (table === null) return false
    if (this.#isNamed) await this.#parts.catalog.remove(this.name, table.blocks.partition)
    this.#table = Promise.resolve(null)
    this.#erase(table)
    return true
  }

  /** Waits for what is at work. */
  async close(): Promise<void> {
    await this.turn.run(async () => {
      const table = await this.#table?.catch(() => null)
      await table?.blocks.close()
    })
  }
}

function tableParts({ store, memory, pool, report, kernels }: BackendParts) {
  return { store, memory, pool, report, bytes: kernels.u8 }
}

async function openTable(parts: BackendParts, name: TableName, partition: string): Promise<KvTable> {
  const blocks = await BlockTable.open(
    { ...tableParts(parts), missing: () => missingTable(name) },
    partition,
    shownName(name),
  )
  const turn = new Turn()
  let decoded = { bytes: blocks.schema, schema: decodeSchema(blocks.schema) }
  blocks.startMerging(
    itemMergeRule({
      partition,
      tableName: shownName(name),
      access: () => parts.store.workerAccess,
      inTurn: (work) => turn.run(work),
    }),
  )
  return {
    name,
    blocks,
    turn,
    get schema() {
      if (decoded.bytes !== blocks.schema) decoded = { bytes: blocks.schema, schema: decodeSchema(blocks.schema) }
      return decoded.schema
    },
  }
}

interface TakenPlace {
  readonly place: TablePlace
  readonly release: () => void
}

function keyOf({ container, path }: TableName): string {
  return `${container}\0${path}`
}

export class TablePlaces {
  readonly #parts: BackendParts
  readonly #open = new Map<string, TablePlace>()
  /** Of the place that was taken last. */
  #newestKey = ''
  /** Places that are being closed: a partition is opened again only when nobody works on it any more. */
  readonly #closing = new Map<string, Promise<void>>()
  readonly #unnamed = new Set<TablePlace>()
  /** Generations whose rows are still being erased. */
  readonly #erasing = new Set<Promise<void>>()
  #stopErasing: () => void = () => undefined
  readonly #stopped = new Promise<'stopped'>((resolve) => {
    this.#stopErasing = () => resolve('stopped')
  })

  constructor(parts: BackendParts) {
    this.#parts = parts
  }

  /** The place of a name, and how to give it back (once). */
  async take(name: TableName): Promise<TakenPlace> {
    const key = keyOf(name)
    await this.#closing.get(key)
    return this.#take(key, name)
  }

  /** As take; null where that would have to wait. */
  tryTake(name: TableName): TakenPlace | null {
    const key = keyOf(name)
    return this.#closing.has(key) ? null : this.#take(key, name)
  }

  #take(key: string, name: TableName): TakenPlace {
    let place = this.#open.get(key)
    if (place === undefined) place = new TablePlace(this.#parts, name, (table) => this.#erase(table))
    // Least recently used first, as Map order. See ParseCache.
    if (key !== this.#newestKey || !this.#open.has(key)) {
      this.#open.delete(key)
      this.#open.set(key, place)
      this.#newestKey = key
    }
    place.userCount++
    const taken = place
    return { place, release: () => this.#release(key, taken) }
  }

  /** A place without a name, for a generation that is filled before it takes the name. To be removed in the end. */
  unnamed(name: TableName): TablePlace {
    const place = new TablePlace(this.#parts, name, (table) => this.#erase(table), false)
    this.#unnamed.add(place)
    return place
  }

  /** Drops what an unnamed place still has. */
  async removeUnnamed(place: TablePlace): Promise<void> {
    this.#unnamed.delete(place)
    await place.turn.run(() => place.remove())
  }

  #release(key: string, place: TablePlace): void {
    place.userCount--
    if (place.userCount > 0 || this.#open.get(key) !== place) return
    place.current().then(
      (table) => {
        // Names without a table cost nothing to look up again, and there is no end of them.
        if (table === null && place.userCount === 0 && this.#open.get(key) === place) this.#open.delete(key)
      },
      () => undefined,
    )
    for (const [otherKey, other] of this.#open) {
      if (this.#open.size <= openPlaceCountMax) return
      if (other.userCount === 0) this.#close(otherKey, other)
    }
  }

  #close(key: string, place: TablePlace): void {
    this.#open.delete(key)
    const closing = place
      .close()
      .catch((error: unknown) => this.#parts.report(`closing table '${shownName(place.name)}' failed`, error))
      .finally(() => this.#closing.delete(key))
    this.#closing.set(key, closing)
  }

  /** The space of a generation is given back when its last reader has ended. */
  #erase({ name, blocks }: KvTable): void {
    const { store, report } = this.#parts
    const erase = async (): Promise<void> => {
      // Somebody still reads: the rows are erased at the next start.
      if ((await Promise.race([blocks.drop(), this.#stopped])) !== 'stopped')
        await store.dropPartition(blocks.partition)
    }
    const erased: Promise<void> = erase()
      .catch((error: unknown) =>
        report(`erasing table '${shownName(name)}' failed; it is tried again at the next start`, error),
      )
      .finally(() => this.#erasing.delete(erased))
    this.#erasing.add(erased)
  }

  open(): TablePlace[] {
    return [...this.#open.values()]
  }

  async close(): Promise<void> {
    for (const [key, place] of this.#open) this.#close(key, place)
    for (const place of this.#unnamed) await this.removeUnnamed(place)
    await Promise.all(this.#closing.values())
    this.#stopErasing()
    await Promise.all(this.#erasing)
  }
}
