// A filter over the labels of one series, as a function. Labels are strings; a label that is not there is missing.
import { assert } from '../assert.js'
import type { Value } from '../frame/dtype.js'
import {
  calculate,
  compareScalars,
  extreme,
  Failure,
  findText,
  negate,
  textLength,
  toInteger,
  toText,
  typeName,
} from './scalar.js'
import type { Expression } from './tree.js'

/** The value of a label, `_name` for the metric; undefined where the series has no such label. */
export type LabelLookup = (name: string) => string | undefined

export type LabelFilter = (attribute: LabelLookup) => boolean

type Evaluate = (attribute: LabelLookup) => Value | Failure

/**
 * Compiles a filter into nested functions, once a query.
 *
 * A comparison, IN or boolean function with a missing label or any other failure inside is false; a query never fails
 * for it. What is not boolean counts as false where a boolean is needed.
 */
export function compileLabelFilter(tree: Expression): LabelFilter {
  switch (tree.kind) {
    case 'and': {
      const operands = tree.operands.map(compileLabelFilter)
      return (attribute) => operands.every((operand) => operand(attribute))
    }
    case 'or': {
      const operands = tree.operands.map(compileLabelFilter)
      return (attribute) => operands.some((operand) => operand(attribute))
    }
    case 'not': {
      const operand = compileLabelFilter(tree.operand)
      return (attribute) => !operand(attribute)
    }
    case 'compare': {
      const { operator } = tree
      const left = compileValue(tree.left)
      const right = compileValue(tree.right)
      return (attribute) => compareScalars(operator, left(attribute), right(attribute))
    }
    case 'in':
      return compileMembership(tree)
    default: {
      const value = compileValue(tree)
      return (attribute) => value(attribute) === true
    }
  }
}

function compileMembership(tree: Expression & { kind: 'in' }): LabelFilter {
  const operand = compileValue(tree.operand)
  // The usual case, a list of texts, is one look-up however long the list is.
  const texts = new Set<Value>()
  const others: Evaluate[] = []
  for (const choice of tree.choices) {
    if (choice.kind === 'literal' && typeof choice.value === 'string') texts.add(choice.value)
    else others.push(compileValue(choice))
  }
  return (attribute) => {
    const value = operand(attribute)
    if (value instanceof Failure) return false
    return texts.has(value) || others.some((other) => compareScalars('==', value, other(attribute)))
  }
}

function compileValue(tree: Expression): Evaluate {
  switch (tree.kind) {
    case 'literal': {
      const { value } = tree
      return () => value
    }
    case 'attribute': {
      const { name } = tree
      const missing = new Failure(`attribute '${name}' is missing`)
      return (attribute) => attribute(name) ?? missing
    }
    case 'negate': {
      const operand = compileValue(tree.operand)
      return (attribute) => applied(negate, operand(attribute))
    }
    case 'sum':
    case 'product':
      return compileChain(tree)
    case 'call':
      return compileCall(tree)
    case 'element':
    case 'range':
      return fails('labels are no arrays')
    case 'placeholder':
      // Only templates of writes have placeholders, and their parser is another.
      assert(false, 'a filter has no placeholders')
      return fails('')
    case 'compare':
    case 'in':
    case 'not':
    case 'and':
    case 'or':
      return compileLabelFilter(tree)
  }
}

function fails(detail: string): Evaluate {
  const failure = new Failure(detail)
  return () => failure
}

function applied(operation: (value: Value) => Value | Failure, value: Value | Failure): Value | Failure {
  return value instanceof Failure ? value : operation(value)
}

function compileChain(tree: Expression & { kind: 'sum' | 'product' }): Evaluate {
  const first = compileValue(tree.first)
  const rest = tree.rest.map(({ operator, operand }) => ({ operator, operand: compileValue(operand) }))
  return (attribute) => {
    let value = first(attribute)
    for (const { operator, operand } of rest) {
      const right = operand(attribute)
      if (value instanceof Failure) return value
      if (right instanceof Failure) return right
      value = calculate(operator, value, right)
    }
    return value
  }
}

function compileCall(tree: Expression & { kind: 'call' }): Evaluate {
  const operands = tree.operands.map(compileValue)
  const [first, second, third] = operands
  switch (tree.function) {
    case 'exists':
      return (attribute) => !(first(attribute) instanceof Failure)
    case 'if_not_exists':
      return (attribute) => {
        const value = first(attribute)
        return value instanceof Failure ? second(attribute) : value
      }
    case 'if_else': {
      const condition = compileLabelFilter(tree.operands[0])
      return (attribute) => (condition(attribute) ? second(attribute) : third(attribute))
    }
    case 'starts':
      return textTest(first, second, (text, prefix) => text.startsWith(prefix))
    case 'ends':
      return textTest(first, second, (text, suffix) => text.endsWith(suffix))
    case 'contains':
      return textTest(first, second, (text, part) => text.includes(part))
    case 'find':
      return (attribute) => {
        const text = first(attribute)
        const part = second(attribute)
        if (typeof text !== 'string' || typeof part !== 'string') return new Failure("'find' needs two strings")
        return findText(text, part)
      }
    case 'length':
      return (attribute) =>
        applied((value) => (typeof value === 'string' ? textLength(value) : noArray('length', value)), first(attribute))
    case 'min':
    case 'max':
      return compileExtreme(tree.function, operands)
    case 'isnan':
      return (attribute) => Number.isNaN(first(attribute))
    case 'nanaszero':
      return (attribute) => applied((value) => (Number.isNaN(value) ? 0 : value), first(attribute))
    case 'sqrt':
      return (attribute) =>
        applied((value) => {
          const isNumber = typeof value === 'number' || typeof value === 'bigint'
          return isNumber ? Math.sqrt(Number(value)) : new Failure("'sqrt' needs a number")
        }, first(attribute))
    case 'str':
      return (attribute) => applied(toText, first(attribute))
    case 'to_int':
      return (attribute) => applied(toInteger, first(attribute))
    case 'init_array':
    case 'blob':
    case 'pmin':
    case 'pmax':
    case 'psum':
    case 'sum':
    case 'avg':
    case 'stddev':
    case 'find_all_indices':
    case 'extract_by_indices':
    case 'sort_array':
      return fails('labels are no arrays')
    case 'regexp_instr':
    case 'regexp_replace':
      return fails('labels cannot be searched with regular expressions')
  }
}

function textTest(left: Evaluate, right: Evaluate, test: (text: string, part: string) => boolean): Evaluate {
  return (attribute) => {
    const text = left(attribute)
    const part = right(attribute)
    return typeof text === 'string' && typeof part === 'string' && test(text, part)
  }
}

function compileExtreme(which: 'min' | 'max', operands: readonly Evaluate[]): Evaluate {
  return (attribute) => {
    const values: Value[] = []
    for (const operand of operands) {
      const value = operand(attribute)
      if (value instanceof Failure) return value
      values.push(value)
    }
    return values.length === 1 ? noArray(which, values[0]) : extreme(which, values)
  }
}

function noArray(name: string, value: Value): Failure {
  return new Failure(`'${name}' needs an array, not ${typeName(value)}`)
}
