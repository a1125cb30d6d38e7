// The attributes that every item has by itself: times from the hidden columns, the rest constants.
import type { ColumnSlice } from '../../frame/column-slice.js'
import type { Kernels } from '../../kernels/kernels.js'
import type { Scratch } from '../../memory/scratch.js'

/** In the order in which a frame has them. */
export const systemAttributes = [
  '__gid',
  '__mode',
  '__mtime_nsecs',
  '__mtime_secs',
  '__size',
  '__uid',
  '__ctime_nsecs',
  '__ctime_secs',
  '__atime_secs',
  '__atime_nsecs',
  '__obj_type',
  '__collection_id',
] as const

export type SystemAttribute = (typeof systemAttributes)[number]

/** What a filter and `columns` call the name of an item. */
export const nameAttribute = '__name'

/** rw-r--r--: there are no owners here, so all items have the same. */
const mode = 0o644n

/** Which hidden time an attribute is a part of. Nobody keeps times of access: they are those of the last write. */
const timeParts: Readonly<Partial<Record<SystemAttribute, { of: 'mtime' | 'ctime'; part: 'seconds' | 'rest' }>>> = {
  __mtime_secs: { of: 'mtime', part: 'seconds' },
  __mtime_nsecs: { of: 'mtime', part: 'rest' },
  __ctime_secs: { of: 'ctime', part: 'seconds' },
  __ctime_nsecs: { of: 'ctime', part: 'rest' },
  __atime_secs: { of: 'mtime', part: 'seconds' },
  __atime_nsecs: { of: 'mtime', part: 'rest' },
}

export function isSystemAttribute(name: string): name is SystemAttribute {
  return (systemAttributes as readonly string[]).includes(name)
}

/** Which hidden column a system attribute is made of, or null when it is a constant. */
export function timeOf(name: SystemAttribute): 'mtime' | 'ctime' | null {
  return timeParts[name]?.of ?? null
}

/**
 * A system attribute of rowCount items as an int64 column in scratch.
 *
 * times  rowCount × i64, nanoseconds since 1970: the hidden column that timeOf names; not read for a constant
 */
export function systemColumn(
  kernels: Kernels,
  scratch: Scratch,
  name: SystemAttribute,
  timesPtr: number,
  rowCount: number,
): ColumnSlice {
  const valuesPtr = scratch.allocate(8 * rowCount)
  const part = timeParts[name]
  if (part === undefined) kernels.call.fillInt64(valuesPtr, rowCount, name === '__mode' ? mode : 0n)
  else kernels.call.splitTimes(timesPtr, rowCount, part.part === 'seconds' ? 1 : 0, valuesPtr)
  return { name, dtype: 'int64', kind: 'slice', rowCount, valuesPtr, validityPtr: 0, bytesPtr: 0, byteLength: 0 }
}

/**
 * The attribute `name` of items with these times, or null when it is no system attribute.
 *
 * mtimes, ctimes  columns of dtype time, no cell missing
 */
export function systemAttribute(
  kernels: Kernels,
  scratch: Scratch,
  name: string,
  mtimes: ColumnSlice,
  ctimes: ColumnSlice,
): ColumnSlice | null {
  if (!isSystemAttribute(name)) return null
  const times = timeOf(name) === 'ctime' ? ctimes : mtimes
  return systemColumn(kernels, scratch, name, times.valuesPtr, mtimes.rowCount)
}
