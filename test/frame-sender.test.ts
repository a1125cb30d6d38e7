// Messages of an answer leave whole, in order, small ones together, and not before there is room.
import { expect, test } from 'vitest'
import { ListedMessages, PlacedMessages, type WireMessages } from '../dist/engine/frame/wire-messages.js'
import { FrameSender } from '../dist/server/frame-sender.js'
import { MessageBuffers } from '../dist/server/grpc-messages.js'
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

/** Takes writes as HTTP/2 does: they leave some turns later, one after the other. */
class SlowTarget {
  readonly received: Buffer[] = []
  readonly writes: number[] = []
  aheadByteLength = 0
  aheadByteLengthMax = 0
  #last: Promise<void> = Promise.resolve()

  send(output: Buffer, onLeft: () => void): Promise<void> | null {
    this.aheadByteLength += output.byteLength
    this.aheadByteLengthMax = Math.max(this.aheadByteLengthMax, this.aheadByteLength)
    const left = this.#last.then(async () => {
      await new Promise((resolve) => setImmediate(resolve))
      const messages = messagesOf(output)
      this.received.push(...messages.map((message) => Buffer.from(message)))
      this.writes.push(messages.length)
      this.aheadByteLength -= output.byteLength
      onLeft()
    })
    this.#last = left
    return this.aheadByteLength > 32 * 1024 ? left : null
  }

  drained(): Promise<void> {
    return this.#last
  }
}

interface Given {
  readonly messages: WireMessages
  /** Overwrites them. */
  forget(): void
}

function listed(batch: readonly Buffer[]): Given {
  return {
    messages: new ListedMessages(batch),
    forget() {
      for (const message of batch) message.fill(0x77)
    },
  }
}

/** As a job leaves them in the shared memory. gapOf: bytes between one and the next. */
function placed(batch: readonly Buffer[], gapOf: () => number): Given {
  const start = 100
  const places: number[] = []
  const parts: Buffer[] = []
  let at = start
  for (const message of batch) {
    const gap = places.length > 0 ? gapOf() : 0
    const prefix = Buffer.alloc(gap + 5, 0x55)
    prefix[gap] = 0
    prefix.writeUInt32BE(message.byteLength, gap + 1)
    parts.push(prefix, message)
    places.push(1, at + prefix.byteLength, message.byteLength)
    at += prefix.byteLength + message.byteLength
  }
  const bytes = new Uint8Array(new SharedArrayBuffer(at - start))
  bytes.set(Buffer.concat(parts))
  return { messages: new PlacedMessages(bytes, places, start), forget: () => bytes.fill(0x77) }
}

const turn = () => new Promise((resolve) => setImmediate(resolve))

test('messages leave in their order, and may change once they are taken', async () => {
  const random = new SeededRandom(seed)
  const gapOf = (): number => (random.chance(0.3) ? random.integer(1, 16) : 0)
  for (let round = 0; round < 50; round++) {
    const target = new SlowTarget()
    const sender = new FrameSender(target, new MessageBuffers(1_000_000))
    const sent: Buffer[] = []
    for (let i = random.integer(0, 100); i > 0; i--) {
      const batch = Array.from({ length: random.integer(0, 5) }, () =>
        Buffer.alloc(
          random.chance(0.02) ? random.pick([largeByteLength, 70_000]) : random.integer(0, 3000),
          random.integer(0, 256),
        ),
      )
      sent.push(...batch.map((message) => Buffer.from(message)))
      const { messages, forget } = random.chance(0.5) ? listed(batch) : placed(batch, gapOf)
      expect([messages.count, messages.byteLength]).toEqual([batch.length, Buffer.concat(batch).byteLength])
      expect(messages.byteLengthMax).toBe(Math.max(0, ...batch.map(({ byteLength }) => byteLength)))
      await sender.sendAll(messages)
      forget()
      if (random.chance(0.05)) await turn()
    }
    await sender.flush()
    await target.drained()
    expect(target.received.length).toBe(sent.length)
    expect(Buffer.concat(target.received).equals(Buffer.concat(sent))).toBe(true)
  }
})

test('small messages that are ready together are one write; one that is ready alone does not wait', async () => {
  const target = new SlowTarget()
  const sender = new FrameSender(target, new MessageBuffers(0))
  for (let i = 0; i < 100; i++) await sender.sendAll(new ListedMessages([Buffer.alloc(100)]))
  for (let i = 0; i < 3; i++) await turn()
  expect(target.writes).toEqual([100])
  await sender.sendAll(new ListedMessages([Buffer.alloc(100)]))
  for (let i = 0; i < 3; i++) await turn()
  expect(target.writes).toEqual([100, 1])
})

test('what has no room waits, also when it leaves by itself', async () => {
  const target = new SlowTarget()
  const sender = new FrameSender(target, new MessageBuffers(0))
  const small = Array.from({ length: 40 }, () => Buffer.alloc(1000))
  for (let i = 0; i < 100; i++) {
    await sender.sendAll(new ListedMessages(small))
    if (i % 3 === 0) await turn()
  }
  await sender.flush()
  await target.drained()
  expect(target.received.length).toBe(4000)
  expect(target.aheadByteLengthMax).toBeLessThan(200 * 1024)
})

test('buffers of large messages serve those to come', async () => {
  const buffers = new MessageBuffers(1_000_000)
  const outputs: ArrayBufferLike[] = []
  const target = {
    send(output: Buffer, onLeft: () => void): null {
      outputs.push(output.buffer)
      onLeft()
      return null
    },
  }
  const sender = new FrameSender(target, buffers)
  for (let i = 0; i < 3; i++) await sender.sendAll(new ListedMessages([Buffer.alloc(100_000)]))
  expect(outputs[1]).toBe(outputs[0])
  expect(outputs[2]).toBe(outputs[0])
})

test('messages that stand behind their prefixes fill whole bundles', async () => {
  const target = new SlowTarget()
  const sender = new FrameSender(target, new MessageBuffers(0))
  const batch = Array.from({ length: 1000 }, (_, i) => Buffer.alloc(200, i))
  const { messages } = placed(batch, () => 0)
  await sender.sendAll(messages, true)
  await sender.flush()
  await target.drained()
  expect(Buffer.concat(target.received).equals(Buffer.concat(batch))).toBe(true)
  // 205,000 bytes are four bundles of 64 KiB at least; what is ready while one waits for room leaves before it is full.
  expect(target.writes[0]).toBe(Math.floor((64 * 1024) / 205))
  expect(target.writes.length).toBeLessThanOrEqual(8)
})
