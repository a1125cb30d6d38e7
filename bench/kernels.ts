// All benches of kernels, each beside a memcpy of its input, and the ones that have a target.
import { benchColumns } from './columns.bench.js'
import { benchOrder } from './order.bench.js'
import { benchPages } from './pages.bench.js'
import { atLeast, type Result } from './results.js'
import type { BenchRow } from './rows.js'
import { benchWire } from './wire.bench.js'

export interface KernelBenchOptions {
  /** How long the whole takes, about. */
  readonly seconds: number
  /** Small inputs, so that it takes no time: to see that all still works. */
  readonly isSmall: boolean
}

export async function benchKernels({ seconds, isSmall }: KernelBenchOptions): Promise<BenchRow[]> {
  const small = isSmall ? { rowCount: 4096 } : {}
  const share = seconds / 4
  return [
    ...(await benchWire({ seconds: share, ...small })),
    // Its seconds are those of one row; it has some 35.
    ...(await benchPages({ seconds: share / 35 })),
    ...(await benchColumns({ seconds: share, ...small })),
    ...(await benchOrder({ seconds: share, ...small, ...(isSmall ? { setCount: 500 } : {}) })),
  ]
}

interface KernelTarget {
  /** Start of the row's name. */
  readonly name: string
  readonly valuesPerSecond?: number
  /** Part of a memcpy of the same bytes. */
  readonly memcpyShare?: number
}

/** Per thread, of a core that has nothing else to do. */
const targets: readonly KernelTarget[] = [
  { name: 'buckets of 6 rows, float64, sum min max', valuesPerSecond: 200e6 },
  { name: 'buckets of 60 rows, float64, sum min max', valuesPerSecond: 200e6 },
  { name: 'buckets of 600 rows, float64, sum min max', valuesPerSecond: 200e6 },
  { name: 'buckets of 6 rows, int64, sum min max', valuesPerSecond: 200e6 },
  { name: 'buckets of 600 rows, int64, sum min max', valuesPerSecond: 200e6 },
  { name: 'wire: decode doubles', memcpyShare: 0.5 },
  { name: 'wire: decode times (9-byte varints)', valuesPerSecond: 100e6 },
  { name: 'encode int64 random walk', valuesPerSecond: 200e6 },
  { name: 'decode int64 random walk', valuesPerSecond: 800e6 },
  { name: 'encode time regular', valuesPerSecond: 200e6 },
  { name: 'encode float64 two decimals walk', valuesPerSecond: 200e6 },
  { name: 'decode float64 two decimals walk', valuesPerSecond: 800e6 },
]

/** The rows that have a target, as results. */
export function kernelResults(rows: readonly BenchRow[]): Result[] {
  return targets.map(({ name, valuesPerSecond, memcpyShare }) => {
    const row = rows.find((candidate) => candidate.name === name || candidate.name.startsWith(`${name}, `))
    if (row === undefined) throw new Error(`no bench of a kernel is named '${name}'`)
    const share = row.bytesPerSecond / row.memcpyBytesPerSecond
    const millions = row.valuesPerSecond / 1e6
    const target =
      valuesPerSecond !== undefined
        ? atLeast(row.valuesPerSecond, valuesPerSecond, `${valuesPerSecond / 1e6} M/s`)
        : atLeast(share, memcpyShare ?? 0, `${100 * (memcpyShare ?? 0)} % of memcpy`)
    return {
      group: 'kernel',
      name: row.name,
      value: millions,
      unit: 'M values/s',
      runs: [millions],
      target,
      beside: `${(row.bytesPerSecond / 1e9).toFixed(1)} GB/s, ${(100 * share).toFixed(0)} % of memcpy`,
      checksum: row.checksum,
    }
  })
}
