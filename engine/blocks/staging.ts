// Blocks too large for one commit are sent ahead of it, under a mark by which they are found after a crash.
import { MiB } from '../limits.js'
import type { Entry } from '../stores/store.js'
import { blockEntries, eraseKeys, stageMark } from './entries.js'
import type { Eraser } from './eraser.js'
import { stageKey } from './keys.js'
import type { PreparedBlock } from './merge-rule.js'
import type { TableContext } from './table-context.js'

/** A commit that carries more than this sends segments ahead, so that other writers are not held up. */
export const commitByteLengthMax = 4 * MiB

export class Staging {
  readonly #context: TableContext
  readonly #eraser: Eraser

  constructor(context: TableContext, eraser: Eraser) {
    this.#context = context
    this.#eraser = eraser
  }

  /** Sends a block ahead, marked under `stage`, in batches of their own. */
  async stageBlock(block: PreparedBlock, id: bigint): Promise<void> {
    const { store, bytes, partition } = this.#context
    const marker = stageMark(id, block.segmentByteLengths.length)
    const sent = [store.commit({ partition, puts: [marker] })]
    // Nothing is written without the mark by which it is found after a crash.
    const send = (puts: readonly Entry[]): void => void sent.push(store.commit({ partition, expect: [marker], puts }))
    let batch: Entry[] = []
    let byteLength = 0
    for (const entry of blockEntries(bytes, block, id, false)) {
      if (byteLength > 0 && byteLength + entry.value.length > commitByteLengthMax) {
        send(batch)
        batch = []
        byteLength = 0
      }
      batch.push(entry)
      byteLength += entry.value.length
    }
    send(batch)
    // All of them, because the bytes must stay in place for the last one; the first failure is the one that counts.
    const results = await Promise.allSettled(sent)
    for (const result of results) if (result.status === 'rejected') throw result.reason
  }

  /** Erases what was sent ahead for a commit that will not come. */
  discard(blocks: readonly Pick<PreparedBlock, 'segmentByteLengths'>[], ids: readonly bigint[]): void {
    this.#eraser.eraseSoon(
      blocks.flatMap((block, i) => [...eraseKeys(ids[i]!, false, block.segmentByteLengths.length), stageKey(ids[i]!)]),
    )
  }
}
