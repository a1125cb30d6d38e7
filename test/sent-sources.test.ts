import { expect, test } from 'vitest'
import type { BlockSource } from '../dist/engine/blocks/reader.js'
import { receiveSources, sendSources } from '../dist/engine/blocks/sent-sources.js'

const plain: BlockSource = {
  id: 2n ** 64n - 1n,
  rowCount: 131_072,
  headerByteLength: 4711,
  headerCrc: 0xffffffff,
  extent: [1, 2 ** 48 - 1, -0.5],
  isPacked: false,
  packed: null,
  values: null,
  dead: null,
  damage: null,
}

const sources: readonly BlockSource[] = [
  plain,
  { ...plain, id: 0n, extent: null, isPacked: true, packed: { byteOffset: 0, byteLength: 0 } },
  { ...plain, id: 1n, extent: [], dead: { byteOffset: 2 ** 31, byteLength: 16_384 } },
  { ...plain, id: 2n, dead: Uint8Array.of(1, 2, 3) },
  { ...plain, id: 3n, values: [Uint8Array.of(4)], isPacked: true },
  { ...plain, id: 4n, damage: 'its live entry is damaged', extent: null },
  { ...plain, id: 5n, rowCount: 1 },
]

test('blocks come out of a message as they went in, plain ones and others in any order', () => {
  const orders = [sources, [...sources].reverse(), [], [sources[0]!], [sources[3]!]]
  for (const order of orders) expect(receiveSources(structuredClone(sendSources(order)))).toEqual(order)
})
