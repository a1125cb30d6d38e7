// Frames as hostile and clumsy clients send them: by field, without any check.
import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf'
import { type Frame, FrameSchema, Column_Kind, DType } from '../../dist/proto/gen/frames_pb.js'

export type ColumnInit = MessageInitShape<typeof import('../../dist/proto/gen/frames_pb.js').ColumnSchema>
export type FrameInit = Omit<MessageInitShape<typeof FrameSchema>, '$typeName'>

export const secondNs = 1_000_000_000n
/** 2024-01-01. */
export const baseNs = 1_704_067_200n * secondNs

export const floats = (name: string, values: number[]): ColumnInit => ({ name, dtype: DType.FLOAT, floats: values })
export const ints = (name: string, values: bigint[]): ColumnInit => ({ name, dtype: DType.INTEGER, ints: values })
export const strings = (name: string, values: string[]): ColumnInit => ({ name, dtype: DType.STRING, strings: values })
export const times = (name: string, values: bigint[]): ColumnInit => ({ name, dtype: DType.TIME, times: values })
/** `count` times, a second apart. */
export const seconds = (count: number, firstNs = baseNs): ColumnInit =>
  times(
    'time',
    Array.from({ length: count }, (_, i) => firstNs + BigInt(i) * secondNs),
  )
export const labelColumn = (name: string, value: string, size: bigint): ColumnInit => ({
  kind: Column_Kind.LABEL,
  name,
  dtype: DType.STRING,
  size,
  strings: [value],
})

export function frameBytes(fields: FrameInit): Uint8Array {
  return toBinary(FrameSchema, create(FrameSchema, fields))
}

/** `rowCount` rows of cpu, a second apart, under one label set. */
export function plainFrame(
  rowCount: number,
  options: { host?: string; firstNs?: bigint; metric?: string } = {},
): Uint8Array {
  return frameBytes({
    columns: [
      floats(
        options.metric ?? 'cpu',
        Array.from({ length: rowCount }, (_, i) => i),
      ),
    ],
    indices: [seconds(rowCount, options.firstNs)],
    labels: { host: { value: { case: 'sval', value: options.host ?? 'a' } } },
  })
}

export const decodeFrame = (bytes: Uint8Array): Frame => fromBinary(FrameSchema, bytes)

export function rowCountOf(frames: readonly Frame[]): number {
  let count = 0
  for (const frame of frames) count += frame.indices[0]?.times.length ?? 0
  return count
}
