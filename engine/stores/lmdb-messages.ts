// What the main thread and the storage thread say to each other; entries travel packed, several batches to a message.
import type { ErrorMessage } from '../errors.js'
import type { Batch } from './store.js'

export interface ThreadOptions {
  readonly folder: string
  /** The last owner did not end properly: walk through the file before opening it. */
  readonly checkFirst: boolean
  readonly mapByteLength: number
  readonly reserveByteLength: number
  readonly shared: SharedArrayBuffer | null
  readonly faults: SharedArrayBuffer | null
}

/** Bytes of the data file, and of those the bytes of pages that hold something; the rest is free to be written again. */
export interface FileSpace {
  readonly fileByteLength: number
  readonly usedByteLength: number
}

export type ToThread =
  | { readonly kind: 'commit'; readonly batchCount: number; readonly packed: Uint8Array }
  | { readonly kind: 'read'; readonly id: number; readonly packed: Uint8Array }
  | {
      readonly kind: 'scan'
      readonly id: number
      readonly start: Uint8Array
      readonly end: Uint8Array
      readonly reverse: boolean
      readonly limit: number
      readonly byteLengthMax: number
      readonly keysOnly: boolean
    }
  | { readonly kind: 'partitions'; readonly id: number; readonly prefix: string }
  | { readonly kind: 'dropStep'; readonly id: number; readonly partition: string }
  | { readonly kind: 'space'; readonly id: number }
  | { readonly kind: 'compactFile'; readonly id: number }
  | { readonly kind: 'close' }

export type FromThread =
  | { readonly kind: 'opened'; readonly path: string }
  | { readonly kind: 'openFailed'; readonly error: ErrorMessage }
  /** The data is in another file now; commits that are reported after this are only in that one. */
  | { readonly kind: 'moved'; readonly path: string }
  /** The outcome of the oldest commits under way, in their order; those without an error are durable. */
  | {
      readonly kind: 'committed'
      readonly batchCount: number
      readonly errors: readonly { readonly index: number; readonly error: ErrorMessage }[]
    }
  | { readonly kind: 'answer'; readonly id: number; readonly value: unknown }
  | { readonly kind: 'failed'; readonly id: number; readonly error: ErrorMessage }

/** A partition's keys are its name, 0x00 and the key; the names of all keys of a database sort as the names do. */
export function storedKey(partition: string, key: Uint8Array): Uint8Array {
  const bytes = Buffer.allocUnsafe(partition.length + 1 + key.byteLength)
  bytes.write(partition, 'latin1')
  bytes[partition.length] = 0
  bytes.set(key, partition.length + 1)
  return bytes
}

/** The first key that sorts behind all keys of a partition. */
export function partitionEnd(partition: string): Uint8Array {
  return Buffer.from(`${partition}\x01`, 'latin1')
}

/*
 * Packed batches, all numbers u32 little endian:
 *
 *   batch  | flags | name length | expects | puts | deletes | name | records ...
 *   record | key length | value length | place | key | value, if it is inline |
 *
 * A key here has its partition's name before it. `place` says where the value is: inline, nowhere (null), or its byte
 * offset in the shared memory, from where the storage thread copies it.
 */
const batchHeaderByteLength = 20
const recordHeaderByteLength = 12
const makesRoomFlag = 1
const inline = 0xffff_ffff
const absent = 0xffff_fffe

/** Bytes of a batch that travel or that the storage thread copies: what bounds the queue. */
export function batchByteLength(batch: Batch): number {
  let byteLength = batchHeaderByteLength + batch.partition.length
  for (const { key, value } of batch.expect ?? []) {
    byteLength += recordByteLength(batch.partition, key) + (value?.byteLength ?? 0)
  }
  for (const { key, value } of batch.puts) byteLength += recordByteLength(batch.partition, key) + value.byteLength
  for (const key of batch.deletes ?? []) byteLength += recordByteLength(batch.partition, key)
  return byteLength
}

function recordByteLength(partition: string, key: Uint8Array): number {
  return recordHeaderByteLength + partition.length + 1 + key.byteLength
}

/** Batches as one buffer of their own; values that are views of `shared` stay where they are. */
export function packBatches(batches: readonly Batch[], shared: ArrayBufferLike | null): Uint8Array<ArrayBuffer> {
  let byteLength = 0
  for (const batch of batches) {
    byteLength += batchByteLength(batch)
    if (shared === null) continue
    for (const { value } of batch.expect ?? []) if (value?.buffer === shared) byteLength -= value.byteLength
    for (const { value } of batch.puts) if (value.buffer === shared) byteLength -= value.byteLength
  }
  const packed = Buffer.from(new ArrayBuffer(byteLength))
  let offset = 0

  const writeRecord = (partition: string, key: Uint8Array, value: Uint8Array | null) => {
    const isShared = value !== null && value.buffer === shared
    packed.writeUInt32LE(partition.length + 1 + key.byteLength, offset)
    packed.writeUInt32LE(value?.byteLength ?? 0, offset + 4)
    packed.writeUInt32LE(value === null ? absent : isShared ? value.byteOffset : inline, offset + 8)
    offset += recordHeaderByteLength
    offset += packed.write(partition, offset, 'latin1')
    packed[offset++] = 0
    packed.set(key, offset)
    offset += key.byteLength
    if (value === null || isShared) return
    packed.set(value, offset)
    offset += value.byteLength
  }

  for (const { partition, expect = [], puts, deletes = [], makesRoom = puts.length === 0 } of batches) {
    packed.writeUInt32LE(makesRoom ? makesRoomFlag : 0, offset)
    packed.writeUInt32LE(partition.length, offset + 4)
    packed.writeUInt32LE(expect.length, offset + 8)
    packed.writeUInt32LE(puts.length, offset + 12)
    packed.writeUInt32LE(deletes.length, offset + 16)
    offset += batchHeaderByteLength
    offset += packed.write(partition, offset, 'latin1')
    for (const { key, value } of expect) writeRecord(partition, key, value)
    for (const { key, value } of puts) writeRecord(partition, key, value)
    for (const key of deletes) writeRecord(partition, key, null)
  }
  return packed
}

export interface PackedRecord {
  readonly key: Buffer
  /** Null: nowhere. A value in shared memory is a view of it. */
  readonly value: Uint8Array | null
}

export interface PackedBatch {
  readonly partition: string
  readonly makesRoom: boolean
  /** Keys and values, to be held against the free space and the size of a transaction. */
  readonly byteLength: number
  readonly expect: readonly PackedRecord[]
  readonly puts: readonly { readonly key: Buffer; readonly value: Uint8Array }[]
  readonly deletes: readonly Buffer[]
}

/** The batches of one message; keys and inline values are views of it. */
export function unpackBatches(
  message: Uint8Array,
  batchCount: number,
  shared: SharedArrayBuffer | null,
): PackedBatch[] {
  const packed = Buffer.from(message.buffer, message.byteOffset, message.byteLength)
  let offset = 0
  let byteLength = 0

  const readRecord = (): PackedRecord => {
    const keyEnd = offset + recordHeaderByteLength + packed.readUInt32LE(offset)
    const valueByteLength = packed.readUInt32LE(offset + 4)
    const place = packed.readUInt32LE(offset + 8)
    const key = packed.subarray(offset + recordHeaderByteLength, keyEnd)
    offset = keyEnd
    byteLength += key.byteLength + valueByteLength
    if (place === absent) return { key, value: null }
    if (place !== inline) return { key, value: new Uint8Array(shared!, place, valueByteLength) }
    offset += valueByteLength
    return { key, value: packed.subarray(keyEnd, offset) }
  }
  const readRecords = (count: number) => Array.from({ length: count }, readRecord)

  return Array.from({ length: batchCount }, (): PackedBatch => {
    const [flags, nameLength, expectCount, putCount, deleteCount] = [0, 4, 8, 12, 16].map((at) =>
      packed.readUInt32LE(offset + at),
    )
    offset += batchHeaderByteLength
    const partition = packed.toString('latin1', offset, offset + nameLength)
    offset += nameLength
    byteLength = 0
    const expect = readRecords(expectCount)
    byteLength = 0 // what is only compared is not written
    const puts = readRecords(putCount) as { key: Buffer; value: Uint8Array }[]
    const deletes = readRecords(deleteCount).map(({ key }) => key)
    return { partition, makesRoom: (flags & makesRoomFlag) !== 0, byteLength, expect, puts, deletes }
  })
}

/** Byte strings and nulls as one buffer: for each its length (u32, `absent` for null), then its bytes. */
export function packList(items: readonly (Uint8Array | null)[]): Uint8Array<ArrayBuffer> {
  let byteLength = 0
  for (const item of items) byteLength += 4 + (item?.byteLength ?? 0)
  const packed = Buffer.from(new ArrayBuffer(byteLength))
  let offset = 0
  for (const item of items) {
    offset = packed.writeUInt32LE(item?.byteLength ?? absent, offset)
    if (item === null) continue
    packed.set(item, offset)
    offset += item.byteLength
  }
  return packed
}

/** The items of a list, as views of it. */
export function unpackList(list: Uint8Array): (Uint8Array | null)[] {
  const packed = Buffer.from(list.buffer, list.byteOffset, list.byteLength)
  const items: (Uint8Array | null)[] = []
  let offset = 0
  while (offset < packed.byteLength) {
    const byteLength = packed.readUInt32LE(offset)
    offset += 4
    if (byteLength === absent) items.push(null)
    else items.push(new Uint8Array(packed.buffer, packed.byteOffset + offset, byteLength))
    if (byteLength !== absent) offset += byteLength
  }
  return items
}
