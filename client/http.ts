// The client over HTTP: JSON requests, frames with their length before them.
import { once } from 'node:events'
import { type ClientRequest, Agent as HttpAgent, type IncomingMessage, request as requestHttp } from 'node:http'
import { Agent as HttpsAgent, request as requestHttps } from 'node:https'
import { fromBinary, toBinary } from '@bufbuild/protobuf'
import { frameMessage, splitMessages } from '../engine/codec/message-stream.js'
import type { WriteResult } from '../engine/engine-api.js'
import { type ErrorKind, FramesError } from '../engine/errors.js'
import { messageByteLengthMax } from '../engine/limits.js'
import type {
  CreateRequest,
  DeleteRequest,
  ExecuteRequest,
  HistoryRequest,
  ReadRequest,
  WriteRequest,
} from '../engine/requests.js'
import { InitialWriteRequestSchema } from '../proto/gen/envelope_pb.js'
import {
  CreateRequestSchema,
  DeleteRequestSchema,
  ExecRequestSchema,
  FrameSchema,
  HistoryRequestSchema,
  ReadRequestSchema,
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
import { jsonOf } from './json.js'
import { RequestMessages } from './requests.js'

const errorCodeKey = 'framesd-error'

const kinds: Readonly<Record<number, ErrorKind>> = {
  400: 'invalid',
  401: 'unauthenticated',
  403: 'denied',
  404: 'not-found',
  413: 'exhausted',
  503: 'unavailable',
}

/** Nothing is sent before the first call. */
export function connectHttp(address: URL, options: ClientOptions): Client {
  return new HttpClient(address, options)
}

class HttpClient extends Client {
  readonly #address: URL
  readonly #agent: HttpAgent | HttpsAgent
  readonly #messages: RequestMessages
  readonly #byteLengthMax: number
  #isClosed = false

  constructor(address: URL, options: ClientOptions) {
    super()
    this.#address = address
    this.#agent =
      address.protocol === 'https:' ? new HttpsAgent({ keepAlive: true }) : new HttpAgent({ keepAlive: true })
    this.#messages = new RequestMessages(options.session ?? {})
    this.#byteLengthMax = options.messageByteLengthMax ?? messageByteLengthMax
  }

  async create(request: CreateRequest, options?: CallOptions): Promise<void> {
    await this.#callText('/create', jsonOf(CreateRequestSchema, this.#messages.create(request)), options)
  }

  async delete(request: DeleteRequest, options?: CallOptions): Promise<void> {
    await this.#callText('/delete', jsonOf(DeleteRequestSchema, this.#messages.delete(request)), options)
  }

  async executeWire(request: ExecuteRequest, options?: CallOptions): Promise<Uint8Array | null> {
    const json = jsonOf(ExecRequestSchema, this.#messages.execute(request))
    const reply: { frame: string } = JSON.parse(await this.#callText('/exec', json, options))
    return reply.frame === '' ? null : Buffer.from(reply.frame, 'base64')
  }

  async version(options?: CallOptions): Promise<string> {
    const reply: { version: string } = JSON.parse(await this.#callText('/version', '{}', options))
    return reply.version
  }

  readWire(request: ReadRequest, options?: CallOptions): AsyncIterable<Uint8Array> {
    const json = jsonOf(ReadRequestSchema, this.#messages.read(request))
    const { followMs } = request
    const followed = followMs === undefined ? json : `{"follow":${followMs / 1000},${json.slice(1)}`
    return this.#callFrames('/read', followed, options)
  }

  historyWire(request: HistoryRequest, options?: CallOptions): AsyncIterable<Uint8Array> {
    return this.#callFrames('/history', jsonOf(HistoryRequestSchema, this.#messages.history(request)), options)
  }

  async writeWire(request: WriteRequest, frames: FrameSource, options?: CallOptions): Promise<WriteResult> {
    const signal = signalOf(options)
    const call = this.#open('/write', signal)
    const reply = answerOf(call, signal)
      .then(textOf)
      .then(writeResult)
      .catch((error: unknown) => {
        throw errorOf(error, signal)
      })
    const feed = new FrameFeed(reply, (message) => sent(call, message))
    try {
      await feed.send(frameMessage(toBinary(InitialWriteRequestSchema, this.#messages.write(request))))
      await feed.sendAll(frames, frameMessage)
      call.end()
      return await reply
    } catch (error) {
      call.destroy()
      // What is not of the transport is the source's own error.
      throw signal?.aborted ? abortError(signal) : error
    }
  }

  close(): void {
    this.#isClosed = true
    this.#agent.destroy()
  }

  async #callText(path: string, json: string, options?: CallOptions): Promise<string> {
    const signal = signalOf(options)
    const call = this.#open(path, signal)
    call.setHeader('Content-Type', 'application/json')
    call.end(json)
    try {
      return await textOf(await answerOf(call, signal))
    } catch (error) {
      throw errorOf(error, signal)
    }
  }

  async *#callFrames(path: string, json: string, options?: CallOptions): AsyncGenerator<Uint8Array, void, undefined> {
    const signal = signalOf(options)
    const call = this.#open(path, signal)
    call.setHeader('Content-Type', 'application/json')
    call.end(json)
    try {
      const answer = await answerOf(call, signal)
      let errorText: string | null = null
      for await (const frame of splitMessages(answer, this.#byteLengthMax)) {
        errorText ??= errorTextOf(frame)
        if (errorText === null) yield frame
      }
      // Its code comes behind the body.
      if (errorText !== null) throw remoteError(errorText, answer.trailers[errorCodeKey], 'internal')
    } catch (error) {
      throw errorOf(error, signal)
    } finally {
      call.destroy()
    }
  }

  #open(path: string, signal: AbortSignal | undefined): ClientRequest {
    if (this.#isClosed) throw new FramesError('CANCELLED', 'the client was closed')
    if (signal?.aborted) throw abortError(signal)
    const { hostname, port, pathname, protocol } = this.#address
    const base = pathname.endsWith('/') ? pathname.slice(0, -1) : pathname
    const open = protocol === 'https:' ? requestHttps : requestHttp
    return open({
      host: hostname.startsWith('[') ? hostname.slice(1, -1) : hostname,
      port: port === '' ? (protocol === 'https:' ? 443 : 80) : Number(port),
      path: base + path,
      method: 'POST',
      agent: this.#agent,
      ...(signal === undefined ? {} : { signal }),
    })
  }
}

/** The answer of a call, with its body still to come. Throws the error the server answered with instead. */
async function answerOf(call: ClientRequest, signal: AbortSignal | undefined): Promise<IncomingMessage> {
  let answer: IncomingMessage
  try {
    const [first]: IncomingMessage[] = await once(call, 'response')
    answer = first
  } catch (error) {
    throw errorOf(error, signal)
  }
  // A connection that breaks later shows in the body.
  call.on('error', () => {})
  if (answer.statusCode === 200) return answer
  const kind = kinds[answer.statusCode ?? 0] ?? 'internal'
  throw remoteError(await textOf(answer), answer.headers[errorCodeKey], kind)
}

async function textOf(answer: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of answer) chunks.push(chunk)
  return Buffer.concat(chunks).toString('utf8')
}

function writeResult(text: string): WriteResult {
  const reply: { num_frames: number; num_rows: number; num_skipped?: number } = JSON.parse(text)
  const counts = { frameCount: reply.num_frames, rowCount: reply.num_rows }
  return reply.num_skipped === undefined ? counts : { ...counts, skippedCount: reply.num_skipped }
}

/** Resolves when the socket has taken the message. */
function sent(call: ClientRequest, message: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    call.write(message, (error) => (error ? reject(errorOf(error, undefined)) : resolve()))
  })
}

/** The first byte of a Frame with nothing but its `error`: field 4, length-delimited. */
const errorTag = 0x22

function errorTextOf(frame: Uint8Array): string | null {
  if (frame[0] !== errorTag) return null
  return fromBinary(FrameSchema, frame).error || null
}

function errorOf(error: unknown, signal: AbortSignal | undefined): FramesError {
  if (signal?.aborted) return abortError(signal)
  if (error instanceof FramesError) return error
  const reason = error instanceof Error ? error.message : String(error)
  // The usual reason why an answer is no HTTP/1.1.
  const hint = reason.startsWith('Parse Error') ? '; the gRPC port is addressed as grpc://host:port' : ''
  return new FramesError('SERVER_UNREACHABLE', `the connection failed: ${reason}${hint}`, { cause: error })
}
