// Writes to all kinds of tables until its time is over, and notes in a file what it is about to do and what was
// acknowledged: one line of JSON each. run.mjs starts it with record.c preloaded.
import { openSync, writeSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { Frame, openEngine, sliceColumn } from '../../dist/engine/index.js'

const [dataDir, notesPath, durationMs] = process.argv.slice(2)
const notes = openSync(notesPath, 'a')
const note = (what) => writeSync(notes, `${JSON.stringify(what)}\n`)
const endMs = Date.now() + Number(durationMs)
const engine = await openEngine({ dataDir })

const series = { backend: 'tsdb', table: 'series' }
const pruned = { backend: 'tsdb', table: 'pruned' }
const counters = { backend: 'kv', table: 'counters' }
const replaced = { backend: 'kv', table: 'replaced' }
const records = { backend: 'stream', table: 'records' }

const numbers = (from, count) => Float64Array.from({ length: count }, (_, i) => from + i)
const times = (from, count) => BigInt64Array.from({ length: count }, (_, i) => BigInt(from + i) * 1_000_000n)
const repeated = (text, count) => sliceColumn('host', Array(count).fill(text), 'string')

async function untilTheEnd(step) {
  for (let round = 0; Date.now() < endMs; round++) await step(round)
}

/** Rows 0, 1, 2 … of one host, mostly few at a time. */
async function appendRows(host) {
  let next = 0
  await untilTheEnd(async (round) => {
    const count = round % 40 === 39 ? 3000 : 20
    const indices = [sliceColumn('time', times(next, count), 'time'), repeated(host, count)]
    await engine.write(series, new Frame({ columns: [sliceColumn('value', numbers(next, count))], indices }))
    next += count
    note({ rows: host, acknowledged: next })
  })
}

async function count(key) {
  let value = 0
  await untilTheEnd(async () => {
    note({ counter: key, begun: ++value })
    await engine.execute({ ...counters, command: 'update', args: { key, expression: 'value = value + 1' } })
    note({ counter: key, acknowledged: value })
  })
}

async function appendRecords(writer) {
  let written = 0
  await untilTheEnd(async (round) => {
    const columns = [sliceColumn('value', numbers(written, round % 30 === 29 ? 2000 : 5))]
    await engine.write(records, new Frame({ columns }))
    written += columns[0].length
    note({ records: writer, acknowledged: written })
  })
}

async function replaceTable() {
  await untilTheEnd(async (round) => {
    const version = round + 1
    note({ version, begun: true })
    const columns = [sliceColumn('version', new BigInt64Array(500).fill(BigInt(version)))]
    const indices = [sliceColumn('id', numbers(0, 500))]
    await engine.write({ ...replaced, saveMode: 'overwriteTable' }, new Frame({ columns, indices }))
    note({ version })
    await sleep(50)
  })
}

/** Rows come at the end of a table and are deleted from its beginning, and now and then it is compacted. */
async function pruneRows() {
  const count = 200
  await untilTheEnd(async (round) => {
    const from = round * count
    const indices = [sliceColumn('time', times(from, count), 'time')]
    await engine.write(pruned, new Frame({ columns: [sliceColumn('value', numbers(from, count))], indices }))
    note({ pruned: true, acknowledged: from + count })
    await engine.delete({ ...pruned, start: '0', end: String(from + count / 2 - 1) })
    note({ pruned: true, deletedBelow: from + count / 2 })
    if (round % 5 === 4) await engine.execute({ ...pruned, command: 'compact' })
    await sleep(20)
  })
}

const keys = Array.from({ length: 8 }, (_, i) => `key-${i}`)
await engine.create({ ...series, rate: '1/s' })
await engine.create({ ...pruned, rate: '1/s' })
await engine.create({ ...records, shards: 2 })
await engine.write(
  { ...counters, saveMode: 'overwriteTable' },
  new Frame({
    columns: [sliceColumn('value', new BigInt64Array(keys.length))],
    indices: [sliceColumn('id', keys, 'string')],
  }),
)
await engine.write(
  { ...replaced, saveMode: 'overwriteTable' },
  new Frame({
    columns: [sliceColumn('version', new BigInt64Array(500))],
    indices: [sliceColumn('id', numbers(0, 500))],
  }),
)
note({ tables: true })
await Promise.all([
  ...['a', 'b', 'c', 'd'].map(appendRows),
  ...keys.map(count),
  ...['a', 'b'].map(appendRecords),
  replaceTable(),
  pruneRows(),
])
await engine.close()
