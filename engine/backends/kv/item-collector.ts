// Gathers the wanted items of batches into the columns that a read shows, in the order in which they come or by name.
import type { ColumnSlice, FrameLabel, FrameSlice } from '../../frame/column-slice.js'
import type { Kernels } from '../../kernels/kernels.js'
import type { Scratch } from '../../memory/scratch.js'
import type { ItemBatch } from './item-batch.js'
import { nameColumn } from './item-columns.js'
import { foldersOf, type ItemKey } from './item-keys.js'
import type { Match } from './match.js'
import type { ReadShape, ShapeColumn } from './read-shape.js'
import { showColumn } from './show-column.js'

interface TextPiece {
  readonly row: number
  readonly rowCount: number
  readonly offsetsPtr: number
  readonly bytesPtr: number
  readonly byteLength: number
}

interface Collected {
  readonly column: ShapeColumn
  /** 8-byte cells or bits; 0 for strings. */
  readonly valuesPtr: number
  readonly validityPtr: number
  pieces: TextPiece[]
}

/** Rows of one folder, as they were appended. */
interface FolderPiece {
  readonly folder: string
  /** Whose rows they are: within one block they are in order. */
  readonly block: bigint
  readonly rowStart: number
  readonly rowEnd: number
}

/** A place to roll back to. */
export interface CollectorState {
  readonly rowCount: number
  readonly textByteLength: number
  readonly mark: number
  readonly folderPieceCount: number
}

const hiddenName: ShapeColumn = { name: nameColumn, from: 'name', dtype: 'string', nameText: null }
const utf8Decoder = new TextDecoder()

function bitmapByteLength(rowCount: number): number {
  return 8 * Math.ceil(rowCount / 64) + 16
}

export class ItemCollector {
  rowCount = 0
  /** Bytes of text so far. */
  textByteLength = 0
  readonly #columns: readonly Collected[]
  readonly #names: Collected | null
  #folderPieces: FolderPiece[] = []
  /** Where each row's text stands among those that were collected; null: as they came. */
  #permutationPtr = 0

  /**
   * capacity   rows that it takes at most
   * withNames  names and folders are kept, too: rows can be ordered, and the last one named
   */
  constructor(
    readonly kernels: Kernels,
    readonly scratch: Scratch,
    readonly shape: ReadShape,
    readonly capacity: number,
    readonly withNames: boolean,
  ) {
    const make = (column: ShapeColumn): Collected => ({
      column,
      validityPtr: scratch.allocate(bitmapByteLength(capacity)),
      valuesPtr:
        column.dtype === 'string'
          ? 0
          : scratch.allocate(column.dtype === 'bool' ? bitmapByteLength(capacity) : 8 * capacity),
      pieces: [],
    })
    this.#columns = shape.made.map(make)
    this.#names = withNames ? make(hiddenName) : null
  }

  /** Fixed bytes of one row, text apart. */
  static rowByteLength(shape: ReadShape): number {
    return shape.made.reduce(
      (sum, { dtype }) => sum + (dtype === 'bool' ? 0.25 : dtype === 'string' ? 4.125 : 8.125),
      4,
    )
  }

  state(): CollectorState {
    const { rowCount, textByteLength } = this
    return { rowCount, textByteLength, mark: this.scratch.mark(), folderPieceCount: this.#folderPieces.length }
  }

  /** Forgets all rows behind a state; those before it must not have been ordered since. */
  rollBack({ rowCount, textByteLength, mark, folderPieceCount }: CollectorState): void {
    this.rowCount = rowCount
    this.textByteLength = textByteLength
    this.scratch.release(mark)
    for (const collected of this.#all()) collected.pieces = collected.pieces.filter(({ row }) => row < rowCount)
    this.#folderPieces.length = folderPieceCount
  }

  *#all(): Generator<Collected> {
    yield* this.#columns
    if (this.#names !== null) yield this.#names
  }

  /**
   * Adds the rows of a match; they must fit. `temporary` is as before when it returns: it must not be the end from which
   * the batch takes what it decodes.
   */
  append(match: Match, temporary: Scratch): void {
    const { count } = match
    const mark = temporary.mark()
    const row = this.rowCount
    for (const collected of this.#all()) this.#appendColumn(collected, match, row, temporary)
    if (this.withNames) this.#noteFolders(match, row, temporary)
    temporary.release(mark)
    this.rowCount += count
  }

  #appendColumn(collected: Collected, match: Match, row: number, temporary: Scratch): void {
    const { call, u8 } = this.kernels
    const { column, valuesPtr, validityPtr } = collected
    const { batch, maskPtr, count } = match
    const slice = onlySlice(batch, column)
    const mark = temporary.mark()
    if (slice !== null && slice.dtype === column.dtype && column.dtype !== 'string') {
      // The usual case: no type but the one shown, and copied once.
      if (slice.validityPtr === 0) call.setBitRange(validityPtr, row, row + count, 1)
      else {
        const bitsPtr = temporary.allocate(bitmapByteLength(count))
        call.compactBits(slice.validityPtr, maskPtr, batch.rowCount, bitsPtr)
        call.copyBits(bitsPtr, 0, validityPtr, row, count)
      }
      const needsName = column.nameText !== null && slice.validityPtr !== 0
      if (!needsName) {
        if (column.dtype === 'bool') {
          const bitsPtr = temporary.allocate(bitmapByteLength(count))
          call.compactBits(slice.valuesPtr, maskPtr, batch.rowCount, bitsPtr)
          call.copyBits(bitsPtr, 0, valuesPtr, row, count)
        } else call.compact64(slice.valuesPtr, maskPtr, batch.rowCount, valuesPtr + 8 * row)
        temporary.release(mark)
        return
      }
    }
    const shown = showColumn(this.kernels, temporary, column, match)
    if (shown === null || shown.validityPtr !== 0) {
      if (shown === null) call.setBitRange(validityPtr, row, row + count, 0)
      else call.copyBits(shown.validityPtr, 0, validityPtr, row, count)
    } else call.setBitRange(validityPtr, row, row + count, 1)
    if (column.dtype === 'string') {
      if (shown !== null) this.#appendText(collected, shown, row)
    } else if (column.dtype === 'bool') {
      if (shown === null) call.setBitRange(valuesPtr, row, row + count, 0)
      else call.copyBits(shown.valuesPtr, 0, valuesPtr, row, count)
    } else if (shown === null) u8.fill(0, valuesPtr + 8 * row, valuesPtr + 8 * (row + count))
    else u8.copyWithin(valuesPtr + 8 * row, shown.valuesPtr, shown.valuesPtr + 8 * count)
    temporary.release(mark)
  }

  #appendText(collected: Collected, shown: ColumnSlice, row: number): void {
    const { u8 } = this.kernels
    const { rowCount, byteLength } = shown
    const offsetsPtr = this.scratch.allocate(4 * (rowCount + 1))
    const bytesPtr = this.scratch.allocate(byteLength)
    u8.copyWithin(offsetsPtr, shown.valuesPtr, shown.valuesPtr + 4 * (rowCount + 1))
    u8.copyWithin(bytesPtr, shown.bytesPtr, shown.bytesPtr + byteLength)
    collected.pieces.push({ row, rowCount, offsetsPtr, bytesPtr, byteLength })
    this.textByteLength += byteLength
  }

  /** Which of the new rows stand in which folder. */
  #noteFolders({ batch, maskPtr, count }: Match, row: number, temporary: Scratch): void {
    const { call } = this.kernels
    const folders = foldersOf(batch.reader)
    const block = batch.reader.source.id
    if (folders.length === 1) {
      this.#folderPieces.push({ folder: folders[0]!.folder, block, rowStart: row, rowEnd: row + count })
      return
    }
    let next = row
    for (const { folder, rowStart, rowEnd } of folders) {
      const start = Math.max(rowStart, batch.rowStart) - batch.rowStart
      const end = Math.min(rowEnd, batch.rowStart + batch.rowCount) - batch.rowStart
      if (end <= start) continue
      const mark = temporary.mark()
      const bitsPtr = temporary.allocate(bitmapByteLength(end - start))
      call.copyBits(maskPtr, start, bitsPtr, 0, end - start)
      const folderCount = call.countBits(bitsPtr, end - start)
      temporary.release(mark)
      if (folderCount === 0) continue
      this.#folderPieces.push({ folder, block, rowStart: next, rowEnd: next + folderCount })
      next += folderCount
    }
  }

  /** Orders the rows from `rowStart` on by folder and name; those before stay. Needs names. */
  order(rowStart: number, temporary: Scratch, compareFolders: (a: string, b: string) => number): void {
    const { call, u32 } = this.kernels
    const wholeMark = temporary.mark()
    const names = this.#text(this.#names!, temporary)
    const hadPermutation = this.#permutationPtr !== 0
    if (!hadPermutation) this.#permutationPtr = this.scratch.allocate(4 * this.capacity)
    const permutation = this.#permutationPtr >> 2
    if (!hadPermutation) for (let row = 0; row < rowStart; row++) u32[permutation + row] = row
    const pieces = this.#folderPieces.filter((piece) => piece.rowStart >= rowStart)
    const folders = [...new Set(pieces.map(({ folder }) => folder))].sort(compareFolders)
    const piecesOf = new Map<string, FolderPiece[]>(folders.map((folder) => [folder, []]))
    for (const piece of pieces) piecesOf.get(piece.folder)!.push(piece)
    let next = rowStart
    const ordered: FolderPiece[] = []
    for (const folder of folders) {
      const start = next
      const runEnds: number[] = []
      let block: bigint | null = null
      for (const piece of piecesOf.get(folder)!) {
        for (let row = piece.rowStart; row < piece.rowEnd; row++) u32[permutation + next++] = row
        if (piece.block === block) runEnds.pop()
        runEnds.push(next - start)
        block = piece.block
      }
      const mark = temporary.mark()
      const runEndsPtr = temporary.allocate(4 * runEnds.length)
      u32.set(runEnds, runEndsPtr >> 2)
      const mergePtr = temporary.allocate(call.mergeTextRunsScratchByteLength(next - start))
      const list = this.#permutationPtr + 4 * start
      call.mergeTextRuns(names.offsetsPtr, names.bytesPtr, list, runEndsPtr, runEnds.length, mergePtr)
      temporary.release(mark)
      ordered.push({ folder, block: 0n, rowStart: start, rowEnd: next })
    }
    this.#folderPieces = [...this.#folderPieces.filter((piece) => piece.rowStart < rowStart), ...ordered]
    temporary.release(wholeMark)
  }

  /** Rows that come later stand behind those that were ordered. */
  extendOrder(rowStart: number): void {
    if (this.#permutationPtr === 0) return
    const { u32 } = this.kernels
    const permutation = this.#permutationPtr >> 2
    for (let row = rowStart; row < this.rowCount; row++) u32[permutation + row] = row
  }

  /** Folder and name of the row that is shown at a place. Needs names. */
  keyAt(place: number): ItemKey {
    const { u8, u32 } = this.kernels
    const piece = this.#folderPieces.find(({ rowStart, rowEnd }) => rowStart <= place && place < rowEnd)!
    const row = this.#permutationPtr === 0 ? place : u32[(this.#permutationPtr >> 2) + place]!
    const text = this.#names!.pieces.find(
      (candidate) => candidate.row <= row && row < candidate.row + candidate.rowCount,
    )!
    const start = u32[(text.offsetsPtr >> 2) + row - text.row]!
    const end = u32[(text.offsetsPtr >> 2) + row - text.row + 1]!
    return { folder: piece.folder, name: utf8Decoder.decode(u8.slice(text.bytesPtr + start, text.bytesPtr + end)) }
  }

  /** All text of a column in one piece. */
  #text({ pieces }: Collected, scratch: Scratch): { offsetsPtr: number; bytesPtr: number; byteLength: number } {
    const { call, u32 } = this.kernels
    const [only] = pieces
    if (only !== undefined && pieces.length === 1 && only.row === 0 && only.rowCount === this.rowCount) return only
    const byteLength = pieces.reduce((sum, piece) => sum + piece.byteLength, 0)
    const offsetsPtr = scratch.allocate(4 * (this.rowCount + 1))
    const bytesPtr = scratch.allocate(byteLength)
    const offsets = offsetsPtr >> 2
    let end = 0
    let row = 0
    u32[offsets] = 0
    for (const piece of pieces) {
      u32.fill(end, offsets + row, offsets + piece.row + 1)
      end = call.copyStrings(
        piece.offsetsPtr,
        piece.bytesPtr,
        0,
        piece.rowCount,
        offsetsPtr + 4 * piece.row,
        end,
        bytesPtr,
      )
      row = piece.row + piece.rowCount
    }
    u32.fill(end, offsets + row, offsets + this.rowCount + 1)
    return { offsetsPtr, bytesPtr, byteLength }
  }

  /** The collected rows [0, rowCount) as columns in `output`, in order, named as in the shape. */
  finish(rowCount: number, output: Scratch): FrameSlice {
    const made = this.#columns.map((collected) => this.#finishColumn(collected, rowCount, output))
    const named = ({ name, index }: { name: string; index: number }): ColumnSlice => ({ ...made[index]!, name })
    return {
      rowCount,
      columns: this.shape.columns.map(named),
      indices: this.shape.indices.map(named),
      labels: noLabels,
    }
  }

  #finishColumn(collected: Collected, rowCount: number, output: Scratch): ColumnSlice {
    const { call } = this.kernels
    const { column } = collected
    const { dtype, name } = column
    const permutationPtr = this.#permutationPtr
    let { valuesPtr, validityPtr } = collected
    const isOrdered = permutationPtr !== 0
    if (isOrdered) {
      const bitsPtr = output.allocate(bitmapByteLength(rowCount))
      call.gatherBits(validityPtr, permutationPtr, rowCount, bitsPtr)
      validityPtr = bitsPtr
    }
    if (call.countBits(validityPtr, rowCount) === rowCount) validityPtr = 0
    else clearBitsPast(this.kernels.u8, validityPtr, rowCount)
    let bytesPtr = 0
    let byteLength = 0
    if (dtype === 'string') {
      const text = this.#text(collected, output)
      valuesPtr = text.offsetsPtr
      bytesPtr = text.bytesPtr
      byteLength = this.kernels.u32[(valuesPtr >> 2) + rowCount]!
      if (isOrdered) {
        byteLength = call.gatheredStringsByteLength(text.offsetsPtr, permutationPtr, rowCount)
        valuesPtr = output.allocate(4 * (rowCount + 1))
        bytesPtr = output.allocate(byteLength)
        call.gatherStrings(text.offsetsPtr, text.bytesPtr, permutationPtr, rowCount, valuesPtr, bytesPtr)
      }
    } else if (dtype === 'bool') {
      if (isOrdered) {
        const bitsPtr = output.allocate(bitmapByteLength(rowCount))
        call.gatherBits(valuesPtr, permutationPtr, rowCount, bitsPtr)
        valuesPtr = bitsPtr
      }
      clearBitsPast(this.kernels.u8, valuesPtr, rowCount)
    } else if (isOrdered) {
      const targetPtr = output.allocate(8 * rowCount)
      call.gather64(valuesPtr, permutationPtr, rowCount, targetPtr)
      valuesPtr = targetPtr
    }
    return { name, dtype, kind: 'slice', rowCount, valuesPtr, validityPtr, bytesPtr, byteLength }
  }
}

const noLabels: readonly FrameLabel[] = []

function clearBitsPast(u8: Uint8Array, ptr: number, rowCount: number): void {
  const last = rowCount & 7
  if (last !== 0) u8[ptr + (rowCount >> 3)]! &= (1 << last) - 1
}

/** The one column that holds all values of what is shown, if there is just one. */
function onlySlice(batch: ItemBatch, { name, from }: ShapeColumn): ColumnSlice | null {
  if (from === 'name') return batch.hidden(nameColumn)
  const slices = batch.attribute(name)
  return slices.length === 1 ? slices[0]! : null
}

/** Rows [start, end) of a frame in the shared memory, with bitmaps and offsets of its own where they must begin anew. */
export function sliceFrame(
  kernels: Kernels,
  scratch: Scratch,
  frame: FrameSlice,
  start: number,
  end: number,
): FrameSlice {
  if (start === 0 && end === frame.rowCount) return frame
  const cut = (column: ColumnSlice): ColumnSlice => sliceRows(kernels, scratch, column, start, end)
  return { ...frame, rowCount: end - start, columns: frame.columns.map(cut), indices: frame.indices.map(cut) }
}

function sliceRows(kernels: Kernels, scratch: Scratch, column: ColumnSlice, start: number, end: number): ColumnSlice {
  const { call, u32 } = kernels
  const rowCount = end - start
  const bits = (ptr: number): number => {
    const bitsPtr = scratch.allocate(bitmapByteLength(rowCount))
    call.copyBits(ptr, start, bitsPtr, 0, rowCount)
    clearBitsPast(kernels.u8, bitsPtr, rowCount)
    return bitsPtr
  }
  let { valuesPtr, validityPtr, bytesPtr, byteLength } = column
  if (validityPtr !== 0) {
    validityPtr = bits(validityPtr)
    if (call.countBits(validityPtr, rowCount) === rowCount) validityPtr = 0
  }
  if (column.dtype === 'string') {
    const first = u32[(valuesPtr >> 2) + start]!
    const offsetsPtr = scratch.allocate(4 * (rowCount + 1))
    for (let row = 0; row <= rowCount; row++)
      u32[(offsetsPtr >> 2) + row] = u32[(valuesPtr >> 2) + start + row]! - first
    byteLength = u32[(offsetsPtr >> 2) + rowCount]!
    valuesPtr = offsetsPtr
    bytesPtr += first
  } else if (column.dtype === 'bool') valuesPtr = bits(valuesPtr)
  else valuesPtr += 8 * start
  return { ...column, rowCount, valuesPtr, validityPtr, bytesPtr, byteLength }
}
