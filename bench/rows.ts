// What a bench reports.

/** One measurement, beside the machine's limit. The checksum keeps the work from being optimised away and shows drift. */
export interface BenchRow {
  name: string
  valuesPerSecond: number
  bytesPerSecond: number
  memcpyBytesPerSecond: number
  checksum: string
}
