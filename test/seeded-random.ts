// Random inputs that can be made again: the seed is printed, and SEED=n repeats a run.

export const seed = Number(process.env['SEED'] ?? Date.now() % 1_000_000)

export class SeededRandom {
  #state: number

  constructor(start: number) {
    console.log(`random inputs: SEED=${start}`)
    this.#state = start | 0
  }

  /** A number in [0, 1); a Weyl sequence mixed by two multiplications. */
  next(): number {
    this.#state = (this.#state + 0x9e3779b9) | 0
    let mixed = Math.imul(this.#state ^ (this.#state >>> 16), 0x21f0aaad)
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97)
    return ((mixed ^ (mixed >>> 15)) >>> 0) / 2 ** 32
  }

  /** An integer in [low, high). */
  integer(low: number, high: number): number {
    return low + Math.floor(this.next() * (high - low))
  }

  chance(probability: number): boolean {
    return this.next() < probability
  }

  pick<T>(choices: readonly T[]): T {
    return choices[this.integer(0, choices.length)]!
  }

  list<T>(count: number, make: (index: number) => T): T[] {
    return Array.from({ length: count }, (_, index) => make(index))
  }

  /** Bits that come in runs, all of one kind, or scattered: the shapes that take different paths in a kernel. */
  bits(count: number): boolean[] {
    const kind = this.integer(0, 5)
    if (kind === 0) return this.list(count, () => true)
    if (kind === 1) return this.list(count, () => false)
    if (kind === 2) return this.list(count, () => this.chance(0.5))
    if (kind === 3) return this.list(count, () => this.chance(0.97))
    let value = this.chance(0.5)
    return this.list(count, () => (this.chance(0.02) ? (value = !value) : value))
  }

  /** Any int64, with the small and the extreme ones more often than their share. */
  int64(): bigint {
    const kind = this.integer(0, 4)
    if (kind === 0) return BigInt(this.integer(-10, 10))
    if (kind === 1) return this.pick([-(2n ** 63n), 2n ** 63n - 1n, 2n ** 53n + 1n, -(2n ** 53n) - 1n, 2n ** 62n, 0n])
    const bits = BigInt.asIntN(64, (BigInt(this.integer(0, 2 ** 32)) << 32n) | BigInt(this.integer(0, 2 ** 32)))
    return kind === 2 ? bits : bits >> BigInt(this.integer(0, 64))
  }

  /** A float64: mostly ordinary, now and then one of the awkward ones. */
  float64(awkwardChance = 0.1): number {
    if (this.chance(awkwardChance)) {
      return this.pick([
        0,
        -0,
        Number.NaN,
        Infinity,
        -Infinity,
        Number.MAX_VALUE,
        -Number.MAX_VALUE,
        5e-324,
        -5e-324,
        1,
      ])
    }
    return this.chance(0.5) ? this.integer(-20, 20) : (this.next() - 0.5) * 2000
  }

  string(): string {
    const length = this.chance(0.1) ? this.integer(0, 300) : this.integer(0, 12)
    return this.list(length, () => this.pick(['a', 'a', 'b', 'ab', 'é', '€', '𝄞', 'z', '\0'])).join('')
  }
}

/** Row counts around the widths that loops work in. */
export const rowCounts = [0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 127, 128, 129, 200, 511, 513, 1000]
