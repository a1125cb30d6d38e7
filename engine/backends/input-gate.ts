// How many bytes of frames may wait in the arenas at once: jobs need room there too, or all would wait for each other.
import type { CancelSignal } from '../cancellation.js'
import { FramesError } from '../errors.js'
import type { Region } from '../memory/region.js'
import type { Slice } from '../memory/slice.js'

/** Share of the arenas that frames may fill before they are decoded. */
const inputShare = 0.25

interface Waiter {
  readonly byteLength: number
  readonly admit: () => void
}

export class InputGate {
  #byteLength = 0
  readonly #waiters: Waiter[] = []

  constructor(readonly arenas: Region) {}

  /** Room for a frame. Waits in line; a frame larger than the share comes in alone. */
  async take(byteLength: number, signal?: CancelSignal): Promise<{ slice: Slice; release: () => void }> {
    if (this.#waiters.length > 0 || !this.#fits(byteLength)) await this.#wait(byteLength, signal)
    else this.#byteLength += byteLength
    try {
      const slice = await this.arenas.allocate(Math.max(1, byteLength), signal === undefined ? {} : { signal })
      return {
        slice,
        release: () => {
          this.arenas.free(slice)
          this.#giveBack(byteLength)
        },
      }
    } catch (error) {
      this.#giveBack(byteLength)
      throw error
    }
  }

  #wait(byteLength: number, signal: CancelSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const waiter: Waiter = {
        byteLength,
        admit: () => {
          signal?.removeEventListener('abort', leave)
          resolve()
        },
      }
      const leave = (): void => {
        this.#waiters.splice(this.#waiters.indexOf(waiter), 1)
        reject(new FramesError('CANCELLED', 'the write was given up while it waited for memory'))
        // Those behind it may fit now.
        this.#admitWaiters()
      }
      this.#waiters.push(waiter)
      if (signal?.aborted) leave()
      else signal?.addEventListener('abort', leave, { once: true })
    })
  }

  #fits(byteLength: number): boolean {
    return this.#byteLength === 0 || this.#byteLength + byteLength <= this.arenas.slice.byteLength * inputShare
  }

  #giveBack(byteLength: number): void {
    this.#byteLength -= byteLength
    this.#admitWaiters()
  }

  #admitWaiters(): void {
    while (this.#waiters.length > 0 && this.#fits(this.#waiters[0]!.byteLength)) {
      const { byteLength: next, admit } = this.#waiters.shift()!
      this.#byteLength += next
      admit()
    }
  }
}
