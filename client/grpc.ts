// The client over gRPC. Messages that hold frames pass as bytes.
import { type DescMessage, fromBinary, type MessageShape, toBinary } from '@bufbuild/protobuf'
import {
  type ClientReadableStream,
  type ClientWritableStream,
  credentials,
  Metadata,
  Client as RpcClient,
  type ServiceError,
  type StatusObject,
  status,
} from '@grpc/grpc-js'
import type { CallOptions, WriteResult } from '../engine/engine-api.js'
import { type ErrorKind, FramesError } from '../engine/errors.js'
import { messageByteLengthMax } from '../engine/limits.js'
import { copyBytes } from '../engine/memory/copy.js'
import type {
  CreateRequest,
  DeleteRequest,
  ExecuteRequest,
  HistoryRequest,
  ReadRequest,
  WriteRequest,
} from '../engine/requests.js'
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
import { abortError, Client, type ClientOptions, type FrameSource, remoteError } from './client.js'
import { FrameFeed } from './frame-feed.js'
import { RequestMessages } from './requests.js'

/** grpc-js leaves receive windows at 64 KiB; at 8 MiB large reads arrive twice as fast. */
const windowByteLength = 8 * 1024 * 1024
/** Buffers of messages that have left, kept for those to come. */
const keptByteLengthMax = 32 * 1024 * 1024

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
const servicePath = '/pb.Frames/'
const identity = (bytes: Buffer): Buffer => bytes

/** Connects on the first call, and again when the connection is lost. */
export function connectGrpc(host: string, options: ClientOptions): Client {
  const byteLengthMax = options.messageByteLengthMax ?? messageByteLengthMax
  const rpc = new RpcClient(host, credentials.createInsecure(), {
    'grpc.max_receive_message_length': byteLengthMax,
    'grpc.max_send_message_length': byteLengthMax,
    'grpc-node.flow_control_window': windowByteLength,
    // A call sent again by itself would write its frames twice.
    'grpc.enable_retries': 0,
    'grpc.use_local_subchannel_pool': 1,
  })
  return new GrpcClient(rpc, new RequestMessages(options.session ?? {}))
}

class GrpcClient extends Client {
  readonly #rpc: RpcClient
  readonly #messages: RequestMessages
  readonly #writeRequests = new WriteRequests()

  constructor(rpc: RpcClient, messages: RequestMessages) {
    super()
    this.#rpc = rpc
    this.#messages = messages
  }

  async create(request: CreateRequest, options?: CallOptions): Promise<void> {
    await this.#unary('Create', encode(CreateRequestSchema, this.#messages.create(request)), options)
  }

  async delete(request: DeleteRequest, options?: CallOptions): Promise<void> {
    await this.#unary('Delete', encode(DeleteRequestSchema, this.#messages.delete(request)), options)
  }

  async executeWire(request: ExecuteRequest, options?: CallOptions): Promise<Uint8Array | null> {
    const reply = await this.#unary('Exec', encode(ExecRequestSchema, this.#messages.execute(request)), options)
    const { frame } = fromBinary(ExecResponseSchema, reply)
    return frame.length === 0 ? null : Buffer.concat(frame)
  }

  async version(options?: CallOptions): Promise<string> {
    return fromBinary(VersionResponseSchema, await this.#unary('Version', Buffer.alloc(0), options)).version
  }

  readWire(request: ReadRequest, options?: CallOptions): AsyncIterable<Uint8Array> {
    if (request.followMs !== undefined) {
      throw new FramesError('INVALID_ARGUMENT', 'followMs works over HTTP, and in the engine itself')
    }
    return this.#stream('Read', encode(ReadRequestSchema, this.#messages.read(request)), options)
  }

  historyWire(request: HistoryRequest, options?: CallOptions): AsyncIterable<Uint8Array> {
    return this.#stream('History', encode(HistoryRequestSchema, this.#messages.history(request)), options)
  }

  async writeWire(request: WriteRequest, frames: FrameSource, options?: CallOptions): Promise<WriteResult> {
    const signal = options?.signal
    if (signal?.aborted) throw abortError(signal)
    const head = encode(WriteRequestSchema, {
      $typeName: 'framesd.envelope.WriteRequest',
      request: this.#messages.write(request),
      frame: [],
    })
    const { sink, reply } = this.#openWrite()
    const stop = onAbort(signal, () => giveUp(sink))
    try {
      const feed = new FrameFeed(reply, async (message) => {
        await sent(sink, message)
        if (message !== head) this.#writeRequests.giveBack(message)
      })
      await feed.send(head)
      await feed.sendAll(frames, (frame) => this.#writeRequests.make(frame))
      sink.end()
      return await reply
    } catch (error) {
      giveUp(sink)
      throw signal?.aborted ? abortError(signal) : error
    } finally {
      stop()
    }
  }

  close(): void {
    this.#rpc.close()
  }

  #unary(method: string, request: Buffer, options?: CallOptions): Promise<Buffer> {
    const signal = options?.signal
    return new Promise((resolve, reject) => {
      if (signal?.aborted) {
        reject(abortError(signal))
        return
      }
      const call = this.#rpc.makeUnaryRequest(servicePath + method, identity, identity, request, (error, reply) => {
        stop()
        if (error !== null) reject(signal?.aborted ? abortError(signal) : errorOf(error))
        else resolve(reply ?? Buffer.alloc(0))
      })
      const stop = onAbort(signal, () => call.cancel())
    })
  }

  async *#stream(method: string, request: Buffer, options?: CallOptions): AsyncGenerator<Uint8Array, void, undefined> {
    const signal = options?.signal
    if (signal?.aborted) throw abortError(signal)
    const call: ClientReadableStream<Buffer> = this.#rpc.makeServerStreamRequest(
      servicePath + method,
      identity,
      identity,
      request,
    )
    const stop = onAbort(signal, () => call.cancel())
    // The loop below throws errors on. This one is for what grpc-js reports after the loop has been left.
    call.on('error', () => {})
    try {
      for await (const frame of call) yield frame
    } catch (error) {
      throw signal?.aborted ? abortError(signal) : errorOf(error)
    } finally {
      stop()
      call.cancel()
    }
  }

  #openWrite(): { sink: ClientWritableStream<Buffer>; reply: Promise<WriteResult> } {
    const { promise: reply, resolve, reject } = deferred<WriteResult>()
    let message: Buffer | undefined
    const sink = this.#rpc.makeClientStreamRequest(`${servicePath}Write`, identity, identity, (error, value) => {
      if (error !== null) reject(errorOf(error))
      else message = value
    })
    // The trailing metadata come after the reply. Errors of the stream are those of the reply.
    sink.on('error', () => {})
    sink.on('status', (ended: StatusObject) => {
      if (message !== undefined) resolve(writeResult(message, ended.metadata))
    })
    return { sink, reply }
  }
}

function writeResult(reply: Buffer, trailer: Metadata): WriteResult {
  const { frames, rows } = fromBinary(WriteResposeSchema, reply)
  const [skipped] = trailer.get('num_skipped')
  const counts = { frameCount: Number(frames), rowCount: Number(rows) }
  return skipped === undefined ? counts : { ...counts, skippedCount: Number(skipped) }
}

/** Resolves when HTTP/2's flow control has let the message go. */
function sent(sink: ClientWritableStream<Buffer>, message: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    sink.write(message, (error?: Error | null) => (error ? reject(errorOf(error)) : resolve()))
  })
}

/**
 * Ends a write that is not whole. grpc-js ends the stream before it resets it, which to a server looks like the end of a
 * whole write; an empty message in front of that end says that it is none.
 */
function giveUp(sink: ClientWritableStream<Buffer>): void {
  if (!sink.writableEnded) sink.write(Buffer.alloc(0))
  sink.cancel()
}

/**
 * WriteRequests that hold a frame each, made by hand: one copy of the frame. Their buffers are used again, because fresh
 * memory costs more than the copy, and because V8 collects the whole heap when much memory outside of it comes and goes.
 */
class WriteRequests {
  readonly #free: Buffer[] = []
  #freeByteLength = 0

  /** Give it back when it has left. */
  make(frame: Uint8Array): Buffer {
    const lengthBytes: number[] = []
    let rest = frame.byteLength
    for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) lengthBytes.push((rest % 0x80) | 0x80)
    lengthBytes.push(rest)
    const headByteLength = 1 + lengthBytes.length
    const byteLength = headByteLength + frame.byteLength
    const message = this.#take(byteLength).subarray(0, byteLength)
    message[0] = (WriteRequestSchema.field.frame.number << 3) | lengthDelimited
    message.set(lengthBytes, 1)
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

function encode<Desc extends DescMessage>(schema: Desc, message: MessageShape<Desc>): Buffer {
  return asBuffer(toBinary(schema, message))
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

/** Calls back when the signal is aborted; the function it returns stops that. */
function onAbort(signal: AbortSignal | undefined, abort: () => void): () => void {
  signal?.addEventListener('abort', abort, { once: true })
  return () => signal?.removeEventListener('abort', abort)
}

function deferred<T>() {
  let resolve: (value: T) => void = () => {}
  let reject: (error: unknown) => void = () => {}
  const promise = new Promise<T>((onResolve, onReject) => {
    resolve = onResolve
    reject = onReject
  })
  return { promise, resolve, reject }
}

function errorOf(error: unknown): FramesError {
  if (!isServiceError(error)) return remoteError(String(error), null, 'internal')
  const [code] = error.metadata instanceof Metadata ? error.metadata.get(errorCodeKey) : []
  return remoteError(error.details || error.message, code, kinds[error.code] ?? 'internal')
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && 'code' in error && 'details' in error
}
