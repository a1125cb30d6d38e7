// Streams on disk: what stays over a restart, and what damaged values do.
import { cpSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { keyKinds } from '../dist/engine/blocks/keys.js'
import { type Engine, Frame, openEngine, sliceColumn } from '../dist/engine/index.js'
import { openLmdbStore } from '../dist/engine/stores/lmdb.js'

const root = mkdtempSync(join(tmpdir(), 'framesd-stream-store-'))
afterAll(() => rmSync(root, { recursive: true, force: true }))
const pristine = join(root, 'pristine')
const stream = { backend: 'stream', table: 'kept' }
const rowCount = 30_000
let folderCount = 0

async function withEngine<T>(dataDir: string, body: (engine: Engine, reports: string[]) => Promise<T>): Promise<T> {
  const reports: string[] = []
  const engine = await openEngine({
    dataDir,
    memoryByteLength: 256 * 2 ** 20,
    workerCount: 1,
    history: false,
    report: (message, error) => reports.push(error instanceof Error ? `${message}: ${error.message}` : message),
  })
  try {
    return await body(engine, reports)
  } finally {
    await engine.close()
  }
}

function frameFrom(first: number, count: number): Frame {
  const integers = (name: string, cell: (i: number) => bigint) =>
    sliceColumn(
      name,
      BigInt64Array.from({ length: count }, (_, row) => cell(first + row)),
      'int64',
    )
  return new Frame({ columns: [integers('i', BigInt), integers('uneven', uneven)] })
}

/** Grows with i, but so unevenly that a page of it is large enough for statistics. */
function uneven(i: number): bigint {
  return BigInt(i) * 1_000_000n + BigInt((i * 48_271) % 999_983)
}

async function numbers(engine: Engine, shardId?: string, filter = ''): Promise<number[]> {
  const found: number[] = []
  const request = { ...stream, seek: 'earliest', filter, ...(shardId === undefined ? {} : { shardId }) }
  for await (const frame of engine.read(request)) found.push(...[...frame.column('i').ints()].map(Number))
  return found
}

beforeAll(async () => {
  await withEngine(pristine, async (engine) => {
    await engine.create({ ...stream, shards: 2n })
    await engine.write(stream, frameFrom(0, rowCount))
    for (let i = 0; i < 4; i++)
      await engine.execute({ ...stream, command: 'put', args: { data: `{"i":${rowCount + i}}` } })
    await engine.execute({ ...stream, command: 'commit', args: { group: 'g', shard_id: 1n, sequence: 7n } })
  })
})

/** A copy of the folder in which one byte of the stored values of a kind is another. */
async function damagedCopy(kinds: readonly number[], at: (value: Uint8Array) => number): Promise<string> {
  const dataDir = join(root, `damaged-${folderCount++}`)
  cpSync(pristine, dataDir, { recursive: true, filter: (path) => !path.endsWith('.sock') && !path.includes('lock') })
  const store = await openLmdbStore({ path: dataDir })
  for (const partition of await store.partitions('t')) {
    for (const kind of kinds) {
      const [first] = await store.scan(partition, {
        start: Uint8Array.of(kind),
        end: Uint8Array.of(kind + 1),
        limit: 1,
      })
      const value = Uint8Array.from(first!.value)
      value[at(value)]! ^= 0x10
      await store.commit({ partition, puts: [{ key: first!.key, value }] })
    }
  }
  await store.close()
  return dataDir
}

test('records, places, positions and shards stay over a restart', async () => {
  const dataDir = join(root, 'restarted')
  cpSync(pristine, dataDir, { recursive: true, filter: (path) => !path.endsWith('.sock') && !path.includes('lock') })
  await withEngine(dataDir, async (engine, reports) => {
    expect(await numbers(engine)).toEqual(Array.from({ length: rowCount + 4 }, (_, i) => i))
    const offsets = await engine.execute({ ...stream, command: 'offsets', args: { group: 'g' } })
    expect(offsets!.column('sequence').values()).toEqual([0n, 7n])
    const answer = await engine.execute({ ...stream, command: 'put', args: { data: 'x' } })
    expect(answer!.column('seq_number').at(0)).toBe(BigInt(rowCount / 2 + 3))
    expect(reports).toEqual([])
  })
})

test.each([
  ['the schema', keyKinds.schema],
  ['the commit number', keyKinds.version],
  ['a live entry', keyKinds.live],
])('%s is made again when it is damaged', async (_, kind) => {
  const dataDir = await damagedCopy([kind], (value) => value.length - 6)
  await withEngine(dataDir, async (engine, reports) => {
    expect((await numbers(engine)).length).toBe(rowCount + 4)
    expect(reports.length).toBe(1)
    expect(reports[0]).toContain('damaged')
    await engine.write(stream, frameFrom(0, 2))
  })
})

test('a damaged page fails the reads that need it, and no other', async () => {
  const dataDir = await damagedCopy([keyKinds.data], () => 3)
  await withEngine(dataDir, async (engine) => {
    const codes = await Promise.all(
      ['0', '1'].map((shardId) =>
        numbers(engine, shardId).then(
          ({ length }) => length,
          (error: { code: string }) => error.code,
        ),
      ),
    )
    expect(codes).toEqual(['DATA_DAMAGED', rowCount / 2 + 2])
    await engine.write(stream, frameFrom(0, 2))
  })
})

test('texts of few different bytes stay over a restart, in fewer bytes than they have, and damaged ones fail a read', async () => {
  const dataDir = join(root, 'texts')
  const texts = Array.from({ length: rowCount }, (_, i) => `${(i * 7919) % 100_003}`.padStart(100, `${i}abcdef`))
  const read = async (): Promise<unknown[]> =>
    withEngine(dataDir, async (engine) => {
      const found: unknown[] = []
      for await (const frame of engine.read({ ...stream, seek: 'earliest', shardId: '0' }))
        found.push(...frame.column('text').values())
      return found
    })
  await withEngine(dataDir, async (engine) => {
    await engine.create(stream)
    await engine.write(stream, new Frame({ columns: [sliceColumn('text', texts)] }))
    const described = await engine.execute({ ...stream, command: 'describe' })
    expect(Number(described!.column('bytes').at(0))).toBeLessThan(0.7 * 100 * rowCount)
  })
  expect(await read()).toEqual(texts)
  const store = await openLmdbStore({ path: dataDir })
  const [partition] = await store.partitions('t')
  const range = { start: Uint8Array.of(keyKinds.data), end: Uint8Array.of(keyKinds.data + 1), limit: 100 }
  const found = await store.scan(partition!, range)
  const value = Uint8Array.from(found[0]!.value)
  expect(value[0]).toBe(10)
  value[1000]! ^= 0x10
  await store.commit({ partition: partition!, puts: [{ key: found[0]!.key, value }] })
  await store.close()
  await expect(read()).rejects.toMatchObject({ code: 'DATA_DAMAGED' })
})

test('pages that a filter rules out by their statistics or their place are not read', async () => {
  const whole = await withEngine(pristine, (engine) => numbers(engine, '0'))
  const dataDir = await damagedCopy([keyKinds.data], () => 3)
  await withEngine(dataDir, async (engine) => {
    const late = whole.filter((i) => i < rowCount && uneven(i) > uneven(10_000))
    expect(late.length).toBeGreaterThan(1000)
    expect(await numbers(engine, '0', `uneven > ${uneven(10_000)}`)).toEqual(late)
    expect(await numbers(engine, '0', 'seq_number > 10000')).toEqual(whole.slice(10_000))
    for (const filter of ['uneven >= 0', 'seq_number == 17'])
      await expect(numbers(engine, '0', filter)).rejects.toMatchObject({ code: 'DATA_DAMAGED' })
  })
})

test('a block that may hold any records makes reads and writes fail, since nobody knows where shards end', async () => {
  const dataDir = await damagedCopy([keyKinds.live, keyKinds.head], (value) => value.length - 6)
  await withEngine(dataDir, async (engine) => {
    for (const call of [numbers(engine), engine.write(stream, frameFrom(0, 2))])
      await expect(call).rejects.toMatchObject({ code: 'DATA_DAMAGED' })
  })
})

test('damaged positions of a group are reported, and not taken for none', async () => {
  const dataDir = await damagedCopy([keyKinds.note], (value) => value.length - 6)
  await withEngine(dataDir, async (engine, reports) => {
    const offsets = engine.execute({ ...stream, command: 'offsets', args: { group: 'g' } })
    await expect(offsets).rejects.toMatchObject({ code: 'DATA_DAMAGED' })
    expect(reports[0]).toContain('consumer group')
    await engine.execute({ ...stream, command: 'commit', args: { group: 'g', shard_id: 0n, sequence: 3n } })
    const after = await engine.execute({ ...stream, command: 'offsets', args: { group: 'g' } })
    expect(after!.column('sequence').values()).toEqual([3n, 0n])
  })
})
