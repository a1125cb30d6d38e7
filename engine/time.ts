// Times and durations as texts: what `start`, `end`, `step` and their like may say, and how a time is printed.
import { FramesError, shortened } from './errors.js'

export const secondMs = 1000
export const minuteMs = 60 * secondMs
export const hourMs = 60 * minuteMs
export const dayMs = 24 * hourMs

const nsPerSecond = 1_000_000_000n
const int64Max = 2n ** 63n - 1n

/**
 * Reads a time: `now`, `now-<duration>`, `now+<duration>`, whole milliseconds since 1970, or RFC 3339 (floored to ms).
 *
 * nowMs  the time of the request, whole milliseconds
 *
 * Returns milliseconds since 1970 UTC, a safe integer. Integers between 2^53 and 2^63, which callers write for "for
 * ever", become the nearest safe integer: no stored time is near them.
 * Throws INVALID_ARGUMENT.
 */
export function parseTimeMs(text: string, nowMs: number): number {
  if (text.startsWith('now')) return parseRelativeTimeMs(text, nowMs)
  // A date has a dash there, which no number has.
  const integer = text[4] === '-' ? 'not an integer' : parseInt64(text)
  if (typeof integer === 'bigint') {
    if (integer > BigInt(Number.MAX_SAFE_INTEGER)) return Number.MAX_SAFE_INTEGER
    if (integer < BigInt(Number.MIN_SAFE_INTEGER)) return Number.MIN_SAFE_INTEGER
    return Number(integer)
  }
  const fields = parseDateTime(text)
  if (typeof fields === 'string') {
    const detail = integer === 'out of range' ? 'value out of range' : fields
    const examples = `write '2024-06-01T12:00:00Z', 'now-1h' or milliseconds since 1970`
    const problem = `parsing time "${shortened(text)}": ${detail}`
    throw invalid(`Invalid time string - not an RFC 3339 time format.: ${problem}; ${examples}`)
  }
  return fields.epochSeconds * secondMs + Math.floor(fields.fractionNs / 1_000_000)
}

function parseRelativeTimeMs(text: string, nowMs: number): number {
  if (text === 'now') return nowMs
  const sign = text[3]
  let durationMs: number
  try {
    durationMs = parseDurationMs(text.slice(4))
  } catch (error) {
    if (error instanceof FramesError) throw error.prefixed("Could not parse the pattern following 'now-'.")
    throw error
  }
  if (sign !== '-' && sign !== '+') throw invalid(`Unsupported time format: ${shortened(text)}`)
  const timeMs = sign === '-' ? nowMs - durationMs : nowMs + durationMs
  if (!Number.isSafeInteger(timeMs)) {
    throw invalid(`Could not parse the pattern following 'now-'.: "${shortened(text)}": value out of range`)
  }
  return timeMs
}

const unitMs: Readonly<Record<string, number>> = { s: secondMs, m: minuteMs, h: hourMs, d: dayMs }

/**
 * Reads a duration: a whole number and one unit (`s`, `m`, `h`, `d`). Without a unit it is hours; without a number, 0.
 *
 * Returns milliseconds, a safe integer of 0 or more. Throws INVALID_ARGUMENT.
 */
export function parseDurationMs(text: string): number {
  const unit = unitMs[text.slice(-1)]
  const numberText = unit === undefined ? text : text.slice(0, -1)
  if (numberText === '') return 0
  const number = parseInt64(numberText)
  if (typeof number === 'string') throw invalidDuration(numberText, number)
  if (number < 0n) throw invalid(`The specified duration (${shortened(numberText)}) is negative.`)
  const durationMs = number * BigInt(unit ?? hourMs)
  if (durationMs > BigInt(Number.MAX_SAFE_INTEGER)) throw invalidDuration(numberText, 'out of range')
  return Number(durationMs)
}

function invalidDuration(numberText: string, problem: Int64Problem): FramesError {
  const detail = numberParseDetail(numberText, problem)
  return invalid(
    `invalid duration. Accepted pattern: [0-9]+[mhd]. Examples: "30d" (30 days); "5m" (5 minutes): ${detail}`,
  )
}

export type Int64Problem = 'not an integer' | 'out of range'

/** Reads an optional sign and decimal digits as int64. Returns what is wrong instead of throwing. */
export function parseInt64(text: string): bigint | Int64Problem {
  if (!/^[+-]?[0-9]+$/.test(text)) return 'not an integer'
  // 19 digits hold every int64; a longer text is judged without being computed, for its digits may be a million.
  const digits = text.replace(/^[+-]?0*/, '')
  if (digits.length > 19) return 'out of range'
  const value = text[0] === '-' ? -BigInt(digits) : BigInt(digits)
  return value > int64Max || value < -int64Max - 1n ? 'out of range' : value
}

/** The detail of an error about a text that should have been an integer. */
export function numberParseDetail(text: string, problem: Int64Problem): string {
  return `parsing "${shortened(text)}": ${problem === 'out of range' ? 'value out of range' : 'invalid syntax'}`
}

/**
 * Reads an RFC 3339 date-time ("T" and "Z" in upper case, zone mandatory, fraction optional; digits after the ninth are
 * dropped).
 *
 * Returns nanoseconds since 1970 UTC, or null where the text is none. The years 0 to 9999 exceed int64: callers that
 * store the time check its range.
 */
export function parseRfc3339(text: string): bigint | null {
  const fields = parseDateTime(text)
  if (typeof fields === 'string') return null
  return BigInt(fields.epochSeconds) * nsPerSecond + BigInt(fields.fractionNs)
}

const dateTimePattern =
  /^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.([0-9]+))?(?:Z|([+-])([0-9]{2}):([0-9]{2}))$/
const utcPattern = /^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?Z$/

/** The number that some decimal digits of a text say. */
function digitsAt(text: string, start: number, end: number): number {
  let number = 0
  for (let i = start; i < end; i++) number = 10 * number + text.charCodeAt(i) - 48
  return number
}

/** Returns a text that says what is wrong, if something is. */
function parseDateTime(text: string): { epochSeconds: number; fractionNs: number } | string {
  // Most are in UTC, and need none of the texts that a match makes.
  const isUtc = utcPattern.test(text)
  const match = isUtc ? null : dateTimePattern.exec(text)
  if (!isUtc && match === null) return 'cannot parse as "2006-01-02T15:04:05Z07:00"'
  const year = digitsAt(text, 0, 4)
  const month = digitsAt(text, 5, 7)
  const day = digitsAt(text, 8, 10)
  const hour = digitsAt(text, 11, 13)
  const minute = digitsAt(text, 14, 16)
  const second = digitsAt(text, 17, 19)
  if (month < 1 || month > 12) return 'month out of range'
  if (day < 1 || day > dayCountOfMonth(year, month)) return 'day out of range'
  if (hour > 23) return 'hour out of range'
  if (minute > 59) return 'minute out of range'
  if (second > 59) return 'second out of range'
  const zoneHour = Number(match?.[3] ?? 0)
  const zoneMinute = Number(match?.[4] ?? 0)
  if (zoneHour > 23 || zoneMinute > 59) return 'time zone offset out of range'
  const zoneSeconds = (match?.[2] === '-' ? -1 : 1) * (zoneHour * 3600 + zoneMinute * 60)
  const epochSeconds = dayNumber(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - zoneSeconds
  const fractionEnd = match === null ? text.length - 1 : 20 + (match[1] ?? '').length
  return { epochSeconds, fractionNs: nanosecondsAt(text, 20, fractionEnd) }
}

/** What some digits behind a decimal point say of a second; those behind the ninth are dropped. */
function nanosecondsAt(text: string, start: number, end: number): number {
  let number = 0
  for (let i = start; i < start + 9; i++) number = 10 * number + (i < end ? text.charCodeAt(i) - 48 : 0)
  return number
}

function dayCountOfMonth(year: number, month: number): number {
  if (month === 2) return year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0) ? 29 : 28
  return month === 4 || month === 6 || month === 9 || month === 11 ? 30 : 31
}

/**
 * Days from 1970-01-01 to a date of the Gregorian calendar, years 0 to 9999.
 * After Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", 2013, `days_from_civil`; years are shifted by 400
 * so that no intermediate value is negative.
 */
function dayNumber(year: number, month: number, day: number): number {
  // The year begins in March, so that the leap day is its last.
  const shiftedYear = (month > 2 ? year : year - 1) + 400
  const era = Math.floor(shiftedYear / 400)
  const yearOfEra = shiftedYear - era * 400
  const dayOfYear = Math.floor((153 * ((month + 9) % 12) + 2) / 5) + day - 1
  const dayOfEra = yearOfEra * 365 + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100) + dayOfYear
  // 146,097 days an era; 719,468 days from 0000-03-01 to 1970-01-01.
  return (era - 1) * 146_097 + dayOfEra - 719_468
}

/** Prints an int64 time (nanoseconds since 1970 UTC) as RFC 3339 in UTC, trailing zeros of the fraction dropped. */
export function formatTimeNs(timeNs: bigint): string {
  let fractionNs = timeNs % nsPerSecond
  if (fractionNs < 0n) fractionNs += nsPerSecond
  const epochMs = Number((timeNs - fractionNs) / 1_000_000n)
  const wholeSeconds = new Date(epochMs).toISOString().slice(0, -'.000Z'.length)
  if (fractionNs === 0n) return `${wholeSeconds}Z`
  return `${wholeSeconds}.${String(fractionNs).padStart(9, '0').replace(/0+$/, '')}Z`
}

function invalid(what: string): FramesError {
  return new FramesError('INVALID_ARGUMENT', what)
}
