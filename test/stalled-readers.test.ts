// Readers that stop in the middle of an answer hold what is theirs, and nobody else waits for them.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { frameByteLength, frameEnd, layFrame, moveFrame, takeFrame } from '../dist/engine/codec/columns.js'
import { Column, type Engine, Frame, openEngine, type ReadFormat, type ReadRequest } from '../dist/engine/index.js'
import { kernelHeapBase, loadKernels } from '../dist/engine/kernels/kernels.js'
import { createSharedMemory } from '../dist/engine/memory/shared-memory.js'

const MiB = 1024 * 1024
const rowCount = 300_000
const readerCount = 40
const session = { container: 'users' }
const folder = mkdtempSync(join(tmpdir(), 'framesd-stalled-'))
let engine: Engine

const reads: Readonly<Record<string, ReadRequest>> = {
  tsdb: { backend: 'tsdb', table: 'much', session, start: '0' },
  kv: { backend: 'kv', table: 'much', session },
  stream: { backend: 'stream', table: 'much', session, seek: 'earliest', shardId: '0' },
  csv: { backend: 'csv', table: 'much.csv', session },
}

beforeAll(async () => {
  engine = await openEngine({
    dataDir: join(folder, 'data'),
    // Of which 128 MiB are for jobs: eight of 16 MiB each.
    memoryByteLength: 256 * MiB,
    workerCount: 2,
    history: false,
  })
  const timesNs = BigInt64Array.from({ length: rowCount }, (_, i) => BigInt(i) * 1_000_000_000n)
  const values = Float64Array.from(timesNs, (timeNs) => Math.sin(Number(timeNs)))
  const plain = { length: rowCount, kind: 'slice', validity: null } as const
  const frame = new Frame({
    columns: [Column.fromBuffers({ ...plain, name: 'value', buffers: { dtype: 'float64', values } })],
    indices: [Column.fromBuffers({ ...plain, name: 'time', buffers: { dtype: 'time', values: timesNs } })],
  })
  await engine.create({ backend: 'tsdb', table: 'much', session, rate: '1/s' })
  await engine.create({ backend: 'stream', table: 'much', session })
  for (const { backend, table } of Object.values(reads)) await engine.write({ backend, table, session }, frame)
})

afterAll(async () => {
  await engine.close()
  rmSync(folder, { recursive: true })
})

/** The first message of many reads that nobody reads on. */
async function stall(request: ReadRequest, format: ReadFormat, count = readerCount): Promise<() => Promise<void>> {
  const aborts = Array.from({ length: count }, () => new AbortController())
  const readers = aborts.map(({ signal }) => engine.readEncoded(request, format, { signal }))
  // Not all of them get that far: reads of columns wait for one another.
  const firsts = readers.map((reader) => reader.next().catch(() => null))
  await Promise.race([Promise.all(firsts), new Promise((resolve) => setTimeout(resolve, 1000))])
  return async () => {
    for (const abort of aborts) abort.abort()
    await Promise.all(firsts)
    await Promise.all(readers.map((reader) => reader.return(undefined).catch(() => null)))
  }
}

/** The rows of all reads, up to a limit: with markers, where a backend has them. */
async function limitedRows(): Promise<unknown[]> {
  const rows: unknown[] = []
  for (const request of Object.values(reads))
    for await (const frame of engine.read({ ...request, limit: 1000n })) rows.push([...frame.rows()], [...frame.labels])
  return rows
}

test('columns that find no room in the shared memory are the same columns', async () => {
  const expected = await limitedRows()
  // These hold what may be held there, and less than makes reads of columns wait.
  const leave = await stall(reads['tsdb']!, 'arrow', 12)
  const found = await limitedRows()
  await leave()
  expect(found).toEqual(expected)
})

for (const [backend, request] of Object.entries(reads)) {
  for (const format of ['wire', 'arrow'] as const) {
    test(`${backend}, as ${format}: ${readerCount} readers that stop leave others the memory that they need`, async () => {
      const leave = await stall(request, format)
      for (const other of Object.values(reads)) {
        let byteLength = 0
        for await (const bytes of engine.readEncoded({ ...other, limit: 1000n }, 'wire')) byteLength += bytes.byteLength
        expect(byteLength).toBeGreaterThan(1000)
      }
      await leave()
      expect(engine.statistics().memory.arenas.byteLengthUsed).toBe(0)
    })
  }
}

test('a frame that is moved out of the shared memory is the same frame', () => {
  const { memory, arenas } = createSharedMemory({ byteLength: 64 * MiB, heapBase: kernelHeapBase() })
  const kernels = loadKernels(memory)
  const text = new TextEncoder().encode('onetwo')
  const frame = new Frame({
    columns: [
      { name: 'n', dtype: 'int64', values: new BigInt64Array([1n, -2n, 3n]) },
      { name: 'b', dtype: 'bool', values: new Uint8Array([5]) },
      { name: 's', dtype: 'string', offsets: new Uint32Array([0, 3, 3, 6]), bytes: text },
      { name: 'empty', dtype: 'null' },
    ].map(({ name, ...buffers }) =>
      Column.fromBuffers({
        name,
        kind: 'slice',
        length: 3,
        validity: buffers.dtype === 'null' ? null : new Uint8Array([6]),
        buffers: buffers as never,
      }),
    ),
    indices: [
      Column.fromBuffers({
        name: 'host',
        kind: 'label',
        length: 3,
        validity: null,
        buffers: { dtype: 'string', offsets: new Uint32Array([0, 3]), bytes: text.slice(0, 3) },
      }),
    ],
    labels: { host: 'one' },
  })
  const place = arenas.tryAllocate(frameByteLength(frame))!
  const laid = layFrame(kernels, frame, place.byteOffset)
  expect(frameEnd(laid)).toBeLessThanOrEqual(place.byteOffset + place.byteLength)
  const moved = moveFrame(kernels.u8, laid)
  kernels.u8.fill(255, place.byteOffset, place.byteOffset + place.byteLength)
  const taken = takeFrame(kernels, moved)
  expect([...taken.rows()]).toEqual([...frame.rows()])
  expect(taken.indices.map((column) => [column.name, column.kind, column.stringAt(2)])).toEqual([
    ['host', 'label', 'one'],
  ])
  expect(taken.columns.map(({ dtype, validity }) => [dtype, validity])).toEqual(
    frame.columns.map(({ dtype, validity }) => [dtype, validity]),
  )
})
