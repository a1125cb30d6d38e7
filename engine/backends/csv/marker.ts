// The cursor of a read that a row limit ended: a place in one version of a file.
import { FramesError } from '../../errors.js'

/** Between two records of a file: where the next one starts, its line (1-based), and the records before it. */
export interface TextPlace {
  readonly byteOffset: number
  readonly line: number
  readonly row: number
}

const markerVersion = 1

/** `file` tells the version of the file from all others. */
export function encodeMarker({ byteOffset, line, row }: TextPlace, file: string): string {
  return Buffer.from(JSON.stringify([markerVersion, file, byteOffset, line, row])).toString('base64url')
}

/** Throws INVALID_ARGUMENT for what is no marker, FILE_CHANGED for one of another version of the file. */
export function parseMarker(text: string, file: string, byteLength: number): TextPlace {
  const fields = decode(text)
  if (fields === null) throw new FramesError('INVALID_ARGUMENT', 'the marker is not one that a read has returned')
  const [markerFile, byteOffset, line, row] = fields
  if (markerFile !== file || byteOffset > byteLength) {
    throw new FramesError('FILE_CHANGED', 'the marker does not fit: the file is not the one it was made for any more')
  }
  return { byteOffset, line, row }
}

function decode(text: string): [file: string, byteOffset: number, line: number, row: number] | null {
  try {
    const fields: unknown = JSON.parse(Buffer.from(text, 'base64url').toString())
    if (!Array.isArray(fields) || fields.length !== 5 || fields[0] !== markerVersion) return null
    const [, file, byteOffset, line, row] = fields
    if (typeof file !== 'string' || ![byteOffset, line, row].every((n) => Number.isSafeInteger(n) && n >= 0))
      return null
    return [file, byteOffset, line, row]
  } catch {
    // Not base64 of JSON: not a marker.
    return null
  }
}
