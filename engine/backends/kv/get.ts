// Items by name, in a worker: for many callers at once, each with a list of names.
import type { BlockIo, BlockSource } from '../../blocks/reader.js'
import { encodedFrameBound, encodeFrame } from '../../codec/wire.js'
import type { ColumnSlice, FrameSlice } from '../../frame/column-slice.js'
import type { DType } from '../../frame/dtype.js'
import type { Kernels } from '../../kernels/kernels.js'
import type { Scratch } from '../../memory/scratch.js'
import type { Slice } from '../../memory/slice.js'
import { sliceFrame } from './item-collector.js'
import { blobColumn, ctimeColumn, mtimeColumn, nameColumn } from './item-columns.js'
import { ItemReader, noRow } from './item-reader.js'
import type { ReadShape, ShapeColumn, TableContents } from './read-shape.js'
import { hasValue, showParts } from './show-column.js'
import { systemColumn, timeOf } from './system-attributes.js'

export interface GetInput {
  readonly sources: readonly BlockSource[]
  /** Names of all callers, one after the other in one text, and the length of each (UTF-16). */
  readonly names: string
  readonly nameLengths: Uint32Array
  /** Caller i asked for names callerStarts[i] to before callerStarts[i + 1]. */
  readonly callerStarts: Uint32Array
  /** Where the names are looked for, in order. */
  readonly folders: readonly string[]
  readonly shape: ReadShape
  readonly contents: TableContents
  readonly expiredNs: bigint | null
  readonly format: 'wire' | 'columns'
}

export interface GetResult {
  /** Rows of each caller: the items that there are, in the order of the names. */
  readonly rowCounts: Uint32Array
  /** format columns: the rows of all callers; null when there is none. */
  readonly frame: FrameSlice | null
  /** format wire: one pb.Frame a caller, null for those without rows; none where nobody has any. */
  readonly messages: readonly (Slice | null)[]
}

const encoder = new TextEncoder()

export function getItems(
  kernels: Kernels,
  io: BlockIo,
  output: Scratch,
  temporary: Scratch,
  input: GetInput,
): GetResult {
  const { u32, call } = kernels
  const { callerStarts, folders, format } = input
  const asked = placeNames(kernels, temporary, input.names, input.nameLengths)
  const nameCount = asked.rowCount
  // By name, as look-ups want them; which name of the callers' each is stays known.
  const orderPtr = temporary.allocate(4 * nameCount)
  for (let i = 0; i < nameCount; i++) u32[(orderPtr >> 2) + i] = i
  const mark = temporary.mark()
  const sortPtr = temporary.allocate(call.sortTextRowsScratchByteLength(nameCount))
  call.sortTextRows(asked.valuesPtr, asked.bytesPtr, orderPtr, nameCount, sortPtr)
  temporary.release(mark)
  const sorted = ordered(kernels, temporary, asked, orderPtr, nameCount)
  const reader = new ItemReader(io, temporary.back(), input.sources)
  // The items that are there, in the order of (folder, name): so are they gathered, and put in the callers' order after.
  const sourcesPtr = temporary.allocate(4 * nameCount * folders.length)
  const rowsPtr = temporary.allocate(4 * nameCount * folders.length)
  const placeOf = new Int32Array(nameCount * folders.length).fill(-1)
  let count = 0
  folders.forEach((folder, f) => {
    const foundMark = temporary.mark()
    const foundSources = temporary.allocate(4 * nameCount)
    const foundRows = temporary.allocate(4 * nameCount)
    reader.find({ folders: [{ folder, rowStart: 0 }], names: sorted }, foundSources, foundRows)
    for (let i = 0; i < nameCount; i++) {
      const source = u32[(foundSources >> 2) + i]!
      if (source === noRow) continue
      placeOf[f * nameCount + u32[(orderPtr >> 2) + i]!] = count
      u32[(sourcesPtr >> 2) + count] = source
      u32[(rowsPtr >> 2) + count] = u32[(foundRows >> 2) + i]!
      count++
    }
    temporary.release(foundMark)
  })
  const grouped = reader.groupRows(sourcesPtr, rowsPtr, count, temporary)
  const gather = (name: string, dtype: DType): ColumnSlice => reader.gatherRows(name, dtype, grouped, temporary)
  const isExpired = expiredTest(kernels, input.expiredNs, () => gather(mtimeColumn, 'time'))

  const placesPtr = temporary.allocate(4 * count)
  const rowCounts = new Uint32Array(callerStarts.length - 1)
  let rowCount = 0
  let isInOrder = true
  for (let caller = 0; caller + 1 < callerStarts.length; caller++) {
    const before = rowCount
    for (let i = callerStarts[caller]!; i < callerStarts[caller + 1]!; i++) {
      for (let f = 0; f < folders.length; f++) {
        const place = placeOf[f * nameCount + i]!
        if (place < 0 || isExpired(place)) continue
        if (place !== rowCount) isInOrder = false
        u32[(placesPtr >> 2) + rowCount++] = place
      }
    }
    rowCounts[caller] = rowCount - before
  }
  if (rowCount === 0) return { rowCounts, frame: null, messages: [] }
  const isWhole = isInOrder && rowCount === count
  const made = input.shape.made.map((column) => {
    const shown = makeColumn(kernels, temporary, column, input.contents, count, gather)
    return { ...(isWhole ? shown : ordered(kernels, output, shown, placesPtr, rowCount)), name: column.name }
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
  const messages = Array.from(rowCounts, (callerRowCount): Slice | null => {
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

/** Texts that stand one behind the other as a string column in scratch. */
function placeNames({ u8, u32 }: Kernels, scratch: Scratch, texts: string, lengths: Uint32Array): ColumnSlice {
  const rowCount = lengths.length
  const valuesPtr = scratch.allocate(4 * (rowCount + 1))
  const bytes = encoder.encode(texts)
  const byteLength = bytes.length
  // A sort may look at eight bytes at once.
  const bytesPtr = scratch.allocate(byteLength + 8)
  u8.set(bytes, bytesPtr)
  const isAscii = byteLength === texts.length
  let offset = 0
  let start = 0
  for (let i = 0; i < rowCount; i++) {
    u32[(valuesPtr >> 2) + i] = offset
    const end = start + lengths[i]!
    offset += isAscii ? lengths[i]! : Buffer.byteLength(texts.slice(start, end))
    start = end
  }
  u32[(valuesPtr >> 2) + rowCount] = offset
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

/** The rows at some places. */
function ordered(
  { call }: Kernels,
  scratch: Scratch,
  column: ColumnSlice,
  placesPtr: number,
  rowCount: number,
): ColumnSlice {
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
