// Pages as values of a wire column: what the kernel writes at once is what decoding and encoding one by one would write.
import { expect, test } from 'vitest'
import { KernelMemory } from './kernel-memory.js'
import { SeededRandom, seed } from './seeded-random.js'

const memory = new KernelMemory(8 * 1024 * 1024)
const { call, kernels } = memory
const random = new SeededRandom(seed)
const scratchByteLength = 256 * 1024
const entryByteLength = 24
const badChecksum = 1
const undecodable = 2
const noRoom = 3

/** By their numbers in the kernel. */
const kinds = ['int64', 'float64', 'time'] as const
type Kind = (typeof kinds)[number]

interface Page {
  readonly bytes: Uint8Array
  readonly values: BigInt64Array
  readonly from: number
  readonly to: number
}

/** A page as it is stored; floats by their bits. */
function pageOf(values: BigInt64Array, kind: Kind, from = 0, to = values.length): Page {
  memory.reset()
  const count = values.length
  const [bound, encode] = {
    int64: [call.maxEncodedInt64Page, call.encodeInt64Page] as const,
    float64: [call.maxEncodedFloat64Page, call.encodeFloat64Page] as const,
    time: [call.maxEncodedTimePage, call.encodeTimePage] as const,
  }[kind]
  const max = bound(count)
  const valuesPtr = memory.allocate(8 * count)
  const targetPtr = memory.allocate(max)
  const scratchPtr = memory.allocate(scratchByteLength)
  kernels.i64.set(values, valuesPtr / 8)
  const byteLength = encode(valuesPtr, count, targetPtr, scratchPtr)
  return { bytes: kernels.u8.slice(targetPtr, targetPtr + byteLength), values, from, to }
}

function written(pages: readonly Page[], kind: Kind): Uint8Array {
  const bytes: number[] = []
  for (const { values, from, to } of pages) {
    if (kind === 'float64') {
      bytes.push(...new Uint8Array(values.slice(from, to).buffer))
      continue
    }
    for (const value of values.subarray(from, to)) {
      let rest = BigInt.asUintN(64, value)
      for (; rest >= 0x80n; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80)
      bytes.push(Number(rest))
    }
  }
  return Uint8Array.from(bytes)
}

/** Lays the pages out and runs the kernel over a target of so many bytes; its result, and what stands in the target. */
function write(
  pages: readonly Page[],
  kind: Kind,
  room: number,
  { offset = 0, damage = -1 } = {},
): { code: number; target: Uint8Array } {
  memory.reset()
  const entriesPtr = memory.allocate(entryByteLength * pages.length)
  pages.forEach(({ bytes, values, from, to }, i) => {
    const ptr = memory.bytes(bytes)
    const crc = call.crc32c(ptr, bytes.length, 0) >>> 0
    kernels.u32.set([ptr, bytes.length, i === damage ? crc ^ 1 : crc, values.length, from, to], entriesPtr / 4 + 6 * i)
  })
  const scratchPtr = memory.allocate(8 * 4096)
  const targetPtr = memory.allocate(offset + room) + offset
  const code = call.wirePages(entriesPtr, pages.length, kinds.indexOf(kind), scratchPtr, targetPtr, targetPtr + room)
  memory.checkGuards()
  return { code, target: kernels.u8.slice(targetPtr, targetPtr + Math.max(0, code)) }
}

const counts = [1, 2, 3, 15, 16, 17, 100, 127, 128, 129, 255, 256, 257, 300, 384, 500, 1000, 3360, 4095, 4096]

/** Integers of a shape that some path of the kernel is for. */
function integers(count: number): BigInt64Array {
  const kind = random.integer(0, 9)
  const high = random.pick([2, 3, 10, 100, 127, 128, 129, 300, 20_000])
  let walk = random.integer(0, high)
  const step = random.pick([1, 1, 2, 5, 60])
  const stray = random.pick([-1n, 128n, 32_768n, 65_536n + 5n, 65_536n, 2n ** 40n, -65_500n])
  const strayRow = random.integer(0, count)
  return BigInt64Array.from({ length: count }, (_, row) => {
    if (kind === 0) return random.int64()
    if (kind === 1) return BigInt(random.integer(0, high))
    if (kind === 2) return BigInt(random.chance(0.01) ? random.integer(0, high) : 7)
    if (kind === 3) return BigInt(row)
    if (kind === 4) return BigInt(random.chance(0.02) ? random.integer(0, 128) : random.integer(0, 4))
    walk = Math.max(0, Math.min(high - 1, walk + random.integer(-step, step + 1)))
    if (kind === 5) return BigInt(random.chance(0.03) ? random.integer(0, 128) : walk)
    if (kind === 6 && row === strayRow) return stray
    if (kind === 7 && row >= strayRow) return BigInt(walk) + stray
    return BigInt(walk)
  })
}

function doubles(count: number): BigInt64Array {
  const kind = random.integer(0, 3)
  let walk = 50
  const values = Float64Array.from({ length: count }, () => {
    walk += random.integer(-100, 101) / 100
    return kind === 0 ? random.float64() : Math.round(walk * 100) / 100
  })
  return new BigInt64Array(values.buffer)
}

/** Times of a series: regular, late now and then, or any. */
function times(count: number): BigInt64Array {
  const kind = random.integer(0, 4)
  const unit = random.pick([1n, 1_000n, 1_000_000n, 10_000_000_000n])
  let ns = random.pick([0n, 1_451_606_400_000_000_000n, -5_000_000_000_000_000_000n])
  return BigInt64Array.from({ length: count }, () => {
    if (kind === 0) return random.int64()
    ns += unit * BigInt(kind === 1 || random.chance(0.95) ? 10 : random.integer(0, 1000))
    return ns
  })
}

function cells(kind: Kind, count: number): BigInt64Array {
  return kind === 'float64' ? doubles(count) : kind === 'time' ? times(count) : integers(count)
}

test.for(kinds)('rows of pages are written one behind the other, wherever they are cut (%s)', (kind) => {
  for (let round = 0; round < 250; round++) {
    const pages = random.list(random.integer(1, 5), () => {
      const count = random.pick(counts)
      const from = random.chance(0.7) ? 0 : random.integer(0, count)
      const to = random.chance(0.7) ? count : random.integer(from, count) + 1
      return pageOf(cells(kind, count), kind, from, Math.max(from + 1, Math.min(count, to)))
    })
    const wanted = written(pages, kind)
    const room = wanted.length + (random.chance(0.5) ? 0 : random.integer(0, 40))
    const { code, target } = write(pages, kind, room, { offset: random.integer(0, 16) })
    expect(code, `round ${round}`).toBe(wanted.length)
    expect(Buffer.from(target).equals(wanted), `round ${round}`).toBe(true)
  }
})

test(`walks that leave one byte for some rows and come back are written as they are (seed ${seed})`, () => {
  for (let round = 0; round < 300; round++) {
    const step = random.pick([1, 2, 7, 30, 63])
    const [least, most] = random.pick([
      [-step, 100],
      [20, 127 + step],
      [-300, 400],
      [0, 256 + step],
    ] as const)
    let walk = random.integer(0, 128)
    const values = BigInt64Array.from({ length: random.pick(counts) }, () => {
      walk = Math.max(least, Math.min(most, walk + random.integer(-step, step + 1)))
      return BigInt(walk)
    })
    const pages = [pageOf(values, 'int64')]
    const wanted = written(pages, 'int64')
    const { code, target } = write(pages, 'int64', wanted.length)
    expect(code, `round ${round}`).toBe(wanted.length)
    expect(Buffer.from(target).equals(wanted), `round ${round}`).toBe(true)
  }
})

test.for(kinds)('a page that is damaged is told by its number (%s)', (kind) => {
  for (let round = 0; round < 100; round++) {
    const make = () => pageOf(cells(kind, 500), kind)
    const pages = [make(), make(), make()]
    const damage = random.integer(0, 3)
    const room = written(pages, kind).length
    expect(write(pages, kind, room, { damage }).code).toBe(-(4 * damage + badChecksum))
    // Bytes that fit their checksum and are no page.
    const broken = pages.map((page, i) => {
      if (i !== damage) return page
      const bytes = random.chance(0.5)
        ? page.bytes.subarray(0, random.integer(0, page.bytes.length))
        : page.bytes.slice()
      if (bytes.length === page.bytes.length) bytes[0] = 200
      return { ...page, bytes }
    })
    expect(write(broken, kind, room).code).toBe(-(4 * damage + undecodable))
  }
})

test.for(kinds)('nothing is written at the end of the room or behind it (%s)', (kind) => {
  for (let round = 0; round < 100; round++) {
    const pages = [pageOf(cells(kind, 300), kind, random.integer(0, 2))]
    const wanted = written(pages, kind)
    expect(write(pages, kind, random.integer(0, wanted.length)).code).toBe(-noRoom)
  }
})

test.for(['int64', 'time'] as const)(
  'whatever the bytes of a page, the kernel refuses them or writes as many values as it has rows (%s)',
  (kind) => {
    for (let round = 0; round < 2000; round++) {
      const page = pageOf(cells(kind, random.pick([17, 256, 300, 1000])), kind)
      const bytes = page.bytes.slice()
      for (let i = random.integer(1, 4); i > 0; i--) bytes[random.integer(0, bytes.length)] = random.integer(0, 256)
      const { code, target } = write([{ ...page, bytes }], kind, 10 * page.values.length + 16)
      if (code < 0) {
        expect(-code).toBe(undecodable)
        continue
      }
      expect(target.filter((byte) => byte < 0x80).length).toBe(page.values.length)
      const valuesPtr = memory.allocate(8 * page.values.length)
      const pagePtr = memory.bytes(bytes)
      const decode = kind === 'time' ? call.decodeTimePage : call.decodeInt64Page
      expect(decode(pagePtr, bytes.length, page.values.length, valuesPtr)).toBe(0)
      const values = kernels.i64.slice(valuesPtr / 8, valuesPtr / 8 + page.values.length)
      expect(Buffer.from(target).equals(written([{ ...page, values }], kind))).toBe(true)
    }
  },
)

test(`values are written as varints of the length that was said, whatever their neighbours (seed ${seed})`, () => {
  const limits = [0n, 127n, 128n, 2n ** 56n - 1n, 2n ** 56n, 2n ** 63n - 1n, -1n, -(2n ** 63n), 2n ** 49n]
  for (let round = 0; round < 400; round++) {
    const count = random.integer(0, 60)
    const kind = random.integer(0, 4)
    const valueAt = (row: number): bigint => {
      if (kind === 0) return 1_700_000_000_000_000_000n + BigInt(row) * 1_000_000_007n
      if (kind === 1) return random.pick(limits)
      const isOther = random.chance(0.04)
      const bits = BigInt(random.integer(57, 63))
      return isOther ? random.pick(limits) : kind === 2 ? 2n ** bits - 1n - BigInt(row) : BigInt(random.integer(0, 128))
    }
    const values = BigInt64Array.from({ length: count }, (_, row) => valueAt(row))
    const bytes = written([{ bytes: new Uint8Array(0), values, from: 0, to: count }], 'int64')
    memory.reset()
    const valuesPtr = memory.allocate(8 * count)
    kernels.i64.set(values, valuesPtr / 8)
    expect(call.wireVarintsByteLength(valuesPtr, count)).toBe(bytes.length)
    for (const room of [bytes.length, bytes.length + 100]) {
      const targetPtr = memory.allocate(room)
      expect(call.wireEncodeVarints(valuesPtr, count, targetPtr, targetPtr + room)).toBe(bytes.length)
      memory.checkGuards()
      expect(kernels.u8.slice(targetPtr, targetPtr + bytes.length)).toEqual(bytes)
    }
    if (bytes.length > 0) {
      const shortPtr = memory.allocate(bytes.length - 1)
      expect(call.wireEncodeVarints(valuesPtr, count, shortPtr, shortPtr + bytes.length - 1)).toBe(-1)
      memory.checkGuards()
    }
  }
})

/** Whether two lists name the same rows of pages of the same bytes. */
function areAlike(pages: readonly Page[], others: readonly Page[]): boolean {
  return pages.every(({ bytes, values, from, to }, i) => {
    const other = others[i]!
    const hasSameRows = values.length === other.values.length && from === other.from && to === other.to
    return hasSameRows && Buffer.from(bytes).equals(other.bytes)
  })
}

test(`pages are alike when all of their bytes and rows are (seed ${seed})`, () => {
  const seen = new Set<boolean>()
  for (let round = 0; round < 400; round++) {
    const pages = random.list(random.integer(1, 5), () => pageOf(times(random.pick([100, 101, 1000])), 'time'))
    const others: Page[] = pages.map((page) => ({ ...page, bytes: page.bytes.slice() }))
    const which = random.integer(0, pages.length)
    const other = others[which]!
    const change = random.integer(0, 6)
    if (change === 0) others[which] = { ...other, from: 1 }
    else if (change === 1) others[which] = { ...other, to: other.to - 1 }
    else if (change === 2) others[which] = pageOf(times(other.values.length), 'time')
    // One bit, wherever it is; the checksum is the one that was stored, so that nothing but the bytes tells.
    else if (change === 3) other.bytes[random.integer(0, other.bytes.length)]! ^= 1 << random.integer(0, 8)
    memory.reset()
    const listOf = (list: readonly Page[], crcs: readonly Page[]): number => {
      const entriesPtr = memory.allocate(entryByteLength * list.length)
      list.forEach(({ bytes, values, from, to }, i) => {
        const crc = call.crc32c(memory.bytes(crcs[i]!.bytes), crcs[i]!.bytes.length, 0) >>> 0
        const ptr = memory.bytes(bytes)
        kernels.u32.set([ptr, bytes.length, crc, values.length, from, to], entriesPtr / 4 + 6 * i)
      })
      return entriesPtr
    }
    const entriesPtr = listOf(pages, pages)
    const othersPtr = listOf(others, change === 3 ? pages : others)
    const wanted = areAlike(pages, others)
    seen.add(wanted)
    expect(call.arePagesAlike(entriesPtr, othersPtr, pages.length), `round ${round}`).toBe(wanted ? 1 : 0)
    memory.checkGuards()
  }
  expect(seen.size).toBe(2)
})
