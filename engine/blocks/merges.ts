// Which runs of a table are merged, and when: in the background, and when asked.
import { FramesError } from '../errors.js'
import type { MergeBounds, Run } from './compaction.js'
import {
  chooseMerge,
  chooseRewrite,
  defaultMergeBounds,
  isMergeable,
  runsOf,
  runsPerMerge,
  smallestRowCount,
} from './compaction.js'
import { goneMark, liveKeysOf } from './entries.js'
import type { LiveBlock } from './live-block.js'
import type { LiveSet } from './live-set.js'
import type { MergeRule, RuleJob } from './merge-rule.js'
import { MergeWork, type RewriteChoice } from './merge-work.js'
import type { BlockSource } from './reader.js'
import { verifyBlock } from './sources.js'
import type { Staging } from './staging.js'
import type { TableContext } from './table-context.js'

/** With fewer runs than this, a merge waits for idle workers, and looks again this much later. */
const patientRunCountMax = 64
const mergePatienceMs = 20
/** A merge of so many rows waits until nobody has used the workers for that long: it would take one of them from a load. */
const largeMergeRowCount = 64 * 1024
/** Writers wait while there are more runs than this: look-ups and merges stay bounded. */
const runCountMax = 256
/** Writers of many rows wait earlier: a load leaves room for small writes, whose runs are merged beside any merge. */
const loadRunCountMax = 192
/** Commits of more rows are such: eight of them are more than a merge beside another takes while no writer waits. */
const smallCommitRowCountMax = largeMergeRowCount / runsPerMerge
/** After a failed merge (disk full, worker lost) the next one waits this long. */
const mergeRetryMs = 1000
/**
 * Merges of a table at once: where a large run is written, for many seconds, and many fresh ones have gathered meanwhile, a
 * merge that is not large, of at most an eighth of the rows, runs beside it. Large ones wait: two take twice the memory, and
 * from a load both workers.
 */
const concurrentMergeCountMax = 2
/** Where a load waits for merges it needs no worker: the merge beside takes up to this many rows then, which is a second or two. */
const waitedForRowCountMax = 1024 * 1024

/** As a reserved commit: none is. The first one is 1. */
const noCommit = 0

interface UnderWay {
  /** Of the blocks that it reads; Infinity where that is not known. */
  readonly rowCount: number
  /** Runs that hold this commit or one before it are not merged meanwhile. */
  readonly reservedCommit: number
  /** Resolves when it has ended, well or not. */
  readonly ended: Promise<void>
}

export class Merges {
  readonly #context: TableContext
  readonly #live: LiveSet
  readonly #work: MergeWork
  #bounds: MergeBounds = defaultMergeBounds
  readonly #underWay = new Set<UnderWay>()
  /** Works that are, or want to be, without a merge beside them: none begins meanwhile. */
  #exclusiveCount = 0
  /** Set while no merge begins because one has failed; `end` ends that. */
  #mergeRetry: { readonly timer: NodeJS.Timeout; readonly ended: Promise<void>; readonly end: () => void } | null = null
  #failureCount = 0
  /** Set while a merge waits for idle workers. */
  #mergeLater: NodeJS.Timeout | null = null
  /** Jobs done when the workers were last seen idle, by a merge that waits; null when they were not. */
  #idleJobCount: number | null = null
  /** Blocks that could not be read, and what is wrong with them: barriers for later merges. */
  readonly #unreadable: Map<bigint, string>
  /** Blocks that merges under way read. */
  readonly #merged = new Set<bigint>()

  /** unreadable: blocks that are known to be damaged, and what is wrong with them. */
  constructor(context: TableContext, live: LiveSet, staging: Staging, unreadable: ReadonlyMap<bigint, string>) {
    this.#context = context
    this.#live = live
    this.#work = new MergeWork(context, live, staging)
    this.#unreadable = new Map(unreadable)
  }

  /** Bytes that merges wrote. */
  get writtenByteLength(): number {
    return this.#work.writtenByteLength
  }

  /** Whether merges end in the backend's turn. */
  get waitForTurn(): boolean {
    return this.#work.rule?.settle !== undefined
  }

  /** Whether a merge under way reads a block. */
  isMerging(blockId: bigint): boolean {
    return this.#merged.has(blockId)
  }

  /** From now on runs within these bounds are merged in the background, by this rule. */
  start(rule: MergeRule, bounds: MergeBounds): void {
    this.#work.rule = rule
    this.#bounds = bounds
    this.schedule()
  }

  /** Resolves when no merge is under way; none is to start any more. */
  async close(): Promise<void> {
    this.#mergeRetry?.end()
    this.#work.giveUpTurns()
    while (this.#underWay.size > 0) await this.#someEnded()
  }

  /**
   * Merges the runs of now into one (of bounded size). Damaged blocks and what only they keep apart are left as they are;
   * throws DATA_DAMAGED in the end when there are any.
   */
  async compact(): Promise<void> {
    await this.#reservingCommits(async () => {
      const { version } = this.#live.snapshot
      let from = 0
      for (;;) {
        // Later commits are left to others, or a steady writer would keep this going for ever.
        const runs = runsOf(this.#live.snapshot.blocks).filter(
          (run) => this.#live.snapshot.blocks[run.start]!.lastCommit <= version,
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
      const damages = this.#live.snapshot.blocks.flatMap((block) => this.#unreadable.get(block.id) ?? [])
      if (damages.length > 0) throw new FramesError('DATA_DAMAGED', damages.join('; '))
    })
  }

  /** Turns the packed commits at the end of the list into one run. Throws DATA_DAMAGED. */
  async flush(): Promise<void> {
    await this.exclusively(async () => {
      for (;;) {
        const { blocks } = this.#live.snapshot
        let start = blocks.length
        while (start > 0 && blocks[start - 1]!.isPacked && !this.#unreadable.has(blocks[start - 1]!.id)) start--
        if (blocks.length - start < 2 || (await this.#merge(start, blocks.length))) return
      }
    })
  }

  /** See BlockTable.rewrite. */
  async rewrite(
    choose: (blocks: readonly LiveBlock[]) => RewriteChoice,
    step: (sources: readonly BlockSource[], position: unknown) => RuleJob,
  ): Promise<void> {
    await this.#reservingCommits(() => this.#work.rewrite(choose, step))
  }

  /** Runs `work` when no merge is under way, and keeps merges from starting meanwhile. */
  exclusively(work: () => Promise<void>): Promise<void> {
    return this.#exclusively(work, () => Infinity)
  }

  /**
   * As exclusively, for work of many seconds that changes no run of later commits: those are merged meanwhile, since writers
   * would wait for all of it otherwise.
   */
  #reservingCommits(work: () => Promise<void>): Promise<void> {
    return this.#exclusively(work, () => this.#live.snapshot.version)
  }

  /** reservedCommit: called when the work begins; see UnderWay. */
  async #exclusively(work: () => Promise<void>, reservedCommit: () => number): Promise<void> {
    this.#exclusiveCount++
    let isStarted = false
    const run = async (): Promise<void> => {
      isStarted = true
      try {
        await work()
      } finally {
        this.#exclusiveCount--
      }
    }
    try {
      // Looked at again by each who waits, in the same breath as it begins: only one of them may.
      while (this.#underWay.size > 0) await this.#someEnded()
      this.#live.assertUsable()
      const reserved = reservedCommit()
      const working = run()
      this.#startWork(working, Infinity, reserved)
      await working
    } finally {
      if (!isStarted) this.#exclusiveCount--
    }
  }

  /**
   * Writers of so many rows wait here while merges are far behind, never inside a turn that merges wait for. Where merges
   * fail, each waits for the next try, so that neither the runs grow without bound nor a writer waits for ever.
   */
  async waitForRuns(rowCount: number): Promise<void> {
    const countMax = rowCount > smallCommitRowCountMax ? loadRunCountMax : runCountMax
    const failureCount = this.#failureCount
    while (this.#isBeyond(countMax) && this.#failureCount === failureCount) await this.#someEnded()
  }

  get isBehind(): boolean {
    return this.#isBeyond(runCountMax)
  }

  #isBeyond(runCount: number): boolean {
    return (this.#underWay.size > 0 || this.#mergeRetry !== null) && this.#mergeableRunCount() > runCount
  }

  #someEnded(): Promise<void> {
    const ends = [...this.#underWay].map(({ ended }) => ended)
    if (this.#mergeRetry !== null) {
      // A program that waits for nothing else is not to end meanwhile.
      this.#mergeRetry.timer.ref()
      ends.push(this.#mergeRetry.ended)
    }
    return Promise.race(ends)
  }

  /** Begins a merge if one is due. */
  schedule(): void {
    if (this.#live.isEnding || this.#work.rule === null || this.#mergeRetry !== null) return
    const { size } = this.#underWay
    if (size >= concurrentMergeCountMax || (size === 0 && this.#exclusiveCount > 0)) return
    const isWaitedFor = this.#isBeyond(loadRunCountMax)
    const isPatient = size > 0 && !isWaitedFor
    if (isPatient && this.#mergeableRunCount((run) => !this.#isReserved(run)) < patientRunCountMax) return
    const eighths = [...this.#underWay].map(({ rowCount }) => Math.floor(rowCount / runsPerMerge))
    const besideRowCountMax = isWaitedFor ? waitedForRowCountMax : largeMergeRowCount
    const rowCountMax = size === 0 ? Infinity : Math.min(besideRowCountMax, ...eighths)
    if (rowCountMax < smallestRowCount) return
    const { blocks } = this.#live.snapshot
    const outlived =
      size > 0 ? [] : blocks.filter(({ dead, rowCount, damage }) => dead?.count === rowCount && damage === null)
    let work: () => Promise<unknown>
    let mergedRowCount = 0
    if (outlived.length > 0) work = () => this.#dropBlocks(outlived)
    else {
      const choice =
        this.#chooseMerge(rowCountMax) ??
        (size > 0 ? null : chooseRewrite(blocks, ({ id }) => !this.#unreadable.has(id)))
      if (choice === null) return
      const inputs = blocks.slice(choice.start, choice.end)
      if (this.#isPostponed(inputs)) return
      work = () => this.#merge(choice.start, choice.end)
      mergedRowCount = rowCountOf(inputs)
    }
    this.#startWork(
      work().catch((error: unknown) => {
        // Rows died while they were merged: it is begun again.
        const isOutdated = error instanceof FramesError && error.code === 'VIEW_OUTDATED'
        if (!this.#live.isEnding && !isOutdated)
          this.#context.report(`merging runs of table '${this.#context.name}' failed`, error)
      }),
      mergedRowCount,
      noCommit,
    )
  }

  /** Takes blocks without a living row out of the table. */
  async #dropBlocks(blocks: readonly LiveBlock[]): Promise<void> {
    const removed = new Set(blocks.map(({ id }) => id))
    try {
      await this.#live.alone(() =>
        this.#live.commit(
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
  #isPostponed(blocks: readonly LiveBlock[]): boolean {
    const { runningCount, queueCount, jobDoneCount } = this.#context.pool.statistics()
    const isIdle = runningCount + queueCount === 0
    const isLarge = rowCountOf(blocks) >= largeMergeRowCount
    const wasIdle = this.#idleJobCount === jobDoneCount
    if (this.#mergeLater === null) this.#idleJobCount = isIdle ? jobDoneCount : null
    const runs = runsOf(this.#live.snapshot.blocks)
    if ((isIdle && (wasIdle || !isLarge)) || this.#mergeableRunCount() >= patientRunCountMax) return false
    // Nor for ever where half of what is stored is dead.
    if (runs.reduce((sum, { rowCount, deadRowCount }) => sum + deadRowCount - rowCount, 0) >= 0) return false
    this.#mergeLater ??= setTimeout(() => {
      this.#mergeLater = null
      this.schedule()
    }, mergePatienceMs).unref()
    return true
  }

  #startWork(work: Promise<unknown>, rowCount: number, reservedCommit: number): void {
    const end = (): void => {
      this.#underWay.delete(underWay)
      this.schedule()
    }
    const underWay: UnderWay = { rowCount, reservedCommit, ended: work.then(end, end) }
    this.#underWay.add(underWay)
  }

  /** Whether a run may not be merged in the background: it is reserved, or a barrier for all merges. */
  #isReserved(run: Run): boolean {
    const { firstCommit } = this.#live.snapshot.blocks[run.start]!
    for (const { reservedCommit } of this.#underWay) if (firstCommit <= reservedCommit) return true
    return this.#isBarrier(run)
  }

  /** Whether a run may not be merged: a block of it is damaged, or being merged. */
  #isBarrier(run: { start: number; end: number }): boolean {
    if (this.#unreadable.size + this.#merged.size === 0) return false
    return this.#live.snapshot.blocks
      .slice(run.start, run.end)
      .some(({ id }) => this.#unreadable.has(id) || this.#merged.has(id))
  }

  /** Block indexes [start, end) of the current snapshot to merge, with at most so many rows, or null. */
  #chooseMerge(rowCountMax: number): { start: number; end: number } | null {
    const bounds = { ...this.#bounds, rowCountMax: Math.min(this.#bounds.rowCountMax, rowCountMax) }
    const runs = runsOf(this.#live.snapshot.blocks)
    let from = 0
    for (let i = 0; i <= runs.length; i++) {
      if (i < runs.length && !this.#isReserved(runs[i]!)) continue
      const stretch = runs.slice(from, i)
      const choice = chooseMerge(stretch, bounds)
      if (choice !== null) return { start: stretch[choice.start]!.start, end: stretch[choice.end - 1]!.end }
      from = i + 1
    }
    return null
  }

  /** Runs that later merges may take. */
  #mergeableRunCount(isWanted: (run: Run) => boolean = () => true): number {
    let count = 0
    for (const run of runsOf(this.#live.snapshot.blocks)) if (isMergeable(run, this.#bounds) && isWanted(run)) count++
    return count
  }

  /**
   * Merges the blocks [start, end) of the current snapshot into one run. False when one of them is damaged: it is
   * reported and a barrier from then on.
   */
  async #merge(start: number, end: number): Promise<boolean> {
    const snapshot = this.#live.snapshot.acquire()
    const inputs = snapshot.blocks.slice(start, end)
    for (const { id } of inputs) this.#merged.add(id)
    try {
      await this.#work.merge(inputs)
      return true
    } catch (error) {
      if (error instanceof FramesError && error.code === 'DATA_DAMAGED') {
        await this.#findDamage(inputs, error.what)
        return false
      }
      this.#backOff()
      throw error
    } finally {
      for (const { id } of inputs) this.#merged.delete(id)
      snapshot.release()
    }
  }

  /** Finds out which blocks of a failed merge are damaged; they are barriers from now on. */
  async #findDamage(blocks: readonly LiveBlock[], what: string): Promise<void> {
    let isFound = false
    for (const block of blocks) {
      const damages = await verifyBlock(this.#context, block)
      if (damages.length === 0) continue
      isFound = true
      this.#unreadable.set(block.id, damages.join('; '))
      for (const damage of damages) this.#context.report(damage, null)
    }
    if (isFound) return
    for (const block of blocks) this.#unreadable.set(block.id, what)
    this.#context.report(what, null)
  }

  #backOff(): void {
    this.#failureCount++
    if (this.#live.isEnding) return
    this.#mergeRetry?.end()
    let resolveEnded = (): void => undefined
    const ended = new Promise<void>((resolve) => {
      resolveEnded = resolve
    })
    const end = (): void => {
      clearTimeout(timer)
      this.#mergeRetry = null
      resolveEnded()
    }
    const timer = setTimeout(() => {
      end()
      this.schedule()
    }, mergeRetryMs).unref()
    this.#mergeRetry = { timer, ended, end }
  }
}

function rowCountOf(blocks: readonly LiveBlock[]): number {
  return blocks.reduce((sum, { rowCount }) => sum + rowCount, 0)
}
