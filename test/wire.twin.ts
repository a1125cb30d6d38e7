// pb.Frame written and read one field at a time, in ordinary TypeScript too simple to be wrong: what the kernel codec is
// compared with. The writer can also write the odd forms that a conforming sender may choose.
import { fromBinary } from '@bufbuild/protobuf'
import type { ColumnSlice, FrameLabel, FrameSlice } from '../dist/engine/frame/column-slice.js'
import { type DType, dtypeNumbers, dtypeOfNumber, type Value } from '../dist/engine/frame/dtype.js'
import type { Kernels } from '../dist/engine/kernels/kernels.js'
import type { Scratch } from '../dist/engine/memory/scratch.js'
import { type Column, Column_Kind, FrameSchema } from '../dist/proto/gen/frames_pb.js'

/** A cell: null is missing. Times are bigints, as int64. */
export type Cell = bigint | number | string | boolean | null

/** cells: one a row; of a label the one value. dtype null: no cells. */
export interface TwinColumn {
  readonly name: string
  readonly dtype: DType
  readonly kind: 'slice' | 'label'
  readonly rowCount: number
  readonly cells: readonly Cell[]
}

export interface TwinFrame {
  readonly rowCount: number
  readonly columns: readonly TwinColumn[]
  readonly indices: readonly TwinColumn[]
  readonly labels: readonly FrameLabel[]
}

/** Numbers that look random and can be made again from their seed (Marsaglia, "Xorshift RNGs", 2003). */
export class Random {
  #state: number
  constructor(seed: number) {
    this.#state = (seed ^ 0x9e3779b9) | 1
  }
  u32(): number {
    this.#state ^= this.#state << 13
    this.#state ^= this.#state >>> 17
    this.#state ^= this.#state << 5
    return this.#state >>> 0
  }
  /** In [0, count). */
  below(count: number): number {
    return this.u32() % count
  }
  chance(probability: number): boolean {
    return this.u32() < probability * 2 ** 32
  }
  pick<T>(choices: readonly T[]): T {
    return choices[this.below(choices.length)]!
  }
  shuffle<T>(list: readonly T[]): T[] {
    const result = [...list]
    for (let i = result.length - 1; i > 0; i--) {
      const j = this.below(i + 1)
      ;[result[i], result[j]] = [result[j]!, result[i]!]
    }
    return result
  }
}

// ---- Making frames ----

const int64s = [0n, 1n, -1n, 127n, 128n, -128n, 2n ** 31n, 2n ** 53n + 1n, 2n ** 62n, 2n ** 63n - 1n, -(2n ** 63n)]
const float64s = [0, -0, 1.5, -2.25, Number.NaN, Infinity, -Infinity, 5e-324, 1.7976931348623157e308]
const strings = ['', 'a', 'plain', 'שלום', '日本語', 'emoji 😀', 'tab\tnl\n\0', 'x'.repeat(127), 'é'.repeat(64)]

export function randomCell(random: Random, dtype: DType): Cell {
  const isSpecial = random.chance(0.3)
  switch (dtype) {
    case 'int64':
      if (isSpecial) return random.pick(int64s)
      return BigInt.asIntN(64, (BigInt(random.u32()) << 32n) | BigInt(random.u32())) >> BigInt(random.below(64))
    case 'time':
      if (isSpecial) return random.pick(int64s)
      return 1_700_000_000_000_000_000n + BigInt(random.u32())
    case 'float64':
      return isSpecial ? random.pick(float64s) : random.u32() / 1000
    case 'string':
      return isSpecial ? random.pick(strings) : `text ${random.below(1000)}`
    case 'bool':
      return random.chance(0.5)
    case 'null':
      return null
  }
}

const dtypes = ['int64', 'float64', 'string', 'time', 'bool', 'null'] as const

/** A column whose cells are missing with this probability (label columns have none that are). */
export function randomColumn(
  random: Random,
  name: string,
  rowCount: number,
  { dtype = random.pick(dtypes), isLabel = random.chance(0.2), missing = 0 } = {} as {
    dtype?: DType
    isLabel?: boolean
    missing?: number
  },
): TwinColumn {
  const kind = isLabel ? 'label' : 'slice'
  const cellCount = dtype === 'null' ? 0 : isLabel ? 1 : rowCount
  const cells = Array.from({ length: cellCount }, () =>
    !isLabel && random.chance(missing) ? null : randomCell(random, dtype),
  )
  return { name, dtype, kind, rowCount, cells }
}

export function randomFrame(random: Random, rowCount: number): TwinFrame {
  const missing = random.pick([0, 0, 0.02, 0.5, 1])
  const name = (i: number): string => random.pick([`c${i}`, `imя ${i}`, `a rather long column name ${i}`])
  const columns = Array.from({ length: random.below(7) }, (_, i) =>
    randomColumn(random, i === 3 ? '' : name(i), rowCount, { missing: random.chance(0.3) ? 0 : missing }),
  )
  const indices = Array.from({ length: random.below(3) }, (_, i) => randomColumn(random, `i${i}`, rowCount))
  const labels = Array.from({ length: random.below(4) }, (_, i): FrameLabel => {
    const dtype = random.pick(['int64', 'float64', 'string', 'time', 'bool'] as const)
    const value = randomCell(random, dtype) as Value
    return { name: i === 2 ? '' : `l${i}`, value: dtype === 'time' ? { timeNs: value as bigint } : value }
  })
  // Slices of dtype null do not tell how many rows they have; the null maps of data columns do.
  const isTold = [...columns, ...indices].some(({ dtype, kind }) => dtype !== 'null' || kind === 'label')
  const isMarked = columns.some(({ dtype }) => dtype === 'null')
  if (isTold || isMarked) return { rowCount, columns, indices, labels }
  const withoutRows = indices.map((index) => ({ ...index, rowCount: 0 }))
  return { rowCount: 0, columns, indices: withoutRows, labels }
}

// ---- Writing ----

function varint(value: bigint | number, padding = 0): number[] {
  const bytes: number[] = []
  let rest = BigInt.asUintN(64, BigInt(value))
  for (; rest >= 128n; rest >>= 7n) bytes.push(Number(rest & 127n) | 128)
  bytes.push(Number(rest))
  // A longer form of the same number: more groups of zero.
  for (let i = 0; i < padding && bytes.length < 9; i++) {
    bytes[bytes.length - 1]! |= 128
    bytes.push(0)
  }
  return bytes
}

function bytesField(number: number, bytes: readonly number[]): number[] {
  return [...varint((number << 3) | 2), ...varint(bytes.length), ...bytes]
}

function text(value: string): number[] {
  return [...new TextEncoder().encode(value)]
}

function fixed64(value: number): number[] {
  return [...new Uint8Array(new Float64Array([value]).buffer)]
}

/** What a sender may choose. `plain` is what nearly all of them write. */
export interface WriteStyle {
  readonly random: Random
  readonly isOdd: boolean
  /** No unknown fields in map entries: the generated code (protobuf-es 2.11) does not skip them there. */
  readonly sparesMaps?: boolean
}

/** A field that this version does not know, of any wire type. */
function unknownField(random: Random): number[] {
  const number = 50 + random.below(1000)
  const tag = (type: number): number[] => varint((number << 3) | type)
  switch (random.below(5)) {
    case 0:
      return [...tag(0), ...varint(random.u32())]
    case 1:
      return [...tag(1), 1, 2, 3, 4, 5, 6, 7, 8]
    case 2:
      return bytesField(number, [1, 2, 3])
    case 3:
      return [...tag(3), ...unknownField(random), ...varint(8), 7, ...tag(4)]
    default:
      return [...tag(5), 1, 2, 3, 4]
  }
}

/** Adds unknown fields and changes the order of fields of different numbers. */
function disorder(style: WriteStyle, groups: readonly (readonly number[][])[]): number[] {
  const { random, isOdd } = style
  if (!isOdd) return groups.flat(2)
  const queues = groups.map((group) => [...group]).filter((group) => group.length > 0)
  const bytes: number[] = []
  while (queues.length > 0) {
    const i = random.below(queues.length)
    bytes.push(...queues[i]!.shift()!)
    if (queues[i]!.length === 0) queues.splice(i, 1)
    if (random.chance(0.1)) bytes.push(...unknownField(random))
  }
  return bytes
}

const fieldOfDType = { int64: 5, float64: 6, string: 7, time: 8, bool: 9, null: 9 } as const

function fillerOf(dtype: DType): Cell {
  return dtype === 'string' ? '' : dtype === 'bool' ? false : dtype === 'float64' ? 0 : 0n
}

/** One element of a packed array. */
function elementBytes(style: WriteStyle, dtype: DType, cell: Cell): number[] {
  const value = cell ?? fillerOf(dtype)
  const padding = style.isOdd && style.random.chance(0.1) ? style.random.below(4) : 0
  if (typeof value === 'bigint') return varint(value, padding)
  if (typeof value === 'boolean') return varint(value ? (padding > 0 ? 1 << style.random.below(31) : 1) : 0, padding)
  return fixed64(value as number)
}

/** The records of a column's values: one packed record; or, oddly, several, some of them not packed. */
function valueRecords(style: WriteStyle, { dtype, kind, cells }: TwinColumn): number[][] {
  const { random, isOdd } = style
  if (dtype === 'null') return kind === 'label' ? [bytesField(9, [0])] : []
  const field = fieldOfDType[dtype]
  if (dtype === 'string') return cells.map((cell) => bytesField(7, text((cell as string | null) ?? '')))
  const elements = cells.map((cell) => elementBytes(style, dtype, cell))
  if (!isOdd) return elements.length > 0 ? [bytesField(field, elements.flat())] : []
  const records: number[][] = []
  while (elements.length > 0) {
    if (random.chance(0.3))
      records.push([...varint((field << 3) | (dtype === 'float64' ? 1 : 0)), ...elements.shift()!])
    else records.push(bytesField(field, elements.splice(0, random.below(40)).flat()))
  }
  return records
}

function columnBytes(style: WriteStyle, column: TwinColumn): number[] {
  const { random, isOdd } = style
  const { name, dtype, kind, rowCount } = column
  const isLabel = kind === 'label'
  // Of a field that is no array the last record wins.
  const twice = (wrong: number[], right: number[]): number[][] =>
    isOdd && random.chance(0.2) ? [wrong, right] : [right]
  return disorder(style, [
    isOdd || isLabel ? twice([0x08, isLabel ? 0 : 1], [0x08, isLabel ? 1 : 0]) : [],
    isOdd || name !== '' ? twice(bytesField(2, text('wrong')), bytesField(2, text(name))) : [],
    twice([0x18, 77], [0x18, dtypeNumbers[dtype]]),
    isLabel ? twice([0x20, 99], [0x20, ...varint(rowCount)]) : [],
    valueRecords(style, column),
  ])
}

function valueBytes(value: Value): number[] {
  if (typeof value === 'bigint') return [0x08, ...varint(value)]
  if (typeof value === 'number') return [0x11, ...fixed64(value)]
  if (typeof value === 'string') return bytesField(3, text(value))
  if (typeof value === 'boolean') return [0x28, value ? 1 : 0]
  return [0x20, ...varint(value.timeNs)]
}

function labelRecords(style: WriteStyle, { name, value }: FrameLabel): number[][] {
  const entry = disorder({ ...style, isOdd: style.isOdd && !style.sparesMaps }, [
    [bytesField(1, text(name))],
    style.isOdd
      ? [bytesField(2, [...valueBytes('wrong'), ...valueBytes(1n)]), bytesField(2, valueBytes(value))]
      : [bytesField(2, valueBytes(value))],
  ])
  return style.isOdd
    ? [bytesField(3, [...bytesField(1, text(name)), 0x12, 2, 0x28, 1]), bytesField(3, entry)]
    : [bytesField(3, entry)]
}

/** null_values of a frame as names a row; null when no cell is missing. */
function missingNames(frame: TwinFrame): string[][] | null {
  const rows: string[][] = Array.from({ length: frame.rowCount }, () => [])
  for (const { name, dtype, kind, cells } of frame.columns) {
    for (let row = 0; row < frame.rowCount; row++) {
      if (kind === 'slice' && (dtype === 'null' || cells[row] === null)) rows[row]!.push(name)
    }
  }
  return rows.some((names) => names.length > 0) ? rows : null
}

function nullRecords(style: WriteStyle, frame: TwinFrame): number[][] {
  const { random, isOdd, sparesMaps } = style
  const entryStyle = { random, isOdd: isOdd && !sparesMaps }
  const rows = missingNames(frame)
  return (rows ?? []).map((names) => {
    const entries = (isOdd ? random.shuffle(names) : names).map((name) => {
      const value = isOdd && random.chance(0.3) ? [] : [[0x10, isOdd ? random.below(2) : 1]]
      return bytesField(1, disorder(entryStyle, [[bytesField(1, text(name))], value]))
    })
    return bytesField(5, disorder(style, [entries]))
  })
}

export function writeTwin(frame: TwinFrame, style: WriteStyle): Uint8Array {
  return Uint8Array.from(
    disorder(style, [
      frame.columns.map((column) => bytesField(1, columnBytes(style, column))),
      frame.indices.map((column) => bytesField(2, columnBytes(style, column))),
      frame.labels.flatMap((label) => labelRecords(style, label)),
      nullRecords(style, frame),
    ]),
  )
}

// ---- Reading ----

interface Field {
  readonly number: number
  readonly varint: bigint
  readonly bytes: Uint8Array
}

/** The fields of a message that holds no groups. */
function fieldsOf(bytes: Uint8Array): Field[] {
  const fields: Field[] = []
  let pos = 0
  const readVarint = (): bigint => {
    let value = 0n
    for (let shift = 0n; ; shift += 7n) {
      const byte = bytes[pos++]!
      value |= BigInt(byte & 127) << shift
      if (byte < 128) return value
    }
  }
  while (pos < bytes.length) {
    const tag = Number(readVarint())
    const type = tag & 7
    const value = type === 0 ? readVarint() : 0n
    const byteLength = type === 2 ? Number(readVarint()) : type === 1 ? 8 : type === 5 ? 4 : 0
    if (type === 3 || type === 4 || pos + byteLength > bytes.length)
      throw new Error(`not a message: tag ${tag} at ${pos}`)
    fields.push({ number: tag >>> 3, varint: value, bytes: bytes.subarray(pos, pos + byteLength) })
    pos += byteLength
  }
  return fields
}

function varintsOf(bytes: Uint8Array): bigint[] {
  const values: bigint[] = []
  let value = 0n
  let shift = 0n
  for (const byte of bytes) {
    value |= BigInt(byte & 127) << shift
    shift += 7n
    if (byte >= 128) continue
    values.push(BigInt.asIntN(64, value))
    value = 0n
    shift = 0n
  }
  return values
}

function doublesOf(bytes: Uint8Array): number[] {
  return [...new Float64Array(bytes.slice().buffer)]
}

const textOf = (bytes: Uint8Array): string => new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes)

/** Reads a frame that the kernels wrote: packed, every field once. */
export function readTwin(message: Uint8Array): TwinFrame {
  const fields = fieldsOf(message)
  const nullMaps = fields
    .filter(({ number }) => number === 5)
    .map(
      ({ bytes }) =>
        new Set(
          fieldsOf(bytes).map((entry) =>
            textOf(fieldsOf(entry.bytes).find((f) => f.number === 1)?.bytes ?? new Uint8Array()),
          ),
        ),
    )
  const columnOf = (bytes: Uint8Array, isIndex: boolean): TwinColumn => {
    const one = fieldsOf(bytes)
    const last = (number: number): Field | undefined => one.findLast((field) => field.number === number)
    const name = textOf(last(2)?.bytes ?? new Uint8Array())
    const dtype = dtypeOfNumber(Number(last(3)!.varint))!
    const kind = last(1)?.varint === 1n ? 'label' : 'slice'
    const payload = last(fieldOfDType[dtype])?.bytes ?? new Uint8Array()
    let cells: Cell[] = []
    if (dtype === 'string') cells = one.filter(({ number }) => number === 7).map((field) => textOf(field.bytes))
    else if (dtype === 'float64') cells = doublesOf(payload)
    else if (dtype === 'bool') cells = varintsOf(payload).map((value) => value !== 0n)
    else if (dtype !== 'null') cells = varintsOf(payload)
    if (!isIndex) cells = cells.map((cell, row) => (nullMaps[row]?.has(name) && kind === 'slice' ? null : cell))
    return { name, dtype, kind, rowCount: kind === 'label' ? Number(last(4)?.varint ?? 0n) : cells.length, cells }
  }
  const ofField = (number: number): TwinColumn[] =>
    fields.filter((field) => field.number === number).map(({ bytes }) => columnOf(bytes, number === 2))
  const columns = ofField(1)
  const indices = ofField(2)
  const told = [...indices, ...columns].find(({ dtype, kind }) => dtype !== 'null' || kind === 'label')
  const rowCount = told?.rowCount ?? nullMaps.length
  const withRows = (column: TwinColumn): TwinColumn => ({ ...column, rowCount })
  const labels = fields
    .filter(({ number }) => number === 3)
    .map(({ bytes }): FrameLabel => {
      const entry = fieldsOf(bytes)
      const [member] = fieldsOf(entry.find(({ number }) => number === 2)!.bytes)
      const { number, varint: value, bytes: valueText } = member!
      const name = textOf(entry.find((field) => field.number === 1)?.bytes ?? new Uint8Array())
      if (number === 1) return { name, value: BigInt.asIntN(64, value) }
      if (number === 2) return { name, value: doublesOf(valueText)[0]! }
      if (number === 3) return { name, value: textOf(valueText) }
      return number === 4 ? { name, value: { timeNs: BigInt.asIntN(64, value) } } : { name, value: value !== 0n }
    })
  return { rowCount, columns: columns.map(withRows), indices: indices.map(withRows), labels }
}

/** Reads any frame with the generated code, as decodeColumn would give it. */
export function readGenerated(message: Uint8Array): TwinFrame {
  const frame = fromBinary(FrameSchema, message)
  const isMissing = (name: string, row: number): boolean => name in (frame.nullValues[row]?.nullColumns ?? {})
  const columnOf = (column: Column, isIndex: boolean): TwinColumn => {
    const { name, ints, floats, strings, times, bools } = column
    const dtype = dtypeOfNumber(column.dtype)!
    const isLabel = column.kind === Column_Kind.LABEL
    const values: readonly Cell[] = {
      int64: ints,
      float64: floats,
      string: strings,
      time: times,
      bool: bools,
      null: [],
    }[dtype]
    const rowCount = isLabel ? Number(column.size) : dtype === 'null' ? -1 : values.length
    const missing = Array.from(
      { length: Math.max(rowCount, values.length) },
      (_, row) => !isIndex && isMissing(name, row),
    )
    if (isLabel && (dtype === 'null' || !missing.includes(true)))
      return { name, dtype, kind: 'label', rowCount, cells: values }
    const cells = missing.map((isNull, row) => (isNull ? null : values[isLabel ? 0 : row]!))
    return { name, dtype, kind: 'slice', rowCount, cells: dtype === 'null' ? [] : cells }
  }
  const columns = frame.columns.map((column) => columnOf(column, false))
  const indices = frame.indices.map((column) => columnOf(column, true))
  const rowCount = [...indices, ...columns].find((column) => column.rowCount >= 0)?.rowCount ?? frame.nullValues.length
  const withRows = (column: TwinColumn): TwinColumn => ({ ...column, rowCount })
  const labels = Object.entries(frame.labels).map(([name, { value }]): FrameLabel => {
    if (value.case === undefined) throw new Error(`label ${name} has no value`)
    return { name, value: value.case === 'tval' ? { timeNs: value.value } : value.value }
  })
  return { rowCount, columns: columns.map(withRows), indices: indices.map(withRows), labels }
}

// ---- Columns in memory ----

const bitOf = (kernels: Kernels, pointer: number, row: number): boolean =>
  ((kernels.u8[pointer + (row >> 3)]! >> (row & 7)) & 1) === 1

/** What stands in memory. Throws when a missing cell has no filler or bits past the last row are set. */
export function readColumn(kernels: Kernels, column: ColumnSlice): TwinColumn {
  const { name, dtype, kind, rowCount, valuesPtr, validityPtr, bytesPtr, byteLength } = column
  const valueCount = kind === 'label' ? 1 : rowCount
  const cells: Cell[] = []
  for (const bits of [validityPtr, dtype === 'bool' ? valuesPtr : 0]) {
    for (let row = valueCount; bits !== 0 && row % 8 !== 0; row++) {
      if (bitOf(kernels, bits, row)) throw new Error('a bit past the last row is set')
    }
  }
  for (let row = 0; row < valueCount && dtype !== 'null'; row++) {
    const offset = (i: number): number => kernels.view.getUint32(valuesPtr + 4 * i, true)
    let cell: Cell
    if (dtype === 'bool') cell = bitOf(kernels, valuesPtr, row)
    else if (dtype === 'float64') cell = kernels.view.getFloat64(valuesPtr + 8 * row, true)
    else if (dtype === 'string') cell = textOf(kernels.u8.slice(bytesPtr + offset(row), bytesPtr + offset(row + 1)))
    else cell = kernels.view.getBigInt64(valuesPtr + 8 * row, true)
    if (validityPtr !== 0 && !bitOf(kernels, validityPtr, row)) {
      if (!Object.is(cell, fillerOf(dtype))) throw new Error(`the missing cell ${row} of ${name} holds ${cell}`)
      cell = null
    }
    cells.push(cell)
  }
  if (dtype === 'string' && kernels.view.getUint32(valuesPtr + 4 * valueCount, true) !== byteLength) {
    throw new Error('the last offset is not the byte length')
  }
  return { name, dtype, kind, rowCount, cells }
}

export function readFrame(kernels: Kernels, frame: FrameSlice): TwinFrame {
  const { rowCount, columns, indices, labels } = frame
  return {
    rowCount,
    columns: columns.map((column) => readColumn(kernels, column)),
    indices: indices.map((column) => readColumn(kernels, column)),
    labels,
  }
}

/** Writes a column into memory. isNullable: an index, or a column without a missing cell, gets no bitmap. */
export function placeColumn(kernels: Kernels, column: TwinColumn, scratch: Scratch): ColumnSlice {
  const { name, dtype, kind, rowCount, cells } = column
  const bitmap = (bits: readonly boolean[]): number => {
    const pointer = scratch.allocate(Math.ceil(bits.length / 8))
    kernels.u8.fill(0, pointer, pointer + Math.ceil(bits.length / 8))
    for (const [row, bit] of bits.entries()) kernels.u8[pointer + (row >> 3)]! |= bit ? 1 << (row & 7) : 0
    return pointer
  }
  const empty = { name, dtype, kind, rowCount, valuesPtr: 0, validityPtr: 0, bytesPtr: 0, byteLength: 0 }
  if (dtype === 'null') return empty
  const validityPtr = cells.some((cell) => cell === null) ? bitmap(cells.map((cell) => cell !== null)) : 0
  const values = cells.map((cell) => cell ?? fillerOf(dtype))
  if (dtype === 'bool') return { ...empty, validityPtr, valuesPtr: bitmap(values.map((value) => value === true)) }
  if (dtype === 'string') {
    const texts = values.map((value) => text(value as string))
    const bytes = texts.flat()
    const valuesPtr = scratch.allocate(4 * (texts.length + 1))
    const bytesPtr = scratch.allocate(bytes.length)
    kernels.u8.set(bytes, bytesPtr)
    let offset = 0
    kernels.view.setUint32(valuesPtr, 0, true)
    for (const [row, { length }] of texts.entries()) {
      offset += length
      kernels.view.setUint32(valuesPtr + 4 * (row + 1), offset, true)
    }
    return { ...empty, validityPtr, valuesPtr, bytesPtr, byteLength: bytes.length }
  }
  const valuesPtr = scratch.allocate(8 * values.length)
  for (const [row, value] of values.entries()) {
    if (dtype === 'float64') kernels.view.setFloat64(valuesPtr + 8 * row, value as number, true)
    else kernels.view.setBigInt64(valuesPtr + 8 * row, value as bigint, true)
  }
  return { ...empty, validityPtr, valuesPtr }
}

export function placeFrame(kernels: Kernels, frame: TwinFrame, scratch: Scratch): FrameSlice {
  const { rowCount, columns, indices, labels } = frame
  return {
    rowCount,
    columns: columns.map((column) => placeColumn(kernels, column, scratch)),
    indices: indices.map((column) => placeColumn(kernels, column, scratch)),
    labels,
  }
}
