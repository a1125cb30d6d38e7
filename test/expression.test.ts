import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { FramesError } from '../dist/engine/errors.js'
import { compileLabelFilter } from '../dist/engine/expression/evaluate-labels.js'
import { functionRules, reservedWords } from '../dist/engine/expression/functions.js'
import { parseCondition, parseFilter, parseUpdate } from '../dist/engine/expression/parse.js'
import { printExpression, printUpdate } from '../dist/engine/expression/print.js'
import {
  calculate,
  compareScalars,
  compareText,
  extreme,
  Failure,
  toInteger,
} from '../dist/engine/expression/scalar.js'
import { collectAttributes, type Expression, type UpdateAction } from '../dist/engine/expression/tree.js'
import { expressionHeightMax, expressionLengthMax, expressionNestingMax } from '../dist/engine/limits.js'
import { fuzz, messageOf } from './fuzz.js'

const literal = (value: (Expression & { kind: 'literal' })['value']): Expression => ({ kind: 'literal', value })
const attribute = (name: string): Expression => ({ kind: 'attribute', name })

/** The value of a text that stands alone in a comparison. */
function valueTree(text: string): Expression {
  const tree = parseFilter(`x == ${text}`)
  if (tree.kind !== 'compare') throw new Error(`${text} is a ${tree.kind}`)
  return tree.right
}

describe('literals', () => {
  test.each<[string, Expression]>([
    ["'a'", literal('a')],
    ['"it\'s"', literal("it's")],
    ['\'say "x"\'', literal('say "x"')],
    [`'\\'\\"\\\\\\n'`, literal(`'"\\\\n`)],
    ["''", literal('')],
    ['0', literal(0n)],
    ['007', literal(7n)],
    ['9223372036854775807', literal(9223372036854775807n)],
    ['-9223372036854775808', literal(-9223372036854775808n)],
    ['+5', literal(5n)],
    ['1.5', literal(1.5)],
    ['5.0', literal(5)],
    ['1e21', literal(1e21)],
    ['1e+21', literal(1e21)],
    ['1.5e-05', literal(1.5e-5)],
    ['-0.0', literal(-0)],
    ['inf', literal(Number.POSITIVE_INFINITY)],
    ['-inf', literal(Number.NEGATIVE_INFINITY)],
    ['+Inf', literal(Number.POSITIVE_INFINITY)],
    ['NaN', literal(Number.NaN)],
    ['nan', literal(Number.NaN)],
    ['maxdbl', literal(Number.MAX_VALUE)],
    ['true', literal(true)],
    ['False', literal(false)],
    ['1559668665:0', literal({ timeNs: 1559668665000000000n })],
    ['0:0', literal({ timeNs: 0n })],
    ['-1:500000000', literal({ timeNs: -500000000n })],
  ])('%s', (text, tree) => {
    expect(valueTree(text)).toEqual(tree)
  })

  test.each([
    ["'a", 'the string has no end'],
    ['"a\\"', 'the string has no end'],
    ['9223372036854775808', 'the integer is out of the range of 64 bits'],
    ['-9223372036854775809', 'the integer is out of the range of 64 bits'],
    ['1e999', 'the number is too large'],
    ['1:1000000000', 'the nanoseconds of a time end at 999999999'],
    ['9223372037:0', 'the time is out of range'],
    ['5x', "expected an operator or the end, found 'x'"],
    ['0x1F', "expected an operator or the end, found 'x1F'"],
    ['5e', "expected an operator or the end, found 'e'"],
    ['1.e5', "expected an operator or the end, found '.'"],
    ['`a', 'the name in back-quotes has no end'],
    ['``', 'the name in back-quotes is empty'],
    ['{a}', "unexpected character '{'"],
    ['a && b', "unexpected character '&'"],
    ['!a', "unexpected character '!'"],
    ['😀', "unexpected character '😀'"],
    ['1 : 0', "unexpected character ':'"],
  ])('%s is refused', (text, detail) => {
    expect(messageOf(() => parseFilter(`x == ${text}`))).toContain(`invalid filter expression: ${detail} at position `)
  })
})

describe('the grammar', () => {
  test.each([
    ['a==1 OR b==2 AND NOT c==3', '(a==1) OR ((b==2) AND (NOT (c==3)))'],
    ['a + b * c == d - -e', '(a + (b * c)) == (d - (-e))'],
    ['a - b + c == 0', '((a - b) + c) == 0'],
    ['-a * b == 0', '((-a) * b) == 0'],
    ['NOT a == 1 AND b == 2', '(NOT (a == 1)) AND (b == 2)'],
    ['a == 1 and b IN (1, 2) or not c', '((a==1) AND (b IN(1,2))) OR (NOT c)'],
    ['x NOT IN (1)', 'NOT (x IN (1))'],
    ['x in(1)', 'x IN (1)'],
    ['a = 1', 'a == 1'],
    ["__name__ == 'x' AND exists(`__name__`)", "_name == 'x' AND exists(_name)"],
    ['a <> 1', 'a != 1'],
    ['`min` == 3', '`min` == 3'],
    ['`a` == 3', 'a == 3'],
    ['STARTS(a, "x")', "starts(a, 'x')"],
    ['arr[2] + arr[3] == 6', 'arr[2]+arr[3]==6'],
    ['length(arr[i + 1 .. 3]) == 1', 'length(arr[(i + 1)..3]) == 1'],
    ['arr[0..4] == arr[1]', 'arr[ 0 .. 4 ] == arr[1]'],
    ['(a == 1) == (b == 2)', '((a == 1) == (b == 2))'],
    ["x\t==\n1\r\nOR y=='2'", "x == 1 or y == '2'"],
  ])('%s is %s', (text, same) => {
    // Parentheses in the second form only repeat what the first means, so both print alike, up to nesting of chains.
    expect(flat(parseFilter(text))).toEqual(flat(parseFilter(same)))
  })

  /** Chains written with parentheses are nested; for comparison they are put into pairs. */
  function flat(tree: Expression): unknown {
    switch (tree.kind) {
      case 'sum':
      case 'product': {
        let left = flat(tree.first)
        for (const { operator, operand } of tree.rest) left = [left, operator, flat(operand)]
        return left
      }
      case 'and':
      case 'or':
        return { [tree.kind]: tree.operands.map(flat) }
      case 'not':
      case 'negate':
        return { [tree.kind]: flat(tree.operand) }
      case 'compare':
        return [flat(tree.left), tree.operator, flat(tree.right)]
      case 'call':
        return [tree.function, ...tree.operands.map(flat)]
      default:
        return printExpression(tree)
    }
  }

  test.each(['', '  ', '\n\t'])('an empty filter (%j) and an empty condition are always true', (text) => {
    expect(parseFilter(text)).toEqual(literal(true))
    expect(parseCondition(text, { template: true })).toEqual(literal(true))
  })

  test.each([
    ['a ==', 'expected a value, found the end', 5],
    ['a == 1 b', "expected an operator or the end, found 'b'", 8],
    ['(a == 1', "expected an operator or ')', found the end", 8],
    ['a == 1)', "expected an operator or the end, found ')'", 7],
    ['a IN ()', "expected a value, found ')'", 7],
    ["a IN ('x' 'y')", "expected ',' or ')', found a string", 11],
    ['a IN 1', "expected '(', found '1'", 6],
    ['a NOT 1', "expected 'IN' after NOT, found '1'", 7],
    ['a < b < c', 'comparisons do not chain', 7],
    ['a == b == c', 'comparisons do not chain', 8],
    ['and', "expected a value, found 'and'", 1],
    ['a == AND', "expected a value, found 'AND'", 6],
    ['min == 3', "'min' is a reserved word; an attribute of this name stands in back-quotes", 1],
    ['a == 1;', "expected an operator or the end, found ';'", 7],
    ['nosuch(a)', "unknown function 'nosuch'", 1],
    ['NOT  nosuch (a)', "unknown function 'nosuch'", 6],
    ["starts('x')", "function 'starts' expects 2 arguments", 1],
    ['exists()', "function 'exists' expects 1 argument", 1],
    ['init_array(1)==1 AND a', "function 'init_array' expects 2 or 3 arguments", 1],
    ['min() == 1', "function 'min' expects at least 1 argument", 1],
    ["exists('a')", "the first argument of 'exists' must be an attribute", 8],
    ['exists(a + b)', "the first argument of 'exists' must be an attribute", 8],
    ["blob('?') == a", "the argument of 'blob' must be a string in base64", 6],
    ['blob(a) == a', "the argument of 'blob' must be a string in base64", 6],
    ['delete(a)', "expected a value, found 'delete'", 1],
    ["'abc'", 'a filter must be true or false, this is a value', 1],
    ['1 + 1', 'a filter must be true or false, this is a value', 1],
    ['a[0', "expected ']', found the end", 4],
    ['(a)[0] == 1', "expected an operator or the end, found '['", 4],
  ])('%s is refused', (text, detail, position) => {
    expect(messageOf(() => parseFilter(text))).toBe(
      `invalid filter expression: ${detail} at position ${position}. Correct the named parameter.`,
    )
  })

  test('each use names itself in its errors', () => {
    expect(
      messageOf(() => parseCondition('a', { template: false }) && parseCondition('a b', { template: false })),
    ).toMatch(/^invalid condition expression: .* at position 3\./)
    expect(messageOf(() => parseUpdate('a', { template: false }))).toMatch(
      /^invalid update expression: expected '=', found the end at position 2\./,
    )
  })

  test('deep nesting is refused with an error, wherever it is', () => {
    const deep = 100_000
    const texts = [
      '('.repeat(deep),
      `${'('.repeat(deep)}1==1${')'.repeat(deep)}`,
      `${'NOT '.repeat(deep)}a == 1`,
      `x == ${'-'.repeat(deep)}a`,
      `${'max(a,'.repeat(deep)}1${')'.repeat(deep)} == 1`,
      `${'a['.repeat(deep)}1${']'.repeat(deep)} == 1`,
      `${'a IN ('.repeat(deep)}1${')'.repeat(deep)}`,
      `${'(1+1*-'.repeat(deep)}1${')'.repeat(deep)} == 1`,
    ]
    for (const text of texts) {
      expect(messageOf(() => parseFilter(text))).toContain('the expression is nested too deeply at position ')
    }
  })

  test('the deepest trees that are accepted can be printed, cloned, evaluated and walked', () => {
    const nested = expressionNestingMax - 1
    const texts = [
      `${'('.repeat(nested)}1==1${')'.repeat(nested)}`,
      `${'NOT '.repeat(expressionHeightMax - 2)}a == 1`,
      `x == ${'-'.repeat(expressionHeightMax - 2)}a`,
      `${'max(a,'.repeat(nested)}1${')'.repeat(nested)} == 1`,
      `${'(1==1 OR '.repeat(nested)}1==1${')'.repeat(nested)}`,
    ]
    for (const text of texts) {
      const tree = parseFilter(text)
      expect(parseFilter(printExpression(structuredClone(tree)))).toEqual(tree)
      compileLabelFilter(tree)(() => 'x')
      collectAttributes(tree, new Set())
    }
  })

  test('long chains are no deep nesting', () => {
    const terms = 50_000
    for (const text of [
      "a == '1' OR ".repeat(terms),
      "a == '1' AND ".repeat(terms),
      `1 == ${'1 + '.repeat(terms)} 1 OR `,
      `1 == ${'1 * '.repeat(terms)} 1 OR `,
      `a IN (${"'b', ".repeat(terms)} 'c') OR `,
    ]) {
      const tree = parseFilter(`${text} 1==2`)
      expect(printExpression(tree).length).toBeGreaterThan(terms * 3)
      expect(compileLabelFilter(tree)(() => 'c')).toBe(text.startsWith('a IN') || text.includes('*'))
    }
  })

  test('a text has a longest length', () => {
    expect(messageOf(() => parseFilter(' '.repeat(expressionLengthMax + 1)))).toMatch(
      /^invalid filter expression: it is longer than 1048576 characters\./,
    )
  })

  test('the attributes of a tree are those that it refers to', () => {
    const names = new Set<string>()
    collectAttributes(parseFilter('exists(a) AND b[c] + -d == max(e, f[g..h]) OR i IN (j) AND NOT k'), names)
    expect([...names].sort().join('')).toBe('abcdefghijk')
  })

  test.each([...reservedWords])('%s stands for an attribute in back-quotes, and only there', (word) => {
    expect(parseFilter(`\`${word}\` == 1`)).toMatchObject({ left: { kind: 'attribute', name: word } })
    if (['true', 'false', 'inf', 'nan', 'maxdbl', 'not'].includes(word)) return
    expect(() => parseFilter(`${word} == 1`)).toThrow(FramesError)
  })

  test('reserved words are all that public clients know', () => {
    const known =
      'and or not in true false set remove delete as select exists if_not_exists if_else starts ends contains length min max sum avg sqrt stddev init_array sort_array find find_all_indices extract_by_indices regexp_replace regexp_instr blob str to_int inf nan maxdbl isnan nanaszero pmin pmax psum'
    expect([...reservedWords].sort()).toEqual(known.split(' ').sort())
  })
})

describe('templates', () => {
  test('a placeholder is a value, never text', () => {
    expect(parseCondition('{version} > version AND {} == {a b}', { template: true })).toEqual({
      kind: 'and',
      operands: [
        { kind: 'compare', operator: '>', left: { kind: 'placeholder', name: 'version' }, right: attribute('version') },
        {
          kind: 'compare',
          operator: '==',
          left: { kind: 'placeholder', name: '' },
          right: { kind: 'placeholder', name: 'a b' },
        },
      ],
    })
  })

  test('a placeholder needs its end, and a template', () => {
    expect(() => parseCondition('{a', { template: true })).toThrow('the placeholder has no end at position 1')
    expect(() => parseCondition('{a} == 1', { template: false })).toThrow("unexpected character '{' at position 1")
    expect(() => parseUpdate('{a} = 1', { template: true })).toThrow("expected an attribute, found 'a' at position 1")
  })
})

describe('updates', () => {
  test.each<[string, string]>([
    ['miles = miles + 1000', 'miles = miles + 1000'],
    ['SET n = if_not_exists(n, 0) + 1;', 'n = if_not_exists(n, 0) + 1'],
    ['REMOVE miles', 'REMOVE miles'],
    ['delete(a);delete(b);', 'REMOVE a; REMOVE b'],
    ["city='NY'", "city = 'NY'"],
    ['`min`=3 ', '`min` = 3'],
    [
      't = if_else((if_not_exists(t,0:0) < 1559668665:0), 1559668665:0, t)',
      't = if_else(if_not_exists(t, 0:0) < 1559668665:0, 1559668665:0, t)',
    ],
    [
      "arr = init_array(3,'int'); arr[1] = 1; arr[2] = arr[1] + 1",
      "arr = init_array(3, 'int'); arr[1] = 1; arr[2] = arr[1] + 1",
    ],
    ['arr2[0..1] = arr1[0..4]', 'arr2[0 .. 1] = arr1[0 .. 4]'],
    ['prev = cur; cur = 7; changed = (prev != cur)', 'prev = cur; cur = 7; changed = prev != cur'],
    [" ;; a = 1 ;; ; b = blob('AAE=');", "a = 1; b = blob('AAE=')"],
    ['', ''],
    [';', ''],
  ])('%s', (text, printed) => {
    const actions = parseUpdate(text, { template: false })
    expect(printUpdate(actions)).toBe(printed)
    expect(parseUpdate(printed, { template: false })).toEqual(actions)
  })

  test.each([
    ['a == 1', "expected '=', found '=='"],
    ['a = 1 b = 2', "expected an operator, ';' or the end, found 'b'"],
    ['a = b = c', "expected an operator, ';' or the end, found '='"],
    ['a =', 'expected a value, found the end'],
    ['SET', 'expected an attribute, found the end'],
    ['REMOVE', 'expected an attribute, found the end'],
    ['delete(a, b)', "expected ')', found ','"],
    ['5 = a', "expected an attribute, found '5'"],
    ['__size = 1', "cannot assign system attribute '__size'"],
    ['REMOVE __mode', "cannot assign system attribute '__mode'"],
    ['min = 3', "'min' is a reserved word; an attribute of this name stands in back-quotes"],
  ])('%s is refused', (text, detail) => {
    expect(messageOf(() => parseUpdate(text, { template: false }))).toContain(
      `invalid update expression: ${detail} at position `,
    )
  })
})

describe('a filter over labels', () => {
  const series: Readonly<Record<string, string>> = {
    _name: 'cpu',
    node: '1',
    os: 'linux',
    host: 'web-01',
    empty: '',
    age: '40',
    count: '7',
    astral: 'a😀',
  }
  const matches = (text: string) =>
    compileLabelFilter(parseFilter(text))((name) => (Object.hasOwn(series, name) ? series[name] : undefined))

  test.each<[string, boolean]>([
    ["_name == 'cpu' and os == 'linux'", true],
    ["__name__ == 'cpu'", true],
    ["__name__ == 'mem'", false],
    ['exists(__name__) AND exists(_name)', true],
    ["node IN('1','b')", true],
    ["node IN('a', 'b')", false],
    ["endpoint_id IN('a','b')", false],
    ["endpoint_id NOT IN('a','b')", true],
    ["NOT(node IN ('1','b'))", false],
    ["node not in ('2')", true],
    ["starts(host, 'web') AND NOT exists(dc)", true],
    ['1==1', true],
    ['', true],
    ['1==2', false],
    ['node == 1', false],
    ["node == '1'", true],
    ['node != 1', false],
    ["node != '1'", false],
    ["node != '2'", true],
    ["node = '1'", true],
    ["node <> '2'", true],
    ["missing == '1'", false],
    ["missing != '1'", false],
    ["NOT (missing == '1')", true],
    ["missing == '1' OR node == '1'", true],
    ['exists(missing)', false],
    ['exists(empty)', true],
    ["empty == ''", true],
    ["os < 'm'", true],
    ["os <= 'linux' AND os >= 'linux'", true],
    ["os > 'LINUX'", true],
    ["astral > 'a\uffff'", true],
    ["ends(host, '01')", true],
    ["contains(host, 'b-0')", true],
    ["contains(host, 'B-0')", false],
    ["starts(host, '')", true],
    ['starts(host, 1)', false],
    ["starts(missing, '')", false],
    ["NOT starts(missing, 'x')", true],
    ['length(astral) == 2', true],
    ['length(missing) == 0', false],
    ['length(empty) == 0', true],
    ["length('abc' + 'efg') == 6", true],
    ["os + '-' + node == 'linux-1'", true],
    ['os + 1 == 1', false],
    ['to_int(age) + 2 == 42', true],
    ['to_int(os) == 0', false],
    ['to_int(age) IN (39, 40.0)', true],
    ["if_else(os == 'linux', node, missing) == '1'", true],
    ["if_else(os == 'mac', missing, node) == '1'", true],
    ["if_else(missing, 'x', 'y') == 'y'", true],
    ["if_not_exists(dc, 'none') == 'none'", true],
    ["if_not_exists(os, 'none') == 'linux'", true],
    ['true', true],
    ['True AND NOT False', true],
    ['os', false],
    ['NOT os', true],
    ["os == 'linux' AND node", false],
    ['1 == 1.0', true],
    ['2 + 3 * 4 == 14', true],
    ['7 / 2 == 3', true],
    ['-7 / 2 == -3', true],
    ['-7 % 2 == -1', true],
    ['7 / 2.0 == 3.5', true],
    ['1 / 0 == 0', false],
    ['NOT (1 / 0 == 0)', true],
    ['9223372036854775807 + 1 == 0', false],
    ['max(1.0, 9) == 9 AND min(1, 9.0) == 1', true],
    ["max('a', 'b', 'c') == 'c'", true],
    ['max(1==1, 0) == true', true],
    ["max('a', 1) == 1", false],
    ['max(os) == 1', false],
    ['(1 == 1) == (2 == 2)', true],
    ['(1 == 1) > (1 == 2)', true],
    ['true == 1', true],
    ["true == 'true'", false],
    ['nan != nan', true],
    ['nan == nan', false],
    ['isnan(nan)', true],
    ['isnan(missing)', false],
    ['nanaszero(nan) == 0', true],
    ['1:0 < 1:1', true],
    ['1:0 == 1', false],
    ["find(host, '-') == 3", true],
    ["find(astral, '😀') == 1", true],
    ['sqrt(16) == 4', true],
    ["str(1.5) == '1.5'", true],
    ['node[0] == 1', false],
    ["length(init_array(3, 'int')) == 3", true],
    ["os == 'a' OR os == 'b' AND node == '1'", false],
    ["(os == 'linux' OR os == 'b') AND node == '1'", true],
  ])('%s is %s', (text, expected) => {
    expect(matches(text)).toBe(expected)
  })

  test('a label cannot take the place of an inherited property', () => {
    expect(matches('exists(constructor)')).toBe(false)
    expect(matches("toString == 'x'")).toBe(false)
  })
})

describe('scalars', () => {
  test('text order is the order of UTF-8 bytes', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.string({ unit: 'binary' }), (left, right) => {
        expect(Math.sign(compareText(left, right))).toBe(Buffer.compare(Buffer.from(left), Buffer.from(right)))
      }),
      { numRuns: 2000 },
    )
    expect(compareText('😀', '\uffff')).toBeGreaterThan(0)
    expect(compareText('a', 'ab')).toBeLessThan(0)
  })

  test('int64 compares exactly with int64, and with float64 as float64', () => {
    expect(compareScalars('<', 9007199254740992n, 9007199254740993n)).toBe(true)
    expect(compareScalars('==', 9007199254740993n, 9007199254740992)).toBe(true)
  })

  test('a failure says what failed', () => {
    expect(calculate('+', 'a', 1n)).toEqual(new Failure("'+' cannot be applied to a string and an integer"))
    expect(calculate('%', 1n, 0n)).toEqual(new Failure('division by zero'))
    expect(calculate('*', 2n ** 62n, 2n)).toEqual(new Failure('integer overflow'))
    expect(calculate('/', 1, 0n)).toBe(Number.POSITIVE_INFINITY)
    expect(toInteger(2 ** 63)).toEqual(new Failure('integer overflow'))
    expect(toInteger(Number.NaN)).toEqual(new Failure('integer overflow'))
    expect(toInteger('-1.9')).toBe(-1n)
    expect(extreme('max', [1n, Number.NaN])).toBeNaN()
    expect(extreme('max', [true, 3n])).toBe(3n)
    expect(extreme('max', [true, 0n])).toBe(true)
    expect(extreme('min', [{ timeNs: 1n }, { timeNs: 2n }])).toBeInstanceOf(Failure)
  })
})

/** Trees as the parser makes them. */
function arbitraryTree(depth: number): fc.Arbitrary<Expression> {
  const name = fc.oneof(
    fc.stringMatching(/^[A-Za-z_][A-Za-z0-9_]{0,5}$/),
    fc.constantFrom('min', 'and', 'has space', 'ä', 'a.b', '{x}', "it's"),
  )
  const leaf: fc.Arbitrary<Expression> = fc.oneof(
    fc.oneof(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), fc.bigInt({ min: -9n, max: 9n })).map(literal),
    fc.double().map(literal),
    fc.boolean().map(literal),
    fc.string({ unit: 'binary' }).map(literal),
    fc.constantFrom("'", '\\', "\\'", '"', '\\\\"').map(literal),
    fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }).map((timeNs) => literal({ timeNs })),
    name.map(attribute),
    fc.stringMatching(/^[^}]{0,4}$/).map((placeholder) => ({ kind: 'placeholder' as const, name: placeholder })),
  )
  if (depth === 0) return leaf
  const part = arbitraryTree(depth - 1)
  const terms = <Operator extends string>(...operators: Operator[]) =>
    fc.array(fc.record({ operator: fc.constantFrom(...operators), operand: part }), { minLength: 1, maxLength: 3 })
  const list = (minLength: number) => fc.array(part, { minLength, maxLength: 3 })
  return fc.oneof(
    leaf,
    fc.record({ kind: fc.constant('element' as const), array: name, index: part }),
    fc.record({ kind: fc.constant('range' as const), array: name, start: part, end: part }),
    fc.record({ kind: fc.constant('negate' as const), operand: part }),
    fc.record({ kind: fc.constant('not' as const), operand: part }),
    fc.record({ kind: fc.constant('sum' as const), first: part, rest: terms('+', '-') }),
    fc.record({ kind: fc.constant('product' as const), first: part, rest: terms('*', '/', '%') }),
    fc.record({
      kind: fc.constant('compare' as const),
      operator: fc.constantFrom('==' as const, '!=' as const, '<' as const, '<=' as const, '>' as const, '>=' as const),
      left: part,
      right: part,
    }),
    fc.record({ kind: fc.constant('in' as const), operand: part, choices: list(1) }),
    fc.record({ kind: fc.constantFrom('and' as const, 'or' as const), operands: list(2) }),
    fc.constantFrom('max' as const, 'starts' as const, 'if_else' as const, 'isnan' as const).chain((name) =>
      fc
        .array(part, {
          minLength: functionRules[name].min,
          maxLength: Math.min(functionRules[name].max, 4),
        })
        .map((operands) => ({ kind: 'call' as const, function: name, operands })),
    ),
    name.map((exists) => ({ kind: 'call' as const, function: 'exists' as const, operands: [attribute(exists)] })),
  )
}

describe('printing', () => {
  test('a printed tree reads back as the same tree', () => {
    fc.assert(
      fc.property(arbitraryTree(4), (tree) => {
        const condition: Expression = { kind: 'not', operand: tree }
        expect(parseCondition(printExpression(condition), { template: true })).toEqual(condition)
      }),
      { numRuns: 3000 },
    )
  })

  test('a printed update reads back as the same actions', () => {
    const name = fc.stringMatching(/^[A-Za-z][A-Za-z0-9_]{0,5}$/)
    const part = arbitraryTree(2)
    const target = fc.oneof(
      name.map((attribute) => ({ attribute, start: null, end: null })),
      fc.record({ attribute: name, start: part, end: fc.constant(null) }),
      fc.record({ attribute: name, start: part, end: part }),
    )
    const action: fc.Arbitrary<UpdateAction> = fc.oneof(
      fc.record({ kind: fc.constant('remove' as const), attribute: name }),
      fc.record({ kind: fc.constant('set' as const), target, value: part }),
    )
    fc.assert(
      fc.property(fc.array(action, { maxLength: 4 }), (actions) => {
        expect(parseUpdate(printUpdate(actions), { template: true })).toEqual(actions)
      }),
      { numRuns: 1000 },
    )
  })
})

test('random texts give a tree that works or a FramesError', () => {
  const pieces = [
    ...['a', '1', "'x'", '"', "'", '\\', '(', ')', '[', ']', '..', ',', ';', '=', '==', '!=', '<>', '<', '+', '-', '*'],
    ...[
      ' and ',
      ' OR ',
      ' NOT ',
      ' in ',
      '(',
      ')',
      'exists(a)',
      'starts(',
      'max(',
      '1:0',
      '1.5',
      'e9',
      '`',
      '{a}',
      ' ',
    ],
    ...['true', 'nan', 'if_else(', 'SET ', 'REMOVE ', 'delete(', '9'.repeat(20), 'blob(', '__name__'],
  ]
  let accepted = 0
  fuzz(100_000, pieces, (text) => {
    for (const run of [
      () => compileLabelFilter(parseFilter(text))((name) => (name === 'a' ? '1' : undefined)),
      () => parseCondition(printExpression(parseCondition(text, { template: true })), { template: true }),
      () => parseUpdate(text, { template: true }),
    ]) {
      try {
        run()
        accepted++
      } catch (error) {
        if (!(error instanceof FramesError)) throw error
      }
    }
  })
  expect(accepted).toBeGreaterThan(1000)
})
