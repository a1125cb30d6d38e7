// Processes that are killed while they overwrite, update and count up items: every acknowledged write has happened, once and
// whole, and every item is there once. KILLS=n kills n times, SEED=n repeats the moments.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { keyKinds } from '../dist/engine/blocks/keys.js'
import { type Engine, Frame, openEngine, sliceColumn } from '../dist/engine/index.js'
import { openLmdbStore } from '../dist/engine/stores/lmdb.js'
import { counted, counts, request as updated, shared } from './crash/updates.mjs'
import { lastWrite, request, writeNumber } from './crash/items.mjs'
import { killWriter, killWriters } from './crash/killed-writer.js'
import { SeededRandom, seed } from './seeded-random.js'

const root = mkdtempSync(join(tmpdir(), 'framesd-kill-items-'))
afterAll(() => {
  killWriters()
  rmSync(root, { recursive: true, force: true })
})

const killCount = Number(process.env['KILLS'] ?? 20)
const streamCount = 3

async function withEngine<T>(dataDir: string, body: (engine: Engine) => Promise<T>): Promise<T> {
  const problems: string[] = []
  const engine = await openEngine({
    dataDir,
    memoryByteLength: 256 * 2 ** 20,
    workerCount: 2,
    history: false,
    report: (message, error) => problems.push(error instanceof Error ? `${message}: ${error.stack}` : message),
  })
  try {
    return await body(engine)
  } finally {
    await engine.close()
    expect(problems).toEqual([])
  }
}

test(`${killCount} kills while items are changed and merged: every acknowledged write happened, once and whole`, {
  timeout: 3_600_000,
}, async () => {
  const random = new SeededRandom(seed)
  const dataDir = join(root, 'items')
  const streams = Array.from({ length: streamCount }, (_, stream) => stream)
  await withEngine(dataDir, async (engine) => {
    for (const stream of streams) {
      const { write, frame } = writeNumber(stream, 0)
      await engine.write(write, frame)
    }
  })
  /** The last write of each stream that is known to have happened. */
  const last = streams.map(() => 0)
  let ackCount = 0
  let mergeCount = 0
  for (let kill = 0; kill < killCount; kill++) {
    const lifeMs = random.integer(0, random.pick([30, 200, 800]))
    const lines = await killWriter(
      'item-writer.mjs',
      [dataDir, ...last.map(String)],
      lifeMs,
      random.pick([/^open$/m, /^ack /m, /^ack /m]),
    )
    for (const line of lines) {
      const [word, stream, n] = line.split(' ')
      // Each write of a stream begins when the one before it is acknowledged.
      if (word === 'found' || word === 'ack') last[Number(stream)] = Number(n)
      if (word === 'ack') ackCount++
      if (word === 'merged') mergeCount++
    }
  }
  await withEngine(dataDir, async (engine) => {
    const found = await Promise.all(streams.map((stream) => lastWrite(engine, stream, last[stream]!)))
    await engine.execute({ ...request, command: 'compact' })
    expect(await Promise.all(streams.map((stream) => lastWrite(engine, stream, found[stream]!)))).toEqual(found)
  })
  expect(await strayKeys(dataDir)).toEqual([])
  expect(ackCount, 'there was something to lose').toBeGreaterThan(killCount / 4)
  console.log(`${killCount} kills: ${ackCount} writes acknowledged, ${last.join(' + ')} happened, ${mergeCount} merges`)
})

test(`${killCount} kills while many callers update single items: every acknowledged update happened, and none twice`, {
  timeout: 3_600_000,
}, async () => {
  const random = new SeededRandom(seed)
  const dataDir = join(root, 'updates')
  const callerCount = 24
  const keys = [shared, ...Array.from({ length: callerCount }, (_, caller) => counted(caller))]
  await withEngine(dataDir, async (engine) => {
    const n = sliceColumn('n', new BigInt64Array(keys.length), 'int64')
    await engine.write(
      { ...updated, saveMode: 'createNewItemsOnly' },
      new Frame({ columns: [n], indices: [sliceColumn('id', keys)] }),
    )
  })
  /** What an item was last found to hold, and what of it has been called for and acknowledged since. */
  const known = new Map(keys.map((key) => [key, { found: 0, callCount: 0, ackCount: 0 }]))
  let ackCount = 0
  const find = (key: string, n: number): void => {
    const { found, callCount, ackCount: acknowledged } = known.get(key)!
    expect(n, `${key}: at least what was acknowledged`).toBeGreaterThanOrEqual(found + acknowledged)
    expect(n, `${key}: at most what was called for`).toBeLessThanOrEqual(found + callCount)
    known.set(key, { found: n, callCount: 0, ackCount: 0 })
  }
  for (let kill = 0; kill < killCount; kill++) {
    const lifeMs = random.integer(0, random.pick([30, 200, 800]))
    const args = [dataDir, String(callerCount)]
    for (const line of await killWriter('update-writer.mjs', args, lifeMs, random.pick([/^open$/m, /^ack /m]))) {
      const [word, key, n] = line.split(' ')
      if (word === 'found') find(key!, Number(n))
      if (word === 'call') known.get(key!)!.callCount++
      if (word === 'ack') known.get(key!)!.ackCount++
      if (word === 'ack') ackCount++
    }
  }
  await withEngine(dataDir, async (engine) => {
    const found = await counts(engine)
    expect([...found.keys()].sort()).toEqual([...keys].sort())
    for (const [key, n] of found) find(key, n)
  })
  expect(ackCount, 'there was something to lose').toBeGreaterThan(killCount)
  console.log(`${killCount} kills: ${ackCount} updates acknowledged`)
})

/** What merges should have erased: staged and gone blocks, dead rows of blocks that are not there. */
async function strayKeys(dataDir: string): Promise<string[]> {
  const store = await openLmdbStore({ path: dataDir })
  const stray: string[] = []
  for (const partition of await store.partitions('t')) {
    const entries = await store.scan(partition, { limit: 100_000, keysOnly: true })
    const blocks = new Set(
      entries.flatMap(({ key }) =>
        key[0] === keyKinds.head || key[0] === keyKinds.packed ? [Buffer.from(key.subarray(1)).toString('hex')] : [],
      ),
    )
    for (const { key } of entries) {
      const hex = Buffer.from(key).toString('hex')
      const isDead = key[0] === keyKinds.dead || key[0] === keyKinds.deadCopy
      if (key[0] === keyKinds.stage || key[0] === keyKinds.gone || (isDead && !blocks.has(hex.slice(2))))
        stray.push(hex)
    }
  }
  await store.close()
  return stray
}
