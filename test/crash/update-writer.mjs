// A process that is killed while many callers update single items: it says which updates are acknowledged.
// Arguments: the data folder, and the number of callers.
import { openEngine } from '../../dist/engine/index.js'
import { say } from './say.mjs'
import { counted, counts, request, shared } from './updates.mjs'

const [dataDir, callerCount] = process.argv.slice(2)

const engine = await openEngine({
  dataDir,
  memoryByteLength: 256 * 2 ** 20,
  workerCount: 2,
  history: false,
  report: (message, error) => say(`report ${message} ${error instanceof Error ? error.stack : ''}`),
})

/** Its own item and the one of all, in turns. */
async function call(caller) {
  for (let i = 0; ; i++) {
    const key = i % 2 === 0 ? counted(caller) : shared
    const args = { key, expression: 'n = n + 1' }
    say(`call ${key}`)
    await engine.execute({ ...request, command: 'update', args })
    say(`ack ${key}`)
  }
}

for (const [key, n] of await counts(engine)) say(`found ${key} ${n}`)
say('open')
await Promise.race(Array.from({ length: Number(callerCount) }, (_, caller) => call(caller)))
