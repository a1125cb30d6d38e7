import { describe, expect, test } from 'vitest'
import {
  createSchema,
  decodeSchema,
  encodeSchema,
  validateLabelName,
  validateMetricName,
} from '../dist/engine/backends/tsdb/schema.js'
import { floatText, plainFloatText, valueText } from '../dist/engine/frame/value-text.js'
import type { CreateRequest } from '../dist/engine/requests.js'
import { messageOf } from './fuzz.js'

function create(fields: Partial<CreateRequest>) {
  return createSchema({ backend: 'tsdb', table: 't', rate: '1/m', ...fields })
}

function refusal(fields: Partial<CreateRequest>): string {
  const fix = ' Correct the named parameter.'
  const message = messageOf(() => create(fields))
  expect(message.endsWith(fix)).toBe(true)
  return message.slice(0, -fix.length)
}

describe('rate', () => {
  test.each([
    ['1/s', 1, 48],
    ['1/m', 66, 3168],
    ['10/m', 6, 288],
    ['12/m', 5, 240],
    ['20/m', 3, 144],
    ['66/m', 1, 48],
    ['1/h', 4000, 192000],
    ['2/h', 2000, 96000],
    ['50/h', 80, 3840],
    ['2001/h', 1, 96],
    ['4000/h', 1, 48],
  ])('%s gives chunks of %i h and partitions of %i h', (rate, chunkHours, partitionHours) => {
    expect(create({ rate })).toMatchObject({ rate, chunkHours, partitionIntervalMs: partitionHours * 3_600_000 })
  })

  test.each([
    ['67/m', 4020],
    ['2/s', 7200],
    ['9223372036854775807/s', 33204139332677192905200n],
  ])('%s is too high', (rate, perHour) => {
    expect(refusal({ rate })).toBe(
      `failed to create a TSDB schema: Failed to calculate the chunk interval.: the samples ingestion rate (${perHour}/h) is too high.`,
    )
  })

  test.each([undefined, ''])('it is required (%s)', (rate) => {
    const message = messageOf(() => createSchema({ backend: 'tsdb', table: 't', ...(rate === '' ? { rate } : {}) }))
    expect(message).toMatch(/^Must specify 'rate' attribute to specify maximum sample rate, e\.g\. '1\/m'\./)
  })

  const format = (rate: string) =>
    `failed to create a TSDB schema: Invalid samples ingestion rate (${rate}).: Invalid samples ingestion rate. The rate must be of the format "[0-9]+/[smh]". For example, "12/m"`

  test.each(['1', '/m', '1m', '1/d', '1/M', '1/', 'abc', '1/mm'])('%s has a wrong format', (rate) => {
    expect(refusal({ rate })).toBe(`${format(rate)}.`)
  })

  test.each(['1.5/m', 'x/m', ' 1/m', '1 /m', '9223372036854775808/s'])('the count of %s is no integer', (rate) => {
    expect(refusal({ rate })).toContain(`${format(rate)}: parsing "${rate.slice(0, -2)}": `)
  })

  test.each([
    ['0/m', 0],
    ['-5/s', -5],
    ['-5/x', -5],
  ])('the count of %s is not positive', (rate, count) => {
    expect(refusal({ rate })).toBe(
      `failed to create a TSDB schema: Invalid samples ingestion rate (${rate}).: invalid samples ingestion rate (${count}). The rate cannot have a negative number of samples.`,
    )
  })
})

describe('aggregates', () => {
  test.each([
    ['', []],
    [' , ,', []],
    ['count', ['count']],
    ['last', ['count', 'last']],
    ['rate', ['count', 'last']],
    ['avg', ['count', 'sum']],
    ['stddev', ['count', 'sum', 'sqr']],
    ['stdvar', ['count', 'sum', 'sqr']],
    ['min, max', ['count', 'max', 'min']],
    [' last ,avg,,', ['count', 'sum', 'last']],
    ['*', ['count', 'sum', 'sqr', 'max', 'min', 'last']],
  ])('"%s" needs %j', (aggregates, raw) => {
    expect(create({ aggregates }).aggregates).toEqual(raw)
  })

  test.each(['first', 'AVG', 'sum_all', 'constructor'])('%s is unknown', (name) => {
    expect(refusal({ aggregates: `sum,${name}` })).toBe(
      `failed to create a TSDB schema: Failed to parse aggregates list 'sum,${name}'.: invalid aggragate type: ${name}.`,
    )
  })
})

describe('aggregation granularity', () => {
  test.each([
    ['', 3_600_000],
    ['10m', 600_000],
    ['15m', 900_000],
    ['30m', 1_800_000],
    ['1h', 3_600_000],
    ['1', 3_600_000],
    ['2h', 7_200_000],
    ['1d', 86_400_000],
    ['2d', 172_800_000],
  ])('"%s" is accepted', (aggregationGranularity, granularityMs) => {
    expect(create({ aggregationGranularity }).aggregationGranularityMs).toBe(granularityMs)
  })

  test.each(['7m', '5h', '36h', '0m', '0', 'm'])('%s does not fit a day', (aggregationGranularity) => {
    expect(refusal({ aggregationGranularity })).toBe(
      'failed to create a TSDB schema: the aggregation granularity should be a divisor or a dividend of 1 day. Examples: "10m"; "30m"; "2h".',
    )
  })

  test('what is no duration is refused with both texts', () => {
    expect(refusal({ aggregationGranularity: '1.5h' })).toContain(
      "failed to create a TSDB schema: Failed to parse aggregation granularity '1.5h'.: invalid duration. Accepted pattern: ",
    )
  })

  test.each([
    ['1/h', 'sum', '1h', false],
    ['1/h', '', '1h', true],
    ['2/h', 'sum', '1h', true],
    ['2/h', 'sum', '30m', false],
  ])('rate %s with "%s" and %s', (rate, aggregates, aggregationGranularity, accepted) => {
    if (accepted) create({ rate, aggregates, aggregationGranularity })
    else {
      expect(refusal({ rate, aggregates, aggregationGranularity })).toBe(
        "failed to create a TSDB schema: the size of the aggregation-granularity interval isn't sufficiently larger than the specified ingestion rate. Try increasing the granularity to get the expected pre-aggregation performance impact.",
      )
    }
  })
})

describe('duplicates', () => {
  const fields = (...values: (string | number)[]) => ({
    schema: { fields: values.map((duplicates) => ({ name: 'options', properties: { duplicates } })) },
  })

  test('the newest write wins by default', () => {
    expect(create({}).duplicates).toBe('last')
    expect(
      create({ schema: { fields: [{ name: 'x', properties: { other: 'first' } }, { name: 'y' }] } }).duplicates,
    ).toBe('last')
  })

  test.each(['last', 'first', 'error'])('a property of any schema field chooses %s', (policy) => {
    expect(create(fields(policy)).duplicates).toBe(policy)
  })

  test.each(['newest', 'LAST', '', 1])('another value (%s) is an error that names the three', (value) => {
    expect(refusal(fields(value))).toMatch(/property 'duplicates' must be 'last', 'first' or 'error', not /)
  })

  test('two policies at once are an error', () => {
    expect(refusal(fields('first', 'error'))).toContain("given as 'first' and as 'error'")
  })
})

describe('the stored schema', () => {
  const schema = create({ aggregates: 'avg', aggregationGranularity: '30m' })

  test('reads back as it was', () => {
    expect(decodeSchema(encodeSchema(schema))).toEqual(schema)
  })

  test('of a newer version is refused as such', () => {
    expect(() => decodeSchema(JSON.stringify({ ...schema, version: 2 }))).toThrow('has version 2, not 1')
  })

  test.each(['', '{', 'null', '[]', '{"version":1}', encodeSchema(schema).replace('count', 'counts')])(
    'damaged (%s) is an error',
    (text) => {
      expect(messageOf(() => decodeSchema(text))).toMatch(/^a (stored )?tsdb schema/)
    },
  )
})

describe('names', () => {
  test.each(['cpu', ' cpu ', 'cpu:load', ':', '_x1', 'A'])('"%s" is a metric name', (name) => {
    expect(validateMetricName(name)).toBe(name.trim())
  })

  test.each(['', '  '])('an empty metric name (%j) is refused', (name) => {
    expect(messageOf(() => validateMetricName(name))).toMatch(/^metric name should not be empty\. /)
  })

  test.each(['1x', 'a-b', 'a.b', 'a b', 'é', 'a\n\n.'])('%j is no metric name', (name) => {
    expect(messageOf(() => validateMetricName(name))).toContain(
      `metric name contains illegal characters. Name '${name}' should conform to '^[a-zA-Z_:]([a-zA-Z0-9_:])*$'.`,
    )
  })

  test.each(['os', '_x', 'A1', '__name__'])('%s is a label name', (name) => validateLabelName(name))

  test('an empty label name is refused', () => {
    expect(messageOf(() => validateLabelName(''))).toMatch(/^label name should not be empty\. /)
  })

  test.each(['1x', 'a:b', ' a', 'a\n'])('%j is no label name', (name) => {
    expect(messageOf(() => validateLabelName(name))).toContain(
      `label name contains illegal characters. Label name '${name}' should conform to '^[a-zA-Z_]([a-zA-Z0-9_])*$'.`,
    )
  })

  test.each(['_name', '_lset', '_enc', '_maxtime'])('the label name %s is reserved', (name) => {
    expect(() => validateLabelName(name)).toThrow(`label name '${name}' is reserved`)
  })

  test('names have a longest length', () => {
    expect(() => validateMetricName('x'.repeat(65537))).toThrow('metric name is longer than 65536 bytes')
    expect(() => validateLabelName('x'.repeat(65537))).toThrow('label name is longer than 65536 bytes')
  })
})

describe('texts of values', () => {
  test.each([
    [0, '0', '0'],
    [-0, '-0', '-0'],
    [5, '5', '5'],
    [3.5, '3.5', '3.5'],
    [3.22, '3.22', '3.22'],
    [-0.25, '-0.25', '-0.25'],
    [0.0001, '0.0001', '0.0001'],
    [0.00001, '1e-05', '0.00001'],
    [-1.5e-7, '-1.5e-07', '-0.00000015'],
    [1e20, '100000000000000000000', '100000000000000000000'],
    [1e21, '1e+21', '1000000000000000000000'],
    [-1.25e100, '-1.25e+100', `-125${'0'.repeat(98)}`],
    [5e-324, '5e-324', `0.${'0'.repeat(323)}5`],
    [Number.NaN, 'NaN', 'NaN'],
    [Number.POSITIVE_INFINITY, '+Inf', '+Inf'],
    [Number.NEGATIVE_INFINITY, '-Inf', '-Inf'],
  ])('%d with and without an exponent', (value, text, plain) => {
    expect([floatText(value), plainFloatText(value)]).toEqual([text, plain])
  })

  test('the other types have one form', () => {
    expect(valueText(17n, 'allowed')).toBe('17')
    expect(valueText(true, 'allowed')).toBe('true')
    expect(valueText('a=b', 'never')).toBe('a=b')
    expect(valueText({ timeNs: 1514764800120000000n }, 'never')).toBe('2018-01-01T00:00:00.12Z')
    expect([valueText(1e21, 'never').length, valueText(1e21, 'allowed')]).toEqual([22, '1e+21'])
  })

  test('a plain float reads back as the same float', () => {
    for (const value of [Math.PI, 1 / 3, 1.7976931348623157e308, 2.2250738585072014e-308, 123456789.12345679]) {
      expect(Number(plainFloatText(value))).toBe(value)
      expect(Number(floatText(-value))).toBe(-value)
    }
  })
})
