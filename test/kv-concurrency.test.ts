// Many writers of one key-value table at once, with merges behind them: what they leave is what a plain Map holds when the
// same writes are applied one after the other.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { type Engine, type EngineWriteSession, openEngine, type Value } from '../dist/engine/index.js'
import { frameOf, itemsOf } from './kv-table.js'
import { SeededRandom, seed } from './seeded-random.js'

const folders: string[] = []
const engines: Engine[] = []

async function open(dataDir: string | null): Promise<Engine> {
  const engine = await openEngine({ workerCount: 2, dataDir, report: () => undefined })
  engines.push(engine)
  return engine
}

function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'framesd-kv-'))
  folders.push(folder)
  return folder
}

afterEach(async () => {
  for (const engine of engines.splice(0)) await engine.close()
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true })
})

const request = { backend: 'kv', table: 't' }

describe('updates of one item by many writers', () => {
  test('8 writers that add 1 ten thousand times each end at 80,000', async () => {
    const engine = await open(newFolder())
    await engine.write({ ...request, saveMode: 'createNewItemsOnly' }, frameOf({ n: [0n] }, { id: ['x'] }))
    const writers = Array.from({ length: 8 }, async () => {
      const expression = 'n = n + {d}'
      const session = await engine.openWrite({ ...request, saveMode: 'updateItem', expression })
      // Frames of all sizes: 10,000 rows in all.
      for (const rowCount of [1, 9, 90, 900, 9000])
        await session.add(frameOf({ d: Array<bigint>(rowCount).fill(1n) }, { id: Array<string>(rowCount).fill('x') }))
      return session.finish()
    })
    for (const { rowCount, skippedCount } of await Promise.all(writers))
      expect([rowCount, skippedCount]).toEqual([10_000, 0])
    expect(await itemsOf(engine, request)).toEqual([{ id: 'x', n: 80_000n }])
  })

  test('single-item updates of many callers are all counted', async () => {
    const engine = await open(newFolder())
    const args = { key: 'x', expression: 'n = if_not_exists(n, 0) + 1' }
    const callers = Array.from({ length: 50 }, async () => {
      for (let i = 0; i < 10; i++) await engine.execute({ ...request, command: 'update', args })
    })
    await Promise.all(callers)
    await engine.write({ ...request, saveMode: 'createNewItemsOnly' }, frameOf({ n: [0n] }, { id: ['y'] }))
    expect((await itemsOf(engine, request))[0]).toMatchObject({ n: 500n })
  })

  test('single-item updates that wait together have each its own result', async () => {
    const engine = await open(null)
    const ids = Array.from({ length: 40 }, (_, i) => `k${i}`)
    const values = ids.map((_, i) => BigInt(i % 4))
    await engine.write({ ...request, saveMode: 'createNewItemsOnly' }, frameOf({ n: values }, { id: ids }))
    const results = async (condition: string) => {
      // Each key twice: the second update of a key sees what the first one did.
      const keys = [...ids, ...ids]
      const args = (key: string) => ({ key, condition, expression: 'q = 12 / (n - 3); n = n + 1' })
      const calls = keys.map((key) => engine.execute({ ...request, command: 'update', args: args(key) }))
      return (await Promise.allSettled(calls)).map((result) =>
        result.status === 'fulfilled' ? '' : result.reason.what,
      )
    }
    const expected = (i: number, time: number): string => {
      const n = Number(values[i]!) + time
      if (n < 1) return `failed to update item 'k${i}': the condition is false`
      return n === 3 || values[i] === 3n ? `failed to update item 'k${i}': division by zero` : ''
    }
    // 0: skipped both times; 1: 1 → 2 → 3; 2: 2 → 3, then division by zero; 3: division by zero both times.
    const both = ids.map((_, i) => [expected(i, 0), values[i] === 0n ? expected(i, 0) : expected(i, 1)])
    expect(await results('n >= 1')).toEqual([...both.map(([first]) => first), ...both.map(([, second]) => second)])
    expect((await itemsOf(engine, request)).map(({ n }) => n).sort()).toEqual(
      ids.map((_, i) => [0n, 3n, 3n, 3n][i % 4]).sort(),
    )
  })

  test('updates that assign constants take effect in the order of the calls, among updates that compute', async () => {
    const random = new SeededRandom(seed)
    const engine = await open(null)
    const ids = Array.from({ length: 12 }, (_, i) => `k${i}`)
    await engine.write({ ...request, saveMode: 'createNewItemsOnly' }, frameOf({ n: ids.map(() => 0n) }, { id: ids }))
    const items = new Map<string, Record<string, unknown>>(ids.map((id) => [id, { n: 0n }]))
    for (let round = 0; round < 12; round++) {
      const calls: Promise<unknown>[] = []
      const expected: string[] = []
      for (let i = 0; i < 60; i++) {
        const key = random.pick(ids)
        const item = items.get(key)!
        const text = `text ${random.integer(0, 1000)} äöü`
        const number = random.integer(0, 9)
        const { expression, next } = random.pick([
          { expression: `s = '${text}'`, next: { s: text } },
          { expression: `s = ''; n = ${number}`, next: { s: '', n: BigInt(number) } },
          { expression: `s = ${number}.5`, next: { s: number + 0.5 } },
          { expression: `b = true`, next: { b: true } },
          { expression: `n = 1; n = ${number}`, next: { n: BigInt(number) } },
          { expression: 'n = n + 1', next: { n: (item['n'] as bigint) + 1n } },
          { expression: `s = 'lost'; n = 1 / 0`, next: null },
        ])
        const condition = random.pick(['', '', 'n < 5'])
        const isTrue = condition === '' || (item['n'] as bigint) < 5n
        calls.push(engine.execute({ ...request, command: 'update', args: { key, expression, condition } }))
        if (!isTrue) expected.push(`failed to update item '${key}': the condition is false`)
        else expected.push(next === null ? `failed to update item '${key}': division by zero` : '')
        if (isTrue && next !== null) Object.assign(item, next)
      }
      const found = await Promise.allSettled(calls)
      expect(found.map((result) => (result.status === 'fulfilled' ? '' : result.reason.what))).toEqual(expected)
    }
    for (const key of ids) {
      const answer = await engine.execute({ ...request, command: 'get', args: { key } })
      // An attribute of several types is shown as text.
      const texts = (cells: readonly (readonly [string, unknown])[]) =>
        cells.map(([name, cell]) => [name, String(cell)])
      const expected = Object.entries(items.get(key)!)
      const found = expected.map(([name]) => [name, answer!.column(name).at(0)] as const)
      expect(texts(found)).toEqual(texts(expected))
    }
  })

  test('a table that is deleted under its writers is made anew, and nothing hangs', async () => {
    const engine = await open(newFolder())
    const write = async (key: string): Promise<void> => {
      const session = await engine.openWrite({ ...request, saveMode: 'updateItem' })
      for (let i = 0; i < 20; i++) await session.add(frameOf({ n: [BigInt(i)] }, { id: [key] }))
      await session.finish()
    }
    const remove = async (): Promise<void> => {
      for (let i = 0; i < 5; i++) await engine.delete({ ...request, ifMissing: 'ignore' })
    }
    await Promise.all([write('a'), write('b'), remove()])
    await write('c')
    const items = await itemsOf(engine, request)
    expect(items.filter(({ id }) => id === 'c')).toEqual([{ id: 'c', n: 19n }])
    for (const { id, n } of items) expect([id, n]).toEqual([id, 19n])
  })

  test('of many that compare and set, one wins each round', async () => {
    const engine = await open(null)
    await engine.write({ ...request, saveMode: 'createNewItemsOnly' }, frameOf({ v: [0n] }, { id: ['lock'] }))
    for (let round = 0n; round < 20n; round++) {
      const tries = Array.from({ length: 8 }, (_, i) =>
        engine.write(
          { ...request, saveMode: 'updateItem', condition: '{v} == v + 1' },
          frameOf({ v: [round + 1n], owner: [BigInt(i)] }, { id: ['lock'] }),
        ),
      )
      const skipped = (await Promise.all(tries)).map(({ skippedCount }) => skippedCount)
      expect(skipped.filter((count) => count === 0).length).toBe(1)
      const [item] = await itemsOf(engine, request)
      expect(item).toEqual({ id: 'lock', v: round + 1n, owner: BigInt(skipped.indexOf(0)) })
    }
  })
})

test('a read sees whole frames, never a part of one', async () => {
  const engine = await open(newFolder())
  const ids = Array.from({ length: 3000 }, (_, i) => `item${i}`)
  const frame = (version: bigint) => frameOf({ v: Array<bigint>(ids.length).fill(version) }, { id: ids })
  await engine.write({ ...request, saveMode: 'updateItem' }, frame(0n))
  let isWriting = true
  const write = async (): Promise<void> => {
    for (let version = 1n; version <= 30n; version++)
      await engine.write({ ...request, saveMode: 'updateItem' }, frame(version))
    isWriting = false
  }
  const read = async (): Promise<bigint> => {
    let last = 0n
    while (isWriting) {
      const items = await itemsOf(engine, request)
      expect(items.length).toBe(ids.length)
      expect(new Set(items.map(({ v }) => v)).size).toBe(1)
      const version = items[0]!['v'] as bigint
      expect(version >= last).toBe(true)
      last = version
    }
    return last
  }
  await Promise.all([write(), read(), read()])
  expect((await itemsOf(engine, request))[0]).toMatchObject({ v: 30n })
})

// ---- against a plain Map --------------------------------------------------------------------------------------------

type Cells = Record<string, Value | null>
type Model = Map<string, Record<string, Value>>

interface Rule {
  readonly saveMode: string
  readonly condition?: string
  readonly expression?: string
  /** The rule again, over plain objects: what becomes of an item, or null when the row is skipped. */
  apply(old: Record<string, Value> | undefined, id: string, row: Cells): Record<string, Value> | null
}

const present = (row: Cells): Record<string, Value> =>
  Object.fromEntries(Object.entries(row).filter((entry): entry is [string, Value] => entry[1] !== null))
const without = (item: Record<string, Value>, names: string[]): Record<string, Value> =>
  Object.fromEntries(Object.entries(item).filter(([name]) => !names.includes(name)))
const missing = (row: Cells): string[] => Object.keys(row).filter((name) => row[name] === null)
const isLess = (a: Value | null | undefined, b: Value | null | undefined): boolean =>
  typeof a === 'bigint' && typeof b === 'bigint' && a < b

const update: Rule['apply'] = (old, id, row) => ({ ...without(old ?? {}, missing(row)), ...present(row), id })

const rules: readonly Rule[] = [
  { saveMode: 'createNewItemsOnly', apply: (old, id, row) => (old === undefined ? { ...present(row), id } : null) },
  { saveMode: 'updateItem', apply: update },
  { saveMode: 'overwriteItem', apply: (_old, id, row) => ({ ...present(row), id }) },
  {
    saveMode: 'updateItem',
    condition: 'n < {n}',
    apply: (old, id, row) => (isLess(old?.['n'], row['n']) ? update(old, id, row) : null),
  },
  {
    saveMode: 'overwriteItem',
    condition: 'NOT exists(n) OR n < {n}',
    apply: (old, id, row) => (old?.['n'] === undefined || isLess(old['n'], row['n']) ? { ...present(row), id } : null),
  },
  {
    saveMode: 'updateItem',
    expression: "n = if_not_exists(n, 0) + 1; id = {id}; s = if_else(exists(s), 'again', 'first'); delete(b)",
    apply: (old, id) => ({
      ...without(old ?? {}, ['b']),
      n: ((old?.['n'] as bigint | undefined) ?? 0n) + 1n,
      s: old?.['s'] === undefined ? 'first' : 'again',
      id,
    }),
  },
  {
    saveMode: 'createNewItemsOnly',
    expression: 'n = 5; id = {id}',
    condition: '{n} > 500',
    apply: (old, id, row) => (old === undefined && isLess(500n, row['n']) ? { n: 5n, id } : null),
  },
]

function randomRow(random: SeededRandom): Cells {
  const cell = (value: Value): Value | null => (random.chance(0.2) ? null : value)
  return {
    n: cell(BigInt(random.integer(0, 1000))),
    s: cell(random.pick(['', 'a', 'bb', 'ünïcödé', 'x'.repeat(300)])),
    f: cell(random.next()),
    b: cell(random.chance(0.5)),
    t: cell({ timeNs: BigInt(random.integer(0, 1e6)) }),
  }
}

describe.each([['memory'], ['lmdb']])('%s', (store) => {
  test('any mix of concurrent writes, deletes, merges and restarts leaves what a Map holds', async () => {
    const random = new SeededRandom(seed)
    const folder = store === 'memory' ? null : newFolder()
    let engine = await open(folder)
    const model: Model = new Map()
    const first = { n: 1n, s: 'a', f: 0.5, b: true, t: { timeNs: 1n }, id: 'first' }
    const { id: firstId, ...firstRow } = first
    await engine.write(
      { ...request, saveMode: 'updateItem' },
      frameOf(Object.fromEntries(Object.entries(firstRow).map(([name, value]) => [name, [value]])), { id: [firstId] }),
    )
    model.set(firstId, first)
    for (let round = 0; round < 12; round++) {
      const sessions: { rule: Rule; session: EngineWriteSession }[] = []
      for (let i = 0; i < 5; i++) {
        const rule = random.pick(rules)
        const { saveMode, condition = '', expression = '' } = rule
        sessions.push({ rule, session: await engine.openWrite({ ...request, saveMode, condition, expression }) })
      }
      const skipped = new Map<EngineWriteSession, number>()
      const adds: Promise<void>[] = []
      for (let i = 0; i < 20; i++) {
        const { rule, session } = random.pick(sessions)
        const rowCount = random.pick([1, 2, 20, 200])
        const rows = Array.from({ length: rowCount }, () => randomRow(random))
        const ids = rows.map(() => `item${random.integer(0, random.pick([3, 300]))}`)
        const names = ['n', 's', 'f', 'b', 't']
        adds.push(
          session.add(
            frameOf(Object.fromEntries(names.map((name) => [name, rows.map((row) => row[name]!)])), { id: ids }),
          ),
        )
        rows.forEach((row, r) => {
          const changed = rule.apply(model.get(ids[r]!), ids[r]!, row)
          if (changed === null) skipped.set(session, (skipped.get(session) ?? 0) + 1)
          else model.set(ids[r]!, changed)
        })
      }
      const compacting = random.chance(0.5) ? engine.execute({ ...request, command: 'compact' }) : null
      await Promise.all(adds)
      for (const { session } of sessions) expect((await session.finish()).skippedCount).toBe(skipped.get(session) ?? 0)
      await compacting
      if (random.chance(0.4)) {
        const bound = random.integer(0, 300)
        await engine.delete({ ...request, filter: `n < ${bound}` })
        for (const [id, item] of model) if (isLess(item['n'], BigInt(bound))) model.delete(id)
      }
      if (folder !== null && random.chance(0.3)) {
        await engine.close()
        engines.splice(engines.indexOf(engine), 1)
        engine = await open(folder)
      }
      const expected = [...model].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, item]) => item)
      expect(await itemsOf(engine, request)).toEqual(expected)
    }
  })
})
