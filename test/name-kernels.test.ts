// The kernels that look names up, against twins that are too simple to be wrong.
import { afterEach, expect, test } from 'vitest'
import { KernelMemory } from './kernel-memory.js'
import { SeededRandom, seed } from './seeded-random.js'

const memory = new KernelMemory(32 * 2 ** 20)
const { call } = memory
afterEach(() => memory.reset())
const encoder = new TextEncoder()
const noRow = 0xffffffff

// ---- hash and filter: what docs/formats.md says ---------------------------------------------------------------------

const mask64 = 2n ** 64n - 1n
const multiplier = 0x9e3779b97f4a7c15n
const otherMultiplier = 0xd6e8feb86659fd93n

function hashTwin(text: Uint8Array, start: bigint): bigint {
  let hash = start ^ ((BigInt(text.length) * otherMultiplier) & mask64)
  for (let at = 0; at < text.length; at += 8) {
    let word = 0n
    for (let i = 7; i >= 0; i--) word = (word << 8n) | BigInt(text[at + i] ?? 0)
    hash = ((hash ^ word) * multiplier) & mask64
    hash ^= hash >> 32n
  }
  hash = (hash * otherMultiplier) & mask64
  return hash ^ (hash >> 29n)
}

/** Which bits of a filter of so many lines a hash sets. */
function filterBitsTwin(hash: bigint, lineCount: number): number[] {
  const line = Number(((hash >> 32n) * BigInt(lineCount)) >> 32n)
  let bits = (hash * multiplier) & mask64
  bits ^= bits >> 32n
  const first = Number(bits & 7n)
  const second = (first + 1 + Number((bits >> 3n) & 3n)) & 7
  const six = (shift: bigint): number => Number((bits >> shift) & 63n)
  return [
    ...[5n, 11n, 17n, 23n].map((shift) => 64 * first + six(shift)),
    ...[29n, 35n, 41n].map((shift) => 64 * second + six(shift)),
  ].map((bit) => 512 * line + bit)
}

function randomTexts(random: SeededRandom, count: number): Uint8Array[] {
  return random.list(count, () =>
    encoder.encode(random.chance(0.5) ? `name-${random.integer(0, 500)}` : random.string()),
  )
}

const compare = (a: Uint8Array, b: Uint8Array): number => Buffer.compare(a, b)

test('a name is hashed with its folder, whatever the lengths, and reads nothing behind its text', () => {
  const random = new SeededRandom(seed)
  for (let round = 0; round < 30; round++) {
    memory.reset()
    const folders = randomTexts(random, random.integer(1, 5))
    const texts = [...randomTexts(random, 20), ...Array.from({ length: 26 }, (_, n) => new Uint8Array(n).fill(n))]
    const starts = folders.map((_, i) => (i === 0 ? 0 : random.integer(0, texts.length + 1))).sort((a, b) => a - b)
    const folderList = memory.strings(folders)
    const names = memory.stringsAtEnd(texts)
    const hashes = memory.i64s(texts.length)
    call.hashItems(
      folderList.offsets,
      folderList.bytes,
      memory.u32s(starts),
      folders.length,
      names.offsets,
      names.bytes,
      texts.length,
      hashes,
    )
    const wanted = texts.map((text, row) => {
      let folder = 0
      while (folder + 1 < folders.length && starts[folder + 1]! <= row) folder++
      return BigInt.asIntN(64, hashTwin(text, hashTwin(folders[folder]!, 0n)))
    })
    expect(memory.readI64s(hashes, texts.length)).toEqual(wanted)
  }
})

test('a filter has the bits of its names, lets them all pass, and few others', () => {
  const random = new SeededRandom(seed + 1)
  for (const count of [1, 2, 31, 32, 33, 1000, 20_000]) {
    memory.reset()
    const hashes = random.list(count, () => BigInt.asIntN(64, hashTwin(encoder.encode(`${random.next()}`), 5n)))
    const byteLength = call.nameFilterByteLength(count)
    expect(byteLength).toBe(64 * Math.ceil(count / 32))
    const filter = memory.allocate(byteLength)
    const hashesPtr = memory.i64s(hashes)
    call.buildNameFilter(hashesPtr, count, filter, byteLength)
    const bits = new Uint8Array(byteLength)
    for (const hash of hashes)
      for (const bit of filterBitsTwin(BigInt.asUintN(64, hash), byteLength / 64)) bits[bit >> 3]! |= 1 << (bit & 7)
    expect(Buffer.compare(memory.readBytes(filter, byteLength), bits)).toBe(0)

    const all = memory.u32s(Array.from({ length: count }, (_, i) => i))
    const target = memory.u32s(count)
    expect(call.probeNameFilter(filter, byteLength, hashesPtr, all, count, target)).toBe(count)
    const others = random.list(10_000, () => BigInt.asIntN(64, hashTwin(encoder.encode(`${random.next()}`), 7n)))
    const asked = Array.from({ length: others.length }, (_, i) => i).filter(() => random.chance(0.7))
    const survivors = memory.u32s(asked.length)
    const survivorCount = call.probeNameFilter(
      filter,
      byteLength,
      memory.i64s(others),
      memory.u32s(asked),
      asked.length,
      survivors,
    )
    const passes = (i: number): boolean =>
      filterBitsTwin(BigInt.asUintN(64, others[i]!), byteLength / 64).every(
        (bit) => ((bits[bit >> 3]! >> (bit & 7)) & 1) === 1,
      )
    expect(memory.readU32s(survivors, survivorCount)).toEqual(asked.filter(passes))
    expect(survivorCount).toBeLessThan(asked.length * 0.01)
  }
})

// ---- searches -------------------------------------------------------------------------------------------------------

test('a search gives the first text that does not stand before another', () => {
  const random = new SeededRandom(seed + 2)
  for (let round = 0; round < 100; round++) {
    memory.reset()
    const texts = randomTexts(random, random.integer(0, 60)).sort(compare)
    const { offsets, bytes } = memory.strings(texts)
    const from = random.integer(0, texts.length + 1)
    const to = random.integer(from, texts.length + 1)
    const text = random.chance(0.5) && texts.length > 0 ? random.pick(texts) : randomTexts(random, 1)[0]!
    let wanted = from
    while (wanted < to && compare(texts[wanted]!, text) < 0) wanted++
    expect(call.lowerBoundText(offsets, bytes, from, to, memory.bytes(text), text.length)).toBe(wanted)
  }
})

test('in blocks that follow each other, names are looked for where the fences say and the filter lets them through', () => {
  const random = new SeededRandom(seed + 11)
  for (let round = 0; round < 100; round++) {
    memory.reset()
    const distinct = new Map(randomTexts(random, random.integer(2, 200)).map((text) => [String(text), text]))
    const all = [...distinct.values()].sort(compare)
    // Blocks of up to 40 names in pages of up to 5, with gaps between them.
    const blocks: Uint8Array[][] = []
    for (let start = random.integer(0, 2); start < all.length; ) {
      const block = all.slice(start, start + random.integer(1, 40))
      blocks.push(block)
      start += block.length + random.integer(0, 3)
    }
    if (blocks.length === 0) continue
    const pageLength = random.integer(1, 6)
    const hashes = (list: { offsets: number; bytes: number }, count: number): number => {
      const hashesPtr = memory.allocate(8 * count)
      const folder = memory.strings([Buffer.from('')])
      call.hashItems(folder.offsets, folder.bytes, memory.u32s([0]), 1, list.offsets, list.bytes, count, hashesPtr)
      return hashesPtr
    }
    const fencesOf = (block: Uint8Array[]) => block.filter((_, i) => i % pageLength === 0)
    const fields = blocks.flatMap((block) => {
      const byteLength = call.nameFilterByteLength(block.length)
      const filterPtr = memory.allocate(byteLength)
      call.buildNameFilter(hashes(memory.strings(block), block.length), block.length, filterPtr, byteLength)
      const fences = memory.strings([...fencesOf(block), block[block.length - 1]!])
      return [filterPtr, byteLength, fences.offsets, fences.bytes, fencesOf(block).length, 0]
    })
    const asked = [...random.list(40, () => random.pick(all)), ...randomTexts(random, 20)].sort(compare)
    const list = memory.strings(asked)
    const hashesPtr = hashes(list, asked.length)
    const pending = asked.map((_, i) => i).filter(() => random.chance(0.8))
    const [survivors, pages] = [memory.u32s(pending.length), memory.u32s(pending.length)]
    const starts = memory.u32s(blocks.length + 1)
    const count = call.findPagesOfRun(
      memory.u32s(fields),
      blocks.length,
      list.offsets,
      list.bytes,
      hashesPtr,
      memory.u32s(pending),
      pending.length,
      survivors,
      pages,
      starts,
    )
    const found = memory.readU32s(survivors, count)
    const foundPages = memory.readU32s(pages, count)
    const blockStarts = memory.readU32s(starts, blocks.length + 1)
    expect([blockStarts[0], blockStarts[blocks.length]]).toEqual([0, count])
    expect(found.every((index) => pending.includes(index))).toBe(true)
    blocks.forEach((block, b) => {
      const own = found.slice(blockStarts[b], blockStarts[b + 1])
      expect(own).toEqual([...own].sort((x, y) => x - y))
      const fences = fencesOf(block)
      own.forEach((index, i) => {
        const name = asked[index]!
        const next = blocks[b + 1]?.[0]
        expect(compare(block[0]!, name) <= 0 && (next === undefined || compare(name, next) < 0)).toBe(true)
        const page = fences.filter((fence) => compare(fence, name) <= 0).length - 1
        expect(foundPages[blockStarts[b]! + i]).toBe(page)
      })
      // A filter never loses a name.
      const there = pending.filter((index) => block.some((name) => compare(name, asked[index]!) === 0))
      expect(there.every((index) => own.includes(index))).toBe(true)
    })
  }
})

test('names are found in the page whose first name is not behind them, and in its rows', () => {
  const random = new SeededRandom(seed + 3)
  for (let round = 0; round < 200; round++) {
    memory.reset()
    const distinct = new Map(randomTexts(random, random.integer(1, 80)).map((text) => [String(text), text]))
    const fences = [...distinct.values()].sort(compare)
    const names = randomTexts(random, random.integer(1, 60)).sort(compare)
    const indexes = names.map((_, i) => i).filter(() => random.chance(0.6))
    const list = memory.strings(fences)
    const { offsets, bytes } = memory.strings(names)
    const indexesPtr = memory.u32s(indexes)
    const pageStart = random.integer(0, fences.length)
    const pageEnd = random.integer(pageStart + 1, fences.length + 1)
    const pages = memory.u32s(indexes.length)
    call.findPages(list.offsets, list.bytes, pageStart, pageEnd, offsets, bytes, indexesPtr, indexes.length, pages)
    expect(memory.readU32s(pages, indexes.length)).toEqual(
      indexes.map((index) => {
        let page = pageStart
        while (page + 1 < pageEnd && compare(fences[page + 1]!, names[index]!) <= 0) page++
        return page
      }),
    )
    const rows = memory.u32s(indexes.length)
    const count = call.findRows(
      list.offsets,
      list.bytes,
      pageStart,
      pageEnd,
      offsets,
      bytes,
      indexesPtr,
      indexes.length,
      rows,
    )
    const wanted = indexes.map((index) => {
      const row = fences.findIndex((text) => compare(text, names[index]!) === 0)
      return row >= pageStart && row < pageEnd ? row : noRow
    })
    expect(memory.readU32s(rows, indexes.length)).toEqual(wanted)
    expect(count).toBe(wanted.filter((row) => row !== noRow).length)

    const deadBits = fences.map(() => random.chance(0.4))
    const offset = random.integer(0, 5) * 8
    const deadPtr = memory.bits([...new Array<boolean>(offset).fill(false), ...deadBits])
    const sources = memory.u32s(names.map(() => noRow))
    const found = memory.u32s(names.map(() => noRow))
    const taken = call.takeFound(indexesPtr, rows, indexes.length, offset, deadPtr, 7, sources, found)
    const places = new Map(indexes.map((index, i) => [index, wanted[i]!]))
    const isTaken = (i: number): boolean => {
      const row = places.get(i) ?? noRow
      return row !== noRow && !deadBits[row]!
    }
    expect(memory.readU32s(sources, names.length)).toEqual(names.map((_, i) => (isTaken(i) ? 7 : noRow)))
    expect(memory.readU32s(found, names.length)).toEqual(
      names.map((_, i) => (isTaken(i) ? places.get(i)! + offset : noRow)),
    )
    expect(taken).toBe(names.filter((_, i) => isTaken(i)).length)
    const left = call.dropFound(indexesPtr, indexes.length, sources)
    expect(memory.readU32s(indexesPtr, left)).toEqual(indexes.filter((index) => !isTaken(index)))
  }
})

// ---- cells ----------------------------------------------------------------------------------------------------------

test('cells of a page are put where they are wanted, and other places stay', () => {
  const random = new SeededRandom(seed + 4)
  for (let round = 0; round < 100; round++) {
    memory.reset()
    const rowCount = random.integer(1, 100)
    const rowOffset = random.integer(0, 1000)
    const count = random.integer(1, 80)
    const sources = random.list(count, () => random.pick([3, 4, noRow]))
    const rows = random.list(count, () => rowOffset + random.integer(0, rowCount))
    const places = sources.flatMap((source, i) => (source === 3 ? [i] : []))
    const placesPtr = memory.u32s(count)
    const sourcesPtr = memory.u32s(sources)
    const groupStartsPtr = memory.u32s(6)
    expect(call.groupBySource(sourcesPtr, count, 5, placesPtr, groupStartsPtr)).toBe(
      sources.filter((source) => source !== noRow).length,
    )
    const starts = memory.readU32s(groupStartsPtr, 6)
    for (let source = 0; source < 5; source++) {
      expect(memory.readU32s(placesPtr + 4 * starts[source]!, starts[source + 1]! - starts[source]!)).toEqual(
        sources.flatMap((one, i) => (one === source ? [i] : [])),
      )
    }
    expect(starts[3]).toBe(0)
    const rowsPtr = memory.u32s(rows)

    const values = random.list(rowCount, () => random.int64())
    const before = random.list(count, () => random.int64())
    const target = memory.i64s(before)
    call.scatter64(memory.i64s(values), placesPtr, places.length, rowsPtr, rowOffset, target)
    const isPlace = (i: number): boolean => sources[i] === 3
    expect(memory.readI64s(target, count)).toEqual(
      before.map((value, i) => (isPlace(i) ? values[rows[i]! - rowOffset]! : value)),
    )

    for (const bits of [random.list(rowCount, () => random.chance(0.5)), null]) {
      const bitsBefore = random.list(count, () => random.chance(0.5))
      const bitsTarget = memory.bits(bitsBefore)
      const setCount = call.scatterBits(
        bits === null ? 0 : memory.bits(bits),
        placesPtr,
        places.length,
        rowsPtr,
        rowOffset,
        bitsTarget,
      )
      const bitOf = (i: number): boolean => (bits === null ? true : bits[rows[i]! - rowOffset]!)
      expect(memory.readBits(bitsTarget, count)).toEqual(bitsBefore.map((bit, i) => (isPlace(i) ? bitOf(i) : bit)))
      expect(setCount).toBe(places.filter(bitOf).length)
    }

    const texts = randomTexts(random, rowCount)
    const { offsets, bytes } = memory.strings(texts)
    const wanted = sources.map((_, i) => (isPlace(i) ? texts[rows[i]! - rowOffset]! : new Uint8Array(0)))
    const byteLength = wanted.reduce((sum, text) => sum + text.length, 0)
    expect(call.scatteredTextsByteLength(offsets, placesPtr, places.length, rowsPtr, rowOffset)).toBe(byteLength)
    const [textPtr, startsPtr] = [memory.allocate(byteLength), memory.u32s(count)]
    const lengthsPtr = memory.u32s(new Array<number>(count).fill(0))
    call.scatterTexts(offsets, bytes, placesPtr, places.length, rowsPtr, rowOffset, textPtr, startsPtr, lengthsPtr)
    const [joinedOffsets, joinedBytes] = [memory.u32s(count + 1), memory.allocate(byteLength)]
    call.joinTexts(startsPtr, lengthsPtr, count, joinedOffsets, joinedBytes)
    const ends = memory.readU32s(joinedOffsets, count + 1)
    expect(wanted.map((_, i) => [...memory.readBytes(joinedBytes + ends[i]!, ends[i + 1]! - ends[i]!)])).toEqual(
      wanted.map((text) => [...text]),
    )
  }
})

// ---- merging --------------------------------------------------------------------------------------------------------

test('sorted names are merged without the dead, up to a capacity, a limit or the end of one list', () => {
  const random = new SeededRandom(seed + 5)
  for (let round = 0; round < 300; round++) {
    memory.reset()
    const lists = random.list(random.integer(1, 7), (source) => {
      const texts = [
        ...new Map(randomTexts(random, random.integer(1, 30)).map((text) => [String(text), text])).values(),
      ]
      return {
        source: source + 10,
        rowOffset: random.integer(0, 4) * 8,
        texts: texts.sort(compare),
        dead: texts.map(() => random.chance(0.3)),
        hasDead: random.chance(0.7),
      }
    })
    const cursorByteLength = call.nameCursorByteLength()
    const cursors = memory.allocate(cursorByteLength * lists.length)
    const starts = lists.map(({ texts }) => random.integer(0, texts.length))
    lists.forEach(({ source, rowOffset, texts, dead, hasDead }, i) => {
      const { offsets, bytes } = memory.strings(texts)
      const deadPtr = hasDead ? memory.bits([...new Array<boolean>(rowOffset).fill(true), ...dead]) : 0
      memory.kernels.u32.set(
        [offsets, bytes, starts[i]!, texts.length, rowOffset, source, deadPtr, 0],
        (cursors + i * cursorByteLength) >> 2,
      )
    })
    const capacity = random.integer(1, 60)
    const limit = random.chance(0.4) ? randomTexts(random, 1)[0]! : null
    const [sources, rows] = [memory.u32s(capacity), memory.u32s(capacity)]
    const result = memory.u32s(1)
    const ended = call.mergeNames(
      cursors,
      lists.length,
      memory.u32s(lists.length),
      limit === null ? 0 : memory.bytes(limit.length === 0 ? new Uint8Array(1) : limit),
      limit?.length ?? 0,
      capacity,
      sources,
      rows,
      result,
    )
    const written = memory.readU32s(result, 1)[0]!
    const found = memory.readU32s(sources, written).map((source, i) => [source, memory.readU32s(rows, written)[i]!])
    const moved = lists.map((_, i) => memory.kernels.u32[((cursors + i * cursorByteLength) >> 2) + 2]!)
    // What was passed is exactly what stands before what is left, and its living rows were written in order.
    const passed = lists.flatMap(({ source, rowOffset, texts, dead, hasDead }, i) =>
      texts.slice(starts[i], moved[i]).flatMap((text, k) => {
        const row = starts[i]! + k
        return hasDead && dead[row]! ? [] : [{ text, place: [source, row + rowOffset] }]
      }),
    )
    expect(found.map(([source, row]) => `${source} ${row}`).sort()).toEqual(
      passed.map(({ place }) => place.join(' ')).sort(),
    )
    const textOf = new Map(passed.map(({ text, place }) => [place.join(' '), text]))
    const order = found.map((place) => textOf.get(place.join(' '))!)
    expect(order.every((text, i) => i === 0 || compare(order[i - 1]!, text) <= 0)).toBe(true)
    const last = order[order.length - 1]
    const left = lists.flatMap(({ texts }, i) => texts.slice(moved[i]))
    if (last !== undefined) expect(left.every((text) => compare(last, text) <= 0)).toBe(true)
    if (limit !== null) expect(order.every((text) => compare(text, limit) < 0)).toBe(true)
    if (ended === -2) expect(left.every((text) => compare(text, limit!) >= 0)).toBe(true)
    else if (ended === -1) expect(written).toBe(capacity)
    else expect(moved[ended]).toBe(lists[ended]!.texts.length)
  }
})
