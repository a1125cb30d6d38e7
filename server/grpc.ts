// The verbs over gRPC. Messages pass as bytes in both directions: no column is decoded here, and a frame is copied once,
// by grpc-js when it writes the length before it.
import { constants, type Http2Server, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2'
import { createServer, type Server as NetServer } from 'node:net'
import { setDefaultHighWaterMark } from 'node:stream'
import { create, type DescMessage, type MessageInitShape, toBinary } from '@bufbuild/protobuf'
import { FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt'
import {
  Metadata,
  type MethodDefinition,
  Server,
  ServerCredentials,
  type ServerReadableStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type sendUnaryData,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js'
import { loadFileDescriptorSetFromBuffer } from '@grpc/proto-loader'
import { ReflectionService } from '@grpc/reflection'
import { FramesError } from '../engine/index.js'
import { ExecResponseSchema } from '../proto/gen/envelope_pb.js'
import {
  CreateResponseSchema,
  DeleteResponseSchema,
  Frames,
  file_frames,
  VersionResponseSchema,
  WriteResposeSchema,
} from '../proto/gen/frames_pb.js'
import { type ListenAddress, listenOn } from './address.js'
import type { Call, Origin, Verb } from './call.js'
import { FrameSender } from './frame-sender.js'
import { decodeInto, encodeInto, MessageBuffers, messagePrefixByteLength } from './grpc-messages.js'
import type { ServerLimits } from './limits.js'
import type { Log } from './log.js'
import type { Receipt, ReceiveBudget } from './receive-budget.js'
import type { Verbs } from './verbs.js'
import { errorCodeKey, wireForms, wireText } from './wire/errors.js'
import {
  createForm,
  decodeWriteMessage,
  deleteForm,
  executeForm,
  historyForm,
  type RequestForm,
  readForm,
  type WriteHead,
} from './wire/requests.js'

type UnaryCall = ServerUnaryCall<Buffer, Buffer>
type FrameSink = ServerWritableStream<Buffer, Uint8Array>
type WriteStream = ServerReadableStream<Buffer, Buffer>
type Respond = sendUnaryData<Uint8Array>

/** A status as grpc-js takes it in place of an error. */
interface StatusError extends Error {
  readonly code: number
  readonly details: string
  readonly metadata: Metadata
}

export interface GrpcServer {
  readonly port: number
  /** No new connection and no new call; those at work go on. */
  stopAccepting(): void
  /** Ends what is still open. */
  close(): void
}

/** Serves the verbs on an address. Rejects when the address cannot be had. */
export async function startGrpcServer(
  verbs: Verbs,
  address: ListenAddress,
  limits: ServerLimits,
  budget: ReceiveBudget,
  log: Log,
): Promise<GrpcServer> {
  // grpc-js reads ahead as many messages as its object streams take: 16 by default, of 128 MiB each. One waiting beside
  // the one at work is what a write may hold.
  setDefaultHighWaterMark(true, 1)
  const buffers = new MessageBuffers(limits.messageBuffersByteLengthMax)
  decodeInto(buffers)
  encodeInto(buffers)
  const server = new Server({
    'grpc.max_receive_message_length': limits.messageByteLengthMax,
    'grpc.max_send_message_length': limits.messageByteLengthMax,
    'grpc.max_concurrent_streams': limits.sessionStreamCountMax,
    'grpc-node.max_session_memory': limits.sessionMemoryMiB,
    'grpc.max_connection_idle_ms': limits.connectionIdleMs,
    'grpc.max_connection_age_ms': limits.connectionAgeMs,
    'grpc.keepalive_time_ms': limits.keepaliveMs,
    'grpc.keepalive_timeout_ms': limits.keepaliveAnswerMs,
    'grpc.enable_channelz': 0,
  })
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure())
  const http2Server = http2ServerOf(server)
  tuneSessions(http2Server, limits, log)
  addFramesService(server, verbs, limits, { receipts: new StreamReceipts(http2Server, budget, limits), buffers })
  addReflection(server)
  const listener = createServer({ noDelay: true }, (socket) => injector.injectConnection(socket))
  listener.maxConnections = limits.connectionCountMax
  listener.on('drop', () => log.warn({ connectionCountMax: limits.connectionCountMax }, 'gRPC connection refused'))
  const port = await listenOn(listener, address)
  return { port, ...stopping(listener, server) }
}

function stopping(listener: NetServer, server: Server): Pick<GrpcServer, 'stopAccepting' | 'close'> {
  return {
    stopAccepting() {
      listener.close()
      // Sends GOAWAY: clients finish what they have begun, and connect elsewhere for the rest.
      server.tryShutdown(() => {})
    },
    close() {
      listener.close()
      server.forceShutdown()
    },
  }
}

// ---- The service ----

const servicePath = '/pb.Frames/'

/** What has come in: how much waits, and where it stands. */
interface Incoming {
  readonly receipts: StreamReceipts
  readonly buffers: MessageBuffers
}

function addFramesService(server: Server, verbs: Verbs, limits: ServerLimits, incoming: Incoming): void {
  const handlers: UntypedServiceImplementation = {
    Create: unary(verbs, 'create', limits, createForm, async (request, call) => {
      await verbs.create(request, call)
      return encode(CreateResponseSchema, {})
    }),
    Delete: unary(verbs, 'delete', limits, deleteForm, async (request, call) => {
      await verbs.delete(request, call)
      return encode(DeleteResponseSchema, {})
    }),
    Exec: unary(verbs, 'execute', limits, executeForm, async (request, call) => {
      const frame = await verbs.execute(request, call)
      return encode(ExecResponseSchema, { frame: frame === null ? [] : [frame] })
    }),
    Version: (call: UnaryCall, respond: Respond) => {
      verbs.begin('version', originOf(call)).end()
      respond(null, encode(VersionResponseSchema, { version: verbs.config.version }))
    },
    Read: serverStream(verbs, 'read', limits, readForm, (request, call) => verbs.readBatches(request, call)),
    History: serverStream(verbs, 'history', limits, historyForm, (request, call) => one(verbs.history(request, call))),
    Write: (stream: WriteStream, respond: Respond) => {
      void serveWrite(verbs, stream, incoming, respond)
    },
  }
  server.addService(bytesDefinition(), handlers)
}

/** Every method of the contract, with messages left as bytes. */
function bytesDefinition(): Record<string, MethodDefinition<Buffer, Uint8Array>> {
  const asBuffer = (bytes: Uint8Array): Buffer =>
    Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const methods = Frames.methods.map((method): [string, MethodDefinition<Buffer, Uint8Array>] => [
    method.name,
    {
      path: servicePath + method.name,
      requestStream: method.methodKind === 'client_streaming',
      responseStream: method.methodKind === 'server_streaming',
      requestSerialize: asBuffer,
      requestDeserialize: (bytes) => bytes,
      responseSerialize: asBuffer,
      responseDeserialize: (bytes) => bytes,
    },
  ])
  return Object.fromEntries(methods)
}

function unary<Request>(
  verbs: Verbs,
  verb: Verb,
  limits: ServerLimits,
  form: RequestForm<Request>,
  serve: (request: Request, call: Call) => Promise<Uint8Array>,
) {
  return (rpc: UnaryCall, respond: Respond): void => {
    const call = beginCall(verbs, verb, rpc)
    serveUnary().catch((error: unknown) => respond(statusOf(call.fail(error))))

    async function serveUnary(): Promise<void> {
      const reply = await serve(form.fromBytes(controlBytes(rpc.request, limits)), call)
      call.end()
      respond(null, reply)
    }
  }
}

function serverStream<Request>(
  verbs: Verbs,
  verb: Verb,
  limits: ServerLimits,
  form: RequestForm<Request>,
  serve: (request: Request, call: Call) => AsyncIterable<readonly Uint8Array[]>,
) {
  return (rpc: FrameSink): void => {
    const call = beginCall(verbs, verb, rpc)
    serveStream().catch((error: unknown) => rpc.emit('error', statusOf(call.fail(error))))

    async function serveStream(): Promise<void> {
      const request = form.fromBytes(controlBytes(rpc.request, limits))
      const sender = new FrameSender((message) => sendFrame(rpc, message, call.signal))
      try {
        for await (const batch of serve(request, call)) await sender.sendAll(batch)
      } finally {
        // What came before an error is sent before it.
        await sender.flush()
      }
      call.end()
      rpc.end()
    }
  }
}

async function* one<T>(messages: AsyncIterable<T>): AsyncGenerator<[T], void, undefined> {
  for await (const message of messages) yield [message]
}

/** Writes one message; resolves when HTTP/2's flow control has let it go, so a slow reader slows the engine. */
async function sendFrame(rpc: FrameSink, frame: Uint8Array, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted()
  let onSent = (_error?: Error | null): void => undefined
  // Nothing is queued before it, so grpc-js copies the bytes within this very call.
  rpc.write(frame, (error?: Error | null) => onSent(error))
  // A small one counts as sent already.
  if (rpc.writableLength === 0) return
  await new Promise<void>((resolve, reject) => {
    const onAbort = () => reject(signal.reason)
    signal.addEventListener('abort', onAbort, { once: true })
    onSent = (error) => {
      signal.removeEventListener('abort', onAbort)
      if (error) reject(error)
      else resolve()
    }
  })
}

async function serveWrite(
  verbs: Verbs,
  stream: WriteStream,
  { receipts, buffers }: Incoming,
  respond: Respond,
): Promise<void> {
  const call = beginCall(verbs, 'write', stream)
  const receipt = receipts.of(stream.metadata, call)
  stream.on('cancelled', () => receipt.close())
  try {
    const messages = writeMessages(stream, receipt, buffers)
    const first = await messages.next()
    if (first.done === true) throw new FramesError('MALFORMED_REQUEST', 'EOF')
    if (!isHead(first.value)) {
      throw new FramesError('MALFORMED_REQUEST', "stream didn't start with write request")
    }
    const result = await verbs.write(first.value, laterFrames(first.value, messages, call), call)
    call.end()
    const reply = { frames: BigInt(result.frameCount), rows: BigInt(result.rowCount) }
    respond(null, encode(WriteResposeSchema, reply), skippedTrailer(result.skippedCount))
  } catch (error) {
    respond(statusOf(call.fail(error)))
  }
}

type WriteMessage = WriteHead | Uint8Array | null

/** A message may be looked at until the next one is asked for. */
async function* writeMessages(
  stream: WriteStream,
  receipt: Receipt,
  buffers: MessageBuffers,
): AsyncGenerator<WriteMessage, void, undefined> {
  for await (const bytes of stream) {
    yield decodeWriteMessage(bytes)
    buffers.giveBack(bytes)
    receipt.take(messagePrefixByteLength + bytes.byteLength)
  }
}

/**
 * A Node client that cancels ends its stream before it resets it, some milliseconds later: until then its write looks
 * whole. Where a part of a write must not pass for all of it, the end is believed after this time.
 */
const overwriteEndGraceMs = 20

async function* laterFrames(
  head: WriteHead,
  messages: AsyncIterable<WriteMessage>,
  call: Call,
): AsyncGenerator<Uint8Array, void, undefined> {
  for await (const message of messages) {
    if (message === null || isHead(message)) throw new FramesError('MALFORMED_REQUEST', 'nil frame')
    yield message
  }
  if (head.request.saveMode === 'overwriteTable') {
    await new Promise((resolve) => setTimeout(resolve, overwriteEndGraceMs))
    call.signal.throwIfAborted()
  }
}

function isHead(message: WriteMessage): message is WriteHead {
  return message !== null && !(message instanceof Uint8Array)
}

function skippedTrailer(skippedCount: number | undefined): Metadata {
  const trailer = new Metadata()
  if (skippedCount !== undefined) trailer.set('num_skipped', String(skippedCount))
  return trailer
}

/** What every call of grpc-js offers to know of its end. */
interface Endable {
  on(event: 'cancelled', listener: () => void): unknown
  getDeadline(): Date | number
  getPeer(): string
}

function originOf(rpc: Endable): Origin {
  return { protocol: 'grpc', address: rpc.getPeer() }
}

function beginCall(verbs: Verbs, verb: Verb, rpc: Endable): Call {
  const call = verbs.begin(verb, originOf(rpc))
  rpc.on('cancelled', () => {
    // grpc-js says so of each call once its last bytes are on their way.
    if (call.hasEnded) return
    const isLate = Number(rpc.getDeadline()) <= Date.now()
    call.abort(
      isLate
        ? new FramesError('DEADLINE_EXCEEDED', 'the deadline of the call has passed')
        : new FramesError('CANCELLED', 'the client ended the call'),
    )
  })
  return call
}

function controlBytes(bytes: Buffer, limits: ServerLimits): Buffer {
  if (bytes.byteLength <= limits.controlByteLengthMax) return bytes
  const sizes = `${bytes.byteLength} bytes is above the limit of ${limits.controlByteLengthMax}`
  throw new FramesError('REQUEST_TOO_LARGE', `a request of ${sizes}`)
}

function statusOf(error: FramesError): StatusError {
  const details = wireText(error)
  const metadata = new Metadata()
  metadata.set(errorCodeKey, error.code)
  return Object.assign(new Error(details), { code: wireForms[error.kind].grpc, details, metadata })
}

function encode<Desc extends DescMessage>(schema: Desc, fields: MessageInitShape<Desc>): Uint8Array {
  return toBinary(schema, create(schema, fields))
}

/** Server reflection (v1 and v1alpha), from the descriptor inside the generated code: no file is needed at run time. */
function addReflection(server: Server): void {
  const descriptors = create(FileDescriptorSetSchema, { file: [file_frames.proto] })
  const contract = loadFileDescriptorSetFromBuffer(Buffer.from(toBinary(FileDescriptorSetSchema, descriptors)))
  new ReflectionService(contract).addToServer(server)
}

// ---- HTTP/2 sessions ----

/**
 * The HTTP/2 server inside a grpc-js server, before its first connection. grpc-js has no option for its receive windows,
 * which stay at 64 KiB and halve the speed of uploads; the server itself takes them as settings of new sessions.
 */
function http2ServerOf(server: Server): Http2Server {
  const servers: unknown = server['http2Servers']
  if (!(servers instanceof Map)) throw new Error('grpc-js keeps its HTTP/2 servers elsewhere now')
  const [http2Server] = servers.keys()
  return http2Server
}

function tuneSessions(http2Server: Http2Server, limits: ServerLimits, log: Log): void {
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
    sessionCount++
    prepareNext()
    const handshake = setTimeout(() => session.destroy(), limits.handshakeMs)
    session.once('remoteSettings', () => clearTimeout(handshake))
    limitResets(session, limits, log)
    session.once('close', () => {
      clearTimeout(handshake)
      sessionCount--
      prepareNext()
    })
  })
  http2Server.on('sessionError', (error: Error) => log.debug({ reason: error.message }, 'HTTP/2 session ended'))
}

/**
 * Ends a session that opens streams only to break them off: each costs the server more than the client. nghttp2 has such
 * a limit too, but leaves the socket open.
 */
function limitResets(session: ServerHttp2Session, limits: ServerLimits, log: Log): void {
  let tokens = limits.resetBurstMax
  let countedMs = performance.now()
  session.on('stream', (stream) => {
    stream.once('aborted', () => {
      const nowMs = performance.now()
      const regained = ((nowMs - countedMs) / 1000) * limits.resetPerSecondMax
      tokens = Math.min(limits.resetBurstMax, tokens + regained) - 1
      countedMs = nowMs
      if (tokens >= 0 || session.destroyed) return
      log.warn({ peer: session.socket.remoteAddress }, 'HTTP/2 session ended: too many calls broken off')
      session.destroy(new Error('too many calls broken off'), constants.NGHTTP2_ENHANCE_YOUR_CALM)
    })
  })
}

/** The header by which a call of grpc-js is found to belong to its HTTP/2 stream; what a client puts there is lost. */
const streamNumberHeader = 'framesd-stream'

interface OpenStream {
  readonly receipt: Receipt
  call: Call | null
}

/** Counts what each stream has sent, in front of grpc-js, which puts messages together without a bound over streams. */
class StreamReceipts {
  readonly #streams = new Map<string, OpenStream>()
  #streamNumber = 0

  constructor(http2Server: Http2Server, budget: ReceiveBudget, limits: ServerLimits) {
    http2Server.prependListener('stream', (stream, headers) => {
      const name = String(++this.#streamNumber)
      headers[streamNumberHeader] = name
      const open: OpenStream = { receipt: budget.open(() => refuse(stream, open.call)), call: null }
      this.#streams.set(name, open)
      stream.on('data', (chunk: Buffer) => open.receipt.add(chunk.byteLength))
      stream.once('close', () => {
        this.#streams.delete(name)
        open.receipt.close()
      })
      stream.setTimeout(limits.stalledCallMs, () => stream.close(constants.NGHTTP2_CANCEL))
    })
  }

  /** The receipt of the stream that carries a call. */
  of(metadata: Metadata, call: Call): Receipt {
    const open = this.#streams.get(String(metadata.get(streamNumberHeader)[0]))
    if (open === undefined) return { add() {}, take() {}, close() {} }
    open.call = call
    return open.receipt
  }
}

function refuse(stream: ServerHttp2Stream, call: Call | null): void {
  if (call === null) stream.close(constants.NGHTTP2_ENHANCE_YOUR_CALM)
  else call.abort(new FramesError('MEMORY_BUDGET', 'too many bytes of all clients are waiting to be taken'))
}
