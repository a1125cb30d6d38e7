// Messages of gRPC from chunks.
import streamDecoders from '@grpc/grpc-js/build/src/stream-decoder.js'
import { expect, test } from 'vitest'
import { MessageBuffers, MessageDecoder } from '../dist/server/grpc-messages.js'
import { SeededRandom, seed } from './seeded-random.js'

function framed(content: Uint8Array): Buffer {
  const prefix = Buffer.alloc(5)
  prefix.writeUInt32BE(content.byteLength, 1)
  return Buffer.concat([prefix, content])
}

function decoderOver(buffers: MessageBuffers, byteLengthMax = 2 ** 32): MessageDecoder {
  return new MessageDecoder(buffers, byteLengthMax)
}

/** Cuts bytes where a network might. */
function chunksOf(random: SeededRandom, bytes: Buffer, byteLengthMax: number): Buffer[] {
  const chunks: Buffer[] = []
  for (let at = 0; at < bytes.length; ) {
    const end = Math.min(bytes.length, at + random.integer(1, byteLengthMax))
    chunks.push(bytes.subarray(at, end))
    at = end
  }
  return chunks
}

test('messages come out as they went in, wherever their bytes are cut, and as the decoder of grpc-js has them', () => {
  const random = new SeededRandom(seed)
  for (let round = 0; round < 60; round++) {
    const chunkMax = random.pick([3, 1000, 65_536, 1_000_000])
    const sizes = chunkMax === 3 ? [0, 1, 4, 5, 100, 5000] : [0, 1, 4, 5, 100, 5000, 70_000, 700_000]
    const contents = random.list(random.integer(1, 8), () => Buffer.alloc(random.pick(sizes), random.integer(0, 255)))
    const bytes = Buffer.concat(contents.map(framed))
    const buffers = new MessageBuffers(random.pick([0, 1_000_000, 100_000_000]))
    const ours = decoderOver(buffers)
    const theirs = new streamDecoders.StreamDecoder(-1)
    let count = 0
    for (const chunk of chunksOf(random, bytes, chunkMax)) {
      const messages = ours.write(chunk)
      const wanted = theirs.write(chunk)
      expect(messages.length).toBe(wanted.length)
      messages.forEach((message, i) => {
        expect(message.equals(wanted[i]!), `message ${count + i} of round ${round}`).toBe(true)
        if (random.chance(0.7)) buffers.giveBack(message.subarray(5))
      })
      count += messages.length
    }
    expect(count).toBe(contents.length)
  }
})

test('a buffer that is given back serves the next message, and only once', () => {
  const buffers = new MessageBuffers(1_000_000)
  const decoder = decoderOver(buffers)
  const bytes = framed(Buffer.alloc(200_000, 7))
  const receive = (): Buffer =>
    [bytes.subarray(0, 1000), bytes.subarray(1000)].flatMap((chunk) => decoder.write(chunk))[0]!
  const first = receive()
  buffers.giveBack(first)
  buffers.giveBack(first)
  const second = receive()
  const third = receive()
  expect(second.buffer).toBe(first.buffer)
  expect(third.buffer).not.toBe(first.buffer)
})

test('memory that was never one of ours is not kept, nor more than is allowed', () => {
  const buffers = new MessageBuffers(300_000)
  buffers.giveBack(Buffer.alloc(100_000))
  const decoder = decoderOver(buffers)
  const bytes = framed(Buffer.alloc(200_000, 7))
  const receive = (): Buffer =>
    [bytes.subarray(0, 1000), bytes.subarray(1000)].flatMap((chunk) => decoder.write(chunk))[0]!
  const [first, second] = [receive(), receive()]
  buffers.giveBack(first)
  buffers.giveBack(second)
  expect(receive().buffer).toBe(first.buffer)
  expect(receive().buffer).not.toBe(second.buffer)
})

test('a length is a claim: memory grows with the bytes that come', () => {
  const decoder = decoderOver(new MessageBuffers(0))
  const before = process.memoryUsage().arrayBuffers
  const prefix = Buffer.from([0, 0x7f, 0xff, 0xff, 0xff])
  decoder.write(Buffer.concat([prefix, Buffer.alloc(1000)]))
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1_000_000)
})

test('a message longer than allowed is refused', () => {
  const bytes = framed(Buffer.alloc(1001))
  expect(() => decoderOver(new MessageBuffers(0), 1000).write(bytes)).toThrow(
    'Received message larger than max (1001 vs 1000)',
  )
  expect(decoderOver(new MessageBuffers(0), 1001).write(bytes)).toHaveLength(1)
})
