// The examples by which the language is described, evaluated on items: alone, and as one of many rows.
import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { encodeArray } from '../dist/engine/expression/arrays.js'
import { evaluateFilter, evaluateUpdate } from '../dist/engine/expression/evaluate.js'
import { parseCondition, parseFilter, parseUpdate } from '../dist/engine/expression/parse.js'
import type { Scalar } from '../dist/engine/expression/scalar.js'
import { type Item, ItemMemory } from './item-rows.js'

const memory = new ItemMemory(16 * 2 ** 20)

const jon: Item = {
  name: 'Jon Snow',
  age: 40n,
  w: 1.5,
  ok: true,
  arr: encodeArray([7n, 13n, 5n, 1n]),
  t: { timeNs: 1559668665000000000n },
  __name: 'jon',
}

/** Other items, so that columns have several types and missing cells. */
const others: readonly Item[] = [
  {},
  { name: 5n, age: 'forty', w: 1n, ok: 'true', arr: 1n, t: 3n },
  { name: '', age: 40.5, w: Number.NaN, ok: false, arr: encodeArray([1.5, 2.5]), t: { timeNs: 0n } },
]

function holds(text: string, items: readonly Item[], written?: readonly Item[]): boolean[] {
  const scratch = memory.scratch()
  const resultPtr = scratch.allocate(Math.ceil(items.length / 8) + 8)
  const tree = written === undefined ? parseFilter(text) : parseCondition(text, { template: true })
  const source = memory.source(scratch, items, written)
  evaluateFilter(memory.kernels, scratch.back(), tree, source, resultPtr)
  return memory.readBits(resultPtr, items.length)
}

function expectFilter(text: string, expected: boolean): void {
  expect(holds(text, [jon])).toEqual([expected])
  expect(holds(text, [...others, jon, ...others, ...others])[others.length]).toBe(expected)
}

/** The rows of docs/expressions.md that have a result. */
const documented = [
  ...readFileSync(new URL('../docs/expressions.md', import.meta.url), 'utf8').matchAll(
    /^\| `(.+)` \| (true|false) \|$/gm,
  ),
].map(([, text, result]): [string, boolean] => [text!, result === 'true'])

test('the documentation has examples', () => {
  expect(documented.length).toBeGreaterThan(25)
})

interface Updated {
  readonly item: Item
  readonly detail: string | null
}

function update(text: string, items: readonly Item[], written: readonly Item[] = []): Updated[] {
  const scratch = memory.scratch()
  const actions = parseUpdate(text, { template: true })
  const result = evaluateUpdate(memory.kernels, scratch, actions, memory.source(scratch, items, written))
  const failed = memory.readBits(result.failedPtr, items.length)
  expect(result.failedCount).toBe(failed.filter(Boolean).length)
  const updated: Record<string, Scalar>[] = items.map((item) => ({ ...item }))
  for (const { name, columns } of result.assigned) {
    const cells = memory.cells(columns, items.length, (row) => !failed[row])
    cells.forEach((cell, row) => {
      if (failed[row]) return
      if (cell === undefined) delete updated[row]![name]
      else updated[row]![name] = cell
    })
  }
  const details = new Map(result.failures.map(({ row, detail }) => [row, detail]))
  return updated.map((item, row) => ({ item, detail: failed[row] ? (details.get(row) ?? '') : null }))
}

describe('filters', () => {
  test.each(documented)('%s is %s, as the documentation says', (text, expected) => {
    expectFilter(text, expected)
  })

  test.each<[string, boolean]>([
    ["if_else(missing > 18, 'adult', 'minor') == 'minor'", true],
    ['1==1', true],
    ['', true],
    ["NOT exists(a) OR (exists(a) AND a == '0')", true],
    ['1 == 1.0', true],
    ["length('abc' + 'efg') == 6", true],
    ['arr[4] == 1', false],
    ['NOT (arr[4] == 1)', true],
    ['arr[-1] == 1', false],
    ['-age / 7 == -5', true],
    ['age % 7 == 5', true],
    ["name + 1 == 'x'", false],
    ["name IN ('x', 'Jon Snow', 3)", true],
    ['age IN (1, 2, 3, 4, 5, 6, 40)', true],
    ['age IN (40.0, 1)', true],
    ['age NOT IN (1, 2)', true],
    ['missing NOT IN (1, 2)', true],
    ['missing IN (1, 2)', false],
    ['ok', true],
    ['NOT ok', false],
    ['age', false],
    ['NOT age', true],
    ['t == 1559668665:0', true],
    ['t != 1559668665', false],
    ['ok > false', true],
    ['w == nan', false],
    ['isnan(w)', false],
    ['isnan(missing)', false],
    ["starts(missing, 'a')", false],
    ["starts(name, '')", true],
    ['starts(age, 4)', false],
    ['length(missing) == 0', false],
    ['length(name) == 8', true],
    [`arr == blob('${Buffer.from(encodeArray([7n, 13n, 5n, 1n])).toString('base64')}')`, true],
    ['arr != arr', false],
    ['arr < arr', false],
    ["__name == 'jon'", true],
    ["if_not_exists(zip, 'none') == 'none'", true],
    ['if_not_exists(age, 1) == 40', true],
    ["min(name, 'a') == name", true],
    ['max(1==1, 0)', true],
    ['max(1==1, 3) == 3', true],
    ['sum(arr) == 26', true],
    ['avg(arr) == 6.5', true],
    ['stddev(arr[2..3]) == sqrt(8)', true],
    ["str(age) == '40'", true],
    ["str(w) == '1.5'", true],
    ["to_int('12') == 12", true],
    ["find(name, 'Snow') == 4", true],
    ["find(name, 'x') == -1", true],
    ["length(find_all_indices('abcabc', 'bc')) == 2", true],
    ['max(extract_by_indices(arr, find_all_indices(arr, 5))) == 5', true],
    ["regexp_instr(name, '(') == 0", false],
    ['nanaszero(w) == 1.5', true],
    ['nanaszero(nan) == 0', true],
    ['(missing == 1) == false', true],
  ])('%s is %s', (text, expected) => {
    expectFilter(text, expected)
  })

  test('braces are the written row, bare names the stored item', () => {
    const written: Item[] = [{ version: 2n, a: 'aaa' }, { version: 1n, a: 'bad' }, { a: 'aab' }]
    const items: Item[] = [{ version: 1n }, { version: 1n }, { version: 1n }]
    expect(holds('{version} > version', items, written)).toEqual([true, false, false])
    expect(holds("starts({a}, 'aa') AND {version} == 2", items, written)).toEqual([true, false, false])
    expect(holds('starts({a}, {a}) AND NOT exists(age)', items, written)).toEqual([true, true, true])
  })
})

describe('updates', () => {
  const expectUpdate = (
    text: string,
    changed: Readonly<Record<string, Scalar | undefined>>,
    item: Item = jon,
  ): void => {
    const expected: Record<string, Scalar> = { ...item }
    for (const [name, value] of Object.entries(changed)) {
      if (value === undefined) delete expected[name]
      else expected[name] = value
    }
    expect(update(text, [item])).toEqual([{ item: expected, detail: null }])
    const among = update(text, [...others, item, ...others, ...others])
    expect(among[others.length]).toEqual({ item: expected, detail: null })
  }

  test.each<[string, Readonly<Record<string, Scalar | undefined>>]>([
    ['age = age + 1; half = w; delete(ok)', { age: 41n, half: 1.5, ok: undefined }],
    ['n = if_not_exists(n,0)+1', { n: 1n }],
    ['n = if_not_exists(n,0)+1; n = if_not_exists(n,0)+1', { n: 2n }],
    ["arr = init_array(3,'int'); arr[1] = 1; arr[2] = arr[1] + 1", { arr: encodeArray([0n, 1n, 2n]) }],
    ['prev = if_not_exists(cur, 0); cur = 7; changed = (prev != cur)', { prev: 0n, cur: 7n, changed: true }],
    ["city='NY'", { city: 'NY' }],
    ['`min`=3 ', { min: 3n }],
    ['REMOVE missing', {}],
    ['REMOVE age; age = 1', { age: 1n }],
    ['t = if_else((if_not_exists(t,0:0) < 1559668665:0), 1559668665:0, t)', {}],
    ['arr[1..2] = arr[2..3]', { arr: encodeArray([7n, 5n, 1n, 1n]) }],
    ['arr[0..1] = pmax(arr[0..1], arr[2..3]); m = max(arr)', { arr: encodeArray([7n, 13n, 5n, 1n]), m: 13n }],
    ['a = psum(arr[0..1], arr[2..3])', { a: encodeArray([12n, 14n]) }],
    ['a = pmin(arr[0..1], arr[2..3])', { a: encodeArray([5n, 1n]) }],
    ["a = init_array(2, 'double', -inf); a[0] = 1", { a: encodeArray([1, Number.NEGATIVE_INFINITY]) }],
    ["a = init_array(0, 'int')", { a: encodeArray([]) }],
    ["a = blob('')", { a: new Uint8Array(0) }],
    ["a = blob('AAE=') + blob('Ag==')", { a: Uint8Array.of(0, 1, 2) }],
    ['age = w; w = age', { age: 1.5, w: 1.5 }],
    ['age = "x" + name', { age: 'xJon Snow' }],
    ['x = age > 18 AND exists(w)', { x: true }],
    ['x = exists(zip) AND zip == 1', { x: false }],
    ['x = age == 40 OR zip == 1', { x: true }],
    ['x = max(age, w)', { x: 40 }],
    ['x = -w; y = -age', { x: -1.5, y: -40n }],
    ['a = sort_array(arr)', { a: encodeArray([1n, 5n, 7n, 13n]) }],
    ['x = 9223372036854775807', { x: 2n ** 63n - 1n }],
    ['', {}],
  ])('%s', (text, changed) => {
    expectUpdate(text, changed)
  })

  test.each<[string, string]>([
    ['n = n + 1', "attribute 'n' is missing"],
    ['a = 1; n = zip; b = 2', "attribute 'zip' is missing"],
    ['x = age / 0', 'division by zero'],
    ['x = age % (age - 40)', 'division by zero'],
    ['x = 9223372036854775807 + age', 'integer overflow'],
    ['x = name + 1', "'+' cannot be applied to a string and an integer"],
    ['x = arr[4]', 'index 4 is outside of an array of 4'],
    ['arr[4] = 1', 'index 4 is outside of an array of 4'],
    ['arr[0] = 1.5', 'a float cannot stand in an array of integers'],
    ['zip[0] = 1', "attribute 'zip' is missing"],
    ['name[0] = 1', "'name' needs an array, not a string"],
    ['arr[0..1] = arr', '4 elements for a range of 2'],
    ['x = zip == 1', "attribute 'zip' is missing"],
    ['x = zip == 1 OR age == 40', "attribute 'zip' is missing"],
    ["x = starts(zip, 'a')", "attribute 'zip' is missing"],
    ['x = if_else(zip > 1, 1, 2)', "attribute 'zip' is missing"],
    ['x = zip IN (1, 2)', "attribute 'zip' is missing"],
    ['x = age IN (zip, 40)', "attribute 'zip' is missing"],
    ["x = init_array(2, 'float')", "'init_array' needs the type 'int' or 'double'"],
    ["x = init_array(100000000, 'int')", 'the value is longer than 4194304 bytes'],
    ['x = {zip}', "the written row has no 'zip'"],
    ['REMOVE age; x = age', "attribute 'age' is missing"],
  ])('%s fails and nothing of it is applied', (text, detail) => {
    expect(update(text, [jon], [{}])).toEqual([{ item: jon, detail }])
    const items = [...others, jon, ...others]
    const among = update(
      text,
      items,
      items.map(() => ({})),
    )
    expect(among[others.length]).toEqual({ item: jon, detail })
  })

  test('rows fail one by one', () => {
    const items: Item[] = [{ a: 1n }, {}, { a: 2 ** 62 }, { a: 'x' }, { a: 2n ** 63n - 1n }]
    expect(update("a = a + 1; b = 'done'", items)).toEqual([
      { item: { a: 2n, b: 'done' }, detail: null },
      { item: {}, detail: "attribute 'a' is missing" },
      { item: { a: 2 ** 62, b: 'done' }, detail: null },
      { item: { a: 'x' }, detail: "'+' cannot be applied to a string and an integer" },
      { item: { a: 2n ** 63n - 1n }, detail: 'integer overflow' },
    ])
  })

  test('values of the written row keep their types', () => {
    const written: Item[] = [{ a: 5, b: "it's" }, { a: 5n, b: '' }, { b: '{a}' }]
    expect(update('x = if_not_exists(x, {b}); y = {a}', [{ x: 1n }, {}, {}], written)).toEqual([
      { item: { x: 1n, y: 5 }, detail: null },
      { item: { x: '', y: 5n }, detail: null },
      { item: {}, detail: "the written row has no 'a'" },
    ])
  })
})
