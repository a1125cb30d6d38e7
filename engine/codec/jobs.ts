// Jobs that turn frames into bytes of an outside format, in a worker.
import type { ColumnHead } from '../frame/column-head.js'
import type { ColumnSlice, FrameSlice } from '../frame/column-slice.js'
import type { PlainColumn, PlainFrame } from '../frame/plain.js'
import type { Kernels } from '../kernels/kernels.js'
import { Scratch } from '../memory/scratch.js'
import type { Slice } from '../memory/slice.js'
import type { JobHandler } from '../pool/context.js'
import type { Job } from '../pool/job.js'
import { arrowStreamPart } from './arrow.js'
import { takeFrame } from './columns.js'
import { jsonElements, jsonLines } from './json.js'
import { encodedFrameBound, encodeFrame } from './wire.js'

/** Plain values as one pb.Frame in the job's scratch. */
export interface EncodeFrameJob extends Job {
  readonly kind: 'frame.encode'
  readonly plain: PlainFrame
}

/** One piece of a body: the frame with this index, or (null) the end. */
export interface FormatFrameJob extends Job {
  readonly kind: 'frame.format'
  readonly frame: FrameSlice | null
  readonly format: 'arrow' | 'json' | 'ndjson'
  readonly index: number
  /** arrow: the columns of all frames, the same for each piece. */
  readonly columns: readonly ColumnHead[]
}

const encode: JobHandler<EncodeFrameJob, Slice> = (job, { kernels }) => {
  const scratch = new Scratch(job.scratch)
  const columns = job.plain.columns.map((column) => layPlain(kernels, scratch, column))
  const frame: FrameSlice = { rowCount: columns[0]?.rowCount ?? 0, columns, indices: [], labels: [] }
  const bound = encodedFrameBound(frame)
  const byteOffset = scratch.allocate(bound)
  return { byteOffset, byteLength: encodeFrame(kernels, frame, byteOffset, bound) }
}

const textEncoder = new TextEncoder()

/** A bit a row; 0: none is missing. */
function layValidity(kernels: Kernels, scratch: Scratch, values: PlainColumn['values']): number {
  if (!values.includes(null)) return 0
  const { call } = kernels
  const validityPtr = scratch.allocate(8 * Math.ceil(values.length / 64))
  call.fillBits(validityPtr, values.length, 1)
  values.forEach((value, row) => {
    if (value === null) call.setBitRange(validityPtr, row, row + 1, 0)
  })
  return validityPtr
}

function layPlain(kernels: Kernels, scratch: Scratch, { name, dtype, values }: PlainColumn): ColumnSlice {
  const rowCount = values.length
  const validityPtr = layValidity(kernels, scratch, values)
  const column = { name, dtype, kind: 'slice' as const, rowCount, validityPtr, bytesPtr: 0, byteLength: 0 }
  if (dtype === 'string') {
    const texts = values.map((value) => textEncoder.encode(value === null ? '' : String(value)))
    const byteLength = texts.reduce((sum, text) => sum + text.length, 0)
    const valuesPtr = scratch.allocate(4 * (rowCount + 1))
    const bytesPtr = scratch.allocate(byteLength)
    let end = 0
    texts.forEach((text, row) => {
      kernels.u32[(valuesPtr >> 2) + row] = end
      kernels.u8.set(text, bytesPtr + end)
      end += text.length
    })
    kernels.u32[(valuesPtr >> 2) + rowCount] = end
    return { ...column, valuesPtr, bytesPtr, byteLength }
  }
  const valuesPtr = scratch.allocate(8 * rowCount + 8)
  if (dtype === 'bool') kernels.call.fillBits(valuesPtr, rowCount, 0)
  values.forEach((value, row) => {
    if (dtype === 'bool') kernels.call.setBitRange(valuesPtr, row, row + 1, value === true ? 1 : 0)
    else if (dtype === 'float64') kernels.f64[(valuesPtr >> 3) + row] = Number(value ?? Number.NaN)
    else kernels.i64[(valuesPtr >> 3) + row] = BigInt((value as bigint | null) ?? 0n)
  })
  return { ...column, valuesPtr }
}

const format: JobHandler<FormatFrameJob, Uint8Array> = (job, { kernels }) => {
  const { index } = job
  if (job.format === 'arrow') {
    return arrowStreamPart(job.columns, index, job.frame === null ? null : takeFrame(kernels, job.frame))
  }
  if (job.frame === null) return textEncoder.encode(job.format === 'ndjson' ? '' : index === 0 ? '[]' : ']')
  const frame = takeFrame(kernels, job.frame)
  return job.format === 'ndjson' ? jsonLines(frame) : jsonElements(frame, index === 0 ? '[' : ',')
}

export const frameHandlers = { 'frame.encode': encode, 'frame.format': format }
