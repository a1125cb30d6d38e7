// Frames whose rows name the same series again and again.
import { expect, test } from 'vitest'
import { repeatedRowCount } from '../dist/engine/backends/repeated-rows.js'
import { Column, type Engine, Frame, openEngine, sliceColumn } from '../dist/engine/index.js'
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

interface Rows {
  readonly series: readonly string[]
  readonly zone: readonly string[]
  readonly timesNs: readonly bigint[]
  readonly values: readonly number[]
}

/** A float, and integers that are near one another, far from one another, and near in the first frame only. */
function columnsOf(values: readonly number[]): Column[] {
  return [
    sliceColumn('value', Float64Array.from(values)),
    sliceColumn(
      'near',
      BigInt64Array.from(values, (value) => 5_000_000n + BigInt(value % 1000)),
    ),
    sliceColumn(
      'far',
      BigInt64Array.from(values, (value) => BigInt(value) * 1_000_003n),
    ),
    sliceColumn(
      'later',
      BigInt64Array.from(values, (value) => BigInt(value)),
    ),
  ]
}

function frameOfRows({ series, zone, timesNs, values }: Rows): Frame {
  return new Frame({
    columns: columnsOf(values),
    indices: [
      sliceColumn('time', BigInt64Array.from(timesNs), 'time'),
      textColumn('series', series),
      textColumn('zone', zone),
    ],
  })
}

/** A frame of each series, in the order of the rows. */
function framesBySeries({ series, zone, timesNs, values }: Rows): Frame[] {
  const byLabels = new Map<string, number[]>()
  series.forEach((text, row) => {
    const key = JSON.stringify([text, zone[row]])
    const rows = byLabels.get(key)
    if (rows === undefined) byLabels.set(key, [row])
    else rows.push(row)
  })
  return [...byLabels].map(([key, rows]) => {
    const [text, zoneText] = JSON.parse(key) as [string, string]
    return new Frame({
      columns: columnsOf(rows.map((row) => values[row]!)),
      indices: [
        sliceColumn(
          'time',
          BigInt64Array.from(rows, (row) => timesNs[row]!),
          'time',
        ),
      ],
      labels: { series: text, zone: zoneText },
    })
  })
}

/** How times of the second and third frame lie to those before: each behind the other, among one another, or out of order. */
const timeOrders = ['ascending', 'interleaved', 'descending', 'equal'] as const

function rowsOf(distance: number, textCount: number, order: (typeof timeOrders)[number], number: number): Rows {
  const rowCount = Math.max(1024, 2 * distance) + random.integer(0, 1500)
  const rows = Array.from({ length: rowCount }, (_, row) => row)
  const stepOf = (row: number): number => Math.floor(row / distance)
  const timeOf = {
    ascending: (row: number) => number * 10_000 + stepOf(row),
    interleaved: (row: number) => 10 * stepOf(row) + ((number * 7) % 10),
    descending: (row: number) => 50_000 - number * 10_000 - stepOf(row),
    equal: (row: number) => stepOf(row) % 5,
  }[order]
  return {
    series: repeatedTexts(distance, rowCount, textCount),
    zone: repeatedTexts(distance, rowCount, 2),
    timesNs: rows.map((row) => startNs + BigInt(timeOf(row)) * 1_000_000_000n),
    values: rows.map((row) => number * 1e6 + row),
  }
}

test.each(timeOrders)(
  `frames of rows that repeat are read as frames of one series each: times %s (seed ${seed})`,
  async (order) => {
    const engine = await openEngine({ memoryByteLength: 128 * 2 ** 20, workerCount: 2, history: false })
    try {
      for (const [number, [distance, textCount]] of (
        [
          [1, 5],
          [3, 5],
          [100, 5],
          [700, 5],
          [100, 4],
        ] as const
      ).entries()) {
        const written = [0, 1, 2].map((i) => rowsOf(distance, textCount, order, i))
        const answers: string[][] = []
        for (const name of ['together', 'apart']) {
          const table = `${name}${number}`
          await engine.create({ backend: 'tsdb', table, rate: '1/s' })
          const frames = written.flatMap((rows) => (name === 'apart' ? framesBySeries(rows) : [frameOfRows(rows)]))
          const { rowCount } = await engine.write({ backend: 'tsdb', table }, frames)
          expect(rowCount).toBe(written.reduce((sum, { values }) => sum + values.length, 0))
          answers.push(await textsOf(engine, table))
        }
        expect(answers[0]!.length).toBeGreaterThan(0)
        expect(answers[0]).toEqual(answers[1])
      }
    } finally {
      await engine.close()
    }
  },
)

/** All rows of a table, as sorted text. */
async function textsOf(engine: Engine, table: string): Promise<string[]> {
  const rows: string[] = []
  for await (const found of engine.read({ backend: 'tsdb', table, start: '0', end: 'now', multiIndex: true })) {
    const labels = ['series', 'zone'].map((label) => found.indices.find((index) => index.name === label))
    const time = found.indices.find((index) => index.dtype === 'time')!.buffers
    if (time.dtype !== 'time') throw new Error('a time index holds times')
    for (let row = 0; row < found.length; row++)
      rows.push(
        String([
          labels.map((label) => label?.at(row) ?? ''),
          time.values[row],
          found.columns.map((column) => column.at(row)),
        ]),
      )
  }
  return rows.sort()
}
