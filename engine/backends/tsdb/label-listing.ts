// Which label sets, labels and values a table has, in a worker: what commands answer with.
import { compileLabelFilter } from '../../expression/evaluate-labels.js'
import { collectAttributes, type Expression } from '../../expression/tree.js'
import { FramesError } from '../../errors.js'
import type { PlainFrame } from '../../frame/plain.js'
import type { Kernels } from '../../kernels/kernels.js'
import type { Scratch } from '../../memory/scratch.js'
import { matchingSets } from './label-batches.js'
import { labelsOf } from './select.js'
import type { Signature } from './signature.js'

/**
 * series       a row for each metric of each label set: its name and the values of all labels (null where it lacks one)
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

/** Label sets that are looked at between two tests for cancellation, and at first by a filter; then ever more. */
const setsPerTest = 4096
const batchSetCountMax = 256 * 1024
/** The kernel that looks for other names compares with each of them. */
const knownNameCountMax = 64
/** Scratch of a job: for filters, and for each label set its number, its value and two to four slots. */
export function listingByteLength(setCount: number): number {
  return 512 * 1024 + 28 * setCount
}

type Series = readonly [metric: string, labels: ReadonlyMap<string, string>]

export function listLabels(kernels: Kernels, scratch: Scratch, input: ListingInput): PlainFrame {
  const { listing, offset, limit } = input
  if (listing.kind === 'series') return listSeries(kernels, scratch, input)
  const setsPtr = scratch.allocate(4 * input.setCount)
  const count = writeSets(kernels, scratch, input, setsPtr)
  const page = <T>(rows: readonly T[]): readonly T[] => rows.slice(offset, offset + limit)
  if (listing.kind === 'labels') {
    const rows = page(namesOf(kernels, scratch, input, setsPtr, count)).map((name) => {
      const { valueCount, setCount } = new LabelValues(kernels, scratch, input, setsPtr, count, name)
      return { name, valueCount, setCount }
    })
    return {
      columns: [
        { name: 'label', dtype: 'string', values: rows.map(({ name }) => name) },
        { name: 'values', dtype: 'int64', values: rows.map(({ valueCount }) => BigInt(valueCount)) },
        { name: 'label_sets', dtype: 'int64', values: rows.map(({ setCount }) => BigInt(setCount)) },
      ],
    }
  }
  const rows = page(new LabelValues(kernels, scratch, input, setsPtr, count, listing.label).all())
  return {
    columns: [
      { name: 'value', dtype: 'string', values: rows.map(([value]) => value) },
      { name: 'label_sets', dtype: 'int64', values: rows.map(([, count]) => BigInt(count)) },
    ],
  }
}

/** Writes the numbers of the sets of which some series matches; returns how many they are. */
function writeSets(kernels: Kernels, scratch: Scratch, input: ListingInput, setsPtr: number): number {
  const { u32 } = kernels
  let count = 0
  let last = -1
  for (const [set] of matching(kernels, scratch, input)) {
    // A set counts once, however many of its metrics match.
    if (set === last) continue
    last = set
    u32[(setsPtr >> 2) + count++] = set
  }
  return count
}

/** The names of the labels of some sets, in their order as text. */
function namesOf(kernels: Kernels, scratch: Scratch, input: ListingInput, setsPtr: number, count: number): string[] {
  const { call, u8, u32 } = kernels
  const { tablePtr, isCancelled } = input
  const names = new Set<string>()
  for (let from = 0; from < count; ) {
    if (isCancelled()) throw new FramesError('CANCELLED', 'the request was cancelled')
    const mark = scratch.mark()
    const texts = [...names].slice(0, knownNameCountMax).map((name) => new TextEncoder().encode(name))
    const offsetsPtr = scratch.allocate(4 * (texts.length + 1))
    const bytesPtr = scratch.allocate(texts.reduce((sum, { length }) => sum + length, 0))
    let end = 0
    texts.forEach((text, i) => {
      u8.set(text, bytesPtr + end)
      u32[(offsetsPtr >> 2) + i] = end
      end += text.length
    })
    u32[(offsetsPtr >> 2) + texts.length] = end
    if (names.size < knownNameCountMax)
      from = call.findOtherLabel(tablePtr, setsPtr, from, count, offsetsPtr, bytesPtr, texts.length)
    scratch.release(mark)
    // Where many names are new, or known, sets are looked at one by one for a while.
    for (let i = 0; i < setsPerTest && from < count; i++, from++) {
      if (i > 0 && names.size < texts.length + i / 2 && names.size < knownNameCountMax) break
      for (const [name] of labelsOf(kernels, tablePtr, u32[(setsPtr >> 2) + from]!)) names.add(name)
    }
  }
  return [...names].sort((a, b) => (a < b ? -1 : 1))
}

/** The values of one label of some sets, counted. */
class LabelValues {
  readonly valueCount: number
  /** How many sets have the label. */
  readonly setCount: number
  readonly #rows: Uint32Array

  constructor(
    readonly kernels: Kernels,
    scratch: Scratch,
    readonly input: ListingInput,
    setsPtr: number,
    count: number,
    readonly name: string,
  ) {
    const { call, u8, u32 } = kernels
    if (input.isCancelled()) throw new FramesError('CANCELLED', 'the request was cancelled')
    const mark = scratch.mark()
    const text = new TextEncoder().encode(name)
    const namePtr = scratch.allocate(text.length)
    u8.set(text, namePtr)
    const slotCount = 2 ** Math.ceil(Math.log2(count + 1 + count / 4))
    const slotsPtr = scratch.allocate(4 * slotCount)
    const targetPtr = scratch.allocate(8 * count)
    const args = [slotsPtr, slotCount, targetPtr] as const
    this.valueCount = call.countLabelValues(input.tablePtr, setsPtr, count, namePtr, text.length, ...args)
    this.#rows = u32.subarray(targetPtr >> 2, (targetPtr >> 2) + 2 * this.valueCount)
    let setCount = 0
    for (let value = 0; value < this.valueCount; value++) setCount += this.#rows[2 * value + 1]!
    this.setCount = setCount
    scratch.release(mark)
  }

  /** Values and how many sets have each, in the order of values as text. At once: the next labels take the memory. */
  all(): (readonly [value: string, setCount: number])[] {
    const rows = Array.from({ length: this.valueCount }, (_, i): [string, number] => {
      const labels = labelsOf(this.kernels, this.input.tablePtr, this.#rows[2 * i]!)
      return [labels.find(([name]) => name === this.name)![1], this.#rows[2 * i + 1]!]
    })
    return rows.sort(([a], [b]) => (a < b ? -1 : 1))
  }
}

function listSeries(kernels: Kernels, scratch: Scratch, input: ListingInput): PlainFrame {
  const rows: Series[] = []
  const names = new Set<string>()
  let row = 0
  let last = -1
  let labels: ReadonlyMap<string, string> = new Map()
  for (const [set, metrics] of matching(kernels, scratch, input)) {
    if (rows.length === input.limit) break
    if (row + metrics.length <= input.offset) {
      row += metrics.length
      continue
    }
    if (set !== last) labels = new Map(labelsOf(kernels, input.tablePtr, set))
    last = set
    for (const metric of [...metrics].sort()) {
      if (row++ < input.offset) continue
      if (rows.length === input.limit) break
      rows.push([metric, labels])
    }
    for (const name of labels.keys()) names.add(name)
  }
  return {
    columns: [
      { name: '_name', dtype: 'string', values: rows.map(([metric]) => metric) },
      ...[...names].sort().map((name) => ({
        name,
        dtype: 'string' as const,
        values: rows.map(([, labels]) => labels.get(name) ?? null),
      })),
    ],
  }
}

/** The sets that the filter lets through with their metrics, set by set in the order in which the sets came. */
function* matching(
  kernels: Kernels,
  scratch: Scratch,
  { tablePtr, setCount, signatureOf, filter, isCancelled }: ListingInput,
): Generator<readonly [set: number, metrics: readonly string[]]> {
  const attributes = new Set<string>()
  if (filter !== null) collectAttributes(filter, attributes)
  const namesMetric = attributes.has('_name')
  const matches = filter !== null && namesMetric ? compileLabelFilter(filter) : null
  const metricsOf = new Map<Signature, readonly string[]>()
  let size = setsPerTest
  for (let first = 0; first < setCount; first += size, size = Math.min(batchSetCountMax, 2 * size)) {
    if (isCancelled()) throw new FramesError('CANCELLED', 'the request was cancelled')
    const end = Math.min(setCount, first + size)
    const mark = scratch.mark()
    const sets = new Uint32Array(filter !== null && !namesMetric ? end - first : 0)
    const table = { tablePtr, setStart: first, setCount: end, isCancelled }
    const count = sets.length === 0 ? end - first : matchingSets(kernels, scratch, table, filter!, sets)
    scratch.release(mark)
    for (let i = 0; i < count; i++) {
      const set = sets.length === 0 ? first + i : sets[i]!
      const signature = signatureOf(set)
      let metrics = metricsOf.get(signature)
      if (metrics === undefined) metricsOf.set(signature, (metrics = [...signature.keys()]))
      if (matches !== null) {
        const labels = new Map(labelsOf(kernels, tablePtr, set))
        metrics = metrics.filter((metric) => matches((name) => (name === '_name' ? metric : labels.get(name))))
      }
      if (metrics.length > 0) yield [set, metrics]
    }
  }
}
