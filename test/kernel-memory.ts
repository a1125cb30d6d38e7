// A small shared memory with kernels for tests: values in, pointers out, values back.
import { createMemory, type Kernels, loadKernels } from '../dist/engine/kernels/kernels.js'

/** Bytes between two allocations that must stay as they are: a kernel that writes outside its output is found out. */
const guardByteLength = 32
const guardByte = 0xa5

export class KernelMemory {
  readonly kernels: Kernels
  #start: number
  #next: number
  #guards: number[] = []

  constructor(byteLength: number) {
    this.kernels = loadKernels(createMemory(byteLength))
    this.#start = align(this.kernels.call.heapBase())
    this.#next = this.#start
  }

  get call(): Kernels['call'] {
    return this.kernels.call
  }

  /** Gives all memory back, after a look at the guards. */
  reset(): void {
    this.checkGuards()
    this.#next = this.#start
    this.#guards = []
  }

  /** Throws when a kernel has written behind one of its outputs. */
  checkGuards(): void {
    for (const at of this.#guards) {
      for (let i = at; i < at + guardByteLength; i++) {
        if (this.kernels.u8[i] !== guardByte)
          throw new Error(`a kernel wrote outside its output, at ${i - at} of a guard`)
      }
    }
  }

  /** Exactly byteLength bytes, filled with a pattern, with a guard behind them. */
  allocate(byteLength: number): number {
    const at = this.#next
    const guard = at + byteLength
    this.#next = align(guard + guardByteLength)
    if (this.#next > this.kernels.u8.length) throw new Error('the memory of this test is too small')
    this.kernels.u8.fill(0xee, at, guard)
    this.kernels.u8.fill(guardByte, guard, guard + guardByteLength)
    this.#guards.push(guard)
    return at
  }

  bytes(bytes: Uint8Array): number {
    const at = this.allocate(bytes.length)
    this.kernels.u8.set(bytes, at)
    return at
  }

  u32s(source: number | ArrayLike<number>): number {
    const count = typeof source === 'number' ? source : source.length
    const at = this.allocate(4 * count)
    if (typeof source !== 'number') this.kernels.u32.set(source, at / 4)
    return at
  }

  i64s(source: number | ArrayLike<bigint>): number {
    const count = typeof source === 'number' ? source : source.length
    const at = this.allocate(8 * count)
    if (typeof source !== 'number') this.kernels.i64.set(source, at / 8)
    return at
  }

  bits(bits: readonly boolean[]): number {
    const bytes = new Uint8Array(Math.ceil(bits.length / 8))
    for (let row = 0; row < bits.length; row++) if (bits[row]) bytes[row >> 3] |= 1 << (row & 7)
    return this.bytes(bytes)
  }

  /** A string column: offsets and bytes, exactly as long as the text. */
  strings(texts: readonly Uint8Array[]): { offsets: number; bytes: number } {
    const offsets = [0]
    for (const text of texts) offsets.push(offsets[offsets.length - 1] + text.length)
    return { offsets: this.u32s(offsets), bytes: this.bytes(Buffer.concat(texts)) }
  }

  /** A string column whose text ends where memory ends: a kernel that reads behind it traps. One at a time. */
  stringsAtEnd(texts: readonly Uint8Array[]): { offsets: number; bytes: number } {
    const bytes = Buffer.concat(texts)
    const at = this.kernels.u8.length - bytes.length
    this.kernels.u8.set(bytes, at)
    return { offsets: this.strings(texts).offsets, bytes: at }
  }

  labelTable(setCapacity: number, keyBytesCapacity: number): number {
    const table = this.allocate(this.call.labelTableByteLength(setCapacity, keyBytesCapacity))
    this.call.initLabelTable(table, setCapacity, keyBytesCapacity)
    return table
  }

  readU32s(at: number, count: number): number[] {
    return [...this.kernels.u32.subarray(at / 4, at / 4 + count)]
  }

  readI64s(at: number, count: number): bigint[] {
    return [...this.kernels.i64.subarray(at / 8, at / 8 + count)]
  }

  readBits(at: number, count: number): boolean[] {
    return Array.from({ length: count }, (_, row) => ((this.kernels.u8[at + (row >> 3)] >> (row & 7)) & 1) === 1)
  }

  readBytes(at: number, byteLength: number): Uint8Array {
    return this.kernels.u8.slice(at, at + byteLength)
  }
}

function align(pointer: number): number {
  return (pointer + 15) & -16
}

/** A small seeded generator of numbers (mulberry32 by Tommy Ettinger), so that a failing case can be run again. */
export class Random {
  #state: number

  constructor(readonly seed: number) {
    this.#state = seed
  }

  /** A whole number in [0, bound). */
  below(bound: number): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 4294967296) * bound)
  }

  chance(probability: number): boolean {
    return this.below(1_000_000) < probability * 1_000_000
  }

  pick<T>(values: readonly T[]): T {
    return values[this.below(values.length)]
  }

  int64(): bigint {
    return BigInt.asIntN(64, (BigInt(this.below(2 ** 32)) << 32n) | BigInt(this.below(2 ** 32)))
  }
}

/** The seed of this run: from the environment to run a failed case again, else a new one; tests print it. */
export function newSeed(): number {
  const seed = process.env['TEST_SEED'] ? Number(process.env['TEST_SEED']) : Math.floor(Math.random() * 2 ** 31)
  console.log(`TEST_SEED=${seed}`)
  return seed
}
