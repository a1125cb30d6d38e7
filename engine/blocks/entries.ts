// What a table stores: the entries of blocks, dead rows and schema, and the keys that erase them.
import { randomBytes } from 'node:crypto'
import { logCommitByteLengthMax, logCommitRowCountMax } from '../limits.js'
import type { Entry, Store } from '../stores/store.js'
import { encodeDead } from './dead-rows.js'
import { dataKey, deadKeys, goneKey, headKey, packedKey, schemaCopyKey, schemaKey, stageKey } from './keys.js'
import type { LiveBlock } from './live-block.js'
import { encodeLive } from './live-block.js'
import type { PreparedBlock } from './merge-rule.js'
import { seal } from './sealed.js'

/** Entries read from the store at once. */
const scanLimit = 1000

const processNumber = BigInt(randomBytes(4).readUInt32BE()) << 32n
let blockCounter = 0n

/** Unique in this process, and with the process's random number among all. */
export function newBlockId(): bigint {
  return processNumber | ++blockCounter
}

/** The live entry of a block that the commits [firstCommit, lastCommit] bring. */
export function liveOf(
  block: PreparedBlock,
  id: bigint,
  firstCommit: number,
  lastCommit: number,
  isPacked: boolean,
): LiveBlock {
  return {
    id,
    firstCommit,
    lastCommit,
    rowCount: block.rowCount,
    byteLength: block.packed.byteLength,
    headerByteLength: block.headerByteLength,
    headerCrc: block.headerCrc,
    segmentCount: block.segmentByteLengths.length,
    isPacked,
    extent: block.extent,
    memory: null,
    dead: null,
    damage: null,
  }
}

/** A packed block, as a view of the shared memory. */
export function contentOf(bytes: Uint8Array, { packed }: PreparedBlock): Uint8Array {
  return bytes.subarray(packed.byteOffset, packed.byteOffset + packed.byteLength)
}

/** The mark of a block that is no longer live. */
export function goneMark({ id, isPacked, segmentCount }: LiveBlock): Entry {
  const key = goneKey(id)
  return { key, value: seal(key, encodeErase(isPacked, segmentCount)) }
}

/** The mark of a block that is sent ahead of its commit. */
export function stageMark(id: bigint, segmentCount: number): Entry {
  const key = stageKey(id)
  return { key, value: seal(key, encodeErase(false, segmentCount)) }
}

/** What goes in the commit that takes a block out of the table. */
export function liveKeysOf(block: LiveBlock): Uint8Array[] {
  const { key } = encodeLive(block)
  return block.dead === null ? [key] : [key, ...deadKeys(block.id)]
}

export function schemaEntries(schema: Uint8Array): Entry[] {
  return [schemaKey, schemaCopyKey].map((key) => ({ key, value: seal(key, schema) }))
}

/** A bitmap with `count` dead rows as it is stored. */
export function deadEntries(id: bigint, bitmap: Uint8Array, count: number): Entry[] {
  const payload = encodeDead(bitmap, count)
  return deadKeys(id).map((key) => ({ key, value: seal(key, payload) }))
}

/** A commit this small is stored as one value. */
export function fitsOneValue(block: PreparedBlock): boolean {
  return block.rowCount < logCommitRowCountMax && block.packed.byteLength < logCommitByteLengthMax
}

/** The stored values of a block, as views of the shared memory. */
export function blockEntries(bytes: Uint8Array, block: PreparedBlock, id: bigint, isPacked: boolean): Entry[] {
  const { packed, headerByteLength } = block
  const view = (start: number, byteLength: number): Uint8Array => bytes.subarray(start, start + byteLength)
  if (isPacked) return [{ key: packedKey(id), value: view(packed.byteOffset, packed.byteLength) }]
  const entries = [{ key: headKey(id), value: view(packed.byteOffset, headerByteLength) }]
  let start = packed.byteOffset + headerByteLength
  block.segmentByteLengths.forEach((byteLength, segment) => {
    entries.push({ key: dataKey(id, segment), value: view(start, byteLength) })
    start += byteLength
  })
  return entries
}

/** All that is stored of a block, but for its live entry and its marks. */
export function eraseKeys(id: bigint, isPacked: boolean, segmentCount: number): Uint8Array[] {
  if (isPacked) return [packedKey(id)]
  const keys = [headKey(id)]
  for (let segment = 0; segment < segmentCount; segment++) keys.push(dataKey(id, segment))
  return keys
}

function encodeErase(isPacked: boolean, segmentCount: number): Uint8Array {
  const payload = new Uint8Array(5)
  payload[0] = isPacked ? 1 : 0
  new DataView(payload.buffer).setUint32(1, segmentCount)
  return payload
}

/** What a mark says of its block. */
export function decodeErase(payload: Uint8Array): { isPacked: boolean; segmentCount: number } {
  return { isPacked: payload[0] === 1, segmentCount: new DataView(payload.buffer, payload.byteOffset).getUint32(1) }
}

/** Every entry of a range, read in steps. */
export async function* scanAll(
  store: Store,
  partition: string,
  range: { start: Uint8Array; end: Uint8Array },
  keysOnly = false,
): AsyncGenerator<Entry> {
  let start = range.start
  for (;;) {
    const entries = await store.scan(partition, { start, end: range.end, limit: scanLimit, keysOnly })
    yield* entries
    if (entries.length < scanLimit) return
    const last = entries[entries.length - 1]!.key
    start = new Uint8Array(last.length + 1)
    start.set(last)
  }
}
