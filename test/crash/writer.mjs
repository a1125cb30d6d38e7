// A process that is killed: it writes frames without end, says which ones are acknowledged, and is never asked to stop.
// Arguments: the data folder, "ingest", "ballast", "tables", "deletes" or "ballast-deletes", and a frame of each stream: from there on it says what it
// finds; for deletes the frame that is written next, and the one that is deleted next.
import { Frame, openEngine, sliceColumn } from '../../dist/engine/index.js'
import { backend, firstTimeNs, frameNumber, wholeFrames } from './frames.mjs'
import { say } from './say.mjs'

const [dataDir, mode, ...first] = process.argv.slice(2)

const engine = await openEngine({
  dataDir,
  memoryByteLength: 256 * 2 ** 20,
  workerCount: 2,
  history: false,
  report: (message, error) => say(`report ${message} ${error instanceof Error ? error.stack : ''}`),
})

/** One frame after the other, each in a write of its own or several in one. */
async function writeStream(stream, start) {
  for (let n = start; ; ) {
    const count = n % 5 === 0 ? 1 + (n % 40) : 1
    const frames = Array.from({ length: count }, (_, i) => frameNumber(stream, n + i))
    await engine.write({ backend, table: 'ingest' }, frames)
    for (let i = 0; i < count; i++) say(`ack ${stream} ${n + i}`)
    n += count
  }
}

async function compactForEver() {
  for (let n = 0; ; n++) {
    await engine.execute({ backend, table: 'ingest', command: n % 4 === 3 ? 'compact' : 'flush' })
    say('merged')
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}

/** Rows of no stream, so many that a hundred frames come while the table is compacted. */
async function writeBallast(table = 'ingest') {
  const rowCount = 100_000
  for (let n = 0; n < 16; n++) {
    const times = BigInt64Array.from({ length: rowCount }, (_, row) => BigInt(n * rowCount + row) * 1_000_000n)
    const frame = new Frame({
      columns: [
        sliceColumn(
          'value',
          Float64Array.from(times, (timeNs) => Math.sin(Number(timeNs))),
        ),
      ],
      indices: [sliceColumn('time', times, 'time')],
      labels: { stream: 'ballast' },
    })
    await engine.write({ backend, table }, frame)
  }
}

/** Commits of one row each: a metric of its own makes each write a commit of its own. */
async function writeNoise(number) {
  for (let n = 0; ; n++) {
    const frame = new Frame({
      columns: [sliceColumn(`noise${number}`, Float64Array.of(n))],
      indices: [sliceColumn('time', BigInt64Array.of(BigInt(n % 1000) * 1_000_000_000n), 'time')],
      labels: { stream: 'noise' },
    })
    await engine.write({ backend, table: 'ingest' }, frame)
  }
}

async function compactWithoutPause() {
  for (;;) {
    await engine.execute({ backend, table: 'ingest', command: 'compact' })
    say('merged')
  }
}

async function flushWithoutPause(table = 'ingest') {
  for (;;) {
    await engine.execute({ backend, table, command: 'flush' })
    say('flushed')
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

/** Tables come and go; what is said last of each is what must be true, or about to be. */
async function makeTables(worker) {
  for (let n = Number(first[0]); ; n++) {
    const table = `t${worker}-${n % 7}`
    say(`creating ${table} ${n}`)
    await engine.create({ backend, table, rate: '1/s', ifExists: 'ignore' })
    await engine.write({ backend, table }, frameNumber(worker, n))
    say(`created ${table} ${n}`)
    if (n % 3 === 0) continue
    say(`deleting ${table} ${n}`)
    await engine.delete({ backend, table })
    say(`deleted ${table} ${n}`)
  }
}

/** Frames are written at one end and deleted at the other, together with others of the stream's blocks. */
async function deleteBehind(writtenNext, deletedNext) {
  const table = { backend, table: 'deletes' }
  let written = writtenNext
  const write = async () => {
    for (; ; written++) {
      await engine.write(table, frameNumber(0, written))
      say(`ack ${written}`)
    }
  }
  const remove = async () => {
    for (let n = deletedNext; ; n++) {
      while (n + 2 > written) await new Promise((resolve) => setTimeout(resolve, 1))
      say(`deleting ${n}`)
      const [start, end] = [firstTimeNs(n), firstTimeNs(n + 1) - 1n].map((timeNs) => String(timeNs / 1_000_000n))
      await engine.delete({ ...table, start, end, filter: "stream == 's0'" })
      say(`deleted ${n}`)
    }
  }
  const compact = async () => {
    for (;;) {
      await engine.execute({ ...table, command: 'compact' })
      say('merged')
      if (mode === 'deletes') await new Promise((resolve) => setTimeout(resolve, 100))
    }
  }
  await Promise.race([write(), remove(), compact(), flushWithoutPause('deletes')])
}

if (mode === 'deletes' || mode === 'ballast-deletes') {
  await engine.create({ backend, table: 'deletes', rate: '1/s', ifExists: 'ignore' })
  // Behind a frame of the stream: merges write blocks of both, and deletes take effect between their steps.
  if (mode === 'ballast-deletes' && first[0] === '0') {
    await engine.write({ backend, table: 'deletes' }, frameNumber(0, 0))
    await writeBallast('deletes')
    first[0] = '1'
  }
  say('open')
  await deleteBehind(Number(first[0]), Number(first[1]))
} else if (mode === 'ingest' || mode === 'ballast') {
  await engine.create({ backend, table: 'ingest', rate: '1/s', ifExists: 'ignore' })
  const next = []
  for (let stream = 0; stream < first.length; stream++) {
    const from = Number(first[stream])
    const found = await wholeFrames(engine, 'ingest', stream, from)
    for (const n of found) say(`found ${stream} ${n}`)
    next.push(Math.max(from - 1, ...found) + 1)
  }
  // Once, before anything else is written: the processes that follow find it.
  if (mode === 'ballast' && next.every((n) => n === 0)) await writeBallast()
  say('open')
  const beside =
    mode === 'ingest'
      ? [compactForEver()]
      : [compactWithoutPause(), flushWithoutPause(), ...Array.from({ length: 12 }, (_, number) => writeNoise(number))]
  await Promise.race([...next.map((start, stream) => writeStream(stream, start)), ...beside])
} else {
  say('open')
  await Promise.race([makeTables(0), makeTables(1)])
}
