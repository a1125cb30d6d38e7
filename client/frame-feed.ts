// Frames on their way out: one is on the wire while the next is made, and a server that has answered is not fed on.
import type { FrameSource } from './client.js'

export class FrameFeed {
  readonly #ended: Promise<never>
  readonly #send: (message: Buffer) => Promise<void>
  #sending: Promise<void> = Promise.resolve()

  /** `reply` is the answer to the whole write; if it fails early, so does everything here. */
  constructor(reply: Promise<unknown>, send: (message: Buffer) => Promise<void>) {
    this.#ended = new Promise((_resolve, reject) => reply.catch(reject))
    // Nobody may be waiting when it fails; whoever sends next is told.
    this.#ended.catch(() => {})
    this.#send = send
  }

  /** Takes a message; resolves when the one before it has left. */
  async send(message: Buffer): Promise<void> {
    await Promise.race([this.#sending, this.#ended])
    this.#sending = this.#send(message)
    // It is awaited with the next message; until then its failure waits here.
    this.#sending.catch(() => {})
  }

  /** Sends all frames, in the form `form` gives them; resolves when the last has left. */
  async sendAll(frames: FrameSource, form: (frame: Uint8Array) => Buffer): Promise<void> {
    const source = asAsync(frames)[Symbol.asyncIterator]()
    try {
      for (;;) {
        const next = await Promise.race([source.next(), this.#ended])
        if (next.done === true) break
        await this.send(form(next.value))
      }
    } catch (error) {
      // A source that is still making a frame ends after it; nobody waits for that.
      source.return?.().catch(() => {})
      throw error
    }
    await Promise.race([this.#sending, this.#ended])
  }
}

async function* asAsync(frames: FrameSource): AsyncGenerator<Uint8Array, void, undefined> {
  yield* frames
}
