// Processes that are killed at any moment while they write records: what was acknowledged is there, whole, once and in
// order. KILLS=n kills n times, SEED=n repeats the moments.
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, expect, test } from 'vitest'
import { openEngine } from '../dist/engine/index.js'
import { group, stream, wholeFrames } from './crash/records.mjs'
import { SeededRandom, seed } from './seeded-random.js'

const dataDir = mkdtempSync(join(tmpdir(), 'framesd-stream-kill-'))
const children = new Set<ChildProcess>()
afterAll(() => {
  for (const child of children) child.kill('SIGKILL')
  rmSync(dataDir, { recursive: true, force: true })
})

const killCount = Number(process.env['KILLS'] ?? 12)
const writerCount = 3

/** Runs the writer until it is killed, lifeMs after it has said `from`; what it has said, whole lines only. */
async function killWriter(lifeMs: number, from: RegExp): Promise<string[]> {
  const script = fileURLToPath(new URL('crash/record-writer.mjs', import.meta.url))
  const args = [script, dataDir, String(writerCount)]
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  children.add(child)
  let output = ''
  const signal = await new Promise<NodeJS.Signals | null>((resolve, reject) => {
    child.stdout.on('data', (chunk: Buffer) => {
      const isCounted = from.test(output)
      output += chunk
      if (!isCounted && from.test(output)) setTimeout(() => child.kill('SIGKILL'), lifeMs)
    })
    child.on('error', reject)
    child.on('close', (_code, by) => resolve(by))
  })
  children.delete(child)
  expect(signal, `the writer ends only because it is killed: ${output.slice(-2000)}`).toBe('SIGKILL')
  return output.split('\n').slice(0, -1)
}

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
    const lines = await killWriter(random.integer(0, random.pick([30, 200, 800])), from)
    expect(lines.filter((line) => line.startsWith('report'))).toEqual([])
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
