// The verbs over HTTP/1.1: the routes, bodies and texts that the published clients know.
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { posix } from 'node:path'
import { create, toBinary } from '@bufbuild/protobuf'
import {
  FramesError,
  frameMessage,
  messagePrefixByteLength,
  type ReadFormat,
  type ReadRequest,
  splitMessages,
} from '../engine/index.js'
import { type Frame, FrameSchema } from '../proto/gen/frames_pb.js'
import { type ListenAddress, listenOn } from './address.js'
import type { Call, Origin, Verb } from './call.js'
import { shownConfig } from './config.js'
import {
  AnswerFrames,
  checkFields,
  emptyFields,
  parseQuery,
  parseSearch,
  type Range,
  readOf,
  seriesOf,
  tablesOf,
  type Target,
  valuesOf,
} from './grafana.js'
import { BodyReceipt, bodyChunks, discardBody, readBody } from './http-body.js'
import type { Budgets, ServerLimits } from './limits.js'
import type { Log } from './log.js'
import type { SendBudget } from './send-budget.js'
import type { Verbs } from './verbs.js'
import { errorCodeKey, wireForms, wireText } from './wire/errors.js'
import {
  createForm,
  decodeWriteHead,
  deleteForm,
  executeForm,
  historyForm,
  type RequestForm,
  readForm,
  type WriteHead,
} from './wire/requests.js'

export interface HttpServer {
  readonly port: number
  /** No new connection and no new call; those at work go on. */
  stopAccepting(): void
  /** Ends what is still open. */
  close(): void
}

/** Serves the verbs on an address. Rejects when the address cannot be had. */
export async function startHttpServer(
  verbs: Verbs,
  address: ListenAddress,
  limits: ServerLimits,
  budgets: Budgets,
  log: Log,
): Promise<HttpServer> {
  const routes = new Routes(verbs, limits, budgets, log)
  const server = createServer(
    {
      maxHeaderSize: limits.headerByteLengthMax,
      headersTimeout: limits.handshakeMs,
      // Node would end a long write after this time, however busy it is; bodies have bounds of their own.
      requestTimeout: 0,
      keepAliveTimeout: limits.httpKeepAliveMs,
      connectionsCheckingInterval: Math.min(limits.handshakeMs, 5000),
      noDelay: true,
    },
    (request, response) => void routes.answer(request, response),
  )
  server.maxConnections = limits.connectionCountMax
  server.setTimeout(limits.stalledCallMs)
  server.on('drop', () => log.warn({ connectionCountMax: limits.connectionCountMax }, 'HTTP connection refused'))
  const port = await listenOn(server, address)
  return {
    port,
    stopAccepting: () => void server.close(),
    close: () => {
      server.close()
      server.closeAllConnections()
    },
  }
}

/** One call over HTTP: what came, where the answer goes, and what the log says about it. */
interface Exchange {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  readonly call: Call
}

interface Route {
  /** Absent: any. */
  readonly method?: 'POST'
  readonly answer: (request: IncomingMessage, response: ServerResponse) => Promise<void>
}

const plainText = 'text/plain; charset=utf-8'
const json = 'application/json'

/** Formats that a read may be answered in, when the request's Accept header names the type itself. */
const mediaTypes = {
  arrow: 'application/vnd.apache.arrow.stream',
  json,
  ndjson: 'application/x-ndjson',
} as const satisfies Record<Exclude<ReadFormat, 'wire'>, string>

class Routes {
  readonly #verbs: Verbs
  readonly #limits: ServerLimits
  readonly #budgets: Budgets
  readonly #log: Log
  readonly #routes: ReadonlyMap<string, Route>

  constructor(verbs: Verbs, limits: ServerLimits, budgets: Budgets, log: Log) {
    this.#verbs = verbs
    this.#limits = limits
    this.#budgets = budgets
    this.#log = log
    const state = this.#document(() => ({ state: 'running' }))
    const version = this.#document(() => ({ version: verbs.config.version }))
    this.#routes = new Map<string, Route>([
      ['/', state],
      ['/_/status', state],
      ['/_/config', this.#document(() => shownConfig(verbs.config))],
      ['/version', { method: 'POST', ...version }],
      ['/read', { method: 'POST', ...this.#calls('read', (exchange) => this.#read(exchange)) }],
      ['/history', { method: 'POST', ...this.#calls('history', (exchange) => this.#history(exchange)) }],
      ['/write', { method: 'POST', ...this.#calls('write', (exchange) => this.#write(exchange)) }],
      ['/create', { method: 'POST', ...this.#calls('create', (exchange) => this.#create(exchange)) }],
      ['/delete', { method: 'POST', ...this.#calls('delete', (exchange) => this.#delete(exchange)) }],
      ['/exec', { method: 'POST', ...this.#calls('execute', (exchange) => this.#execute(exchange)) }],
      ['/query', { method: 'POST', ...this.#calls('query', (exchange) => this.#query(exchange)) }],
      ['/search', { method: 'POST', ...this.#calls('search', (exchange) => this.#search(exchange)) }],
    ])
  }

  async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      await this.#answerRoute(request, response)
    } catch (error) {
      // Each route answers its own errors. What arrives here is a connection that broke, or a defect in answering.
      this.#log.debug({ err: error }, 'HTTP exchange broke off')
      response.destroy()
    }
  }

  async #answerRoute(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = cleanPath(request.url ?? '/')
    const route = this.#routes.get(path)
    if (route === undefined) {
      await this.#reply(request, response, 404, `unknown path - ${JSON.stringify(path)}`)
    } else if (route.method !== undefined && request.method !== route.method) {
      response.setHeader('Allow', route.method)
      await this.#reply(request, response, 405, 'unsupported method')
    } else if (!isPlainBody(request)) {
      await this.#reply(request, response, 415, 'unsupported content encoding - send the body as it is')
    } else {
      await route.answer(request, response)
    }
  }

  /** A route that answers with a JSON document, whatever is asked. */
  #document(document: () => object): Route {
    return {
      answer: (request, response) => this.#reply(request, response, 200, JSON.stringify(document()), json),
    }
  }

  /** A route that serves a call. */
  #calls(verb: Verb, serve: (exchange: Exchange) => Promise<void>): Route {
    return {
      answer: async (request, response) => {
        const { remoteAddress, remotePort } = request.socket
        const origin: Origin = { protocol: 'http', address: `${remoteAddress}:${remotePort}` }
        const call = this.#verbs.begin(verb, origin, request.headers.authorization ?? null)
        // 'close' follows every response; before the call has ended it means that the client is gone.
        response.on('close', () => call.abort(new FramesError('CANCELLED', 'the client closed the connection')))
        try {
          await serve({ request, response, call })
          call.end()
        } catch (error) {
          call.fail(error)
          throw error
        }
      },
    }
  }

  // ---- The verbs ----

  async #create(exchange: Exchange): Promise<void> {
    const plain = await this.#plainRequest(exchange, createForm)
    if (plain !== null) await this.#answerOk(exchange, () => this.#verbs.create(plain, exchange.call))
  }

  async #delete(exchange: Exchange): Promise<void> {
    const plain = await this.#plainRequest(exchange, deleteForm)
    if (plain !== null) await this.#answerOk(exchange, () => this.#verbs.delete(plain, exchange.call))
  }

  async #answerOk(exchange: Exchange, serve: () => Promise<void>): Promise<void> {
    try {
      await serve()
    } catch (error) {
      return this.#replyError(exchange, error, (text) => [500, text])
    }
    await this.#reply(exchange.request, exchange.response, 200, 'OK')
  }

  async #execute(exchange: Exchange): Promise<void> {
    const { request, response, call } = exchange
    const plain = await this.#plainRequest(exchange, executeForm)
    if (plain === null) return
    let frame: Uint8Array | null
    try {
      frame = await this.#verbs.execute(plain, call)
    } catch (error) {
      const prefix = "can't exec: "
      return this.#replyError(exchange, error, (text) => [500, text.startsWith(prefix) ? text : prefix + text])
    }
    const base64 = frame === null ? '' : Buffer.from(frame).toString('base64')
    await this.#reply(request, response, 200, JSON.stringify({ frame: base64 }))
  }

  async #read(exchange: Exchange): Promise<void> {
    const plain = await this.#plainRequest(exchange, readForm)
    if (plain === null) return
    const format = formatOf(plain, exchange.request.headers.accept ?? '')
    const messages = this.#verbs.read(plain, format, exchange.call, { borrows: true })
    if (format !== 'wire') return this.#streamBody(exchange, messages, mediaTypes[format])
    await this.#streamFrames(exchange, messages, plain.followMs !== undefined)
  }

  async #history(exchange: Exchange): Promise<void> {
    const plain = await this.#plainRequest(exchange, historyForm)
    if (plain !== null) await this.#streamFrames(exchange, this.#verbs.history(plain, exchange.call))
  }

  /** 200 and the frames. A failure, also one of the set-up, is one more Frame with nothing but its text. */
  async #streamFrames({ response, call }: Exchange, frames: AsyncIterable<Uint8Array>, mayWait = false): Promise<void> {
    response.writeHead(200, { 'Content-Type': plainText })
    if (mayWait) this.#beginFollowing(response)
    try {
      for await (const frame of frames) {
        if (mayWait) response.setTimeout(this.#limits.stalledCallMs)
        await send(response, frameMessage(frame), call, this.#budgets.sent)
        if (mayWait) response.setTimeout(0)
      }
    } catch (error) {
      const shown = call.fail(error)
      if (response.destroyed) return
      response.addTrailers({ [errorCodeKey]: shown.code })
      response.end(frameMessage(toBinary(FrameSchema, create(FrameSchema, { error: wireText(shown) }))))
      return
    }
    response.end()
  }

  /**
   * Who follows a stream may wait for the first frame, but should know at once that it is followed. The silence is the
   * stream's, for as long as the caller said, and ends nothing; a client that takes no bytes still is one that stalls, and
   * one whose machine is gone is found by TCP.
   */
  #beginFollowing(response: ServerResponse): void {
    response.flushHeaders()
    response.setTimeout(0)
    response.socket?.setKeepAlive(true, keepAliveProbeMs)
  }

  /** A body of another format has no place for an error: before its first byte that is a status, later a broken body. */
  async #streamBody(exchange: Exchange, chunks: AsyncIterable<Uint8Array>, mediaType: string): Promise<void> {
    const { response, call } = exchange
    try {
      for await (const chunk of chunks) {
        if (!response.headersSent) response.writeHead(200, { 'Content-Type': mediaType })
        // A copy: the chunk's memory is the engine's again once the next one is asked for.
        await send(response, Buffer.from(chunk), call, this.#budgets.sent)
      }
    } catch (error) {
      if (!response.headersSent) {
        return this.#replyError(exchange, error, (text, shown) => [wireForms[shown.kind].http, text])
      }
      call.fail(error)
      response.destroy()
      return
    }
    if (!response.headersSent) response.writeHead(200, { 'Content-Type': mediaType })
    response.end()
  }

  async #write(exchange: Exchange): Promise<void> {
    const { request, response, call } = exchange
    const { messageByteLengthMax, bodyIdleMs, controlBodyMs } = this.#limits
    const receipt = this.#receiptOf(exchange)
    const messages = splitMessages(bodyChunks(request, receipt, bodyIdleMs), messageByteLengthMax)
    const headTimer = setTimeout(() => request.destroy(), controlBodyMs)
    let head: WriteHead
    try {
      head = await firstMessage(messages, receipt)
    } catch (error) {
      await release(messages, call)
      return this.#replyError(exchange, error, (text) => [400, `bad write request - ${text}`])
    } finally {
      clearTimeout(headTimer)
    }
    try {
      const result = await this.#verbs.write(head, laterMessages(messages, receipt), call)
      const counts = { num_frames: result.frameCount, num_rows: result.rowCount, num_skipped: result.skippedCount }
      await this.#reply(request, response, 200, JSON.stringify(counts), json)
    } catch (error) {
      await release(messages, call)
      await this.#replyError(exchange, error, (text, shown) => {
        if (shown.code === 'UNKNOWN_SAVE_MODE') return [400, text]
        if (text.startsWith(decodeError)) return [500, text]
        return [500, `${shown.code === 'MALFORMED_FRAME' ? decodeError : 'write error: '}${text}`]
      })
    }
  }

  // ---- Grafana ----

  async #query(exchange: Exchange): Promise<void> {
    const query = await this.#plainRequest(exchange, { fromJson: parseQuery })
    if (query === null) return
    await this.#answerGrafana(exchange, async () => {
      const answers: string[] = []
      const decoder = new AnswerFrames()
      for (const target of query.targets) {
        if (target.backend === '') continue
        const frames = await this.#framesOf(exchange, target, query.range, decoder)
        answers.push(...(target.isTable ? tablesOf(target, frames) : seriesOf(target, frames)))
      }
      return answers
    })
  }

  async #search(exchange: Exchange): Promise<void> {
    const target = await this.#plainRequest(exchange, { fromJson: parseSearch })
    if (target === null) return
    await this.#answerGrafana(exchange, async () => {
      if (target.backend === '' || target.table === '' || target.fields.length === 0) return []
      return valuesOf(target, await this.#framesOf(exchange, target, null, new AnswerFrames()))
    })
  }

  async #framesOf(exchange: Exchange, target: Target, range: Range | null, decoder: AnswerFrames): Promise<Frame[]> {
    const read = async (request: ReadRequest): Promise<Frame[]> => {
      const frames: Frame[] = []
      for await (const bytes of this.#verbs.read(request, 'wire', exchange.call)) frames.push(decoder.decode(bytes))
      return frames
    }
    const { columns, ...all } = readOf(target, range, this.#verbs.backendTypeOf(target.backend))
    let frames: Frame[]
    try {
      frames = await read(columns === undefined ? all : { ...all, columns })
    } catch (error) {
      const isOfColumn = error instanceof FramesError && error.code === 'COLUMN_NOT_FOUND'
      if (isOfColumn && columns !== undefined) checkFields(target.fields, await read(all))
      throw error
    }
    const empty = emptyFields(target, frames)
    // What is known by no record is told apart from what these records have not: by what they have.
    if (empty.length > 0) checkFields(empty, columns === undefined ? frames : await read(all))
    return frames
  }

  async #answerGrafana(exchange: Exchange, answer: () => Promise<readonly string[]>): Promise<void> {
    let parts: readonly string[]
    try {
      parts = await answer()
    } catch (error) {
      return this.#replyError(exchange, error, (text) => [500, `Error querying: ${text}`])
    }
    await this.#reply(exchange.request, exchange.response, 200, `[${parts.join(',')}]`, json)
  }

  // ---- Bodies and replies ----

  /** The request in a JSON body; null when the body was no such request and that has been answered. */
  async #plainRequest<Plain>(exchange: Exchange, form: Pick<RequestForm<Plain>, 'fromJson'>): Promise<Plain | null> {
    const { controlByteLengthMax, controlBodyMs } = this.#limits
    const receipt = this.#receiptOf(exchange)
    try {
      return form.fromJson(await readBody(exchange.request, receipt, controlByteLengthMax, controlBodyMs))
    } catch (error) {
      await this.#replyError(exchange, error, (text, shown) => [
        shown.code === 'REQUEST_TOO_LARGE' ? 413 : 400,
        `bad request - ${text}`,
      ])
      return null
    } finally {
      receipt.close()
    }
  }

  #receiptOf({ request, response }: Exchange): BodyReceipt {
    const receipt = new BodyReceipt(request, this.#budgets.received)
    response.on('close', () => receipt.close())
    return receipt
  }

  /** Ends a call with an error, and answers with the status and text that its route has for it. */
  async #replyError(
    { request, response, call }: Exchange,
    error: unknown,
    form: (text: string, shown: FramesError) => readonly [status: number, text: string],
  ): Promise<void> {
    const shown = call.fail(error)
    const [status, text] = form(wireText(shown), shown)
    if (!response.headersSent) response.setHeader(errorCodeKey, shown.code)
    await this.#reply(request, response, status, text)
  }

  /**
   * Answers once the whole body has come: a client that is still sending would miss the answer otherwise. A body that is too
   * large need not come at all: its answer goes out at once, and the connection ends when the client has stopped sending.
   */
  async #reply(
    request: IncomingMessage,
    response: ServerResponse,
    status: number,
    text: string,
    contentType = plainText,
  ): Promise<void> {
    const body = Buffer.from(text, 'utf8')
    const headers = { 'Content-Type': contentType, 'Content-Length': body.byteLength }
    if (status === 413) {
      response.writeHead(status, { ...headers, Connection: 'close' })
      response.write(body)
      await discardBody(request, this.#limits.bodyIdleMs)
      response.end()
      return
    }
    await discardBody(request, this.#limits.bodyIdleMs)
    if (response.destroyed) return
    response.writeHead(status, headers)
    response.end(body)
  }
}

/** The request target as a cleaned file path: no query, no double or trailing slash. */
function cleanPath(target: string): string {
  const queryAt = target.indexOf('?')
  const path = posix.normalize(queryAt < 0 ? target : target.slice(0, queryAt))
  return path.length > 1 && path.endsWith('/') ? path.slice(0, -1) : path
}

/** The Python client labels its chunked write as `Content-Encoding: chunked`; that is no encoding. */
function isPlainBody(request: IncomingMessage): boolean {
  const encoding = (request.headers['content-encoding'] ?? '').trim().toLowerCase()
  return encoding === '' || encoding === 'identity' || encoding === 'chunked'
}

/** Frames, unless both the request and its Accept header ask for another format by name. */
function formatOf(request: ReadRequest, accept: string): ReadFormat {
  const accepted = accept.split(',').map((entry) => entry.split(';', 1)[0].trim().toLowerCase())
  if (request.dataFormat === 'arrow' && accepted.includes(mediaTypes.arrow)) return 'arrow'
  if (request.rowLayout === true && accepted.includes(mediaTypes.ndjson)) return 'ndjson'
  if (request.rowLayout === true && accepted.includes(mediaTypes.json)) return 'json'
  return 'wire'
}

/**
 * Writes a chunk; resolves when the socket has taken it, so a slow reader slows the engine. A socket that takes no more is
 * the client's doing: it may be known here before the connection is told to be closed.
 */
function send(response: ServerResponse, chunk: Buffer, call: Call, unread: SendBudget): Promise<void> {
  const { signal } = call
  return new Promise((resolve, reject) => {
    const stopWaiting = unread.wait(chunk.byteLength, (error) => {
      call.abort(error)
      response.destroy()
    })
    const onAbort = () => reject(signal.reason)
    if (signal.aborted) onAbort()
    signal.addEventListener('abort', onAbort, { once: true })
    response.write(chunk, (error) => {
      signal.removeEventListener('abort', onAbort)
      stopWaiting()
      if (!error) return resolve()
      const gone = new FramesError('CANCELLED', 'the client closed the connection', { cause: error })
      // Newer Node.js tells it here before 'close'.
      call.abort(gone)
      reject(gone)
    })
  })
}

const decodeError = 'decode error: '
/** A silent connection is probed after this time. */
const keepAliveProbeMs = 60_000

async function firstMessage(messages: AsyncIterator<Uint8Array, void>, receipt: BodyReceipt): Promise<WriteHead> {
  const first = await messages.next()
  if (first.done === true) throw new FramesError('MALFORMED_REQUEST', 'the body is empty')
  receipt.take(messagePrefixByteLength + first.value.byteLength)
  return decodeWriteHead(first.value)
}

/** Lets go of a body, so that its rest can be discarded. After an abort it is gone, and may never answer. */
async function release(messages: AsyncGenerator<Uint8Array>, call: Call): Promise<void> {
  if (!call.isAborted) await messages.return(undefined)
}

/** The messages after the first, with the text that bytes which are no message are answered with. */
async function* laterMessages(
  messages: AsyncIterable<Uint8Array>,
  receipt: BodyReceipt,
): AsyncGenerator<Uint8Array, void, undefined> {
  try {
    for await (const message of messages) {
      yield message
      receipt.take(messagePrefixByteLength + message.byteLength)
    }
  } catch (error) {
    const isOfBytes = error instanceof FramesError && error.code !== 'MEMORY_BUDGET'
    throw isOfBytes ? error.prefixed(decodeError.slice(0, -2)) : error
  }
}
