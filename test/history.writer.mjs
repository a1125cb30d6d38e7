// A process that makes requests until it is killed, and says after each when it ended.
import { openEngine } from '../dist/engine/index.js'

const engine = await openEngine({ dataDir: process.argv[2], workerCount: 1 })
for (let i = 0; ; i++) {
  await engine.executeEncoded({ backend: 'csv', table: `t${i}`, command: 'ping', args: { rows: 1n } })
  process.stdout.write(`${i} ${Date.now()}\n`)
  await new Promise((resolve) => setTimeout(resolve, 2))
}
