// Processes that are killed at any moment while they write records: what was acknowledged is there, whole, once and in
// order. KILLS=n kills n times, SEED=n repeats the moments.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { openEngine } from '../dist/engine/index.js'
import { group, stream, wholeFrames } from './crash/records.mjs'
import { killWriter, killWriters } from './crash/killed-writer.js'
import { SeededRandom, seed } from './seeded-random.js'

const dataDir = mkdtempSync(join(tmpdir(), 'framesd-stream-kill-'))
afterAll(() => {
  killWriters()
  rmSync(dataDir, { recursive: true, force: true })
})

const killCount = Number(process.env['KILLS'] ?? 12)
const writerCount = 3

test(`${killCount} kills while records are written and merged: every acknowledged one is there, once and in order`, {
  timeout: 3_600_000,
}, async () => {
  const random = new SeededRandom(seed)
  let ackCount = 0
  const acked = new Array<number>(writerCount).fill(0)
  const committed = new Map<number, number>()
  const compare = (found: readonly number[]): void => {
    for (let writer = 0; writer < writerCount; writer++)
      expect(found[writer], `frames of writer ${writer}`).toBeGreaterThanOrEqual(acked[writer]!)
  }
  for (let kill = 0; kill < killCount; kill++) {
    const from = random.pick([/^found /m, /^ack /m, /^ack /m])
    const lines = await killWriter(
      'record-writer.mjs',
      [dataDir, String(writerCount)],
      random.integer(0, random.pick([30, 200, 800])),
      from,
    )
    for (const line of lines) {
      const [word, ...numbers] = line.split(' ')
      if (word === 'found') compare(numbers.map(Number))
      if (word === 'ack') {
        acked[Number(numbers[0])] = Number(numbers[1]) + 1
        ackCount++
      }
      if (word === 'committed') committed.set(Number(numbers[0]), Number(numbers[1]))
    }
  }
  const engine = await openEngine({ dataDir, memoryByteLength: 256 * 2 ** 20, workerCount: 2, history: false })
  try {
    compare(await wholeFrames(engine, writerCount))
    await engine.execute({ ...stream, command: 'compact' })
    compare(await wholeFrames(engine, writerCount))
    const offsets = await engine.execute({ ...stream, command: 'offsets', args: { group } })
    const positions = offsets!.column('sequence').values().map(Number)
    for (const shard of committed.keys()) expect(positions[shard]).toBeGreaterThan(0)
    expect(positions.some((position) => position > 0)).toBe(committed.size > 0)
  } finally {
    await engine.close()
  }
  expect(ackCount, 'there was something to lose').toBeGreaterThan(killCount)
  console.log(`${killCount} kills: ${ackCount} frames acknowledged, ${acked.join(' + ')} stored`)
})
