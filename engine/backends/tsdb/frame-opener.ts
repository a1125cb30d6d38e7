// Opens the frames of a job. Those of one shape, whose labels hold for all rows, are opened by what the first of them has
// shown, be it in an earlier job of this worker: names and types are not looked at again.
import { decodeColumn, scanFrame, type WireColumn, type WireFrame } from '../../codec/wire.js'
import type { ColumnSlice } from '../../frame/column-slice.js'
import { dtypeNumbers } from '../../frame/dtype.js'
import type { Kernels } from '../../kernels/kernels.js'
import { copyBytes } from '../../memory/copy.js'
import { frameRowCountMax, labelSetByteLengthMax } from '../../limits.js'
import type { Scratch } from '../../memory/scratch.js'
import type { Slice } from '../../memory/slice.js'
import { type FrameInput, type FrameShape, isSameShape, type LaidFrame, placeFieldCount } from '../frame-input.js'
import { checkTimes, type OpenFrame, type OpenMetric, openFrame } from './append.js'
import type { Grouping } from './grouping.js'

/** What all frames of a shape have in common when each of their columns has a value of 64 bits or a text for each row. */
interface PlainShape {
  readonly metrics: readonly Pick<OpenMetric, 'name' | 'dtype'>[]
  readonly types: OpenFrame['types']
  readonly timeName: string
  /** Labels by name: where their values stand among those of the frame. */
  readonly labelOrder: readonly number[]
  /** Names of labels as the canonical key has them: with the 00 behind, and what ends the value before it ahead. */
  readonly nameTexts: readonly string[]
}

/** The same of wire frames; see kernels/wire-like.ts. */
interface WireShape {
  readonly metrics: PlainShape['metrics']
  readonly types: OpenFrame['types']
  /** Columns, then the index of times. */
  readonly columns: readonly WireColumn[]
  readonly labelCount: number
  /** Names of columns, of the index and of the labels in their order, one behind the other. */
  readonly names: Buffer
  /** The shape as the kernel takes it, but for where names stand. */
  readonly words: Uint32Array
  /** Which of the words say where a name stands; the next one is its byte length. */
  readonly nameWords: readonly number[]
}

/** What the frames of this worker last looked like: names and types that are right once are so in every table. */
let lastPlain: { readonly shape: FrameShape; readonly plain: PlainShape | null } | null = null
let lastWire: WireShape | null = null

/** What ends a label's value in a canonical key; see kernels/labels.ts. */
const valueEnd = '\0\x01'

/** Of the labels that wireScanLike takes: 64, whose names and texts are shorter than 128 bytes. */
const keyByteLengthMax = 64 * (2 * 127 + 3)

/** For the frames of one job. */
export class FrameOpener {
  readonly #kernels: Kernels
  readonly #scratch: Scratch
  readonly #bytes: Buffer
  #shape: FrameShape | null = null
  /** Of that shape; null: its frames are opened one by one, or none has been opened yet. */
  #plain: PlainShape | null = null
  #isWireLearnt = false

  constructor(kernels: Kernels, scratch: Scratch) {
    this.#kernels = kernels
    this.#scratch = scratch
    this.#bytes = Buffer.from(kernels.u8.buffer)
  }

  /** As openFrame. */
  open(input: FrameInput): OpenFrame | null {
    if (input.format === 'wire') return this.#openWire(input.message)
    const { frame } = input
    const { shape } = frame
    const isNew = shape !== this.#shape
    if (isNew) {
      this.#shape = shape
      this.#plain = lastPlain !== null && isSameShape(shape, lastPlain.shape) ? lastPlain.plain : null
    }
    if (this.#plain !== null && frame.rowCount > 0) {
      const opened = this.#openPlain(frame, this.#plain)
      if (opened !== null) return opened
    }
    const opened = openFrame(this.#kernels, this.#scratch, input)
    if (opened !== null && isNew && this.#plain === null) {
      this.#plain = plainShape(shape, opened)
      lastPlain = { shape, plain: this.#plain }
    }
    return opened
  }

  #openWire(message: Slice): OpenFrame | null {
    const alike = lastWire === null ? null : this.#openLike(message, lastWire)
    if (alike !== null) return alike
    const opened = openFrame(this.#kernels, this.#scratch, { format: 'wire', message })
    // Once a job: frames that differ all the time would each be looked at twice.
    if (opened !== null && !this.#isWireLearnt) {
      this.#isWireLearnt = true
      lastWire = wireShape(scanFrame(this.#kernels, message, this.#scratch), opened)
    }
    return opened
  }

  /** Null where something is not as the shape says. */
  #openLike(message: Slice, shape: WireShape): OpenFrame | null {
    const { call, u32 } = this.#kernels
    const scratch = this.#scratch
    const { words, nameWords, names, columns, labelCount, types } = shape
    const mark = scratch.mark()
    const columnCount = columns.length
    const namesPtr = scratch.allocate(names.length)
    copyBytes(names, this.#bytes, namesPtr)
    const shapePtr = scratch.allocate(4 * words.length)
    u32.set(words, shapePtr >> 2)
    let namePtr = namesPtr
    for (const word of nameWords) {
      u32[(shapePtr >> 2) + word] = namePtr
      namePtr += words[word + 1]!
    }
    const resultPtr = scratch.allocate(8 + 8 * columnCount)
    const capacity = Math.min(message.byteLength, keyByteLengthMax)
    const keyPtr = scratch.allocate(capacity)
    const workPtr = scratch.allocate(64 + 12 * (columnCount + labelCount) + 8 * labelCount)
    const { byteOffset, byteLength } = message
    const end = byteOffset + byteLength
    const isAlike = call.wireScanLike(byteOffset, end, shapePtr, resultPtr, keyPtr, capacity, workPtr) === 1
    const result = resultPtr >> 2
    const rowCount = u32[result]!
    const keyByteLength = u32[result + 1]!
    scratch.release(mark)
    if (!isAlike || rowCount === 0 || rowCount > frameRowCountMax) return null
    const found = columns.map((column, i): WireColumn => {
      const place = result + 2 + 2 * i
      return {
        ...column,
        rowCount,
        byteOffset: u32[place]!,
        byteLength: u32[place + 1]!,
        messageByteOffset: byteOffset,
      }
    })
    const keyBytesPtr = scratch.allocate(keyByteLength)
    call.copyBytes(keyPtr, keyByteLength, keyBytesPtr)
    const grouping = this.#groupOf(keyBytesPtr, keyByteLength, rowCount)
    const time = found[columnCount - 1]!
    const timesPtr = decodeColumn(this.#kernels, time, 0, scratch).valuesPtr
    checkTimes(this.#kernels, timesPtr, rowCount, time.name)
    const metrics = shape.metrics.map(({ name, dtype }, i): OpenMetric => {
      const decode = (): ColumnSlice => decodeColumn(this.#kernels, found[i]!, 0, scratch)
      return { name, dtype, kind: 'slice', validityPtr: 0, decode, decodeParts: null, textByteLength: 0 }
    })
    return { rowCount, sentRowCount: rowCount, metrics, types, timesPtr, grouping }
  }

  /** Null where something is not as usual. */
  #openPlain({ shape, rowCount, places, labelValues }: LaidFrame, plain: PlainShape): OpenFrame | null {
    const { metrics, types, timeName } = plain
    for (let column = 0; column <= metrics.length; column++) if (places[placeFieldCount * column + 1] !== 0) return null
    const grouping = this.#oneGroup(plain, labelValues, rowCount)
    if (grouping === null) return null
    const timesPtr = places[placeFieldCount * shape.columns.length]!
    checkTimes(this.#kernels, timesPtr, rowCount, timeName)
    return {
      rowCount,
      sentRowCount: rowCount,
      metrics: metrics.map(({ name, dtype }, i): OpenMetric => {
        const at = placeFieldCount * i
        const valuesPtr = places[at]!
        const bytesPtr = places[at + 2]!
        const byteLength = places[at + 3]!
        const decode = (): ColumnSlice => ({
          name,
          dtype,
          kind: 'slice',
          rowCount,
          valuesPtr,
          validityPtr: 0,
          bytesPtr,
          byteLength,
        })
        return { name, dtype, kind: 'slice', validityPtr: 0, decode, decodeParts: null, textByteLength: byteLength }
      }),
      types,
      timesPtr,
      grouping,
    }
  }

  /** All rows have the frame's labels. */
  #oneGroup(
    { labelOrder, nameTexts }: PlainShape,
    labelValues: LaidFrame['labelValues'],
    rowCount: number,
  ): Grouping | null {
    let key = ''
    for (let i = 0; i < labelOrder.length; i++) {
      const value = labelValues[labelOrder[i]!]!
      // A 00 in a value is written in two bytes, one of which is in no text.
      if (typeof value !== 'string' || value.includes('\0')) return null
      key += nameTexts[i]! + value
    }
    if (labelOrder.length > 0) key += valueEnd
    // No character takes more than three bytes for each unit of its text.
    if (3 * key.length > labelSetByteLengthMax) return null
    const keyBytesPtr = this.#scratch.allocate(3 * key.length)
    return this.#groupOf(keyBytesPtr, this.#bytes.write(key, keyBytesPtr), rowCount)
  }

  #groupOf(keyBytesPtr: number, keyByteLength: number, rowCount: number): Grouping {
    const { u32 } = this.#kernels
    const firstRowsPtr = this.#scratch.allocate(4)
    const keyOffsetsPtr = this.#scratch.allocate(8)
    u32[firstRowsPtr >> 2] = 0
    u32[keyOffsetsPtr >> 2] = 0
    u32[(keyOffsetsPtr >> 2) + 1] = keyByteLength
    return {
      groupCount: 1,
      codesPtr: 0,
      rowStarts: [0, rowCount],
      steps: null,
      firstRowsPtr,
      keyOffsetsPtr,
      keyBytesPtr,
    }
  }
}

/** Null: its frames are opened one by one. A frame of the shape has been opened, so its names are those of metrics and labels. */
function plainShape({ columns, indices, labelNames }: FrameShape, { metrics, types }: OpenFrame): PlainShape | null {
  const [time] = indices
  if (indices.length !== 1 || time === undefined || time.kind !== 'slice' || labelNames.includes('__name__'))
    return null
  const arePlain = columns.every(({ kind, dtype }) => kind === 'slice' && dtype !== 'bool' && dtype !== 'null')
  if (!arePlain || metrics.length !== columns.length) return null
  const labelOrder = labelNames.map((_, i) => i).sort((a, b) => (labelNames[a]! < labelNames[b]! ? -1 : 1))
  return {
    metrics: metrics.map(({ name, dtype }) => ({ name, dtype })),
    types,
    timeName: time.name,
    labelOrder,
    nameTexts: labelOrder.map((label, i) => `${i === 0 ? '' : valueEnd}${labelNames[label]!}\0`),
  }
}

/** As plainShape. Label names have been validated: they are ASCII, so their order as text is that of their bytes. */
function wireShape(frame: WireFrame, { metrics, types }: OpenFrame): WireShape | null {
  const { columns, indices, labels } = frame
  const [time] = indices
  if (indices.length !== 1 || time === undefined || time.kind !== 'slice') return null
  const arePlain = columns.every(({ kind, dtype }) => kind === 'slice' && (dtype === 'int64' || dtype === 'float64'))
  const labelNames = labels.map(({ name }) => name).sort()
  if (!arePlain || metrics.length !== columns.length || labelNames.includes('__name__')) return null
  const all = [...columns, time]
  const names: Buffer[] = []
  const nameWords: number[] = []
  const words = [columns.length, 1, labelNames.length, 0]
  const addName = (name: string): void => {
    const bytes = Buffer.from(name)
    names.push(bytes)
    nameWords.push(words.length)
    words.push(0, bytes.length)
  }
  for (const { name, dtype } of all) {
    words.push(dtypeNumbers[dtype])
    addName(name)
  }
  for (const name of labelNames) addName(name)
  return {
    metrics: metrics.map(({ name, dtype }) => ({ name, dtype })),
    types,
    columns: all,
    labelCount: labelNames.length,
    names: Buffer.concat(names),
    words: Uint32Array.from(words),
    nameWords,
  }
}
