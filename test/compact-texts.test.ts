// Pages of texts as they are kept for look-ups, against a twin: every text comes back, and sorted names are found.
import { afterEach, expect, test } from 'vitest'
import { KernelMemory } from './kernel-memory.js'
import { SeededRandom, seed } from './seeded-random.js'

const memory = new KernelMemory(16 * 2 ** 20)
const { call } = memory
afterEach(() => memory.reset())
const noRow = 0xffffffff
const stringsCodec = 8

/** An encoded page of texts, in exactly as many bytes as it has. */
function encoded(texts: readonly Uint8Array[]): { pagePtr: number; byteLength: number } {
  const { offsets, bytes } = memory.strings(texts)
  const textByteLength = texts.reduce((sum, text) => sum + text.length, 0)
  const wholePtr = memory.allocate(call.maxEncodedStringPage(texts.length, textByteLength))
  const byteLength = call.encodeStringPage(offsets, bytes, texts.length, wholePtr, memory.allocate(256 * 1024), 0)
  return { pagePtr: memory.bytes(memory.readBytes(wholePtr, byteLength)), byteLength }
}

/** A compact page, again in exactly as many bytes as it has. */
function compacted(texts: readonly Uint8Array[], present: readonly boolean[] | null): number {
  const rowCount = present?.length ?? texts.length
  const { pagePtr, byteLength } = encoded(texts)
  const bits = present === null ? [] : [...present, ...new Array<boolean>((64 - (rowCount % 64)) % 64).fill(false)]
  const validityPtr = present === null ? 0 : memory.bits(bits)
  const byteLengthMax = call.compactTextsByteLengthMax(byteLength, rowCount)
  const compactPtr = memory.allocate(byteLengthMax)
  const compactByteLength = call.compactTexts(pagePtr, byteLength, texts.length, validityPtr, rowCount, compactPtr)
  expect(compactByteLength).toBeGreaterThan(0)
  expect(compactByteLength).toBeLessThanOrEqual(byteLengthMax)
  return memory.bytes(memory.readBytes(compactPtr, compactByteLength))
}

function textOf(random: SeededRandom, kind: number): string {
  if (kind === 0) return random.pick(['LAX', 'SFO', 'JFK', '', 'a longer one than eight bytes'])
  if (kind === 1) return `flight/2001-${random.integer(0, 3_000_000)}`
  return random.string()
}

test('texts of every kind of page come back, present or missing', () => {
  const random = new SeededRandom(seed)
  for (let round = 0; round < 200; round++) {
    memory.reset()
    const rowCount = random.pick([1, 2, 63, 64, 65, random.integer(1, 1025)])
    const present = random.chance(0.5) ? null : random.bits(rowCount)
    const kind = random.integer(0, 4)
    const one = textOf(random, 2)
    const texts = random.list(rowCount, () => Buffer.from(kind === 3 ? one : textOf(random, kind)))
    const stored = texts.filter((_, row) => present?.[row] ?? true)
    if (stored.length === 0) continue
    const pagePtr = compacted(stored, present)

    const count = random.integer(1, 60)
    const rows = random.list(count, () => random.integer(0, rowCount))
    const places = random.list(count, (place) => place).filter(() => random.chance(0.7))
    const isKept = places.map(() => random.chance(0.8))
    const bitsBefore = random.list(count, () => random.chance(0.5))
    const bitsPtr = memory.bits(bitsBefore)
    const pagesPtr = memory.u32s(isKept.map((kept) => (kept ? pagePtr : 0)))
    const pageRowsPtr = memory.u32s(places.map((place) => rows[place]!))
    const startsPtr = memory.u32s(count)
    const byteLengthsPtr = memory.u32s(count)
    const isPresent = (place: number): boolean => present?.[rows[place]!] ?? true
    const textsPtr = memory.allocate(8 * (places.length + 1))
    const byteLength = call.locateCompactTexts(pagesPtr, pageRowsPtr, places.length, textsPtr)
    const textPtr = memory.allocate(byteLength)
    const presentCount = call.scatterCompactTexts(
      pagesPtr,
      memory.u32s(places),
      textsPtr,
      places.length,
      textPtr,
      startsPtr,
      byteLengthsPtr,
      bitsPtr,
    )
    const starts = memory.readU32s(startsPtr, count)
    const byteLengths = memory.readU32s(byteLengthsPtr, count)
    const wantedPlaces = places.filter((_, i) => isKept[i])
    for (const place of wantedPlaces) {
      const wanted = isPresent(place) ? texts[rows[place]!]! : Buffer.alloc(0)
      expect(Buffer.from(memory.readBytes(starts[place]!, byteLengths[place]!))).toEqual(wanted)
    }
    const bits = bitsBefore.map((bit, place) => (wantedPlaces.includes(place) ? isPresent(place) : bit))
    expect(memory.readBits(bitsPtr, count)).toEqual(bits)
    expect(presentCount).toBe(wantedPlaces.filter(isPresent).length)
    expect(byteLength).toBe(wantedPlaces.reduce((sum, place) => sum + byteLengths[place]!, 0))
  }
})

test('a text of more than 64 KiB comes back', () => {
  const texts = [Buffer.alloc(70_000, 'x'), Buffer.from('y'), Buffer.alloc(70_000, 'z')]
  const pagePtr = compacted(texts, null)
  const starts = memory.u32s(3)
  const byteLengths = memory.u32s(3)
  const [places, rows] = [memory.u32s([0, 1, 2]), memory.u32s([2, 1, 0])]
  const pages = memory.u32s([pagePtr, pagePtr, pagePtr])
  const found = memory.allocate(4 * 8)
  const target = memory.allocate(call.locateCompactTexts(pages, rows, 3, found))
  call.scatterCompactTexts(pages, places, found, 3, target, starts, byteLengths, memory.allocate(8))
  const read = memory.readU32s(starts, 3).map((at, i) => memory.readBytes(at, memory.readU32s(byteLengths, 3)[i]!))
  expect(read.map((bytes) => Buffer.from(bytes))).toEqual([...texts].reverse())
})

test('names are found in the rows of their folder, and absent ones are not', () => {
  const random = new SeededRandom(seed + 1)
  const prefixes = ['', 'user', 'x'.repeat(20), '\0\0']
  for (let round = 0; round < 300; round++) {
    memory.reset()
    const prefix = random.pick(prefixes)
    const suffix = (): string =>
      random.chance(0.5)
        ? String(random.integer(0, 500))
        : random.list(random.integer(0, 12), () => random.pick(['\0', 'a', 'b', '\xff', 'é'])).join('')
    const distinct = new Set(random.list(random.integer(1, 120), () => prefix + suffix()))
    const names = [...distinct].map((name) => Buffer.from(name)).sort(Buffer.compare)
    // As where folders follow each other: the same names again, so that the page is a dictionary.
    const isTwice = random.chance(0.3)
    const page = isTwice ? [...names, ...names] : names
    const pagePtr = compacted(page, null)
    const folderStart = isTwice && random.chance(0.5) ? names.length : 0
    const rowStart = folderStart + random.integer(0, names.length)
    const rowEnd = random.integer(rowStart, folderStart + names.length) + 1
    const pageStarts = [1000, 1000 + page.length, 1100 + page.length]
    const asked = random
      .list(random.integer(1, 60), () =>
        random.chance(0.6) ? random.pick(names) : Buffer.from(random.pick([prefix + suffix(), suffix(), prefix])),
      )
      .sort(Buffer.compare)
    const indexes = asked.map((_, i) => i).filter(() => random.chance(0.8))
    const { offsets, bytes } = memory.strings(asked)
    const rows = memory.u32s(indexes.length)
    const indexesPtr = memory.u32s(indexes)
    const isKept = indexes.map(() => random.chance(0.9))
    const count = call.findCompactRows(
      memory.u32s(indexes.map(() => 0)),
      memory.u32s(isKept.map((kept) => (kept ? pagePtr : 0))),
      memory.u32s(pageStarts),
      // Rows of the folder that stand in other pages do not count.
      rowStart === 0 && random.chance(0.5) ? 0 : 1000 + rowStart,
      rowEnd === page.length && random.chance(0.5) ? 1100 + page.length : 1000 + rowEnd,
      offsets,
      bytes,
      indexesPtr,
      indexes.length,
      memory.allocate(16 * indexes.length),
      rows,
    )
    const wanted = indexes.map((index, i) => {
      for (let row = rowStart; row < rowEnd && isKept[i]; row++) if (page[row]!.equals(asked[index]!)) return row + 1000
      return noRow
    })
    expect(memory.readU32s(rows, indexes.length)).toEqual(wanted)
    expect(count).toBe(wanted.filter((row) => row !== noRow).length)
  }
})

test('whatever the bytes of a page, nothing outside the target is written', () => {
  const random = new SeededRandom(seed + 2)
  let refusedCount = 0
  for (let round = 0; round < 500; round++) {
    memory.reset()
    const rowCount = random.integer(1, 200)
    const kind = random.integer(0, 3)
    const { pagePtr, byteLength } = encoded(random.list(rowCount, () => Buffer.from(textOf(random, kind))))
    for (let i = random.integer(1, 5); i > 0; i--)
      memory.kernels.u8[pagePtr + random.integer(0, Math.min(byteLength, 40))] = random.integer(0, 256)
    const cut = random.chance(0.5) ? byteLength : random.integer(0, byteLength + 1)
    const target = memory.allocate(call.compactTextsByteLengthMax(cut, rowCount))
    if (call.compactTexts(pagePtr, cut, rowCount, 0, rowCount, target) < 0) refusedCount++
    memory.checkGuards()
  }
  expect(refusedCount).toBeGreaterThan(50)
})

test('names that all differ are kept without what they begin with', () => {
  const names = Array.from({ length: 1000 }, (_, i) => Buffer.from(`customer/0000${1000 + i}`))
  const { pagePtr, byteLength } = encoded(names)
  expect(memory.kernels.u8[pagePtr]).toBe(stringsCodec)
  const target = memory.allocate(call.compactTextsByteLengthMax(byteLength, names.length))
  // A header, 16 bits and half a byte for each name, three digits (all begin with customer/00001), and what is rounded up.
  const compactByteLength = call.compactTexts(pagePtr, byteLength, names.length, 0, names.length, target)
  expect(compactByteLength).toBeLessThan(24 + 5.5 * 1000 + 14 + 40)
})
