// The memory of one job: a slice given by the main thread, handed out from its start or from its end, and taken back in
// reverse order.
//
//   front ──►  results, in the order they are made  │  free  │  what is needed for a while  ◄── back
import type { Slice } from './slice.js'

/** Thrown when a job's slice is too small; the job is sent again with a slice of at least `byteLengthNeeded`. */
export class ScratchFull extends Error {
  override readonly name = 'ScratchFull'
  constructor(readonly byteLengthNeeded: number) {
    super(`scratch is full: ${byteLengthNeeded} bytes needed`)
  }
}

/** 16, so that every allocation is aligned for SIMD loads. */
const alignment = 16

/** The free part [front, back) of a slice, shared by its two ends. */
interface Bounds {
  front: number
  back: number
}

export class Scratch {
  readonly slice: Slice
  readonly #bounds: Bounds
  readonly #isBack: boolean
  /** How many bytes of the job's whole slice one byte of this one stands for; see split. */
  readonly #scale: number

  constructor(slice: Slice, scale = 1, otherEnd?: Scratch) {
    this.slice = slice
    this.#scale = scale
    this.#isBack = otherEnd !== undefined
    this.#bounds =
      otherEnd !== undefined
        ? otherEnd.#bounds
        : { front: alignUp(slice.byteOffset), back: alignDown(slice.byteOffset + slice.byteLength) }
  }

  /** The same memory, handed out from its end. */
  back(): Scratch {
    return new Scratch(this.slice, this.#scale, this)
  }

  /** Returns a pointer to byteLength bytes, 16-byte aligned, contents undefined. Throws ScratchFull. */
  allocate(byteLength: number): number {
    const bounds = this.#bounds
    const rounded = alignUp(byteLength)
    if (rounded > bounds.back - bounds.front) {
      const used = this.slice.byteLength - (bounds.back - bounds.front)
      throw new ScratchFull(Math.ceil((used + rounded) * this.#scale))
    }
    if (this.#isBack) {
      bounds.back -= rounded
      return bounds.back
    }
    const pointer = bounds.front
    bounds.front += rounded
    return pointer
  }

  /**
   * Divides what is left into parts of the given shares (together at most 1). When a part is full, the slice that is
   * asked for is so much larger that the same shares would do.
   */
  split(shares: readonly number[]): Scratch[] {
    const free = this.byteLengthFree
    let start = this.#bounds.front
    return shares.map((share) => {
      const byteLength = alignDown(free * share)
      const part = new Scratch(
        { byteOffset: start, byteLength },
        (this.#scale * this.slice.byteLength) / Math.max(1, byteLength),
      )
      start += byteLength
      return part
    })
  }

  /** What is left, in bytes. */
  get byteLengthFree(): number {
    return this.#bounds.back - this.#bounds.front
  }

  /** A place to come back to: all that is allocated at this end after it is free again after `release`. */
  mark(): number {
    return this.#isBack ? this.#bounds.back : this.#bounds.front
  }

  release(mark: number): void {
    if (this.#isBack) this.#bounds.back = mark
    else this.#bounds.front = mark
  }
}

function alignUp(pointer: number): number {
  // Not by bit operations: they have 32 bits and a sign, and sizes that are asked for may be larger.
  return Math.ceil(pointer / alignment) * alignment
}

function alignDown(pointer: number): number {
  return Math.floor(pointer / alignment) * alignment
}
