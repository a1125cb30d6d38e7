// Whether a filter can hold for any row of a page, block or folder, judged by what is known without reading it.
import type { ColumnSummary, PageSummary } from '../frame/column-summary.js'
import type { Value } from '../frame/dtype.js'
import { parseInt64 } from '../time.js'
import { compareScalars } from './scalar.js'
import type { ComparisonOperator, Expression } from './tree.js'

/** What a filter may say of some row. */
interface Outcome {
  readonly canHold: boolean
  readonly canFail: boolean
}

const always: Outcome = { canHold: true, canFail: false }
const never: Outcome = { canHold: false, canFail: true }
const unknown: Outcome = { canHold: true, canFail: true }

/** What is known of attributes. */
interface Knowledge {
  exists(name: string): Outcome
  /** The attribute is the boolean true. */
  isTrue(name: string): Outcome
  compare(name: string, operator: ComparisonOperator, constant: Value): Outcome
  starts(name: string, prefix: string): Outcome
}

/** Longer lists are not looked through for every page. */
const choiceCountMax = 256

/**
 * Whether a filter holds for no row of a page or block.
 *
 * statistics  what is known of an attribute there; null: nothing
 */
export function canSkip(tree: Expression, statistics: (attribute: string) => PageSummary | null): boolean {
  return !outcomeOf(tree, new SummaryKnowledge(statistics)).canHold
}

/**
 * Whether a filter may hold for some item of a partition folder `a=1/b=x`, whose items have these values: of any type
 * whose text this is, or none where it is `null`. `%2F` and `%25` stand for `/` and `%`.
 */
export function canFolderMatch(tree: Expression, folder: string): boolean {
  return outcomeOf(tree, new FolderKnowledge(folder)).canHold
}

function outcomeOf(tree: Expression, knowledge: Knowledge): Outcome {
  switch (tree.kind) {
    case 'literal':
      return tree.value === true ? always : never
    case 'and': {
      const outcomes = tree.operands.map((operand) => outcomeOf(operand, knowledge))
      return {
        canHold: outcomes.every(({ canHold }) => canHold),
        canFail: outcomes.some(({ canFail }) => canFail),
      }
    }
    case 'or':
      return anyOf(tree.operands.map((operand) => outcomeOf(operand, knowledge)))
    case 'not': {
      const { canHold, canFail } = outcomeOf(tree.operand, knowledge)
      return { canHold: canFail, canFail: canHold }
    }
    case 'compare':
      return comparisonOutcome(tree, knowledge)
    case 'in':
      return membershipOutcome(tree, knowledge)
    case 'attribute':
      return knowledge.isTrue(tree.name)
    case 'call': {
      const [first, second] = tree.operands
      if (first?.kind !== 'attribute') return unknown
      if (tree.function === 'exists') return knowledge.exists(first.name)
      const isText = second?.kind === 'literal' && typeof second.value === 'string'
      return tree.function === 'starts' && isText ? knowledge.starts(first.name, String(second.value)) : unknown
    }
    default:
      return unknown
  }
}

/** Of alternatives, each for all rows. */
function anyOf(outcomes: readonly Outcome[]): Outcome {
  return {
    canHold: outcomes.some(({ canHold }) => canHold),
    canFail: outcomes.every(({ canFail }) => canFail),
  }
}

const mirrored: Readonly<Record<ComparisonOperator, ComparisonOperator>> = {
  '==': '==',
  '!=': '!=',
  '<': '>',
  '<=': '>=',
  '>': '<',
  '>=': '<=',
}

function comparisonOutcome({ operator, left, right }: Expression & { kind: 'compare' }, knowledge: Knowledge): Outcome {
  if (left.kind === 'literal' && right.kind === 'literal') {
    return compareScalars(operator, left.value, right.value) ? always : never
  }
  if (left.kind === 'attribute' && right.kind === 'literal') return knowledge.compare(left.name, operator, right.value)
  if (left.kind === 'literal' && right.kind === 'attribute') {
    return knowledge.compare(right.name, mirrored[operator], left.value)
  }
  return unknown
}

function membershipOutcome({ operand, choices }: Expression & { kind: 'in' }, knowledge: Knowledge): Outcome {
  if (operand.kind !== 'attribute' || choices.length > choiceCountMax) return unknown
  return anyOf(
    choices.map((choice) =>
      choice.kind === 'literal' ? knowledge.compare(operand.name, '==', choice.value) : unknown,
    ),
  )
}

class SummaryKnowledge implements Knowledge {
  readonly #statistics: (attribute: string) => PageSummary | null

  constructor(statistics: (attribute: string) => PageSummary | null) {
    this.#statistics = statistics
  }

  exists(name: string): Outcome {
    return this.#each(name, () => always)
  }

  isTrue(name: string): Outcome {
    return this.#each(name, (column) => (column.dtype === 'bool' ? compareRange('==', column, true) : never))
  }

  compare(name: string, operator: ComparisonOperator, constant: Value): Outcome {
    return this.#each(name, (column) => compareRange(operator, column, constant))
  }

  starts(name: string, prefix: string): Outcome {
    return this.#each(name, (column) => {
      if (column.dtype !== 'string') return never
      if (prefix === '') return always
      const { min, max } = column
      if (typeof min !== 'string' || typeof max !== 'string') return unknown
      // All texts with the prefix stand together, from the prefix itself on.
      const isBelow = compareScalars('<', max, prefix)
      const isAbove = compareScalars('>', min, prefix) && !min.startsWith(prefix)
      return isBelow || isAbove ? never : unknown
    })
  }

  /** What holds for some cell can hold; what fails for some cell, or where one is missing, can fail. */
  #each(name: string, test: (column: ColumnSummary) => Outcome): Outcome {
    const summary = this.#statistics(name)
    if (summary === null) return unknown
    let presentCount = 0
    let canHold = false
    let canFail = false
    for (const column of summary.columns) {
      if (column.presentCount === 0) continue
      presentCount += column.presentCount
      const outcome = test(column)
      canHold ||= outcome.canHold
      canFail ||= outcome.canFail
    }
    return { canHold, canFail: canFail || presentCount < summary.rowCount }
  }
}

function compareRange(operator: ComparisonOperator, { dtype, min, max }: ColumnSummary, constant: Value): Outcome {
  if (!areComparable(dtype, constant)) return never
  if (min === null || max === null || Number.isNaN(min) || Number.isNaN(max)) return unknown
  if (Number.isNaN(constant)) return operator === '!=' ? always : never
  const holds = (sign: ComparisonOperator, value: Value): boolean => compareScalars(sign, value, constant)
  const isIn = holds('<=', min) && holds('>=', max)
  const isAll = holds('==', min) && holds('==', max)
  switch (operator) {
    case '==':
      return { canHold: isIn, canFail: !isAll }
    case '!=':
      return { canHold: !isAll, canFail: isIn }
    case '<':
    case '<=':
      return { canHold: holds(operator, min), canFail: !holds(operator, max) }
    case '>':
    case '>=':
      return { canHold: holds(operator, max), canFail: !holds(operator, min) }
  }
}

function areComparable(dtype: ColumnSummary['dtype'], constant: Value): boolean {
  switch (dtype) {
    case 'string':
      return typeof constant === 'string'
    case 'time':
      return typeof constant === 'object'
    case 'int64':
    case 'float64':
    case 'bool':
      return typeof constant !== 'string' && typeof constant !== 'object'
    default:
      return false
  }
}

class FolderKnowledge implements Knowledge {
  /** For each attribute of the path what its items may hold; undefined: nothing. */
  readonly #values = new Map<string, readonly (Value | undefined)[]>()

  constructor(folder: string) {
    for (const segment of folder.split('/')) {
      const sign = segment.indexOf('=')
      if (sign <= 0) continue
      const text = segment.slice(sign + 1).replace(/%2F|%25/g, (code) => (code === '%25' ? '%' : '/'))
      this.#values.set(segment.slice(0, sign), valuesWithText(text))
    }
  }

  exists(name: string): Outcome {
    return this.#each(name, () => true)
  }

  isTrue(name: string): Outcome {
    return this.#each(name, (value) => value === true)
  }

  compare(name: string, operator: ComparisonOperator, constant: Value): Outcome {
    return this.#each(name, (value) => compareScalars(operator, value, constant))
  }

  starts(name: string, prefix: string): Outcome {
    return this.#each(name, (value) => typeof value === 'string' && value.startsWith(prefix))
  }

  #each(name: string, test: (value: Value) => boolean): Outcome {
    const values = this.#values.get(name)
    if (values === undefined) return unknown
    const results = values.map((value) => value !== undefined && test(value))
    return { canHold: results.includes(true), canFail: results.includes(false) }
  }
}

/** The values of all types that a partition folder writes like this. */
function valuesWithText(text: string): readonly (Value | undefined)[] {
  const values: (Value | undefined)[] = [text]
  if (text === 'null') values.push(undefined)
  if (text === 'true' || text === 'false') values.push(text === 'true')
  const integer = parseInt64(text)
  if (typeof integer === 'bigint') values.push(integer)
  const special = { NaN: Number.NaN, '+Inf': Number.POSITIVE_INFINITY, '-Inf': Number.NEGATIVE_INFINITY }[text]
  if (special !== undefined) values.push(special)
  else if (/^[+-]?[0-9.]+([eE][+-]?[0-9]+)?$/.test(text) && !Number.isNaN(Number(text))) values.push(Number(text))
  const time = /^(-?[0-9]+):([0-9]{1,9})$/.exec(text)
  if (time !== null) values.push({ timeNs: BigInt(time[1]) * 1_000_000_000n + BigInt(time[2]) })
  return values
}
