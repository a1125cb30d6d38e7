// Which worker looks a name up: names that stand near each other go to the same one, so that workers keep different pages of a
// table that is larger than what one of them keeps.
import type { LiveBlock } from '../../blocks/live-block.js'
import { MiB } from '../../limits.js'
import { firstNameOf } from './item-extent.js'

/** Smaller blocks are kept by all workers: fresh ones, which the next merge takes. */
const homeByteLengthMin = MiB

/** Stretches of the table that each worker has: several, since names that are asked for often may stand side by side. */
const stretchesPerWorker = 8

export interface NamePlaces {
  /** What the places were made of. */
  readonly ids: readonly bigint[]
  readonly workerCount: number
  /** The beginnings of the first names of blocks, in order, and the worker for the names from there on. */
  readonly bounds: readonly string[]
  readonly workers: readonly number[]
}

/** The places of a table's names; `known` itself while its large blocks are the same. Null: one worker keeps all of it. */
export function placesOf(
  blocks: readonly LiveBlock[],
  { workerCount, keptByteLength }: { readonly workerCount: number; readonly keptByteLength: number },
  known: NamePlaces | null,
): NamePlaces | null {
  if (workerCount < 2) return null
  const homes = blocks.filter(({ byteLength, extent }) => byteLength >= homeByteLengthMin && extent !== null)
  const total = homes.reduce((sum, { byteLength }) => sum + byteLength, 0)
  if (total <= keptByteLength) return null
  const isKnown = known?.workerCount === workerCount && known.ids.length === homes.length
  if (isKnown && homes.every(({ id }, i) => id === known.ids[i])) return known
  // In the order of V8's texts, which need not be that of their bytes: all that matters is that a name has one place.
  const sorted = homes
    .flatMap(({ extent, byteLength }) => (extent === null ? [] : [{ name: firstNameOf(extent), byteLength }]))
    .sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0))
  // Counted by bytes, so that most names keep their place when blocks are merged.
  const stretchCount = Math.min(sorted.length, stretchesPerWorker * workerCount)
  let before = 0
  const workers = sorted.map(({ byteLength }) => {
    const stretch = Math.floor((stretchCount * (before + byteLength / 2)) / total)
    before += byteLength
    return stretch % workerCount
  })
  return { ids: homes.map(({ id }) => id), workerCount, bounds: sorted.map(({ name }) => name), workers }
}

/** The number of the worker that keeps the page of a name. */
export function workerOf({ bounds, workers }: NamePlaces, name: string): number {
  let low = 0
  let high = bounds.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (bounds[middle]! <= name) low = middle + 1
    else high = middle
  }
  return workers[Math.max(0, low - 1)]!
}
