// A process that is killed while it changes items: it says which writes are acknowledged, and is never asked to stop.
// Arguments: the data folder, and for each stream the last write that is known to have happened.
import { openEngine } from '../../dist/engine/index.js'
import { lastWrite, request, writeNumber } from './items.mjs'
import { say } from './say.mjs'

const [dataDir, ...first] = process.argv.slice(2)

const engine = await openEngine({
  dataDir,
  memoryByteLength: 256 * 2 ** 20,
  workerCount: 2,
  history: false,
  report: (message, error) => say(`report ${message} ${error instanceof Error ? error.stack : ''}`),
})

async function writeStream(stream, start) {
  for (let n = start; ; n++) {
    const { write, frame } = writeNumber(stream, n)
    await engine.write(write, frame)
    say(`ack ${stream} ${n}`)
  }
}

async function compactForEver() {
  for (let n = 0; ; n++) {
    await new Promise((resolve) => setTimeout(resolve, 100))
    await engine.execute({ ...request, command: n % 4 === 3 ? 'compact' : 'flush' })
    say('merged')
  }
}

const next = []
for (let stream = 0; stream < first.length; stream++) {
  const last = await lastWrite(engine, stream, Number(first[stream]))
  say(`found ${stream} ${last}`)
  next.push(last + 1)
}
say('open')
await Promise.race([...next.map((start, stream) => writeStream(stream, start)), compactForEver()])
