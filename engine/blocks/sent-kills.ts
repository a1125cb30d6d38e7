// Kills as messages from workers carry them: updates of single items kill one row each of many blocks, and an array for every
// one of them takes both sides longer than to find the rows.
import type { Kill } from './dead-rows.js'

export interface SentKills {
  readonly blockIds: BigUint64Array
  /** Where the rows of each block end; those of the first begin at 0. */
  readonly ends: Uint32Array
  /** Of each block, ascending. */
  readonly rows: Uint32Array
}

export const noKills: SentKills = {
  blockIds: new BigUint64Array(0),
  ends: new Uint32Array(0),
  rows: new Uint32Array(0),
}

/** The rows are views of the message. */
export function receiveKills({ blockIds, ends, rows }: SentKills): Kill[] {
  const kills: Kill[] = []
  let start = 0
  blockIds.forEach((blockId, i) => {
    const end = ends[i]!
    kills.push({ blockId, rows: rows.subarray(start, end) })
    start = end
  })
  return kills
}
