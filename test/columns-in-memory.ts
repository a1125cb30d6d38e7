// Columns of plain arrays in a kernel's memory, and back. Every buffer has garbage around it, so that a kernel that
// reads past its input gives a wrong answer, and one that writes past its output is caught.
import { expect } from 'vitest'
import { createMemory, type Kernels, loadKernels } from '../dist/engine/kernels/kernels.js'

const guardByteLength = 32
const guardByte = 0xa5

export interface Text {
  readonly offsetsPtr: number
  readonly bytesPtr: number
  readonly byteLength: number
}

export class ColumnsInMemory {
  readonly kernels: Kernels
  readonly #start: number
  #next: number
  #targets: { start: number; end: number }[] = []

  constructor(byteLength: number) {
    this.kernels = loadKernels(createMemory(byteLength))
    this.#start = (this.kernels.call.heapBase() + 15) & -16
    this.#next = this.#start
  }

  /** Forgets all buffers; the memory is garbage again. */
  clear(): void {
    this.kernels.u8.fill(guardByte, this.#start, this.#next)
    this.#next = this.#start
    this.#targets = []
  }

  #allocate(byteLength: number): number {
    const pointer = this.#next + guardByteLength
    this.#next = (pointer + byteLength + guardByteLength + 15) & -16
    if (this.#next > this.kernels.u8.length) throw new RangeError('the test memory is too small')
    this.kernels.u8.fill(guardByte, pointer - guardByteLength, this.#next)
    return pointer
  }

  /** Room for a result, filled with garbage. `expectGuardsIntact` later checks that nothing around it changed. */
  target(byteLength: number): number {
    const pointer = this.#allocate(byteLength)
    this.#targets.push({ start: pointer, end: pointer + byteLength })
    return pointer
  }

  expectGuardsIntact(): void {
    for (const { start, end } of this.#targets) {
      const around = [
        ...this.kernels.u8.slice(start - guardByteLength, start),
        ...this.kernels.u8.slice(end, end + guardByteLength),
      ]
      expect(around.every((byte) => byte === guardByte)).toBe(true)
    }
  }

  float64s(values: ArrayLike<number>): number {
    const pointer = this.#allocate(values.length * 8)
    this.kernels.f64.set(values, pointer / 8)
    return pointer
  }

  int64s(values: readonly bigint[]): number {
    const pointer = this.#allocate(values.length * 8)
    this.kernels.i64.set(values, pointer / 8)
    return pointer
  }

  u32s(values: readonly number[]): number {
    const pointer = this.#allocate(values.length * 4)
    this.kernels.u32.set(values, pointer / 4)
    return pointer
  }

  bytes(values: Uint8Array): number {
    const pointer = this.#allocate(values.length)
    this.kernels.u8.set(values, pointer)
    return pointer
  }

  /** The same bytes where memory ends: a kernel that reads further traps. Not aligned, which WebAssembly does not mind. */
  bytesAtEnd(values: Uint8Array): number {
    const pointer = this.kernels.u8.length - values.length
    this.kernels.u8.set(values, pointer)
    return pointer
  }

  bits(values: readonly boolean[]): number {
    return this.bytes(packBits(values))
  }

  text(values: readonly string[]): Text {
    const encoded = values.map((value) => Buffer.from(value))
    const offsets = [0]
    for (const bytes of encoded) offsets.push(offsets.at(-1)! + bytes.length)
    const all = Buffer.concat(encoded)
    return { offsetsPtr: this.u32s(offsets), bytesPtr: this.bytes(all), byteLength: all.length }
  }

  readFloat64s(pointer: number, count: number): number[] {
    return [...this.kernels.f64.slice(pointer / 8, pointer / 8 + count)]
  }

  readInt64s(pointer: number, count: number): bigint[] {
    return [...this.kernels.i64.slice(pointer / 8, pointer / 8 + count)]
  }

  readU32s(pointer: number, count: number): number[] {
    return [...this.kernels.u32.slice(pointer / 4, pointer / 4 + count)]
  }

  /** The bits of count rows. Checks that those past the last row are 0. */
  readBits(pointer: number, count: number): boolean[] {
    const byteLength = Math.ceil(count / 8)
    const bytes = this.kernels.u8.slice(pointer, pointer + byteLength)
    if (count % 8 > 0) expect(bytes[byteLength - 1]! >> (count % 8)).toBe(0)
    return unpackBits(bytes, count)
  }

  readText(offsetsPtr: number, bytesPtr: number, count: number): string[] {
    const offsets = this.readU32s(offsetsPtr, count + 1)
    return Array.from({ length: count }, (_, row) =>
      Buffer.from(this.kernels.u8.slice(bytesPtr + offsets[row]!, bytesPtr + offsets[row + 1]!)).toString(),
    )
  }
}

export function packBits(values: readonly boolean[]): Uint8Array {
  const bytes = new Uint8Array(Math.ceil(values.length / 8))
  for (const [row, value] of values.entries()) if (value) bytes[row >> 3]! |= 1 << (row & 7)
  return bytes
}

export function unpackBits(bytes: Uint8Array, count: number): boolean[] {
  return Array.from({ length: count }, (_, row) => ((bytes[row >> 3]! >> (row & 7)) & 1) === 1)
}
