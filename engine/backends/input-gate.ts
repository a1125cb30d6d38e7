// How many bytes of frames may wait in the arenas at once: jobs need room there too, or all would wait for each other.
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
  async take(byteLength: number, signal?: AbortSignal): Promise<{ slice: Slice; release: () => void }> {
    if (this.#waiters.length > 0 || !this.#fits(byteLength)) {
      await new Promise<void>((admit) => {
        this.#waiters.push({ byteLength, admit })
      })
    } else this.#byteLength += byteLength
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

  #fits(byteLength: number): boolean {
    return this.#byteLength === 0 || this.#byteLength + byteLength <= this.arenas.slice.byteLength * inputShare
  }

  #giveBack(byteLength: number): void {
    this.#byteLength -= byteLength
    while (this.#waiters.length > 0 && this.#fits(this.#waiters[0]!.byteLength)) {
      const { byteLength: next, admit } = this.#waiters.shift()!
      this.#byteLength += next
      admit()
    }
  }
}
