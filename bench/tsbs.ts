// The "cpu-only" workload of the Time Series Benchmark Suite (TSBS: the published generator of the "devops" use case),
// drawn anew from a seed: ten metrics of every host each ten seconds, ten tags a host. Columnar from the start.
import { createHash } from 'node:crypto'

export const metricNames = [
  'usage_user',
  'usage_system',
  'usage_idle',
  'usage_nice',
  'usage_iowait',
  'usage_irq',
  'usage_softirq',
  'usage_steal',
  'usage_guest',
  'usage_guest_nice',
] as const

export const tagNames = [
  'hostname',
  'region',
  'datacenter',
  'rack',
  'os',
  'arch',
  'team',
  'service',
  'service_version',
  'service_environment',
] as const
export type TagName = (typeof tagNames)[number]

const intervalSeconds = 10
/** 2016-01-01T00:00:00Z, where TSBS begins by default. */
export const startMs = 1_451_606_400_000

export interface WorkloadSize {
  readonly hostCount: number
  readonly hours: number
}

/** What metrics are: TSBS' whole numbers as int64, or the same walks cut to hundredths as float64. */
export type WorkloadValues = 'whole numbers' | 'two decimals'

export interface Host {
  readonly tags: Readonly<Record<TagName, string>>
  /** A column for each of metricNames, 0..100. */
  readonly metrics: readonly (BigInt64Array | Float64Array)[]
}

/** All hosts report at the same times. */
export interface Workload extends WorkloadSize {
  readonly values: WorkloadValues
  /** ns since 1970, ten seconds apart, the same for every host. */
  readonly timesNs: BigInt64Array
  readonly hosts: readonly Host[]
  readonly rowCount: number
  /** Rows times metrics. */
  readonly sampleCount: number
  /** Of all values, by metric: what a read must find after a load (exact for whole numbers). */
  readonly sums: readonly number[]
  /** Equal on every machine. */
  readonly checksum: string
}

const datacenters: readonly (readonly [region: string, datacenterCount: number])[] = [
  ['us-east-1', 5],
  ['us-west-1', 2],
  ['us-west-2', 3],
  ['eu-west-1', 3],
  ['eu-central-1', 2],
  ['ap-southeast-1', 2],
  ['ap-southeast-2', 2],
  ['ap-northeast-1', 2],
  ['sa-east-1', 3],
]
const systems = ['Ubuntu16.10', 'Ubuntu16.04LTS', 'Ubuntu15.10']
const teams = ['SF', 'NYC', 'LON', 'CHI']
const environments = ['production', 'staging', 'test']

/** Fractions in [0, 1) (mulberry32, Tommy Ettinger 2017), the same on every machine. */
export function fractions(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

/** Standard normal numbers (George Marsaglia's polar method, 1964). */
function normals(next: () => number): () => number {
  let spare: number | null = null
  return () => {
    if (spare !== null) {
      const value = spare
      spare = null
      return value
    }
    for (;;) {
      const x = 2 * next() - 1
      const y = 2 * next() - 1
      const square = x * x + y * y
      if (square >= 1 || square === 0) continue
      const factor = Math.sqrt((-2 * Math.log(square)) / square)
      spare = y * factor
      return x * factor
    }
  }
}

/** Draws the whole workload: a walk with steps of N(0, 1) for every series, held inside 0..100 and cut. */
export function drawWorkload(
  { hostCount, hours }: WorkloadSize,
  seed = 1,
  values: WorkloadValues = 'whole numbers',
): Workload {
  const next = fractions(seed)
  const normal = normals(next)
  const below = (end: number) => Math.floor(next() * end)
  const pick = (texts: readonly string[]) => texts[below(texts.length)]
  const rowsOfHost = Math.round((hours * 3600) / intervalSeconds)
  const timesNs = BigInt64Array.from(
    { length: rowsOfHost },
    (_, row) => BigInt((startMs + row * intervalSeconds * 1000) * 1000) * 1000n,
  )
  const sums = metricNames.map(() => 0)
  const hash = createHash('sha256')
  const hosts = Array.from({ length: hostCount }, (_, number): Host => {
    const [region, datacenterCount] = datacenters[below(datacenters.length)]
    const tags = {
      hostname: `host_${number}`,
      region,
      datacenter: region + 'abcde'[below(datacenterCount)],
      rack: String(below(100)),
      os: pick(systems),
      arch: pick(['x64', 'x86']),
      team: pick(teams),
      service: String(below(20)),
      service_version: String(below(2)),
      service_environment: pick(environments),
    }
    hash.update(JSON.stringify(tags))
    const metrics = metricNames.map((_, metric) => {
      const walk = new Float64Array(rowsOfHost)
      const unit = values === 'whole numbers' ? 1 : 100
      let sum = 0
      for (let row = 0, value = next() * 100; row < rowsOfHost; row++) {
        value = Math.min(100, Math.max(0, value + normal()))
        walk[row] = Math.trunc(value * unit) / unit
        sum += walk[row]
      }
      sums[metric] += sum
      const column = values === 'whole numbers' ? BigInt64Array.from(walk, BigInt) : walk
      hash.update(column)
      return column
    })
    return { tags, metrics }
  })
  const rowCount = hostCount * rowsOfHost
  return {
    hostCount,
    hours,
    values,
    timesNs,
    hosts,
    rowCount,
    sampleCount: rowCount * metricNames.length,
    sums,
    checksum: hash.digest('hex').slice(0, 12),
  }
}
