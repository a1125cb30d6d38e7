// The texts of single values. One place, because labels, CSV cells, item names and templates must agree on them.
import { formatTimeNs } from '../time.js'
import type { Value } from './dtype.js'

/** Shortest text that reads back as the same float; exponent form (two digits at least) below 1e-4 and from 1e21. */
export function floatText(value: number): string {
  if (!Number.isFinite(value) || value === 0) return specialFloatText(value)
  const magnitude = Math.abs(value)
  if (magnitude >= 1e-4 && magnitude < 1e21) return String(value)
  return value.toExponential().replace(/([+-])([0-9])$/, '$10$2')
}

/** The same digits in plain decimal, never an exponent: 1e21 is `1000000000000000000000`. */
export function plainFloatText(value: number): string {
  if (!Number.isFinite(value) || value === 0) return specialFloatText(value)
  const [mantissa, exponentText] = value.toExponential().split('e')
  const exponent = Number(exponentText)
  const sign = value < 0 ? '-' : ''
  const digits = mantissa.replace('-', '').replace('.', '')
  if (exponent < 0) return `${sign}0.${'0'.repeat(-exponent - 1)}${digits}`
  if (digits.length <= exponent + 1) return sign + digits.padEnd(exponent + 1, '0')
  return `${sign}${digits.slice(0, exponent + 1)}.${digits.slice(exponent + 1)}`
}

function specialFloatText(value: number): string {
  if (Number.isNaN(value)) return 'NaN'
  if (value === 0) return Object.is(value, -0) ? '-0' : '0'
  return value > 0 ? '+Inf' : '-Inf'
}

/**
 * A value as text: int64 in decimal, bool as `true` or `false`, time as RFC 3339, string as it is.
 *
 * exponent  'allowed': floats as floatText prints them (a frame's labels, CSV); 'never': as plainFloatText does (cells
 *           of index columns, `stringAt`).
 */
export function valueText(value: Value, exponent: 'allowed' | 'never'): string {
  if (typeof value === 'string') return value
  if (typeof value === 'number') return exponent === 'allowed' ? floatText(value) : plainFloatText(value)
  if (typeof value === 'object') return formatTimeNs(value.timeNs)
  return String(value)
}
