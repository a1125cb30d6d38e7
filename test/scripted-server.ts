// A server of HTTP/2 that does what a test says, byte by byte.
import { once } from 'node:events'
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import { encodeHeaders } from '../dist/proto/http2/hpack.js'

export const frameType = {
  data: 0,
  headers: 1,
  priority: 2,
  resetStream: 3,
  settings: 4,
  ping: 6,
  goAway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const
const prefaceByteLength = 24
export const endStream = 1
export const endHeaders = 4
export const acknowledged = 1

export interface PeerFrame {
  readonly type: number
  readonly flags: number
  readonly streamId: number
  readonly payload: Buffer
}

export function frameBytes(
  type: number,
  flags: number,
  streamId: number,
  payload: Uint8Array = Buffer.alloc(0),
): Buffer {
  const bytes = Buffer.alloc(9 + payload.byteLength)
  bytes.writeUIntBE(payload.byteLength, 0, 3)
  bytes[3] = type
  bytes[4] = flags
  bytes.writeUInt32BE(streamId, 5)
  bytes.set(payload, 9)
  return bytes
}

export function uint32Bytes(...values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(4 * values.length)
  for (const [i, value] of values.entries()) bytes.writeUInt32BE(value, 4 * i)
  return bytes
}

export function settingsBytes(settings: Readonly<Record<number, number>>): Buffer {
  const entries = Object.entries(settings)
  const payload = Buffer.alloc(6 * entries.length)
  entries.forEach(([id, value], i) => {
    payload.writeUInt16BE(Number(id), 6 * i)
    payload.writeUInt32BE(value, 6 * i + 2)
  })
  return frameBytes(frameType.settings, 0, 0, payload)
}

export function headersBytes(
  streamId: number,
  fields: readonly (readonly [string, string])[],
  flags: number = endHeaders,
): Buffer {
  return frameBytes(frameType.headers, flags, streamId, encodeHeaders(fields))
}

export const responseFields = [
  [':status', '200'],
  ['content-type', 'application/grpc'],
] as const

/** An answer of gRPC with all frames it takes. */
export function answerBytes(streamId: number, chunks: readonly Uint8Array[], status = '0'): Buffer {
  return Buffer.concat([
    headersBytes(streamId, responseFields),
    ...chunks.map((chunk) => frameBytes(frameType.data, 0, streamId, chunk)),
    headersBytes(streamId, [['grpc-status', status]], endHeaders | endStream),
  ])
}

/** One connection of a client. */
export class PeerSession {
  readonly socket: Socket
  readonly #bytes: Buffer[] = []
  #skippedByteLength = 0
  readonly #onFrame: (frame: PeerFrame, session: PeerSession) => void

  constructor(socket: Socket, onFrame: (frame: PeerFrame, session: PeerSession) => void) {
    this.socket = socket
    this.#onFrame = onFrame
    socket.on('data', (chunk: Buffer) => this.#read(chunk))
    socket.on('error', () => {})
  }

  write(...frames: readonly Uint8Array[]): void {
    this.socket.write(Buffer.concat(frames))
  }

  #read(chunk: Buffer): void {
    this.#bytes.push(chunk)
    let bytes = Buffer.concat(this.#bytes)
    const skipped = Math.min(bytes.byteLength, prefaceByteLength - this.#skippedByteLength)
    this.#skippedByteLength += skipped
    bytes = bytes.subarray(skipped)
    while (bytes.byteLength >= 9 && bytes.byteLength >= 9 + bytes.readUIntBE(0, 3)) {
      const byteLength = bytes.readUIntBE(0, 3)
      const [type, flags, streamId] = [bytes[3], bytes[4], bytes.readUInt32BE(5)]
      const payload = bytes.subarray(9, 9 + byteLength)
      bytes = bytes.subarray(9 + byteLength)
      this.#onFrame({ type, flags, streamId, payload }, this)
    }
    this.#bytes.length = 0
    this.#bytes.push(bytes)
  }
}

export interface PeerScript {
  /** Sent first; without it, settings that say nothing. null: nothing is sent. */
  readonly first?: Buffer | null
  /** Settings of the client are acknowledged before this is called. */
  readonly frame?: (frame: PeerFrame, session: PeerSession) => void
  /** A request has come whole. */
  readonly request?: (streamId: number, session: PeerSession) => void
}

export class Http2Peer {
  readonly #server: Server
  readonly sessions: PeerSession[] = []
  script: PeerScript = {}

  constructor() {
    this.#server = createServer((socket) => {
      const session = new PeerSession(socket, (frame) => this.#take(frame, session))
      this.sessions.push(session)
      const { first = settingsBytes({}) } = this.script
      if (first !== null) socket.write(first)
    })
  }

  async listen(): Promise<string> {
    this.#server.listen(0, '127.0.0.1')
    await once(this.#server, 'listening')
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  async close(): Promise<void> {
    for (const { socket } of this.sessions) socket.destroy()
    this.#server.close()
    await once(this.#server, 'close')
  }

  #take(frame: PeerFrame, session: PeerSession): void {
    const { type, flags, streamId } = frame
    const isSettings = type === frameType.settings && (flags & acknowledged) === 0
    if (isSettings && this.script.first !== null) session.write(frameBytes(frameType.settings, acknowledged, 0))
    this.script.frame?.(frame, session)
    const hasEnd = type === frameType.data || type === frameType.headers
    if (hasEnd && (flags & endStream) !== 0) this.script.request?.(streamId, session)
  }
}
