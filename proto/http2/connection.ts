import type { Socket } from 'node:net'
import type { ConnectionOptions, ConnectionOwner, StreamOwner } from './owners.js'
import type { Http2Stream } from './stream.js'

export declare class Http2Connection {
  constructor(socket: Socket, options: ConnectionOptions, owner: ConnectionOwner)
  readonly streamCount: number
  readonly isUsable: boolean
  readonly unsentByteLength: number
  readonly socket: Socket
  open(headerBlock: Buffer, hasEnded: boolean, owner: StreamOwner): Http2Stream
  ping(onAnswer: () => void): void
  leave(): void
  destroy(error: Error | null, code: number): void
}
