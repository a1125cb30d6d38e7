import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { formatLabelKey, parseLabelKey, unescapeLabelValue } from '../dist/engine/backends/tsdb/labels.js'
import { FramesError } from '../dist/engine/errors.js'
import { KernelMemory } from './kernel-memory.js'

const labelSets = fc
  .uniqueArray(
    fc.tuple(
      fc.stringMatching(/^[a-zA-Z_][a-zA-Z0-9_]{0,6}$/),
      fc.oneof(
        fc.string({ unit: 'grapheme', maxLength: 20 }),
        fc.string({ unit: fc.constantFrom('\0', 'a', 'ÿ', '\x01') }),
      ),
    ),
    { selector: ([name]) => name, maxLength: 6 },
  )
  .map((labels) => labels.map(([name, value]): [string, string] => [name, value]))

const byName = ([a]: [string, string], [b]: [string, string]) => Buffer.compare(Buffer.from(a), Buffer.from(b))

test('a label set is the same after its key was written and read', () => {
  fc.assert(
    fc.property(labelSets, (labels) => {
      expect(parseLabelKey(formatLabelKey(labels))).toEqual(labels.toSorted(byName))
    }),
  )
})

test('the order in which labels are given does not change the key', () => {
  expect(formatLabelKey([['a', '1'], ['b', '2']])).toEqual(formatLabelKey(new Map([['b', '2'], ['a', '1']]))) // biome-ignore format: pairs
})

test('the order of keys as bytes is the order of label text', () => {
  const texts = (labels: [string, string][]) =>
    labels
      .toSorted(byName)
      .flat()
      .map((text) => Buffer.from(text))
  const compareTexts = (a: Buffer[], b: Buffer[]): number => {
    for (let i = 0; i < Math.min(a.length, b.length); i++) {
      const order = Buffer.compare(a[i], b[i])
      if (order !== 0) return order
    }
    return Math.sign(a.length - b.length)
  }
  fc.assert(
    fc.property(labelSets, labelSets, (a, b) => {
      expect(Buffer.compare(formatLabelKey(a), formatLabelKey(b))).toBe(compareTexts(texts(a), texts(b)))
    }),
    { numRuns: 500 },
  )
})

test('a key has the documented bytes', () => {
  expect([...formatLabelKey([['b', ''], ['a', 'x\0y']])]).toEqual(
    [0x61, 0, 0x78, 0, 0xff, 0x79, 0, 1, 0x62, 0, 0, 1],
  ) // biome-ignore format: bytes
  expect(formatLabelKey([])).toEqual(new Uint8Array(0))
  expect(parseLabelKey(new Uint8Array(0))).toEqual([])
})

test('bytes that are no key are refused, and what is accepted is written back the same', () => {
  const bytes = fc.uint8Array({ maxLength: 24 })
  const nearKeys = fc
    .array(fc.constantFrom(0, 1, 0xff, 0x61, 0x62), { maxLength: 16 })
    .map((list) => Uint8Array.from(list))
  fc.assert(
    fc.property(fc.oneof(bytes, nearKeys), (key) => {
      let labels: [string, string][]
      try {
        labels = parseLabelKey(key)
      } catch (error) {
        expect(error).toBeInstanceOf(FramesError)
        return
      }
      // Bytes that are no UTF-8 cannot come back the same.
      if (!labels.flat().some((text) => text.includes('\ufffd'))) expect(formatLabelKey(labels)).toEqual(key)
    }),
    { numRuns: 2000 },
  )
})

test('a label of a set is found by the kernel as by the parser', () => {
  const memory = new KernelMemory(1 << 20)
  fc.assert(
    fc.property(labelSets, fc.stringMatching(/^[a-z]{0,3}$/), (labels, other) => {
      memory.reset()
      const key = formatLabelKey(labels)
      const table = memory.labelTable(4, 4096)
      const keys = memory.strings([key])
      const sets = memory.u32s(1)
      expect(memory.call.labelTableInsert(table, keys.offsets, keys.bytes, 1, sets)).toBe(1)
      const out = memory.u32s(2)
      for (const name of [...labels.map(([name]) => name), other]) {
        const namePtr = memory.bytes(Buffer.from(name))
        const found = memory.call.labelValue(table, 0, namePtr, Buffer.byteLength(name), out)
        const expected = labels.find((label) => label[0] === name)?.[1]
        expect(found).toBe(expected === undefined ? 0 : expected.includes('\0') ? 2 : 1)
        if (found === 0) continue
        const [valuePtr, byteLength] = memory.readU32s(out, 2)
        expect(unescapeLabelValue(memory.kernels.u8.subarray(valuePtr, valuePtr + byteLength))).toBe(expected)
      }
    }),
  )
})

test('a label of many sets is a column, missing where a set has no such label', () => {
  const memory = new KernelMemory(1 << 20)
  fc.assert(
    fc.property(fc.array(labelSets, { maxLength: 12 }), fc.nat({ max: 12 }), (sets, skipped) => {
      memory.reset()
      const distinct = [...new Map(sets.map((labels) => [formatLabelKey(labels).join(), labels])).values()]
      const keys = memory.strings(distinct.map(formatLabelKey))
      const table = memory.labelTable(16, 1 << 16)
      memory.call.labelTableInsert(table, keys.offsets, keys.bytes, distinct.length, memory.u32s(distinct.length))
      const start = Math.min(skipped, distinct.length)
      const rest = distinct.slice(start)
      const name = rest[0]?.[0]?.[0] ?? 'none'
      const values = rest.map((labels) => labels.find((label) => label[0] === name)?.[1])
      const expected = Buffer.from(values.map((value) => value ?? '').join(''))

      const offsets = memory.u32s(rest.length + 1)
      const bytes = memory.allocate(expected.length)
      const validity = memory.allocate(Math.ceil(rest.length / 8))
      const namePtr = memory.bytes(Buffer.from(name))
      const written = memory.call.labelColumn(
        table,
        start,
        rest.length,
        namePtr,
        Buffer.byteLength(name),
        offsets,
        bytes,
        validity,
      )
      memory.checkGuards()
      expect(written).toBe(expected.length)
      expect(Buffer.from(memory.readBytes(bytes, written))).toEqual(expected)
      expect(memory.readBits(validity, rest.length)).toEqual(values.map((value) => value !== undefined))
      let end = 0
      expect(memory.readU32s(offsets, rest.length + 1)).toEqual([
        0,
        ...values.map((value) => (end += Buffer.byteLength(value ?? ''))),
      ])
    }),
  )
})
