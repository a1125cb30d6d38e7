// Which runs to merge next: neighbours in commit order, so that "newest wins" needs no more than the order of runs.
import type { LiveBlock } from './live-block.js'
import { sameRun } from './live-block.js'

export interface Run {
  /** Index of its first block in the snapshot, and after its last. */
  readonly start: number
  readonly end: number
  /** Living rows: what a merge would write. */
  readonly rowCount: number
  readonly deadRowCount: number
  readonly byteLength: number
}

/** Runs in commit order. */
export function runsOf(blocks: readonly LiveBlock[]): Run[] {
  const runs: Run[] = []
  for (let start = 0; start < blocks.length; ) {
    let end = start
    let rowCount = 0
    let deadRowCount = 0
    let byteLength = 0
    for (; end < blocks.length && sameRun(blocks[start]!, blocks[end]!); end++) {
      const deadCount = blocks[end]!.dead?.count ?? 0
      rowCount += blocks[end]!.rowCount - deadCount
      deadRowCount += deadCount
      byteLength += blocks[end]!.byteLength
    }
    runs.push({ start, end, rowCount, deadRowCount, byteLength })
    start = end
  }
  return runs
}

/** Runs of a tier that make one of the next. */
export const runsPerMerge = 8
/** The smallest runs are cheap to hold and to read together: more of them are gathered before a merge. */
const smallestRunsPerMerge = 32
export const smallestRowCount = 256
/** Larger runs are not made: rewriting them again would cost more than reading one run more. */
export interface MergeBounds {
  readonly rowCountMax: number
  readonly byteLengthMax: number
}

export const defaultMergeBounds: MergeBounds = { rowCountMax: 64 * 1024 * 1024, byteLengthMax: Infinity }

/** Whether a run of this size may be made, or be a part of a larger one. */
export function isMergeable(
  { rowCount, byteLength }: Pick<Run, 'rowCount' | 'byteLength'>,
  bounds: MergeBounds,
): boolean {
  return rowCount <= bounds.rowCountMax && byteLength <= bounds.byteLengthMax
}

/** Tier 0 has runs below 256 rows, each further one eight times as many. */
export function tierOf(rowCount: number): number {
  let tier = 0
  for (let limit = smallestRowCount; rowCount >= limit; limit *= runsPerMerge) tier++
  return tier
}

/**
 * Neighbours of mixed sizes are merged when there are this many, though no tier has enough by itself, but no large run for
 * the sake of a few rows: the others must hold an eighth as many as the largest, or be as many as one merge takes.
 */
const mixedRunsPerMerge = 32
/** Runs of one merge at most: its jobs hold pages of each. */
const mergedRunCountMax = 64

/**
 * The runs [start, end) to merge, or null. Walks the tiers from the smallest: a stretch of neighbours that are all of at
 * most that tier is merged when enough of them are of just that tier, the smaller ones between them going along
 * (size-tiered, as in O'Neil et al., "The log-structured merge-tree", 1996, with runs of similar size grouped instead
 * of levels of fixed size).
 *
 * rowCountMin: merges of fewer rows are passed over.
 */
export function chooseMerge(
  runs: readonly Run[],
  bounds: MergeBounds = defaultMergeBounds,
  rowCountMin = 0,
): { start: number; end: number } | null {
  const tiers = runs.map((run) => tierOf(run.rowCount))
  const tierMax = Math.max(0, ...tiers)
  for (let tier = 0; tier <= tierMax; tier++) {
    const wanted = tier === 0 ? smallestRunsPerMerge : runsPerMerge
    for (let start = 0; start < runs.length; ) {
      let end = start
      let rowCount = 0
      let byteLength = 0
      let ofTierCount = 0
      let largestRowCount = 0
      while (end < runs.length && tiers[end]! <= tier && end - start < mergedRunCountMax) {
        const { rowCount: ownRowCount, byteLength: ownByteLength } = runs[end]!
        const merged = { rowCount: rowCount + ownRowCount, byteLength: byteLength + ownByteLength }
        if (!isMergeable(merged, bounds)) break
        rowCount = merged.rowCount
        byteLength = merged.byteLength
        if (tiers[end] === tier) ofTierCount++
        largestRowCount = Math.max(largestRowCount, ownRowCount)
        end++
      }
      const runCount = end - start
      const isBalanced = runsPerMerge * (rowCount - largestRowCount) >= largestRowCount
      const isDue = ofTierCount >= wanted || runCount >= (isBalanced ? mixedRunsPerMerge : mergedRunCountMax)
      if (isDue && rowCount >= rowCountMin) return { start, end }
      start = end > start ? end : start + 1
    }
  }
  return null
}

/** Blocks of one rewrite at most: rows come free step by step. */
const rewrittenBlockCountMax = 8

/** Whether so many rows of a block are dead that it is worth writing anew. Small ones are merged soon anyway. */
function isWorthRewriting({ rowCount, dead }: LiveBlock): boolean {
  return dead !== null && rowCount >= smallestRowCount && 4 * dead.count >= rowCount
}

/** Neighbours [start, end) within one run a quarter of whose rows are dead, or null. They keep their place in the run. */
export function chooseRewrite(
  blocks: readonly LiveBlock[],
  isReadable: (block: LiveBlock) => boolean,
): { start: number; end: number } | null {
  const isWanted = (block: LiveBlock): boolean => isWorthRewriting(block) && isReadable(block)
  const start = blocks.findIndex(isWanted)
  if (start < 0) return null
  let end = start + 1
  while (
    end < blocks.length &&
    end - start < rewrittenBlockCountMax &&
    sameRun(blocks[start]!, blocks[end]!) &&
    isWanted(blocks[end]!)
  )
    end++
  return { start, end }
}

/** A merge under way: the runs that it makes one of, and the steps that are left of it (at least 1). */
export interface MergeProgress {
  readonly runCount: number
  readonly stepsLeft: number
}

/**
 * For how many steps of merges each commit of a load waits, so that its runs are spread evenly and find room all the time: what there
 * is, and what the merges that end sooner have made by then. Merges are taken to go on alike, since their jobs wait in one line with
 * those of the load.
 *
 * Until the last merge under way has ended, or until a sooner one has, if no more runs come by then than have gone: others begin behind
 * that, which make as much room in the same time. A load beside a merge of many seconds goes on as those beside it do.
 *
 * room: at least 1. merges: at least one.
 */
export function stepsPerCommit(room: number, merges: readonly MergeProgress[]): number {
  let untilLast = 0
  let untilSooner = Infinity
  let goneByThen = 0
  for (const { runCount, stepsLeft } of [...merges].sort((a, b) => a.stepsLeft - b.stepsLeft)) {
    untilLast = Math.max(untilLast, stepsLeft / (room + goneByThen))
    goneByThen += runCount - 1
    if (goneByThen > 0) untilSooner = Math.min(untilSooner, Math.max(untilLast, stepsLeft / goneByThen))
  }
  return Math.min(untilLast, untilSooner)
}
