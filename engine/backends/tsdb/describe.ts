// Which columns the frames of a read will have, in a worker, before any of them is made.
import { type ColumnHead, HeadUnion } from '../../frame/column-head.js'
import { shownLabelName } from './label-tail.js'
import { wantedMetrics } from './pools.js'
import type { ScanInput } from './scan-input.js'

export type DescribeInput = Pick<ScanInput, 'plan' | 'setCount' | 'setAt' | 'metricsAt' | 'labelsOf'>

/** The columns of all label sets that are selected, whether or not they have rows in the range. */
export function describeSets({ plan, setCount, setAt, metricsAt, labelsOf }: DescribeInput): ColumnHead[] {
  const union = new HeadUnion()
  union.add([{ name: 'time', role: 'index', dtype: 'time' }])
  for (let index = 0; index < setCount; index++) {
    const { set, signature } = setAt(index)
    const wanted = wantedMetrics(plan, signature, metricsAt(index))
    if (wanted === null) continue
    const columns = wanted.columns.map(({ name, type, metric }): ColumnHead => {
      // A raw column of a metric that this set does not have holds nothing, so it says nothing about the type.
      return { name, role: 'column', dtype: metric < 0 && plan.mode === 'raw' ? 'null' : type }
    })
    // The frame of a group has the labels of the group alone.
    const shown = labelsOf(set).filter(([name]) => plan.groupBy === null || plan.groupBy.includes(name))
    const labels = shown.map(([name]): ColumnHead => {
      return { name: shownLabelName(name), role: plan.multiIndex ? 'index' : 'column', dtype: 'string' }
    })
    union.add([{ name: 'time', role: 'index', dtype: 'time' }, ...columns, ...labels])
  }
  // A metric that nobody has is a float column of missing cells in every frame.
  return union.heads().map((head) => (head.dtype === 'null' ? { ...head, dtype: 'float64' } : head))
}
