// A process that is killed: it writes records without end and says what is acknowledged. Arguments: the data folder, and
// how many writers there are.
import { openEngine } from '../../dist/engine/index.js'
import { frameNumber, group, isText, jsonNumber, shardCount, stream, wholeFrames } from './records.mjs'
import { say } from './say.mjs'

const [dataDir, writerCount] = process.argv.slice(2)

const engine = await openEngine({
  dataDir,
  memoryByteLength: 256 * 2 ** 20,
  workerCount: 2,
  history: false,
  report: (message, error) => say(`report ${message} ${error instanceof Error ? error.stack : ''}`),
})

async function write(writer, start) {
  for (let n = start; ; n++) {
    if (isText(n)) {
      const args = { data: jsonNumber(writer, n), partition_key: `writer ${writer}` }
      const answer = await engine.execute({ ...stream, command: 'put_many', args })
      const [shard, sequence] = ['shard_id', 'seq_number'].map((name) => answer.column(name).at(answer.length - 1))
      await engine.execute({ ...stream, command: 'commit', args: { group, shard_id: shard, sequence } })
      say(`committed ${shard} ${sequence}`)
    } else await engine.write(stream, frameNumber(writer, n))
    say(`ack ${writer} ${n}`)
  }
}

async function compactForEver() {
  for (;;) {
    await engine.execute({ ...stream, command: 'compact' })
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}

await engine.create({ ...stream, shards: BigInt(shardCount), ifExists: 'ignore' })
const next = await wholeFrames(engine, Number(writerCount))
say(`found ${next.join(' ')}`)
await Promise.race([...next.map((start, writer) => write(writer, start)), compactForEver()])
