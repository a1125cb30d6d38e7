// Expressions that were parsed lately, by their text: the conditions and updates of single items come by the ten thousand a
// second, and few of them are new (3 µs saved of each, seen).
import { parseCondition, parseFilter, parseUpdate } from './parse.js'
import { printExpression } from './print.js'
import { parseQuery, type SqlQuery } from './sql.js'
import type { Expression, UpdateAction } from './tree.js'

const entryCountMax = 512
/** Longer texts are parsed each time. */
const textLengthMax = 4096

/** What a text says, for the texts that came lately: the least recently used goes first. What `parse` throws is not kept. */
export class ParseCache<Tree> {
  readonly #trees = new Map<string, Tree>()
  /** What was asked for last, most often again: the text comes anew with each message, and would be hashed each time. */
  #newest: { readonly text: string; readonly tree: Tree } | null = null
  readonly #parse: (text: string) => Tree

  constructor(parse: (text: string) => Tree) {
    this.#parse = parse
  }

  get(text: string): Tree {
    const newest = this.#newest
    if (newest !== null && newest.text === text) return newest.tree
    const known = this.#trees.get(text)
    if (known !== undefined) {
      // Not while there is much room: V8 makes the table of a map anew for every few entries that come and go.
      if (this.#trees.size > entryCountMax / 2) {
        this.#trees.delete(text)
        this.#trees.set(text, known)
      }
      this.#newest = { text, tree: known }
      return known
    }
    const tree = this.#parse(text)
    if (text.length > textLengthMax) return tree
    this.#trees.set(text, tree)
    this.#newest = { text, tree }
    if (this.#trees.size > entryCountMax) {
      const [oldest] = this.#trees.keys()
      if (oldest !== undefined) this.#trees.delete(oldest)
    }
    return tree
  }
}

const filters = new ParseCache(parseFilter)
const conditions = new ParseCache((text) => parseCondition(text, { template: false }))
const conditionTemplates = new ParseCache((text) => parseCondition(text, { template: true }))
const updates = new ParseCache((text) => parseUpdate(text, { template: false }))
const updateTemplates = new ParseCache((text) => parseUpdate(text, { template: true }))

const queries = new ParseCache((text): ParsedQuery => {
  const query = parseQuery(text)
  return { query, whereText: query.where === null ? '' : printExpression(query.where) }
})

export interface ParsedQuery {
  readonly query: SqlQuery
  /** Of WHERE; two with one text are the same. */
  readonly whereText: string
}

/** As parseFilter; the same text gives the same tree. */
export function filterOf(text: string): Expression {
  return filters.get(text)
}

/** As parseCondition; the same text gives the same tree. */
export function conditionOf(text: string, options: { readonly template: boolean }): Expression {
  return (options.template ? conditionTemplates : conditions).get(text)
}

/** As parseUpdate; the same text gives the same actions. */
export function updateOf(text: string, options: { readonly template: boolean }): readonly UpdateAction[] {
  return (options.template ? updateTemplates : updates).get(text)
}

/** As parseQuery; the same text gives the same tree. */
export function queryOf(text: string): ParsedQuery {
  return queries.get(text)
}
