// Every golden message is read as its author meant it, and what we write in its place means the same: frames through the
// kernel codec, also those inside other messages, everything else through the generated protobuf code.
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { createRegistry, type DescMessage, fromBinary, type JsonValue, toBinary, toJson } from '@bufbuild/protobuf'
import { describe, expect, test } from 'vitest'
import { decodeColumn, decodeNulls, encodedFrameBound, encodeFrame, scanFrame } from '../dist/engine/codec/wire.js'
import type { FrameSlice } from '../dist/engine/frame/column-slice.js'
import type { Value } from '../dist/engine/frame/dtype.js'
import { createMemory, loadKernels } from '../dist/engine/kernels/kernels.js'
import { Scratch } from '../dist/engine/memory/scratch.js'
import {
  ExecResponseSchema,
  file_envelope,
  InitialWriteRequestSchema,
  WriteRequestSchema,
} from '../dist/proto/gen/envelope_pb.js'
import { file_frames } from '../dist/proto/gen/frames_pb.js'
import { type Cell, readFrame, type TwinColumn } from './wire.twin.js'

type Json = { readonly [key: string]: unknown }

interface Golden {
  readonly file: string
  readonly message: string
  readonly framing: string
  readonly bytes: number
  readonly sha256: string
  readonly expected: Json | readonly Json[]
}

const folder = new URL('./golden/', import.meta.url)
const index = JSON.parse(readFileSync(new URL('index.json', folder), 'utf8')) as { entries: Golden[] }
const registry = createRegistry(file_frames, file_envelope)
const kernels = loadKernels(createMemory(4 * 1024 * 1024))

function schemaOf(typeName: string): DescMessage {
  const schema = registry.getMessage(typeName)
  if (schema === undefined) throw new Error(`no message ${typeName}`)
  return schema
}

// ---- Frames through the kernels, written as `expected` is ----

const names = {
  int64: 'INTEGER',
  float64: 'FLOAT',
  string: 'STRING',
  time: 'TIME',
  bool: 'BOOLEAN',
  null: 'NULL',
} as const
const arrays = {
  int64: 'ints',
  float64: 'floats',
  string: 'strings',
  time: 'times',
  bool: 'bools',
  null: 'bools',
} as const
const fillers = { int64: 0n, float64: 0, string: '', time: 0n, bool: false, null: false } as const

function doubleJson(value: number): unknown {
  return Object.is(value, -0) ? '-0' : Number.isFinite(value) ? value : String(value)
}

function cellJson(cell: Cell): unknown {
  return typeof cell === 'bigint' ? String(cell) : typeof cell === 'number' ? doubleJson(cell) : cell
}

function columnJson({ name, dtype, kind, rowCount, cells }: TwinColumn): Json {
  const values = dtype === 'null' && kind === 'label' ? [false] : cells.map((cell) => cellJson(cell ?? fillers[dtype]))
  return {
    ...(kind === 'label' ? { kind: 'LABEL', size: String(rowCount) } : {}),
    ...(name === '' ? {} : { name }),
    dtype: names[dtype],
    ...(values.length === 0 ? {} : { [arrays[dtype]]: values }),
  }
}

function valueJson(value: Value): Json {
  if (typeof value === 'bigint') return { ival: String(value) }
  if (typeof value === 'number') return { fval: doubleJson(value) }
  if (typeof value === 'string') return { sval: value }
  return typeof value === 'boolean' ? { bval: value } : { tval: String(value.timeNs) }
}

function frameJson(frame: FrameSlice): Json {
  const { columns, indices, labels, rowCount } = readFrame(kernels, frame)
  const nulls = Array.from({ length: rowCount }, (_, row) => {
    const missing = columns.filter(
      ({ dtype, kind, cells }) => kind === 'slice' && (dtype === 'null' || cells[row] === null),
    )
    return missing.length > 0 ? { nullColumns: Object.fromEntries(missing.map(({ name }) => [name, true])) } : {}
  })
  return {
    ...(columns.length > 0 ? { columns: columns.map(columnJson) } : {}),
    ...(indices.length > 0 ? { indices: indices.map(columnJson) } : {}),
    ...(labels.length > 0
      ? { labels: Object.fromEntries(labels.map(({ name, value }) => [name, valueJson(value)])) }
      : {}),
    ...(nulls.some((map) => 'nullColumns' in map) ? { null_values: nulls } : {}),
  }
}

const messageAt = 65536
const targetAt = 2 * 1024 * 1024

/** Reads a frame with the kernels; `rewritten` is what they write in its place. */
function throughKernels(bytes: Uint8Array): { json: Json; error: string; rewritten: Uint8Array } {
  kernels.u8.set(bytes, messageAt)
  const scratch = new Scratch({ byteOffset: 1024 * 1024, byteLength: 1024 * 1024 })
  const scanned = scanFrame(kernels, { byteOffset: messageAt, byteLength: bytes.length }, scratch)
  const validityPtrs = decodeNulls(kernels, scanned, scratch)
  const frame = {
    rowCount: scanned.rowCount,
    columns: scanned.columns.map((column, i) => decodeColumn(kernels, column, validityPtrs[i]!, scratch)),
    indices: scanned.indices.map((column) => decodeColumn(kernels, column, 0, scratch)),
    labels: scanned.labels,
  }
  const byteLength = encodeFrame(kernels, frame, targetAt, encodedFrameBound(frame))
  return { json: frameJson(frame), error: scanned.error, rewritten: kernels.u8.slice(targetAt, targetAt + byteLength) }
}

/** A message as the generated code reads it. */
function generatedJson(typeName: string, bytes: Uint8Array): unknown {
  const schema = schemaOf(typeName)
  const json = toJson(schema, fromBinary(schema, bytes), { registry, useProtoFieldName: true })
  const negativeZero = (value: JsonValue): JsonValue =>
    Object.is(value, -0)
      ? '-0'
      : Array.isArray(value)
        ? value.map(negativeZero)
        : typeof value === 'object' && value !== null
          ? Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, negativeZero(inner!)]))
          : value
  return negativeZero(json)
}

/** The same frame with NaN in missing floats: what framesd writes. */
function withNaNFillers(frame: Json): Json {
  const nulls = (frame['null_values'] ?? []) as readonly { nullColumns?: Json }[]
  const columns = (frame['columns'] ?? []) as readonly { name?: string; floats?: readonly unknown[] }[]
  if (columns.length === 0) return frame
  return {
    ...frame,
    columns: columns.map((column) => {
      if (column.floats === undefined) return column
      const isMissing = (row: number) => nulls[row]?.nullColumns?.[column.name ?? ''] === true
      return { ...column, floats: column.floats.map((value, row) => (isMissing(row) ? 'NaN' : value)) }
    }),
  }
}

function hasLongMap(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false
  return Object.entries(value).some(([key, inner]) => {
    const isMap = ['labels', 'args', 'properties', 'nullColumns'].includes(key)
    return (isMap && Object.keys(inner as Json).length > 1) || hasLongMap(inner)
  })
}

function expectFrame(bytes: Uint8Array, expected: Json, isCanonical: boolean): void {
  const { json, error, rewritten } = throughKernels(bytes)
  expect({ ...json, ...(error === '' ? {} : { error }) }).toEqual(expected)
  const { error: _, ...withoutError } = expected
  const meant = withNaNFillers(withoutError)
  expect(generatedJson('pb.Frame', rewritten)).toEqual(meant)
  const hasNaNFiller = JSON.stringify(meant) !== JSON.stringify(withoutError)
  if (isCanonical && error === '' && !hasNaNFiller && !hasLongMap(expected)) {
    expect(Buffer.from(rewritten).toString('hex')).toBe(Buffer.from(bytes).toString('hex'))
  }
}

/** The frame in an envelope field, which protobuf may have cut into parts. */
function joined(parts: readonly Uint8Array[]): Uint8Array | undefined {
  return parts.length > 0 ? Buffer.concat(parts) : undefined
}

function expectInitialWriteRequest(message: { initialData: readonly Uint8Array[] }, expected: Json): void {
  const frame = joined(message.initialData)
  expect(frame !== undefined).toBe('initial_data' in expected)
  if (frame !== undefined) expectFrame(frame, expected['initial_data'] as Json, true)
}

function expectMessage(typeName: string, bytes: Uint8Array, expected: Json, file: string): void {
  const isCanonical = file !== 'frame_ints_unpacked.bin' && file !== 'frame_unknown_field.bin'
  expect(generatedJson(typeName, bytes)).toEqual(expected)
  const schema = schemaOf(typeName)
  const rewritten = toBinary(schema, fromBinary(schema, bytes))
  expect(generatedJson(typeName, rewritten)).toEqual(expected)
  if (isCanonical && !hasLongMap(expected)) {
    expect(Buffer.from(rewritten).toString('hex')).toBe(Buffer.from(bytes).toString('hex'))
  }

  if (typeName === 'pb.Frame') expectFrame(bytes, expected, isCanonical)
  if (typeName === 'pb.InitialWriteRequest') {
    expectInitialWriteRequest(fromBinary(InitialWriteRequestSchema, bytes), expected)
  }
  if (typeName === 'pb.WriteRequest') {
    const { request, frame: parts } = fromBinary(WriteRequestSchema, bytes)
    expect(request !== undefined).toBe('request' in expected)
    if (request !== undefined) expectInitialWriteRequest(request, expected['request'] as Json)
    const frame = joined(parts)
    expect(frame !== undefined).toBe('frame' in expected)
    if (frame !== undefined) expectFrame(frame, expected['frame'] as Json, true)
  }
  if (typeName === 'pb.ExecResponse') {
    expectFrame(joined(fromBinary(ExecResponseSchema, bytes).frame)!, expected['frame'] as Json, true)
  }
}

/** The messages of a body, each after its length. */
function framed(body: Uint8Array): Uint8Array[] {
  const messages: Uint8Array[] = []
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength)
  for (let position = 0; position < body.byteLength; ) {
    const byteLength = Number(view.getBigInt64(position, true))
    messages.push(body.subarray(position + 8, position + 8 + byteLength))
    position += 8 + byteLength
  }
  return messages
}

/** Type names of a framed file: "pb.InitialWriteRequest, then pb.Frame x2". */
function typeNames(message: string): string[] {
  return message.split(', then ').flatMap((part) => {
    const [typeName, times] = part.split(' x') as [string, string | undefined]
    return Array<string>(Number(times ?? 1)).fill(typeName)
  })
}

describe('golden messages', () => {
  test('the index names every file', () => {
    const files = readdirSync(folder).filter((name) => name.endsWith('.bin'))
    expect(index.entries.map(({ file }) => file).sort()).toEqual(files.sort())
  })

  test.each(index.entries.map((entry) => [entry.file, entry] as const))('%s', (file, golden) => {
    const bytes = new Uint8Array(readFileSync(new URL(file, folder)))
    expect(bytes.byteLength).toBe(golden.bytes)
    expect(createHash('sha256').update(bytes).digest('hex')).toBe(golden.sha256)
    if (golden.framing === 'none') {
      expectMessage(golden.message, bytes, golden.expected as Json, file)
      return
    }
    const types = typeNames(golden.message)
    const messages = framed(bytes)
    expect(messages.length).toBe(types.length)
    for (const [i, message] of messages.entries()) {
      expectMessage(types[i]!, message, (golden.expected as readonly Json[])[i]!, file)
    }
  })

  test('a frame that protobuf cut into two records is the merged frame', () => {
    const [, first, second] = framed(new Uint8Array(readFileSync(new URL('http_write_body.bin', folder))))
    const record = (bytes: Uint8Array) => Buffer.concat([Buffer.from([0x12, bytes.length]), bytes])
    const message = Buffer.concat([record(first!.subarray(0, 21)), record(first!.subarray(21))])
    expect(Buffer.from(first!)).toEqual(Buffer.from(second!))
    expect(joined(fromBinary(WriteRequestSchema, message).frame)).toEqual(Buffer.from(first!))
  })
})
