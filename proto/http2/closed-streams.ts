// Streams that were closed a short while ago. Frames may still be on their way to one that we have reset, and are ignored
// (RFC 9113, section 5.1); to one that the peer itself has ended they are an error of its own.

/** Of all that were closed: only to say which error it is. */
const closedCountMax = 32
/** Of those that we reset: what may be under way within a round trip. */
const resetCountMax = 1024

export class ClosedStreams {
  readonly #closed = new Uint32Array(closedCountMax)
  #closedAt = 0
  readonly #reset: number[] = []
  #resetAt = 0

  /** isReset: we have ended it while the peer could still send. */
  remember(id: number, isReset: boolean): void {
    this.#closed[this.#closedAt] = id
    this.#closedAt = (this.#closedAt + 1) % closedCountMax
    if (!isReset) return
    this.#reset[this.#resetAt] = id
    this.#resetAt = (this.#resetAt + 1) % resetCountMax
  }

  isReset(id: number): boolean {
    return this.#reset.includes(id)
  }

  isKnown(id: number): boolean {
    return this.#closed.includes(id)
  }
}
