// Reads a table back when it is opened. What is damaged and can be made again is healed, and reported.
import { FramesError } from '../errors.js'
import type { Entry, Store } from '../stores/store.js'
import { encodeHeader, parseHeader } from './block.js'
import { versionValue } from './commit-queue.js'
import { copyDead, countDead, decodeDead, decodeKills, killRows, placeDead, rowsBelow } from './dead-rows.js'
import { scanAll } from './entries.js'
import {
  deadKeys,
  headKey,
  keyKinds,
  keyNumbers,
  killsKeys,
  kindRange,
  packedKey,
  schemaCopyKey,
  schemaKey,
  versionKey,
} from './keys.js'
import type { LiveBlock } from './live-block.js'
import { decodeLive, encodeLive, parseLiveKey } from './live-block.js'
import type { UnfoldedKills } from './live-set.js'
import { checksum, seal, unseal } from './sealed.js'
import type { TableContext } from './table-context.js'

/** A table as it is stored. */
export interface StoredTable {
  readonly version: number
  readonly schema: Uint8Array
  /** Oldest commit first; nothing of them is in memory. */
  readonly blocks: readonly LiveBlock[]
  readonly dead: StoredDead
}

/** Throws DATA_DAMAGED, FORMAT_VERSION. */
export async function readTable(context: TableContext): Promise<StoredTable> {
  const { store, partition, name, report } = context
  const healed: Entry[] = []
  // Side by side: each waits for a turn of a busy event loop, and of the storage thread.
  const [[versionBytes, ...schemas], live, ...deadEntries] = await Promise.all([
    store.read(partition, [versionKey, schemaKey, schemaCopyKey]),
    readKind(context, keyKinds.live),
    readKind(context, keyKinds.dead),
    readKind(context, keyKinds.deadCopy),
    readKind(context, keyKinds.kills),
    readKind(context, keyKinds.killsCopy),
  ])
  const schema = openSchema(schemas, healed)
  if (schema === null) throw new FramesError('DATA_DAMAGED', `the schema of table '${name}' is missing or damaged`)
  if (healed.length > 0) report(`a copy of the schema of table '${name}' is damaged: it is written anew`, null)
  const versionPayload = versionBytes == null ? null : unseal(versionKey, versionBytes)
  let version =
    versionPayload === null ? 0 : Number(new DataView(versionPayload.buffer, versionPayload.byteOffset).getBigUint64(0))
  const blocks: LiveBlock[] = []
  for (const { key, value } of live) {
    let block = decodeLive(key, value)
    if (block === null) {
      block = await rebuildLive(store, partition, key)
      const isWhole = block.extent !== null
      report(
        `the live entry of block ${block.id} of table '${name}' is damaged${isWhole ? ': it is written anew' : ', and so is the block'}`,
        null,
      )
      if (isWhole) healed.push(encodeLive(block))
    }
    version = Math.max(version, block.lastCommit)
    blocks.push(block)
  }
  if (versionPayload === null) {
    report(`the version of table '${name}' is damaged: it is written anew`, null)
    healed.push({ key: versionKey, value: versionValue(version) })
  }
  const dead = openDead(context, blocks, deadEntries, healed)
  if (healed.length > 0) await store.commit({ partition, puts: healed })
  return { version, schema, blocks, dead }
}

async function readKind({ store, partition }: TableContext, kind: number): Promise<Entry[]> {
  const entries: Entry[] = []
  for await (const entry of scanAll(store, partition, kindRange(kind))) entries.push(entry)
  return entries
}

/** The blocks with what of them stands in the shared memory: the bytes of packed ones, dead rows. */
export async function loadBlocks(
  context: TableContext,
  { blocks, dead: { bitmaps, damages } }: StoredTable,
): Promise<LiveBlock[]> {
  const { heads } = context.memory
  return (await withMemory(context, blocks)).map((block): LiveBlock => {
    const bitmap = bitmaps.get(block.id)
    const damage = damages.get(block.id) ?? null
    const count = bitmap === undefined ? 0 : countDead(bitmap)
    return { ...block, damage, dead: count === 0 ? null : placeDead(heads, context.bytes, bitmap!, count) }
  })
}

/** The schema from its two copies, or null; a damaged copy goes to `healed`, as it should be. */
function openSchema(copies: readonly (Uint8Array | null | undefined)[], healed: Entry[]): Uint8Array | null {
  const keys = [schemaKey, schemaCopyKey]
  const payloads = keys.map((key, i) => (copies[i] == null ? null : unseal(key, copies[i])))
  const schema = payloads[0] ?? payloads[1] ?? null
  if (schema === null) return null
  keys.forEach((key, i) => {
    if (payloads[i] === null) healed.push({ key, value: seal(key, schema) })
  })
  return schema
}

/** Puts the bytes of packed blocks into the shared memory, as far as there is room. */
async function withMemory(
  { store, memory, bytes, partition }: TableContext,
  blocks: readonly LiveBlock[],
): Promise<LiveBlock[]> {
  const packed = blocks.filter((block) => block.isPacked)
  const values = await store.read(
    partition,
    packed.map(({ id }) => packedKey(id)),
  )
  const storedOf = new Map(packed.map(({ id }, i) => [id, values[i]]))
  return blocks.map((block) => {
    const value = storedOf.get(block.id)
    // Of another length than it should be: a reader finds that in the store.
    if (value == null || value.length !== block.byteLength) return block
    const slice = memory.heads.tryAllocate(value.length)
    if (slice === null) return block
    bytes.set(value, slice.byteOffset)
    return { ...block, memory: slice }
  })
}

/**
 * A live entry from its key and the block's header. When that is damaged, too, an entry without an extent: every read
 * looks into the block and says so.
 */
async function rebuildLive(store: Store, partition: string, key: Uint8Array): Promise<LiveBlock> {
  const commits = parseLiveKey(key)
  const { id } = commits
  const [head, packed] = await store.read(partition, [headKey(id), packedKey(id)])
  const isPacked = head == null && packed != null
  const lost: LiveBlock = {
    ...commits,
    rowCount: 0,
    byteLength: 0,
    headerByteLength: 0,
    headerCrc: 0,
    segmentCount: 0,
    isPacked,
    extent: null,
    memory: null,
    dead: null,
    damage: null,
  }
  const bytes = head ?? packed
  const layout = bytes == null ? null : parseHeader(bytes)
  if (bytes == null || layout === null) return lost
  const headerByteLength = encodeHeader(layout).length
  if (headerByteLength > bytes.length) return lost
  const headerCrc = checksum(bytes.subarray(0, headerByteLength - 4))
  if (headerCrc !== new DataView(bytes.buffer, bytes.byteOffset).getUint32(headerByteLength - 4, true)) return lost
  let byteLength = headerByteLength
  for (const length of layout.segmentByteLengths) byteLength += length
  const { rowCount, extent } = layout
  return {
    ...lost,
    rowCount,
    byteLength,
    headerByteLength,
    headerCrc,
    segmentCount: layout.segmentByteLengths.length,
    extent,
  }
}

/** The dead rows of a table as they are stored. */
export interface StoredDead {
  /** Of live blocks only. */
  readonly bitmaps: ReadonlyMap<bigint, Uint8Array>
  readonly unfolded: UnfoldedKills
  /** Blocks whose dead rows are lost, and why. */
  readonly damages: ReadonlyMap<bigint, string>
  /** Bitmaps of blocks that are gone. */
  readonly unusedKeys: readonly Uint8Array[]
}

/** Entries of each kind of dead rows, by key. */
type DeadEntries = readonly [bitmaps: Entry[], bitmapCopies: Entry[], kills: Entry[], killsCopies: Entry[]]

/** Dead rows: the bitmaps, then the kills of later commits. What is damaged in one of its two copies is healed. */
function openDead(
  { report, name }: TableContext,
  blocks: readonly LiveBlock[],
  [storedBitmaps, bitmapCopies, storedKills, killsCopies]: DeadEntries,
  healed: Entry[],
): StoredDead {
  const rowCounts = new Map(blocks.map(({ id, rowCount }) => [id, rowCount]))
  const bitmaps = new Map<bigint, Uint8Array>()
  const damages = new Map<bigint, string>()
  const unusedKeys: Uint8Array[] = []
  const heal = (what: string, entries: readonly Entry[]): void => {
    report(`a copy of ${what} of table '${name}' is damaged: it is written anew`, null)
    healed.push(...entries)
  }
  for (const { number: id, payload, entries } of pairCopies(storedBitmaps, bitmapCopies, deadKeys)) {
    const rowCount = rowCounts.get(id)
    if (rowCount === undefined) unusedKeys.push(...deadKeys(id))
    else if (payload === null) {
      const what = `the dead rows of block ${id}`
      damages.set(id, 'its dead rows cannot be told from the others')
      report(`${what} of table '${name}' are damaged in both copies`, null)
    } else {
      bitmaps.set(id, decodeDead(payload, rowCount))
      if (entries.length > 0) heal(`the dead rows of block ${id}`, entries)
    }
  }
  const unfolded: UnfoldedKills = { commits: [], byteLength: 0, blockIds: new Set() }
  for (const { number, payload, entries } of pairCopies(storedKills, killsCopies, killsKeys)) {
    const commit = Number(number)
    if (payload === null) {
      report(`the rows of table '${name}' that died with commit ${commit} are damaged in both copies`, null)
      // Any older block may have had such rows.
      for (const { id, lastCommit } of blocks)
        if (lastCommit < commit) damages.set(id, `which of its rows died with commit ${commit} is not known`)
      continue
    }
    if (entries.length > 0) heal(`the rows that died with commit ${commit}`, entries)
    unfolded.commits.push(commit)
    unfolded.byteLength += payload.length
    for (const { blockId, rows } of decodeKills(payload)) {
      const rowCount = rowCounts.get(blockId)
      if (rowCount === undefined) continue
      const bitmap = bitmaps.get(blockId) ?? copyDead(new Uint8Array(0), null, rowCount)
      killRows(bitmap, rowsBelow(rows, rowCount))
      bitmaps.set(blockId, bitmap)
      unfolded.blockIds.add(blockId)
    }
  }
  return { bitmaps, unfolded, damages, unusedKeys }
}

interface StoredTwice {
  readonly number: bigint
  /** Null when both copies are damaged. */
  readonly payload: Uint8Array | null
  /** The copy that is missing or damaged, as it should be. */
  readonly entries: readonly Entry[]
}

/** Values that are stored in two copies, by their number. */
function* pairCopies(
  firsts: readonly Entry[],
  copies: readonly Entry[],
  keysOf: typeof deadKeys | typeof killsKeys,
): Generator<StoredTwice> {
  let first = 0
  let copy = 0
  while (first < firsts.length || copy < copies.length) {
    const entriesAt = [firsts[first], copies[copy]]
    const numbers = entriesAt.map((entry) => (entry === undefined ? null : keyNumbers(entry.key)[0]!))
    const number = numbers[0] === null || (numbers[1] !== null && numbers[1]! < numbers[0]!) ? numbers[1]! : numbers[0]!
    const keys = keysOf(number)
    const payloads = entriesAt.map((entry, i) =>
      entry === undefined || numbers[i] !== number ? null : unseal(keys[i]!, entry.value),
    )
    const payload = payloads[0] ?? payloads[1] ?? null
    const entries =
      payload === null
        ? []
        : keys.flatMap((key, i) => (payloads[i] === null ? [{ key, value: seal(key, payload) }] : []))
    yield { number, payload, entries }
    if (numbers[0] === number) first++
    if (numbers[1] === number) copy++
  }
}
