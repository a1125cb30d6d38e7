import { describe, expect, test } from 'vitest'
import { compileRegexp, replaceMatches, searchRegexp } from '../dist/engine/expression/regexp.js'
import { Failure } from '../dist/engine/expression/scalar.js'
import { SeededRandom, seed } from './seeded-random.js'

const random = new SeededRandom(seed)

function search(pattern: string, text: string): bigint | Failure {
  const regexp = compileRegexp(pattern)
  return regexp instanceof Failure ? regexp : searchRegexp(regexp, text)
}

function replace(pattern: string, text: string, replacement: string): string | Failure {
  const regexp = compileRegexp(pattern)
  return regexp instanceof Failure ? regexp : replaceMatches(regexp, text, replacement)
}

/** What the engine of JavaScript says. */
function expectedSearch(pattern: string, text: string): bigint {
  const at = text.search(new RegExp(pattern, 'u'))
  return at < 0 ? -1n : BigInt([...text.slice(0, at)].length)
}

test.each([
  ['b', 'abc'],
  ['^b', 'abc'],
  ['c$', 'abc'],
  ['^$', ''],
  ['', 'abc'],
  ['a|bc', 'xbc'],
  ['(?:ab)+c', 'xababc'],
  ['[a-c]{2,3}', 'xxabcd'],
  ['[^x]', 'xxa'],
  ['[-a]', 'x-'],
  ['\\d+\\.\\d*', 'a 12.5'],
  ['\\w\\s\\w', 'ab cd'],
  ['.', '\n😀'],
  ['.b', '😀b'],
  ['é', 'aé'],
  ['a{0}b', 'aab'],
  ['(a|b)*?c', 'abac'],
])('/%s/ is found in %j where JavaScript finds it', (pattern, text) => {
  expect(search(pattern, text)).toBe(expectedSearch(pattern, text))
  expect(replace(pattern, text, '<$&>')).toBe(text.replace(new RegExp(pattern, 'gu'), () => '<$&>'))
})

/** What is repeated is never empty: whether an empty repetition counts is where engines differ. */
function randomPattern(depth: number, isEmptyAllowed: boolean): string {
  const full = ['a', 'b', 'c', '.', '[ab]', '[^a]', '\\w', '\\d', '😀']
  if (depth === 0) return random.pick(isEmptyAllowed ? [...full, '^', '$', ''] : full)
  const part = (isEmptyPart = isEmptyAllowed) => randomPattern(depth - 1, isEmptyPart)
  switch (random.integer(0, 6)) {
    case 0:
      return `(${part()}|${part()})`
    case 1:
    case 2: {
      const times = random.pick(isEmptyAllowed ? ['*', '?', '{0,2}', '+'] : ['+', '{2}', '{1,2}', '{1,}'])
      return `(${part(false)})${times}${random.pick(['', '', '?'])}`
    }
    default:
      return part() + part()
  }
}

test('random patterns match what JavaScript matches', () => {
  let foundCount = 0
  for (let round = 0; round < 5000; round++) {
    const pattern = randomPattern(random.integer(0, 4), true)
    const text = random.list(random.integer(0, 8), () => random.pick(['a', 'b', 'c', '1', '\n', '😀'])).join('')
    const expected = expectedSearch(pattern, text)
    const where = `/${pattern}/ in ${JSON.stringify(text)}`
    expect(search(pattern, text), where).toBe(expected)
    const replaced = text.replace(new RegExp(pattern, 'gu'), '_')
    expect(replace(pattern, text, '_'), where).toBe(replaced)
    if (expected >= 0n) foundCount++
  }
  expect(foundCount).toBeGreaterThan(500)
})

describe('what is no pattern of ours fails with a reason', () => {
  test.each([
    ['(a', "has a '(' without a ')'"],
    ['a)', "has a ')' without a '('"],
    ['[a', "has a '[' without a ']'"],
    ['*a', "has a '*' with nothing before it"],
    ['a{', "has a '{' without a number up to 1000"],
    ['a{2,1}', "has a '{' that is no number of times"],
    ['a{1001}', "has a '{' without a number up to 1000"],
    ['[b-a]', "has a '-' that is no range"],
    ['(?=a)', "has a '(?' that is not supported"],
    ['(a)\\1', "has a '\\1' that is not supported"],
    ['a\\', "ends in '\\'"],
    ['a'.repeat(2000), 'is too long'],
    ['((a{100}){100}){100}', 'is too long'],
    ['((((){1000}){1000}){1000}){1000}', 'is too long'],
    ['('.repeat(100), 'is nested too deeply'],
  ])('%s', (pattern, detail) => {
    expect(compileRegexp(pattern)).toEqual(new Failure(`the regular expression ${detail}`))
  })
})

test('patterns that take others for ever are answered, or refused when the text is too long for them', () => {
  const text = 'a'.repeat(5000)
  expect(search('(a+)+$', `${text}b`)).toBe(-1n)
  expect(search('(a|a)*b', text)).toBe(-1n)
  expect(search('(a?){300}a{300}b', 'a'.repeat(100_000))).toEqual(
    new Failure('the regular expression takes too long for this text'),
  )
})

test('a replaced text does not outgrow its bound', () => {
  expect(replace('', 'a'.repeat(1000), 'x'.repeat(10_000))).toBeInstanceOf(Failure)
})
