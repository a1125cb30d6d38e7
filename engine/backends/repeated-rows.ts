// Frames that come time by time name the same series again and again: their texts are those of the first rows, repeated. Those
// rows are enough for whoever wants to know which series there are. Main thread.
import type { Frame } from '../frame/frame.js'
import { KiB } from '../limits.js'

interface Texts {
  readonly offsets: Uint32Array
  readonly bytes: Uint8Array
}

/** Looked for in frames of as many rows or more. */
const frameRowCountMin = 1024
const repeatedRowCountMax = 2048
/** Rows that are like the first one, and may be where it all begins again, without. */
const tryCountMax = 4

/** Offsets that were found to come again after so many rows, as bytes of our own: comparing others with them is a memcmp. */
interface FoundOffsets {
  readonly distance: number
  readonly bytes: Uint8Array
}

/** Of the columns last seen, by their place in the frame: those of the next frame are mostly the same. */
const found: (FoundOffsets | undefined)[] = []
const foundColumnCountMax = 16
const foundByteLengthMax = 256 * KiB

/**
 * The number of rows after which the texts of all index columns come again, to the end; 0: they do not, or rows differ in
 * something else than time and text. It is half of the frame at most.
 */
export function repeatedRowCount({ length, indices }: Frame): number {
  if (length < frameRowCountMin) return 0
  const columns: Texts[] = []
  let hasTimes = false
  for (const { kind, buffers, validity } of indices) {
    if (buffers.dtype === 'time' && !hasTimes) hasTimes = true
    else if (kind === 'slice' && buffers.dtype === 'string' && validity === null && isWhole(buffers, length))
      columns.push(buffers)
    else if (kind === 'slice' && buffers.dtype !== 'null') return 0
  }
  if (columns.length === 0) return 0
  const distanceMax = Math.min(repeatedRowCountMax, Math.floor(length / 2))
  for (let distance = 1, tries = 0; distance <= distanceMax && tries < tryCountMax; distance++) {
    if (!columns.every((texts) => isFirstText(texts, distance))) continue
    tries++
    if (columns.every((texts, i) => isRepeated(texts, length, distance, i))) return distance
  }
  return 0
}

function isWhole({ offsets, bytes }: Texts, length: number): boolean {
  return offsets[0] === 0 && offsets[length] <= bytes.length
}

function isFirstText({ offsets, bytes }: Texts, row: number): boolean {
  const byteLength = offsets[1]
  const start = offsets[row]
  if (offsets[row + 1] - start !== byteLength) return false
  for (let i = 0; i < byteLength; i++) if (bytes[i] !== bytes[start + i]) return false
  return true
}

function isRepeated({ offsets, bytes }: Texts, length: number, distance: number, column: number): boolean {
  const byteDistance = offsets[distance]
  const byteLength = offsets[length]
  if (byteDistance > byteLength) return false
  const first = bytes.subarray(0, byteLength - byteDistance)
  if (Buffer.compare(first, bytes.subarray(byteDistance, byteLength)) !== 0) return false
  const offsetBytes = new Uint8Array(offsets.buffer, offsets.byteOffset, 4 * (length + 1))
  const before = found[column]
  if (before?.distance === distance && startsWith(before.bytes, offsetBytes)) return true
  for (let row = distance; row <= length; row++)
    if (offsets[row] - offsets[row - distance] !== byteDistance) return false
  if (column < foundColumnCountMax && offsetBytes.byteLength <= foundByteLengthMax)
    found[column] = { distance, bytes: offsetBytes.slice() }
  return true
}

function startsWith(bytes: Uint8Array, start: Uint8Array): boolean {
  const { byteLength } = start
  return bytes.byteLength >= byteLength && Buffer.compare(bytes.subarray(0, byteLength), start) === 0
}
