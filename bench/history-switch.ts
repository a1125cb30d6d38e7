// How many entries each call of this process leaves in the history, which is told from outside: none, its own, or that many.
// In one process, because two of them differ by more than the history costs (what V8 compiles, and when).
import { createInterface } from 'node:readline'
import { CallRecord, History } from '../engine/history/history.js'
import type { Caller, RecordedRequest } from '../engine/requests.js'

let entryCount = 1
let history: History | null = null
const { begin } = History.prototype

function beginSwitched(
  this: History,
  recorded: RecordedRequest,
  backendName: string,
  caller: Caller | undefined,
): CallRecord {
  history = this
  // As of an engine that keeps no history.
  if (entryCount === 0) return new CallRecord(recorded, '', undefined, 0, null)
  const own = begin.call(this, recorded, backendName, caller)
  if (entryCount === 1) return own
  const records = [own]
  while (records.length < entryCount) records.push(begin.call(this, recorded, backendName, caller))
  return new CallRecord(recorded, backendName, caller, own.startMs, (ended) => endAll(records, ended))
}

function endAll(records: readonly CallRecord[], { rowCount, byteLength, error }: CallRecord): void {
  for (const record of records) {
    record.rowCount = rowCount
    record.byteLength = byteLength
    record.end(error)
  }
}
History.prototype.begin = beginSwitched

/**
 * Resolves when what calls left while it was another count is stored. What they leave now is stored as it always is, some of it in
 * the next turn, as some of the turn before was in this.
 */
export async function setEntryCount(count: number): Promise<void> {
  if (count === entryCount) return
  await history?.flush()
  entryCount = count
}

/** Loaded before the server: it is told by lines. */
if (process.argv[1]?.endsWith('main.js') === true) {
  const lines = createInterface({ input: process.stdin })
  lines.on('line', (line) => void setEntryCount(Number(line)).then(() => process.stdout.write('entries set\n')))
  process.stdin.unref()
}
