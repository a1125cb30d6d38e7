// Bodies of HTTP requests: read within bounds of size and time, or thrown away to the end.
import type { IncomingMessage } from 'node:http'
import { FramesError } from '../engine/index.js'
import type { Receipt, ReceiveBudget } from './receive-budget.js'

/** What has come of one body and was not taken yet, counted against the budget of all. */
export class BodyReceipt {
  readonly #receipt: Receipt
  #isRefused = false

  constructor(request: IncomingMessage, budget: ReceiveBudget) {
    this.#receipt = budget.open(() => {
      this.#isRefused = true
      // Whoever reads the body is told with its next chunk; a peer that sends none is holding what it has sent.
      setTimeout(() => request.destroy(), refusalMs).unref()
    })
  }

  /** Throws MEMORY_BUDGET when this body has been refused. */
  add(byteLength: number): void {
    this.#receipt.add(byteLength)
    if (this.#isRefused) {
      throw new FramesError('MEMORY_BUDGET', 'too many bytes of all clients are waiting to be taken')
    }
  }

  take(byteLength: number): void {
    this.#receipt.take(byteLength)
  }

  close(): void {
    this.#receipt.close()
  }
}

const refusalMs = 1000

/**
 * A whole body. Throws REQUEST_TOO_LARGE above `byteLengthMax`, at once where the request announces as much; a body that takes
 * too long loses its connection.
 */
export async function readBody(
  request: IncomingMessage,
  receipt: BodyReceipt,
  byteLengthMax: number,
  withinMs: number,
): Promise<Buffer> {
  const tooLarge = () => new FramesError('REQUEST_TOO_LARGE', `a request of more than ${byteLengthMax} bytes`)
  if (Number(request.headers['content-length'] ?? 0) > byteLengthMax) throw tooLarge()
  const timer = setTimeout(() => request.destroy(), withinMs)
  const chunks: Buffer[] = []
  let byteLength = 0
  try {
    for await (const chunk of chunksOf(request)) {
      receipt.add(chunk.byteLength)
      byteLength += chunk.byteLength
      if (byteLength > byteLengthMax) throw tooLarge()
      chunks.push(chunk)
    }
  } finally {
    clearTimeout(timer)
  }
  return Buffer.concat(chunks, byteLength)
}

/**
 * The chunks of a body as they come, read only as they are asked for. Silence of `idleMs` while one is asked for ends
 * the connection. Leaving the loop early does not: the rest can still be read with `discardBody`.
 */
export async function* bodyChunks(
  request: IncomingMessage,
  receipt: BodyReceipt,
  idleMs: number,
): AsyncGenerator<Buffer, void, undefined> {
  let isWaiting = true
  const timer = setTimeout(() => (isWaiting ? request.destroy() : timer.refresh()), idleMs)
  try {
    for await (const chunk of chunksOf(request)) {
      isWaiting = false
      receipt.add(chunk.byteLength)
      yield chunk
      isWaiting = true
      timer.refresh()
    }
  } finally {
    clearTimeout(timer)
  }
}

/** An iterator that, other than the default one, leaves the connection open when the loop is left. */
function chunksOf(request: IncomingMessage): AsyncIterable<Buffer> {
  return request.iterator({ destroyOnReturn: false })
}

/**
 * Throws the rest of a body away, so that a client that sends all before it reads gets the answer and not a broken
 * connection. Resolves at the end of the body or of the connection.
 */
export async function discardBody(request: IncomingMessage, idleMs: number): Promise<void> {
  if (request.readableEnded || request.destroyed) return
  const timer = setTimeout(() => request.destroy(), idleMs)
  await new Promise<void>((resolve) => {
    request.once('end', resolve)
    request.once('close', resolve)
    request.on('data', () => timer.refresh())
    request.resume()
  })
  clearTimeout(timer)
}
