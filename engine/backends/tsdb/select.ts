// Which label sets a read wants, in a worker: the filter runs over the table of label sets.
import type { Expression } from '../../expression/tree.js'
import { collectAttributes } from '../../expression/tree.js'
import { compileLabelFilter } from '../../expression/evaluate-labels.js'
import type { Kernels } from '../../kernels/kernels.js'
import type { Scratch } from '../../memory/scratch.js'
import { FramesError, shortened } from '../../errors.js'
import { formatLabelKey, type Label, parseLabelKey } from './labels.js'
import { splitCondition } from './row-filter.js'
import type { Signature } from './signature.js'

/** Sets in the order of their label text; with groups, group by group, in the order of the groups' label text. */
export interface Selection {
  readonly sets: Uint32Array<ArrayBuffer>
  /** Group i is sets[starts[i]] to before sets[starts[i + 1]]; null: there are no groups. */
  readonly groupStarts: Uint32Array<ArrayBuffer> | null
  /** What is still to be tested for each row, because it names metrics; null: nothing. */
  readonly rowCondition: Expression | null
  /** Where the filter names metrics: for each set the metrics that it lets through, as an index into `metricLists`. */
  readonly metricListOf: Uint32Array<ArrayBuffer> | null
  readonly metricLists: readonly (readonly string[])[]
}

export interface SelectInput {
  readonly tablePtr: number
  readonly setCount: number
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
  const lists = new Map<string, number>()
  const metricLists: string[][] = []
  const listOfSet = new Map<number, number>()
  let usesMetric = false
  let count = 0
  if (filter === null) {
    for (let set = 0; set < setCount; set++) target[count++] = set
  } else {
    const names = new Set<string>()
    collectAttributes(filter, names)
    usesMetric = names.delete('_name')
    /** Names that no set has had as a label so far. */
    const unseen = names
    const matches = compileLabelFilter(filter)
    for (let set = 0; set < setCount; set++) {
      const found = new Map(labelsOf(kernels, tablePtr, set))
      for (const name of unseen) if (found.has(name)) unseen.delete(name)
      if (!usesMetric) {
        if (matches((name) => found.get(name))) target[count++] = set
        continue
      }
      const passed: string[] = []
      for (const metric of signatureOf(set).keys())
        if (matches((name) => (name === '_name' ? metric : found.get(name)))) passed.push(metric)
      if (passed.length === 0) continue
      const key = passed.join('\n')
      let list = lists.get(key)
      if (list === undefined) {
        list = metricLists.push(passed) - 1
        lists.set(key, list)
      }
      listOfSet.set(set, list)
      target[count++] = set
    }
    if (input.filtersRows && unseen.size > 0) {
      const signatures = new Set<Signature>()
      for (let set = 0; set < setCount; set++) signatures.add(signatureOf(set))
      const metrics = [...unseen].filter((name) => [...signatures].some((signature) => signature.has(name)))
      if (metrics.length > 0) {
        const { labels, rows } = splitCondition(filter, new Set(metrics))
        return { ...selectSets(kernels, scratch, { ...input, filter: labels, filtersRows: false }), rowCondition: rows }
      }
    }
  }
  const sortPtr = scratch.allocate(call.sortLabelSetsScratchByteLength(count))
  call.sortLabelSets(tablePtr, targetPtr, count, sortPtr)
  let sets = Uint32Array.from(target.subarray(0, count))
  let groupStarts: Uint32Array<ArrayBuffer> | null = null
  const { groupBy, metrics } = input
  if (groupBy !== null) {
    const has = (set: number): boolean => {
      const passed = usesMetric ? new Set(metricLists[listOfSet.get(set)!]) : signatureOf(set)
      return metrics === null ? passed.size > 0 : metrics.some((metric) => passed.has(metric))
    }
    ;({ sets, groupStarts } = groupSets(sets.filter(has), groupBy, (set) => labelsOf(kernels, tablePtr, set)))
  }
  return {
    sets,
    groupStarts,
    rowCondition: null,
    metricListOf: usesMetric ? sets.map((set) => listOfSet.get(set)!) : null,
    metricLists,
  }
}

/**
 * Puts the sets of each group beside each other; within a group they keep their order. `time` is no label but the bucket,
 * which every row is grouped by anyway: `GROUP BY time` pools all sets. (Where sets have a label of that name, it is meant.)
 */
function groupSets(
  sets: Uint32Array<ArrayBuffer>,
  names: readonly string[],
  labelsAt: (set: number) => readonly Label[],
): { sets: Uint32Array<ArrayBuffer>; groupStarts: Uint32Array<ArrayBuffer> } {
  const isOfTime = (set: number) => labelsAt(set).some(([name]) => name === 'time')
  const groupBy = names.includes('time') && !sets.some(isOfTime) ? names.filter((name) => name !== 'time') : names
  if (groupBy.length === 0)
    return { sets, groupStarts: Uint32Array.of(...(sets.length === 0 ? [0] : [0, sets.length])) }
  const groups = new Map<string, number[]>()
  for (const set of sets) {
    const labels = labelsAt(set).filter(([name, value]) => value !== '' && groupBy.includes(name))
    if (labels.length < groupBy.length) {
      const missing = groupBy.find((name) => !labels.some(([found]) => found === name))!
      throw new FramesError('INVALID_ARGUMENT', `no label named ${shortened(missing)} found to group by`)
    }
    // As text of one character a byte, keys have the order of their bytes.
    const key = Buffer.from(formatLabelKey(labels)).toString('latin1')
    const group = groups.get(key)
    if (group === undefined) groups.set(key, [set])
    else group.push(set)
  }
  const sorted = [...groups].sort(([a], [b]) => (a < b ? -1 : 1))
  const groupStarts = new Uint32Array(sorted.length + 1)
  sorted.forEach(([, members], i) => {
    groupStarts[i + 1] = groupStarts[i]! + members.length
  })
  return { sets: Uint32Array.from(sorted.flatMap(([, members]) => members)), groupStarts }
}

export function labelsOf(kernels: Kernels, tablePtr: number, set: number): [name: string, value: string][] {
  const keyPtr = kernels.call.labelTableKeyPtr(tablePtr, set)
  const byteLength = kernels.call.labelTableKeyByteLength(tablePtr, set)
  return parseLabelKey(kernels.u8.subarray(keyPtr, keyPtr + byteLength))
}
