// Reads of a kv table against a plain map, while others write, delete and merge.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { type Engine, frameFromRows, openEngine } from '../dist/engine/index.js'
import type { ReadRequest } from '../dist/engine/requests.js'
import { plainRows } from './kv-read-fixture.js'
import { SeededRandom, seed } from './seeded-random.js'

const random = new SeededRandom(seed)
const root = mkdtempSync(join(tmpdir(), 'kvread-model-'))
afterAll(() => rmSync(root, { recursive: true, force: true }))

interface Item {
  readonly k: string
  readonly n: bigint | null
  readonly f: number | null
  readonly t: string | null
  readonly b: boolean | null
}

const table = { backend: 'kv', table: 'model' }
const keyCount = 1500
const nameOf = (key: number): string => `${['a', 'é', 'zz'][key % 3]}${key}`

function randomItem(key: number): Item {
  return {
    k: nameOf(key),
    n: random.chance(0.8) ? BigInt(random.integer(-20, 100)) : null,
    f: random.chance(0.8) ? random.integer(-100, 100) / 4 : null,
    t: random.chance(0.8) ? 'xyz'.repeat(random.integer(0, 3)) + String(random.integer(0, 9)) : null,
    b: random.chance(0.8) ? random.chance(0.5) : null,
  }
}

/** Filters, and the same as plain functions: a comparison with what is missing is false. */
const filters: readonly { readonly text: string; readonly test: (item: Item) => boolean }[] = [
  { text: '', test: () => true },
  { text: 'n > 40', test: ({ n }) => n !== null && n > 40n },
  { text: 'n > 40 and f <= 3.5', test: ({ n, f }) => n !== null && n > 40n && f !== null && f <= 3.5 },
  { text: 'NOT (n > 40)', test: ({ n }) => !(n !== null && n > 40n) },
  { text: "starts(t, 'xyz') or b == true", test: ({ t, b }) => t?.startsWith('xyz') === true || b === true },
  { text: 'NOT exists(t)', test: ({ t }) => t === null },
  { text: 'n IN (1, 2, 3.0, 50)', test: ({ n }) => n !== null && [1n, 2n, 3n, 50n].includes(n) },
  { text: "__name >= 'b'", test: ({ k }) => Buffer.compare(Buffer.from(k), Buffer.from('b')) >= 0 },
]

async function rowsOf(engine: Engine, request: Partial<ReadRequest>): Promise<Record<string, unknown>[]> {
  const rows: Record<string, unknown>[] = []
  for await (const frame of engine.read({ ...table, ...request })) rows.push(...plainRows([frame]))
  return rows
}

/** Reads in parts, each going on where the last one ended. */
async function rowsByLimit(engine: Engine, request: Partial<ReadRequest>, limit: bigint) {
  const rows: Record<string, unknown>[] = []
  for (let marker = ''; ; ) {
    let next: unknown
    for await (const frame of engine.read({ ...table, ...request, limit, marker })) {
      rows.push(...plainRows([frame]))
      next = frame.labels.get('next_marker')
    }
    if (next === undefined) return rows
    marker = String(next)
  }
}

async function expectSame(engine: Engine, model: ReadonlyMap<string, Item>): Promise<void> {
  const { text, test: passes } = random.pick(filters)
  const expected = [...model.values()].filter(passes).sort((a, b) => Buffer.compare(Buffer.from(a.k), Buffer.from(b.k)))
  const columns = ['k', ...['n', 'f', 't', 'b'].filter(() => random.chance(0.5))]
  const request = { columns, filter: text, resetIndex: true }
  const shown = expected.map((item) =>
    Object.fromEntries(Object.entries(item).filter(([name]) => columns.includes(name))),
  )
  const pickRows = (rows: readonly Record<string, unknown>[]) =>
    rows.map((row) => Object.fromEntries(columns.map((name) => [name, row[name]])))
  expect(pickRows(await rowsOf(engine, { ...request, messageLimit: BigInt(random.pick([0, 100])) }))).toEqual(shown)
  expect(pickRows(await rowsByLimit(engine, request, BigInt(random.integer(100, 900))))).toEqual(shown)
  const parts = await Promise.all(
    [0n, 1n, 2n].map((segment) => rowsOf(engine, { ...request, segments: [segment], totalSegments: 3n })),
  )
  expect(
    parts
      .flat()
      .map(({ k }) => k)
      .sort(),
  ).toEqual(expected.map(({ k }) => k).sort())
  const counted = await engine.execute({ ...table, command: 'count', args: { filter: text } })
  expect(plainRows([counted!])).toEqual([{ count: BigInt(expected.length) }])
  const keys = Array.from({ length: 50 }, () => nameOf(random.integer(0, keyCount + 50)))
  const got = await engine.execute({ ...table, command: 'get', args: { keys } })
  const there = keys.flatMap((key) => model.get(key) ?? [])
  expect(got === null ? [] : plainRows([got]).map(({ k, n, f, t, b }) => ({ k, n, f, t, b }))).toEqual(there)
}

test('whatever was written, deleted and merged, every read gives what a plain map holds', async () => {
  const engine = await openEngine({ dataDir: join(root, 'model'), workerCount: 2 })
  const model = new Map<string, Item>()
  try {
    for (let round = 0; round < 5; round++) {
      // Writers with keys of their own, at once, and readers among them who must not fail.
      const keys = Array.from({ length: keyCount }, (_, key) => key).filter(() => random.chance(0.15))
      const items = keys.map(randomItem)
      const saveMode = random.pick(['overwriteItem', 'updateItem'])
      const writers = [0, 1, 2].map((writer) =>
        engine.write(
          { ...table, saveMode },
          frameFromRows(
            items.filter((_, i) => i % 3 === writer).map((item) => ({ ...item })),
            ['k'],
          ),
        ),
      )
      const readers = round === 0 ? [] : [rowsOf(engine, { filter: 'n > 0' }), rowsOf(engine, { columns: ['t'] })]
      await Promise.all([...writers, ...readers])
      for (const item of items) model.set(item.k, item)
      if (random.chance(0.4)) {
        const below = BigInt(random.integer(-20, 0))
        await engine.delete({ ...table, filter: `n < ${below}` })
        for (const [name, { n }] of model) if (n !== null && n < below) model.delete(name)
      }
      if (random.chance(0.3)) await engine.execute({ ...table, command: 'compact' })
      await expectSame(engine, model)
    }
  } finally {
    await engine.close()
  }
}, 180_000)

test('a read sees one moment of the table, whatever is written and merged meanwhile', async () => {
  const engine = await openEngine({ dataDir: join(root, 'moments'), workerCount: 2 })
  const rowCount = 2500
  const names = Array.from({ length: rowCount }, (_, i) => nameOf(i))
  const write = (version: bigint) =>
    engine.write(
      { ...table, saveMode: 'overwriteItem' },
      frameFromRows(
        names.map((k) => ({ k, v: version })),
        ['k'],
      ),
    )
  try {
    await write(0n)
    let isWriting = true
    const writing = (async () => {
      for (let version = 1n; version <= 12n; version++) {
        await write(version)
        if (version % 5n === 0n) await engine.execute({ ...table, command: 'compact' })
      }
      isWriting = false
    })()
    let readCount = 0
    while (isWriting) {
      const rows = await rowsOf(engine, { columns: ['v'], messageLimit: 300n })
      expect(rows).toHaveLength(rowCount)
      expect(new Set(rows.map(({ v }) => v)).size).toBe(1)
      readCount++
    }
    await writing
    expect(readCount).toBeGreaterThan(0)
  } finally {
    await engine.close()
  }
}, 180_000)
