// Which blocks of a merge one step of it reads.
import type { BlockSource } from '../../blocks/reader.js'
import { blockRowCountMax } from '../../limits.js'
import { extentOf, floorMs, type TsdbExtent } from './directory.js'

/** Where the next step of a merge begins: in this set, at this time. */
export interface MergePosition {
  readonly set: number
  readonly fromNs: bigint
  /** How many rows its sources hold for each that it writes, at least; more where the same rows come again and again. */
  readonly reach: number
}

/** What a step reads: rows in front of `end` (null: all that are left), which are in no other blocks than these. */
export interface MergeStretch {
  readonly sources: readonly BlockSource[]
  readonly end: { readonly set: number; readonly timeNs: bigint } | null
}

const nsPerMs = 1_000_000n
/** Rows that a step's sources hold for each that it writes, unless that was too few: some are dead or overwritten. */
export const reachMin = 2

/** By where their last row is, those behind it last; null: of one of them that is not known. */
const sourcesByEnd = new WeakMap<readonly BlockSource[], readonly ExtendedSource[] | null>()

interface ExtendedSource {
  readonly source: BlockSource
  readonly extent: TsdbExtent
}

function byEndOf(sources: readonly BlockSource[]): readonly ExtendedSource[] | null {
  let known = sourcesByEnd.get(sources)
  if (known === undefined) {
    const extended = sources.flatMap((source) => {
      const extent = extentOf(source)
      return extent === null ? [] : [{ source, extent }]
    })
    extended.sort((a, b) => a.extent.setMax - b.extent.setMax || a.extent.timeMaxMs - b.extent.timeMaxMs)
    known = extended.length === sources.length ? extended : null
    sourcesByEnd.set(sources, known)
  }
  return known
}

/** Whether a set and time come before others. */
function isBefore(set: number, timeMs: number, otherSet: number, otherTimeMs: number): boolean {
  return set < otherSet || (set === otherSet && timeMs < otherTimeMs)
}

/**
 * The blocks of a merge that a step from `position` on needs, in their order. A large merge has hundreds, of which a step reads a few:
 * to send all of them and to look at their headers took longer than its rows.
 */
export function stretchAt(sources: readonly BlockSource[], position: MergePosition | null): MergeStretch {
  const byEnd = byEndOf(sources)
  if (byEnd === null) return { sources, end: null }
  const set = position?.set ?? 0
  const fromMs = position === null ? -Infinity : floorMs(position.fromNs)
  const wantedRowCount = blockRowCountMax * (position?.reach ?? reachMin)
  let rowCount = 0
  let last: TsdbExtent | null = null
  for (const { source, extent } of byEnd) {
    if (isBefore(extent.setMin, extent.timeMinMs, set, fromMs)) continue
    rowCount += source.rowCount
    if (rowCount < wantedRowCount) continue
    last = extent
    break
  }
  const left = sources.filter((source) => {
    const { setMax, timeMaxMs } = extentOf(source)!
    return !isBefore(setMax, timeMaxMs, set, fromMs)
  })
  if (last === null) return { sources: left, end: null }
  const { setMax, timeMaxMs } = last
  const wanted = left.filter((source) => {
    const { setMin, timeMinMs } = extentOf(source)!
    return !isBefore(setMax, timeMaxMs, setMin, timeMinMs)
  })
  if (wanted.length === left.length) return { sources: left, end: null }
  return { sources: wanted, end: { set: setMax, timeNs: BigInt(timeMaxMs + 1) * nsPerMs } }
}
