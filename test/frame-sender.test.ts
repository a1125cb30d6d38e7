// Messages of an answer leave whole, in order, small ones together, and not before there is room.
import { expect, test } from 'vitest'
import { FrameSender } from '../dist/server/frame-sender.js'
import { SeededRandom, seed } from './seeded-random.js'

/** The messages behind their prefixes. */
function messagesOf(bundle: Uint8Array): Buffer[] {
  const bytes = Buffer.from(bundle)
  const messages: Buffer[] = []
  for (let at = 0; at < bytes.byteLength; ) {
    expect(bytes[at]).toBe(0)
    const byteLength = bytes.readUInt32BE(at + 1)
    messages.push(bytes.subarray(at + 5, at + 5 + byteLength))
    at += 5 + byteLength
  }
  return messages
}

const largeByteLength = 20_000
const isLarge = (message: Uint8Array): boolean => message.byteLength >= largeByteLength

test('messages leave in their order, one write at a time, and may change once they are taken', async () => {
  const random = new SeededRandom(seed)
  for (let round = 0; round < 50; round++) {
    const received: Buffer[] = []
    let writingCount = 0
    const sender = new FrameSender(async (message) => {
      writingCount++
      expect(writingCount).toBe(1)
      await new Promise((resolve) => setImmediate(resolve))
      if (isLarge(message) && Buffer.from(message).readUInt32BE(0) === 0xffffffff) received.push(Buffer.from(message))
      else received.push(...messagesOf(message))
      writingCount--
    })
    const sent: Buffer[] = []
    for (let i = random.integer(0, 300); i > 0; i--) {
      const message = Buffer.alloc(
        random.chance(0.02) ? largeByteLength : random.integer(0, 3000),
        random.integer(0, 256),
      )
      if (isLarge(message)) message.fill(0xff, 0, 4)
      sent.push(Buffer.from(message))
      await sender.send(message)
      message.fill(0x77)
      if (random.chance(0.01)) await new Promise((resolve) => setImmediate(resolve))
    }
    await sender.flush()
    expect(received.length).toBe(sent.length)
    expect(Buffer.concat(received).equals(Buffer.concat(sent))).toBe(true)
  }
})

test('small messages that are ready together are one write; one that is ready alone does not wait', async () => {
  const writes: number[] = []
  const sender = new FrameSender((message) => {
    writes.push(messagesOf(message).length)
    return Promise.resolve()
  })
  for (let i = 0; i < 100; i++) await sender.send(Buffer.alloc(100))
  await new Promise((resolve) => setImmediate(resolve))
  await new Promise((resolve) => setImmediate(resolve))
  expect(writes).toEqual([100])
  await sender.send(Buffer.alloc(100))
  await new Promise((resolve) => setImmediate(resolve))
  await new Promise((resolve) => setImmediate(resolve))
  expect(writes).toEqual([100, 1])
})

test('a write that fails fails what comes after it', async () => {
  const sender = new FrameSender(() => Promise.reject(new Error('gone')))
  await sender.send(Buffer.alloc(10))
  await expect(sender.flush()).rejects.toThrow('gone')
  await expect(sender.flush()).rejects.toThrow('gone')
})
