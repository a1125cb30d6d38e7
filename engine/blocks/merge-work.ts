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
import type { MergeRule, MergeStep, PreparedBlock, RewriteStep, RuleJob, RuleStep } from './merge-rule.js'
import type { BlockSource } from './reader.js'
import { sourcesOf } from './sources.js'
import { commitByteLengthMax, type Staging } from './staging.js'
import type { TableContext } from './table-context.js'

/** Scratch of a merge job: decoded pages of its inputs, one block being built, its encoded bytes. */
const mergeScratchByteLength = 48 * MiB
const settleScratchByteLength = 8 * MiB

/** Which blocks leave a table with a rewrite, and which of them are written anew. */
export interface RewriteChoice {
  readonly dropped: readonly LiveBlock[]
  readonly rewritten: readonly LiveBlock[]
}

/** A block that is written and not live yet: under its mark, until the commit of its merge. */
interface StagedBlock {
  readonly block: PreparedBlock
  readonly live: LiveBlock
}

/** A merge under way, as others see it between its steps. A rewrite changes what it reads and what it has written. */
export interface MergeState {
  inputs: readonly LiveBlock[]
  /** Null: to be made anew from the inputs. */
  sources: readonly BlockSource[] | null
  /** What it has written so far and was sent ahead, in key order. */
  staged: readonly StagedBlock[]
  stepCount: number
  writtenRowCount: number
}

export function newMergeState(inputs: readonly LiveBlock[]): MergeState {
  return { inputs, sources: null, staged: [], stepCount: 0, writtenRowCount: 0 }
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

  /**
   * Merges neighbouring runs of a snapshot that the caller holds.
   *
   * between: called between steps: no job of the merge is at work until it resolves. The state may change meanwhile, but only behind
   * the end of `settled`: then all that it has written is stored. A step's blocks are stored beside the job of the next one.
   *
   * Throws DATA_DAMAGED, VIEW_OUTDATED, and what `between` throws.
   */
  async merge(state: MergeState, between: (settled: () => Promise<void>) => Promise<void> | void): Promise<void> {
    const { bytes } = this.#context
    const firstCommit = state.inputs[0]!.firstCommit
    const lastCommit = state.inputs[state.inputs.length - 1]!.lastCommit
    /** The only block of a merge of one step, where it need not be sent ahead. */
    let alone: LiveBlock | null = null
    const waitsForTurn = this.rule?.settle !== undefined
    const contents: Uint8Array[] = []
    const puts: Entry[] = []
    let held: JobResult<MergeStep> | null = null
    let position: unknown = null
    /** Blocks of the step before, on their way to the store. */
    let sending: Promise<void> = Promise.resolve()
    try {
      do {
        if (state.stepCount > 0) {
          await between(() => sending)
          if (state.inputs.length === 0) {
            // All of it was deleted meanwhile, and what was written of it.
            this.#discard(state.staged)
            return
          }
        }
        state.sources ??= await sourcesOf(this.#context, state.inputs)
        const done: JobResult<MergeStep> = await this.#mergeStep(state.sources, position)
        const isFirst = state.staged.length === 0
        position = done.result.next
        const sent: StagedBlock[] = []
        try {
          // One step's are on their way at a time: what merges hold of the shared memory is bounded.
          await sending
          for (const block of done.result.blocks) {
            const id = newBlockId()
            const isAlone =
              isFirst &&
              position === null &&
              done.result.blocks.length === 1 &&
              block.packed.byteLength <= commitByteLengthMax
            const isPacked = isAlone && fitsOneValue(block)
            const live = liveOf(block, id, firstCommit, lastCommit, isPacked)
            if (isPacked && waitsForTurn) {
              // Whoever has the turn may need the memory that this merge would hold.
              contents.push(contentOf(bytes, block).slice())
              puts.push({ key: packedKey(id), value: contents[0]! })
              alone = live
            } else if (isAlone && !waitsForTurn) {
              if (isPacked) contents.push(contentOf(bytes, block))
              puts.push(...blockEntries(bytes, block, id, isPacked))
              held = done
              alone = live
            } else {
              sent.push({ block, live })
            }
            state.writtenRowCount += block.rowCount
            this.writtenByteLength += block.packed.byteLength
          }
          state.staged = [...state.staged, ...sent]
        } finally {
          if (held !== done && sent.length === 0) done.release()
        }
        if (sent.length > 0) {
          sending = this.#stage(sent).finally(() => done.release())
          // Heard below, with the next step.
          sending.catch(() => undefined)
        }
        state.stepCount++
      } while (position !== null)
      await sending
      const { inputs, staged } = state
      const added = alone === null ? staged.map(({ live }) => live) : [alone]
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
              deletes: [...staged.map(({ live }) => stageKey(live.id)), ...gone.flatMap(liveKeysOf)],
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
      // What is erased is not to be written behind that.
      await sending.catch(() => undefined)
      if (error instanceof FramesError) this.#discard(state.staged)
      throw error
    } finally {
      held?.release()
    }
  }

  async #stage(blocks: readonly StagedBlock[]): Promise<void> {
    for (const { block, live } of blocks) await this.#staging.stageBlock(block, live.id)
  }

  /**
   * Writes blocks anew, each for itself; see BlockTable.rewrite. Other merges may be under way only where they stand between
   * two steps: `paused`. What goes of their inputs goes of what they have written, too, so that they can go on.
   */
  async rewrite(
    choose: (blocks: readonly LiveBlock[]) => RewriteChoice,
    step: RuleStep,
    paused: readonly MergeState[],
  ): Promise<void> {
    const snapshot = this.#live.snapshot.acquire()
    const staged: StagedBlock[] = []
    /** Blocks that leave the table or a merge, and what takes the place of each. */
    const successors = new Map<bigint, readonly StagedBlock[]>()
    const rewrite = async (blocks: readonly LiveBlock[]): Promise<void> => {
      const { dropped, rewritten } = choose(blocks)
      for (const { id } of dropped) successors.set(id, [])
      for (const block of rewritten) {
        const first = staged.length
        if (await this.#rewriteBlock(block, step, staged)) successors.set(block.id, staged.slice(first))
      }
    }
    const successorsOf = <T extends { readonly live: LiveBlock }>(old: T): readonly (T | StagedBlock)[] =>
      successors.get(old.live.id) ?? [old]
    try {
      await rewrite(snapshot.blocks)
      const gone = snapshot.blocks.filter(({ id }) => successors.has(id))
      if (gone.length === 0) return
      const added = staged.slice()
      for (const { staged: written } of paused) await rewrite(written.map(({ live }) => live))
      await this.#live.commit(
        () => ({
          puts: [...added.map(({ live }) => encodeLive(live)), ...gone.map(goneMark)],
          deletes: [...added.map(({ live }) => stageKey(live.id)), ...gone.flatMap(liveKeysOf)],
          makesRoom: true,
          added: added.map(({ live }) => live),
          removed: new Set(gone.map(({ id }) => id)),
          isRewrite: true,
        }),
        [],
      )
    } catch (error) {
      this.#discard(staged)
      throw error
    } finally {
      snapshot.release()
    }
    for (const state of paused) {
      this.#discard(state.staged.filter(({ live }) => successors.has(live.id)))
      state.inputs = state.inputs.flatMap((live) => successorsOf({ live }).map((block) => block.live))
      state.sources = null
      state.staged = state.staged.flatMap((block) => successorsOf(block))
    }
  }

  /** Writes what stays of a block, sent ahead, to the end of `staged`. False: all of it stays. */
  async #rewriteBlock(block: LiveBlock, step: RuleStep, staged: StagedBlock[]): Promise<boolean> {
    const sources = await sourcesOf(this.#context, [block])
    let isUnchanged = false
    let position: unknown = null
    do {
      const done = await this.#runRule<RewriteStep>(
        (isAgain) => step(sources, position, isAgain),
        mergeScratchByteLength,
      )
      try {
        position = done.result.next
        isUnchanged = done.result.isUnchanged
        for (const part of done.result.blocks) {
          const live = liveOf(part, newBlockId(), block.firstCommit, block.lastCommit, false)
          staged.push({ block: part, live })
          await this.#staging.stageBlock(part, live.id)
          this.writtenByteLength += part.packed.byteLength
        }
      } finally {
        done.release()
      }
    } while (position !== null)
    return !isUnchanged
  }

  /** Erases blocks that were sent ahead and will not be live. */
  #discard(staged: readonly StagedBlock[]): void {
    this.#staging.discard(
      staged.map(({ block }) => block),
      staged.map(({ live }) => live.id),
    )
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
    return this.#runRule((isAgain) => rule.step(sources, position, isAgain), mergeScratchByteLength)
  }

  /** Sends a job, and once again where the backend's view of the table changed under it. */
  async #runRule<R>(ruleJob: (isAgain: boolean) => RuleJob, scratchByteLengthWanted: number): Promise<JobResult<R>> {
    const { pool, memory } = this.#context
    const scratchByteLength = Math.min(scratchByteLengthWanted, memory.arenas.slice.byteLength / 2)
    for (let isAgain = false; ; isAgain = true) {
      const { job, release } = ruleJob(isAgain)
      try {
        return await pool.runToEnd<R>(job, { scratchByteLength })
      } catch (error) {
        const isOutdated = error instanceof FramesError && error.code === 'VIEW_OUTDATED'
        if (!isOutdated || isAgain) throw error
      } finally {
        release()
      }
    }
  }
}
