// The tree of an expression: plain data, so that it can travel to a worker. Texts become trees in parse.ts.
import type { Value } from '../frame/dtype.js'
import type { FunctionName } from './functions.js'

export type ComparisonOperator = '==' | '!=' | '<' | '<=' | '>' | '>='

/**
 * literal      bool, int64 (bigint), float64 (number), string or time
 * attribute    of the stored item or the series; `_name` is a series' metric (`__name__` is read as `_name`)
 * placeholder  `{name}` of a template: the cell of that name in the row that is written, a bound value, never text
 * element      `array[index]`; range: `array[start..end]`, end included
 * sum, product a chain of one precedence, from left to right: first, then each operator with its operand
 * and, or      two operands or more
 *
 * Chains are lists and not nested pairs, so a thousand terms are no thousand levels; the height of a tree is bounded by
 * expressionHeightMax, so plain recursion over it is safe.
 */
export type Expression =
  | { readonly kind: 'literal'; readonly value: Value }
  | { readonly kind: 'attribute'; readonly name: string }
  | { readonly kind: 'placeholder'; readonly name: string }
  | { readonly kind: 'element'; readonly array: string; readonly index: Expression }
  | { readonly kind: 'range'; readonly array: string; readonly start: Expression; readonly end: Expression }
  | { readonly kind: 'call'; readonly function: FunctionName; readonly operands: readonly Expression[] }
  | { readonly kind: 'negate'; readonly operand: Expression }
  | { readonly kind: 'product'; readonly first: Expression; readonly rest: readonly Term<'*' | '/' | '%'>[] }
  | { readonly kind: 'sum'; readonly first: Expression; readonly rest: readonly Term<'+' | '-'>[] }
  | {
      readonly kind: 'compare'
      readonly operator: ComparisonOperator
      readonly left: Expression
      readonly right: Expression
    }
  | { readonly kind: 'in'; readonly operand: Expression; readonly choices: readonly Expression[] }
  | { readonly kind: 'not'; readonly operand: Expression }
  | { readonly kind: 'and' | 'or'; readonly operands: readonly Expression[] }

export interface Term<Operator> {
  readonly operator: Operator
  readonly operand: Expression
}

/** One step of an update; they run in order and each sees what the ones before it did. */
export type UpdateAction =
  | { readonly kind: 'set'; readonly target: UpdateTarget; readonly value: Expression }
  | { readonly kind: 'remove'; readonly attribute: string }

/** An attribute, one of its array's elements (start alone), or a range of them (end included). */
export interface UpdateTarget {
  readonly attribute: string
  readonly start: Expression | null
  readonly end: Expression | null
}

/** The parts of a node, in the order in which they are written. */
export function operandsOf(tree: Expression): readonly Expression[] {
  switch (tree.kind) {
    case 'literal':
    case 'attribute':
    case 'placeholder':
      return []
    case 'element':
      return [tree.index]
    case 'range':
      return [tree.start, tree.end]
    case 'negate':
    case 'not':
      return [tree.operand]
    case 'product':
    case 'sum':
      return [tree.first, ...tree.rest.map((term) => term.operand)]
    case 'compare':
      return [tree.left, tree.right]
    case 'in':
      return [tree.operand, ...tree.choices]
    case 'call':
    case 'and':
    case 'or':
      return tree.operands
  }
}

/** Adds the names of all attributes that a tree refers to: the columns that its evaluation needs. */
export function collectAttributes(tree: Expression, names: Set<string>): void {
  if (tree.kind === 'attribute') names.add(tree.name)
  if (tree.kind === 'element' || tree.kind === 'range') names.add(tree.array)
  for (const operand of operandsOf(tree)) collectAttributes(operand, names)
}

/** Adds the names of all placeholders of a tree: the columns of the written rows that its evaluation needs. */
export function collectPlaceholders(tree: Expression, names: Set<string>): void {
  if (tree.kind === 'placeholder') names.add(tree.name)
  for (const operand of operandsOf(tree)) collectPlaceholders(operand, names)
}

/** All trees of an update: what is assigned, and the indexes of where. */
export function expressionsOf(action: UpdateAction): readonly Expression[] {
  if (action.kind === 'remove') return []
  const { start, end } = action.target
  return [start, end, action.value].filter((tree) => tree !== null)
}
