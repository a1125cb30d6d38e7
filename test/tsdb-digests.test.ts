// Aggregates out of digests, and those out of samples: answers over dense series, in tables with pre-aggregates and without,
// against sums over the samples themselves, however the samples came in, were replaced, deleted and merged.
// ROUNDS=n makes n times as many rounds, SEED=n repeats a run.
import { expect, test } from 'vitest'
import { BlockIo } from '../dist/engine/blocks/reader.js'
import { PageEncoder } from '../dist/engine/blocks/builder.js'
import { grainsOf } from '../dist/engine/backends/tsdb/digests.js'
import { RunWriter } from '../dist/engine/backends/tsdb/run-writer.js'
import { SeriesReader } from '../dist/engine/backends/tsdb/series-reader.js'
import { columnOfCells } from '../dist/engine/frame/builder.js'
import { type Engine, Frame, openEngine, sliceColumn } from '../dist/engine/index.js'
import { createMemory, kernelHeapBase, loadKernels } from '../dist/engine/kernels/kernels.js'
import { Scratch } from '../dist/engine/memory/scratch.js'
import { SeededRandom, seed } from './seeded-random.js'

const backend = 'tsdb'
const hourMs = 3_600_000
const startMs = 400_000 * hourMs
const functions = ['count', 'sum', 'sqr', 'min', 'max', 'last', 'avg', 'stdvar'] as const

type Cell = bigint | number | boolean | null
/** Host → metric → time in ms → value. */
type Samples = Map<string, Map<string, Map<number, number>>>

interface Shape {
  readonly intervalMs: number
  readonly rowCount: number
  readonly dtypes: Readonly<Record<string, 'int64' | 'float64' | 'bool'>>
  readonly nullChance: number
  readonly oddChance: number
}

function cellOf(random: SeededRandom, dtype: 'int64' | 'float64' | 'bool', { nullChance, oddChance }: Shape): Cell {
  if (random.chance(nullChance)) return null
  if (dtype === 'bool') return random.chance(0.5)
  if (dtype === 'int64') return BigInt(random.integer(-50, 1000))
  if (random.chance(oddChance)) return random.pick([Number.NaN, Number.POSITIVE_INFINITY, -0, 0, 1e15])
  return random.integer(-1000, 1000) / 100
}

function framesOf(random: SeededRandom, shape: Shape, fromMs: number, rowCount: number, samples: Samples): Frame[] {
  return ['a', 'b', 'c'].map((host) => {
    const times = Array.from({ length: rowCount }, (_, row) => fromMs + row * shape.intervalMs)
    const columns = Object.entries(shape.dtypes).map(([name, dtype]) => {
      const cells = times.map(() => cellOf(random, dtype, shape))
      const series = samples.get(host)!.get(name)!
      cells.forEach((cell, row) => {
        if (cell !== null) series.set(times[row]!, Number(cell))
      })
      return columnOfCells(name, dtype, cells)
    })
    const time = sliceColumn(
      'time',
      BigInt64Array.from(times, (ms) => BigInt(ms) * 1_000_000n),
      'time',
    )
    return new Frame({ columns, indices: [time], labels: { host, zone: 'z' } })
  })
}

/** The functions above of values in time order; those of values that have no sum are NaN, as said of NaN samples. */
function aggregate(values: readonly number[]): number[] {
  const n = values.length
  const sum = values.reduce((a, b) => a + b, 0)
  const mean = sum / n
  const extreme = (pick: (...all: number[]) => number): number => values.reduce((a, b) => pick(a, b))
  const squares = values.reduce((a, b) => a + b * b, 0)
  const deviations = values.reduce((a, b) => a + (b - mean) ** 2, 0)
  const variance = n < 2 || !Number.isFinite(mean) ? Number.NaN : deviations / (n - 1)
  return [n, sum, squares, extreme(Math.min), extreme(Math.max), values[n - 1]!, mean, variance]
}

function isClose(fn: (typeof functions)[number], a: number, b: number, values: readonly number[]): boolean {
  if (Object.is(a, b)) return true
  if (fn === 'count' || fn === 'min' || fn === 'max' || fn === 'last') return false
  const largest = values.reduce((most, value) => Math.max(most, Math.abs(value)), 1)
  const scale = largest * values.length * (fn === 'sqr' || fn === 'stdvar' ? largest : 1)
  return Math.abs(a - b) <= 1e-12 * scale
}

interface Query {
  readonly fromMs: number
  readonly toMs: number
  readonly stepMs: number
  readonly groupBy: 'host' | 'zone' | ''
  readonly fns: readonly (typeof functions)[number][]
}

async function check(engine: Engine, table: string, samples: Samples, query: Query): Promise<void> {
  const { fromMs, toMs, stepMs, groupBy, fns } = query
  const where = `${table} ${JSON.stringify(query)}`
  const wanted = new Map<string, number[]>()
  const lastMs = new Map<string, number>()
  for (const [host, metrics] of samples) {
    for (const [metric, series] of metrics) {
      for (const timeMs of [...series.keys()].sort((a, b) => a - b)) {
        if (timeMs < fromMs || timeMs > toMs) continue
        const bucket = fromMs + Math.floor((timeMs - fromMs) / stepMs) * stepMs
        const key = `${groupBy === 'zone' ? 'z' : host} ${metric} ${bucket}`
        const list = wanted.get(key) ?? []
        if (list.length === 0) wanted.set(key, list)
        // The last value comes last; of one time, that of the last host.
        if (timeMs >= (lastMs.get(key) ?? 0)) list.push(series.get(timeMs)!)
        else list.splice(list.length - 1, 0, series.get(timeMs)!)
        lastMs.set(key, Math.max(timeMs, lastMs.get(key) ?? 0))
      }
    }
  }
  let count = 0
  const request = {
    backend,
    table,
    start: String(fromMs),
    end: String(toMs),
    step: `${stepMs / 1000}s`,
    aggregators: fns.join(),
    ...(groupBy === '' ? {} : { groupBy }),
  }
  for await (const frame of engine.read(request)) {
    const group = frame.labels.get(groupBy === 'zone' ? 'zone' : 'host') as string
    const times = frame.indices[0]!.times()
    for (const name of frame.names) {
      const [, fn, metric] = /^(\w+)\((\w+)\)$/.exec(name) ?? []
      if (fn === undefined) continue
      const found = frame.column(name).floats()
      times.forEach((timeNs, row) => {
        const values = wanted.get(`${group} ${metric} ${timeNs / 1_000_000n}`)
        const cell = `${where}: ${name} of ${group} at ${timeNs}`
        if (values === undefined) {
          expect(found[row], cell).toBeNaN()
          return
        }
        count++
        const right = aggregate(values)[functions.indexOf(fn as 'sum')]!
        if (!isClose(fn as 'sum', found[row]!, right, values)) expect(found[row], cell).toBe(right)
      })
    }
  }
  expect(count, where).toBe(wanted.size * fns.length)
}

/** Rows in which a condition holds; comparisons of what is missing are false, and so are those of NaN. */
const conditions: readonly [text: string, holds: (row: { i: number; f: number }) => boolean][] = [
  ['f > 9.5', ({ f }) => f > 9.5],
  ['i >= 990', ({ i }) => i >= 990],
  ['NOT (f < 9.9)', ({ f }) => !(f < 9.9)],
  ['(f > 9.9 OR i < -48)', ({ f, i }) => f > 9.9 || i < -48],
  ['i = 5 AND f < 0', ({ f, i }) => i === 5 && f < 0],
  ["(i > 995 OR host = 'nobody')", ({ i }) => i > 995],
  ['f > 1000', ({ f }) => f > 1000],
]

async function checkWhere(
  engine: Engine,
  table: string,
  samples: Samples,
  { fromMs, toMs, index }: { fromMs: number; toMs: number; index: number },
): Promise<void> {
  const [text, holds] = conditions[index]!
  const where = `${table}: ${text} from ${fromMs} to ${toMs}`
  const wanted: string[] = []
  for (const [host, metrics] of samples) {
    const times = new Set([...metrics.values()].flatMap((series) => [...series.keys()]))
    for (const timeMs of [...times].sort((a, b) => a - b)) {
      if (timeMs < fromMs || timeMs > toMs) continue
      const cell = (name: string): number => metrics.get(name)!.get(timeMs) ?? Number.NaN
      if (holds({ i: cell('i'), f: cell('f') })) wanted.push(`${host} ${timeMs} ${cell('b')} ${cell('f')} ${cell('i')}`)
    }
  }
  const found: string[] = []
  const query = `select b, f, i from ${table} where ${text}`
  for await (const frame of engine.read({ backend, table, query, start: String(fromMs), end: String(toMs) })) {
    const host = String(frame.labels.get('host'))
    const cells = ['b', 'f', 'i'].map((name) => frame.column(name).values())
    frame.indices[0]!.times().forEach((timeNs, row) => {
      const shown = cells.map((values) => (values[row] === null ? Number.NaN : Number(values[row])))
      found.push(`${host} ${timeNs / 1_000_000n} ${shown.join(' ')}`)
    })
  }
  expect(found.length, where).toBe(wanted.length)
  const different = found.findIndex((row, i) => row !== wanted[i])
  if (different >= 0) expect(found[different], where).toBe(wanted[different])
}

const tables = {
  plain: {},
  asked: { aggregates: 'count,sum,stddev', aggregationGranularity: '5m' },
  all: { aggregates: '*' },
}

for (let round = 0; round < 3 * Number(process.env['ROUNDS'] ?? 1); round++) {
  test(`round ${round}: tables with pre-aggregates and without answer as their samples do`, {
    timeout: 300_000,
  }, async () => {
    const random = new SeededRandom(seed + round)
    const engine = await openEngine({ memoryByteLength: 256 * 2 ** 20, workerCount: 2, history: false })
    const shape: Shape = {
      intervalMs: random.pick([1000, 10_000, 15_000, 60_000]),
      rowCount: random.integer(1500, 5000),
      dtypes: { i: 'int64', f: 'float64', b: 'bool' },
      nullChance: random.pick([0, 0, 0.3]),
      oddChance: random.pick([0, 0.0005]),
    }
    const metricNames = Object.keys(shape.dtypes)
    const samples: Samples = new Map(
      ['a', 'b', 'c'].map((host) => [host, new Map(metricNames.map((name) => [name, new Map()]))]),
    )
    for (const [table, options] of Object.entries(tables))
      await engine.create({ backend, table, rate: '1/s', ...options })
    const write = async (fromMs: number, rowCount: number, written = shape): Promise<void> => {
      const frames = framesOf(random, written, fromMs, rowCount, samples)
      for (const table of Object.keys(tables)) await engine.write({ backend, table }, frames)
    }
    const spanMs = shape.intervalMs * shape.rowCount
    const someMs = (): number => startMs + Math.floor(random.next() * spanMs)
    const run = (command: string): Promise<unknown[]> =>
      Promise.all(Object.keys(tables).map((table) => engine.execute({ backend, table, command })))
    await write(startMs, shape.rowCount)
    // Blocks have digests from their first merge on.
    if (random.chance(0.8)) await run('compact')
    for (let step = 0; step < 12; step++) {
      const choice = random.next()
      if (choice < 0.15) await write(startMs + Math.floor(random.next() * shape.rowCount) * shape.intervalMs, 5)
      else if (choice < 0.25) await write(someMs(), 1200)
      else if (choice < 0.35) await write(someMs(), 1100, { ...shape, dtypes: { ...shape.dtypes, i: 'float64' } })
      else if (choice < 0.5) {
        const [from, length] = [someMs(), random.pick([0, 60_000, hourMs])]
        const host = random.pick(['a', 'b'])
        for (const series of samples.get(host)!.values())
          for (const timeMs of series.keys()) if (timeMs >= from && timeMs <= from + length) series.delete(timeMs)
        const range = { start: String(from), end: String(from + length), filter: `host == '${host}'` }
        for (const table of Object.keys(tables)) await engine.delete({ backend, table, ...range })
      } else if (choice < 0.7) await run('compact')
      for (const index of [random.integer(0, conditions.length), random.integer(0, conditions.length)]) {
        const [a, b] = [someMs(), someMs()]
        const range = random.chance(0.5)
          ? { fromMs: startMs, toMs: startMs + 2 * spanMs }
          : { fromMs: Math.min(a, b), toMs: Math.max(a, b) }
        for (const table of Object.keys(tables)) await checkWhere(engine, table, samples, { ...range, index })
      }
      for (let query = 0; query < 4; query++) {
        const stepMs = random.pick([60_000, 300_000, 600_000, hourMs, 6 * hourMs, 24 * hourMs, 7_000_000])
        const fromMs = random.chance(0.6) ? startMs + random.integer(0, 3) * hourMs : someMs()
        const toMs = random.chance(0.5) ? startMs + 2 * spanMs : random.chance(0.5) ? someMs() : fromMs + 5 * stepMs - 1
        if (toMs < fromMs) continue
        const fns = random.chance(0.5) ? functions : functions.filter(() => random.chance(0.3))
        const asked = fns.length === 0 ? (['max'] as const) : fns
        for (const table of Object.keys(tables))
          await check(engine, table, samples, {
            fromMs,
            toMs,
            stepMs,
            groupBy: random.pick(['', 'host', 'zone']),
            fns: asked,
          })
      }
    }
    await engine.close()
  })
}

// ---- of one block ----------------------------------------------------------------------------------------------------

const heapBase = kernelHeapBase()
const byteLength = 32 * 2 ** 20

/** A block of one label set with a value each ten seconds, and what reads it. */
function readerOf(rowCount: number): { reader: SeriesReader; grains: number[] } {
  const kernels = loadKernels(createMemory(heapBase + byteLength))
  const scratch = new Scratch({ byteOffset: heapBase, byteLength })
  const timesPtr = scratch.allocate(8 * rowCount)
  const valuesPtr = scratch.allocate(8 * rowCount)
  for (let row = 0; row < rowCount; row++) {
    kernels.i64[(timesPtr >> 3) + row] = BigInt(startMs + row * 10_000) * 1_000_000n
    kernels.i64[(valuesPtr >> 3) + row] = BigInt(row)
  }
  const directory = { sets: Uint32Array.of(7), starts: Uint32Array.of(0, rowCount) }
  const writer = new RunWriter(
    new PageEncoder(kernels, scratch, 4096),
    { directory, timesPtr },
    { columnCount: 1, rowByteLength: 16, digests: { asked: null } },
  )
  writer.addColumn('v', { dtype: 'int64', valuesPtr, validityPtr: 0, bytesPtr: 0 })
  const block = writer.finish(48 * hourMs)[0]!
  const source = {
    id: BigInt(rowCount),
    rowCount,
    headerByteLength: block.headerByteLength,
    headerCrc: block.headerCrc,
    extent: block.extent,
    isPacked: true,
    packed: block.packed,
    values: null,
    dead: null,
    damage: null,
  }
  const [cache, temporary] = scratch.split([0.7, 0.3]) as [Scratch, Scratch]
  const reader = new SeriesReader(new BlockIo(kernels, cache, null, 'p', 't'), temporary, [source], true)
  expect(reader.sets()).toEqual(Uint32Array.of(7))
  return { reader, grains: grainsOf(reader.readerAt(0)).map(({ grainMs }) => grainMs) }
}

const metrics = [{ name: 'v', type: 'int64', storedTypes: ['int64'] }] as const
const ns = (ms: number): bigint => BigInt(ms) * 1_000_000n

/** What comes for a range: rows, or digests. */
function batchesOf(reader: SeriesReader, from: number, to: number, stepMs: number): string[] {
  const grid = { startNs: ns(from), stepNs: ns(stepMs), fields: 7 }
  reader.open(7, metrics, ns(from), ns(to), grid)
  const batches: string[] = []
  for (let batch = reader.next(); batch !== null; batch = reader.next())
    batches.push(`${batch.rowCount} ${batch.digests === null ? 'rows' : 'digests'}`)
  return batches
}

test('a bucket that covers stretches of time reads no samples; the rest of a range does', () => {
  const { reader, grains } = readerOf(3600)
  expect(grains).toEqual([hourMs])
  expect(batchesOf(reader, startMs, startMs + 10 * hourMs, hourMs)).toEqual(['10 digests'])
  expect(batchesOf(reader, startMs + 2 * hourMs, startMs + 5 * hourMs, hourMs)).toEqual(['3 digests'])
  expect(batchesOf(reader, startMs + hourMs / 2, startMs + 4.5 * hourMs, 100 * hourMs)).toEqual([
    '180 rows',
    '3 digests',
    '180 rows',
  ])
  // No bucket covers a stretch.
  expect(batchesOf(reader, startMs, startMs + hourMs, hourMs / 2)).toEqual(['360 rows'])
})

test('a block of few rows has no digests', () => {
  expect(readerOf(1000).grains).toEqual([])
})
