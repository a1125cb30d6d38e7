// What the engine offers to whoever serves it: the server, and a program that embeds it. Frames are wire bytes here, so
// that the main thread never decodes a column.
import type { CancelSignal } from './cancellation.js'
import type { WireMessages } from './frame/wire-messages.js'
import type {
  Caller,
  CreateRequest,
  DeleteRequest,
  ExecuteRequest,
  HistoryRequest,
  ReadRequest,
  RecordedRequest,
  WriteCounts,
  WriteRequest,
} from './requests.js'

/** How the answer of a read is written: frames of the wire, or one of the formats an HTTP client may ask for. */
export type ReadFormat = 'wire' | 'arrow' | 'json' | 'ndjson'

export interface CallOptions {
  /** Ends the call early: what was not yet accepted is dropped, what is being made is given up. An AbortSignal, for one. */
  readonly signal?: CancelSignal
  /** Who asks; absent: the program itself. */
  readonly caller?: Caller
}

export interface ReadEncodedOptions extends CallOptions {
  /**
   * The bytes of a 'wire' message may stand in memory that threads share, where they change when the next is asked for; by
   * default they are in memory of their own.
   */
  readonly borrows?: boolean
}

/** Messages of a read that are ready together. */
export interface WireBatch {
  readonly messages: WireMessages
  /** Nothing comes behind them: who passes them on may end its answer before it asks for the end. */
  readonly isLast: boolean
}

/** What a write has stored. */
export type WriteResult = WriteCounts

/** One write at work. Frames go in one after the other; then finish, or abort. */
export interface WriteSession {
  /**
   * Takes one pb.Frame (wire bytes, opaque), which must not change before this resolves: then the next frame may be given
   * (back-pressure). Rejects with a FramesError when this or an earlier frame failed.
   */
  addWire(frame: Uint8Array): Promise<void>
  /** Resolves when the frames so far are stored (csv: written beside the table's file). Rejects as addWire does. */
  stored(): Promise<void>
  /** Resolves when all frames are durable. */
  finish(): Promise<WriteResult>
  /** Gives up: frames not yet accepted are dropped. After `finish` it does nothing. */
  abort(): void
}

export interface EngineApi {
  create(request: CreateRequest, options?: CallOptions): Promise<void>
  openWrite(request: WriteRequest, options?: CallOptions): Promise<WriteSession>
  /**
   * Finished messages. 'wire': each is one pb.Frame; otherwise chunks of the body. Some MiB are made ahead for each worker,
   * more when the consumer asks; the bytes of one are the consumer's until it asks for the next.
   */
  readEncoded(request: ReadRequest, format: ReadFormat, options?: ReadEncodedOptions): AsyncIterable<Uint8Array>
  /** As readEncoded in 'wire', all messages together that are ready together. */
  readBatches(request: ReadRequest, options?: ReadEncodedOptions): AsyncIterable<WireBatch>
  delete(request: DeleteRequest, options?: CallOptions): Promise<void>
  /** Wire bytes of the frame, or null when the command answers with none. */
  executeEncoded(request: ExecuteRequest, options?: CallOptions): Promise<Uint8Array | null>
  historyEncoded(request: HistoryRequest, options?: CallOptions): AsyncIterable<Uint8Array>
  /** For the history: a request that was refused before the engine was asked. Calls of the verbs record themselves. */
  recordRefused(recorded: RecordedRequest, told: { caller: Caller; error: unknown; durationMs: number }): void
  close(): Promise<void>
}
