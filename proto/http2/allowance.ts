// What a peer may do of something that costs us more than it: so many at once, so many a second in the long run.

export class Allowance {
  readonly #burstMax: number
  readonly #perSecond: number
  #tokenCount: number
  #countedMs = performance.now()

  constructor(burstMax: number, perSecond: number) {
    this.#burstMax = burstMax
    this.#perSecond = perSecond
    this.#tokenCount = burstMax
  }

  /** Counts `count` of it; false: that is too many. */
  take(count = 1): boolean {
    const nowMs = performance.now()
    const regained = ((nowMs - this.#countedMs) / 1000) * this.#perSecond
    this.#tokenCount = Math.min(this.#burstMax, this.#tokenCount + regained) - count
    this.#countedMs = nowMs
    return this.#tokenCount >= 0
  }
}
