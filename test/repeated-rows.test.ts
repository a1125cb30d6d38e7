// Frames whose rows name the same series again and again.
import { expect, test } from 'vitest'
import { repeatedRowCount } from '../dist/engine/backends/repeated-rows.js'
import { Column, Frame, openEngine, sliceColumn } from '../dist/engine/index.js'
import { SeededRandom, seed } from './seeded-random.js'

const random = new SeededRandom(seed)
const startNs = 1_700_000_000_000_000_000n

function textColumn(name: string, texts: readonly string[]): Column {
  const offsets = new Uint32Array(texts.length + 1)
  texts.forEach((text, row) => {
    offsets[row + 1] = offsets[row]! + Buffer.byteLength(text)
  })
  const buffers = { dtype: 'string', offsets, bytes: Buffer.from(texts.join('')) } as const
  return Column.fromBuffers({ name, kind: 'slice', length: texts.length, validity: null, buffers })
}

function frameOf(labels: Readonly<Record<string, readonly string[]>>, stepRowCount: number): Frame {
  const rowCount = Object.values(labels)[0]!.length
  const rows = Array.from({ length: rowCount }, (_, row) => row)
  return new Frame({
    columns: [
      sliceColumn(
        'value',
        Float64Array.from(rows, (row) => row / 4),
      ),
    ],
    indices: [
      sliceColumn(
        'time',
        BigInt64Array.from(rows, (row) => startNs + BigInt(Math.floor(row / stepRowCount)) * 1_000_000_000n),
        'time',
      ),
      ...Object.entries(labels).map(([name, texts]) => textColumn(name, texts)),
    ],
  })
}

/** Of a frame of text columns: the smallest distance that all rows keep, if it is one that is looked for. */
function plainDistance(labels: Readonly<Record<string, readonly string[]>>): number {
  const columns = Object.values(labels)
  const rowCount = columns[0]!.length
  for (let distance = 1; distance <= Math.min(2048, rowCount / 2); distance++) {
    const isOne = columns.every((texts) => texts.every((text, row) => row < distance || text === texts[row - distance]))
    if (isOne) return distance
  }
  return 0
}

function repeatedTexts(distance: number, rowCount: number, textCount: number): string[] {
  const texts = ['', 'a', 'ab', 'é', 'long'.repeat(9)].slice(0, textCount)
  const once = Array.from({ length: distance }, (_, row) => `${random.pick(texts)}${textCount > 4 ? row : ''}`)
  return Array.from({ length: rowCount }, (_, row) => once[row % distance]!)
}

test(`the distance at which rows repeat is found, and none where one row is different (seed ${seed})`, () => {
  for (let round = 0; round < 40; round++) {
    const distance = random.pick([1, 2, 3, 100, 511, 700])
    const rowCount = 1024 + random.integer(0, 2000)
    const labels: Record<string, string[]> = {
      few: repeatedTexts(distance, rowCount, 3),
      all: repeatedTexts(distance, rowCount, 5),
    }
    expect(repeatedRowCount(frameOf(labels, distance))).toBe(distance <= rowCount / 2 ? plainDistance(labels) : 0)
    // The same lengths and other bytes, other lengths, the same bytes cut elsewhere.
    const row = random.integer(distance, rowCount - 1)
    const changed = [...labels['all']!]
    const change = round % 3
    if (change === 0) changed[row] = '\x7f'.repeat(Buffer.byteLength(changed[row]!))
    else if (change === 1) changed[row] += 'x'
    else [changed[row], changed[row + 1]] = [`${changed[row]}${changed[row + 1]}`, '']
    const other = { ...labels, all: changed }
    expect(repeatedRowCount(frameOf(other, distance))).toBe(plainDistance(other))
  }
})

test('frames with other label columns than text, with missing texts or of few rows are taken as they are', () => {
  const texts = repeatedTexts(10, 2000, 5)
  const frame = frameOf({ series: texts }, 10)
  expect(repeatedRowCount(frame)).toBe(10)
  const numbers = sliceColumn(
    'number',
    BigInt64Array.from(texts, (_, row) => BigInt(row % 10)),
  )
  const { columns, indices } = frame
  expect(repeatedRowCount(new Frame({ columns, indices: [...indices, numbers] }))).toBe(0)
  const { buffers, length } = indices[1]!
  const validity = new Uint8Array(250).fill(0xff)
  const missing = Column.fromBuffers({ name: 'series', kind: 'slice', length, validity, buffers })
  expect(repeatedRowCount(new Frame({ columns, indices: [indices[0]!, missing] }))).toBe(0)
  expect(repeatedRowCount(frameOf({ series: texts.slice(0, 1000) }, 10))).toBe(0)
  expect(repeatedRowCount(new Frame({ columns, indices: [indices[0]!] }))).toBe(0)
})

test(`what is written in such frames is read as in frames of one series each (seed ${seed})`, async () => {
  const engine = await openEngine({ memoryByteLength: 128 * 2 ** 20, workerCount: 2, history: false })
  try {
    for (const [number, distance] of [1, 7, 100, 1500].entries()) {
      const rowCount = 3000 + random.integer(0, 3000)
      const series = repeatedTexts(distance, rowCount, 5)
      const zone = repeatedTexts(distance, rowCount, 2)
      const frame = frameOf({ series, zone }, distance)
      const times = frame.indices[0]!
      const byLabels = new Map<string, number[]>()
      series.forEach((text, row) => {
        const key = JSON.stringify([text, zone[row]])
        byLabels.set(key, [...(byLabels.get(key) ?? []), row])
      })
      const frames = [...byLabels].map(([key, rows]) => {
        const [text, zoneText] = JSON.parse(key) as [string, string]
        const { buffers } = times
        if (buffers.dtype !== 'time') throw new Error('times')
        return new Frame({
          columns: [
            sliceColumn(
              'value',
              Float64Array.from(rows, (row) => row / 4),
            ),
          ],
          indices: [
            sliceColumn(
              'time',
              BigInt64Array.from(rows, (row) => buffers.values[row]!),
              'time',
            ),
          ],
          labels: { series: text, zone: zoneText },
        })
      })
      const answers: string[][] = []
      for (const [name, written] of [
        ['together', [frame]],
        ['apart', frames],
      ] as const) {
        const table = `${name}${number}`
        await engine.create({ backend: 'tsdb', table, rate: '1/s' })
        const counts = await engine.write({ backend: 'tsdb', table }, written)
        expect(counts.rowCount).toBe(rowCount)
        const rows: string[] = []
        for await (const found of engine.read({ backend: 'tsdb', table, start: '0', end: 'now', multiIndex: true })) {
          const texts = ['series', 'zone'].map((label) => found.indices.find((index) => index.name === label)!)
          const [values, time] = [found.columns[0]!, found.indices.find((index) => index.dtype === 'time')!]
          for (let row = 0; row < found.length; row++)
            rows.push(
              String([texts.map((text) => text.at(row)), JSON.stringify(time.at(row), bigintText), values.at(row)]),
            )
        }
        answers.push(rows.sort())
      }
      expect(answers[0]).toHaveLength(rowCount)
      expect(answers[0]).toEqual(answers[1])
    }
  } finally {
    await engine.close()
  }
})

const bigintText = (_: string, value: unknown): unknown => (typeof value === 'bigint' ? String(value) : value)
