// What a client of framesd offers, whichever transport it uses. Frames are bytes of the wire (pb.Frame) here.
import type { CallOptions, WriteResult } from '../engine/engine-api.js'
import { type ErrorCode, type ErrorKind, errorCodes, FramesError, fromErrorMessage } from '../engine/errors.js'
import type {
  CreateRequest,
  DeleteRequest,
  ExecuteRequest,
  HistoryRequest,
  ReadRequest,
  Session,
  WriteRequest,
} from '../engine/requests.js'

export interface ClientOptions {
  /** For requests that bring no session of their own. */
  readonly session?: Session
  /** Bytes of one message, both ways; the server's default is 128 MiB. */
  readonly messageByteLengthMax?: number
}

/** Frames of a write, made as fast as they are asked for. */
export type FrameSource = AsyncIterable<Uint8Array> | Iterable<Uint8Array>

/** Every call rejects with a FramesError, the one the server answered with where it said which. */
export interface Client {
  create(request: CreateRequest, options?: CallOptions): Promise<void>
  /** The frames of a read, asked of the server as they are asked for here. Leaving the loop early ends the read. */
  readWire(request: ReadRequest, options?: CallOptions): AsyncIterable<Uint8Array>
  /** Sends frames no faster than the server takes them; resolves when all are durable. */
  writeWire(request: WriteRequest, frames: FrameSource, options?: CallOptions): Promise<WriteResult>
  delete(request: DeleteRequest, options?: CallOptions): Promise<void>
  /** The frame a command answers with, or null. */
  executeWire(request: ExecuteRequest, options?: CallOptions): Promise<Uint8Array | null>
  historyWire(request: HistoryRequest, options?: CallOptions): AsyncIterable<Uint8Array>
  version(options?: CallOptions): Promise<string>
  /** Calls at work fail; later ones too. */
  close(): void
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

/** The error of a call whose signal was aborted: its reason, if that is one of ours. */
export function abortError(signal: AbortSignal): FramesError {
  return signal.reason instanceof FramesError
    ? signal.reason
    : new FramesError('CANCELLED', 'the call was cancelled', { cause: signal.reason })
}
