// Frames on their way out: one is on the wire while the next is made, and a server that has answered is not fed on.
import type { FrameSource } from './client.js'

export class FrameFeed {
  readonly #send: (message: Buffer) => Promise<void>
  #sending: Promise<void> = Promise.resolve()
  #failure: { readonly error: unknown } | null = null
  /** Who waits here, one at a time. */
  #reject: ((error: unknown) => void) | null = null

  /** `reply` is the answer to the whole write; if it fails early, so does everything here. */
  constructor(reply: Promise<unknown>, send: (message: Buffer) => Promise<void>) {
    this.#send = send
    reply.catch((error: unknown) => {
      this.#failure = { error }
      this.#reject?.(error)
    })
  }

  /** Takes a message; resolves when the one before it has left. */
  async send(message: Buffer): Promise<void> {
    await this.#unlessFailed(this.#sending)
    this.#sending = this.#send(message)
    // It is awaited with the next message; until then its failure waits here.
    this.#sending.catch(() => {})
  }

  /** Sends all frames, in the form `form` gives them; resolves when the last has left. */
  async sendAll(frames: FrameSource, form: (frame: Uint8Array) => Buffer): Promise<void> {
    const source = asAsync(frames)[Symbol.asyncIterator]()
    try {
      for (;;) {
        const next = await this.#unlessFailed(source.next())
        if (next.done === true) break
        await this.send(form(next.value))
      }
    } catch (error) {
      // A source that is still making a frame ends after it; nobody waits for that.
      source.return?.().catch(() => {})
      throw error
    }
    await this.#unlessFailed(this.#sending)
  }

  /** Not a race of promises: each would stay with the reply until the end, and a write may have millions of frames. */
  #unlessFailed<T>(promise: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      if (this.#failure !== null) reject(this.#failure.error)
      this.#reject = reject
      promise.then(resolve, reject)
    })
  }
}

async function* asAsync(frames: FrameSource): AsyncGenerator<Uint8Array, void, undefined> {
  yield* frames
}
