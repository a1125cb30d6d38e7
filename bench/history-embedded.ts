// A process with an engine of its own, with the history or without, that runs the mix as told: a line with the milliseconds of
// a turn in, a line of JSON out.
import { createInterface } from 'node:readline'
import { openEngine } from '../engine/index.js'
import { Mix } from './history-mix.js'

const [dataDir, history, isSmall] = process.argv.slice(2)
if (dataDir === undefined) throw new Error('the data folder is the first argument')
const engine = await openEngine({ dataDir, ...(history === 'off' ? { history: false } : {}) })
const mix = new Mix(isSmall === 'small')
await mix.prepare(engine)
process.stdout.write('ready\n')
for await (const line of createInterface({ input: process.stdin }))
  process.stdout.write(`${JSON.stringify(await mix.turn(engine, Number(line)))}\n`)
await engine.close()
