// The demo's stream: earthquakes of a week, written day by day while a reader follows, then read by time and filter.
import type { Client, Frame, ReadRequest } from '../../client/index.js'
import { type Quakes, readQuakes } from './data-files.js'
import type { Stage } from './stage.js'

const backend = 'stream'
const shardCount = 4
const group = 'demo'
/** The follower gives up when nothing has come for so long: then something is wrong. */
const followMs = 10_000
/** Records of one network stand in one shard, in order. */
const partitionKey = 'net'

/** `follower` speaks HTTP: messages of gRPC have no field that says to follow. */
export async function tourRecords(client: Client, follower: Client, stage: Stage): Promise<void> {
  const quakes = readQuakes()
  const table = { backend, table: quakes.table }
  await client.delete({ ...table, ifMissing: 'ignore' })
  const schema = { key: { shardingKey: [partitionKey] } }
  await client.create({ ...table, shards: BigInt(shardCount), retentionHours: 24n, schema })
  const lastDayStart = await showFollowing(client, follower, stage, quakes)
  await showLastDay(client, stage, quakes, lastDayStart)
  await showStrongest(client, stage, quakes)
  await showShards(client, stage, quakes)
}

async function readAll(client: Client, request: Omit<ReadRequest, 'backend' | 'seek'>, seek: string): Promise<Frame[]> {
  const frames: Frame[] = []
  for await (const frame of client.read({ backend, seek, ...request })) frames.push(frame)
  return frames
}

/** A record as text, without what the stream knows of it: the same for a row of the file and one that was read. */
function textsOf(expected: Frame, frame: Frame): string[] {
  const names = [...expected.names, 'time']
  const columns = names.map((name) =>
    (frame.names.includes(name) ? frame.column(name) : frame.indices.find((index) => index.name === name))?.values(),
  )
  return Array.from({ length: frame.length }, (_, row) =>
    columns.map((values) => (values === undefined ? null : values[row])).join('|'),
  )
}

/** The same records, and those of each network in the same order. */
export function hasSameRecords(expected: Frame, actual: readonly Frame[]): boolean {
  const byNetwork = (frames: readonly Frame[]): string => {
    const texts = new Map<string, string[]>()
    for (const frame of frames) {
      const networks = frame.column(partitionKey).strings()
      for (const [row, text] of textsOf(expected, frame).entries()) {
        const own = texts.get(networks[row])
        if (own === undefined) texts.set(networks[row], [text])
        else own.push(text)
      }
    }
    return JSON.stringify([...texts].sort(([a], [b]) => (a < b ? -1 : 1)))
  }
  return byNetwork([expected]) === byNetwork(actual)
}

/** Resolves at the beginning of the next second, with it: reads by time begin at whole seconds. */
async function nextSecond(): Promise<string> {
  const ms = 1000 * (Math.floor(Date.now() / 1000) + 1)
  while (Date.now() < ms) await new Promise((resolve) => setTimeout(resolve, ms - Date.now()))
  return new Date(ms).toISOString()
}

async function* follow(follower: Client, table: string, recordCount: number): AsyncGenerator<Frame> {
  let count = 0
  for await (const frame of follower.read({ backend, table, seek: 'earliest', followMs })) {
    count += frame.length
    yield frame
    if (count >= recordCount) return
  }
}

/** Writes day by day while somebody follows. Resolves with the time at which the last day began to be written. */
async function showFollowing(
  client: Client,
  follower: Client,
  { terminal, timed, check }: Stage,
  { table, frame, dayStarts }: Quakes,
): Promise<string> {
  const followed: Frame[] = []
  const following = (async () => {
    for await (const part of follow(follower, table, frame.length)) followed.push(part)
  })()
  // Looked at below; a failure must not count as unhandled before.
  following.catch(() => undefined)
  const took: string[] = []
  let lastDayStart = ''
  const dayCount = dayStarts.length - 1
  for (let day = 0; day < dayCount; day++) {
    if (day === dayCount - 1) lastDayStart = await nextSecond()
    const part = frame.slice(dayStarts[day], dayStarts[day + 1])
    took.push((await timed(() => client.write({ backend, table }, part))).took)
  }
  const rest = await timed(() => following)
  terminal.heading('A stream: earthquakes of a week, written and followed', 'a JSON file of the package vega-datasets')
  const times = frame.indices[0].times()
  const magnitudes = frame.column('mag').floats()
  const days = took.map((_, day) => [dayStarts[day], dayStarts[day + 1]] as const)
  terminal.table([
    {
      title: 'day (UTC)',
      align: 'left',
      cells: days.map(([start]) => new Date(Number(times[start] / 1_000_000n)).toISOString().slice(0, 10)),
      paint: terminal.dim,
    },
    { title: 'records', cells: days.map(([start, end]) => String(end - start)) },
    {
      title: 'strongest',
      cells: days.map(([start, end]) => Math.max(...magnitudes.subarray(start, end)).toFixed(1)),
      paint: terminal.yellow,
    },
    { title: 'durable after', cells: took },
  ])
  terminal.lines([
    `a reader over HTTP that followed had ${followed.length} frames, the last one ${rest.took} after the last write ended`,
  ])
  check(hasSameRecords(frame, followed), `it got all ${frame.length} records, those of each network in order`)
  return lastDayStart
}

async function showLastDay(
  client: Client,
  { terminal, timed, check }: Stage,
  { table, frame, dayStarts }: Quakes,
  start: string,
): Promise<void> {
  const answer = await timed(() => readAll(client, { table, start }, 'time'))
  const expected = frame.slice(dayStarts[dayStarts.length - 2], frame.length)
  terminal.heading(`Records that arrived since ${start}`, `seek 'time', ${answer.took}`)
  check(hasSameRecords(expected, answer.result), `they are the ${expected.length} records of the last day`)
}

async function showStrongest(
  client: Client,
  { terminal, timed, check }: Stage,
  { table, frame }: Quakes,
): Promise<void> {
  const filter = "mag >= 5.5 AND NOT contains(place, 'Chile')"
  const columns = ['time', 'mag', 'depth', 'place', 'felt']
  const answer = await timed(() => readAll(client, { table, filter, columns }, 'earliest'))
  terminal.heading(`Earthquakes where ${filter}`, answer.took)
  const rows = answer.result.flatMap((part) => [...part.rows()])
  const text = (value: unknown): string => (value === null ? '' : String(value))
  const places = rows.map(({ place }) => text(place))
  terminal.table([
    { title: 'place', align: 'left', cells: places, paint: terminal.yellow },
    { title: 'magnitude', cells: rows.map(({ mag }) => Number(mag).toFixed(1)) },
    { title: 'km deep', cells: rows.map(({ depth }) => Number(depth).toFixed(0)) },
    { title: 'felt by', cells: rows.map(({ felt }) => text(felt)) },
  ])
  const magnitudes = frame.column('mag').floats()
  const expected = frame
    .column('place')
    .strings()
    .filter((place, row) => magnitudes[row] >= 5.5 && !place.includes('Chile'))
  check(
    expected.sort().join('\n') === places.sort().join('\n'),
    `the ${expected.length} earthquakes are those of the file`,
  )
}

/** Where each shard stands, and a consumer group that has read one of them. */
async function showShards(client: Client, { terminal, timed, check }: Stage, { table, frame }: Quakes): Promise<void> {
  const shards = await timed(async () => {
    const answer = await client.execute({ backend, table, command: 'describe' })
    return answer === null ? [] : [...answer.rows()]
  })
  const lasts = shards.result.map((row) => Number(row.last_sequence))
  const fullest = lasts.indexOf(Math.max(...lasts))
  const position = { group, shard_id: String(fullest), sequence: BigInt(lasts[fullest]) }
  await client.execute({ backend, table, command: 'commit', args: position })
  const offsets = await client.execute({ backend, table, command: 'offsets', args: { group } })
  const lags = offsets === null ? [] : [...offsets.rows()].map(({ lag }) => Number(lag))
  terminal.heading('Shards, and a consumer group that has read one of them', shards.took)
  terminal.table([
    { title: 'shard', cells: shards.result.map((row) => String(row.shard_id)) },
    { title: 'first', cells: shards.result.map((row) => String(row.first_sequence)) },
    { title: 'last', cells: lasts.map(String) },
    { title: 'bytes', cells: shards.result.map((row) => String(row.bytes)) },
    { title: 'lag of the group', cells: lags.map(String), paint: terminal.cyan },
  ])
  const total = lasts.reduce((sum, last) => sum + last, 0)
  const expected = lasts.map((last, shard) => (shard === fullest ? 0 : last))
  check(
    total === frame.length && expected.join() === lags.join(),
    `the shards hold ${frame.length} records together, and the group is behind in ${shardCount - 1} of them`,
  )
}
