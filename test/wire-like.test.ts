// Frames that look as one before them: the kernel that says so agrees with the one that looks at each column.
import { expect, test } from 'vitest'
import { encodedFrameBound, encodeFrame, scanFrame, type WireFrame } from '../dist/engine/codec/wire.js'
import { layFrame } from '../dist/engine/codec/columns.js'
import { Column } from '../dist/engine/frame/column.js'
import { dtypeNumbers, type Value } from '../dist/engine/frame/dtype.js'
import { Frame } from '../dist/engine/frame/frame.js'
import { createMemory, loadKernels } from '../dist/engine/kernels/kernels.js'
import { Scratch } from '../dist/engine/memory/scratch.js'
import { SeededRandom, seed } from './seeded-random.js'

const memory = createMemory(8 * 1024 * 1024)
const kernels = loadKernels(memory)
const { call, u8, u32 } = kernels
const random = new SeededRandom(seed)

const start = (call.heapBase() + 65_535) & ~65_535
const framePtr = start
const firstPtr = start + 1024 * 1024
const secondPtr = firstPtr + 512 * 1024
const shapePtr = secondPtr + 512 * 1024
const namesPtr = shapePtr + 16 * 1024
const resultPtr = namesPtr + 16 * 1024
const keyPtr = resultPtr + 16 * 1024
const workPtr = keyPtr + 64 * 1024
const scratch = () => new Scratch({ byteOffset: workPtr + 64 * 1024, byteLength: 1024 * 1024 })
const guardByte = 0xa5

interface Sketch {
  rowCount: number
  columns: { name: string; dtype: 'int64' | 'float64' | 'bool' }[]
  labels: [string, Value][]
  nulls: boolean
}

function drawSketch(): Sketch {
  return {
    rowCount: random.integer(1, 200),
    columns: random.list(random.integer(1, 6), (i) => ({
      name: `metric_${i}`,
      dtype: random.pick(['int64', 'float64']),
    })),
    labels: random.list(random.integer(0, 8), (i): [string, Value] => [
      `label_${i}`,
      random.pick(['a', '', 'süß', 'x'.repeat(100)]),
    ]),
    nulls: false,
  }
}

function columnOf(
  name: string,
  dtype: 'int64' | 'float64' | 'bool' | 'time',
  length: number,
  validity: Uint8Array | null,
): Column {
  const buffers =
    dtype === 'bool'
      ? { dtype, values: new Uint8Array(Math.ceil(length / 8)) }
      : dtype === 'float64'
        ? { dtype, values: Float64Array.from({ length }, () => random.next()) }
        : { dtype, values: BigInt64Array.from({ length }, () => BigInt(random.integer(0, 1e9))) }
  return Column.fromBuffers({ name, kind: 'slice', length, validity, buffers })
}

function messageOf({ rowCount, columns, labels, nulls }: Sketch): Uint8Array {
  const validity = nulls ? new Uint8Array(Math.ceil(rowCount / 8)) : null
  const frame = new Frame({
    columns: columns.map(({ name, dtype }) => columnOf(name, dtype, rowCount, validity)),
    indices: [columnOf('time', 'time', rowCount, null)],
    labels: new Map(labels),
  })
  const laid = layFrame(kernels, frame, framePtr)
  const bound = encodedFrameBound(laid)
  const byteLength = encodeFrame(kernels, laid, secondPtr, bound)
  return u8.slice(secondPtr, secondPtr + byteLength)
}

/** Changes of a frame after which it does not look as before. */
const changes: ((sketch: Sketch) => void)[] = [
  (sketch) => {
    sketch.columns[0]!.name = 'metric_x'
  },
  (sketch) => {
    sketch.columns[0]!.dtype = sketch.columns[0]!.dtype === 'int64' ? 'float64' : 'int64'
  },
  (sketch) => {
    sketch.columns[0]!.dtype = 'bool'
  },
  (sketch) => {
    sketch.columns.push({ name: 'more', dtype: 'int64' })
  },
  (sketch) => {
    sketch.labels.push(['more', 'a'])
  },
  (sketch) => {
    sketch.labels = [...sketch.labels.slice(1), ['label_0', 1n]]
  },
  (sketch) => {
    sketch.labels = [...sketch.labels.slice(1), ['label_0', 'a\0b']]
  },
  (sketch) => {
    sketch.labels = [...sketch.labels.slice(1), ['label_0', 'x'.repeat(128)]]
  },
  (sketch) => {
    sketch.nulls = true
  },
]

/** The first message's shape, as the kernel takes it. */
function writeShape(frame: WireFrame): void {
  const names = frame.labels.map(({ name }) => name).sort()
  const words = [frame.columns.length, frame.indices.length, names.length, 0]
  for (const { dtype, nameByteOffset, nameByteLength } of [...frame.columns, ...frame.indices])
    words.push(dtypeNumbers[dtype], nameByteOffset, nameByteLength)
  let at = namesPtr
  for (const name of names) {
    const bytes = Buffer.from(name)
    u8.set(bytes, at)
    words.push(at, bytes.length)
    at += bytes.length
  }
  u32.set(words, shapePtr >> 2)
}

function scan(message: Uint8Array, at: number): WireFrame {
  u8.set(message, at)
  return scanFrame(kernels, { byteOffset: at, byteLength: message.length }, scratch())
}

/** Whether the second message looks as the first; what is found is then held against a look at each column. */
function isAlike(message: Uint8Array, capacity = 16_448): boolean {
  u8.set(message, secondPtr)
  u8.fill(guardByte, keyPtr, keyPtr + capacity + 32)
  const end = secondPtr + message.length
  const isLike = call.wireScanLike(secondPtr, end, shapePtr, resultPtr, keyPtr, capacity, workPtr) === 1
  expect(u8.slice(keyPtr + capacity, keyPtr + capacity + 32).every((byte) => byte === guardByte)).toBe(true)
  if (!isLike) return false
  const frame = scan(message, secondPtr)
  const result = u32.slice(resultPtr >> 2, (resultPtr >> 2) + 64)
  expect(result[0]).toBe(frame.rowCount)
  expect(frame.hasNulls).toBe(false)
  expect(frame.error).toBe('')
  const places = [...frame.columns, ...frame.indices].flatMap(({ byteOffset, byteLength, kind, rowCount }) => {
    expect([kind, rowCount]).toEqual(['slice', frame.rowCount])
    return [byteOffset, byteLength]
  })
  expect([...result.slice(2, 2 + places.length)]).toEqual(places)
  const labels = frame.labels.map(({ name, value }): [string, string] => [name, value as string])
  const key = labels.sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, text]) => `${name}\0${text}\0\x01`)
  expect(Buffer.from(u8.slice(keyPtr, keyPtr + result[1]!)).toString()).toBe(key.join(''))
  return true
}

test('a frame of the same columns and labels looks as the one before it, whatever its rows, texts and order of labels', () => {
  for (let round = 0; round < 300; round++) {
    const sketch = drawSketch()
    writeShape(scan(messageOf(sketch), firstPtr))
    const other: Sketch = {
      ...sketch,
      rowCount: random.integer(1, 200),
      labels: sketch.labels.map(([name]): [string, Value] => [name, random.pick(['b', 'äöü', ''])]),
    }
    if (random.chance(0.5)) other.labels.reverse()
    expect(isAlike(messageOf(other))).toBe(true)
  }
})

test('a frame that differs in any of it does not', () => {
  for (let round = 0; round < 50; round++) {
    for (const change of changes) {
      const sketch = drawSketch()
      if (sketch.labels.length === 0) sketch.labels = [['label_0', 'a']]
      writeShape(scan(messageOf(sketch), firstPtr))
      change(sketch)
      expect(isAlike(messageOf(sketch))).toBe(false)
    }
  }
})

test('a key that does not fit is not written past its end', () => {
  const sketch = { ...drawSketch(), labels: [['a', 'b'.repeat(100)]] satisfies [string, Value][] }
  const message = messageOf(sketch)
  writeShape(scan(message, firstPtr))
  for (const capacity of [0, 1, 50, 103]) expect(isAlike(message, capacity)).toBe(false)
  expect(isAlike(message, 104)).toBe(true)
})

test('a message with changed bytes is either refused or what a look at each column finds in it', () => {
  let alikeCount = 0
  for (let round = 0; round < 3000; round++) {
    const sketch = drawSketch()
    const message = messageOf(sketch)
    writeShape(scan(message, firstPtr))
    const cut = random.chance(0.2) ? message.slice(0, random.integer(0, message.length)) : message.slice()
    for (let i = random.integer(0, 4); i > 0; i--) cut[random.integer(0, cut.length)] = random.integer(0, 256)
    if (isAlike(cut)) alikeCount++
  }
  expect(alikeCount).toBeGreaterThan(100)
})
