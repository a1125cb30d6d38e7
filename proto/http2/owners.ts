// What an HTTP/2 connection is given, and whom it tells: one owner for a connection and one for each stream, instead of events.
import type { Headers } from './hpack.js'
import type { Http2Stream } from './stream.js'

export interface ConnectionOptions {
  readonly role: 'server' | 'client'
  /** What the peer may send on one stream before it is given more, in bytes. */
  readonly streamWindowByteLength: number
  /** The same of all streams together; at least the 65,535 of RFC 9113. */
  readonly sessionWindowByteLength: number
  /** The largest frame that is taken; those sent are no larger either. 16,384 at least. */
  readonly dataFrameByteLengthMax: number
  /** Streams that the peer may have open at once. A client takes none. */
  readonly streamCountMax: number
  /** Names and values of one header list, 32 bytes added for each pair. */
  readonly headerListByteLengthMax: number
  /** Streams that the peer may break off: so many at once, so many a second in the long run (rapid reset). */
  readonly resetBurstMax: number
  readonly resetPerSecondMax: number
  /** Frames of the peer that ask for work and bring nothing: pings, settings, window updates without answers. */
  readonly controlBurstMax: number
  readonly controlPerSecondMax: number
}

export interface ConnectionOwner {
  /** The peer's first settings have come. */
  opened?(): void
  /** A server has a new stream. `stream.owner` must be set before this returns; `end()` of it is called if all has come. */
  stream?(stream: Http2Stream, headers: Headers, hasEnded: boolean): void
  /** The peer takes no new streams. Those that it did not look at are closed with REFUSED_STREAM right after this. */
  leaving?(code: number): void
  /** A stream has come or gone; so many are there now, those that wait for their turn too. */
  streamCountChanged?(streamCount: number): void
  /** The connection is gone; told once, after all its streams. error: why; null when it was ended without one. */
  closed(error: Error | null): void
}

/** Takes what comes on a stream. Nothing is called after `closed`. */
export interface StreamOwner {
  /** A client's answer, and its trailers; a server's trailers. `end()` follows where hasEnded. */
  headers(headers: Headers, hasEnded: boolean): void
  /** Some bytes; the memory may be kept, unless the socket reads into memory of its own. */
  data(chunk: Buffer): void
  /** The peer has sent all. */
  end(): void
  /**
   * The stream is gone. code: of the reset, by either side; 0 for a clean end. error: why the connection is lost, or what the
   * peer did that made us reset the stream; null where the peer, or the owner, has reset it.
   */
  closed(code: number, error: Error | null): void
}
