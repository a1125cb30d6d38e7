// Which label sets some blocks have, together.
import { expect, test } from 'vitest'
import { mergeSets } from '../dist/engine/backends/tsdb/directory.js'
import { SeededRandom, seed } from './seeded-random.js'

const random = new SeededRandom(seed)

/** Up to countMax ascending numbers below `end`, without gaps or with. */
function someSets(countMax: number, end: number): Uint32Array {
  const count = random.integer(0, countMax)
  if (random.integer(0, 2) === 0) {
    const first = random.integer(0, Math.max(0, end - count))
    return Uint32Array.from({ length: count }, (_, i) => first + i)
  }
  const sets = new Set(Array.from({ length: count }, () => random.integer(0, end)))
  return Uint32Array.from(sets).sort()
}

test(`the sets of several blocks come once each, ascending (seed ${seed})`, () => {
  for (let round = 0; round < 60; round++) {
    const end = [100, 70_000, 1_000_000][round % 3]!
    const lists = Array.from({ length: random.integer(1, 9) }, () => someSets(round % 20 === 0 ? 70_000 : 300, end))
    const all = [...new Set(lists.flatMap((list) => [...list]))].sort((a, b) => a - b)
    expect([...mergeSets(lists, Infinity)]).toEqual(all)
    const countMax = random.integer(1, 2 * all.length + 2)
    expect([...mergeSets(lists, countMax)]).toEqual(all.slice(0, countMax))
  }
})

test('no blocks, and blocks without sets, have none', () => {
  expect(mergeSets([], Infinity)).toHaveLength(0)
  expect(mergeSets([new Uint32Array(0), new Uint32Array(0)], Infinity)).toHaveLength(0)
})
