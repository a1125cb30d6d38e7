// Cuts the text of an expression, or of an SQL query, into tokens. Linear in the text's length.
import { FramesError, shortened } from '../errors.js'

export type TokenKind = 'word' | 'name' | 'string' | 'int' | 'float' | 'time' | 'placeholder' | 'symbol' | 'end'

/**
 * text      word: as written; name: what stands in back-quotes; string: its value, escapes resolved; placeholder: its
 *           name; number and time: digits as written, without a sign; symbol: itself
 * keyword   word: in lower case, to compare with keywords; else ''
 * position  of its first character, from 0, in UTF-16 units
 */
export interface Token {
  readonly kind: TokenKind
  readonly text: string
  readonly keyword: string
  readonly position: number
}

export interface LexerRules {
  /** `{name}` is a token. */
  readonly placeholders: boolean
  /** A quote inside a string is written twice, as in SQL (a backslash works always). */
  readonly doubledQuotes: boolean
  /** Makes the error for a text that cannot be cut, or parsed. */
  fail(detail: string, token: Token): FramesError
}

const pairs: ReadonlySet<string> = new Set(['==', '!=', '<>', '<=', '>=', '..'])
/** What other languages write, and what is written here. */
const symbolsElsewhere: ReadonlyMap<string, string> = new Map([
  ['&&', 'AND'],
  ['||', 'OR'],
  ['&', 'AND'],
  ['|', 'OR'],
  ['!', 'NOT, or != between values'],
])
const singles: ReadonlySet<string> = new Set('=<>+-*/%()[],.;')

/** No keyword is longer: a longer word need not be put in lower case. */
const keywordLengthMax = 32

/** Holds one token, the current one, and moves on when told. */
export class Lexer {
  current: Token
  readonly #text: string
  readonly #rules: LexerRules
  #next = 0

  constructor(text: string, rules: LexerRules) {
    this.#text = text
    this.#rules = rules
    this.current = this.#scan()
  }

  /** Returns the current token and makes the one after it current. */
  advance(): Token {
    const token = this.current
    this.current = this.#scan()
    return token
  }

  isEnd(): boolean {
    return this.current.kind === 'end'
  }

  isSymbol(symbol: string): boolean {
    return this.current.kind === 'symbol' && this.current.text === symbol
  }

  isKeyword(keyword: string): boolean {
    return this.current.keyword === keyword
  }

  /** Takes the symbol if it is the current token. */
  takeSymbol(symbol: string): boolean {
    if (!this.isSymbol(symbol)) return false
    this.advance()
    return true
  }

  takeKeyword(keyword: string): boolean {
    if (!this.isKeyword(keyword)) return false
    this.advance()
    return true
  }

  expectSymbol(symbol: string): void {
    if (!this.takeSymbol(symbol)) throw this.unexpected(`'${symbol}'`)
  }

  /** The error for a current token that is not what is wanted. */
  unexpected(wanted: string): FramesError {
    return this.fail(`expected ${wanted}, found ${this.describe(this.current)}`, this.current)
  }

  fail(detail: string, token: Token): FramesError {
    return this.#rules.fail(detail, token)
  }

  /** A token as it is shown in a message. */
  describe(token: Token): string {
    if (token.kind === 'end') return 'the end'
    if (token.kind === 'string') return 'a string'
    return `'${shortened(token.text)}'`
  }

  #scan(): Token {
    const text = this.#text
    let position = this.#next
    while (isBlank(text.charCodeAt(position))) position++
    this.#next = position
    if (position >= text.length) return token('end', '', position)
    const code = text.charCodeAt(position)
    if (isWordStart(code)) return this.#scanWord(position)
    if (isDigit(code)) return this.#scanNumber(position)
    const character = text[position]
    if (character === "'" || character === '"') return this.#scanString(position, character)
    if (character === '`') return this.#scanEnclosed('name', position, '`', 'the name in back-quotes')
    if (character === '{' && this.#rules.placeholders) {
      return this.#scanEnclosed('placeholder', position, '}', 'the placeholder')
    }
    const pair = text.slice(position, position + 2)
    const symbol = pairs.has(pair) ? pair : character
    if (symbol.length === 1 && !singles.has(symbol)) {
      const whole = String.fromCodePoint(text.codePointAt(position) ?? code)
      const written = symbolsElsewhere.get(pair) ?? symbolsElsewhere.get(whole)
      const error = this.fail(`unexpected character '${whole}'`, token('symbol', whole, position))
      throw written === undefined ? error : new FramesError(error.code, `${error.what}; write ${written}`)
    }
    this.#next = position + symbol.length
    return token('symbol', symbol, position)
  }

  #scanWord(position: number): Token {
    let end = position + 1
    while (isWordPart(this.#text.charCodeAt(end))) end++
    this.#next = end
    const text = this.#text.slice(position, end)
    return { kind: 'word', text, keyword: text.length <= keywordLengthMax ? text.toLowerCase() : text, position }
  }

  /** `5`, `1.5`, `1e21`, `1.5e-05`, and times: `1559668665:0`. A dot counts only before a digit: `a[0..4]`. */
  #scanNumber(position: number): Token {
    const text = this.#text
    let kind: TokenKind = 'int'
    let end = this.#skipDigits(position)
    if (text[end] === ':' && isDigit(text.charCodeAt(end + 1))) {
      kind = 'time'
      end = this.#skipDigits(end + 1)
    } else {
      if (text[end] === '.' && isDigit(text.charCodeAt(end + 1))) {
        kind = 'float'
        end = this.#skipDigits(end + 1)
      }
      if (text[end] === 'e' || text[end] === 'E') {
        const signed = text[end + 1] === '+' || text[end + 1] === '-'
        const digits = signed ? end + 2 : end + 1
        if (isDigit(text.charCodeAt(digits))) {
          kind = 'float'
          end = this.#skipDigits(digits)
        }
      }
    }
    this.#next = end
    // A word may follow at once: `age==40AND w==1.5`.
    return token(kind, text.slice(position, end), position)
  }

  #skipDigits(position: number): number {
    let end = position
    while (isDigit(this.#text.charCodeAt(end))) end++
    return end
  }

  #scanString(position: number, quote: string): Token {
    const text = this.#text
    let value = ''
    let copied = position + 1
    for (let at = copied; at < text.length; at++) {
      const character = text[at]
      if (character === '\\') {
        const next = text[at + 1]
        // Any other backslash is an ordinary character.
        if (next !== "'" && next !== '"' && next !== '\\') continue
        value += text.slice(copied, at)
        copied = ++at
      } else if (character === quote) {
        if (this.#rules.doubledQuotes && text[at + 1] === quote) {
          value += text.slice(copied, at)
          copied = ++at
          continue
        }
        this.#next = at + 1
        return token('string', value + text.slice(copied, at), position)
      }
    }
    throw this.fail('the string has no end', token('string', '', position))
  }

  #scanEnclosed(kind: 'name' | 'placeholder', position: number, closing: string, what: string): Token {
    const end = this.#text.indexOf(closing, position + 1)
    const enclosed = token(kind, this.#text.slice(position + 1, Math.max(end, position + 1)), position)
    if (end < 0) throw this.fail(`${what} has no end`, enclosed)
    if (kind === 'name' && enclosed.text === '') throw this.fail('the name in back-quotes is empty', enclosed)
    this.#next = end + 1
    return enclosed
  }
}

function token(kind: TokenKind, text: string, position: number): Token {
  return { kind, text, keyword: '', position }
}

/** Space, tab, line feed, carriage return. */
function isBlank(code: number): boolean {
  return code === 32 || code === 9 || code === 10 || code === 13
}

function isDigit(code: number): boolean {
  return code >= 48 && code <= 57
}

function isWordStart(code: number): boolean {
  return (code >= 97 && code <= 122) || (code >= 65 && code <= 90) || code === 95
}

function isWordPart(code: number): boolean {
  return isWordStart(code) || isDigit(code)
}
