// The pages and segments that one job has in its scratch: least recently used ones make room for new ones.
import type { Scratch } from '../memory/scratch.js'

interface Entry {
  readonly ptr: number
  readonly sizeClass: number
  epoch: number
}

/** Smallest piece handed out, in bytes; sizes are powers of two above it. */
const sizeMin = 512

/**
 * Keys are numbers that the caller makes up. What is found or inserted in the current epoch stays where it is until the
 * next one begins; older entries may be replaced.
 */
export class PageCache {
  readonly #entries = new Map<number, Entry>()
  #epoch = 0

  constructor(readonly scratch: Scratch) {}

  beginEpoch(): void {
    this.#epoch++
  }

  /** The pointer kept under a key, or 0. */
  find(key: number): number {
    const entry = this.#entries.get(key)
    if (entry === undefined) return 0
    if (entry.epoch !== this.#epoch) {
      // A Map iterates in order of insertion, so putting an entry back at its end keeps the oldest first.
      this.#entries.delete(key)
      this.#entries.set(key, entry)
      entry.epoch = this.#epoch
    }
    return entry.ptr
  }

  /** Room of at least byteLength bytes under a key that is not there yet. Throws ScratchFull. */
  insert(key: number, byteLength: number): number {
    let sizeClass = sizeMin
    while (sizeClass < byteLength) sizeClass *= 2
    const entry = this.scratch.byteLengthFree < sizeClass ? this.#replace(sizeClass) : null
    const ptr = entry?.ptr ?? this.scratch.allocate(sizeClass)
    this.#entries.set(key, { ptr, sizeClass: entry?.sizeClass ?? sizeClass, epoch: this.#epoch })
    return ptr
  }

  /** Takes the place of an entry of an earlier epoch that is large enough: the oldest of that size, or of the next. */
  #replace(sizeClass: number): Entry | null {
    let bestKey = -1
    let best: Entry | null = null
    for (const [key, entry] of this.#entries) {
      if (entry.epoch === this.#epoch) break
      if (entry.sizeClass < sizeClass || (best !== null && entry.sizeClass >= best.sizeClass)) continue
      best = entry
      bestKey = key
      if (entry.sizeClass === sizeClass) break
    }
    if (best !== null) this.#entries.delete(bestKey)
    return best
  }
}
