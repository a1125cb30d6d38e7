// What a stream is created with, and what its commits keep beside the records: shards, retention, what was dropped.
import type { LiveBlock } from '../../blocks/live-block.js'
import { FramesError, shortened } from '../../errors.js'
import type { Value } from '../../frame/dtype.js'
import { streamShardCountMax } from '../../limits.js'
import type { CreateRequest } from '../../requests.js'
import { decodeExtent } from './pieces.js'

/** Where a shard stands besides its blocks. */
export interface ShardState {
  /** Sequence of the oldest record that is kept; one past the newest when none is. */
  readonly first: number
  /** Lower bound of the next sequence number: blocks that are gone held the ones below it. */
  readonly next: number
  /** When the shard was made, ms since 1970: a key that moved to it has no records here from before. */
  readonly createdMs: number
}

/**
 * retentionHours      records older than this are dropped
 * retentionByteLength encoded bytes that are kept at most; 0: no bound
 * partitionKey        the column whose cells say which rows of a frame go to the same shard; null: rows are spread evenly
 * arrivalMs           no record to come arrives earlier
 */
export interface StreamSchema {
  readonly retentionHours: number
  readonly retentionByteLength: number
  readonly partitionKey: string | null
  readonly arrivalMs: number
  readonly shards: readonly ShardState[]
}

/** 100 years: beyond that, milliseconds would not be exact for ever. */
const retentionHoursMax = 24 * 366 * 100

/** Checks a create request. Throws INVALID_ARGUMENT with the texts that callers know. */
export function createSchema(request: CreateRequest, nowMs: number): StreamSchema {
  const shardCount = positive('shards', request.shards ?? 0n, 1)
  if (shardCount > streamShardCountMax)
    throw invalid(`a stream of ${shardCount} shards is not possible; at most ${streamShardCountMax} are`)
  const retentionHours = positive('retention_hours', request.retentionHours ?? 0n, 24)
  if (retentionHours > retentionHoursMax)
    throw invalid(`'retention_hours' is ${retentionHours}; at most ${retentionHoursMax} are possible`)
  const shardingKey = request.schema?.key?.shardingKey ?? []
  if (shardingKey.length > 1) throw invalid('a stream has one sharding key at most')
  return {
    retentionHours,
    retentionByteLength: retentionBytes(request),
    partitionKey: shardingKey[0] ?? null,
    arrivalMs: 0,
    shards: Array.from({ length: shardCount }, () => ({ first: 1, next: 1, createdMs: nowMs })),
  }
}

function positive(name: string, value: bigint, defaultValue: number): number {
  if (value < 0n) throw invalid(`'${name}' must be a positive integer (got ${value})`)
  return value === 0n ? defaultValue : Number(value)
}

/** Clients can send it only as a property of some schema field. */
function retentionBytes(request: CreateRequest): number {
  let found: number | null = null
  for (const field of request.schema?.fields ?? []) {
    const value = field.properties?.['retention_bytes']
    if (value === undefined) continue
    const byteLength = byteLengthOf(value)
    if (found !== null && found !== byteLength)
      throw invalid(`property 'retention_bytes' is given as ${found} and as ${byteLength}`)
    found = byteLength
  }
  return found ?? 0
}

function byteLengthOf(value: Value): number {
  const number = typeof value === 'bigint' ? Number(value) : value
  if (typeof number === 'number' && Number.isSafeInteger(number) && number >= 0) return number
  const shown = typeof value === 'string' ? `'${shortened(value)}'` : String(number)
  throw invalid(`property 'retention_bytes' must be a whole number of bytes, not ${shown}`)
}

const schemaVersion = 1

/** The stored form: JSON with a version. */
export function encodeSchema(schema: StreamSchema): Uint8Array {
  return new TextEncoder().encode(JSON.stringify({ version: schemaVersion, ...schema }))
}

/** Throws FORMAT_VERSION for a schema of a newer framesd, DATA_DAMAGED for what is no schema. */
export function decodeSchema(bytes: Uint8Array): StreamSchema {
  let stored: unknown
  try {
    stored = JSON.parse(new TextDecoder().decode(bytes))
  } catch (cause) {
    throw new FramesError('DATA_DAMAGED', 'a stored stream schema is not JSON', { cause })
  }
  if (typeof stored !== 'object' || stored === null) throw damaged('schema')
  const { version, retentionHours, retentionByteLength, partitionKey, arrivalMs, shards } = stored as Readonly<
    Record<string, unknown>
  >
  if (version !== schemaVersion)
    throw new FramesError('FORMAT_VERSION', `a stream schema has version ${String(version)}, not ${schemaVersion}`)
  if (!isCount(retentionHours) || retentionHours === 0) throw damaged('retentionHours')
  if (!isCount(retentionByteLength)) throw damaged('retentionByteLength')
  if (partitionKey !== null && typeof partitionKey !== 'string') throw damaged('partitionKey')
  if (!isCount(arrivalMs)) throw damaged('arrivalMs')
  if (!Array.isArray(shards) || shards.length === 0 || !shards.every(isShard)) throw damaged('shards')
  return { retentionHours, retentionByteLength, partitionKey, arrivalMs, shards }
}

function isShard(value: unknown): value is ShardState {
  if (typeof value !== 'object' || value === null) return false
  const { first, next, createdMs } = value as Readonly<Record<string, unknown>>
  return isCount(first) && isCount(next) && isCount(createdMs)
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0
}

function damaged(part: string): FramesError {
  return new FramesError('DATA_DAMAGED', `a stored stream schema has no valid ${part}`)
}

function invalid(what: string): FramesError {
  return new FramesError('INVALID_ARGUMENT', what)
}

/** Where each shard's next record goes, from the blocks and what the schema remembers of those that are gone. */
export function nextSequences(schema: StreamSchema, blocks: readonly LiveBlock[]): Float64Array {
  const next = Float64Array.from(schema.shards, (shard) => shard.next)
  for (const { extent } of blocks) {
    if (extent === null) continue
    for (const { shard, first, count } of decodeExtent(extent).shards)
      next[shard] = Math.max(next[shard]!, first + count)
  }
  return next
}

/** No record arrived later, in ms. */
export function lastArrivalMs(schema: StreamSchema, blocks: readonly LiveBlock[]): number {
  let last = schema.arrivalMs
  for (const { extent } of blocks) if (extent !== null) last = Math.max(last, decodeExtent(extent).arrivalMaxMs)
  return last
}
