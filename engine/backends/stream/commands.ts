// The commands of a stream: records put one by one or many at once, consumer groups, and what there is to know of shards.
import { FramesError, shortened } from '../../errors.js'
import type { Value } from '../../frame/dtype.js'
import type { PlainFrame } from '../../frame/plain.js'
import { recordByteLengthMax, streamShardCountMax } from '../../limits.js'
import type { ExecuteRequest } from '../../requests.js'
import type { BackendParts } from '../backend.js'
import type { PutRecord } from './append.js'
import { AppendSession } from './appender.js'
import { noRows } from '../../blocks/table.js'
import { decodeExtent, nsPerMs } from './pieces.js'
import { encodeSchema } from './schema.js'
import type { StreamTable } from './table.js'

type Argument = Value | readonly Value[]
type Arguments = Readonly<Record<string, Argument>>
type Command = (table: StreamTable, args: Arguments, parts: BackendParts) => Promise<PlainFrame | null>

const commands: ReadonlyMap<string, Command> = new Map<string, Command>([
  ['put', put],
  ['put_many', putMany],
  ['commit', commitPosition],
  ['offsets', offsets],
  ['describe', describe],
  ['add_shards', addShards],
  ['flush', flush],
  ['compact', compact],
])

/** The command of a request, and its arguments checked as far as they go without the stream. Throws INVALID_ARGUMENT. */
export function commandOf(
  request: ExecuteRequest,
): (table: StreamTable, parts: BackendParts) => Promise<PlainFrame | null> {
  const name = request.command.trim().toLowerCase()
  const command = commands.get(name)
  if (command === undefined) {
    throw new FramesError(
      'INVALID_ARGUMENT',
      `streaming backend doesn't support execute command '${shortened(request.command)}'; it has ${[...commands.keys()].join(', ')}`,
    )
  }
  const args = request.args ?? {}
  if (name === 'put') requiredData(request)
  return (table, parts) => command(table, args, parts)
}

function requiredData({ table, args }: Pick<ExecuteRequest, 'table' | 'args'>): string {
  const data = args?.['data']
  if (table === '' || typeof data !== 'string') {
    throw new FramesError(
      'INVALID_ARGUMENT',
      "missing a required parameter - 'table' (stream name) and/or 'data' argument (record data)",
    )
  }
  return data
}

/** A text under one of its names: the first that is given counts. */
function optionalText(args: Arguments, ...names: readonly string[]): string | null {
  for (const name of names) {
    const value = args[name]
    if (value === undefined) continue
    if (typeof value !== 'string') throw new FramesError('INVALID_ARGUMENT', `argument '${name}' must be a string`)
    return value
  }
  return null
}

function requiredText(args: Arguments, name: string): string {
  const value = optionalText(args, name)
  if (value === null) throw new FramesError('INVALID_ARGUMENT', `missing a required parameter - '${name}'`)
  return value
}

/** A whole number of 0 or more, as a number or as text of digits. */
function requiredCount(args: Arguments, ...names: readonly string[]): number {
  for (const name of names) {
    const value = args[name]
    if (value === undefined) continue
    const number = typeof value === 'bigint' || typeof value === 'number' ? Number(value) : digitsOf(value)
    if (number !== null && Number.isSafeInteger(number) && number >= 0) return number
    throw new FramesError('INVALID_ARGUMENT', `argument '${name}' must be a whole number of 0 or more`)
  }
  throw new FramesError('INVALID_ARGUMENT', `missing a required parameter - '${names[0]}'`)
}

function digitsOf(value: Argument): number | null {
  return typeof value === 'string' && /^[0-9]{1,15}$/.test(value) ? Number(value) : null
}

function checkRecord(data: string): void {
  const byteLength = Buffer.byteLength(data)
  if (byteLength > recordByteLengthMax) {
    const what = `a record has ${byteLength} bytes; at most ${recordByteLengthMax} are possible`
    throw new FramesError('FRAME_TOO_LARGE', what)
  }
}

// ---- records ---------------------------------------------------------------------------------------------------------

async function put(table: StreamTable, args: Arguments): Promise<PlainFrame> {
  const record: PutRecord = {
    data: requiredData({ table: 'known', args }),
    clientInfo: optionalText(args, 'client_info', 'clientinfo'),
    partitionKey: optionalText(args, 'partition_key', 'partition'),
  }
  return store(table, [record])
}

/**
 * data: a JSON array; a string in it is a record of that text, anything else one of its JSON text. Embedded callers may
 * give the texts themselves. One commit.
 */
async function putMany(table: StreamTable, args: Arguments): Promise<PlainFrame> {
  const texts = textsOf(args, 'data') ?? recordTexts(requiredData({ table: 'known', args }))
  const clientInfo = optionalText(args, 'client_info', 'clientinfo')
  const partitionKey = optionalText(args, 'partition_key', 'partition')
  const keys = textsOf(args, 'partition_keys')
  const keysText = keys === null ? optionalText(args, 'partition_keys') : null
  const partitionKeys = keysText === null ? keys : recordTexts(keysText)
  if (partitionKeys !== null && partitionKeys.length !== texts.length) {
    const what = `'partition_keys' has ${partitionKeys.length} keys for ${texts.length} records`
    throw new FramesError('INVALID_ARGUMENT', what)
  }
  return store(
    table,
    texts.map((data, i) => ({ data, clientInfo, partitionKey: partitionKeys?.[i] ?? partitionKey })),
  )
}

/** An argument that is a list of texts, or null. */
function textsOf(args: Arguments, name: string): readonly string[] | null {
  const value = args[name]
  if (!Array.isArray(value)) return null
  return value.map((text: unknown) => {
    if (typeof text !== 'string')
      throw new FramesError('INVALID_ARGUMENT', `argument '${name}' must be a list of texts`)
    return text
  })
}

/** Elements of a JSON array: strings as they are, the rest as JSON text. */
function recordTexts(text: string): string[] {
  let parsed: unknown
  try {
    parsed = JSON.parse(text)
  } catch (cause) {
    throw new FramesError('INVALID_ARGUMENT', "'data' of put_many is not JSON", { cause })
  }
  if (!Array.isArray(parsed)) throw new FramesError('INVALID_ARGUMENT', "'data' of put_many is not a JSON array")
  return elementTexts(text).map((element) => (element.startsWith('"') ? (JSON.parse(element) as string) : element))
}

/** The texts of the elements of a well-formed JSON array: parsing and printing would round large integers. */
function elementTexts(text: string): string[] {
  const elements: string[] = []
  let depth = 0
  let start = 0
  for (let at = 0; at < text.length; at++) {
    const unit = text[at]
    if (unit === '"') {
      for (at++; text[at] !== '"'; at++) if (text[at] === '\\') at++
    } else if (unit === '[' || unit === '{') {
      if (++depth === 1) start = at + 1
    } else if (unit === ']' || unit === '}') {
      if (--depth === 0) elements.push(text.slice(start, at).trim())
    } else if (unit === ',' && depth === 1) {
      elements.push(text.slice(start, at).trim())
      start = at + 1
    }
  }
  return elements.length === 1 && elements[0] === '' ? [] : elements
}

async function store(table: StreamTable, records: readonly PutRecord[]): Promise<PlainFrame> {
  let byteLength = 0
  for (const { data } of records) {
    checkRecord(data)
    byteLength += 2 * data.length + 64
  }
  const { places } = await table.appender.append(new AppendSession(), { format: 'records', records }, byteLength)
  return {
    columns: [
      { name: 'shard_id', dtype: 'int64', values: Array.from(places?.shards ?? [], BigInt) },
      { name: 'seq_number', dtype: 'int64', values: Array.from(places?.sequences ?? [], BigInt) },
    ],
  }
}

// ---- consumer groups -------------------------------------------------------------------------------------------------

async function commitPosition(table: StreamTable, args: Arguments): Promise<null> {
  const group = requiredText(args, 'group')
  const shard = requiredCount(args, 'shard_id', 'shard')
  const sequence = requiredCount(args, 'sequence', 'seq_number')
  if (shard >= table.shardCount) {
    throw new FramesError('SHARD_NOT_FOUND', `there is no shard ${shard}; the stream has ${table.shardCount}`)
  }
  const last = table.appender.nextSequences[shard]! - 1
  if (sequence > last) {
    const what = `group '${shortened(group)}' cannot have read record ${sequence} of shard ${shard}, whose last one is ${last}`
    throw new FramesError('INVALID_ARGUMENT', what)
  }
  await table.groups.commit(group, shard, sequence)
  return null
}

/** One row a shard; 0 where the group has committed nothing. */
async function offsets(table: StreamTable, args: Arguments): Promise<PlainFrame> {
  const positions = table.groups.of(requiredText(args, 'group'))
  const { nextSequences } = table.appender
  const shards = table.schema.shards.map(({ first }, shard) => {
    const sequence = positions.get(shard) ?? 0
    return { shard, sequence, lag: Math.max(0, nextSequences[shard]! - Math.max(sequence + 1, first)) }
  })
  return {
    columns: [
      { name: 'shard_id', dtype: 'int64', values: shards.map(({ shard }) => BigInt(shard)) },
      { name: 'sequence', dtype: 'int64', values: shards.map(({ sequence }) => BigInt(sequence)) },
      { name: 'lag', dtype: 'int64', values: shards.map(({ lag }) => BigInt(lag)) },
    ],
  }
}

// ---- shards ----------------------------------------------------------------------------------------------------------

async function describe(table: StreamTable): Promise<PlainFrame> {
  const { schema, appender, blocks } = table
  const { retentionHours, retentionByteLength, shards } = schema
  const byteLengths = new Float64Array(shards.length)
  for (const { extent, byteLength, rowCount } of blocks.blocks) {
    if (extent === null) continue
    for (const { shard, count } of decodeExtent(extent).shards) byteLengths[shard]! += (byteLength * count) / rowCount
  }
  const column = (name: string, value: (shard: number) => number) => ({
    name,
    dtype: 'int64' as const,
    values: shards.map((_, shard) => BigInt(Math.round(value(shard)))),
  })
  return {
    columns: [
      column('shard_id', (shard) => shard),
      column('first_sequence', (shard) => shards[shard]!.first),
      column('last_sequence', (shard) => appender.nextSequences[shard]! - 1),
      column('record_count', (shard) => appender.nextSequences[shard]! - shards[shard]!.first),
      column('bytes', (shard) => byteLengths[shard]!),
      column('retention_hours', () => retentionHours),
      column('retention_bytes', () => retentionByteLength),
      {
        name: 'created_time',
        dtype: 'time',
        values: shards.map(({ createdMs }) => BigInt(createdMs) * nsPerMs),
      },
    ],
  }
}

/** shards: how many there are afterwards. Keys stay in their shards or move to new ones. */
async function addShards(table: StreamTable, args: Arguments, { nowMs }: BackendParts): Promise<null> {
  const shardCount = requiredCount(args, 'shards')
  await table.turn.run(async () => {
    await table.appender.exclusively(async () => {
      const { schema } = table
      if (shardCount < schema.shards.length) {
        const what = `the stream has ${schema.shards.length} shards already, and none can be taken away`
        throw new FramesError('INVALID_ARGUMENT', what)
      }
      if (shardCount > streamShardCountMax)
        throw new FramesError(
          'INVALID_ARGUMENT',
          `a stream of ${shardCount} shards is not possible; at most ${streamShardCountMax} are`,
        )
      if (shardCount === schema.shards.length) return
      const added = Array.from({ length: shardCount - schema.shards.length }, () => ({
        first: 1,
        next: 1,
        createdMs: Math.floor(nowMs()),
      }))
      await table.blocks.commitRows(noRows, {
        schema: encodeSchema({ ...schema, shards: [...schema.shards, ...added] }),
      })
      table.appender.addShards()
    })
  })
  return null
}

async function flush(table: StreamTable): Promise<null> {
  await table.blocks.flush()
  return null
}

/** Drops what is due, merges what may be merged, and gives space back. */
async function compact(table: StreamTable, _args: Arguments, { shrinkStore }: BackendParts): Promise<null> {
  await table.retention.run()
  await table.blocks.compact()
  await table.blocks.erased()
  await shrinkStore()
  return null
}
