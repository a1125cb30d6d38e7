// The gRPC server under sessions of random calls, right and wrong, broken off and cut anywhere.
import { connect as connectTcp } from 'node:net'
import { create, toBinary } from '@bufbuild/protobuf'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { connect } from '../dist/client/index.js'
import { ReadRequestSchema, WriteRequestSchema } from '../dist/proto/gen/frames_pb.js'
import { flag, frameType, preface, setting } from '../dist/proto/http2/frames.js'
import { encodeHeaders } from '../dist/proto/http2/hpack.js'
import { frameOf, settingsOf, words } from './http2-bare-peer.js'
import { SeededRandom, seed } from './seeded-random.js'
import { type Fixture, startFixture } from './server-fixture.js'

let server: Fixture
beforeAll(async () => {
  server = await startFixture()
  const shared = new Uint8Array(new SharedArrayBuffer(200_000))
  server.engine.answer = () => [new Uint8Array(100), shared, new Uint8Array(30), shared]
})
afterAll(() => server.stop())

function prefixed(message: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from([0]), words(message.byteLength), message])
}

const table = { backend: 'kv', table: 't' }
const frameRecord = Buffer.concat([Buffer.from([0x12, 0x80, 0x20]), Buffer.alloc(4096)])
const bodies: Readonly<Record<string, Buffer>> = {
  '/pb.Frames/Version': prefixed(Buffer.alloc(0)),
  '/pb.Frames/Read': prefixed(toBinary(ReadRequestSchema, create(ReadRequestSchema, table))),
  '/pb.Frames/Write': Buffer.concat([
    prefixed(toBinary(WriteRequestSchema, create(WriteRequestSchema, { type: { case: 'request', value: table } }))),
    ...Array.from({ length: 5 }, () => prefixed(frameRecord)),
  ]),
  '/pb.Frames/Create': prefixed(Buffer.from('garbage')),
  '/pb.Frames/History': prefixed(Buffer.alloc(0)),
  '/pb.Frames/Nothing': prefixed(Buffer.alloc(3)),
  '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo': prefixed(Buffer.from([0x3a, 1, 0x2a])),
}

function sessionOf(random: SeededRandom): Buffer {
  const frames = [preface, settingsOf([setting.streamWindow, random.pick([0, 1, 65_535, 2 ** 20])])]
  for (let id = 1, last = 2 * random.integer(1, 25); id < last; id += 2) {
    const path = random.pick(Object.keys(bodies))
    const fields: [string, string][] = [
      [':method', 'POST'],
      [':scheme', 'http'],
      [':path', path],
      [':authority', 'here'],
      ['content-type', random.chance(0.95) ? 'application/grpc' : 'text/plain'],
    ]
    if (random.chance(0.2)) fields.push(['grpc-timeout', random.pick(['5m', '1S', 'soon'])])
    frames.push(frameOf(frameType.headers, flag.endHeaders, id, encodeHeaders(fields)))
    const body = bodies[path]!
    for (let at = 0; at < body.byteLength; ) {
      const end = Math.min(body.byteLength, at + random.integer(1, 8000))
      const isLast = end === body.byteLength && random.chance(0.9)
      frames.push(frameOf(frameType.data, isLast ? flag.endStream : 0, id, body.subarray(at, end)))
      at = end
      if (random.chance(0.05)) frames.push(frameOf(frameType.windowUpdate, 0, random.pick([0, id]), words(100_000)))
      if (random.chance(0.05)) frames.push(frameOf(frameType.resetStream, 0, id, words(8)))
    }
  }
  const bytes = Buffer.concat(frames)
  if (random.chance(0.6)) {
    for (let i = random.integer(1, 5); i > 0; i--) {
      bytes[random.integer(preface.byteLength, bytes.byteLength)] = random.integer(0, 256)
    }
  }
  return random.chance(0.2) ? bytes.subarray(0, random.integer(0, bytes.byteLength)) : bytes
}

test('sessions of any kind end by themselves, without a defect, and the next is served', async () => {
  const random = new SeededRandom(seed)
  const runOne = async (): Promise<void> => {
    const socket = connectTcp(server.grpcPort, '127.0.0.1')
    socket.on('error', () => {})
    const closed = new Promise((resolve) => socket.once('close', resolve))
    if (random.chance(0.7)) socket.resume()
    const bytes = sessionOf(random)
    for (let at = 0; at < bytes.byteLength; ) {
      const end = at + random.integer(1, random.pick([300, 50_000]))
      socket.write(bytes.subarray(at, end))
      at = end
      if (random.chance(0.3)) await new Promise((resolve) => setImmediate(resolve))
    }
    await new Promise((resolve) => setTimeout(resolve, random.integer(0, 10)))
    if (random.chance(0.5)) socket.end()
    else socket.destroy()
    socket.resume()
    await closed
  }
  await Promise.all(
    random.list(10, async () => {
      for (let i = 0; i < 60; i++) await runOne()
    }),
  )
  const client = connect(`grpc://127.0.0.1:${server.grpcPort}`)
  expect(await client.version()).toBe('v0.13.13')
  client.close()
  const defects = server.logged.filter((line) => line.includes('defect'))
  expect(defects).toEqual([])
  expect(server.logged.some((line) => line.includes('"outcome":"ok"'))).toBe(true)
  expect(server.logged.some((line) => line.includes('HTTP/2 session ended'))).toBe(true)
})
