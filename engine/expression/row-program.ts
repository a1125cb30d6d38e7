// A tree as a function of one row: the complete language, and the reference for the programs over columns.
import { functionRules } from './functions.js'
import {
  arrayElement,
  arrayLength,
  arrayOf,
  arrayRange,
  averageOf,
  combineArrays,
  deviationOf,
  elementsAt,
  encodeArray,
  foldArray,
  indicesOf,
  initArray,
  sortArray,
} from './arrays.js'
import { compileRegexp, replaceMatches, searchRegexp } from './regexp.js'
import {
  calculate,
  compareScalars,
  extreme,
  Failure,
  findAllTexts,
  findText,
  isNumber,
  negate,
  type Scalar,
  textLength,
  tooLong,
  toInteger,
  toText,
  typeName,
} from './scalar.js'
import type { Expression } from './tree.js'

/** Where a row's values come from; undefined where it has none. */
export interface RowValues {
  attribute(name: string): Scalar | undefined
  placeholder(name: string): Scalar | undefined
}

export type RowProgram = (row: RowValues) => Scalar | Failure

/**
 * What happens where an operand has no value (a missing attribute, a type error, a division by zero):
 *
 * test    filters and conditions: the smallest comparison, IN or boolean function around it is false
 * update  the whole expression has no value, unless exists, if_not_exists, AND, OR or if_else need not look there
 */
export type FailureRule = 'test' | 'update'

/** The value of a tree. By the rule 'test' comparisons, AND, OR, NOT and boolean functions never give a Failure. */
export function compileRowValue(tree: Expression, rule: FailureRule): RowProgram {
  switch (tree.kind) {
    case 'literal': {
      const { value } = tree
      return () => value
    }
    case 'attribute': {
      const { name } = tree
      const missing = new Failure(`attribute '${name}' is missing`)
      return (row) => row.attribute(name) ?? missing
    }
    case 'placeholder': {
      const { name } = tree
      const missing = new Failure(`the written row has no '${name}'`)
      return (row) => row.placeholder(name) ?? missing
    }
    case 'element': {
      const { array: name } = tree
      const array = compileRowValue({ kind: 'attribute', name }, rule)
      const index = compileRowValue(tree.index, rule)
      return (row) => applied2((value, place) => arrayElement(name, value, place), array(row), index(row))
    }
    case 'range': {
      const { array: name } = tree
      const array = compileRowValue({ kind: 'attribute', name }, rule)
      const start = compileRowValue(tree.start, rule)
      const end = compileRowValue(tree.end, rule)
      return (row) => {
        const first = start(row)
        const last = end(row)
        if (first instanceof Failure) return first
        if (last instanceof Failure) return last
        return applied((value) => arrayRange(name, value, first, last), array(row))
      }
    }
    case 'negate': {
      const operand = compileRowValue(tree.operand, rule)
      return (row) => applied(negate, operand(row))
    }
    case 'sum':
    case 'product':
      return compileChain(tree, rule)
    case 'call':
      return functionRules[tree.function].boolean ? compileRowTest(tree, rule) : compileFunction(tree, rule)
    case 'compare':
    case 'in':
    case 'not':
    case 'and':
    case 'or':
      return compileRowTest(tree, rule)
  }
}

/**
 * Whether a tree holds: what is no boolean counts as false. A Failure only by the rule 'update'. AND and OR look at their
 * operands in order, and no further than they must.
 */
export function compileRowTest(tree: Expression, rule: FailureRule): RowProgram {
  switch (tree.kind) {
    case 'and':
    case 'or': {
      const operands = tree.operands.map((operand) => compileRowTest(operand, rule))
      return rule === 'test' ? decided(operands, tree.kind === 'or') : decidedOrFailed(operands, tree.kind === 'or')
    }
    case 'not': {
      const operand = compileRowTest(tree.operand, rule)
      if (rule === 'test') return (row) => !operand(row)
      return (row) => {
        const value = operand(row)
        return value instanceof Failure ? value : !value
      }
    }
    case 'compare': {
      const { operator } = tree
      const left = compileRowValue(tree.left, rule)
      const right = compileRowValue(tree.right, rule)
      if (rule === 'test') return (row) => compareScalars(operator, left(row), right(row))
      return (row) => applied2((a, b) => compareScalars(operator, a, b), left(row), right(row))
    }
    case 'in':
      return compileMembership(tree, rule)
    case 'call':
      if (tree.function === 'exists') return compileExists(tree.operands[0])
      if (functionRules[tree.function].boolean) return compileBooleanFunction(tree, rule)
      return settled(compileFunction(tree, rule), rule)
    default:
      return settled(compileRowValue(tree, rule), rule)
  }
}

/** AND ends with the first operand that is false, OR with the first that is true. */
function decided(operands: readonly RowProgram[], decisive: boolean): RowProgram {
  return (row) => {
    for (let i = 0; i < operands.length; i++) if (operands[i](row) === decisive) return decisive
    return !decisive
  }
}

function decidedOrFailed(operands: readonly RowProgram[], decisive: boolean): RowProgram {
  return (row) => {
    for (const operand of operands) {
      const value = operand(row)
      if (value === decisive || value instanceof Failure) return value
    }
    return !decisive
  }
}

/** A value as true or false. */
function settled(program: RowProgram, rule: FailureRule): RowProgram {
  if (rule === 'test') return (row) => program(row) === true
  return (row) => {
    const value = program(row)
    return value instanceof Failure ? value : value === true
  }
}

function compileMembership(tree: Expression & { kind: 'in' }, rule: FailureRule): RowProgram {
  const operand = compileRowValue(tree.operand, rule)
  const choices = tree.choices.map((choice) => compileRowValue(choice, rule))
  // The usual case, a list of texts, is one look-up however long the list is. Only where no choice can fail.
  const isLiteral = tree.choices.every(({ kind }) => kind === 'literal')
  const texts = new Set<Scalar>()
  const others: RowProgram[] = []
  tree.choices.forEach((choice, i) => {
    const isText = choice.kind === 'literal' && typeof choice.value === 'string'
    if (isText && (isLiteral || rule === 'test')) texts.add(choice.value)
    else others.push(choices[i])
  })
  return (row) => {
    const value = operand(row)
    if (value instanceof Failure) return rule === 'test' ? false : value
    if (texts.has(value)) return true
    for (const other of others) {
      const choice = other(row)
      if (choice instanceof Failure && rule === 'update') return choice
      if (compareScalars('==', value, choice)) return true
    }
    return false
  }
}

function compileExists(operand: Expression): RowProgram {
  const value = compileRowValue(operand, 'test')
  return (row) => !(value(row) instanceof Failure)
}

function compileBooleanFunction(tree: Expression & { kind: 'call' }, rule: FailureRule): RowProgram {
  const operands = tree.operands.map((operand) => compileRowValue(operand, rule))
  const [first, second] = operands
  switch (tree.function) {
    case 'starts':
      return textTest(first, second, rule, (text, prefix) => text.startsWith(prefix))
    case 'ends':
      return textTest(first, second, rule, (text, suffix) => text.endsWith(suffix))
    case 'contains':
      return textTest(first, second, rule, (text, part) => text.includes(part))
    default:
      return settled((row) => applied((value) => Number.isNaN(value), first(row)), rule)
  }
}

function textTest(
  left: RowProgram,
  right: RowProgram,
  rule: FailureRule,
  test: (text: string, part: string) => boolean,
): RowProgram {
  return (row) => {
    const text = left(row)
    const part = right(row)
    if (typeof text === 'string' && typeof part === 'string') return test(text, part)
    if (rule === 'test') return false
    if (text instanceof Failure) return text
    return part instanceof Failure ? part : false
  }
}

function applied(operation: (value: Scalar) => Scalar | Failure, value: Scalar | Failure): Scalar | Failure {
  return value instanceof Failure ? value : operation(value)
}

function applied2(
  operation: (left: Scalar, right: Scalar) => Scalar | Failure,
  left: Scalar | Failure,
  right: Scalar | Failure,
): Scalar | Failure {
  if (left instanceof Failure) return left
  return right instanceof Failure ? right : operation(left, right)
}

function compileChain(tree: Expression & { kind: 'sum' | 'product' }, rule: FailureRule): RowProgram {
  const first = compileRowValue(tree.first, rule)
  const rest = tree.rest.map(({ operator, operand }) => ({ operator, operand: compileRowValue(operand, rule) }))
  return (row) => {
    let value = first(row)
    for (const { operator, operand } of rest) {
      if (value instanceof Failure) return value
      const right = operand(row)
      if (right instanceof Failure) return right
      value = calculate(operator, value, right)
    }
    return value
  }
}

/** The functions that give values. */
function compileFunction(tree: Expression & { kind: 'call' }, rule: FailureRule): RowProgram {
  if (tree.function === 'if_else') {
    const condition = compileRowTest(tree.operands[0], rule)
    const chosen = compileRowValue(tree.operands[1], rule)
    const other = compileRowValue(tree.operands[2], rule)
    return (row) => {
      const value = condition(row)
      if (value instanceof Failure) return value
      return value ? chosen(row) : other(row)
    }
  }
  if (tree.function === 'regexp_instr' || tree.function === 'regexp_replace') return compileRegexpCall(tree, rule)
  const operands = tree.operands.map((operand) => compileRowValue(operand, rule))
  const [first, second] = operands
  const one = (operation: (value: Scalar) => Scalar | Failure): RowProgram => {
    return (row) => applied(operation, first(row))
  }
  const two = (operation: (left: Scalar, right: Scalar) => Scalar | Failure): RowProgram => {
    return (row) => applied2(operation, first(row), second(row))
  }
  const name = tree.function
  switch (name) {
    case 'if_not_exists':
      return (row) => {
        const value = first(row)
        return value instanceof Failure ? second(row) : value
      }
    case 'length':
      return one(lengthOf)
    case 'min':
    case 'max':
      return operands.length === 1 ? one((value) => foldArray(name, value)) : compileExtreme(name, operands)
    case 'init_array': {
      const value = operands[2] ?? (() => 0n)
      return (row) => {
        const element = value(row)
        if (element instanceof Failure) return element
        return applied2((count, type) => initArray(count, type, element), first(row), second(row))
      }
    }
    case 'blob': {
      // The parser has seen to it that this is a text in base64.
      const operand = tree.operands[0]
      const bytes = Uint8Array.from(Buffer.from(operand.kind === 'literal' ? String(operand.value) : '', 'base64'))
      return () => bytes
    }
    case 'nanaszero':
      return one((value) => (Number.isNaN(value) ? 0 : value))
    case 'pmin':
    case 'pmax':
    case 'psum':
      return two((left, right) => combineArrays(name, left, right))
    case 'sum':
      return one((value) => foldArray('sum', value))
    case 'avg':
      return one(averageOf)
    case 'stddev':
      return one(deviationOf)
    case 'sqrt':
      return one((value) => (isNumber(value) ? Math.sqrt(Number(value)) : new Failure("'sqrt' needs a number")))
    case 'str':
      return one(toText)
    case 'to_int':
      return one(toInteger)
    case 'find':
      return two((text, part) =>
        typeof text === 'string' && typeof part === 'string'
          ? findText(text, part)
          : new Failure("'find' needs two strings"),
      )
    case 'find_all_indices':
      return two(findAll)
    case 'extract_by_indices':
      return two(elementsAt)
    default:
      return one(sortArray)
  }
}

function compileExtreme(which: 'min' | 'max', operands: readonly RowProgram[]): RowProgram {
  return (row) => {
    const values: Scalar[] = []
    for (const operand of operands) {
      const value = operand(row)
      if (value instanceof Failure) return value
      values.push(value)
    }
    return extreme(which, values)
  }
}

function lengthOf(value: Scalar): bigint | Failure {
  if (typeof value === 'string') return textLength(value)
  return arrayLength(value) ?? new Failure(`'length' needs a string or an array, not ${typeName(value)}`)
}

function findAll(value: Scalar, wanted: Scalar): Scalar | Failure {
  if (typeof value === 'string' && typeof wanted === 'string') {
    const places = findAllTexts(value, wanted)
    return places === null ? tooLong : encodeArray(places)
  }
  const array = arrayOf(value)
  if (array === null) return new Failure("'find_all_indices' needs two strings, or an array and a value")
  return indicesOf(array, wanted)
}

function compileRegexpCall(tree: Expression & { kind: 'call' }, rule: FailureRule): RowProgram {
  const name = tree.function
  const operands = tree.operands.map((operand) => compileRowValue(operand, rule))
  const pattern = tree.operands[1]
  // Nearly always a literal: compiled once.
  const known = pattern.kind === 'literal' && typeof pattern.value === 'string' ? compileRegexp(pattern.value) : null
  return (row) => {
    const values: string[] = []
    for (const operand of operands) {
      const value = operand(row)
      if (value instanceof Failure) return value
      if (typeof value !== 'string') return new Failure(`'${name}' needs strings, not ${typeName(value)}`)
      values.push(value)
    }
    const regexp = known ?? compileRegexp(values[1])
    if (regexp instanceof Failure) return regexp
    return name === 'regexp_instr' ? searchRegexp(regexp, values[0]) : replaceMatches(regexp, values[0], values[2])
  }
}
