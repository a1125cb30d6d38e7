// A million broken messages: each is decoded or refused with a typed error. Nothing is read or written outside the message
// and the memory that was handed out, and the message stays as it was.
import { expect, test } from 'vitest'
import { decodeColumn, decodeNulls, encodedFrameBound, encodeFrame, scanFrame } from '../dist/engine/codec/wire.js'
import { FramesError } from '../dist/engine/errors.js'
import type { FrameSlice } from '../dist/engine/frame/column-slice.js'
import { createMemory, loadKernels } from '../dist/engine/kernels/kernels.js'
import { Scratch, ScratchFull } from '../dist/engine/memory/scratch.js'
import { Random, randomFrame, readFrame, readGenerated, writeTwin } from './wire.twin.js'

const seed = Number(process.env['SEED'] ?? Date.now() % 1_000_000)
const messageCount = Number(process.env['FUZZ_MESSAGES'] ?? 1_000_000)

const memoryByteLength = 1024 * 1024
const kernels = loadKernels(createMemory(memoryByteLength))
const { u8, u32 } = kernels

// [ canary | message | canary | scratch | canary | target of encoding | messages at the very end of the memory ]
const canaryByteLength = 64
const canaryByte = 0xc5
const canaryWord = 0xc5c5c5c5
const messageAt = 64 * 1024
const messageByteLengthMax = 16 * 1024
const scratchAt = 128 * 1024
const scratchByteLength = 256 * 1024
const targetAt = 512 * 1024
const targetByteLength = 256 * 1024

function setCanary(at: number): void {
  u8.fill(canaryByte, at, at + canaryByteLength)
}

function isAlive(at: number): boolean {
  let i = at
  for (; i % 4 !== 0; i++) if (u8[i] !== canaryByte) return false
  for (; i + 4 <= at + canaryByteLength; i += 4) if (u32[i >> 2] !== canaryWord) return false
  for (; i < at + canaryByteLength; i++) if (u8[i] !== canaryByte) return false
  return true
}

/** Scratch with a canary behind every allocation, looked at when the allocation is given back. */
class GuardedScratch extends Scratch {
  #guards: number[] = []

  override allocate(byteLength: number): number {
    const pointer = super.allocate(byteLength + canaryByteLength)
    setCanary(pointer + byteLength)
    this.#guards.push(pointer + byteLength)
    return pointer
  }

  /** Less than there is: who takes all that is free still finds room for the canaries. */
  override get byteLengthFree(): number {
    return Math.max(0, super.byteLengthFree - 4 * (canaryByteLength + 16))
  }

  override release(mark: number): void {
    while (this.#guards.length > 0 && this.#guards[this.#guards.length - 1]! >= mark) {
      const guard = this.#guards.pop()!
      if (!isAlive(guard)) throw new Error('a kernel wrote behind its output')
    }
    super.release(mark)
  }
}

// ---- Messages ----

/** The fields of a message with their bodies, so that what changes inside a field can be given its right length again. */
interface Part {
  readonly tag: number
  readonly body: Uint8Array
}

/** The length-delimited fields of an ordinary message whose field numbers are below 16. */
function partsOf(message: Uint8Array): Part[] {
  const parts: Part[] = []
  for (let position = 0; position < message.length; ) {
    const tag = message[position++]!
    let byteLength = 0
    for (let shift = 0; ; shift += 7) {
      const byte = message[position++]!
      byteLength |= (byte & 127) << shift
      if (byte < 128) break
    }
    parts.push({ tag, body: message.slice(position, position + byteLength) })
    position += byteLength
  }
  return parts
}

/** Bytes that mean something: tags of our fields, lengths around borders, ends of varints, lead bytes of UTF-8. */
const tellingBytes = [
  0, 1, 2, 0x7e, 0x7f, 0x80, 0x81, 0xff, 0x08, 0x0a, 0x0b, 0x0c, 0x0d, 0x10, 0x11, 0x12, 0x18, 0x1a, 0x20, 0x22, 0x28,
  0x2a, 0x30, 0x31, 0x32, 0x38, 0x3a, 0x40, 0x42, 0x48, 0x4a, 0x53, 0x54, 0xc0, 0xc3, 0xe2, 0xed, 0xf0, 0xf4,
] as const

/** Runs of bytes that decoders fear: long varints, huge lengths, deep groups, odd fields. */
const tellingRuns: readonly (readonly number[])[] = [
  [255, 255, 255, 255, 255, 255, 255, 255, 255, 1],
  [255, 255, 255, 255, 255, 255, 255, 255, 255, 2],
  [128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 1],
  [255, 255, 255, 255, 15],
  [255, 255, 255, 255, 7],
  [128, 128, 128, 128, 16],
  [0x2a, 255, 255, 255, 255, 15],
  [0x3a, 0xfc, 255, 255, 255, 15],
  [0x20, 0x80, 0xa0, 0x94, 0xa5, 0x8d, 0x1d],
  [0x08, 1, 0x20, 0xc8, 1],
  [0x53, 0x53, 0x53, 0x54, 0x54, 0x54],
  Array<number>(120).fill(0x53),
  [0x2a, 0],
  [0x2a, 0, 0x2a, 0, 0x2a, 0, 0x2a, 0],
  Array<number>(16).fill(0x81),
  Array<number>(32).fill(1),
  [0x28, 5],
  [0x31, 0, 0, 0, 0, 0, 0, 0xf8, 0x7f],
  [0x3a, 1, 0x61],
  [0x0a, 0],
  [0x18, 6],
  [0x18, 0],
]

class Mutator {
  readonly #random: Random
  readonly #seeds: readonly Part[][]
  readonly #work = new Uint8Array(messageByteLengthMax * 2)
  #length = 0

  constructor(random: Random) {
    this.#random = random
    this.#seeds = Array.from({ length: 400 }, (_, i) => {
      const isOdd = i % 2 === 1
      const frame = randomFrame(random, random.pick([0, 1, 2, 3, 8, 9, 20]))
      // Odd messages have unknown fields between the parts, so their parts are those of the columns inside.
      return isOdd
        ? [{ tag: 0, body: writeTwin(frame, { random, isOdd }) }]
        : partsOf(writeTwin(frame, { random, isOdd }))
    }).filter((parts) => parts.length > 0 && parts.reduce((sum, { body }) => sum + body.length, 0) < 3000)
  }

  /** The next message; the array is used again for the one after it. */
  next(): Uint8Array {
    const random = this.#random
    const parts = random.pick(this.#seeds)
    const wrong = random.below(parts.length + 1)
    this.#length = 0
    for (let i = 0; i < parts.length; i++) {
      // Now and then a field is missing, doubled, or from another message.
      const luck = random.below(40)
      if (luck === 0) continue
      const part = luck === 1 ? random.pick(random.pick(this.#seeds)) : parts[i]!
      this.#append(part, i === wrong ? random.below(4) : 0)
      if (luck === 2) this.#append(part, 0)
    }
    if (wrong === parts.length) this.#change(0, random.below(5))
    if (random.chance(0.1)) this.#length = random.below(this.#length + 1)
    return this.#work.subarray(0, Math.min(this.#length, messageByteLengthMax))
  }

  #append({ tag, body }: Part, changeCount: number): void {
    if (this.#length + body.length > messageByteLengthMax - 1000) return
    const work = this.#work
    if (tag === 0) {
      work.set(body, this.#length)
      const start = this.#length
      this.#length += body.length
      this.#change(start, changeCount)
      return
    }
    work[this.#length++] = tag
    // Two bytes of length, whether needed or not: then the body can change before its length is known.
    const lengthAt = this.#length
    this.#length += 2
    work.set(body, this.#length)
    this.#length += body.length
    this.#change(lengthAt + 2, changeCount)
    const byteLength = this.#length - lengthAt - 2
    work[lengthAt] = (byteLength & 127) | 128
    work[lengthAt + 1] = byteLength >> 7
  }

  /** Changes the bytes from start to the end of the message so far. */
  #change(start: number, changeCount: number): void {
    const random = this.#random
    const work = this.#work
    for (let i = 0; i < changeCount; i++) {
      const at = start + random.below(this.#length - start + 1)
      switch (random.below(7)) {
        case 0:
          work[at] = work[at]! ^ (1 << random.below(8))
          break
        case 1:
        case 2:
          work[at] = random.pick(tellingBytes)
          break
        case 3: {
          const run = random.pick(tellingRuns)
          work.set(run, at)
          this.#length = Math.max(this.#length, at + run.length)
          break
        }
        case 4: {
          const run = random.pick(tellingRuns)
          work.copyWithin(at + run.length, at, this.#length)
          work.set(run, at)
          this.#length += run.length
          break
        }
        case 5: {
          const end = Math.min(this.#length, at + 1 + random.below(20))
          work.copyWithin(at, end, this.#length)
          this.#length -= Math.max(0, end - at)
          break
        }
        default: {
          const byteLength = Math.min(random.below(60), this.#length - at)
          work.copyWithin(at + byteLength, at, this.#length)
          this.#length += byteLength
        }
      }
      if (this.#length > messageByteLengthMax - 500) this.#length = messageByteLengthMax - 500
    }
  }
}

// ---- Decoding ----

function decode(byteOffset: number, byteLength: number, scratch: Scratch): FrameSlice {
  const frame = scanFrame(kernels, { byteOffset, byteLength }, scratch)
  const validityPtrs = decodeNulls(kernels, frame, scratch)
  return {
    rowCount: frame.rowCount,
    columns: frame.columns.map((column, i) => decodeColumn(kernels, column, validityPtrs[i]!, scratch)),
    indices: frame.indices.map((column) => decodeColumn(kernels, column, 0, scratch)),
    labels: frame.labels,
  }
}

test(`${messageCount} broken messages do no harm, SEED=${seed}`, () => {
  console.log(`fuzzing the wire codec: SEED=${seed}`)
  const stackTraceLimit = Error.stackTraceLimit
  Error.stackTraceLimit = 0
  const random = new Random(seed)
  const mutator = new Mutator(random)
  const outcomes = { decoded: 0, withRows: 0, withNulls: 0, refused: 0, full: 0, compared: 0 }
  const refusals = new Set<string>()
  const scratchSlice = { byteOffset: scratchAt, byteLength: scratchByteLength }
  for (const at of [scratchAt - canaryByteLength, scratchAt + scratchByteLength]) setCanary(at)
  setCanary(messageAt - canaryByteLength)

  for (let i = 0; i < messageCount; i++) {
    const message = mutator.next()
    // Half of them stand between canaries, half end where the memory ends, so that a read behind them traps.
    const isAtEnd = (i & 1) === 1
    const byteOffset = isAtEnd ? memoryByteLength - message.length : messageAt
    u8.set(message, byteOffset)
    if (!isAtEnd) setCanary(messageAt + message.length)
    const scratch = new GuardedScratch(
      random.chance(0.02) ? { ...scratchSlice, byteLength: random.below(3000) } : scratchSlice,
    )
    const mark = scratch.mark()
    try {
      const frame = decode(byteOffset, message.length, scratch)
      scratch.release(mark)
      outcomes.decoded++
      if (frame.rowCount > 0) outcomes.withRows++
      const hasMissing = frame.columns.some(({ validityPtr }) => validityPtr !== 0)
      if (hasMissing) outcomes.withNulls++
      if (i % 50 === 0 && frame.rowCount < 1000 && encodedFrameBound(frame) <= targetByteLength) {
        // What was decoded is what the generated code reads, and it can be written and read again.
        const before = readFrame(kernels, frame)
        // (Which stumbles over unknown fields in map entries: so only where there are none.)
        const hasMaps = before.labels.length > 0 || before.columns.some(({ dtype }) => dtype === 'null') || hasMissing
        if (!hasMaps) expect(before).toEqual(readGenerated(message))
        const encodedByteLength = encodeFrame(kernels, frame, targetAt, encodedFrameBound(frame))
        const after = readFrame(kernels, decode(targetAt, encodedByteLength, new Scratch(scratchSlice)))
        // Columns of one name share their missing cells on the wire.
        if (new Set(before.columns.map(({ name }) => name)).size === before.columns.length)
          expect(after).toEqual(before)
        outcomes.compared++
      }
    } catch (error) {
      if (error instanceof FramesError) {
        scratch.release(mark)
        outcomes.refused++
        refusals.add(error.message.replace(/"(\\.|[^"\\])*"|-?\d+/g, '…'))
      } else if (error instanceof ScratchFull) {
        outcomes.full++
      } else {
        Error.stackTraceLimit = stackTraceLimit
        throw new Error(`message ${i}: ${Buffer.from(message).toString('hex')}`, { cause: error })
      }
    }
    const isUnharmed =
      isAlive(scratchAt - canaryByteLength) &&
      isAlive(scratchAt + scratchByteLength) &&
      (isAtEnd || (isAlive(messageAt - canaryByteLength) && isAlive(messageAt + message.length)))
    if (!isUnharmed) throw new Error(`message ${i} harms its surroundings: ${Buffer.from(message).toString('hex')}`)
    for (let byte = 0; byte < message.length; byte++) {
      if (u8[byteOffset + byte] !== message[byte]) throw new Error(`message ${i} was changed`)
    }
  }
  Error.stackTraceLimit = stackTraceLimit
  console.log({ ...outcomes, kindsOfRefusal: refusals.size })
  // The mutator is worth its time only while it reaches everything.
  expect(outcomes.withRows).toBeGreaterThan(messageCount / 20)
  expect(outcomes.withNulls).toBeGreaterThan(messageCount / 1000)
  expect(outcomes.refused).toBeGreaterThan(messageCount / 20)
  expect(outcomes.full).toBeGreaterThan(0)
  expect(refusals.size).toBeGreaterThan(20)
}, 600_000)
