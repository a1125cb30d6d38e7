// How fast raw samples are read over gRPC, beside what the same library moves when it finds the same messages ready-made.
// node dist/bench/raw-read.js [--hours N] [--runs N]; 28 hours are 10 M samples.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { connect } from '../client/index.js'
import { elapsedMs, median } from './clock.js'
import { EchoClient } from './echo.js'
import { startEchoProcess, startLoaderProcess, startServerProcess } from './processes.js'
import { metricNames, startMs } from './tsbs.js'

const hostCount = 100
const rowsPerHour = 360
/** What our own client offers; the library's default of 64 KiB is no match. */
const windowByteLength = 8 * 1024 * 1024

const { values } = parseArgs({
  options: { hours: { type: 'string', default: '28' }, runs: { type: 'string', default: '5' } },
})
const hours = Number(values.hours)
const runCount = Number(values.runs)
const sampleCount = hostCount * hours * rowsPerHour * metricNames.length

/** Lengths of all messages. */
async function drain(messages: AsyncIterable<Uint8Array>): Promise<number[]> {
  const lengths: number[] = []
  for await (const message of messages) lengths.push(message.byteLength)
  return lengths
}

const folder = mkdtempSync(join(tmpdir(), 'framesd-raw-read-'))
const server = await startServerProcess(join(folder, 'data'))
const loader = await startLoaderProcess(server.address, hostCount, hours)
const echo = await startEchoProcess()
const client = connect(server.address)
const bare = new EchoClient(echo.address, windowByteLength)
try {
  const table = { backend: 'tsdb', table: 'cpu' }
  await client.create({ ...table, rate: '6/m' })
  await loader.load({ table: 'cpu', layout: 'host' })
  await client.executeWire({ ...table, command: 'compact' })
  const range = { start: String(startMs), end: String(startMs + hours * 3_600_000 - 1) }
  const lengths = await drain(client.readWire({ ...table, ...range }))
  const byteLength = lengths.reduce((sum, length) => sum + length, 0)
  const ours: number[] = []
  const library: number[] = []
  for (let run = -2; run < runCount; run++) {
    const [ourMs, libraryMs] = [
      await elapsedMs(() => drain(client.readWire({ ...table, ...range }))),
      await elapsedMs(() => drain(bare.bytes(lengths))),
    ]
    if (run < 0) continue
    ours.push(ourMs)
    library.push(libraryMs)
  }
  const show = (name: string, ms: readonly number[]) => {
    const middle = median(ms)
    const rates = `${(sampleCount / middle / 1000).toFixed(1)} M samples/s, ${(byteLength / middle / 1000).toFixed(0)} MB/s`
    process.stdout.write(`${name.padEnd(34)}${middle.toFixed(0).padStart(6)} ms  ${rates}\n`)
  }
  process.stdout.write(`${sampleCount} samples, ${lengths.length} messages, ${byteLength} bytes\n`)
  show('raw read over gRPC', ours)
  show('ready-made bytes, library alone', library)
  const share = median(library) / median(ours)
  process.stdout.write(`${(100 * share).toFixed(0)} % of the library alone (wanted: 60 %)\n`)
} finally {
  client.close()
  bare.close()
  await loader.stop()
  await server.stop()
  await echo.stop()
  rmSync(folder, { recursive: true })
}
