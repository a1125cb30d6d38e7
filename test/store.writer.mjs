// A process that is killed: commits numbered batches, several at a time, and prints the number of each that is durable.
// Arguments: folder, first number, "compact" to rewrite the file all the while.
import { writeSync } from 'node:fs'
import { openLmdbStore } from '../dist/engine/stores/lmdb.js'
import { numberedBatch } from './store.batches.mjs'

const [folder, first, mode] = process.argv.slice(2)
const store = await openLmdbStore({ path: folder })
writeSync(1, 'open\n')

let next = Number(first)
async function commitForEver() {
  for (;;) {
    const n = next++
    await store.commit(numberedBatch(n))
    writeSync(1, `${n}\n`)
  }
}
for (let i = 0; i < 8; i++) void commitForEver()
if (mode === 'compact') {
  for (;;) {
    await store.compactFile()
    writeSync(1, 'compacted\n')
  }
}
