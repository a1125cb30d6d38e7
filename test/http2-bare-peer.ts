// A peer that sends HTTP/2 frames as it likes, in front of a connection of ours, over sockets in memory.
import { Duplex } from 'node:stream'
import { Http2Connection } from '../dist/proto/http2/connection.js'
import { frameType, preface } from '../dist/proto/http2/frames.js'
import { encodeHeaders, HeaderDecoder, type Headers } from '../dist/proto/http2/hpack.js'
import type { ConnectionOptions, StreamOwner } from '../dist/proto/http2/owners.js'
import type { Http2Stream } from '../dist/proto/http2/stream.js'

export const MiB = 2 ** 20

export const plainOptions: ConnectionOptions = {
  role: 'server',
  streamWindowByteLength: 65_535,
  sessionWindowByteLength: 65_535,
  dataFrameByteLengthMax: 16_384,
  streamCountMax: 100,
  headerListByteLengthMax: 16_384,
  resetBurstMax: 100,
  resetPerSecondMax: 0,
  controlBurstMax: 1000,
  controlPerSecondMax: 0,
}

/** Two sockets of one line. What is written to one is read from the other a turn later, unless that is held. */
export class Line extends Duplex {
  other: Line | null = null
  /** Bytes are taken and not passed on: as of a peer that does not read. */
  #held: { readonly chunk: Buffer; readonly done: () => void }[] | null = null

  static pair(): [Line, Line] {
    const [a, b] = [new Line(), new Line()]
    a.other = b
    b.other = a
    return [a, b]
  }

  /** Nothing that this end writes leaves, until `release`. */
  hold(): void {
    this.#held = []
  }

  release(): void {
    const held = this.#held ?? []
    this.#held = null
    for (const { chunk, done } of held) this._write(chunk, 'buffer', done)
  }

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    if (this.#held !== null) this.#held.push({ chunk, done })
    else {
      // A copy: the writer may use its memory again.
      const copy = Buffer.from(chunk)
      const { other } = this
      setImmediate(() => {
        if (other !== null && !other.destroyed) other.push(copy)
        done()
      })
    }
  }

  override _final(done: () => void): void {
    setImmediate(() => this.other?.push(null))
    done()
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    for (const { done: left } of this.#held ?? []) left()
    setImmediate(() => {
      if (this.other !== null && !this.other.destroyed) this.other.push(null)
    })
    done(error)
  }
}

export interface Frame {
  readonly type: number
  readonly flags: number
  readonly streamId: number
  readonly payload: Buffer
}

export function frameOf(type: number, flags: number, streamId: number, payload: Uint8Array = Buffer.alloc(0)): Buffer {
  const bytes = Buffer.alloc(9 + payload.byteLength)
  bytes.writeUIntBE(payload.byteLength, 0, 3)
  bytes[3] = type
  bytes[4] = flags
  bytes.writeUInt32BE(streamId, 5)
  bytes.set(payload, 9)
  return bytes
}

export function words(...values: number[]): Buffer {
  const bytes = Buffer.alloc(4 * values.length)
  for (const [i, value] of values.entries()) bytes.writeUInt32BE(value, 4 * i)
  return bytes
}

export function settingsOf(...settings: [name: number, value: number][]): Buffer {
  const bytes = Buffer.alloc(6 * settings.length)
  for (const [i, [name, value]] of settings.entries()) {
    bytes.writeUInt16BE(name, 6 * i)
    bytes.writeUInt32BE(value, 6 * i + 2)
  }
  return frameOf(frameType.settings, 0, 0, bytes)
}

export const requestBlock = encodeHeaders([
  [':method', 'POST'],
  [':scheme', 'http'],
  [':path', '/echo'],
  [':authority', 'here'],
])

/** Frames in the bytes of a connection, whole ones only. */
export function framesIn(bytes: Buffer): Frame[] {
  const frames: Frame[] = []
  for (let at = 0; at + 9 <= bytes.byteLength; ) {
    const end = at + 9 + bytes.readUIntBE(at, 3)
    if (end > bytes.byteLength) break
    const payload = bytes.subarray(at + 9, end)
    frames.push({ type: bytes[at + 3]!, flags: bytes[at + 4]!, streamId: bytes.readUInt32BE(at + 5), payload })
    at = end
  }
  return frames
}

/** What a stream's owner was told, in order. */
export class Recorder implements StreamOwner {
  readonly told: string[] = []
  readonly chunks: Buffer[] = []
  readonly lists: Headers[] = []
  onEnd: () => void = () => {}
  onData: (chunk: Buffer) => void = () => {}
  code: number | null = null
  error: Error | null = null

  headers(headers: Headers, hasEnded: boolean): void {
    this.lists.push(headers)
    this.told.push(hasEnded ? 'headers, the last' : 'headers')
  }
  data(chunk: Buffer): void {
    this.chunks.push(chunk)
    if (this.told.at(-1) !== 'data') this.told.push('data')
    this.onData(chunk)
  }
  end(): void {
    this.told.push('end')
    this.onEnd()
  }
  closed(code: number, error: Error | null): void {
    this.told.push('closed')
    this.code = code
    this.error = error
  }
  get bytes(): Buffer {
    return Buffer.concat(this.chunks)
  }
}

export interface TakenStream {
  readonly stream: Http2Stream
  readonly headers: Headers
  readonly owner: Recorder
}

/** A connection of ours and the bare peer in front of it. */
export class BarePeer {
  readonly connection: Http2Connection
  readonly line: Line
  /** Our connection's own end of the line. */
  readonly ours: Line
  readonly streams: TakenStream[] = []
  readonly leavingCodes: number[] = []
  closedWith: Error | null | undefined
  #received = Buffer.alloc(0)
  hasEnded = false
  onStream: (taken: TakenStream) => void = () => {}

  constructor(options: Partial<ConnectionOptions> = {}) {
    ;[this.line, this.ours] = Line.pair()
    this.line.on('data', (chunk: Buffer) => {
      this.#received = Buffer.concat([this.#received, chunk])
    })
    this.line.on('end', () => {
      this.hasEnded = true
    })
    this.line.on('error', () => {})
    this.connection = new Http2Connection(
      this.ours,
      { ...plainOptions, ...options },
      {
        stream: (stream, headers) => {
          const taken = { stream, headers, owner: new Recorder() }
          stream.owner = taken.owner
          this.streams.push(taken)
          this.onStream(taken)
        },
        leaving: (code) => this.leavingCodes.push(code),
        closed: (error) => {
          this.closedWith = error
        },
      },
    )
  }

  send(...frames: Uint8Array[]): void {
    this.line.write(Buffer.concat(frames))
  }

  /** As a client begins. */
  greet(...settings: [number, number][]): void {
    this.send(preface, settingsOf(...settings))
  }

  /** A request without a body. */
  request(streamId: number, hasEnded = true): void {
    this.send(frameOf(frameType.headers, hasEnded ? 5 : 4, streamId, requestBlock))
  }

  /** All bytes up to now. */
  get received(): Buffer {
    return this.#received
  }

  get frames(): Frame[] {
    const { received } = this
    return framesIn(received.subarray(0, 3).toString() === 'PRI' ? received.subarray(preface.byteLength) : received)
  }

  /** Frames of one type. */
  of(type: number, streamId?: number): Frame[] {
    return this.frames.filter((frame) => frame.type === type && (streamId === undefined || frame.streamId === streamId))
  }

  /** The DATA of a stream. */
  data(streamId: number): Buffer {
    return Buffer.concat(this.of(frameType.data, streamId).map(({ payload }) => payload))
  }

  /** The codes of GOAWAYs. */
  get goAways(): number[] {
    return this.of(frameType.goAway).map(({ payload }) => payload.readUInt32BE(4))
  }

  resets(streamId: number): number[] {
    return this.of(frameType.resetStream, streamId).map(({ payload }) => payload.readUInt32BE(0))
  }

  /** All headers, in order. */
  lists(): Headers[] {
    const decoder = new HeaderDecoder({ tableByteLengthMax: 4096, listByteLengthMax: MiB })
    let block: Buffer[] = []
    const lists: Headers[] = []
    for (const { type, flags, payload } of this.frames) {
      if (type !== frameType.headers && type !== frameType.continuation) continue
      block.push(payload)
      if ((flags & 4) === 0) continue
      lists.push(decoder.read(Buffer.concat(block)).headers)
      block = []
    }
    return lists
  }
}

/** Lets the line and the connection come to rest. */
export async function settled(turnCount = 12): Promise<void> {
  for (let turn = 0; turn < turnCount; turn++) await new Promise((resolve) => setImmediate(resolve))
}

export async function until(what: string, isSo: () => boolean): Promise<void> {
  for (const startMs = performance.now(); performance.now() - startMs < 20_000; ) {
    if (isSo()) return
    await new Promise((resolve) => setImmediate(resolve))
  }
  throw new Error(`never: ${what}`)
}
