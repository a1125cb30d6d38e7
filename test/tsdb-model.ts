// A plain model of one tsdb table, too simple to be wrong: a map of samples. And random frames for it.
import { columnOfCells } from '../dist/engine/frame/builder.js'
import { Frame, sliceColumn } from '../dist/engine/index.js'
import type { SeededRandom } from './seeded-random.js'

export type ModelCell = bigint | number | boolean | string | null
export type MetricDType = 'int64' | 'float64' | 'bool' | 'string'

export interface ModelColumn {
  readonly name: string
  readonly dtype: MetricDType
  readonly cells: readonly ModelCell[]
}

/** A frame before it is one: rows in the order of writing. `labels` holds one text a row, null: the label is not used. */
export interface ModelFrame {
  readonly timesNs: readonly bigint[]
  readonly columns: readonly ModelColumn[]
  readonly frameLabels: Readonly<Record<string, string>>
  readonly indexLabels: readonly { readonly name: string; readonly texts: readonly string[] }[]
}

export function toFrame({ timesNs, columns, frameLabels, indexLabels }: ModelFrame): Frame {
  return new Frame({
    columns: columns.map(({ name, dtype, cells }) => columnOfCells(name, dtype, cells)),
    indices: [
      sliceColumn('when', BigInt64Array.from(timesNs), 'time'),
      ...indexLabels.map(({ name, texts }) => columnOfCells(name, 'string', texts)),
    ],
    labels: frameLabels,
  })
}

interface Series {
  readonly types: Set<MetricDType>
  readonly samples: Map<bigint, ModelCell>
}

/** Labels sorted by name, as text that sorts like a label set. */
export function labelText(labels: Readonly<Record<string, string>>): string {
  return Object.keys(labels)
    .sort()
    .map((name) => `${name}=${labels[name]}`)
    .join(',')
}

export interface ModelRow {
  readonly timeNs: bigint
  readonly cells: readonly ModelCell[]
}

export class TsdbModel {
  /** Label text → metric → series. */
  readonly sets = new Map<string, Map<string, Series>>()
  readonly #newestWins: boolean

  constructor(newestWins: boolean) {
    this.#newestWins = newestWins
  }

  write({ timesNs, columns, frameLabels, indexLabels }: ModelFrame): void {
    timesNs.forEach((timeNs, row) => {
      const labels: Record<string, string> = {}
      for (const { name, texts } of indexLabels) labels[name] = texts[row]!
      Object.assign(labels, frameLabels)
      for (const { name, dtype, cells } of columns) {
        const cell = cells[row]!
        if (cell === null) continue
        const text = labelText(labels)
        let metrics = this.sets.get(text)
        if (metrics === undefined) this.sets.set(text, (metrics = new Map()))
        let series = metrics.get(name)
        if (series === undefined) metrics.set(name, (series = { types: new Set(), samples: new Map() }))
        series.types.add(dtype)
        if (this.#newestWins || !series.samples.has(timeNs)) series.samples.set(timeNs, cell)
      }
    })
  }

  /** Forgets samples with times in [startMs, endMs], both inclusive, of the series that are chosen. */
  delete(startMs: number, endMs: number, isChosen: (labels: string, metric: string) => boolean): void {
    const [startNs, endNs] = [BigInt(startMs) * 1_000_000n, BigInt(endMs + 1) * 1_000_000n]
    for (const [labels, metrics] of this.sets) {
      for (const [metric, { samples }] of metrics) {
        if (!isChosen(labels, metric)) continue
        for (const timeNs of samples.keys()) if (timeNs >= startNs && timeNs < endNs) samples.delete(timeNs)
      }
    }
  }

  /** Rows of a label set with times in [startMs, endMs + 1 ms), all metrics by name, in the types they read in. */
  rows(text: string, startMs: number, endMs: number): { names: string[]; rows: ModelRow[] } {
    const metrics = [...this.sets.get(text)!].sort(([a], [b]) => (a < b ? -1 : 1))
    const times = new Set<bigint>()
    const [startNs, endNs] = [BigInt(startMs) * 1_000_000n, BigInt(endMs + 1) * 1_000_000n]
    for (const [, { samples }] of metrics) {
      for (const timeNs of samples.keys()) if (timeNs >= startNs && timeNs < endNs) times.add(timeNs)
    }
    const rows = [...times]
      .sort((a, b) => (a < b ? -1 : 1))
      .map((timeNs) => ({
        timeNs,
        cells: metrics.map(([, { samples, types }]) => convert(samples.get(timeNs) ?? null, types)),
      }))
    return { names: metrics.map(([name]) => name), rows }
  }

  /** Samples of a series as numbers, in time order, in [startMs, endMs + 1 ms). */
  samples(text: string, metric: string, startMs: number, endMs: number): { timeNs: bigint; cell: ModelCell }[] {
    const series = this.sets.get(text)?.get(metric)
    const [startNs, endNs] = [BigInt(startMs) * 1_000_000n, BigInt(endMs + 1) * 1_000_000n]
    return [...(series?.samples ?? [])]
      .filter(([timeNs]) => timeNs >= startNs && timeNs < endNs)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([timeNs, cell]) => ({ timeNs, cell }))
  }
}

/** The one type in which a series reads: bool with int is int, anything with float is float. */
function convert(cell: ModelCell, types: ReadonlySet<MetricDType>): ModelCell {
  if (cell === null || typeof cell === 'string') return cell
  if (types.has('float64')) return Number(cell)
  return types.has('int64') ? BigInt(cell as bigint | boolean) : cell
}

export interface FrameShape {
  readonly rowCount: number
  readonly timeMsMax: number
  /** A time may fall between milliseconds, and on a coarse grid so that duplicates happen. */
  readonly gridMs: number
}

/** Metrics that a random frame may have: each name has one kind, numeric or text, but numeric ones change their type. */
const metricKinds: Readonly<Record<string, readonly MetricDType[]>> = {
  cpu: ['float64', 'float64', 'int64', 'bool'],
  disk: ['int64'],
  flag: ['bool', 'bool', 'int64'],
  load: ['float64'],
  note: ['string'],
}

/** `like`: a frame whose columns this one has, too, in the same types. */
export function randomFrame(
  random: SeededRandom,
  { rowCount, timeMsMax, gridMs }: FrameShape,
  like: ModelFrame | null = null,
): ModelFrame {
  const base = BigInt(random.integer(0, Math.max(1, Math.floor(timeMsMax / gridMs)))) * BigInt(gridMs)
  const isSorted = random.chance(0.5)
  const span = Math.max(1, Math.floor((timeMsMax - Number(base)) / gridMs))
  const nsOffset = random.chance(0.2) ? 123_456n : 0n
  const times = random.list(rowCount, (row) => {
    const steps = isSorted ? Math.min(row, span - 1) : random.integer(0, Math.min(span, rowCount + 1))
    return (base + BigInt(steps) * BigInt(gridMs)) * 1_000_000n + nsOffset
  })
  const names = Object.keys(metricKinds).filter(() => random.chance(0.5))
  if (names.length === 0) names.push('cpu')
  const nullChance = random.pick([0, 0, 0.1, 0.6])
  const heads = like?.columns ?? names.map((name) => ({ name, dtype: random.pick(metricKinds[name]!) }))
  const columns = heads.map(({ name, dtype }): ModelColumn => {
    const walk = random.integer(-1000, 1000)
    return {
      name,
      dtype,
      cells: random.list(rowCount, (row) => (random.chance(nullChance) ? null : randomCell(random, dtype, walk + row))),
    }
  })
  const frameLabels: Record<string, string> = random.chance(0.5) ? { host: random.pick(['a', 'b', 'c']) } : {}
  const indexLabels = random.chance(0.5)
    ? [{ name: 'os', texts: random.list(rowCount, () => random.pick(['linux', 'mac', '', 'a=b,c'])) }]
    : []
  return { timesNs: times, columns, frameLabels, indexLabels }
}

function randomCell(random: SeededRandom, dtype: MetricDType, walk: number): ModelCell {
  switch (dtype) {
    case 'int64':
      return random.chance(0.1) ? random.int64() : BigInt(walk)
    case 'float64':
      return random.chance(0.02) ? random.float64(1) : random.chance(0.5) ? walk / 100 : random.next()
    case 'bool':
      return random.chance(0.5)
    case 'string':
      return random.string()
  }
}

/** Whether two cells are the same sample value; NaN is NaN, and -0 is not 0. */
export function sameCell(a: ModelCell, b: ModelCell): boolean {
  return Object.is(a, b)
}
