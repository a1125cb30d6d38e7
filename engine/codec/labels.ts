// The labels of a frame: entries of pb.Frame.labels (map<string, pb.Value>) ↔ FrameLabel. A handful a frame, so plain code.
import { FramesError } from '../errors.js'
import type { FrameLabel } from '../frame/column-slice.js'
import type { TimeValue, Value } from '../frame/dtype.js'
import { nameByteLengthMax } from '../limits.js'

/** Field numbers of pb.Value and of a map entry, with their wire types: what stands on the wire. */
const tags = {
  entryKey: 0x0a,
  entryValue: 0x12,
  ival: 0x08,
  fval: 0x11,
  sval: 0x1a,
  tval: 0x20,
  bval: 0x28,
} as const

/** Names and texts of a message: refuses what is not UTF-8, keeps a byte order mark. */
const strictDecoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
const encoder = new TextEncoder()

/** The text of UTF-8 bytes. Throws MALFORMED_FRAME that begins with `what`. */
export function decodeText(bytes: Uint8Array, what: string): string {
  if (bytes.byteLength === 0) return ''
  try {
    return strictDecoder.decode(bytes)
  } catch (cause) {
    throw new FramesError('MALFORMED_FRAME', `${what} is not UTF-8`, { cause })
  }
}

/** Reads protobuf fields of a small message in order. Positions are of the whole message, for error texts. */
class FieldReader {
  constructor(
    readonly bytes: Uint8Array,
    readonly what: string,
    private position: number,
    private readonly end: number,
    private readonly messageStart: number,
  ) {}

  get atEnd(): boolean {
    return this.position >= this.end
  }

  malformed(why: string): FramesError {
    return new FramesError('MALFORMED_FRAME', `${this.what}: ${why} at byte ${this.position - this.messageStart}`)
  }

  varint(): bigint {
    let value = 0n
    for (let i = 0; i < 10 && this.position < this.end; i++) {
      const byte = this.bytes[this.position++]!
      if (i === 9 && byte > 1) break
      value |= BigInt(byte & 0x7f) << BigInt(7 * i)
      if (byte < 0x80) return value
    }
    throw this.malformed('a varint is cut off, longer than ten bytes or too large')
  }

  /** A tag: field number and wire type. */
  tag(): number {
    const tag = this.varint()
    if (tag >> 32n || tag >> 3n === 0n) throw this.malformed('a field number is out of range')
    return Number(tag)
  }

  fixed(byteLength: number): Uint8Array {
    if (byteLength > this.end - this.position) throw this.malformed('a length goes past the end')
    const start = this.position
    this.position += byteLength
    return this.bytes.subarray(start, this.position)
  }

  /** A length-delimited field that is a message of its own. */
  message(): FieldReader {
    const byteLength = Number(this.varint())
    const end = this.position + this.fixed(byteLength).byteLength
    return new FieldReader(this.bytes, this.what, end - byteLength, end, this.messageStart)
  }

  text(): string {
    const bytes = this.fixed(Number(this.varint()))
    if (bytes.byteLength > nameByteLengthMax) {
      throw new FramesError(
        'FRAME_TOO_LARGE',
        `${this.what} has a text of ${bytes.byteLength} bytes, at most ${nameByteLengthMax} are allowed`,
      )
    }
    return decodeText(bytes, this.what)
  }

  /** Skips the body of a field that this version does not know. */
  skip(tag: number, depth = 0): void {
    const type = tag & 7
    if (type === 0) this.varint()
    else if (type === 1) this.fixed(8)
    else if (type === 2) this.fixed(Number(this.varint()))
    else if (type === 5) this.fixed(4)
    else if (type === 3 && depth < 100) {
      let inner = this.tag()
      for (; (inner & 7) !== 4; inner = this.tag()) this.skip(inner, depth + 1)
      if (inner >>> 3 !== tag >>> 3) throw this.malformed('a group is not closed')
    } else throw this.malformed('a field has no valid wire type')
  }
}

function int64(reader: FieldReader): bigint {
  return BigInt.asIntN(64, reader.varint())
}

function float64(reader: FieldReader): number {
  const bytes = reader.fixed(8)
  return new DataView(bytes.buffer, bytes.byteOffset, 8).getFloat64(0, true)
}

/** Members of the oneof: the last one wins, also over several records of one Value. */
function readValue(reader: FieldReader, before: Value | undefined): Value | undefined {
  let value = before
  while (!reader.atEnd) {
    const tag = reader.tag()
    if (tag === tags.ival) value = int64(reader)
    else if (tag === tags.fval) value = float64(reader)
    else if (tag === tags.sval) value = reader.text()
    else if (tag === tags.tval) value = { timeNs: int64(reader) }
    else if (tag === tags.bval) value = reader.varint() !== 0n
    else if (tag >>> 3 <= 5) throw reader.malformed('a label value has the wrong wire type')
    else reader.skip(tag)
  }
  return value
}

/**
 * Reads one map entry of pb.Frame.labels.
 *
 * bytes                 the whole memory; the entry stands at [byteOffset, byteOffset + byteLength)
 * messageByteOffset     where the frame begins, for error texts
 *
 * Throws MALFORMED_FRAME, also when the value has no member set; FRAME_TOO_LARGE for a name or text above the limit.
 */
export function readLabel(
  bytes: Uint8Array,
  byteOffset: number,
  byteLength: number,
  messageByteOffset: number,
): FrameLabel {
  const reader = new FieldReader(bytes, 'a label', byteOffset, byteOffset + byteLength, messageByteOffset)
  let name = ''
  let value: Value | undefined
  while (!reader.atEnd) {
    const tag = reader.tag()
    if (tag === tags.entryKey) name = reader.text()
    else if (tag === tags.entryValue) value = readValue(reader.message(), value)
    else if (tag >>> 3 <= 2) throw reader.malformed('a map entry has the wrong wire type')
    else reader.skip(tag)
  }
  if (value === undefined) throw new FramesError('MALFORMED_FRAME', `label ${JSON.stringify(name)} has no value`)
  return { name, value }
}

/** A varint's bytes, lowest group first. */
function varintBytes(value: bigint): number[] {
  const bytes: number[] = []
  let rest = BigInt.asUintN(64, value)
  for (; rest >= 0x80n; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80)
  bytes.push(Number(rest))
  return bytes
}

function isTime(value: Value): value is TimeValue {
  return typeof value === 'object'
}

function valueBytes(value: Value): number[] {
  if (typeof value === 'bigint') return [tags.ival, ...varintBytes(value)]
  if (typeof value === 'boolean') return [tags.bval, value ? 1 : 0]
  if (isTime(value)) return [tags.tval, ...varintBytes(value.timeNs)]
  if (typeof value === 'number') return [tags.fval, ...new Uint8Array(new Float64Array([value]).buffer)]
  const text = encoder.encode(value)
  return [tags.sval, ...varintBytes(BigInt(text.byteLength)), ...text]
}

/** One map entry of pb.Frame.labels, without its tag and length. */
export function labelBytes({ name, value }: FrameLabel): Uint8Array {
  const key = encoder.encode(name)
  const member = valueBytes(value)
  return Uint8Array.from([
    ...(key.byteLength > 0 ? [tags.entryKey, ...varintBytes(BigInt(key.byteLength)), ...key] : []),
    tags.entryValue,
    ...varintBytes(BigInt(member.length)),
    ...member,
  ])
}

/** Bytes that labelBytes gives at most. */
export function labelByteLengthMax({ name, value }: FrameLabel): number {
  return 32 + Buffer.byteLength(name) + (typeof value === 'string' ? Buffer.byteLength(value) : 0)
}

/** Adds the label `next_marker` to an encoded frame: fields of a message may be appended. */
export function appendMarker(frame: Uint8Array, marker: string): Uint8Array {
  const value = field(3, Buffer.from(marker))
  const entry = Buffer.concat([field(1, Buffer.from('next_marker')), field(2, value)])
  return Buffer.concat([frame, field(3, entry)])
}

/** A length-delimited field of a protobuf message. */
function field(number: number, bytes: Uint8Array): Buffer {
  const header: number[] = [(number << 3) | 2]
  let length = bytes.length
  for (; length >= 128; length >>>= 7) header.push((length & 127) | 128)
  header.push(length)
  return Buffer.concat([Buffer.from(header), bytes])
}
