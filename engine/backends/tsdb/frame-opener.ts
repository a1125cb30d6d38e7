// Opens the frames of a job. Those of one shape, whose labels hold for all rows, are opened by what the first of them has
// shown: names and types are not looked at again.
import type { ColumnSlice } from '../../frame/column-slice.js'
import type { Kernels } from '../../kernels/kernels.js'
import { labelSetByteLengthMax } from '../../limits.js'
import type { Scratch } from '../../memory/scratch.js'
import { type FrameInput, type FrameShape, type LaidFrame, placeFieldCount } from '../frame-input.js'
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

/** What ends a label's value in a canonical key; see kernels/labels.ts. */
const valueEnd = '\0\x01'

/** For the frames of one job. */
export class FrameOpener {
  readonly #kernels: Kernels
  readonly #scratch: Scratch
  readonly #bytes: Buffer
  #shape: FrameShape | null = null
  #plain: PlainShape | null = null

  constructor(kernels: Kernels, scratch: Scratch) {
    this.#kernels = kernels
    this.#scratch = scratch
    this.#bytes = Buffer.from(kernels.u8.buffer)
  }

  /** As openFrame. */
  open(input: FrameInput): OpenFrame | null {
    if (input.format === 'wire') return openFrame(this.#kernels, this.#scratch, input)
    const { frame } = input
    if (frame.shape === this.#shape && this.#plain !== null && frame.rowCount > 0) {
      const opened = this.#openPlain(frame, this.#plain)
      if (opened !== null) return opened
    }
    const opened = openFrame(this.#kernels, this.#scratch, input)
    if (opened !== null && frame.shape !== this.#shape) {
      this.#shape = frame.shape
      this.#plain = plainShape(frame.shape, opened)
    }
    return opened
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
    const { u32 } = this.#kernels
    const firstRowsPtr = this.#scratch.allocate(4)
    const keyOffsetsPtr = this.#scratch.allocate(8)
    const keyBytesPtr = this.#scratch.allocate(3 * key.length)
    u32[firstRowsPtr >> 2] = 0
    u32[keyOffsetsPtr >> 2] = 0
    u32[(keyOffsetsPtr >> 2) + 1] = this.#bytes.write(key, keyBytesPtr)
    return { groupCount: 1, codesPtr: 0, rowStarts: [0, rowCount], firstRowsPtr, keyOffsetsPtr, keyBytesPtr }
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
