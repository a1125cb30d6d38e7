// The value of a series at step points, interpolated: what downsampling and functions across series work on.
//
// The state of one series is five words of 8 bytes, kept from batch to batch and from one run of steps to the next:
//
//   previous time | previous value | next time | next value | step
//
//   previous  the latest sample that is known to stand at or before the steps under way; time int64.MIN: none is known
//   next      the earliest sample behind the last step of the run; time int64.MIN: not known yet, int64.MAX: there is none
//   step      the first step that is not decided yet
//
// Times are int64 ns. Those of samples count as floored to milliseconds; step times are whole milliseconds. Of several
// samples in the millisecond of a step the latest is its value.
import { isSet, loadBits, setBit } from './bits'
import { lowerBoundInt64 } from './compare'
import { loadNumber } from './reduce'

/** A column of bits, whose values count as 1.0 and 0.0. */
type Bit = bool

/** How a step between two samples gets a value. Without a later sample it has none, whatever the method. */
const METHOD_PREVIOUS = 1
const METHOD_LINEAR = 2
const METHOD_NAN = 3
const METHOD_NONE = 4

const NS_PER_MS: i64 = 1_000_000
const UNKNOWN = i64.MIN_VALUE
const NOTHING = i64.MAX_VALUE

/** The bytes of a state. */
export function stepStateByteLength(): i32 {
  return 40
}

/** No sample is known. */
export function initStepState(statePtr: usize): void {
  memory.fill(statePtr, 0, 40)
  store<i64>(statePtr, UNKNOWN)
  store<i64>(statePtr + 16, UNKNOWN)
}

/** The first step at or after a time, between `from` and `to`. */
function stepAtOrAfter(timeNs: i64, startNs: i64, stepNs: i64, from: i32, to: i32): i32 {
  if (timeNs <= startNs) return from
  const step = (timeNs - startNs + stepNs - 1) / stepNs
  return step <= from ? from : step >= to ? to : <i32>step
}

/** a + b, or the greatest int64. b is not negative. */
function plus(a: i64, b: i64): i64 {
  return a > i64.MAX_VALUE - b ? i64.MAX_VALUE : a + b
}

/** a - b, or the least int64. b is not negative. */
function minus(a: i64, b: i64): i64 {
  return a < i64.MIN_VALUE + b ? i64.MIN_VALUE : a - b
}

/** Gives steps [from, to), all of them between the state's previous sample and this next one, their values. */
function interpolate(
  startNs: i64,
  stepNs: i64,
  from: i32,
  to: i32,
  method: i32,
  toleranceNs: i64,
  statePtr: usize,
  nextNs: i64,
  nextValue: f64,
  targetPtr: usize,
  presentPtr: usize,
): void {
  const previousNs = load<i64>(statePtr)
  const previousValue = load<f64>(statePtr, 8)
  let low = from
  let high = to
  if (method === METHOD_PREVIOUS || method === METHOD_LINEAR) {
    if (previousNs === UNKNOWN) return
    // The last usable step is the one before the first that is too far away.
    const reachNs = plus(previousNs, toleranceNs)
    if (reachNs < i64.MAX_VALUE) high = stepAtOrAfter(reachNs + 1, startNs, stepNs, low, high)
  }
  if (method !== METHOD_PREVIOUS && method !== METHOD_NAN && method !== METHOD_NONE) {
    low = stepAtOrAfter(minus(nextNs, toleranceNs), startNs, stepNs, low, high)
  }
  for (let step = low; step < high; step++) {
    let value = nextValue
    if (method === METHOD_PREVIOUS) value = previousValue
    else if (method === METHOD_NAN) value = NaN
    else if (method === METHOD_LINEAR) {
      const timeNs = startNs + <i64>step * stepNs
      const share = <f64>(timeNs - previousNs) / <f64>(nextNs - previousNs)
      value = previousValue + (nextValue - previousValue) * share
    }
    store<f64>(targetPtr + ((<usize>step) << 3), value)
    setBit(presentPtr, step)
  }
}

/**
 * Begins a run of steps: empties the target and decides the steps that lie before the known next sample, if it is known.
 * Returns 1 when all steps are decided, else 0: then rows must follow, from the state's next time on where it is known.
 *
 * target   stepCount × f64: NaN where there is no value
 * present  ceil(stepCount / 8) bytes
 */
export function beginSteps(
  startNs: i64,
  stepNs: i64,
  stepCount: i32,
  method: i32,
  toleranceNs: i64,
  statePtr: usize,
  targetPtr: usize,
  presentPtr: usize,
): i32 {
  for (let i = 0; i < stepCount; i++) store<f64>(targetPtr + ((<usize>i) << 3), NaN)
  memory.fill(presentPtr, 0, (stepCount + 7) >> 3)
  store<i64>(statePtr, 0, 32)
  const nextNs = load<i64>(statePtr, 16)
  if (nextNs === UNKNOWN) return 0
  if (nextNs === NOTHING) return 1
  const step = stepAtOrAfter(nextNs, startNs, stepNs, 0, stepCount)
  const nextValue = load<f64>(statePtr, 24)
  interpolate(startNs, stepNs, 0, step, method, toleranceNs, statePtr, nextNs, nextValue, targetPtr, presentPtr)
  store<i64>(statePtr, step, 32)
  if (step === stepCount) return 1
  // It stands among the steps, and comes again with the rows.
  store<i64>(statePtr, UNKNOWN, 16)
  return 0
}

/** The first present row of [row, rowEnd), or rowEnd. */
function firstPresent(validityPtr: usize, row: i32, rowEnd: i32): i32 {
  if (!validityPtr) return row
  while (row < rowEnd) {
    const bitCount = min(rowEnd - row, 64)
    const bits = loadBits(validityPtr, row, bitCount)
    if (bits !== 0) return row + <i32>ctz(bits)
    row += bitCount
  }
  return rowEnd
}

/** The last present row of [rowStart, row), or -1. */
function lastPresent(validityPtr: usize, rowStart: i32, row: i32): i32 {
  if (!validityPtr) return row > rowStart ? row - 1 : -1
  while (row > rowStart) {
    const bitCount = min(row - rowStart, 64)
    const bits = loadBits(validityPtr, row - bitCount, bitCount)
    if (bits !== 0) return row - 1 - (<i32>clz(bits) - (64 - bitCount))
    row -= bitCount
  }
  return -1
}

function numberAt<T>(valuesPtr: usize, row: i32): f64 {
  if (isBoolean<T>()) return isSet(valuesPtr, row) ? 1 : 0
  return loadNumber<T>(valuesPtr + ((<usize>row) << 3))
}

function floorMs(timeNs: i64): i64 {
  const rest = timeNs % NS_PER_MS
  return timeNs - (rest < 0 ? rest + NS_PER_MS : rest)
}

function addRows<T>(
  timesPtr: usize,
  valuesPtr: usize,
  validityPtr: usize,
  rowCount: i32,
  startNs: i64,
  stepNs: i64,
  stepCount: i32,
  method: i32,
  toleranceNs: i64,
  statePtr: usize,
  targetPtr: usize,
  presentPtr: usize,
): i32 {
  let step = <i32>load<i64>(statePtr, 32)
  // Rows before it are taken into account.
  let row = 0
  for (;;) {
    // The millisecond of the step before may go on here.
    const limitNs = step === 0 ? startNs : plus(startNs + <i64>(step - 1) * stepNs, NS_PER_MS)
    const behind = lowerBoundInt64(timesPtr, row, rowCount, limitNs)
    const atStep = lastPresent(validityPtr, row, behind)
    if (atStep >= 0) {
      const timeNs = floorMs(load<i64>(timesPtr + ((<usize>atStep) << 3)))
      const value = numberAt<T>(valuesPtr, atStep)
      store<i64>(statePtr, timeNs)
      store<f64>(statePtr, value, 8)
      if (step > 0 && timeNs === startNs + <i64>(step - 1) * stepNs) {
        store<f64>(targetPtr + ((<usize>(step - 1)) << 3), value)
        setBit(presentPtr, step - 1)
      }
    }
    row = behind
    if (row === rowCount) break
    if (step < stepCount) {
      // Up to the step: the previous sample.
      const stepTimeNs = startNs + <i64>step * stepNs
      const upToStep = lowerBoundInt64(timesPtr, row, rowCount, stepTimeNs)
      const before = lastPresent(validityPtr, row, upToStep)
      if (before >= 0) {
        store<i64>(statePtr, floorMs(load<i64>(timesPtr + ((<usize>before) << 3))))
        store<f64>(statePtr, numberAt<T>(valuesPtr, before), 8)
      }
      row = upToStep
    }
    const next = firstPresent(validityPtr, row, rowCount)
    if (next === rowCount) break
    const nextNs = floorMs(load<i64>(timesPtr + ((<usize>next) << 3)))
    const nextValue = numberAt<T>(valuesPtr, next)
    if (step === stepCount) {
      store<i64>(statePtr, nextNs, 16)
      store<f64>(statePtr, nextValue, 24)
      store<i64>(statePtr, step, 32)
      return 1
    }
    const reached = stepAtOrAfter(nextNs, startNs, stepNs, step, stepCount)
    interpolate(startNs, stepNs, step, reached, method, toleranceNs, statePtr, nextNs, nextValue, targetPtr, presentPtr)
    row = next
    // A sample at a step itself is that step's value, whatever the method: the next round takes it.
    step = reached
    if (step < stepCount && nextNs === startNs + <i64>step * stepNs) step++
  }
  store<i64>(statePtr, step, 32)
  return 0
}

/**
 * Takes rows of a series, times ascending, behind those taken before, and decides the steps that lie before the last of
 * them. Returns 1 when all steps are decided and the next sample is known: further rows are not needed.
 *
 * startNs, stepNs  of the run's first step
 * method           0 the next sample; 1 the previous one; 2 the line between both; 3 NaN; 4 the next one, however far
 * toleranceNs      how far away the samples may be; methods 3 and 4 do not look at it
 */
export function addStepsFloat64(
  timesPtr: usize,
  valuesPtr: usize,
  validityPtr: usize,
  rowCount: i32,
  startNs: i64,
  stepNs: i64,
  stepCount: i32,
  method: i32,
  toleranceNs: i64,
  statePtr: usize,
  targetPtr: usize,
  presentPtr: usize,
): i32 {
  return addRows<f64>(
    timesPtr,
    valuesPtr,
    validityPtr,
    rowCount,
    startNs,
    stepNs,
    stepCount,
    method,
    toleranceNs,
    statePtr,
    targetPtr,
    presentPtr,
  )
}

/** As addStepsFloat64 for a column of int64, whose values are rounded to float64. */
export function addStepsInt64(
  timesPtr: usize,
  valuesPtr: usize,
  validityPtr: usize,
  rowCount: i32,
  startNs: i64,
  stepNs: i64,
  stepCount: i32,
  method: i32,
  toleranceNs: i64,
  statePtr: usize,
  targetPtr: usize,
  presentPtr: usize,
): i32 {
  return addRows<i64>(
    timesPtr,
    valuesPtr,
    validityPtr,
    rowCount,
    startNs,
    stepNs,
    stepCount,
    method,
    toleranceNs,
    statePtr,
    targetPtr,
    presentPtr,
  )
}

/** As addStepsFloat64 for a bool column, whose values count as 1.0 and 0.0. */
export function addStepsBits(
  timesPtr: usize,
  bitsPtr: usize,
  validityPtr: usize,
  rowCount: i32,
  startNs: i64,
  stepNs: i64,
  stepCount: i32,
  method: i32,
  toleranceNs: i64,
  statePtr: usize,
  targetPtr: usize,
  presentPtr: usize,
): i32 {
  return addRows<Bit>(
    timesPtr,
    bitsPtr,
    validityPtr,
    rowCount,
    startNs,
    stepNs,
    stepCount,
    method,
    toleranceNs,
    statePtr,
    targetPtr,
    presentPtr,
  )
}

/** There are no more rows: what is not known yet does not exist. */
export function endSteps(statePtr: usize): void {
  if (load<i64>(statePtr, 16) === UNKNOWN) store<i64>(statePtr, NOTHING, 16)
}

/**
 * The first step behind a run that may have a value, counted from the run's start; the greatest int64: none has one.
 * All steps of the run are decided.
 */
export function nextStepWithValue(
  startNs: i64,
  stepNs: i64,
  stepCount: i32,
  method: i32,
  toleranceNs: i64,
  statePtr: usize,
): i64 {
  const nextNs = load<i64>(statePtr, 16)
  if (nextNs === NOTHING) return NOTHING
  const behind = <i64>stepCount
  if (method === METHOD_NAN || method === METHOD_NONE) return behind
  let fromNs = minus(nextNs, toleranceNs)
  if (method === METHOD_PREVIOUS) {
    const previousNs = load<i64>(statePtr)
    if (previousNs !== UNKNOWN && plus(previousNs, toleranceNs) >= plus(startNs, behind * stepNs)) return behind
    fromNs = nextNs
  }
  if (fromNs <= startNs) return behind
  return max<i64>(behind, (fromNs - startNs + stepNs - 1) / stepNs)
}

/** target[i] = startNs + i × stepNs for count int64. */
export function stepTimes(startNs: i64, stepNs: i64, count: i32, targetPtr: usize): void {
  for (let i = 0; i < count; i++) store<i64>(targetPtr + ((<usize>i) << 3), startNs + <i64>i * stepNs)
}
