// How the members of records are named in blocks. A stored name that begins with exactly one '#' is ours and hidden;
// members whose names begin with '#' get one more.
import type { DType } from '../../frame/dtype.js'

/** The text of a record that was put as a JSON object, byte for byte: its members stand in columns of their own. */
export const dataColumn = '#data'
export const clientInfoColumn = '#client_info'
export const partitionKeyColumn = '#partition_key'

/** Data that is no JSON object. */
export const rawDataName = 'raw_data'

/** Types that cells of records have. */
export type CellType = Exclude<DType, 'null'>

/** A column of stored cells; a member with cells of several types has several. */
export interface StoredColumn {
  readonly name: string
  readonly dtype: CellType
}

export function storedName(member: string): string {
  return member.startsWith('#') ? `#${member}` : member
}

/** The member that a stored column holds, or null for a hidden one. */
export function memberName(stored: string): string | null {
  if (!stored.startsWith('#')) return stored
  return stored.startsWith('##') ? stored.slice(1) : null
}

export function columnKey({ name, dtype }: StoredColumn): string {
  return `${dtype} ${name}`
}
