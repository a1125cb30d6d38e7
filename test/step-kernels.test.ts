// Values at step points: series fed in batches and steps in runs cut anywhere, against a twin that looks at all samples.
import { afterEach, expect, test } from 'vitest'
import { ColumnsInMemory, packBits } from './columns-in-memory.js'
import { SeededRandom, seed } from './seeded-random.js'

const columns = new ColumnsInMemory(2 ** 20)
const { call, f64, i64, u8 } = columns.kernels
const random = new SeededRandom(seed)

afterEach(() => columns.clear())

interface Steps {
  readonly startNs: bigint
  readonly stepNs: bigint
  readonly stepCount: number
  /** 0 next, 1 previous, 2 line, 3 NaN, 4 next however far */
  readonly method: number
  readonly toleranceNs: bigint
}

interface Sample {
  readonly timeNs: bigint
  readonly value: number
}

const floorMs = (timeNs: bigint) => timeNs - (timeNs % 1_000_000n)

/** The twin; undefined: no value. */
function valueAt(samples: readonly Sample[], atNs: bigint, { method, toleranceNs }: Steps): number | undefined {
  const exact = samples.findLast(({ timeNs }) => floorMs(timeNs) === atNs)
  if (exact !== undefined) return exact.value
  const previous = samples.findLast(({ timeNs }) => floorMs(timeNs) < atNs)
  const next = samples.find(({ timeNs }) => floorMs(timeNs) > atNs)
  if (next === undefined) return undefined
  const isNextNear = floorMs(next.timeNs) - atNs <= toleranceNs
  const isPreviousNear = previous !== undefined && atNs - floorMs(previous.timeNs) <= toleranceNs
  if (method === 4) return next.value
  if (method === 3) return Number.NaN
  if (method === 0) return isNextNear ? next.value : undefined
  if (method === 1) return isPreviousNear ? previous.value : undefined
  if (!isNextNear || !isPreviousNear) return undefined
  const span = Number(floorMs(next.timeNs) - floorMs(previous.timeNs))
  return previous.value + (next.value - previous.value) * (Number(atNs - floorMs(previous.timeNs)) / span)
}

/** All steps, in runs of random length; within a run, rows are fed in batches, as far as the kernel asks for them. */
function run(
  type: 'f64' | 'i64' | 'bits',
  times: readonly bigint[],
  values: readonly number[],
  present: readonly boolean[],
  steps: Steps,
) {
  const { startNs, stepNs, stepCount, method, toleranceNs } = steps
  const statePtr = columns.target(call.stepStateByteLength())
  call.initStepState(statePtr)
  const found: (number | undefined)[] = []
  let first = 0
  while (first < stepCount) {
    const count = Math.min(stepCount - first, random.integer(1, 80))
    const runNs = startNs + BigInt(first) * stepNs
    const targetPtr = columns.target(8 * count)
    const presentPtr = columns.target(Math.ceil(count / 8))
    const knownNs = i64[(statePtr >> 3) + 2]!
    let isDecided = call.beginSteps(runNs, stepNs, count, method, toleranceNs, statePtr, targetPtr, presentPtr) === 1
    const fromNs = knownNs === -(2n ** 63n) ? runNs - toleranceNs : knownNs
    let row = times.findIndex((timeNs) => timeNs >= fromNs)
    while (!isDecided && row >= 0 && row < times.length) {
      const rowCount = Math.min(times.length - row, random.integer(1, 40))
      const batch = values.slice(row, row + rowCount)
      const bits = present.slice(row, row + rowCount)
      const timesPtr = columns.int64s(times.slice(row, row + rowCount))
      const validityPtr = bits.every(Boolean) ? 0 : columns.bytes(packBits(bits))
      const valuesPtr =
        type === 'f64'
          ? columns.float64s(batch)
          : type === 'i64'
            ? columns.int64s(batch.map(BigInt))
            : columns.bytes(packBits(batch.map((value) => value === 1)))
      const add = { f64: call.addStepsFloat64, i64: call.addStepsInt64, bits: call.addStepsBits }[type]
      isDecided =
        add(
          timesPtr,
          valuesPtr,
          validityPtr,
          rowCount,
          runNs,
          stepNs,
          count,
          method,
          toleranceNs,
          statePtr,
          targetPtr,
          presentPtr,
        ) === 1
      row += rowCount
    }
    if (!isDecided) call.endSteps(statePtr)
    for (let i = 0; i < count; i++) {
      const isPresent = ((u8[presentPtr + (i >> 3)]! >> (i & 7)) & 1) === 1
      const value = f64[(targetPtr >> 3) + i]!
      if (!isPresent) expect(value).toBeNaN()
      found[first + i] = isPresent ? value : undefined
    }
    columns.expectGuardsIntact()
    const next = call.nextStepWithValue(runNs, stepNs, count, method, toleranceNs, statePtr)
    expect(next).toBeGreaterThanOrEqual(BigInt(count))
    first = next > BigInt(stepCount) ? stepCount : first + Number(next)
  }
  return Array.from({ length: stepCount }, (_, i) => found[i])
}

test('steps have the values that the twin finds, however batches and runs are cut', () => {
  for (let round = 0; round < 400; round++) {
    columns.clear()
    const rowCount = random.integer(0, 120)
    const scaleNs = random.pick([1n, 300_000n, 1_000_000n, 60_000_000_000n])
    const spread = random.integer(1, 60)
    const startNs = BigInt(random.integer(0, 2000)) * 1_000_000_000n
    let timeNs = startNs - (random.chance(0.3) ? 50n * scaleNs : 0n)
    if (timeNs < 0n) timeNs = 0n
    const times = random.list(rowCount, () => (timeNs += BigInt(random.integer(1, spread + 1)) * scaleNs))
    const type = random.pick(['f64', 'i64', 'bits'] as const)
    const values = random.list(rowCount, () =>
      type === 'bits' ? random.integer(0, 2) : type === 'i64' ? random.integer(-9, 9) : random.float64(0.05),
    )
    const present = random.bits(rowCount)
    const stepNs = random.pick([1n, 7n, 1000n, 60_000n]) * 1_000_000n
    const spanNs = (times.at(-1) ?? startNs) - startNs
    const steps: Steps = {
      startNs,
      stepNs,
      stepCount: Math.max(1, Math.min(600, Number(spanNs / stepNs) + random.integer(0, 5))),
      method: random.integer(0, 5),
      toleranceNs: random.pick([0n, stepNs, 2n * stepNs, 20n * stepNs, 2n ** 62n]),
    }
    const samples = times.flatMap((time, i) => (present[i] ? [{ timeNs: time, value: values[i]! }] : []))
    const wanted = Array.from({ length: steps.stepCount }, (_, i) =>
      valueAt(samples, startNs + BigInt(i) * stepNs, steps),
    )
    expect(run(type, times, values, present, steps), `round ${round}`).toEqual(wanted)
  }
})

test('times of steps count up from the first', () => {
  const targetPtr = columns.target(24)
  call.stepTimes(5n, 7n, 3, targetPtr)
  expect([...i64.subarray(targetPtr >> 3, (targetPtr >> 3) + 3)]).toEqual([5n, 12n, 19n])
  columns.expectGuardsIntact()
})
