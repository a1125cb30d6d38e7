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
  stepsPerCommit,
} from './compaction.js'
import { goneMark, liveKeysOf } from './entries.js'
import { blockRowCountMax } from '../limits.js'
import type { LiveBlock } from './live-block.js'
import type { LiveSet } from './live-set.js'
import type { MergeRule, RuleStep } from './merge-rule.js'
import { MergeWork, newMergeState, type MergeState, type RewriteChoice } from './merge-work.js'
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
/** And with more than this they go on in the measure in which merges do, so that they need not stand still at the bound. */
const pacedRunCount = 128
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
/**
 * Where a load waits for merges it needs less of the workers. The merge beside a long one takes up to so many rows then, a second
 * or two, of as many runs as there are; and beside one of no more rows, one of more begins, or their runs would gather until
 * the load had to wait for all of them. Beside both, a third merges the runs of small writes. Where an eighth of the merge under way
 * is less than the least, it has ended soon; beside it, eight runs at a time would become many that are merged once more.
 */
const waitedForRowCountMin = 1024 * 1024
const waitedForRowCountMax = 8 * 1024 * 1024
const waitedForMergeCountMax = 3
/** A merge that stood still for a delete goes on for as long as that took, this at most, before it stands still for the next. */
const mergeShareMsMax = 500

/** As a reserved commit: none is. The first one is 1. */
const noCommit = 0

/**
 * What work of a table needs of merges that are under way when it begins:
 * ended      that they have ended
 * abandoned  the same, and soon: those of the background are given up, since the work does what they do
 * paused     that each stands still between two steps, or has ended
 */
type Manner = 'ended' | 'abandoned' | 'paused'

interface UnderWay {
  /** Of the blocks that it reads; Infinity where that is not known. */
  readonly rowCount: number
  /** Runs that hold this commit or one before it are not merged meanwhile. */
  readonly reservedCommit: number
  /** Whether it is a merge that nobody waits for. */
  readonly isBackground: boolean
  /** Whether it may take many seconds: a compaction, or a merge of many rows. */
  readonly isLong: boolean
  /** Whether it is a rewrite: what is paused stays so until it has ended. */
  readonly isRewrite: boolean
  readonly isCompaction: boolean
  /** Its merge; null: it has none now. */
  merge: MergeState | null
  /** Since when its merge stands still for other work (performance.now()); null: it does not. */
  pausedSinceMs: number | null
  /** It is not paused again before this moment (performance.now()). */
  pausedNotBeforeMs: number
  isAbandoned: boolean
}

export class Merges {
  readonly #context: TableContext
  readonly #live: LiveSet
  readonly #work: MergeWork
  #bounds: MergeBounds = defaultMergeBounds
  readonly #underWay = new Set<UnderWay>()
  /** Works that are, or want to be, without a merge beside them: none begins meanwhile. */
  #exclusiveCount = 0
  /** Of those that wait until all merges stand still. */
  #pauseWantedCount = 0
  /** Flushes that wait for what is short: no merge begins meanwhile. */
  #waitingFlushCount = 0
  /** Steps that merges have done, those of merges side by side counted as one. */
  #stepCount = 0
  /** Of these, those for which commits of loads have waited. */
  #pacedStepCount = 0
  /** The last commit of a load that waits for steps. */
  #lastPaced: Promise<void> = Promise.resolve()
  /** Called when something under way has ended or stands still. */
  #waiting: (() => void)[] = []
  /** Set while no merge begins because one has failed; `end` ends that. */
  #mergeRetry: { readonly timer: NodeJS.Timeout; readonly end: () => void } | null = null
  #failureCount = 0
  /** Set while a merge waits for idle workers. */
  #mergeLater: NodeJS.Timeout | null = null
  /** Jobs done when the workers were last seen idle, by a merge that waits; null when they were not. */
  #idleJobCount: number | null = null
  /** Blocks that could not be read, and what is wrong with them: barriers for later merges. */
  readonly #unreadable: Map<bigint, string>
  /** Blocks that merges under way read. */
  readonly #merged = new Set<bigint>()
  /** Asked for with each commit, of tables with thousands of blocks. */
  #knownRuns: { readonly blocks: readonly LiveBlock[]; readonly runs: readonly Run[] } = { blocks: [], runs: [] }

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
    while (this.#underWay.size > 0) await this.#change()
  }

  /**
   * Merges the runs of now into one (of bounded size). Damaged blocks and what only they keep apart are left as they are;
   * throws DATA_DAMAGED in the end when there are any.
   */
  async compact(): Promise<void> {
    await this.#exclusively('abandoned', true, async (own) => {
      const { version } = this.#live.snapshot
      /** What holds no later commit is done. */
      let doneCommit = noCommit
      for (;;) {
        // Later commits are left to others, or a steady writer would keep this going for ever.
        const { blocks } = this.#live.snapshot
        const runs = runsOf(blocks).filter(
          ({ start }) => blocks[start]!.lastCommit <= version && blocks[start]!.lastCommit > doneCommit,
        )
        let start = 0
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
        const { lastCommit } = blocks[runs[end - 1]!.start]!
        // A failed merge has found barriers among its runs: what is left of them is tried again.
        if (await this.#merge(runs[start]!.start, runs[end - 1]!.end, own)) doneCommit = lastCommit
      }
      const damages = this.#live.snapshot.blocks.flatMap((block) => this.#unreadable.get(block.id) ?? [])
      if (damages.length > 0) throw new FramesError('DATA_DAMAGED', damages.join('; '))
    })
  }

  /** See BlockTable.flush. */
  async flush(): Promise<void> {
    for (;;) {
      let start = this.#flushableStart()
      this.#waitingFlushCount++
      for (; start === null; start = this.#flushableStart()) await this.#change()
      this.#waitingFlushCount--
      this.#live.assertUsable()
      const { blocks } = this.#live.snapshot
      if (blocks.length - start < 2) break
      const [first, end] = [start, blocks.length]
      const own = this.#newWork({ rowCount: rowCountOf(blocks.slice(first)), reservedCommit: noCommit })
      // Where one of them is damaged, it is a barrier from now on: what is behind it is left.
      if (await this.#startWork(own, () => this.#merge(first, end, own))) return
    }
    this.schedule()
  }

  /**
   * Where the packed commits at the end of the list begin, but for what is left to work that takes long; null while short work
   * is to be waited for.
   */
  #flushableStart(): number | null {
    const { blocks } = this.#live.snapshot
    let start = blocks.length
    for (; start > 0; start--) {
      const block = blocks[start - 1]!
      if (!block.isPacked || this.#unreadable.has(block.id)) break
      const user = this.#userOf(block)
      if (user?.isLong === false) return null
      if (user !== null) break
    }
    return start
  }

  /** What under way reads a block, or may change it; null: nothing. */
  #userOf({ id, firstCommit }: LiveBlock): UnderWay | null {
    for (const work of this.#underWay) {
      const isRead = this.#merged.has(id) && work.merge?.inputs.some((input) => input.id === id) === true
      if (isRead || firstCommit <= work.reservedCommit) return work
    }
    return null
  }

  /** See BlockTable.rewrite. */
  async rewrite(choose: (blocks: readonly LiveBlock[]) => RewriteChoice, step: RuleStep): Promise<void> {
    await this.#exclusively('paused', true, async () => {
      const paused = [...this.#underWay].flatMap(({ pausedSinceMs, merge }) => (pausedSinceMs === null ? [] : merge!))
      const before = paused.flatMap(({ inputs }) => inputs)
      await this.#work.rewrite(choose, step, paused)
      for (const { id } of before) this.#merged.delete(id)
      for (const { inputs } of paused) for (const { id } of inputs) this.#merged.add(id)
    })
  }

  /** Runs `work` when no merge is under way, and keeps merges from starting meanwhile. */
  exclusively(work: () => Promise<void>): Promise<void> {
    return this.#exclusively('ended', false, work)
  }

  /**
   * Runs `work` when merges are as it needs them, and keeps others from starting meanwhile.
   *
   * keepsLaterCommits: it takes many seconds and changes no run of later commits: those are merged meanwhile, since writers
   * would wait for all of it otherwise.
   */
  async #exclusively(
    manner: Manner,
    keepsLaterCommits: boolean,
    work: (own: UnderWay) => Promise<void>,
  ): Promise<void> {
    this.#exclusiveCount++
    if (manner === 'paused') this.#pauseWantedCount++
    let working: Promise<void>
    try {
      // Looked at again by each who waits, in the same breath as it begins: only one of them may.
      while (!this.#isReadyFor(manner)) {
        if (manner === 'abandoned') this.#abandonMerges()
        await this.#change()
      }
      this.#live.assertUsable()
      const own = this.#newWork({
        rowCount: Infinity,
        reservedCommit: keepsLaterCommits ? this.#live.snapshot.version : Infinity,
        isRewrite: manner === 'paused',
        isCompaction: manner === 'abandoned',
        isLong: manner === 'abandoned',
      })
      working = this.#startWork(own, () => work(own).finally(() => this.#exclusiveCount--))
    } catch (error) {
      this.#exclusiveCount--
      throw error
    } finally {
      if (manner === 'paused') this.#pauseWantedCount--
      this.#resumePaused()
    }
    await working
  }

  #isReadyFor(manner: Manner): boolean {
    if (manner !== 'paused') return this.#underWay.size === 0
    for (const { pausedSinceMs } of this.#underWay) if (pausedSinceMs === null) return false
    return true
  }

  /** Gives up the merges of the background, each at its next step: what they have written is thrown away. */
  #abandonMerges(): void {
    for (const work of this.#underWay) if (work.isBackground) work.isAbandoned = true
  }

  /** Between two steps of a merge: it stands still here while a rewrite is at work or waits for that. */
  async #between(work: UnderWay, settled: () => Promise<void>): Promise<void> {
    if (this.#isToPause(work)) {
      await settled()
      if (this.#isToPause(work)) work.pausedSinceMs = performance.now()
    }
    this.#stepCount += 1 / Math.max(1, this.#activeMergeCount())
    this.#changed()
    while (work.pausedSinceMs !== null) await this.#change()
    if (work.isAbandoned) throw new FramesError('CANCELLED', `a merge of table '${this.#context.name}' was given up`)
    // Of a table that was dropped nothing is wanted any more.
    if (this.#live.isDropped) this.#live.assertUsable()
  }

  #isToPause({ pausedNotBeforeMs }: UnderWay): boolean {
    return this.#pauseWantedCount > 0 && !this.#isRewriting && performance.now() >= pausedNotBeforeMs
  }

  #activeMergeCount(): number {
    let count = 0
    for (const { merge, pausedSinceMs } of this.#underWay) if (merge !== null && pausedSinceMs === null) count++
    return count
  }

  get #isRewriting(): boolean {
    for (const { isRewrite } of this.#underWay) if (isRewrite) return true
    return false
  }

  /** Something has ended: lets paused merges go on, unless a rewrite is at work, and looks again for all who wait. */
  #resumePaused(): void {
    const nowMs = performance.now()
    for (const work of this.#isRewriting ? [] : this.#underWay) {
      if (work.pausedSinceMs === null) continue
      work.pausedNotBeforeMs = nowMs + Math.min(mergeShareMsMax, nowMs - work.pausedSinceMs)
      work.pausedSinceMs = null
    }
    this.#changed()
  }

  /**
   * Writers of so many rows wait here while merges are far behind, never inside a turn that merges wait for. Where merges
   * fail, each waits for the next try, so that neither the runs grow without bound nor a writer waits for ever.
   */
  async waitForRuns(rowCount: number): Promise<void> {
    const isLoad = rowCount > smallCommitRowCountMax
    const countMax = isLoad ? loadRunCountMax : runCountMax
    const failureCount = this.#failureCount
    if (isLoad) await this.#waitForSteps()
    while (this.#isBeyond(countMax) && this.#failureCount === failureCount) await this.#change()
  }

  /**
   * Commits of a load go on one by one, each after its part of the steps of merges under way, so that they do not come to the bound
   * before these have ended, where they would stand still.
   */
  #waitForSteps(): Promise<void> {
    this.#lastPaced = this.#lastPaced.then(async () => {
      let stepCount = this.#stepsPerCommit()
      while (this.#stepCount - this.#pacedStepCount < stepCount) {
        await this.#change()
        stepCount = this.#stepsPerCommit()
      }
      // Steps for which nobody has waited are not saved up, but for one that let several commits go.
      this.#pacedStepCount = Math.max(this.#pacedStepCount + stepCount, this.#stepCount - 1)
    })
    return this.#lastPaced
  }

  #stepsPerCommit(): number {
    if (!this.#isBeyond(pacedRunCount)) return 0
    const active = [...this.#underWay].flatMap(({ merge, pausedSinceMs }) =>
      merge === null || pausedSinceMs !== null
        ? []
        : { runCount: runsOf(merge.inputs).length, stepsLeft: stepsLeft(merge) },
    )
    if (active.length === 0) return 0
    return stepsPerCommit(Math.max(1, loadRunCountMax - this.#freshRunCount()), active)
  }

  get isBehind(): boolean {
    return this.#isBeyond(runCountMax)
  }

  #isBeyond(runCount: number): boolean {
    return (this.#underWay.size > 0 || this.#mergeRetry !== null) && this.#freshRunCount() > runCount
  }

  /** Those of a compaction under way are not counted: they do not become more, and one run will stand for all of them. */
  #freshRunCount(): number {
    let compacted = noCommit
    for (const { isCompaction, reservedCommit } of this.#underWay) if (isCompaction) compacted = reservedCommit
    const { blocks } = this.#live.snapshot
    return this.#mergeableRunCount(({ start }) => blocks[start]!.firstCommit > compacted)
  }

  /** Resolves when something under way has ended or stands still, or merges are tried again after a failure. */
  #change(): Promise<void> {
    // A program that waits for nothing else is not to end meanwhile.
    this.#mergeRetry?.timer.ref()
    return new Promise((resolve) => {
      this.#waiting.push(resolve)
    })
  }

  #changed(): void {
    for (const wake of this.#waiting.splice(0)) wake()
  }

  /** Begins a merge if one is due. */
  schedule(): void {
    if (this.#live.isEnding || this.#work.rule === null || this.#mergeRetry !== null) return
    let size = 0
    for (const { pausedSinceMs } of this.#underWay) if (pausedSinceMs === null) size++
    const isWaitedFor = this.#isBeyond(pacedRunCount)
    if (
      size >= (isWaitedFor ? waitedForMergeCountMax : concurrentMergeCountMax) ||
      (size === 0 && this.#exclusiveCount > 0)
    )
      return
    // What waits until merges stand still begins soon; another one would have to stand still, too.
    if (this.#pauseWantedCount > 0 && !this.#isRewriting) return
    if (this.#waitingFlushCount > 0) return
    const isPatient = size > 0 && !isWaitedFor
    if (isPatient && this.#mergeableRunCount((run) => !this.#isReserved(run)) < patientRunCountMax) return
    const eighth = Math.min(...[...this.#underWay].map(({ rowCount }) => Math.floor(rowCount / runsPerMerge)))
    const isBesideWaitedFor = isWaitedFor && size === 1
    const isBesideLong = eighth >= waitedForRowCountMin
    const besideRowCountMax = isBesideWaitedFor && isBesideLong ? waitedForRowCountMax : largeMergeRowCount
    const rowCountMax = size === 0 ? Infinity : Math.min(besideRowCountMax, eighth)
    const { blocks } = this.#live.snapshot
    const outlived =
      size > 0 ? [] : blocks.filter(({ dead, rowCount, damage }) => dead?.count === rowCount && damage === null)
    let run: (own: UnderWay) => Promise<unknown>
    let mergedRowCount = 0
    let reservedCommit = noCommit
    if (outlived.length > 0) {
      run = () => this.#dropBlocks(outlived)
      reservedCommit = Infinity
    } else {
      const choice =
        (isBesideWaitedFor && !isBesideLong ? this.#chooseMerge(Infinity, waitedForRowCountMax) : null) ??
        (rowCountMax < smallestRowCount ? null : this.#chooseMerge(rowCountMax)) ??
        (size > 0 ? null : chooseRewrite(blocks, ({ id }) => !this.#unreadable.has(id)))
      if (choice === null) return
      const inputs = blocks.slice(choice.start, choice.end)
      if (this.#isPostponed(inputs)) return
      run = (own) => this.#merge(choice.start, choice.end, own)
      mergedRowCount = rowCountOf(inputs)
    }
    const own = this.#newWork({
      rowCount: mergedRowCount,
      reservedCommit,
      isBackground: true,
      isLong: mergedRowCount >= largeMergeRowCount,
    })
    void this.#startWork(own, () =>
      run(own).catch((error: unknown) => {
        // Rows died while they were merged: it is begun again.
        const isOutdated = error instanceof FramesError && error.code === 'VIEW_OUTDATED'
        if (!this.#live.isEnding && !isOutdated && !own.isAbandoned)
          this.#context.report(`merging runs of table '${this.#context.name}' failed`, error)
      }),
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
    const runs = this.#runs
    if ((isIdle && (wasIdle || !isLarge)) || this.#mergeableRunCount() >= patientRunCountMax) return false
    // Nor for ever where half of what is stored is dead.
    if (runs.reduce((sum, { rowCount, deadRowCount }) => sum + deadRowCount - rowCount, 0) >= 0) return false
    this.#mergeLater ??= setTimeout(() => {
      this.#mergeLater = null
      this.schedule()
    }, mergePatienceMs).unref()
    return true
  }

  #newWork(
    known: Pick<UnderWay, 'rowCount' | 'reservedCommit'> &
      Partial<Pick<UnderWay, 'isBackground' | 'isLong' | 'isRewrite' | 'isCompaction'>>,
  ): UnderWay {
    return {
      isBackground: false,
      isLong: false,
      isRewrite: false,
      isCompaction: false,
      ...known,
      merge: null,
      pausedSinceMs: null,
      pausedNotBeforeMs: 0,
      isAbandoned: false,
    }
  }

  /** Begins work that is under way until it has ended, well or not. */
  #startWork<T>(own: UnderWay, run: () => Promise<T>): Promise<T> {
    this.#underWay.add(own)
    return run().finally(() => {
      this.#underWay.delete(own)
      this.#resumePaused()
      this.schedule()
    })
  }

  /** Whether a run may not be merged in the background: it is reserved, or a barrier for all merges. */
  #isReserved(run: Run): boolean {
    const { firstCommit } = this.#live.snapshot.blocks[run.start]!
    for (const { reservedCommit } of this.#underWay) if (firstCommit <= reservedCommit) return true
    return this.#isBarrier(run)
  }

  /** Whether a run may not be merged: a block of it is damaged, or being merged. */
  #isBarrier({ start, end }: Run): boolean {
    const { blocks } = this.#live.snapshot
    const { firstCommit, lastCommit } = blocks[start]!
    for (const { merge } of this.#underWay) {
      const first = merge?.inputs[0]
      if (first === undefined) continue
      const last = merge!.inputs[merge!.inputs.length - 1]!
      if (first.firstCommit <= lastCommit && firstCommit <= last.lastCommit) return true
    }
    return this.#unreadable.size > 0 && blocks.slice(start, end).some(({ id }) => this.#unreadable.has(id))
  }

  /** The runs of the current snapshot. */
  get #runs(): readonly Run[] {
    const { blocks } = this.#live.snapshot
    if (this.#knownRuns.blocks !== blocks) this.#knownRuns = { blocks, runs: runsOf(blocks) }
    return this.#knownRuns.runs
  }

  /** Block indexes [start, end) of the current snapshot to merge, with at most and at least so many rows, or null. */
  #chooseMerge(rowCountMax: number, rowCountMin = 0): { start: number; end: number } | null {
    const bounds = { ...this.#bounds, rowCountMax: Math.min(this.#bounds.rowCountMax, rowCountMax) }
    const runs = this.#runs
    let from = 0
    for (let i = 0; i <= runs.length; i++) {
      if (i < runs.length && !this.#isReserved(runs[i]!)) continue
      const stretch = runs.slice(from, i)
      const choice = chooseMerge(stretch, bounds, rowCountMin)
      if (choice !== null) return { start: stretch[choice.start]!.start, end: stretch[choice.end - 1]!.end }
      from = i + 1
    }
    return null
  }

  /** Runs that later merges may take. */
  #mergeableRunCount(isWanted: (run: Run) => boolean = () => true): number {
    let count = 0
    for (const run of this.#runs) if (isMergeable(run, this.#bounds) && isWanted(run)) count++
    return count
  }

  /**
   * Merges the blocks [start, end) of the current snapshot into one run, as a part of `own`. False when one of them is damaged: it is
   * reported and a barrier from then on.
   */
  async #merge(start: number, end: number, own: UnderWay): Promise<boolean> {
    const snapshot = this.#live.snapshot.acquire()
    const state = newMergeState(snapshot.blocks.slice(start, end))
    for (const { id } of state.inputs) this.#merged.add(id)
    own.merge = state
    try {
      await this.#work.merge(state, (settled) => this.#between(own, settled))
      return true
    } catch (error) {
      if (error instanceof FramesError && error.code === 'DATA_DAMAGED') {
        await this.#findDamage(state.inputs, error.what)
        return false
      }
      if (!own.isAbandoned) this.#backOff()
      throw error
    } finally {
      this.#stepCount += 1 / Math.max(1, this.#activeMergeCount())
      own.merge = null
      for (const { id } of state.inputs) this.#merged.delete(id)
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
    const end = (): void => {
      clearTimeout(timer)
      this.#mergeRetry = null
      this.#changed()
    }
    const timer = setTimeout(() => {
      end()
      this.schedule()
    }, mergeRetryMs).unref()
    this.#mergeRetry = { timer, end }
  }
}

/** Of a merge, by what its steps have written so far; where rows are merged into fewer it seems to have more. */
function stepsLeft({ inputs, stepCount, writtenRowCount }: MergeState): number {
  const rowsPerStep = stepCount === 0 ? blockRowCountMax : Math.max(1, writtenRowCount / stepCount)
  return Math.max(1, Math.ceil((rowCountOf(inputs) - writtenRowCount) / rowsPerStep))
}

function rowCountOf(blocks: readonly LiveBlock[]): number {
  return blocks.reduce((sum, { rowCount }) => sum + rowCount, 0)
}
