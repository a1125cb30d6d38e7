// A process that is killed: commits numbered batches, several at a time, and prints the number of each that is durable.
// Arguments: folder, first number, "compact" to rewrite the file all the while, beside deletes.
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
/** Each commit puts the next key and deletes the one three before. */
async function moveWindowForEver() {
  const [newest] = await store.scan('window', { reverse: true, limit: 1 })
  for (let n = newest ? Number(Buffer.from(newest.key).toString()) + 1 : 0; ; n++) {
    const key = (number) => Buffer.from(String(number).padStart(9, '0'))
    const puts = [{ key: key(n), value: Buffer.alloc(n % 5000) }]
    await store.commit({ partition: 'window', puts, deletes: n < 3 ? [] : [key(n - 3)] })
    writeSync(1, `window ${n}\n`)
  }
}
if (mode === 'compact') {
  void moveWindowForEver()
  for (;;) {
    await store.compactFile()
    writeSync(1, 'compacted\n')
  }
}
