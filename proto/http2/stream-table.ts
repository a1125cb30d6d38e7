// The open streams of a connection by id. Ids only grow and few streams live long, so that most stand in a place of their
// own; a Map is made anew every few insertions and deletions, and what is left of it outlives young collections.
import type { Http2Stream } from './stream.js'

const slotCount = 64

export class StreamTable {
  readonly #slots: (Http2Stream | null)[] = new Array<Http2Stream | null>(slotCount).fill(null)
  /** Those whose place was taken. */
  readonly #others = new Map<number, Http2Stream>()
  #count = 0

  get count(): number {
    return this.#count
  }

  get(id: number): Http2Stream | null {
    const stream = this.#slots[(id >>> 1) % slotCount]
    if (stream !== null && stream.id === id) return stream
    return this.#others.size === 0 ? null : (this.#others.get(id) ?? null)
  }

  add(stream: Http2Stream): void {
    const slot = (stream.id >>> 1) % slotCount
    if (this.#slots[slot] === null) this.#slots[slot] = stream
    else this.#others.set(stream.id, stream)
    this.#count++
  }

  /** Takes out a stream that is there. */
  remove(stream: Http2Stream): void {
    const slot = (stream.id >>> 1) % slotCount
    if (this.#slots[slot] === stream) this.#slots[slot] = null
    else this.#others.delete(stream.id)
    this.#count--
  }

  /** All of them, as they stand now. */
  all(): Http2Stream[] {
    const streams = [...this.#others.values()]
    for (const stream of this.#slots) if (stream !== null) streams.push(stream)
    return streams
  }
}
