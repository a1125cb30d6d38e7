// Streams against a plain array: writers that run at once, restarts, a store that fails now and then, a clock that jumps.
import { afterAll, expect, test } from 'vitest'
import type { BackendParts } from '../dist/engine/backends/backend.js'
import { InputGate } from '../dist/engine/backends/input-gate.js'
import { OutgoingMessages } from '../dist/engine/backends/outgoing.js'
import { Streams } from '../dist/engine/backends/stream/stream.js'
import { Catalog } from '../dist/engine/blocks/catalog.js'
import { takeFrame } from '../dist/engine/codec/columns.js'
import { FramesError } from '../dist/engine/errors.js'
import type { PlainFrame } from '../dist/engine/frame/plain.js'
import { Frame, type ReadRequest, sliceColumn } from '../dist/engine/index.js'
import { kernelHeapBase, loadKernels } from '../dist/engine/kernels/kernels.js'
import { createSharedMemory } from '../dist/engine/memory/shared-memory.js'
import { openPool } from '../dist/engine/pool/pool.js'
import { Faults, openMemoryStore } from '../dist/engine/stores/memory.js'
import { SeededRandom, seed } from './seeded-random.js'

const roundCount = Number(process.env['ROUNDS'] ?? 1)
const memory = createSharedMemory({ heapBase: kernelHeapBase(), byteLength: 256 << 20 })
const kernels = loadKernels(memory.memory)
const pool = openPool({ memory, workerCount: 2 })
afterAll(() => pool.close())

const stream = { backend: 'stream', table: 'model' }
const startMs = Date.UTC(2024, 5, 1)

/** A stream over a store that outlives it. */
class Bench {
  readonly faults = new Faults()
  readonly reports: string[] = []
  nowMs = startMs
  readonly #parts: BackendParts
  streams: Streams

  constructor() {
    const store = openMemoryStore({ faults: this.faults })
    this.#parts = {
      store,
      catalog: new Catalog(store),
      memory,
      kernels,
      pool,
      inputs: new InputGate(memory.arenas),
      outgoing: new OutgoingMessages(kernels.u8, memory.arenas),
      defaultContainer: 'c',
      shrinkStore: async () => undefined,
      nowMs: () => this.nowMs,
      report: (message, error) => this.reports.push(`${message}: ${String(error)}`),
    }
    this.streams = new Streams(this.#parts)
  }

  async restart(): Promise<void> {
    await this.streams.close()
    this.streams = new Streams(this.#parts)
  }

  async write(frames: readonly Frame[]): Promise<void> {
    const session = await this.streams.openWrite(stream, {})
    try {
      for (const frame of frames) await session.addFrame(frame)
      await session.finish()
    } catch (error) {
      // Until nothing of it is on its way.
      await session.finish().catch(() => undefined)
      throw error
    }
  }

  async *read(request: Partial<ReadRequest>): AsyncGenerator<Frame> {
    const messages = this.streams.read({ ...stream, seek: 'earliest', ...request }, 'columns', {})
    for await (const { frame } of messages) if (frame !== null) yield takeFrame(kernels, frame)
  }
}

/** Frame n of a writer: row r of it holds the number n × 100,000 + r. */
function frameOf(writer: number, n: number, rowCount: number): Frame {
  const numbers = BigInt64Array.from({ length: rowCount }, (_, row) => BigInt(n * 100_000 + row))
  return new Frame({
    columns: [
      sliceColumn(
        'writer',
        BigInt64Array.from(numbers, () => BigInt(writer)),
        'int64',
      ),
      sliceColumn('number', numbers, 'int64'),
      sliceColumn(
        'key',
        Array.from(numbers, (number) => `key ${number % 11n}`),
        'string',
      ),
    ],
  })
}

function diskFull(): FramesError {
  return new FramesError('DISK_FULL', 'the disk is full')
}

/** What is in the stream, a shard each; throws when sequence numbers have gaps or arrival times go back. */
async function contents(bench: Bench, shardCount: number, firsts: readonly number[] | null): Promise<string[][]> {
  const shards: string[][] = []
  for (let shard = 0; shard < shardCount; shard++) {
    const records: string[] = []
    let sequence: bigint | null = firsts === null ? 1n : null
    let arrivalNs = 0n
    for await (const frame of bench.read({ shardId: String(shard) })) {
      const sequences = frame.indices[0]!.ints()
      const arrivals = frame.column('stream_time').times()
      const writers = frame.column('writer').ints()
      const numbers = frame.column('number').ints()
      for (let row = 0; row < frame.length; row++) {
        sequence ??= sequences[row]!
        if (sequences[row] !== sequence++) throw new Error(`shard ${shard}: ${sequences[row]} follows ${sequence - 2n}`)
        if (arrivals[row]! < arrivalNs) throw new Error(`shard ${shard}: record ${sequences[row]} arrived too early`)
        arrivalNs = arrivals[row]!
        records.push(`${writers[row]}:${numbers[row]}`)
      }
    }
    shards.push(records)
  }
  return shards
}

test('what is acknowledged is there once and in order, what failed is not, whatever happens', {
  timeout: 600_000,
}, async () => {
  const random = new SeededRandom(seed)
  let failureCount = 0
  for (const shardingKey of [undefined, 'key']) {
    const bench = new Bench()
    let shardCount = 3
    await bench.streams.create({
      ...stream,
      shards: BigInt(shardCount),
      ...(shardingKey === undefined ? {} : { schema: { key: { shardingKey: [shardingKey] } } }),
    })
    const acked = new Set<string>()
    let n = 0
    for (let step = 0; step < 16 * roundCount; step++) {
      bench.nowMs += random.integer(-5000, 10_000)
      if (random.chance(0.5))
        bench.faults.fail('commit', diskFull(), { n: random.integer(1, 8), times: random.integer(1, 3) })
      await Promise.all(
        random.list(random.integer(1, 6), async (writer) => {
          const frames = random.list(random.integer(1, 6), () => ({
            n: n++,
            rowCount: random.pick([0, 1, 3, 200, step % 15 === 7 ? 60_000 : 1000]),
          }))
          try {
            await bench.write(frames.map((frame) => frameOf(writer, frame.n, frame.rowCount)))
            for (const frame of frames)
              for (let row = 0; row < frame.rowCount; row++) acked.add(`${writer}:${frame.n * 100_000 + row}`)
          } catch (error) {
            failureCount++
            expect((error as FramesError).code).toBe('DISK_FULL')
            // Frames before the one that failed may stay.
            const found = new Set((await contents(bench, shardCount, null)).flat())
            let isGone = false
            for (const frame of frames) {
              const rows = Array.from({ length: frame.rowCount }, (_, row) => `${writer}:${frame.n * 100_000 + row}`)
              const storedCount = rows.filter((row) => found.has(row)).length
              expect([0, frame.rowCount], `frame ${frame.n}`).toContain(storedCount)
              if (frame.rowCount > 0 && storedCount === 0) isGone = true
              if (isGone) expect(storedCount, `frame ${frame.n} stands behind one that failed`).toBe(0)
              if (storedCount > 0) for (const row of rows) acked.add(row)
            }
          }
        }),
      )
      bench.faults.clear()
      if (step % 10 === 5) await bench.streams.execute({ ...stream, command: 'compact' })
      if (step % 7 === 3) await bench.restart()
      if (step === 12) {
        shardCount = 5
        await bench.streams.execute({ ...stream, command: 'add_shards', args: { shards: 5n } })
      }
      const shards = await contents(bench, shardCount, null)
      const all = shards.flat()
      expect(all.length, `step ${step}: each record is there once`).toBe(new Set(all).size)
      expect(new Set(all), `step ${step}`).toEqual(acked)
      for (const records of shards) {
        const lastOf = new Map<string, number>()
        for (const record of records) {
          const [writer, number] = record.split(':') as [string, string]
          const frame = Math.floor(Number(number) / 100_000)
          const key = `${writer}:${frame}`
          if (Number(number) <= (lastOf.get(key) ?? -1)) throw new Error(`${record} stands behind ${lastOf.get(key)}`)
          lastOf.set(key, Number(number))
        }
      }
      const merged: string[] = []
      for await (const frame of bench.read({ messageLimit: BigInt(random.pick([0, 1000])) })) {
        const writers = frame.column('writer').ints()
        frame
          .column('number')
          .ints()
          .forEach((number, row) => {
            merged.push(`${writers[row]}:${number}`)
          })
      }
      expect(merged.length).toBe(all.length)
      expect(new Set(merged)).toEqual(acked)
    }
    await bench.streams.close()
  }
  expect(failureCount).toBeGreaterThan(0)
})

test('after retention and restarts sequences go on without a gap, and arrival times forward', async () => {
  const random = new SeededRandom(seed + 1)
  const bench = new Bench()
  await bench.streams.create({ ...stream, shards: 2n, retentionHours: 1n })
  let last = [0n, 0n]
  let arrivalNs = 0n
  for (let step = 0; step < 30; step++) {
    bench.nowMs += random.integer(-600_000, 1_800_000)
    await bench.write([frameOf(0, step, random.integer(1, 2000))])
    if (random.chance(0.4)) {
      bench.nowMs += random.pick([0, 7_200_000])
      await bench.streams.execute({ ...stream, command: 'compact' })
    }
    if (random.chance(0.4)) {
      await bench.restart()
      // Opening drops what is due; that must be over before two reads are compared.
      await bench.streams.execute({ ...stream, command: 'compact' })
    }
    const plain = await bench.streams.execute({ ...stream, command: 'describe' })
    const column = (name: string) =>
      (plain as PlainFrame).columns.find((one) => one.name === name)!.values as readonly bigint[]
    const lasts = column('last_sequence')
    const firsts = column('first_sequence')
    expect(lasts.every((sequence, shard) => sequence >= last[shard]!)).toBe(true)
    last = [...lasts]
    const shards = await contents(bench, 2, firsts.map(Number))
    expect(shards.map(({ length }) => BigInt(length))).toEqual(
      lasts.map((sequence, shard) => sequence - firsts[shard]! + 1n),
    )
    for await (const frame of bench.read({ seek: 'time', start: String(bench.nowMs - 3_600_000) })) {
      const times = frame.column('stream_time').times()
      const newest = times[times.length - 1]!
      if (newest > arrivalNs) arrivalNs = newest
    }
  }
  expect(arrivalNs > BigInt(startMs) * 1_000_000n).toBe(true)
  await bench.streams.close()
})
