// What a page table says about a page, for those who want to skip it.
import type { ColumnSummary } from '../frame/column-summary.js'
import type { Value } from '../frame/dtype.js'
import { type ColumnEntry, pageStatisticsWordCount, type PageTable } from './block.js'
import type { BlockReader } from './reader.js'

/** Reads the column's page table, once a block; the page itself stays untouched. Throws DATA_DAMAGED. */
export function columnSummary(reader: BlockReader, column: ColumnEntry, page: number): ColumnSummary {
  const table = reader.table(column)
  const { dtype } = column
  const presentCount = table.presentCounts[page]!
  const index = table.statisticsIndexes[page]!
  if (index < 0) return { dtype, presentCount, min: null, max: null }
  const at = index * pageStatisticsWordCount
  return { dtype, presentCount, min: statistic(table, dtype, at), max: statistic(table, dtype, at + 1) }
}

const word = new BigInt64Array(1)
const wordAsFloat64 = new Float64Array(word.buffer)

function statistic({ statistics }: PageTable, dtype: ColumnEntry['dtype'], at: number): Value | null {
  const value = statistics[at]!
  if (dtype === 'int64') return value
  if (dtype === 'time') return { timeNs: value }
  if (dtype !== 'float64') return null
  word[0] = value
  return wordAsFloat64[0]!
}
