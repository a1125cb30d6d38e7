// Page codecs, statistics and CRC-32C on pages that stay in a core's cache. Speeds are per thread, of decoded values.
import { createMemory, type Kernels, loadKernels } from '../engine/kernels/kernels.js'
import type { BenchRow } from './rows.js'

const pageCount = 16
const valueCount = 4096
const pageByteLength = valueCount * 8
const encodedByteLengthMax = pageByteLength + 4096 + 1024

type Codec = 'Int64' | 'Time' | 'Float64'

/** A small seeded generator (mulberry32), so that every run measures the same pages. */
function randomOf(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

const random = randomOf(1)
const below = (end: number) => Math.floor(random() * end)
const normal = () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random())

/** One page of a random walk that is turned back at 0 and 100. */
function walk(): number[] {
  let value = 50
  return Array.from({ length: valueCount }, () => {
    const next = value + normal()
    value = next < 0 || next > 100 ? value : next
    return value
  })
}

function ints(numbers: number[]): BigInt64Array {
  return BigInt64Array.from(numbers, (x) => BigInt(Math.trunc(x)))
}

function bits(numbers: number[]): BigInt64Array {
  return new BigInt64Array(Float64Array.from(numbers).buffer)
}

const startMs = 1_700_000_000_000
const shapes: readonly { name: string; codec: Codec; page: () => BigInt64Array }[] = [
  { name: 'int64 random walk', codec: 'Int64', page: () => ints(walk()) },
  { name: 'int64 noise 0..1000', codec: 'Int64', page: () => ints(walk().map(() => below(1001))) },
  { name: 'int64 counter', codec: 'Int64', page: () => ints(walk().map((x, i) => i * 5000 + x * 97)) },
  {
    name: 'int64 full random',
    codec: 'Int64',
    page: () => new BigInt64Array(Uint32Array.from({ length: valueCount * 2 }, () => below(2 ** 32)).buffer),
  },
  {
    name: 'time regular',
    codec: 'Time',
    page: () => BigInt64Array.from(walk(), (_, i) => BigInt(startMs + i * 10_000) * 1_000_000n),
  },
  {
    name: 'time jitter of ms',
    codec: 'Time',
    page: () => BigInt64Array.from(walk(), (_, i) => BigInt(startMs + i * 10_000 + below(200)) * 1_000_000n),
  },
  {
    name: 'time jitter of ns',
    codec: 'Time',
    page: () => BigInt64Array.from(walk(), (_, i) => BigInt(startMs + i * 10_000) * 1_000_000n + BigInt(below(1e6))),
  },
  {
    name: 'float64 two decimals walk',
    codec: 'Float64',
    page: () => bits(walk().map((x) => Math.round(x * 100) / 100)),
  },
  { name: 'float64 four decimals noise', codec: 'Float64', page: () => bits(walk().map(() => below(1e7) / 1e4)) },
  { name: 'float64 full doubles walk', codec: 'Float64', page: () => bits(walk()) },
  { name: 'float64 full doubles around 0', codec: 'Float64', page: () => bits(walk().map(normal)) },
]

const textShapes: Readonly<Record<string, (row: number) => string>> = {
  'strings of 20 hosts': () => `host-${below(20)}.example.com`,
  'strings all different': (row) => `user-${row * 7919}`,
}

const bitShapes: Readonly<Record<string, (row: number) => number>> = {
  'bools half and half': () => below(2),
  'bools 1 % set': () => +(below(100) === 0),
  'bools in runs': (row) => (row >> 9) & 1,
}

/** One page again and again, as many times as other passes have pages. */
function repeated(step: () => number): () => void {
  return () => {
    for (let page = 0; page < pageCount; page++) step()
  }
}

/** Runs `pass` (over all pages) for about the given time and returns passes per second of the fastest tenth. */
function passesPerSecond(seconds: number, pass: () => void): number {
  // The first passes run in V8's baseline compiler.
  const warmUpEnd = performance.now() + seconds * 500
  while (performance.now() < warmUpEnd) pass()
  const passMs: number[] = []
  const end = performance.now() + seconds * 1000
  do {
    const start = performance.now()
    pass()
    passMs.push(performance.now() - start)
  } while (performance.now() < end)
  passMs.sort((a, b) => a - b)
  return 1000 / passMs[Math.floor(passMs.length / 10)]!
}

interface Places {
  readonly scratchPtr: number
  readonly valuesPtr: number
  readonly encodedPtr: number
  readonly targetPtr: number
}

function placesOf(kernels: Kernels): Places {
  const scratchPtr = (kernels.call.heapBase() + 63) & ~63
  const valuesPtr = scratchPtr + 256 * 1024
  const encodedPtr = valuesPtr + pageCount * pageByteLength
  return { scratchPtr, valuesPtr, encodedPtr, targetPtr: encodedPtr + pageCount * encodedByteLengthMax }
}

/** Measures every page kernel; `seconds` is the time of each row. */
export async function benchPages(options: { seconds: number }): Promise<BenchRow[]> {
  const kernels = loadKernels(createMemory(4 * 1024 * 1024))
  const { call, u8, i64 } = kernels
  const { scratchPtr, valuesPtr, encodedPtr, targetPtr } = placesOf(kernels)
  const { seconds } = options
  const allValues = pageCount * valueCount
  const memcpyBytesPerSecond =
    pageCount *
    pageByteLength *
    passesPerSecond(seconds, () => {
      for (let page = 0; page < pageCount; page++) {
        u8.copyWithin(targetPtr, valuesPtr + page * pageByteLength, valuesPtr + (page + 1) * pageByteLength)
      }
    })
  const rows: BenchRow[] = []
  const report = (name: string, checksum: number, pass: () => void, values = allValues, byteLength = values * 8) => {
    const passes = passesPerSecond(seconds, pass)
    rows.push({
      name,
      valuesPerSecond: values * passes,
      bytesPerSecond: byteLength * passes,
      memcpyBytesPerSecond,
      checksum: (checksum >>> 0).toString(16),
    })
  }

  for (const { name, codec, page: makePage } of shapes) {
    const encode = call[`encode${codec}Page`]
    const decode = call[`decode${codec}Page`]
    for (let page = 0; page < pageCount; page++) i64.set(makePage(), (valuesPtr + page * pageByteLength) / 8)
    const byteLengths = Array.from({ length: pageCount }, (_, page) => encodePage(page))
    const bytesPerValue = byteLengths.reduce((a, b) => a + b) / allValues
    const source = call.crc32c(valuesPtr, pageCount * pageByteLength, 0)
    report(`encode ${name}, ${bytesPerValue.toFixed(3)} B/value`, source, () => {
      for (let page = 0; page < pageCount; page++) encodePage(page)
    })
    let crc = 0
    for (let page = 0; page < pageCount; page++) {
      if (decodePage(page) < 0) throw new Error(`${name}: page ${page} does not decode`)
      crc = call.crc32c(targetPtr, pageByteLength, crc)
    }
    if (crc !== source) throw new Error(`${name}: pages do not come back`)
    report(`decode ${name}`, crc, () => {
      for (let page = 0; page < pageCount; page++) decodePage(page)
    })

    function encodePage(page: number): number {
      const target = encodedPtr + page * encodedByteLengthMax
      return encode(valuesPtr + page * pageByteLength, valueCount, target, scratchPtr)
    }

    function decodePage(page: number): number {
      return decode(encodedPtr + page * encodedByteLengthMax, byteLengths[page]!, valueCount, targetPtr)
    }
  }

  for (const [name, text] of Object.entries(textShapes)) {
    const texts = Array.from({ length: valueCount }, (_, row) => new TextEncoder().encode(text(row)))
    const textPtr = valuesPtr + pageByteLength
    let byteLength = 0
    texts.forEach((bytes, row) => {
      kernels.u32[valuesPtr / 4 + row] = byteLength
      u8.set(bytes, textPtr + byteLength)
      byteLength += bytes.length
    })
    kernels.u32[valuesPtr / 4 + valueCount] = byteLength
    const encode = () => call.encodeStringPage(valuesPtr, textPtr, valueCount, encodedPtr, scratchPtr, 1)
    const encodedByteLength = encode()
    const textTargetPtr = targetPtr + pageByteLength
    const decode = () => call.decodeStringPage(encodedPtr, encodedByteLength, valueCount, targetPtr, textTargetPtr)
    if (decode() < 0) throw new Error(`${name}: page does not decode`)
    const bytesPerValue = encodedByteLength / valueCount
    const checksum = call.crc32c(textTargetPtr, byteLength, 0)
    report(
      `encode ${name}, ${bytesPerValue.toFixed(3)} B/value`,
      checksum,
      repeated(encode),
      allValues,
      pageCount * byteLength,
    )
    report(`decode ${name}`, checksum, repeated(decode), allValues, pageCount * byteLength)
  }

  for (const [name, bit] of Object.entries(bitShapes)) {
    const byteLength = valueCount / 8
    u8.fill(0, valuesPtr, valuesPtr + byteLength)
    for (let row = 0; row < valueCount; row++) u8[valuesPtr + (row >> 3)]! |= bit(row) << (row & 7)
    const encode = () => call.encodeBoolPage(valuesPtr, valueCount, encodedPtr, scratchPtr)
    const encodedByteLength = encode()
    const decode = () => call.decodeBoolPage(encodedPtr, encodedByteLength, valueCount, targetPtr)
    if (decode() < 0) throw new Error(`${name}: page does not decode`)
    const bytesPerValue = encodedByteLength / valueCount
    const checksum = call.crc32c(targetPtr, byteLength, 0)
    report(
      `encode ${name}, ${bytesPerValue.toFixed(3)} B/value`,
      checksum,
      repeated(encode),
      allValues,
      pageCount * byteLength,
    )
    report(`decode ${name}`, checksum, repeated(decode), allValues, pageCount * byteLength)
  }

  for (const name of ['statisticsInt64', 'statisticsFloat64'] as const) {
    const makePage = name === 'statisticsInt64' ? () => ints(walk()) : () => bits(walk())
    for (let page = 0; page < pageCount; page++) i64.set(makePage(), (valuesPtr + page * pageByteLength) / 8)
    call[name](valuesPtr, valueCount, targetPtr)
    report(name, call.crc32c(targetPtr, 48, 0), () => {
      for (let page = 0; page < pageCount; page++) call[name](valuesPtr + page * pageByteLength, valueCount, targetPtr)
    })
  }
  report('crc32c', call.crc32c(valuesPtr, pageCount * pageByteLength, 0), () => {
    for (let page = 0; page < pageCount; page++) call.crc32c(valuesPtr + page * pageByteLength, pageByteLength, 0)
  })
  report('crc32cFolded', call.crc32cFolded(valuesPtr, pageCount * pageByteLength, 0, scratchPtr), () => {
    for (let page = 0; page < pageCount; page++)
      call.crc32cFolded(valuesPtr + page * pageByteLength, pageByteLength, 0, scratchPtr)
  })
  return rows
}
