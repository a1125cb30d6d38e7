// Tree → text of the expression language: for messages and plans, and to compare trees. parse(print(tree)) is the tree.
import type { Value } from '../frame/dtype.js'
import { reservedWords } from './functions.js'
import type { Expression, UpdateAction } from './tree.js'

/** How tightly each kind binds; an operand that binds no tighter than its parent stands in parentheses. */
const binding: Readonly<Record<Expression['kind'], number>> = {
  or: 1,
  and: 2,
  not: 3,
  compare: 4,
  in: 4,
  sum: 5,
  product: 6,
  negate: 7,
  call: 8,
  element: 8,
  range: 8,
  literal: 8,
  attribute: 8,
  placeholder: 8,
}

export function printExpression(tree: Expression): string {
  switch (tree.kind) {
    case 'literal':
      return printLiteral(tree.value)
    case 'attribute':
      return printName(tree.name)
    case 'placeholder':
      return `{${tree.name}}`
    case 'element':
      return `${printName(tree.array)}[${printExpression(tree.index)}]`
    case 'range':
      return `${printName(tree.array)}[${printExpression(tree.start)} .. ${printExpression(tree.end)}]`
    case 'call':
      return `${tree.function}(${tree.operands.map(printExpression).join(', ')})`
    case 'negate':
      return printNegation(tree.operand)
    case 'product':
    case 'sum':
      return [
        printOperand(tree.first, binding[tree.kind] + 1),
        ...tree.rest.map(({ operator, operand }) => `${operator} ${printOperand(operand, binding[tree.kind] + 1)}`),
      ].join(' ')
    case 'compare':
      return `${printOperand(tree.left, 5)} ${tree.operator} ${printOperand(tree.right, 5)}`
    case 'in':
      return `${printOperand(tree.operand, 5)} IN (${tree.choices.map(printExpression).join(', ')})`
    case 'not':
      return `NOT ${printOperand(tree.operand, 3)}`
    case 'and':
    case 'or':
      return tree.operands
        .map((operand) => printOperand(operand, binding[tree.kind] + 1))
        .join(` ${tree.kind.toUpperCase()} `)
  }
}

export function printUpdate(actions: readonly UpdateAction[]): string {
  return actions.map(printAction).join('; ')
}

function printAction(action: UpdateAction): string {
  if (action.kind === 'remove') return `REMOVE ${printName(action.attribute)}`
  const { attribute, start, end } = action.target
  const range = end === null ? '' : ` .. ${printExpression(end)}`
  const part = start === null ? '' : `[${printExpression(start)}${range}]`
  return `${printName(attribute)}${part} = ${printExpression(action.value)}`
}

function printOperand(tree: Expression, bindingMin: number): string {
  const text = printExpression(tree)
  return binding[tree.kind] < bindingMin ? `(${text})` : text
}

/** A minus before a number would be read as the number's sign. */
function printNegation(operand: Expression): string {
  const text = printOperand(operand, binding.negate)
  const isNumber = operand.kind === 'literal' && typeof operand.value !== 'string' && typeof operand.value !== 'boolean'
  return isNumber && !text.startsWith('-') ? `-(${text})` : `-${text}`
}

function printLiteral(value: Value): string {
  switch (typeof value) {
    case 'string':
      return `'${value.replace(/['\\]/g, '\\$&')}'`
    case 'number':
      return printFloat(value)
    case 'object':
      return printTime(value.timeNs)
    default:
      return String(value)
  }
}

function printFloat(value: number): string {
  if (Number.isNaN(value)) return 'nan'
  if (!Number.isFinite(value)) return value > 0 ? 'inf' : '-inf'
  const text = Object.is(value, -0) ? '-0' : String(value)
  return /[.e]/.test(text) ? text : `${text}.0`
}

function printTime(timeNs: bigint): string {
  const nanoseconds = ((timeNs % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n
  return `${(timeNs - nanoseconds) / 1_000_000_000n}:${nanoseconds}`
}

function printName(name: string): string {
  const isPlain = /^[A-Za-z_][A-Za-z0-9_]*$/.test(name) && !reservedWords.has(name.toLowerCase())
  return isPlain ? name : `\`${name}\``
}
