// What the live list of a table says of each block.
import { pack, unpack } from 'msgpackr'
import type { Slice } from '../memory/slice.js'
import type { BlockSource } from './reader.js'
import type { DeadRows } from './dead-rows.js'
import { keyNumbers, liveKey } from './keys.js'
import { seal, unseal } from './sealed.js'

/** The backend's summary of which keys a block holds; the block layer stores it and does not look inside. */
export type Extent = readonly number[]

export interface LiveBlock {
  readonly id: bigint
  /** Commits whose rows it holds: [firstCommit, lastCommit], disjoint from those of every other run. */
  readonly firstCommit: number
  readonly lastCommit: number
  readonly rowCount: number
  /** Header and segments. */
  readonly byteLength: number
  readonly headerByteLength: number
  readonly headerCrc: number
  readonly segmentCount: number
  /** Stored as one value. */
  readonly isPacked: boolean
  /** Null when both the live entry and the header are damaged: the block may hold anything. */
  readonly extent: Extent | null
  /** Its packed bytes in the shared memory, while there is room for them. */
  readonly memory: Slice | null
  /** Rows that were replaced or deleted since; null: none. */
  readonly dead: DeadRows | null
  /** Why its rows cannot be told from dead ones: every read of it fails with this. */
  readonly damage: string | null
}

/** Blocks that one commit, flush or merge wrote have the same commits; they do not overlap each other. */
export function sameRun(a: LiveBlock, b: LiveBlock): boolean {
  return a.firstCommit === b.firstCommit && a.lastCommit === b.lastCommit
}

export function encodeLive(block: LiveBlock): { key: Uint8Array; value: Uint8Array } {
  const key = liveKey(BigInt(block.lastCommit), BigInt(block.firstCommit), block.id)
  const fields = [
    block.rowCount,
    block.byteLength,
    block.headerByteLength,
    block.headerCrc,
    block.segmentCount,
    block.isPacked,
    block.extent,
  ]
  return { key, value: seal(key, pack(fields)) }
}

/** What the key of a live entry says. */
export function parseLiveKey(key: Uint8Array): Pick<LiveBlock, 'id' | 'firstCommit' | 'lastCommit'> {
  const [lastCommit, firstCommit, id] = keyNumbers(key) as [bigint, bigint, bigint]
  return { id, firstCommit: Number(firstCommit), lastCommit: Number(lastCommit) }
}

/** Null when the value is damaged. */
export function decodeLive(key: Uint8Array, value: Uint8Array): LiveBlock | null {
  const payload = unseal(key, value)
  if (payload === null) return null
  const [rowCount, byteLength, headerByteLength, headerCrc, segmentCount, isPacked, extent] = unpack(payload) as [
    number,
    number,
    number,
    number,
    number,
    boolean,
    Extent | null,
  ]
  return {
    ...parseLiveKey(key),
    rowCount,
    byteLength,
    headerByteLength,
    headerCrc,
    segmentCount,
    isPacked,
    extent,
    memory: null,
    dead: null,
    damage: null,
  }
}

export function toSource(block: LiveBlock, values: readonly Uint8Array[] | null): BlockSource {
  return {
    id: block.id,
    rowCount: block.rowCount,
    headerByteLength: block.headerByteLength,
    headerCrc: block.headerCrc,
    extent: block.extent,
    isPacked: block.isPacked,
    packed: block.memory,
    values: block.memory === null ? values : null,
    dead: block.dead?.bits ?? null,
    damage: block.damage,
  }
}
