// How a gRPC call ended: its status from the headers of HTTP/2, or what stands for one where a peer sent none.
// After "gRPC over HTTP2" and "HTTP to gRPC Status Code Mapping" of the gRPC project.
import { errorCode, type Http2Error } from '../proto/http2/errors.js'
import type { Headers } from '../proto/http2/hpack.js'

export const status = {
  OK: 0,
  CANCELLED: 1,
  UNKNOWN: 2,
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  ALREADY_EXISTS: 6,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  OUT_OF_RANGE: 11,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  DATA_LOSS: 15,
  UNAUTHENTICATED: 16,
} as const

/** A call that failed. */
export class RpcError extends Error {
  override readonly name = 'RpcError'
  readonly status: number
  /** Of the answer; empty when there was none. */
  readonly trailers: Headers
  /** No server has looked at the call: it may be sent again. */
  readonly isUnprocessed: boolean

  constructor(
    code: number,
    message: string,
    more: { readonly trailers?: Headers; readonly isUnprocessed?: boolean; readonly cause?: unknown } = {},
  ) {
    super(message, more.cause === undefined ? undefined : { cause: more.cause })
    this.status = code
    this.trailers = more.trailers ?? {}
    this.isUnprocessed = more.isUnprocessed ?? false
  }
}

/** The error that trailers (or the only headers of an answer) tell of; null when all went well. */
export function errorOfTrailers(trailers: Headers): RpcError | null {
  const text = trailers['grpc-status'] ?? ''
  const code = /^\d+$/.test(text) ? Number(text) : status.UNKNOWN
  if (code === status.OK) return null
  const message = trailers['grpc-message']
  return new RpcError(code, unescaped(message ?? ''), { trailers })
}

/** `%XX` stands for a byte of UTF-8. What is no such text is shown as it came. */
function unescaped(message: string): string {
  if (!message.includes('%')) return message
  try {
    return decodeURIComponent(message)
  } catch (error) {
    if (error instanceof URIError) return message
    throw error
  }
}

const statusOfHttp: Readonly<Record<number, number>> = {
  400: status.INTERNAL,
  401: status.UNAUTHENTICATED,
  403: status.PERMISSION_DENIED,
  404: status.UNIMPLEMENTED,
  429: status.UNAVAILABLE,
  502: status.UNAVAILABLE,
  503: status.UNAVAILABLE,
  504: status.UNAVAILABLE,
}

/** The error of an answer that is none of gRPC; null for one that is. */
export function errorOfResponse(headers: Headers): RpcError | null {
  const httpStatus = Number(headers[':status'])
  const type = headers['content-type'] ?? ''
  if (headers['grpc-status'] !== undefined) return null
  if (httpStatus !== 200) {
    return new RpcError(
      statusOfHttp[httpStatus] ?? status.UNKNOWN,
      `the server answered with HTTP status ${httpStatus}`,
    )
  }
  if (!type.startsWith('application/grpc')) {
    return new RpcError(status.UNKNOWN, `the server answered with '${type}', which is not gRPC`)
  }
  const encoding = headers['grpc-encoding'] ?? 'identity'
  if (encoding === 'identity') return null
  return new RpcError(status.INTERNAL, `the server compresses its answer (${encoding}), which it was not asked to`)
}

const statusOfReset: Readonly<Record<number, number>> = {
  [errorCode.refusedStream]: status.UNAVAILABLE,
  [errorCode.cancel]: status.CANCELLED,
  [errorCode.enhanceYourCalm]: status.RESOURCE_EXHAUSTED,
  [errorCode.inadequateSecurity]: status.PERMISSION_DENIED,
}

/** The error of a stream that the server broke off before it sent a status. */
export function errorOfReset(resetCode: number, cause: unknown): RpcError {
  const isRefused = resetCode === errorCode.refusedStream
  const code = statusOfReset[resetCode] ?? status.INTERNAL
  const text = `the server broke the call off without a status (HTTP/2 code ${resetCode})`
  return new RpcError(code, text, { isUnprocessed: isRefused, cause: cause ?? undefined })
}

/** The error of an answer that breaks the rules of HTTP/2. */
export function errorOfFault(fault: Http2Error): RpcError {
  const code = fault.code === errorCode.enhanceYourCalm ? status.RESOURCE_EXHAUSTED : status.INTERNAL
  return new RpcError(code, `the server's answer is none: ${fault.message}`, { cause: fault })
}

const timeoutUnits = [
  ['m', 1],
  ['S', 1000],
  ['M', 60_000],
  ['H', 3_600_000],
] as const

/** The header `grpc-timeout`: at most eight digits and a unit. */
export function timeoutHeader(timeoutMs: number): string {
  for (const [unit, unitMs] of timeoutUnits) {
    const count = Math.ceil(timeoutMs / unitMs)
    if (count < 100_000_000) return `${Math.max(count, 0)}${unit}`
  }
  return '99999999H'
}
