// What peers have sent and nobody has taken yet: parts of messages, and messages that wait. Windows and pauses bound
// each stream; this bounds all of them together, across both transports.

/** The bytes one peer has waiting. */
export interface Receipt {
  /** More bytes have come. */
  add(byteLength: number): void
  /** What has come takes so many bytes more. */
  hold(byteLength: number): void
  /** A message of so many bytes has been taken. */
  take(byteLength: number): void
  /** Nothing waits any more, whatever still comes is thrown away. */
  close(): void
}

interface Waiting {
  byteLength: number
  readonly refuse: () => void
}

export class ReceiveBudget {
  readonly #byteLengthMax: number
  readonly #onReceived: (byteLength: number) => void
  readonly #waiting = new Set<Waiting>()
  #byteLength = 0

  /** `onReceived` is told of all bytes that come. */
  constructor(byteLengthMax: number, onReceived: (byteLength: number) => void = () => undefined) {
    this.#byteLengthMax = byteLengthMax
    this.#onReceived = onReceived
  }

  /** `refuse` is called when all peers together are above the budget and this one has the most waiting. */
  open(refuse: () => void): Receipt {
    const waiting: Waiting = { byteLength: 0, refuse }
    this.#waiting.add(waiting)
    const hold = (byteLength: number): void => {
      if (!this.#waiting.has(waiting)) return
      waiting.byteLength += byteLength
      this.#byteLength += byteLength
      if (this.#byteLength > this.#byteLengthMax) this.#refuseLargest()
    }
    return {
      add: (byteLength) => {
        this.#onReceived(byteLength)
        hold(byteLength)
      },
      hold,
      take: (byteLength) => {
        if (!this.#waiting.has(waiting)) return
        const taken = Math.min(byteLength, waiting.byteLength)
        waiting.byteLength -= taken
        this.#byteLength -= taken
      },
      close: () => this.#remove(waiting),
    }
  }

  get byteLength(): number {
    return this.#byteLength
  }

  /** Whoever has the most waiting goes: small senders never pay for large ones. */
  #refuseLargest(): void {
    let largest: Waiting | null = null
    for (const waiting of this.#waiting) {
      if (largest === null || waiting.byteLength > largest.byteLength) largest = waiting
    }
    if (largest === null) return
    this.#remove(largest)
    largest.refuse()
  }

  #remove(waiting: Waiting): void {
    if (!this.#waiting.delete(waiting)) return
    this.#byteLength -= waiting.byteLength
  }
}
