// What arrives from sockets, 64 KiB a read, and the buffers of frames that a read hands out stand outside V8's heap. V8 looks
// for what of it is dead when 32 MiB are new, frees that a collection later, and marks its whole heap when 64 MiB are not
// freed yet, or earlier where the heap is small: under uploads and large reads several times a second, at half of the main
// thread's time. Asked every few MiB, it finds all of it dead in half a millisecond, and the same memory is used again.
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

/** Bytes between two collections: at 8 MiB some of them outlived two and were left to the marking of the whole heap. */
const byteLengthMax = 4 * 1024 * 1024

/** Collects what was made lately, or all. */
export type Collect = (options?: { type: 'minor' }) => void

/** V8's collector, which JavaScript is only given with a flag. */
export function exposedCollector(): Collect | null {
  setFlagsFromString('--expose-gc')
  const found: unknown = runInNewContext('globalThis.gc')
  setFlagsFromString('--no-expose-gc')
  return typeof found === 'function' ? (found as Collect) : null
}

export class YoungMemory {
  readonly #collect = exposedCollector()
  #byteLength = 0

  /** More bytes have come, or gone to a caller. */
  add(byteLength: number): void {
    this.#byteLength += byteLength
    if (this.#byteLength < byteLengthMax) return
    this.#byteLength = 0
    this.#collect?.({ type: 'minor' })
  }
}
