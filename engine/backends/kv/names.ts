// Names: which attributes may be called what, and how key cells become the names of items and partition folders.
import { FramesError } from '../../errors.js'
import type { ColumnSlice } from '../../frame/column-slice.js'
import type { Value } from '../../frame/dtype.js'
import { floatText, plainFloatText } from '../../frame/value-text.js'
import type { Kernels } from '../../kernels/kernels.js'
import { nameByteLengthMax } from '../../limits.js'
import type { Scratch } from '../../memory/scratch.js'
import { formatTimeNs } from '../../time.js'

/** The platform's limit, in bytes; names that pass the pattern have one byte a character. */
const attributeNameByteLengthMax = 256

/** What every item has; readable in filters and conditions, never written. */
export const systemAttributeNames: ReadonlySet<string> = new Set([
  ...['__name', '__gid', '__mode', '__mtime_nsecs', '__mtime_secs', '__size', '__uid', '__ctime_nsecs', '__ctime_secs'],
  ...['__atime_secs', '__atime_nsecs', '__obj_type', '__collection_id'],
])

/** What is wrong with an attribute's name, as the end of a sentence that begins with it; null when nothing is. */
export function attributeNameProblem(name: string): string | null {
  if (!/^[a-zA-Z_][a-zA-Z0-9_]*$/.test(name))
    return 'has an invalid name: letters, digits and _ make one, and no digit begins it'
  if (name.length > attributeNameByteLengthMax)
    return `exceeding maximum allowed attribute name of ${attributeNameByteLengthMax}`
  return systemAttributeNames.has(name) ? 'has an invalid name: every item has a system attribute of this name' : null
}

// ---- item names -----------------------------------------------------------------------------------------------------

/** The name of an item with this key: `True`, `1.0`, RFC 3339; integers and strings as they are. */
function itemNameText(value: Value): string {
  switch (typeof value) {
    case 'string':
      return value
    case 'boolean':
      return value ? 'True' : 'False'
    case 'bigint':
      return String(value)
    case 'number': {
      const text = plainFloatText(value)
      return Number.isFinite(value) && !text.includes('.') ? `${text}.0` : text
    }
    default:
      return formatTimeNs(value.timeNs)
  }
}

/**
 * Key cells as names: a string column in scratch. column: a slice without missing cells; a string column is its own
 * answer.
 */
export function nameColumn(kernels: Kernels, scratch: Scratch, column: ColumnSlice): ColumnSlice {
  const { call } = kernels
  const { rowCount, valuesPtr, dtype } = column
  if (dtype === 'string') return column
  const offsetsPtr = scratch.allocate(4 * (rowCount + 1))
  if (dtype === 'int64') {
    const byteLength = call.integerTextsByteLength(valuesPtr, rowCount)
    const bytesPtr = scratch.allocate(byteLength)
    call.integerTexts(valuesPtr, rowCount, offsetsPtr, bytesPtr)
    return { ...column, dtype: 'string', valuesPtr: offsetsPtr, bytesPtr, byteLength }
  }
  // Twice, because the texts of all rows together must not stand in this thread's heap.
  const { u8, u32 } = kernels
  let byteLength = 0
  for (let row = 0; row < rowCount; row++) byteLength += itemNameText(cellOf(kernels, column, row)).length
  const bytesPtr = scratch.allocate(byteLength)
  let end = 0
  u32[offsetsPtr >> 2] = 0
  for (let row = 0; row < rowCount; row++) {
    const text = itemNameText(cellOf(kernels, column, row))
    for (let i = 0; i < text.length; i++) u8[bytesPtr + end + i] = text.charCodeAt(i)
    end += text.length
    u32[(offsetsPtr >> 2) + row + 1] = end
  }
  return { ...column, dtype: 'string', valuesPtr: offsetsPtr, bytesPtr, byteLength }
}

/** `key.sorting`, row by row. */
export function joinedNames(kernels: Kernels, scratch: Scratch, key: ColumnSlice, sorting: ColumnSlice): ColumnSlice {
  const { rowCount } = key
  const byteLength = key.byteLength + sorting.byteLength + rowCount
  const valuesPtr = scratch.allocate(4 * (rowCount + 1))
  const bytesPtr = scratch.allocate(byteLength)
  const dot = 0x2e
  const { call } = kernels
  call.joinKeyTexts(
    key.valuesPtr,
    key.bytesPtr,
    sorting.valuesPtr,
    sorting.bytesPtr,
    rowCount,
    dot,
    valuesPtr,
    bytesPtr,
  )
  return { ...key, valuesPtr, bytesPtr, byteLength }
}

/** Refuses names that are empty or too long; `what` is 'key' or 'sorting key'. */
export function checkNames(kernels: Kernels, names: ColumnSlice, what: string, attribute: string): void {
  const row = kernels.call.rowOfBadLength(names.valuesPtr, names.rowCount, 1, nameByteLengthMax)
  if (row < 0) return
  const place = (names.valuesPtr >> 2) + row
  const byteLength = kernels.u32[place + 1]! - kernels.u32[place]!
  if (byteLength === 0)
    throw new FramesError('INVALID_ARGUMENT', `invalid input. ${what} "${attribute}" should not be empty (row ${row})`)
  throw new FramesError(
    'VALUE_TOO_LARGE',
    `${what} "${attribute}" of row ${row} has ${byteLength} bytes, at most ${nameByteLengthMax} are allowed`,
  )
}

/** One cell as a plain value; it must be present. */
export function cellOf(kernels: Kernels, column: ColumnSlice, row: number): Value {
  const { u8, u32, i64, f64 } = kernels
  const { valuesPtr, bytesPtr } = column
  switch (column.dtype) {
    case 'int64':
      return i64[(valuesPtr >> 3) + row]!
    case 'time':
      return { timeNs: i64[(valuesPtr >> 3) + row]! }
    case 'float64':
      return f64[(valuesPtr >> 3) + row]!
    case 'bool':
      return ((u8[valuesPtr + (row >> 3)]! >> (row & 7)) & 1) === 1
    case 'string': {
      const place = (valuesPtr >> 2) + row
      // A copy: TextDecoder does not take shared memory.
      return decoder.decode(u8.slice(bytesPtr + u32[place]!, bytesPtr + u32[place + 1]!))
    }
    case 'null':
      throw new TypeError('a column of nulls has no cells')
  }
}

// Keeps a byte order mark: names read back as they were written.
const decoder = new TextDecoder('utf-8', { ignoreBOM: true })

// ---- partition folders ----------------------------------------------------------------------------------------------

/**
 * A cell in the name of a partition folder, null for a missing one. A slash inside a value would begin another folder, so
 * it is written as `%2F`, and `%` as `%25`.
 */
export function partitionText(value: Value | null): string {
  if (value === null) return 'null'
  if (typeof value === 'string') return value.replaceAll('%', '%25').replaceAll('/', '%2F')
  if (typeof value === 'number') return floatText(value)
  if (typeof value === 'object') return formatTimeNs(value.timeNs)
  return String(value)
}
