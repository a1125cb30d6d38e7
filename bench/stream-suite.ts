// Streams: records of 100 bytes in batches of 1000, embedded and over gRPC, written, read, and written while read; beside
// Redis Streams and NATS JetStream where they are installed, in one run.
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { type Client, connect } from '../client/index.js'
import { frameByteLength, layFrame } from '../engine/codec/columns.js'
import { encodedFrameBound, encodeFrame } from '../engine/codec/wire.js'
import { type Engine, Frame, openEngine, sliceColumn } from '../engine/index.js'
import { createMemory, kernelHeapBase, loadKernels } from '../engine/kernels/kernels.js'
import { elapsedMs, median } from './clock.js'
import { newFileRate } from './disk.js'
import { Nats, natsVersion } from './nats.js'
import { type ServerProcess, startServerProcess } from './processes.js'
import { Redis, redisCommand, redisVersion } from './redis.js'
import { atLeast, type Found, type Settings } from './results.js'
import { randomOf } from './zipf.js'

export interface StreamOptions {
  /** Records of one run; the peers get a fifth, JetStream a twentieth. */
  readonly recordCount: number
  readonly runCount: number
  readonly folder: string
  readonly found: Found
  readonly say: (text: string) => void
}

const backend = 'stream'
const recordByteLength = 100
const recordsPerBatch = 1000
/** Batches that differ; a run sends them again and again. */
const batchCount = 50
/** Writes at work at once, as in the other loads. */
const writeCount = 4
/** Counted runs that write streams which stay. */
const grownRunCount = 3
/** Time for a deleted stream to leave the store, for each million of records. */
const erasingMs = 500
/** Batches of a peer that are on their way at once. */
const peerBatchCount = 4

export async function runStreams(options: StreamOptions): Promise<Settings> {
  const suite = new StreamSuite(options)
  return suite.run()
}

class StreamSuite {
  readonly #options: StreamOptions
  readonly #batches: readonly (readonly string[])[]
  readonly #frames: readonly Frame[]
  readonly #messages: readonly Uint8Array[]
  #tableCount = 0

  constructor(options: StreamOptions) {
    this.#options = options
    const random = randomOf(7)
    const text = (): string => {
      let record = ''
      while (record.length < recordByteLength) record += Math.floor(random() * 2 ** 48).toString(36)
      return record.slice(0, recordByteLength)
    }
    this.#batches = Array.from({ length: batchCount }, () => Array.from({ length: recordsPerBatch }, text))
    this.#frames = this.#batches.map((batch) => new Frame({ columns: [sliceColumn('data', [...batch])] }))
    this.#messages = this.#frames.map(messageOf)
  }

  async run(): Promise<Settings> {
    const { folder, say, recordCount } = this.#options
    const [redis, nats] = [redisVersion(), natsVersion()]
    say('streams, embedded')
    const engine = await openEngine({ dataDir: join(folder, 'streams') })
    try {
      await this.#embedded(engine)
    } finally {
      await engine.close()
    }
    say('streams, over gRPC')
    const server = await startServerProcess(join(folder, 'streams-served'))
    try {
      await this.#served(server)
    } finally {
      await server.stop()
    }
    if (redis !== null) await this.#redis()
    if (nats !== null) await this.#nats()
    for (const name of ['streams', 'streams-served', 'redis-streams', 'nats'])
      rmSync(join(folder, name), { recursive: true, force: true })
    return {
      'stream records': recordCount,
      'Redis Streams': redis === null ? 'not installed' : `${redis}, appendfsync everysec`,
      'NATS JetStream': nats ?? 'not installed',
    }
  }

  async #embedded(engine: Engine): Promise<void> {
    const write = (table: string) => (frames: Iterable<Frame>) => engine.write({ backend, table }, frames)
    const create = (table: string) => engine.create({ backend, table })
    const remove = (table: string) => engine.delete({ backend, table })
    const read = async (table: string): Promise<number> => {
      let rowCount = 0
      for await (const frame of engine.read({ backend, table, seek: 'earliest', shardId: '0' }))
        rowCount += frame.length
      return rowCount
    }
    await this.#measure('embedded', {
      ...{ create, remove, write, read, items: this.#frames, leastWritten: 3e6, leastRead: 10e6 },
    })
  }

  async #served(server: ServerProcess): Promise<void> {
    const client: Client = await connect(`grpc://${server.address}`)
    try {
      const write = (table: string) => (messages: Iterable<Uint8Array>) =>
        client.writeWire({ backend, table }, messages)
      const read = async (table: string): Promise<number> => {
        let last: Uint8Array | null = null
        const request = { backend, table, seek: 'earliest', shardId: '0' }
        for await (const message of client.readWire(request)) last = Uint8Array.from(message)
        // Sequence numbers begin at 1 and have no gaps: the last one is the count. It stands at the end, as a label.
        return last === null ? 0 : lastSequenceOf(last)
      }
      const create = (table: string) => client.create({ backend, table })
      const remove = (table: string) => client.delete({ backend, table })
      await this.#measure('gRPC', {
        ...{ create, remove, write, read, items: this.#messages, leastWritten: 2e6, leastRead: 3e6 },
      })
    } finally {
      client.close()
    }
  }

  async #measure<Item>(
    where: string,
    target: {
      readonly create: (table: string) => Promise<void>
      readonly remove: (table: string) => Promise<void>
      readonly write: (table: string) => (items: Iterable<Item>) => Promise<{ readonly rowCount: number }>
      readonly read: (table: string) => Promise<number>
      readonly items: readonly Item[]
      readonly leastWritten: number
      readonly leastRead: number
    },
  ): Promise<void> {
    const { recordCount, runCount } = this.#options
    const grown: number[] = []
    const written: number[] = []
    const readRates: number[] = []
    const bothWritten: number[] = []
    const bothRead: number[] = []
    const load = (table: string): Promise<number> => {
      let next = 0
      function* own(): Generator<Item, void, undefined> {
        while (next < recordCount / recordsPerBatch) yield target.items[next++ % target.items.length]!
      }
      return elapsedMs(() => Promise.all(Array.from({ length: writeCount }, () => target.write(table)(own()))))
    }
    const newTable = async (): Promise<string> => {
      const table = `bench/records-${this.#tableCount++}`
      await target.create(table)
      return table
    }
    const remove = async (table: string): Promise<void> => {
      await target.remove(table)
      await new Promise((resolve) => setTimeout(resolve, (erasingMs * recordCount) / 1e6))
    }
    // Streams that stay, each in new room of the file: the system must find memory for every page of it first.
    const kept: string[] = []
    for (let run = 0; run <= grownRunCount; run++) {
      kept.push(await newTable())
      const writeMs = await load(kept[run]!)
      if (run > 0) grown.push(rate(recordCount, writeMs))
    }
    const limit = newFileRate(join(this.#options.folder, 'new-file'), recordCount * recordByteLength)
    for (const table of kept) await remove(table)
    // Streams in the room that those before them had, as where retention is at work. The first run is not counted.
    for (let run = 0; run <= runCount; run++) {
      const table = await newTable()
      const writeMs = await load(table)
      const check = async (least: number): Promise<void> => {
        const found = await target.read(table)
        if (found < least) throw new Error(`${found} records were read of ${least}`)
      }
      const readMs = await elapsedMs(() => check(recordCount))
      let readingMs = 0
      const writingMs = await elapsedMs(async () => {
        const reading = elapsedMs(() => check(recordCount))
        await load(table)
        readingMs = await reading
      })
      await remove(table)
      if (run === 0) continue
      written.push(rate(recordCount, writeMs))
      readRates.push(rate(recordCount, readMs))
      bothWritten.push(rate(recordCount, writingMs))
      bothRead.push(rate(recordCount, readingMs))
    }
    this.#add(`${where}, write`, written, target.leastWritten)
    this.#add(`${where}, write, the file grows`, grown, null, `; a file alone takes ${(limit / 1e6).toFixed(0)} MB/s`)
    this.#add(`${where}, read`, readRates, target.leastRead)
    this.#add(`${where}, write while reading`, bothWritten, null)
    this.#add(`${where}, read while writing`, bothRead, null)
  }

  async #redis(): Promise<void> {
    this.#options.say('Redis Streams')
    const redis = await Redis.start(join(this.#options.folder, 'redis-streams'), 'everysec')
    try {
      const count = peerCount(this.#options.recordCount, 5)
      const batches = this.#batches.map((batch) =>
        Buffer.from(batch.map((record) => redisCommand('XADD', 's', '*', 'd', record)).join('')),
      )
      const writeMs = await elapsedMs(() =>
        inFlight(count / recordsPerBatch, (i) => redis.run(batches[i % batchCount]!, recordsPerBatch)),
      )
      const readMs = await elapsedMs(() =>
        redis.run(Buffer.from(redisCommand('XRANGE', 's', '-', '+', 'COUNT', String(count))), 1),
      )
      this.#add('Redis Streams, write', [rate(count, writeMs)], null)
      this.#add('Redis Streams, read', [rate(count, readMs)], null)
    } finally {
      await redis.stop()
    }
  }

  async #nats(): Promise<void> {
    this.#options.say('NATS JetStream')
    const nats = await Nats.start(join(this.#options.folder, 'nats'))
    try {
      const count = peerCount(this.#options.recordCount, 20)
      const writeMs = await elapsedMs(async () => {
        for (let i = 0; i < count / recordsPerBatch; i++) await nats.publish(this.#batches[i % batchCount]!)
      })
      const readMs = await elapsedMs(() => nats.readAll(count))
      this.#add('NATS JetStream, write', [rate(count, writeMs)], null)
      this.#add('NATS JetStream, read', [rate(count, readMs)], null)
    } finally {
      await nats.stop()
    }
  }

  #add(name: string, runs: readonly number[], least: number | null, limit = ''): void {
    const value = median(runs)
    this.#options.found({
      group: 'stream',
      name,
      value,
      unit: 'records/s',
      runs,
      target: least === null ? null : atLeast(value, least, `${least / 1e6} M records/s`),
      beside: `${((value * recordByteLength) / 1e6).toFixed(0)} MB/s of data${limit}`,
      checksum: '',
    })
  }
}

function rate(count: number, ms: number): number {
  return (1000 * count) / ms
}

function peerCount(recordCount: number, divisor: number): number {
  return Math.max(recordsPerBatch, Math.floor(recordCount / divisor / recordsPerBatch) * recordsPerBatch)
}

/** `send` for 0 to count - 1, some of them at once. */
async function inFlight(count: number, send: (i: number) => Promise<void>): Promise<void> {
  let next = 0
  await Promise.all(
    Array.from({ length: peerBatchCount }, async () => {
      while (next < count) await send(next++)
    }),
  )
}

/** A frame as the wire has it. */
function messageOf(frame: Frame): Uint8Array {
  const heapBase = Math.ceil(kernelHeapBase() / 65536) * 65536
  const kernels = loadKernels(createMemory(heapBase + 4 * frameByteLength(frame) + 65536))
  const slices = layFrame(kernels, frame, heapBase)
  const target = Math.ceil((heapBase + frameByteLength(frame)) / 64) * 64
  const byteLength = encodeFrame(kernels, slices, target, encodedFrameBound(slices))
  return kernels.u8.slice(target, target + byteLength)
}

/** The label `last_seq` of a frame: text of the name, then a Value that holds an int64. */
function lastSequenceOf(message: Uint8Array): number {
  const at = Buffer.from(message.buffer, message.byteOffset, message.byteLength).lastIndexOf('last_seq')
  if (at < 0) throw new Error('a frame of a stream has the label last_seq')
  // After the name: the value's tag and length, the field's tag, then the varint.
  let sequence = 0
  let scale = 1
  for (let i = at + 'last_seq'.length + 3; ; i++) {
    const byte = message[i]!
    sequence += (byte & 0x7f) * scale
    if (byte < 0x80) return sequence
    scale *= 128
  }
}
