// Reads over the loaded workload: the same question to framesd and to DuckDB, and the answers side by side.
import { createHash } from 'node:crypto'
import { decodeColumn, decodeNulls, scanFrame } from '../engine/codec/wire.js'
import type { ReadRequest } from '../engine/index.js'
import { createMemory, kernelHeapBase, type Kernels, loadKernels } from '../engine/kernels/kernels.js'
import { MiB } from '../engine/limits.js'
import { Scratch } from '../engine/memory/scratch.js'
import { metricNames, startMs, type Workload } from './tsbs.js'

export interface Query {
  readonly name: string
  readonly request: Omit<ReadRequest, 'backend' | 'table'>
  /** Columns: hostname, time in ms, values. */
  readonly sql: string
}

const rfc3339 = (timeMs: number) => new Date(timeMs).toISOString()
const sqlTime = (timeMs: number) => `TIMESTAMP '${rfc3339(timeMs).replace('T', ' ').replace('Z', '')}'`
const bucket = (step: string) => `epoch_ms(time_bucket(INTERVAL '${step}', time))`
const byHost = 'GROUP BY ALL ORDER BY ALL'
const joined = 'FROM cpu JOIN tags ON tags.id = cpu.tags_id'

/** All rows of the workload: times are inclusive in framesd. */
function wholeRange({ hours }: Workload): { start: string; end: string } {
  return { start: rfc3339(startMs), end: rfc3339(startMs + hours * 3_600_000 - 1) }
}

export function queriesOf(workload: Workload): Query[] {
  const { hours, hostCount } = workload
  const host = `host_${Math.floor(hostCount / 2)}`
  const hourStart = startMs + Math.floor(hours / 2) * 3_600_000
  const hourEnd = hourStart + 3_600_000
  const hour = { start: rfc3339(hourStart), end: rfc3339(hourEnd - 1) }
  const inHour = `time >= ${sqlTime(hourStart)} AND time < ${sqlTime(hourEnd)}`
  const filter = `hostname == '${host}'`
  const functionsOf = (name: string) => metricNames.map((metric) => `${name}(${metric})`).join(', ')
  return [
    {
      name: 'max of 1 metric, 1 host, 1 hour, by minute',
      request: { ...hour, columns: ['usage_user'], aggregators: 'max', step: '1m', filter },
      sql: `SELECT hostname, ${bucket('1 minute')}, max(usage_user) ${joined} WHERE hostname = '${host}' AND ${inHour} ${byHost}`,
    },
    {
      name: 'max of 10 metrics, 1 host, 1 hour, by minute',
      request: { ...hour, columns: metricNames, aggregators: 'max', step: '1m', filter },
      sql: `SELECT hostname, ${bucket('1 minute')}, ${functionsOf('max')} ${joined} WHERE hostname = '${host}' AND ${inHour} ${byHost}`,
    },
    {
      name: 'avg of 1 metric by host and hour, all data',
      request: { ...wholeRange(workload), columns: ['usage_user'], aggregators: 'avg', step: '1h' },
      sql: `SELECT hostname, ${bucket('1 hour')}, avg(usage_user) ${joined} ${byHost}`,
    },
    {
      name: 'avg of 10 metrics by host and hour, all data',
      request: { ...wholeRange(workload), columns: metricNames, aggregators: 'avg', step: '1h' },
      sql: `SELECT hostname, ${bucket('1 hour')}, ${functionsOf('avg')} ${joined} ${byHost}`,
    },
    {
      name: 'all rows of 1 metric, 1 host, 1 hour',
      request: { ...hour, columns: ['usage_user'], filter },
      sql: `SELECT hostname, epoch_ms(time), usage_user ${joined} WHERE hostname = '${host}' AND ${inHour} ORDER BY ALL`,
    },
  ]
}

/** Count and sum of every metric of every host: held against the generator after a load. */
export function totalsRequest(workload: Workload): Query['request'] {
  return { ...wholeRange(workload), columns: metricNames, aggregators: 'count,sum' }
}

/** Decodes frames in a memory of its own, as a client does. */
export class FrameReader {
  readonly #kernels: Kernels
  readonly #scratch: Scratch
  readonly #start: number

  constructor(byteLength = 64 * MiB) {
    const heapBase = kernelHeapBase()
    this.#kernels = loadKernels(createMemory(heapBase + byteLength))
    this.#scratch = new Scratch({ byteOffset: heapBase, byteLength })
    this.#start = this.#scratch.mark()
  }

  /** Decodes all columns of a message; the arrays are valid until the next call. */
  decode(message: Uint8Array): DecodedFrame {
    const scratch = this.#scratch
    const kernels = this.#kernels
    scratch.release(this.#start)
    const byteOffset = scratch.allocate(message.byteLength)
    kernels.u8.set(message, byteOffset)
    const frame = scanFrame(kernels, { byteOffset, byteLength: message.byteLength }, scratch)
    const validity = decodeNulls(kernels, frame, scratch)
    const arrays = new Map<string, BigInt64Array | Float64Array>()
    const columns = [...frame.indices, ...frame.columns]
    columns.forEach((column, i) => {
      const isData = i >= frame.indices.length
      const { dtype, kind, rowCount, valuesPtr } = decodeColumn(
        kernels,
        column,
        isData ? validity[i - frame.indices.length] : 0,
        scratch,
      )
      if (kind === 'label' || dtype === 'string' || dtype === 'bool' || dtype === 'null') return
      const values = dtype === 'float64' ? kernels.f64 : kernels.i64
      arrays.set(column.name, values.subarray(valuesPtr / 8, valuesPtr / 8 + rowCount))
    })
    const labels = new Map(frame.labels.map(({ name, value }) => [name, String(value)]))
    return { rowCount: frame.rowCount, labels, arrays }
  }
}

export interface DecodedFrame {
  readonly rowCount: number
  readonly labels: ReadonlyMap<string, string>
  /** Times and numbers by name; the index is `time`. */
  readonly arrays: ReadonlyMap<string, BigInt64Array | Float64Array>
}

/** What two answers must have in common: how many rows, and each row's text in order. */
export interface Answer {
  readonly rowCount: number
  readonly checksum: string
}

/** Six significant digits less than a double has: sums may be taken in another order. */
const shown = (value: number) => value.toPrecision(9)

function answerOf(rows: string[]): Answer {
  const checksum = createHash('sha256').update(rows.sort().join('\n')).digest('hex').slice(0, 12)
  return { rowCount: rows.length, checksum }
}

export function answerOfFrames(reader: FrameReader, messages: readonly Uint8Array[]): Answer {
  const rows: string[] = []
  for (const message of messages) {
    const { rowCount, labels, arrays } = reader.decode(message)
    const host = labels.get('hostname') ?? ''
    const times = arrays.get('time')
    const values = [...arrays].filter(([name]) => name !== 'time').map(([, array]) => array)
    for (let row = 0; row < rowCount; row++) {
      const timeMs = Number(times?.[row] ?? 0) / 1e6
      rows.push([host, timeMs, ...values.map((array) => shown(Number(array[row])))].join(' '))
    }
  }
  return answerOf(rows)
}

export function answerOfColumns([hosts, times, ...values]: readonly (readonly unknown[])[]): Answer {
  const rows = hosts.map((host, row) =>
    [host, Number(times[row]), ...values.map((column) => shown(Number(column[row])))].join(' '),
  )
  return answerOf(rows)
}

/** Throws when what a read counts and sums up is not what was drawn. */
export function checkTotals(reader: FrameReader, messages: readonly Uint8Array[], workload: Workload): void {
  const found = metricNames.map(() => ({ count: 0, sum: 0 }))
  for (const message of messages) {
    const { rowCount, arrays } = reader.decode(message)
    metricNames.forEach((name, metric) => {
      const counts = arrays.get(`count(${name})`)
      const sums = arrays.get(`sum(${name})`)
      for (let row = 0; row < rowCount; row++) {
        found[metric].count += Number(counts?.[row])
        found[metric].sum += Number(sums?.[row])
      }
    })
  }
  metricNames.forEach((name, metric) => {
    const { count, sum } = found[metric]
    if (count === workload.rowCount && sum === workload.sums[metric]) return
    const wanted = `${workload.rowCount} values with sum ${workload.sums[metric]}`
    throw new Error(`${name}: ${count} values with sum ${sum} were read instead of ${wanted}`)
  })
}
