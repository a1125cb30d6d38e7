// Row access: a frame's rows as objects, and the names that unnamed columns have there.
import { FramesError } from '../errors.js'
import type { Column } from './column.js'
import type { Frame, Row } from './frame.js'

/**
 * includeIndex  the index columns too, before the data columns
 * nulls         what stands for a missing cell: null, or the filler below it (0, NaN, '', false)
 */
export interface RowOptions {
  readonly includeIndex?: boolean
  readonly nulls?: 'null' | 'filler'
}

/** The columns of a frame's rows with the names they have there, all different. */
export interface NamedColumn {
  readonly name: string
  readonly column: Column
}

/**
 * Names the columns of rows: an unnamed data column at position i is `col-<i>`, the first index `idx`, another `idx-<i>`.
 * Throws FRAME_SHAPE when two would have one name.
 */
export function namedColumns(frame: Frame, includeIndex: boolean): NamedColumn[] {
  const columns = frame.columns.map((column, i) => ({ name: column.name || `col-${i}`, column }))
  const names = new Set<string>()
  for (const { name } of columns) {
    if (names.has(name)) throw new FramesError('FRAME_SHAPE', `duplicate column name - "${name}"`)
    names.add(name)
  }
  if (!includeIndex) return columns
  const indices = frame.indices.map((column, i) => ({ name: column.name || (i === 0 ? 'idx' : `idx-${i}`), column }))
  for (const { name } of indices) {
    if (names.has(name)) throw new FramesError('FRAME_SHAPE', `duplicate name in columns and indices - "${name}"`)
    names.add(name)
  }
  return [...indices, ...columns]
}

export function* rowsOf(frame: Frame, { includeIndex = false, nulls = 'null' }: RowOptions): Generator<Row> {
  const columns = namedColumns(frame, includeIndex)
  for (let row = 0; row < frame.length; row++) {
    // fromEntries, not assignment: a column may be called __proto__.
    yield Object.fromEntries(
      columns.map(({ name, column }) => [name, nulls === 'null' ? column.at(row) : column.fillerAt(row)]),
    )
  }
}
