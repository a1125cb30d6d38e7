// Writes to one table, main-thread half: they wait in line, and all that waits is settled by one job and stored by one
// commit. Each write has its own result.
import { receiveKills } from '../../blocks/sent-kills.js'
import { sendSources } from '../../blocks/sent-sources.js'
import { noRows } from '../../blocks/table.js'
import { FramesError, fromErrorMessage } from '../../errors.js'
import { KiB, MiB } from '../../limits.js'
import type { JobResult } from '../../pool/pool.js'
import type { BackendParts } from '../backend.js'
import { dtypeOfCell } from './assigned-cells.js'
import { ComingBatch, ComingBatches } from './coming-batches.js'
import type { SettleJob } from './jobs.js'
import { encodeSchema } from './schema.js'
import type { SentRule, SettledWrite, SettleResult, SettleWrite, Write } from './settle-request.js'
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
 * Callers who write single items are waited for: they are about to call again, one after the other, and a batch of a few costs
 * as much as one of many. Half of them are enough, so that the others call while these are settled and stored; or most of
 * those whose writes are not on their way to the disk. So long at most.
 */
const gatherCountMin = 8
const gatherMsMax = 5
const gatheredShare = 0.5
const gatheredShareOfOthers = 0.9
/** Callers that have not come again after this time are not expected. */
const gatherAgainMsMax = 50
/** Of how many callers there are, the most seen at once counts; each batch lets it go down by this part. */
const callersDecay = 1 / 16
/** Callers that are answered in one turn of the event loop. */
const answeredAtOnceCountMax = 16
/** Commits that may be on their way while the next batch is settled: each holds the memory of its job. */
const comingCountMax = 4
/** Times that a batch is settled again because blocks that it looked into have been merged. */
const viewRetryCountMax = 100

/** One write session, as its writes know it. */
export interface WriteGroup {
  readonly rule: SentRule
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
  /** About how many callers write single items, and when the last batch of theirs was taken. */
  #callerCount = 0
  #takenMs = 0
  /** Set while a write is waited for. */
  #onSubmitted: (() => void) | null = null

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
      this.#onSubmitted?.()
      if (this.#isAtWork) return
      this.#isAtWork = true
      void this.#work()
    })
  }

  /** Never rejects. */
  async #work(): Promise<void> {
    while (this.#waiting.length > 0) {
      await this.#gather(0)
      try {
        await this.#place.turn.run(async () => {
          const table = await this.#place.openOrCreate()
          await table.blocks.waitForMerges()
          await table.turn.run(() => this.#settleInTurn(table))
        })
      } catch (error) {
        // The table cannot be opened, and nobody who waits can be served.
        for (const write of this.#waiting.splice(0)) refuse(write, error)
      }
    }
    this.#isAtWork = false
  }

  /** Batch after batch, until nobody waits or others want the turn; all commits have ended then. Never rejects. */
  async #settleInTurn(table: KvTable): Promise<void> {
    const coming = new ComingBatches()
    do {
      const batch = this.#take()
      try {
        await this.#settle(table, batch, coming)
      } catch (error) {
        for (const write of batch) refuse(write, error)
        break
      }
    } while (await this.#goesOn(table, coming))
    await coming.allEnded()
  }

  /** Whether another batch is settled in this turn; resolves when it may be taken. */
  async #goesOn({ turn, blocks }: KvTable, coming: ComingBatches): Promise<boolean> {
    const isWanted = (): boolean => this.#place.turn.isWanted || turn.isWanted || blocks.isBehindWithMerges
    if (isWanted()) return false
    while (coming.count >= comingCountMax) await coming.someEnded()
    while (this.#waiting.length === 0) {
      if (coming.count === 0) return false
      await Promise.race([this.#submitted(1), coming.someEnded()])
    }
    await this.#gather(coming.writeCount)
    return !isWanted()
  }

  /** Resolves when so many writes wait. */
  #submitted(count: number): Promise<void> {
    return new Promise((resolve) => {
      this.#onSubmitted = () => {
        if (this.#waiting.length < count) return
        this.#onSubmitted = null
        resolve()
      }
    })
  }

  /** Waits for callers who are about to call again. comingCount: writes that are on their way to the disk. */
  async #gather(comingCount: number): Promise<void> {
    if (performance.now() - this.#takenMs > gatherAgainMsMax) this.#callerCount = 0
    const otherCount = this.#callerCount - comingCount
    const wanted = Math.floor(Math.min(gatheredShare * this.#callerCount, gatheredShareOfOthers * otherCount))
    if (this.#callerCount < gatherCountMin || this.#waiting.length >= wanted) return
    let timer: NodeJS.Timeout | undefined
    const waited = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, gatherMsMax)
    })
    await Promise.race([this.#submitted(wanted), waited])
    clearTimeout(timer)
  }

  #countCallers(count: number): void {
    this.#callerCount = Math.max(count, this.#callerCount * (1 - callersDecay))
    this.#takenMs = performance.now()
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

  /** Resolves when the next batch may be settled. */
  async #settle(table: KvTable, batch: readonly WaitingWrite[], coming: ComingBatches): Promise<void> {
    if (batch.length === 0) return
    // What a frame brings to the schema, and to its session's count of rows, is known when it is stored.
    const isOfItems = batch.every(isItem)
    if (isOfItems) this.#countCallers(batch.length + coming.writeCount)
    else await coming.allEnded()
    for (let tries = 0; ; tries++) {
      try {
        const isNextFree = await this.#settleOnce(table, batch, coming)
        if (!isOfItems || !isNextFree) await coming.allEnded()
        return
      } catch (error) {
        const isOutdated = error instanceof FramesError && error.code === 'VIEW_OUTDATED'
        if (!isOutdated || tries >= viewRetryCountMax) throw error
      }
    }
  }

  /** Sends the commit of a batch on its way. Whether the next one may be settled before it is durable. */
  async #settleOnce(table: KvTable, batch: readonly WaitingWrite[], coming: ComingBatches): Promise<boolean> {
    const { pool, store, memory, nowMs } = this.#parts
    const { blocks } = table
    const { rules, writes } = messageOf(batch)
    let byteLength = 0
    for (const write of batch) byteLength += write.byteLength
    const snapshot = blocks.acquire()
    const below = coming.hold((id) => blocks.isComing(id))
    let done: JobResult<SettleResult>
    try {
      const sources = await blocks.sources(snapshot.blocks)
      // Behind the others, and so looked into before them: there the rows that these replace are not dead yet.
      for (const batchBelow of below) sources.push(...batchBelow.sources)
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
      for (const batchBelow of below) batchBelow.release()
    }
    const { blocks: prepared, schema } = done.result
    const kills = receiveKills(done.result.kills)
    const hasChanges = prepared.length > 0 || kills.length > 0 || schema !== null
    let staged = noRows
    try {
      if (hasChanges) staged = await blocks.stageRows(prepared)
    } catch (error) {
      done.release()
      throw error
    }
    const sources = blocks.comingSources(staged)
    const own = new ComingBatch(sources ?? [], batch.length, () => done.release())
    const check = (): void => {
      for (const batchBelow of below) batchBelow.assertStored()
    }
    const commit = async (): Promise<void> => {
      if (hasChanges) {
        const onFailure = (error: unknown): void => {
          own.failure = { error }
        }
        const changes = { kills, ...(schema === null ? {} : { schema: encodeSchema(schema) }) }
        await blocks.commitRows(staged, { ...changes, check, onFailure })
        return
      }
      // What they were told by may still be lost.
      for (const batchBelow of below) await batchBelow.ended
      check()
    }
    const ended = commit().then(
      () => {
        answerAll(batch, done.result.writes)
      },
      (error: unknown) => {
        own.failure ??= { error }
        for (const write of batch) refuse(write, error)
      },
    )
    coming.add(own, ended)
    // What only dies has no newer row that is found before it.
    return sources !== null && schema === null && (prepared.length > 0 || !hasChanges)
  }
}

function refuse({ group, reject }: WaitingWrite, error: unknown): void {
  group.failure ??= error
  reject(error)
}

/**
 * Single items by few at a time: what the first are told leaves, and they call again, while the others are being answered.
 * Frames at once, since the next ones of their sessions go on from what they have counted.
 */
function answerAll(batch: readonly WaitingWrite[], settled: readonly SettledWrite[]): void {
  const countMax = batch.every(isItem) ? answeredAtOnceCountMax : batch.length
  const answerFrom = (start: number): void => {
    const end = Math.min(batch.length, start + countMax)
    for (let i = start; i < end; i++) answer(batch[i]!, settled[i]!)
    if (end < batch.length) setImmediate(answerFrom, end)
  }
  answerFrom(0)
}

function isItem({ write }: WaitingWrite): boolean {
  return write.kind === 'item'
}

function answer({ group, resolve, reject }: WaitingWrite, settled: SettledWrite): void {
  if (settled.error !== null) group.failure ??= fromErrorMessage(settled.error)
  else group.rowCount += settled.rowCount
  if (settled.error !== null || settled.isAbandoned) reject(group.failure)
  else resolve(settled)
}

/** A batch as a job is told it: sessions as numbers, each rule once, items by one rule together. */
function messageOf(batch: readonly WaitingWrite[]): { rules: SentRule[]; writes: SettleWrite[] } {
  const sessions = new Map<WriteGroup, number>()
  const ruleNumbers = new Map<string, number>()
  const rules: SentRule[] = []
  const writes: SettleWrite[] = []
  for (let i = 0; i < batch.length; ) {
    const { group, write } = batch[i]!
    let session = sessions.get(group)
    if (session === undefined) sessions.set(group, (session = sessions.size))
    let rule = ruleNumbers.get(group.ruleText)
    if (rule === undefined) {
      ruleNumbers.set(group.ruleText, (rule = rules.length))
      rules.push(group.rule)
    }
    i++
    if (write.kind === 'frame') {
      writes.push({ ...write, rowStart: BigInt(group.rowCount), session, rule })
      continue
    }
    const names = [write.name]
    const folders = [write.folder]
    const assigned = (write.cells ?? []).map(({ attribute, value }) => ({
      attribute,
      dtype: dtypeOfCell(value),
      cells: [value],
    }))
    for (; i < batch.length; i++) {
      const { group: other, write: next } = batch[i]!
      if (next.kind !== 'item' || other.ruleText !== group.ruleText) break
      // The sessions of items are their own, so these numbers follow one another.
      sessions.set(other, sessions.size)
      names.push(next.name)
      folders.push(next.folder)
      for (const [column, { cells }] of assigned.entries()) cells.push(next.cells![column]!.value)
    }
    const isAtRoot = folders.every((folder) => folder === '')
    writes.push({ kind: 'items', names, folders: isAtRoot ? null : folders, assigned, session, rule })
  }
  return { rules, writes }
}
