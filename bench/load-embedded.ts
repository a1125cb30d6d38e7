// Loads the workload into the engine of this process.
import type { Engine, Frame } from '../engine/index.js'
import { elapsedMs } from './clock.js'

export const backend = 'tsdb'
/** One sample in ten seconds. */
export const rate = '6/m'
/** Writes at work at the same time: enough to keep both cores and the disk busy, no more than a few clients would have. */
export const writeCount = 4

/** From the first typed array to the last durable frame, in ms. The table must exist and be empty. */
export async function loadEmbedded(engine: Engine, table: string, frames: readonly Frame[]): Promise<number> {
  let next = 0
  let rowCount = 0
  const loadMs = await elapsedMs(() =>
    Promise.all(
      Array.from({ length: writeCount }, async () => {
        const session = await engine.openWrite({ backend, table })
        while (next < frames.length) await session.add(frames[next++])
        const stored = await session.finish()
        rowCount += stored.rowCount
      }),
    ),
  )
  const wanted = frames.reduce((sum, frame) => sum + frame.length, 0)
  if (rowCount !== wanted) throw new Error(`the engine counted ${rowCount} rows instead of ${wanted}`)
  return loadMs
}
