// Corners of the time series backend that a review found: each was wrong once.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fromBinary } from '@bufbuild/protobuf'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Engine, Frame, openEngine, sliceColumn } from '../dist/engine/index.js'
import { FrameSchema } from '../dist/proto/gen/frames_pb.js'

type Request = { backend: string; table: string }
type Read = Parameters<Engine['read']>[0]

const secondNs = 1_000_000_000n
const dayNs = 86_400n * secondNs

let engine: Engine
let tableCount = 0

beforeAll(async () => {
  // Jobs of the history would count among those that a test looks at.
  engine = await openEngine({ workerCount: 1, history: false })
})
afterAll(async () => {
  await engine.close()
})

async function newTable(): Promise<Request> {
  const request = { backend: 'tsdb', table: `review-${tableCount++}` }
  await engine.create({ ...request, rate: '1/s' })
  return request
}

function frameOf(
  timesNs: readonly bigint[],
  columns: Readonly<Record<string, readonly (number | bigint | boolean | string | null)[]>>,
  labels: Readonly<Record<string, string>> = {},
): Frame {
  return new Frame({
    columns: Object.entries(columns).map(([name, cells]) => {
      const value = cells.find((cell) => cell !== null)
      const dtype =
        typeof value === 'bigint'
          ? 'int64'
          : typeof value === 'boolean'
            ? 'bool'
            : typeof value === 'string'
              ? 'string'
              : 'float64'
      return sliceColumn(name, [...cells], dtype)
    }),
    indices: [sliceColumn('time', [...timesNs], 'time')],
    labels,
  })
}

async function readAll(request: Omit<Read, 'backend' | 'table'> & Request): Promise<Frame[]> {
  const frames: Frame[] = []
  for await (const frame of engine.read({ start: '0', end: 'now', ...request })) frames.push(frame)
  return frames
}

function rowCountOf(frames: readonly Frame[]): number {
  return frames.reduce((sum, frame) => sum + frame.length, 0)
}

describe('which series a filter selects', () => {
  test('a series that gets a metric which others have already is found by that metric', async () => {
    const request = await newTable()
    const filter = "_name == 'mem'"
    await engine.write(request, frameOf([0n], { cpu: [1], mem: [2] }, { node: 'a' }))
    await engine.write(request, frameOf([0n], { cpu: [1] }, { node: 'b' }))
    expect(await readAll({ ...request, filter })).toHaveLength(1)
    await engine.write(request, frameOf([secondNs], { mem: [3] }, { node: 'b' }))
    expect(await readAll({ ...request, filter })).toHaveLength(2)
  })

  test('reads by metric name go on while new metrics come in', async () => {
    const request = await newTable()
    await engine.write(request, frameOf([0n], { cpu: [1] }))
    const writes = Array.from({ length: 60 }, (_, i) =>
      engine.write(request, frameOf([BigInt(i) * secondNs], { [`m${i}`]: [1] }, { node: `${i}` })),
    )
    const reads = Array.from({ length: 60 }, async (_, i) => {
      await new Promise((resolve) => setTimeout(resolve, i))
      return readAll({ ...request, filter: "_name == 'cpu'" })
    })
    await Promise.all(writes)
    for (const frames of await Promise.all(reads)) expect(frames).toHaveLength(1)
  })
})

describe('cells that are not there', () => {
  test('a row without any cell makes no partition', async () => {
    const request = await newTable()
    await engine.write(request, frameOf([0n, 10n * dayNs], { cpu: [null, 5] }))
    const [frame] = await readAll({ ...request, aggregators: 'count' })
    expect(frame!.indices[0]!.values()).toEqual([{ timeNs: 10n * dayNs }])
  })

  test('a series without any cell beside one that has some leaves nothing', async () => {
    const request = await newTable()
    const frame = new Frame({
      columns: [sliceColumn('cpu', [null, 1, null, 2], 'float64')],
      indices: [
        sliceColumn('time', [0n, 20n * dayNs, dayNs, 21n * dayNs], 'time'),
        sliceColumn('node', ['a', 'b', 'a', 'b'], 'string'),
      ],
    })
    await engine.write(request, frame)
    const frames = await readAll({ ...request, aggregators: 'sum', step: '1d' })
    expect(frames.map((found) => found.column('sum(cpu)').values())).toEqual([[1, 2]])
    expect(frames[0]!.indices[0]!.values()).toEqual([{ timeNs: 20n * dayNs }, { timeNs: 21n * dayNs }])
  })

  test('a frame whose cells are all null leaves nothing', async () => {
    const request = await newTable()
    await engine.write(request, frameOf([0n], { cpu: [null] }))
    const stats = await engine.execute({ ...request, command: 'stats' })
    expect(stats!.column('rows').values()).toEqual([0n])
  })
})

describe('names', () => {
  test('blanks around a metric name are no part of it', async () => {
    const request = await newTable()
    await engine.write(request, frameOf([0n], { ' cpu ': [1] }))
    const [frame] = await readAll({ ...request, columns: ['cpu'] })
    expect(frame!.column('cpu').values()).toEqual([1])
  })

  test('two columns of one name are refused', async () => {
    const request = await newTable()
    const columns = [sliceColumn('cpu', [1], 'float64'), sliceColumn(' cpu', [2], 'float64')]
    const write = engine.write(request, new Frame({ columns, indices: [sliceColumn('time', [0n], 'time')] }))
    await expect(write).rejects.toThrow("two columns are named 'cpu'")
  })
})

describe('limit and marker', () => {
  test('there is no marker when only rows without a wanted cell are left', async () => {
    const request = await newTable()
    const times = [0n, secondNs, 2n * secondNs]
    await engine.write(request, frameOf(times, { cpu: [1, null, null], mem: [null, 2, 3] }))
    const [frame] = await readAll({ ...request, columns: ['cpu'], limit: 1n })
    expect(frame!.length).toBe(1)
    expect(frame!.labels.has('next_marker')).toBe(false)
  })

  test('there is no marker when a large answer ends with its limit', async () => {
    const request = await newTable()
    const rowCount = 70_000
    const times = Array.from({ length: rowCount }, (_, i) => BigInt(i) * secondNs)
    const cells = times.map((_, i) => i + 0.5)
    await engine.write(request, frameOf(times, { cpu: cells }, { node: 'a' }))
    await engine.write(request, frameOf([365n * dayNs * 60n], { cpu: [1] }, { node: 'b' }))
    const frames = await readAll({ ...request, end: '1000000000', limit: BigInt(rowCount) })
    expect(rowCountOf(frames)).toBe(rowCount)
    expect(frames.at(-1)!.labels.has('next_marker')).toBe(false)
  })

  test.for([1, 2, 3, 7])('pages of %i buckets are the whole answer, rates and all', async (limit) => {
    const request = await newTable()
    const times = Array.from({ length: 20 }, (_, i) => BigInt(i * i) * secondNs)
    for (const node of ['a', 'b'])
      await engine.write(
        request,
        frameOf(times, { cpu: times.map((_, i) => i * 3), mem: times.map((_, i) => (i % 3 ? i : null)) }, { node }),
      )
    const read = { ...request, aggregators: 'rate,count,last', step: '4s' }
    const rows = (frames: readonly Frame[]): unknown[] =>
      frames.flatMap((frame) => {
        const columns = frame.columns.map((column) => column.values())
        return frame.indices[0]!.values().map((time, i) => [time, ...columns.map((cells) => String(cells[i]))])
      })
    const whole = rows(await readAll(read))
    const paged: unknown[] = []
    let marker = ''
    for (let page = 0; page < 100; page++) {
      const frames = await readAll({ ...read, limit: BigInt(limit), marker })
      paged.push(...rows(frames))
      const next = frames.at(-1)?.labels.get('next_marker')
      if (next === undefined) break
      marker = String(next)
    }
    expect(paged).toEqual(whole)
  })

  test('a marker that nobody returned is refused as such', async () => {
    const request = await newTable()
    await engine.write(request, frameOf([0n, secondNs], { cpu: [1, 2] }))
    const read = { ...request, aggregators: 'count', step: '1s' }
    const [frame] = await readAll({ ...read, limit: 1n })
    const fields = JSON.parse(
      Buffer.from(String(frame!.labels.get('next_marker')), 'base64url').toString(),
    ) as unknown[]
    fields[5] = -1
    const forged = Buffer.from(JSON.stringify(fields)).toString('base64url')
    await expect(readAll({ ...read, marker: forged })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  })
})

describe('messages', () => {
  const sizeMax = 4 * 1024 * 1024

  async function sizes(request: Request): Promise<{ rows: number; max: number }> {
    let rows = 0
    let max = 0
    for await (const bytes of engine.readEncoded({ ...request, start: '0', end: 'now' }, 'wire')) {
      max = Math.max(max, bytes.length)
      rows += Number(fromBinary(FrameSchema, bytes).indices[0]!.times.length)
    }
    return { rows, max }
  }

  test('many missing cells do not make a message larger than 4 MiB', async () => {
    const request = await newTable()
    const rowCount = 4000
    const times = Array.from({ length: rowCount }, (_, i) => BigInt(i) * secondNs)
    const columns = Object.fromEntries(
      Array.from({ length: 150 }, (_, c) => [
        `a_rather_long_metric_name_${c}`,
        times.map((_, i) => (i % 150 === c ? true : null)),
      ]),
    )
    await engine.write(request, frameOf(times, columns))
    const { rows, max } = await sizes(request)
    expect(rows).toBe(rowCount)
    expect(max).toBeLessThan(sizeMax)
  })

  test('long texts in many columns do not make a message larger than 4 MiB', async () => {
    const request = await newTable()
    const rowCount = 1000
    const times = Array.from({ length: rowCount }, (_, i) => BigInt(i) * secondNs)
    const columns = Object.fromEntries(
      Array.from({ length: 20 }, (_, c) => [`m${c}`, times.map((_, i) => `${i}-${c}-`.padEnd(500, 'x'))]),
    )
    await engine.write(request, frameOf(times, columns))
    const { rows, max } = await sizes(request)
    expect(rows).toBe(rowCount)
    expect(max).toBeLessThan(sizeMax)
  })
})

describe('many tables, many columns', () => {
  test('a table can be opened beside 512 that are in use', async () => {
    const own = await openEngine({ workerCount: 1, memoryByteLength: 1024 * 1024 * 1024 })
    try {
      const sessions = []
      for (let i = 0; i < 513; i++) {
        const request = { backend: 'tsdb', table: `t${i}` }
        await own.create({ ...request, rate: '1/s' })
        sessions.push(await own.openWrite(request))
      }
      for (const session of sessions) await session.finish()
    } finally {
      await own.close()
    }
  }, 20_000)
})

describe('tables that are deleted while they are used', () => {
  test('a writer of new series is told so, and others are not disturbed', async () => {
    const other = await newTable()
    await engine.write(other, frameOf([0n], { cpu: [1] }, { node: 'other' }))
    for (let i = 0; i < 10; i++) {
      const request = await newTable()
      const nodes = Array.from({ length: 2000 }, (_, n) => `${i}-${n}`)
      const frame = new Frame({
        columns: [
          sliceColumn(
            `m${i}`,
            nodes.map((_, n) => n),
            'float64',
          ),
        ],
        indices: [
          sliceColumn(
            'time',
            nodes.map(() => 0n),
            'time',
          ),
          sliceColumn('node', nodes, 'string'),
        ],
      })
      const write = engine.write(request, frame).catch((error: unknown) => error)
      await new Promise((resolve) => setTimeout(resolve, 2 * i))
      await engine.delete(request)
      const result = await write
      if (result instanceof Error) expect(result).toMatchObject({ code: 'TABLE_NOT_FOUND' })
    }
    const [frame] = await readAll({ ...other, columns: ['cpu'] })
    expect(frame!.column('cpu').values()).toEqual([1])
  })
})

test('a job that is given up ends before its caller is told', async () => {
  const controller = new AbortController()
  const request = await newTable()
  const rowCount = 200_000
  const times = Array.from({ length: rowCount }, (_, i) => BigInt(i) * secondNs)
  const frame = frameOf(times, { cpu: times.map((_, i) => Math.sin(i)), mem: times.map((_, i) => Math.cos(i)) })
  const before = engine.statistics().pool.runningCount
  const write = engine.write(request, frame, { signal: controller.signal }).catch((error: unknown) => error)
  while (engine.statistics().pool.runningCount === before) await new Promise((resolve) => setTimeout(resolve, 1))
  controller.abort()
  expect(await write).toMatchObject({ code: 'CANCELLED' })
  expect(engine.statistics().pool.runningCount).toBe(before)
})

test('a number of workers that is none is refused, and the data folder stays free', async () => {
  const dataDir = mkdtempSync(join(tmpdir(), 'framesd-review-'))
  try {
    for (const workerCount of [0, -1, 1.5]) {
      await expect(openEngine({ dataDir, workerCount })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
    }
    await (await openEngine({ dataDir, workerCount: 1 })).close()
  } finally {
    rmSync(dataDir, { recursive: true })
  }
})
