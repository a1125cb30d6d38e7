// The messages of a read on their way to whoever asked: in the batches in which a backend has them ready, or one by one.
import type { ReadMessage } from './backends/backend.js'
import type { ReadEncodedOptions, WireBatch } from './engine-api.js'
import { ListedMessages, type WireMessages } from './frame/wire-messages.js'
import type { CallRecord } from './history/history.js'
import type { YoungMemory } from './memory/young-memory.js'
import type { StepSource } from './steps.js'

/** The messages of a read, with its entry in the history. */
export class WireBatches implements StepSource<WireBatch> {
  readonly #open: () => StepSource<ReadMessage>
  readonly #record: CallRecord
  readonly #options: ReadEncodedOptions
  readonly #young: YoungMemory
  #messages: StepSource<ReadMessage> | null = null

  /** open: called when the first are asked for. */
  constructor(
    open: () => StepSource<ReadMessage>,
    record: CallRecord,
    options: ReadEncodedOptions,
    young: YoungMemory,
  ) {
    this.#open = open
    this.#record = record
    this.#options = options
    this.#young = young
  }

  async next(): Promise<WireBatch | null> {
    try {
      this.#messages ??= this.#open()
      for (;;) {
        const message = await this.#messages.next()
        if (message === null) break
        const { rowCount, bytes, batch, isLast = false } = message
        if (batch === undefined && bytes === null) continue
        const messages = batch ?? new ListedMessages([bytes!])
        const { byteLength } = messages
        this.#record.count(rowCount, byteLength)
        // What may be borrowed mostly is.
        if (this.#options.borrows !== true) this.#young.add(byteLength)
        return { messages, isLast }
      }
      this.#record.end()
      return null
    } catch (error) {
      this.#record.end(error)
      throw error
    }
  }

  async close(): Promise<void> {
    const { signal } = this.#options
    try {
      await this.#messages?.close()
    } finally {
      // The reader has stopped: by itself, or because its call was ended.
      this.#record.end(signal?.aborted === true ? signal.reason : undefined)
    }
  }
}

const noMessages = new ListedMessages([])

/** The messages of batches one by one. */
export class EachMessage implements StepSource<Uint8Array> {
  /** The generator and not its source: whoever watches for dropped readers knows them by it. */
  readonly #batches: AsyncGenerator<WireBatch, void, undefined>
  #batch: WireMessages = noMessages
  #index = 0

  constructor(batches: AsyncGenerator<WireBatch, void, undefined>) {
    this.#batches = batches
  }

  ready(): Uint8Array | null {
    return this.#index < this.#batch.count ? this.#batch.at(this.#index++) : null
  }

  async next(): Promise<Uint8Array | null> {
    while (this.#index >= this.#batch.count) {
      const { value, done } = await this.#batches.next()
      if (done === true) return null
      this.#batch = value.messages
      this.#index = 0
    }
    return this.#batch.at(this.#index++)
  }

  async close(): Promise<void> {
    this.#batch = noMessages
    await this.#batches.return()
  }
}
