// Queries beside each other, without a model: what a condition lets through, what its negation does, and all rows must fit
// together; so must limits, orders, steps and groups. SEED=n repeats a run.
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Engine, Frame, openEngine, type ReadRequest, sliceColumn } from '../dist/engine/index.js'
import { SeededRandom, seed } from './seeded-random.js'
import { randomFrame, toFrame } from './tsdb-model.js'

let engine: Engine
const table = 'my/partitions'
const timeMsMax = 1e9

beforeAll(async () => {
  engine = await openEngine({ workerCount: 2, memoryByteLength: 384 * 2 ** 20 })
  await engine.create({ backend: 'tsdb', table, rate: '1/s' })
})
afterAll(async () => {
  await engine.close()
})

interface Row {
  readonly labels: string
  readonly timeNs: bigint
  /** Column → cell; absent: null. */
  readonly cells: Readonly<Record<string, unknown>>
}

async function rowsOf(query: string, more: Partial<ReadRequest> = {}): Promise<Row[]> {
  const rows: Row[] = []
  for await (const frame of engine.read({
    backend: 'tsdb',
    table,
    start: '0',
    end: String(timeMsMax),
    query,
    ...more,
  })) {
    const { next_marker: _, ...labels } = Object.fromEntries(frame.labels)
    const names = frame.names.filter((name) => !(name in labels))
    const columns = names.map((name) => [name, frame.column(name).values() as readonly unknown[]] as const)
    frame.indices[0]!.times().forEach((timeNs, row) => {
      const cells = columns.map(([name, values]) => [name, values[row]] as const)
      rows.push({
        labels: JSON.stringify(labels),
        timeNs,
        cells: Object.fromEntries(cells.filter(([, cell]) => cell !== null)),
      })
    })
  }
  return rows
}

const textOf = ({ labels, timeNs, cells }: Row): string =>
  `${labels} ${timeNs} ${JSON.stringify(cells, (_, cell) => (typeof cell === 'bigint' || Number.isNaN(cell) ? String(cell) : cell))}`
const sorted = (rows: readonly Row[]): string[] => rows.map(textOf).sort()

/** A condition over labels and metrics; metrics and labels are missing now and then. */
function randomCondition(random: SeededRandom, depth = 0): string {
  if (depth < 3 && random.chance(0.5)) {
    const parts = random.list(random.integer(2, 3), () => randomCondition(random, depth + 1))
    const text = `(${parts.join(random.pick([' AND ', ' OR ']))})`
    return random.chance(0.3) ? `NOT ${text}` : text
  }
  const number = random.pick(['0', '5', '-3.5', '100', '1e3', '9223372036854775807'])
  return random.pick([
    `cpu ${random.pick(['<', '<=', '=', '!=', '<>', '>', '>='])} ${number}`,
    `load > ${random.pick(['0.25', '0.5', '-1'])}`,
    `disk + load < ${number}`,
    `disk IN (${number}, 7, 8)`,
    'flag',
    'cpu > disk',
    "note >= 'm'",
    `host = '${random.pick(['a', 'b', 'zz'])}'`,
    `os IN ('linux', '${random.pick(['mac', ''])}')`,
    "starts(host, 'b')",
    'nosuch > 1',
    "length(note) > 3 AND host <> 'a'",
  ])
}

test('answers to queries that belong together fit together', { timeout: 600_000 }, async () => {
  const random = new SeededRandom(seed)
  // The last partition holds a sample, so that no range ends before timeMsMax.
  const time = sliceColumn('time', [BigInt(timeMsMax) * 1_000_000n], 'time')
  await engine.write(
    { backend: 'tsdb', table },
    new Frame({ columns: [sliceColumn('cpu', [1], 'float64')], indices: [time] }),
  )
  for (let step = 0; step < 12 * Number(process.env['ROUNDS'] ?? 1); step++) {
    const frame = randomFrame(random, { rowCount: random.pick([1, 20, 300, 1500]), timeMsMax, gridMs: 60_000 })
    await engine.write({ backend: 'tsdb', table }, toFrame(frame))
    if (random.chance(0.15)) await engine.execute({ backend: 'tsdb', table, command: 'compact' })
    const condition = randomCondition(random)
    const other = randomCondition(random)
    const where = `step ${step}: ${condition}`
    const select = `select ${random.pick(['*', 'cpu, load, note, disk', 'flag, cpu'])} from '${table}'`

    // A condition is true of a row or it is not: there is no third way, for what is missing compares as false.
    const all = await rowsOf(select)
    const yes = await rowsOf(`${select} where ${condition}`)
    const no = await rowsOf(`${select} where NOT (${condition})`)
    expect(sorted([...yes, ...no]), where).toEqual(sorted(all))
    expect(sorted(await rowsOf(`${select} where NOT NOT (${condition})`)), where).toEqual(sorted(yes))
    const both = new Set(sorted(await rowsOf(`${select} where ${condition} AND (${other})`)))
    const others = new Set(sorted(await rowsOf(`${select} where ${other}`)))
    expect([...both].sort(), `${where} AND ${other}`).toEqual(sorted(yes).filter((text) => others.has(text)))
    const either = sorted(await rowsOf(`${select} where (${condition}) OR (${other})`))
    expect(either, `${where} OR ${other}`).toEqual([...new Set([...sorted(yes), ...others])].sort())

    // LIMIT takes the first rows; by time, in either direction, they are those of the whole answer.
    const limit = random.integer(1, 40)
    const filtered = `${select} where ${condition}`
    expect((await rowsOf(`${filtered} limit ${limit}`)).map(textOf), where).toEqual(yes.slice(0, limit).map(textOf))
    for (const direction of ['asc', 'desc']) {
      const times = yes
        .map(({ timeNs }) => timeNs)
        .sort((a, b) => (a < b === (direction === 'asc') ? -1 : a === b ? 0 : 1))
      const first = await rowsOf(`${filtered} order by time ${direction} limit ${limit}`)
      expect(first.map(({ timeNs }) => timeNs).sort(), `${where} ${direction}`).toEqual(times.slice(0, limit).sort())
      const known = new Set(yes.map(textOf))
      expect(
        first.filter((row) => !known.has(textOf(row))),
        `${where} ${direction}`,
      ).toEqual([])
      const whole = await rowsOf(`${filtered} order by time ${direction}`)
      expect(sorted(whole), `${where} ${direction}`).toEqual(sorted(yes))
    }

    // Counts of buckets, groups and the parts of a condition add up to the samples.
    const counted = (rows: readonly Row[]): number =>
      rows.reduce((sum, { cells }) => sum + (Number.isNaN(cells['n']) ? 0 : Number(cells['n'] ?? 0)), 0)
    const samples = (await rowsOf(`select cpu from '${table}' where ${condition}`)).length
    const count = `select count(cpu) as n from '${table}' where ${condition}`
    expect(counted(await rowsOf(count)), where).toBe(samples)
    const stepText = random.pick(['1h', '7m', '1000s', '11d'])
    expect(counted(await rowsOf(count, { step: stepText })), `${where}, ${stepText}`).toBe(samples)
    // Windows as long as the step part the time behind the first of them; samples before it belong to none.
    const windowed = await rowsOf(count, {
      step: '6h',
      aggregationWindow: '6h',
      start: '0',
      end: String(timeMsMax + 6 * 3_600_000),
    })
    expect(counted(windowed), `${where}, windows`).toBe(samples)
    const parts = await Promise.all(
      [`${count} AND (${other})`, `${count} AND NOT (${other})`].map(async (query) => counted(await rowsOf(query))),
    )
    expect(parts[0]! + parts[1]!, `${where}, ${other}`).toBe(samples)
  }
})
