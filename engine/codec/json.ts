// Frames → rows as JSON objects, one object a row: index columns first, then data columns, under the names of rows.ts. Text is
// written as bytes at once, without strings of JavaScript between: cells are short, and each string costs more than they do.
import { bitAt } from '../frame/bitmap.js'
import type { Column } from '../frame/column.js'
import type { Frame } from '../frame/frame.js'
import { namedColumns } from '../frame/rows.js'

/**
 * The rows of a frame as newline-delimited JSON, a "\n" behind each. Nothing for a frame without rows.
 *
 * int64    a number up to 2^53 - 1 either way, beyond that text of digits, since JSON readers know doubles only
 * float64  a number; NaN and infinities as the texts "NaN", "Infinity", "-Infinity" (as in the JSON mapping of protocol
 *          buffers), because null means a missing cell
 * time     RFC 3339 text in UTC
 * missing  null
 *
 * Throws FRAME_SHAPE when two columns have one name.
 */
export function jsonLines(frame: Frame): Uint8Array {
  return jsonRows(frame, '', '\n')
}

/**
 * The rows of a frame as elements of a JSON array, a "," in front of each; in front of the first one what `opening` says: "["
 * for the first frame of the array, "," for those behind it. Otherwise as jsonLines.
 */
export function jsonElements(frame: Frame, opening: '[' | ','): Uint8Array {
  const bytes = jsonRows(frame, ',', '')
  if (bytes.length > 0) bytes[0] = opening.charCodeAt(0)
  return bytes
}

function jsonRows(frame: Frame, before: ',' | '', behind: '\n' | ''): Uint8Array {
  const text = new TextBytes()
  const columns = namedColumns(frame, true).map(({ name, column }, index) => ({
    key: bytesOf(`${index === 0 ? `${before}{` : ','}${JSON.stringify(name)}:`),
    write: cellWriter(text, column),
  }))
  const end = bytesOf((columns.length === 0 ? `${before}{}` : '}') + behind)
  for (let row = 0; row < frame.length; row++) {
    for (const { key, write } of columns) {
      text.put(key)
      write(row)
    }
    text.put(end)
  }
  return text.finish()
}

const encoder = new TextEncoder()
const bytesOf = (text: string) => encoder.encode(text)

/** Bytes that are written one behind the other; who writes makes room first. */
class TextBytes {
  bytes = new Uint8Array(2 ** 16)
  length = 0

  makeRoom(byteLength: number): void {
    const wanted = this.length + byteLength
    if (wanted <= this.bytes.length) return
    const larger = new Uint8Array(Math.max(wanted, 2 * this.bytes.length))
    larger.set(this.bytes)
    this.bytes = larger
  }

  /** Short bytes: beyond some sixteen, copying at once is faster. */
  put(source: Uint8Array): void {
    this.makeRoom(source.length)
    for (let i = 0; i < source.length; i++) this.bytes[this.length++] = source[i]!
  }

  /** Text without any character that JSON escapes or that is not ASCII. */
  putAscii(text: string): void {
    this.makeRoom(text.length)
    for (let i = 0; i < text.length; i++) this.bytes[this.length++] = text.charCodeAt(i)
  }

  /** A whole number from 0 to 2^53, with zeros in front up to so many digits. */
  putDigits(value: number, digitCountMin: number): void {
    let digitCount = digitCountMin
    while (value >= powersOfTen[digitCount]!) digitCount++
    this.makeRoom(digitCount)
    this.length += digitCount
    let at = this.length
    let rest = value
    // Integers of 31 bits are divided several times faster than doubles.
    for (; rest >= 2 ** 31; digitCount--) {
      const tenth = Math.floor(rest / 10)
      this.bytes[--at] = zero + (rest - 10 * tenth)
      rest = tenth
    }
    let small = rest | 0
    for (; digitCount > 0; digitCount--) {
      const tenth = (small / 10) | 0
      this.bytes[--at] = zero + (small - 10 * tenth)
      small = tenth
    }
  }

  putByte(byte: number): void {
    this.makeRoom(1)
    this.bytes[this.length++] = byte
  }

  /** A copy of its own, since a message takes along all of the memory that its bytes are a part of. */
  finish(): Uint8Array {
    return this.bytes.slice(0, this.length)
  }
}

const [zero, minus, dot, quote] = Array.from('0-."', (character) => character.charCodeAt(0)) as [
  number,
  number,
  number,
  number,
]
/** Up to the first above 2^53. */
const powersOfTen = Float64Array.from({ length: 17 }, (_, power) => 10 ** power)
const letterZ = 'Z'.charCodeAt(0)

type CellWriter = (row: number) => void

function cellWriter(text: TextBytes, column: Column): CellWriter {
  const { validity } = column
  const present = column.kind === 'label' ? labelWriter(text, column) : presentCellWriter(text, column)
  if (validity === null) return present
  return (row) => {
    if (bitAt(validity, row)) present(row)
    else text.putAscii('null')
  }
}

/** A label's one value is written once, and copied for each row. */
function labelWriter(text: TextBytes, column: Column): CellWriter {
  if (column.length === 0) return () => {}
  const own = new TextBytes()
  presentCellWriter(own, column)(0)
  const value = own.finish()
  return () => text.put(value)
}

function presentCellWriter(text: TextBytes, { buffers }: Column): CellWriter {
  switch (buffers.dtype) {
    case 'int64':
      return intWriter(text, buffers.values)
    case 'time':
      return timeWriter(text, buffers.values)
    case 'float64':
      return (row) => putFloat(text, buffers.values[row]!)
    case 'bool':
      return (row) => text.putAscii(bitAt(buffers.values, row) ? 'true' : 'false')
    case 'string':
      return (row) => putText(text, buffers.bytes, buffers.offsets[row]!, buffers.offsets[row + 1]!)
    case 'null':
      return () => text.putAscii('null')
  }
}

/** The halves of each value, low one first: half the cost of a bigint. */
function halvesOf({ buffer, byteOffset, length }: BigInt64Array): Int32Array {
  return new Int32Array(buffer, byteOffset, 2 * length)
}

function intWriter(text: TextBytes, values: BigInt64Array): CellWriter {
  const halves = halvesOf(values)
  return (row) => {
    const value = halves[2 * row + 1]! * 2 ** 32 + (halves[2 * row]! >>> 0)
    if (!Number.isSafeInteger(value)) return text.putAscii(`"${values[row]}"`)
    if (value < 0) text.putByte(minus)
    text.putDigits(Math.abs(value), 1)
  }
}

function timeWriter(text: TextBytes, values: BigInt64Array): CellWriter {
  const halves = halvesOf(values)
  let day = Number.NaN
  let date: Uint8Array = new Uint8Array()
  return (row) => {
    const low = halves[2 * row]! >>> 0
    const high = halves[2 * row + 1]!
    // high * 2^32 + low in seconds and nanoseconds, by doubles that stay exact: with high = upper * 2^16 + lower,
    // 2^32 ns = 4 s + 294967296 ns, and 2^48 ns = 281474 s + 976710656 ns = 2^16 * 4 s + 19330 s + 976710656 ns.
    const upper = high >> 16
    const lower = high & 0xffff
    const restNs = upper * 976_710_656 + lower * 294_967_296 + low
    const carrySeconds = Math.floor(restNs / 1e9)
    const epochSeconds = 4 * high + 19_330 * upper + carrySeconds
    const fractionNs = restNs - 1e9 * carrySeconds
    const thisDay = Math.floor(epochSeconds / 86_400)
    if (thisDay !== day) {
      day = thisDay
      date = bytesOf(`"${new Date(86_400_000 * day).toISOString().slice(0, 'YYYY-MM-DDT'.length)}`)
    }
    text.put(date)
    const second = epochSeconds - 86_400 * day
    const minute = Math.floor(second / 60)
    text.putDigits(Math.floor(minute / 60), 2)
    text.putByte(colon)
    text.putDigits(minute % 60, 2)
    text.putByte(colon)
    text.putDigits(second % 60, 2)
    if (fractionNs !== 0) putFraction(text, fractionNs, 9)
    text.putByte(letterZ)
    text.putByte(quote)
  }
}

const colon = ':'.charCodeAt(0)

/** A fraction of so many decimal places, without the zeros at its end. */
function putFraction(text: TextBytes, fraction: number, placeCount: number): void {
  text.putByte(dot)
  text.putDigits(fraction, placeCount)
  while (text.bytes[text.length - 1] === zero) text.length--
}

/** Numbers that are whole ten-thousandths, and small enough for the rule below. */
const decimalPlaceCount = 4
const decimalScale = 10 ** decimalPlaceCount
const scaledMax = 1e15

/**
 * The shortest text that reads back as the same number, as String makes it. A decimal of at most 15 digits is the only one of
 * so few digits that reads as its double, thus the shortest, and dividing two whole numbers tells whether it does.
 */
function putFloat(text: TextBytes, value: number): void {
  const scaled = Math.round(value * decimalScale)
  if (scaled / decimalScale !== value || scaled >= scaledMax || scaled <= -scaledMax || value === 0) {
    if (Number.isFinite(value)) text.putAscii(Object.is(value, -0) ? '-0' : String(value))
    else text.putAscii(`"${value}"`)
    return
  }
  if (scaled < 0) text.putByte(minus)
  const size = Math.abs(scaled)
  const whole = Math.floor(size / decimalScale)
  text.putDigits(whole, 1)
  if (size !== whole * decimalScale) putFraction(text, size - whole * decimalScale, decimalPlaceCount)
}

/** What JSON has for a byte of text instead of the byte; only control characters, the quote and the backslash have one. */
const escapes: readonly (Uint8Array | null)[] = Array.from({ length: 128 }, (_, code) => {
  const text = JSON.stringify(String.fromCharCode(code)).slice(1, -1)
  return text.length === 1 ? null : bytesOf(text)
})
const isEscaped = Uint8Array.from({ length: 256 }, (_, byte) => ((escapes[byte] ?? null) === null ? 0 : 1))

/** UTF-8 text, which JSON takes as it is but for what `escapes` has. */
function putText(text: TextBytes, source: Uint8Array, start: number, end: number): void {
  text.putByte(quote)
  text.makeRoom(end - start)
  const { bytes } = text
  let at = text.length
  let i = start
  for (; i < end; i++) {
    const byte = source[i]!
    if (isEscaped[byte] === 1) break
    bytes[at++] = byte
  }
  text.length = at
  for (; i < end; i++) {
    const byte = source[i]!
    if (isEscaped[byte] === 1) text.put(escapes[byte]!)
    else text.putByte(byte)
  }
  text.putByte(quote)
}
