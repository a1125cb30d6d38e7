// Bucketed aggregation: states fed in batches cut anywhere, against twins that keep each bucket's values in a list.
import { afterEach, expect, test } from 'vitest'
import { ColumnsInMemory } from './columns-in-memory.js'
import { rowCounts, SeededRandom, seed } from './seeded-random.js'

const columns = new ColumnsInMemory(8 * 2 ** 20)
const { call } = columns.kernels
const random = new SeededRandom(seed)

afterEach(() => columns.clear())

const which = { sum: 2, extremes: 4, last: 8, variance: 16 } as const
const allOfThem = 2 + 4 + 8 + 16
const aggregates = ['count', 'sum', 'sqr', 'min', 'max', 'last', 'avg', 'stdvar', 'stddev'] as const
type Aggregate = (typeof aggregates)[number]

interface Windows {
  readonly startNs: bigint
  readonly stepNs: bigint
  readonly bucketCount: number
}

interface Series {
  readonly timesNs: readonly bigint[]
  readonly values: readonly number[]
  /** null: no row is missing. */
  readonly validity: readonly boolean[] | null
}

/** The twin of accumulating: the present values of each bucket, in order. */
function bucketsOf({ startNs, stepNs, bucketCount }: Windows, { timesNs, values, validity }: Series): number[][] {
  const buckets: number[][] = Array.from({ length: bucketCount }, () => [])
  for (const [row, timeNs] of timesNs.entries()) {
    if (timeNs < startNs || validity?.[row] === false) continue
    buckets[Number((timeNs - startNs) / stepNs)]?.push(values[row]!)
  }
  return buckets
}

/** The twin of finishing: spec'd definitions, one bucket at a time. */
function aggregateOf(values: readonly number[], aggregate: Aggregate): number {
  const count = values.length
  if (count === 0) return Number.NaN
  const sum = values.reduce((a, b) => a + b, 0)
  const mean = sum / count
  const variance = () => values.reduce((total, value) => total + (value - mean) ** 2, 0) / (count - 1)
  switch (aggregate) {
    case 'count':
      return count
    case 'sum':
      return sum
    case 'sqr':
      return values.reduce((total, value) => total + value * value, 0)
    case 'min':
      return values.reduce((a, b) => Math.min(a, b))
    case 'max':
      return values.reduce((a, b) => Math.max(a, b))
    case 'last':
      return values.at(-1)!
    case 'avg':
      return mean
    case 'stdvar':
      return count < 2 ? Number.NaN : variance()
    case 'stddev':
      return count < 2 ? Number.NaN : Math.sqrt(variance())
  }
}

/** How far an aggregate may be from its twin: nothing for exact ones, else rounding in proportion to what was added. */
function expectAggregate(actual: number, values: readonly number[], aggregate: Aggregate): void {
  const expected = aggregateOf(values, aggregate)
  const exact = ['count', 'min', 'max', 'last'].includes(aggregate)
  if (exact || !Number.isFinite(expected)) {
    expect(actual, `${aggregate} of ${values.slice(0, 20)}`).toBe(expected)
    return
  }
  const magnitude = values.reduce((total, value) => total + Math.abs(value), 0)
  const squares = values.reduce((total, value) => total + value * value, 0)
  const tolerances = {
    sum: magnitude,
    avg: magnitude / values.length,
    sqr: squares,
    stdvar: squares,
    stddev: magnitude,
  }
  const tolerance = 1e-12 * tolerances[aggregate as keyof typeof tolerances]
  expect(Math.abs(actual - expected), `${aggregate}: ${actual}, expected ${expected}`).toBeLessThanOrEqual(tolerance)
}

type Kernel = 'Float64' | 'Int64' | 'Bits' | 'Count'

/** Writes the columns of rows [rowStart, rowEnd) on their own and feeds them to the state. */
function feed(
  kernel: Kernel,
  { startNs, stepNs, bucketCount }: Windows,
  { timesNs, values, validity }: Series,
  statePtr: number,
  rowStart: number,
  rowEnd: number,
  kept: number,
  windowNs?: bigint,
): void {
  const count = rowEnd - rowStart
  const timesPtr = columns.int64s(timesNs.slice(rowStart, rowEnd))
  const batch = values.slice(rowStart, rowEnd)
  const validityPtr = validity === null ? 0 : columns.bits(validity.slice(rowStart, rowEnd))
  const valuesPtr = {
    Float64: () => columns.float64s(batch),
    Int64: () => columns.int64s(batch.map(BigInt)),
    Bits: () => columns.bits(batch.map((value) => value === 1)),
    Count: () => 0,
  }[kernel]()
  if (kernel === 'Count') {
    if (windowNs === undefined) {
      call.accumulateWindowsCount(timesPtr, validityPtr, count, startNs, stepNs, bucketCount, statePtr)
    } else {
      call.accumulateLookbackCount(timesPtr, validityPtr, count, startNs, stepNs, bucketCount, windowNs, statePtr)
    }
    return
  }
  const columnArguments = [timesPtr, valuesPtr, validityPtr, count, startNs, stepNs, bucketCount] as const
  if (windowNs === undefined) call[`accumulateWindows${kernel}`](...columnArguments, statePtr, kept)
  else call[`accumulateLookback${kernel}`](...columnArguments, windowNs, statePtr, kept)
}

function newState(bucketCount: number): number {
  const statePtr = columns.target(call.windowStateByteLength(bucketCount))
  call.initWindows(statePtr, bucketCount)
  return statePtr
}

function finished(statePtr: number, bucketCount: number, aggregate: Aggregate): number[] {
  const targetPtr = columns.target(bucketCount * 8)
  call.finishWindows(statePtr, bucketCount, aggregates.indexOf(aggregate), targetPtr)
  return columns.readFloat64s(targetPtr, bucketCount)
}

/** Feeds the whole series in batches cut at random places. */
function feedInBatches(
  kernel: Kernel,
  windows: Windows,
  series: Series,
  statePtr: number,
  kept = allOfThem,
  windowNs?: bigint,
): void {
  const batchCount = random.integer(1, 5)
  const cuts = random.list(batchCount - 1, () => random.integer(0, series.timesNs.length + 1)).sort((a, b) => a - b)
  const edges = [0, ...cuts, series.timesNs.length]
  for (let at = 0; at < batchCount; at++) {
    feed(kernel, windows, series, statePtr, edges[at]!, edges[at + 1]!, kept, windowNs)
  }
}

/** Ascending times around 1970, of one of the shapes that runs of rows come in. */
function randomTimes(rowCount: number): bigint[] {
  const shape = random.integer(0, 4)
  const meanStepNs = random.pick([0, 1, 3, 50, 1000])
  let timeNs = -BigInt(Math.floor((rowCount * meanStepNs) / 2))
  return random.list(rowCount, () => {
    if (shape === 0) timeNs += BigInt(meanStepNs)
    else if (shape === 1) timeNs += BigInt(random.integer(0, 2 * meanStepNs + 1))
    else if (shape === 2) timeNs += random.chance(0.05) ? BigInt(random.integer(0, 40 * meanStepNs + 1)) : 0n
    else timeNs += random.chance(0.02) ? BigInt(random.integer(0, 200 * meanStepNs + 1)) : BigInt(meanStepNs)
    return timeNs
  })
}

/** Buckets that begin before, in or after the series and hold from less than one to all of its rows. */
function randomWindows(timesNs: readonly bigint[]): Windows {
  const first = timesNs[0] ?? 0n
  const spanNs = (timesNs.at(-1) ?? 0n) - first + 1n
  const bucketCount = random.integer(1, 40)
  const stepNs = spanNs / BigInt(random.pick([1, 2, 5, 10, bucketCount, 100])) + BigInt(random.integer(1, 4))
  const startNs = first + (spanNs * BigInt(random.integer(-20, 60))) / 100n
  return { startNs, stepNs, bucketCount }
}

function randomSeries(rowCount: number, value: () => number): Series {
  const validity = random.chance(0.5) ? null : random.bits(rowCount)
  return { timesNs: randomTimes(rowCount), values: random.list(rowCount, value), validity }
}

const valueMakers: Record<Kernel, () => number> = {
  Float64: () => random.float64(0),
  Int64: () => random.integer(-(2 ** 40), 2 ** 40),
  Bits: () => (random.chance(0.5) ? 1 : 0),
  Count: () => 0,
}

for (const kernel of ['Float64', 'Int64', 'Bits'] as const) {
  test(`every aggregate of every bucket of ${kernel} values equals its definition, however the batches are cut`, () => {
    for (const rowCount of [...rowCounts, 3000, 5000]) {
      for (let round = 0; round < 6; round++) {
        const series = randomSeries(rowCount, valueMakers[kernel])
        const windows = randomWindows(series.timesNs)
        const buckets = bucketsOf(windows, series)
        const statePtr = newState(windows.bucketCount)
        feedInBatches(kernel, windows, series, statePtr)
        for (const aggregate of aggregates) {
          const actual = finished(statePtr, windows.bucketCount, aggregate)
          for (const [bucket, values] of buckets.entries()) expectAggregate(actual[bucket]!, values, aggregate)
        }
        columns.expectGuardsIntact()
        columns.clear()
      }
    }
  })
}

test('rows that are no numbers are counted', () => {
  for (const rowCount of rowCounts) {
    const series = randomSeries(rowCount, valueMakers.Count)
    const windows = randomWindows(series.timesNs)
    const statePtr = newState(windows.bucketCount)
    feedInBatches('Count', windows, series, statePtr)
    const counts = bucketsOf(windows, series).map((values) => values.length || Number.NaN)
    expect(finished(statePtr, windows.bucketCount, 'count')).toEqual(counts)
    columns.clear()
  }
})

test('each aggregate needs only what it says it needs', () => {
  const needs: Record<Aggregate, number> = {
    count: 0,
    sum: which.sum,
    avg: which.sum,
    min: which.extremes,
    max: which.extremes,
    last: which.last,
    sqr: which.variance,
    stdvar: which.variance,
    stddev: which.variance,
  }
  for (const aggregate of aggregates) {
    for (const rowCount of [1, 5, 64, 300, 5000]) {
      const kept = needs[aggregate]
      const series = randomSeries(rowCount, valueMakers.Float64)
      const windows = randomWindows(series.timesNs)
      const { bucketCount } = windows
      const statePtr = newState(bucketCount)
      feedInBatches('Float64', windows, series, statePtr, kept)
      const actual = finished(statePtr, bucketCount, aggregate)
      for (const [bucket, values] of bucketsOf(windows, series).entries()) {
        expectAggregate(actual[bucket]!, values, aggregate)
      }
      columns.clear()
    }
  }
})

test('NaN anywhere in a bucket makes all but count and last NaN, and only in that bucket, across batches too', () => {
  for (const length of [1, 2, 3, 5, 8, 16, 63, 64, 65, 200]) {
    for (const at of [0, length >> 1, length - 1]) {
      const rowCount = length * 3
      const values = random.list(rowCount, (row) => (row === length + at ? Number.NaN : row + 1))
      const timesNs = random.list(rowCount, BigInt)
      const windows = { startNs: 0n, stepNs: BigInt(length), bucketCount: 3 }
      for (const validity of [null, random.list(rowCount, (row) => row % 5 !== 4 || row === length + at)]) {
        const buckets = bucketsOf(windows, { timesNs, values, validity })
        const statePtr = newState(3)
        feedInBatches('Float64', windows, { timesNs, values, validity }, statePtr)
        for (const aggregate of aggregates) {
          const actual = finished(statePtr, 3, aggregate)
          for (const [bucket, bucketValues] of buckets.entries()) {
            expectAggregate(actual[bucket]!, bucketValues, aggregate)
          }
        }
        for (const aggregate of ['sum', 'sqr', 'min', 'max', 'avg'] as const) {
          expect(finished(statePtr, 3, aggregate)[1]).toBeNaN()
        }
      }
      columns.clear()
    }
  }
})

test('a missing NaN does not count', () => {
  const series = { timesNs: [0n, 1n, 2n], values: [1, Number.NaN, 3], validity: [true, false, true] }
  const windows = { startNs: 0n, stepNs: 10n, bucketCount: 1 }
  const statePtr = newState(1)
  feed('Float64', windows, series, statePtr, 0, 3, allOfThem)
  expect(aggregates.map((aggregate) => finished(statePtr, 1, aggregate)[0])).toEqual([
    2,
    4,
    10,
    1,
    3,
    3,
    2,
    2,
    Math.sqrt(2),
  ])
})

test('infinite values: sum, min, max and sqr as arithmetic says, and no variance', () => {
  for (const length of [1, 2, 9, 100]) {
    for (const infinities of [[Infinity], [-Infinity], [Infinity, -Infinity], [Infinity, Infinity]]) {
      const values = random.list(length, (row) => infinities[row] ?? row)
      const windows = { startNs: 0n, stepNs: 1000n, bucketCount: 1 }
      const statePtr = newState(1)
      const series = { timesNs: random.list(length, BigInt), values, validity: null }
      feedInBatches('Float64', windows, series, statePtr)
      for (const aggregate of aggregates) expectAggregate(finished(statePtr, 1, aggregate)[0]!, values, aggregate)
    }
  }
})

test('the least zero is -0 and the greatest is 0, however the batches are cut', () => {
  for (const length of [2, 3, 8, 9, 70]) {
    for (const zeros of [
      [0, -0],
      [-0, 0],
    ]) {
      const values = random.list(length, (row) => zeros[row] ?? zeros[1]!)
      const series = { timesNs: random.list(length, BigInt), values, validity: null }
      const windows = { startNs: 0n, stepNs: 1000n, bucketCount: 1 }
      for (const kept of [which.extremes, which.extremes + which.sum]) {
        const statePtr = newState(1)
        feedInBatches('Float64', windows, series, statePtr, kept)
        expect(finished(statePtr, 1, 'min')).toEqual([-0])
        expect(finished(statePtr, 1, 'max')).toEqual([0])
      }
    }
  }
})

test('variance is right where the values are far from zero and close together', () => {
  const offset = 1e9
  const rowCount = 10_000
  const small = random.list(rowCount, () => random.next())
  const series = {
    timesNs: random.list(rowCount, BigInt),
    values: small.map((value) => value + offset),
    validity: null,
  }
  const windows = { startNs: 0n, stepNs: BigInt(rowCount), bucketCount: 1 }
  const statePtr = newState(1)
  feedInBatches('Float64', windows, series, statePtr)
  const expected = aggregateOf(
    series.values.map((value) => value - offset),
    'stdvar',
  )
  // The mean is 3.5e9 standard deviations away: merging may lose 2^-53 × 3.5e9, where the textbook formula loses all.
  expect(Math.abs(finished(statePtr, 1, 'stdvar')[0]! / expected - 1)).toBeLessThan(4e-7)
})

test('times and buckets may reach the ends of int64', () => {
  const lowest = -(2n ** 63n)
  const highest = 2n ** 63n - 1n
  const timesNs = [lowest, lowest, lowest + 1n, -1n, 0n, highest - 1n, highest, highest, highest]
  const series = { timesNs, values: timesNs.map((_, row) => 2 ** row), validity: null }
  const cases: Windows[] = [
    { startNs: lowest, stepNs: highest, bucketCount: 3 },
    { startNs: lowest, stepNs: highest, bucketCount: 1000 },
    { startNs: lowest, stepNs: 2n ** 62n, bucketCount: 4 },
    { startNs: lowest + 1n, stepNs: 1n, bucketCount: 5 },
    { startNs: highest, stepNs: highest, bucketCount: 2 },
    { startNs: highest - 1n, stepNs: 1n, bucketCount: 7 },
    { startNs: 0n, stepNs: 2n ** 62n, bucketCount: 2 },
  ]
  for (const windows of cases) {
    const statePtr = newState(windows.bucketCount)
    feedInBatches('Float64', windows, series, statePtr)
    const sums = bucketsOf(windows, series).map((values) => aggregateOf(values, 'sum'))
    expect(finished(statePtr, windows.bucketCount, 'sum')).toEqual(sums)
    columns.expectGuardsIntact()
  }
})

test('int64 values are rounded to float64 one by one', () => {
  const values = random.list(200, () => random.int64())
  const timesPtr = columns.int64s(values.map((_, row) => BigInt(row)))
  const statePtr = newState(200)
  call.accumulateWindowsInt64(timesPtr, columns.int64s(values), 0, 200, 0n, 1n, 200, statePtr, allOfThem)
  for (const aggregate of ['sum', 'min', 'max', 'last', 'avg'] as const) {
    expect(finished(statePtr, 200, aggregate)).toEqual(values.map(Number))
  }
})

test('look-back windows hold what their definition says, overlapping or not, however the batches are cut', () => {
  for (const kernel of ['Float64', 'Int64', 'Bits', 'Count'] as const) {
    for (const rowCount of [0, 1, 2, 8, 9, 64, 65, 300, 3000]) {
      for (let round = 0; round < 6; round++) {
        const series = randomSeries(rowCount, valueMakers[kernel])
        const windows = randomWindows(series.timesNs)
        const { startNs, stepNs, bucketCount } = windows
        const windowNs = random.pick([0n, 1n, stepNs / 3n, stepNs - 1n, stepNs, stepNs + 1n, stepNs * 3n, stepNs * 50n])
        const isOpen = windowNs === stepNs
        const buckets = random.list(bucketCount, (bucket) => {
          const endNs = startNs + BigInt(bucket) * stepNs
          return series.values.filter((_, row) => {
            const ageNs = endNs - series.timesNs[row]!
            return series.validity?.[row] !== false && 0n <= ageNs && (isOpen ? ageNs < windowNs : ageNs <= windowNs)
          })
        })
        const statePtr = newState(bucketCount)
        feedInBatches(kernel, windows, series, statePtr, allOfThem, windowNs)
        for (const aggregate of kernel === 'Count' ? (['count'] as const) : aggregates) {
          const actual = finished(statePtr, bucketCount, aggregate)
          for (const [bucket, values] of buckets.entries()) expectAggregate(actual[bucket]!, values, aggregate)
        }
        columns.expectGuardsIntact()
        columns.clear()
      }
    }
  }
})

test('the look-back windows of the worked example: closed, left open when as long as the step, and apart', () => {
  const minutes = (minute: number) => BigInt(minute) * 60_000_000_000n
  const series = { timesNs: random.list(10, minutes), values: random.list(10, (row) => row * 10), validity: null }
  const windows = { startNs: 0n, stepNs: minutes(5), bucketCount: 3 }
  const sums = [6, 5, 2].map((windowMinutes) => {
    const statePtr = newState(3)
    feedInBatches('Float64', windows, series, statePtr, which.sum, minutes(windowMinutes))
    return finished(statePtr, 3, 'sum')
  })
  expect(sums).toEqual([
    [0, 150, 390],
    [0, 150, 300],
    [0, 120, 170],
  ])
})

test('look-back windows may reach the ends of int64', () => {
  const lowest = -(2n ** 63n)
  const highest = 2n ** 63n - 1n
  const timesNs = [lowest, lowest + 1n, -1n, 0n, highest - 1n, highest, highest]
  const series = { timesNs, values: timesNs.map((_, row) => 2 ** row), validity: null }
  const counts = (startNs: bigint, stepNs: bigint, bucketCount: number, windowNs: bigint) => {
    const statePtr = newState(bucketCount)
    feedInBatches('Float64', { startNs, stepNs, bucketCount }, series, statePtr, which.sum, windowNs)
    return finished(statePtr, bucketCount, 'sum')
  }
  const none = Number.NaN
  expect(counts(lowest, 1n, 3, 5n)).toEqual([1, 3, 3])
  expect(counts(lowest, 1n, 3, 1n)).toEqual([1, 2, none])
  expect(counts(highest - 1n, 1n, 4, highest)).toEqual([4 + 8 + 16, 8 + 16 + 32 + 64, none, none])
  expect(counts(lowest, highest, 5, highest)).toEqual([1, 2 + 4, 8 + 16, none, none])
})

test('two states of the same buckets combine to the state of both parts', () => {
  for (const rowCount of rowCounts) {
    const series = randomSeries(rowCount, valueMakers.Float64)
    const windows = randomWindows(series.timesNs)
    const { bucketCount } = windows
    const cut = random.integer(0, rowCount + 1)
    const early = newState(bucketCount)
    const late = newState(bucketCount)
    feed('Float64', windows, series, early, 0, cut, allOfThem)
    feed('Float64', windows, series, late, cut, rowCount, allOfThem)
    call.combineWindows(late, early, bucketCount)
    const buckets = bucketsOf(windows, series)
    for (const aggregate of aggregates) {
      const actual = finished(early, bucketCount, aggregate)
      for (const [bucket, values] of buckets.entries()) expectAggregate(actual[bucket]!, values, aggregate)
    }
    columns.expectGuardsIntact()
    columns.clear()
  }
})

test('pooled series: the last value is the one with the greatest time, and of equal times that of the series added last', () => {
  for (let round = 0; round < 40; round++) {
    const pooled = random.list(3, () => randomSeries(random.pick([0, 1, 9, 64, 200]), valueMakers.Float64))
    const windows = randomWindows(pooled.flatMap((series) => series.timesNs).sort((a, b) => (a < b ? -1 : 1)))
    const { startNs, stepNs, bucketCount } = windows
    const windowNs = random.pick([undefined, stepNs * 2n])
    const emptyTimes = () => columns.int64s(random.list(bucketCount, () => -(2n ** 63n)))
    const into = newState(bucketCount)
    const intoTimes = emptyTimes()
    for (const series of pooled) {
      const state = newState(bucketCount)
      const lastTimes = emptyTimes()
      feedInBatches('Float64', windows, series, state, allOfThem, windowNs)
      const timesPtr = columns.int64s(series.timesNs)
      const validityPtr = series.validity === null ? 0 : columns.bits(series.validity)
      const rows = [timesPtr, validityPtr, series.timesNs.length, startNs, stepNs, bucketCount] as const
      if (windowNs === undefined) call.accumulateWindowsLastTime(...rows, lastTimes)
      else call.accumulateLookbackLastTime(...rows, windowNs, lastTimes)
      call.combineWindowsByTime(state, lastTimes, into, intoTimes, bucketCount)
    }
    const expected = random.list(bucketCount, (bucket) => {
      const bucketNs = startNs + BigInt(bucket) * stepNs
      const [firstNs, lastNs] =
        windowNs === undefined ? [bucketNs, bucketNs + stepNs - 1n] : [bucketNs - windowNs, bucketNs]
      const samples = pooled.flatMap(({ timesNs, values, validity }) =>
        timesNs
          .map((timeNs, row) => ({ timeNs, value: values[row]!, isPresent: validity?.[row] !== false }))
          .filter(({ timeNs, isPresent }) => isPresent && firstNs <= timeNs && timeNs <= lastNs),
      )
      return samples.sort((a, b) => (a.timeNs < b.timeNs ? -1 : a.timeNs > b.timeNs ? 1 : 0))
    })
    const lasts = finished(into, bucketCount, 'last')
    const counts = finished(into, bucketCount, 'count')
    expect(lasts).toEqual(expected.map((samples) => samples.at(-1)?.value ?? Number.NaN))
    expect(counts).toEqual(expected.map((samples) => samples.length || Number.NaN))
    columns.clear()
  }
})

test('the rate is the difference of last values over the time between the buckets that have rows', () => {
  const seconds = (second: number) => BigInt(second) * 1_000_000_000n
  const series = {
    timesNs: [seconds(0), seconds(60), seconds(120), seconds(180), seconds(600)],
    values: [10, 20, 30, 40, 4],
    validity: null,
  }
  const windows = { startNs: seconds(-120), stepNs: seconds(120), bucketCount: 8 }
  const statePtr = newState(8)
  feed('Float64', windows, series, statePtr, 0, 5, which.last)
  const targetPtr = columns.target(8 * 8)
  call.finishRate(statePtr, 8, windows.startNs, windows.stepNs, targetPtr)
  const none = Number.NaN
  expect(columns.readFloat64s(targetPtr, 8)).toEqual([none, none, 20 / 120, none, none, none, -36 / 480, none])
})

test('the buckets that have rows are marked beside those that others marked', () => {
  for (const bucketCount of [1, 7, 8, 9, 64, 100]) {
    const occupied = random.bits(bucketCount)
    const marked = random.bits(bucketCount)
    const rows = [...occupied.keys()].filter((bucket) => occupied[bucket])
    const statePtr = newState(bucketCount)
    const timesPtr = columns.int64s(rows.map(BigInt))
    call.accumulateWindowsCount(timesPtr, 0, rows.length, 0n, 1n, bucketCount, statePtr)
    const maskPtr = columns.bits(marked)
    expect(call.occupiedWindows(statePtr, bucketCount, maskPtr)).toBe(rows.length)
    expect(columns.readBits(maskPtr, bucketCount)).toEqual(marked.map((bit, bucket) => bit || occupied[bucket]!))
  }
})

test('times in no order write nothing outside the state', () => {
  for (let round = 0; round < 50; round++) {
    const timesNs = random.list(100, () => random.int64())
    const series = { timesNs, values: random.list(100, () => 1), validity: null }
    const windows = { startNs: random.int64(), stepNs: BigInt(random.integer(1, 2 ** 50)), bucketCount: 5 }
    feed('Float64', windows, series, newState(5), 0, 100, allOfThem)
    columns.expectGuardsIntact()
  }
})

test('a step of 0 or less is a mistake that stops the request', () => {
  const statePtr = newState(1)
  const timesPtr = columns.int64s([0n])
  for (const stepNs of [0n, -1n]) {
    expect(() => call.accumulateWindowsCount(timesPtr, 0, 1, 0n, stepNs, 1, statePtr)).toThrow(WebAssembly.RuntimeError)
  }
})

// ---- digests: what is known of a stretch of rows ---------------------------------------------------------------------

/** The twin of cutting: rows whose times lie between the same two multiples of the grain. */
function stretchesOf(timesNs: readonly bigint[], from: number, to: number, grainNs: bigint): number[][] {
  const stretches: number[][] = []
  for (let row = from; row < to; row++) {
    const isFirst = row === from || timesNs[row]! / grainNs !== timesNs[row - 1]! / grainNs
    if (isFirst) stretches.push([])
    stretches.at(-1)!.push(row)
  }
  return stretches
}

for (const kernel of ['Float64', 'Int64', 'Bits'] as const) {
  test(`digests of stretches of ${kernel} values, added to buckets that cover them, are as good as the rows`, () => {
    for (const rowCount of rowCounts) {
      const shifted = randomSeries(rowCount, valueMakers[kernel])
      const first = shifted.timesNs[0] ?? 0n
      const series = { ...shifted, timesNs: shifted.timesNs.map((timeNs) => timeNs - first + 5n) }
      const { timesNs, values, validity } = series
      const grainNs = BigInt(random.pick([1, 7, 100, 5000, 2 ** 40]))
      const from = random.integer(0, Math.min(3, rowCount + 1))
      const stretches = stretchesOf(timesNs, from, rowCount, grainNs)
      const count = stretches.length
      const timesPtr = columns.int64s(timesNs)
      const [rowsPtr, firstsPtr, lastsPtr] = [0, 1, 2].map(() => columns.target(8 * count)) as [number, number, number]
      const cut = (capacity: number): number =>
        call.cutStretches(timesPtr, from, rowCount, grainNs, rowsPtr, firstsPtr, lastsPtr, capacity)
      if (count > 0) expect(cut(count - 1)).toBe(-1)
      expect(cut(count)).toBe(count)
      expect(columns.readInt64s(rowsPtr, count)).toEqual(stretches.map((rows) => BigInt(rows[0]!)))
      expect(columns.readInt64s(firstsPtr, count)).toEqual(stretches.map((rows) => timesNs[rows[0]!]!))
      expect(columns.readInt64s(lastsPtr, count)).toEqual(stretches.map((rows) => timesNs[rows.at(-1)!]!))
      const valuesPtr = {
        Float64: () => columns.float64s(values),
        Int64: () => columns.int64s(values.map(BigInt)),
        Bits: () => columns.bits(values.map((value) => value === 1)),
      }[kernel]()
      const validityPtr = validity === null ? 0 : columns.bits(validity)
      const state = newState(count)
      call[`accumulateRuns${kernel}`](valuesPtr, validityPtr, rowsPtr, count, rowCount, state, allOfThem)
      const array = (number: number): number => state + 8 * number * count
      const windows = {
        startNs: 0n,
        stepNs: grainNs * BigInt(random.pick([1, 2, 10])),
        bucketCount: random.pick([1, 5, 4000]),
      }
      const { startNs, stepNs, bucketCount } = windows
      const into = newState(bucketCount)
      call.combineDigests(
        firstsPtr,
        array(0),
        array(1),
        array(2),
        array(3),
        array(4),
        array(6),
        count,
        startNs,
        stepNs,
        bucketCount,
        into,
        allOfThem,
      )
      const rest = {
        timesNs: timesNs.slice(from),
        values: values.slice(from),
        validity: validity === null ? null : validity.slice(from),
      }
      const buckets = bucketsOf(windows, rest)
      for (const aggregate of aggregates) {
        const actual = finished(into, bucketCount, aggregate)
        for (const [bucket, found] of buckets.entries()) expectAggregate(actual[bucket]!, found, aggregate)
      }
      columns.expectGuardsIntact()
      columns.clear()
    }
  })
}

test('a digest is taken whole when all its rows are in the range and in one bucket', () => {
  for (let round = 0; round < 200; round++) {
    const count = random.integer(0, 30)
    let at = BigInt(random.integer(0, 100))
    const stretches = random.list(count, () => {
      const first = at
      const last = first + BigInt(random.integer(0, 20))
      at = last + BigInt(random.integer(1, 10))
      return { first, last }
    })
    const bucketNs = BigInt(random.integer(0, 50))
    const stepNs = BigInt(random.pick([1, 10, 40, 500]))
    const startNs = bucketNs + BigInt(random.integer(0, 100))
    const endNs = startNs + BigInt(random.integer(0, 400))
    const isUsable = stretches.map(
      ({ first, last }) =>
        first >= startNs && last < endNs && (first - bucketNs) / stepNs === (last - bucketNs) / stepNs,
    )
    const firstsPtr = columns.int64s(stretches.map(({ first }) => first))
    const lastsPtr = columns.int64s(stretches.map(({ last }) => last))
    for (const wanted of [0, 1]) {
      for (let from = 0; from <= count; from++) {
        const found = call.findDigest(firstsPtr, lastsPtr, from, count, startNs, endNs, bucketNs, stepNs, wanted)
        const right = isUsable.indexOf(wanted === 1, from)
        expect(found).toBe(right < 0 ? count : right)
      }
    }
    columns.clear()
  }
})
