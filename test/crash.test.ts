// Processes that are killed at any moment: what was acknowledged is there, whole and once; nothing is there in part.
// KILLS=n kills n times instead of 50, SEED=n repeats the moments.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { type Engine, openEngine } from '../dist/engine/index.js'
import { openLmdbStore } from '../dist/engine/stores/lmdb.js'
import { backend, wholeFrames } from './crash/frames.mjs'
import { killWriter, killWriters } from './crash/killed-writer.js'
import { SeededRandom, seed } from './seeded-random.js'

const root = mkdtempSync(join(tmpdir(), 'framesd-kill-'))
afterAll(() => {
  killWriters()
  rmSync(root, { recursive: true, force: true })
})

const killCount = Number(process.env['KILLS'] ?? 50)
const streamCount = 3

async function withEngine(dataDir: string, body: (engine: Engine) => Promise<void>): Promise<void> {
  const problems: string[] = []
  const engine = await openEngine({
    dataDir,
    memoryByteLength: 256 * 2 ** 20,
    workerCount: 2,
    history: false,
    report: (message, error) => problems.push(error instanceof Error ? `${message}: ${error.stack}` : message),
  })
  try {
    await body(engine)
  } finally {
    await engine.close()
  }
  expect(problems).toEqual([])
}

test(
  `${killCount} kills while frames are written and merged: every acknowledged frame is there, whole and once`,
  {
    timeout: 3_600_000,
  },
  () => killWhileWriting('ingest', killCount),
)

test(
  'kills while a large table is compacted and what comes meanwhile is merged beside: the same holds',
  {
    timeout: 3_600_000,
  },
  () => killWhileWriting('ballast', Math.ceil(killCount / 5)),
)

async function killWhileWriting(mode: 'ingest' | 'ballast', killCount: number): Promise<void> {
  const random = new SeededRandom(seed)
  const dataDir = join(root, mode)
  /** The first frame of each stream that no process has found yet. */
  const next = new Array<number>(streamCount).fill(0)
  let acked: number[][] = []
  let ackCount = 0
  let mergeCount = 0
  /** What was acknowledged before the last kill is among what was found after it. */
  const compare = (found: readonly number[][]): void => {
    const isFound = new Set(found.map(String))
    for (const frame of acked) expect(isFound.has(String(frame)), `frame ${frame[1]} of stream ${frame[0]}`).toBe(true)
    for (let stream = 0; stream < streamCount; stream++) {
      // Frames of a stream are stored in their order: nothing stands behind a gap.
      const numbers = found.filter(([s]) => s === stream).map(([, n]) => n!)
      const last = Math.max(next[stream]! - 1, ...numbers)
      expect(numbers.length, `frames of stream ${stream} since ${next[stream]}`).toBe(last + 1 - next[stream]!)
      next[stream] = last + 1
    }
  }
  for (let kill = 0; kill < killCount; kill++) {
    const lifeMs = random.integer(0, random.pick(mode === 'ingest' ? [30, 200, 800] : [2000, 4000]))
    const lines = await killWriter(
      'writer.mjs',
      [dataDir, mode, ...next.map(String)],
      lifeMs,
      random.pick([/^open$/m, /^ack /m, /^ack /m]),
    )
    const numbersOf = (word: string): number[][] =>
      lines.filter((line) => line.startsWith(word)).map((line) => line.split(' ').slice(1).map(Number))
    compare(numbersOf('found'))
    acked = numbersOf('ack')
    ackCount += acked.length
    mergeCount += lines.filter((line) => line === 'merged').length
  }
  await withEngine(dataDir, async (engine) => {
    const found: number[][] = []
    for (let stream = 0; stream < streamCount; stream++) {
      for (const n of await wholeFrames(engine, 'ingest', stream, next[stream]!)) found.push([stream, n])
    }
    compare(found)
    await engine.execute({ backend, table: 'ingest', command: 'compact' })
    for (let stream = 0; stream < streamCount; stream++) {
      expect((await wholeFrames(engine, 'ingest', stream, 0)).size).toBe(next[stream])
    }
  })
  expect(await strayKeys(dataDir)).toEqual([])
  expect(ackCount, 'there was something to lose').toBeGreaterThan(killCount / 4)
  console.log(`${killCount} kills: ${ackCount} frames acknowledged, ${next.join(' + ')} stored, ${mergeCount} merges`)
}

test('kills while tables are made and deleted leave each of them whole or away, and no rows without a table', {
  timeout: 600_000,
}, async () => {
  const random = new SeededRandom(seed + 1)
  const dataDir = join(root, 'tables')
  let n = 0
  /** What was said last of each table, and of which round. */
  const known = new Map<string, { word: string; n: number }>()
  for (let kill = 0; kill < Math.ceil(killCount / 4); kill++) {
    const lines = await killWriter(
      'writer.mjs',
      [dataDir, 'tables', String(n)],
      random.integer(0, 300),
      random.pick([/^open$/m, /^created /m]),
    )
    for (const line of lines) {
      const [word, name, round] = line.split(' ')
      if (name === undefined) continue
      known.set(name, { word: word!, n: Number(round) })
      n = Math.max(n, Number(round) + 1)
    }
    await withEngine(dataDir, async (engine) => {
      for (const [table, { word, n: round }] of known) {
        const stream = Number(table[1])
        const code = await engine.create({ backend, table, rate: '1/s' }).then(
          () => 'MADE',
          (error: { code: string }) => error.code,
        )
        // A create that was ended may have done nothing, a delete may not have begun.
        if (word === 'created') expect(code, `${table} after '${word}'`).toBe('TABLE_EXISTS')
        if (word === 'deleted') expect(code, `${table} after '${word}'`).toBe('MADE')
        const found = await wholeFrames(engine, table, stream, 0)
        if (word === 'created') expect(found.has(round), `frame ${round} of ${table}`).toBe(true)
        if (code === 'MADE') expect(found.size, `rows of ${table}`).toBe(0)
        await engine.delete({ backend, table })
      }
    })
    known.clear()
    const store = await openLmdbStore({ path: dataDir })
    expect(await store.partitions('t'), 'partitions without a table').toEqual([])
    await store.close()
  }
  console.log(`${n} rounds of tables`)
})

test(
  'kills while samples are deleted: a delete has happened or not, whole, and nothing else is gone',
  {
    timeout: 600_000,
  },
  () => killWhileDeleting('deletes', Math.ceil(killCount / 3)),
)

test(
  'kills while samples are deleted between the steps of a large merge: the same holds',
  {
    timeout: 600_000,
  },
  () => killWhileDeleting('ballast-deletes', Math.ceil(killCount / 5)),
)

async function killWhileDeleting(mode: 'deletes' | 'ballast-deletes', killCount: number): Promise<void> {
  const random = new SeededRandom(seed + 2)
  const dataDir = join(root, mode)
  let written = 0
  let deleted = 0
  for (let kill = 0; kill < killCount; kill++) {
    const lines = await killWriter(
      'writer.mjs',
      [dataDir, mode, String(written), String(deleted)],
      random.integer(0, random.pick(mode === 'deletes' ? [30, 200, 800] : [800, 3000])),
      random.pick([/^open$/m, /^deleting /m, /^deleted /m]),
    )
    /** The number behind the last one that was said to be so. */
    const after = (word: string) => {
      const line = lines.findLast((said) => said.startsWith(`${word} `))
      return line === undefined ? 0 : Number(line.split(' ')[1]) + 1
    }
    const acked = Math.max(written, after('ack'))
    const gone = Math.max(deleted, after('deleted'))
    const begun = Math.max(gone, after('deleting'))
    await withEngine(dataDir, async (engine) => {
      await engine.create({ backend, table: 'deletes', rate: '1/s', ifExists: 'ignore' })
      const found = await wholeFrames(engine, 'deletes', 0, 0)
      for (let n = 0; n < gone; n++) expect(found.has(n), `frame ${n}, which was deleted`).toBe(false)
      for (let n = begun; n < acked; n++) expect(found.has(n), `frame ${n}, which was acknowledged`).toBe(true)
      // All of it was acknowledged before the first process said that it was open.
      if (mode === 'ballast-deletes') expect(await ballastRowCount(engine)).toBe(1_600_000)
      deleted = begun > gone && !found.has(gone) ? begun : gone
      written = Math.max(acked, ...[...found].map((n) => n + 1))
    })
  }
  expect(await strayKeys(dataDir)).toEqual([])
  expect(deleted, 'there were deletes to end').toBeGreaterThan(0)
  console.log(`${deleted} frames deleted of ${written}`)
}

async function ballastRowCount(engine: Engine): Promise<number> {
  const request = { backend, table: 'deletes', start: '0', end: '13000000000000', filter: "stream == 'ballast'" }
  let rowCount = 0
  for await (const frame of engine.read(request)) rowCount += frame.length
  return rowCount
}

/** Keys of blocks that are not live, after a clean stop. */
async function strayKeys(dataDir: string): Promise<string[]> {
  const store = await openLmdbStore({ path: dataDir })
  const stray: string[] = []
  for (const partition of await store.partitions('t')) {
    const keys = (await store.scan(partition, { limit: 1e6, keysOnly: true })).map(({ key }) => Buffer.from(key))
    const live = new Set(keys.filter((key) => key[0] === 0x20).map((key) => key.subarray(17, 25).toString('hex')))
    for (const key of keys) {
      const isBlock = key[0]! >= 0x21 && key[0]! <= 0x23
      const isMark = key[0] === 0x40 || key[0] === 0x41
      if (isMark || (isBlock && !live.has(key.subarray(1, 9).toString('hex')))) stray.push(key.toString('hex'))
    }
  }
  await store.close()
  return stray
}
