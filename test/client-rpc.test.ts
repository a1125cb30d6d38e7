// The client's gRPC against servers that misbehave: bare HTTP/2, so that a test says every byte.
import { AsyncLocalStorage } from 'node:async_hooks'
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { createServer as createHttpServer } from 'node:http'
import {
  constants,
  createServer,
  type Http2Server,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2'
import { type AddressInfo, createServer as createTcpServer, type Socket } from 'node:net'
import { fileURLToPath } from 'node:url'
import { create, toBinary } from '@bufbuild/protobuf'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type Client, connect } from '../dist/client/index.js'
import { MessageReader } from '../dist/client/message-reader.js'
import { timeoutHeader } from '../dist/client/rpc-status.js'
import { VersionResponseSchema, WriteResposeSchema } from '../dist/proto/gen/frames_pb.js'
import { eventually } from './fake-engine.js'
import { SeededRandom, seed } from './seeded-random.js'
import { startFixture } from './server-fixture.js'
import { failureOf } from './failures.js'

const MiB = 1024 * 1024
const table = { backend: 'kv', table: 't' }

/** A message with its prefix. */
function framed(bytes: Uint8Array, flag = 0): Buffer {
  const message = Buffer.alloc(5 + bytes.byteLength)
  message[0] = flag
  message.writeUInt32BE(bytes.byteLength, 1)
  message.set(bytes, 5)
  return message
}

const versionAnswer = framed(toBinary(VersionResponseSchema, create(VersionResponseSchema, { version: 'v1' })))
const writeAnswer = framed(toBinary(WriteResposeSchema, create(WriteResposeSchema, { frames: 1n, rows: 2n })))

async function collect(frames: AsyncIterable<Uint8Array>): Promise<Buffer[]> {
  const collected: Buffer[] = []
  for await (const frame of frames) collected.push(Buffer.from(frame))
  return collected
}

type Serve = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => void

let server: Http2Server
let client: Client
let serve: Serve
const sessions = new Set<ServerHttp2Session>()
const sockets = new Set<Socket>()
let sessionCount = 0

async function listening(target: {
  listen(port: number, host: string): unknown
  address(): unknown
}): Promise<AddressInfo> {
  target.listen(0, '127.0.0.1')
  await once(target as Http2Server, 'listening')
  return target.address() as AddressInfo
}

beforeEach(async () => {
  sessions.clear()
  sessionCount = 0
  sockets.clear()
  server = createServer()
  server.on('connection', (socket: Socket) => sockets.add(socket))
  server.on('session', (session) => {
    sessionCount++
    sessions.add(session)
    session.on('error', () => {})
    session.once('close', () => sessions.delete(session))
  })
  server.on('stream', (stream, headers) => {
    stream.on('error', () => {})
    serve(stream, headers)
  })
  const { port } = await listening(server)
  client = connect(`127.0.0.1:${port}`)
})

afterEach(async () => {
  client.close()
  for (const session of sessions) session.destroy()
  await new Promise((resolve) => server.close(resolve))
})

const grpcHeaders = { ':status': 200, 'content-type': 'application/grpc+proto' }

/** Answers with messages and trailers, as a server of gRPC does. */
function answer(
  stream: ServerHttp2Stream,
  chunks: readonly Buffer[],
  trailers: OutgoingHttpHeaders = { 'grpc-status': '0' },
): void {
  stream.respond(grpcHeaders, { waitForTrailers: true })
  stream.on('wantTrailers', () => stream.sendTrailers(trailers))
  for (const chunk of chunks) stream.write(chunk)
  stream.end()
}

describe('a call of gRPC', () => {
  test('sends the headers that the protocol asks for, and one whole message', async () => {
    let asked: IncomingHttpHeaders = {}
    const chunks: Buffer[] = []
    serve = (stream, headers) => {
      asked = headers
      stream.on('data', (chunk: Buffer) => chunks.push(chunk))
      stream.on('end', () => answer(stream, [versionAnswer]))
    }
    expect(await client.version({ timeoutMs: 5000 })).toBe('v1')
    expect(asked).toMatchObject({
      ':method': 'POST',
      ':path': '/pb.Frames/Version',
      ':scheme': 'http',
      te: 'trailers',
      'content-type': 'application/grpc',
      'grpc-timeout': '5000m',
    })
    expect(Buffer.concat(chunks)).toEqual(Buffer.alloc(5))
  })

  test("keeps its caller's context", async () => {
    const storage = new AsyncLocalStorage<string>()
    serve = (stream) => answer(stream, [versionAnswer])
    const inside = async (name: string): Promise<[string, string | undefined]> => [
      await client.version(),
      storage.getStore() === name ? name : undefined,
    ]
    const names = ['first', 'second', 'third']
    const found = await Promise.all(names.map((name) => storage.run(name, () => inside(name))))
    expect(found).toEqual(names.map((name) => ['v1', name]))
  })

  test('takes messages however they are cut', async () => {
    const messages = [Buffer.from('one'), Buffer.alloc(0), Buffer.alloc(300_000, 7), Buffer.from('four')]
    const bytes = Buffer.concat(messages.map((message) => framed(message)))
    for (const pieceByteLength of [1, 2, 5, 7, 1000, 1_000_000]) {
      const cut: Buffer[] = []
      const end = pieceByteLength < 10 ? 40 : bytes.byteLength
      for (let at = 0; at < end; at += pieceByteLength)
        cut.push(bytes.subarray(at, Math.min(end, at + pieceByteLength)))
      if (end < bytes.byteLength) cut.push(bytes.subarray(end))
      serve = (stream) => answer(stream, cut)
      const read = await collect(client.readWire(table))
      expect(read.map((message) => message.byteLength)).toEqual([3, 0, 300_000, 4])
      expect(read.every((message, i) => message.equals(messages[i]))).toBe(true)
    }
  })

  test('that ends well ends without a reset: a server takes many of them for an attack', async () => {
    const resetCodes = new Map<number | undefined, number>()
    serve = (stream) => {
      stream.once('close', () => resetCodes.set(stream.rstCode, (resetCodes.get(stream.rstCode) ?? 0) + 1))
      stream.resume()
      stream.once('end', () => answer(stream, [versionAnswer]))
    }
    for (let call = 0; call < 1500; call++) {
      if (call % 2 === 0) await client.version()
      else await collect(client.readWire(table))
    }
    await eventually('all streams have closed', () => [...resetCodes.values()].reduce((sum, n) => sum + n, 0) === 1500)
    expect([...resetCodes.keys()]).toEqual([constants.NGHTTP2_NO_ERROR])
    expect(sessionCount).toBe(1)
  })

  test('keeps its messages: a later one does not change those before it', async () => {
    const messages = Array.from({ length: 40 }, (_, i) => Buffer.alloc(70_000, i))
    serve = (stream) =>
      answer(
        stream,
        messages.map((message) => framed(message)),
      )
    const kept: Uint8Array[] = []
    for await (const message of client.readWire(table)) kept.push(message)
    expect(kept.every((message, i) => message.every((byte) => byte === i))).toBe(true)
  })

  test('fails with the status of the trailers, and their text', async () => {
    const escaped = 'no table %22t%C3%BCr%22: 100%25'
    serve = (stream) =>
      answer(stream, [framed(Buffer.from('a'))], {
        'grpc-status': '5',
        'grpc-message': escaped,
        'framesd-error': 'STREAM_NOT_FOUND',
      })
    let count = 0
    const error = await failureOf(
      (async () => {
        for await (const _frame of client.readWire(table)) count++
      })(),
    )
    expect([count, error.kind, error.message]).toEqual([1, 'not-found', 'no table "tür": 100%'])
  })

  test('fails with the status of headers that are all of the answer', async () => {
    serve = (stream) =>
      stream.respond({ ...grpcHeaders, 'grpc-status': '16', 'grpc-message': 'a 50%' }, { endStream: true })
    const error = await failureOf(client.create(table))
    expect([error.code, error.message]).toEqual(['UNAUTHENTICATED', 'a 50%'])
    expect((await failureOf(collect(client.readWire(table)))).code).toBe('UNAUTHENTICATED')
    expect((await failureOf(client.writeWire(table, [Buffer.alloc(3)]))).code).toBe('UNAUTHENTICATED')
  })

  test('fails when the answer is none of gRPC', async () => {
    const answers: [OutgoingHttpHeaders, string][] = [
      [{ ':status': 404 }, 'internal'],
      [{ ':status': 401 }, 'unauthenticated'],
      [{ ':status': 503 }, 'unavailable'],
      [{ ':status': 200, 'content-type': 'text/html' }, 'internal'],
      [{ ...grpcHeaders, 'grpc-encoding': 'gzip' }, 'internal'],
    ]
    for (const [headers, kind] of answers) {
      serve = (stream) => {
        stream.respond(headers)
        stream.end('<html>')
      }
      expect((await failureOf(client.create(table))).kind).toBe(kind)
    }
  })

  test('fails when the answer breaks the rules', async () => {
    const withoutStatus: Serve = (stream) => {
      stream.respond(grpcHeaders)
      stream.end(versionAnswer)
    }
    const rules: [Serve, RegExp][] = [
      [withoutStatus, /without a status/],
      [(stream) => answer(stream, []), /no message/],
      [(stream) => answer(stream, [versionAnswer, versionAnswer]), /several messages/],
      [(stream) => answer(stream, [versionAnswer.subarray(0, 6)]), /inside a message/],
      [(stream) => answer(stream, [versionAnswer.subarray(0, 3)]), /inside a message/],
      [(stream) => answer(stream, [framed(Buffer.from('x'), 1)]), /compressed/],
      [(stream) => answer(stream, [versionAnswer], { 'grpc-status': 'fine' }), /failed/],
    ]
    for (const [wrong, text] of rules) {
      serve = wrong
      const error = await failureOf(client.version())
      expect(error.kind).toBe('internal')
      expect(error.message === '' ? 'failed' : error.message).toMatch(text)
    }
    // The connection is still good.
    serve = (stream) => answer(stream, [versionAnswer])
    expect(await client.version()).toBe('v1')
    expect(sessionCount).toBe(1)
  })

  test('refuses a message above its limit before it is there', async () => {
    client.close()
    client = connect(`127.0.0.1:${(server.address() as AddressInfo).port}`, { messageByteLengthMax: MiB })
    let isReset = false
    serve = (stream) => {
      stream.on('close', () => {
        isReset = true
      })
      stream.respond(grpcHeaders)
      stream.write(Buffer.from([0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3]))
    }
    const error = await failureOf(collect(client.readWire(table)))
    expect([error.kind, error.message]).toEqual([
      'exhausted',
      'the server sent a message that is too large: 4294967295 bytes is above the limit of 1048576',
    ])
    await eventually('the server is told', () => isReset)
  })
})

describe('a call that the server breaks off', () => {
  test('fails with the kind that the code of HTTP/2 stands for', async () => {
    const codes: [number, string][] = [
      [constants.NGHTTP2_INTERNAL_ERROR, 'internal'],
      [constants.NGHTTP2_CANCEL, 'cancelled'],
      [constants.NGHTTP2_ENHANCE_YOUR_CALM, 'exhausted'],
      [constants.NGHTTP2_PROTOCOL_ERROR, 'internal'],
    ]
    for (const [code, kind] of codes) {
      serve = (stream) => stream.close(code)
      expect((await failureOf(client.create(table))).kind).toBe(kind)
      expect((await failureOf(collect(client.readWire(table)))).kind).toBe(kind)
      expect((await failureOf(client.writeWire(table, [Buffer.alloc(3)]))).kind).toBe(kind)
    }
  })

  test('gives the messages that came before', async () => {
    serve = (stream) => {
      stream.respond(grpcHeaders)
      stream.write(framed(Buffer.from('whole')), () => stream.close(constants.NGHTTP2_INTERNAL_ERROR))
    }
    const frames: string[] = []
    const reading = async () => {
      for await (const frame of client.readWire(table)) frames.push(Buffer.from(frame).toString())
    }
    expect((await failureOf(reading())).kind).toBe('internal')
    expect(frames).toEqual(['whole'])
  })

  test('is sent again when it was refused unseen, but not for ever', async () => {
    let callCount = 0
    serve = (stream) => {
      if (++callCount === 1) stream.close(constants.NGHTTP2_REFUSED_STREAM)
      else answer(stream, [versionAnswer])
    }
    expect(await client.version()).toBe('v1')
    callCount = 0
    expect(await collect(client.readWire(table))).toHaveLength(1)
    serve = (stream) => {
      callCount++
      stream.close(constants.NGHTTP2_REFUSED_STREAM)
    }
    callCount = 0
    expect((await failureOf(client.version())).code).toBe('SERVER_UNREACHABLE')
    expect(callCount).toBe(3)
  })

  test('of a write is not sent again: its frames are gone', async () => {
    let callCount = 0
    serve = (stream) => {
      callCount++
      stream.close(constants.NGHTTP2_REFUSED_STREAM)
    }
    expect((await failureOf(client.writeWire(table, [Buffer.alloc(3)]))).code).toBe('SERVER_UNREACHABLE')
    expect(callCount).toBe(1)
  })
})

describe('a connection that is lost', () => {
  test('fails the calls at work, and the next call makes a new one', async () => {
    serve = (stream) => {
      stream.respond(grpcHeaders)
      stream.write(framed(Buffer.from('first')))
      // The second message never comes to its end.
      stream.write(framed(Buffer.alloc(1000)).subarray(0, 500), () => {
        for (const socket of sockets) socket.destroy()
      })
    }
    const reading = failureOf(collect(client.readWire(table)))
    const writing = failureOf(
      client.writeWire(
        table,
        (async function* () {
          for (;;) {
            yield Buffer.alloc(1000)
            await new Promise((resolve) => setTimeout(resolve, 5))
          }
        })(),
      ),
    )
    expect((await reading).code).toBe('SERVER_UNREACHABLE')
    expect((await writing).code).toBe('SERVER_UNREACHABLE')
    serve = (stream) => answer(stream, [versionAnswer])
    expect(await client.version()).toBe('v1')
  })

  test('that the server leaves lets its calls finish, and takes no new ones', async () => {
    let release = () => {}
    serve = (stream) => {
      stream.respond(grpcHeaders, { waitForTrailers: true })
      stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }))
      stream.write(framed(Buffer.from('first')))
      release = () => stream.end(framed(Buffer.from('second')))
    }
    const frames = client.readWire(table)[Symbol.asyncIterator]()
    expect((await frames.next()).done).toBe(false)
    const [session] = sessions
    session.goaway(constants.NGHTTP2_NO_ERROR)
    serve = (stream) => answer(stream, [versionAnswer])
    await eventually('a new connection is used', async () => {
      await client.version()
      return sessionCount === 2
    })
    release()
    expect(Buffer.from((await frames.next()).value).toString()).toBe('second')
    expect((await frames.next()).done).toBe(true)
  })

  test('with an error fails its calls', async () => {
    serve = (stream) => stream.session?.goaway(constants.NGHTTP2_ENHANCE_YOUR_CALM)
    expect((await failureOf(client.version())).code).toBe('SERVER_UNREACHABLE')
    serve = (stream) => answer(stream, [versionAnswer])
    expect(await client.version()).toBe('v1')
  })

  test('never stood: no server, one of HTTP/1, one that says nothing sensible', async () => {
    const nothing = createTcpServer((socket) => socket.end('what?\r\n'))
    const oldServer = createHttpServer((_request, response) => response.end('hello'))
    for (const target of [nothing, oldServer]) {
      const { port } = await listening(target)
      const other = connect(`127.0.0.1:${port}`)
      expect((await failureOf(other.version())).code).toBe('SERVER_UNREACHABLE')
      expect((await failureOf(other.writeWire(table, [Buffer.alloc(1)]))).code).toBe('SERVER_UNREACHABLE')
      other.close()
      target.close()
    }
    const gone = connect('127.0.0.1:1')
    const errors = await Promise.all([1, 2, 3].map(() => failureOf(gone.version())))
    expect(errors.map(({ code }) => code)).toEqual(Array(3).fill('SERVER_UNREACHABLE'))
    expect(errors[0].message).toContain('ECONNREFUSED')
  })

  test('by closing the client fails the calls at work, and all later ones', async () => {
    serve = () => {}
    const asking = failureOf(client.version())
    await eventually('the call is at work', () => sessionCount === 1)
    client.close()
    expect((await asking).code).toBe('CANCELLED')
    expect((await failureOf(client.version())).code).toBe('CANCELLED')
  })

  test('does not keep a program running that has no call at work', () => {
    const index = fileURLToPath(new URL('../dist/client/index.js', import.meta.url))
    // The child talks to a server of its own: this process waits for it.
    const program = `
      import { createServer } from 'node:http2'
      import { connect } from ${JSON.stringify(index)}
      const server = createServer()
      server.on('stream', (stream) => {
        stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true })
        stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }))
        stream.end(Buffer.from(${JSON.stringify([...versionAnswer])}))
      })
      server.on('session', (session) => session.unref())
      server.listen(0, '127.0.0.1', async () => {
        console.log(await connect('127.0.0.1:' + server.address().port).version())
        server.unref()
      })`
    const ended = spawnSync(process.execPath, ['--input-type=module', '-e', program], { timeout: 20_000 })
    expect([ended.status, ended.stdout.toString()]).toEqual([0, 'v1\n'])
  })
})

describe('a call that is ended here', () => {
  test('at its deadline fails, and the server is told', async () => {
    const closed: number[] = []
    const timeouts: unknown[] = []
    serve = (stream, headers) => {
      timeouts.push(headers['grpc-timeout'])
      stream.on('close', () => closed.push(stream.rstCode ?? -1))
      if (headers[':path'] === '/pb.Frames/Read') {
        stream.respond(grpcHeaders)
        stream.write(framed(Buffer.from('first')))
      }
    }
    const options = { timeoutMs: 100 }
    expect((await failureOf(client.version(options))).code).toBe('DEADLINE_EXCEEDED')
    expect((await failureOf(collect(client.readWire(table, options)))).code).toBe('DEADLINE_EXCEEDED')
    expect((await failureOf(client.writeWire(table, [Buffer.alloc(1)], options))).code).toBe('DEADLINE_EXCEEDED')
    await eventually('all streams are reset', () => closed.length === 3)
    expect(closed).toEqual(Array(3).fill(constants.NGHTTP2_CANCEL))
    expect(timeouts).toEqual(Array(3).fill('100m'))
  })

  test('while it connects fails at once', async () => {
    const silent = createTcpServer(() => {})
    const { port } = await listening(silent)
    const other = connect(`127.0.0.1:${port}`)
    expect((await failureOf(other.version({ timeoutMs: 50 }))).code).toBe('DEADLINE_EXCEEDED')
    const abort = new AbortController()
    const asking = failureOf(other.version({ signal: abort.signal }))
    abort.abort()
    expect((await asking).code).toBe('CANCELLED')
    other.close()
    silent.close()
  })

  test('as a write does not look whole to the server', async () => {
    const received: Buffer[] = []
    let isAborted = false
    let resetCode: number | null = null
    serve = (stream) => {
      stream.on('data', (chunk: Buffer) => received.push(chunk))
      stream.on('aborted', () => {
        isAborted = true
      })
      stream.on('close', () => {
        resetCode = stream.rstCode ?? -1
      })
    }
    const abort = new AbortController()
    const writing = failureOf(
      client.writeWire(
        table,
        (async function* () {
          yield Buffer.from('frame')
          await new Promise(() => {})
        })(),
        { signal: abort.signal },
      ),
    )
    await eventually('the frame has come', () => Buffer.concat(received).includes('frame'))
    abort.abort()
    expect((await writing).code).toBe('CANCELLED')
    await eventually('the stream is reset', () => resetCode !== null)
    expect([resetCode, isAborted]).toEqual([constants.NGHTTP2_CANCEL, true])
    expect(Buffer.concat(received).subarray(-5).toString()).toBe('frame')
  })

  test('leaves nothing behind: a thousand of them, on one connection', async () => {
    let openCount = 0
    serve = (stream) => {
      openCount++
      stream.on('close', () => openCount--)
      stream.respond(grpcHeaders)
      stream.write(framed(Buffer.alloc(100)))
    }
    for (let round = 0; round < 20; round++) {
      await Promise.all(
        Array.from({ length: 50 }, async () => {
          for await (const _frame of client.readWire(table)) break
        }),
      )
    }
    await eventually('all streams are closed', () => openCount === 0)
    expect(sessionCount).toBe(1)
  })
})

describe('flow control', () => {
  test('a reader that stalls stops its own stream only', async () => {
    let sentByteLength = 0
    const piece = framed(Buffer.alloc(MiB))
    serve = (stream, headers) => {
      if (headers[':path'] === '/pb.Frames/Version') return answer(stream, [versionAnswer])
      stream.respond(grpcHeaders)
      const send = () => {
        if (sentByteLength >= 500 * MiB) return
        stream.write(piece, (error) => {
          sentByteLength += piece.byteLength
          if (!error) send()
        })
      }
      send()
    }
    const frames = client.readWire(table)[Symbol.asyncIterator]()
    await frames.next()
    let before = -1
    await eventually('the server can send no more', async () => {
      const isStill = before === sentByteLength
      before = sentByteLength
      await new Promise((resolve) => setTimeout(resolve, 100))
      return isStill
    })
    // What was asked for, the window, and what both sides hold beside it.
    expect(sentByteLength).toBeLessThan(32 * MiB)
    expect(await client.version()).toBe('v1')
    for (let i = 0; i < 40; i++) expect((await frames.next()).value?.byteLength).toBe(MiB)
    await frames.return?.()
  })

  test('a server that does not read stops the source of a write, until it reads', async () => {
    let release = () => {}
    let receivedByteLength = 0
    serve = (stream) => {
      stream.pause()
      release = () => {
        stream.on('data', (chunk: Buffer) => {
          receivedByteLength += chunk.byteLength
        })
        stream.on('end', () => answer(stream, [writeAnswer], { 'grpc-status': '0', num_skipped: '7' }))
        stream.resume()
      }
    }
    let madeCount = 0
    function* frames() {
      for (; madeCount < 50; madeCount++) yield Buffer.alloc(100_000, madeCount)
    }
    const writing = client.writeWire(table, frames())
    await eventually('the write has begun', () => madeCount > 0)
    await new Promise((resolve) => setTimeout(resolve, 300))
    expect(madeCount).toBeLessThan(5)
    release()
    expect(await writing).toEqual({ frameCount: 1, rowCount: 2, skippedCount: 7 })
    expect(receivedByteLength).toBeGreaterThan(50 * 100_000)
  })

  test('a server that answers before it has read all ends the write', async () => {
    serve = (stream) => {
      stream.pause()
      answer(stream, [], { 'grpc-status': '3', 'grpc-message': 'bad frame' })
    }
    function* endless() {
      for (;;) yield Buffer.alloc(100_000)
    }
    const error = await failureOf(client.writeWire(table, endless()))
    expect([error.code, error.message]).toEqual(['INVALID_ARGUMENT', 'bad frame'])
  })
})

test('messages of 100 MiB go both ways', async () => {
  const fixture = await startFixture()
  const other = connect(`127.0.0.1:${fixture.grpcPort}`)
  try {
    const large = Buffer.alloc(100 * MiB, 'abcdefg')
    fixture.engine.answer = () => [large]
    await other.writeWire(table, [large])
    expect(fixture.engine.frames[0].equals(large)).toBe(true)
    const [read] = await collect(other.readWire(table))
    expect(read.equals(large)).toBe(true)
  } finally {
    other.close()
    await fixture.stop()
  }
})

test('a reader of messages finds them in any cut of their bytes', () => {
  const source = new SeededRandom(seed)
  const random = () => source.next()
  for (let round = 0; round < 200; round++) {
    const messages = Array.from({ length: 1 + Math.floor(random() * 6) }, () =>
      Buffer.alloc(Math.floor(random() ** 4 * 3000), Math.floor(random() * 256)),
    )
    const bytes = Buffer.concat(messages.map((message) => framed(message)))
    const found: Buffer[] = []
    const reader = new MessageReader(3000, (message) => found.push(message))
    for (let at = 0; at < bytes.byteLength; ) {
      const end = Math.min(bytes.byteLength, at + 1 + Math.floor(random() ** 3 * 500))
      const chunk = Buffer.from(bytes.subarray(at, end))
      reader.write(chunk)
      // The chunk's memory is used again.
      chunk.fill(0xee)
      at = end
    }
    expect(reader.isInside, `seed ${seed}`).toBe(false)
    expect(found, `seed ${seed}`).toEqual(messages)
  }
})

test('a timeout has at most eight digits', () => {
  expect([0, 0.5, 1, 99_999_999, 100_000_000, 99_999_999_000, 1e12, 1e30].map(timeoutHeader)).toEqual([
    '0m',
    '1m',
    '1m',
    '99999999m',
    '100000S',
    '99999999S',
    '16666667M',
    '99999999H',
  ])
})

test('an address may lack its port, be of IPv6, or make no sense', async () => {
  for (const address of ['[::1]:1', '::1', '[::1]', '127.0.0.1:99999', 'no such host', 'unix:/nowhere']) {
    const other = connect(address)
    const error = await failureOf(other.version())
    expect(error.code).toBe('SERVER_UNREACHABLE')
    other.close()
  }
})
