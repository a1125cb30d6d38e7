// The client's gRPC against other ends of all kinds: a server of another library, and one that says every byte by hand.
import { status as grpcStatus, Server, ServerCredentials, type ServiceDefinition } from '@grpc/grpc-js'
import { create, toBinary } from '@bufbuild/protobuf'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type Client, connect } from '../dist/client/index.js'
import { VersionResponseSchema, WriteResposeSchema } from '../dist/proto/gen/frames_pb.js'
import { eventually } from './fake-engine.js'
import {
  acknowledged,
  answerBytes,
  endHeaders,
  endStream,
  frameBytes,
  frameType,
  headersBytes,
  Http2Peer,
  responseFields,
  settingsBytes,
  uint32Bytes,
} from './scripted-server.js'
import { SeededRandom, seed } from './seeded-random.js'
import { failureOf } from './failures.js'

const table = { backend: 'kv', table: 't' }
const maxConcurrentStreams = 3
const initialWindowSize = 4

function framed(bytes: Uint8Array): Buffer {
  const message = Buffer.alloc(5 + bytes.byteLength)
  message.writeUInt32BE(bytes.byteLength, 1)
  message.set(bytes, 5)
  return message
}

const versionBytes = Buffer.from(toBinary(VersionResponseSchema, create(VersionResponseSchema, { version: 'v1' })))
const versionAnswer = framed(versionBytes)
const writeBytes = Buffer.from(toBinary(WriteResposeSchema, create(WriteResposeSchema, { frames: 1n, rows: 2n })))

async function collect(frames: AsyncIterable<Uint8Array>): Promise<Buffer[]> {
  const collected: Buffer[] = []
  for await (const frame of frames) collected.push(Buffer.from(frame))
  return collected
}

let peer: Http2Peer
let client: Client

beforeEach(async () => {
  peer = new Http2Peer()
  client = connect(await peer.listen())
})

afterEach(async () => {
  client.close()
  await peer.close()
})

/** The connection is still good: the next call takes no new one. */
async function expectGoesOn(): Promise<void> {
  peer.script = { request: (streamId, session) => session.write(answerBytes(streamId, [versionAnswer])) }
  expect(await client.version()).toBe('v1')
  expect(peer.sessions.length).toBe(1)
}

/** The connection was given up: the next call makes a new one. */
async function expectBeginsAgain(): Promise<void> {
  peer.script = { request: (streamId, session) => session.write(answerBytes(streamId, [versionAnswer])) }
  expect(await client.version()).toBe('v1')
  expect(peer.sessions.length).toBe(2)
}

describe('an answer', () => {
  test('may come late, in single bytes, behind a word that it will', async () => {
    peer.script = {
      async request(streamId, session) {
        session.socket.setNoDelay(true)
        const bytes = Buffer.concat([
          headersBytes(streamId, [[':status', '103']]),
          answerBytes(streamId, [versionAnswer.subarray(0, 3), versionAnswer.subarray(3)]),
        ])
        for (const byte of bytes) {
          session.socket.write(Buffer.from([byte]))
          await new Promise((resolve) => setImmediate(resolve))
        }
      },
    }
    expect(await client.version()).toBe('v1')
    await expectGoesOn()
  })

  test('may have padding, priorities, blocks in pieces, and frames nobody knows around it', async () => {
    const padded = (bytes: Uint8Array): Buffer => Buffer.concat([Buffer.from([7]), bytes, Buffer.alloc(7)])
    const pings: Buffer[] = []
    peer.script = {
      frame: ({ type, flags, payload }) => {
        if (type === frameType.ping && (flags & acknowledged) !== 0) pings.push(Buffer.from(payload))
      },
      request(streamId, session) {
        const block = headersBytes(streamId, responseFields).subarray(9)
        session.write(
          frameBytes(frameType.ping, 0, 0, Buffer.from('12345678')),
          frameBytes(0xfe, 0xff, streamId, Buffer.from('unknown')),
          frameBytes(frameType.priority, 0, streamId, Buffer.from([0, 0, 0, 99, 1])),
          // Padding and priority within HEADERS.
          frameBytes(
            frameType.headers,
            0x28,
            streamId,
            Buffer.concat([Buffer.from([3, 0, 0, 0, 0, 5]), block.subarray(0, 2), Buffer.alloc(3)]),
          ),
          frameBytes(frameType.continuation, 0, streamId, block.subarray(2, 5)),
          frameBytes(frameType.continuation, endHeaders, streamId, block.subarray(5)),
          frameBytes(frameType.data, 8, streamId, padded(versionAnswer.subarray(0, 4))),
          frameBytes(frameType.data, 0, streamId),
          frameBytes(frameType.data, 8, streamId, padded(versionAnswer.subarray(4))),
          headersBytes(streamId, [['grpc-status', '0']], endHeaders | endStream),
        )
      },
    }
    expect(await client.version()).toBe('v1')
    await eventually('the ping is answered', () => pings.length > 0)
    expect(pings[0].toString()).toBe('12345678')
    await expectGoesOn()
  })

  test.each([
    ['400', 'internal'],
    ['401', 'unauthenticated'],
    ['403', 'denied'],
    ['404', 'internal'],
    ['429', 'unavailable'],
    ['503', 'unavailable'],
    ['302', 'internal'],
  ])('of HTTP status %s is an error', async (code, kind) => {
    peer.script = {
      request: (streamId, session) =>
        session.write(headersBytes(streamId, [[':status', code]]), frameBytes(frameType.data, endStream, streamId)),
    }
    const error = await failureOf(client.create(table))
    expect([error.kind, error.message]).toEqual([kind, `the server answered with HTTP status ${code}`])
    peer.script = {
      request: (streamId, session) =>
        session.write(headersBytes(streamId, [[':status', code]], endHeaders | endStream)),
    }
    expect((await failureOf(collect(client.readWire(table)))).kind).toBe(kind)
    await expectGoesOn()
  })

  test('of trailers alone is what they say', async () => {
    const fields = [...responseFields, ['grpc-status', '5'], ['grpc-message', 'no%20table']] as const
    peer.script = {
      request: (streamId, session) => session.write(headersBytes(streamId, fields, endHeaders | endStream)),
    }
    const error = await failureOf(client.create(table))
    expect([error.kind, error.message]).toEqual(['not-found', 'no table'])
    await expectGoesOn()
  })

  test('with more headers than anyone needs is an error, of its call alone', async () => {
    peer.script = {
      request(streamId, session) {
        const long = Array.from({ length: 4 }, (_, i) => [`x${i}`, 'v'.repeat(16_000)] as const)
        const block = headersBytes(streamId, [...responseFields, ...long, ['y', 'v'.repeat(2000)]]).subarray(9)
        session.write(frameBytes(frameType.headers, 0, streamId, block.subarray(0, 16_384)))
        for (let at = 16_384; at < block.byteLength; at += 16_384) {
          const isLast = at + 16_384 >= block.byteLength
          const part = block.subarray(at, at + 16_384)
          session.write(frameBytes(frameType.continuation, isLast ? endHeaders : 0, streamId, part))
        }
        session.write(frameBytes(frameType.data, 0, streamId, versionAnswer))
      },
    }
    const error = await failureOf(client.version())
    expect([error.kind, error.message]).toEqual(['exhausted', "the server's answer is none: headers above 65536 bytes"])
    await expectGoesOn()
  })

  test('of headers without end ends the connection', async () => {
    peer.script = {
      request(streamId, session) {
        const part = Buffer.alloc(16_000, 0x82)
        session.write(frameBytes(frameType.headers, 0, streamId, part))
        for (let i = 0; i < 100; i++) session.write(frameBytes(frameType.continuation, 0, streamId, part))
      },
    }
    expect((await failureOf(client.version())).code).toBe('SERVER_UNREACHABLE')
    await expectBeginsAgain()
  })

  test('whose headers cannot be decoded ends the connection', async () => {
    peer.script = {
      request: (streamId, session) =>
        session.write(frameBytes(frameType.headers, endHeaders, streamId, Buffer.from([0xff, 0xff]))),
    }
    const error = await failureOf(client.version())
    expect([error.code, error.message]).toEqual(['SERVER_UNREACHABLE', expect.stringContaining('cannot be decoded')])
    await expectBeginsAgain()
  })

  test.each([
    ['bytes before headers', (streamId: number) => [frameBytes(frameType.data, 0, streamId, versionAnswer)]],
    ['no status', (streamId: number) => [headersBytes(streamId, [['content-type', 'application/grpc']])]],
    ['a status that is none', (streamId: number) => [headersBytes(streamId, [[':status', 'ok']])]],
    [
      'trailers with a status of HTTP',
      (streamId: number) => [
        headersBytes(streamId, responseFields),
        headersBytes(streamId, responseFields, endHeaders | endStream),
      ],
    ],
    [
      'trailers that are not the end',
      (streamId: number) => [headersBytes(streamId, responseFields), headersBytes(streamId, [['a', 'b']])],
    ],
  ])('with %s is an error, of its call alone', async (_name, frames) => {
    peer.script = { request: (streamId, session) => session.write(...frames(streamId)) }
    const error = await failureOf(client.version({ timeoutMs: 5000 }))
    expect([error.kind, error.message]).toEqual(['internal', expect.stringContaining("the server's answer is none: ")])
    await expectGoesOn()
  })

  test('that goes on after its end was an answer', async () => {
    peer.script = {
      request: (streamId, session) =>
        session.write(answerBytes(streamId, [versionAnswer]), frameBytes(frameType.data, 0, streamId, versionAnswer)),
    }
    expect(await client.version()).toBe('v1')
    expect(await client.version()).toBe('v1')
  })

  test('that stops within a message, with the connection, is none', async () => {
    peer.script = {
      request(streamId, session) {
        session.write(
          headersBytes(streamId, responseFields),
          frameBytes(frameType.data, 0, streamId, framed(Buffer.alloc(9)).subarray(0, 9)),
        )
        session.socket.end()
      },
    }
    expect((await failureOf(client.version())).code).toBe('SERVER_UNREACHABLE')
    expect((await failureOf(collect(client.readWire(table)))).code).toBe('SERVER_UNREACHABLE')
  })

  test('of bytes that mean nothing ends the connection', async () => {
    for (const garbage of [Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n'), Buffer.alloc(100_000, 0xff)]) {
      peer.script = { first: null, frame: (_frame, session) => session.write(garbage) }
      expect((await failureOf(client.version())).code).toBe('SERVER_UNREACHABLE')
      peer.script = { request: (_streamId, session) => session.write(garbage) }
      expect((await failureOf(client.version())).code).toBe('SERVER_UNREACHABLE')
    }
  })
})

describe('a server that leaves', () => {
  test('has the calls it did not look at sent again elsewhere, and answers the others', async () => {
    let release = (): void => {}
    peer.script = {
      request(streamId, session) {
        if (peer.sessions.length > 1) session.write(answerBytes(streamId, [versionAnswer]))
        else if (streamId === 1) release = () => session.write(answerBytes(streamId, [versionAnswer]))
        else if (streamId === 5) session.write(frameBytes(frameType.goAway, 0, 0, uint32Bytes(1, 0)))
      },
    }
    const first = client.version()
    const others = [client.version(), client.version()]
    expect(await Promise.all(others)).toEqual(['v1', 'v1'])
    release()
    expect(await first).toBe('v1')
    expect(peer.sessions.length).toBe(2)
  })

  test('in anger has only those sent again', async () => {
    peer.script = {
      request(streamId, session) {
        if (peer.sessions.length > 1) session.write(answerBytes(streamId, [versionAnswer]))
        else if (streamId === 3) session.write(frameBytes(frameType.goAway, 0, 0, uint32Bytes(1, 11)))
      },
    }
    const asking = [failureOf(client.version()), client.version()] as const
    const error = await asking[0]
    expect([error.code, error.message]).toEqual([
      'SERVER_UNREACHABLE',
      'the connection failed: the server ended the connection (HTTP/2 code 11). Check the address, and that the server runs.',
    ])
    expect(await asking[1]).toBe('v1')
  })
})

describe('a server that takes little', () => {
  test('of calls at once gets the others one after the other', async () => {
    let atWork = 0
    let atWorkMax = 0
    peer.script = {
      first: settingsBytes({ [maxConcurrentStreams]: 2 }),
      request(streamId, session) {
        atWorkMax = Math.max(atWorkMax, ++atWork)
        setTimeout(() => {
          atWork--
          session.write(answerBytes(streamId, [versionAnswer]))
        }, 2)
      },
    }
    const abort = new AbortController()
    const calls = Array.from({ length: 20 }, (_, i) =>
      i === 10 ? failureOf(client.version({ signal: abort.signal })) : client.version(),
    )
    // One that waits for its turn is cancelled.
    setTimeout(() => abort.abort(), 3)
    const answers = await Promise.all(calls)
    expect(answers.filter((answer) => answer === 'v1').length).toBe(19)
    expect(atWorkMax).toBe(2)
    expect(peer.sessions.length).toBe(1)
  })

  test('or nothing for a while gets every byte of a write in the end', async () => {
    const random = new SeededRandom(seed)
    let received: Buffer[] = []
    let allowed = 0
    const wrong: string[] = []
    peer.script = {
      first: settingsBytes({ [initialWindowSize]: 0 }),
      frame({ type, flags, streamId, payload }, session) {
        if (type === frameType.headers) {
          allowed = 0
          const steps = [
            // Nothing at first, then 1000 for each stream, then less than was sent already.
            () => {
              allowed += 1000
              session.write(settingsBytes({ [initialWindowSize]: 1000 }))
            },
            () => {
              allowed -= 900
              session.write(settingsBytes({ [initialWindowSize]: 100 }))
            },
          ]
          const more = (): void => {
            const step = steps.shift()
            if (step !== undefined) step()
            else {
              const byteLength = random.integer(1, 60_000)
              allowed += byteLength
              session.write(
                frameBytes(frameType.windowUpdate, 0, streamId, uint32Bytes(byteLength)),
                frameBytes(frameType.windowUpdate, 0, 0, uint32Bytes(byteLength)),
              )
            }
            if (!hasEnded) setTimeout(more, 1)
          }
          setTimeout(more, 20)
        }
        if (type !== frameType.data) return
        received.push(Buffer.from(payload))
        allowed -= payload.byteLength
        // Bytes that were on their way when less was allowed.
        if (allowed < -900) wrong.push(`${payload.byteLength} bytes above the window`)
        hasEnded = (flags & endStream) !== 0
        if (hasEnded) session.write(answerBytes(streamId, [framed(writeBytes)]))
      },
    }
    let hasEnded = false
    const frames = random.list(12, (i) => Buffer.alloc(random.integer(0, 200_000), i + 1))
    expect(await client.writeWire(table, frames)).toEqual({ frameCount: 1, rowCount: 2 })
    expect(wrong).toEqual([])
    const bytes = Buffer.concat(received)
    received = []
    const counts = new Map<number, number>()
    for (const byte of bytes) counts.set(byte, (counts.get(byte) ?? 0) + 1)
    frames.forEach((frame, i) => {
      expect(counts.get(i + 1) ?? 0, `SEED=${seed}`).toBeGreaterThanOrEqual(frame.byteLength)
    })
    expect(frameOrder(bytes, frames)).toBe(true)
  })

  /** Each frame is there whole, behind the one before it. */
  function frameOrder(bytes: Buffer, frames: readonly Buffer[]): boolean {
    let at = 0
    for (const frame of frames) {
      at = bytes.indexOf(frame, at)
      if (at < 0) return false
      at += frame.byteLength
    }
    return true
  }

  test('and gives too much window ends the connection', async () => {
    peer.script = {
      request: (_streamId, session) => session.write(frameBytes(frameType.windowUpdate, 0, 0, uint32Bytes(0x7fffffff))),
    }
    expect((await failureOf(client.version())).code).toBe('SERVER_UNREACHABLE')
    await expectBeginsAgain()
  })
})

describe('a server of grpc-js', () => {
  const method = (name: string, requestStream: boolean, responseStream: boolean) => ({
    path: `/pb.Frames/${name}`,
    requestStream,
    responseStream,
    requestSerialize: (value: Buffer) => value,
    requestDeserialize: (value: Buffer) => value,
    responseSerialize: (value: Buffer) => value,
    responseDeserialize: (value: Buffer) => value,
  })
  const service: ServiceDefinition = {
    Version: method('Version', false, false),
    Read: method('Read', false, true),
    Write: method('Write', true, false),
  }

  test('answers calls of all kinds, and is told of what is cancelled', async () => {
    const server = new Server({ 'grpc.max_receive_message_length': -1, 'grpc.max_send_message_length': -1 })
    const large = Buffer.alloc(3_000_000, 'grpc-js')
    let receivedByteLength = 0
    let cancelledCount = 0
    let readCount = 0
    server.addService(service, {
      Version: (_call: unknown, done: (error: null, value: Uint8Array) => void) => done(null, versionBytes),
      Read(call: {
        write(value: Buffer): void
        emit(name: string, error: unknown): void
        on(name: string, listener: () => void): void
      }) {
        const isFirst = ++readCount === 1
        if (!isFirst) call.on('cancelled', () => cancelledCount++)
        for (let i = 0; i < 5; i++) call.write(large)
        for (let i = 0; i < 1000; i++) call.write(Buffer.from(`message ${i}`))
        if (isFirst) call.emit('error', { code: grpcStatus.NOT_FOUND, details: 'größer 100%' })
      },
      Write(
        call: { on(name: string, listener: (value: Buffer) => void): void },
        done: (error: null, value: Uint8Array) => void,
      ) {
        call.on('data', (message) => {
          receivedByteLength += message.byteLength
        })
        call.on('end', () => done(null, writeBytes))
      },
    })
    const port = await new Promise<number>((resolve, reject) =>
      server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
        error === null ? resolve(bound) : reject(error),
      ),
    )
    const other = connect(`127.0.0.1:${port}`)
    try {
      expect(await Promise.all(Array.from({ length: 50 }, () => other.version({ timeoutMs: 20_000 })))).toEqual(
        Array(50).fill('v1'),
      )
      const frames: Uint8Array[] = []
      const error = await failureOf(
        (async () => {
          for await (const frame of other.readWire(table)) frames.push(frame)
        })(),
      )
      expect([error.kind, error.message]).toEqual(['not-found', 'größer 100%'])
      expect(frames.length).toBe(1005)
      expect(frames.slice(0, 5).every((frame) => large.equals(frame))).toBe(true)
      expect(Buffer.from(frames[1004]).toString()).toBe('message 999')
      const written = Array.from({ length: 20 }, () => large)
      expect(await other.writeWire(table, written)).toEqual({ frameCount: 1, rowCount: 2 })
      expect(receivedByteLength).toBeGreaterThan(20 * large.byteLength)
      for await (const _frame of other.readWire(table)) break
      await eventually('the server is told', () => cancelledCount === 1)
      expect((await failureOf(other.create(table))).kind).toBe('internal')
    } finally {
      other.close()
      server.forceShutdown()
    }
  })
})

describe('random inputs', () => {
  test('an answer is the same however its bytes are cut', async () => {
    const random = new SeededRandom(seed)
    for (let round = 0; round < 60; round++) {
      const messages = random.list(random.integer(0, 6), () =>
        Buffer.alloc(Math.floor(random.next() ** 3 * 40_000), random.integer(0, 256)),
      )
      const bytes = Buffer.concat(messages.map(framed))
      const chunks: Buffer[] = []
      for (let at = 0; at < bytes.byteLength; ) {
        const end = Math.min(bytes.byteLength, at + 1 + Math.floor(random.next() ** 3 * 16_000))
        chunks.push(bytes.subarray(at, end))
        at = end
      }
      peer.script = {
        async request(streamId, session) {
          session.socket.setNoDelay(true)
          const answer = answerBytes(streamId, chunks)
          for (let at = 0; at < answer.byteLength; ) {
            const end = Math.min(answer.byteLength, at + 1 + Math.floor(random.next() ** 4 * 20_000))
            session.socket.write(answer.subarray(at, end))
            if (random.chance(0.5)) await new Promise((resolve) => setImmediate(resolve))
            at = end
          }
        },
      }
      const read = await collect(client.readWire(table))
      expect(
        read.map((message) => message.byteLength),
        `SEED=${seed}`,
      ).toEqual(messages.map((m) => m.byteLength))
      expect(
        read.every((message, i) => message.equals(messages[i])),
        `SEED=${seed}`,
      ).toBe(true)
    }
    expect(peer.sessions.length).toBe(1)
  })

  test('wrong bytes end calls with errors that say so, and never anything else', async () => {
    const random = new SeededRandom(seed)
    let failedCount = 0
    for (let round = 0; round < 150; round++) {
      peer.script = {
        request(streamId, session) {
          const answer = Buffer.concat([
            answerBytes(streamId, [versionAnswer]),
            frameBytes(frameType.ping, 0, 0, Buffer.alloc(8)),
            settingsBytes({ [maxConcurrentStreams]: 100 }),
          ])
          const count = random.integer(1, 4)
          for (let i = 0; i < count; i++) answer[random.integer(0, answer.byteLength)] = random.integer(0, 256)
          session.write(random.chance(0.2) ? answer.subarray(0, random.integer(0, answer.byteLength)) : answer)
          // What has no end is ended.
          setTimeout(() => session.socket.destroy(), 10)
        },
      }
      const results = await Promise.allSettled([client.version(), collect(client.readWire(table))])
      for (const result of results) {
        if (result.status === 'fulfilled') continue
        expect(result.reason, `SEED=${seed}`).toBeInstanceOf(Error)
        failedCount++
      }
    }
    expect(failedCount).toBeGreaterThan(0)
    peer.script = { request: (streamId, session) => session.write(answerBytes(streamId, [versionAnswer])) }
    await eventually('a call is answered', async () => (await client.version().catch(() => '')) === 'v1')
  })
})
