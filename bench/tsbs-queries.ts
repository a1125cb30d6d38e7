// The ten queries of TSBS' cpu-only use case, each drawn several times from a seed (hosts and times, as its generator does
// it), in the words of each system. What framesd is asked follows the published queries: maxima of several hosts are
// pooled (GROUP BY time), means are by hour and host, readings come whole.
//
// Beginnings are whole minutes or hours, where TSBS draws any moment: framesd counts its buckets from there, the others by
// the clock.
import type { ReadRequest } from '../engine/index.js'
import { fractions, metricNames, startMs, type Workload, type WorkloadSize } from './tsbs.js'
import type { VictoriaQuery } from './victoria-metrics.js'

/** What identifies a row of an answer, before its values. */
export type RowKey = 'time' | 'host' | 'host and time'

/** One draw. The columns of SQL are those of the key, times in ms, and then the values. */
export interface TsbsDraw {
  readonly request: Omit<ReadRequest, 'backend' | 'table'>
  readonly duckDb: string
  readonly clickHouse: string
  /** null: it has no words for it. */
  readonly victoria: VictoriaQuery | null
}

export interface TsbsQuery {
  readonly name: string
  readonly key: RowKey
  readonly draws: readonly TsbsDraw[]
}

const minuteMs = 60_000
const hourMs = 60 * minuteMs
const clickHouseMs = 'toUInt64(toUInt32('
/** `SELECT *` answers in this order. */
const sortedMetricNames = [...metricNames].sort()

const rfc3339 = (timeMs: number) => new Date(timeMs).toISOString()
const sqlTime = (timeMs: number) => `'${rfc3339(timeMs).replace('T', ' ').slice(0, 19)}'`
const quoted = (texts: readonly string[]) => texts.map((text) => `'${text}'`).join(', ')
const callsOf = (name: string, metrics: readonly string[]) => metrics.map((metric) => `${name}(${metric})`).join(', ')

/** [startMs, endMs), and how each system says so. */
class Range {
  constructor(
    readonly startMs: number,
    readonly endMs: number,
  ) {}

  /** framesd's end is inclusive. */
  get fields(): { start: string; end: string } {
    return { start: rfc3339(this.startMs), end: rfc3339(this.endMs - 1) }
  }

  get sql(): string {
    return `time >= ${sqlTime(this.startMs)} AND time < ${sqlTime(this.endMs)}`
  }

  /** VictoriaMetrics' steps end at their time, which they include. */
  victoria(query: string, stepMs: number): VictoriaQuery {
    return { query, startMs: this.startMs + stepMs - 1, endMs: this.endMs - 1, stepMs }
  }
}

class Draws {
  readonly #size: WorkloadSize
  readonly #next: () => number

  constructor(size: WorkloadSize, seed: number) {
    this.#size = size
    this.#next = fractions(seed)
  }

  get #endMs(): number {
    return startMs + this.#size.hours * hourMs
  }

  /** That many different hosts, or all there are. */
  hosts(count: number): string[] {
    const numbers = new Set<number>()
    while (numbers.size < Math.min(count, this.#size.hostCount))
      numbers.add(Math.floor(this.#next() * this.#size.hostCount))
    return [...numbers].map((number) => `host_${number}`)
  }

  /** A stretch of the workload that begins at a multiple of `stepMs`; all of it where it is shorter. */
  range(lengthMs: number, stepMs: number): Range {
    const spareStepCount = Math.max(0, Math.floor((this.#endMs - startMs - lengthMs) / stepMs))
    const start = startMs + Math.floor(this.#next() * (spareStepCount + 1)) * stepMs
    return new Range(start, Math.min(start + lengthMs, this.#endMs))
  }

  all(): Range {
    return new Range(startMs, this.#endMs)
  }
}

/** The maxima of `metricCount` metrics over some hosts together, by step. */
function maxima(
  draws: Draws,
  shape: { metricCount: number; hostCount: number; hours: number; stepMs: number },
): TsbsDraw {
  const { metricCount, hostCount, hours, stepMs } = shape
  const metrics = metricNames.slice(0, metricCount)
  const hosts = draws.hosts(hostCount)
  const range = draws.range(hours * hourMs, stepMs)
  const [step, unit, floor] = stepMs === minuteMs ? ['1m', 'minute', 'Minute'] : ['1h', 'hour', 'Hour']
  const inHosts = `tags_id IN (SELECT id FROM tags WHERE hostname IN (${quoted(hosts)}))`
  const where = `FROM cpu WHERE ${inHosts} AND ${range.sql}`
  const series = `{__name__=~"cpu_(${metrics.join('|')})",hostname=~"${hosts.join('|')}"}`
  return {
    request: {
      ...range.fields,
      columns: metrics,
      aggregators: 'max',
      step,
      groupBy: 'time',
      filter: hosts.length === 1 ? `hostname == '${hosts[0]}'` : `hostname IN (${quoted(hosts)})`,
    },
    duckDb: `SELECT epoch_ms(date_trunc('${unit}', time)) AS t, ${callsOf('max', metrics)} ${where} GROUP BY t ORDER BY t`,
    clickHouse: `SELECT ${clickHouseMs}toStartOf${floor}(time))) * 1000 AS t, ${callsOf('max', metrics)} ${where}
      GROUP BY t ORDER BY t`,
    victoria: range.victoria(`max(max_over_time(${series}[${step}])) by (__name__)`, stepMs),
  }
}

/** Means by host and hour. */
function means(draws: Draws, metricCount: number): TsbsDraw {
  const metrics = metricNames.slice(0, metricCount)
  const range = draws.range(12 * hourMs, hourMs)
  const inner = (t: string) =>
    `SELECT tags_id, ${t} AS t, ${metrics.map((name, i) => `avg(${name}) AS m${i}`).join(', ')}
      FROM cpu WHERE ${range.sql} GROUP BY tags_id, t`
  const values = metrics.map((_, i) => `m${i}`).join(', ')
  return {
    request: { ...range.fields, columns: metrics, aggregators: 'avg', step: '1h', groupBy: 'hostname' },
    duckDb: `SELECT hostname, epoch_ms(t), ${values} FROM (${inner("date_trunc('hour', time)")}) AS a
      JOIN tags ON tags.id = a.tags_id ORDER BY t, hostname`,
    clickHouse: `SELECT hostname, ${clickHouseMs}t)) * 1000, ${values} FROM (${inner('toStartOfHour(time)')})
      ANY INNER JOIN (SELECT id AS tags_id, hostname FROM tags) USING tags_id ORDER BY t, hostname`,
    victoria: range.victoria(
      `avg(avg_over_time({__name__=~"cpu_(${metrics.join('|')})"}[1h])) by (__name__, hostname)`,
      hourMs,
    ),
  }
}

/** All readings of busy processors; `hostCount` 0: of all hosts. */
function busy(draws: Draws, hostCount: number): TsbsDraw {
  const range = draws.range(12 * hourMs, minuteMs)
  const hosts = draws.hosts(hostCount)
  const ofHost = hosts.length === 0 ? '' : ` AND hostname = '${hosts[0]}'`
  const ofTags = hosts.length === 0 ? '' : ` AND tags_id IN (SELECT id FROM tags WHERE hostname = '${hosts[0]}')`
  const where = `usage_user > 90 AND ${range.sql}${ofTags}`
  const values = sortedMetricNames.join(', ')
  return {
    request: { ...range.fields, query: `SELECT * FROM cpu WHERE usage_user > 90${ofHost}` },
    duckDb: `SELECT hostname, epoch_ms(time), ${values} FROM cpu JOIN tags ON tags.id = cpu.tags_id WHERE ${where}`,
    clickHouse: `SELECT hostname, ${clickHouseMs}time)) * 1000, ${values}
      FROM (SELECT tags_id, time, ${values} FROM cpu PREWHERE ${where})
      ANY INNER JOIN (SELECT id AS tags_id, hostname FROM tags) USING tags_id`,
    victoria: null,
  }
}

/** The last value of each metric of each host. */
function lastPoint(draws: Draws): TsbsDraw {
  const range = draws.all()
  const named = metricNames.map((metric, i) => `argMax(${metric}, time) AS m${i}`).join(', ')
  return {
    request: { ...range.fields, columns: metricNames, aggregators: 'last', groupBy: 'hostname' },
    duckDb: `SELECT hostname, ${metricNames.join(', ')} FROM tags,
      LATERAL (SELECT ${metricNames.join(', ')} FROM cpu
        WHERE tags_id = tags.id ORDER BY time DESC LIMIT 1)`,
    clickHouse: `SELECT hostname, ${metricNames.map((_, i) => `m${i}`).join(', ')}
      FROM (SELECT tags_id, ${named} FROM cpu GROUP BY tags_id)
      ANY INNER JOIN (SELECT id AS tags_id, hostname FROM tags) USING tags_id`,
    victoria: {
      query: `last_over_time({__name__=~"cpu_.*"}[${(range.endMs - range.startMs) / 1000}s])`,
      startMs: range.startMs,
      endMs: range.endMs - 1,
      stepMs: null,
    },
  }
}

/** The last five maxima by minute over all hosts, before a drawn moment. */
function lastMaxima(draws: Draws): TsbsDraw {
  const { endMs } = draws.range(hourMs, minuteMs)
  const before = `FROM cpu WHERE time < ${sqlTime(endMs)} GROUP BY t ORDER BY t DESC LIMIT 5`
  return {
    request: {
      start: '0',
      end: rfc3339(endMs - 1),
      step: '1m',
      query: 'SELECT max(usage_user) FROM cpu GROUP BY time ORDER BY time DESC LIMIT 5',
    },
    duckDb: `SELECT epoch_ms(date_trunc('minute', time)) AS t, max(usage_user) ${before}`,
    clickHouse: `SELECT ${clickHouseMs}toStartOfMinute(time))) * 1000 AS t, max(usage_user) ${before}`,
    victoria: null,
  }
}

/** The table must be named `cpu`. */
export function tsbsQueries(workload: Workload, drawCount: number): TsbsQuery[] {
  const draws = new Draws(workload, 2016)
  const drawn = (name: string, key: RowKey, draw: () => TsbsDraw): TsbsQuery => ({
    name,
    key,
    draws: Array.from({ length: drawCount }, draw),
  })
  const byMinute = { hours: 1, stepMs: minuteMs }
  return [
    drawn('single-groupby-1-1-1', 'time', () => maxima(draws, { ...byMinute, metricCount: 1, hostCount: 1 })),
    drawn('single-groupby-1-8-1', 'time', () => maxima(draws, { ...byMinute, metricCount: 1, hostCount: 8 })),
    drawn('single-groupby-5-8-1', 'time', () => maxima(draws, { ...byMinute, metricCount: 5, hostCount: 8 })),
    drawn('cpu-max-all-8', 'time', () =>
      maxima(draws, { hours: 8, stepMs: hourMs, metricCount: metricNames.length, hostCount: 8 }),
    ),
    drawn('double-groupby-1', 'host and time', () => means(draws, 1)),
    drawn('double-groupby-all', 'host and time', () => means(draws, metricNames.length)),
    drawn('high-cpu-1', 'host and time', () => busy(draws, 1)),
    drawn('high-cpu-all', 'host and time', () => busy(draws, 0)),
    drawn('lastpoint', 'host', () => lastPoint(draws)),
    drawn('groupby-orderby-limit', 'time', () => lastMaxima(draws)),
  ]
}
