// A process with an engine of its own that runs the mix as told: a line with how many entries each call leaves in the history and
// how often the mix is run in, a line with the milliseconds out.
import { createInterface } from 'node:readline'
import { openEngine } from '../engine/index.js'
import { Mix } from './history-mix.js'
import { setEntryCount } from './history-switch.js'

const [dataDir, isSmall] = process.argv.slice(2)
if (dataDir === undefined) throw new Error('the data folder is the first argument')
const engine = await openEngine({ dataDir })
const mix = new Mix(isSmall === 'small')
await mix.prepare(engine)
process.stdout.write('ready\n')
for await (const line of createInterface({ input: process.stdin })) {
  const [entryCount, mixCount] = line.split(' ').map(Number) as [number, number]
  await setEntryCount(entryCount)
  const startMs = performance.now()
  await mix.run(engine, mixCount)
  process.stdout.write(`${performance.now() - startMs}\n`)
}
await engine.close()
