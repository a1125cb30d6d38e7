// The wanted rows of an attribute in the one type in which a read shows it: as they are, as floats, or as text.
import { assert } from '../../assert.js'
import type { ColumnSlice } from '../../frame/column-slice.js'
import { valueText } from '../../frame/value-text.js'
import type { Kernels } from '../../kernels/kernels.js'
import type { Scratch } from '../../memory/scratch.js'
import { blobColumn, nameColumn } from './item-columns.js'
import type { Match } from './match.js'
import { namePart, valueOfNameText } from './name-values.js'
import type { ShapeColumn } from './read-shape.js'

const encoder = new TextEncoder()
const decoder = new TextDecoder()

function bitmapByteLength(rowCount: number): number {
  return 8 * Math.ceil(rowCount / 64) + 16
}

/**
 * The column of the matched rows, one behind the other, in scratch; null when all of them lack it. Values of other types
 * than the shown one, and texts of names, are made one by one: that is for what rarely happens.
 */
export function showColumn(kernels: Kernels, scratch: Scratch, column: ShapeColumn, match: Match): ColumnSlice | null {
  const { batch } = match
  if (column.from === 'name') return compact(kernels, scratch, batch.hidden(nameColumn), match)
  const parts: ColumnSlice[] = []
  for (const slice of batch.attribute(column.name)) {
    const part = compact(kernels, scratch, slice, match)
    if (hasValue(kernels, part)) parts.push(part)
  }
  const names = (): ColumnSlice => compact(kernels, scratch, batch.hidden(nameColumn), match)
  return showParts(kernels, scratch, column, parts, match.count, names)
}

/**
 * The same of columns that hold the wanted rows only: `parts` are those of the attribute, one a type, no row with a value
 * in two of them; `names` gives the items' names. Null when there is no value.
 */
export function showParts(
  kernels: Kernels,
  scratch: Scratch,
  column: ShapeColumn,
  parts: readonly ColumnSlice[],
  rowCount: number,
  names: () => ColumnSlice,
): ColumnSlice | null {
  const joined = join(kernels, scratch, column, parts, rowCount)
  const isComplete = joined !== null && joined.validityPtr === 0
  if (column.nameText === null || isComplete) return joined
  return withNames(kernels, scratch, column, joined, names())
}

/** Whether any cell is there. */
export function hasValue({ call }: Kernels, { validityPtr, rowCount }: ColumnSlice): boolean {
  return validityPtr === 0 ? rowCount > 0 : call.countBits(validityPtr, rowCount) > 0
}

/** The matched rows of a column. */
function compact(kernels: Kernels, scratch: Scratch, slice: ColumnSlice, match: Match): ColumnSlice {
  const { call } = kernels
  const { batch, maskPtr, count } = match
  const { rowCount } = batch
  let validityPtr = 0
  if (slice.validityPtr !== 0) {
    validityPtr = scratch.allocate(bitmapByteLength(count))
    call.compactBits(slice.validityPtr, maskPtr, rowCount, validityPtr)
    if (call.countBits(validityPtr, count) === count) validityPtr = 0
  }
  const compacted = { ...slice, rowCount: count, validityPtr }
  if (slice.dtype === 'string') {
    const indexesPtr = scratch.allocate(4 * count)
    call.bitsToIndexes(maskPtr, rowCount, indexesPtr)
    const byteLength = call.gatheredStringsByteLength(slice.valuesPtr, indexesPtr, count)
    const valuesPtr = scratch.allocate(4 * (count + 1))
    const bytesPtr = scratch.allocate(byteLength)
    call.gatherStrings(slice.valuesPtr, slice.bytesPtr, indexesPtr, count, valuesPtr, bytesPtr)
    return { ...compacted, valuesPtr, bytesPtr, byteLength }
  }
  if (slice.dtype === 'bool') {
    const valuesPtr = scratch.allocate(bitmapByteLength(count))
    call.compactBits(slice.valuesPtr, maskPtr, rowCount, valuesPtr)
    return { ...compacted, valuesPtr }
  }
  const valuesPtr = scratch.allocate(8 * count)
  call.compact64(slice.valuesPtr, maskPtr, rowCount, valuesPtr)
  return { ...compacted, valuesPtr }
}

function isBlob(slice: ColumnSlice, column: ShapeColumn): boolean {
  return slice.name === blobColumn(column.name)
}

/** Columns of several types as one of the shown type; no row has a value in two of them. */
function join(
  kernels: Kernels,
  scratch: Scratch,
  column: ShapeColumn,
  parts: readonly ColumnSlice[],
  rowCount: number,
): ColumnSlice | null {
  const { call } = kernels
  const [first] = parts
  if (first === undefined) return null
  if (parts.length === 1 && first.dtype === column.dtype && !isBlob(first, column)) return first
  if (column.dtype === 'string') return joinText(kernels, scratch, column, parts, rowCount)
  assert(
    column.dtype === 'float64' && parts.every(({ dtype }) => dtype === 'int64' || dtype === 'float64'),
    'only integers and floats are shown as numbers together',
  )
  let validityPtr = 0
  if (parts.every((part) => part.validityPtr !== 0)) {
    validityPtr = scratch.allocate(bitmapByteLength(rowCount))
    call.fillBits(validityPtr, rowCount, 0)
    for (const part of parts) call.orBits(validityPtr, part.validityPtr, validityPtr, rowCount)
    if (call.countBits(validityPtr, rowCount) === rowCount) validityPtr = 0
  }
  const integers = parts.find(({ dtype }) => dtype === 'int64')!
  const floats = parts.find(({ dtype }) => dtype === 'float64')
  const valuesPtr = scratch.allocate(8 * rowCount)
  call.convertInt64ToFloat64(integers.valuesPtr, rowCount, valuesPtr)
  if (floats !== undefined) {
    assert(floats.validityPtr !== 0, 'where there are integers, floats are missing')
    call.overlay64(floats.valuesPtr, floats.validityPtr, rowCount, valuesPtr)
  }
  return { ...integers, dtype: 'float64', valuesPtr, validityPtr }
}

function isPresent(kernels: Kernels, { validityPtr }: ColumnSlice, row: number): boolean {
  return validityPtr === 0 || ((kernels.u8[validityPtr + (row >> 3)]! >> (row & 7)) & 1) === 1
}

function textAt(kernels: Kernels, slice: ColumnSlice, row: number, isBase64: boolean): string {
  const { u8, u32, i64, f64 } = kernels
  const { valuesPtr, bytesPtr } = slice
  switch (slice.dtype) {
    case 'int64':
      return valueText(i64[(valuesPtr >> 3) + row]!, 'allowed')
    case 'time':
      return valueText({ timeNs: i64[(valuesPtr >> 3) + row]! }, 'allowed')
    case 'float64':
      return valueText(f64[(valuesPtr >> 3) + row]!, 'allowed')
    case 'bool':
      return ((u8[valuesPtr + (row >> 3)]! >> (row & 7)) & 1) === 1 ? 'true' : 'false'
    default: {
      const bytes = u8.slice(bytesPtr + u32[(valuesPtr >> 2) + row]!, bytesPtr + u32[(valuesPtr >> 2) + row + 1]!)
      return isBase64 ? Buffer.from(bytes).toString('base64') : decoder.decode(bytes)
    }
  }
}

/** Text of `rowCount` cells that `textOf` tells, null where there is none. */
function textColumn(
  kernels: Kernels,
  scratch: Scratch,
  name: string,
  rowCount: number,
  textOf: (row: number) => string | null,
): ColumnSlice {
  const { call, u8, u32 } = kernels
  const validityPtr = scratch.allocate(bitmapByteLength(rowCount))
  const valuesPtr = scratch.allocate(4 * (rowCount + 1))
  call.fillBits(validityPtr, rowCount, 1)
  const texts: Uint8Array[] = []
  let byteLength = 0
  let missingCount = 0
  for (let row = 0; row < rowCount; row++) {
    u32[(valuesPtr >> 2) + row] = byteLength
    const text = textOf(row)
    if (text === null) {
      call.setBitRange(validityPtr, row, row + 1, 0)
      missingCount++
      continue
    }
    const bytes = encoder.encode(text)
    texts.push(bytes)
    byteLength += bytes.length
  }
  u32[(valuesPtr >> 2) + rowCount] = byteLength
  const bytesPtr = scratch.allocate(byteLength)
  let at = bytesPtr
  for (const bytes of texts) {
    u8.set(bytes, at)
    at += bytes.length
  }
  const validity = missingCount === 0 ? 0 : validityPtr
  return { name, dtype: 'string', kind: 'slice', rowCount, valuesPtr, validityPtr: validity, bytesPtr, byteLength }
}

function joinText(
  kernels: Kernels,
  scratch: Scratch,
  column: ShapeColumn,
  parts: readonly ColumnSlice[],
  rowCount: number,
): ColumnSlice {
  return textColumn(kernels, scratch, column.name, rowCount, (row) => {
    const part = parts.find((candidate) => isPresent(kernels, candidate, row))
    return part === undefined ? null : textAt(kernels, part, row, isBlob(part, column))
  })
}

/** The same column, where a cell is missing with the value that the item's name tells. */
function withNames(
  kernels: Kernels,
  scratch: Scratch,
  column: ShapeColumn,
  joined: ColumnSlice | null,
  names: ColumnSlice,
): ColumnSlice {
  const { call, i64, f64 } = kernels
  const count = names.rowCount
  const isMissing = (row: number): boolean => joined === null || !isPresent(kernels, joined, row)
  const nameText = (row: number): string | null => namePart(textAt(kernels, names, row, false), column.nameText!)
  if (column.dtype === 'string') {
    return textColumn(kernels, scratch, column.name, count, (row) =>
      isMissing(row) ? nameText(row) : textAt(kernels, joined!, row, false),
    )
  }
  const isBool = column.dtype === 'bool'
  const validityPtr = scratch.allocate(bitmapByteLength(count))
  const valuesPtr = scratch.allocate(isBool ? bitmapByteLength(count) : 8 * count)
  call.fillBits(validityPtr, count, 1)
  if (joined !== null)
    kernels.u8.copyWithin(valuesPtr, joined.valuesPtr, joined.valuesPtr + (isBool ? Math.ceil(count / 8) : 8 * count))
  for (let row = 0; row < count; row++) {
    if (!isMissing(row)) continue
    const text = nameText(row)
    const value = text === null ? null : valueOfNameText(text, column.dtype)
    if (isBool) call.setBitRange(valuesPtr, row, row + 1, value === true ? 1 : 0)
    else if (column.dtype === 'float64') f64[(valuesPtr >> 3) + row] = value === null ? 0 : Number(value)
    else i64[(valuesPtr >> 3) + row] = typeof value === 'bigint' ? value : 0n
    if (value === null) call.setBitRange(validityPtr, row, row + 1, 0)
  }
  const isWhole = call.countBits(validityPtr, count) === count
  return {
    name: column.name,
    dtype: column.dtype,
    kind: 'slice',
    rowCount: count,
    valuesPtr,
    validityPtr: isWhole ? 0 : validityPtr,
    bytesPtr: 0,
    byteLength: 0,
  }
}
