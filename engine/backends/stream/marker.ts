// The cursor of a read that a limit ended: the next record, independent of blocks and of the clock. Opaque to the caller.
import { createHash } from 'node:crypto'
import { FramesError } from '../../errors.js'
import type { RecordPosition } from './scan.js'

export interface Marker {
  readonly position: RecordPosition
  /** As resolved by the first read; null: no bound. */
  readonly endMs: number | null
}

const markerVersion = 1

/** markerOf: what must be the same in the request that the marker is given with. */
export function encodeMarker({ position, endMs }: Marker, markerOf: string): string {
  const { arrivalNs, shard, sequence } = position
  const fields = [markerVersion, fingerprint(markerOf), arrivalNs.toString(), shard, sequence, endMs]
  return Buffer.from(JSON.stringify(fields)).toString('base64url')
}

/** Throws INVALID_ARGUMENT. */
export function parseMarker(text: string, markerOf: string): Marker {
  const fields = decode(text)
  if (fields === null) throw new FramesError('INVALID_ARGUMENT', 'the marker is not one that a read has returned')
  const [version, print, arrivalNs, shard, sequence, endMs] = fields
  if (version !== markerVersion || print !== fingerprint(markerOf)) {
    throw new FramesError(
      'INVALID_ARGUMENT',
      'the marker does not fit this request; give it with the request that returned it',
    )
  }
  return { position: { arrivalNs: BigInt(arrivalNs), shard, sequence }, endMs }
}

type Fields = [version: number, print: string, arrivalNs: string, shard: number, sequence: number, endMs: number | null]

function decode(text: string): Fields | null {
  try {
    const fields: unknown = JSON.parse(Buffer.from(text, 'base64url').toString())
    if (!Array.isArray(fields) || fields.length !== 6) return null
    const [version, print, arrivalNs, shard, sequence, endMs] = fields as unknown[]
    if (![version, shard, sequence].every((value) => Number.isSafeInteger(value) && (value as number) >= 0)) return null
    if (typeof print !== 'string' || typeof arrivalNs !== 'string' || !/^[0-9]{1,19}$/.test(arrivalNs)) return null
    if (BigInt(arrivalNs) > 2n ** 63n - 1n) return null
    if (endMs !== null && !Number.isSafeInteger(endMs)) return null
    return fields as Fields
  } catch {
    // Not base64 of JSON: not a marker.
    return null
  }
}

function fingerprint(markerOf: string): string {
  return createHash('sha256').update(markerOf).digest('base64url').slice(0, 12)
}
