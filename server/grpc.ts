// The verbs over gRPC. Messages pass as bytes in both directions: no column is decoded here, and a frame is copied once,
// behind the length that precedes it.
import { createServer } from 'node:net'
import { create, type DescMessage, type MessageInitShape, toBinary } from '@bufbuild/protobuf'
import { status } from '@grpc/grpc-js'
import { FramesError, ListedMessages, sourceOf, type StepSource, type WireBatch } from '../engine/index.js'
import { ExecResponseSchema } from '../proto/gen/envelope_pb.js'
import {
  CreateResponseSchema,
  DeleteResponseSchema,
  VersionResponseSchema,
  WriteResposeSchema,
} from '../proto/gen/frames_pb.js'
import { encodeHeaders, type Headers } from '../proto/http2/hpack.js'
import type { Http2Stream } from '../proto/http2/stream.js'
import { type ListenAddress, listenOn } from './address.js'
import type { Call, Verb } from './call.js'
import { Expansions } from './expansions.js'
import { FrameSender } from './frame-sender.js'
import { MessageBuffers } from './grpc-messages.js'
import { Http2Sessions } from './http2-sessions.js'
import type { Budgets, ServerLimits } from './limits.js'
import type { Log } from './log.js'
import { reflectionMethods } from './reflection.js'
import { type RequestBounds, RequestMessages, SingleRequest } from './rpc-requests.js'
import { type RpcStatus, RpcStream, statusOnly } from './rpc-stream.js'
import type { SendBudget } from './send-budget.js'
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
  budgets: Budgets,
  log: Log,
): Promise<GrpcServer> {
  const bounds = { limits, budget: budgets.received, expansions: new Expansions(limits.expansionCountMax) }
  const methods = new Map([...framesMethods(verbs, bounds), ...reflectionMethods(bounds)])
  const sessions = new Http2Sessions(limits, log, (stream, headers, peer) => {
    serveCall(methods, stream, headers, peer, budgets.sent)
  })
  const listener = createServer({ noDelay: true }, (socket) => sessions.add(socket))
  listener.maxConnections = limits.connectionCountMax
  listener.on('drop', () => log.warn({ connectionCountMax: limits.connectionCountMax }, 'gRPC connection refused'))
  const port = await listenOn(listener, address)
  return {
    port,
    stopAccepting() {
      listener.close()
      // Clients finish what they have begun, and connect elsewhere for the rest.
      sessions.leave()
    },
    close() {
      listener.close()
      sessions.close()
    },
  }
}

// ---- The service ----

/** Serves the calls of one method; it reads the request. */
export type Method = (rpc: RpcStream) => void

const notGrpc = encodeHeaders([[':status', '415']])

function serveCall(
  methods: ReadonlyMap<string, Method>,
  stream: Http2Stream,
  headers: Headers,
  peer: string,
  unread: SendBudget,
): void {
  if (headers['content-type']?.startsWith('application/grpc') !== true) {
    stream.sendHeaders(notGrpc, true)
    return
  }
  const rpc = new RpcStream(stream, headers, peer, unread)
  if (rpc.hasEnded) return
  const path = headers[':path']
  const method = methods.get(path)
  if (method !== undefined) method(rpc)
  else rpc.fail(statusOnly(status.UNIMPLEMENTED, `The server does not implement the method ${path}`))
}

function framesMethods(verbs: Verbs, bounds: RequestBounds): ReadonlyMap<string, Method> {
  const buffers = new MessageBuffers(bounds.limits.messageBuffersByteLengthMax)
  const methods: Readonly<Record<string, Method>> = {
    Create: unary(verbs, 'create', bounds, createForm, async (request, call) => {
      await verbs.create(request, call)
      return encode(CreateResponseSchema, {})
    }),
    Delete: unary(verbs, 'delete', bounds, deleteForm, async (request, call) => {
      await verbs.delete(request, call)
      return encode(DeleteResponseSchema, {})
    }),
    Exec: unary(verbs, 'execute', bounds, executeForm, async (request, call) => {
      const frame = await verbs.execute(request, call)
      return frame === null ? noBytes : encode(ExecResponseSchema, { frame: [frame] })
    }),
    Version: version(verbs, bounds),
    Read: serverStream(verbs, 'read', { ...bounds, buffers }, readForm, (request, call) =>
      verbs.readBatches(request, call),
    ),
    History: serverStream(verbs, 'history', { ...bounds, buffers }, historyForm, (request, call) =>
      sourceOf(one(verbs.history(request, call))),
    ),
    Write: (rpc) => {
      void serveWrite(verbs, rpc, new RequestMessages(rpc, bounds, buffers), buffers)
    },
  }
  return new Map(Object.entries(methods).map(([name, method]) => [`/pb.Frames/${name}`, method]))
}

const noBytes = new Uint8Array(0)

function version(verbs: Verbs, bounds: RequestBounds): Method {
  const reply = encode(VersionResponseSchema, { version: verbs.config.version })
  const serve = (request: Buffer | FramesError, rpc: RpcStream): void => {
    const call = beginCall(verbs, 'version', rpc)
    if (request instanceof FramesError) {
      rpc.fail(statusOf(call.fail(request)))
      return
    }
    call.end()
    rpc.answer(reply)
  }
  return (rpc) => rpc.read(new SingleRequest(rpc, bounds, serve))
}

function unary<Request>(
  verbs: Verbs,
  verb: Verb,
  bounds: RequestBounds,
  form: RequestForm<Request>,
  answer: (request: Request, call: Call) => Promise<Uint8Array>,
): Method {
  const { messageByteLengthMax } = bounds.limits
  const serve = async (bytes: Buffer | FramesError, rpc: RpcStream): Promise<void> => {
    const call = beginCall(verbs, verb, rpc)
    try {
      if (bytes instanceof FramesError) throw bytes
      const reply = await answer(form.fromBytes(bytes), call)
      refuseTooLarge(reply.byteLength, messageByteLengthMax)
      call.end()
      rpc.answer(reply)
    } catch (error) {
      rpc.fail(statusOf(call.fail(error)))
    }
  }
  return (rpc) => rpc.read(new SingleRequest(rpc, bounds, (bytes) => void serve(bytes, rpc)))
}

function serverStream<Request>(
  verbs: Verbs,
  verb: Verb,
  bounds: RequestBounds & { readonly buffers: MessageBuffers },
  form: RequestForm<Request>,
  answer: (request: Request, call: Call) => StepSource<WireBatch>,
): Method {
  const { messageByteLengthMax } = bounds.limits
  const serve = async (bytes: Buffer | FramesError, rpc: RpcStream): Promise<void> => {
    const call = beginCall(verbs, verb, rpc)
    const sender = new FrameSender(rpc, bounds.buffers)
    try {
      if (bytes instanceof FramesError) throw bytes
      const batches = answer(form.fromBytes(bytes), call)
      try {
        for (let isEnd = false; !isEnd; ) {
          const batch = await batches.next()
          if (batch === null) break
          isEnd = batch.isLast
          refuseTooLarge(batch.messages.byteLengthMax, messageByteLengthMax)
          const room = sender.sendAll(batch.messages, isEnd)
          if (room !== null) await room
          call.throwIfAborted()
        }
        sender.flush()
        call.end()
        rpc.finish()
        // All layers below are closed when the answer has left.
        await new Promise<void>((resolve) => {
          process.nextTick(resolve)
        })
      } finally {
        await batches.close()
      }
    } catch (error) {
      // What came before an error is sent before it.
      sender.flush()
      rpc.fail(statusOf(call.fail(error)))
    }
  }
  return (rpc) => rpc.read(new SingleRequest(rpc, bounds, (bytes) => void serve(bytes, rpc)))
}

async function* one(messages: AsyncIterable<Uint8Array>): AsyncGenerator<WireBatch, void, undefined> {
  for await (const message of messages) yield { messages: new ListedMessages([message]), isLast: false }
}

function refuseTooLarge(byteLength: number, byteLengthMax: number): void {
  if (byteLength <= byteLengthMax) return
  throw new FramesError('FRAME_TOO_LARGE', `an answer of ${byteLength} bytes is above the limit of ${byteLengthMax}`)
}

async function serveWrite(
  verbs: Verbs,
  rpc: RpcStream,
  incoming: RequestMessages,
  buffers: MessageBuffers,
): Promise<void> {
  const call = beginCall(verbs, 'write', rpc)
  rpc.read(incoming)
  try {
    const messages = writeMessages(incoming, buffers)
    const first = await messages.next()
    if (first.done === true) throw new FramesError('MALFORMED_REQUEST', 'EOF')
    if (!isHead(first.value)) {
      throw new FramesError('MALFORMED_REQUEST', "stream didn't start with write request")
    }
    const result = await verbs.write(first.value, laterFrames(first.value, messages, call), call)
    call.end()
    const reply = { frames: BigInt(result.frameCount), rows: BigInt(result.rowCount) }
    rpc.answer(encode(WriteResposeSchema, reply), trailersOf(result.skippedCount))
  } catch (error) {
    rpc.fail(statusOf(call.fail(error)))
  }
}

type WriteMessage = WriteHead | Uint8Array | null

/** A message may be looked at until the next one is asked for. */
async function* writeMessages(
  incoming: RequestMessages,
  buffers: MessageBuffers,
): AsyncGenerator<WriteMessage, void, undefined> {
  for (;;) {
    const bytes = await incoming.next()
    if (bytes === null) return
    yield decodeWriteMessage(bytes)
    buffers.giveBack(bytes)
    incoming.forget()
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
    call.throwIfAborted()
  }
}

function isHead(message: WriteMessage): message is WriteHead {
  return message !== null && !(message instanceof Uint8Array)
}

function trailersOf(skippedCount: number | undefined): Record<string, string> {
  return skippedCount === undefined ? {} : { num_skipped: String(skippedCount) }
}

function beginCall(verbs: Verbs, verb: Verb, rpc: RpcStream): Call {
  const call = verbs.begin(verb, { protocol: 'grpc', address: rpc.peer })
  rpc.onBroken((error) => {
    call.abort(error)
    // Whatever the engine is still at: the client waits for no longer.
    if (error.kind === 'deadline') rpc.fail(statusOf(error))
  })
  return call
}

function statusOf(error: FramesError): RpcStatus {
  return { code: wireForms[error.kind].grpc, details: wireText(error), trailers: { [errorCodeKey]: error.code } }
}

function encode<Desc extends DescMessage>(schema: Desc, fields: MessageInitShape<Desc>): Uint8Array {
  return toBinary(schema, create(schema, fields))
}
