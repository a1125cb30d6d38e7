// Dead rows: those that were replaced or deleted since their block was written. A block never changes; its dead rows are a
// bitmap beside it, and a commit names the rows that die with it.
import { FramesError } from '../errors.js'
import type { Region } from '../memory/region.js'
import type { Slice } from '../memory/slice.js'
import { alignUp8 } from './block.js'

/** The dead rows of one block at one moment; never changed, a commit that kills more makes another one. */
export interface DeadRows {
  /** At least 1. */
  readonly count: number
  /** ceil(rowCount / 8) bytes or some more, row 0 is the lowest bit, 1 = dead; bits past the last row are 0. */
  readonly bits: Slice | Uint8Array
}

/** Rows that die with a commit: ascending rows of a block that is live. Rows that are dead already may be among them. */
export interface Kill {
  readonly blockId: bigint
  readonly rows: Uint32Array
}

/** Bitmaps up to this long travel with jobs: a slice of the shared memory is 64 KiB at least. */
const travellingByteLengthMax = 1024

export function deadByteLength(rowCount: number): number {
  return alignUp8(Math.ceil(rowCount / 8))
}

/** The bytes of a bitmap, as a view. */
export function deadBytes(memory: Uint8Array, { bits }: DeadRows): Uint8Array {
  return bits instanceof Uint8Array ? bits : memory.subarray(bits.byteOffset, bits.byteOffset + bits.byteLength)
}

/** A bitmap in its final place: in the region when it is large and there is room. */
export function placeDead(region: Region, memory: Uint8Array, bitmap: Uint8Array, count: number): DeadRows {
  const slice = bitmap.length > travellingByteLengthMax ? region.tryAllocate(bitmap.length) : null
  if (slice === null) return { count, bits: bitmap }
  memory.set(bitmap, slice.byteOffset)
  return { count, bits: { byteOffset: slice.byteOffset, byteLength: slice.byteLength } }
}

/** The dead rows of a block of rowCount rows after `rows` have died, too, in their final place; null: all of them were dead. */
export function deadAfter(
  region: Region,
  memory: Uint8Array,
  before: DeadRows | null,
  rowCount: number,
  rows: Uint32Array,
): DeadRows | null {
  const byteLength = deadByteLength(rowCount)
  const slice = byteLength > travellingByteLengthMax ? region.tryAllocate(byteLength) : null
  let bitmap: Uint8Array
  if (slice === null) bitmap = copyDead(memory, before, rowCount)
  else {
    // Not by way of an array of this thread: single updates kill rows of as many blocks as they have items.
    bitmap = memory.subarray(slice.byteOffset, slice.byteOffset + byteLength)
    if (before === null) bitmap.fill(0)
    else bitmap.set(deadBytes(memory, before).subarray(0, byteLength))
  }
  const count = killRows(bitmap, rows)
  if (count > 0) return { count: (before?.count ?? 0) + count, bits: slice ?? bitmap }
  if (slice !== null) region.free(slice)
  return null
}

export function freeDead(region: Region, dead: DeadRows | null): void {
  if (dead !== null && !(dead.bits instanceof Uint8Array)) region.free(dead.bits)
}

/** A changeable bitmap for a block of rowCount rows, with the bits of `dead`. */
export function copyDead(memory: Uint8Array, dead: DeadRows | null, rowCount: number): Uint8Array {
  const bitmap = new Uint8Array(deadByteLength(rowCount))
  if (dead !== null) bitmap.set(deadBytes(memory, dead).subarray(0, bitmap.length))
  return bitmap
}

/** Sets the bits of rows; returns how many were not set before. */
export function killRows(bitmap: Uint8Array, rows: Uint32Array): number {
  let count = 0
  for (const row of rows) {
    const bit = 1 << (row & 7)
    const byte = bitmap[row >> 3]!
    if ((byte & bit) !== 0) continue
    bitmap[row >> 3] = byte | bit
    count++
  }
  return count
}

export function countDead(bitmap: Uint8Array): number {
  let count = 0
  for (let byte of bitmap) for (; byte !== 0; byte &= byte - 1) count++
  return count
}

// ---- stored forms ---------------------------------------------------------------------------------------------------
//
// Row lists: varint count, then the first row and the gaps behind it as varints (LEB128).

/** What a list of rows speaks of: whole rows. Other numbers are left for single columns. */
const wholeRows = 0
const bitmapForm = 0
const listForm = 1

/** Payload of the kills of one commit: for each block u64 number, u8 0 (whole rows), list of rows. */
export function encodeKills(kills: readonly Kill[]): Uint8Array {
  let byteLengthMax = 0
  for (const { rows } of kills) byteLengthMax += 9 + 5 * (rows.length + 1)
  const bytes = new Uint8Array(byteLengthMax)
  const view = new DataView(bytes.buffer)
  let at = 0
  for (const { blockId, rows } of kills) {
    view.setBigUint64(at, blockId)
    bytes[at + 8] = wholeRows
    at = encodeRows(bytes, at + 9, rows)
  }
  return bytes.subarray(0, at)
}

/** Throws FORMAT_VERSION when rows die in a way that this framesd does not know. */
export function decodeKills(payload: Uint8Array): Kill[] {
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength)
  const kills: Kill[] = []
  const place = { at: 0 }
  while (place.at < payload.length) {
    const blockId = view.getBigUint64(place.at)
    if (payload[place.at + 8] !== wholeRows) throw unknownForm()
    place.at += 9
    kills.push({ blockId, rows: decodeRows(payload, place) })
  }
  return kills
}

/** Payload of a block's dead rows: u8 0 and the bitmap, or u8 1 and the list of rows, whichever is shorter. */
export function encodeDead(bitmap: Uint8Array, count: number): Uint8Array {
  // A row costs two bytes where gaps are below 16384.
  if (count * 2 < bitmap.length) {
    const rows = new Uint32Array(count)
    let next = 0
    bitmap.forEach((byte, i) => {
      for (let bits = byte; bits !== 0; bits &= bits - 1) rows[next++] = 8 * i + 31 - Math.clz32(bits & -bits)
    })
    const bytes = new Uint8Array(1 + 5 * (count + 1))
    bytes[0] = listForm
    const end = encodeRows(bytes, 1, rows)
    if (end <= bitmap.length) return bytes.subarray(0, end)
  }
  const bytes = new Uint8Array(1 + bitmap.length)
  bytes[0] = bitmapForm
  bytes.set(bitmap, 1)
  return bytes
}

/** A bitmap of deadByteLength(rowCount) bytes. Throws FORMAT_VERSION. */
export function decodeDead(payload: Uint8Array, rowCount: number): Uint8Array {
  const bitmap = new Uint8Array(deadByteLength(rowCount))
  if (payload[0] === bitmapForm) bitmap.set(payload.subarray(1, 1 + bitmap.length))
  else if (payload[0] === listForm) killRows(bitmap, rowsBelow(decodeRows(payload, { at: 1 }), rowCount))
  else throw unknownForm()
  return bitmap
}

/** The rows that the block has: others are named where its header is lost and its number of rows with it. */
export function rowsBelow(rows: Uint32Array, rowCount: number): Uint32Array {
  const last = rows[rows.length - 1]
  return last === undefined || last < rowCount ? rows : rows.filter((row) => row < rowCount)
}

function unknownForm(): FramesError {
  return new FramesError('FORMAT_VERSION', 'dead rows are stored in a form that this framesd does not know')
}

function encodeRows(bytes: Uint8Array, start: number, rows: Uint32Array): number {
  let at = encodeVarint(bytes, start, rows.length)
  let next = 0
  for (const row of rows) {
    at = encodeVarint(bytes, at, row - next)
    next = row + 1
  }
  return at
}

function decodeRows(bytes: Uint8Array, place: { at: number }): Uint32Array {
  const rows = new Uint32Array(decodeVarint(bytes, place))
  let next = 0
  for (let i = 0; i < rows.length; i++) {
    rows[i] = next + decodeVarint(bytes, place)
    next = rows[i]! + 1
  }
  return rows
}

function encodeVarint(bytes: Uint8Array, start: number, value: number): number {
  let at = start
  let rest = value
  for (; rest >= 128; rest >>>= 7) bytes[at++] = (rest & 127) | 128
  bytes[at++] = rest
  return at
}

function decodeVarint(bytes: Uint8Array, place: { at: number }): number {
  let value = 0
  for (let shift = 0; shift < 35; shift += 7) {
    const byte = bytes[place.at++]!
    value += (byte & 127) * 2 ** shift
    if (byte < 128) break
  }
  return value
}
