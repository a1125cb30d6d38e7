// Labels of many sets as columns, batch by batch, in a worker: what filters and groups of a million sets are made of.
import { FramesError } from '../../errors.js'
import { Filter } from '../../expression/evaluate.js'
import { collectAttributes, type Expression } from '../../expression/tree.js'
import type { ColumnSlice } from '../../frame/column-slice.js'
import type { Kernels } from '../../kernels/kernels.js'
import type { Scratch } from '../../memory/scratch.js'
import { bitmapByteLength } from './series-reader.js'

/** Where the label sets of a table stand; see kernels/labels.ts. */
export interface LabelTable {
  readonly tablePtr: number
  /** Sets from this one on; undefined: from the first one. */
  readonly setStart?: number
  /** Sets up to this one. */
  readonly setCount: number
  /** Asked before each batch: a filter of thousands of names takes long over a million sets. */
  readonly isCancelled: () => boolean
}

/** Sets [first, first + rowCount). A set without a label has no cell in its column. */
export interface LabelBatch {
  readonly first: number
  readonly rowCount: number
  /** In the order of the names that were asked for. */
  readonly columns: readonly ColumnSlice[]
}

const batchSetCountMax = 4096
const batchCellCountMax = 256 * 1024
const batchKeyByteLengthMax = 1024 * 1024

/**
 * Visits the sets of the table; the columns of a batch are gone when `visit` returns, with all that it has allocated.
 * Throws CANCELLED.
 */
export function forEachLabelBatch(
  kernels: Kernels,
  scratch: Scratch,
  { tablePtr, setStart, setCount, isCancelled }: LabelTable,
  names: readonly string[],
  visit: (batch: LabelBatch) => void,
): void {
  const { call, u8 } = kernels
  const start = scratch.mark()
  const encoded = names.map((name) => {
    const bytes = new TextEncoder().encode(name)
    const namePtr = scratch.allocate(bytes.length)
    u8.set(bytes, namePtr)
    return { name, namePtr, byteLength: bytes.length }
  })
  const keyByteLengthOf = (first: number, end: number): number =>
    call.labelTableKeyPtr(tablePtr, end - 1) +
    call.labelTableKeyByteLength(tablePtr, end - 1) -
    call.labelTableKeyPtr(tablePtr, first)
  const countMax = Math.max(1, Math.min(batchSetCountMax, Math.floor(batchCellCountMax / Math.max(1, names.length))))
  const mark = scratch.mark()
  for (let first = setStart ?? 0; first < setCount; ) {
    if (isCancelled()) throw new FramesError('CANCELLED', 'the request was cancelled')
    let rowCount = Math.min(countMax, setCount - first)
    while (rowCount > 1 && keyByteLengthOf(first, first + rowCount) > batchKeyByteLengthMax) rowCount >>>= 1
    const keyByteLength = keyByteLengthOf(first, first + rowCount)
    const columns = encoded.map(({ name, namePtr, byteLength: nameByteLength }): ColumnSlice => {
      const valuesPtr = scratch.allocate(4 * (rowCount + 1))
      const validityPtr = scratch.allocate(bitmapByteLength(rowCount))
      const bytesPtr = scratch.allocate(keyByteLength)
      const byteLength = call.labelColumn(
        tablePtr,
        first,
        rowCount,
        namePtr,
        nameByteLength,
        valuesPtr,
        bytesPtr,
        validityPtr,
      )
      scratch.release(bytesPtr)
      scratch.allocate(byteLength)
      return { name, dtype: 'string', kind: 'slice', rowCount, valuesPtr, validityPtr, bytesPtr, byteLength }
    })
    visit({ first, rowCount, columns })
    scratch.release(mark)
    first += rowCount
  }
  scratch.release(start)
}

/** Names that no set of the table has as a label. */
export function unknownLabels(
  kernels: Kernels,
  scratch: Scratch,
  table: LabelTable,
  names: ReadonlySet<string>,
): Set<string> {
  const unknown = new Set(names)
  forEachLabelBatch(kernels, scratch, table, [...names], ({ rowCount, columns }) => {
    for (const { name, validityPtr } of columns)
      if (kernels.call.countBits(validityPtr, rowCount) > 0) unknown.delete(name)
  })
  return unknown
}

/** Writes the numbers of the sets for which a filter over labels holds; returns how many they are. */
export function matchingSets(
  kernels: Kernels,
  scratch: Scratch,
  table: LabelTable,
  filter: Expression,
  target: Uint32Array,
): number {
  const { call, u32 } = kernels
  const names = new Set<string>()
  collectAttributes(filter, names)
  // Evaluations take memory at the other end, where no column is.
  const back = scratch.back()
  const start = back.mark()
  const program = new Filter(kernels, back, filter)
  const mark = back.mark()
  let count = 0
  forEachLabelBatch(kernels, scratch, table, [...names], ({ first, rowCount, columns }) => {
    const maskPtr = scratch.allocate(bitmapByteLength(rowCount))
    const indexesPtr = scratch.allocate(4 * rowCount)
    const byName = new Map(columns.map((column) => [column.name, [column]]))
    const attribute = (name: string) => byName.get(name) ?? []
    program.evaluate({ rowCount, attribute, placeholder: () => [] }, maskPtr)
    back.release(mark)
    const found = call.bitsToIndexes(maskPtr, rowCount, indexesPtr)
    for (let i = 0; i < found; i++) target[count++] = first + u32[(indexesPtr >> 2) + i]!
  })
  back.release(start)
  return count
}
