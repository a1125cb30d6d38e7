// Small writes without a pause: how many blocks a table has meanwhile, what merging them writes again, and how long single
// writes and reads take while blocks are merged.
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { type Client, connect } from '../client/index.js'
import { Frame } from '../engine/index.js'
import { blockRowCountMax } from '../engine/limits.js'
import { elapsedMs, median, percentile99 } from './clock.js'
import { wholeColumn } from './columns.js'
import { backend, rate, writeCount } from './load-embedded.js'
import { peakMemory } from './memory.js'
import { startServerProcess } from './processes.js'
import { atMost, type Found } from './results.js'
import { fractions, metricNames, startMs } from './tsbs.js'

export interface IngestOptions {
  readonly seconds: number
  readonly folder: string
  readonly found: Found
  readonly say: (text: string) => void
}

const hostCount = 100
/** Times of one write: one host's ten minutes. */
const rowCount = 60
const intervalNs = 10_000_000_000n
/**
 * Writers wait where a table has more than 256 fresh runs and merges are under way: where merges do not keep up, blocks stand there. Three quarters of
 * it are more than merges leave that do.
 */
const freshBlockCountMax = 192

interface Statistics {
  readonly blocks: number
  readonly rows: number
  readonly committed: number
  readonly merged: number
}

export async function ingest({ seconds, folder, found, say }: IngestOptions): Promise<void> {
  say(`ingest: ${seconds} s of writes of ${rowCount} rows`)
  const dataDir = join(folder, 'ingest')
  const server = await startServerProcess(dataDir)
  const client = connect(server.address)
  const table = { backend, table: 'ingest' }
  const looks: Statistics[] = []
  const writeMs: number[] = []
  const readMs: number[] = []
  try {
    await client.create({ ...table, rate })
    const frames = endlessFrames()
    const end = performance.now() + 1000 * seconds
    const isOpen = () => performance.now() < end
    const peak = await peakMemory(server.pid, () =>
      Promise.all([
        ...Array.from({ length: writeCount }, async () => {
          while (isOpen()) writeMs.push(await elapsedMs(() => client.write(table, frames.next().value)))
        }),
        (async () => {
          while (isOpen()) {
            await new Promise((resolve) => setTimeout(resolve, 500))
            looks.push(await statisticsOf(client, table))
            readMs.push(await elapsedMs(() => readLastHour(client, table)))
          }
        })(),
      ]),
    )
    const last = await statisticsOf(client, table)
    if (last.rows !== writeMs.length * rowCount)
      throw new Error(`${last.rows} rows instead of ${writeMs.length} writes of ${rowCount}`)
    const base = { group: 'ingest', checksum: '' } as const
    // Those that the rows would fill whole are no burden of merges: they become more as long as rows come.
    const freshBlocks = looks.map(({ blocks, rows }) => blocks - Math.floor(rows / blockRowCountMax))
    const half = Math.ceil(looks.length / 2)
    const value = (last.committed + last.merged) / last.committed
    const amplification = `${(last.committed / 1e6).toFixed(1)} MB committed, ${(last.merged / 1e6).toFixed(1)} MB merged`
    const blocks = Math.max(...freshBlocks)
    found(
      {
        ...base,
        name: `writes of ${rowCount} rows, ${writeCount} at once`,
        value: writeMs.length / seconds,
        unit: 'writes/s',
        runs: [],
        target: null,
        beside: `${(last.rows / 1e6).toFixed(2)} M rows; median ${median(writeMs).toFixed(2)}, p99 ${percentile99(writeMs).toFixed(1)}, slowest ${Math.max(...writeMs).toFixed(0)} ms`,
      },
      {
        ...base,
        name: 'blocks beside full ones, most of all looks',
        value: blocks,
        unit: '',
        runs: freshBlocks,
        target: atMost(blocks, freshBlockCountMax, `${freshBlockCountMax}; writers wait at 256`),
        beside: `first half ${Math.max(...freshBlocks.slice(0, half))}, second ${Math.max(...freshBlocks.slice(half))}; ${last.blocks} with full ones at the end`,
      },
      {
        ...base,
        name: 'write amplification',
        value,
        unit: '',
        runs: looks
          .filter(({ committed }) => committed > 0)
          .map((look) => (look.committed + look.merged) / look.committed),
        target: atMost(value, 8, '8'),
        beside: amplification,
      },
      {
        ...base,
        name: 'a read of one host and hour meanwhile',
        value: median(readMs),
        unit: 'ms',
        runs: readMs,
        target: null,
        beside: `slowest ${Math.max(...readMs).toFixed(0)} ms`,
      },
    )
    if (peak !== null)
      found({
        ...base,
        name: 'memory of the server',
        value: peak / 1e6,
        unit: 'MB',
        runs: [],
        target: null,
        beside: '',
      })
  } finally {
    client.close()
    await server.stop()
    rmSync(dataDir, { recursive: true })
  }
}

async function statisticsOf(client: Client, table: { backend: string; table: string }): Promise<Statistics> {
  const frame = await client.execute({ ...table, command: 'stats' })
  if (frame === null) throw new Error('stats answers with a frame')
  const cell = (name: string) => Number(frame.column(name).values()[0])
  return {
    blocks: cell('blocks'),
    rows: cell('rows'),
    committed: cell('committed_bytes'),
    merged: cell('merged_bytes'),
  }
}

async function readLastHour(client: Client, table: { backend: string; table: string }): Promise<void> {
  const request = { ...table, start: String(startMs), end: String(startMs + 3_600_000), filter: "hostname == 'host_7'" }
  for await (const message of client.readWire({ ...request, columns: metricNames, aggregators: 'max', step: '1m' }))
    if (message.byteLength === 0) throw new Error('an empty message')
}

/** Host after host, then the next ten minutes. */
function* endlessFrames(): Generator<Frame, never> {
  const next = fractions(5)
  const noise = BigInt64Array.from({ length: 10_000 }, () => BigInt(Math.floor(next() * 100)))
  for (let turn = 0; ; turn++) {
    const firstNs = BigInt(startMs) * 1_000_000n + BigInt(turn * rowCount) * intervalNs
    const times = BigInt64Array.from({ length: rowCount }, (_, row) => firstNs + BigInt(row) * intervalNs)
    for (let host = 0; host < hostCount; host++) {
      const from = (turn * 31 + host * 97) % 9000
      yield new Frame({
        columns: metricNames.map((name, i) =>
          wholeColumn(name, 'int64', noise.subarray(from + i, from + i + rowCount)),
        ),
        indices: [wholeColumn('time', 'time', times)],
        labels: { hostname: `host_${host}` },
      })
    }
  }
}
