// Which shard a key belongs to is stored with the records: the answers are fixed here, and keys move to new shards only.
import { expect, test } from 'vitest'
import { KernelMemory } from './kernel-memory.js'
import { SeededRandom, seed } from './seeded-random.js'

const mask = 2n ** 64n - 1n

function shardOf(text: string, shardCount: number): number {
  let hash = 0xcbf29ce484222325n
  for (const byte of Buffer.from(text)) hash = ((hash ^ BigInt(byte)) * 0x100000001b3n) & mask
  hash = ((hash ^ (hash >> 33n)) * 0xff51afd7ed558ccdn) & mask
  hash = ((hash ^ (hash >> 33n)) * 0xc4ceb9fe1a85ec53n) & mask
  hash ^= hash >> 33n
  let shard = -1
  for (let next = 0; next < shardCount; ) {
    shard = next
    hash = (hash * 2862933555777941757n + 1n) & mask
    next = Math.trunc((shard + 1) * (2 ** 31 / (Number(hash >> 33n) + 1)))
  }
  return shard
}

const memory = new KernelMemory(4 << 20)

function kernelShards(texts: readonly (string | null)[], shardCount: number): number[] {
  memory.reset()
  const { offsets, bytes } = memory.strings(texts.map((text) => Buffer.from(text ?? '')))
  const validity = texts.includes(null) ? memory.bits(texts.map((text) => text !== null)) : 0
  const target = memory.u32s(texts.length)
  memory.call.shardsOfTexts(offsets, bytes, validity, texts.length, shardCount, target)
  memory.checkGuards()
  return memory.readU32s(target, texts.length)
}

test('keys go where they always went', () => {
  expect(['', 'a', 'sensor-7', 'ü', 'x'.repeat(1000)].map((text) => shardOf(text, 8))).toEqual(
    kernelShards(['', 'a', 'sensor-7', 'ü', 'x'.repeat(1000)], 8),
  )
  expect(kernelShards(['', 'a', 'b', 'sensor-7', 'sensor-8'], 16)).toEqual([1, 5, 8, 9, 1])
})

test('random keys: as the plain form says, a missing key as the empty one, spread over all shards', () => {
  const random = new SeededRandom(seed)
  for (const shardCount of [1, 2, 7, 1024]) {
    const texts = random.list(3000, () => (random.chance(0.1) ? null : String(random.integer(0, 1e9))))
    const shards = kernelShards(texts, shardCount)
    expect(shards).toEqual(texts.map((text) => shardOf(text ?? '', shardCount)))
    if (shardCount < 100) expect(new Set(shards).size).toBe(shardCount)
  }
})

test('when shards are added, a key stays or moves to a new one', () => {
  const texts = Array.from({ length: 1000 }, (_, i) => `key ${i}`)
  for (let shardCount = 1; shardCount < 40; shardCount++) {
    const before = kernelShards(texts, shardCount)
    const after = kernelShards(texts, shardCount + 1)
    after.forEach((shard, i) => {
      expect(shard === before[i] || shard === shardCount).toBe(true)
    })
  }
})

test('progressions wrap around', () => {
  memory.reset()
  const target = memory.i64s(4)
  memory.call.fillProgression(target, 4, 2n ** 63n - 2n, 1n)
  memory.checkGuards()
  expect(memory.readI64s(target, 4)).toEqual([2n ** 63n - 2n, 2n ** 63n - 1n, -(2n ** 63n), -(2n ** 63n) + 1n])
})
