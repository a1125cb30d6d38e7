// Look-ups in a table that is larger than what one worker keeps: neighbouring names go to the same worker, and whatever worker
// looks a name up, it finds that name's item.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { encodeItemExtent, keyNumbers } from '../dist/engine/backends/kv/item-extent.js'
import { placesOf, workerOf } from '../dist/engine/backends/kv/name-places.js'
import type { LiveBlock } from '../dist/engine/blocks/live-block.js'
import { Frame, openEngine, sliceColumn } from '../dist/engine/index.js'
import { SeededRandom, seed } from './seeded-random.js'

const MiB = 2 ** 20
const noBytes = new Uint8Array()

/** A block of names [first, last], padded so that they are in the order of their numbers. */
function block(id: number, first: number, last: number, byteLength: number): LiveBlock {
  const numbers = (name: number) => keyNumbers(noBytes, Buffer.from(nameOf(name)))
  return {
    id: BigInt(id),
    firstCommit: id,
    lastCommit: id,
    rowCount: last - first + 1,
    byteLength,
    headerByteLength: 100,
    headerCrc: 0,
    segmentCount: 1,
    isPacked: false,
    extent: encodeItemExtent(numbers(first), numbers(last)),
    memory: null,
    dead: null,
    damage: null,
  }
}

function nameOf(number: number): string {
  return `item${String(number).padStart(6, '0')}`
}

test('a table that one worker keeps whole, and one of small blocks, has no places', () => {
  const workers = { workerCount: 2, keptByteLength: 10 * MiB }
  expect(placesOf([block(1, 0, 99, 9 * MiB)], workers, null)).toBe(null)
  const small = Array.from({ length: 100 }, (_, i) => block(i, 100 * i, 100 * i + 99, MiB / 2))
  expect(placesOf(small, workers, null)).toBe(null)
  expect(placesOf([block(1, 0, 99, 99 * MiB)], { workerCount: 1, keptByteLength: 0 }, null)).toBe(null)
})

test('all names of a block have one worker, and workers have about as many names', () => {
  for (const workerCount of [2, 3, 8]) {
    for (const blockCount of [workerCount, 7 * workerCount, 40 * workerCount]) {
      const blocks = Array.from({ length: blockCount }, (_, i) => block(i, 100 * i, 100 * i + 99, 4 * MiB))
      const places = placesOf(blocks, { workerCount, keptByteLength: 0 }, null)!
      const counts = new Array<number>(workerCount).fill(0)
      for (let i = 0; i < blockCount; i++) {
        const worker = workerOf(places, nameOf(100 * i))
        expect(workerOf(places, nameOf(100 * i + 57))).toBe(worker)
        counts[worker]!++
      }
      expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(Math.ceil(blockCount / workerCount / 8))
      expect(workerOf(places, '')).toBe(workerOf(places, nameOf(0)))
    }
  }
})

test('places stay as they are while small blocks come and go, and mostly when large ones are merged', () => {
  const workers = { workerCount: 2, keptByteLength: 10 * MiB }
  const large = Array.from({ length: 64 }, (_, i) => block(i, 100 * i, 100 * i + 99, 4 * MiB))
  const places = placesOf(large, workers, null)!
  expect(placesOf([...large, block(99, 0, 9, 1000)], workers, places)).toBe(places)
  const merged = [
    block(200, 0, 199, 8 * MiB),
    ...large.slice(2, 30),
    block(201, 3000, 3299, 12 * MiB),
    ...large.slice(33),
  ]
  const after = placesOf(merged, workers, places)!
  expect(after).not.toBe(places)
  let movedCount = 0
  for (let name = 0; name < 6400; name++) {
    if (workerOf(places, nameOf(name)) !== workerOf(after, nameOf(name))) movedCount++
  }
  expect(movedCount).toBeLessThan(640)
})

test('each of many calls finds its item in a table that no worker keeps whole, also while items change', async () => {
  const random = new SeededRandom(seed)
  const dataDir = mkdtempSync(join(tmpdir(), 'framesd-places-'))
  const engine = await openEngine({ workerCount: 2, dataDir, memoryByteLength: 128 * MiB })
  try {
    const request = { backend: 'kv', table: 'wide' }
    const rowCount = 24_000
    const text = (row: number) => `${row} `.repeat(1 + Math.floor(900 / `${row} `.length))
    const frames: Frame[] = []
    for (let start = 0; start < rowCount; start += 3000) {
      const names = Array.from({ length: 3000 }, (_, i) => nameOf(start + i))
      const texts = Array.from({ length: 3000 }, (_, i) => text(start + i))
      const indices = [sliceColumn('name', names, 'string')]
      frames.push(new Frame({ indices, columns: [sliceColumn('text', texts, 'string')] }))
    }
    await engine.write({ ...request, saveMode: 'createNewItemsOnly' }, frames)
    const get = async (key: string) => {
      const frame = await engine.execute({ ...request, command: 'get', args: { key } })
      return frame === null ? null : frame.column('text').at(0)
    }
    for (let turn = 0; turn < 3; turn++) {
      const rows = random.list(1500, () => random.integer(0, rowCount + 100))
      const found = await Promise.all(rows.map((row) => get(nameOf(row))))
      expect(found, `seed ${seed}`).toEqual(rows.map((row) => (row < rowCount ? text(row) : null)))
      const changed = random.integer(0, rowCount)
      const expression = `text='changed ${turn}'`
      const update = engine.execute({ ...request, command: 'update', args: { key: nameOf(changed), expression } })
      const during = await Promise.all(random.list(300, () => get(nameOf(changed))))
      await update
      expect(during.every((cell) => cell === text(changed) || cell === `changed ${turn}`)).toBe(true)
      expect(await get(nameOf(changed))).toBe(`changed ${turn}`)
      await engine.execute({
        ...request,
        command: 'update',
        args: { key: nameOf(changed), expression: `text='${text(changed)}'` },
      })
    }
  } finally {
    await engine.close()
    rmSync(dataDir, { recursive: true })
  }
})
