// Very many series, very long series, and what a load and a query of one series cost as a table grows. A server process, a
// client in this one; memory is that of the server.
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { type Client, connect } from '../client/index.js'
import { Column, Frame, type ReadRequest } from '../engine/index.js'
import { elapsedMs, median } from './clock.js'
import { wholeColumn } from './columns.js'
import { folderByteLength } from './disk.js'
import { backend } from './load-embedded.js'
import { peakMemory } from './memory.js'
import { type ServerProcess, startServerProcess } from './processes.js'
import { FrameReader } from './queries.js'
import { atMost, type Found, type Settings } from './results.js'
import { fractions, startMs } from './tsbs.js'

export interface ScaleOptions {
  /** Series with ten samples each. */
  readonly manySeriesCount: number
  /** Samples of each of a hundred series. */
  readonly longSampleCount: number
  /** Samples of tables of a hundred series, ascending. */
  readonly growth: readonly number[]
  readonly folder: string
  readonly found: Found
  readonly say: (text: string) => void
}

const memoryMegabytesMax = 1000
const rate = '6/m'
const intervalMs = 10_000
const metric = 'usage'
const longSeriesCount = 100
const frameRowCountMax = 50_000
const writeCount = 4
const queryRunCount = 20

export async function runScale(options: ScaleOptions): Promise<Settings> {
  const scale = new Scale(options)
  if (options.manySeriesCount > 0) await scale.manySeries()
  if (options.longSampleCount > 0) await scale.longSeries()
  await scale.growth()
  return {
    'many series': `${options.manySeriesCount} of 10 samples, three labels, frames of ${frameRowCountMax} rows of as many series`,
    'long series': `${longSeriesCount} of ${options.longSampleCount} samples, int64, frames of ${frameRowCountMax} rows`,
    growth: `${longSeriesCount} series, ${options.growth.join(', ')} samples`,
  }
}

/** What one table cost. */
interface Costs {
  readonly loadMs: number
  readonly sampleCount: number
  readonly byteLength: number
  /** Bytes; null where there is no /proc. */
  readonly loadPeak: number | null
  readonly queryPeak: number | null
  /** ms by name of the question. */
  readonly queries: ReadonlyMap<string, readonly number[]>
}

class Scale {
  readonly #options: ScaleOptions
  readonly #reader = new FrameReader()

  constructor(options: ScaleOptions) {
    this.#options = options
  }

  async manySeries(): Promise<void> {
    const { manySeriesCount: count } = this.#options
    this.#options.say(`scale: ${count} series of 10 samples`)
    const one = `series == 's${Math.floor(count / 2)}'`
    const costs = await this.#measure(count * 10, manySeriesFrames(count), {
      'one series, raw': [{ filter: one }, 10],
      'one series, count': [{ filter: one, aggregators: 'count' }, 10],
      'all series by region, count': [{ groupBy: 'region', aggregators: 'count' }, 10 * count],
    })
    this.#found(`${short(count)} series x 10`, costs)
  }

  async longSeries(): Promise<void> {
    const { longSampleCount: count } = this.#options
    this.#options.say(`scale: ${longSeriesCount} series of ${count} samples`)
    this.#found(`${longSeriesCount} series x ${short(count)}`, await this.#longSeries(count))
  }

  #longSeries(count: number): Promise<Costs> {
    const filter = "series == 's42'"
    const middleMs = startMs + Math.floor(count / 2) * intervalMs
    const hour = { start: String(middleMs), end: String(middleMs + 3_600_000 - 1) }
    return this.#measure(count * longSeriesCount, longSeriesFrames(count), {
      'one series, one hour, raw': [{ filter, ...hour }, Math.min(360, count - Math.floor(count / 2))],
      'one series, all, count and max': [{ filter, aggregators: 'count,max' }, count],
    })
  }

  async growth(): Promise<void> {
    const { growth, found, say } = this.#options
    for (const sampleCount of growth) {
      say(`scale: ${sampleCount} samples`)
      const { loadMs, queries } = await this.#longSeries(sampleCount / longSeriesCount)
      const add = (what: string, runs: readonly number[], unit: string) =>
        found({
          group: 'scale',
          name: `${what}: ${short(sampleCount)} samples`,
          value: median(runs),
          unit,
          runs,
          target: null,
          beside: '',
          checksum: '',
        })
      add('load', [loadMs / 1000], 's')
      for (const [name, runs] of queries) add(name, runs, 'ms')
    }
  }

  #found(name: string, { loadMs, sampleCount, byteLength, loadPeak, queryPeak, queries }: Costs): void {
    const { found } = this.#options
    const base = { group: 'scale', checksum: '' } as const
    const loadRate = sampleCount / loadMs / 1000
    const beside = `${(loadMs / 1000).toFixed(1)} s, ${(byteLength / sampleCount).toFixed(2)} bytes a sample before compaction`
    const value = loadRate
    found({ ...base, name: `${name}: load`, value, unit: 'M samples/s', runs: [value], target: null, beside })
    for (const [what, peak] of [
      ['loading', loadPeak],
      ['queries', queryPeak],
    ] as const) {
      if (peak === null) continue
      const value = peak / 1e6
      const target = atMost(value, memoryMegabytesMax, `${memoryMegabytesMax} MB`)
      const all = { name: `${name}: memory, ${what}`, value, unit: 'MB', runs: [value], target }
      found({ ...base, ...all, beside: 'RssAnon + RssShmem' })
    }
    for (const [question, runs] of queries)
      found({
        ...base,
        name: `${name}: ${question}`,
        value: median(runs),
        unit: 'ms',
        runs,
        target: null,
        beside: `first ${runs[0].toFixed(1)} ms`,
      })
  }

  /** `questions`: by name, a request and how many samples its answer must hold or count. */
  async #measure(
    sampleCount: number,
    frames: Generator<Frame>,
    questions: Readonly<Record<string, readonly [request: Omit<ReadRequest, 'backend' | 'table'>, samples: number]>>,
  ): Promise<Costs> {
    const dataDir = join(this.#options.folder, 'scale')
    let server: ServerProcess | null = await startServerProcess(dataDir)
    let client = connect(server.address)
    try {
      const table = { backend, table: 'scale' }
      await client.create({ ...table, rate })
      let loadMs = 0
      const loadPeak = await peakMemory(server.pid, async () => {
        loadMs = await elapsedMs(() => load(client, table, frames))
      })
      // Merges in the background end, and the next process reads all from the disk.
      await client.execute({ ...table, command: 'flush' })
      const byteLength = folderByteLength(dataDir)
      client.close()
      await server.stop()
      server = await startServerProcess(dataDir)
      client = connect(server.address)
      const queries = new Map<string, number[]>()
      const queryPeak = await peakMemory(server.pid, async () => {
        for (const [name, [request, samples]] of Object.entries(questions)) {
          const runs: number[] = []
          for (let run = 0; run < queryRunCount; run++) {
            const messages: Uint8Array[] = []
            const ms = await elapsedMs(async () => {
              for await (const message of client.readWire({ ...table, start: '0', end: 'now', ...request }))
                messages.push(message)
            })
            runs.push(Math.round(ms * 1000) / 1000)
            this.#check(name, messages, samples)
            if (runs.reduce((sum, value) => sum + value, 0) > 20_000) break
          }
          queries.set(name, runs)
        }
      })
      return { loadMs, sampleCount, byteLength, loadPeak, queryPeak, queries }
    } finally {
      client.close()
      await server?.stop()
      rmSync(dataDir, { recursive: true, force: true })
    }
  }

  #check(name: string, messages: readonly Uint8Array[], samples: number): void {
    let found = 0
    for (const message of messages) {
      const { rowCount, arrays } = this.#reader.decode(message)
      const counts = arrays.get(`count(${metric})`)
      for (let row = 0; row < rowCount; row++) found += counts === undefined ? 1 : Number(counts[row])
    }
    if (found !== samples) throw new Error(`${name}: ${found} samples instead of ${samples}`)
  }
}

async function load(
  client: Client,
  table: { backend: string; table: string },
  frames: Generator<Frame>,
): Promise<void> {
  // All writers take from the one generator.
  const shared = { [Symbol.iterator]: () => ({ next: () => frames.next() }) }
  await Promise.all(Array.from({ length: writeCount }, () => client.write(table, shared)))
}

/** 1000000 → 1 M. */
function short(count: number): string {
  if (count >= 1e6) return `${count / 1e6} M`
  return count >= 1000 ? `${count / 1000} k` : String(count)
}

const regions = ['eu', 'us', 'ap', 'sa']

/** Ten rounds over all series; each frame holds as many series at one time. */
function* manySeriesFrames(seriesCount: number): Generator<Frame> {
  const next = fractions(3)
  for (let round = 0; round < 10; round++) {
    for (let first = 0; first < seriesCount; first += frameRowCountMax) {
      const rowCount = Math.min(frameRowCountMax, seriesCount - first)
      const timeNs = BigInt(startMs + round * intervalMs) * 1_000_000n
      const numbers = Array.from({ length: rowCount }, (_, row) => first + row)
      yield new Frame({
        columns: [
          wholeColumn(
            metric,
            'int64',
            BigInt64Array.from(numbers, () => BigInt(Math.floor(next() * 100))),
          ),
        ],
        indices: [
          wholeColumn('time', 'time', new BigInt64Array(rowCount).fill(timeNs)),
          textColumn('series', numbers, (number) => `s${number}`),
          textColumn('host', numbers, (number) => `host_${number % 1000}`),
          textColumn('region', numbers, (number) => regions[number % regions.length]),
        ],
      })
    }
  }
}

function textColumn(name: string, numbers: readonly number[], textOf: (number: number) => string): Column {
  const texts = numbers.map(textOf)
  const offsets = new Uint32Array(texts.length + 1)
  texts.forEach((text, row) => {
    offsets[row + 1] = offsets[row] + text.length
  })
  const buffers = { dtype: 'string', offsets, bytes: Buffer.from(texts.join('')) } as const
  return Column.fromBuffers({ name, kind: 'slice', length: texts.length, validity: null, buffers })
}

/** A stretch of each series after the other, then the next stretch: as collectors send them. */
function* longSeriesFrames(sampleCount: number): Generator<Frame> {
  const next = fractions(4)
  // Every series shows the same noise, from another place on.
  const noise = BigInt64Array.from({ length: 2 * frameRowCountMax }, () => BigInt(Math.floor(next() * 100)))
  for (let start = 0; start < sampleCount; start += frameRowCountMax) {
    const rowCount = Math.min(frameRowCountMax, sampleCount - start)
    const times = new BigInt64Array(rowCount)
    let timeNs = BigInt(startMs + start * intervalMs) * 1_000_000n
    const stepNs = BigInt(intervalMs) * 1_000_000n
    for (let row = 0; row < rowCount; row++, timeNs += stepNs) times[row] = timeNs
    for (let series = 0; series < longSeriesCount; series++) {
      const from = (series * 461) % frameRowCountMax
      yield new Frame({
        columns: [wholeColumn(metric, 'int64', noise.subarray(from, from + rowCount))],
        indices: [wholeColumn('time', 'time', times)],
        labels: { series: `s${series}`, host: `host_${series}`, region: regions[series % regions.length] },
      })
    }
  }
}
