// A plain SELECT taken apart: table, columns, and the texts of WHERE and GROUP BY in normal form. For programs that turn
// SQL into the fields of a read; the server's own queries are read by sql.ts.
import { FramesError } from '../errors.js'
import { expressionLengthMax } from '../limits.js'
import { Lexer, type Token } from './lexer.js'
import { expectSelect, joinWords, sqlKeywords, sqlRules } from './sql.js'

/** filter and groupBy begin with their keyword, in lower case, one blank between words; '' without the clause. */
export interface SelectParts {
  readonly table: string
  readonly columns: readonly string[]
  readonly filter: string
  readonly groupBy: string
}

/** Takes `SELECT a, b FROM t [WHERE …] [GROUP BY …]` apart. Throws INVALID_ARGUMENT, also for any further clause. */
export function parseSql(text: string): SelectParts {
  if (text.length > expressionLengthMax) throw invalid(`a query is longer than ${expressionLengthMax} characters`)
  const lexer = new Lexer(text, sqlRules)
  expectSelect(lexer)
  const columns = [takeColumn(lexer)]
  while (lexer.takeSymbol(',')) columns.push(takeColumn(lexer))
  if (!lexer.takeKeyword('from')) throw lexer.unexpected("',' or 'FROM'")
  const table = takeTable(lexer)
  const filter = takeClause(lexer, ['where'], ['group'])
  const groupBy = takeClause(lexer, ['group', 'by'], [])
  lexer.takeSymbol(';')
  if (!lexer.isEnd()) throw lexer.unexpected("'WHERE', 'GROUP BY' or the end")
  return { table, columns, filter, groupBy }
}

function takeColumn(lexer: Lexer): string {
  const { current } = lexer
  if (lexer.isSymbol('*')) throw invalid("unknown SELECT column type - '*'")
  if (!isName(current)) {
    if (current.kind === 'word' || current.kind === 'end') throw lexer.unexpected('a column')
    throw invalid(`unknown columns type - ${lexer.describe(current)}`)
  }
  const name = takeName(lexer)
  if (lexer.isSymbol('(')) throw invalid(`unknown columns type - function '${name}'`)
  if (lexer.isKeyword('as') || isName(lexer.current)) throw invalid('SELECT ... AS ... is not supported')
  return name
}

/** A name of which only the part after the last dot counts. */
function takeName(lexer: Lexer): string {
  let name = lexer.advance().text
  while (lexer.takeSymbol('.')) {
    if (!isName(lexer.current)) throw lexer.unexpected("a name after '.'")
    name = lexer.advance().text
  }
  return name
}

function takeTable(lexer: Lexer): string {
  let table = ''
  let count = 0
  do {
    if (lexer.takeSymbol('(')) {
      throw invalid(lexer.isKeyword('select') ? 'not a table in FROM field' : 'not a table select')
    }
    if (lexer.current.kind !== 'string' && !isName(lexer.current)) throw lexer.unexpected('a table')
    const name = lexer.current.kind === 'string' ? lexer.advance().text : takeName(lexer)
    if (count++ === 0) table = name
    if (lexer.takeKeyword('as') || isName(lexer.current)) lexer.advance()
  } while (lexer.takeSymbol(','))
  if (joinWords.includes(lexer.current.keyword)) throw invalid('not a table select')
  if (count > 1) throw invalid(`nan select from only one table (got ${count})`)
  return table
}

const otherClauses: readonly string[] = ['having', 'order', 'limit', 'union']

/** Prints the tokens of a clause, up to the next one; '' when the clause is not there. */
function takeClause(lexer: Lexer, keywords: readonly string[], nextClauses: readonly string[]): string {
  if (!lexer.isKeyword(keywords[0])) return ''
  const words: string[] = []
  for (const keyword of keywords) {
    if (!lexer.takeKeyword(keyword)) throw lexer.unexpected(`'${keyword.toUpperCase()}'`)
    words.push(keyword)
  }
  const body = new ClausePrinter()
  while (!lexer.isEnd() && !lexer.isSymbol(';')) {
    const { keyword } = lexer.current
    if (otherClauses.includes(keyword) || nextClauses.includes(keyword)) break
    body.add(lexer.advance())
  }
  if (body.text === '') throw lexer.unexpected(`something after '${words.join(' ').toUpperCase()}'`)
  if (body.openCount !== 0) throw lexer.unexpected('balanced parentheses')
  return `${words.join(' ')} ${body.text}`
}

class ClausePrinter {
  text = ''
  /** Parentheses that are still open; NaN once one was closed too often. */
  openCount = 0
  #previous: Token | null = null

  add(token: Token): void {
    if (token.text === '(' && token.kind === 'symbol') this.openCount++
    if (token.text === ')' && token.kind === 'symbol')
      this.openCount = this.openCount > 0 ? this.openCount - 1 : Number.NaN
    const needsBlank = this.#previous !== null && !isTight(this.#previous, token)
    this.text += (needsBlank ? ' ' : '') + printToken(token)
    this.#previous = token
  }
}

/** No blank stands before a comma, inside parentheses, around a dot, and before the parenthesis of a call. */
function isTight(left: Token, right: Token): boolean {
  const opens = left.kind === 'symbol' && (left.text === '(' || left.text === '.')
  const closes = right.kind === 'symbol' && (right.text === ')' || right.text === ',' || right.text === '.')
  const calls = right.kind === 'symbol' && right.text === '(' && isName(left)
  return opens || closes || calls
}

function printToken(token: Token): string {
  if (token.kind === 'string') return `'${token.text.replace(/['\\]/g, '\\$&')}'`
  if (token.kind === 'name') return `\`${token.text}\``
  return sqlKeywords.has(token.keyword) ? token.keyword : token.text
}

function isName({ kind, keyword }: Token): boolean {
  return kind === 'name' || (kind === 'word' && !sqlKeywords.has(keyword))
}

function invalid(what: string): FramesError {
  return new FramesError('INVALID_ARGUMENT', what)
}
