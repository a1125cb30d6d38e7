// Frames ↔ Apache Arrow. Buffers are shared, not copied, wherever Arrow's layout is ours: int64, float64, time, bool and
// string columns of one value a row.
import {
  AsyncByteQueue,
  Bool,
  type Data,
  type DataType,
  type Date_,
  DateUnit,
  Dictionary,
  Field,
  Float64,
  type Int,
  Int32,
  Int64,
  makeData,
  Null,
  Precision,
  RecordBatch,
  RecordBatchStreamWriter,
  Schema,
  Struct,
  Table,
  type Timestamp,
  TimestampNanosecond,
  TimeUnit,
  Type,
  Utf8,
  Vector,
} from 'apache-arrow'
import { assert } from '../assert.js'
import { FramesError } from '../errors.js'
import { bitmapByteLength, hasCleanTail, sliceBitmap } from '../frame/bitmap.js'
import { columnOfCells, nullColumn, toCell, type ValueDType } from '../frame/builder.js'
import { Column, type ColumnBuffers, rebasedOffsets } from '../frame/column.js'
import type { ColumnHead } from '../frame/column-head.js'
import type { DType, Value } from '../frame/dtype.js'
import { Frame } from '../frame/frame.js'

/** Field metadata: this column is an index. Index columns come first. */
const roleKey = 'framesd.role'
/** Schema metadata: the frame's labels, as JSON. */
const labelsKey = 'framesd.labels'

/**
 * A frame as a table of one record batch; index columns first, marked in their field's metadata, labels in the schema's.
 *
 * string labels (columns of kind label) become dictionaries of one value; labels of other types are repeated. Throws
 * INVALID_ARGUMENT for what is no frame.
 */
export function toArrowTable(frame: Frame): Table {
  if (!(frame instanceof Frame)) throw new FramesError('INVALID_ARGUMENT', 'what is to be made a table is no Frame')
  const schema = arrowSchema(frame)
  return new Table(schema, [arrowBatch(frame, schema)])
}

/** Frames of the same columns as one Arrow IPC stream. */
export function frameToArrowIpc(frames: Iterable<Frame>): Uint8Array {
  const encoder = new ArrowStreamEncoder()
  const chunks: Uint8Array[] = []
  for (const frame of frames) chunks.push(...encoder.encode(frame))
  chunks.push(...encoder.finish())
  return Buffer.concat(chunks)
}

/**
 * Makes an Arrow IPC stream frame by frame.
 *
 * The first frame decides the schema. A later one may lack columns (they are null there), have an int64 column where the
 * first has float64, and have other labels; its frame labels are not told, for a stream has room for one set.
 */
export class ArrowStreamEncoder {
  readonly #sink = new ChunkSink()
  readonly #writer = new RecordBatchStreamWriter()
  #schema: Schema | null = null

  constructor() {
    this.#writer.reset(this.#sink)
  }

  /** The bytes of one frame, after the schema's if it is the first. They may be views of the frame's own buffers. */
  encode(frame: Frame): Uint8Array[] {
    this.#schema ??= arrowSchema(frame)
    this.#writer.write(arrowBatch(frame, this.#schema))
    return this.#sink.take()
  }

  /** The bytes that end the stream; an empty schema before them if there was no frame. */
  finish(): Uint8Array[] {
    if (this.#schema === null) this.#writer.reset(this.#sink, new Schema([]))
    this.#writer.finish()
    return this.#sink.take()
  }
}

/**
 * One part of an Arrow IPC stream whose parts are made apart from each other: the frame with this number, or (null) the
 * end. The first part begins with the schema.
 *
 * heads  the columns of all frames. A frame may lack some (they are null there), and have narrower types: bool and int64
 *        become float64, everything becomes text. Strings are plain, not dictionaries: a dictionary would have to know
 *        the parts before it.
 *
 * Frame labels are not told. Throws FRAME_SHAPE for a column that is not among heads, or too wide for its type there.
 */
export function arrowStreamPart(heads: readonly ColumnHead[], index: number, frame: Frame | null): Uint8Array {
  const schema = new Schema(
    heads.map(({ name, role, dtype }) => {
      return new Field(name, plainArrowType(dtype), true, role === 'index' ? indexMetadata : undefined)
    }),
  )
  const sink = new ChunkSink()
  const writer = new RecordBatchStreamWriter()
  writer.reset(sink, schema)
  const opening = sink.take()
  if (frame === null) writer.finish()
  else writer.write(arrowBatch(frame, schema, widened))
  const part = sink.take()
  return Buffer.concat(index === 0 ? [...opening, ...part] : part)
}

/** The column with the type that its field has. */
function widened(column: Column, { type }: Field): Column {
  const dtype = dtypeOfArrow(type)
  // arrowData makes float64 of int64 by itself, a whole buffer at a time.
  if (column.dtype === dtype || (column.dtype === 'int64' && dtype === 'float64')) return column
  const { name, length } = column
  const rows = Array.from({ length }, (_, row) => row)
  if (rows.every((row) => column.isNull(row))) return nullColumn(name, length)
  const widen = widening(column, dtype)
  return columnOfCells(
    name,
    dtype,
    rows.map((row) => (column.isNull(row) ? null : widen(row))),
  )
}

function widening(column: Column, dtype: ValueDType): (row: number) => string | number | bigint {
  if (dtype === 'string') return (row) => column.stringAt(row)
  if (dtype === 'float64' && column.dtype === 'bool') return (row) => Number(column.boolAt(row))
  if (dtype === 'int64' && column.dtype === 'bool') return (row) => (column.boolAt(row) ? 1n : 0n)
  const what = `column "${column.name}" is ${column.dtype}, and ${dtype} in the schema of this Arrow stream`
  throw new FramesError('FRAME_SHAPE', what)
}

/** Keeps what the writer writes until it is taken. */
class ChunkSink extends AsyncByteQueue {
  #chunks: Uint8Array[] = []

  override write(chunk: Uint8Array): void {
    this.#chunks.push(chunk)
  }

  take(): Uint8Array[] {
    const chunks = this.#chunks
    this.#chunks = []
    return chunks
  }
}

function arrowSchema(frame: Frame): Schema {
  const fields = [
    ...frame.indices.map((index) => new Field(index.name, arrowType(index), true, indexMetadata)),
    ...frame.columns.map((column) => new Field(column.name, arrowType(column), true)),
  ]
  const metadata = frame.labels.size === 0 ? undefined : new Map([[labelsKey, encodeLabels(frame.labels)]])
  return new Schema(fields, metadata)
}

const indexMetadata = new Map([[roleKey, 'index']])

function arrowType(column: Column): DataType {
  if (column.dtype === 'string' && column.kind === 'label') return new Dictionary(new Utf8(), new Int32())
  return plainArrowType(column.dtype)
}

function plainArrowType(dtype: DType): DataType {
  switch (dtype) {
    case 'int64':
      return new Int64()
    case 'float64':
      return new Float64()
    case 'time':
      return new TimestampNanosecond('UTC')
    case 'bool':
      return new Bool()
    case 'null':
      return new Null()
    case 'string':
      return new Utf8()
  }
}

function dtypeOfArrow(type: DataType): ValueDType {
  switch (type.typeId) {
    case Type.Int:
      return 'int64'
    case Type.Float:
      return 'float64'
    case Type.Timestamp:
      return 'time'
    case Type.Bool:
      return 'bool'
    default:
      return 'string'
  }
}

function arrowBatch(
  frame: Frame,
  schema: Schema,
  asField = (column: Column, _field: Field): Column => column,
): RecordBatch {
  const places = columnsOfFields(frame, schema)
  const children = schema.fields.map((field, i) => {
    const column = places[i]
    return arrowData(column === undefined ? nullColumn(field.name, frame.length) : asField(column, field), field)
  })
  const type = new Struct(schema.fields)
  return new RecordBatch(schema, makeData({ type, length: frame.length, nullCount: 0, children }))
}

/** The frame's column for each field: the next one that has the field's name and role. */
function columnsOfFields(frame: Frame, schema: Schema): (Column | undefined)[] {
  const rest = { index: [...frame.indices], data: [...frame.columns] }
  const places = schema.fields.map((field) => {
    const candidates = rest[field.metadata.get(roleKey) === 'index' ? 'index' : 'data']
    const position = candidates.findIndex((column) => column.name === field.name)
    return position < 0 ? undefined : candidates.splice(position, 1)[0]
  })
  const left = [...rest.index, ...rest.data]
  if (left.length > 0) {
    throw new FramesError('FRAME_SHAPE', `column "${left[0].name}" is not in the schema of this Arrow stream`)
  }
  return places
}

function arrowData(column: Column, field: Field): Data {
  const { length } = column
  const nullBitmap = column.validity
  const { type } = field
  const { buffers } = column
  if (buffers.dtype === 'null') return allMissing(type, length)
  if (type.typeId === Type.Dictionary) {
    if (buffers.dtype === 'string') return dictionaryData(type as Dictionary<Utf8, Int32>, column, buffers)
  } else if (type.typeId === Type.Utf8) {
    if (buffers.dtype === 'string') {
      const { offsets, bytes } = column.kind === 'label' ? repeatText(buffers.bytes, length) : buffers
      return makeData({ type: new Utf8(), length, nullBitmap, valueOffsets: signedOffsets(offsets), data: bytes })
    }
  } else if (type.typeId === Type.Int) {
    if (buffers.dtype === 'int64') return makeData({ type: new Int64(), length, nullBitmap, data: column.ints() })
  } else if (type.typeId === Type.Float) {
    const data =
      buffers.dtype === 'float64'
        ? column.floats()
        : buffers.dtype === 'int64'
          ? Float64Array.from(column.ints(), Number)
          : null
    if (data !== null) return makeData({ type: new Float64(), length, nullBitmap, data })
  } else if (type.typeId === Type.Timestamp) {
    if (buffers.dtype === 'time') {
      return makeData({ type: new TimestampNanosecond('UTC'), length, nullBitmap, data: column.times() })
    }
  } else if (type.typeId === Type.Bool && buffers.dtype === 'bool') {
    const repeated = () => new Uint8Array(bitmapByteLength(length)).fill(buffers.values[0] & 1 ? 255 : 0)
    return makeData({
      type: new Bool(),
      length,
      nullBitmap,
      data: column.kind === 'label' ? repeated() : buffers.values,
    })
  }
  throw new FramesError(
    'FRAME_SHAPE',
    `column "${column.name}" is ${column.dtype}, and ${type} in the first frame of this Arrow stream`,
  )
}

/** A column of any type without a value. */
function allMissing(type: DataType, length: number): Data {
  if (type.typeId === Type.Null) return makeData({ type: new Null(), length })
  const nullBitmap = new Uint8Array(bitmapByteLength(length))
  const missing = { length, nullBitmap, nullCount: length }
  switch (type.typeId) {
    case Type.Int:
      return makeData({ ...missing, type: new Int64(), data: new BigInt64Array(length) })
    case Type.Timestamp:
      return makeData({ ...missing, type: new TimestampNanosecond('UTC'), data: new BigInt64Array(length) })
    case Type.Float:
      return makeData({ ...missing, type: new Float64(), data: new Float64Array(length) })
    case Type.Bool:
      return makeData({ ...missing, type: new Bool(), data: nullBitmap })
    case Type.Dictionary: {
      const empty = textVector({ offsets: new Uint32Array(2), bytes: new Uint8Array(0) }, 1)
      const dictionaryType = type as Dictionary<Utf8, Int32>
      return makeData({ ...missing, type: dictionaryType, data: new Int32Array(length), dictionary: empty })
    }
    default:
      assert(type.typeId === Type.Utf8, 'arrowType makes no other types')
      return makeData({
        ...missing,
        type: new Utf8(),
        valueOffsets: new Int32Array(length + 1),
        data: new Uint8Array(0),
      })
  }
}

interface Text {
  readonly offsets: Uint32Array
  readonly bytes: Uint8Array
}

/** A label's one value for all rows; a column of many values (of a later frame) as a dictionary of all its rows. */
function dictionaryData(type: Dictionary<Utf8, Int32>, column: Column, text: Text): Data {
  const { length, validity: nullBitmap, kind } = column
  const indices = kind === 'label' ? new Int32Array(length) : Int32Array.from({ length }, (_, row) => row)
  const dictionary = textVector(text, kind === 'label' ? 1 : length)
  return makeData({ type, length, nullBitmap, data: indices, dictionary })
}

function textVector({ offsets, bytes }: Text, length: number): Vector<Utf8> {
  return new Vector([makeData({ type: new Utf8(), length, valueOffsets: signedOffsets(offsets), data: bytes })])
}

function repeatText(bytes: Uint8Array, count: number): Text {
  const byteLength = bytes.length * count
  if (byteLength > 2 ** 31 - 1) throw new FramesError('FRAME_TOO_LARGE', 'a string column holds more than 2 GiB')
  const offsets = Uint32Array.from({ length: count + 1 }, (_, row) => row * bytes.length)
  const repeated = new Uint8Array(byteLength)
  for (let row = 0; row < count; row++) repeated.set(bytes, offsets[row])
  return { offsets, bytes: repeated }
}

/** Arrow's offsets are signed; ours never reach 2^31. */
function signedOffsets(offsets: Uint32Array): Int32Array {
  return new Int32Array(offsets.buffer, offsets.byteOffset, offsets.length)
}

/**
 * The frames of a table, one for each record batch. Columns marked as index become indices. Shares the table's buffers,
 * which must not change any more, where the layout is ours; narrower numbers, other units of time and dictionaries are
 * converted. A dictionary of one value becomes a label. Throws VALUE_TYPE for a type that frames do not have, INVALID_ARGUMENT
 * for what is no table.
 */
export function fromArrowTable(table: Table): Frame[] {
  checkTable(table)
  const labels = decodeLabels(table.schema.metadata.get(labelsKey))
  return table.batches.map((batch) => {
    const indices: Column[] = []
    const columns: Column[] = []
    batch.schema.fields.forEach((field, i) => {
      const column = columnOfData(field.name, batch.data.children[i])
      if (field.metadata.get(roleKey) === 'index') indices.push(column)
      else columns.push(column)
    })
    return new Frame({ columns, indices, labels })
  })
}

/** By its parts: the program's Arrow library may be another copy than ours, whose classes are others. */
function checkTable(table: Partial<Table> | null | undefined): void {
  const isTable = Array.isArray(table?.batches) && table.schema?.metadata instanceof Map
  if (!isTable) throw new FramesError('INVALID_ARGUMENT', 'what frames are to be made of is no Arrow table')
}

function columnOfData(name: string, data: Data): Column {
  if (data.typeId === Type.Null) return nullColumn(name, data.length)
  if (data.typeId === Type.Dictionary) return columnOfDictionary(name, data as Data<Dictionary>)
  const buffers = buffersOfData(data)
  if (buffers === null) throw new FramesError('VALUE_TYPE', `column "${name}": Arrow type ${data.type} has no dtype`)
  return Column.fromBuffers({ name, kind: 'slice', length: data.length, validity: validityOf(data), buffers })
}

function validityOf(data: Data): Uint8Array | null {
  return data.nullCount === 0 ? null : cleanBitmap(data.nullBitmap, data)
}

/** The bits of a batch's rows; a copy only where they do not begin at a byte or end in zeros. */
function cleanBitmap(bits: Uint8Array, { offset, length }: Data): Uint8Array {
  if (offset === 0 && hasCleanTail(bits, length)) return bits.subarray(0, bitmapByteLength(length))
  return sliceBitmap(bits, offset, offset + length)
}

/** null for a type that frames do not have. */
function buffersOfData(data: Data): ColumnBuffers | null {
  const { length, type } = data
  switch (data.typeId) {
    case Type.Int:
      return { dtype: 'int64', values: int64Values(data as Data<Int>) }
    case Type.Float: {
      if ((type as Float64).precision === Precision.DOUBLE) return { dtype: 'float64', values: data.values }
      const vector = new Vector([data as Data<Float64>])
      return { dtype: 'float64', values: Float64Array.from({ length }, (_, row) => vector.get(row) ?? 0) }
    }
    case Type.Bool:
      return { dtype: 'bool', values: cleanBitmap(data.values, data) }
    case Type.Timestamp:
      return { dtype: 'time', values: scaled(data.values, nsPerUnit[(type as Timestamp).unit]) }
    case Type.Date: {
      const isDays = (type as Date_).unit === DateUnit.DAY
      return { dtype: 'time', values: scaled(data.values, isDays ? 86_400_000_000_000n : 1_000_000n) }
    }
    case Type.Utf8: {
      const { valueOffsets, values } = data as Data<Utf8>
      if (length === 0) return { dtype: 'string', offsets: new Uint32Array(1), bytes: new Uint8Array(0) }
      const offsets = new Uint32Array(valueOffsets.buffer, valueOffsets.byteOffset, length + 1)
      return { dtype: 'string', offsets: rebasedOffsets(offsets), bytes: values.subarray(offsets[0], offsets[length]) }
    }
    case Type.LargeUtf8:
    case Type.Utf8View: {
      const vector = new Vector([data as Data<Utf8>])
      const cells = Array.from({ length }, (_, row) => vector.get(row) ?? '')
      return columnOfCells('', 'string', cells).buffers
    }
    default:
      return null
  }
}

const nsPerUnit: Readonly<Record<TimeUnit, bigint>> = {
  [TimeUnit.SECOND]: 1_000_000_000n,
  [TimeUnit.MILLISECOND]: 1_000_000n,
  [TimeUnit.MICROSECOND]: 1_000n,
  [TimeUnit.NANOSECOND]: 1n,
}

/** Throws VALUE_TYPE for a time that int64 nanoseconds do not reach. */
function scaled(values: BigInt64Array | Int32Array, nsPerValue: bigint): BigInt64Array {
  if (nsPerValue === 1n && values instanceof BigInt64Array) return values
  return BigInt64Array.from(values as Iterable<bigint | number>, (value) => {
    const timeNs = BigInt(value) * nsPerValue
    if (timeNs === BigInt.asIntN(64, timeNs)) return timeNs
    throw new FramesError('VALUE_TYPE', `${value} is no time between 1677 and 2262`)
  })
}

function int64Values({ values }: Data<Int>): BigInt64Array {
  if (values instanceof BigInt64Array) return values
  if (values instanceof BigUint64Array && values.some((value) => value >= 2n ** 63n)) {
    throw new FramesError('VALUE_TYPE', 'an unsigned integer exceeds 2^63 - 1')
  }
  return BigInt64Array.from(values as Iterable<bigint | number>, BigInt)
}

function columnOfDictionary(name: string, data: Data<Dictionary>): Column {
  const { length } = data
  const dictionary: readonly Column[] = (data.dictionary?.data ?? []).map((part) => columnOfData(name, part))
  const validity = validityOf(data)
  if (dictionary.length === 1 && dictionary[0].length === 1 && dictionary[0].validity === null) {
    const { buffers } = dictionary[0]
    return Column.fromBuffers({ name, kind: 'label', length, validity, buffers })
  }
  const dtype = dictionary[0]?.dtype ?? 'null'
  if (dtype === 'null') return nullColumn(name, length)
  const values = dictionary.flatMap((part) => part.values()).map((value) => toCell(dtype, value))
  const vector = new Vector([data])
  const indices: ArrayLike<number> = data.values
  const cells = Array.from({ length }, (_, row) => (vector.isValid(row) ? values[indices[row]] : null))
  return columnOfCells(name, dtype, cells)
}

/** `{"name": {"string": "linux"}}`; int64 and time as text of digits, for JSON knows doubles only. */
function encodeLabels(labels: ReadonlyMap<string, Value>): string {
  const encoded = Array.from(labels, ([name, value]) => {
    if (typeof value === 'bigint') return [name, { int64: String(value) }]
    if (typeof value === 'number') return [name, { float64: String(value) }]
    if (typeof value === 'object') return [name, { time: String(value.timeNs) }]
    return [name, { [typeof value === 'string' ? 'string' : 'bool']: value }]
  })
  return JSON.stringify(Object.fromEntries(encoded))
}

function decodeLabels(text: string | undefined): Map<string, Value> {
  const labels = new Map<string, Value>()
  if (text === undefined) return labels
  let encoded: Record<string, Record<string, unknown>>
  try {
    encoded = JSON.parse(text)
  } catch (cause) {
    throw new FramesError('VALUE_TYPE', `schema metadata ${labelsKey} is not JSON`, { cause })
  }
  for (const [name, typed] of Object.entries(encoded ?? {})) labels.set(name, decodeLabel(name, typed))
  return labels
}

function decodeLabel(name: string, typed: Record<string, unknown> | null): Value {
  const [type, value] = Object.entries(typed ?? {})[0] ?? []
  const isDigits = typeof value === 'string' && /^-?[0-9]{1,19}$/.test(value)
  if (type === 'int64' && isDigits) return BigInt(value)
  if (type === 'time' && isDigits) return { timeNs: BigInt(value) }
  if (type === 'float64' && typeof value === 'string') return Number(value)
  if (type === 'string' && typeof value === 'string') return value
  if (type === 'bool' && typeof value === 'boolean') return value
  throw new FramesError('VALUE_TYPE', `schema metadata ${labelsKey} has no value for "${name}"`)
}
