// The memory of one job: a slice given by the main thread, handed out from its start and taken back in reverse order.
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

export class Scratch {
  readonly slice: Slice
  #next: number
  readonly #end: number

  /** How many bytes of the job's whole slice one byte of this one stands for; see split. */
  readonly #scale: number

  constructor(slice: Slice, scale = 1) {
    this.slice = slice
    this.#scale = scale
    this.#next = alignUp(slice.byteOffset)
    this.#end = slice.byteOffset + slice.byteLength
  }

  /** Returns a pointer to byteLength bytes, 16-byte aligned, contents undefined. Throws ScratchFull. */
  allocate(byteLength: number): number {
    const pointer = this.#next
    const next = alignUp(pointer + byteLength)
    if (next > this.#end) throw new ScratchFull(Math.ceil((next - this.slice.byteOffset) * this.#scale))
    this.#next = next
    return pointer
  }

  /**
   * Divides what is left into parts of the given shares (together at most 1). When a part is full, the slice that is
   * asked for is so much larger that the same shares would do.
   */
  split(shares: readonly number[]): Scratch[] {
    const free = this.byteLengthFree
    let start = this.#next
    return shares.map((share) => {
      const byteLength = Math.floor(free * share) & -alignment
      const part = new Scratch({ byteOffset: start, byteLength }, (this.#scale * this.slice.byteLength) / Math.max(1, byteLength))
      start += byteLength
      return part
    })
  }

  /** What is left, in bytes. */
  get byteLengthFree(): number {
    return this.#end - this.#next
  }

  /** A place to come back to: all that is allocated after it is free again after `release`. */
  mark(): number {
    return this.#next
  }

  release(mark: number): void {
    this.#next = mark
  }
}

function alignUp(pointer: number): number {
  // Not by bit operations: they have 32 bits and a sign, and sizes that are asked for may be larger.
  return Math.ceil(pointer / alignment) * alignment
}
