// Pages and attachments that a worker keeps between jobs, in its own part of the shared memory's region of decoded pages.
// Nobody else reads or writes that part, so there are no locks.
//
//   │ … newest │ next ──►  oldest …                    │     a ring: what is kept next takes the place of the oldest
//
// Pages for look-ups are kept compact (kernels/compact-pages.ts, compact-texts.ts): about as small as they are stored, and any
// cell of them is found without decoding the others. Pages for scans of a few series are kept decoded.
import { assert } from '../assert.js'
import type { Kernels } from '../kernels/kernels.js'
import type { Slice } from '../memory/slice.js'
import type { WorkerContext } from '../pool/context.js'
import type { JobPlace } from '../pool/job.js'

/** What is kept of one block, by numbers that the reader makes up: where it stands (0: it is not kept), in how many bytes. */
export interface KeptOfBlock {
  readonly ptrs: Uint32Array
  readonly byteLengths: Uint32Array
}

export function keptOfBlock(count: number): KeptOfBlock {
  return { ptrs: new Uint32Array(count), byteLengths: new Uint32Array(count) }
}

interface RingPlace {
  readonly ptr: number
  readonly owner: KeptOfBlock
  readonly index: number
}

/** One thing kept is at most this part of the memory: a few large ones would push out all others. */
const shareMax = 1 / 16
/** What stands in this part of the ring, next to go, is moved to its newer end when it is used. */
const endangeredShare = 1 / 4
const alignment = 16
/** Less is not given: each place also takes some hundred bytes of the worker's heap, and small blocks have many small pages. */
const placeByteLengthMin = 128

export class KeptPages {
  readonly #kernels: Kernels
  readonly #start: number
  readonly #end: number
  readonly #endangeredByteLength: number
  #next: number
  /** Oldest first, from #oldest on. */
  readonly #ring: RingPlace[] = []
  #oldest = 0
  /**
   * Bytes that this epoch has taken. What was found in it is not endangered, or was moved: it stays where it is as long as
   * the epoch takes less than the part that is.
   */
  #takenByteLength = 0

  /** slice: the part of the shared memory that is this worker's alone. */
  constructor(kernels: Kernels, slice: Slice) {
    this.#kernels = kernels
    this.#start = Math.ceil(slice.byteOffset / alignment) * alignment
    this.#end = slice.byteOffset + slice.byteLength
    this.#endangeredByteLength = (this.#end - this.#start) * endangeredShare
    this.#next = this.#start
  }

  beginEpoch(): void {
    this.#takenByteLength = 0
  }

  /** Pointer to what is kept under a number, until the next epoch; 0 when it is not. */
  find(owner: KeptOfBlock, index: number): number {
    const ptr = owner.ptrs[index]!
    return ptr !== 0 && this.isEndangered(ptr) ? this.#moved(owner, index, ptr) : ptr
  }

  /** Whether what is kept at ptr may not stay where it is until the next epoch: see find. */
  isEndangered(ptr: number): boolean {
    const ahead = ptr >= this.#next ? ptr - this.#next : ptr - this.#next + (this.#end - this.#start)
    return ahead < this.#endangeredByteLength
  }

  /** Room for byteLength bytes under a number that is not kept yet; 0 when there is none to have. */
  insert(owner: KeptOfBlock, index: number, byteLength: number): number {
    const ptr = this.#allocate(byteLength)
    if (ptr === 0) return 0
    owner.ptrs[index] = ptr
    owner.byteLengths[index] = byteLength
    this.#ring.push({ ptr, owner, index })
    return ptr
  }

  /** Only the first byteLength bytes of what was inserted last are needed. */
  shrink(owner: KeptOfBlock, index: number, byteLength: number): void {
    const last = this.#ring[this.#ring.length - 1]
    assert(last?.owner === owner && last.index === index, 'what shrinks is what was inserted last')
    const end = last.ptr + roundUp(byteLength)
    owner.byteLengths[index] = byteLength
    this.#takenByteLength -= this.#next - end
    this.#next = end
  }

  /** What was inserted in this epoch is no use after all. */
  discard(owner: KeptOfBlock, index: number): void {
    // Its place in the ring is given back in its turn.
    owner.ptrs[index] = 0
  }

  /** Gives it a place at the newer end; 0 where there is none, and it may be gone. */
  #moved(owner: KeptOfBlock, index: number, ptr: number): number {
    const byteLength = owner.byteLengths[index]!
    const target = this.insert(owner, index, byteLength)
    // Its old place may be among those that made room: its bytes stand there until they are written over.
    if (target !== 0) this.#kernels.call.copyBytes(ptr, byteLength, target)
    return target
  }

  #allocate(byteLength: number): number {
    const size = this.#end - this.#start
    const rounded = roundUp(byteLength)
    if (rounded > size * shareMax) return 0
    const isRound = this.#next + rounded > this.#end
    const taken = this.#takenByteLength + rounded + (isRound ? this.#end - this.#next : 0)
    if (taken > this.#endangeredByteLength) return 0
    this.#takenByteLength = taken
    if (isRound) {
      this.#evict(this.#next, this.#end)
      this.#next = this.#start
    }
    const ptr = this.#next
    this.#evict(ptr, ptr + rounded)
    this.#next = ptr + rounded
    return ptr
  }

  /** Lets the oldest go as long as they stand in [start, end). */
  #evict(start: number, end: number): void {
    while (this.#oldest < this.#ring.length) {
      const { ptr, owner, index } = this.#ring[this.#oldest]!
      if (ptr < start || ptr >= end) return
      // Otherwise it was moved or discarded, and only its place is left.
      if (owner.ptrs[index] === ptr) owner.ptrs[index] = 0
      this.#oldest++
      if (this.#oldest > 1024 && this.#oldest * 2 > this.#ring.length) {
        this.#ring.splice(0, this.#oldest)
        this.#oldest = 0
      }
    }
  }
}

function roundUp(byteLength: number): number {
  return Math.max(placeByteLengthMin, Math.ceil(byteLength / alignment) * alignment)
}

/** What the worker of a job keeps; null where it has no memory for it. */
export function keptPagesOf(context: WorkerContext, job: JobPlace): KeptPages | null {
  return context.keptPages(job, (slice) => new KeptPages(context.kernels, slice))
}
