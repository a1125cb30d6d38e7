// Sends the messages of one answer. Small ones that are ready together leave together: written one by one, each costs a
// turn of the event loop and a call of the system, and an answer of a hundred label sets is a hundred messages.
import type { WireMessages } from '../engine/index.js'
import { type MessageBuffers, messagePrefixByteLength, writePrefix } from './grpc-messages.js'

/** What leaves in one write at most; larger messages leave alone. */
const bundleByteLengthMax = 64 * 1024
const bundledByteLengthMax = bundleByteLengthMax / 4
/** Buffers kept for those to come. */
const freeBufferCountMax = 32

const freeBuffers: Buffer[] = []

/** Where messages go, behind their prefixes; see RpcStream. */
export interface MessageTarget {
  send(output: Buffer, onLeft: () => void): Promise<void> | null
}

export class FrameSender {
  readonly #target: MessageTarget
  readonly #buffers: MessageBuffers
  #bundle: Buffer | null = null
  #byteLength = 0
  /** The next of the messages at work. */
  #next = 0
  /** Of a bundle that left unasked and met no room. */
  #room: Promise<void> | null = null
  /** The bundle leaves when this turn of the event loop is over. */
  #isLeaving = false
  readonly #onTurn = (): void => {
    this.#isLeaving = false
    const room = this.flush()
    if (room === null) return
    this.#room = room.then(() => {
      this.#room = null
    })
  }

  /** buffers: where large messages are copied to. */
  constructor(target: MessageTarget, buffers: MessageBuffers) {
    this.#target = target
    this.#buffers = buffers
  }

  /**
   * Takes messages, which may change afterwards. Returns null where there is room for more, else a promise of it. isEnd: `flush`
   * follows.
   */
  sendAll(messages: WireMessages, isEnd = false): Promise<void> | null {
    this.#next = 0
    if (this.#room !== null) return this.#sendRest(messages, this.#room)
    while (this.#next < messages.count) {
      const room = this.#takeSome(messages)
      if (room !== null) return this.#sendRest(messages, room)
    }
    if (!isEnd) this.#leaveSoon()
    return null
  }

  /** What is ready now is taken before; nobody waits for a bundle to be full. */
  #leaveSoon(): void {
    if (this.#bundle === null || this.#isLeaving) return
    this.#isLeaving = true
    setImmediate(this.#onTurn)
  }

  async #sendRest(messages: WireMessages, room: Promise<void>): Promise<void> {
    let full: Promise<void> | null = room
    for (;;) {
      this.#leaveSoon()
      if (full !== null) await full
      if (this.#next >= messages.count) return
      full = this.#takeSome(messages)
    }
  }

  /** Those from `#next` on that stand together with their prefixes, as many as the bundle holds; else one. */
  #takeSome(messages: WireMessages): Promise<void> | null {
    const index = this.#next
    const end = messages.runEnd(index, bundleByteLengthMax - this.#byteLength)
    if (end <= index + 1) {
      this.#next = index + 1
      return this.#take(messages.at(index))
    }
    this.#next = end
    const run = messages.run(index, end)
    this.#bundle ??= freeBuffers.pop() ?? Buffer.allocUnsafeSlow(bundleByteLengthMax)
    copy(run, this.#bundle, this.#byteLength)
    this.#byteLength += run.byteLength
    return null
  }

  #take(message: Uint8Array): Promise<void> | null {
    const byteLength = messagePrefixByteLength + message.byteLength
    if (byteLength > bundledByteLengthMax) {
      void this.flush()
      const output = this.#buffers.take(byteLength, byteLength).subarray(0, byteLength)
      put(message, output, 0)
      return this.#target.send(output, () => this.#buffers.takeBack(output))
    }
    const room = this.#byteLength + byteLength > bundleByteLengthMax ? this.flush() : null
    this.#bundle ??= freeBuffers.pop() ?? Buffer.allocUnsafeSlow(bundleByteLengthMax)
    put(message, this.#bundle, this.#byteLength)
    this.#byteLength += byteLength
    return room
  }

  /** Sends what was taken. */
  flush(): Promise<void> | null {
    const bundle = this.#bundle
    if (bundle === null) return null
    const output = bundle.subarray(0, this.#byteLength)
    this.#bundle = null
    this.#byteLength = 0
    return this.#target.send(output, () => {
      if (freeBuffers.length < freeBufferCountMax) freeBuffers.push(bundle)
    })
  }
}

function put(message: Uint8Array, target: Buffer, at: number): void {
  writePrefix(target, at, message.byteLength)
  copy(message, target, at + messagePrefixByteLength)
}

/** Of shared memory this is one memcpy; `set` would copy word by word. It refuses to repeat nothing. */
function copy(bytes: Uint8Array, target: Buffer, at: number): void {
  if (bytes.byteLength > 0) target.fill(bytes, at, at + bytes.byteLength)
}
