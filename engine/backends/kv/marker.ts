// The cursor of a read that a row limit ended: opaque to the caller; it names the last item, so neither writes nor merges
// move it.
import { createHash } from 'node:crypto'
import { FramesError } from '../../errors.js'
import type { ItemKey } from './item-keys.js'

const markerVersion = 1

export function encodeMarker({ folder, name }: ItemKey, markerOf: string): string {
  return Buffer.from(JSON.stringify([markerVersion, fingerprint(markerOf), folder, name])).toString('base64url')
}

/** The last item that was sent. `markerOf` is what must be the same in both requests. Throws INVALID_ARGUMENT. */
export function parseMarker(text: string, markerOf: string): ItemKey {
  const fields = decode(text)
  if (fields === null) throw new FramesError('INVALID_ARGUMENT', 'the marker is not one that a read has returned')
  const [version, print, folder, name] = fields
  if (version !== markerVersion || print !== fingerprint(markerOf)) {
    const what = 'the marker does not fit this request; give it with the request that returned it'
    throw new FramesError('INVALID_ARGUMENT', what)
  }
  return { folder, name }
}

type Fields = readonly [version: number, print: string, folder: string, name: string]

function decode(text: string): Fields | null {
  try {
    const fields: unknown = JSON.parse(Buffer.from(text, 'base64url').toString())
    if (!Array.isArray(fields) || fields.length !== 4 || typeof fields[0] !== 'number') return null
    if (!fields.slice(1).every((field) => typeof field === 'string')) return null
    return fields as unknown as Fields
  } catch {
    // Not base64 of JSON: not a marker.
    return null
  }
}

function fingerprint(markerOf: string): string {
  return createHash('sha256').update(markerOf).digest('base64url').slice(0, 12)
}
