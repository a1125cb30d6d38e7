// JSON text → values, with numbers kept as they were written: `5`, `5.0` and 2^53 + 1 are three different things to a
// request, and JSON.parse makes doubles of them all. Objects are Maps, so no key can reach a prototype.
//
// Grammar: RFC 8259. Time is linear in the text; the depth is bounded.

/** A number as its text. */
export class JsonNumber {
  readonly text: string
  constructor(text: string) {
    this.text = text
  }
}

export type Json = null | boolean | string | JsonNumber | Json[] | Map<string, Json>

/** Requests nest four deep; anything near this bound is an attack on the stack. */
const depthMax = 64

export class JsonError extends Error {
  override readonly name = 'JsonError'
}

/** Parses one JSON value. A repeated key: the last one wins. Throws JsonError naming the place. */
export function parseJson(text: string): Json {
  return new Parser(text).parseDocument()
}

const numberPattern = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y
const quote = 0x22
const backslash = 0x5c

class Parser {
  readonly #text: string
  #at = 0

  constructor(text: string) {
    this.#text = text
  }

  parseDocument(): Json {
    const value = this.#parseValue(0)
    this.#skipBlanks()
    if (this.#at < this.#text.length) throw this.#unexpected('after the value')
    return value
  }

  #parseValue(depth: number): Json {
    if (depth > depthMax) throw new JsonError(`the value nests deeper than ${depthMax} levels`)
    this.#skipBlanks()
    switch (this.#text[this.#at]) {
      case '{':
        return this.#parseObject(depth)
      case '[':
        return this.#parseArray(depth)
      case '"':
        return this.#parseString()
      case 't':
        return this.#parseWord('true', true)
      case 'f':
        return this.#parseWord('false', false)
      case 'n':
        return this.#parseWord('null', null)
      default:
        return this.#parseNumber()
    }
  }

  #parseObject(depth: number): Map<string, Json> {
    const object = new Map<string, Json>()
    this.#at++
    if (this.#takes('}')) return object
    for (;;) {
      this.#skipBlanks()
      if (this.#text[this.#at] !== '"') throw this.#unexpected('where a key should be')
      const key = this.#parseString()
      if (!this.#takes(':')) throw this.#unexpected('after an object key')
      object.set(key, this.#parseValue(depth + 1))
      if (this.#takes('}')) return object
      if (!this.#takes(',')) throw this.#unexpected('after an object entry')
    }
  }

  #parseArray(depth: number): Json[] {
    const array: Json[] = []
    this.#at++
    if (this.#takes(']')) return array
    for (;;) {
      array.push(this.#parseValue(depth + 1))
      if (this.#takes(']')) return array
      if (!this.#takes(',')) throw this.#unexpected('after an array element')
    }
  }

  #parseString(): string {
    const start = this.#at
    let end = start + 1
    let isPlain = true
    for (;;) {
      const unit = this.#text.charCodeAt(end)
      if (unit === quote) break
      // NaN at the end of the text is not >= 0x20 either.
      if (!(unit >= 0x20)) throw new JsonError(`the string at ${start} does not end, or holds a control character`)
      if (unit === backslash) {
        isPlain = false
        end++
      }
      end++
    }
    this.#at = end + 1
    if (isPlain) return this.#text.slice(start + 1, end)
    try {
      return JSON.parse(this.#text.slice(start, end + 1))
    } catch {
      throw new JsonError(`the string at ${start} holds an invalid escape`)
    }
  }

  #parseNumber(): JsonNumber {
    numberPattern.lastIndex = this.#at
    const match = numberPattern.exec(this.#text)
    if (match === null) throw this.#unexpected('where a value should be')
    this.#at = numberPattern.lastIndex
    return new JsonNumber(match[0])
  }

  #parseWord<T>(word: string, value: T): T {
    if (!this.#text.startsWith(word, this.#at)) throw this.#unexpected('where a value should be')
    this.#at += word.length
    return value
  }

  #takes(mark: string): boolean {
    this.#skipBlanks()
    if (this.#text[this.#at] !== mark) return false
    this.#at++
    return true
  }

  #skipBlanks(): void {
    for (;;) {
      const unit = this.#text.charCodeAt(this.#at)
      if (unit !== 0x20 && unit !== 0x0a && unit !== 0x0d && unit !== 0x09) return
      this.#at++
    }
  }

  #unexpected(where: string): JsonError {
    if (this.#at >= this.#text.length) return new JsonError(`the text ends ${where}`)
    const character = String.fromCodePoint(this.#text.codePointAt(this.#at) ?? 0)
    return new JsonError(`unexpected ${JSON.stringify(character)} at ${this.#at}, ${where}`)
  }
}
