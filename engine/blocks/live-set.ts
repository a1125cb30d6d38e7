// What of a table is live: the blocks that readers see, their dead rows, the schema; and the commits that change them.
import { assert } from '../assert.js'
import { FramesError } from '../errors.js'
import type { Entry } from '../stores/store.js'
import { type Change, CommitQueue } from './commit-queue.js'
import type { DeadRows, Kill } from './dead-rows.js'
import { deadAfter, freeDead } from './dead-rows.js'
import type { Eraser } from './eraser.js'
import type { LiveBlock } from './live-block.js'
import { Snapshot } from './snapshot.js'
import type { TableContext } from './table-context.js'

/** A change to the live blocks. */
export interface LiveChange extends Change {
  readonly added: readonly LiveBlock[]
  readonly removed: ReadonlySet<bigint>
  /** Whether the added blocks take the place of the removed ones, or stand at the end. */
  readonly isReplacement?: boolean
  /** The same for blocks of several runs, each of which stays what it is. */
  readonly isRewrite?: boolean
  readonly kills?: readonly Kill[]
  /** Bytes stored for the kills; 0: they are stored in the bitmaps already. */
  readonly killsByteLength?: number
  readonly schema?: Uint8Array | undefined
  /** Whether its rows may need what addSets was given. */
  readonly bringsSets?: boolean
}

/** Entries of label sets, as long as no durable commit has brought them. */
interface OwedSets {
  readonly number: number
  readonly entries: readonly Entry[]
}

/** Kills that stand in the commits that brought them, and not in the bitmaps of their blocks yet. */
export interface UnfoldedKills {
  /** Ascending. */
  commits: number[]
  byteLength: number
  readonly blockIds: Set<bigint>
}

export class LiveSet {
  readonly unfolded: UnfoldedKills
  readonly #context: TableContext
  readonly #eraser: Eraser
  readonly #commits: CommitQueue
  #snapshot: Snapshot
  #schema: Uint8Array
  /** What the next commit that brings sets stores first, by number. */
  #owedSets: OwedSets[] = []
  #lastOwedNumber = 0
  /** Blocks of commits that are on their way. */
  readonly #comingIds = new Set<bigint>()
  #isSealed = false
  #isDropped = false
  #isClosed = false
  /** The last of those that change which blocks have dead rows stored (folds, commits of merges): one at a time. */
  #lastAlone: Promise<unknown> = Promise.resolve()

  constructor(
    context: TableContext,
    eraser: Eraser,
    stored: {
      readonly version: number
      readonly schema: Uint8Array
      readonly blocks: readonly LiveBlock[]
      readonly unfolded: UnfoldedKills
    },
  ) {
    this.#context = context
    this.#eraser = eraser
    this.#commits = new CommitQueue(context.store, context.partition, stored.version)
    this.#snapshot = Snapshot.first(stored.version, stored.blocks)
    this.#schema = stored.schema
    this.unfolded = stored.unfolded
  }

  /** The published state. */
  get snapshot(): Snapshot {
    return this.#snapshot
  }

  /** As of the newest commit. */
  get schema(): Uint8Array {
    return this.#schema
  }

  get isDropped(): boolean {
    return this.#isDropped
  }

  /** Nothing new may be begun on a table that is dropped or closed. */
  get isEnding(): boolean {
    return this.#isDropped || this.#isClosed
  }

  /** One numbered commit; `contents` are the bytes of the packed blocks among `added`, in the same order. */
  commit(
    build: (commit: number) => LiveChange,
    contents: readonly Uint8Array[],
    onFailure?: (error: unknown) => void,
  ): Promise<void> {
    let change: LiveChange | null = null
    let sets: readonly OwedSets[] = []
    return this.#commits.run({
      build: (commit) => {
        if (this.#isDropped) this.assertUsable() // a merge may still end while the table is closed
        const built = build(commit)
        for (const { id } of built.added) this.#comingIds.add(id)
        change = built
        if (built.bringsSets !== true) return built
        sets = this.#owedSets.splice(0)
        return sets.length === 0
          ? built
          : { ...built, puts: [...sets.flatMap(({ entries }) => entries), ...built.puts] }
      },
      // Its blocks go on being expected: it may be built again.
      onReturned: () => this.#oweAgain(sets),
      publish: (commit) => {
        assert(change !== null, 'what is published was built')
        for (const { id } of change.added) this.#comingIds.delete(id)
        this.#publish(commit, { ...change, added: this.#keepInMemory(change.added, contents) })
      },
      onFailure: (error) => {
        // It may not have come so far.
        for (const { id } of change?.added ?? []) this.#comingIds.delete(id)
        onFailure?.(error)
      },
    })
  }

  /** Whether a block will be live when the commits that are on their way are durable, and is not yet. */
  isComing(id: bigint): boolean {
    return this.#comingIds.has(id)
  }

  /** Commits entries that change no block, in the order of the calls. */
  commitEntries(puts: readonly Entry[]): Promise<void> {
    return this.#commits.run({
      build: () => {
        this.assertWritable()
        return { puts }
      },
      publish: (commit) => this.#publish(commit, { added: [], removed: new Set() }),
    })
  }

  /** The next commit of rows brings these entries, and all that were added before and are not stored by then. */
  addSets(entries: readonly Entry[]): void {
    this.#owedSets.push({ number: ++this.#lastOwedNumber, entries })
  }

  /** Resolves when all that addSets was given is stored. */
  storeSets(): Promise<void> {
    return this.commit(() => ({ puts: [], added: [], removed: new Set(), bringsSets: true }), [])
  }

  #oweAgain(sets: readonly OwedSets[]): void {
    if (sets.length > 0) this.#owedSets = [...sets, ...this.#owedSets].sort((a, b) => a.number - b.number)
  }

  /** Resolves when no commit is on its way. */
  idle(): Promise<void> {
    return this.#commits.idle()
  }

  /** Runs work when no other such work is under way: what changes which blocks have dead rows stored. */
  alone<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#lastAlone.then(work)
    this.#lastAlone = result.catch(() => undefined)
    return result
  }

  /** No commit is accepted any more, since another generation takes the table's name. */
  seal(): void {
    this.#isSealed = true
  }

  unseal(): void {
    this.#isSealed = false
  }

  /** The table is deleted: no commit or read may start any more. */
  drop(): void {
    this.#isDropped = true
  }

  /** The table is closed: no commit or read may start any more. */
  close(): void {
    this.#isClosed = true
  }

  /** Gives the memory of the blocks back when nobody reads them any more, and resolves then. */
  letGo(): Promise<void> {
    const { version, blocks } = this.#snapshot
    return new Promise<void>((resolve) => {
      this.#snapshot = this.#snapshot.successor(version, [], () => {
        for (const block of blocks) this.#free(block)
        resolve()
      })
    })
  }

  /**
   * Throws TABLE_NOT_FOUND when the table was deleted, TABLE_REPLACED when another generation has its name, SHUTTING_DOWN
   * when it is closed.
   */
  assertUsable(): void {
    if (this.#isDropped) {
      if (this.#isSealed) this.assertWritable()
      throw (
        this.#context.missing?.(this.#context.name) ??
        new FramesError('TABLE_NOT_FOUND', `there is no table '${this.#context.name}': it was deleted`)
      )
    }
    if (this.#isClosed) throw new FramesError('SHUTTING_DOWN', `table '${this.#context.name}' is closed`)
  }

  /** As assertUsable; throws TABLE_REPLACED of a sealed table, too. */
  assertWritable(): void {
    if (this.#isSealed)
      throw new FramesError('TABLE_REPLACED', `table '${this.#context.name}' was overwritten meanwhile`)
    this.assertUsable()
  }

  /** Nobody reads it any more. */
  #free(block: LiveBlock): void {
    this.#context.memory.goneBlocks.add(block.id)
    if (block.memory !== null) this.#context.memory.heads.free(block.memory)
    freeDead(this.#context.memory.heads, block.dead)
  }

  /** Copies small new blocks into the heads' region, so that readers need not fetch each from the store. */
  #keepInMemory(added: readonly LiveBlock[], contents: readonly Uint8Array[]): LiveBlock[] {
    const { bytes } = this.#context
    return added.map((block, i) => {
      const content = contents[i]
      if (!block.isPacked || content === undefined) return block
      const slice = this.#context.memory.heads.tryAllocate(block.byteLength)
      if (slice === null) return block
      bytes.set(content, slice.byteOffset)
      return { ...block, memory: slice }
    })
  }

  #publish(version: number, change: Omit<LiveChange, keyof Change>): void {
    const { added, removed, isReplacement = false, isRewrite = false, kills = [], killsByteLength = 0, schema } = change
    const { blocks } = this.#snapshot
    let next = blocks
    const gone: LiveBlock[] = []
    if (removed.size > 0) {
      const kept: LiveBlock[] = []
      for (const block of blocks) {
        if (!removed.has(block.id)) {
          kept.push(block)
          continue
        }
        // The new run takes the place of the runs that it was made of.
        if (isReplacement && gone.length === 0) kept.push(...added)
        gone.push(block)
        this.unfolded.blockIds.delete(block.id)
      }
      next = isReplacement && gone.length > 0 ? kept : [...kept, ...added]
      if (isRewrite || (isReplacement && gone.length === 0)) next = inCommitOrder(next)
    } else if (added.length > 0) next = [...blocks, ...added]
    const outdated: DeadRows[] = []
    if (kills.length > 0) next = this.#withKills(next, kills, outdated)
    if (killsByteLength > 0) {
      this.unfolded.commits.push(version)
      this.unfolded.byteLength += killsByteLength
      for (const { blockId } of kills) if (!removed.has(blockId)) this.unfolded.blockIds.add(blockId)
    }
    if (schema !== undefined) this.#schema = schema
    const retire = (): void => {
      for (const dead of outdated) freeDead(this.#context.memory.heads, dead)
      for (const block of gone) this.#free(block)
      this.#eraser.eraseBlocks(gone)
    }
    this.#snapshot = this.#snapshot.successor(version, next, gone.length + outdated.length > 0 ? retire : null)
  }

  /** The blocks after these kills; bitmaps that others take the place of go to `outdated`. */
  #withKills(blocks: readonly LiveBlock[], kills: readonly Kill[], outdated: DeadRows[]): LiveBlock[] {
    const { bytes } = this.#context
    const rowsOf = new Map(kills.map(({ blockId, rows }) => [blockId, rows]))
    return blocks.map((block) => {
      const rows = rowsOf.get(block.id)
      if (rows === undefined) return block
      const dead = deadAfter(this.#context.memory.heads, bytes, block.dead, block.rowCount, rows)
      if (dead === null) return block
      if (block.dead !== null) outdated.push(block.dead)
      return { ...block, dead }
    })
  }
}

function inCommitOrder(blocks: readonly LiveBlock[]): LiveBlock[] {
  return [...blocks].sort((a, b) => a.lastCommit - b.lastCommit)
}
