// One table: its live blocks, its commits and its merges. Main thread only; rows are touched by jobs, never here.
import { randomBytes } from 'node:crypto'
import { assert } from '../assert.js'
import { FramesError } from '../errors.js'
import { KiB, logCommitByteLengthMax, logCommitRowCountMax, MiB } from '../limits.js'
import type { Region } from '../memory/region.js'
import type { SharedMemory } from '../memory/shared-memory.js'
import type { JobResult, Pool } from '../pool/pool.js'
import type { Entry, Store } from '../stores/store.js'
import { encodeHeader, parseHeader } from './block.js'
import { type Change, CommitQueue, versionValue } from './commit-queue.js'
import type { MergeBounds } from './compaction.js'
import { chooseMerge, chooseRewrite, defaultMergeBounds, isMergeable, runsOf } from './compaction.js'
import type { DeadRows, Kill } from './dead-rows.js'
import {
  copyDead,
  countDead,
  deadBytes,
  decodeDead,
  decodeKills,
  encodeDead,
  encodeKills,
  freeDead,
  killRows,
  placeDead,
  rowsBelow,
} from './dead-rows.js'
import {
  blockRange,
  dataKey,
  deadKeys,
  goneKey,
  headKey,
  keyKinds,
  keyNumbers,
  killsKeys,
  kindRange,
  noteKey,
  packedKey,
  schemaCopyKey,
  schemaKey,
  setsCopyKey,
  setsKey,
  stageKey,
  versionKey,
} from './keys.js'
import type { LiveBlock } from './live-block.js'
import { decodeLive, encodeLive, parseLiveKey, toSource } from './live-block.js'
import type { MergeRule, MergeStep, PreparedBlock, RewriteStep, RuleJob } from './merge-rule.js'
import type { BlockSource } from './reader.js'
import { checksum, seal, unseal } from './sealed.js'
import { Snapshot } from './snapshot.js'
import type { VerifyJob } from './verify.js'

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

/** A commit that carries more than this sends segments ahead, so that other writers are not held up. */
const commitByteLengthMax = 4 * MiB
/** With fewer runs than this, a merge waits for idle workers, and looks again this much later. */
const patientRunCountMax = 64
const mergePatienceMs = 20
/** Writers wait while there are more runs than this: look-ups and merges stay bounded. */
const runCountMax = 256
/** Entries read from the store at once. */
const scanLimit = 1000
/** Keys that one commit erases at most: a transaction that frees as many segments still ends within some ms. */
const eraseKeyCountMax = 256

/**
 * Kills of many commits are folded into the bitmaps of their blocks: when they are as long as those, and when there are so
 * many that opening the table would take long.
 */
const foldByteLengthMin = 64 * KiB
const foldCommitCountMax = 2048

/** Scratch of a merge job: decoded pages of its inputs, one block being built, its encoded bytes. */
const mergeScratchByteLength = 48 * MiB
const settleScratchByteLength = 8 * MiB
const verifyScratchByteLength = 4 * MiB
/** Times that one step of a merge is sent again because the backend's view of the table changed under it. */
const viewRetryCountMax = 100
/** After a failed merge (disk full, worker lost) the next one waits this long. */
const mergeRetryMs = 1000

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

/** A change to the live blocks. */
interface LiveChange extends Change {
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
}

const processNumber = BigInt(randomBytes(4).readUInt32BE()) << 32n
let blockCounter = 0n

/** Unique in this process, and with the process's random number among all. */
function newBlockId(): bigint {
  return processNumber | ++blockCounter
}

export class BlockTable {
  readonly #parts: TableParts
  readonly #commits: CommitQueue
  #snapshot: Snapshot
  #isDropped = false
  #closed: Promise<void> | null = null
  /** Of a closed table: resolves when nobody reads it any more. */
  #unread: Promise<void> | null = null
  /** The merge under way; it never rejects. */
  #merging: Promise<void> | null = null
  #mergeRetry: NodeJS.Timeout | null = null
  /** Blocks that could not be read, and what is wrong with them: barriers for later merges. */
  readonly #unreadable = new Map<bigint, string>()
  #erasing: Promise<void> | null = null
  /** Set while a merge waits for idle workers. */
  #mergeLater: NodeJS.Timeout | null = null
  #toErase: Uint8Array[] = []
  #schema: Uint8Array
  #isSealed = false
  /** Commits whose kills are not in the bitmaps yet, the bytes of those kills, and the blocks that they name. */
  #killCommits: number[] = []
  #killByteLength = 0
  readonly #unfolded = new Set<bigint>()
  /** The last of those that change which blocks have dead rows stored (folds, commits of merges): one at a time. */
  #lastAlone: Promise<unknown> = Promise.resolve()
  /** The fold under way; it never rejects. */
  #folding: Promise<void> | null = null
  /** Blocks that a merge under way reads. */
  #merged: ReadonlySet<bigint> = new Set()
  /** Set while a merge waits for the backend's turn: gives it up. */
  #giveUpTurn: (() => void) | null = null
  #rule: MergeRule | null = null
  #bounds: MergeBounds = defaultMergeBounds
  /** For statistics: bytes that commits brought, and bytes that merges wrote. */
  committedByteLength = 0
  mergedByteLength = 0

  private constructor(
    parts: TableParts,
    readonly partition: string,
    readonly name: string,
    schema: Uint8Array,
    version: number,
    blocks: readonly LiveBlock[],
  ) {
    this.#parts = parts
    this.#schema = schema
    this.#snapshot = Snapshot.first(version, blocks)
    this.#commits = new CommitQueue(parts.store, partition, version)
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
    const { store } = parts
    const healed: Entry[] = []
    const [versionBytes, ...schemas] = await store.read(partition, [versionKey, schemaKey, schemaCopyKey])
    const schema = openSchema(schemas, healed)
    if (schema === null) throw new FramesError('DATA_DAMAGED', `the schema of table '${name}' is missing or damaged`)
    if (healed.length > 0) parts.report(`a copy of the schema of table '${name}' is damaged: it is written anew`, null)
    const versionPayload = versionBytes == null ? null : unseal(versionKey, versionBytes)
    let version =
      versionPayload === null
        ? 0
        : Number(new DataView(versionPayload.buffer, versionPayload.byteOffset).getBigUint64(0))
    const blocks: LiveBlock[] = []
    for await (const { key, value } of scanAll(store, partition, kindRange(keyKinds.live))) {
      let block = decodeLive(key, value)
      if (block === null) {
        block = await rebuildLive(store, partition, key)
        const isWhole = block.extent !== null
        parts.report(
          `the live entry of block ${block.id} of table '${name}' is damaged${isWhole ? ': it is written anew' : ', and so is the block'}`,
          null,
        )
        if (isWhole) healed.push(encodeLive(block))
      }
      version = Math.max(version, block.lastCommit)
      blocks.push(block)
    }
    if (versionPayload === null) {
      parts.report(`the version of table '${name}' is damaged: it is written anew`, null)
      healed.push({ key: versionKey, value: versionValue(version) })
    }
    const stored = await readDead(parts, partition, name, blocks, healed)
    if (healed.length > 0) await store.commit({ partition, puts: healed })
    const table = new BlockTable(parts, partition, name, schema, version, blocks)
    await table.#eraseLeftovers(stored.unusedKeys)
    table.#killCommits = stored.killCommits
    table.#killByteLength = stored.killByteLength
    for (const id of stored.unfolded) table.#unfolded.add(id)
    for (const [id, damage] of stored.damages) table.#unreadable.set(id, damage)
    const inMemory = await withMemory(parts, partition, blocks)
    const { heads } = parts.memory
    const withDead = inMemory.map((block): LiveBlock => {
      const bitmap = stored.bitmaps.get(block.id)
      const damage = stored.damages.get(block.id) ?? null
      const count = bitmap === undefined ? 0 : countDead(bitmap)
      return { ...block, damage, dead: count === 0 ? null : placeDead(heads, parts.bytes, bitmap!, count) }
    })
    table.#snapshot = Snapshot.first(version, withDead)
    return table
  }

  /** From now on runs within these bounds are merged in the background, by this rule. */
  startMerging(rule: MergeRule, bounds: MergeBounds = defaultMergeBounds): void {
    this.#rule = rule
    this.#bounds = bounds
    this.#scheduleMerge()
    this.#foldSoon()
  }

  /** Resolves when what merges made superfluous, and nobody reads, is erased from the store. */
  async erased(): Promise<void> {
    while (this.#erasing !== null) await this.#erasing
  }

  /** The published state; give it back with `release()`. */
  acquire(): Snapshot {
    this.assertUsable()
    return this.#snapshot.acquire()
  }

  get blocks(): readonly LiveBlock[] {
    return this.#snapshot.blocks
  }

  /** As of the newest commit. */
  get schema(): Uint8Array {
    return this.#schema
  }

  get version(): number {
    return this.#snapshot.version
  }

  /**
   * First step of a commit of rows: sends the segments of a large commit ahead. Where merges do not wait for the backend's
   * turn, this waits while they are far behind; else see waitForMerges.
   * The prepared bytes must stay in place until commitRows has settled (or this has failed).
   */
  async stageRows(prepared: readonly PreparedBlock[]): Promise<StagedRows> {
    if (this.#rule?.settle === undefined) await this.waitForMerges()
    const ids = prepared.map(newBlockId)
    const isPacked = prepared.length === 1 && fitsOneValue(prepared[0]!)
    let total = 0
    for (const block of prepared) total += block.packed.byteLength
    const isSentAhead = total > commitByteLengthMax
    const staged = { prepared, ids, isPacked, isSentAhead }
    try {
      if (isSentAhead) for (let i = 0; i < prepared.length; i++) await this.#stageBlock(prepared[i]!, ids[i]!)
    } catch (error) {
      this.#discard(prepared, ids)
      throw error
    }
    return staged
  }

  /**
   * Second step: makes rows durable and visible, all or nothing: a small commit as one packed value, a larger one as
   * blocks. Commits take effect in the order of these calls. There may be no rows, only kills or a schema.
   *
   * Throws TABLE_REPLACED when another generation has taken the table's name, VIEW_OUTDATED when a block of `kills` is no
   * longer live: its rows stand in another block now.
   */
  async commitRows(
    { prepared, ids, isPacked, isSentAhead }: StagedRows,
    { check = () => undefined, kills = [], schema, dropped = [], onFailure }: CommitOptions = {},
  ): Promise<void> {
    const { bytes } = this.#parts
    const killsPayload = kills.length === 0 ? null : encodeKills(kills)
    try {
      await this.#commit(
        (commit) => {
          this.#assertWritable()
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
          }
        },
        prepared.map((block) => contentOf(bytes, block)),
        onFailure,
      )
    } catch (error) {
      if (isSentAhead && error instanceof FramesError) this.#discard(prepared, ids)
      throw error
    }
    for (const block of prepared) this.committedByteLength += block.packed.byteLength
    this.#scheduleMerge()
    this.#foldSoon()
  }

  /** The blocks that lose their last living rows by these kills, and can go at once. Throws VIEW_OUTDATED. */
  #outlived(kills: readonly Kill[]): LiveBlock[] {
    if (kills.length === 0) return []
    const live = new Map(this.#snapshot.blocks.map((block) => [block.id, block]))
    return kills.flatMap(({ blockId, rows }) => {
      const block = live.get(blockId)
      if (block === undefined) throw new FramesError('VIEW_OUTDATED', `a block of table '${this.name}' was merged`)
      assert(rows.length === 0 || rows[rows.length - 1]! < block.rowCount, 'a killed row is a row of its block')
      // Exact only where no other kills are under way; a block that stays is dropped later.
      const isDead = (block.dead?.count ?? 0) + rows.length === block.rowCount
      return isDead && !this.#merged.has(blockId) ? [block] : []
    })
  }

  /**
   * From now on no commit is accepted, since another generation takes the table's name; resolves when those under way
   * have ended. Reads go on.
   */
  async seal(): Promise<void> {
    this.#isSealed = true
    await this.#commits.idle()
  }

  /** The name was not taken after all. */
  unseal(): void {
    this.#isSealed = false
  }

  /**
   * Commits label sets, in the order of the calls; later commits may depend on it. `check` as in commitRows; onFailure is
   * called before anything behind the failed commit is tried again.
   */
  commitSets(
    puts: readonly Entry[],
    { check, onFailure }: { check: () => void; onFailure: (error: unknown) => void },
  ): Promise<void> {
    return this.#commits.run({
      build: () => {
        this.#assertWritable()
        check()
        return { puts }
      },
      publish: (commit) => this.#publish(commit, { added: [], removed: new Set() }),
      onFailure,
    })
  }

  /** The values under `sets`, in order; where one is damaged, its copy serves. Throws DATA_DAMAGED. */
  async *setsPayloads(): AsyncGenerator<Uint8Array> {
    const { store, report } = this.#parts
    let expected = 0n
    for await (const { key, value } of scanAll(store, this.partition, kindRange(keyKinds.sets))) {
      const [first] = keyNumbers(key) as [bigint]
      // A gap: the entry is missing, and the copy may be there.
      for (; expected < first; expected++) yield await this.#setsCopy(expected)
      const payload = unseal(key, value)
      if (payload === null) report(`label sets of table '${this.name}' are damaged (entry ${first})`, null)
      yield payload ?? (await this.#setsCopy(first))
      expected++
    }
  }

  async #setsCopy(first: bigint): Promise<Uint8Array> {
    const { store, report } = this.#parts
    const copyKey = setsCopyKey(first)
    const [value] = await store.read(this.partition, [copyKey])
    const payload = value == null ? null : unseal(copyKey, value)
    if (payload === null)
      throw new FramesError(
        'DATA_DAMAGED',
        `label sets of table '${this.name}' are damaged (entry ${first}), and so is their copy`,
      )
    const key = setsKey(first)
    await store.commit({ partition: this.partition, puts: [{ key, value: seal(key, payload) }] })
    report(`label sets of table '${this.name}' are written anew from their copy (entry ${first})`, null)
    return payload
  }

  /** Commits a value of the backend's own, found again under its two numbers. */
  commitNote(high: bigint, low: bigint, payload: Uint8Array): Promise<void> {
    const key = noteKey(high, low)
    return this.commitSets([{ key, value: seal(key, payload) }], { check: () => undefined, onFailure: () => undefined })
  }

  /** The backend's own values; null for one that is damaged. */
  async *notes(): AsyncGenerator<Uint8Array | null> {
    for await (const { key, value } of scanAll(this.#parts.store, this.partition, kindRange(keyKinds.note)))
      yield unseal(key, value)
  }

  /** Stored twice: without them no row of the table can be read. */
  static setsEntries(first: number, payload: Uint8Array): Entry[] {
    return [setsKey(BigInt(first)), setsCopyKey(BigInt(first))].map((key) => ({ key, value: seal(key, payload) }))
  }

  /** What jobs need to find blocks. Values of a store that workers cannot read are fetched here. */
  async sources(blocks: readonly LiveBlock[]): Promise<BlockSource[]> {
    const { store } = this.#parts
    if (store.workerAccess !== null) return blocks.map((block) => toSource(block, null))
    return Promise.all(
      blocks.map(async (block) => {
        if (block.memory !== null) return toSource(block, null)
        const keys = [block.isPacked ? packedKey(block.id) : headKey(block.id)]
        if (!block.isPacked) for (let i = 0; i < block.segmentCount; i++) keys.push(dataKey(block.id, i))
        const values = await store.read(this.partition, keys)
        // An absent value stays absent in the message: the reader names what is missing.
        return toSource(block, values as Uint8Array[])
      }),
    )
  }

  /**
   * Merges the runs of now into one (of bounded size). Damaged blocks and what only they keep apart are left as they are;
   * throws DATA_DAMAGED in the end when there are any.
   */
  async compact(): Promise<void> {
    const { version } = this.#snapshot
    await this.exclusively(async () => {
      let from = 0
      for (;;) {
        // Later commits are left to others, or a steady writer would keep this going for ever.
        const runs = runsOf(this.#snapshot.blocks).filter(
          (run) => this.#snapshot.blocks[run.start]!.lastCommit <= version,
        )
        let start = from
        let end = start
        for (; start < runs.length; start = Math.max(end, start + 1)) {
          let rowCount = 0
          let byteLength = 0
          for (end = start; end < runs.length && !this.#isBarrier(runs[end]!); end++) {
            rowCount += runs[end]!.rowCount
            byteLength += runs[end]!.byteLength
            if (!isMergeable({ rowCount, byteLength }, this.#bounds)) break
          }
          if (end - start > 1 || (end > start && runs[start]!.deadRowCount > 0)) break
        }
        if (start >= runs.length) break
        const isMerged = await this.#merge(runs[start]!.start, runs[end - 1]!.end)
        // One run stands now where `start` was; a failed merge has found barriers among its runs.
        if (isMerged) from = start + 1
      }
      const damages = this.#snapshot.blocks.flatMap((block) => this.#unreadable.get(block.id) ?? [])
      if (damages.length > 0) throw new FramesError('DATA_DAMAGED', damages.join('; '))
    })
  }

  /** Turns the packed commits at the end of the list into one run. Throws DATA_DAMAGED. */
  async flush(): Promise<void> {
    await this.exclusively(async () => {
      for (;;) {
        const { blocks } = this.#snapshot
        let start = blocks.length
        while (start > 0 && blocks[start - 1]!.isPacked && !this.#unreadable.has(blocks[start - 1]!.id)) start--
        if (blocks.length - start < 2 || (await this.#merge(start, blocks.length))) return
      }
    })
  }

  /** No commit or read may start any more; resolves when those under way have ended. */
  async drop(): Promise<void> {
    this.#isDropped = true
    await this.close()
    await this.#unread
  }

  /** Waits for commits and merges under way. The memory of blocks is given back when nobody reads them any more. */
  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async #close(): Promise<void> {
    if (this.#mergeRetry !== null) clearTimeout(this.#mergeRetry)
    this.#giveUpTurn?.()
    while (this.#merging !== null) await this.#merging
    while (this.#folding !== null) await this.#folding
    await this.#commits.idle()
    await this.erased()
    const last = this.#snapshot
    this.#unread = new Promise<void>((resolve) => {
      this.#snapshot = last.successor(last.version, [], () => {
        for (const block of last.blocks) this.#letGo(block)
        resolve()
      })
    })
  }

  get #heads(): Region {
    return this.#parts.memory.heads
  }

  /**
   * Throws TABLE_NOT_FOUND when the table was deleted, TABLE_REPLACED when another generation has its name, SHUTTING_DOWN
   * when it is closed.
   */
  assertUsable(): void {
    if (this.#isDropped) {
      if (this.#isSealed) this.#assertWritable()
      throw (
        this.#parts.missing?.(this.name) ??
        new FramesError('TABLE_NOT_FOUND', `there is no table '${this.name}': it was deleted`)
      )
    }
    if (this.#closed !== null) throw new FramesError('SHUTTING_DOWN', `table '${this.name}' is closed`)
  }

  #assertWritable(): void {
    if (this.#isSealed) throw new FramesError('TABLE_REPLACED', `table '${this.name}' was overwritten meanwhile`)
    this.assertUsable()
  }

  #letGo(block: LiveBlock): void {
    if (block.memory !== null) this.#heads.free(block.memory)
    freeDead(this.#heads, block.dead)
  }

  // ---- commits ------------------------------------------------------------------------------------------------------

  /** Sends a block ahead, marked under `stage`, in batches of their own. */
  async #stageBlock(block: PreparedBlock, id: bigint): Promise<void> {
    const { store, bytes } = this.#parts
    const { partition } = this
    const marker = { key: stageKey(id), value: seal(stageKey(id), encodeErase(false, block.segmentByteLengths.length)) }
    const sent = [store.commit({ partition, puts: [marker] })]
    // Nothing is written without the mark by which it is found after a crash.
    const send = (puts: readonly Entry[]): void => void sent.push(store.commit({ partition, expect: [marker], puts }))
    let batch: Entry[] = []
    let byteLength = 0
    for (const entry of blockEntries(bytes, block, id, false)) {
      if (byteLength > 0 && byteLength + entry.value.length > commitByteLengthMax) {
        send(batch)
        batch = []
        byteLength = 0
      }
      batch.push(entry)
      byteLength += entry.value.length
    }
    send(batch)
    // All of them, because the bytes must stay in place for the last one; the first failure is the one that counts.
    const results = await Promise.allSettled(sent)
    for (const result of results) if (result.status === 'rejected') throw result.reason
  }

  /** Erases what was sent ahead for a commit that will not come. */
  #discard(blocks: readonly Pick<PreparedBlock, 'segmentByteLengths'>[], ids: readonly bigint[]): void {
    this.#eraseSoon(
      blocks.flatMap((block, i) => [...eraseKeys(ids[i]!, false, block.segmentByteLengths.length), stageKey(ids[i]!)]),
    )
  }

  /** One numbered commit; `contents` are the bytes of the packed blocks among `added`, in the same order. */
  #commit(
    build: (commit: number) => LiveChange,
    contents: readonly Uint8Array[],
    onFailure?: (error: unknown) => void,
  ): Promise<void> {
    let change: LiveChange
    return this.#commits.run({
      build: (commit) => {
        if (this.#isDropped) this.assertUsable() // a merge may still end while the table is closed
        change = build(commit)
        return change
      },
      publish: (commit) => this.#publish(commit, { ...change, added: this.#keepInMemory(change.added, contents) }),
      ...(onFailure === undefined ? {} : { onFailure }),
    })
  }

  /** Copies small new blocks into the heads' region, so that readers need not fetch each from the store. */
  #keepInMemory(added: readonly LiveBlock[], contents: readonly Uint8Array[]): LiveBlock[] {
    const { bytes } = this.#parts
    return added.map((block, i) => {
      const content = contents[i]
      if (!block.isPacked || content === undefined) return block
      const slice = this.#heads.tryAllocate(block.byteLength)
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
        this.#unfolded.delete(block.id)
      }
      next = isReplacement && gone.length > 0 ? kept : [...kept, ...added]
      if (isRewrite || (isReplacement && gone.length === 0)) next = inCommitOrder(next)
    } else if (added.length > 0) next = [...blocks, ...added]
    const outdated: DeadRows[] = []
    if (kills.length > 0) next = this.#withKills(next, kills, outdated)
    if (killsByteLength > 0) {
      this.#killCommits.push(version)
      this.#killByteLength += killsByteLength
      for (const { blockId } of kills) if (!removed.has(blockId)) this.#unfolded.add(blockId)
    }
    if (schema !== undefined) this.#schema = schema
    const retire = (): void => {
      for (const dead of outdated) freeDead(this.#heads, dead)
      this.#erase(gone)
    }
    this.#snapshot = this.#snapshot.successor(version, next, gone.length + outdated.length > 0 ? retire : null)
  }

  /** The blocks after these kills; bitmaps that others take the place of go to `outdated`. */
  #withKills(blocks: readonly LiveBlock[], kills: readonly Kill[], outdated: DeadRows[]): LiveBlock[] {
    const { bytes } = this.#parts
    const rowsOf = new Map(kills.map(({ blockId, rows }) => [blockId, rows]))
    return blocks.map((block) => {
      const rows = rowsOf.get(block.id)
      if (rows === undefined) return block
      const bitmap = copyDead(bytes, block.dead, block.rowCount)
      const count = killRows(bitmap, rows)
      if (count === 0) return block
      if (block.dead !== null) outdated.push(block.dead)
      return { ...block, dead: placeDead(this.#heads, bytes, bitmap, (block.dead?.count ?? 0) + count) }
    })
  }

  // ---- folding kills into bitmaps -----------------------------------------------------------------------------------

  /** Runs work when no other such work is under way. */
  #alone<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#lastAlone.then(work)
    this.#lastAlone = result.catch(() => undefined)
    return result
  }

  #foldSoon(): void {
    if (this.#folding !== null || this.#closed !== null || this.#isDropped || this.#killCommits.length === 0) return
    if (this.#killCommits.length < foldCommitCountMax) {
      if (this.#killByteLength < foldByteLengthMin) return
      let bitmapByteLength = 0
      for (const { id, dead } of this.#snapshot.blocks)
        if (dead !== null && this.#unfolded.has(id)) bitmapByteLength += storedDeadByteLength(dead, this.#parts.bytes)
      if (this.#killByteLength < bitmapByteLength) return
    }
    this.#folding = this.#alone(() => this.#fold())
      .catch((error: unknown) => {
        // Nothing is lost: the kills stay as they are.
        if (!this.#isDropped) this.#parts.report(`folding dead rows of table '${this.name}' failed`, error)
      })
      .finally(() => {
        this.#folding = null
      })
  }

  /** Writes whole bitmaps instead of the kills of all commits up to now. */
  async #fold(): Promise<void> {
    const snapshot = this.#snapshot.acquire()
    try {
      const blocks = snapshot.blocks.filter(({ id, dead }) => dead !== null && this.#unfolded.has(id))
      const folded = this.#killCommits.filter((commit) => commit <= snapshot.version)
      const byteLength = this.#killByteLength
      // The kills go last, with the last bitmaps. Bitmaps only gain bits, so those of earlier commits do no harm.
      for (let from = 0; from === 0 || from < blocks.length; ) {
        let to = from
        const puts: Entry[] = []
        for (let length = 0; to < blocks.length && length < commitByteLengthMax; to++) {
          const { id, dead, rowCount } = blocks[to]!
          const entries = deadEntries(id, copyDead(this.#parts.bytes, dead, rowCount), dead!.count)
          for (const { value } of entries) length += value.length
          puts.push(...entries)
        }
        const deletes = to < blocks.length ? [] : folded.flatMap((commit) => killsKeys(BigInt(commit)))
        await this.#commit(() => ({ puts, deletes, makesRoom: true, added: [], removed: new Set() }), [])
        from = Math.max(to, 1)
      }
      this.#killCommits = this.#killCommits.slice(folded.length)
      this.#killByteLength = Math.max(0, this.#killByteLength - byteLength)
      const now = new Map(this.#snapshot.blocks.map((block) => [block.id, block.dead]))
      for (const { id, dead } of blocks) {
        if (now.get(id) === dead) this.#unfolded.delete(id)
        // Dropped by a commit that was on its way.
        else if (!now.has(id)) this.#eraseSoon(deadKeys(id))
      }
    } finally {
      snapshot.release()
    }
  }

  // ---- merges -------------------------------------------------------------------------------------------------------

  #scheduleMerge(): void {
    if (
      this.#closed !== null ||
      this.#isDropped ||
      this.#rule === null ||
      this.#merging !== null ||
      this.#mergeRetry !== null
    )
      return
    const { blocks } = this.#snapshot
    const outlived = blocks.filter(({ dead, rowCount, damage }) => dead?.count === rowCount && damage === null)
    let work: () => Promise<unknown>
    if (outlived.length > 0) work = () => this.#dropBlocks(outlived)
    else {
      const choice = this.#chooseMerge() ?? chooseRewrite(blocks, ({ id }) => !this.#unreadable.has(id))
      if (choice === null || this.#isPostponed()) return
      work = () => this.#merge(choice.start, choice.end)
    }
    this.#startWork(
      work().catch((error: unknown) => {
        // Rows died while they were merged: it is begun again.
        const isOutdated = error instanceof FramesError && error.code === 'VIEW_OUTDATED'
        if (!this.#isDropped && this.#closed === null && !isOutdated)
          this.#parts.report(`merging runs of table '${this.name}' failed`, error)
      }),
    )
  }

  /** Takes blocks without a living row out of the table. */
  async #dropBlocks(blocks: readonly LiveBlock[]): Promise<void> {
    const removed = new Set(blocks.map(({ id }) => id))
    try {
      await this.#alone(() =>
        this.#commit(
          () => ({
            puts: blocks.map(goneMark),
            deletes: blocks.flatMap(liveKeysOf),
            makesRoom: true,
            added: [],
            removed,
          }),
          [],
        ),
      )
    } catch (error) {
      this.#backOff()
      throw error
    }
  }

  /** Merges leave the workers to requests until they are idle, or until too many runs have gathered. */
  #isPostponed(): boolean {
    const { runningCount, queueCount } = this.#parts.pool.statistics()
    const runs = runsOf(this.#snapshot.blocks)
    if (runningCount + queueCount === 0 || this.#mergeableRunCount() >= patientRunCountMax) return false
    // Nor for ever where half of what is stored is dead.
    if (runs.reduce((sum, { rowCount, deadRowCount }) => sum + deadRowCount - rowCount, 0) >= 0) return false
    this.#mergeLater ??= setTimeout(() => {
      this.#mergeLater = null
      this.#scheduleMerge()
    }, mergePatienceMs).unref()
    return true
  }

  #startWork(work: Promise<unknown>): void {
    const merging = work.then(
      () => undefined,
      () => undefined,
    )
    this.#merging = merging
    void merging.then(() => {
      this.#merging = null
      this.#scheduleMerge()
    })
  }

  #isBarrier(run: { start: number; end: number }): boolean {
    if (this.#unreadable.size === 0) return false
    return this.#snapshot.blocks.slice(run.start, run.end).some((block) => this.#unreadable.has(block.id))
  }

  /** Block indexes [start, end) of the current snapshot to merge, or null. */
  #chooseMerge(): { start: number; end: number } | null {
    const runs = runsOf(this.#snapshot.blocks)
    let from = 0
    for (let i = 0; i <= runs.length; i++) {
      if (i < runs.length && !this.#isBarrier(runs[i]!)) continue
      const stretch = runs.slice(from, i)
      const choice = chooseMerge(stretch, this.#bounds)
      if (choice !== null) return { start: stretch[choice.start]!.start, end: stretch[choice.end - 1]!.end }
      from = i + 1
    }
    return null
  }

  /** Runs `work` when no merge is under way, and keeps merges from starting meanwhile. */
  async exclusively(work: () => Promise<void>): Promise<void> {
    while (this.#merging !== null) await this.#merging
    this.assertUsable()
    const working = work()
    this.#startWork(working)
    await working
  }

  /** Writers wait here while merges are far behind, never inside a turn that merges wait for. */
  async waitForMerges(): Promise<void> {
    while (this.#merging !== null && this.#mergeableRunCount() > runCountMax) await this.#merging
  }

  /** Runs that later merges may take. */
  #mergeableRunCount(): number {
    let count = 0
    for (const run of runsOf(this.#snapshot.blocks)) if (isMergeable(run, this.#bounds)) count++
    return count
  }

  /**
   * Merges the blocks [start, end) of the current snapshot into one run. False when one of them is damaged: it is
   * reported and a barrier from then on.
   */
  async #merge(start: number, end: number): Promise<boolean> {
    const snapshot = this.#snapshot.acquire()
    const inputs = snapshot.blocks.slice(start, end)
    this.#merged = new Set(inputs.map(({ id }) => id))
    try {
      await this.#mergeBlocks(inputs)
      return true
    } catch (error) {
      if (error instanceof FramesError && error.code === 'DATA_DAMAGED') {
        await this.#findDamage(inputs, error.what)
        return false
      }
      this.#backOff()
      throw error
    } finally {
      this.#merged = new Set()
      snapshot.release()
    }
  }

  async #mergeBlocks(inputs: readonly LiveBlock[]): Promise<void> {
    const { bytes } = this.#parts
    const sources = await this.sources(inputs)
    const firstCommit = inputs[0]!.firstCommit
    const lastCommit = inputs[inputs.length - 1]!.lastCommit
    const added: LiveBlock[] = []
    const waitsForTurn = this.#rule?.settle !== undefined
    const contents: Uint8Array[] = []
    const staged: { readonly block: PreparedBlock; readonly id: bigint }[] = []
    const puts: Entry[] = []
    let held: JobResult<MergeStep> | null = null
    let position: unknown = null
    try {
      do {
        const done: JobResult<MergeStep> = await this.#mergeStep(sources, position)
        const isFirst = added.length === 0
        position = done.result.next
        try {
          for (const block of done.result.blocks) {
            const id = newBlockId()
            const isAlone =
              isFirst &&
              position === null &&
              done.result.blocks.length === 1 &&
              block.packed.byteLength <= commitByteLengthMax
            const isPacked = isAlone && fitsOneValue(block)
            if (isPacked && waitsForTurn) {
              // Whoever has the turn may need the memory that this merge would hold.
              contents.push(contentOf(bytes, block).slice())
              puts.push({ key: packedKey(id), value: contents[0]! })
            } else if (isAlone && !waitsForTurn) {
              if (isPacked) contents.push(contentOf(bytes, block))
              puts.push(...blockEntries(bytes, block, id, isPacked))
              held = done
            } else {
              staged.push({ block, id })
              await this.#stageBlock(block, id)
            }
            added.push(liveOf(block, id, firstCommit, lastCommit, isPacked))
            this.mergedByteLength += block.packed.byteLength
          }
        } finally {
          if (held !== done) done.release()
        }
      } while (position !== null)
      await this.#inTurn(() =>
        this.#alone(async () => {
          const kills = await this.#settle(inputs, added, contents)
          const dead = kills.flatMap(({ blockId, rows }) => {
            const bitmap = copyDead(bytes, null, added.find(({ id }) => id === blockId)!.rowCount)
            return deadEntries(blockId, bitmap, killRows(bitmap, rows))
          })
          const removed = new Set(inputs.map(({ id }) => id))
          await this.#commit(() => {
            // As they are now: rows of them may have died since the merge began.
            const gone = this.#snapshot.blocks.filter(({ id }) => removed.has(id))
            return {
              puts: [...puts, ...added.map(encodeLive), ...gone.map(goneMark), ...dead],
              deletes: [...staged.map(({ id }) => stageKey(id)), ...gone.flatMap(liveKeysOf)],
              makesRoom: true,
              added,
              removed,
              isReplacement: true,
              kills,
            }
          }, contents)
        }),
      )
    } catch (error) {
      if (error instanceof FramesError)
        this.#discard(
          staged.map(({ block }) => block),
          staged.map(({ id }) => id),
        )
      throw error
    } finally {
      held?.release()
    }
  }

  /**
   * Writes blocks anew, each for itself and in its place among the commits, all in one commit: what a delete of some rows
   * needs. Commits that come meanwhile stay as they are.
   *
   * choose  which of the blocks of now leave the table, and which are written anew
   * step    the job that writes what stays of a block (see MergeRule.step); it answers with `isUnchanged` where all stays
   */
  async rewrite(
    choose: (blocks: readonly LiveBlock[]) => { dropped: readonly LiveBlock[]; rewritten: readonly LiveBlock[] },
    step: (sources: readonly BlockSource[], position: unknown) => RuleJob,
  ): Promise<void> {
    await this.exclusively(async () => {
      const snapshot = this.#snapshot.acquire()
      const staged: { readonly block: PreparedBlock; readonly id: bigint }[] = []
      const added: LiveBlock[] = []
      try {
        const { dropped, rewritten } = choose(snapshot.blocks)
        const gone = [...dropped]
        for (const block of rewritten) {
          const sources = await this.sources([block])
          let isUnchanged = false
          let position: unknown = null
          do {
            const done = await this.#runRule<RewriteStep>(() => step(sources, position), mergeScratchByteLength)
            try {
              position = done.result.next
              isUnchanged = done.result.isUnchanged
              for (const part of done.result.blocks) {
                const id = newBlockId()
                staged.push({ block: part, id })
                await this.#stageBlock(part, id)
                added.push(liveOf(part, id, block.firstCommit, block.lastCommit, false))
                this.mergedByteLength += part.packed.byteLength
              }
            } finally {
              done.release()
            }
          } while (position !== null)
          if (!isUnchanged) gone.push(block)
        }
        if (gone.length === 0) return
        await this.#commit(
          () => ({
            puts: [...added.map(encodeLive), ...gone.map(goneMark)],
            deletes: [...staged.map(({ id }) => stageKey(id)), ...gone.flatMap(liveKeysOf)],
            makesRoom: true,
            added,
            removed: new Set(gone.map(({ id }) => id)),
            isRewrite: true,
          }),
          [],
        )
      } catch (error) {
        this.#discard(
          staged.map(({ block }) => block),
          staged.map(({ id }) => id),
        )
        throw error
      } finally {
        snapshot.release()
      }
    })
  }

  /**
   * Runs the end of a merge in the backend's turn, if it has one. A table that is being closed does not wait for it: whoever
   * has the turn may wait for the table.
   */
  #inTurn(work: () => Promise<void>): Promise<void> {
    const settle = this.#rule?.settle
    if (settle === undefined) return work()
    return new Promise((resolve, reject) => {
      let isGivenUp = false
      this.#giveUpTurn = () => {
        isGivenUp = true
        reject(new FramesError('SHUTTING_DOWN', `table '${this.name}' is closed`))
      }
      if (this.#closed !== null || this.#isDropped) this.#giveUpTurn()
      settle
        .inTurn(async () => {
          if (isGivenUp) return
          this.#giveUpTurn = null
          await work()
        })
        .then(resolve, reject)
    })
  }

  /** Which rows of merged blocks are dead already: those that died in the inputs since the merge began. */
  async #settle(
    inputs: readonly LiveBlock[],
    added: readonly LiveBlock[],
    contents: readonly Uint8Array[],
  ): Promise<Kill[]> {
    const { bytes } = this.#parts
    const now = new Map(this.#snapshot.blocks.map((block) => [block.id, block.dead]))
    const died = inputs.flatMap((block): LiveBlock[] => {
      const dead = now.get(block.id)
      if (dead === null || dead === block.dead) return []
      const bits = copyDead(bytes, dead ?? null, block.rowCount)
      // Not live any more: a commit that was on its way when the merge began killed its last rows.
      if (dead === undefined) for (let row = 0; row < block.rowCount; row++) bits[row >> 3]! |= 1 << (row & 7)
      if (block.dead !== null) {
        const before = deadBytes(bytes, block.dead)
        for (let i = 0; i < bits.length; i++) bits[i]! &= ~before[i]!
      }
      return [{ ...block, dead: { count: countDead(bits), bits } }]
    })
    if (died.length === 0) return []
    const settle = this.#rule?.settle
    if (settle === undefined) throw new FramesError('VIEW_OUTDATED', `rows of table '${this.name}' died while merged`)
    // A packed output is not stored yet.
    const outputs = contents.length === 0 ? await this.sources(added) : [toSource(added[0]!, contents)]
    const sources = await this.sources(died)
    const done = await this.#runRule<readonly Uint32Array[]>(
      () => settle.job(sources, outputs),
      settleScratchByteLength,
    )
    done.release()
    return done.result.flatMap((rows, i) => (rows.length === 0 ? [] : [{ blockId: added[i]!.id, rows }]))
  }

  #mergeStep(sources: readonly BlockSource[], position: unknown): Promise<JobResult<MergeStep>> {
    const rule = this.#rule
    assert(rule !== null, 'a table that merges has a merge rule')
    return this.#runRule(() => rule.step(sources, position), mergeScratchByteLength)
  }

  async #runRule<R>(ruleJob: () => RuleJob, scratchByteLengthWanted: number): Promise<JobResult<R>> {
    const { pool, memory } = this.#parts
    const scratchByteLength = Math.min(scratchByteLengthWanted, memory.arenas.slice.byteLength / 2)
    for (let tries = 0; ; tries++) {
      const { job, release } = ruleJob()
      try {
        return await pool.runToEnd<R>(job, { scratchByteLength })
      } catch (error) {
        const isOutdated = error instanceof FramesError && error.code === 'VIEW_OUTDATED'
        if (!isOutdated || tries >= viewRetryCountMax) throw error
      } finally {
        release()
      }
    }
  }

  /** Finds out which blocks of a failed merge are damaged; they are barriers from now on. */
  async #findDamage(blocks: readonly LiveBlock[], what: string): Promise<void> {
    let isFound = false
    for (const block of blocks) {
      const damages = await this.verify(block)
      if (damages.length === 0) continue
      isFound = true
      this.#unreadable.set(block.id, damages.join('; '))
      for (const damage of damages) this.#parts.report(damage, null)
    }
    if (isFound) return
    for (const block of blocks) this.#unreadable.set(block.id, what)
    this.#parts.report(what, null)
  }

  /** What is wrong with a block of a snapshot that the caller holds, a line each; none when all of it can be read. */
  async verify(block: LiveBlock): Promise<string[]> {
    const { store, pool } = this.#parts
    const [source] = await this.sources([block])
    const job: VerifyJob = {
      kind: 'blocks.verify',
      partition: this.partition,
      tableName: this.name,
      access: store.workerAccess,
      source: source!,
    }
    const done = await pool.runToEnd<string[]>(job, { scratchByteLength: verifyScratchByteLength })
    done.release()
    return done.result
  }

  #backOff(): void {
    if (this.#closed !== null) return
    if (this.#mergeRetry !== null) clearTimeout(this.#mergeRetry)
    this.#mergeRetry = setTimeout(() => {
      this.#mergeRetry = null
      this.#scheduleMerge()
    }, mergeRetryMs).unref()
  }

  // ---- erasing ------------------------------------------------------------------------------------------------------

  /** Frees and erases what no reader can see any more. */
  #erase(blocks: readonly LiveBlock[]): void {
    for (const block of blocks) this.#letGo(block)
    this.#eraseSoon(
      blocks.flatMap((block) => [...eraseKeys(block.id, block.isPacked, block.segmentCount), goneKey(block.id)]),
    )
  }

  /** The mark of a block stands behind its other keys, so that it goes last. */
  #eraseSoon(keys: readonly Uint8Array[]): void {
    if (keys.length === 0) return
    for (const key of keys) this.#toErase.push(key)
    this.#erasing ??= this.#eraseWaiting().finally(() => {
      this.#erasing = null
    })
  }

  async #eraseWaiting(): Promise<void> {
    const { store, report } = this.#parts
    while (this.#toErase.length > 0 && !this.#isDropped) {
      const deletes = this.#toErase.splice(0, eraseKeyCountMax)
      try {
        await store.commit({ partition: this.partition, puts: [], deletes, makesRoom: true })
      } catch (error) {
        // Tried again with what is erased next, or else when the table is opened: it stands under its mark.
        this.#toErase.unshift(...deletes)
        report(`erasing unused blocks of table '${this.name}' failed`, error)
        return
      }
    }
  }

  /** Blocks that a crash left behind: written but never live, or no longer live. */
  async #eraseLeftovers(unusedKeys: readonly Uint8Array[]): Promise<void> {
    const { store, report } = this.#parts
    this.#eraseSoon(unusedKeys)
    for (const kind of [keyKinds.stage, keyKinds.gone]) {
      for await (const { key, value } of scanAll(store, this.partition, kindRange(kind))) {
        const payload = unseal(key, value)
        const [id] = keyNumbers(key) as [bigint]
        if (payload !== null) {
          const { isPacked, segmentCount } = decodeErase(payload)
          this.#eraseSoon([...eraseKeys(id, isPacked, segmentCount), key])
          continue
        }
        report(`the mark of unused block ${id} of table '${this.name}' is damaged: its segments are searched for`, null)
        const segments: Uint8Array[] = []
        for await (const entry of scanAll(store, this.partition, blockRange(id), true)) segments.push(entry.key)
        this.#eraseSoon([packedKey(id), headKey(id), ...segments, key])
      }
    }
    await this.erased()
  }
}

function liveOf(
  block: PreparedBlock,
  id: bigint,
  firstCommit: number,
  lastCommit: number,
  isPacked: boolean,
): LiveBlock {
  return {
    id,
    firstCommit,
    lastCommit,
    rowCount: block.rowCount,
    byteLength: block.packed.byteLength,
    headerByteLength: block.headerByteLength,
    headerCrc: block.headerCrc,
    segmentCount: block.segmentByteLengths.length,
    isPacked,
    extent: block.extent,
    memory: null,
    dead: null,
    damage: null,
  }
}

function inCommitOrder(blocks: readonly LiveBlock[]): LiveBlock[] {
  return [...blocks].sort((a, b) => a.lastCommit - b.lastCommit)
}

/** A packed block, as a view of the shared memory. */
function contentOf(bytes: Uint8Array, { packed }: PreparedBlock): Uint8Array {
  return bytes.subarray(packed.byteOffset, packed.byteOffset + packed.byteLength)
}

/** The mark of a block that is no longer live. */
function goneMark({ id, isPacked, segmentCount }: LiveBlock): Entry {
  const key = goneKey(id)
  return { key, value: seal(key, encodeErase(isPacked, segmentCount)) }
}

/** What goes in the commit that takes a block out of the table. */
function liveKeysOf(block: LiveBlock): Uint8Array[] {
  const { key } = encodeLive(block)
  return block.dead === null ? [key] : [key, ...deadKeys(block.id)]
}

function schemaEntries(schema: Uint8Array): Entry[] {
  return [schemaKey, schemaCopyKey].map((key) => ({ key, value: seal(key, schema) }))
}

/** A bitmap with `count` dead rows as it is stored. */
function deadEntries(id: bigint, bitmap: Uint8Array, count: number): Entry[] {
  const payload = encodeDead(bitmap, count)
  return deadKeys(id).map((key) => ({ key, value: seal(key, payload) }))
}

/** About what the two stored copies of a bitmap take. */
function storedDeadByteLength(dead: DeadRows, memory: Uint8Array): number {
  return 2 * Math.min(deadBytes(memory, dead).length, 2 * dead.count)
}

/** A commit this small is stored as one value. */
function fitsOneValue(block: PreparedBlock): boolean {
  return block.rowCount < logCommitRowCountMax && block.packed.byteLength < logCommitByteLengthMax
}

/** The stored values of a block, as views of the shared memory. */
function blockEntries(bytes: Uint8Array, block: PreparedBlock, id: bigint, isPacked: boolean): Entry[] {
  const { packed, headerByteLength } = block
  const view = (start: number, byteLength: number): Uint8Array => bytes.subarray(start, start + byteLength)
  if (isPacked) return [{ key: packedKey(id), value: view(packed.byteOffset, packed.byteLength) }]
  const entries = [{ key: headKey(id), value: view(packed.byteOffset, headerByteLength) }]
  let start = packed.byteOffset + headerByteLength
  block.segmentByteLengths.forEach((byteLength, segment) => {
    entries.push({ key: dataKey(id, segment), value: view(start, byteLength) })
    start += byteLength
  })
  return entries
}

function eraseKeys(id: bigint, isPacked: boolean, segmentCount: number): Uint8Array[] {
  if (isPacked) return [packedKey(id)]
  const keys = [headKey(id)]
  for (let segment = 0; segment < segmentCount; segment++) keys.push(dataKey(id, segment))
  return keys
}

function encodeErase(isPacked: boolean, segmentCount: number): Uint8Array {
  const payload = new Uint8Array(5)
  payload[0] = isPacked ? 1 : 0
  new DataView(payload.buffer).setUint32(1, segmentCount)
  return payload
}

function decodeErase(payload: Uint8Array): { isPacked: boolean; segmentCount: number } {
  return { isPacked: payload[0] === 1, segmentCount: new DataView(payload.buffer, payload.byteOffset).getUint32(1) }
}

/** The schema from its two copies, or null; a damaged copy goes to `healed`, as it should be. */
function openSchema(copies: readonly (Uint8Array | null | undefined)[], healed: Entry[]): Uint8Array | null {
  const keys = [schemaKey, schemaCopyKey]
  const payloads = keys.map((key, i) => (copies[i] == null ? null : unseal(key, copies[i])))
  const schema = payloads[0] ?? payloads[1] ?? null
  if (schema === null) return null
  keys.forEach((key, i) => {
    if (payloads[i] === null) healed.push({ key, value: seal(key, schema) })
  })
  return schema
}

/** Every entry of a range, read in steps. */
async function* scanAll(
  store: Store,
  partition: string,
  range: { start: Uint8Array; end: Uint8Array },
  keysOnly = false,
): AsyncGenerator<Entry> {
  let start = range.start
  for (;;) {
    const entries = await store.scan(partition, { start, end: range.end, limit: scanLimit, keysOnly })
    yield* entries
    if (entries.length < scanLimit) return
    const last = entries[entries.length - 1]!.key
    start = new Uint8Array(last.length + 1)
    start.set(last)
  }
}

/** Puts the bytes of packed blocks into the shared memory, as far as there is room. */
async function withMemory(
  { store, memory, bytes }: TableParts,
  partition: string,
  blocks: readonly LiveBlock[],
): Promise<LiveBlock[]> {
  const packed = blocks.filter((block) => block.isPacked)
  const values = await store.read(
    partition,
    packed.map(({ id }) => packedKey(id)),
  )
  const storedOf = new Map(packed.map(({ id }, i) => [id, values[i]]))
  return blocks.map((block) => {
    const value = storedOf.get(block.id)
    // Of another length than it should be: a reader finds that in the store.
    if (value == null || value.length !== block.byteLength) return block
    const slice = memory.heads.tryAllocate(value.length)
    if (slice === null) return block
    bytes.set(value, slice.byteOffset)
    return { ...block, memory: slice }
  })
}

/**
 * A live entry from its key and the block's header. When that is damaged, too, an entry without an extent: every read
 * looks into the block and says so.
 */
async function rebuildLive(store: Store, partition: string, key: Uint8Array): Promise<LiveBlock> {
  const commits = parseLiveKey(key)
  const { id } = commits
  const [head, packed] = await store.read(partition, [headKey(id), packedKey(id)])
  const isPacked = head == null && packed != null
  const lost: LiveBlock = {
    ...commits,
    rowCount: 0,
    byteLength: 0,
    headerByteLength: 0,
    headerCrc: 0,
    segmentCount: 0,
    isPacked,
    extent: null,
    memory: null,
    dead: null,
    damage: null,
  }
  const bytes = head ?? packed
  const layout = bytes == null ? null : parseHeader(bytes)
  if (bytes == null || layout === null) return lost
  const headerByteLength = encodeHeader(layout).length
  if (headerByteLength > bytes.length) return lost
  const headerCrc = checksum(bytes.subarray(0, headerByteLength - 4))
  if (headerCrc !== new DataView(bytes.buffer, bytes.byteOffset).getUint32(headerByteLength - 4, true)) return lost
  let byteLength = headerByteLength
  for (const length of layout.segmentByteLengths) byteLength += length
  const { rowCount, extent } = layout
  return {
    ...lost,
    rowCount,
    byteLength,
    headerByteLength,
    headerCrc,
    segmentCount: layout.segmentByteLengths.length,
    extent,
  }
}

/** The dead rows of a table as they are stored. */
interface StoredDead {
  /** Of live blocks only. */
  readonly bitmaps: ReadonlyMap<bigint, Uint8Array>
  /** Blocks whose bitmaps are not stored as they are now, the commits that made them so, and the bytes of those. */
  readonly unfolded: ReadonlySet<bigint>
  readonly killCommits: number[]
  readonly killByteLength: number
  /** Blocks whose dead rows are lost, and why. */
  readonly damages: ReadonlyMap<bigint, string>
  /** Bitmaps of blocks that are gone. */
  readonly unusedKeys: readonly Uint8Array[]
}

/** Reads dead rows: the bitmaps, then the kills of later commits. What is damaged in one of its two copies is healed. */
async function readDead(
  { store, report }: TableParts,
  partition: string,
  name: string,
  blocks: readonly LiveBlock[],
  healed: Entry[],
): Promise<StoredDead> {
  const rowCounts = new Map(blocks.map(({ id, rowCount }) => [id, rowCount]))
  const bitmaps = new Map<bigint, Uint8Array>()
  const damages = new Map<bigint, string>()
  const unusedKeys: Uint8Array[] = []
  const heal = (what: string, entries: readonly Entry[]): void => {
    report(`a copy of ${what} of table '${name}' is damaged: it is written anew`, null)
    healed.push(...entries)
  }
  for await (const { number: id, payload, entries } of scanCopies(store, partition, 'dead')) {
    const rowCount = rowCounts.get(id)
    if (rowCount === undefined) unusedKeys.push(...deadKeys(id))
    else if (payload === null) {
      const what = `the dead rows of block ${id}`
      damages.set(id, 'its dead rows cannot be told from the others')
      report(`${what} of table '${name}' are damaged in both copies`, null)
    } else {
      bitmaps.set(id, decodeDead(payload, rowCount))
      if (entries.length > 0) heal(`the dead rows of block ${id}`, entries)
    }
  }
  const unfolded = new Set<bigint>()
  const killCommits: number[] = []
  let killByteLength = 0
  for await (const { number, payload, entries } of scanCopies(store, partition, 'kills')) {
    const commit = Number(number)
    if (payload === null) {
      report(`the rows of table '${name}' that died with commit ${commit} are damaged in both copies`, null)
      // Any older block may have had such rows.
      for (const { id, lastCommit } of blocks)
        if (lastCommit < commit) damages.set(id, `which of its rows died with commit ${commit} is not known`)
      continue
    }
    if (entries.length > 0) heal(`the rows that died with commit ${commit}`, entries)
    killCommits.push(commit)
    killByteLength += payload.length
    for (const { blockId, rows } of decodeKills(payload)) {
      const rowCount = rowCounts.get(blockId)
      if (rowCount === undefined) continue
      const bitmap = bitmaps.get(blockId) ?? copyDead(new Uint8Array(0), null, rowCount)
      killRows(bitmap, rowsBelow(rows, rowCount))
      bitmaps.set(blockId, bitmap)
      unfolded.add(blockId)
    }
  }
  return { bitmaps, unfolded, killCommits, killByteLength, damages, unusedKeys }
}

interface StoredTwice {
  readonly number: bigint
  /** Null when both copies are damaged. */
  readonly payload: Uint8Array | null
  /** The copy that is missing or damaged, as it should be. */
  readonly entries: readonly Entry[]
}

/** Values that are stored in two copies, by their number. */
async function* scanCopies(store: Store, partition: string, what: 'dead' | 'kills'): AsyncGenerator<StoredTwice> {
  const keysOf = what === 'dead' ? deadKeys : killsKeys
  const kinds = what === 'dead' ? [keyKinds.dead, keyKinds.deadCopy] : [keyKinds.kills, keyKinds.killsCopy]
  const [firsts, copies] = kinds.map((kind) => scanAll(store, partition, kindRange(kind))) as [
    AsyncGenerator<Entry>,
    AsyncGenerator<Entry>,
  ]
  let first = await firsts.next()
  let copy = await copies.next()
  while (first.done !== true || copy.done !== true) {
    const numbers = [first, copy].map((entry) => (entry.done === true ? null : keyNumbers(entry.value.key)[0]!))
    const number = numbers[0] === null || (numbers[1] !== null && numbers[1]! < numbers[0]!) ? numbers[1]! : numbers[0]!
    const keys = keysOf(number)
    const payloads = [first, copy].map((entry, i) =>
      entry.done === true || numbers[i] !== number ? null : unseal(keys[i]!, entry.value.value),
    )
    const payload = payloads[0] ?? payloads[1] ?? null
    const entries =
      payload === null
        ? []
        : keys.flatMap((key, i) => (payloads[i] === null ? [{ key, value: seal(key, payload) }] : []))
    yield { number, payload, entries }
    if (numbers[0] === number) first = await firsts.next()
    if (numbers[1] === number) copy = await copies.next()
  }
}
