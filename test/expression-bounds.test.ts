// Large, deep and strange expressions and their limits; what pages and folders tell; texts that come again.
import { describe, expect, test } from 'vitest'
import { encodeArray } from '../dist/engine/expression/arrays.js'
import { conditionOf, filterOf, updateOf } from '../dist/engine/expression/cache.js'
import { evaluateFilter, evaluateUpdate, Filter } from '../dist/engine/expression/evaluate.js'
import { functionRules } from '../dist/engine/expression/functions.js'
import { parseFilter, parseUpdate } from '../dist/engine/expression/parse.js'
import { canFolderMatch, canSkip } from '../dist/engine/expression/skip.js'
import type { PageSummary } from '../dist/engine/frame/column-summary.js'
import { Scratch, ScratchFull } from '../dist/engine/memory/scratch.js'
import { type Item, ItemMemory } from './item-rows.js'
import { SeededRandom, seed } from './seeded-random.js'

const memory = new ItemMemory(32 * 2 ** 20)

const items: Item[] = Array.from({ length: 1000 }, (_, row) => ({
  a: BigInt(row),
  b: row / 2,
  s: `item ${row}`,
  ...(row % 3 === 0 ? { c: BigInt(row) } : {}),
}))

function count(text: string): number {
  const scratch = memory.scratch()
  const resultPtr = scratch.allocate(items.length)
  const back = scratch.back()
  const mark = back.mark()
  evaluateFilter(memory.kernels, back, parseFilter(text), memory.source(scratch, items), resultPtr)
  expect(back.mark()).toBe(mark)
  return memory.readBits(resultPtr, items.length).filter(Boolean).length
}

describe('large expressions', () => {
  const repeat = (times: number, part: (i: number) => string, by: string): string =>
    Array.from({ length: times }, (_, i) => part(i)).join(by)

  test.each<[string, string, number]>([
    ['a thousand comparisons in one OR', repeat(1000, (i) => `a == ${i}`, ' OR '), 1000],
    ['a thousand comparisons in one AND', repeat(1000, (i) => `a != ${i + 1}`, ' AND '), 1],
    ['a thousand terms', `${repeat(1000, () => 'a', ' + ')} == 1000`, 1],
    ['a thousand terms, some missing', `${repeat(1000, () => 'c', ' + ')} == 3000`, 1],
    ['a thousand terms of two types', `${repeat(1000, (i) => (i % 2 === 0 ? 'a' : 'b'), ' + ')} == 750`, 1],
    ['a thousand constants', `${repeat(1000, () => '1', ' + ')} == a + 1`, 1],
    ['ten thousand integers to choose from', `a IN (${repeat(10_000, (i) => `${2 * i}`, ',')})`, 500],
    ['ten thousand texts to choose from', `s IN (${repeat(10_000, (i) => `'item ${2 * i}'`, ',')})`, 500],
    ['hundreds of NOTs', `${'NOT '.repeat(400)} a == 1`, 1],
    ['a hundred levels of AND and OR', `${'(exists(a) AND ('.repeat(90)}a == 1${' OR a == 2))'.repeat(90)}`, 2],
    ['a hundred if_else', `${'if_else(a > 5, 1, '.repeat(100)}2${')'.repeat(100)} == 2`, 6],
  ])('%s', (_, text, expected) => {
    expect(count(text)).toBe(expected)
  })

  test('an update of two thousand actions', () => {
    const scratch = memory.scratch()
    const actions = parseUpdate(
      repeat(2000, () => 'n = if_not_exists(n, 0) + 1', ';'),
      { template: false },
    )
    const result = evaluateUpdate(memory.kernels, scratch, actions, memory.source(scratch, [{}, { n: 1n }]))
    expect(memory.cells(result.assigned[0]!.columns, 2, () => true)).toEqual([2000n, 2001n])
  })

  test('a text that doubles without end is cut short by its row alone', () => {
    const scratch = memory.scratch()
    const actions = parseUpdate(`${'a = a + a;'.repeat(30)}`, { template: false })
    const result = evaluateUpdate(memory.kernels, scratch, actions, memory.source(scratch, [{ a: 'xy' }, { a: '' }]))
    expect(result.failures).toEqual([{ row: 0, detail: 'the value is longer than 4194304 bytes' }])
    expect(memory.cells(result.assigned[0]!.columns, 2, (row) => row === 1)[1]).toBe('')
  })

  test('of many failed rows the first sixteen are told, whichever action failed first', () => {
    const scratch = memory.scratch()
    const rows: Item[] = Array.from({ length: 50 }, (_, row) => (row % 2 === 0 ? { a: 1n } : { b: 1n }))
    const actions = parseUpdate('x = a; y = b', { template: false })
    const result = evaluateUpdate(memory.kernels, scratch, actions, memory.source(scratch, rows))
    expect(result.failedCount).toBe(50)
    expect(result.failures).toEqual(
      Array.from({ length: 16 }, (_, row) => ({
        row,
        detail: `attribute '${row % 2 === 0 ? 'b' : 'a'}' is missing`,
      })),
    )
  })
})

test('too little scratch is told, and with more the same is done', () => {
  const { kernels } = memory
  const whole = memory.scratch()
  const resultPtr = whole.allocate(items.length)
  const source = memory.source(whole, items)
  const filter = parseFilter("a + b > 100 AND s IN ('item 300', 'a', 'b', 'c', 'd', 'e')")
  const columns = new Map(['a', 'b', 's'].map((name) => [name, source.attribute(name)]))
  const rows = { ...source, attribute: (name: string) => columns.get(name) ?? [] }
  const byteLength = 64 * 1024
  const part = { byteOffset: whole.allocate(byteLength), byteLength }
  let tries = 0
  for (let size = 16; ; tries++) {
    try {
      evaluateFilter(kernels, new Scratch({ ...part, byteLength: size }), filter, rows, resultPtr)
      break
    } catch (error) {
      if (!(error instanceof ScratchFull)) throw error
      expect(error.byteLengthNeeded).toBeGreaterThan(size)
      size = error.byteLengthNeeded
    }
  }
  expect(tries).toBeGreaterThan(2)
  expect(memory.readBits(resultPtr, items.length).flatMap((bit, row) => (bit ? [row] : []))).toEqual([300])
})

test('an AND does not ask for columns once no row is left', () => {
  const scratch = memory.scratch()
  const asked: string[] = []
  const source = memory.source(scratch, items)
  const rows = {
    ...source,
    attribute: (name: string) => {
      asked.push(name)
      return source.attribute(name)
    },
  }
  const resultPtr = scratch.allocate(items.length)
  evaluateFilter(memory.kernels, scratch.back(), parseFilter("a < 0 AND s == 'x' AND b > 0"), rows, resultPtr)
  expect(asked).toEqual(['a'])
  evaluateFilter(memory.kernels, scratch.back(), parseFilter('a > 5 AND a < 7 AND b > 0'), rows, resultPtr)
  expect(asked).toEqual(['a', 'a', 'b'])
})

test('one filter serves page after page', () => {
  const scratch = memory.scratch()
  const filter = new Filter(memory.kernels, scratch.back(), parseFilter('a IN (1, 3, 5, 7, 9, 11, 700) OR c == 6'))
  const resultPtr = scratch.allocate(items.length)
  const found: number[] = []
  for (let start = 0; start < items.length; start += 64) {
    const page = items.slice(start, start + 64)
    filter.evaluate(memory.source(scratch, page), resultPtr)
    memory.readBits(resultPtr, page.length).forEach((bit, row) => {
      if (bit) found.push(start + row)
    })
  }
  expect(found).toEqual([1, 3, 5, 6, 7, 9, 11, 700])
})

describe('pages without a match', () => {
  const page = (summary: Partial<PageSummary['columns'][number]>, rowCount = 10): PageSummary => ({
    rowCount,
    columns: [{ dtype: 'int64', presentCount: 10, min: 10n, max: 20n, ...summary }],
  })

  test.each<[string, PageSummary | null, boolean]>([
    ['a > 20', page({}), true],
    ['a >= 20', page({}), false],
    ['a < 10.5', page({}), false],
    ['a < 9.5', page({}), true],
    ['NOT a > 5', page({}), true],
    ['NOT a > 5', page({}, 11), false],
    ['NOT a > 15', page({}), false],
    ["a == 'x'", page({}), true],
    ["NOT a == 'x'", page({}), false],
    ['a IN (1, 2, 30)', page({}), true],
    ['a IN (1, 15)', page({}), false],
    ['a == 1 OR a == 2', page({}), true],
    ['a == 1 OR b == 2', page({}), false],
    ['a == 1 AND b == 2', page({}), true],
    ['exists(a)', page({ presentCount: 0 }), true],
    ['NOT exists(a)', page({}), true],
    ['NOT exists(a)', page({}, 11), false],
    ['a == 1', null, false],
    ['a == 1', { rowCount: 10, columns: [] }, true],
    ['a != 1', { rowCount: 10, columns: [] }, true],
    ['NOT a == 1', { rowCount: 10, columns: [] }, false],
    ['a > 5', page({ dtype: 'float64', min: Number.NaN, max: Number.NaN }), false],
    ['a != 15', page({ min: 15n, max: 15n }), true],
    ['a', page({ min: 1n, max: 1n }), true],
    ['NOT a', page({ min: 1n, max: 1n }), false],
    ['a', page({ dtype: 'bool', min: false, max: false }), true],
    ["a == 'k'", page({ dtype: 'string', min: 'l', max: 'p' }), true],
    ["starts(a, 'lo')", page({ dtype: 'string', min: 'la', max: 'ln' }), true],
    ["starts(a, 'lo')", page({ dtype: 'string', min: 'lop', max: 'z' }), false],
    ["starts(a, 'lo')", page({ dtype: 'string', min: 'lp', max: 'z' }), true],
    ["starts(a, 'lo')", page({}), true],
    ['a + 1 == 0', page({}), false],
    ['false', page({}), true],
    ['1 == 2', page({}), true],
  ])('%s (%#) can be skipped: %4$s', (text, summary, expected) => {
    const tree = parseFilter(text)
    expect(canSkip(tree, (name) => (name === 'a' ? summary : null))).toBe(expected)
  })
})

describe('folders', () => {
  test.each<[string, string, boolean]>([
    ['a == 1', 'a=1/b=x', true],
    ['a == 2', 'a=1/b=x', false],
    ["a == '1'", 'a=1', true],
    ['a == 1.0', 'a=1', true],
    ['a > 1', 'a=1', false],
    ['NOT a == 1', 'a=1', true],
    ["b == 'x' AND c == 5", 'a=1/b=x', true],
    ["b == 'y' AND c == 5", 'a=1/b=x', false],
    ["b == 'y' OR c == 5", 'a=1/b=x', true],
    ["b IN ('y', 'z')", 'a=1/b=x', false],
    ["b IN ('y', 'x')", 'a=1/b=x', true],
    ["starts(b, 'x')", 'b=xyz', true],
    ["starts(b, 'y')", 'b=xyz', false],
    ['exists(a)', 'a=null', true],
    ['NOT exists(a)', 'a=null', true],
    ['NOT exists(a)', 'a=1', false],
    ['a == true', 'a=true', true],
    ['a', 'a=false', false],
    ['a == 1.5', 'a=1.5', true],
    ['a > 1e300', 'a=+Inf', true],
    ['isnan(a)', 'a=NaN', true],
    ['a == 1559668665:5', 'a=1559668665:5', true],
    ['a < 0:0', 'a=-1:500000000', true],
    ["a == 'x/y%2F'", 'a=x%2Fy%252F', true],
    ["a == ''", 'a=', true],
    ["a == 'b=c'", 'a=b=c', true],
    ['c == 1', '', true],
  ])('%s may match in %s: %s', (text, folder, expected) => {
    expect(canFolderMatch(parseFilter(text), folder)).toBe(expected)
  })
})

test('a text that was parsed before gives the same tree', () => {
  expect(filterOf('a == 1')).toBe(filterOf('a == 1'))
  expect(conditionOf('a == {b}', { template: true })).toBe(conditionOf('a == {b}', { template: true }))
  expect(() => conditionOf('a == {b}', { template: false })).toThrow('invalid condition expression')
  expect(updateOf('a = 1', { template: false })).toBe(updateOf('a = 1', { template: false }))
  const first = filterOf('a == 0')
  for (let i = 1; i < 2000; i++) filterOf(`a == ${i}`)
  expect(filterOf('a == 0')).not.toBe(first)
  expect(filterOf('a == 0')).toEqual(first)
})

test('whatever parses can be evaluated, and takes no memory with it', () => {
  const values = [
    ...['a', 'b', 's', 'arr', 'zip', '1', '0', '-1', '1.5', 'nan', "'x'", "''", "'item 1'", '5:0', 'true'],
    ..."arr[0]|arr[a]|arr[0..1]|blob('AAE=')|init_array(2, 'int')|init_array(2, 'double', inf)".split('|'),
  ]
  const names = Object.keys(functionRules).filter((name) => name !== 'blob')
  const random = new SeededRandom(seed)
  const value = (depth: number): string => {
    if (depth === 0 || random.chance(0.2)) return random.pick(values)
    const part = () => value(depth - 1)
    switch (random.integer(0, 6)) {
      case 0:
        return `(${part()} ${random.pick(['+', '-', '*', '/', '%'])} ${part()})`
      case 1:
        return `(${part()} ${random.pick(['==', '!=', '<', '>='])} ${part()})`
      case 2:
        return `(${part()} IN (${part()}, ${part()}))`
      case 3:
        return `(NOT ${part()} ${random.pick(['AND', 'OR'])} ${part()})`
      default: {
        const name = random.pick(names)
        const rule = functionRules[name as keyof typeof functionRules]
        const count = Math.min(rule.max, Math.max(rule.min, random.integer(0, 4)))
        const operands = Array.from({ length: count }, part)
        if (rule.attribute) operands[0] = random.pick(['a', 'arr', 'zip'])
        return `${name}(${operands.join(', ')})`
      }
    }
  }
  const rows = items.slice(0, 20).map((item, row) => {
    const cell = row % 3 === 0 ? encodeArray([1n, 2n]) : row % 3 === 1 ? encodeArray([0.5, Number.NaN]) : 'arr'
    return { ...item, arr: cell }
  })
  for (let round = 0; round < 600; round++) {
    const text = value(random.integer(1, 5))
    const scratch = memory.scratch(4096)
    const resultPtr = scratch.allocate(16)
    const back = scratch.back()
    const mark = back.mark()
    evaluateFilter(
      memory.kernels,
      back,
      parseFilter(`(${text}) == 1 OR (${text}) OR a == 3`),
      memory.source(scratch, rows),
      resultPtr,
    )
    expect(back.mark(), text).toBe(mark)
    expect(memory.readBits(resultPtr, rows.length)[3], text).toBe(true)
    const actions = parseUpdate(`x = ${text}; arr[0] = x; y = str(x)`, { template: false })
    const { failures, failedCount, assigned } = evaluateUpdate(
      memory.kernels,
      scratch,
      actions,
      memory.source(scratch, rows),
    )
    expect(failures.length, text).toBe(Math.min(16, failedCount))
    const failed = new Set(failures.map(({ row }) => row))
    const isTold = failedCount <= 16
    for (const { columns } of assigned) memory.cells(columns, rows.length, (row) => isTold && !failed.has(row))
  }
})
