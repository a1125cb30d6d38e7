import { expect, test } from 'vitest'
import { compareKeys, type KeyPart, key, keyTag, parseKey, prefixRange } from '../dist/engine/stores/keys.js'

const seed = Date.now() % 2 ** 31
console.log(`keys.test seed ${seed}`)

/** A small generator of numbers in [0, 1) (Mulberry32), so that a failing run can be repeated. */
function random(start: number): () => number {
  let state = start
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

const edgeNumbers = [0, 1, 0xff, 0x100, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff]
const edgeBigints = [0n, 1n, 0xffn, 2n ** 32n, 2n ** 63n - 1n, 2n ** 63n, 2n ** 64n - 1n]

test('numbers and bigints keep their order as bytes', () => {
  for (const values of [edgeNumbers, edgeBigints]) {
    for (let i = 1; i < values.length; i++) {
      expect(compareKeys(key('data', values[i - 1]), key('data', values[i]))).toBeLessThan(0)
    }
  }
})

test('tuples of random parts sort as their parts do, and are read back unchanged', () => {
  const next = random(seed)
  const bytes = () => Uint8Array.from({ length: next() * 4 }, () => [0, 1, 2, 0x61, 0xfe, 0xff][Math.floor(next() * 6)])
  const tuple = (): [number, Uint8Array, bigint, Uint8Array] => [
    edgeNumbers[Math.floor(next() * edgeNumbers.length)],
    bytes(),
    edgeBigints[Math.floor(next() * edgeBigints.length)],
    bytes(),
  ]
  const compareParts = (left: KeyPart, right: KeyPart) =>
    left instanceof Uint8Array && right instanceof Uint8Array
      ? Buffer.compare(left, right)
      : left < right
        ? -1
        : left > right
          ? 1
          : 0
  for (let round = 0; round < 20_000; round++) {
    const left = tuple()
    const right = tuple()
    let expected = 0
    for (let i = 0; i < 4 && expected === 0; i++) expected = compareParts(left[i], right[i])
    const leftKey = key('data', ...left)
    expect(Math.sign(compareKeys(leftKey, key('data', ...right)))).toBe(expected)
    expect(parseKey(leftKey, 'data', ['u32', 'bytes', 'u64', 'bytes'])).toEqual(left)
  }
})

test('text comes back as text, also with NUL and beyond ASCII', () => {
  for (const text of ['', 'a/b', 'a\0b', 'ä€😀']) {
    expect(parseKey(key('path', text, 7), 'path', ['text', 'u32'])).toEqual([text, 7])
  }
})

test('one tag is never inside the range of another', () => {
  const { start, end } = prefixRange(key('data'))
  for (const other of [key('dat', 1), key('dataa', 1), key('datb'), key('live', 0)]) {
    expect(compareKeys(other, start) < 0 || compareKeys(other, end!) >= 0).toBe(true)
  }
  expect(compareKeys(key('data', 0xffff_ffff), end!)).toBeLessThan(0)
  expect(keyTag(key('data', 1))).toBe('data')
})

test('a prefix range ends after its last key, also behind 0xff bytes', () => {
  const { start, end } = prefixRange(key('data', 0xffff_ffff))
  expect(compareKeys(start, key('data', 0xffff_ffff, 0xffff_ffff))).toBeLessThan(0)
  expect(compareKeys(key('data', 0xffff_ffff, 0xffff_ffff), end!)).toBeLessThan(0)
  expect(prefixRange(Uint8Array.of(0xff, 0xff)).end).toBeUndefined()
  expect(prefixRange(new Uint8Array()).end).toBeUndefined()
})

test('bytes that are no key of the tag are reported as damage', () => {
  const whole = key('live', 1, 'ab')
  for (const damaged of [whole.subarray(0, whole.length - 1), Uint8Array.of(...whole, 0), key('dead', 1, 'ab')]) {
    expect(() => parseKey(damaged, 'live', ['u32', 'text'])).toThrow(/no live key/)
  }
  expect(() => key('data', -1)).toThrow(/u32/)
  expect(() => key('data', 2n ** 64n)).toThrow(/u64/)
})
