// Which label sets a read wants, in a worker: the filter runs over the table of label sets.
import type { Expression } from '../../expression/tree.js'
import { collectAttributes } from '../../expression/tree.js'
import { compileLabelFilter, type LabelFilter } from '../../expression/evaluate-labels.js'
import type { Kernels } from '../../kernels/kernels.js'
import type { Scratch } from '../../memory/scratch.js'
import { FramesError, shortened } from '../../errors.js'
import { groupRows } from './grouping.js'
import { forEachLabelBatch, type LabelTable, matchingSets, unknownLabels } from './label-batches.js'
import { parseLabelKey } from './labels.js'
import { joined, splitCondition } from './row-filter.js'
import type { Signature } from './signature.js'

/** Sets in the order of their label text; with groups, group by group, in the order of the groups' label text. */
export interface Selection {
  readonly sets: Uint32Array<ArrayBuffer>
  /** Group i is sets[starts[i]] to before sets[starts[i + 1]]; null: there are no groups. */
  readonly groupStarts: Uint32Array<ArrayBuffer> | null
  /** What is still to be tested for each row, because it names metrics; null: nothing. */
  readonly rowCondition: Expression | null
  /** The labels that it names, too. */
  readonly rowLabels: readonly string[]
  /** Where the filter names metrics: for each set the metrics that it lets through, as an index into `metricLists`. */
  readonly metricListOf: Uint32Array<ArrayBuffer> | null
  readonly metricLists: readonly (readonly string[])[]
}

export interface SelectInput extends LabelTable {
  readonly signatureOf: (set: number) => Signature
  /** null: all sets. */
  readonly filter: Expression | null
  /** Labels that make groups; null: no groups. */
  readonly groupBy: readonly string[] | null
  /** Whether a name that is a metric, and no label of any set, stands for the values of rows; else it is missing. */
  readonly filtersRows: boolean
  /** With groups: sets that have none of these are left out; null: whatever they have. */
  readonly metrics: readonly string[] | null
}

/** Sets that were never written to (signature 0) are left out by the scan. Throws INVALID_ARGUMENT. */
export function selectSets(kernels: Kernels, scratch: Scratch, input: SelectInput): Selection {
  const { call, u32 } = kernels
  const { tablePtr, setCount, signatureOf, filter } = input
  const targetPtr = scratch.allocate(4 * Math.max(1, setCount))
  const target = u32.subarray(targetPtr >> 2, (targetPtr >> 2) + setCount)
  const names = new Set<string>()
  if (filter !== null) collectAttributes(filter, names)
  const usesMetric = names.delete('_name')
  if (filter !== null && input.filtersRows) {
    const unknown = unknownLabels(kernels, scratch, input, names)
    const metrics = unknown.size === 0 ? unknown : metricsAmong(unknown, input)
    if (metrics.size > 0) {
      const { labels, rows } = splitCondition(filter, metrics)
      const ofRows = new Set<string>()
      collectAttributes(rows, ofRows)
      return {
        ...selectSets(kernels, scratch, { ...input, filter: labels, filtersRows: false }),
        rowCondition: rows,
        rowLabels: [...ofRows].filter((name) => !metrics.has(name)),
      }
    }
  }
  const parts = filter?.kind === 'and' ? filter.operands : filter === null ? [] : [filter]
  const ofLabels = joined(parts.filter((part) => !namesMetric(part)))
  const ofMetrics = joined(parts.filter(namesMetric))
  let count = 0
  if (ofLabels !== null) count = matchingSets(kernels, scratch, input, ofLabels, target)
  else for (let set = 0; set < setCount; set++) target[count++] = set
  const passed = ofMetrics === null ? null : new PassedMetrics(kernels, tablePtr, ofMetrics, signatureOf)
  if (passed !== null) count = passed.narrow(target, count, input.isCancelled)
  const sortPtr = scratch.allocate(call.sortLabelSetsScratchByteLength(count))
  call.sortLabelSets(tablePtr, targetPtr, count, sortPtr)
  let sets = Uint32Array.from(target.subarray(0, count))
  let groupStarts: Uint32Array<ArrayBuffer> | null = null
  const { groupBy, metrics } = input
  if (groupBy !== null) {
    const has = (set: number): boolean => {
      const own = passed === null ? signatureOf(set) : passed.of(set)
      return metrics === null ? own.size > 0 : metrics.some((metric) => own.has(metric))
    }
    ;({ sets, groupStarts } = groupSets(kernels, scratch, input, sets.filter(has), groupBy))
  }
  return {
    sets,
    groupStarts,
    rowCondition: null,
    rowLabels: [],
    metricListOf: usesMetric && passed !== null ? sets.map((set) => passed.listOf(set)) : null,
    metricLists: passed === null ? [] : passed.lists,
  }
}

function namesMetric(part: Expression): boolean {
  const names = new Set<string>()
  collectAttributes(part, names)
  return names.has('_name')
}

/** Those of the names that are metrics of some set. */
function metricsAmong(names: ReadonlySet<string>, { setCount, signatureOf }: SelectInput): Set<string> {
  const signatures = new Set<Signature>()
  for (let set = 0; set < setCount; set++) signatures.add(signatureOf(set))
  return new Set([...names].filter((name) => [...signatures].some((signature) => signature.has(name))))
}

/** Sets that are looked at one by one between two tests for cancellation. */
const setsPerTest = 4096

/** Which metrics of each set a condition lets through that names the metric. */
class PassedMetrics {
  /** Each list of metrics once. */
  readonly lists: string[][] = []
  readonly #sets: Set<string>[] = []
  readonly #numbers = new Map<string, number>()
  readonly #listOfSet = new Map<number, number>()
  /** What is known of a signature where the condition names no label; -1: none passes. */
  readonly #listOfSignature = new Map<Signature, number>()
  readonly #matches: LabelFilter
  readonly #namesLabels: boolean

  constructor(
    readonly kernels: Kernels,
    readonly tablePtr: number,
    condition: Expression,
    readonly signatureOf: (set: number) => Signature,
  ) {
    this.#matches = compileLabelFilter(condition)
    const names = new Set<string>()
    collectAttributes(condition, names)
    this.#namesLabels = names.size > 1
  }

  /** Keeps the first `count` sets of which some metric passes; returns how many they are. */
  narrow(sets: Uint32Array, count: number, isCancelled: () => boolean): number {
    let kept = 0
    for (let i = 0; i < count; i++) {
      if (i % setsPerTest === 0 && isCancelled()) throw new FramesError('CANCELLED', 'the request was cancelled')
      const set = sets[i]!
      const list = this.#find(set)
      if (list < 0) continue
      this.#listOfSet.set(set, list)
      sets[kept++] = set
    }
    return kept
  }

  listOf(set: number): number {
    return this.#listOfSet.get(set)!
  }

  of(set: number): ReadonlySet<string> {
    return this.#sets[this.listOf(set)]!
  }

  #find(set: number): number {
    const signature = this.signatureOf(set)
    const known = this.#namesLabels ? undefined : this.#listOfSignature.get(signature)
    if (known !== undefined) return known
    const labels = this.#namesLabels ? new Map(labelsOf(this.kernels, this.tablePtr, set)) : null
    const passed: string[] = []
    for (const metric of signature.keys())
      if (this.#matches((name) => (name === '_name' ? metric : labels?.get(name)))) passed.push(metric)
    const list = passed.length === 0 ? -1 : this.#numberOf(passed)
    if (!this.#namesLabels) this.#listOfSignature.set(signature, list)
    return list
  }

  #numberOf(passed: string[]): number {
    const key = passed.join('\n')
    let list = this.#numbers.get(key)
    if (list === undefined) {
      list = this.lists.push(passed) - 1
      this.#sets.push(new Set(passed))
      this.#numbers.set(key, list)
    }
    return list
  }
}

/**
 * Puts the sets of each group beside each other; within a group they keep their order. `time` is no label but the bucket,
 * which every row is grouped by anyway: `GROUP BY time` pools all sets. (Where sets have a label of that name, it is meant.)
 */
function groupSets(
  kernels: Kernels,
  scratch: Scratch,
  table: LabelTable,
  sets: Uint32Array<ArrayBuffer>,
  names: readonly string[],
): { sets: Uint32Array<ArrayBuffer>; groupStarts: Uint32Array<ArrayBuffer> } {
  const isWanted = new Uint8Array(table.setCount)
  for (const set of sets) isWanted[set] = 1
  const groupBy =
    names.includes('time') && !isLabelOf(kernels, scratch, table, isWanted, 'time')
      ? names.filter((name) => name !== 'time')
      : names
  if (groupBy.length === 0)
    return { sets, groupStarts: Uint32Array.of(...(sets.length === 0 ? [0] : [0, sets.length])) }
  const { u8, u32 } = kernels
  const groupOf = new Uint32Array(table.setCount)
  const numbers = new Map<string, number>()
  forEachLabelBatch(kernels, scratch, table, groupBy, ({ first, rowCount, columns }) => {
    const rows: number[] = []
    for (let row = 0; row < rowCount; row++) if (isWanted[first + row] === 1) rows.push(row)
    if (rows.length === 0) return
    for (const { name, valuesPtr } of columns)
      for (const row of rows)
        if (u32[(valuesPtr >> 2) + row] === u32[(valuesPtr >> 2) + row + 1])
          throw new FramesError('INVALID_ARGUMENT', `no label named ${shortened(name)} found to group by`)
    const labels = columns.map((column) => ({ name: column.name, column: { ...column, validityPtr: 0 } }))
    const { groupCount, codesPtr, keyOffsetsPtr, keyBytesPtr } = groupRows(kernels, scratch, labels, rowCount)
    const numberOf = (code: number): number => {
      const start = keyBytesPtr + u32[(keyOffsetsPtr >> 2) + code]!
      const end = keyBytesPtr + u32[(keyOffsetsPtr >> 2) + code + 1]!
      // As text of one character a byte, keys have the order of their bytes.
      const key = Buffer.from(u8.slice(start, end)).toString('latin1')
      let number = numbers.get(key)
      if (number === undefined) numbers.set(key, (number = numbers.size))
      return number
    }
    const known = new Int32Array(groupCount).fill(-1)
    for (const row of rows) {
      const code = codesPtr === 0 ? 0 : u32[(codesPtr >> 2) + row]!
      if (known[code]! < 0) known[code] = numberOf(code)
      groupOf[first + row] = known[code]!
    }
  })
  const sorted = [...numbers].sort(([a], [b]) => (a < b ? -1 : 1))
  const places = new Uint32Array(numbers.size)
  sorted.forEach(([, number], place) => {
    places[number] = place
  })
  const groupStarts = new Uint32Array(numbers.size + 1)
  for (const set of sets) groupStarts[places[groupOf[set]!]! + 1]!++
  for (let place = 0; place < numbers.size; place++) groupStarts[place + 1]! += groupStarts[place]!
  const next = groupStarts.slice()
  const grouped = new Uint32Array(sets.length)
  for (const set of sets) grouped[next[places[groupOf[set]!]!]!++] = set
  return { sets: grouped, groupStarts }
}

function isLabelOf(kernels: Kernels, scratch: Scratch, table: LabelTable, isWanted: Uint8Array, name: string): boolean {
  let isFound = false
  forEachLabelBatch(kernels, scratch, table, [name], ({ first, rowCount, columns }) => {
    const { validityPtr } = columns[0]!
    for (let row = 0; row < rowCount && !isFound; row++)
      isFound = isWanted[first + row] === 1 && ((kernels.u8[validityPtr + (row >> 3)]! >> (row & 7)) & 1) === 1
  })
  return isFound
}

export function labelsOf(kernels: Kernels, tablePtr: number, set: number): [name: string, value: string][] {
  const keyPtr = kernels.call.labelTableKeyPtr(tablePtr, set)
  const byteLength = kernels.call.labelTableKeyByteLength(tablePtr, set)
  return parseLabelKey(kernels.u8.subarray(keyPtr, keyPtr + byteLength))
}
