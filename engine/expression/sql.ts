// The SQL of time series queries: text → plain data. WHERE is an expression in SQL's spelling (`=`, no `==`).
//
//   query  = SELECT [DISTINCT] item {"," item} [FROM table] [WHERE expr] [GROUP BY label {"," label}] [HAVING expr]
//            [ORDER BY name [ASC | DESC] {"," …}] [LIMIT count] [";"]
//   item   = "*" | column [[AS] alias] | function "(" argument ")" [[AS] alias]
//   argument       of an aggregator: "*" | column | interpolator "(" … ")"; of an interpolator: column ["," 'duration']
//   table  = name | 'path/with/slashes', with an alias that is dropped
//
// DISTINCT and HAVING are read and have no effect, as upstream.
import { FramesError, shortened } from '../errors.js'
import { expressionLengthMax } from '../limits.js'
import { parseDurationMs, parseInt64 } from '../time.js'
import {
  type AggregateFunction,
  type Interpolator,
  isInterpolator,
  parseAggregator,
  parseInterpolator,
} from './aggregators.js'
import { Lexer, type LexerRules, type Token } from './lexer.js'
import { type Dialect, ExpressionParser } from './parse.js'
import type { Expression } from './tree.js'

/**
 * table    null without FROM
 * where    null without WHERE
 * limit    null without LIMIT
 */
export interface SqlQuery {
  readonly items: readonly SqlItem[]
  readonly table: string | null
  readonly where: Expression | null
  readonly groupBy: readonly string[]
  readonly orderBy: readonly SqlOrder[]
  readonly limit: bigint | null
}

/**
 * One item of SELECT.
 *
 * metric        null for `*`: every metric
 * function      null for the samples themselves
 * acrossSeries  `sum_all` and its like
 * toleranceMs   null where none is given
 * name          of the result's column: the alias, `function(metric)` without `_all`, or the metric; null for `*`
 */
export interface SqlItem {
  readonly metric: string | null
  readonly function: AggregateFunction | null
  readonly acrossSeries: boolean
  readonly interpolator: Interpolator | null
  readonly toleranceMs: number | null
  readonly name: string | null
}

export interface SqlOrder {
  readonly name: string
  readonly descending: boolean
}

/** Reads a query. Throws INVALID_ARGUMENT. */
export function parseQuery(text: string): SqlQuery {
  if (text.length > expressionLengthMax) throw invalid(`a query is longer than ${expressionLengthMax} characters`)
  return new QueryParser(new Lexer(text, sqlRules)).parse()
}

export const sqlRules: LexerRules = {
  placeholders: false,
  doubledQuotes: true,
  fail: (detail, token) => invalid(`syntax error at position ${token.position + 1}: ${detail}`),
}

/** Words that are names only in back-quotes. */
export const sqlKeywords: ReadonlySet<string> = new Set([
  ...['select', 'distinct', 'from', 'where', 'group', 'order', 'by', 'having', 'limit', 'as', 'and', 'or', 'not', 'in'],
  ...['join', 'inner', 'left', 'right', 'cross', 'natural', 'on', 'using', 'union', 'asc', 'desc', 'true', 'false'],
  ...['is', 'like', 'between', 'null', 'exists', 'case', 'when', 'then', 'else', 'end', 'offset'],
])

const sqlDialect: Dialect = { equalSigns: ['='], reserved: sqlKeywords, sql: true }

/** What other statements begin with. */
const otherStatements: ReadonlySet<string> = new Set([
  ...['insert', 'update', 'delete', 'replace', 'create', 'alter', 'drop', 'truncate', 'rename', 'show', 'set', 'use'],
  ...['begin', 'commit', 'rollback', 'start', 'explain', 'describe', 'analyze', 'with', 'call', 'grant', 'revoke'],
])

export const joinWords: readonly string[] = ['join', 'inner', 'left', 'right', 'cross', 'natural']

/** Throws unless the text begins with SELECT, and moves past it. */
export function expectSelect(lexer: Lexer): void {
  if (lexer.takeKeyword('select')) return
  if (otherStatements.has(lexer.current.keyword)) throw invalid('not a SELECT statement')
  throw lexer.unexpected("'SELECT'")
}

class QueryParser {
  readonly #lexer: Lexer

  constructor(lexer: Lexer) {
    this.#lexer = lexer
  }

  parse(): SqlQuery {
    const lexer = this.#lexer
    expectSelect(lexer)
    lexer.takeKeyword('distinct')
    const positions: number[] = []
    const items = this.#parseList(() => {
      positions.push(lexer.current.position)
      return this.#parseItem()
    })
    const table = lexer.takeKeyword('from') ? this.#parseTable() : null
    const where = lexer.takeKeyword('where') ? this.#parseExpression() : null
    const groupBy = this.#takeWords('group', 'by') ? this.#parseList(() => this.#parseName('a label')) : []
    if (lexer.takeKeyword('having')) this.#skipHaving()
    const orderBy = this.#takeWords('order', 'by') ? this.#parseList(() => this.#parseOrder()) : []
    const limit = lexer.takeKeyword('limit') ? this.#parseLimit() : null
    lexer.takeSymbol(';')
    if (!lexer.isEnd()) throw lexer.unexpected('the end of the query')
    checkItems(items, positions)
    return { items, table, where, groupBy, orderBy, limit }
  }

  #parseList<T>(parseOne: () => T): T[] {
    const list = [parseOne()]
    while (this.#lexer.takeSymbol(',')) list.push(parseOne())
    return list
  }

  #takeWords(first: string, second: string): boolean {
    if (!this.#lexer.takeKeyword(first)) return false
    if (!this.#lexer.takeKeyword(second)) throw this.#lexer.unexpected(`'${second.toUpperCase()}'`)
    return true
  }

  #parseExpression(): Expression {
    return new ExpressionParser(this.#lexer, sqlDialect).parseExpression()
  }

  /** HAVING is a condition on functions, which expressions do not know: any text whose parentheses match. */
  #skipHaving(): void {
    const lexer = this.#lexer
    const isAtEnd = () => lexer.isEnd() || lexer.isSymbol(';') || lexer.isKeyword('order') || lexer.isKeyword('limit')
    if (isAtEnd()) throw lexer.unexpected('a condition')
    for (let depth = 0; depth > 0 || !isAtEnd(); lexer.advance()) {
      if (lexer.isSymbol('(')) depth++
      else if (lexer.isSymbol(')')) depth--
      if (depth < 0 || lexer.isEnd()) throw lexer.unexpected(depth < 0 ? 'the end of the condition' : "')'")
    }
  }

  #parseItem(): SqlItem {
    const lexer = this.#lexer
    const start = lexer.current
    if (lexer.takeSymbol('*')) return this.#named({ ...rawItem, metric: null })
    if (!this.#isName()) throw this.#unknownColumn(start)
    const name = this.#parseColumn()
    const item = name !== null && lexer.takeSymbol('(') ? this.#parseCall(name, start) : { ...rawItem, metric: name }
    // An operator behind it makes it a calculation.
    if (lexer.current.kind === 'symbol' && !/^[,;)(]$/.test(lexer.current.text))
      throw this.#unknownColumn(lexer.current)
    return this.#named(item)
  }

  #unknownColumn(token: Token): FramesError {
    const isNone = token.kind === 'symbol' && /^[,;)]$/.test(token.text)
    if (isNone || token.kind === 'end' || token.kind === 'word') return this.#lexer.unexpected('a column')
    return invalid(`unknown columns type - ${this.#lexer.describe(token)}`, token.position)
  }

  /** Reads `function "(" … ")"`, the opening parenthesis taken. */
  #parseCall(name: string, start: Token): SqlItem {
    const lexer = this.#lexer
    if (isInterpolator(name)) return this.#parseInterpolation(name, start)
    const aggregator = atPosition(start, () => parseAggregator(name))
    let item: SqlItem = { ...rawItem, ...aggregator }
    if (lexer.isSymbol(')')) throw wrongArgumentCount(name, lexer.current)
    if (!lexer.takeSymbol('*')) {
      const argumentStart = lexer.current
      const argument = this.#parseColumn()
      if (argument !== null && lexer.takeSymbol('(')) {
        if (!isInterpolator(argument)) throw notInterpolator(argument, argumentStart)
        item = { ...this.#parseInterpolation(argument, argumentStart), ...aggregator }
      } else {
        item = { ...item, metric: argument }
      }
    }
    if (lexer.isSymbol(',')) throw wrongArgumentCount(name, lexer.current)
    lexer.expectSymbol(')')
    return item
  }

  #parseInterpolation(name: string, start: Token): SqlItem {
    const lexer = this.#lexer
    const interpolator = atPosition(start, () => parseInterpolator(name))
    if (lexer.isSymbol(')')) throw wrongArgumentCount(name, lexer.current)
    const { position } = lexer.current
    if (lexer.isSymbol('*')) throw invalid('could not parse expr', position)
    const metric = this.#parseColumn()
    if (metric === null || lexer.isSymbol('(')) throw invalid('could not parse expr', position)
    let toleranceMs: number | null = null
    if (lexer.takeSymbol(',')) {
      if (lexer.current.kind !== 'string') throw lexer.unexpected('a duration in quotes')
      toleranceMs = atPosition(lexer.current, () => parseDurationMs(lexer.current.text))
      lexer.advance()
    }
    if (lexer.isSymbol(',')) throw wrongArgumentCount(name, lexer.current)
    lexer.expectSymbol(')')
    return { ...rawItem, metric, interpolator, toleranceMs }
  }

  /** Reads the alias, if there is one, and gives the item its name. */
  #named(item: SqlItem): SqlItem {
    const { position } = this.#lexer.current
    const alias = this.#parseAlias()
    if (alias !== null && item.metric === null) throw invalid('cannot alias a wildcard', position)
    return { ...item, name: alias ?? defaultName(item) }
  }

  #parseAlias(): string | null {
    const lexer = this.#lexer
    const isExplicit = lexer.takeKeyword('as')
    if (lexer.current.kind === 'string' && lexer.current.text !== '') return lexer.advance().text
    if (!isExplicit && !this.#isName()) return null
    return this.#parseName('an alias')
  }

  #isName(): boolean {
    const { kind, keyword } = this.#lexer.current
    return kind === 'name' || (kind === 'word' && !sqlKeywords.has(keyword))
  }

  /** A name, of which only what follows the last dot counts; null for `table.*`. */
  #parseColumn(): string | null {
    const lexer = this.#lexer
    if (!this.#isName()) throw lexer.unexpected('a column')
    let name = lexer.advance().text
    while (lexer.takeSymbol('.')) {
      if (lexer.takeSymbol('*')) return null
      if (!this.#isName()) throw lexer.unexpected("a name after '.'")
      name = lexer.advance().text
    }
    return name
  }

  #parseName(what: string): string {
    const lexer = this.#lexer
    if (!this.#isName()) throw lexer.unexpected(what)
    const name = this.#parseColumn()
    if (name === null) throw lexer.unexpected(what)
    return name
  }

  #parseTable(): string {
    const lexer = this.#lexer
    let count = 0
    let table = ''
    /** Where the second table stands. */
    let { position } = lexer.current
    do {
      if (lexer.isSymbol('(')) throw invalid('not a table in FROM field', lexer.current.position)
      if (count === 1) ({ position } = lexer.current)
      const name = lexer.current.kind === 'string' ? lexer.advance().text : this.#parseName('a table')
      if (count === 0) table = name
      count++
      if (lexer.takeKeyword('as') || this.#isName()) this.#parseName('an alias')
    } while (lexer.takeSymbol(','))
    if (joinWords.includes(lexer.current.keyword)) {
      if (count === 1) ({ position } = lexer.current)
      count++
    }
    if (count > 1) throw invalid(`select from multiple tables is not supported (got ${count})`, position)
    return table
  }

  #parseOrder(): SqlOrder {
    const name = this.#parseName('a column')
    const descending = this.#lexer.takeKeyword('desc')
    if (!descending) this.#lexer.takeKeyword('asc')
    return { name, descending }
  }

  #parseLimit(): bigint {
    const { kind, text } = this.#lexer.current
    const limit = kind === 'int' ? parseInt64(text) : 'not an integer'
    if (typeof limit === 'string') throw this.#lexer.unexpected('a number of rows')
    this.#lexer.advance()
    return limit
  }
}

const rawItem: SqlItem = {
  metric: null,
  function: null,
  acrossSeries: false,
  interpolator: null,
  toleranceMs: null,
  name: null,
}

function defaultName({ metric, function: aggregate }: SqlItem): string | null {
  if (metric === null) return null
  return aggregate === null ? metric : `${aggregate}(${metric})`
}

/** What no single item can say: names twice, a function twice on a metric, two ways to interpolate a metric. */
function checkItems(items: readonly SqlItem[], positions: readonly number[]): void {
  const names = new Set<string>()
  const functions = new Set<string>()
  const interpolators = new Map<string, Interpolator>()
  const tolerances = new Map<string, number>()
  items.forEach(({ metric, name, function: aggregate, acrossSeries, interpolator, toleranceMs }, i) => {
    const position = positions[i]!
    const shownName = name ?? (aggregate === null ? '*' : `${aggregate}(*)`)
    const shownMetric = metric ?? '*'
    const shownFunction = aggregate === null ? '' : `function '${aggregate}${acrossSeries ? '_all' : ''}' for `
    const requested = `${shownFunction}metric '${shownMetric}'`
    const otherInterpolator = interpolators.get(shownMetric) ?? interpolator
    if (interpolator !== null && otherInterpolator !== interpolator) {
      throw invalid(
        `multiple interpolation for the same metric are not supported, got ${otherInterpolator} and ${interpolator}`,
        position,
      )
    }
    if (interpolator !== null) interpolators.set(shownMetric, interpolator)
    const otherTolerance = tolerances.get(shownMetric) ?? toleranceMs
    if (toleranceMs !== null && otherTolerance !== toleranceMs) {
      throw invalid(
        'different interpolation tolerances for the same metric are not supported, ' +
          `got ${otherTolerance} and ${toleranceMs}`,
        position,
      )
    }
    if (toleranceMs !== null) tolerances.set(shownMetric, toleranceMs)
    // After the interpolations: two columns of one metric that differ in them were not asked for twice.
    const twice: string[] = []
    if (names.has(shownName)) twice.push(`column name '${shortened(shownName)}' appears more than once in select query`)
    if (functions.has(requested)) twice.push(`${shortened(requested)} was requested multiple time`)
    if (twice.length > 0) throw invalid(twice.join(': '), position)
    names.add(shownName)
    functions.add(requested)
  })
}

/** `max(avg(cpu))` nests two aggregators; any other name is no interpolator. */
function notInterpolator(name: string, { position }: Token): FramesError {
  try {
    parseAggregator(name)
  } catch {
    return invalid(`unknown/unsupported interpulation function ${shortened(name)}`, position)
  }
  return invalid('could not parse expr', position)
}

function wrongArgumentCount(name: string, { position }: Token): FramesError {
  return invalid(`unssoported number of parameters for function ${shortened(name)}`, position)
}

/** What is wrong with a name or a text is told with where it stands. */
function atPosition<T>({ position }: Token, read: () => T): T {
  try {
    return read()
  } catch (error) {
    throw error instanceof FramesError ? invalid(error.what, position) : error
  }
}

function invalid(what: string, position?: number): FramesError {
  return new FramesError('INVALID_ARGUMENT', position === undefined ? what : `${what} at position ${position + 1}`)
}
