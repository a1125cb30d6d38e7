// Items by name, in a worker: for many callers at once, each with a list of names.
import type { BlockIo, BlockReader, BlockSource } from '../../blocks/reader.js'
import { encodedFrameBound, encodeFrame } from '../../codec/wire.js'
import type { ColumnSlice, FrameSlice } from '../../frame/column-slice.js'
import type { DType } from '../../frame/dtype.js'
import type { Kernels } from '../../kernels/kernels.js'
import type { Scratch } from '../../memory/scratch.js'
import type { Slice } from '../../memory/slice.js'
import { sliceFrame } from './item-collector.js'
import { blobColumn, ctimeColumn, mtimeColumn, nameColumn } from './item-columns.js'
import { compareTexts } from './item-keys.js'
import { ItemReader, noRow } from './item-reader.js'
import type { ReadShape, ShapeColumn, TableContents } from './read-shape.js'
import { hasValue, showParts } from './show-column.js'
import { systemColumn, timeOf } from './system-attributes.js'

export interface GetInput {
  readonly sources: readonly BlockSource[]
  readonly readerOf: (source: number) => BlockReader
  /** Names of all callers, one after the other. */
  readonly names: readonly string[]
  /** Caller i asked for names[callerStarts[i]] to before names[callerStarts[i + 1]]. */
  readonly callerStarts: readonly number[]
  /** Where the names are looked for, in order. */
  readonly folders: readonly string[]
  readonly shape: ReadShape
  readonly contents: TableContents
  readonly expiredNs: bigint | null
  readonly format: 'wire' | 'columns'
}

export interface GetResult {
  /** Rows of each caller: the items that there are, in the order of the names. */
  readonly rowCounts: readonly number[]
  /** format columns: the rows of all callers; null when there is none. */
  readonly frame: FrameSlice | null
  /** format wire: one pb.Frame a caller, null for those without rows. */
  readonly messages: readonly (Slice | null)[]
}

const encoder = new TextEncoder()

interface Found {
  readonly sourcesPtr: number
  readonly rowsPtr: number
}

export function getItems(
  kernels: Kernels,
  io: BlockIo,
  output: Scratch,
  temporary: Scratch,
  input: GetInput,
): GetResult {
  const { u32 } = kernels
  const { names, callerStarts, folders, format } = input
  const sorted = [...new Set(names)].sort(compareTexts)
  const keyNames = placeNames(kernels, temporary, sorted)
  const reader = new ItemReader(io, temporary.back(), input.sources)
  const found = folders.map((folder): Found => {
    const sourcesPtr = temporary.allocate(4 * sorted.length)
    const rowsPtr = temporary.allocate(4 * sorted.length)
    reader.find({ folders: [{ folder, rowStart: 0 }], names: keyNames }, sourcesPtr, rowsPtr)
    return { sourcesPtr, rowsPtr }
  })
  // The items that are there, in the order of (folder, name): so are they gathered, and put in the callers' order after.
  const sourcesPtr = temporary.allocate(4 * sorted.length * folders.length)
  const rowsPtr = temporary.allocate(4 * sorted.length * folders.length)
  const placesByName = new Map<string, number[]>()
  let count = 0
  found.forEach((pairs) => {
    for (let i = 0; i < sorted.length; i++) {
      const source = u32[(pairs.sourcesPtr >> 2) + i]!
      if (source === noRow) continue
      const places = placesByName.get(sorted[i]!)
      if (places === undefined) placesByName.set(sorted[i]!, [count])
      else places.push(count)
      u32[(sourcesPtr >> 2) + count] = source
      u32[(rowsPtr >> 2) + count] = u32[(pairs.rowsPtr >> 2) + i]!
      count++
    }
  })
  const gather = (name: string, dtype: DType): ColumnSlice =>
    reader.gather(name, dtype, sourcesPtr, rowsPtr, count, temporary)
  const isExpired = expiredTest(kernels, input.expiredNs, () => gather(mtimeColumn, 'time'))

  const places: number[] = []
  const rowCounts: number[] = []
  for (let caller = 0; caller + 1 < callerStarts.length; caller++) {
    const before = places.length
    for (let i = callerStarts[caller]!; i < callerStarts[caller + 1]!; i++)
      for (const place of placesByName.get(names[i]!) ?? []) if (!isExpired(place)) places.push(place)
    rowCounts.push(places.length - before)
  }
  const rowCount = places.length
  if (rowCount === 0) return { rowCounts, frame: null, messages: rowCounts.map(() => null) }
  const isInOrder = rowCount === count && places.every((place, i) => place === i)
  let placesPtr = 0
  if (!isInOrder) {
    placesPtr = temporary.allocate(4 * rowCount)
    u32.set(places, placesPtr >> 2)
  }
  const made = input.shape.made.map((column) => {
    const shown = makeColumn(kernels, temporary, column, input.contents, count, gather)
    return { ...ordered(kernels, output, shown, placesPtr, rowCount), name: column.name }
  })
  const named = ({ name, index }: { name: string; index: number }): ColumnSlice => ({ ...made[index]!, name })
  const frame: FrameSlice = {
    rowCount,
    columns: input.shape.columns.map(named),
    indices: input.shape.indices.map(named),
    labels: [],
  }
  if (format === 'columns') return { rowCounts, frame, messages: [] }
  let start = 0
  const messages = rowCounts.map((callerRowCount): Slice | null => {
    if (callerRowCount === 0) return null
    const part = sliceFrame(kernels, output, frame, start, start + callerRowCount)
    start += callerRowCount
    const bound = encodedFrameBound(part)
    const byteOffset = output.allocate(bound)
    const byteLength = encodeFrame(kernels, part, byteOffset, bound)
    output.release(byteOffset + Math.ceil(byteLength / 16) * 16)
    return { byteOffset, byteLength }
  })
  return { rowCounts, frame: null, messages }
}

/** Texts as a string column in scratch. */
function placeNames({ u8, u32 }: Kernels, scratch: Scratch, texts: readonly string[]): ColumnSlice {
  const rowCount = texts.length
  const valuesPtr = scratch.allocate(4 * (rowCount + 1))
  const bytes = encoder.encode(texts.join(''))
  const bytesPtr = scratch.allocate(bytes.length)
  u8.set(bytes, bytesPtr)
  const isAscii = bytes.length === texts.reduce((sum, text) => sum + text.length, 0)
  let offset = 0
  for (let i = 0; i < rowCount; i++) {
    u32[(valuesPtr >> 2) + i] = offset
    offset += isAscii ? texts[i]!.length : Buffer.byteLength(texts[i]!)
  }
  u32[(valuesPtr >> 2) + rowCount] = offset
  const byteLength = bytes.length
  return { name: nameColumn, dtype: 'string', kind: 'slice', rowCount, valuesPtr, validityPtr: 0, bytesPtr, byteLength }
}

function expiredTest(
  { i64 }: Kernels,
  expiredNs: bigint | null,
  mtimes: () => ColumnSlice,
): (place: number) => boolean {
  if (expiredNs === null) return () => false
  const { valuesPtr } = mtimes()
  return (place) => i64[(valuesPtr >> 3) + place]! <= expiredNs
}

/** A column of the gathered items, in the order in which they were gathered; null when none has a value. */
function makeColumn(
  kernels: Kernels,
  scratch: Scratch,
  column: ShapeColumn,
  contents: TableContents,
  count: number,
  gather: (name: string, dtype: DType) => ColumnSlice,
): ColumnSlice {
  if (column.from === 'name') return gather(nameColumn, 'string')
  if (column.from === 'system') {
    const name = column.name as Parameters<typeof timeOf>[0]
    const of = timeOf(name)
    const timesPtr = of === null ? 0 : gather(of === 'ctime' ? ctimeColumn : mtimeColumn, 'time').valuesPtr
    return systemColumn(kernels, scratch, name, timesPtr, count)
  }
  const types = contents.attributes.find(({ name }) => name === column.name)?.types ?? []
  const parts = types
    .map((type) => (type === 'blob' ? gather(blobColumn(column.name), 'string') : gather(column.name, type)))
    .filter((part) => hasValue(kernels, part))
  const shown = showParts(kernels, scratch, column, parts, count, () => gather(nameColumn, 'string'))
  return shown ?? emptyColumn(kernels, scratch, column, count)
}

function emptyColumn({ u8 }: Kernels, scratch: Scratch, { name, dtype }: ShapeColumn, rowCount: number): ColumnSlice {
  const byteLength = 8 * (rowCount + 2)
  const valuesPtr = scratch.allocate(byteLength)
  u8.fill(0, valuesPtr, valuesPtr + byteLength)
  const validityPtr = scratch.allocate(byteLength)
  u8.fill(0, validityPtr, validityPtr + byteLength)
  return { name, dtype, kind: 'slice', rowCount, valuesPtr, validityPtr, bytesPtr: valuesPtr, byteLength: 0 }
}

/** The rows at some places; placesPtr 0: all, as they are. */
function ordered(
  { call }: Kernels,
  scratch: Scratch,
  column: ColumnSlice,
  placesPtr: number,
  rowCount: number,
): ColumnSlice {
  if (placesPtr === 0) return column
  let { valuesPtr, validityPtr, bytesPtr, byteLength } = column
  const bits = (ptr: number): number => {
    const bitsPtr = scratch.allocate(8 * Math.ceil(rowCount / 64) + 16)
    call.gatherBits(ptr, placesPtr, rowCount, bitsPtr)
    return bitsPtr
  }
  if (validityPtr !== 0) {
    validityPtr = bits(validityPtr)
    if (call.countBits(validityPtr, rowCount) === rowCount) validityPtr = 0
  }
  if (column.dtype === 'string') {
    byteLength = call.gatheredStringsByteLength(valuesPtr, placesPtr, rowCount)
    const offsetsPtr = scratch.allocate(4 * (rowCount + 1))
    const textPtr = scratch.allocate(byteLength)
    call.gatherStrings(valuesPtr, bytesPtr, placesPtr, rowCount, offsetsPtr, textPtr)
    valuesPtr = offsetsPtr
    bytesPtr = textPtr
  } else if (column.dtype === 'bool') valuesPtr = bits(valuesPtr)
  else {
    const targetPtr = scratch.allocate(8 * rowCount)
    call.gather64(valuesPtr, placesPtr, rowCount, targetPtr)
    valuesPtr = targetPtr
  }
  return { ...column, rowCount, valuesPtr, validityPtr, bytesPtr, byteLength }
}
