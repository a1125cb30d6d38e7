// HTTP/2 of ours with random traffic: cut anywhere it says the same; changed anywhere it ends with a named error or goes on;
// between two connections of ours, and with the one in Node.js, every byte arrives.
import { connect as connectNode, createServer as createNodeServer, type ServerHttp2Stream } from 'node:http2'
import { type AddressInfo, connect as connectSocket, createServer, type Server, type Socket } from 'node:net'
import { expect, test } from 'vitest'
import { Http2Connection } from '../dist/proto/http2/connection.js'
import { errorCode, Http2Error } from '../dist/proto/http2/errors.js'
import { flag, frameType, preface, setting } from '../dist/proto/http2/frames.js'
import { encodeHeaders } from '../dist/proto/http2/hpack.js'
import type { ConnectionOptions } from '../dist/proto/http2/owners.js'
import type { Http2Stream } from '../dist/proto/http2/stream.js'
import {
  BarePeer,
  frameOf,
  Line,
  MiB,
  plainOptions,
  Recorder,
  requestBlock,
  settingsOf,
  settled,
  until,
  words,
} from './http2-bare-peer.js'
import { SeededRandom, seed } from './seeded-random.js'

const ignore = () => {}
const answerBlock = encodeHeaders([[':status', '200']])
const trailerBlock = encodeHeaders([['grpc-status', '0']])

/** Frames of a client: requests with bodies, now and then something else. Most of it is right. */
function traffic(random: SeededRandom): Buffer[] {
  const frames = [preface, settingsOf([setting.streamWindow, random.integer(0, 100_000)])]
  let nextId = 1
  const open: number[] = []
  for (let i = random.integer(5, 60); i > 0; i--) {
    const kind = random.integer(0, 12)
    if (kind < 4 || open.length === 0) {
      const hasBody = random.chance(0.7)
      if (random.chance(0.3)) {
        const cut = random.integer(0, requestBlock.byteLength)
        frames.push(
          frameOf(frameType.headers, hasBody ? 0 : 1, nextId, requestBlock.subarray(0, cut)),
          frameOf(frameType.continuation, 4, nextId, requestBlock.subarray(cut)),
        )
      } else frames.push(frameOf(frameType.headers, hasBody ? 4 : 5, nextId, requestBlock))
      if (hasBody) open.push(nextId)
      nextId += 2
      continue
    }
    const streamId = random.pick(open)
    const ends = () => open.splice(open.indexOf(streamId), 1)
    if (kind < 8) {
      const body = Buffer.alloc(random.integer(0, 600), i)
      const padByteLength = random.integer(0, 20)
      const isPadded = random.chance(0.3)
      const hasEnded = random.chance(0.2)
      const payload = isPadded ? Buffer.concat([Buffer.from([padByteLength]), body, Buffer.alloc(padByteLength)]) : body
      frames.push(frameOf(frameType.data, (isPadded ? flag.padded : 0) | (hasEnded ? 1 : 0), streamId, payload))
      if (hasEnded) ends()
    } else if (kind === 8) frames.push(frameOf(frameType.ping, 0, 0, Buffer.alloc(8, i)))
    else if (kind === 9) frames.push(frameOf(frameType.windowUpdate, 0, random.pick([0, streamId]), words(i + 1)))
    else if (kind === 10) {
      frames.push(frameOf(frameType.headers, 5, streamId, trailerBlock))
      ends()
    } else {
      frames.push(frameOf(frameType.resetStream, 0, streamId, words(8)))
      ends()
    }
  }
  return frames
}

/** What a server of ours makes of these bytes: what its owners are told, and all that it says. */
async function outcomeOf(chunks: readonly Buffer[]): Promise<{ peer: BarePeer; told: unknown[] }> {
  const peer = new BarePeer({ streamCountMax: 20 })
  peer.onStream = ({ stream, owner }) => {
    owner.onEnd = () => {
      stream.sendHeaders(answerBlock, false)
      stream.send(owner.bytes, ignore)
      stream.sendTrailers(trailerBlock)
    }
  }
  for (const chunk of chunks) {
    if (peer.ours.destroyed) break
    peer.ours.push(chunk)
  }
  await settled(30)
  const told = peer.streams.map(({ stream, owner }) => [stream.id, owner.told, owner.bytes.toString('hex'), owner.code])
  return { peer, told }
}

function cutAnywhere(bytes: Buffer, random: SeededRandom): Buffer[] {
  const chunks: Buffer[] = []
  const byteLengthMax = random.pick([1, 3, 20, 1000])
  for (let at = 0; at < bytes.byteLength; ) {
    const end = at + random.integer(1, byteLengthMax + 1)
    chunks.push(Buffer.from(bytes.subarray(at, end)))
    at = end
  }
  return chunks
}

test('traffic that is cut anywhere says what it says whole', async () => {
  const random = new SeededRandom(seed)
  for (let round = 0; round < 60; round++) {
    const bytes = Buffer.concat(traffic(random))
    const whole = await outcomeOf([bytes])
    const cut = await outcomeOf(cutAnywhere(bytes, random))
    expect(cut.told).toEqual(whole.told)
    expect(whole.told.length).toBeGreaterThan(0)
    expect(cut.peer.goAways).toEqual(whole.peer.goAways)
    for (const [streamId] of whole.told as [number][]) {
      expect(cut.peer.data(streamId)).toEqual(whole.peer.data(streamId))
    }
  }
})

test('bytes that are changed end the connection with a named error, or it goes on; all owners are told', async () => {
  const random = new SeededRandom(seed)
  let endedCount = 0
  for (let round = 0; round < 600; round++) {
    const bytes = Buffer.concat(traffic(random))
    for (let i = random.integer(1, 6); i > 0; i--) {
      const at = random.integer(preface.byteLength, bytes.byteLength)
      bytes[at] = random.chance(0.5) ? random.integer(0, 256) : bytes[at]! ^ (1 << random.integer(0, 8))
    }
    const { peer, told } = await outcomeOf(random.chance(0.5) ? [bytes] : cutAnywhere(bytes, random))
    if (peer.closedWith instanceof Http2Error) {
      endedCount++
      expect(Object.values(errorCode)).toContain(peer.closedWith.code)
      expect(peer.goAways).toEqual([peer.closedWith.code])
      for (const { owner } of peer.streams) expect(owner.told.at(-1)).toBe('closed')
    } else expect(peer.closedWith).toBe(undefined)
    for (const [, events] of told as [number, string[]][])
      expect(events.filter((event) => event === 'closed').length).toBeLessThan(2)
    peer.ours.destroy()
    await settled(3)
    for (const { owner } of peer.streams) expect(owner.told.filter((event) => event === 'closed').length).toBe(1)
  }
  expect(endedCount).toBeGreaterThan(50)
})

test('frames without any sense never do more than end the connection', async () => {
  const random = new SeededRandom(seed)
  for (let round = 0; round < 400; round++) {
    const frames = random.list(random.integer(1, 30), () =>
      frameOf(
        random.integer(0, 11),
        random.integer(0, 256),
        random.pick([0, 1, 2, 3, 5, 2 ** 31 - 1]),
        random.chance(0.3)
          ? requestBlock
          : Buffer.from(random.list(random.pick([0, 4, 5, 6, 8, 30]), () => random.integer(0, 256))),
      ),
    )
    const { peer } = await outcomeOf([preface, settingsOf(), ...frames])
    if (peer.closedWith !== undefined) expect(peer.closedWith).toBeInstanceOf(Http2Error)
    peer.ours.destroy()
    await settled(2)
  }
})

// ---- Two ends that do what is right ----

function optionsOf(random: SeededRandom, role: ConnectionOptions['role']): ConnectionOptions {
  return {
    ...plainOptions,
    role,
    streamWindowByteLength: random.pick([1, 100, 16_384, 65_535, 8 * MiB]),
    sessionWindowByteLength: random.pick([65_535, 16 * MiB]),
    dataFrameByteLengthMax: random.pick([16_384, MiB]),
    streamCountMax: random.pick([1, 3, 100]),
    resetBurstMax: 1e6,
    controlBurstMax: 1e6,
  }
}

/** Sends a body in random pieces, each when the one before has left, or all at once. */
async function sendBody(stream: Http2Stream, body: Buffer, random: SeededRandom): Promise<void> {
  const isPatient = random.chance(0.5)
  const ends: Promise<void>[] = []
  for (let at = 0; at < body.byteLength; ) {
    const end = Math.min(body.byteLength, at + random.integer(1, random.pick([10, 5000, 200_000])))
    const chunk = Buffer.from(body.subarray(at, end))
    const left = new Promise<void>((resolve) => {
      stream.send(chunk, () => {
        // It may be used again.
        chunk.fill(255)
        resolve()
      })
    })
    ends.push(left)
    if (isPatient) await left
    at = end
  }
  if (!isPatient) await Promise.all(ends)
}

function bodyOf(random: SeededRandom, smallWindow: boolean): Buffer {
  const byteLength = smallWindow
    ? random.integer(0, 300)
    : random.pick([0, 1, random.integer(0, 100_000), random.integer(0, 2 * MiB)])
  return Buffer.from(Uint8Array.from({ length: byteLength }, (_, i) => (i * 31 + byteLength) % 251))
}

test('between two ends of ours every byte arrives, whatever the windows, pauses and resets', async () => {
  const random = new SeededRandom(seed)
  for (let round = 0; round < 12; round++) {
    const [clientLine, serverLine] = Line.pair()
    for (const line of [clientLine, serverLine]) line.on('error', ignore)
    const serverOptions = optionsOf(random, 'server')
    const clientOptions = optionsOf(random, 'client')
    const isSmall = Math.min(serverOptions.streamWindowByteLength, clientOptions.streamWindowByteLength) < 1000
    const serverOwners: Recorder[] = []
    const server = new Http2Connection(serverLine, serverOptions, {
      stream(stream) {
        const owner = new Recorder()
        serverOwners.push(owner)
        stream.owner = owner
        owner.onData = () => {
          if (!random.chance(0.2)) return
          stream.pause()
          setImmediate(() => stream.resume())
        }
        owner.onEnd = () => {
          stream.sendHeaders(answerBlock, false)
          void sendBody(stream, owner.bytes, random).then(() => stream.sendTrailers(trailerBlock))
        }
      },
      closed: ignore,
    })
    let hasOpened = false
    const client = new Http2Connection(clientLine, clientOptions, {
      opened() {
        hasOpened = true
      },
      closed: ignore,
    })
    await until('it has opened', () => hasOpened)
    const calls = random.list(random.integer(1, 30), () => {
      const body = bodyOf(random, isSmall)
      const owner = new Recorder()
      const stream = client.open(requestBlock, false, owner)
      const isBroken = random.chance(0.15)
      void sendBody(stream, body, random).then(() => stream.end())
      if (isBroken) setTimeout(() => stream.reset(errorCode.cancel), random.integer(0, 10))
      owner.onData = () => {
        if (!random.chance(0.2)) return
        stream.pause()
        setImmediate(() => stream.resume())
      }
      return { body, owner, isBroken }
    })
    await until('all calls have ended', () => calls.every(({ owner }) => owner.code !== null))
    for (const { body, owner, isBroken } of calls) {
      if (isBroken && owner.code === errorCode.cancel) continue
      expect([owner.code, owner.error]).toEqual([0, null])
      expect(owner.bytes.equals(body)).toBe(true)
      expect(owner.lists.map((list) => list['grpc-status'])).toEqual([undefined, '0'])
    }
    await settled()
    expect([client.streamCount, server.streamCount]).toEqual([0, 0])
    expect(serverOwners.every(({ told }) => told.at(-1) === 'closed')).toBe(true)
    expect([client.isClosed, server.isClosed]).toEqual([false, false])
    client.leave()
    await until('both have ended', () => client.isClosed && server.isClosed)
  }
}, 60_000)

async function listening<S extends { listen: Server['listen']; address: Server['address'] }>(
  server: S,
): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return (server.address() as AddressInfo).port
}

test('a client of Node.js finds all of its bytes in what our server answers', async () => {
  const random = new SeededRandom(seed)
  const listener = createServer((socket) => {
    new Http2Connection(
      socket,
      { ...optionsOf(random, 'server'), streamCountMax: 100 },
      {
        stream(stream) {
          const owner = new Recorder()
          stream.owner = owner
          owner.onEnd = () => {
            stream.sendHeaders(answerBlock, false)
            void sendBody(stream, owner.bytes, random).then(() => stream.sendTrailers(trailerBlock))
          }
        },
        closed: ignore,
      },
    )
  })
  const port = await listening(listener)
  for (let round = 0; round < 5; round++) {
    const session = connectNode(`http://127.0.0.1:${port}`, { maxSessionMemory: 1000 })
    await new Promise((resolve) => session.once('remoteSettings', resolve))
    const isSmall = (session.remoteSettings.initialWindowSize ?? 0) < 1000
    const calls = random.list(20, async () => {
      const body = bodyOf(random, isSmall)
      const request = session.request({ ':method': 'POST', ':path': '/echo' })
      const chunks: Buffer[] = []
      let trailers: Record<string, unknown> = {}
      request.on('trailers', (found) => {
        trailers = found
      })
      request.on('data', (chunk: Buffer) => chunks.push(chunk))
      request.end(body)
      await new Promise((resolve, reject) => request.once('close', resolve).once('error', reject))
      return Buffer.concat(chunks).equals(body) && trailers['grpc-status'] === '0'
    })
    expect(await Promise.all(calls)).toEqual(Array.from({ length: 20 }, () => true))
    session.close()
    await new Promise((resolve) => session.once('close', resolve))
  }
  listener.close()
})

test('a server of Node.js answers our client with all of its bytes', async () => {
  const random = new SeededRandom(seed)
  const listener = createNodeServer({ settings: { maxConcurrentStreams: 7 }, maxSessionMemory: 1000 })
  listener.on('stream', (stream: ServerHttp2Stream) => {
    stream.respond({ ':status': 200 }, { waitForTrailers: true })
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }))
    stream.pipe(stream)
  })
  const port = await listening(listener)
  for (let round = 0; round < 5; round++) {
    const socket: Socket = connectSocket(port, '127.0.0.1')
    await new Promise((resolve) => socket.once('connect', resolve))
    const options = optionsOf(random, 'client')
    let hasOpened = false
    const client = new Http2Connection(socket, options, {
      opened() {
        hasOpened = true
      },
      closed: ignore,
    })
    await until('it has opened', () => hasOpened)
    const calls = random.list(20, () => {
      const body = bodyOf(random, options.streamWindowByteLength < 1000)
      const owner = new Recorder()
      const stream = client.open(requestBlock, false, owner)
      void sendBody(stream, body, random).then(() => stream.end())
      return { body, owner }
    })
    await until('all calls have ended', () => calls.every(({ owner }) => owner.code !== null))
    for (const { body, owner } of calls) {
      expect([owner.code, owner.error, owner.bytes.equals(body)]).toEqual([0, null, true])
      expect(owner.lists.at(-1)?.['grpc-status']).toBe('0')
    }
    client.leave()
    await until('it has ended', () => client.isClosed)
  }
  listener.close()
})
