// Which blocks nobody reads any more, told by the main thread to all workers: what a worker has parsed of them is no use. Small
// blocks come and go by the dozen a second, and each would lie in every worker's heap until thousands of others have been read.
//
//   u32 count of ids ever told │ u32 0 │ u64 ids, the newest in the place of the oldest
//
// Nobody is woken for it: a worker looks before each job.
import { assert } from '../assert.js'
import type { Slice } from './slice.js'

const headByteLength = 8
const idByteLength = 8

/** A power of two, so that ids have the same places when the count starts again at 0. */
function placeCount({ byteLength }: Slice): number {
  return 2 ** Math.floor(Math.log2((byteLength - headByteLength) / idByteLength))
}

/** The main thread's half. */
export class GoneBlocks {
  readonly #count: Uint32Array
  readonly #ids: BigUint64Array

  /** slice: 8-byte aligned, all 0. */
  constructor(
    memory: WebAssembly.Memory,
    readonly slice: Slice,
  ) {
    const { byteOffset } = slice
    assert(byteOffset % idByteLength === 0 && placeCount(slice) >= 2, 'there is room for one id and the next')
    this.#count = new Uint32Array(memory.buffer, byteOffset, 1)
    this.#ids = new BigUint64Array(memory.buffer, byteOffset + headByteLength, placeCount(slice))
  }

  /** A block that no reader will be given any more. */
  add(id: bigint): void {
    const count = Atomics.load(this.#count, 0)
    Atomics.store(this.#ids, count % this.#ids.length, id)
    Atomics.store(this.#count, 0, count + 1)
  }
}

/** A worker's half. */
export class GoneBlocksReader {
  readonly #count: Uint32Array
  readonly #ids: BigUint64Array
  #seenCount: number

  constructor(memory: WebAssembly.Memory, slice: Slice) {
    this.#count = new Uint32Array(memory.buffer, slice.byteOffset, 1)
    this.#ids = new BigUint64Array(memory.buffer, slice.byteOffset + headByteLength, placeCount(slice))
    this.#seenCount = Atomics.load(this.#count, 0)
  }

  /** Calls `forget` for each block that has gone since the last time; `forgetAll` when they were too many to be told. */
  take(forget: (id: bigint) => void, forgetAll: () => void): void {
    const count = Atomics.load(this.#count, 0)
    const seen = this.#seenCount
    if (count === seen) return
    this.#seenCount = count
    const places = this.#ids.length
    if (countBetween(seen, count) < places) {
      for (let at = seen; at !== count; at = (at + 1) >>> 0) forget(Atomics.load(this.#ids, at % places))
    }
    // Meanwhile others may have taken the places of those that were still to be read.
    if (countBetween(seen, Atomics.load(this.#count, 0)) >= places) forgetAll()
  }
}

/** The count starts again at 0 after 2^32. */
function countBetween(earlier: number, later: number): number {
  return (later - earlier) >>> 0
}
