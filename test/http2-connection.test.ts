// An HTTP/2 connection of ours in front of a peer that sends whatever frames it likes (RFC 9113).
import { describe, expect, test } from 'vitest'
import { errorCode } from '../dist/proto/http2/errors.js'
import { flag, frameType, preface, setting } from '../dist/proto/http2/frames.js'
import { encodeHeaders } from '../dist/proto/http2/hpack.js'
import type { Http2Stream } from '../dist/proto/http2/stream.js'
import { BarePeer, frameOf, MiB, Recorder, requestBlock, settingsOf, settled, until, words } from './http2-bare-peer.js'

const ignore = () => {}

/** A length below 2^14 + 127 as HPACK writes it, in seven bits of its first byte. */
function lengthOf(value: string): Buffer {
  const rest = value.length - 127
  return Buffer.from(rest < 0 ? [value.length] : rest < 128 ? [127, rest] : [127, (rest & 127) | 128, rest >> 7])
}

const answerBlock = encodeHeaders([[':status', '200']])
const trailerBlock = encodeHeaders([['grpc-status', '0']])
const text = (bytes: Buffer) => bytes.toString('latin1')

async function greeted(...options: ConstructorParameters<typeof BarePeer>): Promise<BarePeer> {
  const peer = new BarePeer(...options)
  peer.greet()
  await settled()
  return peer
}

/** A stream of a server, its request whole unless said otherwise. */
async function taken(peer: BarePeer, hasEnded = true): Promise<{ stream: Http2Stream; owner: Recorder }> {
  peer.request(2 * peer.streams.length + 1, hasEnded)
  await settled()
  return peer.streams.at(-1)!
}

describe('a server', () => {
  test('says its settings and the window of the connection first', async () => {
    const peer = new BarePeer({ sessionWindowByteLength: MiB, streamWindowByteLength: 100_000, streamCountMax: 7 })
    await settled()
    const [settings, update] = peer.frames
    expect([settings!.type, settings!.flags, settings!.streamId]).toEqual([frameType.settings, 0, 0])
    const found: number[][] = []
    for (let at = 0; at < settings!.payload.byteLength; at += 6) {
      found.push([settings!.payload.readUInt16BE(at), settings!.payload.readUInt32BE(at + 2)])
    }
    expect(found).toEqual([
      [setting.streamWindow, 100_000],
      [setting.frameSizeMax, 16_384],
      [setting.headerListSizeMax, 16_384],
      [setting.streamCountMax, 7],
    ])
    expect([update!.type, update!.payload.readUInt32BE(0)]).toEqual([frameType.windowUpdate, MiB - 65_535])
  })

  test('hands a request to its owner and sends the answer in order, in one write', async () => {
    const peer = await greeted()
    peer.onStream = ({ stream, owner }) => {
      owner.onEnd = () => {
        stream.sendHeaders(answerBlock, false)
        stream.send(Buffer.from('hello'), ignore)
        stream.sendTrailers(trailerBlock)
      }
    }
    let writeCount = 0
    const write = peer.ours._write.bind(peer.ours)
    peer.ours._write = (...all) => {
      writeCount++
      write(...all)
    }
    peer.request(1, false)
    peer.send(
      frameOf(frameType.data, 0, 1, Buffer.from('ab')),
      frameOf(frameType.data, flag.endStream, 1, Buffer.from('c')),
    )
    await settled()
    const [{ headers, owner }] = peer.streams as [BarePeer['streams'][number]]
    expect(headers[':path']).toBe('/echo')
    expect(text(owner.bytes)).toBe('abc')
    expect(owner.told).toEqual(['data', 'end', 'closed'])
    expect([owner.code, owner.error]).toEqual([0, null])
    expect(peer.lists()).toMatchObject([{ ':status': '200' }, { 'grpc-status': '0' }])
    expect(text(peer.data(1))).toBe('hello')
    expect(peer.frames.slice(-3).map(({ type, flags }) => [type, flags])).toEqual([
      [frameType.headers, flag.endHeaders],
      [frameType.data, 0],
      [frameType.headers, flag.endHeaders | flag.endStream],
    ])
    expect(writeCount).toBe(1)
    expect(peer.connection.streamCount).toBe(0)
  })

  test('takes padding, priorities and header blocks in pieces', async () => {
    const peer = await greeted()
    const head = Buffer.concat([
      Buffer.from([3]),
      words(0),
      Buffer.from([9]),
      requestBlock.subarray(0, 4),
      Buffer.alloc(3),
    ])
    peer.send(
      frameOf(frameType.headers, flag.padded | flag.priority, 1, head),
      frameOf(frameType.continuation, 0, 1, requestBlock.subarray(4, 9)),
      frameOf(frameType.continuation, flag.endHeaders, 1, requestBlock.subarray(9)),
      frameOf(frameType.data, flag.padded, 1, Buffer.concat([Buffer.from([4]), Buffer.from('xyz'), Buffer.alloc(4)])),
      frameOf(frameType.data, flag.padded, 1, Buffer.concat([Buffer.from([2]), Buffer.alloc(2)])),
      frameOf(frameType.data, flag.padded | flag.endStream, 1, Buffer.from([0])),
    )
    await settled()
    expect(peer.streams[0]!.headers[':authority']).toBe('here')
    expect(text(peer.streams[0]!.owner.bytes)).toBe('xyz')
    expect(peer.streams[0]!.owner.told).toEqual(['data', 'end'])
  })

  test('ignores frames of types that it does not know', async () => {
    const peer = await greeted()
    peer.send(frameOf(0x42, 0xff, 1, Buffer.alloc(1000)), frameOf(0x43, 0, 0))
    await taken(peer)
    expect(peer.streams.length).toBe(1)
  })

  test('answers a PING with its bytes', async () => {
    const peer = await greeted()
    peer.send(frameOf(frameType.ping, 0, 0, Buffer.from('12345678')))
    await settled()
    expect(peer.of(frameType.ping).map(({ flags, payload }) => [flags, text(payload)])).toEqual([[1, '12345678']])
  })

  test('knows its own PINGs, and no answers to others', async () => {
    const peer = await greeted()
    let answerCount = 0
    peer.connection.ping(() => answerCount++)
    await settled()
    const { payload } = peer.of(frameType.ping)[0]!
    peer.send(frameOf(frameType.ping, 1, 0, Buffer.alloc(8, 7)))
    await settled()
    expect(answerCount).toBe(0)
    peer.send(frameOf(frameType.ping, 1, 0, payload), frameOf(frameType.ping, 1, 0, payload))
    await settled()
    expect(answerCount).toBe(1)
  })

  test('refuses streams beyond what it told, and serves the others', async () => {
    const peer = await greeted({ streamCountMax: 2 })
    for (const id of [1, 3, 5]) peer.request(id)
    await settled()
    expect(peer.streams.length).toBe(2)
    expect(peer.resets(5)).toEqual([errorCode.refusedStream])
    peer.streams[0]!.stream.sendHeaders(answerBlock, true)
    peer.request(7)
    await settled()
    expect(peer.streams.length).toBe(3)
    expect(peer.closedWith).toBeUndefined()
  })

  test('that answers before the request has ended asks for no more of it, and bears what is under way', async () => {
    const peer = await greeted()
    const { stream, owner } = await taken(peer, false)
    stream.sendHeaders(answerBlock, true)
    await settled()
    expect(peer.resets(1)).toEqual([errorCode.none])
    expect([owner.told, owner.code]).toEqual([['closed'], 0])
    peer.send(frameOf(frameType.data, 0, 1, Buffer.alloc(100)), frameOf(frameType.headers, 5, 1, trailerBlock))
    peer.send(frameOf(frameType.windowUpdate, 0, 1, words(5)), frameOf(frameType.resetStream, 0, 1, words(8)))
    await taken(peer)
    expect(peer.closedWith).toBeUndefined()
  })

  test('sends header blocks that are longer than a frame in several', async () => {
    const peer = await greeted()
    const { stream } = await taken(peer)
    const value = 'v'.repeat(40_000)
    stream.sendHeaders(
      encodeHeaders([
        [':status', '200'],
        ['long', value],
      ]),
      true,
    )
    await settled()
    expect(peer.of(frameType.headers).length).toBe(1)
    expect(peer.of(frameType.continuation).length).toBe(2)
    expect(peer.lists()).toMatchObject([{ long: value }])
  })

  test('tells a decoder whose table was made smaller that it has none, once', async () => {
    const peer = new BarePeer()
    peer.greet([setting.headerTableSize, 0])
    for (let i = 0; i < 2; i++) (await taken(peer)).stream.sendHeaders(answerBlock, true)
    await settled()
    expect(peer.of(frameType.headers).map(({ payload }) => payload[0])).toEqual([0x20, answerBlock[0]])
  })

  test('tells the owners of all streams when the peer is gone, and the connection last', async () => {
    const peer = await greeted()
    const first = await taken(peer, false)
    const second = await taken(peer)
    peer.line.end()
    await settled()
    for (const { owner } of [first, second]) expect(owner.error?.message).toBe('the peer ended the connection')
    expect(peer.closedWith).toBe(first.owner.error)
    expect(peer.hasEnded).toBe(true)
  })

  test('that nobody needs any more is ended by its peer without an error', async () => {
    const peer = await greeted()
    peer.line.end()
    await settled()
    expect(peer.closedWith).toBe(null)
  })
})

test('an owner that throws ends its connection, and nothing else', async () => {
  const peer = await greeted()
  const thrown = new TypeError('of an owner')
  peer.onStream = () => {
    throw thrown
  }
  peer.request(1)
  await settled()
  expect([peer.goAways, peer.hasEnded]).toEqual([[errorCode.internal], true])
  expect(peer.closedWith?.cause).toBe(thrown)
  expect(peer.streams[0]!.owner.told).toEqual(['closed'])
})

test('who throws when told that bytes have left ends the connection, and the others are told', async () => {
  const peer = await greeted()
  const thrown = new TypeError('of an owner')
  const { stream } = await taken(peer)
  let toldCount = 0
  stream.sendHeaders(answerBlock, false)
  stream.send(Buffer.from('a'), () => {
    throw thrown
  })
  stream.send(Buffer.from('b'), () => {
    toldCount++
  })
  await settled()
  expect([peer.goAways, peer.hasEnded, toldCount]).toEqual([[errorCode.internal], true, 1])
  expect(peer.closedWith?.cause).toBe(thrown)
})

describe('flow control', () => {
  test('holds what is above the windows of the peer, of a stream and of all', async () => {
    const peer = new BarePeer()
    peer.greet([setting.streamWindow, 1000])
    const first = await taken(peer)
    const second = await taken(peer)
    let leftCount = 0
    for (const { stream } of [first, second]) {
      stream.sendHeaders(answerBlock, false)
      stream.send(Buffer.alloc(100_000, 1), () => leftCount++, true)
    }
    await settled()
    expect([peer.data(1).byteLength, peer.data(3).byteLength, leftCount]).toEqual([1000, 1000, 0])
    expect(first.stream.unsentByteLength).toBe(99_000)
    peer.send(
      frameOf(frameType.windowUpdate, 0, 1, words(200_000)),
      frameOf(frameType.windowUpdate, 0, 3, words(99_000)),
    )
    await settled()
    expect(peer.data(1).byteLength + peer.data(3).byteLength).toBe(65_535)
    peer.send(frameOf(frameType.windowUpdate, 0, 0, words(200_000)))
    await until('all has come', () => peer.data(1).byteLength + peer.data(3).byteLength === 200_000)
    await settled()
    expect(leftCount).toBe(2)
    expect([first.owner.told, second.owner.told]).toEqual([
      ['end', 'closed'],
      ['end', 'closed'],
    ])
  })

  test('follows settings that change windows under way, below 0 too', async () => {
    const peer = new BarePeer()
    peer.greet([setting.streamWindow, 1000])
    const { stream } = await taken(peer)
    stream.sendHeaders(answerBlock, false)
    stream.send(Buffer.alloc(5000), ignore, true)
    await settled()
    peer.send(settingsOf([setting.streamWindow, 200]))
    peer.send(frameOf(frameType.windowUpdate, 0, 1, words(800)))
    await settled()
    expect(peer.data(1).byteLength).toBe(1000)
    peer.send(frameOf(frameType.windowUpdate, 0, 1, words(1)))
    await settled()
    expect(peer.data(1).byteLength).toBe(1001)
    peer.send(settingsOf([setting.streamWindow, 5000]))
    await settled()
    expect(peer.data(1).byteLength).toBe(5000)
  })

  test('lets streams take turns: a small answer does not wait for a large one', async () => {
    const peer = new BarePeer({ dataFrameByteLengthMax: MiB })
    peer.greet([setting.streamWindow, 2 ** 30], [setting.frameSizeMax, MiB])
    peer.send(frameOf(frameType.windowUpdate, 0, 0, words(2 ** 30)))
    const large = await taken(peer)
    const small = await taken(peer)
    for (const [{ stream }, byteLength] of [
      [large, 8 * MiB],
      [small, 10_000],
    ] as const) {
      stream.sendHeaders(answerBlock, false)
      stream.send(Buffer.alloc(byteLength), ignore, true)
    }
    await until('all has come', () => peer.data(1).byteLength === 8 * MiB && peer.data(3).byteLength === 10_000)
    const dataFrames = peer.of(frameType.data)
    const at = dataFrames.findIndex(({ streamId, flags }) => streamId === 3 && (flags & flag.endStream) !== 0)
    const before = dataFrames.slice(0, at).reduce((sum, { payload }) => sum + payload.byteLength, 0)
    expect(before).toBeLessThan(MiB)
  })

  test('gives windows again as owners take, and none to a stream that is paused', async () => {
    const peer = await greeted()
    const paused = await taken(peer, false)
    const other = await taken(peer, false)
    paused.stream.pause()
    const data = (id: number) => frameOf(frameType.data, 0, id, Buffer.alloc(16_000))
    for (let i = 0; i < 4; i++) peer.send(data(1), data(3))
    await settled()
    // What comes is handed over in any case.
    expect(paused.owner.bytes.byteLength).toBe(64_000)
    const given = (id: number) =>
      peer.of(frameType.windowUpdate, id).reduce((sum, { payload }) => sum + payload.readUInt32BE(0), 0)
    expect(given(1)).toBe(0)
    expect(given(3)).toBeGreaterThanOrEqual(32_000)
    expect(given(0)).toBeGreaterThanOrEqual(96_000)
    paused.stream.resume()
    await settled()
    expect(given(1)).toBe(64_000)
    other.stream.reset(errorCode.cancel)
  })

  test('counts the padding of DATA', async () => {
    const peer = await greeted()
    await taken(peer, false)
    const padded = frameOf(frameType.data, flag.padded, 1, Buffer.concat([Buffer.from([255]), Buffer.alloc(16_000)]))
    for (let i = 0; i < 3; i++) peer.send(padded)
    await settled()
    const given = peer.of(frameType.windowUpdate, 1).reduce((sum, { payload }) => sum + payload.readUInt32BE(0), 0)
    expect(given).toBeGreaterThanOrEqual(3 * 16_001)
  })
})

describe('what has not left', () => {
  test('stays with its stream while the peer does not read, and is given up with it', async () => {
    const peer = new BarePeer()
    peer.greet([setting.streamWindow, 2 ** 30])
    peer.send(frameOf(frameType.windowUpdate, 0, 0, words(2 ** 30)))
    const { stream } = await taken(peer)
    peer.ours.hold()
    const left: number[] = []
    stream.sendHeaders(answerBlock, false)
    for (let i = 0; i < 32; i++) stream.send(Buffer.alloc(MiB), () => left.push(i))
    await settled()
    expect(left).toEqual([])
    expect(peer.connection.unsentByteLength).toBeLessThan(MiB)
    expect(stream.unsentByteLength).toBeGreaterThan(31 * MiB)
    stream.reset(errorCode.enhanceYourCalm)
    await settled()
    // Of the first one the socket still has a part.
    expect(left).toEqual(Array.from({ length: 31 }, (_, i) => i + 1))
    expect(stream.unsentByteLength).toBe(0)
    peer.ours.release()
    await until('the rest has left', () => left.length === 32)
    await until('the reset has come', () => peer.resets(1).length > 0)
    expect(peer.resets(1)).toEqual([errorCode.enhanceYourCalm])
  })

  test('is told once for each chunk, also to those that come too late', async () => {
    const peer = await greeted()
    const { stream } = await taken(peer)
    const told: string[] = []
    stream.sendHeaders(answerBlock, false)
    stream.send(Buffer.alloc(0), () => told.push('nothing'))
    stream.send(Buffer.alloc(10), () => told.push('sent'), true)
    stream.send(Buffer.alloc(10), () => told.push('behind the end'))
    expect(told).toEqual([])
    await settled()
    expect(told.sort()).toEqual(['behind the end', 'nothing', 'sent'])
    expect(peer.data(1).byteLength).toBe(10)
  })

  test('is told when the socket is gone, and not before', async () => {
    const peer = await greeted()
    const { stream, owner } = await taken(peer)
    peer.ours.hold()
    let leftCount = 0
    stream.sendHeaders(answerBlock, false)
    stream.send(Buffer.alloc(10_000), () => leftCount++)
    await settled()
    peer.connection.destroy(null, errorCode.none)
    expect(owner.told).toEqual(['end', 'closed'])
    await settled()
    expect(leftCount).toBe(0)
    peer.ours.destroy()
    await settled()
    expect(leftCount).toBe(1)
  })
})

describe('leaving', () => {
  test('a server serves what it has, and what was opened before the peer heard of it', async () => {
    const peer = await greeted()
    const { stream } = await taken(peer)
    peer.connection.leave()
    await settled()
    expect(peer.of(frameType.goAway).map(({ payload }) => payload.readUInt32BE(0))).toEqual([2 ** 31 - 1])
    await taken(peer)
    expect(peer.streams.length).toBe(2)
    peer.send(frameOf(frameType.ping, 1, 0, peer.of(frameType.ping)[0]!.payload))
    await settled()
    expect(peer.of(frameType.goAway).map(({ payload }) => payload.readUInt32BE(0))).toEqual([2 ** 31 - 1, 3])
    peer.request(5)
    await settled()
    expect(peer.streams.length).toBe(2)
    for (const each of [stream, peer.streams[1]!.stream]) each.sendHeaders(answerBlock, true)
    await until('it ends', () => peer.hasEnded)
    expect(peer.lists().length).toBe(2)
    expect(peer.goAways).toEqual([0, 0])
    expect(peer.closedWith).toBe(null)
  })

  test('the last answer leaves, however slowly the peer reads, before the connection ends', async () => {
    const peer = await greeted()
    const { stream } = await taken(peer)
    peer.connection.leave()
    await settled()
    peer.send(frameOf(frameType.ping, 1, 0, peer.of(frameType.ping)[0]!.payload))
    await settled()
    peer.ours.hold()
    stream.sendHeaders(answerBlock, false)
    stream.send(Buffer.alloc(1000), ignore, true)
    await settled()
    expect([stream.isClosed, peer.closedWith]).toEqual([true, undefined])
    peer.ours.release()
    await until('it ends', () => peer.hasEnded)
    expect([peer.of(frameType.data).length, peer.closedWith]).toEqual([1, null])
  })

  test('a peer that never reads the last word does not hold the socket', async () => {
    const peer = await greeted()
    peer.ours.hold()
    peer.connection.destroy(null, errorCode.none)
    const closed = new Promise((resolve) => peer.ours.once('close', resolve))
    await closed
  })
})

/** What a peer may not do, and what becomes of it: the code of a GOAWAY, or (stream 1) of a reset. */
describe('a peer that does what is forbidden', () => {
  const open = frameOf(frameType.headers, 4, 1, requestBlock)
  const whole = frameOf(frameType.headers, 5, 1, requestBlock)
  const { protocol, frameSize, flowControl, streamClosed, compression, enhanceYourCalm } = errorCode
  /** Literals without indexing: our own encoder refuses some of these. */
  const literal = ([name, value]: [string, string]) =>
    Buffer.concat([Buffer.from([0, name.length]), Buffer.from(name), lengthOf(value), Buffer.from(value)])
  const list = (...pairs: [string, string][]) =>
    Buffer.concat([
      encodeHeaders([
        [':method', 'POST'],
        [':scheme', 'http'],
        [':path', '/'],
      ]),
      ...pairs.map(literal),
    ])
  const forbidden: [name: string, frames: Buffer[], ends: 'connection' | 'stream', code: number][] = [
    ['DATA of no stream', [frameOf(0, 0, 0, Buffer.alloc(1))], 'connection', protocol],
    ['DATA of a stream that was never opened', [frameOf(0, 0, 1, Buffer.alloc(1))], 'connection', protocol],
    ['DATA behind the end', [whole, frameOf(0, 0, 1, Buffer.alloc(1))], 'stream', streamClosed],
    ['padding longer than DATA', [open, frameOf(0, 8, 1, Buffer.from([9, 1]))], 'connection', protocol],
    ['padded DATA without a byte', [open, frameOf(0, 8, 1)], 'connection', frameSize],
    ['a frame larger than was told', [open, frameOf(0, 0, 1, Buffer.alloc(16_385))], 'connection', frameSize],
    ['HEADERS of no stream', [frameOf(1, 5, 0, requestBlock)], 'connection', protocol],
    ['HEADERS of a stream of the server', [frameOf(1, 5, 2, requestBlock)], 'connection', protocol],
    [
      'HEADERS of a lower stream',
      [frameOf(1, 5, 5, requestBlock), frameOf(1, 5, 3, requestBlock)],
      'connection',
      protocol,
    ],
    ['headers behind the end', [whole, frameOf(1, 5, 1, trailerBlock)], 'stream', streamClosed],
    ['trailers that do not end the stream', [open, frameOf(1, 4, 1, trailerBlock)], 'stream', protocol],
    ['a pseudo-header among trailers', [open, frameOf(1, 5, 1, answerBlock)], 'stream', protocol],
    ['padding longer than HEADERS', [frameOf(1, 13, 1, Buffer.from([9, 1]))], 'connection', protocol],
    [
      'a block that is interrupted',
      [frameOf(1, 1, 1, requestBlock), frameOf(6, 0, 0, Buffer.alloc(8))],
      'connection',
      protocol,
    ],
    ['a block that goes on elsewhere', [frameOf(1, 1, 1, requestBlock), frameOf(9, 4, 3)], 'connection', protocol],
    ['CONTINUATION of nothing', [frameOf(9, 4, 1)], 'connection', protocol],
    ['a block that is no HPACK', [frameOf(1, 5, 1, Buffer.from([0x80]))], 'connection', compression],
    ['headers without a path', [frameOf(1, 5, 1, encodeHeaders([[':method', 'GET']]))], 'stream', protocol],
    ['a name in upper case', [frameOf(1, 5, 1, list(['Name', '1']))], 'stream', protocol],
    ['a header of the connection', [frameOf(1, 5, 1, list(['connection', 'close']))], 'stream', protocol],
    ['too many headers', [frameOf(1, 5, 1, list(['x', 'y'.repeat(16_300)]))], 'stream', enhanceYourCalm],
    ['a content-length that is no number', [frameOf(1, 4, 1, list(['content-length', '1x']))], 'stream', protocol],
    [
      'less than the content-length',
      [frameOf(1, 4, 1, list(['content-length', '5'])), frameOf(0, 1, 1, Buffer.alloc(4))],
      'stream',
      protocol,
    ],
    [
      'more than the content-length',
      [frameOf(1, 4, 1, list(['content-length', '5'])), frameOf(0, 0, 1, Buffer.alloc(6))],
      'stream',
      protocol,
    ],
    ['no body where a content-length says so', [frameOf(1, 5, 1, list(['content-length', '5']))], 'stream', protocol],
    [
      'a stream that depends on itself',
      [frameOf(2, 0, 1, Buffer.concat([words(1), Buffer.from([0])]))],
      'connection',
      protocol,
    ],
    ['PRIORITY of another size', [frameOf(2, 0, 1, Buffer.alloc(4))], 'connection', frameSize],
    ['PRIORITY of no stream', [frameOf(2, 0, 0, Buffer.alloc(5))], 'connection', protocol],
    ['RST_STREAM of another size', [open, frameOf(3, 0, 1, Buffer.alloc(3))], 'connection', frameSize],
    ['RST_STREAM of no stream', [frameOf(3, 0, 0, words(8))], 'connection', protocol],
    ['RST_STREAM of a stream that was never opened', [frameOf(3, 0, 1, words(8))], 'connection', protocol],
    ['SETTINGS of a stream', [frameOf(4, 0, 1)], 'connection', protocol],
    ['SETTINGS of another size', [frameOf(4, 0, 0, Buffer.alloc(5))], 'connection', frameSize],
    ['SETTINGS acknowledged with some', [frameOf(4, 1, 0, Buffer.alloc(6))], 'connection', frameSize],
    ['a window that is too large', [settingsOf([setting.streamWindow, 2 ** 31])], 'connection', flowControl],
    ['a frame size that is too small', [settingsOf([setting.frameSizeMax, 16_383])], 'connection', protocol],
    ['a frame size that is too large', [settingsOf([setting.frameSizeMax, 2 ** 24])], 'connection', protocol],
    ['ENABLE_PUSH of 2', [settingsOf([setting.enablePush, 2])], 'connection', protocol],
    ['settings as many as a frame holds', [frameOf(4, 0, 0, Buffer.alloc(1020))], 'connection', enhanceYourCalm],
    ['more settings than there are', [frameOf(4, 0, 0, Buffer.alloc(6000))], 'connection', enhanceYourCalm],
    ['PUSH_PROMISE', [open, frameOf(5, 4, 1, Buffer.alloc(8))], 'connection', protocol],
    ['PING of a stream', [frameOf(6, 0, 1, Buffer.alloc(8))], 'connection', protocol],
    ['PING of another size', [frameOf(6, 0, 0, Buffer.alloc(7))], 'connection', frameSize],
    ['GOAWAY of a stream', [frameOf(7, 0, 1, Buffer.alloc(8))], 'connection', protocol],
    ['GOAWAY that is too short', [frameOf(7, 0, 0, Buffer.alloc(7))], 'connection', frameSize],
    ['WINDOW_UPDATE by 0', [frameOf(8, 0, 0, words(0))], 'connection', protocol],
    ['WINDOW_UPDATE of a stream by 0', [open, frameOf(8, 0, 1, words(0))], 'stream', protocol],
    ['WINDOW_UPDATE of another size', [frameOf(8, 0, 0, Buffer.alloc(3))], 'connection', frameSize],
    ['WINDOW_UPDATE of a stream that was never opened', [frameOf(8, 0, 1, words(1))], 'connection', protocol],
    ['a window of the connection beyond all', [frameOf(8, 0, 0, words(2 ** 31 - 1))], 'connection', flowControl],
    ['a window of a stream beyond all', [open, frameOf(8, 0, 1, words(2 ** 31 - 1))], 'stream', flowControl],
    [
      'settings that make a window of a stream larger than may be',
      [open, frameOf(8, 0, 1, words(2 ** 31 - 65_536)), settingsOf([setting.streamWindow, 65_536])],
      'connection',
      flowControl,
    ],
  ]
  test.each(forbidden)('%s', async (_name, frames, ends, code) => {
    const peer = await greeted()
    peer.send(...frames)
    await settled()
    if (ends === 'connection') {
      expect([peer.goAways, peer.hasEnded]).toEqual([[code], true])
      for (const { owner } of peer.streams) expect(owner.told.at(-1)).toBe('closed')
    } else {
      expect([peer.resets(1), peer.goAways]).toEqual([[code], []])
      await taken(peer).catch(() => undefined)
      peer.request(9)
      await settled()
      expect(peer.streams.at(-1)?.stream.id).toBe(9)
    }
  })

  test('DATA beyond the window of its stream', async () => {
    const peer = await greeted({ streamWindowByteLength: 20_000 })
    const data = (id: number) => frameOf(frameType.data, 0, id, Buffer.alloc(16_000))
    // Before it knows our settings it may send as much as HTTP/2 gives it.
    ;(await taken(peer, false)).stream.pause()
    peer.send(data(1), data(1), frameOf(frameType.settings, flag.acknowledged, 0))
    ;(await taken(peer, false)).stream.pause()
    peer.send(data(3), data(3))
    await settled()
    expect([peer.resets(1), peer.resets(3), peer.goAways]).toEqual([[], [errorCode.flowControl], []])
  })

  test('DATA beyond the window of the connection', async () => {
    const peer = await greeted({ dataFrameByteLengthMax: MiB, streamWindowByteLength: MiB })
    await taken(peer, false)
    peer.send(frameOf(frameType.data, 0, 1, Buffer.alloc(65_536)))
    await settled()
    expect(peer.goAways).toEqual([errorCode.flowControl])
  })

  test('the first frame must be settings', async () => {
    const peer = new BarePeer()
    peer.send(preface, frameOf(frameType.ping, 0, 0, Buffer.alloc(8)))
    await settled()
    expect([peer.goAways, peer.hasEnded]).toEqual([[errorCode.protocol], true])
  })

  test.each(['GET / HTTP/1.1\r\nHost: x\r\n\r\n', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\rX', '\0'.repeat(100)])(
    'bytes that do not begin as HTTP/2 end their connection: %j',
    async (bytes) => {
      const peer = new BarePeer()
      peer.send(Buffer.from(bytes))
      await settled()
      expect([peer.goAways, peer.hasEnded]).toEqual([[errorCode.protocol], true])
      expect(peer.closedWith?.message).toBe('the connection does not begin as HTTP/2 does')
    },
  )
})

describe('floods', () => {
  const many = (frame: Buffer, count = 1100) => Buffer.concat(Array.from({ length: count }, () => frame))
  const open = frameOf(frameType.headers, 4, 1, requestBlock)
  const floods: [string, Buffer[]][] = [
    ['PING', [many(frameOf(6, 0, 0, Buffer.alloc(8)))]],
    ['answers to no PING', [many(frameOf(6, 1, 0, Buffer.alloc(8)))]],
    ['GOAWAY', [many(frameOf(7, 0, 0, Buffer.alloc(8)))]],
    ['SETTINGS', [many(frameOf(4, 0, 0))]],
    ['SETTINGS acknowledged', [many(frameOf(4, 1, 0))]],
    ['PRIORITY', [many(frameOf(2, 0, 1, Buffer.alloc(5)))]],
    ['WINDOW_UPDATE', [many(frameOf(8, 0, 0, words(1)))]],
    ['WINDOW_UPDATE of a stream', [open, many(frameOf(8, 0, 1, words(1)))]],
    ['empty DATA', [open, many(frameOf(0, 0, 1))]],
    ['padding alone', [open, many(frameOf(0, 8, 1, Buffer.from([0])))]],
    ['frames of unknown types', [many(frameOf(0x42, 0, 0))]],
    ['CONTINUATION', [frameOf(1, 0, 1, requestBlock), many(frameOf(9, 0, 1))]],
    ['a header block without end', [frameOf(1, 0, 1, Buffer.alloc(16_384)), frameOf(9, 0, 1, Buffer.alloc(16_384))]],
  ]
  test.each(floods)('%s', async (_name, frames) => {
    const peer = await greeted()
    peer.send(...frames)
    await until('it ends', () => peer.hasEnded)
    expect(peer.goAways).toEqual([errorCode.enhanceYourCalm])
  })

  test('streams that are broken off at once', async () => {
    const peer = await greeted()
    for (let id = 1; id < 400; id += 2) {
      peer.request(id, false)
      peer.send(frameOf(frameType.resetStream, 0, id, words(8)))
    }
    await until('it ends', () => peer.hasEnded)
    expect(peer.goAways).toEqual([errorCode.enhanceYourCalm])
    expect(peer.streams.length).toBeLessThanOrEqual(101)
  })

  test.each([
    ['headers', frameOf(1, 5, 1, trailerBlock)],
    ['DATA that is empty', frameOf(0, 1, 1)],
  ])('%s for a stream that was reset', async (_name, frame) => {
    const peer = await greeted()
    ;(await taken(peer, false)).stream.reset(errorCode.cancel)
    peer.send(many(frame))
    await until('it ends', () => peer.hasEnded)
    expect(peer.goAways).toEqual([errorCode.enhanceYourCalm])
  })

  test('the rest of a body that is not wanted any more is none', async () => {
    const peer = await greeted({ streamWindowByteLength: MiB, sessionWindowByteLength: MiB })
    ;(await taken(peer, false)).stream.reset(errorCode.cancel)
    peer.send(many(frameOf(0, 0, 1, Buffer.alloc(100)), 5000))
    await taken(peer)
    expect(peer.goAways).toEqual([])
    expect(peer.streams.length).toBe(2)
  })

  test('streams that make no sense', async () => {
    const peer = await greeted()
    for (let id = 1; id < 400; id += 2) peer.send(frameOf(1, 5, id, encodeHeaders([['x', 'y']])))
    await until('it ends', () => peer.hasEnded)
    expect(peer.goAways).toEqual([errorCode.enhanceYourCalm])
  })

  test('streams beyond what was told; before the peer knows, it may err more often', async () => {
    const polite = await greeted({ streamCountMax: 1 })
    for (let id = 1; id < 1000; id += 2) polite.request(id)
    await settled(2000)
    expect(polite.goAways).toEqual([])
    polite.send(frameOf(frameType.settings, flag.acknowledged, 0))
    for (let id = 1001; id < 1400; id += 2) polite.request(id)
    await until('it ends', () => polite.hasEnded)
    expect(polite.goAways).toEqual([errorCode.enhanceYourCalm])
  })

  test('pings whose answers nobody reads', async () => {
    const peer = await greeted({ controlBurstMax: 1_000_000 })
    peer.ours.hold()
    peer.connection.ping(ignore)
    await settled()
    peer.send(many(frameOf(6, 0, 0, Buffer.alloc(8)), 10_000))
    await settled(100)
    expect(peer.closedWith?.message).toBe('the peer does not take what it asks for')
    peer.ours.destroy()
  })

  test('many calls, with pings and window updates for what comes, are none', async () => {
    const peer = await greeted({ controlBurstMax: 10 })
    peer.onStream = ({ stream, owner }) => {
      owner.onEnd = () => {
        stream.sendHeaders(answerBlock, false)
        stream.send(Buffer.alloc(100), ignore, true)
      }
    }
    for (let id = 1; id < 4000; id += 2) {
      peer.request(id)
      peer.send(frameOf(8, 0, 0, words(100)), frameOf(6, 0, 0, Buffer.alloc(8)))
      if (id % 20 === 1) await settled(2)
    }
    await until('all have come', () => peer.streams.length === 2000 || peer.hasEnded)
    expect(peer.goAways).toEqual([])
    expect(peer.streams.length).toBe(2000)
  })
})

describe('a client', () => {
  function client(...settings: [number, number][]): BarePeer {
    const peer = new BarePeer({ role: 'client' })
    peer.send(settingsOf(...settings))
    return peer
  }

  test('says the preface, its settings, then requests', async () => {
    const peer = client()
    const owner = new Recorder()
    const stream = peer.connection.open(requestBlock, false, owner)
    stream.send(Buffer.from('ask'), ignore, true)
    await settled()
    expect(peer.received.subarray(0, preface.byteLength)).toEqual(preface)
    expect(peer.lists()).toMatchObject([{ ':path': '/echo' }])
    expect(text(peer.data(1))).toBe('ask')
    peer.send(frameOf(1, 4, 1, encodeHeaders([[':status', '100']])), frameOf(1, 4, 1, answerBlock))
    peer.send(frameOf(0, 0, 1, Buffer.from('answer')), frameOf(1, 5, 1, trailerBlock))
    await settled()
    expect(owner.told).toEqual(['headers', 'data', 'headers, the last', 'end', 'closed'])
    expect(owner.lists).toMatchObject([{ ':status': '200' }, { 'grpc-status': '0' }])
    expect(owner.code).toBe(0)
  })

  test('opens no more streams than the server takes, and the others in their order', async () => {
    const peer = client([setting.streamCountMax, 2])
    await settled()
    const owners = Array.from({ length: 5 }, () => new Recorder())
    const streams = owners.map((owner) => peer.connection.open(requestBlock, true, owner))
    await settled()
    expect(streams.map(({ id }) => id)).toEqual([1, 3, 0, 0, 0])
    streams[3]!.reset(errorCode.cancel)
    expect(owners[3]!.code).toBe(errorCode.cancel)
    peer.send(frameOf(1, 5, 3, answerBlock))
    await settled()
    expect(streams.map(({ id }) => id)).toEqual([1, 3, 5, 0, 0])
    peer.send(settingsOf([setting.streamCountMax, 10]))
    await settled()
    expect(streams.map(({ id }) => id)).toEqual([1, 3, 5, 0, 7])
    expect(peer.connection.streamCount).toBe(3)
  })

  test('is told which streams the server has not looked at', async () => {
    const peer = client([setting.streamCountMax, 2])
    await settled()
    const owners = Array.from({ length: 3 }, () => new Recorder())
    for (const owner of owners) peer.connection.open(requestBlock, true, owner)
    await settled()
    peer.send(frameOf(7, 0, 0, words(1, 0)))
    await settled()
    expect(peer.leavingCodes).toEqual([0])
    expect(owners.map(({ code }) => code)).toEqual([null, errorCode.refusedStream, errorCode.refusedStream])
    expect(peer.connection.isUsable).toBe(false)
    expect(() => peer.connection.open(requestBlock, true, new Recorder())).toThrow('takes no new streams')
    peer.send(frameOf(1, 5, 1, answerBlock))
    await until('it ends', () => peer.hasEnded)
    expect(owners[0]!.code).toBe(0)
    expect(peer.closedWith).toBe(null)
  })

  const { protocol, streamClosed } = errorCode
  const forbidden: [string, Buffer[], 'connection' | 'stream', number][] = [
    ['PUSH_PROMISE', [frameOf(5, 4, 1, Buffer.concat([words(2), requestBlock]))], 'connection', protocol],
    ['ENABLE_PUSH', [settingsOf([setting.enablePush, 1])], 'connection', protocol],
    ['an answer on a stream that was never opened', [frameOf(1, 4, 3, answerBlock)], 'connection', protocol],
    ['an answer on a stream of the server', [frameOf(1, 4, 2, answerBlock)], 'connection', protocol],
    ['DATA before the headers', [frameOf(0, 0, 1, Buffer.from('x'))], 'stream', protocol],
    [
      'an information that ends the stream',
      [frameOf(1, 5, 1, encodeHeaders([[':status', '103']]))],
      'stream',
      protocol,
    ],
    ['an answer without a status', [frameOf(1, 4, 1, trailerBlock)], 'stream', protocol],
    [
      'DATA behind the end',
      [frameOf(1, 5, 1, answerBlock), frameOf(0, 0, 1, Buffer.from('x'))],
      'stream',
      streamClosed,
    ],
  ]
  test.each(forbidden)('bears no %s', async (_name, frames, ends, code) => {
    const peer = client()
    const owner = new Recorder()
    peer.connection.open(requestBlock, false, owner)
    await settled()
    peer.send(...frames)
    await settled()
    if (ends === 'connection') expect(peer.goAways).toEqual([code])
    else expect(peer.resets(1)).toEqual([code])
    expect(owner.told.at(-1)).toBe('closed')
    expect([owner.code, owner.error !== null]).toEqual([code, true])
  })

  test('that is reset before its headers have left says nothing of it', async () => {
    const peer = client()
    await settled()
    peer.ours.hold()
    peer.connection.ping(ignore)
    await settled()
    const before = peer.connection.open(requestBlock, false, new Recorder())
    before.send(Buffer.alloc(MiB), ignore)
    const owner = new Recorder()
    const stream = peer.connection.open(requestBlock, false, owner)
    stream.send(Buffer.alloc(10), ignore, true)
    stream.reset(errorCode.cancel)
    expect(owner.code).toBe(errorCode.cancel)
    peer.ours.release()
    await settled()
    expect(peer.goAways).toEqual([])
  })
})
