// Answers that nobody reads: what waits to leave is bounded, and whoever reads is served.
import { once } from 'node:events'
import { type IncomingMessage, request as httpRequest } from 'node:http'
import { type ClientHttp2Session, connect as connectHttp2, constants } from 'node:http2'
import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { connect } from '../dist/client/index.js'
import { Column, Frame, openEngine } from '../dist/engine/index.js'
import { ReadRequestSchema } from '../dist/proto/gen/frames_pb.js'
import { readConfig } from '../dist/server/config.js'
import { openLog } from '../dist/server/log.js'
import { SendBudget } from '../dist/server/send-budget.js'
import { type RunningServer, startServer } from '../dist/server/start.js'

const rowCount = 1_000_000
const table = { backend: 'tsdb', table: 'c/much' }
const limits = { sentByteLengthMax: 4 * 2 ** 20, unreadMsMin: 100 }
let server: RunningServer

beforeAll(async () => {
  const engine = await openEngine({ memoryByteLength: 512 * 2 ** 20, workerCount: 2 })
  const loopback = { host: '127.0.0.1', port: 0 }
  server = await startServer({
    engine,
    config: readConfig(null),
    log: openLog('fatal'),
    httpAddress: loopback,
    grpcAddress: loopback,
    limits,
  })
  const timesNs = BigInt64Array.from({ length: rowCount }, (_, i) => BigInt(i) * 1_000_000_000n)
  const values = Float64Array.from(timesNs, (timeNs) => Math.sin(Number(timeNs)))
  const plain = { length: rowCount, kind: 'slice', validity: null } as const
  const frame = new Frame({
    columns: [Column.fromBuffers({ ...plain, name: 'value', buffers: { dtype: 'float64', values } })],
    indices: [Column.fromBuffers({ ...plain, name: 'time', buffers: { dtype: 'time', values: timesNs } })],
  })
  await engine.create({ ...table, rate: '1/s' })
  await engine.write(table, frame)
})
afterAll(() => server.stop())

async function readAll(address: string): Promise<number> {
  const client = connect(address)
  let count = 0
  for await (const frame of client.read({ ...table, start: '0' })) count += frame.length
  client.close()
  return count
}

/** So many reads whose answers nobody takes; the codes of those that were ended. */
function unreadReads(session: ClientHttp2Session, count: number, request: MessageInitShape<typeof ReadRequestSchema>) {
  const message = toBinary(ReadRequestSchema, create(ReadRequestSchema, request))
  const prefix = Buffer.alloc(5)
  prefix.writeUInt32BE(message.byteLength, 1)
  const codes: number[] = []
  const streams = Array.from({ length: count }, () => {
    const stream = session.request({
      ':method': 'POST',
      ':path': '/pb.Frames/Read',
      'content-type': 'application/grpc',
      te: 'trailers',
    })
    stream.on('error', () => undefined)
    stream.on('close', () => codes.push(stream.rstCode ?? 0))
    stream.end(Buffer.concat([prefix, message]))
    return stream
  })
  return { streams, codes }
}

test('over gRPC, who has not read for longest is told so when unread answers take too much', async () => {
  const session = connectHttp2(`http://127.0.0.1:${server.grpcPort}`)
  const { streams, codes } = unreadReads(session, 20, { ...table, start: '0' })
  await Promise.all(streams.map((stream) => once(stream, 'response')))
  // Those that come later find the others waiting.
  for (let tries = 0; tries < 50 && codes.length === 0; tries++) {
    expect(await readAll(`grpc://127.0.0.1:${server.grpcPort}`)).toBe(rowCount)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  expect(codes[0]).toBe(constants.NGHTTP2_ENHANCE_YOUR_CALM)
  expect(codes.length).toBeLessThan(streams.length)
  session.destroy()
})

test('small answers count, too, where none of them can leave', async () => {
  const session = connectHttp2(`http://127.0.0.1:${server.grpcPort}`, { settings: { initialWindowSize: 0 } })
  const { streams, codes } = unreadReads(session, 200, { ...table, start: '0', end: '9' })
  await Promise.all(streams.map((stream) => once(stream, 'response')))
  for (let tries = 0; tries < 50 && codes.length === 0; tries++) {
    expect(await readAll(`grpc://127.0.0.1:${server.grpcPort}`)).toBe(rowCount)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  expect(codes[0]).toBe(constants.NGHTTP2_ENHANCE_YOUR_CALM)
  session.destroy()
})

test('over HTTP, too', async () => {
  let endedCount = 0
  const answers = await Promise.all(
    Array.from({ length: 20 }, async () => {
      const request = httpRequest({ port: server.httpPort, host: '127.0.0.1', path: '/read', method: 'POST' })
      request.on('error', () => undefined)
      request.end(JSON.stringify({ ...table, start: '0' }))
      const [answer] = (await once(request, 'response')) as [IncomingMessage]
      answer.socket.pause()
      answer.socket.on('close', () => endedCount++)
      return answer
    }),
  )
  await new Promise((resolve) => setTimeout(resolve, 2 * limits.unreadMsMin))
  expect(await readAll(`http://127.0.0.1:${server.httpPort}`)).toBe(rowCount)
  const failed = await connect(`http://127.0.0.1:${server.httpPort}`)
  const errors: unknown[] = []
  for await (const frame of failed.history({})) for (const row of frame.rows()) errors.push(row['error'])
  failed.close()
  expect(errors.filter((error) => String(error).includes('was not read for')).length).toBeGreaterThan(0)
  for (const answer of answers) answer.destroy()
  expect(endedCount).toBeLessThan(answers.length)
})

test('what has left counts no more, and nobody who has waited less than asked is given up', () => {
  const given: string[] = []
  const budget = new SendBudget(100, 0)
  const first = budget.wait(60, () => given.push('first'))
  const second = budget.wait(40, () => given.push('second'))
  expect(given).toEqual([])
  first()
  first()
  expect(budget.byteLength).toBe(40)
  budget.wait(70, () => given.push('third'))
  expect(given).toEqual(['second'])
  second()
  expect(budget.byteLength).toBe(70)
  budget.wait(200, () => given.push('large'))
  expect(given).toEqual(['second', 'third', 'large'])
  given.length = 1
  const patient = new SendBudget(100, 60_000)
  patient.wait(60, () => given.push('fourth'))
  patient.wait(60, () => given.push('fifth'))
  expect(given).toEqual(['second'])
})
