// Encoded numeric arrays: blobs with a header of 16 bytes, then the elements. What the functions of the language do with
// them.
//
//   u32 magic 11223344 │ u32 version 1 │ u32 byte length of the elements │ u32 type: 259 int64, 261 float64 │ elements
//
// All little endian. A blob that is not exactly this is no array.
import { expressionValueByteLengthMax } from '../limits.js'
import { calculate, compareScalars, extreme, Failure, type Scalar, tooLong, typeName } from './scalar.js'

const headerByteLength = 16
const magic = 11_223_344
const version = 1
const elementTypes = { int64: 259, float64: 261 } as const
const elementCountMax = (expressionValueByteLengthMax - headerByteLength) / 8

/** The elements of an array, read and written in place. */
interface NumericArray {
  readonly bytes: Uint8Array
  readonly view: DataView
  readonly isFloat: boolean
  readonly count: number
}

/** The array that a value is, or null. */
export function arrayOf(value: Scalar): NumericArray | null {
  if (!(value instanceof Uint8Array) || value.length < headerByteLength) return null
  const view = new DataView(value.buffer, value.byteOffset, value.byteLength)
  const byteLength = view.getUint32(8, true)
  const type = view.getUint32(12, true)
  const isArray =
    view.getUint32(0, true) === magic &&
    view.getUint32(4, true) === version &&
    byteLength === value.length - headerByteLength &&
    byteLength % 8 === 0 &&
    (type === elementTypes.int64 || type === elementTypes.float64)
  return isArray ? { bytes: value, view, isFloat: type === elementTypes.float64, count: byteLength / 8 } : null
}

/** An array of zeros; count at most elementCountMax. */
function newArray(count: number, isFloat: boolean): NumericArray {
  const bytes = new Uint8Array(headerByteLength + 8 * count)
  const view = new DataView(bytes.buffer)
  view.setUint32(0, magic, true)
  view.setUint32(4, version, true)
  view.setUint32(8, 8 * count, true)
  view.setUint32(12, isFloat ? elementTypes.float64 : elementTypes.int64, true)
  return { bytes, view, isFloat, count }
}

/** The bytes of an array of these elements, all of one type. */
export function encodeArray(values: readonly bigint[] | readonly number[]): Uint8Array {
  const array = newArray(values.length, typeof values[0] === 'number')
  values.forEach((value, i) => {
    setElement(array, i, value)
  })
  return array.bytes
}

function elementAt(array: NumericArray, index: number): bigint | number {
  const at = headerByteLength + 8 * index
  return array.isFloat ? array.view.getFloat64(at, true) : array.view.getBigInt64(at, true)
}

function setElement(array: NumericArray, index: number, value: bigint | number): void {
  const at = headerByteLength + 8 * index
  if (typeof value === 'bigint' && !array.isFloat) array.view.setBigInt64(at, value, true)
  else {
    // One NaN for all: the sign that arithmetic leaves in it differs between machines, and arrays are compared by bytes.
    const element = Number(value)
    if (Number.isNaN(element)) array.view.setBigUint64(at, 0x7ff8_0000_0000_0000n, true)
    else array.view.setFloat64(at, element, true)
  }
}

function noArray(name: string, value: Scalar): Failure {
  return new Failure(`'${name}' needs an array, not ${typeName(value)}`)
}

/** `init_array(n, 'int' | 'double' [, v])`. */
export function initArray(count: Scalar, type: Scalar, value: Scalar): Uint8Array | Failure {
  if (typeof count !== 'bigint' || count < 0n) return new Failure("'init_array' needs a number of elements")
  if (count > BigInt(Math.floor(elementCountMax))) return tooLong
  if (type !== 'int' && type !== 'double') return new Failure("'init_array' needs the type 'int' or 'double'")
  const array = newArray(Number(count), type === 'double')
  const element = asElement(array, value)
  if (element instanceof Failure) return element
  for (let i = 0; i < array.count; i++) setElement(array, i, element)
  return array.bytes
}

/** A value as an element of an array: an array of floats takes integers, one of integers takes nothing else. */
function asElement(array: NumericArray, value: Scalar): bigint | number | Failure {
  if (typeof value === 'bigint') return value
  if (typeof value === 'number' && array.isFloat) return value
  return new Failure(`${typeName(value)} cannot stand in an array of ${array.isFloat ? 'floats' : 'integers'}`)
}

/** Where an index of the language stands; a Failure for what is none or lies outside. */
function indexIn(array: NumericArray, index: Scalar): number | Failure {
  if (typeof index !== 'bigint') return new Failure(`an index must be an integer, not ${typeName(index)}`)
  if (index < 0n || index >= BigInt(array.count)) {
    return new Failure(`index ${index} is outside of an array of ${array.count}`)
  }
  return Number(index)
}

/** `array[index]` */
export function arrayElement(name: string, value: Scalar, index: Scalar): Scalar | Failure {
  const array = arrayOf(value)
  if (array === null) return noArray(name, value)
  const place = indexIn(array, index)
  return place instanceof Failure ? place : elementAt(array, place)
}

/** First and end (excluded) of `array[start..end]`, whose end is included. */
function rangeIn(array: NumericArray, start: Scalar, end: Scalar): { first: number; count: number } | Failure {
  const first = indexIn(array, start)
  if (first instanceof Failure) return first
  const last = indexIn(array, end)
  if (last instanceof Failure) return last
  if (last < first) return new Failure(`the range ${first}..${last} ends before it starts`)
  return { first, count: last - first + 1 }
}

/** `array[start..end]` as an array of its own. */
export function arrayRange(name: string, value: Scalar, start: Scalar, end: Scalar): Uint8Array | Failure {
  const array = arrayOf(value)
  if (array === null) return noArray(name, value)
  const range = rangeIn(array, start, end)
  if (range instanceof Failure) return range
  const slice = newArray(range.count, array.isFloat)
  const at = headerByteLength + 8 * range.first
  slice.bytes.set(array.bytes.subarray(at, at + 8 * range.count), headerByteLength)
  return slice.bytes
}

/** `array[index] = element`: a changed copy. */
export function withElement(name: string, value: Scalar, index: Scalar, element: Scalar): Uint8Array | Failure {
  const array = arrayOf(value)
  if (array === null) return noArray(name, value)
  const place = indexIn(array, index)
  if (place instanceof Failure) return place
  const converted = asElement(array, element)
  if (converted instanceof Failure) return converted
  const changed = copyOf(array)
  setElement(changed, place, converted)
  return changed.bytes
}

/** `array[start..end] = elements`: a changed copy. There must be as many elements as the range has. */
export function withRange(
  name: string,
  value: Scalar,
  range: { readonly start: Scalar; readonly end: Scalar },
  elements: Scalar,
): Uint8Array | Failure {
  const array = arrayOf(value)
  if (array === null) return noArray(name, value)
  const source = arrayOf(elements)
  if (source === null) return new Failure(`a range needs an array, not ${typeName(elements)}`)
  const places = rangeIn(array, range.start, range.end)
  if (places instanceof Failure) return places
  if (places.count !== source.count) {
    return new Failure(`${source.count} elements for a range of ${places.count}`)
  }
  const changed = copyOf(array)
  for (let i = 0; i < source.count; i++) {
    const converted = asElement(array, elementAt(source, i))
    if (converted instanceof Failure) return converted
    setElement(changed, places.first + i, converted)
  }
  return changed.bytes
}

function copyOf(array: NumericArray): NumericArray {
  const copy = newArray(array.count, array.isFloat)
  copy.bytes.set(array.bytes)
  return copy
}

/** `pmin`, `pmax`, `psum`: of each pair of elements; floats when one of the arrays has floats. */
export function combineArrays(name: 'pmin' | 'pmax' | 'psum', left: Scalar, right: Scalar): Uint8Array | Failure {
  const a = arrayOf(left)
  const b = arrayOf(right)
  if (a === null || b === null) return noArray(name, a === null ? left : right)
  if (a.count !== b.count) return new Failure(`'${name}' needs arrays of one length, not ${a.count} and ${b.count}`)
  const result = newArray(a.count, a.isFloat || b.isFloat)
  for (let i = 0; i < a.count; i++) {
    const pair = [elementAt(a, i), elementAt(b, i)] as const
    const value = name === 'psum' ? calculate('+', ...pair) : extreme(name === 'pmin' ? 'min' : 'max', pair)
    if (value instanceof Failure) return value
    const element = asElement(result, value)
    if (element instanceof Failure) return element
    setElement(result, i, element)
  }
  return result.bytes
}

/** `min`, `max`, `sum` of an array; a Failure for an empty one, but its sum is 0. */
export function foldArray(name: 'min' | 'max' | 'sum', value: Scalar): Scalar | Failure {
  const array = arrayOf(value)
  if (array === null) return noArray(name, value)
  if (array.count === 0 && name !== 'sum') return new Failure(`'${name}' of an empty array`)
  let result: Scalar | Failure = name !== 'sum' ? elementAt(array, 0) : array.isFloat ? 0 : 0n
  for (let i = name === 'sum' ? 0 : 1; i < array.count; i++) {
    const element = elementAt(array, i)
    result = name === 'sum' ? calculate('+', result, element) : extreme(name, [result, element])
    if (result instanceof Failure) return result
  }
  return result
}

/** Mean, as a float. */
export function averageOf(value: Scalar): number | Failure {
  const array = arrayOf(value)
  if (array === null) return noArray('avg', value)
  return array.count === 0 ? new Failure("'avg' of an empty array") : mean(array)
}

/** Sample standard deviation: of one element it is not known, a Failure. */
export function deviationOf(value: Scalar): number | Failure {
  const array = arrayOf(value)
  if (array === null) return noArray('stddev', value)
  if (array.count < 2) return new Failure("'stddev' needs two elements or more")
  const middle = mean(array)
  let squares = 0
  for (let i = 0; i < array.count; i++) squares += (Number(elementAt(array, i)) - middle) ** 2
  return Math.sqrt(squares / (array.count - 1))
}

function mean(array: NumericArray): number {
  let sum = 0
  for (let i = 0; i < array.count; i++) sum += Number(elementAt(array, i))
  return sum / array.count
}

/** `length` of an array; null for what is none. */
export function arrayLength(value: Scalar): bigint | null {
  const array = arrayOf(value)
  return array === null ? null : BigInt(array.count)
}

/** Ascending; NaN last. */
export function sortArray(value: Scalar): Uint8Array | Failure {
  const array = arrayOf(value)
  if (array === null) return noArray('sort_array', value)
  const sorted = copyOf(array)
  const elements = sorted.bytes.buffer.slice(headerByteLength)
  // Typed arrays sort by number, NaN last.
  if (array.isFloat) sorted.bytes.set(new Uint8Array(new Float64Array(elements).sort().buffer), headerByteLength)
  else sorted.bytes.set(new Uint8Array(new BigInt64Array(elements).sort().buffer), headerByteLength)
  return sorted.bytes
}

/** `find_all_indices(array, v)`: the places of the elements that equal v. */
export function indicesOf(array: NumericArray, wanted: Scalar): Uint8Array {
  const places: bigint[] = []
  for (let i = 0; i < array.count; i++) {
    if (compareScalars('==', elementAt(array, i), wanted)) places.push(BigInt(i))
  }
  return encodeArray(places)
}

/** `extract_by_indices(array, indices)`: the elements at these places, in their order. */
export function elementsAt(value: Scalar, indices: Scalar): Uint8Array | Failure {
  const array = arrayOf(value)
  const places = arrayOf(indices)
  if (array === null || places === null) return noArray('extract_by_indices', array === null ? value : indices)
  const result = newArray(places.count, array.isFloat)
  for (let i = 0; i < places.count; i++) {
    const place = indexIn(array, elementAt(places, i))
    if (place instanceof Failure) return place
    setElement(result, i, elementAt(array, place))
  }
  return result.bytes
}
