// Page codecs, statistics and CRC-32C: what is encoded comes back; malformed pages are refused without harm.
import { expect, test } from 'vitest'
import { benchPages } from '../dist/bench/pages.bench.js'
import { createMemory, loadKernels } from '../dist/engine/kernels/kernels.js'
import { boolTwin, float64Twin, int64Twin, stringTwin, timeTwin } from './pages.twin.js'
import { SeededRandom, seed } from './seeded-random.js'

const MiB = 1024 * 1024
const memory = createMemory(4 * MiB)
const kernels = loadKernels(memory)
const { call, u8, u32, i64, f64, view } = kernels

// Places in the memory; the page is decoded at the memory's very end, so that a read past it traps.
const scratchPtr = (call.heapBase() + 63) & ~63
const valuesPtr = scratchPtr + 256 * 1024
const textPtr = valuesPtr + 64 * 1024
const encodedPtr = textPtr + MiB
const targetPtr = encodedPtr + 1.25 * MiB
const textTargetPtr = targetPtr + 64 * 1024
const memoryEnd = memory.buffer.byteLength
const canary = 0xa5

const random = new SeededRandom(seed)
const below = (end: number) => random.integer(0, end)
const normal = () => Math.sqrt(-2 * Math.log(1 - random.next())) * Math.cos(2 * Math.PI * random.next())
const random64 = () => BigInt.asIntN(64, (BigInt(below(2 ** 32)) << 32n) | BigInt(below(2 ** 32)))

const counts = [
  1, 2, 3, 4, 5, 7, 8, 9, 31, 64, 100, 127, 128, 129, 130, 255, 256, 257, 383, 384, 512, 1000, 2160, 4095, 4096,
]

const codecs = {
  int64: {
    encode: call.encodeInt64Page,
    decode: call.decodeInt64Page,
    max: call.maxEncodedInt64Page,
    twin: int64Twin,
  },
  time: { encode: call.encodeTimePage, decode: call.decodeTimePage, max: call.maxEncodedTimePage, twin: timeTwin },
  float64: {
    encode: call.encodeFloat64Page,
    decode: call.decodeFloat64Page,
    max: call.maxEncodedFloat64Page,
    twin: float64Twin,
  },
} as const
type Codec = (typeof codecs)[keyof typeof codecs]

/** Encodes the values, checks that the encoder kept to its bound, and moves the page to the end of the memory. */
function encodeAtEnd(codec: Codec, values: BigInt64Array): number {
  const bound = codec.max(values.length)
  i64.set(values, valuesPtr / 8)
  u8.fill(canary, encodedPtr + bound, encodedPtr + bound + 64)
  const byteLength = codec.encode(valuesPtr, values.length, encodedPtr, scratchPtr)
  expect(byteLength).toBeGreaterThan(0)
  expect(byteLength).toBeLessThanOrEqual(bound)
  expect(onlyCanaries(encodedPtr + bound, 64)).toBe(true)
  u8.copyWithin(memoryEnd - byteLength, encodedPtr, encodedPtr + byteLength)
  return byteLength
}

function onlyCanaries(start: number, byteLength: number): boolean {
  for (let at = start; at < start + byteLength; at++) if (u8[at] !== canary) return false
  return true
}

function roundTrip(codec: Codec, values: BigInt64Array, what: string): number {
  const byteLength = encodeAtEnd(codec, values)
  const targetEnd = targetPtr + values.length * 8
  u8.fill(canary, targetPtr - 64, targetEnd + 64)
  const status = codec.decode(memoryEnd - byteLength, byteLength, values.length, targetPtr)
  expect(status, what).toBe(0)
  const decoded = i64.subarray(targetPtr / 8, targetEnd / 8)
  for (let i = 0; i < values.length; i++) {
    if (decoded[i] !== values[i]) expect.fail(`${what}, seed ${seed}: value ${i} is ${decoded[i]}, not ${values[i]}`)
  }
  expect(onlyCanaries(targetPtr - 64, 64) && onlyCanaries(targetEnd, 64), `${what} writes outside`).toBe(true)
  return byteLength
}

const rowsDecoders = { int64: call.decodeInt64Rows, time: call.decodeTimeRows } as const
const rowsScratchPtr = (textTargetPtr + 64 * 1024 + 15) & ~15

/** Decodes only the first values of a page, with and without scratch. */
function expectRows(name: keyof typeof rowsDecoders, values: BigInt64Array, what: string): void {
  const byteLength = encodeAtEnd(codecs[name], values)
  const { length } = values
  const targetEnd = targetPtr + length * 8
  const scratchByteLength = call.rowsScratchByteLength()
  for (const wantedCount of new Set([1, Math.min(length, 16 * below(17) + 1), 1 + below(length), length])) {
    for (const scratch of [rowsScratchPtr, 0]) {
      u8.fill(canary, targetPtr - 64, targetEnd + 64)
      u8.fill(canary, rowsScratchPtr + scratchByteLength, rowsScratchPtr + scratchByteLength + 64)
      const status = rowsDecoders[name](memoryEnd - byteLength, byteLength, length, wantedCount, targetPtr, scratch)
      expect(status, what).toBe(0)
      const decoded = i64.subarray(targetPtr / 8, targetPtr / 8 + wantedCount)
      const wrong = decoded.findIndex((value, i) => value !== values[i])
      if (wrong >= 0) expect.fail(`${what}, ${wantedCount} wanted, seed ${seed}: ${decoded[wrong]} at ${wrong}`)
      expect(onlyCanaries(targetPtr - 64, 64) && onlyCanaries(targetEnd, 64), `${what} writes outside`).toBe(true)
      expect(onlyCanaries(rowsScratchPtr + scratchByteLength, 64), `${what} writes behind its scratch`).toBe(true)
    }
  }
  const pagePtr = memoryEnd - byteLength
  for (const wantedCount of [0, -1, length + 1])
    expect(rowsDecoders[name](pagePtr, byteLength, length, wantedCount, targetPtr, rowsScratchPtr)).toBe(-1)
}

/** What the simple decoder makes of the page that was encoded last. */
function expectTwin(codec: Codec, byteLength: number, values: BigInt64Array, what: string): void {
  const decoded = codec.twin(u8.slice(memoryEnd - byteLength, memoryEnd), values.length)
  const wrong = decoded.findIndex((value, i) => value !== values[i])
  if (wrong >= 0) expect.fail(`${what}, seed ${seed}: twin's value ${wrong} is ${decoded[wrong]}, not ${values[wrong]}`)
}

function bits(values: Float64Array): BigInt64Array {
  return new BigInt64Array(values.buffer, values.byteOffset, values.length)
}

function walk(count: number, step: () => number, start = 50): number[] {
  let value = start
  return Array.from({ length: count }, () => {
    value += step()
    return value
  })
}

const ints = (numbers: number[]) => BigInt64Array.from(numbers, (x) => BigInt(Math.trunc(x)))

const intShapes: Record<string, (count: number) => BigInt64Array> = {
  constant: (n) => new BigInt64Array(n).fill(-7n),
  'constant extreme': (n) => new BigInt64Array(n).fill(-(2n ** 63n)),
  progression: (n) => BigInt64Array.from({ length: n }, (_, i) => 1_000_000_007n * BigInt(i) - 5n),
  'wrapping progression': (n) => BigInt64Array.from({ length: n }, (_, i) => BigInt.asIntN(64, 2n ** 62n * BigInt(i))),
  'random walk': (n) => ints(walk(n, normal)),
  'truncated steps': (n) => ints(walk(n, () => Math.trunc(normal()))),
  'drifting counter': (n) => ints(walk(n, () => 1000 + 50 * normal())),
  noise: (n) => BigInt64Array.from({ length: n }, () => BigInt(below(101))),
  'a walk within a byte': (n) => ints(walk(n, () => Math.trunc(normal()), 64).map((x) => Math.abs(x) % 128)),
  'as far from the first as 16-bit sums go, or one more': (n) => {
    const first = [0n, -5n, 2n ** 50n - 3n, 2n ** 50n + 1n, -(2n ** 50n)][below(5)]!
    const far = BigInt(1022 + below(3))
    const away = (): bigint => [0n, far, -far, BigInt(below(2000) - 1000)][below(4)]!
    return BigInt64Array.from({ length: n }, (_, i) => BigInt.asIntN(64, i === 0 ? first : first + away()))
  },
  'wide noise': (n) => BigInt64Array.from({ length: n }, () => random64() >> BigInt(below(64))),
  'full random': (n) => BigInt64Array.from({ length: n }, random64),
  'extremes in turn': (n) => BigInt64Array.from({ length: n }, (_, i) => (i % 2 ? 2n ** 63n - 1n : -(2n ** 63n))),
  'rare extremes': (n) =>
    BigInt64Array.from({ length: n }, () => (below(50) ? BigInt(below(9)) : below(2) ? 2n ** 63n - 1n : -(2n ** 63n))),
  'mostly zero': (n) => BigInt64Array.from({ length: n }, () => (below(100) ? 0n : random64())),
  'steps of any width': (n) => {
    const width = BigInt(below(65))
    let value = 0n
    return BigInt64Array.from({ length: n }, () => {
      value = BigInt.asIntN(64, value + BigInt.asIntN(64, BigInt.asUintN(Number(width), random64())))
      return value
    })
  },
}

test.each(Object.keys(intShapes))(
  'the first values of int64 pages and pages of times are those of the whole: %s',
  (shape) => {
    for (const count of counts) {
      const values = intShapes[shape]!(count)
      expectRows('int64', values, `int64 ${shape} of ${count}`)
      expectRows('time', values, `time ${shape} of ${count}`)
      const scaled = values.map((value) => BigInt.asIntN(64, value * 1_000_000n))
      expectRows('time', scaled, `scaled time ${shape} of ${count}`)
    }
  },
)

test.each(Object.keys(intShapes))('int64 pages come back: %s', (shape) => {
  for (const count of counts) {
    for (let k = 0; k < 4; k++) {
      const values = intShapes[shape]!(count)
      roundTrip(codecs.int64, values, `int64 ${shape} of ${count}`)
      roundTrip(codecs.time, values, `time ${shape} of ${count}`)
      roundTrip(codecs.float64, values, `float64 bits ${shape} of ${count}`)
    }
  }
})

test('int64 pages of every width come back, with and without escapes', () => {
  for (let width = 0; width <= 64; width++) {
    for (const count of [127, 256, 300, 513]) {
      const narrow = () => BigInt.asIntN(64, BigInt.asUintN(width, random64()))
      roundTrip(codecs.int64, BigInt64Array.from({ length: count }, narrow), `width ${width}`)
      const spiky = () => (below(20) ? narrow() : random64() >> BigInt(below(64)))
      roundTrip(codecs.int64, BigInt64Array.from({ length: count }, spiky), `width ${width} with spikes`)
    }
  }
})

test('a page encoded as one before it comes back, and takes no more than was allowed', () => {
  const shapes: ((count: number) => BigInt64Array)[] = [
    ...Object.values(intShapes),
    (n) => BigInt64Array.from({ length: n }, random64),
  ]
  let refusedCount = 0
  let takenCount = 0
  for (const shape of shapes) {
    for (const count of counts.filter((n) => n >= 3)) {
      for (const order of [0, 1, 2]) {
        for (const bitsMax of [1, 8, 70]) {
          const like: Codec = {
            ...codecs.int64,
            encode: (from, valueCount, to, scratch) => {
              const most = Math.floor((bitsMax * valueCount) / 8)
              const byteLength = call.encodeInt64PageLike(from, valueCount, order, random64(), most, to, scratch)
              expect(byteLength).toBeLessThanOrEqual(most)
              if (byteLength > 0) takenCount++
              else refusedCount++
              return byteLength > 0 ? byteLength : call.encodeInt64Page(from, valueCount, to, scratch)
            },
          }
          const values = shape(count)
          expectTwin(like, roundTrip(like, values, `order ${order}`), values, `order ${order}`)
        }
      }
    }
  }
  expect(takenCount).toBeGreaterThan(500)
  expect(refusedCount).toBeGreaterThan(500)
})

test('a walk encoded as the walk before it is as small', () => {
  const first = encodeAtEnd(codecs.int64, ints(walk(4096, normal)))
  i64.set(ints(walk(4096, normal)), valuesPtr / 8)
  const most = Math.ceil(1.08 * first)
  const second = call.encodeInt64PageLike(valuesPtr, 4096, 1, 0n, most, encodedPtr, scratchPtr)
  expect(second).toBeGreaterThan(0)
  expect(second / 4096).toBeLessThanOrEqual(0.37)
  // Noise is none of a walk's pages.
  i64.set(BigInt64Array.from({ length: 4096 }, random64), valuesPtr / 8)
  expect(call.encodeInt64PageLike(valuesPtr, 4096, 1, 0n, most, encodedPtr, scratchPtr)).toBe(0)
})

test('a random walk of integers takes at most 0.36 bytes a value', () => {
  for (const count of [2160, 4096]) {
    const byteLength = roundTrip(codecs.int64, ints(walk(count, normal)), 'walk')
    expect(byteLength / count).toBeLessThanOrEqual(0.36)
  }
})

const startNs = 1_700_000_000_123_456_789n
const timeShapes: Record<string, (count: number) => BigInt64Array> = {
  regular: (n) => BigInt64Array.from({ length: n }, (_, i) => startNs + BigInt(i) * 15_000_000_000n),
  'jitter of ms': (n) =>
    BigInt64Array.from({ length: n }, (_, i) => startNs + BigInt(i * 10_000 + below(500)) * 1_000_000n),
  'late by drift': (n) => {
    let time = startNs
    return BigInt64Array.from({ length: n }, () => (time += BigInt(1_000_000_000 + below(1000))))
  },
  'regular with gaps': (n) => {
    let time = startNs
    return BigInt64Array.from({ length: n }, () => (time += below(100) ? 1_000_000_000n : 60_000_000_000n))
  },
  unsorted: (n) => BigInt64Array.from({ length: n }, () => startNs + BigInt(below(2 ** 40)) * 1000n),
  'beyond the range of differences': (n) =>
    BigInt64Array.from({ length: n }, () => (random64() / 10_000_000_000n) * 10_000_000_000n),
}

test.each(Object.keys(timeShapes))('pages of times come back: %s', (shape) => {
  for (const count of counts) {
    const values = timeShapes[shape]!(count)
    roundTrip(codecs.time, values, `time ${shape} of ${count}`)
    roundTrip(codecs.int64, values, `int64 ${shape} of ${count}`)
  }
})

test('a regular series of times takes at most 20 bytes', () => {
  for (const count of counts) expect(roundTrip(codecs.time, timeShapes['regular']!(count), 'regular')).toBeLessThan(21)
})

const oddDoubles = [
  0,
  -0,
  1,
  -1,
  NaN,
  Infinity,
  -Infinity,
  5e-324,
  -5e-324,
  1.7976931348623157e308,
  0.1,
  1 / 3,
  2 ** 53,
]
const floatShapes: Record<string, (count: number) => Float64Array> = {
  'two decimals walk': (n) =>
    Float64Array.from(
      walk(n, () => normal()),
      (x) => Math.round(x * 100) / 100,
    ),
  'decimals of any length': (n) => {
    const digits = below(16)
    return Float64Array.from({ length: n }, () => Number((random.next() * 100).toFixed(digits)))
  },
  'whole numbers': (n) => Float64Array.from({ length: n }, () => below(1000) - 500),
  'decimals with NaN': (n) => Float64Array.from({ length: n }, () => (below(20) ? below(1000) / 10 : NaN)),
  'every fifth NaN': (n) => Float64Array.from({ length: n }, () => (below(5) ? below(1e5) / 100 : NaN)),
  'large amounts': (n) => Float64Array.from({ length: n }, () => below(1e9) / 100),
  'decimals with -0': (n) => Float64Array.from({ length: n }, () => (below(30) ? below(1000) / 10 : -0)),
  'odd doubles': (n) => Float64Array.from({ length: n }, () => oddDoubles[below(oddDoubles.length)]!),
  'full doubles': (n) => Float64Array.from(walk(n, normal)),
  'around zero': (n) => Float64Array.from({ length: n }, normal),
  float32: (n) => Float64Array.from(walk(n, normal), Math.fround),
  'all NaN': (n) => new Float64Array(n).fill(NaN),
  'any bits': (n) => new Float64Array(BigInt64Array.from({ length: n }, random64).buffer),
  'NaN payloads': (n) =>
    new Float64Array(BigInt64Array.from({ length: n }, () => random64() | 0x7ff0_0000_0000_0000n).buffer),
  huge: (n) => Float64Array.from({ length: n }, () => random.next() * 1e300),
  denormal: (n) => Float64Array.from({ length: n }, () => below(1000) * 5e-324),
}

test.each(Object.keys(floatShapes))('float64 pages come back bit for bit: %s', (shape) => {
  for (const count of counts) {
    for (let k = 0; k < 4; k++) roundTrip(codecs.float64, bits(floatShapes[shape]!(count)), `${shape} of ${count}`)
  }
})

test('a random walk with two decimals takes at most 1.3 bytes a value', () => {
  for (const count of [2160, 4096]) {
    const byteLength = roundTrip(codecs.float64, bits(floatShapes['two decimals walk']!(count)), 'walk')
    expect(byteLength / count).toBeLessThanOrEqual(1.3)
  }
})

test('simple decoders written from docs/formats.md read what the kernels write', () => {
  const shapes = [
    ...Object.entries(intShapes).map(([name, shape]) => [name, codecs.int64, shape] as const),
    ...Object.entries(timeShapes).map(([name, shape]) => [name, codecs.time, shape] as const),
    ...Object.entries(floatShapes).map(([name, make]) => [name, codecs.float64, (n: number) => bits(make(n))] as const),
  ]
  for (const [name, codec, shape] of shapes) {
    for (const count of [1, 3, 9, 130, 400]) {
      const values = shape(count)
      expectTwin(codec, encodeAtEnd(codec, values), values, `${name} of ${count}`)
    }
  }
})

test('a fifth of NaN among decimals costs an eighth of a byte a value', () => {
  // No -0: with another exception beside NaN each exception is stored for itself.
  const values = floatShapes['two decimals walk']!(4096).map((value) => value + 0)
  const plain = roundTrip(codecs.float64, bits(values), 'walk')
  for (let i = 0; i < values.length; i++) if (below(5) === 0) values[i] = NaN
  expect(roundTrip(codecs.float64, bits(values), 'walk with NaN')).toBeLessThan(plain + 4096 * 0.16)
})

test('pages of bools come back, with zeros past the last row', () => {
  const shapes = [() => 0, () => 1, () => below(2), () => +(below(100) === 0), () => +(below(100) !== 0)]
  for (const count of counts) {
    const byteCount = (count + 7) >> 3
    for (const bit of shapes) {
      u8.fill(255, valuesPtr, valuesPtr + byteCount)
      const expected = new Uint8Array(byteCount)
      for (let row = 0; row < count; row++) {
        if (bit()) expected[row >> 3]! |= 1 << (row & 7)
        else u8[valuesPtr + (row >> 3)]! &= ~(1 << (row & 7))
      }
      const bound = call.maxEncodedBoolPage(count)
      u8.fill(canary, encodedPtr + bound, encodedPtr + bound + 64)
      const byteLength = call.encodeBoolPage(valuesPtr, count, encodedPtr, scratchPtr)
      expect(byteLength).toBeLessThanOrEqual(Math.min(bound, 1 + byteCount))
      expect(onlyCanaries(encodedPtr + bound, 64)).toBe(true)
      u8.copyWithin(memoryEnd - byteLength, encodedPtr, encodedPtr + byteLength)
      u8.fill(canary, targetPtr - 64, targetPtr + byteCount + 64)
      expect(call.decodeBoolPage(memoryEnd - byteLength, byteLength, count, targetPtr)).toBe(0)
      expect(u8.slice(targetPtr, targetPtr + byteCount)).toEqual(expected)
      const twin = boolTwin(u8.slice(memoryEnd - byteLength, memoryEnd), count)
      expect(twin).toEqual(twin.map((_, row) => ((expected[row >> 3]! >> (row & 7)) & 1) === 1))
      expect(onlyCanaries(targetPtr - 64, 64) && onlyCanaries(targetPtr + byteCount, 64)).toBe(true)
    }
  }
})

const words = [
  '',
  'a',
  'é',
  '日本語',
  '🙂',
  'host-1',
  'host-2',
  'a longer text of more than thirty-two bytes',
  'x'.repeat(200),
]
const printable = String.fromCharCode(...Array.from({ length: 95 }, (_, i) => 0x20 + i))
const drawn = (alphabet: string, length: number): string =>
  Array.from({ length }, () => alphabet[below(alphabet.length)]).join('')
const stringShapes: Record<string, (row: number) => string> = {
  'one text': () => 'cpu',
  'all empty': () => '',
  'low cardinality': () => words[below(words.length)]!,
  'high cardinality': () => `user-${below(1e9)}`,
  'all different': (row) => `id-${row}`,
  'any length': () => '🙂é'.repeat(below(30)),
  'sixteen bytes': () => drawn('0123456789abcdef', below(90)),
  'few bytes': () => drawn('0123456789abcdefghijklmnopqrstuvwxyz {}":,._-', below(200)),
  'sixty-four bytes': (row) => drawn(printable.slice(0, 64), 1 + below(60)) + (row === 4095 ? '~' : ''),
  'one more after long': (row) => (row < 1000 ? drawn(printable.slice(0, 64), 30) : drawn(printable, 30)),
  'long and different, then again': (row) => `${row % 1500}`.padStart(70, 'x'),
  'half and half': (row) => (row % 2 ? 'constant' : `n${below(1e6)}`),
}

test.each(Object.keys(stringShapes))('pages of strings come back: %s', (shape) => {
  const encoder = new TextEncoder()
  const decoder = new TextDecoder()
  for (const count of counts) {
    const texts = Array.from({ length: count }, (_, row) => stringShapes[shape]!(row))
    // A window into a larger column: something stands before the first text.
    let offset = below(2) * 13
    const windowStart = offset
    texts.forEach((text, row) => {
      u32[valuesPtr / 4 + row] = offset
      const bytes = encoder.encode(text)
      u8.set(bytes, textPtr + offset)
      offset += bytes.length
    })
    u32[valuesPtr / 4 + count] = offset
    const textByteLength = offset - windowStart
    const bound = call.maxEncodedStringPage(count, textByteLength)
    u8.fill(canary, encodedPtr + bound, encodedPtr + bound + 64)
    const byteLength = call.encodeStringPage(valuesPtr, textPtr, count, encodedPtr, scratchPtr, below(4) === 0 ? 0 : 1)
    expect(byteLength).toBeLessThanOrEqual(bound)
    expect(onlyCanaries(encodedPtr + bound, 64)).toBe(true)
    const pagePtr = memoryEnd - byteLength
    u8.copyWithin(pagePtr, encodedPtr, encodedPtr + byteLength)
    expect(call.decodedStringByteLength(pagePtr, byteLength, count)).toBe(textByteLength)
    const offsetsEnd = targetPtr + (count + 1) * 4
    u8.fill(canary, targetPtr - 64, offsetsEnd + 128)
    u8.fill(canary, textTargetPtr - 64, textTargetPtr + textByteLength + 64)
    expect(call.decodeStringPage(pagePtr, byteLength, count, targetPtr, textTargetPtr)).toBe(0)
    const offsets = u32.slice(targetPtr / 4, offsetsEnd / 4)
    expect(offsets[0]).toBe(0)
    const decoded = texts.map((_, row) =>
      decoder.decode(u8.slice(textTargetPtr + offsets[row]!, textTargetPtr + offsets[row + 1]!)),
    )
    expect(decoded).toEqual(texts)
    expect(stringTwin(u8.slice(pagePtr, memoryEnd), count)).toEqual(texts)
    expect(onlyCanaries(targetPtr - 64, 64) && onlyCanaries(offsetsEnd, 64)).toBe(true)
    expect(onlyCanaries(textTargetPtr - 64, 64)).toBe(true)
    expect(onlyCanaries(textTargetPtr + textByteLength, 64)).toBe(true)
    // Of some rows, where no dictionary stands between them and their lengths.
    const from = below(count + 1)
    const to = from + below(count - from + 1)
    const isKnown = u8[pagePtr] !== 9 || (from === 0 && to === count)
    const rowsByteLength = call.stringRowsByteLength(pagePtr, byteLength, count, from, to)
    expect(rowsByteLength).toBe(isKnown ? offsets[to]! - offsets[from]! : -1)
    // Behind others.
    const first = 1 + below(1000)
    const moved = targetPtr + 64
    u8.fill(canary, textTargetPtr, textTargetPtr + first + textByteLength + 64)
    expect(call.decodeStringPageAt(pagePtr, byteLength, count, moved, first, textTargetPtr)).toBe(0)
    expect(u32.slice(moved / 4, moved / 4 + count + 1)).toEqual(offsets.map((place) => place + first))
    expect(decoder.decode(u8.slice(textTargetPtr + first, textTargetPtr + first + textByteLength))).toBe(texts.join(''))
    expect(onlyCanaries(textTargetPtr, first) && onlyCanaries(textTargetPtr + first + textByteLength, 64)).toBe(true)
    expect(onlyCanaries(offsetsEnd + 64, 64)).toBe(true)
  }
})

/** CRC-32C bit by bit. */
function crc32cTwin(bytes: Uint8Array, before: number): number {
  let crc = ~before
  for (const byte of bytes) {
    crc ^= byte
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1
  }
  return ~crc >>> 0
}

test('crc32c equals the known vectors and the bitwise twin, also in parts', () => {
  u8.set(new TextEncoder().encode('123456789'), valuesPtr)
  expect(call.crc32c(valuesPtr, 9, 0) >>> 0).toBe(0xe3069283)
  u8.fill(0, valuesPtr, valuesPtr + 32)
  expect(call.crc32c(valuesPtr, 32, 0) >>> 0).toBe(0x8a9136aa)
  u8.fill(255, valuesPtr, valuesPtr + 32)
  expect(call.crc32c(valuesPtr, 32, 0) >>> 0).toBe(0x62a8ab43)
  for (let k = 0; k < 300; k++) {
    const byteLength = k < 100 ? k : below(3000)
    const ptr = valuesPtr + below(16)
    for (let i = 0; i < byteLength; i++) u8[ptr + i] = below(256)
    const expected = crc32cTwin(u8.slice(ptr, ptr + byteLength), 0)
    expect(call.crc32c(ptr, byteLength, 0) >>> 0, `${byteLength} bytes, seed ${seed}`).toBe(expected)
    const cut = below(byteLength + 1)
    const head = call.crc32c(ptr, cut, 0)
    expect(call.crc32c(ptr + cut, byteLength - cut, head) >>> 0).toBe(expected)
  }
})

test('crc32cFolded equals crc32c for any length, place and seed, and reads and writes nothing beyond', () => {
  const scratchByteLength = call.crcScratchByteLength()
  const scratch = Math.ceil((valuesPtr + 40_000) / 16) * 16
  const lengths = [
    351, 352, 353, 367, 368, 369, 783, 784, 4095, 4400, 4401, 4415, 4416, 8495, 8496, 8512, 12_591, 12_592, 20_003,
  ]
  const short = Array.from({ length: 60 }, () => 300 + below(600))
  for (const byteLength of [...lengths, ...short, ...Array.from({ length: 60 }, () => below(24_000))]) {
    const ptr = valuesPtr + below(16)
    for (let i = 0; i < byteLength; i++) u8[ptr + i] = below(256)
    u8.fill(0xa5, ptr + byteLength, scratch + scratchByteLength + 64)
    const before = below(2 ** 32)
    const what = `${byteLength} bytes after ${before}, seed ${seed}`
    const expected = call.crc32c(ptr, byteLength, before) >>> 0
    expect(call.crc32cFolded(ptr, byteLength, before, scratch) >>> 0, what).toBe(expected)
    u8.fill(0x5a, ptr + byteLength, scratch)
    expect(call.crc32cFolded(ptr, byteLength, before, scratch) >>> 0, what).toBe(expected)
    const behind = scratch + scratchByteLength
    expect([...u8.subarray(behind, behind + 64)], what).toEqual(new Array(64).fill(0xa5))
  }
})

const close = (actual: number, expected: number, scale: number, what: string) => {
  if (Object.is(actual, expected)) return
  expect(Math.abs(actual - expected), `${what}: ${actual}, expected ${expected}`).toBeLessThanOrEqual(1e-12 * scale)
}

test.each(Object.keys(intShapes))('statistics of int64 equal those of the twin: %s', (shape) => {
  for (const count of counts) {
    const values = intShapes[shape]!(count)
    i64.set(values, valuesPtr / 8)
    u8.fill(canary, targetPtr, targetPtr + 112)
    call.statisticsInt64(valuesPtr, count, targetPtr)
    const sorted = values.slice().sort()
    const sum = values.reduce((a, b) => a + b, 0n)
    expect([0, 8, 16, 24].map((at) => view.getBigInt64(targetPtr + at, true))).toEqual([
      sorted[0],
      sorted.at(-1),
      values[0],
      values.at(-1),
    ])
    const scale = values.reduce((a, b) => a + Math.abs(Number(b)), 1)
    close(view.getFloat64(targetPtr + 32, true), Number(sum), scale, `sum of ${shape}`)
    // count² × variance in exact integers.
    const n = BigInt(count)
    const m2 = Number(n * values.reduce((a, b) => a + b * b, 0n) - sum * sum) / count
    close(view.getFloat64(targetPtr + 40, true), m2, m2 + scale * 1e-3, `m2 of ${shape} of ${count}`)
    expect(onlyCanaries(targetPtr + 48, 64)).toBe(true)
  }
})

test.each(Object.keys(floatShapes))('statistics of float64 equal those of the twin: %s', (shape) => {
  for (const count of counts) {
    const values = floatShapes[shape]!(count)
    i64.set(bits(values), valuesPtr / 8)
    const nanCount = call.statisticsFloat64(valuesPtr, count, targetPtr)
    expect(nanCount).toBe(values.filter((x) => Number.isNaN(x)).length)
    const [low, high, first, last, sum, m2] = f64.slice(targetPtr / 8, targetPtr / 8 + 6) as unknown as number[]
    expect([first, last]).toEqual([values[0], values.at(-1)])
    if (nanCount > 0) {
      expect([low, high, sum, m2]).toEqual([NaN, NaN, NaN, NaN])
      continue
    }
    // + 0 makes -0 of 0: the sign of a zero is not promised.
    expect([low! + 0, high! + 0]).toEqual([Math.min(...values) + 0, Math.max(...values) + 0])
    const expectedSum = values.reduce((a, b) => a + b, 0)
    const scale = values.reduce((a, b) => a + Math.abs(b), 0)
    const mean = expectedSum / count
    const expectedM2 = values.reduce((a, b) => a + (b - mean) ** 2, 0)
    if (Number.isFinite(scale)) close(sum!, expectedSum, scale, `sum of ${shape}`)
    if (Number.isFinite(expectedM2)) close(m2!, expectedM2, expectedM2 + scale, `m2 of ${shape}`)
  }
})

/** Runs `check` on mutations of the page: cut, with bits flipped or bytes replaced, decoded with another count. */
function mutate(
  page: Uint8Array,
  count: number,
  times: number,
  check: (page: Uint8Array, count: number) => void,
): void {
  for (let k = 0; k < times; k++) {
    const mutated = page.slice(0, k % 3 === 0 ? below(page.length + 1) : page.length)
    for (let flips = below(4); flips > 0 && mutated.length > 0; flips--) {
      // The headers decide most: hit them more often.
      const at = below(2) ? below(Math.min(24, mutated.length)) : below(mutated.length)
      mutated[at] = below(3) ? below(256) : mutated[at]! ^ (1 << below(8))
    }
    u8.set(mutated, memoryEnd - mutated.length)
    check(mutated, below(4) ? count : 1 + below(400))
  }
}

test('a decoder of values harms nothing, whatever the bytes of the page', () => {
  const pages = [
    ...Object.values(intShapes).map((shape) => [codecs.int64, shape] as const),
    ...Object.values(timeShapes).map((shape) => [codecs.time, shape] as const),
    ...Object.values(floatShapes).map((shape) => [codecs.float64, (n: number) => bits(shape(n))] as const),
  ]
  let refused = 0
  let decoded = 0
  u8.fill(canary, targetPtr - 64, targetPtr + 4096 * 8)
  for (let k = 0; k < 3000; k++) {
    const [codec, shape] = pages[k % pages.length]!
    const count = [3, 40, 130, 300][k % 4]! + below(5)
    const byteLength = encodeAtEnd(codec, shape(count))
    mutate(u8.slice(memoryEnd - byteLength, memoryEnd), count, 120, (page, claimed) => {
      const status = codec.decode(memoryEnd - page.length, page.length, claimed, targetPtr)
      if (status < 0) refused++
      else decoded++
      const targetEnd = targetPtr + claimed * 8
      if (!onlyCanaries(targetPtr - 64, 64) || !onlyCanaries(targetEnd, 64)) {
        expect.fail(`page ${k}, seed ${seed}: wrote outside`)
      }
      u8.fill(canary, targetPtr, targetEnd)
      const wantedCount = 1 + below(claimed)
      for (const decode of Object.values(rowsDecoders)) {
        decode(memoryEnd - page.length, page.length, claimed, wantedCount, targetPtr, below(2) ? rowsScratchPtr : 0)
        if (!onlyCanaries(targetPtr - 64, 64) || !onlyCanaries(targetEnd, 64))
          expect.fail(`page ${k}, seed ${seed}: the decoder of ${wantedCount} rows wrote outside`)
        u8.fill(canary, targetPtr, targetEnd)
      }
    })
  }
  expect(refused).toBeGreaterThan(30_000)
  expect(decoded).toBeGreaterThan(30_000)
})

test('a decoder of bools or strings harms nothing, whatever the bytes of the page', () => {
  let refused = 0
  let decoded = 0
  const settle = (status: number, targetEnd: number) => {
    if (status < 0) refused++
    else decoded++
    if (!onlyCanaries(targetPtr - 64, 64) || !onlyCanaries(targetEnd, 64)) expect.fail(`seed ${seed}: wrote outside`)
    u8.fill(canary, targetPtr, targetEnd)
  }
  u8.fill(canary, targetPtr - 64, targetPtr + 4096 * 8)
  for (let k = 0; k < 600; k++) {
    const count = [3, 40, 130, 300][k % 4]! + below(5)
    const odds = [2, 9, 100][k % 3]!
    for (let i = 0; i < count; i++) u8[valuesPtr + (i >> 3)] = below(odds) ? 0 : below(256)
    const bitsByteLength = call.encodeBoolPage(valuesPtr, count, encodedPtr, scratchPtr)
    mutate(u8.slice(encodedPtr, encodedPtr + bitsByteLength), count, 100, (page, claimed) => {
      const status = call.decodeBoolPage(memoryEnd - page.length, page.length, claimed, targetPtr)
      settle(status, targetPtr + ((claimed + 7) >> 3))
    })

    const shape = stringShapes[Object.keys(stringShapes)[k % Object.keys(stringShapes).length]!]!
    let offset = 0
    for (let row = 0; row < count; row++) {
      u32[valuesPtr / 4 + row] = offset
      const bytes = new TextEncoder().encode(shape(row))
      u8.set(bytes, textPtr + offset)
      offset += bytes.length
    }
    u32[valuesPtr / 4 + count] = offset
    const byteLength = call.encodeStringPage(valuesPtr, textPtr, count, encodedPtr, scratchPtr, below(4) === 0 ? 0 : 1)
    mutate(u8.slice(encodedPtr, encodedPtr + byteLength), count, 100, (page, claimed) => {
      const pagePtr = memoryEnd - page.length
      const textByteLength = call.decodedStringByteLength(pagePtr, page.length, claimed)
      const from = below(claimed + 1)
      const rowsByteLength = call.stringRowsByteLength(pagePtr, page.length, claimed, from, claimed)
      expect(rowsByteLength >= -1 && rowsByteLength <= Math.max(-1, textByteLength), `seed ${seed}`).toBe(true)
      // The caller asks first and gives as much; a claim beyond its means it refuses itself.
      if (textByteLength < 0 || textByteLength > MiB) {
        refused++
        return
      }
      const textEnd = textTargetPtr + textByteLength
      u8.fill(canary, textTargetPtr - 64, textTargetPtr)
      u8.fill(canary, textEnd, textEnd + 64)
      const status = call.decodeStringPage(pagePtr, page.length, claimed, targetPtr, textTargetPtr)
      expect(onlyCanaries(textTargetPtr - 64, 64) && onlyCanaries(textEnd, 64), `seed ${seed}`).toBe(true)
      settle(status, targetPtr + (claimed + 1) * 4)
    })
  }
  expect(refused).toBeGreaterThan(10_000)
  expect(decoded).toBeGreaterThan(10_000)
})

test('the bench runs, and finds that what it decodes is what it encoded', async () => {
  const rows = await benchPages({ seconds: 0.001 })
  expect(rows.length).toBeGreaterThan(20)
  for (const row of rows) expect(row.valuesPerSecond, row.name).toBeGreaterThan(0)
})
