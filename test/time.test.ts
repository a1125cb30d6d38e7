import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { FramesError } from '../dist/engine/errors.js'
import { formatTimeNs, parseDurationMs, parseInt64, parseRfc3339, parseTimeMs } from '../dist/engine/time.js'
import { fuzz, messageOf } from './fuzz.js'

const nowMs = Date.UTC(2024, 1, 29, 12, 0, 0, 123)

describe('times', () => {
  test.each([
    ['now', nowMs],
    ['now-', nowMs],
    ['now+', nowMs],
    ['now-5m', nowMs - 300_000],
    ['now+2d', nowMs + 172_800_000],
    ['now-1', nowMs - 3_600_000],
    ['now-m', nowMs],
    ['0', 0],
    ['1451748866', 1451748866],
    ['+5', 5],
    ['-5', -5],
    ['-9007199254740993', -9007199254740991],
    ['9223372036854775807', 9007199254740991],
    ['2020-07-20T14:55:56.770808Z', Date.UTC(2020, 6, 20, 14, 55, 56, 770)],
    ['2020-07-20T14:55:56Z', Date.UTC(2020, 6, 20, 14, 55, 56)],
    ['2020-07-20T14:55:56.5000000+02:30', Date.UTC(2020, 6, 20, 12, 25, 56, 500)],
    ['1969-12-31T23:59:59.9999-00:00', -1],
    ['2016-02-29T23:59:59.999999999999Z', Date.UTC(2016, 1, 29, 23, 59, 59, 999)],
    ['0001-01-01T00:00:00Z', -62135596800000],
    ['0000-01-01T00:00:00Z', -62167219200000],
    ['9999-12-31T23:59:59Z', 253402300799000],
  ])('%s is read', (text, timeMs) => {
    expect(parseTimeMs(text, nowMs)).toBe(timeMs)
  })

  test.each([
    '',
    ' now',
    'nowhere',
    'NOW',
    '2020-07-20',
    '2020-07-20 14:55:56Z',
    '2020-07-20T14:55:56',
    '2020-07-20T14:55:56.Z',
    '2020-07-20t14:55:56z',
    '2020-13-20T14:55:56Z',
    '2020-00-20T14:55:56Z',
    '2021-02-29T14:55:56Z',
    '1900-02-29T14:55:56Z',
    '2020-04-31T14:55:56Z',
    '2020-07-20T24:00:00Z',
    '2020-07-20T14:60:00Z',
    '2020-07-20T14:55:60Z',
    '2020-07-20T14:55:56+24:00',
    '1.5',
    '1e3',
    '9223372036854775808',
  ])('%s is not a time', (text) => {
    const message = messageOf(() => parseTimeMs(text, nowMs))
    if (text.startsWith('now')) expect(message).toMatch(/^Could not parse the pattern following 'now-'\.: /)
    else expect(message).toMatch(/^Invalid time string - not an RFC 3339 time format\.: /)
    expect(message.length).toBeLessThan(500)
  })

  test('a long text is refused without being repeated', () => {
    for (const text of ['9'.repeat(1_000_000), `2020-07-20T14:55:56.${'9'.repeat(1_000_000)}`, 'x'.repeat(1_000_000)]) {
      expect(messageOf(() => parseTimeMs(text, nowMs)).length).toBeLessThan(600)
    }
  })

  test('a bad duration after now names both', () => {
    const message = messageOf(() => parseTimeMs('now-1.5h', nowMs))
    expect(message).toContain(
      "Could not parse the pattern following 'now-'.: invalid duration. Accepted pattern: [0-9]+",
    )
  })

  test('now followed by another character than a sign is refused', () => {
    expect(messageOf(() => parseTimeMs('now*5m', nowMs))).toMatch(/^Unsupported time format: now\*5m\. /)
  })

  test('a time that leaves the range of safe integers is refused', () => {
    expect(() => parseTimeMs('now-9007199254740s', nowMs)).not.toThrow()
    expect(() => parseTimeMs(`now+9007199254740s`, nowMs)).toThrow('value out of range')
  })
})

describe('durations', () => {
  test.each([
    ['', 0],
    ['m', 0],
    ['6s', 6_000],
    ['5m', 300_000],
    ['1h', 3_600_000],
    ['2d', 172_800_000],
    ['5', 18_000_000],
    ['0', 0],
    ['0d', 0],
    ['+5m', 300_000],
  ])('%s is %i ms', (text, durationMs) => {
    expect(parseDurationMs(text)).toBe(durationMs)
  })

  test.each(['1.5h', '1h30m', '1dhm', '5ms', '1w', 'x', ' 5m', '5 m', '5M', '0x5m', '1_000s'])('%s is none', (text) => {
    expect(messageOf(() => parseDurationMs(text))).toMatch(
      /^invalid duration\. Accepted pattern: \[0-9\]\+\[mhd\]\. Examples: "30d" \(30 days\); "5m" \(5 minutes\): parsing /,
    )
  })

  test('a negative one shows its number without the unit', () => {
    expect(messageOf(() => parseDurationMs('-5m'))).toMatch(/^The specified duration \(-5\) is negative\. [A-Z]/)
  })

  test('one that overflows is an error', () => {
    expect(() => parseDurationMs('9223372036854775807d')).toThrow('value out of range')
    expect(() => parseDurationMs('9007199254741s')).toThrow('value out of range')
    expect(parseDurationMs('9007199254740s')).toBe(9007199254740000)
  })
})

describe('int64 texts', () => {
  test.each([
    ['9223372036854775807', 9223372036854775807n],
    ['-9223372036854775808', -9223372036854775808n],
    ['+00000000000000000000000007', 7n],
    ['-0', 0n],
    ['9223372036854775808', 'out of range'],
    ['-9223372036854775809', 'out of range'],
    ['', 'not an integer'],
    ['-', 'not an integer'],
    ['1\n', 'not an integer'],
  ])('%s', (text, expected) => expect(parseInt64(text)).toBe(expected))
})

describe('printed times', () => {
  test.each([
    [0n, '1970-01-01T00:00:00Z'],
    [1n, '1970-01-01T00:00:00.000000001Z'],
    [-1n, '1969-12-31T23:59:59.999999999Z'],
    [-1_000_000_000n, '1969-12-31T23:59:59Z'],
    [1514764800123000000n, '2018-01-01T00:00:00.123Z'],
    [2n ** 63n - 1n, '2262-04-11T23:47:16.854775807Z'],
    [-(2n ** 63n), '1677-09-21T00:12:43.145224192Z'],
  ])('%i is %s', (timeNs, text) => {
    expect(formatTimeNs(timeNs)).toBe(text)
  })

  test('every int64 time reads back as printed', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), (timeNs) => {
        expect(parseRfc3339(formatTimeNs(timeNs))).toBe(timeNs)
      }),
    )
  })

  test('every date agrees with the calendar of the platform', () => {
    fc.assert(
      fc.property(
        fc.date({ min: new Date(-62167219200000), max: new Date(253402300799999), noInvalidDate: true }),
        (date) => {
          expect(parseTimeMs(date.toISOString(), 0)).toBe(date.getTime())
        },
      ),
    )
  })
})

test('random texts give a number or a FramesError', () => {
  fuzz(
    100_000,
    ['now', '-', '+', '5', '2020-07-20', 'T14:55:56', 'Z', '.5', 's', 'm', 'h', 'd', ':', '9'.repeat(20)],
    (text) => {
      for (const parse of [() => parseTimeMs(text, nowMs), () => parseDurationMs(text)]) {
        try {
          const value = parse()
          if (!Number.isSafeInteger(value)) throw new Error(`${text} gave ${value}`)
        } catch (error) {
          if (!(error instanceof FramesError)) throw error
        }
      }
    },
  )
})
