// A process of its own that walks through a data file: a damaged page can end the process that reads it, and then it is
// this one. Arguments: the file, and "values" when these are to be read, too.
import { LmdbFile, toStoreError } from './lmdb-file.js'

const [path, what] = process.argv.slice(2)
try {
  const { database } = new LmdbFile(path, { readOnly: true })
  let previous: Uint8Array = new Uint8Array()
  for (const key of what === 'values' ? keysAfterValues(database) : database.getKeys({})) {
    if (Buffer.compare(previous, key) >= 0) throw new Error('keys are out of order')
    previous = key
  }
} catch (error) {
  console.error(toStoreError(error, path).message)
  process.exit(1)
}

function* keysAfterValues(database: LmdbFile['database']): Generator<Uint8Array> {
  for (const { key } of database.getRange({})) yield key
}
