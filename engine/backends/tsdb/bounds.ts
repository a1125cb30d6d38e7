// Bounds of reads: milliseconds as nanoseconds.
export const nsPerMs = 1_000_000n
const int64Max = 2n ** 63n - 1n

/** A bound in ns; times beyond int64 (the years before 1677 and after 2262) are its ends. */
export function toNs(timeMs: number): bigint {
  return toInt64(BigInt(timeMs) * nsPerMs)
}

export function toInt64(value: bigint): bigint {
  return value > int64Max ? int64Max : value < -int64Max ? -int64Max : value
}
