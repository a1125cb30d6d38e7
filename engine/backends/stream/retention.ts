// Drops records that are too old or too many: raises each shard's first sequence, and lets go of blocks wholly below it.
import type { LiveBlock } from '../../blocks/live-block.js'
import { runsOf } from '../../blocks/compaction.js'
import { noRows } from '../../blocks/table.js'
import { MiB } from '../../limits.js'
import { hourMs } from '../../time.js'
import type { BackendParts } from '../backend.js'
import type { LocateJob, LocateResult } from './jobs.js'
import { decodeExtent, nsPerMs } from './pieces.js'
import { encodeSchema, type StreamSchema } from './schema.js'
import type { StreamTable } from './table.js'

/** How often an open stream is looked at. */
const intervalMs = 30_000
const locateScratchByteLength = 4 * MiB

export class Retention {
  readonly #parts: BackendParts
  readonly #table: StreamTable
  #timer: NodeJS.Timeout | null = null
  #running: Promise<void> | null = null
  #isStopped = false

  constructor(parts: BackendParts, table: StreamTable) {
    this.#parts = parts
    this.#table = table
  }

  /** Looks now, and from now on every half minute. */
  start(): void {
    const look = (): void => {
      this.run().catch((error: unknown) => {
        if (!this.#isStopped) this.#parts.report(`retention of table '${this.#table.blocks.name}' failed`, error)
      })
    }
    this.#timer = setInterval(look, intervalMs).unref()
    look()
  }

  async stop(): Promise<void> {
    this.#isStopped = true
    if (this.#timer !== null) clearInterval(this.#timer)
    await this.#running?.catch(() => undefined)
  }

  /** Drops what is due. Resolves when that is durable. */
  run(): Promise<void> {
    if (this.#isStopped) return Promise.resolve()
    this.#running ??= this.#table.turn
      .run(() => this.#drop())
      .finally(() => {
        this.#running = null
      })
    return this.#running
  }

  async #drop(): Promise<void> {
    const { schema, blocks } = this.#table
    const snapshot = blocks.acquire()
    const firsts = Float64Array.from(schema.shards, ({ first }) => first)
    try {
      await this.#raiseByAge(snapshot.blocks, schema, firsts)
      raiseByBytes(snapshot.blocks, schema, firsts)
    } finally {
      snapshot.release()
    }
    if (schema.shards.every(({ first }, shard) => first === firsts[shard])) return
    // Merges change which blocks there are: none may be under way while some are dropped.
    await blocks.exclusively(async () => {
      const dropped = blocks.blocks.filter((block) => isBelow(block, firsts))
      const changed = encodeSchema(withoutDropped(this.#table.schema, firsts, dropped))
      await blocks.commitRows(noRows, { schema: changed, dropped })
    })
  }

  async #raiseByAge(blocks: readonly LiveBlock[], schema: StreamSchema, firsts: Float64Array): Promise<void> {
    const cutoffMs = Math.floor(this.#parts.nowMs()) - schema.retentionHours * hourMs
    const split: LiveBlock[] = []
    for (const block of blocks) {
      if (block.extent === null) continue
      const { arrivalMinMs, arrivalMaxMs, shards } = decodeExtent(block.extent)
      if (arrivalMinMs >= cutoffMs) continue
      if (arrivalMaxMs >= cutoffMs) split.push(block)
      else for (const { shard, first, count } of shards) firsts[shard] = Math.max(firsts[shard]!, first + count)
    }
    if (split.length === 0) return
    const job: LocateJob = {
      kind: 'stream.locate',
      ...this.#table.place,
      sources: await this.#table.blocks.sources(split),
      fromNs: BigInt(cutoffMs) * nsPerMs,
    }
    const done = await this.#parts.pool.runToEnd<LocateResult>(job, { scratchByteLength: locateScratchByteLength })
    done.release()
    const kept = new Map(done.result)
    for (const { extent } of split) {
      for (const { shard, first, count } of decodeExtent(extent!).shards)
        firsts[shard] = Math.max(firsts[shard]!, Math.min(kept.get(shard) ?? Infinity, first + count))
    }
  }
}

/** Keeps the newest runs; of the one that goes over the bound, as many records as its bytes allow on average. */
function raiseByBytes(blocks: readonly LiveBlock[], schema: StreamSchema, firsts: Float64Array): void {
  if (schema.retentionByteLength === 0) return
  let left = schema.retentionByteLength
  for (const run of runsOf(blocks).reverse()) {
    const share = Math.max(0, Math.min(1, left / run.byteLength))
    left -= run.byteLength
    if (share === 1) continue
    const ranges = new Map<number, { first: number; end: number }>()
    for (const { extent } of blocks.slice(run.start, run.end)) {
      if (extent === null) continue
      for (const { shard, first, count } of decodeExtent(extent).shards) {
        const range = ranges.get(shard) ?? { first, end: first }
        ranges.set(shard, { first: Math.min(range.first, first), end: Math.max(range.end, first + count) })
      }
    }
    for (const [shard, { first, end }] of ranges)
      firsts[shard] = Math.max(firsts[shard]!, end - Math.floor((end - first) * share))
  }
}

function isBelow({ extent }: LiveBlock, firsts: Float64Array): boolean {
  return (
    extent !== null && decodeExtent(extent).shards.every(({ shard, first, count }) => first + count <= firsts[shard]!)
  )
}

/** The schema that remembers what these blocks told: where their shards go on, and when their records arrived. */
function withoutDropped(schema: StreamSchema, firsts: Float64Array, dropped: readonly LiveBlock[]): StreamSchema {
  const next = schema.shards.map((shard) => shard.next)
  let { arrivalMs } = schema
  for (const { extent } of dropped) {
    const { arrivalMaxMs, shards } = decodeExtent(extent!)
    arrivalMs = Math.max(arrivalMs, arrivalMaxMs)
    for (const { shard, first, count } of shards) next[shard] = Math.max(next[shard]!, first + count)
  }
  return {
    ...schema,
    arrivalMs,
    shards: schema.shards.map((shard, i) => ({ ...shard, first: firsts[i]!, next: next[i]! })),
  }
}
