// Random texts for parsers: pieces of the language in random order, with a stray character now and then.

/** A small seeded generator of random numbers in [0, 1) (mulberry32, Tommy Ettinger, 2017, public domain). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** Calls body with `count` random texts; a failure names the seed and the text. FUZZ_SEED repeats a run. */
export function fuzz(count: number, pieces: readonly string[], body: (text: string) => void): void {
  const seed = Number(process.env['FUZZ_SEED'] ?? Date.now() % 2 ** 32)
  const random = seededRandom(seed)
  const pick = (n: number) => Math.floor(random() * n)
  for (let i = 0; i < count; i++) {
    let text = ''
    for (let length = pick(12); length > 0; length--) {
      text +=
        random() < 0.1 ? String.fromCharCode(random() < 0.8 ? pick(128) : pick(65536)) : pieces[pick(pieces.length)]
    }
    try {
      body(text)
    } catch (error) {
      throw new Error(`seed ${seed}, input ${JSON.stringify(text)}`, { cause: error })
    }
  }
}

/** The message of the error that body throws. */
export function messageOf(body: () => unknown): string {
  try {
    body()
  } catch (error) {
    if (error instanceof Error && error.name === 'FramesError') return error.message
    throw error
  }
  throw new Error('nothing was thrown')
}
