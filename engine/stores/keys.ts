// Keys of a partition: a tag and a few parts <-> bytes whose byte order is the order of the tuples.
import { assert } from '../assert.js'
import { FramesError } from '../errors.js'
import { storeKeyByteLengthMax } from '../limits.js'
import type { Batch } from './store.js'

/**
 * A part of a key and how it is laid out:
 *
 *   number      u32, big endian
 *   bigint      u64, big endian
 *   string      its UTF-8 bytes, as below
 *   Uint8Array  the bytes with 0x00 written as 0x00 0x01, then 0x00 0x00, so that a part never runs into the next one
 *               and "a" sorts before "a\0" and "ab" whatever follows
 */
export type KeyPart = number | bigint | string | Uint8Array

/** What a part is read back as; the bytes of a key do not say. */
interface PartTypes {
  u32: number
  u64: bigint
  text: string
  bytes: Uint8Array
}
export type PartKind = keyof PartTypes

/** Ends the tag. Tags are lower-case letters, so no tag and its parts sort between another tag and its parts. */
const tagEnd = 0x2f // '/'
const u32Max = 0xffff_ffff
const u64Max = 0xffff_ffff_ffff_ffffn

const encoder = new TextEncoder()
const decoder = new TextDecoder('utf-8', { fatal: true })

/** The key of a tag and its parts. Without parts it is the prefix of all keys of the tag. */
export function key(tag: string, ...parts: KeyPart[]): Uint8Array {
  assert(/^[a-z]+$/.test(tag), 'a key tag is lower-case letters')
  const encoded = parts.map((part) => (typeof part === 'string' ? encoder.encode(part) : part))
  let byteLength = tag.length + 1
  for (const part of encoded) byteLength += partByteLength(part)

  const bytes = new Uint8Array(byteLength)
  const view = new DataView(bytes.buffer)
  let offset = encoder.encodeInto(tag, bytes).written
  bytes[offset++] = tagEnd
  for (const part of encoded) {
    if (typeof part === 'number') {
      assert(Number.isInteger(part) && part >= 0 && part <= u32Max, 'a number in a key is a u32')
      view.setUint32(offset, part)
    } else if (typeof part === 'bigint') {
      assert(part >= 0n && part <= u64Max, 'a bigint in a key is a u64')
      view.setBigUint64(offset, part)
    } else {
      let target = offset
      for (const byte of part) {
        bytes[target++] = byte
        if (byte === 0) bytes[target++] = 1
      }
    }
    offset += partByteLength(part)
  }
  return bytes
}

function partByteLength(part: number | bigint | Uint8Array): number {
  if (typeof part === 'number') return 4
  if (typeof part === 'bigint') return 8
  let byteLength = part.byteLength + 2
  for (const byte of part) if (byte === 0) byteLength++
  return byteLength
}

/** The tag of a key, or null when the bytes are not a key of ours. */
export function keyTag(bytes: Uint8Array): string | null {
  const end = bytes.indexOf(tagEnd)
  return end > 0 ? Buffer.from(bytes.buffer, bytes.byteOffset, end).toString('latin1') : null
}

/**
 * The parts of a stored key, whose kinds the caller knows from its tag.
 *
 * Throws DATA_DAMAGED when the bytes are not a key of this tag with exactly these parts.
 */
export function parseKey<const Kinds extends readonly PartKind[]>(
  bytes: Uint8Array,
  tag: string,
  kinds: Kinds,
): { -readonly [Index in keyof Kinds]: PartTypes[Kinds[Index]] } {
  const damaged = () => new FramesError('DATA_DAMAGED', `0x${Buffer.from(bytes).toString('hex')} is no ${tag} key`)
  if (keyTag(bytes) !== tag) throw damaged()
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  let offset = tag.length + 1
  const parts = kinds.map((kind): KeyPart => {
    if (kind === 'u32' || kind === 'u64') {
      const start = offset
      offset += kind === 'u32' ? 4 : 8
      if (offset > bytes.byteLength) throw damaged()
      return kind === 'u32' ? view.getUint32(start) : view.getBigUint64(start)
    }
    const part: number[] = []
    for (;;) {
      if (offset >= bytes.byteLength) throw damaged()
      const byte = bytes[offset++]
      if (byte === 0) {
        const mark = bytes[offset++]
        if (mark === 0) break
        if (mark !== 1) throw damaged()
      }
      part.push(byte)
    }
    const raw = Uint8Array.from(part)
    if (kind === 'bytes') return raw
    try {
      return decoder.decode(raw)
    } catch {
      throw damaged()
    }
  })
  if (offset !== bytes.byteLength) throw damaged()
  return parts as { -readonly [Index in keyof Kinds]: PartTypes[Kinds[Index]] }
}

/** The range that holds exactly the keys which begin with `prefix`; `end` is absent when nothing sorts after them. */
export function prefixRange(prefix: Uint8Array): { start: Uint8Array; end?: Uint8Array } {
  let byteLength = prefix.byteLength
  while (byteLength > 0 && prefix[byteLength - 1] === 0xff) byteLength--
  if (byteLength === 0) return { start: prefix }
  const end = prefix.slice(0, byteLength)
  end[byteLength - 1]++
  return { start: prefix, end }
}

/** Names sort by their bytes, with 0x00 and 0x01 behind them in a driver's own keys. */
export function assertPartition(partition: string): void {
  assert(/^[\x20-\x7e]{1,64}$/.test(partition), 'a partition name is 1 to 64 printable ASCII characters')
}

/** What every driver may rely on. */
export function assertBatch({ partition, expect = [], puts, deletes = [] }: Batch): void {
  assertPartition(partition)
  for (const { key } of expect) assertKey(key)
  for (const { key } of puts) assertKey(key)
  for (const key of deletes) assertKey(key)
}

function assertKey(key: Uint8Array): void {
  assert(key.byteLength <= storeKeyByteLengthMax, `a store key has at most ${storeKeyByteLengthMax} bytes`)
}

/** The order of keys: byte by byte, a prefix before what it begins. */
export function compareKeys(left: Uint8Array, right: Uint8Array): number {
  return Buffer.compare(left, right)
}
