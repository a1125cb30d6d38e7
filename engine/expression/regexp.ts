// Regular expressions whose search takes time in proportion to text times pattern, whatever they are: all ways to match are
// followed side by side (Ken Thompson, "Regular Expression Search Algorithm", 1968; with priorities as in Rob Pike's sam,
// Russ Cox, "Regular Expression Matching: the Virtual Machine Approach", 2009). So there are no back references and no
// look-around.
//
//   abc  .  [a-z0-9_]  [^,]  \d \D \w \W \s \S  \t \n \r  \. (any sign)  ^  $  (…)  (?:…)  a|b  * + ? {2} {2,} {2,5}  *? +? ??
//
// By code point and case-sensitive; `.` is all but a line feed; ^ and $ are the ends of the text; of several matches the
// leftmost counts, and of those at one place the one that a backtracking search would find first.
import { expressionValueByteLengthMax, regexpInstructionCountMax, regexpStepCountMax } from '../limits.js'
import { Failure, textLength, tooLong } from './scalar.js'

/** Pairs of first and last code point. */
type CodePointSet = readonly (readonly [first: number, last: number])[]

type Node =
  | { readonly kind: 'one'; readonly set: CodePointSet }
  | { readonly kind: 'edge'; readonly edge: 'start' | 'end' }
  | { readonly kind: 'all' | 'any'; readonly parts: readonly Node[] }
  | { readonly kind: 'repeat'; readonly part: Node; readonly min: number; readonly max: number; readonly lazy: boolean }

/** 'one' takes a code point of the set and goes on behind itself; 'fork' goes to both, the first of them first. */
type Instruction =
  | { readonly kind: 'one'; readonly set: CodePointSet }
  | { readonly kind: 'edge'; readonly edge: 'start' | 'end' }
  | { readonly kind: 'fork'; first: number; second: number }
  | { readonly kind: 'jump'; target: number }
  | { readonly kind: 'match' }

export type Regexp = readonly Instruction[]

const codePointMax = 0x10ffff
const nestingMax = 50
const repeatCountMax = 1000

const digit: CodePointSet = [[48, 57]]
const word: CodePointSet = [
  [48, 57],
  [65, 90],
  [95, 95],
  [97, 122],
]
const space: CodePointSet = [
  [9, 13],
  [32, 32],
  [160, 160],
  [0x2028, 0x2029],
  [0xfeff, 0xfeff],
]
const escapedSets: Readonly<Record<string, CodePointSet>> = {
  d: digit,
  D: rest(digit),
  w: word,
  W: rest(word),
  s: space,
  S: rest(space),
  t: [[9, 9]],
  n: [[10, 10]],
  r: [[13, 13]],
}
const anyButLineFeed: CodePointSet = rest([[10, 10]])

/** All code points that are not in the set. */
function rest(set: CodePointSet): CodePointSet {
  const ranges: [number, number][] = []
  let next = 0
  for (const [first, last] of [...set].sort((a, b) => a[0] - b[0])) {
    if (first > next) ranges.push([next, first - 1])
    next = Math.max(next, last + 1)
  }
  if (next <= codePointMax) ranges.push([next, codePointMax])
  return ranges
}

/** Why a text is no regular expression that we take; becomes a Failure. */
class PatternError extends Error {}

export function compileRegexp(pattern: string): Regexp | Failure {
  try {
    return new Emitter().emitAll(new PatternParser(pattern).parse())
  } catch (error) {
    if (error instanceof PatternError) return new Failure(`the regular expression ${error.message}`)
    throw error
  }
}

class PatternParser {
  readonly #characters: readonly string[]
  #at = 0
  #nesting = 0

  constructor(pattern: string) {
    // Every character becomes an instruction at least.
    if (pattern.length > 4 * regexpInstructionCountMax) throw new PatternError('is too long')
    this.#characters = [...pattern]
  }

  parse(): Node {
    const node = this.#parseAny()
    if (this.#at < this.#characters.length) throw new PatternError("has a ')' without a '('")
    return node
  }

  #peek(): string | undefined {
    return this.#characters[this.#at]
  }

  #take(character: string): boolean {
    if (this.#peek() !== character) return false
    this.#at++
    return true
  }

  #parseAny(): Node {
    if (++this.#nesting > nestingMax) throw new PatternError('is nested too deeply')
    const parts = [this.#parseAll()]
    while (this.#take('|')) parts.push(this.#parseAll())
    this.#nesting--
    return parts.length === 1 ? parts[0] : { kind: 'any', parts }
  }

  #parseAll(): Node {
    const parts: Node[] = []
    for (let next = this.#peek(); next !== undefined && next !== '|' && next !== ')'; next = this.#peek()) {
      parts.push(this.#parseRepeat())
    }
    return { kind: 'all', parts }
  }

  #parseRepeat(): Node {
    let part = this.#parseOne()
    for (let times = this.#takeTimes(); times !== null; times = this.#takeTimes()) {
      part = { kind: 'repeat', part, ...times, lazy: this.#take('?') }
    }
    return part
  }

  #takeTimes(): { min: number; max: number } | null {
    if (this.#take('*')) return { min: 0, max: Number.POSITIVE_INFINITY }
    if (this.#take('+')) return { min: 1, max: Number.POSITIVE_INFINITY }
    if (this.#take('?')) return { min: 0, max: 1 }
    if (!this.#take('{')) return null
    const min = this.#parseCount()
    let max = min
    if (this.#take(',')) max = this.#peek() === '}' ? Number.POSITIVE_INFINITY : this.#parseCount()
    if (!this.#take('}') || max < min) throw new PatternError("has a '{' that is no number of times")
    return { min, max }
  }

  #parseCount(): number {
    let digits = ''
    for (let next = this.#peek(); next !== undefined && next >= '0' && next <= '9'; next = this.#peek()) {
      digits += next
      this.#at++
    }
    if (digits === '' || Number(digits) > repeatCountMax) {
      throw new PatternError(`has a '{' without a number up to ${repeatCountMax}`)
    }
    return Number(digits)
  }

  #parseOne(): Node {
    const character = this.#characters[this.#at++]
    switch (character) {
      case '(':
        return this.#parseGroup()
      case '[':
        return { kind: 'one', set: this.#parseSet() }
      case '.':
        return { kind: 'one', set: anyButLineFeed }
      case '^':
        return { kind: 'edge', edge: 'start' }
      case '$':
        return { kind: 'edge', edge: 'end' }
      case '\\':
        return { kind: 'one', set: this.#parseEscape() }
      case '*':
      case '+':
      case '?':
      case '{':
        throw new PatternError(`has a '${character}' with nothing before it`)
      default:
        return { kind: 'one', set: single(character) }
    }
  }

  #parseGroup(): Node {
    if (this.#take('?') && !this.#take(':')) throw new PatternError("has a '(?' that is not supported")
    const node = this.#parseAny()
    if (!this.#take(')')) throw new PatternError("has a '(' without a ')'")
    return node
  }

  #parseEscape(): CodePointSet {
    const character = this.#characters[this.#at++]
    if (character === undefined) throw new PatternError("ends in '\\'")
    if (Object.hasOwn(escapedSets, character)) return escapedSets[character]
    if (/[A-Za-z0-9]/.test(character)) throw new PatternError(`has a '\\${character}' that is not supported`)
    return single(character)
  }

  // "[" [ "^" ] { character [ "-" character ] } "]"; a "]" right behind the bracket stands for itself.
  #parseSet(): CodePointSet {
    const isRest = this.#take('^')
    const ranges: (readonly [number, number])[] = []
    for (let isFirst = true; isFirst || this.#peek() !== ']'; isFirst = false) {
      const set = this.#parseSetItem()
      const next = this.#characters[this.#at + 1]
      if (this.#peek() === '-' && next !== ']' && next !== undefined) {
        this.#at++
        const end = this.#parseSetItem()
        const [first, last] = [set[0][0], end[0][0]]
        const isSingle = set.length === 1 && end.length === 1 && set[0][1] === first && end[0][1] === last
        if (!isSingle || last < first) throw new PatternError("has a '-' that is no range")
        ranges.push([first, last])
      } else {
        ranges.push(...set)
      }
    }
    this.#at++
    return isRest ? rest(ranges) : ranges
  }

  #parseSetItem(): CodePointSet {
    const character = this.#characters[this.#at++]
    if (character === undefined) throw new PatternError("has a '[' without a ']'")
    return character === '\\' ? this.#parseEscape() : single(character)
  }
}

function single(character: string): CodePointSet {
  const codePoint = character.codePointAt(0) ?? 0
  return [[codePoint, codePoint]]
}

class Emitter {
  readonly #program: Instruction[] = []
  #nodeCount = 0

  emitAll(node: Node): Regexp {
    this.#emit(node)
    this.#push({ kind: 'match' })
    return this.#program
  }

  #push<T extends Instruction>(instruction: T): T {
    if (this.#program.length >= regexpInstructionCountMax) throw new PatternError('is too long')
    this.#program.push(instruction)
    return instruction
  }

  #emit(node: Node): void {
    // Repetitions of nothing make no instructions, but take their time.
    if (++this.#nodeCount > 10 * regexpInstructionCountMax) throw new PatternError('is too long')
    const program = this.#program
    switch (node.kind) {
      case 'one':
      case 'edge':
        this.#push(node)
        return
      case 'all':
        for (const part of node.parts) this.#emit(part)
        return
      case 'any': {
        const jumps: { target: number }[] = []
        node.parts.forEach((part, i) => {
          if (i === node.parts.length - 1) {
            this.#emit(part)
            return
          }
          const fork = this.#push({ kind: 'fork', first: program.length + 1, second: 0 })
          this.#emit(part)
          jumps.push(this.#push({ kind: 'jump', target: 0 }))
          fork.second = program.length
        })
        for (const jump of jumps) jump.target = program.length
        return
      }
      case 'repeat':
        for (let i = 0; i < node.min; i++) this.#emit(node.part)
        if (node.max === Number.POSITIVE_INFINITY) {
          const start = program.length
          const fork = this.#push({ kind: 'fork', first: 0, second: 0 })
          this.#emit(node.part)
          this.#push({ kind: 'jump', target: start })
          point(fork, start + 1, program.length, node.lazy)
          return
        }
        for (let i = node.min; i < node.max; i++) {
          const fork = this.#push({ kind: 'fork', first: 0, second: 0 })
          const start = program.length
          this.#emit(node.part)
          point(fork, start, program.length, node.lazy)
        }
        return
    }
  }
}

/** A fork into the part and past it: greedy ones try the part first. */
function point(fork: { first: number; second: number }, part: number, past: number, lazy: boolean): void {
  fork.first = lazy ? past : part
  fork.second = lazy ? part : past
}

interface Match {
  readonly start: number
  readonly end: number
}

/** Searches of one text with one program; counts their steps together. */
class Search {
  readonly #program: Regexp
  readonly #text: string
  /** For each instruction, the last position (+ 1) at which a thread came there. */
  readonly #seen: Int32Array
  #instructions: Int32Array<ArrayBuffer>
  #starts: Int32Array<ArrayBuffer>
  #count = 0
  #stepCount = 0

  constructor(program: Regexp, text: string) {
    this.#program = program
    this.#text = text
    this.#seen = new Int32Array(program.length)
    this.#instructions = new Int32Array(program.length)
    this.#starts = new Int32Array(program.length)
  }

  /** The leftmost match that starts at `from` or later. */
  find(from: number): Match | null | Failure {
    const text = this.#text
    const program = this.#program
    this.#seen.fill(0)
    this.#count = 0
    let match: Match | null = null
    let freeInstructions = new Int32Array(program.length)
    let freeStarts = new Int32Array(program.length)
    for (let at = from; ; ) {
      if (match === null) this.#follow(0, at, at)
      if (this.#count === 0 && match !== null) return match
      const instructions = this.#instructions
      const starts = this.#starts
      const count = this.#count
      this.#stepCount += count + 1
      if (this.#stepCount > regexpStepCountMax) {
        return new Failure('the regular expression takes too long for this text')
      }
      const codePoint = text.codePointAt(at) ?? -1
      const width = codePoint > 0xffff ? 2 : 1
      this.#instructions = freeInstructions
      this.#starts = freeStarts
      this.#count = 0
      for (let i = 0; i < count; i++) {
        const instruction = program[instructions[i]]
        if (instruction.kind === 'match') {
          match = { start: starts[i], end: at }
          // What comes behind it has less to say.
          break
        }
        if (instruction.kind === 'one' && contains(instruction.set, codePoint)) {
          this.#follow(instructions[i] + 1, at + width, starts[i])
        }
      }
      freeInstructions = instructions
      freeStarts = starts
      if (at >= text.length) return match
      at += width
    }
  }

  /** Adds the thread at an instruction, or what it leads to without taking a character, in order of priority. */
  #follow(first: number, at: number, start: number): void {
    const stack = [first]
    for (let i = stack.pop(); i !== undefined; i = stack.pop()) {
      if (this.#seen[i] === at + 1) continue
      this.#seen[i] = at + 1
      this.#stepCount++
      const instruction = this.#program[i]
      switch (instruction.kind) {
        case 'jump':
          stack.push(instruction.target)
          break
        case 'fork':
          stack.push(instruction.second, instruction.first)
          break
        case 'edge':
          if (instruction.edge === 'start' ? at === 0 : at === this.#text.length) stack.push(i + 1)
          break
        default:
          this.#instructions[this.#count] = i
          this.#starts[this.#count++] = start
      }
    }
  }
}

function contains(set: CodePointSet, codePoint: number): boolean {
  for (const [first, last] of set) if (codePoint >= first && codePoint <= last) return true
  return false
}

/** `regexp_instr`: where the first match starts, counted in code points from 0, or -1. */
export function searchRegexp(regexp: Regexp, text: string): bigint | Failure {
  const match = new Search(regexp, text).find(0)
  if (match instanceof Failure) return match
  return match === null ? -1n : textLength(text.slice(0, match.start))
}

/** `regexp_replace`: every match replaced by a text, which is taken as it stands. */
export function replaceMatches(regexp: Regexp, text: string, replacement: string): string | Failure {
  const search = new Search(regexp, text)
  let result = ''
  let copied = 0
  for (let from = 0; from <= text.length; ) {
    const match = search.find(from)
    if (match instanceof Failure) return match
    if (match === null) break
    result += text.slice(copied, match.start) + replacement
    copied = match.end
    // Behind an empty match the search goes on one character later.
    from = match.end > match.start ? match.end : match.end + ((text.codePointAt(match.end) ?? 0) > 0xffff ? 2 : 1)
    if (3 * (result.length + text.length - copied) > expressionValueByteLengthMax) return tooLong
  }
  return result + text.slice(copied)
}
