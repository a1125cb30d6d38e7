// Which item an operation of YCSB (Cooper et al., "Benchmarking cloud serving systems with YCSB", SoCC 2010) is about: a few
// items are asked for all the time. Gray et al., "Quickly generating billion-record synthetic databases", SIGMOD 1994, sec. 3.2.

/** YCSB's own constant. */
const skew = 0.99

export interface KeyChooser {
  /** An item's number, 0 to itemCount - 1. */
  next(): number
}

/** The same sequence each time: the k-th most popular item is drawn with a probability proportional to 1 / k^0.99. */
export function zipfian(itemCount: number, seed: number): KeyChooser {
  let zeta = 0
  for (let k = 1; k <= itemCount; k++) zeta += 1 / k ** skew
  const zetaOfTwo = 1 + 0.5 ** skew
  const alpha = 1 / (1 - skew)
  const eta = (1 - (2 / itemCount) ** (1 - skew)) / (1 - zetaOfTwo / zeta)
  const random = randomOf(seed)
  return {
    next() {
      const u = random()
      const uz = u * zeta
      const rank = uz < 1 ? 0 : uz < zetaOfTwo ? 1 : Math.floor(itemCount * (eta * u - eta + 1) ** alpha)
      // Popular items are spread over the table, as YCSB's "scrambled" chooser does it.
      return scrambled(Math.min(rank, itemCount - 1)) % itemCount
    },
  }
}

/** Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014: the finisher, on 32 bits. */
function scrambled(value: number): number {
  let x = Math.imul(value ^ (value >>> 16), 0x45d9f3b)
  x = Math.imul(x ^ (x >>> 16), 0x45d9f3b)
  return (x ^ (x >>> 16)) >>> 0
}

/** Numbers in [0, 1); Park and Miller's generator, as in people.ts. */
export function randomOf(seed: number): () => number {
  let state = (seed % 2_147_483_646) + 1
  return () => {
    state = (state * 48_271) % 2_147_483_647
    return (state - 1) / 2_147_483_646
  }
}
