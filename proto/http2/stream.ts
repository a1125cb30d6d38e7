import type { StreamOwner } from './owners.js'

/** One stream. All of it may be called in any state; what makes no sense any more does nothing. */
export declare class Http2Stream {
  owner: StreamOwner
  /** 0 while it waits for one of the peer's MAX_CONCURRENT_STREAMS. */
  readonly id: number
  readonly isClosed: boolean
  /** All of ours has been handed on, END_STREAM too. */
  readonly hasSentAll: boolean
  /** The peer has sent END_STREAM. */
  readonly hasReceivedAll: boolean
  /** Given to `send` and not yet handed to the socket. */
  readonly unsentByteLength: number
  sendHeaders(block: Buffer, hasEnded: boolean): void
  /** onLeft: the memory may be used again. Called once, in any case; later, never from within. */
  send(chunk: Buffer, onLeft: () => void): void
  end(): void
  sendTrailers(block: Buffer): void
  reset(code: number): void
  pause(): void
  resume(): void
}
