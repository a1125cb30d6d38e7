// Bodies of HTTP requests: read within bounds of size and time, or thrown away to the end.
import type { IncomingMessage } from 'node:http'
import { FramesError } from '../engine/index.js'

/** A whole body. Throws REQUEST_TOO_LARGE above `byteLengthMax`; a body that takes too long loses its connection. */
export async function readBody(request: IncomingMessage, byteLengthMax: number, withinMs: number): Promise<Buffer> {
  const timer = setTimeout(() => request.destroy(), withinMs)
  const chunks: Buffer[] = []
  let byteLength = 0
  try {
    for await (const chunk of chunksOf(request)) {
      byteLength += chunk.byteLength
      if (byteLength > byteLengthMax) {
        throw new FramesError('REQUEST_TOO_LARGE', `a request of more than ${byteLengthMax} bytes`)
      }
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
export async function* bodyChunks(request: IncomingMessage, idleMs: number): AsyncGenerator<Buffer, void, undefined> {
  let isWaiting = true
  const timer = setTimeout(() => (isWaiting ? request.destroy() : timer.refresh()), idleMs)
  try {
    for await (const chunk of chunksOf(request)) {
      isWaiting = false
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
