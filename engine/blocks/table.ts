// One table: its live blocks, its commits and its merges. Main thread only; rows are touched by jobs, never here.
//
//   commitRows ──► Staging (large blocks ahead) ──► LiveSet: one batch, then the next snapshot
//   acquire    ◄── LiveSet: the snapshot of now          ▲            │
//   in the background: Merges, Folding ──────────────────┘            └──► Eraser: what no snapshot names any more
import { assert } from '../assert.js'
import { FramesError } from '../errors.js'
import type { Entry } from '../stores/store.js'
import { versionValue } from './commit-queue.js'
import { defaultMergeBounds, type MergeBounds } from './compaction.js'
import { encodeKills, type Kill } from './dead-rows.js'
import {
  blockEntries,
  contentOf,
  fitsOneValue,
  goneMark,
  liveKeysOf,
  liveOf,
  newBlockId,
  scanAll,
  schemaEntries,
} from './entries.js'
import { Eraser } from './eraser.js'
import { Folding } from './folding.js'
import { keyKinds, killsKeys, kindRange, noteKey, stageKey, versionKey } from './keys.js'
import { encodeLive, type LiveBlock, toSource } from './live-block.js'
import { LiveSet } from './live-set.js'
import type { MergeRule, PreparedBlock, RuleStep } from './merge-rule.js'
import type { RewriteChoice } from './merge-work.js'
import { Merges } from './merges.js'
import type { BlockSource } from './reader.js'
import { loadBlocks, readTable } from './recovery.js'
import { seal, unseal } from './sealed.js'
import { setsPayloads } from './sets-entries.js'
import type { Snapshot } from './snapshot.js'
import { sourcesOf, verifyBlock } from './sources.js'
import { commitByteLengthMax, Staging } from './staging.js'
import type { TableContext, TableParts } from './table-context.js'

/** Rows on their way: see stageRows. */
export interface StagedRows {
  readonly prepared: readonly PreparedBlock[]
  readonly ids: readonly bigint[]
  readonly isPacked: boolean
  readonly isSentAhead: boolean
}

/** For a commit without rows. */
export const noRows: StagedRows = { prepared: [], ids: [], isPacked: false, isSentAhead: false }

export interface CommitOptions {
  /** Called each time before the commit is sent; throws when it is not wanted any more. */
  readonly check?: () => void
  /** Rows of live blocks that die with this commit, one entry a block. */
  readonly kills?: readonly Kill[]
  /** The table's schema from this commit on. */
  readonly schema?: Uint8Array
  /** Live blocks that leave the table with this commit. No merge may be under way: see exclusively. */
  readonly dropped?: readonly LiveBlock[]
  /** Called once, when the commit has failed for good, and before those behind it are tried again. */
  readonly onFailure?: (error: unknown) => void
}

export class BlockTable {
  readonly #context: TableContext
  readonly #live: LiveSet
  readonly #eraser: Eraser
  readonly #staging: Staging
  readonly #folding: Folding
  readonly #merges: Merges
  #closed: Promise<void> | null = null
  /** Of a closed table: resolves when nobody reads it any more. */
  #unread: Promise<void> | null = null
  /** For statistics: bytes that commits brought. */
  committedByteLength = 0

  private constructor(
    context: TableContext,
    live: LiveSet,
    eraser: Eraser,
    /** Blocks that are known to be damaged, and what is wrong with them. */
    damages: ReadonlyMap<bigint, string>,
  ) {
    this.#context = context
    this.#live = live
    this.#eraser = eraser
    this.#staging = new Staging(context, eraser)
    this.#folding = new Folding(context, live, eraser)
    this.#merges = new Merges(context, live, this.#staging, damages)
  }

  /** Writes the first commit of a new partition. */
  static async create(parts: TableParts, partition: string, schema: Uint8Array): Promise<void> {
    await parts.store.commit({
      partition,
      expect: [{ key: versionKey, value: null }],
      puts: [{ key: versionKey, value: versionValue(0) }, ...schemaEntries(schema)],
    })
  }

  /**
   * Reads a table back. What is damaged and can be made again (version, schema, live entries) is, and reported.
   * Throws DATA_DAMAGED, FORMAT_VERSION.
   */
  static async open(parts: TableParts, partition: string, name: string): Promise<BlockTable> {
    const context: TableContext = { ...parts, partition, name }
    const stored = await readTable(context)
    const eraser = new Eraser(context)
    await eraser.eraseLeftovers(stored.dead.unusedKeys)
    const { version, schema, dead } = stored
    const blocks = await loadBlocks(context, stored)
    const live = new LiveSet(context, eraser, { version, schema, blocks, unfolded: dead.unfolded })
    return new BlockTable(context, live, eraser, dead.damages)
  }

  get partition(): string {
    return this.#context.partition
  }

  get name(): string {
    return this.#context.name
  }

  /** For statistics: bytes that merges wrote. */
  get mergedByteLength(): number {
    return this.#merges.writtenByteLength
  }

  /** From now on runs within these bounds are merged in the background, by this rule. */
  startMerging(rule: MergeRule, bounds: MergeBounds = defaultMergeBounds): void {
    this.#merges.start(rule, bounds)
    this.#folding.foldSoon()
  }

  /** Resolves when what merges made superfluous, and nobody reads, is erased from the store. */
  erased(): Promise<void> {
    return this.#eraser.idle()
  }

  /** The published state; give it back with `release()`. */
  acquire(): Snapshot {
    this.assertUsable()
    return this.#live.snapshot.acquire()
  }

  get blocks(): readonly LiveBlock[] {
    return this.#live.snapshot.blocks
  }

  /** As of the newest commit. */
  get schema(): Uint8Array {
    return this.#live.schema
  }

  get version(): number {
    return this.#live.snapshot.version
  }

  /**
   * First step of a commit of rows: sends the segments of a large commit ahead. Where merges do not wait for the backend's
   * turn, this waits while they are far behind; else see waitForMerges.
   * The prepared bytes must stay in place until commitRows has settled (or this has failed).
   */
  async stageRows(prepared: readonly PreparedBlock[]): Promise<StagedRows> {
    if (!this.#merges.waitForTurn)
      await this.#merges.waitForRuns(prepared.reduce((rowCount, block) => rowCount + block.rowCount, 0))
    const ids = prepared.map(newBlockId)
    const isPacked = prepared.length === 1 && fitsOneValue(prepared[0]!)
    let total = 0
    for (const block of prepared) total += block.packed.byteLength
    const isSentAhead = total > commitByteLengthMax
    const staged = { prepared, ids, isPacked, isSentAhead }
    try {
      if (isSentAhead) for (let i = 0; i < prepared.length; i++) await this.#staging.stageBlock(prepared[i]!, ids[i]!)
    } catch (error) {
      this.#staging.discard(prepared, ids)
      throw error
    }
    return staged
  }

  /**
   * Staged rows as jobs are told of them while their commit is on its way: a job that is given these behind the blocks of the
   * snapshot sees what will be stored. The prepared bytes must stay in place until it has ended. Null where a job could not
   * read them yet.
   */
  comingSources({ prepared, ids, isPacked }: StagedRows): BlockSource[] | null {
    if (prepared.length > 0 && !isPacked) return null
    return prepared.map((block, i) =>
      toSource({ ...liveOf(block, ids[i]!, 0, 0, isPacked), memory: block.packed }, null),
    )
  }

  /** Whether a block will be live when the commits that are on their way are durable, and is not yet. */
  isComing(id: bigint): boolean {
    return this.#live.isComing(id)
  }

  /**
   * Second step: makes rows durable and visible, all or nothing: a small commit as one packed value, a larger one as
   * blocks. Commits take effect in the order of these calls. There may be no rows, only kills or a schema.
   *
   * Throws TABLE_REPLACED when another generation has taken the table's name, VIEW_OUTDATED when a block of `kills` is no
   * longer live: its rows stand in another block now. It may be one whose commit is on its way.
   */
  async commitRows(
    { prepared, ids, isPacked, isSentAhead }: StagedRows,
    { check = () => undefined, kills = [], schema, dropped = [], onFailure }: CommitOptions = {},
  ): Promise<void> {
    const { bytes } = this.#context
    const killsPayload = kills.length === 0 ? null : encodeKills(kills)
    try {
      await this.#live.commit(
        (commit) => {
          this.#live.assertWritable()
          check()
          const puts: Entry[] = schema === undefined ? [] : schemaEntries(schema)
          if (killsPayload !== null)
            for (const key of killsKeys(BigInt(commit))) puts.push({ key, value: seal(key, killsPayload) })
          const removed = [...dropped, ...this.#outlived(kills)]
          const added = prepared.map((block, i) => {
            if (!isSentAhead) puts.push(...blockEntries(bytes, block, ids[i]!, isPacked))
            return liveOf(block, ids[i]!, commit, commit, isPacked)
          })
          for (const block of removed) puts.push(goneMark(block))
          return {
            puts: [...puts, ...added.map(encodeLive)],
            makesRoom: dropped.length > 0 && prepared.length === 0 && kills.length === 0,
            deletes: [...(isSentAhead ? ids.map(stageKey) : []), ...removed.flatMap(liveKeysOf)],
            added,
            removed: new Set(removed.map(({ id }) => id)),
            kills,
            killsByteLength: killsPayload?.length ?? 0,
            schema,
            bringsSets: prepared.length > 0,
          }
        },
        prepared.map((block) => contentOf(bytes, block)),
        onFailure,
      )
    } catch (error) {
      if (isSentAhead && error instanceof FramesError) this.#staging.discard(prepared, ids)
      throw error
    }
    for (const block of prepared) this.committedByteLength += block.packed.byteLength
    this.#merges.schedule()
    this.#folding.foldSoon()
  }

  /** The blocks that lose their last living rows by these kills, and can go at once. Throws VIEW_OUTDATED. */
  #outlived(kills: readonly Kill[]): LiveBlock[] {
    if (kills.length === 0) return []
    const live = new Map(this.#live.snapshot.blocks.map((block) => [block.id, block]))
    return kills.flatMap(({ blockId, rows }) => {
      const block = live.get(blockId)
      // Its commit is on its way before this one.
      if (block === undefined && this.#live.isComing(blockId)) return []
      if (block === undefined) throw new FramesError('VIEW_OUTDATED', `a block of table '${this.name}' was merged`)
      assert(rows.length === 0 || rows[rows.length - 1]! < block.rowCount, 'a killed row is a row of its block')
      // Exact only where no other kills are under way; a block that stays is dropped later.
      const isDead = (block.dead?.count ?? 0) + rows.length === block.rowCount
      return isDead && !this.#merges.isMerging(blockId) ? [block] : []
    })
  }

  /**
   * From now on no commit is accepted, since another generation takes the table's name; resolves when those under way
   * have ended. Reads go on.
   */
  seal(): Promise<void> {
    this.#live.seal()
    return this.#live.idle()
  }

  /** The name was not taken after all. */
  unseal(): void {
    this.#live.unseal()
  }

  /**
   * Label sets that the rows of later commits name: the next commit of rows brings them, in the order of these calls. What no
   * rows need is not stored.
   */
  addSets(entries: readonly Entry[]): void {
    this.#live.addSets(entries)
  }

  /** Resolves when all that addSets was given is stored. */
  storeSets(): Promise<void> {
    return this.#live.storeSets()
  }

  /** The values under `sets`, in order; where one is damaged, its copy serves. Throws DATA_DAMAGED. */
  setsPayloads(): AsyncGenerator<Uint8Array> {
    return setsPayloads(this.#context)
  }

  /** Commits a value of the backend's own, found again under its two numbers. */
  commitNote(high: bigint, low: bigint, payload: Uint8Array): Promise<void> {
    const key = noteKey(high, low)
    return this.#live.commitEntries([{ key, value: seal(key, payload) }])
  }

  /** The backend's own values; null for one that is damaged. */
  async *notes(): AsyncGenerator<Uint8Array | null> {
    for await (const { key, value } of scanAll(this.#context.store, this.partition, kindRange(keyKinds.note)))
      yield unseal(key, value)
  }

  /** What jobs need to find blocks. Values of a store that workers cannot read are fetched here. */
  sources(blocks: readonly LiveBlock[]): BlockSource[] | Promise<BlockSource[]> {
    return sourcesOf(this.#context, blocks)
  }

  /** What is wrong with a block of a snapshot that the caller holds, a line each; none when all of it can be read. */
  verify(block: LiveBlock): Promise<string[]> {
    return verifyBlock(this.#context, block)
  }

  /**
   * Merges the runs of now into one (of bounded size). Damaged blocks and what only they keep apart are left as they are;
   * throws DATA_DAMAGED in the end when there are any.
   */
  compact(): Promise<void> {
    return this.#merges.compact()
  }

  /**
   * Turns the packed commits at the end of the list into one run. Those that a large merge or a compaction under way reads are
   * left to it: they become a part of its run. Damaged blocks, and what is before them, stay as they are.
   */
  flush(): Promise<void> {
    return this.#merges.flush()
  }

  /**
   * Writes blocks anew, each for itself and in its place among the commits, all in one commit: what a delete of some rows
   * needs. Commits that come meanwhile stay as they are.
   *
   * choose  which of the blocks of now leave the table, and which are written anew
   * step    the job that writes what stays of a block (see MergeRule.step); it answers with `isUnchanged` where all stays
   */
  rewrite(choose: (blocks: readonly LiveBlock[]) => RewriteChoice, step: RuleStep): Promise<void> {
    return this.#merges.rewrite(choose, step)
  }

  /** Runs `work` when no merge is under way, and keeps merges from starting meanwhile. */
  exclusively(work: () => Promise<void>): Promise<void> {
    return this.#merges.exclusively(work)
  }

  /** Whether writers are to wait for merges. */
  get isBehindWithMerges(): boolean {
    return this.#merges.isBehind
  }

  /** Writers wait here while merges are far behind, never inside a turn that merges wait for. */
  waitForMerges(): Promise<void> {
    return this.#merges.waitForRuns(0)
  }

  /** No commit or read may start any more; resolves when those under way have ended. */
  async drop(): Promise<void> {
    this.#live.drop()
    this.#eraser.stop()
    await this.close()
    await this.#unread
  }

  /** Waits for commits and merges under way. The memory of blocks is given back when nobody reads them any more. */
  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async #close(): Promise<void> {
    this.#live.close()
    await this.#merges.close()
    await this.#folding.idle()
    await this.#live.idle()
    await this.erased()
    this.#unread = this.#live.letGo()
  }

  /**
   * Throws TABLE_NOT_FOUND when the table was deleted, TABLE_REPLACED when another generation has its name, SHUTTING_DOWN
   * when it is closed.
   */
  assertUsable(): void {
    this.#live.assertUsable()
  }
}
