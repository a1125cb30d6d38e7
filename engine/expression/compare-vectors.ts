// Comparisons of vectors, one type beside another, by kernels. What compareScalars says for a pair of values holds here.
import { compareScalars, type Scalar } from './scalar.js'
import type { ComparisonOperator } from './tree.js'
import type { Part, Rows, Vector } from './vector.js'

/** The kernels' numbers of the operators. */
export const operatorNumbers: Readonly<Record<ComparisonOperator, number>> = {
  '==': 0,
  '!=': 1,
  '<': 2,
  '<=': 3,
  '>': 4,
  '>=': 5,
}

/** `a < b` is `b > a`. */
export const mirrored: Readonly<Record<ComparisonOperator, ComparisonOperator>> = {
  '==': '==',
  '!=': '!=',
  '<': '>',
  '<=': '>=',
  '>': '<',
  '>=': '<=',
}

/** Writes the rows for which `left operator right` holds; a row without a value on one side is none of them. */
export function compareVectors(
  rows: Rows,
  operator: ComparisonOperator,
  left: Vector,
  right: Vector,
  resultPtr: number,
): void {
  const { call, rowCount, scratch } = rows
  let isFirst = true
  for (const a of left) {
    for (const b of right) {
      const mark = scratch.mark()
      const bitsPtr = isFirst ? resultPtr : rows.allocateBits()
      if (compareParts(rows, operator, a, b, bitsPtr)) {
        rows.restrict(bitsPtr, a.validityPtr)
        rows.restrict(bitsPtr, b.validityPtr)
        if (!isFirst) call.orBits(resultPtr, bitsPtr, resultPtr, rowCount)
        isFirst = false
      }
      scratch.release(mark)
    }
  }
  if (isFirst) call.fillBits(resultPtr, rowCount, 0)
}

/** Compares without a look at the validities. Returns false for types that cannot be compared: no row holds. */
function compareParts(rows: Rows, operator: ComparisonOperator, a: Part, b: Part, bitsPtr: number): boolean {
  if (b.constant !== null) {
    if (a.constant === null) return compareConstant(rows, operator, a, b.constant, bitsPtr)
    rows.call.fillBits(bitsPtr, rows.rowCount, compareScalars(operator, a.constant, b.constant) ? 1 : 0)
    return true
  }
  if (a.constant !== null) return compareConstant(rows, mirrored[operator], b, a.constant, bitsPtr)
  return compareColumns(rows, operator, a, b, bitsPtr)
}

/** A column against one value. */
export function compareConstant(
  rows: Rows,
  operator: ComparisonOperator,
  part: Part,
  constant: Scalar,
  bitsPtr: number,
): boolean {
  const { call, rowCount } = rows
  const { valuesPtr } = part
  const number = operatorNumbers[operator]
  switch (part.type) {
    case 'int64':
      if (typeof constant === 'bigint') call.compareInt64(valuesPtr, rowCount, number, constant, bitsPtr)
      else if (typeof constant === 'boolean') call.compareInt64(valuesPtr, rowCount, number, BigInt(constant), bitsPtr)
      else if (typeof constant === 'number') compareIntegersWithFloat(rows, operator, valuesPtr, constant, bitsPtr)
      else return false
      return true
    case 'float64':
      if (typeof constant === 'string' || typeof constant === 'object') return false
      call.compareFloat64(valuesPtr, rowCount, number, Number(constant), bitsPtr)
      return true
    case 'time':
      if (typeof constant !== 'object' || constant instanceof Uint8Array) return false
      call.compareInt64(valuesPtr, rowCount, number, constant.timeNs, bitsPtr)
      return true
    case 'bool':
      if (typeof constant === 'string' || typeof constant === 'object') return false
      selectBools(
        rows,
        valuesPtr,
        compareScalars(operator, true, constant),
        compareScalars(operator, false, constant),
        bitsPtr,
      )
      return true
    case 'string':
      if (typeof constant !== 'string') return false
      return compareBytes(rows, number, part, constant, bitsPtr)
    case 'blob':
      if (!(constant instanceof Uint8Array) || (operator !== '==' && operator !== '!=')) return false
      return compareBytes(rows, number, part, constant, bitsPtr)
  }
}

function compareBytes(
  rows: Rows,
  operatorNumber: number,
  { valuesPtr, bytesPtr }: Part,
  constant: string | Uint8Array,
  bitsPtr: number,
): boolean {
  const { ptr, byteLength } = rows.bytesOf(constant)
  rows.call.compareStrings(valuesPtr, bytesPtr, rows.rowCount, operatorNumber, ptr, byteLength, bitsPtr)
  return true
}

/** Writes what holds for true and for false. */
export function selectBools(
  rows: Rows,
  valuesPtr: number,
  whereTrue: boolean,
  whereFalse: boolean,
  bitsPtr: number,
): void {
  const { call, rowCount } = rows
  if (whereTrue === whereFalse) call.fillBits(bitsPtr, rowCount, whereTrue ? 1 : 0)
  else if (whereTrue) call.orBits(valuesPtr, valuesPtr, bitsPtr, rowCount)
  else call.notBits(valuesPtr, bitsPtr, rowCount)
}

/** int64 beside float64 compares as float64. Below 2^53 that is the same as comparing with an integer nearby. */
function compareIntegersWithFloat(
  rows: Rows,
  operator: ComparisonOperator,
  valuesPtr: number,
  constant: number,
  bitsPtr: number,
): void {
  const { call, rowCount, scratch } = rows
  if (!(Math.abs(constant) < 2 ** 53)) {
    const mark = scratch.mark()
    const floatsPtr = rows.allocateValues()
    call.convertInt64ToFloat64(valuesPtr, rowCount, floatsPtr)
    call.compareFloat64(floatsPtr, rowCount, operatorNumbers[operator], constant, bitsPtr)
    scratch.release(mark)
    return
  }
  const floor = BigInt(Math.floor(constant))
  if (Number.isInteger(constant)) {
    call.compareInt64(valuesPtr, rowCount, operatorNumbers[operator], floor, bitsPtr)
  } else if (operator === '==' || operator === '!=') {
    call.fillBits(bitsPtr, rowCount, operator === '!=' ? 1 : 0)
  } else {
    const isLess = operator === '<' || operator === '<='
    call.compareInt64(valuesPtr, rowCount, operatorNumbers[isLess ? '<=' : '>'], floor, bitsPtr)
  }
}

function compareColumns(rows: Rows, operator: ComparisonOperator, a: Part, b: Part, bitsPtr: number): boolean {
  const { call, rowCount } = rows
  const number = operatorNumbers[operator]
  if (isText(a) || isText(b)) {
    if (a.type !== b.type || (a.type === 'blob' && number > 1)) return false
    call.comparePairsStrings(a.valuesPtr, a.bytesPtr, b.valuesPtr, b.bytesPtr, rowCount, number, bitsPtr)
    return true
  }
  if (a.type === 'time' || b.type === 'time') {
    if (a.type !== b.type) return false
    call.comparePairsInt64(a.valuesPtr, b.valuesPtr, rowCount, number, bitsPtr)
    return true
  }
  if (a.type === 'float64' || b.type === 'float64') {
    call.comparePairsFloat64(floatsOf(rows, a), floatsOf(rows, b), rowCount, number, bitsPtr)
  } else {
    call.comparePairsInt64(integersOf(rows, a), integersOf(rows, b), rowCount, number, bitsPtr)
  }
  return true
}

function isText({ type }: Part): boolean {
  return type === 'string' || type === 'blob'
}

/** The values of a column of numbers or bools as float64. */
export function floatsOf(rows: Rows, { type, valuesPtr }: Part): number {
  if (type === 'float64') return valuesPtr
  const targetPtr = rows.allocateValues()
  if (type === 'int64') rows.call.convertInt64ToFloat64(valuesPtr, rows.rowCount, targetPtr)
  else rows.call.convertBitsToFloat64(valuesPtr, rows.rowCount, targetPtr)
  return targetPtr
}

function integersOf(rows: Rows, { type, valuesPtr }: Part): number {
  if (type === 'int64') return valuesPtr
  const targetPtr = rows.allocateValues()
  rows.call.convertBitsToInt64(valuesPtr, rows.rowCount, targetPtr)
  return targetPtr
}
