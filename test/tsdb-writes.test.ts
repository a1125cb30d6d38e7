// Writes of many frames: those that wait go into one job, and nobody can tell but by the speed.
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Engine, FramesError, Frame, openEngine, sliceColumn } from '../dist/engine/index.js'
import { SeededRandom } from './seeded-random.js'
import { baseNs, floats, frameBytes, ints, labelColumn, seconds, strings } from './hostile/frames.js'

type Request = { backend: string; table: string }

const secondNs = 1_000_000_000n

let engine: Engine
let tableCount = 0

beforeAll(async () => {
  // One worker: while it has a job, the frames behind that one wait for the next.
  engine = await openEngine({ workerCount: 1, memoryByteLength: 128 * 2 ** 20 })
})
afterAll(async () => {
  await engine.close()
})

async function newTable(duplicates: 'last' | 'first' | 'error' = 'last'): Promise<Request> {
  const request = { backend: 'tsdb', table: `writes-${tableCount++}` }
  const schema = { fields: [{ name: 'options', properties: { duplicates } }] }
  await engine.create({ ...request, rate: '1/s', schema })
  return request
}

/** Writes frames as wire bytes; what became of it, and how many rows the table has then. */
async function writeWire(
  request: Request,
  frames: readonly Uint8Array[],
): Promise<{ error: FramesError | null; rowCount: number }> {
  const session = await engine.openWrite(request)
  let error: FramesError | null = null
  try {
    for (const frame of frames) await session.addWire(frame)
    await session.finish()
  } catch (caught) {
    if (!(caught instanceof FramesError)) throw caught
    error = caught
    session.abort()
  }
  return { error, rowCount: await rowCountOf(request) }
}

async function rowCountOf(request: Request): Promise<number> {
  let rowCount = 0
  for await (const frame of engine.read({ ...request, start: '0', end: '13569465600000' })) rowCount += frame.length
  return rowCount
}

/** Cells of some columns by time, of a table with one label set. */
async function cellsOf(request: Request, columns: readonly string[]): Promise<unknown[][]> {
  const rows: unknown[][] = []
  for await (const frame of engine.read({ ...request, start: '0', end: '13569465600000' })) {
    const cells = columns.map((name) => frame.column(name).values())
    for (let row = 0; row < frame.length; row++) rows.push(cells.map((column) => column[row]))
  }
  return rows
}

const good = (n: number, rowCount = 5): Uint8Array =>
  frameBytes({
    columns: [
      floats(
        'cpu',
        Array.from({ length: rowCount }, (_, i) => n + i / 8),
      ),
      strings(
        'note',
        Array.from({ length: rowCount }, (_, i) => `n${n}-${i}`),
      ),
    ],
    indices: [seconds(rowCount, baseNs + BigInt(n * rowCount) * secondNs)],
  })

/** A good frame with the text `n3-0` made bad UTF-8: found only when the column is decoded. */
function badText(): Uint8Array {
  const bytes = Buffer.from(good(3))
  const at = bytes.indexOf('n3-0')
  expect(at).toBeGreaterThan(0)
  bytes[at] = 0xff
  return bytes
}

describe('frames of one write', () => {
  test('cost fewer jobs than frames, also when each brings a new label set', async () => {
    const request = await newTable()
    const before = engine.statistics().pool.jobDoneCount
    const session = await engine.openWrite(request)
    for (let n = 0; n < 200; n++) {
      await session.addWire(
        frameBytes({
          columns: [ints('cpu', [BigInt(n)])],
          indices: [seconds(1), labelColumn('host', `h${n}`, 1n)],
        }),
      )
    }
    expect(await session.finish()).toEqual({ frameCount: 200, rowCount: 200 })
    expect(engine.statistics().pool.jobDoneCount - before).toBeLessThan(100)
    expect(await rowCountOf(request)).toBe(200)
  })

  test('a later one wins, cell by cell', async () => {
    const request = await newTable()
    const frames = Array.from({ length: 60 }, (_, n) => {
      // Rows 0 to 59 all lose their first value but one; each of them keeps its own second.
      const second = Array.from({ length: 60 }, (_, row) => (row === n ? BigInt(n) : null))
      return new Frame({
        columns: [sliceColumn('first', new Array(60).fill(BigInt(n)), 'int64'), sliceColumn('second', second, 'int64')],
        indices: [
          sliceColumn(
            'time',
            Array.from({ length: 60 }, (_, row) => baseNs + BigInt(row) * secondNs),
            'time',
          ),
        ],
      })
    })
    await engine.write(request, frames)
    const wanted = Array.from({ length: 60 }, (_, row) => [59n, BigInt(row)])
    expect(await cellsOf(request, ['first', 'second'])).toEqual(wanted)
  })

  test('in a table that keeps the first, an earlier one wins', async () => {
    const request = await newTable('first')
    const frames = Array.from({ length: 40 }, (_, n) =>
      frameBytes({ columns: [ints('v', [BigInt(n)])], indices: [seconds(1)] }),
    )
    expect((await writeWire(request, frames)).error).toBeNull()
    expect(await cellsOf(request, ['v'])).toEqual([[0n]])
  })

  test('may bring other metrics, in other types, and keep their order', async () => {
    const request = await newTable()
    const frames = Array.from({ length: 90 }, (_, n) =>
      frameBytes({
        columns:
          n % 3 === 0
            ? [floats('v', [n + 0.5])]
            : n % 3 === 1
              ? [ints('v', [BigInt(n)]), ints('w', [BigInt(n)])]
              : [ints('w', [BigInt(n)]), ints('v', [BigInt(n)])],
        indices: [seconds(1)],
      }),
    )
    expect((await writeWire(request, frames)).error).toBeNull()
    expect(await cellsOf(request, ['v', 'w'])).toEqual([[89, 89n]])
  })

  test('may have no rows', async () => {
    const request = await newTable()
    const empty = frameBytes({ columns: [floats('cpu', [])], indices: [seconds(0)] })
    const frames = [empty, good(0), empty, good(1), good(2), empty]
    expect(await writeWire(request, frames)).toEqual({ error: null, rowCount: 15 })
  })

  test('texts of labels and slices, bools and missing cells stay what they are when frames are put together', async () => {
    const request = await newTable()
    const rowOf = (n: number) => [n % 2 === 0, n % 3 === 0 ? 'every row' : `${n}-ä`, n % 5 === 0 ? null : n / 4]
    const frames = Array.from({ length: 50 }, (_, n) => {
      const [flag, text, gap] = rowOf(n)
      return new Frame({
        columns: [
          sliceColumn('flag', [flag], 'bool'),
          sliceColumn('text', [text], 'string'),
          sliceColumn('gap', [gap], 'float64'),
        ],
        indices: [sliceColumn('time', [baseNs + BigInt(n) * secondNs], 'time')],
      })
    })
    await engine.write(request, frames)
    expect(await cellsOf(request, ['flag', 'text', 'gap'])).toEqual(Array.from({ length: 50 }, (_, n) => rowOf(n)))
  })

  test('are encoded by themselves where together they would be more than a block', async () => {
    const request = await newTable()
    const rowCount = 50_000
    const frames = Array.from({ length: 4 }, (_, n) =>
      frameBytes({
        columns: [ints('v', new Array(rowCount).fill(BigInt(n)))],
        indices: [seconds(rowCount, baseNs + BigInt(n * rowCount) * secondNs)],
      }),
    )
    expect(await writeWire(request, frames)).toEqual({ error: null, rowCount: 4 * rowCount })
  })
})

test('a frame that says the same millions of times is one row, quickly, and counts as what it says', async () => {
  const request = await newTable()
  const rowCount = 16 * 2 ** 20
  const time = { kind: 1, name: 'time', dtype: 4, size: BigInt(rowCount), times: [baseNs] }
  const alike = frameBytes({ columns: [labelColumn('text', 'x', BigInt(rowCount))], indices: [time] })
  const session = await engine.openWrite(request)
  for (let n = 0; n < 100; n++) await session.addWire(alike)
  expect(await session.finish()).toEqual({ frameCount: 100, rowCount: 100 * rowCount })
  expect(await cellsOf(request, ['text'])).toEqual([['x']])
  const refusing = await newTable('error')
  expect((await writeWire(refusing, [alike])).error).toMatchObject({ code: 'DUPLICATE_SAMPLE' })
})

describe('a bad frame among good ones', () => {
  const bad: Readonly<Record<string, readonly [frame: () => Uint8Array, text: string]>> = {
    'without a time': [
      () => frameBytes({ columns: [floats('cpu', [1])], indices: [strings('x', ['a'])] }),
      'no index of type time',
    ],
    'cut off': [() => good(3).subarray(0, 20), 'past the end'],
    'that is not UTF-8': [badText, 'not UTF-8'],
    'of another kind': [
      () => frameBytes({ columns: [strings('cpu', ['a'])], indices: [seconds(1)] }),
      'Cannot append string type metric to numeric type metric',
    ],
    'with a time out of range': [
      () => frameBytes({ columns: [floats('cpu', [1])], indices: [seconds(1, -secondNs)] }),
      "doesn't seem to be a valid Unix timesamp",
    ],
  }
  test.for(Object.keys(bad))('%s fails the write with its own error, and those before it are stored', async (name) => {
    const [frame, text] = bad[name]!
    for (const position of [0, 1, 7, 30]) {
      const request = await newTable()
      const frames = Array.from({ length: 40 }, (_, n) => good(n))
      frames.splice(position, 0, frame())
      // `of another kind` needs one before it.
      if (name === 'of another kind' && position === 0) continue
      const { error, rowCount } = await writeWire(request, frames)
      expect(error?.message).toContain(text)
      expect(rowCount).toBe(5 * position)
    }
  })

  test('a sample that is there already fails a table that refuses duplicates, and those before it are stored', async () => {
    const request = await newTable('error')
    const frames = Array.from({ length: 20 }, (_, n) => good(n === 12 ? 11 : n))
    const { error, rowCount } = await writeWire(request, frames)
    expect(error?.code).toBe('DUPLICATE_SAMPLE')
    expect(rowCount).toBe(60)
  })

  test('a table that refuses duplicates finds them wherever they stand, and nothing else', async () => {
    const random = new SeededRandom(87)
    const request = await newTable('error')
    const stored = new Set<string>()
    let refusedCount = 0
    for (let round = 0; round < 120; round++) {
      // Few neighbouring times and hosts: blocks reach over each other in either.
      const base = random.integer(0, 40)
      const rows = Array.from({ length: 1 + random.integer(0, 4) }, () => ({
        host: `h${random.integer(0, 6)}`,
        ms: BigInt(1000 * (base + random.integer(0, 6))),
        ns: BigInt(random.integer(0, 2)),
      }))
      const keys = rows.map(({ host, ms, ns }) => `${host} ${ms} ${ns}`)
      const isDuplicate = new Set(keys).size < keys.length || keys.some((key) => stored.has(key))
      const frame = new Frame({
        columns: [sliceColumn('cpu', new Float64Array(rows.length))],
        indices: [
          sliceColumn(
            'time',
            rows.map(({ ms, ns }) => ms * 1_000_000n + ns),
            'time',
          ),
          sliceColumn(
            'host',
            rows.map(({ host }) => host),
          ),
        ],
      })
      const outcome = engine.write(request, frame).then(
        () => 'stored',
        (error: unknown) => (error instanceof FramesError ? error.code : String(error)),
      )
      expect(await outcome).toBe(isDuplicate ? 'DUPLICATE_SAMPLE' : 'stored')
      if (isDuplicate) refusedCount++
      else for (const key of keys) stored.add(key)
      if (round % 40 === 39) await engine.execute({ ...request, command: 'compact' })
    }
    expect(refusedCount).toBeGreaterThan(20)
    expect(refusedCount).toBeLessThan(100)
    expect(await rowCountOf(request)).toBe(stored.size)
  })
})

describe('memory of the frames', () => {
  const used = (): number => engine.statistics().memory.arenas.allocationCount

  async function untilFree(before: number): Promise<void> {
    for (let i = 0; i < 200 && used() > before; i++) await new Promise((resolve) => setTimeout(resolve, 10))
    expect(used()).toBeLessThanOrEqual(before) // what ended since may have given more back
  }

  test('is given back when the write is whole, has failed, or is given up', async () => {
    const request = await newTable()
    await writeWire(request, [good(0)])
    const before = used()
    await writeWire(
      request,
      Array.from({ length: 100 }, (_, n) => good(n)),
    )
    await untilFree(before)
    await writeWire(request, [...Array.from({ length: 60 }, (_, n) => good(n)), badText(), good(1)])
    await untilFree(before)
    const session = await engine.openWrite(request)
    for (let n = 0; n < 60; n++) await session.addWire(good(n))
    session.abort()
    await untilFree(before)
  })

  test('is given back when the call is cancelled, and what waited is not stored', async () => {
    const request = await newTable()
    await writeWire(request, [good(0)])
    const before = used()
    const controller = new AbortController()
    const session = await engine.openWrite(request, { signal: controller.signal })
    const adding = (async () => {
      for (let n = 1; n <= 500; n++) {
        if (n === 300) controller.abort(new FramesError('CANCELLED', 'no more'))
        await session.addWire(good(n))
      }
    })()
    await expect(adding).rejects.toMatchObject({ code: 'CANCELLED' })
    session.abort()
    await untilFree(before)
    const rowCount = await rowCountOf(request)
    expect(rowCount % 5).toBe(0)
    expect(rowCount).toBeLessThan(5 * 300)
  })

  test('of a writer that is faster than the worker is bounded', async () => {
    const request = await newTable()
    const before = used()
    const session = await engine.openWrite(request)
    let most = 0
    for (let n = 0; n < 1000; n++) {
      await session.addWire(good(n, 1))
      most = Math.max(most, used() - before)
    }
    await session.finish()
    // 128 frames, the job's scratch, and that of the commits on their way.
    expect(most).toBeLessThan(140)
    expect(await rowCountOf(request)).toBe(1000)
  })
})

test('writers beside each other, each with many frames, get what is theirs', async () => {
  const request = await newTable()
  await Promise.all(
    Array.from({ length: 6 }, async (_, writer) => {
      const session = await engine.openWrite(request)
      for (let n = 0; n < 80; n++) {
        await session.addWire(
          frameBytes({
            columns: [ints('v', [BigInt(writer)]), ints(`own${writer}`, [BigInt(n)])],
            indices: [
              seconds(1, baseNs + BigInt(n) * secondNs),
              labelColumn('writer', `w${writer}`, 1n),
              labelColumn('part', `${n % 7}`, 1n),
            ],
          }),
        )
      }
      expect(await session.finish()).toEqual({ frameCount: 80, rowCount: 80 })
    }),
  )
  expect(await rowCountOf(request)).toBe(480)
  for (let writer = 0; writer < 6; writer++) {
    const found: unknown[] = []
    for await (const frame of engine.read({
      ...request,
      start: '0',
      end: '13569465600000',
      filter: `writer=='w${writer}'`,
      columns: [`own${writer}`],
    }))
      found.push(...frame.column(`own${writer}`).values())
    expect(found.map(Number).sort((a, b) => a - b)).toEqual(Array.from({ length: 80 }, (_, n) => n))
  }
})

describe('writes of one small frame each, many at once', () => {
  const one = (writer: number, column = ints('v', [BigInt(writer)])): Uint8Array =>
    frameBytes({ columns: [column], indices: [seconds(1, baseNs), labelColumn('writer', `w${writer}`, 1n)] })

  async function writeOne(request: Request, frame: Uint8Array, signal?: AbortSignal): Promise<number> {
    const session = await engine.openWrite(request, signal === undefined ? {} : { signal })
    try {
      await session.addWire(frame)
      return (await session.finish()).rowCount
    } catch (error) {
      session.abort()
      throw error
    }
  }

  async function storedWriters(request: Request): Promise<Map<string, number>> {
    const found = new Map<string, number>()
    for await (const frame of engine.read({ ...request, start: '0', end: '13569465600000', multiIndex: true })) {
      const writers = frame.indices.find(({ name }) => name === 'writer')!.strings()
      frame
        .column('v')
        .values()
        .forEach((value, row) => {
          found.set(writers[row]!, Number(value))
        })
    }
    return found
  }

  test('become few blocks, and each is told what became of its own', async () => {
    const request = await newTable()
    await writeOne(request, one(0))
    const bad = new Map<number, [frame: Uint8Array, code: string]>([
      [3, [one(3, ints('bad-name', [1n])), 'INVALID_ARGUMENT']],
      [7, [Buffer.from('no frame'), 'MALFORMED_FRAME']],
      [20, [one(0, strings('v', ['text where numbers are'])), 'INVALID_ARGUMENT']],
      [59, [frameBytes({ columns: [ints('v', [1n])], indices: [] }), 'INVALID_ARGUMENT']],
    ])
    const outcomes = await Promise.all(
      Array.from({ length: 60 }, (_, writer) =>
        writeOne(request, bad.get(writer)?.[0] ?? one(writer)).catch((error: unknown) => {
          if (!(error instanceof FramesError)) throw error
          return error.code
        }),
      ),
    )
    expect(outcomes).toEqual(outcomes.map((_, writer) => bad.get(writer)?.[1] ?? 1))
    const expected = Array.from({ length: 60 }, (_, writer): [string, number] => [`w${writer}`, writer])
    expect(await storedWriters(request)).toEqual(new Map(expected.filter((_, writer) => !bad.has(writer))))
    const statistics = await engine.execute({ ...request, command: 'stats' })
    expect(Number(statistics!.column('blocks').values()[0])).toBeLessThan(20)
  })

  test('of different metrics stand in blocks of their own, and empty ones count no rows', async () => {
    const request = await newTable()
    const frames = Array.from({ length: 40 }, (_, writer) =>
      writer % 4 === 3
        ? frameBytes({ columns: [ints('v', [])], indices: [seconds(0, baseNs)] })
        : one(writer, writer % 4 === 2 ? floats('other', [writer]) : ints('v', [BigInt(writer)])),
    )
    const rowCounts = await Promise.all(frames.map((frame) => writeOne(request, frame)))
    expect(rowCounts).toEqual(frames.map((_, writer) => (writer % 4 === 3 ? 0 : 1)))
    expect(await rowCountOf(request)).toBe(30)
  })

  test('that are given up while they wait are not stored, and the others are', async () => {
    const request = await newTable()
    await writeOne(request, one(0))
    const aborted = new AbortController()
    const sessions = await Promise.all(
      Array.from({ length: 30 }, (_, writer) =>
        engine.openWrite(request, writer % 3 === 2 ? { signal: aborted.signal } : {}),
      ),
    )
    await Promise.all(sessions.map((session, writer) => session.addWire(one(writer))))
    // The first frame is with the only worker now, and all others wait for the next job.
    const outcomes = Promise.all(
      sessions.map((session) =>
        session.finish().then(
          ({ rowCount }) => rowCount,
          (error: FramesError) => error.code,
        ),
      ),
    )
    aborted.abort()
    expect(await outcomes).toEqual(Array.from({ length: 30 }, (_, writer) => (writer % 3 === 2 ? 'CANCELLED' : 1)))
    const expected = Array.from({ length: 30 }, (_, writer): [string, number] => [`w${writer}`, writer])
    expect(await storedWriters(request)).toEqual(new Map(expected.filter((_, writer) => writer % 3 !== 2)))
  })
})

test('rows that come time by time have the labels that they say, also where the last one differs', async () => {
  const hostCount = 40
  const rowCount = 9000
  const hosts = Array.from({ length: rowCount }, (_, row) => `host-${row % hostCount}`)
  const regions = Array.from({ length: rowCount }, (_, row) => (row % hostCount < 10 ? 'north' : 'south'))
  const frameOf = (lastRegion: string): Uint8Array =>
    frameBytes({
      columns: [
        ints(
          'cpu',
          Array.from(hosts, (_, row) => BigInt(row)),
        ),
      ],
      indices: [
        {
          ...seconds(rowCount),
          times: Array.from(hosts, (_, row) => baseNs + BigInt(Math.floor(row / hostCount)) * secondNs),
        },
        strings('host', hosts),
        strings('region', [...regions.slice(0, -1), lastRegion]),
      ],
    })
  for (const lastRegion of [regions[rowCount - 1]!, 'nowhere']) {
    const request = await newTable()
    expect(await writeWire(request, [frameOf(lastRegion)])).toEqual({ error: null, rowCount })
    const found = new Map<string, bigint[]>()
    for await (const frame of engine.read({ ...request, start: '0', end: '13569465600000' })) {
      const set = `${frame.column('host').values()[0]} ${frame.column('region').values()[0]}`
      const cells = found.get(set) ?? []
      found.set(set, [...cells, ...(frame.column('cpu').values() as Iterable<bigint>)])
    }
    const wanted = new Map<string, bigint[]>()
    for (let row = 0; row < rowCount; row++) {
      const set = `${hosts[row]} ${row === rowCount - 1 ? lastRegion : regions[row]}`
      wanted.set(set, [...(wanted.get(set) ?? []), BigInt(row)])
    }
    expect(found).toEqual(wanted)
  }
})
