// The cursor of a read that a row limit ended: opaque to the caller, and independent of blocks and of the clock.
import { createHash } from 'node:crypto'
import { FramesError } from '../../errors.js'
import type { Carry } from './scan-input.js'
import type { Selection } from './select.js'

/** Where a read goes on, with its bounds as they were resolved. */
export interface Marker {
  readonly startMs: number
  readonly endMs: number
  readonly stepMs: number
  readonly fromNs: bigint
  readonly carry: readonly Carry[]
  /** Place of its label set, or of that set's group, in a selection. Throws when the set is not there. */
  readonly index: (selection: Selection) => number
}

interface MarkerFields {
  readonly set: number
  readonly startMs: number
  readonly endMs: number
  readonly stepMs: number
  readonly fromNs: bigint
  readonly carry: readonly Carry[]
}

const markerVersion = 3
const valueTexts: ReadonlySet<string> = new Set(['NaN', 'Infinity', '-Infinity', '-0'])

/** Set numbers never change in the life of a table, and the fingerprint holds the request to it. */
export function encodeMarker(marker: MarkerFields, markerOf: string): string {
  const { set, startMs, endMs, stepMs, fromNs, carry } = marker
  const told = carry.map(([metric, value, timeMs]) => [metric, toldValue(value), timeMs])
  const fields = [markerVersion, fingerprint(markerOf), set, startMs, endMs, stepMs, fromNs.toString(), told]
  return Buffer.from(JSON.stringify(fields)).toString('base64url')
}

/** NaN, infinities and -0 are not JSON: they are told as text. */
function toldValue(value: number): number | string {
  if (Object.is(value, -0)) return '-0'
  return Number.isFinite(value) ? value : String(value)
}

export function parseMarker(text: string, markerOf: string): Marker {
  const fields = decode(text)
  if (fields === null) throw unknownMarker()
  const [version, print, set, startMs, endMs, stepMs, fromNs, carry] = fields
  if (startMs > endMs || stepMs < 0 || BigInt(fromNs) > 2n ** 63n - 1n) throw unknownMarker()
  if (version !== markerVersion || print !== fingerprint(markerOf)) {
    throw new FramesError(
      'INVALID_ARGUMENT',
      'the marker does not fit this request; give it with the request that returned it',
    )
  }
  return {
    startMs,
    endMs,
    // 0 in raw mode, where nobody looks at it; whoever forged one must not make us divide by it.
    stepMs: Math.max(1, stepMs),
    fromNs: BigInt(fromNs),
    carry: carry.map(([metric, value, timeMs]) => [metric, Number(value), timeMs]),
    index: (selection) => {
      const index = selection.sets.indexOf(set)
      if (index < 0)
        throw new FramesError('INVALID_ARGUMENT', 'the marker does not fit this request: its series is not selected')
      const { groupStarts } = selection
      return groupStarts === null ? index : groupStarts.findLastIndex((start) => start <= index)
    },
  }
}

function unknownMarker(): FramesError {
  return new FramesError('INVALID_ARGUMENT', 'the marker is not one that a read has returned')
}

type Fields = [
  version: number,
  print: string,
  set: number,
  startMs: number,
  endMs: number,
  stepMs: number,
  fromNs: string,
  carry: [metric: string, value: number | string, timeMs: number][],
]

function decode(text: string): Fields | null {
  try {
    const fields: unknown = JSON.parse(Buffer.from(text, 'base64url').toString())
    if (!Array.isArray(fields) || fields.length !== 8) return null
    const numbers = [fields[0], fields[2], fields[3], fields[4], fields[5]]
    if (!numbers.every((value) => Number.isSafeInteger(value))) return null
    if (typeof fields[6] !== 'string' || !/^-?[0-9]{1,19}$/.test(fields[6]) || !Array.isArray(fields[7])) return null
    if (!fields[7].every(isCarry)) return null
    return fields as Fields
  } catch {
    // Not base64 of JSON: not a marker.
    return null
  }
}

function isCarry(entry: unknown): boolean {
  if (!Array.isArray(entry) || entry.length !== 3) return false
  const [metric, value, timeMs] = entry as unknown[]
  const isValue = typeof value === 'number' || (typeof value === 'string' && valueTexts.has(value))
  return typeof metric === 'string' && isValue && typeof timeMs === 'number'
}

function fingerprint(markerOf: string): string {
  return createHash('sha256').update(markerOf).digest('base64url').slice(0, 12)
}
