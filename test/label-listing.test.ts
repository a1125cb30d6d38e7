// Names and values of labels, counted over the table of label sets: kernels against twins, and what the commands say.
import { afterEach, expect, test } from 'vitest'
import { formatLabelKey } from '../dist/engine/backends/tsdb/labels.js'
import { Frame, openEngine, sliceColumn } from '../dist/engine/index.js'
import { KernelMemory } from './kernel-memory.js'
import { SeededRandom, seed } from './seeded-random.js'

const memory = new KernelMemory(4 * 2 ** 20)
const { call } = memory
const { u32 } = memory.kernels
const random = new SeededRandom(seed)

afterEach(() => memory.reset())

test('values of a label are counted, and sets with other labels than known ones are found', () => {
  for (let round = 0; round < 100; round++) {
    const names = ['a', 'b', 'host', 'a_name_of_more_than_16_bytes'].slice(0, random.integer(1, 5))
    const byKey = new Map<string, Map<string, string>>()
    for (let i = random.integer(1, 60); i > 0; i--) {
      const labels = new Map<string, string>()
      for (const name of names)
        if (random.chance(0.8))
          labels.set(
            name,
            random.pick(['', 'x', 'x\0', '\0', `v${random.integer(0, 9)}`, 'a value of more than 16 bytes']),
          )
      byKey.set(Buffer.from(formatLabelKey(labels)).toString('hex'), labels)
    }
    const keys = [...byKey.keys()].map((hex) => new Uint8Array(Buffer.from(hex, 'hex')))
    const sets = [...byKey.values()]
    const byteLength = keys.reduce((sum, { length }) => sum + length, 0)
    const tablePtr = memory.allocate(call.labelTableByteLength(sets.length, byteLength))
    call.initLabelTable(tablePtr, sets.length, byteLength)
    const { offsets, bytes } = memory.strings(keys)
    expect(
      call.labelTableInsert(tablePtr, offsets, bytes, keys.length, memory.u32s(keys.length)),
    ).toBeGreaterThanOrEqual(0)
    const asked = sets.flatMap((_, set) => (random.chance(0.8) ? [set] : []))
    const askedPtr = memory.u32s(asked)
    for (const name of [...names, 'none']) {
      const text = Buffer.from(name)
      const slotCount = 2 ** Math.ceil(Math.log2(asked.length + 2))
      const target = memory.u32s(2 * asked.length)
      const slots = memory.u32s(slotCount)
      const namePtr = memory.bytes(text)
      const count = call.countLabelValues(
        tablePtr,
        askedPtr,
        asked.length,
        namePtr,
        text.length,
        slots,
        slotCount,
        target,
      )
      const expected = new Map<string, number>()
      for (const set of asked) {
        const value = sets[set]!.get(name)
        if (value !== undefined) expected.set(value, (expected.get(value) ?? 0) + 1)
      }
      const found = Array.from({ length: count }, (_, i) => {
        const [set, times] = u32.subarray(target / 4 + 2 * i, target / 4 + 2 * i + 2)
        return [sets[set!]!.get(name), times]
      })
      expect(found).toEqual([...expected])
    }
    const known = names.filter(() => random.chance(0.6))
    const texts = memory.strings(known.map((name) => Buffer.from(name)))
    const from = random.integer(0, asked.length + 1)
    const other = call.findOtherLabel(tablePtr, askedPtr, from, asked.length, texts.offsets, texts.bytes, known.length)
    const hasOther = (set: number): boolean => [...sets[set]!.keys()].some((name) => !known.includes(name))
    const expected = asked.findIndex((set, i) => i >= from && hasOther(set))
    expect(other).toBe(expected < 0 ? asked.length : expected)
    memory.reset()
  }
})

test('labels of thousands of sets with many different names are all told, with and without filters', async () => {
  const engine = await openEngine({ memoryByteLength: 128 * 2 ** 20, workerCount: 1, history: false })
  try {
    const table = { backend: 'tsdb', table: 'labels' }
    await engine.create({ ...table, rate: '1/s' })
    const time = (count: number) =>
      sliceColumn('time', new BigInt64Array(count).fill(1_450_000_000_000_000_000n), 'time')
    const setCount = 9000
    const numbers = Array.from({ length: setCount }, (_, i) => i)
    const text = (name: string, of: (i: number) => string) => sliceColumn(name, numbers.map(of), 'string')
    const ones = (count: number) => sliceColumn('v', new Float64Array(count), 'float64')
    const indices = [time(setCount), text('series', (i) => `s${i}`), text('host', (i) => `h${i % 10}`)]
    await engine.write(table, [new Frame({ columns: [ones(setCount)], indices })])
    const others = Array.from({ length: 150 }, (_, i) => `other_${String(i).padStart(3, '0')}`)
    await engine.write(
      table,
      others.map((name) => new Frame({ columns: [ones(1)], indices: [time(1)], labels: { [name]: 'x', host: 'h3' } })),
    )
    const rowsOf = async (command: string, args: Record<string, string | bigint> = {}) => {
      const frame = await engine.execute({ ...table, command, args })
      return Array.from({ length: frame!.length }, (_, row) => frame!.columns.map((column) => column.at(row)))
    }
    expect(await rowsOf('labels')).toEqual([
      ['host', 10n, BigInt(setCount + others.length)],
      ...others.map((name) => [name, 1n, 1n]),
      ['series', BigInt(setCount), BigInt(setCount)],
    ])
    expect(await rowsOf('labels', { filter: "host == 'h4'" })).toEqual([
      ['host', 1n, 900n],
      ['series', 900n, 900n],
    ])
    expect(await rowsOf('label_values', { label: 'host', filter: "series >= 's8990'" })).toEqual(
      Array.from({ length: 10 }, (_, i) => [
        `h${i}`,
        1n + BigInt(numbers.filter((n) => n < 8990 && `s${n}` >= 's8990' && n % 10 === i).length),
      ]),
    )
    expect(await rowsOf('label_values', { label: 'series', limit: 2n, offset: 1n })).toEqual([
      ['s1', 1n],
      ['s10', 1n],
    ])
    expect(await rowsOf('label_values', { label: 'host', filter: "_name == 'w'" })).toEqual([])
    const series = await rowsOf('series', { filter: "host == 'h7' AND _name == 'v'", offset: 899n })
    expect(series).toEqual([['v', 'h7', 's8997']])
    expect(await rowsOf('series', { filter: "host == 'h7'", offset: 898n, limit: 5n })).toEqual([
      ['v', 'h7', 's8987'],
      ...series,
    ])
  } finally {
    await engine.close()
  }
})
