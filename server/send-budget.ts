// What answers have given to the transports and what has not left. Each waits for its own bytes to leave before it makes
// more; this bounds all of them together, across both transports.
import { FramesError } from '../engine/index.js'

interface Waiting {
  readonly byteLength: number
  readonly sinceMs: number
  readonly giveUp: (error: FramesError) => void
}

export class SendBudget {
  readonly #byteLengthMax: number
  readonly #waitMsMin: number
  /** The one that has waited longest first, as Set order. */
  readonly #waiting = new Set<Waiting>()
  #byteLength = 0

  /** waitMsMin: whoever has waited less is never given up. */
  constructor(byteLengthMax: number, waitMsMin: number) {
    this.#byteLengthMax = byteLengthMax
    this.#waitMsMin = waitMsMin
  }

  get byteLength(): number {
    return this.#byteLength
  }

  /**
   * Bytes begin to wait. Call what this returns when they wait no more, for whatever reason; more often does nothing. `giveUp` is called
   * when all together are above the budget and these have waited longest: the answer ends, so that its bytes can go.
   * As many are given up as it takes.
   */
  wait(byteLength: number, giveUp: (error: FramesError) => void): () => void {
    const waiting: Waiting = { byteLength, sinceMs: performance.now(), giveUp }
    this.#waiting.add(waiting)
    this.#byteLength += byteLength
    if (this.#byteLength > this.#byteLengthMax) this.#giveUpLongest()
    return () => this.#remove(waiting)
  }

  #giveUpLongest(): void {
    const nowMs = performance.now()
    for (const longest of this.#waiting) {
      const waitedMs = nowMs - longest.sinceMs
      if (this.#byteLength <= this.#byteLengthMax || waitedMs < this.#waitMsMin) return
      this.#remove(longest)
      const what = `this answer was not read for ${Math.round(waitedMs / 1000)} s, and unread answers hold too much memory`
      longest.giveUp(new FramesError('ANSWER_UNREAD', what))
    }
  }

  #remove(waiting: Waiting): void {
    if (this.#waiting.delete(waiting)) this.#byteLength -= waiting.byteLength
  }
}
