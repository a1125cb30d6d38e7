// Arithmetic on vectors of numbers by kernels. What `calculate` says for a pair of values holds here; strings and blobs
// are left to it.
import { floatsOf } from './compare-vectors.js'
import { type ArithmeticOperator, calculate, Failure } from './scalar.js'
import { constantPart, type Part, partCountMax, type Rows, type Vector } from './vector.js'

const operatorNumbers: Readonly<Record<ArithmeticOperator, number>> = { '+': 0, '-': 1, '*': 2, '/': 3, '%': 4 }

/** Room for a result: its values and its bitmap. */
interface Target {
  readonly valuesPtr: number
  readonly bitsPtr: number
}

function allocateTarget(rows: Rows): Target {
  return { valuesPtr: rows.allocateValues(), bitsPtr: rows.allocateBits() }
}

/** One value after another, from left to right. */
export class VectorChain {
  readonly #rows: Rows
  #value: Vector
  /** Where results go: one place for all, however long the chain is. */
  #target: Target | null = null
  #mark = 0

  constructor(rows: Rows, first: Vector) {
    this.#rows = rows
    this.#value = first
  }

  get value(): Vector {
    return this.#value
  }

  /** To be called before an operand is worked out, whose memory `apply` gives back. */
  prepare(): void {
    if (this.#value.length === 1) {
      const [{ valuesPtr, ownBitsPtr }] = this.#value
      this.#target ??= ownBitsPtr === 0 ? allocateTarget(this.#rows) : { valuesPtr, bitsPtr: ownBitsPtr }
    }
    this.#mark = this.#rows.scratch.mark()
  }

  /** Returns false when this is nothing for kernels. */
  apply(operator: ArithmeticOperator, right: Vector): boolean {
    const rows = this.#rows
    const left = this.#value
    if (left.length === 1 && right.length === 1 && this.#target !== null) {
      const result = calculateParts(rows, operator, left[0], right[0], this.#target)
      if (result === 'rows') return false
      this.#value = result === null ? [] : [result]
      rows.scratch.release(this.#mark)
      return true
    }
    if (left.length * right.length > partCountMax) return false
    const results: Part[] = []
    for (const a of left) {
      for (const b of right) {
        const result = calculateParts(rows, operator, a, b, allocateTarget(rows))
        if (result === 'rows') return false
        if (result !== null) results.push(result)
      }
    }
    this.#value = results
    return true
  }
}

/** Null where types do not go together: no row has a value. */
function calculateParts(
  rows: Rows,
  operator: ArithmeticOperator,
  a: Part,
  b: Part,
  target: Target,
): Part | 'rows' | null {
  if (a.constant !== null && b.constant !== null) return calculateConstants(rows, operator, a, b, target)
  const isNumeric = isNumber(a) && isNumber(b)
  if (!isNumeric)
    return a.type === b.type && operator === '+' && (a.type === 'string' || a.type === 'blob') ? 'rows' : null
  const { call, rowCount } = rows
  const isFloat = a.type === 'float64' || b.type === 'float64'
  const aPtr = operandPtr(rows, a, isFloat)
  const bPtr = operandPtr(rows, b, isFloat)
  const aStride = a.constant === null ? 8 : 0
  const bStride = b.constant === null ? 8 : 0
  const number = operatorNumbers[operator]
  const validityPtr = intersect(rows, a.validityPtr, b.validityPtr, target)
  const { valuesPtr, bitsPtr } = target
  if (isFloat) {
    call.calculateFloat64(number, aPtr, aStride, bPtr, bStride, rowCount, valuesPtr)
    return ownPart('float64', target, validityPtr)
  }
  const okPtr = validityPtr === 0 ? bitsPtr : rows.allocateBits()
  const failureCount = call.calculateInt64(number, aPtr, aStride, bPtr, bStride, rowCount, valuesPtr, okPtr)
  if (failureCount === 0) return ownPart('int64', target, validityPtr)
  if (validityPtr !== 0) call.andBits(validityPtr, okPtr, bitsPtr, rowCount)
  return ownPart('int64', target, bitsPtr)
}

function ownPart(type: 'int64' | 'float64', { valuesPtr, bitsPtr }: Target, validityPtr: number): Part {
  return { type, validityPtr, valuesPtr, bytesPtr: 0, constant: null, hasZeros: false, ownBitsPtr: bitsPtr }
}

/** The rows of both: one of the two, or the target's bitmap; 0 for all. */
function intersect(rows: Rows, aPtr: number, bPtr: number, { bitsPtr }: Target): number {
  if (aPtr === 0) return copied(rows, bPtr, bitsPtr)
  if (bPtr === 0) return copied(rows, aPtr, bitsPtr)
  rows.call.andBits(aPtr, bPtr, bitsPtr, rows.rowCount)
  return bitsPtr
}

/** Validity that outlives the operand it came from. */
function copied(rows: Rows, validityPtr: number, bitsPtr: number): number {
  if (validityPtr === 0 || validityPtr === bitsPtr) return validityPtr
  rows.call.orBits(validityPtr, validityPtr, bitsPtr, rows.rowCount)
  return bitsPtr
}

function calculateConstants(rows: Rows, operator: ArithmeticOperator, a: Part, b: Part, target: Target): Part | null {
  if (a.constant === null || b.constant === null) return null
  const value = calculate(operator, a.constant, b.constant)
  if (value instanceof Failure) return null
  return constantPart(value, intersect(rows, a.validityPtr, b.validityPtr, target))
}

function isNumber({ type }: Part): boolean {
  return type === 'int64' || type === 'float64'
}

function operandPtr(rows: Rows, part: Part, isFloat: boolean): number {
  if (part.constant !== null) return rows.constantPtr(isFloat ? Number(part.constant) : part.constant)
  return isFloat ? floatsOf(rows, part) : part.valuesPtr
}

/** The values with the other sign; null when this is nothing for kernels. */
export function negateVector(rows: Rows, vector: Vector): Vector | null {
  const results: Part[] = []
  for (const part of vector) {
    if (!isNumber(part)) continue
    // 0 - x would make -0.0 of 0.0 a 0.0; a product with -1 changes nothing but the sign.
    const isFloat = part.type === 'float64'
    const factor = constantPart(isFloat ? -1 : 0n)
    const [a, b] = isFloat ? [part, factor] : [factor, part]
    const result = calculateParts(rows, isFloat ? '*' : '-', a, b, allocateTarget(rows))
    if (result === 'rows') return null
    if (result !== null) results.push(result)
  }
  return results
}

/** min or max of columns of one numeric type each; null when this is nothing for kernels. As `extreme` in scalar.ts. */
export function extremeVector(rows: Rows, which: 'min' | 'max', operands: readonly Vector[]): Vector | null {
  const parts: Part[] = []
  for (const vector of operands) {
    if (vector.length === 0) return []
    if (vector.length > 1 || !isNumber(vector[0])) return null
    parts.push(vector[0])
  }
  const { call, rowCount, scratch } = rows
  const isFloat = parts.some(({ type }) => type === 'float64')
  const kernel = isFloat ? 'extremeFloat64' : 'extremeInt64'
  const target = allocateTarget(rows)
  const { valuesPtr } = target
  const [first] = parts
  let validityPtr = copied(rows, first.validityPtr, target.bitsPtr)
  for (let i = 1; i < parts.length; i++) {
    const mark = scratch.mark()
    const a = i === 1 ? operandPtr(rows, first, isFloat) : valuesPtr
    const b = operandPtr(rows, parts[i], isFloat)
    const aStride = i === 1 && first.constant !== null ? 0 : 8
    call[kernel](which === 'max' ? 1 : 0, a, aStride, b, parts[i].constant === null ? 8 : 0, rowCount, valuesPtr)
    validityPtr = intersect(rows, validityPtr, parts[i].validityPtr, target)
    scratch.release(mark)
  }
  return [ownPart(isFloat ? 'float64' : 'int64', target, validityPtr)]
}
