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
import { fromBinary } from '@bufbuild/protobuf'
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
  readGenerated,
  readTwin,
  type TwinFrame,
  type WriteStyle,
  writeTwin,
} from './wire.twin.js'
import { FrameSchema } from '../dist/proto/gen/frames_pb.js'

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

  test('a scratch that hands out from its end serves as well', () => {
    for (const frame of frames) {
      expect(readFrame(kernels, decode(writeTwin(frame, plain), newScratch().back()))).toEqual(frame)
    }
  })

  test('unpacked, split, padded, disordered and unknown fields do not change what is decoded', () => {
    for (const frame of frames) {
      expect(readFrame(kernels, decode(writeTwin(frame, { random, isOdd: true })))).toEqual(frame)
    }
  })

  test('what the twin and the kernels write is read by the generated code as the same frame', () => {
    for (const frame of frames) {
      // That keeps labels in an object, which orders some keys by itself.
      const { labels, ...columns } = frame
      const byName = new Map(labels.map((label) => [label.name, label]))
      for (const message of [
        writeTwin(frame, { random, isOdd: true, sparesMaps: true }),
        encode(placeFrame(kernels, frame, newScratch())),
      ]) {
        const { labels: labelsRead, ...columnsRead } = readGenerated(message)
        expect(columnsRead).toEqual(columns)
        expect(new Map(labelsRead.map((label) => [label.name, label]))).toEqual(byName)
      }
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

describe('values', () => {
  const ints = (...bytes: number[]) => cellsOf(column('i', 1, ...field(5, ...bytes)))

  test('every length of varint gives its number, in a block and at the end', () => {
    for (let bits = 0n; bits <= 64n; bits++) {
      const values = [(1n << bits) - 1n, BigInt.asIntN(64, -(1n << bits)), 1n << (bits > 62n ? 62n : bits)]
      const cells = Array.from({ length: 41 }, (_, row) => BigInt.asIntN(64, values[row % 3]!))
      const frame: TwinFrame = {
        rowCount: cells.length,
        columns: [{ name: 'i', dtype: 'int64', kind: 'slice', rowCount: cells.length, cells }],
        indices: [],
        labels: [],
      }
      expect(readFrame(kernels, decode(writeTwin(frame, plain)))).toEqual(frame)
      expect(encode(placeFrame(kernels, frame, newScratch()))).toEqual(writeTwin(frame, plain))
    }
  })

  test('a varint of eleven bytes, of more than 64 bits, or cut off is refused at its byte', () => {
    const long = [255, 255, 255, 255, 255, 255, 255, 255, 255]
    expect(ints(...long, 1)).toEqual([-1n])
    const refused = [
      [1, ...long, 2],
      [1, ...long, 128, 1],
      [1, 128],
    ]
    for (const bytes of refused) {
      // Alone it is read byte by byte, before twenty values in blocks of eight.
      for (const rest of [[], Array<number>(20).fill(3)]) {
        if (bytes.length === 2 && rest.length > 0) continue
        const error = refusal(column('i', 1, ...field(5, ...bytes, ...rest)))
        expect(error.code).toBe('MALFORMED_FRAME')
        expect(error.message).toMatch(/^(column "i"|column 0): a varint .* at byte \d+\. /)
      }
    }
    expect(refusal(column('i', 1, ...field(5, 1, ...long, 2))).message).toContain('at byte 10.')
  })

  test('any number but 0 is true', () => {
    const bytes = [0, 1, 2, 127, 0x80, 0x01, 0x80, 0x00, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1]
    const plainly = Array.from({ length: 40 }, (_, i) => (i * 7) % 3)
    const cells = cellsOf(column('b', 5, ...field(9, ...bytes, ...plainly)))
    expect(cells).toEqual([false, true, true, true, true, false, true, ...plainly.map((value) => value !== 0)])
  })

  test('every bit of a NaN is kept, both ways', () => {
    const nan = [1, 2, 3, 4, 5, 0, 0xf4, 0x7f]
    const frame = decode(column('f', 2, ...field(6, ...nan)))
    expect([...kernels.u8.slice(frame.columns[0]!.valuesPtr, frame.columns[0]!.valuesPtr + 8)]).toEqual(nan)
    expect([...encode(frame)]).toEqual(column('f', 2, ...field(6, ...nan)))
  })

  test('packed doubles must be whole', () => {
    expect(refusal(column('f', 2, ...field(6, 1, 2, 3))).message).toContain('no multiple of 8')
  })

  test('text that is not UTF-8 is refused with its row', () => {
    const strings = (...texts: number[][]) => column('s', 3, ...texts.flatMap((bytes) => field(7, ...bytes)))
    const bad = [[0xff], [0xc3], [0xed, 0xa0, 0x80], [0xc0, 0x80], [0xf4, 0x90, 0x80, 0x80], [0xe2, 0x82]]
    for (const bytes of bad) {
      expect(refusal(strings([97], bytes, [98])).message).toContain('column "s": row 1 is not UTF-8')
    }
    // A character that is cut in two by the end of a string is not put together again.
    expect(refusal(strings([0xc3], [0xa9])).message).toContain('row 0 is not UTF-8')
    expect(refusal(field(1, ...field(2, 0xff), 0x18, 1)).message).toContain('the name of column 0 is not UTF-8')
  })

  test('a byte order mark is text like any other', () => {
    const { columns } = decode(column('\ufeffs', 3, ...field(7, ...utf8('\ufeffx'))))
    expect([
      columns[0]!.name,
      ...readFrame(kernels, { rowCount: 1, columns, indices: [], labels: [] }).columns[0]!.cells,
    ]).toEqual(['\ufeffs', '\ufeffx'])
  })

  test('a sender may put text into a missing cell, but it must be text', () => {
    const missing = field(5, ...field(1, ...field(1, ...utf8('s')), 0x10, 1))
    expect(cellsOf([...column('s', 3, ...field(7, 97), ...field(7, 98)), 0x2a, 0, ...missing])).toEqual(['a', null])
    const bad = [...column('s', 3, ...field(7, 97), ...field(7, 0xff)), 0x2a, 0, ...missing]
    expect(refusal(bad).message).toContain('column "s": row 1 is not UTF-8')
  })
})

describe('texts that repeat', () => {
  /** A string column by hand; texts of 128 bytes and more have two bytes of length. */
  const strings = (texts: readonly string[], extra: (row: number) => number[] = () => []): Uint8Array => {
    const body: number[] = [...field(2, 115), 0x18, 3]
    texts.forEach((text, row) => {
      const bytes = utf8(text)
      const length = bytes.length < 128 ? [bytes.length] : [(bytes.length & 127) | 128, bytes.length >> 7]
      for (const part of [extra(row), [0x3a], length, bytes]) for (const byte of part) body.push(byte)
    })
    const { length } = body
    return Uint8Array.from([0x0a, (length & 127) | 128, ((length >> 7) & 127) | 128, length >> 14].concat(body))
  }
  const read = (message: Uint8Array): unknown[] => [...readFrame(kernels, decode(message)).columns[0]!.cells]

  test('are what was written, whatever repeats, and where it ends', () => {
    const random = new Random(seed)
    const alphabet = ['', 'a', 'b', 'é', 'eu-west-1', 'eu-west-2', 'x'.repeat(127), 'y'.repeat(130), 'linux'.repeat(3)]
    for (let round = 0; round < 300; round++) {
      const period = Array.from({ length: 1 + random.below(random.pick([1, 3, 30, 200])) }, () => random.pick(alphabet))
      const texts = Array.from({ length: random.below(1000) }, (_, row) => period[row % period.length]!)
      for (let change = random.below(4); change > 0 && texts.length > 0; change--)
        texts.splice(random.below(texts.length), random.below(2), ...(random.below(2) ? [random.pick(alphabet)] : []))
      expect(read(strings(texts)), `SEED=${seed}, round ${round}`).toEqual(texts)
    }
  })

  test('are written so that others read them, whatever repeats', () => {
    const random = new Random(seed + 1)
    const alphabet = ['', 'a', 'b', 'é', 'eu-west-1', 'eu-west-2', 'x'.repeat(127), 'y'.repeat(130), 'linux'.repeat(3)]
    for (let round = 0; round < 300; round++) {
      const period = Array.from({ length: 1 + random.below(random.pick([1, 3, 30, 200])) }, () => random.pick(alphabet))
      const texts = Array.from({ length: random.below(1000) }, (_, row) => period[row % period.length]!)
      if (texts.length > 0 && random.below(2)) texts[random.below(texts.length)] = random.pick(alphabet)
      const written = encode(decode(strings(texts)))
      expect(fromBinary(FrameSchema, written).columns[0]!.strings, `SEED=${seed}, round ${round}`).toEqual(texts)
    }
  })

  test('may have other fields between them', () => {
    const texts = Array.from({ length: 500 }, (_, row) => `t${row % 7}`)
    const unknown = (row: number): number[] => (row % 7 === 3 ? [0x78, row % 7] : [])
    expect(read(strings(texts, unknown))).toEqual(texts)
  })

  test('that are not UTF-8 are refused with the first row that is not', () => {
    const message = strings(Array.from({ length: 400 }, (_, row) => ['ab', 'cd', 'ef'][row % 3]!))
    for (const row of [1, 4, 399]) {
      const bad = message.slice()
      bad[bad.length - 4 * (400 - row) + 3] = 0xff
      expect(refusal(bad).message).toContain(`row ${row} is not UTF-8`)
    }
    // The same again and again: the first one is named.
    expect(refusal(column('s', 3, ...new Array(20).fill(field(7, 97, 0xff)).flat())).message).toContain('row 0 is not')
  })

  test('are refused where they are cut off', () => {
    const message = strings(Array.from({ length: 200 }, (_, row) => `text ${row % 5}`))
    const memory = kernels.u8.byteLength
    for (let byteLength = message.length - 40; byteLength < message.length; byteLength++) {
      // At the end of the memory a read behind the message traps.
      expect(() => decode(message.subarray(0, byteLength), newScratch(), memory - byteLength)).toThrow(FramesError)
    }
  })
})

describe('structure', () => {
  test('short texts are copied in blocks without a read behind the memory', () => {
    // The dropped text leaves room for whole blocks in the target; the source has none.
    const missing = [...field(5, ...field(1, ...field(1, ...utf8('s')))), 0x2a, 0]
    const message = [...missing, ...column('s', 3, ...field(7, ...utf8('dropped '.repeat(9))), ...field(7, 98))]
    const frame = decode(message, newScratch(), kernels.u8.byteLength - message.length)
    expect(readFrame(kernels, frame).columns[0]!.cells).toEqual([null, 'b'])
  })

  test('a message cut off anywhere is refused or is a shorter message, and nothing is read behind its end', () => {
    const random = new Random(7)
    const memory = kernels.u8.byteLength
    for (let i = 0; i < 20; i++) {
      const message = writeTwin(randomFrame(random, 9), { random, isOdd: true })
      for (let byteLength = 0; byteLength < message.length; byteLength++) {
        try {
          // At the end of the memory a read behind the message traps.
          decode(message.subarray(0, byteLength), newScratch(), memory - byteLength)
        } catch (error) {
          expect(error).toBeInstanceOf(FramesError)
        }
      }
    }
  })

  test('an empty message is a frame without anything', () => {
    expect(readFrame(kernels, decode([]))).toEqual({ rowCount: 0, columns: [], indices: [], labels: [] })
  })

  test('unknown fields of every wire type are skipped, a group must be closed', () => {
    const group = [0xfb, 1, ...[0xfb, 1, 0xfc, 1], 0xfc, 1]
    expect(cellsOf([...group, ...column('i', 1, ...field(5, 1), ...group)])).toEqual([1n])
    for (const bad of [[0xfb, 1], [0xfb, 1, 0x84, 2], [0xfc, 1], [0xfe, 1], [0], [0x02, 0]]) {
      expect(refusal(bad).code).toBe('MALFORMED_FRAME')
    }
    const deep = Array<number>(200).fill(0x53)
    expect(refusal([...deep, ...Array<number>(200).fill(0x54)]).code).toBe('MALFORMED_FRAME')
  })

  test('a known field of another wire type is refused', () => {
    for (const bad of [
      [0x08, 1],
      [0x2d, 1, 2, 3, 4],
      column('i', 1, 0x12 - 2, 1),
      column('i', 1, 0x29, 1, 2, 3, 4, 5, 6, 7, 8),
    ]) {
      expect(refusal(bad).message).toContain('a field has the wrong wire type')
    }
  })

  test('a column needs a dtype and a kind that exist', () => {
    expect(refusal(column('x', 0)).message).toContain('column "x" has no valid dtype (0)')
    expect(refusal(column('x', 7)).message).toContain('column "x" has no valid dtype (7)')
    expect(refusal(column('x', 1, 0x08, 2)).message).toContain('column "x" has no valid kind (2)')
  })

  test('values of another dtype than the column has are refused', () => {
    expect(refusal(column('x', 1, ...field(5, 1), ...field(8, 1))).message).toContain(
      'column "x" of dtype int64 has 1 values in times',
    )
    expect(refusal(column('x', 6, ...field(9, 0))).message).toContain('has 1 values in bools')
  })

  test('columns of different lengths are refused with the name and both lengths', () => {
    const two = [...column('a', 1, ...field(5, 1, 2)), ...column('b', 1, ...field(5, 1))]
    expect(refusal(two).code).toBe('FRAME_SHAPE')
    expect(refusal(two).message).toContain('"b" column size mismatch (1 != 2)')
    const index = [0x12, ...column('', 1, ...field(5, 1, 2, 3)).slice(1)]
    expect(refusal([...two.slice(0, 11), ...index]).message).toContain('"a" column size mismatch (2 != 3)')
    expect(refusal([...index, ...index, 0x12, ...column('', 1).slice(1)]).message).toContain(
      'index column 2 size mismatch (0 != 3)',
    )
  })

  test('columns of one name stay two columns with the same missing cells', () => {
    const twin = column('x', 1, ...field(5, 1, 2))
    const nulls = [...field(5, ...field(1, ...field(1, ...utf8('x')))), 0x2a, 0]
    const { columns } = readFrame(kernels, decode([...twin, ...twin, ...nulls]))
    expect(columns.map(({ cells }) => cells)).toEqual([
      [null, 2n],
      [null, 2n],
    ])
  })
})

describe('label columns', () => {
  const label = (dtype: number, size: number[], ...values: number[]) =>
    column('l', dtype, 0x08, 1, 0x20, ...size, ...values)

  test('a claim of 10^12 rows is refused before anything is allocated', () => {
    const size = [0x80, 0xa0, 0x94, 0xa5, 0x8d, 0x1d]
    const message = label(1, size, ...field(5, 7))
    kernels.u8.set(message, messageAt)
    const scratch = newScratch(512)
    const scan = () => scanFrame(kernels, { byteOffset: messageAt, byteLength: message.length }, scratch)
    expect(scan).toThrow('column "l" has size 1000000000000, at most 16777216 rows are allowed')
    expect(refusal(message).code).toBe('FRAME_TOO_LARGE')
  })

  test('a label has exactly one value and no negative size', () => {
    expect(refusal(label(1, [2])).message).toContain('has 0 values instead of one')
    expect(refusal(label(1, [2], ...field(5, 1, 1))).message).toContain('has 2 values instead of one')
    const minusOne = [255, 255, 255, 255, 255, 255, 255, 255, 255, 1]
    expect(refusal(label(1, minusOne, ...field(5, 1))).message).toContain('has size -1')
  })

  test('a label stays one value however many rows it stands for', () => {
    const { columns, rowCount } = decode(label(3, [0x80, 0x80, 0x80, 8], ...field(7, ...utf8('srv'))), newScratch(512))
    expect([rowCount, columns[0]!.kind, columns[0]!.byteLength]).toEqual([16 * 2 ** 20, 'label', 3])
  })

  test('a label some of whose rows are missing becomes a slice', () => {
    const nulls = [0x2a, 0, ...field(5, ...field(1, ...field(1, ...utf8('l')))), 0x2a, 0]
    const cells = (dtype: number, ...values: number[]) => cellsOf([...label(dtype, [3], ...values), ...nulls])
    expect(cells(1, ...field(5, 7))).toEqual([7n, null, 7n])
    expect(cells(2, ...field(6, 0, 0, 0, 0, 0, 0, 0xf8, 0x3f))).toEqual([1.5, null, 1.5])
    expect(cells(3, ...field(7, ...utf8('ab')))).toEqual(['ab', null, 'ab'])
    expect(cells(4, ...field(8, 9))).toEqual([9n, null, 9n])
    expect(cells(5, ...field(9, 1))).toEqual([true, null, true])
    expect(cells(5, ...field(9, 0))).toEqual([false, null, false])
    expect(cells(6)).toEqual([])
  })

  test('a label of dtype null carries one false', () => {
    const frame: TwinFrame = {
      rowCount: 2,
      columns: [],
      indices: [{ name: 'id', dtype: 'null', kind: 'label', rowCount: 2, cells: [] }],
      labels: [],
    }
    const bytes = encode(placeFrame(kernels, frame, newScratch()))
    expect(Buffer.from(bytes).toString('hex')).toBe('120d08011202696418062002' + '4a0100')
  })

  test('a label whose one value is missing is written as its filler, missing in every row', () => {
    const scratch = newScratch()
    const validityPtr = scratch.allocate(1)
    const valuesPtr = scratch.allocate(8)
    kernels.u8[validityPtr] = 0
    kernels.f64[valuesPtr / 8] = 0
    const one = {
      name: 'l',
      dtype: 'float64',
      kind: 'label',
      rowCount: 2,
      valuesPtr,
      validityPtr,
      bytesPtr: 0,
    } as const
    const bytes = encode({ rowCount: 2, columns: [{ ...one, byteLength: 0 }], indices: [], labels: [] })
    expect(cellsOf([...bytes])).toEqual([null, null])
    expect(readTwin(bytes).columns[0]!.cells).toEqual([Number.NaN])
  })
})

describe('missing cells', () => {
  const missing = (...names: string[]) =>
    field(5, ...names.flatMap((name) => field(1, ...field(1, ...utf8(name)), 0x10, 0)))
  const two = column('x', 1, ...field(5, 1, 2))

  test('only the presence of a key counts', () => {
    expect(cellsOf([...two, ...missing('x', 'x'), 0x2a, 0])).toEqual([null, 2n])
  })

  test('null maps may stand before the columns and between them', () => {
    expect(cellsOf([0x2a, 0, ...two, ...missing('x')])).toEqual([1n, null])
  })

  test('the number of null maps is the number of rows, or none', () => {
    expect(refusal([...two, 0x2a, 0]).message).toContain('null_values has 1 maps for 2 rows')
    expect(refusal([...two, 0x2a, 0, 0x2a, 0, 0x2a, 0]).code).toBe('FRAME_SHAPE')
  })

  test('a name that is no data column is refused by name and row', () => {
    const index = [0x12, ...column('i', 1, ...field(5, 1, 2)).slice(1)]
    expect(refusal([...two, ...index, 0x2a, 0, ...missing('i')]).message).toContain(
      'null_values of row 1 name "i", which is no data column',
    )
    expect(refusal([...index, ...missing(''), 0x2a, 0]).message).toContain('null_values of row 0 name ""')
  })

  test('slices of dtype null have as many rows as the rest of the frame, or as there are null maps', () => {
    const nothing = column('n', 6)
    expect(decode([...nothing, ...two]).columns.map(({ rowCount }) => rowCount)).toEqual([2, 2])
    expect(decode([...nothing, ...missing('n'), ...missing('n'), ...missing('n')]).rowCount).toBe(3)
    expect(decode(nothing).rowCount).toBe(0)
  })

  test('a frame of nothing but slices of dtype null keeps its row count', () => {
    const index = { name: 'i', dtype: 'null', kind: 'slice', rowCount: 3, cells: [] } as const
    const frame: TwinFrame = { rowCount: 3, columns: [], indices: [index], labels: [] }
    const bytes = encode(placeFrame(kernels, frame, newScratch()))
    expect(readFrame(kernels, decode(bytes))).toEqual(frame)
  })

  test('a bitmap without a missing cell makes no null maps', () => {
    const scratch = newScratch()
    const frame = decode(two, scratch)
    const validityPtr = scratch.allocate(1)
    kernels.u8[validityPtr] = 3
    expect([...encode({ ...frame, columns: [{ ...frame.columns[0]!, validityPtr }] })]).toEqual(two)
  })

  test('missing floats are NaN on the wire and 0 in memory', () => {
    const random = new Random(3)
    const frame: TwinFrame = {
      rowCount: 20,
      columns: [randomColumn(random, 'f', 20, { dtype: 'float64', isLabel: false, missing: 0.5 })],
      indices: [],
      labels: [],
    }
    const bytes = encode(placeFrame(kernels, frame, newScratch()))
    const cells = readTwin(bytes.subarray(0, bytes.indexOf(0x2a, 170))).columns[0]!.cells
    expect(cells.map((cell) => (Number.isNaN(cell) ? null : cell))).toEqual(
      frame.columns[0]!.cells.map((cell) => (Number.isNaN(cell) ? null : cell)),
    )
    // readFrame throws when a missing cell of the decoded column holds anything but its filler.
    expect(readFrame(kernels, decode(bytes))).toEqual(frame)
  })

  test('a thousand columns with missing cells are told apart', () => {
    const random = new Random(4)
    const columns = Array.from({ length: 1000 }, (_, i) =>
      randomColumn(random, `${i % 2 ? 'a name of more than sixteen bytes ' : 'n'}${i}`, 5, {
        dtype: 'bool',
        missing: 0.5,
      }),
    )
    const frame: TwinFrame = { rowCount: 5, columns, indices: [], labels: [] }
    expect(readFrame(kernels, decode(writeTwin(frame, plain)))).toEqual(frame)
    const bytes = encode(placeFrame(kernels, frame, newScratch()))
    expect(readFrame(kernels, decode(bytes))).toEqual(frame)
  })
})

describe('labels of a frame', () => {
  const labelsOf = (message: readonly number[]) => decode(message).labels

  test('the last entry of a name wins, and in it the last member of the value', () => {
    const entry = (...value: number[]) => field(3, ...field(1, 97), ...field(2, ...value))
    expect(labelsOf([...entry(0x08, 1), ...entry(0x08, 1, 0x28, 0)])).toEqual([{ name: 'a', value: false }])
    expect(labelsOf(field(3, ...field(2, 0x20, 5)))).toEqual([{ name: '', value: { timeNs: 5n } }])
    expect(labelsOf(field(3, ...field(2, 0x08, 5), ...field(2, 0x52, 0), ...field(1, 98)))).toEqual([
      { name: 'b', value: 5n },
    ])
  })

  test('an entry without a value is refused by name', () => {
    expect(refusal(field(3, ...field(1, 97))).message).toContain('label "a" has no value')
    expect(refusal(field(3, ...field(1, 97), ...field(2, 0x52, 0))).message).toContain('label "a" has no value')
  })

  test('broken entries are refused', () => {
    const broken = [
      [0x0a],
      [0x0a, 5],
      [0x12, 1, 0x09],
      [0x12, 2, 0x0d, 1],
      [0x12, 3, 0x1a, 1, 0xff],
      [0x12, 1, 0x08],
      [0x08, 1],
    ]
    for (const bytes of broken) expect(refusal(field(3, ...bytes)).code).toBe('MALFORMED_FRAME')
  })
})

describe('limits', () => {
  const scan = (message: Uint8Array, scratch = newScratch()) => {
    kernels.u8.set(message, messageAt)
    return scanFrame(kernels, { byteOffset: messageAt, byteLength: message.length }, scratch)
  }

  test('columns, labels, rows, and names and labels together are bounded', () => {
    const repeated = (bytes: readonly number[], count: number) =>
      Uint8Array.from({ length: bytes.length * count }, (_, i) => bytes[i % bytes.length]!)
    expect(() => scan(repeated([0x0a, 0], 20_000))).toThrow('20000 columns, at most 16384')
    expect(() => scan(repeated([0x12, 0], 20_000))).toThrow('20000 index columns, at most 16384')
    expect(() => scan(repeated([0x1a, 0], 5000))).toThrow('5000 labels, at most 4096')
    const name = Uint8Array.from([0x0a, 0x85, 0x80, 4, 0x12, 0x81, 0x80, 4, ...new Uint8Array(65537)])
    expect(() => scan(name)).toThrow('the name of column 0 has 65537 bytes, at most 65536')
    const long = [0x0a, 0x86, 0x80, 4, 0x12, 0x80, 0x80, 4, ...new Uint8Array(65536).fill(97), 0x18, 1]
    const many = new Uint8Array(long.length * 245)
    for (let i = 0; i < 245; i++) many.set(long, i * long.length)
    expect(scan(many).columns.length).toBe(245)
    const tooMany = new Uint8Array(4 + 2 ** 20 + many.length)
    tooMany.set([0x22, 0x80, 0x80, 0x40])
    tooMany.set(many, 4 + 2 ** 20)
    // Scratch begins behind 16 MiB, so this message stands behind it.
    kernels.u8.set(tooMany, scratchAt + 2 ** 20)
    const message = { byteOffset: scratchAt + 2 ** 20, byteLength: tooMany.length }
    expect(() => scanFrame(kernels, message, newScratch(2 ** 20))).toThrow('names and labels take more than')
  })

  test('a scratch that is too small says how much is needed, and with that it works', () => {
    const random = new Random(11)
    for (let i = 0; i < 30; i++) {
      const frame = randomFrame(random, 200)
      const message = writeTwin(frame, plain)
      let byteLength = 0
      for (let attempt = 0; ; attempt++) {
        expect(attempt).toBeLessThan(20)
        try {
          expect(readFrame(kernels, decode(message, newScratch(byteLength)))).toEqual(frame)
          break
        } catch (error) {
          if (!(error instanceof ScratchFull)) throw error
          expect(error.byteLengthNeeded).toBeGreaterThan(byteLength)
          byteLength = error.byteLengthNeeded
        }
      }
    }
  })
})

test('isUtf8 agrees with a strict decoder', () => {
  const random = new Random(seed)
  const decoder = new TextDecoder('utf-8', { fatal: true })
  const pieces = ['a', 'plain ascii of some length', 'é', 'ש', '日', '😀', '\u{10ffff}', '\ud7ff', '\ue000'].map(utf8)
  for (let i = 0; i < 20_000; i++) {
    const bytes = Array.from({ length: random.below(12) }, () => random.pick(pieces)).flat()
    if (random.chance(0.5) && bytes.length > 0) bytes[random.below(bytes.length)] = random.below(256)
    if (random.chance(0.2)) bytes.length = random.below(bytes.length + 1)
    const text = Uint8Array.from(bytes)
    let expected = 1
    try {
      decoder.decode(text)
    } catch {
      expected = 0
    }
    const at = kernels.u8.byteLength - text.length
    kernels.u8.set(text, at)
    expect(kernels.call.isUtf8(at, text.length)).toBe(expected)
  }
})
