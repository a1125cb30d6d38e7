// IN over literals: what each type of column is looked up among.
import { compareConstant, selectBools } from './compare-vectors.js'
import { compareScalars } from './scalar.js'
import type { Part, Rows, Vector } from './vector.js'
import type { Kernels } from '../kernels/kernels.js'
import type { TimeValue, Value } from '../frame/dtype.js'
import type { Scratch } from '../memory/scratch.js'

/** Fewer values are compared one by one, which needs no set. */
const setCountMin = 5

/** The literals of one IN. */
export class Choices {
  readonly values: readonly Value[]
  /** What an int64, float64 or string column is held against; other values never equal one of its cells. */
  readonly #integers: readonly bigint[]
  readonly #floats: readonly number[]
  readonly #times: readonly TimeValue[]
  readonly #texts: readonly string[]
  /** Floats beyond 2^53, which equal several integers each. */
  readonly #hugeFloats: readonly number[]

  constructor(values: readonly Value[]) {
    this.values = values
    const numbers = values.filter((value) => typeof value !== 'string' && typeof value !== 'object')
    const isHuge = (value: Value): value is number => typeof value === 'number' && Math.abs(value) >= 2 ** 53
    this.#integers = numbers
      .filter((value) => !isHuge(value) && (typeof value !== 'number' || Number.isInteger(value)))
      .map(BigInt)
    this.#hugeFloats = numbers.filter(isHuge)
    this.#floats = numbers.map(Number).filter((value) => !Number.isNaN(value))
    this.#times = values.filter((value) => typeof value === 'object')
    this.#texts = values.filter((value) => typeof value === 'string')
  }

  /** Builds the sets that pay, in memory that lasts as long as they are used. */
  open(kernels: Kernels, scratch: Scratch): ChoiceSets {
    return {
      integersPtr: buildNumberSet(kernels, scratch, this.#integers),
      floatsPtr: buildNumberSet(kernels, scratch, this.#floats.map(floatBits)),
      timesPtr: buildNumberSet(
        kernels,
        scratch,
        this.#times.map(({ timeNs }) => timeNs),
      ),
      texts: buildTextSet(kernels, scratch, this.#texts),
    }
  }

  /** Writes the rows whose value is one of the choices. */
  mask(rows: Rows, sets: ChoiceSets, operand: Vector, resultPtr: number): void {
    const { call, rowCount, scratch } = rows
    call.fillBits(resultPtr, rowCount, 0)
    for (const part of operand) {
      const mark = scratch.mark()
      const bitsPtr = rows.allocateBits()
      this.#maskPart(rows, sets, part, bitsPtr)
      rows.restrict(bitsPtr, part.validityPtr)
      call.orBits(resultPtr, bitsPtr, resultPtr, rowCount)
      scratch.release(mark)
    }
  }

  #maskPart(rows: Rows, sets: ChoiceSets, part: Part, bitsPtr: number): void {
    const { call, rowCount } = rows
    const { constant, valuesPtr, bytesPtr } = part
    if (constant !== null) {
      const isIn = this.values.some((value) => compareScalars('==', constant, value))
      call.fillBits(bitsPtr, rowCount, isIn ? 1 : 0)
      return
    }
    switch (part.type) {
      case 'int64':
        this.#maskNumbers(rows, part, sets.integersPtr, this.#integers, bitsPtr)
        for (const huge of this.#hugeFloats) orComparison(rows, part, huge, bitsPtr)
        return
      case 'float64':
        this.#maskNumbers(rows, part, sets.floatsPtr, this.#floats, bitsPtr)
        return
      case 'time':
        this.#maskNumbers(rows, part, sets.timesPtr, this.#times, bitsPtr)
        return
      case 'bool': {
        const has = (wanted: boolean): boolean => this.values.some((value) => compareScalars('==', wanted, value))
        selectBools(rows, valuesPtr, has(true), has(false), bitsPtr)
        return
      }
      case 'string': {
        const { texts } = sets
        if (texts === null) this.#maskOneByOne(rows, part, this.#texts, bitsPtr)
        else call.maskInTextSet(valuesPtr, bytesPtr, rowCount, texts.offsetsPtr, texts.bytesPtr, texts.setPtr, bitsPtr)
        return
      }
      case 'blob':
        call.fillBits(bitsPtr, rowCount, 0)
    }
  }

  #maskNumbers(rows: Rows, part: Part, setPtr: number, values: readonly Value[], bitsPtr: number): void {
    if (setPtr === 0) this.#maskOneByOne(rows, part, values, bitsPtr)
    else rows.call.maskInNumberSet(part.valuesPtr, rows.rowCount, part.type === 'float64' ? 1 : 0, setPtr, bitsPtr)
  }

  #maskOneByOne(rows: Rows, part: Part, values: readonly Value[], bitsPtr: number): void {
    rows.call.fillBits(bitsPtr, rows.rowCount, 0)
    for (const value of values) orComparison(rows, part, value, bitsPtr)
  }
}

/** Places of the sets; 0 or null: there is none, the values are compared one by one. */
export interface ChoiceSets {
  readonly integersPtr: number
  readonly floatsPtr: number
  readonly timesPtr: number
  readonly texts: { readonly setPtr: number; readonly offsetsPtr: number; readonly bytesPtr: number } | null
}

function orComparison(rows: Rows, part: Part, value: Value, resultPtr: number): void {
  const { call, rowCount, scratch } = rows
  const mark = scratch.mark()
  const bitsPtr = rows.allocateBits()
  if (compareConstant(rows, '==', part, value, bitsPtr)) call.orBits(resultPtr, bitsPtr, resultPtr, rowCount)
  scratch.release(mark)
}

const floatView = new DataView(new ArrayBuffer(8))

/** The bits of a float as a key: those of 0 for -0. */
function floatBits(value: number): bigint {
  floatView.setFloat64(0, value === 0 ? 0 : value)
  return floatView.getBigInt64(0)
}

function buildNumberSet(kernels: Kernels, scratch: Scratch, keys: readonly bigint[]): number {
  const count = keys.length
  if (count < setCountMin) return 0
  const present = new Set(keys)
  let empty = -1n
  while (present.has(empty)) empty--
  const setPtr = scratch.allocate(kernels.call.numberSetByteLength(count))
  const keysPtr = scratch.allocate(8 * count)
  kernels.i64.set(keys, keysPtr / 8)
  return kernels.call.buildNumberSet(keysPtr, count, empty, setPtr) === 1 ? setPtr : 0
}

function buildTextSet(kernels: Kernels, scratch: Scratch, texts: readonly string[]): ChoiceSets['texts'] {
  const count = texts.length
  if (count < setCountMin) return null
  const bytes = Buffer.from(texts.join(''))
  const offsetsPtr = scratch.allocate(4 * (count + 1))
  const bytesPtr = scratch.allocate(bytes.length)
  let offset = 0
  texts.forEach((text, i) => {
    kernels.u32[offsetsPtr / 4 + i] = offset
    offset += Buffer.byteLength(text)
  })
  kernels.u32[offsetsPtr / 4 + count] = offset
  kernels.u8.set(bytes, bytesPtr)
  const setPtr = scratch.allocate(kernels.call.textSetByteLength(count))
  return kernels.call.buildTextSet(offsetsPtr, bytesPtr, count, setPtr) === 1 ? { setPtr, offsetsPtr, bytesPtr } : null
}
