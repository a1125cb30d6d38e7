// The HTTP/2 sessions beneath gRPC: their windows, and bounds on what a peer may do with one.
import { constants, type Http2Server, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2'
import type { ServerLimits } from './limits.js'
import type { Log } from './log.js'

/** A session and its streams. */
class Session {
  /** `address:port`. */
  readonly peer: string
  readonly #session: ServerHttp2Session
  readonly #limits: ServerLimits
  readonly #log: Log
  #streamCount = 0
  readonly #idleTimer: NodeJS.Timeout
  #resetTokens: number
  #countedMs = performance.now()

  constructor(session: ServerHttp2Session, limits: ServerLimits, log: Log) {
    this.#session = session
    this.#limits = limits
    this.#log = log
    this.#resetTokens = limits.resetBurstMax
    const { remoteAddress = 'unknown', remotePort = 0 } = session.socket
    this.peer = `${remoteAddress}:${remotePort}`
    this.#idleTimer = setTimeout(() => {
      if (this.#streamCount === 0) session.close()
    }, limits.connectionIdleMs).unref()
    session.once('close', () => clearTimeout(this.#idleTimer))
  }

  opened(): void {
    this.#streamCount++
  }

  closed(stream: ServerHttp2Stream): void {
    if (--this.#streamCount === 0) this.#idleTimer.refresh()
    if (stream.aborted) this.#countReset()
  }

  /**
   * Ends a session that opens streams only to break them off: each costs the server more than the client. nghttp2 has such a
   * limit too, but leaves the socket open.
   */
  #countReset(): void {
    const { resetBurstMax, resetPerSecondMax } = this.#limits
    const nowMs = performance.now()
    const regained = ((nowMs - this.#countedMs) / 1000) * resetPerSecondMax
    this.#resetTokens = Math.min(resetBurstMax, this.#resetTokens + regained) - 1
    this.#countedMs = nowMs
    if (this.#resetTokens >= 0 || this.#session.destroyed) return
    this.#log.warn({ peer: this.peer }, 'HTTP/2 session ended: too many calls broken off')
    this.#session.destroy(new Error('too many calls broken off'), constants.NGHTTP2_ENHANCE_YOUR_CALM)
  }
}

/** How often streams are looked at that may have stalled. */
const stallCheckCount = 8

/** Tunes each session of a server, and counts what each stream of it does. */
export class Http2Sessions {
  readonly #limits: ServerLimits
  readonly #log: Log
  readonly #sessions = new WeakMap<object, Session>()
  /** Streams that have not been given a timeout: most end before that would be worth it. */
  #young = new Set<ServerHttp2Stream>()
  #old = new Set<ServerHttp2Stream>()
  readonly #stallTimer: NodeJS.Timeout

  /** The server must not have had a connection yet. */
  constructor(http2Server: Http2Server, limits: ServerLimits, log: Log) {
    this.#limits = limits
    this.#log = log
    this.#tune(http2Server)
    this.#stallTimer = setInterval(() => this.#watchOld(), limits.stalledCallMs / stallCheckCount).unref()
    http2Server.once('close', () => clearInterval(this.#stallTimer))
  }

  #tune(http2Server: Http2Server): void {
    const limits = this.#limits
    let sessionCount = 0
    const isWide = () => sessionCount < limits.wideSessionCountMax
    // What a session is told first is decided before it connects.
    const prepareNext = () =>
      http2Server.updateSettings({
        initialWindowSize: isWide() ? limits.streamWindowByteLength : limits.smallWindowByteLength,
        maxFrameSize: limits.dataFrameByteLengthMax,
        maxConcurrentStreams: limits.sessionStreamCountMax,
      })
    prepareNext()

    http2Server.on('session', (session: ServerHttp2Session) => {
      session.setLocalWindowSize(isWide() ? limits.sessionWindowByteLength : limits.smallWindowByteLength)
      this.#sessions.set(session, new Session(session, limits, this.#log))
      sessionCount++
      prepareNext()
      const handshake = setTimeout(() => session.destroy(), limits.handshakeMs)
      session.once('remoteSettings', () => clearTimeout(handshake))
      session.once('close', () => {
        clearTimeout(handshake)
        sessionCount--
        prepareNext()
      })
    })
    http2Server.on('sessionError', (error: Error) => this.#log.debug({ reason: error.message }, 'HTTP/2 session ended'))
  }

  /** Counts a new stream, until it closes; onClose is called then. Returns who has opened it. */
  watch(stream: ServerHttp2Stream, onClose: () => void): string {
    const session = stream.session === undefined ? undefined : this.#sessions.get(stream.session)
    session?.opened()
    this.#young.add(stream)
    stream.once('close', () => {
      if (!this.#young.delete(stream)) this.#old.delete(stream)
      session?.closed(stream)
      onClose()
    })
    return session?.peer ?? 'unknown'
  }

  /** From here on node:http2 itself sees whether anything moves. */
  #watchOld(): void {
    for (const stream of this.#old)
      stream.setTimeout(this.#limits.stalledCallMs, () => stream.close(constants.NGHTTP2_CANCEL))
    this.#old = this.#young
    this.#young = new Set()
  }
}
