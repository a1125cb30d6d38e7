// Which records stand at which rows of a block: "pieces", each the records of one commit in one shard. And the extent that
// the live list keeps of them.
//
//   rows of a block, sorted by (shard, sequence)
//   ├── shard 0 ──────────────┼── shard 1 ───────┤
//   ├ commit 7 ┼─ commit 8 ───┼ 7 ┼── commit 8 ──┤   piece: first row, shard, first sequence, arrival time
//
// A commit has one arrival time, later than that of every commit before it, so the time tells the commit.
import { pageScratchByteLength } from '../../blocks/builder.js'
import type { Extent } from '../../blocks/live-block.js'
import type { BlockReader } from '../../blocks/reader.js'
import type { Kernels } from '../../kernels/kernels.js'
import { pageRowCountMax } from '../../limits.js'
import type { Scratch } from '../../memory/scratch.js'

/** Parallel arrays, one element a piece; rows of piece i are [rows[i], rows[i + 1]). */
export interface Pieces {
  readonly count: number
  /** count + 1 elements, the last one the number of rows. */
  readonly rows: Uint32Array
  readonly shards: Uint32Array
  /** Sequence number of the first record. */
  readonly sequences: Float64Array
  /** Nanoseconds since 1970 UTC. */
  readonly arrivals: BigInt64Array
}

/** Collects pieces; neighbours that are one are joined. */
export class PiecesBuilder {
  readonly #rows: number[] = []
  readonly #shards: number[] = []
  readonly #sequences: number[] = []
  readonly #arrivals: bigint[] = []
  rowCount = 0

  get count(): number {
    return this.#rows.length
  }

  add(piece: { shard: number; sequence: number; arrivalNs: bigint; rowCount: number }): void {
    const { shard, sequence, arrivalNs, rowCount } = piece
    if (rowCount === 0) return
    const last = this.#rows.length - 1
    const isSame = last >= 0 && this.#shards[last] === shard && this.#arrivals[last] === arrivalNs
    if (!isSame || this.#sequences[last]! + this.rowCount - this.#rows[last]! !== sequence) {
      this.#rows.push(this.rowCount)
      this.#shards.push(shard)
      this.#sequences.push(sequence)
      this.#arrivals.push(arrivalNs)
    }
    this.rowCount += rowCount
  }

  finish(): Pieces {
    return {
      count: this.#rows.length,
      rows: Uint32Array.from([...this.#rows, this.rowCount]),
      shards: Uint32Array.from(this.#shards),
      sequences: Float64Array.from(this.#sequences),
      arrivals: BigInt64Array.from(this.#arrivals),
    }
  }
}

/** The pieces of rows [rowStart, rowEnd), with rows counted from rowStart. */
export function slicePieces(pieces: Pieces, rowStart: number, rowEnd: number): Pieces {
  if (rowStart === 0 && rowEnd === pieces.rows[pieces.count]) return pieces
  const builder = new PiecesBuilder()
  for (let piece = pieceAt(pieces, rowStart); piece < pieces.count && pieces.rows[piece]! < rowEnd; piece++) {
    const start = Math.max(rowStart, pieces.rows[piece]!)
    builder.add({
      shard: pieces.shards[piece]!,
      sequence: pieces.sequences[piece]! + start - pieces.rows[piece]!,
      arrivalNs: pieces.arrivals[piece]!,
      rowCount: Math.min(rowEnd, pieces.rows[piece + 1]!) - start,
    })
  }
  return builder.finish()
}

/** The piece that holds a row. */
export function pieceAt(pieces: Pieces, row: number): number {
  let low = 0
  let high = pieces.count - 1
  while (low < high) {
    const middle = (low + high + 1) >>> 1
    if (pieces.rows[middle]! <= row) low = middle
    else high = middle - 1
  }
  return low
}

/** First piece in [start, end) for which `isBehind` holds (it must hold for all after it), or end. */
export function firstPiece(start: number, end: number, isBehind: (piece: number) => boolean): number {
  let low = start
  let high = end
  while (low < high) {
    const middle = (low + high) >>> 1
    if (isBehind(middle)) high = middle
    else low = middle + 1
  }
  return low
}

/** Pieces of one encoded chunk of the directory. */
const chunkPieceCount = pageRowCountMax

/** u32 count, then for each 4096 pieces and each of rows, shards, sequences, arrivals: u32 length and an int64 page. */
export function encodePieces(kernels: Kernels, scratch: Scratch, pieces: Pieces): Uint8Array {
  const { call, u8, i64 } = kernels
  const mark = scratch.mark()
  const { count, rows, shards, sequences, arrivals } = pieces
  const chunkRowCount = Math.min(count, chunkPieceCount)
  const valuesPtr = scratch.allocate(8 * chunkRowCount)
  const targetPtr = scratch.allocate(call.maxEncodedInt64Page(chunkRowCount))
  const pageScratchPtr = scratch.allocate(pageScratchByteLength)
  const parts: Uint8Array[] = []
  let byteLength = 4
  for (let first = 0; first < count; first += chunkPieceCount) {
    const length = Math.min(chunkPieceCount, count - first)
    for (const values of [rows, shards, sequences, arrivals]) {
      for (let i = 0; i < length; i++) i64[(valuesPtr >> 3) + i] = BigInt(values[first + i]!)
      const encoded = call.encodeInt64Page(valuesPtr, length, targetPtr, pageScratchPtr)
      parts.push(u8.slice(targetPtr, targetPtr + encoded))
      byteLength += 4 + encoded
    }
  }
  scratch.release(mark)
  const bytes = new Uint8Array(byteLength)
  const view = new DataView(bytes.buffer)
  view.setUint32(0, count, true)
  let at = 4
  for (const part of parts) {
    view.setUint32(at, part.length, true)
    bytes.set(part, at + 4)
    at += 4 + part.length
  }
  return bytes
}

/** The pieces of an open block, decoded once a worker. Throws DATA_DAMAGED. */
export function piecesOf(reader: BlockReader): Pieces {
  const { kernels, scratch } = reader.io
  return reader.directory(
    (bytes) => {
      const { call, u8, i64 } = kernels
      const mark = scratch.mark()
      const pagePtr = scratch.allocate(bytes.length + 16)
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
      const count = view.getUint32(0, true)
      const valuesPtr = scratch.allocate(8 * Math.min(count, chunkPieceCount))
      u8.set(bytes, pagePtr)
      const rows = new Uint32Array(count + 1)
      const shards = new Uint32Array(count)
      const sequences = new Float64Array(count)
      const arrivals = new BigInt64Array(count)
      let at = 4
      for (let first = 0; first < count; first += chunkPieceCount) {
        const length = Math.min(chunkPieceCount, count - first)
        for (const values of [rows, shards, sequences, arrivals]) {
          const byteLength = view.getUint32(at, true)
          if (call.decodeInt64Page(pagePtr + at + 4, byteLength, length, valuesPtr) < 0) {
            throw reader.io.damaged(reader.source.id, 'its directory cannot be decoded')
          }
          const decoded = i64.subarray(valuesPtr >> 3, (valuesPtr >> 3) + length)
          if (values instanceof BigInt64Array) values.set(decoded, first)
          else for (let i = 0; i < length; i++) values[first + i] = Number(decoded[i]!)
          at += 4 + byteLength
        }
      }
      rows[count] = reader.layout.rowCount
      scratch.release(mark)
      return { count, rows, shards, sequences, arrivals }
    },
    ({ rows, shards, sequences, arrivals }) => [rows, shards, sequences, arrivals],
  )
}

/** The records of one shard in a block: sequences [first, first + count). */
export interface ShardRange {
  readonly shard: number
  readonly first: number
  readonly count: number
}

/** What the live list knows of a block: earliest and latest arrival (ms, floored and rounded up), and its shards in order. */
export interface StreamExtent {
  readonly arrivalMinMs: number
  readonly arrivalMaxMs: number
  readonly shards: readonly ShardRange[]
}

export function encodeExtent(pieces: Pieces): Extent {
  let min = pieces.arrivals[0]!
  let max = min
  const numbers: number[] = []
  for (let piece = 0; piece < pieces.count; piece++) {
    const arrival = pieces.arrivals[piece]!
    if (arrival < min) min = arrival
    if (arrival > max) max = arrival
    const shard = pieces.shards[piece]!
    const rowCount = pieces.rows[piece + 1]! - pieces.rows[piece]!
    if (numbers.length > 0 && numbers[numbers.length - 3] === shard) numbers[numbers.length - 1]! += rowCount
    else numbers.push(shard, pieces.sequences[piece]!, rowCount)
  }
  return [floorMs(min), ceilMs(max), ...numbers]
}

export function decodeExtent(extent: Extent): StreamExtent {
  const [arrivalMinMs, arrivalMaxMs] = extent as [number, number]
  const shards: ShardRange[] = []
  for (let i = 2; i + 2 < extent.length; i += 3)
    shards.push({ shard: extent[i]!, first: extent[i + 1]!, count: extent[i + 2]! })
  return { arrivalMinMs, arrivalMaxMs, shards }
}

/** The range of one shard in an extent, without making the others; null when it has none. */
export function shardRange(extent: Extent, shard: number): ShardRange | null {
  for (let i = 2; i + 2 < extent.length; i += 3)
    if (extent[i] === shard) return { shard, first: extent[i + 1]!, count: extent[i + 2]! }
  return null
}

export const nsPerMs = 1_000_000n

/** A time floored to milliseconds. Arrival times are never negative. */
export function floorMs(timeNs: bigint): number {
  return Number(timeNs / nsPerMs)
}

function ceilMs(timeNs: bigint): number {
  return Number((timeNs + nsPerMs - 1n) / nsPerMs)
}
