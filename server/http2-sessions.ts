// The HTTP/2 connections beneath gRPC: how long each may last, be silent or idle, and how wide its windows are.
import type { Socket } from 'node:net'
import { Http2Connection } from '../proto/http2/connection.js'
import { errorCode, Http2Error } from '../proto/http2/errors.js'
import type { Headers } from '../proto/http2/hpack.js'
import type { ConnectionOptions, ConnectionOwner } from '../proto/http2/owners.js'
import type { Http2Stream } from '../proto/http2/stream.js'
import type { ServerLimits } from './limits.js'
import type { Log } from './log.js'

/** Serves a new stream; sets its owner. peer: `address:port`. */
type ServeStream = (stream: Http2Stream, headers: Headers, peer: string) => void

/** How often streams are looked at that may have stalled, in their time. */
const stallCheckCount = 8
/** Connections made together must not end together. */
const agePartJittered = 0.1

/** All connections of a server. */
export class Http2Sessions {
  readonly #limits: ServerLimits
  readonly #log: Log
  readonly #serve: ServeStream
  readonly #sessions = new Set<Session>()
  /** Of all sessions. */
  #callCount = 0
  readonly #wide: ConnectionOptions
  readonly #small: ConnectionOptions
  readonly #stallTimer: NodeJS.Timeout

  constructor(limits: ServerLimits, log: Log, serve: ServeStream) {
    this.#limits = limits
    this.#log = log
    this.#serve = serve
    this.#wide = { ...limits, role: 'server', streamCountMax: limits.sessionStreamCountMax }
    this.#small = {
      ...this.#wide,
      streamWindowByteLength: limits.smallWindowByteLength,
      sessionWindowByteLength: limits.smallWindowByteLength,
    }
    this.#stallTimer = setInterval(() => this.#endStalled(), limits.stalledCallMs / stallCheckCount).unref()
  }

  /** Takes a connection. */
  add(socket: Socket): void {
    const options = this.#sessions.size < this.#limits.wideSessionCountMax ? this.#wide : this.#small
    const session = new Session(socket, options, {
      limits: this.#limits,
      log: this.#log,
      serve: (stream, headers, peer) => {
        if (this.#isSurplus(session)) stream.reset(errorCode.refusedStream)
        else this.#serve(stream, headers, peer)
      },
      onCallCount: (added) => {
        this.#callCount += added
      },
      onClosed: () => this.#sessions.delete(session),
    })
    this.#sessions.add(session)
  }

  #isSurplus({ connection }: Session): boolean {
    const { callCountMax, connectionCountMax } = this.#limits
    return this.#callCount > callCountMax && connection.streamCount > Math.ceil(callCountMax / connectionCountMax)
  }

  /** No new call is taken. Connections end with their last one. */
  leave(): void {
    for (const { connection } of this.#sessions) connection.leave()
  }

  close(): void {
    clearInterval(this.#stallTimer)
    for (const { connection } of this.#sessions) connection.destroy(null, errorCode.none)
  }

  #endStalled(): void {
    for (const { connection } of this.#sessions) {
      for (const stream of connection.streams()) {
        // What the engine takes its time for has not stalled.
        if (!stream.waitsForPeer) stream.quietCount = 0
        else if (++stream.quietCount > stallCheckCount) stream.reset(errorCode.cancel)
      }
    }
  }
}

interface SessionOptions {
  readonly limits: ServerLimits
  readonly log: Log
  readonly serve: ServeStream
  /** There are so many calls more; fewer, where it is negative. */
  readonly onCallCount: (added: number) => void
  readonly onClosed: () => void
}

class Session implements ConnectionOwner {
  readonly connection: Http2Connection
  readonly #socket: Socket
  /** `address:port`. */
  readonly #peer: string
  readonly #options: SessionOptions
  readonly #handshakeTimer: NodeJS.Timeout
  readonly #idleTimer: NodeJS.Timeout
  readonly #ageTimer: NodeJS.Timeout
  #keepaliveTimer: NodeJS.Timeout
  #callCount = 0

  constructor(socket: Socket, connectionOptions: ConnectionOptions, options: SessionOptions) {
    const { limits } = options
    this.#options = options
    this.#socket = socket
    this.#peer = `${socket.remoteAddress ?? 'unknown'}:${socket.remotePort ?? 0}`
    this.connection = new Http2Connection(socket, connectionOptions, this)
    const { connection } = this
    this.#handshakeTimer = setTimeout(
      () => this.#end('it never became one', errorCode.settingsTimeout),
      limits.handshakeMs,
    )
    this.#handshakeTimer.unref()
    this.#idleTimer = setTimeout(() => {
      if (connection.streamCount === 0) connection.leave()
    }, limits.connectionIdleMs).unref()
    const jitter = 1 + agePartJittered * (2 * Math.random() - 1)
    this.#ageTimer = setTimeout(() => connection.leave(), limits.connectionAgeMs * jitter).unref()
    this.#keepaliveTimer = setTimeout(() => this.#askForSign(), limits.keepaliveMs).unref()
  }

  opened(): void {
    clearTimeout(this.#handshakeTimer)
  }

  stream(stream: Http2Stream, headers: Headers): void {
    this.#options.serve(stream, headers, this.#peer)
  }

  streamCountChanged(streamCount: number): void {
    this.#options.onCallCount(streamCount - this.#callCount)
    this.#callCount = streamCount
    if (streamCount === 0) this.#idleTimer.refresh()
  }

  closed(error: Error | null): void {
    const { log, onCallCount, onClosed } = this.#options
    onCallCount(-this.#callCount)
    this.#callCount = 0
    clearTimeout(this.#handshakeTimer)
    clearTimeout(this.#idleTimer)
    clearTimeout(this.#ageTimer)
    clearTimeout(this.#keepaliveTimer)
    const code = error instanceof Http2Error ? error.code : errorCode.none
    const facts = { peer: this.#peer, reason: error?.message }
    if (code === errorCode.internal) log.error({ ...facts, err: error?.cause }, 'defect: HTTP/2 session ended')
    else if (code === errorCode.enhanceYourCalm) log.warn(facts, 'HTTP/2 session ended')
    else if (error !== null) log.debug(facts, 'HTTP/2 session ended')
    onClosed()
  }

  #askForSign(): void {
    const { keepaliveMs } = this.#options.limits
    this.#awaitSign()
    this.connection.ping(() => {
      clearTimeout(this.#keepaliveTimer)
      this.#keepaliveTimer = setTimeout(() => this.#askForSign(), keepaliveMs).unref()
    })
  }

  /** Whatever moves is a sign: the PING stands behind answers that a slow line takes its time for. */
  #awaitSign(): void {
    const socket = this.#socket
    const { bytesRead, bytesWritten } = socket
    this.#keepaliveTimer = setTimeout(() => {
      const hasSent = this.connection.unsentByteLength > 0 && socket.bytesWritten > bytesWritten
      if (hasSent || socket.bytesRead > bytesRead) this.#awaitSign()
      else this.#end('no sign of life', errorCode.none)
    }, this.#options.limits.keepaliveAnswerMs).unref()
  }

  #end(reason: string, code: number): void {
    this.connection.destroy(new Http2Error(code, reason), code)
  }
}
