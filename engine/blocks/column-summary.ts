// What a page table says about a page, for those who want to skip it.
import type { ColumnSummary } from '../frame/column-summary.js'
import type { Value } from '../frame/dtype.js'
import { type ColumnEntry, pageStatisticsByteLength, type PageTable } from './block.js'
import type { BlockReader } from './reader.js'

/** Reads the column's page table, once a block; the page itself stays untouched. Throws DATA_DAMAGED. */
export function columnSummary(reader: BlockReader, column: ColumnEntry, page: number): ColumnSummary {
  const table = reader.table(column)
  const { dtype } = column
  const presentCount = table.presentCounts[page]!
  const index = table.statisticsIndexes[page]!
  if (index < 0) return { dtype, presentCount, min: null, max: null }
  const at = index * pageStatisticsByteLength
  return { dtype, presentCount, min: statistic(table, dtype, at), max: statistic(table, dtype, at + 8) }
}

function statistic({ statistics }: PageTable, dtype: ColumnEntry['dtype'], at: number): Value | null {
  if (dtype === 'float64') return statistics.getFloat64(at, true)
  if (dtype === 'int64') return statistics.getBigInt64(at, true)
  return dtype === 'time' ? { timeNs: statistics.getBigInt64(at, true) } : null
}
