import { describe, expect, test } from 'vitest'
import { FramesError } from '../dist/engine/errors.js'
import { parseAggregator, parseInterpolator } from '../dist/engine/expression/aggregators.js'
import { compileLabelFilter } from '../dist/engine/expression/evaluate-labels.js'
import { printExpression } from '../dist/engine/expression/print.js'
import { parseQuery, type SqlItem } from '../dist/engine/expression/sql.js'
import { parseSql } from '../dist/engine/index.js'
import { expressionLengthMax } from '../dist/engine/limits.js'
import { fuzz, messageOf } from './fuzz.js'

const item = (parts: Partial<SqlItem>): SqlItem => ({
  metric: null,
  function: null,
  acrossSeries: false,
  interpolator: null,
  toleranceMs: null,
  name: null,
  ...parts,
})

/** The one item of a query. */
function only(text: string): SqlItem {
  const { items } = parseQuery(`select ${text} from t`)
  expect(items.length).toBe(1)
  return items[0]
}

describe('items', () => {
  test.each<[string, Partial<SqlItem>]>([
    ['*', {}],
    ['t.*', {}],
    ['cpu', { metric: 'cpu', name: 'cpu' }],
    ['cpu AS c', { metric: 'cpu', name: 'c' }],
    ['cpu c', { metric: 'cpu', name: 'c' }],
    ["cpu as 'my c'", { metric: 'cpu', name: 'my c' }],
    ['`node:load`', { metric: 'node:load', name: 'node:load' }],
    ['`select`', { metric: 'select', name: 'select' }],
    ['a.b.cpu', { metric: 'cpu', name: 'cpu' }],
    ['min', { metric: 'min', name: 'min' }],
    ['avg(cpu)', { metric: 'cpu', function: 'avg', name: 'avg(cpu)' }],
    ['avg ( `cpu` ) as cpu', { metric: 'cpu', function: 'avg', name: 'cpu' }],
    ['sum_all(cpu)', { metric: 'cpu', function: 'sum', acrossSeries: true, name: 'sum(cpu)' }],
    ['max(*)', { function: 'max' }],
    ['count_all(*)', { function: 'count', acrossSeries: true }],
    ["linear(cpu,'10m')", { metric: 'cpu', interpolator: 'linear', toleranceMs: 600_000, name: 'cpu' }],
    ['LIN(cpu)', { metric: 'cpu', interpolator: 'linear', name: 'cpu' }],
    ['nan(cpu)', { metric: 'cpu', interpolator: 'nan', name: 'cpu' }],
    ['max(prev_val(cpu))', { metric: 'cpu', function: 'max', interpolator: 'prev_val', name: 'max(cpu)' }],
    [
      "max(Prev_Val(cpu, '1h')) AS x",
      { metric: 'cpu', function: 'max', interpolator: 'prev_val', toleranceMs: 3_600_000, name: 'x' },
    ],
  ])('%s', (text, parts) => {
    expect(only(text)).toEqual(item(parts))
  })

  test.each([
    ['AVG(cpu)', 'invalid aggragate type: AVG'],
    ['first(cpu)', 'invalid aggragate type: first'],
    ['max(avg(cpu))', 'could not parse expr'],
    ['linear(max(x))', 'could not parse expr'],
    ['linear(*)', 'could not parse expr'],
    ['max(foo(cpu))', 'unknown/unsupported interpulation function foo'],
    ['count()', 'unssoported number of parameters for function count'],
    ['linear()', 'unssoported number of parameters for function linear'],
    ["linear(cpu, '1m', '2m')", 'unssoported number of parameters for function linear'],
    ["avg(cpu, '1m')", 'unssoported number of parameters for function avg'],
    ['max(*) as m', 'cannot alias a wildcard'],
    ['* m', 'cannot alias a wildcard'],
    ["linear(cpu, '1x')", 'invalid duration. Accepted pattern: '],
    ['linear(cpu, 5)', 'syntax error at position 20: expected a duration in quotes'],
    ['5', "unknown columns type - '5'"],
    ["'cpu'", 'unknown columns type - a string'],
    ['cpu + 1', "unknown columns type - '+'"],
    ['(cpu)', "unknown columns type - '('"],
    ['', "syntax error at position 9: expected a column, found 'from'"],
    ['cpu as', "syntax error at position 15: expected an alias, found 'from'"],
    ["cpu as ''", 'syntax error at position 15: expected an alias, found a string'],
    ['cpu, cpu', "column name 'cpu' appears more than once in select query"],
    ['avg(cpu), sum(cpu) as `avg(cpu)`', "column name 'avg(cpu)' appears more than once in select query"],
    ['sum(cpu), sum_all(cpu)', "column name 'sum(cpu)' appears more than once in select query"],
    ['max(*), max(*)', "column name 'max(*)' appears more than once in select query"],
    ['avg(cpu) as a, avg(cpu) as b', "function 'avg' for metric 'cpu' was requested multiple time"],
    ['avg_all(cpu) as a, avg_all(cpu) as b', "function 'avg_all' for metric 'cpu' was requested multiple time"],
    ['cpu as a, cpu as b', "metric 'cpu' was requested multiple time"],
    [
      'max(prev_val(cpu)), min(linear(cpu))',
      'multiple interpolation for the same metric are not supported, got prev_val and linear',
    ],
    [
      'linear(cpu) as a, prev_val(cpu) as b',
      'multiple interpolation for the same metric are not supported, got linear and prev_val',
    ],
    [
      'linear(cpu), prev_val(cpu)',
      'multiple interpolation for the same metric are not supported, got linear and prev_val',
    ],
    ["linear(cpu, '1m'), linear(cpu, '2m') as b", 'different interpolation tolerances for the same metric'],
    ['linear(cpu) as a, linear(cpu) as b', "metric 'cpu' was requested multiple time"],
    [
      "max(prev_val(cpu, '1m')), min(prev_val(cpu, '1h'))",
      'different interpolation tolerances for the same metric are not supported, got 60000 and 3600000',
    ],
  ])('%s is refused', (text, message) => {
    expect(messageOf(() => parseQuery(`select ${text} from t`))).toContain(message)
  })

  test.each([
    ['cpu, first(cpu)', 'stdvar, each also with _all behind it) at position 13'],
    ['max(avg(cpu))', 'could not parse expr at position 12'],
    ['max(foo(cpu))', 'unknown/unsupported interpulation function foo at position 12'],
    ['count()', 'unssoported number of parameters for function count at position 14'],
    ["linear(cpu, '1x')", 'parsing "1x": invalid syntax at position 20'],
    ['max(*) as m', 'cannot alias a wildcard at position 15'],
    ['cpu, a as cpu', "column name 'cpu' appears more than once in select query at position 13"],
    ['avg(cpu) as a, avg(cpu) as b', "function 'avg' for metric 'cpu' was requested multiple time at position 23"],
    ['max(lin(cpu)), min(nan(cpu))', 'got linear and nan at position 23'],
    ["max(lin(cpu,'1s')), min(lin(cpu,'2s'))", 'got 1000 and 2000 at position 28'],
  ])('%s: the error says where', (text, message) => {
    expect(messageOf(() => parseQuery(`select ${text} from t`))).toContain(message)
  })

  test.each([
    ['select cpu from a, b', 'is not supported (got 2) at position 20'],
    ['select cpu from a x join b', 'is not supported (got 2) at position 21'],
    ['select cpu from (select cpu from t)', 'not a table in FROM field at position 17'],
  ])('%s: the error says where', (text, message) => {
    expect(messageOf(() => parseQuery(text))).toContain(message)
  })

  test('HAVING is any condition on functions, up to the clause behind it, and changes nothing', () => {
    const query = parseQuery(
      'select avg(cpu) from t group by os having count(cpu) > 1 and (sum(cpu) < 5) order by time;',
    )
    expect(query).toEqual(parseQuery('select avg(cpu) from t group by os order by time'))
  })

  test('columns of one metric may leave the interpolator to another', () => {
    const { items } = parseQuery(
      "select max(prev_val(cpu, '1m')), min(cpu), avg(prev_val(cpu)), sum(linear(mem)) from t",
    )
    expect(items.map((one) => one.name)).toEqual(['max(cpu)', 'min(cpu)', 'avg(cpu)', 'sum(mem)'])
  })

  test('an alias may be the name of a metric', () => {
    const { items, table, where } = parseQuery("select avg(cpu) as cpu, avg(disk) from 'mytsdb' where node='1'")
    expect(items.map((one) => one.name)).toEqual(['cpu', 'avg(disk)'])
    expect(table).toBe('mytsdb')
    expect(where && printExpression(where)).toBe("node == '1'")
  })

  test('wildcards stand beside columns', () => {
    expect(parseQuery('select max(*), min(cpu), *').items.map((one) => one.name)).toEqual([null, 'min(cpu)', null])
  })
})

describe('clauses', () => {
  test('all of them at once', () => {
    const query = parseQuery(
      "SELECT avg(cpu) AS cpu_avg, max(disk) FROM 'a/b' x WHERE node='1' AND os<>\"mac\" GROUP BY os, `node`, t.dc HAVING max(cpu)=1 ORDER BY time DESC, os ASC, dc LIMIT 10;",
    )
    expect(query).toMatchObject({
      table: 'a/b',
      groupBy: ['os', 'node', 'dc'],
      orderBy: [
        { name: 'time', descending: true },
        { name: 'os', descending: false },
        { name: 'dc', descending: false },
      ],
      limit: 10n,
    })
    expect(query.where && printExpression(query.where)).toBe("node == '1' AND os != 'mac'")
  })

  test('none of them', () => {
    expect(parseQuery('select distinct cpu')).toEqual({
      items: [item({ metric: 'cpu', name: 'cpu' })],
      table: null,
      where: null,
      groupBy: [],
      orderBy: [],
      limit: null,
    })
  })

  test.each([
    ['from t', 't'],
    ['FROM `a-b`', 'a-b'],
    ["from 'proj/model-endpoints/x'", 'proj/model-endpoints/x'],
    ['from db.t', 't'],
    ['from t as x', 't'],
    ["from 'it''s'", "it's"],
    ['from "t"', 't'],
  ])('%s', (from, table) => {
    expect(parseQuery(`select cpu ${from}`).table).toBe(table)
  })

  test.each([
    ['select cpu from a, b', 'select from multiple tables is not supported (got 2)'],
    ['select cpu from a, b, c where 1=1', 'select from multiple tables is not supported (got 3)'],
    ['select cpu from a join b on a.x=b.x', 'select from multiple tables is not supported (got 2)'],
    ['select cpu from a left join b', 'select from multiple tables is not supported (got 2)'],
    ['select cpu from (select cpu from t)', 'not a table in FROM field'],
    ['delete from t', 'not a SELECT statement'],
    ['UPDATE t SET a=1', 'not a SELECT statement'],
    ['', "syntax error at position 1: expected 'SELECT', found the end"],
    ['selekt cpu', "syntax error at position 1: expected 'SELECT', found 'selekt'"],
    ['select cpu from a-b', "syntax error at position 18: expected the end of the query, found '-'"],
    ['select cpu from a/b', "syntax error at position 18: expected the end of the query, found '/'"],
    ['select a:b from t', "syntax error at position 9: unexpected character ':'"],
    ["select cpu from t where node=='1'", "syntax error at position 29: expected the end of the query, found '=='"],
    ['select cpu from t where exists(node)', 'syntax error at position 25: EXISTS is not supported'],
    [
      "select cpu from t where os like 'a%'",
      "syntax error at position 28: expected the end of the query, found 'like'",
    ],
    ['select cpu from t where os is null', 'syntax error at position 28'],
    ['select cpu from t where os between 1 and 2', 'syntax error at position 28'],
    ['select cpu from t group os', "syntax error at position 25: expected 'BY', found 'os'"],
    ['select cpu from t group by', 'syntax error at position 27: expected a label, found the end'],
    ['select cpu from t order by time limit x', "syntax error at position 39: expected a number of rows, found 'x'"],
    ['select cpu,, disk from t', "syntax error at position 12: expected a column, found ','"],
    ['select cpu from t;;', "syntax error at position 19: expected the end of the query, found ';'"],
    ['select cpu from t where nosuch(a)', "syntax error at position 25: unknown function 'nosuch'"],
    ["select cpu from t where a = 'x", 'syntax error at position 29: the string has no end'],
    ['select cpu from t having', 'syntax error at position 25: expected a condition, found the end'],
    ['select cpu from t having (max(cpu) > 1', "syntax error at position 39: expected ')', found the end"],
    ['select cpu from t having cpu > 1) limit 1', 'syntax error at position 33: expected the end of the condition'],
  ])('%s is refused', (text, message) => {
    expect(messageOf(() => parseQuery(text))).toContain(message)
  })

  test('a query has a longest length', () => {
    const text = `select ${' '.repeat(expressionLengthMax)}`
    expect(messageOf(() => parseQuery(text))).toContain('a query is longer than 1048576 characters')
  })
})

describe('where', () => {
  const labels: Readonly<Record<string, string>> = { node: '1', app: 'c', endpoint_id: 'x', name: 's', min: '5' }
  const matches = (condition: string) => {
    const { where } = parseQuery(`select a from t where ${condition}`)
    if (where === null) throw new Error('no where')
    return compileLabelFilter(where)((name) => (Object.hasOwn(labels, name) ? labels[name] : undefined))
  }

  test.each([
    ["node='1' AND (app IN('a','b') OR app='c');", true],
    ["endpoint_id='x' AND ((app='p' AND name='q') OR (app='c' AND name='s'));", true],
    ["endpoint_id='x' AND ((app='p' AND name='q') OR (app='r' AND name='s'))", false],
    ['node=1', false],
    ["node<>'1'", false],
    ["node!='2'", true],
    ["not node='2'", true],
    ["starts(name,'s')", true],
    ["t.node = '1'", true],
    ["db.t.`node` = '1'", true],
    ["min = '5'", true],
    ["app >= 'c' and app < 'd'", true],
    ["name in ('it''s', \"s\")", true],
    ["node NOT IN ('1')", false],
    ["__name__ = 'cpu'", false],
  ])('%s is %s', (condition, expected) => {
    expect(matches(condition)).toBe(expected)
  })
})

test('functions and interpolators are known by name', () => {
  expect(parseAggregator('stddev_all')).toEqual({ function: 'stddev', acrossSeries: true })
  expect(() => parseAggregator('*')).toThrow('cannot aggregate *')
  expect(() => parseAggregator('_all')).toThrow('invalid aggragate type: _all')
  expect(parseInterpolator('Lin')).toBe('linear')
  expect(() => parseInterpolator('cubic')).toThrow('unknown/unsupported interpulation function cubic')
})

describe('a SELECT taken apart', () => {
  test.each([
    [
      'SELECT first, last FROM employees WHERE last IS NOT NULL GROUP BY dept',
      {
        table: 'employees',
        columns: ['first', 'last'],
        filter: 'where last is not null',
        groupBy: 'group by dept',
      },
    ],
    ['select a from t;', { table: 't', columns: ['a'], filter: '', groupBy: '' }],
    ["select t.a, `b` from x.'t' as y where (a=1 AND  f( b,'it''s' ) like \"z\")   group BY a,b", null],
    [
      "select t.a, `b` from x.t y where (a=1 AND  f( b,'it''s' ) like \"z\")   group BY a,b",
      {
        table: 't',
        columns: ['a', 'b'],
        filter: "where (a = 1 and f(b, 'it\\'s') like 'z')",
        groupBy: 'group by a, b',
      },
    ],
    [
      "select a from 'p/q' where x not in (1, 2)",
      { table: 'p/q', columns: ['a'], filter: 'where x not in (1, 2)', groupBy: '' },
    ],
  ])('%s', (text, parts) => {
    if (parts === null) expect(() => parseSql(text)).toThrow("expected a name after '.', found a string")
    else expect(parseSql(text)).toEqual(parts)
  })

  test.each([
    ['insert into t values (1)', 'not a SELECT statement'],
    ['select a from t, u', 'nan select from only one table (got 2)'],
    ['select a from t join u', 'not a table select'],
    ['select a from (t, u)', 'not a table select'],
    ['select a from (select b from u)', 'not a table in FROM field'],
    ['select a as b from t', 'SELECT ... AS ... is not supported'],
    ['select a b from t', 'SELECT ... AS ... is not supported'],
    ['select max(a) from t', "unknown columns type - function 'max'"],
    ['select 5 from t', "unknown columns type - '5'"],
    ['select * from t', "unknown SELECT column type - '*'"],
    ['select a', "syntax error at position 9: expected ',' or 'FROM', found the end"],
    ['select a from t where', "syntax error at position 22: expected something after 'WHERE'"],
    ['select a from t where (a = 1', 'expected balanced parentheses'],
    ['select a from t where a) = (1', 'expected balanced parentheses'],
    ['select a from t order by a', "expected 'WHERE', 'GROUP BY' or the end, found 'order'"],
    ['select a from t where b limit 1', "expected 'WHERE', 'GROUP BY' or the end, found 'limit'"],
    ['select a from t group by a having b', "expected 'WHERE', 'GROUP BY' or the end, found 'having'"],
    ['select distinct a from t', "expected a column, found 'distinct'"],
  ])('%s is refused', (text, message) => {
    expect(messageOf(() => parseSql(text))).toContain(message)
  })
})

test('random texts give a query or a FramesError', () => {
  const pieces = [
    ...[
      'select ',
      'SELECT ',
      'a',
      'b',
      ',',
      '*',
      '(',
      ')',
      'avg(',
      'max(',
      'linear(',
      "'1m'",
      ' as ',
      ' from ',
      't',
      "'p/q'",
    ],
    ...[
      ' where ',
      '=',
      '==',
      "'x'",
      ' and ',
      ' in (',
      ' group by ',
      ' order by ',
      ' limit ',
      '5',
      ';',
      '.',
      '`',
      '"',
      "'",
      ' ',
    ],
  ]
  let accepted = 0
  fuzz(100_000, pieces, (tail) => {
    const text = `select ${tail}`
    for (const run of [() => parseQuery(text), () => parseQuery(tail), () => parseSql(text)]) {
      try {
        run()
        accepted++
      } catch (error) {
        if (!(error instanceof FramesError)) throw error
      }
    }
  })
  expect(accepted).toBeGreaterThan(100)
})
