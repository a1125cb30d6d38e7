// What the demo's reads must answer, worked out from the files in the plainest way, and how well the answers agree.
import type { Frame } from '../../client/index.js'
import { msPerDay } from './data-files.js'

/** A mean is summed in another order by the engine. */
const relativeErrorMax = 1e-12

export interface Summary {
  readonly count: number
  readonly min: number
  readonly mean: number
  readonly max: number
}

export function timesMs(frame: Frame): number[] {
  return Array.from(frame.indices[0].times(), (timeNs) => Number(timeNs / 1_000_000n))
}

/** Which day a time lies in, as its first ms. */
export function dayOf(timeMs: number): number {
  return Math.floor(timeMs / msPerDay) * msPerDay
}

/** Which month a time lies in, as its first ms. */
export function monthOf(timeMs: number): number {
  const date = new Date(timeMs)
  return Date.UTC(date.getUTCFullYear(), date.getUTCMonth())
}

export function nextMonth(monthMs: number): number {
  const date = new Date(monthMs)
  return Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1)
}

/** Summaries of a column's values by the key of their row. */
export function summarize<Key>(values: ArrayLike<number>, keyOf: (row: number) => Key): Map<Key, Summary> {
  const groups = new Map<Key, number[]>()
  for (let row = 0; row < values.length; row++) {
    const key = keyOf(row)
    const group = groups.get(key)
    if (group === undefined) groups.set(key, [values[row]])
    else group.push(values[row])
  }
  return new Map(
    Array.from(groups, ([key, group]) => {
      const mean = group.reduce((sum, value) => sum + value, 0) / group.length
      return [key, { count: group.length, min: Math.min(...group), mean, max: Math.max(...group) }]
    }),
  )
}

export function isNear(actual: number, expected: number): boolean {
  return Math.abs(actual - expected) <= relativeErrorMax * Math.max(Math.abs(actual), Math.abs(expected))
}

/** Whether the frames hold exactly the rows of the file: every time, label and value, to the last digit. */
export function hasSameRows(expected: Frame, actual: readonly Frame[]): boolean {
  const labels = [...expected.labels.keys(), ...expected.indices.slice(1).map((index) => index.name)]
  const textsOf = (frame: Frame): string[] => {
    const columns = expected.names.map((name) => frame.column(name).values())
    const times = frame.indices[0].times()
    const labelOf = (name: string, row: number) => {
      const column = frame.indices.slice(1).find((index) => index.name === name)
      return column === undefined ? frame.labels.get(name) : column.at(row)
    }
    return Array.from(times, (timeNs, row) =>
      [timeNs, ...labels.map((name) => labelOf(name, row)), ...columns.map((values) => values[row])].join('|'),
    )
  }
  const expectedTexts = textsOf(expected).sort()
  const actualTexts = actual.flatMap(textsOf).sort()
  return expectedTexts.length === actualTexts.length && expectedTexts.every((text, i) => text === actualTexts[i])
}
