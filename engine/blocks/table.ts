// One table: its live blocks, its commits and its merges. Main thread only; rows are touched by jobs, never here.
import { randomBytes } from 'node:crypto'
import { assert } from '../assert.js'
import { FramesError } from '../errors.js'
import { logCommitByteLengthMax, logCommitRowCountMax, MiB } from '../limits.js'
import type { Region } from '../memory/region.js'
import type { SharedMemory } from '../memory/shared-memory.js'
import type { Slice } from '../memory/slice.js'
import type { JobResult, Pool } from '../pool/pool.js'
import type { Entry, Store } from '../stores/store.js'
import { encodeHeader, parseHeader } from './block.js'
import { chooseMerge, mergedRunRowCountMax, runsOf } from './compaction.js'
import {
  dataKey,
  goneKey,
  headKey,
  keyKinds,
  keyNumbers,
  kindRange,
  liveKey,
  packedKey,
  schemaKey,
  setsKey,
  stageKey,
  versionKey,
} from './keys.js'
import type { LiveBlock } from './live-block.js'
import { decodeLive, encodeLive, toSource } from './live-block.js'
import type { MergeRule, MergeStep, PreparedBlock } from './merge-rule.js'
import type { BlockSource } from './reader.js'
import { seal, unseal } from './sealed.js'
import { Snapshot } from './snapshot.js'

/** What a table works with. */
export interface TableParts {
  readonly store: Store
  readonly memory: SharedMemory
  /** The whole shared memory as bytes. */
  readonly bytes: Uint8Array
  readonly pool: Pool
  /** Something went wrong outside any request. */
  readonly report: (message: string, error: unknown) => void
}

/** A commit that carries more than this sends segments ahead, so that other writers are not held up. */
const commitByteLengthMax = 4 * MiB
/** Tries of one commit when others keep winning; in one process only a failed neighbour causes a second. */
const commitTriesMax = 16
/** Writers wait while there are more runs than this: look-ups and merges stay bounded. */
const runCountMax = 256
/** Entries read from the store at once. */
const scanLimit = 1000

/** Scratch of a merge job: decoded pages of its inputs, one block being built, its encoded bytes. */
const mergeScratchByteLength = 48 * MiB

/** Rows on their way: see stageRows. */
export interface StagedRows {
  readonly prepared: readonly PreparedBlock[]
  readonly ids: readonly bigint[]
  readonly isPacked: boolean
  readonly isSentAhead: boolean
}

/** A change to the live blocks, under the commit number it gets. */
interface Change {
  readonly puts: readonly Entry[]
  readonly deletes: readonly Uint8Array[]
  readonly added: readonly LiveBlock[]
  readonly removed: ReadonlySet<bigint>
}

const processNumber = BigInt(randomBytes(4).readUInt32BE()) << 32n
let blockCounter = 0n

/** Unique in this process, and with the process's random number among all. */
function newBlockId(): bigint {
  return processNumber | ++blockCounter
}

function versionValue(version: number): Uint8Array {
  const payload = new Uint8Array(8)
  new DataView(payload.buffer).setBigUint64(0, BigInt(version))
  return seal(versionKey, payload)
}

export class BlockTable {
  readonly #parts: TableParts
  #snapshot: Snapshot
  /** The number of the next commit; those below it are published or on their way. */
  #nextCommit: number
  #inFlight = 0
  /** A commit failed: those behind it fail too, and new ones wait until all are back. */
  #isBroken = false
  #waiting: (() => void)[] = []
  #isDropped = false
  #merging: Promise<void> | null = null
  #pauseMerges = false
  /** Blocks that a merge could not read: barriers for later merges. */
  readonly #unreadable = new Set<bigint>()
  #erasing: Promise<void> | null = null
  #toErase: Uint8Array[] = []
  #rule: MergeRule | null = null
  /** For statistics: bytes that commits brought, and bytes that merges wrote. */
  committedByteLength = 0
  mergedByteLength = 0

  private constructor(
    parts: TableParts,
    readonly partition: string,
    readonly name: string,
    readonly schema: Uint8Array,
    version: number,
    blocks: readonly LiveBlock[],
  ) {
    this.#parts = parts
    this.#snapshot = Snapshot.first(version, blocks)
    this.#nextCommit = version + 1
  }

  /** Writes the first commit of a new partition. */
  static async create(parts: TableParts, partition: string, name: string, schema: Uint8Array): Promise<void> {
    await parts.store.commit({
      partition,
      expect: [{ key: versionKey, value: null }],
      puts: [
        { key: versionKey, value: versionValue(0) },
        { key: schemaKey, value: seal(schemaKey, schema) },
      ],
    })
    void name
  }

  /** Reads a table back. Damaged live entries are reported and rebuilt from their blocks where possible. */
  static async open(parts: TableParts, partition: string, name: string): Promise<BlockTable> {
    const { store } = parts
    const [versionBytes, schemaBytes] = await store.read(partition, [versionKey, schemaKey])
    const schema = schemaBytes == null ? null : unseal(schemaKey, schemaBytes)
    if (schema === null) throw new FramesError('DATA_DAMAGED', `the schema of table '${name}' is missing or damaged`)
    let version = 0
    const versionPayload = versionBytes == null ? null : unseal(versionKey, versionBytes)
    if (versionPayload !== null)
      version = Number(new DataView(versionPayload.buffer, versionPayload.byteOffset).getBigUint64(0))
    else parts.report(`the version of table '${name}' is damaged: it is set anew`, null)
    const blocks: LiveBlock[] = []
    for await (const { key, value } of scanAll(store, partition, kindRange(keyKinds.live))) {
      const [lastCommit, id] = keyNumbers(key) as [bigint, bigint]
      let block = decodeLive(key, id, Number(lastCommit), value)
      if (block === null) {
        block = await rebuildLive(store, partition, id, Number(lastCommit))
        parts.report(`the live entry of block ${id} of table '${name}' is damaged`, null)
      }
      if (block === null)
        throw new FramesError('DATA_DAMAGED', `block ${id} of table '${name}' has lost its live entry and its header`)
      version = Math.max(version, block.lastCommit)
      blocks.push(await withMemory(parts, partition, block))
    }
    if (versionPayload === null) {
      await store.commit({ partition, puts: [{ key: versionKey, value: versionValue(version) }] })
    }
    const table = new BlockTable(parts, partition, name, schema, version, blocks)
    await table.#eraseLeftovers()
    return table
  }

  /** From now on runs are merged in the background, by this rule. */
  startMerging(rule: MergeRule): void {
    this.#rule = rule
    this.#scheduleMerge()
  }

  /** Resolves when what merges made superfluous, and nobody reads, is erased from the store. */
  async erased(): Promise<void> {
    while (this.#erasing !== null) await this.#erasing
  }

  /** The published state; give it back with `release()`. */
  acquire(): Snapshot {
    this.#assertUsable()
    return this.#snapshot.acquire()
  }

  get blocks(): readonly LiveBlock[] {
    return this.#snapshot.blocks
  }

  get version(): number {
    return this.#snapshot.version
  }

  /**
   * First step of a commit of rows: waits while merges are far behind, and sends the segments of a large commit ahead.
   * The prepared bytes must stay in place until commitRows resolves.
   */
  async stageRows(prepared: readonly PreparedBlock[]): Promise<StagedRows> {
    await this.#waitForMerges()
    const ids = prepared.map(newBlockId)
    const isPacked = prepared.length === 1 && fitsOneValue(prepared[0]!)
    let total = 0
    for (const block of prepared) total += block.packed.byteLength
    const isSentAhead = total > commitByteLengthMax
    const { bytes } = this.#parts
    if (isSentAhead) for (let i = 0; i < prepared.length; i++) await this.#stageBlock(bytes, prepared[i]!, ids[i]!)
    return { prepared, ids, isPacked, isSentAhead }
  }

  /**
   * Second step: makes rows durable and visible, all or nothing: a small commit as one packed value, a larger one as
   * blocks. Commits take effect in the order of these calls. `isWanted` is asked before a commit is tried again.
   */
  async commitRows(
    { prepared, ids, isPacked, isSentAhead }: StagedRows,
    isWanted: () => boolean = () => true,
  ): Promise<void> {
    const { bytes } = this.#parts
    await this.#commit(
      (commit) => {
        const puts: Entry[] = []
        const added = prepared.map((block, i) => {
          if (!isSentAhead) puts.push(...blockEntries(bytes, block, ids[i]!, isPacked))
          return liveOf(block, ids[i]!, commit, commit, isPacked)
        })
        const deletes = isSentAhead ? ids.map(stageKey) : []
        return { puts: [...puts, ...added.map(encodeLive)], deletes, added, removed: new Set() }
      },
      prepared,
      isWanted,
    )
    for (const block of prepared) this.committedByteLength += block.packed.byteLength
    this.#scheduleMerge()
  }

  /** Commits entries that are no blocks (new label sets). Resolves `submitted` order is kept: later commits depend on it. */
  commitEntries(puts: readonly Entry[]): Promise<void> {
    return this.#commit(() => ({ puts, deletes: [], added: [], removed: new Set() }), [])
  }

  /** All entries under `sets`, in order. */
  async *setsEntries(): AsyncGenerator<Entry> {
    yield* scanAll(this.#parts.store, this.partition, kindRange(keyKinds.sets))
  }

  static setsEntry(first: number, payload: Uint8Array): Entry {
    const key = setsKey(BigInt(first))
    return { key, value: seal(key, payload) }
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

  /** Merges all runs into one (of bounded size). `smallOnly`: only what stands as packed commits. */
  async compact(): Promise<void> {
    await this.#exclusively(async () => {
      for (;;) {
        const runs = runsOf(this.#snapshot.blocks)
        let merged = false
        for (let start = 0; start + 1 < runs.length && !merged; start++) {
          let end = start
          let rowCount = 0
          while (
            end < runs.length &&
            rowCount + runs[end]!.rowCount <= mergedRunRowCountMax &&
            !this.#isBarrier(runs[end]!)
          ) {
            rowCount += runs[end]!.rowCount
            end++
          }
          if (end - start > 1) {
            await this.#merge(runs[start]!.start, runs[end - 1]!.end)
            merged = true
          }
        }
        if (!merged) return
      }
    })
  }

  /** Turns the packed commits at the end of the list into one run. */
  async flush(): Promise<void> {
    await this.#exclusively(async () => {
      const { blocks } = this.#snapshot
      let start = blocks.length
      while (start > 0 && blocks[start - 1]!.isPacked && !this.#unreadable.has(blocks[start - 1]!.id)) start--
      if (blocks.length - start > 1) await this.#merge(start, blocks.length)
    })
  }

  /** No commit or read may start any more; resolves when those under way have ended. */
  async drop(): Promise<void> {
    this.#isDropped = true
    await this.#merging?.catch(() => undefined)
    while (this.#inFlight > 0) await this.#drained()
    await this.#erasing
    const free = (): void => {
      for (const block of this.#snapshot.blocks) if (block.memory !== null) this.#heads.free(block.memory)
    }
    await new Promise<void>((resolve) => {
      const last = this.#snapshot
      last.successor(last.version + 1, [], () => {
        free()
        resolve()
      })
    })
  }

  /** Waits for commits and merges under way. */
  async close(): Promise<void> {
    this.#pauseMerges = true
    await this.#merging?.catch(() => undefined)
    while (this.#inFlight > 0) await this.#drained()
    await this.#erasing
  }

  get #heads(): Region {
    return this.#parts.memory.heads
  }

  #assertUsable(): void {
    if (this.#isDropped)
      throw new FramesError('TABLE_NOT_FOUND', `No TSDB schema file found at '${this.name}': the table was deleted`)
  }

  // ---- commits ------------------------------------------------------------------------------------------------------

  /** Sends a block ahead, marked under `stage`, in batches of their own. */
  async #stageBlock(bytes: Uint8Array, block: PreparedBlock, id: bigint): Promise<void> {
    const { store } = this.#parts
    const marker = { key: stageKey(id), value: seal(stageKey(id), encodeErase(false, block.segmentByteLengths.length)) }
    let batch: Entry[] = [marker]
    let byteLength = 0
    const sent: Promise<void>[] = []
    for (const entry of blockEntries(bytes, block, id, false)) {
      if (byteLength > 0 && byteLength + entry.value.length > commitByteLengthMax) {
        sent.push(store.commit({ partition: this.partition, puts: batch }))
        batch = []
        byteLength = 0
      }
      batch.push(entry)
      byteLength += entry.value.length
    }
    sent.push(store.commit({ partition: this.partition, puts: batch }))
    await Promise.all(sent)
  }

  /**
   * One numbered commit. `build` is called with the number each time the commit is tried; `prepared` are the blocks of
   * `added` in the same order, whose packed bytes are kept in the shared memory where there is room.
   */
  async #commit(
    build: (commit: number) => Change,
    prepared: readonly PreparedBlock[],
    isWanted = () => true,
  ): Promise<void> {
    for (let tries = 1; ; tries++) {
      while (this.#isBroken) await this.#drained()
      this.#assertUsable()
      const commit = this.#nextCommit++
      const change = build(commit)
      this.#inFlight++
      try {
        await this.#parts.store.commit({
          partition: this.partition,
          expect: [{ key: versionKey, value: versionValue(commit - 1) }],
          puts: [...change.puts, { key: versionKey, value: versionValue(commit) }],
          deletes: change.deletes,
        })
        // The store answers in order, so commits are published in order.
        assert(this.#snapshot.version === commit - 1, 'commits are published in the order of their numbers')
        this.#publish(commit, this.#keepInMemory(change, prepared))
        return
      } catch (error) {
        this.#isBroken = true
        const isConflict = error instanceof FramesError && error.code === 'COMMIT_CONFLICT'
        if (!isConflict || tries >= commitTriesMax || !isWanted()) throw error
      } finally {
        this.#inFlight--
        if (this.#inFlight === 0) {
          if (this.#isBroken) this.#nextCommit = this.#snapshot.version + 1
          this.#isBroken = false
          const waiting = this.#waiting
          this.#waiting = []
          for (const wake of waiting) wake()
        }
      }
    }
  }

  #drained(): Promise<void> {
    if (this.#inFlight === 0) return Promise.resolve()
    return new Promise((resolve) => {
      this.#waiting.push(resolve)
    })
  }

  /** Copies small new blocks into the heads' region, so that readers need not fetch each from the store. */
  #keepInMemory(change: Change, prepared: readonly PreparedBlock[]): Change {
    const { bytes } = this.#parts
    const added = change.added.map((block, i) => {
      const from = prepared[i]?.packed
      if (!block.isPacked || from === undefined) return block
      const slice = this.#heads.tryAllocate(block.byteLength)
      if (slice === null) return block
      bytes.copyWithin(slice.byteOffset, from.byteOffset, from.byteOffset + from.byteLength)
      return { ...block, memory: slice }
    })
    return { ...change, added }
  }

  #publish(version: number, change: Change): void {
    const { blocks } = this.#snapshot
    let next = blocks
    let retire: (() => void) | null = null
    if (change.removed.size > 0) {
      const removed = blocks.filter((block) => change.removed.has(block.id))
      const kept = blocks.filter((block) => !change.removed.has(block.id))
      next = [...kept, ...change.added].sort((a, b) => a.lastCommit - b.lastCommit)
      retire = () => this.#erase(removed)
    } else if (change.added.length > 0) next = [...blocks, ...change.added]
    this.#snapshot = this.#snapshot.successor(version, next, retire)
  }

  // ---- merges -------------------------------------------------------------------------------------------------------

  #scheduleMerge(): void {
    if (this.#pauseMerges || this.#isDropped || this.#rule === null) return
    if (this.#merging !== null) return
    const choice = this.#chooseMerge()
    if (choice === null) return
    this.#merging = this.#merge(choice.start, choice.end)
      .catch((error: unknown) => this.#parts.report(`merging runs of table '${this.name}' failed`, error))
      .finally(() => {
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
      const choice = chooseMerge(stretch)
      if (choice !== null) return { start: stretch[choice.start]!.start, end: stretch[choice.end - 1]!.end }
      from = i + 1
    }
    return null
  }

  /** Runs `work` when no merge is under way, and keeps merges from starting meanwhile. */
  async #exclusively(work: () => Promise<void>): Promise<void> {
    while (this.#merging !== null) await this.#merging
    this.#assertUsable()
    this.#merging = work()
    try {
      await this.#merging
    } finally {
      this.#merging = null
      this.#scheduleMerge()
    }
  }

  /** Writers wait here while merges are far behind. */
  async #waitForMerges(): Promise<void> {
    while (this.#merging !== null && runsOf(this.#snapshot.blocks).length > runCountMax) {
      await this.#merging.catch(() => undefined)
    }
  }

  /** Merges the blocks [start, end) of the current snapshot into one run. */
  async #merge(start: number, end: number): Promise<void> {
    const rule = this.#rule
    assert(rule !== null, 'a table that merges has a merge rule')
    const { pool, bytes } = this.#parts
    const snapshot = this.#snapshot.acquire()
    const inputs = snapshot.blocks.slice(start, end)
    try {
      const sources = await this.sources(inputs)
      const firstCommit = inputs[0]!.firstCommit
      const lastCommit = inputs[inputs.length - 1]!.lastCommit
      const added: LiveBlock[] = []
      const prepared: PreparedBlock[] = []
      const staged: bigint[] = []
      const held: { release: () => void }[] = []
      const puts: Entry[] = []
      let position: unknown = null
      try {
        do {
          const { job, release } = rule(sources, position)
          let done: JobResult<MergeStep>
          try {
            done = await pool.run<MergeStep>(job, { scratchByteLength: mergeScratchByteLength })
          } finally {
            release()
          }
          const { blocks, next } = done.result
          position = next
          let isHeld = false
          for (const block of blocks) {
            const id = newBlockId()
            const isAlone = position === null && added.length === 0 && blocks.length === 1
            const isPacked = isAlone && fitsOneValue(block)
            added.push(liveOf(block, id, firstCommit, lastCommit, isPacked))
            prepared.push(block)
            this.mergedByteLength += block.packed.byteLength
            if (isAlone && block.packed.byteLength <= commitByteLengthMax) {
              puts.push(...blockEntries(bytes, block, id, isPacked))
              isHeld = true
            } else {
              await this.#stageBlock(bytes, block, id)
              staged.push(id)
            }
          }
          if (isHeld) held.push(done)
          else done.release()
        } while (position !== null)
        const removed = new Set(inputs.map((block) => block.id))
        await this.#commit(
          () => ({
            puts: [
              ...puts,
              ...added.map(encodeLive),
              ...inputs.map((block) => {
                const key = goneKey(block.id)
                return { key, value: seal(key, encodeErase(block.isPacked, block.segmentCount)) }
              }),
            ],
            deletes: [...staged.map(stageKey), ...inputs.map((block) => liveKey(BigInt(block.lastCommit), block.id))],
            added,
            removed,
          }),
          prepared,
        )
      } finally {
        for (const { release } of held) release()
      }
    } catch (error) {
      if (error instanceof FramesError && error.code === 'DATA_DAMAGED')
        for (const block of inputs) this.#unreadable.add(block.id)
      else if (!this.#isDropped) this.#backOff()
      throw error
    } finally {
      snapshot.release()
    }
  }

  /** After a failed merge (disk full, worker lost) the next one waits a second. */
  #backOff(): void {
    this.#pauseMerges = true
    setTimeout(() => {
      this.#pauseMerges = false
      this.#scheduleMerge()
    }, 1000).unref()
  }

  // ---- erasing ------------------------------------------------------------------------------------------------------

  /** Frees and erases what no reader can see any more. */
  #erase(blocks: readonly LiveBlock[]): void {
    for (const block of blocks) {
      if (block.memory !== null) this.#heads.free(block.memory)
      this.#toErase.push(...eraseKeys(block.id, block.isPacked, block.segmentCount), goneKey(block.id))
    }
    this.#erasing ??= this.#eraseWaiting().finally(() => {
      this.#erasing = null
    })
  }

  async #eraseWaiting(): Promise<void> {
    while (this.#toErase.length > 0 && !this.#isDropped) {
      const deletes = this.#toErase
      this.#toErase = []
      try {
        await this.#parts.store.commit({ partition: this.partition, puts: [], deletes, makesRoom: true })
      } catch (error) {
        // What is not erased now stands under `gone` and is erased when the table is opened again.
        this.#parts.report(`erasing merged blocks of table '${this.name}' failed`, error)
      }
    }
  }

  /** Blocks that a crash left behind: written but never live, or no longer live. */
  async #eraseLeftovers(): Promise<void> {
    const { store } = this.#parts
    const deletes: Uint8Array[] = []
    for (const kind of [keyKinds.stage, keyKinds.gone]) {
      for await (const { key, value } of scanAll(store, this.partition, kindRange(kind))) {
        const payload = unseal(key, value)
        const [id] = keyNumbers(key) as [bigint]
        if (payload === null) {
          this.#parts.report(
            `the mark of unused block ${id} of table '${this.name}' is damaged: its space is not given back`,
            null,
          )
          continue
        }
        const { isPacked, segmentCount } = decodeErase(payload)
        deletes.push(...eraseKeys(id, isPacked, segmentCount), key)
      }
    }
    if (deletes.length > 0) await store.commit({ partition: this.partition, puts: [], deletes })
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
  }
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

/** Every entry of a range, read in steps. */
async function* scanAll(
  store: Store,
  partition: string,
  range: { start: Uint8Array; end: Uint8Array },
): AsyncGenerator<Entry> {
  let start = range.start
  for (;;) {
    const entries = await store.scan(partition, { start, end: range.end, limit: scanLimit })
    yield* entries
    if (entries.length < scanLimit) return
    const last = entries[entries.length - 1]!.key
    start = new Uint8Array(last.length + 1)
    start.set(last)
  }
}

/** Puts the bytes of a packed block into the shared memory when there is room. */
async function withMemory(parts: TableParts, partition: string, block: LiveBlock): Promise<LiveBlock> {
  if (!block.isPacked) return block
  const slice: Slice | null = parts.memory.heads.tryAllocate(block.byteLength)
  if (slice === null) return block
  const [value] = await parts.store.read(partition, [packedKey(block.id)])
  if (value == null || value.length !== block.byteLength) {
    parts.memory.heads.free(slice)
    return block
  }
  parts.bytes.set(value, slice.byteOffset)
  return { ...block, memory: slice }
}

/** A live entry from the block itself; its extent stays unknown, so that every read looks into it. */
async function rebuildLive(store: Store, partition: string, id: bigint, lastCommit: number): Promise<LiveBlock | null> {
  const [head, packed] = await store.read(partition, [headKey(id), packedKey(id)])
  const bytes = head ?? packed
  const layout = bytes == null ? null : parseHeader(bytes)
  if (bytes == null || layout === null) return null
  const headerByteLength = encodeHeader(layout).length
  if (headerByteLength > bytes.length) return null
  let byteLength = headerByteLength
  for (const length of layout.segmentByteLengths) byteLength += length
  return {
    id,
    firstCommit: lastCommit,
    lastCommit,
    rowCount: layout.rowCount,
    byteLength,
    headerByteLength,
    headerCrc: new DataView(bytes.buffer, bytes.byteOffset).getUint32(headerByteLength - 4, true),
    segmentCount: layout.segmentByteLengths.length,
    isPacked: head == null,
    extent: null,
    memory: null,
  }
}
