// The pages and segments that one job has in its scratch: least recently used ones make room for new ones.
import { MiB } from '../limits.js'
import type { Scratch } from '../memory/scratch.js'
import type { KeptPages } from './kept-pages.js'

interface Entry {
  readonly ptr: number
  /** Its place has at most sizeMin × 2^sizeClass bytes. */
  readonly sizeClass: number
  readonly byteLength: number
  epoch: number
}

/** Smallest piece handed out, in bytes; sizes are powers of two above it, so that one can take the place of another. */
const sizeMin = 512
/** Larger pieces are few, and too large for up to half of them to be wasted. */
const roundedByteLengthMax = 4 * MiB

/**
 * Keys are numbers that the caller makes up. What is found or inserted in the current epoch stays where it is until the
 * next one begins; older entries may be replaced.
 */
export class PageCache {
  /** null: nothing was put in yet. */
  #entries: Map<number, Entry> | null = null
  /** The keys of each size class, the least recently used first: what makes room is found without a search. */
  readonly #keysByClass: Set<number>[] = []
  #epoch = 0

  /** kept: what is kept beyond the job has the same epochs. */
  constructor(
    readonly scratch: Scratch,
    readonly kept: KeptPages | null = null,
  ) {
    kept?.beginEpoch()
  }

  get epoch(): number {
    return this.#epoch
  }

  beginEpoch(): void {
    this.#epoch++
    this.kept?.beginEpoch()
  }

  /** What is kept beyond the job stays where it is. */
  beginOwnEpoch(): void {
    this.#epoch++
  }

  /** The pointer kept under a key, or 0. */
  find(key: number): number {
    const entry = this.#entries?.get(key)
    if (entry === undefined) return 0
    if (entry.epoch !== this.#epoch) {
      // A Set iterates in order of insertion, so putting a key back at its end keeps the oldest first.
      const keys = this.#keysByClass[entry.sizeClass]!
      keys.delete(key)
      keys.add(key)
      entry.epoch = this.#epoch
    }
    return entry.ptr
  }

  /** Room of at least byteLength bytes under a key that is not there yet. Throws ScratchFull. */
  insert(key: number, byteLength: number): number {
    const sizeClass = Math.max(0, Math.ceil(Math.log2(byteLength / sizeMin)))
    const place = byteLength > roundedByteLengthMax ? byteLength : sizeMin * 2 ** sizeClass
    const entry = this.scratch.byteLengthFree < place ? this.#replace(sizeClass, place) : null
    const ptr = entry?.ptr ?? this.scratch.allocate(place)
    const ownClass = entry?.sizeClass ?? sizeClass
    this.#entries ??= new Map()
    this.#entries.set(key, { ptr, sizeClass: ownClass, byteLength: entry?.byteLength ?? place, epoch: this.#epoch })
    while (this.#keysByClass.length <= ownClass) this.#keysByClass.push(new Set())
    this.#keysByClass[ownClass]!.add(key)
    return ptr
  }

  /** Takes the place of an entry of an earlier epoch that is large enough: the oldest of that size, or of the next. */
  #replace(sizeClass: number, byteLength: number): Entry | null {
    for (let larger = sizeClass; larger < this.#keysByClass.length; larger++) {
      const keys = this.#keysByClass[larger]!
      const [key] = keys
      if (key === undefined) continue
      const entry = this.#entries!.get(key)!
      if (entry.epoch === this.#epoch || entry.byteLength < byteLength) continue
      keys.delete(key)
      this.#entries!.delete(key)
      return entry
    }
    return null
  }
}
