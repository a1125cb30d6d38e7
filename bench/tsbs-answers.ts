// Answers of different systems in one form: a line of text for each row, so that they can be held against each other.
import type { FrameReader } from './queries.js'
import type { RowKey } from './tsbs-queries.js'
import { metricNames } from './tsbs.js'
import type { VictoriaQuery, VictoriaSeries } from './victoria-metrics.js'

/** Rows in the order of their text: host and time in ms (as far as the key has them), then values. */
export type Answer = readonly string[]

function line(key: RowKey, host: string, timeMs: number, values: readonly unknown[]): string {
  const names = key === 'time' ? [timeMs] : key === 'host' ? [host] : [host, timeMs]
  // A mean is a quotient of the same two whole numbers everywhere: all its digits must agree.
  return [...names, ...values.map(Number)].join(' ')
}

export function answerOfFrames(key: RowKey, reader: FrameReader, messages: readonly Uint8Array[]): Answer {
  const rows: string[] = []
  for (const message of messages) {
    const { rowCount, labels, arrays } = reader.decode(message)
    const host = labels.get('hostname') ?? ''
    const times = arrays.get('time')
    const values = [...arrays].filter(([name]) => name !== 'time').map(([, array]) => array)
    for (let row = 0; row < rowCount; row++) {
      const timeMs = Number(times?.[row] ?? 0) / 1e6
      rows.push(
        line(
          key,
          host,
          timeMs,
          values.map((array) => array[row]),
        ),
      )
    }
  }
  return rows.sort()
}

/** Rows of a SQL answer: the key's columns first. */
export function answerOfRows(key: RowKey, rows: readonly (readonly unknown[])[]): Answer {
  return rows
    .map((row) => {
      if (key === 'time') return line(key, '', Number(row[0]), row.slice(1))
      if (key === 'host') return line(key, String(row[0]), 0, row.slice(1))
      return line(key, String(row[0]), Number(row[1]), row.slice(2))
    })
    .sort()
}

/** Series of one metric each become rows; `stepMs` is how long before its time a value's bucket began. */
export function answerOfSeries(key: RowKey, { stepMs }: VictoriaQuery, series: readonly VictoriaSeries[]): Answer {
  const rows = new Map<string, { host: string; timeMs: number; values: Map<string, string> }>()
  for (const { metric, values } of series) {
    const host = metric['hostname'] ?? ''
    // The value of several metrics is called by the metric, that of a single one by nothing.
    const name = metric['__name__'] ?? ''
    for (const [seconds, text] of values) {
      const timeMs = stepMs === null ? 0 : Math.round(seconds * 1000) + 1 - stepMs
      const id = `${host} ${timeMs}`
      const row = rows.get(id) ?? { host, timeMs, values: new Map<string, string>() }
      row.values.set(name, text)
      rows.set(id, row)
    }
  }
  return [...rows.values()]
    .map(({ host, timeMs, values }) => {
      const ordered = metricNames.filter((name) => values.has(`cpu_${name}`)).map((name) => values.get(`cpu_${name}`))
      return line(key, host, timeMs, ordered.length > 0 ? ordered : [...values.values()])
    })
    .sort()
}

/** Throws, showing the first row in which they differ. */
export function mustAgree(question: string, wanted: Answer, found: Readonly<Record<string, Answer>>): void {
  for (const [name, answer] of Object.entries(found)) {
    const row = wanted.findIndex((text, i) => text !== answer[i])
    if (row < 0 && answer.length === wanted.length) continue
    const shown = `row ${row < 0 ? wanted.length : row}: ${wanted[row]} is ${answer[row < 0 ? wanted.length : row]}`
    throw new Error(`${question}: ${wanted.length} rows over gRPC, ${name} gives ${answer.length}; ${shown}`)
  }
}
