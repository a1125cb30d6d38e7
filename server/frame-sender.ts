// Sends the messages of one answer. Small ones that are ready together leave together: written one by one, each costs a
// turn of the event loop and a call of the system, and an answer of a hundred label sets is a hundred messages.
import { asBundle, messagePrefixByteLength, writePrefix } from './grpc-messages.js'

/** What leaves in one write at most; larger messages leave alone. */
const bundleByteLengthMax = 64 * 1024
const bundledByteLengthMax = bundleByteLengthMax / 4
/** Buffers kept for those to come. */
const freeBufferCountMax = 32

const freeBuffers: Buffer[] = []

export class FrameSender {
  readonly #write: (message: Uint8Array) => Promise<void>
  #bundle: Buffer | null = null
  #byteLength = 0
  /** Of all that has been given to `write`; it stays rejected. */
  #sent: Promise<void> = Promise.resolve()

  /** write: resolves when HTTP/2's flow control has let a message go. Called again only then. */
  constructor(write: (message: Uint8Array) => Promise<void>) {
    this.#write = write
  }

  /** Takes a message, which may change once this has resolved. Rejects with what a write has failed with. */
  async send(message: Uint8Array): Promise<void> {
    const byteLength = messagePrefixByteLength + message.byteLength
    if (byteLength > bundledByteLengthMax) {
      await this.flush()
      await this.#write(message)
      return
    }
    if (this.#byteLength + byteLength > bundleByteLengthMax) await this.flush()
    if (this.#bundle === null) {
      this.#bundle = freeBuffers.pop() ?? Buffer.allocUnsafeSlow(bundleByteLengthMax)
      // What is ready now is taken before this is called; nobody waits for a bundle to be full.
      setImmediate(() => {
        // The next call that sends or flushes is told.
        this.flush().catch(() => {})
      })
    }
    this.#add(this.#bundle, message)
  }

  #fits(message: Uint8Array): boolean {
    const byteLength = messagePrefixByteLength + message.byteLength
    return byteLength <= bundledByteLengthMax && this.#byteLength + byteLength <= bundleByteLengthMax
  }

  #add(bundle: Buffer, message: Uint8Array): void {
    writePrefix(bundle, this.#byteLength, message.byteLength)
    const start = this.#byteLength + messagePrefixByteLength
    // Of shared memory this is one memcpy; `set` would copy word by word. It refuses to repeat nothing.
    if (message.byteLength > 0) bundle.fill(message, start, start + message.byteLength)
    this.#byteLength += messagePrefixByteLength + message.byteLength
  }

  /** As send, of one after the other. */
  async sendAll(messages: readonly Uint8Array[]): Promise<void> {
    for (const message of messages) {
      if (this.#bundle === null || !this.#fits(message)) await this.send(message)
      else this.#add(this.#bundle, message)
    }
  }

  /** Resolves when all that was taken has left. */
  flush(): Promise<void> {
    this.#sent = this.#sent.then(() => this.#writeBundle())
    return this.#sent
  }

  async #writeBundle(): Promise<void> {
    const bundle = this.#bundle
    if (bundle === null) return
    const byteLength = this.#byteLength
    this.#bundle = null
    this.#byteLength = 0
    await this.#write(asBundle(bundle.subarray(0, byteLength)))
    // After a failure it may still be on its way.
    if (freeBuffers.length < freeBufferCountMax) freeBuffers.push(bundle)
  }
}
