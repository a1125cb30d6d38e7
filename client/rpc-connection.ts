// One HTTP/2 connection to a server, made when it is first needed and again when it is lost.
import { connect as connectSocket } from 'node:net'
import { domainToASCII } from 'node:url'
import { errorCodes } from '../engine/errors.js'
import { Http2Connection } from '../proto/http2/connection.js'
import { errorCode, Http2Error } from '../proto/http2/errors.js'
import type { ConnectionOptions, ConnectionOwner, StreamOwner } from '../proto/http2/owners.js'
import type { Http2Stream } from '../proto/http2/stream.js'
import { errorOfFault, errorOfReset, RpcError, status } from './rpc-status.js'

const MiB = 1024 * 1024

const connectionOptions: ConnectionOptions = {
  role: 'client',
  // What the server may send before it is read. At HTTP/2's own 64 KiB large answers take twice as long.
  streamWindowByteLength: 8 * MiB,
  sessionWindowByteLength: 16 * MiB,
  dataFrameByteLengthMax: 1 * MiB,
  streamCountMax: 0,
  headerListByteLengthMax: 64 * 1024,
  // A server may refuse as many calls as it likes, and send on what was cancelled until it hears of it.
  resetBurstMax: Number.MAX_SAFE_INTEGER,
  resetPerSecondMax: Number.MAX_SAFE_INTEGER,
  controlBurstMax: 100_000,
  controlPerSecondMax: 10_000,
}
/** From connecting to the first settings of the server. */
const connectMs = 20_000
/** What one reading of the socket takes; Node's own 64 KiB, in fresh memory each time, cost a quarter of a large answer. */
const readByteLength = 256 * 1024
/** TCP asks a silent peer for a sign of life: a machine that is gone never says so. */
const keepAliveMs = 60_000
const defaultPort = 8081

/** A connection that stands, or stood. */
export class Link {
  readonly #connection: Http2Connection
  #lost: RpcError | null = null

  constructor(connection: Http2Connection) {
    this.#connection = connection
  }

  /** A stream for a call; the program runs on while there is one. Throws RpcError when the connection is being ended. */
  open(headerBlock: Buffer, owner: StreamOwner): Http2Stream {
    try {
      return this.#connection.open(headerBlock, false, owner)
    } catch (error) {
      throw new RpcError(status.UNAVAILABLE, `the connection failed: ${reasonOf(error)}`, {
        isUnprocessed: true,
        cause: error,
      })
    }
  }

  /** The error of a call whose stream is gone without a status: by a reset, by its own fault, or with the connection. */
  errorOfStream(code: number, cause: Error | null): RpcError {
    // The server has not looked at it, whatever became of the connection.
    if (cause === null || code === errorCode.refusedStream) return errorOfReset(code, cause)
    if (cause instanceof Http2Error && cause.isOfStream) return errorOfFault(cause)
    return this.#lost ?? unreachable(reasonOf(cause), cause)
  }

  /** Says why what is left of the connection fails, unless that is known already. */
  lose(error: RpcError): RpcError {
    this.#lost ??= error
    return this.#lost
  }

  end(error: RpcError): void {
    this.lose(error)
    this.#connection.destroy(error, errorCode.none)
  }

  get isUsable(): boolean {
    return this.#connection.isUsable
  }
}

export class RpcConnection {
  /** What the calls' headers name. */
  readonly authority: string
  readonly #address: SocketAddress
  readonly #links = new Set<Link>()
  #link: Link | null = null
  #opening: Promise<Link> | null = null
  #isClosed = false

  /** `host:port`, `[::1]:port`, `host`, or `unix:path`. */
  constructor(address: string) {
    this.#address = socketAddress(address)
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
    return new Promise((resolve, reject) => {
      let isOpen = false
      const socket = connectSocket({
        ...this.#address,
        noDelay: true,
        keepAlive: true,
        keepAliveInitialDelay: keepAliveMs,
        // Messages are copied out of it before more is read.
        onread: {
          buffer: Buffer.allocUnsafeSlow(readByteLength),
          callback(byteLength, buffer) {
            connection.read(Buffer.from(buffer.buffer, buffer.byteOffset, byteLength))
            return true
          },
        },
      })
      const owner: ConnectionOwner = {
        opened: () => {
          clearTimeout(timer)
          isOpen = true
          this.#link = link
          socket.unref()
          resolve(link)
        },
        streamCountChanged: (count) => {
          if (count === 0) socket.unref()
          else if (count === 1) socket.ref()
        },
        leaving: (code) => {
          if (code === errorCode.none) return
          const error = link.lose(unreachable(`the server ended the connection (HTTP/2 code ${code})`))
          // Not before the calls are told that it has not looked at: they may be sent again.
          queueMicrotask(() => link.end(error))
        },
        closed: (error) => {
          clearTimeout(timer)
          this.#links.delete(link)
          if (this.#link === link) this.#link = null
          // A peer that ends the connection before it said anything.
          const isOther = !isOpen && error instanceof Http2Error
          const reason = isOther ? noGrpc : error === null ? 'the server closed it' : reasonOf(error)
          reject(link.lose(unreachable(reason, error)))
        },
      }
      const connection = new Http2Connection(socket, connectionOptions, owner)
      const link = new Link(connection)
      this.#links.add(link)
      const timer = setTimeout(() => link.end(unreachable(`no answer within ${connectMs / 1000} s`)), connectMs)
    })
  }
}

/** The usual reason why the first bytes of a server are not those of HTTP/2. */
const noGrpc = 'what answers speaks no gRPC; the HTTP port is addressed as http://host:port'

function unreachable(reason: string, cause?: unknown): RpcError {
  const text = `the connection failed: ${reason}. ${errorCodes.SERVER_UNREACHABLE.fix}.`
  return new RpcError(status.UNAVAILABLE, text, { cause: cause ?? undefined })
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
  if (host.includes(':')) return `[${host}]:${port}`
  // A header holds no other characters.
  return `${/^[\x20-\x7e]*$/.test(host) ? host : domainToASCII(host)}:${port}`
}
