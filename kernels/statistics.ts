// Statistics of one page, for pre-aggregates and for skipping pages.

/**
 * Writes 48 bytes: min i64, max i64, first i64, last i64, sum f64, sum of squared deviations from the mean f64.
 *
 * values  count × i64, 8-byte aligned, count >= 1
 * out     48 bytes, 8-byte aligned
 */
export function statisticsInt64(valuesPtr: usize, count: i32, outPtr: usize): void {
  const end = valuesPtr + ((<usize>count) << 3)
  let least = load<i64>(valuesPtr)
  let greatest = least
  for (let ptr = valuesPtr; ptr < end; ptr += 8) {
    const value = load<i64>(ptr)
    least = min(least, value)
    greatest = max(greatest, value)
  }
  store<i64>(outPtr, least)
  store<i64>(outPtr, greatest, 8)
  store<i64>(outPtr, load<i64>(valuesPtr), 16)
  store<i64>(outPtr, load<i64>(end - 8), 24)
  let sum: f64 = 0
  for (let ptr = valuesPtr; ptr < end; ptr += 8) sum += <f64>load<i64>(ptr)
  const mean = sum / <f64>count
  let m2: f64 = 0
  for (let ptr = valuesPtr; ptr < end; ptr += 8) {
    const deviation = <f64>load<i64>(ptr) - mean
    m2 += deviation * deviation
  }
  store<f64>(outPtr, sum, 32)
  store<f64>(outPtr, m2, 40)
}

/**
 * Writes 48 bytes: min, max, first, last, sum, sum of squared deviations from the mean, all f64; returns the number of
 * NaN. With any NaN, min, max, sum and deviations are NaN.
 *
 * values  count × f64, 8-byte aligned, count >= 1
 * out     48 bytes, 8-byte aligned
 */
export function statisticsFloat64(valuesPtr: usize, count: i32, outPtr: usize): i32 {
  const end = valuesPtr + ((<usize>count) << 3)
  let least = load<f64>(valuesPtr)
  let greatest = least
  let sum: f64 = 0
  let nanCount = 0
  for (let ptr = valuesPtr; ptr < end; ptr += 8) {
    const value = load<f64>(ptr)
    least = min(least, value)
    greatest = max(greatest, value)
    sum += value
    nanCount += i32(f64.ne(value, value))
  }
  const mean = sum / <f64>count
  let m2: f64 = 0
  for (let ptr = valuesPtr; ptr < end; ptr += 8) {
    const deviation = load<f64>(ptr) - mean
    m2 += deviation * deviation
  }
  store<f64>(outPtr, nanCount > 0 ? NaN : least)
  store<f64>(outPtr, nanCount > 0 ? NaN : greatest, 8)
  store<f64>(outPtr, load<f64>(valuesPtr), 16)
  store<f64>(outPtr, load<f64>(end - 8), 24)
  store<f64>(outPtr, nanCount > 0 ? NaN : sum, 32)
  store<f64>(outPtr, nanCount > 0 ? NaN : m2, 40)
  return nanCount
}
