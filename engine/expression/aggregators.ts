// The functions of time series queries by name: aggregators, over time or (with `_all`) across series, and interpolators.
import { FramesError, shortened } from '../errors.js'

const aggregateFunctions = ['count', 'sum', 'sqr', 'min', 'max', 'last', 'avg', 'rate', 'stddev', 'stdvar'] as const

export type AggregateFunction = (typeof aggregateFunctions)[number]

/** acrossSeries: one value of all series at each step (`sum_all`), and not one of all samples in each bucket (`sum`). */
export interface Aggregator {
  readonly function: AggregateFunction
  readonly acrossSeries: boolean
}

/** Reads `sum` or `sum_all`; lower case only. Throws INVALID_ARGUMENT. */
export function parseAggregator(name: string): Aggregator {
  if (name === '*') throw new FramesError('INVALID_ARGUMENT', 'cannot aggregate *')
  const acrossSeries = name.endsWith('_all')
  const base = acrossSeries ? name.slice(0, -'_all'.length) : name
  const known = aggregateFunctions.find((candidate) => candidate === base)
  if (known === undefined) {
    const functions = `there are ${aggregateFunctions.join(', ')}, each also with _all behind it`
    throw new FramesError('INVALID_ARGUMENT', `invalid aggragate type: ${shortened(name)} (${functions})`)
  }
  return { function: known, acrossSeries }
}

/** How a series gets a value at a step point where it has no sample. */
export type Interpolator = 'next_val' | 'prev_val' | 'linear' | 'nan' | 'none'

const interpolators: ReadonlyMap<string, Interpolator> = new Map([
  ['next_val', 'next_val'],
  ['prev_val', 'prev_val'],
  ['linear', 'linear'],
  ['lin', 'linear'],
  ['nan', 'nan'],
  ['none', 'none'],
])

export function isInterpolator(name: string): boolean {
  return interpolators.has(name.toLowerCase())
}

/** In any letter case. Throws INVALID_ARGUMENT. */
export function parseInterpolator(name: string): Interpolator {
  const interpolator = interpolators.get(name.toLowerCase())
  if (interpolator === undefined) {
    throw new FramesError('INVALID_ARGUMENT', `unknown/unsupported interpulation function ${shortened(name)}`)
  }
  return interpolator
}
