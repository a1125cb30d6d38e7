// A budgeted part of the shared memory, handed out in runs of 64 KiB by the main thread. No Atomics: a lock-free list
// would invite ABA and owners that died.
import type { CancelSignal } from '../cancellation.js'
import { assert } from '../assert.js'
import { FramesError } from '../errors.js'
import { arenaWaiterCountMax, arenaWaitMsMax, KiB } from '../limits.js'
import { emptySlice, type Slice } from './slice.js'

/** What a region hands out is a whole number of these; also the page of WebAssembly. */
export const runByteLength = 64 * KiB

export interface RegionStatistics {
  readonly byteLength: number
  readonly byteLengthUsed: number
  /** The most that was used at one time. */
  readonly byteLengthUsedMax: number
  /** Slices that are out now. */
  readonly allocationCount: number
  /** Callers that wait now. */
  readonly waiterCount: number
  /** Requests refused since the start: too large, too many waiters, waited too long. */
  readonly failureCount: number
}

/** A gap between slices. */
interface FreeRange {
  byteOffset: number
  byteLength: number
}

interface Waiter {
  readonly byteLength: number
  readonly grant: (slice: Slice) => void
}

export interface AllocateOptions {
  /** For memory that makes other memory come free (a job's scratch): it may use all of the region, and goes first. */
  readonly urgent?: boolean
  /** The highest place instead of the lowest: for what is large, stays long and has a larger successor. */
  readonly fromEnd?: boolean
}

export interface WaitOptions extends AllocateOptions {
  /** Ends the wait. */
  readonly signal?: CancelSignal | undefined
}

export interface RegionOptions {
  /** Named in errors. */
  readonly name: string
  /** Whole runs. */
  readonly slice: Slice
  /** Whole runs at the end that only urgent requests may use. */
  readonly byteLengthReserved?: number
  readonly waiterCountMax?: number
  readonly waitMsMax?: number
}

export class Region {
  readonly name: string
  readonly slice: Slice
  /** Where the room ends, as byte offset: of urgent requests, and of all others. */
  readonly #end: number
  readonly #ordinaryEnd: number
  readonly #waiterCountMax: number
  readonly #waitMsMax: number
  /** By offset; two of them never touch. */
  readonly #free: FreeRange[]
  /** Slices that are out: byte length by byte offset. */
  readonly #held = new Map<number, number>()
  /** Each line first come, first served: a large request is never overtaken by its like, so it cannot starve. */
  readonly #urgentWaiters: Waiter[] = []
  readonly #ordinaryWaiters: Waiter[] = []
  #byteLengthUsed = 0
  #byteLengthUsedMax = 0
  #failureCount = 0

  constructor(options: RegionOptions) {
    const { name, slice, byteLengthReserved = 0 } = options
    for (const byteCount of [slice.byteOffset, slice.byteLength, byteLengthReserved]) {
      assert(byteCount % runByteLength === 0, 'a region has whole runs')
    }
    this.name = name
    this.slice = slice
    this.#end = slice.byteOffset + slice.byteLength
    this.#ordinaryEnd = this.#end - byteLengthReserved
    this.#waiterCountMax = options.waiterCountMax ?? arenaWaiterCountMax
    this.#waitMsMax = options.waitMsMax ?? arenaWaitMsMax
    this.#free = slice.byteLength > 0 ? [{ ...slice }] : []
  }

  /**
   * The lowest place (`fromEnd`: the highest) that has room for byteLength bytes, rounded up to whole runs (the slice says how long it is); the
   * contents are undefined. Null when there is none now, or when others wait already. No bytes need no place: emptySlice.
   */
  tryAllocate(byteLength: number, { urgent = false, fromEnd = false }: AllocateOptions = {}): Slice | null {
    assert(Number.isSafeInteger(byteLength) && byteLength >= 0, `${byteLength} is a byte length`)
    if (byteLength === 0) return emptySlice
    if (this.#urgentWaiters.length > 0) return null
    if (!urgent && this.#ordinaryWaiters.length > 0) return null
    const end = urgent ? this.#end : this.#ordinaryEnd
    return fromEnd ? this.#takeLast(byteLength, end) : this.#take(byteLength, end)
  }

  /** Whether an urgent request for so many bytes would be granted now. */
  hasRoom(byteLength: number): boolean {
    if (byteLength === 0) return true
    if (this.#urgentWaiters.length > 0) return false
    const wanted = wholeRuns(byteLength)
    const index = this.#firstFit(wanted)
    return index < this.#free.length && this.#free[index]!.byteOffset + wanted <= this.#end
  }

  /**
   * As tryAllocate, but waits in line while the region is full.
   *
   * Fails with MEMORY_BUDGET when the request can never fit, too many wait already, or the wait becomes too long; with
   * CANCELLED when the signal aborts first (or with its reason, if that is a FramesError).
   */
  async allocate(byteLength: number, { urgent = false, signal }: WaitOptions = {}): Promise<Slice> {
    if (signal?.aborted) throw abortError(signal)
    const budget = (urgent ? this.#end : this.#ordinaryEnd) - this.slice.byteOffset
    if (byteLength > budget) {
      throw this.#refusal(`${byteLength} bytes do not fit the budget of ${budget} bytes for ${this.name}`)
    }
    const slice = this.tryAllocate(byteLength, { urgent })
    if (slice !== null) return slice
    if (this.#waiterCount >= this.#waiterCountMax) {
      throw this.#refusal(`${this.#waiterCount} requests wait for ${this.name} already`)
    }
    return this.#wait(byteLength, urgent ? this.#urgentWaiters : this.#ordinaryWaiters, signal)
  }

  /** Gives a slice back, once and as it was handed out. Those who wait are served first. */
  free(slice: Slice): void {
    if (slice.byteLength === 0) return
    assert(this.#held.get(slice.byteOffset) === slice.byteLength, `a slice of ${this.name} is freed once, and whole`)
    this.#held.delete(slice.byteOffset)
    this.#byteLengthUsed -= slice.byteLength
    this.#insertFree(slice)
    this.#serveWaiters()
  }

  /** Gives the end of a slice back: what is left of it has the first byteLength bytes, in whole runs, and is the one to free. */
  shrink(slice: Slice, byteLength: number): Slice {
    const kept = wholeRuns(byteLength)
    assert(kept <= slice.byteLength, 'a slice does not grow')
    if (kept === slice.byteLength) return slice
    if (kept === 0) {
      this.free(slice)
      return emptySlice
    }
    assert(this.#held.get(slice.byteOffset) === slice.byteLength, `a slice of ${this.name} that shrinks is out`)
    this.#held.set(slice.byteOffset, kept)
    this.#byteLengthUsed -= slice.byteLength - kept
    this.#insertFree({ byteOffset: slice.byteOffset + kept, byteLength: slice.byteLength - kept })
    this.#serveWaiters()
    return { byteOffset: slice.byteOffset, byteLength: kept }
  }

  statistics(): RegionStatistics {
    return {
      byteLength: this.slice.byteLength,
      byteLengthUsed: this.#byteLengthUsed,
      byteLengthUsedMax: this.#byteLengthUsedMax,
      allocationCount: this.#held.size,
      waiterCount: this.#waiterCount,
      failureCount: this.#failureCount,
    }
  }

  get #waiterCount(): number {
    return this.#urgentWaiters.length + this.#ordinaryWaiters.length
  }

  /** A slice that ends at `end` or before. */
  #take(byteLengthAsked: number, end: number): Slice | null {
    const byteLength = wholeRuns(byteLengthAsked)
    const index = this.#firstFit(byteLength)
    if (index === this.#free.length) return null
    const range = this.#free[index]!
    if (range.byteOffset + byteLength > end) return null
    const slice: Slice = { byteOffset: range.byteOffset, byteLength }
    range.byteOffset += byteLength
    range.byteLength -= byteLength
    if (range.byteLength === 0) this.#free.splice(index, 1)
    return this.#hold(slice)
  }

  /** From the lowest offset: pages once touched are never given back to the system, so few are touched. */
  #firstFit(byteLength: number): number {
    const free = this.#free
    let index = 0
    while (index < free.length && free[index]!.byteLength < byteLength) index++
    return index
  }

  /** The last slice that ends at `end` or before. */
  #takeLast(byteLengthAsked: number, end: number): Slice | null {
    const byteLength = wholeRuns(byteLengthAsked)
    const endOf = (range: FreeRange) => Math.min(end, range.byteOffset + range.byteLength)
    const range = this.#free.findLast((free) => endOf(free) - free.byteOffset >= byteLength)
    if (range === undefined) return null
    const slice: Slice = { byteOffset: endOf(range) - byteLength, byteLength }
    const behind = range.byteOffset + range.byteLength - endOf(range)
    const index = this.#free.indexOf(range)
    range.byteLength = slice.byteOffset - range.byteOffset
    if (behind > 0) this.#free.splice(index + 1, 0, { byteOffset: slice.byteOffset + byteLength, byteLength: behind })
    if (range.byteLength === 0) this.#free.splice(index, 1)
    return this.#hold(slice)
  }

  #hold(slice: Slice): Slice {
    const { byteLength } = slice
    this.#held.set(slice.byteOffset, byteLength)
    this.#byteLengthUsed += byteLength
    this.#byteLengthUsedMax = Math.max(this.#byteLengthUsedMax, this.#byteLengthUsed)
    return slice
  }

  #insertFree({ byteOffset, byteLength }: Slice): void {
    const free = this.#free
    // The first range behind the slice, by halving.
    let low = 0
    let high = free.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (free[middle]!.byteOffset < byteOffset) low = middle + 1
      else high = middle
    }
    // An index that an array does not have is looked up as a name.
    const before = low > 0 ? free[low - 1] : undefined
    const after = low < free.length ? free[low] : undefined
    const touchesBefore = before !== undefined && before.byteOffset + before.byteLength === byteOffset
    const touchesAfter = after !== undefined && byteOffset + byteLength === after.byteOffset
    if (touchesBefore && touchesAfter) {
      before.byteLength += byteLength + after.byteLength
      free.splice(low, 1)
    } else if (touchesBefore) {
      before.byteLength += byteLength
    } else if (touchesAfter) {
      after.byteOffset = byteOffset
      after.byteLength += byteLength
    } else {
      free.splice(low, 0, { byteOffset, byteLength })
    }
  }

  #serveWaiters(): void {
    this.#serve(this.#urgentWaiters, this.#end)
    if (this.#urgentWaiters.length === 0) this.#serve(this.#ordinaryWaiters, this.#ordinaryEnd)
  }

  #serve(waiters: Waiter[], end: number): void {
    for (let waiter = waiters[0]; waiter !== undefined; waiter = waiters[0]) {
      const slice = this.#take(waiter.byteLength, end)
      if (slice === null) return
      waiters.shift()
      waiter.grant(slice)
    }
  }

  #wait(byteLength: number, waiters: Waiter[], signal: CancelSignal | undefined): Promise<Slice> {
    return new Promise((resolve, reject) => {
      const leave = () => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', onAbort)
      }
      const giveUp = (error: FramesError) => {
        leave()
        waiters.splice(waiters.indexOf(waiter), 1)
        reject(error)
        // Those behind may fit where this one did not.
        this.#serveWaiters()
      }
      const onAbort = () => giveUp(abortError(signal!))
      const timer = setTimeout(
        () => giveUp(this.#refusal(`${byteLength} bytes of ${this.name} did not come free in ${this.#waitMsMax} ms`)),
        this.#waitMsMax,
      )
      const waiter: Waiter = {
        byteLength,
        grant: (slice) => {
          leave()
          resolve(slice)
        },
      }
      signal?.addEventListener('abort', onAbort)
      waiters.push(waiter)
    })
  }

  #refusal(what: string): FramesError {
    this.#failureCount++
    return new FramesError('MEMORY_BUDGET', what)
  }
}

function wholeRuns(byteLength: number): number {
  return Math.ceil(byteLength / runByteLength) * runByteLength
}

function abortError(signal: CancelSignal): FramesError {
  if (signal.reason instanceof FramesError) return signal.reason
  return new FramesError('CANCELLED', 'the request ended while it waited for memory', { cause: signal.reason })
}
