// What is known of a run of cells without reading them.
import type { DType, Value } from './dtype.js'

/**
 * min, max  no cell is below or above: the extremes themselves, or anything beyond them. Null: not known. NaN: some cell
 *           is NaN, and then nothing is known of the others
 */
export interface ColumnSummary {
  readonly dtype: DType | 'blob'
  /** Cells that are not missing. */
  readonly presentCount: number
  readonly min: Value | null
  readonly max: Value | null
}

/** The columns of one attribute in one page or block. Without columns it is missing in all rows. */
export interface PageSummary {
  readonly rowCount: number
  readonly columns: readonly ColumnSummary[]
}
