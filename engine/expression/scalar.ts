// What operators and functions do with single values: the reference for every evaluator of expressions.
import type { Value } from '../frame/dtype.js'
import { valueText } from '../frame/value-text.js'
import { expressionValueByteLengthMax } from '../limits.js'
import { parseInt64 } from '../time.js'
import type { ComparisonOperator } from './tree.js'

/** A value of the language: as in frames, or the bytes of a blob, which may be an encoded numeric array (arrays.ts). */
export type Scalar = Value | Uint8Array

/** Why an operand or an expression has no value: a missing attribute, wrong types, a division by zero. */
export class Failure {
  constructor(readonly detail: string) {}
}

/**
 * True when two values stand in a relation. Values that cannot be compared stand in none, not even `!=`: a failure, a
 * string beside a number. int64 beside float64 compares as float64; a bool beside a number counts as 1 or 0. NaN is
 * unequal to everything and ordered to nothing. Strings compare by code point. Blobs are equal or not, byte by byte.
 */
export function compareScalars(operator: ComparisonOperator, left: Scalar | Failure, right: Scalar | Failure): boolean {
  if (left instanceof Failure || right instanceof Failure) return false
  if (typeof left === 'string' || typeof right === 'string') {
    if (typeof left !== 'string' || typeof right !== 'string') return false
    if (operator === '==') return left === right
    if (operator === '!=') return left !== right
    return isOrdered(operator, compareText(left, right), 0)
  }
  if (typeof left === 'object' || typeof right === 'object') {
    if (typeof left !== 'object' || typeof right !== 'object') return false
    if (left instanceof Uint8Array || right instanceof Uint8Array) return compareBlobs(operator, left, right)
    return isOrdered(operator, left.timeNs, right.timeNs)
  }
  const bothIntegers = typeof left !== 'number' && typeof right !== 'number'
  return bothIntegers
    ? isOrdered(operator, BigInt(left), BigInt(right))
    : isOrdered(operator, Number(left), Number(right))
}

function compareBlobs(operator: ComparisonOperator, left: Scalar, right: Scalar): boolean {
  if (!(left instanceof Uint8Array) || !(right instanceof Uint8Array)) return false
  if (operator !== '==' && operator !== '!=') return false
  const isEqual = left.length === right.length && left.every((byte, i) => byte === right[i])
  return isEqual === (operator === '==')
}

function isOrdered<T extends bigint | number>(operator: ComparisonOperator, left: T, right: T): boolean {
  switch (operator) {
    case '==':
      return left === right
    case '!=':
      return left !== right
    case '<':
      return left < right
    case '<=':
      return left <= right
    case '>':
      return left > right
    case '>=':
      return left >= right
  }
}

/** Order of two strings by code point, which is the order of their UTF-8 bytes: negative, 0 or positive. */
export function compareText(left: string, right: string): number {
  if (left === right) return 0
  const lengthMin = Math.min(left.length, right.length)
  for (let i = 0; i < lengthMin; i++) {
    const difference = utf8Rank(left.charCodeAt(i)) - utf8Rank(right.charCodeAt(i))
    if (difference !== 0) return difference
  }
  return left.length - right.length
}

/** UTF-16 surrogates stand for code points above all others, but their numbers lie below U+E000 to U+FFFF. */
function utf8Rank(code: number): number {
  if (code < 0xd800) return code
  return code < 0xe000 ? code + 0x2000 : code - 0x800
}

export type ArithmeticOperator = '+' | '-' | '*' | '/' | '%'

/**
 * int64 with int64 stays int64 (division truncates; an overflow or a zero divisor fails), any float64 makes float64, two
 * strings or two blobs are joined by `+`. Everything else fails.
 */
export function calculate(operator: ArithmeticOperator, left: Scalar, right: Scalar): Scalar | Failure {
  if (typeof left === 'bigint' && typeof right === 'bigint') return calculateIntegers(operator, left, right)
  if (isNumber(left) && isNumber(right)) return calculateFloats(operator, Number(left), Number(right))
  if (operator === '+') {
    if (typeof left === 'string' && typeof right === 'string') {
      return left.length + right.length <= textLengthMax ? left + right : tooLong
    }
    if (left instanceof Uint8Array && right instanceof Uint8Array) {
      return left.length + right.length <= expressionValueByteLengthMax ? joinBlobs(left, right) : tooLong
    }
  }
  return new Failure(`'${operator}' cannot be applied to ${typeName(left)} and ${typeName(right)}`)
}

/** In UTF-16 units, each of which takes at most three bytes. */
const textLengthMax = Math.floor(expressionValueByteLengthMax / 3)

export const tooLong = new Failure(`the value is longer than ${expressionValueByteLengthMax} bytes`)

function joinBlobs(left: Uint8Array, right: Uint8Array): Uint8Array {
  const joined = new Uint8Array(left.length + right.length)
  joined.set(left)
  joined.set(right, left.length)
  return joined
}

export function isNumber(value: Scalar): value is bigint | number {
  return typeof value === 'bigint' || typeof value === 'number'
}

function calculateIntegers(operator: ArithmeticOperator, left: bigint, right: bigint): bigint | Failure {
  if ((operator === '/' || operator === '%') && right === 0n) return new Failure('division by zero')
  const result = integerOperations[operator](left, right)
  return result === BigInt.asIntN(64, result) ? result : new Failure('integer overflow')
}

const integerOperations: Readonly<Record<ArithmeticOperator, (left: bigint, right: bigint) => bigint>> = {
  '+': (left, right) => left + right,
  '-': (left, right) => left - right,
  '*': (left, right) => left * right,
  '/': (left, right) => left / right,
  '%': (left, right) => left % right,
}

function calculateFloats(operator: ArithmeticOperator, left: number, right: number): number {
  switch (operator) {
    case '+':
      return left + right
    case '-':
      return left - right
    case '*':
      return left * right
    case '/':
      return left / right
    case '%':
      return left % right
  }
}

export function negate(value: Scalar): Scalar | Failure {
  if (typeof value === 'number') return -value
  if (typeof value === 'bigint') return calculateIntegers('-', 0n, value)
  return new Failure(`'-' cannot be applied to ${typeName(value)}`)
}

/**
 * The least or greatest of scalars. Mixed int64 and float64 give float64; a bool counts as 1 or 0 and stays a bool when
 * it wins; NaN wins over numbers; strings compare with strings only. Of equals the first wins.
 */
export function extreme(which: 'min' | 'max', values: readonly Scalar[]): Scalar | Failure {
  let winner = values[0]
  for (const value of values) {
    const comparable =
      (typeof value === 'string') === (typeof winner === 'string') &&
      typeof value !== 'object' &&
      typeof winner !== 'object'
    if (!comparable) return new Failure(`'${which}' cannot be applied to ${typeName(winner)} and ${typeName(value)}`)
    if (Number.isNaN(value)) return value
    if (compareScalars(which === 'min' ? '<' : '>', value, winner)) winner = value
  }
  const anyFloat = values.some((value) => typeof value === 'number')
  return anyFloat && typeof winner === 'bigint' ? Number(winner) : winner
}

/** Number of code points. */
export function textLength(text: string): bigint {
  let count = text.length
  for (let i = 1; i < text.length; i++) {
    const isPair = (text.charCodeAt(i) & 0xfc00) === 0xdc00 && (text.charCodeAt(i - 1) & 0xfc00) === 0xd800
    if (isPair) count--
  }
  return BigInt(count)
}

/** Position of a part in a text, counted in code points from 0, or -1. */
export function findText(text: string, part: string): bigint {
  const position = text.indexOf(part)
  return position < 0 ? -1n : textLength(text.slice(0, position))
}

/** All positions of a part in a text, as findText counts; null when they are too many. Matches may overlap. */
export function findAllTexts(text: string, part: string): bigint[] | null {
  const positions: bigint[] = []
  const isCandidate = (at: number): boolean => (text.charCodeAt(at) & 0xfc00) !== 0xdc00
  let codePoints = 0n
  let counted = 0
  for (let at = text.indexOf(part); at >= 0; at = text.indexOf(part, at + 1)) {
    if (at === text.length && counted === at && positions.length > 0) break
    codePoints += textLength(text.slice(counted, at))
    counted = at
    if (isCandidate(at)) positions.push(codePoints)
    if (positions.length > expressionValueByteLengthMax / 16) return null
  }
  return positions
}

/** `to_int`: an integer or float text is read, a float truncated, a bool counts as 1 or 0. */
export function toInteger(value: Scalar): bigint | Failure {
  if (typeof value === 'bigint') return value
  if (typeof value === 'boolean') return value ? 1n : 0n
  if (typeof value === 'string') {
    const integer = parseInt64(value)
    if (typeof integer === 'bigint') return integer
    if (!/^[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?$/.test(value)) return new Failure("'to_int' needs a number")
    return truncate(Number(value))
  }
  if (typeof value === 'number') return truncate(value)
  return new Failure(`'to_int' cannot be applied to ${typeName(value)}`)
}

function truncate(value: number): bigint | Failure {
  // -2^63 is a float64, 2^63 - 1 is not.
  const fits = value >= -(2 ** 63) && value < 2 ** 63
  return fits ? BigInt(Math.trunc(value)) : new Failure('integer overflow')
}

/** `str`: the text of a value; of a blob its base64. */
export function toText(value: Scalar): string {
  if (value instanceof Uint8Array) return Buffer.from(value.buffer, value.byteOffset, value.length).toString('base64')
  return valueText(value, 'allowed')
}

/** A type as messages name it. */
export function typeName(value: Scalar): string {
  if (typeof value === 'bigint') return 'an integer'
  if (typeof value === 'number') return 'a float'
  if (typeof value === 'boolean') return 'a boolean'
  if (typeof value === 'string') return 'a string'
  return value instanceof Uint8Array ? 'a blob' : 'a time'
}
