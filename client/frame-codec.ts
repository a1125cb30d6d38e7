// Frames ↔ wire bytes in the client, with the engine's kernels over a small memory of its own. Synchronous: a frame is
// decoded or encoded from start to end before another is begun, so all of them share the memory.
import { layFrame, frameByteLength, takeColumn } from '../engine/codec/columns.js'
import { decodeColumn, decodeNulls, encodedFrameBound, encodeFrame, scanFrame } from '../engine/codec/wire.js'
import { FramesError } from '../engine/errors.js'
import { sliceColumn } from '../engine/frame/builder.js'
import type { Column } from '../engine/frame/column.js'
import { Frame } from '../engine/frame/frame.js'
import { createMemory, kernelHeapBase, type Kernels, loadKernels } from '../engine/kernels/kernels.js'
import { MiB, memoryByteLengthMax } from '../engine/limits.js'
import { copyBytes } from '../engine/memory/copy.js'
import { Scratch, ScratchFull } from '../engine/memory/scratch.js'

/** Enough for the messages of 1 to 4 MiB that servers make. */
const memoryByteLengthMin = 16 * MiB
/** A larger memory is let go after the message that needed it: touched pages are never given back. */
const memoryByteLengthKept = 128 * MiB
/** Scan tables and names, whatever the size of the message. */
const scratchByteLengthMin = MiB

export class FrameCodec {
  #kernels: Kernels | null = null
  #heapBase = 0

  /**
   * A frame with buffers of its own; the bytes may be reused after the call.
   * Throws MALFORMED_FRAME, FRAME_SHAPE, FRAME_TOO_LARGE.
   */
  decode(message: Uint8Array): Frame {
    let scratchByteLength = scratchByteLengthMin + 4 * message.byteLength
    for (;;) {
      try {
        return this.#decodeWithin(message, scratchByteLength)
      } catch (error) {
        if (!(error instanceof ScratchFull)) throw error
        scratchByteLength = Math.max(error.byteLengthNeeded, 2 * scratchByteLength)
      }
    }
  }

  #decodeWithin(message: Uint8Array, scratchByteLength: number): Frame {
    const kernels = this.#kernelsOver(alignUp(message.byteLength) + scratchByteLength)
    const slice = { byteOffset: this.#heapBase, byteLength: message.byteLength }
    copyBytes(message, kernels.u8, slice.byteOffset)
    const scratch = new Scratch({
      byteOffset: slice.byteOffset + alignUp(slice.byteLength),
      byteLength: scratchByteLength,
    })
    const found = scanFrame(kernels, slice, scratch)
    const validityPtrs = decodeNulls(kernels, found, scratch)
    const mark = scratch.mark()
    const take = (column: (typeof found.columns)[number], validityPtr: number): Column => {
      const taken = takeColumn(kernels, decodeColumn(kernels, column, validityPtr, scratch))
      scratch.release(mark)
      return taken
    }
    return new Frame({
      columns: found.columns.map((column, i) => take(column, validityPtrs[i])),
      indices: found.indices.map((column) => take(column, 0)),
      labels: new Map(found.labels.map(({ name, value }) => [name, value])),
    })
  }

  /** The frame as one pb.Frame, in a buffer of its own. Throws FRAME_TOO_LARGE. */
  encode(given: Frame): Uint8Array {
    const frame = withoutHoledLabels(given)
    const columnsByteLength = alignUp(frameByteLength(frame))
    let kernels = this.#kernelsOver(columnsByteLength)
    let laid = layFrame(kernels, frame, this.#heapBase)
    const bound = encodedFrameBound(laid)
    const larger = this.#kernelsOver(columnsByteLength + bound)
    if (larger !== kernels) {
      kernels = larger
      laid = layFrame(kernels, frame, this.#heapBase)
    }
    const byteOffset = this.#heapBase + columnsByteLength
    const byteLength = encodeFrame(kernels, laid, byteOffset, bound)
    return kernels.u8.slice(byteOffset, byteOffset + byteLength)
  }

  /** The kernels over a memory with this many bytes above their static data. */
  #kernelsOver(byteLength: number): Kernels {
    if (this.#heapBase === 0) this.#heapBase = alignUp(kernelHeapBase())
    const byteLengthNeeded = this.#heapBase + byteLength
    const kept = this.#kernels
    if (kept !== null && kept.u8.byteLength >= byteLengthNeeded) return kept
    if (byteLengthNeeded > memoryByteLengthMax) {
      const what = `the frame would take ${byteLengthNeeded} bytes of memory, at most ${memoryByteLengthMax} are there`
      throw new FramesError('FRAME_TOO_LARGE', what)
    }
    const kernels = loadKernels(createMemory(Math.max(memoryByteLengthMin, byteLengthNeeded)))
    if (byteLengthNeeded <= memoryByteLengthKept) this.#kernels = kernels
    return kernels
  }
}

/** On the wire a label is missing in all rows or in none. */
function withoutHoledLabels(frame: Frame): Frame {
  const isHoled = ({ kind, validity }: Column): boolean => kind === 'label' && validity !== null
  if (!frame.columns.some(isHoled)) return frame
  const columns = frame.columns.map((column) => {
    if (!isHoled(column) || column.dtype === 'null') return column
    return sliceColumn(column.name, column.values(), column.dtype)
  })
  return new Frame({ columns, indices: frame.indices, labels: frame.labels })
}

/** Columns begin where SIMD loads are aligned. */
function alignUp(byteLength: number): number {
  return Math.ceil(byteLength / 16) * 16
}
