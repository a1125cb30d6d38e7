// Cuts a scan into units: ranges of items that are made one behind the other, each within one job.
//
//   sorted    its sources follow each other: rows come out in order as they stand
//   unsorted  runs overlap: the rows that match are ordered by name before they leave
import type { BlockReader } from '../../blocks/reader.js'
import { BlockKeys, compareKeys, type ItemKey } from './item-keys.js'

/** Pages of one block. */
export interface UnitSource {
  /** Index among the sources of the job. */
  readonly source: number
  readonly pageStart: number
  readonly pageEnd: number
}

export interface ScanUnit {
  /** [low, high) of the items that belong to it; null: as far as its sources go. */
  readonly low: ItemKey | null
  readonly high: ItemKey | null
  readonly isSorted: boolean
  readonly rowCount: number
  readonly sources: readonly UnitSource[]
}

/** A range of items; null is open. */
export interface KeyRange {
  readonly low: ItemKey | null
  readonly high: ItemKey | null
}

export interface UnitOptions {
  /** In order and apart from each other. */
  readonly ranges: readonly KeyRange[]
  readonly unitRowCountMax: number
  /** Folders whose items cannot match. */
  readonly isFolderExcluded: (folder: string) => boolean
}

/** Fences that are looked at as places to cut, at most: more would only cost memory. */
const cutCandidateCountMax = 16_384

interface KeyedBlock {
  readonly source: number
  readonly keys: BlockKeys
  readonly first: ItemKey
  readonly last: ItemKey
}

/** Units in order. Each block is read by `reader`, called once for each; a block without rows is left out. */
export function planUnits(
  sourceCount: number,
  readerOf: (source: number) => BlockReader,
  { ranges, unitRowCountMax, isFolderExcluded }: UnitOptions,
): ScanUnit[] {
  const blocks: KeyedBlock[] = []
  for (let source = 0; source < sourceCount; source++) {
    const reader = readerOf(source)
    if (reader.layout.rowCount === 0) continue
    const keys = new BlockKeys(reader)
    if (keys.folders.every(({ folder }) => isFolderExcluded(folder))) continue
    blocks.push({ source, keys, first: keys.first(0), last: keys.last })
  }
  blocks.sort((a, b) => compareKeys(a.first, b.first))
  const units: ScanUnit[] = []
  for (const range of ranges) {
    // Blocks that overlap one another, directly or by others, are cut together.
    let cluster: KeyedBlock[] = []
    let last: ItemKey | null = null
    const cutCluster = (): void => {
      if (cluster.length === 1) cutBlock(units, cluster[0]!, range, unitRowCountMax)
      else if (cluster.length > 1) cutOverlapping(units, cluster, range, unitRowCountMax)
      cluster = []
    }
    for (const block of blocks) {
      if (range.low !== null && compareKeys(block.last, range.low) < 0) continue
      if (range.high !== null && compareKeys(block.first, range.high) >= 0) continue
      if (last !== null && compareKeys(block.first, last) > 0) cutCluster()
      cluster.push(block)
      if (last === null || compareKeys(block.last, last) > 0) last = block.last
    }
    cutCluster()
  }
  return units
}

function rowsOf(keys: BlockKeys, pageStart: number, pageEnd: number): number {
  const { pageStarts } = keys.reader.layout
  return pageStarts[pageEnd]! - pageStarts[pageStart]!
}

/** One block by itself: whole pages. Small ones join the unit before them. */
function cutBlock(units: ScanUnit[], { source, keys }: KeyedBlock, range: KeyRange, rowCountMax: number): void {
  const { pageStart, pageEnd } = keys.pages(range.low, range.high)
  for (let start = pageStart; start < pageEnd; ) {
    let end = start + 1
    while (end < pageEnd && rowsOf(keys, start, end + 1) <= rowCountMax) end++
    const rowCount = rowsOf(keys, start, end)
    const before = units[units.length - 1]
    const isJoined =
      before?.isSorted === true &&
      before.low === range.low &&
      before.high === range.high &&
      before.rowCount + rowCount <= rowCountMax
    const part: UnitSource = { source, pageStart: start, pageEnd: end }
    if (isJoined) {
      units[units.length - 1] = {
        ...before,
        rowCount: before.rowCount + rowCount,
        sources: [...before.sources, part],
      }
    } else units.push({ ...range, isSorted: true, rowCount, sources: [part] })
    start = end
  }
}

/** Blocks that overlap: cut at fences, so that each unit has about as many rows as it may. */
function cutOverlapping(units: ScanUnit[], blocks: readonly KeyedBlock[], range: KeyRange, rowCountMax: number): void {
  const inRange = blocks.map((block) => ({ ...block, ...block.keys.pages(range.low, range.high) }))
  const pageCount = inRange.reduce((sum, { pageStart, pageEnd }) => sum + pageEnd - pageStart, 0)
  const step = Math.ceil(pageCount / cutCandidateCountMax)
  const candidates: { key: ItemKey; rowCount: number }[] = []
  let total = 0
  for (const { keys, pageStart, pageEnd } of inRange) {
    for (let page = pageStart; page < pageEnd; page += step) {
      const rowCount = rowsOf(keys, page, Math.min(pageEnd, page + step))
      candidates.push({ key: keys.first(page), rowCount })
      total += rowCount
    }
  }
  const cuts: ItemKey[] = []
  if (total > rowCountMax) {
    candidates.sort((a, b) => compareKeys(a.key, b.key))
    let rowCount = 0
    for (const candidate of candidates) {
      const isInside = range.low === null || compareKeys(candidate.key, range.low) > 0
      if (isInside && rowCount > 0 && rowCount + candidate.rowCount > rowCountMax) {
        cuts.push(candidate.key)
        rowCount = 0
      }
      rowCount += candidate.rowCount
    }
  }
  for (let i = 0; i <= cuts.length; i++) {
    const low = i === 0 ? range.low : cuts[i - 1]!
    const high = i === cuts.length ? range.high : cuts[i]!
    const unit = unitOf(inRange, low, high)
    if (unit !== null) units.push(unit)
  }
}

function unitOf(blocks: readonly KeyedBlock[], low: ItemKey | null, high: ItemKey | null): ScanUnit | null {
  const sources: UnitSource[] = []
  let rowCount = 0
  for (const { source, keys } of blocks) {
    const { pageStart, pageEnd } = keys.pages(low, high)
    if (pageStart === pageEnd) continue
    sources.push({ source, pageStart, pageEnd })
    rowCount += rowsOf(keys, pageStart, pageEnd)
  }
  return sources.length === 0 ? null : { low, high, isSorted: sources.length === 1, rowCount, sources }
}

/** The same unit in two halves, or null when it is a single page of each source. */
export function splitUnit(unit: ScanUnit, readerOf: (source: number) => BlockReader): [ScanUnit, ScanUnit] | null {
  const blocks = unit.sources.map(({ source }): KeyedBlock => {
    const keys = new BlockKeys(readerOf(source))
    return { source, keys, first: keys.first(0), last: keys.last }
  })
  const fences: ItemKey[] = []
  unit.sources.forEach(({ pageStart, pageEnd }, i) => {
    for (let page = pageStart; page < pageEnd; page++) {
      const key = blocks[i]!.keys.first(page)
      if (unit.low !== null && compareKeys(key, unit.low) <= 0) continue
      if (unit.high === null || compareKeys(key, unit.high) < 0) fences.push(key)
    }
  })
  fences.sort(compareKeys)
  const middle = fences[fences.length >> 1]
  if (middle === undefined) return null
  const halves = [unitOf(blocks, unit.low, middle), unitOf(blocks, middle, unit.high)]
  const [first, second] = halves
  return first == null || second == null ? null : [first, second]
}
