// Which neighbouring runs are merged next.
import { expect, test } from 'vitest'
import { chooseMerge, type Run, stepsPerCommit } from '../dist/engine/blocks/compaction.js'
import { SeededRandom, seed } from './seeded-random.js'

/** Runs of these many rows, one block each. */
function runsOfRows(rowCounts: readonly number[]): Run[] {
  return rowCounts.map((rowCount, i) => ({
    start: i,
    end: i + 1,
    rowCount,
    deadRowCount: 0,
    byteLength: 10 * rowCount,
  }))
}

const repeated = (rowCount: number, count: number): number[] => new Array<number>(count).fill(rowCount)

test('eight runs of a tier make one of the next; of the smallest it takes 32', () => {
  expect(chooseMerge(runsOfRows(repeated(1000, 7)))).toBe(null)
  expect(chooseMerge(runsOfRows(repeated(1000, 8)))).toEqual({ start: 0, end: 8 })
  expect(chooseMerge(runsOfRows(repeated(10, 31)))).toBe(null)
  expect(chooseMerge(runsOfRows(repeated(10, 32)))).toEqual({ start: 0, end: 32 })
})

test('a large run is not written anew for the sake of many small ones beside it', () => {
  const small = [...repeated(2000, 7), ...repeated(10, 30)]
  expect(chooseMerge(runsOfRows([3_000_000, ...small]))).toEqual({ start: 1, end: 38 })
  expect(
    chooseMerge(runsOfRows([3_000_000, ...repeated(16_000, 7), ...repeated(2000, 7), ...repeated(10, 31)])),
  ).toEqual({ start: 8, end: 46 })
  expect(chooseMerge(runsOfRows([3_000_000, ...repeated(60, 31)]))).toBe(null)
})

test('mixed sizes are merged when they are many, and the largest is not most of it', () => {
  const pairs = Array.from({ length: 16 }, () => [3000, 10]).flat()
  expect(chooseMerge(runsOfRows(pairs))).not.toBe(null)
})

test('however the sizes lie, fewer than 64 neighbours stay', () => {
  const far = Array.from({ length: 64 }, (_, i) => (i % 9 === 0 ? 50_000_000 / (i + 1) : 1 + i))
  expect(chooseMerge(runsOfRows(far))).not.toBe(null)
})

test('no run is made that is larger than the bounds say', () => {
  const bounds = { rowCountMax: 10_000, byteLengthMax: Number.POSITIVE_INFINITY }
  expect(chooseMerge(runsOfRows(repeated(4000, 8)), bounds)).toBe(null)
  expect(chooseMerge(runsOfRows([20_000, ...repeated(1000, 8)]), bounds)).toEqual({ start: 1, end: 9 })
})

test('merges of fewer rows than asked for are passed over, and neighbours behind them are found', () => {
  const runs = runsOfRows([...repeated(1000, 9), 3_000_000, ...repeated(50_000, 8)])
  expect(chooseMerge(runs)).toEqual({ start: 0, end: 9 })
  expect(chooseMerge(runs, undefined, 9001)).toEqual({ start: 10, end: 18 })
  expect(chooseMerge(runs, undefined, 400_001)).toBe(null)
})

test('a load that waits for steps of merges goes on evenly until the large one has ended, while others follow on the small ones', () => {
  const random = new SeededRandom(seed)
  for (let round = 0; round < 300; round++) {
    const large = { runCount: random.integer(8, 64), steps: random.integer(80, 600) }
    const small = random.list(random.integer(0, 2), () => ({
      runCount: random.integer(8, 64),
      steps: random.integer(8, large.steps >> 3),
    }))
    const merges = [large, ...small]
    const roomAtFirst = random.integer(8, 64)
    /** When each ends; another of its size begins then, but behind the large one. */
    const ends = merges.map(({ steps }) => steps)
    const activeAt = (step: number) =>
      merges.flatMap(({ runCount }, i) => (ends[i]! > step ? [{ runCount, stepsLeft: ends[i]! - step }] : []))
    const stepsMax = stepsPerCommit(roomAtFirst, activeAt(0))
    let room = roomAtFirst
    let paced = 0
    for (let step = 0; step < large.steps; step++) {
      for (;;) {
        const stepCount = stepsPerCommit(Math.max(1, room), activeAt(step))
        expect(stepCount, `round ${round}, step ${step}`).toBeLessThanOrEqual(5 * stepsMax + 2)
        if (step - paced < stepCount) break
        paced = Math.max(paced + stepCount, step - 1)
        room--
      }
      // Steps are whole here: the few that are too many are stopped by the bound itself.
      expect(room, `round ${round}, step ${step}`).toBeGreaterThanOrEqual(-8)
      for (const [i, { runCount, steps }] of merges.entries()) {
        if (ends[i] !== step + 1) continue
        room += runCount - 1
        if (i > 0) ends[i]! += steps
      }
    }
  }
})

test('beside a merge of many steps a load goes as fast as the small ones make room', () => {
  const small = { runCount: 40, stepsLeft: 20 }
  expect(stepsPerCommit(60, [small, { runCount: 10, stepsLeft: 500 }])).toBeCloseTo(20 / 39)
  // No room until the small one ends: what comes goes into what there is.
  expect(stepsPerCommit(5, [small, { runCount: 10, stepsLeft: 500 }])).toBe(4)
  expect(
    stepsPerCommit(5, [
      { runCount: 1, stepsLeft: 20 },
      { runCount: 10, stepsLeft: 500 },
    ]),
  ).toBe(100)
})
