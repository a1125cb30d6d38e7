// Carries out one merge, or writes blocks anew: jobs write the new blocks, one commit puts them in the place of the old.
import { assert } from '../assert.js'
import { FramesError } from '../errors.js'
import { MiB } from '../limits.js'
import type { JobResult } from '../pool/pool.js'
import type { Entry } from '../stores/store.js'
import type { Kill } from './dead-rows.js'
import { copyDead, countDead, deadBytes, killRows } from './dead-rows.js'
import {
  blockEntries,
  contentOf,
  deadEntries,
  fitsOneValue,
  goneMark,
  liveKeysOf,
  liveOf,
  newBlockId,
} from './entries.js'
import { packedKey, stageKey } from './keys.js'
import type { LiveBlock } from './live-block.js'
import { encodeLive, toSource } from './live-block.js'
import type { LiveSet } from './live-set.js'
import type { MergeRule, MergeStep, PreparedBlock, RewriteStep, RuleJob } from './merge-rule.js'
import type { BlockSource } from './reader.js'
import { sourcesOf } from './sources.js'
import { commitByteLengthMax, type Staging } from './staging.js'
import type { TableContext } from './table-context.js'

/** Scratch of a merge job: decoded pages of its inputs, one block being built, its encoded bytes. */
const mergeScratchByteLength = 48 * MiB
const settleScratchByteLength = 8 * MiB
/** Times that one step of a merge is sent again because the backend's view of the table changed under it. */
const viewRetryCountMax = 100

/** Which blocks leave a table with a rewrite, and which of them are written anew. */
export interface RewriteChoice {
  readonly dropped: readonly LiveBlock[]
  readonly rewritten: readonly LiveBlock[]
}

export class MergeWork {
  /** Null until the backend has said how its runs are merged. */
  rule: MergeRule | null = null
  /** Bytes that merges and rewrites wrote. */
  writtenByteLength = 0
  readonly #context: TableContext
  readonly #live: LiveSet
  readonly #staging: Staging
  /** Of merges that wait for the backend's turn: each gives its own up. */
  readonly #turnsAwaited = new Set<() => void>()

  constructor(context: TableContext, live: LiveSet, staging: Staging) {
    this.#context = context
    this.#live = live
    this.#staging = staging
  }

  /** Ends merges that wait for the backend's turn: whoever has the turn may wait for the table. */
  giveUpTurns(): void {
    for (const giveUp of this.#turnsAwaited) giveUp()
  }

  /** Merges neighbouring runs of a snapshot that the caller holds. Throws DATA_DAMAGED, VIEW_OUTDATED. */
  async merge(inputs: readonly LiveBlock[]): Promise<void> {
    const { bytes } = this.#context
    const sources = await sourcesOf(this.#context, inputs)
    const firstCommit = inputs[0]!.firstCommit
    const lastCommit = inputs[inputs.length - 1]!.lastCommit
    const added: LiveBlock[] = []
    const waitsForTurn = this.rule?.settle !== undefined
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
              await this.#staging.stageBlock(block, id)
            }
            added.push(liveOf(block, id, firstCommit, lastCommit, isPacked))
            this.writtenByteLength += block.packed.byteLength
          }
        } finally {
          if (held !== done) done.release()
        }
      } while (position !== null)
      await this.#inTurn(() =>
        this.#live.alone(async () => {
          const kills = await this.#settle(inputs, added, contents)
          const dead = kills.flatMap(({ blockId, rows }) => {
            const bitmap = copyDead(bytes, null, added.find(({ id }) => id === blockId)!.rowCount)
            return deadEntries(blockId, bitmap, killRows(bitmap, rows))
          })
          const removed = new Set(inputs.map(({ id }) => id))
          await this.#live.commit(() => {
            // As they are now: rows of them may have died since the merge began.
            const gone = this.#live.snapshot.blocks.filter(({ id }) => removed.has(id))
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
        this.#staging.discard(
          staged.map(({ block }) => block),
          staged.map(({ id }) => id),
        )
      throw error
    } finally {
      held?.release()
    }
  }

  /** Writes blocks anew, each for itself; see BlockTable.rewrite. No merge may be under way. */
  async rewrite(
    choose: (blocks: readonly LiveBlock[]) => RewriteChoice,
    step: (sources: readonly BlockSource[], position: unknown) => RuleJob,
  ): Promise<void> {
    const snapshot = this.#live.snapshot.acquire()
    const staged: { readonly block: PreparedBlock; readonly id: bigint }[] = []
    const added: LiveBlock[] = []
    try {
      const { dropped, rewritten } = choose(snapshot.blocks)
      const gone = [...dropped]
      for (const block of rewritten) {
        const sources = await sourcesOf(this.#context, [block])
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
              await this.#staging.stageBlock(part, id)
              added.push(liveOf(part, id, block.firstCommit, block.lastCommit, false))
              this.writtenByteLength += part.packed.byteLength
            }
          } finally {
            done.release()
          }
        } while (position !== null)
        if (!isUnchanged) gone.push(block)
      }
      if (gone.length === 0) return
      await this.#live.commit(
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
      this.#staging.discard(
        staged.map(({ block }) => block),
        staged.map(({ id }) => id),
      )
      throw error
    } finally {
      snapshot.release()
    }
  }

  /**
   * Runs the end of a merge in the backend's turn, if it has one. A table that is being closed does not wait for it: whoever
   * has the turn may wait for the table.
   */
  #inTurn(work: () => Promise<void>): Promise<void> {
    const settle = this.rule?.settle
    if (settle === undefined) return work()
    return new Promise((resolve, reject) => {
      let isGivenUp = false
      const giveUp = (): void => {
        isGivenUp = true
        reject(new FramesError('SHUTTING_DOWN', `table '${this.#context.name}' is closed`))
      }
      this.#turnsAwaited.add(giveUp)
      if (this.#live.isEnding) giveUp()
      settle
        .inTurn(async () => {
          this.#turnsAwaited.delete(giveUp)
          if (!isGivenUp) await work()
        })
        .finally(() => this.#turnsAwaited.delete(giveUp))
        .then(resolve, reject)
    })
  }

  /** Which rows of merged blocks are dead already: those that died in the inputs since the merge began. */
  async #settle(
    inputs: readonly LiveBlock[],
    added: readonly LiveBlock[],
    contents: readonly Uint8Array[],
  ): Promise<Kill[]> {
    const { bytes } = this.#context
    const now = new Map(this.#live.snapshot.blocks.map((block) => [block.id, block.dead]))
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
    const settle = this.rule?.settle
    if (settle === undefined)
      throw new FramesError('VIEW_OUTDATED', `rows of table '${this.#context.name}' died while merged`)
    // A packed output is not stored yet.
    const outputs = contents.length === 0 ? await sourcesOf(this.#context, added) : [toSource(added[0]!, contents)]
    const sources = await sourcesOf(this.#context, died)
    const done = await this.#runRule<readonly Uint32Array[]>(
      () => settle.job(sources, outputs),
      settleScratchByteLength,
    )
    done.release()
    return done.result.flatMap((rows, i) => (rows.length === 0 ? [] : [{ blockId: added[i]!.id, rows }]))
  }

  #mergeStep(sources: readonly BlockSource[], position: unknown): Promise<JobResult<MergeStep>> {
    const rule = this.rule
    assert(rule !== null, 'a table that merges has a merge rule')
    return this.#runRule(() => rule.step(sources, position), mergeScratchByteLength)
  }

  async #runRule<R>(ruleJob: () => RuleJob, scratchByteLengthWanted: number): Promise<JobResult<R>> {
    const { pool, memory } = this.#context
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
}
