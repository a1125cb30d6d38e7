// Erases from the store what no reader can see any more, behind the commits.
import type { LiveBlock } from './live-block.js'
import { decodeErase, eraseKeys, scanAll } from './entries.js'
import { blockRange, goneKey, headKey, keyKinds, keyNumbers, kindRange, packedKey } from './keys.js'
import { unseal } from './sealed.js'
import type { TableContext } from './table-context.js'

/** Keys that one commit erases at most: a transaction that frees as many segments still ends within some ms. */
const eraseKeyCountMax = 256

export class Eraser {
  readonly #context: TableContext
  #waiting: Uint8Array[] = []
  #erasing: Promise<void> | null = null
  #isStopped = false

  constructor(context: TableContext) {
    this.#context = context
  }

  /** Erases blocks that were live once. */
  eraseBlocks(blocks: readonly LiveBlock[]): void {
    this.eraseSoon(
      blocks.flatMap((block) => [...eraseKeys(block.id, block.isPacked, block.segmentCount), goneKey(block.id)]),
    )
  }

  /** The mark of a block stands behind its other keys, so that it goes last. */
  eraseSoon(keys: readonly Uint8Array[]): void {
    if (keys.length === 0) return
    for (const key of keys) this.#waiting.push(key)
    this.#erasing ??= this.#eraseWaiting().finally(() => {
      this.#erasing = null
    })
  }

  async #eraseWaiting(): Promise<void> {
    const { store, report, partition, name } = this.#context
    while (this.#waiting.length > 0 && !this.#isStopped) {
      const deletes = this.#waiting.splice(0, eraseKeyCountMax)
      try {
        await store.commit({ partition: partition, puts: [], deletes, makesRoom: true })
      } catch (error) {
        // Tried again with what is erased next, or else when the table is opened: it stands under its mark.
        this.#waiting.unshift(...deletes)
        report(`erasing unused blocks of table '${name}' failed`, error)
        return
      }
    }
  }

  /** Blocks that a crash left behind: written but never live, or no longer live. */
  async eraseLeftovers(unusedKeys: readonly Uint8Array[]): Promise<void> {
    const { store, report, partition, name } = this.#context
    this.eraseSoon(unusedKeys)
    for (const kind of [keyKinds.stage, keyKinds.gone]) {
      for await (const { key, value } of scanAll(store, partition, kindRange(kind))) {
        const payload = unseal(key, value)
        const [id] = keyNumbers(key) as [bigint]
        if (payload !== null) {
          const { isPacked, segmentCount } = decodeErase(payload)
          this.eraseSoon([...eraseKeys(id, isPacked, segmentCount), key])
          continue
        }
        report(`the mark of unused block ${id} of table '${name}' is damaged: its segments are searched for`, null)
        const segments: Uint8Array[] = []
        for await (const entry of scanAll(store, partition, blockRange(id), true)) segments.push(entry.key)
        this.eraseSoon([packedKey(id), headKey(id), ...segments, key])
      }
    }
    await this.idle()
  }

  /** Resolves when all that waited is erased, or has failed and was reported. */
  async idle(): Promise<void> {
    while (this.#erasing !== null) await this.#erasing
  }

  /** The whole table is to be erased: nothing more has to be erased singly. */
  stop(): void {
    this.#isStopped = true
  }
}
