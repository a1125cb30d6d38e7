// Flipped bytes in everything that is stored: each is noticed and named, hides nothing else, and ends no process.
import { cpSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { parseHeader, parsePageTable } from '../dist/engine/blocks/block.js'
import { keyKinds } from '../dist/engine/blocks/keys.js'
import { type Engine, Frame, FramesError, openEngine, sliceColumn } from '../dist/engine/index.js'
import { openLmdbStore } from '../dist/engine/stores/lmdb.js'
import { SeededRandom, seed } from './seeded-random.js'

const root = mkdtempSync(join(tmpdir(), 'framesd-damage-'))
afterAll(() => rmSync(root, { recursive: true, force: true }))

/** Flips of each kind of value; FLIPS=n makes more of them. */
const flipCount = Number(process.env['FLIPS'] ?? 3)
const backend = 'tsdb'
const pristine = join(root, 'pristine')
let folderCount = 0

/** Rows of the series a, b (one block each), of c (small commits), and of the other table. */
const rowCounts = { a: 30_000, b: 30_000, c: 40, other: 5_000 }

function series(host: string, firstRow: number, rowCount: number): Frame {
  const times = BigInt64Array.from({ length: rowCount }, (_, i) => BigInt(firstRow + i) * 1_000_000_000n)
  return new Frame({
    columns: [
      sliceColumn(
        'value',
        Float64Array.from(times, (timeNs) => Number(timeNs / 1_000_000n) / 7),
      ),
      sliceColumn(
        'number',
        BigInt64Array.from(times, (timeNs) => timeNs / 3n),
        'int64',
      ),
      sliceColumn(
        'text',
        Array.from(times, (timeNs) => `row ${timeNs % 997n}`),
      ),
      sliceColumn(
        'flag',
        Array.from(times, (timeNs) => timeNs % 3_000_000_000n === 0n),
      ),
    ],
    indices: [sliceColumn('time', times, 'time')],
    labels: { host },
  })
}

interface OpenedEngine {
  readonly engine: Engine
  readonly reports: string[]
}

async function open(dataDir: string): Promise<OpenedEngine> {
  const reports: string[] = []
  const engine = await openEngine({
    dataDir,
    memoryByteLength: 256 * 2 ** 20,
    workerCount: 1,
    history: false,
    report: (message, error) => reports.push(error instanceof Error ? `${message}: ${error.message}` : message),
  })
  return { engine, reports }
}

beforeAll(async () => {
  const { engine } = await open(pristine)
  for (const table of ['main', 'other']) await engine.create({ backend, table, rate: '1/s' })
  await engine.write({ backend, table: 'main' }, series('a', 0, rowCounts.a))
  await engine.write({ backend, table: 'main' }, series('b', 0, rowCounts.b))
  for (let row = 0; row < rowCounts.c; row += 10) {
    await engine.write({ backend, table: 'main' }, series('c', row, 10))
  }
  await engine.write({ backend, table: 'other' }, series('z', 0, rowCounts.other))
  await engine.close()
})

interface Stored {
  readonly partition: string
  readonly key: Uint8Array
  readonly value: Uint8Array
}

/** Every stored value of the main table, which is the one with more blocks. */
async function storedValues(dataDir: string): Promise<Stored[]> {
  const store = await openLmdbStore({ path: dataDir })
  let largest: Stored[] = []
  for (const partition of await store.partitions('t')) {
    const entries = await store.scan(partition, { limit: 10_000 })
    const stored = entries.map(({ key, value }) => ({ partition, key: key.slice(), value: value.slice() }))
    if (stored.length > largest.length) largest = stored
  }
  await store.close()
  return largest
}

/** A copy of the pristine folder with one byte of one value changed. */
async function damaged({ partition, key, value }: Stored, offset: number, bits: number): Promise<string> {
  const dataDir = join(root, `data-${folderCount++}`)
  cpSync(pristine, dataDir, { recursive: true })
  const store = await openLmdbStore({ path: dataDir })
  const changed = value.slice()
  changed[offset]! ^= bits
  await store.commit({ partition, puts: [{ key, value: changed }] })
  await store.close()
  return dataDir
}

interface Answer {
  readonly rowCount: number
  /** The sum of all cells that are numbers. */
  readonly sum: number
}

async function read(engine: Engine, table: string, host: string, columns: readonly string[] = []): Promise<Answer> {
  let rowCount = 0
  let sum = 0
  const request = { backend, table, filter: `host=='${host}'`, columns, start: '0', end: '100000000' }
  for await (const frame of engine.read(request)) {
    rowCount += frame.length
    for (const column of frame.columns) {
      if (column.dtype === 'float64') for (const value of column.floats()) sum += value
      else if (column.dtype === 'int64') for (const value of column.ints()) sum += Number(value)
      else if (column.dtype === 'bool') for (const value of column.bools()) sum += value ? 1 : 0
      else if (column.kind === 'slice') for (const value of column.strings()) sum += value.length
    }
  }
  return { rowCount, sum }
}

/** The answer, or the error that says what is damaged. Any other failure fails the test. */
async function attempt(answer: Promise<Answer>): Promise<Answer | FramesError> {
  try {
    return await answer
  } catch (error) {
    if (error instanceof FramesError && error.code === 'DATA_DAMAGED') return error
    throw error
  }
}

const hosts = ['a', 'b', 'c'] as const
const metrics = ['value', 'number', 'text', 'flag'] as const
const right = new Map<string, Answer>()

beforeAll(async () => {
  const { engine } = await open(pristine)
  for (const host of hosts) {
    right.set(host, await read(engine, 'main', host))
    for (const metric of metrics) right.set(`${host}/${metric}`, await read(engine, 'main', host, [metric]))
  }
  right.set('z', await read(engine, 'other', 'z'))
  for (const host of hosts) expect(right.get(host)!.rowCount).toBe(rowCounts[host])
  await engine.close()
})

/** Reads everything; which questions were refused, and that all others are answered rightly. */
async function refusals(engine: Engine, where: string): Promise<Map<string, FramesError>> {
  const refused = new Map<string, FramesError>()
  for (const [question, wanted] of right) {
    const [host, metric] = question.split('/')
    const found = await attempt(
      read(engine, host === 'z' ? 'other' : 'main', host!, metric === undefined ? [] : [metric]),
    )
    if (found instanceof FramesError) refused.set(question, found)
    else expect(found, `${where}: ${question}`).toEqual(wanted)
  }
  return refused
}

/** Whether a byte of a packed block belongs neither to its header nor to any page or page table. */
function isPadding(packed: Uint8Array, offset: number): boolean {
  const layout = parseHeader(packed)
  if (layout === null) throw new Error('a stored block has a header')
  const { segmentByteLengths, columns, pageCount, attachments } = layout
  const starts = [packed.length - segmentByteLengths.reduce((sum, byteLength) => sum + byteLength, 0)]
  for (const byteLength of segmentByteLengths) starts.push(starts[starts.length - 1]! + byteLength)
  const isIn = (segment: number, start: number, byteLength: number): boolean =>
    offset >= starts[segment]! + start && offset < starts[segment]! + start + byteLength
  if (
    offset < starts[0]! ||
    attachments.some(({ segment, offset: start, byteLength }) => isIn(segment, start, byteLength))
  )
    return false
  return columns.every(({ tableSegment, tableOffset, tableByteLength }) => {
    if (isIn(tableSegment, tableOffset, tableByteLength)) return false
    const start = starts[tableSegment]! + tableOffset
    const { segments, offsets, byteLengths } = parsePageTable(
      packed.subarray(start, start + tableByteLength),
      pageCount,
    )
    return segments.every((segment, page) => !isIn(segment, offsets[page]!, byteLengths[page]!))
  })
}

/** What stands in the way of an answer when a value of each kind is damaged. */
const kinds = {
  version: { kind: keyKinds.version, heals: true },
  schema: { kind: keyKinds.schema, heals: true },
  'copy of the schema': { kind: keyKinds.schemaCopy, heals: true },
  'live entry': { kind: keyKinds.live, heals: true },
  'label sets': { kind: keyKinds.sets, heals: true },
  header: { kind: keyKinds.head, heals: false },
  segment: { kind: keyKinds.data, heals: false },
  'packed block': { kind: keyKinds.packed, heals: false },
} as const

for (const [name, { kind, heals }] of Object.entries(kinds)) {
  test(`a flipped byte of a ${name} is ${heals ? 'noticed and mended' : 'noticed, named, and hides nothing else'}`, {
    timeout: 120_000,
  }, async () => {
    const random = new SeededRandom(seed + kind)
    const candidates = (await storedValues(pristine)).filter(({ key }) => key[0] === kind)
    expect(candidates.length).toBeGreaterThan(0)
    for (let flip = 0; flip < flipCount; flip++) {
      const stored = random.pick(candidates)
      const offset = flip === 0 ? 0 : flip === 1 ? stored.value.length - 1 : random.integer(0, stored.value.length)
      const where = `byte ${offset} of ${stored.value.length} of ${Buffer.from(stored.key).toString('hex')}`
      const dataDir = await damaged(stored, offset, 1 << random.integer(0, 8))
      const { engine, reports } = await open(dataDir)
      const refused = await refusals(engine, where)
      expect(refused.has('z'), `${where}: the other table is answered`).toBe(false)
      if (heals) {
        expect([...refused.values()].map(String), where).toEqual([])
        expect(reports.join('\n'), where).toMatch(/damaged/)
      } else {
        // Packed blocks are those of series c, the others those of a and b: one series at most is hurt.
        const hurt = new Set([...refused.keys()].map((question) => question.split('/')[0]))
        expect(hurt.size, `${where}: ${[...hurt].join()}`).toBeLessThanOrEqual(1)
        for (const error of refused.values()) {
          expect(error.message, where).toMatch(/block \d+ of table '[^']*main' is damaged/)
        }
        // Padding between pages is nobody's; every other byte is noticed by whoever reads it.
        const isNobodys = kind === keyKinds.data || (kind === keyKinds.packed && isPadding(stored.value, offset))
        if (!isNobodys) expect(hurt.size, where).toBe(1)
        if (kind === keyKinds.data) for (const error of refused.values()) expect(error.message).toMatch(/page|segment/)
      }

      // Writes go on, also of the series that is hurt, and what is written can be read.
      await engine.write({ backend, table: 'main' }, series('new', 0, 100))
      await engine.write({ backend, table: 'main' }, series('a', 50_000_000, 100))
      expect((await read(engine, 'main', 'new')).rowCount, where).toBe(100)

      // Merging ends, says what is wrong, and changes no answer.
      const merged = await engine.execute({ backend, table: 'main', command: 'compact' }).then(
        () => null,
        (error: FramesError) => error,
      )
      if (refused.size > 0) expect(merged?.code, `${where}: compact`).toBe('DATA_DAMAGED')
      else expect(merged, `${where}: compact`).toBeNull()
      expect((await read(engine, 'main', 'new')).rowCount, where).toBe(100)
      const [questions, after] = [right.get('a')!, [...refused.keys()]]
      right.set('a', { rowCount: questions.rowCount, sum: questions.sum })
      const later = await refusalsWithout(engine, where)
      expect(later, `${where}: the same answers after merging`).toEqual(
        after.filter((question) => !question.startsWith('a')),
      )
      await engine.close()

      // What was mended stays so.
      if (heals) {
        const again = await open(dataDir)
        await again.engine.create({ backend, table: 'main', rate: '1/s', ifExists: 'ignore' })
        expect((await read(again.engine, 'main', 'b')).rowCount, where).toBe(rowCounts.b)
        expect(again.reports, where).toEqual([])
        await again.engine.close()
      }
      rmSync(dataDir, { recursive: true })
    }
  })
}

/** As refusals, without series a, which has got more rows. */
async function refusalsWithout(engine: Engine, where: string): Promise<string[]> {
  const refused: string[] = []
  for (const [question, wanted] of right) {
    if (question.startsWith('a')) continue
    const [host, metric] = question.split('/')
    const found = await attempt(
      read(engine, host === 'z' ? 'other' : 'main', host!, metric === undefined ? [] : [metric]),
    )
    if (found instanceof FramesError) refused.push(question)
    else expect(found, `${where}: ${question}`).toEqual(wanted)
  }
  return refused
}
