// Which label sets a read wants, in a worker: the filter runs over the table of label sets.
import type { Expression } from '../../expression/tree.js'
import { collectAttributes } from '../../expression/tree.js'
import { compileLabelFilter } from '../../expression/evaluate-labels.js'
import type { Kernels } from '../../kernels/kernels.js'
import type { Scratch } from '../../memory/scratch.js'
import { parseLabelKey } from './labels.js'
import type { Signature } from './signature.js'

/** Sets in the order of their label text. */
export interface Selection {
  readonly sets: Uint32Array<ArrayBuffer>
  /** Where the filter names metrics: for each set the metrics that it lets through, as an index into `metricLists`. */
  readonly metricListOf: Uint32Array<ArrayBuffer> | null
  readonly metricLists: readonly (readonly string[])[]
}

/** filter null: all sets. Sets that were never written to (signature 0) are left out. */
export function selectSets(
  kernels: Kernels,
  scratch: Scratch,
  labels: { readonly tablePtr: number; readonly setCount: number },
  signatureOf: (set: number) => Signature,
  filter: Expression | null,
): Selection {
  const { call, u32 } = kernels
  const { tablePtr, setCount } = labels
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
    usesMetric = names.has('_name')
    const matches = compileLabelFilter(filter)
    for (let set = 0; set < setCount; set++) {
      const found = new Map(labelsOf(kernels, tablePtr, set))
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
  }
  const sortPtr = scratch.allocate(call.sortLabelSetsScratchByteLength(count))
  call.sortLabelSets(tablePtr, targetPtr, count, sortPtr)
  const sets = Uint32Array.from(target.subarray(0, count))
  return { sets, metricListOf: usesMetric ? sets.map((set) => listOfSet.get(set)!) : null, metricLists }
}

export function labelsOf(kernels: Kernels, tablePtr: number, set: number): [name: string, value: string][] {
  const keyPtr = kernels.call.labelTableKeyPtr(tablePtr, set)
  const byteLength = kernels.call.labelTableKeyByteLength(tablePtr, set)
  return parseLabelKey(kernels.u8.subarray(keyPtr, keyPtr + byteLength))
}
