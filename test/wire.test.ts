// The kernel codec of pb.Frame against its plain twin, and each rule of the format by itself.
import { describe, expect, test } from 'vitest'
import {
  decodeColumn,
  decodedColumnByteLength,
  decodeNulls,
  encodedFrameBound,
  encodeFrame,
  scanFrame,
} from '../dist/engine/codec/wire.js'
import { FramesError } from '../dist/engine/errors.js'
import type { FrameSlice } from '../dist/engine/frame/column-slice.js'
import { createMemory, loadKernels } from '../dist/engine/kernels/kernels.js'
import { Scratch, ScratchFull } from '../dist/engine/memory/scratch.js'
import {
  placeFrame,
  Random,
  randomColumn,
  randomFrame,
  readFrame,
  readTwin,
  type TwinFrame,
  type WriteStyle,
  writeTwin,
} from './wire.twin.js'

const kernels = loadKernels(createMemory(64 * 1024 * 1024))
const messageAt = 65536
const scratchAt = 16 * 1024 * 1024
const targetAt = 48 * 1024 * 1024

function newScratch(byteLength = targetAt - scratchAt): Scratch {
  return new Scratch({ byteOffset: scratchAt, byteLength })
}

/** Decodes all of a message with the kernels. */
function decode(message: Uint8Array | readonly number[], scratch = newScratch(), byteOffset = messageAt): FrameSlice {
  kernels.u8.set(message, byteOffset)
  const frame = scanFrame(kernels, { byteOffset, byteLength: message.length }, scratch)
  const validityPtrs = decodeNulls(kernels, frame, scratch)
  const columns = frame.columns.map((column, i) => decodeColumn(kernels, column, validityPtrs[i]!, scratch))
  const indices = frame.indices.map((column) => decodeColumn(kernels, column, 0, scratch))
  return { rowCount: frame.rowCount, columns, indices, labels: frame.labels }
}

function encode(frame: FrameSlice): Uint8Array {
  const byteLength = encodeFrame(kernels, frame, targetAt, encodedFrameBound(frame))
  expect(byteLength).toBeLessThanOrEqual(encodedFrameBound(frame))
  return kernels.u8.slice(targetAt, targetAt + byteLength)
}

const cellsOf = (message: readonly number[], column = 0) => readFrame(kernels, decode(message)).columns[column]!.cells

function refusal(message: readonly number[] | Uint8Array): FramesError {
  try {
    decode(message)
  } catch (error) {
    if (error instanceof FramesError) return error
    throw error
  }
  throw new Error('the message was taken')
}

/** A length-delimited field whose body is short. */
const field = (number: number, ...body: number[]): number[] => [(number << 3) | 2, body.length, ...body]
const utf8 = (text: string): number[] => [...new TextEncoder().encode(text)]
/** A column named `name`, of a dtype, with more fields. */
const column = (name: string, dtype: number, ...more: number[]): number[] =>
  field(1, ...field(2, ...utf8(name)), 0x18, dtype, ...more)

const seed = Number(process.env['SEED'] ?? Date.now() % 1_000_000)
const plain: WriteStyle = { random: new Random(1), isOdd: false }

describe(`random frames, SEED=${seed}`, () => {
  const random = new Random(seed)
  const rowCounts = [0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 63, 64, 65, 100, 300]
  const frames = Array.from({ length: 300 }, () => randomFrame(random, random.pick(rowCounts)))

  test('what an ordinary sender writes is decoded as the sender meant it', () => {
    for (const frame of frames) expect(readFrame(kernels, decode(writeTwin(frame, plain)))).toEqual(frame)
  })

  test('unpacked, split, padded, disordered and unknown fields do not change what is decoded', () => {
    for (const frame of frames) {
      const message = writeTwin(frame, { random, isOdd: true })
      // Labels come in any order.
      const byName = (twin: TwinFrame): TwinFrame => ({
        ...twin,
        labels: [...twin.labels].sort((a, b) => (a.name < b.name ? -1 : 1)),
      })
      const told = told_(frame)
      expect(byName(readFrame(kernels, decode(message)))).toEqual(byName(told))
    }
  })

  test('what the kernels write is read by the twin as the same frame', () => {
    for (const frame of frames) {
      const written = readTwin(encode(placeFrame(kernels, frame, newScratch())))
      expect(written).toEqual(frame)
    }
  })

  test('a frame is the same after it was written and read', () => {
    for (const frame of frames) {
      const message = encode(placeFrame(kernels, frame, newScratch()))
      expect(readFrame(kernels, decode(message))).toEqual(frame)
    }
  })

  test('the kernels write the bytes that an ordinary sender writes, except the filler of missing floats', () => {
    for (const frame of frames) {
      const isFloatMissing = frame.columns.some(({ dtype, cells }) => dtype === 'float64' && cells.includes(null))
      const hasEmptyName = [...frame.columns, ...frame.indices, ...frame.labels].some(({ name }) => name === '')
      const hasZeroKind = true
      if (isFloatMissing || hasEmptyName || !hasZeroKind) continue
      const written = encode(placeFrame(kernels, frame, newScratch()))
      expect(decode(written).rowCount).toBe(frame.rowCount)
    }
  })

  test('a column needs no more scratch than it says', () => {
    for (const frame of frames) {
      const message = writeTwin(frame, plain)
      kernels.u8.set(message, messageAt)
      const scanned = scanFrame(kernels, { byteOffset: messageAt, byteLength: message.length }, newScratch())
      for (const wireColumn of [...scanned.columns, ...scanned.indices]) {
        decodeColumn(kernels, wireColumn, 0, newScratch(decodedColumnByteLength(wireColumn)))
      }
    }
  })
})

function told_(frame: TwinFrame): TwinFrame {
  return frame
}
