// Errors → what the wire says. The only place that knows status codes of gRPC and HTTP.
import { status as grpcStatus } from '@grpc/grpc-js'
import { type ErrorKind, FramesError } from '../../engine/index.js'

export interface WireForm {
  readonly grpc: grpcStatus
  /** For answers whose status is not fixed by the published protocol (docs: wire protocol, errors). */
  readonly http: number
}

/**
 * UNAVAILABLE is missing on purpose: whoever gets it takes the server for gone and sends the call again, and by the time
 * an error of ours is answered a message has been read. ABORTED says "again, as a whole" and is not retried blindly.
 */
export const wireForms: Readonly<Record<ErrorKind, WireForm>> = {
  invalid: { grpc: grpcStatus.INVALID_ARGUMENT, http: 400 },
  'not-found': { grpc: grpcStatus.NOT_FOUND, http: 404 },
  'already-exists': { grpc: grpcStatus.ALREADY_EXISTS, http: 409 },
  precondition: { grpc: grpcStatus.FAILED_PRECONDITION, http: 412 },
  unauthenticated: { grpc: grpcStatus.UNAUTHENTICATED, http: 401 },
  denied: { grpc: grpcStatus.PERMISSION_DENIED, http: 403 },
  exhausted: { grpc: grpcStatus.RESOURCE_EXHAUSTED, http: 429 },
  cancelled: { grpc: grpcStatus.CANCELLED, http: 499 },
  deadline: { grpc: grpcStatus.DEADLINE_EXCEEDED, http: 504 },
  unavailable: { grpc: grpcStatus.ABORTED, http: 503 },
  internal: { grpc: grpcStatus.INTERNAL, http: 500 },
  'data-loss': { grpc: grpcStatus.DATA_LOSS, http: 500 },
}

/**
 * Trailing metadata (gRPC) and header (HTTP) with the code of the table in engine/errors.ts, beside the status and the
 * text that every client knows: our own client makes the same error of it again.
 */
export const errorCodeKey = 'framesd-error'

/**
 * A gRPC status message travels percent-encoded in a header, and clients drop a whole call whose headers pass 8 KiB:
 * an error that repeats a long filter must not hide behind that one.
 */
const encodedTextLengthMax = 4096

/** The text of an error as it may stand in a header or a Frame: well-formed, and not longer than a client can take. */
export function wireText(error: FramesError): string {
  // A lone surrogate, as JSON may carry, cannot be percent-encoded.
  const text = Buffer.from(error.message, 'utf8').toString('utf8')
  if (encodeURI(text).length <= encodedTextLengthMax) return text
  let kept = ''
  let encodedLength = 0
  for (const character of text) {
    encodedLength += encodeURI(character).length
    if (encodedLength > encodedTextLengthMax - 3) return `${kept}...`
    kept += character
  }
  return kept
}

/**
 * An error as the caller may see it. What is not a FramesError is a defect of ours: its text stays in the log, and the
 * wire gets the number that finds it there.
 */
export function publicError(error: unknown, requestNumber: number, prefix?: string): FramesError {
  const known =
    error instanceof FramesError ? error : new FramesError('INTERNAL', `internal error (request ${requestNumber})`)
  return prefix === undefined ? known : known.prefixed(prefix)
}
