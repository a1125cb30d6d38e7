// Writes to one table, main-thread half: they wait in line, and all that waits is settled by one job and stored by one
// commit. Each write has its own result.
import { sendSources } from '../../blocks/sent-sources.js'
import { FramesError, fromErrorMessage } from '../../errors.js'
import { KiB, MiB } from '../../limits.js'
import type { JobResult } from '../../pool/pool.js'
import type { BackendParts } from '../backend.js'
import type { SettleJob } from './jobs.js'
import { encodeSchema } from './schema.js'
import type { SettledWrite, SettleResult, SettleWrite, Write, WriteRule } from './settle-request.js'
import type { KvTable, TablePlace } from './table.js'

/** Writes that are settled at once: enough for many small ones, few enough that nobody waits long. */
const batchCountMax = 1024
const batchByteLengthMax = 4 * MiB
/** Scratch of a settle job: to begin with, for pages of stored blocks, and for each byte of the writes. */
const settleScratchByteLength = 1 * MiB
const pagesScratchByteLength = 4 * MiB
const scratchPerByte = 12
/** Where a job needed more, the next ones of the table get it at once: at most this for each byte. */
const scratchPerByteMax = 48
/** Smaller batches say nothing of what a byte takes. */
const tellingByteLengthMin = 256 * KiB
/**
 * Single items that were settled together are waited for: their callers are about to call again, one after the other, and a
 * batch of a few costs as much as one of many. At most for half as long as the last batch took, and for so long.
 */
const gatherCountMin = 8
const gatherMsMax = 5
/** Callers that have not come again after this time are not expected. */
const gatherAgainMsMax = 50
/** Times that a batch is settled again because blocks that it looked into have been merged. */
const viewRetryCountMax = 100

/** One write session, as its writes know it. */
export interface WriteGroup {
  readonly rule: WriteRule
  /** Names the rule: writes with the same text share it. */
  readonly ruleText: string
  /** Rows of its frames so far: what the next frame's rows are numbered from. */
  rowCount: number
  /** Once a write has failed, those behind it are not stored. */
  failure: unknown
}

interface WaitingWrite {
  readonly group: WriteGroup
  readonly write: Write
  readonly byteLength: number
  readonly resolve: (settled: SettledWrite) => void
  readonly reject: (error: unknown) => void
}

export class WriteQueue {
  readonly #parts: BackendParts
  readonly #place: TablePlace
  #waiting: WaitingWrite[] = []
  #isAtWork = false
  #scratchPerByte = scratchPerByte
  /** Single items of the last batch, how long it took and when it ended. */
  #last = { itemCount: 0, ms: 0, endMs: 0 }
  /** Set while callers are waited for: called when all of them are there. */
  #onGathered: (() => void) | null = null

  constructor(parts: BackendParts, place: TablePlace) {
    this.#parts = parts
    this.#place = place
  }

  /**
   * Resolves when the write is durable. Writes take effect in the order of these calls. The bytes that the write names
   * must stay in place until then. For a frame, the number of its first row is filled in.
   */
  submit(group: WriteGroup, write: Write, byteLength: number): Promise<SettledWrite> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ group, write, byteLength, resolve, reject })
      if (this.#waiting.length >= this.#last.itemCount) this.#onGathered?.()
      if (this.#isAtWork) return
      this.#isAtWork = true
      void this.#work()
    })
  }

  /** Never rejects. */
  async #work(): Promise<void> {
    while (this.#waiting.length > 0) {
      let batch: WaitingWrite[] = []
      await this.#gather()
      const startMs = performance.now()
      try {
        await this.#place.turn.run(async () => {
          const table = await this.#place.openOrCreate()
          await table.blocks.waitForMerges()
          await table.turn.run(async () => {
            batch = this.#take()
            await this.#settle(table, batch)
          })
        })
      } catch (error) {
        // Before there was a batch: the table cannot be opened, and nobody who waits can be served.
        for (const { group, reject } of batch.length > 0 ? batch : this.#waiting.splice(0)) {
          group.failure ??= error
          reject(error)
        }
      }
      const endMs = performance.now()
      const itemCount = batch.every(({ write }) => write.kind === 'item') ? batch.length : 0
      this.#last = { itemCount, ms: endMs - startMs, endMs }
    }
    this.#isAtWork = false
  }

  /** Waits for callers of the last batch. */
  async #gather(): Promise<void> {
    const { itemCount, ms, endMs } = this.#last
    const isSmall = itemCount < gatherCountMin || this.#waiting.length >= itemCount
    if (isSmall || performance.now() - endMs > gatherAgainMsMax) return
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, Math.min(gatherMsMax, ms / 2))
      this.#onGathered = () => {
        clearTimeout(timer)
        resolve()
      }
    })
    this.#onGathered = null
  }

  #take(): WaitingWrite[] {
    let count = 0
    let byteLength = 0
    while (count < this.#waiting.length && count < batchCountMax) {
      byteLength += this.#waiting[count]!.byteLength
      if (count > 0 && byteLength > batchByteLengthMax) break
      count++
    }
    const batch = this.#waiting.splice(0, count)
    return batch.filter(({ group, reject }) => {
      if (group.failure === null) return true
      reject(group.failure)
      return false
    })
  }

  async #settle(table: KvTable, batch: readonly WaitingWrite[]): Promise<void> {
    if (batch.length === 0) return
    for (let tries = 0; ; tries++) {
      try {
        await this.#settleOnce(table, batch)
        return
      } catch (error) {
        const isOutdated = error instanceof FramesError && error.code === 'VIEW_OUTDATED'
        if (!isOutdated || tries >= viewRetryCountMax) throw error
      }
    }
  }

  async #settleOnce(table: KvTable, batch: readonly WaitingWrite[]): Promise<void> {
    const { pool, store, memory, nowMs } = this.#parts
    const { blocks } = table
    const { rules, writes } = messageOf(batch)
    let byteLength = 0
    for (const write of batch) byteLength += write.byteLength
    const snapshot = blocks.acquire()
    let done: JobResult<SettleResult>
    try {
      const sources = await blocks.sources(snapshot.blocks)
      const job: SettleJob = {
        kind: 'kv.settle',
        partition: blocks.partition,
        tableName: blocks.name,
        access: store.workerAccess,
        sources: sendSources(sources),
        schema: table.schema,
        rules,
        writes,
        nowNs: BigInt(nowMs()) * 1_000_000n,
      }
      const scratchByteLength = Math.min(
        settleScratchByteLength + (sources.length > 0 ? pagesScratchByteLength : 0) + this.#scratchPerByte * byteLength,
        // No more than what a job that turns out to need more can be given in its place.
        memory.arenas.slice.byteLength / 2,
      )
      // Not cancelled with a call: others are in the batch.
      done = await pool.runToEnd<SettleResult>(job, { scratchByteLength })
      if (byteLength >= tellingByteLengthMin && done.scratch.byteLength > 1.5 * scratchByteLength)
        this.#scratchPerByte = Math.min(scratchPerByteMax, Math.ceil(done.scratch.byteLength / byteLength))
    } finally {
      snapshot.release()
    }
    try {
      const { blocks: prepared, kills, schema } = done.result
      if (prepared.length > 0 || kills.length > 0 || schema !== null) {
        const staged = await blocks.stageRows(prepared)
        await blocks.commitRows(staged, { kills, ...(schema === null ? {} : { schema: encodeSchema(schema) }) })
      }
    } finally {
      done.release()
    }
    for (const [i, settled] of done.result.writes.entries()) answer(batch[i]!, settled)
  }
}

function answer({ group, resolve, reject }: WaitingWrite, settled: SettledWrite): void {
  if (settled.error !== null) group.failure ??= fromErrorMessage(settled.error)
  else group.rowCount += settled.rowCount
  if (settled.error !== null || settled.isAbandoned) reject(group.failure)
  else resolve(settled)
}

/** A batch as a job is told it: sessions as numbers, and each rule once. */
function messageOf(batch: readonly WaitingWrite[]): { rules: WriteRule[]; writes: SettleWrite[] } {
  const sessions = new Map<WriteGroup, number>()
  const ruleNumbers = new Map<string, number>()
  const rules: WriteRule[] = []
  const writes = batch.map(({ group, write }): SettleWrite => {
    let session = sessions.get(group)
    if (session === undefined) sessions.set(group, (session = sessions.size))
    let rule = ruleNumbers.get(group.ruleText)
    if (rule === undefined) {
      ruleNumbers.set(group.ruleText, (rule = rules.length))
      rules.push(group.rule)
    }
    const numbered = write.kind === 'frame' ? { ...write, rowStart: BigInt(group.rowCount) } : write
    return { ...numbered, session, rule }
  })
  return { rules, writes }
}
