// The client over gRPC. Messages that hold frames pass as bytes. Calls are made on streams of proto/http2: grpc-js copied each
// message into new memory once more on its way out, and half of a load's time went into the collection of that.
import { type DescMessage, fromBinary, type MessageShape, toBinary } from '@bufbuild/protobuf'
import type { WriteResult } from '../engine/engine-api.js'
import { type ErrorKind, FramesError } from '../engine/errors.js'
import { messageByteLengthMax } from '../engine/limits.js'
import { copyBytes } from '../engine/memory/copy.js'
import { Steps } from '../engine/steps.js'
import type {
  CreateRequest,
  DeleteRequest,
  ExecuteRequest,
  HistoryRequest,
  ReadRequest,
  WriteRequest,
} from '../engine/requests.js'
import { encodeHeaders, type Headers } from '../proto/http2/hpack.js'
import { ExecResponseSchema, WriteRequestSchema } from '../proto/gen/envelope_pb.js'
import {
  CreateRequestSchema,
  DeleteRequestSchema,
  ExecRequestSchema,
  HistoryRequestSchema,
  ReadRequestSchema,
  VersionResponseSchema,
  WriteResposeSchema,
} from '../proto/gen/frames_pb.js'
import {
  abortError,
  type CallOptions,
  Client,
  type ClientOptions,
  type FrameSource,
  remoteError,
  signalOf,
} from './client.js'
import { FrameFeed } from './frame-feed.js'
import { messagePrefixByteLength, writePrefix } from './message-reader.js'
import { RequestMessages } from './requests.js'
import { RpcCall } from './rpc-call.js'
import { type Link, RpcConnection } from './rpc-connection.js'
import { RpcError, status, timeoutHeader } from './rpc-status.js'

/** Buffers of messages that have left, kept for those to come. */
const keptByteLengthMax = 32 * 1024 * 1024
/** Times a call is sent again that no server has looked at. */
const resendCountMax = 2

const kinds: Readonly<Record<number, ErrorKind>> = {
  [status.INVALID_ARGUMENT]: 'invalid',
  [status.OUT_OF_RANGE]: 'invalid',
  [status.NOT_FOUND]: 'not-found',
  [status.ALREADY_EXISTS]: 'already-exists',
  [status.FAILED_PRECONDITION]: 'precondition',
  [status.UNAUTHENTICATED]: 'unauthenticated',
  [status.PERMISSION_DENIED]: 'denied',
  [status.RESOURCE_EXHAUSTED]: 'exhausted',
  [status.CANCELLED]: 'cancelled',
  [status.DEADLINE_EXCEEDED]: 'deadline',
  [status.UNAVAILABLE]: 'unavailable',
  [status.DATA_LOSS]: 'data-loss',
}

const errorCodeKey = 'framesd-error'
const methods = ['Read', 'Write', 'Create', 'Delete', 'Exec', 'History', 'Version'] as const
type Method = (typeof methods)[number]

/** A call under way, and what listens to its signal; both are left at its end. */
interface OpenCall {
  readonly call: RpcCall
  readonly cancel: (() => void) | null
}

/** Connects on the first call, and again when the connection is lost. */
export function connectGrpc(address: string, options: ClientOptions): Client {
  return new GrpcClient(address, options)
}

class GrpcClient extends Client {
  readonly #connection: RpcConnection
  readonly #messages: RequestMessages
  readonly #messageByteLengthMax: number
  readonly #writeRequests = new WriteRequests()
  /** Made once: a block means the same on every connection. */
  readonly #headerBlocks: Readonly<Record<Method, Buffer>>

  constructor(address: string, options: ClientOptions) {
    super()
    this.#connection = new RpcConnection(address)
    this.#messages = new RequestMessages(options.session ?? {})
    this.#messageByteLengthMax = options.messageByteLengthMax ?? messageByteLengthMax
    this.#headerBlocks = Object.fromEntries(
      methods.map((method) => [method, headerBlock(method, this.#connection.authority)]),
    ) as Record<Method, Buffer>
  }

  async create(request: CreateRequest, options?: CallOptions): Promise<void> {
    await this.#unary('Create', encode(CreateRequestSchema, this.#messages.create(request)), options)
  }

  async delete(request: DeleteRequest, options?: CallOptions): Promise<void> {
    await this.#unary('Delete', encode(DeleteRequestSchema, this.#messages.delete(request)), options)
  }

  async executeWire(request: ExecuteRequest, options?: CallOptions): Promise<Uint8Array | null> {
    const message = this.#messages.executeBytes(request) ?? encode(ExecRequestSchema, this.#messages.execute(request))
    const reply = await this.#unary('Exec', message, options)
    if (reply.byteLength === 0) return null
    const { frame } = fromBinary(ExecResponseSchema, reply)
    return frame.length === 0 ? null : Buffer.concat(frame)
  }

  async version(options?: CallOptions): Promise<string> {
    return fromBinary(VersionResponseSchema, await this.#unary('Version', prefixed(Buffer.alloc(0)), options)).version
  }

  readWire(request: ReadRequest, options?: CallOptions): AsyncIterable<Uint8Array> {
    if (request.followMs !== undefined) {
      throw new FramesError('INVALID_ARGUMENT', 'followMs works over HTTP, and in the engine itself')
    }
    const message = this.#messages.readBytes(request) ?? encode(ReadRequestSchema, this.#messages.read(request))
    return this.#stream('Read', message, options)
  }

  historyWire(request: HistoryRequest, options?: CallOptions): AsyncIterable<Uint8Array> {
    return this.#stream('History', encode(HistoryRequestSchema, this.#messages.history(request)), options)
  }

  async writeWire(request: WriteRequest, frames: FrameSource, options?: CallOptions): Promise<WriteResult> {
    const head = encode(WriteRequestSchema, {
      $typeName: 'framesd.envelope.WriteRequest',
      request: this.#messages.write(request),
      frame: [],
    })
    return this.#called('Write', options, async (call) => {
      const reply = call.answer()
      const feed = new FrameFeed(reply, async (message) => {
        await call.send(message)
        if (message !== head) this.#writeRequests.giveBack(message)
      })
      await feed.send(head)
      await feed.sendAll(frames, (frame) => this.#writeRequests.make(frame))
      call.endRequest()
      const { message, trailers } = await reply
      return writeResult(message, trailers)
    })
  }

  close(): void {
    this.#connection.close()
  }

  /** Not by #called, nor #open, here and in #stream: of a small call, functions that wait for each other take more than all that they do. */
  async #unary(method: Method, request: Buffer, options?: CallOptions): Promise<Buffer> {
    const signal = signalOf(options)
    for (let resendCount = 0; ; resendCount++) {
      let open: OpenCall | null = null
      try {
        signal?.throwIfAborted()
        const link = this.#connection.link()
        const ready = link instanceof Promise ? await unlessAborted(link, signal) : link
        open = this.#openOn(ready, method, options, signal)
        open.call.request(request)
        return (await open.call.answer()).message
      } catch (error) {
        if (!mayResend(error, resendCount)) throw callError(error, signal)
      } finally {
        if (open !== null) leave(open, signal)
      }
    }
  }

  #stream(method: Method, request: Buffer, options?: CallOptions): AsyncGenerator<Uint8Array, void, undefined> {
    const signal = signalOf(options)
    let open: OpenCall | null = null
    let resendCount = 0
    const close = (): void => {
      if (open !== null) leave(open, signal)
      open = null
    }
    return new Steps<Uint8Array>({
      ready: () => open?.call.take() ?? null,
      next: async () => {
        for (;;) {
          try {
            if (open === null) {
              signal?.throwIfAborted()
              const link = this.#connection.link()
              const ready = link instanceof Promise ? await unlessAborted(link, signal) : link
              open = this.#openOn(ready, method, options, signal)
              open.call.request(request)
            }
            return await open.call.next()
          } catch (error) {
            close()
            if (!mayResend(error, resendCount++)) throw callError(error, signal)
          }
        }
      },
      close: async () => close(),
    })
  }

  /** A call from start to end. */
  async #called<T>(method: Method, options: CallOptions | undefined, work: (call: RpcCall) => Promise<T>): Promise<T> {
    const signal = signalOf(options)
    try {
      const open = await this.#open(method, options, signal)
      try {
        return await work(open.call)
      } finally {
        leave(open, signal)
      }
    } catch (error) {
      throw callError(error, signal)
    }
  }

  /** A call that ends with its signal; it must be left. */
  async #open(method: Method, options: CallOptions | undefined, signal: AbortSignal | undefined): Promise<OpenCall> {
    signal?.throwIfAborted()
    const link = this.#connection.link()
    return this.#openOn(link instanceof Promise ? await unlessAborted(link, signal) : link, method, options, signal)
  }

  #openOn(link: Link, method: Method, options: CallOptions | undefined, signal: AbortSignal | undefined): OpenCall {
    const timeoutMs = options?.timeoutMs
    const block = this.#headerBlocks[method]
    const call = new RpcCall(
      link,
      timeoutMs === undefined ? block : Buffer.concat([block, timeoutBlock(timeoutMs)]),
      this.#messageByteLengthMax,
    )
    if (signal === undefined) return { call, cancel: null }
    const cancel = (): void => call.cancel(new RpcError(status.CANCELLED, 'the call was cancelled'))
    signal.addEventListener('abort', cancel, { once: true })
    return { call, cancel }
  }
}

/** Ends a call where it has not ended. */
function leave({ call, cancel }: OpenCall, signal: AbortSignal | undefined): void {
  if (cancel !== null) signal?.removeEventListener('abort', cancel)
  call.leave()
}

function headerBlock(method: Method, authority: string): Buffer {
  return encodeHeaders([
    [':method', 'POST'],
    [':scheme', 'http'],
    [':path', `/pb.Frames/${method}`],
    [':authority', authority],
    ['te', 'trailers'],
    ['content-type', 'application/grpc'],
    ['user-agent', 'framesd-client'],
  ])
}

/** Stands behind the block of a call. */
function timeoutBlock(timeoutMs: number): Buffer {
  return encodeHeaders([['grpc-timeout', timeoutHeader(timeoutMs)]])
}

function mayResend(error: unknown, resendCount: number): boolean {
  return error instanceof RpcError && error.isUnprocessed && resendCount < resendCountMax
}

/** Rejects as soon as the signal is aborted, whatever becomes of the promise. */
async function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise
  let onAbort = () => {}
  const aborted = new Promise<never>((_resolve, reject) => {
    onAbort = () => reject(signal.reason)
    signal.addEventListener('abort', onAbort, { once: true })
  })
  try {
    return await Promise.race([promise, aborted])
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}

function writeResult(reply: Buffer, trailers: Headers): WriteResult {
  const { frames, rows } = fromBinary(WriteResposeSchema, reply)
  const skipped = trailers['num_skipped']
  const counts = { frameCount: Number(frames), rowCount: Number(rows) }
  return skipped === undefined ? counts : { ...counts, skippedCount: Number(skipped) }
}

/**
 * WriteRequests that hold a frame each, made by hand: one copy of the frame. Their buffers are used again, because fresh
 * memory costs more than the copy, and because V8 collects the whole heap when much memory outside of it comes and goes.
 */
class WriteRequests {
  readonly #free: Buffer[] = []
  #freeByteLength = 0

  /** With the prefix of gRPC. Give it back when it has left. */
  make(frame: Uint8Array): Buffer {
    const lengthBytes: number[] = []
    let rest = frame.byteLength
    for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) lengthBytes.push((rest % 0x80) | 0x80)
    lengthBytes.push(rest)
    const headByteLength = messagePrefixByteLength + 1 + lengthBytes.length
    const byteLength = headByteLength + frame.byteLength
    const message = this.#take(byteLength).subarray(0, byteLength)
    writePrefix(message, byteLength - messagePrefixByteLength)
    message[messagePrefixByteLength] = (WriteRequestSchema.field.frame.number << 3) | lengthDelimited
    message.set(lengthBytes, messagePrefixByteLength + 1)
    copyBytes(frame, message, headByteLength)
    return message
  }

  #take(byteLength: number): Buffer {
    const index = this.#free.findIndex((buffer) => buffer.byteLength >= byteLength)
    if (index < 0) return Buffer.allocUnsafeSlow(byteLength)
    const [buffer] = this.#free.splice(index, 1)
    this.#freeByteLength -= buffer.byteLength
    return buffer
  }

  giveBack(message: Buffer): void {
    const { buffer } = message
    if (this.#freeByteLength + buffer.byteLength > keptByteLengthMax) return
    this.#free.push(Buffer.from(buffer))
    this.#freeByteLength += buffer.byteLength
  }
}

/** The wire type of bytes and messages. */
const lengthDelimited = 2

/** A message with its prefix. */
function encode<Desc extends DescMessage>(schema: Desc, message: MessageShape<Desc>): Buffer {
  return prefixed(toBinary(schema, message))
}

function prefixed(bytes: Uint8Array): Buffer {
  const message = Buffer.allocUnsafe(messagePrefixByteLength + bytes.byteLength)
  writePrefix(message, bytes.byteLength)
  message.set(bytes, messagePrefixByteLength)
  return message
}

/** The error of a call as its caller gets it. */
function callError(error: unknown, signal: AbortSignal | undefined): unknown {
  if (signal?.aborted) return abortError(signal)
  // An error of the source of a write is its caller's own.
  if (!(error instanceof RpcError)) return error
  return remoteError(error.message, error.trailers[errorCodeKey], kinds[error.status] ?? 'internal')
}
