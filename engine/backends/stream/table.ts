// An open stream: its blocks, where its shards stand, who writes, and who waits for records.
import type { CancelSignal } from '../../cancellation.js'
import type { TableName } from '../../blocks/catalog.js'
import { shownName } from '../../blocks/catalog.js'
import type { LiveBlock } from '../../blocks/live-block.js'
import type { MergeRule } from '../../blocks/merge-rule.js'
import { BlockTable } from '../../blocks/table.js'
import { FramesError } from '../../errors.js'
import { MiB } from '../../limits.js'
import type { BackendParts } from '../backend.js'
import type { OpenTable } from '../open-tables.js'
import { Turn } from '../turn.js'
import { Appender } from './appender.js'
import { ConsumerGroups } from './groups.js'
import type { DescribeJob, MergeJob } from './jobs.js'
import { Retention } from './retention.js'
import { decodeSchema, type StreamSchema } from './schema.js'
import { columnKey, type StoredColumn } from './stored-columns.js'

/** Small commits are merged up to this; what is larger is read well as it is, and rewriting it would cost disk time. */
const mergeBounds = { rowCountMax: 128 * 1024, byteLengthMax: 16 * MiB }
const describeScratchByteLength = 4 * MiB
/** Blocks whose headers one job reads: what it parses stays in a worker. */
const describedBlockCountMax = 256

export function tableParts({ store, memory, pool, report, kernels }: BackendParts) {
  return { store, memory, pool, report, bytes: kernels.u8, missing }
}

/** A stream that is not there, or not any more. */
export function missing(name: string): FramesError {
  return new FramesError('TABLE_NOT_FOUND', `no stream at '${name}'`)
}

export class StreamTable implements OpenTable {
  readonly turn = new Turn()
  readonly appender: Appender
  readonly groups: ConsumerGroups
  readonly retention: Retention
  readonly #parts: BackendParts
  #schema: { readonly bytes: Uint8Array; readonly schema: StreamSchema }
  /** Of blocks that somebody read or wrote, each list once. */
  readonly #columns = new Map<bigint, readonly StoredColumn[]>()
  readonly #columnLists = new Map<string, readonly StoredColumn[]>()
  readonly #waiters = new Set<() => void>()

  private constructor(
    parts: BackendParts,
    readonly name: TableName,
    readonly blocks: BlockTable,
    groups: ConsumerGroups,
  ) {
    this.#parts = parts
    this.groups = groups
    this.#schema = { bytes: blocks.schema, schema: decodeSchema(blocks.schema) }
    this.appender = new Appender(parts, this, () => this.#wake())
    this.retention = new Retention(parts, this)
  }

  /** Throws DATA_DAMAGED, FORMAT_VERSION. */
  static async open(parts: BackendParts, name: TableName, partition: string): Promise<StreamTable> {
    const blocks = await BlockTable.open(tableParts(parts), partition, shownName(name))
    try {
      const groups = await ConsumerGroups.load(blocks, parts.report)
      const table = new StreamTable(parts, name, blocks, groups)
      const step: MergeRule['step'] = (sources, position) => {
        const job: MergeJob = { kind: 'stream.merge', ...table.place, sources, position: position as number | null }
        return { job, release: () => undefined }
      }
      blocks.startMerging({ step }, mergeBounds)
      table.retention.start()
      return table
    } catch (error) {
      await blocks.close()
      throw error
    }
  }

  /** What a job needs to read blocks. */
  get place() {
    const { blocks } = this
    return { partition: blocks.partition, tableName: blocks.name, access: this.#parts.store.workerAccess }
  }

  get schema(): StreamSchema {
    const { schema: bytes } = this.blocks
    if (bytes !== this.#schema.bytes) this.#schema = { bytes, schema: decodeSchema(bytes) }
    return this.#schema.schema
  }

  get shardCount(): number {
    return this.schema.shards.length
  }

  /** Throws DATA_DAMAGED when a block may hold any records: where the shards end is not known then. */
  assertWhole(): void {
    const lost = this.blocks.blocks.find(({ extent }) => extent === null)
    if (lost === undefined) return
    const what = `block ${lost.id} of table '${this.blocks.name}' is damaged: which records it holds is not known`
    throw new FramesError('DATA_DAMAGED', what)
  }

  // ---- columns ------------------------------------------------------------------------------------------------------

  keepColumns(blockIds: readonly bigint[], columns: readonly StoredColumn[]): void {
    const key = JSON.stringify(columns.map(columnKey))
    let list = this.#columnLists.get(key)
    if (list === undefined) {
      list = columns
      this.#columnLists.set(key, list)
    }
    for (const id of blockIds) this.#columns.set(id, list)
  }

  /** The columns of some live blocks, in order of first sight. Throws DATA_DAMAGED. */
  async columnsOf(blocks: readonly LiveBlock[]): Promise<readonly StoredColumn[]> {
    this.#forgetDead()
    const unknown = blocks.filter(({ id }) => !this.#columns.has(id))
    for (let start = 0; start < unknown.length; start += describedBlockCountMax) {
      const some = unknown.slice(start, start + describedBlockCountMax)
      const job: DescribeJob = { kind: 'stream.describe', ...this.place, sources: await this.blocks.sources(some) }
      const done = await this.#parts.pool.runToEnd<readonly (readonly StoredColumn[])[]>(job, {
        scratchByteLength: describeScratchByteLength,
      })
      done.release()
      done.result.forEach((columns, i) => {
        this.keepColumns([some[i]!.id], columns)
      })
    }
    const union = new Map<string, StoredColumn>()
    const seen = new Set<readonly StoredColumn[]>()
    for (const { id } of blocks) {
      const list = this.#columns.get(id)!
      if (seen.has(list)) continue
      seen.add(list)
      for (const column of list) {
        const key = columnKey(column)
        if (!union.has(key)) union.set(key, column)
      }
    }
    return [...union.values()]
  }

  /** Blocks that merges and retention took away need no entry; looked at when half of all entries may be such. */
  #forgetDead(): void {
    const live = this.blocks.blocks
    if (this.#columns.size <= 2 * live.length + 1024) return
    const ids = new Set(live.map(({ id }) => id))
    for (const id of this.#columns.keys()) if (!ids.has(id)) this.#columns.delete(id)
    const lists = new Set(this.#columns.values())
    for (const [key, list] of this.#columnLists) if (!lists.has(list)) this.#columnLists.delete(key)
  }

  // ---- waiting ------------------------------------------------------------------------------------------------------

  /** Resolves with true when a commit is published or the table ends, with false after waitMs or when the signal aborts. */
  waitForCommit(waitMs: number, signal: CancelSignal | null): Promise<boolean> {
    return new Promise((resolve) => {
      const end = (isWoken: boolean): void => {
        clearTimeout(timer)
        this.#waiters.delete(wake)
        signal?.removeEventListener('abort', stop)
        resolve(isWoken)
      }
      const wake = (): void => end(true)
      const stop = (): void => end(false)
      // setTimeout takes 31 bits.
      const timer = setTimeout(stop, Math.min(waitMs, 2 ** 31 - 1))
      this.#waiters.add(wake)
      if (signal?.aborted) stop()
      else signal?.addEventListener('abort', stop, { once: true })
    })
  }

  #wake(): void {
    for (const wake of [...this.#waiters]) wake()
  }

  async close(): Promise<void> {
    await this.retention.stop()
    const closed = this.blocks.close()
    this.#wake()
    await this.appender.idle()
    await closed
  }

  async drop(): Promise<void> {
    await this.retention.stop()
    const dropped = this.blocks.drop()
    this.#wake()
    await dropped
  }
}
