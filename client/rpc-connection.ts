// One HTTP/2 connection to a server, made when it is first needed and again when it is lost.
import { AsyncResource } from 'node:async_hooks'
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect as connectHttp2,
  type OutgoingHttpHeaders,
} from 'node:http2'
import { connect as connectSocket } from 'node:net'
import { RpcError, status } from './rpc-status.js'

const MiB = 1024 * 1024
/** What the server may send before it is read, in bytes: of one call, of all. */
export interface Windows {
  readonly streamByteLength: number
  readonly sessionByteLength: number
}

/** For large answers. At HTTP/2's own 64 KiB they take twice as long. */
export const answerWindows: Windows = { streamByteLength: 8 * MiB, sessionByteLength: 16 * MiB }
/**
 * For large requests: HTTP/2's own. Any socket takes so much, read or not. node:http2 does not read while it has bytes that
 * the socket does not take: where both ends do so, neither goes on (docs/decisions/0066).
 */
export const requestWindows: Windows = { streamByteLength: 65_535, sessionByteLength: 65_535 }

const dataFrameByteLengthMax = 1 * MiB
/** From connecting to the first settings of the server. */
const connectMs = 20_000
/** TCP asks a silent peer for a sign of life: a machine that is gone never says so. */
const keepAliveMs = 60_000
const defaultPort = 8081

/** A connection that stands, or stood. */
export class Link {
  readonly #session: ClientHttp2Session
  /** The server takes no new calls on it. */
  #isLeaving = false
  #lost: RpcError | null = null
  #streamCount = 0

  constructor(session: ClientHttp2Session) {
    this.#session = session
    session.on('goaway', (code) => {
      this.#isLeaving = true
      if (code !== 0) this.lose(unreachable(`the server ended the connection (HTTP/2 code ${code})`))
    })
    session.on('error', (error) => this.lose(unreachable(reasonOf(error), error)))
  }

  /** A stream for a call; the program runs on while there is one. Throws RpcError when the connection is being ended. */
  open(headers: OutgoingHttpHeaders): ClientHttp2Stream {
    let stream: ClientHttp2Stream
    try {
      stream = requestStream(this.#session, headers)
    } catch (error) {
      throw new RpcError(status.UNAVAILABLE, `the connection failed: ${reasonOf(error)}`, {
        isUnprocessed: true,
        cause: error,
      })
    }
    if (++this.#streamCount === 1) this.#session.ref()
    stream.once('close', () => {
      if (--this.#streamCount === 0) this.#session.unref()
    })
    return stream
  }

  /** Why the connection is lost; null while it stands. `cause` is what a stream was told, which is told first. */
  lostBy(cause: Error | null): RpcError | null {
    if (this.#session.destroyed)
      this.lose(unreachable(cause === null ? 'the server closed it' : reasonOf(cause), cause))
    return this.#lost
  }

  lose(error: RpcError): void {
    this.#lost ??= error
  }

  end(error: RpcError): void {
    this.lose(error)
    this.#session.destroy()
  }

  get isUsable(): boolean {
    return this.#lost === null && !this.#isLeaving && !this.#session.closed && !this.#session.destroyed
  }
}

/**
 * A request of a session. node:http2 binds what begins a request to an AsyncResource, and Node.js 20 gives what it binds a
 * deprecated property (DEP0172): 15 µs, and two prototypes for which V8 keeps the whole call until it collects its whole
 * heap. Together a quarter of what a small call takes. While a request of ours begins, binding does no more than it says.
 */
function requestStream(session: ClientHttp2Session, headers: OutgoingHttpHeaders): ClientHttp2Stream {
  const { prototype } = AsyncResource
  const bindOfNode = prototype.bind
  // Not where a program has frozen what Node.js is made of.
  const isReplaced = Reflect.set(prototype, 'bind', bindPlainly)
  try {
    return session.request(headers)
  } finally {
    if (isReplaced) prototype.bind = bindOfNode
  }
}

const bindPlainly: typeof AsyncResource.prototype.bind = function (this: AsyncResource, func) {
  return this.runInAsyncScope.bind(this, func, undefined) as typeof func
}

export class RpcConnection {
  /** What the calls' headers name. */
  readonly authority: string
  readonly #address: SocketAddress
  readonly #windows: Windows
  readonly #links = new Set<Link>()
  #link: Link | null = null
  #opening: Promise<Link> | null = null
  #isClosed = false

  /** `host:port`, `[::1]:port`, `host`, or `unix:path`. */
  constructor(address: string, windows: Windows) {
    this.#address = socketAddress(address)
    this.#windows = windows
    this.authority = authorityOf(this.#address)
  }

  /** The connection, if it stands; else it is made. Rejects with RpcError. */
  link(): Link | Promise<Link> {
    if (this.#isClosed) throw closedError()
    if (this.#link?.isUsable) return this.#link
    this.#opening ??= this.#open()
      .catch((error: unknown) => {
        throw error instanceof RpcError ? error : unreachable(reasonOf(error), error)
      })
      .finally(() => {
        this.#opening = null
      })
    return this.#opening
  }

  /** Calls at work fail. */
  close(): void {
    this.#isClosed = true
    for (const link of this.#links) link.end(closedError())
  }

  #open(): Promise<Link> {
    const { streamByteLength, sessionByteLength } = this.#windows
    return new Promise((resolve, reject) => {
      const session = connectHttp2('http://localhost', {
        createConnection: () =>
          connectSocket({ ...this.#address, noDelay: true, keepAlive: true, keepAliveInitialDelay: keepAliveMs }),
        settings: {
          enablePush: false,
          initialWindowSize: streamByteLength,
          maxFrameSize: dataFrameByteLengthMax,
        },
        // What is queued counts towards it; calls would be refused while a large message leaves.
        maxSessionMemory: Number.MAX_SAFE_INTEGER,
      })
      const link = new Link(session)
      this.#links.add(link)
      const timer = setTimeout(() => link.end(unreachable(`no answer within ${connectMs / 1000} s`)), connectMs)
      session.once('connect', () => session.setLocalWindowSize(sessionByteLength))
      session.once('remoteSettings', () => {
        clearTimeout(timer)
        this.#link = link
        session.unref()
        resolve(link)
      })
      session.once('close', () => {
        clearTimeout(timer)
        this.#links.delete(link)
        if (this.#link === link) this.#link = null
        // A peer that ends the connection before it said anything.
        reject(link.lostBy(null))
      })
    })
  }
}

function unreachable(reason: string, cause?: unknown): RpcError {
  return new RpcError(status.UNAVAILABLE, `the connection failed: ${reason}`, { cause })
}

function closedError(): RpcError {
  return new RpcError(status.CANCELLED, 'the client was closed')
}

/** An error of several addresses tried has no text of its own. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  if (error.message !== '') return error.message
  return 'code' in error ? String(error.code) : error.name
}

type SocketAddress = { readonly path: string } | { readonly host: string; readonly port: number }

function socketAddress(address: string): SocketAddress {
  if (address.startsWith('unix:')) return { path: address.slice('unix:'.length).replace(/^\/\/(?=\/)/, '') }
  const [, bracketed, name, port] = /^(?:\[([^\]]+)\]|([^:]+))(?::(\d+))?$/.exec(address) ?? []
  // An IPv6 address without brackets has no place for a port.
  return { host: bracketed ?? name ?? address, port: port === undefined ? defaultPort : Number(port) }
}

function authorityOf(address: SocketAddress): string {
  if ('path' in address) return 'localhost'
  const { host, port } = address
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}
