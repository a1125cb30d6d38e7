// A read of all raw samples over gRPC, beside what the same gRPC library moves when the bytes are ready: as many messages of
// the same lengths, by a server that does nothing else.
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { connect } from '../client/index.js'
import { elapsedMs, median } from './clock.js'
import { EchoClient } from './echo.js'
import { framesOf } from './layouts.js'
import { backend, rate } from './load-embedded.js'
import { startEchoProcess, startServerProcess } from './processes.js'
import { atLeast, type Found } from './results.js'
import { drawWorkload, metricNames, type WorkloadSize, type WorkloadValues } from './tsbs.js'

export interface RawReadOptions extends WorkloadSize {
  readonly warmUpCount: number
  readonly runCount: number
  readonly folder: string
  readonly found: Found
  readonly say: (text: string) => void
}

export async function readRaw(options: RawReadOptions): Promise<void> {
  const dataDir = join(options.folder, 'raw-read')
  const server = await startServerProcess(dataDir)
  const echo = await startEchoProcess()
  try {
    for (const values of ['whole numbers', 'two decimals'] as const)
      await readValues(options, values, server.address, echo.address)
  } finally {
    await echo.stop()
    await server.stop()
    rmSync(dataDir, { recursive: true })
  }
}

async function readValues(
  { warmUpCount, runCount, found, say, ...size }: RawReadOptions,
  values: WorkloadValues,
  address: string,
  echoAddress: string,
): Promise<void> {
  say(`raw read: ${values}`)
  const client = connect(address)
  const echo = new EchoClient(echoAddress)
  const workload = drawWorkload(size, 1, values)
  const table = { backend, table: `raw_${metricNames.length}_${values.replace(' ', '_')}` }
  await client.create({ ...table, rate })
  await client.write(table, framesOf(workload, 'host'))
  await client.execute({ ...table, command: 'compact' })
  const request = { ...table, start: '0', end: 'now', columns: metricNames }
  const times = { read: [] as number[], ready: [] as number[] }
  let byteLengths: number[] = []
  for (let run = -warmUpCount; run < runCount; run++) {
    byteLengths = []
    const readMs = await elapsedMs(async () => {
      for await (const message of client.readWire(request)) byteLengths.push(message.byteLength)
    })
    const readyMs = await elapsedMs(() => echo.stream(byteLengths))
    if (run < 0) continue
    times.read.push(readMs)
    times.ready.push(readyMs)
  }
  client.close()
  echo.close()
  const { sampleCount, checksum } = workload
  const megabytes = byteLengths.reduce((sum, byteLength) => sum + byteLength, 0) / 1e6
  const perSecond = (ms: number) => (1000 * megabytes) / ms
  const ready = median(times.ready.map(perSecond))
  const value = median(times.read.map(perSecond))
  const samples = `${(sampleCount / 1e6).toFixed(1)} M samples in ${median(times.read).toFixed(0)} ms, ${byteLengths.length} messages`
  const base = { group: 'raw read', unit: 'MB/s', checksum } as const
  const share = `${((100 * value) / ready).toFixed(0)} % of ready bytes`
  const target = atLeast(value, 0.6 * ready, `60 % of ready bytes (${(0.6 * ready).toFixed(0)})`)
  found(
    {
      ...base,
      name: `${values}, gRPC`,
      value,
      runs: times.read.map(perSecond),
      target,
      beside: `${share}, ${samples}`,
    },
    {
      ...base,
      name: `${values}, ready bytes`,
      value: ready,
      runs: times.ready.map(perSecond),
      target: null,
      beside: `${megabytes.toFixed(1)} MB, the same messages`,
    },
  )
}
