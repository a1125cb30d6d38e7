// Small stored values (version, schema, live entries, label sets): a format version, the payload, and a CRC-32C over
// the key and both, so that a value that is damaged or stands under another key is noticed.
import { FramesError } from '../errors.js'

const sealedVersion = 1
const overheadByteLength = 5

/** CRC-32C (Castagnoli), reflected, one byte a step: enough for values of some hundred bytes; pages use the kernel. */
const crcTable = new Uint32Array(256)
for (let i = 0; i < 256; i++) {
  let crc = i
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1
  crcTable[i] = crc >>> 0
}

/** CRC-32C over the parts, one behind the other. */
export function checksum(...parts: readonly Uint8Array[]): number {
  let crc = 0xffffffff
  for (const part of parts) for (const byte of part) crc = crcTable[(crc ^ byte) & 0xff]! ^ (crc >>> 8)
  return ~crc >>> 0
}

export function seal(key: Uint8Array, payload: Uint8Array): Uint8Array {
  const value = new Uint8Array(payload.length + overheadByteLength)
  value[0] = sealedVersion
  value.set(payload, 1)
  new DataView(value.buffer).setUint32(payload.length + 1, checksum(key, value.subarray(0, payload.length + 1)), true)
  return value
}

/** The payload, or null when the value is damaged. Throws FORMAT_VERSION for a value of a newer framesd. */
export function unseal(key: Uint8Array, value: Uint8Array): Uint8Array | null {
  if (value.length < overheadByteLength) return null
  const stored = new DataView(value.buffer, value.byteOffset, value.byteLength).getUint32(value.length - 4, true)
  if (stored !== checksum(key, value.subarray(0, value.length - 4))) return null
  if (value[0] !== sealedVersion) {
    throw new FramesError(
      'FORMAT_VERSION',
      `a stored value has format version ${value[0]}; this framesd reads ${sealedVersion}`,
    )
  }
  return value.slice(1, value.length - 4)
}
