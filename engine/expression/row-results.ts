// What an expression gave row by row, as columns in the memory.
import { assert } from '../assert.js'
import { Failure, type Scalar } from './scalar.js'
import { type PartType, type Rows, typeOf, type Vector } from './vector.js'

const types: readonly PartType[] = ['int64', 'float64', 'time', 'bool', 'string', 'blob']

/** Bytes that are taken at once for texts and blobs. */
const chunkByteLength = 4096

/** Takes one result a row, in order. Nothing else may be allocated in the scratch meanwhile. */
export class RowResults {
  readonly #rows: Rows
  #row = 0
  /** For each row 1 + the number of its type, or 0. */
  readonly #tagsPtr: number
  /** int64, float64 and time as they are, bool as 1 or 0. */
  readonly #valuesPtr: number
  readonly #offsetsPtr: number
  readonly #bytesPtr: number
  #byteLength = 0
  #capacity = chunkByteLength

  constructor(rows: Rows) {
    this.#rows = rows
    const { scratch, rowCount } = rows
    this.#tagsPtr = scratch.allocate(rowCount)
    this.#valuesPtr = scratch.allocate(8 * rowCount)
    this.#offsetsPtr = scratch.allocate(4 * (rowCount + 1))
    this.#bytesPtr = scratch.allocate(chunkByteLength)
    rows.kernels.u32[this.#offsetsPtr / 4] = 0
  }

  /** Null: a row that nobody asks for. */
  push(value: Scalar | Failure | null): void {
    const { kernels } = this.#rows
    const row = this.#row++
    const place = this.#valuesPtr / 8 + row
    kernels.i64[place] = 0n
    if (value === null || value instanceof Failure) kernels.u8[this.#tagsPtr + row] = 0
    else {
      kernels.u8[this.#tagsPtr + row] = 1 + types.indexOf(typeOf(value))
      if (typeof value === 'bigint') kernels.i64[place] = value
      else if (typeof value === 'number') kernels.f64[place] = value
      else if (typeof value === 'boolean') kernels.i64[place] = value ? 1n : 0n
      else if (typeof value === 'string') this.#pushText(value)
      else if (value instanceof Uint8Array) this.#pushBytes(value)
      else kernels.i64[place] = value.timeNs
    }
    kernels.u32[this.#offsetsPtr / 4 + row + 1] = this.#byteLength
  }

  #pushText(text: string): void {
    const byteLength = Buffer.byteLength(text)
    this.#reserve(byteLength)
    this.#rows.writeText(text, this.#bytesPtr + this.#byteLength, byteLength)
    this.#byteLength += byteLength
  }

  #pushBytes(bytes: Uint8Array): void {
    this.#reserve(bytes.length)
    this.#rows.kernels.u8.set(bytes, this.#bytesPtr + this.#byteLength)
    this.#byteLength += bytes.length
  }

  /** Texts grow in place, since nobody else takes memory behind them. */
  #reserve(byteLength: number): void {
    while (this.#byteLength + byteLength > this.#capacity) {
      const wanted = Math.max(this.#capacity, this.#byteLength + byteLength - this.#capacity)
      const chunk = Math.ceil(wanted / 16) * 16
      const ptr = this.#rows.scratch.allocate(chunk)
      assert(ptr === this.#bytesPtr + this.#capacity, 'the memory behind the texts is free')
      this.#capacity += chunk
    }
  }

  finish(): Vector {
    const rows = this.#rows
    const { kernels, rowCount } = rows
    assert(this.#row === rowCount, 'every row has a result')
    const counts = new Array<number>(types.length + 1).fill(0)
    for (let row = 0; row < rowCount; row++) counts[kernels.u8[this.#tagsPtr + row]]++
    const isAlone = counts.filter((count, tag) => tag > 0 && count > 0).length === 1
    const [hasTexts, hasBlobs] = [counts[5] > 0, counts[6] > 0]
    return types
      .filter((_, i) => counts[i + 1] > 0)
      .map((type) => {
        const validityPtr = counts[0] === 0 && isAlone ? 0 : this.#bits((row) => this.#typeAt(row) === type)
        const part = { type, validityPtr, valuesPtr: this.#valuesPtr, bytesPtr: 0, constant: null, ownBitsPtr: 0 }
        if (type === 'bool') {
          const isTrue = (row: number): boolean =>
            this.#typeAt(row) === 'bool' && kernels.i64[this.#valuesPtr / 8 + row] === 1n
          return { ...part, valuesPtr: this.#bits(isTrue), hasZeros: true }
        }
        // Missing rows of a part hold what rows of the other types hold.
        if (type !== 'string' && type !== 'blob') return { ...part, hasZeros: isAlone }
        return { ...part, valuesPtr: this.#offsetsPtr, bytesPtr: this.#bytesPtr, hasZeros: !(hasTexts && hasBlobs) }
      })
  }

  #typeAt(row: number): PartType | undefined {
    return types[this.#rows.kernels.u8[this.#tagsPtr + row] - 1]
  }

  #bits(test: (row: number) => boolean): number {
    const { kernels, rowCount } = this.#rows
    const ptr = this.#rows.allocateBits()
    for (let row = 0; row < rowCount; row += 8) {
      let bits = 0
      for (let i = 0; i < 8 && row + i < rowCount; i++) if (test(row + i)) bits |= 1 << i
      kernels.u8[ptr + (row >>> 3)] = bits
    }
    return ptr
  }
}
