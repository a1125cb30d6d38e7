// Pages and attachments that a worker keeps between jobs, in its own part of the shared memory's region of decoded pages.
// Nobody else reads or writes that part, so there are no locks.
//
//   │ … newest │ next ──►  oldest …                    │     a ring: what is kept next takes the place of the oldest
//
// As long as there is room pages are kept decoded, those of 64-bit cells compact (kernels/compact-pages.ts); from then on as
// they are stored, which is a fraction of the size, and already checked.
import type { Slice } from '../memory/slice.js'
import type { WorkerContext } from '../pool/context.js'
import type { JobPlace } from '../pool/job.js'

/** What is kept of one block, by a number that the reader makes up. */
export type KeptOfBlock = Map<number, KeptBytes>

export interface KeptBytes {
  readonly ptr: number
  readonly byteLength: number
  readonly owner: KeptOfBlock
  readonly key: number
  epoch: number
}

/** One thing kept is at most this part of the memory: a few large ones would push out all others. */
const shareMax = 1 / 16
/** What stands in this part of the ring, next to go, is moved to its newer end when it is used. */
const endangeredShare = 1 / 4
const alignment = 16

export class KeptPages {
  readonly #u8: Uint8Array
  readonly #start: number
  readonly #end: number
  #next: number
  /** Oldest first, from #oldest on. */
  readonly #ring: KeptBytes[] = []
  #oldest = 0
  /** What was asked for in this epoch stays where it is. */
  #epoch = 1
  /** The ring has come round: there is no room but that of others. */
  isFull = false

  /** memory: the whole shared memory; slice: the part of it that is this worker's alone. */
  constructor(memory: Uint8Array, slice: Slice) {
    this.#u8 = memory
    this.#start = Math.ceil(slice.byteOffset / alignment) * alignment
    this.#end = slice.byteOffset + slice.byteLength
    this.#next = this.#start
  }

  beginEpoch(): void {
    this.#epoch++
  }

  /** Pointer to what is kept under a key, until the next epoch; 0 when it is not. */
  find(owner: KeptOfBlock, key: number): number {
    const kept = owner.get(key)
    if (kept === undefined) return 0
    if (kept.epoch === this.#epoch) return kept.ptr
    if (this.isFull && this.#isEndangered(kept)) return this.#moved(kept)
    kept.epoch = this.#epoch
    return kept.ptr
  }

  /** Room for byteLength bytes under a key that is not kept yet; 0 when there is none to have. */
  insert(owner: KeptOfBlock, key: number, byteLength: number): number {
    const ptr = this.#allocate(byteLength)
    if (ptr === 0) return 0
    this.#add({ ptr, byteLength, owner, key, epoch: this.#epoch })
    return ptr
  }

  /** What was inserted in this epoch is no use after all. */
  discard(owner: KeptOfBlock, key: number): void {
    // Its place in the ring is given back in its turn.
    owner.delete(key)
  }

  #isEndangered({ ptr }: KeptBytes): boolean {
    const ahead = ptr >= this.#next ? ptr - this.#next : ptr - this.#next + (this.#end - this.#start)
    return ahead < (this.#end - this.#start) * endangeredShare
  }

  /** Gives it a place at the newer end; where that fails it may be gone, and then 0 is returned. */
  #moved(kept: KeptBytes): number {
    const { owner, key, ptr, byteLength } = kept
    const target = this.#allocate(byteLength)
    if (target === 0) {
      if (owner.get(key) !== kept) return 0
      kept.epoch = this.#epoch
      return ptr
    }
    // Its old place may be among those that made room: its bytes stand there until they are written over.
    this.#u8.copyWithin(target, ptr, ptr + byteLength)
    this.#add({ ptr: target, byteLength, owner, key, epoch: this.#epoch })
    return target
  }

  #add(kept: KeptBytes): void {
    kept.owner.set(kept.key, kept)
    this.#ring.push(kept)
  }

  #allocate(byteLength: number): number {
    const rounded = Math.ceil(byteLength / alignment) * alignment
    if (rounded > (this.#end - this.#start) * shareMax) return 0
    if (this.#next + rounded > this.#end) {
      if (!this.#evict((ptr) => ptr >= this.#next)) return 0
      this.#next = this.#start
      this.isFull = true
    }
    const ptr = this.#next
    if (!this.#evict((oldest) => oldest >= ptr && oldest < ptr + rounded)) return 0
    this.#next = ptr + rounded
    return ptr
  }

  /** Lets the oldest go as long as they stand in the way; false when one of them is in use. */
  #evict(isInTheWay: (ptr: number) => boolean): boolean {
    while (this.#oldest < this.#ring.length) {
      const kept = this.#ring[this.#oldest]!
      if (!isInTheWay(kept.ptr)) return true
      // Otherwise it was moved or discarded, and only its place is left.
      if (kept.owner.get(kept.key) === kept) {
        if (kept.epoch === this.#epoch) return false
        kept.owner.delete(kept.key)
      }
      this.#oldest++
      if (this.#oldest > 1024 && this.#oldest * 2 > this.#ring.length) {
        this.#ring.splice(0, this.#oldest)
        this.#oldest = 0
      }
    }
    return true
  }
}

/** What the worker of a job keeps; null where it has no memory for it. */
export function keptPagesOf(context: WorkerContext, job: JobPlace): KeptPages | null {
  return context.keptPages(job, (memory, slice) => new KeptPages(memory, slice))
}
