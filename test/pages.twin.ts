// Decoders of pages, too simple to be wrong: docs/formats.md in bigints, one bit at a time.

/** Reads a page from its start. */
class Reader {
  at = 0
  constructor(readonly bytes: Uint8Array) {}

  u8(): number {
    return this.bytes[this.at++]!
  }

  unsigned(byteLength: number): bigint {
    let value = 0n
    for (let i = 0; i < byteLength; i++) value |= BigInt(this.u8()) << BigInt(8 * i)
    return value
  }

  /** An integer of as many bytes as it needs. */
  integer(): bigint {
    const byteLength = this.u8()
    return BigInt.asIntN(8 * byteLength, this.unsigned(byteLength))
  }

  f64(): bigint {
    return this.unsigned(8)
  }

  take(byteLength: number): Uint8Array {
    this.at += byteLength
    return this.bytes.subarray(this.at - byteLength, this.at)
  }

  /** `count` codes of `width` bits, one after the other. */
  codes(count: number, width: number): bigint[] {
    const bytes = this.take(Math.ceil((count * width) / 8))
    return Array.from({ length: count }, (_, i) => bitsOf(bytes, (k) => i * width + k, width))
  }

  /** The codes of a block: whole groups are vertical. */
  blockCodes(count: number, width: number): bigint[] {
    const codes: bigint[] = []
    const laneBits = width <= 32 ? 32 : 64
    const laneCount = 128 / laneBits
    while (count - codes.length >= 128) {
      const bytes = this.take(16 * width)
      for (let i = 0; i < 128; i++) {
        const lane = i % laneCount
        const row = Math.floor(i / laneCount)
        const place = (k: number) => {
          const bit = row * width + k
          return Math.floor(bit / laneBits) * 128 + lane * laneBits + (bit % laneBits)
        }
        codes.push(bitsOf(bytes, place, width))
      }
    }
    return [...codes, ...this.codes(count - codes.length, width)]
  }
}

function bitsOf(bytes: Uint8Array, place: (k: number) => number, width: number): bigint {
  let value = 0n
  for (let k = 0; k < width; k++) {
    const bit = place(k)
    if ((bytes[bit >> 3]! >> (bit & 7)) & 1) value |= 1n << BigInt(k)
  }
  return value
}

function blockTwin(reader: Reader, count: number): bigint[] {
  const head = reader.u8()
  if (head < 128) return reader.blockCodes(count, head)
  const escapeWidth = reader.u8()
  if (head === 128) {
    const places = [...reader.take(reader.u8())]
    const escapes = reader.codes(places.length, escapeWidth)
    return Array.from({ length: count }, (_, i) => escapes[places.indexOf(i)] ?? 0n)
  }
  const width = head - 128
  const codes = reader.blockCodes(count, width)
  const marker = (1n << BigInt(width)) - 1n
  const escapes = reader.codes(codes.filter((code) => code === marker).length, escapeWidth)
  return codes.map((code) => (code === marker ? marker + escapes.shift()! : code))
}

const unzigzag = (code: bigint) => (code & 1n ? -((code + 1n) >> 1n) : code >> 1n)

export function int64Twin(page: Uint8Array, count: number): bigint[] {
  const reader = new Reader(page)
  const rows = Array.from({ length: count }, (_, i) => i)
  const wrapped = (values: bigint[]) => values.map((value) => BigInt.asIntN(64, value))
  switch (reader.u8()) {
    case 0:
      return wrapped(rows.map(() => reader.unsigned(8)))
    case 1: {
      const value = reader.integer()
      return rows.map(() => value)
    }
    case 2: {
      const first = reader.integer()
      const step = reader.integer()
      return wrapped(rows.map((i) => first + BigInt(i) * step))
    }
    case 3: {
      const order = reader.u8()
      const base = reader.integer()
      const first = order > 0 ? reader.integer() : 0n
      const residuals: bigint[] = []
      while (residuals.length < count) {
        residuals.push(...blockTwin(reader, Math.min(256, count - residuals.length)).map(unzigzag))
      }
      if (order === 0) return wrapped(residuals.map((residual) => base + residual))
      let value = first - base
      let delta = base
      return wrapped(
        residuals.map((residual) => {
          delta = order === 1 ? base + residual : delta + residual
          value += delta
          return value
        }),
      )
    }
    default:
      throw new Error(`codec ${page[0]} of an int64 page`)
  }
}

export function timeTwin(page: Uint8Array, count: number): bigint[] {
  if (page[0] !== 4) return int64Twin(page, count)
  const reader = new Reader(page.subarray(1))
  const power = 10n ** BigInt(reader.u8())
  const first = reader.integer()
  return int64Twin(page.subarray(1 + reader.at), count).map((tick) => BigInt.asIntN(64, first + tick * power))
}

/** The bits of the doubles. */
export function float64Twin(page: Uint8Array, count: number): bigint[] {
  const reader = new Reader(page)
  const codec = reader.u8()
  if (codec === 6) {
    const shift = BigInt(reader.u8())
    return int64Twin(page.subarray(reader.at), count).map((integer) => {
      const bits = BigInt.asUintN(64, integer)
      return BigInt.asIntN(64, shift === 64n ? (bits >> 1n) | (bits << 63n) : bits << shift)
    })
  }
  if (codec !== 5) throw new Error(`codec ${codec} of a float64 page`)
  const digits = reader.u8()
  const flags = reader.u8()
  const exceptionCount = Number(reader.unsigned(2))
  const places =
    flags & 4
      ? reader.codes(count, 1).flatMap((bit, i) => (bit ? [i] : []))
      : Array.from({ length: exceptionCount }, () => Number(reader.unsigned(2)))
  const values = Array.from({ length: flags & 2 ? 1 : exceptionCount }, () => reader.f64())
  const doubles = new Float64Array(1)
  const doubleBits = new BigInt64Array(doubles.buffer)
  const decoded = int64Twin(page.subarray(reader.at), count).map((integer) => {
    doubles[0] = flags & 1 ? Number(integer) / 10 ** digits : Number(integer) * 10 ** Math.max(14 - digits, 0) * 1e-14
    return doubleBits[0]!
  })
  places.forEach((place, k) => {
    decoded[place] = BigInt.asIntN(64, values[flags & 2 ? 0 : k]!)
  })
  return decoded
}

export function boolTwin(page: Uint8Array, count: number): boolean[] {
  const reader = new Reader(page)
  const codec = reader.u8()
  if (codec === 0) return reader.codes(count, 1).map((bit) => bit === 1n)
  let bit = reader.u8() === 1
  if (codec === 1) return Array.from({ length: count }, () => bit)
  if (codec !== 7) throw new Error(`codec ${codec} of a page of bools`)
  const width = reader.u8()
  const decoded: boolean[] = []
  for (const length of reader.codes(Number(reader.unsigned(2)), width)) {
    for (let i = 0n; i <= length; i++) decoded.push(bit)
    bit = !bit
  }
  while (decoded.length < count) decoded.push(bit)
  return decoded
}

export function stringTwin(page: Uint8Array, count: number): string[] {
  const reader = new Reader(page)
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes.slice())
  const rows = Array.from({ length: count }, (_, i) => i)
  const codec = reader.u8()
  if (codec === 1) return rows.map(() => text(page.subarray(1)))
  const total = Number(reader.unsigned(4))
  if (codec === 10) {
    const lengthWidth = reader.u8()
    const alphabet = page.subarray(page.length - reader.u8())
    const lengths = reader.codes(count, lengthWidth).map(Number)
    const codes = reader.codes(total, alphabet.length <= 16 ? 4 : 6)
    const all = Uint8Array.from(codes, (code) => alphabet[Number(code)] ?? 0)
    let start = 0
    return lengths.map((length) => text(all.subarray(start, (start += length))))
  }
  if (codec === 8) return reader.codes(count, reader.u8()).map((length) => text(reader.take(Number(length))))
  if (codec !== 9) throw new Error(`codec ${codec} of a page of strings`)
  const startCount = Number(reader.unsigned(2))
  const startByteLength = reader.u8()
  const width = reader.u8()
  const starts = [0, ...Array.from({ length: startCount }, () => Number(reader.unsigned(startByteLength)))]
  const codes = reader.codes(count, width).map(Number)
  const texts = page.subarray(reader.at)
  return codes.map((code) => text(texts.subarray(starts[code], starts[code + 1] ?? texts.length)))
}
