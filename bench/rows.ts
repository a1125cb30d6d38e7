// What every bench reports.

/** One measurement, beside what the machine can do at most: copying as many bytes. */
export interface BenchRow {
  readonly name: string
  readonly valuesPerSecond: number
  /** Bytes of input that were worked through. */
  readonly bytesPerSecond: number
  readonly memcpyBytesPerSecond: number
  /** Of the answer: equal on every machine, and a kernel that computes nothing is found out. */
  readonly checksum: string
}
