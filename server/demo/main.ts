// npm run demo: loads real data through the server, reads it back in several ways, shows and checks the answers, and goes
// on serving. With --exit, or without a terminal, it ends: with 0 when every answer was right, else with 1.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { type Client, connect, type Frame, type ReadRequest } from '../../client/index.js'
import { dayOf, hasSameRows, isNear, monthOf, nextMonth, summarize, timesMs } from './answers.js'
import { type DataSet, msPerDay, readDataSets } from './data-files.js'
import { tourItems } from './items.js'
import { plotLines } from './plot.js'
import { tourRecords } from './records.js'
import { isPortFree, type ServerProcess, ServerRefused, startServerProcess } from './server-process.js'
import { milliseconds, Terminal, thousands } from './terminal.js'

const httpPortDefault = 8080
const grpcPortDefault = 8081
const container = 'users'
const dataFolder = 'framesd-demo-data'
/** Small, so that the progress bar has something to show; a client would send larger ones. */
const rowsPerFrame = 500
const monthsAtOnce = 12

const terminal = new Terminal(process.stdout)
let wrongCount = 0

function check(isRight: boolean, what: string): void {
  if (!isRight) wrongCount++
  terminal.lines([isRight ? `${terminal.green('✓')} ${what}` : terminal.red(`✗ WRONG: ${what}`)])
}

async function timed<T>(work: () => Promise<T>): Promise<{ result: T; took: string }> {
  const startMs = performance.now()
  const result = await work()
  return { result, took: milliseconds(performance.now() - startMs) }
}

// ---- The server ----

interface Started {
  readonly server: ServerProcess
  readonly dataDir: string
  /** A folder that goes when the demo ends. */
  readonly isTemporary: boolean
}

async function startServer(): Promise<Started> {
  const ports = { httpPort: await portFor('HTTP', httpPortDefault), grpcPort: await portFor('gRPC', grpcPortDefault) }
  const dataDir = resolve(dataFolder)
  try {
    return { server: await startServerProcess({ dataDir, ...ports }), dataDir, isTemporary: false }
  } catch (error) {
    if (!(error instanceof ServerRefused)) throw error
    terminal.lines([terminal.yellow(`${dataDir} cannot be used (${error.message}): taking a temporary folder`)])
  }
  const temporary = mkdtempSync(join(tmpdir(), 'framesd-demo-'))
  try {
    const server = await startServerProcess({ dataDir: temporary, httpPort: 0, grpcPort: 0 })
    return { server, dataDir: temporary, isTemporary: true }
  } catch (error) {
    rmSync(temporary, { recursive: true, force: true })
    throw error
  }
}

async function portFor(transport: string, port: number): Promise<number> {
  if (await isPortFree(port)) return port
  terminal.lines([terminal.yellow(`port ${port} (${transport}) is taken by another program: taking a free one`)])
  return 0
}

// ---- Loading ----

async function load(client: Client, dataSets: readonly DataSet[]): Promise<void> {
  const totalCount = dataSets.reduce((sum, { frame }) => sum + frame.length, 0)
  terminal.heading('Load', 'CSV files of the package vega-datasets; their local times are taken as UTC')
  const took: string[] = []
  let doneCount = 0
  async function* parts({ frame, table }: DataSet): AsyncGenerator<Frame> {
    for (let start = 0; start < frame.length; start += rowsPerFrame) {
      const part = frame.slice(start, Math.min(frame.length, start + rowsPerFrame))
      yield part
      doneCount += part.length
      terminal.progress(table.padEnd(15), doneCount, totalCount)
    }
  }
  for (const dataSet of dataSets) {
    const table = { backend: 'tsdb', table: dataSet.table }
    await client.delete({ ...table, ifMissing: 'ignore' })
    await client.create({ ...table, rate: '1/h' })
    const written = await timed(() => client.write(table, parts(dataSet)))
    took.push(written.took)
  }
  terminal.endProgress()
  terminal.table([
    { title: 'table', align: 'left', cells: dataSets.map(({ table }) => table), paint: terminal.cyan },
    { title: 'rows', cells: dataSets.map(({ frame }) => thousands(frame.length)) },
    { title: 'durable after', cells: took },
    { title: 'what it is', align: 'left', cells: dataSets.map(({ about }) => about) },
  ])
}

// ---- Reading ----

async function readAll(client: Client, request: Omit<ReadRequest, 'backend'>): Promise<Frame[]> {
  const frames: Frame[] = []
  for await (const frame of client.read({ backend: 'tsdb', ...request })) frames.push(frame)
  return frames
}

const isoDay = (timeMs: number): string => new Date(timeMs).toISOString().slice(0, 10)
const isoMinute = (timeMs: number): string => new Date(timeMs).toISOString().slice(0, 16).replace('T', ' ')

async function showRaw(client: Client, { table, frame }: DataSet): Promise<void> {
  const columns = ['temperature', 'pressure', 'wind']
  const whole = await timed(() => readAll(client, { table, start: '0', end: 'now', columns }))
  const noon = await timed(() =>
    readAll(client, { table, start: '2010-07-04T12:00:00Z', end: '2010-07-04T17:00:00Z', columns }),
  )
  const detail = `6 rows in ${noon.took}; all ${thousands(frame.length)} in ${whole.took}`
  terminal.heading('Raw rows: Seattle, the afternoon of 4 July', detail)
  const [afternoon] = noon.result
  const texts = (name: string) => Array.from(afternoon.column(name).floats(), (value) => value.toFixed(1))
  terminal.table([
    { title: 'time (UTC)', align: 'left', cells: timesMs(afternoon).map(isoMinute), paint: terminal.dim },
    { title: 'temperature', cells: texts('temperature'), paint: terminal.yellow },
    { title: 'pressure', cells: texts('pressure') },
    { title: 'wind', cells: texts('wind') },
  ])
  check(hasSameRows(frame, whole.result), `all ${thousands(frame.length)} rows are those of the file`)
}

async function showDays(client: Client, { table, frame }: DataSet): Promise<void> {
  const request = { table, columns: ['temperature'], aggregators: 'min,avg,max', step: '1d' }
  const answer = await timed(() =>
    readAll(client, { ...request, start: '2010-01-01T00:00:00Z', end: '2010-12-31T23:59:59Z' }),
  )
  const days = answer.result.flatMap(timesMs)
  const cells = (name: string) => answer.result.flatMap((part) => Array.from(part.column(name).floats()))
  const [mins, means, maxs] = ['min', 'avg', 'max'].map((name) => cells(`${name}(temperature)`))
  terminal.heading('Temperature of each day: min, avg, max', `${days.length} days in ${answer.took}`)
  const first = days.indexOf(Date.UTC(2010, 6, 1))
  const week = <T>(values: readonly T[]) => values.slice(first, first + 7)
  const texts = (values: readonly number[]) => week(values).map((value) => value.toFixed(2))
  terminal.table([
    { title: 'day', align: 'left', cells: week(days).map(isoDay), paint: terminal.dim },
    { title: 'min °C', cells: texts(mins), paint: terminal.blue },
    { title: 'avg °C', cells: texts(means), paint: terminal.yellow },
    { title: 'max °C', cells: texts(maxs), paint: terminal.red },
  ])
  terminal.line()
  const months = Array.from({ length: 12 }, (_, month) => {
    const date = new Date(Date.UTC(2010, month))
    const text = date.toLocaleString('en', { month: 'short', timeZone: 'UTC' })
    return { at: (date.getTime() - days[0]) / msPerDay / days.length, text }
  })
  terminal.lines(
    plotLines(
      [
        { values: mins, paint: terminal.blue },
        { values: maxs, paint: terminal.red },
        { values: means, paint: terminal.yellow },
      ],
      { width: terminal.width - 10, height: 10, ticks: months, dim: terminal.dim },
    ),
  )
  const rowTimes = timesMs(frame)
  const expected = summarize(frame.column('temperature').floats(), (row) => dayOf(rowTimes[row]))
  const isRight = days.every((day, i) => {
    const summary = expected.get(day)
    return summary !== undefined && mins[i] === summary.min && maxs[i] === summary.max && isNear(means[i], summary.mean)
  })
  check(isRight && days.length === expected.size, `min, avg and max of ${days.length} days are those of the file`)
}

/** Symbol → mean of the month, for one calendar month. */
async function readMonth(
  client: Client,
  { table }: DataSet,
  metric: string,
  monthMs: number,
): Promise<Map<string, number>> {
  const range = { start: String(monthMs), end: String(nextMonth(monthMs) - 1) }
  const frames = await readAll(client, { table, columns: [metric], aggregators: 'avg', ...range })
  return new Map(
    frames.map((frame) => [String(frame.labels.get('symbol')), frame.column(`avg(${metric})`).floats()[0]]),
  )
}

async function showMonths(client: Client, stocks: DataSet, index: DataSet): Promise<void> {
  const stockTimes = timesMs(stocks.frame)
  const months = [...new Set(stockTimes.map(monthOf))].sort((a, b) => a - b)
  const answer = await timed(async () => {
    const means = new Map<number, Map<string, number>>()
    for (let first = 0; first < months.length; first += monthsAtOnce) {
      const readBoth = async (month: number) => {
        const ofBoth = [readMonth(client, stocks, 'price', month), readMonth(client, index, 'close', month)]
        means.set(month, new Map((await Promise.all(ofBoth)).flatMap((ofTable) => [...ofTable])))
      }
      await Promise.all(months.slice(first, first + monthsAtOnce).map(readBoth))
    }
    return means
  })
  const means = answer.result
  terminal.heading('Average of each month, by symbol', `${2 * months.length} reads in ${answer.took}`)
  const symbols = [...new Set(stocks.frame.indices[1].strings())].sort().concat('SP500')
  const shown = months.slice(-12)
  terminal.table([
    { title: 'month', align: 'left', cells: shown.map((month) => isoDay(month).slice(0, 7)), paint: terminal.dim },
    ...symbols.map((symbol) => ({
      title: symbol,
      cells: shown.map((month) => means.get(month)?.get(symbol)?.toFixed(2) ?? ''),
      ...(symbol === 'SP500' ? { paint: terminal.yellow } : {}),
    })),
  ])
  terminal.lines([
    terminal.dim('Months differ in length and steps do not, so each month is a read of its own range.'),
    terminal.dim('The stocks have one price a month: their average is of that one; SP500 has some 21 closes.'),
  ])
  const stockSymbols = stocks.frame.indices[1].strings()
  const expected = summarize(
    stocks.frame.column('price').floats(),
    (row) => `${monthOf(stockTimes[row])} ${stockSymbols[row]}`,
  )
  const indexTimes = timesMs(index.frame)
  const lastMonth = months[months.length - 1]
  for (const [key, summary] of summarize(index.frame.column('close').floats(), (row) => monthOf(indexTimes[row]))) {
    if (key <= lastMonth) expected.set(`${key} SP500`, summary)
  }
  const actualCount = [...means.values()].reduce((sum, ofMonth) => sum + ofMonth.size, 0)
  const isRight = [...expected].every(([key, { mean }]) => {
    const [month, symbol] = key.split(' ')
    return isNear(means.get(Number(month))?.get(symbol) ?? Number.NaN, mean)
  })
  check(isRight && actualCount === expected.size, `${thousands(expected.size)} monthly averages are those of the files`)
  const stored = await readAll(client, { table: stocks.table, start: '0', end: 'now' })
  check(
    hasSameRows(stocks.frame, stored),
    `all ${stocks.frame.length} prices are those of the file, under their symbol`,
  )
}

async function showIndex(client: Client, index: DataSet): Promise<void> {
  const answer = await timed(() => readAll(client, { table: index.table, start: '0', end: 'now' }))
  const closes = answer.result.flatMap((frame) => Array.from(frame.column('close').floats()))
  const times = answer.result.flatMap(timesMs)
  const span = times[times.length - 1] - times[0]
  terminal.heading('S&P 500, each close', `${thousands(times.length)} rows of 6 columns in ${answer.took}`)
  const years = [2000, 2004, 2008, 2012, 2016, 2019].map((year) => ({
    at: Math.max(0, (Date.UTC(year, 0) - times[0]) / span),
    text: String(year),
  }))
  const options = { width: terminal.width - 10, height: 9, ticks: years, dim: terminal.dim }
  terminal.lines(plotLines([{ values: closes, paint: terminal.green }], options))
  const what = `all ${thousands(index.frame.length)} rows are those of the file, volumes to the last digit`
  check(hasSameRows(index.frame, answer.result), what)
}

// ---- What next ----

/** At the left edge, so that what is copied runs as it is. */
function showConnections({ httpPort, grpcPort }: ServerProcess): void {
  terminal.heading('Connect from Python', 'pip install v3io_frames pytz')
  terminal.line()
  terminal.line('import v3io_frames')
  terminal.line(`client = v3io_frames.Client('grpc://127.0.0.1:${grpcPort}', container='${container}')`)
  terminal.line("print(client.read('tsdb', 'sp500', columns=['close'], start='2020-01-01T00:00:00Z'))")
  terminal.line("print(client.read('tsdb', 'stocks', aggregators='avg', step='365d', start='0', multi_index=True))")
  terminal.line("print(client.read('stream', 'earthquakes', seek='earliest', columns=['time', 'mag', 'place']))")
  terminal.line()
  terminal.lines([
    terminal.dim(`over HTTP: 'http://127.0.0.1:${httpPort}'`),
    terminal.dim("before a write with pandas 3, whose times are in µs: df.index = df.index.as_unit('ns')"),
  ])
  terminal.heading('Connect from TypeScript')
  terminal.line()
  terminal.line("import { connect } from 'framesd/client'")
  terminal.line(`const client = connect('grpc://127.0.0.1:${grpcPort}', { session: { container: '${container}' } })`)
  terminal.line("for await (const frame of client.read({ backend: 'tsdb', table: 'sp500', start: '0' })) {")
  terminal.line('  for (const row of frame.rows({ includeIndex: true })) console.log(row)')
  terminal.line('}')
}

/** Resolves when the user or the system asks the demo to end, or the server ends by itself. */
function untilEnd(server: ServerProcess): Promise<'asked' | 'server ended'> {
  return new Promise((resolveEnd) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => resolveEnd('asked'))
    server.ended.then(() => resolveEnd('server ended'))
  })
}

async function main(args: readonly string[]): Promise<void> {
  const isOver = args.includes('--exit') || !terminal.isInteractive
  const dataSets = readDataSets()
  terminal.line(`${terminal.bold('framesd')}: one DataFrame API, served from the embedded store`)
  const started = await timed(startServer)
  const { server, dataDir, isTemporary } = started.result
  const end = untilEnd(server)
  try {
    terminal.lines([
      `server in a process of its own after ${started.took}: gRPC ${terminal.cyan(`127.0.0.1:${server.grpcPort}`)}, ` +
        `HTTP ${terminal.cyan(`127.0.0.1:${server.httpPort}`)}`,
      terminal.dim(`data in ${dataDir}`),
    ])
    const client = connect(`grpc://127.0.0.1:${server.grpcPort}`, { session: { container } })
    const follower = connect(`http://127.0.0.1:${server.httpPort}`, { session: { container } })
    try {
      const ended = await Promise.race([tour(client, follower, dataSets).then(() => null), end])
      if (ended === 'asked') return
      if (ended === 'server ended') throw new Error('the server has ended')
    } finally {
      client.close()
      follower.close()
    }
    showConnections(server)
    terminal.line()
    if (wrongCount > 0) terminal.lines([terminal.red(`${wrongCount} answers were wrong`)])
    if (isOver) return
    terminal.lines([`${terminal.green('●')} still serving; Ctrl-C ends it`])
    if ((await end) === 'server ended') throw new Error('the server has ended')
  } finally {
    await server.stop()
    if (isTemporary) rmSync(dataDir, { recursive: true, force: true })
  }
}

async function tour(client: Client, follower: Client, dataSets: ReturnType<typeof readDataSets>): Promise<void> {
  const { weather, index, stocks } = dataSets
  await load(client, [weather, index, stocks])
  await showRaw(client, weather)
  await showDays(client, weather)
  await showMonths(client, stocks, index)
  await showIndex(client, index)
  await tourItems(client, { terminal, check, timed })
  await tourRecords(client, follower, { terminal, check, timed })
}

main(process.argv.slice(2)).then(
  () => {
    process.exitCode = wrongCount === 0 ? 0 : 1
  },
  (error: unknown) => {
    process.stderr.write(
      `the demo failed: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`,
    )
    process.exitCode = 1
  },
)
