import { expect, test } from 'vitest'
import { formatLabelKey, type Label } from '../dist/engine/backends/tsdb/labels.js'
import { KernelMemory, newSeed, Random } from './kernel-memory.js'

// The twin of every kernel in group.ts: a Map from a key that says all of a value.
function codesOf<Value>(
  values: readonly Value[],
  keyOf: (value: Value) => string,
): { codes: number[]; firstRows: number[] } {
  const codeOfKey = new Map<string, number>()
  const firstRows: number[] = []
  const codes = values.map((value, row) => {
    const key = keyOf(value)
    let code = codeOfKey.get(key)
    if (code === undefined) {
      code = firstRows.length
      codeOfKey.set(key, code)
      firstRows.push(row)
    }
    return code
  })
  return { codes, firstRows }
}

const memory = new KernelMemory(64 << 20)

/** Runs a dictionary kernel with outputs and a table of exactly the promised sizes. */
function runDictionary(
  rowCount: number,
  call: (codesPtr: number, firstRowsPtr: number, tablePtr: number, tableCapacity: number) => number,
  codesPtr = memory.u32s(rowCount),
): { codes: number[]; firstRows: number[] } {
  const firstRowsPtr = memory.u32s(rowCount)
  const tableCapacity = memory.call.groupTableCapacity(rowCount)
  const count = call(codesPtr, firstRowsPtr, memory.u32s(tableCapacity), tableCapacity)
  memory.checkGuards()
  return { codes: memory.readU32s(codesPtr, rowCount), firstRows: memory.readU32s(firstRowsPtr, count) }
}

function stringCodes(texts: readonly Uint8Array[]) {
  const { offsets, bytes } = memory.stringsAtEnd(texts)
  return runDictionary(texts.length, (codes, firstRows, table, capacity) =>
    memory.call.dictionaryStrings(offsets, bytes, texts.length, codes, firstRows, table, capacity),
  )
}

const keyOfBytes = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')

/** Rows drawn from a pool of values: in runs, in rounds, or at random. */
function draw<Value>(random: Random, rowCount: number, pool: readonly Value[]): Value[] {
  const rows: Value[] = []
  const form = random.below(3)
  while (rows.length < rowCount) {
    if (form === 0) {
      const value = random.pick(pool)
      for (let i = random.below(20); i >= 0 && rows.length < rowCount; i--) rows.push(value)
    } else if (form === 1) rows.push(pool[rows.length % pool.length])
    else rows.push(random.pick(pool))
  }
  return rows
}

test('equal strings get one code, in order of first appearance', () => {
  const random = new Random(newSeed())
  for (let round = 0; round < 300; round++) {
    memory.reset()
    const pool = Array.from({ length: 1 + random.below(random.pick([3, 40, 3000])) }, () => {
      // Few byte values and lengths around the borders of the vector, so that many texts are nearly equal.
      const text = new Uint8Array(random.pick([0, 1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 100]))
      for (let i = 0; i < text.length; i++) text[i] = random.chance(0.9) ? 0x61 : random.pick([0, 1, 0xff, 0x62])
      return text
    })
    const rows = draw(random, random.pick([0, 1, 2, 3, 100, 5000]), pool)
    expect(stringCodes(rows)).toEqual(codesOf(rows, keyOfBytes))
  }
})

test('all strings distinct, all equal, and no strings', () => {
  memory.reset()
  const distinct = Array.from({ length: 20_000 }, (_, row) => Buffer.from(`host_${row}`))
  expect(stringCodes(distinct)).toEqual(codesOf(distinct, keyOfBytes))
  for (const text of ['', '\0', 'a', 'a text that does not fit one vector']) {
    memory.reset()
    const equal = Array.from({ length: 1000 }, () => Buffer.from(text))
    expect(stringCodes(equal)).toEqual({ codes: new Array(1000).fill(0), firstRows: [0] })
  }
  expect(stringCodes([])).toEqual({ codes: [], firstRows: [] })
})

test('empty strings, NUL and strings that differ by NULs behind them are told apart', () => {
  memory.reset()
  const texts = ['', '\0', '\0\0', 'a', 'a\0', 'a\0\0', '', 'a', 'aaaaaaaaaaaaaaaa', 'aaaaaaaaaaaaaaaa\0', '\0'].map(
    (text) => Buffer.from(text),
  )
  expect(stringCodes(texts).codes).toEqual([0, 1, 2, 3, 4, 5, 0, 3, 6, 7, 1])
})

/** Texts of 16 bytes that all have one hash (hashShort in kernels/hash.ts: low · a + high · b). */
function collidingTexts(count: number): Buffer[] {
  const a = 0x9e3779b97f4a7c15n
  const b = 0xd6e8feb86659fd93n
  const modulus = 1n << 64n
  // Newton: each step doubles the bits of b · inverse that are right.
  let inverse = 1n
  for (let step = 0; step < 6; step++) inverse = (inverse * (2n - b * inverse)) & (modulus - 1n)
  return Array.from({ length: count }, (_, i) => {
    const text = Buffer.alloc(16)
    const low = BigInt(i) * 0x0101010101010101n
    text.writeBigUInt64LE(low & (modulus - 1n), 0)
    text.writeBigUInt64LE(((12345n - low * a) * inverse) & (modulus - 1n), 8)
    return text
  })
}

test('strings that all have one hash are told apart', () => {
  const random = new Random(newSeed())
  memory.reset()
  const rows = draw(random, 3000, collidingTexts(200))
  expect(stringCodes(rows)).toEqual(codesOf(rows, keyOfBytes))
})

test('label sets whose keys all have one hash are told apart', () => {
  memory.reset()
  const keys = collidingTexts(150)
  const { offsets, bytes } = memory.strings(keys)
  const table = memory.labelTable(200, 4000)
  const sets = memory.u32s(150)
  const numbers = keys.map((_, i) => i)
  expect(memory.call.labelTableInsert(table, offsets, bytes, 100, sets)).toBe(100)
  expect(memory.readU32s(sets, 100)).toEqual(numbers.slice(0, 100))
  expect(memory.call.labelTableFind(table, 100, offsets, bytes, 150, sets)).toBe(50)
  expect(memory.readU32s(sets, 150)).toEqual(numbers.map((i) => (i < 100 ? i : 0xffffffff)))
  expect(memory.call.labelTableInsert(table, offsets, bytes, 150, sets)).toBe(50)
  expect(memory.call.labelTableFind(table, 120, offsets, bytes, 150, sets)).toBe(30)
  expect(memory.readU32s(sets, 150)).toEqual(numbers.map((i) => (i < 120 ? i : 0xffffffff)))
})

test('rows that repeat at a distance are found again where the repetition is broken', () => {
  const random = new Random(newSeed())
  for (let round = 0; round < 60; round++) {
    memory.reset()
    const hosts = Array.from({ length: 1 + random.below(300) }, (_, i) =>
      Buffer.from(`h${i % random.pick([2, 7, 1000])}`),
    )
    const rows: Buffer[] = []
    while (rows.length < 6000) {
      for (const host of hosts) if (!random.chance(0.001)) rows.push(host)
      if (random.chance(0.1))
        hosts.splice(random.below(hosts.length), 0, Buffer.from(`new host ${rows.length} with a long name`))
    }
    expect(stringCodes(rows)).toEqual(codesOf(rows, keyOfBytes))
  }
})

test('equal 64-bit values get one code, in order of first appearance', () => {
  const random = new Random(newSeed())
  for (let round = 0; round < 200; round++) {
    memory.reset()
    const step = random.pick([1n, 1n << 32n, 1n << 60n, 1_000_000_000n])
    const pool = Array.from({ length: 1 + random.below(random.pick([3, 40, 3000])) }, (_, i) =>
      random.chance(0.5) ? random.int64() : BigInt.asIntN(64, BigInt(i) * step),
    )
    const rows = draw(random, random.pick([0, 1, 2, 3, 100, 5000]), pool)
    const values = memory.i64s(rows)
    const result = runDictionary(rows.length, (codes, firstRows, table, capacity) =>
      memory.call.dictionary64(values, rows.length, codes, firstRows, table, capacity),
    )
    expect(result).toEqual(codesOf(rows, String))
  }
})

test('bools get codes in order of first appearance', () => {
  const random = new Random(newSeed())
  for (let round = 0; round < 200; round++) {
    memory.reset()
    const share = random.pick([0, 0.01, 0.5, 0.99, 1])
    const rows = Array.from({ length: random.below(300) }, () => random.chance(share))
    const bits = memory.bits(rows)
    const result = runDictionary(rows.length, (codes, firstRows) =>
      memory.call.dictionaryBits(bits, rows.length, codes, firstRows),
    )
    expect(result).toEqual(codesOf(rows, String))
  }
})

test('equal pairs of codes get one code, in a table of pairs or by hash, also in place', () => {
  const random = new Random(newSeed())
  for (let round = 0; round < 300; round++) {
    memory.reset()
    const rowCount = random.pick([0, 1, 2, 3, 100, 3000])
    const aCount = 1 + random.below(random.pick([1, 4, 100, 5000]))
    const bCount = 1 + random.below(random.pick([1, 4, 100, 5000]))
    const pairs = draw(
      random,
      rowCount,
      Array.from({ length: 1 + random.below(2000) }, () => [random.below(aCount), random.below(bCount)] as const),
    )
    const aCodes = codesOf(pairs, (pair) => String(pair[0]))
    const bCodes = codesOf(pairs, (pair) => String(pair[1]))
    const a = memory.u32s(aCodes.codes)
    const b = memory.u32s(bCodes.codes)
    const target = random.pick([a, b, memory.u32s(rowCount)])
    const result = runDictionary(
      rowCount,
      (codes, firstRows, table, capacity) =>
        memory.call.combineCodes(
          a,
          aCodes.firstRows.length,
          b,
          bCodes.firstRows.length,
          rowCount,
          codes,
          firstRows,
          table,
          capacity,
        ),
      target,
    )
    expect(result).toEqual(codesOf(pairs, String))
  }
})

test('the keys of many groups are those that the canonical form gives each', () => {
  const random = new Random(newSeed())
  const textOf = () => {
    const length = random.pick([0, 1, 3, 7, 8, 9, 16, 30])
    return Array.from({ length }, () => (random.chance(0.1) ? '\0' : random.pick(['a', 'b', '\x01', 'é']))).join('')
  }
  for (let round = 0; round < 200; round++) {
    memory.reset()
    const rowCount = random.pick([1, 2, 50])
    const names = ['a', 'aa', 'datacenter_of_the_host', 'host', 'os'].slice(0, random.below(6))
    const labelsOfRow: Label[][] = Array.from({ length: rowCount }, () => [])
    const entries: number[] = []
    for (const name of names) {
      const values = Array.from({ length: random.pick([1, 3]) }, textOf)
      const form = random.pick(['constant', 'codes', 'rows'] as const)
      const codes = Array.from({ length: rowCount }, () => (form === 'constant' ? 0 : random.below(values.length)))
      for (let row = 0; row < rowCount; row++) labelsOfRow[row].push([name, values[codes[row]]])
      const texts = form === 'rows' ? codes.map((code) => values[code]) : values
      const { offsets, bytes } = memory.strings(texts.map((text) => Buffer.from(text)))
      const codesPtr = form === 'codes' ? memory.u32s(codes) : 0
      entries.push(
        memory.bytes(Buffer.from(name)),
        name.length,
        codesPtr,
        offsets,
        bytes,
        form === 'rows' ? 1 : 0,
        0,
        0,
      )
    }
    const groupRows = Array.from({ length: random.below(rowCount + 1) }, () => random.below(rowCount))
    const columns = memory.u32s(entries)
    const rows = memory.u32s(groupRows)
    const keys = groupRows.map((row) => formatLabelKey(labelsOfRow[row]))
    const byteLength = memory.call.labelKeysByteLength(columns, names.length, rows, groupRows.length)
    expect(byteLength).toBe(Buffer.concat(keys).length)
    const offsets = memory.u32s(groupRows.length + 1)
    const bytes = memory.allocate(byteLength)
    expect(memory.call.labelKeys(columns, names.length, rows, groupRows.length, offsets, bytes)).toBe(byteLength)
    memory.checkGuards()
    const ends = memory.readU32s(offsets, groupRows.length + 1)
    expect(keys.map((_, i) => keyOfBytes(memory.readBytes(bytes + ends[i], ends[i + 1] - ends[i])))).toEqual(
      keys.map(keyOfBytes),
    )
  }
})

const notFound = 0xffffffff

/** The twin of the label table: a list of keys. */
class KeyList {
  readonly keys: string[] = []
  find(keys: readonly string[], visible: number): number[] {
    return keys.map((key) => {
      const set = this.keys.indexOf(key)
      return set < 0 || set >= visible ? notFound : set
    })
  }
  insert(keys: readonly string[]): number {
    const before = this.keys.length
    for (const key of keys) if (!this.keys.includes(key)) this.keys.push(key)
    return this.keys.length - before
  }
}

test('the label table numbers sets in the order in which they come, and finds them again', () => {
  const random = new Random(newSeed())
  for (let round = 0; round < 40; round++) {
    memory.reset()
    const twin = new KeyList()
    let table = memory.labelTable(random.pick([0, 1, 2, 64, 256]), random.pick([0, 100, 8192]))
    const keyOf = () =>
      `${random.pick(['', 'host\0', 'a label that is longer than one vector\0'])}${random.below(200) || ''}`
    for (let batch = 0; batch < 8; batch++) {
      const keys = Array.from({ length: random.below(60) }, keyOf)
      const { offsets, bytes } = memory.stringsAtEnd(keys.map((key) => Buffer.from(key)))
      const sets = memory.u32s(keys.length)
      const visible = random.below(twin.keys.length + 1)
      const expected = twin.find(keys, visible)
      const missing = memory.call.labelTableFind(table, visible, offsets, bytes, keys.length, sets)
      expect(memory.readU32s(sets, keys.length)).toEqual(expected)
      expect(missing).toBe(expected.filter((set) => set === notFound).length)

      let inserted = memory.call.labelTableInsert(table, offsets, bytes, keys.length, sets)
      if (inserted < 0) {
        // Nothing has changed: what was found before is found, and nothing else.
        expect(memory.call.labelTableCount(table)).toBe(twin.keys.length)
        expect(memory.readU32s(sets, keys.length)).toEqual(twin.find(keys, twin.keys.length))
        const larger = memory.labelTable(1000, 100_000)
        expect(memory.call.copyLabelTable(table, larger)).toBe(twin.keys.length)
        table = larger
        inserted = memory.call.labelTableInsert(table, offsets, bytes, keys.length, sets)
      }
      const before = twin.keys.length
      expect(inserted).toBe(twin.insert(keys))
      expect(memory.readU32s(sets, keys.length)).toEqual(twin.find(keys, twin.keys.length))
      expect(memory.call.labelTableCount(table)).toBe(twin.keys.length)
      for (let set = 0; set < twin.keys.length; set++) {
        const keyPtr = memory.call.labelTableKeyPtr(table, set)
        const key = memory.readBytes(keyPtr, memory.call.labelTableKeyByteLength(table, set))
        expect(Buffer.from(key).toString()).toBe(twin.keys[set])
        expect(memory.call.labelTableSignature(table, set)).toBe(set < before ? set * 3 : 0)
        memory.call.setLabelTableSignature(table, set, set * 3)
      }
      memory.checkGuards()
    }
    const all = memory.u32s(twin.keys.map((_, set) => twin.keys.length - 1 - set))
    const signatures = memory.u32s(twin.keys.length)
    memory.call.labelTableSignatures(table, all, twin.keys.length, signatures)
    expect(memory.readU32s(signatures, twin.keys.length)).toEqual(twin.keys.map((_, set) => set * 3).reverse())

    const scratch = memory.allocate(memory.call.sortLabelSetsScratchByteLength(twin.keys.length))
    memory.call.sortLabelSets(table, all, twin.keys.length, scratch)
    memory.checkGuards()
    const sorted = memory.readU32s(all, twin.keys.length)
    expect(sorted.map((set) => twin.keys[set])).toEqual(twin.keys.toSorted())
    for (let i = 1; i < sorted.length; i++)
      expect(memory.call.compareLabelKeys(table, sorted[i - 1], sorted[i])).toBeLessThan(0)
  }
})

test('a label table that is too small for another says which part is, and stays empty', () => {
  memory.reset()
  const table = memory.labelTable(4, 100)
  const { offsets, bytes } = memory.strings([Buffer.from('first'), Buffer.from('second')])
  expect(memory.call.labelTableInsert(table, offsets, bytes, 2, memory.u32s(2))).toBe(2)
  expect(memory.call.copyLabelTable(table, memory.labelTable(1, 100))).toBe(-1)
  const narrow = memory.labelTable(4, 10)
  expect(memory.call.copyLabelTable(table, narrow)).toBe(-2)
  expect(memory.call.labelTableCount(narrow)).toBe(0)
  expect(memory.call.labelTableInsert(narrow, offsets, bytes, 2, memory.u32s(2))).toBe(-2)
  const few = memory.labelTable(1, 100)
  expect(memory.call.labelTableInsert(few, offsets, bytes, 2, memory.u32s(2))).toBe(-1)
})

test('texts that stand a distance apart repeat when all of them do', () => {
  const random = new Random(newSeed())
  for (let round = 0; round < 200; round++) {
    memory.reset()
    const distance = 1 + random.below(random.pick([1, 5, 300]))
    const rowCount = distance + random.below(random.pick([1, 40, 3000]))
    const once = Array.from({ length: distance }, () => new Uint8Array(random.below(random.pick([2, 20]))).fill(0x61))
    const texts = Array.from({ length: rowCount }, (_, row) => once[row % distance])
    const differs = random.chance(0.5)
    if (differs) {
      const row = random.below(rowCount)
      texts[row] = random.chance(0.5)
        ? Uint8Array.of(...texts[row], 0x61)
        : Uint8Array.from(texts[row], (byte) => byte ^ 1)
    }
    const isRepeated = texts.every(
      (text, row) => row < distance || keyOfBytes(text) === keyOfBytes(texts[row - distance]),
    )
    const { offsets, bytes } = memory.stringsAtEnd(texts)
    expect(memory.call.areRowsRepeated(offsets, bytes, rowCount, distance)).toBe(isRepeated ? 1 : 0)
  }
})

test('codes repeat from where the first one comes again, and are written on from there', () => {
  const random = new Random(newSeed())
  for (let round = 0; round < 300; round++) {
    memory.reset()
    const distance = 1 + random.below(random.pick([1, 4, 100]))
    const count = 2 * distance + random.below(200)
    const codes = Array.from({ length: count }, (_, row) => row % distance)
    const codesPtr = memory.u32s(codes)
    expect(memory.call.repeatDistance(codesPtr, count)).toBe(distance)
    const start = distance + random.below(count - distance)
    const prefixPtr = memory.u32s(codes.map((code, row) => (row < start ? code : 0xffff)))
    memory.call.repeatCodes(prefixPtr, start, count, distance)
    expect(memory.readU32s(prefixPtr, count)).toEqual(codes)
    if (distance === 1) continue
    const place = 1 + random.below(count - 1)
    codes[place] = codes[place] === 1 ? 0 : 1
    const other = memory.call.repeatDistance(memory.u32s(codes), count)
    const isSo = other > 0 && codes.every((code, row) => row < other || code === codes[row - other])
    expect(other === 0 || isSo).toBe(true)
    expect(other).not.toBe(distance)
  }
})
