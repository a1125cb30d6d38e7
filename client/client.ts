// What a client of framesd offers, whichever transport it uses: the engine's verbs, with frames as typed columns, or
// (...Wire) as the bytes of a pb.Frame.
import type { CallOptions as EngineCallOptions, WriteResult } from '../engine/engine-api.js'
import { type ErrorCode, type ErrorKind, errorCodes, FramesError, fromErrorMessage } from '../engine/errors.js'
import { eachFrame, Frame } from '../engine/frame/frame.js'
import type {
  CreateRequest,
  DeleteRequest,
  ExecuteRequest,
  HistoryRequest,
  ReadRequest,
  Session,
  WriteRequest,
} from '../engine/requests.js'
import { FrameCodec } from './frame-codec.js'

export interface ClientOptions {
  /** For requests that bring no session of their own. */
  readonly session?: Session
  /** Bytes of one message, both ways; the server's default is 128 MiB. */
  readonly messageByteLengthMax?: number
}

export interface CallOptions extends EngineCallOptions {
  readonly signal?: AbortSignal
  /** The call fails with DEADLINE_EXCEEDED after so long, here and in the server. */
  readonly timeoutMs?: number
}

/** What ends a call early: its signal, its deadline, or nothing. */
export function signalOf(options: CallOptions | undefined): AbortSignal | undefined {
  if (options?.timeoutMs === undefined) return options?.signal
  const late = AbortSignal.timeout(Math.max(0, options.timeoutMs))
  return options.signal === undefined ? late : AbortSignal.any([options.signal, late])
}

/** Frames of a write as wire bytes, made as fast as they are asked for. */
export type FrameSource = AsyncIterable<Uint8Array> | Iterable<Uint8Array>

/**
 * Every call rejects with a FramesError, the one the server answered with where it said which. What needs bytes only is
 * the transport's part; frames are decoded and encoded here, one at a time.
 */
export abstract class Client {
  readonly #codec = new FrameCodec()

  abstract create(request: CreateRequest, options?: CallOptions): Promise<void>
  abstract delete(request: DeleteRequest, options?: CallOptions): Promise<void>
  abstract version(options?: CallOptions): Promise<string>
  /** Calls at work fail; later ones too. */
  abstract close(): void

  /** The frames of a read, asked of the server as they are asked for here. Leaving the loop early ends the read. */
  abstract readWire(request: ReadRequest, options?: CallOptions): AsyncIterable<Uint8Array>
  /** Sends frames no faster than the server takes them; resolves when all are durable. */
  abstract writeWire(request: WriteRequest, frames: FrameSource, options?: CallOptions): Promise<WriteResult>
  /** The frame a command answers with, or null. */
  abstract executeWire(request: ExecuteRequest, options?: CallOptions): Promise<Uint8Array | null>
  abstract historyWire(request: HistoryRequest, options?: CallOptions): AsyncIterable<Uint8Array>

  /** The frames of a read, with buffers of their own. Leaving the loop early ends the read. */
  read(request: ReadRequest, options?: CallOptions): AsyncGenerator<Frame, void, undefined> {
    return this.#decoded(this.readWire(request, options))
  }

  /** Writes frames; resolves when all are durable. Rejects with FRAME_TOO_LARGE for one that no message can hold. */
  write(
    request: WriteRequest,
    frames: Frame | Iterable<Frame> | AsyncIterable<Frame>,
    options?: CallOptions,
  ): Promise<WriteResult> {
    return this.writeWire(request, this.#encoded(frames), options)
  }

  /** The frame a command answers with, or null. */
  async execute(request: ExecuteRequest, options?: CallOptions): Promise<Frame | null> {
    const bytes = await this.executeWire(request, options)
    return bytes === null ? null : this.#codec.decode(bytes)
  }

  history(request: HistoryRequest, options?: CallOptions): AsyncGenerator<Frame, void, undefined> {
    return this.#decoded(this.historyWire(request, options))
  }

  async *#decoded(messages: AsyncIterable<Uint8Array>): AsyncGenerator<Frame, void, undefined> {
    for await (const message of messages) yield this.#codec.decode(message)
  }

  async *#encoded(frames: Frame | Iterable<Frame> | AsyncIterable<Frame>): AsyncGenerator<Uint8Array, void, undefined> {
    if (frames instanceof Frame) yield this.#codec.encode(frames)
    else for await (const frame of eachFrame(frames)) yield this.#codec.encode(frame)
  }
}

/** The code that stands for each kind when a server gives none of its own: an older server, or a broken connection. */
const codesByKind: Readonly<Record<ErrorKind, ErrorCode>> = {
  invalid: 'INVALID_ARGUMENT',
  'not-found': 'TABLE_NOT_FOUND',
  'already-exists': 'TABLE_EXISTS',
  precondition: 'PRECONDITION',
  unauthenticated: 'UNAUTHENTICATED',
  denied: 'PERMISSION_DENIED',
  exhausted: 'MEMORY_BUDGET',
  cancelled: 'CANCELLED',
  deadline: 'DEADLINE_EXCEEDED',
  unavailable: 'SERVER_UNREACHABLE',
  internal: 'INTERNAL',
  'data-loss': 'DATA_DAMAGED',
}

/** The error a server has answered with: its text as it is, under its code or else the one of its kind. */
export function remoteError(message: string, code: unknown, kind: ErrorKind): FramesError {
  const isKnown = typeof code === 'string' && Object.hasOwn(errorCodes, code)
  const error = fromErrorMessage({ code: isKnown ? (code as ErrorCode) : codesByKind[kind], what: message })
  // The server's text ends with how to fix it already.
  error.message = message
  return error
}

/** The error of a call whose signal was aborted: its reason, if that is one of ours or a deadline. */
export function abortError({ reason }: AbortSignal): FramesError {
  if (reason instanceof FramesError) return reason
  if (reason instanceof DOMException && reason.name === 'TimeoutError') {
    return new FramesError('DEADLINE_EXCEEDED', 'the deadline of the call has passed', { cause: reason })
  }
  return new FramesError('CANCELLED', 'the call was cancelled', { cause: reason })
}
