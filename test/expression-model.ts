// The expression language once more, for one item at a time and too simple to be wrong: a plain walk over the tree, where
// what has no value throws. What the evaluators of the engine do is held against it.
import type { Scalar } from '../dist/engine/expression/scalar.js'
import type { ComparisonOperator, Expression, UpdateAction } from '../dist/engine/expression/tree.js'
import type { Item } from './item-rows.js'

export class NoValue extends Error {}

function none(): never {
  throw new NoValue()
}

/** `update`: a comparison without a value has none itself; else it is false. */
export interface ModelRow {
  readonly item: Item
  readonly written: Item
  readonly isUpdate: boolean
}

export function modelTest(tree: Expression, row: ModelRow): boolean {
  try {
    return test(tree, row)
  } catch (error) {
    if (error instanceof NoValue && !row.isUpdate) return false
    throw error
  }
}

function test(tree: Expression, row: ModelRow): boolean {
  switch (tree.kind) {
    case 'and':
      return tree.operands.every((operand) => modelTest(operand, row))
    case 'or':
      return tree.operands.some((operand) => modelTest(operand, row))
    case 'not':
      return !modelTest(tree.operand, row)
    case 'compare':
      return compare(tree.operator, modelValue(tree.left, row), modelValue(tree.right, row))
    case 'in': {
      const value = modelValue(tree.operand, row)
      return tree.choices.some((choice) => {
        try {
          return compare('==', value, modelValue(choice, row))
        } catch (error) {
          if (error instanceof NoValue && !row.isUpdate) return false
          throw error
        }
      })
    }
    case 'call': {
      const values = () => tree.operands.map((operand) => modelValue(operand, row))
      const texts = (check: (a: string, b: string) => boolean) => {
        const [a, b] = values()
        return typeof a === 'string' && typeof b === 'string' && check(a, b)
      }
      if (tree.function === 'exists') return Object.hasOwn(row.item, nameOf(tree.operands[0]!))
      if (tree.function === 'starts')
        return texts((a, b) => Buffer.from(a).subarray(0, Buffer.byteLength(b)).equals(Buffer.from(b)))
      if (tree.function === 'ends') return texts((a, b) => a.endsWith(b))
      if (tree.function === 'contains') return texts((a, b) => a.split(b).length > 1 || b === '')
      if (tree.function === 'isnan') return values().some(Number.isNaN)
      return modelValue(tree, row) === true
    }
    default:
      return modelValue(tree, row) === true
  }
}

function nameOf(tree: Expression): string {
  if (tree.kind !== 'attribute') throw new Error('no attribute')
  return tree.name
}

export function modelValue(tree: Expression, row: ModelRow): Scalar {
  const at = (operand: Expression) => modelValue(operand, row)
  switch (tree.kind) {
    case 'literal':
      return tree.value
    case 'attribute':
      return Object.hasOwn(row.item, tree.name) ? row.item[tree.name]! : none()
    case 'placeholder':
      return Object.hasOwn(row.written, tree.name) ? row.written[tree.name]! : none()
    case 'element': {
      const elements = elementsOf(at({ kind: 'attribute', name: tree.array }))
      return elements.values[indexOf(at(tree.index), elements)]!
    }
    case 'range': {
      const { values, isFloat } = elementsOf(at({ kind: 'attribute', name: tree.array }))
      const start = indexOf(at(tree.start), { values })
      const end = indexOf(at(tree.end), { values })
      return end < start ? none() : encode({ values: values.slice(start, end + 1), isFloat })
    }
    case 'negate': {
      const value = at(tree.operand)
      return typeof value === 'number' ? -value : typeof value === 'bigint' ? int(-value) : none()
    }
    case 'sum':
    case 'product':
      return (tree.rest as readonly { operator: '+' | '-' | '*' | '/' | '%'; operand: Expression }[]).reduce(
        (left, { operator, operand }) => calculate(operator, left, at(operand)),
        at(tree.first),
      )
    case 'call':
      return call(tree, row)
    default:
      return modelTest(tree, row)
  }
}

interface Elements {
  readonly values: readonly (bigint | number)[]
  readonly isFloat: boolean
}

function elementsOf(value: Scalar): Elements {
  if (!(value instanceof Uint8Array) || value.length < 16 || value.length % 8 !== 0) return none()
  const view = new DataView(value.buffer, value.byteOffset, value.length)
  const type = view.getUint32(12, true)
  if (view.getUint32(0, true) !== 11223344 || view.getUint32(4, true) !== 1 || (type !== 259 && type !== 261))
    return none()
  if (view.getUint32(8, true) !== value.length - 16) return none()
  const isFloat = type === 261
  const count = (value.length - 16) / 8
  return {
    isFloat,
    values: Array.from({ length: count }, (_, i) =>
      isFloat ? view.getFloat64(16 + 8 * i, true) : view.getBigInt64(16 + 8 * i, true),
    ),
  }
}

function encode({ values, isFloat }: Elements): Uint8Array {
  const header = new Uint8Array(Uint32Array.of(11223344, 1, 8 * values.length, isFloat ? 261 : 259).buffer)
  const body = isFloat ? Float64Array.from(values, Number) : BigInt64Array.from(values, BigInt)
  // Every NaN has the same bytes.
  if (isFloat) {
    const bits = new BigUint64Array(body.buffer)
    values.forEach((value, i) => {
      if (Number.isNaN(value)) bits[i] = 0x7ff8_0000_0000_0000n
    })
  }
  return new Uint8Array([...header, ...new Uint8Array(body.buffer)])
}

function indexOf(index: Scalar, { values }: Pick<Elements, 'values'>): number {
  return typeof index === 'bigint' && index >= 0n && index < BigInt(values.length) ? Number(index) : none()
}

function int(value: bigint): bigint {
  return value >= -(2n ** 63n) && value < 2n ** 63n ? value : none()
}

function isNumeric(value: Scalar): value is bigint | number | boolean {
  return typeof value === 'bigint' || typeof value === 'number' || typeof value === 'boolean'
}

/** -1, 0, 1; 'nan' for numbers without an order, undefined for values that cannot be compared. */
function order(a: Scalar, b: Scalar): number | 'nan' | undefined {
  if (typeof a === 'string' && typeof b === 'string') return Buffer.compare(Buffer.from(a), Buffer.from(b))
  if (isNumeric(a) && isNumeric(b)) {
    const isFloat = typeof a === 'number' || typeof b === 'number'
    const [x, y] = isFloat ? [Number(a), Number(b)] : [BigInt(a), BigInt(b)]
    return x === y ? 0 : x < y ? -1 : x > y ? 1 : 'nan'
  }
  if (a instanceof Uint8Array || b instanceof Uint8Array || typeof a !== 'object' || typeof b !== 'object')
    return undefined
  return a.timeNs === b.timeNs ? 0 : a.timeNs < b.timeNs ? -1 : 1
}

function compare(operator: ComparisonOperator, a: Scalar, b: Scalar): boolean {
  if (a instanceof Uint8Array && b instanceof Uint8Array) {
    const isEqual = Buffer.from(a).equals(Buffer.from(b))
    return operator === '==' ? isEqual : operator === '!=' && !isEqual
  }
  const result = order(a, b)
  if (result === undefined) return false
  if (result === 'nan') return operator === '!='
  return {
    '==': result === 0,
    '!=': result !== 0,
    '<': result < 0,
    '<=': result <= 0,
    '>': result > 0,
    '>=': result >= 0,
  }[operator]
}

function calculate(operator: '+' | '-' | '*' | '/' | '%', a: Scalar, b: Scalar): Scalar {
  if (operator === '+' && typeof a === 'string' && typeof b === 'string') return a + b
  if (operator === '+' && a instanceof Uint8Array && b instanceof Uint8Array) return new Uint8Array([...a, ...b])
  if (typeof a === 'bigint' && typeof b === 'bigint') {
    if ((operator === '/' || operator === '%') && b === 0n) return none()
    return int({ '+': () => a + b, '-': () => a - b, '*': () => a * b, '/': () => a / b, '%': () => a % b }[operator]())
  }
  if (typeof a === 'boolean' || typeof b === 'boolean' || !isNumeric(a) || !isNumeric(b)) return none()
  const [x, y] = [Number(a), Number(b)]
  return { '+': x + y, '-': x - y, '*': x * y, '/': x / y, '%': x % y }[operator]
}

function winner(name: 'min' | 'max', values: readonly Scalar[]): Scalar {
  if (values.length === 0) return none()
  let best = values[0]!
  for (const value of values) {
    const isText = values.every((other) => typeof other === 'string')
    if (!isText && !values.every(isNumeric)) return none()
    if (Number.isNaN(value)) return value
    if (compare(name === 'min' ? '<' : '>', value, best)) best = value
  }
  return typeof best === 'bigint' && values.some((value) => typeof value === 'number') ? Number(best) : best
}

function call(tree: Expression & { kind: 'call' }, row: ModelRow): Scalar {
  const { operands } = tree
  const at = (i: number) => modelValue(operands[i]!, row)
  switch (tree.function) {
    case 'if_else':
      return modelTest(operands[0]!, row) ? at(1) : at(2)
    case 'if_not_exists':
      return Object.hasOwn(row.item, nameOf(operands[0]!)) ? at(0) : at(1)
    case 'length': {
      const value = at(0)
      return typeof value === 'string' ? BigInt([...value].length) : BigInt(elementsOf(value).values.length)
    }
    case 'min':
    case 'max':
      if (operands.length === 1) return winner(tree.function, elementsOf(at(0)).values)
      return winner(
        tree.function,
        operands.map((_, i) => at(i)),
      )
    case 'nanaszero': {
      const value = at(0)
      return Number.isNaN(value) ? 0 : value
    }
    case 'sqrt': {
      const value = at(0)
      return typeof value === 'number' || typeof value === 'bigint' ? Math.sqrt(Number(value)) : none()
    }
    case 'sum':
      return elementsOf(at(0)).values.reduce<Scalar>((a, b) => calculate('+', a, b), elementsOf(at(0)).isFloat ? 0 : 0n)
    case 'psum':
    case 'pmin':
    case 'pmax': {
      const [a, b] = [elementsOf(at(0)), elementsOf(at(1))]
      if (a.values.length !== b.values.length) return none()
      const values = a.values.map((value, i) => {
        const other = b.values[i]!
        if (tree.function === 'psum') return calculate('+', value, other)
        return winner(tree.function === 'pmin' ? 'min' : 'max', [value, other])
      })
      return encode({ values: values as (bigint | number)[], isFloat: a.isFloat || b.isFloat })
    }
    case 'sort_array': {
      const { values, isFloat } = elementsOf(at(0))
      const rank = (value: bigint | number) => (Number.isNaN(value) ? 2 : 1)
      const sorted = [...values].sort((a, b) => {
        if (rank(a) !== rank(b)) return rank(a) - rank(b)
        return a < b ? -1 : a > b ? 1 : Object.is(a, -0) && !Object.is(b, -0) ? -1 : 0
      })
      return encode({ values: sorted, isFloat })
    }
    case 'blob':
      return Uint8Array.from(Buffer.from(String(at(0)), 'base64'))
    case 'find': {
      const [text, part] = [at(0), at(1)]
      if (typeof text !== 'string' || typeof part !== 'string') return none()
      return text.includes(part) ? BigInt([...(text.split(part)[0] ?? '')].length) : -1n
    }
    case 'str': {
      const value = at(0)
      return typeof value === 'bigint' || typeof value === 'boolean' || typeof value === 'string'
        ? String(value)
        : none()
    }
    default:
      return modelTest(tree, row)
  }
}

/** The item after an update; null where it fails. */
export function modelUpdate(actions: readonly UpdateAction[], item: Item, written: Item): Item | null {
  const current: Record<string, Scalar> = { ...item }
  const row = { item: current, written, isUpdate: true }
  try {
    for (const action of actions) {
      if (action.kind === 'remove') delete current[action.attribute]
      else current[action.target.attribute] = assigned(action, row)
    }
    return current
  } catch (error) {
    if (error instanceof NoValue) return null
    throw error
  }
}

function assigned({ target, value }: UpdateAction & { kind: 'set' }, row: ModelRow): Scalar {
  if (target.start === null) return modelValue(value, row)
  const array = elementsOf(modelValue({ kind: 'attribute', name: target.attribute }, row))
  const start = indexOf(modelValue(target.start, row), array)
  const end = target.end === null ? start : indexOf(modelValue(target.end, row), array)
  if (end < start) return none()
  const result = modelValue(value, row)
  const source = target.end === null ? [result] : elementsOf(result).values
  if (source.length !== end - start + 1) return none()
  const values = [...array.values]
  source.forEach((element, i) => {
    if (typeof element !== 'bigint' && !(typeof element === 'number' && array.isFloat)) none()
    else values[start + i] = element
  })
  return encode({ values, isFloat: array.isFloat })
}
