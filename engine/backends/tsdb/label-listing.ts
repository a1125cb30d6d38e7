// Which label sets, labels and values a table has, in a worker: what commands answer with.
import { compileLabelFilter } from '../../expression/evaluate-labels.js'
import type { Expression } from '../../expression/tree.js'
import type { PlainFrame } from '../../frame/plain.js'
import type { Kernels } from '../../kernels/kernels.js'
import { labelsOf } from './select.js'
import type { Signature } from './signature.js'

/**
 * series       a row for each metric of each label set: its name and the values of all labels ('' where it lacks one)
 * labels       a row for each label name: how many values it has, and how many label sets have it
 * labelValues  a row for each value of one label: how many label sets have it
 */
export type Listing =
  | { readonly kind: 'series' }
  | { readonly kind: 'labels' }
  | { readonly kind: 'labelValues'; readonly label: string }

export interface ListingInput {
  readonly listing: Listing
  readonly tablePtr: number
  readonly setCount: number
  readonly signatureOf: (set: number) => Signature
  /** null: all. `_name` is the metric. */
  readonly filter: Expression | null
  /** Rows that are left out at the beginning, and rows at most. */
  readonly offset: number
  readonly limit: number
  readonly isCancelled: () => boolean
}

/** Label sets that are looked at between two tests for cancellation. */
const setsPerTest = 4096

type Series = readonly [metric: string, labels: ReadonlyMap<string, string>]

export function listLabels(kernels: Kernels, input: ListingInput): PlainFrame {
  const { listing } = input
  if (listing.kind === 'series') return listSeries(kernels, input)
  const sets = new Map<string, Map<string, number>>()
  let isNewSet = true
  for (const [, labels] of matching(kernels, input, () => (isNewSet = true))) {
    // A set counts once, however many of its metrics match.
    if (!isNewSet) continue
    isNewSet = false
    for (const [name, value] of labels) {
      if (listing.kind === 'labelValues' && name !== listing.label) continue
      let values = sets.get(name)
      if (values === undefined) sets.set(name, (values = new Map()))
      values.set(value, (values.get(value) ?? 0) + 1)
    }
  }
  const page = <T>(rows: readonly T[]): readonly T[] => rows.slice(input.offset, input.offset + input.limit)
  if (listing.kind === 'labels') {
    const rows = page([...sets].sort(byName))
    return {
      columns: [
        { name: 'label', dtype: 'string', values: rows.map(([name]) => name) },
        { name: 'values', dtype: 'int64', values: rows.map(([, values]) => BigInt(values.size)) },
        { name: 'label_sets', dtype: 'int64', values: rows.map(([, values]) => BigInt(total(values))) },
      ],
    }
  }
  const rows = page([...(sets.get(listing.label) ?? [])].sort(byName))
  return {
    columns: [
      { name: 'value', dtype: 'string', values: rows.map(([value]) => value) },
      { name: 'label_sets', dtype: 'int64', values: rows.map(([, count]) => BigInt(count)) },
    ],
  }
}

function listSeries(kernels: Kernels, input: ListingInput): PlainFrame {
  const rows: Series[] = []
  const names = new Set<string>()
  let row = 0
  for (const series of matching(kernels, input, () => undefined)) {
    if (row++ < input.offset) continue
    if (rows.length === input.limit) break
    rows.push(series)
    for (const name of series[1].keys()) names.add(name)
  }
  return {
    columns: [
      { name: '_name', dtype: 'string', values: rows.map(([metric]) => metric) },
      ...[...names].sort().map((name) => ({
        name,
        dtype: 'string' as const,
        values: rows.map(([, labels]) => labels.get(name) ?? ''),
      })),
    ],
  }
}

/** The series that the filter lets through, set by set in the order in which the sets came. */
function* matching(
  kernels: Kernels,
  { tablePtr, setCount, signatureOf, filter, isCancelled }: ListingInput,
  beginSet: () => void,
): Generator<Series> {
  const matches = filter === null ? null : compileLabelFilter(filter)
  for (let set = 0; set < setCount; set++) {
    if (set % setsPerTest === 0 && isCancelled()) return
    const labels = new Map(labelsOf(kernels, tablePtr, set))
    beginSet()
    for (const metric of [...signatureOf(set).keys()].sort()) {
      const isMatch = matches?.((name) => (name === '_name' ? metric : labels.get(name))) ?? true
      if (isMatch) yield [metric, labels]
    }
  }
}

function byName([a]: readonly [string, unknown], [b]: readonly [string, unknown]): number {
  return a < b ? -1 : 1
}

function total(counts: ReadonlyMap<string, number>): number {
  let sum = 0
  for (const count of counts.values()) sum += count
  return sum
}
