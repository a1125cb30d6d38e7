// What goes wrong with HTTP/2, by the codes of RFC 9113, section 7.
export const errorCode = {
  none: 0x0,
  protocol: 0x1,
  internal: 0x2,
  flowControl: 0x3,
  settingsTimeout: 0x4,
  streamClosed: 0x5,
  frameSize: 0x6,
  refusedStream: 0x7,
  cancel: 0x8,
  compression: 0x9,
  connect: 0xa,
  enhanceYourCalm: 0xb,
  inadequateSecurity: 0xc,
  http11Required: 0xd,
} as const

/** A peer that does what HTTP/2 forbids, or what we do not bear. */
export class Http2Error extends Error {
  override readonly name = 'Http2Error'

  /** isOfStream: only the stream ends, by a reset with this code; else the connection does. */
  constructor(
    readonly code: number,
    message: string,
    readonly isOfStream = false,
    options?: ErrorOptions,
  ) {
    super(message, options)
  }
}

export function protocolError(message: string): Http2Error {
  return new Http2Error(errorCode.protocol, message)
}

export function calm(message: string): Http2Error {
  return new Http2Error(errorCode.enhanceYourCalm, message)
}

export function streamError(code: number, message: string): Http2Error {
  return new Http2Error(code, message, true)
}
