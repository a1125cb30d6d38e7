// Columns over typed arrays that the benches fill themselves: nothing is copied.
import { Column } from '../engine/index.js'

/** A column without missing cells. */
export function wholeColumn(
  name: string,
  dtype: 'int64' | 'time' | 'float64',
  values: BigInt64Array | Float64Array,
): Column {
  const parts = { name, kind: 'slice', length: values.length, validity: null } as const
  if (dtype === 'float64' && values instanceof Float64Array)
    return Column.fromBuffers({ ...parts, buffers: { dtype, values } })
  if (dtype !== 'float64' && values instanceof BigInt64Array)
    return Column.fromBuffers({ ...parts, buffers: { dtype, values } })
  throw new TypeError(`column ${name}: no array for ${dtype}`)
}

/** Keys start to end - 1. */
export function keyColumn(name: string, start: number, end: number): Column {
  return wholeColumn(
    name,
    'int64',
    BigInt64Array.from({ length: end - start }, (_, row) => BigInt(start + row)),
  )
}
