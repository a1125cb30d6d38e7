// Parts of times.

/**
 * Splits times into whole seconds (rounded down) and the nanoseconds behind them, 0 to 999,999,999; writes one of them.
 *
 * times   count × i64 nanoseconds, read only
 * target  count × i64
 */
export function splitTimes(timesPtr: usize, count: i32, isSeconds: i32, targetPtr: usize): void {
  const unit: i64 = 1_000_000_000
  for (let at: usize = 0; at < (<usize>count) << 3; at += 8) {
    const time = load<i64>(timesPtr + at)
    let seconds = time / unit
    let rest = time - seconds * unit
    if (rest < 0) {
      rest += unit
      seconds--
    }
    store<i64>(targetPtr + at, isSeconds !== 0 ? seconds : rest)
  }
}
