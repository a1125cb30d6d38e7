// Text of the expression language → tree. The grammar stands above the method that reads it.
import { FramesError } from '../errors.js'
import type { Value } from '../frame/dtype.js'
import { expressionHeightMax, expressionLengthMax, expressionNestingMax } from '../limits.js'
import { parseInt64 } from '../time.js'
import { functionRules, isFunctionName, reservedWords } from './functions.js'
import { Lexer, type LexerRules, type Token } from './lexer.js'
import type { ComparisonOperator, Expression, Term, UpdateAction, UpdateTarget } from './tree.js'

/** What an empty filter or condition means. */
const alwaysTrue: Expression = { kind: 'literal', value: true }

/** Reads a filter. An empty one is alwaysTrue. Throws INVALID_ARGUMENT: `invalid filter expression: … at position n`. */
export function parseFilter(text: string): Expression {
  return parseBoolean(text, 'filter', false)
}

/**
 * Reads a condition. An empty one is alwaysTrue.
 *
 * template  `{name}` is allowed and becomes a placeholder (kv `write`; not `execute update`)
 */
export function parseCondition(text: string, options: { readonly template: boolean }): Expression {
  return parseBoolean(text, 'condition', options.template)
}

/** Reads an update expression: actions, in order; none for an empty text. */
export function parseUpdate(text: string, options: { readonly template: boolean }): readonly UpdateAction[] {
  return new ExpressionParser(openLexer(text, 'update', options.template), updateDialect).parseUpdate()
}

function parseBoolean(text: string, what: 'filter' | 'condition', template: boolean): Expression {
  const lexer = openLexer(text, what, template)
  if (lexer.isEnd()) return alwaysTrue
  const start = lexer.current
  const tree = new ExpressionParser(lexer, filterDialect).parseExpression()
  if (!lexer.isEnd()) throw lexer.unexpected('an operator or the end')
  if (isNeverBoolean(tree)) throw lexer.fail(`a ${what} must be true or false, this is a value`, start)
  return tree
}

function openLexer(text: string, what: 'filter' | 'condition' | 'update', placeholders: boolean): Lexer {
  const prefix = `invalid ${what} expression`
  if (text.length > expressionLengthMax) {
    throw new FramesError('INVALID_ARGUMENT', `${prefix}: it is longer than ${expressionLengthMax} characters`)
  }
  const rules: LexerRules = {
    placeholders,
    doubledQuotes: false,
    fail: (detail, token) =>
      new FramesError('INVALID_ARGUMENT', `${prefix}: ${detail} at position ${token.position + 1}`),
  }
  return new Lexer(text, rules)
}

function isNeverBoolean(tree: Expression): boolean {
  switch (tree.kind) {
    case 'literal':
      return typeof tree.value !== 'boolean'
    case 'negate':
    case 'sum':
    case 'product':
    case 'element':
    case 'range':
      return true
    default:
      return false
  }
}

/** Where the language differs between its uses. */
export interface Dialect {
  /** The signs for "equal": an update's `=` is an assignment, and SQL knows no `==`. */
  readonly equalSigns: readonly string[]
  /** Words that stand for an attribute only in back-quotes, in lower case. */
  readonly reserved: ReadonlySet<string>
  /** `a.b` is b, and EXISTS is a keyword: SQL. */
  readonly sql: boolean
}

const filterDialect: Dialect = { equalSigns: ['==', '='], reserved: reservedWords, sql: false }
const updateDialect: Dialect = { equalSigns: ['=='], reserved: reservedWords, sql: false }

const orderOperators: ReadonlyMap<string, ComparisonOperator> = new Map([
  ['!=', '!='],
  ['<>', '!='],
  ['<', '<'],
  ['<=', '<='],
  ['>', '>'],
  ['>=', '>='],
] as const)

const specialFloats: Readonly<Record<string, number>> = {
  inf: Number.POSITIVE_INFINITY,
  nan: Number.NaN,
  maxdbl: Number.MAX_VALUE,
}

const base64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}(?:==)?|[A-Za-z0-9+/]{3}=?)?$/

/** Recursive descent over the tokens of a lexer; leaves it at the first token that is not part of the expression. */
export class ExpressionParser {
  readonly #lexer: Lexer
  readonly #dialect: Dialect
  /** Expressions being read, one inside the other: bounds this parser's own stack. */
  #nesting = 0
  /** Height of the tree that was read last: bounds the stack of all who walk it. */
  #height = 0

  constructor(lexer: Lexer, dialect: Dialect) {
    this.#lexer = lexer
    this.#dialect = dialect
  }

  // update = { ";" } [ action { ";" { ";" } action } ] { ";" }
  parseUpdate(): readonly UpdateAction[] {
    const lexer = this.#lexer
    const actions: UpdateAction[] = []
    while (true) {
      while (lexer.takeSymbol(';')) {}
      if (lexer.isEnd()) return actions
      actions.push(this.#parseAction())
      if (!lexer.isSymbol(';') && !lexer.isEnd()) throw lexer.unexpected("an operator, ';' or the end")
    }
  }

  // action = [ "SET" ] target "=" expr | "REMOVE" attribute | "DELETE" "(" attribute ")"
  #parseAction(): UpdateAction {
    const lexer = this.#lexer
    if (lexer.takeKeyword('remove')) return { kind: 'remove', attribute: this.#parseAssignable() }
    if (lexer.takeKeyword('delete')) {
      lexer.expectSymbol('(')
      const attribute = this.#parseAssignable()
      lexer.expectSymbol(')')
      return { kind: 'remove', attribute }
    }
    lexer.takeKeyword('set')
    const target = this.#parseTarget()
    lexer.expectSymbol('=')
    return { kind: 'set', target, value: this.parseExpression() }
  }

  // target = attribute [ "[" expr [ ".." expr ] "]" ]
  #parseTarget(): UpdateTarget {
    const attribute = this.#parseAssignable()
    if (!this.#lexer.takeSymbol('[')) return { attribute, start: null, end: null }
    const start = this.parseExpression()
    const end = this.#lexer.takeSymbol('..') ? this.parseExpression() : null
    this.#lexer.expectSymbol(']')
    return { attribute, start, end }
  }

  #parseAssignable(): string {
    const token = this.#lexer.current
    const name = this.#parseAttributeName()
    if (name.startsWith('__')) throw this.#lexer.fail(`cannot assign system attribute '${name}'`, token)
    return name
  }

  // expr = and-expr { "OR" and-expr }
  parseExpression(): Expression {
    if (++this.#nesting > expressionNestingMax) throw this.#tooDeep()
    const tree = this.#parseOr()
    this.#nesting--
    return tree
  }

  #parseOr(): Expression {
    const first = this.#parseAnd()
    if (!this.#lexer.isKeyword('or')) return first
    const operands = [first]
    let height = this.#height
    while (this.#lexer.takeKeyword('or')) {
      operands.push(this.#parseAnd())
      height = Math.max(height, this.#height)
    }
    return this.#built({ kind: 'or', operands }, height)
  }

  // and-expr = not-expr { "AND" not-expr }
  #parseAnd(): Expression {
    const first = this.#parseNot()
    if (!this.#lexer.isKeyword('and')) return first
    const operands = [first]
    let height = this.#height
    while (this.#lexer.takeKeyword('and')) {
      operands.push(this.#parseNot())
      height = Math.max(height, this.#height)
    }
    return this.#built({ kind: 'and', operands }, height)
  }

  // not-expr = "NOT" not-expr | comparison
  #parseNot(): Expression {
    let count = 0
    while (this.#lexer.takeKeyword('not')) count++
    let tree = this.#parseComparison()
    for (; count > 0; count--) tree = this.#built({ kind: 'not', operand: tree }, this.#height)
    return tree
  }

  // comparison = sum [ ( "==" | "!=" | "<" | "<=" | ">" | ">=" ) sum | [ "NOT" ] "IN" "(" expr { "," expr } ")" ]
  #parseComparison(): Expression {
    const lexer = this.#lexer
    const left = this.#parseSum()
    const height = this.#height
    const operator = this.#takeComparisonOperator()
    if (operator !== null) {
      const right = this.#parseSum()
      const tree = this.#built({ kind: 'compare', operator, left, right }, Math.max(height, this.#height))
      const token = lexer.current
      if (this.#takeComparisonOperator() !== null) throw lexer.fail('comparisons do not chain', token)
      return tree
    }
    if (lexer.takeKeyword('in')) return this.#parseChoices(left, height)
    if (!lexer.takeKeyword('not')) return left
    if (!lexer.takeKeyword('in')) throw lexer.unexpected("'IN' after NOT")
    return this.#built({ kind: 'not', operand: this.#parseChoices(left, height) }, this.#height)
  }

  #takeComparisonOperator(): ComparisonOperator | null {
    const { kind, text } = this.#lexer.current
    if (kind !== 'symbol') return null
    const operator = this.#dialect.equalSigns.includes(text) ? '==' : orderOperators.get(text)
    if (operator === undefined) return null
    this.#lexer.advance()
    return operator
  }

  #parseChoices(operand: Expression, operandHeight: number): Expression {
    this.#lexer.expectSymbol('(')
    const { list, height } = this.#parseList()
    return this.#built({ kind: 'in', operand, choices: list }, Math.max(operandHeight, height))
  }

  /** One expression or more, commas between, and the closing parenthesis. */
  #parseList(): { list: Expression[]; height: number } {
    const list: Expression[] = []
    let height = 0
    do {
      list.push(this.parseExpression())
      height = Math.max(height, this.#height)
    } while (this.#lexer.takeSymbol(','))
    if (!this.#lexer.takeSymbol(')')) throw this.#lexer.unexpected("',' or ')'")
    return { list, height }
  }

  // sum = product { ( "+" | "-" ) product }
  #parseSum(): Expression {
    const first = this.#parseProduct()
    const rest: Term<'+' | '-'>[] = []
    let height = this.#height
    while (this.#lexer.isSymbol('+') || this.#lexer.isSymbol('-')) {
      const operator = this.#lexer.advance().text === '+' ? '+' : '-'
      rest.push({ operator, operand: this.#parseProduct() })
      height = Math.max(height, this.#height)
    }
    return rest.length === 0 ? first : this.#built({ kind: 'sum', first, rest }, height)
  }

  // product = unary { ( "*" | "/" | "%" ) unary }
  #parseProduct(): Expression {
    const first = this.#parseUnary()
    const rest: Term<'*' | '/' | '%'>[] = []
    let height = this.#height
    while (true) {
      const { kind, text } = this.#lexer.current
      if (kind !== 'symbol' || (text !== '*' && text !== '/' && text !== '%')) break
      this.#lexer.advance()
      rest.push({ operator: text, operand: this.#parseUnary() })
      height = Math.max(height, this.#height)
    }
    return rest.length === 0 ? first : this.#built({ kind: 'product', first, rest }, height)
  }

  // unary = ( "-" | "+" ) unary | primary
  // The sign right before a number belongs to the number, so that the smallest int64 can be written.
  #parseUnary(): Expression {
    const lexer = this.#lexer
    let minusCount = 0
    let minus = false
    while (lexer.isSymbol('-') || lexer.isSymbol('+')) {
      if (minus) minusCount++
      minus = lexer.advance().text === '-'
    }
    const number = this.#takeNumber(minus)
    if (number === null && minus) minusCount++
    let tree = number === null ? this.#parsePrimary() : this.#built({ kind: 'literal', value: number }, 0)
    for (; minusCount > 0; minusCount--) tree = this.#built({ kind: 'negate', operand: tree }, this.#height)
    return tree
  }

  /** Takes an integer, float, special float or time with its sign; null when the current token is none. */
  #takeNumber(minus: boolean): Value | null {
    const token = this.#lexer.current
    const sign = minus ? '-' : ''
    switch (token.kind) {
      case 'int': {
        const value = parseInt64(sign + token.text)
        if (typeof value === 'string') throw this.#lexer.fail('the integer is out of the range of 64 bits', token)
        this.#lexer.advance()
        return value
      }
      case 'float': {
        const value = Number(sign + token.text)
        if (!Number.isFinite(value)) throw this.#lexer.fail('the number is too large', token)
        this.#lexer.advance()
        return value
      }
      case 'time':
        this.#lexer.advance()
        return this.#timeValue(token, sign)
      case 'word': {
        if (!Object.hasOwn(specialFloats, token.keyword)) return null
        this.#lexer.advance()
        return minus ? -specialFloats[token.keyword] : specialFloats[token.keyword]
      }
      default:
        return null
    }
  }

  // time = seconds ":" nanoseconds; the sign is that of the seconds: -1:500000000 is half a second before 1970.
  #timeValue(token: Token, sign: string): Value {
    const [secondsText, nanosecondsText] = token.text.split(':')
    const seconds = parseInt64(sign + secondsText)
    const nanoseconds = parseInt64(nanosecondsText)
    if (typeof nanoseconds === 'string' || nanoseconds > 999_999_999n) {
      throw this.#lexer.fail('the nanoseconds of a time end at 999999999', token)
    }
    const timeNs = typeof seconds === 'string' ? 2n ** 64n : seconds * 1_000_000_000n + nanoseconds
    if (timeNs !== BigInt.asIntN(64, timeNs)) throw this.#lexer.fail('the time is out of range', token)
    return { timeNs }
  }

  // primary = literal | call | attribute [ "[" expr [ ".." expr ] "]" ] | "(" expr ")"
  #parsePrimary(): Expression {
    const lexer = this.#lexer
    const token = lexer.current
    switch (token.kind) {
      case 'string':
        lexer.advance()
        return this.#built({ kind: 'literal', value: token.text }, 0)
      case 'placeholder':
        lexer.advance()
        return this.#built({ kind: 'placeholder', name: token.text }, 0)
      case 'word':
        if (token.keyword === 'true' || token.keyword === 'false') {
          lexer.advance()
          return this.#built({ kind: 'literal', value: token.keyword === 'true' }, 0)
        }
        return this.#parseWord()
      case 'name':
        return this.#parseAttribute()
      default:
        if (!lexer.takeSymbol('(')) throw lexer.unexpected('a value')
        return this.#parseParenthesized()
    }
  }

  #parseParenthesized(): Expression {
    const tree = this.parseExpression()
    if (!this.#lexer.takeSymbol(')')) throw this.#lexer.unexpected("an operator or ')'")
    return tree
  }

  // call = function "(" [ expr { "," expr } ] ")"; a word without "(" is an attribute.
  #parseWord(): Expression {
    const lexer = this.#lexer
    const word = lexer.current
    if (this.#dialect.reserved.has(word.keyword) && !isFunctionName(word.keyword)) throw lexer.unexpected('a value')
    lexer.advance()
    if (!lexer.takeSymbol('(')) return this.#attributeOrElement(this.#attributeName(word))
    return this.#parseCall(word)
  }

  #parseCall(word: Token): Expression {
    const lexer = this.#lexer
    const name = word.keyword
    if (!isFunctionName(name)) throw lexer.fail(`unknown function '${lexer.describe(word).slice(1, -1)}'`, word)
    if (this.#dialect.sql && name === 'exists') throw lexer.fail('EXISTS is not supported', word)
    const { min, max, attribute } = functionRules[name]
    const first = lexer.current
    const { list, height } = lexer.takeSymbol(')') ? { list: [], height: 0 } : this.#parseList()
    if (list.length < min || list.length > max) {
      throw lexer.fail(`function '${name}' expects ${argumentCounts(min, max)}`, word)
    }
    if (attribute && list[0].kind !== 'attribute') {
      throw lexer.fail(`the first argument of '${name}' must be an attribute`, first)
    }
    if (name === 'blob') this.#checkBlob(list[0], first)
    return this.#built({ kind: 'call', function: name, operands: list }, height)
  }

  #checkBlob(operand: Expression, token: Token): void {
    const isBase64 = operand.kind === 'literal' && typeof operand.value === 'string' && base64.test(operand.value)
    if (!isBase64) throw this.#lexer.fail("the argument of 'blob' must be a string in base64", token)
  }

  #parseAttribute(): Expression {
    return this.#attributeOrElement(this.#attributeName(this.#lexer.advance()))
  }

  #attributeOrElement(name: string): Expression {
    const lexer = this.#lexer
    // Two names of one thing, the metric: after this there is one.
    if (!lexer.takeSymbol('[')) return this.#built({ kind: 'attribute', name: name === '__name__' ? '_name' : name }, 0)
    const index = this.parseExpression()
    let height = this.#height
    let tree: Expression = { kind: 'element', array: name, index }
    if (lexer.takeSymbol('..')) {
      tree = { kind: 'range', array: name, start: index, end: this.parseExpression() }
      height = Math.max(height, this.#height)
    }
    lexer.expectSymbol(']')
    return this.#built(tree, height)
  }

  #parseAttributeName(): string {
    const { kind } = this.#lexer.current
    if (kind !== 'word' && kind !== 'name') throw this.#lexer.unexpected('an attribute')
    return this.#attributeName(this.#lexer.advance())
  }

  /** The attribute that a word or a name in back-quotes stands for; the token was taken already. */
  #attributeName(token: Token): string {
    const lexer = this.#lexer
    if (token.kind === 'word' && this.#dialect.reserved.has(token.keyword)) {
      throw lexer.fail(`'${token.text}' is a reserved word; an attribute of this name stands in back-quotes`, token)
    }
    let name = token.text
    while (this.#dialect.sql && lexer.takeSymbol('.')) {
      const part = lexer.current
      if (part.kind !== 'word' && part.kind !== 'name') throw lexer.unexpected("a name after '.'")
      name = lexer.advance().text
    }
    return name
  }

  #built(tree: Expression, operandHeight: number): Expression {
    this.#height = operandHeight + 1
    if (this.#height > expressionHeightMax) throw this.#tooDeep()
    return tree
  }

  #tooDeep(): FramesError {
    return this.#lexer.fail('the expression is nested too deeply', this.#lexer.current)
  }
}

function argumentCounts(min: number, max: number): string {
  if (min === max) return `${min} argument${min === 1 ? '' : 's'}`
  return max === Number.POSITIVE_INFINITY ? `at least ${min} argument` : `${min} or ${max} arguments`
}
